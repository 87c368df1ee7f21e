//! The process groups of a family, and its pseudoterminals.

use super::ended::{StandIn, lead};
use super::{Entry, Place, Terminal, gone};
use crate::sandbox;
use crate::tracee::spawn::borrow_fd;
use crate::tracee::{Error, Remote, Result, terminal_settings};

impl Entry<'_> {
    /// Opens pseudoterminals of these numbers. Those that cannot be had are missing.
    pub(super) fn open_terminals(
        &mut self,
        at: usize,
        terminals: &[Terminal],
    ) -> sandbox::Result<()> {
        if terminals.is_empty() {
            return Ok(());
        }
        let task = self.members[at].inside.as_mut().ok_or_else(gone)?;
        let tid = task.tid();
        let mut remote = task.remote_at_boundary()?;
        let path = remote.put_str(b"/dev/ptmx")?;
        let word = remote.put(&[0; 8])?;
        let how = (libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC) as u64;
        let mut open = Vec::new();
        while terminals
            .iter()
            .any(|(number, _)| !self.masters.contains_key(number))
        {
            let args = [libc::AT_FDCWD as u64, path, how, 0, 0, 0];
            let Ok(fd) = u64::try_from(remote.call(libc::SYS_openat, args)?) else {
                break;
            };
            open.push(fd);
            let ask = [fd, libc::TIOCGPTN, word, 0, 0, 0];
            if remote.call(libc::SYS_ioctl, ask)? < 0 {
                break;
            }
            let number = remote.memory().word(word)? as u32;
            let known = terminals.iter().find(|(known, _)| *known == number);
            if let Some((_, size)) = known {
                remote.memory().write(word, &[0; 8])?;
                let unlock = [fd, libc::TIOCSPTLCK, word, 0, 0, 0];
                remote.call(libc::SYS_ioctl, unlock)?;
                let master = borrow_fd(tid, fd as i32)?;
                if let Some(size) = size {
                    // Before anybody has it, who would be told of a change.
                    let set = terminal_settings::set_size(&master, *size);
                    set.map_err(|e| Error::os("set the size of a terminal", tid, e))?;
                }
                self.masters.insert(number, master);
            }
        }
        for fd in open {
            remote.call(libc::SYS_close, [fd, 0, 0, 0, 0, 0])?;
        }
        Ok(remote.finish()?)
    }

    /// Makes leaders of the process groups whose own have ended.
    fn lead_groups(&mut self) -> Result<()> {
        for at in 0..self.members.len() {
            let place = self.place(at);
            let is_there = self.members[at].inside.is_some();
            let Some(group) = place.group.filter(|_| is_there && place.outlives_group) else {
                continue;
            };
            let known = self.stand_ins.contains_key(&group);
            if !known && self.stand_in(group, false, at)?.is_none() {
                continue;
            }
            if let Some(StandIn { task, .. }) = self.stand_ins.get_mut(&group) {
                // The leader of a session is that already.
                lead(task, false, true)?;
            }
        }
        Ok(())
    }

    /// Puts all into their process groups.
    pub(super) fn join_groups(&mut self) -> sandbox::Result<()> {
        // Processes that have the group of one that was not made by the family stay together.
        let roots = (0..self.members.len()).filter(|&at| self.parent(at).is_none());
        let outer: Vec<i32> = roots
            .map(|at| self.place(at))
            .filter(|place| !place.outlives_group)
            .filter_map(|place| place.group.filter(|&group| group != place.pid))
            .collect();
        self.lead_groups()?;
        let is_leader = |place: &Place| place.group == Some(place.pid) && !place.leads_session;
        for leads in [true, false] {
            for at in 0..self.members.len() {
                let place = self.place(at);
                let Some(group) = place.group.filter(|group| !outer.contains(group)) else {
                    continue;
                };
                let is_made_inside = self.parent(at).is_some() || self.adopted.contains(&at);
                if is_leader(&place) != leads || !is_made_inside || place.leads_session {
                    continue;
                }
                let Some(task) = self.members[at].inside.as_mut() else {
                    continue;
                };
                let mut remote = task.remote_at_boundary()?;
                let ret = remote.call(libc::SYS_setpgid, [0, group as u64, 0, 0, 0, 0])?;
                remote.finish()?;
                if ret < 0 {
                    let pid = place.pid;
                    self.missing.push(format!(
                        "the process group {group} of process {pid}: it is in its parent's"
                    ));
                }
            }
        }
        for at in 0..self.members.len() {
            let place = self.place(at);
            let (Some(_), Some(group)) = (place.terminal, place.foreground) else {
                continue;
            };
            let Some(task) = self.members[at].inside.as_mut() else {
                continue;
            };
            let mut remote = task.remote_at_boundary()?;
            let path = remote.put_str(b"/dev/tty")?;
            let args = [libc::AT_FDCWD as u64, path, libc::O_RDWR as u64, 0, 0, 0];
            if let Ok(fd) = u64::try_from(remote.call(libc::SYS_openat, args)?) {
                let group = remote.put(&group.to_le_bytes())?;
                let args = [fd, libc::TIOCSPGRP, group, 0, 0, 0];
                remote.call(libc::SYS_ioctl, args)?;
                remote.call(libc::SYS_close, [fd, 0, 0, 0, 0, 0])?;
            }
            remote.finish()?;
        }
        Ok(())
    }
}

/// Makes a pseudoterminal the controlling one of a process, which leads a session.
pub(super) fn control_by(remote: &mut Remote<'_>, number: u32) -> Result<()> {
    remote.reset_scratch();
    let path = remote.put_str(format!("/dev/pts/{number}").as_bytes())?;
    let args = [libc::AT_FDCWD as u64, path, libc::O_RDWR as u64, 0, 0, 0];
    if let Ok(fd) = u64::try_from(remote.call(libc::SYS_openat, args)?) {
        remote.call(libc::SYS_close, [fd, 0, 0, 0, 0, 0])?;
    }
    Ok(())
}
