//! Families that go on live: each of their processes is there, with what they share and what goes between them.

use crate::common::{Folder, as_user};
use crate::families::record;

/// Copies at ten events go on live, and end as recorded: all of their processes, and what these write. `same` says how much of
/// that is compared.
#[track_caller]
fn ends_as_recorded(name: &str, same: &str) {
    let family = record(name);
    family
        .folder
        .write("live.lua", include_str!("real/live.lua"));
    let done = family.folder.rrapper(["-q", "live.lua", "10", "1", same]);
    assert_eq!(done.ok().text(), "as recorded\n", "{name}");
}

macro_rules! live {
    ($($test:ident $same:literal,)*) => {
        $(
            #[test]
            fn $test() {
                ends_as_recorded(&stringify!($test).replace('_', "-"), $same);
            }
        )*
    };
}

live! {
    pipeline "all",
    pipelines "all",
    make "all",
    git_hook "all",
    gcc "all",
    xargs "all",
    // A pool's workers end by themselves or are ended, whichever is first.
    python_pool "whole",
    python_event "whole",
    prefork "all",
    // A client that comes too early tries again.
    nginx "whole",
    redis_unix "whole",
    redis_tcp "whole",
    datagrams "all",
    ways "all",
    sqlite_wal "all",
    // It shows numbers of processes and times, and leaves a process behind.
    script "exit",
    posix_spawn "all",
    ansible "all",
}

/// A terminal's programs end with it, and may do so before they are told.
#[test]
fn tmux() {
    ends_as_recorded("tmux", "whole");
}

/// The same for a user without privileges.
#[test]
fn a_users_families_go_on_too() {
    for name in [
        "pipelines",
        "make",
        "python_pool",
        "prefork",
        "datagrams",
        "script",
    ] {
        as_user(&["--exact", &format!("family_live::{name}")]);
    }
}

/// A process whose number is taken cannot be made: the others go on without it.
#[test]
fn a_family_goes_on_without_a_process_that_cannot_be_made() {
    let folder = Folder::new();
    folder.record(
        "rec",
        &[
            "bash",
            "-c",
            "(sleep 0.2; echo late) & echo early; wait; exit 3",
        ],
    );
    // The kernel does not make a process of this number in the sandbox, whose first one has it.
    let from = rrapper::recording::Reader::open(&folder.join("rec")).unwrap();
    let mut writer = rrapper::recording::Writer::create(&folder.join("odd")).unwrap();
    use rrapper::recording::{Frame, Source};
    writer
        .write(&Frame::Start(Source::start(&from).clone()))
        .unwrap();
    let mut frames = Source::all_frames_from(&from, 1).unwrap();
    while let Some(frame) = frames.next_frame().unwrap() {
        let frame = match frame {
            Frame::NewTask(mut born) => {
                born.numbers = vec![born.tid, 1];
                Frame::NewTask(born)
            }
            frame => frame,
        };
        writer.write(&frame).unwrap();
    }
    drop(writer);
    for file in std::fs::read_dir(folder.join("rec/files")).unwrap() {
        let file = file.unwrap();
        std::fs::copy(file.path(), folder.join("odd/files").join(file.file_name())).unwrap();
    }
    let script = r#"
        local rec = rr.open "odd"
        rr.replay_to(rec:find{ syscall = "write" })
        local o = spin_off():live{ timeout = 5 }
        print(o.status, o.exit_code)
        for _, sentence in ipairs(o.missing) do print((sentence:gsub("%d%d+", "N"))) end
    "#;
    let text = folder.script(script).ok().text();
    assert!(
        text.starts_with(
            "exited	3
"
        ),
        "{text}"
    );
    assert!(
        text.contains("process N of its family: cannot make it in the sandbox"),
        "{text}"
    );
}

