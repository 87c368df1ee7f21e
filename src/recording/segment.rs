//! Recorded events as calls of a [`Trace`].

use super::{CallEvent, ChunkMemory, Event, EventKind, Recording, Result};
use crate::syscall;
use crate::trace::{Answer, Attachment, Call, Entry, Field, Origin, Trace, Value};
use std::sync::Arc;

impl CallEvent {
    /// The arguments, decoded.
    pub fn values(&self) -> Vec<Value> {
        let Some(call) = syscall::by_nr(self.nr.into()) else {
            return self.args.iter().map(|&arg| Value::Addr(arg)).collect();
        };
        call.resolve(&self.args).decode(
            &self.args,
            self.ret,
            &ChunkMemory(&self.ins),
            &ChunkMemory(&self.outs),
        )
    }

    /// What strace says about the result besides.
    fn notes(&self) -> Vec<Field> {
        let (Some(call), Some(ret)) = (syscall::by_nr(self.nr.into()), self.ret) else {
            return Vec::new();
        };
        let (ins, outs) = (ChunkMemory(&self.ins), ChunkMemory(&self.outs));
        call.resolve(&self.args).notes(&self.args, ret, &ins, &outs)
    }

    /// The call's name.
    pub fn name(&self) -> String {
        syscall::by_nr(self.nr.into()).map_or_else(
            || format!("syscall_{:#x}", self.nr),
            |call| call.name.to_string(),
        )
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
                remarks: None,
            }),
            EventKind::Signal(signal) => Entry::Signal {
                tid: self.tid,
                signal: signal.signal,
                info: signal_info(signal.signal, &signal.info),
                origin,
                remarks: None,
            },
        }
    }
}

/// `siginfo_t` as strace shows it: sigaction(2).
fn signal_info(signal: i32, info: &[u8]) -> Value {
    let int = |at: usize| {
        info.get(at..at + 4)
            .and_then(|b| b.try_into().ok())
            .map_or(0, i32::from_ne_bytes)
    };
    let code = int(8);
    let sym = |text: String, value: i32| Value::Sym {
        text,
        value: Some(value.into()),
    };
    let field = |name: &str, value: Value| Field {
        name: name.into(),
        value,
    };
    let code_name = match code {
        0 => Some("SI_USER"),
        0x80 => Some("SI_KERNEL"),
        -1 => Some("SI_QUEUE"),
        -2 => Some("SI_TIMER"),
        -6 => Some("SI_TKILL"),
        _ => None,
    };
    let mut fields = vec![
        field(
            "si_signo",
            sym(syscall::consts::signal_name(signal), signal),
        ),
        field(
            "si_code",
            code_name.map_or(Value::Int(code.into()), |name| sym(name.into(), code)),
        ),
    ];
    if matches!(code, 0 | -6) {
        fields.push(field("si_pid", Value::Int(int(16).into())));
        fields.push(field("si_uid", Value::Int(int(20).into())));
    }
    Value::Struct { fields, cut: false }
}

impl Recording {
    /// The events `first` to `last` (both included) as a trace.
    ///
    /// # Errors
    /// If there are no such events, or one is damaged.
    pub fn segment(&self, first: u64, last: u64) -> Result<Trace> {
        self.event(last)?;
        let mut entries = Vec::new();
        for event in self.events_from(first)? {
            let (number, event) = event?;
            if number > last {
                break;
            }
            entries.push(event.to_entry(number));
        }
        Ok(Trace::new(entries))
    }
}
