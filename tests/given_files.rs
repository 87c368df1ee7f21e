//! `files` in hooks: files with another content than recorded. A program ends as it does where the file really has that
//! content, whether its recording answers or the kernel.

use crate::common::{Folder, RRAPPER, as_user};
use rrapper::inject::{self, Options, OtherContent, OtherFile, RuleSet, Script, Status};
use rrapper::replay;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// What the programs begin with.
const SETUP: &str = r#"
seq 1 20 >a; cp a c; ln -s a link; touch -d 2001-02-03 a c
printf '#!/bin/sh\necho one $1\nexit 3\n' >s.sh
printf '#!/bin/sh\necho two $1\nread line <c; echo "$line"; exit 4\n' >s2.sh
chmod +x s.sh s2.sh
seq 1000 40000 >big; printf abc >tiny; : >empty
sqlite3 t.db 'create table t (n); insert into t values (1)'
sqlite3 t2.db 'create table t (n); insert into t values (5), (6); create table u (x); insert into u values (zeroblob(20000))'
git init -q -b master; git config user.email a@b; git config user.name n
touch -d 2001-02-03 a; git add a; git commit -q -m first; git rev-parse HEAD >first
echo b >b; git add b; git commit -q -m second; rm b
cp .git/config config; printf '[alias]\n\tx = log\n' >>config
touch -d 2001-02-03 s.sh t.db .git/config .git/refs/heads/master
"#;

/// A program, the file that has another content, and the files with that.
type Case = (
    &'static [&'static str],
    &'static str,
    &'static [&'static str],
);

const PYTHON: &str = "/usr/bin/python3";
const BOTH: &[&str] = &["big", "tiny"];

const READ: &[Case] = &[
    (&["cat", "a"], "a", BOTH),
    (&["cat", "link"], "link", &["tiny"]),
    (&["head", "-c", "7", "a"], "a", BOTH),
    (&["wc", "a"], "a", BOTH),
    (&["tail", "-c", "4", "a"], "a", BOTH),
    (&["grep", "-n", "7", "a"], "a", &["big", "empty"]),
    (&["grep", "-q", "7", "a"], "a", &["big"]),
    (&["sort", "a"], "a", &["tiny"]),
    (&["cmp", "a", "c"], "a", &["empty"]),
    (&["ls", "-ls", "a"], "a", &["tiny"]),
    (&["bash", "s.sh", "x"], "s.sh", &["s2.sh", "empty"]),
    (&["./s.sh", "x"], "s.sh", &["s2.sh"]),
    (&["sqlite3", "t.db", "select * from t"], "t.db", &["t2.db"]),
    (
        &["git", "config", "--list", "--local"],
        ".git/config",
        &["config"],
    ),
    (
        &["git", "log", "--format=%s"],
        ".git/refs/heads/master",
        &["first"],
    ),
];

const PYTHON_READS: &str = "
import mmap, os
f = open('a', 'rb'); m = mmap.mmap(f.fileno(), 0, prot=mmap.PROT_READ)
print(os.stat('a').st_size, len(f.read()), len(m), m[-3:], os.pread(f.fileno(), 3, 2))
print(os.lseek(f.fileno(), 0, os.SEEK_END), os.lseek(f.fileno(), 1, os.SEEK_HOLE), os.lseek(f.fileno(), 1, os.SEEK_DATA))
b = [bytearray(3), bytearray(8)]
print(os.preadv(f.fileno(), b, 1), b, os.lseek(f.fileno(), -2, os.SEEK_END), os.readv(f.fileno(), b), b)";

const PYTHON_MOVES: &str = "
import os
f = os.open('a', 0); g = os.open('b', os.O_CREAT | os.O_RDWR); o = 0
while n := os.sendfile(g, f, o, 70000): o += n
print(o, os.fstat(g).st_size, os.pread(g, 10, 0))
r, w = os.pipe(); n = os.splice(f, w, 1000)
print(n, os.read(r, 2000), os.splice(f, w, 1000, offset_src=1), os.read(r, 2000))
print(os.copy_file_range(f, g, 9, 0, 1), os.pread(g, 20, 0))";

