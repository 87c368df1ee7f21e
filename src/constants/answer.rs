//! The answer of a system call: a value, an errno, or one of the kernel's restart codes.
//!
//! The kernel puts all of them into one register. Only this module tells the numbers apart.

/// Negative numbers down to this one are errnos (`MAX_ERRNO` in the kernel's `linux/err.h`).
pub const MAX_ERRNO: u16 = 4095;

/// `ERESTARTSYS` of the kernel's `linux/errno.h`: the first of the codes that only tracers see.
pub const RESTART_SYS: i32 = 512;

/// `ERESTART_RESTARTBLOCK`, the last of these codes: `restart_syscall` continues the call.
pub const RESTART_BLOCK: i32 = 516;

/// The answer of a system call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Answer {
    /// The call returned this value.
    Value(i64),
    /// The call failed with this errno (positive).
    Errno(i32),
    /// A signal interrupted the call, and the kernel restarts it (`? ERESTARTSYS` and similar codes; the kernel's
    /// number, 512 to 516).
    Restart(i32),
    /// The call never returned (`= ?`): exit_group, or the process died.
    Never,
}

impl Answer {
    /// The contents of the return register: negative is -errno. `None` if the call never returned.
    pub fn raw(self) -> Option<i64> {
        match self {
            Answer::Value(v) => Some(v),
            Answer::Errno(e) | Answer::Restart(e) => Some(-i64::from(e)),
            Answer::Never => None,
        }
    }

    /// The answer that the contents of the return register stand for.
    pub fn from_raw(raw: i64) -> Answer {
        if is_restart(raw) {
            Answer::Restart(-raw as i32)
        } else if is_error(raw) {
            Answer::Errno(-raw as i32)
        } else {
            Answer::Value(raw)
        }
    }
}

impl From<i64> for Answer {
    fn from(raw: i64) -> Answer {
        Answer::from_raw(raw)
    }
}

/// Returns whether a return register holds an errno, or a code of [`is_restart`].
pub const fn is_error(raw: i64) -> bool {
    -(MAX_ERRNO as i64) <= raw && raw < 0
}

/// Returns whether a return register holds one of the kernel's codes for a call that a signal has interrupted.
pub const fn is_restart(raw: i64) -> bool {
    -(RESTART_BLOCK as i64) <= raw && raw <= -(RESTART_SYS as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_number_is_of_one_kind() {
        let kinds = [
            (0, Answer::Value(0)),
            (i64::MAX, Answer::Value(i64::MAX)),
            (-1, Answer::Errno(1)),
            (-511, Answer::Errno(511)),
            (-512, Answer::Restart(512)),
            (-516, Answer::Restart(516)),
            (-517, Answer::Errno(517)),
            (-4095, Answer::Errno(4095)),
            (-4096, Answer::Value(-4096)),
            (i64::MIN, Answer::Value(i64::MIN)),
        ];
        for (raw, answer) in kinds {
            assert_eq!(Answer::from_raw(raw), answer);
            assert_eq!(answer.raw(), Some(raw));
        }
        assert_eq!(Answer::Never.raw(), None);
    }
}
