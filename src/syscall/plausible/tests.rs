//! What the table says of well-known calls, and that it is whole.

use super::*;
use crate::syscall::{by_name, names};

fn errno(name: &str) -> Option<i32> {
    Some(constants::errno(name).unwrap())
}

/// The answers that are plausible for a call with these facts, without errors of the programmer.
fn holding(call: &str, facts: &Facts) -> Vec<&'static str> {
    let answers = plausible_answers(call).unwrap().iter();
    let holding = answers.filter(|a| a.class != Class::Misuse && a.holds(facts));
    holding.map(Plausible::name).collect()
}

#[test]
fn the_table_has_no_mistakes_and_every_call() {
    assert_eq!(TABLE.errors, [""; 0]);
    let missing: Vec<&str> = names()
        .filter(|name| plausible_answers(name).is_none())
        .collect();
    assert_eq!(missing, [""; 0]);
    let failing = TABLE.answers.values().filter(|answers| {
        let plausible = answers.iter().filter(|a| a.class != Class::Misuse);
        plausible.count() > 0
    });
    assert!(failing.count() > 240);
}

#[test]
fn the_head_of_the_table_has_each_condition() {
    let text = include_str!("../errors.tbl");
    let (_, list) = text.split_once("# CONDITIONS").unwrap();
    let lines = list.lines().skip(1);
    let names = lines.map_while(|line| line.strip_prefix("#   ")?.split(' ').next());
    let listed: Vec<&str> = names.collect();
    let unknown = listed
        .iter()
        .find(|name| Condition::of_name(name).is_none());
    assert_eq!(unknown, None);
    let used = TABLE.answers.values().flatten().flat_map(|a| &a.conditions);
    let unlisted = used.map(|c| c.name()).find(|name| !listed.contains(name));
    assert_eq!(unlisted, None);
}

#[test]
fn a_call_fails_or_is_infallible_but_not_both() {
    for name in names() {
        let call = by_name(name).unwrap();
        let answers = plausible_answers(name).unwrap();
        assert!(call.can_fail() || answers.is_empty(), "{name}");
    }
}

#[test]
fn each_answer_of_a_call_is_there_once() {
    for (call, answers) in &TABLE.answers {
        for (at, answer) in answers.iter().enumerate() {
            assert!(!answers[..at].contains(answer), "{call}: {answer:?}");
        }
    }
}

#[test]
fn aliases_have_the_answers_of_their_calls() {
    assert_eq!(plausible_answers("send"), plausible_answers("sendto"));
    assert_eq!(plausible_answers("stat64"), plausible_answers("stat"));
    assert_eq!(plausible_answers("nosuch"), None);
}

/// The conditions without which an errno would be a false alarm.
#[test]
fn errnos_that_need_a_condition_have_it() {
    let kinds = |name: &'static str, class: Class| {
        let all = TABLE.answers.iter().flat_map(|(call, answers)| {
            let of_call = answers.iter().map(move |answer| (*call, answer));
            of_call.filter(|(_, answer)| answer.errno.is_some())
        });
        all.filter(move |(_, answer)| answer.name() == name && answer.class == class)
    };
    let needs = |name, class, any: &[Condition]| {
        let mut count = 0;
        for (call, answer) in kinds(name, class) {
            let has = answer.conditions.iter().any(|c| any.contains(c));
            assert!(has, "{call}: {answer:?}");
            count += 1;
        }
        assert!(count > 0, "{name}");
    };
    needs(
        "ENOSPC",
        Class::Space,
        &[Condition::Creates, Condition::Written],
    );
    needs(
        "EDQUOT",
        Class::Space,
        &[Condition::Creates, Condition::Written],
    );
    needs("EFBIG", Class::Space, &[Condition::Creates]);
    needs(
        "EROFS",
        Class::Permission,
        &[Condition::Writes, Condition::Local],
    );
    needs(
        "ETXTBSY",
        Class::Permission,
        &[Condition::Writes, Condition::Written],
    );
    needs("EIO", Class::Io, &[Condition::Device]);
    needs("ENOMEM", Class::Limits, &[Condition::Memory]);
    needs(
        "EINTR",
        Class::Retry,
        &[Condition::Interrupted, Condition::Handled, Condition::Waits],
    );
    needs("EXDEV", Class::Absent, &[Condition::Directories]);
    needs(
        "ECONNRESET",
        Class::Peer,
        &[Condition::Connected, Condition::Answered],
    );
    needs(
        "ECONNREFUSED",
        Class::Peer,
        &[Condition::Answered, Condition::Datagram],
    );
    needs("ECONNABORTED", Class::Peer, &[Condition::Network]);
    needs("EPIPE", Class::Peer, &[Condition::Pipe]);
    let never = |class| class == Class::Misuse;
    for name in ["EBADF", "EFAULT", "EINVAL"] {
        for (call, answers) in &TABLE.answers {
            let other = answers.iter().find(|a| a.name() == name && !never(a.class));
            assert_eq!(other, None, "{call}");
        }
    }
}

