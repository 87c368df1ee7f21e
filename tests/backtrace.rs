//! Where programs were when a signal killed them, when their time was up, and when a script asks: as gdb has it, and
//! whatever is in the files that are read for it.

use crate::common::Folder;
use crate::common::limits::{Chance, limited};
use rrapper::backtrace::{self, Frame, MOST_FRAMES, Mapped};
use rrapper::history::Recording;
use rrapper::process::Process;
use rrapper::replay::{Replay, Replayer};
use rrapper::tracee::proc;
use rrapper::tracee::tsc_off::clock;
use std::fs::File;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

/// How the fixture is built.
const BUILDS: [(&str, &[&str]); 6] = [
    ("debug", &["-g", "-O0"]),
    ("fast", &["-g", "-O2", "-fomit-frame-pointer"]),
    ("static", &["-g", "-O2", "-static"]),
    ("fixed", &["-g", "-O2", "-no-pie", "-gdwarf-4"]),
    ("packed", &["-g", "-O2", "-gz"]),
    (
        "debug_frame",
        &["-g", "-O2", "-fno-asynchronous-unwind-tables"],
    ),
];

/// How it ends, with which signal, and in which of its functions.
const WAYS: [(&str, &str, &[&str]); 8] = [
    ("null", "SIGSEGV", &["write_to_null", "inner", "outer"]),
    (
        "qsort",
        "SIGSEGV",
        &["write_to_null", "inner", "outer", "compare", "sort"],
    ),
    (
        "handler",
        "SIGSEGV",
        &[
            "write_to_null",
            "inner",
            "outer",
            "on_signal",
            "<signal handler called>",
            "raise_signal",
            "handle",
        ],
    ),
    (
        "altstack",
        "SIGSEGV",
        &[
            "write_to_null",
            "inner",
            "outer",
            "on_signal",
            "<signal handler called>",
            "raise_signal",
            "handle",
        ],
    ),
    ("jump", "SIGSEGV", &["??", "jump_to_null"]),
    ("data", "SIGSEGV", &["??", "jump_to_data"]),
    ("abort", "SIGABRT", &["give_up"]),
    ("spin", "nil", &["spin"]),
];

/// A line of a script's output: function, file, line, whether it was inlined, module.
#[derive(Debug, PartialEq)]
struct Row {
    function: String,
    file: String,
    line: u32,
    inlined: bool,
    module: String,
}

const SHOW: &str = r#"
    local function show(frames)
        for _, f in ipairs(frames) do
            print(f.func or "??", f.file or "", f.line or 0, f.inlined, f.module or "")
        end
    end
"#;

fn rows<'a>(lines: impl Iterator<Item = &'a str>) -> Vec<Row> {
    let row = |line: &str| {
        let mut words = line.split('\t').map(String::from);
        let mut word = || words.next().unwrap_or_else(|| panic!("{line}"));
        Row {
            function: word(),
            file: word(),
            line: word().parse().unwrap(),
            inlined: word() == "true",
            module: word(),
        }
    };
    lines.map(row).collect()
}

/// Records the program reading a file, lets that fail, and returns signal, hang and frames.
fn ended(folder: &Folder, argv: &[&str]) -> (String, String, Vec<Row>) {
    let _ = std::fs::remove_dir_all(folder.join("rec"));
    folder.write("data", "text");
    folder.record("rec", argv).ok();
    outcome(folder, "rec")
}

fn outcome(folder: &Folder, recording: &str) -> (String, String, Vec<Row>) {
    let text = folder
        .script(&format!(
            r#"{SHOW}
            rr.open "{recording}"
            local p = rr.replay_to(rr.find{{ syscall = "read", path = "*/data" }}):spin_off()
            local o = p:inject{{
                timeout = 2, on_divergence = "live", finally = "live",
                read = {{ fail = "EIO", when = "1" }},
            }}
            print(o.signal)
            print((tostring(o.hang):gsub("\n", " | ")))
            show(o.backtrace)"#
        ))
        .ok()
        .text();
    let mut lines = text.lines();
    let (signal, hang) = (lines.next().unwrap(), lines.next().unwrap());
    (signal.into(), hang.into(), rows(lines))
}

/// The functions that are the fixture's own.
fn own<'a>(rows: &'a [Row], program: &str) -> Vec<&'a str> {
    let own = |row: &&Row| match row.function.as_str() {
        "<signal handler called>" => true,
        "??" => row.module.is_empty() || row.module == program,
        _ => row.file.ends_with("backtraces.c"),
    };
    let functions = rows.iter().filter(own);
    functions.map(|row| row.function.as_str()).collect()
}

