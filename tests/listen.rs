//! Servers that a script plays for live processes: the option `listen`.

use crate::common::{Folder, as_user};

/// A program that talks to an address, after a mark.
const CLIENT: &str = r#"
import os, socket, sys
def talk(at, says):
    s = socket.socket(socket.AF_UNIX if isinstance(at, str) else socket.AF_INET6 if ':' in at[0] else socket.AF_INET)
    s.settimeout(2)
    try:
        s.connect(at)
        for one in says:
            if one: s.send(one)
            print(s.recv(99).decode(), end=' ')
        print('end')
    except OSError as e: print(type(e).__name__)
os.getpriority(os.PRIO_PROCESS, 0)
"#;

/// Records a program that goes on after a mark as this says.
fn record(folder: &Folder, does: &str) {
    record_as(folder, "rec", &format!("{CLIENT}{does}\n"));
}

fn record_as(folder: &Folder, name: &str, program: &str) {
    folder.write("client.py", program);
    folder
        .record(name, &["/usr/bin/python3", "-S", "client.py"])
        .ok();
}

/// A script that has a copy go on live from the mark under these hooks, and prints what it prints and misses.
fn from_mark(hooks: &str) -> String {
    format!(
        r#"
        local rec = rr.open "rec"
        rr.replay_to(rec:find{{ syscall = "getpriority" }})
        local o = spin_off():live{{ timeout = 20, {hooks} }}
        io.write(o.stdout, o.stderr)
        for _, what in ipairs(o.missing) do print(what) end
        for _, file in ipairs(o.files) do print(file.path) end
        "#
    )
}

/// The port of a server that is not there any more.
fn unused_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

/// curl, which found nobody when it was recorded, gets a page, as a copy and when it is started live.
#[test]
fn curl_gets_its_page_from_the_script() {
    let folder = Folder::new();
    let port = unused_port();
    let url = format!("http://127.0.0.1:{port}/x");
    let recorded = folder.record("rec", &["curl", "-sS", &url]);
    assert_eq!(recorded.code, Some(7), "{}", recorded.stderr);
    let script = format!(
        r#"
        local asked
        local function page(conn, bytes)
            if not bytes then return end
            asked = bytes:match "^[^\r]*"
            return "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nhello\n"
        end
        local listen = {{ ["127.0.0.1:{port}"] = page }}
        local rec = rr.open "rec"
        rr.replay_to(rec:find{{ syscall = "connect" }})
        local o = spin_off():live{{ listen = listen, timeout = 20 }}
        io.write(o.status, " ", o.exit_code, " ", o.stdout, o.stderr, asked, " ", #o.missing, "\n")
        asked = nil
        local o = live{{ "curl", "-sS", "{url}", listen = listen, timeout = 20 }}
        io.write(o.status, " ", o.exit_code, " ", o.stdout, o.stderr, asked, " ", #o.missing, "\n")
        local o = live{{ "curl", "-sS", "{url}", hooks = {{ listen = {{ ["127.0.0.1:{port}"] = "closed" }} }}, timeout = 20 }}
        -- "Empty reply from server", or a reset for what it had sent already
        print(o.status, o.exit_code == 52 or o.exit_code == 56)
        "#
    );
    let done = folder.script(&script).ok();
    let page = "exited 0 hello\nGET /x HTTP/1.1 0\n";
    assert_eq!(done.text(), format!("{page}{page}exited\ttrue\n"));
}

/// The same copy is given a page where it was injected, and diverged for that.
#[test]
fn a_copy_that_diverges_finds_the_server() {
    let folder = Folder::new();
    let port = unused_port();
    record(
        &folder,
        &format!(
            "talk(('127.0.0.1', {port}), [b'one'])\ntry: open('log', 'w')\nexcept OSError as e: print(e.errno)\ntalk(('127.0.0.1', {port}), [b'two'])"
        ),
    );
    let script = format!(
        r#"
        local rec = rr.open "rec"
        rr.replay_to(rec:find{{ syscall = "getpriority" }})
        local o = spin_off():inject{{
            {{ on = "openat", path = "*log", fail = "EMFILE", when = "1" }},
            listen = {{ ["127.0.0.1:{port}"] = function(conn, bytes) return bytes and "yes" end }},
            on_divergence = "live", timeout = 20,
        }}
        io.write(o.status, "\n", o.stdout, o.stderr)
        "#
    );
    let done = folder.script(&script).ok();
    assert_eq!(done.text(), "exited\nConnectionRefusedError\n24\nyes end\n");
}

/// A foreign address is there, also of IPv6, and each of several servers has its own function.
#[test]
fn foreign_addresses_can_be_connected_to() {
    let folder = Folder::new();
    record(
        &folder,
        "for at in [('10.1.2.3', 80), ('10.1.2.3', 81), ('10.1.2.4', 80), ('2001:db8::1', 80), ('::1', 80)]: talk(at, [b'hi'])",
    );
    let hooks = r#"listen = {
        ["10.1.2.3:80"] = function(conn, bytes) return bytes and conn.address .. bytes end,
        ["10.1.2.3:81"] = function(conn, bytes) return bytes and conn.number .. bytes end,
        ["[2001:db8::1]:80"] = function(conn, bytes) return bytes and conn.address end,
        ["[::1]:80"] = function(conn, bytes) return bytes and conn.address end,
    }"#;
    let done = folder.script(&from_mark(hooks)).ok();
    assert_eq!(
        done.text(),
        "10.1.2.3:80hi end\n2hi end\nOSError\n[2001:db8::1]:80 end\n[::1]:80 end\n"
    );
}

/// A server that speaks first, two connections at once, and a server that keeps what it knows of each.
#[test]
fn servers_greet_and_tell_connections_apart() {
    let folder = Folder::new();
    let port = unused_port();
    record(
        &folder,
        &format!(
            "try: a, b = [socket.create_connection(('127.0.0.1', {port}), 2) for _ in 'ab']\n\
             except OSError: sys.exit()\n\
             for s in (b, a): print(s.recv(9))\n\
             for s in (a, b, b): s.send(b'x'); print(s.recv(9))\n\
             b.close(); a.send(b'x'); print(a.recv(9))"
        ),
    );
    let hooks = format!(
        r#"listen = {{ ["127.0.0.1:{port}"] = function(conn, bytes)
            if not bytes then
                conn.count = 0
                return "hello " .. conn.number
            end
            conn.count = conn.count + #bytes
            return conn.number .. ":" .. conn.count
        end }}"#
    );
    let done = folder.script(&from_mark(&hooks)).ok();
    assert_eq!(
        done.text(),
        "b'hello 2'\nb'hello 1'\nb'1:1'\nb'2:1'\nb'2:2'\nb'1:2'\n"
    );
}