const PYTHON_WRITES: &str = "
f = open('a', 'r+b'); f.read(); f.write(b'end'); f.flush(); f.seek(0); print(f.read()); f.truncate(4)
import os
print(open('a', 'rb').read(), os.stat('a').st_size); open('a', 'ab').write(b'more'); os.rename('a', 'z')
print(open('z').read())";

const PYTHON_MAPS: &str = "
import mmap
f = open('a', 'r+b'); m = mmap.mmap(f.fileno(), 0); m[0:2] = b'XY'; m.flush(); print(open('a', 'rb').read())";

const CHANGING: &[Case] = &[
    (&["cp", "a", "b"], "a", BOTH),
    (&["dd", "if=a", "of=b", "status=none"], "a", &["tiny"]),
    (&["sed", "-i", "s/2/x/", "a"], "a", &["big"]),
    (
        &[
            "sqlite3",
            "t.db",
            "insert into t values (9); select * from t",
        ],
        "t.db",
        &["t2.db"],
    ),
    (&[PYTHON, "-SEc", PYTHON_READS], "a", BOTH),
    (&[PYTHON, "-SEc", PYTHON_MOVES], "a", BOTH),
    (&[PYTHON, "-SEc", PYTHON_WRITES], "a", BOTH),
    (&[PYTHON, "-SEc", PYTHON_MAPS], "a", &["big"]),
];

/// The files that the programs change.
const CHANGED: [&str; 3] = ["a", "b", "z"];

fn run(folder: &Folder, dir: &Path, argv: &[&str]) -> Output {
    let mut command = folder.command(argv[0]);
    command.args(&argv[1..]).current_dir(dir);
    variables(&mut command, folder);
    command.output().unwrap()
}

fn variables(command: &mut Command, folder: &Folder) {
    command
        .env("HOME", folder.path())
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_AUTHOR_DATE", "1700000000 +0000")
        .env("GIT_COMMITTER_DATE", "1700000000 +0000")
        .stdin(Stdio::null());
}

/// A folder with the files that the programs begin with in `start`.
fn prepared() -> Folder {
    let folder = Folder::new();
    fs::create_dir(folder.join("start")).unwrap();
    let done = run(&folder, &folder.join("start"), &["sh", "-ec", SETUP]);
    assert!(done.status.success(), "{done:?}");
    folder
}

fn copy(folder: &Folder, to: &str) -> PathBuf {
    let dir = folder.join(to);
    fs::remove_dir_all(&dir).ok();
    folder.plain(&["cp", "-a", "start", to]).ok();
    dir
}

const SCRIPT: &str = r#"
    local recording, out, file, other = rr.open(arg[1]), arg[2], arg[3], arg[4]
    local program = { table.unpack(arg, 5) }
    local files = { [file] = other }
    local function write(name, text)
      local to <close> = assert(io.open(out .. "/" .. name, "w"))
      to:write(text)
    end
    local function run(name, how)
      local hooks = { files = files, after = function(box)
        for _, file in ipairs { "a", "b", "z" } do
          local is_there, bytes = pcall(box.read, box, file)
          if is_there then write(name .. "." .. file, bytes) end
        end
      end }
      local outcome = how(hooks)
      write(name .. ".stdout", outcome.stdout)
      write(name .. ".stderr", outcome.stderr)
      local rest = { table.unpack(outcome.missing) }
      for _, name in ipairs(outcome.unfired) do table.insert(rest, "unfired " .. name) end
      local why = outcome.divergence and tostring(outcome.divergence) or ""
      write(name .. ".end", outcome.status .. " " .. tostring(outcome.exit_code))
      write(name .. ".rest", table.concat(rest, "\n"))
      write(name .. ".why", why)
    end
    local function copy() rr.replay_to(1) return spin_off() end
    run("live", function(hooks)
      for i, word in ipairs(program) do hooks[i] = word end
      return live(hooks)
    end)
    run("copy", function(hooks) return copy():live(hooks) end)
    run("recorded", function(hooks) return copy():inject(hooks) end)
    run("both", function(hooks)
      hooks.on_divergence, hooks.finally = "live", "live"
      return copy():inject(hooks)
    end)
