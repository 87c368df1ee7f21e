//! What hooks see and change: arguments, structures, data, views, signals, ends; rules; what is an error.

use crate::common::{Done, Folder};
use rrapper::history::Recording;
use rrapper::inject::{
    Action, Conditions, Options, Outcome, Rule, RuleSet, Script, Selector, When, inject,
};
use rrapper::replay::{Replay, Replayer};
use std::sync::Arc;
use std::time::Duration;

/// A recording in a folder of its own.
struct Recorded(Folder);

impl Recorded {
    fn new(argv: &[&str]) -> Recorded {
        let folder = Folder::new();
        folder.write("greeting", "hello\n");
        folder.write("other", "another\n");
        folder.record("rec", argv).ok();
        Recorded(folder)
    }

    fn python(program: &str) -> Recorded {
        Recorded::new(&["/usr/bin/python3", "-c", program])
    }

    /// Runs a script in which `go(hooks)` injects into a new copy from the start on, which goes live when it diverges.
    fn script(&self, text: &str) -> Done {
        let prelude = "local rec = rr.open 'rec' local stop = rr.replay_to(1) \
            local function go(h, first, last) h.sandbox = 'none' h.on_divergence = h.on_divergence or 'live' \
            return stop:spin_off():inject(nil, first, last, h) end ";
        self.0.script(&format!("{prelude}{text}"))
    }

    /// The output of such a script.
    #[track_caller]
    fn says(&self, text: &str, expected: &str) {
        let said = self.script(text).ok().text();
        assert_eq!(said, expected);
    }

    /// Each function, as an exit hook of a call, raises a message with its line.
    #[track_caller]
    fn raises(&self, call: &str, cases: &[(&str, &str)]) {
        let mut script = format!("local call = '{call}'\n");
        for (body, _) in cases {
            let flat = body.replace('\n', " ");
            script += &format!("print(pcall(go, {{ [call] = {flat} }}))\n");
        }
        let said = self.script(&script).ok().text();
        assert_eq!(said.lines().count(), cases.len(), "{said}");
        for (i, (line, (body, message))) in said.lines().zip(cases).enumerate() {
            let expected = format!("false\tstdin:{}: {message}", i + 2);
            assert_eq!(line, expected, "{body}");
        }
    }
}

#[test]
fn a_files_status_has_the_same_names_for_every_call_of_the_family() {
    let recorded = Recorded::python(
        "import os, ctypes\n\
         print(oct(os.stat('greeting').st_mode), os.stat('greeting').st_size, int(os.stat('greeting').st_mtime))\n\
         print(oct(os.fstat(0).st_mode), os.lstat('greeting').st_ino)",
    );
    recorded.says(
        r#"
        local about = function(c) return c.path == "greeting" or c.fd == 0 end
        local o = go { [re"stat"] = { where = about, exit = function(c)
          assert(c.stat.size == (c.path == "greeting" and 6 or c.stat.size) and c.stat.mtime > 0)
          c.stat.mode = "S_IFIFO|0600"
          c.stat.size = 77
          c.stat.mtime = 86400
          c.stat.ino = 4242
          assert(c.stat.mode == C.S_IFIFO | 0x180 and c.stat.mtime == 86400)
        end } }
        io.write(o.stdout)
        "#,
        "0o10600 77 86400\n0o10600 4242\n",
    );
    let statx = Recorded::new(&["stat", "-c", "%f %s %Y %i %h %t:%T", "greeting"]);
    statx.says(
        r#"
        local o = go { ["%%stat"] = function(c)
          if c.path ~= "greeting" then return end
          c.stat.mode = C.S_IFBLK | 0x1A4
          c.stat.size, c.stat.mtime, c.stat.ino, c.stat.nlink, c.stat.rdev = 5, 9, 7, 3, 0x0801
          assert(c.stat.rdev == 0x801 and c.args.statxbuf.stx_rdev_major == 8)
          assert(c.args.statxbuf.stx_mode == c.stat.mode and c.args.statxbuf.st_mode == nil)
        end, read = function(c) assert(c.stat == nil) end }
        io.write(o.stdout)
        "#,
        "61a4 5 9 7 3 8:1\n",
    );
}

