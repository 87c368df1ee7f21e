//! What other processes have not sent, since one had another answer than the recorded one: signals, and what makes descriptors
//! ready.

use crate::common::Folder;

/// The first process tells the second one to go on, which then does something that the third one waits for. All may go on when
/// the third one is about to wait.
const CHAIN: &str = r#"
import ctypes, os, select, selectors, signal, socket, sys
what, how = sys.argv[1:]
start, go, out, other = os.pipe(), os.pipe(), os.pipe(), os.pipe()
got = []

def wait():
    signal.alarm(60)
    signals = {signal.SIGUSR1, signal.SIGUSR2, signal.SIGCHLD}
    if how in ("sigwait", "signalfd", "poll_signalfd"):
        signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    else:
        for one in signals:
            signal.signal(one, lambda *_: got.append(1))
    if how.endswith("signalfd"):
        fd = ctypes.CDLL(None).signalfd(-1, ctypes.byref(ctypes.c_uint64(1 << (signal.SIGUSR1 - 1))), 0)
    if how in ("selectors", "epoll_two"):
        poll = selectors.EpollSelector()
        poll.register(out[0], selectors.EVENT_READ)
        poll.register(other[0], selectors.EVENT_READ)
    ready = lambda: os.write(start[1], b"ready")
    if how == "pause": ready(); signal.pause()
    elif how == "sigwait": ready(); signal.sigwait(signals)
    elif how == "signalfd": ready(); os.read(fd, 128)
    elif how == "poll_signalfd":
        poll = select.poll(); poll.register(fd, select.POLLIN); ready(); poll.poll(); os.read(fd, 128)
    elif how == "spin":
        ready()
        while not got: pass
    elif how == "between":
        ready()
        n = 0
        while not got: n += 1; n % 1000 or os.getppid()
    elif how == "select": ready(); select.select([out[0], other[0]], [], []); os.read(out[0], 10)
    elif how == "poll":
        poll = select.poll(); poll.register(out[0], select.POLLIN); ready(); poll.poll(); os.read(out[0], 10)
    elif how == "accept":
        listening = socket.socket(socket.AF_UNIX); listening.bind("./here"); listening.listen()
        ready(); select.select([listening], [], []); listening.accept()
    elif how == "selectors": ready(); poll.select(); os.read(out[0], 10)
    elif how == "epoll_two":
        ready()
        # What the first process sends comes first.
        assert [key.fd for key, _ in poll.select()] == [other[0]]
        os.read(other[0], 10)
        assert [key.fd for key, _ in poll.select()] == [out[0]]
        os.read(out[0], 10)

second = os.fork()
if second == 0:
    os.close(go[1]); os.close(out[0])
    os.read(go[0], 2)
    third = int.from_bytes(os.read(go[0], 4), "little")
    if how == "epoll_two": signal.sigtimedwait([], 0.2)
    try:
        if what.startswith("SIG"): os.kill(third, getattr(signal, what))
        elif what == "write": os.write(out[1], b"x")
        elif what == "connect": socket.socket(socket.AF_UNIX).connect("./here")
    except OSError: pass
    os._exit(0)
third = os.fork()
if third == 0:
    os.close(go[1]); os.close(out[1]); os.close(other[1])
    wait()
    os._exit(7)
os.close(out[1])
os.read(start[0], 10)
os.write(go[1], b"go")
if how == "epoll_two": os.write(other[1], b"y")
signal.sigtimedwait([], 0.1)
os.write(go[1], third.to_bytes(4, "little"))
os.waitpid(third, 0)
os.waitpid(second, 0)
"#;

/// What a script has to begin with.
const SCRIPT: &str = r#"
    local rec = rr.open "rec"
    local first, second, third = table.unpack(rec:processes())
    local names = { [first.pid] = "first", [second.pid] = "second", [third and third.pid or 0] = "third" }
    local function told(o)
        local d = o.divergence
        local why = tostring(d and d.doubt):gsub("process (%d+)", function(pid) return names[tonumber(pid)] end)
        print(o.status, d and names[d.pid], d and d.actual:match "^[%w_ ]+", (why:gsub(" at event %d+", "")))
    end
    local everyone = { on = "*", pid = "any", enter = function() end }
    -- Nothing is otherwise than recorded.
    local function control(at, pid)
        rr.replay_to(at)
        local o = spin_off(pid):inject{ everyone }
        assert(not o.divergence, tostring(o.divergence))
    end
