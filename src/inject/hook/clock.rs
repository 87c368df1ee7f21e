//! The time that the calls of clocks return.

use super::stat::members;
use super::{ChangeError, HookCall};
use crate::trace::Value;
use std::time::Duration;

type Result<T> = std::result::Result<T, ChangeError>;

/// The clocks that go on while a process sleeps: real time, monotonic ones, TAI.
const WALLS: [i32; 9] = [0, 1, 4, 5, 6, 7, 8, 9, 11];

const SECOND: i64 = 1_000_000_000;

impl HookCall {
    /// The place where a clock's call stores the time: the argument, the member for the part of a second, and its nanoseconds.
    fn clock(&self) -> Option<(usize, &'static str, i64)> {
        let (name, part, unit) = match self.call.name {
            "clock_gettime" => ("tp", "tv_nsec", 1),
            "gettimeofday" => ("tv", "tv_usec", 1000),
            _ => return None,
        };
        let arg = self.call.arg(name)?;
        (self.args[arg] != 0).then_some((arg, part, unit))
    }

    /// The time that a clock's call returns, in nanoseconds; `None` for other calls, and before it is known.
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

    /// Sets the time that a clock's call returns, in nanoseconds.
    ///
    /// # Errors
    /// If the call returns no time, or has not been answered.
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

    /// Adds to the time that a clock's call returns.
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
}
