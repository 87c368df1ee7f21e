//! Traces that strace took on another run of a program drive its recording: what is different in every run is no
//! divergence, and everything else is one.

use crate::common::{Done, Folder, RRAPPER};
use std::path::Path;
use std::process::Command;

/// Runs one program twice in the same folder, recorded and under strace.
struct Twice {
    folder: Folder,
    /// What it printed under strace.
    traced: String,
}

impl Twice {
    /// `prepare` is a script of sh's that makes the folder's content for each run.
    #[track_caller]
    fn new(prepare: &str, argv: &[&str]) -> Twice {
        Twice::with(prepare, argv, argv)
    }

    /// The two runs differ.
    #[track_caller]
    fn with(prepare: &str, recorded: &[&str], traced: &[&str]) -> Twice {
        let folder = Folder::new();
        let rec = folder.join("rec");
        let mut record = folder.command(RRAPPER);
        record
            .args(["-q", "record", "-o"])
            .arg(&rec)
            .arg("--")
            .args(recorded);
        folder.run_prepared(prepare, record);
        assert!(rec.join("events").exists(), "nothing was recorded");
        // As the README says.
        let mut strace = folder.command("strace");
        strace
            .args(["-f", "-s", "1048576", "-vvvvv", "-o"])
            .arg(folder.join("other.strace"));
        strace.args(traced);
        let traced = folder.run_prepared(prepare, strace);
        let traced = traced.text();
        Twice { folder, traced }
    }

    /// Drives the process through the whole trace.
    #[track_caller]
    fn whole(&self) -> String {
        self.inject(
            r#"
            local copy = rr.replay_to(1):spin_off(main)
            local outcome = copy:inject(other, { timeout = 60 })
            "#,
        )
    }

    /// Drives it from where it prints "start" to where it prints "end".
    #[track_caller]
    fn part(&self) -> String {
        self.inject(
            r#"
            local function prints(word)
              return function(call) return call.name == "write" and call.args.buf == word .. "\n" end
            end
            local at
            for event in rr.events{ syscall = "write", fd = 1 } do
              if event.args.buf == "start\n" then at = at or event end
            end
            local first, last
            for i, call in ipairs(other) do
              if prints "start"(call) then first = first or call.index end
              if prints "end"(call) then last = call.index end
            end
            local copy = rr.replay_to(at):spin_off(main)
            local outcome = copy:inject(other, first, last, { timeout = 60 })
            "#,
        )
    }

    #[track_caller]
    fn inject(&self, how: &str) -> String {
        let script = format!(
            r#"
            local rec, other = rr.open "rec", trace.load "other.strace"
            local main = rec:processes()[1].pid
            {how}
            print(outcome.status, outcome.exit_code, outcome.divergence)
            local file = io.open "other.strace"
            local text, made = file:read "a", 0
            for _, call in ipairs(outcome.calls) do
              local path = call.args.pathname
              if call.name:match "^openat$" and not text:find('"' .. path .. '"', 1, true) then made = made + 1 end
            end
            print("names of its own", made > 0)
            io.write(outcome.stdout)
            "#
        );
        self.folder.script(&script).ok().text()
    }
}

impl Folder {
    #[track_caller]
    fn run_prepared(&self, prepare: &str, mut command: Command) -> Done {
        let inside = self.join("inside");
        let _ = std::fs::remove_dir_all(&inside);
        std::fs::create_dir(&inside).unwrap();
        let run = |command: &mut Command, dir: &Path| -> Done {
            command
                .current_dir(dir)
                .env("GIT_AUTHOR_DATE", "2020-01-01T00:00:00Z")
                .env("GIT_COMMITTER_DATE", "2020-01-01T00:00:00Z")
                .env("TMPDIR", ".");
            let output = command.output();
            output.unwrap_or_else(|e| panic!("{command:?}: {e}")).into()
        };
        let mut sh = self.command("sh");
        run(sh.args(["-ec", prepare]), &inside).ok();
        run(&mut command, &inside)
    }
}

