//! The memory limit of a script: half of the memory that the machine has available when the script starts, or the control
//! group, or the process's own limits. A script that takes more gets an error, with its line where that is known, before
//! the system would kill a process.

use super::error::{raise, raise_at};
use mlua::{Error, Function, Lua, MultiValue, Table};
use nix::sys::resource::{Resource, getrlimit};
use std::fs;

/// The smallest limit, in bytes.
const LEAST: u64 = 32 << 20;

/// The part of the limit that may be taken at once. Beyond the rest, the check of the running script says its line.
const RESERVE: usize = 4;

/// The limit of a script's memory.
#[derive(Clone, Copy)]
struct Limit {
    bytes: usize,
}

/// Gives a script its limit.
pub(super) fn install(lua: &Lua) -> mlua::Result<()> {
    let bytes = usize::try_from(limit()).unwrap_or(usize::MAX >> 1);
    lua.set_app_data(Limit { bytes });
    lua.set_memory_limit(bytes)?;
    // Functions that take much memory at once say where they were called.
    for (library, name) in [("string", "rep"), ("table", "concat")] {
        let library: Table = lua.globals().get(library)?;
        let original: Function = library.get(name)?;
        let wrapped = lua.create_function(move |lua, args: MultiValue| {
            original
                .call::<MultiValue>(args)
                .map_err(|error| match told(&error, name) {
                    Some(told) => told,
                    None if is_of_memory(&error) => raise(too_much(lua)),
                    None => error,
                })
        })?;
        library.set(name, wrapped)?;
    }
    Ok(())
}

/// Whether a script has nearly reached the limit after a garbage collection.
pub(super) fn is_short(lua: &Lua) -> mlua::Result<bool> {
    let limit = lua
        .app_data_ref::<Limit>()
        .map_or(usize::MAX, |limit| limit.bytes);
    let nearly = limit - limit / RESERVE;
    if lua.used_memory() < nearly {
        return Ok(false);
    }
    lua.gc_collect()?;
    Ok(lua.used_memory() >= nearly)
}

/// Raises an error at this place if a script has nearly reached the limit.
pub(super) fn check(lua: &Lua, place: &str) -> mlua::Result<()> {
    match is_short(lua)? {
        true => Err(raise_at(place.to_owned(), too_much(lua))),
        false => Ok(()),
    }
}

/// An error of a function of the standard library about its arguments, as it would have raised it itself.
fn told(error: &Error, name: &str) -> Option<Error> {
    match error {
        Error::CallbackError { cause, .. } => told(cause, name),
        Error::RuntimeError(message) => {
            let message = message.split("\nstack traceback:").next()?;
            // Who calls it from here does not name it.
            Some(raise(message.replace("to '?'", &format!("to '{name}'"))))
        }
        _ => None,
    }
}

/// Whether an error is that of the memory limit.
pub(super) fn is_of_memory(error: &Error) -> bool {
    match error {
        Error::CallbackError { cause, .. } => is_of_memory(cause),
        other => matches!(other, Error::MemoryError(_)),
    }
}

fn too_much(lua: &Lua) -> String {
    let limit = lua.app_data_ref::<Limit>().map_or(0, |limit| limit.bytes);
    format!(
        "not enough memory: a script may have {} MiB here",
        limit >> 20
    )
}

fn limit() -> u64 {
    let own = [Resource::RLIMIT_AS, Resource::RLIMIT_DATA]
        .into_iter()
        .filter_map(|resource| getrlimit(resource).ok())
        .map(|(soft, _)| soft);
    let least = own.chain(machine()).chain(group()).min();
    (least.unwrap_or(u64::MAX) / 2).max(LEAST)
}

/// The memory that the machine has available, in bytes.
fn machine() -> Option<u64> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kibibytes: u64 = line.trim().strip_suffix(" kB")?.trim().parse().ok()?;
    kibibytes.checked_mul(1 << 10)
}

/// The memory that the control group has available, in bytes: cgroups(7), version 2.
fn group() -> Option<u64> {
    let own = fs::read_to_string("/proc/self/cgroup").ok()?;
    let mut path = own
        .lines()
        .find_map(|line| line.strip_prefix("0::"))?
        .trim_start_matches('/');
    let mut least = None;
    loop {
        let read = |file: &str| -> Option<u64> {
            let text = fs::read_to_string(format!("/sys/fs/cgroup/{path}/{file}")).ok()?;
            text.trim().parse().ok()
        };
        if let (Some(most), Some(used)) = (read("memory.max"), read("memory.current")) {
            let left = most.saturating_sub(used);
            least = Some(least.map_or(left, |least: u64| least.min(left)));
        }
        match path.rsplit_once('/') {
            Some((above, _)) => path = above,
            None if path.is_empty() => return least,
            None => path = "",
        }
    }
}
