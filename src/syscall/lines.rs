//! The tables of calls as text: the lines of each call, and the calls that are described by another call.

use std::collections::HashMap;

use super::Abi;
use super::table::Syscall;

/// The lines of a call.
pub(crate) struct Entry {
    pub(crate) nr: u32,
    pub(crate) name: &'static str,
    /// The text after the name.
    pub(crate) text: &'static str,
    /// The lines of the call's variants; true for a variant of the variant before it.
    pub(crate) variants: Vec<(bool, &'static str)>,
}

/// The entries of a table, in the table's order.
#[derive(Default)]
pub(crate) struct Lines {
    entries: Vec<Entry>,
    by_name: HashMap<&'static str, usize>,
    errors: Vec<String>,
}

/// The way in which a description is read.
#[derive(Clone, Copy)]
pub(crate) struct Reading<'a> {
    pub(crate) abi: Abi,
    /// True if the description was written for x86-64, where each argument is in one register.
    pub(crate) shared: bool,
    /// The arguments that have 64 bits on this ABI, too.
    pub(crate) wide: &'a [&'static str],
    /// The bits of a command that select a variant, if they differ from the description's.
    pub(crate) mask: Option<&'static str>,
    /// The kinds that are replaced, and those that replace them.
    pub(crate) renames: &'a [(&'static str, &'static str)],
}

/// `= NAME [with KIND=KIND … ARG:64 … by&MASK] [: WORDS]`: the description of x86-64's call of this name.
pub(crate) struct Same {
    pub(crate) name: &'static str,
    renames: Vec<(&'static str, &'static str)>,
    wide: Vec<&'static str>,
    mask: Option<&'static str>,
    pub(crate) words: &'static str,
}

/// Splits a table into its entries: a line `NR NAME …`, and the lines after it that begin with `+`.
pub(crate) fn read(text: &'static str) -> Lines {
    let mut lines = Lines::default();
    for line in text.lines().map(str::trim) {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let nested = line.strip_prefix("++ ").map(|line| (true, line));
        if let Some(variant) = nested.or(line.strip_prefix("+ ").map(|line| (false, line))) {
            match lines.entries.last_mut() {
                Some(entry) => entry.variants.push(variant),
                None => lines.errors.push(format!("{line}: no call before it")),
            }
            continue;
        }
        let (nr, rest) = line.split_once(' ').unwrap_or((line, ""));
        let (name, text) = split_name(rest.trim());
        match nr.parse() {
            Ok(nr) if !name.is_empty() => {
                lines.by_name.insert(name, lines.entries.len());
                lines.entries.push(Entry {
                    nr,
                    name,
                    text,
                    variants: Vec::new(),
                });
            }
            _ => lines.errors.push(format!("{line}: no number and name")),
        }
    }
    lines
}

fn split_name(text: &'static str) -> (&'static str, &'static str) {
    let end = text.find(['(', ' ']).unwrap_or(text.len());
    let (name, rest) = text.split_at(end);
    (name, rest.trim())
}

impl Lines {
    pub(crate) fn all(&self) -> &[Entry] {
        &self.entries
    }

    pub(crate) fn get(&self, name: &str) -> Option<&Entry> {
        self.entries.get(*self.by_name.get(name)?)
    }

    pub(crate) fn errors(&self) -> &[String] {
        &self.errors
    }
}

impl Entry {
    /// The variant of a call. The name of a variant that has one is before its arguments or after the `=`.
    pub(crate) fn variant(outer: &Syscall, text: &'static str) -> Entry {
        let named = match text.strip_prefix("= ") {
            Some(rest) => rest.split_whitespace().next().map(|name| (name, text)),
            None => Some(split_name(text))
                .filter(|(name, rest)| !name.is_empty() && rest.starts_with('(')),
        };
        let (name, text) = named.unwrap_or((outer.name, text));
        Entry {
            nr: outer.nr,
            name,
            text,
            variants: Vec::new(),
        }
    }
}

impl Reading<'_> {
    /// Reads a description without changes.
    pub(crate) fn plain(abi: Abi) -> Reading<'static> {
        Reading {
            abi,
            shared: false,
            wide: &[],
            mask: None,
            renames: &[],
        }
    }
}

impl Same {
    /// Parses such a description; `None` if the text is another one.
    pub(crate) fn parse(text: &'static str) -> Result<Option<Same>, String> {
        let Some(rest) = text.strip_prefix("= ") else {
            return Ok(None);
        };
        let (rest, words) = rest.split_once(" : ").unwrap_or((rest, ""));
        let (name, with) = rest.split_once(" with ").unwrap_or((rest, ""));
        let (mut renames, mut wide, mut mask) = (Vec::new(), Vec::new(), None);
        for item in with.split_whitespace() {
            match (item.split_once('='), item.strip_suffix(":64")) {
                (Some(rename), _) => renames.push(rename),
                (None, Some(argument)) => wide.push(argument),
                _ => match item.strip_prefix("by&") {
                    Some(bits) => mask = Some(bits),
                    None => return Err(format!("{item}: KIND=KIND, ARG:64 or by&MASK")),
                },
            }
        }
        Ok(Some(Same {
            name: name.trim(),
            renames,
            wide,
            mask,
            words,
        }))
    }

    pub(crate) fn reading(&self, abi: Abi) -> Reading<'_> {
        Reading {
            abi,
            shared: true,
            wide: &self.wide,
            mask: self.mask,
            renames: &self.renames,
        }
    }
}
