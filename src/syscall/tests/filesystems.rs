//! Calls about mounts, quotas, security modules and attributes, as strace writes them, and back.

use super::*;
use crate::constants;

fn int(n: i64) -> Value {
    Value::Int(n)
}

fn fd(fd: i32) -> Value {
    Value::Fd { fd, path: None }
}

/// The bytes of numbers, each with its size.
fn packed(parts: &[(u64, usize)]) -> Vec<u8> {
    let bytes = parts
        .iter()
        .flat_map(|(n, size)| n.to_le_bytes()[..*size].to_vec());
    bytes.collect()
}

fn decode(name: &str, args: [u64; 6], ret: i64, mem: &Pieces) -> Vec<Value> {
    call(name).resolve(&args).decode(&args, Some(ret), mem, mem)
}

fn encoded(name: &str, args: [u64; 6], values: &[Value], ret: i64, entry: &Pieces) -> Pieces {
    let writes = call(name)
        .resolve(&args)
        .encode_outputs(&args, values, ret, entry);
    entry.clone().apply(&writes.unwrap())
}

fn flag(name: &str) -> u64 {
    constants::eval(name).unwrap() as u64
}

#[test]
fn mount_reads_type_and_data_only_where_they_mean_something() {
    let mem = Pieces::default()
        .with(0x100, *b"none\0")
        .with(0x200, *b"/mnt\0")
        .with(0x300, *b"tmpfs\0")
        .with(0x400, *b"size=1m\0");
    let mount = |flags: &str| {
        decode(
            "mount",
            [0x100, 0x200, 0x300, flag(flags), 0x400, 0],
            0,
            &mem,
        )
    };
    let text = |text: &str| Value::str(text);
    let (kind, data) = (Value::Addr(0x300), Value::Addr(0x400));
    assert_eq!(
        mount("MS_NOSUID|MS_NODEV")[2..],
        [text("tmpfs"), sym("MS_NOSUID|MS_NODEV"), text("size=1m")]
    );
    assert_eq!(
        mount("MS_REMOUNT|MS_BIND")[2..],
        [kind.clone(), sym("MS_REMOUNT|MS_BIND"), text("size=1m")]
    );
    assert_eq!(
        mount("MS_REC|MS_PRIVATE")[2..],
        [kind, sym("MS_REC|MS_PRIVATE"), data]
    );
    let old = sym("MS_MGC_VAL|MS_RDONLY");
    assert_eq!(
        mount("MS_MGC_VAL|MS_RDONLY")[2..],
        [text("tmpfs"), old, text("size=1m")]
    );
    assert_eq!(mount("MS_MGC_VAL|MS_BIND")[2], Value::Addr(0x300));
}

#[test]
fn quotactl_is_told_by_the_command_in_its_first_argument() {
    let get = constants::eval("QCMD(Q_GETQUOTA, USRQUOTA)").unwrap();
    assert_eq!(get, 0x8000_0700u32 as i64);
    let mem = Pieces::default().with(0x100, *b"/dev/sda1\0");
    let quota = st(&[
        ("dqb_bhardlimit", int(1)),
        ("dqb_bsoftlimit", int(2)),
        ("dqb_curspace", int(3)),
        ("dqb_ihardlimit", int(4)),
        ("dqb_isoftlimit", int(5)),
        ("dqb_curinodes", int(6)),
        ("dqb_btime", int(7)),
        ("dqb_itime", int(8)),
        ("dqb_valid", sym("QIF_BLIMITS|QIF_SPACE")),
    ]);
    let values = [
        sym("QCMD(Q_GETQUOTA, USRQUOTA)"),
        Value::str("/dev/sda1"),
        int(1000),
        quota,
    ];
    let args = [get as u64, 0x100, 1000, 0x1000, 0, 0];
    let exit = encoded("quotactl", args, &values, 0, &mem);
    assert_eq!(decode("quotactl", args, 0, &exit), values);
    assert_eq!(
        call("quotactl")
            .resolve(&args)
            .outputs(&args, 0, &mem, &exit)[0]
            .len,
        72
    );

    // strace leaves the third argument out if it has no meaning.
    let format = constants::eval("QCMD(Q_GETFMT, GRPQUOTA)").unwrap() as u64;
    let args = [format, 0x100, 77, 0x1000, 0, 0];
    let values = [
        sym("QCMD(Q_GETFMT, GRPQUOTA)"),
        Value::str("/dev/sda1"),
        arr(vec![sym("QFMT_VFS_V1")]),
    ];
    let exit = encoded("quotactl", args, &values, 0, &mem);
    assert_eq!(decode("quotactl", args, 0, &exit), values);
    let getfmt = call("quotactl").resolve(&args);
    assert_eq!(getfmt.compare(&args, &mem, &values), Ok(()));
    let raw = decode("quotactl_fd", [3, 0x12345678, 5, 0, 0, 0], 0, &mem);
    assert_eq!(raw[1].as_i64(), Some(0x12345678));
    let Value::Sym { text, .. } = &raw[1] else {
        panic!()
    };
    assert_eq!(constants::eval(text), Some(0x12345678), "{text}");
}

