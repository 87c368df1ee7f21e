//! The numbers of symbolic expressions: constants (through [`consts`]), alternatives, products and shifts, wait
//! statuses, dates.
//!
//! A trace has few different expressions, so their numbers are cached. This module knows no syntax beyond that of a
//! single expression.

use crate::constants;
use crate::syscall;
use std::collections::HashMap;
use std::hash::{BuildHasher, Hasher, RandomState};

/// The limit on cached expressions.
const REMEMBERED: usize = 4096;
/// The longest expression that is cached.
const LONGEST: usize = 128;

/// The cache of expressions.
#[derive(Debug, Default)]
pub(in crate::strace) struct Symbols {
    known: HashMap<Box<str>, Option<i64>, Seeded>,
}

/// Builds hashers of short texts. They are fast rather than strong: each reader has a random seed, and there are no
/// more than [`REMEMBERED`] texts, so a hostile file gains little by collisions.
#[derive(Debug)]
struct Seeded(u64);

impl Default for Seeded {
    fn default() -> Seeded {
        Seeded(RandomState::new().hash_one(0))
    }
}

impl BuildHasher for Seeded {
    type Hasher = Folded;

    fn build_hasher(&self) -> Folded {
        Folded(self.0)
    }
}

struct Folded(u64);

impl Hasher for Folded {
    fn write(&mut self, bytes: &[u8]) {
        for part in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..part.len()].copy_from_slice(part);
            self.write_u64(u64::from_le_bytes(word));
        }
    }

    fn write_u8(&mut self, byte: u8) {
        self.write_u64(u64::from(byte));
    }

    fn write_u64(&mut self, word: u64) {
        // The golden ratio's digits: odd, and as many ones as zeros.
        let product = u128::from(self.0 ^ word) * 0x9e37_79b9_7f4a_7c15;
        self.0 = (product as u64) ^ ((product >> 64) as u64);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

impl Symbols {
    /// The number of an expression, if it is known.
    pub(in crate::strace) fn eval(&mut self, text: &str) -> Option<i64> {
        if let Some(&value) = self.known.get(text) {
            return value;
        }
        let value = eval(text);
        if text.len() <= LONGEST && self.known.len() < REMEMBERED {
            self.known.insert(text.into(), value);
        }
        value
    }
}

/// The limit on the parentheses of an expression, and on the operators of one of its alternatives.
const MOST_OPERATORS: usize = 32;

/// Whether evaluating a text would recurse too deeply: no expression of strace's does.
fn is_endless(text: &str) -> bool {
    let (mut parentheses, mut operators) = (0, 0);
    for byte in text.bytes() {
        match byte {
            b'(' => parentheses += 1,
            b'~' | b'*' | b'+' | b'<' => operators += 1,
            b'|' => operators = 0,
            _ => {}
        }
        if parentheses > MOST_OPERATORS || operators > MOST_OPERATORS {
            return true;
        }
    }
    false
}

fn eval(text: &str) -> Option<i64> {
    if is_endless(text) {
        return None;
    }
    if text.starts_with('{') || text.starts_with("WIF") {
        return wait_status(text);
    }
    let found = syscall::eval(text).or_else(|| expression(text));
    found.or_else(|| date(text))
}

/// Evaluates the expressions that [`constants::eval`] does not know: `-EPERM`, `~0x1f`, `INT_MAX+1`, `0x10<<28|0x5`,
/// `2 * 8`.
fn expression(text: &str) -> Option<i64> {
    if let Some(name) = text.strip_prefix("-E") {
        return constants::errno(&format!("E{name}")).map(|errno| -i64::from(errno));
    }
    if let Some(inverse) = text.strip_prefix('~') {
        let inverse = inverse.strip_prefix('(').unwrap_or(inverse);
        return expression(inverse.strip_suffix(')').unwrap_or(inverse)).map(|value| !value);
    }
    text.split('|')
        .try_fold(0, |sum, part| Some(sum | shift(part)?))
}

fn shift(text: &str) -> Option<i64> {
    let Some((left, right)) = text.split_once("<<") else {
        return sum(text);
    };
    let places = u32::try_from(sum(right)?).ok()?;
    sum(left)?.checked_shl(places)
}

fn sum(text: &str) -> Option<i64> {
    text.split('+').try_fold(0i64, |sum, part| {
        let product = |product: i64, factor| product.checked_mul(term(factor)?);
        sum.checked_add(part.split('*').try_fold(1, product)?)
    })
}

fn term(text: &str) -> Option<i64> {
    let text = text.trim();
    let number = match text.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16).ok().map(|n| n as i64),
        None => text.parse().ok(),
    };
    number.or_else(|| syscall::constant(text))
}

/// The number of a signal by its full name, with strace's names for the real-time ones
/// (`SIGRTMIN` is 32 there, `SIGRT_1` is 33).
pub(in crate::strace) fn signal(name: &str) -> Option<i32> {
    constants::signal(name).or_else(|| match name.strip_prefix("SIGRT")? {
        "MIN" => Some(32),
        "MAX" => Some(64),
        rest => rest
            .strip_prefix('_')?
            .parse()
            .ok()
            .filter(|n| (0..=32).contains(n))
            .map(|n: i32| n + 32),
    })
}

