//! Lines that say nothing about what the program did: strace's messages, stacks, dumps, tables.

use super::stream::Aside;
use memchr::memmem;

/// What stands under a call, with a blank in front: frames of its stack (`-k`), dumps of what it read or
/// wrote (`-e read=`), the state of a virtual processor (`-e kvm=vcpu`).
const INDENTED: [(&[u8], Aside); 5] = [
    (b" > ", Aside::Stack),
    (b" | ", Aside::Dump),
    (b" * ", Aside::Dump),
    (b" = ", Aside::Dump),
    (b" VCPU", Aside::Dump),
];

/// The titles of the columns of `-c`, word by word.
const TITLES: [&[u8]; 15] = [
    b"%",
    b"time",
    b"seconds",
    b"usecs/call",
    b"calls",
    b"errors",
    b"syscall",
    b"shortest",
    b"longest",
    b"wall-total",
    b"wall-min",
    b"wall-max",
    b"wall-avg",
    b"function",
    b"errs",
];

/// How strace's messages begin.
const MESSAGES: [&[u8]; 8] = [
    b"strace: ",
    b"<detached ...>",
    b"Process ",
    b"[ Process ",
    b"PANIC: ",
    b"****",
    b"<Cannot restart pid ",
    b"Try '",
];

/// What stands under a call.
pub(super) fn indented(i: &[u8]) -> Option<Aside> {
    if i.first() != Some(&b' ') {
        return None;
    }
    let found = INDENTED.iter().find(|(start, _)| i.starts_with(start));
    found.map(|(_, aside)| *aside)
}

/// Whether this is a message of strace's. It may be called by a path.
pub(super) fn is_message(i: &[u8]) -> bool {
    // What a terminal shows of the key that interrupted it.
    let i = i.strip_prefix(b"^C").unwrap_or(i);
    MESSAGES.iter().any(|start| i.starts_with(start))
        || memmem::find(&i[..i.len().min(256)], b"strace: ").is_some_and(|n| i[..n].ends_with(b"/"))
        || (i.ends_with(b"tached") && i.split(|&b| b == b' ').nth(1) == Some(b"Process"))
}

/// Where in a line a message begins that ran into it, as happens where strace writes to a terminal or a pipe:
/// `clone(child_stack=NULLstrace: Process 12 attached`. The next line has the rest of the call.
pub(super) fn interrupted(i: &[u8]) -> Option<usize> {
    let start = i
        .strip_suffix(b" attached")
        .or_else(|| i.strip_suffix(b" detached"))?;
    let digits = start.iter().rev().take_while(|b| b.is_ascii_digit());
    let digits = digits.count();
    let start = start[..start.len() - digits].strip_suffix(b"Process ")?;
    let start = program_start(start);
    (digits > 0 && memchr::memchr(b'(', start).is_some()).then_some(start.len())
}

/// Whether this byte may be part of a program's path.
fn in_path(b: &u8) -> bool {
    b.is_ascii_alphanumeric() || b"/._-+~".contains(b)
}

/// What precedes `strace: `, which may be called by a path, and have another name there; all of it where it
/// does not end so.
fn program_start(i: &[u8]) -> &[u8] {
    let Some(start) = i.strip_suffix(b": ") else {
        return i;
    };
    let path = start.len() - start.iter().rev().take_while(|b| in_path(b)).count();
    // Nor is the end of a comment part of it.
    let path = path + usize::from(start[..path].ends_with(b"*") && start[path..].starts_with(b"/"));
    let Some(slash) = memchr::memchr(b'/', &start[path..]) else {
        return memmem::rfind(&start[path..], b"strace").map_or(i, |n| &start[..path + n]);
    };
    // What precedes the first slash belongs to the call, but for `./` and `../`.
    let before = &start[..path + slash];
    let dots = before.iter().rev().take_while(|&&b| b == b'.').count();
    &before[..before.len() - dots]
}

/// Where any message begins in a line that is not understood.
pub(super) fn any_message(i: &[u8]) -> Option<usize> {
    let found = match memmem::rfind(i, b"strace: ") {
        Some(n) => program_start(&i[..n + b"strace: ".len()]).len(),
        None => memmem::rfind(i, b"Process ")?,
    };
    (found > 0).then_some(found)
}

/// Follows the table of `-c` from line to line.
#[derive(Debug, Default)]
pub(super) struct Summary {
    state: State,
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
enum State {
    #[default]
    Outside,
    /// Behind the titles.
    Titled,
    /// Between the rules.
    Rows,
    /// Behind the second rule.
    Total,
}

impl Summary {
    /// Whether this line is part of a table.
    pub(super) fn takes(&mut self, i: &[u8]) -> bool {
        if self.state == State::Outside
            && !matches!(i.first(), Some(b'%' | b' ' | b'a'..=b'z' | b'S'))
        {
            return false;
        }
        let (takes, state) = match self.state {
            State::Outside if is_titles(i) => (true, State::Titled),
            State::Outside => (i.starts_with(b"System call usage summary "), State::Outside),
            State::Titled if is_rule(i) => (true, State::Rows),
            State::Rows if is_rule(i) => (true, State::Total),
            State::Rows if is_row(i) => (true, State::Rows),
            State::Total if is_row(i) => (true, State::Outside),
            _ => (false, State::Outside),
        };
        self.state = state;
        takes
    }
}

fn words(i: &[u8]) -> impl Iterator<Item = &[u8]> {
    i.split(|b| b.is_ascii_whitespace())
        .filter(|word| !word.is_empty())
}

fn is_titles(i: &[u8]) -> bool {
    !i.trim_ascii().is_empty() && words(i).all(|word| TITLES.contains(&word))
}

fn is_rule(i: &[u8]) -> bool {
    !i.trim_ascii().is_empty() && words(i).all(|word| word.iter().all(|&b| b == b'-'))
}

/// Numbers, and at most one name.
fn is_row(i: &[u8]) -> bool {
    let is_number = |word: &&[u8]| {
        word.iter()
            .all(|b| b.is_ascii_digit() || b".,-".contains(b))
    };
    let is_name = |word: &[u8]| {
        word.iter()
            .all(|b| b.is_ascii_alphanumeric() || b"_?#".contains(b))
    };
    let mut names = words(i).filter(|word| !is_number(word));
    names.next().is_none_or(is_name) && names.next().is_none() && !i.trim_ascii().is_empty()
}
