//! Recordings of tasks that never were, made to do harm: each is refused with a sentence, or ends where it ends.

use crate::common::limits::{Chance, LATE, eventually, is_alive, is_sane, limited};
use crate::common::{Folder, RRAPPER};
use rrapper::image::{Backing, Chunk, Image, Mapping};
use rrapper::recording::{
    CallEvent, Delivery, Effect, Event, EventKind, Frame, Jump, NewTask, Piece, Reach, Shows,
    SignalEvent, Start, StartFd, Writer,
};
use rrapper::trace::Exit;
use rrapper::tracee::proc::Layout;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};
use std::time::Instant;

const PID: i32 = 77;
const CODE: u64 = 0x40_0000;
const DATA: u64 = 0x50_0000;
const HEAP: u64 = 0x60_0000;
const AGENT: u64 = 0x7000_0000;
const PAGE: u64 = 0x1000;
const FIXED: u64 = (libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED) as u64;

type Change = Box<dyn Fn(&mut Image)>;

/// A program, and frames that fit it or not.
#[derive(Default)]
struct Made {
    code: Vec<u8>,
    frames: Vec<Frame>,
    image: Vec<Change>,
}

impl Made {
    /// The program makes this call; returns the instruction pointer behind it.
    fn code_of(&mut self, nr: i64, args: [u64; 6]) -> u64 {
        // movabs to rdi, rsi, rdx, r10, r8, r9, rax; syscall.
        const MOVES: [[u8; 2]; 7] = [
            [0x48, 0xbf],
            [0x48, 0xbe],
            [0x48, 0xba],
            [0x49, 0xba],
            [0x49, 0xb8],
            [0x49, 0xb9],
            [0x48, 0xb8],
        ];
        for (code, value) in MOVES.iter().zip(args.iter().chain([&(nr as u64)])) {
            self.code.extend_from_slice(code);
            self.code.extend_from_slice(&value.to_le_bytes());
        }
        self.code.extend_from_slice(&[0x0f, 0x05]);
        CODE + self.code.len() as u64
    }

    fn event(&mut self, tid: i32, kind: EventKind) {
        self.frames.push(Frame::Event(Event { tid, kind }));
    }

    /// The program makes this call, and so it is recorded.
    fn effect(&mut self, nr: i64, args: [u64; 6], ret: i64, effect: Effect) {
        let ip = self.code_of(nr, args);
        let call = CallEvent {
            nr: nr as u32,
            args,
            ip,
            ret: Some(ret),
            ins: Vec::new(),
            outs: Vec::new(),
            effect,
        };
        self.event(PID, EventKind::Call(call));
    }

    fn call(&mut self, nr: i64, args: [u64; 6], ret: i64) {
        self.effect(nr, args, ret, Effect::None);
    }

    fn getpid(&mut self) {
        self.call(libc::SYS_getpid, [0; 6], 0);
    }

    fn born(&mut self, change: impl Fn(&mut NewTask)) {
        let mut born = NewTask {
            tid: 78,
            pid: 78,
            maker: PID,
            flags: 0,
            stack: 0,
            tls: 0,
            parent_tid: 0,
            child_tid: 0,
            numbers: Vec::new(),
            named: 78,
        };
        change(&mut born);
        self.frames.push(Frame::NewTask(born));
    }

    /// The task is put somewhere by a handler.
    fn handler(&mut self, words: Vec<u64>) {
        let delivery = Delivery::Handler {
            regs: words,
            sigmask: u64::MAX,
            frame: Chunk {
                addr: DATA,
                data: Vec::new(),
            },
        };
        let signal = SignalEvent {
            signal: libc::SIGUSR1,
            info: Vec::new(),
            fault: false,
            delivery,
        };
        self.event(PID, EventKind::Signal(signal));
    }

    fn image(&mut self, change: impl Fn(&mut Image) + 'static) {
        self.image.push(Box::new(change));
    }