#[test]
fn a_file_handle_shows_the_room_that_it_was_given() {
    let entry = Pieces::default()
        .with(0x100, *b"/\0")
        .with(0x1000, packed(&[(128, 4), (0xdead, 4)]));
    let args = [flag("AT_FDCWD"), 0x100, 0x1000, 0x2000, 0, 0];
    let name_to_handle_at = call("name_to_handle_at").resolve(&args);
    assert_eq!(
        lens(&name_to_handle_at.inputs(&args, &entry)),
        [(1, 0x100, 2), (2, 0x1000, 8)]
    );
    let change = |before, after| Value::Change {
        before: Box::new(int(before)),
        after: Box::new(int(after)),
    };
    let values = [
        sym("AT_FDCWD"),
        Value::str("/"),
        st(&[
            ("handle_bytes", change(128, 3)),
            ("handle_type", int(1)),
            ("f_handle", Value::str(*b"\x01\x02\x03")),
        ]),
        arr(vec![int(27)]),
        int(0),
    ];
    let exit = encoded("name_to_handle_at", args, &values, 0, &entry);
    assert_eq!(
        name_to_handle_at.decode(&args, Some(0), &entry, &exit),
        values
    );
    assert_eq!(
        lens(&name_to_handle_at.outputs(&args, 0, &entry, &exit)),
        [(2, 0x1000, 11), (3, 0x2000, 4)]
    );
    assert_eq!(name_to_handle_at.compare(&args, &entry, &values), Ok(()));

    // The buffer is too small: the kernel stores the size of the handle, and the mount id.
    let small = Pieces::default()
        .with(0x100, *b"/\0")
        .with(0x1000, packed(&[(0, 4), (0, 4)]));
    let mut values = values;
    values[2] = st(&[("handle_bytes", change(0, 12))]);
    values[3] = Value::Addr(0x2000);
    let overflow = -i64::from(libc::EOVERFLOW);
    let exit = encoded("name_to_handle_at", args, &values, overflow, &small);
    assert_eq!(
        name_to_handle_at.decode(&args, Some(overflow), &small, &exit),
        values
    );
    assert_eq!(
        name_to_handle_at
            .outputs(&args, overflow, &small, &exit)
            .len(),
        2
    );

    let unique = [
        args[0],
        0x100,
        0x1000,
        0x2000,
        flag("AT_HANDLE_MNT_ID_UNIQUE"),
        0,
    ];
    let call = call("name_to_handle_at").resolve(&unique);
    assert_eq!(
        lens(&call.outputs(&unique, 0, &entry, &entry))[1],
        (3, 0x2000, 8)
    );

    let handle = Pieces::default().with(0x1000, packed(&[(3, 4), (1, 4), (0x030201, 3)]));
    let args = [4, 0x1000, 0, 0, 0, 0];
    assert_eq!(
        decode("open_by_handle_at", args, 5, &handle)[1],
        st(&[
            ("handle_bytes", int(3)),
            ("handle_type", int(1)),
            ("f_handle", Value::str(*b"\x01\x02\x03")),
        ])
    );
}

