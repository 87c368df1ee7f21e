//! Functions, files and lines of addresses, from the compiler's debug information (DWARF).
//!
//! Tables are searched in place, and only a list of units is built from them, so that time and memory are limited
//! whatever their content.

use super::Deadline;
use super::elf::{Elf, Source};
use super::symbols::{harmless, pretty};
use super::unwind_tables::Bytes;
use gimli::{
    AttributeValue, DebugInfoOffset, DebuggingInformationEntry, Dwarf, DwarfSections, LittleEndian,
    SectionId, Unit, UnitOffset, constants as dw,
};
use std::cell::OnceCell;

/// The limit on address ranges of units; later ones are not found.
const MOST_RANGES: usize = 1 << 20;

/// The limit on units; later ones are not found.
const MOST_UNITS: usize = 1 << 20;

/// The limit on the length of `.debug_abbrev`, in bytes. In memory it takes twenty times as much.
const MOST_ABBREVIATIONS: usize = 8 << 20;

/// The limit on the length of a unit's lists of files and directories, in bytes. In memory they take a hundred times as
/// much.
const LONGEST_LISTS: u64 = 2 << 20;

/// The limit on nested inlined functions.
const MOST_INLINED: usize = 64;

/// The limit on references from one entry to another for a function's name.
const MOST_REFERENCES: usize = 8;

/// The limit on paths of files, in bytes.
const LONGEST_PATH: usize = 4 << 10;

/// A function's name and a line in its source.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Line {
    /// The function.
    pub function: Option<String>,
    /// The path of the file.
    pub file: Option<String>,
    /// The line number.
    pub line: Option<u32>,
    /// Whether the function is inlined into the next one.
    pub inlined: bool,
}

type Sections = DwarfSections<Vec<u8>>;

/// The debug information of a file.
pub struct Lines {
    sections: Sections,
    /// The shared file of `.gnu_debugaltlink`.
    shared: Option<Sections>,
    units: OnceCell<Units>,
}

/// The index of units.
#[derive(Default)]
struct Units {
    /// The offsets of the units, rising.
    starts: Vec<usize>,
    /// First address, one past the last, the unit.
    ranges: Vec<(u64, u64, usize)>,
}

fn load(source: Source<'_>, elf: &Elf) -> Sections {
    let wanted = |id: SectionId| {
        let content = match id {
            SectionId::DebugAbbrev
            | SectionId::DebugAddr
            | SectionId::DebugInfo
            | SectionId::DebugLine
            | SectionId::DebugLineStr
            | SectionId::DebugStr
            | SectionId::DebugStrOffsets
            | SectionId::DebugRanges
            | SectionId::DebugRngLists => elf.content(source, id.name()),
            _ => None,
        };
        let content = content
            .filter(|content| id != SectionId::DebugAbbrev || content.len() <= MOST_ABBREVIATIONS);
        Ok::<_, std::convert::Infallible>(content.unwrap_or_default())
    };
    let Ok(sections) = DwarfSections::load(wanted);
    sections
}

impl Lines {
    /// Reads the debug information of a file, if it has any; `shared` finds the file that `.gnu_debugaltlink` refers
    /// to.
    pub fn read(
        source: Source<'_>,
        shared: impl FnOnce(&[u8]) -> Option<std::fs::File>,
    ) -> Option<Lines> {
        let elf = Elf::read(source);
        elf.section(".debug_info")?;
        let link = elf.content(source, ".gnu_debugaltlink");
        let shared = link.and_then(|link| {
            let file = shared(&link)?;
            let source = Source::File(&file);
            Some(load(source, &Elf::read(source)))
        });
        let sections = load(source, &elf);
        Some(Lines {
            sections,
            shared,
            units: OnceCell::new(),
        })
    }

