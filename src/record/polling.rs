//! Polling: calls that a task repeats until another task has done something, instead of sleeping.

use super::task::Task;

/// The number of consecutive reads of a clock that count as waiting for time to pass.
const CLOCK_CALLS: u32 = 8;

/// The number of consecutive futex wakes without a sleeper that count as waiting for one.
const WAKES: u32 = 8;

/// The number of consecutive equal calls with equal results that count as waiting for another result.
const SAME: u32 = 32;

/// A call, and the number of its consecutive repetitions.
#[derive(Default)]
pub struct Repeated {
    call: (u32, [u64; 6], i64),
    times: u32,
}

impl Repeated {
    /// Counts a call. Returns whether it was repeated often enough since the last time that this was so.
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

/// Returns whether a call that returned `ret` shows that the task waits for other tasks.
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
        // The futex word has changed, so the task does not wait.
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
