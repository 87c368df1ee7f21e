//! The results of poll and select. strace writes them after the return value (`= 1 ([{fd=3, revents=POLLIN}])`,
//! `= 1 (in [3], left {tv_sec=0, tv_usec=5})`): these are notes. For encoding, a note becomes the `after` of a
//! [`Value::Change`] whose `before` is the argument.

use super::decode::{array, field, pointee, structure};
use super::encode::Refusal;
use super::frame::{self, After, Frame, Side, read_exact};
use super::kind::{Dir, Format, Kind, Num};
use super::number::{symbol, value_of};
use super::table::Syscall;
use super::{Memory, special};
use crate::constants;
use crate::constants::is_error;
use crate::value::{Field, Value, plain};

/// `struct pollfd`: fd 0, events 4, revents 6.
const POLLFD: usize = 8;

impl Syscall {
    /// The notes that strace writes in parentheses after the return value.
    pub fn notes(
        &self,
        args: &[u64; 6],
        ret: i64,
        entry: &dyn Memory,
        exit: &dyn Memory,
    ) -> Vec<Field> {
        let mut notes = Vec::new();
        if is_error(ret) {
            return notes;
        }
        let args = &self.values(args, entry);
        let exit = &After { exit, entry };
        let frame = Frame::new(self, args, ret, entry, exit);
        for (arg, &addr) in self.args.iter().zip(args) {
            let Kind::Ptr(Dir::Update, to) = &arg.kind else {
                continue;
            };
            let Some(name) = note_name(arg.name, to) else {
                continue;
            };
            if ret == 0 && name != "left" {
                let timeout = Value::Raw("Timeout".to_owned());
                return vec![field("", timeout)];
            }
            if addr == 0 {
                continue;
            }
            let value = match is_poll(to) {
                true => events(addr, to, &frame),
                false => pointee(to, addr, &frame, Side::Exit),
            };
            if !matches!(&value, Value::Set { items, .. } if items.is_empty()) {
                notes.push(field(name, value));
            }
        }
        notes.extend(self.flag_note(args, ret));
        notes.extend(self.result_note(ret));
        notes
    }

    /// fcntl's note `(flags FD_CLOEXEC)`.
    fn flag_note(&self, args: &[u64; 6], ret: i64) -> Option<Field> {
        let set = match (self.name, args.get(1)?) {
            ("fcntl" | "fcntl64", 1) if ret != 0 => "fd",
            ("fcntl" | "fcntl64", 3) => "open",
            _ => return None,
        };
        let text = constants::flags_text(set, ret as u64);
        Some(field("flags", symbol(text, ret)))
    }

    /// The note that explains the return value, if strace writes one: `= 5 (TIME_ERROR)`, `= 10 (SIGUSR1)`,
    /// `= 1 (SUID_DUMP_USER)`, `= 0x1 (seals F_SEAL_SEAL)`.
    fn result_note(&self, ret: i64) -> Option<Field> {
        let named = |set: &str| {
            let name = constants::set(set).and_then(|set| set.exact(ret as u64, u64::MAX));
            name.map(|name| symbol(name, ret))
        };
        let value = match self.name {
            "adjtimex" | "clock_adjtime" => named("time_state")?,
            "sched_getscheduler" => named("sched")?,
            "personality" => symbol(constants::flags_text("personality", ret as u64), ret),
            "membarrier" if ret != 0 => {
                symbol(constants::flags_text("membarrier", ret as u64), ret)
            }
            "ioprio_get" => special::io_priority(ret as u64),
            "rt_sigtimedwait" if ret != 0 => symbol(constants::signal_name(ret as i32), ret),
            "fcntl" | "fcntl64" | "prctl" | "ioctl" => return self.command_note(ret),
            _ => return None,
        };
        Some(field("", value))
    }

    /// The note that explains the return value of a command, from the command's description.
    fn command_note(&self, ret: i64) -> Option<Field> {
        let Kind::Num(num) = &self.ret else {
            return None;
        };
        let (name, text) = match num.format {
            Format::Enum(set) => ("", set.exact(ret as u64, num.mask())?.to_owned()),
            Format::Flags(set) if ret != 0 => {
                let name = if set.name == "seals" { "seals" } else { "" };
                (name, set.flags(ret as u64)?)
            }
            Format::Signal if ret != 0 => ("", constants::signal_name(ret as i32)),
            _ => return None,
        };
        Some(field(name, symbol(text, ret)))
    }

    /// The descriptors that a call of this kind told to be ready, each with its `POLL*` bits: those of select(2) are
    /// `POLLIN`, `POLLOUT` and `POLLPRI`.
    pub(crate) fn ready(
        &self,
        args: &[u64; 6],
        ret: i64,
        entry: &dyn Memory,
        exit: &dyn Memory,
    ) -> Vec<(i32, i16)> {
        let mut ready = Vec::new();
        for note in self.notes(args, ret, entry, exit) {
            let of_set = match note.name.as_str() {
                "in" => libc::POLLIN,
                "out" => libc::POLLOUT,
                "except" => libc::POLLPRI,
                _ => 0,
            };
            match note.value.meaning() {
                Value::Set { items, .. } if of_set != 0 => {
                    let fds = items.iter().filter_map(|item| item.parse().ok());
                    ready.extend(fds.map(|fd| (fd, of_set)));
                }
                Value::Array { items, .. } => ready.extend(items.iter().filter_map(|item| {
                    let number = |name: &str| item.field(name).and_then(value_of);
                    Some((number("fd")? as i32, number("revents")? as i16))
                })),
                _ => {}
            }
        }
        ready
    }

