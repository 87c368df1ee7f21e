//! i386's calls: numbers, the passing of arguments, and values from the memory of 32-bit programs.

use super::*;
use crate::constants;
use crate::syscall::Kind;

fn call(name: &str) -> &'static Syscall {
    by_name_in(Abi::I386, name).unwrap_or_else(|| panic!("{name}"))
}

/// Words of 32 bits.
fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|w| w.to_le_bytes()).collect()
}

fn fd(fd: i32) -> Value {
    Value::Fd { fd, path: None }
}

#[test]
fn numbers_are_those_of_the_kernel_headers() {
    let path = "/usr/include/x86_64-linux-gnu/asm/unistd_32.h";
    let header = std::fs::read_to_string(path).expect("the headers of libc6-dev");
    let defines = header
        .lines()
        .filter_map(|line| line.strip_prefix("#define __NR_"));
    let known: BTreeMap<u64, &str> = defines
        .map(|rest| {
            let (name, nr) = rest.split_once(' ').unwrap();
            (nr.trim().parse().unwrap(), name)
        })
        .collect();
    assert!(known.len() > 400);
    for (&nr, &name) in &known {
        let found = by_nr_in(Abi::I386, nr);
        assert_eq!(found.map(|c| c.name), Some(name), "{nr}");
        assert_eq!(by_name_in(Abi::I386, name).map(|c| c.nr.into()), Some(nr));
    }
    let newest = *known.keys().last().unwrap();
    let beyond = |nr: &u64| by_nr_in(Abi::I386, *nr).is_some() && !known.contains_key(nr);
    assert_eq!((0..=newest).find(beyond), None);
}

/// Calls that are newer than the oldest headers in these tests; they have the same number on all architectures.
#[test]
fn new_calls_have_the_numbers_of_all_architectures() {
    for nr in (424..=434).chain(435..=467) {
        let (ours, theirs) = (by_nr_in(Abi::I386, nr), by_nr(nr));
        assert_eq!(ours.map(|c| c.name), theirs.map(|c| c.name), "{nr}");
    }
    for (nr, name) in [
        (468, "file_getattr"),
        (469, "file_setattr"),
        (470, "listns"),
    ] {
        assert_eq!(by_nr_in(Abi::I386, nr).map(|c| c.name), Some(name));
    }
}

#[test]
fn names_lead_to_calls_of_the_abi_asked_for() {
    assert_eq!((call("stat64").name, call("stat64").nr), ("stat64", 195));
    assert_eq!(by_name("stat64").map(|c| (c.name, c.nr)), Some(("stat", 4)));
    assert_eq!(call("read").abi, Abi::I386);
    assert_eq!(by_name("read").unwrap().abi, Abi::X86_64);
    for (name, outer) in [
        ("accept", "socketcall"),
        ("send", "socketcall"),
        ("semop", "ipc"),
    ] {
        let inner = call(name);
        assert_eq!((inner.name, inner.nr), (name, call(outer).nr));
    }
    assert_eq!(call("bind").nr, 361);
    assert_eq!(call("old_mmap").name, "mmap");
    assert!(by_name_in(Abi::I386, "arch_prctl").is_some());
    assert!(by_name_in(Abi::I386, "newfstatat").is_none());
    let names: Vec<&str> = names_in(Abi::I386).collect();
    assert!(names.len() > 430 && names.contains(&"_llseek") && !names.contains(&"accept"));
    assert_eq!((Abi::I386.word(), Abi::X86_64.word()), (4, 8));
}

#[test]
fn what_is_described_for_x86_64_is_described_for_i386() {
    for theirs in names().filter_map(by_name).filter(|c| c.described) {
        if let Some(ours) = by_name_in(Abi::I386, theirs.name) {
            let same = (ours.described, ours.moves_data());
            assert_eq!(same, (true, theirs.moves_data()), "{}", theirs.name);
        }
    }
}

