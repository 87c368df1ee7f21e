//! The amount of data that a call moves: its unit, its argument, and where data can be cut.

use crate::syscall::Syscall;

/// The unit of what a call moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Amount {
    /// Bytes in the process's memory.
    Bytes,
    /// Bytes that the kernel moves between two files.
    Inside,
    /// Messages, however long.
    Messages,
}

impl Amount {
    /// That of this call; `None` where it moves nothing.
    pub fn of(call: &Syscall) -> Option<Amount> {
        match call.name {
            "copy_file_range" | "sendfile" | "splice" | "tee" => Some(Amount::Inside),
            _ if call.moves_messages() => Some(Amount::Messages),
            _ => call.moves_data().map(|_| Amount::Bytes),
        }
    }
}

/// The argument that says how many bytes or messages a call asks for, where one does.
pub(super) fn asked_arg(call: &Syscall) -> Option<usize> {
    match Amount::of(call)? {
        Amount::Messages => call.arg("vlen"),
        Amount::Inside => call.size_arg(),
        Amount::Bytes => call.data_len_arg(),
    }
}

/// The length of the directory entries that fit into `most` bytes; that of the first where none does.
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
