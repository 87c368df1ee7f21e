//! A filter of a trace's entries: by task, call, path, failure.

use crate::trace::{Call, CallFiles, DescriptorPaths, Entry, Failed, Predicate, Value};

/// Selects entries of a trace. All conditions must hold; the default selects all entries. The filter must see the
/// entries in order, since it follows descriptors.
#[derive(Default)]
pub struct Filter {
    /// Entries of these tasks; of all tasks where the list is empty.
    pub pids: Vec<i32>,
    /// Calls of these names.
    pub calls: Option<Predicate<str>>,
    /// Calls that operate on such a file.
    pub path: Option<Predicate<CallFiles>>,
    /// Calls that failed.
    pub failed: Option<Failed>,
    /// The open descriptors of the tasks, as far as their calls were seen.
    pub open: DescriptorPaths,
}

impl Filter {
    /// Whether the filter selects all entries.
    pub fn is_all(&self) -> bool {
        self.pids.is_empty() && !self.only_calls()
    }

    /// Whether calls of this name are selected without regard to anything else.
    pub fn is_of_name(&self, name: &str) -> bool {
        self.pids.is_empty()
            && self.path.is_none()
            && self.failed.is_none()
            && self.calls.as_ref().is_none_or(|calls| calls(name))
    }

    fn only_calls(&self) -> bool {
        self.calls.is_some() || self.path.is_some() || self.failed.is_some()
    }

    /// Whether the next entry is selected. `tid` is its task, since the entry may not have it.
    pub fn next(&mut self, tid: i32, entry: &Entry) -> bool {
        let of_these = self.pids.is_empty() || self.pids.contains(&tid);
        match entry {
            Entry::Call(call) => {
                // Descriptors are followed through calls that are not selected, too.
                let path = match &self.path {
                    Some(path) => path(&self.open.next(tid, call)),
                    None => true,
                };
                of_these && path && self.says_yes_to(call)
            }
            Entry::Signal { .. } => of_these && !self.only_calls(),
            Entry::Exit { .. } => {
                self.open.ended(tid);
                of_these && !self.only_calls()
            }
        }
    }

    /// Follows the first part of an unfinished call.
    pub fn begun(&mut self, tid: i32, name: &str, args: &[Value]) {
        if self.path.is_some() {
            self.open.begun(tid, name, args);
        }
    }

    fn says_yes_to(&self, call: &Call) -> bool {
        let calls = self.calls.as_ref().is_none_or(|calls| calls(&call.name));
        calls && self.failed.is_none_or(|failed| failed.is(&call.answer))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::strace;

    const TEXT: &str = r#"7 openat(AT_FDCWD, "/etc/a", O_RDONLY) = 3
8 openat(AT_FDCWD, "/etc/b", O_RDONLY) = 3
7 read(3, "x", 1) = 1
8 read(3, 0x1, 1) = -1 EIO (Input/output error)
8 --- SIGINT {si_signo=SIGINT, si_code=SI_KERNEL} ---
7 dup(3) = 5
7 close(3) = 0
7 write(5, "x", 1) = -1 EBADF (Bad file descriptor)
7 read(3, 0x1, 1) = -1 EBADF (Bad file descriptor)
8 +++ exited with 0 +++
8 close(3) = 0
"#;

    fn lines(mut filter: Filter) -> Vec<usize> {
        let parsed = strace::parse(TEXT.as_bytes(), "text");
        let mut entries = parsed.trace.entries().iter().enumerate();
        std::iter::from_fn(|| entries.find(|(_, entry)| filter.next(entry.tid(), entry)))
            .map(|(i, _)| i + 1)
            .collect()
    }

    #[test]
    fn all_conditions_must_hold() {
        assert_eq!(lines(Filter::default()).len(), 11);
        let of_8 = || Filter {
            pids: vec![8],
            ..Filter::default()
        };
        assert_eq!(lines(of_8()), [2, 4, 5, 10, 11]);
        let failed = |failed| Filter {
            failed: Some(failed),
            ..Filter::default()
        };
        assert_eq!(lines(failed(Failed::Any)), [4, 8, 9]);
        assert_eq!(lines(failed(Failed::With(libc::EBADF))), [8, 9]);
        assert_eq!(
            lines(Filter {
                failed: Some(Failed::Any),
                ..of_8()
            }),
            [4]
        );
        let reads = Filter {
            calls: Some(Box::new(|name| name == "read")),
            ..Filter::default()
        };
        assert_eq!(lines(reads), [3, 4, 9]);
    }

    #[test]
    fn descriptors_are_followed_task_by_task() {
        let path = |wanted: &'static str| Filter {
            path: Some(Box::new(move |about| {
                about.is_meant(|path| path == wanted.as_bytes())
            })),
            ..Filter::default()
        };
        assert_eq!(lines(path("/etc/a")), [1, 3, 6, 7, 8]);
        // The descriptors of an ended task are not those of its successor.
        assert_eq!(lines(path("/etc/b")), [2, 4]);
    }

    /// The lines of a text with calls about this path, read piece by piece.
    fn lines_about(wanted: &'static str, text: &str) -> Vec<u64> {
        use strace::PieceKind;
        let mut filter = Filter {
            path: Some(Box::new(move |about| {
                about.is_meant(|path| path == wanted.as_bytes())
            })),
            ..Filter::default()
        };
        let mut lines = Vec::new();
        for piece in strace::Stream::new(text.as_bytes(), "text") {
            let piece = piece.expect("memory can be read");
            let meant = match &piece.kind {
                PieceKind::Unfinished { tid, name, args } => {
                    filter.begun(*tid, name, args);
                    false
                }
                PieceKind::Entry(entry) | PieceKind::Resumed(entry) => {
                    filter.next(entry.tid(), entry)
                }
                _ => false,
            };
            lines.extend(meant.then_some(piece.line));
        }
        lines
    }

    #[test]
    fn threads_share_descriptors() {
        let text = r#"1 openat(AT_FDCWD, "/a", O_RDONLY) = 3
1 clone(child_stack=0x7f, flags=CLONE_VM|CLONE_FILES|CLONE_THREAD, parent_tid=[2]) = 2
2 read(3, "x", 1) = 1
2 close(3) = 0
1 read(3, 0x1, 1) = -1 EBADF (Bad file descriptor)
2 openat(AT_FDCWD, "/a", O_RDONLY) = 4
1 clone3({flags=CLONE_VM|CLONE_FILES, stack=0x1} => {parent_tid=[3]}, 88) = 3
3 read(4, "x", 1) = 1
2 +++ exited with 0 +++
3 close_range(3, 4294967295, 0) = 0
1 read(4, 0x1, 1) = -1 EBADF (Bad file descriptor)
"#;
        assert_eq!(lines_about("/a", text), [1, 3, 4, 6, 8]);
    }

    #[test]
    fn processes_inherit_descriptors_whether_seen_before_their_fork_returns_or_after() {
        let text = r#"1 openat(AT_FDCWD, "/a", O_RDONLY) = 3
1 vfork( <unfinished ...>
2 read(3, "x", 1) = 1
2 close(3) = 0
2 read(3, 0x1, 1) = -1 EBADF (Bad file descriptor)
1 <... vfork resumed>) = 2
2 read(3, 0x1, 1) = -1 EBADF (Bad file descriptor)
1 read(3, "x", 1) = 1
1 clone(child_stack=NULL, flags=CLONE_CHILD_SETTID|SIGCHLD, child_tidptr=0x1) = 3
1 close(3) = 0
3 read(3, "x", 1) = 1
"#;
        assert_eq!(lines_about("/a", text), [1, 3, 4, 8, 10, 11]);
    }
}
