//! What hooks and rules cannot say, and where the message points; what they say of ancillary data and lists.

use crate::common::Folder;

const PROGRAM: &str = "
import array, fcntl, os, select, socket, struct, termios, pty
a, b = socket.socketpair()
a.sendmsg([b'one', b'two'], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, struct.pack('ii', 0, 1))])
data, control, flags, _ = b.recvmsg(100, 100)
print(data, [(c[1], len(c[2])) for c in control])
r, w = os.pipe()
p = select.poll(); p.register(r, 1); p.register(w, 4); print(p.poll(0))
u = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); u.bind(('127.0.0.1', 0))
u.sendto(b'dgram', u.getsockname()); print(u.recvfrom(100)[0])
m, s = pty.openpty(); print(termios.tcgetattr(s)[6][1])
print(os.listdir('listed'))
";

const HEAD: &str = r#"
local rec = rr.open "rec"
local stop = rr.replay_to(rec:find { syscall = "socketpair" })
function go(hooks) hooks.sandbox, hooks.on_divergence = "none", hooks.on_divergence or "live" return stop:spin_off():inject(hooks) end
"#;

fn recorded() -> Folder {
    let folder = Folder::new();
    std::fs::create_dir(folder.join("listed")).unwrap();
    folder.write("listed/file", "");
    folder
        .record("rec", &["/usr/bin/python3", "-S", "-c", PROGRAM])
        .ok();
    folder
}

#[track_caller]
fn says(script: &str, expected: &str) {
    let said = recorded().script(&format!("{HEAD}{script}")).ok();
    assert_eq!(said.text(), expected, "{}", said.stderr);
}

/// Each of these tables of hooks raises this message at this line.
#[track_caller]
fn raises(cases: &[(&str, &str)]) {
    let first = HEAD.lines().count() + 1;
    raises_at(|case| first + case, cases);
}

#[track_caller]
fn raises_at(line_of: impl Fn(usize) -> usize, cases: &[(&str, &str)]) {
    let mut script = HEAD.to_string();
    for (hooks, _) in cases {
        let flat = hooks.replace('\n', " ");
        script += &format!("print(select(2, pcall(function() return go({flat}) end)))\n");
    }
    let said = recorded().script(&script).ok().text();
    assert_eq!(said.lines().count(), cases.len(), "{said}");
    for (i, (line, (hooks, message))) in said.lines().zip(cases).enumerate() {
        assert_eq!(line, format!("stdin:{}: {message}", line_of(i)), "{hooks}");
    }
}

#[test]
fn what_cannot_be() {
    raises(&[
        (
            "{ poll = { enter = function(c) c.args.nfds = -1 end } }",
            "nfds is a number of bytes, and cannot be -1",
        ),
        (
            "{ sendto = { enter = function(c) c.args.addrlen = -1 end } }",
            "addrlen is a number of bytes, and cannot be -1",
        ),
        (
            "{ recvfrom = function(c) c.args.addrlen[1] = -1 end }",
            "addrlen is a number of bytes, and cannot be -1",
        ),
        (
            "{ recvmsg = function(c) c.args.msg.msg_namelen = -1 end }",
            "msg.msg_namelen is a number of bytes, and cannot be -1",
        ),
        (
            "{ recvmsg = function(c) c.args.msg.msg_controllen = 1000 end }",
            "msg.msg_controllen has room for 24 bytes, not 1000",
        ),
        (
            "{ recvmsg = function(c) c.args.msg.msg_control[1].cmsg_data = { 1, 2, 3, 4, 5 } end }",
            "msg.msg_control has room for 24 bytes, not 36",
        ),
        (
            "{ recvmsg = function(c) c.args.msg.msg_control[2].cmsg_type = 1 end }",
            "attempt to index a nil value (field 'integer index')",
        ),
        (
            "{ recvfrom = function(c) c.args.src_addr.sin_port = 70000 end }",
            "src_addr cannot be 70000: it would be htons(28689)",
        ),
        (
            "{ recvfrom = function(c) c.args.src_addr = { sa_family = 'AF_INET6', sin6_port = 5 } end }",
            "src_addr has room for 16 bytes, not 28",
        ),
        (
            "{ recvfrom = function(c) c.args.buf = ('x'):rep(101) end }",
            "101 bytes do not fit into the buffer of this recvfrom, which has 100",
        ),
        (
            "{ poll = function(c) c.args.fds = {} end }",
            "fds has 2 elements, not 0",
        ),
        (
            "{ poll = function(c) c.args.fds[1] = { 1, 2 } end }",
            "fds[1] cannot be [1, 2]",
        ),
        (
            "{ ioctl = function(c) if c.args.request == C.TCGETS and c.ret == 0 then c.args.argp.c_cc[1] = 300 end end }",
            "argp.c_cc cannot be 300: it would be [VINTR]=0x2c",
        ),
        (
            "{ getdents64 = function(c) c.args.dirp[1].d_reclen = 1 end }",
            "dirp cannot be 1: it would be 24",
        ),
        (
            "{ openat = function(c) c:short(1) end }",
            "openat moves nothing that could be cut short",
        ),
        (
            "{ recvfrom = function(c) c:data(nil) end }",
            "a call's data must be a string, not nil",
        ),
        (
            "{ recvfrom = function(c) c.ret = 'EIO' end }",
            "ret is what the call returns, which is no error where it is EIO (5): \"-EIO\" is one",
        ),
        (
            "{ recvfrom = function(c) error {} end }",
            "the script raised a table, not a message",
        ),
        ("{ recvfrom = function(c) error() end }", "nil"),
        (
            "{ recvfrom = function(c) coroutine.yield() end }",
            "attempt to yield from outside a coroutine",
        ),
        (
            "{ on_exit = function(e) return e.code end }",
            "the end of a process has no \"code\"",
        ),
    ]);
}

