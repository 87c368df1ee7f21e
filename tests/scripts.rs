//! The scripts that come with rrapper, and what scripts can say.

use crate::common::{Folder, RRAPPER};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

fn shipped(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("scripts")
        .join(name);
    path.to_str().unwrap().to_string()
}

#[test]
fn quickstart_shows_the_three_outcomes() {
    let folder = Folder::new();
    let out = folder.rrapper([shipped("quickstart.lua")]).ok().text();
    for (anomaly, ends) in [
        ("fails with EIO", "exit 1"),
        ("is cut short", "exit 0"),
        ("is interrupted", "exit 0"),
    ] {
        let line = out
            .lines()
            .find(|line| line.contains(anomaly))
            .expect(anomaly);
        assert!(line.contains(ends), "{line}");
    }
    assert!(out.contains("Input/output error"), "{out}");
}

#[test]
fn a_full_disk_leaves_sound_databases() {
    let folder = Folder::new();
    let done = folder.rrapper([shipped("disk_full.lua")]).ok();
    let text = done.text();
    let rows: Vec<&str> = text
        .lines()
        .filter(|line| line.starts_with("  write "))
        .collect();
    assert!(rows.len() >= 20, "{text}");
    for row in rows {
        assert!(row.contains(" ok "), "{row}");
        assert!(!row.contains("exit 0 ") && row.ends_with(" old"), "{row}");
    }
}

/// The rows of the table, each with what the rows above it say in its empty cells.
fn rows(text: &str) -> Vec<[String; 4]> {
    let heads = ["program  ", "call  ", "type  ", "noticed or not"];
    let (at, head) = text
        .lines()
        .enumerate()
        .find(|(_, line)| line.starts_with(heads[0]))
        .expect("a table");
    let [.., second, third, fourth] = heads.map(|name| head.find(name).expect(name));
    let mut above = [const { String::new() }; 4];
    let lines = text.lines().skip(at + 1);
    let cells = lines.take_while(|line| !line.is_empty()).map(|line| {
        let bounds = [
            (0, second),
            (second, third),
            (third, fourth),
            (fourth, line.len()),
        ];
        for (cell, (begin, end)) in above.iter_mut().zip(bounds) {
            let text = line[begin..end].trim();
            if !text.is_empty() {
                *cell = text.into();
            }
        }
        above.clone()
    });
    cells.collect()
}

