//! A trace as a script, with the mapping from its tasks to the threads of the process.

use super::item::{DueSignal, ExpectedCall, Item, ItemKind};
use super::other_run::OtherRun;
use crate::inject::{Error, Result};
use crate::process::Process;
use crate::trace::{Call, Entry, Exit, Trace, Value};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// The entries of a trace that are about the process.
pub struct TraceScript {
    trace: Arc<Trace>,
    /// The next entry.
    at: usize,
    /// The index of the next call.
    index: usize,
    /// The threads of the process, by their numbers in the trace.
    pids: BTreeMap<i32, i32>,
    /// The differences between the runs, once the process is known.
    other_run: Option<OtherRun>,
}

impl TraceScript {
    /// All of a trace; none of its tasks is mapped to a thread yet.
    pub fn new(trace: Arc<Trace>) -> TraceScript {
        TraceScript {
            trace,
            at: 0,
            index: 0,
            pids: BTreeMap::new(),
            other_run: None,
        }
    }

    /// Checks that the named tasks and threads exist.
    pub fn check(&self, process: &Process, named: &BTreeMap<i32, i32>) -> Result<()> {
        let (tasks, mut threads) = (self.trace.pids(), process.tids());
        let relatives = process.relatives.iter().flat_map(|other| &other.threads);
        threads.extend(relatives.map(|thread| thread.tid));
        let list = |tids: &[i32]| {
            let tids = tids.iter().filter(|&&tid| tid != 0);
            let tids: Vec<String> = tids.map(i32::to_string).collect();
            tids.join(", ")
        };
        let mut taken: BTreeMap<i32, i32> = BTreeMap::new();
        for (&told, &tid) in named {
            if !tasks.contains(&told) {
                let there = match tasks.as_slice() {
                    [] | [0] => String::from("its lines say no pids"),
                    tasks => format!("it has {}", list(tasks)),
                };
                return Err(Error::Pids(format!(
                    "the trace has no task {told}: {there}"
                )));
            }
            if !threads.contains(&tid) {
                let (pid, there) = (process.group.pid, list(&threads));
                return Err(Error::Pids(format!(
                    "process {pid} has no task {tid} where it was spun off: it has {there}"
                )));
            }
            if let Some(other) = taken.insert(tid, told) {
                return Err(Error::Pids(format!(
                    "{other} and {told} of the trace cannot both be task {tid}"
                )));
            }
        }
        Ok(())
    }

    /// Maps the numbers of the trace to the threads of the process, for the calls from this one on.
    pub fn assign(
        &mut self,
        start: usize,
        process: &Process,
        named: &BTreeMap<i32, i32>,
    ) -> Result<()> {
        self.pids.clone_from(named);
        let threads = process.tids();
        let taken: BTreeSet<i32> = named.values().copied().collect();
        let mut free: BTreeSet<i32> = threads.into_iter().filter(|t| !taken.contains(t)).collect();
        let tasks = self.trace.pids();
        if tasks.len() > 1 {
            for &tid in &tasks {
                if !self.pids.contains_key(&tid) && free.remove(&tid) {
                    self.pids.insert(tid, tid);
                }
            }
        }
        if free.remove(&process.driven.tid)
            && let Some(first) = self.trace.calls().skip(start).map(|call| call.tid).next()
            && !self.pids.contains_key(&first)
        {
            self.pids.insert(first, process.driven.tid);
            // Lines without a number belong to the first process while it is alone.
            let made = self.made();
            if let Some(&same) = tasks.iter().find(|&&tid| tid != 0 && !made.contains(&tid))
                && first == 0
            {
                self.pids.entry(same).or_insert(process.driven.tid);
            }
        }
        self.assign_threads(start, free);
        self.learn(start, process)
    }

    /// Learns the differences between the runs from the calls before this one.
    fn learn(&mut self, start: usize, process: &Process) -> Result<()> {
        let pids = self.pids.clone();
        let mut another = OtherRun::new(&self.trace, pids, process.group.pid, process.group.ppid);
        let mut children = Vec::new();
        for call in self.trace.calls().take(start) {
            let Some(&tid) = self.pids.get(&call.tid) else {
                continue;
            };
            another.learn_pids(&call.name, &call.answer, tid);
            if makes_tasks(&call.name)
                && new_thread(call).is_none()
                && let Some(child) = call.answer.raw().and_then(|ret| i32::try_from(ret).ok())
                && child > 0
            {
                children.push(child);
            }
        }
        if !children.is_empty() {
            let here = children_of(process)?;
            // The last children are those that matter.
            for (child, here) in children.iter().rev().zip(here.iter().rev()) {
                another.pair(*child, *here);
            }
        }
        self.other_run = Some(another);
        Ok(())
    }