"#;

struct Recorded(Folder);

impl Recorded {
    #[track_caller]
    fn python(program: &str, args: &[&str]) -> Recorded {
        let folder = Folder::new();
        folder.write("program.py", program);
        let command = ["/usr/bin/python3", "-S", "program.py"];
        folder.record("rec", &[&command[..], args].concat());
        Recorded(folder)
    }

    #[track_caller]
    fn says(&self, script: &str) -> String {
        self.0.script(&format!("{SCRIPT}{script}")).ok().text()
    }
}

/// The first process is told that it has written, so that the second one does nothing; the third one leaves the recording in
/// this call.
#[track_caller]
fn never_gets(what: &str, how: &str, call: &str, sent: &str) {
    let recorded = Recorded::python(CHAIN, &[what, how]);
    let text = recorded.says(
        r#"
        local write = rec:find{ pid = first.pid, syscall = "write", nth = 1 }
        control(write, third.pid)
        rr.replay_to(write)
        told(spin_off(third.pid):inject{ { on = "write", ret = write.ret, pid = first.pid, when = "1" } })
        "#,
    );
    assert_eq!(
        text,
        format!(
            "diverged\tthird\t{call}\tsecond, which would have {sent}, never got what first had sent\n"
        ),
        "{what} {how}"
    );
}

#[test]
fn a_signal_that_was_not_sent_ends_no_wait() {
    for (how, call) in [
        ("pause", "pause"),
        ("sigwait", "rt_sigtimedwait"),
        ("signalfd", "read"),
        ("poll_signalfd", "poll"),
    ] {
        never_gets("SIGUSR1", how, call, "sent SIGUSR1");
    }
    // These would have ended the process.
    never_gets("SIGTERM", "pause", "pause", "sent SIGTERM");
    never_gets("SIGKILL", "pause", "pause", "sent SIGKILL");
}

#[test]
fn a_signal_that_was_not_sent_does_not_come_between_calls() {
    never_gets("SIGUSR1", "between", "getppid", "sent SIGUSR1");
    never_gets("SIGUSR1", "spin", "no call", "sent SIGUSR1");
    never_gets("SIGTERM", "spin", "no call", "sent SIGTERM");
    never_gets("SIGKILL", "spin", "no call", "sent SIGKILL");
}

#[test]
fn what_was_not_sent_makes_nothing_ready() {
    for (how, call) in [
        ("select", "pselect6"),
        ("poll", "poll"),
        ("selectors", "epoll_wait"),
    ] {
        never_gets("write", how, call, "sent this");
    }
    never_gets("connect", "accept", "pselect6", "connected here");
    // The end of the second process closes the pipe.
    never_gets("nothing", "poll", "poll", "closed this");
    never_gets("nothing", "selectors", "epoll_wait", "closed this");
}

#[test]
fn what_others_have_made_ready_is_ready() {
    never_gets("write", "epoll_two", "epoll_wait", "sent this");
    let recorded = Recorded::python(CHAIN, &["write", "epoll_two"]);
    let text = recorded.says(
        r#"
        local write = rec:find{ pid = first.pid, syscall = "write", nth = 1 }
        rr.replay_to(write)
        local o = spin_off(third.pid):inject{ { on = "write", ret = write.ret, pid = first.pid, when = "1" } }
        -- The first wait and what follows it are as recorded.
        local wait = { pid = third.pid, syscall = "epoll_wait", from = write.event, nth = 2 }
        print(o.divergence.event == rec:find(wait).event)
        "#,
    );
    assert_eq!(text, "true\n");
}