"#;

/// Runs a program with another content of a file in all ways; returns whether its recording could answer all of its calls.
fn agrees(folder: &Folder, (argv, file, _): Case, other: &str) -> bool {
    let what = format!("{argv:?} with {other}");
    let truth = copy(folder, "truth");
    let put = format!("touch -r {file} ../time; cat {other} >{file}; touch -r ../time {file}");
    run(folder, &truth, &["sh", "-ec", &put]);
    let expected = run(folder, &truth, argv);

    let work = copy(folder, "work");
    let recording = folder.join("recording");
    fs::remove_dir_all(&recording).ok();
    let dir = recording.to_str().unwrap();
    let recorded = run(
        folder,
        &work,
        &[&[RRAPPER, "-q", "record", "-o", dir, "--"], argv].concat(),
    );
    assert!(recording.join("events").exists(), "{what}: {recorded:?}");
    copy(folder, "work");
    let out = folder.join("out");
    fs::remove_dir_all(&out).ok();
    fs::create_dir(&out).unwrap();
    let script = folder.write("script.lua", SCRIPT);
    let script = script.to_str().unwrap();
    let args = [
        RRAPPER,
        "-q",
        script,
        dir,
        out.to_str().unwrap(),
        file,
        other,
    ];
    let done = run(folder, &work, &[&args, argv].concat());
    assert!(done.status.success(), "{what}: {done:?}");

    let read = |name: &str, part: &str| fs::read(out.join(format!("{name}.{part}")));
    let said =
        |name: &str, part: &str| String::from_utf8_lossy(&read(name, part).unwrap()).into_owned();
    let end = format!("exited {}", expected.status.code().unwrap());
    let mut answered = false;
    for name in ["live", "copy", "recorded", "both"] {
        let what = format!("{what}, {name}: {}", said(name, "why"));
        assert_eq!(said(name, "rest"), "", "{what}");
        if said(name, "end").starts_with("diverged") {
            assert_eq!(name, "recorded", "{what}");
            let stdout = read(name, "stdout").unwrap();
            assert!(expected.stdout.starts_with(&stdout), "{what}");
            continue;
        }
        answered |= name == "recorded";
        let expected_out = String::from_utf8_lossy(&expected.stdout);
        let expected_err = String::from_utf8_lossy(&expected.stderr);
        assert_eq!(said(name, "stdout"), expected_out, "{what}");
        assert_eq!(said(name, "stderr"), expected_err, "{what}");
        assert_eq!(said(name, "end"), end, "{what}");
        for file in CHANGED {
            let left = fs::read(truth.join(file)).ok();
            assert!(read(name, file).ok() == left, "{what}: {file}");
        }
    }
    answered
}

fn all_agree(cases: &[Case]) -> usize {
    let folder = prepared();
    let mut answered = 0;
    for case in cases {
        for other in case.2 {
            answered += usize::from(agrees(&folder, *case, other));
        }
    }
    answered
}

#[test]
fn programs_that_read_end_as_with_the_other_file() {
    let answered = all_agree(READ);
    assert!(answered >= 1, "{answered}");
}

#[test]
fn programs_that_change_files_end_as_with_the_other_file() {
    let answered = all_agree(CHANGING);
    assert!(answered >= 2, "{answered}");
}

