//! A live copy of a recorded process.

use super::execute::{page_end, remap, segment_prot, unmap};
use super::objects::Objects;
use super::signal_state::Masks;
use super::space::Pages;
use crate::history::{KernelChanges, Recording};
use crate::kernel::{DescriptorTable, Program};
use crate::recording::{Born, CallEvent, Effect, Event};
use crate::sandbox;
use crate::syscall::Memory;
use crate::tracee::segv::SegvState;
use crate::tracee::{Error, Regs, Result, Stopped, TaskMemory, agent, proc};
use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

/// Where a stopped process stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// At the entry of a call: made and not yet answered.
    Entry,
    /// Between calls.
    Between,
}

/// A thread of a process besides the one that is driven. It stays stopped.
#[derive(Debug)]
pub struct Thread {
    /// Its tid as recorded.
    pub tid: i32,
    /// The thread.
    pub task: Stopped,
    /// Where it stands.
    pub place: Place,
    /// What the kernel keeps of it.
    pub kept: Kept,
}

impl Thread {
    /// Makes the thread that a task asks for, which stands at the entry of its clone; and tells both the new one's tid as
    /// [`Born`] has it. The new one stands where it begins.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn born(maker: &mut Stopped, born: &Born) -> Result<Thread> {
        let mut regs = maker.regs()?;
        regs.answer(0);
        if born.stack != 0 {
            regs.set_sp(born.stack);
        }
        if born.flags & libc::CLONE_SETTLS as u64 != 0 {
            regs.set_fs_base(born.tls);
        }
        let (vector, sigmask) = (maker.vector()?, maker.sigmask()?);
        let mut remote = maker.remote_at_entry()?;
        let mut task = remote.thread()?;
        remote.finish()?;
        let clears = born.flags & libc::CLONE_CHILD_CLEARTID as u64 != 0;
        let kept = Kept {
            stack: Masks::default().stack(),
            clear_tid: if clears { born.child_tid } else { 0 },
            ..Kept::default()
        };
        kept.apply(&mut task, true)?;
        settle(&mut task, &regs, Some(&vector), sigmask, Place::Between)?;
        let memory = task.memory();
        for (flag, at, number) in [
            (libc::CLONE_PARENT_SETTID, born.parent_tid, born.named),
            (libc::CLONE_CHILD_SETTID, born.child_tid, born.own_number()),
        ] {
            if born.flags & flag as u64 != 0 {
                // As in the kernel, nobody cares whether it can be written.
                let _ = memory.write(at, &number.to_le_bytes());
            }
        }
        Ok(Thread {
            tid: born.tid,
            task,
            place: Place::Between,
            kept,
        })
    }
}

/// A process spun off a replay: a copy of its own, stopped, with what is known of the recorded one.
/// Killed when dropped.
#[derive(Debug)]
pub struct Process {
    /// Its other threads.
    pub threads: Vec<Thread>,
    /// Threads that have ended, as far as the program knows: one that the kernel takes for the process's first must outlive
    /// the others, and one that is killed takes them along.
    pub retired: Vec<Stopped>,
    /// The task that is driven.
    pub task: Stopped,
    /// Where that stands.
    pub place: Place,
    /// The recording that it comes from.
    pub recording: Arc<Recording>,
    /// The event at which it was spun off, and what it is.
    pub event: (u64, Event),
    /// The file of the program that it runs.
    pub program: Arc<Program>,
    /// Its pid as recorded.
    pub pid: i32,
    /// The tid of the task, as recorded.
    pub tid: i32,
    /// Its parent's pid as recorded.
    pub ppid: i32,
    /// What its descriptors are; the kernel knows none of them before it goes live.
    pub descriptors: DescriptorTable,
    /// What it did to what the kernel keeps, since it was spun off.
    pub since: KernelChanges,
    /// What a trapped read of the time stamp counter must not undo.
    pub segv: SegvState,
    /// The memory that it shares with itself: see [`SharedMemory`].
    pub shared: SharedMemory,
    /// What the kernel keeps of the task.
    pub kept: Kept,
    /// What makes sandboxes for it.
    pub sandboxes: sandbox::Shared,
    /// The pid that the kernel knows it by.
    pub real_pid: i32,
    /// What jumps have brought so far (see [`Frame::Jump`](crate::recording::Frame::Jump)), for as long as the process
    /// is in every respect as it was recorded.
    pub pages: Option<Pages>,
}

