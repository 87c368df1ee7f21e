//! Recorded files that cannot be kept, cannot be had any more, or were made up: one sentence each, and nothing outside of the
//! sandbox is read or written.

use crate::common::limits::{Chance, is_sane};
use crate::common::{Done, Folder, RRAPPER, as_user};
use rrapper::history::Recording;
use rrapper::recording::{
    Before, ContentBefore, FileBefore, Frame, Reader, Source, Status, Writer,
};
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::time::{Duration, Instant};

const PYTHON: &str = "/usr/bin/python3";

/// A script that prints what a copy at an event, or in the middle, does live, and what it could not be shown.
const LIVE: &str = r#"
for _, name in ipairs(arg) do
  local recording = rr.open(name)
  local copy <close> = recording:replay_to(math.min(EVENT or #recording // 2, #recording)):spin_off()
  local outcome = copy:live { timeout = 5 }
  print(outcome.status, outcome.exit_code, (outcome.stdout:gsub("\n", " ")), (outcome.stderr:gsub("\n", " ")))
  for _, sentence in ipairs(outcome.missing) do print("missing: " .. sentence) end
end
"#;

/// Runs that for recordings, with a limit of the memory.
fn live(folder: &Folder, event: Option<u64>, recordings: &[&str]) -> Done {
    let event = event.map_or(String::new(), |event| format!("EVENT = {event}\n"));
    folder.write("live.lua", event + LIVE);
    let mut command = folder.command("sh");
    let limit = "ulimit -v 4000000; exec \"$@\"";
    command.args(["-c", limit, "sh", RRAPPER, "-q", "live.lua"]);
    let done = Done::from(command.args(recordings).output().unwrap());
    is_sane(&done, &format!("{recordings:?}"));
    done
}

/// The number of the kept file with a content.
fn kept(folder: &Folder, recording: &str, content: &[u8]) -> u64 {
    let files = fs::read_dir(folder.join(recording).join("files")).unwrap();
    let mut files = files.map(|file| file.unwrap().path());
    let found = files.find(|file| fs::read(file).unwrap() == content);
    let name = found
        .unwrap()
        .file_name()
        .unwrap()
        .to_str()
        .unwrap()
        .to_owned();
    name.parse().unwrap()
}

/// Copies a recording, with other files before it.
fn with_files(folder: &Folder, from: &str, to: &str, files: Vec<FileBefore>) {
    let reader = Reader::open(&folder.join(from)).unwrap();
    let mut writer = Writer::create(&folder.join(to)).unwrap();
    writer
        .write(&Frame::Start(Reader::start(&reader).clone()))
        .unwrap();
    for file in files {
        writer.write(&Frame::Before(file)).unwrap();
    }
    let mut frames = Source::frames_from(&reader, 1).unwrap();
    while let Some(frame) = frames.next_frame().unwrap() {
        writer.write(&frame).unwrap();
    }
    drop(writer);
    for file in fs::read_dir(folder.join(from).join("files")).unwrap() {
        let file = file.unwrap();
        fs::copy(
            file.path(),
            folder.join(to).join("files").join(file.file_name()),
        )
        .unwrap();
    }
}

fn files_of(folder: &Folder, recording: &str) -> Vec<FileBefore> {
    let recording = Recording::open(&folder.join(recording)).unwrap();
    recording.files_before().unwrap()
}

/// A file with a status that fits.
fn file(path: &[u8], mode: u32, link: &[u8]) -> FileBefore {
    let status = Status {
        mode,
        link: link.to_vec(),
        inode: (1, 2),
        ..Status::default()
    };
    FileBefore {
        path: path.to_vec(),
        was: Before::File(Box::new(status)),
    }
}

fn content(path: &[u8], content: ContentBefore) -> FileBefore {
    FileBefore {
        path: path.to_vec(),
        was: Before::Content(content),
    }
}

#[test]
fn kept_files_that_are_missing_or_damaged_are_said() {
    let folder = Folder::new();
    let secret = folder.write("secret", "nobody may see this");
    let names = ["gone", "changed", "cut", "link", "whole"];
    let bytes = |name: &str| name.repeat(20_000).into_bytes();
    for name in names {
        folder.write(name, bytes(name));
    }
    folder.record("rec", &[&["cat"], &names[..]].concat()).ok();
    let all = folder.join("rec/files");
    let at = |name: &str| all.join(kept(&folder, "rec", &bytes(name)).to_string());
    let numbers = names.map(|name| (name, at(name)));
    for (name, path) in &numbers {
        let mut damaged = bytes(name);
        if *name == "whole" {
            continue;
        }
        fs::remove_file(path).unwrap();
        match *name {
            "changed" => damaged[7000] ^= 1,
            "cut" => damaged.truncate(5000),
            "link" => {
                symlink(&secret, path).unwrap();
                continue;
            }
            _ => continue,
        }
        fs::write(path, damaged).unwrap();
    }
    // What is there today is shown where what was there cannot be.
    for name in names {
        fs::remove_file(folder.join(name)).unwrap();
    }
    folder.write("changed", "today");
    let done = live(&folder, Some(10), &["rec"]).ok();
    let text = done.text();
    let missing: Vec<&str> = text
        .lines()
        .filter(|line| line.starts_with("missing: "))
        .collect();
    for (name, why) in [
        ("gone", "No such file"),
        ("changed", "it is not what was kept"),
        ("cut", "it is not what was kept"),
        ("link", "it is not a regular file"),
    ] {
        let about: Vec<_> = missing
            .iter()
            .filter(|line| line.contains(&format!("/{name} as it was")))
            .collect();
        assert!(about.len() == 1 && about[0].contains(why), "{name}: {text}");
    }
    assert_eq!(missing.len(), 4, "{text}");
    assert!(
        text.starts_with(&format!("exited\t1\ttoday{}\t", "whole".repeat(20_000))),
        "{text:.100}"
    );
    assert!(!text.contains("nobody"), "{text}");
    // The directory itself leads elsewhere.
    folder.write("gone", bytes("gone"));
    folder.record("other", &["cat", "gone"]).ok();
    fs::remove_file(folder.join("gone")).unwrap();
    fs::rename(folder.join("other/files"), folder.join("elsewhere")).unwrap();
    symlink("../elsewhere", folder.join("other/files")).unwrap();
    let done = folder.rrapper(["-q", "live.lua", "other"]);
    is_sane(&done, "files is a link");
    assert!(done.stderr.contains("symbolic link"), "{}", done.stderr);
}

/// A recording with these files besides its own goes on live without anything outside being touched.
#[test]
fn files_that_were_made_up_stay_in_the_sandbox() {
    let folder = Folder::new();
    fs::create_dir(folder.join("work")).unwrap();
    fs::create_dir(folder.join("precious")).unwrap();
    folder.write("precious/file", "precious");
    let secret = folder.write("secret", "nobody may see this");
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o600)).unwrap();
    folder.write("work/a", "text");
    folder
        .record(
            "rec",
            &["sh", "-c", "cat work/a; ls -a work; echo new >work/b"],
        )
        .ok();
    let own = files_of(&folder, "rec");
    let at = |name: &str| folder.join(name).into_os_string().into_encoded_bytes();
    let (dir, regular, link) = (
        libc::S_IFDIR | 0o755,
        libc::S_IFREG | 0o644,
        libc::S_IFLNK | 0o777,
    );
    let bytes = |text: &[u8]| ContentBefore::Bytes(text.to_vec());
    let precious = at("precious");
    let through = at("work/way/file");
    let way_out = at("work/way");
    let huge = |path: &[u8]| {
        let mut huge = file(path, regular, b"");
        if let Before::File(status) = &mut huge.was {
            status.size = u64::MAX;
            status.modified = (i64::MIN, i64::MAX);
            status.attributes = vec![(b"user.\xff\0x".to_vec(), vec![0; 40_000]); 5];
        }
        huge
    };
    let cases: Vec<(&str, Vec<FileBefore>)> = vec![
        (
            "parts that lead up",
            vec![
                file(&at("work/../precious/file"), regular, b""),
                content(&at("work/../precious/file"), bytes(b"overwritten")),
                file(b"/../../etc/passwd", regular, b""),
                file(b"relative", regular, b""),
                file(b"", regular, b""),
                file(b"//", dir, b""),
                file(b"/tmp//x", regular, b""),
                file(b"/tmp/\0x", regular, b""),
                file(&[b"/".as_slice(), &[b'x'; 5000]].concat(), regular, b""),
                file(&b"/d".repeat(3000), dir, b""),
            ],
        ),
        (
            "a link out, and a file through it",
            vec![
                file(&way_out, link, &precious),
                file(&through, regular, b""),
                content(&through, bytes(b"overwritten")),
                file(&at("work/way2"), link, b"../precious"),
                file(&at("work/way2/file"), regular, b""),
                content(&at("work/way2/file"), bytes(b"overwritten")),
            ],
        ),
        (
            "the root, and directories of the system",
            vec![
                file(b"/", regular, b""),
                content(b"/", bytes(b"a file")),
                file(b"/proc", regular, b""),
                file(b"/proc/self/mem", regular, b""),
                content(b"/proc/self/mem", bytes(b"x")),
                file(b"/dev/null", regular, b""),
                content(b"/dev/null", bytes(b"x")),
                file(b"/dev/shm", link, &precious),
                FileBefore {
                    path: b"/sys".to_vec(),
                    was: Before::Nothing,
                },
            ],
        ),
        (
            "kinds that do not exist, and devices",
            vec![
                file(&at("work/c"), 0o170_000 | 0o7777, b""),
                file(&at("work/d"), libc::S_IFBLK | 0o666, b""),
                file(&at("work/e"), libc::S_IFSOCK | 0o666, b""),
                file(&at("work/f"), libc::S_IFIFO | 0o666, b""),
                file(&at("work/g"), link, b""),
                file(&at("work/h"), link, &[b'x'; 100_000]),
                file(&at("work/i"), u32::MAX, b""),
            ],
        ),
        (
            "contents that are not there",
            vec![
                file(&at("work/a"), regular, b""),
                content(&at("work/a"), ContentBefore::Kept(u32::MAX)),
                file(&at("work/b"), regular, b""),
                content(&at("work/b"), ContentBefore::Checked { id: 0, sum: 1 }),
                content(&at("work/nowhere"), bytes(b"x")),
                huge(&at("work/huge")),
                content(&at("work/huge"), ContentBefore::Kept(0)),
                huge(&at("work/huger")),
            ],
        ),
        ("the machine's file as the content of another", {
            let meta = fs::metadata(&secret).unwrap();
            let mut itself = file(&at("secret"), regular, b"");
            if let Before::File(status) = &mut itself.was {
                status.inode = (meta.dev(), meta.ino());
                status.size = meta.len();
            }
            vec![itself]
        }),
        (
            "many",
            (0..30_000)
                .map(|n| file(&at(&format!("work/many{n}")), regular, b""))
                .collect(),
        ),
    ];
    let before = snapshot(folder.path());
    for (what, files) in cases {
        // Both before and behind the true ones: the first of a path counts.
        let made = [files.clone(), own.clone(), files].concat();
        with_files(&folder, "rec", "made", made);
        let done = live(&folder, None, &["made"]).ok();
        let text = done.text();
        assert!(!text.contains("nobody may"), "{what}: {text:.3000}");
        let sentences = text.lines().count();
        assert!(sentences < 30, "{what}: {sentences} lines: {text:.3000}");
        fs::remove_dir_all(folder.join("made")).unwrap();
        fs::remove_file(folder.join("live.lua")).unwrap();
        assert_eq!(snapshot(folder.path()), before, "{what}");
    }
}