/// What is open, mapped and begun at the event shows the content as well.
#[test]
fn a_process_in_the_middle_of_a_file_goes_on_with_the_other_content() {
    let folder = Folder::new();
    folder.write("a", "0123456789".repeat(1000));
    let program = "
import mmap, os
f = os.open('a', os.O_RDWR); print(os.read(f, 4)); m = mmap.mmap(f, 10000)
os.getpgid(0)
print(os.read(f, 4), os.fstat(f).st_size, m[:6], os.lseek(f, 0, os.SEEK_CUR)); os.write(f, b'new'); print(m[6:14])";
    folder.record("rec", &[PYTHON, "-SEc", program]).ok();
    folder.write("a", "changed since");
    folder
        .script(
            "
        local rec = rr.open 'rec'
        rr.replay_to(rec:find { syscall = 'getpgid' })
        local other = ('abcdefghij'):rep(1000)
        local function files() return { a = { bytes = other } } end
        local expected = \"b'0123'\\nb'efgh' 10000 b'abcdef' 8\\nb'ghnewbcd'\\n\"
        local read = spin_off():live { files = files() }
        assert(read.stdout == expected, read.stdout)
        local read = spin_off():inject { files = files(), on_divergence = 'live' }
        assert(read.stdout == expected, read.stdout)
        assert(#read.unfired == 0 and #read.missing == 0)",
        )
        .ok();
}

/// Its content is that of the event, whatever the file has become.
#[test]
fn a_function_gets_the_recorded_content() {
    let folder = Folder::new();
    folder.write("a", "one\n");
    folder.record(
        "rec",
        &["sh", "-c", "echo two >>a; read x <a; echo $x; cat new"],
    );
    folder.write("a", "changed since");
    folder
        .script(
            r#"
        local rec = rr.open 'rec'
        local seen = {}
        local function look(text, answer)
          return function(content) table.insert(seen, tostring(content)) return answer or content end
        end
        rr.replay_to(1)
        local run = spin_off():inject { files = { a = look(), new = look(nil, "x\n") }, on_divergence = "live" }
        rr.replay_to(rec:find { syscall = "read", path = "a" })
        spin_off():live { files = { [rec.argv[0] or "a"] = look(nil, "three\n") } }
        assert(table.concat(seen, "|") == "one\n|nil|one\ntwo\n", table.concat(seen, "|"))
        local run = spin_off():live { files = { a = { bytes = "three\n" } } }
        assert(run.stdout:match "^three\n", run.stdout)"#,
        )
        .ok();
}

#[test]
fn files_that_are_no_files_are_refused_and_unread_ones_are_named() {
    let folder = Folder::new();
    folder.write("a", "text\n");
    folder.plain(&["ln", "-s", "a", "link"]).ok();
    folder
        .script(
            r#"
        local function refuses(spec, ...)
          local made, why = pcall(live, spec)
          assert(not made)
          for _, part in ipairs { ... } do assert(tostring(why):find(part, 1, true), why) end
        end
        local function gives(files) return { "true", files = files } end
        refuses(gives { ["/tmp"] = { bytes = "" } }, "/tmp", "it is a directory")
        refuses(gives { ["/proc/meminfo"] = { bytes = "" } }, "/proc/meminfo", "of the kernel")
        refuses(gives { ["/no/such"] = { bytes = "" } }, "/no/such", "no directory /no")
        refuses(gives { a = "missing" }, "from missing", "No such file")
        refuses(gives { a = "/dev/zero" }, "/dev/zero", "not a regular file")
        refuses(gives { a = { bytes = "" }, link = { bytes = "" } }, "link", "same file as a")
        refuses(gives { a = function() return 3 end }, "as a string, not 3")
        refuses(gives { a = function() error "mine" end }, "mine")
        refuses(gives { a = { text = "" } }, "no option \"text\"")
        refuses(gives { a = true }, "not true")
        refuses(gives { [1] = "a" }, "1 for a path")
        refuses(gives "a", "files is a table")
        refuses({ "true", sandbox = "none", files = { a = { bytes = "" } } }, "without a sandbox")
        refuses({ "true", sandbox = { hide = { "." } }, files = { a = { bytes = "" } } }, "hide it")
        local run = live { "sh", "-c", "cat link; cp b c; cat c; stat -c %s d", files = {
          a = { bytes = "read\n" }, b = { bytes = "copied\n" }, d = { bytes = "looked at" }, e = { bytes = "" },
        } }
        assert(run.stdout == "read\ncopied\n9\n", run.stdout)
        assert(table.concat(run.unfired, "|") == 'files["e"]', table.concat(run.unfired, "|"))
        assert(#run.files == 1 and run.files[1].path:match "/c$", "what it was given is no change of its own")
        local seen = live { "cat", "a" }
        assert(seen.stdout == "text\n", "the next process has the machine's file")
        print "done""#,
        )
        .ok();
}

/// A file that the recording does not have is met where the program looks for it.
#[test]
fn a_file_that_was_not_there_is_found() {
    let folder = Folder::new();
    folder.write("a", "text\n");
    folder.record("rec", &["cat", "a", "new"]);
    folder
        .script(
            r#"
        rr.open 'rec'
        rr.replay_to(1)
        local files = { new = { bytes = "there\n" } }
        local run = spin_off():inject { files = files }
        assert(run.status == "diverged" and run.stdout == "text\n", run.stdout)
        assert(tostring(run.divergence):find("`files` has a file that was not there", 1, true), run.divergence)
        local run = spin_off():inject { files = files, on_divergence = "live" }
        assert(run.exit_code == 0 and run.stdout == "text\nthere\n" and #run.unfired == 0, run.stdout)"#,
        )
        .ok();
}

/// The same where the sandbox's user is not the owner of the directory.
#[test]
fn system_files_have_other_contents_too() {
    if nix::unistd::geteuid().is_root() {
        as_user(&[
            "--exact",
            "given_files::system_files_have_other_contents_too",
        ]);
    }
    let folder = Folder::new();
    folder.record("rec", &["cat", "/etc/passwd"]);
    folder
        .script(
            r#"
        rr.open 'rec'
        rr.replay_to(1)
        local files = { ["/etc/passwd"] = { bytes = "me\n" }, ["/etc/of-rrapper"] = { bytes = "new\n" } }
        local run = live { "cat", "/etc/passwd", "/etc/of-rrapper", files = files }
        assert(run.stdout == "me\nnew\n" and #run.unfired == 0, run.stdout .. run.stderr)
        local run = spin_off():inject { files = files }
        assert(run.status == "diverged" and run.divergence.actual:find('"me\\n"', 1, true), run.divergence)
        local run = spin_off():inject { files = files, on_divergence = "live" }
        assert(run.stdout == "me\n", run.stdout .. run.stderr)
        local run = live { "sh", "-c", "echo x >>/etc/passwd; cat /etc/passwd", files = files }
        local is_root = run.stderr == ""
        assert(run.stdout == (is_root and "me\nx\n" or "me\n"), run.stdout)"#,
        )
        .ok();
}

#[test]
fn rules_in_rust_give_files_other_contents() {
    let folder = Folder::new();
    let path = folder.write("a", "text\n");
    folder.record("rec", &["wc", "-l", "a"]).ok();
    let mut replay = replay::open(&folder.join("rec")).unwrap();
    replay.replay_to(1).unwrap();
    let file = |path: &Path, content| OtherFile {
        path: path.into(),
        content,
    };
    let bytes = OtherContent::Bytes("one\ntwo\nthree\n".as_bytes().into());
    let mut rules = RuleSet::new(Vec::new())
        .on_divergence(inject::OnDivergence::Live)
        .file(file(&path, bytes))
        .file(file(Path::new("unread"), OtherContent::File(path.clone())));
    let copy = replay.spin_off(None).unwrap();
    let script = Script::of_recording(&copy).unwrap();
    let outcome = inject::inject(copy, script, &mut rules, &Options::default()).unwrap();
    let outcome = outcome.outcome;
    assert_eq!(outcome.status, Status::Exited);
    assert_eq!(outcome.stdout, b"3 a\n");
    assert_eq!(outcome.unfired, ["files[\"unread\"]"]);
}
