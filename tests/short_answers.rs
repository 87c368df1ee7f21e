//! Calls that are answered with EINTR, EAGAIN or less than there is: made again, they get the rest.

use crate::common::Folder;

/// Every way to answer every call so; prints what does not end as it was recorded.
const WAYS: &str = r#"
local calls = { "read", "pread64", "readv", "write", "writev", "pwrite64", "copy_file_range", "sendfile", "splice",
  "sendto", "recvfrom", "sendmsg", "recvmsg", "getdents64" }
local ways = {
  { "EINTR", { fail = "EINTR", when = "1+2" } },
  { "EAGAIN", { fail = "EAGAIN", when = "1+2" } },
  { "one byte", { short = 1, when = "1" } },
  { "few bytes", { short = 24 } },
  { "EINTR at exit", { when = "1+2", exit = function(c) c:fail "EINTR" end } },
  { "few bytes at exit", { exit = function(c) c:short(24) end } },
  { "another value at exit", { when = "1+2", exit = function(c) if c.ret > 24 then c.ret = 24 end end } },
  { "fewer asked for", { when = "1+2", enter = function(c)
    for _, name in ipairs { "count", "len", "size" } do
      local now = c.args[name]
      if now then c.args[name] = math.min(now, 48) end
    end
  end } },
}
local function of_interest(c) return c.fd ~= 1 and c.fd ~= 2 end
function try(run)
  local tried = 0
  for _, call in ipairs(calls) do
    for _, way in ipairs(ways) do
      local name, hook = table.unpack(way)
      -- Nobody lists a directory again that was interrupted, or writes what would have to wait.
      local given_up = name:find "^E" and call == "getdents64"
      local rule = { where = of_interest }
      for key, value in pairs(hook) do rule[key] = value end
      if not given_up then
        local o = run { [call] = rule }
        tried = tried + 1
        if not ("all of it ['a', 'b', 'c']\n"):find(o.stdout, 1, true) or o.stdout == "" or o.divergence then
          print(call, name, o, o.stderr)
        end
        if #o.injected == 0 and not name:find "asked" then print(call, name, "not once") end
      end
    end
  end
  return tried
end
"#;

/// A folder in which the program has run, and been recorded.
fn recorded() -> Folder {
    let folder = Folder::new();
    folder.write("again.py", include_str!("fixtures/again.py"));
    std::fs::create_dir(folder.join("listed")).unwrap();
    for name in ["listed/a", "listed/b", "listed/c"] {
        folder.write(name, "");
    }
    folder
        .record("rec", &["/usr/bin/python3", "-S", "again.py"])
        .ok();
    folder
}

const STOP: &str = r#"
local rec = rr.open "rec"
local first = rec:find { syscall = "openat", path = "*/data" } or rec:find { syscall = "openat", path = "data" }
local stop = rr.replay_to(first)
"#;

#[test]
fn of_a_recording() {
    let script = r#"print(try(function(hooks) return stop:spin_off():inject(hooks) end))"#;
    let said = recorded().script(&format!("{WAYS}{STOP}{script}")).ok();
    assert_eq!(said.text(), "109\n");
}

