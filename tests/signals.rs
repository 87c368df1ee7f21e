//! Programs that get signals, with handlers and without, and programs that are not supported yet.

use crate::common::{Done, Folder};
use std::os::unix::process::ExitStatusExt;

/// Spins off at the last event and at some before it, and shows how the copies end.
const LAST: &str = r#"
local rec = rr.open "rec"
local n = 0
for _ in rec:events{} do n = n + 1 end
local last = n
while not pcall(rr.replay_to, last) do last = last - 1 end
while pcall(rr.replay_to, last + 1) do last = last + 1 end
local ends = {}
for at = last, math.max(1, last - 3), -1 do
  local o = rr.replay_to(at):spin_off():inject(nil, { timeout = 5, finally = "live" })
  assert(o.divergence == nil, tostring(o))
  ends[#ends + 1] = o.status .. " " .. tostring(o.exit_code or o.signal)
end
print(table.concat(ends, ", "))
"#;

fn signal(done: &Done) -> Option<i32> {
    done.output.status.signal()
}

/// Records it, and replays it three times to the same output and end.
#[track_caller]
fn record_and_replay(folder: &Folder, argv: &[&str]) -> Done {
    let recorded = folder.record("rec", argv);
    for _ in 0..3 {
        let replayed = folder.rrapper(["replay", "rec"]);
        assert_eq!(replayed.text(), recorded.text(), "{}", replayed.stderr);
        assert_eq!(replayed.stderr, recorded.stderr);
        assert_eq!(
            (replayed.code, signal(&replayed)),
            (recorded.code, signal(&recorded))
        );
    }
    recorded
}

#[test]
fn handlers_run_where_they_ran() {
    let folder = Folder::new();
    let program = folder.compile("signals", &[]);
    let recorded = record_and_replay(&folder, &[&program]);
    assert_eq!(recorded.code, Some(5), "{}", recorded.stderr);
    assert!(
        recorded.text().contains(" alarms, 2 users, "),
        "{}",
        recorded.text()
    );
    let ends = folder.script(LAST).ok().text();
    assert_eq!(ends, "exited 5, exited 5, exited 5, exited 5\n");
}

#[test]
fn a_fault_ends_the_replay_too() {
    let folder = Folder::new();
    let program = folder.compile("signals", &[]);
    let recorded = record_and_replay(&folder, &[&program, "segv"]);
    assert_eq!(
        signal(&recorded),
        Some(libc::SIGSEGV),
        "{}",
        recorded.stderr
    );
    assert!(
        recorded.text().contains(" alarms, 2 users, "),
        "{}",
        recorded.text()
    );
    let listed = folder.rrapper(["events", "rec"]).ok().text();
    assert!(
        listed
            .lines()
            .last()
            .unwrap()
            .contains("+++ killed by SIGSEGV"),
        "{listed}"
    );
    let ends = folder.script(LAST).ok().text();
    assert!(
        ends.starts_with("signaled SIGSEGV, signaled SIGSEGV,") || ends.contains("SIGSEGV"),
        "{ends}"
    );
}

#[test]
fn a_signal_that_kills_the_program_kills_its_recorder() {
    let folder = Folder::new();
    let program = folder.compile("signals", &[]);
    for (how, number, name) in [
        ("term", libc::SIGTERM, "SIGTERM"),
        ("abort", libc::SIGABRT, "SIGABRT"),
    ] {
        let _ = std::fs::remove_dir_all(folder.join("rec"));
        let recorded = record_and_replay(&folder, &[&program, how]);
        assert_eq!(signal(&recorded), Some(number), "{}", recorded.stderr);
        let listed = folder.rrapper(["events", "rec"]).ok().text();
        assert!(
            listed
                .lines()
                .last()
                .unwrap()
                .contains(&format!("+++ killed by {name}")),
            "{listed}"
        );
    }
}

#[test]
fn programs_that_are_not_supported() {
    let folder = Folder::new();
    let program = folder.compile("refused", &[]);
    for (how, what) in [
        ("foreign", "call 20 of the 32-bit ABI"),
        ("untraced", "clone3 with CLONE_UNTRACED"),
    ] {
        let done = folder.rrapper(["record", "-o", how, &program, how]);
        done.complains(&["cannot record", what, " at event ", how]);
        // What was recorded up to there is a recording.
        let listed = folder.rrapper(["-q", "events", how]).ok();
        assert!(listed.text().contains("execve("), "{}", listed.text());
        folder.rrapper(["replay", how]).complains(&["incomplete"]);
    }
}

#[test]
fn a_program_that_waits_for_a_signal_without_calls() {
    let folder = Folder::new();
    let program = folder.compile("deaf", &[]);
    record_and_replay(&folder, &[&program]).ok();
}

#[test]
fn what_is_ignored_at_the_start_stays_ignored() {
    let folder = Folder::new();
    let script = "trap '' HUP TERM INT; exec \"$0\" -q record -o rec sh -c 'kill -HUP $$; kill -TERM $$; echo alive'";
    let mut shell = std::process::Command::new("sh");
    shell.args(["-c", script, env!("CARGO_BIN_EXE_rrapper")]);
    let output = shell.current_dir(folder.join("")).output().unwrap();
    assert_eq!(output.stdout, b"alive\n", "{output:?}");
    assert_eq!(
        folder.rrapper(["-q", "replay", "rec"]).ok().text(),
        "alive\n"
    );
}

/// The first process of a pid namespace gets no signal that it has no handler for; neither does a copy of it.
#[test]
fn the_first_of_a_pid_namespace_is_spared() {
    let folder = Folder::new();
    let script = "kill -QUIT $$; kill -TSTP $$; trap 'echo caught' USR1; kill -USR1 $$; kill -TERM $$; echo alive; exit 5";
    let done = record_and_replay(&folder, &["unshare", "-Urpf", "sh", "-c", script]);
    assert_eq!(
        (done.code, done.text().as_str()),
        (Some(5), "caught\nalive\n"),
        "{}",
        done.stderr
    );
    let script = r#"
        local rec, copies = rr.open "rec", 0
        for event in rec:events() do
          if event.name == "kill" then
            rr.replay_to(event)
            local outcome = spin_off(event.pid):inject {}
            assert(outcome.exit_code == 5, tostring(outcome))
            copies = copies + 1
          end
        end
        print(copies)"#;
    assert_eq!(folder.script(script).ok().text(), "4\n");
}

/// What rrapper ignores is nothing to a replayed process, and to copies of it.
#[test]
fn what_rrapper_ignores_is_not_seen_in_copies() {
    let folder = Folder::new();
    folder
        .record(
            "rec",
            &["bash", "-c", "trap : INT; trap - INT; echo $(echo done)"],
        )
        .ok();
    folder.write(
        "s.lua",
        r#"
        rr.open "rec"
        local outcome = rr.replay_to(2):spin_off():inject(nil, {})
        print(outcome.status, outcome.divergence)
        "#,
    );
    let script = "trap '' HUP TERM INT QUIT USR1; exec \"$0\" s.lua";
    let mut shell = std::process::Command::new("sh");
    shell.args(["-c", script, env!("CARGO_BIN_EXE_rrapper")]);
    let output = shell.current_dir(folder.path()).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(text, "exited\tnil\n", "{output:?}");
}

#[test]
fn a_signal_that_was_sent_as_a_fault_is_no_fault() {
    let folder = Folder::new();
    let program = folder.compile("as_faults", &[]);
    let recorded = record_and_replay(&folder, &[&program]);
    let said = recorded.text();
    assert_eq!(said.matches(", code 1\n").count(), 12, "{said}");
    let script = format!(
        r#"rr.open "rec"
           local copy = rr.replay_to(rr.find{{ syscall = "rt_sigqueueinfo" }}):spin_off()
           local o = copy:inject()
           assert(o.exit_code == 0 and o.divergence == nil, tostring(o))
           local o = rr.replay_to(rr.find{{ syscall = "rt_sigqueueinfo" }}):spin_off():live()
           assert(o.exit_code == 0, tostring(o))
           io.write(o.stdout, live{{ "{program}" }}.stdout)"#
    );
    assert_eq!(folder.script(&script).ok().text(), said.repeat(2));
}

#[test]
fn a_fault_that_is_passed_on_ends_the_process() {
    let folder = Folder::new();
    let program = folder.compile("as_faults", &[]);
    let recorded = record_and_replay(&folder, &[&program, "passed on"]);
    assert_eq!(recorded.text(), "signal 11, code 1\n");
    assert_eq!(signal(&recorded), Some(libc::SIGSEGV));
    let ends = folder.script(LAST).ok().text();
    assert!(ends.starts_with("signaled SIGSEGV"), "{ends}");
    assert!(!ends.contains("exited"), "{ends}");
}

#[test]
fn a_signal_for_an_area_that_is_gone_may_come_anywhere() {
    let folder = Folder::new();
    let program = folder.compile("as_faults", &[]);
    std::fs::create_dir(folder.join("from")).unwrap();
    let script = format!(
        r#"for _ = 1, 10 do print(live{{ "{program}", "area",
               env = {{ GLIBC_TUNABLES = "glibc.pthread.rseq=0" }} }}) end"#
    );
    let said = folder.script(&script).ok().text();
    assert_eq!(said, "signaled by SIGSEGV\n".repeat(10));
}
