//! Copying and comparing files by explicit offsets: the recorded program shares the offsets of its open files.

use nix::errno::Errno;
use nix::fcntl::copy_file_range;
use nix::unistd::{Whence, lseek};
use std::fs::File;
use std::io::Result;
use std::ops::Range;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;

const CHUNK: usize = 1 << 20;

/// The bytes of a part that are copied at a time.
const BLOCK: usize = 64 << 10;

/// The parts of a file other than holes.
pub(super) struct Extents {
    /// The file with an offset of its own, to seek in.
    own: Option<File>,
    at: u64,
    len: u64,
}

impl Extents {
    pub fn of(file: &File) -> Result<Extents> {
        let path = format!("/proc/self/fd/{}", file.as_raw_fd());
        Ok(Extents {
            own: File::open(path).ok(),
            at: 0,
            len: file.metadata()?.len(),
        })
    }
}

impl Iterator for Extents {
    type Item = Range<u64>;

    fn next(&mut self) -> Option<Range<u64>> {
        if self.at >= self.len {
            return None;
        }
        let seek = |from: u64, whence| {
            let own = self.own.as_ref().ok_or(Errno::EINVAL)?;
            lseek(own, from as i64, whence)
        };
        let start = match seek(self.at, Whence::SeekData) {
            Ok(start) => start as u64,
            // The rest of the file is a hole.
            Err(Errno::ENXIO) => self.len,
            Err(_) => self.at,
        };
        if start >= self.len {
            self.at = self.len;
            return None;
        }
        let end = seek(start, Whence::SeekHole).map_or(self.len, |end| end as u64);
        self.at = end.clamp(start + 1, self.len);
        Some(start..self.at)
    }
}

/// Copies a file's content, holes as such, to an empty one. Shares the blocks where the file system can
/// (copy_file_range(2) does).
pub(super) fn copy(source: &File, target: &File) -> Result<()> {
    let extents = Extents::of(source)?;
    let len = extents.len;
    for extent in extents {
        let done = by_kernel(source, target, extent.clone());
        by_hand(source, target, done..extent.end)?;
    }
    if target.metadata()?.len() < len {
        target.set_len(len)?;
    }
    Ok(())
}

/// Copies a part of a file to an offset of another, without its holes.
pub(crate) fn copy_part(source: &File, part: Range<u64>, file: &File, to: u64) -> Result<()> {
    let mut block = vec![0; BLOCK];
    let mut at = part.start;
    while at < part.end {
        at = match lseek(source, at as i64, Whence::SeekData) {
            Ok(data) => data as u64,
            Err(Errno::ENXIO) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        let hole = lseek(source, at as i64, Whence::SeekHole)? as u64;
        while at < hole.min(part.end) {
            let room = (hole.min(part.end) - at).min(BLOCK as u64) as usize;
            let n = source.read_at(&mut block[..room], at)?;
            if n == 0 {
                return Ok(());
            }
            file.write_all_at(&block[..n], to + (at - part.start))?;
            at += n as u64;
        }
    }
    Ok(())
}

/// A checksum of a file's content, which does not depend on what of the zeros in it are holes.
pub(super) fn checksum(file: &File) -> Result<u32> {
    const PAGE: u64 = 4096;
    let mut sum = crc32fast::Hasher::new();
    let extents = Extents::of(file)?;
    sum.update(&extents.len.to_le_bytes());
    let mut block = vec![0; BLOCK];
    let mut done = 0;
    for extent in extents {
        let mut at = (extent.start - extent.start % PAGE).max(done);
        while at < extent.end {
            let n = read_full(file, &mut block, at)?;
            for (i, page) in block[..n].chunks(PAGE as usize).enumerate() {
                if page.iter().any(|&byte| byte != 0) {
                    sum.update(&(at + i as u64 * PAGE).to_le_bytes());
                    sum.update(page);
                }
            }
            at += BLOCK as u64;
            if n < block.len() {
                break;
            }
        }
        done = at;
    }
    Ok(sum.finalize())
}

/// Fills a buffer from an offset of a file, as far as that goes.
fn read_full(file: &File, buf: &mut [u8], at: u64) -> Result<usize> {
    let mut filled = 0;
    while filled < buf.len() {
        match file.read_at(&mut buf[filled..], at + filled as u64)? {
            0 => break,
            n => filled += n,
        }
    }
    Ok(filled)
}

/// Copies with copy_file_range(2); returns the offset up to which that succeeded.
fn by_kernel(source: &File, target: &File, range: Range<u64>) -> u64 {
    let mut at = range.start;
    while at < range.end {
        let (mut from, mut to) = (at as i64, at as i64);
        let most = usize::try_from(range.end - at).unwrap_or(usize::MAX);
        match copy_file_range(source, Some(&mut from), target, Some(&mut to), most) {
            Ok(n) if n > 0 => at += n as u64,
            // An error shows again when the rest is copied by reading and writing.
            _ => break,
        }
    }
    at
}

fn by_hand(source: &File, target: &File, range: Range<u64>) -> Result<()> {
    let mut buf = Vec::new();
    let mut at = range.start;
    while at < range.end {
        let most = (range.end - at).min(CHUNK as u64) as usize;
        buf.resize(most, 0);
        let n = source.read_at(&mut buf, at)?;
        if n == 0 {
            break;
        }
        target.write_all_at(&buf[..n], at)?;
        at += n as u64;
    }
    Ok(())
}

/// Whether two files have the same content.
pub(crate) fn same(a: &File, b: &File) -> Result<bool> {
    let len = a.metadata()?.len();
    if b.metadata()?.len() != len {
        return Ok(false);
    }
    let (mut one, mut other) = (Vec::new(), Vec::new());
    let mut at = 0;
    // Most files that differ do so near their beginning.
    let mut step = 4096;
    while at < len {
        let most = (len - at).min(step) as usize;
        one.resize(most, 0);
        other.resize(most, 0);
        a.read_exact_at(&mut one, at)?;
        b.read_exact_at(&mut other, at)?;
        if one != other {
            return Ok(false);
        }
        at += most as u64;
        step = CHUNK as u64;
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksums_are_of_the_content_alone() {
        let dir = tempfile::tempdir().unwrap();
        let made = |name: &str, parts: &[(u64, &[u8])], len: u64| {
            let file = File::create_new(dir.path().join(name)).unwrap();
            for (at, bytes) in parts {
                file.write_all_at(bytes, *at).unwrap();
            }
            file.set_len(len).unwrap();
            file
        };
        let zeros = vec![0; 200_000];
        let sparse = made("sparse", &[(5000, b"text"), (150_000, b"more")], 200_000);
        let dense = made(
            "dense",
            &[(0, &zeros), (5000, b"text"), (150_000, b"more")],
            200_000,
        );
        assert_eq!(checksum(&sparse).unwrap(), checksum(&dense).unwrap());
        let others = [
            made("moved", &[(5001, b"text"), (150_000, b"more")], 200_000),
            made("longer", &[(5000, b"text"), (150_000, b"more")], 200_001),
            made("less", &[(5000, b"text")], 200_000),
            made("other", &[(9096, b"text"), (150_000, b"more")], 200_000),
        ];
        for other in &others {
            assert_ne!(checksum(&sparse).unwrap(), checksum(other).unwrap());
        }
        let huge = made("huge", &[(1 << 39, b"x")], 1 << 40);
        assert!(checksum(&huge).is_ok());
    }
}
