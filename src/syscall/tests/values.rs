//! Values from memory and back.

use super::*;

#[test]
fn openat_is_decoded_as_strace_writes_it() {
    let mem = Pieces::default().with(0x1000, *b"/etc/ld.so.cache\0");
    let args = [0xffff_ff9c, 0x1000, 0x80000, 0o644, 0, 0];
    let values = call("openat").decode(&args, Some(3), &mem, &mem);
    let expected = vec![
        sym("AT_FDCWD"),
        Value::str(*b"/etc/ld.so.cache"),
        sym("O_RDONLY|O_CLOEXEC"),
    ];
    assert_eq!(values, expected);
    let args = [0xffff_ff9c, 0x1000, 0x41, 0o644, 0, 0];
    let values = call("openat").decode(&args, None, &mem, &mem);
    assert_eq!(values[3], Value::Octal(0o644));
    assert_eq!(lens(&call("openat").inputs(&args, &mem)), [(1, 0x1000, 17)]);
    assert_eq!(call("openat").path_args(), [1]);
    assert!(call("openat").returns_fd());
}

#[test]
fn mmap_and_rt_sigaction_are_decoded() {
    let mem = Pieces::default().with(0x2000, words(&[0, 0x14000000, 0x7f00, 0b10]));
    let values = call("mmap").decode(&[0, 8192, 3, 0x22, u64::MAX, 0], None, &mem, &mem);
    assert_eq!(values[0], Value::Addr(0));
    assert_eq!(values[3], sym("MAP_PRIVATE|MAP_ANONYMOUS"));
    assert_eq!(values[4], Value::Fd { fd: -1, path: None });
    assert_eq!(values[5], Value::Int(0));
    let values = call("rt_sigaction").decode(&[2, 0x2000, 0, 8, 0, 0], Some(0), &mem, &mem);
    assert_eq!(values[0], sym("SIGINT"));
    let expected = st(&[
        ("sa_handler", sym("SIG_DFL")),
        (
            "sa_mask",
            Value::Set {
                negated: false,
                items: vec!["INT".into()],
            },
        ),
        ("sa_flags", sym("SA_RESTORER|SA_RESTART")),
        ("sa_restorer", Value::Addr(0x7f00)),
    ]);
    assert_eq!(values[1], expected);
}

fn round_trip(name: &str, args: [u64; 6], values: &[Value], ret: i64, entry: Pieces) -> Vec<Value> {
    let call = call(name).resolve(&args);
    let writes = call.encode_outputs(&args, values, ret, &entry).unwrap();
    let exit = entry.clone().apply(&writes);
    call.decode(&args, Some(ret), &entry, &exit)
}

#[test]
fn stat_survives_encoding() {
    let stat = st(&[
        ("st_dev", sym("makedev(0x8, 0x1)")),
        ("st_ino", Value::Int(77)),
        ("st_mode", sym("S_IFREG|0644")),
        ("st_nlink", Value::Int(1)),
        ("st_uid", Value::Int(1000)),
        ("st_gid", Value::Int(0)),
        ("st_blksize", Value::Int(4096)),
        ("st_blocks", Value::Int(8)),
        ("st_size", Value::Int(2845)),
        ("st_atime", Value::Int(1524000000)),
        ("st_atime_nsec", Value::Int(5)),
        ("st_mtime", Value::Int(1)),
        ("st_mtime_nsec", Value::Int(0)),
        ("st_ctime", Value::Int(-1)),
        ("st_ctime_nsec", Value::Int(0)),
    ]);
    let entry = Pieces::default();
    let fd = Value::Fd { fd: 3, path: None };
    let values = [fd, stat];
    assert_eq!(
        round_trip("fstat", [3, 0x1000, 0, 0, 0, 0], &values, 0, entry),
        values
    );
}

