//! A second engine, written as a program outside of the library writes one. Its recording is a directory with an image of
//! the process at each event, so it goes anywhere at once and executes nothing on the way.

use crate::common::Folder;
use rrapper::history::{FileChanges, KernelChanges, Recording};
use rrapper::image::{self, FileId, FileStore, Image, KeptFile};
use rrapper::inject::{
    Action, Conditions, Finally, NoHooks, OnDivergence, Options, Outcome, Rule, RuleSet, Sandbox,
    Script, Selector, Status, When, inject, live,
};
use rrapper::kernel::DescriptorTable;
use rrapper::lua::{self, NoWatch};
use rrapper::process::{
    JumpPages, Process, SharedMemory, StopPoint, TaskAttributes, ThreadGroup, ThreadState,
    new_memory,
};
use rrapper::recording::{self, ChunkMemory, Event, Frame, Frames, NextFrame, Source, Start};
use rrapper::replay::{self, CheckpointLimits, Error, Output, Replay, add_engine};
use rrapper::syscall::Memory;
use rrapper::trace::Exit;
use rrapper::tracee::segv::SegvState;
use rrapper::tracee::tsc_off::TscOff;
use rrapper::tracee::{Regs, cpuid};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::{Arc, Once};

/// The file that marks a directory as a recording of this engine; it has all but the mapped files.
const CONTENTS: &str = "images";

/// The contents of a recording: its beginning, its frames, its end, and the process at each event.
type Contents = (Start, Vec<Frame>, Option<Exit>, Vec<Moment>);

/// The process at an event.
#[derive(Serialize, Deserialize)]
struct Moment {
    image: Image,
    regs: Vec<u64>,
    vector: Vec<u8>,
    at_entry: bool,
}

/// What the library reads of a recording.
struct Images {
    dir: PathBuf,
    start: Start,
    frames: Arc<[Frame]>,
    exit: Option<Exit>,
    len: u64,
}

impl Images {
    fn file(&self, id: FileId) -> PathBuf {
        self.dir.join(id.to_string())
    }
}

/// Frames from memory.
struct Remaining {
    frames: Arc<[Frame]>,
    next: usize,
}

impl NextFrame for Remaining {
    fn next_frame(&mut self) -> recording::Result<Option<Frame>> {
        self.next += 1;
        Ok(self.frames.get(self.next - 1).cloned())
    }
}

impl Source for Images {
    fn dir(&self) -> &Path {
        &self.dir
    }

    fn start(&self) -> &Start {
        &self.start
    }

    fn len(&self) -> u64 {
        self.len
    }

    fn exit(&self) -> Option<Exit> {
        self.exit
    }

    fn frames_from(&self, number: u64) -> recording::Result<Frames> {
        let frames = &self.frames;
        let events = frames.iter().enumerate();
        let mut events = events.filter(|(_, frame)| matches!(frame, Frame::Event(_)));
        // The frames behind the event before this one come first.
        let begin = match number {
            1 => Some(0),
            0 => None,
            _ if number > self.len() => None,
            _ => events.nth(number as usize - 2).map(|(at, _)| at + 1),
        };
        let next = begin.ok_or_else(|| recording::Error::NoSuchEvent {
            path: self.dir.clone(),
            event: number,
            last: self.len(),
        })?;
        let frames = Arc::clone(frames);
        Ok(Frames::new(Remaining { frames, next }))
    }

    fn file_path(&self, id: FileId) -> recording::Result<PathBuf> {
        Ok(self.file(id))
    }

    fn kept_as(&self, name: &[u8], _inode: u64) -> Option<(Vec<FileId>, PathBuf)> {
        let path = Path::new(std::ffi::OsStr::from_bytes(name));
        let id = path.file_name()?.to_str()?.parse().ok()?;
        (self.file(id) == path).then(|| (vec![id], self.file(id)))
    }
}

/// The engine.
struct ImageReplay {
    recording: Arc<Recording>,
    moments: Arc<Vec<Moment>>,
    position: Option<(u64, Event)>,
    output: Option<Output>,
}

