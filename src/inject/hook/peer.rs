//! What a live process sends to the other end of a connection that is not there.

use std::net::SocketAddr;

/// Data that have come to such an end.
#[derive(Clone, Copy, Debug)]
pub struct PeerData<'a> {
    /// The recorded pid of the process that was connected with it when it went live.
    pub pid: i32,
    /// Its descriptor then.
    pub fd: i32,
    /// The address of the end, if it is one of the network.
    pub address: Option<SocketAddr>,
    /// The bytes, up to 1 MiB at a time.
    pub data: &'a [u8],
}
