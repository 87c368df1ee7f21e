//! Edits of one argument, or of a part of the data behind it.

use super::*;

fn member(name: &str) -> PathStep {
    PathStep::Member(name.to_owned())
}

/// A value as a script gives it: text with its meaning.
fn script(text: &str) -> Value {
    let meaning = crate::strace::value_from_text(text);
    Value::Written {
        text: text.as_bytes().into(),
        value: Box::new(meaning.unwrap_or(Value::Raw(format!("{text:?}")))),
    }
}

#[test]
fn numbers_go_to_registers_before_the_call_and_not_after() {
    let args = [u64::MAX - 99, 0x1000, 0, 0, 0, 0];
    let openat = call("openat");
    let flags = openat.arg("flags").unwrap();
    let mem = Pieces::default();
    let edits = openat.edit(
        (flags, &[]),
        &script("O_RDONLY|O_CLOEXEC"),
        &args,
        None,
        &mem,
    );
    assert_eq!(edits, Ok(vec![Edit::Register(0o2000000)]));
    let late = openat.edit((flags, &[]), &Value::Int(0), &args, Some(3), &mem);
    assert_eq!(late.unwrap_err().problem, Problem::Late);
}

#[test]
fn impossible_values_are_refused() {
    let args = [3, 0x1000, 100, 0, 0, 0];
    let mem = Pieces::default();
    let read = call("read");
    let set = |name: &str, value: Value| {
        let error = read.edit((read.arg(name).unwrap(), &[]), &value, &args, None, &mem);
        error.unwrap_err().to_string()
    };
    assert_eq!(
        set("count", Value::Int(-1)),
        "count is a number of bytes, and cannot be -1"
    );
    assert_eq!(
        set("fd", Value::Int(1 << 40)),
        "fd has 4 bytes, into which 1099511627776 does not fit"
    );
    assert_eq!(
        set("fd", script("hello world")),
        "fd is a number, not \"hello world\""
    );
    assert_eq!(
        set("fd", script("AT_FDCWDD")),
        "fd is not AT_FDCWDD, an unknown constant; did you mean \"AT_FDCWD\"?"
    );
    assert_eq!(
        set("buf", script("text")),
        "buf has nothing stored in it: the call has not been answered, or has failed"
    );
    let long = Value::str(vec![b'x'; 101]);
    let error = read.edit((1, &[]), &long, &args, Some(5), &mem.with(0x1000, [0; 100]));
    assert_eq!(
        error.unwrap_err().to_string(),
        "buf has room for 100 bytes, not 101"
    );
}

#[test]
fn members_are_written_where_they_are() {
    let args = [3, 0x1000, 0, 0, 0, 0];
    let mem = Pieces::default().with(0x1000, [0; 144]);
    let fstat = call("fstat");
    let set = |way: &[PathStep], value: Value| fstat.edit((1, way), &value, &args, Some(0), &mem);
    assert_eq!(
        set(&[member("st_mode")], script("S_IFIFO|0644")),
        Ok(vec![Edit::Write(0x1018, vec![0xa4, 0x11, 0, 0])])
    );
    let both = set(&[], script("{st_ino=5, st_size=-1}"));
    assert_eq!(
        both,
        Ok(vec![
            Edit::Write(0x1008, 5u64.to_le_bytes().to_vec()),
            Edit::Write(0x1030, (-1i64).to_le_bytes().to_vec()),
        ])
    );
    let wrong = set(&[], script("{st_ino=5, st_sise=1}")).unwrap_err();
    assert_eq!(
        wrong.to_string(),
        "statbuf has no \"st_sise\"; did you mean \"st_size\" or \"st_atime\" or \"st_ctime\"?"
    );
}

