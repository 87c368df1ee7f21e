//! What programs that run live get as their standard streams: nothing of the machine, and what was asked for.

use crate::common::{Done, Folder, RRAPPER, as_user};
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::pty::openpty;
use nix::sys::termios::tcgetattr;
use std::fs::File;
use std::io::{Read, Seek, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::Stdio;

/// Prints what a program's outcome is.
const SHOW: &str = "local function show(o) assert(o.status == 'exited', tostring(o) .. o.stderr) io.write(o.stdout) end\n";

/// Runs a script with this as rrapper's standard input.
fn run(folder: &Folder, script: &str, stdin: impl Into<Stdio>) -> Done {
    folder.write("script.lua", SHOW.to_string() + script);
    let mut command = folder.command(RRAPPER);
    let output = command.args(["-q", "script.lua"]).stdin(stdin).output();
    output.expect("the binary starts").into()
}

fn opened(folder: &Folder, content: &str) -> File {
    let path = folder.write("input", content);
    let file = File::options().read(true).write(true).open(path);
    file.expect("the input opens")
}

/// A pipe with this in it, and both its ends.
fn pipe(content: &[u8]) -> (File, File) {
    let (reader, writer) = std::io::pipe().expect("a pipe");
    let (reader, mut writer) = (OwnedFd::from(reader), File::from(OwnedFd::from(writer)));
    writer.write_all(content).expect("there is room");
    (reader.into(), writer)
}

#[test]
fn a_live_program_has_no_input_by_default() {
    let folder = Folder::new();
    let mut input = opened(&folder, "secret\n");
    let script = "show(live{ 'sh', '-c', 'readlink /proc/self/fd/0; cat' })";
    let done = run(&folder, script, input.try_clone().unwrap()).ok();
    assert_eq!(done.text(), "/dev/null\n");
    assert_eq!(input.stream_position().unwrap(), 0);
}

#[test]
fn an_inherited_file_can_be_read_and_not_changed() {
    for sandbox in ["cow", "none"] {
        let folder = Folder::new();
        let mut input = opened(&folder, "one\ntwo\nthree\n");
        let script = format!(
            "show(live{{ 'head', '-c', '4', stdin = 'inherit', sandbox = '{sandbox}' }})\n\
             show(live{{ 'sh', '-c', 'echo HARM >>/proc/self/fd/0; echo rc=$?', stdin = 'inherit', sandbox = '{sandbox}' }})"
        );
        let done = run(&folder, &script, input.try_clone().unwrap()).ok();
        // It wrote into its own pipe.
        assert_eq!(done.text(), "one\nrc=0\n");
        let mut rest = String::new();
        input.read_to_string(&mut rest).unwrap();
        assert_eq!(rest, "two\nthree\n");
    }
}

#[test]
fn an_inherited_input_is_read_to_its_end() {
    let folder = Folder::new();
    let text = folder.numbers();
    let script = "show(live{ 'sh', '-c', 'sleep 0.05; exec cksum', stdin = 'inherit' })";
    let expected = folder.plain(&["sh", "-c", "cksum < numbers"]).text();
    let file = File::open(folder.join(&text)).unwrap();
    assert_eq!(run(&folder, script, file).ok().text(), expected);
    let content = std::fs::read(folder.join(&text)).unwrap();
    let (reader, mut writer) = pipe(b"");
    let typist = std::thread::spawn(move || writer.write_all(&content));
    assert_eq!(run(&folder, script, reader).ok().text(), expected);
    typist.join().unwrap().unwrap();
}

#[test]
fn what_a_program_leaves_in_an_inherited_pipe_stays_there() {
    let folder = Folder::new();
    let (mut reader, writer) = pipe(b"one\ntwo\nthree\n");
    let script = "show(live{ 'head', '-c', '4', stdin = 'inherit' }) show(live{ 'head', '-c', '4', stdin = 'inherit' })";
    let done = run(&folder, script, reader.try_clone().unwrap()).ok();
    assert_eq!(done.text(), "one\ntwo\n");
    drop(writer);
    let mut rest = String::new();
    reader.read_to_string(&mut rest).unwrap();
    assert_eq!(rest, "three\n");
}

#[test]
fn an_input_without_data_does_not_keep_the_run_from_ending() {
    let folder = Folder::new();
    let (reader, _writer) = pipe(b"");
    run(&folder, "show(live{ 'true', stdin = 'inherit' })", reader).ok();
}

#[test]
fn an_inherited_directory_cannot_be_walked() {
    let folder = Folder::new();
    let script = "show(live{ 'sh', '-c', 'cat; ls /proc/self/fd/0/ 2>&1 | grep -c .; readlink /proc/self/fd/0', stdin = 'inherit' })";
    let done = run(&folder, script, File::open("/").unwrap()).ok();
    let said = done.text();
    assert!(said.starts_with("1\npipe:["), "{said}");
}

/// Tries what a program can do to a terminal.
const AT_A_TERMINAL: &str = r#"
import os, sys, termios, fcntl
def attempt(name, what):
    try: what(); print(name, "works")
    except (OSError, termios.error): print(name, "fails")
def echo_off():
    modes = termios.tcgetattr(0)
    modes[3] &= ~termios.ECHO
    termios.tcsetattr(0, termios.TCSANOW, modes)
print(os.isatty(0))
attempt("write", lambda: os.write(0, b"\x1b]0;title\x07"))
attempt("modes", echo_off)
attempt("input", lambda: fcntl.ioctl(0, termios.TIOCSTI, b"x"))
attempt("controlling", lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0))
attempt("/dev/tty", lambda: open("/dev/tty"))
print(sys.stdin.readline())
"#;

