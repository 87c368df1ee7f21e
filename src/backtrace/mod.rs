//! Backtraces of stopped tasks, with functions, files and lines.
//!
//! Memory and mappings are the process's; names come from the mapped files, which for a process made from a recording
//! are kept copies ([`recorded`] finds them), and from files with debug information of this machine where they belong
//! to the same build.
//!
//! Both process and files are untrusted: time, memory and the number of frames are limited. The crates that read DWARF
//! and mangled names return errors for nonsense, but such code has had panics before (an addition that overflows, an
//! index); a panic in them costs a frame its name, not a campaign its run.
//!
//! Unwinding needs all registers (a function may keep its stack pointer in any, and a signal frame restores all), so it
//! is implemented here on top of gimli's tables.

mod elf;
mod functions;
mod lines;
mod module;
mod module_files;
mod replaceable;
mod symbols;
mod unwind;
mod unwind_tables;

pub use module_files::{Mapped, real, recorded};
pub use replaceable::{Replaceable, is_dynamic_linker, replaceable};

use crate::process::Process;
use crate::tracee::proc::{self, Map};
use crate::tracee::tsc_off::clock;
use crate::tracee::{Regs, Stopped, TaskMemory};
use elf::{Segment, Source};
use module::{Key, Module, Origin};
use std::cell::RefCell;
use std::collections::HashMap;
use std::fs::File;
use std::panic::AssertUnwindSafe;
use std::rc::Rc;
use std::time::Duration;
use unwind::CodeLocation;
use unwind_tables::Tables;

/// The limit on the frames of a backtrace.
pub const MOST_FRAMES: usize = 256;

/// The limit on the time for finding frames, and again for their names; a single slow step may exceed it. It is processor
/// time: names and lines do not depend on what else runs on the machine.
const PATIENCE: Duration = Duration::from_millis(500);

/// The name of a frame that the kernel made for a signal handler.
const HANDLER: &str = "<signal handler called>";

/// A frame: an active function.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Frame {
    /// The next instruction.
    pub address: u64,
    /// The path of the file with the code, as the program knew it; `None` where the code is in no file.
    pub module: Option<Vec<u8>>,
    /// The address in that file before relocation (as in `addr2line` and `objdump`).
    pub offset: u64,
    /// The function.
    pub function: Option<String>,
    /// The path of the function's source.
    pub file: Option<String>,
    /// The line in the source.
    pub line: Option<u32>,
    /// Whether the function is inlined into that of the next frame.
    pub inlined: bool,
}

impl std::fmt::Display for Frame {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let function = self.function.as_deref().unwrap_or("??");
        if function == HANDLER {
            return f.write_str(function);
        }
        let arguments = if function.ends_with(')') { "" } else { " ()" };
        if !self.inlined {
            write!(f, "{:#018x} in ", self.address)?;
        }
        write!(f, "{function}{arguments}")?;
        match (&self.file, self.line, &self.module) {
            (Some(file), Some(line), _) => write!(f, " at {file}:{line}"),
            (Some(file), None, _) => write!(f, " at {file}"),
            (None, _, Some(module)) => {
                let module = String::from_utf8_lossy(module).into_owned();
                write!(f, " from {}+{:#x}", symbols::harmless(module), self.offset)
            }
            (None, _, None) => Ok(()),
        }
    }
}

/// The processor time of the thread at which a search ends.
struct Deadline(Duration);

impl Deadline {
    fn new() -> Deadline {
        Deadline(processor_time() + PATIENCE)
    }

    fn passed(&self) -> bool {
        processor_time() >= self.0
    }
}

fn processor_time() -> Duration {
    Duration::from_nanos(clock(libc::CLOCK_THREAD_CPUTIME_ID))
}

