//! What strace writes of real programs, with all of its options, is understood and printed back byte for byte.
//!
//! The programs are listed in `tests/corpus/programs`, the options in `tests/corpus/options`. Each combination of options meets
//! some programs, in turn. With `RRAPPER_CORPUS=FOLDER` the traces are kept there.

use crate::common::Folder;
use crate::corpus_check::{Counts, check};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Programs that each combination of options sees, besides one of the slow ones.
const PROGRAMS_EACH: usize = 11;
/// What must have been traced for this test to mean something.
const ENOUGH_PROGRAMS: usize = 45;
const ENOUGH_OPTIONS: usize = 40;
/// Seconds for one program.
const PATIENCE: &str = "60";

/// A line of `tests/corpus/programs`.
struct Program {
    name: &'static str,
    needs: Vec<&'static str>,
    slow: bool,
    careful: bool,
    command: &'static str,
}

/// A line of `tests/corpus/options`.
struct Options {
    text: &'static str,
    fast: bool,
    stderr: bool,
}

fn lines(text: &'static str) -> impl Iterator<Item = &'static str> {
    text.lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
}

fn programs() -> Vec<Program> {
    let program = |line: &'static str| {
        let mut words = line.splitn(4, ' ');
        let mut word = || words.next().expect("four words");
        let (name, needs, speed, command) = (word(), word(), word(), word());
        let needs = needs
            .split(',')
            .map(|need| need.split(':').next().expect("a program"));
        Program {
            name,
            needs: needs.filter(|need| *need != "-").collect(),
            slow: speed == "slow",
            careful: speed == "careful",
            command,
        }
    };
    lines(include_str!("corpus/programs"))
        .map(program)
        .collect()
}

fn options() -> Vec<Options> {
    let combination = |line: &'static str| {
        let (fast, text) = match line.strip_prefix("fast ") {
            Some(text) => (true, text),
            None => (false, line),
        };
        let (stderr, text) = match text.strip_prefix("2>") {
            Some(text) => (true, text),
            None => (false, text),
        };
        Options { text, fast, stderr }
    };
    lines(include_str!("corpus/options"))
        .map(combination)
        .collect()
}

/// The programs that make every call, of both ABIs.
fn sweeps() -> Vec<Program> {
    let program = |name, command| Program {
        name,
        needs: Vec::new(),
        slow: true,
        careful: true,
        command,
    };
    vec![
        program("sweep", "$FIXTURES/sweep"),
        program("sweep32", "$FIXTURES/sweep32"),
    ]
}

/// Options under which the kernel does nothing that a program asks for.
fn answers() -> [Options; 5] {
    [
        " -e inject=!execve,exit_group:retval=0",
        " -v -xx -e inject=!execve,exit_group:retval=0",
        " -X verbose -yy -T -e inject=!execve,exit_group:retval=0",
        " -f -X raw -v -s 8 -e inject=!execve,exit_group:retval=0",
        " -f -tt -e raw=all -e inject=!execve,exit_group:error=EOVERFLOW",
    ]
    .map(|text| Options {
        text,
        fast: false,
        stderr: false,
    })
}

/// What all runs share.
struct Setting {
    folder: Folder,
    port: u16,
    user: &'static str,
    keep: Option<PathBuf>,
}

impl Setting {
    fn new() -> Setting {
        let folder = Folder::new();
        let bare = [
            "-nostdlib",
            "-static",
            "-ffreestanding",
            "-fno-stack-protector",
            "-fno-pie",
            "-no-pie",
        ];
        folder.compile("crashing", &["-pthread"]);
        folder.compile("modern", &["-w"]);
        folder.compile("sweep", &bare);
        let old: Vec<&str> = bare.iter().copied().chain(["-m32"]).collect();
        folder.compile("old32", &old);
        folder.compile_as("sweep32", "sweep", &old);
        let keep = std::env::var_os("RRAPPER_CORPUS").map(PathBuf::from);
        if let Some(keep) = &keep {
            fs::create_dir_all(keep).expect("the folder for the traces");
        }
        Setting {
            folder,
            port: serve(),
            user: if nix::unistd::geteuid().is_root() {
                "nobody"
            } else {
                "root"
            },
            keep,
        }
    }
}

/// A web server on a thread of its own, which goes away with the test; its port.
fn serve() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { continue };
            let mut request = [0; 4096];
            let timeout = stream.set_read_timeout(Some(std::time::Duration::from_secs(1)));
            if timeout.is_ok() && stream.read(&mut request).is_ok_and(|n| n > 0) {
                // The client may have gone.
                let _ = stream.write_all(b"HTTP/1.0 200 OK\r\nContent-Length: 6\r\n\r\nhello\n");
            }
        }
    });
    port
}

fn installed(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin".into(), "/sbin".into()])
        .any(|folder| folder.join(program).is_file())
}

