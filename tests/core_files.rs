//! Live programs write no core files, and are not told.

use crate::common::{Folder, as_user};

/// Sets and asks for the limit in all ways.
const LIMITS: &str = r#"
import os, resource as r
print(r.getrlimit(r.RLIMIT_CORE)[1] != 1)
r.setrlimit(r.RLIMIT_CORE, (3, 9)); print(*r.getrlimit(r.RLIMIT_CORE))
print(*r.prlimit(0, r.RLIMIT_CORE, (1, 8)), *r.prlimit(os.getpid(), r.RLIMIT_CORE))
try: r.setrlimit(r.RLIMIT_CORE, (9, 8))
except ValueError as e: print(e)
try: r.setrlimit(r.RLIMIT_CORE, (3, 90)); print("raised")
except ValueError as e: print("not raised")
r.setrlimit(r.RLIMIT_CORE, (3, 8))
a, b = os.pipe()
if (child := os.fork()) == 0:
    os.read(a, 1)
    print("child", *r.getrlimit(r.RLIMIT_CORE), flush=True)
    os._exit(0)
print(*r.prlimit(child, r.RLIMIT_CORE, (2, 3)))
os.write(b, b"!"); os.waitpid(child, 0)
print("parent", *r.getrlimit(r.RLIMIT_CORE))
print(*[l.split()[4:6] for l in open("/proc/self/limits") if l.startswith("Max core")], flush=True)
os.execvp("bash", ["bash", "-c", "ulimit -Sc; ulimit -Hc; kill -SEGV $$"])
"#;

fn limits(root: bool) -> String {
    let raised = if root { "raised" } else { "not raised" };
    format!(
        "True\n3 9\n3 9 1 8\ncurrent limit exceeds maximum limit\n{raised}\n3 8\nchild 2 3\nparent 3 8\n['1', '1']\n\
         0\n0\n"
    )
}

#[test]
fn programs_see_the_limit_that_they_set() {
    let folder = Folder::new();
    folder.write("limits.py", LIMITS);
    for sandbox in ["cow", "none"] {
        let done = folder.script(&format!(
            "local o = live{{ 'python3', '-u', 'limits.py', sandbox = '{sandbox}' }}\n\
             io.write(o.stdout, o.stderr) assert(o.status == 'signaled' and o.signal == 'SIGSEGV', o)"
        ));
        // bash counts in kilobytes.
        let root = nix::unistd::geteuid().is_root();
        assert_eq!(done.ok().text(), limits(root), "{sandbox}");
    }
    assert!(!folder.join("core").exists());
}

/// Ways to die without a signal that a tracer sees, with a core file otherwise.
#[test]
fn deaths_without_a_stop_are_what_they_are() {
    let folder = Folder::new();
    folder.compile("unseen_death", &[]);
    for (way, signal) in [
        ("frame", "SIGSEGV"),
        ("filter", "SIGSYS"),
        ("signal", "SIGABRT"),
    ] {
        for sandbox in ["cow", "none"] {
            folder
                .script(&format!(
                    "local o = live{{ './unseen_death', '{way}', sandbox = '{sandbox}' }}\n\
                     assert(o.signal == '{signal}' and o.stdout == 'unlimited\\n', tostring(o) .. o.stdout)"
                ))
                .ok();
        }
    }
    let left: Vec<_> = std::fs::read_dir(folder.path())
        .unwrap()
        .flatten()
        .collect();
    assert_eq!(left.len(), 1, "{left:?}");
}

#[test]
fn a_copy_keeps_the_limit_that_it_had_set() {
    let folder = Folder::new();
    let script = "ulimit -Sc 0; ulimit -Hc 7; echo mark; ulimit -Hc; ulimit -Sc; kill -SEGV $$";
    folder.record("rec", &["bash", "-c", script]);
    let done = folder.script(
        "rr.open 'rec' rr.replay_to(rr.find{ syscall = 'write' })\n\
         local o = spin_off():live() io.write(o.stdout) assert(o.signal == 'SIGSEGV', o)",
    );
    assert_eq!(done.ok().text(), "mark\n7\n0\n");
}

#[test]
fn all_that_holds_for_users() {
    as_user(&["core_files::", "--skip", "all_that_holds_for_users"]);
}
