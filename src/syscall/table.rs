//! The table of calls (`x86_64.tbl`), read once; what can be told from a description alone.

use std::collections::HashMap;
use std::sync::LazyLock;

use super::consts;
use super::frame::{Frame, MOST_BYTES, Side};
use super::ioctl;
use super::kind::{Condition, Dir, Format, Kind, Known};
use super::layout;
use super::{Memory, Moved, Region, Replay};

/// A formal argument.
#[derive(Debug)]
pub struct Arg {
    /// Its name as in the man page.
    pub name: &'static str,
    /// What it is.
    pub kind: Kind,
    /// When it is used at all; always where `None`.
    pub(crate) condition: Option<Condition>,
}

/// A variant of a multiplexer: the commands that select it, and what it is then.
#[derive(Debug)]
struct Variant {
    values: Vec<u64>,
    call: Syscall,
}

/// The variants of a multiplexer, and the argument that selects one.
#[derive(Debug)]
struct Variants {
    by: usize,
    mask: u64,
    list: Vec<Variant>,
}

/// A system call, or one variant of a multiplexer such as ioctl.
#[derive(Debug)]
pub struct Syscall {
    /// Its number on x86-64.
    pub nr: u32,
    /// Its name.
    pub name: &'static str,
    /// Its formal arguments.
    pub args: Vec<Arg>,
    /// Whether its arguments are described in full. What is not cannot be recorded.
    pub described: bool,
    /// How replay treats it.
    pub replay: Replay,
    /// What it returns.
    pub ret: Kind,
    /// The classes that it is in, without the percent sign: `file`, `desc`, `%stat`.
    pub classes: Vec<&'static str>,
    moved: Option<Moved>,
    variants: Option<Variants>,
}

struct Table {
    by_nr: Vec<Option<Syscall>>,
    by_name: HashMap<&'static str, u32>,
    layouts: Vec<OldLayout>,
    errors: Vec<String>,
}

/// An older form of a call, told by its number of arguments: which of its arguments is which.
struct OldLayout {
    name: &'static str,
    len: usize,
    order: Vec<Option<usize>>,
}

static TABLE: LazyLock<Table> = LazyLock::new(|| {
    let mut table = Table {
        by_nr: Vec::new(),
        by_name: HashMap::new(),
        layouts: Vec::new(),
        errors: Vec::new(),
    };
    table.read(include_str!("x86_64.tbl"));
    table.read_aliases(include_str!("aliases.tbl"));
    table
});

/// The call with this number.
pub fn by_nr(nr: u64) -> Option<&'static Syscall> {
    TABLE.by_nr.get(usize::try_from(nr).ok()?)?.as_ref()
}

/// The call with this name, or with this old or 32-bit name (`send`, `stat64`, `_llseek`).
pub fn by_name(name: &str) -> Option<&'static Syscall> {
    by_nr(u64::from(*TABLE.by_name.get(name)?))
}

/// The names of all calls, by number, without aliases.
pub fn names() -> impl Iterator<Item = &'static str> {
    TABLE.by_nr.iter().flatten().map(|call| call.name)
}

/// Calls whose names are close to this one, best first, at most three.
pub fn suggest(name: &str) -> Vec<&'static str> {
    consts::nearest(name, TABLE.by_name.keys().copied())
}

/// What is wrong with the table: nothing, as a test makes sure.
#[cfg(test)]
pub(crate) fn errors() -> &'static [String] {
    &TABLE.errors
}

impl Table {
    fn read(&mut self, text: &'static str) {
        let mut last = None;
        for line in text.lines().map(str::trim) {
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let nested = line.strip_prefix("++ ").map(|line| (line, true));
            let variant = nested.or(line.strip_prefix("+ ").map(|line| (line, false)));
            let result = match variant {
                Some((variant, nested)) => self.variant(last, variant, nested),
                None => Syscall::parse(line).map(|call| {
                    last = Some(call.nr as usize);
                    self.insert(call);
                }),
            };
            if let Err(error) = result {
                self.errors.push(format!("{line}: {error}"));
            }
        }
    }

    fn insert(&mut self, call: Syscall) {
        let index = call.nr as usize;
        if self.by_nr.len() <= index {
            self.by_nr.resize_with(index + 1, || None);
        }
        self.by_name.insert(call.name, call.nr);
        if let Some(place) = self.by_nr.get_mut(index) {
            *place = Some(call);
        }
    }

    /// `COMMAND COMMAND: (ARGS) RET [by …] : WORDS`, of the call before it, or of its last variant.
    fn variant(
        &mut self,
        last: Option<usize>,
        line: &'static str,
        nested: bool,
    ) -> Result<(), String> {
        let (commands, description) = line.split_once(": ").ok_or("no commands")?;
        let place = last.and_then(|nr| self.by_nr.get_mut(nr));
        let mut base = place.and_then(Option::as_mut).ok_or("no call before it")?;
        if nested {
            let variants = base.variants.as_mut().and_then(|v| v.list.last_mut());
            base = &mut variants.ok_or("no variant before it")?.call;
        }
        let mut call = Syscall::describe(base.nr, base.name, description.trim())?;
        if call.classes.is_empty() {
            call.classes.clone_from(&base.classes);
        }
        let variants = base.variants.as_mut().ok_or("the call has no variants")?;
        let values = commands.split_whitespace().map(|name| {
            let value = consts::eval(name).map(|v| v as u64 & variants.mask);
            value.ok_or_else(|| format!("unknown constant {name}"))
        });
        let values = values.collect::<Result<_, String>>()?;
        variants.list.push(Variant { values, call });
        Ok(())
    }