/// The whole of a run, as another one was traced.
#[track_caller]
fn follows(twice: &Twice, code: i32, makes_names: bool) {
    let expected = format!(
        "exited\t{code}\tnil\nnames of its own\t{makes_names}\n{}",
        twice.traced
    );
    assert_eq!(twice.whole(), expected);
}

/// A part of a run, as another one was traced, with names that were made up again.
#[track_caller]
fn follows_part(twice: &Twice, makes_names: bool, printed: &str) {
    let expected = format!("completed\tnil\tnil\nnames of its own\t{makes_names}\n{printed}");
    assert_eq!(twice.part(), expected, "{}", twice.traced);
}

fn sh(script: &str) -> [&str; 3] {
    ["sh", "-c", script]
}

#[test]
fn a_shell_with_temporary_files() {
    let script = r#"f=$(mktemp); d=$(mktemp -d); echo hello > $f; cat $f > $d/x; read a < $d/x; echo $a; rm -r $f $d"#;
    follows(&Twice::new("true", &sh(script)), 0, false);
}

#[test]
fn a_program_that_makes_a_temporary_file() {
    // It prints the name that it made up.
    let got = Twice::new("true", &["mktemp", "-p", "."]).whole();
    let (how, name) = got.split_at(got.find("./").unwrap_or(0));
    assert_eq!(how, "exited\t0\tnil\nnames of its own\ttrue\n", "{got}");
    assert_eq!(name.len(), "./tmp.0123456789\n".len(), "{got}");
}

#[test]
fn sort_with_temporary_files() {
    let argv = ["sort", "-S", "100k", "-T", ".", "-r", "-n", "n"];
    follows(&Twice::new("seq 1 40000 > n", &argv), 0, true);
}

#[test]
fn a_database_with_a_journal() {
    let sql = "create table t(a); insert into t values (1), (2); begin; insert into t values (3); rollback; \
               pragma temp_store = file; pragma cache_size = 2; \
               select count(*) from (select distinct a from t union select a + 1 from t order by 1); select sum(a) from t";
    follows(&Twice::new("true", &["sqlite3", "t.db", sql]), 0, false);
}

#[test]
fn a_commit() {
    let prepare =
        "git init -q .; git config user.name a; git config user.email a@b; echo 1 > f; git add f";
    follows(
        &Twice::new(prepare, &["git", "commit", "-q", "-m", "one"]),
        0,
        false,
    );
}

#[test]
fn a_shell_that_speaks_of_its_pid() {
    let twice = Twice::new("true", &sh("echo $$ > pid; kill -0 $$; echo $?"));
    follows(&twice, 0, false);
    let script =
        "echo start; echo $$ > pid; echo $$ > lock.$$; kill -0 $$; echo $?; rm lock.$$; echo end";
    follows_part(&Twice::new("true", &sh(script)), true, "start\n0\nend\n");
}

#[test]
fn a_shell_with_children() {
    let script = "for i in 1 2 3; do (exit $i) & wait $!; echo $?; done; sleep 9 & kill $!; wait $!; echo $?";
    follows(&Twice::new("true", &sh(script)), 0, false);
    let script = "sleep 0.01 & first=$!; sleep 99 & p=$!; wait $first; echo start; kill $p; echo $p > pid; \
                  wait $p; echo $?; (exit 7) & wait $!; echo $?; echo end";
    follows_part(
        &Twice::new("true", &sh(script)),
        false,
        "start\n143\n7\nend\n",
    );
}

/// Names are made up before the process is spun off, and after.
const TEMPORARY: &str = r#"
import os, sys, tempfile
next(tempfile._get_candidate_names())
before = tempfile.mkdtemp(dir=".")
os.write(1, b"start\n")
for n in range(20):
    f = tempfile.NamedTemporaryFile(dir=before)
    f.write(f"{f.name} of {os.getpid()}".encode() * 50)
    f.flush()
    again = os.path.join(before, os.listdir(before)[0])
    os.stat(again)
    os.link(again, again + ".copy")
    os.symlink(f.name, "link")
    os.stat(os.readlink("link"))
    os.unlink("link")
    assert sorted(os.listdir(before))[0] == os.path.basename(f.name)
    os.unlink(again + ".copy")
    f.close()
