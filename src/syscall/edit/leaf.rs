//! Edits of values without parts of their own in memory: numbers, text, addresses, sets, directory entries.

use super::{Edit, EditError, PathStep, Problem, Result, Spot, back};
use crate::constants;
use crate::syscall::decode::inline;
use crate::syscall::dirents;
use crate::syscall::encode::{Refusal, contents};
use crate::syscall::frame::{Frame, MOST_STRINGS, Side, read_some, read_word, unsigned};
use crate::syscall::kind::{Format, Kind, Len, Num};
use crate::syscall::number::value_of;
use crate::value::{Field, Value};

pub(super) const ADDRESS: Num = number_of(8, Format::Addr);
pub(super) const SIZE: Num = number_of(8, Format::Size);
pub(super) const LENGTH: Num = number_of(4, Format::Size);
/// The kind of control messages, as far as their texts are concerned.
pub(super) const CONTROL: Kind = Kind::Chars(0);
pub(super) const FLAGS: Num = number_of(4, Format::Dec);

/// `sizeof(struct sockaddr_storage)`.
const MOST_NAME: usize = 128;

const fn number_of(size: usize, format: Format) -> Num {
    Num {
        size,
        signed: false,
        format,
    }
}

/// Returns whether this is a number, or the name of one.
pub(super) fn is_number(value: &Value) -> bool {
    match value.meaning() {
        Value::Int(_) | Value::Addr(_) | Value::Octal(_) | Value::Fd { .. } => true,
        Value::Sym { text, .. } => !text.starts_with('{'),
        _ => false,
    }
}

/// The meaning of a value for this kind: a script's text stays text for a kind of text, and is otherwise a number or a
/// structure in strace's syntax.
pub(super) fn meant(kind: &Kind, value: &Value) -> Value {
    match (kind, value) {
        (
            Kind::Path
            | Kind::Str
            | Kind::Bytes(_)
            | Kind::Blob(_)
            | Kind::Text(_)
            | Kind::Chars(_),
            Value::Written { text, .. },
        ) => Value::str(text.to_vec()),
        // A socket option that is only bytes.
        (Kind::Option(..), Value::Written { text, value }) if matches!(**value, Value::Raw(_)) => {
            Value::str(text.to_vec())
        }
        (_, value) => value.meaning().clone(),
    }
}

/// The text of a value in messages.
pub(super) fn shown(value: &Value) -> String {
    match value.meaning() {
        Value::Raw(text) => text.chars().take(80).collect(),
        value => value.brief().to_string(),
    }
}

/// The number to store in the place of `kept`.
pub(super) fn number(num: &Num, value: &Value, kept: u64) -> Result<u64> {
    let Some(number) = value_of(value) else {
        return Err(match value.meaning() {
            Value::Sym { text, .. } => unknown(text),
            other => Problem::NotANumber(shown(other)),
        }
        .into());
    };
    if matches!(num.format, Format::Size) && number < 0 {
        return Err(Problem::Negative(number).into());
    }
    let bits = num.size as u32 * 8;
    let fits = bits >= 64 || (-(1i64 << (bits - 1))..1i64 << bits).contains(&number);
    if !fits {
        return Err(Problem::Range {
            value: number,
            size: num.size,
        }
        .into());
    }
    Ok(num.place(number as u64, kept))
}

/// The problem with an unknown name: the first of the or-ed names that is no constant.
fn unknown(text: &str) -> Problem {
    let mut names = text.split('|').map(str::trim);
    let name = names.find(|name| constants::eval(name).is_none());
    let name = name.unwrap_or(text);
    Problem::Unknown {
        name: name.to_owned(),
        near: constants::suggest(name),
    }
}

