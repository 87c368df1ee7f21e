//! A range of a recording's events as a [`Trace`].

use super::Recording;
use crate::kernel::ProcessTree;
use crate::recording::{Frame, Result};
use crate::trace::{DescriptorPaths, Entry, Origin, Trace};

impl Recording {
    /// The events `first` to `last` (both included) as a trace, and the ends of tasks among them and right behind;
    /// those of all processes, or of one process or task.
    ///
    /// # Errors
    /// If there are no such events, or one is damaged.
    pub fn segment(&self, first: u64, last: u64, pid: Option<i32>) -> Result<Trace> {
        self.event(last)?;
        // The process of a task depends on all frames before.
        let mut tree = self.process_tree_at(first, ProcessTree::clone)?;
        let known = self.known(&tree, pid);
        let mut frames = self.frames_from(first)?;
        let mut number = first - 1;
        let mut entries = Vec::new();
        while let Some(frame) = frames.next_frame()? {
            let meant = |tid: i32| pid.is_none_or(|pid| tid == pid || tree.pid(tid) == Some(pid));
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
                // Frames before the first event are no part of the segment.
                _ if number < first => continue,
                Frame::Gone { tid, exit, .. } if meant(*tid) => entries.push(exited(*tid, *exit)),
                Frame::End { exit } if tree.is_alive(first_process) && meant(first_process) => {
                    entries.push(exited(first_process, *exit));
                }
                _ => {}
            }
            tree.follow(&frame);
        }
        Ok(Trace::new(entries).with_open_files(known))
    }

    /// The open files of the tasks of a process, or of all.
    fn known(&self, tree: &ProcessTree, pid: Option<i32>) -> DescriptorPaths {
        let mut known = DescriptorPaths::default();
        for tid in tree.all_tasks() {
            let process = tree.pid(tid).unwrap_or(tid);
            if pid.is_some_and(|pid| pid != tid && pid != process) {
                continue;
            }
            if tid != process && tree.share_descriptors(tid, process) {
                known.share_task_files(tid, process);
                continue;
            }
            let cwd = tree.cwd(tid).unwrap_or_default();
            let open = tree.each_descriptor(tid);
            let open = open.map(|(fd, file, _)| (fd, file.names()));
            known.set_task_files(tid, (cwd, &self.start().cwd), open);
        }
        known
    }
}
