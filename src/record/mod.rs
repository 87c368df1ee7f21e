//! The embedded recorder: runs a program under trace and records all results that could differ in another run.
//!
//! One task runs at a time (`schedule`). The inputs of a call are recorded at its entry, and its outputs at its exit
//! (`calls`); the syscall table has the memory of both.

mod addresses;
mod affinity;
mod calls;
mod cross_memory;
mod data_transfers;
mod descriptor_effects;
mod discarded;
mod error;
mod failed_calls;
mod files_before;
mod mapped_files;
mod messages;
mod observer;
mod packet_rings;
mod polling;
mod preempt;
mod proc_mem;
mod program;
mod replace_instructions;
mod schedule;
mod seccomp_filters;
mod separate_process;
mod shared_memory;
mod shutdown;
mod signals;
mod spin_points;
mod stack_limit;
mod task;
mod task_lifetime;
mod unknown_calls;
mod unsized_outputs;
mod warnings;

pub use crate::recording::OnFull;
pub use discarded::Discard;
pub use error::{Error, Result};
pub use files_before::KeptFiles;
pub use observer::{Observed, Observer};
pub use program::{Program, ProgramError};
pub use separate_process::{Ended, Front, GRACE, record_in_separate_process};

use crate::cpuid;
use crate::image::{FileId, FileStore};
use crate::kernel::ProcessTree;
use crate::recording::{Frame, KeptLimits, Reader, Start, StartClocks, StartFd, Writer};
use crate::trace::Exit;
use crate::tracee::ticker::Ticker;
use crate::tracee::tsc_off::{TscOff, with_tsc};
use crate::tracee::{Command, KillOnDrop, Kin, Running, Stdin, Stopped, kcmp, pin, proc, spawn};
use discarded::View;
use files_before::FilesBefore;
use mapped_files::{FileKey, MappedFile};
use messages::FrontLink;
use nix::time::{ClockId, clock_gettime};
use packet_rings::PacketRings;
use shared_memory::{Object, ObjectKey};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::fs::File;
use std::path::PathBuf;
use std::time::{Duration, Instant};
use task::Task;
use warnings::Warnings;

/// The program to record, and the options of the recording.
pub struct Options {
    /// The program.
    pub command: Command,
    /// The directory for the recording; must not exist or be empty.
    pub dir: PathBuf,
    /// The behaviour on a full disk.
    pub on_full: OnFull,
    /// Called with the program's pid once it is about to start.
    pub on_start: Option<Box<dyn FnOnce(i32)>>,
    /// Called whenever an event has been written after which its task continues.
    pub observer: Option<Observer>,
    /// True if the recording ends with the last process rather than with the program. Otherwise the processes that the
    /// program leaves behind are ended.
    pub wait_all: bool,
    /// True if the recording shares its copies of mapped files with no other recording.
    pub alone: bool,
    /// The files of which the content before the recording is kept.
    pub kept: KeptFiles,
    /// The sandbox in which the program runs, if it is not to change the machine's files.
    pub discard: Option<Discard>,
    /// The limits on them.
    pub kept_limits: KeptLimits,
}

impl Options {
    /// A recording of this program in this directory, which ends with the program and shares no files with other
    /// recordings. A full disk ends the program.
    pub fn new(command: Command, dir: PathBuf) -> Options {
        Options {
            command,
            dir,
            on_full: OnFull::Stop,
            on_start: None,
            observer: None,
            wait_all: false,
            alone: true,
            kept: KeptFiles::default(),
            discard: None,
            kept_limits: KeptLimits::default(),
        }
    }
}

/// A finished recording.
#[derive(Debug)]
pub struct Recorded {
    /// Its directory, as an absolute path.
    pub dir: PathBuf,
    /// The end of the program.
    pub exit: Exit,
    /// The number of events.
    pub events: u64,
    /// The reason why the recording ends before the program, with [`OnFull::Continue`].
    pub lost: Option<String>,
    /// The processes that the program left behind and that were ended: names and pids.
    pub left: Vec<String>,
}