/// All below a directory but rrapper's own: kinds, contents and permissions.
fn snapshot(dir: &Path) -> Vec<(String, u32, Vec<u8>)> {
    let mut all = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let meta = fs::symlink_metadata(&path).unwrap();
        let name = path.to_string_lossy().into_owned();
        if ["data", "rec"].iter().any(|own| path.ends_with(own)) {
            continue;
        }
        match meta.file_type() {
            kind if kind.is_dir() => {
                all.push((name, meta.mode(), Vec::new()));
                all.extend(snapshot(&path));
            }
            kind if kind.is_symlink() => {
                let text = fs::read_link(&path).unwrap();
                all.push((name, 0, text.into_os_string().into_encoded_bytes()));
            }
            _ => all.push((name, meta.mode(), fs::read(&path).unwrap())),
        }
    }
    all.sort();
    all
}

/// Random changes of what a recording says of files: whatever it says, a live continuation has an outcome.
#[test]
fn whatever_is_said_of_files_there_is_an_outcome() {
    let folder = Folder::new();
    fs::create_dir(folder.join("work")).unwrap();
    fs::create_dir(folder.join("work/d")).unwrap();
    folder.write("work/d/a", "text");
    folder.write("work/large", vec![b'x'; 50_000]);
    symlink("d/a", folder.join("work/link")).unwrap();
    let program = "cat work/link work/large | wc -c; mv work/d work/e; echo new >work/e/b; ls work/e; rm -r work/e";
    folder.record("rec", &["sh", "-c", program]).ok();
    fs::remove_dir_all(folder.join("work")).unwrap();
    let own = files_of(&folder, "rec");
    let before = snapshot(folder.path());
    let mut chance = Chance(16);
    const RUNS: usize = 40;
    let names: Vec<String> = (0..RUNS).map(|run| format!("made{run}")).collect();
    for name in &names {
        let mut files = own.clone();
        for _ in 0..1 + chance.below(6) {
            mutate(&mut chance, &mut files);
        }
        with_files(&folder, "rec", name, files);
    }
    let begun = Instant::now();
    for names in names.chunks(10) {
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        for event in [Some(10), None] {
            let done = live(&folder, event, &names).ok();
            let ends = done
                .text()
                .lines()
                .filter(|line| !line.starts_with("missing: "))
                .count();
            assert_eq!(ends, names.len(), "{}", done.text());
        }
    }
    assert!(
        begun.elapsed() < Duration::from_secs(120),
        "{:?}",
        begun.elapsed()
    );
    for name in names {
        fs::remove_dir_all(folder.join(&name)).unwrap();
    }
    fs::remove_file(folder.join("live.lua")).unwrap();
    assert_eq!(snapshot(folder.path()), before);
}

