//! The values of arguments of observed calls.

use std::borrow::Cow;

/// A named member of a structure.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Field {
    /// The member's name as strace writes it; empty where it writes none.
    pub name: String,
    /// The member's value.
    pub value: Value,
}

impl Field {
    /// A member of this name.
    pub fn new(name: impl Into<String>, value: Value) -> Field {
        Field {
            name: name.into(),
            value,
        }
    }

    /// Its size in memory, in bytes.
    pub(crate) fn size(&self) -> usize {
        size_of::<String>() + self.name.len() + self.value.size()
    }

    /// Returns whether the member has this name, or holds the address of a variable of this name.
    pub(crate) fn is(&self, name: &str) -> bool {
        if !self.name.is_empty() || name.is_empty() {
            // strace 4 writes lengths after names: `msg_iov(1)=[…]`.
            let counted = || self.name.strip_prefix(name)?.strip_prefix('(');
            return self.name == name || (!name.is_empty() && counted().is_some());
        }
        match self.value.meaning() {
            Value::Sym { text, .. } => text
                .strip_suffix(')')
                .and_then(|text| text.strip_suffix(name))
                .is_some_and(|text| text.ends_with('&')),
            _ => false,
        }
    }
}

/// An argument, a member or an element, in the terms of strace's syntax.
///
/// Two values are equal if they mean the same, however they are [written](Value::Written).
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
pub enum Value {
    /// A number written in decimal: `3`, `-1`.
    Int(i64),
    /// A number written in hexadecimal: an address, a cookie. A null pointer is `Addr(0)`, written `NULL`.
    Addr(u64),
    /// A number written in octal, as modes are: `0644`, `000`.
    Octal(u64),
    /// A descriptor with the text that strace's `-y` adds: `3</etc/passwd>`.
    Fd {
        /// The number; `AT_FDCWD` is -100.
        fd: i32,
        /// The text between the angle brackets.
        path: Option<Vec<u8>>,
    },
    /// A symbolic expression: `O_RDONLY|O_CLOEXEC`, `S_IFREG|0644`, `makedev(0x8, 0x1)`, `SIGINT`,
    /// `htons(80)`. `value` is the number, where the constants are known.
    ///
    /// Wait statuses are symbols, too: `{WIFEXITED(s) && WEXITSTATUS(s) == 1}` is 256. So are numbers behind a
    /// label that is no member's name: `clone`'s arguments (`flags=CLONE_VM|SIGCHLD`) and designated elements
    /// (`[VINTR]=0x3`) stand for what is behind the label. Dates of strace before 4.20
    /// (`2018/04/29-13:30:53.769404451`) are seconds since 1970, read as UTC since the zone is not written.
    Sym {
        /// The text as written.
        text: String,
        /// The number that it stands for.
        value: Option<i64>,
    },
    /// Bytes: `"abc\0"`; `cut` if an ellipsis follows the closing quote.
    Str {
        /// The bytes, unescaped.
        bytes: Vec<u8>,
        /// True if strace cut it.
        cut: bool,
    },
    /// `[a, b, c]`; `cut` if it ends in `...`.
    Array {
        /// The elements.
        items: Vec<Value>,
        /// True if strace cut it.
        cut: bool,
    },
    /// `{a=1, b=2}`; `cut` if it ends in `...`.
    Struct {
        /// The members, in order.
        fields: Vec<Field>,
        /// True if strace cut it.
        cut: bool,
    },
    /// A set such as `[INT CHLD]`, `~[RTMIN RT_1]`, `[3 4]`: names as written (signals without `SIG`), separated
    /// by blanks. `[]` and `[3]` look like arrays and are read as such; `[INT]` is a set.
    Set {
        /// True for the complement.
        negated: bool,
        /// The members.
        items: Vec<String>,
    },
    /// An in-out argument: `{…} => {…}`, `110 => 16`. `[128 => 16]` is an array with one such element.
    Change {
        /// The value that the program passed.
        before: Box<Value>,
        /// The value that the kernel left there.
        after: Box<Value>,
    },
    /// Text that is kept as it is, since it was not understood or has no meaning (`/* 5 entries */`).
    Raw(String),
    /// A value whose text differs from how it would be printed: with a comment (`0xf /* SIG_??? */`), a label
    /// (`parent_tid=[7]`), strings all in hexadecimal, odd blanks, the `->` of older versions, bytes that are
    /// no UTF-8. Readers of traces make these, and only where the text differs.
    Written {
        /// The text as written.
        text: Box<[u8]>,
        /// The value; never itself [`Value::Written`].
        value: Box<Value>,
    },
}

impl PartialEq for Value {
    fn eq(&self, other: &Value) -> bool {
        use Value::*;
        match (self.meaning(), other.meaning()) {
            (Int(a), Int(b)) => a == b,
            (Addr(a), Addr(b)) | (Octal(a), Octal(b)) => a == b,
            (Fd { fd: a, path: p }, Fd { fd: b, path: q }) => a == b && p == q,
            (Sym { text: a, value: v }, Sym { text: b, value: w }) => a == b && v == w,
            (Str { bytes: a, cut: c }, Str { bytes: b, cut: d }) => a == b && c == d,
            (Array { items: a, cut: c }, Array { items: b, cut: d }) => a == b && c == d,
            (Struct { fields: a, cut: c }, Struct { fields: b, cut: d }) => a == b && c == d,
            (
                Set {
                    negated: a,
                    items: i,
                },
                Set {
                    negated: b,
                    items: j,
                },
            ) => a == b && i == j,
            (
                Change {
                    before: a,
                    after: b,
                },
                Change {
                    before: c,
                    after: d,
                },
            ) => a == c && b == d,
            (Raw(a), Raw(b)) => a == b,
            _ => false,
        }
    }
}

