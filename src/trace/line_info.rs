//! The facts that a text has about an entry besides the entry: time, duration, command, tampering.
//!
//! The text in front of an entry's values and behind them is kept, too. It is a spelling and no fact: the facts are in
//! the entry's fields, and [`crate::strace`] prints this text only where it still agrees with them.

use std::time::Duration;

/// The time in front of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
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

/// The tampering with a call that strace was asked for (`-e inject=`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Tampering {
    /// strace set the result, or sent a signal: `(INJECTED)`.
    pub answer: bool,
    /// strace wrote to memory that the arguments point to: `(INJECTED: args)`.
    pub args: bool,
    /// strace delayed the call: `(DELAYED)`.
    pub delayed: bool,
}

/// The facts that a text has besides the entry.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct LineInfo {
    /// The time at which the line began (`-t`, `-tt`, `-ttt`).
    pub when: Option<Timestamp>,
    /// The time since the beginning of the line before (`-r`).
    pub since: Option<Duration>,
    /// The time between the beginning and the end of the call (`-T`).
    pub spent: Option<Duration>,
    /// The address of the call (`-i`); `None` also where strace did not know it.
    pub address: Option<u64>,
    /// The call's number (`-n`).
    pub number: Option<u64>,
    /// The task's command (`-Y`).
    pub command: Option<Box<[u8]>>,
    /// The task's security context (`--secontext`).
    pub context: Option<Box<[u8]>>,
    /// The tampering with the call.
    pub tampering: Tampering,
    /// Whether the text ends within the call.
    pub cut: bool,
    /// The text in front of the entry, followed by the text behind it.
    margins: Box<[u8]>,
    /// The offset in `margins` at which the text behind begins.
    behind: usize,
    /// The list of arguments as written, where its separators are unusual.
    list: Option<Box<[u8]>>,
}

impl LineInfo {
    /// The line info of an entry with `front` written before its name or values, and `back` behind them.
    pub fn new(front: &[u8], back: &[u8]) -> LineInfo {
        LineInfo {
            margins: [front, back].concat().into_boxed_slice(),
            behind: front.len(),
            ..LineInfo::default()
        }
    }

    /// The text in front of a call's name or a signal's values; the whole line of an exit.
    pub fn front(&self) -> &[u8] {
        self.margins.get(..self.behind).unwrap_or_default()
    }

    /// The text behind a call's closing parenthesis, or a signal's values.
    pub fn back(&self) -> &[u8] {
        self.margins.get(self.behind..).unwrap_or_default()
    }

    /// The arguments with their separators, where those are not a comma and a blank.
    pub fn list(&self) -> Option<&[u8]> {
        self.list.as_deref()
    }

    /// Keeps the arguments as written.
    pub(crate) fn set_list(&mut self, text: &[u8]) {
        self.list = Some(text.into());
    }
}
