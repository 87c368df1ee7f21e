//! kcmp(2): whether descriptors share an open file, or tasks their descriptors.

/// `KCMP_FILE` and `KCMP_FILES` (linux/kcmp.h).
const FILE: libc::c_int = 0;
const FILES: libc::c_int = 2;

/// Whether two descriptors, each with its task, share an open file; `None` where the kernel is configured without
/// kcmp(2) or forbids it.
pub fn share_file(one: (i32, i32), other: (i32, i32)) -> Option<bool> {
    compare(FILE, one, other)
}

/// Whether two tasks share their table of descriptors; `None` where the kernel does not tell.
pub fn share_descriptors(one: i32, other: i32) -> Option<bool> {
    compare(FILES, (one, 0), (other, 0))
}

fn compare(what: libc::c_int, one: (i32, i32), other: (i32, i32)) -> Option<bool> {
    // SAFETY: kcmp only takes numbers.
    let order = unsafe {
        libc::syscall(
            libc::SYS_kcmp,
            one.0,
            other.0,
            what,
            one.1 as libc::c_ulong,
            other.1 as libc::c_ulong,
        )
    };
    (order >= 0).then_some(order == 0)
}
