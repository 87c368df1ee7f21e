//! The embedded recorder: runs a program under trace and writes down everything that
//! could go differently another time.
//!
//! One process with one thread. What replay needs of a call is taken at its entry (what goes in) and at its
//! exit (what comes out); which memory that is, the syscall table says.

mod affinity;
mod error;
mod mapped;
mod moved;
mod program;
mod signals;

pub use error::{Error, Result};
pub use program::{Program, ProgramError};

use crate::image::{self, Chunk, FileId, FileStore};
use crate::recording::{
    CallEvent, ChunkMemory, DescriptorTable, Effect, Event, EventKind, Frame, Start, StartFd,
    Writer,
};
use crate::syscall::{self, Region, Replay, Syscall};
use crate::trace::Exit;
use crate::tracee::quiet::Quiet;
use crate::tracee::segv::SegvState;
use crate::tracee::watchdog::Limit;
use crate::tracee::{
    Command, Regs, Running, Stop, Stopped, TaskMemory, Waited, memory, pin, proc, spawn,
};
use std::collections::HashMap;
use std::path::{Path, PathBuf};

/// Counter values that are collected before they are written.
const TSC_BATCH: usize = 1024;

/// What to record, and where to.
pub struct Options {
    /// The program.
    pub command: Command,
    /// The directory for the recording; must not exist or be empty.
    pub dir: PathBuf,
    /// Called with the program's pid once it is about to start.
    pub on_start: Option<Box<dyn FnOnce(i32)>>,
}

/// A finished recording.
#[derive(Debug)]
pub struct Recorded {
    /// Its directory, as an absolute path.
    pub dir: PathBuf,
    /// How the program ended.
    pub exit: Exit,
    /// How many events it has.
    pub events: u64,
}

/// Records a program from its start to its end.
///
/// # Errors
/// If it cannot be started, does something that cannot be recorded yet (it is then
/// killed, and the recording up to there stays), or the recording cannot be written.
pub fn record(options: Options) -> Result<Recorded> {
    let _quiet = Quiet::new();
    let Options {
        command,
        dir,
        on_start,
    } = options;
    let exe = command.exe.clone();
    let argv = command.argv.clone();
    let mut writer = Writer::create(&dir)?;
    let task = spawn::start(command)?;
    let pid = task.tid();
    if let Some(on_start) = on_start {
        on_start(pid);
    }
    let start = describe_start(&task, argv)?;
    let table = DescriptorTable::at_start(&start);
    writer.write(&Frame::Start(start))?;
    let mut recorder = Recorder {
        writer,
        pid,
        exe,
        table,
        tsc: Vec::new(),
        held: Vec::new(),
        segv: SegvState::default(),
        patience: None,
        pending: None,
        boundary: None,
        mapped: HashMap::new(),
        executed: false,
    };
    let outcome = recorder.run(task);
    recorder.close(outcome)
}

fn describe_start(task: &Stopped, argv: Vec<Vec<u8>>) -> Result<Start> {
    let tid = task.tid();
    let descriptors = proc::descriptors(tid)?
        .into_iter()
        .filter(|d| d.flags & libc::O_CLOEXEC == 0)
        .map(|d| StartFd {
            fd: d.fd,
            path: d.path,
            offset: d.offset,
            flags: d.flags,
        })
        .collect();
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    Ok(Start {
        argv,
        pid: tid,
        ppid: proc::parent(tid)?,
        cwd: proc::cwd(tid)?,
        descriptors,
        cpu: pin::this_thread()?.cpu as u32,
        time: now.map_or(0, |d| d.as_secs()),
    })
}

/// A call between its entry and its exit.
struct Pending {
    event: CallEvent,
    call: &'static Syscall,
    moved: Option<moved::Source>,
}

