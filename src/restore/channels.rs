//! Pipes and pairs of sockets: with what was in them, and both ends where the process has both.

use super::captured::{Sort, anonymous, as_file, fill, opened_again, set_status};
use super::{Group, Result, Work};
use crate::kernel::{OpenFile, ProcessTree, Queue, Socket, Thing};
use crate::tracee::Error;
use nix::fcntl::{FcntlArg, fcntl};
use nix::sys::socket::{
    AddressFamily, MsgFlags, Shutdown, SockFlag, SockType, send, shutdown, socketpair,
};
use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Seek, Write};
use std::os::fd::AsRawFd;

/// The most that a pipe is asked to hold.
const MOST: usize = 1 << 20;

/// What a pipe holds unless it is asked to hold more.
const USUAL: usize = 64 << 10;

/// Files for open files, by the numbers of those.
pub(super) type Made = HashMap<u64, File>;

/// Whether it is an end of a pipe that is no standard stream.
fn is_pipe(group: &Group<'_>) -> bool {
    let named = Sort::of(group.file) == Sort::Device && !group.file.path.starts_with(b"/dev/");
    group.stream.is_none() && (Sort::of(group.file) == Sort::Pipe || named)
}

fn mode(file: &OpenFile) -> i32 {
    file.flags & libc::O_ACCMODE
}

impl<'a> Work<'a> {
    /// Makes all pipes of the process anew.
    pub(super) fn pipes(&mut self, groups: &[Group<'a>]) -> Result<Made> {
        let mut names: Vec<Vec<u8>> = Vec::new();
        for group in groups.iter().filter(|group| is_pipe(group)) {
            let name = self.pipe_name(group);
            if !names.contains(&name) {
                names.push(name);
            }
        }
        let mut made = Made::new();
        for name in names {
            let ends = groups.iter().filter(|group| is_pipe(group));
            let ends = ends.filter(|group| self.pipe_name(group) == name);
            let ends: Vec<&Group<'_>> = ends.collect();
            self.pipe(&ends, groups, &mut made)?;
        }
        Ok(made)
    }

    fn pipe_name(&self, group: &Group<'_>) -> Vec<u8> {
        let kernel = self.kernel.as_ref();
        let name = kernel.and_then(|kernel| kernel.pipe_name(group.id, group.file));
        name.unwrap_or(&group.file.path).to_vec()
    }

    /// Makes one, with these ends.
    fn pipe(&mut self, ends: &[&Group<'a>], groups: &[Group<'a>], made: &mut Made) -> Result<()> {
        let tid = self.remote.memory().tid();
        let fail = |e: io::Error| Error::os("make a pipe for it", tid, e);
        let (Some(first), reads) = (ends.first(), |end: &Group<'_>| {
            mode(end.file) != libc::O_WRONLY
        }) else {
            return Ok(());
        };
        let writes = |end: &Group<'_>| mode(end.file) != libc::O_RDONLY;
        // Its standard input, opened by a name that it has in /proc.
        let stdin = groups.iter().find(|group| {
            group.stream == Some(crate::kernel::Stream::Stdin) && group.file.path == first.file.path
        });
        if stdin.is_some() {
            let rest = self.input()?;
            for end in ends {
                let (file, _, _) = super::captured::input(end.file, &rest).map_err(fail)?;
                made.insert(end.id, file);
            }
            return Ok(());
        }
        let (read, write) = io::pipe().map_err(fail)?;
        let (read, write) = (as_file(read), as_file(write));
        let queue = self
            .kernel
            .as_ref()
            .and_then(|k| k.pipe(first.id, first.file).cloned());
        if let Some(queue) = queue {
            self.refill(first, &queue, &write).map_err(fail)?;
        }
        for end in ends {
            let side = if writes(end) { &write } else { &read };
            let theirs = opened_again(side, end.file.flags).map_err(fail)?;
            made.insert(end.id, theirs);
        }
        for (there, what) in [
            (ends.iter().any(|end| reads(end)), "read"),
            (ends.iter().any(|end| writes(end)), "writes"),
        ] {
            if !there {
                self.lacks_end(first, what)?;
            }
        }
        Ok(())
    }

    fn refill(&mut self, end: &Group<'_>, queue: &Queue, write: &File) -> io::Result<()> {
        let data: Vec<u8> = queue.parts().flatten().copied().collect();
        if data.len() > USUAL {
            let size = data.len().next_power_of_two().min(MOST);
            // The user may have too many pipes for that.
            _ = fcntl(write, FcntlArg::F_SETPIPE_SZ(size as i32));
        }
        let ours = opened_again(write, libc::O_WRONLY | libc::O_NONBLOCK)?;
        let fitted = fill(&ours, &data)?;
        if fitted < data.len() || queue.incomplete {
            self.lost(end, "not all that was in it is known");
        }
        Ok(())
    }

    /// Says who had the other end of a pipe.
    fn lacks_end(&mut self, end: &Group<'_>, what: &str) -> Result<()> {
        let wanted = match what {
            "read" => libc::O_WRONLY,
            _ => libc::O_RDONLY,
        };
        let is_it = |file: &OpenFile, _| file.path == end.file.path && mode(file) != wanted;
        let verb = match what {
            "read" => "read from it",
            _ => "wrote to it",
        };
        if let Some(pid) = self.other_holder(is_it)? {
            self.lost(end, &format!("process {pid}, which {verb}, is not there"));
        } else if end.file.path.starts_with(b"/") {
            self.lost(end, &format!("whoever {verb} is not there"));
        }
        Ok(())
    }