/// A program that loses its connection with a server, or keeps it, connects again; so does a child of it.
#[test]
fn a_program_connects_again_where_it_was_connected() {
    let folder = Folder::new();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = std::thread::spawn(move || {
        use std::io::{Read, Write};
        for mut stream in listener.incoming().take(3).map(Result::unwrap) {
            let mut seen = [0; 9];
            while stream.read(&mut seen).is_ok_and(|n| n > 0) {
                stream.write_all(b"real").unwrap();
            }
        }
    });
    record_as(
        &folder,
        "rec",
        &format!(
            "import os, socket\n\
             s = socket.create_connection(('127.0.0.1', {port}), 2); s.send(b'a'); print(s.recv(9), flush=True)\n\
             os.getpriority(os.PRIO_PROCESS, 0)\n\
             try: s.send(b'b'); print(s.recv(9))\n\
             except OSError as e: print(type(e).__name__)\n\
             s.close()\n\
             def again():\n  s = socket.create_connection(('127.0.0.1', {port}), 2); s.send(b'c'); print(s.recv(9), flush=True)\n\
             again()\n\
             child = os.fork()\n\
             if child: os.wait()\n\
             else: again()"
        ),
    );
    server.join().unwrap();
    let hooks = |peer: &str| {
        format!(
            r#"peer = {peer}, listen = {{ ["127.0.0.1:{port}"] = function(conn, bytes)
                return bytes and "played " .. conn.number
            end }}"#
        )
    };
    let again = "b'played 1'\nb'played 2'\n";
    let answers = "function(conn, bytes) return 'peer' end";
    let done = folder.script(&from_mark(&hooks(answers))).ok();
    assert_eq!(done.text(), format!("b'peer'\n{again}"));
    let done = folder.script(&from_mark(&hooks("'closed'"))).ok();
    assert!(done.text().ends_with(again), "{}", done.text());
}

