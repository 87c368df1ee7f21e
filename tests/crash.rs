//! What a killed recorder leaves behind, and recordings that are cut, damaged or made to do harm.

use crate::common::blocks::{blocks, frames, with_payload};
use crate::common::limits::{Chance, eventually, is_alive, is_sane, limited};
use crate::common::{Folder, RRAPPER};
use rrapper::history::Recording;
use rrapper::image::{Backing, Chunk, Image, Mapping};
use rrapper::recording::{CallEvent, Effect, Event, EventKind, Frame, Start, StartFd, Writer};
use std::fs;
use std::io::{Read, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// A running recorder; a test that fails leaves it no more than one that does not.
struct Recorder(Child);

impl Drop for Recorder {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn record(folder: &Folder, name: &str, argv: &[&str]) -> Recorder {
    let mut command = folder.command(RRAPPER);
    command.args(["-q", "record", "-o", name, "--"]).args(argv);
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    Recorder(command.spawn().expect("the binary starts"))
}

/// Kills the command. Its children, which are the process that records and the program, die with it, a little later.
fn kill(mut recorder: Recorder) {
    // Waiting closes it, and what the program would read then may still be recorded.
    let _input = recorder.0.stdin.take();
    let front = recorder.0.id();
    let children = fs::read_to_string(format!("/proc/{front}/task/{front}/children")).unwrap();
    recorder.0.kill().unwrap();
    recorder.0.wait().unwrap();
    for child in children.split_whitespace() {
        let pid = child.parse().unwrap();
        eventually("a child dies with the command", || !is_alive(pid));
    }
}

const SPIN_OFF_AT_THE_END: &str = r#"
rr.open(arg and arg[1] or "rec")
local last
for event in rr.events{} do last = event.event end
local stop = rr.replay_to(last)
assert(stop.event == last)
local o = stop:spin_off():inject(nil, { timeout = 20 })
print(o.status, last)
"#;

/// Everything that must work with what a killed recorder left; returns what a replay prints.
#[track_caller]
fn is_usable(folder: &Folder, name: &str) -> Vec<u8> {
    let recording = Recording::open(&folder.join(name)).unwrap();
    assert_eq!(recording.exit(), None);
    let last = recording.len();
    let incomplete = format!("rrapper: the recording is incomplete: it ends at event {last}\n");
    let listed = folder.rrapper(["events", name]).ok();
    assert_eq!(listed.text().lines().count() as u64, last);
    assert_eq!(listed.stderr, incomplete);
    let replayed = limited(folder, &["replay", name]);
    assert_eq!(replayed.stderr, incomplete);
    assert_eq!(replayed.code, Some(2));
    folder.write("end.lua", SPIN_OFF_AT_THE_END);
    let spun = limited(folder, &["end.lua", name]).ok().text();
    assert_eq!(spun, format!("completed\t{last}\n"));
    replayed.stdout
}

#[test]
fn a_busy_program_whose_recorder_is_killed() {
    let folder = Folder::new();
    let program = folder.compile("reads", &[]);
    for (i, most) in [1, 2_000, 7_000, 20_000, 20_001].into_iter().enumerate() {
        let name = format!("rec{i}");
        let recorder = record(&folder, &name, &[&program, "100000000"]);
        eventually("the recording grows", || {
            Recording::open(&folder.join(&name)).is_ok_and(|recording| recording.len() >= most)
        });
        kill(recorder);
        assert_eq!(is_usable(&folder, &name), b"");
    }
}

#[test]
fn a_recorder_that_is_killed_as_it_starts() {
    let folder = Folder::new();
    let program = folder.compile("reads", &[]);
    for i in 0..20 {
        let name = format!("rec{i}");
        let recorder = record(&folder, &name, &[&program, "100000000"]);
        let dir = folder.join(&name);
        // A little later each time: nothing that can be waited for happens in between.
        eventually("the directory is made", || dir.exists());
        std::thread::sleep(Duration::from_millis(i * 2));
        kill(recorder);
        match Recording::open(&dir) {
            Ok(recording) => {
                let pid = recording.start().pid;
                eventually("the program dies with its recorder", || !is_alive(pid));
                if recording.is_empty() {
                    limited(&folder, &["replay", &name]).complains(&[&name]);
                } else {
                    is_usable(&folder, &name);
                }
            }
            Err(_) => {
                limited(&folder, &["replay", &name]).complains(&[&name, "not a recording"]);
            }
        }
    }
}

#[test]
fn a_blocked_program_whose_recorder_is_killed() {
    let folder = Folder::new();
    let mut recorder = record(&folder, "rec", &["cat"]);
    recorder
        .0
        .stdin
        .as_mut()
        .unwrap()
        .write_all(b"so far\n")
        .unwrap();
    let mut so_far = [0; 7];
    recorder
        .0
        .stdout
        .as_mut()
        .unwrap()
        .read_exact(&mut so_far)
        .unwrap();
    eventually("the write is on disk although the program blocks", || {
        let last = |recording: Recording| recording.event(recording.len()).ok();
        let last = Recording::open(&folder.join("rec")).ok().and_then(last);
        last.is_some_and(|event| event.call().is_some_and(|call| call.name() == "write"))
    });
    kill(recorder);
    assert_eq!(is_usable(&folder, "rec"), b"so far\n");
}

/// A recording of a short program, what it printed, and the bytes of its `events`.
fn short(folder: &Folder) -> (Vec<u8>, Vec<u8>) {
    folder.write("data", "one\ntwo\n");
    let printed = folder.record("rec", &["wc", "data"]).ok().stdout;
    (printed, fs::read(folder.join("rec/events")).unwrap())
}

/// The offsets of blocks, and of the end.
fn borders(events: &[u8]) -> Vec<usize> {
    let ends = blocks(events).into_iter().map(|block| block.at.end);
    std::iter::once(12).chain(ends).collect()
}

/// Opens it and reads it all: how many events there are.
fn read_all(dir: &Path) -> Option<u64> {
    let recording = std::sync::Arc::new(Recording::open(dir).ok()?);
    let mut count = 0;
    if !recording.is_empty() {
        for event in recording.events_from(1).ok()? {
            let Ok((number, event)) = event else { break };
            count += 1;
            assert_eq!(number, count);
            // Printing decodes arguments and memory.
            let _ = event.to_entry(number).to_string();
        }
    }
    Some(recording.len())
}

#[test]
fn a_recording_cut_anywhere_is_a_shorter_one_or_none() {
    let folder = Folder::new();
    let (printed, events) = short(&folder);
    let dir = folder.join("rec");
    let whole = read_all(&dir).unwrap();
    let borders = borders(&events);
    let spread = (0..200).map(|i| events.len() * i / 200);
    let around = borders
        .iter()
        .flat_map(|&at| [at - 1, at, at + 1, at + 39, at + 40, at + 41]);
    let mut cuts: Vec<usize> = (0..200)
        .chain(around)
        .chain(spread)
        .filter(|&at| at < events.len())
        .collect();
    cuts.sort_unstable();
    cuts.dedup();
    let mut before = 0;
    for &cut in &cuts {
        folder.write("rec/events", &events[..cut]);
        let found = read_all(&dir);
        assert_eq!(found.is_some(), cut >= borders[1], "cut at {cut}");
        let found = found.unwrap_or(0);
        assert!(found >= before && found <= whole, "cut at {cut}");
        before = found;
    }
    assert_eq!(before, whole);
    for cut in cuts.iter().step_by(cuts.len() / 24) {
        folder.write("rec/events", &events[..*cut]);
        let replayed = limited(&folder, &["replay", "rec"]);
        assert!(printed.starts_with(&replayed.stdout), "cut at {cut}");
        replayed.complains(&[]);
        let listed = limited(&folder, &["events", "rec"]);
        assert!(matches!(listed.code, Some(0 | 2)), "cut at {cut}");
        assert!(
            listed.stderr.starts_with("rrapper: "),
            "cut at {cut}: {}",
            listed.stderr
        );
    }
}

fn names(folder: &Folder) -> Vec<String> {
    let entries = fs::read_dir(folder.path())
        .unwrap()
        .chain(fs::read_dir(folder.join("rec")).unwrap());
    let mut names: Vec<String> = entries
        .map(|entry| entry.unwrap().path().display().to_string())
        .collect();
    names.sort();
    names
}

#[test]
fn flipped_bits_are_noticed() {
    let folder = Folder::new();
    let (printed, events) = short(&folder);
    let dir = folder.join("rec");
    let before = names(&folder);
    let whole = read_all(&dir).unwrap();
    let mut chance = Chance(1);
    for i in 0..400 {
        let at = if i < 100 {
            chance.below(200)
        } else {
            chance.below(events.len())
        };
        let mut damaged = events.clone();
        damaged[at] ^= 1 << chance.below(8);
        folder.write("rec/events", &damaged);
        assert!(
            read_all(&dir).is_none_or(|found| found <= whole),
            "flipped at {at}"
        );
        if i % 20 == 0 {
            let replayed = limited(&folder, &["replay", "rec"]);
            is_sane(&replayed, &format!("flipped at {at}"));
            assert!(printed.starts_with(&replayed.stdout), "flipped at {at}");
        }
    }
    assert_eq!(names(&folder), before, "nothing was written");
}

#[test]
fn damage_behind_a_right_checksum_breaks_nothing() {
    let folder = Folder::new();
    let (_, events) = short(&folder);
    let dir = folder.join("rec");
    let before = names(&folder);
    let blocks = blocks(&events);
    let mut places: Vec<_> = blocks
        .iter()
        .flat_map(|block| frames(block).into_iter().map(move |frame| (block, frame)))
        .collect();
    // All but the end, which says what the exit status is.
    places.pop();
    let mut chance = Chance(2);
    for i in 0..400 {
        // Where bytes are many and few: the image is the second frame.
        let frame = if i % 4 == 0 {
            1
        } else {
            chance.below(places.len())
        };
        let (block, range) = &places[frame];
        let mut payload = block.payload.clone();
        // An image begins with what is most delicate.
        let at = chance.below(range.len().min(2000));
        let byte = chance.below(256) as u8;
        payload[range.start + at] = byte;
        let damaged = with_payload(&events, block, &payload);
        folder.write("rec/events", &damaged);
        let what = format!("frame {frame}, byte {at} is {byte}");
        read_all(&dir);
        if i % 8 == 0 {
            is_sane(&limited(&folder, &["replay", "rec"]), &what);
            is_sane(&limited(&folder, &["-q", "events", "rec"]), &what);
        }
    }
    assert_eq!(names(&folder), before, "nothing was written");
}

#[test]
fn kept_files_that_are_not_what_they_were() {
    let folder = Folder::new();
    short(&folder);
    let file = folder.join("rec/files/1");
    let content = fs::read(&file).unwrap();
    let replace = |content: &[u8]| {
        // Kept files are read-only, which stops all but root.
        fs::remove_file(&file).unwrap();
        fs::write(&file, content).unwrap();
    };
    replace(&content[..content.len() / 2]);
    limited(&folder, &["replay", "rec"]).complains(&[]);
    replace(b"");
    limited(&folder, &["replay", "rec"]).complains(&[]);
    fs::remove_file(&file).unwrap();
    limited(&folder, &["replay", "rec"]).complains(&["files/1", "No such file"]);
    fs::create_dir(&file).unwrap();
    limited(&folder, &["replay", "rec"]).complains(&[]);
    fs::remove_dir(&file).unwrap();
    // What would wait for somebody to write.
    let fifo = |path: &Path| assert!(Command::new("mkfifo").arg(path).status().unwrap().success());
    fifo(&file);
    limited(&folder, &["replay", "rec"]).complains(&[]);
    fs::remove_file(folder.join("rec/events")).unwrap();
    fifo(&folder.join("rec/events"));
    limited(&folder, &["replay", "rec"]).complains(&["not a recording"]);
}

fn an_image() -> Image {
    Image {
        exe: b"/bin/true".to_vec(),
        mappings: vec![Mapping {
            start: 0x40_0000,
            end: 0x40_1000,
            prot: libc::PROT_READ | libc::PROT_EXEC,
            backing: Backing::Anonymous,
            name: Vec::new(),
        }],
        pages: Vec::new(),
        layout: Default::default(),
        brk: 0,
        regs: vec![0; 27],
        sigmask: 0,
        ignored: 0,
        stack_limit: 8 << 20,
    }
}

fn write(dir: &Path, image: Image) {
    let mut writer = Writer::create(dir).unwrap();
    writer
        .write(&Frame::Start(Start {
            argv: vec![b"true".to_vec()],
            pid: 77,
            ppid: 1,
            cwd: b"/".to_vec(),
            descriptors: vec![StartFd {
                twin: None,
                moves: false,
                fd: 1,
                path: b"/dev/null".to_vec(),
                offset: u64::MAX,
                flags: -1,
            }],
            cpu: u32::MAX,
            time: u64::MAX,
            cpuid: Default::default(),
            umask: 0o022,
            stdin: None,
            clocks: Default::default(),
        }))
        .unwrap();
    let call = |nr: u32, effect: Effect| {
        Frame::Event(Event {
            tid: 77,
            kind: EventKind::Call(CallEvent {
                nr,
                args: [0; 6],
                ip: 0,
                ret: Some(0),
                ins: Vec::new(),
                outs: Vec::new(),
                effect,
            }),
        })
    };
    writer
        .write(&call(
            libc::SYS_execve as u32,
            Effect::Exec(Box::new(image)),
        ))
        .unwrap();
    writer
        .write(&call(libc::SYS_getpid as u32, Effect::None))
        .unwrap();
}

#[test]
fn images_that_no_process_can_have_are_errors() {
    let folder = Folder::new();
    let top = 0x7fff_ffff_f000;
    let mapping = |start: u64, end: u64| {
        move |image: &mut Image| {
            image.mappings[0].start = start;
            image.mappings[0].end = end;
        }
    };
    type Change = Box<dyn Fn(&mut Image)>;
    let cases: Vec<(&str, Change)> = vec![
        ("reversed", Box::new(mapping(0x40_1000, 0x40_0000))),
        ("empty", Box::new(mapping(0x40_0000, 0x40_0000))),
        ("unaligned", Box::new(mapping(0x40_0001, 0x40_1001))),
        ("everything", Box::new(mapping(0, top))),
        ("huge", Box::new(mapping(0x10_0000, top - 0x10_0000))),
        (
            "kernel",
            Box::new(mapping(0xffff_8000_0000_0000, 0xffff_8000_0000_1000)),
        ),
        ("around", Box::new(mapping(u64::MAX - 0xfff, 0))),
        ("no-registers", Box::new(|image| image.regs.clear())),
        ("few-registers", Box::new(|image| image.regs.truncate(26))),
        (
            "wild-registers",
            Box::new(|image| image.regs = vec![u64::MAX; 27]),
        ),
        ("no-code", Box::new(|image| image.mappings.clear())),
        ("zero-code", Box::new(|_| {})),
        ("wild-prot", Box::new(|image| image.mappings[0].prot = -1)),
        (
            "no-file",
            Box::new(|image| {
                image.mappings[0].backing = Backing::File {
                    file: u32::MAX,
                    offset: u64::MAX,
                }
            }),
        ),
        (
            "page-nowhere",
            Box::new(|image| {
                image.pages.push(Chunk {
                    addr: 0x1000,
                    data: vec![1; 4096],
                })
            }),
        ),
        (
            "page-in-kernel",
            Box::new(|image| {
                image.pages.push(Chunk {
                    addr: u64::MAX - 10,
                    data: vec![1; 4096],
                })
            }),
        ),
        ("wild-brk", Box::new(|image| image.brk = u64::MAX)),
        (
            "many",
            Box::new(|image| {
                let one = image.mappings[0].clone();
                image.mappings = (0..70_000)
                    .map(|i| Mapping {
                        start: 0x40_0000 + i * 0x2000,
                        end: 0x40_1000 + i * 0x2000,
                        ..one.clone()
                    })
                    .collect();
            }),
        ),
        (
            "overlapping",
            Box::new(|image| {
                let one = image.mappings[0].clone();
                image.mappings = vec![one; 3];
            }),
        ),
        (
            "wild-signals",
            Box::new(|image| (image.sigmask, image.ignored) = (u64::MAX, u64::MAX)),
        ),
        (
            "long-name",
            Box::new(|image| image.exe = vec![b'x'; 1 << 20]),
        ),
    ];
    for (name, change) in cases {
        let mut image = an_image();
        change(&mut image);
        write(&folder.join(name), image);
        let done = limited(&folder, &["replay", name]);
        eprintln!("{name}: {}", done.stderr.trim_end());
        done.complains(&[]);
        let listed = limited(&folder, &["-q", "events", name]).ok();
        assert_eq!(listed.text().lines().count(), 2, "{name}");
    }
}
