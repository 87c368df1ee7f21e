//! Delivery of signals, and trapped reads of the time stamp counter, which arrive as signals.
//!
//! A signal is delivered at a position that replay can find: as a call returns, or before one is made. A signal between
//! calls is held until the next call, unless it ends the process anyway. Faults happen at their instructions, and will
//! recur there.

use super::schedule::TaskStep;
use super::task::{CpuBurst, Task};
use super::{Recorder, Result};
use crate::constants::default_action::is_harmless;
use crate::image::Chunk;
use crate::recording::{Delivery, Event, EventKind, Frame, SignalEvent};
use crate::tracee::{Error, Running, SigInfo, Stop, Stopped, proc, tsc};

/// `si_code` of a signal from the kernel, such as that of a trapped instruction.
const SI_KERNEL: i32 = 0x80;

impl Recorder {
    pub(super) fn on_signal(&mut self, current: &mut Task, mut task: Stopped) -> Result<Running> {
        let mut info = task.siginfo()?;
        let mut regs = task.regs()?;
        if info.signal() == libc::SIGSEGV
            && info.code() == SI_KERNEL
            && let Some(instruction) = tsc::Instruction::at(&regs, &task.memory())
        {
            let value = instruction.value();
            if std::mem::take(&mut current.unannounced) {
                self.write_run(current)?;
            }
            instruction.execute(&mut regs, value);
            let mut values = vec![value];
            // Interpreted instructions would not trigger the task's breakpoints.
            if !current.watch.stops_anywhere() {
                let mut answer = |read: tsc::Instruction| {
                    let value = read.value();
                    values.push(value);
                    Some(value)
                };
                current
                    .reads
                    .go_on(&mut regs, &task.memory(), &mut answer)?;
            }
            for value in values {
                self.note_tsc(current, value)?;
            }
            task.set_regs(&regs)?;
            current.segv.restore(&mut task)?;
            return Ok(task.resume()?);
        }
        let signal = info.signal();
        if signal == libc::SIGSEGV
            && info.code() == SI_KERNEL
            && self.cpuid.execute(&mut regs, &task.memory())
        {
            task.set_regs(&regs)?;
            current.segv.restore(&mut task)?;
            return Ok(task.resume()?);
        }
        if info.code() == libc::SI_TKILL
            && let Some(at) = current.sent.iter().position(|sent| sent.signal() == signal)
        {
            // The recorder's signal in place of a held one.
            info = current.sent.remove(at);
            task.set_siginfo(&info)?;
        }
        if signal == libc::SIGCONT {
            current.held.retain(|held| !stops(held.signal()));
        }
        self.note_received(current, signal, info.sender());
        let tid = task.tid();
        // What came as a call returned has been sent: a process may send itself any siginfo, as a handler does that has
        // another action take a fault. What is a fault nevertheless is delivered at the same position.
        let at_boundary = current.boundary.is_some_and(|b| b.is_same_place(&regs));
        let fault = info.is_fault() && !at_boundary;
        let caught = proc::catches(tid, signal)?;
        let ignored = !caught
            && (proc::ignores(tid, signal)? || is_harmless(signal) || spared(tid, signal, fault));
        if fault || at_boundary {
            return self.deliver(current, task, info, fault, caught, ignored);
        }
        if ignored {
            return Ok(task.resume_with(signal)?);
        }
        if caught || stops(signal) {
            // The task may never make another call: see `preempt`. Standard signals do not queue.
            if signal >= libc::SIGRTMIN() || current.held.iter().all(|held| held.signal() != signal)
            {
                current.held.push(info);
            }
            return Ok(task.resume()?);
        }
        // The signal ends the process at any position.
        self.write_signal(current, &info, false, Delivery::Fatal)?;
        Ok(task.resume_with(signal)?)
    }

    /// At the entry of a call, with held signals: delivers them before the call.
    pub(super) fn interrupt_entry(
        &mut self,
        current: &mut Task,
        mut task: Stopped,
    ) -> Result<TaskStep> {
        let mut regs = task.regs()?;
        regs.rewind(regs.nr() as u64);
        task.set_regs(&regs)?;
        current.boundary = Some(regs);
        self.deliver_held(current, task)
    }

    /// Sends the oldest held signal to a task that has executed nothing since its last event.
    pub(super) fn deliver_held(&mut self, current: &mut Task, task: Stopped) -> Result<TaskStep> {
        let info = current.held.remove(0);
        task.send_to(current.pid, info.signal());
        current.sent.push(info);
        let tid = task.tid();
        let (task, stop) = task
            .resume()?
            .wait()?
            .stopped("deliver a signal to it", tid)?;
        // The signal may be blocked by now, or another comes first.
        self.handle_stop(current, task, stop)
    }

