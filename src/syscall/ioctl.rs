//! Requests of ioctl that the table does not name, by the direction and size that `_IOC` encodes in them.

use std::collections::HashMap;
use std::sync::{LazyLock, RwLock};

use super::table::{Syscall, by_name};

/// Requests seen so far. There can be no more than 2^16 of them: they differ in direction and size only.
static SEEN: LazyLock<RwLock<HashMap<u32, &'static Syscall>>> = LazyLock::new(RwLock::default);

/// The description of a request by its encoding; `None` where it encodes no direction.
///
/// `asm-generic/ioctl.h`: two bits of direction, fourteen of size, from the program's point of view: read means
/// that the kernel writes.
pub(crate) fn encoded(request: u32) -> Option<&'static Syscall> {
    let (direction, size) = (request >> 30, request >> 16 & 0x3fff);
    if direction == 0 || size == 0 {
        return None;
    }
    let key = request >> 16;
    if let Some(found) = SEEN.read().ok()?.get(&key) {
        return Some(found);
    }
    let argument = match direction {
        1 => "in",
        2 => "out",
        _ => "inout",
    };
    let line = format!("(fd fd, request request, argp {argument}[bytes[{size}]]) int");
    let base = by_name("ioctl")?;
    let mut seen = SEEN.write().ok()?;
    if let Some(found) = seen.get(&key) {
        return Some(found);
    }
    let call = Syscall::made(base.nr, base.name, line.leak(), &base.classes)?;
    let call: &'static Syscall = Box::leak(Box::new(call));
    seen.insert(key, call);
    Some(call)
}
