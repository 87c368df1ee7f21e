//! Numbers: how strace writes them, and back.

use std::net::Ipv4Addr;

use super::consts;
use super::kind::{Format, Num};
use super::sets;
use crate::trace::Value;

/// A symbolic value.
pub(crate) fn symbol(text: impl Into<String>, value: i64) -> Value {
    Value::Sym {
        text: text.into(),
        value: Some(value),
    }
}

impl Num {
    /// The bits that this number has.
    pub(crate) fn mask(&self) -> u64 {
        match self.size {
            1 => 0xff,
            2 => 0xffff,
            4 => 0xffff_ffff,
            _ => u64::MAX,
        }
    }

    /// A register's or a member's contents as a number of this size and sign.
    pub(crate) fn extend(&self, raw: u64) -> i64 {
        let raw = raw & self.mask();
        match (self.signed, self.size) {
            (true, 1) => i64::from(raw as i8),
            (true, 2) => i64::from(raw as i16),
            (true, 4) => i64::from(raw as i32),
            _ => raw as i64,
        }
    }

    /// As strace writes it.
    pub(crate) fn decode(&self, raw: u64) -> Value {
        let raw = raw & self.mask();
        let value = self.extend(raw);
        match self.format {
            Format::Hex => hex(raw),
            Format::Addr => Value::Addr(raw),
            Format::Oct => Value::Octal(raw),
            Format::Fd => descriptor(raw),
            Format::DirFd if value == -100 => symbol("AT_FDCWD", -100),
            Format::DirFd => descriptor(raw),
            Format::Id if raw == 0xffff_ffff => Value::Int(-1),
            Format::Mode => mode(raw),
            Format::Signal if value == 0 => Value::Int(0),
            Format::Signal => symbol(consts::signal_name(value as i32), value),
            Format::Dev => device(raw),
            Format::Handler => match raw {
                0 => symbol("SIG_DFL", 0),
                1 => symbol("SIG_IGN", 1),
                _ => Value::Addr(raw),
            },
            Format::Rlimit if raw == u64::MAX => symbol("RLIM64_INFINITY", -1),
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
            Format::Clock => match sets::set("clockid").and_then(|s| s.exact(raw, self.mask())) {
                Some(name) => symbol(name, value),
                None => Value::Int(value),
            },
            Format::Request => match sets::set("ioctl").and_then(|s| s.exact(raw, self.mask())) {
                Some(name) => symbol(name, value),
                None => symbol(request(raw), value),
            },
            Format::Flags(set) => match set.flags(raw) {
                Some(text) => symbol(text, value),
                None => hex(raw),
            },
            Format::Enum(set) => match set.exact(raw, self.mask()) {
                Some(name) => symbol(name, value),
                None => hex(raw),
            },
            _ if !self.signed && value < 0 => symbol(raw.to_string(), value),
            _ => Value::Int(value),
        }
    }
}

/// The number that a value stands for, also where only its text is known.
pub(crate) fn value_of(value: &Value) -> Option<i64> {
    let value = value.meaning();
    match value {
        Value::Sym { text, value: None } | Value::Raw(text) => match text.split_once("]=") {
            Some((_, indexed)) => consts::eval(indexed), // `[VINTR]=0x3`
            None => consts::eval(text),
        },
        Value::Change { after, .. } => value_of(after),
        Value::Array { items, .. } if items.len() == 1 => items.first().and_then(value_of),
        _ => value.as_i64(),
    }
}

fn hex(raw: u64) -> Value {
    match raw {
        0 => Value::Int(0),
        _ => Value::Addr(raw),
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
    match sets::set("fmode").and_then(|set| set.flags(kind)) {
        Some(text) if kind != 0 => {
            let octal = match permissions {
                0 => "000".to_owned(),
                _ => format!("{:0>3}", format!("0{permissions:o}")),
            };
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

/// The parts of an ioctl request without a name.
fn request(raw: u64) -> String {
    let direction = match raw >> 30 & 3 {
        0 => "_IOC_NONE",
        1 => "_IOC_WRITE",
        2 => "_IOC_READ",
        _ => "_IOC_READ|_IOC_WRITE",
    };
    let part = |n: u64| match n {
        0 => "0".to_owned(),
        _ => format!("{n:#x}"),
    };
    let (kind, nr, size) = (raw >> 8 & 0xff, raw & 0xff, raw >> 16 & 0x3fff);
    format!(
        "_IOC({direction}, {}, {}, {})",
        part(kind),
        part(nr),
        part(size)
    )
}

fn clone_flags(raw: u64) -> Value {
    let (flags, signal) = (raw & !0xff, (raw & 0xff) as i32);
    let mut parts = Vec::new();
    if flags != 0 {
        parts.push(consts::flags_text("clone", flags));
    }
    if signal != 0 {
        parts.push(consts::signal_name(signal));
    }
    match parts.as_slice() {
        [] => Value::Int(0),
        _ => symbol(parts.join("|"), raw as i64),
    }
}
