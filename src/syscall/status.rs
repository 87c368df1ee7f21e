//! The numbers in a file's status (stat, statx) that identify the file.

use super::Memory;

/// The identity of a file: its device and inode, and whether it is a directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileNumbers {
    /// `st_dev`.
    pub device: u64,
    /// `st_ino`.
    pub inode: u64,
    /// True for a directory.
    pub is_dir: bool,
}

/// The offsets of these numbers in a status, in bytes.
#[derive(Clone, Copy, Debug)]
pub struct StatusLayout {
    device: u64,
    inode: u64,
    mode: u64,
    /// True if the two halves of the device number have a word each.
    split: bool,
}

impl StatusLayout {
    /// The offsets in `struct stat`.
    pub const STAT: StatusLayout = StatusLayout {
        device: 0,
        inode: 8,
        mode: 24,
        split: false,
    };

    /// The offsets in `struct statx`.
    pub const STATX: StatusLayout = StatusLayout {
        device: 136,
        inode: 32,
        mode: 28,
        split: true,
    };

    /// The numbers in a status.
    pub fn read(&self, memory: &dyn Memory, at: u64) -> Option<FileNumbers> {
        let bytes = |offset: u64| {
            let mut bytes = [0; 8];
            (memory.read(at.wrapping_add(offset), &mut bytes) == 8).then_some(bytes)
        };
        let device = bytes(self.device)?;
        let [m0, m1, ..] = bytes(self.mode)?;
        let format = u32::from(u16::from_le_bytes([m0, m1])) & libc::S_IFMT;
        Some(FileNumbers {
            device: match self.split {
                true => {
                    let [a, b, c, d, e, f, g, h] = device;
                    libc::makedev(
                        u32::from_le_bytes([a, b, c, d]),
                        u32::from_le_bytes([e, f, g, h]),
                    )
                }
                false => u64::from_le_bytes(device),
            },
            inode: u64::from_le_bytes(bytes(self.inode)?),
            is_dir: format == libc::S_IFDIR,
        })
    }

    /// The writes that give the status at this address these numbers.
    pub fn written(&self, at: u64, numbers: FileNumbers) -> [(u64, [u8; 8]); 2] {
        let device = numbers.device;
        let device = match self.split {
            true => u64::from(libc::major(device)) | u64::from(libc::minor(device)) << 32,
            false => device,
        };
        [
            (at.wrapping_add(self.device), device.to_le_bytes()),
            (at.wrapping_add(self.inode), numbers.inode.to_le_bytes()),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Whole([u8; 256]);

    impl Memory for Whole {
        fn read(&self, addr: u64, buf: &mut [u8]) -> usize {
            let from = (addr as usize).min(256);
            let n = buf.len().min(256 - from);
            buf[..n].copy_from_slice(&self.0[from..from + n]);
            n
        }
    }

    #[test]
    fn what_was_written_is_read() {
        let numbers = FileNumbers {
            device: libc::makedev(254, 0x12345),
            inode: 1 << 62 | 7,
            is_dir: false,
        };
        for layout in [StatusLayout::STAT, StatusLayout::STATX] {
            let mut memory = Whole([0; 256]);
            for (at, bytes) in layout.written(3, numbers) {
                memory.0[at as usize..at as usize + 8].copy_from_slice(&bytes);
            }
            assert_eq!(layout.read(&memory, 3), Some(numbers));
            assert_eq!(layout.read(&memory, 250), None);
        }
    }
}
