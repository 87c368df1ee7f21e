//! Listening sockets in a sandbox that none of its processes has: who made the sandbox plays a server there.

use super::builder::number;
use super::placed::{Attributes, Content, Shown};
use super::{Result, Sandbox};
use crate::kernel::sockaddr;
use crate::tracee::call_batch::{Arg, Batch, CallId, HelperProcess};
use crate::tracee::spawn::borrow_fd;
use nix::errno::Errno;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

/// The greatest length of a path, or of an abstract name (unix(7)).
const LONGEST: usize = 107;

/// The connections that wait to be accepted.
const BACKLOG: u64 = 128;

/// The number of the loopback interface in every network namespace.
const LOOPBACK: u32 = 1;

/// The address of a server for streams.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ServerAddress {
    /// TCP, over IPv4 or IPv6. An address that no sandbox has is given to its loopback.
    Network(SocketAddr),
    /// A local socket at this absolute path.
    Path(PathBuf),
    /// A local socket with an abstract name, without the zero before it.
    Abstract(Vec<u8>),
}

impl ServerAddress {
    /// The address that is written like this: `127.0.0.1:5432`, `[::1]:80`, `/run/x.sock`, or `@name` for an abstract name.
    ///
    /// # Errors
    /// A sentence, if it is not one.
    pub fn parse(text: &[u8]) -> std::result::Result<ServerAddress, String> {
        let shown = String::from_utf8_lossy(text);
        match text {
            [b'/' | b'@', rest @ ..] if rest.len() >= LONGEST => Err(format!(
                "{shown:?} is too long for the address of a socket, which has up to {LONGEST} bytes"
            )),
            [b'/' | b'@'] => Err(format!("{shown:?} names no socket")),
            [b'/', ..] if text.contains(&0) => Err(format!("{shown:?} is no path")),
            [b'/', ..] => Ok(ServerAddress::Path(OsStr::from_bytes(text).into())),
            [b'@', name @ ..] => Ok(ServerAddress::Abstract(name.to_vec())),
            _ => on_network(&shown),
        }
    }

    /// The bytes of a `struct sockaddr`.
    fn bytes(&self) -> Vec<u8> {
        let local = (libc::AF_UNIX as u16).to_ne_bytes();
        match self {
            ServerAddress::Network(address) => sockaddr(*address),
            ServerAddress::Path(path) => [&local, path.as_os_str().as_bytes(), &[0]].concat(),
            ServerAddress::Abstract(name) => [&local[..], &[0], name].concat(),
        }
    }

    fn family(&self) -> i32 {
        match self {
            ServerAddress::Network(SocketAddr::V4(_)) => libc::AF_INET,
            ServerAddress::Network(SocketAddr::V6(_)) => libc::AF_INET6,
            _ => libc::AF_UNIX,
        }
    }
}

fn on_network(text: &str) -> std::result::Result<ServerAddress, String> {
    let wrong = |what: &str| {
        format!(
            "{text:?} {what}: \"127.0.0.1:5432\", \"[::1]:80\", \"/run/x.sock\" and \"@name\" are addresses"
        )
    };
    let Some((host, port)) = text.rsplit_once(':') else {
        return Err(wrong("is no address of a server"));
    };
    let is_number = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
    if is_number && !port.parse::<u16>().is_ok_and(|port| port > 0) {
        return Err(format!(
            "{port} in {text:?} is no port to connect to: they are 1 to {}",
            u16::MAX
        ));
    }
    let host = match host.strip_prefix('[') {
        Some(host) => host.strip_suffix(']').filter(|host| host.contains(':')),
        None => Some(host).filter(|host| !host.contains(':')),
    };
    let (Some(Ok(ip)), Ok(port)) = (host.map(str::parse::<IpAddr>), port.parse()) else {
        return Err(wrong("is no address of a server"));
    };
    let is_of_many = match ip {
        IpAddr::V4(ip) => ip.is_multicast() || ip.is_broadcast(),
        IpAddr::V6(ip) => ip.is_multicast(),
    };
    if is_of_many {
        return Err(wrong("is not the address of one machine"));
    }
    Ok(ServerAddress::Network(SocketAddr::new(ip, port)))
}

impl fmt::Display for ServerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ServerAddress::Network(address) => address.fmt(f),
            ServerAddress::Path(path) => path.display().fmt(f),
            ServerAddress::Abstract(name) => write!(f, "@{}", String::from_utf8_lossy(name)),
        }
    }
}

