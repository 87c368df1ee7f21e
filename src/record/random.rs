//! Instructions that draw random numbers from the processor, in the files that programs execute: each is replaced by
//! one that stops its task (see [`tracee::random`](crate::tracee::random)) as the file is mapped.
//!
//! Only what certainly is such an instruction is replaced: decoding the function that it is in has to come to it. What
//! cannot be told, and code that a program makes itself, is left as it is.

use super::task::Task;
use super::{Recorder, Result};
use crate::backtrace::functions;
use crate::image::Chunk;
use crate::recording::CallEvent;
use crate::tracee::proc::{self, Map};
use crate::tracee::random::{Draw, LONGEST};
use crate::tracee::{Stopped, TaskMemory};
use iced_x86::{Decoder, DecoderOptions, Mnemonic};
use std::collections::{HashMap, HashSet};
use std::ffi::OsStr;
use std::fs::File;
use std::ops::Range;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// More code than this in one mapping is not searched.
const MOST_CODE: u64 = 512 << 20;

/// What tells one state of a part of a file from others: device, inode, size, time of its last change, part.
type Key = (u64, u64, u64, i64, i64, u64, u64);

/// What has been found so far, by file; and the files that the user has been told of.
#[derive(Default)]
pub struct Searched(HashMap<Key, Found>, HashSet<Vec<u8>>);

/// The offsets in a file at which there are such instructions.
#[derive(Clone, Default)]
struct Found {
    certain: Vec<u64>,
    /// How many bytes that look like one are left alone.
    doubtful: usize,
}

impl Recorder {
    /// Replaces the instructions of a program that has just been executed.
    pub(super) fn replace_in_program(&mut self, task: &Stopped) -> Result<()> {
        let tid = task.tid();
        for map in proc::maps(tid)? {
            let mut path = PathBuf::from(format!("/proc/{tid}/root"));
            path.push(OsStr::from_bytes(
                map.name.strip_prefix(b"/").unwrap_or(&map.name),
            ));
            let is_file = map.name.starts_with(b"/") && map.inode != 0;
            if is_file
                && is_code(&map)
                && let Some(file) = open(&path)
                && file.metadata().is_ok_and(|meta| meta.ino() == map.inode)
            {
                self.replace_in(&map, &file, task.memory())?;
            }
        }
        Ok(())
    }

    /// Replaces those of a file that has just been mapped; what has been changed.
    pub(super) fn replace_in_mapping(
        &mut self,
        me: &Task,
        task: &Stopped,
        event: &CallEvent,
    ) -> Result<Vec<Chunk>> {
        let is_mmap = i64::from(event.nr) == libc::SYS_mmap;
        let executable = event.args[2] as i32 & libc::PROT_EXEC != 0;
        let [_, len, prot, flags, fd, offset] = event.args;
        let anonymous = flags as i32 & libc::MAP_ANONYMOUS != 0;
        let private = flags as i32 & libc::MAP_TYPE == libc::MAP_PRIVATE;
        let start = match event.ret {
            Some(start @ 1..) if is_mmap && executable && private && !anonymous => start as u64,
            _ => return Ok(Vec::new()),
        };
        let path = format!("/proc/{}/fd/{}", me.tid, fd as i32);
        let Some(file) = open(Path::new(&path)) else {
            return Ok(Vec::new());
        };
        let map = Map {
            start,
            end: start.saturating_add(len),
            prot: prot as i32,
            shared: false,
            offset,
            inode: 0,
            dev: 0,
            name: proc::fd_path(me.tid, fd as i32).unwrap_or_default(),
        };
        self.replace_in(&map, &file, task.memory())
    }

