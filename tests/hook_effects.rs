//! What hooks can still say of a call once it has been made, and what no kernel would answer.

use crate::common::Folder;

/// Programs for `live`, and what they say: `run(code, hooks)` gives the outcome and its standard output in one line.
const RUN: &str = r#"
local function run(code, hooks)
  local o = live { "/usr/bin/python3", "-S", "-c", "import os\n" .. code, hooks = hooks, timeout = 8 }
  return (o.stdout:gsub("%s+", " "):gsub(" $", "")), o
end
local function raises(part, f)
  local ok, why = pcall(f)
  assert(not ok and why:find(part, 1, true), ok and "no error" or why)
end
local function tries(call) return ("try: %s\nexcept OSError as e: print(e.errno)\n"):format(call) end
"#;

/// Runs a script with these and with what else it is given.
fn check(script: &str) {
    Folder::new().script(&format!("{RUN}{script}")).ok();
}

#[test]
fn what_the_kernel_has_done_is_not_denied_afterwards() {
    check(
        r#"
        local made = "os.mkdir('made'); " 
        for _, late in ipairs {
          function(c) c:fail "EIO" end, function(c) c:skip(1) end, function(c) c.ret = -5 end,
          function(c) c.errno = "EIO" end, { exit = function(c) c:fail("EIO", { executed = false }) end },
        } do
          raises("belongs into enter = function", function() run(made, { mkdir = late }) end)
        end
        raises("this read has been made", function()
          run("os.read(os.open('/etc/passwd', 0), 9)", { read = { path = "/etc/passwd", exit = function(c) c:short(2) end } })
        end)
        raises("this openat has been made", function()
          run("os.open('/etc/passwd', 0)", { openat = { path = "/etc/passwd", exit = function(c) c:fail "EIO" end } })
        end)
        -- What it returned anyway can be said again.
        assert(run(made .. "print(1)", { mkdir = function(c) c.ret = 0 c:skip() end }) == "1")
        "#,
    );
}

#[test]
fn questions_and_failures_can_be_answered_otherwise_afterwards() {
    check(
        r#"
        assert(run(tries "os.stat('/etc/passwd')", { ["%%stat"] = { path = "/etc/passwd", exit = function(c) c:fail "ELOOP" end } }) == "40")
        assert(run("print(os.pread(os.open('/etc/passwd', 0), 9, 0))",
          { pread64 = { path = "/etc/passwd", exit = function(c) c:short(2) end } }) == "b'ro'")
        assert(run("print(os.getpgid(0))", { getpgid = function(c) c.ret = 77 end }) == "77")
        assert(run(tries "os.mkdir('/etc')", { mkdir = function(c) c:fail "EROFS" end }) == "30")
        assert(run("os.mkdir('/etc'); print('made')", { mkdir = function(c) c:skip(0) end }) == "made")
        -- What an enter hook kept from being made can be anything.
        assert(run(tries "os.mkdir('d')" .. "print(os.path.exists('d'))",
          { mkdir = { enter = function(c) c:fail "EIO" end, exit = function(c) c:fail "ENOSPC" end } }) == "28 False")
        "#,
    );
}

