//! System V's IPC, message queues, futexes. What is made here is removed after the call.

use super::super::run::Case;
use super::super::setup::Setup;
use super::{case, fails};

const REMOVE: u64 = 0;
const STAT: u64 = 2;
const SET: u64 = 1;
const INFO: u64 = 3;

pub fn cases() -> Vec<Case> {
    let mut all = system_v();
    all.extend(queues());
    all.extend(futexes());
    all
}

/// A new object that is removed after the call.
fn made(s: &mut Setup, get: i64, ctl: i64, args: &[u64], position: usize) -> u64 {
    let id = s.call(get, args);
    assert!(id >= 0);
    remove(s, ctl, id as u64, position);
    id as u64
}

fn remove(s: &mut Setup, ctl: i64, id: u64, position: usize) {
    s.after(move |_| {
        let mut args = [id, 0, 0];
        args[position] = REMOVE;
        // SAFETY: nothing is passed by address.
        unsafe { libc::syscall(ctl, args[0], args[1], args[2], 0) };
    });
}

fn shared(s: &mut Setup) -> u64 {
    made(s, libc::SYS_shmget, libc::SYS_shmctl, &[0, 4096, 0o600], 1)
}

fn semaphores(s: &mut Setup) -> u64 {
    // IPC_RMID is 0, as the number of the semaphore is.
    made(s, libc::SYS_semget, libc::SYS_semctl, &[0, 3, 0o600], 2)
}

fn messages(s: &mut Setup) -> u64 {
    made(s, libc::SYS_msgget, libc::SYS_msgctl, &[0, 0o600], 1)
}

fn message(s: &mut Setup) -> u64 {
    let mut bytes = 7u64.to_le_bytes().to_vec();
    bytes.extend(b"hello");
    s.bytes(&bytes)
}

fn queued(s: &mut Setup) -> u64 {
    let (id, text) = (messages(s), message(s));
    assert_eq!(s.call(libc::SYS_msgsnd, &[id, text, 5, 0]), 0);
    id
}

/// Removes what the call made.
fn removes(s: &mut Setup, ctl: i64, position: usize) {
    s.after(move |id| {
        let mut args = [id as u64, 0, 0];
        args[position] = REMOVE;
        // SAFETY: nothing is passed by address.
        unsafe { libc::syscall(ctl, args[0], args[1], args[2], 0) };
    });
}

