//! What must hold of every program that is recorded: it does what it does without a recorder; its replays
//! say the same each time; copies of its processes can be spun off anywhere; and nothing is left alive.

use super::{Folder, RRAPPER};
use std::fs::{self, File};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// The environment variable by which the processes of one program are told from all others.
const MARK: &str = "RRAPPER_TEST_MARK";

/// How often a recording is replayed.
const REPLAYS: u32 = 3;

/// How long processes may take to be gone.
const GRACE: Duration = Duration::from_secs(3);

/// A program to record.
pub struct Program<'a> {
    pub name: &'a str,
    pub argv: Vec<String>,
    /// Its output is the same at each run, so that the recorded one must be.
    pub same: bool,
    /// How long each of plain run, recording and replay may take.
    pub limit: Duration,
    /// At how many events copies are spun off.
    pub spins: u32,
    /// Environment variables besides the usual.
    pub env: Vec<(&'a str, String)>,
}

/// How something ended that was run.
pub struct End {
    pub status: ExitStatus,
    pub out: Vec<u8>,
    pub err: Vec<u8>,
    pub took: Duration,
}

impl End {
    fn shown(&self) -> String {
        let text = |bytes: &[u8]| {
            let tail = &bytes[bytes.len().saturating_sub(2000)..];
            String::from_utf8_lossy(tail).into_owned()
        };
        format!(
            "{}\nstdout: {}\nstderr: {}",
            self.status,
            text(&self.out),
            text(&self.err)
        )
    }

    /// The exit status as rrapper passes it on: it dies of the same signal.
    fn ending(&self) -> (Option<i32>, Option<i32>) {
        (self.status.code(), self.status.signal())
    }
}

/// A place for one program, with a working directory that is made anew for each run.
pub struct Place<'a> {
    pub folder: Folder,
    program: &'a Program<'a>,
    mark: String,
}

