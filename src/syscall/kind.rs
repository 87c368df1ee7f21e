//! What an argument, a member or an element is, and the small language in which the tables say so.
//!
//! A kind is a word with parameters in brackets: `fd`, `flags[open]`, `in[path]`,
//! `out[bytes[count:ret]]`. See the head of `x86_64.tbl` for all of them.

use std::collections::HashMap;

use super::Moved;
use super::consts;
use super::layout::Layout;
use super::sets::{self, Set};

/// How a number is written and compared.
#[derive(Clone, Copy, Debug)]
pub enum Format {
    /// Decimal.
    Dec,
    /// Hexadecimal, compared by value.
    Hex,
    /// An address, or another opaque number: only whether it is null is compared.
    Addr,
    /// Octal, as permissions are.
    Oct,
    /// The number of bytes that the call is about.
    Size,
    /// A descriptor.
    Fd,
    /// A descriptor or `AT_FDCWD`.
    DirFd,
    /// A user or group id, where all ones is -1.
    Id,
    /// `S_IFREG|0644`.
    Mode,
    /// A signal's number.
    Signal,
    /// A device number: `makedev(0x8, 0x1)`.
    Dev,
    /// `SIG_DFL`, `SIG_IGN` or an address.
    Handler,
    /// A resource limit: `RLIM64_INFINITY`, `8192*1024`.
    Rlimit,
    /// clone's flags, with a signal in the low byte.
    CloneFlags,
    /// A port in network byte order: `htons(80)`.
    Port,
    /// 32 bits in network byte order: `htonl(0)`.
    Net,
    /// An IPv4 address: `inet_addr("127.0.0.1")`.
    Inet,
    /// A request of ioctl: a name, or its parts: `_IOC(_IOC_READ, 0x99, 0x1, 0x20)`.
    Request,
    /// A clock: a name, or a descriptor's or process's clock as a number.
    Clock,
    /// Names or-ed.
    Flags(&'static Set),
    /// One name.
    Enum(&'static Set),
}

/// A number of `size` bytes.
#[derive(Clone, Copy, Debug)]
pub struct Num {
    /// 1, 2, 4 or 8.
    pub size: usize,
    /// Whether it is signed.
    pub signed: bool,
    /// How it is written.
    pub format: Format,
}

/// Who reads and writes what a pointer points to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dir {
    /// The kernel reads it.
    In,
    /// The kernel writes it when the call succeeds.
    Out,
    /// The kernel writes it when the call returns more than 0 (wait4's status).
    OutSome,
    /// The kernel reads it, and writes it when the call succeeds.
    InOut,
    /// The kernel reads it, and may write it however the call ends (select's sets and time left).
    Update,
    /// The kernel writes it when a signal interrupts the call (nanosleep's time left).
    Interrupted,
    /// The kernel reads it and may write it, but traces show only its address (futex words).
    Word,
}

/// A length or count, in terms of the other arguments (or members).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Len {
    /// Always this.
    Fixed(u64),
    /// The value of the argument with this index.
    Of(usize),
    /// What the argument with this index points to: 32 bits.
    At(usize),
    /// As many pages as the argument with this index is bytes.
    Pages(usize),
    /// What the call returned.
    Ret,
    /// Bytes: `each` for each of the 32-bit count that stands `offset` bytes into what the argument with index `of`
    /// points to, and `more`.
    Counted {
        /// The argument.
        of: usize,
        /// Where the count is, in bytes.
        offset: u64,
        /// How many bytes for each.
        each: u64,
        /// How many bytes besides.
        more: u64,
    },
}

/// How much room there is, and how much of it the kernel fills.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// The room, in bytes or elements.
    pub room: Len,
    /// What is filled; never more than the room.
    pub filled: Len,
}

