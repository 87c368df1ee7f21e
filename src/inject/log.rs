//! The calls and the output of an injected process, collected for its outcome.

use super::ends::{Ends, Most};
use super::hook::HookCall;
use super::outcome::Injected;
use crate::kernel::Stream;
use crate::syscall::LimitedMemory;
use crate::trace::{Answer, Call, Entry, Origin, Trace, Value};
use crate::value::BRIEF;
use std::collections::BTreeMap;

/// The first and the last calls that are kept in an outcome; a process that runs for long makes many more.
const CALLS: Most = Most {
    items: 50_000,
    bytes: 64 << 20,
};

/// The first and the last changed answers that are kept.
const INJECTED: Most = Most {
    items: 5_000,
    bytes: 4 << 20,
};

/// The bytes of data that are kept for all calls together; after that, each string is cut.
const MAX_DATA: usize = 16 << 20;

/// Output kept per stream, in bytes.
const MAX_OUTPUT: usize = 64 << 20;

/// The calls and the output of a process so far. Its size has limits, whatever the process does.
pub struct Log {
    calls: Ends<Entry>,
    /// The number of bytes of data in the calls so far.
    data: usize,
    injected: Ends<Injected>,
    stdout: Output,
    stderr: Output,
    /// The bytes written to sockets and pipes, by descriptor.
    sent: BTreeMap<i32, Vec<u8>>,
    /// The number of those bytes that are not kept.
    sent_more: u64,
    counts: std::collections::HashMap<u32, u64>,
}

/// Output that is kept up to a limit.
#[derive(Clone, Default)]
struct Output {
    bytes: Vec<u8>,
    /// The number of bytes beyond the limit.
    more: u64,
}

/// What a log kept, for an outcome.
pub(super) struct Kept {
    pub calls: Trace,
    pub injected: Vec<Injected>,
    pub stdout: Vec<u8>,
    pub stderr: Vec<u8>,
    pub sent: BTreeMap<i32, Vec<u8>>,
    /// What it did not keep, a sentence each.
    pub missing: Vec<String>,
}

impl Default for Log {
    fn default() -> Log {
        Log {
            calls: Ends::new(CALLS),
            data: 0,
            injected: Ends::new(INJECTED),
            stdout: Output::default(),
            stderr: Output::default(),
            sent: BTreeMap::new(),
            sent_more: 0,
            counts: std::collections::HashMap::new(),
        }
    }
}

impl Log {
    /// Counts a call of this number; returns the count.
    pub fn count(&mut self, nr: u32) -> u64 {
        let count = self.counts.entry(nr).or_default();
        *count += 1;
        *count
    }

    /// Keeps data that was written to a standard stream, up to a limit.
    pub fn output(&mut self, stream: Stream, data: &[u8]) {
        let sink = match stream {
            Stream::Stdout => &mut self.stdout,
            Stream::Stderr => &mut self.stderr,
            Stream::Stdin => return,
        };
        let room = MAX_OUTPUT.saturating_sub(sink.bytes.len());
        let kept = data.len().min(room);
        sink.bytes.extend_from_slice(&data[..kept]);
        sink.more += (data.len() - kept) as u64;
    }

    /// Another one with the same output and nothing else.
    pub fn of_output(&self) -> Log {
        Log {
            stdout: self.stdout.clone(),
            stderr: self.stderr.clone(),
            ..Log::default()
        }
    }

    /// Notes that a standard stream has had this many bytes more, which are not kept.
    pub fn more_output(&mut self, stream: Stream, len: u64) {
        match stream {
            Stream::Stdout => self.stdout.more += len,
            Stream::Stderr => self.stderr.more += len,
            Stream::Stdin => {}
        }
    }

    /// The number of bytes that there is room for, of a standard stream or of what is sent.
    pub fn room(&self, stream: Option<Stream>) -> usize {
        let kept = match stream {
            Some(Stream::Stdout) => self.stdout.bytes.len(),
            Some(Stream::Stderr) => self.stderr.bytes.len(),
            Some(Stream::Stdin) => MAX_OUTPUT,
            None => self.sent.values().map(Vec::len).sum(),
        };
        MAX_OUTPUT.saturating_sub(kept)
    }

    /// Keeps a changed answer.
    pub fn injected(&mut self, injected: Injected) {
        let bytes = size_of::<Injected>() + injected.call.len() + injected.rule.len();
        self.injected.push(injected, bytes);
    }

    /// Keeps data that was written to a socket or a pipe, up to a limit. So many bytes more are not there.
    pub fn sent(&mut self, fd: i32, data: &[u8], more: u64) {
        let kept = data.len().min(self.room(None));
        self.sent_more += (data.len() - kept) as u64 + more;
        let sink = self.sent.entry(fd).or_default();
        sink.extend_from_slice(&data[..kept]);
    }

    /// Keeps a call with its answer.
    pub fn call(&mut self, call: &HookCall, ret: Option<i64>) {
        let observed = observe(call, ret, MAX_DATA.saturating_sub(self.data));
        if !call.rules.is_empty() {
            self.injected(Injected {
                index: call.index,
                event: call.event,
                call: observed.brief().to_string(),
                rule: call.rules.join(", "),
            });
        }
        let data: usize = observed.args.iter().map(Value::data_len).sum();
        let kept = match self.data + data <= MAX_DATA {
            true => observed,
            false => observed.brief(),
        };
        self.data += kept.args.iter().map(Value::data_len).sum::<usize>();
        let size = kept.size();
        self.calls.push(Entry::Call(kept), size);
    }

    /// Takes all that was kept.
    pub(super) fn take(self) -> Kept {
        let (calls, calls_told) = self.calls.take("calls that it made");
        let (injected, injected_told) = self.injected.take("answers that were changed");
        let mut missing: Vec<String> = calls_told.into_iter().chain(injected_told).collect();
        for (name, more) in [
            ("standard output", self.stdout.more),
            ("standard error", self.stderr.more),
            ("output to sockets and pipes", self.sent_more),
        ] {
            if more > 0 {
                missing.push(format!(
                    "the last {more} bytes of its {name}: the first {MAX_OUTPUT} are kept"
                ));
            }
        }
        Kept {
            calls: Trace::new(calls),
            injected,
            stdout: self.stdout.bytes,
            stderr: self.stderr.bytes,
            sent: self.sent,
            missing,
        }
    }
}

/// A call that the process made, with its answer. Longer strings than there is room for are cut.
pub fn observe(call: &HookCall, ret: Option<i64>, room: usize) -> Call {
    let memory = &LimitedMemory::new(&call.memory, room, BRIEF);
    Call {
        tid: call.tid,
        name: call.name().to_string(),
        args: call.decoded_from(memory, ret),
        answer: ret.map_or(Answer::Never, Answer::from_raw),
        notes: ret.map_or_else(Vec::new, |ret| {
            call.call.notes(&call.args, ret, memory, memory)
        }),
        origin: call.event.map_or(Origin::Made, Origin::Event),
        attachment: None,
        line_info: None,
    }
}
