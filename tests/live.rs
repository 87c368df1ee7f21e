//! What goes on live: threads, children, clocks, identity; how it ends when it does not end by itself.

use crate::common::Folder;
use std::time::{Duration, Instant};

/// Records a program, and runs a script over the recording `rec`; `at` finds the event that copies are spun off at.
fn says(argv: &[&str], at: &str, script: &str, expected: &str) {
    let folder = Folder::new();
    folder.record("rec", argv);
    let head = format!(
        "rr.open 'rec'; local stop = rr.replay_to({at})\n\
         local function go(hooks) return stop:spin_off():live(hooks or {{ timeout = 20 }}) end\n"
    );
    let done = folder.script(&(head + script)).ok();
    assert_eq!(done.text(), expected, "{}", done.stderr);
}

#[test]
fn threads_and_children_go_on() {
    let program = "
import os, subprocess, threading
there = threading.Event()
lines = []
def work(n):
    there.wait()
    lines.append(subprocess.run(['echo', str(n)], capture_output=True, text=True).stdout.strip())
threads = [threading.Thread(target=work, args=[n]) for n in range(4)]
for thread in threads: thread.start()
os.getppid()
there.set()
for thread in threads: thread.join()
print(sorted(lines), flush=True)
os.waitpid(os.spawnlp(os.P_NOWAIT, 'sh', 'sh', '-c', 'echo from $0; exit 5'), 0)
pid = os.fork()
if pid == 0:
    os.write(1, b'forked\\n')
    os._exit(3)
print(os.waitpid(pid, 0)[1] >> 8)
";
    says(
        &["/usr/bin/python3", "-c", program],
        "rr.find{ syscall = 'getppid' }",
        "for i = 1, 3 do local o = go(); io.write(tostring(o), '\\n', o.stdout, o.stderr) end",
        &"exited with 0\n['0', '1', '2', '3']\nfrom sh\nforked\n3\n".repeat(3),
    );
}

#[test]
fn files_keep_their_numbers() {
    let program = "
import os
os.mkdir('dir'); os.mkdir('dir/sub')
for name in ['same', 'changed', 'unlinked', 'dir/inner']: open(name, 'w').write(name)
os.symlink('changed', 'link')
opened = [os.open(name, os.O_RDONLY) for name in ['.', 'dir', 'same', 'changed', 'unlinked']]
def numbers():
    here = os.open('dir', os.O_PATH)
    status = [os.stat('.'), os.stat('dir'), os.stat('same'), os.stat('changed'), os.stat('link'), os.lstat('link'),
              os.stat('inner', dir_fd=here), os.stat('/usr'), os.stat('/dev/null'), os.stat(os.getcwd() + '/dir/sub')]
    status += [os.fstat(fd) for fd in opened]
    os.close(here)
    return [(s.st_dev, s.st_ino) for s in status]
before = numbers()
os.getppid()
live = os.path.exists('recorded')
if live: os.unlink('unlinked')
with open('changed', 'a') as file: file.write('more')
after = numbers()
open('recorded', 'w').close()
new = os.stat('recorded')
print([(i, a, b) for i, (a, b) in enumerate(zip(before, after)) if a != b], (new.st_dev, new.st_ino) in before, new.st_dev == before[0][0])
";
    says(
        &["/usr/bin/python3", "-c", program],
        "rr.find{ syscall = 'getppid' }",
        "for i = 1, 2 do local o = go(); io.write(tostring(o), '\\n', o.stdout, o.stderr) end",
        &"exited with 0\n[] False True\n".repeat(2),
    );
    // A database stays the one that was opened.
    let folder = Folder::new();
    folder
        .plain(&[
            "sh",
            "-c",
            "sqlite3 db 'create table t (n); insert into t values (1)'",
        ])
        .ok();
    folder.plain(&["cp", "db", "kept"]).ok();
    folder.record(
        "rec",
        &["sqlite3", "db", "update t set n = 2; select n from t"],
    );
    folder.plain(&["mv", "kept", "db"]).ok();
    let script = "
        rr.open 'rec'
        local done = 0
        for event in rr.events{ syscall = 'pread64', path = '*/db' } do
          local copy <close> = rr.replay_to(event):spin_off()
          local o = copy:live{ timeout = 20 }
          assert(o.exit_code == 0, o.stderr .. o.stdout)
          done = done + 1
        end
        print(done > 2)";
    assert_eq!(folder.script(script).ok().text(), "true\n");
}

