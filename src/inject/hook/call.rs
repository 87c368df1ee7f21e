//! A call, as a hook sees it.

use super::Phase;
use super::afterwards::Told;
use super::change::Lent;
use super::room::{Piece, Room};
use crate::image::Chunk;
use crate::inject::partial::{Amount, whole_entries};
use crate::recording::{DescriptorTable, Effect};
use crate::replay::SharedMemory;
use crate::syscall::{Memory, Moved, Syscall};
use crate::trace::{CallFiles, Value};
use crate::tracee::{Regs, Result, TaskMemory};
use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

/// What a hook decided at a call's entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Decision {
    /// The trace (or the kernel) answers.
    Default,
    /// It is not made, and returns this.
    Answer(i64),
    /// It moves at most this many bytes.
    Short(u64),
    /// brk(2) moves nothing, and is told where the break is: it has no other way to fail.
    Break,
}

/// A call, as a hook sees it. Valid while the hook runs.
///
/// Who drives the process makes one at the call's entry ([`HookCall::new`]), has the enter hooks run, does what they
/// [decided](HookCall::decision) with the arguments that they left in [`HookCall::raw`], has the exit hooks run after
/// [`HookCall::answered`], and in the end gives back what the call was lent ([`HookCall::give_back`]) and the
/// registers of [`HookCall::asked`].
#[derive(Clone, Debug)]
pub struct HookCall {
    pub(crate) call: &'static Syscall,
    /// The arguments that count.
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
    /// Where its first path leads, where that is recorded.
    pub(crate) leads_to: Option<Vec<u8>>,
    /// The directory in which all began.
    pub(crate) began: Arc<[u8]>,
    /// The files that it is about, once somebody has asked.
    pub(crate) about: RefCell<Option<Rc<CallFiles>>>,
    /// What the recorded call opened, where it is known.
    pub(crate) opened: Option<Effect>,
    pub(crate) decision: Decision,
    /// What the process is told of the call once it has been made, whatever came of it.
    pub(crate) told: Option<Told>,
    /// What came of the call before the exit hooks.
    pub(crate) given: Option<i64>,
    /// What came of a call whose process is told otherwise: the kernel, or the model of it, has done that.
    pub(crate) done: Option<i64>,
    /// Whether the kernel has made it, on a world that stays so.
    pub(crate) made: bool,
    pub(crate) stop: Option<String>,
    pub(crate) signals: Vec<i32>,
    /// What the hooks that interfered call themselves.
    pub(crate) rules: Vec<String>,
    /// The memory that the answer has overwritten.
    pub(crate) before: Vec<Chunk>,
    /// The memory that was changed for the kernel to see, and is the program's own again afterwards.
    pub(crate) lent: Vec<Lent>,
    /// The process goes live with this call.
    pub(crate) goes_live: bool,
    /// The data that the answer had is no longer that of the trace.
    pub(crate) replaced: bool,
    /// Where there is room for more than the process has.
    pub(crate) room: Room,
    pub(crate) pieces: Vec<Rc<Piece>>,
    pub(crate) delay: Duration,
    /// The registers at the call's entry.
    pub(crate) regs: Option<Regs>,
    /// The process's descriptors.
    pub(crate) files: RefCell<Option<DescriptorTable>>,
    /// Its tasks, as recorded.
    pub(crate) tids: Vec<i32>,
    /// What the hooks keep with the call from its entry to its exit.
    pub(crate) marks: Vec<usize>,
    pub(crate) fd_offset: Option<u64>,
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
            leads_to: None,
            began: Arc::default(),
            about: RefCell::new(None),
            opened: None,
            decision: Decision::Default,
            told: None,
            given: None,
            done: None,
            made: false,
            stop: None,
            signals: Vec::new(),
            rules: Vec::new(),
            before: Vec::new(),
            lent: Vec::new(),
            goes_live: false,
            replaced: false,
            room: Room::default(),
            pieces: Vec::new(),
            delay: Duration::ZERO,
            regs: None,
            files: RefCell::new(None),
            tids: Vec::new(),
            marks: Vec::new(),
            fd_offset: None,
        }
    }

    /// Something to lie in its place.
    pub(crate) fn empty(&self) -> HookCall {
        let ids = (self.pid, self.tid);
        HookCall::new(self.call, self.args, ids, self.memory, self.shared.clone())
    }

    /// What is known of the process's descriptors, and of the one that the call is about.
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

    /// Where strings and the like are put that are longer than what the process has; calls of one process share it.
    #[must_use]
    pub fn with_room(mut self, room: &Room) -> HookCall {
        self.room = room.clone();
        self
    }

    /// The registers at the call's entry.
    #[must_use]
    pub fn with_regs(mut self, regs: Regs) -> HookCall {
        self.regs = Some(regs);
        self
    }

    /// How many calls of this name there have been, this one included.
    #[must_use]
    pub fn with_count(mut self, count: u64) -> HookCall {
        self.count = count;
        self
    }

    /// The call has been answered: the exit hooks come next.
    pub fn answered(&mut self, ret: i64) {
        self.phase = Phase::Exit;
        (self.ret, self.given) = (Some(ret), Some(ret));
        if let Some(told) = self.told.take() {
            self.tell(told);
        }
    }

    /// The arguments as the process passed them; its registers are to have them again when the call returns.
    pub fn asked(&self) -> [u64; 6] {
        self.asked
    }

    /// Takes the time longer that hooks want it to.
    pub fn delay(&mut self, time: Duration) {
        self.delay = self.delay.saturating_add(time);
    }

    /// How much longer in all, and no longer from now on.
    pub fn take_delay(&mut self) -> Duration {
        std::mem::take(&mut self.delay)
    }

    /// What the enter hooks decided.
    #[allow(dead_code, reason = "for engines outside of this module")]
    pub(crate) fn decision(&self) -> Decision {
        self.decision
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

    /// What the hooks keep with the call from its entry to its exit: numbers that mean something to them.
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

    /// How many calls of this name there have been since the injection began, this one included.
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

    /// The return value: negative is -errno. `None` while there is none: at entry, unless a hook that ran before set it.
    pub fn ret(&self) -> Option<i64> {
        match (self.phase, self.decision) {
            (Phase::Enter, Decision::Answer(ret)) => Some(ret),
            (Phase::Enter, _) => None,
            (Phase::Exit, _) => self.ret,
        }
    }

    /// Sets the return value (negative is -errno). At entry, the call is then not made.
    pub fn set_ret(&mut self, ret: i64) {
        match self.phase {
            Phase::Enter => self.decide(Decision::Answer(ret)),
            Phase::Exit => self.ret = Some(ret),
        }
    }

    /// At entry: what else was decided does not count any more.
    pub(super) fn decide(&mut self, decision: Decision) {
        (self.decision, self.told) = (decision, None);
    }

    /// The call moves at most this many bytes (or messages, where it moves those); the rest comes when it is made
    /// again. Nothing happens where it moves none.
    pub fn short(&mut self, len: u64) {
        if !self.can_be_short() {
            return;
        }
        match self.phase {
            Phase::Enter => self.decide(Decision::Short(len)),
            Phase::Exit => {
                let len = match self.call.name {
                    // Half an entry is none.
                    "getdents" | "getdents64" => {
                        let entries = self.data().unwrap_or_default();
                        let most = usize::try_from(len).unwrap_or(usize::MAX);
                        whole_entries(&entries, most) as i64
                    }
                    _ => i64::try_from(len).unwrap_or(i64::MAX),
                };
                self.ret = self.ret.map(|ret| ret.min(len));
            }
        }
    }

    /// Whether it moves something of which it could move less.
    pub fn can_be_short(&self) -> bool {
        Amount::of(self.call).is_some()
    }

    /// The process goes on live, from this call.
    pub fn live(&mut self) {
        self.goes_live = true;
    }

    /// The injection ends here.
    pub fn stop(&mut self, reason: impl Into<String>) {
        self.stop = Some(reason.into());
    }

    /// Sends the process this signal, too, with the call.
    pub fn send_signal(&mut self, signal: i32) {
        self.signals.push(signal);
    }

    /// Notes who interfered, for [`super::Injected::rule`].
    pub fn note_rule(&mut self, rule: impl Into<String>) {
        self.rules.push(rule.into());
    }

    /// The arguments, decoded; what comes out is known at exit only.
    pub fn values(&self) -> Vec<Value> {
        self.decoded(self.ret())
    }

    /// The arguments, decoded as they are when the call returns this.
    pub(crate) fn decoded(&self, ret: Option<i64>) -> Vec<Value> {
        let (memory, args) = (&self.memory, &self.args);
        let decode = || self.call.decode(args, ret, memory, memory);
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

    /// How many bytes the call asks to move.
    pub fn size(&self) -> Option<u64> {
        self.call.size_arg().map(|arg| self.args[arg])
    }

    /// Whether the call moves data, and which way.
    pub fn moves_data(&self) -> Option<Moved> {
        self.call.moves_data()
    }

    /// Writes to the process's memory, remembering what was there.
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

    /// Puts back what the answer has overwritten, last first.
    pub(crate) fn undo(&mut self) -> Result<()> {
        while let Some(chunk) = self.before.pop() {
            self.shared.write(self.memory, chunk.addr, &chunk.data)?;
        }
        Ok(())
    }
}
