//! Sets of named constants (`flags.tbl`), and how strace writes a number with their help.

use std::collections::HashMap;
use std::sync::LazyLock;

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
    /// As the tables call it.
    pub name: &'static str,
    pub(crate) names: Vec<Name>,
}

static SETS: LazyLock<HashMap<&'static str, Set>> =
    LazyLock::new(|| parse(include_str!("flags.tbl")));

/// The set of this name.
pub(crate) fn set(name: &str) -> Option<&'static Set> {
    SETS.get(name)
}

/// All sets.
pub(crate) fn all() -> impl Iterator<Item = &'static Set> {
    SETS.values()
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

fn parse(text: &'static str) -> HashMap<&'static str, Set> {
    let mut sets = HashMap::new();
    let mut current: Option<Set> = None;
    for line in text.lines() {
        let mut words = line.split_whitespace();
        let Some(first) = words.next().filter(|w| !w.starts_with('#')) else {
            continue;
        };
        if first == "set" {
            if let Some(done) = current.take() {
                sets.insert(done.name, done);
            }
            current = words.next().map(|name| Set {
                name,
                names: Vec::new(),
            });
        } else if let (Some(set), Some(value)) = (current.as_mut(), words.next().and_then(number)) {
            let mask = words.next().and_then(number).map(|m| m as u64);
            set.names.push(Name {
                text: first,
                value,
                mask: mask.unwrap_or(value as u64),
            });
        }
    }
    if let Some(done) = current {
        sets.insert(done.name, done);
    }
    sets
}

impl Set {
    /// The name of exactly this value, `bits` wide.
    pub(crate) fn exact(&self, value: u64, bits: u64) -> Option<&'static str> {
        let found = self
            .names
            .iter()
            .find(|n| n.value as u64 & bits == value & bits);
        found.map(|n| n.text)
    }

    /// Whether any bit of `value` has a name here.
    fn touches(&self, value: u64) -> bool {
        self.names.iter().any(|n| {
            let named = n.value as u64;
            value & n.mask == named && (named != 0 || n.mask != 0)
        })
    }

    /// `O_RDONLY|O_CLOEXEC|0x800000`; `None` where no name applies and it is best written as a number.
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
        for name in &self.names {
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
