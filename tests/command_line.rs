//! What the command line says: events as strace shows them, suggestions, where things were looked for, and nothing that a
//! terminal would obey.

use crate::common::{Done, Folder};

/// A folder with a recording, `rec`, of a program that reads a long line.
fn recorded() -> Folder {
    let folder = Folder::new();
    folder.write("long", "0123456789".repeat(10));
    folder.record("rec", &["cat", "long"]).ok();
    folder
}

fn line<'a>(text: &'a str, has: &str) -> &'a str {
    let found = text.lines().find(|line| line.contains(has));
    found.unwrap_or_else(|| panic!("no {has} in {text}"))
}

#[test]
fn events_are_abbreviated_as_strace_does() {
    let folder = recorded();
    let short = folder.rrapper(["events", "rec"]).ok().text();
    assert!(
        line(&short, " execve(").ends_with(" vars */) = 0"),
        "{short}"
    );
    let read = line(&short, "read(3, \"0123");
    assert!(
        read.contains(" \"01234567890123456789012345678901\"..., "),
        "{read}"
    );
    let stat = line(&short, "st_mode=");
    assert!(
        stat.contains("st_size=") && !stat.contains("st_ino="),
        "{stat}"
    );
    assert!(stat.contains(", ...}"), "{stat}");
    for all in [
        ["events", "-v", "rec"],
        ["-v", "events", "rec"],
        ["events", "rec", "--verbose"],
    ] {
        let done = folder.rrapper(all).ok();
        assert_eq!(done.stderr, "");
        let all = done.text();
        assert_eq!(all.lines().count(), short.lines().count());
        assert!(
            line(&all, "0123456789").contains(&"0123456789".repeat(10)),
            "{all}"
        );
        assert!(line(&all, "st_mode=").contains("st_ino="), "{all}");
        assert!(
            line(&all, " execve(").contains("[\"cat\", \"long\"], [\""),
            "{all}"
        );
    }
}

#[test]
fn events_are_objects_with_their_numbers() {
    let folder = recorded();
    let json = folder.rrapper(["events", "--json", "rec"]).ok().text();
    let short = folder.rrapper(["events", "rec"]).ok().text();
    assert_eq!(json.lines().count(), short.lines().count());
    for (n, (object, line)) in (1..).zip(json.lines().zip(short.lines())) {
        assert!(
            object.starts_with("{\"type\":\"") && object.ends_with('}'),
            "{object}"
        );
        if line.contains("+++ exited with 0 +++") {
            assert!(
                object.contains("\"type\":\"exit\"") && object.contains("\"status\":0"),
                "{object}"
            );
            continue;
        }
        assert!(line.trim_start().starts_with(&format!("{n} ")), "{line}");
        assert!(object.contains(&format!("\"event\":{n},")), "{object}");
        assert!(
            object.contains("\"pid\":") && object.contains("\"process\":"),
            "{object}"
        );
    }
    let read = line(&json, "\"name\":\"read\",\"args\":[{\"fd\":3},\"0123");
    assert!(read.contains(&"0123456789".repeat(10)), "{read}");
    let filtered = folder.rrapper(["events", "--json", "--syscall=openat", "--failed", "rec"]);
    assert!(
        filtered
            .ok()
            .text()
            .lines()
            .all(|line| line.contains("\"errno\":\"E") || line.contains("\"type\":\"exit\""))
    );
}

#[test]
fn a_process_that_there_is_not_is_told_from_one_without_such_events() {
    let folder = Folder::new();
    folder.record("rec", &["sh", "-c", "(exit 3); true"]).ok();
    let all = folder.rrapper(["events", "--json", "rec"]).ok().text();
    let pid = |object: &str| -> String {
        let (_, rest) = object.split_once("\"process\":").expect("a process");
        rest.trim_end_matches('}').to_owned()
    };
    let first = pid(all.lines().next().expect("an event"));
    let done = folder.rrapper(["events", "--pid", "1", "rec"]);
    let done = done.complains(&["no process or task 1;", "processes: ", &first]);
    assert_eq!(done.stdout, b"");
    let done = folder
        .rrapper(["events", "--pid", &first, "--syscall", "socket", "rec"])
        .ok();
    assert!(
        done.text().lines().all(|line| line.contains("+++")),
        "{}",
        done.text()
    );
}

#[test]
fn what_is_misspelt_is_suggested_where_it_is_near() {
    let folder = Folder::new();
    for (args, says) in [
        (
            &["events", "--sycall=read", "rec"][..],
            &["--sycall", "did you mean \"--syscall\"?"][..],
        ),
        (
            &["trace", "json", "--strit", "x"],
            &["did you mean \"--strict\"?"],
        ),
        (&["trace", "chek", "x"], &["did you mean \"check\"?"]),
        (&["recrod", "ls"], &["did you mean the command \"record\"?"]),
        (&["evnets", "x"], &["did you mean the command \"events\"?"]),
        (&["lst"], &["did you mean the command \"list\"?"]),
    ] {
        folder.rrapper(args).complains(says);
    }
    for args in [&["run", "x"][..], &["go"], &["r"]] {
        let done = folder.rrapper(args);
        let done = done.complains(&["no script and no command", args[0]]);
        assert!(!done.stderr.contains("did you mean"), "{}", done.stderr);
    }
}

