//! What the tests share: a folder of their own, the binary, programs compiled from `tests/fixtures`.
#![allow(dead_code, reason = "each test binary uses a part of it")]

pub mod blocks;
pub mod limits;
pub mod listed;
pub mod machine;
pub mod whole;

use std::ffi::OsStr;
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use tempfile::TempDir;

/// The binary under test.
pub const RRAPPER: &str = env!("CARGO_BIN_EXE_rrapper");

/// A folder that goes away with the test, to run things in.
pub struct Folder {
    dir: TempDir,
}

/// A command's end.
pub struct Done {
    pub code: Option<i32>,
    pub stdout: Vec<u8>,
    pub stderr: String,
    pub output: Output,
}

impl Done {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    /// Checks that it succeeded, and shows what it said otherwise.
    #[track_caller]
    pub fn ok(self) -> Done {
        assert_eq!(
            self.code,
            Some(0),
            "stdout: {}\nstderr: {}",
            self.text(),
            self.stderr
        );
        self
    }

    /// Checks that it failed with status 2 and one sentence, which has all of these in it.
    #[track_caller]
    pub fn complains(self, parts: &[&str]) -> Done {
        assert_eq!(
            self.code,
            Some(2),
            "stdout: {}\nstderr: {}",
            self.text(),
            self.stderr
        );
        assert_eq!(
            self.stderr.trim_end().lines().count(),
            1,
            "one line: {}",
            self.stderr
        );
        assert!(self.stderr.starts_with("rrapper: "), "{}", self.stderr);
        for part in parts {
            assert!(self.stderr.contains(part), "{part:?} in {}", self.stderr);
        }
        self
    }
}

impl From<Output> for Done {
    fn from(output: Output) -> Done {
        Done {
            code: output.status.code(),
            stdout: output.stdout.clone(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
            output,
        }
    }
}

/// Runs the tests of this binary again as a user without privileges, if they run as root; these arguments say which.
#[track_caller]
pub fn as_user(which: &[&str]) {
    const USER: &str = "12345";
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    let me = std::env::current_exe().expect("the test's own binary");
    let temporary = tempfile::tempdir().expect("a temporary folder");
    let all = std::os::unix::fs::PermissionsExt::from_mode(0o777);
    std::fs::set_permissions(temporary.path(), all).expect("a folder for all");
    let output = Command::new("setpriv")
        .args(["--reuid", USER, "--regid", USER, "--clear-groups"])
        .arg(me)
        .args(which)
        .env("TMPDIR", temporary.path())
        .env("HOME", temporary.path())
        .output()
        .expect("this test needs setpriv (util-linux)");
    let said = String::from_utf8_lossy(&output.stdout);
    let complained = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}\n{complained}");
    assert!(!said.contains("running 0 tests"), "{which:?}: {said}");
}

impl Folder {
    pub fn new() -> Folder {
        Folder {
            dir: tempfile::tempdir().expect("a temporary folder"),
        }
    }

    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    pub fn join(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.join(name);
        std::fs::write(&path, content).expect("a file in the folder");
        path
    }

    /// A command that runs here, with nothing on its standard input, and a place of its own for recordings.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        command
            .current_dir(self.path())
            .env("XDG_DATA_HOME", self.join("data"))
            .env("LC_ALL", "C")
            .env_remove("RRAPPER_LOG")
            // Cargo's, which has programs look for their libraries in many places first.
            .env_remove("LD_LIBRARY_PATH")
            .stdin(Stdio::null());
        // Tests that run in the background, or under nohup, ignore some signals.
        let default = || {
            for signal in [libc::SIGINT, libc::SIGQUIT, libc::SIGHUP, libc::SIGTERM] {
                // SAFETY: signal(2) with numbers.
                unsafe { libc::signal(signal, libc::SIG_DFL) };
            }
            Ok(())
        };
        // SAFETY: the closure only makes system calls.
        unsafe { command.pre_exec(default) };
        command
    }

    /// Runs the binary here.
    pub fn rrapper<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Done {
        let output = self.command(RRAPPER).args(args).output();
        output.expect("the binary starts").into()
    }

    /// Runs a program here without rrapper.
    pub fn plain(&self, argv: &[&str]) -> Done {
        let output = self.command(argv[0]).args(&argv[1..]).output();
        output.expect("the program starts").into()
    }

    /// Records a program into the folder `name`.
    #[track_caller]
    pub fn record(&self, name: &str, argv: &[&str]) -> Done {
        let done = self.rrapper(["-q", "record", "-o", name, "--"].iter().chain(argv));
        assert!(
            self.join(name).join("events").exists(),
            "recorded: {}",
            done.stderr
        );
        done
    }

    /// The same without the files before the recording: live finds those that a test has changed since.
    #[track_caller]
    pub fn record_without_files(&self, name: &str, argv: &[&str]) -> Done {
        let how = ["-q", "record", "--world", "none", "-o", name, "--"];
        self.rrapper(how.iter().chain(argv)).ok()
    }

    /// Has a copy of a recorded program go on live with its family from where it calls getpriority(2). Returns its output, how it
    /// ended, and what was missing.
    pub fn live_from_mark(&self, recording: &str) -> String {
        let script = format!(
            r#"
            local rec = rr.open "{recording}"
            rr.replay_to(rec:find{{ syscall = "getpriority" }})
            local o = spin_off():live{{ timeout = 20 }}
            io.write(o.stdout, o.stderr, o.status, "\n", table.concat(o.missing, "\n"))
            "#
        );
        self.script(&script).ok().text()
    }

    /// Runs a script, given as text.
    pub fn script(&self, text: &str) -> Done {
        let mut child = self
            .command(RRAPPER)
            .arg("-")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary starts");
        let mut stdin = child.stdin.take().expect("a pipe");
        stdin
            .write_all(text.as_bytes())
            .expect("the script is read");
        drop(stdin);
        child.wait_with_output().expect("it ends").into()
    }

    /// Compiles `tests/fixtures/NAME.c`.
    pub fn compile(&self, name: &str, flags: &[&str]) -> String {
        self.compile_as(name, name, flags)
    }

    /// Compiles `tests/fixtures/SOURCE.c` to a program of this name.
    pub fn compile_as(&self, name: &str, source: &str, flags: &[&str]) -> String {
        let source = format!("tests/fixtures/{source}.c");
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join(source);
        let target = self.join(name);
        let status = Command::new("cc")
            .args(["-O1", "-o"])
            .arg(&target)
            .arg(source)
            .args(flags)
            .status()
            .expect("a C compiler");
        assert!(status.success());
        target.to_str().expect("a path in UTF-8").to_string()
    }

    /// A text of 20,000 numbers, a line each, always the same.
    pub fn numbers(&self) -> String {
        let mut state = 1u64;
        let text: String = (0..20_000)
            .map(|_| {
                state = state
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1_442_695_040_888_963_407);
                format!("{}\n", state >> 34)
            })
            .collect();
        self.write("numbers", text);
        "numbers".into()
    }
}
