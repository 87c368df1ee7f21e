//! Timers: they are set going last, once there is somebody to tell.

use super::things::setting;
use super::{Result, Work};
use crate::kernel::{Armed, PosixTimer};
use crate::replay::Place;
use crate::tracee::{Remote, Stopped};

/// Timers that are to be set going.
#[derive(Debug, Default)]
pub struct Timers {
    /// Descriptors.
    pub(super) files: Vec<(i32, Armed)>,
    /// Of setitimer(2).
    pub(super) intervals: Vec<(usize, Armed)>,
    /// Of timer_create(2), by rising number.
    pub(super) own: Vec<(i32, PosixTimer, Option<Armed>)>,
}

/// As many timers are made and given up to come to a number.
const MOST: i32 = 1024;

impl Timers {
    /// Sets them going in a process that has all of its threads. Returns a sentence about each that cannot be.
    ///
    /// # Errors
    /// If the process cannot be asked.
    pub fn start(&self, task: &mut Stopped, place: Place) -> Result<Vec<String>> {
        let mut missing = Vec::new();
        if self.files.is_empty() && self.intervals.is_empty() && self.own.is_empty() {
            return Ok(missing);
        }
        let mut remote = match place {
            Place::Entry => task.remote_at_entry()?,
            Place::Between => task.remote_at_boundary()?,
        };
        let mut next = 0;
        for (id, own, armed) in &self.own {
            match create(&mut remote, *id, own, &mut next)? {
                Ok(()) => {
                    if let Some(armed) = armed {
                        set(&mut remote, libc::SYS_timer_settime, *id as u64, *armed)?;
                    }
                }
                Err(why) => missing.push(format!("timer {id}: {why}")),
            }
        }
        for &(fd, armed) in &self.files {
            set(&mut remote, libc::SYS_timerfd_settime, fd as u64, armed)?;
        }
        for &(which, armed) in &self.intervals {
            remote.reset_scratch();
            let at = remote.put(&setting(armed, 1000))?;
            let args = [which as u64, at, 0, 0, 0, 0];
            remote.call(libc::SYS_setitimer, args)?;
        }
        remote.finish()?;
        Ok(missing)
    }
}

fn set(remote: &mut Remote<'_>, call: i64, which: u64, armed: Armed) -> Result<()> {
    remote.reset_scratch();
    let at = remote.put(&setting(armed, 1))?;
    remote.call(call, [which, 0, at, 0, 0, 0])?;
    Ok(())
}

/// Makes a timer of this number. The kernel gives them out in order, from 0.
fn create(
    remote: &mut Remote<'_>,
    id: i32,
    own: &PosixTimer,
    next: &mut i32,
) -> Result<std::result::Result<(), String>> {
    while *next <= id && *next < MOST {
        remote.reset_scratch();
        let got = remote.put(&[0; 8])?;
        let event = match &own.event {
            Some(event) => remote.put(event)?,
            None => 0,
        };
        let clock = own.timer.clock as u64;
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

impl Work<'_> {
    /// Notes the process's own timers.
    pub(super) fn timers(&mut self) {
        let Some(kernel) = &self.kernel else { return };
        let (Some(own), now) = (kernel.process(self.state.since.pid()), kernel.clock()) else {
            return;
        };
        let timers = &mut self.restored.timers;
        for (which, timer) in own.itimers.iter().enumerate() {
            timers
                .intervals
                .extend(timer.armed(now).map(|armed| (which, armed)));
        }
        for (&id, own) in &own.timers {
            timers.own.push((id, own.clone(), own.timer.armed(now)));
        }
    }
}