fn system_v() -> Vec<Case> {
    vec![
        case("shmget", "", |s| {
            removes(s, libc::SYS_shmctl, 1);
            vec![0, 4096, 0o600]
        }),
        case("shmat", "", |s| vec![shared(s), 0, 0]),
        case("shmdt", "", |s| {
            let id = shared(s);
            vec![s.call(libc::SYS_shmat, &[id, 0, 0]) as u64]
        }),
        case("shmctl", "IPC_STAT", |s| vec![shared(s), STAT, s.out(112)]),
        case("shmctl", "IPC_SET", |s| {
            let (id, data) = (shared(s), s.bytes(&[0; 112]));
            s.call(libc::SYS_shmctl, &[id, STAT, data]);
            vec![id, SET, data]
        }),
        case("shmctl", "IPC_INFO", |s| vec![0, INFO, s.out(72)]),
        case("shmctl", "SHM_INFO", |s| {
            shared(s);
            vec![0, 14, s.out(48)]
        }),
        case("shmctl", "IPC_RMID", |s| vec![shared(s), 0, 0]),
        case("semget", "", |s| {
            removes(s, libc::SYS_semctl, 2);
            vec![0, 3, 0o600]
        }),
        case("semop", "", |s| {
            vec![semaphores(s), s.bytes(&[0, 0, 1, 0, 0, 0]), 1]
        }),
        case("semtimedop", "", |s| {
            vec![
                semaphores(s),
                s.bytes(&[0, 0, 1, 0, 0, 0]),
                1,
                s.longs(&[1, 0]),
            ]
        }),
        case("semctl", "IPC_STAT", |s| {
            vec![semaphores(s), 0, STAT, s.out(104)]
        }),
        case("semctl", "IPC_INFO", |s| vec![0, 0, INFO, s.out(40)]),
        case("semctl", "SEM_INFO", |s| {
            semaphores(s);
            vec![0, 0, 19, s.out(40)]
        }),
        case("semctl", "GETALL", |s| vec![semaphores(s), 0, 13, s.out(6)]),
        case("semctl", "SETALL", |s| {
            vec![semaphores(s), 0, 17, s.bytes(&[1, 0, 2, 0, 3, 0])]
        }),
        case("semctl", "GETVAL", |s| vec![semaphores(s), 0, 12, 0]),
        case("semctl", "SETVAL", |s| vec![semaphores(s), 0, 16, 5]),
        case("semctl", "GETPID", |s| vec![semaphores(s), 0, 11, 0]),
        case("semctl", "IPC_RMID", |s| vec![semaphores(s), 0, 0, 0]),
        case("msgget", "", |s| {
            removes(s, libc::SYS_msgctl, 1);
            vec![0, 0o600]
        }),
        case("msgsnd", "", |s| vec![messages(s), message(s), 5, 0]),
        case("msgrcv", "", |s| vec![queued(s), s.out(40), 32, 0, 0]),
        case("msgrcv", "cut", |s| {
            vec![queued(s), s.out(11), 3, 0, libc::MSG_NOERROR as u64]
        }),
        case("msgctl", "IPC_STAT", |s| vec![queued(s), STAT, s.out(120)]),
        case("msgctl", "IPC_INFO", |s| vec![0, INFO, s.out(32)]),
        case("msgctl", "MSG_INFO", |s| {
            messages(s);
            vec![0, 12, s.out(32)]
        }),
        case("msgctl", "IPC_RMID", |s| vec![messages(s), 0, 0]),
    ]
}

/// A new message queue whose name is already gone.
fn queue(s: &mut Setup) -> u64 {
    let name = s.path(&format!("rrapper-{}", std::process::id()));
    let attr = s.longs(&[0, 4, 32, 0, 0, 0, 0, 0]);
    let flags = (libc::O_CREAT | libc::O_RDWR | libc::O_NONBLOCK) as u64;
    let fd = s.fd(libc::SYS_mq_open, &[name, flags, 0o600, attr]);
    assert_eq!(s.call(libc::SYS_mq_unlink, &[name]), 0);
    fd
}

fn queues() -> Vec<Case> {
    vec![
        case("mq_open", "", |s| {
            let text = format!("rrapper-{}", std::process::id());
            let name = s.path(&text);
            s.after(move |_| {
                let name = std::ffi::CString::new(text).unwrap();
                // SAFETY: the name is a string.
                unsafe { libc::syscall(libc::SYS_mq_unlink, name.as_ptr()) };
            });
            let attr = s.longs(&[0, 4, 32, 0, 0, 0, 0, 0]);
            vec![name, (libc::O_CREAT | libc::O_RDWR) as u64, 0o600, attr]
        }),
        case("mq_unlink", "", |s| {
            let name = s.path(&format!("rrapper-{}", std::process::id()));
            let flags = (libc::O_CREAT | libc::O_RDWR) as u64;
            s.fd(libc::SYS_mq_open, &[name, flags, 0o600, 0]);
            vec![name]
        }),
        case("mq_timedsend", "", |s| {
            vec![queue(s), s.bytes(b"hello"), 5, 3, s.longs(&[1, 0])]
        }),
        case("mq_timedreceive", "", |s| {
            let (fd, text) = (queue(s), s.bytes(b"hello"));
            assert_eq!(s.call(libc::SYS_mq_timedsend, &[fd, text, 5, 3, 0]), 0);
            vec![fd, s.out(32), 32, s.out(4), s.longs(&[1, 0])]
        }),
        case("mq_notify", "", |s| {
            let mut event = [0u8; 64];
            event[12] = 1; // SIGEV_NONE
            vec![queue(s), s.bytes(&event)]
        }),
        case("mq_getsetattr", "", |s| {
            vec![queue(s), s.longs(&[0; 8]), s.out(64)]
        }),
    ]
}