#[test]
fn of_a_text() {
    let script = r#"
        local text = trace.parse(tostring(rec:segment(first, #rec - 1)))
        print(try(function(hooks) return stop:spin_off():inject(text, hooks) end))
    "#;
    let said = recorded().script(&format!("{WAYS}{STOP}{script}")).ok();
    assert_eq!(said.text(), "109\n");
}

#[test]
fn of_the_kernel() {
    let script = r#"
        for _, call in ipairs { "read", "pread64", "readv", "write", "copy_file_range", "sendfile", "splice", "sendmsg", "recvmsg", "getdents64" } do
          for _, way in ipairs { { short = 1, when = "1" }, { short = 24 } } do
            local about = (call:find "msg$" or call == "getdents64") and function(c) return c.path and c.path:find "socket" or c.path:find "listed" end
            local rule = { short = way.short, when = way.when, where = about or function(c)
              return (c.path or ""):find "/data$" or call == "sendfile" end }
            local o = live { "/usr/bin/python3", "-S", "again.py", sandbox = "none", hooks = { [call] = rule } }
            if o.stdout ~= "all of it ['a', 'b', 'c']\n" or #o.injected == 0 then print(call, way.short, o, #o.injected, o.stderr) end
            local n = #o.injected > 0 and o.injected[1].call:match "= (%d+)"
            if call ~= "getdents64" and tonumber(n) ~= way.short then print(call, o.injected[1].call) end
          end
        end
    "#;
    let said = recorded().script(script).ok();
    assert_eq!(said.text(), "");
}

#[test]
fn several_messages() {
    let folder = Folder::new();
    let program = folder.compile("messages", &[]);
    folder.record("rec", &[&program]).ok();
    let said = folder
        .script(
            r#"
            local rec = rr.open "rec"
            local stop = rr.replay_to(1)
            local text = trace.parse(tostring(rec:segment(rec:find { syscall = "socketpair" }, #rec - 1)))
            local function go(hooks, trace)
              hooks.on_divergence, hooks.sandbox = "live", "none"
              if trace then
                return rr.replay_to(rec:find { syscall = "socketpair" }):spin_off():inject(trace, hooks)
              end
              return stop:spin_off():inject(hooks)
            end
            local plain = go({}).stdout
            assert(plain:find "sent 8 8 8 at once\n" and plain:find "first second third", plain)
            for _, way in ipairs {
              { short = 1, when = 1 }, { short = 2, when = 1 }, { fail = "EINTR", when = 1 },
              { when = 1, exit = function(c) c:short(1) end }, { when = 1, exit = function(c) c:fail "EINTR" end },
              { when = 1, enter = function(c) c.args.vlen = 1 end },
            } do
              for _, call in ipairs { "sendmmsg", "recvmmsg" } do
                for _, trace in ipairs { false, text } do
                  -- That it took more than one call is all that it says differently; the rest of the trace goes live.
                  local o = go({ [call] = way, write = { when = "1+", enter = function() end } }, trace)
                  local said = o.stdout:gsub("more than once", "at once")
                  if said ~= plain then print(call, way.short or way.fail or "exit", o.stdout, o.divergence) end
                end
              end
            end
            local o = go { sendmmsg = { when = 1, enter = function(c)
              assert(c:data():find "^first\0" and #c:data() == 24)
              c:data { "x", "yz" }
              assert(c.args.vlen == 2 and c:data() == "xyz" and c.args.msgvec[2].msg_hdr.msg_iov[1].iov_len == 2)
              c:live()
            end } }
            io.write(o.stdout:match "sent[^\n]*", "\n")
            o = go { recvmmsg = function(c)
              c:data { "1", "22", "333" }
              assert(c.ret == 3 and c.args.msgvec[3].msg_len == 3 and c:data() == "122333")
            end }
            io.write(o.stdout:match "received.*")
            o = go { recvmmsg = { when = 1, exit = function(c) c:data "0123456789" assert(c.ret == 2) end } }
            io.write(o.stdout:match "received[^\n]*", "\n")
            for _, f in ipairs {
              function(c) c:data { "1", "2", "3", "4" } end,
              function(c) c:data { ("x"):rep(9) } end,
              function(c) c:data(("x"):rep(25)) end,
              function(c) c:data { one = "x" } end,
              function(c) c.args.msgvec[1].msg_len = -1 end,
            } do print(select(2, pcall(go, { recvmmsg = f }))) end
            print(select(2, pcall(go, { write = { enter = function(c) c:data { "x" } end } })))
            "#,
        )
        .ok();
    assert_eq!(
        said.text(),
        "sent 1 2 8 more than once\n\
         received 1 2 3 at once\n1irst 22cond 333rd\n\
         received 8 2 8 more than once\n\
         stdin:43: this recvmmsg has room for 3 messages, not 4\n\
         stdin:44: 9 bytes do not fit into the buffer of this recvmmsg, which has 8\n\
         stdin:45: 25 bytes do not fit into the buffer of this recvmmsg, which has 24\n\
         stdin:46: messages are a list of strings\n\
         stdin:47: msgvec[1] is a number of bytes, and cannot be -1\n\
         stdin:49: write moves no messages: its data is one string\n"
    );
}