struct Recorder {
    writer: Writer,
    pid: i32,
    exe: PathBuf,
    table: DescriptorTable,
    tsc: Vec<u64>,
    /// Signals that came between calls and wait for the next one.
    held: Vec<crate::tracee::SigInfo>,
    /// What a trapped read of the time stamp counter must not undo.
    segv: SegvState,
    /// How long the held signals wait.
    patience: Option<Limit>,
    pending: Option<Pending>,
    /// The registers with which the task left its last call: while they have
    /// not changed, it has not executed anything since.
    boundary: Option<Regs>,
    /// Files that the program has mapped, by path, and their kept copies.
    mapped: HashMap<Vec<u8>, FileId>,
    /// Whether the program has been executed at all.
    executed: bool,
}

impl Recorder {
    fn run(&mut self, task: Stopped) -> Result<Exit> {
        let mut running = self.on_entry(task)?;
        loop {
            let (task, stop) = match running.wait()? {
                Waited::Ended(exit) => return Ok(exit),
                Waited::Stopped(task, stop) => (task, stop),
            };
            running = match stop {
                Stop::Entry => self.on_entry(task)?,
                Stop::Syscall => self.on_exit(task)?,
                Stop::Exec => task.resume_to_exit()?,
                Stop::Signal(_) => self.on_signal(task)?,
                Stop::Group(_) => task.listen()?,
                Stop::Attached | Stop::Other(_) => task.resume()?,
                Stop::Clone(_) => return Err(self.unsupported("a new process or thread", "")),
            };
        }
    }

    /// Writes the end, or tidies up after an error.
    fn close(mut self, outcome: Result<Exit>) -> Result<Recorded> {
        let outcome = outcome.and_then(|exit| {
            self.write_unanswered()?;
            self.write_tsc()?;
            self.writer.write(&Frame::End { exit })?;
            Ok(exit)
        });
        let flushed = self.writer.flush();
        let dir = self.writer.dir().to_path_buf();
        if !self.executed {
            drop(self.writer);
            discard(&dir);
            return Err(outcome.err().unwrap_or(Error::NotStarted { exe: self.exe }));
        }
        let exit = outcome?;
        flushed?;
        Ok(Recorded {
            dir,
            exit,
            events: self.writer.events(),
        })
    }

    fn on_entry(&mut self, mut task: Stopped) -> Result<Running> {
        self.patience = None;
        let regs = task.regs()?;
        if task.is_foreign_call()? {
            return Err(self.unsupported(&format!("call {} of the 32-bit ABI", regs.nr()), ""));
        }
        if !self.held.is_empty() {
            return self.interrupt_entry(task, regs);
        }
        let nr = regs.nr() as u64;
        let args = regs.args();
        let Some(call) = syscall::by_nr(nr) else {
            return Err(
                self.unsupported(&format!("system call number {nr}"), "its number is unknown")
            );
        };
        let call = call.resolve(&args);
        let memory = task.memory();
        if !call.described {
            return Err(self.undescribed(call, &args, memory));
        }
        let event = CallEvent {
            nr: nr as u32,
            args,
            ip: if self.executed { regs.ip() } else { 0 },
            ret: None,
            ins: read_regions(memory, &call.inputs(&args, &memory)),
            outs: Vec::new(),
            effect: Effect::None,
        };
        let answer = match call.replay {
            Replay::Refuse(errno) => Some(-i64::from(errno)),
            Replay::Unsupported => return Err(self.unsupported_call(call, &args, memory)),
            Replay::Emulate if call.name == "sched_setaffinity" => self.set_affinity(&event)?,
            // Who cannot be dumped cannot be read by a tracer without privilege either.
            Replay::Emulate if memory::is_hidden_by(call.nr, &args) => Some(0),
            Replay::Emulate | Replay::Run => None,
        };
        if let Some(ret) = answer {
            let mut answered = regs;
            answered.answer(ret);
            task.set_regs(&answered)?;
            self.boundary = Some(answered);
            self.write_call(CallEvent {
                ret: Some(ret),
                ..event
            })?;
            return Ok(task.resume()?);
        }
        self.refuse_shared_mapping(call, &args)?;
        let moved = self.moved_source(call, &event)?;
        if moved.is_some()
            && let Some(size) = call.size_arg()
            && args[size] > moved::MOST
        {
            // All of it goes into one event; whoever makes such calls makes them until all is done.
            let mut less = args;
            less[size] = moved::MOST;
            let mut regs = regs;
            regs.set_args(less);
            task.set_regs(&regs)?;
        }
        if matches!(call.name, "exit" | "exit_group") {
            self.write_call(event)?;
            self.writer.flush()?;
            return Ok(task.resume()?);
        }
        self.pending = Some(Pending { event, call, moved });
        Ok(task.resume_to_exit()?)
    }