/// The line of the fixture with this comment.
fn line_of(comment: &str) -> u32 {
    let source = include_str!("fixtures/backtraces.c");
    let at = source.lines().position(|line| line.ends_with(comment));
    at.expect(comment) as u32 + 1
}

#[test]
fn every_end_shows_where_in_every_build() {
    let folder = Folder::new();
    for (build, flags) in BUILDS {
        let program = folder.compile_as(build, "backtraces", flags);
        for (way, signal, functions) in WAYS {
            let (died, hang, rows) = ended(&folder, &[&program, "data", way]);
            let what = format!("{build}, {way}: {rows:#?}");
            assert_eq!(died, signal, "{what}");
            let mut expected = functions.to_vec();
            expected.extend(["fail", "work", "main"]);
            assert_eq!(own(&rows, &program), expected, "{what}");
            let first = &rows[0];
            match way {
                "null" | "qsort" | "handler" | "altstack" => {
                    assert_eq!(first.line, line_of("// the fault"), "{what}");
                    assert_eq!(rows[1].line, line_of("// inlined"), "{what}");
                    assert!(rows[1].inlined && !rows[0].inlined, "{what}");
                }
                "spin" => {
                    let turns = line_of("// the loop");
                    assert!((turns - 1..=turns).contains(&first.line), "{what}");
                    assert!(hang.contains(" in spin () at "), "{hang}");
                    continue;
                }
                _ => {}
            }
            assert_eq!(hang, "nil", "{what}");
        }
    }
}

#[test]
fn a_stack_that_is_used_up_shows_its_top() {
    let folder = Folder::new();
    let program = folder.compile("backtraces", &["-g", "-O2"]);
    let (signal, _, rows) = ended(&folder, &[&program, "data", "overflow"]);
    assert_eq!(signal, "SIGSEGV");
    assert_eq!(rows.len(), MOST_FRAMES);
    assert!(
        rows.iter().all(|row| row.function == "overflow"),
        "{rows:?}"
    );
}

#[test]
fn a_smashed_stack_shows_what_is_left() {
    let folder = Folder::new();
    let program = folder.compile("backtraces", &["-g", "-O2"]);
    let (signal, _, rows) = ended(&folder, &[&program, "data", "smash"]);
    assert_eq!(signal, "SIGSEGV");
    assert_eq!(
        (&*rows[0].function, &*rows[0].module),
        ("??", ""),
        "{rows:?}"
    );
    assert!(rows.iter().any(|row| row.function == "main"), "{rows:?}");
}

#[test]
fn a_call_that_hangs_is_named() {
    let folder = Folder::new();
    let program = folder.compile("backtraces", &["-g"]);
    let (_, hang, rows) = ended(&folder, &[&program, "data", "block"]);
    let call = "clock_nanosleep(CLOCK_MONOTONIC, 0, {tv_sec=1000, tv_nsec=0}, NULL)";
    assert!(hang.starts_with(call), "{hang}");
    assert_eq!(
        own(&rows, &program),
        ["block", "fail", "work", "main"],
        "{rows:?}"
    );
}

#[test]
fn threads_end_at_their_beginning() {
    let folder = Folder::new();
    let program = folder.compile("backtraces", &["-g", "-O2", "-pthread"]);
    let (signal, _, rows) = ended(&folder, &[&program, "data", "qsort", "thread"]);
    assert_eq!(signal, "SIGSEGV");
    let mut expected = WAYS[1].2.to_vec();
    expected.extend(["fail", "work"]);
    assert_eq!(own(&rows, &program), expected, "{rows:?}");
    assert!(rows.len() < 24, "{rows:?}");
}

