//! Faults of one process whose effect is seen by another: what the real family does about them, as `strace` shows it, is what
//! the recorded family does that goes on live.

use crate::common::Folder;

/// A fault in a recorded family.
struct Fault {
    /// What there is before.
    setup: &'static str,
    /// The program for `bash -c`; `$T` stands before the one that is to have the fault, with what it starts.
    program: &'static str,
    /// What the last path component of the victim's program begins with.
    victim: &'static str,
    /// A call of the victim: its name, its ordinal (0: each), and its path for strace, or "".
    call: (&'static str, usize, &'static str),
    /// In a rule's words, and in strace's.
    fault: (&'static str, &'static str),
}

const KILL: (&str, &str) = (r#"signal = "KILL""#, "signal=KILL");

/// What the family writes and how it ends, without addresses.
fn told(stdout: &str, stderr: &str, end: &str) -> String {
    let lines = stdout.lines().chain(stderr.lines());
    let left_out = ["0x", "\t", "strace: Requested path"];
    let kept = lines.filter(|line| !left_out.iter().any(|start| line.starts_with(start)));
    let kept: Vec<&str> = kept.collect();
    format!("{}\n{end}", kept.join("\n"))
}

#[track_caller]
fn is_as_really(fault: &Fault) -> String {
    let (call, ordinal, path) = fault.call;
    let (rule, strace) = fault.fault;
    let made = || {
        let folder = Folder::new();
        folder.plain(&["bash", "-ec", fault.setup]).ok();
        folder
    };
    let real = made();
    let mut how = format!("strace -f -qq -o /dev/null -e trace={call} -e inject={call}:{strace}");
    if ordinal > 0 {
        how += &format!(":when={ordinal}");
    }
    if !path.is_empty() {
        how += &format!(" -P {path}");
    }
    let program = ["-k", "1", "30", "bash", "-c", fault.program];
    let output = real.command("timeout").args(program).env("T", how).output();
    let done = crate::common::Done::from(output.expect("strace runs"));
    let really = told(&done.text(), &done.stderr, &format!("{:?}", done.code));

    let folder = made();
    let argv = ["bash", "-c", fault.program];
    folder.record("rec", &argv).ok();
    let of_path = match path {
        "" => String::new(),
        path => format!("path = \"*{path}\","),
    };
    let once = match ordinal {
        0 => "pid = \"any\"",
        _ => "when = \"1\"",
    };
    let script = format!(
        r#"
        local rec = rr.open "rec"
        local function find(pid)
            local start, count = 0, 0
            for event in rec:events{{ pid = pid, syscall = "execve" }} do
                if event.ret == 0 and "{call}" ~= "execve" then start = event.event end
            end
            for event in rec:events{{ pid = pid, syscall = "{call}", {of_path} }} do
                if event.event > start then
                    count = count + 1
                    if count == math.max({ordinal}, 1) then return event end
                end
            end
        end
        local pid, at
        for _, process in ipairs(rec:processes()) do
            if not at and process.exe:match "[^/]*$":find("{victim}", 1, true) == 1 then
                pid = process.pid
                at = find(pid)
            end
        end
        local copy <close> = rec:replay_to(at):spin_off(pid)
        local outcome = copy:inject{{
            ["{call}"] = {{ {rule}, {of_path} {once} }}, on_divergence = "live", finally = "live", timeout = 30,
        }}
        io.stdout:write(outcome.stdout)
        io.stderr:write(outcome.stderr)
        print("\nends", outcome.status, outcome.exit_code)
        "#,
        victim = fault.victim,
    );
    let done = folder.script(&script).ok();
    let text = done.text();
    let (stdout, end) = text.rsplit_once("\nends\t").expect("the end");
    let code = end.trim().strip_prefix("exited\t");
    let code = code.and_then(|code| code.parse::<i32>().ok());
    let ours = told(stdout, &done.stderr, &format!("{code:?}"));
    assert_eq!(ours, really, "{}: {call} {strace}", fault.program);
    ours
}

const GIT: &str = "git init -q; git config user.email a@b; git config user.name n; echo a >a; git add a; \
    printf '#!/bin/sh\necho hook ran\n' >.git/hooks/pre-commit; chmod +x .git/hooks/pre-commit";
const MAKE: &str = "printf 'all: one two\none:\n\t/bin/true one\ntwo: one m.o\n\t/bin/echo two\n' >Makefile; \
    echo 'int main(void) { return 0; }' >m.c";
const PREFORK: &str = r#"echo work >job; cat >master.py <<'end'
import os
for n in range(3):
    pid = os.fork()
    if pid == 0:
        print("worker", n, open("job").read(), flush=True)
        os._exit(0)
    status = os.waitpid(pid, 0)[1]
    print("ended with", status, flush=True)
    if status == 0:
        break
end"#;
const SERVED: &str = r#"
coproc $S /usr/bin/python3 -S -c '
import socket, time
s = socket.create_server(("127.0.0.1", 0))
print(s.getsockname()[1], flush=True)
c, _ = s.accept(); time.sleep(0.3)  # The request is there.
try:
    c.recv(4096); c.sendall(b"HTTP/1.0 200 OK\r\nContent-Length: 300000\r\n\r\n" + b"x" * 300000); c.recv(4096)
except OSError:
    pass
'
read -r port <&"${COPROC[0]}"
$T curl --noproxy '*' -sS -o got "http://127.0.0.1:$port/file" 2>&1 | sed "s/port [0-9]*/port/; s/after [0-9]* ms/after/; s/with [0-9]* bytes.*/with bytes/"
echo "curl: ${PIPESTATUS[0]}"
"#;

/// A compiler's pass is killed: what does the driver say, and what does `make`?
#[test]
fn a_pass_of_the_compiler_dies() {
    for program in ["$T gcc -c m.c", "$T make -s"] {
        let killed = Fault {
            setup: MAKE,
            program,
            victim: "cc1",
            call: ("read", 0, "m.c"),
            fault: KILL,
        };
        assert!(is_as_really(&killed).contains("Killed signal terminated program cc1"));
        is_as_really(&Fault {
            fault: (r#"signal = "SEGV""#, "signal=SEGV"),
            ..killed
        });
    }
}

#[test]
fn a_recipe_cannot_be_started() {
    let said = is_as_really(&Fault {
        setup: MAKE,
        program: "$T make -s",
        victim: "true",
        call: ("execve", 0, "/bin/true"),
        fault: (r#"fail = "ENOMEM""#, "error=ENOMEM"),
    });
    assert!(said.contains("Cannot allocate memory"), "{said}");
}

#[test]
fn a_hook_is_not_executable() {
    let said = is_as_really(&Fault {
        setup: GIT,
        program: "$T git commit -q -m first",
        victim: "git",
        call: ("access", 0, ".git/hooks/pre-commit"),
        fault: (r#"fail = "EACCES""#, "error=EACCES"),
    });
    assert!(!said.contains("hook ran"), "{said}");
}

/// One process of a pipeline fails or dies: its neighbours find closed pipes. (How much of a write goes out that waits when a
/// signal comes differs from run to run.)
#[test]
fn one_of_a_pipeline_fails() {
    let all = "echo ${PIPESTATUS[@]}";
    let cat = format!("$T /bin/cat input | sort | wc -l; {all}");
    let grep = format!("seq 200000 | $T grep 7 | wc -l; {all}");
    let sort = format!("seq 200000 | $T sort -S 100M -r | head -n 1; {all}");
    let enospc = (r#"fail = "ENOSPC""#, "error=ENOSPC");
    let eio = (r#"fail = "EIO""#, "error=EIO");
    let term = (r#"signal = "TERM""#, "signal=TERM");
    for (program, victim, call, fault) in [
        (&cat, "cat", ("read", 0, "input"), KILL),
        (&cat, "cat", ("read", 0, "input"), term),
        // Its neighbour has read a part of it when it returns.
        (&cat, "cat", ("write", 2, ""), enospc),
        (&cat, "cat", ("write", 2, ""), KILL),
        (&grep, "grep", ("write", 2, ""), enospc),
        (&grep, "grep", ("read", 6, ""), eio),
        (&grep, "grep", ("read", 6, ""), KILL),
        (&sort, "sort", ("read", 6, ""), eio),
        (&sort, "sort", ("write", 1, ""), enospc),
    ] {
        is_as_really(&Fault {
            setup: "seq 100000 >input",
            program: Box::leak(program.clone().into_boxed_str()),
            victim,
            call,
            fault,
        });
    }
}

/// A master sees that its worker is killed, and starts another.
#[test]
fn a_worker_is_killed() {
    let said = is_as_really(&Fault {
        setup: PREFORK,
        program: "$T /usr/bin/python3 -S master.py",
        victim: "python3",
        call: ("read", 0, "job"),
        fault: KILL,
    });
    assert!(said.contains("ended with 9"), "{said}");
}

/// A process does not notice that it fails, and ends as recorded: the others go on live all the same.
#[test]
fn a_failure_is_only_seen_by_another() {
    const SETUP: &str = r#"cat >heedless.py <<'end'
import os, sys
try:
    os.write(1, b"one\n")
except OSError:
    pass
if len(sys.argv) > 1:
    os.kill(os.getpid(), int(sys.argv[1]))
end"#;
    for (program, end) in [
        ("$T /usr/bin/python3 -S heedless.py", "0"),
        ("$T /usr/bin/python3 -S heedless.py 15", "143"),
    ] {
        let program =
            format!("{program} | (read x && echo got $x || echo nothing); echo ${{PIPESTATUS[@]}}");
        let said = is_as_really(&Fault {
            setup: SETUP,
            program: Box::leak(program.into_boxed_str()),
            victim: "python3",
            call: ("write", 1, ""),
            fault: (r#"fail = "ENOSPC""#, "error=ENOSPC"),
        });
        assert_eq!(said, format!("nothing\n{end} 0\nSome(0)"));
    }
}

/// What a client says whose connection is reset, or its server's.
#[test]
fn a_connection_is_reset() {
    let reset = (r#"fail = "ECONNRESET""#, "error=ECONNRESET");
    let program = |of: &str, other: &str| -> &'static str {
        let program = SERVED.replace(other, "").replace(of, "$T ");
        Box::leak(program.into_boxed_str())
    };
    for (call, ordinal) in [("recvfrom", 1), ("sendto", 1)] {
        is_as_really(&Fault {
            setup: ":",
            program: program("$S ", "$T "),
            victim: "python3",
            call: (call, ordinal, ""),
            fault: reset,
        });
    }
    for ordinal in [1, 2] {
        let reset = is_as_really(&Fault {
            setup: ":",
            program: program("$T ", "$S "),
            victim: "curl",
            call: ("recvfrom", ordinal, ""),
            fault: reset,
        });
        assert!(reset.contains("curl: 56"), "{reset}");
    }
}
