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

/// What a status says besides: stat(2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileStatus {
    /// The kind and the permissions.
    pub mode: u32,
    /// The owner.
    pub uid: u32,
    /// The group.
    pub gid: u32,
    /// The size in bytes.
    pub size: u64,
    /// The time of the last change of the content, in nanoseconds since 1970.
    pub modified: i128,
}

/// The offsets of these numbers in a status, in bytes.
#[derive(Clone, Copy, Debug)]
pub struct StatusLayout {
    device: u64,
    inode: u64,
    mode: u64,
    /// The owner; the group comes behind.
    owner: u64,
    size: u64,
    /// The seconds; the nanoseconds come behind.
    modified: u64,
    /// True if the two halves of the device number have a word each.
    split: bool,
}

impl StatusLayout {
    /// The offsets in `struct stat`.
    pub const STAT: StatusLayout = StatusLayout {
        device: 0,
        inode: 8,
        mode: 24,
        owner: 28,
        size: 48,
        modified: 88,
        split: false,
    };

    /// The offsets in `struct statx`.
    pub const STATX: StatusLayout = StatusLayout {
        device: 136,
        inode: 32,
        mode: 28,
        owner: 20,
        size: 40,
        modified: 112,
        split: true,
    };

    /// The times in the status at this address that change when a file does: the addresses of the seconds, behind which the
    /// nanoseconds come.
    pub fn times(&self, at: u64) -> impl Iterator<Item = u64> {
        // Of the access, the change of the content, and the change of the status; and of the birth.
        let offsets: &[u64] = match self.split {
            false => &[72, 88, 104],
            true => &[64, 80, 96, 112],
        };
        offsets.iter().map(move |offset| at.wrapping_add(*offset))
    }

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

    /// The rest of a status.
    pub fn status(&self, memory: &dyn Memory, at: u64) -> Option<FileStatus> {
        let word = |offset: u64| {
            let mut bytes = [0; 8];
            let n = memory.read(at.wrapping_add(offset), &mut bytes);
            (n == 8).then(|| u64::from_le_bytes(bytes))
        };
        let owners = word(self.owner)?;
        let nanoseconds = word(self.modified + 8)? as u32;
        // The mode of a statx has 16 bits.
        let mode = word(self.mode)? as u32 & 0xffff;
        Some(FileStatus {
            mode,
            uid: owners as u32,
            gid: (owners >> 32) as u32,
            size: word(self.size)?,
            modified: i128::from(word(self.modified)? as i64) * 1_000_000_000
                + i128::from(nanoseconds),
        })
    }

    /// The writes that give the status at this address this mode and these owners.
    pub fn with_owner(&self, at: u64, status: &FileStatus) -> [(u64, Vec<u8>); 2] {
        let owners = u64::from(status.uid) | u64::from(status.gid) << 32;
        // The mode of a statx has 16 bits, and the other half of the word is not used.
        [
            (
                at.wrapping_add(self.mode),
                status.mode.to_le_bytes()[..2].to_vec(),
            ),
            (at.wrapping_add(self.owner), owners.to_le_bytes().to_vec()),
        ]
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