impl Recorded {
    /// A sentence about the processes that the program left behind, if any.
    pub fn leftovers(&self) -> Option<String> {
        let all = match self.left.as_slice() {
            [] => return None,
            [one] => format!("a process behind ({one}), which was"),
            several => format!(
                "{} processes behind ({}), which were",
                several.len(),
                several.join(", ")
            ),
        };
        Some(format!("the program left {all} ended with it"))
    }
}

/// Records a program from its start to its end in this process: a signal that ends it ends the recording. See also
/// [`record_in_separate_process`].
///
/// # Errors
/// If the program cannot be started, does something that cannot be recorded yet (it is killed then, and the recording
/// up to there stays), or the recording cannot be written.
pub fn record(options: Options) -> Result<Recorded> {
    record_as(options, Kin::Child, None)
}

fn record_as(options: Options, kin: Kin, front: Option<FrontLink>) -> Result<Recorded> {
    let _tsc_off = TscOff::new();
    let Options {
        mut command,
        dir,
        on_full,
        on_start,
        observer,
        wait_all,
        alone,
        kept,
        discard,
        kept_limits,
    } = options;
    let exe = command.exe.clone();
    let argv = command.argv.clone();
    let cpus = pin::cpus_before();
    // The writer's threads use the other CPUs, since recorder and program share one.
    let mut writer = Writer::create_with(&dir, on_full, move || pin::spread(&cpus))?;
    if alone {
        writer.files().keep_alone();
    }
    let stdin = keep_input(&mut writer, &mut command)?;
    let view = match enter_sandbox(discard.as_ref(), &mut command, front.as_ref()) {
        Ok(view) => view,
        Err(error) => {
            writer.discard();
            return Err(error);
        }
    };
    let mut task = match spawn::start_as(command, kin) {
        Ok(task) => task,
        Err(error) => {
            writer.discard();
            return Err(error.into());
        }
    };
    let pid = task.tid();
    if let Some(front) = &front {
        front.begin(pid);
    }
    if let Some(on_start) = on_start {
        on_start(pid);
    }
    let start = describe_start(&task, argv, stdin)?;
    let mut family = ProcessTree::at_start(&start);
    if proc::has_no_new_privs(std::process::id() as i32)? {
        family.has_no_new_privs(pid);
    }
    let cpuid = start.cpuid.clone();
    writer.write(&Frame::Start(start.clone()))?;
    let alive = KillOnDrop::of(pid);
    task.announce_end()?;
    task.release();
    let before = FilesBefore::new(kept, kept_limits, writer.dir(), view.clone());
    let mut recorder = Recorder {
        alive,
        writer,
        first: pid,
        exe,
        cpuid,
        family,
        observer,
        tasks: BTreeMap::new(),
        queue: VecDeque::new(),
        beside: None,
        dead: Vec::new(),
        early: HashMap::new(),
        ticker: Ticker::new()?,
        slice: 0,
        mapped: HashMap::new(),
        aside: Vec::new(),
        objects: HashMap::new(),
        last_object: 0,
        spaces: HashMap::new(),
        searched: replace_instructions::Searched::default(),
        no_points: false,
        last_space: 0,
        hidden: BTreeSet::new(),
        executed: false,
        warnings: Warnings::default(),
        rings: PacketRings::default(),
        exit: None,
        front,
        wait_all,
        everyone: HashSet::from([pid]),
        received: Vec::new(),
        stopped: false,
        leftovers: None,
        left: Vec::new(),
        before,
        view,
        named_sockets: HashSet::new(),
    };
    recorder.first_job_control(pid)?;
    recorder.look_at_first(&start)?;
    let outcome = recorder.run(Task::new(pid, pid, 0), task);
    recorder.close(outcome)
}