#[test]
fn statx_dirents_addresses_and_times_survive_encoding() {
    let time = |s| st(&[("tv_sec", Value::Int(s)), ("tv_nsec", Value::Int(0))]);
    let statx = st(&[
        ("stx_mask", sym("STATX_BASIC_STATS|STATX_MNT_ID")),
        ("stx_mode", sym("S_IFCHR|0666")),
        ("stx_size", Value::Int(9)),
        ("stx_mtime", time(7)),
        ("stx_mnt_id", Value::Addr(0x1b)),
    ]);
    let path = Pieces::default().with(0x900, *b"/x\0");
    let values = [
        sym("AT_FDCWD"),
        Value::str(*b"/x"),
        sym("AT_SYMLINK_NOFOLLOW"),
        sym("STATX_ALL"),
        statx.clone(),
    ];
    let args = [-100i64 as u64, 0x900, 0x100, 0xfff, 0x1000, 0];
    let back = round_trip("statx", args, &values, 0, path.clone());
    for name in [
        "stx_mask",
        "stx_mode",
        "stx_size",
        "stx_mtime",
        "stx_mnt_id",
    ] {
        assert_eq!(back[4].field(name), statx.field(name), "{name}");
    }

    let entry = |name: &str, len| {
        st(&[
            ("d_ino", Value::Int(5)),
            ("d_off", Value::Int(1 << 60)),
            ("d_reclen", Value::Int(len)),
            ("d_type", sym("DT_REG")),
            ("d_name", Value::str(name)),
        ])
    };
    let values = [
        Value::Fd { fd: 3, path: None },
        arr(vec![entry("a", 24), entry("changelog.gz", 32)]),
        Value::Int(32768),
    ];
    let args = [3, 0x1000, 32768, 0, 0, 0];
    assert_eq!(
        round_trip("getdents64", args, &values, 56, Pieces::default()),
        values
    );

    let address = st(&[
        ("sa_family", sym("AF_INET")),
        ("sin_port", sym("htons(50097)")),
        ("sin_addr", sym("inet_addr(\"127.0.0.1\")")),
    ]);
    let values = [
        Value::Fd { fd: 3, path: None },
        address,
        arr(vec![Value::Change {
            before: Box::new(Value::Int(128)),
            after: Box::new(Value::Int(16)),
        }]),
    ];
    let entry = Pieces::default().with(0x500, 128u32.to_le_bytes());
    assert_eq!(
        round_trip("accept", [3, 0x1000, 0x500, 0, 0, 0], &values, 4, entry),
        values
    );

    let values = [sym("CLOCK_MONOTONIC"), time(12)];
    let args = [1, 0x1000, 0, 0, 0, 0];
    assert_eq!(
        round_trip("clock_gettime", args, &values, 0, Pieces::default()),
        values
    );
}

#[test]
fn addresses_of_other_families_survive() {
    let cases = [
        st(&[
            ("sa_family", sym("AF_UNIX")),
            ("sun_path", Value::str("/run/x")),
        ]),
        st(&[
            ("sa_family", sym("AF_UNIX")),
            ("sun_path", Value::str(*b"\0a\x01b")),
        ]),
        st(&[
            ("sa_family", sym("AF_INET6")),
            ("sin6_port", sym("htons(53)")),
            ("sin6_flowinfo", sym("htonl(0)")),
            ("", sym("inet_pton(AF_INET6, \"::1\", &sin6_addr)")),
            ("sin6_scope_id", Value::Int(0)),
        ]),
        st(&[
            ("sa_family", sym("AF_NETLINK")),
            ("nl_pid", Value::Int(6542)),
            ("nl_groups", sym("00000000")),
        ]),
    ];
    for case in cases {
        assert_eq!(sockaddr::decode(&sockaddr::encode(&case).unwrap()), case);
    }
}

#[test]
fn wait_status_ioctl_and_messages_survive() {
    let status = |text: &str, value| {
        arr(vec![Value::Sym {
            text: text.into(),
            value: Some(value),
        }])
    };
    for (text, value) in [
        ("{WIFEXITED(s) && WEXITSTATUS(s) == 3}", 0x300),
        (
            "{WIFSIGNALED(s) && WTERMSIG(s) == SIGSEGV && WCOREDUMP(s)}",
            0x8b,
        ),
        ("{WIFSTOPPED(s) && WSTOPSIG(s) == SIGSTOP}", 0x137f),
    ] {
        let values = [
            Value::Int(5),
            status(text, value),
            Value::Int(0),
            Value::Addr(0),
        ];
        let args = [5, 0x1000, 0, 0, 0, 0];
        assert_eq!(
            round_trip("wait4", args, &values, 5, Pieces::default()),
            values
        );
    }

    let values = [
        Value::Fd { fd: 1, path: None },
        sym("TIOCGWINSZ"),
        st(&[
            ("ws_row", Value::Int(24)),
            ("ws_col", Value::Int(80)),
            ("ws_xpixel", Value::Int(0)),
            ("ws_ypixel", Value::Int(0)),
        ]),
    ];
    let args = [1, 0x5413, 0x1000, 0, 0, 0];
    assert_eq!(
        round_trip("ioctl", args, &values, 0, Pieces::default()),
        values
    );

    let header = words(&[0, 0, 0x2000, 1, 0x3000, 64, 0]);
    let entry = Pieces::default()
        .with(0x1000, header)
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
                ("cmsg_len", Value::Int(20)),
                ("cmsg_level", sym("SOL_SOCKET")),
                ("cmsg_type", sym("SCM_RIGHTS")),
                ("cmsg_data", arr(vec![Value::Fd { fd: 5, path: None }])),
            ])]),
        ),
        ("msg_controllen", Value::Int(20)),
        ("msg_flags", Value::Int(0)),
    ]);
    let values = [Value::Fd { fd: 3, path: None }, message, Value::Int(0)];
    let args = [3, 0x1000, 0, 0, 0, 0];
    assert_eq!(round_trip("recvmsg", args, &values, 5, entry), values);
}

