//! Decoding and encoding of numbers, as strace writes them.

use std::net::Ipv4Addr;

use super::decode::signals;
use super::ioctl;
use super::kind::{Format, Num};
use super::special;
use crate::constants::{self, Set};
use crate::value::Value;

/// A symbolic value.
pub(crate) fn symbol(text: impl Into<String>, value: i64) -> Value {
    Value::Sym {
        text: text.into(),
        value: Some(value),
    }
}

impl Num {
    /// The mask of the bits that the number has.
    pub(crate) fn mask(&self) -> u64 {
        match self.size {
            1 => 0xff,
            2 => 0xffff,
            4 => 0xffff_ffff,
            _ => u64::MAX,
        }
    }

    /// The contents of a register or a member as a number of this size and sign.
    pub(crate) fn extend(&self, raw: u64) -> i64 {
        let raw = raw & self.mask();
        match (self.signed, self.size) {
            (true, 1) => i64::from(raw as i8),
            (true, 2) => i64::from(raw as i16),
            (true, 4) => i64::from(raw as i32),
            _ => raw as i64,
        }
    }

    /// The part of a number in memory that this kind means: all of it, except for bit-fields.
    pub(crate) fn part(&self, raw: u64) -> u64 {
        match self.format {
            Format::Bits(shift, width) => raw.checked_shr(shift).unwrap_or(0) & ones(width),
            _ => raw,
        }
    }

    /// The number to store in memory that has held `kept`: bit-fields keep the other bits.
    pub(crate) fn place(&self, value: u64, kept: u64) -> u64 {
        match self.format {
            Format::Bits(shift, width) => {
                let mask = ones(width).checked_shl(shift).unwrap_or(0);
                let bits = value.checked_shl(shift).unwrap_or(0);
                kept & !mask | bits & mask
            }
            _ => value,
        }
    }

