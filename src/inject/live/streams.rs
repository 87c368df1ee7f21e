//! What a family writes to its standard output and error.

use crate::inject::hook::HookCall;
use crate::inject::log::Log;
use crate::kernel::{DescriptorTable, Stream};
use crate::restore::CapturedStream;

/// Our ends of captured streams.
#[derive(Debug, Default)]
pub(in crate::inject) struct Streams {
    ends: Vec<CapturedStream>,
    /// Streams that go nowhere, which programs can tell: what is written there is taken from their memory.
    nowhere: Vec<Stream>,
}

const NOWHERE: &[u8] = b"/dev/null";

impl Streams {
    /// Those of a process whose descriptors have been made again.
    pub fn of(ends: Vec<CapturedStream>, table: &DescriptorTable) -> Streams {
        let nowhere = table.iter().filter(|(_, file, _)| file.path == NOWHERE);
        let nowhere = nowhere.filter_map(|(fd, ..)| table.output_stream(fd));
        Streams {
            nowhere: nowhere.collect(),
            ends,
        }
    }

    /// Takes what is there, and waits for nothing.
    pub fn drain(&mut self, log: &mut Log) {
        for end in &mut self.ends {
            let stream = end.stream;
            // What cannot be read is not there.
            let _ = end.drain(|data| {
                if let Some(stream) = stream {
                    log.output(stream, data);
                }
            });
        }
    }

    /// Whether one goes nowhere.
    pub fn go_nowhere(&self) -> bool {
        !self.nowhere.is_empty()
    }

    /// Takes what a call has written to a stream that goes nowhere.
    pub fn note(&self, seen: &HookCall, ret: i64, log: &mut Log) {
        let stream = match seen.fd() {
            Some(1) => Stream::Stdout,
            Some(2) => Stream::Stderr,
            _ => return,
        };
        if ret <= 0 || seen.fd_path.as_deref() != Some(NOWHERE) || !self.nowhere.contains(&stream) {
            return;
        }
        for region in seen.call.data_regions(&seen.args, ret as u64, &seen.memory) {
            log.output(stream, &seen.memory.bytes(region.addr, region.len));
        }
    }
}