    /// `ALIAS NAME` or `= NAME COUNT INDEX…`, where `-` stands for an argument that the old form has not.
    fn read_aliases(&mut self, text: &'static str) {
        for line in text.lines().map(str::trim) {
            let words: Vec<&'static str> = line.split_whitespace().collect();
            match words.as_slice() {
                [] | ["#", ..] => {}
                ["=", name, count, order @ ..] => self.layouts.push(OldLayout {
                    name,
                    len: count.parse().unwrap_or(0),
                    order: order.iter().map(|index| index.parse().ok()).collect(),
                }),
                [alias, name] if self.by_name.contains_key(name) => {
                    if let Some(&nr) = self.by_name.get(name) {
                        self.by_name.entry(alias).or_insert(nr);
                    }
                }
                _ => self.errors.push(format!("alias: {line}")),
            }
        }
    }
}

/// Splits at commas outside brackets.
fn split_args(text: &str) -> impl Iterator<Item = &str> {
    let mut depth = 0i32;
    let parts = text.split(move |c| {
        depth += match c {
            '[' => 1,
            ']' => -1,
            _ => 0,
        };
        c == ',' && depth == 0
    });
    parts.map(str::trim).filter(|part| !part.is_empty())
}

impl Syscall {
    /// `NR NAME` alone, or `NR NAME(ARG KIND, …) RET [by ARG[&MASK]] [: WORDS]`.
    fn parse(line: &'static str) -> Result<Syscall, String> {
        let (nr, rest) = line.split_once(' ').ok_or("no name")?;
        let nr = nr.parse().map_err(|e| format!("{e}"))?;
        let rest = rest.trim();
        let end = rest.find(['(', ' ']).unwrap_or(rest.len());
        let (name, description) = rest.split_at(end);
        Syscall::describe(nr, name, description.trim())
    }

    fn describe(nr: u32, name: &'static str, text: &'static str) -> Result<Syscall, String> {
        let (text, words) = match text.split_once(" : ") {
            Some((text, words)) => (text, words),
            None => (text.trim_end_matches(" :"), ""),
        };
        let mut call = Syscall {
            nr,
            name,
            args: Vec::new(),
            described: text.starts_with('('),
            replay: Replay::Unsupported,
            ret: Kind::Num(super::Num {
                size: 8,
                signed: true,
                format: Format::Dec,
            }),
            classes: Vec::new(),
            moved: None,
            variants: None,
        };
        let words = if call.described {
            words
        } else {
            text.trim_start_matches(": ")
        };
        if call.described {
            call.replay = Replay::Emulate;
            call.signature(text)?;
        }
        for word in words.split_whitespace() {
            match word.split_once('=') {
                Some(("refuse", errno)) => {
                    let errno = consts::errno(errno).ok_or("unknown errno")?;
                    call.replay = Replay::Refuse(errno);
                    call.described = true;
                }
                Some(_) => return Err(format!("unknown word {word}")),
                None => match word {
                    "run" => call.replay = Replay::Run,
                    "unsupported" => call.replay = Replay::Unsupported,
                    "undescribed" => {
                        call.described = false;
                        call.replay = Replay::Unsupported;
                    }
                    "moves-in" => call.moved = Some(Moved::In),
                    "moves-out" => call.moved = Some(Moved::Out),
                    class => call.classes.push(class),
                },
            }
        }
        Ok(call)
    }

    /// `(ARG KIND, …) RET [by ARG[&MASK]]`.
    fn signature(&mut self, text: &'static str) -> Result<(), String> {
        let inner = text.strip_prefix('(').ok_or("no arguments")?;
        let (args, ret) = inner.rsplit_once(')').ok_or("no closing parenthesis")?;
        let parts: Vec<&'static str> = split_args(args).collect();
        let names: Vec<&'static str> = parts
            .iter()
            .filter_map(|part| part.split_whitespace().next())
            .collect();
        let known = Known {
            names: &names,
            layouts: layout::layouts(),
        };
        for (part, &name) in parts.iter().zip(&names) {
            let (_, kind) = part
                .split_once(' ')
                .ok_or_else(|| format!("{name}: no kind"))?;
            let (kind, condition) = layout::split_condition(kind, &names)?;
            let kind = Kind::parse(kind, known).map_err(|e| format!("{name}: {e}"))?;
            self.args.push(Arg {
                name,
                kind,
                condition,
            });
        }
        let (ret, by) = match ret.trim().split_once("by ") {
            Some((ret, by)) => (ret.trim(), Some(by.trim())),
            None => (ret.trim(), None),
        };
        if !ret.is_empty() {
            self.ret = Kind::parse(ret, known)?;
        }
        if let Some(by) = by {
            let (arg, mask) = by.split_once('&').unwrap_or((by, "0xffffffff"));
            self.variants = Some(Variants {
                by: self.arg(arg).ok_or_else(|| format!("no argument {arg}"))?,
                mask: consts::eval(mask).ok_or("a mask is a number")? as u64,
                list: Vec::new(),
            });
        }
        Ok(())
    }

