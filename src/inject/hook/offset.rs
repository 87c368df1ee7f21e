//! The file offset that a call is about.

use super::{ChangeError, HookCall, Phase};
use crate::kernel::path_has_offset;
use crate::syscall::{Kind, PathStep};
use crate::trace::Value;
use crate::tracee::proc;

type Result<T> = std::result::Result<T, ChangeError>;

impl HookCall {
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

    /// The descriptor's offset before the call, as the kernel has it: of a process that is live.
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
    /// If the call has no such argument, or has been made.
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
        let way: &[PathStep] = match self.call.args.get(arg).map(|arg| &arg.kind) {
            Some(Kind::Ptr(..)) => &[PathStep::Element(0)],
            _ => &[],
        };
        self.change(arg, way, &Value::Int(offset))
    }
}
