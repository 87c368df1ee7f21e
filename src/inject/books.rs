//! What is kept of each call: what hooks see of it, what it wrote, which descriptors it left.

use super::driver::Driver;
use super::hook::{Decision, HookCall};
use super::{Error, Result};
use crate::image::Chunk;
use crate::recording::{CallEvent, Effect, written_numbers};
use crate::syscall::{Moved, Region, Syscall};
use crate::trace::file_names;
use crate::tracee::Stopped;

impl Driver<'_> {
    /// Describes the call for hooks.
    pub(super) fn see(
        &mut self,
        task: &Stopped,
        call: &'static Syscall,
        args: [u64; 6],
    ) -> HookCall {
        HookCall::new(
            call,
            args,
            (self.pid, self.me.tid),
            task.memory(),
            self.shared.clone(),
        )
        .with_began(&self.began)
        .with_descriptor(&self.descriptors)
        .with_room(&self.room)
        .with_tids(std::iter::once(self.me.tid).chain(self.resting.keys().copied()))
    }

    /// Moves the clocks that the process sees by what hooks delay the call by.
    fn wait_longer(&mut self, seen: &mut HookCall) {
        self.delayed = self.delayed.saturating_add(seen.take_delay());
    }

    /// Runs the exit hooks, makes memory agree with what they decided, and returns the final answer.
    pub(super) fn settle(&mut self, seen: &mut HookCall) -> Result<i64> {
        let (answer, before) = (seen.ret, seen.before.len());
        let given = answer.unwrap_or(0);
        self.wait_longer(seen);
        if !self.delayed.is_zero() && !matches!(seen.decision, Decision::Answer(_)) {
            let moved = seen.move_clock(self.delayed);
            moved.map_err(|error| Error::Hook(error.into()))?;
        }
        self.hooks.exit(seen).map_err(Error::Hook)?;
        self.wait_longer(seen);
        self.heed(seen, answer, before);
        let ret = seen.ret.unwrap_or(0);
        if ret < 0 && given >= 0 && seen.done.is_none() {
            // A call that fails has written nothing.
            seen.undo()?;
        }
        Ok(ret)
    }

    /// Keeps the books on a call that has been answered.
    pub(super) fn note(&mut self, seen: &HookCall, ret: i64, moved: Option<&[u8]>) {
        self.log.call(seen, Some(ret));
        // What it did counts from here, whatever its process was told.
        let ret = seen.done.unwrap_or(ret);
        if ret > 0 && seen.opened != Some(Effect::Unmade) {
            self.note_output(seen, ret, moved);
        }
        if let Err(error) = seen.give_back() {
            tracing::warn!("cannot give back what a hook changed: {error}");
        }
        seen.files.take();
        if seen.call.name == "close" && matches!(seen.decision, Decision::Answer(_)) {
            // The descriptor is as it was.
            return;
        }
        let outs = match seen.call.name {
            "pipe" | "pipe2" | "socketpair" | "getdents" | "getdents64" | "recvmsg"
            | "recvmmsg" => self.outputs(seen, ret),
            // No other call has outputs that the table looks at.
            _ => Vec::new(),
        };
        let ins = match seen.call.name {
            "open" | "openat" | "creat" | "openat2" | "ioctl" | "recvmsg" | "recvmmsg"
            | "rename" | "renameat" | "renameat2" => self.inputs(seen),
            _ => Vec::new(),
        };
        let mut call = CallEvent {
            nr: seen.call.nr,
            args: seen.args,
            ip: 0,
            ret: Some(ret),
            ins,
            outs,
            effect: Effect::None,
        };
        call.effect = self.opened(seen, &call, ret);
        let noted = self.since.concerns(&self.descriptors, &call);
        if noted.is_some() {
            call.ins = self.inputs(seen);
            call.outs = self.outputs(seen, ret);
        }
        self.descriptors.apply(&call);
        if let Some(noted) = noted {
            self.since
                .note(noted, call, &self.recording, &self.descriptors);
        }
    }

    /// What the call opened, as far as it is known.
    fn opened(&self, seen: &HookCall, call: &CallEvent, ret: i64) -> Effect {
        if seen.opened == Some(Effect::Unmade) {
            return Effect::Unmade;
        }
        if let Some(recorded @ Effect::Opened(list)) = &seen.opened {
            // A hook may have made others of them.
            let now = match written_numbers(call) {
                none if none.is_empty() => vec![ret as i32],
                written => written,
            };
            let same = list.iter().map(|opened| opened.fd).eq(now);
            return match same {
                true => recorded.clone(),
                false => Effect::None,
            };
        }
        self.opened_path(seen, ret)
            .map_or(Effect::None, Effect::Path)
    }

    fn inputs(&self, seen: &HookCall) -> Vec<Chunk> {
        let regions = seen.call.inputs(&seen.args, &seen.memory);
        self.chunks(seen, regions)
    }

    fn outputs(&self, seen: &HookCall, ret: i64) -> Vec<Chunk> {
        let regions = seen
            .call
            .outputs(&seen.args, ret, &seen.memory, &seen.memory);
        self.chunks(seen, regions)
    }

    fn chunks(&self, seen: &HookCall, regions: Vec<Region>) -> Vec<Chunk> {
        let chunk = |region: Region| Chunk {
            addr: region.addr,
            data: seen.memory.bytes(region.addr, region.len),
        };
        regions.into_iter().map(chunk).collect()
    }

    fn note_output(&mut self, seen: &HookCall, ret: i64, moved: Option<&[u8]>) {
        let target = match seen.call.name {
            "copy_file_range" | "splice" => Some(seen.args[2] as i32),
            "tee" => Some(seen.args[1] as i32),
            _ => seen.fd(),
        };
        let Some(target) = target else { return };
        let stream = self.descriptors.output_stream(target);
        let is_sent = self
            .descriptors
            .get(target)
            .is_some_and(|file| goes_away(&file.path));
        if stream.is_none() && !is_sent {
            return;
        }
        let mut data = Vec::new();
        if let Some(moved) = moved {
            data.extend_from_slice(&moved[..moved.len().min(ret as usize)]);
        } else if seen.call.moves_data() == Some(Moved::In) {
            data.extend(seen.passed_data(ret as u64));
        }
        match stream {
            Some(stream) => self.log.output(stream, &data),
            None if data.is_empty() => {}
            None => self.log.sent(target, &data),
        }
    }

    /// The path behind a descriptor that a call made: in live the kernel's, else the recorded or the asked-for.
    fn opened_path(&self, seen: &HookCall, ret: i64) -> Option<Vec<u8>> {
        if ret < 0 {
            return None;
        }
        let recorded = matches!(seen.opened, Some(Effect::Path(_)));
        let moves_dir = match seen.call.name {
            "chdir" | "fchdir" => true,
            // Where to, only a recording says.
            "setns" | "pivot_root" => recorded,
            _ => false,
        };
        if !seen.call.returns_fd() && !moves_dir {
            return None;
        }
        if let Some(Effect::Path(path)) = &seen.opened {
            return Some(path.clone());
        }
        let path = seen.path()?;
        let base = match seen.call.name {
            "openat" | "openat2" => self
                .descriptors
                .get(seen.args[0] as i32)
                .map(|dir| dir.path.as_slice()),
            _ => None,
        };
        Some(file_names::join(
            base.unwrap_or(self.descriptors.cwd()),
            &path,
        ))
    }
}

/// Whether what is written there is somebody else's then: a pipe, or a socket.
fn goes_away(path: &[u8]) -> bool {
    path.starts_with(b"pipe:[") || path.starts_with(b"socket:[")
}
