//! What must hold of any bytes: the bodies of the fuzz targets, and of tests/fuzz_short.rs.
#![allow(dead_code, reason = "each target uses a part of it")]

use rrapper::history::{FileChanges, Recording};
use rrapper::recording::{
    self, CallEvent, Event, EventKind, FileBefore, Frame, Frames, NextFrame, Source, Start,
};
use rrapper::strace::{self, Piece, PieceKind, Stream};
use rrapper::syscall::{self, Memory, Syscall};
use rrapper::trace::{Answer, Call, Exit, Field, Origin, Trace, Value};
use rrapper::trace_report::Object;
use rrapper::world::Kind;
use std::path::{Path, PathBuf};

/// Reads bytes as a trace: nothing panics, nothing is lost, and what is printed reads back the same.
pub fn strace(data: &[u8]) {
    let mut text = Vec::with_capacity(data.len());
    let mut understood = true;
    for piece in Stream::new(data, "fuzz") {
        let piece = piece.expect("memory can be read");
        text.extend_from_slice(&piece.text);
        // How the arguments of a call that did not end would have gone on, nobody knows.
        understood &= !matches!(
            piece.kind,
            PieceKind::Problem(_) | PieceKind::NeverResumed(_)
        );
        understood &= piece.doubts.is_empty() && !has_odd_mark(&piece.text);
        printed(&piece);
    }
    assert!(text == data, "the pieces in a row are not the text");
    if understood {
        reads_back(data);
    }
}

/// Whether strace's mark of an injected call is written as strace does not, and so is a note, which is printed as the mark.
fn has_odd_mark(text: &[u8]) -> bool {
    let count = |words: &[u8]| text.windows(words.len()).filter(|at| *at == words).count();
    count(b"INJECTED") != count(b"(INJECTED") || count(b"DELAYED") != count(b"(DELAYED")
}

fn printed(piece: &Piece) {
    let mut printed = Vec::new();
    piece
        .print(&mut printed)
        .expect("a vector takes everything");
    assert_eq!(piece.prints_back(), printed == piece.text);
    if let PieceKind::Entry(entry) | PieceKind::Resumed(entry) | PieceKind::NeverResumed(entry) =
        &piece.kind
    {
        Object::of_entry(1, entry).finish();
        let _ = entry.to_string();
    }
}

/// Printed in our way, a trace that was understood is the same when it is read again.
fn reads_back(data: &[u8]) {
    let made = |trace: Trace| trace.with_origin(&Origin::Made);
    let first = made(strace::parse(data, "fuzz").trace);
    let mut text = Vec::new();
    strace::write(&first, &mut text).expect("a vector takes everything");
    let again = strace::parse(&text, "printed");
    let shown = String::from_utf8_lossy(&text);
    assert!(again.problems.is_empty(), "{:?} in {shown}", again.problems);
    let second = made(again.trace);
    assert!(
        first == second,
        "{first:?}\nis printed as\n{shown}\nwhich is\n{second:?}"
    );
}

/// Bytes that decisions are taken from; zeros where there are no more.
struct Bytes<'a>(&'a [u8]);

impl Bytes<'_> {
    fn byte(&mut self) -> u8 {
        match self.0.split_first() {
            Some((first, rest)) => {
                self.0 = rest;
                *first
            }
            None => 0,
        }
    }

    fn one_in(&mut self, n: u8) -> bool {
        self.byte().is_multiple_of(n)
    }

    fn word(&mut self) -> u64 {
        (0..8).fold(0, |word, _| word << 8 | u64::from(self.byte()))
    }

    fn bytes(&mut self) -> Vec<u8> {
        let n = usize::from(self.byte() % 40);
        (0..n).map(|_| self.byte()).collect()
    }

    fn text(&mut self) -> String {
        String::from_utf8_lossy(&self.bytes()).into_owned()
    }

    /// A number such as programs pass.
    fn number(&mut self) -> u64 {
        match self.byte() % 8 {
            0 => 0,
            1 | 2 => u64::from(self.byte()),
            3 => BASE + u64::from(self.byte()) * 8,
            4 => BASE + u64::from(self.byte()),
            5 => (-i64::from(self.byte())) as u64,
            6 => 1 << (self.byte() % 64),
            _ => self.word(),
        }
    }

    fn value(&mut self, depth: u8) -> Value {
        let kinds = if depth == 0 { 7 } else { 12 };
        match self.byte() % kinds {
            0 => Value::Int(self.number() as i64),
            1 => Value::Addr(self.number()),
            2 => Value::Octal(self.number()),
            3 => Value::Fd {
                fd: self.number() as i32,
                path: self.one_in(2).then(|| self.bytes()),
            },
            4 => Value::Sym {
                text: self.text(),
                value: self.one_in(2).then(|| self.number() as i64),
            },
            5 => Value::Str {
                bytes: self.bytes(),
                cut: self.one_in(4),
            },
            6 => Value::Set {
                negated: self.one_in(2),
                items: (0..self.byte() % 4).map(|_| self.text()).collect(),
            },
            7 | 8 => Value::Array {
                items: (0..self.byte() % 5)
                    .map(|_| self.value(depth - 1))
                    .collect(),
                cut: self.one_in(4),
            },
            9 => Value::Struct {
                fields: (0..self.byte() % 5)
                    .map(|_| Field::new(self.text(), self.value(depth - 1)))
                    .collect(),
                cut: self.one_in(4),
            },
            10 => Value::Change {
                before: Box::new(self.value(depth - 1)),
                after: Box::new(self.value(depth - 1)),
            },
            _ => Value::Raw(self.text()),
        }
    }
}

/// Where the memory begins.
const BASE: u64 = 0x10000;

/// Memory of these bytes, at [`BASE`].
struct Room<'a>(&'a [u8]);

