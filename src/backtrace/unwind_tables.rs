//! Unwinding tables of a module: `.eh_frame` as it is in memory; or, for functions that are not in it, a section of the
//! file.

use super::Deadline;
use super::elf::{self, Elf, Segment, Source};
use crate::tracee::TaskMemory;
use crate::tracee::proc::Map;
use gimli::{
    BaseAddresses, DebugFrame, EhFrame, EhFrameHdr, EndianSlice, LittleEndian, ParsedEhFrameHdr,
    UnwindContext, UnwindSection,
};
use std::ops::Range;

/// The limit on the size of a table.
const MOST: u64 = 32 << 20;

/// The limit on functions in tables without an index; later ones are not found.
const MOST_FUNCTIONS: usize = 1 << 20;

/// Bytes of the traced process or of a file.
pub type Bytes<'a> = EndianSlice<'a, LittleEndian>;

/// The unwinding tables of a module. Addresses are those in the file before relocation.
pub enum Tables {
    /// With the index that the linker made.
    Indexed {
        /// `.eh_frame_hdr`, and its address.
        index: (Vec<u8>, u64),
        /// `.eh_frame`, and its address.
        frames: (Vec<u8>, u64),
    },
    /// A section without an index.
    Plain {
        /// Whether it is `.eh_frame` rather than `.debug_frame`.
        eh: bool,
        /// The section, and its address.
        frames: (Vec<u8>, u64),
        /// The functions in it: first address, one past the last, offset in the section.
        functions: Vec<(u64, u64, usize)>,
    },
}

/// A callback for the unwinding rules of an address: the row, the section as bytes, the encoding of expressions, and
/// whether the address is in a signal trampoline.
pub type WithRow<'a, R> =
    &'a mut dyn FnMut(&gimli::UnwindTableRow<usize>, Bytes<'_>, gimli::Encoding, bool) -> R;

impl Tables {
    /// The tables in memory, by the program headers.
    pub fn in_memory(
        segments: &[Segment],
        bias: u64,
        memory: TaskMemory,
        maps: &[Map],
    ) -> Option<Tables> {
        let header = segments.iter().find(|s| s.kind == elf::EH_FRAME)?;
        let index = read(memory, header.address.wrapping_add(bias), header.size)?;
        let bases = BaseAddresses::default().set_eh_frame_hdr(header.address);
        let parsed = parse(&index, &bases)?;
        let at = parsed.eh_frame_ptr().direct().ok()?;
        parsed.table()?;
        let start = at.wrapping_add(bias);
        let map = maps.iter().find(|map| map.holds(start))?;
        let frames = read(memory, start, (map.end - start).min(MOST))?;
        Some(Tables::Indexed {
            index: (index, header.address),
            frames: (frames, at),
        })
    }

    /// The tables of a file with an index: only the index and the section itself are read.
    pub fn indexed_in_file(source: Source<'_>, segments: &[Segment]) -> Option<Tables> {
        let header = segments.iter().find(|s| s.kind == elf::EH_FRAME)?;
        let index = source.read(header.offset, header.file_size)?;
        let bases = BaseAddresses::default().set_eh_frame_hdr(header.address);
        let parsed = parse(&index, &bases)?;
        let at = parsed.eh_frame_ptr().direct().ok()?;
        parsed.table()?;
        let mut loaded = segments.iter().filter(|segment| segment.kind == elf::LOAD);
        let (offset, len) = loaded.find_map(|segment| {
            let inside = at.checked_sub(segment.address)?;
            let len = segment
                .file_size
                .checked_sub(inside)
                .filter(|&len| len > 0)?;
            Some((segment.offset.checked_add(inside)?, len))
        })?;
        let frames = source.read(offset, len.min(MOST))?;
        Some(Tables::Indexed {
            index: (index, header.address),
            frames: (frames, at),
        })
    }

    /// The tables of a file.
    pub fn in_file(source: Source<'_>, deadline: &Deadline) -> Option<Tables> {
        let elf = Elf::read(source);
        let of = |name: &str, eh: bool| {
            let address = elf.section(name)?.address;
            let content = elf.content(source, name)?;
            let section = Bytes::new(&content, LittleEndian);
            let bases = BaseAddresses::default().set_eh_frame(address);
            let functions = match eh {
                true => functions(&EhFrame::from(section), &bases, deadline),
                false => functions(&DebugFrame::from(section), &bases, deadline),
            };
            let found = !functions.is_empty();
            found.then_some(Tables::Plain {
                eh,
                frames: (content, address),
                functions,
            })
        };
        of(".debug_frame", false).or_else(|| of(".eh_frame", true))
    }