    fn write(&self, folder: &Folder, name: &str) {
        let mut writer = Writer::create(&folder.join(name)).unwrap();
        let fd = StartFd {
            twin: None,
            moves: true,
            fd: 1,
            path: b"/dev/null".to_vec(),
            offset: 0,
            flags: libc::O_WRONLY,
        };
        let start = Start {
            argv: vec![b"made".to_vec()],
            pid: PID,
            ppid: 1,
            cwd: b"/".to_vec(),
            descriptors: vec![fd],
            umask: 0o022,
            ..Start::default()
        };
        let mut code = self.code.clone();
        // ud2: no program goes on behind its last call.
        code.extend_from_slice(&[0x0f, 0x0b]);
        let mapping = |start: u64, prot| Mapping {
            start,
            end: start + 0x10 * PAGE,
            prot,
            backing: Backing::Anonymous,
            name: Vec::new(),
        };
        let mut image = Image {
            exe: b"/bin/true".to_vec(),
            mappings: vec![
                mapping(CODE, libc::PROT_READ | libc::PROT_EXEC),
                mapping(DATA, libc::PROT_READ | libc::PROT_WRITE),
            ],
            pages: vec![Chunk {
                addr: CODE,
                data: code,
            }],
            layout: Layout {
                start_code: CODE,
                end_code: CODE + PAGE,
                start_data: DATA,
                end_data: DATA + PAGE,
                start_brk: HEAP,
                start_stack: DATA,
                arg_start: DATA,
                arg_end: DATA,
                env_start: DATA,
                env_end: DATA,
            },
            brk: HEAP,
            regs: registers(CODE),
            sigmask: 0,
            ignored: 0,
            stack_limit: 8 << 20,
        };
        for change in &self.image {
            change(&mut image);
        }
        let exec = CallEvent {
            nr: libc::SYS_execve as u32,
            args: [0; 6],
            ip: 0,
            ret: Some(0),
            ins: Vec::new(),
            outs: Vec::new(),
            effect: Effect::Exec(Box::new(image)),
        };
        let exec = Frame::Event(Event {
            tid: PID,
            kind: EventKind::Call(exec),
        });
        for frame in [Frame::Start(start), exec].iter().chain(&self.frames) {
            writer.write(frame).unwrap();
        }
    }
}

/// Those of a 64-bit program that stands here.
fn registers(ip: u64) -> Vec<u64> {
    let mut words = vec![0; 27];
    // orig_rax, rip, cs, eflags, rsp, ss.
    words[15..21].copy_from_slice(&[u64::MAX, ip, 0x33, 0x202, DATA + 0x8000, 0x2b]);
    words
}

fn chunk(addr: u64, len: usize) -> Chunk {
    Chunk {
        addr,
        data: vec![0xcc; len],
    }
}

type Case = (&'static str, &'static str, fn(&mut Made));

/// Each is refused, with a sentence that has these words in it.
fn refused(cases: &[Case]) {
    let folder = Folder::new();
    let mut wrong = Vec::new();
    for (name, says, make) in cases {
        let mut made = Made::default();
        make(&mut made);
        made.write(&folder, name);
        let begun = Instant::now();
        let done = limited(&folder, &["replay", name]);
        let took = begun.elapsed();
        eprintln!("{name}: {} ({took:?})", done.stderr.trim_end());
        let one_line = done.stderr.starts_with("rrapper: ") && done.stderr.lines().count() == 1;
        let fits = done.code == Some(2) && done.stdout.is_empty() && one_line;
        if !fits || !done.stderr.contains(says) || took.as_secs() >= 10 {
            wrong.push(*name);
        }
        // Reading it needs no process, and gets through.
        let listed = limited(&folder, &["-q", "events", name]);
        assert!(listed.code.is_some(), "{name}: {}", listed.stderr);
    }
    assert!(
        wrong.is_empty(),
        "{wrong:?} are not refused as they should be"
    );
}

