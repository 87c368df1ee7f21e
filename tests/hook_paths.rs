//! A path means a file, however calls name it: in rules, of events, in traces.

use crate::common::Folder;

/// Names a file in many ways, each behind a mark.
const PROGRAM: &str = r#"
import os
def mark(name):
    try: os.getxattr('/', 'user.' + name)
    except OSError: pass
def touch(path, **more): os.close(os.open(path, os.O_RDONLY, **more))
mark('relative'); f = os.open('a', os.O_RDONLY); os.read(f, 1)
mark('dots'); touch('./d/../a'); touch('.//a')
mark('absolute'); touch(os.getcwd() + '/a')
mark('directory'); d = os.open('d', os.O_RDONLY); touch('../a', dir_fd=d); os.stat('a', dir_fd=d)
mark('link'); touch('link'); os.stat('link'); os.lstat('link'); os.readlink('link')
mark('moved'); os.chdir('d'); touch('../a'); os.read(f, 1); os.access('a', os.F_OK)
mark('copied'); g = os.dup(f); os.read(g, 1)
os.chdir('..')
mark('renamed'); os.rename('a', 'b'); os.fstat(f); touch('b'); os.rename('b', 'a')
mark('made'); os.close(os.open('d/e/../new', os.O_CREAT | os.O_WRONLY)); os.unlink('d/new')
mark('removed'); os.unlink('link'); os.unlink('a'); os.fstat(f)
"#;

/// What of it is about the file `a`, and what about the link, by every name that the link's file has.
const ABOUT_A: &str = "relative:openat relative:read dots:openat dots:close dots:openat dots:close absolute:openat \
    absolute:close directory:openat directory:close link:openat link:close LIVE moved:openat moved:close moved:read \
    copied:fcntl copied:read renamed:rename FORMER renamed:rename removed:unlink removed:newfstatat";

fn folder() -> Folder {
    let folder = Folder::new();
    folder.write("names.py", PROGRAM);
    folder.write("names.sh", "rm -rf a b d link; mkdir -p d/e; echo text > a; echo other > d/a; ln -s a link; exec /usr/bin/python3 -S names.py\n");
    folder
}

