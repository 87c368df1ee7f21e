//! A file that code is mapped from, and what is known of it. What was read of a file is kept for the next
//! backtrace, up to a limit: a campaign asks for the same files again and again.

use super::Deadline;
use super::elf::{Elf, Segment, Source};
use super::lines::{Line, Lines};
use super::module_files::{debug_file, shared_debug_file};
use super::symbols::{Symbols, is_mangled, pretty};
use super::unwind_tables::Tables;
use crate::tracee::TaskMemory;
use crate::tracee::proc::Map;
use std::cell::{OnceCell, RefCell};
use std::collections::HashMap;
use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::rc::Rc;

/// How much memory the files that are kept may take, in bytes, besides the one that was used last.
const MOST_KEPT: usize = 256 << 20;

/// How many files are kept.
const MOST_FILES: usize = 64;

/// How many addresses of a file are remembered.
const MOST_ANSWERS: usize = 10_000;

/// What is known of a file. Each part is read when it is first asked for.
pub struct Module {
    /// The program headers.
    pub segments: Vec<Segment>,
    mapped_tables: OnceCell<Option<Tables>>,
    file_tables: OnceCell<Option<Tables>>,
    symbols: OnceCell<Symbols>,
    lines: OnceCell<Option<Lines>>,
    /// The addresses that have been looked up.
    answers: RefCell<HashMap<u64, Vec<Line>>>,
}

/// A file that may be read, and the name that it had.
pub struct Origin<'a> {
    /// What to read.
    pub source: Source<'a>,
    /// The path at which the program found it.
    pub name: &'a [u8],
}

impl Module {
    /// A file with these program headers.
    pub fn new(segments: Vec<Segment>) -> Module {
        Module {
            segments,
            mapped_tables: OnceCell::new(),
            file_tables: OnceCell::new(),
            symbols: OnceCell::new(),
            lines: OnceCell::new(),
            answers: RefCell::default(),
        }
    }

    /// How callers are found, as memory has it.
    pub fn tables_in_memory(&self, bias: u64, memory: TaskMemory, maps: &[Map]) -> Option<&Tables> {
        let read = || Tables::in_memory(&self.segments, bias, memory, maps);
        self.mapped_tables.get_or_init(read).as_ref()
    }

    /// How callers are found, as the file has it, or the one with its debug information.
    pub fn tables_in_file(&self, origin: &Origin<'_>, deadline: &Deadline) -> Option<&Tables> {
        let read = || {
            Tables::in_file(origin.source, deadline).or_else(|| {
                let (file, _) = debug_file(&Elf::read(origin.source), origin)?;
                Tables::in_file(Source::File(&file), deadline)
            })
        };
        self.file_tables.get_or_init(read).as_ref()
    }

    /// What is at an address of the file: functions that were inlined there, then the one that they are in.
    pub fn look_up(&self, address: u64, origin: &Origin<'_>, deadline: &Deadline) -> Vec<Line> {
        if let Some(known) = self.answers.borrow().get(&address) {
            return known.clone();
        }
        let found = self.find(address, origin, deadline);
        let mut answers = self.answers.borrow_mut();
        if !deadline.passed() && answers.len() < MOST_ANSWERS {
            answers.insert(address, found.clone());
        }
        found
    }

    fn find(&self, address: u64, origin: &Origin<'_>, deadline: &Deadline) -> Vec<Line> {
        let lines = match deadline.passed() {
            true => self.lines.get().and_then(Option::as_ref),
            false => self.lines.get_or_init(|| read_lines(origin)).as_ref(),
        };
        let mut found = lines.map_or_else(Vec::new, |lines| lines.look_up(address, deadline));
        let given = found.last().and_then(|outer| outer.function.as_deref());
        if given.is_none_or(|name| !name.contains("::") && !name.ends_with(')')) {
            let symbols = self.symbols.get_or_init(|| read_symbols(origin));
            let symbol = symbols.look_up(address);
            // Where the compiler wrote down only the last part of a name, the symbol has all of it.
            let whole = symbol.filter(|name| given.is_none() || is_mangled(name));
            match (found.last_mut(), whole.map(pretty)) {
                (_, None) => {}
                (Some(outer), function) => outer.function = function,
                (None, function) => found.push(Line {
                    function,
                    ..Line::default()
                }),
            }
        }
        found
    }

    fn len(&self) -> usize {
        let tables = [&self.mapped_tables, &self.file_tables];
        let tables = tables
            .into_iter()
            .filter_map(|tables| tables.get()?.as_ref());
        let lines = self.lines.get().and_then(Option::as_ref);
        tables.map(Tables::len).sum::<usize>()
            + self.symbols.get().map_or(0, Symbols::len)
            + lines.map_or(0, Lines::len)
    }
}

fn read_symbols(origin: &Origin<'_>) -> Symbols {
    let elf = Elf::read(origin.source);
    let of = |elf: &Elf, source: Source<'_>, name: &str| {
        elf.symbols(source, name)
            .map(Symbols::of)
            .filter(|symbols| !symbols.is_empty())
    };
    of(&elf, origin.source, ".symtab")
        .or_else(|| {
            let (file, _) = debug_file(&elf, origin)?;
            let source = Source::File(&file);
            of(&Elf::read(source), source, ".symtab")
        })
        .or_else(|| of(&elf, origin.source, ".dynsym"))
        .unwrap_or_default()
}

fn read_lines(origin: &Origin<'_>) -> Option<Lines> {
    let shared = |beside: Option<&std::path::Path>, link: &[u8]| shared_debug_file(beside, link);
    Lines::read(origin.source, |link| shared(None, link)).or_else(|| {
        let (file, path) = debug_file(&Elf::read(origin.source), origin)?;
        Lines::read(Source::File(&file), |link| shared(Some(&path), link))
    })
}

/// What tells one state of a file from another.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Key {
    dev: u64,
    ino: u64,
    size: u64,
    mtime: (i64, i64),
}

impl Key {
    /// That of an open file.
    pub fn of(file: &File) -> Option<Key> {
        let meta = file.metadata().ok()?;
        Some(Key {
            dev: meta.dev(),
            ino: meta.ino(),
            size: meta.size(),
            mtime: (meta.mtime(), meta.mtime_nsec()),
        })
    }
}

thread_local! {
    /// The files that were used last, the latest at the end.
    static KEPT: RefCell<Vec<(Key, Rc<Module>)>> = const { RefCell::new(Vec::new()) };
}

/// What is known of a file, if it has been looked at before; else what `make` makes.
pub fn kept(key: Key, make: impl FnOnce() -> Option<Module>) -> Option<Rc<Module>> {
    KEPT.with_borrow_mut(|all| {
        let at = all.iter().position(|(known, _)| *known == key);
        let entry = match at {
            Some(at) => all.remove(at),
            None => (key, Rc::new(make()?)),
        };
        let module = Rc::clone(&entry.1);
        all.push(entry);
        Some(module)
    })
}

/// Forgets files as the limits want it.
pub fn trim() {
    KEPT.with_borrow_mut(|all| {
        let lens = all.iter().rev().map(|(_, module)| module.len());
        let sums = lens.scan(0usize, |sum, len| {
            let before = *sum;
            *sum += len;
            Some((before, *sum))
        });
        let fits = |&(before, sum): &(usize, usize)| before == 0 || sum <= MOST_KEPT;
        let keep = sums.take_while(fits).count().min(MOST_FILES);
        all.drain(..all.len() - keep);
    });
}