fn mutate(chance: &mut Chance, files: &mut Vec<FileBefore>) {
    let other = files[chance.below(files.len())].clone();
    let at = chance.below(files.len());
    let which = chance.below(12);
    // Not all of the system: the program's own are of more interest.
    let is_own = |file: &FileBefore| file.path.windows(6).any(|part| part == b"/work/");
    let own: Vec<usize> = (0..files.len()).filter(|&at| is_own(&files[at])).collect();
    let at = match own.is_empty() || chance.below(4) == 0 {
        true => at,
        false => own[chance.below(own.len())],
    };
    let entry = &mut files[at];
    match (which, &mut entry.was) {
        (0, _) => entry.path = other.path,
        (1, _) => entry.was = other.was,
        (2, _) => entry.path.extend_from_slice(b"/.."),
        (3, _) => {
            let place = chance.below(entry.path.len().max(1));
            if let Some(byte) = entry.path.get_mut(place) {
                *byte ^= 1 << chance.below(8);
            }
        }
        (4, _) => {
            let copy = entry.clone();
            files.push(copy);
        }
        (5, _) => _ = files.remove(at),
        (6, Before::File(status)) => status.mode ^= 1 << chance.below(32),
        (7, Before::File(status)) => status.link = other.path,
        (8, Before::File(status)) => status.size = 1 << chance.below(64),
        (9, Before::File(status)) => {
            status.inode = (chance.below(3) as u64, chance.below(3) as u64);
            status.modified = (i64::MAX >> chance.below(64), -1);
            status.uid = chance.below(70_000) as u32;
        }
        (10, Before::Content(content)) => {
            *content = ContentBefore::Checked {
                id: chance.below(20) as u32,
                sum: 0,
            }
        }
        (11, Before::Content(content)) => *content = ContentBefore::Kept(chance.below(20) as u32),
        (_, was) => *was = Before::Nothing,
    }
    if files.is_empty() {
        files.push(file(b"/tmp", libc::S_IFDIR | 0o1777, b""));
    }
}

