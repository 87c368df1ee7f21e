//! What may happen to a recorder and its recordings: a sudden end, a full disk, damage.

use crate::common::limits::{Chance, eventually, is_sane, limited};
use crate::common::{Done, Folder, RRAPPER};
use rrapper::history::Recording;
use std::fs;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Many small processes, this many rounds of them.
fn busy(rounds: &str) -> [String; 3] {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/busy.sh");
    ["bash".into(), script.display().to_string(), rounds.into()]
}

/// The processes of a process group that have not ended.
fn of_group(group: u32) -> Vec<String> {
    let stats = fs::read_dir("/proc").unwrap().filter_map(|entry| {
        let path = entry.ok()?.path().join("stat");
        fs::read_to_string(path).ok()
    });
    stats
        .filter(|stat| {
            let rest = stat.rsplit_once(") ").map_or("", |(_, rest)| rest);
            let mut fields = rest.split(' ');
            let has_ended = fields.next().is_none_or(|state| matches!(state, "Z" | "X"));
            !has_ended && fields.nth(1) == Some(group.to_string().as_str())
        })
        .collect()
}

#[test]
fn a_recorder_killed_at_any_moment_leaves_a_recording_and_no_process() {
    let folder = Folder::new();
    let mut chance = Chance(1);
    let whole = folder.plain(&busy("3").each_ref().map(String::as_str)).ok();
    assert_eq!(whole.text().lines().count(), 3, "the program does its work");
    // A short recording takes as long as this machine is busy: half of the moments are behind it.
    let begun = Instant::now();
    let mut short = folder.command(RRAPPER);
    short
        .args(["-q", "record", "-o", "short", "--"])
        .args(busy("3"));
    assert!(short.stdout(Stdio::null()).status().unwrap().success());
    let window = begun.elapsed().max(Duration::from_millis(100)) * 2;
    let (mut opened, mut most) = (0, 0);
    for i in 0..50 {
        let name = format!("rec{i}");
        let mut command = folder.command(RRAPPER);
        command.args(["-q", "record", "-o", &name, "--"]);
        command.args(busy("1000000"));
        command.stdout(Stdio::null()).process_group(0);
        let mut recorder = command.spawn().unwrap();
        std::thread::sleep(window * chance.below(1000) as u32 / 1000);
        recorder.kill().unwrap();
        let group = recorder.id();
        recorder.wait().unwrap();
        eventually("all of its processes die with the recorder", || {
            of_group(group).is_empty()
        });
        let dir = folder.join(&name);
        let done = limited(&folder, &["replay", &name]);
        match Recording::open(&dir) {
            Ok(recording) if !recording.is_empty() => {
                let last = recording.len();
                let said =
                    format!("rrapper: the recording is incomplete: it ends at event {last}\n");
                assert_eq!(done.stderr, said, "moment {i}");
                assert_eq!(done.code, Some(2));
                let count = recording
                    .events_from(1)
                    .unwrap()
                    .map(Result::unwrap)
                    .count();
                assert_eq!(count as u64, last);
                opened += 1;
                most = last.max(most);
            }
            _ => drop(done.complains(&[&name])),
        }
        fs::remove_dir_all(&dir).ok();
    }
    assert!(
        opened > 25 && most > 1000,
        "{opened} opened, of at most {most} events"
    );
}

/// Records on a file system of this size, which is full soon; the recording is then in `out`.
fn on_small_disk(folder: &Folder, size: &str, on_full: &str) -> Done {
    let script = format!(
        r#"mkdir full && mount -t tmpfs -o size={size} tmpfs full || exit 77
        "$0" record --on-full {on_full} -o full/rec -- sh -c 'dd if=/dev/urandom of=/dev/null bs=4096 count=5000 2>&1 | wc -l; echo done; exit 5'
        status=$?
        if [ -e full/rec ]; then cp -r full/rec out; fi
        exit $status"#
    );
    let mut command = folder.command("unshare");
    command.args(["-rm", "sh", "-c", &script, RRAPPER]);
    command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0);
    let child = command.spawn().expect("unshare(1) of util-linux");
    let group = child.id();
    let done = Done::from(child.wait_with_output().unwrap());
    let namespaces = done.code != Some(77) && !done.stderr.starts_with("unshare: ");
    assert!(
        namespaces,
        "this test needs user and mount namespaces, which are not allowed here: {}",
        done.stderr
    );
    assert_eq!(of_group(group), [""; 0], "nothing is left running");
    done
}

