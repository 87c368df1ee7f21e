//! Recorded pieces of memory, to be read like the memory of a process.

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

/// Memory as a call left it: the bytes that the kernel wrote, and around them those that it read.
#[derive(Clone, Copy, Debug)]
pub struct LeftMemory<'a> {
    /// The memory that the kernel read at entry.
    pub ins: &'a [Chunk],
    /// The memory that it wrote.
    pub outs: &'a [Chunk],
}

impl Memory for LeftMemory<'_> {
    fn read(&self, addr: u64, buf: &mut [u8]) -> usize {
        let mut done = 0;
        while let Some(rest) = buf.get_mut(done..).filter(|rest| !rest.is_empty()) {
            let at = addr.wrapping_add(done as u64);
            let mut n = ChunkMemory(self.outs).read(at, rest);
            if n == 0 {
                // Up to the next written byte.
                let later = self.outs.iter().map(|chunk| chunk.addr.wrapping_sub(at));
                let most = later.min().and_then(|n| usize::try_from(n).ok());
                let most = most.unwrap_or(usize::MAX).min(rest.len());
                let given = rest.get_mut(..most).unwrap_or(&mut []);
                n = ChunkMemory(self.ins).read(at, given);
            }
            if n == 0 {
                break;
            }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_written_is_as_it_was() {
        let chunk = |addr, data: &[u8]| Chunk {
            addr,
            data: data.to_vec(),
        };
        let memory = LeftMemory {
            ins: &[chunk(0x10, b"abcdefgh"), chunk(0x30, b"x")],
            outs: &[chunk(0x12, b"CD"), chunk(0x18, b"IJ"), chunk(0x8, b"!")],
        };
        let read = |addr, len| {
            let mut bytes = vec![0; len];
            let n = memory.read(addr, &mut bytes);
            bytes.truncate(n);
            bytes
        };
        assert_eq!(read(0x10, 20), b"abCDefghIJ");
        assert_eq!(read(0x13, 3), b"Def");
        assert_eq!((read(0x8, 9).len(), read(0x9, 1).len()), (1, 0));
        assert_eq!(read(0x30, 2), b"x");
    }
}
