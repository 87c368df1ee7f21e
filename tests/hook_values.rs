//! Structures in hooks are values: what was read is the same wherever it is put.

use crate::common::Folder;

const RUN: &str = r#"
os.execute "mkdir -p dir && touch dir/a dir/longer-than-the-others dir/c"
local function run(code, hooks)
  local o = live { "/usr/bin/python3", "-S", "-c", "import os\n" .. code, hooks = hooks, timeout = 8 }
  return (o.stdout:gsub("%s+", " "):gsub(" $", "")), o
end
local function raises(part, f)
  local ok, why = pcall(f)
  assert(not ok and why:find(part, 1, true), ok and "no error" or why)
end
local function is(said, expected) assert(said == expected, said) end
local function listed(change)
  local before, seen = {}, nil
  local said = run("print(' '.join(n for n in os.listdir('dir')))", { getdents64 = { path = "dir", when = 1, exit = function(c)
    local l = c.args.dirp
    for i = 1, #l do before[i] = l[i].d_name end
    change(l)
    seen = {}
    for i = 1, #l do seen[i] = l[i].d_name end
  end } })
  return before, seen, said
end
"#;

fn check(script: &str) {
    Folder::new().script(&format!("{RUN}{script}")).ok();
}

#[test]
fn assigning_one_to_another_swaps() {
    check(
        r#"
        local before, after, said = listed(function(l) l[1], l[#l] = l[#l], l[1] end)
        assert(after[1] == before[5] and after[5] == before[1] and after[3] == before[3])
        assert(said:find "a" and said:find "longer%-than%-the%-others" and #said == #"a c longer-than-the-others")
        before, after = listed(function(l) l[1], l[2], l[3] = l[2], l[3], l[1] end)
        assert(after[1] == before[2] and after[2] == before[3] and after[3] == before[1])
        before, after = listed(function(l)
          local all = {}
          for i = 1, #l do all[i] = l[i] end
          table.sort(all, function(x, y) return x.d_name < y.d_name end)
          for i, entry in ipairs(all) do l[i] = entry end
        end)
        is(table.concat(after, " "), ". .. a c longer-than-the-others")
        "#,
    );
}

#[test]
fn what_was_replaced_is_what_it_was() {
    check(
        r#"
        local before, after = listed(function(l)
          local first = l[1]
          l[1] = l[2]
          -- It is a value of its own now.
          first.d_name = "mine"
          assert(first.d_name == "mine" and l[1].d_name == l[2].d_name)
          l[3] = first
        end)
        assert(after[1] == before[2] and after[3] == "mine")
        -- What has not been replaced is what is there.
        before, after = listed(function(l)
          local first = l[1]
          first.d_name = "there"
          assert(l[1].d_name == "there")
          l[2] = first
        end)
        assert(after[1] == "there" and after[2] == "there")
        "#,
    );
}

#[test]
fn vectors_and_events_swap_as_well() {
    check(
        r#"
        local function swap(list, i, j) list[i], list[j] = list[j], list[i] end
        local write = "os.writev(1, [b'one', b'two', b'three'])"
        is(run(write, { writev = { enter = function(c) swap(c.args.iov, 1, 3) end } }), "threetwoone")
        raises("set its iov_base or iov_len", function()
          run(write, { writev = { enter = function(c) c.args.iov[1] = 5 end } })
        end)
        local send = "import socket; a, b = socket.socketpair(); a.sendmsg([b'one', b'three']); print(b.recv(20))"
        is(run(send, { sendmsg = { enter = function(c) swap(c.args.msg.msg_iov, 1, 2) end } }), "b'threeone'")
        local read = "r, w = os.pipe(); os.write(w, b'abcdef'); x, y = bytearray(3), bytearray(3); os.readv(r, [x, y]); print(x, y)"
        is(run(read, { readv = function(c) swap(c.args.iov, 1, 2) end }), "bytearray(b'def') bytearray(b'abc')")
        local poll = "import select\nr, w = os.pipe(); e = select.epoll(); e.register(w, 4); e.register(os.dup(w), 4); print([n - w for n, _ in e.poll(0)])"
        local plain = run(poll, {})
        local swapped = run(poll, { epoll_wait = function(c) swap(c.args.events, 1, 2) end })
        local first, second = plain:match "%[(%d), (%d)%]"
        is(swapped, ("[%s, %s]"):format(second, first))
        local fds = "import select\nr, w = os.pipe(); p = select.poll(); p.register(r, 1); p.register(w, 4); print(len(p.poll(0)), p.poll(0)[0][0] - r)"
        is(run(fds, { poll = { exit = function(c)
          local f = c.args.fds
          f[1].revents, f[2].revents = f[2].revents, f[1].revents
        end } }), "1 0")
        "#,
    );
}

#[test]
fn what_the_kernel_stored_behind_a_pointer_can_be_a_number() {
    check(
        r#"
        local fork = "import ctypes\nif os.fork() == 0: os._exit(3)\n"
        local wait = fork .. "print(os.waitstatus_to_exitcode(os.wait()[1]))"
        is(run(wait, { wait4 = function(c) c.args.wstatus = 7 << 8 end }), "7")
        is(run(wait, { wait4 = function(c) c.args.wstatus = "[{WIFSIGNALED(s) && WTERMSIG(s) == SIGKILL}]" end }), "-9")
        local null = fork .. "ctypes.CDLL(None).wait4(-1, None, 0, None)"
        raises("wstatus is NULL", function() run(null, { wait4 = function(c) c.args.wstatus = 1 end }) end)
        raises("rusage is NULL", function() run(null, { wait4 = function(c) c.args.rusage = { ru_maxrss = 1 } end }) end)
        raises("has nothing stored in it", function()
          run("import ctypes; ctypes.CDLL(None).wait4(-1, ctypes.byref(ctypes.c_int()), 0, None)",
            { wait4 = function(c) c.args.wstatus = 1 end })
        end)
        "#,
    );
}
