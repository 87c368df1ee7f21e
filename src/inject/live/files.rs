//! Files in a sandbox: device and inode numbers are as recorded, and what the kernel does not do in overlays is done.

use super::engine::Engine;
use crate::inject::Result;
use crate::inject::hook::HookCall;
use crate::sandbox::calls::{self, FileCall};
use crate::tracee::Stopped;

/// A call as sandboxes see it.
pub(super) fn file_call(seen: &HookCall) -> FileCall<'_> {
    FileCall {
        call: seen.call,
        args: &seen.args,
        memory: seen.memory,
    }
}

impl Engine<'_> {
    /// Replaces the numbers and owners in a file status from the kernel by those that the process knows.
    pub(super) fn show_same_file(&self, task: &mut Stopped, seen: &HookCall) -> Result<()> {
        let Some(sandbox) = &self.sandbox else {
            return Ok(());
        };
        if self.recording.is_none() && !calls::has_unmapped_owners() {
            return Ok(());
        }
        let shown = sandbox.show_owners(task, file_call(seen))?;
        let (Some(shown), Some(recording)) = (shown, &self.recording) else {
            return Ok(());
        };
        let Some(outside) = shown.outside(sandbox) else {
            return Ok(());
        };
        let known = match outside.is_new {
            true => None,
            // The file may have been replaced since it was recorded.
            false => recording.kernel_at(self.event, |_, kernel| {
                kernel.file_numbers().get(&shown.path)
            })?,
        };
        Ok(shown.show(&outside, known)?)
    }

    /// Does what the kernel does not do in and between overlays. Returns the value for the call.
    pub(super) fn work_around_overlays(
        &mut self,
        task: &mut Stopped,
        seen: &HookCall,
        ret: i64,
    ) -> Result<i64> {
        let Some(sandbox) = &mut self.sandbox else {
            return Ok(ret);
        };
        let mut refused = Vec::new();
        let ret = sandbox.work_around(task, file_call(seen), ret, &mut refused)?;
        for sentence in refused {
            self.report.miss(sentence);
        }
        Ok(ret)
    }

    /// Prepares a directory that a process has entered for changes.
    pub(super) fn follow_chdir(&mut self, task: &mut Stopped, seen: &HookCall) -> Result<()> {
        match &mut self.sandbox {
            Some(sandbox) => Ok(sandbox.follow_chdir(task, file_call(seen))?),
            None => Ok(()),
        }
    }
}
