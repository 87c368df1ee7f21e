//! The differences of a trace that was taken on another run: temporary names, pids, times.
//!
//! Names are learned as the process uses them, one part of a path at a time: where the trace creates a name, and the
//! process's name differs from it only in a piece that looks random. Pids are known from the tasks that make the calls, and
//! from the results of getpid and the like. Inputs of the process may then have its own names and pids where the trace has
//! others, and so may the text that it writes. Outputs are those of the trace, except pids that are returned as such, and the
//! names of files in directories, links and addresses. Data that it reads are never changed.
//! [`crate::inject::tolerated`] lists the other differences that are tolerated.

use super::item::ExpectedCall;
use super::temporary_names::{self, LONGEST, MOST_NAMES};
use crate::inject::diff::PIDS;
use crate::inject::hook::HookCall;
use crate::inject::tolerated;
use crate::syscall::{Kind, Mismatch, Moved, Syscall};
use crate::trace::{Answer, Field, Trace, Value, plain};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::Range;

/// Calls that return pids, besides those for the process's own.
const RETURN_PIDS: [&str; 6] = ["wait4", "waitid", "getpgrp", "getpgid", "getsid", "setsid"];

/// Calls that return names, and the member or argument with the names.
const RETURN_NAMES: [(&str, &str); 10] = [
    ("getcwd", "buf"),
    ("readlink", "buf"),
    ("readlinkat", "buf"),
    ("getdents", "d_name"),
    ("getdents64", "d_name"),
    ("getsockname", "sun_path"),
    ("getpeername", "sun_path"),
    ("accept", "sun_path"),
    ("accept4", "sun_path"),
    ("recvfrom", "sun_path"),
];

/// The requests of ioctl that take or return a pid.
const PID_REQUESTS: [u64; 6] = [
    libc::TIOCGPGRP,
    libc::TIOCSPGRP,
    libc::TIOCGSID,
    0x8901, // FIOSETOWN
    0x8902, // SIOCSPGRP
    0x8904, // SIOCGPGRP
];

/// The maximum number of parts of a name that are compared.
const MOST_PARTS: usize = 8;

/// The known differences between the trace's run and this one.
pub(in crate::inject) struct OtherRun {
    /// The names that the trace creates, and whether they are private.
    made: HashMap<Vec<u8>, bool>,
    /// Parts of paths: the process's by the trace's.
    names: HashMap<Vec<u8>, Vec<u8>>,
    /// The pieces in which they differ: digits and others.
    pieces: HashMap<Vec<u8>, Vec<u8>>,
    taken: HashSet<Vec<u8>>,
    pids: BTreeMap<i32, i32>,
    /// The process's own pid and its parent's.
    pid: i32,
    ppid: i32,
}

/// A name that a call would add: the trace's, and the process's.
struct Learned {
    trace: Vec<u8>,
    here: Vec<u8>,
    /// The random pieces of both.
    pieces: Vec<(Vec<u8>, Vec<u8>)>,
}

impl OtherRun {
    /// The differences for this trace, with the known pids, and those of the process and its parent.
    pub fn new(trace: &Trace, pids: BTreeMap<i32, i32>, pid: i32, ppid: i32) -> OtherRun {
        OtherRun {
            made: temporary_names::names_made(trace),
            names: HashMap::new(),
            pieces: HashMap::new(),
            taken: HashSet::new(),
            pids: pids.into_iter().filter(|&(trace, _)| trace > 0).collect(),
            pid,
            ppid,
        }
    }

    /// Learns the pids that a task of the trace got for itself, which is this thread of the process.
    pub fn learn_pids(&mut self, name: &str, answer: &Answer, tid: i32) {
        let pid = match name {
            "getpid" => self.pid,
            "gettid" | "set_tid_address" => tid,
            "getppid" => self.ppid,
            _ => return,
        };
        if let Some(answered) = answer.raw().and_then(|ret| i32::try_from(ret).ok())
            && answered > 0
            && pid > 0
        {
            self.pair(answered, pid);
        }
    }

