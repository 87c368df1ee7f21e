//! What a hook sees of a call, and what it can say.

use super::Divergence;
use crate::image::Chunk;
use crate::recording::Effect;
use crate::replay::SharedMemory;
use crate::syscall::{Memory, Moved, Syscall};
use crate::trace::Value;
use crate::tracee::{Result, TaskMemory};

/// An error that a hook raises.
pub type HookError = Box<dyn std::error::Error + Send + Sync>;

/// When a hook runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// The call has been made and not been answered.
    Enter,
    /// The answer is known, and can still be changed.
    Exit,
}

/// What happens to a process that leaves the trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnDivergence {
    /// It is stopped.
    Stop,
    /// It goes on live, from this call.
    Live,
    /// This many calls of the trace are dropped, and the next one is expected.
    Skip(usize),
    /// This call is answered with this value, and the trace stays where it is.
    Answer(i64),
}

/// What happens at the end of the trace.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Finally {
    /// The process is killed.
    #[default]
    Kill,
    /// It goes on live.
    Live,
    /// It stays stopped, and can be driven on.
    Keep,
}

/// What a user wants to do to the calls of a process.
pub trait Hooks {
    /// A call has been made and not been answered yet.
    ///
    /// # Errors
    /// Whatever went wrong; the process is killed.
    fn enter(&mut self, call: &mut HookCall) -> std::result::Result<(), HookError>;

    /// The answer of a call is known.
    ///
    /// # Errors
    /// Whatever went wrong; the process is killed.
    fn exit(&mut self, call: &mut HookCall) -> std::result::Result<(), HookError>;

    /// The process left the trace.
    ///
    /// # Errors
    /// Whatever went wrong; the process is killed.
    fn diverged(&mut self, divergence: &Divergence)
    -> std::result::Result<OnDivergence, HookError>;

    /// Rules that never fired, each as the user would name it.
    fn unfired(&self) -> Vec<String>;
}

/// No hooks: the trace's own answers, and a divergence stops the process.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoHooks;

impl Hooks for NoHooks {
    fn enter(&mut self, _call: &mut HookCall) -> std::result::Result<(), HookError> {
        Ok(())
    }

    fn exit(&mut self, _call: &mut HookCall) -> std::result::Result<(), HookError> {
        Ok(())
    }

    fn diverged(&mut self, _: &Divergence) -> std::result::Result<OnDivergence, HookError> {
        Ok(OnDivergence::Stop)
    }

    fn unfired(&self) -> Vec<String> {
        Vec::new()
    }
}

/// What a hook decided at a call's entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Decision {
    /// The trace (or the kernel) answers.
    Default,
    /// It is not made, and returns this.
    Answer(i64),
    /// It moves at most this many bytes.
    Short(u64),
    /// The process goes live with this call.
    Live,
}

/// A call, as a hook sees it. Valid while the hook runs.
#[derive(Clone, Debug)]
pub struct HookCall {
    pub(super) call: &'static Syscall,
    pub(super) args: [u64; 6],
    pub(super) memory: TaskMemory,
    pub(super) shared: SharedMemory,
    pub(super) index: Option<usize>,
    pub(super) count: u64,
    pub(super) event: Option<u64>,
    pub(super) pid: i32,
    pub(super) tid: i32,
    pub(super) phase: Phase,
    pub(super) ret: Option<i64>,
    pub(super) fd_path: Option<Vec<u8>>,
    /// Where in it the part below the current directory begins.
    pub(super) fd_below: Option<usize>,
    /// What the recorded call opened, where it is known.
    pub(super) opened: Option<Effect>,
    pub(super) decision: Decision,
    pub(super) stop: Option<String>,
    pub(super) signal: Option<i32>,
    /// What the hooks that interfered call themselves.
    pub(super) rules: Vec<String>,
    /// The memory that the answer has overwritten.
    pub(super) before: Vec<Chunk>,
}

