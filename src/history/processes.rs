//! The processes of a recording.

use super::Recording;
use crate::kernel::{ProcessTree, argv_of};
use crate::recording::{CallEvent, Effect, Frame, Result};
use crate::trace::Exit;
use std::collections::HashMap;

/// A process of a recording.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordedProcess {
    /// Its pid.
    pub pid: i32,
    /// The pid of its first parent.
    pub ppid: i32,
    /// The arguments of the program that it executed last, or else of the program that its parent was executing.
    pub argv: Vec<Vec<u8>>,
    /// The path of that program's file.
    pub exe: Vec<u8>,
    /// Its first event and its last; `None` where it has none.
    pub events: Option<(u64, u64)>,
    /// How it ended; `None` where the recording does not reach so far.
    pub exit: Option<Exit>,
}

impl Recording {
    /// All processes, in the order in which they began.
    ///
    /// # Errors
    /// If the recording cannot be read.
    pub fn processes(&self) -> Result<Vec<RecordedProcess>> {
        let start = self.start();
        let mut all = vec![RecordedProcess {
            pid: start.pid,
            ppid: start.ppid,
            argv: start.argv.clone(),
            exe: Vec::new(),
            events: None,
            exit: None,
        }];
        if self.is_empty() {
            return Ok(all);
        }
        // The index of each process that is alive; a pid may be used again.
        let mut alive = HashMap::from([(start.pid, 0)]);
        let mut tree = ProcessTree::at_start(start);
        let mut frames = self.frames_from(1)?;
        let mut number = 0;
        while let Some(frame) = frames.next_frame()? {
            match &frame {
                Frame::Event(event) => {
                    number += 1;
                    let place = tree.pid(event.tid).and_then(|pid| alive.get(&pid));
                    if let Some(life) = place.and_then(|&at| all.get_mut(at)) {
                        let first = life.events.map_or(number, |(first, _)| first);
                        life.events = Some((first, number));
                        if let Some(call) = event.call() {
                            life.follow(call);
                        }
                    }
                    tree.follow(&frame);
                }
                Frame::NewTask(born) => {
                    let maker = tree.pid(born.maker);
                    tree.follow(&frame);
                    let new = born.pid == born.tid && tree.pid(born.tid) == Some(born.pid);
                    let parent = maker.and_then(|pid| all.get(*alive.get(&pid)?));
                    if let Some(parent) = parent.filter(|_| new) {
                        let life = RecordedProcess {
                            pid: born.pid,
                            ppid: tree.ppid(born.tid).unwrap_or(0),
                            argv: parent.argv.clone(),
                            exe: parent.exe.clone(),
                            events: None,
                            exit: None,
                        };
                        alive.insert(born.pid, all.len());
                        all.push(life);
                    }
                }
                Frame::Gone { tid, exit, .. } => {
                    let pid = tree.pid(*tid);
                    tree.follow(&frame);
                    if let Some(pid) = pid.filter(|&pid| !tree.is_alive(pid))
                        && let Some(at) = alive.remove(&pid)
                    {
                        all[at].exit = Some(*exit);
                    }
                }
                Frame::End { exit } => {
                    all[0].exit = all[0].exit.or(Some(*exit));
                }
                _ => {}
            }
        }
        Ok(all)
    }
}

impl RecordedProcess {
    /// Follows execve(2).
    fn follow(&mut self, call: &CallEvent) {
        let Effect::Exec(image) = &call.effect else {
            return;
        };
        self.exe.clone_from(&image.exe);
        let argv = argv_of(call);
        if !argv.is_empty() {
            self.argv = argv;
        }
    }
}