    pub(super) fn deliver(
        &mut self,
        current: &mut Task,
        task: Stopped,
        info: SigInfo,
        fault: bool,
        caught: bool,
        ignored: bool,
    ) -> Result<Running> {
        let signal = info.signal();
        if !caught && stops(signal) {
            return Ok(task.resume_with(signal)?);
        }
        if !caught && fault && proc::is_first_of_namespace(task.tid()) {
            // The kernel protects an init process under a tracer even from this, and repeats the fault.
            self.warn_of_kill(&task, signal);
            task.send_to(current.pid, libc::SIGKILL);
            return Ok(task.resume()?);
        }
        if !caught {
            let delivery = if ignored && !fault {
                Delivery::Ignored
            } else {
                Delivery::Fatal
            };
            self.write_signal(current, &info, fault, delivery)?;
            return Ok(task.resume_with(signal)?);
        }
        let tid = task.tid();
        let what = "enter its signal handler";
        let (mut task, stop) = task.step_with(signal)?.wait()?.stopped(what, tid)?;
        if stop == Stop::Exit {
            return self.about_to_end(current, task);
        }
        if stop == Stop::Signal(libc::SIGSEGV) {
            // The stack has no room for the handler's frame.
            return self.deliver_instead(current, task, &info, fault);
        }
        if stop != Stop::Signal(libc::SIGTRAP) {
            return Err(Error::Unexpected {
                what,
                tid,
                stop: format!("{stop:?}"),
            }
            .into());
        }
        let regs = task.regs()?;
        let delivery = Delivery::Handler {
            regs: regs.to_words().to_vec(),
            sigmask: task.sigmask()?,
            frame: frame(&task, regs.sp())?,
        };
        self.write_signal(current, &info, fault, delivery)?;
        current.segv.after_mask(&task)?;
        current.boundary = Some(regs);
        current.burst = CpuBurst::new();
        self.watch(current, &mut task)?;
        Ok(task.resume()?)
    }

    /// Handles the SIGSEGV that the kernel raises where it cannot enter a handler; a handler of SIGSEGV itself is
    /// reset, which ends the process.
    fn deliver_instead(
        &mut self,
        current: &mut Task,
        task: Stopped,
        first: &SigInfo,
        fault: bool,
    ) -> Result<Running> {
        let instead = task.siginfo()?;
        let caught = proc::catches(task.tid(), libc::SIGSEGV)?;
        if first.signal() == libc::SIGSEGV || !caught {
            let reason = if fault { first } else { &instead };
            self.write_signal(current, reason, fault, Delivery::Fatal)?;
            return Ok(task.resume_with(libc::SIGSEGV)?);
        }
        // The first signal has no other effect.
        self.write_signal(current, first, fault, Delivery::Ignored)?;
        self.deliver(current, task, instead, false, true, false)
    }

    fn write_signal(
        &mut self,
        current: &mut Task,
        info: &SigInfo,
        fault: bool,
        delivery: Delivery,
    ) -> Result<()> {
        // A fault recurs by itself.
        if fault && std::mem::take(&mut current.unannounced) {
            self.write_run(current)?;
        }
        self.write_tsc(current)?;
        current.unannounced = false;
        current.watch.count_anew();
        self.write(Frame::Event(Event {
            tid: current.tid,
            kind: EventKind::Signal(SignalEvent {
                signal: info.signal(),
                info: info.0.to_vec(),
                fault,
                delivery,
            }),
        }))
    }
}

/// Returns whether a signal's default is to stop the process.
fn stops(signal: i32) -> bool {
    matches!(
        signal,
        libc::SIGSTOP | libc::SIGTSTP | libc::SIGTTIN | libc::SIGTTOU
    )
}

/// pid_namespaces(7): the first process of a pid namespace only receives signals with handlers, except for its own
/// faults, and SIGKILL and SIGSTOP from the parent namespace.
fn spared(tid: i32, signal: i32, fault: bool) -> bool {
    let outer = [libc::SIGKILL, libc::SIGSTOP].contains(&signal);
    !fault && !outer && proc::is_first_of_namespace(tid)
}

/// The frame that the kernel built for a handler: from the stack pointer up to the end of the saved vector state, by
/// `struct rt_sigframe` and its `sw_reserved.extended_size`.
fn frame(task: &Stopped, sp: u64) -> Result<Chunk> {
    // The return address, then struct ucontext, whose mcontext has the pointer to the vector
    // state behind 23 words; behind that, siginfo.
    const FPSTATE: u64 = 8 + 40 + 23 * 8;
    const SMALLEST: u64 = 8 + 304 + 128;
    const LEGACY_STATE: u64 = 512;
    const EXTENDED_SIZE: u64 = 464 + 4;
    const LARGEST: u64 = 64 << 10;
    let memory = task.memory();
    let state = memory.word(sp + FPSTATE)?;
    let mut end = sp + SMALLEST;
    if state > sp && state - sp < LARGEST {
        let extended = memory.word(state + EXTENDED_SIZE)? & 0xffff_ffff;
        end = state + extended.clamp(LEGACY_STATE, LARGEST);
    }
    let mut data = vec![0; (end - sp) as usize];
    memory.read_exact(sp, &mut data)?;
    Ok(Chunk { addr: sp, data })
}
