use super::*;
use crate::image::Chunk;
use crate::recording::ChunkMemory;

const LOAD: u16 = 0x20;
const EQUALS: u16 = 0x15;
const RETURN: u16 = 0x06;

const ALLOW: u32 = libc::SECCOMP_RET_ALLOW;
const DENY: u32 = libc::SECCOMP_RET_ERRNO | libc::EPERM as u32;

/// A filter that has an action for one number, and another for all others.
fn filter(nr: i32, action: u32, otherwise: u32) -> Vec<u8> {
    let list = [
        (LOAD, 0, 0, 0),
        (EQUALS, 0, 1, nr as u32),
        (RETURN, 0, 0, action),
        (RETURN, 0, 0, otherwise),
    ];
    code(&list)
}

fn code(list: &[(u16, u8, u8, u32)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (code, jt, jf, k) in list {
        bytes.extend(code.to_le_bytes());
        bytes.extend([*jt, *jf]);
        bytes.extend(k.to_le_bytes());
    }
    bytes
}

/// A program in memory: its `struct sock_fprog` is at 0x1000.
fn program(code: &[u8]) -> Vec<Chunk> {
    let mut head = ((code.len() / 8) as u64).to_le_bytes().to_vec();
    head.extend(0x2000u64.to_le_bytes());
    vec![
        Chunk {
            addr: 0x1000,
            data: head,
        },
        Chunk {
            addr: 0x2000,
            data: code.to_vec(),
        },
    ]
}

fn with(filters: &[Vec<u8>]) -> State {
    let mut state = State::default();
    for code in filters {
        FilterCall::Filter(0, 0x1000).follow(&mut state, &ChunkMemory(&program(code)));
    }
    assert_eq!(state.mode(), 2);
    state
}

fn call(nr: i32) -> Call {
    Call {
        nr,
        arch: NATIVE,
        ..Call::default()
    }
}

fn asked(args: [u64; 3]) -> Option<FilterCall> {
    let [a, b, c] = args;
    FilterCall::by(libc::SYS_seccomp, &[a, b, c, 0, 0, 0])
}

fn answer(asked: FilterCall, state: &State, chunks: &[Chunk]) -> i64 {
    asked.answer(state, &ChunkMemory(chunks), false, [])
}

fn errno(errno: i32) -> i64 {
    -i64::from(errno)
}

#[test]
fn the_gravest_counts_and_of_the_same_the_newest() {
    let all = [
        libc::SECCOMP_RET_KILL_PROCESS,
        libc::SECCOMP_RET_KILL_THREAD,
        libc::SECCOMP_RET_TRAP | 7,
        libc::SECCOMP_RET_ERRNO | 9,
        libc::SECCOMP_RET_USER_NOTIF,
        libc::SECCOMP_RET_TRACE,
        libc::SECCOMP_RET_LOG,
        libc::SECCOMP_RET_ALLOW,
    ];
    let verdicts = [
        Verdict::Kill(Kill::Process),
        Verdict::Kill(Kill::Thread),
        Verdict::Trap(7),
        Verdict::Answer(Answer::from_raw(-9)),
        Verdict::Answer(Answer::from_raw(errno(libc::ENOSYS))),
        Verdict::Answer(Answer::from_raw(errno(libc::ENOSYS))),
        Verdict::Make,
        Verdict::Make,
    ];
    for (one, &first) in all.iter().enumerate() {
        for (other, &second) in all.iter().enumerate() {
            let state = with(&[filter(1, first, ALLOW), filter(1, second, ALLOW)]);
            assert_eq!(state.verdict(&call(1)), verdicts[one.min(other)]);
            assert_eq!(state.verdict(&call(2)), Verdict::Make);
        }
    }
    let twice = with(&[
        filter(1, libc::SECCOMP_RET_ERRNO | 1, ALLOW),
        filter(1, libc::SECCOMP_RET_ERRNO | 2, ALLOW),
    ]);
    assert_eq!(
        twice.verdict(&call(1)),
        Verdict::Answer(Answer::from_raw(-2))
    );
}

#[test]
fn actions_that_there_are_not_kill_and_errors_end_somewhere() {
    let state = with(&[filter(1, 0x1234_0000, libc::SECCOMP_RET_ERRNO | 0xffff)]);
    assert_eq!(state.verdict(&call(1)), Verdict::Kill(Kill::Process));
    assert_eq!(
        state.verdict(&call(2)),
        Verdict::Answer(Answer::from_raw(-4095))
    );
    let zero = with(&[filter(1, libc::SECCOMP_RET_ERRNO, ALLOW)]);
    assert_eq!(zero.verdict(&call(1)), Verdict::Answer(Answer::from_raw(0)));
}

#[test]
fn what_depends_on_arguments_is_asked_again() {
    let list = [
        (LOAD, 0, 0, 16),
        (EQUALS, 0, 1, 5),
        (RETURN, 0, 0, DENY),
        (RETURN, 0, 0, ALLOW),
    ];
    // The one behind it looks at the number alone.
    let state = with(&[code(&list), filter(9, DENY, ALLOW)]);
    for (first, verdict) in [
        (5, Verdict::Answer(Answer::from_raw(errno(libc::EPERM)))),
        (6, Verdict::Make),
        (5, Verdict::Answer(Answer::from_raw(errno(libc::EPERM)))),
    ] {
        let mut call = call(1);
        call.args[0] = first;
        assert_eq!(state.verdict(&call), verdict);
    }
}

#[test]
fn other_abis_do_not_get_what_is_known_of_this_one() {
    let list = [
        (LOAD, 0, 0, 4),
        (EQUALS, 0, 1, NATIVE),
        (RETURN, 0, 0, ALLOW),
        (RETURN, 0, 0, libc::SECCOMP_RET_KILL_PROCESS),
    ];
    let state = with(&[code(&list)]);
    let foreign = Call {
        arch: 0x4000_0003,
        ..call(1)
    };
    assert_eq!(state.verdict(&foreign), Verdict::Kill(Kill::Process));
    assert_eq!(state.verdict(&call(1)), Verdict::Make);
}

#[test]
fn strict_mode_leaves_four_calls() {
    let mut state = State::default();
    FilterCall::Strict.follow(&mut state, &ChunkMemory(&[]));
    assert_eq!(state.mode(), 1);
    for nr in [
        libc::SYS_read,
        libc::SYS_write,
        libc::SYS_exit,
        libc::SYS_rt_sigreturn,
    ] {
        assert_eq!(state.verdict(&call(nr as i32)), Verdict::Make);
    }
    for nr in [libc::SYS_exit_group, libc::SYS_getpid, -1] {
        assert_eq!(state.verdict(&call(nr as i32)), Verdict::Kill(Kill::Strict));
    }
}

#[test]
fn who_only_asks_whether_there_are_filters_is_told() {
    let state = State::default();
    let strict = asked([0, 1, 0]).unwrap();
    assert_eq!(answer(strict, &state, &[]), errno(libc::EINVAL));
    for (flags, expected) in [
        (0, libc::EFAULT),
        (TSYNC, libc::EFAULT),
        (LOG | SPEC_ALLOW, libc::EFAULT),
        (NEW_LISTENER, libc::EFAULT),
        (TSYNC | NEW_LISTENER, libc::EINVAL),
        (1 << 20, libc::EINVAL),
    ] {
        let asked = asked([1, flags, 0]).unwrap();
        assert_eq!(answer(asked, &state, &[]), errno(expected), "{flags:#x}");
    }
    assert_eq!(asked([2, 0, 0x1000]), None);
    assert_eq!(asked([3, 0, 0x1000]), None);
    assert_eq!(asked([4, 0, 0x1000]), Some(FilterCall::Nonsense));
    let prctl = |args: [u64; 2]| FilterCall::by(libc::SYS_prctl, &[args[0], args[1], 0, 0, 0, 0]);
    let set = libc::PR_SET_SECCOMP as u64;
    assert_eq!(prctl([set, 1]), Some(FilterCall::Strict));
    assert_eq!(prctl([set, 2]), Some(FilterCall::Filter(0, 0)));
    assert_eq!(prctl([set, 3]), Some(FilterCall::Nonsense));
    assert_eq!(
        prctl([libc::PR_GET_SECCOMP as u64, 0]),
        Some(FilterCall::Mode)
    );
    assert_eq!(prctl([libc::PR_SET_NAME as u64, 0]), None);
}

const TSYNC: u64 = libc::SECCOMP_FILTER_FLAG_TSYNC;
const LOG: u64 = libc::SECCOMP_FILTER_FLAG_LOG;
const SPEC_ALLOW: u64 = libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW;
const NEW_LISTENER: u64 = libc::SECCOMP_FILTER_FLAG_NEW_LISTENER;

#[test]
fn filters_need_a_promise_or_privileges() {
    let chunks = program(&filter(1, DENY, ALLOW));
    let asked = FilterCall::Filter(0, 0x1000);
    let mut state = State::default();
    assert_eq!(answer(asked, &state, &chunks), errno(libc::EACCES));
    assert_eq!(asked.answer(&state, &ChunkMemory(&chunks), true, []), 0);
    state.no_new_privs = true;
    assert_eq!(answer(asked, &state, &chunks), 0);
    assert_eq!(
        answer(FilterCall::Filter(NEW_LISTENER, 0x1000), &state, &chunks),
        errno(libc::EINVAL)
    );
    // Too short or too long is found before that, whatever else is wrong afterwards.
    state.no_new_privs = false;
    let mut empty = chunks.clone();
    empty[0].data[0] = 0;
    assert_eq!(answer(asked, &state, &empty), errno(libc::EINVAL));
    state.no_new_privs = true;
    assert_eq!(answer(asked, &state, &chunks[..1]), errno(libc::EFAULT));
    let senseless = program(&code(&[(LOAD, 0, 0, 0)]));
    assert_eq!(answer(asked, &state, &senseless), errno(libc::EINVAL));
    let after = with(&[filter(1, DENY, ALLOW)]);
    assert_eq!(answer(FilterCall::Strict, &after, &[]), errno(libc::EINVAL));
}

#[test]
fn all_threads_get_filters_unless_one_has_others() {
    let chunks = program(&filter(1, DENY, ALLOW));
    let memory = ChunkMemory(&chunks);
    let mut maker = with(&[filter(2, DENY, ALLOW)]);
    maker.no_new_privs = true;
    let (off, same, apart) = (
        State::default(),
        maker.clone(),
        with(&[filter(2, DENY, ALLOW)]),
    );
    let all = FilterCall::Filter(TSYNC, 0x1000);
    assert_eq!(
        all.answer(&maker, &memory, false, [(7, &off), (8, &same)]),
        0
    );
    assert_eq!(
        all.answer(&maker, &memory, false, [(7, &off), (8, &apart)]),
        8
    );
    let named = FilterCall::Filter(TSYNC | libc::SECCOMP_FILTER_FLAG_TSYNC_ESRCH, 0x1000);
    let refused = named.answer(&maker, &memory, false, [(8, &apart)]);
    assert_eq!(refused, errno(libc::ESRCH));
    // A thread with more filters than the caller is not its descendant.
    let mut more = same.clone();
    FilterCall::Filter(0, 0x1000).follow(&mut more, &memory);
    assert_eq!(all.answer(&maker, &memory, false, [(9, &more)]), 9);
    all.follow(&mut maker, &memory);
    let mut other = off.clone();
    all.share(&maker, &mut other);
    assert!(other.no_new_privs);
    assert_eq!(
        other.verdict(&call(1)),
        Verdict::Answer(Answer::from_raw(errno(libc::EPERM)))
    );
    let mut alone = off;
    FilterCall::Filter(0, 0x1000).share(&maker, &mut alone);
    assert!(alone.is_off());
}

#[test]
fn there_are_not_endlessly_many() {
    let long = code(&vec![(RETURN, 0, 0, ALLOW); 4096]);
    let mut state = State {
        no_new_privs: true,
        ..State::default()
    };
    let chunks = program(&long);
    let asked = FilterCall::Filter(0, 0x1000);
    let mut added = 0;
    while answer(asked, &state, &chunks) == 0 {
        asked.follow(&mut state, &ChunkMemory(&chunks));
        added += 1;
        assert!(added < 100);
    }
    assert_eq!(added, 7);
    assert_eq!(answer(asked, &state, &chunks), errno(libc::ENOMEM));
    let chain = with(&vec![code(&[(RETURN, 0, 0, ALLOW)]); 6000]);
    assert_eq!(chain.verdict(&call(1)), Verdict::Make);
}
