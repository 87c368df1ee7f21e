//! What pasting puts in front of lines: blanks, the marks of quoted mail (`> `, `>> `), the zeros of a file that was cut
//! off while it was written.

use super::tokens::blanks;

/// What follows the quotation marks; blanks in front of them, but none behind them, go with them.
pub(super) fn unquoted(i: &[u8]) -> &[u8] {
    let mut rest = match i.first() {
        // Nearly all lines begin so, with a pid or a name.
        Some(b'0'..=b'9' | b'a'..=b'z' | b'[') => return i,
        _ => without_zeros(i),
    };
    while let Some(after) = blanks(rest).strip_prefix(b">") {
        rest = after.strip_prefix(b" ").unwrap_or(after);
    }
    rest
}

/// The same, where the first mark is the first byte, and no more than one blank between marks: behind two, one marks a
/// frame of a stack.
pub(super) fn plainly_unquoted(i: &[u8]) -> &[u8] {
    let mut rest = without_zeros(i);
    while let Some(after) = rest.strip_prefix(b">") {
        rest = after.strip_prefix(b" ").unwrap_or(after);
    }
    rest
}

/// Where a disk was not told to write in time, files have zeros.
fn without_zeros(i: &[u8]) -> &[u8] {
    match i.first() {
        Some(0) => {
            let zeros = i.iter().take_while(|&&b| b == 0).count();
            i.get(zeros..).unwrap_or_default()
        }
        _ => i,
    }
}