impl Sandbox {
    /// A socket that listens in the sandbox and never blocks. A file of a socket at which nobody listens any more is replaced, and
    /// missing directories are made. The inner error is the kernel's where it refuses: `EADDRINUSE` where a process of the sandbox
    /// listens there.
    ///
    /// # Errors
    /// If the first process of the sandbox is gone.
    pub fn listen(&mut self, at: &ServerAddress) -> Result<io::Result<OwnedFd>> {
        let real = match at {
            ServerAddress::Path(path) => match self.free_path(path, at)? {
                Ok(real) => Some(real),
                Err(error) => return Ok(Err(error)),
            },
            _ => None,
        };
        let Some(enclosure) = &mut self.enclosure else {
            return Ok(Err(Errno::ESRCH.into()));
        };
        enclosure.used.network = true;
        let made = enclosure.with_first(|init, last| {
            let made = listen(init, at);
            let mut batch = Batch::default();
            close_behind(&mut batch, last);
            init.make(&batch)?;
            made
        })?;
        if made.is_ok()
            && let Some(real) = real
        {
            // It was not made by a process.
            let shown = self.shown(&real);
            self.placed.put(real, shown);
            self.note_put();
        }
        Ok(made)
    }

    /// Makes a directory and those around it, where they are missing, as if they had always been there. Returns its path without
    /// symbolic links.
    fn make_directories(&mut self, dir: &Path) -> Result<io::Result<PathBuf>> {
        let root = self.root();
        let is_there = root.and_then(|root| root.existing(dir.as_os_str().as_bytes(), true));
        if let Some(path) = is_there {
            return Ok(Ok(OsString::from_vec(path).into()));
        }
        let (Some(around), Some(name)) = (dir.parent(), dir.file_name()) else {
            return Ok(Err(Errno::ENOENT.into()));
        };
        let real = match self.make_directories(around)? {
            Ok(around) => around.join(name),
            Err(error) => return Ok(Err(error)),
        };
        let attributes = Attributes {
            mode: Some(0o755),
            ..Attributes::default()
        };
        let mut placer = self.placer()?;
        let put = placer.put(&real, &Content::Directory, &attributes);
        Ok(put.map(|()| real))
    }

    /// Takes a file of a socket away at which nobody listens. Returns the path without symbolic links.
    fn free_path(&mut self, path: &Path, at: &ServerAddress) -> Result<io::Result<PathBuf>> {
        let dir = path.parent().unwrap_or(Path::new("/"));
        let name = path.file_name().unwrap_or_default();
        let real = match self.make_directories(dir)? {
            Ok(dir) => dir.join(name),
            Err(error) => return Ok(Err(error)),
        };
        match self.shown(&real) {
            None => return Ok(Ok(real)),
            Some(shown) if !shown.is_socket() => return Ok(Err(Errno::EEXIST.into())),
            Some(_) => {}
        }
        let Some(enclosure) = &mut self.enclosure else {
            return Ok(Err(Errno::ESRCH.into()));
        };
        enclosure.with_first(|init, last| {
            // Whoever has the socket does not notice that one for datagrams is connected, or not, because it is of another kind.
            let kind = libc::SOCK_DGRAM | libc::SOCK_CLOEXEC;
            let mut batch = Batch::default();
            let socket = batch.may(libc::SYS_socket, &values([libc::AF_UNIX, kind, 0]));
            let bytes = at.bytes();
            let len = Arg::Value(bytes.len() as u64);
            let args = [Arg::Result(socket), Arg::Bytes(&bytes), len];
            let asked = batch.may(libc::SYS_connect, &args);
            close_behind(&mut batch, last);
            let outcome = init.make(&batch)?;
            match Errno::from_raw(-number(&outcome, asked) as i32) {
                Errno::ECONNREFUSED => {}
                // It is connected.
                Errno::EPROTOTYPE | Errno::UnknownErrno => {
                    return Ok(Err(Errno::EADDRINUSE.into()));
                }
                refused => return Ok(Err(refused.into())),
            }
            let mut batch = Batch::default();
            batch.must(libc::SYS_unlink, &[Arg::Text(path.as_os_str().as_bytes())]);
            let outcome = init.make(&batch)?;
            Ok(match outcome.failed {
                Some((_, error)) => Err(error),
                None => Ok(real),
            })
        })
    }
}

