//! Sets of named constants (`flags.tbl`, and `names_*.tbl` for the rarer ones), and the text that strace writes for a
//! number of a set.

use std::collections::HashMap;
use std::sync::{LazyLock, OnceLock};

use super::Abi;

/// A name in a set.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Name {
    pub(crate) text: &'static str,
    pub(crate) value: i64,
    pub(crate) mask: u64,
}

/// A set of names that share an argument: flags, commands, modes.
#[derive(Debug)]
pub struct Set {
    /// The name in the tables.
    pub name: &'static str,
    /// The comment that strace writes for a number without a name here: `AT_???`.
    pub(crate) unknown: Option<&'static str>,
    /// The lines in the table.
    text: &'static str,
    /// The names in these lines; they are parsed when they are first needed.
    parsed: OnceLock<Vec<Name>>,
}

type Sets = HashMap<&'static str, Set>;

static COMMON: LazyLock<Sets> = LazyLock::new(|| parse(&[include_str!("flags.tbl")]));

/// The rare sets, which are read when a name or a set is not among the common ones.
static RARE: LazyLock<Sets> = LazyLock::new(|| {
    parse(&[
        include_str!("names_dev.tbl"),
        include_str!("names_files.tbl"),
        include_str!("names_input.tbl"),
        include_str!("names_ioctl.tbl"),
        include_str!("names_kernel.tbl"),
        include_str!("names_net.tbl"),
        include_str!("names_netlink.tbl"),
        include_str!("names_old.tbl"),
        include_str!("names_video.tbl"),
    ])
});

/// The names of i386 that x86-64 does not have, or has with another value.
static I386: LazyLock<Sets> = LazyLock::new(|| parse(&[include_str!("flags_i386.tbl")]));

/// The sets of i386 with names of their own, together with x86-64's other names of each set.
static I386_WHOLE: LazyLock<Sets> = LazyLock::new(|| {
    let whole = |(&name, own): (&&'static str, &Set)| {
        let others = set(name).into_iter().flat_map(Set::list);
        let others = others.filter(|n| own.list().iter().all(|o| o.text != n.text));
        let names: Vec<Name> = own.list().iter().chain(others).copied().collect();
        let set = Set {
            name,
            unknown: set(name).and_then(|base| base.unknown),
            text: own.text,
            parsed: OnceLock::from(names),
        };
        (name, set)
    };
    I386.iter().map(whole).collect()
});

/// The set of this name on an ABI.
pub(crate) fn set_in(abi: Abi, name: &str) -> Option<&'static Set> {
    let own = match abi {
        Abi::X86_64 => None,
        Abi::I386 => I386_WHOLE.get(name),
    };
    own.or_else(|| set(name))
}

/// The value of a name on an ABI, if the name has none or another one on x86-64.
pub(crate) fn own_value(abi: Abi, name: &str) -> Option<i64> {
    let mut names = own(abi).flat_map(Set::list);
    names.find(|n| n.text == name).map(|n| n.value)
}

/// The name in a set that has this value on an ABI, but not on x86-64.
pub(crate) fn own_name(abi: Abi, set: &str, value: u64) -> Option<&'static str> {
    let mut sets = own(abi).filter(|s| s.name == set);
    sets.find_map(|s| s.exact(value, u64::MAX))
}

fn own(abi: Abi) -> impl Iterator<Item = &'static Set> {
    let sets = match abi {
        Abi::X86_64 => None,
        Abi::I386 => Some(I386.values()),
    };
    sets.into_iter().flatten()
}

/// The set of this name.
pub(crate) fn set(name: &str) -> Option<&'static Set> {
    COMMON.get(name).or_else(|| RARE.get(name))
}

/// The common sets.
pub(crate) fn common() -> impl Iterator<Item = &'static Set> {
    COMMON.values()
}

/// The other sets.
pub(crate) fn rare() -> impl Iterator<Item = &'static Set> {
    RARE.values()
}

/// All sets, in no order.
pub fn sets() -> impl Iterator<Item = &'static Set> {
    common().chain(rare())
}

/// A plain number as C writes it: decimal, `0x…` or octal `0…`, with a sign.
pub(crate) fn number(text: &str) -> Option<i64> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let value = if let Some(hex) = digits.strip_prefix("0x").or(digits.strip_prefix("0X")) {
        u64::from_str_radix(hex, 16).ok()?
    } else if digits.len() > 1 && digits.starts_with('0') {
        u64::from_str_radix(digits, 8).ok()?
    } else {
        digits.parse().ok()?
    };
    let value = value as i64;
    Some(if negative {
        value.wrapping_neg()
    } else {
        value
    })
}