#[test]
fn what_divergences_are_not_answered_with() {
    let diverges = "recvfrom = { fail = 'EPERM' }";
    let answer =
        |answer: &str| format!("{{ {diverges}, on_divergence = function(d) {answer} end }}");
    let cases = [
        (
            "return 'skip', 0",
            "how many calls to skip must be more than 0: the same one would be met again",
        ),
        ("return 'answer'", "the answer must be an integer, not nil"),
        (
            "return 'answer', 'EIO'",
            "the answer is what the call returns, which is no error where it is EIO (5): \"-EIO\" is one",
        ),
        (
            "return d.indx",
            "a divergence has no \"indx\"; did you mean \"index\"?",
        ),
        (
            "d.index = 1",
            "a divergence is as it is: its \"index\" cannot be set",
        ),
    ];
    let cases: Vec<(String, &str)> = cases.map(|(text, said)| (answer(text), said)).into();
    let cases: Vec<(&str, &str)> = cases.iter().map(|(a, b)| (a.as_str(), *b)).collect();
    raises(&cases);
    says(
        "print(go { recvfrom = { fail = 'EPERM' }, timeout = 5, on_divergence = function(d) return 'skip', 1 << 50 end }.status)",
        "exited\n",
    );
}

#[test]
fn rules_that_say_too_much_or_nothing() {
    // What a table says is read where it is injected.
    let inject = HEAD.lines().count();
    raises_at(
        |_| inject,
        &[
            (
                "{ read = { fail = 'EIO', short = 1 } }",
                "the rule for read has more than one of fail, ret and short: a call has one answer",
            ),
            (
                "{ read = { ret = 1, error = 'EIO' } }",
                "the rule for read has more than one of fail, ret and short: a call has one answer",
            ),
            (
                "{ read = { ret = 'EIO' } }",
                "ret is what the call returns, which is no error where it is EIO (5): \"-EIO\" is one",
            ),
            (
                "{ openat = { short = 1 } }",
                "the rule for openat cannot have short: no such call moves anything that could be cut short",
            ),
            (
                "{ nil, { on = 'read', fail = 'EIO' } }",
                "rule 2 of the hooks would never be looked at: the list of rules begins at 1 and has no holes",
            ),
            (
                "{ [0] = { on = 'read', fail = 'EIO' } }",
                "rule 0 of the hooks would never be looked at: the list of rules begins at 1 and has no holes",
            ),
        ],
    );
    // The old name of what programs have several calls for.
    says(
        "local names = {} go { stat64 = function(c) names[c.name] = c.stat ~= nil end } print(names.newfstatat, names.fstat)",
        "true\tnil\n",
    );
    // A rule of many calls counts those that it could cut short.
    says(
        "local o = go { ['%desc'] = { short = 2, when = 3 } } print(#o.injected, o.injected[1].call:match '= (%d+)$')
         o = go { recvfrom = { fail = 'EIO', live = true } } print(o.status, o.stderr:match 'Errno %d+')",
        "1\t2\nexited\tErrno 5\n",
    );
}

