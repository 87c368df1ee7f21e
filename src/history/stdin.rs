//! The data that the program read from its standard input, where that cannot be read again: a pipe, a terminal, a
//! socket.

use super::Recording;
use crate::kernel::{ProcessTree, data_read, reads_from};
use crate::recording::{Frame, Result};
use std::sync::{Arc, Mutex, PoisonError};

/// The most bytes of input that are returned: a recording may have any amount.
const MOST: usize = 16 << 20;

/// The data that was read, with the numbers of the events that read it.
type Reads = Vec<(u64, Vec<u8>)>;

/// All of the input, once it was asked for.
#[derive(Default)]
pub(super) struct Input(Mutex<Option<Arc<Reads>>>);

impl Recording {
    /// The data that processes read from the program's standard input at this event and after it; 16 MiB of all input
    /// at most.
    ///
    /// # Errors
    /// If the recording cannot be read.
    pub fn stdin_from(&self, event: u64) -> Result<Vec<u8>> {
        let mut slot = self.input.0.lock().unwrap_or_else(PoisonError::into_inner);
        let reads = match &*slot {
            Some(reads) => Arc::clone(reads),
            None => Arc::clone(slot.insert(Arc::new(self.reads()?))),
        };
        let later = reads.iter().filter(|&&(at, _)| at >= event);
        Ok(later.flat_map(|(_, data)| data).copied().collect())
    }

    fn reads(&self) -> Result<Reads> {
        let mut reads = Vec::new();
        let stdin = self.start().descriptors.iter().find(|d| d.fd == 0);
        let Some(stdin) = stdin.filter(|_| !self.is_empty()) else {
            return Ok(reads);
        };
        let mut tree = ProcessTree::at_start(self.start());
        let mut frames = self.frames_from(1)?;
        let (mut number, mut room) = (0, MOST);
        while let Some(frame) = frames.next_frame()? {
            if let Frame::Event(event) = &frame {
                number += 1;
                if let Some(call) = event.call()
                    && let Some(fd) = reads_from(call)
                    && let Some(file) = tree.open_file(event.tid, fd)
                    && file.path == stdin.path
                {
                    let mut data = data_read(call);
                    data.truncate(room);
                    room -= data.len();
                    if !data.is_empty() {
                        reads.push((number, data));
                    }
                }
            }
            tree.follow(&frame);
        }
        Ok(reads)
    }
}