/// Makes the socket in the first process of a sandbox, which keeps it until that is told to close it.
fn listen(init: &mut HelperProcess, at: &ServerAddress) -> Result<io::Result<OwnedFd>> {
    let mut batch = Batch::default();
    if let ServerAddress::Network(address) = at {
        give_to_loopback(&mut batch, address.ip());
    }
    let kind = libc::SOCK_STREAM | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    let made = batch.must(libc::SYS_socket, &values([at.family(), kind, 0]));
    let outcome = init.make(&batch)?;
    if let Some((_, error)) = outcome.failed {
        return Ok(Err(error));
    }
    let fd = number(&outcome, made);
    let socket = Arg::Value(fd as u64);
    let mut batch = Batch::default();
    // Connections that the program had there may be left.
    set(&mut batch, socket, libc::SOL_SOCKET, libc::SO_REUSEADDR);
    if at.family() == libc::AF_INET6 {
        set(&mut batch, socket, libc::IPPROTO_IPV6, libc::IPV6_V6ONLY);
    }
    let bytes = at.bytes();
    let args = [socket, Arg::Bytes(&bytes), Arg::Value(bytes.len() as u64)];
    batch.must(libc::SYS_bind, &args);
    if let ServerAddress::Path(path) = at {
        // Whichever user the process is.
        let path = Arg::Text(path.as_os_str().as_bytes());
        batch.may(libc::SYS_chmod, &[path, Arg::Value(0o777)]);
    }
    batch.must(libc::SYS_listen, &[socket, Arg::Value(BACKLOG)]);
    let outcome = init.make(&batch)?;
    Ok(match outcome.failed {
        Some((_, error)) => Err(error),
        None => Ok(borrow_fd(init.pid(), fd as i32)?.into()),
    })
}

/// Gives an address to the loopback, unless that has it (rtnetlink(7)). Where it is refused, nobody can listen there.
fn give_to_loopback(batch: &mut Batch, ip: IpAddr) {
    const NLM_F_REQUEST: u16 = 1;
    const NLM_F_CREATE: u16 = 0x400;
    const IFA_ADDRESS: u16 = 1;
    const IFA_LOCAL: u16 = 2;
    // It is looked for nowhere else.
    const IFA_F_NODAD: u8 = 2;
    if ip.is_loopback() || ip.is_unspecified() {
        return;
    }
    let (family, bytes) = match ip {
        IpAddr::V4(ip) => (libc::AF_INET, ip.octets().to_vec()),
        IpAddr::V6(ip) => (libc::AF_INET6, ip.octets().to_vec()),
    };
    // struct ifaddrmsg, and its attributes.
    let mut about = vec![family as u8, 8 * bytes.len() as u8, IFA_F_NODAD, 0];
    about.extend(LOOPBACK.to_ne_bytes());
    for kind in [IFA_LOCAL, IFA_ADDRESS] {
        about.extend((4 + bytes.len() as u16).to_ne_bytes());
        about.extend(kind.to_ne_bytes());
        about.extend(&bytes);
    }
    // struct nlmsghdr: length, type, flags, number, sender.
    let mut message = (16 + about.len() as u32).to_ne_bytes().to_vec();
    message.extend(libc::RTM_NEWADDR.to_ne_bytes());
    message.extend((NLM_F_REQUEST | NLM_F_CREATE).to_ne_bytes());
    message.extend([0; 8]);
    message.extend(about);
    let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC;
    let args = values([libc::AF_NETLINK, kind, libc::NETLINK_ROUTE]);
    let socket = batch.may(libc::SYS_socket, &args);
    let len = Arg::Value(message.len() as u64);
    let args = [Arg::Result(socket), Arg::Bytes(&message), len];
    batch.may(libc::SYS_write, &args);
}

fn set(batch: &mut Batch, socket: Arg<'_>, level: i32, option: i32) -> CallId {
    let [level, option] = [level, option].map(|number| Arg::Value(number as u64));
    let on = 1u32.to_ne_bytes();
    let args = [socket, level, option, Arg::Bytes(&on), Arg::Value(4)];
    batch.may(libc::SYS_setsockopt, &args)
}

fn close_behind(batch: &mut Batch, last: i64) {
    let first = last.max(2) as u64 + 1;
    let all = [first, u64::from(u32::MAX), 0].map(Arg::Value);
    batch.may(libc::SYS_close_range, &all);
}

fn values<const N: usize>(numbers: [i32; N]) -> [Arg<'static>; N] {
    numbers.map(|number| Arg::Value(number as u64))
}

impl Shown {
    fn is_socket(&self) -> bool {
        self.look().0.0 == libc::S_IFSOCK
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_written_as_elsewhere() {
        for text in [
            "127.0.0.1:5432",
            "[::1]:80",
            "0.0.0.0:1",
            "/run/x.sock",
            "@x",
        ] {
            let address = ServerAddress::parse(text.as_bytes());
            assert_eq!(address.unwrap().to_string(), text);
        }
        let long = format!("/{}", "x".repeat(LONGEST));
        for text in [
            "",
            ":",
            "80",
            "localhost:80",
            "127.0.0.1",
            "127.0.0.1:",
            "127.0.0.1:x",
            "127.0.0.1:0",
            "127.0.0.1:65536",
            "::1:80",
            "[::1]",
            "[127.0.0.1]:80",
            "[::1:80",
            "run/x.sock",
            "/",
            "@",
            "224.0.0.1:80",
            "/a\0b",
            &long,
        ] {
            let error = ServerAddress::parse(text.as_bytes()).unwrap_err();
            assert!(error.contains("is ") || error.contains("names "), "{error}");
        }
    }
}
