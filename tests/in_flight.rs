//! What is on its way between the processes of a family when it goes live: it arrives as it did when it was recorded.

use crate::common::{Folder, as_user};

/// Records a program in which something is on its way at a mark, and has a copy go on live from there: it ends as recorded, and
/// nothing is missing.
#[track_caller]
fn arrives(how: &str) {
    let folder = Folder::new();
    folder.write("in_flight.py", include_str!("fixtures/in_flight.py"));
    let recorded = folder.record("rec", &["/usr/bin/python3", "-S", "in_flight.py", how]);
    let recorded = recorded.ok().text();
    assert!(!recorded.is_empty(), "{how}");
    assert_eq!(
        folder.live_from_mark("rec"),
        format!("{recorded}exited\n"),
        "{how}"
    );
}

/// Datagrams have their data, and come from where they came from: from the sockets of processes that are there, and from those
/// that were closed since.
#[test]
fn datagrams() {
    arrives("datagrams");
}

/// Messages stay messages, in pairs of sockets and in connections.
#[test]
fn messages() {
    arrives("messages");
}

/// Signals that are blocked stay pending, with who has sent them and the values that they were sent with, and those that were
/// taken do not come again: by a call that waits, by a descriptor, by a handler.
#[test]
fn signals() {
    arrives("signals");
}

/// Descriptors that nobody has received come at their places among the bytes, over pairs of sockets and connections that nobody has
/// accepted: with the offset that they share with others, with what was in them, and with those in what was in them.
#[test]
fn descriptors() {
    arrives("descriptors");
}

/// The same for a user without privileges.
#[test]
fn for_a_user_too() {
    for name in ["datagrams", "messages", "signals", "descriptors"] {
        as_user(&["--exact", &format!("in_flight::{name}")]);
    }
}