/// What was recorded until the disk was full opens, and replays up to there.
#[track_caller]
fn is_whole_up_to(folder: &Folder, done: &Done) {
    let recording = Recording::open(&folder.join("out")).unwrap();
    let last = recording.len();
    assert_eq!(recording.exit(), None);
    assert!(last > 500, "{last}");
    let said = format!("up to event {last} is in");
    assert!(done.stderr.contains(&said), "{said}: {}", done.stderr);
    let replayed = limited(folder, &["replay", "out"]);
    assert!(
        replayed.stderr.contains(&format!("ends at event {last}\n")),
        "{}",
        replayed.stderr
    );
}

#[test]
fn a_full_disk_ends_the_program() {
    let folder = Folder::new();
    let done = on_small_disk(&folder, "12m", "stop");
    assert_eq!(done.text(), "");
    is_whole_up_to(&folder, &done);
    done.complains(&["full/rec/events", "No space left", "the program was ended"]);
}

#[test]
fn a_program_goes_on_without_its_full_disk() {
    let folder = Folder::new();
    let done = on_small_disk(&folder, "12m", "continue");
    assert_eq!(done.text(), "3\ndone\n");
    assert_eq!(done.code, Some(5));
    assert_eq!(done.stderr.lines().count(), 1, "{}", done.stderr);
    for part in ["full/rec/events", "No space left", "went on unrecorded"] {
        assert!(done.stderr.contains(part), "{}", done.stderr);
    }
    is_whole_up_to(&folder, &done);
}

#[test]
fn a_disk_that_has_no_room_for_a_mapped_file() {
    let folder = Folder::new();
    on_small_disk(&folder, "300k", "stop").complains(&["No space left"]);
    let folder = Folder::new();
    let done = on_small_disk(&folder, "300k", "continue");
    assert_eq!(done.text(), "3\ndone\n");
    assert_eq!(done.code, Some(5));
    for part in ["copy a mapped file", "No space left", "went on unrecorded"] {
        assert!(done.stderr.contains(part), "{}", done.stderr);
    }
}

/// Opens it, reads it all, and looks at some events.
fn use_all(dir: &Path) -> Option<u64> {
    let recording = Arc::new(Recording::open(dir).ok()?);
    let last = recording.len();
    let mut read = 0;
    if let Ok(events) = recording.events_from(1) {
        for event in events {
            let Ok((number, event)) = event else { break };
            let _ = event.to_entry(number).to_string();
            read += 1;
        }
    }
    assert!(read <= last);
    for n in [1, last / 2, last] {
        let _ = recording.event(n);
        if let Ok(mut frames) = recording.frames_from(n) {
            let _ = frames.next_frame();
        }
    }
    Some(read)
}

fn names(folder: &Folder) -> Vec<String> {
    let dirs = ["", "rec", "rec/files"].map(|dir| folder.join(dir));
    let entries = dirs.iter().flat_map(|dir| fs::read_dir(dir).unwrap());
    let mut names: Vec<String> = entries
        .map(|entry| entry.unwrap().path().display().to_string())
        .collect();
    names.sort();
    names
}

#[test]
fn damaged_recordings_are_shorter_or_errors() {
    let folder = Folder::new();
    let argv = busy("12");
    let printed = folder
        .record("rec", &argv.each_ref().map(String::as_str))
        .ok()
        .stdout;
    let dir = folder.join("rec");
    let (events, index) = (
        fs::read(dir.join("events")).unwrap(),
        fs::read(dir.join("index")).unwrap(),
    );
    let whole = use_all(&dir).unwrap();
    assert!(whole > 1000 && index.len() > 100, "{whole} events");
    let before = names(&folder);
    let mut chance = Chance(2);
    for i in 0..500 {
        let (mut events, mut index) = (events.clone(), index.clone());
        let len = events.len();
        match i % 5 {
            0 => events.truncate(chance.below(len)),
            1 => events[chance.below(len)] ^= 1 << chance.below(8),
            2 => {
                let from = chance.below(len);
                let to = len.min(from + 1 + chance.below(5000));
                events[from..to].fill_with(|| chance.below(256) as u8);
            }
            3 => {
                let from = chance.below(len);
                events.drain(from..len.min(from + 1 + chance.below(100)));
            }
            _ => {
                let at = chance.below(index.len());
                index[at..].fill_with(|| chance.below(256) as u8);
                events.truncate(len - chance.below(len / 2));
            }
        }
        folder.write("rec/events", events);
        folder.write("rec/index", index);
        let found = use_all(&dir);
        assert!(found.is_none_or(|found| found <= whole), "damage {i}");
        if i % 16 == 0 {
            let done = limited(&folder, &["replay", "rec"]);
            is_sane(&done, &format!("damage {i}"));
            assert!(printed.starts_with(&done.stdout), "damage {i}");
        }
    }
    assert_eq!(names(&folder), before, "nothing was written");
}
