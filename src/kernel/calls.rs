//! What calls do to what the kernel keeps.

use super::call_data::{moved, moved_messages, reads_from};
use super::timer::{Clock, Timer, read_itimerspec, read_u32, read_u64};
use super::{
    Content, Kernel, Member, Numbers, Socket, Thing, Watch, is_memory, is_plain,
    output_descriptors, process,
};
use crate::recording::{CallEvent, ChunkMemory, Effect};
use crate::syscall::{Memory, Moved};

/// Members and watches of one set that are kept.
const MOST_MEMBERS: usize = 100_000;

impl Kernel {
    /// Whether a call may change something that is kept.
    pub fn is_changed_by(call: &CallEvent, before: &dyn Numbers) -> bool {
        let special = |arg: usize| {
            let file = before.file(call.args[arg] as i32);
            file.is_some_and(|(_, file)| !is_plain(file))
        };
        match i64::from(call.nr) {
            libc::SYS_splice | libc::SYS_copy_file_range => special(0) || special(2),
            libc::SYS_tee | libc::SYS_sendfile => special(0) || special(1),
            _ => special(0) || process::sets(call) || is_other(call) || Clock::is_advanced_by(call),
        }
    }

    /// Follows what a call does to what there is.
    pub fn change_objects(&mut self, pid: i32, call: &CallEvent, before: &dyn Numbers) {
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
        let failed = (-4095..0).contains(&ret);
        if failed && nr != libc::SYS_connect {
            return;
        }
        match nr {
            libc::SYS_splice => self.move_data(call, (0, 2), before),
            libc::SYS_tee => self.move_data(call, (0, 1), before),
            libc::SYS_sendfile => self.move_data(call, (1, 0), before),
            libc::SYS_copy_file_range => self.move_data(call, (0, 2), before),
            libc::SYS_epoll_ctl => self.watch(call, before),
            _ => {
                let Some((id, file)) = before.file(call.args[0] as i32) else {
                    return;
                };
                if let Some(thing) = self.things.get_mut(&id) {
                    follow(thing, call, before, &self.clock);
                }
                if is_plain(file) {
                    return;
                }
                if i64::from(call.nr) == libc::SYS_sendmmsg {
                    for message in moved_messages(call) {
                        self.write_data(id, file, call, &message);
                    }
                } else if i64::from(call.nr) == libc::SYS_recvmmsg {
                    for message in moved_messages(call) {
                        self.read_data(id, file, call, message.len());
                    }
                } else if reads_from(call).is_some() && !is_memory(file)
                    || nr == libc::SYS_vmsplice && file.flags & libc::O_ACCMODE == libc::O_RDONLY
                {
                    self.read_data(id, file, call, ret as usize);
                } else if ret >= 0 {
                    let data = moved(call, Moved::In);
                    if !data.is_empty() {
                        self.write_data(id, file, call, &data);
                    }
                }
            }
        }
    }

    /// Follows what a call made.
    pub fn create_objects(&mut self, call: &CallEvent, after: &dyn Numbers) {
        let Some(ret @ 0..) = call.ret else { return };
        let [a, b, c, d, ..] = call.args;
        let thing = match i64::from(call.nr) {
            libc::SYS_eventfd | libc::SYS_eventfd2 => Thing::Counter {
                count: u64::from(a as u32),
                semaphore: call.nr == libc::SYS_eventfd2 as u32
                    && b as i32 & libc::EFD_SEMAPHORE != 0,
            },
            libc::SYS_timerfd_create => Thing::Timer(Timer::new(a as i32)),
            libc::SYS_signalfd | libc::SYS_signalfd4 if a as i32 == -1 => {
                Thing::Signals(read_u64(&ChunkMemory(&call.ins), b).unwrap_or(0))
            }
            libc::SYS_epoll_create | libc::SYS_epoll_create1 => Thing::Poll(Vec::new()),
            libc::SYS_inotify_init | libc::SYS_inotify_init1 => Thing::Watches(Vec::new()),
            libc::SYS_memfd_create => Thing::Memory(Content::default()),
            libc::SYS_socket => {
                Thing::Socket(Box::new(Socket::new((a as i32, b as i32, c as i32))))
            }
            libc::SYS_accept | libc::SYS_accept4 => {
                let listening = after
                    .file(a as i32)
                    .and_then(|(id, _)| self.things.get(&id));
                let Some(Thing::Socket(socket)) = listening else {
                    return;
                };
                Thing::Socket(Box::new(socket.accepted()))
            }
            libc::SYS_socketpair => {
                let ids = output_descriptors(call);
                let ids: Vec<u64> = ids
                    .iter()
                    .filter_map(|&fd| Some(after.file(fd)?.0))
                    .collect();
                if let [one, other] = ids[..] {
                    for (id, peer) in [(one, other), (other, one)] {
                        let mut socket = Socket::new((a as i32, b as i32, c as i32));
                        socket.peer = Some(peer);
                        self.add(id, Thing::Socket(Box::new(socket)));
                    }
                }
                return;
            }
            libc::SYS_pipe | libc::SYS_pipe2 => {
                let numbers = output_descriptors(call);
                let ends: Vec<_> = numbers.iter().filter_map(|&fd| after.file(fd)).collect();
                let Some(&(first, file)) = ends.first() else {
                    return;
                };
                if file.path == b"pipe:[]" {
                    let name = format!("pipe:[of {first}]").into_bytes();
                    let ids: Vec<u64> = ends.iter().map(|&(id, _)| id).collect();
                    for id in ids {
                        self.add(id, Thing::Pipe(name.clone()));
                    }
                }
                return;
            }
            libc::SYS_mmap => {
                // What is written to memory is not seen.
                const WRITES: u64 = libc::PROT_WRITE as u64;
                if d as i32 & libc::MAP_TYPE != libc::MAP_PRIVATE
                    && c & WRITES != 0
                    && let Some((id, _)) = after.file(call.args[4] as i32)
                    && let Some(Thing::Memory(content)) = self.things.get_mut(&id)
                {
                    content.incomplete = true;
                }
                return;
            }
            _ => return,
        };
        if let Some((id, _)) = after.file(ret as i32) {
            self.add(id, thing);
        }
    }

