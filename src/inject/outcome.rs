//! The outcome of an injection: how the process ended, what it did, and where it left the trace.
//!
//! An outcome can be sent to another process: serialised, all of it is kept but the recorded events behind its calls.

use crate::backtrace::Frame;
use crate::constants;
use crate::kernel::Stream;
use crate::replay::{self, Doubt, Replay};
use crate::trace::{Exit, Origin, Trace};
use serde::{Deserialize, Serialize};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;
use std::rc::Rc;
use std::time::Duration;

/// The end of the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Status {
    /// The process followed the trace to its end.
    Completed,
    /// The process left the trace, and was stopped there.
    Diverged,
    /// The process exited.
    Exited,
    /// A signal killed the process.
    Signaled,
    /// The time limit was reached.
    Timeout,
    /// A hook stopped the process.
    Stopped,
    /// A limit of the sandbox ended the process: memory, processor time or the size of files.
    Limit,
}

impl Status {
    /// Whether it is the end of the process itself.
    pub fn is_end(self) -> bool {
        matches!(self, Status::Exited | Status::Signaled)
    }

    /// The name of the status in scripts.
    pub fn name(self) -> &'static str {
        match self {
            Status::Completed => "completed",
            Status::Diverged => "diverged",
            Status::Exited => "exited",
            Status::Signaled => "signaled",
            Status::Timeout => "timeout",
            Status::Stopped => "stopped",
            Status::Limit => "limit",
        }
    }
}

/// What one of the processes did that were driven together.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ProcessOutcome {
    /// Its recorded pid.
    pub pid: i32,
    /// How it ended; `None` if it was still there at the end of the injection.
    pub status: Option<Status>,
    /// The exit status or the signal that ended it.
    pub exit: Option<Exit>,
    /// The bytes that it wrote to its standard output since the spin-off.
    #[serde(with = "serde_bytes")]
    pub stdout: Vec<u8>,
    /// The bytes that it wrote to its standard error since the spin-off.
    #[serde(with = "serde_bytes")]
    pub stderr: Vec<u8>,
    /// The backtrace at a deadly signal, innermost frame first.
    pub backtrace: Vec<Frame>,
    /// The calls whose answers were changed.
    pub injected: Vec<Injected>,
}

/// The first place at which the process left the trace.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Divergence {
    /// The recorded pid of the process that left the trace.
    pub pid: i32,
    /// The event that had been answered last, where the trace is a recording's: of the process itself, or of another one that
    /// is driven with it.
    pub moment: Option<u64>,
    /// The index of the trace's call.
    pub index: usize,
    /// The event, where the trace is a recording's.
    pub event: Option<u64>,
    /// The recorded tid of the thread that left the trace.
    pub tid: i32,
    /// The call that the trace has there, in strace's syntax.
    pub expected: String,
    /// The call that the process made, or its behaviour instead of a call.
    pub actual: String,
    /// The name of the argument that differs; `None` if the call is another one.
    pub arg: Option<String>,
    /// The place of the expected call in the trace.
    pub origin: Origin,
    /// A possible cause in the process's code, where nothing else has changed the process.
    pub doubt: Doubt,
}

/// A call whose answer was changed from the trace's (or the kernel's).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Injected {
    /// The index in the trace; `None` in live.
    pub index: Option<usize>,
    /// The event, where the trace is a recording's.
    pub event: Option<u64>,
    /// The call with the answer that the process got, in strace's syntax.
    pub call: String,
    /// The rule or hook that changed it.
    pub rule: String,
}

