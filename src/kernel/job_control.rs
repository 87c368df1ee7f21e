//! Process groups, sessions and controlling terminals: credentials(7), setpgid(2), setsid(2), ioctl_tty(2).
//!
//! The recorder looks at each process whose own calls change these, and says where the model is wrong
//! ([`Frame::JobControl`]). Older recordings say nothing: what was so at their beginning is not known there.
//!
//! [`Frame::JobControl`]: crate::recording::Frame::JobControl

use super::ProcessTree;
use super::descriptors::failed;
use super::memory::read_i32;
use crate::recording::{self, CallEvent, ChunkMemory};
use std::collections::BTreeMap;

/// The process group, session and controlling terminal of a process. Numbers are those of the recorder's pid namespace;
/// `None` where there is none, or it is not known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct JobControl {
    /// Its process group.
    pub pgid: Option<i32>,
    /// Its session.
    pub sid: Option<i32>,
    /// The device number of its controlling terminal, as in `/proc/PID/stat`.
    pub tty: Option<i32>,
    /// The foreground process group of that terminal.
    pub foreground: Option<i32>,
}

/// A controlling terminal.
#[derive(Clone, Copy, Debug)]
struct Terminal {
    sid: Option<i32>,
    foreground: Option<i32>,
}

/// What a process has of its own.
#[derive(Clone, Copy, Debug, Default)]
struct Member {
    pgid: Option<i32>,
    sid: Option<i32>,
    tty: Option<i32>,
}

/// The job control of all processes.
#[derive(Clone, Debug, Default)]
pub(super) struct Jobs {
    members: BTreeMap<i32, Member>,
    /// By device number.
    terminals: BTreeMap<i32, Terminal>,
}

/// A request of ioctl_tty(2).
fn request(call: &CallEvent) -> Option<u64> {
    let request = call.args[1] & 0xffff_ffff;
    let is_ioctl = i64::from(call.nr) == libc::SYS_ioctl;
    let is_meant = matches!(
        request,
        libc::TIOCSCTTY | libc::TIOCNOTTY | libc::TIOCSPGRP | libc::TIOCGPGRP
    );
    (is_ioctl && is_meant).then_some(request)
}

/// Whether a call may change the job control of a process, as far as its number and its arguments tell.
pub(crate) fn may_change_job_control(call: &CallEvent) -> bool {
    let opened = || match &call.effect {
        recording::Effect::Path(path) => is_terminal(path),
        recording::Effect::Opened(list) => list.iter().any(|opened| is_terminal(&opened.path)),
        _ => false,
    };
    match i64::from(call.nr) {
        libc::SYS_setsid | libc::SYS_setpgid => true,
        libc::SYS_open | libc::SYS_openat => opened(),
        _ => request(call).is_some_and(|request| request != libc::TIOCGPGRP),
    }
}

/// The process whose job control a successful call changes, or may change.
pub(crate) fn changes_job_control(tree: &ProcessTree, tid: i32, call: &CallEvent) -> Option<i32> {
    let own = tree.pid(tid)?;
    match call.ret {
        Some(ret) if !failed(ret) && call.was_made() => {}
        _ => return None,
    }
    match (i64::from(call.nr), call.args[0] as i32) {
        (libc::SYS_setpgid, target @ 1..) => tree.named(tid, target),
        _ => Some(own),
    }
}

fn is_terminal(path: &[u8]) -> bool {
    path.starts_with(b"/dev/pts/") || path.starts_with(b"/dev/tty")
}

/// The device number of a terminal, as far as its path tells: `new_encode_dev` in linux/kdev_t.h.
fn device(path: &[u8]) -> Option<i32> {
    const PTY: u32 = 136;
    const TTY: u32 = 4;
    let (major, minor) = match pty(path) {
        Some(number) => (PTY, number),
        None => (TTY, number(path, b"/dev/tty")?),
    };
    Some(((minor & 0xff) | (major << 8) | ((minor & !0xff) << 12)) as i32)
}

/// The number of a pseudoterminal, as far as its path tells: pts(4).
pub(super) fn pty(path: &[u8]) -> Option<u32> {
    number(path, b"/dev/pts/")
}

fn number(path: &[u8], before: &[u8]) -> Option<u32> {
    let text = std::str::from_utf8(path.strip_prefix(before)?).ok()?;
    text.parse().ok().filter(|&minor| minor < 1 << 20)
}

impl Jobs {
    fn leads_session(&self, pid: i32) -> bool {
        self.members.get(&pid).is_some_and(|m| m.sid == Some(pid))
    }

