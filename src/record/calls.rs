//! Calls: inputs are recorded at the entry, outputs at the exit.

use super::data_transfers::{self, Before};
use super::failed_calls::several;
use super::task::Task;
use super::unknown_calls::UnknownCall;
use super::{Error, Recorder, Result, descriptor_effects};
use crate::constants::{RESTART_BLOCK, RESTART_SYS, is_error, is_restart};
use crate::image::{self, Chunk};
use crate::kernel;
use crate::recording::{CallEvent, ChunkMemory, Effect, Event, EventKind, Frame};
use crate::seccomp::Verdict;
use crate::syscall::{self, Region, Replay, Syscall};
use crate::tracee::memory::{Dumpable, Pages};
use crate::tracee::proc::Map;
use crate::tracee::segv::SegvState;
use crate::tracee::{Running, Stopped, TaskMemory};
use std::ops::Range;

/// The number of counter values that are collected before they are written.
const TSC_BATCH: usize = 1024;

/// `__X32_SYSCALL_BIT`.
const X32: i64 = 0x4000_0000;

/// A call between its entry and its exit.
pub struct Pending {
    pub event: CallEvent,
    /// The process id at the entry.
    pub tid: i32,
    call: &'static Syscall,
    moved: Option<data_transfers::Source>,
    /// True if the parent waits for the new task (vfork).
    pub vfork: bool,
    /// True if the recorder changed the arguments.
    changed: bool,
    /// The error to report where an unknown call succeeds.
    unsure: Option<UnknownCall>,
    /// True if a wait for data is made instead of the call.
    waits: bool,
    /// The mappings that the call moves.
    several: Vec<Range<u64>>,
}

impl Recorder {
    pub(super) fn on_entry(&mut self, current: &mut Task, mut task: Stopped) -> Result<Running> {
        let regs = task.regs()?;
        if task.is_foreign_call()? {
            return Err(self.unsupported(&format!("call {} of the 32-bit ABI", regs.nr()), ""));
        }
        if let Some(frame) = self.trap_cpuid(current, &mut task, true)? {
            self.write(frame)?;
        }
        let verdict = self.family.verdict(current.tid, &regs.call());
        if verdict != Verdict::Make {
            return self.filtered(current, task, regs, verdict);
        }
        // The kernel reads the lower half only.
        let nr = regs.nr() as u32;
        let mut args = regs.args();
        let Some(call) = syscall::of_number(nr) else {
            return Err(self.unsupported(&syscall::name_of(nr), "its number is unknown"));
        };
        let call = call.resolve(&args);
        let memory = task.memory();
        let unsure = self.unknown_call(current, &task, call, &args)?;
        let event = CallEvent {
            nr,
            args,
            ip: if self.executed { regs.ip() } else { 0 },
            ret: None,
            ins: inputs(memory, call, &args),
            outs: Vec::new(),
            effect: Effect::None,
        };
        let answer = match call.replay {
            Replay::Refuse(errno) => {
                self.warn_of_refusal(call, errno, &args, memory);
                Some(-i64::from(errno))
            }
            Replay::Emulate | Replay::Unsupported => {
                self.answer_for(current, call, &event, memory)?
            }
            Replay::Run if self.maps_ring(current, &event) => {
                Recorder::own_memory(&mut args);
                None
            }
            Replay::Run => self.refuse_mapping(current, &event),
        };
        if let Some(ret) = answer {
            return self.answer(current, task, event, ret);
        }
        self.look_before(current, call, &event)?;
        if let Some(ret) = self.refused_in_sandbox(&task, call, &event) {
            return self.answer(current, task, event, ret);
        }
        self.return_packets(current);
        let vfork = self.check_clone(&event)?;
        let mut waits = false;
        let moved = match self.before_moving(current, call, &event)? {
            None => None,
            Some(Before::Make(source, most)) => {
                // The count is reduced; programs repeat such calls until all data is transferred.
                if let Some(size) = call.size_arg() {
                    args[size] = args[size].min(most);
                }
                Some(source)
            }
            Some(Before::Again) => {
                return self.answer(current, task, event, -i64::from(libc::EAGAIN));
            }
            Some(Before::Wait(fd)) => {
                data_transfers::wait(&mut task, fd)?;
                waits = true;
                None
            }
        };
        if i64::from(event.nr) == libc::SYS_clone {
            // No task may become untraced.
            args[0] &= !(libc::CLONE_UNTRACED as u64);
        }
        let changed = args != event.args;
        if changed && !waits {
            let mut regs = regs;
            regs.set_args(args);
            task.set_regs(&regs)?;
        }
        if matches!(i64::from(event.nr), libc::SYS_exit | libc::SYS_exit_group) {
            current.leaving = true;
            self.note_robust(current, memory);
            self.write_call(current.tid, event)?;
            if self.tasks.is_empty() {
                self.writer.flush()?;
            }
            return Ok(task.resume()?);
        }
        self.note_kill(current, &event);
        let several = several(current.tid, &event)?;
        current.pending = Some(Pending {
            several,
            event,
            tid: current.tid,
            call,
            moved,
            vfork,
            changed,
            unsure,
            waits,
        });
        Ok(task.resume_to_exit()?)
    }