/// Makes the sandbox that the program runs in, if it is to have one, and runs the setup commands in it.
fn enter_sandbox(
    discard: Option<&Discard>,
    command: &mut Command,
    front: Option<&FrontLink>,
) -> Result<View> {
    let Some(discard) = discard else {
        return Ok(View::default());
    };
    let view = View::of_sandbox(discard, command)?;
    for text in &discard.setup {
        view.set_up(text, command, front)?;
    }
    match command.cwd.as_ref().filter(|dir| !view.finds(dir)) {
        Some(dir) => Err(Error::NoDirectory { dir: dir.clone() }),
        None => Ok(view),
    }
}

/// Keeps a copy of the program's standard input, from which spun-off processes read the rest.
fn keep_input(writer: &mut Writer, command: &mut Command) -> Result<Option<FileId>> {
    let Stdin::Bytes(bytes) = &command.stdin else {
        return Ok(None);
    };
    let file = File::from(spawn::memfd("stdin", bytes)?);
    let kept = writer.files().keep(&file, b"standard input");
    let kept = kept.map_err(|source| Error::Keep {
        path: String::from("its standard input"),
        event: 1,
        source,
    })?;
    command.stdin = Stdin::File(file);
    Ok(Some(kept))
}

fn describe_start(task: &Stopped, argv: Vec<Vec<u8>>, stdin: Option<FileId>) -> Result<Start> {
    let tid = task.tid();
    let mut descriptors: Vec<StartFd> = Vec::new();
    let kept = proc::descriptors(tid)?.into_iter();
    for d in kept.filter(|d| d.flags & libc::O_CLOEXEC == 0) {
        let shares = |other: &&StartFd| {
            other.path == d.path && kcmp::share_file((tid, other.fd), (tid, d.fd)) == Some(true)
        };
        descriptors.push(StartFd {
            fd: d.fd,
            moves: descriptor_effects::moves(tid, &d),
            twin: descriptors.iter().find(shares).map(|other| other.fd),
            path: d.path,
            offset: d.offset,
            flags: d.flags,
        });
    }
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    Ok(Start {
        argv,
        pid: tid,
        ppid: proc::parent(tid)?,
        cwd: proc::cwd(tid)?,
        descriptors,
        cpu: pin::this_thread()?.cpu as u32,
        time: now.map_or(0, |d| d.as_secs()),
        clocks: clocks(),
        cpuid: cpuid::Table::here(),
        stdin,
        umask: proc::umask(tid)?,
    })
}

fn clocks() -> StartClocks {
    let now = |clock| {
        let now = with_tsc(|| clock_gettime(clock)).map(Duration::from);
        now.map_or(0, |now| i64::try_from(now.as_nanos()).unwrap_or(i64::MAX))
    };
    StartClocks {
        realtime: now(ClockId::CLOCK_REALTIME),
        monotonic: now(ClockId::CLOCK_MONOTONIC),
        boottime: now(ClockId::CLOCK_BOOTTIME),
    }
}

