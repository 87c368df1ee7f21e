//! The recording on disk: what was written is read, from anywhere in it, at the price of what is asked for.

use crate::common::blocks::{Block, blocks, with_block, with_payload};
use crate::common::limits::{Chance, limited};
use crate::common::{Folder, RRAPPER};
use rrapper::history::Recording;
use rrapper::image::{Chunk, FileStore};
use rrapper::recording::{
    CallEvent, Effect, Event, EventKind, Frame, Reader, Start, Writer, list, pack,
};
use rrapper::trace::Exit;
use std::fs::{self, File};
use std::io::{Seek, SeekFrom};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::process::Stdio;

fn start() -> Frame {
    Frame::Start(Start {
        argv: vec![b"made".to_vec(), b"up".to_vec()],
        pid: 77,
        ppid: 1,
        cwd: b"/".to_vec(),
        descriptors: Vec::new(),
        cpu: 0,
        time: 1_700_000_000,
        cpuid: Default::default(),
        umask: 0o022,
        stdin: None,
        clocks: Default::default(),
    })
}

/// A call that can be told from others by its first argument, with this much memory.
fn call(number: u64, data: Vec<u8>) -> Frame {
    let outs = match data.is_empty() {
        true => Vec::new(),
        false => vec![Chunk { addr: 0x1000, data }],
    };
    Frame::Event(Event {
        tid: 77,
        kind: EventKind::Call(CallEvent {
            nr: libc::SYS_read as u32,
            args: [number, 0x1000, 0, 0, 0, 0],
            ip: 0x40_1000,
            ret: Some(0),
            ins: Vec::new(),
            outs,
            effect: Effect::None,
        }),
    })
}

fn end() -> Frame {
    Frame::End {
        exit: Exit::Code(3),
    }
}

fn number(event: &Event) -> u64 {
    event.call().expect("a call").args[0]
}

/// Bytes that do not compress.
fn noise(chance: &mut Chance, len: usize) -> Vec<u8> {
    (0..len).map(|_| chance.below(256) as u8).collect()
}

/// A recording of this many events with a few bytes each.
fn synthetic(dir: &Path, events: u64) {
    let mut chance = Chance(1);
    let mut writer = Writer::create(dir).unwrap();
    writer.write(&start()).unwrap();
    for n in 1..=events {
        let data = noise(&mut chance, 24);
        writer.write(&call(n, data)).unwrap();
    }
    writer.write(&end()).unwrap();
}

/// How many bytes this thread has read so far.
fn bytes_read() -> u64 {
    let io = fs::read_to_string("/proc/thread-self/io").unwrap();
    let line = io.lines().find_map(|line| line.strip_prefix("rchar: "));
    line.unwrap().parse().unwrap()
}

/// What something reads, and what comes of it.
fn reading<T>(what: impl FnOnce() -> T) -> (u64, T) {
    let before = bytes_read();
    let result = what();
    (bytes_read() - before, result)
}

const FEW: u64 = 1 << 19;

