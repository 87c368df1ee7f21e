//! Constants of the kernel's interface: errnos, signals, flags and requests by name and number, the ABIs, and the value
//! that a call returns.
//!
//! The tables (`*.tbl`) are data: to add a constant, add a line. This module depends on no other module of the crate.

mod abi;
mod answer;
pub(crate) mod default_action;
mod errno;
mod expression;
mod macros;
mod namespaces;
mod sets;
mod signal;

pub use abi::Abi;
pub use answer::{Answer, MAX_ERRNO, RESTART_BLOCK, RESTART_SYS, is_error, is_restart};
pub use errno::{errno, errno_name, errno_text, errnos, suggest_errno};
pub use expression::{eval, suggest, value};
pub(crate) use expression::{eval_in, makedev};
pub(crate) use macros::{request, returns_length};
pub use namespaces::{CLONE_NEWTIME, NAMESPACES};
pub(crate) use sets::{Name, number, own_name, set, set_in};
pub use sets::{Set, flags_text, sets};
#[cfg(test)]
pub(crate) use sets::{common, rare};
pub use signal::{signal, signal_name};

fn rows(text: &'static str) -> impl Iterator<Item = &'static str> {
    let lines = text.lines().map(str::trim);
    lines.filter(|line| !line.is_empty() && !line.starts_with('#'))
}

/// The candidates nearest to `name`, best first, at most three.
pub(crate) fn nearest(
    name: &str,
    candidates: impl Iterator<Item = &'static str>,
) -> Vec<&'static str> {
    if name.len() > 256 {
        return Vec::new();
    }
    let limit = name.len() / 3 + 1;
    let mut near: Vec<_> = candidates
        .map(|c| (strsim::damerau_levenshtein(name, c), c))
        .filter(|&(distance, _)| distance <= limit)
        .collect();
    near.sort_unstable();
    near.dedup();
    near.into_iter().take(3).map(|(_, c)| c).collect()
}
