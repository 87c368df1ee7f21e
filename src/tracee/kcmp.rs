//! kcmp(2): whether descriptors share an open file.

/// Whether two descriptors, each with its task, share an open file; `None` where the kernel is configured without
/// kcmp(2) or forbids it.
pub fn share_file(one: (i32, i32), other: (i32, i32)) -> Option<bool> {
    const KCMP_FILE: libc::c_int = 0;
    // SAFETY: kcmp only takes numbers.
    let order = unsafe {
        libc::syscall(
            libc::SYS_kcmp,
            one.0,
            other.0,
            KCMP_FILE,
            one.1 as libc::c_ulong,
            other.1 as libc::c_ulong,
        )
    };
    (order >= 0).then_some(order == 0)
}
