//! User comments in traces: lines of their own, and notes behind lines of strace's.
//!
//! A line that is not strace's is a comment where it is clearly no remainder of a call:
//! - It begins with a mark that no line of strace's begins with: `#`, `//`, `--`, `...`, `<--`, a code fence, a prompt.
//!   The text behind the mark does not matter, even if it is a call.
//! - Or it is text with a letter in it, and without a sign of a call: `) = `, `= -1 E…`, `<unfinished`, `resumed>`,
//!   quotes or brackets that do not match, values between commas or braces.
//!
//! All other lines that begin as a call does (`name(`) are calls, and problems where they are not understood. So are
//! lines with bytes that are no text. `--- SIG… ` and `+++ exited with` and the like begin signals and exits; other
//! lines between such marks are comments.

use super::tokens::blanks;
use memchr::memmem;
use std::borrow::Cow;

/// Beginnings of comments, whatever follows.
const MARKS: [&str; 30] = [
    "[...", "[…", "(...", "(…", "#", "//", "/*", "--", "++", "...", "…", "<", "```", "~~~", "$",
    "% ", "==", "=>", "->", "→", "←", "^", "!", ";", "**", "* ", "- ", "+ ", "•", "__",
];

/// Beginnings of notes behind a line.
const NOTES: [&str; 16] = [
    "#", "//", "<-", "<=", "<<", "<~", "< ", "--", "...", "…", "←", "⇐", "^", "!", ";", "**",
];

/// Text that only lines of strace's have.
const SIGNS: [&str; 11] = [
    "= -1 E",
    "<unfinished",
    "resumed>",
    "<detached",
    "\", ",
    "={",
    "=[",
    "=\"",
    "[{",
    "}, ",
    "|0x",
];

/// Whether a line that is not strace's is a user comment.
pub(in crate::strace) fn is_remark(i: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(i.trim_ascii()) else {
        return false;
    };
    // Terminals show colours.
    let plain = |c: char| !c.is_control() || matches!(c, '\t' | '\r' | '\x08' | '\x1b');
    let text = without_colours(text);
    text.chars().all(plain) && (is_marked(&text) || is_prose(&text))
}

/// A text without the escape sequences that choose colours: `\x1b[1;31m`, and `\x1b[K` that clears the line's rest.
fn without_colours(text: &str) -> Cow<'_, str> {
    if !text.contains('\x1b') {
        return Cow::Borrowed(text);
    }
    let mut parts = text.split("\x1b[");
    let first = parts.next().unwrap_or_default().to_owned();
    let plain = parts.fold(first, |plain, part| {
        let code = |c: char| c.is_ascii_digit() || c == ';';
        plain + part.trim_start_matches(code).trim_start_matches(['m', 'K'])
    });
    Cow::Owned(plain)
}

fn is_marked(text: &str) -> bool {
    MARKS.iter().any(|mark| text.starts_with(mark)) && !text.starts_with("<unfinished")
}

fn is_prose(text: &str) -> bool {
    let begins = |c: char| c.is_alphanumeric() || !c.is_ascii() || "('\"[`~/_@&:|".contains(c);
    text.starts_with(begins)
        && text.chars().any(char::is_alphabetic)
        && !text.starts_with("[pid ")
        && !SIGNS
            .iter()
            .any(|sign| memmem::find(text.as_bytes(), sign.as_bytes()).is_some())
        && !has_result(text.as_bytes())
        && is_balanced(text)
}

/// `) = `, with any blanks.
fn has_result(i: &[u8]) -> bool {
    memchr::memchr_iter(b'=', i).any(|at| {
        let before = i.get(..at).unwrap_or_default().trim_ascii_end();
        before.ends_with(b")") && i.get(at + 1) != Some(&b'=')
    })
}

/// Whether all brackets are closed, and all quotes. Of `a) b)` none is open.
fn is_balanced(text: &str) -> bool {
    let mut open = [0usize; 3];
    let mut quotes = 0usize;
    for c in text.chars() {
        let (kind, opens) = match c {
            '(' => (0, true),
            '[' => (1, true),
            '{' => (2, true),
            ')' => (0, false),
            ']' => (1, false),
            '}' => (2, false),
            '"' => {
                quotes += 1;
                continue;
            }
            _ => continue,
        };
        open[kind] = match opens {
            true => open[kind] + 1,
            false => open[kind].saturating_sub(1),
        };
    }
    open == [0; 3] && quotes.is_multiple_of(2)
}

/// Whether the text behind a line of strace's is a note or empty.
pub(in crate::strace) fn is_note(i: &[u8]) -> bool {
    let note = blanks(i);
    note.is_empty() || (note.len() < i.len() && begins_note(note))
}

/// Whether a note begins here.
pub(in crate::strace) fn begins_note(i: &[u8]) -> bool {
    NOTES.iter().any(|mark| i.starts_with(mark.as_bytes()))
}

/// A line up to this mark, which ends it but for a note behind.
pub(in crate::strace) fn up_to<'a>(i: &'a [u8], mark: &[u8]) -> Option<&'a [u8]> {
    let i = i.trim_ascii_end();
    if let Some(before) = i.strip_suffix(mark) {
        return Some(before);
    }
    // Notes may contain the mark, too.
    let mut found = memmem::find_iter(i, mark).take(4);
    found.find_map(|at| {
        let behind = i.get(at + mark.len()..)?;
        is_note(behind).then(|| i.get(..at)).flatten()
    })
}
