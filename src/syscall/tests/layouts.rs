//! The invariant of every structure: a value that was decoded, encoded and decoded again is the same.

use super::*;
use crate::syscall::decode::inline;
use crate::syscall::encode::contents;
use crate::syscall::frame::{Frame, Side};
use crate::syscall::layout::layouts;

/// Pseudo-random bytes, most of them small, so that conditions hold now and then.
fn bytes(len: usize, seed: &mut u64) -> Vec<u8> {
    let mut next = || {
        *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (*seed >> 33) as u8
    };
    let mut byte = || match next() % 8 {
        0 => next(),
        1 | 2 => next() % 32,
        _ => 0,
    };
    (0..len).map(|_| byte()).collect()
}

/// Structures of which strace does not show all members that decide about other members; only the kernel reads these.
const PARTIAL: [&str; 1] = ["iocb_head"];

/// Returns whether the value is in one piece.
fn is_flat(kind: &Kind) -> bool {
    match kind {
        Kind::Struct(layout) => layout.members.iter().all(|m| is_flat(&m.kind)),
        Kind::Array(of, _) => is_flat(of) && kind.fixed_size().is_some(),
        Kind::Ptr(..) => false,
        _ => kind.fixed_size().is_some(),
    }
}

#[test]
fn structures_survive_decoding_and_encoding() {
    let nothing = Pieces::default();
    let frame = Frame::bare(&nothing);
    let mut seed = 1;
    let mut seen = 0;
    for (name, &layout) in layouts() {
        let kind = Kind::Struct(layout);
        if !is_flat(&kind) || PARTIAL.contains(name) {
            continue;
        }
        seen += 1;
        for _ in 0..200 {
            let given = bytes(layout.size, &mut seed);
            let shown = inline(&kind, &given, &frame, Side::Entry);
            let encoded = contents(&kind, &shown, layout.size, None, &frame)
                .unwrap_or_else(|e| panic!("{name}: {e:?}: {shown}"));
            let again = inline(&kind, &encoded, &frame, Side::Entry);
            assert_eq!(again.to_string(), shown.to_string(), "{name}: {given:?}");
        }
    }
    assert!(seen > 60, "{seen}");
}
