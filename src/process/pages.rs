//! The pages that recorded jumps have brought into a process.

use crate::image::Chunk;
use crate::recording::Jump;
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

const PAGE: u64 = 0x1000;

/// The pages that the jumps in a space have brought, each as it was in the last that did.
#[derive(Clone, Debug, Default)]
pub struct JumpPages(BTreeMap<u64, Arc<[u8]>>);

impl JumpPages {
    /// Follows a jump; returns the pages that it says are as they were.
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
        // No page twice, whatever it says.
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