#[test]
fn the_scope_is_what_a_persistent_failure_covers() {
    for (call, name, scope) in [
        ("write", "ENOSPC", Scope::FileSystem),
        ("write", "EDQUOT", Scope::FileSystem),
        ("openat", "EROFS", Scope::FileSystem),
        ("openat", "EMFILE", Scope::Process),
        ("mmap", "ENOMEM", Scope::Process),
        ("read", "EIO", Scope::File),
        ("recvfrom", "ECONNRESET", Scope::Peer),
        ("read", "EINTR", Scope::Call),
    ] {
        let answers = plausible_answers(call).unwrap().iter();
        let of_errno: Vec<_> = answers.filter(|a| a.errno == errno(name)).collect();
        assert_eq!(of_errno.len(), 1, "{call} {name}");
        assert_eq!(of_errno[0].scope, scope, "{call} {name}");
    }
}

#[test]
fn a_disk_file_fails_as_a_disk_does() {
    let file = Facts {
        file: Some(FileType::Regular),
        device_behind: true,
        ..Facts::default()
    };
    assert_eq!(holding("read", &file), ["EIO"]);
    let read_only = Facts {
        read_only: true,
        ..file
    };
    assert_eq!(holding("read", &read_only), ["EIO", "EISDIR"]);
    let grows = Facts {
        writes: true,
        grows: true,
        ..file
    };
    assert_eq!(
        holding("write", &grows),
        ["EIO", "EDQUOT", "EFBIG", "ENOSPC", "EPERM", "short"]
    );
    // What is written over takes no room.
    let same = Facts {
        writes: true,
        ..file
    };
    assert_eq!(holding("write", &same), ["EIO", "EPERM", "short"]);
}

#[test]
fn a_socket_fails_as_a_network_does() {
    let connected = SocketFacts {
        stream: true,
        connected: true,
        network: true,
        ..SocketFacts::default()
    };
    let stream = Facts {
        file: Some(FileType::Socket(connected)),
        waits: true,
        ..Facts::default()
    };
    assert_eq!(
        holding("recvfrom", &stream),
        ["ECONNRESET", "EHOSTUNREACH", "ETIMEDOUT", "short"]
    );
    assert_eq!(holding("read", &stream), holding("recvfrom", &stream));
    let udp = SocketFacts {
        network: true,
        ..SocketFacts::default()
    };
    let datagram = Facts {
        file: Some(FileType::Socket(udp)),
        ..stream
    };
    assert!(!holding("recvfrom", &datagram).contains(&"ECONNRESET"));
    assert!(!holding("sendto", &datagram).contains(&"EPIPE"));
}

#[test]
fn a_pipe_is_short_and_a_file_is_not() {
    for (file, short) in [
        (FileType::Pipe, true),
        (FileType::Fifo, true),
        (FileType::Terminal, true),
        (FileType::Socket(SocketFacts::default()), true),
        (FileType::Regular, false),
    ] {
        let facts = Facts {
            file: Some(file),
            ..Facts::default()
        };
        assert_eq!(
            holding("read", &facts).contains(&"short"),
            short,
            "{file:?}"
        );
        assert!(holding("write", &facts).contains(&"short"), "{file:?}");
    }
}

#[test]
fn conditions_are_sentences() {
    let read = plausible_answers("read").unwrap();
    let of = |name: &str| read.iter().find(|a| a.name() == name).unwrap();
    assert_eq!(of("EIO").when().unwrap(), "a device is behind the file");
    assert_eq!(
        of("ETIMEDOUT").when().unwrap(),
        "it is a socket of an internet family, and it is a connected stream socket"
    );
    assert_eq!(of("EBADF").when(), None);
}
