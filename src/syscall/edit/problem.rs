//! Why something cannot be changed.

use super::Step;

/// Why something cannot be changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// It has no such member.
    #[error("has no {name:?}{}", did_you_mean(.near))]
    NoMember {
        /// The name.
        name: String,
        /// Names that are near.
        near: Vec<&'static str>,
    },
    /// It has fewer elements.
    #[error("has {count} elements: there is no number {}", index + 1)]
    NoElement {
        /// The index, from 0.
        index: usize,
        /// How many there are.
        count: usize,
    },
    /// A list of another length.
    #[error("has {count} elements, not {len}")]
    Count {
        /// How many there are.
        count: usize,
        /// How many there would be.
        len: usize,
    },
    /// It would be something else.
    #[error("cannot be {given}: it would be {now}")]
    Lost {
        /// What it was to be.
        given: String,
        /// What it would be.
        now: String,
    },
    /// Something else where a number belongs.
    #[error("is a number, not {0}")]
    NotANumber(String),
    /// A constant that nobody knows.
    #[error("is not {name}, an unknown constant{}", did_you_mean(.near))]
    Unknown {
        /// Its name.
        name: String,
        /// Names that are near.
        near: Vec<&'static str>,
    },
    /// A number that is too large or too small.
    #[error("has {size} bytes, into which {value} does not fit")]
    Range {
        /// The number.
        value: i64,
        /// The bytes.
        size: usize,
    },
    /// A length below zero.
    #[error("is a number of bytes, and cannot be {0}")]
    Negative(i64),
    /// More than there is room for.
    #[error("has room for {room} bytes, not {len}")]
    TooLong {
        /// How many bytes it would be.
        len: usize,
        /// The room.
        room: usize,
    },
    /// A null pointer.
    #[error("is NULL: there is nothing to change behind it")]
    Null,
    /// The kernel has stored nothing there.
    #[error("has nothing stored in it: the call has not been answered, or has failed")]
    Nothing,
    /// The kernel has read it already.
    #[error("is what the program passed: it can be changed at enter only")]
    Late,
    /// The process's memory is not what it should be.
    #[error("points to {0:#x}, which cannot be read")]
    Unreadable(u64),
    /// It is not made of that.
    #[error("cannot be {0}")]
    Shape(String),
}

fn did_you_mean(names: &[&'static str]) -> String {
    match names {
        [] => String::new(),
        names => {
            let names: Vec<String> = names.iter().map(|name| format!("{name:?}")).collect();
            format!("; did you mean {}?", names.join(" or "))
        }
    }
}

/// Why something cannot be changed, and what.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} {problem}")]
pub struct EditError {
    /// The argument with the way to its part: `fds[1].revents`.
    pub what: String,
    /// What the matter is.
    #[source]
    pub problem: Problem,
    /// Whether `what` has the step at which it came up: not where that leads nowhere.
    named: bool,
}

impl From<Problem> for EditError {
    fn from(problem: Problem) -> EditError {
        EditError {
            what: String::new(),
            named: !matches!(
                problem,
                Problem::NoMember { .. } | Problem::NoElement { .. }
            ),
            problem,
        }
    }
}

impl EditError {
    /// The same, said from one step further up.
    pub(super) fn under(mut self, step: &Step) -> EditError {
        if !std::mem::replace(&mut self.named, true) {
            return self;
        }
        self.what = match step {
            Step::Member(name) => format!(".{name}{}", self.what),
            Step::Element(index) => format!("[{}]{}", index + 1, self.what),
        };
        self
    }

    pub(super) fn below(mut self, arg: &str) -> EditError {
        self.what.insert_str(0, arg);
        self
    }
}
