//! Recorded events as entries of a [`Trace`](crate::trace::Trace): their arguments and results, decoded.

use super::{CallEvent, ChunkMemory, Event, EventKind, LeftMemory};
use crate::syscall::{self, Memory, Syscall};
use crate::trace::{Answer, Attachment, Call, Entry, Field, Origin, Value};
use std::sync::Arc;

impl CallEvent {
    /// The arguments, decoded.
    pub fn values(&self) -> Vec<Value> {
        let Some(call) = syscall::of_number(self.nr) else {
            return self.args.iter().map(|&arg| Value::Addr(arg)).collect();
        };
        call.resolve(&self.args)
            .decode(&self.args, self.ret, &ChunkMemory(&self.ins), &self.left())
    }

    fn left(&self) -> LeftMemory<'_> {
        LeftMemory {
            ins: &self.ins,
            outs: &self.outs,
        }
    }

    /// The notes that strace adds to the result.
    fn notes(&self) -> Vec<Field> {
        self.told(Syscall::notes)
    }

    /// The descriptors that a poll(2) or a select(2) told to be ready, each with its `POLL*` bits.
    pub(crate) fn ready(&self) -> Vec<(i32, i16)> {
        self.told(Syscall::ready)
    }

    fn told<T>(
        &self,
        by: impl Fn(&Syscall, &[u64; 6], i64, &dyn Memory, &dyn Memory) -> Vec<T>,
    ) -> Vec<T> {
        let (Some(call), Some(ret)) = (syscall::by_nr(self.nr.into()), self.ret) else {
            return Vec::new();
        };
        let ins = ChunkMemory(&self.ins);
        by(
            call.resolve(&self.args),
            &self.args,
            ret,
            &ins,
            &self.left(),
        )
    }

    /// The call's name.
    pub fn name(&self) -> String {
        syscall::name_of(self.nr)
    }
}

impl Event {
    /// The event as an entry of a trace.
    pub fn to_entry(&self, number: u64) -> Entry {
        let origin = Origin::Event(number);
        match &self.kind {
            EventKind::Call(call) => Entry::Call(Call {
                tid: self.tid,
                name: call.name(),
                args: call.values(),
                answer: call.ret.map_or(Answer::Never, Answer::from_raw),
                notes: call.notes(),
                origin,
                attachment: Some(Attachment::new(Arc::new(call.clone()))),
                line_info: None,
            }),
            EventKind::Signal(signal) => Entry::Signal {
                tid: self.tid,
                signal: signal.signal,
                info: syscall::signal_info(signal.signal, &signal.info),
                origin,
                line_info: None,
            },
        }
    }
}
