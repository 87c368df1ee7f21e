//! The model of observed system calls, independent of their source: a [`Trace`] is a list of [`Entry`]s, and the
//! arguments of a call are [`Value`]s.
//!
//! This module knows neither strace's syntax (see [`crate::strace`]) nor processes. Constants are looked up in
//! [`crate::constants`].

mod attachment;
mod conditions;
mod descriptor_paths;
pub mod file_names;
mod line_info;

pub use crate::constants::Answer;
pub use crate::value::{Field, Value, plain};
pub use attachment::Attachment;
pub use conditions::{Failed, Predicate};
pub use descriptor_paths::DescriptorPaths;
pub use file_names::{CallFiles, FileNames};
pub use line_info::{LineInfo, Tampering, Timestamp};

use std::collections::HashSet;
use std::sync::Arc;

/// The source of an entry, for messages.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Origin {
    /// A line (from 1) of a text in strace's syntax.
    Text {
        /// The file's name, or a placeholder (`<string>`).
        file: Arc<str>,
        /// The line on which the call began, from 1.
        line: u32,
    },
    /// An event of a recording, from 1.
    Event(u64),
    /// Made by a script or a test.
    Made,
}

impl Origin {
    /// The event, where it is one of a recording.
    pub fn event(&self) -> Option<u64> {
        match self {
            Origin::Event(number) => Some(*number),
            _ => None,
        }
    }
}

/// One observed system call. Equality ignores the line info.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
pub struct Call {
    /// Pid or tid as written in the trace; 0 where the text has no such column.
    pub tid: i32,
    /// The call's name as written (`send`, `stat64` and other old names are kept).
    pub name: String,
    /// The arguments, in the order of the man page.
    pub args: Vec<Value>,
    /// The answer.
    pub answer: Answer,
    /// Outputs that strace writes in parentheses behind the result, since no argument can hold them.
    /// `(in [3], left {tv_sec=0, …})` is a member `in` and a member `left`; `([{fd=3, revents=POLLIN}])`
    /// and `(Timeout)` are one without a name; `(flags FD_CLOEXEC)` is a member `flags`.
    /// A first one without a name that is a [`Value::Fd`] is the result with its path: `= 3</etc/passwd>`.
    pub notes: Vec<Field>,
    /// The source.
    pub origin: Origin,
    /// The object that the call was made from, if any: a recorded event. It is not serialised.
    #[serde(skip)]
    pub attachment: Option<Attachment>,
    /// The line info, where the source is a text.
    pub line_info: Option<Box<LineInfo>>,
}

impl PartialEq for Call {
    fn eq(&self, other: &Call) -> bool {
        self.tid == other.tid
            && self.name == other.name
            && self.args == other.args
            && self.answer == other.answer
            && self.notes == other.notes
            && self.origin == other.origin
            && self.attachment == other.attachment
    }
}

impl Call {
    /// A call of an unknown task, made by a script or a test.
    pub fn new(name: impl Into<String>, args: Vec<Value>, answer: Answer) -> Call {
        Call {
            tid: 0,
            name: name.into(),
            args,
            answer,
            notes: Vec::new(),
            origin: Origin::Made,
            attachment: None,
            line_info: None,
        }
    }

    /// A copy with long strings and arrays cut: for messages.
    #[must_use]
    pub fn brief(&self) -> Call {
        Call {
            args: self.args.iter().map(Value::brief).collect(),
            ..self.clone()
        }
    }

    /// Its size in memory, in bytes, without the object that it was made from.
    pub(crate) fn size(&self) -> usize {
        let args: usize = self.args.iter().map(Value::size).sum();
        let notes: usize = self.notes.iter().map(Field::size).sum();
        size_of::<Call>() + self.name.len() + args + notes
    }

    /// The note about the result that has this name; the empty name finds the note without a name.
    pub fn note(&self, name: &str) -> Option<&Value> {
        self.notes
            .iter()
            .find(|f| f.name == name)
            .map(|f| f.value.meaning())
    }
}

