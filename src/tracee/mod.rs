//! Safe ptrace: the only module with raw ptrace calls.
//!
//! A task is [`Stopped`] or [`Running`] in the type: resuming consumes the one and returns the other, so asking a
//! running task for its registers does not compile. Dropping either kills the process and reaps it.
//!
//! Every traced process of a recording runs under one seccomp filter (see [`filter`]) that stops it at the entry of
//! each call. Calls on a stopped task's behalf are made from the agent's page (see [`agent`] and [`remote`]).
//!
//! This module knows neither recordings nor Lua.

pub mod agent;
pub mod agent_page;
pub mod breakpoints;
pub mod call_batch;
pub mod caught_signals;
pub mod checked_open;
pub mod cpuid;
mod error;
pub mod exec;
pub mod file_channel;
pub mod file_lock;
pub mod filter;
mod input_copy;
pub mod interpret;
pub mod interrupt;
pub mod kcmp;
mod kill_on_drop;
pub mod memory;
pub mod mremap;
pub mod open_file_limit;
pub mod outliving;
pub mod path_lookup;
pub mod pin;
pub mod probe;
pub mod proc;
pub mod process_dir;
pub mod process_group;
pub mod rdrand;
pub mod regs;
pub mod remote;
pub mod replaced_instructions;
pub mod segv;
pub mod shared_mapping;
mod sigsys;
pub mod socket_names;
pub mod spawn;
mod sys;
mod task;
pub mod terminal_settings;
pub mod ticker;
pub mod tsc;
pub mod tsc_off;
mod vsyscall;
pub mod watchdog;
pub mod xattr;

pub use error::{Error, Result};
pub use input_copy::InputCopy;
pub(crate) use kill_on_drop::KillOnDrop;
pub use memory::TaskMemory;
pub use regs::Regs;
pub use remote::Remote;
pub use sigsys::SigsysDisposition;
pub use spawn::{Command, Kin, Stdin};
pub use sys::{AnyWait, SigInfo, wait_any};
pub use task::{Running, Stop, Stopped, Waited, former_tid, give_way, is_exec};
pub(crate) use task::{
    end_namespace, end_rest_of_namespace, has_ended, is_ending, is_new, made, stands,
};