/// A full disk is no reason to harm the program: what does not fit is not kept, and that is said once.
#[test]
fn a_disk_without_room_for_copies_does_no_harm() {
    let folder = Folder::new();
    for name in ["a", "b", "c"] {
        let mut chance = Chance(name.len() as u64 + u64::from(name.as_bytes()[0]));
        let bytes: Vec<u8> = (0..6 << 20).map(|_| chance.below(256) as u8).collect();
        folder.write(name, bytes);
    }
    folder.write("text", "small\n");
    fs::create_dir(folder.join("small")).unwrap();
    let script = "mount -t tmpfs -o size=14m none small && \"$@\"; end=$?; cp -r small/rec kept; umount small; exit $end";
    for on_full in ["stop", "continue"] {
        let is_root = nix::unistd::geteuid().is_root();
        let mut command = folder.command("unshare");
        command.args(if is_root { &["-m"][..] } else { &["-r", "-m"] });
        command.args([
            "sh",
            "-c",
            script,
            "sh",
            RRAPPER,
            "record",
            "--on-full",
            on_full,
        ]);
        command.args([
            "-o",
            "small/rec",
            "--",
            "sh",
            "-c",
            "head -c 10 text a b c | md5sum; echo over >>text; cat text",
        ]);
        let done = Done::from(command.output().unwrap()).ok();
        assert!(done.text().ends_with("small\nover\n"), "{}", done.text());
        let said = done.stderr.matches("is not kept as it was").count();
        assert!(
            said == 1 && done.stderr.contains("too little space"),
            "{}",
            done.stderr
        );
        assert!(done.stderr.contains("recorded "), "{}", done.stderr);
        fs::write(folder.join("text"), "small\n").unwrap();
        // The recording is whole, and has the small ones.
        folder.write("text", "something else\n");
        let done = live(&folder, Some(10), &["kept"]).ok();
        assert!(done.text().contains(" small over \t"), "{}", done.text());
        folder.write("text", "small\n");
        fs::remove_dir_all(folder.join("kept")).unwrap();
    }
}

