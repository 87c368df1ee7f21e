//! What recordings share, what removes it, and what never does; and the input that a program is given.

use crate::common::{Folder, RRAPPER};
use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::PathBuf;

/// The files in a directory, by name.
fn files(dir: PathBuf) -> BTreeMap<String, fs::Metadata> {
    let entries = fs::read_dir(dir).into_iter().flatten();
    entries
        .map(|entry| {
            let entry = entry.unwrap();
            let name = entry.file_name().into_string().unwrap();
            (name, entry.metadata().unwrap())
        })
        .collect()
}

/// The files that a recording holds, by their inodes.
fn held(folder: &Folder, recording: &str) -> Vec<u64> {
    let mut inodes: Vec<u64> = files(folder.join(recording).join("files"))
        .values()
        .map(MetadataExt::ino)
        .collect();
    inodes.sort_unstable();
    inodes.dedup();
    assert!(!inodes.is_empty(), "{recording}");
    inodes
}

fn stored(folder: &Folder) -> BTreeMap<String, fs::Metadata> {
    files(folder.join("data/rrapper/.store"))
}

fn replays(folder: &Folder, recording: &str) {
    let replayed = folder.rrapper(["replay", recording]).ok();
    assert_eq!(replayed.text(), "hello\n", "{recording}");
}

fn record(folder: &Folder, out: Option<&str>) {
    let out = out.map_or(Vec::new(), |out| vec!["-o", out]);
    folder
        .rrapper([&["-q", "record"], &out[..], &["--", "echo", "hello"]].concat())
        .ok();
}

#[test]
fn mapped_files_are_there_once() {
    let folder = Folder::new();
    record(&folder, None);
    record(&folder, None);
    record(&folder, Some("elsewhere"));
    let first = held(&folder, "data/rrapper/echo-0");
    for other in ["data/rrapper/echo-1", "elsewhere"] {
        assert_eq!(held(&folder, other), first, "{other}");
    }
    let all = stored(&folder);
    assert_eq!(all.len(), first.len());
    assert!(
        all.values()
            .all(|meta| meta.nlink() == 4 && meta.mode() & 0o777 == 0o400)
    );
    // A recording is whole wherever it is, and whatever becomes of others.
    fs::rename(folder.join("elsewhere"), folder.join("moved")).unwrap();
    folder.rrapper(["rm", "echo-0"]).ok();
    fs::remove_dir_all(folder.join("data/rrapper/.store")).unwrap();
    replays(&folder, "moved");
    replays(&folder, "echo-1");
    let copied = folder.plain(&["cp", "-r", "moved", "copied"]);
    copied.ok();
    folder.rrapper(["rm", "moved", "echo-1"]).ok();
    replays(&folder, "copied");
    folder
        .rrapper(["-q", "pack", "copied", "-o", "packed.rrpack"])
        .ok();
    replays(&folder, "packed.rrpack");
}

#[test]
fn what_no_recording_has_is_removed() {
    let folder = Folder::new();
    record(&folder, None);
    record(&folder, Some("elsewhere"));
    assert!(!stored(&folder).is_empty());
    folder.rrapper(["rm", "echo-0"]).ok();
    assert!(!stored(&folder).is_empty(), "the other has them");
    fs::remove_dir_all(folder.join("elsewhere")).unwrap();
    let said = folder.rrapper(["prune"]).ok();
    assert!(
        said.stderr
            .starts_with("rrapper: removed 0 recordings, freed "),
        "{}",
        said.stderr
    );
    assert!(!said.stderr.contains("freed 0 B"), "{}", said.stderr);
    assert!(stored(&folder).is_empty());
    // The last recording takes all along.
    record(&folder, None);
    folder.rrapper(["rm", "latest"]).ok();
    assert!(stored(&folder).is_empty());
}

#[test]
fn what_was_changed_in_the_store_is_not_believed() {
    type Change = fn(&PathBuf);
    let changes: [(&str, Change); 4] = [
        ("cut short", |path| {
            fs::set_permissions(path, Permissions::from_mode(0o600)).unwrap();
            fs::write(path, "").unwrap();
            fs::set_permissions(path, Permissions::from_mode(0o400)).unwrap();
        }),
        ("another of the same size", |path| {
            let mut content = fs::read(path).unwrap();
            // Behind all that goes into its name.
            let at = content.len() - 1;
            content[at] ^= 1;
            fs::remove_file(path).unwrap();
            fs::write(path, content).unwrap();
            fs::set_permissions(path, Permissions::from_mode(0o400)).unwrap();
        }),
        ("writable", |path| {
            fs::set_permissions(path, Permissions::from_mode(0o600)).unwrap();
        }),
        ("a link to something else", |path| {
            fs::remove_file(path).unwrap();
            std::os::unix::fs::symlink("/etc/passwd", path).unwrap();
        }),
    ];
    for (what, change) in changes {
        let folder = Folder::new();
        record(&folder, None);
        let before = held(&folder, "data/rrapper/echo-0");
        for name in stored(&folder).into_keys() {
            change(&folder.join("data/rrapper/.store").join(name));
        }
        record(&folder, None);
        let after = held(&folder, "data/rrapper/echo-1");
        assert!(after.iter().all(|inode| !before.contains(inode)), "{what}");
        replays(&folder, "echo-1");
        // And what is new there serves the next.
        record(&folder, None);
        assert_eq!(held(&folder, "data/rrapper/echo-2"), after, "{what}");
    }
}

