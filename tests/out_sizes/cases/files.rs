//! Files, folders and descriptors.

use super::super::run::Case;
use super::super::setup::{HERE, arg};
use super::{case, fails};

pub fn cases() -> Vec<Case> {
    let mut all = data();
    all.extend(names());
    all.extend(attributes());
    all.extend(descriptors());
    all
}

fn data() -> Vec<Case> {
    vec![
        case("read", "a pipe", |s| {
            vec![s.pipe_of(b"hello"), s.out(64), 64]
        }),
        case("read", "a file's end", |s| vec![s.file(b""), s.out(64), 64]),
        case("read", "an eventfd", |s| {
            vec![s.fd(libc::SYS_eventfd2, &[7, 0]), s.out(16), 16]
        }),
        case("read", "nothing", |s| {
            vec![s.pipe_of(b"hello"), s.out(8), 0]
        }),
        case("read", "a watch", |s| {
            let fd = s.fd(libc::SYS_inotify_init1, &[0]);
            let here = s.path(".");
            assert!(s.call(libc::SYS_inotify_add_watch, &[fd, here, 0xfff]) > 0);
            std::fs::write("new", "x").unwrap();
            vec![fd, s.out(4096), 4096]
        }),
        case("read", "a signal", |s| {
            s.block(libc::SIGUSR1, true);
            let set = s.signals(libc::SIGUSR1);
            vec![
                s.fd(libc::SYS_signalfd4, &[u64::MAX, set, 8, 0]),
                s.out(256),
                256,
            ]
        }),
        fails("read", "an empty pipe", libc::EAGAIN, |s| {
            let (reader, _) = s.pipe();
            s.call(
                libc::SYS_fcntl,
                &[reader, libc::F_SETFL as u64, libc::O_NONBLOCK as u64],
            );
            vec![reader, s.out(64), 64]
        }),
        case("write", "", |s| vec![s.file(b""), s.bytes(b"hello"), 5]),
        case("pread64", "", |s| {
            vec![s.file(b"hello world"), s.out(64), 64, 6]
        }),
        case("pwrite64", "", |s| {
            vec![s.file(b"hello"), s.bytes(b"w"), 1, 2]
        }),
        case("readv", "into two buffers", |s| {
            let parts = [(s.out(3), 3), (s.out(0x40), 0x40)];
            vec![s.pipe_of(b"hello"), s.vector(&parts), 2]
        }),
        case("readv", "into the first of two buffers", |s| {
            let parts = [(s.out(8), 8), (s.out(8), 8)];
            vec![s.pipe_of(b"hello"), s.vector(&parts), 2]
        }),
        case("writev", "", |s| {
            let parts = [(s.bytes(b"ab"), 2), (s.bytes(b"cde"), 3)];
            vec![s.file(b""), s.vector(&parts), 2]
        }),
        case("preadv", "", |s| {
            let parts = [(s.out(2), 2), (s.out(10), 10)];
            vec![s.file(b"hello world"), s.vector(&parts), 2, 4]
        }),
        case("preadv2", "", |s| {
            let parts = [(s.out(2), 2), (s.out(10), 10)];
            vec![s.file(b"hello world"), s.vector(&parts), 2, 4, 0, 0]
        }),
        case("pwritev", "", |s| {
            let parts = [(s.bytes(b"ab"), 2)];
            vec![s.file(b"0123456"), s.vector(&parts), 1, 2]
        }),
        case("pwritev2", "", |s| {
            let parts = [(s.bytes(b"ab"), 2)];
            vec![s.file(b"0123456"), s.vector(&parts), 1, 2, 0, 0]
        }),
        case("sendfile", "from an offset", |s| {
            let (_, to) = s.pipe();
            vec![to, s.file(b"hello world"), s.longs(&[6]), 5]
        }),
        case("sendfile", "from where it is", |s| {
            let (_, to) = s.pipe();
            vec![to, s.file(b"hello world"), 0, 5]
        }),
        case("splice", "from an offset", |s| {
            let (_, to) = s.pipe();
            vec![s.file(b"hello world"), s.longs(&[6]), to, 0, 5, 0]
        }),
        case("splice", "to an offset", |s| {
            vec![
                s.pipe_of(b"hello"),
                0,
                s.file(b"hello world"),
                s.longs(&[3]),
                5,
                0,
            ]
        }),
        case("tee", "", |s| {
            let (_, to) = s.pipe();
            vec![s.pipe_of(b"hello"), to, 5, 0]
        }),
        case("vmsplice", "into a pipe", |s| {
            let (_, to) = s.pipe();
            let parts = [(s.bytes(b"hello"), 5)];
            vec![to, s.vector(&parts), 1, 0]
        }),
        case("copy_file_range", "from and to offsets", |s| {
            let from = s.file(b"hello world");
            std::fs::write("other", "").unwrap();
            let to = std::fs::File::options().write(true).open("other").unwrap();
            let to = arg(std::os::fd::IntoRawFd::into_raw_fd(to));
            vec![from, s.longs(&[6]), to, s.longs(&[1]), 5, 0]
        }),
        case("lseek", "", |s| vec![s.file(b"hello"), 3, 0]),
        case("truncate", "", |s| vec![s.some_file(), 3]),
        case("ftruncate", "", |s| vec![s.file(b"hello"), 2]),
        case("fsync", "", |s| vec![s.file(b"hello")]),
        case("fdatasync", "", |s| vec![s.file(b"hello")]),
        case("flock", "", |s| {
            vec![s.file(b"hello"), libc::LOCK_EX as u64]
        }),
        case("fallocate", "", |s| vec![s.file(b"hello"), 0, 0, 100]),
        case("fadvise64", "", |s| vec![s.file(b"hello"), 0, 100, 3]),
        case("readahead", "", |s| vec![s.file(b"hello"), 0, 5]),
        case("sync_file_range", "", |s| vec![s.file(b"hello"), 0, 5, 2]),
        case("cachestat", "", |s| {
            vec![s.file(b"hello"), s.longs(&[0, 4096]), s.out(40), 0]
        }),
        case("mmap", "a file", |s| {
            vec![0, 4096, 1, 2, s.file(b"hello"), 0]
        }),
        case("msync", "", |s| vec![s.page(), 4096, 4]),
        case("getdents", "", |s| vec![s.dir(), s.out(1024), 1024]),
        case("getdents64", "", |s| vec![s.dir(), s.out(1024), 1024]),
        case("getdents64", "in small portions", |s| {
            vec![s.dir(), s.out(48), 48]
        }),
    ]
}

