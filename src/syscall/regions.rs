//! The memory to which a call's arguments point: the regions that the kernel reads, and those that it wrote.

use super::frame::{
    Frame, MOST_BYTES, MOST_ELEMENTS, MOST_PATH, MOST_STRING, MOST_STRINGS, Side, read_some,
    read_text, read_word,
};
use super::kind::{Dir, Kind};
use super::message;
use super::table::Syscall;
use super::{Memory, Moved, Region};
use crate::constants::{is_error, is_restart};

/// Returns whether a call was interrupted: `-EINTR`, or the kernel's `-ERESTARTSYS` to `-ERESTART_RESTARTBLOCK` that
/// become it.
pub(crate) fn is_interrupted(ret: i64) -> bool {
    ret == -i64::from(libc::EINTR) || is_restart(ret)
}

impl Dir {
    /// Returns whether the kernel reads the data behind the pointer.
    pub(crate) fn reads(self) -> bool {
        matches!(
            self,
            Dir::In | Dir::InOut | Dir::Update | Dir::Word | Dir::InOutAlways
        )
    }

    /// Returns whether the kernel wrote the data behind the pointer in a call that returned this.
    pub(crate) fn written(self, ret: i64) -> bool {
        match self {
            Dir::In => false,
            Dir::Out | Dir::InOut | Dir::Word => !is_error(ret),
            Dir::OutSome => !is_error(ret) && ret != 0,
            Dir::Update | Dir::OutAlways | Dir::InOutAlways => true,
            Dir::Interrupted => is_interrupted(ret),
        }
    }
}

impl Syscall {
    /// The memory that the kernel reads for this call, in the order of the arguments and depth first: paths, write
    /// buffers, structures, argv and its strings, iovecs and their buffers. This must be called at the entry of the
    /// call.
    pub fn inputs(&self, args: &[u64; 6], mem: &dyn Memory) -> Vec<Region> {
        let mut regions = Vec::new();
        let args = &self.values(args, mem);
        let frame = Frame::new(self, args, 0, mem, mem);
        for ((index, arg), &addr) in self.args.iter().enumerate().zip(args) {
            if let Kind::Ptr(dir, to) = &arg.kind
                && dir.reads()
                && addr != 0
                && frame.holds(&arg.condition)
            {
                read(to, index, addr, &frame, &mut regions);
            }
        }
        regions
    }

    /// The memory that the kernel wrote, given its raw return value (negative is -errno). This must be called at the
    /// exit of the call: `entry` is memory as it was at entry, which has the sizes of the buffers, `exit` is the
    /// present memory, which has the sizes of the filled parts. The result never has more than the kernel may write.
    pub fn outputs(
        &self,
        args: &[u64; 6],
        ret: i64,
        entry: &dyn Memory,
        exit: &dyn Memory,
    ) -> Vec<Region> {
        let mut regions = Vec::new();
        let args = &self.values(args, entry);
        let frame = Frame::new(self, args, ret, entry, exit);
        for ((index, arg), &addr) in self.args.iter().enumerate().zip(args) {
            let Kind::Ptr(dir, to) = &arg.kind else {
                continue;
            };
            if addr == 0 || !frame.holds(&arg.condition) {
                continue;
            }
            match &**to {
                Kind::Iovec(Moved::Out, _) | Kind::Message(Moved::Out) | Kind::Messages(..)
                    if !is_error(ret) =>
                {
                    message::written(to, index, addr, &frame, &mut regions);
                }
                _ if dir.written(ret) => write(to, index, addr, &frame, &mut regions),
                _ => {}
            }
            if let Some(layout) = to.layout()
                && dir.reads()
            {
                behind(layout, index, addr, &frame, &mut regions);
            }
        }
        regions
    }
}

pub(crate) fn push(arg: usize, addr: u64, len: usize, regions: &mut Vec<Region>) {
    if addr != 0 && len > 0 {
        let len = (len as u64).min(MOST_BYTES) as usize;
        regions.push(Region { arg, addr, len });
    }
}

