//! Conditions on calls: by failure, or by any predicate.

use super::Answer;

/// A condition on failures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failed {
    /// Any failure.
    Any,
    /// A failure with this errno (positive).
    With(i32),
}

impl Failed {
    /// Whether an answer fulfils the condition.
    pub fn is(self, answer: &Answer) -> bool {
        match (self, answer) {
            (Failed::Any, Answer::Errno(_)) => true,
            (Failed::With(wanted), Answer::Errno(errno)) => wanted == *errno,
            _ => false,
        }
    }
}

/// A condition on a value.
pub type Predicate<T> = Box<dyn Fn(&T) -> bool>;
