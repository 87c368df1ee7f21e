//! Recordings of several processes and threads, through the library: copies of any process at any event, with all of
//! its threads.

use crate::common::Folder;
use rrapper::history::Recording;
use rrapper::image::Chunk;
use rrapper::inject::{NoHooks, Options, Sandbox, Script, Status, inject, live};
use rrapper::process::{Process, StopPoint};
use rrapper::recording::{Frame, Jump, NewTask, Writer};
use rrapper::replay::{CheckpointLimits, Replay, Replayer};
use rrapper::trace::Exit;
use rrapper::tracee::{Regs, TaskMemory, proc};
use std::sync::Arc;
use std::time::Duration;

const PIPELINE: &str = "echo $(echo hi | cat); for i in 1 2 3; do (exit $i); echo $?; done; seq 1 200 | sort -n | tail -1";

const THREADS: &str = "
import threading
done = []
all_there = threading.Barrier(4)
def work(n):
    all_there.wait()
    for k in range(300): done.append(n)
threads = [threading.Thread(target=work, args=(n,)) for n in range(3)]
for t in threads: t.start()
all_there.wait()
for t in threads: t.join()
print(len(done))
";

/// A recording of this command.
fn record(folder: &Folder, argv: &[&str]) -> Arc<Recording> {
    let recorded = folder.record("rec", argv);
    assert_eq!(recorded.code, Some(0), "{}", recorded.stderr);
    let replayed = folder.rrapper(["replay", "rec"]);
    assert_eq!(
        (replayed.text(), replayed.code),
        (recorded.text(), recorded.code),
        "{}",
        replayed.stderr
    );
    Arc::new(Recording::open(&folder.join("rec")).unwrap())
}

/// Parts of memory: first address, end, hash.
type Memory = Vec<(u64, u64, u64)>;

/// What a copy is: its mappings and what is in them, but for rrapper's own.
fn memory(memory: TaskMemory) -> Memory {
    // How the kernel divides ranges depends on their past.
    let mut ranges: Vec<(u64, u64, i32)> = Vec::new();
    for map in proc::maps(memory.tid()).unwrap() {
        let ours = (0x7000_0000..0x7001_0000).contains(&map.start);
        if ours || map.prot & libc::PROT_READ == 0 || map.name == b"[vsyscall]" {
            continue;
        }
        match ranges.last_mut() {
            Some((_, end, prot)) if (*end, *prot) == (map.start, map.prot) => *end = map.end,
            _ => ranges.push((map.start, map.end, map.prot)),
        }
    }
    let hash = |(start, end, _): (u64, u64, i32)| {
        let mut hash = 0u64;
        let mut buf = vec![0; 1 << 16];
        for at in (start..end).step_by(buf.len()) {
            let len = buf.len().min((end - at) as usize);
            // What lies behind a file's end cannot be read.
            let n = rrapper::syscall::Memory::read(&memory, at, &mut buf[..len]);
            hash = hash.wrapping_mul(31) + u64::from(crc32fast::hash(&buf[..n]));
        }
        (start, end, hash)
    };
    ranges.into_iter().map(hash).collect()
}

/// What tells one copy from another: each thread's place and registers, and memory.
fn state(process: &Process) -> (Vec<String>, Memory) {
    let regs =
        |tid: i32, place: StopPoint, regs: Regs| format!("{tid} {place:?} {:x?}", regs.to_words());
    let mut threads = vec![regs(
        process.driven.tid,
        process.driven.place,
        process.driven.task.regs().unwrap(),
    )];
    for thread in &process.threads {
        threads.push(regs(thread.tid, thread.place, thread.task.regs().unwrap()));
    }
    (threads, memory(process.memory()))
}

/// Of these events, so many, evenly spread.
fn spread(events: &[u64], count: usize) -> Vec<u64> {
    (1..=count)
        .map(|n| events[events.len() * n / count - 1])
        .collect()
}

