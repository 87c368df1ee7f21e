//! Editing one argument of a call, or a part of the data behind it: its present value, and the writes that give it
//! another one.

use super::frame::{Frame, MOST_VECTORS, Side, read_some, read_word};
use super::kind::{Dir, Kind, Len};
use super::layout::Layout;
use super::message::{mmsghdr, msghdr};
use super::number::value_of;
use super::table::Syscall;
use super::{Memory, Moved};
use crate::constants;
use crate::value::Value;
use parts::{message, vector};

mod ancillary;
mod back;
mod leaf;
mod look;
mod parts;
mod problem;

pub use look::{is_argument, is_member, near_argument, near_member};
pub use problem::{EditError, Problem};

/// A step from an argument to one of its parts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PathStep {
    /// The member of this name.
    Member(String),
    /// The element with this index, from 0.
    Element(usize),
}

/// One write of an edit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Edit {
    /// The argument's register gets this number.
    Register(u64),
    /// These bytes are written to this address.
    Write(u64, Vec<u8>),
    /// These bytes are written to free memory; a pointer to them goes to `pointer`.
    Place {
        /// The bytes.
        bytes: Vec<u8>,
        /// Words among the bytes that become addresses of other bytes among them: the offset of each, and the offset
        /// that it points to.
        inner: Vec<(usize, usize)>,
        /// The address of the pointer; `None` for the argument's register.
        pointer: Option<u64>,
    },
    /// The call returns this new amount.
    Return(i64),
}

pub(super) type Result<T> = std::result::Result<T, EditError>;

/// An object in memory.
#[derive(Clone, Copy)]
pub(super) struct Spot {
    addr: u64,
    /// The number of bytes that the object may take.
    room: usize,
    /// The address of the pointer to the object; `None` for a register.
    pointer: Option<u64>,
}

