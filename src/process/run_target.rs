//! Where a task runs to that was preempted at a known place.

use crate::recording::Reach;
use crate::tracee::Regs;

/// No recorder has a task come to a place more often before it is preempted there.
const MOST_TIMES: u32 = 1 << 16;

/// A place in a program, and how often a task comes there.
#[derive(Clone, Debug)]
pub struct RunTarget {
    /// How often; the last time it stays.
    pub times: u32,
    /// Its registers then.
    pub regs: Regs,
}

impl RunTarget {
    /// What is recorded of it; or what is wrong with that.
    ///
    /// # Errors
    /// If no recorder writes such a thing.
    pub fn of(reach: &Reach) -> Result<RunTarget, String> {
        let words = reach.regs.as_slice().try_into();
        let words = words.map_err(|_| format!("{} words are no registers", reach.regs.len()))?;
        if !(1..=MOST_TIMES).contains(&reach.times) {
            return Err(format!(
                "task {} comes to a place {} times",
                reach.tid, reach.times
            ));
        }
        Ok(RunTarget {
            times: reach.times,
            regs: Regs::from_words(words),
        })
    }
}