#[test]
fn values_of_64_bits_come_in_two_registers() {
    let mem = Pieces::default().with(0x1000, *b"0123456789");
    let args = [3, 0x1000, 10, 0x10, 1, 0];
    let values = call("pwrite64").decode(&args, Some(10), &mem, &mem);
    let expected = [
        fd(3),
        Value::str("0123456789"),
        Value::Int(10),
        Value::Int(0x1_0000_0010),
    ];
    assert_eq!(values, expected);
    assert_eq!(call("pwrite64").compare(&args, &mem, &expected), Ok(()));
    let shown = |name: &str, args| call(name).decode(&args, None, &mem, &mem);
    assert_eq!(
        shown("fadvise64_64", [3, 0, 1, 0, 2, 4]),
        [
            fd(3),
            Value::Int(1 << 32),
            Value::Int(2 << 32),
            sym("POSIX_FADV_DONTNEED")
        ]
    );
    assert_eq!(
        shown("sync_file_range", [0, 1, 2, 3, 4, 1])[1..3],
        [Value::Int(0x2_0000_0001), Value::Int(0x4_0000_0003)]
    );
    assert_eq!(
        shown("lookup_dcookie", [1, 2, 0, 4, 0, 0])[0],
        Value::Int(0x2_0000_0001)
    );
    assert_eq!(
        shown("ftruncate64", [3, 5, 0, 0, 0, 0]),
        [fd(3), Value::Int(5)]
    );
    assert_eq!(
        shown("pread64", [3, 0x1000, 4, 0xffff_ffff, 0xffff_ffff, 0])[3],
        Value::Int(-1)
    );
    let fanotify = call("fanotify_mark");
    let args = [3, 1, 0x20, 0x4000_0000, 0xffff_ff9c, 0x1000];
    assert_eq!(fanotify.values(&args, &mem)[2], 0x4000_0000_0000_0020);
    let mem = mem.with(0x1000, *b"/x\0");
    assert_eq!(lens(&fanotify.inputs(&args, &mem)), [(4, 0x1000, 3)]);
    // The upper half is first here, and the result is behind a pointer.
    let llseek = call("_llseek");
    let args = [3, 1, 7, 0x2000, 1, 0];
    let after = Pieces::default().with(0x2000, words(&[9, 1]));
    let expected = [
        fd(3),
        Value::Int(0x1_0000_0007),
        arr(vec![Value::Int(0x1_0000_0009)]),
        sym("SEEK_CUR"),
    ];
    assert_eq!(llseek.decode(&args, Some(0), &mem, &after), expected);
    assert_eq!(
        llseek.encode_outputs(&args, &expected, 0, &mem).unwrap(),
        [(0x2000, words(&[9, 1]))]
    );
}

#[test]
fn mmap_has_its_arguments_in_memory_and_mmap2_an_offset_in_pages() {
    let mem = Pieces::default().with(0x1000, words(&[0, 8192, 3, 2, 5, 0x3000]));
    let expected = [
        Value::Addr(0),
        Value::Int(8192),
        sym("PROT_READ|PROT_WRITE"),
        sym("MAP_PRIVATE"),
        fd(5),
        Value::Addr(0x3000),
    ];
    let args = [0x1000, 77, 78, 79, 80, 81];
    assert_eq!(call("mmap").decode(&args, None, &mem, &mem), expected);
    let args = [0, 8192, 3, 2, 5, 3];
    assert_eq!(call("mmap2").decode(&args, None, &mem, &mem), expected);
    let far = [0, 8192, 3, 2, 5, 0x8000_0000];
    let offset = call("mmap2").decode(&far, None, &mem, &mem)[5].clone();
    assert_eq!(offset, Value::Addr(0x800_0000_0000));
    assert_eq!(call("mmap2").compare(&args, &mem, &expected), Ok(()));
    assert_eq!(
        call("mmap2").decode_ret(-134_344_704),
        Value::Addr(0xf7fe_1000)
    );
}

