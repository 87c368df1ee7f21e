//! The reasons for which an edit fails.

use super::PathStep;

/// The reason for which an edit fails.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// There is no member of this name.
    #[error("has no {name:?}{}", did_you_mean(.near))]
    NoMember {
        /// The name.
        name: String,
        /// Similar names.
        near: Vec<&'static str>,
    },
    /// There are fewer elements.
    #[error("has {count} elements: there is no number {}", index + 1)]
    NoElement {
        /// The index, from 0.
        index: usize,
        /// The number of elements.
        count: usize,
    },
    /// The list has another length.
    #[error("has {count} elements, not {len}")]
    Count {
        /// The number of elements.
        count: usize,
        /// The number of elements in the new list.
        len: usize,
    },
    /// The new value would differ from the one that was given.
    #[error("cannot be {given}: it would be {now}")]
    Lost {
        /// The value that was given.
        given: String,
        /// The value that it would become.
        now: String,
    },
    /// The value is not a number.
    #[error("is a number, not {0}")]
    NotANumber(String),
    /// The name is no known constant.
    #[error("is not {name}, an unknown constant{}", did_you_mean(.near))]
    Unknown {
        /// The name.
        name: String,
        /// Similar names.
        near: Vec<&'static str>,
    },
    /// The number is too large or too small.
    #[error("has {size} bytes, into which {value} does not fit")]
    Range {
        /// The number.
        value: i64,
        /// The size in bytes.
        size: usize,
    },
    /// The length is negative.
    #[error("is a number of bytes, and cannot be {0}")]
    Negative(i64),
    /// The value is longer than its buffer.
    #[error("has room for {room} bytes, not {len}")]
    TooLong {
        /// The length of the new value in bytes.
        len: usize,
        /// The size of the buffer in bytes.
        room: usize,
    },
    /// The pointer is null.
    #[error("is NULL: there is nothing to change behind it")]
    Null,
    /// The kernel has stored nothing there.
    #[error("has nothing stored in it: the call has not been answered, or has failed")]
    Nothing,
    /// The kernel has read the value already.
    #[error("is what the program passed: it can be changed at enter only")]
    Late,
    /// The process's memory cannot be read.
    #[error("points to {0:#x}, which cannot be read")]
    Unreadable(u64),
    /// The value has another form.
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

/// The reason for which an edit fails, and the part that cannot be changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} {problem}")]
pub struct EditError {
    /// The argument with the path to its part: `fds[1].revents`.
    pub what: String,
    /// The reason.
    #[source]
    pub problem: Problem,
    /// True if `what` has the step at which the edit failed, which is left out if the step leads nowhere.
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
    /// Adds the step above the part to the error.
    pub(super) fn under(mut self, step: &PathStep) -> EditError {
        if !std::mem::replace(&mut self.named, true) {
            return self;
        }
        self.what = match step {
            PathStep::Member(name) => format!(".{name}{}", self.what),
            PathStep::Element(index) => format!("[{}]{}", index + 1, self.what),
        };
        self
    }

    pub(super) fn below(mut self, arg: &str) -> EditError {
        self.what.insert_str(0, arg);
        self
    }
}