    /// Learns the pid of a task that both runs have.
    pub fn pair(&mut self, trace: i32, here: i32) {
        self.pids.entry(trace).or_insert(here);
    }

    /// Whether a call of the process is this one of the trace, which is then adapted to this run.
    ///
    /// # Errors
    /// How they differ.
    pub fn adapt(&mut self, step: &mut ExpectedCall, seen: &HookCall) -> Result<(), Mismatch> {
        let same = seen.call.compare(&seen.args, &seen.memory, step.values());
        if same.is_ok() && !returns_either(seen.call.name) || step.adapted {
            return same;
        }
        let mut values = plain(step.values()).into_owned();
        let mut learned = Vec::new();
        let before = data_len(seen.call, &values);
        let mut left = seen.call.args.len() + 1;
        while let Err(mismatch) = seen.call.compare(&seen.args, &seen.memory, &values) {
            left = left.saturating_sub(1);
            let at = mismatch.arg;
            let is_length = seen.call.data_len_arg() == Some(at)
                && mismatch.expected.as_i64() == before
                && mismatch.actual.as_i64() == data_len(seen.call, &values);
            let is_wait = tolerated::is_time_limit(seen.call, at)
                && tolerated::waits_alike(&mismatch.expected, &mismatch.actual);
            let now = match values.get(mismatch.position) {
                Some(Value::Change { after, .. }) if is_wait => Some(Value::Change {
                    before: Box::new(mismatch.actual.clone()),
                    after: after.clone(),
                }),
                Some(_) if is_length || is_wait => Some(mismatch.actual.clone()),
                Some(expected) => {
                    let tolerance = Tolerance {
                        is_path: is_name(seen.call, at),
                        is_time: tolerated::is_time(seen.call, &seen.args, at),
                        is_pid: is_pid(seen, at),
                    };
                    self.reconcile(expected, &mismatch.actual, tolerance, &mut learned)
                }
                None => None,
            };
            match (now, values.get_mut(mismatch.position)) {
                (Some(now), Some(value)) if left > 0 => *value = now,
                _ => return Err(mismatch),
            }
        }
        learned.into_iter().for_each(|name| self.keep(name));
        let after = data_len(seen.call, &values);
        if before != after
            && let (Answer::Value(ret), Some(after)) = (&mut step.answer, after)
            && Some(*ret) == before
        {
            *ret = after;
        }
        self.adapt_answer(step, seen, values);
        Ok(())
    }

    /// Keeps a name.
    fn keep(&mut self, name: Learned) {
        if self.names.len() >= MOST_NAMES {
            return;
        }
        tracing::debug!(
            "{} of the trace is {} here",
            String::from_utf8_lossy(&name.trace),
            String::from_utf8_lossy(&name.here)
        );
        for (trace, here) in name.pieces {
            self.pieces.entry(trace).or_insert(here);
        }
        self.taken.insert(name.here.clone());
        self.names.insert(name.trace, name.here);
    }

    /// The names and pids that the call returns.
    fn adapt_answer(&mut self, step: &mut ExpectedCall, seen: &HookCall, mut values: Vec<Value>) {
        let name = seen.call.name;
        self.learn_pids(name, &step.answer, seen.tid);
        if let Answer::Value(ret) = &mut step.answer
            && (is_own(name) || RETURN_PIDS.contains(&name))
            && let Some(here) = self.pid(*ret)
        {
            *ret = here;
        }
        let names = RETURN_NAMES.iter().find(|(call, _)| *call == name);
        let outputs = Outputs {
            names: names.map(|(_, member)| *member),
            // Names consist of pids only in that place.
            pids: name.starts_with("readlink")
                && seen.path().is_some_and(|path| path.starts_with(b"/proc/")),
        };
        for (at, (value, arg)) in values.iter_mut().zip(&seen.call.args).enumerate() {
            let member = if is_pid(seen, at) { PIDS[0] } else { arg.name };
            self.adapt_output(value, member, outputs);
        }
        if let Answer::Value(ret) = &mut step.answer
            && outputs.pids
            && *ret > 0
            && let Some(room) = seen.call.arg("bufsiz").and_then(|at| seen.args.get(at))
            && let Some(link) = values.get(seen.call.arg("buf").unwrap_or(usize::MAX))
            && let Some(link) = link.as_bytes()
        {
            *ret = (link.len() as i64).min((*room as i64).max(0));
        }
        if step.values() != values {
            // The recorded data do not apply any more.
            step.exact = None;
            step.become_like(values);
        }
        step.adapted = true;
    }