    /// The memory that the debug information takes, in bytes.
    pub fn len(&self) -> usize {
        let all = [Some(&self.sections), self.shared.as_ref()];
        let mut len = 0;
        for sections in all.into_iter().flatten() {
            sections.borrow(|section| {
                len += section.len();
                Bytes::new(section, LittleEndian)
            });
        }
        len
    }

    /// The lines of an address of the file: inlined functions, then the function that contains them.
    pub fn look_up(&self, address: u64, deadline: &Deadline) -> Vec<Line> {
        let dwarf = borrow(&self.sections, self.shared.as_ref());
        let units = self.units.get_or_init(|| units(&dwarf, deadline));
        let end = units
            .ranges
            .partition_point(|&(start, ..)| start <= address);
        /// The limit on nested ranges, which are rare.
        const NESTED: usize = 16;
        let near = units.ranges[..end].iter().rev().take(NESTED);
        let mut found = Vec::new();
        for &(_, _, start) in near.filter(|&&(_, end, _)| address < end) {
            let search = Search {
                dwarf: &dwarf,
                starts: &units.starts,
                deadline,
            };
            found = search.unit(start, address).unwrap_or_default();
            if !found.is_empty() {
                break;
            }
        }
        found
    }
}

fn borrow<'a>(sections: &'a Sections, shared: Option<&'a Sections>) -> Dwarf<Bytes<'a>> {
    sections.borrow_with_sup(shared, |section| Bytes::new(section, LittleEndian))
}

fn units(dwarf: &Dwarf<Bytes<'_>>, deadline: &Deadline) -> Units {
    let mut units = Units::default();
    let mut headers = dwarf.units();
    while let Ok(Some(header)) = headers.next() {
        if units.starts.len() >= MOST_UNITS || deadline.passed() {
            break;
        }
        let Some(start) = header.debug_info_offset() else {
            continue;
        };
        units.starts.push(start.0);
        let Some(unit) = unit(dwarf, header) else {
            continue;
        };
        let Ok(mut ranges) = dwarf.unit_ranges(&unit) else {
            continue;
        };
        while let Ok(Some(range)) = ranges.next() {
            if units.ranges.len() >= MOST_RANGES {
                break;
            }
            // Functions that the linker removed are at 0.
            if range.begin != 0 && range.begin < range.end {
                units.ranges.push((range.begin, range.end, start.0));
            }
        }
    }
    units.ranges.sort_unstable();
    units
}

/// Reads a unit, if its lists of files are not too long.
fn unit<'a>(
    dwarf: &Dwarf<Bytes<'a>>,
    header: gimli::UnitHeader<Bytes<'a>>,
) -> Option<Unit<Bytes<'a>>> {
    let abbreviations = dwarf.abbreviations(&header).ok()?;
    let root = header.entry(&abbreviations, header.root_offset()).ok()?;
    if let Some(AttributeValue::DebugLineRef(at)) = root.attr_value(dw::DW_AT_stmt_list) {
        let mut program = *gimli::Section::reader(&dwarf.debug_line);
        gimli::Reader::skip(&mut program, at.0).ok()?;
        if lists(program)? > LONGEST_LISTS {
            return None;
        }
    }
    Unit::new_with_abbreviations(dwarf, header, abbreviations).ok()
}

/// The length of a line program's header: `header_length`.
fn lists(mut program: Bytes<'_>) -> Option<u64> {
    use gimli::Reader;
    let (_, format) = program.read_initial_length().ok()?;
    let version = program.read_u16().ok()?;
    if version >= 5 {
        // The sizes of addresses and segments.
        program.read_u16().ok()?;
    }
    let length = program.read_length(format).ok()?;
    Some(length as u64)
}

struct Search<'a, 'b> {
    dwarf: &'b Dwarf<Bytes<'a>>,
    starts: &'b [usize],
    deadline: &'b Deadline,
}

/// A function in a unit, or an inlined one.
struct Scope {
    depth: isize,
    at: UnitOffset,
}

/// A line of a file, by the file's number in the unit.
#[derive(Clone, Copy)]
struct LineRef {
    file: u64,
    line: Option<u32>,
}

