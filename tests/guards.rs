//! Calls of live processes that rrapper answers or changes: tasks that would hide or outlive the run, the memory from which
//! it makes its own calls, and what a sandbox does not separate from the machine.

use crate::common::{Folder, as_user};
use rrapper::inject::{self, NoHooks, Options, Sandbox, Status};
use rrapper::sandbox::{Limits, Settings};
use rrapper::tracee::{Command, Stdin};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Both kinds of place that a program can run in.
const SANDBOXES: [&str; 2] = ["none", "cow"];

/// A folder with the program in it, which does nothing before `live` is there.
fn folder() -> (Folder, String) {
    let folder = Folder::new();
    let program = folder.compile("guards", &["-pthread"]);
    (folder, program)
}

/// What these probes print in `live{}`, and in a copy of a recording that goes live.
fn probe(which: &str, sandbox: &str) -> [String; 2] {
    let (folder, program) = folder();
    folder.record_without_files("rec", &[&program, which]);
    folder.write("live", "");
    let script = format!(
        r#"local hooks = {{ getuid = {{ ret = 4242 }}, sandbox = "{sandbox}", timeout = 60 }}
           rr.open "rec"
           local copy = rr.replay_to(rr.find{{ syscall = "access", path = "*begin" }}):spin_off()
           local o = copy:live(hooks)
           assert(o.exit_code == 0, tostring(o) .. o.stderr)
           io.write(o.stdout, "--\n")
           local o = live{{ "{program}", "{which}", stdin = "", sandbox = "{sandbox}", timeout = 60,
               hooks = {{ getuid = {{ ret = 4242 }} }} }}
           assert(o.exit_code == 0, tostring(o) .. o.stderr)
           io.write(o.stdout)"#
    );
    let text = folder.script(&script).ok().text();
    nothing_is_left(&folder);
    let (copy, program) = text.split_once("--\n").unwrap();
    [copy.to_string(), program.to_string()]
}

