//! Copies of processes that are driven by their own recording: they end as recorded, and cost no more memory the more
//! data they move.

use crate::common::Folder;

/// Copies of each process, at its first event and at its last, end as the process did.
const ENDS: &str = r#"
local rec = rr.open "rec"
local tried = 0
for _, life in ipairs(rec:processes()) do
  for _, at in ipairs { life.first, life.last } do
    rec:replay_to(at)
    local out = spin_off(life.pid):inject { timeout = 60 }
    local ended = out.exit_code or out.signal
    assert(not out.divergence, tostring(out.divergence and out.divergence.actual))
    assert(out.status == (life.exit.code and "exited" or "signaled"), out.status)
    assert(ended == (life.exit.code or life.exit.signal), "event " .. at .. ": " .. tostring(ended))
    tried = tried + 1
  end
end
print(tried)
"#;

#[test]
fn who_is_killed_in_a_call_ends_so() {
    let folder = Folder::new();
    let program = folder.compile("killed_waiting", &["-pthread"]);
    let plain = folder.plain(&[&program]).ok().text();
    assert_eq!(folder.record("rec", &[&program]).ok().text(), plain);
    assert_eq!(plain.lines().filter(|line| *line == "-1 9").count(), 9);
    assert_eq!(plain.lines().filter(|line| *line == "5 0").count(), 6);
    assert_eq!(folder.script(ENDS).ok().text(), "50\n");
}

/// A copy that is driven by its recording finds in memory what calls that failed half-way have left there.
#[test]
fn calls_that_fail_half_way_leave_in_copies_what_they_did() {
    let folder = Folder::new();
    let program = folder.compile_as("partial", "steps/partial", &["-pthread"]);
    let recorded = folder.record("rec", &[&program]).ok().text();
    assert!(
        recorded.ends_with("removed_up_to_what_cannot_be: ok\n"),
        "{recorded}"
    );
    let driven = r#"
        local rec = rr.open "rec"
        for _, part in ipairs { 0, 1, 2 } do
          rec:replay_to(1 + #rec * part // 3)
          local out = spin_off():inject { timeout = 60 }
          assert(not out.divergence, tostring(out.divergence and out.divergence.actual))
          assert(WANT:sub(#WANT - #out.stdout + 1) == out.stdout and #out.stdout > 0, out.stdout)
        end
        print(#rec > 100)"#;
    let script = format!("local WANT = [[\n{recorded}]]\n{driven}");
    assert_eq!(folder.script(&script).ok().text(), "true\n");
}

/// What the process that runs the script holds at most, in MiB, before and after a copy has moved 32 MiB in and out.
const MOVES: &str = r#"
local function most()
  for line in io.lines "/proc/self/status" do
    local kib = line:match "^VmHWM:%s*(%d+)"
    if kib then return tonumber(kib) // 1024 end
  end
end
local rec = rr.open "rec"
local begin = rec:find { syscall = "openat", path = "data" }
local function moves(how)
  rec:replay_to(begin)
  local before = most()
  local out = how(spin_off())
  assert(out.status == "exited" and out.exit_code == 0, out.status)
  local reads, moved = 0, 0
  for _, call in ipairs(out.calls) do
    if call.name == "read" then reads, moved = reads + 1, moved + call.ret end
  end
  assert(moved >= 32 << 20, moved)
  local more = most() - before
  assert(more < 44, "it takes " .. more .. " MiB more")
  return out
end
moves(function(copy) return copy:inject { timeout = 60 } end)
local live = moves(function(copy) return copy:live { timeout = 60 } end)
assert(#live.files == 1 and live.files[1].path:match "/copy$", "the file that it wrote")
print "ok"
"#;

#[test]
fn what_is_moved_is_not_held() {
    let folder = Folder::new();
    folder.write("data", vec![b'x'; 32 << 20]);
    let copying = ["dd", "if=data", "of=copy", "bs=64k", "status=none"];
    folder.record("rec", &copying).ok();
    std::fs::remove_file(folder.join("copy")).unwrap();
    assert_eq!(folder.script(MOVES).ok().text(), "ok\n");
}
