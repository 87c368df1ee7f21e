//! A short run of the fuzz targets' bodies, always the same: mutations of the kept traces, and random memory for each call.
//! And that the time to read a trace is linear in its length, in the CPU's time.

#[path = "fuzz/body.rs"]
mod body;

use nix::time::{ClockId, clock_gettime};
use rrapper::image::Chunk;
use rrapper::recording::{Before, CallEvent, ContentBefore, Effect, FileBefore, Status};
use rrapper::{strace, syscall};
use std::path::Path;
use std::time::Duration;

/// The kept traces.
fn traces() -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/traces");
    let files = std::fs::read_dir(folder).expect("the folder of the kept traces");
    let mut files: Vec<_> = files.map(|file| file.expect("a file").path()).collect();
    files.sort();
    let read = |file| std::fs::read(file).expect("a readable file");
    files.iter().map(read).collect()
}

struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, n: usize) -> usize {
        (self.next() % n.max(1) as u64) as usize
    }

    fn range(&mut self, n: usize) -> std::ops::Range<usize> {
        let (a, b) = (self.below(n + 1), self.below(n + 1));
        a.min(b)..a.max(b).min(a.min(b) + 40)
    }
}

/// What the syntax is made of.
const WORDS: &[&str] = &[
    "<unfinished ...>\n",
    "<... read resumed>",
    "= ?",
    " = -1 ENOENT (No such file or directory)",
    "--- SIGINT {",
    "+++ exited with 1 +++\n",
    "/*",
    "*/",
    "/* 3 vars */",
    " => ",
    "->",
    "{",
    "}",
    "[",
    "]",
    "(",
    ")",
    "<",
    ">",
    "\"",
    "\\",
    "...",
    "|",
    "~[",
    ", ",
    "=",
    "0x",
    "\\x",
    "NULL",
    " (INJECTED)",
    " (DELAYED)",
    " <0.000001>",
    "[pid 12] ",
    "12 ",
    "strace: ",
    "\n",
    "\r\n",
    "\0",
    "\u{ff}",
    "makedev(",
    "htons(",
    " or ",
    "<<",
    "1 ",
    "{a=",
];

fn mutate(text: &mut Vec<u8>, others: &[&[u8]], random: &mut Random) {
    for _ in 0..=random.below(4) {
        let range = random.range(text.len());
        match random.below(6) {
            0 => drop(text.drain(range)),
            1 => {
                let copy = text[range].to_vec();
                let at = random.below(text.len() + 1);
                text.splice(at..at, copy);
            }
            2 if !text.is_empty() => {
                let at = random.below(text.len());
                text[at] = random.next() as u8;
            }
            3 => {
                let other = others[random.below(others.len())];
                let piece = other[random.range(other.len())].to_vec();
                text.splice(range, piece);
            }
            _ => {
                let word = WORDS[random.below(WORDS.len())].bytes();
                let at = random.below(text.len() + 1);
                text.splice(at..at, word);
            }
        }
    }
}

#[test]
fn mutated_traces() {
    let traces = traces();
    let lines: Vec<&[u8]> = traces
        .iter()
        .flat_map(|text| text.split_inclusive(|b| *b == b'\n'))
        .collect();
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    for _ in 0..60_000 {
        let first = random.below(lines.len());
        let last = (first + 1 + random.below(3)).min(lines.len());
        let mut text = lines[first..last].concat();
        mutate(&mut text, &lines, &mut random);
        body::strace(&text);
    }
    for text in &traces {
        body::strace(text);
        let mut text = text.clone();
        for _ in 0..5 {
            mutate(&mut text, &lines, &mut random);
            body::strace(&text);
        }
    }
}

#[test]
fn random_memory_for_each_call() {
    let mut random = Random(0x2545_f491_4f6c_dd1d);
    for call in syscall::names().filter_map(syscall::by_name) {
        for size in [0, 20, 100, 300, 1000, 1000, 4000, 4000] {
            // Small numbers are likelier, as in real memory.
            let mut byte = || match random.below(3) {
                0 => 0,
                1 => random.below(9) as u8,
                _ => random.next() as u8,
            };
            let data: Vec<u8> = (0..size).map(|_| byte()).collect();
            body::decode_call(call, &data);
        }
    }
}

/// Files and calls that change them: paths that lead anywhere, links in circles, sizes without an end.
#[test]
fn made_up_files_and_calls() {
    let mut random = Random(0x5851_f42d_4c95_7f2d);
    for _ in 0..3000 {
        let files: Vec<FileBefore> = (0..random.below(12)).map(|_| file(&mut random)).collect();
        let calls: Vec<CallEvent> = (0..random.below(12)).map(|_| call(&mut random)).collect();
        let mut data = postcard::to_stdvec(&(files, calls)).expect("they can be encoded");
        body::files(&data);
        for _ in 0..random.below(4) {
            let at = random.below(data.len());
            data[at] ^= 1 << random.below(8);
            body::files(&data);
        }
    }
}

const PATHS: &[&[u8]] = &[
    b"/",
    b"/work",
    b"/work/a",
    b"/work/b",
    b"/work/d",
    b"/work/d/a",
    b"/work/d/e/f",
    b"/other",
    b"a",
    b"d",
    b"d/a",
    b"../a",
    b"/work/../../a",
    b"/work/a/..",
    b"..",
    b"",
    b"/work//a",
    b"/proc/self/fd/3",
    b"l",
    b"/work/l",
    b"/work/l/l",
    b"\xff\0",
];