/// The outcome of an injection.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// The recorded pid of the process; 0 where it was not recorded.
    pub pid: i32,
    /// The end of the process.
    pub status: Status,
    /// The processes that were driven, by rising pid, where there was more than one.
    pub processes: Vec<ProcessOutcome>,
    /// The first divergence from the trace, even if the process went on after it.
    pub divergence: Option<Divergence>,
    /// The exit status or the signal that ended the process, if it has ended.
    pub exit: Option<Exit>,
    /// The bytes that the process wrote to its standard output since the spin-off.
    #[serde(with = "serde_bytes")]
    pub stdout: Vec<u8>,
    /// The bytes that the process wrote to its standard error since the spin-off.
    #[serde(with = "serde_bytes")]
    pub stderr: Vec<u8>,
    /// The calls that the process made, with the answers that it got: the first and the last 50,000, of 64 MiB each. Once
    /// they have 16 MiB of data together, longer strings are cut.
    pub calls: Trace,
    /// The calls whose answers were changed: the first and the last 5,000, of 4 MiB each.
    pub injected: Vec<Injected>,
    /// The rules that never fired.
    pub unfired: Vec<String>,
    /// The objects that could not be re-created when the process went live, and the numbers of calls, answers and bytes
    /// that are left out here, a sentence each.
    pub missing: Vec<String>,
    /// The reason for which a hook stopped the process, or the limit that ended it.
    pub reason: Option<String>,
    /// The files that the process changed, or would have changed outside of a sandbox.
    pub files: Vec<ChangedFile>,
    /// The call or the place in the code at which the process hung when the time limit was reached.
    pub hang: Option<String>,
    /// The backtrace at a deadly signal or at the time limit, innermost frame first.
    pub backtrace: Vec<Frame>,
    /// The bytes that the process wrote to each descriptor of a socket or a pipe, up to a limit.
    pub sent: BTreeMap<i32, Vec<u8>>,
}

impl Outcome {
    /// The outcome of a process that ended with this status and did nothing.
    pub fn new(status: Status) -> Outcome {
        Outcome {
            pid: 0,
            status,
            processes: Vec::new(),
            divergence: None,
            exit: None,
            stdout: Vec::new(),
            stderr: Vec::new(),
            calls: Trace::default(),
            injected: Vec::new(),
            unfired: Vec::new(),
            missing: Vec::new(),
            reason: None,
            files: Vec::new(),
            hang: None,
            backtrace: Vec::new(),
            sent: BTreeMap::new(),
        }
    }

    /// The same with a reason, if it is that the time limit was reached.
    pub(super) fn within(mut self, limit: Duration) -> Outcome {
        if self.status == Status::Timeout && self.reason.is_none() {
            let seconds = limit.as_secs_f64();
            self.reason = Some(format!("its time limit of {seconds} s was reached"));
        }
        self
    }

    /// The outcome of the recorded program itself, for comparison with others.
    ///
    /// # Errors
    /// If the recording cannot be read or be replayed to its end.
    pub fn of_recording(replay: &dyn Replay) -> replay::Result<Outcome> {
        let recording = replay.recording();
        let mut replayer = replay.another();
        let written: Rc<RefCell<(Vec<u8>, Vec<u8>)>> = Rc::default();
        let sink = Rc::clone(&written);
        replayer.set_output(Box::new(move |stream, bytes| {
            let mut sink = sink.borrow_mut();
            match stream {
                Stream::Stderr => sink.1.extend(bytes),
                _ => sink.0.extend(bytes),
            }
        }));
        let exit = replayer.run_to_end()?;
        let status = match exit {
            Some(Exit::Code(_)) => Status::Exited,
            Some(Exit::Signal { .. }) => Status::Signaled,
            None => Status::Completed,
        };
        let (stdout, stderr) = written.take();
        let calls = match recording.len() {
            0 => Trace::default(),
            last => recording.segment(1, last, None)?,
        };
        Ok(Outcome {
            exit,
            stdout,
            stderr,
            calls,
            ..Outcome::new(status)
        })
    }

    /// The exit status, if the process exited.
    pub fn exit_code(&self) -> Option<i32> {
        match self.exit {
            Some(Exit::Code(code)) => Some(code),
            _ => None,
        }
    }

    /// The name of the signal that killed the process, if one did.
    pub fn signal(&self) -> Option<String> {
        match self.exit {
            Some(Exit::Signal { signal, .. }) => Some(constants::signal_name(signal)),
            _ => None,
        }
    }
}