#[test]
fn directories_can_be_renamed_in_a_sandbox() {
    let folder = Folder::new();
    let make = "mkdir -p tree/a/b tree/c other && echo 1 >tree/one && echo 2 >tree/a/b/two && ln -s ../one tree/c/link \
                && chmod 750 tree/a && touch -d 2001-02-03 tree/a/b && echo 3 >other/three";
    folder.plain(&["sh", "-c", make]).ok();
    folder.write(
        "rename.py",
        "
import os, ctypes
os.getppid()
if os.path.exists('recorded'):
    before = os.stat('tree/a/b')
    os.rename('tree', 'new')
    os.rename('new/a/b', 'new/c/b/')
    after = os.stat('new/c/b')
    print(sorted(name for name in os.listdir('.') if name != 'data'), open('new/c/b/two').read(), open('new/c/link').read(), oct(os.stat('new/a').st_mode))
    print(before.st_mtime == after.st_mtime, before.st_mode == after.st_mode)
    libc = ctypes.CDLL(None, use_errno=True)
    print(libc.renameat2(-100, b'new', -100, b'other', 2), os.listdir('new'), os.listdir('other/c/b'))
    os.mkdir('taken'); open('taken/file', 'w').close()
    try: os.rename('other', 'taken')
    except OSError as e: print(e.strerror)
    try: os.rename('other', '/dev/shm/other')
    except OSError as e: print(e.strerror)
open('recorded', 'w').close()
",
    );
    folder.record_without_files("rec", &["/usr/bin/python3", "rename.py"]);
    let expected = "['new', 'other', 'rec', 'recorded', 'rename.py', 'x.lua'] 2\n 1\n 0o40750\nTrue True\n0 ['three'] \
                    ['two']\nDirectory not empty\nInvalid cross-device link\n";
    folder.write(
        "x.lua",
        "rr.open 'rec'
        local function show(o)
          io.write(o.stdout, o.stderr, table.concat(o.missing, '\\n'))
          local list = {}
          for _, file in ipairs(o.files) do list[#list + 1] = file.kind .. ' ' .. file.path:match '[^/]*$' end
          assert(table.concat(list, ' '):find('removed tree', 1, true), table.concat(list, ' '))
        end
        show(rr.replay_to(rr.find{ syscall = 'getppid' }):spin_off():live{ timeout = 20 })
        show(live{ '/usr/bin/python3', 'rename.py', hooks = { fsync = { fail = 'EIO' } } })",
    );
    let done = folder.rrapper(["x.lua"]).ok();
    assert_eq!(done.text(), expected.repeat(2), "{}", done.stderr);
    folder.plain(&["test", "-f", "tree/a/b/two"]).ok();
}

#[test]
fn who_leads_no_session_may_begin_one() {
    let program = "
import os
uid = os.getuid()
os.setresuid(uid, uid, uid)
os.getppid()
for call in [lambda: os.setpgid(0, 0), os.setsid, os.setsid]:
    try: call(); print('done')
    except OSError as e: print(e.strerror)
if os.fork() == 0:
    os.setsid()
    os._exit(0)
print(os.wait()[1])
";
    says(
        &[
            "/usr/bin/setsid",
            "-f",
            "-w",
            "/usr/bin/python3",
            "-c",
            program,
        ],
        "rr.find{ syscall = 'getppid' }",
        "local o = go(); print(o.stdout .. o.stderr)",
        &("Operation not permitted\n".repeat(3) + "0\n\n"),
    );
    says(
        &["/usr/bin/python3", "-c", program],
        "rr.find{ syscall = 'getppid' }",
        "local o = go(); print(o.stdout .. o.stderr .. table.concat(o.missing))",
        "done\ndone\nOperation not permitted\n0\n\
         the user and the groups that it took on: it has those of whoever runs this\n",
    );
}

#[test]
fn hooks_see_the_calls_of_children() {
    let script = "
        local pids, exits = {}, {}
        local o = go{
          timeout = 20,
          write = { path = '/dev/null', fail = 'EIO' },
          openat = { path = '*/data', fail = 'EMFILE', when = '1' },
          on_exit = function(e) exits[#exits + 1] = tostring(e.exit_code) end,
          ['*'] = function(call) pids[call.pid] = true end,
        }
        local n = 0
        for _ in pairs(pids) do n = n + 1 end
        print(o.exit_code, n, table.concat(exits, ' '), #o.injected)
        io.write(o.stdout, o.stderr)
    ";
    let folder = Folder::new();
    folder.write("data", "text\n");
    folder.record(
        "rec",
        &["sh", "-c", "echo begin; cat ./data; cat ./data; exit 4"],
    );
    let head = "rr.open 'rec'; local stop = rr.replay_to(rr.find{ syscall = 'write' })\n\
                local function go(hooks) return stop:spin_off():live(hooks) end\n";
    let done = folder.script(&format!("{head}{script}")).ok();
    assert_eq!(
        done.text(),
        "4\t3\t1 0 4\t1\nbegin\ntext\ncat: ./data: Too many open files\n"
    );
}

#[test]
fn clocks_go_on_from_the_recorded_time() {
    let program = "
import os, time, threading
began, mono = time.time(), time.monotonic()
os.getppid()
print(time.time() - began < 2, 0 <= time.monotonic() - mono < 2)
before = time.monotonic()
threading.Event().wait(0.2)
print(0.2 <= time.monotonic() - before < 2)
lock = threading.Lock()
lock.acquire()
print(lock.acquire(timeout=0.2), 0.4 <= time.monotonic() - before < 3)
time.sleep(0.1)
print(0.5 <= time.monotonic() - before < 3)
";
    says(
        &["/usr/bin/python3", "-c", program],
        "rr.find{ syscall = 'getppid' }",
        "os.execute 'sleep 2.5'; local o = go(); io.write(tostring(o), '\\n', o.stdout, o.stderr)",
        "exited with 0\nTrue True\nTrue\nFalse True\nTrue\n",
    );
}

#[test]
fn processes_have_their_recorded_numbers() {
    says(
        &[
            "sh",
            "-c",
            "echo $$; echo $$; readlink /proc/self/exe; ls -d /proc/$$; kill -USR1 $$; echo not me",
        ],
        "rr.find{ syscall = 'write' }",
        "local pid = tostring(stop.pid)
         local o = go()
         local text = o.stdout:gsub(pid, 'PID')
         io.write(tostring(o), '\\n', text, o.stderr)
         local calls = #o.calls
         print(calls > 10)",
        "signaled by SIGUSR1\nPID\nPID\n/usr/bin/readlink\n/proc/PID\ntrue\n",
    );
}

#[test]
fn what_hangs_is_said() {
    let folder = Folder::new();
    let program = folder.compile("hang", &["-g", "-O0"]);
    folder.write("data", "text\n");
    let check = &|how: &str, expected: &str| {
        folder.record(how, &[&program, "data", how]);
        // The time is enough for a loaded machine to come to where the program hangs.
        let done = folder.script(&format!(
            r#"
            rr.open "{how}"
            local p = rr.replay_to(rr.find{{ syscall = "read", path = "*/data" }}):spin_off()
            local o = p:inject{{ timeout = 5, finally = "live", on_divergence = "live", read = {{ fail = "EIO", when = "1" }} }}
            print(o.status) print(o.hang) print(#o.backtrace > 0)
            "#
        ));
        let text = done.ok().text();
        assert!(
            text.starts_with("timeout\n") && text.contains(expected) && text.ends_with("true\n"),
            "{how}: {text}"
        );
    };
    std::thread::scope(|scope| {
        for (how, expected) in [("sleep", "pause()"), ("spin", "main ()"), ("calls", "")] {
            scope.spawn(move || check(how, expected));
        }
    });
}

#[test]
fn crashes_come_with_a_backtrace() {
    let program = "import os, ctypes; os.getppid(); ctypes.string_at(8)";
    says(
        &["/usr/bin/python3", "-c", program],
        "rr.find{ syscall = 'getppid' }",
        "local o = go()
         print(o, #o.backtrace > 5)
         local text = {}
         for _, frame in ipairs(o.backtrace) do text[#text + 1] = frame.func or '' end
         print(table.concat(text, ' '):find 'strlen' ~= nil, table.concat(text, ' '):find 'Py' ~= nil)",
        "signaled by SIGSEGV\ttrue\ntrue\ttrue\n",
    );
}

#[test]
fn what_stays_behind_is_killed() {
    let folder = Folder::new();
    folder.record("rec", &["sh", "-c", "echo a; sleep 0.3 & echo b"]);
    let begun = Instant::now();
    let done = folder
        .script(
            "rr.open 'rec'
             local o = rr.replay_to(rr.find{ syscall = 'write' }):spin_off():live{
               timeout = 30, clock_nanosleep = { enter = function(call) call.args.request.tv_sec = 1000 end },
             }
             print(o, #o.missing, o.missing[#o.missing]:match 'still there')
             io.write(o.stdout)",
        )
        .ok();
    assert!(begun.elapsed() < Duration::from_secs(15));
    assert_eq!(
        done.text(),
        "exited with 0\t1\tstill there\na\nb\n",
        "{}",
        done.stderr
    );
}

/// As in a container whose profile forbids them: all but live works, and that says what to do.
#[test]
fn without_namespaces() {
    let folder = Folder::new();
    folder.write("text", "text\n");
    folder.write(
        "s.lua",
        r#"
        local rec = rr.record{ "cat", "text" }
        local stop = rr.replay_to(rec:find{ syscall = "read", path = "*/text" })
        print(stop:spin_off():inject().status)
        print(stop:spin_off():inject{ read = { fail = "EIO", when = "1" } }.status)
        local o = stop:spin_off():inject{
          read = { fail = "EIO", when = "1" }, on_divergence = "live", finally = "live", sandbox = "none",
        }
        print(o.status, o.exit_code) io.write(o.stderr)
        print(pcall(function() return stop:spin_off():live() end))
        "#,
    );
    let inner = format!(
        "echo 0 > /proc/sys/user/max_user_namespaces && exec {} -q s.lua",
        crate::common::RRAPPER
    );
    let output = folder
        .command("unshare")
        .args(["-Ur", "sh", "-c", &inner])
        .output();
    let done = crate::common::Done::from(output.expect("unshare starts")).ok();
    let text = done.text();
    assert!(
        text.starts_with(
            "text\nexited\ndiverged\nexited\t1\ncat: text: Input/output error\nfalse\t"
        ),
        "{text}{}",
        done.stderr
    );
    assert!(
        text.contains("namespaces") && text.contains("sandbox = \"none\""),
        "{text}"
    );
}

#[test]
fn who_is_not_there_is_said() {
    let folder = Folder::new();
    folder.record(
        "rec",
        &["sh", "-c", "(echo x; sleep 0.3; echo y) | cat; echo end"],
    );
    let done = folder
        .script(
            "rr.open 'rec'
             local read = rr.find{ syscall = 'read', fd = 0 }
             local o = rr.replay_to(read):spin_off():live{ timeout = 10 }
             print(o.status, o.exit_code, #o.missing)
             rr.replay_to(read)
             local o = spin_off{ alone = true }:live{ timeout = 10 }
             print(o.status, #o.missing > 0)
             for _, m in ipairs(o.missing) do print(m) end",
        )
        .ok();
    let text = done.text();
    assert!(text.starts_with("exited\t0\t0\nexited\ttrue\n"), "{text}");
    assert!(text.contains("pipe"), "{text}");
}

/// A thread that is not the first one is spun off, and goes by its own number all the same.
#[test]
fn threads_have_their_recorded_numbers() {
    let program = "
import os, signal, threading, time
def work():
    me = threading.get_native_id()
    os.getppid()
    signal.signal
    print(me == threading.get_native_id(), os.getpid() != me, flush=True)
    signal.pthread_kill(threading.main_thread().ident, signal.SIGUSR1)
signal.signal(signal.SIGUSR1, lambda *_: print('main is', threading.get_native_id() == os.getpid(), flush=True))
thread = threading.Thread(target=work)
thread.start()
thread.join()
";
    says(
        &["/usr/bin/python3", "-c", program],
        "rr.find{ syscall = 'getppid' }",
        "local copy = stop:spin_off()
         local o = copy:live{ timeout = 20 }
         io.write(tostring(o), '\\n', o.stdout, o.stderr)",
        "exited with 0\nTrue True\nmain is True\n",
    );
}
