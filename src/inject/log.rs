//! The calls and the output of an injected process, collected for its outcome.

use super::hook::HookCall;
use super::outcome::Injected;
use crate::kernel::Stream;
use crate::trace::{Answer, Call, Entry, Origin, Trace, Value};
use std::collections::BTreeMap;

/// The number of calls kept in an outcome; a process that runs for long makes many more.
const MAX_CALLS: usize = 100_000;

/// The bytes of data that are kept for all those calls together; after that, each string is cut.
const MAX_DATA: usize = 16 << 20;

/// Output kept per stream, in bytes.
const MAX_OUTPUT: usize = 64 << 20;

/// The calls and the output of a process so far.
#[derive(Default)]
pub struct Log {
    calls: Vec<Entry>,
    /// The number of bytes of data in these calls.
    data: usize,
    pub injected: Vec<Injected>,
    pub stdout: Vec<u8>,
    pub stderr: Vec<u8>,
    /// The bytes written to sockets and pipes, by descriptor.
    pub sent: BTreeMap<i32, Vec<u8>>,
    counts: std::collections::HashMap<u32, u64>,
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
        let room = MAX_OUTPUT.saturating_sub(sink.len());
        sink.extend_from_slice(&data[..data.len().min(room)]);
    }

    /// Keeps data that was written to a socket or a pipe, up to a limit.
    pub fn sent(&mut self, fd: i32, data: &[u8]) {
        let all: usize = self.sent.values().map(Vec::len).sum();
        let room = MAX_OUTPUT.saturating_sub(all);
        let sink = self.sent.entry(fd).or_default();
        sink.extend_from_slice(&data[..data.len().min(room)]);
    }

    /// Keeps a call with its answer.
    pub fn call(&mut self, call: &HookCall, ret: Option<i64>) {
        let injected = !call.rules.is_empty();
        if self.calls.len() >= MAX_CALLS && !injected {
            return;
        }
        let observed = observe(call, ret);
        if injected {
            self.injected.push(Injected {
                index: call.index,
                event: call.event,
                call: observed.brief().to_string(),
                rule: call.rules.join(", "),
            });
        }
        if self.calls.len() < MAX_CALLS {
            let data: usize = observed.args.iter().map(Value::data_len).sum();
            let kept = match self.data + data <= MAX_DATA {
                true => observed,
                false => observed.brief(),
            };
            self.data += kept.args.iter().map(Value::data_len).sum::<usize>();
            self.calls.push(Entry::Call(kept));
        }
    }

    /// Takes the calls as a trace.
    pub fn trace(&mut self) -> Trace {
        Trace::new(std::mem::take(&mut self.calls))
    }
}

/// A call that the process made, with its answer.
pub fn observe(call: &HookCall, ret: Option<i64>) -> Call {
    let memory = &call.memory;
    Call {
        tid: call.tid,
        name: call.name().to_string(),
        args: call.decoded(ret),
        answer: ret.map_or(Answer::Never, Answer::from_raw),
        notes: ret.map_or_else(Vec::new, |ret| {
            call.call.notes(&call.args, ret, memory, memory)
        }),
        origin: call.event.map_or(Origin::Made, Origin::Event),
        attachment: None,
        line_info: None,
    }
}
