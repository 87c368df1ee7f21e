//! Sockets.

use super::super::run::Case;
use super::super::setup::{Setup, arg};
use super::case;

const INET: i32 = libc::AF_INET;
const STREAM: i32 = libc::SOCK_STREAM;
const SOCKET: u64 = libc::SOL_SOCKET as u64;
const TCP: u64 = 6;
const IP: u64 = 0;
const IPV6: u64 = 41;

pub fn cases() -> Vec<Case> {
    let mut all = sockets();
    all.extend(messages());
    all.extend(options());
    all
}

fn sockets() -> Vec<Case> {
    vec![
        case("socket", "", |_| vec![1, 1, 0]),
        case("socket", "AF_INET", |_| vec![2, 1, 0]),
        case("socket", "AF_NETLINK", |_| vec![16, 3, 0]),
        case("socketpair", "", |s| vec![1, 1, 0, s.out(8)]),
        case("bind", "", |s| {
            vec![s.socket(1, STREAM), s.bytes(b"\x01\0name\0"), 7]
        }),
        case("listen", "", |s| vec![s.socket(INET, STREAM), 5]),
        case("connect", "", |s| {
            let (listener, address) = s.udp();
            let _ = listener;
            vec![s.socket(INET, libc::SOCK_DGRAM), s.bytes(&address), 16]
        }),
        case("shutdown", "", |s| vec![s.stream().0, 2]),
        case("accept", "", |s| {
            vec![s.tcp().0, s.out(128), s.ints(&[128])]
        }),
        case("accept", "too little room", |s| {
            vec![s.tcp().0, s.out(6), s.ints(&[6])]
        }),
        case("accept", "no address", |s| vec![s.tcp().0, 0, 0]),
        case("accept4", "", |s| {
            vec![s.tcp().0, s.out(128), s.ints(&[128]), 0x80000]
        }),
        case("getsockname", "AF_INET", |s| {
            vec![s.udp().0, s.out(128), s.ints(&[128])]
        }),
        case("getsockname", "AF_UNIX", |s| {
            let (fd, name) = (s.socket(1, STREAM), s.bytes(b"\x01\0name\0"));
            assert_eq!(s.call(libc::SYS_bind, &[fd, name, 7]), 0);
            vec![fd, s.out(128), s.ints(&[128])]
        }),
        case("getsockname", "AF_UNIX, abstract", |s| {
            let (fd, name) = (s.socket(1, STREAM), s.bytes(b"\x01\0"));
            assert_eq!(s.call(libc::SYS_bind, &[fd, name, 2]), 0);
            vec![fd, s.out(128), s.ints(&[128])]
        }),
        case("getsockname", "AF_INET6", |s| {
            vec![s.socket(10, STREAM), s.out(128), s.ints(&[128])]
        }),
        case("getsockname", "AF_NETLINK", |s| {
            vec![s.socket(16, libc::SOCK_RAW), s.out(128), s.ints(&[128])]
        }),
        case("getsockname", "AF_PACKET", |s| {
            vec![packet(s), s.out(128), s.ints(&[128])]
        }),
        case("getsockname", "nothing asked for", |s| {
            vec![s.udp().0, s.out(16), s.ints(&[0])]
        }),
        case("getpeername", "", |s| {
            vec![s.connected().0, s.out(128), s.ints(&[128])]
        }),
        case("getpeername", "AF_UNIX", |s| {
            vec![s.stream().0, s.out(128), s.ints(&[128])]
        }),
        case("sendto", "", |s| {
            let (_, address) = s.udp();
            vec![s.udp().0, s.bytes(b"hello"), 5, 0, s.bytes(&address), 16]
        }),
        case("recvfrom", "with an address", |s| {
            vec![
                s.datagram(b"hello"),
                s.out(64),
                64,
                0,
                s.out(128),
                s.ints(&[128]),
            ]
        }),
        case("recvfrom", "without an address", |s| {
            vec![s.datagram(b"hello"), s.out(64), 64, 0, 0, 0]
        }),
        case("recvfrom", "too little room", |s| {
            let flags = libc::MSG_TRUNC as u64;
            vec![
                s.datagram(b"hello"),
                s.out(3),
                3,
                flags,
                s.out(10),
                s.ints(&[10]),
            ]
        }),
        case("recvfrom", "from no one", |s| {
            let (a, b) = s.stream();
            s.write(a, b"hello");
            vec![b, s.out(64), 64, 0, s.out(128), s.ints(&[128])]
        }),
    ]
}

