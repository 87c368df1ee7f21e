//! The memory that belongs to a call, and the comparison of calls.

use super::*;

#[test]
fn read_and_readv_outputs_are_what_was_returned() {
    let empty = Pieces::default();
    let args = [3, 0x1000, 100, 0, 0, 0];
    assert_eq!(
        lens(&call("read").outputs(&args, 10, &empty, &empty)),
        [(1, 0x1000, 10)]
    );
    assert_eq!(
        lens(&call("read").outputs(&args, 1000, &empty, &empty)),
        [(1, 0x1000, 100)]
    );
    assert!(call("read").outputs(&args, -5, &empty, &empty).is_empty());
    assert!(call("read").outputs(&args, 0, &empty, &empty).is_empty());
    let mem = empty.with(0x2000, words(&[0x3000, 4, 0x4000, 5]));
    let args = [3, 0x2000, 2, 0, 0, 0];
    let readv = call("readv");
    assert_eq!(
        lens(&readv.outputs(&args, 6, &mem, &mem)),
        [(1, 0x3000, 4), (1, 0x4000, 2)]
    );
    assert_eq!(lens(&readv.inputs(&args, &mem)), [(1, 0x2000, 32)]);
    assert_eq!(
        lens(&readv.data_regions(&args, 5, &mem)),
        [(1, 0x3000, 4), (1, 0x4000, 1)]
    );
    assert_eq!(
        lens(&call("writev").inputs(&args, &mem)),
        [(1, 0x2000, 32), (1, 0x3000, 4), (1, 0x4000, 5)]
    );
}

#[test]
fn lengths_in_and_out_take_the_room_from_entry() {
    let entry = Pieces::default().with(0x5000, 128u32.to_le_bytes());
    let exit = Pieces::default().with(0x5000, 16u32.to_le_bytes());
    let args = [3, 0x1000, 64, 0, 0x6000, 0x5000];
    assert_eq!(
        lens(&call("recvfrom").outputs(&args, 7, &entry, &exit)),
        [(1, 0x1000, 7), (4, 0x6000, 16), (5, 0x5000, 4)]
    );
    // The kernel stores the length of the address, not that of the part that fitted.
    assert_eq!(call("recvfrom").outputs(&args, 7, &exit, &entry)[1].len, 16);
    let args = [3, 0x1000, 0, 0, 0, 0];
    assert_eq!(
        lens(&call("fstat").outputs(&args, 0, &entry, &exit)),
        [(1, 0x1000, 144)]
    );
    let args = [3, 0x1000, 32768, 0, 0, 0];
    assert_eq!(
        lens(&call("getdents64").outputs(&args, 96, &entry, &exit)),
        [(1, 0x1000, 96)]
    );
}

#[test]
fn interrupted_sleeps_have_an_output() {
    let mem = Pieces::default();
    let args = [0x1000, 0x2000, 0, 0, 0, 0];
    assert!(call("nanosleep").outputs(&args, 0, &mem, &mem).is_empty());
    assert_eq!(call("nanosleep").outputs(&args, -4, &mem, &mem).len(), 1);
    assert_eq!(call("nanosleep").outputs(&args, -516, &mem, &mem).len(), 1);
}

#[test]
fn compare_looks_at_content_not_at_addresses() {
    let mem = Pieces::default()
        .with(0x1000, *b"/etc/passwd\0")
        .with(0x2000, *b"hello");
    let open = call("open");
    let args = [0x1000, 0, 0, 0, 0, 0];
    let path = Value::str("/etc/passwd");
    assert_eq!(
        open.compare(&args, &mem, &[path.clone(), sym("O_RDONLY")]),
        Ok(())
    );
    let wrong = open
        .compare(&args, &mem, &[path, sym("O_RDWR")])
        .unwrap_err();
    assert_eq!((wrong.arg, wrong.actual), (1, sym("O_RDONLY")));
    let args = [1, 0x2000, 5, 0, 0, 0];
    let write = call("write");
    let fd = Value::Fd {
        fd: 1,
        path: Some(b"/dev/tty".to_vec()),
    };
    let expect = |bytes: &str, cut| Value::Str {
        bytes: bytes.into(),
        cut,
    };
    let check = |text: Value| write.compare(&args, &mem, &[fd.clone(), text, Value::Int(5)]);
    assert_eq!(check(expect("hello", false)), Ok(()));
    assert_eq!(check(expect("hel", true)), Ok(()));
    assert_eq!(check(expect("hel", false)).unwrap_err().arg, 1);
    assert_eq!(check(expect("jello", false)).unwrap_err().arg, 1);
    let brk = call("brk");
    let args = [0x5555, 0, 0, 0, 0, 0];
    assert_eq!(brk.compare(&args, &mem, &[Value::Addr(0x6666)]), Ok(()));
    assert!(brk.compare(&args, &mem, &[Value::Addr(0)]).is_err());
    // Outputs do not belong to the request of the program.
    let args = [3, 0x9000, 100, 0, 0, 0];
    let values = [Value::Int(3), Value::str("data"), Value::Int(100)];
    assert_eq!(call("read").compare(&args, &mem, &values), Ok(()));
    // _llseek has its result third and whence last.
    let values = [
        Value::Int(3),
        Value::Int(10),
        arr(vec![Value::Int(10)]),
        sym("SEEK_SET"),
    ];
    assert_eq!(
        call("lseek").compare(&[3, 10, 0, 0, 0, 0], &mem, &values),
        Ok(())
    );
}