    /// At a call's entry: answers the call without the kernel.
    fn answer(
        &mut self,
        current: &mut Task,
        mut task: Stopped,
        event: CallEvent,
        ret: i64,
    ) -> Result<Running> {
        let mut regs = task.regs()?;
        regs.answer(ret);
        task.set_regs(&regs)?;
        current.boundary = Some(regs);
        let ret = Some(ret);
        self.write_call(current.tid, CallEvent { ret, ..event })?;
        self.watch(current, &mut task)?;
        Ok(task.resume()?)
    }

    /// The answer to a call that the kernel must not make; `None` for other calls.
    fn answer_for(
        &mut self,
        current: &mut Task,
        call: &'static Syscall,
        event: &CallEvent,
        memory: TaskMemory,
    ) -> Result<Option<i64>> {
        if let Some(hiding) = Dumpable::of(call.nr, &event.args) {
            return Ok(hiding.follow(&mut self.hidden, current.space));
        }
        Ok(match i64::from(call.nr) {
            // Calls of the x32 ABI begin there, where a kernel supports it; no number is negative.
            X32.. if call.is_nameless() => Some(-i64::from(libc::ENOSYS)),
            // The counter is trapped invisibly, whatever mode the program sets.
            libc::SYS_prctl
                if event.args[0] as i32 == libc::PR_SET_TSC
                    && event.args[1] == libc::PR_TSC_ENABLE as u64 =>
            {
                Some(0)
            }
            // The counter stays trapped; the program's own mode could not be distinguished from that.
            libc::SYS_prctl
                if event.args[0] as i32 == libc::PR_SET_TSC
                    && event.args[1] == libc::PR_TSC_SIGSEGV as u64 =>
            {
                self.warn_of_refusal(call, libc::EINVAL, &event.args, memory);
                Some(-i64::from(libc::EINVAL))
            }
            // The kernel itself refuses memory that is not shared.
            libc::SYS_remap_file_pages if is_shared(&self.maps_of(current.tid)?, event.args[0]) => {
                self.warn_of_refusal(call, libc::ENOSYS, &event.args, memory);
                Some(-i64::from(libc::ENOSYS))
            }
            // The task and its relatives are traced already.
            libc::SYS_ptrace if !self.may_be_tried(current, call, &event.args) => {
                self.warn_of_refusal(call, libc::EPERM, &event.args, memory);
                Some(-i64::from(libc::EPERM))
            }
            libc::SYS_sched_setaffinity => self.set_affinity(current, event)?,
            libc::SYS_prctl | libc::SYS_seccomp => self.answer_about_filters(current, event)?,
            _ => None,
        })
    }

