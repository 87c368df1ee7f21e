//! The tables of calls (`x86_64.tbl`, `i386.tbl`), read once, and the facts that follow from a description alone.

use std::collections::HashMap;
use std::sync::LazyLock;

use super::Abi;
use super::abi::Passing;
use super::frame::{Frame, MOST_BYTES, MOST_VECTORS, Side};
use super::ioctl;
use super::kind::{Condition, Dir, Format, Kind};
use super::lines::{self, Lines};
use super::message::MessageSlot;
use super::{Memory, Moved, Region, Replay};
use crate::constants;

mod describe;

/// A formal argument.
#[derive(Debug)]
pub struct Arg {
    /// The name in the man page.
    pub name: &'static str,
    /// The kind of the argument.
    pub kind: Kind,
    /// The condition under which the argument is used; `None` if it always is.
    pub(crate) condition: Option<Condition>,
    /// True if strace leaves the argument out.
    pub(crate) hidden: bool,
}

/// A variant of a multiplexer: the commands that select it, and its description.
#[derive(Debug)]
struct Variant {
    choices: Vec<Choice>,
    call: Syscall,
}

/// A command: the value of the bits under the mask; without a value, any of the bits is set.
#[derive(Debug)]
struct Choice {
    mask: u64,
    value: Option<u64>,
}

impl Choice {
    fn is(&self, selector: u64) -> bool {
        let bits = selector & self.mask;
        self.value.map_or(bits != 0, |value| bits == value)
    }
}

/// The variants of a multiplexer, and the argument that selects one.
#[derive(Debug)]
struct Variants {
    by: usize,
    mask: u64,
    list: Vec<Variant>,
}

/// For each observed argument, the index of the formal argument.
pub(crate) type Order = Vec<Option<usize>>;

/// A system call, or one variant of a multiplexer such as ioctl.
#[derive(Debug)]
pub struct Syscall {
    /// The ABI of the call.
    pub abi: Abi,
    /// The number on that ABI; the multiplexer's number if the call is reached through one only.
    pub nr: u32,
    /// The name.
    pub name: &'static str,
    /// The formal arguments.
    pub args: Vec<Arg>,
    /// True if the arguments are described in full. Other calls cannot be recorded.
    pub described: bool,
    /// The treatment of the call in replay.
    pub replay: Replay,
    /// The kind of the return value.
    pub ret: Kind,
    /// The classes of the call, without the percent sign: `file`, `desc`, `%stat`.
    pub classes: Vec<&'static str>,
    /// True if programs make the call at their start to find out whether it exists.
    pub asked_early: bool,
    moved: Option<Moved>,
    /// True if the call only returns information and changes nothing; `None` if the table does not say.
    asks: Option<bool>,
    infallible: bool,
    pub(crate) passing: Passing,
    variants: Option<Variants>,
}

struct Table {
    by_nr: Vec<Option<Syscall>>,
    by_name: HashMap<&'static str, u32>,
    /// Calls that are reached only through a multiplexer (i386's accept), with the multiplexer's number.
    inside: HashMap<&'static str, u32>,
    layouts: Vec<OldLayout>,
    errors: Vec<String>,
}

/// An older form of a call, identified by its number of arguments: the present index of each of its arguments.
struct OldLayout {
    name: &'static str,
    len: usize,
    order: Vec<Option<usize>>,
}

static X86_64: LazyLock<Table> = LazyLock::new(|| {
    let mut table = Table::new();
    let lines = lines::read(include_str!("x86_64.tbl"));
    table.add(Abi::X86_64, &lines, &lines);
    table.read_aliases(include_str!("aliases.tbl"));
    table
});

static I386: LazyLock<Table> = LazyLock::new(|| {
    let mut table = Table::new();
    let base = lines::read(include_str!("x86_64.tbl"));
    table.add(Abi::I386, &lines::read(include_str!("i386.tbl")), &base);
    table.read_aliases(include_str!("aliases_i386.tbl"));
    table
});

fn table(abi: Abi) -> &'static Table {
    match abi {
        Abi::X86_64 => &X86_64,
        Abi::I386 => &I386,
    }
}

/// The call with this number on x86-64.
pub fn by_nr(nr: u64) -> Option<&'static Syscall> {
    by_nr_in(Abi::X86_64, nr)
}

