//! Locks and leases of files that the machine has, too: devices, `/sys`, what the kernel has one of. Those of a sandbox
//! block nobody outside, and those outside nobody in it.

use crate::common::Folder;
use nix::fcntl::{FcntlArg, Flock, FlockArg, fcntl};
use std::fs::File;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

/// The files that the fixture locks.
const FILES: [&str; 5] = [
    "/dev/full",
    "/sys/devices/system/cpu/online",
    "/proc/self/ns/uts",
    "/dev/null",
    "/dev/urandom",
];

/// Looks from outside whether a file is locked: by flock(2), and ranges of it.
const LOOK: &str = r#"
    import fcntl, sys
    for path in sys.argv[1:]:
        file = open(path, "rb+", buffering=0) if path == "/dev/full" else open(path, "rb")
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        kind = fcntl.LOCK_EX if path == "/dev/full" else fcntl.LOCK_SH
        fcntl.lockf(file, kind | fcntl.LOCK_NB, 0, 10, 0)"#;

#[test]
fn locks_of_the_machines_files_are_the_sandboxs() {
    let folder = Folder::new();
    let fixture = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/fixtures/machine_locks.py"
    );
    folder.record_without_files("rec", &["python3", fixture]);
    folder.write("live", "");
    folder.write("look.py", LOOK.replace("\n    ", "\n"));
    // Shared, for other runs of this test.
    let shared = |path: &&str| {
        let file = File::open(path).unwrap();
        let lock = libc::flock {
            l_type: libc::F_RDLCK as i16,
            l_whence: 0,
            l_start: 0,
            l_len: 10,
            l_pid: 0,
        };
        fcntl(&file, FcntlArg::F_OFD_SETLK(&lock)).unwrap();
        Flock::lock(file, FlockArg::LockSharedNonblock).unwrap()
    };
    let kept: Vec<_> = FILES
        .iter()
        .filter(|path| **path != "/dev/full")
        .map(shared)
        .collect();
    let (over, watched) = watch_device();
    let script = format!(
        r#"local seen = 0
           local function look()
               local said = io.popen("python3 look.py {files} 2>&1"):read "a"
               assert(said == "", said)
               seen = seen + 1
           end
           rr.open "rec"
           local copy = rr.replay_to(rr.find{{ syscall = "getpriority" }}):spin_off()
           local o = copy:live{{ getpriority = {{ enter = look }}, timeout = 60 }}
           assert(o.exit_code == 0 and o.stdout:find "done", tostring(o) .. o.stdout .. o.stderr)
           local o = live{{ "python3", "{fixture}", timeout = 60, hooks = {{ getpriority = {{ enter = look }} }} }}
           assert(o.exit_code == 0 and o.stdout:find "done", tostring(o) .. o.stdout .. o.stderr)
           print(seen)"#,
        files = FILES.join(" "),
    );
    assert_eq!(folder.script(&script).ok().text(), "4\n");
    drop(kept);
    over.store(true, Ordering::Relaxed);
    assert_eq!(
        watched.join().unwrap(),
        None,
        "a lock was there for a moment"
    );
}

/// Looks all the time for a lock of a range of `/dev/full` that nobody has outside. Returns how to end that, and its thread,
/// which returns the kind of the lock.
fn watch_device() -> (Arc<AtomicBool>, JoinHandle<Option<i16>>) {
    let over = Arc::new(AtomicBool::new(false));
    let is_over = Arc::clone(&over);
    let device = File::options().write(true).open("/dev/full").unwrap();
    let watched = std::thread::spawn(move || {
        while !is_over.load(Ordering::Relaxed) {
            let mut lock = libc::flock {
                l_type: libc::F_WRLCK as i16,
                l_whence: 0,
                l_start: 0,
                l_len: 10,
                l_pid: 0,
            };
            fcntl(&device, FcntlArg::F_OFD_GETLK(&mut lock)).unwrap();
            if i32::from(lock.l_type) != libc::F_UNLCK {
                return Some(lock.l_type);
            }
            std::thread::yield_now();
        }
        None
    });
    (over, watched)
}