fn path(random: &mut Random) -> Vec<u8> {
    PATHS[random.below(PATHS.len())].to_vec()
}

fn number(random: &mut Random) -> u64 {
    match random.below(4) {
        0 => random.next() >> random.below(64),
        1 => u64::MAX - random.below(3) as u64,
        _ => random.below(9) as u64,
    }
}

fn file(random: &mut Random) -> FileBefore {
    const KINDS: [u32; 5] = [
        libc::S_IFREG,
        libc::S_IFDIR,
        libc::S_IFLNK,
        libc::S_IFIFO,
        libc::S_IFREG,
    ];
    let was = match random.below(8) {
        0 => Before::Nothing,
        1 => Before::Content(ContentBefore::Bytes(vec![b'x'; random.below(99)])),
        2 => Before::Content(ContentBefore::Kept(random.below(4) as u32)),
        3 => Before::Content(ContentBefore::Missing("it is too large".into())),
        _ => Before::File(Box::new(Status {
            mode: KINDS[random.below(KINDS.len())] | random.next() as u32 & 0o7777,
            inode: (random.below(2) as u64, random.below(6) as u64),
            size: number(random),
            modified: (number(random) as i64, number(random) as i64),
            link: path(random),
            ..Status::default()
        })),
    };
    let path = path(random);
    FileBefore { path, was }
}

fn call(random: &mut Random) -> CallEvent {
    const NAMES: &[&str] = &[
        "open",
        "openat",
        "creat",
        "truncate",
        "ftruncate",
        "fallocate",
        "copy_file_range",
        "rename",
        "renameat2",
        "link",
        "linkat",
        "symlink",
        "symlinkat",
        "unlink",
        "unlinkat",
        "rmdir",
        "mkdir",
        "mkdirat",
        "mknod",
        "chmod",
        "fchmod",
        "chown",
        "utimensat",
        "utimes",
        "setxattr",
        "removexattr",
        "write",
        "pwrite64",
        "writev",
        "mmap",
        "ioctl",
        "close",
        "dup",
        "lseek",
        "getdents64",
        "read",
        "chdir",
        "sendfile",
        "splice",
    ];
    // Where texts are, and addresses of them among the arguments.
    const TEXTS: u64 = 0x1000;
    let texts: Vec<Chunk> = (0..4)
        .map(|at| Chunk {
            addr: TEXTS + at * 64,
            data: [path(random), vec![0]].concat(),
        })
        .collect();
    let name = NAMES[random.below(NAMES.len())];
    let nr = syscall::by_name(name).expect("a call").nr;
    let mut args = [0; 6];
    for arg in &mut args {
        *arg = match random.below(3) {
            0 => TEXTS + 64 * random.below(4) as u64,
            1 => number(random),
            _ => [3, 4, libc::AT_FDCWD as u64, 0o101, 2, 0][random.below(6)],
        };
    }
    CallEvent {
        nr,
        args,
        ip: 0,
        ret: Some([0, 3, 4, 5, number(random) as i64][random.below(5)]),
        ins: texts,
        outs: Vec::new(),
        effect: Effect::None,
    }
}

/// The CPU's time that this thread takes to read a text: the least of some, since others' work only adds to it.
fn time(text: &[u8]) -> Duration {
    let now = || Duration::from(clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).expect("a clock"));
    let once = || {
        let begin = now();
        strace::parse(text, "hostile");
        now() - begin
    };
    (0..3).map(|_| once()).min().unwrap_or_default()
}

/// Four times the text may take eight times the time, for caches and allocators, but not sixteen times.
#[test]
fn time_is_linear_in_the_length() {
    let units = WORDS.iter().copied().chain([
        "1<",
        "3<a,",
        "[A ",
        "a(",
        "A or ",
        "{WIF",
        "\"\\",
        "a(/**/",
        "{a[",
        "1 f() = 0 (a 1, ",
        "/* /* ",
        "1 f(<unfinished ...>\n",
        "1 f(1, <unfinished ...>\n1 <... f resumed>) = 0\n",
        "f(1strace: x\n",
        "[pid  1] ",
        "f(\"",
        "x <0.1> ",
        "\t",
        " > /lib/x(f+0x1) [0x1]\n",
    ]);
    for unit in units {
        for head in [
            "",
            "1 f(",
            "f({a=",
            "f(1) = 1 (",
            "--- SIGINT ",
            "1 f(1 <unfinished ...>\n",
        ] {
            let text = |length: usize| {
                let unit = unit.bytes().cycle().take(length);
                head.bytes()
                    .chain(unit)
                    .chain(*b")]}\" ) = 0\n")
                    .collect::<Vec<u8>>()
            };
            let large = time(&text(128 << 10));
            // What takes this little says nothing about growth, and would take half a minute if it were quadratic.
            if large < Duration::from_millis(30) {
                continue;
            }
            let small = time(&text(32 << 10));
            assert!(
                large < small * 8,
                "{head}{unit}…: {small:?} for 32 KiB, {large:?} for 128 KiB"
            );
        }
    }
}
