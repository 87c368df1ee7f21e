//! Signals and ends of processes, as hooks see them.

use crate::trace::{Exit, Value};
use crate::tracee::SigInfo;

/// The effect of hooks on a signal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SignalAction {
    /// The task gets it.
    #[default]
    Deliver,
    /// The task does not get it.
    Ignore,
    /// The task gets this one instead.
    Replace(i32),
}

/// A signal that is about to reach a task.
#[derive(Clone, Debug)]
pub struct HookSignal {
    /// Its number.
    pub signal: i32,
    /// Its `siginfo_t`.
    pub info: SigInfo,
    /// The process, as recorded.
    pub pid: i32,
    /// The task, as recorded.
    pub tid: i32,
    /// The index in the trace of the call that comes next; `None` in live.
    pub index: Option<usize>,
    /// The effect of the hooks on it.
    pub action: SignalAction,
    /// Why the injection ends here, if it does.
    pub stop: Option<String>,
    /// The names of the rules and hooks that changed it.
    pub rules: Vec<String>,
}

impl HookSignal {
    /// A signal that would be delivered.
    pub fn new(signal: i32, info: SigInfo, (pid, tid): (i32, i32)) -> HookSignal {
        HookSignal {
            signal,
            info,
            pid,
            tid,
            index: None,
            action: SignalAction::Deliver,
            stop: None,
            rules: Vec::new(),
        }
    }

    /// Whether an instruction of the task raised it, which would raise it again.
    pub fn is_fault(&self) -> bool {
        self.info.is_fault()
    }

    /// Its `siginfo_t`, decoded.
    pub fn decoded(&self) -> Value {
        crate::syscall::signal_info(self.signal, &self.info.0)
    }

    /// The signal in strace's syntax, with its effect.
    pub(crate) fn decoded_line(&self) -> String {
        let name = crate::constants::signal_name;
        let fate = match self.action {
            SignalAction::Deliver => String::new(),
            SignalAction::Ignore => String::from(" (ignored)"),
            SignalAction::Replace(other) => format!(" (replaced by {})", name(other)),
        };
        format!("--- {} {} ---{fate}", name(self.signal), self.decoded())
    }

    /// The signal that the task gets, if any.
    pub fn delivered(&self) -> Option<i32> {
        match self.action {
            SignalAction::Deliver => Some(self.signal),
            SignalAction::Ignore => None,
            SignalAction::Replace(signal) => Some(signal),
        }
    }
}

/// The end of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HookExit {
    /// Its pid, as recorded.
    pub pid: i32,
    /// Its exit.
    pub exit: Exit,
}