/// Memory that several mappings of a process show; it would be shared with copies of the process, too, were it not
/// copied for them.
#[derive(Clone, Debug, Default)]
pub struct SharedMemory(Rc<RefCell<Objects>>);

impl SharedMemory {
    pub(super) fn objects(&self) -> std::cell::Ref<'_, Objects> {
        self.0.borrow()
    }

    /// Gives a copy of a process, between calls, copies of these.
    pub(super) fn of_copy(objects: &Objects, copy: &mut Stopped) -> Result<SharedMemory> {
        let copies = objects.detach(copy)?;
        Ok(SharedMemory(Rc::new(RefCell::new(copies))))
    }

    /// Writes to the process's memory, also where it may only read what it shares.
    ///
    /// # Errors
    /// If nothing is there.
    pub fn write(&self, memory: TaskMemory, addr: u64, bytes: &[u8]) -> Result<()> {
        memory.write(addr, bytes).or_else(|error| {
            let written = self.0.borrow().write(memory, addr, bytes);
            written.map_err(|_| error)
        })
    }

    /// Does in the process what a recorded mmap of shared memory did; nothing where something else is mapped
    /// there by now.
    ///
    /// # Errors
    /// If the memory cannot be made, or the process not be asked.
    pub fn map(
        &mut self,
        task: &mut Stopped,
        recording: &Recording,
        event: &CallEvent,
    ) -> Result<Option<i64>> {
        let [_, len, prot, flags, _, offset] = event.args;
        let flags = flags as i32;
        let offset = match flags & libc::MAP_ANONYMOUS {
            0 => offset,
            _ => 0,
        };
        let fixed = flags & libc::MAP_FIXED != 0;
        self.place(task, recording, event, (len, prot, offset), fixed)
    }

    /// The same of a recorded shmat.
    ///
    /// # Errors
    /// If the memory cannot be made, or the process not be asked.
    pub fn attach(
        &mut self,
        task: &mut Stopped,
        recording: &Recording,
        event: &CallEvent,
    ) -> Result<Option<i64>> {
        let Effect::Share { object, size, .. } = event.effect else {
            return Ok(None);
        };
        let flags = event.args[2] as i32;
        let how = (page_end(size), segment_prot(flags), 0);
        let made = self.place(task, recording, event, how, flags & libc::SHM_REMAP != 0)?;
        if made.is_some() {
            self.0.borrow_mut().note_attached(object);
        }
        Ok(made)
    }

    /// Unmaps what was attached here; what shmdt then returns.
    ///
    /// # Errors
    /// If the process cannot be asked.
    pub fn detach(&mut self, task: &mut Stopped, at: u64) -> Result<i64> {
        let parts = self.0.borrow().attached_at(task.tid(), at)?;
        if parts.is_empty() {
            return Ok(-i64::from(libc::EINVAL));
        }
        let mut remote = task.remote_at_entry()?;
        let made = unmap(&mut remote, &parts)?;
        remote.finish()?;
        Ok(made)
    }

    /// Makes shared memory that is mapped at `addr` as large as a mapping of `len` bytes there shows: no frame tells a copy
    /// when it grows.
    ///
    /// # Errors
    /// If the process's mappings cannot be read, or there is no room.
    pub fn extend(&self, tid: i32, addr: u64, len: u64) -> Result<()> {
        self.0.borrow().extend(tid, addr, len)
    }

    /// `how`: length, protection, and offset.
    fn place(
        &mut self,
        task: &mut Stopped,
        recording: &Recording,
        event: &CallEvent,
        how: (u64, u64, u64),
        fixed: bool,
    ) -> Result<Option<i64>> {
        let (len, prot, offset) = how;
        let (Effect::Share { object, file, size }, Some(at)) = (&event.effect, event.ret) else {
            return Ok(None);
        };
        let at = at as u64;
        let end = at.saturating_add(len);
        if agent::overlaps(at, end) {
            return Ok(None);
        }
        let flags = match fixed {
            true => libc::MAP_FIXED,
            false => libc::MAP_FIXED_NOREPLACE,
        };
        let path = file
            .map(|id| recording.kept_file(id))
            .transpose()
            .map_err(|e| Error::os("map what was shared", task.tid(), e))?;
        // No frame tells a copy when it grows.
        let size = offset.saturating_add(len).max(*size);
        let mut objects = self.0.borrow_mut();
        objects.add(*object, path.as_deref(), size)?;
        let mut remote = task.remote_at_entry()?;
        let made = objects.map_by(&mut remote, *object, flags, (at, len, prot, offset))?;
        remote.finish()?;
        Ok(Some(made).filter(|&made| made != -i64::from(libc::EEXIST)))
    }
}

