//! Lines that hold no entry: strace's messages, stacks, dumps.

use super::tokens::blanks;
use memchr::memmem;

/// The kinds of lines without an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OtherLine {
    /// An empty line.
    Blank,
    /// A message of strace's (`strace: Process 12 attached`).
    Message,
    /// The task has stopped (`--- stopped by SIGSTOP ---`).
    Stopped,
    /// Another task's execve took over this line's pid (`+++ superseded by execve in pid 12 +++`).
    Superseded,
    /// A frame of a stack (`-k`).
    Stack,
    /// Part of a dump of data (`-e read=`).
    Dump,
    /// Part of the table of `-c` or `-C`.
    Summary,
    /// The rest of a call whose beginning is not in the text.
    Orphan,
    /// The rest of a line that is too long.
    Overlong,
    /// A user comment (`# here it fails`), or output of the program outside of a call.
    Remark,
    /// Text that other programs wrote into a blocked call.
    Output,
    /// A line that the end of the text truncated, before its entry or in the rest of a call.
    Truncated,
}

/// Lines below a call, which begin with a blank: frames of its stack (`-k`), dumps of its data (`-e read=`), the state
/// of a virtual processor (`-e kvm=vcpu`).
const INDENTED: [(&[u8], OtherLine); 5] = [
    (b"> ", OtherLine::Stack),
    (b"| ", OtherLine::Dump),
    (b"* ", OtherLine::Dump),
    (b"= ", OtherLine::Dump),
    (b"VCPU", OtherLine::Dump),
];

/// The beginnings of strace's messages.
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

/// The kind of a line below a call: behind one blank, or more in a text that was indented.
pub(in crate::strace) fn indented(i: &[u8]) -> Option<OtherLine> {
    let inside = blanks(i);
    if inside.len() == i.len() {
        return None;
    }
    let found = INDENTED.iter().find(|(start, _)| inside.starts_with(start));
    found.map(|(_, other)| *other)
}

/// The kind of a line below a call whose blanks were lost: `| 00000  61 62`, `* 5 bytes in buffer 0`, `= 2 buffers in
/// vector 0`, `/lib/libc.so.6(read+0x10) [0xf7100]`.
pub(in crate::strace) fn trimmed(i: &[u8]) -> Option<OtherLine> {
    let number = |i: &[u8]| i.first().is_some_and(u8::is_ascii_hexdigit);
    match i {
        [b'|', b' ', rest @ ..] if number(rest) && rest.ends_with(b"|") => Some(OtherLine::Dump),
        [b'*' | b'=', b' ', rest @ ..] if number(rest) && memmem::find(rest, b" in ").is_some() => {
            Some(OtherLine::Dump)
        }
        [b'/' | b'[', ..] | [.., b']'] => {
            let address = memmem::rfind(i, b" [0x")?;
            let digits = i.get(address + 4..)?;
            let len = digits.iter().take_while(|b| b.is_ascii_hexdigit()).count();
            (digits.get(len) == Some(&b']')).then_some(OtherLine::Stack)
        }
        _ => None,
    }
}

/// Whether a line is a message of strace's, which may be named by its path.
pub(in crate::strace) fn is_message(i: &[u8]) -> bool {
    // A terminal echoes the key that interrupted strace.
    let i = i.strip_prefix(b"^C").unwrap_or(i);
    MESSAGES.iter().any(|start| i.starts_with(start))
        || memmem::find(&i[..i.len().min(256)], b"strace: ").is_some_and(|n| i[..n].ends_with(b"/"))
        || (i.ends_with(b"tached") && i.split(|&b| b == b' ').nth(1) == Some(b"Process"))
}

/// The offset of a message within a line, as it occurs where strace writes to a terminal or a pipe:
/// `clone(child_stack=NULLstrace: Process 12 attached`. The next line has the rest of the call.
pub(in crate::strace) fn interrupted(i: &[u8]) -> Option<usize> {
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

/// The text before `strace: ` without the path or other name of strace; the whole text where it does not end so.
fn program_start(i: &[u8]) -> &[u8] {
    let Some(start) = i.strip_suffix(b": ") else {
        return i;
    };
    let path = start.len() - start.iter().rev().take_while(|b| in_path(b)).count();
    // The end of a comment is no part of a path.
    let path = path + usize::from(start[..path].ends_with(b"*") && start[path..].starts_with(b"/"));
    let Some(slash) = memchr::memchr(b'/', &start[path..]) else {
        return memmem::rfind(&start[path..], b"strace").map_or(i, |n| &start[..path + n]);
    };
    // The text before the first slash belongs to the call, but for `./` and `../`.
    let before = &start[..path + slash];
    let dots = before.iter().rev().take_while(|&&b| b == b'.').count();
    &before[..before.len() - dots]
}

/// The offset of any message in a line that is not understood.
pub(in crate::strace) fn any_message(i: &[u8]) -> Option<usize> {
    let found = match memmem::rfind(i, b"strace: ") {
        Some(n) => program_start(&i[..n + b"strace: ".len()]).len(),
        None => memmem::rfind_iter(i, b"Process ").take(4).find(|&n| {
            let number = i.get(n + b"Process ".len()..).and_then(<[u8]>::first);
            number.is_some_and(u8::is_ascii_digit) || i[..n].ends_with(b"[ ")
        })?,
    };
    (found > 0).then_some(found)
}
