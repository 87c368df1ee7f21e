//! Answering a recorded call: from the recording, and for calls that touch the process itself by making them
//! in its space, at the recorded addresses.

use super::context::Restart;
use super::doubt::Doubt;
use super::space::memory_of;
use super::state::ReplayState;
use super::{Error, Result};
use crate::constants::is_error;
use crate::history::Recording;
use crate::image::kept_file_flags;
use crate::process::{Objects, StopPoint, page_end, remap, segment_prot, unmap};
use crate::recording::{CallEvent, Effect};
use crate::syscall::{self, Replay};
use crate::tracee::{Remote, Stop, agent, open_file_limit};
use std::os::unix::ffi::OsStrExt;

const ARCH_SET_GS: u64 = 0x1001;
const ARCH_SET_FS: u64 = 0x1002;

impl ReplayState {
    /// Answers the call at whose entry the task stands. Returns the task that runs next, if one does.
    pub(super) fn answer_call(&mut self, tid: i32, event: &CallEvent) -> Result<Option<i32>> {
        let Some(ret) = event.ret else {
            return Ok(None);
        };
        if let Effect::Exec(image) = &event.effect {
            let pid = self.task(tid)?.pid;
            // The first program was restored at the beginning of the replay.
            if self.number != 1 {
                self.exec(tid, image)?;
            }
            return Ok(Some(pid));
        }
        let call = syscall::by_nr(event.nr.into()).map(|call| call.resolve(&event.args));
        // The return register of rt_sigreturn belongs to the interrupted code, and may look like an error.
        if event.was_made() && call.is_some_and(|call| call.name == "rt_sigreturn") {
            self.sigreturn(tid)?;
            return Ok(Some(tid));
        }
        let failed = is_error(ret);
        if let Some(call) = call.filter(|_| !failed && event.was_made()) {
            self.perform(tid, call, event, ret)?;
        }
        self.write(tid, &event.outs)?;
        let me = self.task_mut(tid)?;
        me.regs.answer(ret);
        me.place = StopPoint::Between;
        me.made = None;
        me.restart = Restart::of(event.nr, event.ip, ret);
        Ok(Some(tid))
    }

    /// Performs the effects of a call that succeeded, except its outputs.
    ///
    /// Only calls that cannot have effects outside of the process are made for real: a recording is untrusted, and may claim
    /// that its execve has no new image.
    fn perform(
        &mut self,
        tid: i32,
        call: &syscall::Syscall,
        event: &CallEvent,
        ret: i64,
    ) -> Result<()> {
        if agent::is_touched_by(call.name, &event.args, ret) {
            return Err(self.senseless(format!("{} on memory of rrapper's own", call.name)));
        }
        match call.name {
            "mmap" | "mremap" | "madvise" | "shmat" | "shmdt" => {
                self.make(tid, call.name, event, ret)
            }
            "brk" | "mprotect" | "munmap" | "pkey_mprotect" => {
                self.repeat(tid, call.name, event, ret)
            }
            "arch_prctl" => {
                let me = self.task_mut(tid)?;
                match event.args[0] {
                    ARCH_SET_FS => me.regs.set_fs_base(event.args[1]),
                    ARCH_SET_GS => me.regs.set_gs_base(event.args[1]),
                    _ => {}
                }
                Ok(())
            }
            "rt_sigaction" | "rt_sigprocmask" | "sigaltstack" | "set_tid_address"
            | "set_robust_list" | "prctl" => self.note(tid, call.name, event),
            "setrlimit" | "prlimit64" => self.limit_stack(tid, event),
            "fork" | "vfork" | "clone" | "clone3" => Ok(()),
            name if call.replay == Replay::Run => Err(self.diverged(
                format!("{name} to return {ret:#x}"),
                "a call that replay does not make",
            )),
            _ => Ok(()),
        }
    }

    /// Follows a call that sets kernel state of the task.
    fn note(&mut self, tid: i32, name: &str, event: &CallEvent) -> Result<()> {
        let memory = self.space_mut(tid)?.memory();
        let args = event.args;
        if name == "rt_sigaction" {
            let actions = self.task(tid)?.actions;
            if let Some(actions) = self.actions.get_mut(&actions) {
                actions.set(event, &memory);
            }
            return Ok(());
        }
        let me = self.task_mut(tid)?;
        match name {
            "rt_sigprocmask" => me.masks.set_blocked(event, &memory),
            "sigaltstack" => me.masks.set_stack(event, &memory),
            "set_tid_address" => me.clear_tid = args[0],
            "set_robust_list" => me.robust = (args[0], args[1]),
            "prctl" if args[0] == libc::PR_SET_NAME as u64 => {
                let mut name = [0; 16];
                let known = (1..=name.len())
                    .rev()
                    .find(|&len| memory_of(&event.ins, &memory, args[1], &mut name[..len]));
                let end = name.iter().position(|&b| b == 0).unwrap_or(name.len() - 1);
                me.name = known.map(|len| name[..end.min(len)].to_vec());
            }
            _ => {}
        }
        Ok(())
    }

