//! A short run of the fuzz targets' bodies, always the same: mutations of the kept traces, and random memory for each call.
//! And that the time to read a trace is linear in its length, in the CPU's time.

#[path = "fuzz/body.rs"]
mod body;

use nix::time::{ClockId, clock_gettime};
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