/// Why a program cannot do here what it is listed for.
fn why_not(setting: &Setting, program: &Program) -> Option<String> {
    let there = |need: &&&str| Path::new(*need).is_file() || installed(need);
    if let Some(missing) = program.needs.iter().find(|need| !there(need)) {
        return Some(format!("{missing} is not installed"));
    }
    let works = |command: &mut Command| command.output().is_ok_and(|out| out.status.success());
    let run = |path: &str, args: &[&str]| works(setting.folder.command(path).args(args));
    let old = setting.folder.join("old32");
    match program.name {
        "mounts" if !run("unshare", &["-Urm", "true"]) => {
            Some("no namespaces may be made here".into())
        }
        "i386" | "sweep32" if !works(&mut Command::new(&old)) => {
            Some("this kernel runs no 32-bit programs".into())
        }
        _ => None,
    }
}

/// How a run went.
enum Run {
    Traced(Counts),
    /// strace could not; why.
    Skipped(String),
}

/// Runs a program with these options, and checks all that strace wrote.
fn run(
    setting: &Setting,
    program: &Program,
    options: &Options,
    complaints: &Mutex<Vec<String>>,
) -> Run {
    let folder = Folder::new();
    let text: String = (1..400)
        .map(|i| format!("{} main {i}\n", i * 7919 % 1000))
        .collect();
    folder.write("text", text);
    folder.write("data", (0..=255u8).cycle().take(9000).collect::<Vec<_>>());
    fs::create_dir_all(folder.join("tree/branch")).expect("a folder");
    folder.write("tree/leaf", "int main\n");
    folder.write("tree/branch/leaf \u{e9}", "main\n");

    let output = tempfile::tempdir().expect("a folder for the trace");
    let file = output.path().join("trace");
    let (command, to) = (program.command, options.text);
    let line = if options.stderr {
        format!(
            "exec timeout -s KILL {PATIENCE} strace {to} -- sh -c 'exec \"$@\" 2> /dev/null' sh {command} 2> \"$TRACE\""
        )
    } else {
        format!("exec timeout -s KILL {PATIENCE} strace {to} -o \"$TRACE\" -- {command}")
    };
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus");
    let mut child = folder
        .command("sh")
        .args(["-c", &line])
        .env("TRACE", &file)
        .env("CORPUS", corpus)
        .env("PORT", setting.port.to_string())
        .env("USER", setting.user)
        .env("FIXTURES", setting.folder.path())
        .env(
            "PATH",
            format!(
                "{}:/usr/sbin:/sbin",
                std::env::var("PATH").unwrap_or_default()
            ),
        )
        .env("TMPDIR", folder.path())
        .env_remove("LD_LIBRARY_PATH")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::from(
            fs::File::create(output.path().join("said")).expect("a file"),
        ))
        .spawn()
        .expect("sh starts");
    // The end of its output is also that of a strace that runs behind the program.
    let mut stdout = child.stdout.take().expect("a pipe");
    let drained = std::io::copy(&mut stdout, &mut std::io::sink());
    let status = child.wait().expect("it ends");
    drained.expect("its output");

    let mut files: Vec<PathBuf> = fs::read_dir(output.path())
        .expect("the folder of the trace")
        .map(|entry| entry.expect("a file").path())
        .filter(|path| path.file_name() != Some("said".as_ref()))
        .collect();
    files.sort();
    if let Some(keep) = &setting.keep {
        let options: String = to.chars().map(|c| if c == '/' { '_' } else { c }).collect();
        for file in &files {
            let of = file.file_name().unwrap_or_default().to_string_lossy();
            let name = format!(
                "{}{options} {}",
                program.name,
                of.trim_start_matches("trace")
            );
            fs::copy(file, keep.join(name)).expect("the trace is kept");
        }
    }
    let mut counts = Counts::default();
    for file in &files {
        let name = format!("{}, {to}", program.name);
        let (of_file, wrong) = check(file, &name);
        counts.add(&of_file);
        complaints.lock().expect("no panic").extend(wrong);
    }
    if counts.lines == 0 {
        let said = fs::read(output.path().join("said")).unwrap_or_default();
        let said = String::from_utf8_lossy(&said);
        let said = said
            .lines()
            .find(|line| line.starts_with("strace: "))
            .unwrap_or("no trace");
        return Run::Skipped(format!("{said} ({status})"));
    }
    Run::Traced(counts)
}

