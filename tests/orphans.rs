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
        let script = format!(
            r#"
            local rec = rr.open "{name}"
            rr.replay_to(rec:find{{ syscall = "getpriority" }})
            local o = spin_off():live{{ timeout = 20 }}
            io.write(o.stdout, o.stderr, o.status, "\n", table.concat(o.missing, "\n"))
            "#
        );
        let expected = format!("{}exited\n", recorded.text());
        assert_eq!(folder.script(&script).ok().text(), expected, "{how}");
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
    let script = r#"
        local rec = rr.open "rec"
        rr.replay_to(rec:find{ syscall = "getpriority" })
        local o = spin_off():live{ timeout = 5 }
        io.write(o.stdout, o.stderr, o.status, "\n")
    "#;
    assert_eq!(folder.script(script).ok().text(), "True 15\nexited\n");
}

#[test]
fn for_a_user_too() {
    as_user(&["--exact", "orphans::parents_and_leaders_that_have_ended"]);
}
