//! Recorded pieces of memory, read as if they were a process's.

use crate::image::Chunk;
use crate::syscall::Memory;

/// The memory of these chunks; nothing is mapped around them. Where two overlap, the earlier counts.
#[derive(Clone, Copy, Debug)]
pub struct ChunkMemory<'a>(pub &'a [Chunk]);

impl Memory for ChunkMemory<'_> {
    fn read(&self, addr: u64, buf: &mut [u8]) -> usize {
        let mut done = 0;
        while done < buf.len() {
            let at = addr.wrapping_add(done as u64);
            let found = self.0.iter().find_map(|chunk| {
                let offset = usize::try_from(at.checked_sub(chunk.addr)?).ok()?;
                chunk.data.get(offset..).filter(|rest| !rest.is_empty())
            });
            let Some(rest) = found else { break };
            let n = rest.len().min(buf.len() - done);
            buf[done..done + n].copy_from_slice(&rest[..n]);
            done += n;
        }
        done
    }
}

/// Memory in which nothing is mapped.
#[derive(Clone, Copy, Debug)]
pub struct NoMemory;

impl Memory for NoMemory {
    fn read(&self, _addr: u64, _buf: &mut [u8]) -> usize {
        0
    }
}