#[test]
fn what_belongs_to_rrapper_is_not_touched() {
    const OURS: &str = "rrapper's own";
    let protect = (libc::PROT_READ | libc::PROT_WRITE | libc::PROT_EXEC) as u64;
    assert_eq!(protect, 7);
    refused(&[
        ("poke", OURS, |made| {
            made.getpid();
            let chunks = vec![chunk(AGENT + 0x200, 3)];
            made.frames.push(Frame::Poke { tid: PID, chunks });
        }),
        ("poke-around", OURS, |made| {
            made.getpid();
            let chunks = vec![chunk(AGENT - 1, 2)];
            made.frames.push(Frame::Poke { tid: PID, chunks });
        }),
        ("page", OURS, |made| {
            made.getpid();
            made.image(|image| image.pages.push(chunk(AGENT + 0x200, 3)));
        }),
        ("heap", "rrapper", |made| {
            made.getpid();
            made.image(|image| {
                image.layout.start_brk = AGENT - 0x10 * PAGE;
                image.brk = AGENT + 0x10 * PAGE;
            });
        }),
        ("mprotect", OURS, |made| {
            made.call(libc::SYS_mprotect, [AGENT, PAGE, 7, 0, 0, 0], 0);
        }),
        ("pkey_mprotect", OURS, |made| {
            let args = [AGENT - PAGE, 2 * PAGE, 7, u64::MAX, 0, 0];
            made.call(libc::SYS_pkey_mprotect, args, 0);
        }),
        ("munmap", OURS, |made| {
            made.call(libc::SYS_munmap, [PAGE, 1 << 46, 0, 0, 0, 0], 0);
        }),
        ("mmap", OURS, |made| {
            let args = [AGENT, PAGE, 7, FIXED, u64::MAX, 0];
            made.call(libc::SYS_mmap, args, AGENT as i64);
        }),
        ("mmap-all", OURS, |made| {
            let args = [PAGE, u64::MAX, 7, FIXED, u64::MAX, 0];
            made.call(libc::SYS_mmap, args, PAGE as i64);
        }),
        ("mremap-from", OURS, |made| {
            let args = [AGENT, 0, PAGE, 3, DATA, 0];
            made.call(libc::SYS_mremap, args, DATA as i64);
        }),
        ("mremap-to", OURS, |made| {
            let args = [DATA, PAGE, PAGE, 3, AGENT, 0];
            made.call(libc::SYS_mremap, args, AGENT as i64);
        }),
        ("madvise", OURS, |made| {
            let dont_fork = libc::MADV_DONTFORK as u64;
            made.call(libc::SYS_madvise, [AGENT, PAGE, dont_fork, 0, 0, 0], 0);
        }),
        ("shmat", OURS, |made| {
            let effect = Effect::Share {
                object: 1,
                file: None,
                size: 1 << 60,
            };
            made.effect(libc::SYS_shmat, [0; 6], DATA as i64, effect);
        }),
        // What would grow over it does not.
        ("stack-above", "incomplete", |made| {
            made.image(|image| {
                image.mappings.push(Mapping {
                    start: AGENT + 0x10 * PAGE,
                    end: AGENT + 0x20 * PAGE,
                    prot: libc::PROT_READ | libc::PROT_WRITE,
                    backing: Backing::Stack,
                    name: Vec::new(),
                });
            });
            let args = [DATA, PAGE, 3, FIXED, u64::MAX, 0];
            made.call(libc::SYS_mmap, args, DATA as i64);
        }),
    ]);
}

fn piece(start: u64, len: u64, shows: Shows) -> Piece {
    let prot = libc::PROT_READ;
    Piece {
        start,
        len,
        prot,
        shows,
    }
}

