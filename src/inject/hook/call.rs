//! A call, as a hook sees it.

use super::change::Patch;
use super::decision::Decision;
use super::scratch::{ScratchMemory, ScratchPiece};
use super::{Action, Phase};
use crate::image::Chunk;
use crate::kernel::{DescriptorTable, Program};
use crate::process::SharedMemory;
use crate::recording::Effect;
use crate::syscall::{LimitedMemory, Memory, Moved, Syscall};
use crate::trace::{CallFiles, Value};
use crate::tracee::{Regs, Result, TaskMemory, proc};
use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

/// The bytes of a call's data that hooks can see.
pub const MOST_DATA: usize = 16 << 20;

/// A call, as a hook sees it. Valid while the hook runs.
///
/// An engine makes one at the call's entry ([`HookCall::new`]), runs the enter hooks, does what they
/// decided with the arguments in [`HookCall::raw`], runs the exit hooks after
/// [`HookCall::answered`], and in the end restores the memory that hooks changed ([`HookCall::give_back`]) and the
/// registers ([`HookCall::asked`]).
#[derive(Clone, Debug)]
pub struct HookCall {
    pub(crate) call: &'static Syscall,
    /// The arguments, as the hooks left them.
    pub(crate) args: [u64; 6],
    /// Those that the process passed.
    pub(crate) asked: [u64; 6],
    pub(crate) memory: TaskMemory,
    /// The arguments of a call that may leave nothing of the memory that they are in.
    pub(crate) passed: Option<Vec<Value>>,
    pub(crate) shared: SharedMemory,
    pub(crate) index: Option<usize>,
    pub(crate) count: u64,
    pub(crate) event: Option<u64>,
    pub(crate) pid: i32,
    pub(crate) tid: i32,
    pub(crate) phase: Phase,
    pub(crate) ret: Option<i64>,
    pub(crate) fd_path: Option<Vec<u8>>,
    /// The absolute path to which its first path leads, where that is recorded.
    pub(crate) resolved_path: Option<Vec<u8>>,
    /// The directory in which the program began.
    pub(crate) began: Arc<[u8]>,
    /// The files that it is about; found when they are first asked for.
    pub(crate) about: RefCell<Option<Rc<CallFiles>>>,
    /// The effect of the recorded call on descriptors, where it is known.
    pub(crate) opened: Option<Effect>,
    pub(crate) decision: Decision,
    /// The action on the answer, once the call has been made.
    pub(crate) afterwards: Option<Action>,
    /// The answer before the exit hooks.
    pub(crate) given: Option<i64>,
    /// The true answer, where the process gets another one.
    pub(crate) done: Option<i64>,
    /// Whether the kernel has made the call, so that its effects stay.
    pub(crate) made: bool,
    pub(crate) stop: Option<String>,
    pub(crate) signals: Vec<i32>,
    /// The names of the rules and hooks that changed it.
    pub(crate) rules: Vec<String>,
    /// The memory that the answer has overwritten.
    pub(crate) before: Vec<Chunk>,
    /// The memory that was changed for the kernel alone.
    pub(crate) patches: Vec<Patch>,
    /// The process goes live with this call.
    pub(crate) goes_live: bool,
    /// The data that the answer had is no longer that of the trace.
    pub(crate) replaced: bool,
    /// The scratch memory of the process.
    pub(crate) scratch: ScratchMemory,
    pub(crate) pieces: Vec<Rc<ScratchPiece>>,
    pub(crate) delay: Duration,
    /// The registers at the call's entry.
    pub(crate) regs: Option<Regs>,
    /// The process's descriptors.
    pub(crate) files: RefCell<Option<DescriptorTable>>,
    /// Its tasks, as recorded.
    pub(crate) tids: Vec<i32>,
    /// The numbers that the hooks keep with the call from its entry to its exit.
    pub(crate) marks: Vec<usize>,
    pub(crate) fd_offset: Option<u64>,
    /// Whether its process is another one than that which was asked for, and is driven together with it.
    pub(crate) is_relatives: bool,
    /// The program that the process runs, where it is known.
    pub(crate) program: Option<Arc<Program>>,
    /// The recorded pid of the parent, where it is known.
    pub(crate) ppid: Option<i32>,
    /// The process's number among those that were made since the injection began, from 1; 0 where it was there before.
    pub(crate) child: u32,
}

