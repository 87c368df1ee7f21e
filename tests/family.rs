//! Copies of a process and its family: they follow their recording together, and see what one of them was answered.

use crate::common::Folder;
use crate::families::{Family, record};
use rrapper::kernel::{ProcessTree, Use};

/// Copies at ten events follow a recording to its end, each with those that share its memory, and with the whole family.
#[track_caller]
fn follows(name: &str) {
    let family = record(name);
    family
        .folder
        .write("follow.lua", include_str!("real/follow.lua"));
    let done = family.folder.rrapper(["-q", "follow.lua", "10"]);
    assert_eq!(done.ok().text(), "followed\n", "{name}");
}

macro_rules! followed {
    ($($test:ident)*) => {
        $(
            #[test]
            fn $test() {
                follows(&stringify!($test).replace('_', "-"));
            }
        )*
    };
}

followed! {
    pipeline pipelines make git_hook gcc xargs python_pool python_event prefork nginx redis_unix redis_tcp datagrams ways
    sqlite_wal script tmux posix_spawn ansible
}

/// What scripts find first: the processes of a pipeline of bash, seq, grep and wc, and a short form of a divergence.
const PIPELINE: &str = r#"
    local rec = rr.open "rec"
    local function program(name)
        for _, process in ipairs(rec:processes()) do
            if process.exe:match("/" .. name .. "$") then return process end
        end
    end
    local shell, seq, grep, wc = program "bash", program "seq", program "grep", program "wc"
    local start = rec:find{ pid = shell.pid }
    local names = { [shell.pid] = "shell", [seq.pid] = "seq", [grep.pid] = "grep", [wc.pid] = "wc" }
    local function told(o)
        local d = o.divergence
        local why = tostring(d and d.doubt):gsub("process (%d+)", function(pid) return names[tonumber(pid)] end)
        return o.status, d and names[d.pid], d and d.actual:match "^[%w_]+", (why:gsub(" at event %d+", ""))
    end
    local everyone = { on = "read", pid = "any", enter = function() end }
"#;

/// Whether all processes of the pipeline were there before the first of them wrote.
fn is_together(family: &Family) -> bool {
    let all = family.recording.processes().unwrap();
    let of = |name: &str| all.iter().find(|one| one.exe.ends_with(name.as_bytes()));
    let [seq, wc] = ["/seq", "/wc"].map(|name| of(name).unwrap());
    let channels = family.recording.channels().unwrap();
    let mut sends = channels
        .events()
        .iter()
        .filter(|one| one.what == Use::Sends);
    let first = sends.find(|one| one.pid == seq.pid).unwrap();
    let there = |tree: &ProcessTree| tree.is_alive(wc.pid);
    let there = family.recording.process_tree_at(first.event, there);
    there.unwrap()
}

#[track_caller]
fn in_pipeline(script: &str) -> String {
    // The shell may be slower than the first of its processes.
    let family = (0..20).find_map(|_| Some(record("pipeline")).filter(is_together));
    let family = family.expect("all processes begin before the first writes");
    let script = format!("{PIPELINE}{script}");
    family.folder.script(&script).ok().text()
}

#[test]
fn a_failure_is_told_of_the_process_that_leaves_the_recording() {
    let text = in_pipeline(
        r#"
        rr.replay_to(rec:find{ pid = grep.pid, syscall = "read", fd = 0 })
        print(told(spin_off(grep.pid):inject{ read = { fail = "EIO", fd = 0 } }))
        -- The same, from the beginning of the shell on.
        rr.replay_to(start)
        local o = spin_off(shell.pid):inject{ { on = "read", fail = "EIO", fd = 0, exe = "grep", when = "1" } }
        print(told(o))
        print(o.injected[1].call:match "EIO")
        "#,
    );
    assert_eq!(
        text,
        "diverged\tgrep\twrite\tnil\ndiverged\tgrep\twrite\tnil\nEIO\n"
    );
}

