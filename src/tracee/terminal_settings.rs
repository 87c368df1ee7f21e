//! Settings of terminals as recorded calls had them: `struct termios` and `struct termios2` of the kernel, not of libc.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

/// `sizeof(struct termios)`.
const TERMIOS: usize = 36;

/// `sizeof(struct termios2)`, and the request with it.
const TERMIOS2: usize = 44;
const TCSETS2: libc::c_ulong = 0x402c_542b;

fn done(ret: i32) -> io::Result<()> {
    match ret {
        0.. => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Sets the settings of a terminal; a structure of another size is none.
///
/// # Errors
/// The kernel's, `EINVAL` for another structure.
pub fn set(terminal: &File, settings: &[u8]) -> io::Result<()> {
    let request = match settings.len() {
        TERMIOS => libc::TCSETS,
        TERMIOS2 => TCSETS2,
        _ => return Err(io::Error::from_raw_os_error(libc::EINVAL)),
    };
    // SAFETY: the kernel reads as many bytes as there are, behind a descriptor that we own.
    done(unsafe { libc::ioctl(terminal.as_raw_fd(), request, settings.as_ptr()) })
}

/// Sets the size of a terminal: `struct winsize`.
///
/// # Errors
/// The kernel's.
pub fn set_size(terminal: &File, size: [u8; 8]) -> io::Result<()> {
    // SAFETY: the kernel reads eight bytes, behind a descriptor that we own.
    done(unsafe { libc::ioctl(terminal.as_raw_fd(), libc::TIOCSWINSZ, size.as_ptr()) })
}

/// Puts the master of a pseudoterminal into packet mode.
///
/// # Errors
/// The kernel's.
pub fn set_packet_mode(master: &File) -> io::Result<()> {
    let on: libc::c_int = 1;
    // SAFETY: the kernel reads one number, behind a descriptor that we own.
    done(unsafe { libc::ioctl(master.as_raw_fd(), libc::TIOCPKT, &raw const on) })
}