impl<'a> Search<'a, '_> {
    fn unit(&self, start: usize, address: u64) -> Option<Vec<Line>> {
        let header = self.dwarf.unit_header(DebugInfoOffset(start)).ok()?;
        let unit = unit(self.dwarf, header)?;
        let mut spot = self.spot(&unit, address);
        let scopes = self.scopes(&unit, address).unwrap_or_default();
        let mut found = Vec::new();
        for (place, scope) in scopes.iter().enumerate().rev() {
            let Ok(entry) = unit.entry(scope.at) else {
                break;
            };
            found.push(Line {
                function: self.name(&unit, &entry),
                file: spot.and_then(|spot| self.path(&unit, spot.file)),
                line: spot.and_then(|spot| spot.line),
                inlined: place > 0,
            });
            let number = |name| entry.attr_value(name).and_then(|value| value.udata_value());
            let file = match entry.attr_value(dw::DW_AT_call_file) {
                Some(AttributeValue::FileIndex(file)) => Some(file),
                other => other.and_then(|value| value.udata_value()),
            };
            spot = file.map(|file| LineRef {
                file,
                line: number(dw::DW_AT_call_line).and_then(|line| line.try_into().ok()),
            });
        }
        if found.is_empty() {
            // Assembly has lines but no functions.
            let spot = spot?;
            found.push(Line {
                file: self.path(&unit, spot.file),
                line: spot.line,
                ..Line::default()
            });
        }
        Some(found)
    }

    /// The function that contains an address, then the functions inlined there, the innermost last.
    fn scopes(&self, unit: &Unit<Bytes<'a>>, address: u64) -> Option<Vec<Scope>> {
        let mut scopes: Vec<Scope> = Vec::new();
        let mut entries = unit.entries_raw(None).ok()?;
        let mut count = 0u32;
        while !entries.is_empty() {
            count = count.wrapping_add(1);
            if count.is_multiple_of(1024) && self.deadline.passed() {
                return None;
            }
            let (at, depth) = (entries.next_offset(), entries.next_depth());
            let Some(abbreviation) = entries.read_abbreviation().ok()? else {
                continue;
            };
            if scopes.first().is_some_and(|outer| depth <= outer.depth) {
                break;
            }
            entries.skip_attributes(abbreviation.attributes()).ok()?;
            let outer = abbreviation.tag() == dw::DW_TAG_subprogram;
            if !outer && (abbreviation.tag() != dw::DW_TAG_inlined_subroutine || scopes.is_empty())
            {
                continue;
            }
            let Ok(entry) = unit.entry(at) else { continue };
            if !self.holds(unit, &entry, address) {
                continue;
            }
            match outer {
                true => scopes.clear(),
                false => scopes.retain(|scope| scope.depth < depth),
            }
            if scopes.len() < MOST_INLINED {
                scopes.push(Scope { depth, at });
            }
        }
        Some(scopes)
    }

    fn holds(
        &self,
        unit: &Unit<Bytes<'a>>,
        entry: &DebuggingInformationEntry<Bytes<'a>>,
        address: u64,
    ) -> bool {
        let Ok(mut ranges) = self.dwarf.die_ranges(unit, entry) else {
            return false;
        };
        while let Ok(Some(range)) = ranges.next() {
            if (range.begin..range.end).contains(&address) {
                return true;
            }
        }
        false
    }

    fn name(
        &self,
        unit: &Unit<Bytes<'a>>,
        entry: &DebuggingInformationEntry<Bytes<'a>>,
    ) -> Option<String> {
        self.name_within(self.dwarf, unit, entry, MOST_REFERENCES)
    }

    fn name_within(
        &self,
        dwarf: &Dwarf<Bytes<'a>>,
        unit: &Unit<Bytes<'a>>,
        entry: &DebuggingInformationEntry<Bytes<'a>>,
        left: usize,
    ) -> Option<String> {
        let names = [
            dw::DW_AT_linkage_name,
            dw::DW_AT_MIPS_linkage_name,
            dw::DW_AT_name,
        ];
        let mut given = names.iter().filter_map(|&name| entry.attr_value(name));
        if let Some(name) = given.next() {
            let name = dwarf.attr_string(unit, name).ok()?;
            return Some(pretty(name.slice()));
        }
        let left = left.checked_sub(1)?;
        let references = [dw::DW_AT_abstract_origin, dw::DW_AT_specification];
        let mut given = references
            .iter()
            .filter_map(|&reference| entry.attr_value(reference));
        match given.next()? {
            AttributeValue::UnitRef(at) => {
                self.name_within(dwarf, unit, &unit.entry(at).ok()?, left)
            }
            AttributeValue::DebugInfoRef(at) => {
                let end = self.starts.partition_point(|&start| start <= at.0);
                let start = *self.starts.get(end.checked_sub(1)?)?;
                self.name_at(dwarf, start, at, left)
            }
            AttributeValue::DebugInfoRefSup(at) => {
                let shared = dwarf.sup()?;
                let mut headers = shared.units();
                let mut start = None;
                while let Ok(Some(header)) = headers.next() {
                    match header.debug_info_offset() {
                        Some(offset) if offset.0 <= at.0 => start = Some(offset.0),
                        _ => break,
                    }
                }
                self.name_at(shared, start?, at, left)
            }
            _ => None,
        }
    }

    fn name_at(
        &self,
        dwarf: &Dwarf<Bytes<'a>>,
        start: usize,
        at: DebugInfoOffset,
        left: usize,
    ) -> Option<String> {
        let header = dwarf.unit_header(DebugInfoOffset(start)).ok()?;
        let offset = at.to_unit_offset(&header)?;
        let unit = unit(dwarf, header)?;
        let entry = unit.entry(offset).ok()?;
        self.name_within(dwarf, &unit, &entry, left)
    }

    /// The line of an address.
    fn spot(&self, unit: &Unit<Bytes<'a>>, address: u64) -> Option<LineRef> {
        let mut rows = unit.line_program.clone()?.rows();
        let mut before: Option<(u64, LineRef)> = None;
        // Whether the sequence of rows is that of removed code, which is at 0.
        let mut dropped = false;
        let mut count = 0u32;
        while let Ok(Some((_, row))) = rows.next_row() {
            count = count.wrapping_add(1);
            if count.is_multiple_of(4096) && self.deadline.passed() {
                return None;
            }
            if let Some((start, spot)) = before
                && !dropped
                && (start..row.address()).contains(&address)
            {
                return Some(spot);
            }
            if before.is_none() {
                dropped = row.address() == 0;
            }
            let line = row.line().and_then(|line| u32::try_from(line.get()).ok());
            let spot = LineRef {
                file: row.file_index(),
                line,
            };
            before = (!row.end_sequence()).then_some((row.address(), spot));
        }
        None
    }

    /// The path of a file, from the directory in which it was compiled.
    fn path(&self, unit: &Unit<Bytes<'a>>, file: u64) -> Option<String> {
        let program = unit.line_program.as_ref()?;
        let header = program.header();
        let entry = header.file(file)?;
        let text = |value| self.dwarf.attr_string(unit, value).ok();
        let mut path = Vec::new();
        let parts = [
            unit.comp_dir,
            entry.directory(header).and_then(text),
            text(entry.path_name()),
        ];
        for part in parts.into_iter().flatten() {
            let part = part.slice();
            if part.starts_with(b"/") {
                path.clear();
            } else if !path.is_empty() {
                path.push(b'/');
            }
            path.extend_from_slice(&part[..part.len().min(LONGEST_PATH)]);
        }
        (!path.is_empty()).then(|| harmless(String::from_utf8_lossy(&path).into_owned()))
    }
}
