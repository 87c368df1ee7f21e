//! What the kernel keeps of a process besides its descriptors.

use super::gifts::words;
use super::{Result, Work};
use nix::unistd::{Pid, getpgid};

/// The kinds of namespaces (`CLONE_NEW*`), and what they keep apart.
const NAMESPACES: [(u64, &str); 9] = [
    (libc::CLONE_NEWNS as u64, "mounts"),
    (libc::CLONE_NEWUSER as u64, "users"),
    (libc::CLONE_NEWPID as u64, "processes"),
    (libc::CLONE_NEWNET as u64, "network"),
    (libc::CLONE_NEWUTS as u64, "host name"),
    (libc::CLONE_NEWIPC as u64, "System V IPC"),
    (libc::CLONE_NEWCGROUP as u64, "control groups"),
    (0x80, "clocks"),
    (1, "one that it joined"),
];

impl Work<'_> {
    /// Goes to its directory, and makes room for its descriptors.
    pub(super) fn prepare(&mut self) -> Result<()> {
        let all = [0, u32::MAX.into(), 0, 0, 0, 0];
        self.remote.call(libc::SYS_close_range, all)?;
        self.make_room()?;
        self.change_dir()?;
        if let Some(umask) = self.state.table.umask() {
            let args = [umask.into(), 0, 0, 0, 0, 0];
            self.remote.call(libc::SYS_umask, args)?;
        }
        Ok(())
    }

    /// Sets what it has set of itself. Limits that leave no room for what is done here come last.
    pub(super) fn own(&mut self) -> Result<()> {
        self.part_from_group()?;
        let own = self
            .kernel
            .as_ref()
            .and_then(|kernel| kernel.process(self.state.since.pid()));
        let Some(own) = own.cloned() else {
            return Ok(());
        };
        if own.subreaper {
            let args = [libc::PR_SET_CHILD_SUBREAPER as u64, 1, 0, 0, 0, 0];
            self.remote.call(libc::SYS_prctl, args)?;
        }
        if own.changed_root {
            self.miss("its root directory: it is the usual one".into());
        }
        if own.namespaces != 0 {
            let names: Vec<&str> = NAMESPACES
                .iter()
                .filter(|(flag, _)| own.namespaces & flag != 0)
                .map(|&(_, name)| name)
                .collect();
            self.miss(format!(
                "namespaces of its own ({}): it has those that copies have",
                names.join(", ")
            ));
        }
        if own.changed_credentials {
            self.miss(
                "the user and the groups that it took on: it has those of whoever runs this".into(),
            );
        }
        for (&resource, &limit) in &own.limits {
            self.limit(resource, limit)?;
        }
        Ok(())
    }

    /// Gives it a process group that nobody has who is not to get its signals.
    fn part_from_group(&mut self) -> Result<()> {
        let own = self
            .kernel
            .as_ref()
            .and_then(|kernel| kernel.process(self.state.since.pid()));
        if own.is_some_and(|own| own.leads_session) {
            self.remote.call(libc::SYS_setsid, [0; 6])?;
            return Ok(());
        }
        // A process of a group that is not its own would send signals to those outside, too.
        let tid = self.remote.memory().tid();
        if getpgid(Some(Pid::from_raw(tid))) != Ok(Pid::from_raw(tid)) {
            self.remote.call(libc::SYS_setpgid, [0; 6])?;
        }
        Ok(())
    }

    /// Sets a limit, which is no wider than it is here.
    fn limit(&mut self, resource: u32, (soft, hard): (u64, u64)) -> Result<()> {
        self.remote.reset_scratch();
        let at = self.remote.put(&[0; 16])?;
        let ask = [0, resource.into(), 0, at, 0, 0];
        if self.remote.call(libc::SYS_prlimit64, ask)? < 0 {
            return Ok(());
        }
        let here = self.remote.memory().word(at + 8)?;
        let limit = words(&[soft.min(here), hard.min(here)]);
        self.remote.memory().write(at, &limit)?;
        let set = [0, resource.into(), at, 0, 0, 0];
        self.remote.call(libc::SYS_prlimit64, set)?;
        Ok(())
    }

    /// Has the limit of descriptors allow the highest.
    fn make_room(&mut self) -> Result<()> {
        const SURE: i32 = 256;
        let highest = self.state.table.iter().last().map_or(0, |(fd, ..)| fd);
        if highest < SURE {
            return Ok(());
        }
        let what = libc::RLIMIT_NOFILE.into();
        self.remote.reset_scratch();
        let limit = self.remote.put(&[0; 16])?;
        let ask = [0, what, 0, limit, 0, 0];
        self.remote
            .must("ask for its limits", libc::SYS_prlimit64, ask)?;
        let memory = self.remote.memory();
        let (soft, hard) = (memory.word(limit)?, memory.word(limit + 8)?);
        if soft <= highest as u64 {
            memory.write(limit, &hard.to_le_bytes())?;
            let set = [0, what, limit, 0, 0, 0];
            self.remote.call(libc::SYS_prlimit64, set)?;
        }
        Ok(())
    }

    fn change_dir(&mut self) -> Result<()> {
        let cwd = self.state.table.cwd();
        self.remote.reset_scratch();
        let at = self.remote.put_str(cwd)?;
        if self.remote.call(libc::SYS_chdir, [at, 0, 0, 0, 0, 0])? >= 0 {
            return Ok(());
        }
        self.miss(format!(
            "the current directory {}: it is not there any more",
            String::from_utf8_lossy(cwd)
        ));
        // Where nothing is found by its name, rather than what is in another directory.
        let name = format!("/tmp/.rrapper-{}", self.remote.memory().tid());
        self.remote.reset_scratch();
        let at = self.remote.put_str(name.as_bytes())?;
        let args = [at, 0o700, 0, 0, 0, 0];
        if self.remote.call(libc::SYS_mkdir, args)? >= 0 {
            self.remote.call(libc::SYS_chdir, args)?;
            self.remote.call(libc::SYS_rmdir, args)?;
        }
        Ok(())
    }
}