/// The call with this number on an ABI.
pub fn by_nr_in(abi: Abi, nr: u64) -> Option<&'static Syscall> {
    table(abi).by_nr.get(usize::try_from(nr).ok()?)?.as_ref()
}

/// The call of x86-64 with this name or alias: an old or 32-bit name (`send`, `stat64`, `_llseek`).
pub fn by_name(name: &str) -> Option<&'static Syscall> {
    by_name_in(Abi::X86_64, name)
}

/// The call with this name or older name on an ABI. On i386, a call without a number of its own, such as `accept`, is
/// the variant of `socketcall`.
pub fn by_name_in(abi: Abi, name: &str) -> Option<&'static Syscall> {
    let table = table(abi);
    if let Some(&nr) = table.by_name.get(name) {
        return by_nr_in(abi, nr.into());
    }
    let outer = by_nr_in(abi, (*table.inside.get(name)?).into())?;
    let mut inner = outer.variants.iter().flat_map(|v| &v.list);
    inner.find(|v| v.call.name == name).map(|v| &v.call)
}

/// The names of all calls of x86-64, by number, without aliases.
pub fn names() -> impl Iterator<Item = &'static str> {
    names_in(Abi::X86_64)
}

/// The names of all calls that have a number, by number, without aliases.
pub fn names_in(abi: Abi) -> impl Iterator<Item = &'static str> {
    table(abi).by_nr.iter().flatten().map(|call| call.name)
}

/// The calls whose names are close to this one, best first, at most three.
pub fn suggest(name: &str) -> Vec<&'static str> {
    constants::nearest(name, X86_64.by_name.keys().copied())
}

/// The errors in the tables. A test makes sure that there are none.
#[cfg(test)]
pub(crate) fn errors() -> impl Iterator<Item = &'static String> {
    Abi::ALL.iter().flat_map(|&abi| &table(abi).errors)
}

impl Table {
    fn new() -> Table {
        Table {
            by_nr: Vec::new(),
            by_name: HashMap::new(),
            inside: HashMap::new(),
            layouts: Vec::new(),
            errors: Vec::new(),
        }
    }

