//! The program's wish to run on other CPUs, which is answered as if it had been granted: it stays on rrapper's.
//!
//! What `sched_getaffinity` says is the truth, one CPU: a program that sees more makes threads, which
//! cannot be recorded yet.

use super::{Recorder, Result};
use crate::recording::CallEvent;
use crate::tracee::pin;

impl Recorder {
    /// The answer to a `sched_setaffinity`; `None` where it is about another process.
    pub(super) fn set_affinity(&self, event: &CallEvent) -> Result<Option<i64>> {
        if event.args[0] != 0 && event.args[0] as i32 != self.pid {
            return Ok(None);
        }
        let mask = event.ins.first().map_or(&[][..], |chunk| &chunk.data);
        let wanted = |cpu: &usize| mask.get(cpu / 8).is_some_and(|b| b & (1 << (cpu % 8)) != 0);
        let granted = pin::this_thread()?.before.iter().any(wanted);
        Ok(Some(if granted { 0 } else { -i64::from(libc::EINVAL) }))
    }
}