    /// epoll_ctl(2).
    fn watch(&mut self, call: &CallEvent, before: &dyn Numbers) {
        let [set, op, fd, event, ..] = call.args;
        let file = before.file(fd as i32).map(|(id, _)| id);
        let set = before
            .file(set as i32)
            .and_then(|(id, _)| self.things.get_mut(&id));
        let (Some(Thing::Poll(members)), Some(file)) = (set, file) else {
            return;
        };
        let fd = fd as i32;
        members.retain(|member| (member.fd, member.file) != (fd, file));
        let memory = ChunkMemory(&call.ins);
        if op as i32 != libc::EPOLL_CTL_DEL
            && members.len() < MOST_MEMBERS
            && let Some(events) = read_u32(&memory, event)
            && let Some(data) = read_u64(&memory, event.wrapping_add(4))
        {
            members.push(Member {
                fd,
                file,
                events,
                data,
            });
        }
    }
}

/// Calls that change something that is kept, and whose first argument does not tell.
fn is_other(call: &CallEvent) -> bool {
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
    ) || matches!(call.effect, Effect::Moved(_))
}

/// What a call does to the thing that is its first argument, besides moving data.
fn follow(thing: &mut Thing, call: &CallEvent, before: &dyn Numbers, now: &Clock) {
    let [_, b, c, ..] = call.args;
    match (thing, i64::from(call.nr)) {
        (Thing::Timer(timer), libc::SYS_timerfd_settime) => {
            let absolute = b as i32 & libc::TFD_TIMER_ABSTIME != 0;
            timer.set(
                read_itimerspec(call, c, 1).unwrap_or_default(),
                absolute,
                now,
            );
        }
        (Thing::Signals(mask), libc::SYS_signalfd | libc::SYS_signalfd4) => {
            *mask = read_u64(&ChunkMemory(&call.ins), b).unwrap_or(*mask);
        }
        (Thing::Watches(watches), libc::SYS_inotify_add_watch) => {
            let mut path = vec![0; 4096];
            let n = ChunkMemory(&call.ins).read(b, &mut path);
            path.truncate(path[..n].iter().position(|&b| b == 0).unwrap_or(n));
            if !path.starts_with(b"/") {
                path = [before.cwd(), b"/", &path].concat();
            }
            let wd = call.ret.unwrap_or(0) as i32;
            watches.retain(|watch| watch.wd != wd);
            if watches.len() < MOST_MEMBERS {
                let mask = c as u32;
                watches.push(Watch { wd, path, mask });
            }
        }
        (Thing::Watches(watches), libc::SYS_inotify_rm_watch) => {
            watches.retain(|watch| watch.wd != b as i32);
        }
        (
            Thing::Poll(members),
            libc::SYS_epoll_wait | libc::SYS_epoll_pwait | libc::SYS_epoll_pwait2,
        ) => disarm_one_shot(members, call),
        (Thing::Memory(content), libc::SYS_ftruncate) => {
            match usize::try_from(b).ok().filter(|&len| len <= Content::MOST) {
                Some(len) => content.bytes.resize(len, 0),
                None => content.incomplete = true,
            }
        }
        (Thing::Socket(socket), _) => socket.follow(call),
        _ => {}
    }
}

/// Members that tell once are silent until they are set again.
fn disarm_one_shot(members: &mut [Member], call: &CallEvent) {
    const SIZE: u64 = 12;
    const KEPT: u32 =
        (libc::EPOLLONESHOT | libc::EPOLLET | libc::EPOLLEXCLUSIVE | libc::EPOLLWAKEUP) as u32;
    let once = libc::EPOLLONESHOT as u32;
    if !members.iter().any(|member| member.events & once != 0) {
        return;
    }
    let memory = ChunkMemory(&call.outs);
    let count = call
        .ret
        .and_then(|ret| u64::try_from(ret).ok())
        .unwrap_or(0);
    for i in 0..count.min(1024) {
        let at = call.args[1].wrapping_add(i * SIZE + 4);
        let Some(data) = read_u64(&memory, at) else {
            return;
        };
        let reported = members
            .iter_mut()
            .filter(|m| m.data == data && m.events & once != 0);
        reported.for_each(|member| member.events &= KEPT);
    }
}
