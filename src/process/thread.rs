//! A stopped thread of a process, and its attributes in the kernel.

use crate::recording::NewTask;
use crate::syscall::Memory;
use crate::tracee::segv::SegvState;
use crate::tracee::{Regs, Remote, Result, Stopped, TaskMemory, agent, proc};

const SS_DISABLE: u8 = 2;

/// The `stack_t` of a task that has no alternate stack: its address, flags (and padding), size.
pub(crate) const NO_ALTERNATE_STACK: [u8; 24] = {
    let mut stack = [0; 24];
    stack[8] = SS_DISABLE;
    stack
};

/// The stop point of a thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopPoint {
    /// At the entry of a call that has not been answered.
    Entry,
    /// Between calls.
    Between,
}

/// A stopped thread of a process.
#[derive(Debug)]
pub struct Thread {
    /// The recorded tid.
    pub tid: i32,
    /// The kernel's task.
    pub task: Stopped,
    /// The stop point of the task.
    pub place: StopPoint,
    /// The attributes of the task in the kernel.
    pub attributes: TaskAttributes,
    /// The signal mask and action for SIGSEGV, which a trapped read of the time stamp counter must not undo.
    pub segv: SegvState,
}

impl Thread {
    /// Creates the task of a clone, at whose entry the creating task is stopped, and writes the tids to both tasks'
    /// memory as [`NewTask`] has them. The new task is stopped at its beginning; it is a thread, or the first one of a
    /// process that is a fork or has the same address space. `makers` are the attributes of the creating task.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn born(
        maker: &mut Stopped,
        segv: &SegvState,
        makers: &TaskAttributes,
        born: &NewTask,
    ) -> Result<Thread> {
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
        let is_thread = born.pid != born.tid;
        let shares = born.flags & libc::CLONE_VM as u64 != 0;
        let mut task = match (is_thread, shares) {
            (true, _) => remote.thread()?,
            (false, true) => remote.process_beside()?,
            (false, false) => remote.fork_between()?,
        };
        remote.finish()?;
        let clears = born.flags & libc::CLONE_CHILD_CLEARTID as u64 != 0;
        let mut attributes = TaskAttributes {
            clear_tid: if clears { born.child_tid } else { 0 },
            ..TaskAttributes::default()
        };
        if !is_thread {
            attributes.name.clone_from(&makers.name);
            // Two tasks cannot use one stack; the parent of vfork waits.
            if !shares || born.flags & libc::CLONE_VFORK as u64 != 0 {
                attributes.stack = makers.stack;
            }
        }
        attributes.apply(&mut task, is_thread || !shares)?;
        settle(&mut task, &regs, Some(&vector), sigmask, StopPoint::Between)?;
        let memory = task.memory();
        for (flag, at, number) in [
            (libc::CLONE_PARENT_SETTID, born.parent_tid, born.named),
            (libc::CLONE_CHILD_SETTID, born.child_tid, born.own_number()),
        ] {
            if born.flags & flag as u64 != 0 {
                // Like the kernel, this ignores an address that cannot be written.
                let _ = memory.write(at, &number.to_le_bytes());
            }
        }
        Ok(Thread {
            tid: born.tid,
            task,
            place: StopPoint::Between,
            attributes,
            segv: segv.clone(),
        })
    }

    /// Borrows the task for remote calls, at either stop point.
    ///
    /// # Errors
    /// If the task has been killed.
    pub fn remote(&mut self) -> Result<Remote<'_>> {
        match self.place {
            StopPoint::Entry => self.task.remote_at_entry(),
            StopPoint::Between => self.task.remote_at_boundary(),
        }
    }

    /// Makes a process in the address space of this one, with its signal actions, whose only task is between calls and has no
    /// state of its own yet.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn process_beside(&mut self) -> Result<Stopped> {
        let mut remote = self.remote()?;
        let task = remote.process_beside()?;
        remote.finish()?;
        Ok(task)
    }

    /// The signal actions of its process, for signals 1 to 64.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn actions(&mut self) -> Result<Vec<SignalAction>> {
        read_actions(self.remote()?)
    }

    /// Those of a process of which a task stands between calls.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn actions_of(task: &mut Stopped) -> Result<Vec<SignalAction>> {
        read_actions(task.remote_at_boundary()?)
    }
}

fn read_actions(mut remote: Remote<'_>) -> Result<Vec<SignalAction>> {
    let tid = remote.memory().tid();
    // The default action has nothing else that matters, but for the flags of SIGCHLD.
    let special = proc::caught(tid)? | proc::ignored(tid)? | 1 << (libc::SIGCHLD - 1);
    let at = remote.put(&SignalAction::default())?;
    let mut actions = vec![SignalAction::default(); SIGNALS];
    for (signal, action) in (1..).zip(&mut actions) {
        if special & 1 << (signal - 1) == 0 {
            continue;
        }
        let args = [signal, 0, at, 8, 0, 0];
        remote.must("read its signal handlers", libc::SYS_rt_sigaction, args)?;
        remote.memory().read_exact(at, action)?;
    }
    remote.finish()?;
    Ok(actions)
}

/// The kernel's `struct sigaction` on x86-64: handler, flags, restorer, mask.
pub(crate) type SignalAction = [u8; 32];

const SIGNALS: usize = 64;