/// Checks that none of the folder's programs runs any more.
#[track_caller]
fn nothing_is_left(folder: &Folder) {
    let begun = Instant::now();
    loop {
        let running = std::fs::read_dir("/proc").unwrap().flatten().find(|entry| {
            let exe = std::fs::read_link(entry.path().join("exe"));
            exe.is_ok_and(|exe| exe.starts_with(folder.path()))
        });
        let Some(entry) = running else { return };
        let late = begun.elapsed() > Duration::from_secs(5);
        assert!(!late, "{} is left", entry.path().display());
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// The results of probes: lines of a name and what is expected.
#[track_caller]
fn expect(got: &str, expected: &[(&str, &str)]) {
    let lines: Vec<_> = got
        .lines()
        .filter_map(|line| line.split_once(": "))
        .collect();
    assert_eq!(lines, expected, "{got}");
}

#[test]
fn all_tasks_are_seen() {
    const EXPECTED: &[(&str, &str)] = &[
        ("fork", "seen"),
        ("clone", "seen"),
        ("clone untraced", "seen"),
        ("clone3 untraced", "seen"),
        ("clone3 with outputs", "ok"),
        ("clone3", "seen"),
        ("clone3 larger", "seen"),
        ("clone3 of the future", "E2BIG"),
        ("clone3 small", "EINVAL"),
        ("clone3 huge", "E2BIG"),
        ("clone3 nowhere", "EFAULT"),
        ("foreign fork", "ENOSYS"),
        ("x32 getpid", "ENOSYS"),
        ("registers", "same, same"),
    ];
    for sandbox in SANDBOXES {
        for got in probe("tasks", sandbox) {
            expect(&got, EXPECTED);
        }
    }
}

#[test]
fn tasks_are_seen_whatever_another_thread_does_to_their_flags() {
    for sandbox in SANDBOXES {
        for got in probe("race", sandbox) {
            expect(&got, &[("unseen", "0")]);
        }
    }
}

#[test]
fn no_task_outlives_the_run() {
    let (folder, program) = folder();
    folder.write("live", "");
    for sandbox in SANDBOXES {
        let script = format!(
            r#"local o = live{{ "{program}", "linger", stdin = "", sandbox = "{sandbox}", timeout = 0.5 }}
               assert(o.status == "timeout" and o.stdout == "made: 110\n", tostring(o) .. o.stdout)"#
        );
        folder.script(&script).ok();
        nothing_is_left(&folder);
    }
}

/// Runs the program in a sandbox with these settings.
fn with_settings(
    folder: &Folder,
    program: &str,
    which: &str,
    settings: Settings,
) -> (Status, String) {
    let command = Command {
        exe: program.into(),
        argv: vec![program.into(), which.into()],
        cwd: Some(folder.path().into()),
        stdin: Stdin::Bytes(Vec::new()),
        ..Command::default()
    };
    let options = Options {
        sandbox: Sandbox::Cow,
        settings: Arc::new(settings),
        timeout: Duration::from_secs(if which == "many" { 3 } else { 60 }),
        ..Options::default()
    };
    let outcome = inject::run(&command, &mut NoHooks, &options).unwrap();
    nothing_is_left(folder);
    let text = String::from_utf8_lossy(&outcome.stdout).into_owned();
    (outcome.status, text)
}

#[test]
fn the_number_of_tasks_is_limited_for_all_users() {
    let (folder, program) = folder();
    folder.write("live", "");
    let settings = Settings {
        limits: Limits {
            processes: 20,
            ..Limits::default()
        },
        ..Settings::default()
    };
    let (status, text) = with_settings(&folder, &program, "many", settings);
    assert_eq!(status, Status::Timeout);
    let made = text
        .strip_prefix("made ")
        .and_then(|rest| rest.split_once(": "));
    let (made, error) = made.unwrap();
    assert_eq!(error, "EAGAIN\n");
    // The kernel counts the user's other processes, too.
    let made: u32 = made.parse().unwrap();
    match nix::unistd::geteuid().is_root() {
        true => assert_eq!(made, 19),
        false => assert!(made <= 19, "{text}"),
    }
}

#[test]
fn calls_that_nobody_would_see_are_refused() {
    const ALWAYS: &[(&str, &str)] = &[
        ("io_uring_setup", "ENOSYS"),
        ("io_uring_enter", "ENOSYS"),
        ("io_uring_register", "ENOSYS"),
        ("userfaultfd", "ENOSYS"),
    ];
    const MACHINE: &[(&str, &str)] = &[
        ("perf_event_open", "EACCES"),
        ("bpf", "EPERM"),
        ("kexec_load", "EPERM"),
        ("syslog", "EPERM"),
        ("swapon", "EPERM"),
        ("swapoff", "EPERM"),
        ("quotactl", "EPERM"),
        ("acct", "EPERM"),
        ("fanotify_init", "EPERM"),
    ];
    const DISPATCH: &[(&str, &str)] = &[("dispatch", "EINVAL"), ("no dispatch", "ok")];
    for got in probe("machine", "cow") {
        expect(&got, &[ALWAYS, MACHINE, DISPATCH].concat());
    }
    for got in probe("unseen", "none") {
        expect(&got, &[ALWAYS, DISPATCH].concat());
    }
}

#[test]
fn a_program_is_said_to_miss_what_was_refused() {
    let (folder, program) = folder();
    folder.write("live", "");
    let script = format!(
        r#"local o = live{{ "{program}", "unseen", "unseen", stdin = "", timeout = 60 }}
           for _, what in ipairs(o.missing) do print((what:match "^[^:]*")) end"#
    );
    let text = folder.script(&script).ok().text();
    let told = |name: &str| text.lines().filter(|line| *line == name).count();
    let names = ["io_uring", "userfaultfd", "syscall user dispatch"];
    assert_eq!(names.map(told), [1, 1, 1], "{text}");
}

#[test]
fn the_agents_pages_stay() {
    const EXPECTED: &[(&str, &str)] = &[
        ("mprotect", "ENOMEM"),
        ("mprotect from below", "ENOMEM"),
        ("pkey_mprotect", "ENOMEM"),
        ("munmap", "ENOMEM"),
        ("munmap of all", "ENOMEM"),
        ("munmap behind", "ENOMEM"),
        ("mmap over", "ENOMEM"),
        ("mremap away", "ENOMEM"),
        ("mremap over", "ENOMEM"),
        ("MADV_DONTNEED", "ENOMEM"),
        ("MADV_DONTFORK", "ENOMEM"),
        ("MADV_GUARD_INSTALL", "ENOMEM"),
        ("process_madvise", "EINVAL"),
        ("remap_file_pages", "EINVAL"),
        ("shmat over", "EINVAL"),
        ("shmdt", "EINVAL"),
        ("/proc/self/mem", "EIO"),
        ("process_vm_writev", "EFAULT"),
        ("read into it", "EFAULT"),
        ("page", "same"),
        ("page of a child", "same"),
    ];
    for sandbox in SANDBOXES {
        let mut expected = EXPECTED.to_vec();
        if sandbox == "cow" {
            // All of /proc is read-only there.
            let memory = expected
                .iter_mut()
                .find(|(name, _)| *name == "/proc/self/mem");
            memory.unwrap().1 = "EROFS";
        }
        for got in probe("pages", sandbox) {
            expect(&got, &expected);
        }
    }
}

/// A program that has no descriptor left executes another one all the same, in which rrapper can make calls.
#[test]
fn a_program_without_descriptors_executes_another() {
    let folder = Folder::new();
    // The dynamic loader would need a descriptor.
    let program = folder.compile("guards", &["-pthread", "-static"]);
    folder.write("live", "");
    let script = format!(
        r#"for _, sandbox in ipairs{{ "none", "cow" }} do
             local o = live{{ "sh", "-c", "ulimit -n 3; exec {program} filter tasks", stdin = "", sandbox = sandbox,
                 timeout = 60, hooks = {{ getuid = {{ ret = 4242 }} }} }}
             assert(o.exit_code == 0, tostring(o) .. o.stderr)
             io.write(o.stdout)
           end"#
    );
    let text = folder.script(&script).ok().text();
    assert_eq!(text.matches("filter: ok\n").count(), 2, "{text}");
    // There is no page that they cannot change, so no clone3.
    assert_eq!(
        text.matches("clone3 untraced: ENOSYS\n").count(),
        2,
        "{text}"
    );
    assert_eq!(text.matches("clone untraced: seen\n").count(), 2, "{text}");
}

/// Calls that rrapper makes in a process end with the limit, too: one does not return, another is interrupted without end.
#[test]
fn the_time_limit_holds_while_calls_are_made_in_a_process() {
    let (folder, program) = folder();
    folder.write("live", "");
    for sandbox in SANDBOXES {
        for which in ["stall", "flood"] {
            let script = format!(
                r#"local o = live{{ "{program}", "{which}", stdin = "", sandbox = "{sandbox}", timeout = 0.5 }}
                   assert(o.status == "timeout", tostring(o) .. o.stdout .. o.stderr)"#
            );
            let begun = Instant::now();
            folder.script(&script).ok();
            let took = begun.elapsed();
            assert!(took < Duration::from_secs(20), "{which}: {took:?}");
            nothing_is_left(&folder);
        }
    }
}

#[test]
fn a_sandbox_has_no_namespaces_within() {
    const KINDS: [&str; 7] = ["user", "mount", "pid", "net", "ipc", "uts", "cgroup"];
    let mut expected = Vec::new();
    for kind in KINDS {
        let errno = if kind == "user" { "ENOSPC" } else { "EPERM" };
        for call in ["unshare", "clone", "clone3"] {
            expected.push((format!("{call} {kind}"), errno));
        }
    }
    expected.push(("unshare time".into(), "EPERM"));
    expected.push(("clone3 time".into(), "EPERM"));
    expected.push(("clone3 into a cgroup".into(), "EACCES"));
    expected.push(("setns".into(), "EPERM"));
    expected.push(("unshare files".into(), "ok"));
    let expected: Vec<_> = expected
        .iter()
        .map(|(name, e)| (name.as_str(), *e))
        .collect();
    for got in probe("namespaces", "cow") {
        expect(&got, &expected);
    }
}

#[test]
fn a_sandbox_has_only_sockets_of_its_own_network() {
    const EXPECTED: &[(&str, &str)] = &[
        ("unix", "ok"),
        ("tcp", "ok"),
        ("udp6", "ok"),
        ("raw", "EPERM"),
        ("raw6", "EPERM"),
        ("old packet", "EPERM"),
        ("dccp", "EPROTONOSUPPORT"),
        ("packet", "EPERM"),
        ("vsock", "EAFNOSUPPORT"),
        ("alg", "EAFNOSUPPORT"),
        ("bluetooth", "EAFNOSUPPORT"),
        ("can", "EAFNOSUPPORT"),
        ("route", "ok"),
        ("uevent", "ok"),
        ("audit", "EPROTONOSUPPORT"),
        ("generic", "EPROTONOSUPPORT"),
        ("pair", "ok"),
        ("pair of tipc", "EAFNOSUPPORT"),
    ];
    for got in probe("sockets", "cow") {
        expect(&got, EXPECTED);
    }
    let (folder, program) = folder();
    folder.write("live", "");
    let settings = Settings {
        network: false,
        ..Settings::default()
    };
    let (_, text) = with_settings(&folder, &program, "sockets", settings);
    let without: Vec<_> = EXPECTED
        .iter()
        .map(|&(name, errno)| match name {
            "tcp" | "udp6" | "raw" | "raw6" | "old packet" | "dccp" => (name, "EAFNOSUPPORT"),
            _ => (name, errno),
        })
        .collect();
    expect(&text, &without);
}

/// The same tests as a user without privileges, where they run as root.
#[test]
fn as_user_guards_hold() {
    as_user(&["guards::", "--skip", "as_user"]);
}

#[test]
fn nothing_lasts_in_what_a_sandbox_keeps() {
    let folder = Folder::new();
    folder.compile("lasting", &[]);
    let script = r#"for _ = 1, 6 do
            local o = live{ "./lasting", timeout = 20 }
            assert(o.exit_code == 0, tostring(o) .. o.stderr)
            io.write(o.stdout)
        end"#;
    let said = folder.script(script).ok().text();
    let expected = "limit: own\nlimit of the first: EPERM\nterminals: own\nlink: own\nqueue: own\nname: ok\n\
                    on its way: ok\nhuge pages: ENOMEM\nkeys: few\n";
    assert_eq!(said, expected.repeat(6));
}

#[test]
fn control_groups_are_out_of_reach_also_with_namespaces() {
    let folder = Folder::new();
    folder.compile("lasting", &[]);
    let script = r#"local o = live{ "./lasting", "groups", sandbox = { namespaces = true } }
        assert(o.exit_code == 0, tostring(o) .. o.stderr)
        io.write(o.stdout)"#;
    let said = folder.script(script).ok().text();
    assert_eq!(
        said,
        "own control groups: ENOSPC\nown mounts: ok\ncontrol groups: EPERM\n"
    );
}

#[test]
fn processes_that_nobody_waits_for_count() {
    let folder = Folder::new();
    folder.compile("lasting", &[]);
    let script = r#"local o = live{ "./lasting", "zombies", timeout = 60 }
        assert(o.exit_code == 0, tostring(o) .. o.stderr)
        io.write(o.stdout)"#;
    let said = folder.script(script).ok().text();
    assert_eq!(said, "one more: EAGAIN\nmade: some, then 1000\n");
}

#[test]
fn a_program_without_room_for_a_page_is_told_of() {
    let folder = Folder::new();
    folder.compile("lasting", &[]);
    let small = folder.compile_as("small", "static", &["-static"]);
    let script = format!(
        r#"local o = live{{ "./lasting", "run", "{small}" }}
           print(o.status, o.reason)"#
    );
    let said = folder.script(&script).ok().text();
    assert!(
        said.starts_with("stopped\tthe limits on its memory (RLIMIT_AS, RLIMIT_DATA)"),
        "{said}"
    );
}