#[test]
fn opening_and_seeking_cost_the_same_in_a_recording_of_a_million_events() {
    const EVENTS: u64 = 1_000_000;
    let folder = Folder::new();
    let dir = folder.join("rec");
    synthetic(&dir, EVENTS);
    let size = fs::metadata(dir.join("events")).unwrap().len();
    assert!(size > 40 * FEW, "{size}: long enough to tell");
    let (opening, recording) = reading(|| Recording::open(&dir).unwrap());
    assert!(opening < FEW, "{opening} bytes to open it");
    assert_eq!(recording.len(), EVENTS);
    assert_eq!(recording.exit(), Some(Exit::Code(3)));
    assert_eq!(recording.start().argv[0], b"made");
    let mut chance = Chance(2);
    let edges = [1, 2, EVENTS - 1, EVENTS];
    let picked = (0..200).map(|_| 1 + chance.below(EVENTS as usize) as u64);
    for n in edges.into_iter().chain(picked) {
        let (cost, event) = reading(|| recording.event(n).unwrap());
        assert_eq!(number(&event), n);
        assert!(cost < FEW, "{cost} bytes for event {n}");
        let (cost, next) = reading(|| recording.events_from(n).unwrap().next());
        assert_eq!(next.unwrap().unwrap().0, n);
        assert!(cost < FEW, "{cost} bytes to go to event {n}");
    }
    let (again, event) = reading(|| recording.event(EVENTS / 2).unwrap());
    let (cached, same) = reading(|| recording.event(EVENTS / 2).unwrap());
    assert_eq!(event, same);
    assert!(cached < 1000 && again > cached, "{again}, then {cached}");
    for n in [0, EVENTS + 1, u64::MAX] {
        recording.event(n).unwrap_err();
        assert!(recording.frames_from(n).is_err());
    }
    // Without the index the heads of blocks are enough.
    fs::remove_file(dir.join("index")).unwrap();
    let (opening, recording) = reading(|| Recording::open(&dir).unwrap());
    assert!(
        opening < size / 20,
        "{opening} of {size} bytes without an index"
    );
    assert_eq!(recording.len(), EVENTS);
    assert_eq!(number(&recording.event(777_777).unwrap()), 777_777);
}

#[test]
fn a_wrong_index_misleads_nobody() {
    let folder = Folder::new();
    let (dir, other) = (folder.join("rec"), folder.join("other"));
    synthetic(&dir, 20_000);
    synthetic(&other, 5_000);
    let index = fs::read(dir.join("index")).unwrap();
    assert!(index.len() > 12 + 5 * 16, "several blocks");
    let mut chance = Chance(3);
    let mut wrong = vec![
        Vec::new(),
        index[..12].to_vec(),
        index[..40].to_vec(),
        index[..index.len() - 16].to_vec(),
        index[..index.len() - 7].to_vec(),
        [&index[..], &index[12..]].concat(),
        [&index[..], &[0xff; 64]].concat(),
        [&index[..12], &vec![0xff; index.len() - 12]].concat(),
        [&index[..12], &vec![0; index.len() - 12]].concat(),
        fs::read(other.join("index")).unwrap(),
        b"something else".to_vec(),
    ];
    for _ in 0..100 {
        let mut damaged = index.clone();
        damaged[chance.below(index.len())] ^= 1 << chance.below(8);
        wrong.push(damaged);
    }
    for (i, index) in wrong.iter().enumerate() {
        fs::write(dir.join("index"), index).unwrap();
        let recording = Recording::open(&dir).unwrap();
        assert_eq!(recording.len(), 20_000, "index {i}");
        assert!(recording.exit().is_some());
        for n in [1, 2, 1_000, 10_000, 19_999, 20_000] {
            assert_eq!(number(&recording.event(n).unwrap()), n, "index {i}");
        }
        let all = recording.events_from(19_000).unwrap();
        assert_eq!(all.map(Result::unwrap).count(), 1001, "index {i}");
    }
}

#[test]
fn what_leads_to_an_event_comes_before_it() {
    let folder = Folder::new();
    let dir = folder.join("rec");
    let mut chance = Chance(4);
    let mut writer = Writer::create(&dir).unwrap();
    let mut written = vec![start()];
    for n in 1..=3_000 {
        for _ in 0..chance.below(4) {
            let values = (0..chance.below(60) as u64).collect();
            written.push(Frame::Tsc { tid: n, values });
            written.push(Frame::Run { tid: n });
        }
        let len = chance.below(400);
        written.push(call(n as u64, noise(&mut chance, len)));
    }
    written.push(Frame::Run { tid: 1 });
    written.push(end());
    for frame in &written {
        writer.write(frame).unwrap();
    }
    drop(writer);
    assert!(blocks(&fs::read(dir.join("events")).unwrap()).len() > 4);
    let recording = Recording::open(&dir).unwrap();
    for n in 1..=3_000 {
        let mut frames = recording.frames_from(n).unwrap();
        let is_before = |frame: &Frame| match frame {
            Frame::Event(event) => number(event) == n - 1,
            Frame::Start(_) => n == 1,
            _ => false,
        };
        let from = 1 + written.iter().position(is_before).unwrap();
        for expected in &written[from..written.len().min(from + 12)] {
            assert_eq!(
                frames.next_frame().unwrap().as_ref(),
                Some(expected),
                "event {n}"
            );
        }
    }
    let mut frames = recording.frames_from(1).unwrap();
    for expected in &written[1..] {
        assert_eq!(frames.next_frame().unwrap().as_ref(), Some(expected));
    }
    assert_eq!(frames.next_frame().unwrap(), None);
}