    fn adapt_output(&self, value: &mut Value, name: &str, outputs: Outputs) {
        match value {
            Value::Int(number) if PIDS.contains(&name) => {
                if let Some(here) = self.pid(*number) {
                    *number = here;
                }
            }
            Value::Str { bytes, cut: false } if outputs.names == Some(name) => {
                // The lengths of the others depend on it.
                let now = self.translate(bytes, outputs.pids);
                if let Some(now) = now.filter(|now| outputs.pids || now.len() == bytes.len()) {
                    *bytes = now;
                }
            }
            Value::Array { items, .. } => {
                for item in items {
                    self.adapt_output(item, name, outputs);
                }
            }
            Value::Struct { fields, .. } => {
                for field in fields {
                    self.adapt_output(&mut field.value, &field.name, outputs);
                }
            }
            Value::Change { after, .. } => self.adapt_output(after, name, outputs),
            _ => {}
        }
    }

    /// A path with the process's names and pids for those of the trace; `None` where it has none that differ.
    fn translate(&self, path: &[u8], pids: bool) -> Option<Vec<u8>> {
        let mut changed = false;
        let parts = path.split(|&byte| byte == b'/').map(|part| {
            let pid = number(part).filter(|_| pids);
            let pid = pid.and_then(|pid| Some(self.pids.get(&pid)?.to_string()));
            let now = pid.map(String::into_bytes);
            let now = now.or_else(|| self.names.get(part).cloned());
            changed |= now.is_some();
            now.unwrap_or_else(|| part.to_vec())
        });
        let parts: Vec<Vec<u8>> = parts.collect();
        changed.then(|| parts.join(&b'/'))
    }

    /// The process's pid for one of the trace; negative ones are groups.
    fn pid(&self, trace: i64) -> Option<i64> {
        let known = self.pids.get(&i32::try_from(trace.checked_abs()?).ok()?)?;
        Some(i64::from(*known) * trace.signum())
    }

    /// The process's value for one of the trace; `None` where the process has another one.
    fn reconcile(
        &self,
        expected: &Value,
        actual: &Value,
        tolerance: Tolerance,
        learned: &mut Vec<Learned>,
    ) -> Option<Value> {
        match (expected, actual) {
            (Value::Change { before, after }, _) => {
                let before = self.reconcile(before, actual, tolerance, learned)?;
                Some(Value::Change {
                    before: Box::new(before),
                    after: after.clone(),
                })
            }
            (Value::Str { bytes, cut }, Value::Str { bytes: here, .. }) => {
                let len = match tolerance.is_path && !cut {
                    true => self.same_path(bytes, here, learned)?,
                    false => self.same_text(bytes, here, *cut)?,
                };
                Some(Value::Str {
                    bytes: here.get(..len)?.to_vec(),
                    cut: *cut,
                })
            }
            (Value::Array { items, cut }, Value::Array { items: here, .. }) => {
                if items.len() != here.len() && !(*cut && items.len() < here.len()) {
                    return None;
                }
                let items = items.iter().zip(here);
                let items = items.map(|(e, a)| self.reconcile(e, a, tolerance, learned));
                let (items, cut) = (items.collect::<Option<_>>()?, *cut);
                Some(Value::Array { items, cut })
            }
            (Value::Struct { fields, cut }, Value::Struct { .. }) => {
                let (mut fields, cut) = (fields.clone(), *cut);
                let base = |fields: &[Field]| {
                    let base = fields.iter().find(|f| f.name == "iov_base")?;
                    Some(base.value.as_bytes()?.len() as i64)
                };
                let old = base(&fields);
                for field in &mut fields {
                    let Some(here) = actual.field(&field.name) else {
                        continue;
                    };
                    let is_time =
                        tolerance.is_time && tolerated::is_part_of_time(&field.name, here);
                    let is_length = field.name == "iov_len" && field.value.as_i64() == old;
                    let tolerance = Tolerance {
                        is_pid: PIDS.contains(&field.name.as_str()),
                        ..tolerance
                    };
                    field.value = match is_time || is_length {
                        true => here.clone(),
                        false => self.reconcile(&field.value, here, tolerance, learned)?,
                    };
                }
                Some(Value::Struct { fields, cut })
            }
            (Value::Int(number), Value::Int(here)) => {
                let same = number == here || tolerance.is_pid && self.pid(*number) == Some(*here);
                same.then_some(Value::Int(*here))
            }
            // The equality of such values is not checked here.
            _ => Some(expected.clone()),
        }
    }