/// What an argument, a member or an element is.
#[derive(Debug)]
pub enum Kind {
    /// A number.
    Num(Num),
    /// A pointer to something.
    Ptr(Dir, Box<Kind>),
    /// A structure.
    Struct(&'static Layout),
    /// Elements of one kind.
    Array(Box<Kind>, Extent),
    /// Bytes.
    Bytes(Extent),
    /// Text that ends at a zero byte, in a buffer (getcwd).
    Text(Extent),
    /// Text in a fixed field, up to a zero byte.
    Chars(usize),
    /// A path: text up to a zero byte, at most 4096 bytes.
    Path,
    /// Text up to a zero byte.
    Str,
    /// A null-ended array of pointers to text: argv, envp.
    Strings,
    /// `struct iovec`s and what they point to.
    Iovec(Moved, Extent),
    /// A `struct msghdr` and its parts.
    Message(Moved),
    /// `struct mmsghdr`s and their parts.
    Messages(Moved, Extent),
    /// A `struct sockaddr` of any family.
    Sockaddr(Extent),
    /// A socket option: the structure where there is one and room for it, an int where it has an int's size, else
    /// bytes.
    Option(Extent, Option<&'static Layout>),
    /// Bytes, written with the names of a set as indexes: `[[VINTR]=0x3, …]`.
    Indexed(&'static Set, usize),
    /// A set of signals, as the kernel has it.
    Sigset(Extent),
    /// An `fd_set` of as many bits.
    FdSet(Len),
    /// A set of CPUs, of as many bytes.
    CpuSet(Extent),
    /// Directory entries: `struct linux_dirent64`, or the old one.
    Dirents(Extent, bool),
    /// A process's status as wait4 has it.
    WaitStatus,
}

/// When an argument or member is there at all: `if flags&0x40`, `unless st_mode&0170000=020000`.
#[derive(Debug)]
pub(crate) struct Condition {
    pub(crate) on: usize,
    mask: u64,
    values: Vec<u64>,
    negated: bool,
}

impl Condition {
    pub(crate) fn holds(&self, value: u64) -> bool {
        let masked = value & self.mask;
        let met = if self.values.is_empty() {
            masked != 0
        } else {
            self.values.contains(&masked)
        };
        met != self.negated
    }

    /// `FIELD[&MASK][=VALUE/…]`.
    pub(crate) fn parse(text: &str, negated: bool, names: &[&str]) -> Result<Condition, String> {
        let (left, values) = match text.split_once('=') {
            Some((left, values)) => (left, values.split('/').map(constant).collect()),
            None => (text, Ok(Vec::new())),
        };
        let (field, mask) = match left.split_once('&') {
            Some((field, mask)) => (field, constant(mask)?),
            None => (left, 0xffff_ffff),
        };
        Ok(Condition {
            on: position(field, names)?,
            mask,
            values: values?,
            negated,
        })
    }
}

/// What a kind's parameters may speak of.
#[derive(Clone, Copy)]
pub(crate) struct Known<'a> {
    /// The arguments of the call, or the members of the structure.
    pub(crate) names: &'a [&'a str],
    /// The structures described so far.
    pub(crate) layouts: &'a HashMap<&'static str, &'static Layout>,
}

fn constant(text: &str) -> Result<u64, String> {
    let value = consts::eval(text).map(|v| v as u64);
    value.ok_or_else(|| format!("unknown constant {text}"))
}

fn position(name: &str, names: &[&str]) -> Result<usize, String> {
    let found = names.iter().position(|&n| n == name);
    found.ok_or_else(|| format!("no argument or member {name}"))
}

fn len(text: &str, names: &[&str]) -> Result<Len, String> {
    if text == "ret" {
        return Ok(Len::Ret);
    }
    if let Some(name) = text.strip_prefix('*') {
        return Ok(Len::At(position(name, names)?));
    }
    if let Some(inner) = text.strip_prefix("pages ") {
        return Ok(Len::Pages(position(inner, names)?));
    }
    if let Some((of, rest)) = text.split_once('@') {
        let parts = rest.split_once('*').and_then(|(offset, rest)| {
            let (each, more) = rest.split_once('+')?;
            Some((offset.parse().ok()?, each.parse().ok()?, more.parse().ok()?))
        });
        let (offset, each, more) = parts.ok_or_else(|| format!("{text}: ARG@OFFSET*EACH+MORE"))?;
        let of = position(of, names)?;
        return Ok(Len::Counted {
            of,
            offset,
            each,
            more,
        });
    }
    match sets::number(text) {
        Some(n) => Ok(Len::Fixed(n as u64)),
        None => Ok(Len::Of(position(text, names)?)),
    }
}

fn extent(text: &str, names: &[&str]) -> Result<Extent, String> {
    let (room, filled) = text.split_once(':').unwrap_or((text, text));
    Ok(Extent {
        room: len(room.trim(), names)?,
        filled: len(filled.trim(), names)?,
    })
}

/// Numbers without parameters: name, size, signed, format.
const NUMBERS: &[(&str, usize, bool, Format)] = &[
    ("int", 4, true, Format::Dec),
    ("uint", 4, false, Format::Dec),
    ("long", 8, true, Format::Dec),
    ("ulong", 8, false, Format::Dec),
    ("s8", 1, true, Format::Dec),
    ("u8", 1, false, Format::Dec),
    ("s16", 2, true, Format::Dec),
    ("u16", 2, false, Format::Dec),
    ("hex8", 1, false, Format::Hex),
    ("hex16", 2, false, Format::Hex),
    ("hex32", 4, false, Format::Hex),
    ("hex", 8, false, Format::Hex),
    ("addr", 8, false, Format::Addr),
    ("oct", 4, false, Format::Oct),
    ("size", 8, false, Format::Size),
    ("fd", 4, true, Format::Fd),
    ("dirfd", 4, true, Format::DirFd),
    ("id", 4, false, Format::Id),
    ("mode", 4, false, Format::Mode),
    ("mode16", 2, false, Format::Mode),
    ("signal", 4, true, Format::Signal),
    ("dev", 8, false, Format::Dev),
    ("dev32", 4, false, Format::Dev),
    ("handler", 8, false, Format::Handler),
    ("rlim", 8, false, Format::Rlimit),
    ("cloneflags", 8, false, Format::CloneFlags),
    ("port", 2, false, Format::Port),
    ("net32", 4, false, Format::Net),
    ("inet", 4, false, Format::Inet),
    ("clock", 4, true, Format::Clock),
    ("request", 4, false, Format::Request),
];

/// Directions of pointers.
const DIRECTIONS: &[(&str, Dir)] = &[
    ("in", Dir::In),
    ("out", Dir::Out),
    ("outsome", Dir::OutSome),
    ("inout", Dir::InOut),
    ("update", Dir::Update),
    ("interrupted", Dir::Interrupted),
    ("word", Dir::Word),
];

impl Kind {
    /// Reads a kind.
    pub(crate) fn parse(text: &str, known: Known<'_>) -> Result<Kind, String> {
        let text = text.trim();
        let Some((word, rest)) = text.split_once('[') else {
            return Kind::plain(text, known);
        };
        let inner = rest
            .strip_suffix(']')
            .ok_or_else(|| format!("{text}: no closing bracket"))?;
        if let Some(&(_, dir)) = DIRECTIONS.iter().find(|(name, _)| *name == word) {
            return Ok(Kind::Ptr(dir, Box::new(Kind::parse(inner, known)?)));
        }
        let extent = || extent(inner, known.names);
        Ok(match word {
            "array" => {
                let (of, count) = inner
                    .rsplit_once(',')
                    .ok_or_else(|| format!("{text}: an array needs a count"))?;
                let count = self::extent(count.trim(), known.names)?;
                Kind::Array(Box::new(Kind::parse(of, known)?), count)
            }
            "bytes" => Kind::Bytes(extent()?),
            "text" => Kind::Text(extent()?),
            "chars" => Kind::Chars(constant(inner)? as usize),
            "iovec_in" => Kind::Iovec(Moved::In, extent()?),
            "iovec_out" => Kind::Iovec(Moved::Out, extent()?),
            "mmsghdr_in" => Kind::Messages(Moved::In, extent()?),
            "mmsghdr_out" => Kind::Messages(Moved::Out, extent()?),
            "sockaddr" => Kind::Sockaddr(extent()?),
            "option" => match inner.split_once(',') {
                Some((len, name)) => {
                    let found = known.layouts.get(name.trim()).copied();
                    let found = found.ok_or_else(|| format!("unknown structure {name}"))?;
                    Kind::Option(self::extent(len, known.names)?, Some(found))
                }
                None => Kind::Option(extent()?, None),
            },
            "indexed" => {
                let (set, count) = inner.split_once(',').ok_or("no count")?;
                let found = sets::set(set).ok_or_else(|| format!("unknown set {set}"))?;
                Kind::Indexed(found, constant(count.trim())? as usize)
            }
            "sigset" => Kind::Sigset(extent()?),
            "fdset" => Kind::FdSet(len(inner, known.names)?),
            "cpuset" => Kind::CpuSet(extent()?),
            "dirents64" => Kind::Dirents(extent()?, true),
            "dirents" => Kind::Dirents(extent()?, false),
            _ => Kind::named_number(word, inner)?,
        })
    }

