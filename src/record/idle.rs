//! Calls by which a task waits for others without being asleep: it makes them again and again until something has
//! happened.

use super::task::Task;

/// Who asks for the time so often in a row waits for it to pass.
const CLOCK_CALLS: u32 = 8;

/// Whether the call that a task returns from with `ret` says that it can do nothing until others have.
pub fn waits(me: &mut Task, ret: i64) -> bool {
    let Some(event) = me.pending.as_ref().map(|pending| &pending.event) else {
        return false;
    };
    match i64::from(event.nr) {
        libc::SYS_clock_gettime | libc::SYS_gettimeofday | libc::SYS_time => {
            me.clock_calls = (me.clock_calls + 1) % CLOCK_CALLS;
            return me.clock_calls == 0;
        }
        libc::SYS_sched_yield => return true,
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
        _ => me.clock_calls = 0,
    }
    const AGAIN: i64 = -(libc::EAGAIN as i64);
    const NO_MESSAGE: i64 = -(libc::ENOMSG as i64);
    matches!(ret, AGAIN | NO_MESSAGE)
}