/// Does in a process, whose task stands at the entry of the call, what a recorded mremap did; nothing where something else
/// is in its place by now.
///
/// # Errors
/// If the process cannot be asked.
pub fn remap_as_recorded(task: &mut Stopped, event: &CallEvent) -> Result<Option<i64>> {
    let [old, old_len, new_len, flags, ..] = event.args;
    let Some(at) = event.ret.filter(|&ret| ret > 0).map(|ret| ret as u64) else {
        return Ok(None);
    };
    let end = at.saturating_add(new_len);
    let fixed = flags & libc::MREMAP_FIXED as u64 != 0;
    let own = old..old.saturating_add(old_len.max(1));
    let taken = !fixed
        && proc::maps(task.tid())?.iter().any(|map| {
            let behind = map.end > own.end && map.start.max(own.end) < end && at < map.end;
            let before = map.start < own.start && at < map.end.min(own.start) && map.start < end;
            behind || before
        });
    if taken || agent::overlaps(at, end) {
        return Ok(None);
    }
    let mut remote = task.remote_at_entry()?;
    let made = remap(&mut remote, event.args, at as i64)?;
    remote.finish()?;
    Ok(Some(made).filter(|&made| made == at as i64))
}

/// What the kernel keeps of a task besides registers, signal mask and what its process shares.
#[derive(Clone, Debug, Default)]
pub struct Kept {
    /// The alternate stack: `stack_t`.
    pub(super) stack: [u8; 24],
    /// The head of the list of robust futexes, and the size of that head.
    pub(super) robust: (u64, u64),
    /// Where zero is written at its end; 0 for nowhere.
    pub(super) clear_tid: u64,
    /// The name that it gave itself.
    pub(super) name: Option<Vec<u8>>,
    /// The thread that the call at whose entry it stands has made already, as it is told.
    pub(super) made: Option<i32>,
}

impl Kept {
    /// Follows a call that the kernel has answered without an error.
    pub fn follow(&mut self, nr: u32, args: &[u64; 6], memory: &TaskMemory) {
        match i64::from(nr) {
            libc::SYS_set_tid_address => self.clear_tid = args[0],
            libc::SYS_set_robust_list => self.robust = (args[0], args[1]),
            libc::SYS_sigaltstack if args[0] != 0 => {
                let mut stack = [0; 24];
                if memory.read(args[0], &mut stack) == stack.len() {
                    self.stack = stack;
                }
            }
            libc::SYS_prctl if args[0] == libc::PR_SET_NAME as u64 => {
                let mut name = [0; 16];
                let read = memory.read(args[1], &mut name);
                let end = name[..read].iter().position(|&b| b == 0);
                self.name = Some(name[..end.unwrap_or(read.min(15))].to_vec());
            }
            _ => {}
        }
    }

    /// Where zero is written at its end; 0 for nowhere.
    pub fn clear_tid(&self) -> u64 {
        self.clear_tid
    }