/// `exited with 1; diverged at call 5 (event 17): expected …, got …`.
impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.status.name())?;
        match self.exit {
            Some(Exit::Code(code)) => write!(f, " with {code}")?,
            Some(Exit::Signal { signal, .. }) => {
                write!(f, " by {}", constants::signal_name(signal))?
            }
            None => {}
        }
        if let Some(reason) = &self.reason {
            write!(f, ": {reason}")?;
        }
        match &self.divergence {
            Some(divergence) => write!(f, "; diverged {divergence}"),
            None => Ok(()),
        }
    }
}

/// `at call 5 (event 17): expected …, got …`.
impl fmt::Display for Divergence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "at call {}", self.index)?;
        match (self.event, &self.origin) {
            (Some(event), _) => write!(f, " (event {event})")?,
            (None, Origin::Text { file, line }) => write!(f, " ({file}:{line})")?,
            _ => {}
        }
        let (expected, actual) = (&self.expected, &self.actual);
        write!(f, ": expected {expected}, got {actual}{}", self.doubt)
    }
}

/// A file that a process changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChangedFile {
    /// The path.
    pub path: Vec<u8>,
    /// The change: `created`, `changed`, `removed` or `renamed`.
    pub kind: String,
    /// The path that the file had before, if it had another one.
    pub from: Option<Vec<u8>>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::strace;
    use crate::trace::{Answer, Attachment, Call, Entry, Value};

    #[test]
    fn an_outcome_is_the_same_after_it_was_sent() {
        let text = "openat(AT_FDCWD, \"a\", O_RDONLY|O_CLOEXEC) = 3</tmp/a>\n\
            read(3, \"abc\"..., 10) = 10\nfstat(3, {st_mode=S_IFREG|0644, ...}) = 0\n\
            --- SIGCHLD {si_signo=SIGCHLD, si_code=CLD_EXITED} ---\n\
            rt_sigprocmask(SIG_BLOCK, ~[INT CHLD], [110 => 16], 8) = ?\n+++ exited with 3 +++\n";
        let mut entries = strace::parse(text.as_bytes(), "text")
            .trace
            .entries()
            .to_vec();
        let plain = Call::new("read", vec![Value::Int(3)], Answer::Errno(libc::EIO));
        let mut recorded = plain.clone();
        recorded.attachment = Some(Attachment::new(std::sync::Arc::new(5_u8)));
        entries.push(Entry::Call(recorded));
        let outcome = Outcome {
            divergence: Some(Divergence {
                pid: 0,
                moment: None,
                index: 3,
                event: Some(17),
                tid: 5,
                expected: "close(3)".into(),
                actual: "close(4)".into(),
                arg: Some("fd".into()),
                origin: Origin::Event(17),
                doubt: Doubt::default(),
            }),
            exit: Some(Exit::Code(3)),
            stdout: b"out\xff".to_vec(),
            calls: Trace::new(entries.clone()),
            injected: vec![Injected {
                index: None,
                event: None,
                call: "read(3) = -1 EIO".into(),
                rule: "read".into(),
            }],
            files: vec![ChangedFile {
                path: b"/tmp/a".to_vec(),
                kind: "renamed".into(),
                from: Some(b"/tmp/b".to_vec()),
            }],
            backtrace: vec![Frame::default()],
            sent: BTreeMap::from([(4, b"GET".to_vec())]),
            ..Outcome::new(Status::Exited)
        };
        let bytes = postcard::to_allocvec(&outcome).unwrap();
        let received: Outcome = postcard::from_bytes(&bytes).unwrap();
        entries.pop();
        entries.push(Entry::Call(plain));
        let expected = Outcome {
            calls: Trace::new(entries),
            ..outcome
        };
        assert_eq!(received, expected);
        let files = |trace: &Trace| -> Vec<String> {
            let files = trace.calls_with_files();
            files.map(|(_, about)| format!("{about:?}")).collect()
        };
        assert_eq!(received.calls.len(), 5);
        assert_eq!(files(&received.calls), files(&expected.calls));
    }
}