/// A program works in a directory with 100,000 entries, and so does its continuation, in time.
#[test]
fn a_directory_may_have_a_hundred_thousand_entries() {
    let folder = Folder::new();
    let fresh = || {
        fs::create_dir(folder.join("many")).unwrap();
        for number in 0..100_000 {
            fs::File::create(folder.join(&format!("many/{number:06}"))).unwrap();
        }
    };
    fresh();
    let program = "import os\nprint(len(os.listdir('many')))\nopen('many/new', 'w').write('x')\nos.unlink('many/000007')\n\
        os.rename('many/000009', 'many/another'); print(len(os.listdir('many')), os.path.exists('many/000007'))\n\
        print(open('many/new').read())";
    let begun = Instant::now();
    let done = folder
        .rrapper(["record", "-o", "rec", "--", PYTHON, "-SBc", program])
        .ok();
    let expected = "100000\n100000 False\nx\n";
    assert_eq!(done.text(), expected);
    assert!(!done.stderr.contains("is not kept"), "{}", done.stderr);
    let done = folder.script(
        r#"
        local recording = rr.open "rec"
        for _, call in ipairs { "unlink", "rename", "write" } do
          local stop = recording:find { syscall = call }
          local copy <close> = recording:replay_to(stop):spin_off()
          local outcome = copy:live { timeout = 60 }
          print(call, outcome.status, outcome.exit_code, outcome.stderr, table.concat(outcome.missing, "; "))
          io.write(outcome.stdout)
        end
        "#,
    );
    let text = done.ok().text();
    for call in ["unlink", "rename", "write"] {
        assert!(text.contains(&format!("{call}\texited\t0\t\t\n")), "{text}");
    }
    assert!(text.ends_with("100000\n100000 False\nx\n"), "{text}");
    // What is moved as a whole is not known as a whole.
    let done = folder
        .rrapper([
            "record",
            "-o",
            "moved",
            "--",
            "sh",
            "-c",
            "mv many more; ls more | wc -l",
        ])
        .ok();
    assert_eq!(done.text(), "100000\n");
    assert_eq!(
        done.stderr.matches("is not kept as it was").count(),
        1,
        "{}",
        done.stderr
    );
    assert!(
        done.stderr.contains("it has more than 20000 files"),
        "{}",
        done.stderr
    );
    let done = live(&folder, Some(10_000), &["moved"]).ok();
    let sentence = "/many, which has got another name: it has more than 20000 files";
    assert!(done.text().contains(sentence), "{}", done.text());
    assert!(
        begun.elapsed() < Duration::from_secs(60),
        "{:?}",
        begun.elapsed()
    );
}

