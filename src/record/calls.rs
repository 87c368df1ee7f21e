//! Calls: what goes in is taken at the entry, what comes out at the exit.

use super::task::Task;
use super::{Error, Recorder, Result, looked, moved};
use crate::image::{self, Chunk};
use crate::recording::{CallEvent, ChunkMemory, Effect, Event, EventKind, Frame};
use crate::syscall::{self, Region, Replay, Syscall};
use crate::tracee::memory::Pages;
use crate::tracee::segv::SegvState;
use crate::tracee::{Running, Stopped, TaskMemory, cpuid, memory, proc};

/// Counter values that are collected before they are written.
const TSC_BATCH: usize = 1024;

/// A call between its entry and its exit.
pub struct Pending {
    pub event: CallEvent,
    /// Whose it was when it was made.
    pub tid: i32,
    call: &'static Syscall,
    moved: Option<moved::Source>,
    /// Its maker waits for the task that it makes.
    pub vfork: bool,
    /// The arguments were changed on the way in.
    changed: bool,
}

impl Recorder {
    pub(super) fn on_entry(&mut self, me: &mut Task, mut task: Stopped) -> Result<Running> {
        let regs = task.regs()?;
        if task.is_foreign_call()? {
            return Err(self.unsupported(&format!("call {} of the 32-bit ABI", regs.nr()), ""));
        }
        let nr = regs.nr() as u64;
        let mut args = regs.args();
        let Some(call) = syscall::by_nr(nr) else {
            return Err(
                self.unsupported(&format!("system call number {nr}"), "its number is unknown")
            );
        };
        let call = call.resolve(&args);
        let memory = task.memory();
        if !call.described {
            return Err(self.undescribed(call, &args, memory));
        }
        let event = CallEvent {
            nr: nr as u32,
            args,
            ip: if self.executed { regs.ip() } else { 0 },
            ret: None,
            ins: inputs(memory, call, &args),
            outs: Vec::new(),
            effect: Effect::None,
        };
        let answer = match call.replay {
            Replay::Refuse(errno) => Some(-i64::from(errno)),
            Replay::Unsupported => return Err(self.unsupported_call(call, &args, memory)),
            Replay::Emulate => self.answer_for(me, call, &event)?,
            Replay::Run => None,
        };
        if let Some(ret) = answer {
            let mut answered = regs;
            answered.answer(ret);
            task.set_regs(&answered)?;
            me.boundary = Some(answered);
            self.write_call(
                me.tid,
                CallEvent {
                    ret: Some(ret),
                    ..event
                },
            )?;
            self.watch(me, &mut task)?;
            return Ok(task.resume()?);
        }
        let vfork = self.check_clone(&event)?;
        let moved = self.moved_source(me, call, &event)?;
        if moved.is_some()
            && let Some(size) = call.size_arg()
            && args[size] > moved::MOST
        {
            // All of it goes into one event; whoever makes such calls makes them until all is done.
            args[size] = moved::MOST;
        }
        if i64::from(event.nr) == libc::SYS_clone {
            // Nobody hides from the recorder.
            args[0] &= !(libc::CLONE_UNTRACED as u64);
        }
        let changed = args != event.args;
        if changed {
            let mut regs = regs;
            regs.set_args(args);
            task.set_regs(&regs)?;
        }
        if matches!(i64::from(event.nr), libc::SYS_exit | libc::SYS_exit_group) {
            me.leaving = true;
            self.note_robust(me, memory);
            self.write_call(me.tid, event)?;
            if self.tasks.is_empty() {
                self.writer.flush()?;
            }
            return Ok(task.resume()?);
        }
        me.pending = Some(Pending {
            event,
            tid: me.tid,
            call,
            moved,
            vfork,
            changed,
        });
        Ok(task.resume_to_exit()?)
    }

