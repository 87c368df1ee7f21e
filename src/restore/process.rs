//! The attributes of a process: directory, umask, process group, limits.

use super::{Restorer, Result, words};
use nix::unistd::{Pid, getpgid};

/// The kinds of namespaces (`CLONE_NEW*`), and their names in messages.
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

impl Restorer<'_, '_> {
    /// Closes all descriptors, changes to the process's directory, sets its umask.
    pub(super) fn prepare(&mut self) -> Result<()> {
        let all = [0, u32::MAX.into(), 0, 0, 0, 0];
        self.remote.call(libc::SYS_close_range, all)?;
        self.raise_descriptor_limit()?;
        self.change_dir()?;
        if let Some(umask) = self.state.descriptors.umask() {
            let args = [umask.into(), 0, 0, 0, 0, 0];
            self.remote.call(libc::SYS_umask, args)?;
        }
        Ok(())
    }

    /// Sets the attributes that the process had set. Limits come last: they may leave no room for the work done here.
    pub(super) fn process(&mut self) -> Result<()> {
        let process = self
            .kernel
            .as_ref()
            .and_then(|kernel| kernel.process(self.state.changes.pid()));
        let Some(process) = process.cloned() else {
            return Ok(());
        };
        if process.subreaper {
            let args = [libc::PR_SET_CHILD_SUBREAPER as u64, 1, 0, 0, 0, 0];
            self.remote.call(libc::SYS_prctl, args)?;
        }
        if process.changed_root {
            self.report_missing("its root directory: it is the usual one".into());
        }
        if process.namespaces != 0 {
            let names: Vec<&str> = NAMESPACES
                .iter()
                .filter(|(flag, _)| process.namespaces & flag != 0)
                .map(|&(_, name)| name)
                .collect();
            self.report_missing(format!(
                "namespaces of its own ({}): it has those that copies have",
                names.join(", ")
            ));
        }
        if process.changed_credentials {
            self.report_missing(
                "the user and the groups that it took on: it has those of whoever runs this".into(),
            );
        }
        for (&resource, &limit) in &process.limits {
            // Whatever the program sets, live processes write no core files.
            if resource != libc::RLIMIT_CORE {
                self.limit(resource, limit)?;
            }
        }
        Ok(())
    }

    /// Gives the process a group of its own, so that its signals reach no other process.
    pub(super) fn leave_process_group(&mut self) -> Result<()> {
        let process = self
            .kernel
            .as_ref()
            .and_then(|kernel| kernel.process(self.state.changes.pid()));
        if process.is_some_and(|process| process.leads_session) {
            self.remote.call(libc::SYS_setsid, [0; 6])?;
            return Ok(());
        }
        // The group may have processes outside the sandbox.
        let tid = self.remote.memory().tid();
        if getpgid(Some(Pid::from_raw(tid))) != Ok(Pid::from_raw(tid)) {
            self.remote.call(libc::SYS_setpgid, [0; 6])?;
        }
        Ok(())
    }

    /// Sets a limit, which may not exceed the hard limit here.
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

    /// Raises the limit of descriptors to allow the highest one.
    fn raise_descriptor_limit(&mut self) -> Result<()> {
        const SURE: i32 = 256;
        let highest = self
            .state
            .descriptors
            .iter()
            .last()
            .map_or(0, |(fd, ..)| fd);
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
        let cwd = self.state.descriptors.cwd();
        self.remote.reset_scratch();
        let at = self.remote.put_str(cwd)?;
        if self.remote.call(libc::SYS_chdir, [at, 0, 0, 0, 0, 0])? >= 0 {
            return Ok(());
        }
        self.report_missing(format!(
            "the current directory {}: it is not there any more",
            String::from_utf8_lossy(cwd)
        ));
        // A removed directory, in which no name is found, rather than the files of another directory.
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
