//! Processes that have ended: those that were not waited for, and stand-ins for those that the places of others come from.

use super::{Ended, Entry, Place, gone};
use crate::constants::default_action::is_fatal;
use crate::process::thread::SignalAction;
use crate::sandbox;
use crate::trace::Exit;
use crate::tracee::{Error, Remote, Result, Stopped};

/// A process in the place of one that has ended and that others descend from, or that led their session or process group. It
/// ends when they have that.
pub(super) struct StandIn {
    pub task: Stopped,
    /// The index of its parent.
    pub maker: usize,
    /// Its end, if its parent has not waited for it.
    ended: Option<Ended>,
}

impl StandIn {
    /// Lets it end, as a child of this process, which may have been told of that end.
    pub(super) fn dismiss(self, number: i32, maker: &mut Stopped, is_told: bool) -> Result<()> {
        if let Some(ended) = self.ended {
            let exit = ended.exit;
            let signals = told_by(&ended);
            return among_children(maker, (signals, is_told), |_| end(self.task, exit, false));
        }
        end(self.task, Exit::Code(0), false)?;
        let mut remote = maker.remote_at_boundary()?;
        let args = [number as u64, 0, libc::__WALL as u64, 0, 0, 0];
        remote.call(libc::SYS_wait4, args)?;
        remote.finish()
    }
}

impl Entry<'_> {
    /// The number of a process that is made to be this one's parent for a while, and the index of that process's own parent:
    /// where one that has ended led its session or was its parent. `None` where it needs none, or there cannot be one.
    pub(super) fn stand_in_for(
        &mut self,
        at: usize,
        parent: Option<usize>,
    ) -> Result<Option<(i32, usize)>> {
        let place = self.place(at);
        let is_inside = |&at: &usize| self.members[at].inside.is_some();
        let has_session = |at: usize| self.place(at).session == place.session;
        let (number, leads, maker) = match (place.outlives_session, place.session, parent) {
            (true, Some(session), _) if !parent.is_some_and(has_session) => {
                (session, true, parent.unwrap_or(self.first))
            }
            (_, _, Some(_)) => return Ok(None),
            _ if place.leads_session => return Ok(None),
            _ => {
                let Some(number) = place.orphan_of else {
                    return Ok(None);
                };
                let all = 0..self.members.len();
                let leader = { all }.find(|&at| Some(self.place(at).pid) == place.session);
                let maker = leader.filter(is_inside).unwrap_or(self.first);
                (number, false, maker)
            }
        };
        self.stand_in(number, leads, maker)
    }

    /// Makes a process of this number that stands for one which has ended. Returns its number and its parent's index, or
    /// `None` if it cannot be had.
    pub(super) fn stand_in(
        &mut self,
        number: i32,
        leads: bool,
        maker: usize,
    ) -> Result<Option<(i32, usize)>> {
        if let Some(known) = self.stand_ins.get(&number) {
            return Ok(Some((number, known.maker)));
        }
        let task = self.members[maker].inside.as_mut().ok_or_else(gone)?;
        let mut remote = task.remote_at_boundary()?;
        let made = remote.child_as(0, 0, number)?;
        remote.finish()?;
        let Ok(mut task) = made else {
            return Ok(None);
        };
        lead(&mut task, leads, false)?;
        let ended = None;
        let stand_in = StandIn { task, maker, ended };
        self.stand_ins.insert(number, stand_in);
        Ok(Some((number, maker)))
    }

    /// Makes the children of one that have ended, and lets them end.
    pub(super) fn bury(&mut self, at: usize) -> sandbox::Result<()> {
        let place = self.place(at);
        if place.ended.is_empty() {
            return Ok(());
        }
        tracing::trace!("{} has ended children: {:?}", place.pid, place.ended);
        let led: Vec<i32> = self.places.iter().filter_map(|place| place.group).collect();
        let heads_session = |pid: i32| {
            let is_it = |one: &Place| one.outlives_session && one.session == Some(pid);
            self.places.iter().any(is_it)
        };
        let has_orphans = |pid: i32| self.places.iter().any(|one| one.orphan_of == Some(pid));
        let task = self.members[at].inside.as_mut().ok_or_else(gone)?;
        let (missing, stand_ins) = (&mut self.missing, &mut self.stand_ins);
        let signals = place.ended.iter().fold(0, |all, one| all | told_by(one));
        among_children(task, (signals, place.is_told), |remote| {
            for &ended in &place.ended {
                remote.reset_scratch();
                let pid = ended.pid;
                let made = remote.child_as(0, ended.exit_signal, pid)?;
                let done = made
                    .map_err(|error| error.to_string())
                    .and_then(|mut child| {
                        let stays = heads_session(pid) || has_orphans(pid);
                        let done = match stays {
                            true => lead(&mut child, heads_session(pid), led.contains(&pid)),
                            false => {
                                return end(child, ended.exit, led.contains(&pid))
                                    .map_err(|error| error.to_string());
                            }
                        };
                        let ended = Some(ended);
                        stand_ins.insert(
                            pid,
                            StandIn {
                                task: child,
                                maker: at,
                                ended,
                            },
                        );
                        done.map_err(|error| error.to_string())
                    });
                if let Err(error) = done {
                    missing.push(format!(
                        "process {pid}, which has ended and was not waited for: {error}"
                    ));
                }
            }
            Ok(())
        })?;
        Ok(())
    }
}