    /// What is answered without asking the kernel.
    fn answer_for(
        &mut self,
        me: &mut Task,
        call: &Syscall,
        event: &CallEvent,
    ) -> Result<Option<i64>> {
        Ok(match i64::from(call.nr) {
            libc::SYS_sched_setaffinity => self.set_affinity(me, event)?,
            // Who cannot be dumped cannot be read by a tracer without privilege either.
            libc::SYS_prctl if memory::is_hidden_by(call.nr, &event.args) => Some(0),
            // A filter of the program's own would see rrapper's calls, and answer them.
            libc::SYS_prctl if event.args[0] as i32 == libc::PR_SET_SECCOMP => {
                self.warn_of_filter();
                Some(0)
            }
            libc::SYS_seccomp if event.args[0] <= 1 => {
                self.warn_of_filter();
                let listens = event.args[1] & libc::SECCOMP_FILTER_FLAG_NEW_LISTENER != 0;
                Some(if listens { -i64::from(libc::EINVAL) } else { 0 })
            }
            _ => None,
        })
    }

    pub(super) fn on_exit(&mut self, me: &mut Task, mut task: Stopped) -> Result<Running> {
        let Some(Pending {
            mut event,
            call,
            moved,
            tid,
            changed,
            ..
        }) = me.pending.take()
        else {
            return Ok(task.resume()?);
        };
        let mut regs = task.regs()?;
        let ret = regs.ret();
        event.ret = Some(ret);
        if changed {
            regs.set_args(event.args);
            task.set_regs(&regs)?;
        }
        let nr = i64::from(event.nr);
        let executed = ret == 0 && matches!(nr, libc::SYS_execve | libc::SYS_execveat);
        if executed {
            self.warn_of_privilege(&task);
            image::prepare(&mut task)?;
            cpuid::trap(&self.cpuid, &mut task)?;
            self.replace_in_program(&task)?;
            let image = image::capture(&task, self.writer.files())?;
            self.executed = true;
            me.executed(
                self.new_space(),
                SegvState::at_exec(image.sigmask, image.ignored),
            );
            event.effect = Effect::Exec(Box::new(image));
            regs = task.regs()?;
        } else {
            if nr == libc::SYS_sched_getaffinity {
                self.show_affinity(me, &task, &event)?;
            }
            let memory = task.memory();
            let pages = Pages::new(memory);
            let regions = call.outputs(&event.args, ret, &ChunkMemory(&event.ins), &pages);
            event.outs = read_regions(&pages, &regions);
            event.outs.extend(self.written_tids(&event, memory));
            event.effect = self.effect(me, &task, call, &event, moved)?;
            me.after_call(&event);
        }
        self.after_call(me, &task, &event, ret)?;
        me.boundary = Some(regs);
        if !self.executed {
            // The program could not be executed at all, which is an error and no recording.
            let source = std::io::Error::from_raw_os_error(-ret as i32);
            return Err(Error::Execute {
                exe: self.exe.clone(),
                source,
            });
        }
        let pokes = self.written_through(me, &task, call, &mut event)?;
        let resized = self.resized(me.tid, &event);
        let replaced = Some(self.replace_in_mapping(me, &task, &event)?);
        let replaced = replaced.filter(|chunks| !chunks.is_empty());
        let replaced = replaced.map(|chunks| Frame::Poke { tid, chunks });
        me.unannounced = false;
        me.yielded = false;
        me.busy_since = None;
        me.watch.begin_anew();
        self.write_call(tid, event)?;
        for frame in pokes.into_iter().chain(resized).chain(replaced) {
            self.write(frame)?;
        }
        self.watch(me, &mut task)?;
        Ok(task.resume()?)
    }

    /// Keeps in step what tasks of one process share.
    fn after_call(
        &mut self,
        me: &mut Task,
        task: &Stopped,
        event: &CallEvent,
        ret: i64,
    ) -> Result<()> {
        me.segv.after_call(task, event.nr, &event.args, ret)?;
        if i64::from(event.nr) == libc::SYS_rt_sigaction && ret == 0 {
            let sets = |action: u64| action != 0 && !matches!(task.memory().word(action), Ok(0));
            if event.args[0] == libc::SIGTRAP as u64 && sets(event.args[1]) {
                self.be_discreet(me);
            }
            for other in self.tasks.values_mut().filter(|t| t.pid == me.pid) {
                other.segv.share_action(&me.segv);
            }
        }
        Ok(())
    }