fn open(dir: &Path) -> Option<replay::Result<Box<dyn Replay>>> {
    let bytes = fs::read(dir.join(CONTENTS)).ok()?;
    let contents = postcard::from_bytes::<Contents>(&bytes);
    let contents = contents.map_err(|error| Error::Engine(Box::new(error)));
    Some(contents.map(|(start, frames, exit, moments)| {
        let images = Images {
            dir: dir.to_path_buf(),
            start,
            frames: frames.into(),
            exit,
            len: moments.len() as u64,
        };
        let recording = Arc::new(Recording::of(images));
        Box::new(ImageReplay::new(recording, Arc::new(moments))) as Box<dyn Replay>
    }))
}

impl ImageReplay {
    fn new(recording: Arc<Recording>, moments: Arc<Vec<Moment>>) -> ImageReplay {
        ImageReplay {
            recording,
            moments,
            position: None,
            output: None,
        }
    }

    fn moment(&self, event: u64) -> &Moment {
        &self.moments[event as usize - 1]
    }
}

impl Replay for ImageReplay {
    fn recording(&self) -> &Arc<Recording> {
        &self.recording
    }

    fn another(&self) -> Box<dyn Replay> {
        let (recording, moments) = (Arc::clone(&self.recording), Arc::clone(&self.moments));
        Box::new(ImageReplay::new(recording, moments))
    }

    fn set_checkpoints(&mut self, _limits: CheckpointLimits) {}

    fn checkpoints(&self) -> Vec<u64> {
        Vec::new()
    }

    fn set_output(&mut self, output: Output) {
        self.output = Some(output);
    }

    fn replay_to(&mut self, event: u64) -> replay::Result<()> {
        self.position = Some((event, self.recording.event(event)?));
        Ok(())
    }

    fn run_to_end(&mut self) -> replay::Result<Option<Exit>> {
        let from = self.position.take().map_or(1, |(number, _)| number);
        let mut output = self.output.take();
        for next in self.recording.events_from(from)? {
            let (number, event) = next?;
            let written = event.call().filter(|call| call.name() == "write");
            if let (Some(call), Some(output)) = (written, &mut output) {
                let fd = call.args[0] as i32;
                let table = self.recording.descriptors_at(number, event.tid)?;
                let Some(stream) = table.and_then(|table| table.output_stream(fd)) else {
                    continue;
                };
                let mut data = vec![0; call.ret.map_or(0, |ret| ret.max(0)) as usize];
                ChunkMemory(&self.moment(number).image.pages).read(call.args[1], &mut data);
                output(stream, &data);
            }
        }
        self.output = output;
        Ok(self.recording.exit())
    }

    fn position(&self) -> Option<(u64, &Event)> {
        self.position
            .as_ref()
            .map(|(number, event)| (*number, event))
    }

    fn pid(&self) -> Option<i32> {
        self.position.as_ref().map(|(_, event)| event.tid)
    }

    fn processes(&self) -> BTreeMap<i32, Vec<i32>> {
        self.pid().map(|pid| (pid, vec![pid])).into_iter().collect()
    }

    fn descriptors(&self, tid: i32) -> Option<DescriptorTable> {
        let (number, _) = self.position()?;
        self.recording.descriptors_at(number, tid).ok()?
    }

