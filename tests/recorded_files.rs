//! What a live continuation finds: the files as they were at the event, whatever has become of them since.

use crate::common::{Folder, RRAPPER, as_user};
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

/// A program, and what it starts with.
pub struct Program {
    pub setup: &'static str,
    pub argv: &'static [&'static str],
}

const PYTHON: &str = "/usr/bin/python3";

const MV: Program = Program {
    setup: "mkdir d; echo a >d/a; echo b >b",
    argv: &["mv", "d/a", "b"],
};
const MV_DIRECTORY: Program = Program {
    setup: "mkdir -p d/e; echo a >d/a; echo b >d/e/b",
    argv: &["mv", "d", "x"],
};
const CP: Program = Program {
    setup: "mkdir d; echo a >d/a; ln -s a d/l; ln d/a d/h; chmod 700 d; touch -d 2001-02-03 d/a d",
    argv: &["cp", "-a", "d", "e"],
};
/// With one file: `cp` takes them in the order of their inode numbers, which differ from run to run.
const CP_ONE: Program = Program {
    setup: "mkdir d; echo a >d/a; chmod 700 d; touch -d 2001-02-03 d/a d",
    argv: CP.argv,
};
const TAR: Program = Program {
    setup: "mkdir d; seq 1000 >d/a; seq 10 >d/b; touch -d 2001-02-03 d/a d/b d; tar cf t.tar d; rm -r d",
    argv: &["tar", "xf", "t.tar"],
};
pub const SED: Program = Program {
    setup: "seq 10 >a",
    argv: &["sed", "-i", "s/1/x/", "a"],
};
const SORT: Program = Program {
    setup: "seq 10 >a",
    argv: &["sort", "-r", "-o", "a", "a"],
};
const GZIP: Program = Program {
    setup: "seq 1000 >a; touch -d 2001-02-03 a",
    argv: &["gzip", "a"],
};
const INSTALL: Program = Program {
    setup: "echo a >a",
    argv: &["install", "-m", "751", "a", "b"],
};
const RM: Program = Program {
    setup: "mkdir -p d/e/f; touch d/a d/e/b d/e/f/c",
    argv: &["rm", "-r", "d"],
};
const PATCH: Program = Program {
    setup: "seq 10 >a; seq 10 | sed s/5/x/ >b; diff a b >p; rm b",
    argv: &["patch", "a", "p"],
};
pub const SQLITE: Program = Program {
    setup: "sqlite3 t.db 'create table t (n); insert into t values (1)'",
    argv: &[
        "sqlite3",
        "t.db",
        "insert into t values (2); delete from t where n = 1; select n from t",
    ],
};
const SQLITE_WAL: Program = Program {
    setup: "sqlite3 t.db 'pragma journal_mode=wal; create table t (n); insert into t values (1)'",
    argv: SQLITE.argv,
};
const GIT_ADD: Program = Program {
    setup: "git init -q; git config user.email a@b; git config user.name n; echo a >a; \
            touch -d 2001-02-03 a",
    argv: &["git", "add", "a"],
};
pub const GIT_COMMIT: Program = Program {
    setup: "git init -q; git config user.email a@b; git config user.name n; git config maintenance.auto false; \
            git config gc.auto 0; echo a >a; touch -d 2001-02-03 a; git add a",
    argv: &["git", "commit", "-q", "-m", "first"],
};
const PYTHON_MOVE: Program = Program {
    setup: "echo a >a",
    argv: &[
        PYTHON,
        "-SEc",
        "import shutil; shutil.move('a', 'b'); print(open('b').read())",
    ],
};
const COPYTREE: Program = Program {
    setup: "mkdir -p d/e; echo 1 >d/a; echo 2 >d/e/b; ln -s a d/l",
    argv: &[
        PYTHON,
        "-SEc",
        "import shutil; shutil.copytree('d', 'x', symlinks=True)",
    ],
};
const TMPFILE: Program = Program {
    setup: ":",
    argv: &[
        PYTHON,
        "-SEc",
        "import os\nd = os.open('.', 0); f = os.open('.', os.O_TMPFILE | os.O_RDWR, 0o640); os.write(f, b'one ')\n\
         os.link('/proc/self/fd/%d' % f, 'x', src_dir_fd=d, follow_symlinks=True); os.write(f, b'two')\n\
         g = open('y', 'w+'); os.unlink('y'); g.write('three'); g.flush(); g.seek(0); print(g.read(), open('x').read())",
    ],
};
const MAPPED: Program = Program {
    setup: "printf '%8192s' . >m",
    argv: &[
        PYTHON,
        "-SEc",
        "import mmap\nf = open('m', 'r+b'); m = mmap.mmap(f.fileno(), 8192)\n\
         m[0:5] = b'hello'; print(open('m', 'rb').read(5)); m[5000:5003] = b'end'; m.flush()\n\
         print(open('m', 'rb').read(5)); m[0:3] = b'log'",
    ],
};

const EXCHANGE: Program = Program {
    setup: "mkdir d; echo in >d/i; echo one >a; echo two >b; echo source text >s; echo x >x; setfattr -n user.old -v 1 x",
    argv: &[
        PYTHON,
        "-SEc",
        "import ctypes, os\nlibc = ctypes.CDLL(None)\n\
         def exchange(a, b): assert libc.renameat2(-100, a, -100, b, 2) == 0\n\
         exchange(b'a', b'b'); exchange(b'd', b'b'); f = os.open('s', 0); t = os.open('copied', os.O_RDWR | os.O_CREAT, 0o640)\n\
         print(os.copy_file_range(f, t, 5, offset_src=2)); u = os.open('sent', os.O_RDWR | os.O_CREAT); print(os.sendfile(u, f, 1, 6))\n\
         v = os.open('holes', os.O_RDWR | os.O_CREAT)\n\
         r, w = os.pipe(); os.write(w, b'through a pipe'); q = os.open('piped', os.O_WRONLY | os.O_CREAT)\n\
         print(os.splice(r, q, 9), os.splice(r, q, 9, offset_dst=20)); os.close(q)\n\
         os.setxattr('s', 'user.new', b'v'); os.removexattr('x', 'user.old'); os.utime('sent', ns=(10**18, 10**18 + 5))\n\
         os.posix_fallocate(v, 0, 3000); os.truncate('copied', 4); os.chmod('s', 0o600); os.link('s', 'h'); os.symlink('s', 'l')\n\
         os.write(os.open('h', os.O_WRONLY | os.O_APPEND), b'more'); os.pwritev(v, [b'A', b'B'], 100); os.mkdir('k'); os.rename('k', 'm')\n\
         print([open(n).read() for n in ('s', 'copied', 'sent', 'piped', 'd', 'a', 'b/i')], sorted(os.listdir('.')), os.listxattr('x'), os.listxattr('s'))",
    ],
};

/// Its child, a tar, is of the next issue: what is tried are the events at which there is none.
const DPKG: Program = Program {
    setup: "mkdir -p p/DEBIAN p/usr/share/x; seq 100 >p/usr/share/x/a; ln -s a p/usr/share/x/l; touch -d 2001-02-03 p/usr/share/x/a; \
            printf 'Package: x\nVersion: 1\nArchitecture: all\nMaintainer: n\nDescription: x\n' >p/DEBIAN/control; \
            dpkg-deb --root-owner-group -b p x.deb; rm -r p",
    argv: &["dpkg-deb", "-x", "x.deb", "out"],
};
/// Likewise.
const MAKE: Program = Program {
    setup: "echo 1 >a; printf 'all: b c\nb: a\n\tcp a b\nc: b\n\tcat a b >c\n' >Makefile",
    argv: &["make", "-j1"],
};
/// Likewise.
const GIT_GC: Program = Program {
    setup: "git init -q; git config user.email a@b; git config user.name n; git config gc.auto 0; git config maintenance.auto false; \
            git config pack.threads 1; for i in 1 2 3; do echo $i >a; git add a; git commit -q -m $i; done",
    argv: &["git", "gc", "-q"],
};