    /// Follows a change to the limit of a stack.
    fn limit_stack(&mut self, tid: i32, event: &CallEvent) -> Result<()> {
        let Some((pid, size)) = event.stack_limit() else {
            return Ok(());
        };
        let pid = match pid {
            0 => self.task(tid)?.pid,
            pid => pid,
        };
        let Some(space) = self.tasks.values().find(|task| task.pid == pid) else {
            return Ok(());
        };
        let space = space.space;
        // A child that shares its parent's memory until it executes a program sets the limit for that program.
        let mut all = self.tasks.values();
        if all.any(|task| task.space == space && task.pid != pid) {
            return Ok(());
        }
        let space = self.spaces.get_mut(&space).ok_or(Error::AtEnd)?;
        Ok(space.task.set_stack_limit(size)?)
    }

    /// rt_sigreturn: the kernel takes the frame from the stack, and with it all registers.
    fn sigreturn(&mut self, tid: i32) -> Result<()> {
        let space = self.task(tid)?.space;
        let number = self.number;
        let diverged = |stop: Stop| Error::Diverged {
            event: number,
            expected: "rt_sigreturn()".into(),
            actual: format!("{stop:?}"),
            doubt: Doubt::default(),
        };
        let space = self.spaces.get_mut(&space).ok_or(Error::AtEnd)?;
        space.load(tid, &mut self.tasks)?;
        let memory = space.memory();
        let Some(me) = self.tasks.get_mut(&tid) else {
            return Ok(());
        };
        let frame = me.regs.sp();
        let task = &mut space.task;
        if !std::mem::take(&mut space.entered) {
            let mut regs = me.regs.plain_at(agent::SYSCALL);
            regs.set_ret(libc::SYS_rt_sigreturn);
            task.set_regs(&regs)?;
            match task.go_on()? {
                Stop::Entry if task.is_at_agent_call(libc::SYS_rt_sigreturn, None)? => {}
                other => return Err(diverged(other)),
            }
        }
        match task.to_exit()? {
            Stop::Syscall => {}
            other => return Err(diverged(other)),
        }
        me.put(task.regs()?);
        let blocked = task.sigmask()?;
        task.set_sigmask(0)?;
        me.masks.leave_handler(blocked, frame, &memory);
        Ok(())
    }

    /// Has the space's process make the very call that the task makes.
    fn repeat(&mut self, tid: i32, name: &str, event: &CallEvent, ret: i64) -> Result<()> {
        // A brk that failed returned the present break.
        if name == "brk" && ret as u64 != event.args[0] {
            return Ok(());
        }
        let space = self.space_mut(tid)?;
        if name == "munmap" {
            space.advice.forget(event.args[0], event.args[1]);
        }
        let made = if space.entered && space.loaded == Some(tid) {
            space.entered = false;
            match space.task.to_exit()? {
                Stop::Syscall => space.task.regs()?.ret(),
                other => return Err(self.unlike(name, ret, format!("{other:?}"))),
            }
        } else {
            let mut remote = space.remote()?;
            let made = remote.call(event.nr.into(), event.args)?;
            remote.finish()?;
            made
        };
        match made == ret {
            true => Ok(()),
            false => Err(self.unlike(name, ret, format!("{made:#x}"))),
        }
    }

    fn unlike(&self, name: &str, ret: i64, actual: impl Into<String>) -> Error {
        self.diverged(format!("{name} to return {ret:#x}"), actual)
    }

    /// Drops shared objects that no space maps, before there are more than the limit of open files.
    fn drop_objects(&mut self) -> Result<()> {
        /// Open files that are reserved for other purposes.
        const SPARE: u64 = 256;
        /// The maximum number of mappings of a process.
        const MOST: u64 = 1 << 16;
        /// The search takes time, and runs only after this many more objects.
        const FEW: usize = 256;
        if self.objects.len() < self.objects_looked_for {
            return Ok(());
        }
        let sharing = self.spaces.values().filter(|space| space.shares);
        self.objects
            .forget_unmapped(sharing.map(|space| space.task.tid()))?;
        self.objects_looked_for = (self.objects.len() * 2).max(FEW);
        let most = open_file_limit::raise().saturating_sub(SPARE).min(MOST) as usize;
        self.objects_looked_for = self.objects_looked_for.min(most.max(1));
        if self.objects.len() >= most {
            return Err(Error::TooMuchShared {
                event: self.number,
                most,
            });
        }
        Ok(())
    }

