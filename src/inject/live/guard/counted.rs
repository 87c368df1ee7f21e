//! Objects that the kernel counts for a user, of which a run gets so many: pipes, FIFOs, files that epoll watches, and
//! descriptors on their way in sockets.
//!
//! What is given back is noticed when it would be too many. While descriptors are on their way, where nobody sees which
//! they are, all that was ever made may be there.

use super::tasks::CheckedArgs;
use crate::constants::Answer;
use crate::inject::exchange::Decided;
use crate::inject::hook::Decision;
use crate::inject::live::engine::Engine;
use crate::inject::live::task::Task;
use crate::tracee::filter::{StopRule, Test};
use crate::tracee::{Stopped, kcmp};
use std::collections::BTreeSet;
use std::fs;
use std::os::unix::ffi::OsStrExt;

pub(super) const CALLS: &[i64] = &[
    libc::SYS_pipe,
    libc::SYS_pipe2,
    libc::SYS_sendmsg,
    libc::SYS_sendmmsg,
];

pub(super) const RULES: &[StopRule] = &[
    rule(libc::SYS_mknod, &[Test::Any(1, libc::S_IFIFO)]),
    rule(libc::SYS_mknodat, &[Test::Any(2, libc::S_IFIFO)]),
    rule(
        libc::SYS_epoll_ctl,
        &[Test::Is(1, libc::EPOLL_CTL_ADD as u32)],
    ),
];

const fn rule(nr: i64, when: &'static [Test]) -> StopRule {
    StopRule { nr, when }
}

/// A kind of objects, by the place in [`KINDS`].
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Pipes,
    /// One that is not open now may be open later: all that it has made count.
    Fifos,
    Watches,
    Sent,
}

/// What a run gets of a kind.
struct Quota {
    most: usize,
    errno: i32,
    /// What is refused, for a sentence.
    told: &'static str,
}

/// A user has 1024 pipes of the usual size, a part of the memory for files that epoll watches (`fs.epoll.max_user_watches`,
/// more than 200,000), and as many descriptors on their way as one process may have open, 1024 usually.
const KINDS: [Quota; 4] = [
    Quota {
        most: 256,
        errno: libc::ENFILE,
        told: "pipes beyond 256 at one time: making more failed with ENFILE",
    },
    Quota {
        most: 256,
        errno: libc::ENOSPC,
        told: "FIFOs beyond 256: making more failed with ENOSPC",
    },
    Quota {
        most: 16384,
        errno: libc::ENOSPC,
        told: "files watched by epoll beyond 16384 at one time: adding more failed with ENOSPC",
    },
    Quota {
        most: 512,
        errno: libc::ETOOMANYREFS,
        told: "descriptors on their way in sockets beyond 512: sending more failed with ETOOMANYREFS",
    },
];

/// The most descriptors of a message (`SCM_MAX_FD` of linux/net/scm.h).
const MOST_OF_MESSAGE: u64 = 253;

/// The size of a `struct cmsghdr`, which is before the descriptors.
const CONTROL: u64 = 16;

/// The objects at the last look, and those that have been made since, by kind.
#[derive(Debug, Default)]
pub(super) struct Counts([usize; KINDS.len()]);

/// The objects that the tasks have.
#[derive(Default)]
struct Seen {
    pipes: BTreeSet<Vec<u8>>,
    watches: usize,
}

