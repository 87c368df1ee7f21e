//! Constants by name, and expressions of constants as strace writes them.

use super::{Abi, errno, macros, nearest, sets, signal};
use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::LazyLock;

type Values = HashMap<&'static str, i64>;

static COMMON: LazyLock<Values> = LazyLock::new(|| {
    let mut values = of_sets(sets::common());
    values.extend(signal::all());
    values.extend(errno::all());
    values.insert("NULL", 0);
    values
});

/// The requests of ioctl. The tables of calls name many of them.
static REQUESTS: LazyLock<Values> = LazyLock::new(|| of_sets(sets::set("ioctl").into_iter()));

/// The rare names, which are read when a name is in neither of the other maps.
static RARE: LazyLock<Values> = LazyLock::new(|| of_sets(sets::rare()));

fn of_sets(sets: impl Iterator<Item = &'static sets::Set>) -> Values {
    let sets: Vec<_> = sets.collect();
    let mut values = HashMap::with_capacity(sets.iter().map(|set| set.list().len()).sum());
    let names = sets.iter().flat_map(|set| set.list());
    values.extend(names.map(|name| (name.text, name.value)));
    values
}

/// The value of a constant by its full name: `O_CLOEXEC`, `EIO`, `SIGINT`, `AT_FDCWD`. Numbers of system calls
/// (`__NR_read`) are known to [`crate::syscall::constant`].
pub fn value(name: &str) -> Option<i64> {
    let known = COMMON.get(name).or_else(|| REQUESTS.get(name));
    let known = known.or_else(|| RARE.get(name));
    known.copied().or_else(|| {
        let real_time = name.starts_with("SIGRT").then(|| signal::signal(name));
        let real_time = real_time.flatten().map(i64::from);
        real_time.or_else(|| sets::own_value(Abi::I386, name))
    })
}

/// The value of an expression as strace writes it: `O_RDONLY|O_CLOEXEC`, `S_IFREG|0644`, `makedev(0x8, 0x1)`,
/// `htons(80)`, `inet_addr("127.0.0.1")`, `8192*1024`, `1<<CAP_KILL`, `-1`. Comments (`/* … */`) are ignored. `None` if
/// a name in it is unknown.
pub fn eval(expr: &str) -> Option<i64> {
    if expr.len() > 4096 {
        return None;
    }
    if expr.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
        return match expr.as_bytes().first() {
            Some(b'0'..=b'9') => sets::number(expr),
            _ => value(expr),
        };
    }
    let uncommented = uncommented(expr);
    let expr = uncommented.trim();
    // strace writes all names of a number that has several: `BTRFS_IOC_CLONE or FICLONE`.
    if expr.contains(" or ") {
        // A name has a size, a macro may have none (`MIXER_READ(1)`). Older versions of strace listed all requests with
        // the same type and number, whatever their size; then the terminal's request (0x54, without a size) is meant:
        // `SNDCTL_TMR_TIMEBASE or TCGETS`.
        let values: Vec<(bool, i64)> = expr
            .split(" or ")
            .filter_map(|name| Some((name.contains('('), eval(name.trim())?)))
            .collect();
        let terminal = values.iter().find(|(_, value)| value >> 8 == 0x54);
        let named = values.iter().find(|(from_macro, _)| !from_macro);
        let best = terminal.or(named).or(values.first());
        return best.map(|&(_, value)| value);
    }
    let mut or = 0i64;
    for term in split_outside(expr, '|') {
        or |= term_value(term.trim())?;
    }
    Some(or)
}

/// The value of an expression on an ABI: some requests of ioctl have other numbers on i386.
pub(crate) fn eval_in(abi: Abi, expr: &str) -> Option<i64> {
    sets::own_value(abi, expr).or_else(|| eval(expr))
}

/// Splits a text outside of parentheses.
fn split_outside(text: &str, at: char) -> impl Iterator<Item = &str> {
    let mut depth = 0i32;
    text.split(move |c| {
        depth += match c {
            '(' => 1,
            ')' => -1,
            _ => 0,
        };
        c == at && depth == 0
    })
}

fn term_value(term: &str) -> Option<i64> {
    if let Some(quoted) = term.strip_prefix('\'').and_then(|t| t.strip_suffix('\'')) {
        let mut chars = quoted.chars();
        let (first, rest) = (chars.next()?, chars.next());
        return rest.is_none().then(|| i64::from(u32::from(first)));
    }
    if let Some((left, right)) = term.split_once("<<") {
        let shift = u32::try_from(term_value(right.trim())?).ok()?;
        return term_value(left.trim())?.checked_shl(shift);
    }
    if let Some(rest) = term.strip_prefix('~') {
        return Some(!term_value(rest.trim())?);
    }
    if let Some((name, rest)) = term.split_once('(') {
        let inner = rest.strip_suffix(')')?;
        if name.is_empty() {
            return eval(inner);
        }
        return macros::value(name.trim(), inner.trim());
    }
    if let Some((left, right)) = term.split_once('*') {
        if let Some(&offset) = COMMON.get(term) {
            return Some(offset); // of a register: `8*RAX`
        }
        return Some(term_value(left.trim())?.wrapping_mul(term_value(right.trim())?));
    }
    if let Some(name) = term.strip_prefix('-')
        && name.starts_with('E')
    {
        return value(name).map(i64::wrapping_neg); // `-ENOENT`
    }
    if term.starts_with(|c: char| c.is_ascii_digit() || c == '-') {
        return sets::number(term);
    }
    // `SKF_AD_OFF+SKF_AD_PROTOCOL`, `IPV4_DEVCONF_TAG-1`
    if let Some((left, right)) = term.split_once('+') {
        return Some(term_value(left.trim())?.wrapping_add(term_value(right.trim())?));
    }
    if let Some((left, right)) = term.split_once('-') {
        return Some(term_value(left.trim())?.wrapping_sub(term_value(right.trim())?));
    }
    value(term)
}

/// The text without its comments (`/* … */`).
fn uncommented(text: &str) -> Cow<'_, str> {
    if !text.contains("/*") {
        return Cow::Borrowed(text);
    }
    let mut left = String::new();
    let mut rest = text;
    while let Some((before, comment)) = rest.split_once("/*") {
        left.push_str(before);
        rest = comment.split_once("*/").map_or("", |(_, after)| after);
    }
    left.push_str(rest);
    Cow::Owned(left)
}

/// A device number from its parts, as the kernel's `new_encode_dev` and glibc's `makedev` make it.
pub(crate) fn makedev(major: u64, minor: u64) -> u64 {
    (minor & 0xff) | ((major & 0xfff) << 8) | ((minor & !0xff) << 12) | ((major & !0xfff) << 32)
}

/// Names of constants that are close to this one, best first, at most three.
pub fn suggest(name: &str) -> Vec<&'static str> {
    let near = nearest(name, COMMON.keys().copied());
    if !near.is_empty() || name.len() > 256 {
        return near;
    }
    // Among so many rare names, some are always a little similar.
    let close = |c: &&&str| strsim::damerau_levenshtein(name, c) <= 2;
    nearest(name, RARE.keys().filter(close).copied())
}
