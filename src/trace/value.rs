//! What an argument of an observed call holds.

/// A named member of a structure.
#[derive(Clone, Debug, PartialEq)]
pub struct Field {
    /// The member's name as strace writes it; empty where it writes none.
    pub name: String,
    /// What it holds.
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

    /// Whether this is its name, or what it is the address of.
    fn is(&self, name: &str) -> bool {
        if !self.name.is_empty() || name.is_empty() {
            return self.name == name;
        }
        match &self.value {
            Value::Sym { text, .. } => text
                .strip_suffix(')')
                .and_then(|text| text.strip_suffix(name))
                .is_some_and(|text| text.ends_with('&')),
            _ => false,
        }
    }
}

/// An argument, a member or an element, in the terms of strace's syntax.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// A number written in decimal: `3`, `-1`.
    Int(i64),
    /// A number written in hexadecimal: an address, a cookie. A null pointer is `Addr(0)`, written `NULL`.
    Addr(u64),
    /// A number written in octal, as modes are: `0644`, `000`.
    Octal(u64),
    /// A descriptor with what strace's `-y` says about it: `3</etc/passwd>`.
    Fd {
        /// Its number; `AT_FDCWD` is -100.
        fd: i32,
        /// What stands between the angle brackets.
        path: Option<Vec<u8>>,
    },
    /// A symbolic expression: `O_RDONLY|O_CLOEXEC`, `S_IFREG|0644`, `makedev(0x8, 0x1)`, `SIGINT`,
    /// `htons(80)`. `value` is what it stands for, where the constants are known.
    ///
    /// Wait statuses are symbols, too: `{WIFEXITED(s) && WEXITSTATUS(s) == 1}` is 256. So are numbers behind a
    /// label that is no member's name: `clone`'s arguments (`flags=CLONE_VM|SIGCHLD`) and designated elements
    /// (`[VINTR]=0x3`) stand for what is behind the label. Dates of strace before 4.20
    /// (`2018/04/29-13:30:53.769404451`) are seconds since 1970, read as UTC since the zone is not written.
    Sym {
        /// As written.
        text: String,
        /// What it means.
        value: Option<i64>,
    },
    /// Bytes: `"abc\0"`; `cut` where an ellipsis follows the closing quote.
    Str {
        /// The bytes, unescaped.
        bytes: Vec<u8>,
        /// Whether strace cut it.
        cut: bool,
    },
    /// `[a, b, c]`; `cut` where it ends in `...`.
    Array {
        /// The elements.
        items: Vec<Value>,
        /// Whether strace cut it.
        cut: bool,
    },
    /// `{a=1, b=2}`; `cut` where it ends in `...`.
    Struct {
        /// The members, in order.
        fields: Vec<Field>,
        /// Whether strace cut it.
        cut: bool,
    },
    /// A set such as `[INT CHLD]`, `~[RTMIN RT_1]`, `[3 4]`: names as written (signals without `SIG`), separated
    /// by blanks. `[]` and `[3]` look like arrays and are read as such; `[INT]` is a set.
    Set {
        /// Whether it is the complement.
        negated: bool,
        /// The members.
        items: Vec<String>,
    },
    /// An in-out argument: `{…} => {…}`, `110 => 16`. `[128 => 16]` is an array with one such element.
    Change {
        /// What the program passed.
        before: Box<Value>,
        /// What the kernel left there.
        after: Box<Value>,
    },
    /// Text that is kept as it is, since it is not understood.
    Raw(String),
}

impl Value {
    /// The number that this stands for, if it stands for one.
    pub fn as_i64(&self) -> Option<i64> {
        match self {
            Value::Int(v) => Some(*v),
            Value::Addr(v) | Value::Octal(v) => Some(*v as i64),
            Value::Fd { fd, .. } => Some(i64::from(*fd)),
            Value::Sym { value, .. } => *value,
            Value::Change { after, .. } => after.as_i64(),
            _ => None,
        }
    }

    /// The bytes, where this is a string that was not cut.
    pub fn as_bytes(&self) -> Option<&[u8]> {
        match self {
            Value::Str { bytes, cut: false } => Some(bytes),
            _ => None,
        }
    }

    /// The member of this name, where this is a structure; of an in-out one, the member that the kernel left,
    /// else the one that the program passed. `inet_pton(AF_INET6, "::1", &sin6_addr)`, which strace writes
    /// without a name, is the member `sin6_addr`.
    pub fn field(&self, name: &str) -> Option<&Value> {
        match self {
            Value::Struct { fields, .. } => fields.iter().find(|f| f.is(name)).map(|f| &f.value),
            Value::Change { before, after } => after.field(name).or_else(|| before.field(name)),
            _ => None,
        }
    }

    /// A string value of these bytes, whole.
    pub fn str(bytes: impl Into<Vec<u8>>) -> Value {
        Value::Str {
            bytes: bytes.into(),
            cut: false,
        }
    }
}

/// Bytes of a string, and elements of an array, that messages show.
const BRIEF: usize = 48;

impl Value {
    /// The same with long strings and arrays cut, as strace cuts them without `-s` and `-v`: for messages.
    #[must_use]
    pub fn brief(&self) -> Value {
        match self {
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
}