fn names() -> Vec<Case> {
    vec![
        case("open", "", |s| vec![s.some_file(), libc::O_RDONLY as u64]),
        case("open", "to create", |s| {
            vec![
                s.path("new"),
                (libc::O_CREAT | libc::O_WRONLY) as u64,
                0o600,
            ]
        }),
        case("openat", "", |s| vec![HERE, s.some_file(), 0]),
        case("openat2", "", |s| {
            vec![HERE, s.some_file(), s.longs(&[0, 0, 0]), 24]
        }),
        case("creat", "", |s| vec![s.path("new"), 0o600]),
        case("access", "", |s| vec![s.some_file(), 4]),
        case("faccessat", "", |s| vec![HERE, s.some_file(), 4]),
        case("faccessat2", "", |s| vec![HERE, s.some_file(), 4, 0x200]),
        case("getcwd", "", |s| vec![s.out(4096), 4096]),
        case("chdir", "", |s| vec![s.some_dir()]),
        case("fchdir", "", |s| vec![s.dir()]),
        case("chroot", "", |s| vec![s.some_dir()]),
        case("rename", "", |s| vec![s.some_file(), s.path("new")]),
        case("renameat", "", |s| {
            vec![HERE, s.some_file(), HERE, s.path("new")]
        }),
        case("renameat2", "", |s| {
            vec![HERE, s.some_file(), HERE, s.path("new"), 1]
        }),
        case("mkdir", "", |s| vec![s.path("new"), 0o700]),
        case("mkdirat", "", |s| vec![HERE, s.path("new"), 0o700]),
        case("rmdir", "", |s| vec![s.some_dir()]),
        case("link", "", |s| vec![s.some_file(), s.path("new")]),
        case("linkat", "", |s| {
            vec![HERE, s.some_file(), HERE, s.path("new"), 0]
        }),
        case("unlink", "", |s| vec![s.some_file()]),
        case("unlinkat", "", |s| vec![HERE, s.some_file(), 0]),
        case("symlink", "", |s| vec![s.path("nowhere"), s.path("new")]),
        case("symlinkat", "", |s| {
            vec![s.path("nowhere"), HERE, s.path("new")]
        }),
        case("readlink", "", |s| vec![s.some_link(), s.out(64), 64]),
        case("readlink", "cut", |s| vec![s.some_link(), s.out(2), 2]),
        case("readlinkat", "", |s| {
            vec![HERE, s.some_link(), s.out(64), 64]
        }),
        case("chmod", "", |s| vec![s.some_file(), 0o600]),
        case("fchmod", "", |s| vec![s.file(b""), 0o600]),
        case("fchmodat", "", |s| vec![HERE, s.some_file(), 0o600]),
        case("fchmodat2", "", |s| vec![HERE, s.some_file(), 0o600, 0]),
        case("chown", "", |s| vec![s.some_file(), u64::MAX, u64::MAX]),
        case("fchown", "", |s| vec![s.file(b""), u64::MAX, u64::MAX]),
        case("lchown", "", |s| vec![s.some_link(), u64::MAX, u64::MAX]),
        case("fchownat", "", |s| {
            vec![HERE, s.some_file(), u64::MAX, u64::MAX, 0]
        }),
        case("umask", "", |_| vec![0o22]),
        case("mknod", "a pipe", |s| {
            vec![s.path("new"), u64::from(libc::S_IFIFO) | 0o600, 0]
        }),
        case("mknodat", "a pipe", |s| {
            vec![HERE, s.path("new"), u64::from(libc::S_IFIFO) | 0o600, 0]
        }),
        case("name_to_handle_at", "", |s| {
            let mut handle = [0u8; 8 + 128];
            handle[0] = 128;
            vec![HERE, s.some_file(), s.bytes(&handle), s.out(4), 0]
        }),
        fails(
            "name_to_handle_at",
            "to ask for the size",
            libc::EOVERFLOW,
            |s| vec![HERE, s.some_file(), s.bytes(&[0; 8]), s.out(4), 0],
        ),
    ]
}

