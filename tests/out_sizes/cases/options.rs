//! getsockopt, by level and option.

use super::super::run::Case;
use super::super::setup::Setup;
use super::case;

const SOCKET: u64 = libc::SOL_SOCKET as u64;
const TCP: u64 = 6;
const IP: u64 = 0;
const IPV6: u64 = 41;
const RAW: u64 = 255;
const PACKET: u64 = 263;
const NETLINK: u64 = 270;
const XDP: u64 = 283;
const MPTCP: u64 = 284;

pub fn cases() -> Vec<Case> {
    let mut all = of_sockets();
    all.extend(of_protocols());
    all.extend(with_rights());
    all
}

/// getsockopt with room for `room` bytes.
fn get(s: &mut Setup, fd: u64, level: u64, name: u64, room: usize) -> Vec<u64> {
    vec![fd, level, name, s.out(room), s.ints(&[room as i32])]
}

/// A socket of a kind that not every kernel has: one that has no options but a socket's own, elsewhere.
fn rare(s: &Setup, domain: i32, kind: i32, protocol: i32) -> u64 {
    // SAFETY: nothing is passed by address.
    match unsafe { libc::socket(domain, kind, protocol) } {
        -1 => s.stand_in(),
        fd => fd as u64,
    }
}

/// The same in a network of its own, with all rights there.
fn own(s: &Setup, domain: i32, kind: i32, protocol: i32) -> u64 {
    match s.own_network() {
        true => rare(s, domain, kind, protocol),
        false => s.stand_in(),
    }
}

fn tcp(s: &Setup) -> u64 {
    s.socket(libc::AF_INET, libc::SOCK_STREAM)
}

/// A socket with a filter of two instructions.
fn filtered(s: &mut Setup) -> u64 {
    let fd = s.udp().0;
    let filter = s.longs(&[0x30, 0xffff_0000_0006]);
    let program = s.longs(&[2, filter]);
    let done = s.call(libc::SYS_setsockopt, &[fd, SOCKET, 26, program, 16]);
    assert_eq!(done, 0, "{}", std::io::Error::last_os_error());
    fd
}

fn of_sockets() -> Vec<Case> {
    vec![
        case("getsockopt", "SO_TXTIME", |s| {
            let fd = s.udp().0;
            get(s, fd, SOCKET, 61, 8)
        }),
        case("getsockopt", "SO_TXREHASH", |s| {
            let fd = tcp(s);
            get(s, fd, SOCKET, 74, 4)
        }),
        case("getsockopt", "SO_ERROR", |s| {
            let fd = tcp(s);
            get(s, fd, SOCKET, 4, 4)
        }),
        case("getsockopt", "SO_PEERPIDFD", |s| {
            let fd = s.stream().0;
            get(s, fd, SOCKET, 77, 4)
        }),
        case("getsockopt", "SO_DOMAIN", |s| {
            let fd = tcp(s);
            get(s, fd, SOCKET, 39, 4)
        }),
        case("getsockopt", "SO_PROTOCOL", |s| {
            let fd = tcp(s);
            get(s, fd, SOCKET, 38, 16)
        }),
        case("getsockopt", "SO_GET_FILTER", |s| {
            let fd = filtered(s);
            vec![fd, SOCKET, 26, s.out(32), s.ints(&[4])]
        }),
        case("getsockopt", "SO_GET_FILTER, how long", |s| {
            let fd = filtered(s);
            vec![fd, SOCKET, 26, s.out(32), s.ints(&[0])]
        }),
    ]
}

