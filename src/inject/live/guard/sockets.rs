//! Sockets: only of families that the sandbox's network namespace separates from the machine's. Others reach beyond it,
//! such as virtual machines' (`AF_VSOCK`), or load modules into the kernel.

use crate::constants::Answer;
use crate::inject::hook::HookCall;
use crate::sandbox::Settings;

/// The calls.
pub(super) const CALLS: &[i64] = &[libc::SYS_socket, libc::SYS_socketpair];

/// The flags in the type of a socket.
const TYPE_FLAGS: i32 = libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;

/// The type of packet sockets before `AF_PACKET`.
const SOCK_PACKET: i32 = 10;

/// The protocols of the internet families, without those that only raw sockets have.
const PROTOCOLS: [i32; 7] = [
    0,
    libc::IPPROTO_ICMP,
    libc::IPPROTO_TCP,
    libc::IPPROTO_UDP,
    libc::IPPROTO_ICMPV6,
    libc::IPPROTO_UDPLITE,
    libc::IPPROTO_MPTCP,
];

/// Refuses other sockets, as a kernel without them does.
pub(super) fn guard(settings: &Settings, seen: &HookCall) -> Option<Answer> {
    let [family, kind, protocol] = [0, 1, 2].map(|arg| seen.args[arg] as i32);
    let kind = kind & !TYPE_FLAGS;
    let errno = match (seen.call.name, family) {
        ("socket" | "socketpair", libc::AF_UNIX) => return None,
        ("socketpair", libc::AF_INET | libc::AF_INET6) => libc::EOPNOTSUPP,
        ("socketpair", _) => libc::EAFNOSUPPORT,
        ("socket", libc::AF_INET | libc::AF_INET6) => match kind {
            _ if !settings.network => libc::EAFNOSUPPORT,
            libc::SOCK_RAW | SOCK_PACKET => libc::EPERM,
            _ if !PROTOCOLS.contains(&protocol) => libc::EPROTONOSUPPORT,
            _ => return None,
        },
        ("socket", libc::AF_NETLINK) => match protocol {
            libc::NETLINK_ROUTE | libc::NETLINK_KOBJECT_UEVENT => return None,
            _ => libc::EPROTONOSUPPORT,
        },
        ("socket", libc::AF_PACKET) => libc::EPERM,
        ("socket", _) => libc::EAFNOSUPPORT,
        _ => return None,
    };
    Some(Answer::Errno(errno))
}
