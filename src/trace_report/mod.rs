//! Reports about traces for the command line: filtering entries, counting them, writing them as JSON, abbreviating
//! calls as strace does.
//!
//! Scripts and the engines do not use it. The model of a trace is [`crate::trace`].

mod abbreviate;
mod filter;
mod json;
mod stats;

pub use abbreviate::abbreviate;
pub use filter::Filter;
pub use json::Object;
pub use stats::{CallCounts, Stats};