/// The words of `peer` say what a server does with what it has accepted.
#[test]
fn servers_can_do_what_peers_do() {
    let folder = Folder::new();
    record(
        &folder,
        "for port in range(81, 85): talk(('127.0.0.1', port), [b'hi'])",
    );
    let hooks = r#"listen = { ["127.0.0.1:81"] = "reset", ["127.0.0.1:82"] = "closed", ["127.0.0.1:83"] = "silent",
        ["127.0.0.1:84"] = "drain" }"#;
    let done = folder.script(&from_mark(hooks)).ok();
    let text = done.text();
    let lines: Vec<&str> = text.lines().collect();
    assert!(
        matches!(lines[0], "ConnectionResetError" | "BrokenPipeError"),
        "{text}"
    );
    // The end of the file, or the answer to data that came too late.
    assert!(
        matches!(
            lines[1].trim(),
            "end" | "ConnectionResetError" | "BrokenPipeError"
        ),
        "{text}"
    );
    assert_eq!(lines[2..], ["TimeoutError", "TimeoutError"], "{text}");
}

/// Local sockets: at a path where nothing is, in a directory that is not there, where a socket was left, and with an abstract
/// name. They are no changes of files.
#[test]
fn servers_have_local_sockets() {
    let folder = Folder::new();
    let old = folder.join("old.sock");
    drop(std::os::unix::net::UnixListener::bind(&old).unwrap());
    let (new, made) = (folder.join("new.sock"), folder.join("made/for/it.sock"));
    let [new, old, made] = [&new, &old, &made].map(|path| path.to_str().unwrap());
    let name = format!("rrapper-{}", std::process::id());
    record(
        &folder,
        &format!("for at in [{new:?}, {old:?}, {made:?}, '\\0{name}']: talk(at, [b'hi'])"),
    );
    let hooks = format!(
        r#"listen = {{
            ["{new}"] = function(conn, bytes) return bytes and "new" end,
            ["{old}"] = function(conn, bytes) return bytes and "old" end,
            ["{made}"] = function(conn, bytes) return bytes and "made" end,
            ["@{name}"] = function(conn, bytes) return bytes and "name" end,
        }}"#
    );
    let script = from_mark(&hooks);
    let done = folder.script(&format!("{script}\n{script}")).ok();
    let all = "new end\nold end\nmade end\nname end\n";
    assert_eq!(done.text(), format!("{all}{all}"));
    assert!(!std::path::Path::new(new).exists());
}

/// A process's own server comes first; what cannot be had is missing.
#[test]
fn a_server_of_the_program_is_not_replaced() {
    let folder = Folder::new();
    let port = unused_port();
    let own = folder.join("own.sock");
    let own = own.to_str().unwrap();
    record(
        &folder,
        &format!(
            "talk(('127.0.0.1', {port}), [])\ntry: socket.create_server(('127.0.0.1', {port}))\nexcept OSError as e: print(e.errno)"
        ),
    );
    let hooks = format!(r#"listen = {{ ["127.0.0.1:{port}"] = "drain" }}"#);
    let done = folder.script(&from_mark(&hooks)).ok();
    assert_eq!(done.text(), format!("end\n{}\n", libc::EADDRINUSE));
    // Here it listens when it goes live.
    record_as(
        &folder,
        "own",
        &format!(
            "import os, socket\n\
             one = socket.create_server(('127.0.0.1', {port}))\n\
             two = socket.socket(socket.AF_UNIX); two.bind({own:?}); two.listen()\n\
             os.getpriority(os.PRIO_PROCESS, 0)\n\
             for s in [one, two]:\n  c = socket.socket(s.family); c.connect(s.getsockname())\n  \
             d = s.accept()[0]; d.send(b'own'); print(c.recv(9))"
        ),
    );
    let file = folder.join("client.py");
    let file = file.to_str().unwrap();
    let hooks = format!(
        r#"listen = {{ ["127.0.0.1:{port}"] = "drain", ["{own}"] = "drain", ["{file}/x.sock"] = "drain", ["{file}"] = "drain" }}"#
    );
    let done = folder
        .script(&from_mark(&hooks).replace("\"rec\"", "\"own\""))
        .ok();
    let text = done.text();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[..2], ["b'own'", "b'own'"], "{text}");
    let listens = "a process of the sandbox listens there";
    for line in [
        format!("a server at 127.0.0.1:{port}: {listens}"),
        format!("a server at {own}: {listens}"),
        format!("a server at {file}/x.sock: Not a directory (os error 20)"),
        format!("a server at {file}: File exists (os error 17)"),
    ] {
        assert!(lines.contains(&line.as_str()), "{line}: {text}");
    }
}