/// Edits text behind a pointer, or a list of texts: the new text is placed elsewhere.
pub(super) fn text(
    kind: &Kind,
    (raw, pointer): (u64, Option<u64>),
    way: &[PathStep],
    value: &Value,
    frame: &Frame<'_>,
) -> Result<Vec<Edit>> {
    if !matches!(kind, Kind::Strings) {
        let (Value::Str { bytes, .. }, []) = (value, way) else {
            return Err(Problem::Shape(shown(value)).into());
        };
        let mut bytes = ended(bytes)?;
        bytes.push(0);
        let inner = Vec::new();
        return Ok(vec![Edit::Place {
            bytes,
            inner,
            pointer,
        }]);
    }
    let mut list: Vec<Text<'_>> = Vec::new();
    match (way, value) {
        ([], Value::Array { items, .. }) => {
            for item in items {
                list.push(Text::of(item)?);
            }
        }
        ([PathStep::Element(index)], value) => {
            list = pointers(raw, frame).into_iter().map(Text::There).collect();
            let count = list.len();
            let new = Text::of(value)?;
            match list.get_mut(*index) {
                Some(place) => *place = new,
                None if *index == count => list.push(new),
                None => {
                    let index = *index;
                    return Err(Problem::NoElement { index, count }.into());
                }
            }
        }
        _ => return Err(Problem::Shape(shown(value)).into()),
    }
    let word = frame.abi.word();
    let mut bytes = vec![0; (list.len() + 1) * word];
    let mut inner = Vec::new();
    for (i, text) in list.iter().enumerate() {
        match text {
            Text::There(addr) => {
                let place = bytes.get_mut(i * word..(i + 1) * word);
                let addr = addr.to_le_bytes();
                if let (Some(place), Some(addr)) = (place, addr.get(..word)) {
                    place.copy_from_slice(addr);
                }
            }
            Text::New(text) => {
                inner.push((i * word, bytes.len()));
                bytes.extend(ended(text)?);
                bytes.push(0);
            }
        }
    }
    Ok(vec![Edit::Place {
        bytes,
        inner,
        pointer,
    }])
}

enum Text<'a> {
    There(u64),
    New(&'a [u8]),
}

impl Text<'_> {
    fn of(value: &Value) -> Result<Text<'_>> {
        match value.meaning() {
            _ if matches!(value, Value::Written { .. }) => match value {
                Value::Written { text, .. } => Ok(Text::New(text)),
                _ => Ok(Text::There(0)),
            },
            Value::Str { bytes, .. } => Ok(Text::New(bytes)),
            Value::Addr(addr) => Ok(Text::There(*addr)),
            other => Err(Problem::Shape(shown(other)).into()),
        }
    }
}

/// Text behind a pointer ends at its first zero byte, so that it can contain none.
fn ended(bytes: &[u8]) -> Result<Vec<u8>> {
    if bytes.contains(&0) {
        return Err(Problem::Shape("text with a zero byte in it".into()).into());
    }
    if bytes.len() >= MOST_STRINGS {
        let (len, room) = (bytes.len(), MOST_STRINGS);
        return Err(Problem::TooLong { len, room }.into());
    }
    Ok(bytes.to_vec())
}

fn pointers(raw: u64, frame: &Frame<'_>) -> Vec<u64> {
    let word = frame.abi.word();
    let mut list = Vec::new();
    while list.len() < 4096 {
        let at = raw.wrapping_add((list.len() * word) as u64);
        match read_word(frame.entry, at, word) {
            None | Some(0) => break,
            Some(pointer) => list.push(pointer),
        }
    }
    list
}

