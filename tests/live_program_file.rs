//! Live processes are of their program's file: `/proc/PID/exe` shows and executes it.

use crate::common::{Folder, as_user};

/// Spins off at the program's mark and goes live; what it wrote is all that is printed.
const LIVE: &str = r#"
local rec = rr.open "rec"
rec:replay_to(rec:find { syscall = "access", path = "/mark" })
local out = spin_off():live { timeout = 30 }
for _, what in ipairs(out.missing) do
  if what:match "program" then io.write("missing: ", what, "\n") end
end
io.write(out.stdout, out.stderr)
print(out.status, out.exit_code)
"#;

fn recorded(env: &str) -> (Folder, String) {
    recorded_with(env, "touched")
}

fn recorded_with(env: &str, world: &str) -> (Folder, String) {
    let folder = Folder::new();
    let program = folder.compile("own_file", &["-pthread"]);
    let set = format!("{env}=1");
    let how = [
        "-q", "record", "--world", world, "-o", "rec", "--", "env", &set, &program,
    ];
    let recorded = folder.rrapper(how);
    let said = recorded.text();
    assert!(said.ends_with("executed by itself\n") || said.ends_with("executed by thread\n"));
    (folder, said)
}

/// What it says whatever its number: its recorded one is its number in the sandbox, too.
fn live_as_recorded(env: &str) {
    let (folder, said) = recorded(env);
    assert_eq!(said.matches("a program, the same").count(), 3, "{said}");
    assert!(said.contains("\nown_file\n"), "{said}");
    let live = folder.script(LIVE).ok().text();
    assert_eq!(live, said + "exited\t7\n");
}

#[test]
fn a_program_finds_and_executes_its_own_file() {
    live_as_recorded("ALONE");
}

#[test]
fn a_thread_executes_its_own_file() {
    live_as_recorded("BY_THREAD");
}

/// The file is gone, or another one: it executes the recording's copy, and the outcome says so.
#[track_caller]
fn from_the_recording(change: impl Fn(&std::path::Path)) {
    let (folder, _) = recorded_with("ALONE", "none");
    change(&folder.join("own_file"));
    let live = folder.script(LIVE).ok().text();
    let note = "own_file: it is not what was recorded, and the recording's copy is in its place";
    assert!(live.lines().next().unwrap().ends_with(note), "{live}");
    assert_eq!(live.matches("a program").count(), 3, "{live}");
    assert!(live.contains("executed by child\nchild 7\n"), "{live}");
    assert!(live.ends_with("executed by itself\nexited\t7\n"), "{live}");
}

#[test]
fn a_file_that_is_gone_comes_from_the_recording() {
    from_the_recording(|path| std::fs::remove_file(path).unwrap());
}

#[test]
fn a_file_that_has_changed_comes_from_the_recording() {
    from_the_recording(|path| {
        let mut bytes = std::fs::read(path).unwrap();
        let end = bytes.len() - 1;
        bytes[end] ^= 1;
        std::fs::remove_file(path).unwrap();
        std::fs::write(path, bytes).unwrap();
    });
}

#[test]
fn a_file_that_was_only_touched_is_still_it() {
    let (folder, said) = recorded("ALONE");
    let path = folder.join("own_file");
    let copy = folder.join("copy");
    std::fs::copy(&path, &copy).unwrap();
    std::fs::rename(&copy, &path).unwrap();
    let live = folder.script(LIVE).ok().text();
    assert_eq!(live, said + "exited\t7\n");
}

/// On the machine itself, the system may not let the process be of its program's file; it executes that all the same.
#[track_caller]
fn executes_without_a_sandbox() {
    for env in ["ALONE", "BY_THREAD"] {
        let (folder, said) = recorded(env);
        let script = LIVE.replace("timeout = 30", "timeout = 30, sandbox = 'none'");
        let last = said.lines().last().unwrap();
        for gone in [false, true] {
            if gone {
                std::fs::remove_file(folder.join("own_file")).unwrap();
            }
            let live = folder.script(&script).ok().text();
            assert!(live.contains("executed by child\nchild 7\n"), "{live}");
            assert!(live.ends_with(&format!("{last}\nexited\t7\n")), "{live}");
        }
    }
}

#[test]
fn a_program_executes_its_own_file_without_a_sandbox() {
    executes_without_a_sandbox();
}

/// Runs itself as a user without privileges.
#[test]
fn as_user_a_program_executes_its_own_file_without_a_sandbox() {
    if nix::unistd::geteuid().is_root() {
        return as_user(&[
            "--exact",
            "live_program_file::as_user_a_program_executes_its_own_file_without_a_sandbox",
        ]);
    }
    executes_without_a_sandbox();
}
