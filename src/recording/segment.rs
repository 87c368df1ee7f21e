//! Recorded events as calls of a [`Trace`].

use super::{
    CallEvent, ChunkMemory, Event, EventKind, Family, Frame, LeftMemory, Recording, Result,
};
use crate::syscall;
use crate::trace::{Answer, Attachment, Call, DescriptorPaths, Entry, Field, Origin, Trace, Value};
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

    /// What strace says about the result besides.
    fn notes(&self) -> Vec<Field> {
        let (Some(call), Some(ret)) = (syscall::by_nr(self.nr.into()), self.ret) else {
            return Vec::new();
        };
        let ins = ChunkMemory(&self.ins);
        call.resolve(&self.args)
            .notes(&self.args, ret, &ins, &self.left())
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

impl Recording {
    /// The events `first` to `last` (both included) as a trace, and the ends of tasks among them and right behind;
    /// those of all processes, or of one process or task.
    ///
    /// # Errors
    /// If there are no such events, or one is damaged.
    pub fn segment(&self, first: u64, last: u64, pid: Option<i32>) -> Result<Trace> {
        self.event(last)?;
        // Which process a task is of takes all that came before.
        let mut family = self.family_at(first, Family::clone)?;
        let known = self.known(&family, pid);
        let mut frames = self.frames_from(first)?;
        let mut number = first - 1;
        let mut entries = Vec::new();
        while let Some(frame) = frames.next_frame()? {
            let meant = |tid: i32| pid.is_none_or(|pid| tid == pid || family.pid(tid) == Some(pid));
            let exited = |tid, exit| Entry::Exit {
                tid,
                exit,
                origin: Origin::Event(number),
                line_info: None,
            };
            let first_process = self.start().pid;
            match &frame {
                Frame::Event(_) if number >= last => break,
                Frame::Event(event) => {
                    if meant(event.tid) {
                        entries.push(event.to_entry(number + 1));
                    }
                    number += 1;
                }
                // What is ahead of the first event is no part of this.
                _ if number < first => continue,
                Frame::Gone { tid, exit, .. } if meant(*tid) => entries.push(exited(*tid, *exit)),
                Frame::End { exit } if family.is_alive(first_process) && meant(first_process) => {
                    entries.push(exited(first_process, *exit));
                }
                _ => {}
            }
            family.follow(&frame);
        }
        Ok(Trace::new(entries).with_open_files(known))
    }

    /// What the tasks of a process, or of all, have open.
    fn known(&self, family: &Family, pid: Option<i32>) -> DescriptorPaths {
        let mut known = DescriptorPaths::default();
        for tid in family.all_tasks() {
            let process = family.pid(tid).unwrap_or(tid);
            if pid.is_some_and(|pid| pid != tid && pid != process) {
                continue;
            }
            if tid != process && family.share_descriptors(tid, process) {
                known.share_task_files(tid, process);
                continue;
            }
            let cwd = family.cwd(tid).unwrap_or_default();
            let open = family.each_descriptor(tid);
            let open = open.map(|(fd, file, _)| (fd, file.names()));
            known.set_task_files(tid, (cwd, &self.start().cwd), open);
        }
        known
    }
}