/// The writes that change a value without parts in memory, or the part at the end of `rest`, to `value`.
pub(super) fn put(
    kind: &Kind,
    spot: Spot,
    rest: &[PathStep],
    value: &Value,
    (ret, frame): (Option<i64>, &Frame<'_>),
) -> Result<Vec<Edit>> {
    if let (Kind::Num(num), []) = (kind, rest) {
        let kept = read_some(frame.entry, spot.addr, num.size);
        let raw = number(num, value, unsigned(&kept))?;
        let bytes = raw.to_le_bytes().into_iter().take(num.size).collect();
        return Ok(vec![Edit::Write(spot.addr, bytes)]);
    }
    // The address of another buffer.
    if let (Some(at), true, []) = (spot.pointer, is_number(value), rest)
        && matches!(kind, Kind::Bytes(_) | Kind::Sockaddr(_))
    {
        let raw = number(&ADDRESS, value, 0)?;
        return Ok(vec![Edit::Write(at, raw.to_le_bytes().to_vec())]);
    }
    let filled = frame.size(kind, Side::Exit).unwrap_or(spot.room);
    let now = || {
        let bytes = read_some(frame.exit, spot.addr, filled.min(spot.room));
        inline(kind, &bytes, frame, Side::Exit)
    };
    let whole = match (rest, value) {
        // Members that are not given stay as they are, if the structure is of the same kind.
        ([], Value::Struct { fields, .. }) => match now() {
            mut whole @ Value::Struct { .. } => {
                let known = |field: &Field| whole.field(&field.name).is_some();
                match fields.iter().all(known) {
                    true => {
                        for field in fields {
                            let step = PathStep::Member(field.name.clone());
                            replace(&mut whole, &[step], &field.value)?;
                        }
                        whole
                    }
                    false => named(kind, value),
                }
            }
            _ => named(kind, value),
        },
        ([], _) => named(kind, value),
        (rest, _) => {
            let mut whole = now();
            replace(&mut whole, rest, value)?;
            whole
        }
    };
    let bytes = encoded(kind, &whole, spot, frame)?;
    if matches!(
        kind,
        Kind::Sockaddr(_) | Kind::Dirents(..) | Kind::Indexed(..)
    ) {
        back::check(&inline(kind, &bytes, frame, Side::Exit), rest, value)?;
    }
    let mut edits = Vec::new();
    if let Some(len) = filled_by(kind).filter(|_| ret.is_some()) {
        let now = bytes.len() as i64;
        match len {
            Len::Ret => edits.push(Edit::Return(now)),
            Len::At(arg) if frame.number(arg) != 0 => {
                let len = (bytes.len() as u32).to_le_bytes().to_vec();
                edits.push(Edit::Write(frame.number(arg), len));
            }
            _ => {}
        }
    }
    edits.insert(0, Edit::Write(spot.addr, bytes));
    Ok(edits)
}

/// Converts signals that are given by number to names.
pub(super) fn named(kind: &Kind, value: &Value) -> Value {
    match (kind, value.meaning()) {
        (Kind::Sigset(_), Value::Array { items, cut }) => Value::Array {
            items: items
                .iter()
                .map(|item| match (item.as_i64(), item) {
                    (_, Value::Written { text, .. }) => {
                        Value::Raw(String::from_utf8_lossy(text).into_owned())
                    }
                    (Some(n), _) => Value::Raw(constants::signal_name(n as i32)),
                    _ => item.clone(),
                })
                .collect(),
            cut: *cut,
        },
        (Kind::Dirents(..), value) => numbered(settled(value)),
        (_, value) => settled(value),
    }
}

/// Converts a script's texts to text in the members that are text.
fn settled(value: &Value) -> Value {
    const TEXTS: [&str; 5] = ["d_name", "sun_path", "sa_data", "mtext", "f_handle"];
    match value.meaning() {
        Value::Struct { fields, cut } => {
            let fields = fields.iter().map(|field| match &field.value {
                Value::Written { text, .. } if TEXTS.contains(&field.name.as_str()) => {
                    Field::new(field.name.clone(), Value::str(text.to_vec()))
                }
                value => Field::new(field.name.clone(), settled(value)),
            });
            let (fields, cut) = (fields.collect(), *cut);
            Value::Struct { fields, cut }
        }
        Value::Array { items, cut } => {
            let (items, cut) = (items.iter().map(settled).collect(), *cut);
            Value::Array { items, cut }
        }
        value => value.clone(),
    }
}

/// Adds a number to directory entries that are given without one: the number 0 would mean a deleted entry.
fn numbered(value: Value) -> Value {
    let Value::Array { mut items, cut } = value else {
        return value;
    };
    for item in &mut items {
        if let Value::Struct { fields, .. } = item
            && !fields.iter().any(|field| field.name == "d_ino")
        {
            fields.push(Field::new("d_ino", Value::Int(1)));
        }
    }
    Value::Array { items, cut }
}

fn filled_by(kind: &Kind) -> Option<Len> {
    match kind {
        Kind::Bytes(e)
        | Kind::Blob(e)
        | Kind::Text(e)
        | Kind::Sockaddr(e)
        | Kind::Option(e, _)
        | Kind::Dirents(e, _) => Some(e.filled),
        _ => None,
    }
}

fn encoded(kind: &Kind, value: &Value, spot: Spot, frame: &Frame<'_>) -> Result<Vec<u8>> {
    let room = spot.room;
    let too_long = |len: usize| -> EditError { Problem::TooLong { len, room }.into() };
    match (kind, value) {
        (Kind::Chars(_) | Kind::Bytes(_) | Kind::Blob(_), Value::Str { bytes, .. })
            if bytes.len() > room =>
        {
            return Err(too_long(bytes.len()));
        }
        (Kind::Text(_), Value::Str { bytes, .. }) if bytes.len() >= room => {
            return Err(too_long(bytes.len() + 1));
        }
        (Kind::Dirents(_, wide), _) => {
            let bytes = dirents::encode(value, *wide, usize::MAX, frame.abi)
                .ok_or_else(|| Problem::Shape(shown(value)))?;
            return match bytes.len() > room {
                true => Err(too_long(bytes.len())),
                false => Ok(bytes),
            };
        }
        (Kind::Sockaddr(_), _) => {
            let whole = contents(kind, value, MOST_NAME, None, frame);
            if let Some(len) = whole.ok().map(|bytes| bytes.len())
                && len > room
            {
                return Err(too_long(len));
            }
        }
        _ => {}
    }
    let before = read_some(frame.entry, spot.addr, room);
    let before = (before.len() == room).then_some(before);
    let bytes = contents(kind, value, room, before, frame);
    bytes.map_err(|refusal| match refusal {
        Refusal::Unreadable(addr) => Problem::Unreadable(addr).into(),
        Refusal::Shape(_) if is_unknown(value) => unknown(&shown(value)).into(),
        _ => Problem::Shape(shown(value)).into(),
    })
}

fn is_unknown(value: &Value) -> bool {
    matches!(value.meaning(), Value::Sym { value: None, .. })
}

/// Replaces the part of a value to which the steps lead.
pub(super) fn replace(whole: &mut Value, way: &[PathStep], value: &Value) -> Result<()> {
    let Some((step, rest)) = way.split_first() else {
        // Text stays text, and a number stays a number.
        let was_text = matches!(whole.meaning(), Value::Str { .. });
        let text = match (was_text, value) {
            (true, Value::Written { text, .. }) => Some(Value::str(text.to_vec())),
            _ => None,
        };
        let value = text.as_ref().unwrap_or(value.meaning());
        let is_text = matches!(value.meaning(), Value::Str { .. });
        if is_number(whole) {
            if value_of(value).is_none() {
                return Err(match value.meaning() {
                    Value::Sym { text, .. } => unknown(text),
                    other => Problem::NotANumber(shown(other)),
                }
                .into());
            }
        } else if was_text != is_text {
            return Err(Problem::Shape(shown(value)).into());
        }
        *whole = value.clone();
        return Ok(());
    };
    if let Value::Written { value: inner, .. } = whole {
        *whole = (**inner).clone();
    }
    let found = match (whole, step) {
        (Value::Struct { fields, .. }, PathStep::Member(name)) => {
            match fields.iter_mut().find(|field| field.is(name)) {
                Some(field) => {
                    // A member that strace writes without its name (`inet_pton(…, &sin6_addr)`) gets the name with its
                    // new value.
                    if field.name.is_empty() && rest.is_empty() {
                        *field = Field::new(name.clone(), value.clone());
                        return Ok(());
                    }
                    replace(&mut field.value, rest, value)
                }
                None => Err(no_such(fields, name)),
            }
        }
        (Value::Array { items, .. }, PathStep::Element(index)) => {
            let count = items.len();
            match items.get_mut(*index) {
                Some(item) => replace(item, rest, value),
                None => {
                    let index = *index;
                    Err(Problem::NoElement { index, count }.into())
                }
            }
        }
        (_, step) => Err(super::no_part(step)),
    };
    found.map_err(|error| error.under(step))
}

fn no_such(fields: &[Field], name: &str) -> EditError {
    let close = |known: &str| strsim::damerau_levenshtein(name, known) <= name.len() / 3 + 1;
    let near = fields.iter().map(|field| field.name.as_str());
    let near: Vec<&str> = near.filter(|known| close(known)).collect();
    // The names of members come from the tables, or from the list in `look`.
    let near = near.into_iter().filter_map(super::look::known_name);
    Problem::NoMember {
        name: name.to_owned(),
        near: near.collect(),
    }
    .into()
}