inner = tempfile.mkdtemp(dir=before)
open(inner + "/x", "w").close()
os.kill(os.getpid(), 0)
link = os.readlink("/proc/self")
assert link == str(os.getpid()), link
os.utime(inner + "/x")
os.unlink(inner + "/x")
os.rmdir(inner)
os.rmdir(before)
os.write(1, b"end\n")
"#;

#[test]
fn python_with_temporary_names() {
    let twice = Twice::new("true", &["/usr/bin/python3", "-S", "-c", TEMPORARY]);
    follows_part(&twice, true, "start\nend\n");
}

#[test]
fn perl_with_temporary_names() {
    let script = r#"
        use File::Temp qw(tempfile tempdir);
        $| = 1; srand; my $d = tempdir(DIR => ".");
        print "start\n";
        for (1..20) { my ($f, $n) = tempfile(DIR => $d); print $f "$n $$"; close $f; rename $n, "$n.x"; unlink "$n.x"; }
        rmdir $d;
        print "end\n";
    "#;
    follows_part(
        &Twice::new("true", &["perl", "-e", script]),
        true,
        "start\nend\n",
    );
}

/// The divergence alone, and the line of the trace where it is said to be.
#[track_caller]
fn diverges(twice: &Twice) -> (String, String) {
    let got = twice.inject(
        r#"
        local copy = rr.replay_to(1):spin_off(main)
        local outcome = copy:inject(other, { timeout = 60 })
        local d = outcome.divergence or error("no divergence: " .. outcome.status)
        print(outcome.status, d.arg, d.expected, d.actual)
        local lines = {}
        for line in io.lines(d.file) do lines[#lines + 1] = line end
        print(d.file, lines[d.line])
        os.exit(0)
        "#,
    );
    let (divergence, line) = got.split_once('\n').expect("two lines");
    let words: Vec<&str> = line.split_whitespace().collect();
    (divergence.to_string(), words.join(" "))
}

#[test]
fn names_that_differ_on_purpose_are_a_divergence() {
    for (recorded, traced) in [
        ("config.old", "config.new"),
        ("lock.0001", "lock.0002"),
        ("segment-0001", "segment-0002"),
    ] {
        let script = "set -C; echo x > $0";
        let recorded_argv = ["sh", "-c", script, recorded];
        let twice = Twice::with("true", &recorded_argv, &["sh", "-c", script, traced]);
        let (divergence, line) = diverges(&twice);
        let parts: Vec<&str> = divergence.split('\t').collect();
        let [status, arg, expected, actual] = parts[..] else {
            panic!("{divergence}");
        };
        assert_eq!((status, arg), ("diverged", "pathname"), "{divergence}");
        assert!(expected.contains(&format!("\"{traced}\"")), "{divergence}");
        assert!(actual.contains(&format!("\"{recorded}\"")), "{divergence}");
        assert!(line.starts_with("other.strace "), "{line}");
        assert!(line.contains(&format!("\"{traced}\"")), "{line}");
    }
}

#[test]
fn numbers_that_are_no_pids_are_a_divergence() {
    let script = "echo $0";
    let twice = Twice::with(
        "true",
        &["sh", "-c", script, "4711"],
        &["sh", "-c", script, "4712"],
    );
    let (divergence, line) = diverges(&twice);
    assert_eq!(
        divergence,
        "diverged\tbuf\twrite(1, \"4712\\n\", 5) = 5\twrite(1, \"4711\\n\", 5)"
    );
    assert!(line.ends_with("write(1, \"4712\\n\", 5) = 5"), "{line}");
}

#[test]
fn what_a_process_reads_is_as_traced() {
    // It writes its own pid, and reads the trace's.
    let script = "echo $$ > pid; read a < pid; [ $a = $$ ] && echo same; true";
    let (divergence, line) = diverges(&Twice::new("true", &sh(script)));
    let expected = "diverged\tnil\twrite(1, \"same\\n\", 5) = 5\texit_group(0)";
    assert_eq!(divergence, expected);
    assert!(line.ends_with("write(1, \"same\\n\", 5) = 5"), "{line}");
}
