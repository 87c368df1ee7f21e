//! Calls that create or change modelled objects.

use super::{
    Clock, Descriptors, Epoll, Eventfd, Inotify, Kernel, Memfd, Object, Signalfd, Socket, Timerfd,
    channel, output_descriptors, process,
};
use crate::constants::is_error;
use crate::recording::{CallEvent, Effect};

impl Kernel {
    /// Whether a call may change modelled state.
    pub fn is_changed_by(call: &CallEvent, before: &dyn Descriptors) -> bool {
        let special = |arg: usize| {
            let file = before.open_file(call.args[arg] as i32);
            file.is_some_and(|file| !file.is_plain() || file.may_be_terminal())
        };
        match i64::from(call.nr) {
            libc::SYS_splice | libc::SYS_copy_file_range => special(0) || special(2),
            libc::SYS_tee | libc::SYS_sendfile => special(0) || special(1),
            _ => {
                special(0)
                    || process::sets(call)
                    || changes_without_file(call)
                    || Clock::is_advanced_by(call)
            }
        }
    }

    /// Follows the changes that a call makes to existing objects; `before` are the descriptors at the call's entry.
    pub fn change_objects(&mut self, pid: i32, call: &CallEvent, before: &dyn Descriptors) {
        let Some(ret) = call.ret else { return };
        let nr = i64::from(call.nr);
        self.clock.follow(call);
        let number = self.numbers.get(&pid).copied().unwrap_or(pid);
        if process::sets(call) || matches!(nr, libc::SYS_timer_settime | libc::SYS_timer_delete) {
            if ret >= 0 {
                let process = self.processes.entry(pid).or_default();
                process.follow(number, call, &self.clock);
            }
            return;
        }
        if matches!(nr, libc::SYS_execve | libc::SYS_execveat) && ret >= 0 {
            if let Some(process) = self.processes.get_mut(&pid) {
                process.follow(number, call, &self.clock);
            }
            return;
        }
        if channel::moves(nr) {
            let uses = self.channel_uses(call, before);
            self.advance_flows(uses);
        }
        let failed = is_error(ret);
        if failed && nr != libc::SYS_connect {
            return;
        }
        match nr {
            libc::SYS_splice | libc::SYS_copy_file_range => self.splice(call, (0, 2), before),
            libc::SYS_tee => self.splice(call, (0, 1), before),
            libc::SYS_sendfile => self.splice(call, (1, 0), before),
            libc::SYS_epoll_ctl => {
                let [epoll, _, fd, ..] = call.args.map(|arg| arg as i32);
                let object = before.file(epoll).map(|(id, _)| id);
                let object = object.and_then(|id| self.objects.get_mut(&id));
                if let (Some(Object::Epoll(epoll)), Some((file, _))) = (object, before.file(fd)) {
                    epoll.control(call, file);
                }
            }
            _ => {
                let Some((id, file)) = before.file(call.args[0] as i32) else {
                    return;
                };
                if channel::asks_for_number(call) {
                    self.note_master(id, call);
                }
                if let Some(object) = self.objects.get_mut(&id) {
                    object.follow(call, before, &self.clock);
                }
                if !file.is_plain() || file.may_be_terminal() {
                    self.move_data(id, file, call, before);
                }
                if nr == libc::SYS_connect {
                    self.connected(pid, id);
                }
            }
        }
    }

    /// Follows the objects that a call creates; `after` are the descriptors at the call's exit.
    pub fn create_objects(&mut self, call: &CallEvent, after: &dyn Descriptors) {
        let Some(ret @ 0..) = call.ret else { return };
        let fd = call.args[0] as i32;
        let object = match i64::from(call.nr) {
            libc::SYS_eventfd | libc::SYS_eventfd2 => Object::Eventfd(Eventfd::new(call)),
            libc::SYS_timerfd_create => Object::Timerfd(Timerfd::new(call)),
            libc::SYS_signalfd | libc::SYS_signalfd4 if fd == -1 => {
                Object::Signalfd(Signalfd::new(call))
            }
            libc::SYS_epoll_create | libc::SYS_epoll_create1 => Object::Epoll(Epoll::default()),
            libc::SYS_inotify_init | libc::SYS_inotify_init1 => Object::Inotify(Inotify::default()),
            libc::SYS_memfd_create => Object::Memfd(Memfd::default()),
            libc::SYS_socket => Object::Socket(Box::new(Socket::new(call))),
            libc::SYS_accept | libc::SYS_accept4 => {
                let listening = after.file(fd).and_then(|(id, _)| self.objects.get(&id));
                let Some(Object::Socket(socket)) = listening else {
                    return;
                };
                let accepted = Object::Socket(Box::new(socket.accepted()));
                if let Some((id, _)) = after.file(ret as i32) {
                    self.add(id, accepted);
                    self.accepted(id);
                }
                return;
            }
            libc::SYS_socketpair => {
                let fds = output_descriptors(call);
                let ids = fds.iter().filter_map(|&fd| Some(after.file(fd)?.0));
                if let [one, other] = ids.collect::<Vec<_>>()[..] {
                    for (id, peer) in [(one, other), (other, one)] {
                        let mut socket = Socket::new(call);
                        socket.peer = Some(peer);
                        self.add(id, Object::Socket(Box::new(socket)));
                    }
                }
                return;
            }
            libc::SYS_pipe | libc::SYS_pipe2 => return self.create_pipe(call, after),
            libc::SYS_ioctl if channel::opens_slave(call) => return self.note_slave(call, after),
            libc::SYS_open | libc::SYS_openat | libc::SYS_openat2 => {
                return self.note_open(call, after);
            }
            libc::SYS_mmap => {
                if let Some((id, _)) = after.file(call.args[4] as i32)
                    && let Some(Object::Memfd(memfd)) = self.objects.get_mut(&id)
                {
                    memfd.mapped(call);
                }
                return;
            }
            _ => return,
        };
        if let Some((id, _)) = after.file(ret as i32) {
            self.add(id, object);
        }
    }
}

impl Object {
    /// Follows a call on it, except for the data that the call moves.
    fn follow(&mut self, call: &CallEvent, before: &dyn Descriptors, now: &Clock) {
        match self {
            Object::Timerfd(timerfd) => timerfd.follow(call, now),
            Object::Signalfd(signalfd) => signalfd.follow(call),
            Object::Epoll(epoll) => epoll.follow(call),
            Object::Inotify(inotify) => inotify.follow(call, before.cwd()),
            Object::Memfd(memfd) => memfd.follow(call),
            Object::Socket(socket) => socket.follow(call, before.cwd()),
            Object::Eventfd(_) | Object::PipeEnd(_) => {}
        }
    }
}

/// Calls that change modelled state, whatever file their first argument is.
fn changes_without_file(call: &CallEvent) -> bool {
    matches!(
        i64::from(call.nr),
        libc::SYS_timer_settime
            | libc::SYS_timer_delete
            | libc::SYS_execve
            | libc::SYS_execveat
            | libc::SYS_eventfd
            | libc::SYS_eventfd2
            | libc::SYS_timerfd_create
            | libc::SYS_signalfd
            | libc::SYS_signalfd4
            | libc::SYS_epoll_create
            | libc::SYS_epoll_create1
            | libc::SYS_inotify_init
            | libc::SYS_inotify_init1
            | libc::SYS_memfd_create
            | libc::SYS_socket
            | libc::SYS_socketpair
            | libc::SYS_pipe
            | libc::SYS_pipe2
    ) || channel::asks_for_number(call)
        || matches!(call.effect, Effect::Moved(_))
}
