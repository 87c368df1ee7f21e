//! Clocks, timers, signals, and waiting for descriptors.

use super::super::run::Case;
use super::super::setup::Setup;
use super::{case, fails};

const MONOTONIC: u64 = 1;

pub fn cases() -> Vec<Case> {
    let mut all = clocks();
    all.extend(signals());
    all.extend(waiting());
    all
}

fn clocks() -> Vec<Case> {
    vec![
        case("time", "", |s| vec![s.out(8)]),
        case("gettimeofday", "", |s| vec![s.out(16), s.out(8)]),
        case("clock_gettime", "", |s| vec![0, s.out(16)]),
        case("clock_getres", "", |s| vec![0, s.out(16)]),
        case("adjtimex", "to look", |s| vec![s.bytes(&[0; 208])]),
        case("clock_adjtime", "to look", |s| vec![0, s.bytes(&[0; 208])]),
        fails("clock_settime", "what cannot be set", libc::EINVAL, |s| {
            vec![MONOTONIC, s.longs(&[1, 0])]
        }),
        case("alarm", "", |_| vec![0]),
        case("getitimer", "", |s| vec![0, s.out(32)]),
        case("setitimer", "", |s| {
            vec![1, s.longs(&[0, 0, 9, 0]), s.out(32)]
        }),
        case("timer_create", "", |s| {
            let mut event = [0u8; 64];
            event[12] = 1; // SIGEV_NONE
            vec![MONOTONIC, s.bytes(&event), s.out(4)]
        }),
        case("timer_settime", "", |s| {
            vec![s.timer(), 0, s.longs(&[0, 0, 9, 0]), s.out(32)]
        }),
        case("timer_gettime", "", |s| vec![s.timer(), s.out(32)]),
        case("timer_getoverrun", "", |s| vec![s.timer()]),
        case("timer_delete", "", |s| vec![s.timer()]),
        case("timerfd_create", "", |_| vec![MONOTONIC, 0]),
        case("timerfd_settime", "", |s| {
            vec![timer(s), 0, s.longs(&[0, 0, 9, 0]), s.out(32)]
        }),
        case("timerfd_gettime", "", |s| vec![timer(s), s.out(32)]),
        case("nanosleep", "", |s| vec![s.longs(&[0, 1]), s.out(16)]),
        fails("nanosleep", "interrupted", libc::EINTR, |s| {
            let args = vec![s.longs(&[9, 0]), s.out(16)];
            s.interrupt();
            args
        }),
        case("clock_nanosleep", "", |s| {
            vec![MONOTONIC, 0, s.longs(&[0, 1]), s.out(16)]
        }),
        fails("clock_nanosleep", "interrupted", libc::EINTR, |s| {
            let args = vec![MONOTONIC, 0, s.longs(&[9, 0]), s.out(16)];
            s.interrupt();
            args
        }),
        fails(
            "clock_nanosleep",
            "until then, interrupted",
            libc::EINTR,
            |s| {
                let args = vec![0, 1, s.longs(&[1 << 33, 0]), s.out(16)];
                s.interrupt();
                args
            },
        ),
    ]
}

fn timer(s: &Setup) -> u64 {
    s.fd(libc::SYS_timerfd_create, &[MONOTONIC, 0])
}

fn signals() -> Vec<Case> {
    vec![
        case("rt_sigaction", "", |s| {
            vec![10, s.longs(&[1, 0, 0, 0]), s.out(32), 8]
        }),
        case("rt_sigprocmask", "", |s| {
            vec![0, s.signals(10), s.out(8), 8]
        }),
        case("rt_sigpending", "", |s| {
            s.block(libc::SIGUSR1, true);
            vec![s.out(8), 8]
        }),
        case("rt_sigtimedwait", "", |s| {
            s.block(libc::SIGUSR1, true);
            vec![s.signals(libc::SIGUSR1), s.out(128), s.longs(&[1, 0]), 8]
        }),
        fails("rt_sigtimedwait", "in vain", libc::EAGAIN, |s| {
            s.block(libc::SIGUSR1, false);
            vec![s.signals(libc::SIGUSR1), s.out(128), s.longs(&[0, 1]), 8]
        }),
        case("rt_sigqueueinfo", "", |s| {
            s.block(libc::SIGUSR1, false);
            let me = s.call(libc::SYS_getpid, &[]) as u64;
            vec![me, libc::SIGUSR1 as u64, queued(s)]
        }),
        case("rt_tgsigqueueinfo", "", |s| {
            s.block(libc::SIGUSR1, false);
            let me = s.call(libc::SYS_getpid, &[]) as u64;
            vec![me, me, libc::SIGUSR1 as u64, queued(s)]
        }),
        fails("rt_sigsuspend", "", libc::EINTR, |s| {
            let args = vec![s.longs(&[0]), 8];
            s.interrupt();
            args
        }),
        fails("pause", "", libc::EINTR, |s| {
            s.interrupt();
            vec![]
        }),
        case("sigaltstack", "", |s| {
            let page = s.page();
            vec![s.longs(&[page, 0, 4096]), s.out(24)]
        }),
    ]
}

