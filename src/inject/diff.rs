//! The differences of two outcomes, without those of any two runs: pids, times, addresses, and tolerated calls (see
//! [`super::tolerated`]).

use super::outcome::Outcome;
use super::tolerated::is_ignored;
use crate::backtrace::Frame;
use crate::syscall::{self, Format, Kind};
use crate::trace::{Answer, Call, Field, Trace, Value};
use std::fmt::Display;

/// Arguments and members that are pids.
pub(super) const PIDS: [&str; 13] = [
    "pid",
    "tgid",
    "tid",
    "upid",
    "pgid",
    "who",
    "parent_tid",
    "child_tid",
    "parent_tidptr",
    "child_tidptr",
    "si_pid",
    "l_pid",
    "msg_lspid",
];

/// Calls that return pids or times.
const CHANGING: [&str; 14] = [
    "getpid",
    "gettid",
    "getppid",
    "fork",
    "vfork",
    "clone",
    "clone3",
    "wait4",
    "set_tid_address",
    "setsid",
    "getpgrp",
    "getsid",
    "time",
    "times",
];

/// Parts of the names of members that are times.
const TIMES: [&str; 8] = [
    "tv_", "_atime", "_mtime", "_ctime", "_btime", "ru_utime", "ru_stime", "tms_",
];

impl Outcome {
    /// The differences to another outcome, a line each: this one's value, then the other's. `calls` are the calls of
    /// each outcome, which may be kept elsewhere.
    pub fn diff(&self, other: &Outcome, calls: (&Trace, &Trace)) -> Vec<String> {
        let mut lines = Vec::new();
        let mut compare = |what: &str, a: String, b: String| {
            if a != b {
                lines.push(format!("{what}: {a} / {b}"));
            }
        };
        let status = |outcome: &Outcome| outcome.status.name().to_string();
        compare("status", status(self), status(other));
        compare(
            "exit_code",
            shown(self.exit_code()),
            shown(other.exit_code()),
        );
        compare("signal", shown(self.signal()), shown(other.signal()));
        let place = |outcome: &Outcome| shown(outcome.divergence.as_ref().map(|d| d.index));
        compare("divergence", place(self), place(other));
        compare(
            "hang",
            shown(self.hang.as_ref()),
            shown(other.hang.as_ref()),
        );
        compare(
            "backtrace",
            functions(&self.backtrace),
            functions(&other.backtrace),
        );
        for (what, a, b) in [
            ("stdout", &self.stdout, &other.stdout),
            ("stderr", &self.stderr, &other.stderr),
        ] {
            lines.extend(bytes(what, a, b));
        }
        lines.extend(lists("missing", &self.missing, &other.missing));
        let files = |outcome: &Outcome| -> Vec<String> {
            let file = |file: &super::ChangedFile| {
                let from = file.from.as_ref();
                let from = from.map(|from| format!(" from {}", String::from_utf8_lossy(from)));
                let path = String::from_utf8_lossy(&file.path);
                format!("{} {path}{}", file.kind, from.unwrap_or_default())
            };
            outcome.files.iter().map(file).collect()
        };
        lines.extend(lists("files", &files(self), &files(other)));
        let mut fds: Vec<&i32> = self.sent.keys().chain(other.sent.keys()).collect();
        fds.sort_unstable();
        fds.dedup();
        for fd in fds {
            let none = Vec::new();
            let a = self.sent.get(fd).unwrap_or(&none);
            let b = other.sent.get(fd).unwrap_or(&none);
            lines.extend(bytes(&format!("sent to {fd}"), a, b));
        }
        lines.extend(traces(calls.0, calls.1));
        lines
    }
}

fn shown<T: Display>(value: Option<T>) -> String {
    value.map_or_else(|| String::from("nil"), |value| value.to_string())
}

fn functions(frames: &[Frame]) -> String {
    let name = |frame: &Frame| frame.function.clone().unwrap_or_else(|| String::from("?"));
    let names: Vec<String> = frames.iter().map(name).collect();
    names.join(" < ")
}

