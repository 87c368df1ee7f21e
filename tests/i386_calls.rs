//! Real calls of a 32-bit program: what strace writes of them, what they did to memory, and what our tables say of both.

use rrapper::strace;
use rrapper::syscall::{Abi, Memory, Syscall, by_nr_in};
use rrapper::trace::{Call, Value};
use std::path::Path;
use std::process::{Command, Stdio};

const PROGRAM: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/calls32.c");
const FLAGS: &str =
    "-m32 -O1 -ffreestanding -fno-stack-protector -fno-pic -no-pie -nostdlib -static";
/// Where the program's memory is, and how much of it it writes down.
const ARENA: u64 = 0x1000_0000;
const SIZE: usize = 4096;
const WORDS: usize = 8;
/// The descriptor to which it writes.
const DUMP: i64 = 100;

/// What the program wrote down of one call.
struct Record<'a> {
    nr: u64,
    args: [u64; 6],
    ret: i64,
    before: Arena<'a>,
    after: Arena<'a>,
}

/// The memory in which all that the calls point to lies.
#[derive(Clone)]
struct Arena<'a>(std::borrow::Cow<'a, [u8]>);

impl Memory for Arena<'_> {
    fn read(&self, addr: u64, buf: &mut [u8]) -> usize {
        let from = addr.checked_sub(ARENA).map(|from| from as usize);
        let here = from.and_then(|from| self.0.get(from..)).unwrap_or(&[]);
        let len = here.len().min(buf.len());
        buf[..len].copy_from_slice(&here[..len]);
        len
    }
}

impl Record<'_> {
    fn read(bytes: &[u8]) -> Record<'_> {
        let (words, memory) = bytes.split_at(WORDS * 4);
        let word = |i: usize| u32::from_le_bytes(words[i * 4..][..4].try_into().unwrap());
        let (before, after) = memory.split_at(SIZE);
        Record {
            nr: word(0).into(),
            args: std::array::from_fn(|i| word(i + 1).into()),
            ret: i64::from(word(7) as i32),
            before: Arena(before.into()),
            after: Arena(after.into()),
        }
    }

    fn call(&self) -> &'static Syscall {
        let call = by_nr_in(Abi::I386, self.nr).expect("the program makes calls that there are");
        call.resolve_in(&self.args, &self.before)
    }
}

/// Compiles the program and runs it under strace; `None` where the kernel does not run it.
fn trace(folder: &Path) -> Option<(Vec<Call>, Vec<u8>)> {
    let (program, dump, text) = (
        folder.join("calls32"),
        folder.join("dump"),
        folder.join("out.strace"),
    );
    let quiet = |command: &mut Command| {
        let command = command.stdin(Stdio::null()).stdout(Stdio::null());
        let status = command.stderr(Stdio::null()).status();
        status.is_ok_and(|status| status.success())
    };
    let mut gcc = Command::new("gcc");
    gcc.args(FLAGS.split(' '))
        .arg("-o")
        .arg(&program)
        .arg(PROGRAM);
    assert!(quiet(&mut gcc), "gcc compiles for i386");
    if !quiet(Command::new(&program).arg(&dump)) {
        eprintln!("skipped: this kernel does not run programs of i386");
        return None;
    }
    let mut strace = Command::new("strace");
    strace.args(["-v", "-s", "65535", "-o"]).arg(&text);
    assert!(quiet(strace.arg(&program).arg(&dump)), "strace may trace");
    let parsed = strace::load(&text).expect("strace's file can be read");
    assert_eq!(parsed.problems, []);
    let calls: Vec<Call> = parsed.trace.calls().cloned().collect();
    let fd = |call: &Call| call.args.first().and_then(Value::as_i64);
    // Behind each call is the write of its record; before the first, the program prepares itself.
    let observed = calls.windows(2).filter(|two| {
        let is_record = |call: &Call| call.name == "write" && fd(call) == Some(DUMP);
        is_record(&two[1]) && !is_record(&two[0])
    });
    let observed: Vec<Call> = observed.map(|two| two[0].clone()).collect();
    Some((observed, std::fs::read(&dump).expect("the program's file")))
}

/// What strace writes, without what it says in comments.
fn text(value: &Value) -> String {
    let text = value.to_string();
    let mut parts = text.split(" /* ");
    let first = parts.next().unwrap_or("").to_owned();
    parts.fold(first, |text, part| {
        text + part.split_once(" */").map_or("", |(_, rest)| rest)
    })
}