    fn spin_off(&mut self, pid: Option<i32>) -> replay::Result<Process> {
        let (number, event) = self.position.clone().ok_or(Error::AtEnd)?;
        let tid = event.tid;
        if let Some(pid) = pid.filter(|&pid| pid != tid) {
            return Err(Error::NoSuchProcess {
                pid,
                event: number,
                there: tid.to_string(),
            });
        }
        let _off = TscOff::new();
        let moment = self.moment(number);
        let kept_file: KeptFile<'_> = &|id| self.recording.kept_file(id);
        let mut task = image::restore(&moment.image, kept_file)?;
        let mut remote = task.remote_at_boundary()?;
        cpuid::trap(&self.recording.start().cpuid, &mut remote)?;
        remote.finish()?;
        image::restore_signals(&mut task, &moment.image)?;
        let mut attributes = TaskAttributes::default();
        for before in self.recording.events_from(1)?.take(number as usize - 1) {
            let (_, event) = before?;
            let made = event
                .call()
                .filter(|call| call.ret.is_some_and(|ret| ret >= 0));
            if let Some(call) = made {
                attributes.follow(call.nr, &call.args, &task.memory());
            }
        }
        let words = moment.regs.as_slice().try_into();
        let state = ThreadState {
            tid,
            place: match moment.at_entry {
                true => StopPoint::Entry,
                false => StopPoint::Between,
            },
            regs: Regs::from_words(words.expect("registers")),
            vector: Some(moment.vector.clone()),
            sigmask: moment.image.sigmask,
            attributes,
            segv: SegvState::at_exec(moment.image.sigmask, moment.image.ignored),
        };
        let driven = state.give_to(task)?;
        let (program, ppid) = self.recording.process_tree_at(number, |tree| {
            (tree.program(tid).unwrap_or_default(), tree.ppid(tid))
        })?;
        let group = ThreadGroup {
            recording: Arc::clone(&self.recording),
            event: (number, event),
            program,
            pid: tid,
            ppid: ppid.unwrap_or(0),
            real_pid: driven.task.tid(),
            descriptors: self.descriptors(tid).unwrap_or_default(),
            changes: KernelChanges::new(number, tid),
            files: FileChanges::new(number),
            memory: new_memory(),
            shared: SharedMemory::default(),
            pages: Some(JumpPages::default()),
            retired: Vec::new(),
        };
        Ok(Process::alone(group, driven, Vec::new()))
    }
}

/// The kept copies of a recording, which are the files that its copies map.
struct KnownFiles<'a> {
    recording: &'a Recording,
    ids: BTreeSet<FileId>,
}

