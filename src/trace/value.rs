//! What an argument of an observed call holds.

/// A named member of a structure.
#[derive(Clone, Debug, PartialEq)]
pub struct Field {
    /// The member's name as strace writes it; empty where it writes none.
    pub name: String,
    /// What it holds.
    pub value: Value,
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
    /// A set such as `[INT CHLD]`, `~[RTMIN RT_1]`: names as written (signals without `SIG`), separated by blanks.
    Set {
        /// Whether it is the complement.
        negated: bool,
        /// The members.
        items: Vec<String>,
    },
    /// An in-out argument: `[128 => 16]`, `{…} => {…}`.
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

    /// The member of this name, where this is a structure.
    pub fn field(&self, name: &str) -> Option<&Value> {
        match self {
            Value::Struct { fields, .. } => {
                fields.iter().find(|f| f.name == name).map(|f| &f.value)
            }
            Value::Change { after, .. } => after.field(name),
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
