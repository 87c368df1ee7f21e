//! Entries and values as JSON, one object each. The format is documented in the README and in `rrapper trace json
//! --help`.
//!
//! The text is valid JSON in ASCII or UTF-8 for any input bytes, and no meaning of a value is lost.

use crate::syscall::consts;
use crate::trace::{Answer, Call, Entry, Exit, Field, LineInfo, Origin, Timestamp, Value};
use std::collections::HashSet;
use std::fmt::Display;
use std::io::Write;

/// A JSON object, member by member.
#[derive(Clone, Debug)]
pub struct Object {
    text: Vec<u8>,
}

impl Default for Object {
    fn default() -> Object {
        Object {
            text: b"{".to_vec(),
        }
    }
}

impl Object {
    /// An object of this type.
    pub fn of_type(name: &str) -> Object {
        let mut object = Object::default();
        object.text("type", name.as_bytes());
        object
    }

    /// The text of the object, without a line end.
    pub fn finish(mut self) -> Vec<u8> {
        self.text.push(b'}');
        self.text
    }

    fn name(&mut self, name: &[u8]) {
        if self.text.len() > 1 {
            self.text.push(b',');
        }
        string(&mut self.text, name);
        self.text.push(b':');
    }

    /// A member that is a number, or another text that is JSON already.
    pub fn number(&mut self, name: &str, value: impl Display) {
        self.name(name.as_bytes());
        display(&mut self.text, value);
    }

    /// A member that is a text; `{"hex": …}` where the bytes are no UTF-8.
    pub fn text(&mut self, name: &str, bytes: &[u8]) {
        self.name(name.as_bytes());
        bytes_to(&mut self.text, bytes, false);
    }

    /// A member that is an argument or a part of one.
    pub fn value(&mut self, name: &str, value: &Value) {
        self.name(name.as_bytes());
        value_to(&mut self.text, value);
    }

    /// A member that is an array of objects.
    pub fn objects(&mut self, name: &str, items: impl IntoIterator<Item = Object>) {
        self.name(name.as_bytes());
        list(&mut self.text, items, |out, item| {
            out.extend_from_slice(&item.finish());
        });
    }

    /// An entry; `tid` is its task, since the entry may not have it.
    pub fn of_entry(tid: i32, entry: &Entry) -> Object {
        let mut object = match entry {
            Entry::Call(_) => Object::of_type("call"),
            Entry::Signal { .. } => Object::of_type("signal"),
            Entry::Exit { .. } => Object::of_type("exit"),
        };
        if let Origin::Text { line, .. } = entry.origin() {
            object.number("line", line);
        }
        if tid != 0 {
            object.number("pid", tid);
        }
        if let Some(line_info) = entry.line_info() {
            object.before(line_info);
        }
        match entry {
            Entry::Call(call) => object.call(call),
            Entry::Signal { signal, info, .. } => {
                object.text("name", consts::signal_name(*signal).as_bytes());
                object.number("signal", signal);
                object.value("info", info);
            }
            Entry::Exit { exit, .. } => match exit {
                Exit::Code(code) => object.number("status", code),
                Exit::Signal { signal, core } => {
                    object.text("name", consts::signal_name(*signal).as_bytes());
                    object.number("signal", signal);
                    object.number("core", core);
                }
            },
        }
        if let Some(line_info) = entry.line_info() {
            object.behind(line_info);
        }
        object
    }

    fn call(&mut self, call: &Call) {
        self.text("name", call.name.as_bytes());
        self.name(b"args");
        list(&mut self.text, &call.args, value_to);
        match &call.answer {
            Answer::Value(value) => self.number("result", value),
            Answer::Errno(errno) => {
                self.number("result", -1);
                self.errno(*errno);
            }
            Answer::Restart(errno) => {
                self.number("result", "null");
                self.number("restart", errno);
            }
            Answer::Never => self.number("result", "null"),
        }
        if !call.notes.is_empty() {
            self.name(b"notes");
            members(&mut self.text, &call.notes);
        }
    }

    fn errno(&mut self, errno: i32) {
        match consts::errno_name(errno) {
            Some(name) => self.text("errno", name.as_bytes()),
            None => self.number("errno", errno),
        }
    }

    /// Adds the line info that strace writes in front of an entry.
    fn before(&mut self, line_info: &LineInfo) {
        match line_info.when {
            Some(Timestamp::Epoch {
                seconds,
                nanoseconds,
            }) => self.number("time", format_args!("{seconds}.{nanoseconds:09}")),
            Some(Timestamp::Clock {
                seconds,
                nanoseconds,
            }) => self.number("clock", format_args!("{seconds}.{nanoseconds:09}")),
            None => {}
        }
        if let Some(since) = line_info.since {
            self.duration("since", since);
        }
        if let Some(command) = &line_info.command {
            self.text("command", command);
        }
        if let Some(context) = &line_info.context {
            self.text("context", context);
        }
        if let Some(number) = line_info.number {
            self.number("number", number);
        }
        if let Some(address) = line_info.address {
            self.number("address", format_args!("\"{address:#x}\""));
        }
    }

    /// Adds the line info that strace writes behind an entry.
    fn behind(&mut self, line_info: &LineInfo) {
        if let Some(spent) = line_info.spent {
            self.duration("spent", spent);
        }
        for (name, is) in [
            ("injected", line_info.tampering.answer),
            ("poked", line_info.tampering.args),
            ("delayed", line_info.tampering.delayed),
            ("cut", line_info.cut),
        ] {
            if is {
                self.number(name, true);
            }
        }
    }

    fn duration(&mut self, name: &str, value: std::time::Duration) {
        let (seconds, nanoseconds) = (value.as_secs(), value.subsec_nanos());
        self.number(name, format_args!("{seconds}.{nanoseconds:09}"));
    }
}

