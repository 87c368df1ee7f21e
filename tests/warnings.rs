//! What a recorded program is told otherwise than the kernel would tell it is said once.

use crate::common::{Folder, as_user};
use std::os::unix::fs::PermissionsExt;

/// What rrapper says of a recording, with its warnings.
fn said(folder: &Folder, name: &str, argv: &[&str]) -> String {
    let output = folder
        .command(env!("CARGO_BIN_EXE_rrapper"))
        .env("RRAPPER_LOG", "warn")
        .args(["record", "-o", name, "--"])
        .args(argv)
        .output()
        .unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{text}");
    text
}

#[test]
fn calls_that_are_answered_otherwise() {
    let folder = Folder::new();
    let program = folder.compile("otherwise", &[]);
    let text = said(&folder, "calls", &[&program]);
    for line in [
        "userfaultfd(0) is answered with ENOSYS",
        "io_setup(8, 0x",
        "uselib(\"nothing\") is answered with ENOSYS",
        "memfd_secret(0) is answered with ENOSYS",
        "socket:[",
        "prctl(PR_SET_TSC, PR_TSC_SIGSEGV) is answered with EINVAL",
        "ptrace(PTRACE_TRACEME) is answered with EPERM",
        "remap_file_pages(0x",
        "bpf(BPF_MAP_LOOKUP_ELEM, ",
    ] {
        assert_eq!(text.matches(line).count(), 1, "{line}: {text}");
    }
    folder.rrapper(["replay", "calls"]).ok();
    // All programs ask for these.
    assert!(
        !text.contains("rseq") && !text.contains("io_uring"),
        "{text}"
    );
}

#[test]
fn ordinary_programs_are_told_nothing_else() {
    let folder = Folder::new();
    let text = said(&folder, "quiet", &["sh", "-c", "ls / | head -1; date"]);
    assert!(!text.contains("WARN"), "{text}");
}

/// Run by the test below as a user without privileges.
#[test]
fn as_user_programs_without_their_rights() {
    if nix::unistd::geteuid().is_root() {
        return as_user(&["--exact", "warnings::as_user_programs_without_their_rights"]);
    }
    let folder = Folder::new();
    // Its group is the one that runs it, and its owner, too: nothing is lacking.
    let own = folder.join("own");
    std::fs::copy("/bin/true", &own).unwrap();
    std::fs::set_permissions(&own, PermissionsExt::from_mode(0o6755)).unwrap();
    let text = said(&folder, "owned", &[own.to_str().unwrap()]);
    assert!(!text.contains("without the rights"), "{text}");
    // A program of the system's that is root's.
    let others = ["/usr/bin/su", "/bin/su", "/usr/bin/passwd"];
    let is_there = |path: &&&str| {
        let meta = std::fs::metadata(path);
        meta.is_ok_and(|meta| meta.permissions().mode() & 0o4000 != 0)
    };
    let other = others.iter().find(is_there).expect("a set-user-ID program");
    let twice = format!("{other} --help; {other} --help; true");
    let text = said(&folder, "others", &["sh", "-c", &twice]);
    assert_eq!(text.matches("without the rights").count(), 1, "{text}");
}
