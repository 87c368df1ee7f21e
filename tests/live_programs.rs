//! `live{}`: what hooks can do that strace cannot, and programs of all kinds, of which nothing is left.
//!
//! The tests take turns, since orphans are counted: the tests' process adopts them all.

mod common;

use common::{Done, Folder, RRAPPER};
use std::fs;
use std::os::unix::process::CommandExt;
use std::process::Stdio;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Both kinds of place that a program can run in.
const SANDBOXES: [&str; 2] = ["none", "cow"];

/// What one test has and leaves.
struct Turn {
    folder: Folder,
    temporary: Vec<String>,
    _alone: MutexGuard<'static, ()>,
}

static ALONE: Mutex<()> = Mutex::new(());

impl Turn {
    fn new() -> Turn {
        let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        // SAFETY: prctl(2) with numbers.
        unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) };
        let folder = Folder::new();
        fs::create_dir(folder.join("tmp")).unwrap();
        Turn {
            temporary: mounts(),
            folder,
            _alone: alone,
        }
    }

    /// Runs a script, in which `one(spec)` is `live{}` that ends in time.
    fn script(&self, text: &str) -> Done {
        self.folder.write("script.lua", text);
        let begun = Instant::now();
        let output = self.start(&["-q", "script.lua"]).wait_with_output();
        let took = begun.elapsed();
        assert!(took < Duration::from_secs(60), "it took {took:?}: {text}");
        self.clean();
        output.unwrap().into()
    }

    fn start(&self, args: &[&str]) -> std::process::Child {
        self.folder
            .command(RRAPPER)
            .args(args)
            .env("TMPDIR", self.folder.join("tmp"))
            .process_group(0)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    }

    /// Checks that nothing is left: no process, mount or file.
    #[track_caller]
    fn clean(&self) {
        let begun = Instant::now();
        loop {
            let left = descendants();
            if left.is_empty() {
                break;
            }
            let late = begun.elapsed() > Duration::from_secs(5);
            assert!(!late, "processes are left: {left:?}");
            std::thread::sleep(Duration::from_millis(5));
        }
        assert_eq!(mounts(), self.temporary);
        let files: Vec<_> = fs::read_dir(self.folder.join("tmp")).unwrap().collect();
        assert!(files.is_empty(), "{files:?}");
    }
}

fn mounts() -> Vec<String> {
    let text = fs::read_to_string("/proc/self/mounts").unwrap();
    text.lines().map(str::to_string).collect()
}

#[test]
fn directories_around_mounts_are_as_all_others() {
    let turn = Turn::new();
    let work = turn.folder.join("work");
    for dir in ["m", "a/d", "b", "gone", "empty"] {
        fs::create_dir_all(work.join(dir)).unwrap();
    }
    fs::write(work.join("a/f"), "1").unwrap();
    fs::write(work.join("a/d/g"), "2").unwrap();
    fs::write(work.join("here"), "x").unwrap();
    turn.folder.write(
        "script.lua",
        r#"
local o = live{ "sh", "-ec", [[
  echo y >new; echo z >>here
  python3 -c 'import os; [os.setxattr(f, "user.mark", f.encode()) for f in ("a/f", "a/d", "a/d/g")]'
  mv a/f b/f; test $(cat b/f) = 1; test ! -e a/f; mv a/d b/e; test $(cat b/e/g) = 2
  python3 -c 'import os; print([os.getxattr(f, "user.mark") for f in ("b/f", "b/e", "b/e/g")])'
  perl -e 'rename("here", "a/here") or die $!; link("a/here", "link") and die'
  rmdir empty; test ! -e empty; mv gone moved; test -d moved; test ! -e gone; echo 3 >moved/x; mkdir gone
  rm -r b; test ! -e b; echo w >m/x]], cwd = "work" }
print(o.status, o.exit_code, o.stderr, table.concat(o.missing, "; "))
io.write(o.stdout)
for _, file in ipairs(o.files) do print(file.kind, (file.path:gsub(".*/work/", ""))) end
"#,
    );
    let unshare = if nix::unistd::geteuid().is_root() {
        "-m"
    } else {
        "-rm"
    };
    let steps = "mount -t tmpfs none work/m; exec \"$0\" -q script.lua";
    let mut command = turn.folder.command("unshare");
    let output = command
        .args([unshare, "sh", "-ec", steps, RRAPPER])
        .output();
    let done: Done = output.unwrap().into();
    turn.clean();
    let linked = "here, linked: in the sandbox that was refused (EXDEV: Cross-device link)";
    let expected = format!(
        "exited\t0\t\t{linked}\n[b'a/f', b'a/d', b'a/d/g']\nremoved\ta/d\nremoved\ta/d/g\nremoved\ta/f\ncreated\ta/here\nremoved\tb\nremoved\tempty\n\
         removed\there\ncreated\tm/x\ncreated\tmoved\ncreated\tmoved/x\ncreated\tnew\n"
    );
    let said = String::from_utf8_lossy(&done.stdout);
    assert_eq!(said, expected, "{}", done.stderr);
    assert_eq!(fs::read(work.join("a/d/g")).unwrap(), b"2");
}

