//! What many calls have in common: a file's status, the time, a file offset.

use super::{ChangeError, HookCall, Phase};
use crate::kernel::path_has_offset;
use crate::syscall::{Dir, Kind, Step};
use crate::trace::Value;
use crate::tracee::proc;
use std::time::Duration;

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

/// Clocks that go on while a process waits: real time, monotonic ones, TAI.
const WALLS: [i32; 9] = [0, 1, 4, 5, 6, 7, 8, 9, 11];

const SECOND: i64 = 1_000_000_000;

fn members(names: &[&str]) -> Vec<Step> {
    let step = |name: &&str| Step::Member((*name).to_owned());
    names.iter().map(step).collect()
}

impl HookCall {
    /// The argument in which a call of the stat family answers, and whether it is statx.
    pub(in crate::inject) fn stat_arg(&self) -> Option<(usize, bool)> {
        self.call.args.iter().enumerate().find_map(|(index, arg)| {
            let Kind::Ptr(Dir::Out, to) = &arg.kind else {
                return None;
            };
            match to.layout()?.name {
                "stat" => Some((index, false)),
                "statx" => Some((index, true)),
                _ => None,
            }
        })
    }

    /// Whether the call tells a file's status, and has.
    pub fn has_stat(&self) -> bool {
        self.stat_arg().is_some() && self.ret().is_some_and(|ret| ret >= 0)
    }

    /// A member of a file's status, by its name in [`STAT`]; `None` where this call tells none, or has failed.
    pub fn stat(&self, name: &str) -> Option<i64> {
        let (arg, extended) = self.stat_arg()?;
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
    /// If the call tells none, or the value cannot be that.
    pub fn set_stat(&mut self, name: &str, value: &Value) -> Result<()> {
        let call = self.name();
        let Some((arg, extended)) = self.stat_arg() else {
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

    /// Where a clock's call stores the time: the argument, the member for the part of a second, and its nanoseconds.
    fn clock(&self) -> Option<(usize, &'static str, i64)> {
        let (name, part, unit) = match self.call.name {
            "clock_gettime" => ("tp", "tv_nsec", 1),
            "gettimeofday" => ("tv", "tv_usec", 1000),
            _ => return None,
        };
        let arg = self.call.arg(name)?;
        (self.args[arg] != 0).then_some((arg, part, unit))
    }

    /// The time that a clock's call tells, in nanoseconds; `None` of other calls, and before it is known.
    pub fn time(&self) -> Option<i64> {
        let ret = self.ret().filter(|&ret| ret >= 0)?;
        if self.call.name == "time" {
            return ret.checked_mul(SECOND);
        }
        let (arg, part, unit) = self.clock()?;
        let number = |name: &str| {
            let way = members(&[name]);
            self.call
                .number_at((arg, &way), &self.args, Some(ret), &self.memory)
        };
        let seconds = number("tv_sec")?.checked_mul(SECOND)?;
        seconds.checked_add(number(part)?.checked_mul(unit)?)
    }

    /// Sets the time that a clock's call tells, in nanoseconds.
    ///
    /// # Errors
    /// If the call tells none, or has not been answered.
    pub fn set_time(&mut self, time: i64) -> Result<()> {
        let call = self.name();
        let (seconds, rest) = (time.div_euclid(SECOND), time.rem_euclid(SECOND));
        if call == "time" {
            if let (Some(_), Some(arg)) = (self.ret(), self.call.arg("tloc"))
                && self.args[arg] != 0
            {
                self.overwrite(self.args[arg], &seconds.to_le_bytes())?;
            }
            self.set_ret(seconds);
            return Ok(());
        }
        let Some((arg, part, unit)) = self.clock() else {
            let what = "time";
            return Err(ChangeError::Without { call, what });
        };
        self.change(arg, &members(&["tv_sec"]), &Value::Int(seconds))?;
        self.change(arg, &members(&[part]), &Value::Int(rest / unit))
    }

    /// Has a clock that was asked be ahead by so much.
    ///
    /// # Errors
    /// If the process's memory cannot be written.
    pub(crate) fn move_clock(&mut self, ahead: Duration) -> Result<()> {
        if self.call.name == "clock_gettime" && !WALLS.contains(&(self.args[0] as i32)) {
            return Ok(());
        }
        if self.call.name == "times" {
            // In ticks, of which a second has a hundred (USER_HZ).
            let ticks = (ahead.as_millis() / 10) as i64;
            if let Some(ret) = self.ret().filter(|&ret| ret >= 0) {
                self.set_ret(ret.saturating_add(ticks));
            }
            return Ok(());
        }
        let ahead = i64::try_from(ahead.as_nanos()).unwrap_or(i64::MAX);
        match self.time() {
            Some(time) => self.set_time(time.saturating_add(ahead)),
            None => Ok(()),
        }
    }

    /// The file offset that the call is about: its argument (what lseek returned, at the exit), else that of its
    /// descriptor, where that has one and it is known.
    pub fn offset(&self) -> Option<i64> {
        if self.call.name == "lseek" && self.phase == Phase::Exit {
            return self.ret.filter(|&ret| ret >= 0);
        }
        match self.call.arg("offset") {
            // sendfile's is behind a pointer.
            Some(arg) => match self.call.args.get(arg).map(|arg| &arg.kind) {
                Some(Kind::Num(_)) => Some(self.args[arg] as i64),
                _ => self
                    .call
                    .number_at((arg, &[]), &self.args, self.ret(), &self.memory),
            },
            None => {
                let offset = self.fd_offset.or_else(|| self.kernels_offset());
                offset.and_then(|offset| i64::try_from(offset).ok())
            }
        }
    }

    /// Where the descriptor stood before the call, as the kernel has it: of a process that is live.
    fn kernels_offset(&self) -> Option<u64> {
        if self.files.borrow().is_some() {
            return None;
        }
        let file = proc::descriptor(self.memory.tid(), self.fd()?).ok()?;
        if !path_has_offset(&file.path) {
            return None;
        }
        let moved = match (self.phase, self.call.data_arg()) {
            (Phase::Exit, Some(_)) => self.ret.and_then(|ret| u64::try_from(ret).ok()),
            _ => None,
        };
        Some(file.offset.saturating_sub(moved.unwrap_or(0)))
    }

    /// Sets the file offset.
    ///
    /// # Errors
    /// If the call has none of its own, or was made already.
    pub fn set_offset(&mut self, offset: i64) -> Result<()> {
        let call = self.name();
        if call == "lseek" && self.phase == Phase::Exit {
            self.set_ret(offset);
            return Ok(());
        }
        let Some(arg) = self.call.arg("offset") else {
            let what = "offset of its own";
            return Err(ChangeError::Without { call, what });
        };
        let way: &[Step] = match self.call.args.get(arg).map(|arg| &arg.kind) {
            Some(Kind::Ptr(..)) => &[Step::Element(0)],
            _ => &[],
        };
        self.change(arg, way, &Value::Int(offset))
    }
}