#[test]
fn frames_that_make_no_sense() {
    refused(&[
        ("gone", "no task 5", |made| {
            let exit = Exit::Code(0);
            let (tid, left) = (5, Vec::new());
            made.getpid();
            made.frames.push(Frame::Gone { tid, exit, left });
        }),
        ("run", "no task -1", |made| {
            made.getpid();
            made.frames.push(Frame::Run { tid: -1 });
            made.getpid();
        }),
        ("poke-nowhere", "0xffffffffffffff00", |made| {
            made.getpid();
            let chunks = vec![chunk(u64::MAX - 0xff, 0x1000)];
            made.frames.push(Frame::Poke { tid: PID, chunks });
        }),
        ("remap-ours", "memory of rrapper's own changed", |made| {
            made.getpid();
            made.frames.push(Frame::Remap {
                tid: PID,
                pieces: vec![piece(0x7000_0000, PAGE, Shows::Nothing)],
            });
        }),
        ("remap-nowhere", "0xfffffffffffff000", |made| {
            made.getpid();
            made.frames.push(Frame::Remap {
                tid: PID,
                pieces: vec![piece(u64::MAX << 12, PAGE, Shows::Zeros)],
            });
        }),
        ("remap-what", "files/4294967295", |made| {
            made.getpid();
            let (file, offset) = (u32::MAX, 0);
            made.frames.push(Frame::Remap {
                tid: PID,
                pieces: vec![piece(DATA, PAGE, Shows::File { file, offset })],
            });
        }),
        ("born-outside", "outside of any call", |made| {
            made.born(|_| {});
        }),
        ("born-twice", "made twice", |made| {
            made.code_of(libc::SYS_fork, [0; 6]);
            made.born(|born| (born.tid, born.pid) = (PID, PID));
            made.born(|born| (born.tid, born.pid) = (PID, PID));
        }),
        ("born-of-nobody", "no task 5", |made| {
            made.code_of(libc::SYS_fork, [0; 6]);
            made.born(|born| born.maker = 5);
        }),
        ("born-zero", "task 0", |made| {
            made.code_of(libc::SYS_fork, [0; 6]);
            made.born(|born| (born.tid, born.pid) = (0, 0));
        }),
        ("born-stray", "thread of process 9", |made| {
            made.code_of(libc::SYS_fork, [0; 6]);
            made.born(|born| born.pid = 9);
        }),
        ("fork-bomb", "more than", |made| {
            made.code_of(libc::SYS_fork, [0; 6]);
            for tid in 1000..1600 {
                made.born(|born| (born.tid, born.pid) = (tid, tid));
            }
        }),
        ("thread-bomb", "more than", |made| {
            made.code_of(libc::SYS_fork, [0; 6]);
            for tid in 1000..9000 {
                made.born(|born| (born.tid, born.pid, born.flags) = (tid, PID, 0x1_0f00));
            }
        }),
        ("no-registers", "no registers", |made| {
            made.frames.push(jump(0, 0));
        }),
        ("many-registers", "no registers", |made| {
            made.frames.push(jump(1_000_000, 0));
        }),
        ("other-vector", "another one", |made| {
            made.frames.push(jump(27, 7));
        }),
        ("reach_words", "registers", |made| {
            made.getpid();
            made.frames.push(reach(3, 1));
        }),
        ("reach_never", "0 times", |made| {
            made.getpid();
            made.frames.push(reach(27, 0));
        }),
        ("reach_for_ever", "times", |made| {
            made.getpid();
            made.frames.push(reach(27, u32::MAX));
        }),
        ("reach_nothing", "left the recording", |made| {
            made.getpid();
            made.frames.push(reach(27, 1));
        }),
        ("reach_of_none", "without having run", |made| {
            made.getpid();
            if let Frame::Reach(of) = reach(27, 1) {
                made.frames.push(Frame::Reach(Reach { tid: 99, ..of }));
            }
            made.getpid();
        }),
        ("counter", "time stamp counter", |made| {
            made.getpid();
            for _ in 0..70 {
                let values = vec![0; 1 << 20];
                made.frames.push(Frame::Tsc { tid: PID, values });
            }
            made.getpid();
        }),
        ("wild-registers", "", |made| {
            made.handler(vec![u64::MAX; 27]);
            made.getpid();
        }),
        ("few-registers", "26 words", |made| {
            made.handler(vec![0; 26]);
            made.getpid();
        }),
        ("32-bit", "32-bit", |made| {
            // Where the program stands when it is put there: int 0x80.
            made.image(|image| image.pages[0].data[..2].copy_from_slice(&[0xcd, 0x80]));
            let mut words = registers(CODE);
            words[17] = 0x23;
            made.handler(words);
            made.getpid();
        }),
        ("single-step", "SIGTRAP", |made| {
            let mut words = registers(CODE);
            words[18] |= 0x100;
            made.handler(words);
            made.getpid();
        }),
        ("far-away", "SIGSEGV", |made| {
            made.handler(registers(0x8000_0000_0000_0000));
            made.getpid();
        }),
    ]);
}

/// A task comes so often to where it has so many registers.
fn reach(words: usize, times: u32) -> Frame {
    Frame::Reach(Reach {
        tid: PID,
        times,
        regs: vec![0; words],
    })
}

/// A jump with so many registers, and so large a vector state.
fn jump(words: usize, vector: usize) -> Frame {
    Frame::Jump(Jump {
        tid: PID,
        regs: vec![0; words],
        vector: vec![0; vector],
        pages: Vec::new(),
        same: vec![(0, u32::MAX), (u64::MAX, u32::MAX)],
    })
}