/// Files that cannot be read, FIFOs and sockets: what there is to say is said, and the program is shown what it was shown.
#[test]
fn files_that_cannot_be_kept_are_no_obstacle() {
    let folder = Folder::new();
    fs::create_dir(folder.join("work")).unwrap();
    folder.write("work/closed", "closed");
    fs::set_permissions(
        folder.join("work/closed"),
        fs::Permissions::from_mode(0o200),
    )
    .unwrap();
    let listener = std::os::unix::net::UnixListener::bind(folder.join("work/socket")).unwrap();
    nix::unistd::mkfifo(&folder.join("work/fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    let program = "import os, stat\nos.chdir('work')\n\
        kind = lambda name: stat.S_IFMT(os.stat(name).st_mode) if os.path.lexists(name) else None\n\
        print([kind(name) for name in ('closed', 'socket', 'fifo', 'nothing')])\n\
        f = open('closed', 'a'); f.write(' more'); f.close()\n\
        print([kind(name) for name in ('closed', 'fifo', 'nothing', '/dev/null')], os.stat('closed').st_size)";
    let done = folder.record("rec", &[PYTHON, "-SBc", program]).ok();
    drop(listener);
    let expected = done.text();
    fs::remove_dir_all(folder.join("work")).unwrap();
    let done = folder.script(
        r#"
        local recording = rr.open "rec"
        local copy <close> = recording:replay_to(recording:find { syscall = "chdir" }):spin_off()
        local outcome = copy:live { timeout = 20 }
        io.write(outcome.stdout, outcome.stderr, outcome.exit_code, "\n")
        for _, sentence in ipairs(outcome.missing) do print("missing: " .. sentence) end
        "#,
    );
    let text = done.ok().text();
    let missing: Vec<_> = text
        .lines()
        .filter(|line| line.starts_with("missing: "))
        .collect();
    if nix::unistd::geteuid().is_root() {
        assert_eq!(missing.len(), 0, "{text}");
        assert!(text.starts_with(&expected), "{text}\n{expected}");
    } else {
        let closed = missing
            .iter()
            .filter(|line| line.contains("/work/closed as it was"))
            .count();
        assert!(closed == 1 && text.contains("Permission denied"), "{text}");
    }
}

#[test]
fn users_files_that_cannot_be_kept_are_no_obstacle_either() {
    as_user(&[
        "--exact",
        "recorded_files_bad::files_that_cannot_be_kept_are_no_obstacle",
        "recorded_files_bad::files_that_were_made_up_stay_in_the_sandbox",
        "recorded_files_bad::a_disk_without_room_for_copies_does_no_harm",
    ]);
}