#[test]
fn socketcall_is_the_call_that_it_makes() {
    let address = [2u8, 0, 0, 80, 127, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0];
    let mem = Pieces::default()
        .with(0x1000, words(&[3, 0x2000, 16]))
        .with(0x2000, address);
    let args = [2, 0x1000, 0, 0, 0, 0];
    let socketcall = call("socketcall");
    let bind = socketcall.resolve(&args);
    assert_eq!((bind.name, bind.nr, bind.described), ("bind", 102, true));
    assert_eq!(bind.values(&args, &mem), [3, 0x2000, 16, 0, 0, 0]);
    let expected = [
        fd(3),
        st(&[
            ("sa_family", sym("AF_INET")),
            ("sin_port", sym("htons(80)")),
            ("sin_addr", sym("inet_addr(\"127.0.0.1\")")),
        ]),
        Value::Int(16),
    ];
    assert_eq!(bind.decode(&args, None, &mem, &mem), expected);
    assert_eq!(bind.compare(&args, &mem, &expected), Ok(()));
    assert_eq!(lens(&bind.inputs(&args, &mem)), [(1, 0x2000, 16)]);

    // setsockopt has variants of its own, which only memory selects.
    let mem = Pieces::default()
        .with(0x1000, words(&[3, 1, 13, 0x2000, 8]))
        .with(0x2000, words(&[1, 5]));
    let args = [14, 0x1000, 0, 0, 0, 0];
    let values = socketcall
        .resolve_in(&args, &mem)
        .decode(&args, None, &mem, &mem);
    let linger = st(&[("l_onoff", Value::Int(1)), ("l_linger", Value::Int(5))]);
    assert_eq!((&values[2], &values[3]), (&sym("SO_LINGER"), &linger));
    assert_eq!(socketcall.resolve(&args).name, "setsockopt");

    let mem = Pieces::default().with(0x1000, words(&[3, 0x2000, 100, 0]));
    let recv = socketcall.resolve(&[10, 0x1000, 0, 0, 0, 0]);
    let args = [10, 0x1000, 0, 0, 0, 0];
    assert_eq!(recv.name, "recv");
    assert_eq!(lens(&recv.outputs(&args, 7, &mem, &mem)), [(1, 0x2000, 7)]);
    assert_eq!(lens(&recv.data_regions(&args, 7, &mem)), [(1, 0x2000, 7)]);
    assert!(!socketcall.resolve(&[99, 0, 0, 0, 0, 0]).described);
}

#[test]
fn ipc_is_the_call_that_it_makes() {
    let mem = Pieces::default()
        .with(0x1000, words(&[0x3000, 9]))
        .with(0x2000, [1u8, 0, 255, 255, 0, 16]);
    let ipc = call("ipc");
    let resolved = |args: &[u64; 6]| (ipc.resolve(args).name, ipc.resolve(args).values(args, &mem));
    let semop = [1, 7, 1, 0, 0x2000, 0];
    assert_eq!(resolved(&semop).0, "semop");
    assert_eq!(resolved(&semop).1[..3], [7, 0x2000, 1]);
    let values = ipc.resolve(&semop).decode(&semop, None, &mem, &mem);
    assert_eq!(values.len(), 3);
    // The first version of msgrcv has its buffer and type in memory, later versions have them in registers.
    let (name, values) = resolved(&[12, 7, 64, 0o4000, 0x1000, 0]);
    assert_eq!(
        (name, values[..5].to_vec()),
        ("msgrcv", vec![7, 0x3000, 64, 9, 0o4000])
    );
    let (name, values) = resolved(&[0x1000c, 7, 64, 0o4000, 0x3000, 9]);
    assert_eq!(
        (name, values[..5].to_vec()),
        ("msgrcv", vec![7, 0x3000, 64, 9, 0o4000])
    );
    // semctl's union is in memory behind ptr.
    let (name, values) = resolved(&[3, 7, 1, 16, 0x1000, 0]);
    assert_eq!(
        (name, values[..4].to_vec()),
        ("semctl", vec![7, 1, 16, 0x3000])
    );
    assert_eq!(resolved(&[24, 7, 2, 0, 0x3000, 0]).1[..3], [7, 2, 0x3000]);
}

