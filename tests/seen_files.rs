//! What is known of files from what the recorded programs saw of them: entries of directories, times, and what other
//! programs did to them.

use crate::common::{Folder, RRAPPER};
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

const PYTHON: &str = "/usr/bin/python3";

/// A directory with these files, and a command of a Python program in it.
fn program(folder: &Folder, setup: &[&str], text: &str) -> std::process::Command {
    let dir = folder.join("work");
    fs::create_dir(&dir).unwrap();
    for name in setup {
        let path = dir.join(name);
        match name.ends_with('/') {
            true => fs::create_dir_all(&path).unwrap(),
            false => fs::write(&path, format!("{name}\n")).unwrap(),
        }
    }
    let mut command = folder.command(RRAPPER);
    command.args(["-q", "record", "-o"]);
    command.arg(folder.join("recording"));
    command.args(["--", PYTHON, "-SEc", text]).current_dir(&dir);
    command
}

/// What a copy that goes live at the first access of `work/here` says from there on, and what is missing.
fn live(folder: &Folder) -> String {
    let done = folder.script(
        r#"
        local recording = rr.open("recording")
        local here = recording:find { path = "*/here" }
        local copy <close> = recording:replay_to(here):spin_off()
        local outcome = copy:live {}
        print(outcome.stdout, outcome.stderr, table.concat(outcome.missing, "\n"))
        "#,
    );
    done.ok().text()
}

/// A directory has the entries that it had, also those that no call has named.
#[test]
fn directories_have_the_entries_that_they_had() {
    let folder = Folder::new();
    let text = "import os\nos.listdir('d'); open('made', 'w'); os.listdir('.')\nos.path.exists('here'); print(sorted(os.listdir('d')), \
        sorted(os.listdir('.')), sorted(os.listdir('e')), os.path.isdir('d/sub'))";
    let mut command = program(
        &folder,
        &["d/", "e/", "d/a", "d/gone", "d/sub/", "e/x"],
        text,
    );
    assert!(command.status().unwrap().success());
    let dir = folder.join("work");
    fs::remove_file(dir.join("d/gone")).unwrap();
    fs::remove_dir(dir.join("d/sub")).unwrap();
    fs::remove_file(dir.join("made")).unwrap();
    fs::create_dir(dir.join("later")).unwrap();
    fs::write(dir.join("later/file"), "").unwrap();
    fs::write(dir.join("d/later"), "").unwrap();
    fs::write(dir.join("e/later"), "").unwrap();
    let text = live(&folder);
    let expected = "['a', 'gone', 'sub'] ['d', 'e', 'made'] ['x'] True\n";
    assert!(text.starts_with(expected), "{text}");
    let is_told = "gone: the program had only listed the name, and the file is gone; it is empty";
    assert!(text.contains(is_told), "{text}");
    let of_user = fs::read_dir(dir.join("d")).unwrap().count();
    assert_eq!(of_user, 2, "nothing happens to the machine's directory");
}

/// Files that calls have changed have the time at which they were changed: to the nanosecond, where the program has looked.
#[test]
fn changed_files_have_the_time_of_the_change() {
    let folder = Folder::new();
    let text = "import os, time\nt = time.time_ns(); time.sleep(0.3)\nfor name in 'ab':\n with open(name, 'w') as f: f.write(name)\n\
        time.sleep(0.3); s = os.stat('a').st_mtime_ns\nos.path.exists('here')\n\
        print(os.stat('a').st_mtime_ns - s, 0.29 < (os.stat('b').st_mtime_ns - t) / 1e9 < 0.59)";
    let mut command = program(&folder, &[], text);
    assert!(command.status().unwrap().success());
    for name in ["a", "b"] {
        fs::remove_file(folder.join("work").join(name)).unwrap();
    }
    let text = live(&folder);
    assert!(text.starts_with("0 True\n"), "{text}");
}

