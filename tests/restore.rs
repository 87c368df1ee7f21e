//! What the kernel knows of a process that goes live: each kind of thing is set up, the process spun off, and what it
//! then sees compared with a run without rrapper.

use crate::common::{Done, Folder, RRAPPER};
use std::io::Write;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;

/// A program, and files for it to use, where each run finds them as they were.
struct Setup {
    folder: Folder,
    program: String,
}

impl Setup {
    fn new() -> Setup {
        let folder = Folder::new();
        let program = folder.compile("revive", &["-lrt", "-Wno-unused-result"]);
        Setup { folder, program }
    }

    fn reset(&self) {
        for name in ["made", "sock", "dir/there"] {
            let _ = std::fs::remove_file(self.folder.join(name));
        }
        self.folder.write("text", "the text of a file");
        self.folder.write("log", "log:");
        std::fs::create_dir_all(self.folder.join("dir")).expect("a directory");
        for name in ["a", "b", "c"] {
            self.folder.write(&format!("dir/{name}"), "");
        }
    }

    fn plain(&self, case: &str) -> Done {
        self.reset();
        self.folder.plain(&[&self.program, case]).ok()
    }

    fn record(&self, case: &str) {
        self.reset();
        self.folder.record("rec", &[&self.program, case]).ok();
    }

    /// The files as they are at the mark.
    fn as_at_mark(&self, case: &str) {
        self.reset();
        if case == "files" {
            let made = self.folder.write("made", "0123456789");
            let mode = std::fs::Permissions::from_mode(0o400);
            std::fs::set_permissions(made, mode).expect("its mode is set");
            self.folder.write("log", "log:x");
            self.folder.write("dir/there", "moved");
        }
    }

    /// Records the program with this on its standard input and output.
    fn record_with(&self, case: &str, input: &[u8], output: Stdio) {
        self.reset();
        let mut child = self
            .folder
            .command(RRAPPER)
            .args(["-q", "record", "-o", "rec", "--", &self.program, case])
            .stdin(Stdio::piped())
            .stdout(output)
            .spawn()
            .expect("the binary starts");
        let mut stdin = child.stdin.take().expect("a pipe");
        stdin.write_all(input).expect("the program reads");
        drop(stdin);
        assert!(child.wait().expect("it ends").success());
    }

