//! The parser's state for one line besides its text: constants, doubts, unusual spelling.

use super::symbol::Symbols;
use super::tokens::{Expected, until};
use crate::trace::Value;

/// The limit on doubts about one line.
const MOST_DOUBTS: usize = 100;
/// The limit on values of one line: 64 MiB of commas must not take gigabytes.
const MOST_VALUES: usize = 1 << 21;
/// The text of structures and arrays that are nested more deeply is not kept.
const DEEPEST_TEXT: usize = 8;

/// The state that all parsers share.
#[derive(Debug, Default)]
pub(in crate::strace) struct Context {
    /// Constants.
    pub symbols: Symbols,
    /// Whether the spelling of the current value, apart from its inner values, differs from ours.
    pub odd: bool,
    /// Whether named arguments become symbols, as `clone`'s do.
    pub labels: bool,
    doubts: Vec<Doubt>,
    values: usize,
}

/// A doubt: text that was not understood.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(in crate::strace) struct Doubt {
    /// The address of the byte in the text.
    pub at: usize,
    /// The expected syntax.
    pub what: &'static str,
}

/// Saved doubts.
pub(in crate::strace) struct Kept {
    doubts: Vec<Doubt>,
    values: usize,
}

impl Context {
    /// Adds a doubt about the text that begins here.
    pub(in crate::strace) fn doubt(&mut self, at: &[u8], what: &'static str) {
        if self.doubts.len() < MOST_DOUBTS {
            let at = at.as_ptr() as usize;
            self.doubts.push(Doubt { at, what });
        }
    }

    /// Whether there are doubts since the last [`Context::take_doubts`].
    pub(in crate::strace) fn has_doubts(&self) -> bool {
        !self.doubts.is_empty()
    }

    /// Takes the doubts since the last call, before the next line.
    pub(in crate::strace) fn take_doubts(&mut self) -> Vec<Doubt> {
        self.forget();
        std::mem::take(&mut self.doubts)
    }

    /// Saves the doubts, for [`Context::put_back`] where an alternative fails.
    pub(in crate::strace) fn keep_doubts(&mut self) -> Kept {
        Kept {
            doubts: std::mem::take(&mut self.doubts),
            values: self.values,
        }
    }

    /// Restores saved doubts.
    pub(in crate::strace) fn put_back(&mut self, kept: Kept) {
        self.doubts = kept.doubts;
        self.values = kept.values;
    }

    /// Resets the state of the line but for its doubts.
    pub(in crate::strace) fn forget(&mut self) {
        self.values = 0;
        self.labels = false;
        self.odd = false;
    }

    /// Begins a value. Returns whether the spelling of the outer value is unusual so far, for [`Context::end`].
    pub(in crate::strace) fn begin<'a>(
        &mut self,
        i: &'a [u8],
    ) -> Result<bool, nom::Err<Expected<'a>>> {
        self.values += 1;
        if self.values > MOST_VALUES {
            let what = "fewer than two million values in a line";
            return Err(nom::Err::Failure(Expected { at: i, what }));
        }
        Ok(std::mem::replace(&mut self.odd, false))
    }

    /// Ends a value whose text goes from `start` to `rest`: keeps the text if its spelling is unusual.
    pub(in crate::strace) fn end(
        &mut self,
        around: bool,
        start: &[u8],
        rest: &[u8],
        value: Value,
        depth: usize,
    ) -> Value {
        let odd = std::mem::replace(&mut self.odd, around);
        if !odd {
            return value;
        }
        let text = until(start, rest);
        let value = match value {
            Value::Array { .. } | Value::Struct { .. } | Value::Change { .. }
                if depth > DEEPEST_TEXT =>
            {
                self.doubt(start, "plain text so deeply inside");
                Value::Raw(String::from_utf8_lossy(text).into_owned())
            }
            Value::Written { value, .. } => *value,
            other => other,
        };
        Value::Written {
            text: text.into(),
            value: Box::new(value),
        }
    }
}
