//! Frames besides events: tasks that are created, preempted and ended, and changes to memory between events.

use super::context;
use super::state::ReplayState;
use super::{Error, Result};
use crate::image::Chunk;
use crate::process::{StopPoint, remap};
use crate::recording::{Frame, Jump, NewTask, Piece, Shows};
use crate::tracee::{Regs, cpuid};

/// A recording with more of these at once is refused.
const MOST_TASKS: usize = 4096;
const MOST_SPACES: usize = 512;

/// The maximum number of counter values between two stops.
const MOST_TSC: usize = 64 << 20;

impl ReplayState {
    /// Follows a frame that is no event and resumes no task.
    pub fn follow(&mut self, frame: &Frame) -> Result<()> {
        match frame {
            Frame::NewTask(born) => self.born(born)?,
            Frame::Jump(jump) => self.jump(jump)?,
            Frame::Gone { tid, left, .. } => self.gone(*tid, left)?,
            Frame::Tsc { tid, values } => self.note_tsc(*tid, values)?,
            Frame::Poke { tid, chunks } => self.write(*tid, chunks)?,
            Frame::Resize { object, size } => {
                self.changes += 1;
                self.objects.resize(*object, *size)?;
            }
            Frame::Remap { tid, pieces } => self.remap(*tid, pieces)?,
            Frame::Fill {
                object,
                offset,
                data,
            } => {
                self.changes += 1;
                self.objects.fill(*object, *offset, data)?;
            }
            Frame::TrapCpuid { tid } => {
                let table = &self.recording.start().cpuid;
                let space = self.tasks.get(tid).map(|task| task.space);
                let space = space.and_then(|space| self.spaces.get_mut(&space));
                cpuid::trap(table, &mut space.ok_or(Error::AtEnd)?.remote()?)?;
            }
            Frame::Reach(reach) => {
                let what = format!("task {} comes to a place without having run", reach.tid);
                return Err(self.senseless(what));
            }
            Frame::Start(_) => return Err(self.senseless("it begins anew")),
            Frame::Event(_)
            | Frame::Run { .. }
            | Frame::End { .. }
            | Frame::Before(_)
            | Frame::Clock(_)
            | Frame::Addresses(_)
            | Frame::JobControl(_)
            | Frame::User(_) => {}
        }
        self.tree.follow(frame);
        Ok(())
    }

    fn note_tsc(&mut self, tid: i32, values: &[u64]) -> Result<()> {
        let waiting: usize = self.tasks.values().map(|task| task.tsc.len()).sum();
        if waiting + values.len() > MOST_TSC {
            return Err(self.senseless(format!(
                "more than {MOST_TSC} values of the time stamp counter are read without a call"
            )));
        }
        self.task_mut(tid)?.tsc.extend(values);
        Ok(())
    }

    fn born(&mut self, born: &NewTask) -> Result<()> {
        if born.tid <= 0 || born.pid <= 0 {
            return Err(self.senseless(format!("task {} cannot be", born.tid)));
        }
        let maker = self.task(born.maker)?;
        if maker.place != StopPoint::Entry {
            return Err(self.senseless(format!(
                "task {} makes task {} outside of any call",
                born.maker, born.tid
            )));
        }
        if self.tasks.contains_key(&born.tid) {
            return Err(self.senseless(format!("task {} is made twice", born.tid)));
        }
        let shares_memory = born.flags & libc::CLONE_VM as u64 != 0;
        if born.pid != born.tid && (born.pid != maker.pid || !shares_memory) {
            return Err(self.senseless(format!(
                "task {} is a thread of process {}, which did not make it",
                born.tid, born.pid
            )));
        }
        if self.tasks.len() >= MOST_TASKS || (!shares_memory && self.spaces.len() >= MOST_SPACES) {
            return Err(Error::TooMany {
                event: self.number,
                tasks: MOST_TASKS,
                spaces: MOST_SPACES,
            });
        }
        let mut child = maker.clone();
        child.pid = born.pid;
        child.regs.answer(0);
        if born.stack != 0 {
            child.regs.set_sp(born.stack);
        }
        if born.flags & libc::CLONE_SETTLS as u64 != 0 {
            child.regs.set_fs_base(born.tls);
        }
        child.place = StopPoint::Between;
        child.masks = child.masks.child(born.flags);
        child.robust = (0, 0);
        child.clear_tid = match born.flags & libc::CLONE_CHILD_CLEARTID as u64 {
            0 => 0,
            _ => born.child_tid,
        };
        child.tsc.clear();
        child.actions = self.child_actions(child.actions, born.flags);
        let maker_space = child.space;
        let no_space = Error::AtEnd;
        let space = self.spaces.get_mut(&maker_space).ok_or(no_space)?;
        if shares_memory {
            if space.loaded == Some(born.maker) {
                child.vector = Some(context::vector(&space.task)?);
            }
        } else {
            space.load(born.maker, &mut self.tasks)?;
            let space = space.child(born.tid)?;
            child.vector = None;
            child.space = self.number();
            self.spaces.insert(child.space, space);
        }
        child.made = None;
        self.tasks.insert(born.tid, child);
        if born.pid != born.tid {
            self.task_mut(born.maker)?.made = Some(born.named);
        }
        // As in the kernel, a failed write is ignored.
        let (named, own) = (born.named, born.own_number());
        for (flag, tid, at, number) in [
            (
                libc::CLONE_PARENT_SETTID,
                born.maker,
                born.parent_tid,
                named,
            ),
            (libc::CLONE_CHILD_SETTID, born.tid, born.child_tid, own),
        ] {
            if born.flags & flag as u64 != 0 {
                let data = number.to_le_bytes().to_vec();
                let _ = self.write(tid, &[Chunk { addr: at, data }]);
            }
        }
        Ok(())
    }