#[test]
fn a_recording_that_there_is_not_was_looked_for_somewhere() {
    let folder = Folder::new();
    let home = folder.join("home");
    let run = |args: &[&str]| -> Done {
        let mut command = folder.command(crate::common::RRAPPER);
        command.env("XDG_DATA_HOME", &home).args(args);
        command.output().expect("the binary starts").into()
    };
    run(&["record", "true"]).ok();
    let place = home.join("rrapper").display().to_string();
    for command in ["events", "replay", "pack"] {
        run(&[command, "nosuch"]).complains(&[
            "cannot open the recording nosuch",
            "current directory",
            &place,
        ]);
        run(&[command, "true-1"]).complains(&["did you mean \"true-0\"?"]);
        // A path says where.
        let done = run(&[command, "./nosuch"]);
        let done = done.complains(&["cannot open the recording ./nosuch"]);
        assert!(!done.stderr.contains(&place), "{}", done.stderr);
    }
    run(&["events", "true-0"]).ok();
}

#[test]
fn terminals_obey_nothing_that_a_program_is_called() {
    let folder = Folder::new();
    let name = "a\x1b[31m\x07\u{9b}b";
    folder.write("x\x1b[31m", "no program\n");
    let path = "./x\x1b[31m";
    let data = folder.join("data");
    let run = |args: &[&str]| -> Done {
        let mut command = folder.command(crate::common::RRAPPER);
        command.env("XDG_DATA_HOME", &data).args(args);
        command.output().expect("the binary starts").into()
    };
    let is_clean = |done: &Done| {
        let both = [done.stdout.clone(), done.stderr.clone().into_bytes()].concat();
        let both = String::from_utf8_lossy(&both).into_owned();
        let control = both
            .chars()
            .find(|c| c.is_control() && *c != '\n' && *c != '\t');
        assert_eq!(control, None, "{both:?}");
        both
    };
    let said = is_clean(&run(&[
        "record", "-o", name, "--", "sh", "-c", "exit 0", name,
    ]));
    assert!(said.contains("a\\x1b[31m\\x07\\u{9b}b"), "{said}");
    is_clean(&run(&["events", name]));
    is_clean(&run(&["events", "-v", name]));
    is_clean(&run(&["events", "--json", name]));
    let listed = is_clean(&run(&["list", "."]));
    assert!(listed.contains("a\\x1b[31m"), "{listed}");
    is_clean(&run(&["record", path]));
    is_clean(&run(&["record", "--", "./nosuch\x1b[2J"]));
    for args in [
        &["events", "x\x1b[2J"][..],
        &["replay", "x\x1b[2J"],
        &["rm", "x\x1b[2J"],
        &["pack", name, "-o", "no/x\x1b[2J"],
        &["trace", "check", "x\x1b[2J"],
        &["x\x1b[2J.lua"],
        &["x\x1b[2J"],
        &["events", "--x\x1b[2J"],
        &["events", "--syscall=x\x1b[2J", name],
        &["events", "--failed=x\x1b[2J", name],
    ] {
        let said = is_clean(&run(args));
        assert!(said.contains("rrapper: "), "{said}");
    }
    folder.write("error.lua", "error('a\\27[31m')");
    let said = is_clean(&run(&["error.lua"]));
    assert!(said.contains("a\\x1b[31m"), "{said}");
}

/// Words that a help text is made of, none of them cut off.
#[test]
fn every_command_has_a_help_that_says_what_it_takes() {
    let folder = Folder::new();
    for command in [
        &["record"][..],
        &["replay"],
        &["events"],
        &["doctor"],
        &["doc"],
        &["doc", "errors"],
        &["list"],
        &["rm"],
        &["pack"],
        &["trace"],
        &["trace", "check"],
        &["trace", "print"],
        &["trace", "json"],
        &["trace", "stats"],
    ] {
        for flag in ["-h", "--help"] {
            let args: Vec<&str> = command.iter().copied().chain([flag]).collect();
            let text = folder.rrapper(&args).ok().text();
            let usage = format!("Usage: rrapper {}", command.join(" "));
            assert!(text.contains(&usage), "{text}");
            let first = text.lines().next().unwrap_or_default();
            assert!(first.len() > 10 && first.contains(' '), "{text}");
            // Every option says what it does.
            let options = text
                .lines()
                .filter(|line| line.trim_start().starts_with("--"));
            for option in options {
                let said = option.trim_start().contains("  ") || flag == "--help";
                assert!(said, "{option} in {text}");
            }
        }
    }
}
