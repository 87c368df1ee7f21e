//! What went wrong once.

use crate::common::Folder;

/// Spins off at every third event, drives each copy through the recording, and says how the process
/// ended where it left the recording, or otherwise than it was recorded.
const SPIN: &str = r#"
local rec = rr.open "rec"
local last
for event in rr.events{} do last = event.event end
for n = 1, last, 3 do
  local outcome = rr.replay_to(n):spin_off():inject(nil, { timeout = 60 })
  if outcome.divergence then print(n, outcome.status, outcome.divergence) end
  if n == 1 then print(outcome.status, outcome.exit_code or outcome.signal, outcome.stdout) end
end
"#;

/// Records a part of `fixtures/signals.c`, replays it, and drives copies through it.
#[track_caller]
fn check(what: &str, ends: &str) {
    let folder = Folder::new();
    let program = folder.compile("nasty", &[]);
    let recorded = folder.record("rec", &[&program, what]);
    if what != "counter" {
        let plain = folder.plain(&[&program, what]);
        assert_eq!(recorded.text(), plain.text(), "{}", recorded.stderr);
    }
    let replayed = folder.rrapper(["replay", "rec"]);
    assert_eq!(replayed.text(), recorded.text(), "{}", replayed.stderr);
    assert_eq!(replayed.code, recorded.code);
    let spun = folder.script(SPIN).ok().text();
    assert_eq!(spun, format!("{ends}\t{}\n", recorded.text()));
}

#[test]
fn a_handler_interrupts_a_call() {
    check("pause", "exited\t0");
}

#[test]
fn interrupted_calls_are_made_again() {
    check("restart", "exited\t0");
}

#[test]
fn a_signal_comes_under_a_temporary_mask() {
    check("suspend", "exited\t0");
}

#[test]
fn a_process_signals_and_kills_itself() {
    check("raise", "signaled\tSIGKILL");
}

#[test]
fn signals_that_are_left_to_the_default_have_flags() {
    check("defaults", "exited\t0");
}

#[test]
fn large_mappings_are_where_they_were() {
    let folder = Folder::new();
    let program = folder.compile("nasty", &[]);
    folder.record("rec", &[&program, "places"]).ok();
    let spun = folder.script(SPIN).ok().text();
    let recorded = folder.rrapper(["replay", "rec"]).ok().text();
    assert_eq!(spun, format!("exited\t0\t{recorded}\n"));
}

#[test]
fn a_handler_has_no_stack_left() {
    check("overflow", "signaled\tSIGSEGV");
}

#[test]
fn a_mapped_file_is_written_to() {
    check("mapped", "exited\t0");
}

#[test]
fn a_process_hides_its_memory() {
    check("hidden", "exited\t0");
}

#[test]
fn the_counter_is_read_as_recorded() {
    check("counter", "exited\t0");
}

/// Programs see all CPUs, and may wish for any; they are recorded on one all the same.
#[test]
fn a_program_sees_all_cpus_and_stays_on_one() {
    let folder = Folder::new();
    let cases: [&[&str]; 3] = [
        &["nproc"],
        &["taskset", "-c", "0-63", "nproc"],
        &["taskset", "-c", "0", "nproc"],
    ];
    for (i, command) in cases.iter().enumerate() {
        let plain = folder.plain(command);
        let name = format!("rec{i}");
        let recorded = folder.record(&name, command).ok();
        assert_eq!(recorded.text(), plain.text(), "{command:?}");
        let replayed = folder.rrapper(["replay", &name]).ok();
        assert_eq!(replayed.text(), plain.text(), "{command:?}");
    }
}