/// A write of which a part has been read is not made again as a whole: over a pipe, with a vector over a pair of sockets, and
/// over the network.
#[test]
fn calls_that_are_half_done_do_the_rest() {
    let folder = Folder::new();
    folder.write("half.py", include_str!("fixtures/half.py"));
    for (how, size) in [
        ("pipe", 200_000),
        ("pair", 200_000),
        ("message", 200_000),
        ("tcp", 8_000_000),
    ] {
        folder.record(how, &["/usr/bin/python3", "-S", "half.py", how]);
        let script = format!(
            r#"
            local rec = rr.open "{how}"
            rr.replay_to(rec:find{{ syscall = "getpriority" }})
            local o = spin_off():live{{ timeout = 20 }}
            io.write(o.stdout, o.stderr, #o.missing, "\n")
            "#
        );
        assert_eq!(
            folder.script(&script).ok().text(),
            format!("True {size} 0\n0\n"),
            "{how}"
        );
    }
}

/// What was typed on a terminal and not read yet is not echoed a second time.
#[test]
fn what_was_typed_is_echoed_once() {
    let folder = Folder::new();
    for (name, typed) in [
        ("line", "b'typed' + end"),
        ("lines", "(b'x' * 50 + end) * 60"),
    ] {
        let program = format!(
            "import os, select\n\
             end = b'\\n'\n\
             master, slave = os.openpty()\n\
             def echoed(n):\n    \
                 while n: n -= len(os.read(master, n))\n\
             typed = {typed}\n\
             os.write(master, typed); echoed(len(typed) + typed.count(end) - 3)\n\
             os.getpriority(os.PRIO_PROCESS, 0)\n\
             print(os.read(master, 100))\n\
             n = 0\n\
             while n < len(typed): n += len(os.read(slave, 4096))\n\
             os.write(master, b'again' + end); os.read(slave, 100)\n\
             print(os.read(master, 100), select.select([master, slave], [], [], 0)[0])"
        );
        folder.record(name, &["/usr/bin/python3", "-S", "-c", &program]);
        let script = format!(
            r#"
            local rec = rr.open "{name}"
            rr.replay_to(rec:find{{ syscall = "getpriority" }})
            local o = spin_off():live{{ timeout = 20 }}
            print(o.stdout == rec:outcome().stdout or o.stdout, #o.missing, o.stderr)
            "#
        );
        assert_eq!(folder.script(&script).ok().text(), "true\t0\t\n", "{name}");
    }
}

/// What was typed has had its effect: it sends no signal a second time, ends no other read, and is erased where it was.
#[test]
fn what_was_typed_has_had_its_effect() {
    let folder = Folder::new();
    folder.write("typed.py", include_str!("fixtures/typed.py"));
    for how in ["interrupted", "ended", "erased", "raw", "size", "unopened"] {
        let recorded = folder
            .record(how, &["/usr/bin/python3", "-S", "typed.py", how])
            .ok();
        let expected = format!("{}exited\n", recorded.text());
        assert_eq!(folder.live_from_mark(how), expected, "{how}");
    }
}

/// A hook sees the signal that ends a process once, though its family goes on live because of it.
#[test]
fn a_fatal_signal_is_shown_once() {
    let folder = Folder::new();
    folder.record(
        "rec",
        &[
            "bash",
            "-c",
            "bash -c 'echo child; kill -USR1 $$; echo never' & wait $!; echo ended with $?",
        ],
    );
    let script = r#"
        local rec = rr.open "rec"
        local kill = rec:event(rec:find{ syscall = "kill" })
        rr.replay_to(kill.event)
        local o = spin_off(kill.pid):inject{ on_signal = function(s)
            if s.name == "SIGCHLD" then return end
            print(s.name, s.pid == kill.pid)
            s:replace "SIGTERM"
        end, on_divergence = "live" }
        io.write(o.status, " ", tostring(o.exit_code), " ", o.stdout)
    "#;
    assert_eq!(
        folder.script(script).ok().text(),
        "SIGUSR1\ttrue\nexited 0 ended with 143\n"
    );
}

/// The other end of a connection that was not recorded does what the script says.
#[test]
fn somebody_plays_the_peers_that_were_not_recorded() {
    let folder = Folder::new();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let program = format!(
        "import os, socket\n\
         s = socket.create_connection(('127.0.0.1', {port})); s.settimeout(1)\n\
         os.getpriority(os.PRIO_PROCESS, 0)\n\
         try: s.send(b'one'); print(s.recv(9)); s.send(b'two' * 1000); print(s.recv(9))\n\
         except OSError as e: print(type(e).__name__)"
    );
    let server = std::thread::spawn(move || {
        use std::io::{Read, Write};
        let (mut peer, _) = listener.accept().unwrap();
        let mut seen = [0; 3];
        peer.read_exact(&mut seen).unwrap();
        peer.write_all(b"first").unwrap();
        let mut rest = vec![0; 3000];
        peer.read_exact(&mut rest).unwrap();
        peer.write_all(b"second").unwrap();
    });
    let recorded = folder
        .record("rec", &["/usr/bin/python3", "-S", "-c", &program])
        .ok();
    server.join().unwrap();
    assert_eq!(recorded.text(), "b'first'\nb'second'\n");
    let script = r#"
        local rec = rr.open "rec"
        local mark = rec:find{ syscall = "getpriority" }
        local function try(peer)
            rr.replay_to(mark)
            local o = spin_off():live{ peer = peer, timeout = 20 }
            io.write(o.stdout:gsub("\n", " "), #o.missing, "\n")
        end
        try "reset"
        try "closed"
        try "silent"
        try "drain"
        local sizes = {}
        try(function(conn, bytes)
            sizes[#sizes + 1] = ("%s %s"):format(conn.address:gsub("%d+$", "PORT"), bytes:sub(1, 6))
            return "said " .. bytes:sub(1, 3)
        end)
        print(sizes[1], sizes[2])
        print((select(2, pcall(try, "deaf")):gsub("\n.*", "")))
        try(function() error "no" end)
    "#;
    let done = folder.script(script);
    let text = done.text();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(
        lines[..6],
        [
            "ConnectionResetError 1",
            "b'' BrokenPipeError 0",
            "TimeoutError 0",
            "TimeoutError 0",
            "b'said one' b'said two' 0",
            "127.0.0.1:PORT one\t127.0.0.1:PORT twotwo",
        ],
        "{text}"
    );
    assert!(
        lines[6].contains("peer is \"reset\" or \"closed\""),
        "{text}"
    );
    assert!(
        done.code == Some(2) && done.stderr.contains("no"),
        "{text}{}",
        done.stderr
    );
}
