//! Programs have the stacks that they were given: the limit that rrapper was started with is theirs, and holds when they
//! are replayed under another one.

use crate::common::{Done, Folder, RRAPPER};

/// Runs a command under this limit, which may be raised again.
fn limited(folder: &Folder, limit: &str, argv: &[&str]) -> Done {
    let script = format!("ulimit -S -s {limit}; exec \"$@\"");
    let mut command = folder.command("sh");
    let output = command.args(["-c", &script, "sh"]).args(argv).output();
    output.expect("a shell").into()
}

#[track_caller]
fn check(limit: &str) {
    let folder = Folder::new();
    let program = folder.compile_as("edges", "steps/edges", &["-pthread"]);
    let steps = ["stack_of_limited_size", "stack_limit_of_a_child"];
    let argv = [&[program.as_str()][..], &steps].concat();
    let natively = limited(&folder, limit, &argv).ok().text();
    let record = [&[RRAPPER, "record", "-q", "-o", "rec", "--"][..], &argv].concat();
    assert_eq!(limited(&folder, limit, &record).ok().text(), natively);
    for replayed_under in [limit, "hard"] {
        let replay = limited(&folder, replayed_under, &[RRAPPER, "replay", "rec"]);
        assert_eq!(
            replay.ok().text(),
            natively,
            "replayed under {replayed_under}"
        );
    }
}

#[test]
fn a_small_stack() {
    check("64");
}

#[test]
fn a_stack_without_limit() {
    check("unlimited");
}

/// Copies at many of its events come to the same depths, by their recording and live; `WANT` is all that it said.
const COPIES: &str = r#"
local rec = rr.open "rec"
local life = rec:processes()[1]
local points = {}
for at = life.first, life.last, 15 do points[#points + 1] = at end
-- The thread that such a call makes may have begun before its maker knows of it.
for event in rr.events { pid = life.pid, syscall = "clone3" } do points[#points + 1] = event.event end
for _, at in ipairs(points) do
  for how, go in pairs {
    inject = function(copy) return copy:inject { timeout = 60 } end,
    live = function(copy) return copy:live { timeout = 60 } end,
    machine = function(copy) return copy:live { timeout = 60, sandbox = "none" } end,
  } do
    rec:replay_to(at)
    local out = go(spin_off(life.pid))
    local where = how .. " at event " .. at .. ": " .. out.stdout
    assert(out.status == (life.exit.code and "exited" or "signaled"), out.status .. " " .. where)
    assert((out.exit_code or out.signal) == (life.exit.code or life.exit.signal), where)
    assert(#out.stdout > 0 or life.exit.signal or at > life.last - 15, where)
    assert(WANT:sub(#WANT - #out.stdout + 1) == out.stdout, where)
  end
end
print(#points > 2)
"#;

#[track_caller]
fn check_copies(limit: &str, mode: &str) {
    let folder = Folder::new();
    let program = folder.compile("stacks", &["-pthread"]);
    let record = [RRAPPER, "-q", "record", "-o", "rec", "--", &program, mode];
    let recorded = limited(&folder, limit, &record).text();
    assert!(recorded.starts_with("begin\n"), "{recorded}");
    let script = format!("local WANT = [[\n{recorded}]]\n{COPIES}");
    assert_eq!(folder.script(&script).ok().text(), "true\n");
}

#[test]
fn stacks_of_copies_grow_as_recorded() {
    for limit in ["8192", "64", "unlimited"] {
        check_copies(limit, "own");
    }
}

#[test]
fn stacks_of_threads_of_copies_grow_as_recorded() {
    check_copies("8192", "thread");
}

#[test]
fn copies_die_where_their_stacks_end() {
    check_copies("8192", "dies");
    check_copies("8192", "dies without room for its handler");
}

#[test]
fn stacks_of_what_copies_make_grow_as_recorded() {
    let folder = Folder::new();
    let program = folder.compile("stacks", &["-pthread"]);
    let recorded = folder.record("rec", &[&program, "child"]).ok().text();
    assert_eq!(recorded.lines().count(), 3, "{recorded}");
    let script = "local rec = rr.open 'rec'\nrec:replay_to(1)\nio.write(spin_off():live().stdout)";
    assert_eq!(folder.script(script).ok().text(), recorded);
}
