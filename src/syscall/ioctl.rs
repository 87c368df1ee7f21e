//! Requests of ioctl: their names, and the description of those that the table does not have, by the direction and size
//! that `_IOC` encodes in them.

use crate::constants;
use std::collections::HashMap;
use std::sync::{LazyLock, RwLock};

use super::Abi;
use super::table::{Syscall, by_name_in};

/// Numbers that soundcard.h gives to timers, too; strace shows them as the terminal's (`asm-generic/ioctls.h`).
const TERMINAL: std::ops::RangeInclusive<u32> = 0x5401..=0x5408;

/// A request as strace writes it: its name (all names with `or` between them, if there are several), its macro with
/// arguments, or its parts: `_IOC(_IOC_READ, 0x99, 0x1, 0x20)`.
pub(crate) fn name(request: u32) -> String {
    let names = constants::set("ioctl").map_or(&[] as &[constants::Name], |set| set.list());
    let from = names.partition_point(|name| name.value < i64::from(request));
    let named = names.get(from..).unwrap_or(&[]).iter();
    let named = named.take_while(|name| name.value == i64::from(request));
    let terminal = TERMINAL.contains(&request);
    let chosen = named.filter(|name| !terminal || name.text.starts_with("TC"));
    let all: Vec<String> = constants::request(request)
        .into_iter()
        .chain(chosen.map(|name| name.text.to_owned()))
        .collect();
    match all.is_empty() {
        true => parts(request),
        false => all.join(" or "),
    }
}

fn parts(request: u32) -> String {
    let direction = match request >> 30 {
        0 => "_IOC_NONE",
        1 => "_IOC_WRITE",
        2 => "_IOC_READ",
        _ => "_IOC_READ|_IOC_WRITE",
    };
    let part = |n: u32| match n {
        0 => "0".to_owned(),
        _ => format!("{n:#x}"),
    };
    let (kind, nr, size) = (request >> 8 & 0xff, request & 0xff, request >> 16 & 0x3fff);
    let (kind, nr, size) = (part(kind), part(nr), part(size));
    format!("_IOC({direction}, {kind}, {nr}, {size})")
}

/// The requests seen so far: at most 2^17 for each ABI, since they differ in direction, size, and in whether they
/// return the number of bytes that they wrote.
static SEEN: LazyLock<RwLock<Seen>> = LazyLock::new(RwLock::default);

type Seen = HashMap<(Abi, u32), &'static Syscall>;

/// The description of a request by its encoding; `None` if it encodes no direction.
///
/// `asm-generic/ioctl.h`: two bits of direction, fourteen of size, from the program's point of view: read means
/// that the kernel writes.
pub(crate) fn encoded(abi: Abi, request: u32) -> Option<&'static Syscall> {
    let (direction, size) = (request >> 30, request >> 16 & 0x3fff);
    if direction == 0 || size == 0 {
        return None;
    }
    let counted = direction == 2 && constants::returns_length(request);
    let key = (abi, request >> 16 | u32::from(counted) << 16);
    if let Some(found) = SEEN.read().ok()?.get(&key) {
        return Some(found);
    }
    let argument = match direction {
        1 => "in",
        2 => "out",
        _ => "inout",
    };
    let filled = if counted { ":ret" } else { "" };
    let line = format!("(fd fd, request request, argp {argument}[bytes[{size}{filled}]]) int");
    let base = by_name_in(abi, "ioctl")?;
    let mut seen = SEEN.write().ok()?;
    if let Some(found) = seen.get(&key) {
        return Some(found);
    }
    let call = Syscall::made(base, line.leak())?;
    let call: &'static Syscall = Box::leak(Box::new(call));
    seen.insert(key, call);
    Some(call)
}