#[test]
fn structures_that_grow_are_read_as_far_as_they_go() {
    let mem = Pieces::default()
        .with(0x100, *b"/\0")
        .with(0x1000, words(&[flag("LANDLOCK_ACCESS_FS_EXECUTE"), 3, 1]));
    let ruleset = |size| {
        decode(
            "landlock_create_ruleset",
            [0x1000, size, 0, 0, 0, 0],
            3,
            &mem,
        )
    };
    let fs = ("handled_access_fs", sym("LANDLOCK_ACCESS_FS_EXECUTE"));
    let net = (
        "handled_access_net",
        sym("LANDLOCK_ACCESS_NET_BIND_TCP|LANDLOCK_ACCESS_NET_CONNECT_TCP"),
    );
    assert_eq!(ruleset(4)[0], Value::Addr(0x1000));
    assert_eq!(ruleset(8)[0], st(std::slice::from_ref(&fs)));
    assert_eq!(ruleset(16)[0], st(&[fs, net]));
    let version = [0, 0, flag("LANDLOCK_CREATE_RULESET_VERSION"), 0, 0, 0];
    assert!(call("landlock_create_ruleset").returns_fd());
    assert!(
        !call("landlock_create_ruleset")
            .resolve(&version)
            .returns_fd()
    );

    let how = Pieces::default().with(0x100, *b"/x\0").with(
        0x1000,
        words(&[flag("O_WRONLY|O_CREAT"), 0o644, flag("RESOLVE_BENEATH")]),
    );
    let open = |size| {
        decode(
            "openat2",
            [flag("AT_FDCWD"), 0x100, 0x1000, size, 0, 0],
            3,
            &how,
        )
    };
    let full = st(&[
        ("flags", sym("O_WRONLY|O_CREAT")),
        ("mode", Value::Octal(0o644)),
        ("resolve", sym("RESOLVE_BENEATH")),
    ]);
    assert_eq!(open(24)[2], full);
    assert_eq!(open(16)[2], Value::Addr(0x1000));

    // file_getattr fills the whole buffer, also the part that this kernel does not know.
    let args = [3, 0x100, 0x1000, 32, 0, 0];
    let attr = st(&[
        ("fa_xflags", sym("FS_XFLAG_APPEND")),
        ("fa_extsize", int(0)),
        ("fa_nextents", int(2)),
        ("fa_projid", Value::Addr(5)),
        ("fa_cowextsize", int(0)),
    ]);
    let values = [fd(3), Value::str("/"), attr, int(32), int(0)];
    let exit = encoded("file_getattr", args, &values, 0, &mem);
    assert_eq!(
        lens(&call("file_getattr").outputs(&args, 0, &mem, &exit)),
        [(2, 0x1000, 32)]
    );
    assert_eq!(decode("file_getattr", args, 0, &exit), values);
}

#[test]
fn statmount_has_its_texts_behind_the_structure() {
    let request = packed(&[
        (32, 4),
        (0, 4),
        (0x1234, 8),
        (flag("STATMOUNT_MNT_ROOT"), 8),
        (0, 8),
    ]);
    let entry = Pieces::default().with(0x100, request);
    let args = [0x100, 0x1000, 1024, 0, 0, 0];
    let values = [
        st(&[
            ("size", int(32)),
            ("mnt_ns_fd", fd(0)),
            ("mnt_id", Value::Addr(0x1234)),
            ("param", sym("STATMOUNT_MNT_ROOT")),
            ("mnt_ns_id", int(0)),
        ]),
        st(&[
            ("size", int(512 + 2 + 6 + 4)),
            (
                "mask",
                sym("STATMOUNT_MNT_ROOT|STATMOUNT_FS_TYPE|STATMOUNT_OPT_ARRAY"),
            ),
            ("fs_type", Value::str("tmpfs")),
            ("mnt_root", Value::str("/")),
            ("opt_num", int(2)),
            ("opt_array", arr(vec![Value::str("a"), Value::str("b")])),
        ]),
        int(1024),
        int(0),
    ];
    let exit = encoded("statmount", args, &values, 0, &entry);
    let statmount = call("statmount");
    assert_eq!(statmount.decode(&args, Some(0), &entry, &exit), values);
    assert_eq!(
        lens(&statmount.outputs(&args, 0, &entry, &exit)),
        [(1, 0x1000, 524)]
    );
    assert_eq!(lens(&statmount.inputs(&args, &entry)), [(0, 0x100, 32)]);
}

