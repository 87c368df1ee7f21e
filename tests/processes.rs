//! What can be asked of a recording of several processes and threads: who they are, whose an event is, and traces of them.

use crate::common::Folder;

/// A shell, two that it forks, and one of those executes another program.
const SHELL: &str = "echo a; (exit 3); /bin/echo b | cat >/dev/null; kill -TERM $(sh -c 'echo $$; exec sleep 0' | head -n 1) 2>/dev/null; exit 0";

fn recorded(argv: &[&str]) -> Folder {
    let folder = Folder::new();
    folder.record("rec", argv).ok();
    folder
}

#[test]
fn processes_are_listed_with_what_they_ran_and_how_they_ended() {
    let folder = recorded(&["sh", "-c", SHELL]);
    let listed = folder.script(
        r#"
        local rec = rr.open "rec"
        local all, seen = rec:processes(), {}
        for i, p in ipairs(all) do
          assert(i == 1 or p.ppid == all[1].pid or seen[p.ppid], "a child of one of them")
          seen[p.pid] = p
          print(p.argv[1], p.exe:match "[^/]*$", p.exit.code, p.exit.signal)
        end
        local count = {}
        for event in rr.events{} do
          local p = assert(seen[event.pid])
          assert(event.event >= p.first and event.event <= p.last)
          count[event.pid] = (count[event.pid] or 0) + 1
          assert(rec:event(event.event).pid == event.pid)
        end
        for pid, n in pairs(count) do
          local found = 0
          for event in rr.events{ pid = pid } do found = found + 1 end
          assert(found == n, "as many as there are")
          assert(rr.find{ pid = pid }.event == seen[pid].first)
        end
        "#,
    );
    let listed = listed.ok().text();
    let lines: Vec<&str> = listed.lines().collect();
    let shell = lines[0].strip_prefix("sh\t").expect("the shell first");
    assert!(shell.ends_with("\t0\tnil"), "{listed}");
    assert_eq!(lines[1], format!("sh\t{}", shell.replace("\t0", "\t3")));
    assert!(lines.contains(&"/bin/echo\techo\t0\tnil"), "{listed}");
    assert!(lines.contains(&"cat\tcat\t0\tnil"), "{listed}");
    assert!(lines.contains(&"sleep\tsleep\t0\tnil"), "{listed}");
}

#[test]
fn events_are_shown_with_their_task_and_every_end() {
    let folder = recorded(&["sh", "-c", "(exit 3); echo b | cat"]);
    let all = folder.rrapper(["events", "rec"]).ok().text();
    let ends: Vec<&str> = all.lines().filter(|line| line.contains("+++")).collect();
    assert_eq!(ends.len(), 4, "{all}");
    assert_eq!(
        ends.iter()
            .filter(|end| end.ends_with("exited with 3 +++"))
            .count(),
        1
    );
    let child = ends[0].split_whitespace().next().unwrap();
    let of_child = folder.rrapper(["events", "rec", "--pid", child]);
    let of_child = of_child.ok().text();
    // The number of the event, where there is one, then the task.
    let mine = |line: &&str| line.split_whitespace().take(2).any(|word| word == child);
    let expected: String = all.lines().filter(mine).map(|l| format!("{l}\n")).collect();
    assert_eq!(of_child, expected);
    assert!(of_child.lines().count() > 2, "{of_child}");
}

#[test]
fn threads_are_of_their_process() {
    let folder = Folder::new();
    let program = folder.compile("family", &["-pthread"]);
    folder.record("rec", &[&program]).ok();
    let counts = folder.script(
        r#"
        local rec = rr.open "rec"
        local first = rec:processes()[1]
        local own, threads, all = 0, {}, 0
        for event in rr.events{ pid = first.pid } do
          assert(event.pid == first.pid)
          all = all + 1
          if event.tid == first.pid then own = own + 1 else threads[event.tid] = true end
        end
        local n = 0
        for tid in pairs(threads) do
          n = n + 1
          for event in rr.events{ pid = tid } do assert(event.tid == tid) end
        end
        print(n, own > 0, all > own, #rec:processes())
        local trace = rec:segment(1, #rec, first.pid)
        assert(#trace == all - select(2, tostring(trace):gsub("\n[%d ]*%-%-%- ", "")), "calls of all its threads")
        "#,
    );
    assert_eq!(counts.ok().text(), "4\ttrue\ttrue\t12\n");
}

#[test]
fn a_trace_of_several_tasks_is_the_same_when_it_is_read_again() {
    let folder = recorded(&["sh", "-c", SHELL]);
    folder
        .script(
            r#"
            local rec = rr.open "rec"
            local whole = rec:segment(1, #rec)
            whole:save "text"
            local again = trace.load "text"
            assert(#again == #whole, #again .. " are " .. #whole)
            for i = 1, #whole do
              assert(again[i].tid == whole[i].tid, i)
              assert(tostring(again[i]) == tostring(whole[i]), tostring(whole[i]))
            end
            again:save "text2"
            "#,
        )
        .ok();
    let text = std::fs::read_to_string(folder.join("text")).unwrap();
    assert_eq!(text, std::fs::read_to_string(folder.join("text2")).unwrap());
    assert!(text.matches("+++ exited with").count() >= 6, "{text}");
    folder.rrapper(["trace", "check", "text"]).ok();
}