fn attributes() -> Vec<Case> {
    vec![
        case("stat", "a file", |s| vec![s.some_file(), s.out(144)]),
        case("stat", "a device", |s| {
            vec![s.path("/dev/null"), s.out(144)]
        }),
        fails("stat", "nothing", libc::ENOENT, |s| {
            vec![s.path("nothing"), s.out(144)]
        }),
        case("fstat", "", |s| vec![s.file(b"hello"), s.out(144)]),
        case("lstat", "", |s| vec![s.some_link(), s.out(144)]),
        case("newfstatat", "", |s| {
            vec![HERE, s.some_file(), s.out(144), 0]
        }),
        case("statx", "", |s| {
            vec![HERE, s.some_file(), 0, 0xfff, s.out(256)]
        }),
        case("statx", "everything", |s| {
            vec![HERE, s.some_file(), 0, 0x7fff_ffff, s.out(256)]
        }),
        case("statfs", "", |s| vec![s.path("."), s.out(120)]),
        case("fstatfs", "", |s| vec![s.file(b""), s.out(120)]),
        case("ustat", "", |s| {
            let device = std::os::unix::fs::MetadataExt::dev(&std::fs::metadata(".").unwrap());
            vec![device, s.out(32)]
        }),
        case("sysfs", "a number by name", |s| vec![1, s.path("proc")]),
        case("sysfs", "a name by number", |s| vec![2, 0, s.out(64)]),
        case("sysfs", "how many", |_| vec![3]),
        case("utime", "", |s| vec![s.some_file(), s.longs(&[1, 2])]),
        case("utimes", "", |s| {
            vec![s.some_file(), s.longs(&[1, 2, 3, 4])]
        }),
        case("futimesat", "", |s| {
            vec![HERE, s.some_file(), s.longs(&[1, 2, 3, 4])]
        }),
        case("utimensat", "", |s| {
            vec![HERE, s.some_file(), s.longs(&[1, 2, 3, 4]), 0]
        }),
        case("setxattr", "", |s| {
            vec![s.some_file(), s.path("user.x"), s.bytes(b"abc"), 3, 0]
        }),
        case("lsetxattr", "", |s| {
            vec![s.some_file(), s.path("user.x"), s.bytes(b"abc"), 3, 0]
        }),
        case("fsetxattr", "", |s| {
            vec![s.file(b""), s.path("user.x"), s.bytes(b"abc"), 3, 0]
        }),
        case("getxattr", "", |s| {
            vec![s.some_file(), named(s), s.out(16), 16]
        }),
        case("getxattr", "its size", |s| {
            vec![s.some_file(), named(s), 0, 0]
        }),
        case("lgetxattr", "", |s| {
            vec![s.some_file(), named(s), s.out(16), 16]
        }),
        case("fgetxattr", "", |s| {
            vec![s.file(b""), named(s), s.out(16), 16]
        }),
        case("listxattr", "", |s| vec![attributed(s), s.out(64), 64]),
        case("llistxattr", "", |s| vec![attributed(s), s.out(64), 64]),
        case("flistxattr", "", |s| {
            attributed(s);
            vec![s.open("file"), s.out(64), 64]
        }),
        case("removexattr", "", |s| vec![attributed(s), s.path("user.x")]),
        case("lremovexattr", "", |s| {
            vec![attributed(s), s.path("user.x")]
        }),
        case("fremovexattr", "", |s| {
            attributed(s);
            vec![s.open("file"), s.path("user.x")]
        }),
        case("setxattrat", "", |s| {
            let value = s.bytes(b"abc");
            let how = s.longs(&[value, 3]);
            vec![HERE, s.some_file(), 0, s.path("user.x"), how, 16]
        }),
        case("getxattrat", "", |s| {
            let file = attributed(s);
            let room = s.out(16);
            vec![HERE, file, 0, s.path("user.x"), s.longs(&[room, 16]), 16]
        }),
        case("listxattrat", "", |s| {
            vec![HERE, attributed(s), 0, s.out(64), 64]
        }),
        case("removexattrat", "", |s| {
            vec![HERE, attributed(s), 0, s.path("user.x")]
        }),
    ]
}