#[test]
fn getxattrat_fills_what_its_structure_points_to() {
    let entry = Pieces::default()
        .with(0x100, *b"/x\0")
        .with(0x200, *b"user.a\0")
        .with(0x300, packed(&[(0x1000, 8), (100, 4), (0, 4)]));
    let args = [flag("AT_FDCWD"), 0x100, 0, 0x200, 0x300, 16];
    let xattr = |value| {
        [
            sym("AT_FDCWD"),
            Value::str("/x"),
            int(0),
            Value::str("user.a"),
            st(&[("value", value), ("size", int(100)), ("flags", int(0))]),
            int(16),
        ]
    };
    let values = xattr(Value::str("hello"));
    let getxattrat = call("getxattrat");
    let exit = encoded("getxattrat", args, &values, 5, &entry);
    assert_eq!(getxattrat.decode(&args, Some(5), &entry, &exit), values);
    assert_eq!(
        lens(&getxattrat.outputs(&args, 5, &entry, &exit)),
        [(4, 0x1000, 5)]
    );
    assert_eq!(getxattrat.compare(&args, &entry, &values), Ok(()));
    assert_eq!(
        getxattrat.decode(&args, None, &entry, &exit),
        xattr(Value::Addr(0x1000))
    );
    assert!(getxattrat.outputs(&args, -61, &entry, &exit).is_empty());
    let set = entry.clone().with(0x1000, vec![b'v'; 100]);
    let setxattrat = call("setxattrat");
    assert_eq!(
        lens(&setxattrat.inputs(&args, &set))[2..],
        [(4, 0x300, 16), (4, 0x1000, 100)]
    );
}

#[test]
fn security_modules_say_who_they_are() {
    let context = |id: u64, text: &[u8]| {
        let mut bytes = words(&[id, 0, 32 + text.len() as u64, text.len() as u64]);
        bytes.extend(text);
        bytes
    };
    let mut both = context(flag("LSM_ID_APPARMOR"), b"un");
    both.extend(context(flag("LSM_ID_SELINUX"), b"u:r"));
    let entry = Pieces::default().with(0x2000, 256u32.to_le_bytes());
    let exit = Pieces::default()
        .with(0x1000, both.clone())
        .with(0x2000, (both.len() as u32).to_le_bytes());
    let args = [flag("LSM_ATTR_CURRENT"), 0x1000, 0x2000, 0, 0, 0];
    let call = call("lsm_get_self_attr");
    let values = call.decode(&args, Some(2), &entry, &exit);
    let item = |id: &str, text: &str| {
        st(&[
            ("id", sym(id)),
            ("flags", int(0)),
            ("len", int(32 + text.len() as i64)),
            ("ctx_len", int(text.len() as i64)),
            ("ctx", Value::str(text)),
        ])
    };
    assert_eq!(
        values[1],
        arr(vec![
            item("LSM_ID_APPARMOR", "un"),
            item("LSM_ID_SELINUX", "u:r")
        ])
    );
    assert_eq!(
        lens(&call.outputs(&args, 2, &entry, &exit)),
        [(1, 0x1000, both.len()), (2, 0x2000, 4)]
    );
    let writes = call.encode_outputs(&args, &values, 2, &entry).unwrap();
    assert_eq!(writes[0], (0x1000, both));

    // If the buffer is too small, the kernel stores the size that is needed.
    let toobig = -i64::from(libc::E2BIG);
    let values = call.decode(&args, Some(toobig), &entry, &exit);
    assert_eq!(values[1], Value::Addr(0x1000));
    assert!(
        matches!(&values[2], Value::Array { items, .. } if matches!(items[0], Value::Change { .. }))
    );
    assert_eq!(
        lens(&call.outputs(&args, toobig, &entry, &exit)),
        [(2, 0x2000, 4)]
    );

    let exit = Pieces::default()
        .with(0x1000, words(&[100, 110]))
        .with(0x2000, 16u32.to_le_bytes());
    let args = [0x1000, 0x2000, 0, 0, 0, 0];
    let modules = decode("lsm_list_modules", args, 2, &exit);
    assert_eq!(
        modules[0],
        arr(vec![sym("LSM_ID_CAPABILITY"), sym("LSM_ID_LANDLOCK")])
    );
}