/// Files of which the content differs from run to run: numbers of inodes and times, and random numbers.
const DIFFERENT: [&str; 4] = [".git/index", "t.db-journal", "t.db-wal", "t.db-shm"];

fn sh(folder: &Folder, dir: &Path, text: &str) {
    let mut command = folder.command("sh");
    command.args(["-c", text]).current_dir(dir);
    variables(&mut command, folder.path());
    command.stdout(Stdio::null()).stderr(Stdio::null());
    command.status().unwrap();
}

pub fn variables(command: &mut Command, home: &Path) {
    command
        .env("HOME", home)
        .env("TMPDIR", home)
        .env("LC_ALL", "C")
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_AUTHOR_DATE", "1700000000 +0000")
        .env("GIT_COMMITTER_DATE", "1700000000 +0000")
        .stdin(Stdio::null());
}

/// Everything below a directory: kind and permissions, and the content.
fn tree(dir: &Path) -> BTreeMap<String, (u32, Vec<u8>)> {
    let mut all = BTreeMap::new();
    let mut dirs = vec![dir.to_path_buf()];
    while let Some(next) = dirs.pop() {
        for entry in fs::read_dir(&next).unwrap_or_else(|e| panic!("{}: {e}", next.display())) {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(dir).unwrap().as_os_str().as_bytes();
            let name = String::from_utf8(masked(name)).unwrap();
            let meta = fs::symlink_metadata(&path).unwrap();
            let content = match meta.file_type() {
                _ if DIFFERENT.contains(&name.as_str()) => Vec::new(),
                kind if kind.is_symlink() => fs::read_link(&path)
                    .unwrap()
                    .as_os_str()
                    .as_bytes()
                    .to_vec(),
                kind if kind.is_file() => fs::read(&path).unwrap_or_default(),
                kind => {
                    if kind.is_dir() {
                        dirs.push(path);
                    }
                    Vec::new()
                }
            };
            all.insert(name, (meta.permissions().mode(), content));
        }
    }
    all
}

/// The directory and everything below it: what changes with every write, and the content.
fn stamps(dir: &Path) -> BTreeMap<PathBuf, (Vec<i64>, Vec<u8>)> {
    let mut all = BTreeMap::new();
    let mut paths = vec![dir.to_path_buf()];
    while let Some(path) = paths.pop() {
        let meta = fs::symlink_metadata(&path).unwrap();
        let mut content = Vec::new();
        if meta.is_dir() {
            paths.extend(
                fs::read_dir(&path)
                    .unwrap()
                    .map(|entry| entry.unwrap().path()),
            );
        } else if meta.is_file() {
            content = fs::read(&path).unwrap();
        }
        let stamp = [
            meta.ino() as i64,
            meta.mode().into(),
            meta.mtime(),
            meta.mtime_nsec(),
            meta.ctime(),
            meta.ctime_nsec(),
        ];
        all.insert(path, (stamp.to_vec(), content));
    }
    all
}

/// The names that are not the same in two trees.
fn differences(ours: &Path, theirs: &Path) -> Vec<String> {
    let (ours, theirs) = (tree(ours), tree(theirs));
    let names = ours.keys().chain(theirs.keys());
    let mut names: Vec<String> = names
        .filter(|name| ours.get(*name) != theirs.get(*name))
        .cloned()
        .collect();
    names.sort();
    names.dedup();
    names
}

/// The same with the names of temporary files masked.
fn masked(text: &[u8]) -> Vec<u8> {
    let random = r"(\./sed|\ba\.o|tmp_obj_|/cc)\w{6}\b|\b0x[0-9a-f]{8,}\b";
    let random = regex::bytes::Regex::new(random).unwrap();
    random.replace_all(text, b"$1".as_slice()).into_owned()
}

struct Place {
    folder: Folder,
    program: &'static Program,
    /// When the recording was begun.
    begun: SystemTime,
    /// Whether it was made of another run than that which has left the files.
    is_discarded: bool,
}

impl Place {
    /// Prepares a directory, and records the program in it.
    fn record(program: &'static Program) -> Place {
        Place::record_with(program, &[])
    }

    /// The same in a sandbox that is thrown away: nothing in the directory has changed afterwards. Then the program itself
    /// is run there.
    fn record_discarded(program: &'static Program) -> Place {
        let place = Place::record_with(program, &["--discard"]);
        let mut command = place.folder.command(program.argv[0]);
        command.args(&program.argv[1..]).current_dir(place.dir());
        variables(&mut command, place.folder.path());
        let done = command.output().unwrap();
        assert!(done.status.success(), "{:?}: {done:?}", program.argv);
        place
    }

    fn record_with(program: &'static Program, options: &[&str]) -> Place {
        let mut place = Place {
            folder: Folder::new(),
            program,
            begun: SystemTime::now(),
            is_discarded: options.contains(&"--discard"),
        };
        place.fresh();
        // Times of files go on in steps.
        std::thread::sleep(Duration::from_millis(20));
        place.begun = SystemTime::now() - Duration::from_millis(10);
        let before = stamps(&place.dir());
        let mut command = place.folder.command(RRAPPER);
        command
            .args(["-q", "record", "-o"])
            .arg(place.folder.join("recording"))
            .args(options);
        command
            .arg("--")
            .args(program.argv)
            .current_dir(place.dir());
        variables(&mut command, place.folder.path());
        let done = command.output().unwrap();
        assert!(done.status.success(), "{:?}: {done:?}", program.argv);
        assert!(done.stderr.is_empty(), "{:?}: {done:?}", program.argv);
        if options.contains(&"--discard") {
            assert_eq!(stamps(&place.dir()), before, "{:?}", program.argv);
        }
        place
    }

    fn dir(&self) -> std::path::PathBuf {
        self.folder.join("work")
    }

    fn fresh(&self) {
        let dir = self.dir();
        fs::remove_dir_all(&dir).ok();
        fs::create_dir(&dir).unwrap();
        sh(&self.folder, &dir, self.program.setup);
    }

    /// Runs a script that writes what it finds to directories.
    fn script(&self, text: &str) {
        let path = self.folder.write("script.lua", text);
        let mut command = self.folder.command(RRAPPER);
        command
            .arg("-q")
            .arg(path)
            .arg(self.folder.join("recording"));
        command.arg(self.folder.join("out")).arg(self.dir());
        variables(&mut command, self.folder.path());
        let done = command.output().unwrap();
        let said = String::from_utf8_lossy(&done.stderr);
        assert!(done.status.success(), "{:?}: {said}", self.program.argv);
    }

    fn read(&self, name: &str, what: &str) -> Vec<u8> {
        fs::read(self.folder.join("out").join(name).join(what)).unwrap()
    }

    fn files(&self, name: &str) -> std::path::PathBuf {
        let dir = self.dir();
        let inside = dir.strip_prefix("/").unwrap();
        self.folder
            .join("out")
            .join(name)
            .join("files")
            .join(inside)
    }
}

