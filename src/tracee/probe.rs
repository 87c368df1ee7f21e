//! Probes of the kernel's features by raw calls, without lasting effects.

use std::fs::File;
use std::io::{Error, Result};
use std::os::fd::{AsRawFd, FromRawFd};

/// Checks that reading the time stamp counter can be trapped (`prctl(PR_SET_TSC)`).
///
/// # Errors
/// The kernel's error, if it cannot.
pub fn counter_can_be_hidden() -> Result<()> {
    // SAFETY: prctl(2) with numbers. No instruction of ours reads the counter between the two calls.
    unsafe {
        if libc::prctl(libc::PR_SET_TSC, libc::PR_TSC_SIGSEGV, 0, 0, 0) != 0 {
            return Err(Error::last_os_error());
        }
        if libc::prctl(libc::PR_SET_TSC, libc::PR_TSC_ENABLE, 0, 0, 0) != 0 {
            return Err(Error::last_os_error());
        }
    }
    Ok(())
}

/// Makes `to` share the blocks of `from`, if the file system can (ioctl `FICLONE`).
///
/// # Errors
/// The kernel's error, if it cannot.
pub fn share_content(from: &File, to: &File) -> Result<()> {
    // SAFETY: FICLONE takes a descriptor as its argument and touches no memory.
    match unsafe { libc::ioctl(to.as_raw_fd(), libc::FICLONE, from.as_raw_fd()) } {
        0 => Ok(()),
        _ => Err(Error::last_os_error()),
    }
}

/// The number of branches that the processor counts in a loop (perf_event_open(2)).
///
/// # Errors
/// The kernel's error, if there is no such counter.
pub fn count_branches() -> Result<u64> {
    const PERF_TYPE_HARDWARE: u32 = 0;
    const PERF_COUNT_HW_BRANCH_INSTRUCTIONS: u64 = 4;
    const PERF_FLAG_FD_CLOEXEC: u64 = 1 << 3;
    const EXCLUDE_KERNEL_AND_HYPERVISOR: u64 = 1 << 5 | 1 << 6;
    // struct perf_event_attr in its first version: type, size, config, …, flags at 40.
    let mut attributes = [0u8; 64];
    attributes[0..4].copy_from_slice(&PERF_TYPE_HARDWARE.to_ne_bytes());
    attributes[4..8].copy_from_slice(&64u32.to_ne_bytes());
    attributes[8..16].copy_from_slice(&PERF_COUNT_HW_BRANCH_INSTRUCTIONS.to_ne_bytes());
    attributes[40..48].copy_from_slice(&EXCLUDE_KERNEL_AND_HYPERVISOR.to_ne_bytes());
    // SAFETY: the attributes live for the call, and say how long they are; the descriptor is owned at once.
    let mut counter = unsafe {
        let fd = libc::syscall(
            libc::SYS_perf_event_open,
            attributes.as_ptr(),
            0,
            -1,
            -1,
            PERF_FLAG_FD_CLOEXEC,
        );
        if fd < 0 {
            return Err(Error::last_os_error());
        }
        File::from_raw_fd(fd as i32)
    };
    for n in 0..10_000u32 {
        std::hint::black_box(n);
    }
    let mut count = [0; 8];
    std::io::Read::read_exact(&mut counter, &mut count)?;
    Ok(u64::from_ne_bytes(count))
}