#[test]
fn numbers_are_written_as_strace_writes_them() {
    let mem = Pieces::default().with(0x100, *b"/swap\0").with(
        0x1000,
        packed(&[
            (u64::from(u32::MAX), 4),
            (0x1000, 4),
            (0xfffff, 4),
            (0b1010001, 4),
        ]),
    );
    let swapon = |flags| decode("swapon", [0x100, flags, 0, 0, 0, 0], 0, &mem)[1].clone();
    assert_eq!(swapon(0), int(0));
    assert!(
        matches!(swapon(0x18005), Value::Sym { text, value: Some(0x18005) }
        if text == "SWAP_FLAG_PREFER|SWAP_FLAG_DISCARD|5")
    );
    let syslog = decode("syslog", [10, 0, 0, 0, 0, 0], 5, &mem);
    assert!(matches!(&syslog[..], [Value::Sym { text, value: Some(10) }]
        if text == "10 /* SYSLOG_ACTION_SIZE_BUFFER */"));
    let ldt = decode("modify_ldt", [1, 0x1000, 16, 0, 0, 0], 0, &mem);
    let member = |name: &str| ldt[1].field(name).unwrap().clone();
    assert_eq!(
        (member("entry_number"), member("useable")),
        (int(-1), int(1))
    );
    assert_eq!((member("seg_32bit"), member("contents")), (int(1), int(0)));
    assert!(matches!(member("limit"), Value::Sym { text, .. } if text == "0x0fffff"));
    let mark = decode(
        "fanotify_mark",
        [3, 0x101, 0x20, u64::MAX, 0x100, 0],
        0,
        &mem,
    );
    assert_eq!(
        mark[1..4],
        [
            sym("FAN_MARK_ADD|FAN_MARK_FILESYSTEM"),
            sym("FAN_OPEN"),
            sym("FAN_NOFD")
        ]
    );
    let init = decode("fanotify_init", [1, 0x8000, 0, 0, 0, 0], 3, &mem);
    assert_eq!(
        init,
        [
            sym("FAN_CLASS_NOTIF|FAN_CLOEXEC"),
            sym("O_RDONLY|O_LARGEFILE")
        ]
    );
    let kexec = decode("kexec_load", [0, 0, 0, 0x3e0001, 0, 0], -1, &mem);
    assert_eq!(kexec[3], sym("KEXEC_ARCH_X86_64|KEXEC_ON_CRASH"));
    // The upper half of the position is not one of strace's arguments.
    let values = decode("preadv2", [3, 0, 0, 5, 0, 8], -9, &mem);
    assert_eq!(
        values,
        [fd(3), Value::Addr(0), int(0), int(5), sym("RWF_NOWAIT")]
    );
    assert_eq!(
        call("preadv2").compare(&[3, 0, 0, 5, 0, 8], &mem, &values),
        Ok(())
    );
    assert!(
        call("preadv2")
            .compare(&[3, 0, 0, 5, 0, 1], &mem, &values)
            .is_err()
    );
}