/// Large events among small ones.
fn with_large_events(dir: &Path) -> Vec<Frame> {
    let mut chance = Chance(5);
    let half = noise(&mut chance, 1 << 20);
    let mut written = vec![start()];
    for (i, len) in [10, 1 << 20, (1 << 20) + 1, 100, 5 << 20, 40 << 20, 7]
        .into_iter()
        .enumerate()
    {
        let data = match len {
            // As dense as it gets.
            0x280_0000 => vec![0; len],
            _ => half.iter().copied().cycle().take(len).collect(),
        };
        written.push(call(i as u64 + 1, data));
    }
    written.push(end());
    let mut writer = Writer::create(dir).unwrap();
    for frame in &written {
        writer.write(frame).unwrap();
    }
    written
}

#[test]
fn large_events_go_through_several_blocks() {
    let folder = Folder::new();
    let dir = folder.join("rec");
    let written = with_large_events(&dir);
    let recording = Recording::open(&dir).unwrap();
    assert_eq!(recording.len(), 7);
    for n in (1..=7).chain([5, 6, 7, 1]) {
        let event = recording.event(n).unwrap();
        assert!(written[n as usize] == Frame::Event(event), "event {n}");
        let mut frames = recording.frames_from(n).unwrap();
        for expected in &written[n as usize..] {
            assert!(frames.next_frame().unwrap().as_ref() == Some(expected));
        }
        assert!(frames.next_frame().unwrap().is_none());
    }
    // Cut inside a large one, it ends before that.
    let events = fs::read(dir.join("events")).unwrap();
    let all = blocks(&events);
    let largest = all.iter().rposition(|block| block.left > 0).unwrap();
    for cut in [largest, largest - 20] {
        for inside in [0, 41] {
            let at = all[cut].at.start + inside;
            folder.write("rec/events", &events[..at]);
            let recording = Recording::open(&dir).unwrap();
            assert_eq!(recording.len(), 5, "cut at {at}");
            assert_eq!(recording.exit(), None);
            assert_eq!(number(&recording.event(5).unwrap()), 5);
        }
    }
}

#[test]
fn a_small_file_cannot_claim_a_large_event() {
    let folder = Folder::new();
    let dir = folder.join("rec");
    with_large_events(&dir);
    let events = fs::read(dir.join("events")).unwrap();
    // The zeros once more, as dense as zstd has them.
    let mut dense = events[..12].to_vec();
    for block in blocks(&events) {
        let compressed = zstd::bulk::compress(&block.payload, 1).unwrap();
        if compressed.len() < block.payload.len() {
            dense.extend(with_block(&block, &compressed, true));
        } else {
            dense.extend(with_block(&block, &block.payload, false));
        }
    }
    assert!(dense.len() < events.len());
    folder.write("rec/events", &dense);
    let recording = Recording::open(&dir).unwrap();
    let error = recording.event(6).unwrap_err().to_string();
    assert!(error.contains("256 times"), "{error}");
    assert_eq!(number(&recording.event(5).unwrap()), 5);
}

