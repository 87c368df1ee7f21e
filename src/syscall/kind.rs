//! Kinds of arguments, members and elements, and the small language in which the tables describe them.
//!
//! A kind is a word with parameters in brackets: `fd`, `flags[open]`, `in[path]`,
//! `out[bytes[count:ret]]`. See the head of `x86_64.tbl` for all of them.

use super::layout::Layout;
use super::notation::Notation;
use super::{Abi, Moved};
use crate::constants::Set;

mod parse;
pub(crate) use parse::Known;

/// The form in which a number is written and compared.
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
    /// A request of ioctl on an ABI that has names of its own.
    RequestIn(Abi),
    /// The signals of a mask that is an argument itself, not behind a pointer (sigsuspend on i386).
    SignalMask,
    /// A clock: a name, or a descriptor's or process's clock as a number.
    Clock,
    /// swapon's flags, with the priority in the lower half: `SWAP_FLAG_PREFER|5`.
    SwapFlags,
    /// quotactl's command and the kind of quota: `QCMD(Q_GETQUOTA, USRQUOTA)`.
    Qcmd,
    /// Hexadecimal with leading zeros, two characters wide for each byte (with the `0x`): `0x000001`.
    Padded,
    /// This many bits of the number (the second number), from this bit on (the first).
    Bits(u32, u32),
    /// A number with its name in a comment: `10 /* SYSLOG_ACTION_SIZE_BUFFER */`.
    Named(&'static Set),
    /// A number of bytes, with a comment that gives it in structures of this name and size:
    /// `80 /* 2 * sizeof(struct ifreq) */`.
    Structures(&'static str, usize),
    /// A descriptor, or a name for a number that is no descriptor.
    FdOr(&'static Set),
    /// A name in network byte order: `htons(ETH_P_ALL)`.
    NetName(&'static Set),
    /// A name in Bluetooth's byte order: `htobs(L2CAP_PSM_SDP)`.
    BluetoothName(&'static Set),
    /// Names or-ed.
    Flags(&'static Set),
    /// One name.
    Enum(&'static Set),
    /// One name, or else a decimal number: a key's serial number.
    Known(&'static Set),
    /// Names or-ed, then permissions in octal: `IPC_CREAT|0600`.
    ModeFlags(&'static Set),
    /// An errno by name.
    Errno,
    /// A number that is a negated errno where it is negative: `-ENOENT`.
    Status,
    /// The number of a call: `__NR_read`.
    SyscallNumber,
    /// An I/O priority: `IOPRIO_PRIO_VALUE(IOPRIO_CLASS_BE, 4)`.
    IoPriority,
    /// The operation of FUTEX_WAKE_OP: `FUTEX_OP_ADD<<28|0x1<<12|FUTEX_OP_CMP_NE<<24|0x5`.
    WakeOp,
    /// An instruction of a packet or a seccomp filter: `BPF_STMT(BPF_RET|BPF_K, 0x1)`.
    Filter {
        /// True for an instruction of a seccomp filter, which returns actions.
        seccomp: bool,
    },
}

/// A number of `size` bytes.
#[derive(Clone, Copy, Debug)]
pub struct Num {
    /// The size in bytes: 1, 2, 4 or 8.
    pub size: usize,
    /// True for a signed number.
    pub signed: bool,
    /// The form in which the number is written.
    pub format: Format,
}

/// The direction in which data moves behind a pointer.
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
    /// The kernel may write it however the call ends; shown when it succeeds (name_to_handle_at's mount_id).
    OutAlways,
    /// The kernel reads it and may write it however the call ends, and it is shown so (a size that was too small).
    InOutAlways,
}

/// A length or count, in terms of the other arguments (or members).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Len {
    /// This number.
    Fixed(u64),
    /// The value of the argument with this index.
    Of(usize),
    /// The 32-bit number to which the argument with this index points.
    At(usize),
    /// The 32-bit number to which the argument with this index points, divided by this number.
    Each(usize, u64),
    /// The value of the argument with this index, divided by this number.
    Part(usize, u64),
    /// The number of pages in as many bytes as the argument with this index says.
    Pages(usize),
    /// The number of longs that hold one bit less than the argument with this index says: sets of memory nodes.
    NodeWords(usize),
    /// The return value of the call.
    Ret,
    /// A number of bytes: `each` times the 32-bit count at `offset` in the data to which the argument with index `of`
    /// points, and `more`.
    Counted {
        /// The argument.
        of: usize,
        /// The offset of the count, in bytes.
        offset: u64,
        /// The number of bytes for each.
        each: u64,
        /// The number of additional bytes.
        more: u64,
    },
}

/// The size of a buffer, and of the part of it that the kernel fills.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// The size of the buffer, in bytes or elements.
    pub room: Len,
    /// The size of the filled part; never more than the buffer.
    pub filled: Len,
}

/// The kind of an argument, a member or an element.
#[derive(Debug)]
pub enum Kind {
    /// A number.
    Num(Num),
    /// A pointer to something.
    Ptr(Dir, Box<Kind>),
    /// A structure.
    Struct(&'static Layout),
    /// The part of a structure that a length gives, and the bytes behind the structure in that length; invalid if the
    /// length is less than the last number of bytes.
    Sized(&'static Layout, Extent, usize),
    /// A member with the offset of a text, counted from this byte of its structure.
    TextAt(usize),
    /// A member with the offset of this many texts in a row.
    TextsAt(usize, Len),
    /// name_to_handle_at's `struct file_handle`: the kernel reads its size and fills the rest.
    FileHandle(Len),
    /// `struct lsm_ctx`s in a row.
    LsmContexts(Extent),
    /// Elements of one kind.
    Array(Box<Kind>, Extent),
    /// Bytes.
    Bytes(Extent),
    /// Bytes that are shown without a zero byte at the end (an extended attribute's value).
    Blob(Extent),
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
    /// `struct iovec`s and the buffers to which they point.
    Iovec(Moved, Extent),
    /// A `struct msghdr` and its parts.
    Message(Moved),
    /// `struct mmsghdr`s and their parts.
    Messages(Moved, Extent),
    /// A `struct sockaddr` of any family.
    Sockaddr(Extent),
    /// A socket option: of its kind if it is long enough, an int if it has an int's size, bytes otherwise.
    Option(Extent, Option<Box<Kind>>),
    /// Bytes in a special notation.
    Written(Notation, Extent),
    /// Bytes, written with the names of a set as indexes: `[[VINTR]=0x3, …]`.
    Indexed(&'static Set, usize),
    /// A set of signals in the kernel's form.
    Sigset(Extent),
    /// An `fd_set` of this many bits.
    FdSet(Len),
    /// A set of CPUs, of this many bytes.
    CpuSet(Extent),
    /// Directory entries: `struct linux_dirent64`, or the old one.
    Dirents(Extent, bool),
    /// A process's status as wait4 has it.
    WaitStatus,
    /// A System V message: its type, and this many bytes of text.
    Msgbuf(Extent),
    /// Sets of capabilities: one or two structures, depending on the header to which this argument points.
    Capabilities(usize),
}

/// The condition under which an argument or member exists: `if flags&0x40`, `unless st_mode&0170000=020000`,
/// `if si_signo=17 and not si_code=1`.
#[derive(Debug)]
pub(crate) struct Condition {
    pub(crate) on: usize,
    mask: u64,
    values: Vec<u64>,
    negated: bool,
    also: Option<Box<Condition>>,
}

impl Condition {
    /// Returns whether the condition holds; `number` gives the value of an argument or member by its index.
    pub(crate) fn holds(&self, number: &impl Fn(usize) -> u64) -> bool {
        let masked = number(self.on) & self.mask;
        let met = if self.values.is_empty() {
            masked != 0
        } else {
            self.values.contains(&masked)
        };
        met != self.negated && self.also.as_ref().is_none_or(|also| also.holds(number))
    }
}

impl Kind {
    /// The size in bytes on x86-64, if it is always the same.
    pub fn fixed_size(&self) -> Option<usize> {
        self.size_in(Abi::X86_64)
    }

    /// The size in bytes, if it is always the same. The kind must have been made for the ABI, which gives the size of
    /// pointers.
    pub(crate) fn size_in(&self, abi: Abi) -> Option<usize> {
        match self {
            Kind::Num(num) => Some(num.size),
            Kind::Ptr(..) => Some(abi.word()),
            Kind::Struct(layout) => Some(layout.size),
            Kind::Chars(n) | Kind::Indexed(_, n) => Some(*n),
            Kind::WaitStatus | Kind::TextAt(_) | Kind::TextsAt(..) => Some(4),
            Kind::Array(of, extent) => match extent.room {
                Len::Fixed(n) => of.size_in(abi)?.checked_mul(usize::try_from(n).ok()?),
                _ => None,
            },
            Kind::Bytes(e) | Kind::Sigset(e) | Kind::Sockaddr(e) | Kind::Written(_, e) => {
                match e.room {
                    Len::Fixed(n) => usize::try_from(n).ok(),
                    _ => None,
                }
            }
            _ => None,
        }
    }

    /// The lengths in the kind that other arguments or members give.
    pub(crate) fn lengths(&self) -> impl Iterator<Item = Len> {
        let extent = match self {
            Kind::Sized(_, e, _)
            | Kind::LsmContexts(e)
            | Kind::Array(_, e)
            | Kind::Bytes(e)
            | Kind::Blob(e)
            | Kind::Text(e)
            | Kind::Iovec(_, e)
            | Kind::Messages(_, e)
            | Kind::Sockaddr(e)
            | Kind::Option(e, _)
            | Kind::Written(_, e)
            | Kind::Sigset(e)
            | Kind::CpuSet(e)
            | Kind::Dirents(e, _)
            | Kind::Msgbuf(e) => Some(*e),
            _ => None,
        };
        let lens = extent.map(|extent| [extent.room, extent.filled]);
        lens.into_iter().flatten()
    }

    /// The structure that the kind is or begins with.
    pub(crate) fn layout(&self) -> Option<&'static Layout> {
        match self {
            Kind::Struct(layout) | Kind::Sized(layout, ..) => Some(layout),
            _ => None,
        }
    }

    /// Natural alignment, for members without an explicit offset.
    pub(crate) fn align(&self, abi: Abi) -> usize {
        match self {
            Kind::Num(num) => num.size.min(abi.most_align()),
            Kind::Ptr(..) | Kind::Sigset(_) => abi.word(),
            Kind::TextAt(_) | Kind::TextsAt(..) => 4,
            Kind::Struct(layout) | Kind::Sized(layout, ..) => layout.align.min(abi.most_align()),
            Kind::Array(of, _) => of.align(abi),
            _ => 1,
        }
    }

    /// Returns whether the kind is a number with such a format.
    pub(crate) fn is_format(&self, wanted: fn(&Format) -> bool) -> bool {
        matches!(self, Kind::Num(num) if wanted(&num.format))
    }
}