#[test]
fn tasks_are_named_by_numbers_that_there_are() {
    says(
        r#"
        local pid = stop.pid
        local function try(text, pids)
          print((select(2, pcall(function() return stop:spin_off():inject(trace.parse(text), { pids = pids }).status end))
            :gsub("%f[%d]" .. pid .. "%f[%D]", "PID"):gsub("^stdin:%d+: ", "")))
        end
        local one = "777 socketpair(AF_UNIX, SOCK_STREAM|SOCK_CLOEXEC, 0, [3, 4]) = 0\n"
        local two = one .. "778 getpid() = 778\n"
        try(one, { [777] = pid })
        try(one, { [778] = pid })
        try(one, { [777] = 1 })
        try(two, { [777] = pid, [778] = pid })
        try("getpid() = 5\n", { [5] = pid })
        try(one, { ["777"] = pid })
        try(one, { [777] = tostring(pid) })
        try(one, { [777] = 1.5 })
        try(one, { [-1] = pid })
        try(one, "777")
        print((select(2, pcall(go, { pids = { [1] = pid } })):gsub("^stdin:%d+: ", "")))
        "#,
        "completed\n\
         pids: the trace has no task 778: it has 777\n\
         pids: process PID has no task 1 where it was spun off: it has PID\n\
         pids: 777 and 778 of the trace cannot both be task PID\n\
         pids: the trace has no task 5: its lines say no pids\n\
         a pid in pids is an integer, not \"777\"\n\
         a pid in pids is an integer, not \"PID\"\n\
         a pid in pids is an integer, not 1.5\n\
         -1 is no pid\n\
         pids is a table { [in the trace] = as recorded }, not \"777\"\n\
         pids: the process's own recording has its own numbers: they are for other traces\n",
    );
}

#[test]
fn control_messages_and_entries_are_lists() {
    says(
        r#"
        local function first(o) return o.stdout:match "^[^\n]*" end
        print(first(go { recvmsg = function(c)
          local control = c.args.msg.msg_control
          assert(#control[1].cmsg_data == 2)
          control[1].cmsg_data = { 7 }
          assert(control[1].cmsg_data[1] == 7 and #control[1].cmsg_data == 1 and c.args.msg.msg_controllen == 20)
        end }))
        print(first(go { recvmsg = function(c) c.args.msg.msg_control = {} assert(c.args.msg.msg_controllen == 0) end }))
        print(first(go { recvmsg = function(c) c.args.msg.msg_control = {
          { cmsg_level = "SOL_SOCKET", cmsg_type = "SCM_RIGHTS", cmsg_data = { 8, 9 } } } end }))
        -- The same where the process has it elsewhere than it was recorded.
        print(first(go { recvmsg = { enter = function(c) c.fd = 99 end, exit = function(c) assert(c.path == nil) end } }))
        print(go { getdents64 = function(c)
          if #c.args.dirp > 0 then c.args.dirp = { { d_name = "new" }, { d_name = "b", d_type = "DT_DIR" } } end
        end }.stdout:match "[^\n]*\n$")
        print(first(go { sendto = { enter = function(c) c.args.buf = "ab" assert(c.args.len == 2 and c.size == 2) end } }))
        "#,
        "b'onetwo' [(1, 4)]\n\
         b'onetwo' []\n\
         b'onetwo' [(1, 8)]\n\
         b'onetwo' [(1, 8)]\n\
         ['new', 'b']\n\n\
         b'onetwo' [(1, 8)]\n",
    );
}

#[test]
fn live_processes_show_their_descriptors() {
    let folder = Folder::new();
    folder.write("data", "0123456789");
    let said = folder.script(
        r#"
        live { "/usr/bin/python3", "-S", "-c", "import os; f = os.open('data', 0); os.read(f, 4); os.read(f, 3)", hooks = {
          read = { path = "*/data", enter = function(c) io.write(c.offset, " ") end, exit = function(c)
            local fd = c.process:fds()[c.fd]
            print(c.offset, fd.path == c.path, fd.offset, fd.cloexec, #c.process.tids)

          end } }, sandbox = "none" }
        "#,
    );
    assert_eq!(
        said.ok().text(),
        "0 0\ttrue\t4\ttrue\t1\n4 4\ttrue\t7\ttrue\t1\n"
    );
}
