//! The parser of the small language in which the tables describe kinds: words with parameters in brackets.

use crate::constants;
use std::collections::HashMap;

use super::{Condition, Dir, Extent, Format, Kind, Len, Num};
use crate::syscall::layout::Layout;
use crate::syscall::notation::Notation;
use crate::syscall::{Abi, Moved};

impl Condition {
    /// Parses `FIELD[&MASK][=VALUE/…] [and [not ]…]`.
    pub(crate) fn parse(text: &str, negated: bool, names: &[&str]) -> Result<Condition, String> {
        let (text, also) = match text.split_once(" and ") {
            Some((text, rest)) => {
                let (rest, negated) = match rest.trim().strip_prefix("not ") {
                    Some(rest) => (rest, true),
                    None => (rest, false),
                };
                let also = Condition::parse(rest.trim(), negated, names)?;
                (text.trim(), Some(Box::new(also)))
            }
            None => (text, None),
        };
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
            also,
        })
    }
}

/// The names to which a kind's parameters may refer.
#[derive(Clone, Copy)]
pub(crate) struct Known<'a> {
    /// The arguments of the call, or the members of the structure.
    pub(crate) names: &'a [&'a str],
    /// The structures described so far.
    pub(crate) layouts: &'a HashMap<&'static str, &'static Layout>,
    /// The ABI whose number sizes apply.
    pub(crate) abi: Abi,
    /// Kinds that are replaced by others here: `with timespec=timespec64`.
    pub(crate) renames: &'a [(&'static str, &'static str)],
}

impl Known<'_> {
    fn renamed<'a>(&self, word: &'a str) -> &'a str {
        let found = self.renames.iter().find(|(from, _)| *from == word);
        found.map_or(word, |&(_, to)| to)
    }
}

fn constant(text: &str) -> Result<u64, String> {
    let value = constants::eval(text).map(|v| v as u64);
    value.ok_or_else(|| format!("unknown constant {text}"))
}

fn position(name: &str, names: &[&str]) -> Result<usize, String> {
    let found = names.iter().position(|&n| n == name);
    found.ok_or_else(|| format!("no argument or member {name}"))
}

