//! What reading a line needs besides its text, and what it notices on the way.

use super::symbol::Symbols;
use super::tokens::{Expected, until};
use crate::trace::Value;

/// Of one line, no more doubts than this are told.
const MOST_DOUBTS: usize = 100;
/// No line has more values than this: 64 MiB of commas must not take gigabytes.
const MOST_VALUES: usize = 1 << 21;
/// Structures and arrays that are nested more deeply are not kept twice, as they would be if their text were.
const DEEPEST_TEXT: usize = 8;

/// Lent to all that reads.
#[derive(Debug, Default)]
pub(super) struct Context {
    /// Constants.
    pub symbols: Symbols,
    /// Whether the value that is being read, apart from the values in it, is written otherwise than we would.
    pub odd: bool,
    /// Whether named arguments become symbols, as `clone`'s do.
    pub labels: bool,
    doubts: Vec<Doubt>,
    values: usize,
}

/// Where something was not understood.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Doubt {
    /// The address of the byte in the text.
    pub at: usize,
    /// What should have stood there.
    pub what: &'static str,
}

/// Doubts that were kept.
pub(super) struct Kept {
    doubts: Vec<Doubt>,
    values: usize,
}

impl Context {
    /// Notes that what begins here is not understood.
    pub(super) fn doubt(&mut self, at: &[u8], what: &'static str) {
        if self.doubts.len() < MOST_DOUBTS {
            let at = at.as_ptr() as usize;
            self.doubts.push(Doubt { at, what });
        }
    }

    /// Whether there are doubts about what was read since they were taken last.
    pub(super) fn has_doubts(&self) -> bool {
        !self.doubts.is_empty()
    }

    /// The doubts about what was read since this was asked last; for the next line.
    pub(super) fn take_doubts(&mut self) -> Vec<Doubt> {
        self.forget();
        std::mem::take(&mut self.doubts)
    }

    /// The doubts so far, to be put back where another way of reading leads nowhere.
    pub(super) fn keep_doubts(&mut self) -> Kept {
        Kept {
            doubts: std::mem::take(&mut self.doubts),
            values: self.values,
        }
    }

    /// Has the doubts be these.
    pub(super) fn put_back(&mut self, kept: Kept) {
        self.doubts = kept.doubts;
        self.values = kept.values;
    }

    /// Forgets all about the line but its doubts.
    pub(super) fn forget(&mut self) {
        self.values = 0;
        self.labels = false;
        self.odd = false;
    }

    /// Begins a value: whether the one around it is odd so far. To be given back to [`Context::end`].
    pub(super) fn begin<'a>(&mut self, i: &'a [u8]) -> Result<bool, nom::Err<Expected<'a>>> {
        self.values += 1;
        if self.values > MOST_VALUES {
            let what = "fewer than two million values in a line";
            return Err(nom::Err::Failure(Expected { at: i, what }));
        }
        Ok(std::mem::replace(&mut self.odd, false))
    }

    /// Ends a value whose text goes from `start` to `rest`: keeps that text if it is odd.
    pub(super) fn end(
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