fn display(out: &mut Vec<u8>, value: impl Display) {
    // A vector takes everything.
    let _ = write!(out, "{value}");
}

fn list<T>(
    out: &mut Vec<u8>,
    items: impl IntoIterator<Item = T>,
    mut item: impl FnMut(&mut Vec<u8>, T),
) {
    out.push(b'[');
    for (i, each) in items.into_iter().enumerate() {
        if i > 0 {
            out.push(b',');
        }
        item(out, each);
    }
    out.push(b']');
}

const HEX: &[u8; 16] = b"0123456789abcdef";

/// The two hexadecimal digits of a byte.
fn digits(byte: u8) -> [u8; 2] {
    [byte >> 4, byte & 15].map(|digit| HEX[usize::from(digit)])
}

/// A string of bytes that are UTF-8; what is none becomes U+FFFD.
fn string(out: &mut Vec<u8>, bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let mut rest = text.as_ref();
    out.push(b'"');
    while let Some(at) = rest.find(is_escaped) {
        out.extend_from_slice(&rest.as_bytes()[..at]);
        let mut after = rest[at..].chars();
        match after.next() {
            Some('"') => out.extend_from_slice(b"\\\""),
            Some('\\') => out.extend_from_slice(b"\\\\"),
            Some('\n') => out.extend_from_slice(b"\\n"),
            Some('\t') => out.extend_from_slice(b"\\t"),
            c => {
                let [high, low] = (c.map_or(0, u32::from) as u16).to_be_bytes();
                out.extend_from_slice(b"\\u");
                out.extend_from_slice(&digits(high));
                out.extend_from_slice(&digits(low));
            }
        }
        rest = after.as_str();
    }
    out.extend_from_slice(rest.as_bytes());
    out.push(b'"');
}

/// Whether a character is escaped: as JSON requires, control characters, and line separators.
fn is_escaped(c: char) -> bool {
    matches!(c, '"' | '\\' | '\0'..='\x1f' | '\x7f'..='\u{9f}' | '\u{2028}' | '\u{2029}')
}

/// Bytes: a string where they are UTF-8 and whole, else an object.
fn bytes_to(out: &mut Vec<u8>, bytes: &[u8], cut: bool) {
    let text = std::str::from_utf8(bytes).is_ok();
    if text && !cut {
        return string(out, bytes);
    }
    if text {
        out.extend_from_slice(b"{\"text\":");
        string(out, bytes);
    } else {
        out.extend_from_slice(b"{\"hex\":\"");
        out.extend(bytes.iter().flat_map(|byte| digits(*byte)));
        out.push(b'"');
    }
    out.extend_from_slice(if cut { b",\"cut\":true}" } else { b"}" });
}

/// Members by their names. One without a name, or with that of an earlier one, is named after its place: `#0`.
fn members(out: &mut Vec<u8>, fields: &[Field]) {
    let mut seen = HashSet::new();
    out.push(b'{');
    for (i, field) in fields.iter().enumerate() {
        if i > 0 {
            out.push(b',');
        }
        if field.name.is_empty() || !seen.insert(field.name.as_str()) {
            display(out, format_args!("\"#{i}\""));
        } else {
            string(out, field.name.as_bytes());
        }
        out.push(b':');
        value_to(out, &field.value);
    }
    out.push(b'}');
}

fn value_to(out: &mut Vec<u8>, value: &Value) {
    match value.meaning() {
        Value::Int(number) => display(out, number),
        Value::Addr(0) => out.extend_from_slice(b"null"),
        Value::Addr(address) => display(out, format_args!("{{\"address\":\"{address:#x}\"}}")),
        Value::Octal(number) => {
            display(
                out,
                format_args!("{{\"octal\":\"{number:o}\",\"value\":{number}}}"),
            );
        }
        Value::Fd { fd, path } => {
            display(out, format_args!("{{\"fd\":{fd}"));
            if let Some(path) = path {
                out.extend_from_slice(b",\"path\":");
                bytes_to(out, path, false);
            }
            out.push(b'}');
        }
        Value::Sym { text, value } => {
            out.extend_from_slice(b"{\"symbol\":");
            string(out, text.as_bytes());
            match value {
                Some(value) => display(out, format_args!(",\"value\":{value}}}")),
                None => out.push(b'}'),
            }
        }
        Value::Str { bytes, cut } => bytes_to(out, bytes, *cut),
        Value::Array { items, cut: false } => list(out, items, value_to),
        Value::Array { items, cut: true } => {
            out.extend_from_slice(b"{\"array\":");
            list(out, items, value_to);
            out.extend_from_slice(b",\"cut\":true}");
        }
        Value::Struct { fields, cut } => {
            out.extend_from_slice(b"{\"struct\":");
            members(out, fields);
            out.extend_from_slice(if *cut { b",\"cut\":true}" } else { b"}" });
        }
        Value::Set { negated, items } => {
            out.extend_from_slice(b"{\"set\":");
            list(out, items, |out, item| string(out, item.as_bytes()));
            out.extend_from_slice(if *negated {
                b",\"negated\":true}"
            } else {
                b"}"
            });
        }
        Value::Change { before, after } => {
            out.extend_from_slice(b"{\"before\":");
            value_to(out, before);
            out.extend_from_slice(b",\"after\":");
            value_to(out, after);
            out.push(b'}');
        }
        Value::Raw(text) => {
            out.extend_from_slice(b"{\"raw\":");
            string(out, text.as_bytes());
            out.push(b'}');
        }
        // A meaning is never a `Value::Written`.
        Value::Written { .. } => out.extend_from_slice(b"null"),
    }
}