#[test]
fn stripped_programs_show_addresses_and_find_their_debug_files() {
    let folder = Folder::new();
    let program = folder.compile("backtraces", &["-g", "-O2"]);
    let tool = |argv: &[&str]| {
        let status = Command::new(argv[0]).args(&argv[1..]).status();
        assert!(status.expect("binutils").success(), "{argv:?}");
    };
    let debug = format!("{program}.debug");
    tool(&["objcopy", "--only-keep-debug", &program, &debug]);
    tool(&["strip", &program]);
    let (_, _, bare) = ended(&folder, &[&program, "data", "qsort"]);
    let of_program = |row: &&Row| row.module == program;
    let nameless = bare.iter().filter(of_program);
    assert!(
        nameless
            .clone()
            .all(|row| row.function == "??" && row.file.is_empty())
    );
    // compare, outer, write_to_null; sort, fail, work, main, _start.
    assert_eq!(nameless.count(), 8, "{bare:#?}");
    tool(&["objcopy", &format!("--add-gnu-debuglink={debug}"), &program]);
    let (_, _, linked) = ended(&folder, &[&program, "data", "qsort"]);
    let mut expected = WAYS[1].2.to_vec();
    expected.extend(["fail", "work", "main"]);
    assert_eq!(own(&linked, &program), expected, "{linked:#?}");
    // Another build's does not belong to it.
    folder.compile_as("other", "backtraces", &["-g", "-O0"]);
    std::fs::copy(folder.join("other"), &debug).unwrap();
    let (_, _, wrong) = ended(&folder, &[&program, "data", "qsort"]);
    assert!(
        own(&wrong, &program).iter().all(|name| *name == "??"),
        "{wrong:#?}"
    );
}

#[test]
fn packed_recordings_know_the_names_of_files() {
    let folder = Folder::new();
    let program = folder.compile("backtraces", &["-g", "-O2"]);
    let (_, _, plain) = ended(&folder, &[&program, "data", "qsort"]);
    folder.rrapper(["pack", "rec", "-o", "rec.packed"]).ok();
    std::fs::remove_dir_all(folder.join("rec")).unwrap();
    let (_, _, packed) = outcome(&folder, "rec.packed");
    assert_eq!(plain, packed);
    assert!(
        plain.iter().any(|row| row.module.ends_with("/libc.so.6")),
        "{plain:#?}"
    );
    assert!(
        plain
            .iter()
            .all(|row| std::path::Path::new(&row.module).exists()),
        "{plain:#?}"
    );
}

/// The functions that gdb shows when the program does the same by itself, up to main.
fn by_gdb(folder: &Folder, program: &str, way: &str) -> Vec<String> {
    let commands = [
        "set debuginfod enabled off",
        "handle SIGUSR1 nostop noprint pass",
        "run",
        "bt",
        "kill",
    ];
    let mut gdb = folder.command("gdb");
    gdb.args(["-nx", "-batch"]);
    for command in commands {
        gdb.args(["-ex", command]);
    }
    gdb.args(["--args", program, "nosuch", way]);
    let output = gdb.output().expect("gdb");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let frames = text.lines().filter(|line| line.starts_with('#'));
    let function = |line: &str| {
        let line = line.split_once(' ').unwrap().1.trim_start();
        let line = match line.split_once(" in ") {
            Some((address, rest)) if address.starts_with("0x") => rest,
            _ => line,
        };
        let end = line.find(" (").unwrap_or(line.len());
        line[..end].to_string()
    };
    let functions: Vec<String> = frames.map(function).collect();
    assert!(!functions.is_empty(), "{text}");
    functions
}

#[test]
fn gdb_shows_the_same_functions() {
    let folder = Folder::new();
    for (build, flags) in &BUILDS[..3] {
        let program = folder.compile_as(build, "backtraces", flags);
        for (way, _, _) in &WAYS[..7] {
            let (_, _, rows) = ended(&folder, &[&program, "data", way]);
            let main = rows.iter().position(|row| row.function == "main");
            let ours = &rows[..=main.expect("main")];
            let gdbs = by_gdb(&folder, &program, way);
            let what = format!("{build}, {way}: {ours:#?}, {gdbs:#?}");
            // gdb works out functions that have left by a jump, too.
            let missing = gdbs.len().checked_sub(ours.len());
            assert!(missing.is_some_and(|missing| missing <= 2), "{what}");
            let mut here: Vec<&str> = WAYS
                .iter()
                .flat_map(|(_, _, names)| *names)
                .copied()
                .collect();
            here.retain(|name| *name != "??");
            here.extend(["fail", "work", "main"]);
            let of_fixture = |name: &&str| here.contains(name);
            let all = ours.iter().map(|row| row.function.as_str());
            let all: Vec<&str> = all.filter(of_fixture).collect();
            let gdbs_all: Vec<&str> = gdbs.iter().map(String::as_str).filter(of_fixture).collect();
            assert_eq!(all, gdbs_all, "{what}");
            // Without debug information, functions of the C library have several names.
            for row in ours.iter().filter(|row| !row.file.is_empty()) {
                assert!(gdbs.contains(&row.function), "{}: {what}", row.function);
            }
        }
    }
}

