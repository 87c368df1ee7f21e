//! The tasks of a recording and what the kernel keeps for each of their processes, followed frame by frame:
//! who is whose thread and child, and what their descriptors are.

use super::{Born, CallEvent, DescriptorTable, Event, Frame, OpenFile, Start, Stream};
use std::collections::BTreeMap;

/// A task, as far as it matters here.
#[derive(Clone, Debug)]
struct Task {
    pid: i32,
    ppid: i32,
    table: DescriptorTable,
}

/// All tasks that there are at some place of a recording.
#[derive(Clone, Debug, Default)]
pub struct Family {
    tasks: BTreeMap<i32, Task>,
}

impl Family {
    /// The one task that a recording begins with.
    pub fn at_start(start: &Start) -> Family {
        let task = Task {
            pid: start.pid,
            ppid: start.ppid,
            table: DescriptorTable::at_start(start),
        };
        Family {
            tasks: BTreeMap::from([(start.pid, task)]),
        }
    }

    /// Follows one frame.
    pub fn follow(&mut self, frame: &Frame) {
        match frame {
            Frame::Event(event) => self.follow_event(event),
            Frame::Born(born) => self.born(born),
            Frame::Gone { tid, .. } => {
                self.tasks.remove(tid);
            }
            _ => {}
        }
    }

    /// Follows one event.
    pub fn follow_event(&mut self, event: &Event) {
        if let Some(call) = event.call() {
            self.call(event.tid, call);
        }
    }

    /// Follows one call of this task.
    pub fn call(&mut self, tid: i32, call: &CallEvent) {
        if let Some(task) = self.tasks.get_mut(&tid) {
            task.table.apply(call);
        }
    }

    /// Follows a task's making.
    pub fn born(&mut self, born: &Born) {
        let Some(maker) = self.tasks.get(&born.maker) else {
            return;
        };
        let task = Task {
            pid: born.pid,
            ppid: maker.pid,
            table: maker.table.clone(),
        };
        self.tasks.insert(born.tid, task);
    }

    /// The process of a task; `None` where there is no such task.
    pub fn pid(&self, tid: i32) -> Option<i32> {
        self.tasks.get(&tid).map(|task| task.pid)
    }

    /// The parent of a task's process.
    pub fn ppid(&self, tid: i32) -> Option<i32> {
        self.tasks.get(&tid).map(|task| task.ppid)
    }

    /// The tasks of a process, by rising number.
    pub fn tasks(&self, pid: i32) -> impl Iterator<Item = i32> {
        let all = self.tasks.iter();
        all.filter(move |(_, task)| task.pid == pid)
            .map(|(&tid, _)| tid)
    }

    /// A task's descriptors, on their own.
    pub fn descriptors(&self, tid: i32) -> Option<DescriptorTable> {
        self.tasks.get(&tid).map(|task| task.table.clone())
    }

    /// The open file behind a task's descriptor.
    pub fn open_file(&self, tid: i32, fd: i32) -> Option<&OpenFile> {
        self.tasks.get(&tid)?.table.get(fd)
    }

    /// The standard stream that a task's descriptor writes to, if it is one.
    pub fn output_stream(&self, tid: i32, fd: i32) -> Option<Stream> {
        self.tasks.get(&tid)?.table.output_stream(fd)
    }
}
