//! The plausible answers of system calls against the manual pages, and what shows them.

mod exceptions;
mod manual;

use crate::common::Folder;
use exceptions::Exception;
use manual::Page;
use rrapper::constants;
use rrapper::syscall::{self, plausible::plausible_answers};
use std::collections::BTreeSet;

#[test]
fn the_table_is_the_manual_pages_but_for_reviewed_exceptions() {
    let exceptions = exceptions::read(include_str!("errors/exceptions"));
    let mut differences = BTreeSet::new();
    let mut release = None;
    for call in syscall::names() {
        let Some(page) = Page::of(call) else {
            differences.insert((call.to_string(), Exception::NoPage));
            continue;
        };
        release.get_or_insert_with(|| page.release().to_string());
        let mut in_page = page.errnos(call);
        for (of, exception) in &exceptions {
            if let Exception::As(other) = exception
                && of == call
            {
                let name = syscall::by_name(other).expect(other).name;
                let others = Page::of(other).expect(other).errnos(name);
                if !others.is_subset(&in_page) {
                    differences.insert((of.clone(), exception.clone()));
                }
                in_page.extend(others);
            }
        }
        let answers = plausible_answers(call).expect(call).iter();
        let in_table: BTreeSet<i32> = answers.filter_map(|answer| answer.errno).collect();
        let only_page = in_page.difference(&in_table).copied();
        let only_table = in_table.difference(&in_page).copied();
        let found = only_page
            .map(Exception::PageOnly)
            .chain(only_table.map(Exception::TableOnly));
        differences.extend(found.map(|exception| (call.to_string(), exception)));
    }
    let release = release.expect("these pages are in Debian's package manpages-dev");
    let missing: Vec<String> = differences.difference(&exceptions).map(shown).collect();
    let obsolete: Vec<String> = exceptions.difference(&differences).map(shown).collect();
    assert!(
        missing.is_empty() && obsolete.is_empty(),
        "{release} (the exceptions are those of 6.03):\nno exceptions yet: {missing:#?}\nno differences any more: \
         {obsolete:#?}"
    );
}

fn shown((call, exception): &(String, Exception)) -> String {
    let name = |errno: &i32| constants::errno_name(*errno).unwrap_or("?");
    match exception {
        Exception::NoPage => format!("{call}: no page"),
        Exception::As(other) => format!("{call}: as {other}"),
        Exception::PageOnly(errno) => format!("{call}: - {}", name(errno)),
        Exception::TableOnly(errno) => format!("{call}: + {}", name(errno)),
    }
}

/// The lines that `rrapper doc errors` prints, each as its columns; the last one may have spaces.
fn printed(args: &[&str]) -> Vec<Vec<String>> {
    let all = [&["doc", "errors"], args].concat();
    let text = Folder::new().rrapper(&all).ok().text();
    let mut lines = text.lines();
    let head = lines.next().expect("a head");
    let starts = ["CALL", "ERRNO", "CLASS", "SCOPE", "WHEN"].map(|name| head.find(name).unwrap());
    let columns = |line: &str| {
        let ends = starts[1..].iter().copied().chain([line.len()]);
        let cut = starts.iter().zip(ends);
        cut.map(|(&start, end)| {
            line.get(start..end.min(line.len()))
                .unwrap_or("")
                .trim()
                .to_string()
        })
        .collect()
    };
    lines.map(columns).collect()
}

#[test]
fn a_call_has_a_table_of_its_failures() {
    let read = printed(&["read"]);
    let columns = |line: &'static str| line.split('|').map(String::from).collect::<Vec<_>>();
    for line in [
        "read|EIO|io|file|a device is behind the file",
        "read|EAGAIN|retry|call|it does not wait",
        "read|short|short|call|it is a pipe, a FIFO, a socket or a terminal",
    ] {
        assert!(read.contains(&columns(line)), "{line}: {read:#?}");
    }
    let of_programmers = columns("read|EBADF|misuse|file|");
    assert!(!read.contains(&of_programmers));
    let all = printed(&["--all", "read"]);
    assert!(all.contains(&of_programmers) && all.len() > read.len());
    assert!(read.iter().all(|line| all.contains(line)));
    assert_eq!(printed(&["recv"]), printed(&["recvfrom"]));
    assert_eq!(printed(&["getpid"]), [columns("getpid|-|-|-|never")]);
}

#[test]
fn all_calls_or_those_that_are_selected_have_one_table() {
    let called = |args: &[&str]| -> BTreeSet<String> {
        printed(args)
            .into_iter()
            .map(|mut line| line.remove(0))
            .collect()
    };
    let all = called(&[]);
    assert!(all.len() > 240 && !all.contains("getpid"), "{all:?}");
    let some: BTreeSet<String> = ["mmap", "read", "write"].map(String::from).into();
    assert_eq!(called(&["write,read", "mmap"]), some);
    let network = called(&["%network"]);
    assert!(network.contains("connect") && !network.contains("read"));
}

#[test]
fn a_call_that_there_is_not_is_an_error() {
    let folder = Folder::new();
    let done = folder.rrapper(["doc", "errors", "read", "opne"]);
    let done = done.complains(&["unknown system call \"opne\"; did you mean \"open\""]);
    assert_eq!(done.stdout, b"");
    folder
        .rrapper(["doc", "errors", "%nosuch"])
        .complains(&["unknown class"]);
    folder
        .rrapper(["doc", "error"])
        .complains(&["did you mean \"errors\"?"]);
}
