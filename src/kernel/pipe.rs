//! pipe(2) and fifo(7): the bytes in each pipe, by its name.

use super::{Descriptors, Kernel, Object, OpenFile, Queue, output_descriptors};
use crate::recording::CallEvent;

impl Kernel {
    /// The bytes in the pipe that an open file is an end of.
    pub fn pipe(&self, id: u64, file: &OpenFile) -> Option<&Queue> {
        self.pipes.get(self.pipe_name(id, file)?)
    }

    /// The name of the pipe that an open file is an end of.
    pub fn pipe_name<'a>(&'a self, id: u64, file: &'a OpenFile) -> Option<&'a [u8]> {
        match self.objects.get(&id) {
            Some(Object::PipeEnd(name)) => Some(name),
            _ => Some(file.path.as_slice()).filter(|_| file.is_pipe()),
        }
    }

    /// Follows pipe(2). A pipe whose name the recorder did not look up is named after its first end.
    pub(super) fn create_pipe(&mut self, call: &CallEvent, after: &dyn Descriptors) {
        let fds = output_descriptors(call);
        let ends: Vec<_> = fds.iter().filter_map(|&fd| after.file(fd)).collect();
        let Some(&(first, file)) = ends.first() else {
            return;
        };
        let mut name = file.path.clone();
        if name == b"pipe:[]" {
            name = format!("pipe:[of {first}]").into_bytes();
            let ids: Vec<u64> = ends.iter().map(|&(id, _)| id).collect();
            for id in ids {
                self.add(id, Object::PipeEnd(name.clone()));
            }
        }
        self.added += 1;
        self.pipes.insert(name, Queue::default());
    }

    /// The bytes in a pipe that data come into or out of. A pipe that no recorded process has made may have any: a FIFO begins
    /// empty, but others put data in it, too.
    pub(super) fn used_pipe(&mut self, name: &[u8]) -> &mut Queue {
        self.pipes.entry(name.to_vec()).or_insert_with(|| {
            self.added += 1;
            let mut queue = Queue::default();
            queue.incomplete = name.starts_with(b"pipe:[");
            queue
        })
    }
}