    /// What a call did besides its return value and its outputs.
    fn effect(
        &mut self,
        me: &Task,
        task: &Stopped,
        call: &Syscall,
        event: &CallEvent,
        moved: Option<moved::Source>,
    ) -> Result<Effect> {
        let ret = event.ret.unwrap_or(0);
        if (-4095..0).contains(&ret) {
            return Ok(Effect::None);
        }
        let tid = task.tid();
        match i64::from(event.nr) {
            libc::SYS_mmap => return self.mapped(me, event),
            libc::SYS_shmat => return self.attached(me, task, event),
            _ => {}
        }
        if let Some(source) = moved {
            return Ok(Effect::Moved(source.read(tid, ret as usize)?));
        }
        looked::effect(&self.family, task, call, event)
    }

    /// Says, once, that a program's own filter is not in force.
    fn warn_of_filter(&mut self) {
        if !std::mem::replace(&mut self.has_filter, true) {
            tracing::warn!(
                "the program's seccomp filters are not put into force: it is told that they are"
            );
        }
    }

    /// Says that a program does without the rights of its file's owner.
    fn warn_of_privilege(&self, task: &Stopped) {
        use std::os::unix::fs::MetadataExt;
        let Ok(meta) = std::fs::metadata(format!("/proc/{}/exe", task.tid())) else {
            return;
        };
        if meta.mode() & (libc::S_ISUID | libc::S_ISGID) != 0 {
            let exe = proc::exe(task.tid()).unwrap_or_default();
            tracing::warn!(
                "{} runs without the rights of its owner or group: a traced program does not get them",
                String::from_utf8_lossy(&exe)
            );
        }
    }

    pub(super) fn write(&mut self, frame: Frame) -> Result<()> {
        self.writer.write(&frame)?;
        self.family.follow(&frame);
        if let Frame::Event(event) = &frame
            && event.call().is_none_or(|call| call.ret.is_some())
        {
            self.observe(event.tid);
        }
        Ok(())
    }

    pub(super) fn write_call(&mut self, tid: i32, event: CallEvent) -> Result<()> {
        self.write(Frame::Event(Event {
            tid,
            kind: EventKind::Call(event),
        }))
    }

    pub(super) fn write_run(&mut self, me: &mut Task) -> Result<()> {
        self.write(Frame::Run { tid: me.tid })
    }

    pub(super) fn note_tsc(&mut self, me: &mut Task, value: u64) -> Result<()> {
        me.tsc.push(value);
        if me.tsc.len() >= TSC_BATCH {
            self.write_tsc(me)?;
        }
        Ok(())
    }

    pub(super) fn write_tsc(&mut self, me: &mut Task) -> Result<()> {
        if me.tsc.is_empty() {
            return Ok(());
        }
        let values = std::mem::take(&mut me.tsc);
        self.write(Frame::Tsc {
            tid: me.tid,
            values,
        })
    }

    pub(super) fn unsupported(&self, what: &str, why: &str) -> Error {
        Error::Unsupported {
            what: what.into(),
            why: why.into(),
            event: self.writer.events() + 1,
            dir: self.writer.dir().into(),
        }
    }

    fn unsupported_call(
        &self,
        call: &'static Syscall,
        args: &[u64; 6],
        memory: TaskMemory,
    ) -> Error {
        self.unsupported(
            &describe(call, args, memory),
            "rrapper cannot record this call yet",
        )
    }

    fn undescribed(&self, call: &'static Syscall, args: &[u64; 6], memory: TaskMemory) -> Error {
        self.unsupported(
            &describe(call, args, memory),
            "rrapper does not know all that this call does",
        )
    }
}

/// The call as far as it can be told, in strace's syntax.
fn describe(call: &'static Syscall, args: &[u64; 6], memory: TaskMemory) -> String {
    if call.args.is_empty() && !call.described {
        return call.name.to_string();
    }
    let values: Vec<String> = call
        .decode(args, None, &memory, &memory)
        .iter()
        .map(|value| value.brief().to_string())
        .collect();
    format!("{}({})", call.name, values.join(", "))
}

/// What a call is given.
fn inputs(memory: TaskMemory, call: &Syscall, args: &[u64; 6]) -> Vec<Chunk> {
    let pages = Pages::new(memory);
    read_regions(&pages, &call.inputs(args, &pages))
}

fn read_regions(memory: &Pages, regions: &[Region]) -> Vec<Chunk> {
    regions
        .iter()
        .filter(|region| region.len > 0)
        .map(|region| Chunk {
            addr: region.addr,
            data: memory.bytes(region.addr, region.len),
        })
        .filter(|chunk| !chunk.data.is_empty())
        .collect()
}
