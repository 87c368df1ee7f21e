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