    fn replace_in(&mut self, map: &Map, file: &File, memory: TaskMemory) -> Result<Vec<Chunk>> {
        let found = self.searched.in_part(file, map.offset, map.end - map.start);
        let mut changed = Vec::new();
        for offset in &found.certain {
            let addr = map.start + (offset - map.offset);
            let Some(draw) = Draw::unchanged(&memory.bytes(addr, LONGEST)) else {
                continue;
            };
            let (at, byte) = draw.replacement();
            let chunk = Chunk {
                addr: addr + at,
                data: vec![byte],
            };
            memory.write(chunk.addr, &chunk.data)?;
            changed.push(chunk);
        }
        if found.doubtful > 0 && self.searched.1.insert(map.name.clone()) {
            tracing::info!(
                "{}: {} places that look like RDRAND or RDSEED are left alone; if the replay leaves the recording, \
                 rrapper doctor says how to do without (see \"cpuid faulting\")",
                String::from_utf8_lossy(&map.name),
                found.doubtful
            );
        }
        Ok(changed)
    }
}

fn is_code(map: &Map) -> bool {
    map.prot & libc::PROT_EXEC != 0 && !map.shared
}

/// A regular file, without waiting for anything.
fn open(path: &Path) -> Option<File> {
    let mut options = File::options();
    let flags = libc::O_NONBLOCK | libc::O_NOCTTY;
    let file = options.read(true).custom_flags(flags).open(path).ok()?;
    file.metadata().ok()?.is_file().then_some(file)
}

impl Searched {
    fn in_part(&mut self, file: &File, offset: u64, len: u64) -> Found {
        let Ok(meta) = file.metadata() else {
            return Found::default();
        };
        let (size, changed) = (meta.len(), (meta.mtime(), meta.mtime_nsec()));
        let len = len.min(size.saturating_sub(offset));
        let key = (
            meta.dev(),
            meta.ino(),
            size,
            changed.0,
            changed.1,
            offset,
            len,
        );
        let found = self.0.entry(key);
        found
            .or_insert_with(|| search(file, offset, len).unwrap_or_default())
            .clone()
    }
}

/// Looks through a part of a file.
fn search(file: &File, offset: u64, len: u64) -> Option<Found> {
    if len > MOST_CODE {
        return None;
    }
    let mut code = vec![0; len as usize];
    file.read_exact_at(&mut code, offset).ok()?;
    let suspects: Vec<usize> = memchr::memmem::find_iter(&code, &[0x0f, 0xc7])
        .filter_map(|opcode| beginning(&code, opcode))
        .collect();
    if suspects.is_empty() {
        return Some(Found::default());
    }
    let functions = functions(file).unwrap_or_default();
    let mut found = Found::default();
    for at in suspects {
        let at = offset + at as u64;
        let function = functions.iter().find(|function| function.contains(&at));
        let function = function.filter(|function| function.start >= offset);
        match function.and_then(|function| comes_to(&code, offset, function, at)) {
            Some(true) => found.certain.push(at),
            Some(false) => {}
            None => found.doubtful += 1,
        }
    }
    Some(found)
}

/// Where the instruction begins whose opcode is here, if it is one of those; with as many prefixes as it can have.
fn beginning(code: &[u8], opcode: usize) -> Option<usize> {
    let short = Draw::unchanged(&code[opcode..])?;
    let from = opcode.saturating_sub(LONGEST - short.size() as usize);
    (from..=opcode).find(|&from| {
        let draw = Draw::unchanged(&code[from..]);
        draw.is_some_and(|draw| from + draw.size() as usize == opcode + short.size() as usize)
    })
}

/// Whether decoding a function comes to such an instruction at `at`, or passes over that; `None` where something else than
/// instructions comes first. All as offsets in the file.
fn comes_to(code: &[u8], offset: u64, function: &Range<u64>, at: u64) -> Option<bool> {
    let from = (function.start - offset) as usize;
    let mut decoder = Decoder::with_ip(64, &code[from..], function.start, DecoderOptions::NONE);
    while decoder.can_decode() && decoder.ip() <= at {
        let instruction = decoder.decode();
        if instruction.is_invalid() {
            return None;
        }
        if instruction.ip() == at {
            let draws = matches!(instruction.mnemonic(), Mnemonic::Rdrand | Mnemonic::Rdseed);
            return Some(draws);
        }
    }
    Some(false)
}