#[test]
fn poll_answers_by_descriptor() {
    let mut bytes = vec![3, 0, 0, 0, 1, 0, 0, 0];
    bytes.extend([4, 0, 0, 0, 4, 0, 0, 0]);
    let entry = Pieces::default().with(0x1000, bytes);
    let fd = |fd| Value::Fd { fd, path: None };
    let asked = arr(vec![
        st(&[("fd", fd(3)), ("events", sym("POLLIN"))]),
        st(&[("fd", fd(4)), ("events", sym("POLLOUT"))]),
    ]);
    let ready = arr(vec![st(&[("fd", fd(4)), ("revents", sym("POLLOUT"))])]);
    let observed = [asked, Value::Int(2), Value::Int(-1)];
    let notes = [Field {
        name: String::new(),
        value: ready,
    }];
    let poll = call("poll");
    let args = [0x1000, 2, u64::from(u32::MAX), 0, 0, 0];
    let values = poll.with_notes(&observed, &notes);
    let writes = poll.encode_outputs(&args, &values, 1, &entry).unwrap();
    let exit = entry.clone().apply(&writes);
    assert_eq!(poll.decode(&args, Some(1), &entry, &exit), observed);
    assert_eq!(poll.notes(&args, 1, &entry, &exit), notes);
}

#[test]
fn select_answers_by_set() {
    let entry = Pieces::default()
        .with(0x1000, words(&[0b11000]))
        .with(0x2000, words(&[0b100000]))
        .with(0x3000, words(&[1, 0]));
    let select = call("select");
    let args = [6, 0x1000, 0x2000, 0, 0x3000, 0];
    let observed = select.decode(&args, Some(1), &entry, &entry);
    let note = |name: &str, value| Field {
        name: name.into(),
        value,
    };
    let left = st(&[("tv_sec", Value::Int(0)), ("tv_usec", Value::Int(7))]);
    let notes = [
        note("in", arr(vec![Value::Int(4)])),
        note("left", left.clone()),
    ];
    let values = select.with_notes(&observed, &notes);
    let writes = select.encode_outputs(&args, &values, 1, &entry).unwrap();
    let exit = entry.clone().apply(&writes);
    let set = Value::Set {
        negated: false,
        items: vec!["4".into()],
    };
    assert_eq!(
        select.notes(&args, 1, &entry, &exit),
        [note("in", set), note("left", left)]
    );
    let writes = select.encode_outputs(&args, &observed, 0, &entry).unwrap();
    assert_eq!(writes[..2], [(0x1000, vec![0; 8]), (0x2000, vec![0; 8])]);
}

#[test]
fn encoding_never_writes_more_than_there_is_room() {
    let mem = Pieces::default();
    let values = [
        Value::Fd { fd: 3, path: None },
        Value::str(vec![b'x'; 100]),
        Value::Int(100),
    ];
    let args = [3, 0x1000, 10, 0, 0, 0];
    let writes = call("read")
        .encode_outputs(&args, &values, 100, &mem)
        .unwrap();
    assert_eq!(writes, [(0x1000, vec![b'x'; 10])]);
    let cut = Value::Str {
        bytes: b"abc".to_vec(),
        cut: true,
    };
    let values = [Value::Fd { fd: 3, path: None }, cut, Value::Int(100)];
    let error = call("read")
        .encode_outputs(&args, &values, 8, &mem)
        .unwrap_err();
    assert!(
        matches!(
            error,
            EncodeError::Cut {
                have: 3,
                need: 8,
                ..
            }
        ),
        "{error}"
    );
    let values = [Value::Int(3), Value::Addr(0x77), Value::Int(100)];
    assert!(
        call("read")
            .encode_outputs(&args, &values, 8, &mem)
            .is_err()
    );
    assert!(
        call("read")
            .encode_outputs(&args, &values, -5, &mem)
            .unwrap()
            .is_empty()
    );
}

proptest::proptest! {
    #![proptest_config(cases(256))]

    /// Recordings and traces are untrusted input: no panic, and no allocation without a bound.
    #[test]
    fn any_arguments_are_survived(
        nr in 0u64..480,
        args in proptest::array::uniform6(proptest::prop_oneof![
            proptest::prelude::any::<u64>(), 0u64..0x3000, proptest::prelude::Just(0x1000u64)
        ]),
        ret in proptest::prop_oneof![proptest::prelude::any::<i64>(), -600i64..600],
        bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..600),
    ) {
        let mem = Pieces::default().with(0x1000, bytes);
        if let Some(call) = by_nr(nr) {
            let call = call.resolve(&args);
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