    pub(super) fn begun(&mut self, pid: i32) {
        self.members.insert(pid, Member::default());
    }

    /// Follows forked(2).
    pub(super) fn forked(&mut self, maker: i32, pid: i32) {
        let member = self.members.get(&maker).copied().unwrap_or_default();
        self.members.insert(pid, member);
    }

    /// Follows the end of a process.
    pub(super) fn ended(&mut self, pid: i32) {
        if self.leads_session(pid) {
            self.hang_up(pid);
        }
        self.members.remove(&pid);
    }

    /// A session loses its terminal, since its leader has ended or given it up.
    fn hang_up(&mut self, leader: i32) {
        let Some(tty) = self.members.get(&leader).and_then(|member| member.tty) else {
            return;
        };
        self.terminals.remove(&tty);
        self.let_go(tty);
    }

    fn let_go(&mut self, tty: i32) {
        for member in self.members.values_mut().filter(|m| m.tty == Some(tty)) {
            member.tty = None;
        }
    }

    /// Follows the SIGHUP by which the kernel tells a session leader that its terminal is gone.
    pub(super) fn signal(&mut self, pid: i32, signal: i32, info: &[u8]) {
        const SI_KERNEL: i32 = 128;
        if signal == libc::SIGHUP
            && info.get(8..12) == Some(&SI_KERNEL.to_le_bytes())
            && self.leads_session(pid)
        {
            self.hang_up(pid);
        }
    }

    /// Follows what the recorder saw.
    pub(super) fn seen(&mut self, seen: &recording::JobControl) {
        let some = |number: i32| Some(number).filter(|&number| number > 0);
        let Some(member) = self.members.get_mut(&seen.pid) else {
            return;
        };
        *member = Member {
            pgid: some(seen.pgid),
            sid: some(seen.sid),
            tty: some(seen.tty),
        };
        if seen.tty != 0 {
            let terminal = Terminal {
                sid: some(seen.sid),
                foreground: some(seen.foreground),
            };
            self.terminals.insert(seen.tty, terminal);
        }
    }

    pub(super) fn of(&self, pid: i32) -> Option<JobControl> {
        let member = self.members.get(&pid)?;
        let terminal = member.tty.and_then(|tty| self.terminals.get(&tty));
        Some(JobControl {
            pgid: member.pgid,
            sid: member.sid,
            tty: member.tty,
            foreground: terminal.and_then(|terminal| terminal.foreground),
        })
    }

    /// A session leader takes a terminal as its controlling one.
    fn take(&mut self, pid: i32, tty: i32) {
        let Some(member) = self.members.get_mut(&pid) else {
            return;
        };
        let (sid, foreground) = (member.sid, member.pgid);
        member.tty = Some(tty);
        let before = self.terminals.insert(tty, Terminal { sid, foreground });
        if before.is_some_and(|before| before.sid != sid) {
            // It was taken away from another session.
            self.let_go(tty);
            if let Some(member) = self.members.get_mut(&pid) {
                member.tty = Some(tty);
            }
        }
    }
}

impl ProcessTree {
    /// The process group, session and terminal of a process; `None` where there is no such process.
    pub fn job_control(&self, pid: i32) -> Option<JobControl> {
        self.jobs.of(pid)
    }

    /// The processes of a group, by rising pid.
    pub fn group(&self, pgid: i32) -> impl Iterator<Item = i32> {
        let members = self.jobs.members.iter();
        members
            .filter(move |(_, member)| member.pgid == Some(pgid))
            .map(|(&pid, _)| pid)
    }

    /// The processes of a session, by rising pid.
    pub fn session(&self, sid: i32) -> impl Iterator<Item = i32> {
        let members = self.jobs.members.iter();
        members
            .filter(move |(_, member)| member.sid == Some(sid))
            .map(|(&pid, _)| pid)
    }