fn texts(values: &[Value]) -> String {
    values.iter().map(text).collect::<Vec<_>>().join(", ")
}

/// What strace does not say or does not know, so that we cannot either.
const UNSAID: &[(&str, &str)] = &[
    // strace shows members that the kernel did not write.
    ("waitid", "decode"),
    // What the kernel read is not shown, or what it wrote is not.
    ("fcntl64", "decode"),
    ("fcntl64", "compare"),
    ("copy_file_range", "decode"),
    ("copy_file_range", "encode"),
    ("splice", "decode"),
    ("splice", "encode"),
    // strace shows the room, not the message.
    ("msgrcv", "decode"),
    // The sequence number is not shown.
    ("msgctl", "encode"),
    ("semctl", "encode"),
    ("shmctl", "encode"),
    // Through ipc, a semun is shown in brackets.
    ("semctl", "decode"),
    // `(Timeout)` says that no time is left.
    ("pselect6", "encode"),
    ("pselect6_time64", "encode"),
];

/// What we do not have as strace has it.
const OURS: &[(&str, &str)] = &[
    // The flags' names.
    ("ioctl", "decode"),
    ("ioctl", "encode"),
    // A null pointer that is pointed to.
    ("get_robust_list", "decode"),
    // What became of a long: i386's are as large as an int, which is written in another way.
    ("sendfile", "decode"),
];

#[test]
fn calls_of_a_32_bit_program_are_what_the_tables_say() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let Some((observed, dump)) = trace(folder.path()) else {
        return;
    };
    let records: Vec<Record<'_>> = dump
        .chunks_exact(WORDS * 4 + 2 * SIZE)
        .map(Record::read)
        .collect();
    assert_eq!(records.len(), observed.len());
    assert!(records.len() > 180);
    let mut wrong = Vec::new();
    for (record, theirs) in records.iter().zip(&observed) {
        let call = record.call();
        assert_eq!(call.name, theirs.name);
        if !call.described {
            continue;
        }
        let mut complain = |what: &'static str, text: String| {
            let excused = UNSAID.iter().chain(OURS);
            if !excused.into_iter().any(|e| *e == (call.name, what)) {
                wrong.push(format!("{what}: {theirs}\n    {text}"));
            }
        };
        let ours = call.decode(
            &record.args,
            Some(record.ret),
            &record.before,
            &record.after,
        );
        if texts(&ours) != texts(&theirs.args) {
            complain("decode", texts(&ours));
        }
        if let Err(mismatch) = call.compare(&record.args, &record.before, &theirs.args) {
            complain("compare", format!("{mismatch:?}"));
        }
        let outputs = call.outputs(&record.args, record.ret, &record.before, &record.after);
        let inside = |at: u64| {
            outputs
                .iter()
                .any(|r| (r.addr..r.addr + r.len as u64).contains(&at))
        };
        let changed = (0..SIZE).filter(|&i| record.before.0[i] != record.after.0[i]);
        let outside = changed.map(|i| ARENA + i as u64).find(|&at| !inside(at));
        if let Some(at) = outside {
            complain("outputs", format!("{at:#x} is not in {outputs:x?}"));
        }
        let values = call.with_notes(&theirs.args, &theirs.notes);
        match call.encode_outputs(&record.args, &values, record.ret, &record.before) {
            Ok(writes) => {
                let mut memory = record.before.clone();
                for (addr, bytes) in writes {
                    let from = (addr - ARENA) as usize;
                    memory.0.to_mut()[from..from + bytes.len()].copy_from_slice(&bytes);
                }
                // The kernel leaves what is between and behind directory entries as it was.
                let written = |&i: &usize| {
                    record.before.0[i] != record.after.0[i] || !inside(ARENA + i as u64)
                };
                let mut written = (0..SIZE).filter(written);
                let differs = written.find(|&i| memory.0[i] != record.after.0[i]);
                if let Some(i) = differs {
                    let (ours, real) = (&memory.0[i..], &record.after.0[i..]);
                    complain(
                        "encode",
                        format!("{i:#x}: {:x?} {:x?}", &ours[..8], &real[..8]),
                    );
                }
            }
            Err(error) => complain("encode", error.to_string()),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