struct Recorder {
    alive: KillOnDrop,
    writer: Writer,
    /// The results of `cpuid`.
    cpuid: cpuid::Table,
    /// The program's pid.
    first: i32,
    exe: PathBuf,
    family: ProcessTree,
    observer: Option<Observer>,
    /// All tasks but the running one.
    tasks: BTreeMap<i32, Task>,
    /// The tasks that can be resumed, in the order of their turns.
    queue: VecDeque<i32>,
    /// The running task and its address space, while the ends of other tasks are written.
    beside: Option<(i32, u32)>,
    /// Ended tasks whose ends have not been written yet.
    dead: Vec<(i32, Exit)>,
    /// The first wait statuses of tasks whose parents' clone events have not come yet.
    early: HashMap<i32, i32>,
    ticker: Ticker,
    /// The tick at which the running task's turn began.
    slice: u64,
    /// Files that a program has mapped.
    mapped: HashMap<FileKey, MappedFile>,
    /// Frames to write behind the next event.
    aside: Vec<Frame>,
    objects: HashMap<ObjectKey, Object>,
    last_object: u32,
    /// Address spaces in which a task was preempted.
    spaces: HashMap<u32, preempt::AddressSpace>,
    /// Files that have been searched for instructions to replace.
    searched: replace_instructions::Searched,
    /// True if this machine provides no debug registers.
    no_points: bool,
    last_space: u32,
    /// Processes that made themselves undumpable.
    hidden: BTreeSet<u32>,
    /// True if the program has been executed at all.
    executed: bool,
    /// The warnings given so far.
    warnings: Warnings,
    rings: PacketRings,
    /// The end of the program itself.
    exit: Option<Exit>,
    /// The link to the front, if the recorder is a separate process.
    front: Option<FrontLink>,
    wait_all: bool,
    /// The tids of all tasks so far.
    everyone: HashSet<i32>,
    /// Signals that came to the program: number, sender, time.
    received: Vec<(i32, i32, Instant)>,
    /// True if job control has stopped the program.
    stopped: bool,
    leftovers: Option<shutdown::Leftovers>,
    /// The names of ended leftovers.
    left: Vec<String>,
    /// The files before the recording.
    before: FilesBefore,
    /// The files as the program sees them.
    view: View,
    /// The numbers of the open files of datagram sockets that have sent something to an address.
    named_sockets: HashSet<u64>,
}

impl Recorder {
    /// Writes the end of the recording, or cleans up after an error.
    fn close(mut self, outcome: Result<()>) -> Result<Recorded> {
        // New tasks whose clone events never came would outlive the recorder.
        for (tid, status) in std::mem::take(&mut self.early) {
            drop(Running::adopt(tid).decode_status(status));
        }
        drop(std::mem::take(&mut self.alive));
        let exit = self.exit.unwrap_or(Exit::Code(0));
        let outcome = outcome.and_then(|()| Ok(self.writer.write(&Frame::End { exit })?));
        let flushed = self.writer.flush();
        let dir = self.writer.dir().to_path_buf();
        if !self.executed {
            self.writer.discard();
            return Err(outcome.err().unwrap_or(Error::NotStarted { exe: self.exe }));
        }
        let lost = self.writer.lost().map(ToString::to_string);
        let mut events = self.writer.events();
        drop(self.writer);
        let outcome = outcome.and(flushed.map_err(Error::from));
        let is_full = outcome.as_ref().is_err_and(Error::is_full);
        if is_full || lost.is_some() {
            // Events not yet written are lost.
            events = Reader::open(&dir).map_or(0, |recording| recording.len());
        }
        match outcome {
            Ok(()) => Ok(Recorded {
                dir,
                exit,
                events,
                lost,
                left: self.left,
            }),
            Err(source) if is_full => Err(Error::Full {
                source: Box::new(source),
                events,
                dir,
            }),
            Err(other) => Err(other),
        }
    }

    fn new_space(&mut self) -> u32 {
        self.last_space += 1;
        self.last_space
    }

    /// The mappings of a task that is not running; none where it has been killed.
    fn maps_of(&self, tid: i32) -> Result<Vec<proc::Map>> {
        match proc::maps(tid) {
            Ok(maps) => Ok(maps),
            Err(_) if matches!(proc::state(tid), None | Some(b'Z' | b'X')) => Ok(Vec::new()),
            Err(error) => Err(error.into()),
        }
    }

    /// One task of each other address space.
    fn one_of_each_other_space(&self, current: &Task) -> Vec<i32> {
        let mut spaces = BTreeMap::new();
        if let Some((tid, space)) = self.beside.filter(|&(_, space)| space != current.space) {
            spaces.insert(space, tid);
        }
        for task in self.tasks.values() {
            let has_memory = !task.leaving && !matches!(task.state, task::TaskState::Taken);
            if task.space != current.space && has_memory {
                spaces.insert(task.space, task.tid);
            }
        }
        spaces.into_values().collect()
    }
}