#[test]
fn a_signal_of_which_the_sending_fails_is_not_received() {
    for (how, call) in [("pause", "pause"), ("sigwait", "rt_sigtimedwait")] {
        let recorded = Recorded::python(CHAIN, &["SIGUSR1", how]);
        let text = recorded.says(
            r#"
            local kill = rec:find{ pid = second.pid, syscall = "kill" }
            rr.replay_to(kill)
            told(spin_off(second.pid):inject{ everyone, { on = "kill", fail = "EPERM", pid = second.pid } })
            -- Live, the process waits in vain.
            rr.replay_to(kill)
            local o = spin_off(second.pid):inject{
                everyone, { on = "kill", fail = "EPERM", pid = second.pid }, on_divergence = "live", timeout = 1,
            }
            print(o.divergence ~= nil)
            -- A process that has ended sends no signal, and nothing ends before it was told to.
            rr.replay_to(kill)
            told(spin_off(second.pid):inject{ everyone, { on = "kill", signal = "SIGKILL", pid = second.pid } })
            "#,
        );
        assert_eq!(
            text,
            format!(
                "diverged\tthird\t{call}\tthe kill of second, which sent SIGUSR1, had another answer\n\
                 true\n\
                 diverged\tthird\t{call}\tsecond, which would have sent SIGUSR1, has ended before\n"
            )
        );
    }
}

#[test]
fn one_of_several_signals_is_enough() {
    let program = r#"
import os, signal
go = os.pipe()
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
parent = os.getpid()
if os.fork() == 0:
    for _ in range(2):
        try: os.kill(parent, signal.SIGUSR1)
        except OSError: pass
    os.write(go[1], b"x")
    os._exit(0)
os.read(go[0], 1)
signal.sigwait({signal.SIGUSR1})
"#;
    let recorded = Recorded::python(program, &[]);
    let text = recorded.says(
        r#"
        local kill = rec:find{ pid = second.pid, syscall = "kill" }
        for _, which in ipairs{ "1", "2", "1+" } do
            rr.replay_to(kill)
            told(spin_off(second.pid):inject{ everyone, { on = "kill", fail = "EPERM", when = which, pid = second.pid } })
        end
        "#,
    );
    assert_eq!(
        text,
        "exited\tnil\tnil\tnil\n\
         exited\tnil\tnil\tnil\n\
         diverged\tfirst\trt_sigtimedwait\tthe kill of second, which sent SIGUSR1, had another answer\n"
    );
}

#[test]
fn what_is_skipped_is_not_sent() {
    let program = r#"
import os, signal
ready = os.pipe()
signal.signal(signal.SIGUSR1, lambda *_: None)
parent = os.getpid()
if os.fork() == 0:
    os.read(ready[0], 1)
    if os.path.exists("/proc/self"): os.kill(parent, signal.SIGUSR1)
    os._exit(0)
os.write(ready[1], b"x")
signal.pause()
"#;
    let recorded = Recorded::python(program, &[]);
    let text = recorded.says(
        r#"
        local stat = rec:find{ pid = second.pid, path = "/proc/self" }
        rr.replay_to(stat)
        spin_off(second.pid):inject{
            everyone,
            { on = stat.name, fail = "ENOENT", pid = second.pid },
            on_divergence = function(d)
                told{ status = "seen", divergence = d }
                if d.pid == second.pid then return "skip", 1 end
                return "stop"
            end,
        }
        "#,
    );
    assert_eq!(
        text,
        "seen\tsecond\texit_group\tnil\n\
         seen\tfirst\tpause\tthe kill of second, which sent SIGUSR1, was not made\n"
    );
}