/// The path of a file with an attribute.
fn attributed(s: &mut super::super::setup::Setup) -> u64 {
    let file = s.some_file();
    named(s);
    file
}

/// The name of an attribute that the file has.
fn named(s: &mut super::super::setup::Setup) -> u64 {
    let (file, name, value) = (s.path("file"), s.path("user.x"), s.bytes(b"abc"));
    s.call(libc::SYS_setxattr, &[file, name, value, 3, 0]);
    name
}

fn descriptors() -> Vec<Case> {
    vec![
        case("close", "", |s| vec![s.file(b"")]),
        case("close_range", "", |_| vec![500, 600, 0]),
        case("pipe", "", |s| vec![s.out(8)]),
        case("pipe2", "", |s| vec![s.out(8), libc::O_CLOEXEC as u64]),
        case("dup", "", |_| vec![2]),
        case("dup2", "", |_| vec![2, 90]),
        case("dup3", "", |_| vec![2, 90, libc::O_CLOEXEC as u64]),
        case("eventfd", "", |_| vec![1]),
        case("eventfd2", "", |_| vec![1, 0]),
        case("memfd_create", "", |s| vec![s.path("name"), 0]),
        case("memfd_secret", "", |_| vec![0]),
        case("signalfd", "", |s| vec![u64::MAX, s.signals(10), 8]),
        case("signalfd4", "", |s| vec![u64::MAX, s.signals(10), 8, 0]),
        case("inotify_init", "", |_| vec![]),
        case("inotify_init1", "", |_| vec![0]),
        case("inotify_add_watch", "", |s| {
            vec![s.fd(libc::SYS_inotify_init1, &[0]), s.path("."), 0xfff]
        }),
        case("inotify_rm_watch", "", |s| {
            let (fd, here) = (s.fd(libc::SYS_inotify_init1, &[0]), s.path("."));
            vec![
                fd,
                s.call(libc::SYS_inotify_add_watch, &[fd, here, 0xfff]) as u64,
            ]
        }),
        case("fanotify_init", "", |_| vec![0, 0]),
        case("epoll_create", "", |_| vec![5]),
        case("epoll_create1", "", |_| vec![0]),
        case("syncfs", "", |s| vec![s.open("/proc/self")]),
        case("getpid", "", |_| vec![]),
    ]
}
