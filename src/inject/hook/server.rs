//! Servers that are played for live processes.

use crate::restore::Peers;
use crate::sandbox::ServerAddress;

/// A server that is played for live processes, in their sandbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// Its address. Where a process of the sandbox listens already, nobody is played.
    pub address: ServerAddress,
    /// What it does with each connection that it has accepted.
    pub how: Peers,
}

/// What has come to a server of [`Hooks::servers`](super::Hooks::servers).
#[derive(Clone, Copy, Debug)]
pub struct ServerData<'a> {
    /// The number of the server there.
    pub server: usize,
    /// The number of the connection, from 1, in the order in which connections with all servers were accepted.
    pub connection: u64,
    /// The bytes, up to 1 MiB at a time; `None` once, when the connection has been accepted.
    pub data: Option<&'a [u8]>,
}
