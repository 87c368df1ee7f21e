//! Processes of several threads, driven through their own recordings: each thread takes its own calls, in the order in
//! which they were recorded.

use crate::common::Folder;

/// Spins off the process at some events, drives each copy to the end, and prints what is not as it was recorded. With
/// `LOOSE`, nothing may rely on the process being exactly as it was recorded.
const SPIN: &str = r#"
local rec, loose, count = rr.open "rec", LOOSE, COUNT
local recorded, pid = rec:outcome(), rec:processes()[1].pid
local function written(from)
  local size = 0
  for event in rr.events{ from = from, syscall = "write", fd = 1 } do
    if event.ret and event.ret > 0 then size = size + event.ret end
  end
  return size
end
local driven = 0
for i = 0, count - 1 do
  local n = 1 + i * (#rec - 1) // math.max(1, count - 1)
  local copy = rr.replay_to(n):spin_off(pid)
  if loose then
    local sp = copy:regs().rsp
    copy:write(sp, copy:read(sp, 1))
  end
  local outcome = copy:inject(nil, { timeout = 30 })
  local size = written(n)
  local rest = size == 0 and "" or recorded.stdout:sub(-size)
  if outcome.status ~= recorded.status or outcome.exit_code ~= recorded.exit_code or outcome.stdout ~= rest then
    print(("event %d: %s, exit code %s, %d bytes instead of %d"):format(n, outcome.status,
      outcome.exit_code, #outcome.stdout, size), outcome.divergence)
  end
  driven = driven + 1
end
print("driven", driven)
"#;

#[track_caller]
fn drive(folder: &Folder, argv: &[&str], code: i32, loose: bool) {
    const COUNT: usize = 6;
    let recorded = folder.record("rec", argv);
    assert_eq!(recorded.code, Some(code), "{}", recorded.stderr);
    let script = SPIN.replace("LOOSE", if loose { "true" } else { "false" });
    let got = folder
        .script(&script.replace("COUNT", &COUNT.to_string()))
        .ok();
    assert_eq!(got.text(), format!("driven\t{COUNT}\n"), "{}", got.stderr);
}

macro_rules! fixtures {
    ($($name:ident $how:literal $code:literal)*) => {
        $(
            #[test]
            fn $name() {
                for loose in [false, true] {
                    let folder = Folder::new();
                    let program = folder.compile("threads", &["-pthread"]);
                    drive(&folder, &[&program, $how], $code, loose);
                }
            }
        )*
    };
}

fixtures! {
    two_that_take_turns_by_a_condition_variable "pingpong" 3
    a_pool_with_a_queue "pool" 4
    a_barrier "barrier" 5
    two_that_spin_until_it_is_their_turn "spin" 6
    each_sleeps_by_its_own_clock "timers" 2
    the_first_ends_before_the_others "leader" 7
    one_is_ended_by_a_signal_only "signal" 1
    one_reads_what_another_writes "pipe" 12
    a_mutex_with_priority_inheritance "inherit" 13
    one_executes_a_program "exec" 0
    one_ends_the_others "group" 14
}

#[test]
fn threads_of_python() {
    for loose in [false, true] {
        let folder = Folder::new();
        let program = folder.write("threads.py", include_str!("real/threads.py"));
        let program = program.to_str().unwrap();
        drive(&folder, &["/usr/bin/python3", "-S", program], 0, loose);
    }
}

#[test]
fn runtimes_with_threads_of_their_own() {
    for argv in [["java", "-version"], ["go", "version"]] {
        let folder = Folder::new();
        drive(&folder, &argv, 0, false);
    }
}

#[test]
fn the_text_of_a_trace_drives_a_runtime() {
    let folder = Folder::new();
    folder.record("rec", &["java", "-version"]).ok();
    // Its memory is elsewhere each time.
    let got = folder
        .script(
            r#"
            local rec = rr.open "rec"
            rec:segment(1, #rec, rec:processes()[1].pid):save "rec.strace"
            for _ = 1, 5 do
              local outcome = rr.replay_to(1):spin_off():inject("rec.strace", { timeout = 60 })
              print(outcome.status, outcome.exit_code, outcome.divergence)
            end
            "#,
        )
        .ok();
    assert_eq!(got.text(), "exited\t0\tnil\n".repeat(5), "{}", got.stderr);
}

#[test]
fn compressors_with_two_threads() {
    for argv in [
        &["xz", "-T2", "--block-size=60000", "-k", "numbers"][..],
        &[
            "zstd",
            "-q",
            "-T2",
            "-B60000",
            "numbers",
            "-o",
            "numbers.zst",
        ],
    ] {
        for loose in [false, true] {
            let folder = Folder::new();
            folder.numbers();
            drive(&folder, argv, 0, loose);
        }
    }
}

/// A program in which two threads make calls, one of which is spoilt.
const SPOILT: &str = r#"
local rec = rr.open "rec"
local first
for event in rr.events{ syscall = "read", fd = 3 } do
  if event.tid ~= event.pid then first = first or event end
end
local stop = rr.replay_to(first)
local reader = stop.tid
"#;

#[test]
fn a_divergence_says_which_thread_it_was() {
    let folder = Folder::new();
    let program = folder.compile("threads", &["-pthread"]);
    let recorded = folder.record("rec", &[&program, "pipe"]);
    assert_eq!(recorded.code, Some(12), "{}", recorded.stderr);
    // The thread that reads ends the process where it gets less than two bytes.
    let got = folder
        .script(&format!(
            r#"{SPOILT}
            local outcome = stop:spin_off():inject(nil, {{ {{ on = "read", ret = 1, when = "4", tid = reader }} }})
            print(outcome.status, outcome.divergence.tid == reader, outcome.divergence.actual)
            local hit = outcome.injected[1]
            print(#outcome.injected, hit.call:match "^read", hit.call:match "= (%d+)$")
            "#
        ))
        .ok();
    assert_eq!(
        got.text(),
        "diverged\ttrue\texit_group(8)\n1\tread\t1\n",
        "{}",
        got.stderr
    );
}

#[test]
fn a_thread_that_cannot_be_made_is_missed() {
    let folder = Folder::new();
    let program = folder.compile("threads", &["-pthread"]);
    let recorded = folder.record("rec", &[&program, "timers"]);
    assert_eq!(recorded.code, Some(2), "{}", recorded.stderr);
    let got = folder
        .script(
            r#"
            local rec = rr.open "rec"
            local copy = rr.replay_to(1):spin_off()
            local outcome = copy:inject(nil, { ["clone,clone3"] = { fail = "EAGAIN", when = "2" }, timeout = 10 })
            print(outcome.status, outcome.divergence.tid == copy.pid)
            "#,
        )
        .ok();
    assert_eq!(got.text(), "diverged\ttrue\n", "{}", got.stderr);
}

#[test]
fn calls_are_counted_over_all_threads() {
    let folder = Folder::new();
    let program = folder.compile("threads", &["-pthread"]);
    folder.record("rec", &[&program, "pipe"]);
    // The process is kept in the middle, and goes on from there.
    let got = folder
        .script(
            r#"
            local rec = rr.open "rec"
            local copy, calls = rr.replay_to(1):spin_off(), 0
            for event in rr.events{} do if event.kind == "call" then calls = calls + 1 end end
            local half = calls * 9 // 10
            local first = copy:inject(nil, 0, half - 1, { finally = "keep" })
            local tids = {}
            for _, call in ipairs(first.calls) do tids[call.tid] = true end
            local threads = 0
            for _ in pairs(tids) do threads = threads + 1 end
            local second = copy:inject()
            print(first.status, threads, second.status, second.exit_code)
            "#,
        )
        .ok();
    assert_eq!(got.text(), "completed\t2\texited\t12\n", "{}", got.stderr);
}

#[test]
fn a_trace_of_another_run_drives_a_recorded_server() {
    let folder = Folder::new();
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/server_replay.lua");
    let done = folder.rrapper(["-q", script]).ok();
    let text = done.text();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(
        lines[..2],
        [
            "the recorded server, given the other request:\texited\tas traced",
            "you asked for /traced"
        ],
        "{text}{}",
        done.stderr
    );
    assert!(
        lines[2].starts_with("when the connection is reset:\tdiverged\tat call "),
        "{text}"
    );
}