impl HookCall {
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
            Phase::Enter => self.decision = Decision::Answer(ret),
            Phase::Exit => self.ret = Some(ret),
        }
    }

    /// Lets the call fail with this errno (positive).
    pub fn fail(&mut self, errno: i32) {
        self.set_ret(-i64::from(errno));
    }

    /// The call moves at most this many bytes; the rest comes when it is made again.
    pub fn short(&mut self, len: u64) {
        match self.phase {
            Phase::Enter => self.decision = Decision::Short(len),
            Phase::Exit => {
                self.ret = self.ret.map(|ret| ret.min(len as i64));
            }
        }
    }

    /// The process goes on live, from this call.
    pub fn live(&mut self) {
        self.decision = Decision::Live;
    }

    /// The injection ends here.
    pub fn stop(&mut self, reason: impl Into<String>) {
        self.stop = Some(reason.into());
    }

    /// Sends the process this signal once the call has been answered.
    pub fn send_signal(&mut self, signal: i32) {
        self.signal = Some(signal);
    }

    /// Notes who interfered, for [`super::Injected::rule`].
    pub fn note_rule(&mut self, rule: impl Into<String>) {
        self.rules.push(rule.into());
    }

    /// The arguments, decoded; what comes out is known at exit only.
    pub fn values(&self) -> Vec<Value> {
        self.call
            .decode(&self.args, self.ret(), &self.memory, &self.memory)
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

    /// The paths among the arguments; where there are none, the path behind the descriptor.
    pub fn paths(&self) -> Vec<Vec<u8>> {
        let values = self
            .call
            .decode(&self.args, None, &self.memory, &self.memory);
        let mut paths: Vec<Vec<u8>> = self
            .call
            .path_args()
            .into_iter()
            .filter_map(|arg| values.get(arg)?.as_bytes().map(<[u8]>::to_vec))
            .filter(|path| !path.is_empty())
            .collect();
        if paths.is_empty() {
            paths.extend(self.fd_path.clone());
        }
        paths
    }

    /// Whether one of the call's paths is meant; that behind its descriptor is taken absolute, and from the
    /// current directory, since programs open files either way.
    pub fn is_about(&self, meant: impl Fn(&[u8]) -> bool) -> bool {
        let below = match (&self.fd_path, self.fd_below) {
            (Some(path), Some(at)) => path.get(at..),
            _ => None,
        };
        let paths = self.paths();
        let by_fd = Some(paths.as_slice()) == self.fd_path.as_ref().map(std::slice::from_ref);
        paths.iter().any(|path| meant(path)) || (by_fd && below.is_some_and(meant))
    }

    /// The first of [`HookCall::paths`].
    pub fn path(&self) -> Option<Vec<u8>> {
        self.paths().into_iter().next()
    }

    /// How many bytes the call asks to move.
    pub fn size(&self) -> Option<u64> {
        self.call.size_arg().map(|arg| self.args[arg])
    }

    /// Whether the call moves data, and which way.
    pub fn moves_data(&self) -> Option<Moved> {
        self.call.moves_data()
    }

    /// The bytes that the call moves: what a write-like call passes, what a read-like call got.
    /// `None` where it moves none, failed, or has not been answered.
    pub fn data(&self) -> Option<Vec<u8>> {
        let len = match self.call.moves_data()? {
            Moved::In => match self.ret() {
                Some(ret) => u64::try_from(ret).ok()?,
                None => u64::MAX,
            },
            Moved::Out => u64::try_from(self.ret()?).ok()?,
        };
        let mut data = Vec::new();
        for region in self.call.data_regions(&self.args, len, &self.memory) {
            data.extend(self.memory.bytes(region.addr, region.len));
        }
        Some(data)
    }

    /// Sets the bytes that a read-like call got; the return value follows.
    ///
    /// # Errors
    /// `Ok(Err(room))` if they do not fit into the buffer, which has this many bytes;
    /// an error if the process's memory cannot be written.
    pub fn set_data(&mut self, bytes: &[u8]) -> Result<std::result::Result<(), u64>> {
        let regions = self.call.data_regions(&self.args, u64::MAX, &self.memory);
        let room: u64 = regions.iter().map(|region| region.len as u64).sum();
        if bytes.len() as u64 > room {
            return Ok(Err(room));
        }
        let mut rest = bytes;
        for region in regions {
            let (now, later) = rest.split_at(region.len.min(rest.len()));
            self.overwrite(region.addr, now)?;
            rest = later;
        }
        self.set_ret(bytes.len() as i64);
        Ok(Ok(()))
    }

    /// Writes to the process's memory, remembering what was there.
    pub(super) fn overwrite(&mut self, addr: u64, bytes: &[u8]) -> Result<()> {
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
    pub(super) fn undo(&mut self) -> Result<()> {
        while let Some(chunk) = self.before.pop() {
            self.shared.write(self.memory, chunk.addr, &chunk.data)?;
        }
        Ok(())
    }
}