/// Splits at the first blank. (The words are too short for a search that is fast on long ones.)
fn word(line: &str) -> (&str, &str) {
    match line.bytes().position(|b| b == b' ') {
        Some(at) => (
            line.get(..at).unwrap_or(line),
            line.get(at + 1..).unwrap_or(""),
        ),
        None => (line, ""),
    }
}

/// Finds the sets. Their names are parsed when they are first needed, most of them never.
fn parse(texts: &[&'static str]) -> Sets {
    let mut sets = Sets::new();
    for text in texts {
        let mut begins = memchr::memmem::find_iter(text.as_bytes(), "\nset ").peekable();
        while let Some(at) = begins.next() {
            let end = begins.peek().copied().unwrap_or(text.len());
            let whole = text.get(at + 5..end).unwrap_or("");
            let (name, text) = whole.split_once('\n').unwrap_or((whole, ""));
            let (unknown, parsed) = (None, OnceLock::new());
            let set = Set {
                name,
                unknown,
                text,
                parsed,
            };
            sets.insert(name, set);
        }
        for at in memchr::memmem::find_iter(text.as_bytes(), "\nunknown ") {
            let rest = text.get(at + 9..).unwrap_or("");
            let (name, unknown) = word(rest.lines().next().unwrap_or(""));
            if let Some(set) = sets.get_mut(name) {
                set.unknown = Some(unknown);
            }
        }
    }
    sets
}

/// Parses `NAME VALUE [MASK]`.
fn parse_name(line: &'static str) -> Option<Name> {
    let (text, rest) = word(line);
    let (value, mask) = word(rest);
    if value.is_empty() || text.starts_with('#') {
        return None;
    }
    let value = number(value)?;
    let mask = number(mask).map_or(value as u64, |mask| mask as u64);
    Some(Name { text, value, mask })
}

impl Set {
    /// The names, in the order in which strace prints them.
    pub(crate) fn list(&self) -> &[Name] {
        let parse = || self.text.split('\n').filter_map(parse_name).collect();
        self.parsed.get_or_init(parse)
    }

    /// The names and their values, in the order in which strace prints them.
    pub fn names(&self) -> impl Iterator<Item = (&'static str, i64)> {
        self.list().iter().map(|name| (name.text, name.value))
    }

    /// The text for a number without a name: `0x40 /* AT_??? */`; `None` if strace writes the number alone.
    pub(crate) fn stranger(&self, value: u64) -> Option<String> {
        let unknown = self.unknown?;
        Some(match value {
            0 => format!("0 /* {unknown} */"),
            _ => format!("{value:#x} /* {unknown} */"),
        })
    }

    /// The name of exactly this value, compared under the mask `bits`.
    pub(crate) fn exact(&self, value: u64, bits: u64) -> Option<&'static str> {
        self.named(value, bits).map(|n| n.text)
    }

    /// The first name of exactly this value, compared under the mask `bits`.
    pub(crate) fn named(&self, value: u64, bits: u64) -> Option<&Name> {
        let mut names = self.list().iter();
        names.find(|n| n.value as u64 & bits == value & bits)
    }

    /// Returns whether any bit of `value` has a name here.
    fn touches(&self, value: u64) -> bool {
        self.list().iter().any(|n| {
            let named = n.value as u64;
            value & n.mask == named && (named != 0 || n.mask != 0)
        })
    }

    /// The names of the bits: `O_RDONLY|O_CLOEXEC|0x800000`; `None` if no name applies, and the number is best written
    /// alone.
    pub(crate) fn flags(&self, value: u64) -> Option<String> {
        if value == 0 {
            return self.exact(0, u64::MAX).map(str::to_owned);
        }
        if !self.touches(value) {
            return None;
        }
        let mut text = String::new();
        let mut left = value;
        let mut seen = 0u64; // bits under masks that a name has spoken for
        for name in self.list() {
            let named = name.value as u64;
            let zero_form = named == 0 && name.mask != 0;
            if (named == 0 && !zero_form) || value & name.mask != named {
                continue;
            }
            if (zero_form && seen & name.mask != 0) || (!zero_form && left & named != named) {
                continue;
            }
            if !text.is_empty() {
                text.push('|');
            }
            text.push_str(name.text);
            left &= !name.mask;
            seen |= name.mask;
        }
        if left != 0 {
            text.push_str(&format!("|{left:#x}"));
        }
        Some(text)
    }
}

/// A number as strace writes it with the names of the set `list` (`open`, `mmap`, …; see `flags.tbl`):
/// `O_RDONLY|O_CLOEXEC`, bits without a name in hexadecimal, `0` if no bit is set.
pub fn flags_text(list: &str, value: u64) -> String {
    match set(list).and_then(|set| set.flags(value)) {
        Some(text) => text,
        None if value == 0 => "0".to_owned(),
        None => format!("{value:#x}"),
    }
}
