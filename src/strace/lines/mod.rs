//! From lines to pieces: calls in two parts, foreign text in lines, tables, the end of the text.

pub(super) mod assemble;
pub(super) mod blocked_calls;
pub(super) mod incomplete_calls;
pub(super) mod program_output;
pub(super) mod source_line;
pub(super) mod stream;
pub(super) mod summary;
pub(super) mod truncation;
pub(super) mod unfinished;