/// Spins off every process at these events, and checks that each copy is what was recorded. `alone`: no process has
/// threads, so that each copy can be driven through its recording.
fn spin_off_all(recording: &Arc<Recording>, events: &[u64], alone: bool) -> (usize, usize) {
    let mut replay = Replayer::new(Arc::clone(recording));
    let (mut copies, mut threads) = (0, 0);
    for &number in events {
        replay.replay_to(number).unwrap();
        let event = recording.event(number).unwrap();
        assert_eq!(replay.position(), Some((number, &event)));
        let processes = replay.processes();
        let own = replay.pid().unwrap();
        assert!(processes[&own].contains(&event.tid));
        for (&pid, tids) in &processes {
            let named = if number.is_multiple_of(2) {
                pid
            } else {
                tids[tids.len() - 1]
            };
            let mut copy = replay.spin_off(Some(named)).unwrap();
            assert_eq!((copy.group.pid, &copy.tids()), (pid, tids));
            if pid == own {
                assert_eq!(copy.driven.tid, event.tid);
                if let Some(call) = event.call().filter(|_| number > 1) {
                    let regs = copy.driven.task.regs().unwrap();
                    assert_eq!(copy.driven.place, StopPoint::Entry);
                    assert_eq!((regs.nr(), regs.ip()), (i64::from(call.nr), call.ip));
                }
            } else {
                assert_eq!(copy.driven.tid, named);
            }
            let twin = copy.fork().unwrap();
            assert_eq!(state(&twin), state(&copy));
            threads += copy.threads.len();
            copies += 1;
            if !alone {
                continue;
            }
            let script = Script::of_recording(&copy).unwrap();
            let driven = inject(copy, script, &mut NoHooks, &Options::default()).unwrap();
            let outcome = driven.outcome;
            assert_eq!(outcome.divergence, None, "process {pid} at event {number}");
            assert!(
                matches!(
                    outcome.status,
                    Status::Exited | Status::Signaled | Status::Completed
                ),
                "process {pid} at event {number}: {:?}",
                outcome.status
            );
        }
    }
    (copies, threads)
}

#[test]
fn processes_of_a_pipeline_are_spun_off_anywhere() {
    let folder = Folder::new();
    let recording = record(&folder, &["bash", "-c", PIPELINE]);
    let all: Vec<u64> = (1..=recording.len()).collect();
    let (copies, _) = spin_off_all(&recording, &spread(&all, 25), true);
    assert!(copies > 40, "several processes at once: {copies}");
}

#[test]
fn threads_come_along() {
    let folder = Folder::new();
    let recording = record(&folder, &["python3", "-c", THREADS]);
    let mut frames = recording.frames_from(1).unwrap();
    let (mut number, mut threads, mut events) = (0, Vec::new(), Vec::new());
    while let Some(frame) = frames.next_frame().unwrap() {
        match frame {
            Frame::NewTask(born) if born.tid != born.pid => threads.push(born.tid),
            Frame::Event(event) => {
                number += 1;
                if threads.contains(&event.tid) {
                    events.push(number);
                }
            }
            _ => {}
        }
    }
    let (_, threads) = spin_off_all(&recording, &spread(&events, 20), false);
    assert!(threads >= 20, "several threads at once: {threads}");
}

/// Numbers that look random: xorshift.
fn random(seed: u64) -> impl FnMut() -> u64 {
    let mut state = seed;
    move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    }
}

/// What each process is at the event at which the replay stands.
fn states(replay: &mut Replayer) -> Vec<(Vec<String>, Memory)> {
    let pids: Vec<i32> = replay.processes().into_keys().collect();
    let copies = pids
        .into_iter()
        .map(|pid| replay.spin_off(Some(pid)).unwrap());
    copies.map(|copy| state(&copy)).collect()
}

/// Goes back and forth between events, and compares with going there for the first time.
fn go_anywhere(recording: &Arc<Recording>, rounds: usize) {
    let mut replay = Replayer::new(Arc::clone(recording));
    replay.set_checkpoints(CheckpointLimits {
        count: 4,
        events: 40,
        ..CheckpointLimits::default()
    });
    replay.replay_to(recording.len()).unwrap();
    let kept = replay.checkpoints();
    assert!(!kept.is_empty() && kept.len() <= 4, "{kept:?}");
    let mut random = random(0x9e37_79b9_7f4a_7c15);
    for _ in 0..rounds {
        let event = 1 + random() % recording.len();
        replay.replay_to(event).unwrap();
        let mut fresh = Replayer::new(Arc::clone(recording));
        fresh.replay_to(event).unwrap();
        let (here, there) = (states(&mut replay), states(&mut fresh));
        assert_eq!(here.len(), there.len());
        for (here, there) in here.iter().zip(&there) {
            let kept = replay.checkpoints();
            assert_eq!(here.0, there.0, "threads at {event}, checkpoints {kept:?}");
            let unlike = |a: &Memory, b: &Memory| -> Memory {
                a.iter().filter(|part| !b.contains(part)).copied().collect()
            };
            assert_eq!(
                unlike(&here.1, &there.1),
                unlike(&there.1, &here.1),
                "memory at {event}, checkpoints {kept:?}"
            );
        }
        assert_eq!(replay.position(), fresh.position());
        assert!(replay.checkpoints().len() <= 4);
    }
    assert_eq!(replay.run_to_end().unwrap(), recording.exit());
    drop(replay);
    assert_eq!(children(), Vec::<String>::new(), "nothing is left");
}