#[test]
fn rrappers_terminal_is_out_of_reach() {
    let folder = Folder::new();
    folder.write("at.py", AT_A_TERMINAL);
    let pair = openpty(None, None).expect("a terminal");
    let (mut master, slave) = (File::from(pair.master), pair.slave);
    let before = tcgetattr(&slave).unwrap();
    let script = "show(live{ 'python3', 'at.py', stdin = 'inherit' })";
    // It is read once the program waits for a line.
    master.write_all(b"typed\n").unwrap();
    let done = run(&folder, script, slave.try_clone().unwrap()).ok();
    let refused = "write fails\nmodes fails\ninput fails\ncontrolling fails\n/dev/tty fails\n";
    assert_eq!(done.text(), format!("False\n{refused}typed\n\n"));
    assert!(tcgetattr(&slave).unwrap() == before);
    let flags = fcntl(&slave, FcntlArg::F_GETFL).unwrap();
    assert_eq!(flags & OFlag::O_NONBLOCK.bits(), 0);
    // Only the echo of what was typed is there.
    fcntl(&master, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).unwrap();
    let mut shown = Vec::new();
    assert!(master.read_to_end(&mut shown).is_err());
    assert_eq!(String::from_utf8_lossy(&shown), "typed\r\n");
}

#[test]
fn a_program_can_have_a_terminal_of_its_own() {
    let folder = Folder::new();
    folder.write(
        "at.py",
        "import os, sys\n\
         print(*[os.isatty(fd) for fd in range(3)], os.ttyname(0).startswith('/dev/pts/'), file=sys.stderr)\n\
         print(os.tcgetpgrp(0) == os.getpgrp(), os.get_terminal_size().columns)\n\
         print(sys.stdin.read().upper(), open('/dev/tty').readline() == '')\n",
    );
    for sandbox in ["cow", "none"] {
        let script = format!(
            "local o = live{{ 'python3', 'at.py', tty = true, stdin = 'one\\ntwo', sandbox = '{sandbox}' }}\n\
             assert(o.stderr == '', o.stderr) show(o)"
        );
        let said = run(&folder, &script, Stdio::null()).ok().text();
        let expected = "True True True True\nTrue 80\nONE\nTWO True\n";
        assert_eq!(said, expected, "{sandbox}");
    }
}

#[test]
fn much_can_be_typed_at_a_terminal() {
    let folder = Folder::new();
    let script = "show(live{ 'wc', tty = true, stdin = ('0123456789\\n'):rep(30000) })\n\
                  show(live{ 'sh', '-c', 'cat; cat; tty | head -c 9', tty = true })";
    let said = run(&folder, script, Stdio::null()).ok().text();
    let words: Vec<&str> = said.split_whitespace().collect();
    assert_eq!(words, ["30000", "30000", "330000", "/dev/pts/"]);
}

#[test]
fn control_characters_act_at_a_terminal() {
    let folder = Folder::new();
    let script =
        "local o = live{ 'cat', tty = true, stdin = 'one\\n\\3' } print(o.status, o.signal)";
    let said = run(&folder, script, Stdio::null()).ok().text();
    assert_eq!(said, "signaled\tSIGINT\n");
}

#[test]
fn other_descriptors_stay_outside() {
    let folder = Folder::new();
    let secret = File::open(folder.write("secret", "secret\n")).unwrap();
    for options in ["", "tty = true,", "stdin = 'inherit',", "sandbox = 'none',"] {
        folder.write(
            "script.lua",
            format!("{SHOW}show(live{{ {options} 'sh', '-c', 'echo /proc/self/fd/*; cat <&9' }})"),
        );
        let mut command = folder.command(RRAPPER);
        let fd = secret.as_raw_fd();
        let pass = move || {
            // SAFETY: dup2(2) with numbers.
            match unsafe { libc::dup2(fd, 9) } {
                9 => Ok(()),
                _ => Err(std::io::Error::last_os_error()),
            }
        };
        // SAFETY: the closure only makes a system call.
        unsafe { command.pre_exec(pass) };
        let done = Done::from(command.args(["-q", "script.lua"]).output().unwrap());
        let said = format!("{}{}", done.text(), done.stderr);
        assert!(!said.contains("/proc/self/fd/9"), "{options} {said}");
        assert!(!said.contains("secret\n"), "{options} {said}");
    }
}

#[test]
fn the_word_inherit_is_the_same_everywhere() {
    let folder = Folder::new();
    let script = "local data <close> = assert(io.open('word', 'w+')) data:write 'inherit' data:seek 'set'\n\
        show(live{ 'cat', stdin = data })\n\
        print(pcall(live, { 'cat', tty = true, stdin = 'inherit' }))\n\
        rr.record{ 'cat', stdin = 'inherit', out = 'rec' }";
    let (reader, writer) = pipe(b"given\n");
    drop(writer);
    let said = run(&folder, script, reader).ok().text();
    assert!(said.starts_with("inheritfalse"), "{said}");
    assert!(said.contains("cannot be typed at the terminal"), "{said}");
    assert!(said.ends_with("given\n"), "{said}");
}

#[test]
fn all_that_holds_for_users() {
    as_user(&["live_streams::", "--skip", "all_that_holds_for_users"]);
}
