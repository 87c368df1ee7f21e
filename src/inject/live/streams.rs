//! The captured standard output and error of the processes of a run.

use crate::inject::hook::HookCall;
use crate::inject::log::Log;
use crate::kernel::{DescriptorTable, Stream};
use crate::restore::CapturedStream;
use std::os::unix::fs::MetadataExt;

/// The reading ends of captured streams.
#[derive(Debug, Default)]
pub(in crate::inject) struct Streams {
    ends: Vec<CapturedStream>,
    /// Streams that are /dev/null, which programs can see: data written there are read from their memory.
    nowhere: Vec<Stream>,
}

const NOWHERE: &[u8] = b"/dev/null";

impl Streams {
    /// The streams of processes whose descriptors have been restored.
    pub fn of<'a>(
        ends: Vec<CapturedStream>,
        tables: impl Iterator<Item = &'a DescriptorTable>,
    ) -> Streams {
        let nowhere = tables.flat_map(|table| {
            let files = table.iter().filter(|(_, file, _)| file.path == NOWHERE);
            files.filter_map(|(fd, ..)| table.output_stream(fd))
        });
        Streams {
            nowhere: nowhere.collect(),
            ends,
        }
    }

    /// The captured stream that a descriptor of a task is.
    pub fn stream_of(&self, tid: i32, fd: i32) -> Option<Stream> {
        let meta = std::fs::metadata(format!("/proc/{tid}/fd/{fd}")).ok()?;
        self.ends.iter().find_map(|end| {
            let own = end.file.metadata().ok()?;
            let is_it = (own.dev(), own.ino()) == (meta.dev(), meta.ino());
            end.stream.filter(|_| is_it)
        })
    }

    /// Takes the data that are there, without waiting.
    pub fn drain(&mut self, log: &mut Log) {
        for end in &mut self.ends {
            let stream = end.stream;
            // A failed read means that there are no data.
            let _ = end.drain(|data| {
                if let Some(stream) = stream {
                    log.output(stream, data);
                }
            });
        }
    }

    /// Whether one of the streams is /dev/null.
    pub fn go_nowhere(&self) -> bool {
        !self.nowhere.is_empty()
    }

    /// Takes the data that a call has written to a stream that is /dev/null.
    pub fn note(&self, seen: &HookCall, ret: i64, log: &mut Log) {
        let stream = match seen.fd() {
            Some(1) => Stream::Stdout,
            Some(2) => Stream::Stderr,
            _ => return,
        };
        if ret <= 0 || seen.fd_path.as_deref() != Some(NOWHERE) || !self.nowhere.contains(&stream) {
            return;
        }
        let (data, len) = seen.passed_data(ret as u64, log.room(Some(stream)));
        log.output(stream, &data);
        log.more_output(stream, len - data.len() as u64);
    }
}