#[test]
fn heads_that_lie_are_errors() {
    let folder = Folder::new();
    let dir = folder.join("rec");
    synthetic(&dir, 20_000);
    let events = fs::read(dir.join("events")).unwrap();
    let all = blocks(&events);
    let second = &all[1];
    let lie = |change: &dyn Fn(&mut Block)| {
        let mut block = Block { ..second.clone() };
        change(&mut block);
        with_payload(&events, &block, &second.payload)
    };
    let mut zero_frame = second.payload.clone();
    zero_frame[..4].fill(0);
    let mut long_frame = second.payload.clone();
    long_frame[..4].copy_from_slice(&u32::MAX.to_le_bytes());
    let lies = [
        lie(&|block| block.count += 1),
        lie(&|block| block.count = u32::MAX),
        lie(&|block| block.first = 2),
        lie(&|block| block.first = u64::MAX - 5_000),
        lie(&|block| block.left = 100),
        lie(&|block| block.left = u32::MAX),
        lie(&|block| block.flags = 2),
        lie(&|block| block.flags = 4),
        with_payload(&events, second, &zero_frame),
        with_payload(&events, second, &long_frame),
    ];
    for (i, lie) in lies.iter().enumerate() {
        folder.write("rec/events", lie);
        for index in [true, false] {
            if !index {
                fs::rename(dir.join("index"), dir.join("files/index")).unwrap();
            }
            let Ok(recording) = Recording::open(&dir) else {
                panic!("lie {i}: the first block is whole")
            };
            let read = recording
                .events_from(1)
                .map(|all| all.collect::<Result<Vec<_>, _>>());
            let through = read.is_ok_and(|read| read.is_ok_and(|read| read.len() == 20_000));
            assert!(!through, "lie {i} is noticed");
            let _ = recording.event(recording.len());
            let _ = recording.event(100);
        }
        fs::rename(dir.join("files/index"), dir.join("index")).unwrap();
    }
}

#[test]
fn the_first_format_is_refused() {
    let folder = Folder::new();
    folder.record("rec", &["true"]).ok();
    let mut events = fs::read(folder.join("rec/events")).unwrap();
    events[8] = 1;
    folder.write("rec/events", &events);
    for command in ["replay", "events"] {
        folder.rrapper([command, "rec"]).complains(&[
            "rec",
            "format version 1",
            "record the program again",
        ]);
    }
}

fn inode(path: &Path) -> u64 {
    fs::metadata(path).unwrap().ino()
}

#[test]
fn a_content_is_kept_once() {
    let folder = Folder::new();
    let mut chance = Chance(6);
    let content = noise(&mut chance, 3_000_000);
    let mut other = content.clone();
    *other.last_mut().unwrap() ^= 1;
    let open = |name: &str, content: &[u8]| File::open(folder.write(name, content)).unwrap();
    let (a, b, c) = (open("a", &content), open("b", &content), open("c", &other));
    (&a).seek(SeekFrom::Start(5)).unwrap();
    let mut writer = Writer::create(&folder.join("rec")).unwrap();
    let files = writer.files();
    let [a_id, b_id, c_id, again] = [&a, &b, &c, &a].map(|file| files.keep(file, b"").unwrap());
    assert_eq!((&a).stream_position().unwrap(), 5, "the program's offset");
    assert_eq!(a_id, again);
    let path = |id: u32| folder.join(&format!("rec/files/{id}"));
    assert_eq!(fs::read(path(a_id)).unwrap(), content);
    assert_eq!(inode(&path(a_id)), inode(&path(b_id)));
    assert_ne!(inode(&path(a_id)), inode(&path(c_id)));
    assert_eq!(fs::read(path(c_id)).unwrap(), other);
    // Another content with the same size and, as far as anybody can tell, at the same time.
    let times = fs::metadata(folder.join("a")).unwrap().modified().unwrap();
    let writable = File::options().write(true).open(folder.join("a")).unwrap();
    writable.write_all_at(&other, 0).unwrap();
    writable.set_modified(times).unwrap();
    let changed = files.keep(&a, b"").unwrap();
    assert_ne!(a_id, changed);
    assert_eq!(fs::read(path(changed)).unwrap(), other);
    assert_eq!(fs::read(path(a_id)).unwrap(), content);
    // And what is found by its size is still what it was.
    let d = open("d", &content);
    let d_id = files.keep(&d, b"").unwrap();
    assert_eq!(fs::read(path(d_id)).unwrap(), content);
    assert_eq!(fs::read_dir(folder.join("rec/files")).unwrap().count(), 5);
}

