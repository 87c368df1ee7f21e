//! Macros of C headers that strace writes with their arguments: `makedev(0x8, 0x1)`, `EVIOCGBIT(EV_KEY, 96)`.

use std::net::Ipv4Addr;

use super::sets;
use super::{eval, makedev};

/// Macros for requests of ioctl: name, direction (`_IOC_READ` is 2), type, number, and the meaning of the arguments.
const REQUESTS: &[(&str, i64, u8, i64, Takes)] = &[
    ("EVIOCGNAME", 2, b'E', 0x06, Takes::Size),
    ("EVIOCGPHYS", 2, b'E', 0x07, Takes::Size),
    ("EVIOCGUNIQ", 2, b'E', 0x08, Takes::Size),
    ("EVIOCGPROP", 2, b'E', 0x09, Takes::Size),
    ("EVIOCGMTSLOTS", 2, b'E', 0x0a, Takes::Size),
    ("EVIOCGKEY", 2, b'E', 0x18, Takes::Size),
    ("EVIOCGLED", 2, b'E', 0x19, Takes::Size),
    ("EVIOCGSND", 2, b'E', 0x1a, Takes::Size),
    ("EVIOCGSW", 2, b'E', 0x1b, Takes::Size),
    ("EVIOCGBIT", 2, b'E', 0x20, Takes::NumberAndSize),
    ("EVIOCGABS", 2, b'E', 0x40, Takes::Number(24)),
    ("EVIOCSABS", 1, b'E', 0xc0, Takes::Number(24)),
    ("HIDIOCGRAWNAME", 2, b'H', 0x04, Takes::Size),
    ("HIDIOCGRAWPHYS", 2, b'H', 0x05, Takes::Size),
    ("HIDIOCGRAWUNIQ", 2, b'H', 0x08, Takes::Size),
    ("HIDIOCGPHYS", 2, b'H', 0x12, Takes::Size),
    ("HIDIOCSFEATURE", 3, b'H', 0x06, Takes::Size),
    ("HIDIOCGFEATURE", 3, b'H', 0x07, Takes::Size),
    ("JSIOCGNAME", 2, b'j', 0x13, Takes::Size),
    ("UI_GET_SYSNAME", 2, b'U', 0x2c, Takes::Size),
    ("SPI_IOC_MESSAGE", 1, b'k', 0, Takes::Size),
    ("MIXER_READ", 2, b'M', 0, Takes::Number(4)),
    ("MIXER_WRITE", 1, b'M', 0, Takes::Number(4)),
];

/// The meaning of the arguments of a macro for a request.
#[derive(Clone, Copy)]
enum Takes {
    /// The argument is the size.
    Size,
    /// The argument is added to the number; the size is always this.
    Number(i64),
    /// The arguments are an addend to the number, and the size.
    NumberAndSize,
}

/// The number of a request with these parts (`asm-generic/ioctl.h`).
fn ioc(direction: i64, kind: i64, nr: i64, size: i64) -> i64 {
    (direction & 3) << 30 | (size & 0x3fff) << 16 | (kind & 0xff) << 8 | (nr & 0xff)
}

/// The macro with its arguments that makes this request, if strace knows one.
pub(crate) fn request(request: u32) -> Option<String> {
    let request = i64::from(request);
    let (direction, size) = (request >> 30, request >> 16 & 0x3fff);
    let (kind, nr) = (request >> 8 & 0xff, request & 0xff);
    let of_kind = |r: &&(&str, i64, u8, i64, Takes)| r.1 == direction && i64::from(r.2) == kind;
    REQUESTS
        .iter()
        .filter(of_kind)
        .find_map(|&(name, _, _, first, takes)| {
            let index = (nr - first) as u64;
            let axis = |index| sets::set("evdev_abs").and_then(|set| set.exact(index, u64::MAX));
            Some(match takes {
                Takes::Size if nr == first => format!("{name}({size})"),
                Takes::NumberAndSize if (0..0x20).contains(&(nr - first)) => {
                    let event = sets::set("evdev_ev").and_then(|set| set.exact(index, u64::MAX));
                    match event.filter(|_| index != 0) {
                        Some(event) => format!("{name}({event}, {size})"),
                        None if index == 0 => format!("{name}(0, {size})"),
                        None => format!("{name}({index:#x} /* EV_??? */, {size})"),
                    }
                }
                Takes::Number(_) if kind != i64::from(b'E') => format!("{name}({nr})"),
                Takes::Number(_) if (0..0x40).contains(&(nr - first)) => match axis(index) {
                    Some(axis) => format!("{name}({axis})"),
                    None => format!("{name}({index:#x} /* ABS_??? */)"),
                },
                _ => return None,
            })
        })
}