    /// A call that is described as one line of the table would.
    pub(crate) fn made(
        nr: u32,
        name: &'static str,
        text: &'static str,
        classes: &[&'static str],
    ) -> Option<Syscall> {
        let mut call = Syscall::describe(nr, name, text).ok()?;
        call.classes = classes.to_vec();
        Some(call)
    }

    /// The variant of a multiplexer (ioctl, fcntl, prctl, futex, …) that these arguments select; the call itself
    /// where there are none. Where the command is unknown, the result's `described` is false.
    pub fn resolve(&'static self, args: &[u64; 6]) -> &'static Syscall {
        let Some(variants) = &self.variants else {
            return self;
        };
        let selector = args.get(variants.by).copied().unwrap_or(0) & variants.mask;
        let chosen = variants.list.iter().find(|v| v.values.contains(&selector));
        match chosen {
            Some(variant) => variant.call.resolve(args),
            None if self.name == "ioctl" => ioctl::encoded(selector as u32).unwrap_or(self),
            None => self,
        }
    }

    /// The order of arguments where an older form of this call with `len` arguments has another.
    pub(crate) fn old_layout(&self, len: usize) -> Option<&'static [Option<usize>]> {
        let mut layouts = TABLE.layouts.iter();
        let found = layouts.find(|old| old.name == self.name && old.len == len);
        found.map(|old| old.order.as_slice())
    }

    /// Whether this call is in a class of strace's `-e trace=`: `%file`, `%desc`, `%network`, `%%stat`, ….
    pub fn is_in_class(&self, class: &str) -> bool {
        match class.strip_prefix('%') {
            Some("net") => self.classes.contains(&"network"),
            Some(class) => self.classes.contains(&class),
            None => false,
        }
    }

    /// The index of the argument with this name.
    pub fn arg(&self, name: &str) -> Option<usize> {
        self.args.iter().position(|a| a.name == name)
    }

    /// The index of the first argument that is a descriptor.
    pub fn fd_arg(&self) -> Option<usize> {
        self.position(|kind| kind.is_format(|f| matches!(f, Format::Fd | Format::DirFd)))
    }

    /// The indexes of the arguments that are paths.
    pub fn path_args(&self) -> Vec<usize> {
        let is_path = |&i: &usize| {
            let kind = self.args.get(i).map(|a| &a.kind);
            matches!(kind, Some(Kind::Ptr(Dir::In, to)) if matches!(**to, Kind::Path))
        };
        (0..self.args.len()).filter(is_path).collect()
    }

    /// The index of the first argument that is a number of bytes.
    pub fn size_arg(&self) -> Option<usize> {
        self.position(|kind| kind.is_format(|f| matches!(f, Format::Size)))
    }

    /// Which way the call moves data, where that is what it is for.
    pub fn moves_data(&self) -> Option<Moved> {
        self.moved
    }

    /// Whether it returns a new descriptor.
    pub fn returns_fd(&self) -> bool {
        self.ret.is_format(|f| matches!(f, Format::Fd))
    }

    /// The index of the argument that points to the data which the call moves.
    pub fn data_arg(&self) -> Option<usize> {
        self.moved?;
        self.position(|kind| match kind {
            Kind::Ptr(_, to) => matches!(
                **to,
                Kind::Bytes(_)
                    | Kind::Text(_)
                    | Kind::Iovec(..)
                    | Kind::Message(_)
                    | Kind::Messages(..)
                    | Kind::Dirents(..)
            ),
            _ => false,
        })
    }

    fn position(&self, wanted: impl Fn(&Kind) -> bool) -> Option<usize> {
        self.args.iter().position(|a| wanted(&a.kind))
    }

    /// Where the moved data lies, up to `len` bytes of it, in order; `mem` is memory as at entry.
    pub fn data_regions(&self, args: &[u64; 6], len: u64, mem: &dyn Memory) -> Vec<Region> {
        let mut regions = Vec::new();
        let Some(arg) = self.data_arg() else {
            return regions;
        };
        let Some(Kind::Ptr(_, to)) = self.args.get(arg).map(|a| &a.kind) else {
            return regions;
        };
        let addr = args.get(arg).copied().unwrap_or(0);
        let frame = Frame::new(&self.args, args, 0, mem, mem);
        match frame.size(to, Side::Entry) {
            Some(room) => {
                let len = (room as u64).min(len).min(MOST_BYTES) as usize;
                if addr != 0 && len > 0 {
                    regions.push(Region { arg, addr, len });
                }
            }
            None => super::message::spread(to, arg, addr, len, &frame, &mut regions),
        }
        regions
    }
}