    pub(super) fn on_exit(&mut self, current: &mut Task, mut task: Stopped) -> Result<Running> {
        if let Some(pending) = current.pending.take_if(|pending| pending.waits) {
            return self.after_wait(current, task, pending);
        }
        let Some(Pending {
            mut event,
            call,
            moved,
            tid,
            changed,
            unsure,
            several,
            ..
        }) = current.pending.take()
        else {
            return Ok(task.resume()?);
        };
        let mut regs = task.regs()?;
        let ret = regs.ret();
        let ret = match is_execve(&event) {
            true => ret,
            false => self.settle_in_sandbox(&mut task, call, &event, ret)?,
        };
        regs.set_ret(ret);
        event.ret = Some(ret);
        if let Some(unsure) = unsure {
            self.only_if_harmless(&unsure, &task, call, &event)?;
        }
        if changed {
            regs.set_args(event.args);
            task.set_regs(&regs)?;
        }
        let nr = i64::from(event.nr);
        let executed = ret == 0 && is_execve(&event);
        if executed {
            if let Some(exe) = task.foreign_program()? {
                if !self.executed {
                    let why = "it is a 32-bit program, and rrapper records 64-bit ones";
                    let source = std::io::Error::new(std::io::ErrorKind::Unsupported, why);
                    let exe = self.exe.clone();
                    return Err(Error::Execute { exe, source });
                }
                let what = format!("the 32-bit program {}", String::from_utf8_lossy(&exe));
                return Err(self.unsupported(&what, "rrapper records 64-bit programs"));
            }
            self.warn_of_privilege(&task);
            image::prepare(&mut task)?;
            let space = self.new_space();
            self.replace_in_program(space, &task)?;
            let image = image::capture(&task, self.writer.files())?;
            self.executed = true;
            current.executed(space, SegvState::at_exec(image.sigmask, image.ignored));
            event.effect = Effect::Exec(Box::new(image));
            regs = task.regs()?;
        } else {
            if nr == libc::SYS_sched_getaffinity {
                self.show_affinity(current, &task, &event)?;
            }
            show_counter(&task, &event)?;
            let memory = task.memory();
            let pages = Pages::new(memory);
            // restart_syscall has no arguments, and continues a call that had.
            let restarted = match nr {
                libc::SYS_restart_syscall => current.restarts.take(),
                _ => None,
            };
            let (made, args, ins) = match &restarted {
                Some((call, event)) => (*call, &event.args, &event.ins),
                None => (call, &event.args, &event.ins),
            };
            let regions = made.outputs(args, ret, &ChunkMemory(ins), &pages);
            event.outs = read_regions(&pages, &regions);
            if ret == -i64::from(RESTART_BLOCK) {
                current.restarts = restarted.or_else(|| Some((call, event.clone())));
            }
            event.outs.extend(self.written_tids(&event, memory));
            event.effect = self.effect(current, &task, call, &event, moved)?;
            current.after_call(&event);
        }
        self.after_call(current, &task, &event, ret)?;
        self.note_sent(current, &event);
        current.boundary = Some(regs);
        if !self.executed {
            // The program itself could not be executed, which is an error and no recording.
            let source = std::io::Error::from_raw_os_error(-ret as i32);
            return Err(Error::Execute {
                exe: self.exe.clone(),
                source,
            });
        }
        self.note_ring(current, &event);
        self.pass_packets(current, &mut event);
        let poke = self.unsized_outputs(current, &mut task, call, &mut event)?;
        let mut frames = Vec::from_iter(poke);
        frames.append(&mut self.written_through(current, &task, call, &mut event)?);
        let pieces = match crate::constants::is_error(ret) {
            true => self.left_by_failure(task.tid(), &event, &several)?,
            false => self.shown_anew(task.tid(), &event)?,
        };
        if !pieces.is_empty() {
            frames.push(Frame::Remap { tid, pieces });
        }
        frames.extend(self.limited_stack(current, &event)?);
        frames.extend(self.stack_mapped_into(task.tid(), &event)?);
        let mut removed = self.removed_by_failure(task.tid(), &event)?;
        event.outs.append(&mut removed);
        frames.append(&mut self.aside);
        let replaced = self.replace_in_mapping(current, &task, &event)?;
        if !replaced.is_empty() {
            frames.push(Frame::Poke {
                tid,
                chunks: replaced,
            });
        }
        if !is_restart(ret)
            && let Some(frame) = self.trap_cpuid(current, &mut task, false)?
        {
            frames.push(frame);
        }
        frames.extend(self.addresses(current, &event));
        current.unannounced = false;
        current.yielded = false;
        current.busy_since = None;
        current.watch.begin_anew();
        let grouping = kernel::may_change_job_control(&event).then(|| event.clone());
        self.write_call(tid, event)?;
        if let Some(call) = grouping {
            frames.extend(self.check_job_control(tid, &call));
        }
        for frame in frames {
            self.write(frame)?;
        }
        self.watch(current, &mut task)?;
        Ok(task.resume()?)
    }

