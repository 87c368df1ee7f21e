//! The files that calls name: the path arguments, the directories in which they begin, and whether a symbolic link at
//! the end of a path is followed.

use super::{Format, Memory, Syscall};

/// A file that a call names by a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NamedFile {
    /// The index of the argument that is the path.
    pub path: usize,
    /// The index of the argument that is the directory in which a relative path begins; `None` for the current
    /// directory.
    pub dir: Option<usize>,
}

/// The offset of the `resolve` member in struct open_how.
const HOW_RESOLVE: u64 = 16;

impl Syscall {
    /// The files that the call names by paths. Text that only looks like a path (the target of a symbolic link) is left
    /// out.
    pub fn named_files(&self) -> impl Iterator<Item = NamedFile> {
        let paths = self.path_args().into_iter();
        paths.filter(|&path| self.is_resolved(path)).map(|path| {
            let before = path.checked_sub(1).and_then(|at| self.args.get(at));
            let is_dir = before.is_some_and(|arg| {
                arg.kind.is_format(|f| matches!(f, Format::DirFd)) || arg.name == "dirfd"
            });
            let dir = path.checked_sub(1).filter(|_| is_dir);
            NamedFile { path, dir }
        })
    }

    /// The descriptor arguments of the files that the call is about, if it names none by a path: the first descriptor,
    /// and the other end of the data that it moves.
    pub fn file_args(&self) -> Vec<usize> {
        let first = self.fd_arg();
        let ends = ["fd_in", "fd_out", "in_fd", "out_fd", "src_fd"].iter();
        let ends = ends.filter_map(|name| self.arg(name));
        let ends = ends.filter(|&end| Some(end) != first);
        first.into_iter().chain(ends).collect()
    }

    /// Returns whether the kernel looks for a file at the path in this argument.
    fn is_resolved(&self, path: usize) -> bool {
        let name = self.args.get(path).map(|arg| arg.name);
        !matches!(
            (self.name, name),
            ("symlink" | "symlinkat", Some("target")) | ("mq_open" | "mq_unlink", _)
        )
    }

    /// Returns whether the kernel follows a symbolic link at the end of this path; `mem` is memory as at entry.
    pub fn follows_link(&self, file: NamedFile, args: &[u64; 6], mem: &dyn Memory) -> bool {
        let value = |name: &str| self.arg(name).map_or(0, |arg| args[arg]);
        let has = |name: &str, flag: i32| value(name) as i32 & flag != 0;
        let is_second = self.named_files().next() != Some(file);
        match self.name {
            "lstat" | "readlink" | "readlinkat" | "unlink" | "unlinkat" | "rmdir" | "mkdir"
            | "mkdirat" | "mknod" | "mknodat" | "rename" | "renameat" | "renameat2" | "link"
            | "symlink" | "symlinkat" | "lchown" | "lsetxattr" | "lgetxattr" | "llistxattr"
            | "lremovexattr" => false,
            "linkat" => !is_second && has("flags", libc::AT_SYMLINK_FOLLOW),
            "name_to_handle_at" => has("flags", libc::AT_SYMLINK_FOLLOW),
            "move_mount" => has("flags", if is_second { 0x10 } else { 0x1 }),
            "open" | "openat" => follows_when_opened(value("flags") as i32),
            "openat2" => {
                let mut flags = [0; 8];
                mem.read(value("how"), &mut flags);
                follows_when_opened(u64::from_le_bytes(flags) as i32)
            }
            "umount2" => !has("flags", libc::UMOUNT_NOFOLLOW),
            "inotify_add_watch" => !has("mask", libc::IN_DONT_FOLLOW as i32),
            "fanotify_mark" => !has("flags", libc::FAN_MARK_DONT_FOLLOW as i32),
            "fspick" => !has("flags", 2),
            "faccessat" | "fchmodat" | "futimesat" => true,
            _ if file.dir.is_some() => !has("flags", libc::AT_SYMLINK_NOFOLLOW),
            _ => true,
        }
    }

    /// Returns whether the directory in which a path begins is the root of the path's resolution (`RESOLVE_IN_ROOT`).
    pub fn is_shut_in(&self, args: &[u64; 6], mem: &dyn Memory) -> bool {
        const RESOLVE_IN_ROOT: u64 = 0x10;
        let Some(how) = self.arg("how").filter(|_| self.name == "openat2") else {
            return false;
        };
        let mut resolve = [0; 8];
        mem.read(args[how].wrapping_add(HOW_RESOLVE), &mut resolve);
        u64::from_le_bytes(resolve) & RESOLVE_IN_ROOT != 0
    }
}

fn follows_when_opened(flags: i32) -> bool {
    const NEW: i32 = libc::O_CREAT | libc::O_EXCL;
    flags & libc::O_NOFOLLOW == 0 && flags & NEW != NEW
}

#[cfg(test)]
mod tests {
    use crate::syscall::{Memory, by_name, names};

    struct Nothing;

    impl Memory for Nothing {
        fn read(&self, _addr: u64, _buf: &mut [u8]) -> usize {
            0
        }
    }

    #[test]
    fn paths_begin_where_the_argument_before_says() {
        let dirs = |name: &str| -> Vec<(usize, Option<usize>)> {
            let call = by_name(name).unwrap();
            call.named_files()
                .map(|file| (file.path, file.dir))
                .collect()
        };
        assert_eq!(dirs("open"), [(0, None)]);
        assert_eq!(dirs("openat"), [(1, Some(0))]);
        assert_eq!(dirs("renameat2"), [(1, Some(0)), (3, Some(2))]);
        assert_eq!(dirs("symlinkat"), [(2, Some(1))]);
        assert_eq!(dirs("fanotify_mark"), [(4, Some(3))]);
        assert_eq!(dirs("inotify_add_watch"), [(1, None)]);
        let is_at = |name: &&str| {
            name.strip_suffix("at")
                .is_some_and(|of| by_name(of).is_some())
        };
        let mut seen = 0;
        for name in names().filter(is_at) {
            let call = by_name(name).unwrap();
            assert!(call.named_files().all(|file| file.dir.is_some()), "{name}");
            seen += 1;
        }
        assert!(seen > 8, "{seen}");
    }

    #[test]
    fn links_are_followed_as_the_kernel_does() {
        let follows = |name: &str, flags: i32| {
            let call = by_name(name).unwrap();
            let mut args = [0; 6];
            if let Some(at) = call.arg("flags") {
                args[at] = flags as u64;
            }
            let file = call.named_files().next().unwrap();
            call.follows_link(file, &args, &Nothing)
        };
        assert!(follows("stat", 0) && !follows("lstat", 0) && !follows("unlink", 0));
        assert!(follows("open", 0) && !follows("open", libc::O_NOFOLLOW));
        assert!(follows("openat", libc::O_CREAT));
        assert!(!follows("openat", libc::O_CREAT | libc::O_EXCL));
        assert!(follows("newfstatat", 0) && !follows("newfstatat", libc::AT_SYMLINK_NOFOLLOW));
        assert!(!follows("linkat", 0) && follows("linkat", libc::AT_SYMLINK_FOLLOW));
        assert!(follows("chmod", 0) && follows("faccessat", 0) && !follows("rename", 0));
    }
}
