//! Structures (`structs.tbl`, and `structs_i386.tbl` for those that differ on i386): members with offset and kind, in
//! the order in which strace prints them.

use std::collections::HashMap;
use std::sync::LazyLock;

use super::Abi;
use super::kind::{Condition, Kind, Known};

/// The times at which strace shows a member of a structure that the kernel reads and writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shown {
    /// Before the call and after it.
    Always,
    /// Before the call only.
    Before,
    /// After the call only.
    After,
    /// In the one structure that is shown: the value before the call, and the one after it if that differs.
    Change,
}

/// A member of a structure.
#[derive(Debug)]
pub struct Member {
    /// The name as strace writes it.
    pub name: &'static str,
    /// The offset in bytes.
    pub offset: usize,
    /// The kind.
    pub kind: Kind,
    /// The size in bytes, if it is always the same.
    pub(crate) size: Option<usize>,
    /// The condition under which the member exists; `None` if it always does.
    pub(crate) condition: Option<Condition>,
    /// True if strace does not show the member, and only lengths and conditions refer to it.
    pub(crate) hidden: bool,
    /// The time at which the member is shown.
    pub shown: Shown,
}

/// A structure.
#[derive(Debug)]
pub struct Layout {
    /// The name in the tables.
    pub name: &'static str,
    /// The size in bytes.
    pub size: usize,
    /// The alignment in bytes.
    pub(crate) align: usize,
    /// The members, in the order in which strace prints them.
    pub members: Vec<Member>,
}

impl Layout {
    /// Returns whether any member is a pointer.
    pub(crate) fn has_pointers(&self) -> bool {
        let mut members = self.members.iter();
        members.any(|m| matches!(m.kind, Kind::Ptr(..)))
    }

    /// Returns whether all members are shown at this time only.
    pub(crate) fn is_all(&self, shown: Shown) -> bool {
        self.members.iter().all(|m| m.shown == shown)
    }

    /// Returns whether any member is shown at this time only.
    pub(crate) fn has(&self, shown: Shown) -> bool {
        self.members.iter().any(|m| m.shown == shown)
    }
}

impl Member {
    /// The bytes of this member in those of its structure.
    pub(crate) fn slice<'a>(&self, bytes: &'a [u8]) -> Option<&'a [u8]> {
        let rest = bytes.get(self.offset..)?;
        match self.size {
            Some(size) => rest.get(..size),
            None => Some(rest),
        }
    }

    /// The bytes of this member in a part of its structure. An array or a structure may be cut.
    pub(crate) fn part<'a>(&self, bytes: &'a [u8]) -> Option<&'a [u8]> {
        let rest = bytes.get(self.offset..)?;
        match (&self.kind, self.size) {
            (_, Some(size)) if size <= rest.len() => rest.get(..size),
            (Kind::Struct(_) | Kind::Array(..), Some(_)) if !rest.is_empty() => Some(rest),
            (_, Some(_)) => None,
            (_, None) => Some(rest),
        }
    }

    /// Returns whether the whole member is within this part of its structure.
    pub(crate) fn is_within(&self, bytes: &[u8]) -> bool {
        self.offset + self.size.unwrap_or(0) <= bytes.len()
    }
}

struct Tables {
    layouts: HashMap<&'static str, &'static Layout>,
    errors: Vec<String>,
}

static X86_64: LazyLock<Tables> = LazyLock::new(|| {
    let mut tables = Tables::new();
    let text = Text::read(include_str!("structs.tbl"));
    tables.add_all(Abi::X86_64, text.structs);
    tables
});

