//! rrapper: record a program once, spin live copies of it off at any event,
//! and drive them through system calls that are answered as you like.
//!
//! The modules follow the way data flows; none knows what is downstream of it:
//!
//! - [`constants`]: errnos, signals, flags, ABIs, and what a call returns
//! - [`value`]: decoded arguments of calls
//! - [`syscall`]: what a system call is (one declarative table)
//! - [`trace`]: observed calls, wherever they came from
//! - [`strace`]: strace's text to and from [`trace`]
//! - [`cpuid`]: the answers of the processor's `cpuid` instruction, as data
//! - [`tracee`]: safe ptrace
//! - [`image`]: a process as data
//! - [`seccomp`]: what a program's own filters say of its calls
//! - [`recording`]: the directory on disk
//! - [`process`]: a stopped copy of a recorded process
//! - [`kernel`]: what the kernel kept for a recorded program, worked out from its calls
//! - [`history`]: a recording with the kernel's state at its events
//! - [`record`]: the recorder
//! - [`replay`]: going to an event, spinning off
//! - [`restore`]: giving the kernel back what a process had
//! - [`sandbox`]: keeping a live process from harming the machine
//! - [`backtrace`]: where a stopped task is
//! - [`inject`]: driving a process through a trace
//! - [`doctor`]: what this machine supports
//! - [`lua`]: bindings for scripts
//! - [`cli`]: the command line

pub mod backtrace;
pub mod cli;
pub mod constants;
pub mod cpuid;
pub mod doctor;
pub mod history;
pub mod image;
pub mod inject;
pub mod kernel;
pub mod lua;
pub mod process;
pub mod record;
pub mod recording;
pub mod replay;
pub mod restore;
pub mod sandbox;
pub mod seccomp;
pub mod strace;
pub mod syscall;
pub mod trace;
pub mod trace_report;
pub mod tracee;
pub mod value;
