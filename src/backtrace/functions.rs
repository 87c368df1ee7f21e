//! Where the functions of a file are, as its tables for unwinding and its symbols have it.

use super::elf::{self, EH_FRAME, Elf, HEADER, LOAD, Source};
use gimli::{BaseAddresses, CieOrFde, EhFrame, LittleEndian, UnwindSection};
use std::fs::File;
use std::ops::Range;

/// The ranges of a file between the beginnings of its functions, as offsets in it, by rising offset; `None` where it is
/// no ELF file.
pub fn functions(file: &File) -> Option<Vec<Range<u64>>> {
    let source = Source::File(file);
    let header = source.read(0, HEADER as u64)?;
    let segments = elf::segments(&header, |at, len| source.read(at, len))?;
    let table = segments.iter().find(|segment| segment.kind == EH_FRAME);
    let sorted = table.and_then(|table| {
        let bytes = source.read(table.offset, table.file_size)?;
        starts(&bytes, table.address)
    });
    let elf = Elf::read(source);
    // Programs that are linked statically may have the frames alone.
    let mut starts = sorted
        .or_else(|| in_frames(&elf, source))
        .unwrap_or_default();
    for table in [".symtab", ".dynsym"] {
        let symbols = elf.symbols(source, table);
        starts.extend(symbols.iter().flat_map(|(table, _)| in_symbols(table)));
    }
    starts.sort_unstable();
    starts.dedup();
    let mut ranges = Vec::new();
    for segment in segments.iter().filter(|segment| segment.kind == LOAD) {
        let end = segment.address.checked_add(segment.file_size)?;
        let inside: Vec<u64> = starts
            .iter()
            .copied()
            .filter(|start| (segment.address..end).contains(start))
            .collect();
        let ends = inside.iter().copied().skip(1).chain([end]);
        let offset = |address: u64| (address - segment.address).checked_add(segment.offset);
        for (&start, end) in inside.iter().zip(ends) {
            ranges.push(offset(start)?..offset(end)?);
        }
    }
    Some(ranges)
}

/// The beginnings of the functions that `.eh_frame` describes.
fn in_frames(elf: &Elf, source: Source<'_>) -> Option<Vec<u64>> {
    let address = elf.section(".eh_frame")?.address;
    let bytes = elf.content(source, ".eh_frame")?;
    let frames = EhFrame::new(&bytes, LittleEndian);
    let bases = BaseAddresses::default().set_eh_frame(address);
    let mut entries = frames.entries(&bases);
    let mut starts = Vec::new();
    while let Ok(Some(entry)) = entries.next() {
        if let CieOrFde::Fde(partial) = entry
            && let Ok(function) = partial.parse(EhFrame::cie_from_offset)
        {
            starts.push(function.initial_address());
        }
    }
    Some(starts)
}

/// The addresses of functions in a table of symbols (`Elf64_Sym`).
fn in_symbols(table: &[u8]) -> impl Iterator<Item = u64> + '_ {
    const FUNCTION: u8 = 2;
    const SIZE: usize = 24;
    let entries = table.as_chunks::<SIZE>().0.iter();
    let functions = entries.filter(|entry| entry[4] & 15 == FUNCTION);
    functions
        .map(|entry| entry[8..16].try_into().map_or(0, u64::from_le_bytes))
        .filter(|&address| address != 0)
}

/// The first column of the table for searching in `.eh_frame_hdr`, in the only encoding that linkers write: offsets
/// of four bytes from the beginning of it.
fn starts(bytes: &[u8], address: u64) -> Option<Vec<u64>> {
    const VERSION: u8 = 1;
    const RELATIVE_32: u8 = 0x3b;
    const COUNT_32: u8 = 0x03;
    const POINTER_32: u8 = 0x1b;
    let (head, rest) = bytes.split_at_checked(12)?;
    if head[..4] != [VERSION, POINTER_32, COUNT_32, RELATIVE_32] {
        return None;
    }
    let count = u32::from_le_bytes(head[8..].try_into().ok()?) as usize;
    let entries = rest.get(..count.checked_mul(8)?)?.as_chunks::<8>().0;
    let start = |entry: &[u8; 8]| {
        let offset = i32::from_le_bytes([entry[0], entry[1], entry[2], entry[3]]);
        address.wrapping_add_signed(offset.into())
    };
    Some(entries.iter().map(start).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_program_has_functions() {
        let file = File::open("/proc/self/exe").unwrap();
        let functions = functions(&file).unwrap();
        assert!(functions.len() > 100);
        assert!(functions.is_sorted_by_key(|range| range.start));
        assert!(functions.iter().all(|range| range.start < range.end));
    }

    #[test]
    fn tables_that_make_no_sense_are_none() {
        assert_eq!(starts(&[1, 0x1b, 3, 0x3b], 0), None);
        let mut table = vec![1, 0x1b, 3, 0x3b, 0, 0, 0, 0, 1, 0, 0, 0];
        assert_eq!(starts(&table, 0x100), None);
        table.extend_from_slice(&[0xf0, 0xff, 0xff, 0xff, 9, 9, 9, 9]);
        assert_eq!(starts(&table, 0x100), Some(vec![0xf0]));
        table[3] = 0;
        assert_eq!(starts(&table, 0x100), None);
    }
}
