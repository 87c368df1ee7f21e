//! Conditions on calls: by failure, or by any predicate.

use super::Answer;

/// Which failures are meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failed {
    /// All.
    Any,
    /// Those with this errno (positive).
    With(i32),
}

impl Failed {
    /// Whether an answer is such a failure.
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