    /// The differences between the runs.
    pub fn other_run(&mut self) -> Option<&mut OtherRun> {
        self.other_run.as_mut()
    }

    /// The threads that exist already, in order of creation.
    fn assign_threads(&mut self, start: usize, free: BTreeSet<i32>) {
        let mut free = free.into_iter();
        let later: BTreeSet<i32> = self
            .trace
            .calls()
            .skip(start)
            .map(|call| call.tid)
            .collect();
        let trace = Arc::clone(&self.trace);
        for call in trace.calls().take(start) {
            if self.pids.contains_key(&call.tid)
                && let Some(new) = new_thread(call)
                && later.contains(&new)
                && !self.pids.contains_key(&new)
                && let Some(tid) = free.next()
            {
                self.pids.insert(new, tid);
            }
        }
    }

    /// The tasks that were created by others of the trace.
    fn made(&self) -> BTreeSet<i32> {
        let calls = self.trace.calls();
        calls
            .filter(|call| makes_tasks(&call.name))
            .filter_map(|call| call.answer.raw())
            .filter_map(|ret| i32::try_from(ret).ok())
            .collect()
    }

    /// The end of a task of the process, as in the trace.
    pub fn end_of(&self, tid: i32) -> Option<Exit> {
        self.trace
            .entries()
            .iter()
            .rev()
            .find_map(|entry| match entry {
                Entry::Exit { tid: its, exit, .. } if self.pids.get(its) == Some(&tid) => {
                    Some(*exit)
                }
                _ => None,
            })
    }

    /// The trace.
    pub fn trace(&self) -> &Trace {
        &self.trace
    }

    /// The next item.
    pub fn next(&mut self) -> Option<Item> {
        loop {
            let entry = self.trace.entries().get(self.at)?;
            self.at += 1;
            let tid = self.pids.get(&entry.tid()).copied();
            let call = match entry {
                Entry::Call(call) => call,
                Entry::Signal { .. } => {
                    if let (Some(tid), Some(due)) = (tid, due(entry)) {
                        let kind = ItemKind::Signal(due);
                        return Some(Item { tid, kind });
                    }
                    continue;
                }
                Entry::Exit { .. } => continue,
            };
            let index = self.index;
            self.index += 1;
            let Some(tid) = tid else {
                continue;
            };
            if let Some(new) = new_thread(call) {
                self.pids.entry(new).or_insert(new);
            }
            let kind = ItemKind::Call(Box::new(ExpectedCall::of_call(index, call)));
            return Some(Item { tid, kind });
        }
    }
}

fn makes_tasks(call: &str) -> bool {
    matches!(call, "clone" | "clone3" | "fork" | "vfork")
}

/// The children that a process created before it was spun off.
fn children_of(process: &Process) -> Result<Vec<i32>> {
    let tids = process.tids();
    let mut children = Vec::new();
    for event in process.group.recording.events_from(1)? {
        let (number, event) = event?;
        if number >= process.group.event.0 {
            break;
        }
        let made = event.call().filter(|call| makes_tasks(&call.name()));
        if tids.contains(&event.tid)
            && let Some(child) = made.and_then(|call| i32::try_from(call.ret?).ok())
            && child > 0
            && !tids.contains(&child)
        {
            children.push(child);
        }
    }
    Ok(children)
}

/// The thread that a call creates, by its number in the trace.
fn new_thread(call: &Call) -> Option<i32> {
    if !matches!(call.name.as_str(), "clone" | "clone3") {
        return None;
    }
    let made = call.answer.raw().filter(|&ret| ret > 0)? as i32;
    let thread = call.args.iter().any(|arg| mentions(arg, "CLONE_THREAD"));
    thread.then_some(made)
}

fn mentions(value: &Value, word: &str) -> bool {
    match value {
        Value::Sym { text, .. } | Value::Raw(text) => text.contains(word),
        Value::Struct { fields, .. } => fields.iter().any(|f| mentions(&f.value, word)),
        Value::Change { before, .. } => mentions(before, word),
        _ => false,
    }
}

/// A signal of a trace, unless an instruction of the program raises it again.
fn due(entry: &Entry) -> Option<DueSignal> {
    let Entry::Signal {
        signal,
        info,
        origin,
        ..
    } = entry
    else {
        return None;
    };
    let of_fault = matches!(
        *signal,
        libc::SIGSEGV | libc::SIGBUS | libc::SIGILL | libc::SIGFPE | libc::SIGTRAP
    );
    let sent = match info.field("si_code") {
        Some(Value::Sym { text, .. }) => text.starts_with("SI_") && text != "SI_KERNEL",
        Some(code) => code.as_i64().is_some_and(|code| code <= 0),
        None => false,
    };
    (sent || !of_fault).then_some(DueSignal {
        signal: *signal,
        info: None,
        recorded: None,
        sent: false,
        event: origin.event(),
    })
}