    fn plain(word: &str, known: Known<'_>) -> Result<Kind, String> {
        if let Some(&(_, size, signed, format)) = NUMBERS.iter().find(|n| n.0 == word) {
            return Ok(Kind::Num(Num {
                size,
                signed,
                format,
            }));
        }
        Ok(match word {
            "path" => Kind::Path,
            "str" => Kind::Str,
            "strings" => Kind::Strings,
            "msghdr_in" => Kind::Message(Moved::In),
            "msghdr_out" => Kind::Message(Moved::Out),
            "waitstatus" => Kind::WaitStatus,
            _ => {
                let found = known.layouts.get(word);
                Kind::Struct(
                    found
                        .copied()
                        .ok_or_else(|| format!("unknown kind {word}"))?,
                )
            }
        })
    }

    /// `flags[open]`, `enum16[socket_family]`, `flags64[statx_attr]`: the digits are bits, 32 without.
    fn named_number(word: &str, set: &str) -> Result<Kind, String> {
        let found = sets::set(set).ok_or_else(|| format!("unknown set {set}"))?;
        let (format, bits) = match word.strip_prefix("flags") {
            Some(bits) => (Format::Flags(found), bits),
            None => match word.strip_prefix("enum") {
                Some(bits) => (Format::Enum(found), bits),
                None => return Err(format!("unknown kind {word}[{set}]")),
            },
        };
        let size = match bits {
            "8" => 1,
            "16" => 2,
            "" => 4,
            "64" => 8,
            _ => return Err(format!("unknown kind {word}[{set}]")),
        };
        Ok(Kind::Num(Num {
            size,
            signed: matches!(format, Format::Enum(_)),
            format,
        }))
    }