fn bytes(what: &str, a: &[u8], b: &[u8]) -> Option<String> {
    if a == b {
        return None;
    }
    let at = a.iter().zip(b).take_while(|(a, b)| a == b).count();
    let (a, b) = (a.len(), b.len());
    Some(format!(
        "{what}: {a} bytes / {b} bytes, different from byte {at} on"
    ))
}

/// The elements that only one of two lists has.
fn lists(what: &str, a: &[String], b: &[String]) -> Vec<String> {
    let only = |these: &[String], those: &[String]| -> Vec<String> {
        let those: Vec<String> = those.iter().map(|it| without_numbers(it)).collect();
        let only = these.iter();
        let only = only.filter(|this| !those.contains(&without_numbers(this)));
        only.cloned().collect()
    };
    let first = only(a, b)
        .into_iter()
        .map(|it| format!("{what}: {it} / nil"));
    let second = only(b, a)
        .into_iter()
        .map(|it| format!("{what}: nil / {it}"));
    first.chain(second).collect()
}

/// Text without the inode numbers of pipes and sockets: `pipe:[]`.
fn without_numbers(text: &str) -> String {
    let mut inside = false;
    let kept = text.chars().filter(|&c| {
        inside = (inside && c.is_ascii_digit()) || c == '[';
        !(inside && c.is_ascii_digit())
    });
    kept.collect()
}

/// The first call in which two traces differ.
fn traces(a: &Trace, b: &Trace) -> Option<String> {
    let counted = |trace: &'_ Trace| -> Vec<Call> {
        let calls = trace.calls().filter(|call| !is_ignored(&call.name));
        calls.cloned().collect()
    };
    let (a, b) = (counted(a), counted(b));
    let same = a
        .iter()
        .zip(&b)
        .take_while(|(a, b)| normalized(a) == normalized(b))
        .count();
    let at = |calls: &[Call]| shown(calls.get(same).map(Call::brief));
    let (first, second) = (at(&a), at(&b));
    (same < a.len() || same < b.len()).then(|| format!("calls: {first} / {second}"))
}

/// A call without the values that differ in every run.
fn normalized(call: &Call) -> (String, Vec<Value>, Answer) {
    let described = syscall::by_name(&call.name);
    let names: Vec<&str> = described.map_or_else(Vec::new, |described| {
        described.args.iter().map(|arg| arg.name).collect()
    });
    let args = call.args.iter().enumerate().map(|(i, value)| {
        let name = names.get(i).copied().unwrap_or("");
        normalize(name, value)
    });
    let is_address = described
        .is_some_and(|it| matches!(&it.ret, Kind::Num(num) if matches!(num.format, Format::Addr)));
    let answer = match &call.answer {
        Answer::Value(ret)
            if *ret > 0 && (is_address || CHANGING.contains(&call.name.as_str())) =>
        {
            Answer::Value(1)
        }
        other => *other,
    };
    (call.name.clone(), args.collect(), answer)
}

fn normalize(name: &str, value: &Value) -> Value {
    if PIDS.contains(&name) || TIMES.iter().any(|time| name.contains(time)) {
        return Value::Int(0);
    }
    match value.meaning() {
        Value::Addr(addr) => Value::Addr((*addr).min(1)),
        Value::Struct { fields, cut } => {
            let fields = fields
                .iter()
                .map(|field| Field::new(field.name.clone(), normalize(&field.name, &field.value)));
            let (fields, cut) = (fields.collect(), *cut);
            Value::Struct { fields, cut }
        }
        Value::Array { items, cut } => {
            let items = items.iter().map(|item| normalize("", item)).collect();
            Value::Array { items, cut: *cut }
        }
        Value::Change { before, after } => Value::Change {
            before: Box::new(normalize(name, before)),
            after: Box::new(normalize(name, after)),
        },
        other => other.clone(),
    }
}
