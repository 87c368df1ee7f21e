//! What a family writes to its standard output and error.

use crate::inject::calls::Log;
use crate::inject::hook::HookCall;
use crate::recording::{DescriptorTable, Stream};
use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;

/// Our ends of captured streams.
#[derive(Debug, Default)]
pub(in crate::inject) struct Streams {
    ends: Vec<(Stream, File)>,
    /// Streams that go nowhere, which programs can tell: what is written there is taken from their memory.
    nowhere: Vec<Stream>,
}

const NOWHERE: &[u8] = b"/dev/null";

impl Streams {
    /// Those of a process whose descriptors have been made again.
    pub fn of(tid: i32, table: &DescriptorTable) -> Streams {
        let mut streams = Streams::default();
        for (fd, file, _) in table.iter() {
            let Some(stream) = table.output_stream(fd) else {
                continue;
            };
            if file.path == NOWHERE {
                streams.nowhere.push(stream);
                continue;
            }
            if streams.ends.iter().any(|(known, _)| *known == stream) {
                continue;
            }
            let end = OpenOptions::new()
                .read(true)
                .custom_flags(libc::O_NONBLOCK)
                .open(format!("/proc/{tid}/fd/{fd}"));
            if let Ok(mut end) = end {
                // A file's new content is behind what it had; a pipe has no places.
                let _ = end.seek(SeekFrom::Start(file.offset));
                streams.ends.push((stream, end));
            }
        }
        streams
    }

    /// Takes what is there, and waits for nothing.
    pub fn drain(&mut self, log: &mut Log) {
        let mut part = [0; 16 << 10];
        for (stream, file) in &mut self.ends {
            while let Ok(n @ 1..) = file.read(&mut part) {
                log.output(*stream, &part[..n]);
            }
        }
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