#[test]
fn programs_that_look_at_their_output_print_it_in_live() {
    let folder = Folder::new();
    let file = folder.numbers();
    let plain = folder.plain(&["grep", "77", &file]);
    folder.record("rec", &["grep", "77", &file]).ok();
    let live =
        folder.script(r#"rr.open "rec"; io.write(rr.replay_to(2):spin_off():live{}.stdout)"#);
    assert!(live.ok().stdout == plain.stdout);
}

#[test]
fn an_injection_ends_where_its_trace_does() {
    let folder = Folder::new();
    folder
        .record("rec", &["cp", &folder.numbers(), "copy"])
        .ok();
    std::fs::remove_file(folder.join("copy")).unwrap();
    let script = r#"
        local trace = rr.open "rec":segment(2, 6)
        local outcome = rr.replay_to(2):spin_off():inject(trace)
        print(outcome.status, #outcome.calls)
        local process = rr.replay_to(2):spin_off()
        assert(process:inject(trace, { finally = "keep" }).status == "completed")
        print(process:inject(nil, {}).status)
    "#;
    assert_eq!(folder.script(script).ok().text(), "completed\t5\nexited\n");
    assert!(!folder.join("copy").exists(), "nothing went live");
}

#[test]
fn skipping_a_long_trace_does_not_exhaust_the_stack() {
    let folder = Folder::new();
    folder.record("rec", &["true"]).ok();
    let script = r#"
        rr.open "rec"
        local foreign = trace.parse(("close(77) = 0\n"):rep(100000))
        local outcome = rr.replay_to(4):spin_off():inject(foreign, {
          on_divergence = function() return "skip" end, timeout = 60,
        })
        print(outcome.status)
    "#;
    assert_eq!(folder.script(script).ok().text(), "completed\n");
}

#[test]
fn short_directory_reads_end_between_entries() {
    let folder = Folder::new();
    folder.record("rec", &["ls", "-U", "/usr/lib"]).ok();
    let script = r#"
        rr.open "rec"
        local outcome = rr.replay_to(rr.find{ syscall = "getdents64" }):spin_off():inject(nil, {
          getdents64 = { short = 1, when = "1" },
          on_divergence = "live", finally = "live", timeout = 60, sandbox = "none",
        })
        print(outcome.status, outcome.exit_code)
        io.write(outcome.stdout)
    "#;
    let plain = folder.plain(&["ls", "-U", "/usr/lib"]).text();
    assert_eq!(
        folder.script(script).ok().text(),
        format!("exited\t0\n{plain}")
    );
}

#[test]
fn reading_the_counter_keeps_what_the_program_wants_of_sigsegv() {
    let folder = Folder::new();
    let program = folder.compile("counter", &[]);
    let plain = folder.plain(&[&program]).ok().text();
    assert_eq!(folder.record("rec", &[&program]).ok().text(), plain);
    assert_eq!(folder.rrapper(["replay", "rec"]).ok().text(), plain);
    let text = folder
        .script(
            r#"
            rr.open "rec"
            local write = rr.find{ syscall = "write" }
            for _, event in ipairs{ 1, write.event } do
              local stop = rr.replay_to(event)
              io.write(stop:spin_off():inject().stdout, stop:spin_off():live{}.stdout)
            end
            "#,
        )
        .ok()
        .text();
    assert_eq!(text, plain.repeat(4));
}

/// A stranger's recording says that an execve succeeded and has no program to go on with: replay must not
/// execute what it names.
#[test]
fn a_forged_execve_executes_nothing() {
    use rrapper::history::Recording;
    use rrapper::recording::{Effect, EventKind, Frame, Writer};
    let folder = Folder::new();
    folder.record("rec", &["env", "touch", "marker"]).ok();
    std::fs::remove_file(folder.join("marker")).unwrap();
    let honest = Recording::open(&folder.join("rec")).unwrap();
    let mut writer = Writer::create(&folder.join("forged")).unwrap();
    writer.write(&Frame::Start(honest.start().clone())).unwrap();
    let mut frames = honest.frames_from(1).unwrap();
    let (mut number, mut forged) = (0, 0);
    while let Some(mut frame) = frames.next_frame().unwrap() {
        if let Frame::Event(event) = &mut frame {
            number += 1;
            if let EventKind::Call(call) = &mut event.kind
                && number > 1
                && matches!(call.effect, Effect::Exec(_))
            {
                call.effect = Effect::None;
                forged = number;
            }
        }
        writer.write(&frame).unwrap();
    }
    drop(writer);
    assert!(forged > 1);
    for file in std::fs::read_dir(folder.join("rec/files")).unwrap() {
        let file = file.unwrap();
        std::fs::copy(
            file.path(),
            folder.join("forged/files").join(file.file_name()),
        )
        .unwrap();
    }
    folder
        .rrapper(["replay", "forged"])
        .complains(&[&format!("event {forged}"), "execve"]);
    assert!(!folder.join("marker").exists());
}