    /// The number as strace writes it.
    pub(crate) fn decode(&self, raw: u64) -> Value {
        let raw = raw & self.mask();
        let value = self.extend(raw);
        match self.format {
            Format::Bits(..) => Value::Int(self.part(raw) as i64),
            Format::Known(set) => match set.exact(raw, self.mask()) {
                Some(name) => symbol(name, value),
                None => Value::Int(value),
            },
            Format::ModeFlags(set) => mode_flags(set, raw),
            Format::Errno | Format::Status if value == 0 => Value::Int(0),
            Format::Errno => named_or(value, constants::errno_name(value as i32)),
            Format::Status if value < 0 => {
                let name = constants::errno_name((value as i32).wrapping_neg());
                match name {
                    Some(name) => symbol(format!("-{name}"), value),
                    None => Value::Int(value),
                }
            }
            Format::SyscallNumber => match super::by_nr(value as u64) {
                Some(call) => symbol(format!("__NR_{}", call.name), value),
                None => hex(raw),
            },
            Format::IoPriority => special::io_priority(raw),
            Format::WakeOp => special::wake_op(raw),
            Format::Filter { seccomp } => special::instruction(raw, seccomp),
            Format::Hex => hex(raw),
            Format::Addr => Value::Addr(raw),
            Format::Oct => Value::Octal(raw),
            Format::Fd if value == -100 => Value::Int(value), // it stands for no directory here
            Format::Fd => descriptor(raw),
            Format::DirFd if value == -100 => symbol("AT_FDCWD", -100),
            Format::DirFd => descriptor(raw),
            Format::Id if raw == self.mask() => Value::Int(-1),
            Format::Mode => mode(raw),
            Format::Signal if value == 0 => Value::Int(0),
            Format::Signal => symbol(constants::signal_name(value as i32), value),
            Format::Dev => device(raw),
            Format::Handler => match raw {
                0 => symbol("SIG_DFL", 0),
                1 => symbol("SIG_IGN", 1),
                _ => Value::Addr(raw),
            },
            Format::Rlimit if raw == u64::MAX => symbol("RLIM64_INFINITY", -1),
            Format::Rlimit if raw == self.mask() => symbol("RLIM_INFINITY", -1),
            Format::Rlimit if raw > 1024 && raw.is_multiple_of(1024) => {
                symbol(format!("{}*1024", raw / 1024), value)
            }
            Format::CloneFlags => clone_flags(raw),
            Format::Port => symbol(format!("htons({})", u16::from_be(raw as u16)), value),
            Format::Net => symbol(format!("htonl({})", u32::from_be(raw as u32)), value),
            Format::Inet => {
                let address = Ipv4Addr::from((raw as u32).to_ne_bytes());
                symbol(format!("inet_addr(\"{address}\")"), value)
            }
            Format::Clock => {
                match constants::set("clockid").and_then(|s| s.exact(raw, self.mask())) {
                    Some(name) => symbol(name, value),
                    None => Value::Int(value),
                }
            }
            Format::SwapFlags => swap_flags(raw),
            Format::Qcmd => quota_command(raw),
            Format::Padded => {
                let width = self.size * 2;
                match raw {
                    0 => symbol("0".repeat(width), 0),
                    _ => symbol(format!("{raw:#0width$x}"), value),
                }
            }
            Format::Named(set) => match set.exact(raw, self.mask()) {
                Some(name) => symbol(format!("{value} /* {name} */"), value),
                None => match set.unknown {
                    Some(unknown) => symbol(format!("{value} /* {unknown} */"), value),
                    None => Value::Int(value),
                },
            },
            Format::Structures(name, size) => match u64::try_from(value) {
                Ok(bytes) if bytes > 0 && bytes.is_multiple_of(size.max(1) as u64) => {
                    let count = bytes / size.max(1) as u64;
                    symbol(
                        format!("{bytes} /* {count} * sizeof(struct {name}) */"),
                        value,
                    )
                }
                _ => Value::Int(value),
            },
            Format::FdOr(set) => match set.exact(raw, self.mask()) {
                Some(name) => symbol(name, value),
                None => descriptor(raw),
            },
            Format::SignalMask => signals(raw.to_le_bytes().get(..self.size).unwrap_or(&[])),
            Format::RequestIn(abi) => match constants::own_name(abi, "ioctl", raw) {
                Some(name) => symbol(name, value),
                None => Num {
                    format: Format::Request,
                    ..*self
                }
                .decode(raw),
            },
            Format::Request => symbol(ioctl::name(raw as u32), value),
            Format::NetName(set) => {
                let host = u16::from_be(raw as u16);
                let name = set.exact(host.into(), 0xffff).map(str::to_owned);
                let name = name.unwrap_or_else(|| format!("{host:#x}"));
                symbol(format!("htons({name})"), value)
            }
            Format::BluetoothName(set) => {
                let host = u16::from_le(raw as u16);
                let name = set.exact(host.into(), 0xffff).map(str::to_owned);
                let name = name.unwrap_or_else(|| match set.list().is_empty() {
                    true => host.to_string(),
                    false => format!("{host:#x}"),
                });
                symbol(format!("htobs({name})"), value)
            }
            Format::Flags(set) => match set.flags(raw) {
                Some(text) => symbol(text, value),
                None if raw == 0 => Value::Int(0),
                None => stranger(set, raw, value),
            },
            Format::Enum(set) => match set.named(raw, self.mask()) {
                Some(name) => symbol(name.text, name.value),
                None => stranger(set, raw, value),
            },
            _ if !self.signed && value < 0 => symbol(raw.to_string(), value),
            _ => Value::Int(value),
        }
    }
}

/// The number for which a value stands, also if only its text is known.
pub(crate) fn value_of(value: &Value) -> Option<i64> {
    let value = value.meaning();
    match value {
        Value::Sym { text, value: None } | Value::Raw(text) => match text.split_once("]=") {
            Some((_, indexed)) => super::eval(indexed), // `[VINTR]=0x3`
            None => super::eval(text),
        },
        Value::Change { after, .. } => value_of(after),
        Value::Array { items, .. } if items.len() == 1 => items.first().and_then(value_of),
        _ => value.as_i64(),
    }
}