#[test]
fn structures_are_fields_in_both_directions() {
    let recorded = Recorded::new(&["stat", "-c", "%f %Y", "greeting"]);
    recorded.says(
        r#"
        local o = go { statx = function(c)
          if c.path ~= "greeting" then return end
          local s = c.args.statxbuf
          assert(s.stx_mode == tonumber("100644", 8), s.stx_mode)
          s.stx_mode = "S_IFCHR|0600"
          s.stx_mtime.tv_sec = 12
          assert(s.stx_mtime.tv_sec == 12 and c.args[5].stx_mtime.tv_sec == 12)
          s.stx_mtime = { tv_sec = 13 }
          s.stx_ctime = "{tv_sec=1, tv_nsec=2}"
          assert(s.stx_ctime.tv_nsec == 2 and c:text("statxbuf"):find("stx_mode=S_IFCHR|0600", 1, true))
          assert(c.args.flags & C.AT_SYMLINK_NOFOLLOW ~= 0 and c.args.offset == nil)
        end }
        io.write(o.stdout)
        "#,
        "2180 13\n",
    );
    recorded.raises(
        "statx",
        &[
            (
                r#"function(c) c.args.statxbuf.stx_mode = "S_IFBLLK" end"#,
                r#"statxbuf.stx_mode is not S_IFBLLK, an unknown constant; did you mean "S_IFBLK" or "S_IFLNK" or "S_IFSOCK"?"#,
            ),
            (
                r#"function(c) c.args.statxbuf.stx_mode = "hello world" end"#,
                r#"statxbuf.stx_mode is a number, not "hello world""#,
            ),
            (
                "function(c) c.args.statxbuf.stx_mode = 1.5 end",
                "a number in a call must be an integer, not 1.5",
            ),
            (
                "function(c) c.args.statxbuf.stx_mode = 0/0 end",
                "a number in a call must be an integer, not NaN",
            ),
            (
                "function(c) c.args.statxbuf.stx_mode = 1 << 40 end",
                "statxbuf.stx_mode has 2 bytes, into which 1099511627776 does not fit",
            ),
            (
                "function(c) c.args.statxbuf.stx_mod = 1 end",
                r#"no structure has a member "stx_mod"; did you mean "stx_mode" or "stx_gid" or "stx_uid"?"#,
            ),
            (
                "function(c) c.args.statxbuf.st_mode = 1 end",
                r#"statxbuf has no "st_mode"; did you mean "stx_mode"?"#,
            ),
            (
                "function(c) return c.args.statxbf end",
                r#"no call has an argument "statxbf"; did you mean "statxbuf"?"#,
            ),
            ("function(c) c.args.fd = 1 end", r#"statx has no argument "fd""#),
            (
                "function(c) c.args.flags = 1 end",
                "flags is what the program passed: it can be changed at enter only",
            ),
            (
                "{ enter = function(c) c.args.statxbuf = {} end }",
                "statxbuf has nothing stored in it: the call has not been answered, or has failed",
            ),
            (
                "function(c) c.stat.mod = 1 end",
                r#"a file's status has no "mod"; did you mean "mode" or "gid" or "uid"?"#,
            ),
            ("function(c) c:data 'x' end", "statx moves no data that could be set"),
            ("function(c) c.time = 1 end", "statx has no time"),
            (
                "function(c) c.name = 'x' end",
                "a call's name cannot be set: .ret, .errno, .size, .offset, .time, .fd and what is in .args, .raw \
                 and .stat can",
            ),
            (
                "function(c) c:fial 'EIO' end",
                r#"a call has no "fial"; did you mean "fail" or "file"?"#,
            ),
            ("function(c) c:delay(-1) end", "a delay must be more than 0 seconds, and is -1"),
        ],
    );
}

#[test]
fn arguments_are_changed_before_the_call_is_made() {
    let recorded = Recorded::new(&["cat", "greeting"]);
    recorded.says(
        r#"
        local path
        local o = go { openat = { path = "*greeting", enter = function(c)
          assert(c.args.pathname == "greeting" and c.args[2] == "greeting" and #c.args == 3)
          c.args.pathname = "other"
          c.args.flags = "O_RDONLY|O_CLOEXEC"
          assert(c.args.pathname == "other" and c.args.flags == C.O_CLOEXEC and c.raw[3] == C.O_CLOEXEC)
          path = c.process:read(c.raw[2], 6)
          c:live()
        end, exit = function(c)
          assert(c.args.pathname == "other" and c.process:fds()[0])
        end } }
        io.write(path, "|", o.stdout, tostring(o.calls:find { syscall = "openat", path = "other" }), "\n", #o.injected, "\n")
        "#,
        "other\0|another\nopenat(AT_FDCWD, \"other\", O_RDONLY|O_CLOEXEC) = 3\n1\n",
    );
    // The program has its own arguments again afterwards: it prints what it opened.
    let python = Recorded::python(
        "import os\nname = 'greeting'\nfd = os.open(name, os.O_RDONLY)\n\
         print(name, os.pread(fd, 100, 2), os.lseek(fd, 1, 0), os.read(fd, 3))",
    );
    python.says(
        r#"
        local o = go {
          openat = { path = "*greeting", enter = function(c) c.args.pathname = "other" c:live() end },
          pread64 = { path = "*other", enter = function(c) assert(c.offset == 2) c.offset = 0 c.raw[3] = 4 assert(c.size == 4) end },
          lseek = { path = "*other", enter = function(c) c.args.whence = "SEEK_END" c.offset = -3 end,
                    exit = function(c) assert(c.offset == 5 and c.ret == 5) c.offset = 6 end },
        }
        io.write(o.stdout)
        "#,
        "greeting b'anot' 6 b'er\\n'\n",
    );
    recorded.raises(
        "read",
        &[
            (
                "{ enter = function(c) c.size = -1 end }",
                "count is a number of bytes, and cannot be -1",
            ),
            (
                "{ enter = function(c) c.args.count = -5 end }",
                "count is a number of bytes, and cannot be -5",
            ),
            (
                "{ enter = function(c) c.raw[7] = 1 end }",
                "registers are numbered 1 to 6, not 7",
            ),
            (
                "function(c) c.raw[1] = 1 end",
                "the data of read can be set at enter only",
            ),
            (
                "{ enter = function(c) c:short(-1) end }",
                "a number of bytes must not be negative, and is -1",
            ),
            (
                "{ path = '*greeting', exit = function(c) c:data(('x'):rep(200000)) end }",
                "200000 bytes do not fit into the buffer of this read, which has 131072",
            ),
            (
                "{ enter = function(c) c:fail 'EOI' end }",
                r#"unknown errno "EOI"; did you mean "EIO" or "EDOM"?"#,
            ),
        ],
    );
}

#[test]
fn what_a_program_writes_can_be_changed_and_is_its_own_again() {
    let recorded = Recorded::python(
        "import os\n\
         a, b = bytearray(b'hello'), [b'one ', b'two\\n']\n\
         print(os.write(1, a), a, os.writev(1, b), b)",
    );
    recorded.says(
        r#"
        local o = go {
          write = { fd = 1, when = 1, enter = function(c)
            assert(c:data() == "hello") c:data "HEY" c:live() end },
          writev = { fd = 1, enter = function(c)
            assert(c:data() == "one two\n") c:data "three" assert(c.args.iov[2].iov_len == 1) end },
        }
        io.write(o.stdout, "\n", o.calls[1] and #o.calls > 1 and "" or "none")
        local ok, message = pcall(go, { write = { fd = 1, enter = function(c) c:data "too long" end } })
        print(ok, message)
        "#,
        "HEYthree3 bytearray(b'hello') 5 [b'one ', b'two\\n']\n\n\
         false\tstdin:9: 8 bytes do not fit into the buffer of this write, which has 5\n",
    );
}

#[test]
fn clocks_tell_another_time_and_delays_move_them() {
    let recorded = Recorded::python(
        "import time, ctypes\n\
         print(int(time.time()), int(time.time()))\n\
         print(round(time.monotonic() - time.clock_gettime(time.CLOCK_MONOTONIC)))",
    );
    recorded.says(
        r#"
        local first
        local o = go { clock_gettime = function(c)
          if c.args.clockid ~= C.CLOCK_REALTIME then return end
          first = first or c.time
          c.time = 86400 * 1000000000 + 5
          assert(c.args.tp.tv_sec == 86400 and c.args.tp.tv_nsec == 5)
        end }
        assert(first > 1.7e18)
        io.write(o.stdout:match "%C+", "\n")
        "#,
        "86400 86400\n",
    );
    recorded.says(
        r#"
        local n = 0
        local plain = go({}).stdout
        local o = go { clock_gettime = { where = function(c) return c.args.clockid == C.CLOCK_REALTIME end,
          exit = function(c) n = n + 1 end } }
        -- Between the last two looks at the clock pass 1000 seconds.
        local late = go { clock_gettime = { when = n, delay = 1000, where = function(c)
          return c.args.clockid == C.CLOCK_REALTIME end } }
        local a, b = plain:match "(%d+) (%d+)"
        local c, d = late.stdout:match "(%d+) (%d+)"
        print(c - a, d - b, late.stdout:match "\n(%S+)")
        "#,
        "0\t1000\t0\n",
    );
    // Processor time does not pass, and a delay at exit counts from the next look on.
    let times = Recorded::python(
        "import time\nprint(int(time.process_time()), int(time.time()) > 4000000000, int(time.time()) > 4000000000)",
    );
    times.says(
        r#"
        local o = go { openat = { enter = function(c) if c.count == 1 then c:delay(5e9) end end } }
        io.write(o.stdout)
        "#,
        "0 True True\n",
    );
}

#[test]
fn polls_find_what_a_hook_says() {
    let recorded = Recorded::python(
        "import select, os\n\
         r, w = os.pipe()\n\
         p = select.poll(); p.register(r, select.POLLIN); p.register(w, select.POLLOUT)\n\
         a = p.poll(0)\n\
         e = select.epoll(); e.register(w, select.EPOLLOUT); b = e.poll(0)\n\
         print(a, b, select.select([r], [w], [], 0)[0] == [r])",
    );
    recorded.says(
        r#"
        local o = go {
          poll = function(c)
            assert(#c.args.fds == 2 and c.args.fds[1].events == C.POLLIN and c.args.fds[2].revents == C.POLLOUT)
            c.args.fds[1].revents = "POLLIN|POLLHUP"
            c.args.fds[2].revents = 0
            c.ret = 1
          end,
          epoll_wait = function(c) c.args.events[1].events = "EPOLLERR" end,
          [re"select"] = function(c) c.args.readfds = { 3 } c.args.writefds = {} end,
        }
        io.write(o.stdout)
        "#,
        "[(3, 17)] [(4, 8)] True\n",
    );
    recorded.raises(
        "poll",
        &[
            (
                "function(c) c.args.fds[1].revents = 70000 end",
                "fds[1].revents has 2 bytes, into which 70000 does not fit",
            ),
            (
                "function(c) c.args.fds[1].reventz = 1 end",
                r#"no structure has a member "reventz"; did you mean "events"?"#,
            ),
            (
                "function(c) c.args.fds.x = 1 end",
                r#"this is a list, whose elements have numbers, not "x""#,
            ),
        ],
    );
}

#[test]
fn sockets_messages_and_addresses() {
    let recorded = Recorded::python(
        "import socket, struct, os\n\
         a, b = socket.socketpair()\n\
         a.sendmsg([b'one', b'two'], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, struct.pack('i', 0))])\n\
         data, control, flags, _ = b.recvmsg(100, 100)\n\
         s = socket.socket(); s.bind(('127.0.0.1', 0)); name = s.getsockname()[0]\n\
         print(data, len(control), flags, name, s.getsockopt(socket.SOL_SOCKET, socket.SO_TYPE))",
    );
    recorded.says(
        r#"
        local o = go {
          recvmsg = function(c)
            local m = c.args.msg
            assert(c:data() == "onetwo" and m.msg_iov[1].iov_base == "onetwo" and #m.msg_control == 1)
            assert(m.msg_control[1].cmsg_type == C.SCM_RIGHTS)
            c:data "changed"
            m.msg_flags = "MSG_TRUNC"
            m.msg_controllen = 0
          end,
          getsockname = function(c)
            if c.ret == 0 and c.args.addr.sa_family == C.AF_INET then
              c.args.addr.sin_addr = 'inet_addr("9.8.7.6")'
              assert(c:text("addr"):find("9.8.7.6", 1, true) and c.args.addrlen[1] == 16)
            end
          end,
          getsockopt = { where = function(c) return c.args.optname == C.SO_TYPE end,
            exit = function(c) c.args.optval[1] = 5 end },
        }
        io.write(o.stdout)
        local sent = {}
        for fd, data in pairs(go({}).sent) do sent[#sent + 1] = fd .. "=" .. data end
        print(table.concat(sent, " "))
        "#,
        "b'changed' 0 32 9.8.7.6 5\n3=onetwo\n",
    );
    recorded.raises(
        "recvmsg",
        &[
            (
                "function(c) c.args.msg.msg_iov[1].iov_base = ('x'):rep(200) end",
                "msg.msg_iov[1].iov_base has room for 100 bytes, not 200",
            ),
            (
                "function(c) c.args.msg.msg_flag = 1 end",
                r#"no structure has a member "msg_flag"; did you mean "msg_flags"?"#,
            ),
        ],
    );
}

#[test]
fn directories_statuses_vectors_and_names() {
    let recorded = Recorded::python(
        "import os, resource\n\
         os.makedirs('listing/greeting', exist_ok=True)\n\
         names, cwd, box = os.listdir('listing'), os.getcwd(), os.uname().nodename\n\
         n = os.readv(os.open('greeting', os.O_RDONLY), [bytearray(2), bytearray(10)])\n\
         limit = resource.getrlimit(resource.RLIMIT_CORE)[0]\n\
         print(names, cwd, box, n, limit, os.WEXITSTATUS(os.waitpid(os.posix_spawn('/bin/true', ['true'], {}), 0)[1]))",
    );
    recorded.says(
        r#"
        local listed
        local o = go {
          getdents64 = { path = "*listing", exit = function(c)
            if #c.args.dirp == 0 then return end
            local keep = {}
            for _, entry in ipairs(c.args.dirp) do
              if entry.d_name == "greeting" then entry.d_name = "a-much-longer-name-than-it-had" end
            end
            for _, entry in ipairs(c.args.dirp) do
              if entry.d_name:find "^a" then keep[#keep + 1] = entry end
            end
            c.args.dirp = keep
            assert(#c.args.dirp == #keep and #keep == 1)
            listed = true
          end },
          getcwd = function(c) if not listed then return end c.args.buf = "/some/where" assert(c.ret == 12) end,
          uname = function(c) c.args[1].nodename = "box" end,
          readv = function(c) assert(c:data() == "hello\n") c:data "HEY" assert(c.ret == 3) end,
          prlimit64 = function(c) if c.args.old_limit ~= 0 then c.args.old_limit.rlim_cur = 4096 end end,
          wait4 = function(c) assert(c.args.wstatus[1] == 0) c.args.wstatus = "[{WIFEXITED(s) && WEXITSTATUS(s) == 7}]" end,
        }
        io.write(o.stdout)
        "#,
        "['a-much-longer-name-than-it-had'] /some/where box 3 4096 7\n",
    );
}

#[test]
fn rules_delay_count_by_task_and_match_patterns() {
    let recorded = Recorded::new(&["cat", "greeting", "other"]);
    recorded.says(
        r#"
        local order = {}
        local function note(what) return { enter = function() order[#order + 1] = what end } end
        go { read = note "name", ["re*"] = note "glob", [re"^rea"] = note "regex", ["%desc"] = note "class", ["*"] = note "all",
          { on = "read", enter = function(c) order[#order + 1] = "list" c:stop() end },
          execve = { ret = 0, when = 1000 }, finally = "kill" }
        local last = {}
        for i = math.max(1, #order - 5), #order do last[#last + 1] = order[i] end
        print(table.concat(last, " "))
        -- The last word wins.
        local o = go { ["rea*"] = { fail = "EIO", path = "*greeting" }, read = { path = "*greeting", retval = 0 } }
        print(o.stderr, o.stdout)
        o = go { read = { path = "*greeting", retval = 0 }, { on = "%desc,!openat", fail = "EIO", path = "*greeting" } }
        print(o.stderr:match ": (%a[^\n]*)", o.stdout)
        local per = go { read = { fail = "EIO", when = "1", per = "task", path = "*greeting" } }
        print(per.exit_code, per.stdout, #per.injected)
        print(table.concat(go({ read = { fail = "EIO", fd = 77 } }).unfired, " "))
        "#,
        "all class regex glob name list\n\
         \tanother\n\ngreeting: Input/output error\tanother\n\n\
         1\tanother\n\t1\nread\n",
    );
    for (hooks, message) in [
        (
            "{ [\"zz*\"] = { fail = 'EIO' } }",
            "zz* matches the name of no system call",
        ),
        (
            "{ read = { fail = 'EIO', per = 'thread' } }",
            "per is \"task\", not \"thread\": left out, all tasks are counted together",
        ),
        (
            "{ read = { delai = 1 } }",
            "the rule for read has no \"delai\"; did you mean \"delay\"?",
        ),
        (
            "{ read = { delay = -1 } }",
            "delay must be more than 0 seconds, and is -1",
        ),
        (
            "{ on_signl = print }",
            "\"on_signl\" is neither a system call nor an option of hooks; did you mean \"on_signal\"?",
        ),
        ("{ on_exit = 3 }", "on_exit is a function, not 3"),
        (
            "{ pids = { [1] = 'x y' } }",
            "a pid in pids is an integer, not \"x y\"",
        ),
        (
            "{ ignore = 3 }",
            "ignore is a list of calls, { only = … } or false, not 3",
        ),
        (
            "{ ignore = { 'fadvise' } }",
            "unknown system call \"fadvise\"; did you mean \"madvise\" or \"fadvise64\"?",
        ),
    ] {
        let said = recorded
            .script(&format!("print(pcall(function() go({hooks}) end))"))
            .ok()
            .text();
        assert_eq!(said, format!("false\tstdin:1: {message}\n"), "{hooks}");
    }
}

#[test]
fn signals_are_seen_replaced_and_ignored() {
    let recorded = Recorded::python(
        "import os, signal\n\
         for name in ['SIGUSR1', 'SIGUSR2']:\n\
         \x20   signal.signal(getattr(signal, name), lambda n, f: print('got', n))\n\
         os.kill(os.getpid(), signal.SIGUSR1)\nprint('end')",
    );
    recorded.says(
        r#"
        local seen
        local plain = go { on_signal = function(s)
          seen = ("%s %d %s %s"):format(s.name, s.signal, s.info.si_code == C.SI_USER, s.pid == s.tid)
        end }
        print(seen, plain.stdout)
        local o = go { on_signal = function(s) s:replace "SIGUSR2" end, on_exit = function(e) print(e.exit_code, e.signal) end }
        print(o.stdout, o.injected[1].rule)
        o = go { on_signal = function(s) s:ignore() end }
        print(o.stdout, o.divergence.expected)
        o = go { on_signal = function(s) s:replace "SIGTERM" end, on_exit = function(e) print(e.exit_code, e.signal) end }
        print(o.status, o.signal)
        print(go({ on_signal = function(s) s:stop "enough" end }).reason)
        print(pcall(go, { on_signal = function(s) s.name = "SIGINT" end }))
        print(pcall(go, { on_exit = function() error "boom" end }))
        "#,
        "SIGUSR1 10 true true\tgot 10\nend\n\n\
         0\tnil\n\
         got 12\nend\n\ton_signal\n\
         end\n\trt_sigreturn() = 0\n\
         nil\tSIGTERM\nsignaled\tSIGTERM\n\
         enough\n\
         false\tstdin:14: a signal's \"name\" cannot be set: it has s:ignore(), s:replace(name) and s:stop(reason)\n\
         false\tstdin:15: boom\n",
    );
    let crash = Recorded(Folder::new());
    let folder = &crash.0;
    folder.record(
        "rec",
        &[
            "/usr/bin/python3",
            "-c",
            "import ctypes; ctypes.string_at(8)",
        ],
    );
    crash.says(
        r#"
        print(pcall(go, { on_signal = function(s) s:ignore() end }))
        print(go({ on_signal = function(s) print(s.name, s.info.si_addr) end, on_exit = function(e) print(e) end }).signal)
        "#,
        "false\tstdin:2: this SIGSEGV cannot be ignored: the instruction that raised it would raise it again\n\
         SIGSEGV\t8\nprocess PID killed by SIGSEGV\nSIGSEGV\n"
            .replace("PID", &pid(folder))
            .as_str(),
    );
}

fn pid(folder: &Folder) -> String {
    let said = folder.script("print(rr.open('rec'):processes()[1].pid)");
    said.ok().text().trim().to_string()
}

#[test]
fn the_list_of_what_may_differ_can_be_changed() {
    let folder = Folder::new();
    folder.write("greeting", "hello\n");
    folder.record("rec", &["cat", "greeting"]).ok();
    let said = folder.script(
        r#"
        local rec = rr.open "rec"
        local first = rr.find { syscall = "openat", path = "*greeting" }.event
        local last
        for e in rr.events {} do last = e.event end
        local without = rec:segment(first, last):map(function(e)
          if e.name == "fadvise64" or e.name == "mmap" and e.ret > 0 then return nil end
          return e
        end)
        local function go(ignore)
          local o = rr.replay_to(first):spin_off():inject(without, { ignore = ignore })
          return o.status .. (o.divergence and " " .. o.divergence.actual:match "%w+" or "") .. " " .. o.stdout
        end
        print(go(nil))
        print(go { "fadvise64" })
        print(go { "%desc", "!mmap" })
        print(go { only = { "fadvise64", "mmap", "munmap" } })
        print(go(false))
        "#,
    );
    assert_eq!(
        said.ok().text(),
        "diverged fadvise64 \nexited hello\n\ndiverged mmap \nexited hello\n\ndiverged fadvise64 \n"
    );
}

#[test]
fn outcomes_differ_in_what_matters() {
    let recorded = Recorded::python(
        "import os, time\nprint(open('greeting').read(), end='')\nos.getpid(), time.time()\nos.stat('other')",
    );
    recorded.says(
        r#"
        local a, b = go {}, go { clock_gettime = function(c) c.time = 7 end, getpid = { ret = 5 }, openat = { delay = 100 } }
        print(#a:diff(b), table.concat(a:diff(b), "\n"))
        for _, line in ipairs(a:diff(go { read = { path = "*greeting", fail = "EIO", when = 1 } })) do print((line:gsub(" /.*", ""))) end
        print(#a.files, a.hang, #a.backtrace)
        "#,
        "0\t\nexit_code: 0\ndivergence: nil\nstdout: 6 bytes\nstderr: 0 bytes\ncalls: read(3, \"hello\\n\", 7) = 6\n0\tnil\t0\n",
    );
}

#[test]
fn a_call_that_is_over_says_so() {
    let recorded = Recorded::new(&["cat", "greeting"]);
    recorded.says(
        r#"
        local kept, part
        go { statx = function(c) end, fstat = function(c) end, newfstatat = function(c)
          if c.stat and not part then kept, part = c, c.args.statbuf end
        end }
        for _, use in ipairs { function() return kept.ret end, function() return part.st_mode end, function() kept.ret = 1 end } do
          print(select(2, pcall(use)):match ": (.*)")
        end
        "#,
        &"this call is over: a call can be used only while its hook runs\n".repeat(3),
    );
}

/// The same without Lua.
fn injected(folder: &Folder, rules: Vec<Rule>) -> Outcome {
    let recording = Arc::new(Recording::open(&folder.join("rec")).unwrap());
    let mut replayer = Replayer::new(recording);
    replayer.replay_to(1).unwrap();
    let process = replayer.spin_off(None).unwrap();
    let script = Script::of_recording(&process).unwrap();
    let divergence = rrapper::inject::OnDivergence::Live;
    let mut hooks = RuleSet::new(rules).on_divergence(divergence);
    inject(process, script, &mut hooks, &Options::default())
        .unwrap()
        .outcome
}

#[test]
fn rules_without_lua_do_the_same() {
    let folder = Folder::new();
    folder.record("rec", &["date", "+%Y"]).ok();
    let year = |outcome: &Outcome| -> i32 {
        let text = String::from_utf8_lossy(&outcome.stdout);
        text.trim().parse().unwrap()
    };
    let now = year(&injected(&folder, Vec::new()));
    let rule = |actions: Vec<Action>, conditions: Conditions| Rule {
        name: "rule".into(),
        selector: Selector::parse("open*").unwrap(),
        conditions,
        actions,
        executed: None,
    };
    let decade = Duration::from_secs(10 * 366 * 86400);
    let mut first = Conditions::new(When::parse("1").unwrap(), None, None);
    first.per_task = true;
    let late = injected(&folder, vec![rule(vec![Action::Delay(decade)], first)]);
    assert_eq!(year(&late), now + 10);
    let bytes = postcard::to_stdvec(&late).unwrap();
    let sent: Outcome = postcard::from_bytes(&bytes).unwrap();
    assert_eq!(sent.diff(&late, (&sent.calls, &late.calls)), [""; 0]);
    assert_eq!(
        (&sent.injected, &sent.stdout),
        (&late.injected, &late.stdout)
    );
    let mut elsewhere = Conditions::default();
    elsewhere.tid = Some(1);
    let none = injected(
        &folder,
        vec![rule(vec![Action::Fail(libc::EIO)], elsewhere)],
    );
    assert_eq!(year(&none), now);
    assert_eq!(none.unfired, ["rule"]);
}