fn packet(s: &Setup) -> u64 {
    // As root only: elsewhere it is another socket.
    match s.call(libc::SYS_socket, &[17, 3, 0]) {
        -1 => s.udp().0,
        fd => arg(fd as i32),
    }
}

/// A header for what is received, with a name, two buffers and control data.
fn received(s: &mut Setup) -> u64 {
    let parts = [(s.out(3), 3), (s.out(64), 64)];
    let vector = s.vector(&parts);
    let parts = [s.out(128), 128, vector, 2, s.out(256), 256];
    s.message(parts)
}

fn messages() -> Vec<Case> {
    vec![
        case("sendmsg", "", |s| {
            let parts = [(s.bytes(b"ab"), 2), (s.bytes(b"cde"), 3)];
            let vector = s.vector(&parts);
            vec![s.stream().0, s.message([0, 0, vector, 2, 0, 0]), 0]
        }),
        case("recvmsg", "a datagram", |s| {
            vec![s.datagram(b"hello"), received(s), 0]
        }),
        case("recvmsg", "a datagram, with its time", |s| {
            let (receiver, address) = s.udp();
            s.option(receiver, libc::SOL_SOCKET, libc::SO_TIMESTAMP, 1);
            s.option(receiver, 0, libc::IP_PKTINFO, 1);
            s.option(receiver, 0, libc::IP_RECVTTL, 1);
            let sender = s.udp().0;
            s.send_to(sender, b"hello", &address);
            vec![receiver, received(s), 0]
        }),
        case("recvmsg", "cut", |s| {
            let part = [(s.out(3), 3)];
            let vector = s.vector(&part);
            let parts = [s.out(8), 8, vector, 1, 0, 0];
            vec![s.datagram(b"hello"), s.message(parts), 0]
        }),
        case("recvmsg", "descriptors and credentials", |s| {
            let (a, b) = s.stream();
            s.option(b, libc::SOL_SOCKET, libc::SO_PASSCRED, 1);
            let mut control = [0u8; 24];
            control[0] = 24;
            control[8] = 1;
            control[12] = 1;
            control[16] = 2;
            control[20] = 2;
            let part = [(s.bytes(b"x"), 1)];
            let (vector, control) = (s.vector(&part), s.bytes(&control));
            let message = s.message([0, 0, vector, 1, control, 24]);
            assert_eq!(s.call(libc::SYS_sendmsg, &[a, message, 0]), 1);
            vec![b, received(s), 0]
        }),
        case("recvmsg", "a credential, in too little room", |s| {
            let (a, b) = s.stream();
            s.option(b, libc::SOL_SOCKET, libc::SO_PASSCRED, 1);
            s.write(a, b"x");
            let part = [(s.out(8), 8)];
            let vector = s.vector(&part);
            let parts = [0, 0, vector, 1, s.out(20), 20];
            vec![b, s.message(parts), 0]
        }),
        case("sendmmsg", "", |s| {
            let part = [(s.bytes(b"abc"), 3)];
            let vector = s.vector(&part);
            let header = [0, 0, vector, 1, 0, 0, 0, 0];
            vec![s.stream().0, s.longs(&[header, header].concat()), 2, 0]
        }),
        case("recvmmsg", "", |s| {
            let (receiver, address) = s.udp();
            let sender = s.udp().0;
            s.send_to(sender, b"hello", &address);
            s.send_to(sender, b"bye", &address);
            let mut headers = Vec::new();
            for _ in 0..3 {
                let part = [(s.out(16), 16)];
                let vector = s.vector(&part);
                headers.extend([s.out(32), 32, vector, 1, s.out(64), 64, 0, 0]);
            }
            let flags = (libc::MSG_DONTWAIT) as u64;
            vec![receiver, s.longs(&headers), 3, flags, 0]
        }),
        case("recvmmsg", "with a time to wait", |s| {
            let receiver = s.datagram(b"hello");
            let part = [(s.out(16), 16)];
            let vector = s.vector(&part);
            let header = [0, 0, vector, 1, 0, 0, 0, 0];
            vec![receiver, s.longs(&header), 1, 0, s.longs(&[5, 0])]
        }),
    ]
}

/// getsockopt with room for `room` bytes.
fn get(s: &mut Setup, fd: u64, level: u64, name: u64, room: usize) -> Vec<u64> {
    vec![fd, level, name, s.out(room), s.ints(&[room as i32])]
}

fn tcp_socket(s: &Setup) -> u64 {
    s.socket(INET, STREAM)
}