    /// Goes live at the mark, and says what it misses on standard error.
    fn live(&self) -> Done {
        self.goes_live(r#"rr.find{ syscall = "getpriority" }.event):spin_off():live{ getpriority = { ret = 77 } }"#)
    }

    /// Is led to the mark by its recording, and goes live there.
    fn led(&self) -> Done {
        self.goes_live("3):spin_off():inject{ getpriority = { live = true } }")
    }

    fn goes_live(&self, how: &str) -> Done {
        self.folder
            .script(
                &r#"
            rr.open "rec"
            local o = rr.replay_to(HOW
            assert(o.status == "exited" and o.exit_code == 0, tostring(o))
            io.write(o.stdout)
            io.stderr:write(o.stderr)
            for _, what in ipairs(o.missing) do io.stderr:write("missing: ", what, "\n") end
            "#
                .replace("HOW", how),
            )
            .ok()
    }
}

/// What is behind the mark.
fn behind(output: &str) -> &str {
    let (_, rest) = output.split_once("--\n").expect("the mark");
    rest
}

/// Live, the program must show what it shows without rrapper, and miss nothing.
#[track_caller]
fn same(case: &str) {
    let setup = Setup::new();
    let plain = setup.plain(case);
    setup.record(case);
    setup.as_at_mark(case);
    let live = setup.live();
    assert_eq!(live.text(), behind(&plain.text()), "{}", live.stderr);
    assert!(!behind(&plain.text()).is_empty());
    assert_eq!(live.stderr, plain.stderr);
}

macro_rules! same {
    ($($case:ident)*) => {
        $(
            #[test]
            fn $case() {
                same(stringify!($case));
            }
        )*
    };
}

same! { files pipes pairs counters timers sets memory own output }

/// What the process does while its recording answers is not lost either.
#[test]
fn what_was_answered_counts() {
    let setup = Setup::new();
    for case in [
        "files", "pipes", "pairs", "counters", "timers", "sets", "memory", "output",
    ] {
        let plain = setup.plain(case);
        let _ = std::fs::remove_dir_all(setup.folder.join("rec"));
        setup.record(case);
        setup.as_at_mark(case);
        let led = setup.led();
        assert_eq!(led.text(), plain.text(), "{case}: {}", led.stderr);
        assert_eq!(led.stderr, plain.stderr, "{case}");
    }
}

#[test]
fn peers_that_are_not_there_have_reset_their_connections() {
    let setup = Setup::new();
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    setup.folder.write("port", port.to_string());
    setup.record("peer");
    let live = setup.live();
    assert_eq!(live.text(), "a -1 <>ECONNRESET\na 0 <>\na -1 EPIPE\n");
    let missing = live.stderr.lines().collect::<Vec<_>>();
    assert_eq!(missing.len(), 1, "{missing:?}");
    assert!(
        missing[0].contains(&format!("127.0.0.1:{port}")),
        "{missing:?}"
    );
}

/// The ends of a connection are both the process's own.
#[test]
fn connections_are_made_again_with_what_is_in_them() {
    same("sockets");
}

#[test]
fn input_that_was_recorded_comes_again() {
    let setup = Setup::new();
    setup.record_with("input", b"one two three\n", Stdio::null());
    let live = setup.live();
    assert_eq!(live.text(), "rest 10 <two three\n>\nend 0 <>\nfifo 1\n");
    assert_eq!(live.stderr, "");
    // More than a pipe holds, of which the program reads a part.
    let setup = Setup::new();
    setup.record_with(
        "input",
        "one two three\n".repeat(4000).as_bytes(),
        Stdio::null(),
    );
    let live = setup.live().text();
    assert!(
        live.starts_with("rest 99 <two three\none two three\n"),
        "{live}"
    );
}

#[test]
fn output_goes_to_the_same_kind_of_file() {
    let setup = Setup::new();
    let out = std::fs::File::create(setup.folder.join("out")).expect("a file");
    setup.record_with("output", b"", out.into());
    let written = std::fs::read(setup.folder.join("out")).expect("the file");
    let live = setup.live();
    assert_eq!(live.text(), "fifo 0\nfile 1\nterminal 0\nagain\n");
    assert_eq!(live.stderr, "error\n");
    let now = std::fs::read(setup.folder.join("out")).expect("the file");
    assert_eq!(now, written, "the file is left alone");
}

#[test]
fn terminals_stay_terminals() {
    let setup = Setup::new();
    let pty = nix::pty::openpty(None, None).expect("a terminal");
    setup.record_with("output", b"", pty.slave.into());
    let live = setup.live();
    assert_eq!(
        live.text(),
        "fifo 0\nfile 0\nterminal 1\nagain\ncolumns 80\n"
    );
    assert_eq!(live.stderr, "error\n");
}

#[test]
fn what_is_lost_fails_as_if_it_broke_and_is_listed() {
    let setup = Setup::new();
    setup.reset();
    let argv = [&setup.program, "lost"];
    setup.folder.record_without_files("rec", &argv);
    let live = setup.goes_live(
        r#"rr.find{ syscall = "getpriority" }.event):spin_off{ alone = true }:live{ getpriority = { ret = 77 } }"#,
    );
    assert_eq!(
        live.text(),
        "gone -1 <>EIO\ngone -1 EIO\np 0 <>\nq -1 EPIPE\n"
    );
    for what in [
        "gone): it cannot be opened again",
        ", which wrote to it, is not there",
        ", which read from it, is not there",
    ] {
        assert!(live.stderr.contains(what), "{}", live.stderr);
    }
    assert_eq!(live.stderr.lines().count(), 3, "{}", live.stderr);
}