    /// Whether two paths are the same after these names are learned: the length of the second.
    fn same_path(&self, trace: &[u8], here: &[u8], learned: &mut Vec<Learned>) -> Option<usize> {
        let parts = |path| <[u8]>::split(path, |&byte| byte == b'/');
        if parts(trace).count() != parts(here).count() {
            return None;
        }
        for (trace, here) in parts(trace).zip(parts(here)) {
            if trace == here || self.names.get(trace).is_some_and(|known| known == here) {
                continue;
            }
            if trace.len().max(here.len()) > LONGEST || self.names.contains_key(trace) {
                return None;
            }
            let pieces = match self.same_text(trace, here, false) {
                Some(_) => Vec::new(),
                None => {
                    let free = !self.taken.contains(here)
                        && !learned
                            .iter()
                            .any(|name| (name.trace == trace) != (name.here == here));
                    let private = *self.made.get(trace).filter(|_| free)?;
                    self.pieces_of(trace, here, private)?
                }
            };
            learned.push(Learned {
                trace: trace.to_vec(),
                here: here.to_vec(),
                pieces,
            });
        }
        Some(here.len())
    }

    /// The pieces in which two names differ, if these are only pids and random pieces.
    fn pieces_of(
        &self,
        trace: &[u8],
        here: &[u8],
        private: bool,
    ) -> Option<Vec<(Vec<u8>, Vec<u8>)>> {
        let is_other = |byte: &u8| !temporary_names::is_random(*byte, private);
        let others = |name: &[u8]| -> Vec<u8> {
            let others = name.iter().copied();
            others.filter(|byte| is_other(byte)).collect()
        };
        if others(trace) != others(here) {
            return None;
        }
        let mut pieces = Vec::new();
        for (trace, here) in trace.split(is_other).zip(here.split(is_other)) {
            if self.same_text(trace, here, false).is_none() {
                let piece = temporary_names::random_piece(trace, here, private)?;
                pieces.push((trace[piece.clone()].to_vec(), here[piece].to_vec()));
            }
        }
        Some(pieces)
    }

    /// Whether two texts differ only in known names and pids: the length of the second's part that equals the first.
    fn same_text(&self, trace: &[u8], here: &[u8], cut: bool) -> Option<usize> {
        let (mut at, mut there) = (0, 0);
        // The text before has been reconciled.
        let mut floor = 0;
        loop {
            let (rest, rest_here) = (&trace[at..], &here[there..]);
            let same = rest.iter().zip(rest_here).take_while(|(a, b)| a == b);
            let same = same.count();
            (at, there) = (at + same, there + same);
            let is_all = at == trace.len();
            if is_all && (cut || there == here.len()) {
                return Some(there);
            }
            let digits = trace[floor..at].iter().rev();
            let back = digits.take_while(|byte| byte.is_ascii_digit()).count();
            let (number, number_here) = (run_from(trace, at - back), run_from(here, there - back));
            if self.same_number(&trace[number.clone()], &here[number_here.clone()]) {
                (at, there) = (number.end, number_here.end);
            } else {
                let len = self.same_piece(&trace[at..], &here[there..])?;
                (at, there) = (at + len, there + len);
            }
            floor = at;
        }
    }