#[test]
fn what_recording_cannot_follow_is_not_answered() {
    let madvise = |advice| {
        call("process_madvise")
            .resolve(&[3, 0, 0, advice, 0, 0])
            .replay
    };
    assert_eq!(madvise(20), Replay::Emulate);
    assert_eq!(madvise(4), Replay::Refuse(libc::EINVAL));
    for name in ["iopl", "ioperm", "map_shadow_stack"] {
        assert_eq!(call(name).replay, Replay::Unsupported, "{name}");
    }
    let ldt = |func| call("modify_ldt").resolve(&[func, 0, 16, 0, 0, 0]).replay;
    let refused = Replay::Refuse(libc::ENOSYS);
    assert_eq!((ldt(0), ldt(1)), (Replay::Emulate, refused));
    // Namespaces are created in earnest: processes get the kernel's numbers of each other.
    let unshare = |flags| call("unshare").resolve(&[flags, 0, 0, 0, 0, 0]).replay;
    let (files, pids) = (libc::CLONE_FILES as u64, libc::CLONE_NEWPID as u64);
    assert_eq!(
        (unshare(files), unshare(pids)),
        (Replay::Emulate, Replay::Emulate)
    );
    assert_eq!(call("setns").replay, Replay::Emulate);
    assert_eq!(call("mount").replay, Replay::Emulate);
}

#[test]
fn structures_are_as_the_kernel_headers_have_them() {
    // Name, size, and the offset of a member, from headers that are newer than those of most machines.
    let known = [
        ("statmount", 512, "mnt_gidmap", 164),
        ("statmount", 512, "mnt_ns_id", 112),
        ("mount_attr", 32, "userns_fd", 24),
        ("mnt_id_req", 32, "mnt_ns_id", 24),
        ("ns_id_req", 32, "user_ns_id", 24),
        ("if_dqblk", 72, "dqb_valid", 64),
        ("if_nextdqblk", 72, "dqb_id", 68),
        ("if_dqinfo", 24, "dqi_valid", 20),
        ("fs_disk_quota", 112, "d_rtbwarns", 100),
        ("fs_disk_quota", 112, "d_rtb_hardlimit", 72),
        ("fs_quota_stat", 80, "qs_iwarnlimit", 74),
        ("fs_quota_statv", 160, "qs_iwarnlimit", 94),
        ("landlock_ruleset_attr", 48, "quiet_scoped", 40),
        ("landlock_path_beneath_attr", 12, "parent_fd", 8),
        ("landlock_net_port_attr", 16, "port", 8),
        ("xattr_args", 16, "flags", 12),
        ("file_attr", 24, "fa_cowextsize", 20),
        ("lsm_ctx", 32, "ctx", 32),
        ("user_desc", 16, "limit", 8),
        ("cachestat", 40, "nr_recently_evicted", 32),
        ("statx", 256, "stx_atomic_write_unit_max_opt", 184),
        ("statx", 256, "stx_subvol", 160),
        ("sysctl_args", 80, "newlen", 40),
        ("ustat", 32, "f_tinode", 8),
        ("kexec_segment", 32, "memsz", 24),
    ];
    for (name, size, member, offset) in known {
        let layout = crate::syscall::layout::layouts()[name];
        let found = layout.members.iter().find(|m| m.name == member);
        assert_eq!(
            (layout.size, found.map(|m| m.offset)),
            (size, Some(offset)),
            "{name}.{member}"
        );
    }
}