#[test]
fn what_was_not_sent_is_not_received() {
    let text = in_pipeline(
        r#"
        local write = rec:find{ pid = seq.pid, syscall = "write", fd = 1 }
        -- The write is not made, although seq is told so: grep, which is driven, does not get the bytes.
        local lost = { on = "write", ret = write.ret, fd = 1, exe = "seq", when = "1" }
        rr.replay_to(write.event)
        print(told(spin_off(seq.pid):inject{ lost, everyone }))
        -- Here grep is not driven, and wc, which is, does not get what grep made of them.
        rr.replay_to(write.event)
        print(told(spin_off(wc.pid):inject{ lost }))
        -- A killed process sends nothing more.
        rr.replay_to(start)
        local kill = { on = "read", signal = "SIGKILL", fd = 0, exe = "grep", when = "1" }
        local o = spin_off(shell.pid):inject{ kill, everyone }
        print(told(o))
        print(o:of(grep.pid).signal, o:of(wc.pid).status)
        "#,
    );
    assert_eq!(
        text,
        "diverged\tgrep\tread\tthe write of seq, which sent this, had another answer\n\
         diverged\twc\tread\tgrep, which would have sent this, never got what seq had sent\n\
         diverged\twc\tread\tgrep, which would have sent this, has ended before\n\
         SIGKILL\tnil\n"
    );
}

#[test]
fn a_descriptor_of_one_process_is_none_of_anothers() {
    let folder = Folder::new();
    // The child has the file before the parent opens it, and reads it afterwards: by the same number.
    folder.write(
        "program.py",
        "import os\n\
         r, w = os.pipe(); r2, w2 = os.pipe()\n\
         child = os.fork()\n\
         if child == 0:\n\
         \x20   f = os.open('/etc/hostname', os.O_RDONLY); os.write(w2, b'x'); os.read(r, 1); os.read(f, 100); os._exit(f)\n\
         os.read(r2, 1)\n\
         try: os.open('/etc/hostname', os.O_RDONLY)\n\
         except OSError: pass\n\
         os.write(w, b'x'); os.waitpid(child, 0)\n",
    );
    folder.record("rec", &["/usr/bin/python3", "-S", "program.py"]);
    let script = r#"
        local rec = rr.open "rec"
        local first = rec:processes()[1]
        local fork = rec:find{ pid = first.pid, syscall = "clone,clone3,fork,vfork" }
        local opened = rec:find{ pid = first.pid, syscall = "openat", path = "/etc/hostname", from = fork.event }
        rr.replay_to(fork)
        local o = spin_off(first.pid):inject{
            { on = "openat", fail = "EIO", path = "/etc/hostname", pid = first.pid },
            { on = "read", pid = "any", enter = function() end },
        }
        local child = rec:processes()[2]
        print(opened.ret == child.exit.code, o.divergence, o:of(child.pid).exit_code == child.exit.code)
    "#;
    assert_eq!(folder.script(script).ok().text(), "true\tnil\ttrue\n");
}

#[test]
fn a_process_that_was_not_made_does_nothing() {
    let text = in_pipeline(
        r#"
        rr.replay_to(start)
        print(told(spin_off(shell.pid):inject{ { on = "clone,clone3,fork,vfork", fail = "ENOMEM", when = "2" } }))
        "#,
    );
    // What bash says of it.
    assert!(text.starts_with("diverged\tshell\t"), "{text}");
}