/// Sets the signal actions of a process, from that of signal 1 on; `before` are those that it has. The task is between calls.
pub(crate) fn set_actions(
    task: &mut Stopped,
    actions: &[SignalAction],
    before: &[SignalAction],
) -> Result<()> {
    let mut remote = task.remote_at_boundary()?;
    for (signal, action) in (1..).zip(actions) {
        let is_set = before.get(signal as usize - 1) == Some(action);
        if is_set || [libc::SIGKILL, libc::SIGSTOP].contains(&signal) {
            continue;
        }
        remote.reset_scratch();
        let at = remote.put(action)?;
        let args = [signal as u64, at, 0, 8, 0, 0];
        remote.must("set its signal handlers", libc::SYS_rt_sigaction, args)?;
    }
    remote.finish()
}

/// The state of a thread apart from the kernel's task that has it, which is given to a task of a copy.
#[derive(Clone, Debug)]
pub struct ThreadState {
    /// Its tid as recorded.
    pub tid: i32,
    /// The point at which it is stopped.
    pub place: StopPoint,
    /// Its general registers.
    pub regs: Regs,
    /// Its vector registers, as [`Stopped::vector`] returns them; `None` for those that the task has.
    pub vector: Option<Vec<u8>>,
    /// Its signal mask.
    pub sigmask: u64,
    /// Its attributes in the kernel.
    pub attributes: TaskAttributes,
    /// See [`Thread::segv`].
    pub segv: SegvState,
}

impl ThreadState {
    /// The state of a thread.
    ///
    /// # Errors
    /// If the thread has been killed.
    pub fn of(thread: &Thread) -> Result<ThreadState> {
        Ok(ThreadState {
            tid: thread.tid,
            place: thread.place,
            regs: thread.task.regs()?,
            vector: Some(thread.task.vector()?),
            sigmask: thread.task.sigmask()?,
            attributes: thread.attributes.clone(),
            segv: thread.segv.clone(),
        })
    }

    /// Gives the state to a fresh task between calls: one that was made by [`image::restore`](crate::image::restore), by
    /// forking, or by [`Remote::thread`] in a task that has not been given its own state yet.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn give_to(self, mut task: Stopped) -> Result<Thread> {
        self.attributes.apply(&mut task, false)?;
        self.settle(task)
    }

    /// Puts a task, which is stopped between calls and has the attributes of the thread, into the state of the thread.
    pub(super) fn settle(self, mut task: Stopped) -> Result<Thread> {
        let vector = self.vector.as_deref();
        settle(&mut task, &self.regs, vector, self.sigmask, self.place)?;
        Ok(Thread {
            tid: self.tid,
            task,
            place: self.place,
            attributes: self.attributes,
            segv: self.segv,
        })
    }
}

/// The attributes of a task in the kernel, besides the registers, the signal mask and the state that threads share.
#[derive(Clone, Debug)]
pub struct TaskAttributes {
    /// The alternate stack: `stack_t`.
    pub stack: [u8; 24],
    /// The head of the list of robust futexes, and the size of the head.
    pub robust: (u64, u64),
    /// The address at which the kernel writes zero when the task ends (`clear_child_tid`); 0 for none.
    pub clear_tid: u64,
    /// The name that the task gave itself (`PR_SET_NAME`).
    pub name: Option<Vec<u8>>,
    /// The tid, as the task knows it, of the thread that the clone at whose entry the task is stopped has created
    /// already.
    pub made: Option<i32>,
}

/// The state of a task whose program has just been executed.
impl Default for TaskAttributes {
    fn default() -> TaskAttributes {
        TaskAttributes {
            stack: NO_ALTERNATE_STACK,
            robust: (0, 0),
            clear_tid: 0,
            name: None,
            made: None,
        }
    }
}

impl TaskAttributes {
    /// Updates the attributes after a successful call of the kernel.
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

    /// Takes the tid, as the task knows it, of the thread that the clone at whose entry the task is stopped has created
    /// already. The clone is then answered.
    pub fn take_made(&mut self) -> Option<i32> {
        self.made.take()
    }

    /// Sets the attributes in the kernel. The task is a new copy that is stopped between calls; its registers are lost.
    /// `forked`: the task is a fork of the very task, and has inherited the alternate stack and the name.
    pub(crate) fn apply(&self, task: &mut Stopped, forked: bool) -> Result<()> {
        // Takes the task off the alternate stack, which cannot be changed while it is in use.
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

/// Puts a task, which is stopped between calls, into the state of a task with these registers and this stop point.
fn settle(
    task: &mut Stopped,
    regs: &Regs,
    vector: Option<&[u8]>,
    sigmask: u64,
    place: StopPoint,
) -> Result<()> {
    if let Some(vector) = vector {
        task.set_vector(vector)?;
    }
    task.set_sigmask(sigmask)?;
    match place {
        StopPoint::Entry => task.enter(regs, regs.nr() as u64),
        StopPoint::Between => {
            let mut regs = *regs;
            regs.set_ip(regs.ip());
            task.set_regs(&regs)
        }
    }
}

/// Creates a thread in a process whose task is stopped between calls.
pub(crate) fn new_thread(task: &mut Stopped) -> Result<Stopped> {
    let mut remote = task.remote_at_boundary()?;
    let thread = remote.thread()?;
    remote.finish()?;
    Ok(thread)
}