/// Converts `{WIFEXITED(s) && WEXITSTATUS(s) == 0}` and the like to wait(2)'s status word; also a tracee's stop with
/// its event: `{WIFSTOPPED(s) && WSTOPSIG(s) == SIGTRAP}|PTRACE_EVENT_EXEC<<16`.
fn wait_status(text: &str) -> Option<i64> {
    let (text, event) = match text.strip_prefix('{') {
        Some(inside) => inside.rsplit_once('}')?,
        None => (text, ""),
    };
    let mut status = match event.trim_start().strip_prefix('|') {
        Some(event) => constants::eval(event)?,
        None if event.is_empty() => 0,
        None => return None,
    };
    for part in text.split(" && ") {
        status |= match part.split_once(" == ") {
            Some(("WEXITSTATUS(s)", code)) => code.parse::<i64>().ok()? << 8,
            Some(("WTERMSIG(s)", name)) => i64::from(signal(name)?),
            Some(("WSTOPSIG(s)", name)) => wait_signal(name)? << 8 | 0x7f,
            None => match part {
                "WIFEXITED(s)" | "WIFSIGNALED(s)" | "WIFSTOPPED(s)" => 0,
                "WCOREDUMP(s)" => 0x80,
                "WIFCONTINUED(s)" => 0xffff,
                _ => return None,
            },
            Some(_) => return None,
        };
    }
    Some(status)
}

/// A stop signal; with PTRACE_O_TRACESYSGOOD it can be `SIGTRAP | 0x80`.
fn wait_signal(text: &str) -> Option<i64> {
    match text.split_once(" | ") {
        Some((name, _)) => Some(i64::from(signal(name)?) | 0x80),
        None => signal(text).map(i64::from),
    }
}

/// `2018/04/29-13:30:53.769404451`, as strace before 4.20 writes file times, in seconds since 1970.
/// Such dates are in the recording machine's zone, which is not written down: they are read as UTC.
fn date(text: &str) -> Option<i64> {
    let (day, time) = text.split_once('-')?;
    let mut day = day.splitn(3, '/').map(|part| part.parse::<i64>().ok());
    let (y, m, d) = (day.next()??, day.next()??, day.next()??);
    let time = time.split_once('.').map_or(time, |(whole, _)| whole);
    let mut time = time.splitn(3, ':').map(|part| part.parse::<i64>().ok());
    let (hour, minute, second) = (time.next()??, time.next()??, time.next()??);
    let fits = (1..=9999).contains(&y)
        && (1..=12).contains(&m)
        && (1..=31).contains(&d)
        && (0..24).contains(&hour)
        && (0..60).contains(&minute)
        && (0..=60).contains(&second);
    if !fits {
        return None;
    }
    // Days since 1970, counting years from March so that the leap day is the last one.
    let (year, month) = if m > 2 { (y, m - 3) } else { (y - 1, m + 9) };
    let days = 365 * year + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + d - 1;
    Some((days - 719_468) * 86_400 + hour * 3600 + minute * 60 + second)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_dates_are_seconds() {
        assert_eq!(date("1970/01/01-00:00:00"), Some(0));
        assert_eq!(date("2018/04/29-13:30:53.769404451"), Some(1_525_008_653));
        assert_eq!(date("2018/13/29-13:30:53"), None);
    }

    #[test]
    fn expressions_have_values() {
        assert_eq!(eval("-EPERM"), Some(-1));
        assert_eq!(eval("~0x1f"), Some(!0x1f));
        assert_eq!(eval("~(1<<4|1)"), Some(!0x11));
        assert_eq!(eval("0x10<<4|2 * 8|1+1"), Some(0x112));
        assert_eq!(eval("1<<99"), None);
        assert_eq!(eval("A_NAME_THAT_IS_NONE|1"), None);
        assert_eq!(eval("1.2.3"), None);
    }

    #[test]
    fn expressions_that_only_go_on_have_no_values() {
        for part in ["~", "~(", "(", "1*", "1+", "1<<", "(1|", "-("] {
            assert_eq!(eval(&part.repeat(1 << 20)), None, "{part}");
        }
        let capabilities = vec!["1<<3"; 41].join("|");
        assert_eq!(eval(&capabilities), Some(8));
    }

    #[test]
    fn wait_statuses_are_numbers() {
        assert_eq!(
            wait_status("{WIFEXITED(s) && WEXITSTATUS(s) == 3}"),
            Some(0x300)
        );
        assert_eq!(
            wait_status("{WIFSIGNALED(s) && WTERMSIG(s) == SIGSEGV && WCOREDUMP(s)}"),
            Some(0x8b)
        );
        assert_eq!(
            wait_status("{WIFSTOPPED(s) && WSTOPSIG(s) == SIGSTOP}"),
            Some(0x137f)
        );
        assert_eq!(
            wait_status("{WIFSTOPPED(s) && WSTOPSIG(s) == SIGTRAP}|PTRACE_EVENT_EXEC<<16"),
            Some(0x4057f)
        );
        assert_eq!(wait_status("{WIFCONTINUED(s)}"), Some(0xffff));
        assert_eq!(
            wait_status("WIFEXITED(s) && WEXITSTATUS(s) == 3"),
            Some(0x300)
        );
        assert_eq!(wait_status("{WHAT(s)}"), None);
    }
}