impl HookCall {
    /// A call at its entry, of this task as recorded, whose memory that is.
    pub fn new(
        call: &'static Syscall,
        args: [u64; 6],
        (pid, tid): (i32, i32),
        memory: TaskMemory,
        shared: SharedMemory,
    ) -> HookCall {
        HookCall {
            call,
            args,
            asked: args,
            memory,
            passed: None,
            shared,
            index: None,
            count: 1,
            event: None,
            pid,
            tid,
            phase: Phase::Enter,
            ret: None,
            fd_path: None,
            resolved_path: None,
            began: Arc::default(),
            about: RefCell::new(None),
            opened: None,
            decision: Decision::Default,
            afterwards: None,
            given: None,
            done: None,
            made: false,
            stop: None,
            signals: Vec::new(),
            rules: Vec::new(),
            before: Vec::new(),
            patches: Vec::new(),
            goes_live: false,
            replaced: false,
            scratch: ScratchMemory::default(),
            pieces: Vec::new(),
            delay: Duration::ZERO,
            regs: None,
            files: RefCell::new(None),
            tids: Vec::new(),
            marks: Vec::new(),
            fd_offset: None,
            is_relatives: false,
            program: None,
            ppid: None,
            child: 0,
        }
    }

    /// A call that can take its place while a hook has it.
    pub(crate) fn empty(&self) -> HookCall {
        let ids = (self.pid, self.tid);
        HookCall::new(self.call, self.args, ids, self.memory, self.shared.clone())
    }

    /// Sets the process's descriptors, and finds the one that the call is about.
    #[must_use]
    pub fn with_descriptor(mut self, files: &DescriptorTable) -> HookCall {
        self.files = RefCell::new(Some(files.clone()));
        self.find_descriptor();
        self
    }

    /// All tasks of the process, as recorded.
    #[must_use]
    pub fn with_tids(mut self, tids: impl IntoIterator<Item = i32>) -> HookCall {
        self.tids.extend(tids);
        self
    }

    /// Sets the scratch memory, which the calls of a process share. Strings and structures go there that are longer than
    /// those that they replace.
    #[must_use]
    pub fn with_scratch(mut self, scratch: &ScratchMemory) -> HookCall {
        self.scratch = scratch.clone();
        self
    }

    /// Sets the program that the process runs, and the recorded pid of its parent.
    #[must_use]
    pub(crate) fn with_program(mut self, program: &Arc<Program>, ppid: i32) -> HookCall {
        self.program = Some(Arc::clone(program));
        self.ppid = Some(ppid);
        self
    }

    /// Sets the process's number among those that were made since the injection began: see [`HookCall::child`]. `is_relatives`:
    /// it is driven together with the process that was asked for.
    #[must_use]
    pub(crate) fn of_child(mut self, child: u32, is_relatives: bool) -> HookCall {
        self.child = child;
        self.is_relatives = is_relatives;
        self
    }

    /// The path of the program that the process runs, where it can be found out.
    pub fn exe(&self) -> Option<Vec<u8>> {
        match &self.program {
            Some(program) => Some(program.path.clone()),
            None => proc::exe(self.memory.tid()).ok(),
        }
    }

    /// The arguments of the program that the process runs, its name first, where they can be found out.
    pub fn argv(&self) -> Option<Vec<Vec<u8>>> {
        match &self.program {
            Some(program) => Some(program.argv.clone()),
            None => proc::command_line(self.memory.tid()).ok(),
        }
    }

    /// The recorded pid of the process's parent, where it is known.
    pub fn ppid(&self) -> Option<i32> {
        self.ppid
    }

    /// The process's number among those that were made since the injection began, from 1; 0 where it was there before.
    pub fn child(&self) -> u32 {
        self.child
    }

    /// Whether the process is another one than that which was asked for, and is driven together with it.
    pub fn is_relatives(&self) -> bool {
        self.is_relatives
    }

    /// The registers at the call's entry.
    #[must_use]
    pub fn with_regs(mut self, regs: Regs) -> HookCall {
        self.regs = Some(regs);
        self
    }

    /// Sets the number of calls of this name so far, this one included.
    #[must_use]
    pub fn with_count(mut self, count: u64) -> HookCall {
        self.count = count;
        self
    }

    /// The arguments as the process passed them; its registers are to have them again when the call returns.
    pub fn asked(&self) -> [u64; 6] {
        self.asked
    }

    /// The memory of the process.
    pub fn memory(&self) -> TaskMemory {
        self.memory
    }

    /// Writes to the memory of the process, for good.
    ///
    /// # Errors
    /// If nothing is there.
    pub fn write(&mut self, addr: u64, bytes: &[u8]) -> Result<()> {
        self.shared.write(self.memory, addr, bytes)
    }

