//! The plausible answers of system calls: which errnos the kernel may answer a call with, of which class, when, and what
//! such a failure covers. `errors.tbl` has them all; this module reads it, once.
//!
//! Whether a condition holds is a question about one call of one program: [`Facts`] has what must be known of it. To
//! gather those facts is not for this module.

mod condition;
mod facts;
mod table;

pub use condition::Condition;
pub use facts::{Facts, FileType, SocketFacts};

use crate::constants;
use std::collections::HashMap;
use std::fmt;
use std::sync::LazyLock;

/// The kind of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// A device fails.
    Io,
    /// There is no room in the file system.
    Space,
    /// Another attempt may succeed.
    Retry,
    /// The program may not do that.
    Permission,
    /// What is named is not there, is there already, or is another thing.
    Absent,
    /// A limit is reached, or memory is used up.
    Limits,
    /// The other end of a connection is gone or out of reach.
    Peer,
    /// The call moves less than it was asked for.
    Short,
    /// An error of the programmer, such as EBADF or EFAULT. Nothing that happens to a correct program.
    Misuse,
}

/// What a failure covers when it persists.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scope {
    /// All files of the file system.
    FileSystem,
    /// All calls of the process that want the same.
    Process,
    /// The file, socket or other object that the call is about.
    File,
    /// All that goes to the same peer.
    Peer,
    /// This call alone: the failure does not persist.
    Call,
}

impl Class {
    const ALL: [(Class, &'static str); 9] = [
        (Class::Io, "io"),
        (Class::Space, "space"),
        (Class::Retry, "retry"),
        (Class::Permission, "permission"),
        (Class::Absent, "absent"),
        (Class::Limits, "limits"),
        (Class::Peer, "peer"),
        (Class::Short, "short"),
        (Class::Misuse, "misuse"),
    ];

    /// The name: `permission`.
    pub fn name(self) -> &'static str {
        name(&Class::ALL, self)
    }

    /// The class of this name.
    pub fn of_name(name: &str) -> Option<Class> {
        of_name(&Class::ALL, name)
    }
}

impl Scope {
    const ALL: [(Scope, &'static str); 5] = [
        (Scope::FileSystem, "filesystem"),
        (Scope::Process, "process"),
        (Scope::File, "file"),
        (Scope::Peer, "peer"),
        (Scope::Call, "call"),
    ];

    /// The name: `filesystem`.
    pub fn name(self) -> &'static str {
        name(&Scope::ALL, self)
    }

    /// The scope of this name.
    pub fn of_name(name: &str) -> Option<Scope> {
        of_name(&Scope::ALL, name)
    }
}

fn name<T: PartialEq>(all: &[(T, &'static str)], wanted: T) -> &'static str {
    let found = all.iter().find(|(value, _)| *value == wanted);
    found.map_or("", |(_, name)| name)
}

fn of_name<T: Copy>(all: &[(T, &'static str)], name: &str) -> Option<T> {
    let found = all.iter().find(|(_, known)| *known == name);
    found.map(|(value, _)| *value)
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A plausible answer of a call, other than success.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plausible {
    /// The errno with which the call fails; `None` if it succeeds and moves less than it was asked for.
    pub errno: Option<i32>,
    /// The kind of the answer.
    pub class: Class,
    /// What the failure covers when it persists.
    pub scope: Scope,
    /// What must be true of the call, all of it.
    pub conditions: Vec<Condition>,
}

impl Plausible {
    /// The errno's name, or `short`.
    pub fn name(&self) -> &'static str {
        match self.errno {
            Some(errno) => constants::errno_name(errno).unwrap_or(""),
            None => Class::Short.name(),
        }
    }

    /// Whether it is an error of the programmer, which is told on request only.
    pub fn is_misuse(&self) -> bool {
        self.class == Class::Misuse
    }

    /// Whether the kernel could give this answer to a call of which these facts are known.
    pub fn holds(&self, facts: &Facts) -> bool {
        self.conditions.iter().all(|c| c.holds(facts))
    }

    /// The conditions as a text, to be read behind "when"; `None` if there are none.
    pub fn when(&self) -> Option<String> {
        let texts: Vec<&str> = self.conditions.iter().map(|c| c.text()).collect();
        (!texts.is_empty()).then(|| texts.join(", and "))
    }
}

#[derive(Default)]
struct Table {
    answers: HashMap<&'static str, Vec<Plausible>>,
    /// What is wrong in the table: a test makes sure that nothing is.
    errors: Vec<String>,
}

static TABLE: LazyLock<Table> = LazyLock::new(|| table::read(include_str!("../errors.tbl")));

/// The plausible answers of the call with this name or alias (`send`, `stat64`), by class, errors of the programmer last.
/// `None` if there is no such call on x86-64.
pub fn plausible_answers(call: &str) -> Option<&'static [Plausible]> {
    let call = super::by_name(call)?;
    TABLE.answers.get(call.name).map(Vec::as_slice)
}

#[cfg(test)]
mod tests;