#[test]
fn vectors_messages_and_strings_have_pointers_of_four_bytes() {
    let mem = Pieces::default()
        .with(0x2000, words(&[0x3000, 4, 0x4000, 5]))
        .with(0x3000, *b"abcd")
        .with(0x4000, *b"efghi");
    let args = [3, 0x2000, 2, 0, 0, 0];
    assert_eq!(
        lens(&call("writev").inputs(&args, &mem)),
        [(1, 0x2000, 16), (1, 0x3000, 4), (1, 0x4000, 5)]
    );
    assert_eq!(
        lens(&call("readv").outputs(&args, 6, &mem, &mem)),
        [(1, 0x3000, 4), (1, 0x4000, 2)]
    );
    let mem = Pieces::default()
        .with(0x100, *b"/bin/ls\0")
        .with(0x200, words(&[0x300, 0x310, 0]))
        .with(0x300, *b"ls\0")
        .with(0x310, *b"-l\0")
        .with(0x400, words(&[0]));
    let args = [0x100, 0x200, 0x400, 0, 0, 0];
    let values = call("execve").decode(&args, None, &mem, &mem);
    assert_eq!(values[1], arr(vec![Value::str("ls"), Value::str("-l")]));
    assert_eq!(lens(&call("execve").inputs(&args, &mem))[1], (1, 0x200, 12));

    let entry = Pieces::default()
        .with(0x1000, words(&[0, 0, 0x2000, 1, 0x3000, 64, 0]))
        .with(0x2000, words(&[0x4000, 100]));
    let message = st(&[
        ("msg_name", Value::Addr(0)),
        ("msg_namelen", Value::Int(0)),
        (
            "msg_iov",
            arr(vec![st(&[
                ("iov_base", Value::str("hello")),
                ("iov_len", Value::Int(100)),
            ])]),
        ),
        ("msg_iovlen", Value::Int(1)),
        (
            "msg_control",
            arr(vec![st(&[
                ("cmsg_len", Value::Int(16)),
                ("cmsg_level", sym("SOL_SOCKET")),
                ("cmsg_type", sym("SCM_RIGHTS")),
                ("cmsg_data", arr(vec![fd(5)])),
            ])]),
        ),
        ("msg_controllen", Value::Int(16)),
        ("msg_flags", Value::Int(0)),
    ]);
    let values = [fd(3), message, Value::Int(0)];
    let args = [3, 0x1000, 0, 0, 0, 0];
    let recvmsg = call("recvmsg");
    let writes = recvmsg.encode_outputs(&args, &values, 5, &entry).unwrap();
    let exit = entry.clone().apply(&writes);
    assert_eq!(recvmsg.decode(&args, Some(5), &entry, &exit), values);
    let mut outputs = lens(&recvmsg.outputs(&args, 5, &entry, &exit));
    outputs.sort_unstable();
    assert_eq!(outputs, [(1, 0x1014, 8), (1, 0x3000, 16), (1, 0x4000, 5)]);
}

#[test]
fn directory_entries_have_numbers_of_four_bytes() {
    let entry = |name: &str, len| {
        st(&[
            ("d_ino", Value::Int(5)),
            ("d_off", Value::Int(77)),
            ("d_reclen", Value::Int(len)),
            ("d_name", Value::str(name)),
            ("d_type", sym("DT_DIR")),
        ])
    };
    let values = [
        fd(3),
        arr(vec![entry(".", 16), entry("changelog", 24)]),
        Value::Int(1000),
    ];
    let args = [3, 0x1000, 1000, 0, 0, 0];
    let (getdents, empty) = (call("getdents"), Pieces::default());
    let writes = getdents.encode_outputs(&args, &values, 40, &empty).unwrap();
    let exit = empty.clone().apply(&writes);
    assert_eq!(getdents.decode(&args, Some(40), &empty, &exit), values);
    assert_eq!(writes[0].1[8..12], [16, 0, b'.', 0]);
}

#[test]
fn locks_times_and_masks_have_the_size_of_their_call() {
    let mem = Pieces::default();
    let written = |name: &str, args: [u64; 6]| {
        let call = call(name).resolve(&args);
        lens(&call.outputs(&args, 0, &mem, &mem))
    };
    let at = |size| vec![(1, 0x1000, size)];
    assert_eq!(written("clock_gettime", [0, 0x1000, 0, 0, 0, 0]), at(8));
    assert_eq!(written("clock_gettime64", [0, 0x1000, 0, 0, 0, 0]), at(16));
    assert_eq!(written("fstat", [0, 0x1000, 0, 0, 0, 0]), at(64));
    assert_eq!(written("fstat64", [0, 0x1000, 0, 0, 0, 0]), at(96));
    assert_eq!(written("oldfstat", [0, 0x1000, 0, 0, 0, 0]), at(32));
    assert_eq!(written("ugetrlimit", [0, 0x1000, 0, 0, 0, 0]), at(8));
    let limits = written("prlimit64", [0, 3, 0, 0x1000, 0, 0]);
    assert_eq!(limits, [(3, 0x1000, 16)]);
    let get = |name, cmd| written(name, [3, cmd, 0x1000, 0, 0, 0]);
    assert_eq!(get("fcntl", 5), [(2, 0x1000, 16)]);
    assert_eq!(get("fcntl64", 5), [(2, 0x1000, 16)]);
    assert_eq!(get("fcntl64", 12), [(2, 0x1000, 24)]);
    assert_eq!(get("fcntl64", 36), [(2, 0x1000, 24)]);
    assert_eq!(get("fcntl64", 1035), [(2, 0x1000, 8)]);
    let select = [33, 0x1000, 0, 0, 0, 0];
    assert_eq!(written("_newselect", select), [(1, 0x1000, 8)]);
    assert_eq!(
        written("sigpending", [0x1000, 0, 0, 0, 0, 0]),
        [(0, 0x1000, 4)]
    );
    assert_eq!(
        call("sigsuspend").decode(&[0, 0, 0b101, 0, 0, 0], None, &mem, &mem),
        [Value::Set {
            negated: false,
            items: vec!["HUP".into(), "QUIT".into()]
        }]
    );
    let old = Pieces::default().with(0x1000, words(&[0x804_8000, 0b10, 0x1000_0000, 0]));
    let values = call("sigaction").decode(&[2, 0x1000, 0, 0, 0, 0], None, &old, &old);
    assert_eq!(values[1].field("sa_flags"), Some(&sym("SA_RESTART")));
    assert_eq!(
        call("setuid").decode(&[0xffff, 0, 0, 0, 0, 0], None, &mem, &mem),
        [Value::Int(-1)]
    );
    let limit = Pieces::default().with(0x1000, words(&[8 << 20, u32::MAX]));
    let values = call("ugetrlimit").decode(&[3, 0x1000, 0, 0, 0, 0], Some(0), &limit, &limit);
    assert_eq!(values[1].field("rlim_max"), Some(&sym("RLIM_INFINITY")));
}

