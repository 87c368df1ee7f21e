//! The pages of the recorded states (jumps) that a process was put into.

use crate::image::Chunk;
use crate::recording::Jump;
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

const PAGE: u64 = 0x1000;

/// The pages of the jumps in a space, each with its contents in the last jump that had it.
#[derive(Clone, Debug, Default)]
pub struct JumpPages(BTreeMap<u64, Arc<[u8]>>);

impl JumpPages {
    /// Adds the pages of a jump; returns the pages that the jump has unchanged from an earlier one.
    pub fn follow(&mut self, jump: &Jump) -> Vec<Chunk> {
        for chunk in &jump.pages {
            for (addr, page) in (chunk.addr..)
                .step_by(PAGE as usize)
                .zip(chunk.data.chunks(PAGE as usize))
            {
                self.0.insert(addr, page.into());
            }
        }
        let mut ranges: Vec<Range<u64>> = jump
            .same
            .iter()
            .map(|&(first, count)| {
                first..first.saturating_add(u64::from(count).saturating_mul(PAGE))
            })
            .collect();
        ranges.sort_unstable_by_key(|range| range.start);
        let mut again = Vec::new();
        let mut done = 0;
        // A page is returned once, even if the recording lists it twice.
        for range in ranges {
            let from = range.start.max(done);
            done = done.max(range.end);
            for (&addr, page) in self.0.range(from..done.max(from)) {
                again.push(Chunk {
                    addr,
                    data: page.to_vec(),
                });
            }
        }
        again
    }
}