#[test]
fn calls_can_be_made_and_their_process_told_otherwise() {
    check(
        r#"
        local code = tries "os.mkdir('d')" .. "print(os.path.exists('d'))"
        for _, how in ipairs {
          { fail = "EIO", executed = true }, { ret = "-EIO", executed = true },
          { enter = function(c) c:fail("EIO", { executed = true }) end },
          { exit = function(c) c:fail("EIO", { executed = true }) end },
        } do
          local said, o = run(code, { mkdir = how })
          assert(said == "5 True" and #o.injected == 1 and o.injected[1].call:find "EIO", said)
        end
        assert(run(code, { mkdir = { fail = "EIO" } }) == "5 False")
        local said = run("print(os.write(1, b'abcdef\\n'))", { write = { when = 1, short = 2, executed = true } })
        assert(said == "abcdef 2", said)
        raises("has executed, which says how", function() run("", { write = { executed = true, signal = 9 } }) end)
        raises("executed is true or false, not 1", function() run("", { write = { executed = 1, fail = 5 } }) end)
        raises('an action has no option "execute"', function()
          run("os.mkdir('d')", { mkdir = { enter = function(c) c:fail(5, { execute = true }) end } })
        end)
        "#,
    );
}

const CLOSES: &str = r#"
local code = "f = os.open('/etc/passwd', 0)\n" .. tries "os.close(f)" .. "try: os.fstat(f); print('open')\nexcept OSError: print('closed')\n"
local ways = {
  { "5 closed", { fail = "EIO" } }, { "4 closed", { fail = "EINTR" } }, { "9 open", { fail = "EBADF" } },
  { "5 open", { fail = "EIO", executed = false } }, { "5 closed", { exit = function(c) c:fail "EIO" end } },
  { "5 closed", { enter = function(c) c:fail "EIO" end } }, { "5 closed", { ret = "-EIO" } }, { "open", { ret = 0 } },
}
for _, way in ipairs(ways) do
  way[2].path = "/etc/passwd"
end
"#;

#[test]
fn close_that_fails_has_released_the_descriptor() {
    check(&format!(
        "{CLOSES}
        for _, way in ipairs(ways) do
          local said = run(code, {{ close = way[2] }})
          assert(said == way[1], said)
        end"
    ));
    // The model of a process that is driven agrees, as it shows when that goes live.
    check(&format!(
        "{CLOSES}
        local rec = rr.record {{ '/usr/bin/python3', '-u', '-S', '-c', 'import os\\n' .. code, out = 'rec' }}
        local opened = rec:find {{ syscall = 'openat', path = '/etc/passwd' }}
        for _, way in ipairs(ways) do
          local o = rec:replay_to(opened):spin_off():inject {{
            close = way[2], on_divergence = 'live', finally = 'live', sandbox = 'none',
          }}
          local said = o.stdout:gsub('%s+', ' '):gsub(' $', '')
          -- Where it was told that all is well, it follows its recording.
          local expected = way[2].ret == 0 and 'closed' or way[1]
          assert(said == expected, way[1] .. ': ' .. said .. o.stderr)
        end"
    ));
}

#[test]
fn a_kill_comes_behind_what_the_call_is_to_do_first() {
    check(
        r#"
        local code = "os.write(1, b'abcdef'); os.write(1, b'more')"
        local ways = {
          { "", { signal = "SIGKILL" } }, { "ab", { short = 2, signal = "SIGKILL" } },
          { "ab", { short = 2, signal = "SIGKILL", delay = 0.01 } }, { "", { fail = "EIO", signal = "SIGKILL" } },
          { "abcdef", { ret = 6, executed = true, signal = "SIGKILL" } }, { "", { delay = 0.01, signal = "SIGKILL" } },
          { "ab", { short = 2, signal = "SIGTERM" } },
        }
        local rec = rr.record { "/usr/bin/python3", "-S", "-c", "import os\n" .. code, out = "rec" }
        local start = rec:find { syscall = "write" }
        for _, way in ipairs(ways) do
          way[2].fd = 1
          local rule = { write = way[2] }
          local signal = way[2].signal
          local copy = function() return rec:replay_to(start):spin_off() end
          for i, o in ipairs {
            (select(2, run(code, rule))), copy():inject(rule),
            copy():live { write = way[2], sandbox = "none" },
          } do
            local told = ("%d: %s %s %d"):format(i, o, o.stdout, #o.injected)
            assert(o.signal == signal and o.stdout == way[1] and #o.injected == 1, told)
          end
        end
        "#,
    );
}

#[test]
fn rules_for_one_call_all_act() {
    check(
        r#"
        local code = "import signal\nfor s in (10, 12): signal.signal(s, lambda s, f: print('got', s))\n"
          .. "print(os.write(1, b'abcdef\\n'))"
        local said, o = run(code, {
          write = { when = 1, signal = "SIGUSR1" },
          { on = "write", when = 1, fail = "EIO" }, { on = "write", when = 1, signal = "SIGUSR2", delay = 0.01 },
          { on = "%desc,!close", fd = 1, when = 1, short = 3 },
        })
        -- The last answer counts, and every signal comes.
        assert(said == "abcgot 10 got 12 3" or said == "abcgot 12 got 10 3", said)
        assert(select(2, o.injected[1].rule:gsub(",", ",")) >= 3, o.injected[1].rule)
        "#,
    );
}

#[test]
fn what_no_kernel_answers_is_refused() {
    check(
        r#"
        local refused = {
          { "getpid never fails", { getpid = { fail = "EIO" } } },
          { "umask never fails", { umask = { ret = -1 } } },
          { "exit_group never returns", { exit_group = { ret = 0 } } },
          { "exit_group never returns", { exit_group = { fail = "EIO" } } },
          { "execve that was made shows itself", { execve = { fail = "EIO", executed = true } } },
          { "5000 is no errno", { read = { fail = 5000 } } },
          { "no such call moves anything", { stat = { short = 1 } } },
          { "more than one of fail, ret and short", { read = { fail = 5, short = 1 } } },
          { "a member that is nil is none", { read = { fail = EIOO } } },
          { "a member that is nil is none", { read = { fail = EIOO, when = 3 } } },
          { "unknown errno \"EIOO\"", function() return { read = { fail = errno.EIOO } } end },
          { "getppid never fails", { getppid = { enter = function(c) c:fail "EIO" end } } },
          { "getppid never fails", { getppid = { exit = function(c) c.errno = 5 end } } },
          { "asks for no more than 3", { write = { fd = 1, enter = function(c) c:short(99) end } } },
        }
        for _, case in ipairs(refused) do
          raises(case[1], function() run("os.getppid(); os.write(1, b'abc')", case[2]) end)
        end
        -- Of many calls, those are meant that can answer so; and whoever says executed = false knows.
        assert(run("print(os.getppid() >= 0, os.umask(0) >= 0)", { ["getppid,umask,getpriority"] = { fail = "EIO" } }) == "True True")
        assert(run("print(os.getppid())", { getppid = { ret = -7, executed = false } }):find "%-")
        -- A rule does not cut what is no longer.
        local said, o = run("print(os.write(1, b'abc\\n'))", { write = { fd = 1, short = 9 } })
        assert(said == "abc 4" and #o.injected == 0 and #o.unfired == 1, said)
        "#,
    );
}

#[test]
fn brk_that_fails_tells_where_the_break_is() {
    check(
        r#"
        local code = "import ctypes\nbrk = ctypes.CDLL(None).syscall\nbrk.restype = ctypes.c_long\n"
          .. "now = brk(12, 0); told = brk(12, now + (3 << 20)); then = brk(12, 0); print(told == now, then == now)"
        local rec = rr.record { "/usr/bin/python3", "-S", "-c", "import os\n" .. code, out = "rec" }
        local first = rec:find { syscall = "write" }
        local from
        for event in rec:events { syscall = "brk", to = first } do from = from or event end
        local function copy(brk)
          local o = rec:replay_to(from):spin_off():inject {
            brk = brk, on_divergence = "live", finally = "live", sandbox = "none" }
          return o.stdout
        end
        local function big(c) return c.raw[1] ~= 0 and c.raw[1] % 4096 == 0 end
        for _, errno in ipairs { "ENOMEM", "EAGAIN" } do
          assert(run(code, { brk = { fail = errno, where = big } }) == "True True")
          assert(copy { fail = errno, where = big } == "True True\n")
        end
        -- In a copy it is never too late: the break goes back.
        assert(copy { where = big, exit = function(c) c:fail "ENOMEM" end } == "True True\n")
        raises("this brk has been made", function()
          run(code, { brk = { where = big, exit = function(c) c:fail "ENOMEM" end } })
        end)
        "#,
    );
}

#[test]
fn options_about_traces_mean_nothing_live() {
    check(
        r#"
        local rec = rr.record { "true", out = "rec" }
        for name, value in pairs { on_divergence = "live", finally = "kill", ignore = false, pids = {} } do
          raises(name .. " is about a trace", function() run("", { [name] = value }) end)
          raises(name .. " is about a trace", function() rr.replay_to(1):spin_off():live { [name] = value } end)
        end
        raises("all of this process is live", function() run("", { read = { live = true } }) end)
        "#,
    );
}

#[test]
fn a_process_that_dies_while_a_hook_looks_at_it_is_an_outcome() {
    check(
        r#"
        local rec = rr.record { "/usr/bin/python3", "-S", "-c", "import os; os.write(1, b'hello')", out = "rec" }
        local looks = {
          function(c) c.process:read(c.raw[2], 4) end, function(c) c.process:write(c.raw[2], "xx") end,
          function(c) c.process:maps() c.process:fds() end, function(c) if c.phase == "enter" then c:data "xx" end end,
          function(c) return c:text(), c.file, c.offset, c.args.buf end, function(c) c:signal "SIGTERM" end,
        }
        for i, look in ipairs(looks) do
          for _, phase in ipairs { "enter", "exit" } do
            local function hook(c)
              os.execute("kill -9 " .. c.process.real_pid)
              look(c)
            end
            local hooks = { write = { fd = 1, [phase] = hook } }
            local copy = function() return rec:replay_to(rec:find { syscall = "write" }):spin_off() end
            local live_hooks = { write = hooks.write, sandbox = "none" }
            for j, o in ipairs { (select(2, run("os.write(1, b'hello')", hooks))), copy():inject(hooks), copy():live(live_hooks) } do
              assert(o.status == "signaled" and o.signal == "SIGKILL", ("%d %s %d: %s"):format(i, phase, j, o))
            end
          end
        end
        raises("my own", function()
          run("os.write(1, b'x')", { write = { fd = 1, enter = function(c)
            os.execute("kill -9 " .. c.process.real_pid)
            error "my own"
          end } })
        end)
        "#,
    );
}