    /// Makes the call in the space, at the recorded address.
    fn make(&mut self, tid: i32, name: &str, event: &CallEvent, ret: i64) -> Result<()> {
        let recording = std::sync::Arc::clone(&self.recording);
        if let Effect::Share { object, file, size } = event.effect {
            self.drop_objects()?;
            let file = file.map(|file| recording.file_path(file)).transpose()?;
            self.objects.add(object, file.as_deref(), size)?;
            if name == "mmap" && event.args[3] as i32 & libc::MAP_ANONYMOUS == 0 {
                self.objects.note_file(object);
            }
        }
        let space = self.task(tid)?.space;
        let space = self.spaces.get_mut(&space).ok_or(Error::AtEnd)?;
        let args = event.args;
        match name {
            "mmap" => space.advice.forget(ret as u64, args[1]),
            "mremap" => {
                space.advice.forget(args[0], args[1]);
                space.advice.forget(ret as u64, args[2]);
            }
            "madvise" => space.advice.follow(args[0], args[1], args[2] as i32),
            "shmat" => {
                if let Effect::Share { object, size, .. } = event.effect {
                    if agent::is_touched(ret as u64, size) {
                        return Err(self.senseless("shmat on memory of rrapper's own"));
                    }
                    self.objects.note_attached(object);
                }
            }
            _ => {}
        }
        space.shares |= matches!(event.effect, Effect::Share { .. });
        let parts = match name {
            "shmdt" => self.objects.attached_at(space.task.tid(), args[0])?,
            _ => Vec::new(),
        };
        if name == "shmdt" && parts.is_empty() {
            return Err(self.unlike(name, ret, "nothing that was attached there"));
        }
        let mut remote = space.remote()?;
        let made = match name {
            "mmap" => Some(map(&mut remote, event, ret, &recording, &self.objects)?),
            "shmat" => attach(&mut remote, event, ret, &self.objects)?,
            "shmdt" => Some(unmap(&mut remote, &parts)?),
            "mremap" => Some(remap(&mut remote, args, ret)?),
            _ => advise(&mut remote, args)?,
        };
        remote.finish()?;
        match made {
            Some(made) if made != ret => Err(self.unlike(name, ret, format!("{made:#x}"))),
            _ => Ok(()),
        }
    }
}

/// mmap at the recorded address. Mappings of files are private ones of the kept copy; a mapping that is shared between
/// spaces is one of an object of the replay.
fn map(
    remote: &mut Remote<'_>,
    event: &CallEvent,
    ret: i64,
    recording: &Recording,
    objects: &Objects,
) -> Result<i64> {
    let [_, len, prot, flags, _, offset] = event.args;
    if let Effect::Share { object, .. } = event.effect {
        let offset = match flags as i32 & libc::MAP_ANONYMOUS {
            0 => offset,
            _ => 0,
        };
        return Ok(objects.map(remote, object, ret as u64, len, prot, offset)?);
    }
    let keep = libc::MAP_ANONYMOUS
        | libc::MAP_GROWSDOWN
        | libc::MAP_NORESERVE
        | libc::MAP_STACK
        | libc::MAP_DENYWRITE;
    let flags = flags as i32 & keep | libc::MAP_PRIVATE | libc::MAP_FIXED;
    let Effect::Map(file) = event.effect else {
        // A mapping without a kept file is anonymous, or one of /dev/zero.
        let flags = flags | libc::MAP_ANONYMOUS;
        let args = [ret as u64, len, prot, flags as u64, u64::MAX, 0];
        return Ok(remote.call(libc::SYS_mmap, args)?);
    };
    let path = recording.file_path(file)?;
    remote.reset_scratch();
    let name = remote.put_str(path.as_os_str().as_bytes())?;
    let how = kept_file_flags(&path) as u64;
    let args = [libc::AT_FDCWD as u64, name, how, 0, 0, 0];
    let fd = remote.must(&format!("open {}", path.display()), libc::SYS_openat, args)?;
    let made = remote.call(
        libc::SYS_mmap,
        [ret as u64, len, prot, flags as u64, fd, offset],
    )?;
    remote.call(libc::SYS_close, [fd, 0, 0, 0, 0, 0])?;
    Ok(made)
}

/// shmat: the whole segment.
fn attach(
    remote: &mut Remote<'_>,
    event: &CallEvent,
    ret: i64,
    objects: &Objects,
) -> Result<Option<i64>> {
    let Effect::Share { object, size, .. } = event.effect else {
        return Ok(None);
    };
    let prot = segment_prot(event.args[2] as i32);
    let made = objects.map(remote, object, ret as u64, page_end(size), prot, 0)?;
    Ok(Some(made))
}

/// Follows only advice that changes contents. The rest would remove pages from copies of the process
/// (DONTFORK, WIPEONFORK: see [`super::space::Advice`]) or at a time that the kernel chooses (FREE).
fn advise(remote: &mut Remote<'_>, args: [u64; 6]) -> Result<Option<i64>> {
    let advice = args[2] as i32;
    if advice == libc::MADV_REMOVE {
        let made = remote.call(libc::SYS_madvise, args)?;
        if made == 0 {
            return Ok(Some(made));
        }
    }
    match advice {
        libc::MADV_DONTNEED | libc::MADV_REMOVE | libc::MADV_DONTNEED_LOCKED => {
            let args = [args[0], args[1], libc::MADV_DONTNEED as u64, 0, 0, 0];
            Ok(Some(remote.call(libc::SYS_madvise, args)?))
        }
        _ => Ok(None),
    }
}