fn unusual_filetypes(folder: &Folder, user: &[&str]) {
    let script = shipped("unusual_filetypes.lua");
    let argv = [user, &[RRAPPER, &script]].concat();
    let output = folder
        .command(argv[0])
        .args(&argv[1..])
        .env("TMPDIR", folder.path())
        .env("HOME", folder.path())
        .output();
    let text = crate::common::Done::from(output.expect("it starts"))
        .ok()
        .text();
    let rows = rows(&text);
    let of = |program: &str, type_: &str| -> Vec<&str> {
        let is_meant =
            |row: &&[String; 4]| row[0].split(' ').next() == Some(program) && row[2] == type_;
        rows.iter()
            .filter(is_meant)
            .map(|row| row[3].as_str())
            .collect()
    };
    let types = [
        "directory",
        "character device",
        "block device",
        "FIFO",
        "symbolic link",
        "socket",
    ];
    for program in [
        "wc", "du", "install", "fmt", "od", "ptx", "comm", "pr", "sed",
    ] {
        for type_ in types {
            let told = of(program, type_);
            assert!(!told.is_empty(), "{program}, {type_}: {text}");
            for what in told {
                let known = ["noticed: ", "not: same output", "not: other output"];
                assert!(known.iter().any(|begin| what.starts_with(begin)), "{what}");
            }
        }
    }
    // wc aligns its columns only for regular files.
    for what in of("wc", "socket") {
        assert!(what.starts_with("not: other output"), "{what}");
    }
    let whatever = |what: &&str, says: &str| what.starts_with("noticed") && what.contains(says);
    for (program, type_, says) in [
        ("du", "directory", "Not a directory"),
        ("install", "directory", "omitting directory"),
        ("sed", "FIFO", "not a regular file"),
    ] {
        let told = of(program, type_);
        let noticed = told.iter().any(|what| whatever(what, says));
        assert!(noticed, "{program}, {type_}: {told:?}");
    }
    assert!(of("od", "FIFO").iter().all(|what| what.starts_with("not")));
    let last = text.lines().last().unwrap();
    assert!(
        last.starts_with(&format!("{} answers", rows.len())),
        "{last}"
    );
    let left: Vec<_> = std::fs::read_dir(folder.path()).unwrap().collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn unusual_filetypes_are_noticed_or_not() {
    unusual_filetypes(&Folder::new(), &[]);
}

#[test]
fn unusual_filetypes_need_no_privileges() {
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    let folder = Folder::new();
    let all = std::fs::Permissions::from_mode(0o777);
    std::fs::set_permissions(folder.path(), all).unwrap();
    let user = ["--reuid", "12345", "--regid", "12345", "--clear-groups"];
    unusual_filetypes(&folder, &[&["setpriv"], &user[..]].concat());
}

#[test]
fn legacy_script_says_that_its_recording_is_not_there() {
    let folder = Folder::new();
    let done = folder.rrapper([shipped("legacy_flask.lua")]);
    assert_eq!(done.code, Some(2));
    assert_eq!(done.stderr.trim_end().lines().count(), 1, "{}", done.stderr);
    assert!(done.stderr.contains("test/flask-1"), "{}", done.stderr);
}

#[test]
fn legacy_script_injects_a_trace_at_an_event() {
    let folder = Folder::new();
    folder.numbers();
    folder.record("rec", &["wc", "numbers"]).ok();
    let (event, pid) = first_event(&folder, r#"syscall = "read", path = "*numbers""#);
    let trace = strace(&folder, &["wc", "numbers"]);
    let first = index_of(&trace, |line| {
        line.contains(" read(3, \"") && line.contains("= 16384")
    });
    let done = folder
        .rrapper([
            shipped("legacy_flask.lua"),
            "rec".into(),
            event,
            pid,
            "run.strace".into(),
            first.to_string(),
            (first + 3).to_string(),
        ])
        .ok();
    assert!(done.text().contains("completed"), "{}", done.text());
}

/// The number and pid of the first event that matches.
fn first_event(folder: &Folder, filter: &str) -> (String, String) {
    let text = folder
        .script(&format!(
            "rr.open 'rec' local e = assert(rr.find{{ {filter} }}) print(e.event, e.pid)"
        ))
        .ok()
        .text();
    let (event, pid) = text.trim().split_once('\t').unwrap();
    (event.to_string(), pid.to_string())
}

/// Runs a program under strace; its trace is in `run.strace`, and its lines are returned.
fn strace(folder: &Folder, argv: &[&str]) -> Vec<String> {
    let options = [
        "strace",
        "-f",
        "-s",
        "1048576",
        "-vvvvv",
        "-o",
        "run.strace",
    ];
    folder.plain(&[&options, argv].concat());
    let text = std::fs::read(folder.join("run.strace")).unwrap();
    String::from_utf8_lossy(&text)
        .lines()
        .map(String::from)
        .collect()
}

fn index_of(lines: &[String], which: impl Fn(&str) -> bool) -> usize {
    lines
        .iter()
        .position(|line| which(line))
        .expect("such a line in the trace")
}

#[test]
fn traces_of_other_runs_drive_whole_programs() {
    let folder = Folder::new();
    folder.write("small", "two\nlines\n");
    for argv in [
        &["cat", "small"][..],
        &["ls", "-l", "/usr/bin"],
        &["sort", "small"],
        &["wc", "small"],
        &["sed", "s/two/2/", "small"],
        &["sha256sum", "small"],
        &["gzip", "-c", "small"],
        &["date", "+%Y"],
        &["sqlite3", ":memory:", "select 6 * 7;"],
        &[
            "/usr/bin/python3",
            "-c",
            "import json; print(json.dumps(len(open('small').read())))",
        ],
    ] {
        let _ = std::fs::remove_dir_all(folder.join("rec"));
        let recorded = folder.record("rec", argv).ok();
        strace(&folder, argv);
        let out = folder
            .script(
                r#"
                rr.open "rec"
                rr.replay_to(1)
                local outcome = spin_off():inject "run.strace"
                assert(outcome.status == "exited", tostring(outcome))
                assert(outcome.divergence == nil, tostring(outcome))
                io.write(outcome.stdout)
                "#,
            )
            .ok();
        assert_eq!(out.text(), recorded.text(), "{argv:?}");
    }
}

#[test]
fn a_segment_drives_a_copy_also_after_it_was_saved_as_text() {
    let folder = Folder::new();
    folder.numbers();
    let recorded = folder.record("rec", &["sed", "-n", "77p", "numbers"]).ok();
    let text = folder
        .script(
            r#"
            local rec = rr.open "rec"
            local last
            for e in rr.events{} do last = e.event end
            for _, first in ipairs{ 1, last // 2 } do
              local stop = rr.replay_to(first)
              local segment = rec:segment(first, last)
              segment:save "segment.strace"
              for _, trace in ipairs{ segment, "segment.strace" } do
                local outcome = stop:spin_off():inject(trace)
                assert(outcome.divergence == nil, tostring(outcome))
                io.write(outcome.stdout)
              end
            end
            "#,
        )
        .ok()
        .text();
    assert_eq!(text, recorded.text().repeat(4));
}

#[test]
fn a_part_of_a_trace_ends_completed_and_keep_goes_on() {
    let folder = Folder::new();
    folder.numbers();
    let size = folder.record("rec", &["cat", "numbers"]).ok().stdout.len();
    let text = folder
        .script(
            r#"
            rr.open "rec"
            local stop = rr.replay_to(rr.find{ syscall = "read", path = "*numbers" })
            local copy = stop:spin_off()
            local a = copy:inject(nil, 0, 1, { finally = "keep" })
            local b = copy:inject { finally = "live", on_divergence = "live" }
            print(a.status, #a.stdout, b.status, b.exit_code, #a.stdout + #b.stdout)
            local c = stop:spin_off():inject(nil, 0, 0)
            print(c.status, #c.stdout, #c.calls)
            "#,
        )
        .ok()
        .text();
    assert_eq!(
        text,
        format!("completed\t131072\texited\t0\t{size}\ncompleted\t0\t1\n")
    );
}

#[test]
fn hooks_see_and_change_calls() {
    let folder = Folder::new();
    folder.write("greeting", "hello\n");
    folder.record("rec", &["cat", "greeting"]).ok();
    let text = folder
        .script(
            r#"
            rr.open "rec"
            rr.replay_to(rr.find{ syscall = "openat", path = "*greeting" })
            local seen = {}
            local outcome = spin_off():inject {
              read = {
                enter = function(call)
                  assert(call.ret == nil and call.phase == "enter")
                  seen[#seen + 1] = ("%s fd %d of %s, count %d"):format(call.name, call.fd, call.path, call.args.count)
                end,
                exit = function(call)
                  if call.ret > 0 then
                    assert(call:data() == "hello\n")
                    call:data("HELLO, WORLD\n")
                  end
                end,
              },
              on_divergence = function(d)
                seen[#seen + 1] = ("%s instead of %s: %s"):format(d.actual, d.expected, d.arg)
                return "live"
              end,
            }
            print(outcome.status, outcome.exit_code, outcome.stdout)
            print(table.concat(seen, "\n"))
            "#,
        )
        .ok()
        .text();
    let name = folder.path().canonicalize().unwrap().join("greeting");
    let expected = format!(
        "exited\t0\tHELLO, WORLD\n\n\
         read fd 3 of {0}, count 131072\n\
         write(1, \"HELLO, WORLD\\n\", 13) instead of write(1, \"hello\\n\", 6) = 6: buf\n\
         read fd 3 of {0}, count 131072\n",
        name.display()
    );
    assert_eq!(text, expected);
}

#[test]
fn a_copy_sees_its_recorded_pid_and_has_another() {
    let folder = Folder::new();
    let program = "import os\n\
        open('small').read()\n\
        print(os.getpid(), os.kill(os.getpid(), 0), os.getpid())";
    folder.write("small", "x");
    let recorded = folder
        .record("rec", &["/usr/bin/python3", "-c", program])
        .ok()
        .text();
    let text = folder
        .script(
            r#"
            local rec = rr.open "rec"
            local stop = rr.replay_to(rr.find{ syscall = "openat", path = "*small" })
            local copy = stop:spin_off()
            assert(copy.pid == rec:processes()[1].pid or copy.pid == rec:processes()[1])
            assert(copy.real_pid ~= copy.pid)
            io.write(copy:live({}).stdout)
            io.write(stop:spin_off():inject().stdout)
            "#,
        )
        .ok()
        .text();
    assert_eq!(text, recorded.repeat(2));
}

#[test]
fn events_are_listed_in_straces_syntax_and_filtered() {
    let folder = Folder::new();
    folder.numbers();
    folder.record("rec", &["cat", "numbers", "missing"]);
    let all = folder.rrapper(["events", "rec"]).ok().text();
    let first = all.lines().next().unwrap().trim_start();
    assert!(
        first.starts_with("1 ") && first.contains(" execve(\""),
        "{first}"
    );
    assert!(
        all.lines()
            .last()
            .unwrap()
            .contains("+++ exited with 1 +++")
    );
    // What is printed is what strace's reader understands.
    let lines: String = all
        .lines()
        .map(|line| {
            line.trim_start()
                .split_once(' ')
                .map_or(line, |(_, rest)| rest)
                .to_string()
                + "\n"
        })
        .collect();
    let parsed = rrapper::strace::parse(lines.as_bytes(), "events");
    assert_eq!(parsed.problems, []);
    let count = |args: &[&str]| {
        let text = folder
            .rrapper(["events", "rec"].iter().chain(args))
            .ok()
            .text();
        text.lines().filter(|line| !line.contains("+++")).count()
    };
    assert_eq!(
        count(&["--syscall", "openat", "--path", "missing", "--failed"]),
        1
    );
    assert_eq!(count(&["--failed=ENOENT", "--path", "missing"]), 1);
    assert_eq!(count(&["--syscall", "read", "--path", "*/numbers"]), 3);
    assert_eq!(
        count(&["--syscall", "read", "--path", "*/numbers", "--nth", "2"]),
        1
    );
    assert!(count(&["--syscall", "!read"]) > 20);
}

#[test]
fn hooks_can_start_programs() {
    let folder = Folder::new();
    folder.write("greeting", "hello\n");
    folder.record("rec", &["cat", "greeting"]).ok();
    let text = folder
        .script(
            r#"
            rr.open "rec"
            rr.replay_to(rr.find{ syscall = "read", path = "*greeting" })
            local outcome = spin_off():inject {
              read = { when = "1", exit = function(call)
                local pipe <close> = io.popen "date +%Y"
                print(os.execute "true", #pipe:read "a")
              end },
            }
            print(outcome.status)
            "#,
        )
        .ok()
        .text();
    assert_eq!(text, "true\t5\nexited\n");
}

#[test]
fn going_back_and_forth_gives_the_same_process() {
    let folder = Folder::new();
    folder.numbers();
    folder.record("rec", &["sort", "numbers"]).ok();
    let text = folder
        .script(
            r#"
            rr.open "rec"
            local function state(event)
              local stop = rr.replay_to(event)
              local copy <close> = stop:spin_off()
              local r = copy:regs()
              return ("%d %s %x %x %x"):format(stop.event, stop.call, r.rip, r.rsp, r.rdi)
            end
            local last
            for e in rr.events{} do last = e.event end
            local forth, back = {}, {}
            for n = 1, last, 7 do forth[#forth + 1] = state(n) end
            for n = 1 + (last - 1) // 7 * 7, 1, -7 do table.insert(back, 1, state(n)) end
            assert(#forth == #back and #forth > 10)
            for i = 1, #forth do assert(forth[i] == back[i], forth[i] .. " / " .. back[i]) end
            print(#forth)
            "#,
        )
        .ok()
        .text();
    assert!(text.trim().parse::<u32>().unwrap() > 10);
}

/// A stop shows of every process what a copy of it would.
#[test]
fn a_stop_shows_its_processes() {
    let folder = Folder::new();
    folder.record("rec", &["sh", "-c", "(exec cat /dev/null) | wc -l"]);
    let text = folder
        .script(
            r#"
            local rec = rr.open "rec"
            local function shown(object, pid)
              local r, fds = object:regs(pid), {}
              for fd, file in pairs(object:fds(pid)) do fds[#fds + 1] = fd .. file.path end
              table.sort(fds)
              local names = {}
              for _, map in ipairs(object:maps(pid)) do names[#names + 1] = map.perms .. map.name end
              local stack = object:backtrace(pid)
              return ("%x %x %x %s\n%s\n%d %s"):format(r.rip, r.rsp, r.rdi, table.concat(fds, " "),
                table.concat(names, "\n"), #stack, tostring(stack[1]))
            end
            local seen = 0
            for _, life in ipairs(rec:processes()) do
              local at = life.last
              local stop = rec:replay_to(at)
              for _, other in ipairs(rec:processes()) do
                if other.first <= at and other.last >= at then
                  local copy <close> = stop:spin_off(other.pid)
                  assert(shown(stop, other.pid) == shown(copy), at .. " " .. other.pid)
                  local sp = copy:regs().rsp
                  assert(stop:read(sp, 256, other.pid) == copy:read(sp, 256), other.pid)
                  copy:write(sp, "changed!")
                  assert(stop:read(sp, 8, other.pid) ~= "changed!", other.pid)
                  seen = seen + 1
                end
              end
              local copy <close> = stop:spin_off(stop.pid)
              assert(shown(stop, stop.pid) == shown(copy))
            end
            local stop = rec:replay_to(1)
            print(seen >= 4, pcall(stop.regs, stop, 99999999))
            print(pcall(stop.read, stop, 1, 8))
            print(pcall(function() return stop.map end))
            "#,
        )
        .ok()
        .text();
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines[0].starts_with("true\tfalse\t"), "{text}");
    assert!(lines[1].starts_with("false\t"), "{text}");
    assert!(text.contains("maps"), "{text}");
}

#[test]
fn processes_of_a_pipeline_find_it_broken() {
    let folder = Folder::new();
    let text = folder.rrapper([shipped("pipeline.lua")]).ok().text();
    let (mut about, mut ends) = (String::new(), Vec::new());
    for line in text.lines().skip(1) {
        match line.strip_prefix("  ") {
            None => about = line.split(" fails").next().unwrap_or_default().to_string(),
            Some(end) => {
                let (name, rest) = end.split_once(" ends with ").expect("an end");
                let how = rest.split(' ').next().unwrap_or_default();
                ends.push(format!("{about}: {name} {how}"));
            }
        }
    }
    for expected in [
        "seq: the first write: seq 1",
        "seq: the first write: grep 1",
        "grep: the first read: grep 2",
        "grep: the first write: seq SIGPIPE",
        "grep: the first write: grep 2",
        "sort: the first read: grep SIGPIPE",
        "sort: the first read: sort 2",
    ] {
        assert!(ends.iter().any(|end| end == expected), "{expected}\n{text}");
    }
}

#[test]
fn a_client_says_what_it_makes_of_its_servers_trouble() {
    let folder = Folder::new();
    folder.write(
        "server_and_client.lua",
        include_str!("../scripts/server_and_client.lua"),
    );
    let text = folder.rrapper(["server_and_client.lua"]).ok().text();
    for (trouble, said) in [
        (
            "recvfrom of the server fails with ECONNRESET: exited",
            "curl: 52",
        ),
        (
            "accept4 of the server fails with EMFILE: exited",
            "curl: 56",
        ),
        (
            "sendto of the server fails with EPIPE: exited",
            "BrokenPipeError",
        ),
        ("openat of the server fails with EACCES: exited", "404 "),
    ] {
        let (_, rest) = text.split_once(trouble).unwrap_or_else(|| panic!("{text}"));
        let part = rest.split(" of the server ").next().unwrap_or_default();
        assert!(part.contains(said), "{trouble}\n{text}");
    }
}
