//! ioctl of the console, without changing anything about it. Only root may open it, and not every machine has one.

use super::super::run::Case;
use super::super::setup::Setup;
use super::case;
use std::os::fd::IntoRawFd;
use std::os::unix::fs::OpenOptionsExt;

/// The console, or what stands in for it.
fn console(s: &Setup) -> u64 {
    let opened = std::fs::File::options()
        .read(true)
        .custom_flags(libc::O_NOCTTY | libc::O_NONBLOCK)
        .open("/dev/tty0");
    opened.map_or_else(|_| s.stand_in(), |file| file.into_raw_fd() as u64)
}

pub fn cases() -> Vec<Case> {
    vec![
        case("ioctl", "KDGKBTYPE", |s| vec![console(s), 0x4b33, s.out(1)]),
        case("ioctl", "KDGETLED", |s| vec![console(s), 0x4b31, s.out(1)]),
        case("ioctl", "KDGKBLED", |s| vec![console(s), 0x4b64, s.out(1)]),
        case("ioctl", "KDGETMODE", |s| vec![console(s), 0x4b3b, s.out(4)]),
        case("ioctl", "KDGKBMODE", |s| vec![console(s), 0x4b44, s.out(4)]),
        case("ioctl", "KDGKBMETA", |s| vec![console(s), 0x4b62, s.out(4)]),
        case("ioctl", "KDGKBENT", |s| {
            vec![console(s), 0x4b46, s.bytes(&[0, 30, 0, 0])]
        }),
        case("ioctl", "KDGETKEYCODE", |s| {
            vec![console(s), 0x4b4c, s.ints(&[30, 0])]
        }),
        case("ioctl", "KDKBDREP", |s| {
            vec![console(s), 0x4b52, s.ints(&[0, 0])]
        }),
        case("ioctl", "GIO_SCRNMAP", |s| {
            vec![console(s), 0x4b40, s.out(256)]
        }),
        case("ioctl", "GIO_UNISCRNMAP", |s| {
            vec![console(s), 0x4b69, s.out(512)]
        }),
        case("ioctl", "GIO_FONT", |s| {
            vec![console(s), 0x4b60, s.out(8192)]
        }),
        case("ioctl", "GIO_CMAP", |s| vec![console(s), 0x4b70, s.out(48)]),
        case("ioctl", "VT_OPENQRY", |s| {
            vec![console(s), 0x5600, s.out(4)]
        }),
        case("ioctl", "VT_GETMODE", |s| {
            vec![console(s), 0x5601, s.out(8)]
        }),
        case("ioctl", "VT_GETSTATE", |s| {
            vec![console(s), 0x5603, s.out(6)]
        }),
        case("ioctl", "VT_GETHIFONTMASK", |s| {
            vec![console(s), 0x560d, s.out(2)]
        }),
    ]
}
