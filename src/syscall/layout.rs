//! Structures (`structs.tbl`): members with offset and kind, in the order in which strace prints them.

use std::collections::HashMap;
use std::sync::LazyLock;

use super::kind::{Condition, Kind, Known};

/// A member of a structure.
#[derive(Debug)]
pub struct Member {
    /// Its name as strace writes it.
    pub name: &'static str,
    /// Where it begins, in bytes.
    pub offset: usize,
    /// What it is.
    pub kind: Kind,
    /// When it is there; always where `None`.
    pub(crate) condition: Option<Condition>,
    /// Whether it is only there for lengths and conditions to speak of.
    pub(crate) hidden: bool,
}

/// A structure.
#[derive(Debug)]
pub struct Layout {
    /// Its name in the tables.
    pub name: &'static str,
    /// How many bytes it takes.
    pub size: usize,
    /// Its alignment in bytes.
    pub(crate) align: usize,
    /// Its members, in the order in which strace prints them.
    pub members: Vec<Member>,
}

impl Member {
    /// The bytes of this member in those of its structure.
    pub(crate) fn slice<'a>(&self, bytes: &'a [u8]) -> Option<&'a [u8]> {
        let rest = bytes.get(self.offset..)?;
        match self.kind.fixed_size() {
            Some(size) => rest.get(..size),
            None => Some(rest),
        }
    }
}

struct Tables {
    layouts: HashMap<&'static str, &'static Layout>,
    errors: Vec<String>,
}

static TABLES: LazyLock<Tables> = LazyLock::new(|| parse(include_str!("structs.tbl")));

/// All structures, by name.
pub(crate) fn layouts() -> &'static HashMap<&'static str, &'static Layout> {
    &TABLES.layouts
}

/// What is wrong with the table: nothing, as a test makes sure.
#[cfg(test)]
pub(crate) fn errors() -> &'static [String] {
    &TABLES.errors
}

fn parse(text: &'static str) -> Tables {
    let mut tables = Tables {
        layouts: HashMap::new(),
        errors: Vec::new(),
    };
    let mut pending: Option<(&'static str, Vec<&'static str>)> = None;
    for line in text.lines().map(str::trim) {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if let Some(head) = line.strip_prefix("struct ") {
            tables.finish(pending.replace((head, Vec::new())));
        } else if let Some((_, lines)) = pending.as_mut() {
            lines.push(line);
        }
    }
    tables.finish(pending);
    tables
}

impl Tables {
    fn finish(&mut self, pending: Option<(&'static str, Vec<&'static str>)>) {
        let Some((head, lines)) = pending else { return };
        match structure(head, &lines, &self.layouts) {
            Ok(layout) => {
                self.layouts
                    .insert(layout.name, Box::leak(Box::new(layout)));
            }
            Err(error) => self.errors.push(format!("struct {head}: {error}")),
        }
    }
}

/// `NAME [SIZE]`, then `[-]MEMBER KIND [@OFFSET] [if …|unless …]` a line.
fn structure(
    head: &'static str,
    lines: &[&'static str],
    layouts: &HashMap<&'static str, &'static Layout>,
) -> Result<Layout, String> {
    let mut words = head.split_whitespace();
    let name = words.next().ok_or("no name")?;
    let size: Option<usize> = words.next().and_then(|w| w.parse().ok());
    let names: Vec<&'static str> = lines
        .iter()
        .filter_map(|line| line.split_whitespace().next())
        .map(|word| word.trim_start_matches('-'))
        .collect();
    let known = Known {
        names: &names,
        layouts,
    };
    let (mut end, mut align) = (0usize, 1usize);
    let mut members = Vec::with_capacity(lines.len());
    for (line, &member) in lines.iter().zip(&names) {
        let (_, rest) = line
            .split_once(' ')
            .ok_or_else(|| format!("{member}: no kind"))?;
        let (rest, condition) = split_condition(rest, &names)?;
        let (kind, offset) = match rest.split_once('@') {
            Some((kind, offset)) => (kind, Some(offset.trim().parse::<usize>())),
            None => (rest, None),
        };
        let kind = Kind::parse(kind, known).map_err(|e| format!("{member}: {e}"))?;
        let offset = match offset {
            Some(offset) => offset.map_err(|e| format!("{member}: {e}"))?,
            None => end.next_multiple_of(kind.align()),
        };
        end = offset + kind.fixed_size().unwrap_or(0);
        align = align.max(kind.align());
        members.push(Member {
            name: member,
            offset,
            kind,
            condition,
            hidden: line.starts_with('-'),
        });
    }
    let size = size.unwrap_or(end.next_multiple_of(align));
    let inside = |m: &Member| m.offset + m.kind.fixed_size().unwrap_or(0) <= size;
    if let Some(outside) = members.iter().find(|m| !inside(m)) {
        return Err(format!("{} is not inside", outside.name));
    }
    Ok(Layout {
        name,
        size,
        align,
        members,
    })
}

/// Splits ` if …` or ` unless …` off.
pub(crate) fn split_condition<'a>(
    text: &'a str,
    names: &[&str],
) -> Result<(&'a str, Option<Condition>), String> {
    for (word, negated) in [(" if ", false), (" unless ", true)] {
        if let Some((rest, condition)) = text.split_once(word) {
            let condition = Condition::parse(condition.trim(), negated, names)?;
            return Ok((rest, Some(condition)));
        }
    }
    Ok((text, None))
}
