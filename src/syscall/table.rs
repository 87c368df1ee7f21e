//! The tables of calls (`x86_64.tbl`, `i386.tbl`), read once; what can be told from a description alone.

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
    /// Its name as in the man page.
    pub name: &'static str,
    /// What it is.
    pub kind: Kind,
    /// When it is used at all; always where `None`.
    pub(crate) condition: Option<Condition>,
    /// Whether strace leaves it out.
    pub(crate) hidden: bool,
}

/// A variant of a multiplexer: the commands that select it, and what it is then.
#[derive(Debug)]
struct Variant {
    choices: Vec<Choice>,
    call: Syscall,
}

/// A command: the bits under the mask are this; where there is no value, any of them is set.
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

/// The index of the argument that each observed one is.
pub(crate) type Order = Vec<Option<usize>>;

/// A system call, or one variant of a multiplexer such as ioctl.
#[derive(Debug)]
pub struct Syscall {
    /// Whose call it is.
    pub abi: Abi,
    /// Its number there; that of the multiplexer where it is reached through one only.
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
    /// Whether programs ask for it at their start, to see whether there is such a call.
    pub asked_early: bool,
    moved: Option<Moved>,
    /// Whether it tells something and changes nothing, where the table says so.
    asks: Option<bool>,
    infallible: bool,
    pub(crate) passing: Passing,
    variants: Option<Variants>,
}

struct Table {
    by_nr: Vec<Option<Syscall>>,
    by_name: HashMap<&'static str, u32>,
    /// Calls that are reached through another only (i386's accept), by its number.
    inside: HashMap<&'static str, u32>,
    layouts: Vec<OldLayout>,
    errors: Vec<String>,
}

/// An older form of a call, told by its number of arguments: which of its arguments is which.
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

/// The call with this number.
pub fn by_nr_in(abi: Abi, nr: u64) -> Option<&'static Syscall> {
    table(abi).by_nr.get(usize::try_from(nr).ok()?)?.as_ref()
}

/// The call of x86-64 with this name, or with this old or 32-bit name (`send`, `stat64`, `_llseek`).
pub fn by_name(name: &str) -> Option<&'static Syscall> {
    by_name_in(Abi::X86_64, name)
}

/// The call with this name, or with this older name. On i386 that may be a call without a number of its own, such as
/// `accept`, which is the variant of `socketcall` then.
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

/// Calls whose names are close to this one, best first, at most three.
pub fn suggest(name: &str) -> Vec<&'static str> {
    constants::nearest(name, X86_64.by_name.keys().copied())
}

/// What is wrong with the tables: nothing, as a test makes sure.
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

    /// Reads the calls that are described in `lines`; what they say to be the same is in `base`.
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

impl Syscall {
    /// The variant of a multiplexer (ioctl, fcntl, prctl, futex, …) that these arguments select; the call itself
    /// where there are none. Where the command is unknown, the result's `described` is false. Where a command lies in
    /// memory, [`Syscall::resolve_in`] goes further.
    pub fn resolve(&'static self, args: &[u64; 6]) -> &'static Syscall {
        self.select(&|call| (call.passing == Passing::Registers).then_some(*args))
    }

    /// The same, also where the arguments lie in memory (setsockopt through i386's socketcall). `mem` is memory as
    /// at entry.
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

    /// The variants of a multiplexer, each with commands that select it; none where it is a plain call.
    pub fn variants(&self) -> impl Iterator<Item = (Vec<u64>, &Syscall)> {
        let list = self.variants.iter().flat_map(|v| &v.list);
        list.map(|variant| {
            let commands = variant.choices.iter();
            let commands = commands.map(|c| c.value.unwrap_or(c.mask));
            (commands.collect(), &variant.call)
        })
    }

    /// Which argument each of `len` observed ones is: an older form of the call may have had another order, and
    /// one that is not used is not shown. `None` where each is at its own place.
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

    /// The order of arguments where an older form of this call with `len` arguments has another.
    fn old_layout(&self, len: usize) -> Option<&'static [Option<usize>]> {
        let mut layouts = table(self.abi).layouts.iter();
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

    /// Whether it has left something changed once it has succeeded: it was not a question alone.
    pub fn has_effects(&self) -> bool {
        !self.asks.unwrap_or_else(|| self.only_fetches())
    }

    /// Whether it is an ioctl that does nothing but store what it tells.
    fn only_fetches(&self) -> bool {
        let mut stored = self.args.iter().skip(2);
        self.name == "ioctl"
            && self.args.len() > 2
            && !self.returns_fd()
            && stored.all(|arg| matches!(arg.kind, Kind::Ptr(Dir::Out, _)))
    }

    /// Whether it can fail: what only tells a process of itself, or ends it, cannot.
    pub fn can_fail(&self) -> bool {
        !self.infallible
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

    /// Where the data lies that a call which returned this has received: [`Syscall::data_regions`], but for several
    /// messages as long as each says that it is.
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

    /// Whether what it moves is one buffer of bytes.
    pub fn moves_bytes(&self) -> bool {
        let kind = self.data_arg().and_then(|arg| self.args.get(arg));
        matches!(kind.map(|arg| &arg.kind), Some(Kind::Ptr(_, to)) if matches!(**to, Kind::Bytes(_) | Kind::Text(_)))
    }

    /// Whether it moves several messages at once, and returns how many.
    pub fn moves_messages(&self) -> bool {
        let kind = self.data_arg().and_then(|arg| self.args.get(arg));
        matches!(kind.map(|arg| &arg.kind), Some(Kind::Ptr(_, to)) if matches!(**to, Kind::Messages(..)))
    }

    /// The argument that says how long the buffer is which the call moves, where that is one buffer.
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

    /// The messages that it has room for, or passes; `mem` is memory as at entry.
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

    /// What to write where to have a message hold no more than `len` bytes.
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

    /// What to write where to have the vectors that the call moves hold no more than `len` bytes.
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