/// Processes that this thread has made.
fn children() -> Vec<String> {
    let children = std::fs::read_to_string("/proc/thread-self/children").unwrap();
    children.split_whitespace().map(str::to_string).collect()
}

#[test]
fn checkpoints_lead_to_where_the_beginning_does() {
    let folder = Folder::new();
    let loop_of_forks =
        "for i in $(seq 150); do (exit $i); done; echo $(seq 1 50 | sort -n | tail -1)";
    go_anywhere(&record(&folder, &["bash", "-c", loop_of_forks]), 50);
}

#[test]
fn checkpoints_have_threads_and_shared_memory_of_their_own() {
    let folder = Folder::new();
    let program = "
import mmap, os, threading
shared = mmap.mmap(-1, 65536)
lock = threading.Lock()
def work(n):
    for k in range(200):
        with lock: shared[n * 200 + k] = 1 + n
        os.getppid()
for round in range(3):
    pid = os.fork()
    if pid == 0:
        shared[60000 + round] = 77
        os._exit(0)
    os.waitpid(pid, 0)
threads = [threading.Thread(target=work, args=(n,)) for n in range(3)]
for t in threads: t.start()
for t in threads: t.join()
print(sum(shared[:]))
";
    go_anywhere(&record(&folder, &["python3", "-c", program]), 20);
}

/// A recording that begins like this one, up to the entry of the call behind event `upto`, and goes on with these frames.
fn forged(
    folder: &Folder,
    real: &Recording,
    upto: u64,
    name: &str,
    frames: &[Frame],
) -> Arc<Recording> {
    let dir = folder.join(name);
    let mut writer = Writer::create(&dir).unwrap();
    writer.write(&Frame::Start(real.start().clone())).unwrap();
    let mut real_frames = real.frames_from(1).unwrap();
    let mut events = 0;
    while let Some(frame) = real_frames.next_frame().unwrap() {
        if matches!(frame, Frame::Event(_)) {
            events += 1;
        }
        if events > upto {
            break;
        }
        writer.write(&frame).unwrap();
    }
    for frame in frames {
        writer.write(frame).unwrap();
    }
    // What follows has the task run on.
    writer
        .write(&Frame::Event(real.event(upto + 1).unwrap()))
        .unwrap();
    writer.flush().unwrap();
    drop(writer);
    for file in std::fs::read_dir(real.dir().join("files")).unwrap() {
        let file = file.unwrap();
        let to = dir.join("files").join(file.file_name());
        std::fs::copy(file.path(), to).unwrap();
    }
    Arc::new(Recording::open(&dir).unwrap())
}