fn wait_for(path: &Path) {
    let end = Instant::now() + Duration::from_secs(30);
    while !path.exists() {
        assert!(Instant::now() < end, "{} never came", path.display());
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// What another program has made or changed while the recorded one ran is there as that saw it.
#[test]
fn what_other_programs_did_is_there_as_it_was_seen() {
    let folder = Folder::new();
    let text = "import os, time\nn = os.stat('log').st_size; os.path.exists('answer'); os.path.exists('dir'); open('ready', 'w')\n\
        while not os.path.exists('answer'): time.sleep(0.01)\n\
        print(open('answer').read(), os.path.isdir('dir'), os.stat('log').st_size - n, flush=True)\n\
        f = open('log'); f.seek(n); f.read()\n\
        os.path.exists('here')\nprint(open('answer').read(), os.path.isdir('dir'), repr(open('log').read()))";
    let mut command = program(&folder, &["log"], text);
    let mut recorded = command.stdout(std::process::Stdio::null()).spawn().unwrap();
    let dir = folder.join("work");
    wait_for(&dir.join("ready"));
    fs::create_dir(dir.join("dir")).unwrap();
    fs::write(dir.join("log"), "log\nmore\n").unwrap();
    fs::write(dir.join(".answer"), "yes\n").unwrap();
    fs::rename(dir.join(".answer"), dir.join("answer")).unwrap();
    assert!(recorded.wait().unwrap().success());
    let expected = "yes\n True 'log\\nmore\\n'\n";
    let text = live(&folder);
    assert!(text.starts_with(expected), "nothing has changed: {text}");
    fs::remove_file(dir.join("answer")).unwrap();
    fs::remove_dir(dir.join("dir")).unwrap();
    fs::write(dir.join("log"), "another").unwrap();
    let text = live(&folder);
    assert!(text.starts_with(expected), "all has changed: {text}");
}

/// A process that goes live still holds its locks: its children do not get them before it gives them up.
#[test]
fn locks_are_held() {
    let folder = Folder::new();
    let text = r#"
import fcntl, os, struct, sys
def asked(name, how, *range):
    if os.fork() == 0:
        file = open(name, 'r+')
        try: how(file, fcntl.LOCK_EX | fcntl.LOCK_NB, *range); print(name, range, 'free')
        except OSError as error: print(name, range, error.strerror)
        sys.stdout.flush()
        os._exit(0)
    os.wait()
a = open('a', 'r+'); fcntl.flock(a, fcntl.LOCK_EX)
b = open('b', 'r+'); fcntl.lockf(b, fcntl.LOCK_EX, 100, 10); fcntl.lockf(b, fcntl.LOCK_UN, 20, 50)
c = open('c', 'r+'); fcntl.fcntl(c, fcntl.F_OFD_SETLK, struct.pack('hhqqi4x', fcntl.F_WRLCK, 0, 5, 0, 0))
d = open('d', 'r+'); fcntl.lockf(d, fcntl.LOCK_EX); open('d').close()
os.path.exists('here')
asked('a', fcntl.flock)
for range in [(10, 0), (1, 10), (1, 49), (1, 50), (1, 69), (1, 70), (0, 110)]: asked('b', fcntl.lockf, *range)
for range in [(5, 0), (1, 4), (1, 5), (0, 1000)]: asked('c', fcntl.lockf, *range)
asked('d', fcntl.lockf)
a.close(); b.close()
asked('a', fcntl.flock); asked('b', fcntl.lockf)
"#;
    let mut command = program(&folder, &["a", "b", "c", "d"], text);
    let recorded = command.output().unwrap();
    let recorded = String::from_utf8(recorded.stdout).unwrap();
    assert_eq!(recorded.lines().count(), 15, "{recorded}");
    assert_eq!(recorded.matches("free").count(), 9, "{recorded}");
    let text = live(&folder);
    assert!(text.starts_with(&recorded), "{text}; recorded: {recorded}");
}

/// A copy that ends as recorded, although a call that changes nothing was failed, has the files of its end.
#[test]
fn files_at_the_end_of_a_copy_that_follows_its_recording() {
    let folder = Folder::new();
    let text = "import time\ntime.sleep(0.05)\ntry: open('none/here', 'w')\nexcept OSError: pass\nopen('x', 'w').write('y')";
    let mut command = program(&folder, &["x"], text);
    assert!(command.status().unwrap().success());
    fs::write(folder.join("work/x"), "another").unwrap();
    let done = folder.script(
        r#"
        local recording = rr.open("recording")
        local here = recording:find { path = "*/here" }
        local copy <close> = recording:replay_to(here):spin_off()
        local outcome = copy:inject {
          openat = { fail = "EACCES", when = "1" }, after = function(box) print(box:read("x")) end,
        }
        print(outcome.status, outcome.divergence)
        "#,
    );
    assert_eq!(done.ok().text(), "y\nexited\tnil\n");
}

/// What is written by one name of a file is read by the other.
#[test]
fn names_of_one_file_stay_together() {
    let folder = Folder::new();
    let text = "import os\na, b = open('a').read(), open('b').read()\nos.path.exists('here')\n\
        with open('a', 'a') as f: f.write('more\\n')\nprint(repr(open('b').read()), os.stat('b').st_nlink, os.path.samefile('a', 'b'))";
    let mut command = program(&folder, &["a"], text);
    fs::hard_link(folder.join("work/a"), folder.join("work/b")).unwrap();
    assert!(command.status().unwrap().success());
    let text = live(&folder);
    assert!(text.starts_with("'a\\nmore\\n' 2 True\n"), "{text}");
    // As it was before the recording.
    fs::write(folder.join("work/a"), "a\n").unwrap();
    let text = live(&folder);
    assert!(text.starts_with("'a\\nmore\\n' 2 True\n"), "{text}");
    let recorded = folder.rrapper([
        "-q", "record", "-o", "again", "--", "cat", "work/a", "work/b",
    ]);
    recorded.ok();
    let done = folder.script(
        r#"
        local recording = rr.open("again")
        local copy <close> = recording:replay_to(recording:find { path = "*/b" }):spin_off()
        copy:live { after = function(box) box:run { "sh", "-c", "echo more >>work/a" }; print(box:read("work/b")) end }
        "#,
    );
    assert_eq!(done.ok().text(), "a\nmore\n\n");
}

/// A directory that was being listed goes on with the entries that the program had not got yet, whatever their order is now.
#[test]
fn listings_go_on() {
    let folder = Folder::new();
    let text = r#"
import ctypes, os, struct
def more(fd):
    buffer = ctypes.create_string_buffer(200)
    got = ctypes.CDLL(None).syscall(217, fd, buffer, 200)
    names = []
    at = 0
    while at < got:
        size = struct.unpack_from('H', buffer, at + 16)[0]
        names.append(buffer.raw[at + 19:at + size].split(b'\0')[0].decode())
        at += size
    return names
fd = os.open('d', os.O_RDONLY)
first = more(fd) + more(fd)
os.path.exists('here')
rest = []
while names := more(fd): rest += names
os.close(fd)
fd = os.open('d', os.O_RDONLY)
print(len(first), len(rest), len(set(first + rest)), len(more(fd)))
"#;
    let names: Vec<String> = (0..100).map(|n| format!("d/a{n}")).collect();
    let mut setup = vec!["d/"];
    setup.extend(names.iter().map(String::as_str));
    let mut command = program(&folder, &setup, text);
    let recorded = command.output().unwrap();
    let recorded = String::from_utf8(recorded.stdout).unwrap();
    assert!(recorded.contains(" 102 "), "{recorded}");
    let text = live(&folder);
    let said = |text: &str| text.split(' ').take(3).collect::<Vec<_>>().join(" ");
    assert_eq!(said(&text), said(&recorded), "the same directory: {text}");
    fs::remove_dir_all(folder.join("work")).unwrap();
    fs::create_dir(folder.join("work")).unwrap();
    let text = live(&folder);
    assert_eq!(said(&text), said(&recorded), "it was gone: {text}");
}