/// One line of a trace. Equality ignores the line info.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
pub enum Entry {
    /// A system call.
    Call(Call),
    /// A signal was delivered (`--- SIGCHLD {si_signo=SIGCHLD, …} ---`).
    Signal {
        /// The task that received the signal; 0 where unknown.
        tid: i32,
        /// The signal's number.
        signal: i32,
        /// The siginfo, as a struct.
        info: Value,
        /// The source.
        origin: Origin,
        /// The line info, where the source is a text.
        line_info: Option<Box<LineInfo>>,
    },
    /// The task ended (`+++ exited with 0 +++`, `+++ killed by SIGKILL +++`).
    Exit {
        /// The task that ended; 0 where unknown.
        tid: i32,
        /// The exit code or the signal.
        exit: Exit,
        /// The source.
        origin: Origin,
        /// The line info, where the source is a text.
        line_info: Option<Box<LineInfo>>,
    },
}

impl PartialEq for Entry {
    fn eq(&self, other: &Entry) -> bool {
        if self.tid() != other.tid() || self.origin() != other.origin() {
            return false;
        }
        match (self, other) {
            (Entry::Call(a), Entry::Call(b)) => a == b,
            (
                Entry::Signal {
                    signal: a, info: i, ..
                },
                Entry::Signal {
                    signal: b, info: j, ..
                },
            ) => a == b && i == j,
            (Entry::Exit { exit: a, .. }, Entry::Exit { exit: b, .. }) => a == b,
            _ => false,
        }
    }
}

impl Entry {
    /// The line info, where the entry was read from a text.
    pub fn line_info(&self) -> Option<&LineInfo> {
        match self {
            Entry::Call(call) => call.line_info.as_deref(),
            Entry::Signal { line_info, .. } | Entry::Exit { line_info, .. } => line_info.as_deref(),
        }
    }

    /// The task of the entry; 0 where unknown.
    pub fn tid(&self) -> i32 {
        match self {
            Entry::Call(call) => call.tid,
            Entry::Signal { tid, .. } | Entry::Exit { tid, .. } => *tid,
        }
    }

    /// The source.
    pub fn origin(&self) -> &Origin {
        match self {
            Entry::Call(call) => &call.origin,
            Entry::Signal { origin, .. } | Entry::Exit { origin, .. } => origin,
        }
    }

    /// The entry with another origin.
    pub fn with_origin(mut self, from: Origin) -> Entry {
        match &mut self {
            Entry::Call(call) => call.origin = from,
            Entry::Signal { origin, .. } | Entry::Exit { origin, .. } => *origin = from,
        }
        self
    }
}

/// The end of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Exit {
    /// The process exited with this status.
    Code(i32),
    /// This signal killed the process.
    Signal {
        /// The signal's number.
        signal: i32,
        /// Whether the kernel reported a core dump.
        core: bool,
    },
}

impl Exit {
    /// The end in words: `exit status 1`, `killed by SIGSEGV`.
    pub fn in_words(self) -> String {
        match self {
            Exit::Code(code) => format!("exit status {code}"),
            Exit::Signal { signal, core } => {
                let core = if core { ", core dumped" } else { "" };
                format!("killed by {}{core}", crate::constants::signal_name(signal))
            }
        }
    }

    /// The exit status that a shell reports: the code, or 128 plus the signal.
    pub fn shell_status(self) -> i32 {
        match self {
            Exit::Code(code) => code,
            Exit::Signal { signal, .. } => 128 + signal,
        }
    }
}

/// Observed calls in order, with the signals and exits between them.
#[derive(Clone, Debug, Default, serde::Serialize, serde::Deserialize)]
#[serde(from = "Parts")]
pub struct Trace {
    entries: Vec<Entry>,
    /// The indices of the calls among the entries.
    #[serde(skip_serializing)]
    calls: Vec<usize>,
    /// The descriptors that the tasks had open before the first call.
    known: Arc<DescriptorPaths>,
}

/// A trace as it is serialised.
#[derive(serde::Deserialize)]
struct Parts {
    entries: Vec<Entry>,
    known: Arc<DescriptorPaths>,
}

impl From<Parts> for Trace {
    fn from(Parts { entries, known }: Parts) -> Trace {
        let trace = Trace::new(entries);
        Trace { known, ..trace }
    }
}

impl PartialEq for Trace {
    fn eq(&self, other: &Trace) -> bool {
        self.entries == other.entries
    }
}