#[test]
fn absurd_sizes() {
    refused(&[
        ("output", "read", |made| {
            made.call(libc::SYS_write, [1, DATA, 1 << 62, 0, 0, 0], 1 << 62);
            made.getpid();
        }),
        ("populate", "incomplete", |made| {
            let flags = FIXED | (libc::MAP_POPULATE | libc::MAP_LOCKED) as u64;
            let args = [1 << 40, 1 << 31, 3, flags, u64::MAX, 0];
            made.call(libc::SYS_mmap, args, 1 << 40);
            made.getpid();
        }),
        ("share", "incomplete", |made| {
            let flags = (libc::MAP_SHARED | libc::MAP_ANONYMOUS) as u64;
            let args = [0, PAGE, 3, flags, u64::MAX, 0];
            let effect = Effect::Share {
                object: 1,
                file: None,
                size: 1 << 60,
            };
            made.effect(libc::SYS_mmap, args, 1 << 40, effect);
            made.getpid();
        }),
        ("share-more", "shared memory", |made| {
            let flags = (libc::MAP_SHARED | libc::MAP_ANONYMOUS) as u64;
            let args = [0, PAGE, 3, flags, u64::MAX, 0];
            let effect = Effect::Share {
                object: 1,
                file: None,
                size: u64::MAX,
            };
            made.effect(libc::SYS_mmap, args, 1 << 40, effect);
        }),
        ("share-what", "files/4294967295", |made| {
            let args = [0, PAGE, 3, libc::MAP_SHARED as u64, 5, 0];
            let effect = Effect::Share {
                object: 1,
                file: Some(u32::MAX),
                size: PAGE,
            };
            made.effect(libc::SYS_mmap, args, 1 << 40, effect);
        }),
        ("resize", "shared memory", |made| {
            let flags = (libc::MAP_SHARED | libc::MAP_ANONYMOUS) as u64;
            let args = [0, PAGE, 3, flags, u64::MAX, 0];
            let effect = Effect::Share {
                object: 1,
                file: None,
                size: PAGE,
            };
            made.effect(libc::SYS_mmap, args, 1 << 40, effect);
            let another = Effect::Share {
                object: 2,
                file: None,
                size: PAGE,
            };
            made.effect(libc::SYS_mmap, args, 1 << 41, another);
            let (object, size) = (1, u64::MAX);
            made.frames.push(Frame::Resize { object, size });
        }),
        ("objects", "pieces of shared memory", |made| {
            let flags = (libc::MAP_SHARED | libc::MAP_ANONYMOUS) as u64;
            for object in 0..300 {
                let args = [0, PAGE, 3, flags, u64::MAX, 0];
                let effect = Effect::Share {
                    object,
                    file: None,
                    size: PAGE,
                };
                let at = (1 << 40) + i64::from(object) * 0x2000;
                made.effect(libc::SYS_mmap, args, at, effect);
            }
            made.image(|image| {
                image.mappings[0].end = CODE + 0x80 * PAGE;
                image.mappings[1].start = CODE + 0x80 * PAGE;
            });
        }),
    ]);
}

/// The children of a process.
fn children(pid: u32) -> Vec<i32> {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task"));
    let read = |task: std::fs::DirEntry| std::fs::read_to_string(task.path().join("children"));
    let all = tasks.into_iter().flatten().flatten().map(read);
    let all: Vec<String> = all.filter_map(Result::ok).collect();
    let words = all.iter().flat_map(|text| text.split_whitespace());
    words.filter_map(|word| word.parse().ok()).collect()
}

#[test]
fn a_replay_that_never_ends_is_interrupted() {
    let folder = Folder::new();
    let mut made = Made::default();
    made.getpid();
    // jmp to itself.
    made.code.extend_from_slice(&[0xeb, 0xfe]);
    made.getpid();
    made.write(&folder, "rec");
    let files = || std::fs::read_dir(folder.path()).unwrap().count();
    let before = files();
    for signal in ["INT", "TERM", "HUP", "KILL"] {
        let mut child = folder
            .command(RRAPPER)
            .args(["replay", "rec"])
            .stderr(Stdio::null())
            .spawn()
            .expect("the binary starts");
        let mut there = Vec::new();
        eventually("the program runs", || {
            there = children(child.id());
            !there.is_empty()
        });
        // A little way into the loop: nothing tells when it is there.
        std::thread::sleep(std::time::Duration::from_millis(100));
        let sent = Command::new("kill")
            .args([format!("-{signal}"), child.id().to_string()])
            .status();
        assert!(sent.expect("kill").success());
        let begun = Instant::now();
        let status = loop {
            if let Some(status) = child.try_wait().unwrap() {
                break status;
            }
            if begun.elapsed() > LATE {
                child.kill().unwrap();
                child.wait().unwrap();
                panic!("SIG{signal} does not end it");
            }
            std::thread::sleep(std::time::Duration::from_millis(2));
        };
        assert!(status.signal().is_some(), "SIG{signal}: {status:?}");
        eventually("the program goes with it", || {
            there.iter().all(|&pid| !is_alive(pid))
        });
    }
    assert_eq!(files(), before, "nothing is left");
}

