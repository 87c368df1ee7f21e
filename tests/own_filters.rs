//! What programs do that would keep rrapper from making calls in them: seccomp filters of their own that hold in live
//! processes, too, and 32-bit programs, which end what was begun with a sentence.

use crate::common::{Folder, RRAPPER};
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

/// A 32-bit program that exits with 5: its headers, and three instructions.
fn foreign_program(folder: &Folder) -> String {
    const AT: u32 = 0x0804_8000;
    const HEADERS: u32 = 52 + 32;
    // mov eax, 1; mov ebx, 5; int 0x80.
    let code = [0xb8, 1, 0, 0, 0, 0xbb, 5, 0, 0, 0, 0xcd, 0x80];
    let size = HEADERS + code.len() as u32;
    let mut file = b"\x7fELF\x01\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
    let halves = |list: &[u16]| {
        list.iter()
            .flat_map(|h| h.to_le_bytes())
            .collect::<Vec<u8>>()
    };
    let words = |list: &[u32]| {
        list.iter()
            .flat_map(|w| w.to_le_bytes())
            .collect::<Vec<u8>>()
    };
    // An executable for the 80386, version 1; its entry, where its only program header is.
    file.extend(halves(&[2, 3]));
    file.extend(words(&[1, AT + HEADERS, 52, 0, 0]));
    file.extend(halves(&[52, 32, 1, 40, 0, 0]));
    // Loaded whole, to be read and executed.
    file.extend(words(&[1, 0, AT, AT, size, size, 5, 0x1000]));
    file.extend(code);
    let path = folder.write("foreign", file);
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
    path.to_str().unwrap().to_string()
}

#[test]
fn a_32_bit_program_is_not_recorded() {
    let folder = Folder::new();
    let foreign = foreign_program(&folder);
    folder
        .rrapper(["record", "-o", "alone", &foreign])
        .complains(&["cannot execute", "32-bit program"]);
    assert!(!folder.join("alone").exists());
    let shell = format!("echo before; {foreign}; echo behind");
    folder
        .rrapper(["record", "-o", "rec", "sh", "-c", &shell])
        .complains(&["cannot record the 32-bit program", "foreign", "in "]);
    let replayed = folder.rrapper(["replay", "rec"]);
    assert_eq!(replayed.text(), "before\n");
    assert!(
        replayed.stderr.contains("incomplete"),
        "{}",
        replayed.stderr
    );
}

#[test]
fn a_32_bit_program_ends_what_is_live() {
    let folder = Folder::new();
    let foreign = foreign_program(&folder);
    let done = folder.script(&format!(
        r#"for _, hooks in ipairs{{ {{}}, {{ write = {{ fail = "EIO" }} }} }} do
             for _, command in ipairs{{ {{ "{foreign}" }}, {{ "sh", "-c", "{foreign}; exit 3" }} }} do
               command.stdin, command.timeout, command.hooks = "", 20, hooks
               local o = live(command)
               print(o.status, o.exit_code, o.reason)
             end
           end"#
    ));
    let text = done.ok().text();
    assert_eq!(text.lines().count(), 4, "{text}");
    for line in text.lines() {
        let parts: Vec<&str> = line.split('\t').collect();
        assert_eq!(parts[..2], ["stopped", "nil"], "{line}");
        assert!(
            parts[2].contains("32-bit program") && parts[2].contains("foreign"),
            "{line}"
        );
    }
    // One that was spun off.
    std::fs::rename(folder.join("foreign"), folder.join("other")).unwrap();
    folder.write("foreign", "#!/bin/sh\nexit 0\n");
    std::fs::set_permissions(folder.join("foreign"), PermissionsExt::from_mode(0o755)).unwrap();
    folder.record_without_files("rec", &["sh", "-c", "exec ./foreign"]);
    std::fs::rename(folder.join("other"), folder.join("foreign")).unwrap();
    let done = folder.script(
        r#"local rec = rr.open "rec"
           local at
           for e in rec:events{ syscall = "execve" } do at = e.event end
           rr.replay_to(at)
           local o = spin_off():live{ timeout = 20 }
           print(o.status, o.reason)"#,
    );
    let text = done.ok().text();
    assert!(
        text.starts_with("stopped\t") && text.contains("32-bit program"),
        "{text}"
    );
}

#[test]
fn filters_hold_in_live_programs() {
    let folder = Folder::new();
    let program = folder.compile_as("filters", "steps/filters", &["-pthread"]);
    let plain = folder.plain(&[&program]).ok();
    let done = folder.script(&format!(
        r#"for _, sandbox in ipairs{{ "none", "cow" }} do
             local o = live{{ "{program}", stdin = "", timeout = 60, sandbox = sandbox }}
             print(o.status, o.exit_code)
             io.write(o.stdout)
           end"#
    ));
    let one = format!("exited\t0\n{}", plain.text());
    assert_eq!(done.ok().text(), format!("{one}{one}"));
}

#[test]
fn filters_hold_in_copies_that_go_live() {
    let folder = Folder::new();
    let program = folder.compile_as("filters", "steps/filters", &["-pthread"]);
    let steps = [
        "answered_with_an_error",
        "by_argument",
        "killed_with_all_threads",
        "a_thread_is_killed",
        "trapped_and_caught",
        "trapped_in_a_thread",
        "trapped_and_not_caught",
        "strict_mode",
        "not_where_threads_differ",
    ];
    let argv: Vec<&str> = std::iter::once(program.as_str()).chain(steps).collect();
    folder.record("rec", &argv).ok();
    let done = folder.script(
        r#"local rec = rr.open "rec"
           local all, tried = rec:processes(), 0
           -- The first process only waits for the others, which have their filters before their last calls.
           for i = 2, #all do
             local life, calls = all[i], {}
             for e in rec:events{ pid = life.pid } do
               if e.kind == "call" then calls[#calls + 1] = e.event end
             end
             local at = calls[math.max(#calls - 2, 1)]
             rr.replay_to(at)
             local o = spin_off(life.pid):live{ timeout = 20 }:of(life.pid)
             tried = tried + 1
             if o.exit_code ~= life.exit.code or o.signal ~= life.exit.signal then
               error(("%d at %d: %s %s %s, recorded %s %s"):format(life.pid, at, o.status, o.exit_code, o.signal,
                 life.exit.code, life.exit.signal))
             end
           end
           print(tried)"#,
    );
    // One each, but for three that are not caught.
    assert_eq!(done.ok().text(), format!("{}\n", steps.len() + 2 + 1));
}

#[test]
fn proc_has_to_be_there() {
    let folder = Folder::new();
    let inside = |more: &[&str]| {
        let output = Command::new("unshare")
            .args(["-Urpf"])
            .args(more)
            .args([RRAPPER, "-q", "record", "-o", "rec", "true"])
            .current_dir(folder.path())
            .output()
            .expect("this test needs unshare (util-linux)");
        crate::common::Done::from(output)
    };
    inside(&[]).complains(&["/proc is that of another pid namespace", "--mount-proc"]);
    assert!(!folder.join("rec").exists());
    inside(&["--mount-proc"]).ok();
}