impl Trace {
    /// A trace of these entries.
    pub fn new(entries: Vec<Entry>) -> Trace {
        let calls = (0..entries.len())
            .filter(|&i| matches!(entries[i], Entry::Call(_)))
            .collect();
        let known = Arc::default();
        Trace {
            entries,
            calls,
            known,
        }
    }

    /// Sets the descriptors that the tasks had open before the first call, and their current directories.
    #[must_use]
    pub fn with_open_files(mut self, known: DescriptorPaths) -> Trace {
        self.known = Arc::new(known);
        self
    }

    /// The calls in order, each with the files that it names, or with the file behind its descriptor where the trace
    /// has the call that opened it.
    pub fn calls_with_files(&self) -> impl Iterator<Item = (&Call, CallFiles)> {
        let mut open = (*self.known).clone();
        self.calls().map(move |call| {
            let about = open.next(call.tid, call);
            (call, about)
        })
    }

    /// All entries: calls, signals and exits.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The number of calls.
    pub fn len(&self) -> usize {
        self.calls.len()
    }

    /// Whether the trace has no call.
    pub fn is_empty(&self) -> bool {
        self.calls.is_empty()
    }

    /// The call with this index, from 0.
    pub fn call(&self, index: usize) -> Option<&Call> {
        match self.entries.get(*self.calls.get(index)?) {
            Some(Entry::Call(call)) => Some(call),
            _ => None,
        }
    }

    /// The entries between the call with index `index - 1` and the call with index `index`.
    pub fn before_call(&self, index: usize) -> impl Iterator<Item = &Entry> {
        let before = index.checked_sub(1).and_then(|i| self.calls.get(i));
        let first = before.map_or(0, |&at| at + 1);
        let end = self.calls.get(index).map_or(self.entries.len(), |&at| at);
        self.entries.get(first..end).unwrap_or_default().iter()
    }

    /// The calls, in order.
    pub fn calls(&self) -> impl Iterator<Item = &Call> {
        (0..self.len()).filter_map(|i| self.call(i))
    }

    /// The calls from index `first` to index `last`, both included, with the signals and exits between them.
    /// `None` where there are no such calls, or `last` precedes `first`.
    pub fn slice(&self, first: usize, last: usize) -> Option<Trace> {
        if last < first {
            return None;
        }
        let mut known = (*self.known).clone();
        for call in self.calls().take(first) {
            known.next(call.tid, call);
        }
        let (first, last) = (*self.calls.get(first)?, *self.calls.get(last)?);
        Some(Trace::new(self.entries[first..=last].to_vec()).with_open_files(known))
    }

    /// The index of the first call that fulfils the predicate.
    pub fn find(&self, like: impl FnMut(&Call) -> bool) -> Option<usize> {
        self.find_from(0, like)
    }

    /// The index of the first call from index `start` on that fulfils the predicate.
    pub fn find_from(&self, start: usize, mut like: impl FnMut(&Call) -> bool) -> Option<usize> {
        (start..self.len()).find(|&i| self.call(i).is_some_and(&mut like))
    }

    /// The entries that fulfil the predicate.
    pub fn filter(&self, mut like: impl FnMut(&Entry) -> bool) -> Trace {
        Trace::new(self.entries.iter().filter(|e| like(e)).cloned().collect())
    }

    /// The calls, signals and exit of this task.
    pub fn of_tid(&self, tid: i32) -> Trace {
        self.filter(|entry| entry.tid() == tid)
    }

    /// The tasks of the trace, by pid or tid as written, in the order of their first entries.
    pub fn pids(&self) -> Vec<i32> {
        let mut seen = HashSet::new();
        let tids = self.entries.iter().map(Entry::tid);
        tids.filter(|&tid| seen.insert(tid)).collect()
    }

    /// The delivered signals in order, as [`Entry::Signal`].
    pub fn signals(&self) -> impl Iterator<Item = &Entry> {
        self.entries
            .iter()
            .filter(|e| matches!(e, Entry::Signal { .. }))
    }

    /// The trace with another origin for all entries.
    pub fn with_origin(mut self, from: &Origin) -> Trace {
        let entries = self.entries.into_iter();
        self.entries = entries.map(|e| e.with_origin(from.clone())).collect();
        self
    }
}