/// The text of a number without a name in its set.
fn stranger(set: &Set, raw: u64, value: i64) -> Value {
    match set.stranger(raw) {
        Some(text) => symbol(text, value),
        None => hex(raw),
    }
}

/// A number in hexadecimal; zero is `0`.
pub(crate) fn hex(raw: u64) -> Value {
    match raw {
        0 => Value::Int(0),
        _ => Value::Addr(raw),
    }
}

/// A mask of this many bits.
fn ones(width: u32) -> u64 {
    u64::MAX.checked_shr(64 - width.min(64)).unwrap_or(0)
}

fn named_or(value: i64, name: Option<&str>) -> Value {
    match name {
        Some(name) => symbol(name, value),
        None => Value::Int(value),
    }
}

/// `IPC_CREAT|0600`; the permissions are always written.
fn mode_flags(set: &constants::Set, raw: u64) -> Value {
    let (flags, permissions) = (raw & !0o777, raw & 0o777);
    let octal = permission_digits(permissions);
    let text = match flags {
        0 => octal,
        _ => match set.flags(flags) {
            Some(names) => format!("{names}|{octal}"),
            None => format!("{flags:#x}|{octal}"),
        },
    };
    symbol(text, raw as i64)
}

fn permission_digits(permissions: u64) -> String {
    match permissions {
        0 => "000".to_owned(),
        _ => format!("{:0>3}", format!("0{permissions:o}")),
    }
}

fn descriptor(raw: u64) -> Value {
    Value::Fd {
        fd: raw as i32,
        path: None,
    }
}

fn mode(raw: u64) -> Value {
    let (kind, permissions) = (raw & !0o777, raw & 0o777);
    match constants::set("fmode").and_then(|set| set.flags(kind)) {
        Some(text) if kind != 0 => {
            let octal = permission_digits(permissions);
            symbol(format!("{text}|{octal}"), raw as i64)
        }
        _ => Value::Octal(raw),
    }
}

fn device(raw: u64) -> Value {
    // glibc's gnu_dev_major and gnu_dev_minor.
    let major = (raw >> 8 & 0xfff) | (raw >> 32 & 0xffff_f000);
    let minor = (raw & 0xff) | (raw >> 12 & 0xffff_ff00);
    let part = |n: u64| match n {
        0 => "0".to_owned(),
        _ => format!("{n:#x}"),
    };
    symbol(
        format!("makedev({}, {})", part(major), part(minor)),
        raw as i64,
    )
}

/// The lower half of the flags is the priority, which is always written.
fn swap_flags(raw: u64) -> Value {
    let (flags, priority) = (raw & !0x7fff, raw & 0x7fff);
    match flags {
        0 => Value::Int(priority as i64),
        _ => {
            let flags = constants::flags_text("swap", flags);
            symbol(format!("{flags}|{priority}"), raw as i64)
        }
    }
}

/// `QCMD` of `linux/quota.h`: the command is above the eight bits of the kind of quota.
fn quota_command(raw: u64) -> Value {
    let name = |set: &str, value: u64, unknown: &str| {
        let found = constants::set(set).and_then(|set| set.exact(value, u64::MAX));
        let number = match value {
            0 => "0".to_owned(),
            _ => format!("{value:#x}"),
        };
        found.map_or_else(|| format!("{number} /* {unknown} */"), str::to_owned)
    };
    let command = name("quotactl", raw >> 8, "Q_???");
    let kind = name("quotatype", raw & 0xff, "???QUOTA");
    symbol(format!("QCMD({command}, {kind})"), raw as i64)
}

fn clone_flags(raw: u64) -> Value {
    let (flags, signal) = (raw & !0xff, (raw & 0xff) as i32);
    let mut parts = Vec::new();
    if flags != 0 {
        parts.push(constants::flags_text("clone", flags));
    }
    if signal != 0 {
        parts.push(constants::signal_name(signal));
    }
    match parts.as_slice() {
        [] => Value::Int(0),
        _ => symbol(parts.join("|"), raw as i64),
    }
}