    /// Follows a successful call of a task, whose descriptors are those at its exit.
    pub(super) fn follow_job_control(&mut self, tid: i32, call: &CallEvent, ret: i64) {
        let nr = i64::from(call.nr);
        let is_meant = matches!(
            nr,
            libc::SYS_setsid
                | libc::SYS_setpgid
                | libc::SYS_open
                | libc::SYS_openat
                | libc::SYS_getpgrp
                | libc::SYS_getpgid
                | libc::SYS_getsid
                | libc::SYS_ioctl
        );
        let Some(pid) = self.pid(tid).filter(|_| is_meant) else {
            return;
        };
        // Groups may have outlived those that they are named after.
        let real = |tree: &ProcessTree, number: i32| tree.named(tid, number).unwrap_or(number);
        let first = call.args[0] as i32;
        let target = match first {
            0 => pid,
            _ => real(self, first),
        };
        match nr {
            libc::SYS_setsid => {
                let member = Member {
                    pgid: Some(pid),
                    sid: Some(pid),
                    tty: None,
                };
                self.jobs.members.insert(pid, member);
            }
            libc::SYS_setpgid => {
                let pgid = match call.args[1] as i32 {
                    0 => target,
                    number => real(self, number),
                };
                if let Some(member) = self.jobs.members.get_mut(&target) {
                    member.pgid = Some(pgid);
                }
            }
            libc::SYS_getpgrp | libc::SYS_getpgid | libc::SYS_getsid => {
                // In a nested pid namespace a group of those outside has no number.
                let answer = Some(real(self, ret as i32)).filter(|&number| number > 0);
                let target = if nr == libc::SYS_getpgrp { pid } else { target };
                if let Some(member) = self.jobs.members.get_mut(&target) {
                    match nr {
                        libc::SYS_getsid => member.sid = member.sid.or(answer),
                        _ => member.pgid = member.pgid.or(answer),
                    }
                }
            }
            libc::SYS_ioctl => self.follow_terminal(tid, pid, call),
            _ => self.follow_open(tid, pid, call, ret as i32),
        }
    }

    fn follow_terminal(&mut self, tid: i32, pid: i32, call: &CallEvent) {
        let Some(request) = request(call) else { return };
        let own = self.jobs.members.get(&pid).and_then(|member| member.tty);
        let path = self.open_file(tid, call.args[0] as i32);
        let path = path.map(|file| file.path.as_slice());
        let tty = match path {
            Some(b"/dev/tty") => own,
            Some(path) => device(path),
            None => None,
        };
        match request {
            libc::TIOCSCTTY => {
                if let Some(tty) = tty {
                    self.jobs.take(pid, tty);
                }
            }
            libc::TIOCNOTTY if self.jobs.leads_session(pid) => self.jobs.hang_up(pid),
            libc::TIOCNOTTY => {
                if let Some(member) = self.jobs.members.get_mut(&pid) {
                    member.tty = None;
                }
            }
            _ => {
                let memory = match request {
                    libc::TIOCSPGRP => ChunkMemory(&call.ins),
                    _ if tty != own => return,
                    _ => ChunkMemory(&call.outs),
                };
                let Some(group) = read_i32(&memory, call.args[2]).filter(|&group| group > 0) else {
                    return;
                };
                let group = self.named(tid, group).unwrap_or(group);
                let terminal = own.and_then(|own| self.jobs.terminals.get_mut(&own));
                if let Some(terminal) = terminal {
                    terminal.foreground = Some(group);
                }
            }
        }
    }