    /// After a wait for data: makes the call, unless a signal interrupted the wait.
    fn after_wait(
        &mut self,
        current: &mut Task,
        mut task: Stopped,
        pending: Pending,
    ) -> Result<Running> {
        let mut event = pending.event;
        let mut regs = task.regs()?;
        let interrupted = is_restart(regs.ret());
        regs.set_args(event.args);
        match interrupted {
            true => regs.interrupt(event.nr.into(), -i64::from(RESTART_SYS)),
            false => regs.rewind(event.nr.into()),
        }
        task.set_regs(&regs)?;
        current.boundary = Some(regs);
        if interrupted {
            event.ret = Some(-i64::from(RESTART_SYS));
            current.unannounced = false;
            self.write_call(pending.tid, event)?;
            self.watch(current, &mut task)?;
        }
        Ok(task.resume()?)
    }

    /// Applies a call's effects to the state that tasks of one process share.
    fn after_call(
        &mut self,
        current: &mut Task,
        task: &Stopped,
        event: &CallEvent,
        ret: i64,
    ) -> Result<()> {
        current.segv.after_call(task, event.nr, &event.args, ret)?;
        if i64::from(event.nr) == libc::SYS_rt_sigaction && ret == 0 {
            let sets = |action: u64| action != 0 && !matches!(task.memory().word(action), Ok(0));
            if event.args[0] == libc::SIGTRAP as u64 && sets(event.args[1]) {
                self.stop_watching(current);
            }
            for other in self.tasks.values_mut().filter(|t| t.pid == current.pid) {
                other.segv.share_action(&current.segv);
            }
        }
        Ok(())
    }

    /// The effect of a call besides its return value and its outputs.
    fn effect(
        &mut self,
        current: &Task,
        task: &Stopped,
        call: &Syscall,
        event: &CallEvent,
        moved: Option<data_transfers::Source>,
    ) -> Result<Effect> {
        let ret = event.ret.unwrap_or(0);
        if is_error(ret) {
            return Ok(Effect::None);
        }
        let tid = task.tid();
        match i64::from(event.nr) {
            libc::SYS_mmap if self.mapped_ring(current, event)? => return Ok(Effect::None),
            libc::SYS_mmap => return self.mapped(current, event),
            libc::SYS_shmat => return self.attached(current, task, event),
            _ => {}
        }
        if let Some(source) = moved {
            let Some(data) = source.read(tid, ret as usize)? else {
                let what = format!("{} to a standard stream", call.name);
                let why = "what it moved cannot be had a second time";
                return Err(self.unsupported(&what, why));
            };
            return Ok(Effect::Moved(data));
        }
        descriptor_effects::effect(&self.family, task, call, event)
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

    pub(super) fn write_run(&mut self, current: &mut Task) -> Result<()> {
        self.write(Frame::Run { tid: current.tid })
    }

    pub(super) fn note_tsc(&mut self, current: &mut Task, value: u64) -> Result<()> {
        current.tsc.push(value);
        if current.tsc.len() >= TSC_BATCH {
            self.write_tsc(current)?;
        }
        Ok(())
    }

    pub(super) fn write_tsc(&mut self, current: &mut Task) -> Result<()> {
        if current.tsc.is_empty() {
            return Ok(());
        }
        let values = std::mem::take(&mut current.tsc);
        self.write(Frame::Tsc {
            tid: current.tid,
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
}

fn is_execve(event: &CallEvent) -> bool {
    matches!(i64::from(event.nr), libc::SYS_execve | libc::SYS_execveat)
}

fn is_shared(maps: &[Map], addr: u64) -> bool {
    maps.iter().any(|map| map.shared && map.holds(addr))
}

/// Corrects the result of `PR_GET_TSC`: to the program, the counter is not trapped.
fn show_counter(task: &Stopped, event: &CallEvent) -> Result<()> {
    let [option, at, ..] = event.args;
    let asks = i64::from(event.nr) == libc::SYS_prctl
        && option as i32 == libc::PR_GET_TSC
        && event.ret == Some(0);
    if asks {
        let enabled = libc::PR_TSC_ENABLE.to_le_bytes();
        task.memory().write(at, &enabled)?;
    }
    Ok(())
}

/// The call in strace's syntax, as far as it can be decoded.
pub(super) fn describe(call: &'static Syscall, args: &[u64; 6], memory: TaskMemory) -> String {
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

/// The inputs of a call.
pub(super) fn inputs(memory: TaskMemory, call: &Syscall, args: &[u64; 6]) -> Vec<Chunk> {
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