/// Adds the memory that the kernel reads from `addr` on.
pub(crate) fn read(
    kind: &Kind,
    arg: usize,
    addr: u64,
    frame: &Frame<'_>,
    regions: &mut Vec<Region>,
) {
    match kind {
        Kind::Path => text(MOST_PATH, arg, addr, frame, regions),
        Kind::Str => text(MOST_STRING, arg, addr, frame, regions),
        Kind::Strings => strings(arg, addr, frame, regions),
        Kind::Iovec(..) | Kind::Message(_) | Kind::Messages(..) => {
            message::read(kind, arg, addr, frame, regions);
        }
        _ => {
            push(
                arg,
                addr,
                frame.size(kind, Side::Entry).unwrap_or(0),
                regions,
            );
            if let Some(layout) = kind.layout().filter(|layout| layout.has_pointers()) {
                let size = frame.size(kind, Side::Entry).unwrap_or(0);
                members(layout, arg, (addr, size), frame, regions);
            } else if let Kind::Array(of, extent) = kind
                && let Kind::Ptr(dir, to) = &**of
                && dir.reads()
            {
                let count = frame.count(*extent, Side::Entry, MOST_ELEMENTS);
                pointers(to, arg, (addr, count), frame, regions);
            }
        }
    }
}

/// Adds the memory to which an array of pointers points.
fn pointers(
    to: &Kind,
    arg: usize,
    (addr, count): (u64, usize),
    frame: &Frame<'_>,
    regions: &mut Vec<Region>,
) {
    let word = frame.abi.word();
    for index in 0..count {
        let at = addr.wrapping_add((index * word) as u64);
        let Some(pointer) = read_word(frame.entry, at, word) else {
            break;
        };
        if pointer != 0 {
            read(to, arg, pointer, frame, regions);
        }
    }
}

fn text(most: usize, arg: usize, addr: u64, frame: &Frame<'_>, regions: &mut Vec<Region>) {
    if let Some((text, ended)) = read_text(frame.entry, addr, most) {
        push(arg, addr, text.len() + usize::from(ended), regions);
    }
}

fn strings(arg: usize, addr: u64, frame: &Frame<'_>, regions: &mut Vec<Region>) {
    let word = frame.abi.word();
    let mut pointers = Vec::new();
    while (pointers.len() as u64) < MOST_ELEMENTS {
        let at = addr.wrapping_add((pointers.len() * word) as u64);
        let Some(pointer) = read_word(frame.entry, at, word) else {
            break;
        };
        pointers.push(pointer);
        if pointer == 0 {
            break;
        }
    }
    push(arg, addr, pointers.len() * word, regions);
    let mut left = MOST_STRINGS;
    for pointer in pointers {
        let before = regions.len();
        text(MOST_STRING.min(left), arg, pointer, frame, regions);
        let new = regions.get(before..).unwrap_or(&[]);
        left = left.saturating_sub(new.iter().map(|r| r.len).sum());
    }
}

fn members(
    layout: &'static super::Layout,
    arg: usize,
    (addr, size): (u64, usize),
    frame: &Frame<'_>,
    regions: &mut Vec<Region>,
) {
    let bytes = read_some(frame.entry, addr, size.min(layout.size));
    let inner = frame.inside(layout, &bytes);
    for (index, member) in layout.members.iter().enumerate() {
        if let Kind::Ptr(dir, to) = &member.kind
            && dir.reads()
            && member.is_within(&bytes)
            && inner.holds(&member.condition)
        {
            let pointer = inner.number(index);
            // Structures behind pointers in structures are described to this depth only.
            if pointer != 0 && !matches!(**to, Kind::Struct(_)) {
                read(to, arg, pointer, &inner, regions);
            } else if let (false, Kind::Struct(to)) = (pointer == 0, &**to) {
                push(arg, pointer, to.size, regions);
            }
        }
    }
}

/// Adds the memory that the kernel wrote behind the pointers in a structure that it has read.
fn behind(
    layout: &'static super::Layout,
    arg: usize,
    addr: u64,
    frame: &Frame<'_>,
    regions: &mut Vec<Region>,
) {
    if !layout.has_pointers() {
        return;
    }
    let bytes = read_some(frame.entry, addr, layout.size);
    let inner = frame.inside(layout, &bytes);
    for (index, member) in layout.members.iter().enumerate() {
        if let Kind::Ptr(dir, to) = &member.kind
            && !dir.reads()
            && dir.written(frame.ret)
            && inner.holds(&member.condition)
        {
            write(to, arg, inner.number(index), &inner, regions);
        }
    }
}

/// Adds the memory that the kernel wrote from `addr` on.
fn write(kind: &Kind, arg: usize, addr: u64, frame: &Frame<'_>, regions: &mut Vec<Region>) {
    if matches!(kind, Kind::Str)
        && let Some((text, true)) = read_text(frame.exit, addr, MOST_STRING)
    {
        push(arg, addr, text.len() + 1, regions);
        return;
    }
    push(
        arg,
        addr,
        frame.size(kind, Side::Exit).unwrap_or(0),
        regions,
    );
}