    /// Reads the calls that are described in `lines`; a description may refer to a call in `base`.
    fn add(&mut self, abi: Abi, lines: &Lines, base: &Lines) {
        for entry in lines.all() {
            match Syscall::read(entry, abi, base) {
                Ok((call, errors)) => {
                    self.errors.extend(errors);
                    self.insert(call);
                }
                Err(error) => self.errors.push(format!("{}: {error}", entry.name)),
            }
        }
        self.errors.extend(lines.errors().iter().cloned());
        for call in self.by_nr.iter().flatten() {
            let inner = call.variants.iter().flat_map(|v| &v.list);
            for variant in inner.filter(|v| v.call.name != call.name) {
                self.inside.insert(variant.call.name, call.nr);
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

    /// Reads lines `ALIAS NAME` and `= NAME COUNT INDEX…`; in the latter, `-` is an argument that the old form does not
    /// have.
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

impl Syscall {
    /// The variant of a multiplexer (ioctl, fcntl, prctl, futex, …) that these arguments select; the call itself if it
    /// has no variants. If the command is unknown, the result's `described` is false. If a command is in memory,
    /// [`Syscall::resolve_in`] reads it.
    pub fn resolve(&'static self, args: &[u64; 6]) -> &'static Syscall {
        self.select(&|call| (call.passing == Passing::Registers).then_some(*args))
    }

    /// Like [`Syscall::resolve`], also if the arguments are in memory (setsockopt through i386's socketcall). `mem` is
    /// memory as at entry.
    pub fn resolve_in(&'static self, args: &[u64; 6], mem: &dyn Memory) -> &'static Syscall {
        self.select(&|call| Some(call.values(args, mem)))
    }

    fn select(&'static self, values: &dyn Fn(&Syscall) -> Option<[u64; 6]>) -> &'static Syscall {
        let (Some(variants), Some(args)) = (&self.variants, values(self)) else {
            return self;
        };
        let selector = args.get(variants.by).copied().unwrap_or(0) & variants.mask;
        let mut list = variants.list.iter();
        let chosen = list.find(|v| v.choices.iter().any(|c| c.is(selector)));
        match chosen {
            Some(variant) => variant.call.select(values),
            None if self.name == "ioctl" => {
                ioctl::encoded(self.abi, selector as u32).unwrap_or(self)
            }
            None => self,
        }
    }

    /// The variants of a multiplexer, each with the commands that select it; none for a plain call.
    pub fn variants(&self) -> impl Iterator<Item = (Vec<u64>, &Syscall)> {
        let list = self.variants.iter().flat_map(|v| &v.list);
        list.map(|variant| {
            let commands = variant.choices.iter();
            let commands = commands.map(|c| c.value.unwrap_or(c.mask));
            (commands.collect(), &variant.call)
        })
    }

    /// The calls that it is with some commands, as [`Syscall::variants`] has them with those.
    pub fn variant_calls(&self) -> impl Iterator<Item = &Syscall> {
        let list = self.variants.iter().flat_map(|v| &v.list);
        list.map(|variant| &variant.call)
    }

    /// The formal argument of each of `len` observed ones: an older form of the call may have another order, and unused
    /// arguments are not shown. `None` if each has its own index.
    pub(crate) fn order(&self, args: &[u64; 6], len: usize, mem: &dyn Memory) -> Option<Order> {
        if let Some(old) = self.old_layout(len) {
            return Some(old.to_vec());
        }
        let args = &self.values(args, mem);
        let frame = Frame::new(self, args, 0, mem, mem);
        let formal = self.args.iter().enumerate();
        let shown = formal.filter(|(_, arg)| !arg.hidden && frame.holds(&arg.condition));
        let shown: Vec<_> = shown.map(|(index, _)| Some(index)).collect();
        (shown.len() == len && len < self.args.len()).then_some(shown)
    }

    /// The order of the arguments in an older form of this call with `len` arguments, if there is one.
    fn old_layout(&self, len: usize) -> Option<&'static [Option<usize>]> {
        let mut layouts = table(self.abi).layouts.iter();
        let found = layouts.find(|old| old.name == self.name && old.len == len);
        found.map(|old| old.order.as_slice())
    }

    /// Returns whether this call is in a class of strace's `-e trace=`: `%file`, `%desc`, `%network`, `%%stat`, ….
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

    /// The argument in which the call stores a file's status, and whether that is a `struct statx`.
    pub fn status_arg(&self) -> Option<(usize, bool)> {
        self.args.iter().enumerate().find_map(|(index, arg)| {
            let Kind::Ptr(Dir::Out, to) = &arg.kind else {
                return None;
            };
            match to.layout()?.name {
                "stat" => Some((index, false)),
                "statx" => Some((index, true)),
                _ => None,
            }
        })
    }

    /// Whether an argument is the descriptor of the directory in which a path begins.
    pub fn is_dir_fd(&self, arg: usize) -> bool {
        let kind = self.args.get(arg).map(|arg| &arg.kind);
        kind.is_some_and(|kind| kind.is_format(|f| matches!(f, Format::DirFd)))
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

    /// The direction in which the call moves data, if that is its purpose.
    pub fn moves_data(&self) -> Option<Moved> {
        self.moved
    }

    /// Returns whether a successful call has changed anything, and not only returned information.
    pub fn has_effects(&self) -> bool {
        !self.asks.unwrap_or_else(|| self.only_fetches())
    }

    /// Returns whether the call is an ioctl that only stores information.
    fn only_fetches(&self) -> bool {
        let mut stored = self.args.iter().skip(2);
        self.name == "ioctl"
            && self.args.len() > 2
            && !self.returns_fd()
            && stored.all(|arg| matches!(arg.kind, Kind::Ptr(Dir::Out, _)))
    }

    /// Returns whether the call can fail. Calls that only tell a process about itself, or end it, cannot.
    pub fn can_fail(&self) -> bool {
        !self.infallible
    }

    /// Returns whether the call returns a new descriptor.
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

    /// The regions of the moved data, up to `len` bytes, in order; `mem` is memory as at entry.
    pub fn data_regions(&self, args: &[u64; 6], len: u64, mem: &dyn Memory) -> Vec<Region> {
        let mut regions = Vec::new();
        let Some(arg) = self.data_arg() else {
            return regions;
        };
        let Some(Kind::Ptr(_, to)) = self.args.get(arg).map(|a| &a.kind) else {
            return regions;
        };
        let args = &self.values(args, mem);
        let addr = args.get(arg).copied().unwrap_or(0);
        let frame = Frame::new(self, args, 0, mem, mem);
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

    /// The regions of the data that a call which returned this has received: [`Syscall::data_regions`], but several
    /// messages have the lengths that are stored in them.
    pub fn received_regions(&self, args: &[u64; 6], ret: i64, mem: &dyn Memory) -> Vec<Region> {
        let len = u64::try_from(ret).unwrap_or(0);
        let arg = self.data_arg().filter(|_| self.moves_messages());
        let Some(arg) = arg else {
            return self.data_regions(args, len, mem);
        };
        let mut regions = Vec::new();
        let addr = args.get(arg).copied().unwrap_or(0);
        let frame = Frame::new(self, args, ret, mem, mem);
        super::message::received(arg, addr, len, &frame, &mut regions);
        regions
    }

    /// Returns whether the call moves one buffer of bytes.
    pub fn moves_bytes(&self) -> bool {
        let kind = self.data_arg().and_then(|arg| self.args.get(arg));
        matches!(kind.map(|arg| &arg.kind), Some(Kind::Ptr(_, to)) if matches!(**to, Kind::Bytes(_) | Kind::Text(_)))
    }

    /// Returns whether the call moves several messages at once, and returns their number.
    pub fn moves_messages(&self) -> bool {
        let kind = self.data_arg().and_then(|arg| self.args.get(arg));
        matches!(kind.map(|arg| &arg.kind), Some(Kind::Ptr(_, to)) if matches!(**to, Kind::Messages(..)))
    }

    /// The index of the argument with the length of the buffer that the call moves, if that is one buffer.
    pub fn data_len_arg(&self) -> Option<usize> {
        let Kind::Ptr(_, to) = &self.args.get(self.data_arg()?)?.kind else {
            return None;
        };
        match &**to {
            Kind::Bytes(extent) | Kind::Text(extent) | Kind::Dirents(extent, _) => {
                match extent.room {
                    super::Len::Of(arg) => Some(arg),
                    _ => None,
                }
            }
            _ => None,
        }
    }

    /// The messages that the call has room for, or passes; `mem` is memory as at entry.
    pub fn message_slots(&self, args: &[u64; 6], mem: &dyn Memory) -> Vec<MessageSlot> {
        let Some(arg) = self.data_arg().filter(|_| self.moves_messages()) else {
            return Vec::new();
        };
        let Some(Kind::Ptr(_, to)) = self.args.get(arg).map(|a| &a.kind) else {
            return Vec::new();
        };
        let Kind::Messages(_, extent) = &**to else {
            return Vec::new();
        };
        let frame = Frame::new(self, args, 0, mem, mem);
        let addr = args.get(arg).copied().unwrap_or(0);
        let count = frame.count(*extent, Side::Entry, MOST_VECTORS) as u64;
        super::message::slots(arg, addr, count, &frame)
    }

    /// The writes that limit a message to `len` bytes.
    pub(crate) fn cut_message(
        &self,
        slot: &MessageSlot,
        len: usize,
        mem: &dyn Memory,
    ) -> Vec<(u64, Vec<u8>)> {
        let frame = Frame::new(self, &[0; 6], 0, mem, mem);
        let kind = Kind::Message(Moved::In);
        super::message::cut(&kind, slot.addr, len as u64, &frame)
    }

    /// The writes that limit the vectors which the call moves to `len` bytes.
    pub(crate) fn cut_vectors(
        &self,
        args: &[u64; 6],
        len: u64,
        mem: &dyn Memory,
    ) -> Vec<(u64, Vec<u8>)> {
        let Some(arg) = self.data_arg() else {
            return Vec::new();
        };
        let Some(Kind::Ptr(_, to)) = self.args.get(arg).map(|a| &a.kind) else {
            return Vec::new();
        };
        let frame = Frame::new(self, args, 0, mem, mem);
        super::message::cut(to, args.get(arg).copied().unwrap_or(0), len, &frame)
    }
}
