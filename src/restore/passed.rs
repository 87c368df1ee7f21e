//! Descriptors on their way (`SCM_RIGHTS`): what comes with them is sent once all open files are there, and what is behind that.
//!
//! An open file that nobody else has is made in the first member, at a number that the program has not, and closed there.

use super::{Common, Description, Restorer, Result};
use crate::kernel::{DescriptorTable, Kernel, OpenFile, Part, Queue, Socket, Stream};
use crate::process::ThreadGroup;
use nix::errno::Errno;
use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use std::collections::HashSet;
use std::fs::File;
use std::io::{self, IoSlice};
use std::os::fd::{AsRawFd, RawFd};

/// What a socket is still to send.
pub(super) struct Unsent {
    /// The socket that sends.
    from: File,
    parts: Vec<Part>,
}

/// The distance of the numbers of files on their way from those of the program.
const ASIDE: i32 = 16;

/// The open files on their way to these processes, with their numbers.
pub(super) fn on_way(kernel: Option<&Kernel>, states: &[&ThreadGroup]) -> Vec<(u64, OpenFile)> {
    let tables = states.iter().map(|state| &state.descriptors);
    let ids = tables.flat_map(|table| table.iter().filter_map(|(fd, ..)| table.file_id(fd)));
    let ids: HashSet<u64> = ids.collect();
    let mut all: Vec<(u64, OpenFile)> = Vec::new();
    let Some(kernel) = kernel else { return all };
    all.extend(kernel.passed_to(ids.iter().copied()));
    // Those that a process has, too, are to be lent, and nothing more.
    let queues = ids.iter().map(|&id| kernel.received(id));
    let early = ids.iter().filter_map(|&id| kernel.sent_early(id).cloned());
    for queue in queues.chain(early) {
        let passed = queue.parts().flat_map(|part| &*part.passed);
        let known: Vec<(u64, OpenFile)> =
            passed.filter(|(id, _)| ids.contains(id)).cloned().collect();
        for one in known {
            if all.iter().all(|(id, _)| *id != one.0) {
                all.push(one);
            }
        }
    }
    all
}

/// The open files on their way, as the first member is to make them that does not have them.
pub(super) fn descriptions<'a>(
    on_way: &'a [(u64, OpenFile)],
    table: &DescriptorTable,
) -> Vec<Description<'a>> {
    let own: HashSet<u64> = table
        .iter()
        .filter_map(|(fd, ..)| table.file_id(fd))
        .collect();
    let next = table.iter().last().map_or(0, |(fd, ..)| fd) + ASIDE;
    let missing = on_way.iter().filter(|(id, _)| !own.contains(id));
    missing
        .zip(next..)
        .map(|((id, file), fd)| Description {
            fd,
            cloexec: true,
            file,
            stream: None,
            id: *id,
            duplicates: Vec::new(),
        })
        .collect()
}

/// Whether a description is one of those, rather than the program's own.
pub(super) fn is_on_way(description: &Description<'_>, table: &DescriptorTable) -> bool {
    table.get(description.fd).is_none()
}

/// Sends a part, with the descriptors of these files; returns whether it fitted.
fn send(from: &File, part: &Part, files: &[RawFd]) -> io::Result<bool> {
    let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
    let data = [IoSlice::new(&part.data)];
    let rights = [ControlMessage::ScmRights(files)];
    let control: &[ControlMessage<'_>] = if files.is_empty() { &[] } else { &rights };
    match sendmsg::<()>(from.as_raw_fd(), &data, control, flags, None) {
        Ok(n) => Ok(n == part.data.len()),
        Err(Errno::EAGAIN) => Ok(false),
        Err(e) => Err(e.into()),
    }
}

impl Restorer<'_, '_> {
    /// Sends the data that a socket had received, from its other end; returns whether that was all of it. What descriptors come
    /// with is sent later.
    pub(super) fn refill_socket(&mut self, received: &Queue, from: &File) -> io::Result<bool> {
        let mut parts = received.parts();
        while let Some(part) = parts.next() {
            if !part.passed.is_empty() {
                let rest = parts.cloned();
                self.common.unsent.push(Unsent {
                    from: from.try_clone()?,
                    parts: std::iter::once(part.clone()).chain(rest).collect(),
                });
                break;
            }
            if !send(from, part, &[])? {
                return Ok(false);
            }
        }
        Ok(!received.incomplete)
    }

    /// Shuts down the directions that a socket had shut down, once all is sent.
    pub(super) fn shut_down_later(&mut self, socket: &Socket, file: &File) -> io::Result<()> {
        if socket.shutdown != 0 {
            self.common.shut.push((socket.clone(), file.try_clone()?));
        }
        Ok(())
    }

    /// Closes the files on their way.
    pub(super) fn close_passed(&mut self, descriptions: &[Description<'_>]) -> Result<()> {
        for one in descriptions {
            if is_on_way(one, &self.state.descriptors) {
                let args = [one.fd as u64, 0, 0, 0, 0, 0];
                self.remote.call(libc::SYS_close, args)?;
            }
        }
        Ok(())
    }
}

impl Common<'_> {
    /// The open file with this number.
    fn file(&self, id: u64) -> Option<&File> {
        let stream = |stream| self.streams.get(&(id, stream));
        self.prepared
            .get(&id)
            .or_else(|| stream(Stream::Stdout))
            .or_else(|| stream(Stream::Stderr))
            .or_else(|| stream(Stream::Stdin))
    }

    /// Sends what descriptors come with, and shuts sockets down. Returns sentences about what cannot come back.
    pub(super) fn send_unsent(&mut self) -> Vec<String> {
        let mut missing = Vec::new();
        for Unsent { from, parts } in std::mem::take(&mut self.unsent) {
            for part in parts {
                let files: Vec<RawFd> = part
                    .passed
                    .iter()
                    .filter_map(|(id, _)| Some(self.file(*id)?.as_raw_fd()))
                    .collect();
                if files.len() < part.passed.len() {
                    missing.push("a descriptor on its way that nobody has received".into());
                }
                match send(&from, &part, &files) {
                    Ok(true) => {}
                    Ok(false) => {
                        missing.push("descriptors on their way: there is no room for all".into());
                        break;
                    }
                    Err(why) => {
                        missing.push(format!("descriptors on their way: {why}"));
                        break;
                    }
                }
            }
        }
        for (socket, file) in std::mem::take(&mut self.shut) {
            // One that is not connected is shut down all the same, and says that it is not connected.
            _ = super::socket::shut_down(&socket, &file);
        }
        missing
    }
}
