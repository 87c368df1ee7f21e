//! The point to which a task runs that was preempted at a known instruction.

use crate::recording::Reach;
use crate::tracee::Regs;

/// The limit of the number of passes; no recorder writes a greater number.
const MOST_TIMES: u32 = 1 << 16;

/// An instruction in a program, and the number of times that a task comes to it.
#[derive(Clone, Debug)]
pub struct RunTarget {
    /// The number of passes; the task stops at the last one.
    pub times: u32,
    /// The registers at the last pass.
    pub regs: Regs,
}

impl RunTarget {
    /// The target of a recorded item; the error says what is wrong with the item.
    ///
    /// # Errors
    /// If no recorder writes such an item.
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