fn options() -> Vec<Case> {
    vec![
        case("setsockopt", "an int", |s| {
            vec![tcp_socket(s), SOCKET, 2, s.ints(&[1]), 4]
        }),
        case("setsockopt", "SO_LINGER", |s| {
            vec![tcp_socket(s), SOCKET, 13, s.ints(&[1, 2]), 8]
        }),
        case("setsockopt", "SO_RCVTIMEO", |s| {
            vec![tcp_socket(s), SOCKET, 20, s.longs(&[1, 2]), 16]
        }),
        case("setsockopt", "TCP_NODELAY", |s| {
            vec![tcp_socket(s), TCP, 1, s.ints(&[1]), 4]
        }),
        case("setsockopt", "IP_TTL", |s| {
            vec![tcp_socket(s), IP, 2, s.ints(&[9]), 4]
        }),
        case("setsockopt", "IPV6_V6ONLY", |s| {
            vec![s.socket(10, STREAM), IPV6, 26, s.ints(&[1]), 4]
        }),
        case("setsockopt", "NETLINK_PKTINFO", |s| {
            vec![s.socket(16, libc::SOCK_RAW), 270, 3, s.ints(&[1]), 4]
        }),
        case("getsockopt", "an int", |s| {
            let fd = tcp_socket(s);
            get(s, fd, SOCKET, 2, 4)
        }),
        case("getsockopt", "an int with more room", |s| {
            let fd = tcp_socket(s);
            get(s, fd, SOCKET, 3, 32)
        }),
        case("getsockopt", "a part of an int", |s| {
            let fd = tcp_socket(s);
            get(s, fd, SOCKET, 3, 2)
        }),
        case("getsockopt", "SO_LINGER", |s| {
            let fd = tcp_socket(s);
            get(s, fd, SOCKET, 13, 8)
        }),
        case("getsockopt", "SO_RCVTIMEO", |s| {
            let fd = tcp_socket(s);
            get(s, fd, SOCKET, 20, 16)
        }),
        case("getsockopt", "SO_SNDTIMEO with more room", |s| {
            let fd = tcp_socket(s);
            get(s, fd, SOCKET, 21, 64)
        }),
        case("getsockopt", "SO_PEERCRED", |s| {
            let fd = s.stream().0;
            get(s, fd, SOCKET, 17, 12)
        }),
        case("getsockopt", "SO_PEERCRED with more room", |s| {
            let fd = s.stream().0;
            get(s, fd, SOCKET, 17, 64)
        }),
        case("getsockopt", "SO_PEERSEC", |s| {
            let fd = s.stream().0;
            get(s, fd, SOCKET, 31, 64)
        }),
        case("getsockopt", "SO_PEERGROUPS", |s| {
            let fd = s.stream().0;
            get(s, fd, SOCKET, 59, 256)
        }),
        case("getsockopt", "SO_MEMINFO", |s| {
            let fd = tcp_socket(s);
            get(s, fd, SOCKET, 55, 64)
        }),
        case("getsockopt", "SO_COOKIE", |s| {
            let fd = tcp_socket(s);
            get(s, fd, SOCKET, 57, 8)
        }),
        case("getsockopt", "SO_BINDTODEVICE", |s| {
            let fd = tcp_socket(s);
            get(s, fd, SOCKET, 25, 16)
        }),
        case("getsockopt", "of another level", |s| {
            let fd = s.udp().0;
            get(s, fd, 17, 1, 4)
        }),
        case("getsockopt", "TCP_NODELAY", |s| {
            let fd = tcp_socket(s);
            get(s, fd, TCP, 1, 4)
        }),
        case("getsockopt", "TCP_INFO", |s| {
            let fd = tcp_socket(s);
            get(s, fd, TCP, 11, 512)
        }),
        case("getsockopt", "TCP_CONGESTION", |s| {
            let fd = tcp_socket(s);
            get(s, fd, TCP, 13, 16)
        }),
        case("getsockopt", "IP_TTL", |s| {
            let fd = tcp_socket(s);
            get(s, fd, IP, 2, 4)
        }),
        case("getsockopt", "IP_TTL as a byte", |s| {
            let fd = tcp_socket(s);
            get(s, fd, IP, 2, 1)
        }),
        case("getsockopt", "IPV6_V6ONLY", |s| {
            let fd = s.socket(10, STREAM);
            get(s, fd, IPV6, 26, 4)
        }),
        case("getsockopt", "NETLINK_PKTINFO", |s| {
            let fd = s.socket(16, libc::SOCK_RAW);
            get(s, fd, 270, 3, 4)
        }),
    ]
}