impl FileStore for KnownFiles<'_> {
    fn keep(&mut self, _file: &File, name: &[u8]) -> io::Result<FileId> {
        let is_it = |id: &&FileId| {
            let path = self.recording.file_path(**id);
            path.is_ok_and(|path| path.as_os_str().as_bytes() == name)
        };
        let known = self.ids.iter().find(is_it);
        known.copied().ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

/// Makes a recording of this engine from one of the embedded engine.
fn convert(from: &Path, to: &Path) {
    let mut replay = replay::open(from).unwrap();
    let recording = Arc::clone(replay.recording());
    let mut reader = recording.frames_from(1).unwrap();
    let mut frames = Vec::new();
    while let Some(frame) = reader.next_frame().unwrap() {
        frames.push(frame);
    }
    // Each file that is mapped has an event that says so.
    let mut ids = BTreeSet::new();
    for event in recording.events_from(1).unwrap() {
        match event.unwrap().1.call().map(|call| call.effect.clone()) {
            Some(recording::Effect::Map(id)) => ids.extend([id]),
            Some(recording::Effect::Exec(image)) => {
                ids.extend(image.mappings.iter().filter_map(|m| match m.backing {
                    image::Backing::File { file, .. } => Some(file),
                    _ => None,
                }));
            }
            _ => {}
        }
    }
    fs::create_dir(to).unwrap();
    for &id in &ids {
        fs::copy(recording.file_path(id).unwrap(), to.join(id.to_string())).unwrap();
    }
    let mut files = KnownFiles {
        recording: &recording,
        ids,
    };
    let moment = |number| {
        replay.replay_to(number).unwrap();
        let copy = replay.spin_off(None).unwrap();
        let task = &copy.driven.task;
        Moment {
            image: image::capture(task, &mut files).unwrap(),
            regs: task.regs().unwrap().to_words().to_vec(),
            vector: task.vector().unwrap(),
            at_entry: copy.driven.place == StopPoint::Entry,
        }
    };
    let contents: Contents = (
        recording.start().clone(),
        frames,
        recording.exit(),
        (1..=recording.len()).map(moment).collect(),
    );
    fs::write(to.join(CONTENTS), postcard::to_stdvec(&contents).unwrap()).unwrap();
}

/// A recording of `cat data` by the embedded engine (`rec`), and the same by this one (`images`).
fn record(folder: &Folder) -> [PathBuf; 2] {
    static ADDED: Once = Once::new();
    ADDED.call_once(|| add_engine(open));
    folder.write("data", "one\ntwo\n");
    folder.record("rec", &["cat", "data"]).ok();
    let both = ["rec", "images"].map(|name| folder.join(name));
    convert(&both[0], &both[1]);
    both
}

/// The processes that this thread has made.
fn children() -> String {
    fs::read_to_string("/proc/thread-self/children").unwrap()
}

/// The number of the first call with this name.
fn first(replay: &dyn Replay, name: &str) -> u64 {
    let mut events = replay.recording().events_from(1).unwrap();
    let wanted = |event: &Event| event.call().is_some_and(|call| call.name() == name);
    events
        .find_map(|event| event.ok().filter(|(_, event)| wanted(event)))
        .unwrap()
        .0
}

#[test]
fn a_recording_is_opened_by_the_engine_that_knows_it_without_a_process() {
    let folder = Folder::new();
    let recordings = record(&folder);
    let mut replays = recordings.clone().map(|dir| replay::open(&dir).unwrap());
    assert_eq!(children(), "");
    let limits = CheckpointLimits {
        count: 2,
        events: 5,
        ..CheckpointLimits::default()
    };
    for (dir, replay) in recordings.iter().zip(&mut replays) {
        assert_eq!(replay.recording().dir(), dir);
        assert_eq!(replay.position(), None);
        replay.set_checkpoints(limits.clone());
        replay.replay_to(12).unwrap();
    }
    let [embedded, other] = &replays;
    assert_ne!(embedded.checkpoints(), [0; 0]);
    assert_eq!(other.checkpoints(), [0; 0], "it keeps none");
    assert_eq!(embedded.position(), other.position());
    assert_eq!(embedded.pid(), other.pid());
    assert_eq!(embedded.processes(), other.processes());
    let outcomes = [embedded, other].map(|replay| Outcome::of_recording(&**replay).unwrap());
    assert_eq!(outcomes[1].stdout, b"one\ntwo\n");
    assert_eq!(outcomes[0].to_string(), outcomes[1].to_string());
    drop(replays);
    assert_eq!(children(), "");
    fs::write(recordings[1].join(CONTENTS), "").unwrap();
    let damaged = replay::open(&recordings[1]).map(|_| ());
    assert!(matches!(damaged, Err(Error::Engine(_))), "{damaged:?}");
}

/// A full disk at the first write.
fn full_disk(on_divergence: OnDivergence) -> RuleSet {
    let mut rule = Rule::new("write".into(), Selector::parse("write").unwrap());
    rule.conditions = Conditions::new(When::parse("1").unwrap(), None, None);
    rule.actions = vec![Action::Fail(libc::ENOSPC)];
    RuleSet::new(vec![rule]).on_divergence(on_divergence)
}

#[test]
fn its_copies_are_driven_through_the_recording_and_live() {
    let folder = Folder::new();
    for dir in record(&folder) {
        let mut replay = replay::open(&dir).unwrap();
        let write = first(&*replay, "write");
        for event in [1, first(&*replay, "read"), write] {
            replay.replay_to(event).unwrap();
            let copy = replay.spin_off(None).unwrap();
            let script = Script::of_recording(&copy).unwrap();
            let driven = inject(copy, script, &mut NoHooks, &Options::default()).unwrap();
            let outcome = driven.outcome;
            assert_eq!(outcome.divergence, None, "event {event}");
            assert_eq!(outcome.stdout, b"one\ntwo\n", "event {event}");
            assert_eq!(outcome.exit, Some(Exit::Code(0)), "event {event}");
        }
        // Another replay stands elsewhere, and its copies are others.
        let mut another = replay.another();
        assert_eq!(another.position(), None);
        another.replay_to(1).unwrap();
        assert_eq!(replay.position().map(|(number, _)| number), Some(write));
        let mut copies = [
            replay.spin_off(None).unwrap(),
            another.spin_off(None).unwrap(),
        ];
        assert_ne!(copies[0].real_pid(), copies[1].real_pid());
        assert_eq!(copies[0].driven.place, StopPoint::Entry);
        let twin = copies[0].fork().unwrap();
        let [at_write, _] = copies;
        drop((replay, another));
        let options = Options {
            finally: Finally::Live,
            sandbox: Sandbox::None,
            ..Options::default()
        };
        let script = Script::of_recording(&at_write).unwrap();
        let mut hooks = full_disk(OnDivergence::Live);
        let outcome = inject(at_write, script, &mut hooks, &options)
            .unwrap()
            .outcome;
        let complaint = "cat: write error: No space left on device\n";
        assert_eq!(String::from_utf8_lossy(&outcome.stderr), complaint);
        assert_eq!(
            (outcome.status, outcome.exit_code()),
            (Status::Exited, Some(1))
        );
        let outcome = live(twin, &mut NoHooks, &options).unwrap().outcome;
        assert_eq!(
            (outcome.stdout, outcome.status),
            (b"one\ntwo\n".to_vec(), Status::Exited)
        );
    }
    assert_eq!(children(), "");
}

/// A script whose error is all that it sees of a recording. A file that it opens would be open in the programs that other
/// tests start at the same time.
const SCRIPT: &str = r#"
local rec = rr.open(arg[1])
local said = {}
local function say(...)
    local words = {}
    for n = 1, select('#', ...) do words[n] = tostring((select(n, ...))) end
    said[#said + 1] = table.concat(words, "\t")
end
say(#rec, rec.complete, rec:outcome(), rec:outcome().stdout)
for event in rr.events{} do say(event.event, event, event.path) end
local read = rr.find{ syscall = "read", path = "*/data" }
local stop = rr.replay_to(read)
local regs = stop:regs()
local stack = stop:read(regs.rsp, 256)
say(stop, regs.rip, stack:gsub(".", function(c) return ("%02x"):format(c:byte()) end))
for fd = 0, 3 do say(fd, stop:fds()[fd].path) end
for _, frame in ipairs(stop:backtrace()) do say(frame) end
local function told(o)
    say(o.status, o.exit_code, o.stdout, o.stderr, #o.calls)
    for _, call in ipairs(o.calls) do say(call) end
end
told(spin_off():inject{})
told(spin_off():inject{ read = { fail = "EIO", when = "1" }, on_divergence = "live", finally = "live", sandbox = "none" })
rr.replay_to(rr.find{ syscall = "write" }.event)
told(spin_off():inject{ write = { fail = "ENOSPC", when = "1" }, on_divergence = "live", finally = "live", sandbox = "none" })
say(pcall(function() told(spin_off():inject{ write = { fail = "EDQUOT", when = "1" }, on_divergence = "live", finally = "live" }) end))
told(spin_off():live{ sandbox = "none" })
local behind = rr.find{ syscall = "exit_group" }
say(rr.replay_to(behind), pcall(spin_off, 1))
error(table.concat(said, "\n"), 0)
"#;

#[test]
fn scripts_drive_it_through_the_same_door() {
    let folder = Folder::new();
    let said = record(&folder).map(|dir| {
        let script = lua::Script {
            text: SCRIPT.into(),
            name: "engine.lua".into(),
            args: vec![dir.into_os_string()],
        };
        lua::run(&script, Rc::new(NoWatch)).unwrap_err().message
    });
    let [embedded, other] = &said;
    assert!(other.contains("No space left on device"), "{other}");
    assert!(other.contains("Input/output error"), "{other}");
    for (line, expected) in other.lines().zip(embedded.lines()) {
        assert_eq!(line, expected);
    }
    assert_eq!(other.len(), embedded.len());
    rrapper::sandbox::Sandboxes::of_thread().end();
    assert_eq!(children(), "");
}