    /// The memory that the tables take, in bytes.
    pub fn len(&self) -> usize {
        match self {
            Tables::Indexed { index, frames } => index.0.len() + frames.0.len(),
            Tables::Plain {
                frames, functions, ..
            } => frames.0.len() + functions.len() * 24,
        }
    }

    /// The range of the function that contains an address of the file.
    pub fn extent(&self, address: u64) -> Option<Range<u64>> {
        let extent = match self {
            Tables::Indexed { index, frames } => {
                let (section, bases, offset) = indexed(index, frames, address)?;
                let fde = section.fde_from_offset(&bases, offset.into(), EhFrame::cie_from_offset);
                let fde = fde.ok()?;
                fde.initial_address()..fde.end_address()
            }
            Tables::Plain { functions, .. } => {
                let &(start, end, _) = last_before(functions, address)?;
                start..end
            }
        };
        Some(extent).filter(|extent| extent.contains(&address))
    }

    /// Calls a function with the rules for an address of the file, if there are any.
    pub fn at<R>(&self, address: u64, then: WithRow<'_, R>) -> Option<R> {
        match self {
            Tables::Indexed { index, frames } => {
                let (section, bases, offset) = indexed(index, frames, address)?;
                row(&section, &bases, offset, address, then)
            }
            Tables::Plain {
                eh,
                frames,
                functions,
            } => {
                let &(_, _, offset) = last_before(functions, address)?;
                let bases = BaseAddresses::default().set_eh_frame(frames.1);
                let section = Bytes::new(&frames.0, LittleEndian);
                match eh {
                    true => row(&EhFrame::from(section), &bases, offset, address, then),
                    false => row(&DebugFrame::from(section), &bases, offset, address, then),
                }
            }
        }
    }
}

/// The offset in the section of the description of the function that may contain an address.
fn indexed<'a>(
    index: &'a (Vec<u8>, u64),
    frames: &'a (Vec<u8>, u64),
    address: u64,
) -> Option<(EhFrame<Bytes<'a>>, BaseAddresses, usize)> {
    let bases = BaseAddresses::default()
        .set_eh_frame_hdr(index.1)
        .set_eh_frame(frames.1);
    let parsed = parse(&index.0, &bases)?;
    let found = parsed.table()?.lookup(address, &bases).ok()?;
    let offset = found.direct().ok()?.checked_sub(frames.1)?;
    let section = EhFrame::new(&frames.0, LittleEndian);
    Some((section, bases, usize::try_from(offset).ok()?))
}

/// The function that may contain an address.
fn last_before(functions: &[(u64, u64, usize)], address: u64) -> Option<&(u64, u64, usize)> {
    let end = functions.partition_point(|&(start, ..)| start <= address);
    functions.get(end.checked_sub(1)?)
}

fn read(memory: TaskMemory, at: u64, len: u64) -> Option<Vec<u8>> {
    if len > MOST {
        return None;
    }
    let bytes = memory.bytes(at, len as usize);
    (bytes.len() as u64 == len).then_some(bytes)
}

fn parse<'a>(index: &'a [u8], bases: &BaseAddresses) -> Option<ParsedEhFrameHdr<Bytes<'a>>> {
    EhFrameHdr::new(index, LittleEndian).parse(bases, 8).ok()
}

fn functions<'a, S>(
    section: &S,
    bases: &BaseAddresses,
    deadline: &Deadline,
) -> Vec<(u64, u64, usize)>
where
    S: UnwindSection<Bytes<'a>>,
    S::Offset: gimli::UnwindOffset<usize>,
{
    let mut all = Vec::new();
    let mut entries = section.entries(bases);
    while let Ok(Some(entry)) = entries.next() {
        if all.len() >= MOST_FUNCTIONS || all.len() % 1024 == 0 && deadline.passed() {
            break;
        }
        if let gimli::CieOrFde::Fde(partial) = entry
            && let Ok(fde) = partial.parse(S::cie_from_offset)
        {
            all.push((fde.initial_address(), fde.end_address(), fde.offset()));
        }
    }
    all.sort_unstable();
    all
}

fn row<'a, S, R>(
    section: &S,
    bases: &BaseAddresses,
    offset: usize,
    address: u64,
    then: WithRow<'_, R>,
) -> Option<R>
where
    S: UnwindSection<Bytes<'a>> + gimli::Section<Bytes<'a>>,
{
    let fde = section
        .fde_from_offset(bases, offset.into(), S::cie_from_offset)
        .ok()
        .filter(|fde| fde.contains(address))?;
    let mut context = UnwindContext::new();
    let row = fde
        .unwind_info_for_address(section, bases, &mut context, address)
        .ok()?;
    let bytes = *section.reader();
    let encoding = fde.cie().encoding();
    Some(then(row, bytes, encoding, fde.is_signal_trampoline()))
}
