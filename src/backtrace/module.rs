//! Modules: files with mapped code, and the tables read from them. Tables are cached for the next backtrace, up to a
//! limit: a campaign needs the same files again and again.

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

/// The limit on the memory of cached modules, in bytes, besides the one used last.
const MOST_KEPT: usize = 256 << 20;

/// The limit on the number of cached modules.
const MOST_FILES: usize = 64;

/// The limit on cached addresses of a module.
const MOST_ANSWERS: usize = 10_000;

/// A module. Each table is read on first use.
pub struct Module {
    /// The program headers.
    pub segments: Vec<Segment>,
    mapped_tables: OnceCell<Option<Tables>>,
    file_tables: OnceCell<Option<Tables>>,
    symbols: OnceCell<Symbols>,
    lines: OnceCell<Option<Lines>>,
    /// The cached addresses.
    answers: RefCell<HashMap<u64, Vec<Line>>>,
}

/// The source of a module's file, and its path.
pub struct Origin<'a> {
    /// The file or its bytes.
    pub source: Source<'a>,
    /// The path at which the program found it.
    pub name: &'a [u8],
}

impl Module {
    /// A module with these program headers.
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

    /// The unwinding tables in memory.
    pub fn tables_in_memory(&self, bias: u64, memory: TaskMemory, maps: &[Map]) -> Option<&Tables> {
        let read = || Tables::in_memory(&self.segments, bias, memory, maps);
        self.mapped_tables.get_or_init(read).as_ref()
    }

    /// The unwinding tables in the file, or in the file with its debug information.
    pub fn tables_in_file(&self, origin: &Origin<'_>, deadline: &Deadline) -> Option<&Tables> {
        let read = || {
            Tables::in_file(origin.source, deadline).or_else(|| {
                let (file, _) = debug_file(&Elf::read(origin.source), origin)?;
                Tables::in_file(Source::File(&file), deadline)
            })
        };
        self.file_tables.get_or_init(read).as_ref()
    }

    /// The lines of an address of the file: inlined functions, then the function that contains them.
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
            // The symbol has the full name where the debug information has only the last part.
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

/// The identity of a state of a file.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Key {
    dev: u64,
    ino: u64,
    size: u64,
    mtime: (i64, i64),
}

impl Key {
    /// The key of an open file.
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
    /// The modules used last, the latest at the end.
    static KEPT: RefCell<Vec<(Key, Rc<Module>)>> = const { RefCell::new(Vec::new()) };
}

/// The cached module of a file, or the one that `make` makes.
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

/// Drops cached modules down to the limits.
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