impl Value {
    /// The value without its text as written. Inner values may still be [`Value::Written`]; see [`plain`].
    pub fn meaning(&self) -> &Value {
        let mut value = self;
        while let Value::Written { value: inner, .. } = value {
            value = inner;
        }
        value
    }

    /// Returns whether a text as written is kept anywhere in the value.
    fn is_written(&self) -> bool {
        match self {
            Value::Written { .. } => true,
            Value::Array { items, .. } => items.iter().any(Value::is_written),
            Value::Struct { fields, .. } => fields.iter().any(|f| f.value.is_written()),
            Value::Change { before, after } => before.is_written() || after.is_written(),
            _ => false,
        }
    }

    /// Replaces written values by their meanings, recursively.
    fn to_plain(&self) -> Value {
        match self.meaning() {
            Value::Array { items, cut } => Value::Array {
                items: items.iter().map(Value::to_plain).collect(),
                cut: *cut,
            },
            Value::Struct { fields, cut } => Value::Struct {
                fields: fields
                    .iter()
                    .map(|f| Field::new(f.name.clone(), f.value.to_plain()))
                    .collect(),
                cut: *cut,
            },
            Value::Change { before, after } => Value::Change {
                before: Box::new(before.to_plain()),
                after: Box::new(after.to_plain()),
            },
            other => other.clone(),
        }
    }
    /// The number that the value stands for, if any.
    pub fn as_i64(&self) -> Option<i64> {
        match self.meaning() {
            Value::Int(v) => Some(*v),
            Value::Addr(v) | Value::Octal(v) => Some(*v as i64),
            Value::Fd { fd, .. } => Some(i64::from(*fd)),
            Value::Sym { value, .. } => *value,
            Value::Change { after, .. } => after.as_i64(),
            _ => None,
        }
    }

    /// The bytes, if the value is a string that was not cut.
    pub fn as_bytes(&self) -> Option<&[u8]> {
        match self.meaning() {
            Value::Str { bytes, cut: false } => Some(bytes),
            _ => None,
        }
    }

    /// The member of this name, if the value is a structure; of an in-out structure, the member that the kernel left,
    /// or else the one that the program passed. `inet_pton(AF_INET6, "::1", &sin6_addr)`, which strace writes without a
    /// name, is the member `sin6_addr`. The member is returned without its text as written.
    pub fn field(&self, name: &str) -> Option<&Value> {
        match self.meaning() {
            Value::Struct { fields, .. } => {
                let found = fields.iter().find(|f| f.is(name));
                found.map(|f| f.value.meaning())
            }
            Value::Change { before, after } => after.field(name).or_else(|| before.field(name)),
            _ => None,
        }
    }

    /// A string value of these bytes, not cut.
    pub fn str(bytes: impl Into<Vec<u8>>) -> Value {
        Value::Str {
            bytes: bytes.into(),
            cut: false,
        }
    }
}

/// The number of bytes of a string, and of elements of an array, that messages show.
pub(crate) const BRIEF: usize = 48;

impl Value {
    /// A copy for messages, with long strings and arrays cut, as strace cuts them without `-s` and `-v`.
    #[must_use]
    pub fn brief(&self) -> Value {
        match self.meaning() {
            Value::Str { bytes, .. } if bytes.len() > BRIEF => Value::Str {
                bytes: bytes[..BRIEF].to_vec(),
                cut: true,
            },
            Value::Array { items, cut } => Value::Array {
                items: items.iter().take(BRIEF).map(Value::brief).collect(),
                cut: *cut || items.len() > BRIEF,
            },
            Value::Struct { fields, cut } => Value::Struct {
                fields: fields
                    .iter()
                    .map(|field| Field {
                        name: field.name.clone(),
                        value: field.value.brief(),
                    })
                    .collect(),
                cut: *cut,
            },
            other => other.clone(),
        }
    }

    /// The total length of all strings in the value, in bytes.
    pub(crate) fn data_len(&self) -> usize {
        match self {
            Value::Str { bytes, .. } => bytes.len(),
            Value::Array { items, .. } => items.iter().map(Value::data_len).sum(),
            Value::Struct { fields, .. } => fields.iter().map(|f| f.value.data_len()).sum(),
            Value::Change { before, after } => before.data_len() + after.data_len(),
            Value::Written { text, value } => text.len() + value.data_len(),
            _ => 0,
        }
    }

    /// Its size in memory, in bytes.
    pub(crate) fn size(&self) -> usize {
        let all = |items: &[Value]| items.iter().map(Value::size).sum();
        let behind = match self {
            Value::Int(_) | Value::Addr(_) | Value::Octal(_) => 0,
            Value::Fd { path, .. } => path.as_ref().map_or(0, Vec::len),
            Value::Sym { text, .. } | Value::Raw(text) => text.len(),
            Value::Str { bytes, .. } => bytes.len(),
            Value::Array { items, .. } => all(items),
            Value::Struct { fields, .. } => fields.iter().map(Field::size).sum(),
            Value::Set { items, .. } => items
                .iter()
                .map(|item| size_of::<String>() + item.len())
                .sum(),
            Value::Change { before, after } => before.size() + after.size(),
            Value::Written { text, value } => text.len() + value.size(),
        };
        size_of::<Value>() + behind
    }
}

/// Values without their texts as written, recursively, for code that needs the meaning alone. Borrowed if no value has
/// such a text, which is the usual case.
pub fn plain(values: &[Value]) -> Cow<'_, [Value]> {
    match values.iter().any(Value::is_written) {
        true => Cow::Owned(values.iter().map(Value::to_plain).collect()),
        false => Cow::Borrowed(values),
    }
}
