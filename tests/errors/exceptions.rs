//! The reviewed differences between the table of plausible answers and the manual pages: `exceptions` beside this file.

use rrapper::constants;
use std::collections::BTreeSet;

/// What is different about a call, or about one of its errnos.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Exception {
    /// The call has no page.
    NoPage,
    /// The page says that the errors of another call can occur, too.
    As(String),
    /// The page has the errno, the table has not.
    PageOnly(i32),
    /// The table has the errno, the page has not.
    TableOnly(i32),
}

/// Reads the file: a line is a reason, and indented below it are the exceptions for that reason, each `CALL…: no page`,
/// `CALL…: as CALL…`, `CALL…: - ERRNO…` (of the page only) or `CALL…: + ERRNO…` (of the table only).
pub fn read(text: &str) -> BTreeSet<(String, Exception)> {
    let mut all = BTreeSet::new();
    let mut reason = None;
    for line in text
        .lines()
        .filter(|l| !l.is_empty() && !l.starts_with('#'))
    {
        if !line.starts_with(' ') {
            reason = Some(line);
            continue;
        }
        assert!(reason.is_some(), "no reason: {line}");
        let (calls, what) = line.split_once(": ").expect(line);
        let (sign, words) = what.split_once(' ').expect(line);
        for call in calls.split_whitespace() {
            for word in words.split_whitespace() {
                let errno = || constants::errno(word).unwrap_or_else(|| panic!("{word}: {line}"));
                let exception = match sign {
                    "no" if word == "page" => Exception::NoPage,
                    "as" => Exception::As(word.to_string()),
                    "-" => Exception::PageOnly(errno()),
                    "+" => Exception::TableOnly(errno()),
                    _ => panic!("{line}"),
                };
                let is_new = all.insert((call.to_string(), exception));
                assert!(is_new, "{call} {word} is there twice: {line}");
            }
        }
    }
    all
}