#[test]
fn holes_are_kept_as_holes() {
    let folder = Folder::new();
    let file = File::create_new(folder.join("sparse")).unwrap();
    let len = 1 << 40;
    file.write_all_at(b"begin", 0).unwrap();
    file.write_all_at(b"middle", 1 << 33).unwrap();
    file.set_len(len).unwrap();
    let mut writer = Writer::create(&folder.join("rec")).unwrap();
    writer.write(&start()).unwrap();
    writer.write(&call(1, Vec::new())).unwrap();
    let file = File::open(folder.join("sparse")).unwrap();
    let id = writer.files().keep(&file, b"sparse").unwrap();
    drop(writer);
    let check = |kept: &File| {
        let meta = kept.metadata().unwrap();
        assert_eq!(meta.len(), len);
        assert!(meta.blocks() * 512 < 1 << 20, "{} blocks", meta.blocks());
        let mut middle = [0; 8];
        kept.read_exact_at(&mut middle, (1 << 33) - 1).unwrap();
        assert_eq!(&middle, b"\0middle\0");
    };
    check(&File::open(folder.join(&format!("rec/files/{id}"))).unwrap());
    let recording = Reader::open(&folder.join("rec")).unwrap();
    pack(&recording, &folder.join("rec.rrp")).unwrap();
    assert!(fs::metadata(folder.join("rec.rrp")).unwrap().len() < 1 << 16);
    let packed = Recording::open(&folder.join("rec.rrp")).unwrap();
    check(&File::open(packed.file_path(id).unwrap()).unwrap());
}