#[test]
fn all_ends_and_outputs_are_told() {
    let text = in_pipeline(
        r#"
        rr.replay_to(rec:find{ pid = grep.pid, syscall = "write", fd = 1 })
        for _, one in ipairs(spin_off(grep.pid).family) do
            if one.pid == shell.pid then print("shell", one.exe:match "[^/]+$", one.argv[2]) end
            assert(one.pid ~= grep.pid)
        end
        rr.replay_to(start)
        local copy = spin_off(shell.pid)
        local seen = {}
        local o = copy:inject{ { on = "write", pid = "any", enter = function(call)
            local process = call.process
            seen[process.exe:match "[^/]+$" .. " " .. process.argv[2]] = names[process.ppid]
        end } }
        print(seen["seq 1"], seen["grep 7"], seen["wc -l"])
        for _, name in ipairs{ "shell", "seq", "grep", "wc" } do
            for _, one in ipairs(o.processes) do
                if names[one.pid] == name then print(name, one.status, one.exit_code, (one.stdout:gsub("\n", ""))) end
            end
        end
        print(o.exit_code, o:of(1))
        -- A process of a family that is left out is not there.
        rr.replay_to(start)
        local alone = spin_off{ pid = shell.pid, alone = true }
        print(#alone.family, pcall(alone.inject, alone, { everyone }) == false)
        print(told(alone:inject{}))
        "#,
    );
    assert_eq!(
        text,
        "shell\tbash\t-c\n\
         shell\tshell\tshell\n\
         shell\texited\t0\t\n\
         seq\texited\t0\t\n\
         grep\texited\t0\t\n\
         wc\texited\t0\t542\n\
         0\tnil\n\
         0\ttrue\n\
         exited\tnil\tnil\tnil\n"
    );
}

#[test]
fn what_there_is_not_is_refused_in_a_sentence() {
    let folder = Folder::new();
    folder.record("rec", &["true"]);
    let script = r#"
        rr.open "rec"
        rr.replay_to(2)
        local function fails(hook) print((select(2, pcall(function() spin_off():inject{ hook } end)):gsub("\n.*", ""))) end
        fails{ on = "read", fail = "EIO", pid = "all" }
        fails{ on = "read", fail = "EIO", child = 0 }
        print((select(2, pcall(spin_off, { pid = 1, alon = true })):gsub("\n.*", "")))
        print((select(2, pcall(spin_off, 1)):gsub("%d%d%d+", "N")))
        local o = spin_off():inject{ { on = "read", fail = "EIO", pid = 1 } }
        print(o.status, o.unfired[1])
    "#;
    let text = folder.script(script).ok().text();
    let lines: Vec<&str> = text.lines().collect();
    assert!(
        lines[0].ends_with("pid is a number or \"any\", not \"all\""),
        "{text}"
    );
    assert!(
        lines[1].contains("child is 1 for the first process"),
        "{text}"
    );
    assert!(lines[2].contains("alon"), "{text}");
    assert!(lines[3].contains("process 1"), "{text}");
    assert!(lines[4].starts_with("exited\t1 (read)"), "{text}");
}

#[test]
fn what_a_process_never_got_is_in_no_file_of_its() {
    let folder = Folder::new();
    folder.write(
        "program.py",
        "import os, time\n\
         r, w = os.pipe()\n\
         if os.fork() == 0:\n\
         \x20   os.close(w)\n\
         \x20   data = os.read(r, 10)\n\
         \x20   f = os.open('f', os.O_CREAT | os.O_WRONLY)\n\
         \x20   os.write(f, data)\n\
         \x20   os._exit(0)\n\
         os.close(r)\n\
         data = b'hello'\n\
         while data: data = data[os.write(w, data):]\n\
         while not os.path.exists('f') or os.path.getsize('f') < 5: time.sleep(.01)\n\
         print(open('f').read())\n",
    );
    folder.record("rec", &["/usr/bin/python3", "-S", "program.py"]);
    let script = r#"
        local rec = rr.open "rec"
        local write = rec:find{ pid = rec:processes()[1].pid, syscall = "write" }
        -- What is sent in a second try, or in two parts, is received.
        for _, rule in ipairs{ { fail = "EINTR" }, { short = 2 } } do
            rr.replay_to(write)
            rule.on, rule.when, rule.pid = "write", "1", write.pid
            local o = spin_off():inject{ rule, { on = "*", pid = "any", enter = function() end } }
            print(o.status, o.exit_code, o.divergence, #o.injected)
        end
        rr.replay_to(write)
        local o = spin_off():inject{ write = { ret = 5, when = "1" } }
        print(o.status, o.divergence.doubt:match "/f is not as recorded" ~= nil, o.divergence.doubt:match "never got" ~= nil)
        -- Where it is live, the file is not there.
        rr.replay_to(write)
        local o = spin_off():inject{
            timeout = 1, on_divergence = "live", write = { ret = 5, when = "1" },
            after = function(box) print(pcall(box.read, box, "f")) end,
        }
        print(o.status)
    "#;
    let text = folder.script(script).ok().text();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[0], "exited\t0\tnil\t1", "{text}");
    assert_eq!(lines[1], "exited\t0\tnil\t1", "{text}");
    assert_eq!(lines[2], "diverged\ttrue\ttrue", "{text}");
    assert!(lines[3].starts_with("false\t"), "{text}");
    assert_eq!(lines.last(), Some(&"timeout"), "{text}");
}

#[test]
fn a_trace_drives_the_processes_that_its_own_are_mapped_to() {
    let text = in_pipeline(
        r#"
        local write = rec:find{ pid = seq.pid, syscall = "write", fd = 1 }
        local last = rec:find{ pid = wc.pid, syscall = "exit_group" }
        local trace = rec:segment(write.event, last.event)
        rr.replay_to(write)
        local seen = {}
        local o = spin_off(seq.pid):inject(trace, {
            pids = { [seq.pid] = seq.pid, [wc.pid] = wc.pid },
            { on = "write", pid = "any", enter = function(call) seen[names[call.pid]] = true end },
        })
        print(o.status, o.divergence, seen.seq, seen.wc, seen.grep)
        print(o:of(wc.pid).exit_code, (o:of(wc.pid).stdout:gsub("\n", "")))
        "#,
    );
    assert_eq!(text, "exited\tnil\ttrue\ttrue\tnil\n0\t542\n");
}

#[test]
fn a_copy_of_a_copy_has_a_family_of_its_own() {
    let family = record("python-pool");
    let script = r#"
        local rec = rr.open "rec"
        local pythons = {}
        for _, one in ipairs(rec:processes()) do
            if one.exe:find "python" then pythons[#pythons + 1] = one end
        end
        -- Where a child is at work.
        local first, child = pythons[1], pythons[2]
        rr.replay_to((child.first + child.last) // 2)
        local copy = spin_off(first.pid)
        local other = copy:fork()
        for _, one in ipairs{ copy, other } do
            local o = one:inject{ timeout = 60 }
            print(o.status, o.exit_code, o.divergence, #o.processes > 1)
        end
    "#;
    let text = family.folder.script(script).ok().text();
    assert_eq!(text, "exited\t0\tnil\ttrue\n".repeat(2));
}

#[test]
fn what_was_not_written_is_not_in_memory_that_is_shared() {
    let folder = Folder::new();
    folder.write(
        "program.py",
        "import mmap, os\n\
         fd = os.open('f', os.O_RDWR | os.O_CREAT); os.write(fd, b'old' * 10); m = mmap.mmap(fd, 30); r, w = os.pipe()\n\
         child = os.fork()\n\
         if child == 0: os.read(r, 1); os._exit(m[0])\n\
         try: os.pwrite(fd, b'new', 0)\n\
         except OSError: pass\n\
         seen = m[0:3].decode(); os.write(w, b'x'); os.waitpid(child, 0); print(seen)\n",
    );
    folder.record("rec", &["/usr/bin/python3", "-S", "program.py"]);
    let script = r#"
        local rec = rr.open "rec"
        local first, child = rec:processes()[1].pid, rec:processes()[2]
        rr.replay_to(rec:find{ pid = first, syscall = "pwrite64" })
        local o = spin_off():inject{ { on = "pwrite64", fail = "EIO" }, { on = "*", pid = "any", enter = function() end } }
        local d = o.divergence
        -- The child exits with what it sees.
        print(d.pid == child.pid, d.actual, child.exit.code == ("n"):byte())
        rr.replay_to(rec:find{ pid = first, syscall = "pwrite64" })
        local o = spin_off():inject{ on_divergence = "live", pwrite64 = { fail = "EIO" } }
        print(o.divergence ~= nil, o:of(first).pid == first)
    "#;
    assert_eq!(
        folder.script(script).ok().text(),
        "true\texit_group(111)\ttrue\ntrue\ttrue\n"
    );
}
