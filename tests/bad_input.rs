//! Mistakes: one clear sentence that names the file and the place, exit status 2, no process left, in time.

use crate::common::{Done, Folder};
use std::fs;
use std::time::{Duration, Instant};

/// Spun off as `p` at the first read of the file `data`, on line 1; what follows is on line 2.
const SPUN_OFF: &str = r#"rr.open "rec"; local p = rr.replay_to(rr.find{ syscall = "read", path = "*/data" }):spin_off()"#;

/// A folder with a recording, `rec`.
fn recorded() -> Folder {
    let folder = Folder::new();
    folder.write("data", "one\ntwo\n");
    folder.record("rec", &["wc", "data"]).ok();
    folder
}

/// Runs `s.lua`, which has this text.
fn run(folder: &Folder, text: &str) -> Done {
    folder.write("s.lua", text);
    folder.rrapper(["s.lua"])
}

/// Scripts, and what must be in the sentence about each besides the script's file and line.
#[track_caller]
fn all_complain(folder: &Folder, before: &str, line: u32, mistakes: &[(&str, &[&str])]) {
    let place = format!("s.lua:{line}: ");
    for (text, parts) in mistakes {
        let done = run(folder, &format!("{before}{text}"));
        let parts: Vec<&str> = parts.iter().copied().chain([place.as_str()]).collect();
        assert_eq!(done.stdout, b"", "{text}");
        eprintln!("{text}\n    {}", done.stderr.trim_end());
        done.complains(&parts);
    }
}

#[test]
fn a_script_that_cannot_be_read() {
    let folder = Folder::new();
    fs::create_dir(folder.join("dir.lua")).unwrap();
    folder
        .rrapper(["missing.lua"])
        .complains(&["missing.lua", "No such file"]);
    folder
        .rrapper(["dir.lua"])
        .complains(&["dir.lua", "Is a directory"]);
    folder
        .rrapper(["repaly"])
        .complains(&["repaly", "did you mean", "replay"]);
    folder
        .rrapper(["--frobnicate"])
        .complains(&["--frobnicate"]);
    folder.rrapper(["record"]).complains(&["COMMAND"]);
}

#[test]
fn mistakes_of_the_language() {
    let folder = recorded();
    let mistakes: &[(&str, &[&str])] = &[
        ("x = = 1", &["unexpected symbol near '='"]),
        ("for i = 1, 2 do", &["'end' expected"]),
        ("frobnicate()", &["global 'frobnicate'"]),
        ("print(nothing.here)", &["global 'nothing'"]),
        ("error 'as I said'", &["as I said"]),
        (
            "local t = setmetatable({}, { __index = function(t, k) error('no ' .. k) end }) return t.such",
            &["no such"],
        ),
    ];
    all_complain(&folder, "-- first\n", 2, mistakes);
    // A binary chunk could do anything.
    folder.write("b.lua", b"\x1bLua\x54\x00\x19\x93\r\n\x1a\n");
    folder.rrapper(["b.lua"]).complains(&["b.lua"]);
    let recursive = run(&folder, "local function f() return 1 + f() end\nf()");
    recursive.complains(&["s.lua:1: ", "stack overflow"]);
}

