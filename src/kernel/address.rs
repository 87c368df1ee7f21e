//! The addresses of sockets, in a form in which they can be compared.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

/// The address of a socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Address {
    /// ip(7) or ipv6(7): IPv4 as a mapped address.
    Inet(Ipv6Addr, u16),
    /// unix(7): the absolute path, the abstract name with the zero before it, or nothing.
    Unix(Vec<u8>),
}

impl Address {
    /// From a `struct sockaddr`; a path is from this directory.
    pub(super) fn of(bytes: &[u8], cwd: &[u8]) -> Option<Address> {
        let (family, rest) = bytes.split_first_chunk::<2>()?;
        let port = || rest.first_chunk().map(|two| u16::from_be_bytes(*two));
        match i32::from(u16::from_ne_bytes(*family)) {
            libc::AF_INET => {
                let ip: [u8; 4] = rest.get(2..6)?.try_into().ok()?;
                Some(Address::Inet(Ipv4Addr::from(ip).to_ipv6_mapped(), port()?))
            }
            libc::AF_INET6 => {
                // Between port and address is the flow.
                let ip: [u8; 16] = rest.get(6..22)?.try_into().ok()?;
                Some(Address::Inet(Ipv6Addr::from(ip), port()?))
            }
            libc::AF_UNIX => Some(Address::Unix(match rest {
                [] | [0, ..] => rest.to_vec(),
                _ => {
                    let path = rest.split(|&byte| byte == 0).next().unwrap_or(rest);
                    normal(path, cwd)
                }
            })),
            _ => None,
        }
    }

    /// As the kernel takes it for a socket of this domain: a `struct sockaddr`. `None` where it has none, and for a path that
    /// is too long.
    pub(super) fn sockaddr(&self, domain: i32) -> Option<Vec<u8>> {
        const MOST: usize = 107;
        match self {
            Address::Inet(ip, port) => Some(sockaddr(match domain {
                libc::AF_INET => (ip.to_ipv4_mapped()?, *port).into(),
                _ => (*ip, *port).into(),
            })),
            Address::Unix(name) if name.is_empty() || name.len() > MOST => None,
            Address::Unix(name) => {
                let end: &[u8] = if name.starts_with(b"/") { &[0] } else { &[] };
                let family = (domain as u16).to_ne_bytes();
                Some([&family[..], name, end].concat())
            }
        }
    }

    /// The address on the network, if it is one there.
    pub(super) fn on_network(&self) -> Option<SocketAddr> {
        match self {
            Address::Inet(ip, port) => match ip.to_ipv4_mapped() {
                Some(ip) => Some(SocketAddr::from((ip, *port))),
                None => Some(SocketAddr::from((*ip, *port))),
            },
            Address::Unix(_) => None,
        }
    }

    /// Whether what is sent to that address comes to a socket with this one.
    pub(super) fn receives(&self, to: &Address) -> bool {
        match (self, to) {
            (Address::Inet(ip, port), Address::Inet(to, to_port)) => {
                let is_any = |ip: &Ipv6Addr| {
                    ip.is_unspecified() || ip.to_ipv4_mapped() == Some(Ipv4Addr::UNSPECIFIED)
                };
                // What is sent to no address comes to the machine itself.
                *port != 0 && port == to_port && (ip == to || is_any(ip) || is_any(to))
            }
            (Address::Unix(here), Address::Unix(to)) => !here.is_empty() && here == to,
            _ => false,
        }
    }
}

/// The absolute path in a `struct sockaddr`; a relative one is from this directory.
pub fn path_of(address: &[u8], cwd: &[u8]) -> Option<Vec<u8>> {
    match Address::of(address, cwd)? {
        Address::Unix(path) if path.starts_with(b"/") => Some(path),
        _ => None,
    }
}

/// The `struct sockaddr` of an address on the network.
pub(crate) fn sockaddr(address: SocketAddr) -> Vec<u8> {
    let port = address.port().to_be_bytes();
    match address {
        SocketAddr::V4(v4) => {
            let family = (libc::AF_INET as u16).to_ne_bytes();
            [&family[..], &port, &v4.ip().octets(), &[0; 8]].concat()
        }
        SocketAddr::V6(v6) => {
            let family = (libc::AF_INET6 as u16).to_ne_bytes();
            let ip = v6.ip().octets();
            [&family[..], &port, &[0; 4], &ip, &[0; 4]].concat()
        }
    }
}

/// An absolute path without `.` in it.
fn normal(path: &[u8], cwd: &[u8]) -> Vec<u8> {
    let from: &[u8] = if path.starts_with(b"/") { b"" } else { cwd };
    let whole = [from, b"/", path].concat();
    let mut normal = Vec::new();
    for part in whole.split(|&byte| byte == b'/') {
        if !matches!(part, b"" | b".") {
            normal.push(b'/');
            normal.extend_from_slice(part);
        }
    }
    normal
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inet(ip: [u8; 4], port: u16) -> Address {
        let mut bytes = (libc::AF_INET as u16).to_ne_bytes().to_vec();
        bytes.extend(port.to_be_bytes());
        bytes.extend(ip);
        bytes.extend([0; 8]);
        Address::of(&bytes, b"/").unwrap()
    }

    fn unix(path: &[u8], cwd: &[u8]) -> Address {
        let family = (libc::AF_UNIX as u16).to_ne_bytes();
        Address::of(&[&family[..], path].concat(), cwd).unwrap()
    }

    #[test]
    fn a_listener_is_found_by_any_name_of_its_address() {
        let any = inet([0; 4], 80);
        assert!(any.receives(&inet([127, 0, 0, 1], 80)));
        assert!(!any.receives(&inet([127, 0, 0, 1], 81)));
        assert!(inet([127, 0, 0, 1], 80).receives(&any));
        assert!(!inet([127, 0, 0, 1], 80).receives(&inet([127, 0, 0, 2], 80)));
        assert!(unix(b"./s\0", b"/tmp/x").receives(&unix(b"s", b"/tmp/x")));
        assert!(unix(b"./s", b"/tmp").receives(&unix(b"/tmp/s\0\0\0", b"/")));
        assert!(unix(b"\0s", b"/a").receives(&unix(b"\0s", b"/b")));
        assert!(!unix(b"", b"/").receives(&unix(b"", b"/")));
        assert!(!unix(b"/s", b"/").receives(&any));
        for cut in 0..8 {
            assert_eq!(
                Address::of(&[2, 0, 0, 80, 127, 0, 0][..cut.min(7)], b"/"),
                None
            );
        }
    }
}
