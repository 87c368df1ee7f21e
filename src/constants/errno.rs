//! Errnos: `errno.tbl`, with the text of strerror(3) for each.

use super::{nearest, rows};
use std::sync::LazyLock;

struct Errno {
    name: &'static str,
    number: i32,
    text: &'static str,
}

static ERRNOS: LazyLock<Vec<Errno>> = LazyLock::new(|| {
    rows(include_str!("errno.tbl"))
        .filter_map(|row| {
            let (name, rest) = row.split_once(' ')?;
            let (number, text) = rest.split_once(' ')?;
            let number = number.parse().ok()?;
            Some(Errno { name, number, text })
        })
        .collect()
});

/// The errno of this name: `EIO` is 5.
pub fn errno(name: &str) -> Option<i32> {
    let found = ERRNOS.iter().find(|e| e.name == name);
    found.map(|e| e.number)
}

/// The name of an errno: 5 is `EIO`. Of several names, this is the first in `errno.h`.
pub fn errno_name(n: i32) -> Option<&'static str> {
    ERRNOS.iter().find(|e| e.number == n).map(|e| e.name)
}

/// The text of strerror(3) for an errno: 5 is `Input/output error`.
pub fn errno_text(n: i32) -> &'static str {
    let found = ERRNOS.iter().find(|e| e.number == n);
    found.map_or("Unknown error", |e| e.text)
}

/// All errnos that a program can see, by number, without the aliases.
pub fn errnos() -> impl Iterator<Item = (&'static str, i32)> {
    let visible = ERRNOS.iter().filter(|e| e.number < 512);
    let first = visible.filter(|e| errno_name(e.number) == Some(e.name));
    first.map(|e| (e.name, e.number))
}

/// Names of errnos that are close to this one, best first, at most three.
pub fn suggest_errno(name: &str) -> Vec<&'static str> {
    nearest(&name.to_ascii_uppercase(), errnos().map(|(name, _)| name))
}

/// All names and numbers, with the aliases.
pub(super) fn all() -> impl Iterator<Item = (&'static str, i64)> {
    ERRNOS.iter().map(|e| (e.name, i64::from(e.number)))
}