/// More than a server waits to take is missing, and so are connections beyond the limit.
#[test]
fn the_limits_of_servers_are_told() {
    let folder = Folder::new();
    record(
        &folder,
        "all = []\n\
         try:\n  for _ in range(520): s = socket.create_connection(('127.0.0.1', 81), 2); all.append(s)\n  \
         all[0].send(b'x'); print(len(all))\nexcept OSError: pass",
    );
    let hooks = r#"listen = { ["127.0.0.1:81"] = function(conn, bytes)
        return bytes and ("x"):rep(9 << 20)
    end }"#;
    let done = folder.script(&from_mark(hooks)).ok();
    let text = done.text();
    let told: Vec<&str> = text.lines().skip(1).collect();
    assert!(text.starts_with("520\n"), "{text}");
    assert!(
        told.contains(
            &"connections with the server at 127.0.0.1:81: it has 512 at a time, and closed the others"
        ),
        "{text}"
    );
    assert!(
        told.contains(
            &"the answer of the server at 127.0.0.1:81 to connection 1: of 9437184 bytes, 8388608 were more than it waits to take"
        ),
        "{text}"
    );
}

/// A mistake in the option, or in a function, is one sentence with its line.
#[test]
fn mistakes_are_sentences() {
    let folder = Folder::new();
    let live = |options: &str| {
        let text = format!("live{{ \"true\", {options} }}");
        folder.script(&text)
    };
    for (listen, said) in [
        (
            r#""silent""#,
            "listen is a table { [address] = function or word }, not \"silent\"",
        ),
        (r#"{ "silent" }"#, "has 1 for an address"),
        (
            r#"{ fail = "EADDRINUSE" }"#,
            "are addresses; a rule for the call listen is { on = \"listen\", … }",
        ),
        ("print", "not a function; a rule for the call listen is"),
        (
            r#"{ ["localhost:80"] = "silent" }"#,
            "\"localhost:80\" is no address of a server: \"127.0.0.1:5432\"",
        ),
        (
            r#"{ ["127.0.0.1:70000"] = "silent" }"#,
            "70000 in \"127.0.0.1:70000\" is no port to connect to: they are 1 to 65535",
        ),
        (
            r#"{ ["127.0.0.1:80"] = "silnt" }"#,
            "is a function or \"reset\" or \"closed\" or \"silent\" or \"drain\", not \"silnt\"; did you mean \"silent\"?",
        ),
        (
            r#"{ ["127.0.0.1:80"] = 3 }"#,
            "the server at 127.0.0.1:80 in listen is a function or",
        ),
        (
            r#"{ ["/run/x"] = "reset" }"#,
            "the server at /run/x in listen cannot be \"reset\"",
        ),
        (
            r#"{ ["[::1]:80"] = "drain", ["[0:0::1]:80"] = "drain" }"#,
            "listen has [::1]:80 twice",
        ),
    ] {
        live(&format!("listen = {listen}")).complains(&["stdin:1: ", said]);
        live(&format!("hooks = {{ listen = {listen} }}")).complains(&["stdin:1: ", said]);
    }
    let one = r#"listen = { ["127.0.0.1:80"] = "drain" }"#;
    live(&format!("{one}, sandbox = \"none\"")).complains(&[
        "stdin:1: ",
        "listen: nobody can be played at 127.0.0.1:80: a process that is live without a sandbox has the machine's own network",
    ]);
    live(&format!("{one}, sandbox = {{ network = false }}"))
        .complains(&["stdin:1: ", "its sandbox has no network"]);
    for (does, said) in [
        ("error 'no'", "stdin:2: no"),
        (
            "return {}",
            "what the server at 127.0.0.1:80 answers must be",
        ),
    ] {
        let text = format!(
            "live{{ \"curl\", \"-s\", \"http://127.0.0.1\", listen = {{ [\"127.0.0.1:80\"] = function()\n{does}\nend }} }}"
        );
        folder.script(&text).complains(&["stdin:", said]);
    }
}

/// The same for a user without privileges.
#[test]
fn a_user_plays_servers_too() {
    for name in [
        "curl_gets_its_page_from_the_script",
        "foreign_addresses_can_be_connected_to",
        "servers_have_local_sockets",
        "a_server_of_the_program_is_not_replaced",
    ] {
        as_user(&["--exact", &format!("listen::{name}")]);
    }
}