#[test]
fn unknown_names() {
    let folder = recorded();
    let mistakes: &[(&str, &[&str])] = &[
        (r#"rr.frob()"#, &["frob"]),
        (
            r#"rr.find{ syscall = "opne" }"#,
            &["unknown system call \"opne\"", "did you mean", "\"open\""],
        ),
        (r#"rr.find{ syscall = "%flie" }"#, &["%flie"]),
        (
            r#"rr.find{ sycsall = "open" }"#,
            &["sycsall", "did you mean \"syscall\""],
        ),
        (r#"rr.find{ failed = "EOI" }"#, &["EOI", "\"EIO\""]),
        (r#"rr.find{ path = re"(" }"#, &["(", "regular expression"]),
        (
            r#"rr.replay_to(99999)"#,
            &["rec", "no event 99999", "1 to "],
        ),
        (r#"rr.replay_to(0)"#, &["no event 0"]),
        (r#"rr.replay_to(-1)"#, &["-1"]),
        (r#"rr.replay_to(1.5)"#, &["1.5"]),
        (r#"rr.replay_to("x")"#, &["\"x\""]),
        (r#"rr.replay_to(nil)"#, &["nil"]),
        (r#"rr.replay_to(3); spin_off(99999)"#, &["99999", "event 3"]),
        (r#"rr.replay_to(3):frob()"#, &["frob"]),
        (r#"print(C.O_TRUNK)"#, &["O_TRUNK", "\"O_TRUNC\""]),
        (r#"print(errno.EOI)"#, &["EOI", "\"EIO\""]),
        (r#"print(signal.SIGKIL)"#, &["SIGKIL", "\"SIGKILL\""]),
        (
            r#"rr.record{ "true", cdw = "." }"#,
            &["cdw", "did you mean \"cwd\""],
        ),
        (r#"rr.record{ "true", cwd = "nowhere" }"#, &["nowhere"]),
        (r#"rr.record{}"#, &["no program"]),
        (
            r#"rr.record{ "no-such-program" }"#,
            &["no-such-program", "PATH"],
        ),
    ];
    all_complain(&folder, "rr.open 'rec'\n", 2, mistakes);
}

#[test]
fn wrong_hooks() {
    let folder = recorded();
    let mistakes: &[(&str, &[&str])] = &[
        (
            r#"p:inject{ raed = { fail = "EIO" } }"#,
            &["raed", "\"read\""],
        ),
        (
            r#"p:inject{ ["read,wirte"] = { fail = "EIO" } }"#,
            &["wirte", "\"write\""],
        ),
        (r#"p:inject{ ["%dsec"] = { fail = "EIO" } }"#, &["%dsec"]),
        (r#"p:inject{ timeuot = 1 }"#, &["timeuot", "\"timeout\""]),
        (r#"p:inject{ timeout = "soon" }"#, &["timeout", "\"soon\""]),
        (r#"p:inject{ timeout = -1 }"#, &["timeout"]),
        (
            r#"p:inject{ finally = "kil" }"#,
            &["finally", "\"kil\"", "did you mean \"kill\""],
        ),
        (
            r#"p:inject{ on_divergence = "stpo" }"#,
            &["on_divergence", "stpo"],
        ),
        (r#"p:inject{ on_divergence = 5 }"#, &["on_divergence", "5"]),
        (r#"p:inject{ read = 5 }"#, &["read", "5"]),
        (r#"p:inject{ read = {} }"#, &["read", "does nothing"]),
        (
            r#"p:inject{ read = { fail = "EOI" } }"#,
            &["EOI", "\"EIO\""],
        ),
        (r#"p:inject{ read = { fail = true } }"#, &["true"]),
        (r#"p:inject{ read = { fail = 99999 } }"#, &["99999"]),
        (
            r#"p:inject{ read = { fial = "EIO" } }"#,
            &["fial", "\"fail\""],
        ),
        (
            r#"p:inject{ read = { signal = "SIGTREM" } }"#,
            &["SIGTREM", "\"SIGTERM\""],
        ),
        (r#"p:inject{ read = { short = "x" } }"#, &["short", "\"x\""]),
        (r#"p:inject{ read = { short = -1 } }"#, &["short", "-1"]),
        (r#"p:inject{ read = { ret = {} } }"#, &["ret"]),
        (
            r#"p:inject{ read = { fail = "EIO", when = "x" } }"#,
            &["\"x\"", "first[..last][+step]"],
        ),
        (
            r#"p:inject{ read = { fail = "EIO", when = {} } }"#,
            &["when"],
        ),
        (
            r#"p:inject{ read = { fail = "EIO", when = "3..1" } }"#,
            &["3..1"],
        ),
        (
            r#"p:inject{ read = { fail = "EIO", fd = "x" } }"#,
            &["fd", "\"x\""],
        ),
        (
            r#"p:inject{ read = { fail = "EIO", path = 5 } }"#,
            &["path", "5"],
        ),
        (
            r#"p:inject{ read = { fail = "EIO", where = 5 } }"#,
            &["where", "5"],
        ),
        (
            r#"p:inject{ read = { enter = "x" } }"#,
            &["enter", "function"],
        ),
        (r#"p:inject{ { fail = "EIO" } }"#, &["rule 1", "on = "]),
        (r#"p:inject{ 5 }"#, &["rule 1", "5"]),
        (r#"p:inject(5)"#, &["trace"]),
        (r#"p:inject(function() return 5 end)"#, &["hooks", "5"]),
        (r#"p:live{ raed = { fail = "EIO" } }"#, &["raed"]),
        (r#"p:frob()"#, &["frob"]),
    ];
    all_complain(&folder, &format!("{SPUN_OFF}\n"), 2, mistakes);
}

#[test]
fn wrong_traces() {
    let folder = recorded();
    folder.write("text", "this is no trace\nat all\n");
    folder.write("binary", b"\x7fELF\x00\xff\xfe\n\n\x00");
    fs::create_dir(folder.join("dir")).unwrap();
    let mistakes: &[(&str, &[&str])] = &[
        (r#"p:inject(nil, 9999, 10000)"#, &["9999"]),
        (r#"p:inject(nil, 0, 99999)"#, &["99999"]),
        (r#"p:inject(nil, 2, 1)"#, &["2", "1"]),
        (r#"p:inject(nil, -1)"#, &["-1"]),
        (r#"p:inject(nil, "x")"#, &["\"x\""]),
        (
            r#"p:inject("missing.strace")"#,
            &["missing.strace", "No such file"],
        ),
        (r#"p:inject("text")"#, &["text:1", "no trace"]),
        (r#"p:inject("binary")"#, &["binary:1", "no trace"]),
        (r#"p:inject("dir")"#, &["dir", "directory"]),
        (
            r#"trace.load "missing.strace""#,
            &["missing.strace", "No such file"],
        ),
        (r#"trace.load "text""#, &["text:1", "no trace"]),
        (r#"trace.parse "this is no trace""#, &["no trace"]),
        (
            r#"trace.parse("close(3) = 0\n"):slice(2, 3)"#,
            &["slice 2 to 3", "1 call"],
        ),
        (r#"trace.parse("close(3) = 0\n"):frob()"#, &["frob"]),
        (
            r#"trace.parse("close(3) = 0\n"):map(function() return 5 end)"#,
            &["5"],
        ),
        (
            r#"trace.parse("close(3) = 0\n"):save("nowhere/at/all")"#,
            &["nowhere/at/all", "No such file"],
        ),
    ];
    all_complain(&folder, &format!("{SPUN_OFF}\n"), 2, mistakes);
}

#[test]
fn a_process_that_is_gone() {
    let folder = recorded();
    let mistakes: &[(&str, &[&str])] = &[
        ("p:inject{} p:inject{}", &["has ended"]),
        ("p:kill() print(p:regs())", &["has ended", "killed"]),
        ("p:kill() p:kill()", &["has ended"]),
        ("p:live{} spin_off(p.pid):kill() p:live{}", &["has ended"]),
        (
            "p:inject{ read = function() p:kill() end }",
            &["being injected into"],
        ),
        (
            "p:inject{ read = function() p:read(0, 1) end }",
            &["being injected into"],
        ),
        (
            "local kept; p:inject{ read = function(call) kept = call end } print(kept.name)",
            &["call"],
        ),
        ("print(p:read(0, 16))", &["0"]),
        ("print(p:read(0, 1 << 40))", &["too many"]),
        ("p:write(0, 'x')", &["0"]),
    ];
    all_complain(&folder, &format!("{SPUN_OFF}\n"), 2, mistakes);
}

#[test]
fn directories_that_are_no_recordings() {
    let folder = recorded();
    let whole = fs::read(folder.join("rec/events")).unwrap();
    let make = |name: &str, events: &[u8]| {
        fs::create_dir(folder.join(name)).unwrap();
        folder.write(&format!("{name}/events"), events);
    };
    fs::create_dir(folder.join("empty")).unwrap();
    make("other", b"some text\nof somebody\n");
    make("nothing", b"");
    make("half-header", &whole[..10]);
    make("no-start", &whole[..12]);
    make("half-start", &whole[..30]);
    let mut newer = whole.clone();
    newer[8] = 99;
    make("newer", &newer);
    fs::create_dir_all(folder.join("strange/events")).unwrap();
    let cases: [(&str, &str); 10] = [
        ("missing", "No such file"),
        ("data", "not a directory"),
        ("empty", "not a recording"),
        ("other", "not a recording"),
        ("nothing", "not a recording"),
        ("half-header", "not a recording"),
        ("no-start", "not a recording"),
        ("half-start", "not a recording"),
        ("newer", "version 99"),
        ("strange", "not a recording"),
    ];
    for (name, why) in cases {
        for command in ["replay", "events"] {
            let done = folder.rrapper([command, name]);
            assert_eq!(
                done.stderr.matches(why).count(),
                1,
                "said once: {}",
                done.stderr
            );
            done.complains(&[name, why]);
        }
        run(&folder, &format!("\nrr.open '{name}'")).complains(&["s.lua:2: ", name, why]);
    }
    folder
        .rrapper(["events", "rec", "--syscall", "opne"])
        .complains(&["opne", "\"open\""]);
    folder
        .rrapper(["events", "rec", "--failed=EOI"])
        .complains(&["EOI", "\"EIO\""]);
    folder
        .rrapper(["events", "rec", "--from", "x"])
        .complains(&["--from", "x"]);
}

#[test]
fn commands_that_cannot_be_recorded() {
    let folder = Folder::new();
    folder.write("plain", "some text");
    folder.write("broken", b"\x7fELF and then nothing of the kind");
    let executable = |name: &str| {
        use std::os::unix::fs::PermissionsExt;
        fs::set_permissions(folder.join(name), fs::Permissions::from_mode(0o755)).unwrap();
    };
    executable("broken");
    folder.write("lost", "#!/no/such/interpreter\n");
    executable("lost");
    fs::create_dir(folder.join("dir")).unwrap();
    fs::create_dir(folder.join("taken")).unwrap();
    folder.write("taken/file", "");
    let cases: [(&str, &str); 7] = [
        ("no-such-program", "PATH"),
        ("./missing", "no such file"),
        ("/no/such/program", "no such file"),
        ("./plain", "permission denied"),
        ("./dir", "directory"),
        ("./broken", "broken"),
        ("./lost", "lost"),
    ];
    for (program, why) in cases {
        folder
            .rrapper(["record", "-o", "rec", program])
            .complains(&[program, why]);
        assert!(
            !folder.join("rec").exists(),
            "{program} leaves no recording"
        );
        folder
            .rrapper(["record", program])
            .complains(&[program, why]);
    }
    let left = fs::read_dir(folder.join("data/rrapper")).map_or(0, Iterator::count);
    assert_eq!(left, 0, "no recording of a program that never ran");
    folder
        .rrapper(["record", "-o", "taken", "true"])
        .complains(&["taken", "exists"]);
    folder
        .rrapper(["record", "-o", "plain", "true"])
        .complains(&["plain"]);
    folder
        .rrapper(["record", "-o", "plain/below", "true"])
        .complains(&["plain/below"]);
    assert_eq!(
        fs::read_dir(folder.join("taken")).unwrap().count(),
        1,
        "untouched"
    );
    folder.rrapper(["record", ""]).complains(&["no program"]);
}

#[test]
fn hooks_that_raise() {
    let folder = recorded();
    let mistakes: &[(&str, &[&str])] = &[
        ("read = function(call)\n error 'boom' end", &["boom"]),
        (
            "read = { enter = function(call)\n local x; return x.y end }",
            &["'x'"],
        ),
        (
            "read = function(call)\n return call.args.frob.x end",
            &["frob"],
        ),
        ("read = function(call)\n return call.frob end", &["frob"]),
        (
            "read = function(call)\n call:fail 'EOI' end",
            &["EOI", "\"EIO\""],
        ),
        ("read = function(call)\n call:short(-1) end", &["-1"]),
        ("read = function(call)\n call:data({}) end", &["one string"]),
        ("read = function(call)\n call.ret = 'x' end", &["\"x\""]),
        (
            "read = { fail = 'EIO', where = function(call)\n error 'boom' end }",
            &["boom"],
        ),
        (
            "read = { ret = 77 }, on_divergence = function(d)\n error 'boom' end",
            &["boom"],
        ),
        (
            "read = { ret = 77 }, on_divergence = function(d)\n return d.frob.x end",
            &["frob"],
        ),
    ];
    for (hooks, parts) in mistakes {
        let done = run(&folder, &format!("{SPUN_OFF}\np:inject{{ {hooks} }}"));
        let parts: Vec<&str> = parts.iter().copied().chain(["s.lua:3: "]).collect();
        eprintln!("{hooks}\n    {}", done.stderr.trim_end());
        done.complains(&parts);
    }
    let kept = run(
        &folder,
        &format!(
            "{SPUN_OFF}\nlocal o = p:inject{{ on_error = 'outcome', read = function() error 'boom' end }}\nprint(o.status)"
        ),
    );
    assert_eq!(kept.ok().text(), "stopped\n");
}

/// Longer than any time limit in here, and short enough to tell that it was kept.
const LATE: Duration = Duration::from_secs(8);

#[test]
fn hooks_that_never_return() {
    let folder = recorded();
    for hang in [
        "while true do end",
        "pcall(function() while true do end end) while true do end",
        "local c = coroutine.wrap(function() while true do end end) c()",
        "string.find(string.rep('a', 100000), string.rep('a*', 100) .. 'b')",
    ] {
        let begun = Instant::now();
        let text =
            format!("{SPUN_OFF}\np:inject{{ timeout = 1, read = function(call)\n {hang} end }}");
        let done = run(&folder, &text);
        let took = begun.elapsed();
        assert!(
            took >= Duration::from_millis(900) && took < LATE,
            "{hang}: {took:?}"
        );
        done.complains(&["a hook did not return within the injection's time limit"]);
    }
}

#[test]
fn programs_that_hang_in_live() {
    let folder = recorded();
    let program = folder.compile("hang", &[]);
    for how in ["sleep", "spin", "calls"] {
        folder.record(how, &[&program, "data", how]).ok();
        let begun = Instant::now();
        let done = folder.script(&format!(
            r#"
            rr.open "{how}"
            local p = rr.replay_to(rr.find{{ syscall = "read", path = "*/data" }}):spin_off()
            local o = p:inject{{ timeout = 1, finally = "live", on_divergence = "live", read = {{ fail = "EIO", when = "1" }} }}
            print(o.status)
            "#
        ));
        let took = begun.elapsed();
        assert_eq!(done.ok().text(), "timeout\n", "{how}");
        assert!(
            took >= Duration::from_millis(900) && took < LATE,
            "{how}: {took:?}"
        );
    }
}