/// Our children that have not ended; those that have are reaped.
fn descendants() -> Vec<String> {
    // SAFETY: waitpid(2) with no status wanted.
    while unsafe { libc::waitpid(-1, std::ptr::null_mut(), libc::WNOHANG) } > 0 {}
    let mut found = Vec::new();
    for task in fs::read_dir("/proc/self/task").unwrap().flatten() {
        let Ok(children) = fs::read_to_string(task.path().join("children")) else {
            continue;
        };
        for pid in children.split_whitespace() {
            let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
            found.push(format!("{pid} ({})", name.trim()));
        }
    }
    found
}

#[test]
fn conditions_can_be_about_arguments() {
    let turn = Turn::new();
    turn.folder.write("a", "a\n");
    turn.script(
        r#"
        local function create(call) return call.args.flags & C.O_CREAT ~= 0 end
        local hooks = { openat = { fail = "EDQUOT", where = create } }
        local o = live{ "sh", "-c", "cat a; echo b > b; echo $?", hooks = hooks }
        assert(o.stdout == "a\n2\n" and o.stderr:find "[Qq]uota", tostring(o) .. o.stdout .. o.stderr)
        assert(#o.injected == 1)

        -- Only one descriptor, only what is long, only the second of these.
        local o = live{ "sh", "-c", "echo out; echo a >&2; echo long >&2; echo longer >&2; echo $?",
            hooks = { write = { fail = "EIO", fd = 1, when = "2", where = function(c) return c.size > 4 end } } }
        assert(o.stdout == "out\n1\n", o.stdout)
        assert(o.stderr:find "^a\nlong\n" and not o.stderr:find "longer", o.stderr)
        "#,
    )
    .ok();
}

#[test]
fn several_rules_can_be_about_one_call() {
    let turn = Turn::new();
    turn.folder.write("a", "0123456789\n");
    turn.script(
        r#"
        local o = live{ "cat", "a", "a", "a", "a", hooks = {
            { on = "read", fail = "EIO", path = "*/a", when = "1" },
            { on = "read", short = 3, path = "*/a", when = "2" },
            { on = "read", ret = 0, path = "*/a", when = "3" },
            { on = "read", path = "*/a", when = "4", exit = function(c) c:data("changed\n") end },
            { on = "openat", fail = "ENOENT", path = "a", when = "4" },
        } }
        assert(o.stdout == "012changed\n", o.stdout)
        local _, complaints = o.stderr:gsub("\n", "")
        assert(complaints == 2 and o.exit_code == 1, o.stderr)
        assert(#o.injected == 5 and #o.unfired == 0)
        "#,
    )
    .ok();
}

#[test]
fn arguments_can_be_changed_before_the_call() {
    let turn = Turn::new();
    turn.folder.write("a", "a\n");
    turn.folder.write("longer", "longer\n");
    turn.script(
        r#"
        local o = live{ "cat", "a", hooks = {
            openat = { path = "a", enter = function(c) c.args.pathname = "longer" end } } }
        assert(o.stdout == "longer\n" and o.exit_code == 0, o.stdout .. o.stderr)
        local o = live{ "sh", "-c", "echo hello; echo error >&2", hooks = { write = {
            enter = function(c) c:data(c:data():upper()) end } } }
        assert(o.stdout == "HELLO\n" and o.stderr == "ERROR\n", o.stdout .. o.stderr)
        local o = live{ "sh", "-c", "echo hello; echo hidden; echo error >&2", hooks = { write = {
            enter = function(c) if c:data():find "hidden" then c.fd = 2 end end } } }
        assert(o.stdout == "hello\n" and o.stderr == "hidden\nerror\n", o.stdout .. o.stderr)
        "#,
    )
    .ok();
}

#[test]
fn structures_can_be_changed() {
    let turn = Turn::new();
    turn.folder.write("a", "a\n");
    turn.script(
        r#"
        local o = live{ "stat", "-c", "%s %F", "a", hooks = { ["%%stat"] = { path = "a", exit = function(c)
            c.stat.size = 12345 c.stat.mode = C.S_IFIFO | 0x1a4 end } } }
        assert(o.stdout == "12345 fifo\n", o.stdout .. o.stderr)
        local o = live{ "sleep", "1000", timeout = 5, hooks = { clock_nanosleep = { enter = function(c)
            assert(c.args.request.tv_sec == 1000)
            c.args.request.tv_sec = 0 end } } }
        assert(o.status == "exited" and o.exit_code == 0, o)
        local o = live{ "date", "-u", "+%s", hooks = { clock_gettime = function(c) c.time = 1500000000 * 1000000000 end } }
        assert(o.stdout == "1500000000\n", o.stdout)
        "#,
    )
    .ok();
}

/// The memory that they were in is gone by then.
#[test]
fn what_an_execve_was_passed_is_known_when_it_has_succeeded() {
    let turn = Turn::new();
    turn.script(
        r#"
        for _, sandbox in ipairs{ "none", "cow" } do
            local seen = {}
            local hooks = { execve = function(c) seen[#seen + 1] = c.path .. ": " .. c.ret .. " " .. c:text "argv" end }
            local o = live{ "sh", "-c", "/bin/cat /dev/null; exec /none/such thing", sandbox = sandbox, hooks = hooks }
            assert(table.concat(seen, "; ") == '/bin/cat: 0 ["/bin/cat", "/dev/null"]; /none/such: -2 ["/none/such", "thing"]',
                table.concat(seen, "; "))
            local call = nil
            for _, made in ipairs(o.calls) do call = call or made.name == "execve" and made end
            assert(tostring(call):find('^execve%("/bin/cat", %["/bin/cat", "/dev/null"%], '), call)
        end
        "#,
    )
    .ok();
}

#[test]
fn one_thread_or_child_can_be_meant() {
    let turn = Turn::new();
    turn.folder.write(
        "threads.py",
        "import os, threading\n\
         def f(n):\n    \
             try: os.mkdir('d%d' % n); print('made', n)\n    \
             except OSError as e: print('failed', n)\n\
         for n in range(3):\n    \
             t = threading.Thread(target=f, args=(n,)); t.start(); t.join()\n",
    );
    turn.script(
        r#"
        for _, sandbox in ipairs{ "none", "cow" } do
            local tids = {}
            local o = live{ "python3", "threads.py", sandbox = sandbox, hooks = { mkdir = { fail = "EACCES", where = function(c)
                if c.tid ~= tids[#tids] then tids[#tids + 1] = c.tid end
                return #tids == 2
            end } } }
            assert(o.stdout == "made 0\nfailed 1\nmade 2\n", o.stdout .. o.stderr)
            os.execute "rm -rf d0 d1 d2"
            -- Of three children, that which executes the second program.
            local meant
            local o = live{ "sh", "-c", "cat threads.py >a; head -c 5 threads.py; cat threads.py | wc -l", sandbox = sandbox, hooks = {
                execve = function(c) if c.path:find "head" and c.ret == 0 then meant = c.tid end end,
                read = { fail = "EIO", path = "*threads.py", where = function(c) return c.tid == meant end },
            } }
            assert(o.stdout == "6\n" and o.stderr:find "^head: ", o.stdout .. o.stderr)
            -- Each task's second call, as strace counts.
            local o = live{ "sh", "-c", "(echo a; echo b); (echo c; echo d); echo e; echo f", sandbox = sandbox,
                hooks = { { on = "write", fd = 1, ret = 2, when = "2", per = "task" } } }
            assert(o.stdout == "a\nc\ne\n", o.stdout)
        end
        "#,
    )
    .ok();
}

const WAYS: [&str; 10] = [
    "comet", "brood", "threads", "vfork", "stopped", "daemons", "deaf", "headless", "again",
    "writes",
];

/// What does not end is ended in time, in whatever state it is, with all that it has started.
#[test]
fn what_does_not_end_is_ended() {
    let turn = Turn::new();
    turn.folder.compile("endless", &["-pthread"]);
    for sandbox in SANDBOXES {
        for way in WAYS {
            // None of its calls stops it; some do; all do.
            for hooks in [
                "{}",
                "{ ['clone,clone3,fork,vfork,execve'] = function() end }",
                "{ ['*'] = function() end }",
            ] {
                let begun = Instant::now();
                turn.script(&format!(
                    "local o = live{{ './endless', '{way}', sandbox = '{sandbox}', timeout = 0.1, hooks = {hooks} }}\n\
                     assert(o.status == 'timeout', tostring(o) .. o.stderr)",
                ))
                .ok();
                let took = begun.elapsed();
                assert!(
                    took < Duration::from_secs(3),
                    "{way} ({sandbox}, {hooks}) took {took:?}"
                );
            }
        }
    }
}

/// The end of all processes is waited for; what the first one's was is known when that never comes.
#[test]
fn what_is_left_behind_is_ended() {
    let turn = Turn::new();
    turn.folder.compile("endless", &["-pthread"]);
    for sandbox in SANDBOXES {
        turn.script(&format!(
            "local o = live{{ './endless', 'left', sandbox = '{sandbox}', timeout = 0.3, hooks = {{ ['*'] = function() end }} }}\n\
             assert(o.status == 'timeout' and o.exit_code == 3, o)"
        ))
        .ok();
    }
}

/// The same when rrapper itself is killed, or told to end.
#[test]
fn nothing_outlives_rrapper() {
    let turn = Turn::new();
    turn.folder.compile("endless", &["-pthread"]);
    for sandbox in SANDBOXES {
        for way in WAYS {
            for signal in [libc::SIGKILL, libc::SIGTERM, libc::SIGINT] {
                turn.folder.write(
                    "script.lua",
                    format!("live{{ './endless', '{way}', sandbox = '{sandbox}', hooks = {{ ['*'] = function() end }} }}"),
                );
                let mut child = turn.start(&["-q", "script.lua"]);
                std::thread::sleep(Duration::from_millis(50));
                assert!(
                    child.try_wait().unwrap().is_none(),
                    "{way} ({sandbox}) ended"
                );
                // SAFETY: kill(2) of our own child, which has not been reaped.
                unsafe { libc::kill(child.id() as i32, signal) };
                let begun = Instant::now();
                while child.try_wait().unwrap().is_none() {
                    let took = begun.elapsed();
                    assert!(
                        took < Duration::from_secs(5),
                        "{way} ({sandbox}), signal {signal}"
                    );
                    std::thread::sleep(Duration::from_millis(2));
                }
                turn.clean();
            }
        }
    }
}

/// The same tests as a user without privileges, where they run as root.
#[test]
fn all_that_holds_without_privileges() {
    let _turn = Turn::new();
    common::as_user(&[]);
}
