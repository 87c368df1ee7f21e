//! Terminals that stand for those of the recorded program.

use super::local_file::{fill, set_status};
use super::{Description, Prepared, Restorer, Result};
use crate::kernel::PseudoTerminal;
use crate::tracee::{Error, checked_open, terminal_settings};
use nix::fcntl::{FcntlArg, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::pty::{Winsize, openpty};
use nix::sys::termios::{
    InputFlags, LocalFlags, OutputFlags, SetArg, cfmakeraw, tcgetattr, tcsetattr,
};
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

/// The bytes of input that the kernel certainly has in one buffer.
const ONE_BUFFER: usize = 1024;

/// The number in the path of a pseudoterminal.
fn number(path: &[u8]) -> Option<u32> {
    let text = std::str::from_utf8(path.strip_prefix(b"/dev/pts/")?).ok()?;
    text.parse().ok()
}

impl<'a> Restorer<'a, '_> {
    /// Prepares both ends of the pseudoterminals of the family, with their settings and what is in them.
    pub(super) fn make_terminals(
        &mut self,
        all: &[Description<'a>],
        prepared: &mut Prepared,
    ) -> Result<()> {
        let Some(kernel) = self
            .kernel
            .clone()
            .filter(|_| !self.common.masters.is_empty())
        else {
            return Ok(());
        };
        let tid = self.remote.memory().tid();
        let fail = |e: io::Error| Error::os("make a terminal of it again", tid, e);
        let ends = || all.iter().filter(|one| one.stream.is_none());
        for end in ends() {
            let number = match kernel.terminal_of_master(end.id) {
                Some((number, terminal)) => {
                    let Some(master) = self.common.masters.get(&number) else {
                        continue;
                    };
                    let slave = match terminal.is_open {
                        true => self.slave(number, libc::O_RDWR),
                        // The master is told once a slave has been closed.
                        false => None,
                    };
                    let done = settle(master, slave.as_ref(), &terminal);
                    let is_whole = done.map_err(fail)?;
                    let mine = master.try_clone().map_err(fail)?;
                    set_status(&mine, end.file.flags).map_err(fail)?;
                    prepared.insert(end.id, mine);
                    if !is_whole {
                        self.report_lost(end, "not all that was in it is known");
                    }
                    continue;
                }
                None => number(&end.file.path),
            };
            let is_known = number.is_some_and(|one| self.common.masters.contains_key(&one));
            if let Some(number) = number.filter(|_| is_known)
                && let Some(slave) = self.slave(number, end.file.flags)
            {
                prepared.insert(end.id, slave);
            }
        }
        Ok(())
    }

    /// Opens a pseudoterminal as a program would.
    fn slave(&self, number: u32, flags: i32) -> Option<File> {
        let path = format!("/dev/pts/{number}");
        let found = self.root.as_ref()?.find(path.as_bytes(), false)?;
        checked_open::reopen(&found, flags | libc::O_NOCTTY).ok()
    }
}

/// Puts what was on its way into a new pseudoterminal, and gives it its settings. Returns whether that was all of it.
fn settle(master: &File, slave: Option<&File>, terminal: &PseudoTerminal) -> io::Result<bool> {
    let input = [terminal.input.bytes(), terminal.line.clone()].concat();
    let mut is_whole = !terminal.output.incomplete && !terminal.input.incomplete;
    let usual = tcgetattr(master)?;
    match slave {
        Some(slave) => {
            // Nothing is echoed or changed meanwhile.
            let mut raw = usual.clone();
            cfmakeraw(&mut raw);
            tcsetattr(master, SetArg::TCSANOW, &raw)?;
            is_whole &= put(slave, &terminal.output.bytes())?;
        }
        None => is_whole &= terminal.output.is_empty() && input.is_empty(),
    }
    match &terminal.settings {
        Some(settings) => terminal_settings::set(master, settings)?,
        None => tcsetattr(master, SetArg::TCSANOW, &usual)?,
    }
    if let Some(slave) = slave.filter(|_| !input.is_empty()) {
        // Its echo was shown when it was typed, and what was to send a signal has sent it.
        let wanted = tcgetattr(slave)?;
        let mut quiet = wanted.clone();
        quiet
            .local_flags
            .remove(LocalFlags::ECHO | LocalFlags::ECHONL | LocalFlags::ISIG);
        quiet
            .input_flags
            .remove(InputFlags::IMAXBEL | InputFlags::IXON);
        tcsetattr(slave, SetArg::TCSANOW, &quiet)?;
        is_whole &= put(master, &input)?;
        await_input(slave, input.len())?;
        tcsetattr(slave, SetArg::TCSANOW, &wanted)?;
    }
    if let Some(size) = &terminal.size {
        // One that has it already sends no signal.
        terminal_settings::set_size(master, *size)?;
    }
    if terminal.is_packet {
        terminal_settings::set_packet_mode(master)?;
    }
    Ok(is_whole)
}

/// Waits until the line discipline has what was written to the master: a worker of the kernel hands it over, and whatever the
/// settings are then decides on the echo.
fn await_input(slave: &File, written: usize) -> io::Result<()> {
    // As long as there is no input, poll(2) waits for that worker; settings do while it hands over one of the kernel's buffers.
    let mut asked = [PollFd::new(slave.as_fd(), PollFlags::POLLIN)];
    poll(&mut asked, PollTimeout::ZERO)?;
    if written > ONE_BUFFER {
        std::thread::sleep(Duration::from_millis(2));
    }
    Ok(())
}

/// Writes data as far as there is room; returns whether that was all.
fn put(end: &File, data: &[u8]) -> io::Result<bool> {
    if data.is_empty() {
        return Ok(true);
    }
    // It has no other status yet.
    set_status(end, libc::O_NONBLOCK)?;
    let done = fill(end, data)?;
    fcntl(end, FcntlArg::F_SETFL(nix::fcntl::OFlag::empty()))?;
    Ok(done == data.len())
}

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
