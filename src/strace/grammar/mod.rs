//! The grammar of strace's text, one file per element: lines with their prefixes, results, values, symbols, tokens.
//!
//! Parsers here see a single line, and keep no state between lines; see [`super::lines`] for that.

pub(super) mod context;
pub(super) mod escape;
pub(super) mod line;
pub(super) mod other_lines;
pub(super) mod pasted;
pub(super) mod prefix;
pub(super) mod result;
pub(super) mod scalar;
pub(super) mod set;
pub(super) mod symbol;
pub(super) mod tokens;
pub(super) mod user_comments;
pub(super) mod value;