impl Engine<'_> {
    /// Refuses objects beyond those that a run gets.
    pub(super) fn guard_counted(
        &mut self,
        me: &mut Task,
        task: &Stopped,
        seen: &mut Decided,
    ) -> Option<Answer> {
        let args = seen.args;
        let is_fifo = |mode: u64| mode as u32 & libc::S_IFMT == libc::S_IFIFO;
        let counted = match seen.call.name {
            "pipe" | "pipe2" => self.count(task, Kind::Pipes, 1),
            "mknod" if is_fifo(args[1]) => self.count(task, Kind::Fifos, 1),
            "mknodat" if is_fifo(args[2]) => self.count(task, Kind::Fifos, 1),
            "epoll_ctl" if args[1] as i32 == libc::EPOLL_CTL_ADD => {
                self.count(task, Kind::Watches, 1)
            }
            "sendmsg" | "sendmmsg" => self.guard_message(me, task, seen),
            _ => return None,
        };
        counted.err().map(Answer::Errno)
    }

    /// Takes back what a call did not make after all.
    pub(super) fn note_counted(&mut self, me: &Task, seen: &Decided, ret: i64) {
        let (kind, number) = match seen.call.name {
            "pipe" | "pipe2" => (Kind::Pipes, 1),
            "epoll_ctl" if seen.args[1] as i32 == libc::EPOLL_CTL_ADD => (Kind::Watches, 1),
            "sendmsg" | "sendmmsg" => (Kind::Sent, me.sends),
            _ => return,
        };
        if ret < 0 {
            let count = &mut self.quotas.counts.0[kind as usize];
            *count = count.saturating_sub(number);
        }
    }

    fn count(&mut self, task: &Stopped, kind: Kind, number: usize) -> Result<(), i32> {
        let quota = &KINDS[kind as usize];
        let is_full = |counts: &Counts| counts.0[kind as usize] + number > quota.most;
        if is_full(&self.quotas.counts)
            && kind != Kind::Fifos
            && let Some(seen) = self.look_at_descriptors(task.tid())
        {
            self.quotas.counts.0[kind as usize] = match kind {
                Kind::Pipes => seen.pipes.len(),
                Kind::Watches => seen.watches,
                Kind::Fifos | Kind::Sent => 0,
            };
        }
        if is_full(&self.quotas.counts) {
            self.report.miss(quota.told.into());
            return Err(quota.errno);
        }
        self.quotas.counts.0[kind as usize] += number;
        Ok(())
    }

    /// Refuses descriptors of a message. The kernel gets a copy of the message's header, which no other task can change: its
    /// control data holds no more descriptors than there is room for. Of several messages it gets the first, as of sendmsg(2):
    /// sendmmsg(2) may always send fewer than it is asked to.
    fn guard_message(
        &mut self,
        me: &mut Task,
        task: &Stopped,
        seen: &mut Decided,
    ) -> Result<(), i32> {
        me.sends = 0;
        let fd = seen.args[0] as i32;
        let is_several = seen.call.name == "sendmmsg";
        if is_several && seen.args[2] as u32 == 0
            || !self.shares_descriptors(me, task) && on_their_way(task.tid(), fd).is_none()
        {
            return Ok(());
        }
        if let Decision::Short(len) = seen.decision {
            // It is another header then.
            seen.shorten(len).map_err(|_| libc::EFAULT)?;
        }
        let mut header = [0; size_of::<libc::msghdr>()];
        let read = seen.memory.read_exact(seen.args[1], &mut header);
        read.map_err(|_| libc::EFAULT)?;
        let copy = me.agent.as_ref().and_then(|page| page.put(&header));
        let room = std::mem::offset_of!(libc::msghdr, msg_controllen);
        let room = u64::from_le_bytes(std::array::from_fn(|i| header[room + i]));
        let number = match &copy {
            Some(_) => (room.saturating_sub(CONTROL) / 4).min(MOST_OF_MESSAGE) as usize,
            None => MOST_OF_MESSAGE as usize,
        };
        if number > 0 {
            self.count(task, Kind::Sent, number)?;
        }
        me.sends = number;
        let Some(copy) = copy else {
            return Ok(());
        };
        let mut args = seen.args;
        args[1] = copy.addr();
        let mut checked = CheckedArgs::new(args, seen.asked, Some(copy));
        if is_several {
            (checked.args[2], checked.nr) = (args[3], Some(libc::SYS_sendmsg));
        }
        me.checked = Some(checked);
        Ok(())
    }

    /// What sendmmsg(2) says and writes, where the kernel has made a sendmsg(2).
    pub(in crate::inject::live) fn answer_messages(seen: &Decided, ret: i64) -> i64 {
        if ret < 0 {
            return ret;
        }
        let at = seen.args[1] + size_of::<libc::msghdr>() as u64;
        // The message has been sent, whatever is wrong with the memory.
        _ = seen.memory.write(at, &(ret as u32).to_le_bytes());
        1
    }

    /// What the tasks have, this one and the others; `None` where a socket has descriptors on their way.
    fn look_at_descriptors(&self, this: i32) -> Option<Seen> {
        let (mut seen, mut sockets) = (Seen::default(), BTreeSet::new());
        let mut tids: Vec<i32> = Vec::new();
        for tid in self.tasks.keys().copied().chain([this]) {
            let mut known = tids.iter();
            if known.any(|&known| kcmp::share_descriptors(known, tid) == Some(true)) {
                continue;
            }
            tids.push(tid);
            let entries = fs::read_dir(format!("/proc/{tid}/fd"));
            for entry in entries.into_iter().flatten().flatten() {
                let Ok(link) = fs::read_link(entry.path()) else {
                    continue;
                };
                let link = link.as_os_str().as_bytes();
                let fd = || entry.file_name().to_str().and_then(|fd| fd.parse().ok());
                if link.starts_with(b"pipe:[") {
                    seen.pipes.insert(link.to_vec());
                } else if link == b"anon_inode:[eventpoll]" {
                    seen.watches += lines(tid, fd()?).matches("tfd:").count();
                } else if link.starts_with(b"socket:[")
                    && sockets.insert(link.to_vec())
                    && on_their_way(tid, fd()?).is_some_and(|sent| sent != 0)
                {
                    return None;
                }
            }
        }
        Some(seen)
    }
}

fn lines(tid: i32, fd: i32) -> String {
    fs::read_to_string(format!("/proc/{tid}/fdinfo/{fd}")).unwrap_or_default()
}

/// The descriptors that wait in a local socket; `None` for any other file.
pub(super) fn on_their_way(tid: i32, fd: i32) -> Option<u64> {
    let info = lines(tid, fd);
    let sent = info
        .lines()
        .find_map(|line| line.strip_prefix("scm_fds:"))?;
    sent.trim().parse().ok()
}