/// i386 has its own forms of some structures; the other structures are those of x86-64 with i386's sizes.
static I386: LazyLock<Tables> = LazyLock::new(|| {
    let mut tables = Tables::new();
    let own = Text::read(include_str!("structs_i386.tbl"));
    let base = Text::read(include_str!("structs.tbl"));
    for (name, of) in &own.same {
        match layouts().get(of) {
            Some(layout) => {
                tables.layouts.insert(name, layout);
            }
            None if name == of => {}
            None => tables
                .errors
                .push(format!("same {name}: no structure {of}")),
        }
    }
    let mut forms = Vec::new();
    for moved in own.moved {
        match base.structs.iter().find(|s| s.name == moved.of) {
            Some(form) => forms.push(form.moved(moved)),
            None if moved.name == moved.of => {}
            None => tables
                .errors
                .push(format!("moved {}: no structure", moved.name)),
        }
    }
    forms.extend(own.structs);
    let is_own = |name| forms.iter().any(|s| s.name == name) || tables.layouts.contains_key(name);
    let derived = base.structs.into_iter().filter(|s| !is_own(s.name));
    let derived: Vec<Form> = derived.collect();
    forms.extend(derived);
    tables.add_all(Abi::I386, forms);
    tables
});

fn tables(abi: Abi) -> &'static Tables {
    match abi {
        Abi::X86_64 => &X86_64,
        Abi::I386 => &I386,
    }
}

/// All structures of an ABI, by name.
pub(crate) fn layouts_in(abi: Abi) -> &'static HashMap<&'static str, &'static Layout> {
    &tables(abi).layouts
}

/// All structures of x86-64, by name.
pub(crate) fn layouts() -> &'static HashMap<&'static str, &'static Layout> {
    layouts_in(Abi::X86_64)
}

/// The errors in the tables. A test makes sure that there are none.
#[cfg(test)]
pub(crate) fn errors() -> impl Iterator<Item = &'static String> {
    Abi::ALL.iter().flat_map(|&abi| &tables(abi).errors)
}

/// The description of a structure in a table.
struct Form {
    name: &'static str,
    size: Option<usize>,
    lines: Vec<&'static str>,
    moved: Moved,
}

/// `moved NAME[=OF] SIZE [WHERE=OFFSET …] [KIND=KIND …]`: the members of `OF` at other offsets. `WHERE` is an offset of
/// `OF`, or the name of a member, which takes precedence.
#[derive(Default)]
struct Moved {
    name: &'static str,
    of: &'static str,
    size: Option<usize>,
    offsets: Vec<(&'static str, usize)>,
    kinds: Vec<(&'static str, &'static str)>,
}

impl Moved {
    fn read(name: &'static str, size: &str, rest: &[&'static str]) -> Moved {
        let (name, of) = name.split_once('=').unwrap_or((name, name));
        let mut moved = Moved {
            name,
            of,
            size: size.parse().ok(),
            ..Moved::default()
        };
        for (from, to) in rest.iter().filter_map(|pair| pair.split_once('=')) {
            match to.parse() {
                Ok(offset) => moved.offsets.push((from, offset)),
                Err(_) => moved.kinds.push((from, to)),
            }
        }
        moved
    }

    /// The offset of a member that has this offset in the original structure.
    fn offset(&self, member: &str, offset: &str) -> Result<usize, std::num::ParseIntError> {
        let find = |wanted: &str| self.offsets.iter().find(|(from, _)| *from == wanted);
        match find(member).or_else(|| find(offset)) {
            Some(&(_, offset)) => Ok(offset),
            None => offset.parse(),
        }
    }
}

impl Form {
    fn moved(&self, moved: Moved) -> Form {
        Form {
            name: moved.name,
            size: moved.size,
            lines: self.lines.clone(),
            moved,
        }
    }
}

/// A table of structures, split into lines that are not parsed yet.
#[derive(Default)]
struct Text {
    structs: Vec<Form>,
    /// The lines `same NAME` and `same NAME=OF`, for structures of x86-64.
    same: Vec<(&'static str, &'static str)>,
    moved: Vec<Moved>,
}