#[test]
fn scripts_that_ask_for_what_there_is_not() {
    let folder = Folder::new();
    let mut made = Made::default();
    made.getpid();
    made.born(|_| {});
    made.frames.push(Frame::Gone {
        tid: 78,
        exit: Exit::Code(0),
        left: Vec::new(),
    });
    made.getpid();
    made.write(&folder, "rec");
    let script = r#"
        local rec = rr.open("rec")
        local function fails(...)
            local ok, message = pcall(...)
            assert(not ok and #tostring(message) > 0)
        end
        for _, event in ipairs{ 0, -1, 1e300, 0/0, math.mininteger, math.maxinteger, "x", {} } do
            fails(rr.replay_to, event)
        end
        for _, pid in ipairs{ 0, -1, 5, 780, 1e300, math.maxinteger, { pid = {} } } do
            fails(function() return rr.replay_to(3):spin_off(pid) end)
            pcall(rec.segment, rec, 1, 3, pid)
            fails(rec.segment, rec, pid, pid, pid)
        end
        fails(rec.segment, rec, 3, 1e9)
        rr.replay_to(3)
        print("done")
    "#;
    folder.write("absurd.lua", script);
    let done = limited(&folder, &["absurd.lua"]).ok();
    assert_eq!(done.text(), "done\n");
}

/// A frame of some kind, of some task, with numbers that are likely to matter.
fn any_frame(made: &mut Made, chance: &mut Chance) {
    const NUMBERS: [u64; 10] = [
        0,
        1,
        PAGE,
        CODE,
        DATA,
        AGENT,
        1 << 47,
        1 << 60,
        u64::MAX - 0xfff,
        u64::MAX,
    ];
    const CALLS: [i64; 10] = [
        libc::SYS_getpid,
        libc::SYS_write,
        libc::SYS_mmap,
        libc::SYS_munmap,
        libc::SYS_mprotect,
        libc::SYS_brk,
        libc::SYS_madvise,
        libc::SYS_mremap,
        libc::SYS_shmat,
        libc::SYS_rt_sigreturn,
    ];
    let number = |chance: &mut Chance| NUMBERS[chance.below(NUMBERS.len())];
    let tid = PID + chance.below(3) as i32;
    match chance.below(9) {
        0 => {
            made.code_of(libc::SYS_fork, [0; 6]);
            let flags = [0, libc::CLONE_VM as u64, u64::MAX][chance.below(3)];
            let (child, pid) = (PID + chance.below(4) as i32, PID + chance.below(4) as i32);
            let at = number(chance);
            made.born(|born| {
                (born.tid, born.pid, born.maker, born.flags) = (child, pid, tid, flags);
                (born.stack, born.tls, born.parent_tid, born.child_tid) = (at, at, at, at);
            });
        }
        1 => made.frames.push(Frame::Run { tid }),
        2 => made.frames.push(Frame::Gone {
            tid,
            exit: Exit::Code(0),
            left: vec![chunk(number(chance), 4)],
        }),
        3 => made.frames.push(Frame::Poke {
            tid,
            chunks: vec![chunk(number(chance), chance.below(0x2000))],
        }),
        4 => made.frames.push(Frame::Resize {
            object: chance.below(2) as u32,
            size: number(chance),
        }),
        5 => made.frames.push(Frame::Tsc {
            tid,
            values: vec![number(chance); chance.below(5)],
        }),
        6 => made.handler(registers(number(chance))),
        _ => {
            let args = [0; 6].map(|_: u64| number(chance));
            let effect = match chance.below(3) {
                0 => Effect::Share {
                    object: chance.below(2) as u32,
                    file: None,
                    size: number(chance),
                },
                _ => Effect::None,
            };
            let ret = number(chance) as i64;
            made.effect(CALLS[chance.below(CALLS.len())], args, ret, effect);
        }
    }
}

#[test]
fn frames_in_any_order() {
    let folder = Folder::new();
    let mut chance = Chance(4);
    for n in 0..150 {
        let mut made = Made::default();
        for _ in 0..=chance.below(8) {
            any_frame(&mut made, &mut chance);
        }
        let name = format!("rec{n}");
        made.write(&folder, &name);
        is_sane(&limited(&folder, &["replay", &name]), &name);
        is_sane(&limited(&folder, &["-q", "events", &name]), &name);
    }
}
