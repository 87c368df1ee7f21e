//! Decoding and then encoding is the identity, for every structure and for the outputs of every call in the table.
//!
//! Values are compared as a whole. Bytes are compared if a value shows them: padding, members that are hidden or that a
//! condition leaves out, and the bytes behind the end of a text are not part of a value.

use std::collections::BTreeSet;

use super::*;
use crate::strace;

/// A random generator with a fixed sequence.
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    pub(super) fn below(&mut self, n: u64) -> u64 {
        (self.next() >> 11) % n
    }

    pub(super) fn bytes(&mut self, len: usize) -> Vec<u8> {
        (0..len).map(|_| self.next() as u8).collect()
    }

    /// A number that is likely in this place.
    fn number(&mut self, num: &Num) -> u64 {
        match (self.below(4), num.format) {
            (0, _) => self.next(),
            (1, _) => self.below(70),
            (_, Format::Flags(set) | Format::Enum(set)) => {
                let names: Vec<i64> = set.names().map(|(_, value)| value).collect();
                let one = names[self.below(names.len() as u64) as usize] as u64;
                match num.format {
                    Format::Flags(_) => one | names[self.below(names.len() as u64) as usize] as u64,
                    _ => one,
                }
            }
            (2, _) => 0,
            _ => self.next() >> self.below(64),
        }
    }

    /// Bytes of a structure, with numbers that its members may have.
    fn structure(&mut self, layout: &Layout) -> Vec<u8> {
        let mut bytes = self.bytes(layout.size);
        if self.below(16) == 0 {
            bytes.fill([0, 0xff][self.below(2) as usize]);
        }
        for member in &layout.members {
            let Some(size) = member.kind.fixed_size() else {
                continue;
            };
            let filled = self.member(&member.kind, size);
            bytes[member.offset..member.offset + size].copy_from_slice(&filled);
        }
        bytes
    }

    fn member(&mut self, kind: &Kind, size: usize) -> Vec<u8> {
        match kind {
            Kind::Num(num) => self.number(num).to_le_bytes()[..size].to_vec(),
            // Nothing is mapped at these addresses.
            Kind::Ptr(..) => (self.below(2) * 0x7777_0000).to_le_bytes().to_vec(),
            Kind::Struct(layout) => self.structure(layout),
            Kind::Array(of, _) => match of.fixed_size() {
                Some(each) if each > 0 => (0..size / each)
                    .flat_map(|_| self.member(of, each))
                    .collect(),
                _ => self.bytes(size),
            },
            // Text ends within its field.
            Kind::Chars(_) => {
                let mut text = self.bytes(size);
                let end = self.below(size as u64) as usize;
                text[end] = 0;
                text
            }
            _ => self.bytes(size),
        }
    }
}

const AT: u64 = 0x10_0000;
/// The return value of the call: more than zero, for calls in which that matters.
const RET: i64 = 1;

/// A call with one argument, which points to this kind.
fn single(kind: &str) -> Syscall {
    let line: &'static str = format!("(argp out[{kind}]) int").leak();
    let base = by_name("read").expect("read");
    Syscall::made(base, line).unwrap_or_else(|| panic!("{kind}"))
}

/// Encodes these values, and decodes the bytes again.
fn again(call: &Syscall, values: &[Value], room: &Pieces) -> Result<(Pieces, Vec<Value>), String> {
    let args = [AT, 0, 0, 0, 0, 0];
    let writes = call
        .encode_outputs(&args, values, RET, room)
        .map_err(|e| e.to_string())?;
    let memory = room.clone().apply(&writes);
    let values = call.decode(&args, Some(RET), &memory, &memory);
    Ok((memory, values))
}

/// Parses strace's text for these values.
pub(super) fn through_text(values: &[Value]) -> Vec<Value> {
    let read = values
        .iter()
        .map(|value| strace::value_from_text(&value.to_string()));
    read.map(|value| value.unwrap_or_else(Value::Raw)).collect()
}

/// The problem with decoding and encoding these bytes, if there is one.
fn problem(call: &Syscall, layout: Option<&Layout>, bytes: &[u8]) -> Option<String> {
    let memory = Pieces::default().with(AT, bytes);
    let room = Pieces::default().with(AT, vec![0; bytes.len()]);
    let args = [AT, 0, 0, 0, 0, 0];
    let values = call.decode(&args, Some(RET), &memory, &memory);
    let show = |values: &[Value]| {
        values
            .iter()
            .map(Value::to_string)
            .collect::<Vec<_>>()
            .join(", ")
    };
    for (how, source) in [
        ("", values.clone()),
        ("through text: ", through_text(&values)),
    ] {
        let (after, values_after) = match again(call, &source, &room) {
            Ok(done) => done,
            Err(error) => return Some(format!("{how}{}: {error}", show(&values))),
        };
        if values_after != values {
            return Some(format!(
                "{how}{} became {}",
                show(&values),
                show(&values_after)
            ));
        }
        let mut told = vec![0; bytes.len()];
        after.read(AT, &mut told);
        for (name, range) in covered(layout, &values[0], bytes) {
            if told[range.clone()] != bytes[range.clone()] {
                return Some(format!(
                    "{how}{name} of {}: {:x?} is {:x?}",
                    show(&values),
                    &bytes[range.clone()],
                    &told[range]
                ));
            }
        }
    }
    None
}