impl Text {
    fn read(text: &'static str) -> Text {
        let mut all = Text::default();
        for line in text.lines().map(str::trim) {
            let words: Vec<&'static str> = line.split_whitespace().collect();
            match words.as_slice() {
                [] => {}
                [first, ..] if first.starts_with('#') => {}
                ["struct", name, rest @ ..] => all.structs.push(Form {
                    name,
                    size: rest.first().and_then(|w| w.parse().ok()),
                    lines: Vec::new(),
                    moved: Moved::default(),
                }),
                ["same", names @ ..] => {
                    let pairs = names.iter().map(|n| n.split_once('=').unwrap_or((n, n)));
                    all.same.extend(pairs);
                }
                ["moved", name, size, rest @ ..] => all.moved.push(Moved::read(name, size, rest)),
                _ => {
                    if let Some(last) = all.structs.last_mut() {
                        last.lines.push(line);
                    }
                }
            }
        }
        all
    }
}

impl Tables {
    fn new() -> Tables {
        Tables {
            layouts: HashMap::new(),
            errors: Vec::new(),
        }
    }

    /// Parses the structures in any order in which their members are known.
    fn add_all(&mut self, abi: Abi, mut forms: Vec<Form>) {
        loop {
            let before = forms.len();
            let mut errors = Vec::new();
            forms.retain(|form| match structure(form, abi, &self.layouts) {
                Ok(layout) => {
                    self.layouts
                        .insert(layout.name, Box::leak(Box::new(layout)));
                    false
                }
                Err(error) => {
                    errors.push(format!("{abi:?} struct {}: {error}", form.name));
                    true
                }
            });
            if forms.len() == before {
                self.errors.extend(errors);
                return;
            }
        }
    }
}

/// Parses a structure: `NAME [SIZE]`, then a line `[-|<|>|=]MEMBER KIND [@OFFSET] [if …|unless …]` for each member.
fn structure(
    form: &Form,
    abi: Abi,
    layouts: &HashMap<&'static str, &'static Layout>,
) -> Result<Layout, String> {
    let names: Vec<&'static str> = form
        .lines
        .iter()
        .filter_map(|line| line.split_whitespace().next())
        .map(|word| word.trim_start_matches(['-', '<', '>', '=']))
        .collect();
    let known = Known {
        names: &names,
        layouts,
        abi,
        renames: &form.moved.kinds,
    };
    let (mut end, mut align) = (0usize, 1usize);
    let mut members = Vec::with_capacity(form.lines.len());
    for (line, &member) in form.lines.iter().zip(&names) {
        let (_, rest) = line
            .split_once(' ')
            .ok_or_else(|| format!("{member}: no kind"))?;
        let (rest, condition) = split_condition(rest, &names)?;
        let (kind, offset) = match rest.split_once('@') {
            Some((kind, offset)) => (kind, Some(form.moved.offset(member, offset.trim()))),
            None => (rest, None),
        };
        let kind = Kind::parse(kind, known).map_err(|e| format!("{member}: {e}"))?;
        let offset = match offset {
            Some(offset) => offset.map_err(|e| format!("{member}: {e}"))?,
            None => end.next_multiple_of(kind.align(abi)),
        };
        let size = kind.size_in(abi);
        end = offset + size.unwrap_or(0);
        align = align.max(kind.align(abi));
        members.push(Member {
            name: member,
            offset,
            kind,
            size,
            condition,
            hidden: line.starts_with('-'),
            shown: match line.as_bytes().first() {
                Some(b'>') => Shown::Before,
                Some(b'<') => Shown::After,
                Some(b'=') => Shown::Change,
                _ => Shown::Always,
            },
        });
    }
    let size = form.size.unwrap_or(end.next_multiple_of(align));
    let inside = |m: &Member| m.offset + m.size.unwrap_or(0) <= size;
    if let Some(outside) = members.iter().find(|m| !inside(m)) {
        return Err(format!("{} is not inside", outside.name));
    }
    Ok(Layout {
        name: form.name,
        size,
        align,
        members,
    })
}

/// Splits ` if …` or ` unless …` off a description.
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