    fn on_exit(&mut self, mut task: Stopped) -> Result<Running> {
        let Some(Pending {
            mut event,
            call,
            moved,
        }) = self.pending.take()
        else {
            return Ok(task.resume()?);
        };
        let mut regs = task.regs()?;
        let ret = regs.ret();
        event.ret = Some(ret);
        if moved.is_some() {
            regs.set_args(event.args);
            task.set_regs(&regs)?;
        }
        let executed = ret == 0 && matches!(call.name, "execve" | "execveat");
        if executed {
            image::prepare(&mut task)?;
            let image = image::capture(&task, self.writer.files())?;
            self.executed = true;
            self.segv = SegvState::at_exec(image.sigmask, image.ignored);
            event.effect = Effect::Exec(Box::new(image));
            regs = task.regs()?;
        } else {
            let memory = task.memory();
            let regions = call.outputs(&event.args, ret, &ChunkMemory(&event.ins), &memory);
            event.outs = read_regions(memory, &regions);
            event
                .outs
                .extend(self.written_through(&task, call, &event)?);
            event.effect = self.effect(&task, call, &event, moved)?;
        }
        self.segv.after_call(&task, call.nr, &event.args, ret)?;
        self.boundary = Some(regs);
        if !self.executed {
            // The program could not be executed at all, which is an error and no recording.
            let source = std::io::Error::from_raw_os_error(-ret as i32);
            return Err(Error::Execute {
                exe: self.exe.clone(),
                source,
            });
        }
        self.write_call(event)?;
        Ok(task.resume()?)
    }

    /// What a call did besides its return value and its outputs.
    fn effect(
        &mut self,
        task: &Stopped,
        call: &Syscall,
        event: &CallEvent,
        moved: Option<moved::Source>,
    ) -> Result<Effect> {
        let ret = event.ret.unwrap_or(0);
        if (-4095..0).contains(&ret) {
            return Ok(Effect::None);
        }
        let tid = task.tid();
        if call.name == "mmap" {
            return self.mapped(tid, event);
        }
        if let Some(source) = moved {
            return Ok(Effect::Moved(source.read(tid, ret as usize)?));
        }
        if call.returns_fd() {
            return Ok(Effect::Path(
                proc::fd_path(tid, ret as i32).unwrap_or_default(),
            ));
        }
        if matches!(call.name, "chdir" | "fchdir") {
            return Ok(Effect::Path(proc::cwd(tid)?));
        }
        Ok(Effect::None)
    }

    fn mapped(&mut self, tid: i32, event: &CallEvent) -> Result<Effect> {
        let flags = event.args[3] as i32;
        if flags & libc::MAP_ANONYMOUS != 0 {
            return Ok(Effect::None);
        }
        let fd = event.args[4] as i32;
        let path = proc::fd_path(tid, fd).unwrap_or_default();
        if path == b"/dev/zero" {
            return Ok(Effect::None);
        }
        let link = PathBuf::from(format!("/proc/{tid}/fd/{fd}"));
        let file = match std::fs::File::open(&link) {
            Ok(file) => file,
            Err(_) => spawn::borrow_fd(tid, fd)?,
        };
        let id = self
            .writer
            .files()
            .keep(&file, &path)
            .map_err(|source| Error::Keep {
                path: String::from_utf8_lossy(&path).into_owned(),
                event: self.writer.events() + 1,
                source,
            })?;
        if let Some(file) = self.table.get(fd) {
            self.mapped.insert(file.path.clone(), id);
        }
        Ok(Effect::Map(id))
    }

