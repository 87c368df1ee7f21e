//! Terminals that stand for those of the recorded program.

use nix::fcntl::{FcntlArg, fcntl};
use nix::pty::{Winsize, openpty};
use nix::sys::termios::{LocalFlags, OutputFlags, SetArg, tcgetattr, tcsetattr};
use std::fs::File;
use std::io;
use std::os::fd::AsFd;

/// Makes a terminal: its slave and its master. Output passes through unchanged.
pub(super) fn terminal() -> io::Result<(File, File)> {
    let size = Winsize {
        ws_row: 24,
        ws_col: 80,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    let pair = openpty(&size, None)?;
    let mut settings = tcgetattr(&pair.slave)?;
    settings.output_flags.remove(OutputFlags::OPOST);
    settings.local_flags.remove(LocalFlags::ECHO);
    tcsetattr(&pair.slave, SetArg::TCSANOW, &settings)?;
    for end in [&pair.master, &pair.slave] {
        fcntl(
            end.as_fd(),
            FcntlArg::F_SETFD(nix::fcntl::FdFlag::FD_CLOEXEC),
        )?;
    }
    Ok((pair.slave.into(), pair.master.into()))
}