    /// The number of bytes that this takes wherever it stands, where that is always the same.
    pub(crate) fn fixed_size(&self) -> Option<usize> {
        match self {
            Kind::Num(num) => Some(num.size),
            Kind::Ptr(..) => Some(8),
            Kind::Struct(layout) => Some(layout.size),
            Kind::Chars(n) | Kind::Indexed(_, n) => Some(*n),
            Kind::WaitStatus => Some(4),
            Kind::Array(of, extent) => match extent.room {
                Len::Fixed(n) => of.fixed_size()?.checked_mul(usize::try_from(n).ok()?),
                _ => None,
            },
            Kind::Bytes(e) | Kind::Sigset(e) | Kind::Sockaddr(e) => match e.room {
                Len::Fixed(n) => usize::try_from(n).ok(),
                _ => None,
            },
            _ => None,
        }
    }

    /// Natural alignment, for members without an explicit offset.
    pub(crate) fn align(&self) -> usize {
        match self {
            Kind::Num(num) => num.size,
            Kind::Ptr(..) | Kind::Sigset(_) => 8,
            Kind::Struct(layout) => layout.align,
            Kind::Array(of, _) => of.align(),
            _ => 1,
        }
    }

    /// Whether this is a number of exactly this kind of format.
    pub(crate) fn is_format(&self, wanted: fn(&Format) -> bool) -> bool {
        matches!(self, Kind::Num(num) if wanted(&num.format))
    }
}
