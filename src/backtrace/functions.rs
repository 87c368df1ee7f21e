//! The functions of a program's file, from its unwinding tables, its symbols and Go's table of functions.

use super::Deadline;
use super::elf::{self, Elf, HEADER, LOAD, Segment, Source};
use super::unwind_tables::Tables;
use crate::tracee::tsc_off::with_tsc;
use std::cell::OnceCell;
use std::fs::File;
use std::ops::Range;

/// The functions of a file. Parts of the file are read on demand.
pub struct Functions<'a> {
    source: Source<'a>,
    segments: Vec<Segment>,
    index: Option<Tables>,
    /// The unwinding tables, which may be all that a statically linked program has.
    frames: OnceCell<Option<Tables>>,
    /// The functions sorted by address.
    symbols: OnceCell<Vec<Range<u64>>>,
}

impl<'a> Functions<'a> {
    /// The functions of a program's file; `None` where it is no program.
    pub fn of(file: &'a File) -> Option<Functions<'a>> {
        let source = Source::File(file);
        let header = source.read(0, HEADER as u64)?;
        let segments = elf::segments(&header, |at, len| source.read(at, len))?;
        Some(Functions {
            source,
            index: Tables::indexed_in_file(source, &segments),
            segments,
            frames: OnceCell::new(),
            symbols: OnceCell::new(),
        })
    }

    /// The function at an offset in the file, as a range of offsets.
    pub fn at(&self, offset: u64) -> Option<Range<u64>> {
        let mut loaded = self.segments.iter().filter(|segment| segment.kind == LOAD);
        let (segment, inside) = loaded.find_map(|segment| {
            let inside = offset.checked_sub(segment.offset)?;
            (inside < segment.file_size).then_some((segment, inside))
        })?;
        let address = segment.address.checked_add(inside)?;
        let extent = self
            .index
            .as_ref()
            .and_then(|index| index.extent(address))
            .or_else(|| self.in_frames(address))
            .or_else(|| self.in_symbols(address))?;
        let begins = extent.start.checked_sub(segment.address)?;
        let ends = extent.end.checked_sub(segment.address)?;
        let is_whole = ends <= segment.file_size;
        is_whole.then_some(segment.offset.checked_add(begins)?..segment.offset.checked_add(ends)?)
    }

    fn in_frames(&self, address: u64) -> Option<Range<u64>> {
        if self.index.is_some() {
            return None;
        }
        let read = || with_tsc(|| Tables::in_file(self.source, &Deadline::new()));
        self.frames.get_or_init(read).as_ref()?.extent(address)
    }

    fn in_symbols(&self, address: u64) -> Option<Range<u64>> {
        let symbols = self.symbols.get_or_init(|| {
            let elf = Elf::read(self.source);
            let tables = [".symtab", ".dynsym"].map(|table| elf.symbols(self.source, table));
            let is_stripped = tables[0].is_none();
            let tables = tables.iter().flatten();
            let mut all: Vec<_> = tables.flat_map(|(table, _)| functions(table)).collect();
            if is_stripped {
                all.extend(in_go(&elf, self.source).unwrap_or_default());
            }
            all.sort_unstable_by_key(|range| (range.start, range.end));
            all
        });
        let end = symbols.partition_point(|range| range.start <= address);
        let range = symbols.get(end.checked_sub(1)?)?;
        range.contains(&address).then(|| range.clone())
    }
}

/// The functions in a table of symbols (`Elf64_Sym`).
fn functions(table: &[u8]) -> impl Iterator<Item = Range<u64>> + '_ {
    const FUNCTION: u8 = 2;
    const SIZE: usize = 24;
    let word = |bytes: &[u8]| bytes.try_into().map_or(0, u64::from_le_bytes);
    let entries = table.as_chunks::<SIZE>().0.iter();
    entries
        .filter(|entry| entry[4] & 15 == FUNCTION)
        .map(move |entry| (word(&entry[8..16]), word(&entry[16..24])))
        .filter(|&(address, size)| address != 0 && size != 0)
        .filter_map(|(address, size)| Some(address..address.checked_add(size)?))
}

/// The functions of a Go program, which has this table even without symbols.
fn in_go(elf: &Elf, source: Source<'_>) -> Option<Vec<Range<u64>>> {
    let names = [".gopclntab", ".data.rel.ro.gopclntab"];
    let table = names.iter().find_map(|name| elf.content(source, name))?;
    go_functions(&table, elf.section(".text")?.address)
}