/// The bytes that a value shows.
fn covered<'a>(
    layout: Option<&'a Layout>,
    value: &Value,
    bytes: &[u8],
) -> Vec<(&'a str, std::ops::Range<usize>)> {
    let Some(layout) = layout else {
        return vec![("all", 0..bytes.len())];
    };
    let shown = layout
        .members
        .iter()
        .filter(|m| value.field(m.name).is_some() && !m.hidden)
        // Members of the same name are told apart by the structure's conditions, and may have different sizes.
        .filter(|m| {
            let mut namesakes = layout.members.iter().filter(|n| n.name == m.name);
            namesakes.all(|n| n.kind.fixed_size() == m.kind.fixed_size())
        })
        .filter(|m| !matches!(m.kind, Kind::Sockaddr(_)));
    let ranges = shown.filter_map(|member| {
        let size = member.kind.fixed_size()?;
        let range = member.offset..member.offset + size;
        let end = match member.kind {
            Kind::Chars(_) => member.offset + bytes[range].iter().position(|b| *b == 0)?,
            Kind::Num(Num {
                format: Format::Bits(..),
                ..
            }) => return None,
            Kind::Struct(_) => return None, // it has padding of its own, and a turn of its own
            Kind::Array(ref of, _) if of.fixed_size().is_none() => return None,
            Kind::Array(ref of, _) if matches!(**of, Kind::Struct(_)) => return None,
            _ => member.offset + size,
        };
        Some((member.name, member.offset..end))
    });
    ranges.collect()
}

#[test]
fn every_structure_survives() {
    let mut random = Random(0x1234_5678_9abc_def1);
    let mut all: Vec<&Layout> = layouts().collect();
    all.sort_by_key(|layout| layout.name);
    let mut problems = Vec::new();
    // Data behind a pointer in a structure is read by the kernel, as these structures are, or is known to a call only.
    let inputs = ["iocb_head", "mount_attr"];
    let is_input = |l: &&Layout| {
        inputs.contains(&l.name)
            || l.members
                .iter()
                .any(|m| matches!(m.kind, Kind::Ptr(Dir::In | Dir::Out, _)))
    };
    for layout in all.into_iter().filter(|l| !is_input(l)) {
        let call = single(layout.name);
        for _ in 0..400 {
            let bytes = random.structure(layout);
            if let Some(problem) = problem(&call, Some(layout), &bytes) {
                problems.push(format!("{}: {problem}", layout.name));
                break;
            }
        }
    }
    assert!(problems.is_empty(), "{problems:#?}");
}

#[test]
fn every_kind_survives() {
    let mut random = Random(0x0fed_cba9_8765_4321);
    let mut problems = Vec::new();
    let sized: &[(&str, usize)] = &[
        ("bytes[37]", 37),
        ("array[int, 5]", 20),
        ("array[ulong, 5]", 40),
        ("array[fd, 2]", 8),
        ("array[timeval, 2]", 32),
        ("sigset[8]", 8),
        ("cpuset[16]", 16),
        ("fdset[100]", 16),
        ("option[4]", 4),
        ("option[37]", 37),
        ("option[16, timeval]", 16),
        ("option[8, linger]", 8),
        ("option[12, ucred]", 12),
        ("indexed[cc, 19]", 19),
    ];
    for (kind, len) in sized {
        let call = single(kind);
        for _ in 0..400 {
            let bytes = random.bytes(*len);
            if let Some(problem) = problem(&call, None, &bytes) {
                problems.push(format!("{kind}: {problem}"));
                break;
            }
        }
    }
    assert!(problems.is_empty(), "{problems:#?}");
}

/// Every kind of number in the tables, with the size and format that it has there.
#[test]
fn every_number_survives() {
    let mut random = Random(0x5555_1234_0000_9999);
    let (mut kinds, mut problems) = (Vec::new(), Vec::new());
    fn gather<'a>(kind: &'a Kind, found: &mut Vec<&'a Num>) {
        match kind {
            Kind::Num(num) => found.push(num),
            Kind::Ptr(_, to) => gather(to, found),
            Kind::Array(of, _) => gather(of, found),
            _ => {}
        }
    }
    fn of_call<'a>(call: &'a Syscall, found: &mut Vec<&'a Num>) {
        call.args.iter().for_each(|arg| gather(&arg.kind, found));
        call.variants()
            .for_each(|(_, variant)| of_call(variant, found));
    }
    names()
        .filter_map(by_name)
        .for_each(|call| of_call(call, &mut kinds));
    layouts()
        .flat_map(|l| &l.members)
        .for_each(|m| gather(&m.kind, &mut kinds));
    let mut seen = BTreeSet::new();
    for num in kinds {
        if !seen.insert(format!("{num:?}")) {
            continue;
        }
        let name = match num.format {
            Format::Flags(set) | Format::Enum(set) => set.name.to_owned(),
            other => format!("{other:?}"),
        };
        for _ in 0..400 {
            // Only some bits of a number are written; I/O priorities have sixteen.
            let written = match num.format {
                Format::Bits(shift, width) => ((1 << width) - 1) << shift,
                Format::IoPriority => 0xffff,
                _ => num.mask(),
            };
            let shift = written.trailing_zeros();
            let raw = random.number(num) & written;
            let value = num.decode(raw);
            let text = value.to_string();
            let read = strace::value_from_text(&text);
            let numbers = [Some(value), read.ok()]
                .map(|v| v.as_ref().and_then(super::super::number::value_of));
            // Filters are only passed on: their instructions are not evaluated.
            let needed = match num.format {
                Format::Filter { .. } => &numbers[..1],
                _ => &numbers[..],
            };
            let shift = if matches!(num.format, Format::Bits(..)) {
                shift
            } else {
                0
            };
            if needed
                .iter()
                .any(|n| n.map(|n| (n as u64) << shift & num.mask()) != Some(raw))
            {
                problems.push(format!(
                    "{name} ({} bytes): {raw:#x} is {text}, which is {numbers:x?}",
                    num.size
                ));
                break;
            }
        }
    }
    assert!(seen.len() > 100, "{}", seen.len());
    assert!(problems.is_empty(), "{problems:#?}");
}