fn len(text: &str, known: Known<'_>) -> Result<Len, String> {
    let names = known.names;
    if text == "ret" {
        return Ok(Len::Ret);
    }
    if let Some(name) = text.strip_prefix('*') {
        if let Some((name, each)) = name.split_once('/') {
            return Ok(Len::Each(position(name, names)?, constant(each)?.max(1)));
        }
        return Ok(Len::At(position(name, names)?));
    }
    if let Some(inner) = text.strip_prefix("pages ") {
        return Ok(Len::Pages(position(inner, names)?));
    }
    if let Some(inner) = text.strip_prefix("nodes ") {
        return Ok(Len::NodeWords(position(inner, names)?));
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
    if let Some((of, each)) = text.split_once('/') {
        let each = match known.layouts.get(each) {
            Some(layout) => layout.size as u64,
            None => constant(each)?,
        };
        return Ok(Len::Part(position(of, names)?, each));
    }
    match constants::number(text) {
        Some(n) => Ok(Len::Fixed(n as u64)),
        None => Ok(Len::Of(position(text, names)?)),
    }
}

fn extent(text: &str, known: Known<'_>) -> Result<Extent, String> {
    let (room, filled) = text.split_once(':').unwrap_or((text, text));
    Ok(Extent {
        room: len(room.trim(), known)?,
        filled: len(filled.trim(), known)?,
    })
}

/// The size that stands for a word of the ABI.
const WORD: usize = 0;

/// Numbers without parameters: name, size, signed, format.
const NUMBERS: &[(&str, usize, bool, Format)] = &[
    ("int", 4, true, Format::Dec),
    ("uint", 4, false, Format::Dec),
    ("long", WORD, true, Format::Dec),
    ("ulong", WORD, false, Format::Dec),
    ("s8", 1, true, Format::Dec),
    ("u8", 1, false, Format::Dec),
    ("s16", 2, true, Format::Dec),
    ("u16", 2, false, Format::Dec),
    ("s64", 8, true, Format::Dec),
    ("u64", 8, false, Format::Dec),
    ("hex8", 1, false, Format::Hex),
    ("hex16", 2, false, Format::Hex),
    ("hex32", 4, false, Format::Hex),
    ("hex", WORD, false, Format::Hex),
    ("addr", WORD, false, Format::Addr),
    ("hex64", 8, false, Format::Hex),
    ("oct", 4, false, Format::Oct),
    ("oct16", 2, false, Format::Oct),
    ("oct64", 8, false, Format::Oct),
    ("size", WORD, false, Format::Size),
    ("fd", 4, true, Format::Fd),
    ("dirfd", 4, true, Format::DirFd),
    ("id", 4, false, Format::Id),
    ("id16", 2, false, Format::Id),
    ("mode", 4, false, Format::Mode),
    ("mode16", 2, false, Format::Mode),
    ("signal", 4, true, Format::Signal),
    ("dev", 8, false, Format::Dev),
    ("dev16", 2, false, Format::Dev),
    ("dev32", 4, false, Format::Dev),
    ("handler", WORD, false, Format::Handler),
    ("rlim", WORD, false, Format::Rlimit),
    ("cloneflags", WORD, false, Format::CloneFlags),
    ("port", 2, false, Format::Port),
    ("net32", 4, false, Format::Net),
    ("inet", 4, false, Format::Inet),
    ("clock", 4, true, Format::Clock),
    ("swapflags", 4, false, Format::SwapFlags),
    ("qcmd", 4, false, Format::Qcmd),
    ("request", 4, false, Format::Request),
    ("pad8", 1, false, Format::Padded),
    ("pad32", 4, false, Format::Padded),
    ("pad64", 8, false, Format::Padded),
    ("errno", 4, true, Format::Errno),
    ("status", 4, true, Format::Status),
    ("sysnr", 4, true, Format::SyscallNumber),
    ("ioprio", 4, false, Format::IoPriority),
    ("ioprio16", 2, false, Format::IoPriority),
    ("wakeop", 4, false, Format::WakeOp),
    ("bpf", 8, false, Format::Filter { seccomp: false }),
    ("bpf_seccomp", 8, false, Format::Filter { seccomp: true }),
    ("sigmask", WORD, false, Format::SignalMask),
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
    ("outalways", Dir::OutAlways),
    ("inoutalways", Dir::InOutAlways),
];

impl Kind {
    /// Parses a kind.
    pub(crate) fn parse(text: &str, known: Known<'_>) -> Result<Kind, String> {
        let text = text.trim();
        let Some((word, rest)) = text.split_once('[') else {
            return Kind::plain(text, known);
        };
        let word = known.renamed(word);
        let inner = rest
            .strip_suffix(']')
            .ok_or_else(|| format!("{text}: no closing bracket"))?;
        if let Some(&(_, dir)) = DIRECTIONS.iter().find(|(name, _)| *name == word) {
            return Ok(Kind::Ptr(dir, Box::new(Kind::parse(inner, known)?)));
        }
        let extent = || extent(inner, known);
        Ok(match word {
            "array" => {
                let (of, count) = inner
                    .rsplit_once(',')
                    .ok_or_else(|| format!("{text}: an array needs a count"))?;
                let count = self::extent(count.trim(), known)?;
                Kind::Array(Box::new(Kind::parse(of, known)?), count)
            }
            "bytes" => Kind::Bytes(extent()?),
            "blob" => Kind::Blob(extent()?),
            "text" => Kind::Text(extent()?),
            "chars" => Kind::Chars(constant(inner)? as usize),
            "iovec_in" => Kind::Iovec(Moved::In, extent()?),
            "iovec_out" => Kind::Iovec(Moved::Out, extent()?),
            "mmsghdr_in" => Kind::Messages(Moved::In, extent()?),
            "mmsghdr_out" => Kind::Messages(Moved::Out, extent()?),
            "sockaddr" => Kind::Sockaddr(extent()?),
            "option" => match inner.split_once(',') {
                Some((len, kind)) => {
                    let kind = Box::new(Kind::parse(kind, known)?);
                    Kind::Option(self::extent(len, known)?, Some(kind))
                }
                None => Kind::Option(extent()?, None),
            },
            "indexed" => {
                let (set, count) = inner.split_once(',').ok_or("no count")?;
                let found = constants::set_in(known.abi, set)
                    .ok_or_else(|| format!("unknown set {set}"))?;
                Kind::Indexed(found, constant(count.trim())? as usize)
            }
            "mac" => Kind::Written(Notation::Mac, extent()?),
            "sized" => {
                let mut parts = inner.split(',').map(str::trim);
                let mut part = || parts.next().ok_or_else(|| format!("{text}: too short"));
                let (name, len, least) = (part()?, part()?, part()?);
                let found = known.layouts.get(name).copied();
                let found = found.ok_or_else(|| format!("unknown structure {name}"))?;
                let extent = self::extent(len, known)?;
                Kind::Sized(found, extent, constant(least)? as usize)
            }
            "structs" => {
                let found = known.layouts.get(inner).copied();
                let found = found.ok_or_else(|| format!("unknown structure {inner}"))?;
                Kind::Num(Num {
                    size: 4,
                    signed: true,
                    format: Format::Structures(found.name, found.size),
                })
            }
            "textat" => Kind::TextAt(constant(inner)? as usize),
            "textsat" => {
                let (base, count) = inner.split_once(',').ok_or("no count")?;
                let count = len(count.trim(), known)?;
                Kind::TextsAt(constant(base)? as usize, count)
            }
            "file_handle" => Kind::FileHandle(len(inner, known)?),
            "lsm_ctxs" => Kind::LsmContexts(extent()?),
            "msgbuf" => Kind::Msgbuf(extent()?),
            "capabilities" => Kind::Capabilities(position(inner, known.names)?),
            "bits" | "bits64" => {
                let (shift, width) = inner.split_once(',').ok_or("no width")?;
                let bit = |text: &str| constant(text.trim()).map(|n| n.min(64) as u32);
                Kind::Num(Num {
                    size: if word == "bits" { 4 } else { 8 },
                    signed: false,
                    format: Format::Bits(bit(shift)?, bit(width)?),
                })
            }
            "sigset" => Kind::Sigset(extent()?),
            "fdset" => Kind::FdSet(len(inner, known)?),
            "cpuset" => Kind::CpuSet(extent()?),
            "dirents64" => Kind::Dirents(extent()?, true),
            "dirents" => Kind::Dirents(extent()?, false),
            _ => Kind::named_number(word, inner, known.abi)?,
        })
    }

    fn plain(word: &str, known: Known<'_>) -> Result<Kind, String> {
        let word = known.renamed(word);
        if let Some(&(_, size, signed, format)) = NUMBERS.iter().find(|n| n.0 == word) {
            let format = match format {
                Format::Request if known.abi != Abi::X86_64 => Format::RequestIn(known.abi),
                format => format,
            };
            return Ok(Kind::Num(Num {
                size: if size == WORD { known.abi.word() } else { size },
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
            "inet6" => {
                let size = Len::Fixed(16);
                let (room, filled) = (size, size);
                Kind::Written(Notation::Inet6, Extent { room, filled })
            }
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

    /// Parses `flags[open]`, `enum16[socket_family]`, `flags64[statx_attr]`: the digits are bits, 32 without.
    fn named_number(word: &str, set: &str, abi: Abi) -> Result<Kind, String> {
        let found = constants::set_in(abi, set).ok_or_else(|| format!("unknown set {set}"))?;
        let digits = word.find(|c: char| c.is_ascii_digit());
        let (form, bits) = word.split_at(digits.unwrap_or(word.len()));
        let (format, bits) = match form {
            "flags" => (Format::Flags(found), bits),
            "enum" => (Format::Enum(found), bits),
            "named" => (Format::Named(found), bits),
            "known" => (Format::Known(found), bits),
            "modeflags" => (Format::ModeFlags(found), bits),
            "fdor" => (Format::FdOr(found), bits),
            "htons" => (Format::NetName(found), "16"),
            "htobs" => (Format::BluetoothName(found), "16"),
            _ => return Err(format!("unknown kind {word}[{set}]")),
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
            signed: matches!(
                format,
                Format::Enum(_) | Format::Named(_) | Format::Known(_) | Format::FdOr(_)
            ),
            format,
        }))
    }
}