fn of_protocols() -> Vec<Case> {
    vec![
        case("getsockopt", "TCP_INFO in part", |s| {
            let fd = s.connected().0;
            get(s, fd, TCP, 11, 100)
        }),
        case("getsockopt", "IP_PROTOCOL", |s| {
            let fd = tcp(s);
            get(s, fd, IP, 52, 4)
        }),
        case("getsockopt", "IP_LOCAL_PORT_RANGE", |s| {
            let fd = tcp(s);
            get(s, fd, IP, 51, 4)
        }),
        case("getsockopt", "IPV6_PKTINFO", |s| {
            let fd = s.socket(libc::AF_INET6, libc::SOCK_DGRAM);
            get(s, fd, IPV6, 50, 20)
        }),
        case("getsockopt", "NETLINK_LIST_MEMBERSHIPS", |s| {
            let fd = s.socket(libc::AF_NETLINK, libc::SOCK_RAW);
            get(s, fd, NETLINK, 9, 64)
        }),
        case("getsockopt", "NETLINK_LIST_MEMBERSHIPS, how many", |s| {
            let fd = s.socket(libc::AF_NETLINK, libc::SOCK_RAW);
            get(s, fd, NETLINK, 9, 0)
        }),
        case("getsockopt", "of a level that has no name", |s| {
            let fd = rare(s, libc::AF_INET, libc::SOCK_STREAM, 262);
            get(s, fd, MPTCP, 1, 256)
        }),
        case("getsockopt", "SO_VM_SOCKETS_BUFFER_SIZE", |s| {
            let fd = rare(s, libc::AF_VSOCK, libc::SOCK_STREAM, 0);
            get(s, fd, libc::AF_VSOCK as u64, 0, 8)
        }),
        case("getsockopt", "SO_VM_SOCKETS_CONNECT_TIMEOUT", |s| {
            let fd = rare(s, libc::AF_VSOCK, libc::SOCK_STREAM, 0);
            get(s, fd, libc::AF_VSOCK as u64, 8, 16)
        }),
    ]
}

/// The name of a table of packets' rules, with room for what is told about it.
fn rules(s: &mut Setup, domain: i32, level: u64) -> Vec<u64> {
    let fd = own(s, domain, libc::SOCK_RAW, libc::IPPROTO_TCP);
    let mut info = [0u8; 84];
    info[..6].copy_from_slice(b"filter");
    vec![fd, level, 64, s.bytes(&info), s.ints(&[84])]
}

fn packets(s: &Setup) -> u64 {
    own(s, libc::AF_PACKET, libc::SOCK_RAW, 0)
}

fn with_rights() -> Vec<Case> {
    vec![
        case("getsockopt", "TCP_REPAIR_WINDOW", |s| {
            let fd = own(s, libc::AF_INET, libc::SOCK_STREAM, 0);
            let on = s.ints(&[1]);
            s.call(libc::SYS_setsockopt, &[fd, TCP, 19, on, 4]);
            get(s, fd, TCP, 29, 20)
        }),
        case("getsockopt", "IPT_SO_GET_INFO", |s| {
            rules(s, libc::AF_INET, IP)
        }),
        case("getsockopt", "IP6T_SO_GET_INFO", |s| {
            rules(s, libc::AF_INET6, IPV6)
        }),
        case("getsockopt", "ICMP_FILTER", |s| {
            let fd = own(s, libc::AF_INET, libc::SOCK_RAW, libc::IPPROTO_ICMP);
            get(s, fd, RAW, 1, 8)
        }),
        case("getsockopt", "PACKET_AUXDATA", |s| {
            let fd = packets(s);
            get(s, fd, PACKET, 8, 4)
        }),
        case("getsockopt", "PACKET_STATISTICS", |s| {
            let fd = packets(s);
            get(s, fd, PACKET, 6, 16)
        }),
        case(
            "getsockopt",
            "PACKET_STATISTICS of the third version",
            |s| {
                let fd = packets(s);
                let version = s.ints(&[2]);
                s.call(libc::SYS_setsockopt, &[fd, PACKET, 10, version, 4]);
                get(s, fd, PACKET, 6, 16)
            },
        ),
        case("getsockopt", "XDP_STATISTICS", |s| {
            let fd = own(s, libc::AF_XDP, libc::SOCK_RAW, 0);
            get(s, fd, XDP, 7, 64)
        }),
        case("getsockopt", "XDP_MMAP_OFFSETS", |s| {
            let fd = own(s, libc::AF_XDP, libc::SOCK_RAW, 0);
            get(s, fd, XDP, 1, 128)
        }),
    ]
}