    /// The signal actions of a task that is created with these flags.
    fn child_actions(&mut self, makers: u32, flags: u64) -> u32 {
        const CLONE_CLEAR_SIGHAND: u64 = 0x1_0000_0000;
        if flags & libc::CLONE_SIGHAND as u64 != 0 {
            return makers;
        }
        let before = self.actions.get(&makers).cloned().unwrap_or_default();
        let own = match flags & CLONE_CLEAR_SIGHAND {
            0 => before,
            _ => before.without_handlers(),
        };
        let number = self.number();
        self.actions.insert(number, own);
        number
    }

    fn jump(&mut self, jump: &Jump) -> Result<()> {
        let words = jump.regs.as_slice().try_into();
        let regs = words
            .map_err(|_| self.senseless(format!("{} words are no registers", jump.regs.len())))?;
        self.write(jump.tid, &jump.pages)?;
        let again = self.space_mut(jump.tid)?.pages.follow(jump);
        self.write(jump.tid, &again)?;
        if jump.vector.len() != self.fresh.len() {
            return Err(self.senseless(format!(
                "its vector registers have {} bytes, and those of this machine {}: it was recorded on another one",
                jump.vector.len(),
                self.fresh.len()
            )));
        }
        let task = self.task_mut(jump.tid)?;
        let regs = Regs::from_words(regs);
        // Job control stopped the task before the kernel looked at the value that its call returned.
        let unmoved = (task.regs.ip(), task.regs.ret()) == (regs.ip(), regs.ret());
        let restart = task.restart.filter(|_| unmoved);
        task.put(regs);
        task.restart = restart;
        task.tsc.clear();
        self.set_vector(jump.tid, &jump.vector)
    }

    /// Sets a task's vector registers.
    pub(super) fn set_vector(&mut self, tid: i32, vector: &[u8]) -> Result<()> {
        let space = self.space_mut(tid)?;
        if space.loaded == Some(tid) {
            space.task.set_vector(vector)?;
        } else {
            self.task_mut(tid)?.vector = Some(vector.to_vec());
        }
        Ok(())
    }

    fn gone(&mut self, tid: i32, left: &[Chunk]) -> Result<()> {
        let space = self.task(tid)?.space;
        let mut others = self
            .tasks
            .iter()
            .filter(|&(&other, task)| other != tid && task.space == space);
        if let Some((&heir, _)) = others.next() {
            self.write(heir, left)?;
        }
        self.remove(tid);
        Ok(())
    }
}

impl ReplayState {
    /// Maps the pieces of this list in a task's memory.
    fn remap(&mut self, tid: i32, list: &[Piece]) -> Result<()> {
        if list.iter().any(remap::is_ours) {
            return Err(self.senseless(format!("task {tid} has memory of rrapper's own changed")));
        }
        let space = self.task(tid)?.space;
        let space = self.spaces.get_mut(&space).ok_or(Error::AtEnd)?;
        self.changes += 1;
        space.changes += 1;
        let is_object = |piece: &Piece| matches!(piece.shows, Shows::Object { .. });
        space.shares |= list.iter().any(is_object);
        let mut remote = space.remote()?;
        remap::show(&mut remote, list, &self.recording, &self.objects)?;
        Ok(remote.finish()?)
    }
}