#[test]
fn frames_that_make_no_sense_end_the_replay() {
    let folder = Folder::new();
    let real = record(&folder, &["cat", "/etc/hostname"]);
    let pid = real.start().pid;
    let upto = (1..real.len())
        .find(|&n| {
            real.event(n)
                .unwrap()
                .call()
                .is_some_and(|c| c.name() == "openat")
        })
        .unwrap();
    let born = |tid: i32, maker: i32, flags: i32| {
        Frame::NewTask(NewTask {
            tid,
            pid: tid,
            maker,
            flags: flags as u64,
            stack: 0,
            tls: 0,
            parent_tid: 0x10,
            child_tid: 0x10,
            numbers: Vec::new(),
            named: tid,
        })
    };
    let run = Frame::Run { tid: pid };
    let jump = |regs: usize, vector: usize| {
        Frame::Jump(Jump {
            tid: pid,
            regs: vec![0; regs],
            vector: vec![0; vector],
            pages: Vec::new(),
            same: vec![(u64::MAX - 0x1000, u32::MAX)],
        })
    };
    let chunk = |addr| Chunk {
        addr,
        data: vec![1; 8],
    };
    let poke = |tid, addr| Frame::Poke {
        tid,
        chunks: vec![chunk(addr)],
    };
    let gone = Frame::Gone {
        tid: pid,
        exit: Exit::Code(0),
        left: vec![chunk(0)],
    };
    let vm = libc::CLONE_VM;
    let crowd = |flags| {
        (1..5000)
            .map(|n| born(pid + n, pid, flags))
            .collect::<Vec<_>>()
    };
    let at_entry = |mut frames: Vec<Frame>| {
        // A newborn that runs ends the run of its maker first, which then stands at its call.
        frames.insert(
            0,
            Frame::Resize {
                object: 7,
                size: u64::MAX,
            },
        );
        frames
    };
    let cases: Vec<(&str, Vec<Frame>, &str)> = vec![
        ("unknown_maker", vec![born(pid + 1, pid + 7, 0)], "no task"),
        ("itself", vec![born(pid, pid, 0)], "made twice"),
        (
            "twice",
            vec![born(pid + 1, pid, vm), born(pid + 1, pid, vm)],
            "made twice",
        ),
        (
            "newborn_maker",
            vec![born(pid + 1, pid, vm), born(pid + 2, pid + 1, vm)],
            "outside of any call",
        ),
        ("threads", crowd(vm), "more than 4096 tasks"),
        ("forks", crowd(0), "512 processes"),
        (
            "run_in_call",
            vec![born(pid + 1, pid, vm), run.clone(), run],
            "middle of a call",
        ),
        ("odd_jump", vec![jump(5, 0)], "no registers"),
        ("empty_jump", vec![jump(27, 0)], "vector registers"),
        ("poke_nobody", vec![poke(pid + 9, 0x1000)], "no task"),
        ("poke_nowhere", vec![poke(pid, 0x10)], "cannot write"),
        ("gone", vec![gone], "no task"),
        (
            "tsc",
            vec![Frame::Tsc {
                tid: 1,
                values: vec![0],
            }],
            "no task",
        ),
        ("start", vec![Frame::Start(real.start().clone())], ""),
        (
            "resize",
            at_entry(vec![poke(pid, u64::MAX - 3)]),
            "cannot write",
        ),
    ];
    for (name, frames, says) in cases {
        let dir = folder.join(name);
        let recording = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            forged(&folder, &real, upto, name, &frames)
        }));
        let Ok(recording) = recording else {
            // Such a file does not even open.
            assert!(says.is_empty() && Recording::open(&dir).is_err(), "{name}");
            continue;
        };
        let error = Replayer::new(recording).run_to_end();
        let error = error.expect_err(name).to_string();
        assert!(error.contains(says), "{name}: {error}");
        assert_eq!(children(), Vec::<String>::new(), "{name}: nothing is left");
    }
}

#[test]
fn a_copy_with_threads_can_be_killed_from_outside() {
    let folder = Folder::new();
    let program = "
import os, threading
there = threading.Event()
thread = threading.Thread(target=there.wait, args=[2])
thread.start()
os.getppid()
thread.join()
";
    let recording = record(&folder, &["python3", "-c", program]);
    let is_mark = |n: &u64| {
        let event = recording.event(*n).unwrap();
        event.call().is_some_and(|call| call.name() == "getppid")
    };
    let mark = (1..=recording.len()).rev().find(is_mark).unwrap();
    let mut replay = Replayer::new(Arc::clone(&recording));
    replay.replay_to(mark).unwrap();
    let copy = replay.spin_off(None).unwrap();
    assert_eq!(copy.threads.len(), 1);
    // It waits for its thread, which waits, too.
    let real = copy.real_pid();
    let killer = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(300));
        // SAFETY: kill(2) touches no memory. The process is the test's own.
        unsafe { libc::kill(real, libc::SIGKILL) };
    });
    let options = Options {
        timeout: Duration::from_secs(20),
        sandbox: Sandbox::None,
        ..Options::default()
    };
    let driven = live(copy, &mut NoHooks, &options).unwrap();
    assert_eq!(driven.outcome.status, Status::Signaled);
    killer.join().unwrap();
    drop(replay);
    assert_eq!(children(), Vec::<String>::new(), "nothing is left");
}