    /// The thread that the call at whose entry the task stands has made already, as the task is told; the call is
    /// answered then.
    pub fn take_made(&mut self) -> Option<i32> {
        self.made.take()
    }

    /// Tells the kernel. The task is a fresh copy that stands between calls; its registers are lost.
    /// `forked`: it is a fork of the very task, which the kernel has given the same stack and name.
    pub(super) fn apply(&self, task: &mut Stopped, forked: bool) -> Result<()> {
        // Away from the alternate stack, which cannot be changed by who is on it.
        let mut aside = task.regs()?;
        aside.set_ip(agent::SYSCALL);
        aside.set_sp(agent::END);
        task.set_regs(&aside)?;
        let mut remote = task.remote_at_boundary()?;
        if !forked {
            let stack = remote.put(&self.stack)?;
            let what = "set its alternate stack";
            remote.must(what, libc::SYS_sigaltstack, [stack, 0, 0, 0, 0, 0])?;
        }
        let (head, size) = self.robust;
        if head != 0 {
            let args = [head, size, 0, 0, 0, 0];
            remote.must("set its robust list", libc::SYS_set_robust_list, args)?;
        }
        if self.clear_tid != 0 {
            let args = [self.clear_tid, 0, 0, 0, 0, 0];
            remote.must("set its tid address", libc::SYS_set_tid_address, args)?;
        }
        if let Some(name) = self.name.as_ref().filter(|_| !forked) {
            let at = remote.put_str(name)?;
            let args = [libc::PR_SET_NAME as u64, at, 0, 0, 0, 0];
            remote.must("set its name", libc::SYS_prctl, args)?;
        }
        remote.finish()
    }
}

/// Puts a task that stands between calls where a task with these registers stands.
pub(super) fn settle(
    task: &mut Stopped,
    regs: &Regs,
    vector: Option<&[u8]>,
    sigmask: u64,
    place: Place,
) -> Result<()> {
    if let Some(vector) = vector {
        task.set_vector(vector)?;
    }
    task.set_sigmask(sigmask)?;
    match place {
        Place::Entry => task.enter(regs, regs.nr() as u64),
        Place::Between => {
            let mut regs = *regs;
            regs.set_ip(regs.ip());
            task.set_regs(&regs)
        }
    }
}

impl Process {
    /// The pid that the kernel knows it by.
    pub fn real_pid(&self) -> i32 {
        self.real_pid
    }

    /// Its memory.
    pub fn memory(&self) -> TaskMemory {
        self.task.memory()
    }

    /// Its threads' tids as recorded, by rising number.
    pub fn tids(&self) -> Vec<i32> {
        let others = self.threads.iter().map(|thread| thread.tid);
        let mut tids: Vec<i32> = others.chain([self.tid]).collect();
        tids.sort_unstable();
        tids
    }

