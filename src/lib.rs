//! rrapper records a program once, spins live copies of it off at any event of the recording, and drives them through
//! system calls that are answered as a test wants: as recorded, changed, or with an error. The outcome says whether the
//! program noticed and what it did then.
//!
//! # From Rust
//!
//! Scripts in Lua are one user of this library. The same without Lua:
//!
//! ```
//! use rrapper::history::Filter;
//! use rrapper::inject::{
//!     self, Action, OnDivergence, Options, Rule, RuleSet, Sandbox, Script, Selector, Status,
//! };
//! use rrapper::record::{self, Program};
//! use rrapper::{constants, replay};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let folder = tempfile::tempdir()?;
//! std::fs::write(folder.path().join("text"), "one line\n")?;
//!
//! // Record: `wc` runs as it would without, and every call that it makes becomes an event.
//! let mut program = Program::new(["wc", "-l", "text"]);
//! program.cwd = Some(folder.path().into());
//! program.env.push(("LC_ALL".into(), "C".into()));
//! let options = record::Options::new(program.command()?, folder.path().join("recording"));
//! let recorded = record::record(options)?;
//!
//! // Find the event at which `wc` reads the file, and go there.
//! let mut replay = replay::open(&recorded.dir)?;
//! let filter = Filter {
//!     calls: Some(Box::new(|call| call.name == "read")),
//!     path: Some(Box::new(|files| files.is_meant(|name| name == b"text"))),
//!     ..Filter::default()
//! };
//! let found = replay.recording().find(filter)?.next().ok_or("wc read nothing")??;
//! replay.replay_to(found.number)?;
//!
//! // Spin a copy off. Its recording answers its calls, but `read` fails; where the copy leaves the recording for
//! // that, the kernel answers.
//! let copy = replay.spin_off(None)?;
//! let script = Script::of_recording(&copy)?;
//! let eio = constants::errno("EIO").ok_or("no EIO")?;
//! let rule = Rule::new("failing disk".into(), Selector::parse("read")?).with(Action::Fail(eio));
//! let mut rules = RuleSet::new(vec![rule]).on_divergence(OnDivergence::Live);
//! let options = Options {
//!     sandbox: Sandbox::None, // `wc` writes no files
//!     ..Options::default()
//! };
//! let outcome = inject::inject(copy, script, &mut rules, &options)?.outcome;
//!
//! assert_eq!(outcome.status, Status::Exited);
//! assert_eq!(outcome.exit_code(), Some(1));
//! assert_eq!(outcome.stderr, b"wc: text: Input/output error\n");
//! # Ok(())
//! # }
//! ```
//!
//! [`inject::Hooks`] is the trait behind rules: an implementation sees each call twice, and can change whatever a rule
//! can and more. [`inject::run`] starts a program under hooks without a recording.
//!
//! # Architecture
//!
//! ## The way of the data
//!
//! ```text
//!  command ──record──▶ recording on disk ──replay_to(event)──▶ Replay ──spin_off──▶ Process ──┐
//!                           │                                                                 ├──inject──▶ Outcome
//!  text of strace ──▶ Trace │ (the process's own events)                                      │
//!                       └───┴────────────────────▶ Script ─────────────────────────────────────┘
//! ```
//!
//! 1. [`record`] runs the program under ptrace, one task at a time, and writes each call with its outputs.
//! 2. [`recording`] is the directory on disk: events, kept files, memory images. [`history`] reads it together with
//!    [`kernel`], the modelled state of the kernel (descriptors, pipes, timers, tasks) at each event.
//! 3. [`replay`] goes to an event and spins off a [`process`]: a stopped copy with its memory, threads and the model of
//!    its descriptors. A copy has no open files.
//! 4. [`inject`] drives the copy through a script, made of the copy's recording or of a trace. An exchange takes each call
//!    from *entered* over *decided* (enter hooks) and *answered* (by the script, a hook or the kernel) to *settled* (exit
//!    hooks).
//! 5. A copy that leaves the script either stops or goes live, with the other processes of its family: [`sandbox`] isolates
//!    them from the machine, [`process`] makes their tree there, [`restore`] makes their files, pipes, sockets and timers again,
//!    and the kernel answers, under the same hooks.
//! 6. The [`Outcome`](inject::Outcome) has the end of the process, the first divergence, the output and the calls.
//!
//! ## The modules
//!
//! Lowest layer first. A module may use those above it in this list, and none below it.
//!
//! - [`constants`]: errnos, signals, flags, ABIs, and the value that a call returns
//! - [`value`]: decoded arguments of calls
//! - [`cpuid`]: the answers of the processor's `cpuid` instruction, as data
//! - [`syscall`]: system calls as one declarative table, with decoding, encoding and editing of arguments
//! - [`trace`]: observed calls, independent of their source
//! - [`strace`]: strace's text to and from a trace
//! - [`trace_report`]: filters, counts and JSON of traces, for the command line
//! - [`seccomp`]: emulation of a program's own seccomp filters
//! - [`tracee`]: safe ptrace; a task is `Stopped` or `Running` in the type
//! - [`image`]: a process as data; capture and restore
//! - [`recording`]: the disk format
//! - [`kernel`]: the modelled state of the kernel, one file for each kind of object
//! - [`world`]: the files that recorded processes had before them at an event, worked out from their calls
//! - [`history`]: a recording with the modelled state at its events; searches, segments, who takes what another one sent
//! - [`sandbox`]: isolation of live processes
//! - [`process`]: a stopped copy of a recorded process, as every engine makes it
//! - [`backtrace`]: stacks of stopped tasks, with functions, files and lines
//! - [`record`]: the recorder
//! - [`replay`]: the trait of engines, and the embedded engine
//! - [`restore`]: the kernel objects of a process that goes live, in files of the same names as in [`kernel`]
//! - [`inject`]: scripts, hooks, outcomes; the engine that answers from a script, and the live one
//! - [`doctor`]: checks of the machine
//! - [`lua`]: bindings for scripts
//! - [`cli`]: the command line
//!
//! [`lua`], [`doctor`] and [`cli`] know [`replay::Replay`] and not its engines. Raw ptrace calls are in [`tracee`] alone.
//!
//! ## One answered call
//!
//! The files that a rule `write = { fail = "ENOSPC" }` of a script passes on its way to the registers of the process:
//!
//! 1. `lua/hooks/rule.rs`: reads the rule; `fail` is a member with a row in the table of actions
//! 2. `lua/hooks/actions.rs`: converts the value: `Action::Fail(28)`
//! 3. `inject/emulated/mod.rs`: a task stops at the entry of a call (`on_entry`), which becomes `exchange::Entered`
//! 4. `inject/emulated/matching.rs`: finds the call in the script (`find_step`), and answers it (`answer_expected`)
//! 5. `inject/exchange.rs`: `Entered::decide` runs the enter hooks
//! 6. `lua/hooks/mod.rs`: selects the rules by call and conditions (`on_enter`); a `RuleSet` does so in 7
//! 7. `inject/rules.rs`: conditions; `Rule::act` applies the actions
//! 8. `inject/hook/actions.rs`: `Action::apply` calls `HookCall::answer(-28)`
//! 9. `inject/hook/decision.rs`: the decision becomes `Decision::Answer(-28)`, so that 4 does not ask the script, but
//!    answers and settles the exchange; `Settled::put_at_entry` of 5 writes the registers
//! 10. `tracee/regs.rs`: `Regs::answer` skips the call and sets the return value
//!
//! ## Where to add
//!
//! - **A system call**: a line in `syscall/x86_64.tbl`, and a structure in `syscall/structs.tbl` where it has a new one.
//!   Its plausible failures are a line in `syscall/errors.tbl`.
//!   The tests of the tables compare them with the kernel's headers and with the manual pages. A call that changes the kernel's state also needs
//!   the model to follow it: [`kernel`].
//! - **An action of hooks**: a variant, its row and its arms in `inject/hook/actions.rs`, its effect as a method of
//!   [`HookCall`](inject::HookCall), and its annotation in `lua-stdlib/rrapper.d.lua`. Rules in Rust and Lua and the
//!   methods of Lua's `call` follow from the row.
//! - **An anomaly**, or any other Lua module: a file `lua-stdlib/rrapper/NAME.lua`, which scripts get with
//!   `require "rrapper.NAME"`.
//! - **An engine**: an implementation of [`replay::Replay`], whose `spin_off` makes a [`process::Process`], and an
//!   opener that recognises its recordings, passed to [`replay::add_engine`].
//! - **A kernel object that live restores**: `kernel/NAME.rs` follows its state through the recorded calls,
//!   `restore/NAME.rs` makes it again in the process.
//! - **A subcommand**: a file in `cli`, and its line in `cli/mod.rs`.

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
pub mod world;

#[cfg(test)]
mod layers;
