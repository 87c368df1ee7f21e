//! The ERRORS sections of the manual pages (Debian's `manpages-dev`): which errnos a page has for which call.

use rrapper::{constants, syscall};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Names that pages have for calls, where they are neither the kernel's nor aliases of those.
const LIBRARY_NAMES: [(&str, &str); 3] = [
    ("faccessat", "faccessat2"),
    ("prlimit", "prlimit64"),
    ("wait", "wait4"),
];

/// The manual page of a call.
pub struct Page {
    text: String,
}

/// What a part of a page is about: calls, or all calls of the page.
type About = Option<BTreeSet<String>>;

impl Page {
    /// Reads the page of a call; `None` if it has none.
    pub fn of(call: &str) -> Option<Page> {
        let mut path = PathBuf::from(format!("man2/{call}.2"));
        loop {
            let text = unpacked(&path)?;
            match text.strip_prefix(".so ") {
                Some(other) => path = PathBuf::from(other.trim()),
                None => return Some(Page { text }),
            }
        }
    }

    /// The release of the pages: `Linux man-pages 6.03`.
    pub fn release(&self) -> &str {
        let head = self.text.lines().find(|line| line.starts_with(".TH "));
        let quoted = head.and_then(|line| line.split('"').nth(1));
        quoted.unwrap_or("an unknown release")
    }

    /// The errnos of a call in its ERRORS section.
    pub fn errnos(&self, call: &str) -> BTreeSet<i32> {
        let is_meant = |about: &About| about.as_ref().is_none_or(|calls| calls.contains(call));
        let mut found = BTreeSet::new();
        let mut part = None;
        for block in blocks(&self.text) {
            match block {
                Block::Paragraph(text) => part = introduced(&text),
                Block::Entry { tag, text } => {
                    let about = qualified(&tag, &text);
                    if is_meant(&part) && is_meant(&about) {
                        found.extend(errnos_in(&tag));
                    }
                }
            }
        }
        found
    }
}

/// A paragraph between the entries, or an entry: an errno and its explanation.
enum Block {
    Paragraph(String),
    Entry { tag: String, text: String },
}

/// A page's source, unpacked.
fn unpacked(page: &Path) -> Option<String> {
    let path = Path::new("/usr/share/man").join(page);
    let packed = PathBuf::from(format!("{}.gz", path.display()));
    if !packed.exists() {
        return None;
    }
    let output = Command::new("gzip").arg("-dc").arg(&packed).output();
    let output = output.expect("gzip runs");
    assert!(output.status.success(), "{}", packed.display());
    Some(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The blocks of the ERRORS section.
fn blocks(text: &str) -> Vec<Block> {
    let section = text.split("\n.SH ").find(|s| s.starts_with("ERRORS"));
    let lines = section.unwrap_or("").lines().skip(1);
    let mut blocks = vec![Block::Paragraph(String::new())];
    let mut is_tag = false;
    for line in lines.filter(|line| !line.starts_with(".\\\"")) {
        match (line.split(' ').next(), blocks.last_mut()) {
            (Some(".TP" | ".TQ"), _) => is_tag = true,
            (Some(".PP" | ".SS"), _) => blocks.push(Block::Paragraph(String::new())),
            _ if is_tag => {
                let (tag, text) = (plain(line), String::new());
                blocks.push(Block::Entry { tag, text });
                is_tag = false;
            }
            (_, Some(Block::Paragraph(text) | Block::Entry { text, .. })) => {
                text.push(' ');
                text.push_str(&plain(line));
            }
            (_, None) => {}
        }
    }
    blocks
}

/// A line without its macro and quotes: `.RB ( fstatat ())` is `(fstatat())`.
fn plain(line: &str) -> String {
    let Some((name, rest)) = line
        .strip_prefix('.')
        .map(|l| l.split_once(' ').unwrap_or((l, "")))
    else {
        return line.to_string();
    };
    let mut words: Vec<String> = Vec::new();
    for (at, part) in rest.split('"').enumerate() {
        match at % 2 {
            // Inside of quotes.
            1 => words.push(part.to_string()),
            _ => words.extend(part.split_whitespace().map(String::from)),
        }
    }
    // Macros with two fonts put their words together.
    let separator = if name.len() == 2 { "" } else { " " };
    words.join(separator)
}

/// The errnos of an entry: `EAGAIN or EWOULDBLOCK`; not those in parentheses, which are history.
fn errnos_in(tag: &str) -> BTreeSet<i32> {
    let named = tag.split('(').next().unwrap_or("");
    let words = named.split(|c: char| !c.is_ascii_alphanumeric());
    let names = words.filter(|word| word.len() > 2 && word.starts_with('E'));
    let errnos = names.map(|name| constants::errno(name).unwrap_or_else(|| panic!("{name}")));
    // Those that only the kernel sees are restarted.
    errnos.filter(|errno| *errno < 512).collect()
}

/// The calls that the beginning of an entry limits it to: `(fstatat()) …`, or `EACCES (clone3() only)`.
fn qualified(tag: &str, text: &str) -> About {
    let in_tag = tag.split_once('(').map_or("", |(_, rest)| rest);
    let mut depth = 0;
    let text = text.trim_start();
    let end = text.find(|c| {
        depth += match c {
            '(' => 1,
            ')' => -1,
            _ => 0,
        };
        depth == 0
    });
    calls_in(&format!("{in_tag} {}", &text[..end.unwrap_or(0)]))
}

/// The calls whose errors a paragraph introduces: `The following additional errors can occur for linkat():`.
fn introduced(paragraph: &str) -> About {
    let sentence = paragraph.rsplit(". ").next().unwrap_or("");
    let introduces = sentence.contains("error") && !sentence.contains("more general");
    introduces.then(|| calls_in(sentence)).flatten()
}

/// The calls that a text names: `linkat()`. `None` if it names no function at all.
fn calls_in(text: &str) -> About {
    let mut named = false;
    let mut calls = BTreeSet::new();
    for (end, _) in text.match_indices("()") {
        named = true;
        let mut words = text[..end].rsplit(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        let name = words.next().unwrap_or("");
        calls.extend(syscall::by_name(name).map(|call| call.name.to_string()));
        let other = LIBRARY_NAMES.iter().filter(|(library, _)| *library == name);
        calls.extend(other.map(|(_, call)| call.to_string()));
    }
    named.then_some(calls)
}

#[test]
fn an_entry_is_about_the_calls_that_it_names() {
    let page = Page {
        text: String::from(
            ".TH x 2 2022-12-04 \"Linux man-pages 6.03\"\n.SH ERRORS\n.TP\n.BR EAGAIN \" or \" EWOULDBLOCK\nx\n.TP\n\
             .B EBADF\n.\\\" why\n.RB ( fstatat ())\nx\n.TP\n.BR EACCES \" (\" stat \"() only)\"\nx\n.TP\n.B EIO\nsee\n\
             .BR lstat ()\n.PP\nThe same errors as for\n.BR stat ().\nThe following additional errors can occur for\n\
             .BR lstat ():\n.TP\n.B EPERM\nx\n.SH NOTES\n.TP\n.B ENOENT\nx\n",
        ),
    };
    assert_eq!(page.release(), "Linux man-pages 6.03");
    for (call, names) in [
        ("stat", &["EIO", "EAGAIN", "EACCES"][..]),
        ("newfstatat", &["EIO", "EBADF", "EAGAIN"]),
        ("lstat", &["EPERM", "EIO", "EAGAIN"]),
    ] {
        let names = names.iter().map(|name| constants::errno(name).unwrap());
        assert_eq!(page.errnos(call), names.collect(), "{call}");
    }
}