#[test]
fn a_process_is_not_killed_where_that_fails() {
    for (how, call) in [("pause", "pause"), ("spin", "no call")] {
        let recorded = Recorded::python(CHAIN, &["SIGKILL", how]);
        let text = recorded.says(
            r#"
            -- Before it is killed.
            local write = rec:find{ pid = first.pid, syscall = "write", nth = 1 }
            rr.replay_to(write)
            local fails = { on = "kill", fail = "EPERM", pid = second.pid }
            told(spin_off(second.pid):inject{ everyone, fails })
            -- It goes on for ever.
            rr.replay_to(write)
            local o = spin_off(third.pid):inject{ fails, on_divergence = "live", timeout = 1 }
            print(o.status, o.divergence.pid == third.pid)
            "#,
        );
        assert_eq!(
            text,
            format!(
                "diverged\tthird\t{call}\tthe kill of second, which sent SIGKILL, had another answer\n\
                 timeout\ttrue\n"
            )
        );
    }
}

#[test]
fn a_process_that_fails_to_kill_itself_goes_on() {
    let program = r#"
import os, signal, sys
if os.fork() == 0: os._exit(0)
os.wait()
for one in (signal.SIGUSR1, signal.SIGUSR2): signal.signal(one, lambda *_: None)
try: os.kill(os.getpid(), getattr(signal, sys.argv[1]))
except OSError: pass
os.getppid()
"#;
    for signal in ["SIGKILL", "SIGUSR1", "SIGTERM"] {
        let recorded = Recorded::python(program, &[signal]);
        let text = recorded.says(
            r#"
            local kill = rec:find{ pid = first.pid, syscall = "kill" }
            control(kill, first.pid)
            rr.replay_to(kill)
            told(spin_off(first.pid):inject{ kill = { fail = "EPERM" } })
            "#,
        );
        assert_eq!(
            text,
            format!(
                "diverged\tfirst\tgetppid\tthe kill of first, which sent {signal}, had another answer\n"
            )
        );
    }
}

#[test]
fn a_trap_of_a_shell_is_not_run_by_a_signal_that_was_not_sent() {
    let folder = Folder::new();
    folder.record(
        "rec",
        &[
            "bash",
            "-c",
            "trap 'echo got' TERM; perl -e 'select undef, undef, undef, .1; kill TERM => getppid' & wait; wait; echo done",
        ],
    );
    let recorded = Recorded(folder);
    let text = recorded.says(
        r#"
        local kill = rec:find{ pid = second.pid, syscall = "kill" }
        control(kill, second.pid)
        rr.replay_to(kill)
        told(spin_off(second.pid):inject{ everyone, { on = "kill", fail = "EPERM", pid = second.pid } })
        "#,
    );
    assert_eq!(
        text,
        "diverged\tfirst\twait4\tthe kill of second, which sent SIGTERM, had another answer\n"
    );
}

/// A child that ends when it has read something, and a parent that waits for its end.
const END: &str = r#"
import os, select, signal, sys
how = sys.argv[1]
go = os.pipe()
child = os.fork()
if child == 0:
    os.close(go[1])
    os._exit(len(os.read(go[0], 10)))
writer = os.fork()
if writer == 0:
    signal.sigtimedwait([], 0.1)
    os.write(go[1], b"go")
    signal.sigtimedwait([], 0.3)
    os._exit(0)
os.close(go[1])
if how == "wait4": os.waitpid(child, 0)
elif how == "waitid": os.waitid(os.P_PID, child, os.WEXITED)
elif how == "handler":
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.pause()
elif how == "sigwait":
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})
    signal.sigwait({signal.SIGCHLD})
elif how == "pidfd":
    poll = select.poll()
    poll.register(os.pidfd_open(child), select.POLLIN)
    poll.poll()
"#;

#[test]
fn the_end_of_a_process_that_goes_on_is_not_told() {
    for (how, call) in [
        ("wait4", "wait4"),
        ("waitid", "waitid"),
        ("handler", "pause"),
        ("sigwait", "rt_sigtimedwait"),
        ("pidfd", "poll"),
    ] {
        let recorded = Recorded::python(END, &[how]);
        let text = recorded.says(
            r#"
            local write = rec:find{ pid = third.pid, syscall = "write" }
            control(write, first.pid)
            rr.replay_to(write)
            told(spin_off(first.pid):inject{ { on = "write", ret = 2, pid = third.pid } })
            -- It ends otherwise than when it was recorded.
            rr.replay_to(write)
            told(spin_off(first.pid):inject{ { on = "exit_group", signal = "SIGKILL", pid = second.pid } })
            "#,
        );
        assert_eq!(
            text,
            format!(
                "diverged\tfirst\t{call}\tsecond, which would have ended like this, never got what third had sent\n\
                 diverged\tfirst\t{call}\tsecond, which would have ended like this, has ended before\n"
            ),
            "{how}"
        );
    }
}

