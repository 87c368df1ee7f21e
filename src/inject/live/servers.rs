//! Servers that are played for live processes: sockets that listen in their sandbox, and accept.

use super::engine::Engine;
use super::peers::{LivePeers, Whose};
use crate::inject::hook::{Hooks, Server};
use crate::inject::options::Sandbox as Kind;
use crate::inject::{Error, Result};
use crate::restore::Peers;
use crate::sandbox::{Sandbox, ServerAddress, Settings};
use nix::sys::socket::{setsockopt, sockopt};
use std::fs::File;
use std::io;
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;

/// The most ends of connections at a time.
const MOST: usize = 512;

/// The most connections with a server that are accepted before tasks are looked at again.
const AT_ONCE: usize = 64;

/// A server.
pub(super) struct LiveServer {
    /// Its number among those of the hooks.
    number: usize,
    server: Server,
    socket: Listening,
}

enum Listening {
    Network(TcpListener),
    Local(UnixListener),
}

impl LiveServer {
    /// The next connection, which does not block; `None` where there is none.
    fn accept(&self) -> io::Result<Option<File>> {
        let accepted = match &self.socket {
            Listening::Network(socket) => socket.accept().and_then(|(stream, _)| {
                stream.set_nonblocking(true)?;
                Ok(OwnedFd::from(stream))
            }),
            Listening::Local(socket) => socket.accept().and_then(|(stream, _)| {
                stream.set_nonblocking(true)?;
                Ok(OwnedFd::from(stream))
            }),
        };
        match accepted {
            Ok(end) => Ok(Some(end.into())),
            // The last one was given up before it was accepted.
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => Ok(None),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(None),
            Err(error) => Err(error),
        }
    }
}

impl LivePeers {
    /// The address of a server, by its number among those of the hooks.
    pub(super) fn address_of(&self, number: usize) -> String {
        let mut servers = self.servers.iter();
        let server = servers.find(|server| server.number == number);
        server.map_or_else(String::new, |one| one.server.address.to_string())
    }
}

impl Engine<'_> {
    /// Accepts the connections that were made with servers.
    pub(super) fn accept(&mut self) -> Result<()> {
        for at in 0..self.peers.servers.len() {
            for _ in 0..AT_ONCE {
                let Some(server) = self.peers.servers.get(at) else {
                    break;
                };
                let (number, how) = (server.number, server.server.how);
                match server.accept() {
                    Ok(Some(end)) => self.take_connection(number, how, end)?,
                    Ok(None) => break,
                    Err(error) => {
                        let at = &server.server.address;
                        self.report
                            .miss(format!("a connection with the server at {at}: {error}"));
                        break;
                    }
                }
            }
        }
        Ok(())
    }

    fn take_connection(&mut self, number: usize, how: Peers, end: File) -> Result<()> {
        self.peers.accepted += 1;
        match how {
            Peers::Closed => return Ok(()),
            Peers::Reset => {
                // Where that is not done, it is closed.
                let at_once = libc::linger {
                    l_onoff: 1,
                    l_linger: 0,
                };
                let set = setsockopt(&end, sockopt::Linger, &at_once);
                tracing::trace!("reset a connection: {set:?}");
                return Ok(());
            }
            Peers::Silent | Peers::Drain | Peers::Answer => {}
        }
        if self.peers.len() >= MOST {
            let at = self.peers.address_of(number);
            self.report.miss(format!(
                "connections with the server at {at}: it has {MOST} at a time, and closed the others"
            ));
            return Ok(());
        }
        let whose = Whose::Server(number, self.peers.accepted);
        self.begin(whose, how, end)
    }
}

/// Checks that servers can be played for processes with such a sandbox.
///
/// # Errors
/// If there is no sandbox, or it has no network and a server needs it.
pub(in crate::inject) fn check(
    hooks: &dyn Hooks,
    sandbox: Kind,
    settings: &Settings,
) -> Result<()> {
    let refused = |server: &Server, reason| {
        Err(Error::Server {
            address: server.address.to_string(),
            reason,
        })
    };
    let servers = hooks.servers();
    match (sandbox, servers.first()) {
        (_, None) => Ok(()),
        (Kind::None, Some(server)) => refused(
            server,
            "a process that is live without a sandbox has the machine's own network",
        ),
        (Kind::Cow, Some(_)) => {
            let on_network = |server: &&Server| matches!(server.address, ServerAddress::Network(_));
            match servers.iter().find(on_network) {
                Some(server) if !settings.network => refused(
                    server,
                    "its sandbox has no network, as network = false says",
                ),
                _ => Ok(()),
            }
        }
    }
}

/// The directories of the files of servers.
pub(super) fn directories(hooks: &dyn Hooks) -> Vec<PathBuf> {
    let dir = |server: Server| match server.address {
        ServerAddress::Path(path) => path.parent().map(PathBuf::from),
        _ => None,
    };
    hooks.servers().into_iter().filter_map(dir).collect()
}

/// Has the servers of hooks listen in a sandbox. Those that cannot are in `missing`, a sentence each.
///
/// # Errors
/// If the sandbox is gone.
pub(super) fn listen(
    hooks: &dyn Hooks,
    sandbox: &mut Sandbox,
    missing: &mut Vec<String>,
) -> Result<Vec<LiveServer>> {
    let mut servers = Vec::new();
    for (number, server) in hooks.servers().into_iter().enumerate() {
        match sandbox.listen(&server.address)? {
            Ok(socket) => {
                let socket = match server.address {
                    ServerAddress::Network(_) => Listening::Network(socket.into()),
                    _ => Listening::Local(socket.into()),
                };
                servers.push(LiveServer {
                    number,
                    server,
                    socket,
                });
            }
            Err(error) => {
                let why = match error.raw_os_error() {
                    Some(libc::EADDRINUSE) => "a process of the sandbox listens there".into(),
                    _ => error.to_string(),
                };
                missing.push(format!("a server at {}: {why}", server.address));
            }
        }
    }
    Ok(servers)
}