/// The action at the end of a path. It gets the object there, and the remaining steps, which lead into an object
/// without parts of its own in memory.
type Then<'a, T> = &'a mut dyn FnMut(&Kind, Spot, &[PathStep], &Frame<'_>) -> Result<T>;

impl Syscall {
    /// The writes that change an argument (by its index among [`Syscall::args`]), or a part of it, to `value`. `ret` is
    /// the return value, or `None` at the entry; `mem` is the process's present memory.
    ///
    /// # Errors
    /// If there is no such part, or the part cannot have that value.
    pub fn edit(
        &self,
        (index, way): (usize, &[PathStep]),
        value: &Value,
        args: &[u64; 6],
        ret: Option<i64>,
        mem: &dyn Memory,
    ) -> std::result::Result<Vec<Edit>, EditError> {
        let Some(arg) = self.args.get(index) else {
            return Ok(Vec::new());
        };
        if is_vector(&arg.kind, way) {
            return self.edit_vector((index, way), value, args, ret, mem);
        }
        let raw = args.get(index).copied().unwrap_or(0);
        let frame = Frame::new(self, args, ret.unwrap_or(0), mem, mem).pending(ret.is_none());
        let number = match &arg.kind {
            Kind::Num(_) => way.is_empty(),
            Kind::Ptr(_, to) => matches!(**to, Kind::Num(_)) && !way.is_empty(),
            _ => false,
        };
        if let Some(negative) = value_of(value).filter(|&n| n < 0)
            && number
            && self.is_length(index)
        {
            let error = EditError::from(Problem::Negative(negative));
            return Err(error.below(arg.name));
        }
        if let Some(PathStep::Member(name)) = way.last()
            && name == "msg_controllen"
            && let Some(ret) = ret
            && let Some(len) = value_of(value)
            && let Some(room) = self.number_at((index, way), args, Some(ret), mem)
            && len > room
        {
            let (len, room) = (len as usize, room.max(0) as usize);
            let error = EditError::from(Problem::TooLong { len, room });
            return Err(error.under(&way[way.len() - 1]).below(arg.name));
        }
        let edits = match &arg.kind {
            Kind::Num(num) => match way.first() {
                Some(step) => Err(no_part(step)),
                None if ret.is_some() => Err(Problem::Late.into()),
                None => leaf::number(num, value, raw).map(|raw| vec![Edit::Register(raw)]),
            },
            Kind::Ptr(dir, to) => pointer((*dir, to), (raw, None), way, value, ret, &frame),
            _ => Err(Problem::Shape(leaf::shown(value)).into()),
        };
        edits.map_err(|error| error.below(arg.name))
    }

    /// The address of one vector of several, a `struct iovec`.
    pub fn vector_at(
        &self,
        (index, way): (usize, &[PathStep]),
        args: &[u64; 6],
        mem: &dyn Memory,
    ) -> Option<u64> {
        let arg = self.args.get(index)?;
        let Kind::Ptr(_, to) = &arg.kind else {
            return None;
        };
        if !is_vector(&arg.kind, way) {
            return None;
        }
        let frame = Frame::new(self, args, 0, mem, mem);
        let addr = args.get(index).copied().filter(|&addr| addr != 0)?;
        let way = [way, &[PathStep::Member("iov_base".into())]].concat();
        let spot = behind(to, (addr, None), &frame);
        descend(
            to,
            spot,
            &way,
            &frame,
            &mut |_, spot, _, _| Ok(spot.pointer),
        )
        .ok()?
    }

    /// Edits a vector as a whole: its pointer and its length. Once the call has been answered, only the data is a part
    /// of the answer.
    fn edit_vector(
        &self,
        (index, way): (usize, &[PathStep]),
        value: &Value,
        args: &[u64; 6],
        ret: Option<i64>,
        mem: &dyn Memory,
    ) -> Result<Vec<Edit>> {
        let error = |problem: Problem| {
            let name = self.args.get(index).map_or("", |arg| arg.name);
            let error = way
                .iter()
                .rev()
                .fold(EditError::from(problem), EditError::under);
            error.below(name)
        };
        let Value::Struct { fields, .. } = value.meaning() else {
            let problem = "set as a whole but to another one: set its iov_base or iov_len";
            return Err(error(Problem::Shape(problem.into())));
        };
        let mut edits = Vec::new();
        for field in fields {
            if field.name == "iov_len" && ret.is_some() {
                continue;
            }
            let way = [way, &[PathStep::Member(field.name.clone())]].concat();
            edits.extend(self.edit((index, &way), &field.value, args, ret, mem)?);
        }
        Ok(edits)
    }

    /// Returns whether an argument is the length of another one.
    fn is_length(&self, index: usize) -> bool {
        self.args.iter().any(|arg| match &arg.kind {
            Kind::Ptr(_, to) => to.lengths().any(|len| match len {
                Len::Of(of) | Len::At(of) | Len::Each(of, _) | Len::Part(of, _) => of == index,
                _ => false,
            }),
            _ => false,
        })
    }

    /// The number in a part of an argument, also if the other members' conditions leave it out.
    pub(crate) fn number_at(
        &self,
        (index, way): (usize, &[PathStep]),
        args: &[u64; 6],
        ret: Option<i64>,
        mem: &dyn Memory,
    ) -> Option<i64> {
        let Kind::Ptr(_, to) = &self.args.get(index)?.kind else {
            return None;
        };
        let frame = Frame::new(self, args, ret.unwrap_or(0), mem, mem);
        let addr = args.get(index).copied().filter(|&addr| addr != 0)?;
        let spot = behind(to, (addr, None), &frame);
        let number = descend(to, spot, way, &frame, &mut |kind, spot, _, _| {
            let Kind::Num(num) = kind else {
                return Ok(None);
            };
            let raw = read_word(mem, spot.addr, num.size);
            Ok(raw.map(|raw| num.extend(raw)))
        });
        number.ok().flatten()
    }
}

/// Returns whether the path leads to one vector of several.
fn is_vector(arg: &Kind, way: &[PathStep]) -> bool {
    match (arg, way) {
        (Kind::Ptr(_, to), [PathStep::Element(_)]) => matches!(**to, Kind::Iovec(..)),
        (_, [.., PathStep::Member(name), PathStep::Element(_)]) => name == "msg_iov",
        _ => false,
    }
}

fn no_part(step: &PathStep) -> EditError {
    let what = match step {
        PathStep::Member(name) => Problem::NoMember {
            name: name.clone(),
            near: Vec::new(),
        },
        PathStep::Element(index) => Problem::NoElement {
            index: *index,
            count: 0,
        },
    };
    what.into()
}

/// The object behind a pointer.
fn behind(kind: &Kind, (addr, pointer): (u64, Option<u64>), frame: &Frame<'_>) -> Spot {
    Spot {
        addr,
        room: frame.size(kind, Side::Entry).unwrap_or(0),
        pointer,
    }
}

/// Returns whether the kernel fills the vectors of a message.
fn fills(kind: &Kind) -> bool {
    matches!(
        kind,
        Kind::Iovec(Moved::Out, _) | Kind::Message(Moved::Out) | Kind::Messages(..)
    )
}

/// Edits a pointer, which is at the address in `place` or in a register.
fn pointer(
    (dir, to): (Dir, &Kind),
    (raw, place): (u64, Option<u64>),
    way: &[PathStep],
    value: &Value,
    ret: Option<i64>,
    frame: &Frame<'_>,
) -> Result<Vec<Edit>> {
    let meant = leaf::meant(to, value);
    let value = if way.is_empty() { &meant } else { value };
    // A number is an address, that is another pointer, unless the kernel has stored a number behind this pointer.
    let is_stored =
        ret.is_some() && place.is_none() && matches!(to, Kind::Num(_) | Kind::WaitStatus);
    if way.is_empty() && leaf::is_number(value) && !is_stored {
        let raw = leaf::number(&leaf::ADDRESS, value, raw)?;
        return match (place, ret) {
            (Some(at), _) => Ok(vec![Edit::Write(at, raw.to_le_bytes().to_vec())]),
            (None, None) => Ok(vec![Edit::Register(raw)]),
            (None, Some(_)) => Err(Problem::Late.into()),
        };
    }
    match ret {
        Some(ret) if dir.written(ret) || (fills(to) && ret >= 0) => {}
        Some(_) if dir.reads() && dir != Dir::In => {}
        Some(_) if dir == Dir::In => return Err(Problem::Late.into()),
        None if dir.reads() => {}
        _ => return Err(Problem::Nothing.into()),
    }
    if matches!(to, Kind::Path | Kind::Str | Kind::Strings) {
        return leaf::text(to, (raw, place), way, value, frame);
    }
    if raw == 0 {
        return Err(Problem::Null.into());
    }
    let spot = behind(to, (raw, place), frame);
    let control = |step: &PathStep| matches!(step, PathStep::Member(name) if name == "msg_control");
    if let Some(at) = way.iter().position(control)
        && let Some((above, below)) = way.split_at_checked(at)
    {
        return descend(to, spot, above, frame, &mut |kind, spot, _, inner| {
            put(kind, spot, below, value, (ret, inner))
        });
    }
    descend(to, spot, way, frame, &mut |kind, spot, rest, inner| {
        put(kind, spot, rest, value, (ret, inner))
    })
}

/// Follows a path, and runs an action at its end.
fn descend<T>(
    kind: &Kind,
    spot: Spot,
    way: &[PathStep],
    frame: &Frame<'_>,
    then: Then<'_, T>,
) -> Result<T> {
    let Some((step, rest)) = way.split_first() else {
        return then(kind, spot, way, frame);
    };
    let found = match (kind, step) {
        (Kind::Struct(layout) | Kind::Sized(layout, ..), PathStep::Member(name)) => {
            member(layout, spot, (name, rest), frame, then)
        }
        (Kind::Array(of, _), PathStep::Element(index)) => {
            let each = of.size_in(frame.abi).unwrap_or(1).max(1);
            let count = spot.room / each;
            let element = Spot {
                addr: spot.addr.wrapping_add((index.min(&count) * each) as u64),
                room: each,
                pointer: None,
            };
            match *index < count {
                true => descend(of, element, rest, frame, then),
                false => Err(no_element(*index, count)),
            }
        }
        (Kind::Num(_) | Kind::WaitStatus, PathStep::Element(0)) => {
            descend(kind, spot, rest, frame, then)
        }
        (Kind::Num(_) | Kind::WaitStatus, step) => Err(no_part(step)),
        (Kind::Iovec(_, extent), PathStep::Element(index)) => {
            let count = frame.count(*extent, Side::Entry, MOST_VECTORS) as u64;
            vector((spot.addr, count), (*index, rest), frame, then)
        }
        (Kind::Message(moved), PathStep::Member(name)) => {
            message(*moved, spot, (name, rest), frame, then)
        }
        (Kind::Messages(moved, extent), PathStep::Element(index)) => {
            let count = frame.count(*extent, Side::Entry, MOST_VECTORS);
            let each = mmsghdr(frame.abi);
            let addr = spot.addr.wrapping_add((index.min(&count) * each) as u64);
            let at = |offset: usize, room| Spot {
                addr: addr.wrapping_add(offset as u64),
                room,
                pointer: None,
            };
            match rest.split_first() {
                _ if *index >= count => Err(no_element(*index, count)),
                Some((PathStep::Member(name), rest)) if name == "msg_hdr" => {
                    let header = at(0, msghdr(frame.abi));
                    descend(&Kind::Message(*moved), header, rest, frame, then)
                }
                Some((PathStep::Member(name), rest)) if name == "msg_len" => {
                    let len = at(msghdr(frame.abi), 4);
                    descend(&Kind::Num(leaf::LENGTH), len, rest, frame, then)
                }
                Some((step, _)) => Err(no_part(step).under(step)),
                None => Err(Problem::Shape("set as a whole".into()).into()),
            }
        }
        // These kinds have no parts of their own in memory.
        _ => return then(kind, spot, way, frame),
    };
    found.map_err(|error| error.under(step))
}

fn no_element(index: usize, count: usize) -> EditError {
    Problem::NoElement { index, count }.into()
}

fn member<T>(
    layout: &'static Layout,
    spot: Spot,
    (name, rest): (&str, &[PathStep]),
    frame: &Frame<'_>,
    then: Then<'_, T>,
) -> Result<T> {
    let bytes = read_some(frame.exit, spot.addr, spot.room.min(layout.size));
    let inner = frame.inside(layout, &bytes);
    let mut namesakes = layout.members.iter().filter(|m| m.name == name);
    let first = namesakes.clone().next();
    let Some(member) = namesakes.find(|m| inner.holds(&m.condition)).or(first) else {
        let names = layout.members.iter().map(|member| member.name);
        let problem = Problem::NoMember {
            name: name.to_owned(),
            near: constants::nearest(name, names),
        };
        return Err(EditError::from(problem));
    };
    if !member.is_within(&bytes) {
        return Err(Problem::Unreadable(spot.addr).into());
    }
    let addr = spot.addr.wrapping_add(member.offset as u64);
    if let (Kind::Ptr(_, to), false) = (&member.kind, rest.is_empty()) {
        let word = inner.number(member_index(layout, member));
        if word == 0 {
            return Err(Problem::Null.into());
        }
        let spot = behind(to, (word, Some(addr)), &inner);
        return descend(to, spot, rest, &inner, then);
    }
    let left = spot.room.saturating_sub(member.offset);
    let room = inner.size(&member.kind, Side::Entry).or(member.size);
    let here = Spot {
        addr,
        room: room.unwrap_or(left).min(left),
        pointer: None,
    };
    descend(&member.kind, here, rest, &inner, then)
}

fn member_index(layout: &Layout, member: &super::Member) -> usize {
    let at = |m: &super::Member| std::ptr::eq(m, member);
    layout.members.iter().position(at).unwrap_or(usize::MAX)
}

/// The writes that change the object to `value`.
fn put(
    kind: &Kind,
    spot: Spot,
    rest: &[PathStep],
    value: &Value,
    (ret, frame): (Option<i64>, &Frame<'_>),
) -> Result<Vec<Edit>> {
    let meant = match rest {
        [] => leaf::meant(kind, value),
        _ => value.clone(),
    };
    let value = match &meant {
        Value::Change { after, .. } => after.meaning(),
        plain => plain,
    };
    if let (Kind::Message(_), Some((PathStep::Member(name), below))) = (kind, rest.split_first())
        && name == "msg_control"
    {
        let set = ancillary::put(spot, below, value, frame);
        return set.map_err(|error| error.under(&rest[0]));
    }
    let mut edits = Vec::new();
    let mut part = |step: PathStep, value: &Value| {
        let way = [step];
        if let (Kind::Message(_), [PathStep::Member(name)]) = (kind, &way)
            && name == "msg_control"
        {
            edits.extend(put(kind, spot, &way, value, (ret, frame))?);
            return Ok(());
        }
        let set = descend(kind, spot, &way, frame, &mut |kind, spot, rest, inner| {
            put(kind, spot, rest, value, (ret, inner))
        });
        edits.extend(set?);
        Ok::<(), EditError>(())
    };
    let has_parts = match (kind, value) {
        (Kind::Struct(_) | Kind::Sized(..) | Kind::Message(_), Value::Struct { fields, .. }) => {
            for field in fields.iter().filter(|field| !field.name.is_empty()) {
                part(PathStep::Member(field.name.clone()), &field.value)?;
            }
            true
        }
        // An empty table may be a structure without any members given.
        (Kind::Struct(_) | Kind::Sized(..) | Kind::Message(_), Value::Array { items, .. }) => {
            match items.is_empty() {
                true => true,
                false => return Err(Problem::Shape(leaf::shown(value)).into()),
            }
        }
        (Kind::Array(of, extent), Value::Array { items, .. }) => {
            let each = of.size_in(frame.abi).unwrap_or(1).max(1);
            let (count, len) = (spot.room / each, items.len());
            if extent.filled != Len::Ret && len != count {
                return Err(Problem::Count { count, len }.into());
            }
            for (index, item) in items.iter().enumerate() {
                part(PathStep::Element(index), item)?;
            }
            if let (Kind::Array(_, extent), Some(_)) = (kind, ret)
                && extent.filled == Len::Ret
            {
                edits.push(Edit::Return(items.len() as i64));
            }
            true
        }
        _ => false,
    };
    if has_parts && rest.is_empty() {
        return Ok(edits);
    }
    if let Kind::Ptr(dir, to) = kind {
        let raw = read_word(frame.entry, spot.addr, frame.abi.word()).unwrap_or(0);
        return pointer((*dir, to), (raw, Some(spot.addr)), rest, value, ret, frame);
    }
    leaf::put(kind, spot, rest, value, (ret, frame))
}