#[test]
fn execve_reads_its_strings() {
    let mem = Pieces::default()
        .with(0x100, *b"/bin/ls\0")
        .with(0x200, words(&[0x300, 0x310, 0]))
        .with(0x300, *b"ls\0")
        .with(0x310, *b"-l\0")
        .with(0x400, words(&[0]));
    let args = [0x100, 0x200, 0x400, 0, 0, 0];
    let execve = call("execve");
    assert_eq!(
        lens(&execve.inputs(&args, &mem)),
        [
            (0, 0x100, 8),
            (1, 0x200, 24),
            (1, 0x300, 3),
            (1, 0x310, 3),
            (2, 0x400, 8)
        ]
    );
    let values = execve.decode(&args, None, &mem, &mem);
    assert_eq!(values[1], arr(vec![Value::str("ls"), Value::str("-l")]));
    assert_eq!(execve.compare(&args, &mem, &values), Ok(()));
}

#[test]
fn socket_options_are_compared_by_their_bytes() {
    let mem = Pieces::default().with(0x1000, [1, 0, 0, 0, 5, 0, 0, 0]);
    let args = [3, 1, 13, 0x1000, 8, 0];
    let setsockopt = call("setsockopt").resolve(&args);
    let linger = st(&[("l_onoff", Value::Int(1)), ("l_linger", Value::Int(5))]);
    let fd = Value::Fd { fd: 3, path: None };
    let values = [
        fd,
        sym("SOL_SOCKET"),
        sym("SO_LINGER"),
        linger,
        Value::Int(8),
    ];
    assert_eq!(setsockopt.decode(&args, None, &mem, &mem), values);
    assert_eq!(setsockopt.compare(&args, &mem, &values), Ok(()));
    assert_eq!(call("setsockopt").compare(&args, &mem, &values), Ok(()));
}

#[test]
fn a_set_behind_a_pointer_in_a_structure_is_read() {
    let mem = Pieces::default()
        .with(0x1000, words(&[0x2000, 8]))
        .with(0x2000, words(&[2]));
    let args = [0, 0, 0, 0, 0, 0x1000];
    assert_eq!(
        lens(&call("pselect6").inputs(&args, &mem)),
        [(5, 0x1000, 16), (5, 0x2000, 8)]
    );
    let values = call("pselect6").decode(&args, None, &mem, &mem);
    let set = values[5].field("sigmask").unwrap();
    assert!(matches!(set, Value::Set { items, .. } if items == &["INT"]));
}

#[test]
fn counts_in_memory_give_sizes() {
    let mut header = vec![0u8; 32];
    header[24] = 3;
    let mem = Pieces::default().with(0x1000, header);
    let args = [3, 0xc020_660b, 0x1000, 0, 0, 0];
    let fiemap = call("ioctl").resolve(&args);
    assert_eq!(
        lens(&fiemap.outputs(&args, 0, &mem, &mem)),
        [(2, 0x1000, 32 + 3 * 56)]
    );
}

#[test]
fn labelled_arguments_are_found_by_their_label() {
    let mem = Pieces::default();
    let labelled = |text: &str, value| Value::Sym {
        text: text.into(),
        value: Some(value),
    };
    let values = [
        labelled("child_stack=NULL", 0),
        labelled(
            "flags=CLONE_CHILD_CLEARTID|CLONE_CHILD_SETTID|SIGCHLD",
            0x1200011,
        ),
        labelled("child_tidptr=0x7f0000000000", 0x7f00_0000_0000),
    ];
    let clone = call("clone");
    assert_eq!(
        clone.compare(&[0x1200011, 0, 0, 0x5000, 0, 0], &mem, &values),
        Ok(())
    );
    assert!(
        clone
            .compare(&[0x11, 0, 0, 0x5000, 0, 0], &mem, &values)
            .is_err()
    );
}
