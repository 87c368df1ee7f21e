//! Text that pasting puts in front of lines: blanks, the marks of quoted mail (`> `, `>> `), the zeros of a file that
//! was truncated while it was written.

use super::tokens::blanks;

/// Skips quotation marks with the blanks in front of them, but none behind them.
pub(in crate::strace) fn unquoted(i: &[u8]) -> &[u8] {
    let mut rest = match i.first() {
        // Nearly all lines begin with a pid or a name.
        Some(b'0'..=b'9' | b'a'..=b'z' | b'[') => return i,
        _ => without_zeros(i),
    };
    while let Some(after) = blanks(rest).strip_prefix(b">") {
        rest = after.strip_prefix(b" ").unwrap_or(after);
    }
    rest
}

/// Skips quotation marks whose first is the first byte, with at most one blank between marks: behind two blanks, a mark
/// is that of a frame of a stack.
pub(in crate::strace) fn plainly_unquoted(i: &[u8]) -> &[u8] {
    let mut rest = without_zeros(i);
    while let Some(after) = rest.strip_prefix(b">") {
        rest = after.strip_prefix(b" ").unwrap_or(after);
    }
    rest
}

/// Skips the zeros that a file has where its data was not written to disk in time.
fn without_zeros(i: &[u8]) -> &[u8] {
    match i.first() {
        Some(0) => {
            let zeros = i.iter().take_while(|&&b| b == 0).count();
            i.get(zeros..).unwrap_or_default()
        }
        _ => i,
    }
}