    /// Another process that had such an open file at the event.
    fn other_holder(&self, is_it: impl Fn(&OpenFile, u64) -> bool) -> Result<Option<i32>> {
        let me = self.state.since.pid();
        let find = |tree: &ProcessTree| {
            let mut others = tree.all_tasks().filter(|&tid| tree.pid(tid) != Some(me));
            let found = others.find(|&tid| {
                let mut all = tree.each_descriptor(tid);
                all.any(|(fd, file, _)| is_it(file, tree.file_id(tid, fd).unwrap_or(u64::MAX)))
            });
            found.and_then(|tid| tree.pid(tid))
        };
        Ok(self
            .state
            .recording
            .process_tree_at(self.state.since.event(), find)?)
    }

    /// Makes all pairs of sockets anew of which the process has an end.
    pub(super) fn pairs(&mut self, groups: &[Group<'a>], made: &mut Made) -> Result<()> {
        let tid = self.remote.memory().tid();
        let fail = |e: io::Error| Error::os("make a pair of sockets for it", tid, e);
        for group in groups.iter().filter(|group| group.stream.is_none()) {
            let Some(socket) = self.socket(group.id) else {
                continue;
            };
            let Some(peer) = socket.peer.filter(|_| !made.contains_key(&group.id)) else {
                continue;
            };
            let other = groups
                .iter()
                .find(|other| other.id == peer && other.stream.is_none());
            let other_socket = other.and_then(|other| self.socket(other.id));
            let (one, two) = pair(&socket).map_err(fail)?;
            let mut whole = refill(&socket, &two).map_err(fail)?;
            if let Some(other) = &other_socket {
                whole &= refill(other, &one).map_err(fail)?;
                shut(other, &two).map_err(fail)?;
            }
            if !whole {
                self.lost(group, "not all that was in it is known");
            }
            shut(&socket, &one).map_err(fail)?;
            set_status(&one, group.file.flags).map_err(fail)?;
            made.insert(group.id, one);
            match other {
                Some(other) => {
                    set_status(&two, other.file.flags).map_err(fail)?;
                    made.insert(other.id, two);
                }
                None => {
                    if let Some(pid) = self.other_holder(|_, id| id == peer)? {
                        let why = format!("process {pid}, which had its other end, is not there");
                        self.lost(group, &why);
                    }
                }
            }
        }
        Ok(())
    }

    pub(super) fn socket(&self, id: u64) -> Option<Socket> {
        match self.kernel.as_ref()?.thing(id)? {
            Thing::Socket(socket) => Some((**socket).clone()),
            _ => None,
        }
    }

    /// An anonymous file with what was written to it.
    pub(super) fn memory(&mut self, group: &Group<'_>) -> Result<Option<File>> {
        let tid = self.remote.memory().tid();
        let fail = |e: io::Error| Error::os("make an anonymous file for it", tid, e);
        let path = group.file.path.strip_prefix(b"/memfd:").unwrap_or_default();
        let name = path.strip_suffix(b" (deleted)").unwrap_or(path);
        let name = String::from_utf8_lossy(name).replace('\0', "");
        let ours = anonymous(&name).map_err(fail)?;
        let content = match self
            .kernel
            .as_ref()
            .and_then(|kernel| kernel.thing(group.id))
        {
            Some(Thing::Memory(content)) => Some(content.clone()),
            _ => None,
        };
        let incomplete = content.as_ref().is_none_or(|content| content.incomplete);
        if let Some(content) = content {
            (&ours).write_all(&content.bytes).map_err(fail)?;
        }
        if incomplete {
            self.lost(group, "not all that was in it is known");
        }
        let mut theirs = opened_again(&ours, group.file.flags).map_err(fail)?;
        let at = io::SeekFrom::Start(group.file.offset.min(i64::MAX as u64));
        theirs.seek(at).map_err(fail)?;
        Ok(Some(theirs))
    }
}

fn pair(socket: &Socket) -> io::Result<(File, File)> {
    let kind = match socket.kind.1 {
        libc::SOCK_DGRAM => SockType::Datagram,
        libc::SOCK_SEQPACKET => SockType::SeqPacket,
        _ => SockType::Stream,
    };
    let (one, two) = socketpair(AddressFamily::Unix, kind, None, SockFlag::SOCK_CLOEXEC)?;
    Ok((as_file(one), as_file(two)))
}

/// Sends what had come to a socket from its other end. Whether that is all that there was.
fn refill(socket: &Socket, from: &File) -> io::Result<bool> {
    for part in socket.received.parts() {
        let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
        match send(from.as_raw_fd(), part, flags) {
            Ok(n) if n == part.len() => {}
            Ok(_) | Err(nix::errno::Errno::EAGAIN) => return Ok(false),
            Err(e) => return Err(e.into()),
        }
    }
    Ok(!socket.received.incomplete)
}

fn shut(socket: &Socket, file: &File) -> io::Result<()> {
    let how = match socket.shut {
        0 => return Ok(()),
        1 => Shutdown::Read,
        2 => Shutdown::Write,
        _ => Shutdown::Both,
    };
    Ok(shutdown(file.as_raw_fd(), how)?)
}