impl<'a> Place<'a> {
    pub fn new(program: &'a Program<'a>) -> Place<'a> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let mark = format!("{}-{}-{number}", program.name, std::process::id());
        let folder = Folder::new();
        Place {
            folder,
            program,
            mark,
        }
    }

    fn work(&self) -> PathBuf {
        self.folder.join("work")
    }

    fn fresh_work(&self) {
        let _ = fs::remove_dir_all(self.work());
        fs::create_dir(self.work()).unwrap();
    }

    fn command(&self, program: &str) -> Command {
        let work = self.work();
        let mut command = self.folder.command(program);
        command
            .env(MARK, &self.mark)
            .env("HOME", &work)
            .env("TMPDIR", &work)
            .env("TZ", "UTC")
            .env(
                "REAL",
                Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/real"),
            )
            .envs(self.program.env.iter().map(|(name, value)| (name, value)));
        command
    }

    /// Runs a command to its end, which must come in time.
    #[track_caller]
    fn run(&self, what: &str, mut command: Command) -> End {
        let (out, err) = (self.folder.join("out"), self.folder.join("err"));
        command
            .stdout(File::create(&out).unwrap())
            .stderr(File::create(&err).unwrap())
            .stdin(Stdio::null())
            .process_group(0);
        let begun = Instant::now();
        let mut child = command.spawn().expect("it starts");
        let status = loop {
            if let Some(status) = child.try_wait().unwrap() {
                break Some(status);
            }
            if begun.elapsed() > self.program.limit {
                break None;
            }
            std::thread::sleep(Duration::from_millis(2));
        };
        let Some(status) = status else {
            let alive = self.alive();
            let _ = child.kill();
            let _ = child.wait();
            self.nothing_is_left(what);
            let end = fs::read(&err).unwrap_or_default();
            panic!(
                "{}: {what} takes longer than {:?}; alive: {alive:#?}\n{}",
                self.program.name,
                self.program.limit,
                String::from_utf8_lossy(&end)
            );
        };
        let end = End {
            status,
            out: fs::read(out).unwrap(),
            err: fs::read(err).unwrap(),
            took: begun.elapsed(),
        };
        self.nothing_is_left(what);
        end
    }

    /// The processes that belong to this program, with what they are at.
    fn alive(&self) -> Vec<String> {
        let mark = format!("{MARK}={}", self.mark);
        let mut found = Vec::new();
        for entry in fs::read_dir("/proc").unwrap().flatten() {
            let path = entry.path();
            let Ok(environ) = fs::read(path.join("environ")) else {
                continue;
            };
            if !environ
                .split(|&b| b == 0)
                .any(|pair| pair == mark.as_bytes())
            {
                continue;
            }
            let read = |name: &str| fs::read_to_string(path.join(name)).unwrap_or_default();
            let (status, at) = (read("status"), read("wchan"));
            let state = status.lines().find(|line| line.starts_with("State"));
            let line = read("cmdline").replace('\0', " ");
            found.push(format!(
                "{} {line} {state:?} {at}",
                entry.file_name().display()
            ));
        }
        found
    }

    #[track_caller]
    fn nothing_is_left(&self, what: &str) {
        let begun = Instant::now();
        loop {
            let left = self.alive();
            if left.is_empty() {
                return;
            }
            let name = self.program.name;
            assert!(begun.elapsed() < GRACE, "{name}: {what} leaves {left:#?}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// A run without rrapper.
    #[track_caller]
    pub fn plain(&self) -> End {
        self.fresh_work();
        let mut command = self.command(&self.program.argv[0]);
        command
            .args(&self.program.argv[1..])
            .current_dir(self.work());
        self.run("its plain run", command)
    }

    /// A recording, in the folder `rec`.
    #[track_caller]
    pub fn record(&self) -> End {
        self.fresh_work();
        let mut command = self.command(RRAPPER);
        command.args(["-q", "record", "-o", "../rec", "--"]);
        command.args(&self.program.argv).current_dir(self.work());
        self.run("its recording", command)
    }

    #[track_caller]
    fn replay(&self) -> End {
        let mut command = self.command(RRAPPER);
        command.args(["replay", "rec"]);
        self.run("its replay", command)
    }

    /// Spins copies off at some events, chosen by the seed.
    #[track_caller]
    fn spin(&self, seed: u64) -> End {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/real/spin.lua");
        let mut command = self.command(RRAPPER);
        command
            .arg(script)
            .args([seed.to_string(), self.program.spins.to_string()]);
        self.run("spinning off", command)
    }
}

/// The same seed each time, unless another is wanted (`RRAPPER_SEED`).
fn seed() -> u64 {
    let wanted = std::env::var("RRAPPER_SEED").ok();
    wanted.map_or(1, |seed| seed.parse().expect("RRAPPER_SEED is a number"))
}

/// Records a program and checks all that must hold.
#[track_caller]
pub fn check(program: &Program<'_>) {
    let name = program.name;
    let place = Place::new(program);
    let plain = place.plain();
    let recorded = place.record();
    assert_eq!(
        recorded.ending(),
        plain.ending(),
        "{name} ends otherwise under record: {}\nplain: {}",
        recorded.shown(),
        plain.shown()
    );
    if program.same {
        let same = recorded.out == plain.out && recorded.err == plain.err;
        assert!(
            same,
            "{name} says something else under record: {}\nplain: {}",
            recorded.shown(),
            plain.shown()
        );
    }
    check_replays(program, &place, &recorded, plain.took);
}

/// Checks all that must hold of the recording of a program that is answered otherwise than by the kernel, and says so with
/// these words.
#[track_caller]
pub fn check_otherwise(program: &Program<'_>, words: &str) {
    let place = Place::new(program);
    let recorded = place.record();
    let said = String::from_utf8_lossy(&recorded.err);
    assert!(
        said.contains(words),
        "{} should say {words:?}: {}",
        program.name,
        recorded.shown()
    );
    check_replays(program, &place, &recorded, Duration::ZERO);
}

#[track_caller]
fn check_replays(program: &Program<'_>, place: &Place<'_>, recorded: &End, plain: Duration) {
    let name = program.name;
    let mut replayed = Duration::ZERO;
    for _ in 0..REPLAYS {
        let again = place.replay();
        let same = again.out == recorded.out
            && again.err == recorded.err
            && again.ending() == recorded.ending();
        assert!(
            same,
            "{name} replays otherwise: {}\nrecorded: {}",
            again.shown(),
            recorded.shown()
        );
        replayed = again.took;
    }
    let mut spun = Duration::ZERO;
    if program.spins > 0 {
        let seed = seed();
        let end = place.spin(seed);
        assert!(
            end.status.success(),
            "{name}: spinning off with RRAPPER_SEED={seed}: {}",
            end.shown()
        );
        spun = end.took;
    }
    println!(
        "{name}: plain {plain:?}, record {:?}, replay {replayed:?}, {} spin-offs {spun:?}",
        recorded.took, program.spins
    );
}