/// Returns whether the kernel returns the number of bytes that it wrote, as requests for names and sets of bits do
/// (drivers/input/evdev.c, joydev.c, misc/uinput.c, drivers/hid/hidraw.c).
pub(crate) fn returns_length(request: u32) -> bool {
    let name = self::request(request);
    name.is_some_and(|name| {
        let reads = ["EVIOCG", "HIDIOCGRAW", "JSIOCGNAME", "UI_GET_SYSNAME"];
        let fixed = ["EVIOCGABS", "EVIOCGMTSLOTS"];
        let begins = |prefix: &&str| name.starts_with(*prefix);
        reads.iter().any(begins) && !fixed.iter().any(begins)
    })
}

/// The value of the macro `name` with the arguments `inner`. `None` if the macro or an argument is unknown.
pub(super) fn value(name: &str, inner: &str) -> Option<i64> {
    if name == "inet_addr" {
        let address: Ipv4Addr = inner.trim_matches('"').parse().ok()?;
        return Some(i64::from(u32::from_ne_bytes(address.octets())));
    }
    if (name, inner) == ("if_nametoindex", "\"lo\"") {
        return Some(1); // the kernel sees to it; of others only it knows
    }
    let args = inner.split(',').map(|arg| eval(arg.trim()));
    let args = args.collect::<Option<Vec<i64>>>()?;
    if let Some(&(_, direction, kind, nr, takes)) = REQUESTS.iter().find(|r| r.0 == name) {
        let (more, size) = match (takes, args.as_slice()) {
            (Takes::Size, &[size]) => (0, size),
            (Takes::Number(size), &[more]) => (more, size),
            (Takes::NumberAndSize, &[more, size]) => (more, size),
            _ => return None,
        };
        return Some(ioc(direction, kind.into(), nr.wrapping_add(more), size));
    }
    Some(match (name, args.as_slice()) {
        ("makedev", &[major, minor]) => makedev(major as u64, minor as u64) as i64,
        ("_IOC", &[direction, kind, nr, size]) => ioc(direction, kind, nr, size),
        ("_IO", &[kind, nr]) => ioc(0, kind, nr, 0),
        ("htons", &[n]) => i64::from((n as u16).to_be()),
        ("htonl", &[n]) => i64::from((n as u32).to_be()),
        ("htobe64", &[n]) => n.to_be(),
        ("htobs", &[n]) => i64::from((n as u16).to_le()), // Bluetooth's order is little endian
        // linux/filter.h: code, jt, jf, k of a `struct sock_filter`, as one number of eight bytes.
        ("BPF_STMT", &[code, k]) => code & 0xffff | k << 32,
        ("BPF_JUMP", &[code, k, jt, jf]) => {
            code & 0xffff | (jt & 0xff) << 16 | (jf & 0xff) << 24 | k << 32
        }
        ("QCMD", &[command, kind]) => (command << 8 | kind & 0xff) & 0xffff_ffff,
        ("KERNEL_VERSION", &[a, b, c]) => (a & 0xffff) << 16 | (b & 0xff) << 8 | c & 0xff,
        ("IOPRIO_PRIO_VALUE", &[class, data]) => (class & 0x7) << 13 | data & 0x1fff,
        ("KVAL", &[key]) => key & 0xff,
        ("K", &[kind, value]) => (kind & 0xff) << 8 | value & 0xff,
        // linux/posix-timers.h: the complement of a descriptor or pid, shifted by three bits for the clock.
        ("FD_TO_CLOCKID", &[fd]) => !fd << 3 | 3,
        ("MAKE_PROCESS_CPUCLOCK", &[pid, clock]) => !pid << 3 | clock & 3,
        ("MAKE_THREAD_CPUCLOCK", &[tid, clock]) => !tid << 3 | clock & 3 | 4,
        ("v4l2_fourcc", &[a, b, c, d]) => {
            let byte = |n: i64, at: u32| (n & 0xff) << (8 * at);
            byte(a, 0) | byte(b, 1) | byte(c, 2) | byte(d, 3)
        }
        _ => return None,
    })
}