#[test]
fn old_select_has_its_arguments_in_memory() {
    let mem = Pieces::default()
        .with(0x1000, words(&[4, 0x2000, 0, 0, 0x3000]))
        .with(0x2000, words(&[0b1000]))
        .with(0x3000, words(&[1, 500]));
    let args = [0x1000, 0, 0, 0, 0, 0];
    let select = call("select");
    let values = select.decode(&args, None, &mem, &mem);
    assert_eq!(values[0], Value::Int(4));
    assert_eq!(values[4].field("tv_usec"), Some(&Value::Int(500)));
    let notes = select.notes(&args, 1, &mem, &mem);
    assert_eq!(notes.len(), 2);
}

#[test]
fn requests_are_named_by_their_number_on_i386() {
    let mem = Pieces::default();
    let shown =
        |request| call("ioctl").decode(&[3, request, 0, 0, 0, 0], None, &mem, &mem)[1].clone();
    assert!(matches!(shown(0x8004_6601), Value::Sym { text, .. } if text == "FS_IOC32_GETFLAGS"));
    assert!(matches!(shown(0x8004_1272), Value::Sym { text, .. } if text == "BLKGETSIZE64"));
    assert!(matches!(shown(0x5401), Value::Sym { text, .. } if text == "TCGETS"));
    let args = [3, 0x8004_1272, 0x1000, 0, 0, 0];
    let blkgetsize = call("ioctl").resolve(&args);
    assert_eq!(
        lens(&blkgetsize.outputs(&args, 0, &mem, &mem)),
        [(2, 0x1000, 8)]
    );
    // The name has another number on x86-64.
    let expected = [fd(3), sym("BLKGETSIZE64"), Value::Addr(0x1000)];
    assert_eq!(blkgetsize.compare(&args, &mem, &expected), Ok(()));
    let generic = [3, 0x8020_9999, 0x1000, 0, 0, 0];
    let call = call("ioctl").resolve(&generic);
    assert_eq!(call.abi, Abi::I386);
    assert_eq!(
        lens(&call.outputs(&generic, 0, &mem, &mem)),
        [(2, 0x1000, 32)]
    );
}

#[test]
fn what_only_i386_has_has_a_value() {
    assert_eq!(constants::value("F_SETLK64"), Some(13));
    assert_eq!(constants::value("SYS_BIND"), Some(2));
    let mem = Pieces::default();
    let values = call("fcntl64").decode(&[3, 13, 0, 0, 0, 0], None, &mem, &mem);
    assert_eq!(values[1], sym("F_SETLK64"));
}

