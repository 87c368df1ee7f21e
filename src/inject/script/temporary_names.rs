//! Temporary names, which programs create, and the random pieces in them.

use crate::trace::{Call, Trace, Value};
use std::collections::HashMap;
use std::ops::Range;

/// The maximum length of a name in file systems.
pub(in crate::inject) const LONGEST: usize = 255;

/// The maximum number of names that are kept.
pub(in crate::inject) const MOST_NAMES: usize = 1 << 16;

/// The minimum length of a random piece, the minimum span of the characters that differ, and for a number the minimum of
/// digits, which a time in seconds has.
const LEAST: usize = 6;
const LEAST_SPAN: usize = 4;
const LEAST_DIGITS: usize = 8;

/// The last parts of the paths that a trace creates, and whether only the user may use the file: such names
/// are usually temporary.
pub(in crate::inject) fn names_made(trace: &Trace) -> HashMap<Vec<u8>, bool> {
    let mut made: HashMap<Vec<u8>, bool> = HashMap::new();
    for (path, private) in trace.calls().filter_map(made_by) {
        let Some(name) = last_part(path).filter(|name| name.len() <= LONGEST) else {
            continue;
        };
        if let Some(known) = made.get_mut(name) {
            *known |= private;
        } else if made.len() < MOST_NAMES {
            made.insert(name.to_vec(), private);
        }
    }
    made
}

fn last_part(path: &[u8]) -> Option<&[u8]> {
    let mut parts = path.rsplit(|&byte| byte == b'/');
    parts.find(|part| !part.is_empty())
}

/// The path or name that a call newly creates, and whether it is private.
fn made_by(call: &Call) -> Option<(&[u8], bool)> {
    let arg = |at: usize| call.args.get(at).and_then(Value::as_bytes);
    let private = |mode: Option<&Value>| {
        let mode = mode.and_then(Value::as_i64);
        mode.is_some_and(|mode| mode & 0o077 == 0)
    };
    let open = |flags: usize| match call.args.get(flags).map(Value::meaning) {
        Some(how @ Value::Struct { .. }) => (how.field("flags"), how.field("mode")),
        flags_arg => (flags_arg, call.args.get(flags + 1)),
    };
    let exclusive = |flags: Option<&Value>| match flags.map(Value::meaning) {
        Some(Value::Sym { text, .. }) => text.contains("O_EXCL"),
        _ => false,
    };
    let opened = |path: usize, flags: usize| {
        let (flags, mode) = open(flags);
        Some((arg(path)?, private(mode))).filter(|_| exclusive(flags))
    };
    match call.name.as_str() {
        "open" => opened(0, 1),
        "openat" | "openat2" => opened(1, 2),
        "mkdir" | "mknod" => Some((arg(0)?, private(call.args.get(1)))),
        "mkdirat" | "mknodat" => Some((arg(1)?, private(call.args.get(2)))),
        "memfd_create" => Some((arg(0)?, false)),
        "symlink" | "link" => Some((arg(1)?, false)),
        "symlinkat" => Some((arg(2)?, false)),
        "linkat" => Some((arg(3)?, false)),
        "bind" => {
            let path = call.args.get(1)?.field("sun_path")?;
            Some((path.as_bytes()?, false))
        }
        _ => None,
    }
}

/// Whether a random piece may have this character.
pub(in crate::inject) fn is_random(byte: u8, private: bool) -> bool {
    byte.is_ascii_alphanumeric() || private && byte == b'_'
}

/// The range in which two parts of names differ, where that looks random. For private files, more looks random. A number is whole;
/// another random piece may begin before the range, where both happen to be the same.
pub(in crate::inject) fn random_piece(a: &[u8], b: &[u8], private: bool) -> Option<Range<usize>> {
    if a.len() != b.len() {
        return None;
    }
    let first = (0..a.len()).find(|&at| a[at] != b[at])?;
    let last = (first..a.len()).rfind(|&at| a[at] != b[at])?;
    let around = |is: &dyn Fn(&u8) -> bool| {
        let before = a[..first].iter().rev().take_while(|byte| is(byte)).count();
        let behind = a[last + 1..].iter().take_while(|byte| is(byte)).count();
        first - before..last + 1 + behind
    };
    let (here, there) = (&a[first..=last], &b[first..=last]);
    let both = |is: &dyn Fn(&u8) -> bool| here.iter().chain(there).all(is);
    if both(&u8::is_ascii_digit) {
        let digits = around(&u8::is_ascii_digit);
        return (digits.len() >= LEAST_DIGITS).then_some(digits);
    }
    let is_random = |byte: &u8| is_random(*byte, private);
    let run = around(&is_random);
    let is_enough = run.len() >= LEAST && here.len() >= LEAST_SPAN;
    let looks = private && here.len() >= LEAST || looks_random(here) || looks_random(there);
    (both(&is_random) && is_enough && looks).then_some(first..run.end)
}

/// Whether a piece looks like no word: digits among letters, or letters of both cases.
fn looks_random(piece: &[u8]) -> bool {
    let any = |is: fn(&u8) -> bool| piece.iter().any(is);
    let letters = any(u8::is_ascii_alphabetic);
    let capitals = piece.iter().skip(1).any(u8::is_ascii_uppercase);
    letters && any(u8::is_ascii_digit) || capitals && any(u8::is_ascii_lowercase)
}

#[cfg(test)]
mod tests {
    use super::random_piece;
    use std::ops::Range;

    fn differ(a: &str, b: &str, private: bool) -> Option<Range<usize>> {
        random_piece(a.as_bytes(), b.as_bytes(), private)
    }

    #[test]
    fn names_differ_at_random() {
        let alike = [
            ("tmp.AbCdEf1234", "tmp.9wZDbpLqi4"),
            ("sortRV6QiL", "sortH7R0l0"),
            ("tmp_obj_kSzQbe", "tmp_obj_QaWzbx"),
        ];
        for (a, b) in alike {
            assert!(differ(a, b, false).is_some(), "{a} {b}");
        }
        for (a, b) in [
            ("tmp4op2d_w5", "tmpho2cl88e"),
            ("tmpabcdefgh", "tmphgfe_cba"),
        ] {
            assert!(differ(a, b, true).is_some(), "{a} {b}");
        }
        let number = differ("x-1700000001.log", "x-1700000002.log", false);
        assert_eq!(number, Some(2..12));
        let random = differ("sortRVx", "sortRaB1", false);
        assert_eq!(random, None, "of one length");
        let random = differ("aXc3e5g-journal", "aXb4f6h-journal", false);
        assert_eq!(random, Some(2..7));
    }

    #[test]
    fn names_differ_on_purpose() {
        let other = [
            ("file1", "file2"),
            ("config.old", "config.new"),
            ("lock.0001", "lock.0002"),
            ("segment-0001", "segment-0002"),
            ("tmp.AbCdEf", "tmp.AbCdEfg"),
            ("segment_a", "segment_b"),
            ("release-blue", "release-pink"),
            ("v1-blue", "v2-pink"),
            ("BuildLeft", "BuildMain"),
            ("january", "october"),
        ];
        for (a, b) in other {
            assert_eq!(differ(a, b, false), None, "{a} {b}");
        }
        for (a, b) in [("config_blue", "config_pink"), ("state.old", "state.new")] {
            assert_eq!(differ(a, b, true), None, "{a} {b}");
        }
    }
}