    /// An observed call's arguments with its notes in their places, for [`Syscall::encode_outputs`].
    pub fn with_notes(&self, values: &[Value], notes: &[Field]) -> Vec<Value> {
        let mut values = plain(values).into_owned();
        if notes.is_empty() {
            return values;
        }
        for (arg, value) in self.args.iter().zip(&mut values) {
            let Kind::Ptr(Dir::Update, to) = &arg.kind else {
                continue;
            };
            let Some(name) = note_name(arg.name, to) else {
                continue;
            };
            if matches!(value, Value::Addr(_)) {
                continue;
            }
            let note = notes.iter().find(|note| note.name == name);
            let after = match note.map(|note| note.value.meaning()) {
                Some(found @ (Value::Array { .. } | Value::Set { .. } | Value::Struct { .. })) => {
                    found.clone()
                }
                _ if name == "left" => continue,
                _ => array(Vec::new()), // nothing is ready
            };
            *value = Value::Change {
                before: Box::new(value.clone()),
                after: Box::new(after),
            };
        }
        values
    }
}

/// The name of the note with the result in an argument; `None` if strace writes no such note.
fn note_name(arg: &str, kind: &Kind) -> Option<&'static str> {
    match kind {
        Kind::FdSet(_) => Some(match arg {
            "readfds" => "in",
            "writefds" => "out",
            _ => "except",
        }),
        Kind::Struct(layout) if layout.name.starts_with("time") => Some("left"),
        _ => is_poll(kind).then_some(""),
    }
}

/// Returns whether this is a time limit that the kernel replaces by the time left.
pub(crate) fn is_time_left(dir: Dir, kind: &Kind) -> bool {
    dir == Dir::Update && note_name("", kind) == Some("left")
}

/// Returns whether this is an array of `struct pollfd`.
pub(crate) fn is_poll(kind: &Kind) -> bool {
    match kind {
        Kind::Array(of, _) => matches!(&**of, Kind::Struct(layout) if layout.name == "pollfd"),
        _ => false,
    }
}

/// The ready descriptors and their events.
fn events(addr: u64, kind: &Kind, frame: &Frame<'_>) -> Value {
    let size = frame.size(kind, Side::Entry).unwrap_or(0);
    let Some(bytes) = read_exact(frame.exit, addr, size) else {
        return Value::Addr(addr);
    };
    let entries = bytes.chunks_exact(POLLFD);
    let ready = entries.filter(|e| frame::field(e, 6, 2) != 0).map(|e| {
        let events = frame::field(e, 6, 2);
        let revents = match constants::set("poll") {
            Some(set) => {
                let num = Num {
                    size: 2,
                    signed: false,
                    format: Format::Flags(set),
                };
                num.decode(events)
            }
            None => Value::Addr(events),
        };
        let fd = frame::field(e, 0, 4) as i32;
        structure(vec![
            field("fd", Value::Fd { fd, path: None }),
            field("revents", revents),
        ])
    });
    array(ready.collect())
}

/// The process's array with `revents` filled in. If an observed array has no `revents` (the text after the return value
/// was lost), the first `ret` descriptors get the events that they asked for.
pub(crate) fn encode(
    value: &Value,
    addr: u64,
    kind: &Kind,
    frame: &Frame<'_>,
) -> Result<Vec<(u64, Vec<u8>)>, Refusal> {
    let size = frame.size(kind, Side::Entry).unwrap_or(0);
    if size == 0 {
        return Ok(Vec::new());
    }
    let mut bytes = read_exact(frame.entry, addr, size).ok_or(Refusal::Unreadable(addr))?;
    let items = match value {
        Value::Array { items, .. } => items,
        _ if frame.ret == 0 => &Vec::new(),
        _ => return Err(Refusal::NotDecoded),
    };
    let known = items.iter().any(|item| item.field("revents").is_some());
    let mut guesses = usize::try_from(frame.ret).unwrap_or(0);
    for entry in bytes.chunks_exact_mut(POLLFD) {
        let fd = frame::field(entry, 0, 4) as i32;
        let asked = frame::field(entry, 4, 2) as u16;
        let revents = if known {
            let of_fd = |item: &&Value| item.field("fd").and_then(value_of) == Some(fd.into());
            let found = items
                .iter()
                .find(of_fd)
                .and_then(|item| item.field("revents"));
            found.and_then(value_of).unwrap_or(0) as u16
        } else if guesses > 0 && fd >= 0 {
            guesses -= 1;
            asked
        } else {
            0
        };
        if let Some(place) = entry.get_mut(6..8) {
            place.copy_from_slice(&revents.to_le_bytes());
        }
    }
    Ok(vec![(addr, bytes)])
}