#[test]
fn elements_have_numbers_from_one_in_messages() {
    let mut fds = Vec::new();
    for fd in [3u32, 4] {
        fds.extend(fd.to_le_bytes());
        fds.extend([1, 0, 0, 0]);
    }
    let mem = Pieces::default().with(0x1000, fds);
    let args = [0x1000, 2, 0, 0, 0, 0];
    let poll = call("poll");
    let set = |way: &[PathStep], value: Value| poll.edit((0, way), &value, &args, Some(1), &mem);
    assert_eq!(
        set(
            &[PathStep::Element(1), member("revents")],
            script("POLLIN|POLLERR")
        ),
        Ok(vec![Edit::Write(0x100e, vec![9, 0])])
    );
    let beyond = set(&[PathStep::Element(2), member("revents")], Value::Int(0));
    assert_eq!(
        beyond.unwrap_err().to_string(),
        "fds has 2 elements: there is no number 3"
    );
    let wrong = set(&[PathStep::Element(0), member("fdd")], Value::Int(0));
    assert_eq!(
        wrong.unwrap_err().to_string(),
        "fds[1] has no \"fdd\"; did you mean \"fd\"?"
    );
}

#[test]
fn text_and_lists_of_text_go_where_there_is_room() {
    let mem = Pieces::default()
        .with(0x1000, *b"/bin/true\0")
        .with(0x2000, words(&[0x1000, 0x3000, 0]))
        .with(0x3000, *b"x\0");
    let args = [0x1000, 0x2000, 0, 0, 0, 0];
    let execve = call("execve");
    let path = execve.edit((0, &[]), &script("/bin/false"), &args, None, &mem);
    let place = |bytes: &[u8], inner: &[(usize, usize)]| Edit::Place {
        bytes: bytes.to_vec(),
        inner: inner.to_vec(),
        pointer: None,
    };
    assert_eq!(path, Ok(vec![place(b"/bin/false\0", &[])]));
    let argv = execve.edit(
        (1, &[PathStep::Element(1)]),
        &script("yes"),
        &args,
        None,
        &mem,
    );
    let mut bytes = words(&[0x1000, 0, 0]);
    bytes.extend(b"yes\0");
    assert_eq!(argv, Ok(vec![place(&bytes, &[(8, 24)])]));
    let cut = execve.edit((0, &[]), &Value::str(*b"a\0b"), &args, None, &mem);
    assert!(cut.is_err());
}

#[test]
fn addresses_keep_what_is_not_named() {
    let mut name = vec![2, 0, 0, 80, 127, 0, 0, 1];
    name.extend([0; 8]);
    let mem = Pieces::default()
        .with(0x1000, name.clone())
        .with(0x2000, 16u32.to_le_bytes());
    let args = [3, 0x1000, 0x2000, 0, 0, 0];
    let call = call("getsockname");
    let edits = call
        .edit(
            (1, &[member("sin_port")]),
            &script("htons(81)"),
            &args,
            Some(0),
            &mem,
        )
        .unwrap();
    name[3] = 81;
    assert_eq!(edits[0], Edit::Write(0x1000, name));
    assert_eq!(edits[1], Edit::Write(0x2000, vec![16, 0, 0, 0]));
}

#[test]
fn what_was_set_is_what_is_seen() {
    let args = [3, 0x1000, 1024, 0, 0, 0];
    let entries = "[{d_ino=1, d_off=2, d_reclen=24, d_type=DT_REG, d_name=\"a\"}]";
    let entries = crate::strace::value_from_text(entries).unwrap();
    let getdents = call("getdents64");
    let mem = Pieces::default().with(0x1000, [0; 1024]);
    let edits = getdents
        .edit((1, &[]), &entries, &args, Some(24), &mem)
        .unwrap();
    let [Edit::Write(0x1000, bytes), Edit::Return(24)] = &edits[..] else {
        panic!("{edits:?}");
    };
    let mem = Pieces::default().with(0x1000, bytes.clone());
    let way = [PathStep::Element(0), member("d_name")];
    assert_eq!(
        getdents.look_at((1, &way), &args, Some(24), &mem),
        Some(Value::str("a"))
    );
    let longer = getdents
        .edit(
            (1, &way),
            &script("a-name-that-is-longer"),
            &args,
            Some(24),
            &mem,
        )
        .unwrap();
    assert_eq!(longer[1], Edit::Return(48));
}
