//! The file status that calls of the stat family return.

use super::{ChangeError, HookCall};
use crate::syscall::PathStep;
use crate::trace::Value;

type Result<T> = std::result::Result<T, ChangeError>;

/// The members of [`HookCall::stat`], by the names that `struct stat` and `struct statx` have in common. Times are in
/// seconds, and `…_nsec` are their nanoseconds.
pub const STAT: [&str; 18] = [
    "mode",
    "size",
    "ino",
    "nlink",
    "uid",
    "gid",
    "blksize",
    "blocks",
    "dev",
    "rdev",
    "atime",
    "atime_nsec",
    "mtime",
    "mtime_nsec",
    "ctime",
    "ctime_nsec",
    "btime",
    "btime_nsec",
];

/// The way to a member of a structure, by the names of the members on it.
pub(super) fn members(names: &[&str]) -> Vec<PathStep> {
    let step = |name: &&str| PathStep::Member((*name).to_owned());
    names.iter().map(step).collect()
}

impl HookCall {
    /// Whether the call has returned a file's status.
    pub fn has_stat(&self) -> bool {
        self.call.status_arg().is_some() && self.ret().is_some_and(|ret| ret >= 0)
    }

    /// A member of a file's status, by its name in [`STAT`]; `None` where the call returns none, or has failed.
    pub fn stat(&self, name: &str) -> Option<i64> {
        let (arg, extended) = self.call.status_arg()?;
        let ret = self.ret().filter(|&ret| ret >= 0)?;
        let number = |way: &[&str]| {
            self.call
                .number_at((arg, &members(way)), &self.args, Some(ret), &self.memory)
        };
        if !extended {
            return number(&[&format!("st_{name}")]);
        }
        if let "dev" | "rdev" = name {
            let major = number(&[&format!("stx_{name}_major")])?;
            let minor = number(&[&format!("stx_{name}_minor")])?;
            return Some(libc::makedev(major as u32, minor as u32) as i64);
        }
        if let Some(time) = name.strip_suffix("_nsec") {
            return number(&[&format!("stx_{time}"), "tv_nsec"]);
        }
        let own = format!("stx_{name}");
        match name.ends_with("time") {
            true => number(&[&own, "tv_sec"]),
            false => number(&[&own]),
        }
    }

    /// Sets a member of a file's status.
    ///
    /// # Errors
    /// If the call returns no status, or the member cannot have the value.
    pub fn set_stat(&mut self, name: &str, value: &Value) -> Result<()> {
        let call = self.name();
        let Some((arg, extended)) = self.call.status_arg() else {
            let what = "file status";
            return Err(ChangeError::Without { call, what });
        };
        if !extended {
            return self.change(arg, &members(&[&format!("st_{name}")]), value);
        }
        if let ("dev" | "rdev", Some(dev)) = (name, value.as_i64()) {
            let dev = dev as u64;
            let parts = [("major", libc::major(dev)), ("minor", libc::minor(dev))];
            for (part, number) in parts {
                let way = members(&[&format!("stx_{name}_{part}")]);
                self.change(arg, &way, &Value::Int(number.into()))?;
            }
            return Ok(());
        }
        let way = match name.strip_suffix("_nsec") {
            Some(time) => members(&[&format!("stx_{time}"), "tv_nsec"]),
            None if name.ends_with("time") => members(&[&format!("stx_{name}"), "tv_sec"]),
            None => members(&[&format!("stx_{name}")]),
        };
        self.change(arg, &way, value)
    }
}