/// Arguments that point to a number as large as a word, in descriptions that i386 shares with x86-64: the call, the
/// command of the variant, the argument. Each was checked: the kernel has a long there, a pointer, or a size, and not
/// 64 bits. New ones must be checked, too; if they have 64 bits, `i386.tbl` must say so.
const WORDS_POINTED_TO: &[&str] = &[
    "time tloc",
    "sendfile offset",
    "get_robust_list head_ptr",
    "get_robust_list len_ptr",
    "ioctl 0x1260 argp",
    "ioctl 0x1263 argp",
    "ioctl 0x1265 argp",
    "ioctl 0x302 argp",
    "ioctl 0x304 argp",
    "ioctl 0x308 argp",
    "ioctl 0x309 argp",
    "ioctl 0x30a argp",
    "ioctl 0x30b argp",
    "ioctl 0x30c argp",
    "ioctl 0x30e argp",
    "ioctl 0x30f argp",
    "ioctl 0x310 argp",
    "ioctl 0x705 argp",
    "mbind nodemask",
    "get_mempolicy nodemask",
    "set_mempolicy nodemask",
    "migrate_pages old_nodes",
    "migrate_pages new_nodes",
    "move_pages pages",
    "ptrace 0x1 data",
    "ptrace 0x2 data",
    "ptrace 0x3 data",
    "ptrace 0x4201 data",
    "prctl 0x28 addr",
    "prctl 0x4a arg2",
    "arch_prctl 0x1003 addr",
    "arch_prctl 0x1004 addr",
    // Only 64-bit programs can make these requests.
    "arch_prctl 0x4001 addr",
    "arch_prctl 0x4003 addr",
    "arch_prctl 0x5005 addr",
];

/// A call with its variants that can be selected, once for each command; the command follows the call's name.
fn reachable<'a>(name: String, call: &'a Syscall, found: &mut Vec<(String, &'a Syscall)>) {
    let mut seen = Vec::new();
    for (values, variant) in call.variants() {
        for value in values.iter().filter(|v| !seen.contains(*v)) {
            reachable(format!("{name} {value:#x}"), variant, found);
        }
        seen.extend(values);
    }
    found.push((name, call));
}

#[test]
fn numbers_of_64_bits_are_no_words_on_i386() {
    let mut unknown = Vec::new();
    for call in names_in(Abi::I386).filter_map(|name| by_name_in(Abi::I386, name)) {
        let mut variants = Vec::new();
        reachable(call.name.to_owned(), call, &mut variants);
        let mut theirs = Vec::new();
        if let Some(call) = by_name(call.name) {
            reachable(call.name.to_owned(), call, &mut theirs);
        }
        for (name, variant) in &variants {
            let wide = |arg: &&Arg| {
                let same = theirs.iter().filter(|(theirs, _)| theirs == name);
                let mut args = same.flat_map(|(_, call)| &call.args);
                args.any(|a| a.name == arg.name && pointee_size(&a.kind) == Some(8))
            };
            let words = variant.args.iter();
            let words = words.filter(|arg| pointee_size(&arg.kind) == Some(4));
            unknown.extend(words.filter(wide).map(|arg| format!("{name} {}", arg.name)));
        }
    }
    unknown.retain(|name| !WORDS_POINTED_TO.contains(&name.as_str()));
    assert_eq!(unknown, [] as [String; 0]);
}

/// The size of the number to which a kind points, or of each number.
fn pointee_size(kind: &Kind) -> Option<usize> {
    match kind {
        Kind::Ptr(_, to) | Kind::Array(to, _) => match &**to {
            Kind::Num(num) => Some(num.size),
            array @ Kind::Array(..) => pointee_size(array),
            _ => None,
        },
        _ => None,
    }
}

proptest::proptest! {
    #![proptest_config(cases(256))]

    #[test]
    fn any_arguments_are_survived(
        nr in 0u64..472,
        args in proptest::array::uniform6(proptest::prop_oneof![
            proptest::prelude::any::<u64>(), 0u64..0x3000, proptest::prelude::Just(0x1000u64)
        ]),
        ret in proptest::prop_oneof![proptest::prelude::any::<i64>(), -600i64..600],
        bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..600),
    ) {
        let mem = Pieces::default().with(0x1000, bytes);
        if let Some(call) = by_nr_in(Abi::I386, nr) {
            let call = call.resolve_in(&args, &mem);
            call.inputs(&args, &mem);
            let outputs = call.outputs(&args, ret, &mem, &mem);
            proptest::prop_assert!(outputs.iter().all(|r| r.len <= 1 << 30));
            call.data_regions(&args, ret as u64, &mem);
            let values = call.decode(&args, Some(ret), &mem, &mem);
            let _ = call.encode_outputs(&args, &values, ret, &mem);
            let before = call.decode(&args, None, &mem, &mem);
            proptest::prop_assert_eq!(call.compare(&args, &mem, &before), Ok(()));
        }
    }
}