/// Makes and ends children of a process, whose ends send it these signals. Those that it has been told of are taken back.
fn among_children(
    task: &mut Stopped,
    (signals, is_told): (u64, bool),
    then: impl FnOnce(&mut Remote<'_>) -> Result<()>,
) -> Result<()> {
    let signals = signals | 1 << (libc::SIGCHLD - 1);
    let mask = task.sigmask()?;
    task.set_sigmask(mask | signals)?;
    let mut remote = task.remote_at_boundary()?;
    // A child of whom nobody is to hear leaves nothing.
    let (none, before) = (remote.put(&[0; 32])?, remote.put(&[0; 32])?);
    let set = |new, old| [libc::SIGCHLD as u64, new, old, 8, 0, 0];
    remote.call(libc::SYS_rt_sigaction, set(none, before))?;
    let mut action = SignalAction::default();
    remote.memory().read_exact(before, &mut action)?;
    then(&mut remote)?;
    remote.reset_scratch();
    let told = remote.put(&signals.to_le_bytes())?;
    let now = remote.put(&[0; 16])?;
    let take = [told, 0, now, 8, 0, 0];
    // Each of them once, but those of real time queue.
    while is_told && remote.call(libc::SYS_rt_sigtimedwait, take)? > 0 {}
    let before = remote.put(&action)?;
    remote.call(libc::SYS_rt_sigaction, set(before, 0))?;
    remote.finish()?;
    task.set_sigmask(mask)
}

/// The signal, as a mask, that a process gets at the end of a child.
fn told_by(ended: &Ended) -> u64 {
    match ended.exit_signal {
        signal @ 1..=64 => 1 << (signal - 1),
        _ => 0,
    }
}

/// Has a process lead a session or a process group.
pub(super) fn lead(task: &mut Stopped, session: bool, group: bool) -> Result<()> {
    let mut remote = task.remote_at_boundary()?;
    if session {
        remote.call(libc::SYS_setsid, [0; 6])?;
    } else if group {
        remote.call(libc::SYS_setpgid, [0; 6])?;
    }
    remote.finish()
}

/// Lets a process that has just been made end like this.
fn end(mut task: Stopped, exit: Exit, leads_group: bool) -> Result<()> {
    if let Exit::Signal { signal, .. } = exit
        && !is_fatal(signal)
    {
        let why = std::io::Error::from_raw_os_error(libc::EINVAL);
        return Err(Error::os(
            format!("end it by signal {signal}"),
            task.tid(),
            why,
        ));
    }
    lead(&mut task, false, leads_group)?;
    let mut remote = task.remote_at_boundary()?;
    let result = match exit {
        Exit::Code(code) => remote
            .call(libc::SYS_exit_group, [code as u64, 0, 0, 0, 0, 0])
            .map(|_| ()),
        Exit::Signal { signal, .. } => {
            let none = remote.put(&[0; 32])?;
            let args = [signal as u64, none, 0, 8, 0, 0];
            remote.call(libc::SYS_rt_sigaction, args)?;
            remote.finish()?;
            task.set_sigmask(0)?;
            return task.die_of(signal);
        }
    };
    match result {
        Err(Error::Ended { .. }) => Ok(()),
        other => other,
    }
}