#[test]
fn a_packed_recording_is_used_like_any_other() {
    let folder = Folder::new();
    folder.write("data", "one\ntwo\n");
    let printed = folder.record("rec", &["wc", "data"]).ok().stdout;
    let listed = folder.rrapper(["events", "rec"]).ok().stdout;
    let done = folder.rrapper(["pack", "rec"]).ok();
    assert!(done.stderr.contains("rec.rrp"), "{}", done.stderr);
    folder
        .rrapper(["pack", "rec"])
        .complains(&["rec.rrp", "exists"]);
    folder
        .rrapper(["pack", "rec.rrp", "-o", "again"])
        .complains(&["packed already"]);
    fs::create_dir(folder.join("elsewhere")).unwrap();
    fs::rename(folder.join("rec.rrp"), folder.join("elsewhere/moved")).unwrap();
    fs::remove_dir_all(folder.join("rec")).unwrap();
    let moved = "elsewhere/moved";
    fs::create_dir(folder.join("temporary")).unwrap();
    let run = |args: &[&str]| {
        let mut command = folder.command(RRAPPER);
        command.args(args).env("TMPDIR", folder.join("temporary"));
        crate::common::Done::from(command.output().unwrap()).ok()
    };
    assert_eq!(run(&["replay", moved]).stdout, printed);
    assert_eq!(run(&["events", moved]).stdout, listed);
    folder.write(
        "s.lua",
        r#"
        local rec = rr.open "elsewhere/moved"
        local read = rec:find{ syscall = "read", path = "*/data" }
        local o = rec:replay_to(read):spin_off():inject{ read = { fail = "EIO", when = "1" }, on_divergence = "live", finally = "live" }
        print(o.status, o.stderr)
        "#,
    );
    let said = run(&["s.lua"]).text();
    assert!(
        said.contains("exited") && said.contains("Input/output error"),
        "{said}"
    );
    // Killed while files of it are unpacked, it leaves none.
    folder.write(
        "wait.lua",
        r#"
        rr.open("elsewhere/moved"):replay_to(20)
        print "there"
        io.stdout:flush()
        io.read()
        "#,
    );
    let mut child = folder
        .command(RRAPPER)
        .arg("wait.lua")
        .env("TMPDIR", folder.join("temporary"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    let mut out = std::io::BufReader::new(child.stdout.take().unwrap());
    std::io::BufRead::read_line(&mut out, &mut line).unwrap();
    let links = fs::read_dir(format!("/proc/{}/fd", child.id())).unwrap();
    let unpacked = links
        .filter_map(|link| fs::read_link(link.unwrap().path()).ok())
        .filter(|link| link.to_string_lossy().contains("deleted"))
        .count();
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(line, "there\n");
    assert!(unpacked > 0, "files of it were unpacked");
    let left = fs::read_dir(folder.join("temporary")).unwrap().count();
    assert_eq!(left, 0, "nothing is left");
}

#[test]
fn damaged_packed_recordings_are_errors() {
    let folder = Folder::new();
    folder.write("data", "one\ntwo\n");
    let printed = folder.record("rec", &["wc", "data"]).ok().stdout;
    folder.rrapper(["pack", "rec"]).ok();
    let whole = fs::read(folder.join("rec.rrp")).unwrap();
    let mut chance = Chance(7);
    for i in 0..200 {
        let mut damaged = whole.clone();
        match i % 4 {
            0 => damaged.truncate(chance.below(whole.len())),
            // The table and the trailer are short.
            1 => damaged[whole.len() - 1 - chance.below(200)] ^= 1 << chance.below(8),
            2 => damaged[chance.below(64)] ^= 1 << chance.below(8),
            _ => damaged[chance.below(whole.len())] ^= 1 << chance.below(8),
        }
        let path = folder.write("rec.rrp", damaged);
        if let Ok(recording) = Recording::open(&path) {
            for id in 0..10 {
                let _ = recording.file_path(id);
            }
            let _ = recording.events_from(1).map(Iterator::count);
        }
        if i % 10 == 3 {
            let done = limited(&folder, &["replay", "rec.rrp"]);
            crate::common::limits::is_sane(&done, &format!("damage {i}"));
            assert!(printed.starts_with(&done.stdout), "damage {i}");
        }
    }
    // What is wrong with a kept file is said.
    let head = whole.windows(4).position(|bytes| bytes == b"\x1ablk");
    let at = head.expect("a block");
    let mut damaged = whole;
    damaged[at + 60] ^= 1;
    folder.write("rec.rrp", damaged);
    limited(&folder, &["events", "rec.rrp"]).ok();
    limited(&folder, &["replay", "rec.rrp"]).complains(&["rec.rrp", "checksum"]);
}

#[test]
fn recordings_are_listed() {
    let folder = Folder::new();
    assert_eq!(folder.rrapper(["list"]).ok().text(), "");
    folder
        .rrapper(["-q", "record", "echo", "some", "words"])
        .ok();
    folder.rrapper(["-q", "record", "false"]);
    folder.rrapper(["-q", "record", "sh", "-c", "kill -9 $$"]);
    let text = folder.rrapper(["list"]).ok().text();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 4, "{text}");
    let named = |name: &str| *lines.iter().find(|line| line.starts_with(name)).unwrap();
    for part in ["20", "MiB", "exit 0", "echo some words"] {
        assert!(named("echo-0").contains(part), "{text}");
    }
    assert!(named("false-0").contains("exit 1"), "{text}");
    assert!(named("sh-0").contains("SIGKILL"), "{text}");
    // Cut, packed, of another version; and what is none.
    let dir = folder.join("data/rrapper");
    let events = fs::read(dir.join("echo-0/events")).unwrap();
    fs::write(dir.join("echo-0/events"), &events[..events.len() - 1]).unwrap();
    folder.rrapper(["pack", "false-0"]).ok();
    folder.write("notes", "of mine");
    fs::create_dir(folder.join("folder")).unwrap();
    let text = folder.rrapper(["list", "data/rrapper"]).ok().text();
    assert!(text.contains("incomplete"), "{text}");
    let text = folder.rrapper(["list", "."]).ok().text();
    assert_eq!(text.lines().count(), 2, "{text}");
    assert!(text.contains("false-0.rrp"), "{text}");
    let mut newer = events;
    newer[8] = 99;
    fs::write(dir.join("echo-0/events"), newer).unwrap();
    let text = folder.rrapper(["list"]).ok().text();
    assert!(
        text.contains("unreadable") && text.contains("version 99"),
        "{text}"
    );
    assert_eq!(list(&dir).unwrap().len(), 3);
    folder.rrapper(["list", "nowhere"]).complains(&["nowhere"]);
}

#[test]
fn only_recordings_are_removed() {
    use std::os::unix::fs::symlink;
    let folder = Folder::new();
    for _ in 0..3 {
        folder.rrapper(["-q", "record", "true"]).ok();
    }
    let latest = || fs::read_link(folder.join("data/rrapper/latest")).ok();
    folder.rrapper(["rm", "latest"]).ok();
    assert!(!folder.join("data/rrapper/true-2").exists());
    assert_eq!(latest().unwrap().to_str(), Some("true-1"));
    folder.rrapper(["rm", "true-0"]).ok();
    assert_eq!(latest().unwrap().to_str(), Some("true-1"));
    folder.rrapper(["rm", "true-1"]).ok();
    assert_eq!(latest(), None);
    assert_eq!(
        fs::read_dir(folder.join("data/rrapper")).unwrap().count(),
        0
    );
    // What is none, or holds more, stays as it is.
    let whole = |name: &str| folder.record(name, &["true"]).ok();
    whole("extra");
    folder.write("extra/notes", "of mine");
    whole("below");
    folder.write("below/files/notes", "of mine");
    whole("target");
    symlink("target", folder.join("link")).unwrap();
    whole("led-out");
    fs::remove_dir_all(folder.join("led-out/files")).unwrap();
    fs::create_dir(folder.join("precious")).unwrap();
    folder.write("precious/0", "of mine");
    symlink("../precious", folder.join("led-out/files")).unwrap();
    whole("led-in");
    fs::remove_file(folder.join("led-in/index")).unwrap();
    symlink("../precious/0", folder.join("led-in/index")).unwrap();
    folder.write("text", "of mine");
    fs::create_dir(folder.join("folder")).unwrap();
    let cases = [
        ("extra", "notes"),
        ("below", "notes"),
        ("link", "symbolic link"),
        ("led-out", "files"),
        ("led-in", "index"),
        ("text", "not a recording"),
        ("folder", "not a recording"),
        (".", "no name"),
        ("missing", "No such file"),
    ];
    for (name, why) in cases {
        folder.rrapper(["rm", name]).complains(&[why]);
    }
    for kept in [
        "extra/events",
        "extra/notes",
        "below/files/0",
        "target/events",
        "precious/0",
        "text",
        "link",
        "led-in/events",
    ] {
        assert!(folder.join(kept).symlink_metadata().is_ok(), "{kept}");
    }
    // One that is being made; and several at once.
    let mut recorder = folder
        .command(RRAPPER)
        .args(["-q", "record", "-o", "growing", "cat"])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    crate::common::limits::eventually("it begins", || {
        Recording::open(&folder.join("growing")).is_ok_and(|recording| recording.len() > 20)
    });
    let refused = folder.rrapper(["rm", "growing"]);
    let listed = folder.rrapper(["list", "."]).ok().text();
    drop(recorder.stdin.take());
    recorder.wait().unwrap();
    refused.complains(&["growing", "is being recorded"]);
    let line = listed.lines().find(|line| line.starts_with("growing"));
    assert!(
        line.is_some_and(|line| line.contains(" recording ")),
        "{listed}"
    );
    folder.rrapper(["-q", "pack", "growing"]).ok();
    folder
        .rrapper(["rm", "growing", "growing.rrp", "target"])
        .ok();
    for gone in ["growing", "growing.rrp", "target"] {
        assert!(!folder.join(gone).exists(), "{gone}");
    }
}