#[test]
fn several_recorders_at_once() {
    let folder = Folder::new();
    let mut running: Vec<_> = (0..6)
        .map(|n| {
            let out = format!("rec{n}");
            let mut command = folder.command(RRAPPER);
            command.args(["-q", "record", "-o", &out, "--", "echo", "hello"]);
            command.stdout(std::process::Stdio::null());
            command.spawn().unwrap()
        })
        .collect();
    for child in &mut running {
        assert!(child.wait().unwrap().success());
    }
    for n in 0..6 {
        replays(&folder, &format!("rec{n}"));
    }
}

/// A mapped file that grows as it is recorded does not grow in recordings that have it as it was.
#[test]
fn what_grows_is_not_shared() {
    let folder = Folder::new();
    let program = folder.compile("grows", &[]);
    let content = |recording: &str| -> Vec<Vec<u8>> {
        let dir = folder.join(recording).join("files");
        let kept = fs::read_dir(dir).unwrap();
        let all = kept.map(|entry| fs::read(entry.unwrap().path()).unwrap());
        all.filter(|content| content.starts_with(b"begin"))
            .collect()
    };
    folder.write("grown", "begin");
    folder.record("still", &[&program]).ok();
    folder.record("more", &[&program, "more"]).ok();
    assert_eq!(content("still"), [b"begin"]);
    assert!(content("more").contains(&b"begin".to_vec()));
    replays(&folder, "still");
    let replayed = folder.rrapper(["replay", "more"]).ok();
    assert_eq!(replayed.text().lines().last(), Some("hello"));
}

/// What is in the place for recordings.
fn names(folder: &Folder) -> Vec<String> {
    let all = files(folder.join("data/rrapper")).into_keys();
    all.filter(|name| !name.starts_with('.') && name != "latest")
        .collect()
}

#[test]
fn old_recordings_are_pruned() {
    let folder = Folder::new();
    for _ in 0..4 {
        record(&folder, None);
    }
    let place = folder.join("data/rrapper");
    fs::create_dir(place.join("notes")).unwrap();
    fs::write(place.join("notes/events"), "not one").unwrap();
    fs::write(place.join("list.txt"), "mine").unwrap();
    let all = ["echo-0", "echo-1", "echo-2", "echo-3", "list.txt", "notes"];
    let prune = |args: &[&str]| folder.rrapper([&["prune"], args].concat());
    for (args, said) in [
        (&["--older", "30"][..], "a number and a unit"),
        (&["--older", "-1d"], "unexpected argument"),
        (&["--older", "1d", "--keep", "2"], "cannot be used with"),
        (&["--keep", "some"], "invalid value"),
        (&["--keep", "-1"], "unexpected argument"),
        (&["echo-0"], "unexpected argument"),
    ] {
        prune(args).complains(&[said]);
    }
    let dry = prune(&["--keep", "1", "--dry-run"]).ok();
    assert_eq!(dry.text().lines().count(), 3);
    assert!(
        dry.stderr
            .starts_with("rrapper: would remove 3 recordings, would free ")
    );
    prune(&["--older", "1d"]).ok();
    prune(&["--keep", "4"]).ok();
    assert_eq!(
        names(&folder),
        all,
        "nothing is that old, and there are no more"
    );
    let done = prune(&["--keep", "1"]).ok();
    assert_eq!(done.text(), dry.text());
    let freed = dry
        .stderr
        .replace("would remove", "removed")
        .replace("would free", "freed");
    assert_eq!(done.stderr, freed);
    let left = names(&folder);
    assert_eq!(left.len(), 3, "{left:?}");
    assert!(left.contains(&"list.txt".into()) && left.contains(&"notes".into()));
    replays(&folder, "latest");
    prune(&["--older", "0d"]).ok();
    assert_eq!(names(&folder), ["list.txt", "notes"]);
    assert!(stored(&folder).is_empty());
    assert!(!place.join("latest").exists());
}

#[test]
fn copies_read_what_was_not_yet_read_of_what_was_given() {
    let folder = Folder::new();
    folder.write("input", "skipped\none\ntwo\nthree\n");
    let script = r#"
        local file = io.open("input")
        file:read()
        local text = "one\ntwo\nthree\n"
        for _, stdin in ipairs{ text, file } do
            for _, program in ipairs{
                { "cat" },
                { "sh", "-c", "read first; echo $first; cat" },
                { "sh", "-c", "exec 5<&0; read first <&5; echo $first; head -c 2 <&5; cat <&5" },
                { "sh", "-c", "head -c 6; cat /dev/stdin", said = "one\ntw" .. text },
            } do
                local said = program.said or text
                program.said = nil
                program.stdin = stdin
                made = (made or 0) + 1
                program.out = "rec" .. made
                local rec = rr.record(program)
                local tried = 0
                for event in rec:events{ syscall = "read", fd = 0 } do
                    if event.path and event.path:find("memfd:stdin", 1, true) then
                        local copy = rr.replay_to(event.event):spin_off()
                        local o = copy:inject(nil, { timeout = 20, finally = "live" })
                        assert(o.status == "exited" and o.exit_code == 0, tostring(o))
                        local live = rr.replay_to(event.event):spin_off():live{ timeout = 20 }
                        assert(live.status == "exited" and live.exit_code == 0, tostring(live))
                        assert(said:sub(-#live.stdout) == live.stdout or live.stdout == "", live.stdout)
                        tried = tried + 1
                        if tried == 1 then first = #live.stdout end
                    end
                    if tried > 4 then break end
                end
                assert(tried > 0, "no read")
                print(program[3] or program[1], first)
            end
        end
    "#;
    let done = folder.script(script).ok();
    let said = done.text();
    let told: Vec<&str> = said.lines().filter(|line| line.contains('\t')).collect();
    assert_eq!(told.len(), 8, "{said}");
    assert!(told[0].starts_with("cat\t14"), "{said}");
    assert!(told[1].ends_with("\t14"), "{said}");
}