/// The functions in Go's table (`runtime.pcHeader`, and offsets from the beginning of the code), as Go 1.18 and later
/// write it.
fn go_functions(table: &[u8], text: u64) -> Option<Vec<Range<u64>>> {
    const GO_1_18: u32 = 0xffff_fff0;
    const GO_1_20: u32 = 0xffff_fff1;
    const POINTER_64: u8 = 8;
    let word = |at: usize| {
        let bytes = table.get(at..at + 8)?;
        bytes.try_into().ok().map(u64::from_le_bytes)
    };
    let magic = u32::from_le_bytes(table.get(..4)?.try_into().ok()?);
    if ![GO_1_18, GO_1_20].contains(&magic) || table.get(7) != Some(&POINTER_64) {
        return None;
    }
    let count = usize::try_from(word(8)?).ok()?;
    // The address of the code; the newest versions leave it to the linker.
    let base = match word(24)? {
        0 => text,
        start => start,
    };
    let entries = table.get(usize::try_from(word(64)?).ok()?..)?;
    // One more entry than functions: the end of the last one.
    let len = count.checked_mul(8)?.checked_add(4)?;
    let starts = entries.get(..len)?.chunks(8).map(|entry| {
        let offset = entry.first_chunk().map_or(0, |o| u32::from_le_bytes(*o));
        base.saturating_add(offset.into())
    });
    let starts: Vec<u64> = starts.collect();
    starts.is_sorted().then(|| {
        let pairs = starts.windows(2);
        pairs.map(|pair| pair[0]..pair[1]).collect()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The offset of a function of this program in its file.
    fn offset_of(function: u64) -> u64 {
        let maps = crate::tracee::proc::maps(std::process::id() as i32).unwrap();
        let map = maps.iter().find(|map| map.holds(function)).unwrap();
        map.offset + (function - map.start)
    }

    #[test]
    fn functions_of_this_program_are_found() {
        let file = File::open("/proc/self/exe").unwrap();
        let all = Functions::of(&file).unwrap();
        let begins = offset_of(functions_of_this_program_are_found as *const () as u64);
        let range = all.at(begins).unwrap();
        assert_eq!(range.start, begins);
        assert!(range.end > begins + 16);
        assert_eq!(all.at(begins + 16), Some(range));
        assert_eq!(all.at(0), None);
        assert_eq!(all.at(u64::MAX), None);
    }

    #[test]
    fn functions_are_found_by_symbols() {
        let file = File::open("/proc/self/exe").unwrap();
        let mut all = Functions::of(&file).unwrap();
        let begins = offset_of(functions_are_found_by_symbols as *const () as u64);
        let range = all.at(begins).unwrap();
        all.index = None;
        all.frames = OnceCell::from(None);
        assert_eq!(all.at(begins + 1), Some(range));
    }

    #[test]
    fn functions_of_go_are_between_the_beginnings_in_its_table() {
        let mut table = vec![0xf1, 0xff, 0xff, 0xff, 0, 0, 1, 8];
        for word in [2u64, 0, 0x1000, 0, 0, 0, 0, 72] {
            table.extend(word.to_le_bytes());
        }
        for half in [0u32, 7, 0x20, 7, 0x60] {
            table.extend(half.to_le_bytes());
        }
        let functions = vec![0x1000..0x1020, 0x1020..0x1060];
        assert_eq!(go_functions(&table, 0x500), Some(functions));
        table[24..32].fill(0);
        let moved = vec![0x500..0x520, 0x520..0x560];
        assert_eq!(go_functions(&table, 0x500), Some(moved));
        // Cut off, of other versions, and not in order.
        for len in 0..table.len() {
            assert_eq!(go_functions(&table[..len], 0x500), None, "{len}");
        }
        let mut other = table.clone();
        other[0] = 0xfb;
        assert_eq!(go_functions(&other, 0x500), None);
        table[72] = 0x90;
        assert_eq!(go_functions(&table, 0x500), None);
    }

    #[test]
    fn symbols_without_a_size_say_nothing() {
        let entry = |kind: u8, address: u64, size: u64| {
            let mut entry = vec![0, 0, 0, 0, kind, 0, 0, 0];
            entry.extend(address.to_le_bytes());
            entry.extend(size.to_le_bytes());
            entry
        };
        let mut table = entry(0x12, 0x1000, 0x20);
        table.extend(entry(0x12, 0x2000, 0));
        table.extend(entry(0x11, 0x3000, 8));
        table.extend(entry(0x12, u64::MAX, 8));
        let found: Vec<_> = functions(&table).collect();
        assert!(
            matches!(&found[..], [one] if *one == (0x1000..0x1020)),
            "{found:x?}"
        );
    }
}