/// Addresses of every family, of every length.
#[test]
fn every_address_survives() {
    let mut random = Random(0x7777_8888_9999_aaab);
    let mut problems = BTreeSet::new();
    for round in 0..6000u64 {
        let family = match round % 50 {
            47 => random.next() as u16,
            family => family as u16,
        };
        let len = match random.below(3) {
            0 => 2 + random.below(126) as usize,
            1 => [16, 28, 12, 20, 110, 24, 8][random.below(7) as usize],
            _ => 28,
        };
        let mut bytes = random.bytes(len);
        bytes[..2].copy_from_slice(&family.to_le_bytes());
        let call = single(&format!("sockaddr[{len}]"));
        let memory = Pieces::default().with(AT, bytes.clone());
        let args = [AT, 0, 0, 0, 0, 0];
        let values = call.decode(&args, Some(RET), &memory, &memory);
        // The bytes behind the members belong to no family; a path ends at its zero byte.
        let room = Pieces::default().with(AT, vec![0; len]);
        for source in [values.clone(), through_text(&values)] {
            match again(&call, &source, &room) {
                Ok((_, after)) if after == values => {}
                Ok((_, after)) => {
                    problems.insert(format!(
                        "{family}, {len}: {} became {}",
                        values[0], after[0]
                    ));
                }
                Err(error) => {
                    problems.insert(format!("{family}, {len}: {}: {error}", values[0]));
                }
            }
        }
    }
    let shown: Vec<&String> = problems.iter().take(20).collect();
    assert!(problems.is_empty(), "{} {shown:#?}", problems.len());
}

/// All statuses of wait4, each in strace's text.
#[test]
fn every_wait_status_survives() {
    let call = single("waitstatus");
    let statuses = (0..=255u32).map(|code| code << 8);
    let statuses = statuses.chain((1..=64).flat_map(|signal| [signal, signal | 0x80]));
    let statuses = statuses
        .chain((1..=64).map(|signal| signal << 8 | 0x7f))
        .chain([0xffff]);
    for status in statuses {
        assert_eq!(
            problem(&call, None, &status.to_le_bytes()),
            None,
            "{status:#x}"
        );
    }
    let said = |status: u32| {
        let memory = Pieces::default().with(AT, status.to_le_bytes());
        let values = call.decode(&[AT, 0, 0, 0, 0, 0], Some(1), &memory, &memory);
        values[0].to_string()
    };
    assert_eq!(
        said(0x857f),
        "[{WIFSTOPPED(s) && WSTOPSIG(s) == SIGTRAP | 0x80}]"
    );
    assert_eq!(
        said(0x9900_0500),
        "[{WIFEXITED(s) && WEXITSTATUS(s) == 5}|0x9900<<16]"
    );
    assert_eq!(said(0x05ff), "[0x5ff]");
}

#[test]
fn every_directory_entry_survives() {
    let mut random = Random(0x3141_5926_5358_9793);
    for wide in [true, false] {
        for _ in 0..500 {
            let mut bytes = Vec::new();
            for _ in 0..random.below(6) {
                let name: Vec<u8> = (0..1 + random.below(40))
                    .map(|_| 1 + random.below(255) as u8)
                    .collect();
                let from = if wide { 19 } else { 18 };
                let len = (from + name.len() + if wide { 1 } else { 2 }).next_multiple_of(8);
                let mut entry = random.bytes(16);
                entry.extend((len as u16).to_le_bytes());
                entry.extend(wide.then(|| random.below(15) as u8));
                entry.extend(name);
                entry.resize(len, 0);
                if !wide {
                    entry[len - 1] = random.below(15) as u8;
                }
                bytes.extend(entry);
            }
            let kind = format!("dirents{}[{}]", if wide { "64" } else { "" }, bytes.len());
            assert_eq!(problem(&single(&kind), None, &bytes), None);
        }
    }
}