    /// A session leader without a terminal takes the one that it opens, if nobody has that: `tty_open_proc_set_tty`.
    fn follow_open(&mut self, tid: i32, pid: i32, call: &CallEvent, fd: i32) {
        let flags = match i64::from(call.nr) {
            libc::SYS_open => call.args[1],
            _ => call.args[2],
        } as i32;
        let is_apart = flags & (libc::O_NOCTTY | libc::O_PATH) != 0;
        if is_apart || flags & libc::O_ACCMODE == libc::O_WRONLY || !self.jobs.leads_session(pid) {
            return;
        }
        let has_one = self.jobs.members.get(&pid).is_some_and(|m| m.tty.is_some());
        let file = self.open_file(tid, fd);
        let tty = file.and_then(|file| device(&file.path));
        if let Some(tty) = tty.filter(|tty| !has_one && !self.jobs.terminals.contains_key(tty)) {
            self.jobs.take(pid, tty);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::Chunk;
    use crate::kernel::forked;
    use crate::recording::{Effect, Event, EventKind, Frame, SignalEvent, Start};

    const TTY: i32 = (136 << 8) | 3;

    fn call(nr: i64, args: [u64; 6], ret: i64) -> CallEvent {
        CallEvent {
            nr: nr as u32,
            args,
            ip: 0,
            ret: Some(ret),
            ins: Vec::new(),
            outs: Vec::new(),
            effect: Effect::None,
        }
    }

    fn event(tid: i32, call: CallEvent) -> Frame {
        let kind = EventKind::Call(call);
        Frame::Event(Event { tid, kind })
    }

    fn known(tree: &ProcessTree, pid: i32) -> [i32; 4] {
        let job = tree.job_control(pid).unwrap();
        [job.pgid, job.sid, job.tty, job.foreground].map(|number| number.unwrap_or(0))
    }

    fn tree() -> ProcessTree {
        ProcessTree::at_start(&Start {
            pid: 10,
            ppid: 1,
            ..Start::default()
        })
    }

    fn opened(tid: i32, flags: i32) -> Frame {
        let mut open = call(libc::SYS_open, [0, flags as u64, 0, 0, 0, 0], 5);
        open.effect = Effect::Path(b"/dev/pts/3".to_vec());
        event(tid, open)
    }

    #[test]
    fn a_job_of_a_shell_gets_the_terminal_and_gives_it_back() {
        let mut tree = tree();
        assert_eq!(tree.job_control(10), Some(JobControl::default()));
        let start = recording::JobControl {
            pid: 10,
            pgid: 10,
            sid: 9,
            tty: TTY,
            foreground: 10,
        };
        tree.follow(&Frame::JobControl(start));
        tree.follow(&forked(10, 11));
        assert_eq!(known(&tree, 11), [10, 9, TTY, 10]);
        tree.follow(&event(10, call(libc::SYS_setpgid, [11, 11, 0, 0, 0, 0], 0)));
        assert_eq!(known(&tree, 11), [11, 9, TTY, 10]);
        let mut gives = call(libc::SYS_ioctl, [255, libc::TIOCSPGRP, 64, 0, 0, 0], 0);
        gives.ins.push(Chunk {
            addr: 64,
            data: 11i32.to_le_bytes().to_vec(),
        });
        tree.follow(&event(10, gives));
        assert_eq!(known(&tree, 10), [10, 9, TTY, 11]);
        assert_eq!(Vec::from_iter(tree.group(11)), [11]);
        assert_eq!(Vec::from_iter(tree.session(9)), [10, 11]);
        // No leader of a session has ended.
        tree.follow(&Frame::Gone {
            tid: 11,
            exit: crate::trace::Exit::Code(0),
            left: Vec::new(),
        });
        assert_eq!(known(&tree, 10), [10, 9, TTY, 11]);
    }

    #[test]
    fn a_session_takes_the_terminal_that_its_leader_opens_and_loses_it_with_the_leader() {
        let mut tree = tree();
        for pid in [11, 12] {
            tree.follow(&forked(10, pid));
            tree.follow(&event(pid, call(libc::SYS_setsid, [0; 6], i64::from(pid))));
            assert_eq!(known(&tree, pid), [pid, pid, 0, 0]);
        }
        tree.follow(&opened(11, libc::O_RDWR | libc::O_NOCTTY));
        tree.follow(&opened(10, libc::O_RDWR));
        assert_eq!((known(&tree, 11)[2], known(&tree, 10)[2]), (0, 0));
        tree.follow(&opened(11, libc::O_RDWR));
        tree.follow(&opened(12, libc::O_RDWR));
        tree.follow(&forked(11, 13));
        assert_eq!(known(&tree, 13), [11, 11, TTY, 11]);
        assert_eq!(known(&tree, 12), [12, 12, 0, 0]);
        let mut info = vec![0; 128];
        info[8..12].copy_from_slice(&128i32.to_le_bytes());
        let signal = SignalEvent {
            signal: libc::SIGHUP,
            info,
            fault: false,
            delivery: crate::recording::Delivery::Ignored,
        };
        let hangs_up = Frame::Event(Event {
            tid: 11,
            kind: EventKind::Signal(signal),
        });
        tree.follow(&hangs_up);
        assert_eq!(known(&tree, 13), [11, 11, 0, 0]);
        tree.follow(&opened(12, libc::O_RDWR));
        assert_eq!(known(&tree, 12), [12, 12, TTY, 12]);
    }

    #[test]
    fn device_numbers_are_those_that_stat_shows() {
        assert_eq!(device(b"/dev/pts/3"), Some(34819));
        assert_eq!(device(b"/dev/pts/300"), Some((136 << 8) | 44 | (1 << 20)));
        assert_eq!(device(b"/dev/tty1"), Some(1025));
        for none in ["/dev/tty", "/dev/pts/ptmx", "/dev/pts/9999999", "/tmp/x"] {
            assert_eq!(device(none.as_bytes()), None, "{none}");
        }
    }
}