    /// The registers at the call's entry, where they are known.
    pub fn regs(&self) -> Option<&Regs> {
        self.regs.as_ref()
    }

    /// The process's descriptors, where they are known.
    pub fn files(&self) -> Option<DescriptorTable> {
        self.files.borrow().clone()
    }

    /// The process's tasks, as recorded.
    pub fn tids(&self) -> Vec<i32> {
        match self.tids.is_empty() {
            true => vec![self.tid],
            false => self.tids.clone(),
        }
    }

    /// The numbers that the hooks keep with the call from its entry to its exit.
    pub fn marks(&mut self) -> &mut Vec<usize> {
        &mut self.marks
    }

    /// The call's description (its name, its arguments' names, …).
    pub fn syscall(&self) -> &'static Syscall {
        self.call
    }

    /// The call's name.
    pub fn name(&self) -> &'static str {
        self.call.name
    }

    /// The call's number.
    pub fn nr(&self) -> u32 {
        self.call.nr
    }

    /// The argument registers.
    pub fn raw(&self) -> [u64; 6] {
        self.args
    }

    /// The index in the trace, from 0; `None` in live.
    pub fn index(&self) -> Option<usize> {
        self.index
    }

    /// The number of calls of this name since the injection began, this one included.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The event, where the trace is a recording's.
    pub fn event(&self) -> Option<u64> {
        self.event
    }

    /// The pid as recorded.
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// The tid as recorded.
    pub fn tid(&self) -> i32 {
        self.tid
    }

    /// Entry or exit.
    pub fn phase(&self) -> Phase {
        self.phase
    }

    /// Notes the name of a rule or hook that changed the call, for [`Injected::rule`](crate::inject::Injected::rule).
    pub fn note_rule(&mut self, rule: impl Into<String>) {
        self.rules.push(rule.into());
    }

    /// The arguments, decoded; what comes out is known at exit only.
    pub fn values(&self) -> Vec<Value> {
        self.decoded(self.ret())
    }

    /// The arguments, decoded as they are when the call returns this. A string for which there is no room within
    /// [`MOST_DATA`] is its address.
    pub(crate) fn decoded(&self, ret: Option<i64>) -> Vec<Value> {
        self.decoded_from(&LimitedMemory::new(&self.memory, MOST_DATA, 0), ret)
    }

    /// The same, from its memory within other limits.
    pub(crate) fn decoded_from(&self, memory: &LimitedMemory<'_>, ret: Option<i64>) -> Vec<Value> {
        let decode = || self.call.decode(&self.args, ret, memory, memory);
        self.passed.clone().unwrap_or_else(decode)
    }

    /// Keeps the arguments, decoded: those of execve(2) are gone when it has succeeded.
    pub(crate) fn keep_passed(&mut self) {
        self.passed = Some(self.decoded(None));
    }

    /// The names of [`HookCall::values`], as in the man page.
    pub fn arg_names(&self) -> Vec<&'static str> {
        self.call.shown_names(&self.args)
    }

    /// The index among [`HookCall::values`] of an argument by its name in the man page.
    pub fn arg_index(&self, name: &str) -> Option<usize> {
        self.arg_names().iter().position(|&known| known == name)
    }

    /// The descriptor that the call is about.
    pub fn fd(&self) -> Option<i32> {
        self.call.fd_arg().map(|arg| self.args[arg] as i32)
    }

    /// The number of bytes that the call asks to move.
    pub fn size(&self) -> Option<u64> {
        self.call.size_arg().map(|arg| self.args[arg])
    }

    /// The direction in which the call moves data, where it does.
    pub fn moves_data(&self) -> Option<Moved> {
        self.call.moves_data()
    }

    /// Writes to the process's memory as a part of the answer; [`HookCall::undo`] restores it.
    pub(crate) fn overwrite(&mut self, addr: u64, bytes: &[u8]) -> Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        let mut data = vec![0; bytes.len()];
        if self.memory.read(addr, &mut data) == data.len() {
            self.before.push(Chunk { addr, data });
        }
        self.shared.write(self.memory, addr, bytes)
    }

    /// Restores the memory that the answer has overwritten, last first.
    pub(crate) fn undo(&mut self) -> Result<()> {
        while let Some(chunk) = self.before.pop() {
            self.shared.write(self.memory, chunk.addr, &chunk.data)?;
        }
        Ok(())
    }
}
