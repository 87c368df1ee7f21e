//! Creation and exit of threads of the driven process.

use super::task::{FutexWait, StoppedTask};
use super::{Driver, Next};
use crate::image::Chunk;
use crate::inject::Result;
use crate::inject::hook::HookCall;
use crate::inject::outcome::Status;
use crate::inject::script::item::Birth;
use crate::process::{StopPoint, Thread};
use crate::recording::NewTask;
use crate::syscall::CloneArgs;
use crate::trace::Exit;
use crate::tracee::{Stopped, agent};

impl Driver<'_> {
    /// Creates the thread that the trace's call created, or the process that is followed from then on; `ret` is the task's tid
    /// as its creator knows it.
    pub(super) fn make_thread(
        &mut self,
        task: &mut Stopped,
        seen: &HookCall,
        ret: i64,
        recorded: Option<Birth>,
    ) -> Result<()> {
        if let Some(born) = recorded.as_ref().filter(|born| born.is_process()) {
            if i64::from(born.task.named) == ret && self.is_followed(born) {
                return self.make_process(task, seen, &born.task);
            }
            self.script.refuse(born.task.pid);
            return Ok(());
        }
        let recorded = recorded.map(|born| born.task);
        let asked = CloneArgs::of(seen.call.nr, &seen.args, &seen.memory);
        let Some(asked) = asked.filter(|asked| asked.has(libc::CLONE_THREAD | libc::CLONE_VM))
        else {
            return Ok(());
        };
        let recorded = recorded.filter(|born| i64::from(born.named) == ret);
        let tid = recorded.as_ref().map_or(ret as i32, |born| born.tid);
        // The thread may have been spun off together with its creator, before the creator learned its tid.
        let known = self.resting.contains_key(&tid) || tid == self.me.tid;
        if known || ret <= 0 || i64::from(ret as i32) != ret {
            return Ok(());
        }
        let both = libc::CLONE_CHILD_SETTID | libc::CLONE_CHILD_CLEARTID;
        let born = NewTask {
            tid,
            pid: self.group.pid,
            maker: self.me.tid,
            flags: asked.flags,
            stack: asked.stack,
            tls: asked.tls,
            parent_tid: asked.given(libc::CLONE_PARENT_SETTID, asked.parent_tid),
            child_tid: asked.given(both, asked.child_tid),
            numbers: recorded.map(|born| born.numbers).unwrap_or_default(),
            named: ret as i32,
        };
        let thread = Thread::born(task, &self.me.segv, &self.me.attributes, &born)?;
        let pid = self.group.pid;
        self.resting.insert(tid, StoppedTask::of(thread, pid));
        Ok(())
    }

    /// Handles exit and exit_group: the process, or one of its threads, ends.
    pub(super) fn on_exit_call(&mut self, task: Stopped, seen: &HookCall) -> Result<Next> {
        self.report.log.call(seen, None);
        let code = seen.args[0] as i32 & 0xff;
        if !self.has_siblings() && self.group.retired.is_empty() {
            return Ok(Next::Resume(task));
        }
        if seen.call.name == "exit" && self.me.tid == self.group.pid {
            self.first_code = Some(code);
        }
        if seen.call.name == "exit_group" || !self.has_siblings() {
            // The kernel would wait for threads that are stopped.
            let code = match (seen.call.name, self.first_code) {
                ("exit", Some(first)) => first,
                _ => code,
            };
            let exit = Exit::Code(code);
            return Ok(Next::End(Status::Exited, Some(exit), None));
        }
        self.last = self.me.tid;
        if task.tid() != self.group.real_pid {
            self.me.exited = true;
            return Ok(Next::Resume(task));
        }
        let word = self.me.attributes.clear_tid;
        self.group.retired.push(task);
        if word != 0 {
            self.write_left(&[Chunk {
                addr: word,
                data: vec![0; 4],
            }]);
        }
        self.schedule()
    }

    /// Writes to the process's memory. Like the kernel's own writes at a task's exit, it may fail silently.
    pub(super) fn write_left(&mut self, chunks: &[Chunk]) {
        self.changes += 1;
        let Some(memory) = self.memory() else {
            return;
        };
        for chunk in chunks {
            if !agent::is_touched(chunk.addr, chunk.data.len() as u64) {
                let _ = self.group.shared.write(memory, chunk.addr, &chunk.data);
            }
        }
    }

    /// Handles the end of a task that the script has.
    pub(super) fn on_task_end(&mut self, tid: i32, exit: Exit, left: &[Chunk]) -> Option<Next> {
        self.write_left(left);
        let there = self.resting.remove(&tid)?;
        self.group.retired.push(there.task);
        if self.has_siblings() {
            return None;
        }
        let status = match exit {
            Exit::Code(_) => Status::Exited,
            Exit::Signal { .. } => Status::Signaled,
        };
        Some(Next::End(status, Some(exit), None))
    }

    /// Moves the running task to the stopped ones.
    pub(super) fn park(&mut self, task: Stopped, place: StopPoint, waits: Option<FutexWait>) {
        let me = std::mem::take(&mut self.me);
        let tid = me.tid;
        let resting = StoppedTask {
            me,
            task,
            place,
            waits,
        };
        self.resting.insert(tid, resting);
    }
}