#[test]
fn a_group_and_orphans_get_no_signal_that_was_not_sent() {
    // The second process kills its group, and its own child gets another signal when it ends.
    let program = r#"
import ctypes, os, signal, sys
how = sys.argv[1]
ready = os.pipe()
second = os.fork()
if second == 0:
    os.setpgid(0, 0)
    third = os.fork()
    if third == 0:
        for one in (signal.SIGUSR1, signal.SIGUSR2): signal.signal(one, lambda *_: None)
        ctypes.CDLL(None).prctl(1, signal.SIGUSR2)
        os.write(ready[1], b"x")
        signal.pause()
        os._exit(0)
    os.read(ready[0], 1)
    signal.sigtimedwait([], 0.1)
    if how == "group":
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)
        try: os.kill(0, signal.SIGUSR1)
        except OSError: pass
        os.waitpid(third, 0)
    os.getppid()
    os._exit(0)
os.waitpid(second, 0)
signal.sigtimedwait([], 0.3)
"#;
    let recorded = Recorded::python(program, &["group"]);
    let text = recorded.says(
        r#"
        local kill = rec:find{ pid = second.pid, syscall = "kill" }
        control(kill, second.pid)
        rr.replay_to(kill)
        told(spin_off(second.pid):inject{ everyone, { on = "kill", fail = "EPERM", pid = second.pid } })
        "#,
    );
    assert_eq!(
        text,
        "diverged\tthird\tpause\tthe kill of second, which sent SIGUSR1, had another answer\n"
    );
    let recorded = Recorded::python(program, &["orphan"]);
    let text = recorded.says(
        r#"
        local last = rec:find{ pid = second.pid, syscall = "getppid" }
        control(last, second.pid)
        rr.replay_to(last)
        told(spin_off(third.pid):inject{ { on = "getppid", signal = "SIGKILL", pid = second.pid } })
        "#,
    );
    assert_eq!(
        text,
        "diverged\tthird\tpause\tsecond, which would have sent SIGUSR2, has ended before\n"
    );
}

#[test]
fn a_pipe_that_another_process_reads_has_a_taker() {
    // The second process holds the pipe longest, but the third one reads it.
    let program = r#"
import os, signal
pipe, last = os.pipe(), os.pipe()
second = os.fork()
if second == 0:
    os.getppid()
    os.read(last[0], 1)
    os._exit(0)
third = os.fork()
if third == 0:
    os.getpgrp()
    os.read(pipe[0], 1)
    os._exit(0)
os.close(pipe[0])
signal.sigtimedwait([], 0.3)
os.write(pipe[1], b"x")
os.waitpid(third, 0)
os.write(last[1], b"x")
os.waitpid(second, 0)
"#;
    let recorded = Recorded::python(program, &[]);
    let text = recorded.says(
        r#"
        local call = rec:find{ pid = second.pid, syscall = "getppid" }
        rr.replay_to(call)
        told(spin_off(second.pid):inject{ everyone, { on = "getppid", signal = "SIGKILL", pid = second.pid } })
        -- Where nobody is left who holds it, there is none.
        rr.replay_to(call)
        told(spin_off(second.pid):inject{
            everyone,
            { on = "getppid", signal = "SIGKILL", pid = second.pid },
            { on = "getpgrp", signal = "SIGKILL", pid = third.pid },
        })
        "#,
    );
    assert_eq!(
        text,
        "diverged\tfirst\twait4\tsecond, which would have ended like this, has ended before\n\
         diverged\tfirst\twrite\tsecond, which would have taken this, has ended before\n"
    );
}