#[test]
fn real_programs_show_the_functions_that_they_export() {
    let folder = Folder::new();
    folder.write("data", "text\n");
    let shown = |call: &str, name: &str| {
        let text = folder
            .script(&format!(
                r#"{SHOW}
                rr.open "{name}"
                show(rr.replay_to(rr.find{{ {call} }}):spin_off():backtrace())"#
            ))
            .ok()
            .text();
        rows(text.lines())
    };
    let program = "print(open('data').read())";
    folder
        .record("python", &["/usr/bin/python3", "-c", program])
        .ok();
    let python = shown(r#"syscall = "read", path = "*/data""#, "python");
    let has = |rows: &[Row], name: &str| rows.iter().any(|row| row.function == name);
    for name in ["_PyEval_EvalFrameDefault", "Py_RunMain", "Py_BytesMain"] {
        assert!(has(&python, name), "{name}: {python:#?}");
    }
    assert!(python[0].module.ends_with("/libc.so.6"), "{python:#?}");
    let statement = "create table t(x); insert into t values (1); select * from t;";
    folder
        .record("sqlite", &["sqlite3", "base", statement])
        .ok();
    let sqlite = shown(r#"syscall = "fdatasync""#, "sqlite");
    assert!(has(&sqlite, "sqlite3_step"), "{sqlite:#?}");
}

#[test]
fn frames_are_shown_as_text() {
    let folder = Folder::new();
    let program = folder.compile("backtraces", &["-g", "-O2", "-no-pie"]);
    folder.write("data", "text");
    folder.record("rec", &[&program, "data", "null"]).ok();
    let text = folder
        .script(
            r#"rr.open "rec"
            local b = rr.replay_to(rr.find{ syscall = "read", path = "*/data" }):spin_off():backtrace()
            print(b) print(b[2])"#,
        )
        .ok()
        .text();
    let frame = text.lines().last().unwrap();
    assert!(frame.starts_with("0x000000000040"), "{text}");
    assert!(frame.contains(" in work () at /"), "{text}");
    assert!(text.contains(&format!("#1  {frame}\n")), "{text}");
}

/// A copy of the fixture that stands in its read.
fn reading(folder: &Folder, program: &str) -> Process {
    folder.write("data", "text");
    folder.record("rec", &[program, "data", "null"]).ok();
    let recording = Arc::new(Recording::open(&folder.join("rec")).unwrap());
    let reads = |number: &u64| {
        let event = recording.event(*number).unwrap();
        event
            .call()
            .is_some_and(|call| call.name() == "read" && call.ret == Some(1))
    };
    let event = (1..=recording.len()).find(reads).expect("the read");
    let mut replayer = Replayer::new(Arc::clone(&recording));
    replayer.replay_to(event).unwrap();
    replayer.spin_off(None).unwrap()
}

fn functions(frames: &[Frame]) -> Vec<&str> {
    let named = frames.iter().filter_map(|frame| frame.function.as_deref());
    named.collect()
}

/// The processor time of this thread, which other programs on the machine do not change.
fn processor_time() -> Duration {
    Duration::from_nanos(clock(libc::CLOCK_THREAD_CPUTIME_ID))
}

#[test]
fn files_are_read_once_in_a_campaign() {
    const TIMES: u32 = 200;
    let folder = Folder::new();
    let program = folder.compile("backtraces", &["-g", "-O2"]);
    let process = reading(&folder, &program);
    let first = backtrace::of_process(&process);
    assert!(functions(&first).contains(&"work"), "{first:#?}");
    let begun = processor_time();
    for _ in 0..TIMES {
        assert_eq!(backtrace::of_process(&process), first);
    }
    let each = (processor_time() - begun) / TIMES;
    assert!(each < Duration::from_millis(5), "{each:?}");
}

/// Debug information that is made to take time, memory, or a deep stack: a function's name that refers to itself, scopes
/// within scopes, a list of files, and units without end.
const HOSTILE: &str = r#"
    .section .debug_abbrev,"",@progbits
    # A unit: low_pc, high_pc; and perhaps stmt_list; with children.
    .byte 1, 0x11, 1, 0x11, 0x01, 0x12, 0x07, KIND 0, 0
    # A function: low_pc, high_pc, abstract_origin.
    .byte 2, 0x2e, 1, 0x11, 0x01, 0x12, 0x07, 0x31, 0x13, 0, 0
    # Inlined functions: low_pc, high_pc; and nothing at all.
    .byte 3, 0x1d, 1, 0x11, 0x01, 0x12, 0x07, 0, 0
    .byte 4, 0x1d, 1, 0, 0
    .byte 0
    .section .debug_info,"",@progbits
unit:
    .long unit_end - unit - 4
    .short 4
    .long 0
    .byte 8
    .byte 1
    .quad 1, -2
    LINES
origin:
    .byte 2
    .quad 1, -2
    .long origin - unit
    .rept 200000
    .byte 3
    .quad 1, -2
    .endr
    .fill 4000000, 1, 4
unit_end:
    .rept 100000
    .long 8
    .short 4
    .long 0
    .byte 8
    .byte 0
    .endr
    .section .debug_line,"",@progbits
    .long line_end - . - 4
    .short 5
    .byte 8, 0
    .long line_end - . - 4
    .byte 1, 1, 1, -5, 14, 13
    .byte 0, 1, 1, 1, 1, 0, 0, 0, 1, 0, 0, 1
    # A directory; fifty million files; all are named "".
    .byte 1, 1, 8, 1, 0
    .byte 1, 1, 8
    .byte 0x80, 0xe1, 0xeb, 0x17
    .zero 50000000
line_end:
    .section .note.GNU-stack,"",@progbits
"#;

#[test]
fn hostile_debug_information_takes_no_time_and_no_memory() {
    let folder = Folder::new();
    for (name, kind, lines) in [("deep", "", ""), ("long", "0x10, 0x17,", ".long 0")] {
        let assembly = HOSTILE.replace("KIND", kind).replace("LINES", lines);
        let assembly = folder.write("hostile.s", assembly);
        let program = folder.compile_as(name, "backtraces", &["-O2", assembly.to_str().unwrap()]);
        folder.write("data", "text");
        folder.record("rec", &[&program, "data", "null"]).ok();
        folder.write(
            "script.lua",
            r#"rr.open "rec"
            local p = rr.replay_to(rr.find{ syscall = "read", path = "*/data" }):spin_off()
            local begun = os.clock()
            for _, f in ipairs(p:backtrace()) do print(f.func) end
            local took = os.clock() - begun
            assert(took < 4, took)"#,
        );
        let done = limited(&folder, &["script.lua"]).ok();
        let there = |function: &str| done.text().lines().any(|line| line == function);
        assert!(there("work") && there("main"), "{name}: {}", done.text());
        std::fs::remove_dir_all(folder.join("rec")).unwrap();
    }
}

#[test]
fn damaged_files_and_memory_cost_names_and_nothing_else() {
    const LONGEST: Duration = Duration::from_secs(4);
    let folder = Folder::new();
    let program = folder.compile("backtraces", &["-g", "-O2", "-static"]);
    let process = reading(&folder, &program);
    let whole = std::fs::read(&program).unwrap();
    let maps = proc::maps(process.driven.task.tid()).unwrap();
    let mut chance = Chance(5);
    let check = |bytes: &[u8]| {
        let copy = folder.write("copy", bytes);
        let files = |_: &proc::Map| Mapped {
            name: b"/copy".to_vec(),
            file: File::open(&copy).ok(),
        };
        let begun = processor_time();
        let frames = backtrace::of(&process.driven.task, &files);
        let took = processor_time() - begun;
        assert!(took < LONGEST, "{took:?}");
        assert!(!frames.is_empty() && frames.len() <= MOST_FRAMES);
        std::fs::remove_file(&copy).unwrap();
        frames
    };
    assert!(functions(&check(&whole)).contains(&"work"));
    // Any bytes; the headers, where sizes and places are; what is cut off.
    for round in 0..150 {
        let mut bytes = whole.clone();
        for _ in 0..1 + chance.below(1 << (round % 14)) {
            let at = match round % 3 {
                0 => chance.below(bytes.len()),
                1 => whole.len() - 1 - chance.below(4096),
                _ => whole.len() - 1 - chance.below(whole.len() / 8),
            };
            bytes[at] = chance.below(256) as u8;
        }
        if round % 10 == 9 {
            bytes.truncate(chance.below(bytes.len()));
        }
        check(&bytes);
    }
    // What the process itself has in its memory: tables, then the stack.
    let stack = process.driven.task.regs().unwrap().sp();
    let tables = maps.iter().filter(|map| map.inode != 0);
    let tables: Vec<(u64, u64)> = tables.map(|map| (map.start, map.end)).collect();
    for round in 0..150 {
        let (start, end) = match round {
            0..100 => tables[chance.below(tables.len())],
            _ => (stack, stack + 512),
        };
        let bytes: Vec<u8> = (0..64).map(|_| chance.below(256) as u8).collect();
        for _ in 0..20 {
            let at = start + chance.below((end - start - 64) as usize) as u64;
            process.memory().write(at, &bytes).unwrap();
        }
        check(&whole);
    }
}