/// The backtrace of a task: the innermost function, its caller, and so on. `files` finds the files of its mappings: see
/// [`recorded`] and [`real`]. Empty where the task has been killed meanwhile.
pub fn of(task: &Stopped, files: &dyn Fn(&Map) -> Mapped) -> Vec<Frame> {
    match (task.regs(), proc::maps(task.tid())) {
        (Ok(regs), Ok(maps)) => at(&regs, task.memory(), maps, files),
        _ => Vec::new(),
    }
}

/// The backtrace of a spun-off process.
pub fn of_process(process: &Process) -> Vec<Frame> {
    let (event, tid) = (process.group.event.0, process.driven.task.tid());
    of(
        &process.driven.task,
        &recorded(&process.group.recording, event, tid),
    )
}

fn at(
    regs: &Regs,
    memory: TaskMemory,
    maps: Vec<Map>,
    files: &dyn Fn(&Map) -> Mapped,
) -> Vec<Frame> {
    let mut space = AddressSpace {
        memory,
        maps,
        files,
        loaded: RefCell::default(),
        deadline: Deadline::new(),
    };
    let places = unwind::walk(&space, regs, &space.deadline);
    space.deadline = Deadline::new();
    let mut frames: Vec<Frame> = places.iter().flat_map(|place| space.name(place)).collect();
    frames.truncate(MOST_FRAMES);
    module::trim();
    frames
}

/// Calls code of other crates that may panic: see the module's documentation.
fn guarded<R>(then: impl FnOnce() -> Option<R>) -> Option<R> {
    let done = std::panic::catch_unwind(AssertUnwindSafe(then));
    done.inspect_err(|_| tracing::warn!("a backtrace is incomplete: what reads it panicked"))
        .ok()
        .flatten()
}

/// A file loaded into memory.
struct Loaded {
    module: Rc<Module>,
    /// The load bias: the difference between addresses in memory and in the file.
    bias: u64,
    name: Vec<u8>,
    content: Option<Content>,
}

enum Content {
    File(File),
    Bytes(Vec<u8>),
}

impl Loaded {
    fn origin(&self) -> Option<Origin<'_>> {
        let source = match self.content.as_ref()? {
            Content::File(file) => Source::File(file),
            Content::Bytes(bytes) => Source::Bytes(bytes),
        };
        let name = &self.name;
        Some(Origin { source, name })
    }
}

/// A process's memory, and the loaded files.
struct AddressSpace<'a> {
    memory: TaskMemory,
    maps: Vec<Map>,
    files: &'a dyn Fn(&Map) -> Mapped,
    /// The files by the first address of the mapping with their beginning.
    loaded: RefCell<HashMap<u64, Option<Rc<Loaded>>>>,
    deadline: Deadline,
}

impl unwind::AddressSpace for AddressSpace<'_> {
    fn memory(&self) -> TaskMemory {
        self.memory
    }

    fn map(&self, address: u64) -> Option<&Map> {
        let end = self.maps.partition_point(|map| map.start <= address);
        let map = self.maps.get(end.checked_sub(1)?)?;
        map.holds(address).then_some(map)
    }

    fn ask_tables<R>(&self, address: u64, ask: impl Fn(&Tables, u64) -> Option<R>) -> Option<R> {
        let loaded = guarded(|| self.loaded(address))?;
        let (module, bias) = (&loaded.module, loaded.bias);
        let in_memory = || {
            ask(
                module.tables_in_memory(bias, self.memory, &self.maps)?,
                bias,
            )
        };
        let in_file = || {
            ask(
                module.tables_in_file(&loaded.origin()?, &self.deadline)?,
                bias,
            )
        };
        guarded(in_memory).or_else(|| guarded(in_file))
    }
}