/// `seen(how, pattern)`: the calls that are about such a path, each behind its mark.
const SEEN: &str = r#"
local here = io.popen("pwd -P"):read "l"
local rec
local calls = "%file,%desc,!getxattr,!execve"
local function ours(name) return name == "relative" or name == "dots" end
local function seen(how, pattern)
  local list, mark = {}, nil
  local function note(name) if mark then list[#list + 1] = mark .. ":" .. name end end
  local hooks = {
    { on = "getxattr", enter = function(c) mark = c.args.name:match "^user%.(.*)" or mark end },
    { on = calls, path = pattern, enter = function(c) note(c.name) end },
  }
  if how == "live" then
    local o = live { "sh", "names.sh", hooks = hooks, sandbox = "none" }
    assert(o.exit_code == 0, o.stderr)
    return table.concat(list, " ")
  end
  rec = rec or rr.record { "sh", "names.sh", out = "rec" }
  local start = rec:find { syscall = "getxattr" }
  if how == "copy" then
    local o = rec:replay_to(start):spin_off():inject(hooks)
    assert(o.exit_code == 0 and not o.divergence, o)
    return table.concat(list, " ")
  end
  local hits, all = {}, {}
  if how == "events" then
    for e in rec:events { path = pattern, syscall = calls } do hits[e.event] = true end
    for e in rec:events { from = start } do all[#all + 1] = e end
  else
    local segment = rec:segment(start, #rec)
    local n = 1
    for e in function() return segment:find { path = pattern, syscall = calls, nth = n } end do
      hits[e.event], n = true, n + 1
    end
    for _, e in ipairs(segment) do all[#all + 1] = e end
  end
  for _, e in ipairs(all) do
    if e.name == "getxattr" then mark = e.args.name:sub(6) elseif hits[e.event] then note(e.name) end
  end
  return table.concat(list, " ")
end
local function is(how, pattern, expected)
  local said = seen(how, pattern)
  assert(said == expected, ("%s, %s: %s"):format(how, pattern, said))
end
"#;

#[test]
fn rules_and_searches_mean_the_file() {
    let expected = |live: &str, former: &str| {
        let words = ABOUT_A.replace("LIVE", live).replace("FORMER", former);
        words.split_whitespace().collect::<Vec<_>>().join(" ")
    };
    // Where a link leads is known in live, and of what was opened by one; what a file was called before only elsewhere.
    let live = expected("link:newfstatat", "");
    let known = expected("", "renamed:newfstatat");
    let script = format!(
        "{SEEN}
        for _, pattern in ipairs {{ here .. '/a', here .. '//d/../a', '../' .. here:match '[^/]*$' .. '/a' }} do
          is('live', pattern, {live:?})
          is('events', pattern, {known:?})
          is('copy', pattern, {known:?})
        end
        local text = ({known:?}):gsub('link:openat link:close ', '')
        is('trace', here .. '/a', text)"
    );
    folder().script(&script).ok();
}

#[test]
fn links_and_new_names_are_told_from_files() {
    let script = format!(
        r#"{SEEN}
        for _, how in ipairs {{ "events", "copy", "trace" }} do
          is(how, here .. "/link", "link:openat link:close link:newfstatat link:newfstatat link:readlink removed:unlink")
          is(how, here .. "/b", "renamed:rename renamed:newfstatat renamed:openat renamed:close renamed:rename removed:newfstatat")
          is(how, "*/d/new", "made:openat made:close made:unlink")
          is(how, re"/d$", "directory:openat moved:chdir")
        end
        is("live", here .. "/b", "renamed:rename renamed:newfstatat renamed:openat renamed:close renamed:rename")
        is("live", here .. "/d/new", "made:openat made:close made:unlink")
        -- What acts on a link is not about its file: lstat, readlink, unlink.
        local about = seen("live", here .. "/a")
        assert(select(2, about:gsub("link:", "")) == 3 and not about:find "readlink", about)
        "#
    );
    folder().script(&script).ok();
}

#[test]
fn calls_events_and_entries_tell_where_their_file_is() {
    let folder = folder();
    std::fs::create_dir(folder.join("sub")).unwrap();
    folder.write("sub/text", "text");
    let script = r#"
        local here = io.popen("pwd -P"):read "l"
        local argv = { "sh", "-c", "cd sub && exec cat ./../sub//text" }
        local told = {}
        local hooks = {
          openat = { path = "sub/text", exit = function(c) told[1], told[2] = c.path, c.file end },
          read = { path = "sub/text", when = 1, exit = function(c) told[3] = c.file end },
          close = { path = "sub/text", exit = function(c) told[4] = c.file end },
        }
        argv.hooks = hooks
        local function check(how)
          local expected = { "./../sub//text", here .. "/sub/text", here .. "/sub/text", here .. "/sub/text" }
          for i, name in ipairs(expected) do assert(told[i] == name, how .. ": " .. tostring(told[i])) end
          told = {}
        end
        assert(live(argv).exit_code == 0)
        check "live"
        argv.hooks, argv.out = nil, "rec"
        local rec = rr.record(argv)
        local start = rec:find { syscall = "chdir" }
        rec:replay_to(start):spin_off():inject(hooks)
        check "copy"
        local event = rec:find { syscall = "openat", path = "*/text" }
        assert(event.path == "./../sub//text" and event.file == here .. "/sub/text", event.file)
        assert(rec:event(event.event + 1).file == event.file, "behind its descriptor")
        local segment = rec:segment(start, #rec)
        local entry = segment:find { path = here .. "/sub/text" }
        assert(entry.name == "openat" and entry.file == event.file, entry.file)
        assert(segment:slice(entry.index + 1, entry.index + 2)[1].file == event.file)
        -- A text says less: where it begins is not known.
        local text = trace.parse('openat(AT_FDCWD, "a", O_RDONLY) = 3\nread(3, "x", 1) = 1\nchdir("/tmp") = 0\n'
          .. 'openat(AT_FDCWD, "b/../c", O_RDONLY) = 4\nread(4, "x", 1) = 1\nfstat(5</x/y>, 0x1) = 0\n')
        local files = {}
        for i, e in ipairs(text) do files[i] = e.file or "?" end
        assert(table.concat(files, " ") == "? ? /tmp /tmp/c /tmp/c /x/y", table.concat(files, " "))
        assert(text:find { path = "/tmp/c", nth = 2 }.index == 4)
    "#;
    folder.script(script).ok();
    let events = folder
        .rrapper(["events", "rec", "--path", "sub/text"])
        .ok()
        .text();
    assert!(
        events.contains("openat") && events.contains("read(") && !events.contains("chdir"),
        "{events}"
    );
    folder.write("t.strace", "chdir(\"/tmp\") = 0\nopenat(AT_FDCWD, \"x/../c\", O_RDONLY) = 3\nclose(3) = 0\nclose(4) = 0\n");
    let lines = folder
        .rrapper(["trace", "print", "--path", "/tmp//c", "t.strace"])
        .ok()
        .text();
    assert_eq!(lines.lines().count(), 2, "{lines}");
}
