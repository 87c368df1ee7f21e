//! CPU affinity: the program's requests are answered as if granted, but it stays on rrapper's CPU. The program sees the
//! CPUs that rrapper was allowed to use.

use super::task::Task;
use super::{Recorder, Result};
use crate::recording::CallEvent;
use crate::tracee::{Stopped, pin};

impl Recorder {
    /// The answer to a `sched_setaffinity`; `None` for a process that is not recorded.
    pub(super) fn set_affinity(
        &mut self,
        current: &mut Task,
        event: &CallEvent,
    ) -> Result<Option<i64>> {
        let whose = self.family.named(current.tid, event.args[0] as i32);
        let whose = whose.unwrap_or(event.args[0] as i32);
        let mask = event.ins.first().map_or(&[][..], |chunk| &chunk.data);
        let mut granted = available()?;
        for (have, wish) in granted
            .iter_mut()
            .zip(mask.iter().chain(std::iter::repeat(&0)))
        {
            *have &= wish;
        }
        let task = if whose == 0 || whose == current.tid {
            current
        } else {
            match self.tasks.get_mut(&whose) {
                Some(other) => other,
                None => return Ok(None),
            }
        };
        if granted.iter().all(|&byte| byte == 0) {
            return Ok(Some(-i64::from(libc::EINVAL)));
        }
        task.affinity = Some(granted);
        Ok(Some(0))
    }

    /// Writes the requested affinity to the result of a `sched_getaffinity`.
    pub(super) fn show_affinity(
        &self,
        current: &Task,
        task: &Stopped,
        event: &CallEvent,
    ) -> Result<()> {
        let [whose, _, addr, ..] = event.args;
        let whose = self
            .family
            .named(current.tid, whose as i32)
            .unwrap_or(whose as i32);
        let Some(len) = event.ret.and_then(|ret| usize::try_from(ret).ok()) else {
            return Ok(());
        };
        let wish = if whose == 0 || whose == current.tid {
            &current.affinity
        } else {
            match self.tasks.get(&whose) {
                Some(other) => &other.affinity,
                None => return Ok(()),
            }
        };
        let mut mask = match wish {
            Some(mask) => mask.clone(),
            None => available()?,
        };
        mask.resize(len, 0);
        Ok(task.memory().write(addr, &mask)?)
    }
}

/// The CPUs that rrapper could use before it was pinned, as a bit mask.
fn available() -> Result<Vec<u8>> {
    let before = pin::this_thread()?.before;
    let mut mask = vec![0; before.last().map_or(0, |last| last / 8 + 1)];
    for cpu in before {
        mask[cpu / 8] |= 1 << (cpu % 8);
    }
    Ok(mask)
}