#[test]
fn all_that_strace_writes_is_understood_and_printed_back() {
    assert!(installed("strace"), "strace is not installed");
    let setting = Setting::new();
    let (programs, options) = (programs(), options());
    let (there, missing): (Vec<&Program>, Vec<&Program>) = programs
        .iter()
        .partition(|program| why_not(&setting, program).is_none());
    for program in &missing {
        let why = why_not(&setting, program).unwrap_or_default();
        println!("skipped: {}: {why}", program.name);
    }
    let (slow, fast): (Vec<&Program>, Vec<&Program>) =
        there.iter().partition(|program| program.slow);
    let mut jobs: Vec<(&Program, &Options)> = Vec::new();
    for (i, options) in options.iter().enumerate() {
        let injects = ["inject", "fault"]
            .iter()
            .any(|word| options.text.contains(word));
        let turn = (0..fast.len()).map(|k| fast[(i * PROGRAMS_EACH + k) % fast.len()]);
        let turn = turn.filter(|program| !(program.careful && injects));
        jobs.extend(turn.take(PROGRAMS_EACH).map(|program| (program, options)));
        if let Some(program) = slow.get(i % slow.len().max(1)).filter(|_| !options.fast) {
            jobs.push((program, options));
        }
    }
    let (mut sweeps, answers) = (sweeps(), answers());
    sweeps.retain(|program| why_not(&setting, program).is_none());
    jobs.extend(
        sweeps
            .iter()
            .flat_map(|program| answers.iter().map(move |options| (program, options))),
    );

    let (next, complaints) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    let done = Mutex::new((
        Counts::default(),
        BTreeMap::new(),
        BTreeMap::new(),
        BTreeSet::new(),
    ));
    std::thread::scope(|scope| {
        let workers = std::thread::available_parallelism().map_or(2, |n| n.get().clamp(2, 8));
        for _ in 0..workers {
            scope.spawn(|| {
                while let Some((program, options)) = jobs.get(next.fetch_add(1, Ordering::Relaxed))
                {
                    let went = run(&setting, program, options, &complaints);
                    let mut done = done.lock().expect("no panic");
                    match went {
                        Run::Traced(counts) => {
                            done.0.add(&counts);
                            *done.1.entry(program.name).or_insert(0usize) += 1;
                            *done.2.entry(options.text).or_insert(0usize) += 1;
                        }
                        Run::Skipped(why) => {
                            done.3.insert(format!("strace{}: {why}", options.text));
                        }
                    }
                }
            });
        }
    });

    let (counts, by_program, by_options, skipped) = done.into_inner().expect("no panic");
    for why in &skipped {
        println!("skipped: {why}");
    }
    let runs: usize = by_program.values().sum();
    println!(
        "{runs} traces of {} programs with {} combinations of options, {} not run: {counts}",
        by_program.len(),
        by_options.len(),
        jobs.len() - runs,
    );
    let complaints = complaints.into_inner().expect("no panic");
    for complaint in complaints.iter().take(100) {
        println!("{complaint}");
    }
    assert_eq!(
        complaints.len(),
        0,
        "lines that are not understood, or not printed back"
    );
    let enough = |counts: BTreeMap<&str, usize>, least: usize| {
        counts.values().filter(|n| **n >= least).count()
    };
    assert!(
        enough(by_program, 3) >= ENOUGH_PROGRAMS,
        "too few programs were traced"
    );
    assert!(
        enough(by_options, 10) >= ENOUGH_OPTIONS,
        "too few options were tried"
    );
}

/// Traces that are kept: of another machine, of every call, and of other versions of strace.
#[test]
fn kept_traces_are_understood_and_printed_back() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/traces");
    let files = fs::read_dir(folder).expect("the folder of the kept traces");
    let (mut counts, mut complaints) = (Counts::default(), Vec::new());
    for file in files {
        let file = file.expect("a file").path();
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        let (of_file, wrong) = check(&file, &name);
        counts.add(&of_file);
        complaints.extend(wrong);
    }
    println!("{counts}");
    assert_eq!(complaints, Vec::<String>::new());
    assert!(counts.files >= 30 && counts.calls > 1000, "{counts}");
}

/// Whatever was done to a trace, it prints back: quoted, indented, with other line ends, cut off, with lines that changed
/// places. Those in the folder `RRAPPER_TRACES` are tried, too.
#[test]
fn damaged_traces_are_printed_back() {
    let kept = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/traces");
    let more = std::env::var_os("RRAPPER_TRACES").map(PathBuf::from);
    let mut files: Vec<PathBuf> = Vec::new();
    for folder in [Some(kept), more].into_iter().flatten() {
        let found = fs::read_dir(folder).expect("a folder of traces");
        files.extend(found.map(|file| file.expect("a file").path()));
    }
    assert!(files.len() >= 30, "{} traces", files.len());
    for file in files {
        // The long ones have nothing that is not at their beginnings.
        let mut text = fs::read(&file).expect("a readable file");
        text.truncate(1 << 16);
        let lines: Vec<&[u8]> = text.split_inclusive(|b| *b == b'\n').collect();
        let with = |before: &[u8]| {
            lines
                .iter()
                .flat_map(|line| [before, line].concat())
                .collect()
        };
        let mut turned = lines.clone();
        turned.reverse();
        let pasted: [Vec<u8>; 6] = [
            text.clone(),
            with(b"    "),
            with(b"> "),
            with(b"x"),
            turned.concat(),
            text.iter().filter(|b| **b != b'"').copied().collect(),
        ];
        for (how, text) in pasted.iter().enumerate() {
            for part in [1, 2, 3] {
                let cut = &text[..text.len() * part / 3];
                let mut printed = Vec::new();
                for piece in rrapper::strace::Stream::new(cut, "damaged") {
                    let piece = piece.expect("memory can be read");
                    assert!(piece.prints_back(), "{} ({how}): {piece:?}", file.display());
                    piece
                        .print(&mut printed)
                        .expect("a vector takes everything");
                }
                assert!(
                    printed == cut,
                    "{} ({how}): not all is there",
                    file.display()
                );
            }
        }
    }
}
