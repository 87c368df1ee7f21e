//! What a script can still do when its user ends it, and when it wants more memory than there is.

use crate::common::{Folder, RRAPPER};
use std::io::{BufRead, BufReader};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

/// A script that opens a file, has something to close, says `ready`, and then does this.
fn script(then: &str) -> String {
    format!(
        r#"
        local out = assert(io.open("out", "w"))
        out:write("half of it")
        local guard <close> = setmetatable({{}}, {{ __close = function()
          local f = assert(io.open("closed", "w"))
          f:write("yes")
          f:close()
        end }})
        io.stdout:write("ready\n")
        io.stdout:flush()
        {then}
        "#
    )
}

/// Runs such a script until it is ready.
fn start(folder: &Folder, then: &str) -> Child {
    folder.write("s.lua", script(then));
    let mut child = folder
        .command(RRAPPER)
        .arg("s.lua")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary starts");
    let stdout = child.stdout.take().expect("a pipe");
    let mut line = String::new();
    let mut stdout = BufReader::new(stdout);
    stdout.read_line(&mut line).expect("a line");
    assert_eq!(line, "ready\n");
    // What it prints later is of no interest, but must find a reader.
    std::thread::spawn(move || std::io::copy(&mut stdout, &mut std::io::sink()));
    child
}

fn send(child: &Child, signal: i32) {
    let pid = i32::try_from(child.id()).expect("a pid");
    // SAFETY: kill(2) takes numbers; the process is ours and has not been waited for.
    assert_eq!(unsafe { libc::kill(pid, signal) }, 0);
}

/// Waits for the end: by which signal, and what was said.
fn end(child: Child) -> (Option<i32>, String) {
    let output = child.wait_with_output().expect("it ends");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    (output.status.signal(), said)
}

fn holds(folder: &Folder, name: &str) -> String {
    std::fs::read_to_string(folder.join(name)).unwrap_or_default()
}

#[test]
fn a_script_that_is_interrupted_closes_what_it_has_open() {
    for (then, signal, name) in [
        ("while true do end", libc::SIGINT, "SIGINT"),
        (
            "local function f() return f() end f()",
            libc::SIGTERM,
            "SIGTERM",
        ),
        // Whoever catches all errors does not catch this one.
        (
            "while true do pcall(function() while true do end end) end",
            libc::SIGINT,
            "SIGINT",
        ),
        (
            "while true do xpcall(function() while true do end end, function(e) return e end) end",
            libc::SIGTERM,
            "SIGTERM",
        ),
        (
            "while true do local co = coroutine.create(function() while true do end end) coroutine.resume(co) end",
            libc::SIGHUP,
            "SIGHUP",
        ),
        // What waits in our own functions.
        ("live{ 'sleep', '1000' }", libc::SIGINT, "SIGINT"),
        (
            "while true do pcall(live, { 'sleep', '1000' }) end",
            libc::SIGTERM,
            "SIGTERM",
        ),
        (
            "live{ 'sh', '-c', 'while :; do :; done' }",
            libc::SIGTERM,
            "SIGTERM",
        ),
        (
            "rr.record{ 'sleep', '1000', out = 'rec' }",
            libc::SIGINT,
            "SIGINT",
        ),
    ] {
        let folder = Folder::new();
        let child = start(&folder, then);
        if then.contains("record") {
            // It is the program's signal only once there is one.
            let begun = Instant::now();
            while !folder.join("rec/events").exists() || begun.elapsed() < Duration::from_secs(1) {
                assert!(
                    begun.elapsed() < Duration::from_secs(20),
                    "nothing is recorded"
                );
                std::thread::sleep(Duration::from_millis(10));
            }
        }
        send(&child, signal);
        let (died_of, said) = end(child);
        assert_eq!(died_of, Some(signal), "{then}: {said}");
        assert!(
            said.contains(&format!("interrupted by {name}")),
            "{then}: {said}"
        );
        assert_eq!(holds(&folder, "out"), "half of it", "{then}: {said}");
        assert_eq!(holds(&folder, "closed"), "yes", "{then}: {said}");
    }
}

#[test]
fn a_script_that_is_deaf_is_ended_and_its_files_are_flushed() {
    let folder = Folder::new();
    // It waits for a line in the C library.
    let mut child = start(&folder, "io.read()");
    let stdin = child.stdin.take();
    send(&child, libc::SIGTERM);
    let (died_of, said) = end(child);
    drop(stdin);
    assert_eq!(died_of, Some(libc::SIGTERM), "{said}");
    assert_eq!(holds(&folder, "out"), "half of it");
}

#[test]
fn a_second_signal_does_not_wait_for_what_is_closed() {
    let folder = Folder::new();
    let then = r#"
        local slow <close> = setmetatable({}, { __close = function()
          assert(io.open("closing", "w")):close()
          while true do pcall(function() while true do end end) end
        end })
        while true do end
    "#;
    let child = start(&folder, then);
    send(&child, libc::SIGINT);
    let begun = Instant::now();
    while !folder.join("closing").exists() {
        assert!(
            begun.elapsed() < Duration::from_secs(20),
            "nothing is closed"
        );
        std::thread::sleep(Duration::from_millis(5));
    }
    send(&child, libc::SIGTERM);
    let (died_of, said) = end(child);
    assert!(
        matches!(died_of, Some(libc::SIGTERM | libc::SIGINT)),
        "{said}"
    );
}

#[test]
fn too_much_memory_is_an_error_of_the_script() {
    let folder = Folder::new();
    for (text, says) in [
        (
            "\nlocal s = string.rep('x', 2000000000)",
            "s.lua:2: not enough memory",
        ),
        (
            "\n\nlocal s = ('x'):rep(2000000000)",
            "s.lua:3: not enough memory",
        ),
        // Lua's own limit, which comes first.
        ("local s = string.rep('x', 1 << 40)", "s.lua:1: "),
        (
            "local t = {}\nwhile true do\n  t[#t + 1] = {}\nend",
            "s.lua:3: not enough memory",
        ),
        ("local s = 'x'\nwhile true do s = s .. s end", "s.lua: "),
    ] {
        folder.write("s.lua", text);
        // So much for all, lest a machine with much memory fill it here.
        let mut command = folder.command("sh");
        command.args(["-c", "ulimit -v 1500000; exec \"$0\" s.lua", RRAPPER]);
        let output = command.output().expect("a shell");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{text}: {said}");
        assert!(
            said.starts_with(&format!("rrapper: {says}")),
            "{text}: {said}"
        );
        assert!(
            said.contains("memory") || said.contains("too large"),
            "{text}: {said}"
        );
    }
    // It can be caught, and leaves the script working.
    let text = "local ok, e = pcall(string.rep, 'x', 1 << 40) print(ok, e:match('too large')) print(#string.rep('ab', 3, ','), table.concat({1, 2}, ','))";
    let done = folder.script(text).ok();
    assert_eq!(done.text(), "false\ttoo large\n8\t1,2\n");
    folder
        .script("table.concat({ {} })")
        .complains(&["stdin:1: ", "at index 1", "'concat'"]);
    folder
        .script("string.rep({})")
        .complains(&["bad argument #1 to 'rep'"]);
}