/// FUTEX_PRIVATE_FLAG.
const PRIVATE: u64 = 128;

fn futexes() -> Vec<Case> {
    vec![
        fails("futex", "FUTEX_WAIT", libc::ETIMEDOUT, |s| {
            vec![s.ints(&[5]), PRIVATE, 5, s.longs(&[0, 1000])]
        }),
        fails("futex", "FUTEX_WAIT_BITSET", libc::ETIMEDOUT, |s| {
            vec![
                s.ints(&[5]),
                9 | PRIVATE,
                5,
                s.longs(&[1, 0]),
                0,
                0xffff_ffff,
            ]
        }),
        case("futex", "FUTEX_WAKE", |s| {
            vec![s.ints(&[5]), 1 | PRIVATE, 1]
        }),
        case("futex", "FUTEX_WAKE_BITSET", |s| {
            vec![s.ints(&[5]), 10 | PRIVATE, 1, 0, 0, 1]
        }),
        case("futex", "FUTEX_REQUEUE", |s| {
            vec![s.ints(&[5]), 3 | PRIVATE, 1, 1, s.ints(&[6])]
        }),
        case("futex", "FUTEX_CMP_REQUEUE", |s| {
            vec![s.ints(&[5]), 4 | PRIVATE, 1, 1, s.ints(&[6]), 5]
        }),
        case("futex", "FUTEX_WAKE_OP", |s| {
            vec![s.ints(&[5]), 5 | PRIVATE, 1, 1, s.ints(&[6]), 0x0000_1000]
        }),
        case("futex", "FUTEX_LOCK_PI", |s| {
            vec![s.ints(&[0]), 6 | PRIVATE, 0, 0]
        }),
        case("futex", "FUTEX_LOCK_PI2", |s| {
            vec![s.ints(&[0]), 13 | PRIVATE, 0, 0]
        }),
        case("futex", "FUTEX_TRYLOCK_PI", |s| {
            vec![s.ints(&[0]), 8 | PRIVATE]
        }),
        case("futex", "FUTEX_UNLOCK_PI", |s| {
            let word = s.ints(&[0]);
            assert_eq!(s.call(libc::SYS_futex, &[word, 6 | PRIVATE, 0, 0]), 0);
            vec![word, 7 | PRIVATE]
        }),
        case("futex", "FUTEX_CMP_REQUEUE_PI", |s| {
            vec![s.ints(&[5]), 12 | PRIVATE, 1, 0, s.ints(&[0]), 5]
        }),
        fails("futex", "FUTEX_WAIT_REQUEUE_PI", libc::ETIMEDOUT, |s| {
            vec![
                s.ints(&[5]),
                11 | PRIVATE,
                5,
                s.longs(&[1, 0]),
                s.ints(&[0]),
            ]
        }),
        case("futex_wake", "", |s| vec![s.ints(&[5]), 1, 1, 2 | PRIVATE]),
        fails("futex_wait", "", libc::ETIMEDOUT, |s| {
            vec![s.ints(&[5]), 5, 1, 2 | PRIVATE, s.longs(&[1, 0]), 1]
        }),
        fails("futex_waitv", "", libc::ETIMEDOUT, |s| {
            let word = s.ints(&[5]);
            vec![s.longs(&[5, word, 2 | PRIVATE]), 1, 0, s.longs(&[1, 0]), 1]
        }),
        case("futex_requeue", "", |s| {
            let (a, b) = (s.ints(&[5]), s.ints(&[6]));
            vec![s.longs(&[5, a, 2 | PRIVATE, 6, b, 2 | PRIVATE]), 0, 1, 1]
        }),
    ]
}