    /// A copy of the copy.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn fork(&mut self) -> Result<Process> {
        let mut remote = match self.place {
            Place::Entry => self.task.remote_at_entry()?,
            Place::Between => self.task.remote_at_boundary()?,
        };
        let regs = *remote.saved();
        let mut task = remote.fork_between()?;
        remote.finish()?;
        let shared = SharedMemory::of_copy(&self.shared.0.borrow(), &mut task)?;
        let sigmask = self.task.sigmask()?;
        let vector = self.task.vector()?;
        self.kept.apply(&mut task, true)?;
        let mut threads = Vec::new();
        for thread in &self.threads {
            let regs = thread.task.regs()?;
            let vector = thread.task.vector()?;
            let mut copy = new_thread(&mut task)?;
            thread.kept.apply(&mut copy, false)?;
            let sigmask = thread.task.sigmask()?;
            settle(&mut copy, &regs, Some(&vector), sigmask, thread.place)?;
            threads.push(Thread {
                tid: thread.tid,
                task: copy,
                place: thread.place,
                kept: thread.kept.clone(),
            });
        }
        settle(&mut task, &regs, Some(&vector), sigmask, self.place)?;
        Ok(Process {
            threads,
            retired: Vec::new(),
            real_pid: task.tid(),
            pages: self.pages.clone(),
            task,
            place: self.place,
            recording: Arc::clone(&self.recording),
            event: self.event.clone(),
            program: Arc::clone(&self.program),
            pid: self.pid,
            tid: self.tid,
            ppid: self.ppid,
            descriptors: self.descriptors.clone(),
            since: self.since.clone(),
            segv: self.segv.clone(),
            shared,
            kept: self.kept.clone(),
            sandboxes: self.sandboxes.clone(),
        })
    }

    /// Takes the process into a sandbox of its own: what comes back is a copy, with its recorded numbers where they are
    /// to be had: those by which `number` says that its threads know themselves. `restore` is called when the copy is inside and has no other threads yet; it stands between calls.
    ///
    /// # Errors
    /// If the system refuses a step.
    pub fn into_sandbox<R>(
        mut self,
        request: &sandbox::Request<'_>,
        number: impl Fn(i32) -> i32,
        restore: impl FnOnce(&mut Stopped) -> R,
    ) -> sandbox::Result<(Process, sandbox::Sandbox, R)> {
        // Calls of ours unblock signals of ours.
        let sigmask = self.task.sigmask()?;
        let vector = self.task.vector()?;
        let mut remote = match self.place {
            Place::Entry => self.task.remote_at_entry()?,
            Place::Between => self.task.remote_at_boundary()?,
        };
        let regs = *remote.saved();
        // What has threads does not get into namespaces.
        let mut shell = match self.threads.is_empty() && self.retired.is_empty() {
            true => {
                drop(remote);
                self.task
            }
            false => remote.fork_between()?,
        };
        // Inside it does not see us, who have what it shares.
        let shared = SharedMemory::of_copy(&self.shared.0.borrow(), &mut shell)?;
        let (mut first, sandbox) = self.sandboxes.enter(shell, request)?;
        let real_pid = first.tid();
        let restored = restore(&mut first);
        // The kernel takes the task that is there for the process's first.
        let mut standing = vec![(self.tid, &self.kept, self.place, regs, vector, sigmask)];
        for thread in &self.threads {
            let (regs, sigmask) = (thread.task.regs()?, thread.task.sigmask()?);
            let vector = thread.task.vector()?;
            standing.push((
                thread.tid,
                &thread.kept,
                thread.place,
                regs,
                vector,
                sigmask,
            ));
        }
        let leader = standing.iter().position(|(tid, ..)| *tid == self.pid);
        standing.swap(0, leader.unwrap_or(0));
        let mut copies = Vec::new();
        for (at, (tid, kept, ..)) in standing.iter().enumerate() {
            if at == 0 {
                kept.apply(&mut first, *tid == self.tid)?;
                continue;
            }
            let (mut copy, _) = sandbox.thread(&mut first, number(*tid))?;
            kept.apply(&mut copy, false)?;
            copies.push(copy);
        }
        let mut driven = None;
        let mut threads = Vec::new();
        for ((tid, kept, place, regs, vector, sigmask), mut copy) in standing
            .into_iter()
            .zip(std::iter::once(first).chain(copies))
        {
            sandbox.seal(&mut copy)?;
            settle(&mut copy, &regs, Some(&vector), sigmask, place)?;
            match tid == self.tid {
                true => driven = Some(copy),
                false => threads.push(Thread {
                    tid,
                    task: copy,
                    place,
                    kept: kept.clone(),
                }),
            }
        }
        let Some(task) = driven else {
            return Err(Error::os(
                "find its task",
                self.tid,
                std::io::Error::from(std::io::ErrorKind::NotFound),
            )
            .into());
        };
        let process = Process {
            real_pid,
            retired: Vec::new(),
            task,
            threads,
            shared,
            ..self
        };
        Ok((process, sandbox, restored))
    }
}

/// A new thread of a process that stands between calls.
pub(super) fn new_thread(task: &mut Stopped) -> Result<Stopped> {
    let mut remote = task.remote_at_boundary()?;
    let thread = remote.thread()?;
    remote.finish()?;
    Ok(thread)
}
