//! What a text says about an entry besides the entry: when it was, how long it took, who did it.
//!
//! And how it is written: the text in front of an entry's values and behind them. That is a
//! spelling, not a statement: what an entry says is in its fields, and [`crate::strace`] prints these margins only
//! where they still say the same.

use std::time::Duration;

/// A point in time, as far as a line says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Timestamp {
    /// Since 1970, UTC (`-ttt`).
    Epoch {
        /// Whole seconds.
        seconds: u64,
        /// The rest.
        nanoseconds: u32,
    },
    /// A time of an unknown day in an unknown zone (`-t`, `-tt`).
    Clock {
        /// Whole seconds since midnight.
        seconds: u32,
        /// The rest.
        nanoseconds: u32,
    },
}

/// What strace did to a call at its user's wish (`-e inject=`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tampering {
    /// It set the result, or sent a signal: `(INJECTED)`.
    pub answer: bool,
    /// It wrote into what the arguments point to: `(INJECTED: args)`.
    pub args: bool,
    /// It made the call wait: `(DELAYED)`.
    pub delayed: bool,
}

/// What a text says besides the entry.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LineInfo {
    /// Timestamp the line was begun (`-t`, `-tt`, `-ttt`).
    pub when: Option<Timestamp>,
    /// The time since the line before it was begun (`-r`).
    pub since: Option<Duration>,
    /// The time between the beginning and the end of the call (`-T`).
    pub spent: Option<Duration>,
    /// Where the call was made (`-i`); `None` also where strace did not know.
    pub address: Option<u64>,
    /// The call's number (`-n`).
    pub number: Option<u64>,
    /// What the task's command was then (`-Y`).
    pub command: Option<Box<[u8]>>,
    /// The task's security context (`--secontext`).
    pub context: Option<Box<[u8]>>,
    /// What strace did to the call.
    pub tampering: Tampering,
    /// Whether the text ends in the midst of the call.
    pub cut: bool,
    /// The margins: what is in front, then what is behind.
    margins: Box<[u8]>,
    /// Where the one ends and the other begins.
    behind: usize,
    /// The list of arguments as written, where its separators are odd.
    list: Option<Box<[u8]>>,
}

impl LineInfo {
    /// LineInfo on an entry that is written with this in front of its name or values, and this behind them.
    pub fn new(front: &[u8], back: &[u8]) -> LineInfo {
        LineInfo {
            margins: [front, back].concat().into_boxed_slice(),
            behind: front.len(),
            ..LineInfo::default()
        }
    }

    /// What is written in front: of a call's name, of a signal's values; of an exit, all of the line.
    pub fn front(&self) -> &[u8] {
        self.margins.get(..self.behind).unwrap_or_default()
    }

    /// What is written behind the call's closing parenthesis, or the signal's values.
    pub fn back(&self) -> &[u8] {
        self.margins.get(self.behind..).unwrap_or_default()
    }

    /// The arguments with what is between them, where that is not a comma and a blank.
    pub fn list(&self) -> Option<&[u8]> {
        self.list.as_deref()
    }

    /// Keeps the arguments as written.
    pub(crate) fn set_list(&mut self, text: &[u8]) {
        self.list = Some(text.into());
    }
}