const SAVE: &str = r#"
    local function save(where, outcome)
      local function write(name, text)
        local file <close> = assert(io.open(where .. "/" .. name, "w"))
        file:write(text)
      end
      write("stdout", outcome.stdout)
      write("stderr", outcome.stderr)
      write("end", tostring(outcome.exit_code or outcome.signal))
      write("missing", table.concat(outcome.missing, "\n"))
    end
    local recording, out, dir = rr.open(arg[1]), arg[2], arg[3]
    os.execute("mkdir -p " .. out)
    local first = recording:processes()[1].pid
"#;

/// With nothing failed, a copy that goes live ends as the recorded program did, although nothing is left of its files.
fn controls(program: &'static Program) {
    controls_of(&Place::record(program));
}

/// The same for a recording in a sandbox that was thrown away.
fn controls_discarded(program: &'static Program) {
    controls_of(&Place::record_discarded(program));
}

/// `dir` has what the program leaves.
fn controls_of(place: &Place) {
    let program = place.program;
    let dir = place.dir();
    let kept = place.folder.join("kept");
    fs::rename(&dir, &kept).unwrap();
    place.fresh();
    let (before, left) = (tree(&dir), tree(&kept));
    fs::remove_dir_all(&dir).unwrap();
    fs::create_dir(&dir).unwrap();
    fs::write(dir.join("another"), "not of that time").unwrap();
    place.script(&format!(
        r#"{SAVE}
        local list <close> = assert(io.open(out .. "/list", "w"))
        local makes = {{ clone = true, clone3 = true, fork = true, vfork = true }}
        -- The events of the first process at which it has no children.
        local alone, children, final = {{}}, 0, 0
        for number = 1, #recording do
          local event = recording:event(number)
          if event.pid == first then final = number end
          if children == 0 and number > 1 and event.pid == first then alone[#alone + 1] = number end
          local ret = event.kind == "call" and math.type(event.ret) == "integer" and event.ret or 0
          if ret > 0 and makes[event.name] then children = children + 1 end
          if ret > 0 and event.name == "wait4" then children = children - 1 end
        end
        local tried = {{}}
        for at = 1, #alone, math.max(1, #alone // 20) do tried[#tried + 1] = alone[at] end
        -- At the last one, nothing is written any more.
        if tried[#tried] ~= alone[#alone] then tried[#tried + 1] = alone[#alone] end
        local over <close> = assert(io.open(out .. "/over", "w"))
        over:write(final == alone[#alone] and final or "")
        for _, event in ipairs(tried) do
          local stop = recording:replay_to(event)
          local where = out .. "/" .. event
          os.execute("mkdir -p " .. where)
          local copy <close> = stop:spin_off()
          local outcome = copy:live {{ after = function(box)
            box:save(where .. "/files", dir)
            local found = box:run {{ "find", dir, "-printf", "%P\t%y\t%U:%G\t%T@\n" }}
            local file <close> = assert(io.open(where .. "/attributes", "w"))
            file:write(found.stdout)
          end }}
          save(where, outcome)
          list:write(event, "\n")
        end"#
    ));
    let end = place.folder.record_end();
    let list = fs::read_to_string(place.folder.join("out/list")).unwrap();
    assert!(list.lines().count() >= 10, "{list}");
    let over = fs::read_to_string(place.folder.join("out/over")).unwrap();
    for event in list.lines() {
        let what = format!("{:?} at event {event}", program.argv);
        let missing = String::from_utf8(place.read(event, "missing")).unwrap();
        assert_eq!(place.read(event, "end"), b"0", "{what}; missing: {missing}");
        let (out, err) = (place.read(event, "stdout"), place.read(event, "stderr"));
        assert!(
            end.0.ends_with(&out) && end.1.ends_with(&err),
            "{what}: {:?}; missing: {missing}",
            (String::from_utf8_lossy(&out), String::from_utf8_lossy(&err))
        );
        let mut differ = differences(&place.files(event), &kept);
        // It was not there at the event, and nobody looked whether it was.
        differ.retain(|name| name != "another");
        // What the program does not look at is not kept.
        let ours = place.files(event);
        differ.retain(|name| ours.join(name).exists() || before.get(name) != left.get(name));
        assert!(differ.is_empty(), "{what}: {differ:?}; missing: {missing}");
        let attributes = String::from_utf8(place.read(event, "attributes")).unwrap();
        for line in attributes.lines() {
            let [name, kind, owner, time] = line.split('\t').collect::<Vec<_>>()[..] else {
                panic!("{attributes}");
            };
            // Files with a random name, for example.
            let Ok(meta) = fs::symlink_metadata(kept.join(name)) else {
                continue;
            };
            assert_eq!(
                owner,
                format!("{}:{}", meta.uid(), meta.gid()),
                "{what}: {name}"
            );
            let (seconds, rest) = time.split_once('.').unwrap();
            let time = (seconds.parse().unwrap(), rest[..9].parse().unwrap());
            // Those of changes are of other runs.
            if meta.modified().unwrap() < place.begun {
                assert_eq!((meta.mtime(), meta.mtime_nsec()), time, "{what}: {name}");
            } else if kind == "d" && event == over && !place.is_discarded {
                let (seconds, nanoseconds): (i64, i64) = time;
                let nanos = |seconds: i64, rest: i64| {
                    i128::from(seconds) * 1_000_000_000 + i128::from(rest)
                };
                let differ = nanos(seconds, nanoseconds) - nanos(meta.mtime(), meta.mtime_nsec());
                // The clock of file times goes on in steps.
                assert!(differ.abs() < 20_000_000, "{what}: {name}: {differ} ns");
            }
        }
    }
}

/// The variable that has the second errno of each program be tried: tests/run-slow sets it.
const SECOND: &str = "RRAPPER_TEST_SECOND_ERRNO";

/// Calls that cannot fail, or without which nothing begins.
const NEVER: &str = "exit_group exit brk mmap munmap mprotect arch_prctl set_tid_address set_robust_list rseq prlimit64 \
    rt_sigaction rt_sigprocmask futex umask getpid gettid getppid getpgrp rt_sigreturn getuid geteuid getgid getegid";

/// A failure that is injected into the recording has the outcome that it has in the program itself, as strace injects it:
/// how it ends, what it says, and the files that it leaves. The calls `spared` are not made to fail.
fn failures(program: &'static Program, errno: &str, spared: &str) {
    let place = Place::record(program);
    place.script(&format!(
        r#"{SAVE}
        local never = {{}}
        for name in ("{NEVER} execve wait4 clone3 {spared}"):gmatch("%S+") do never[name] = true end
        local list <close> = assert(io.open(out .. "/list", "w"))
        local counts = {{}}
        for number = 1, #recording do
          local event = recording:event(number)
          local name = event.name
          if event.tid == first and name and not name:find("^SIG") then
            counts[name] = (counts[name] or 0) + 1
            if not never[name] then
              local where = out .. "/" .. number
              os.execute("mkdir -p " .. where)
              local copy <close> = recording:replay_to(number):spin_off()
              local outcome = copy:inject {{
                [name] = {{ fail = "{errno}", when = "1" }}, on_divergence = "live", finally = "live", timeout = 30,
                after = function(box) box:save(where .. "/files", dir) end,
              }}
              save(where, outcome)
              list:write(("%d %s %d\n"):format(number, name, counts[name]))
            end
          end
        end"#
    ));
    compare_with_strace(&place, errno, 20);
}

/// Compares the outcomes of a script with those of the program under strace's injection. The script has written a list of
/// events, their calls and the numbers of these.
fn compare_with_strace(place: &Place, errno: &str, least: usize) {
    let program = place.program;
    let list = fs::read_to_string(place.folder.join("out/list")).unwrap();
    let mut wrong = Vec::new();
    for line in list.lines() {
        let [event, call, nth] = line.split(' ').collect::<Vec<_>>()[..] else {
            panic!("{line}");
        };
        place.fresh();
        let mut strace = place.folder.command("timeout");
        strace
            .args(["-k", "1", "30", "strace", "-f", "-o", "/dev/null", "-e"])
            .arg(format!("trace={call}"));
        strace
            .arg("-e")
            .arg(format!("inject={call}:error={errno}:when={nth}"));
        strace.args(program.argv).current_dir(place.dir());
        variables(&mut strace, place.folder.path());
        let real = strace.output().unwrap();
        let read = |what| place.read(event, what);
        let end = String::from_utf8(read("end")).unwrap();
        let real_end = real.status.code().map(|code| code.to_string());
        let mut differ = differences(&place.files(event), &place.dir());
        // strace ends by the signal that ends the program.
        if real_end.is_some_and(|real| real != end) {
            differ.push(format!("the end, {end} and not {:?}", real.status));
        }
        for (what, real) in [("stdout", &real.stdout), ("stderr", &real.stderr)] {
            let (ours, real) = (masked(&read(what)), masked(real));
            if !real.ends_with(&ours) {
                let texts = (
                    String::from_utf8_lossy(&ours),
                    String::from_utf8_lossy(&real),
                );
                differ.push(format!("{what}: {texts:?}"));
            }
        }
        if !differ.is_empty() {
            let missing = String::from_utf8(read("missing")).unwrap();
            wrong.push(format!(
                "{line} failed with {errno}: {differ:?}; missing: {missing}"
            ));
        }
    }
    let count = list.lines().count();
    assert!(count >= least, "{list}");
    assert!(
        wrong.is_empty(),
        "{:?}: {} of {count}: {wrong:#?}",
        program.argv,
        wrong.len()
    );
}

/// Programs of several processes.
mod of_families {
    use super::{NEVER, Place, Program, SAVE, compare_with_strace};

    const PIPELINE: Program = Program {
        setup: "seq 200000 >numbers",
        argv: &[
            "bash",
            "-c",
            "grep 7 <numbers | sed s/7/x/ | sort -r >sorted; echo done",
        ],
    };
    const SCRIPT: Program = Program {
        setup: "mkdir d; echo one >d/a; echo two >d/b",
        argv: &[
            "sh",
            "-c",
            "for f in d/*; do wc -l <$f >>counts || echo failed; done; (cd d && cat a b) >all; rm d/a; ls d",
        ],
    };
    const COMMIT: Program = Program {
        setup: "git init -q .; git config user.name n; git config user.email e; printf '#!/bin/sh\ntest -f a\n' >.git/hooks/pre-commit; \
                chmod +x .git/hooks/pre-commit; echo a >a; git add a",
        argv: &["git", "commit", "-q", "-m", "first"],
    };
    const MAKE: Program = Program {
        setup: "printf 'all: x y\\nx: a\\n\\tcp a x\\ny: a x\\n\\tcat a x >y\\n' >Makefile; echo a >a",
        argv: &["make", "-s"],
    };
    const GCC: Program = Program {
        setup: "echo 'int main(void) { return 0; }' >a.c",
        argv: &["cc", "-c", "a.c"],
    };
    const ARCHIVE: Program = Program {
        setup: "mkdir d; seq 1000 >d/a; seq 10 >d/b; touch -d 2001-02-03 d/a d/b d",
        argv: &["tar", "czf", "d.tar.gz", "d"],
    };

    /// Of all calls that no other process makes so many times, some are made to fail, spread over the processes.
    fn failures(program: &'static Program, errno: &str, spared: &str) {
        const MOST: usize = 60;
        let place = Place::record(program);
        place.script(&format!(
            r#"{SAVE}
            local never = {{}}
            for name in ("{NEVER} {spared}"):gmatch("%S+") do never[name] = true end
            local counts, all = {{}}, {{}}
            for number = 2, #recording do
              local event = recording:event(number)
              local name = event.name
              if name and event.kind == "call" and not never[name] then
                counts[name] = counts[name] or {{}}
                counts[name][event.pid] = (counts[name][event.pid] or 0) + 1
                all[#all + 1] = {{ number, name, counts[name][event.pid], event.pid }}
              end
            end
            local function is_alone(one)
              for pid, count in pairs(counts[one[2]]) do
                if pid ~= one[4] and count >= one[3] then return false end
              end
              -- The first one is that with which strace starts the program.
              return one[2] ~= "execve" or one[4] ~= first
            end
            local chosen = {{}}
            for _, one in ipairs(all) do if is_alone(one) then chosen[#chosen + 1] = one end end
            local list <close> = assert(io.open(out .. "/list", "w"))
            local step = math.max(1, #chosen / {MOST})
            for i = 1, #chosen, step do
              local number, name, nth = table.unpack(chosen[math.floor(i)])
              local where = out .. "/" .. number
              os.execute("mkdir -p " .. where)
              local copy <close> = recording:replay_to(number):spin_off()
              local outcome = copy:inject {{
                [name] = {{ fail = "{errno}", when = "1" }}, on_divergence = "live", finally = "live", timeout = 30,
                after = function(box) box:save(where .. "/files", dir) end,
              }}
              save(where, outcome)
              list:write(("%d %s %d\n"):format(number, name, nth))
            end"#
        ));
        compare_with_strace(&place, errno, 20);
    }

    macro_rules! families {
        ($($name:ident: $program:expr, $errno:literal $(except $spared:literal)?;)*) => {
            $(
                #[test]
                fn $name() {
                    failures(&$program, $errno, concat!("" $(, $spared)?));
                }
            )*
        };
    }

    families! {
        pipeline: PIPELINE, "EIO";
        // With strace each process fails once, and a shell that does not know its directory asks again in another one. Whether a
        // child has ended by the time that nobody waits for it is chance.
        script: SCRIPT, "EACCES" except "getcwd wait4";
        commit: COMMIT, "ENOSPC";
        make: MAKE, "EIO";
        // Without waiting for the compiler it takes its output away.
        gcc: GCC, "ENOMEM" except "wait4";
        // strace leaves a descriptor open of which a close fails, and the other end of a pipe waits for ever. Whether the child
        // ends before its parent writes to it is chance.
        archive: ARCHIVE, "EIO" except "close dup creat";
    }
}

/// What `after` can do with the sandbox.
#[test]
fn a_box_has_the_files_after_the_end() {
    let folder = Folder::new();
    folder.write("a", "one\n");
    folder
        .record(
            "recording",
            &["sh", "-c", "echo two >>a; rm -f b; echo new >c; cat a"],
        )
        .ok();
    folder.write("a", "something else");
    let done = folder.script(
        r#"
        local recording = rr.open("recording")
        local write = recording:find { syscall = "write", path = "*/c" }
        local copy <close> = recording:replay_to(write):spin_off()
        local kept
        local outcome = copy:inject {
          write = { fail = "EIO", when = "1" }, on_divergence = "live", finally = "live",
          after = function(box, outcome)
            kept = box
            print(box, outcome.status, box:read("a"))
            box:write("d", "more"); box:write("a", "changed")
            for _, file in ipairs(box:files()) do print(file.kind, file.path:match("[^/]*$"), file.size, file.hash) end
            local ran = box:run { "sh", "-c", "cat a d; cat >e; exit 3", stdin = "typed", timeout = 5 }
            print(ran.status, ran.exit_code, ran.stdout, box:read("e"))
            print(#box:diff(box:files()), #box:diff {})
            os.execute("mkdir saved")
            box:save("saved"); box:save("whole", ".")
            for _, wrong in ipairs { "nowhere", "/dev/null", "." } do print(pcall(box.read, box, wrong)) end
            print(pcall(box.run, box, { "no-such-program" }))
            print(pcall(function() return box.reads end))
          end,
        }
        print(outcome.exit_code, outcome.stderr)
        print(kept, pcall(kept.read, kept, "a"))
        os.execute("cat saved/*/*/*/e whole/*/*/*/a saved/*/*/*/d || find saved whole")
        "#,
    );
    let text = done.ok().text();
    for expected in [
        "Box\texited\tone\ntwo\n",
        "changed\ta\t7\t",
        "created\td\t4\t",
        "exited\t3\tchangedmore\ttyped\n",
        "0\t3\n",
        "cannot read nowhere in the box: No such file or directory",
        "cannot read /dev/null in the box: it is not a regular file",
        "cannot read . in the box: it is not a regular file",
        "no-such-program",
        "a box has no \"reads\"; did you mean \"read\"?",
        "Box (over)\tfalse\t",
        "this box is over: it can be used only while its function runs",
    ] {
        assert!(text.contains(expected), "{expected:?} in {text}");
    }
    assert_eq!(
        fs::read_to_string(folder.join("a")).unwrap(),
        "something else"
    );
}

/// The files of a box are told against those at the event at which the copy was spun off: whether it went live at once, later
/// or not at all.
#[test]
fn changed_files_are_those_since_the_copy_was_spun_off() {
    let folder = Folder::new();
    fs::create_dir(folder.join("w")).unwrap();
    fs::create_dir(folder.join("w/d")).unwrap();
    for name in ["a", "b", "g", "d/x"] {
        folder.write(&format!("w/{name}"), "one");
    }
    let program = "import os\nos.chdir('w')\nopen('a', 'a').write('two')\nopen('new', 'w').write('three')\nos.unlink('g')\n\
        os.rename('d', 'e')\nos.mkdir('k'); open('k/y', 'w').write('four'); os.chmod('b', 0o600)\n\
        open('t', 'w').write('5'); os.unlink('t')\nos.mkdir('last')";
    folder.record("rec", &[PYTHON, "-SBc", program]).ok();
    let work = folder.join("w");
    let work = work.to_str().unwrap();
    let done = folder.script(&format!("local work = {work:?}\n{}",
        r#"
        local recording = rr.open "rec"
        local function shown(box)
          local all = {}
          for _, file in ipairs(box:files()) do
            local path = (file.from and file.from .. " > " or "") .. file.path
            all[#all + 1] = file.kind .. " " .. path:gsub("[^ ]*/w/", "") .. " " .. (file.size or "-")
          end
          return table.concat(all, ", ")
        end
        for _, where in ipairs { "chdir", "unlink" } do
          local event = recording:find { syscall = where }
          local found = {}
          local function after(box)
            found[#found + 1] = shown(box)
            box:write(work .. "/later", "6"); box:run { "sh", "-c", "rm -r k; echo x >g", cwd = work }
            found[#found] = found[#found] .. "; " .. shown(box)
          end
          local function copy() return recording:replay_to(event):spin_off() end
          copy():inject { after = after }
          copy():live { after = after }
          copy():inject { after = after, mkdir = { live = true, when = "2" } }
          print(where, #found, found[1])
          for at = 2, #found do if found[at] ~= found[1] then print(at, found[at]) end end
        end
        local copy <close> = recording:replay_to(recording:find { syscall = "unlink" }):spin_off()
        copy:inject { unlink = { fail = "EPERM", when = "1" }, after = function(box, outcome) print(outcome.status, shown(box)) end }
        "#,
    ));
    let text = done.ok().text();
    let all = "changed a 6, changed b 3, renamed d > e -, removed g -, created k -, created k/y 4, created last -, created new 5";
    let then = "changed a 6, changed b 3, renamed d > e -, changed g 2, created last -, created later 1, created new 5";
    let since = |text: &str| {
        text.replace("changed a 6, ", "")
            .replace(", created new 5", "")
    };
    let expected = format!(
        "chdir\t3\t{all}; {then}\nunlink\t3\t{}; {}\ndiverged\t\n",
        since(all),
        since(then)
    );
    assert_eq!(text, expected);
}

/// How a renamed file is told, whichever way a program that renames files has run: live without a recording, and for a recorded
/// one in copies that stay emulated or go live early or late, with the files as recorded or as the program has left them.
fn renames_are_told(folder: &Folder, prefix: &[&str]) {
    const SETUP: &str = "rm -rf w; mkdir -p w/d/e/f w/d/empty; cd w; echo a >a; echo b >b; echo 1 >d/x; echo 2 >d/e/y; echo >d/e/f/z; \
        ln -s y d/e/l; : >nul; mkfifo p; sqlite3 t.db 'create table t (n)'; git init -q; echo x >.git/COMMIT_EDITMSG; sleep 0.05";
    const ALL: &str = "import os\nos.rename('a', 'z'); open('z', 'a').write('more'); os.rename('d', 'n'); open('n/x', 'w').write('other')\n\
        os.unlink('n/e/y'); os.rename('n/e/f/z', 'out'); open('n/new', 'w')";
    const CHAIN: &str = "import os\nopen('c', 'w').write(open('a').read()); os.unlink('a'); os.rename('d', 'n'); os.rename('n', 'd')\n\
        os.rename('nul', 'o'); os.rename('o', 'o2'); open('nul', 'w'); os.mkdir('t'); os.rename('t', 't2'); os.link('b', 'b2')";
    let cases: [(&[&str], &str); 14] = [
        (&["mv", "a", "c"], "renamed c < a"),
        // What was there is another file now.
        (&["mv", "a", "b"], "removed a, changed b < a"),
        (&["mv", "d", "g"], "renamed g < d"),
        (&["mv", "d/empty", "hollow"], "renamed hollow < d/empty"),
        (&["mv", "nul", "nil"], "renamed nil < nul"),
        (&["mv", "p", "q"], "renamed q < p"),
        (&["mv", "d/e/l", "m"], "renamed m < d/e/l"),
        (&["sed", "-i", "s/a/x/", "a"], "changed a"),
        (
            &["sqlite3", "t.db", "insert into t values (1)"],
            "changed t.db",
        ),
        (
            &["git", "config", "--local", "a.b", "c"],
            "changed .git/config",
        ),
        (
            &["rm", "-r", "d"],
            "removed d, removed d/e, removed d/e/f, removed d/e/f/z, removed d/e/l, removed d/e/y, removed d/empty, removed d/x",
        ),
        (
            &[PYTHON, "-SBc", ALL],
            "removed d/e/y, renamed n < d, created n/new, changed n/x < d/x, renamed out < d/e/f/z, renamed z < a",
        ),
        (
            &[PYTHON, "-SBc", CHAIN],
            "removed a, created b2, created c, changed nul, renamed o2 < nul, created t2",
        ),
        (
            &[
                PYTHON,
                "-SBc",
                "import os\nos.link('a', 'h'); os.unlink('a'); os.mkdir('in'); os.rename('d/e', 'in/e'); os.rename('in', 'on')",
            ],
            "renamed h < a, created on, renamed on/e < d/e",
        ),
    ];
    let list: Vec<String> = cases
        .iter()
        .map(|(argv, expected)| {
            format!(
                "{{ argv = {{ {} }}, expected = {expected:?} }}",
                argv.iter()
                    .map(|arg| format!("{arg:?}"))
                    .collect::<Vec<_>>()
                    .join(", ")
            )
        })
        .collect();
    folder.write("script.lua", format!("local setup, cases = {SETUP:?}, {{ {} }}\n{}", list.join(",\n"), r#"
        local function shown(list)
          local all = {}
          for _, file in ipairs(list) do
            local from = file.from and " < " .. file.from:gsub("^.*/w/", "") or ""
            all[#all + 1] = file.kind .. " " .. file.path:gsub("^.*/w/", "") .. from
          end
          return table.concat(all, ", ")
        end
        for _, case in ipairs(cases) do
          local said
          local function check(what, found)
            if found ~= case.expected then print(table.concat(case.argv, " "), what, found, case.expected) end
          end
          local function after(box) said = shown(box:files()) end
          local program = { table.unpack(case.argv) }
          program.cwd = "w"
          os.execute(setup)
          program.hooks = { after = after }
          local outcome = live(program)
          check("live{}", said)
          check("live{}.files", shown(outcome.files))
          program.hooks = nil
          local recording = rr.record(program)
          for _, files in ipairs { "left", "fresh" } do
            if files == "fresh" then os.execute(setup) end
            for _, at in ipairs { 2, 20 } do
              local copy <close> = recording:replay_to(at):spin_off()
              outcome = copy:live { after = after }
              check(files .. " live at " .. at, said)
              check(files .. " files at " .. at, shown(outcome.files))
            end
            local copy <close> = recording:replay_to(2):spin_off()
            copy:inject { after = after }
            check(files .. " emulated", said)
            -- It goes live after the first change.
            local copy <close> = recording:replay_to(2):spin_off()
            copy:inject { ["rename,renameat2,unlinkat"] = { live = true, when = 2 }, after = after, on_divergence = "live" }
            check(files .. " live later", said)
          end
        end
        print "done""#));
    let mut command = Command::new(prefix[0]);
    command.args(&prefix[1..]).args([
        "sh",
        "-c",
        &format!("mkdir -p w mnt; {RRAPPER} -q script.lua"),
    ]);
    variables(&mut command, folder.path());
    let done = command.current_dir(folder.path()).output().unwrap();
    let said = String::from_utf8_lossy(&done.stdout);
    let errors = String::from_utf8_lossy(&done.stderr);
    assert_eq!((&said[..], &errors[..]), ("done\n", ""));
}

#[test]
fn renamed_files_are_told_with_their_former_names() {
    renames_are_told(&Folder::new(), &["env"]);
}

#[test]
fn a_users_renamed_files_are_told_with_their_former_names() {
    as_user(&[
        "--exact",
        "recorded_files::renamed_files_are_told_with_their_former_names",
    ]);
}

/// Where the sandbox has made directories anew, and lays overlays at those in them.
#[test]
fn files_renamed_beside_mounts_are_told_with_their_former_names() {
    let folder = Folder::new();
    let steps = format!("mkdir mnt; mount -t tmpfs none mnt; {RRAPPER} -q script.lua");
    folder.write(
        "script.lua",
        r#"
        local function try(text)
          os.execute("rm -rf w a b; echo a >a; echo 1 >b; mkdir -p w/d; echo 2 >w/d/x; sleep 0.05")
          local base = io.popen("pwd"):read() .. "/"
          local function after(box)
            local all = {}
            for _, file in ipairs(box:files()) do
              all[#all + 1] = file.kind .. " " .. file.path:sub(#base + 1) .. (file.from and " < " .. file.from:sub(#base + 1) or "")
            end
            print(text .. ": " .. table.concat(all, ", "))
          end
          live { "sh", "-c", text, hooks = { after = after } }
        end
        try "mv a c"; try "mv a w/c"; try "mv w/d e"; try "mv w v"; try "mv w/d/x y"; try "mv a b"; try "mv a c; mv c d; echo more >>d"
        "#,
    );
    let mut command = Command::new("unshare");
    command.arg(if nix::unistd::geteuid().is_root() {
        "-m"
    } else {
        "-rm"
    });
    command.args(["sh", "-c", &steps]);
    variables(&mut command, folder.path());
    let done = command.current_dir(folder.path()).output().unwrap();
    let expected = "mv a c: renamed c < a\nmv a w/c: renamed w/c < a\nmv w/d e: renamed e < w/d\nmv w v: renamed v < w\n\
        mv w/d/x y: renamed y < w/d/x\nmv a b: removed a, changed b < a\nmv a c; mv c d; echo more >>d: renamed d < a\n";
    assert_eq!(String::from_utf8_lossy(&done.stdout), expected, "{done:?}");
}

/// What is changed in live has times of the clock that the process reads, which is behind the kernel's.
#[test]
fn times_of_changes_in_live_are_told_in_the_clock_of_the_process() {
    let folder = Folder::new();
    folder.write("q", "text");
    let program = "import os, time\nopen('q').read()\n\
        def told(name): s = os.stat(name); return [abs(t - time.time()) < 2 for t in (s.st_mtime, s.st_ctime)]\n\
        open('new', 'w').write('x'); old = os.stat('q').st_mtime; os.utime('q'); os.mkdir('d'); os.symlink('q', 'l')\n\
        print(told('new'), told('q'), told('d'), told('.'), os.lstat('l').st_mtime - time.time() < 2, old)\n\
        os.utime('q', ns=(5, 5)); print(os.stat('q').st_mtime_ns)";
    let done = folder.record("rec", &[PYTHON, "-SBc", program]).ok();
    assert!(!done.text().contains("False"), "{}", done.text());
    std::thread::sleep(Duration::from_secs(3));
    let live = folder.script(
        r#"
        local recording = rr.open "rec"
        local read = recording:find { syscall = "read", path = "*/q" }
        local copy <close> = recording:replay_to(read):spin_off()
        io.write(copy:live {}.stdout)
        "#,
    );
    assert_eq!(live.ok().text(), done.text());
}

/// A failure changes what the recording would say next about the same file: that is where the copy leaves it.
#[test]
fn no_recorded_answer_is_given_about_a_file_that_a_fault_has_changed() {
    let place = Place::record(&GIT_COMMIT);
    let done = place.folder.script(
        r#"
        local recording = rr.open("recording")
        local write = recording:find { syscall = "write", path = "*/COMMIT_EDITMSG" }
        local copy <close> = recording:replay_to(write):spin_off()
        local outcome = copy:inject { write = { fail = "ENOSPC", when = "1" } }
        print(outcome.status, outcome.divergence)
        local copy <close> = recording:replay_to(write):spin_off()
        local outcome = copy:inject { write = { short = 2, when = "1" } }
        print(outcome.status, outcome.divergence)
        "#,
    );
    let text = done.ok().text();
    let mut lines = text.lines();
    assert!(lines.next().unwrap().starts_with("diverged"), "{text}");
    assert_eq!(lines.next(), Some("exited\tnil"), "{text}");
}

/// Files that are none, that are too large, or have strange names are no obstacle.
#[test]
fn strange_files_are_recorded_and_found() {
    let folder = Folder::new();
    let dir = folder.join("work");
    fs::create_dir(&dir).unwrap();
    let setup = "mkfifo p; truncate -s 1T huge; echo x >$(printf 'a\\377b'); mkdir many; cd many; seq 1000 | xargs touch; \
                 cd ..; ln -s nowhere l; ln -s loop loop; echo secret >s; chmod 0 s";
    sh(&folder, &dir, setup);
    let mut command = folder.command(RRAPPER);
    command
        .args(["-q", "record", "-o"])
        .arg(folder.join("recording"));
    command.args(["--", PYTHON, "-SEc"]).current_dir(&dir);
    command.arg("import os\nn = b'a\\xffb'; print(open(n).read())\nf = open(n, 'a'); f.write('more'); f.flush()\n\
        os.rename('many', 'more'); os.unlink('p'); print(os.stat('huge').st_size, len(os.listdir('more')))\n\
        os.truncate('huge', 5); print(os.stat('huge').st_size, open(n).read(), os.path.exists('l'), os.path.exists('p'))");
    let done = command.output().unwrap();
    assert!(done.status.success(), "{done:?}");
    fs::remove_dir_all(&dir).unwrap();
    fs::create_dir(&dir).unwrap();
    let done = folder.script(
        r#"
        local recording = rr.open("recording")
        local said = recording:outcome().stdout
        for event = 2, #recording, 20 do
          local copy <close> = recording:replay_to(event):spin_off()
          local outcome = copy:live {}
          if said:sub(-#outcome.stdout) ~= outcome.stdout and #outcome.stdout > 0 or outcome.exit_code ~= 0 then
            print(event, outcome.status, outcome.stdout, outcome.stderr, table.concat(outcome.missing, "\n"))
          end
        end"#,
    );
    assert_eq!(done.ok().text(), "");
}

/// With `world = "none"`, nothing is kept, and live finds the files of today.
#[test]
fn files_are_not_kept_where_that_is_asked_for() {
    let folder = Folder::new();
    folder.write("a", "then\n");
    let done = folder.script(
        r#"
        for _, world in ipairs { "touched", "none" } do
          local file <close> = io.open("a", "w"); file:write("then\n"); file:close()
          local recording = rr.record { "cat", "a", world = world }
          local file <close> = io.open("a", "w"); file:write("now, and more\n"); file:close()
          local open = recording:find { syscall = "openat", path = "*/a" }
          local copy <close> = recording:replay_to(open):spin_off()
          print(world, copy:live {}.stdout)
        end
        print(pcall(rr.record, { "cat", "a", world = "all" }))"#,
    );
    let text = done.ok().text();
    for expected in [
        "touched\tthen\n",
        "none\tnow, and more\n",
        "world is one of \"touched\", \"written\", \"none\", not \"all\"",
    ] {
        assert!(text.contains(expected), "{expected:?} in {text}");
    }
    folder
        .rrapper(["record", "--world", "all", "--", "true"])
        .complains(&["--world", "touched, written, none"]);
}

/// The limits on kept files are said once when they are reached, and again where a copy would have needed the files.
#[test]
fn limits_on_kept_files_can_be_set() {
    let folder = Folder::new();
    let reads = ["cat", "a", "b", "c", "d"];
    let fresh = || {
        for (name, size) in [("a", 1000), ("b", 600), ("c", 1000), ("d", 400)] {
            folder.write(name, vec![b'x'; size << 10]);
        }
    };
    let seen = |recording: &str| {
        for name in &reads[1..] {
            folder.write(name, "changed");
        }
        let done = folder.script(&format!(
            r#"
            local recording = rr.open "{recording}"
            local copy <close> = recording:replay_to(10):spin_off()
            local outcome = copy:live {{}}
            print(#outcome.stdout)
            for _, sentence in ipairs(outcome.missing) do print((sentence:gsub(".*/", ""))) end
            "#
        ));
        done.ok().text()
    };
    let how = |limits: &[&str], name: &str| {
        fresh();
        let args = [&["record", "-o", name][..], limits, &["--"], &reads].concat();
        folder.rrapper(args).ok().stderr
    };
    let said = how(&["--world-file-limit", "640K"], "one");
    assert_eq!(said.matches("is not kept as it was").count(), 1, "{said}");
    assert!(
        said.contains("/a is not kept as it was (it is larger than 640 KiB)"),
        "{said}"
    );
    let reason = "as it was: the recording has no copy of it";
    assert_eq!(
        seen("one"),
        format!(
            "{}\na {reason} (it is larger than 640 KiB)\nc {reason} (it is larger than 640 KiB)\n",
            14 + (1000 << 10)
        )
    );
    let said = how(&["--world-limit", "1500K"], "all");
    assert_eq!(said.matches("is not kept as it was").count(), 1, "{said}");
    assert!(
        said.contains("/b is not kept as it was (with others, it is more than 1500 KiB)"),
        "{said}"
    );
    let reason =
        "as it was: the recording has no copy of it (with others, it is more than 1500 KiB)";
    assert_eq!(
        seen("all"),
        format!("{}\nb {reason}\nc {reason}\n", 14 + (1400 << 10))
    );
    let said = how(&[], "none");
    assert!(!said.contains("is not kept"), "{said}");
    assert_eq!(seen("none"), format!("{}\n", 3000 << 10));
    fresh();
    let done = folder.script(
        r#"
        local how = { keep = "touched", file = "640K", total = 1 << 30 }
        rr.record { "cat", "a", "b", "c", "d", world = how, out = "lua" }
        for _, wrong in ipairs { { keep = "all" }, { files = "1M" }, { file = "much" }, { total = 0 }, 5 } do
          print(pcall(rr.record, { "true", world = wrong }))
        end"#,
    );
    let text = done.ok().text();
    for expected in [
        "world.keep is one of \"touched\", \"written\", \"none\", not \"all\"",
        "world has no option \"files\"; did you mean \"file\"?",
        "world.file is a number of bytes, or text as \"512M\" or \"2 GiB\", not \"much\"",
        "world.total must be more than 0 bytes",
        "world is one of \"touched\", \"written\", \"none\", not 5",
    ] {
        assert!(text.contains(expected), "{expected:?} in {text}");
    }
    assert!(
        seen("lua")
            .contains("a as it was: the recording has no copy of it (it is larger than 640 KiB)")
    );
    folder
        .rrapper(["record", "--world-limit", "much", "--", "true"])
        .complains(&["--world-limit", "a number of bytes, or as 512M"]);
}

impl Folder {
    /// What the recorded program has printed.
    fn record_end(&self) -> (Vec<u8>, Vec<u8>) {
        let done = self.script(
            r#"local outcome = rr.open("recording"):outcome()
            io.write(outcome.stdout, "\0", outcome.stderr)"#,
        );
        let done = done.ok();
        let at = done.stdout.iter().position(|&byte| byte == 0).unwrap();
        (done.stdout[..at].to_vec(), done.stdout[at + 1..].to_vec())
    }
}

macro_rules! programs {
    ($($name:ident: $program:expr),* $(,)?) => {
        mod controls {
            $(
                #[test]
                fn $name() {
                    super::controls(&$program);
                }
            )*
        }
    };
}

programs! {
    mv: super::MV,
    mv_directory: super::MV_DIRECTORY,
    cp: super::CP,
    tar: super::TAR,
    sed: super::SED,
    sort: super::SORT,
    gzip: super::GZIP,
    install: super::INSTALL,
    rm: super::RM,
    patch: super::PATCH,
    sqlite: super::SQLITE,
    sqlite_wal: super::SQLITE_WAL,
    git_add: super::GIT_ADD,
    git_commit: super::GIT_COMMIT,
    python_move: super::PYTHON_MOVE,
    copytree: super::COPYTREE,
    tmpfile: super::TMPFILE,
    mapped: super::MAPPED,
    exchange: super::EXCHANGE,
    dpkg: super::DPKG,
    make: super::MAKE,
    git_gc: super::GIT_GC,
}

macro_rules! failing {
    ($($name:ident: $program:expr, $errno:literal, $second:literal $(except $spared:literal)?;)*) => {
        mod failures {
            $(
                #[test]
                fn $name() {
                    let errno = match std::env::var_os(super::SECOND) {
                        None => $errno,
                        Some(_) => $second,
                    };
                    super::failures(&$program, errno, concat!("" $(, $spared)?));
                }
            )*
        }
    };
}

failing! {
    mv: super::MV, "EIO", "EACCES";
    mv_directory: super::MV_DIRECTORY, "EACCES", "EIO";
    cp: super::CP_ONE, "EIO", "ENOSPC";
    tar: super::TAR, "ENOSPC", "EIO";
    sed: super::SED, "ENOSPC", "EACCES";
    sort: super::SORT, "EIO", "ENOSPC";
    gzip: super::GZIP, "ENOSPC", "EIO";
    install: super::INSTALL, "EPERM", "EIO";
    rm: super::RM, "EACCES", "EIO";
    patch: super::PATCH, "EIO", "ENOSPC";
    sqlite: super::SQLITE, "ENOSPC", "EIO";
    // It tries for ten seconds to get a lock.
    sqlite_wal: super::SQLITE_WAL, "EIO", "ENOSPC" except "fcntl";
    git_add: super::GIT_ADD, "EIO", "ENOSPC";
    git_commit: super::GIT_COMMIT, "ENOSPC", "EACCES";
    python_move: super::PYTHON_MOVE, "EACCES", "EIO";
}

macro_rules! discarded {
    ($($name:ident: $program:expr),* $(,)?) => {
        mod discarded {
            use super::*;
            $(
                #[test]
                fn $name() {
                    controls_discarded(&$program);
                }
            )*
        }
    };
}

discarded! {
    mv_of_a_directory: MV_DIRECTORY,
    tar: TAR,
    sed: SED,
    rm: RM,
    sqlite_wal: SQLITE_WAL,
    git_commit: GIT_COMMIT,
    copytree: COPYTREE,
    tmpfile: TMPFILE,
    mapped: MAPPED,
}

/// Reads files, writes some, and says what it finds once a read fails; then changes all of it.
const LOOKS: &str = r#"
import os
os.chdir("w")
names = [f"f{i}" for i in range(12)]
for name in names + ["d/e"]: open(name).read()
os.link("f7", "f7link")
open("own", "w").write("first")

def look():
    for name in sorted(os.listdir(".")):
        status = os.lstat(name)
        text = open(name).read() if os.path.isfile(name) else sorted(os.listdir(name))
        print(name, oct(status.st_mode), status.st_nlink if os.path.isfile(name) else "", int(status.st_mtime) if name in names else "", text)
        if name in names[:10]: print(status.st_dev, status.st_ino)

def change():
    for name in os.listdir("."):
        if os.path.isfile(name): open(name, "a").write("changed")
    os.chmod("f0", 0o600); os.unlink("f1"); os.rename("f2", "f3"); os.unlink("f4"); os.mkdir("f4"); open("f4/x", "w")
    os.utime("f5", (1, 1)); os.symlink("f5", "new"); os.rename("d", "moved"); os.unlink("f6"); open("f6", "w").write("y")
    os.setxattr("f8", "user.trace", b"x"); open("d", "w").write("z"); os.link("f9", "f9link")

def read(name):
    try: open(name).read()
    except OSError:
        look()
        print(os.listxattr("f8"))
        change()
        os._exit(3)

read("one")
open("own", "a").write("second")
os.unlink("f11")
read("two")
"#;

/// Copies of two events in turn: each finds what was there, whatever the others have done.
fn each_finds_the_same(folder: &Folder, prefix: &[&str], mounts: &str) {
    let steps = format!(
        "set -e; mkdir -p w/d w/m; for i in $(seq 0 11); do echo old$i >w/f$i; done; echo e >w/d/e; echo 1 >w/one; echo 2 >w/two; \
         touch -d 2001-02-03 w/f*; {mounts}; {RRAPPER} record -q -o rec -- {PYTHON} looks.py; \
         for i in $(seq 0 11); do echo new$i >w/f$i; done; rm w/f3 w/own w/f7link; rm -r w/d; {RRAPPER} -q script.lua"
    );
    folder.write("looks.py", LOOKS);
    folder.write(
        "script.lua",
        r#"local rec = rr.open "rec"
           local function outcome(name)
               rr.replay_to(rec:find{ syscall = "read", path = "*/" .. name })
               local hooks = { read = { fail = "EIO", when = 1 }, on_divergence = "live", finally = "live" }
               local o = spin_off():inject(hooks)
               assert(o.exit_code == 3, tostring(o) .. o.stdout .. o.stderr)
               local files = {}
               for _, file in ipairs(o.files) do files[#files + 1] = file.kind .. " " .. file.path .. "\n" end
               return o.stdout .. table.concat(files) .. table.concat(o.missing, "\n")
           end
           local seen = {}
           for _, name in ipairs{ "one", "one", "one", "two", "two", "one", "two", "two", "two", "one", "one" } do
               local now = outcome(name)
               assert(not seen[name] or now == seen[name], name .. "\n" .. now .. "---\n" .. (seen[name] or ""))
               seen[name] = now
           end
           -- With other files kept before, a program that finds today's.
           local today = live{ "/bin/sh", "-c", "cat w/f0 w/f1; ls w" }.stdout
           assert(today:find "new0\nnew1\n" and not today:find "own", today)
           io.write(seen.one, "--\n", seen.two, "--\n", outcome "one" == seen.one and "same" or "other")"#,
    );
    let mut command = Command::new(prefix[0]);
    command.args(&prefix[1..]).args(["sh", "-c", &steps]);
    variables(&mut command, folder.path());
    let done = command.current_dir(folder.path()).output().unwrap();
    let said = String::from_utf8_lossy(&done.stdout);
    assert!(
        done.status.success(),
        "{said}{}",
        String::from_utf8_lossy(&done.stderr)
    );
    let parts: Vec<&str> = said.split("--\n").collect();
    let [one, two, "same"] = parts[..] else {
        panic!("{said}");
    };
    for (seen, own) in [(one, "first"), (two, "firstsecond")] {
        assert!(seen.contains(&format!("own 0o100644 1  {own}\n")), "{seen}");
        for i in [0, 3, 10] {
            let line = format!("f{i} 0o100644 1 981158400 old{i}\n\n");
            assert!(seen.contains(&line), "{line}{seen}");
        }
        assert!(seen.contains("f7link 0o100644 2  old7\n"), "{seen}");
        assert!(seen.contains("d 0o40755   ['e']\n"), "{seen}");
        assert!(
            !seen.contains("changed\n") && !seen.contains(" new"),
            "{seen}"
        );
        assert!(seen.contains("\n[]\n"), "{seen}");
    }
    assert!(one.contains("f11 ") && !two.contains("f11 "), "{said}");
}

#[test]
fn copies_share_recorded_files_and_see_nothing_of_each_other() {
    let folder = Folder::new();
    each_finds_the_same(&folder, &["env"], "true");
}

#[test]
fn copies_see_nothing_of_each_other_beside_mounts() {
    let folder = Folder::new();
    let prefix: &[&str] = match nix::unistd::geteuid().is_root() {
        true => &["unshare", "-m"],
        false => &["unshare", "-rm"],
    };
    each_finds_the_same(&folder, prefix, "mount -t tmpfs none w/m");
}
