//! Messages between the recorder as a separate process and the front: see [`super::separate_process`].

use super::Recorded;
use crate::tracee::caught_signals::{CaughtSignal, Faults, SignalCatcher};
use crate::tracee::process_group;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::ffi::OsStr;
use std::io::{self, PipeReader, PipeWriter, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

/// The signals that ask a program to end.
pub(super) const ASKING: [i32; 4] = [libc::SIGINT, libc::SIGTERM, libc::SIGHUP, libc::SIGQUIT];

/// A message from the recorder.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Report {
    /// The program has this pid.
    Started(i32),
    /// A signal was sent to the recorder itself.
    Got(CaughtSignal),
    /// The recorder has taken an order; true if the order's signal came from outside of the recorded processes.
    Taken(bool),
    /// The program sent its parent this signal.
    ForParent(i32),
    /// The recording has ended with this result.
    Done(Result<Wire, String>),
}

/// [`Recorded`], whose path may be any bytes.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Wire {
    dir: Vec<u8>,
    exit: crate::trace::Exit,
    events: u64,
    lost: Option<String>,
    left: Vec<String>,
}

impl From<Recorded> for Wire {
    fn from(recorded: Recorded) -> Wire {
        Wire {
            dir: recorded.dir.as_os_str().as_bytes().to_vec(),
            exit: recorded.exit,
            events: recorded.events,
            lost: recorded.lost,
            left: recorded.left,
        }
    }
}

impl From<Wire> for Recorded {
    fn from(wire: Wire) -> Recorded {
        Recorded {
            dir: PathBuf::from(OsStr::from_bytes(&wire.dir)),
            exit: wire.exit,
            events: wire.events,
            lost: wire.lost,
            left: wire.left,
        }
    }
}

/// A message to the recorder.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) enum Order {
    /// Pass this signal to the program, unless the program has received or sent it.
    Signal(CaughtSignal),
    /// End all processes now.
    End,
}

/// The recorder's side.
pub(super) struct FrontLink {
    /// The pid of the front.
    pub front: i32,
    orders: PipeReader,
    notes: PipeWriter,
    caught: SignalCatcher,
}

impl FrontLink {
    /// Begins to catch the signals of the calling process.
    pub fn new(
        front: i32,
        orders: PipeReader,
        notes: PipeWriter,
    ) -> crate::tracee::Result<FrontLink> {
        Ok(FrontLink {
            front,
            orders,
            notes,
            caught: SignalCatcher::new(Faults::Left)?,
        })
    }

    /// Reports the start of the program. From here on this process may write to the terminal from the background, and
    /// can be woken.
    pub fn begin(&self, program: i32) {
        process_group::write_from_background();
        process_group::die_with_parent(Some(self.front));
        self.say(&Report::Started(program));
    }

    /// Returns whether the front exists.
    pub fn is_there(&self) -> bool {
        process_group::parent() == self.front
    }

    /// Sets whether the recorder ends with the front.
    pub fn ends_with_front(&self, ends: bool) {
        process_group::die_with_parent(ends.then_some(self.front));
    }

    /// Sends the front a signal.
    pub fn signal_front(&self, signal: i32) {
        if self.is_there() {
            process_group::send(self.front, signal);
        }
    }

    /// Sends a report. If the front does not exist any more, this process is about to end, too.
    pub fn say(&self, note: &Report) {
        if let Err(error) = send(&self.notes, note) {
            tracing::debug!("cannot say {note:?}: {error}");
        }
    }

    /// Returns whether [`FrontLink::take`] may return an order. Costs no system call.
    pub fn has_news(&self) -> bool {
        self.caught.any_caught()
    }

    /// The next order, if any. A signal to this process itself is reported to the front, or means the end where the
    /// front does not exist any more.
    pub fn take(&self) -> Option<Order> {
        while let Some(came) = self.caught.take() {
            if !self.is_there() && ASKING.contains(&came.signal) {
                return Some(Order::End);
            }
            self.say(&Report::Got(came));
        }
        if !is_readable(self.orders.as_fd()) {
            return None;
        }
        receive(&self.orders).ok()
    }
}

/// Returns whether there is data to read, or no writer is left.
fn is_readable(fd: BorrowedFd<'_>) -> bool {
    let mut fds = [PollFd::new(fd, PollFlags::POLLIN)];
    poll(&mut fds, PollTimeout::ZERO).is_ok_and(|n| n > 0)
}

/// Writes a message whole.
pub(super) fn send(mut to: &PipeWriter, message: &impl Serialize) -> io::Result<()> {
    let body = postcard::to_stdvec(message).map_err(io::Error::other)?;
    let mut bytes = (body.len() as u32).to_ne_bytes().to_vec();
    bytes.extend(body);
    to.write_all(&bytes)
}

/// Reads a message whole.
pub(super) fn receive<T: DeserializeOwned>(mut from: &PipeReader) -> io::Result<T> {
    let mut len = [0; 4];
    from.read_exact(&mut len)?;
    let mut body = vec![0; u32::from_ne_bytes(len) as usize];
    from.read_exact(&mut body)?;
    postcard::from_bytes(&body).map_err(io::Error::other)
}
