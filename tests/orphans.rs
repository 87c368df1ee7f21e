//! Live families of which some have ended: the parents of others, and the leaders of their process groups and sessions.

use crate::common::{Folder, as_user};

/// Families without one of these go on as they did when they were recorded.
#[test]
fn parents_and_leaders_that_have_ended() {
    let folder = Folder::new();
    folder.write("orphans.py", include_str!("fixtures/orphans.py"));
    for how in [
        "parent",
        "group",
        "session",
        "zombie parent",
        "zombie group",
        "zombie session",
    ] {
        let name = how.replace(' ', "_");
        let recorded = folder
            .record(&name, &["/usr/bin/python3", "-S", "orphans.py", how])
            .ok();
        let expected = format!("{}exited\n", recorded.text());
        assert_eq!(folder.live_from_mark(&name), expected, "{how}");
    }
}

/// A signal to a process group reaches all of it.
#[test]
fn groups_stay_together() {
    let folder = Folder::new();
    let program = "import os, signal\n\
                   os.setpgid(0, 0)\n\
                   if (child := os.fork()) == 0: signal.pause()\n\
                   signal.signal(signal.SIGTERM, signal.SIG_IGN)\n\
                   os.getpriority(os.PRIO_PROCESS, 0)\n\
                   os.kill(0, signal.SIGTERM)\n\
                   print(os.getpgid(child) == os.getpid(), os.waitpid(child, 0)[1])";
    let recorded = folder.record("rec", &["/usr/bin/python3", "-S", "-c", program]);
    assert_eq!(recorded.ok().text(), "True 15\n");
    assert_eq!(folder.live_from_mark("rec"), "True 15\nexited\n");
}

/// Children that have ended and were not waited for are as they were: many of them, and those that send other signals.
#[test]
fn ended_children_are_still_there() {
    let folder = Folder::new();
    let many = "import os\n\
                for n in range(250):\n    \
                    if os.fork() == 0: os._exit(n)\n\
                os.getpriority(os.PRIO_PROCESS, 0)\n\
                print(sum(os.waitpid(-1, 0)[1] >> 8 for _ in range(250)))";
    let signals = "import ctypes, os, signal, time\n\
                   count = 0\n\
                   def came(*_):\n    \
                       global count\n    \
                       count += 1\n\
                   signal.signal(signal.SIGUSR1, came)\n\
                   if ctypes.CDLL(None).syscall(56, signal.SIGUSR1, 0, 0, 0, 0) == 0: os._exit(5)\n\
                   while count == 0: time.sleep(0.01)\n\
                   os.getpriority(os.PRIO_PROCESS, 0)\n\
                   print(count, os.waitid(os.P_ALL, 0, os.WEXITED | 0x40000000).si_status)";
    for (name, program, says) in [("many", many, "31125\n"), ("signals", signals, "1 5\n")] {
        let recorded = folder.record(name, &["/usr/bin/python3", "-S", "-c", program]);
        assert_eq!(recorded.ok().text(), says);
        assert_eq!(folder.live_from_mark(name), format!("{says}exited\n"));
    }
}

#[test]
fn for_a_user_too() {
    as_user(&["--exact", "orphans::parents_and_leaders_that_have_ended"]);
}
