//! What a recording knows of its calls that decides which failures are plausible for them: the files behind them and
//! their sizes, the state of sockets, the handlers of signals.
//!
//! One pass over the recording finds the facts of all calls: each needs the state that the calls before it left.

mod creation;
mod handlers;
mod memory;
mod processes;
mod target;
mod waiting;

use super::world::WorldReached;
use super::{RecordedFiles, Recording};
use crate::kernel::{Descriptors, Kernel, ProcessTree};
use crate::recording::{CallEvent, ChunkMemory, EventKind, Frame, Frames, Result};
use crate::syscall::plausible::{Facts, FileType, Plausible, plausible_answers};
use crate::syscall::{self, Memory, Moved, Syscall};
use crate::world::{NodeId, World};
use handlers::Handlers;
use std::collections::HashSet;
use std::sync::Arc;
use target::Target;

/// The files of a recording.
type Files = World<Arc<RecordedFiles>>;

/// The facts about a recorded call.
#[derive(Clone, Copy, Debug)]
pub struct CallFacts {
    /// The number of its event.
    pub event: u64,
    /// The task that made it.
    pub tid: i32,
    /// The call.
    pub call: &'static Syscall,
    /// What is known of it.
    pub facts: Facts,
}

impl CallFacts {
    /// The answers that the kernel could have given instead, without errors of the programmer.
    pub fn answers(&self) -> impl Iterator<Item = &'static Plausible> + use<> {
        let facts = self.facts;
        let all = plausible_answers(self.call.name).unwrap_or_default().iter();
        all.filter(move |answer| !answer.is_misuse() && answer.holds(&facts))
    }
}

/// A call, and the state in which it is made.
struct Made<'a> {
    call: &'a CallEvent,
    known: &'static Syscall,
    descriptors: &'a dyn Descriptors,
    kernel: &'a Kernel,
}

impl Made<'_> {
    fn memory(&self) -> ChunkMemory<'_> {
        ChunkMemory(&self.call.ins)
    }

    fn name(&self) -> &'static str {
        self.known.name
    }

    fn arg(&self, at: usize) -> u64 {
        self.call.args.get(at).copied().unwrap_or(0)
    }

    /// The argument with this name in the manual page; 0 where the call has none.
    fn named(&self, name: &str) -> u64 {
        self.known.arg(name).map_or(0, |at| self.arg(at))
    }

    /// The number in memory that an address points to; `None` for a null pointer, and where it was not recorded.
    fn word(&self, address: u64) -> Option<u64> {
        let mut bytes = [0; 8];
        let is_there = address != 0 && self.memory().read(address, &mut bytes) == bytes.len();
        is_there.then(|| u64::from_le_bytes(bytes))
    }

    /// The bytes that the call moved, or that it asked for where it moved none.
    fn amount(&self) -> u64 {
        match self.call.ret.and_then(|ret| u64::try_from(ret).ok()) {
            Some(moved) => moved,
            None => self.known.size_arg().map_or(1, |at| self.arg(at)),
        }
    }

    fn succeeded(&self) -> bool {
        self.call.ret.is_some_and(|ret| ret >= 0)
    }
}

/// A pass over a recording.
struct Pass {
    frames: Frames,
    tree: ProcessTree,
    kernel: Kernel,
    world: WorldReached<Arc<RecordedFiles>>,
    handlers: Handlers,
    /// The files that something was written to.
    written: HashSet<NodeId>,
    number: u64,
}

impl Recording {
    /// The facts about each call, in the order of the events. Events that are no calls are left out.
    ///
    /// # Errors
    /// If the recording cannot be read.
    pub fn call_facts(&self) -> Result<impl Iterator<Item = Result<CallFacts>> + use<>> {
        let mut pass = match self.is_empty() {
            true => None,
            false => Some(Pass {
                frames: self.frames_from(1)?,
                tree: ProcessTree::at_start(self.start()),
                kernel: Kernel::default(),
                world: WorldReached::of_recorded(&*self.source, self.recorded_files()?)?,
                handlers: Handlers::default(),
                written: HashSet::new(),
                number: 0,
            }),
        };
        Ok(std::iter::from_fn(move || {
            let next = pass.as_mut()?.next().transpose();
            if !matches!(next, Some(Ok(_))) {
                pass = None;
            }
            next
        }))
    }
}

impl Pass {
    fn next(&mut self) -> Result<Option<CallFacts>> {
        while let Some(frame) = self.frames.next_frame()? {
            let mut found = None;
            if let Frame::Event(event) = &frame {
                self.number += 1;
                if let EventKind::Call(call) = &event.kind {
                    self.world.go_to_recorded(self.number)?;
                    found = self.facts(event.tid, call);
                }
            }
            self.handlers.follow(&frame, &self.tree);
            self.kernel.follow(&mut self.tree, &frame);
            if found.is_some() {
                return Ok(found);
            }
        }
        Ok(None)
    }

    fn facts(&mut self, tid: i32, call: &CallEvent) -> Option<CallFacts> {
        let known = syscall::by_nr(call.nr.into())?;
        let descriptors = self.tree.view(tid);
        let made = Made {
            call,
            known: known.resolve(&call.args),
            descriptors: &descriptors,
            kernel: &self.kernel,
        };
        let world = self.world.world();
        let targets = Target::all(&made, world);
        let target = match targets.as_slice() {
            [] => Target::default(),
            // Data goes to the last one, a new name is the last one.
            [.., last] => last.clone(),
        };
        let mut facts = Facts {
            file: target.file,
            looks_up: target::names_a_path(&made),
            read_only: target
                .open
                .is_some_and(|(flags, _)| flags & libc::O_ACCMODE == libc::O_RDONLY),
            device_behind: targets.iter().any(Target::has_device),
            two_directories: target::are_in_two_directories(&targets),
            written: was_written(known.name, &target, &self.written, world),
            ..Facts::default()
        };
        creation::note(&made, &target, world, &mut facts);
        waiting::note(&made, &targets, &mut facts);
        facts.takes_memory = facts.creates || memory::is_taken(&made);
        processes::note(&made, &self.tree, tid, &mut facts);
        if let Some(pid) = self.tree.pid(tid) {
            facts.has_handler = self.handlers.any(pid);
            facts.has_interrupting_handler = self.handlers.any_interrupting(pid);
        }
        let has_moved = call.ret.is_some_and(|ret| ret > 0);
        if has_moved && is_write(&made) && is_regular(target.file) {
            self.written.extend(target.node);
        }
        Some(CallFacts {
            event: self.number,
            tid,
            call: known,
            facts,
        })
    }
}

/// Whether something was written to a file before; for syncfs(2), to any.
fn was_written(call: &str, target: &Target, written: &HashSet<NodeId>, world: &Files) -> bool {
    let is_mapped = |node| world.get(node).is_some_and(|node| node.is_mapped);
    let node = target.node;
    match call {
        "syncfs" => !written.is_empty(),
        _ => node.is_some_and(|node| written.contains(&node) || is_mapped(node)),
    }
}

/// Whether a call writes data to its file.
fn is_write(made: &Made<'_>) -> bool {
    let between_files = matches!(made.name(), "copy_file_range" | "sendfile" | "splice");
    between_files || made.known.moves_data() == Some(Moved::In)
}

/// Whether a file has a position for data, as pipes and sockets have not.
fn is_regular(file: Option<FileType>) -> bool {
    file == Some(FileType::Regular)
}