    fn refuse_shared_mapping(&self, call: &Syscall, args: &[u64; 6]) -> Result<()> {
        let (prot, flags) = (args[2] as i32, args[3] as i32);
        let shared = flags & libc::MAP_TYPE == libc::MAP_SHARED
            || flags & libc::MAP_TYPE == libc::MAP_SHARED_VALIDATE;
        if call.name == "mmap"
            && shared
            && flags & libc::MAP_ANONYMOUS == 0
            && prot & libc::PROT_WRITE != 0
        {
            return Err(self.unsupported("a writable shared mapping of a file", ""));
        }
        Ok(())
    }

    fn write_call(&mut self, event: CallEvent) -> Result<()> {
        self.write_tsc()?;
        self.table.apply(&event);
        self.writer.write(&Frame::Event(Event {
            tid: self.pid,
            kind: EventKind::Call(event),
        }))?;
        Ok(())
    }

    /// Writes the call that the task was in when it ended.
    fn write_unanswered(&mut self) -> Result<()> {
        match self.pending.take() {
            Some(pending) if self.executed => self.write_call(pending.event),
            _ => Ok(()),
        }
    }

    fn note_tsc(&mut self, value: u64) -> Result<()> {
        self.tsc.push(value);
        if self.tsc.len() >= TSC_BATCH {
            self.write_tsc()?;
        }
        Ok(())
    }

    fn write_tsc(&mut self) -> Result<()> {
        if self.tsc.is_empty() {
            return Ok(());
        }
        let values = std::mem::take(&mut self.tsc);
        self.writer.write(&Frame::Tsc {
            tid: self.pid,
            values,
        })?;
        Ok(())
    }

    fn unsupported(&self, what: &str, why: &str) -> Error {
        Error::Unsupported {
            what: what.into(),
            why: why.into(),
            event: self.writer.events() + 1,
            dir: self.writer.dir().into(),
        }
    }

    fn unsupported_call(
        &self,
        call: &'static Syscall,
        args: &[u64; 6],
        memory: TaskMemory,
    ) -> Error {
        self.unsupported(
            &describe(call, args, memory),
            "rrapper cannot record this call yet",
        )
    }

    fn undescribed(&self, call: &'static Syscall, args: &[u64; 6], memory: TaskMemory) -> Error {
        self.unsupported(
            &describe(call, args, memory),
            "rrapper does not know all that this call does",
        )
    }
}

/// The call as far as it can be told, in strace's syntax.
fn describe(call: &'static Syscall, args: &[u64; 6], memory: TaskMemory) -> String {
    if call.args.is_empty() && !call.described {
        return call.name.to_string();
    }
    let values: Vec<String> = call
        .decode(args, None, &memory, &memory)
        .iter()
        .map(|value| value.brief().to_string())
        .collect();
    format!("{}({})", call.name, values.join(", "))
}

fn read_regions(memory: TaskMemory, regions: &[Region]) -> Vec<Chunk> {
    regions
        .iter()
        .filter(|region| region.len > 0)
        .map(|region| Chunk {
            addr: region.addr,
            data: memory.bytes(region.addr, region.len),
        })
        .filter(|chunk| !chunk.data.is_empty())
        .collect()
}

/// Removes what a recording that never began left behind.
fn discard(dir: &Path) {
    for result in [
        std::fs::remove_dir_all(dir.join("files")),
        std::fs::remove_file(dir.join("events")),
        std::fs::remove_dir(dir),
    ] {
        if let Err(error) = result {
            tracing::debug!("cannot remove {}: {error}", dir.display());
        }
    }
}
