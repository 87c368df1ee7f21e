//! Calls by which a task waits for others without being asleep: it makes them again and again until something has
//! happened.

use super::task::Task;

/// Who asks for the time so often in a row waits for it to pass.
const CLOCK_CALLS: u32 = 8;

/// Who wakes nobody so often in a row waits for somebody to sleep there.
const WAKES: u32 = 8;

/// Who makes the same call so often in a row, and gets the same answer, waits for another.
const SAME: u32 = 32;

/// A call, and how often it was made in a row.
#[derive(Default)]
pub struct Repeated {
    call: (u32, [u64; 6], i64),
    times: u32,
}

impl Repeated {
    /// Takes note of a call. Whether it was made so often, since that was last so.
    fn is_enough(&mut self, nr: u32, args: [u64; 6], ret: i64) -> bool {
        let call = (nr, args, ret);
        if self.call != call {
            *self = Repeated { call, times: 0 };
        }
        self.times += 1;
        let wakes = i64::from(nr) == libc::SYS_futex
            && matches!(
                args[1] as i32 & 0x7f,
                libc::FUTEX_WAKE | libc::FUTEX_WAKE_BITSET
            )
            && ret == 0;
        let enough = self.times >= if wakes { WAKES } else { SAME };
        if enough {
            self.times = 0;
        }
        enough
    }
}

/// Whether the call that a task returns from with `ret` says that it can do nothing until others have.
pub fn waits(current: &mut Task, ret: i64) -> bool {
    let Some(event) = current.pending.as_ref().map(|pending| &pending.event) else {
        return false;
    };
    let enough = current.repeated.is_enough(event.nr, event.args, ret);
    match i64::from(event.nr) {
        libc::SYS_clock_gettime | libc::SYS_gettimeofday | libc::SYS_time => {
            current.clock_calls = (current.clock_calls + 1) % CLOCK_CALLS;
            return current.clock_calls == 0;
        }
        libc::SYS_sched_yield => return true,
        _ if enough => return true,
        // Its word has changed, so it has something to do.
        libc::SYS_futex => return false,
        libc::SYS_poll
        | libc::SYS_ppoll
        | libc::SYS_select
        | libc::SYS_pselect6
        | libc::SYS_epoll_wait
        | libc::SYS_epoll_pwait
        | libc::SYS_epoll_pwait2
        | libc::SYS_wait4
            if ret == 0 =>
        {
            return true;
        }
        _ => current.clock_calls = 0,
    }
    const AGAIN: i64 = -(libc::EAGAIN as i64);
    const NO_MESSAGE: i64 = -(libc::ENOMSG as i64);
    matches!(ret, AGAIN | NO_MESSAGE)
}
