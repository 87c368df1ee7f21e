//! The amount of data that a call moves: its unit, its argument, and the lengths at which data can be cut.

use crate::syscall::Syscall;

/// The unit of the amount that a call moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Amount {
    /// Bytes in the process's memory.
    Bytes,
    /// Bytes that the kernel moves between two files.
    Inside,
    /// Messages, of any length.
    Messages,
}

impl Amount {
    /// The unit of this call; `None` if it moves no data.
    pub fn of(call: &Syscall) -> Option<Amount> {
        match call.name {
            "copy_file_range" | "sendfile" | "splice" | "tee" => Some(Amount::Inside),
            _ if call.moves_messages() => Some(Amount::Messages),
            _ => call.moves_data().map(|_| Amount::Bytes),
        }
    }
}

/// The argument that has the number of bytes or messages that a call asks for, if there is one.
pub(super) fn asked_arg(call: &Syscall) -> Option<usize> {
    match Amount::of(call)? {
        Amount::Messages => call.arg("vlen"),
        Amount::Inside => call.size_arg(),
        Amount::Bytes => call.data_len_arg(),
    }
}

/// The length of the directory entries that fit into `most` bytes; the length of the first entry if none fits.
pub(super) fn whole_entries(entries: &[u8], most: usize) -> usize {
    // d_reclen, in struct linux_dirent and linux_dirent64 alike.
    const LEN_AT: usize = 16;
    let mut end = 0;
    while let Some(&[a, b]) = entries.get(end + LEN_AT..end + LEN_AT + 2) {
        let next = end + usize::from(u16::from_le_bytes([a, b]));
        if next == end || next > entries.len() || (end > 0 && next > most) {
            break;
        }
        end = next;
    }
    end
}