/// A siginfo as a program may send it.
fn queued(s: &mut Setup) -> u64 {
    let mut info = [0u8; 128];
    info[8..12].copy_from_slice(&(-1i32).to_le_bytes());
    s.bytes(&info)
}

fn waiting() -> Vec<Case> {
    vec![
        case("poll", "one is ready", |s| {
            let (ready, not) = (s.pipe_of(b"x") as i32, s.pipe().0 as i32);
            vec![s.ints(&[ready, 1, not, 1, -1, 1]), 3, 0]
        }),
        case("poll", "none is ready", |s| {
            let not = s.pipe().0 as i32;
            vec![s.ints(&[not, 1]), 1, 1]
        }),
        fails("poll", "interrupted", libc::EINTR, |s| {
            let not = s.pipe().0 as i32;
            let args = vec![s.ints(&[not, 1]), 1, u64::MAX];
            s.interrupt();
            args
        }),
        case("ppoll", "one is ready", |s| {
            let ready = s.pipe_of(b"x") as i32;
            vec![s.ints(&[ready, 1]), 1, s.longs(&[5, 0]), s.longs(&[0]), 8]
        }),
        case("ppoll", "time is up", |s| {
            let not = s.pipe().0 as i32;
            vec![s.ints(&[not, 1]), 1, s.longs(&[0, 1000]), 0, 8]
        }),
        case("select", "one is ready", |s| {
            let (ready, other) = (s.pipe_of(b"x"), s.pipe().0);
            let (both, none) = (1 << ready | 1 << other, 0);
            vec![
                64,
                s.longs(&[both]),
                s.longs(&[none]),
                s.longs(&[both]),
                s.longs(&[5, 0]),
            ]
        }),
        case("select", "time is up", |s| {
            let other = s.pipe().0;
            vec![other + 1, s.longs(&[1 << other]), 0, 0, s.longs(&[0, 1000])]
        }),
        fails("select", "interrupted", libc::EINTR, |s| {
            let other = s.pipe().0;
            let args = vec![other + 1, s.longs(&[1 << other]), 0, 0, s.longs(&[5, 0])];
            s.interrupt();
            args
        }),
        case("pselect6", "one is ready", |s| {
            let ready = s.pipe_of(b"x");
            let mask = s.longs(&[0]);
            vec![
                64,
                s.longs(&[1 << ready]),
                0,
                0,
                s.longs(&[5, 0]),
                s.longs(&[mask, 8]),
            ]
        }),
        case("epoll_ctl", "", |s| {
            let fd = s.fd(libc::SYS_epoll_create1, &[0]);
            vec![fd, 1, s.pipe().0, s.ints(&[1, 2, 3])]
        }),
        case("epoll_ctl", "to remove", |s| {
            let fd = epoll(s);
            vec![fd.0, 2, fd.1, 0]
        }),
        case("epoll_wait", "", |s| vec![epoll(s).0, s.out(36), 3, 0]),
        case("epoll_pwait", "", |s| {
            vec![epoll(s).0, s.out(36), 3, 0, s.longs(&[0]), 8]
        }),
        case("epoll_pwait2", "", |s| {
            vec![epoll(s).0, s.out(36), 3, s.longs(&[0, 0]), 0, 8]
        }),
        case("epoll_wait", "nothing", |s| {
            vec![s.fd(libc::SYS_epoll_create1, &[0]), s.out(36), 3, 0]
        }),
    ]
}

/// An epoll descriptor with a ready pipe in it, and the pipe.
fn epoll(s: &mut Setup) -> (u64, u64) {
    let (fd, ready) = (s.fd(libc::SYS_epoll_create1, &[0]), s.pipe_of(b"x"));
    let event = s.ints(&[1, 2, 3]);
    assert_eq!(s.call(libc::SYS_epoll_ctl, &[fd, 1, ready, event]), 0);
    (fd, ready)
}
