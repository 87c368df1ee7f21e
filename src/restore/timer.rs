//! Timers of timerfd_create(2), timer_create(2) and setitimer(2): they are set last, once the process has all of its
//! threads.

use super::{Restorer, Result, words};
use crate::kernel::{PosixTimer, TimerSetting};
use crate::process::StopPoint;
use crate::tracee::{Remote, Stopped};

/// Timers that are to be set.
#[derive(Debug, Default)]
pub struct Timers {
    /// Timers of timerfd_create(2), by descriptor.
    pub(super) timerfds: Vec<(i32, TimerSetting)>,
    /// Timers of setitimer(2), by `ITIMER_*`.
    pub(super) itimers: Vec<(usize, TimerSetting)>,
    /// Timers of timer_create(2), by rising ID.
    pub(super) posix: Vec<(i32, PosixTimer, Option<TimerSetting>)>,
}

/// Timers up to this ID are made and deleted again to come to a wanted ID.
const MOST: i32 = 1024;

impl Timers {
    /// Sets the timers of a process that has all of its threads. Returns a sentence about each timer that cannot be
    /// made.
    ///
    /// # Errors
    /// If the process cannot be asked.
    pub fn start(&self, task: &mut Stopped, place: StopPoint) -> Result<Vec<String>> {
        let mut missing = Vec::new();
        if self.timerfds.is_empty() && self.itimers.is_empty() && self.posix.is_empty() {
            return Ok(missing);
        }
        let mut remote = match place {
            StopPoint::Entry => task.remote_at_entry()?,
            StopPoint::Between => task.remote_at_boundary()?,
        };
        let mut next = 0;
        for (id, timer, setting) in &self.posix {
            match create(&mut remote, *id, timer, &mut next)? {
                Ok(()) => {
                    if let Some(setting) = setting {
                        set(&mut remote, libc::SYS_timer_settime, *id as u64, *setting)?;
                    }
                }
                Err(why) => missing.push(format!("timer {id}: {why}")),
            }
        }
        for &(fd, setting) in &self.timerfds {
            set(&mut remote, libc::SYS_timerfd_settime, fd as u64, setting)?;
        }
        for &(which, setting) in &self.itimers {
            remote.reset_scratch();
            let at = remote.put(&itimerspec(setting, 1000))?;
            let args = [which as u64, at, 0, 0, 0, 0];
            remote.call(libc::SYS_setitimer, args)?;
        }
        remote.finish()?;
        Ok(missing)
    }
}

fn set(remote: &mut Remote<'_>, call: i64, which: u64, setting: TimerSetting) -> Result<()> {
    remote.reset_scratch();
    let at = remote.put(&itimerspec(setting, 1))?;
    remote.call(call, [which, 0, at, 0, 0, 0])?;
    Ok(())
}

/// Makes a timer with this ID. The kernel assigns IDs in order, from 0.
fn create(
    remote: &mut Remote<'_>,
    id: i32,
    timer: &PosixTimer,
    next: &mut i32,
) -> Result<std::result::Result<(), String>> {
    while *next <= id && *next < MOST {
        remote.reset_scratch();
        let got = remote.put(&[0; 8])?;
        let event = match &timer.event {
            Some(event) => remote.put(event)?,
            None => 0,
        };
        let clock = timer.timer.clock as u64;
        let args = [clock, event, got, 0, 0, 0];
        let made = remote.call(libc::SYS_timer_create, args)?;
        if made < 0 {
            let why = std::io::Error::from_raw_os_error(-made as i32);
            return Ok(Err(format!("it cannot be made again: {why}")));
        }
        let made = remote.memory().word(got)? as i32;
        *next = made.saturating_add(1);
        if made == id {
            return Ok(Ok(()));
        }
        let args = [made as u64, 0, 0, 0, 0, 0];
        remote.call(libc::SYS_timer_delete, args)?;
    }
    Ok(Err("its number cannot be had again".into()))
}

/// A `struct itimerspec` (unit 1) or `struct itimerval` (unit 1000).
fn itimerspec(setting: TimerSetting, unit: u64) -> Vec<u8> {
    const SECOND: u64 = 1_000_000_000;
    let time = |ns: u64| [ns / SECOND, ns % SECOND / unit];
    let [is, ir] = time(setting.interval);
    // A value of 0 would disarm the timer.
    let [s, r] = time(setting.value.max(unit));
    words(&[is, ir, s, r])
}

impl Restorer<'_, '_> {
    /// Collects the timers of the process other than timerfds.
    pub(super) fn timers(&mut self) {
        let Some(kernel) = &self.kernel else { return };
        let (Some(process), now) = (kernel.process(self.state.changes.pid()), kernel.clock())
        else {
            return;
        };
        let timers = &mut self.restored.timers;
        for (which, timer) in process.itimers.iter().enumerate() {
            let setting = timer.setting(now);
            timers
                .itimers
                .extend(setting.map(|setting| (which, setting)));
        }
        for (&id, posix) in &process.timers {
            let setting = posix.timer.setting(now);
            timers.posix.push((id, posix.clone(), setting));
        }
    }
}