impl AddressSpace<'_> {
    /// The file that is mapped at an address.
    fn loaded(&self, address: u64) -> Option<Rc<Loaded>> {
        let map = unwind::AddressSpace::map(self, address)?;
        if map.inode == 0 && map.name != b"[vdso]" {
            return None;
        }
        let end = self.maps.partition_point(|other| other.start <= map.start);
        let mut before = self.maps[..end].iter().rev();
        let same =
            |other: &&Map| other.offset == 0 && other.inode == map.inode && other.name == map.name;
        let first = before.find(same).unwrap_or(map);
        if let Some(known) = self.loaded.borrow().get(&first.start) {
            return known.clone();
        }
        let loaded = self.load(first).map(Rc::new);
        let mut all = self.loaded.borrow_mut();
        all.insert(first.start, loaded.clone());
        loaded
    }

    /// Loads the file of a mapping, from the mapping of its beginning, or from another if that is unmapped.
    fn load(&self, map: &Map) -> Option<Loaded> {
        const LARGEST_VDSO: u64 = 1 << 20;
        let (name, content) = match map.inode {
            0 => {
                let len = (map.end - map.start).min(LARGEST_VDSO);
                let bytes = self.memory.bytes(map.start, len as usize);
                (map.name.clone(), Some(Content::Bytes(bytes)))
            }
            _ => {
                let Mapped { name, file } = (self.files)(map);
                (name, file.map(Content::File))
            }
        };
        let segments = || {
            let in_memory = |at: u64, len: u64| {
                let bytes = self.memory.bytes(map.start.wrapping_add(at), len as usize);
                (bytes.len() as u64 == len).then_some(bytes)
            };
            let header = in_memory(0, elf::HEADER as u64).filter(|_| map.offset == 0);
            let there = header.and_then(|header| elf::segments(&header, in_memory));
            there.or_else(|| match &content {
                Some(Content::File(file)) => {
                    let source = Source::File(file);
                    let header = source.read(0, elf::HEADER as u64)?;
                    elf::segments(&header, |at, len| source.read(at, len))
                }
                _ => None,
            })
        };
        let make = || segments().map(Module::new);
        let key = match &content {
            Some(Content::File(file)) => Key::of(file),
            _ => None,
        };
        let module = match key {
            Some(key) => module::kept(key, make)?,
            None => Rc::new(make()?),
        };
        Some(Loaded {
            bias: bias(&module.segments, map)?,
            module,
            name,
            content,
        })
    }

    /// The frames of a code location: several where functions are inlined.
    fn name(&self, place: &CodeLocation) -> Vec<Frame> {
        let mut frame = Frame {
            address: place.pc,
            offset: place.pc,
            ..Frame::default()
        };
        let loaded = guarded(|| self.loaded(place.at));
        if let Some(loaded) = &loaded {
            frame.module = Some(loaded.name.clone());
            frame.offset = place.pc.wrapping_sub(loaded.bias);
        }
        if place.trampoline {
            frame.function = Some(HANDLER.into());
            return vec![frame];
        }
        if !unwind::is_code(self, place.at) {
            return vec![frame];
        }
        let lines = guarded(|| {
            let loaded = loaded.as_ref()?;
            let at = place.at.wrapping_sub(loaded.bias);
            let origin = loaded.origin()?;
            Some(loaded.module.look_up(at, &origin, &self.deadline))
        });
        let named = |line: lines::Line| Frame {
            function: line.function,
            file: line.file,
            line: line.line,
            inlined: line.inlined,
            ..frame.clone()
        };
        match lines {
            Some(lines) if !lines.is_empty() => lines.into_iter().map(named).collect(),
            _ => vec![frame],
        }
    }
}

/// The load bias of a file with this mapping.
fn bias(segments: &[Segment], map: &Map) -> Option<u64> {
    const PAGE: u64 = 0x1000;
    let loads = || segments.iter().filter(|s| s.kind == elf::LOAD);
    let from = |s: &Segment| s.offset & !(PAGE - 1);
    let here = loads().find(|s| from(s) == map.offset).or_else(|| {
        loads().find(|s| {
            let end = s.offset.saturating_add(s.file_size);
            (from(s)..end).contains(&map.offset)
        })
    })?;
    let start = here
        .address
        .wrapping_sub(here.offset)
        .wrapping_add(map.offset);
    Some(map.start.wrapping_sub(start))
}