#[test]
fn numbers_without_a_name_say_whose_they_are() {
    let text = |value: &Value| match value {
        Value::Sym { text, .. } => text.clone(),
        other => panic!("{other:?}"),
    };
    let mem = Pieces::default();
    let values = decode("membarrier", [0x800, 0, 0, 0, 0, 0], -22, &mem);
    assert_eq!(text(&values[0]), "0x800 /* MEMBARRIER_CMD_??? */");
    assert_eq!(values[0].as_i64(), Some(0x800));
    let values = decode("umount2", [0, 0x40, 0, 0, 0, 0], -22, &mem);
    assert_eq!(text(&values[1]), "0x40 /* MNT_??? */");
    let values = decode("umount2", [0, 0x42, 0, 0, 0, 0], -22, &mem);
    assert_eq!(text(&values[1]), "MNT_DETACH|0x40");
    assert_eq!(decode("umount2", [0; 6], -22, &mem)[1], int(0));
    assert_eq!(constants::eval("0x40 /* MNT_??? */"), Some(0x40));
}

#[test]
fn an_attribute_ends_where_its_zero_is() {
    let mem = Pieces::default()
        .with(0x100, *b"/x\0")
        .with(0x200, *b"security.selinux\0")
        .with(0x300, *b"system_u\0");
    let args = [0x100, 0x200, 0x300, 9, 0, 0];
    let setxattr = call("setxattr");
    let values = setxattr.decode(&args, Some(0), &mem, &mem);
    assert_eq!(values[2], Value::str("system_u"));
    assert_eq!(setxattr.compare(&args, &mem, &values), Ok(()));
    let args = [0x100, 0x200, 0x1000, 100, 0, 0];
    let exit = encoded("getxattr", args, &values[..4], 9, &mem);
    let mut filled = [1u8; 9];
    assert_eq!(
        (exit.read(0x1000, &mut filled), filled),
        (9, *b"system_u\0")
    );
    let exit = encoded("getxattr", args, &values[..4], 8, &mem);
    assert_eq!(exit.read(0x1000, &mut filled), 8);
    // A query for the size only.
    let args = [0x100, 0x200, 0x1000, 0, 0, 0];
    assert_eq!(decode("getxattr", args, 9, &mem)[2], Value::Addr(0x1000));
}

#[test]
fn what_is_larger_than_known_is_shown_where_it_is_not_zero() {
    let how = |last: u64| {
        let words = words(&[flag("O_RDONLY"), 0o600, 0, last]);
        let mem = Pieces::default().with(0x100, *b"/x\0").with(0x1000, words);
        let args = [flag("AT_FDCWD"), 0x100, 0x1000, 32, 0, 0];
        decode("openat2", args, -7, &mem)[2].clone()
    };
    let known = st(&[
        ("flags", sym("O_RDONLY")),
        ("mode", Value::Octal(0o600)),
        ("resolve", int(0)),
    ]);
    assert_eq!(how(0), known);
    let more = how(0x0201);
    let text = r#"/* bytes 24..31 */ "\x01\x02\x00\x00\x00\x00\x00\x00""#;
    let Value::Struct { fields, .. } = &more else {
        panic!("{more}")
    };
    let last = fields.last().map(|field| &field.value);
    assert!(
        matches!(last, Some(Value::Written { text: shown, .. }) if **shown == *text.as_bytes())
    );
    let bytes = 0x0201u64.to_le_bytes();
    assert_eq!(more.field(""), Some(&Value::str(bytes)));
    assert_eq!(more.field("mode"), known.field("mode"));
}

#[test]
fn a_size_that_the_kernel_corrects_is_a_change() {
    let entry = Pieces::default().with(0x1000, 1u32.to_le_bytes());
    let exit = Pieces::default().with(0x1000, 56u32.to_le_bytes());
    let args = [0, 0x1000, 0, 0, 0, 0];
    let values = call("sched_setattr").decode(&args, Some(-7), &entry, &exit);
    let size = |n| Box::new(st(&[("size", int(n))]));
    assert_eq!(
        values[1],
        Value::Change {
            before: size(1),
            after: size(56)
        }
    );
    let writes = call("sched_setattr")
        .encode_outputs(&args, &values, -7, &entry)
        .unwrap();
    assert_eq!(writes, [(0x1000, 56u32.to_le_bytes().to_vec())]);
}
