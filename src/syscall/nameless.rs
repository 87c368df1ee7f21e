//! Calls whose number is in no table: there is no such call, or the kernel is newer than the table. As in strace, they
//! are named after their number and have six plain words.

use std::collections::HashMap;
use std::sync::{LazyLock, RwLock};

use super::table::{Syscall, by_nr};

/// The beginning of such names.
const PREFIX: &str = "syscall_";

/// The limit of the number of such calls; a hostile recording may have more.
const MOST: usize = 1 << 14;

static SEEN: LazyLock<RwLock<HashMap<u32, &'static Syscall>>> = LazyLock::new(RwLock::default);

/// The call with this number on x86-64, known or not. `None` if too many unknown calls have been asked for.
pub fn of_number(nr: u32) -> Option<&'static Syscall> {
    if let Some(known) = by_nr(nr.into()) {
        return Some(known);
    }
    if let Some(found) = SEEN.read().ok()?.get(&nr) {
        return Some(found);
    }
    let mut seen = SEEN.write().ok()?;
    if let Some(found) = seen.get(&nr) {
        return Some(found);
    }
    if seen.len() >= MOST {
        return None;
    }
    let call: &'static Syscall = Box::leak(Box::new(Syscall::nameless(nr, name(nr).leak())?));
    seen.insert(nr, call);
    Some(call)
}

/// The call with this name, if the name is made of a number.
pub fn of_name(name: &str) -> Option<&'static Syscall> {
    let digits = name.strip_prefix(PREFIX)?.strip_prefix("0x")?;
    // The kernel reads only the lower half of the number.
    let nr = u64::from_str_radix(digits, 16).ok()? as u32;
    of_number(nr)
}

/// The name of the call with this number.
pub fn name_of(nr: u32) -> String {
    by_nr(nr.into()).map_or_else(|| name(nr), |call| call.name.to_string())
}

/// The name made of a number; the number is written as a program puts it into a register of 64 bits.
fn name(nr: u32) -> String {
    format!("{PREFIX}{:#x}", i64::from(nr as i32))
}

impl Syscall {
    /// Returns whether the table does not have the call.
    pub fn is_nameless(&self) -> bool {
        self.name.starts_with(PREFIX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_without_a_call_is_its_name() {
        let call = of_number(1008).unwrap();
        assert_eq!((call.name, call.args.len()), ("syscall_0x3f0", 6));
        assert!(call.is_nameless() && !call.described);
        assert!(std::ptr::eq(call, of_name("syscall_0x3f0").unwrap()));
        let last = of_number(u32::MAX).unwrap();
        assert_eq!(last.name, "syscall_0xffffffffffffffff");
        assert!(std::ptr::eq(last, of_name(last.name).unwrap()));
        assert_eq!(of_number(39).unwrap().name, "getpid");
        assert!(of_name("syscall_0x").is_none() && of_name("getpid").is_none());
    }
}