impl Memory for Room<'_> {
    fn read(&self, addr: u64, buf: &mut [u8]) -> usize {
        let at = addr
            .checked_sub(BASE)
            .and_then(|at| usize::try_from(at).ok());
        let from = at.and_then(|at| self.0.get(at..)).unwrap_or_default();
        let n = from.len().min(buf.len());
        buf[..n].copy_from_slice(&from[..n]);
        n
    }
}

/// A call with any arguments and memory: nothing panics.
pub fn decode(data: &[u8]) {
    let mut bytes = Bytes(data);
    let names = syscall::names();
    let at = usize::from(bytes.byte()) << 8 | usize::from(bytes.byte());
    let names: Vec<&'static str> = names.collect();
    let Some(call) = names
        .get(at % names.len())
        .and_then(|name| syscall::by_name(name))
    else {
        return;
    };
    decode_call(call, bytes.0);
}

/// The same of a certain call.
pub fn decode_call(call: &'static Syscall, data: &[u8]) {
    let mut bytes = Bytes(data);
    let args = [0; 6].map(|_: u64| bytes.number());
    let ret = match bytes.byte() % 4 {
        0 => 0,
        1 => -i64::from(bytes.byte()),
        2 => i64::from(bytes.byte()),
        _ => bytes.word() as i64,
    };
    let any: Vec<Value> = (0..bytes.byte() % 7).map(|_| bytes.value(3)).collect();
    // What the kernel left begins elsewhere, so that lengths and the like are not what they were.
    let (entry, exit) = (Room(bytes.0), Room(bytes.0.get(1..).unwrap_or_default()));
    let call = call.resolve(&args);
    let inputs = call.inputs(&args, &entry);
    let outputs = call.outputs(&args, ret, &entry, &exit);
    let values = call.decode(&args, None, &entry, &entry);
    assert!(values.len() <= 6 && inputs.len() < 1 << 20 && outputs.len() < 1 << 20);
    let values = call.decode(&args, Some(ret), &entry, &exit);
    call.decode_ret(ret);
    call.data_regions(&args, ret as u64, &entry);
    let notes = call.notes(&args, ret, &entry, &exit);
    for values in [&values, &any] {
        let with_notes = call.with_notes(values, &notes);
        for values in [values, &with_notes] {
            // They say why not, or what to write.
            let _ = call.encode_outputs(&args, values, ret, &entry);
            let _ = call.compare(&args, &entry, values);
        }
    }
    let shown = Call {
        notes,
        ..Call::new(call.name, values, Answer::from_raw(ret))
    };
    let text = rrapper::trace::Entry::Call(shown).to_string();
    strace(text.as_bytes());
}

/// A recording of these calls, with these files before it.
struct Made {
    start: Start,
    files: Vec<FileBefore>,
    calls: Vec<CallEvent>,
}

struct MadeFrames(std::vec::IntoIter<Frame>);

impl NextFrame for MadeFrames {
    fn next_frame(&mut self) -> recording::Result<Option<Frame>> {
        Ok(self.0.next())
    }
}

const PID: i32 = 77;

impl Source for Made {
    fn dir(&self) -> &Path {
        Path::new("/made/up")
    }

    fn start(&self) -> &Start {
        &self.start
    }

    fn len(&self) -> u64 {
        self.calls.len() as u64
    }

    fn exit(&self) -> Option<Exit> {
        None
    }

    fn frames_from(&self, number: u64) -> recording::Result<Frames> {
        let event = |call: &CallEvent| {
            let kind = EventKind::Call(call.clone());
            Frame::Event(Event { tid: PID, kind })
        };
        let skipped = usize::try_from(number.saturating_sub(1)).unwrap_or(usize::MAX);
        let frames: Vec<Frame> = self.calls.iter().skip(skipped).map(event).collect();
        Ok(Frames::new(MadeFrames(frames.into_iter())))
    }

    fn files_before(&self) -> recording::Result<Vec<FileBefore>> {
        Ok(self.files.clone())
    }

    fn file_path(&self, _: u32) -> recording::Result<PathBuf> {
        Ok(PathBuf::from("/made/up/file"))
    }

    fn kept_as(&self, _: &[u8], _: u64) -> Option<(Vec<u32>, PathBuf)> {
        None
    }
}

/// Follows files that bytes tell, through calls that they tell: the state at each event can be looked at, and only has paths
/// that lead nowhere else.
pub fn files(data: &[u8]) {
    let Ok((files, calls)) = postcard::from_bytes::<(Vec<FileBefore>, Vec<CallEvent>)>(data) else {
        return;
    };
    let last = calls.len() as u64 + 1;
    let start = Start {
        argv: vec![b"made".to_vec()],
        pid: PID,
        ppid: 1,
        cwd: b"/work".to_vec(),
        umask: 0o022,
        ..Start::default()
    };
    let recording = Recording::of(Made {
        start,
        files,
        calls,
    });
    for event in (1..=last).step_by(1 + last as usize / 8).chain([last, 1]) {
        let nothing = FileChanges::new(1);
        let changed = recording.changed_files(event, &nothing);
        changed.expect("it can be read");
        let looked = recording.recorded_world(event, &nothing, |world, _| {
            for (path, id) in world.names() {
                let is_plain = path.starts_with(b"/")
                    && !path.split(|&byte| byte == b'/').any(|part| part == b"..");
                assert!(is_plain, "{}", path.escape_ascii());
                let Some(node) = id.and_then(|id| world.get(id)) else {
                    continue;
                };
                if let Kind::File(content) = &node.kind {
                    let mut end = 0;
                    for (at, len, _) in content.parts() {
                        assert!(at >= end && len <= content.len() - at);
                        end = at + len;
                    }
                }
            }
        });
        looked.expect("it can be read");
    }
}