    /// Whether two runs of digits are a pid or a number of a name, in the trace and in this run.
    fn same_number(&self, trace: &[u8], here: &[u8]) -> bool {
        if self.pieces.get(trace).is_some_and(|known| known == here) {
            return !trace.is_empty();
        }
        match (number(trace), number(here)) {
            // Smaller numbers in a text are no pids.
            (Some(pid), Some(here)) => pid > 1 && self.pids.get(&pid) == Some(&here),
            _ => false,
        }
    }

    /// The length of a random piece of a name, where the first text begins with the trace's piece and the second with
    /// the process's.
    fn same_piece(&self, trace: &[u8], here: &[u8]) -> Option<usize> {
        let is_end = |text: &[u8], at: usize| {
            let next = text.get(at);
            next.is_none_or(|byte| !byte.is_ascii_alphanumeric())
        };
        let most = trace.len().min(here.len()).min(LONGEST);
        let ends = (1..=most).filter(|&at| is_end(trace, at) && is_end(here, at));
        let mut ends = ends.take(MOST_PARTS);
        ends.find(|&len| {
            let known = self.pieces.get(&trace[..len]);
            known.is_some_and(|known| *known == here[..len])
        })
    }
}

/// The permitted differences between two values.
#[derive(Clone, Copy)]
struct Tolerance {
    /// They are paths, or names, which may be others that are not known yet.
    is_path: bool,
    /// They are points in time.
    is_time: bool,
    /// Their numbers are pids.
    is_pid: bool,
}

/// The outputs of a call that are adapted to this run.
#[derive(Clone, Copy)]
struct Outputs {
    /// The names in this member or argument.
    names: Option<&'static str>,
    /// Pids among them.
    pids: bool,
}

/// Whether a call returns pids or names.
pub(in crate::inject) fn returns_either(name: &str) -> bool {
    let names = RETURN_NAMES.iter().any(|(call, _)| *call == name);
    is_own(name) || RETURN_PIDS.contains(&name) || names || name == "ioctl"
}

fn is_own(name: &str) -> bool {
    matches!(name, "getpid" | "gettid" | "getppid")
}

/// The run of digits that begins here.
fn run_from(text: &[u8], from: usize) -> Range<usize> {
    let digits = text[from..].iter().take_while(|byte| byte.is_ascii_digit());
    from..from + digits.count()
}

/// A number as pids are written.
fn number(digits: &[u8]) -> Option<i32> {
    let is_number = digits.iter().all(u8::is_ascii_digit) && digits.first() != Some(&b'0');
    let text = std::str::from_utf8(digits).ok().filter(|_| is_number)?;
    text.parse().ok()
}

/// The number of bytes of the call's data, where it is an input.
fn data_len(call: &Syscall, values: &[Value]) -> Option<i64> {
    if call.moves_data() != Some(Moved::In) {
        return None;
    }
    let bytes = match values.get(call.data_arg()?)? {
        Value::Array { items, .. } => {
            let bases = items.iter().map(|item| item.field("iov_base"));
            let lens = bases.map(|base| Some(base?.as_bytes()?.len()));
            lens.sum::<Option<usize>>()?
        }
        value => value.as_bytes()?.len(),
    };
    i64::try_from(bytes).ok()
}

/// Whether an argument has a name in it that may be temporary: a path, a name, an address.
fn is_name(call: &Syscall, arg: usize) -> bool {
    match call.args.get(arg).map(|arg| &arg.kind) {
        Some(Kind::Ptr(_, to)) => matches!(**to, Kind::Path | Kind::Str | Kind::Sockaddr(_)),
        _ => false,
    }
}

/// Whether an argument is a pid, or points to one.
fn is_pid(seen: &HookCall, arg: usize) -> bool {
    let name = seen.call.args.get(arg).map(|arg| arg.name);
    match (seen.call.name, name) {
        ("ioctl", Some("argp")) => PID_REQUESTS.contains(&seen.args[1]),
        ("fcntl", Some("arg")) => seen.args[1] as i32 == libc::F_SETOWN,
        (_, Some(name)) => PIDS.contains(&name),
        _ => false,
    }
}

#[cfg(test)]
mod tests;
