//! Recordings of several processes and threads, through the library: copies of any process at any event, with all of
//! its threads.

mod common;

use common::Folder;
use rrapper::inject::{NoHooks, Options, Script, Status, inject};
use rrapper::recording::Recording;
use rrapper::replay::{Place, Process, Replay, Replayer};
use rrapper::tracee::{Regs, TaskMemory, proc};
use std::hash::{DefaultHasher, Hasher};
use std::sync::Arc;

const PIPELINE: &str = "echo $(echo hi | cat); for i in 1 2 3; do (exit $i); echo $?; done; seq 1 200 | sort -n | tail -1";

const THREADS: &str = "
import threading
done = []
def work(n):
    for k in range(300): done.append(n)
threads = [threading.Thread(target=work, args=(n,)) for n in range(3)]
for t in threads: t.start()
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

/// What a copy is: its mappings and what is in them, but for rrapper's own.
fn memory(memory: TaskMemory) -> Vec<(u64, u64, u64)> {
    let mut parts = Vec::new();
    for map in proc::maps(memory.tid()).unwrap() {
        let ours = (0x7000_0000..0x7001_0000).contains(&map.start);
        if ours || map.prot & libc::PROT_READ == 0 || map.name == b"[vsyscall]" {
            continue;
        }
        let mut hash = DefaultHasher::new();
        let mut buf = vec![0; 1 << 20];
        for at in (map.start..map.end).step_by(buf.len()) {
            let len = buf.len().min((map.end - at) as usize);
            // What lies behind a file's end cannot be read.
            let n = rrapper::syscall::Memory::read(&memory, at, &mut buf[..len]);
            hash.write(&buf[..n]);
        }
        parts.push((map.start, map.end, hash.finish()));
    }
    parts
}

/// What tells one copy from another: each thread's place and registers, and memory.
fn state(process: &Process) -> (Vec<String>, Vec<(u64, u64, u64)>) {
    let regs =
        |tid: i32, place: Place, regs: Regs| format!("{tid} {place:?} {:x?}", regs.to_words());
    let mut threads = vec![regs(
        process.tid,
        process.place,
        process.task.regs().unwrap(),
    )];
    for thread in &process.threads {
        threads.push(regs(thread.tid, thread.place, thread.task.regs().unwrap()));
        assert_eq!(
            memory(thread.task.memory()).len(),
            memory(process.memory()).len()
        );
    }
    (threads, memory(process.memory()))
}

/// Spins off every process at so many events, evenly spread, and checks that each copy is what was recorded. `alone`:
/// no process has threads, so that each copy can be driven through its recording.
fn spin_off_all(recording: &Arc<Recording>, stops: u64, alone: bool) -> (usize, usize) {
    let mut replay = Replayer::new(Arc::clone(recording)).unwrap();
    let (mut copies, mut threads) = (0, 0);
    for stop in 1..=stops {
        let number = (recording.len() * stop / stops).max(1);
        replay.replay_to(number).unwrap();
        let event = recording.event(number).unwrap();
        assert_eq!(replay.position(), Some((number, &event)));
        let processes = replay.processes();
        let own = replay.pid().unwrap();
        assert!(processes[&own].contains(&event.tid));
        for (&pid, tids) in &processes {
            let named = if number % 2 == 0 {
                pid
            } else {
                tids[tids.len() - 1]
            };
            let mut copy = replay.spin_off(Some(named)).unwrap();
            assert_eq!((copy.pid, &copy.tids()), (pid, tids));
            if pid == own {
                assert_eq!(copy.tid, event.tid);
                if let Some(call) = event.call().filter(|_| number > 1) {
                    let regs = copy.task.regs().unwrap();
                    assert_eq!(copy.place, Place::Entry);
                    assert_eq!((regs.nr(), regs.ip()), (i64::from(call.nr), call.ip));
                }
            } else {
                assert_eq!(copy.tid, named);
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
    let (copies, _) = spin_off_all(&recording, 25, true);
    assert!(copies > 40, "several processes at once: {copies}");
}

#[test]
fn threads_come_along() {
    let folder = Folder::new();
    let recording = record(&folder, &["python3", "-c", THREADS]);
    let (_, threads) = spin_off_all(&recording, 40, false);
    assert!(threads > 5, "several threads at once: {threads}");
}
