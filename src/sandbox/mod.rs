//! Sandboxes: isolation of live processes from the machine.
//!
//! A sandbox is a set of namespaces: files are copy-on-write and forgotten, the network is an isolated loopback, other
//! processes can be neither seen nor reached. No privileges are needed where the system allows unprivileged namespaces.
//!
//! A program that is recorded can have a sandbox for its files alone: it keeps its pids and its terminal, and is trusted
//! otherwise.
//!
//! A thread makes an enclosure (see the `enclosure` module) for its first sandbox, and uses it again for the next ones:
//! what a process changed is taken away when its [`Sandbox`] is dropped. Several sandboxes at once have an enclosure
//! each. This module knows neither recordings nor the actions of the processes.

mod build;
mod builder;
pub mod calls;
mod changed_files;
mod enclosure;
mod error;
mod id_map;
mod mounts;
mod place;
mod placed;
mod renamed_files;
mod renames;
mod root_plan;
mod seal;
mod server;
mod settings;
mod user_quotas;

pub use changed_files::{Change, ChangeKind, Origin, Outside};
pub use error::{Error, Result, advice, sysctl};
pub use placed::{Attributes, Content, Placer};
pub use renamed_files::with_renames;
pub use server::ServerAddress;
pub use settings::Settings;

use crate::tracee::call_batch::HelperProcess;
use crate::tracee::path_lookup::Root;
use crate::tracee::spawn::{self, Inside};
use crate::tracee::{Remote, Stopped, proc};
use build::{KEYCTL_JOIN_SESSION_KEYRING, KEYRING};
use enclosure::{Enclosure, Inhabitants};
use id_map::IdMap;
use std::any::Any;
use std::cell::RefCell;
use std::collections::HashSet;
use std::ffi::CString;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use tracing::trace_span;

/// The requested properties of a sandbox.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// Directories in which files are likely to be changed, besides the current one, `/tmp`, `/var/tmp`, `/dev/shm` and
    /// `/run`: where the owners of directories are not mapped, this makes it possible. A missing directory stands for
    /// its nearest existing ancestor.
    pub writable: &'a [PathBuf],
    /// The current directory.
    pub cwd: &'a [u8],
    /// The pid of the process in the sandbox.
    pub pid: i32,
    /// The user and the group that the process knows itself by, where these are not the caller's.
    pub user: Option<(u32, u32)>,
    /// The settings.
    pub settings: &'a Settings,
}

/// The resource limits of the processes in a sandbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Limits {
    /// Seconds of processor time, of each process (`RLIMIT_CPU`).
    pub cpu_seconds: u64,
    /// Bytes of private writable addresses, of each process (`RLIMIT_DATA`), used or not: AddressSanitizer reserves
    /// terabytes, so there is no limit by default.
    pub data_bytes: u64,
    /// Bytes of memory of all processes together, whatever kind of memory it is; `None` for 4 GiB, or half of what is
    /// available at the start if that is less. It is not the kernel that keeps this limit, but who runs the processes.
    pub memory_bytes: Option<u64>,
    /// Processes and threads (`RLIMIT_NPROC`). The kernel exempts root.
    pub processes: u64,
    /// Bytes of a file (`RLIMIT_FSIZE`).
    pub file_bytes: u64,
    /// Bytes of all changed files together.
    pub tmpfs_bytes: u64,
    /// The number of changed files and directories.
    pub tmpfs_files: u64,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            cpu_seconds: 60,
            data_bytes: u64::MAX,
            memory_bytes: None,
            processes: 256,
            file_bytes: 1 << 30,
            tmpfs_bytes: 512 << 20,
            tmpfs_files: 1 << 18,
        }
    }
}

/// The sandboxes of a thread: its enclosures that are not in use. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct Sandboxes(Rc<RefCell<Pool>>);

#[derive(Debug, Default)]
struct Pool {
    /// Whether the machine's files may have changed since the last sandbox.
    stale: bool,
    /// Whether they may change at any time.
    always_stale: bool,
    /// Ends before the maker.
    free: Vec<Enclosure>,
    maker: Option<(HelperProcess, IdMap)>,
}

thread_local! {
    static SANDBOXES: Sandboxes = Sandboxes::default();
}

/// A sandbox. Dropping it kills all processes in it and forgets its files.
#[derive(Debug)]
pub struct Sandbox {
    enclosure: Option<Enclosure>,
    home: Sandboxes,
    limits: Limits,
    /// The pid of the process in the sandbox: the requested one, or another where that was not available.
    pub pid: i32,
    /// Whether `/proc` shows the sandbox's processes; otherwise it is the machine's, read-only.
    pub own_proc: bool,
    /// Whether the process is in the requested directory; otherwise that does not exist.
    pub in_cwd: bool,
    /// Deviations from the request, as sentences.
    pub notes: Vec<String>,
    /// The files that were put into it.
    placed: placed::Placed,
    /// The user and the group that its processes become.
    user: Option<(u32, u32)>,
}

/// What of a sandbox cannot be looked at for traces of a process: it is made anew after a use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// System V objects and message queues.
    Ipc,
    /// Sockets of the network.
    Network,
    /// Keyrings.
    Keys,
}

impl Pool {
    fn maker() -> Result<(HelperProcess, IdMap)> {
        let ids = IdMap::of_caller();
        let ids = ids.map_err(|e| Error::refused("learn its user and group", e))?;
        Ok((HelperProcess::start()?, ids))
    }

    fn take(&mut self, request: &Request<'_>) -> Result<Enclosure> {
        // What cannot be used now is not kept.
        let free = std::mem::take(&mut self.free).into_iter();
        let (helper, ids) = match &mut self.maker {
            Some(maker) => maker,
            none => none.insert(Pool::maker()?),
        };
        let ids = &ids.shown_as(request.user);
        let mut fit = free.filter(|free| free.is_fit(request.settings, ids));
        let found = fit.next();
        self.free = fit.collect();
        let stale = std::mem::take(&mut self.stale) || self.always_stale;
        let cwd = Path::new(std::ffi::OsStr::from_bytes(request.cwd));
        let writable = request.writable.iter().map(PathBuf::as_path);
        let dirs = writable.chain([cwd]);
        let found = match found {
            Some(mut found) => found.refresh(dirs.clone(), stale)?.then_some(found),
            None => None,
        };
        let mut enclosure = match found {
            Some(found) => found,
            None => Enclosure::new(helper, ids, request.settings, Inhabitants::Live)?,
        };
        enclosure.make_writable(ids, dirs)?;
        enclosure.note_age();
        Ok(enclosure)
    }
}

impl Sandboxes {
    /// The sandboxes of the calling thread.
    pub fn of_thread() -> Sandboxes {
        SANDBOXES.with(Sandboxes::clone)
    }

    /// Ends the processes that are kept for the next sandbox. The thread's end does the same.
    pub fn end(&self) {
        let mut pool = self.0.borrow_mut();
        pool.free.clear();
        pool.maker = None;
    }

    /// Has the next sandbox look for changes of the machine's files everywhere. Without this, those that were made in the
    /// last moments outside of the directories in which the process works (see [`Request`]) may not be seen. `lasting`
    /// has all later sandboxes do the same.
    pub fn note_changes(&self, lasting: bool) {
        let mut pool = self.0.borrow_mut();
        pool.stale = true;
        pool.always_stale |= lasting;
    }

    /// Moves a process into a sandbox that nothing has been done in.
    ///
    /// `shell` is a process with a single thread that stands between calls, with the agent mapped; it is consumed. The
    /// result is a copy of it with the same registers, between calls, in a new session. It has privileges in its
    /// sandbox (for making threads with chosen tids) until [`Sandbox::seal`].
    ///
    /// # Errors
    /// If the system refuses a step: [`Error::Refused`] names the step and gives advice.
    pub fn enter(&self, shell: Stopped, request: &Request<'_>) -> Result<(Stopped, Sandbox)> {
        self.enter_prepared(shell, request, |_| false, |_, _| Ok(()))
    }

    /// The same for a sandbox that is prepared before the process is in it: see [`Sandboxes::prepared`].
    ///
    /// # Errors
    /// As for [`Sandboxes::enter`], or that of `put`.
    pub fn enter_prepared(
        &self,
        shell: Stopped,
        request: &Request<'_>,
        is_right: impl FnOnce(&dyn Any) -> bool,
        put: impl FnOnce(&mut Sandbox, Option<Rc<dyn Any>>) -> Result<()>,
    ) -> Result<(Stopped, Sandbox)> {
        let mut sandbox = self.prepared(request, is_right, put)?;
        let process =
            trace_span!("take in").in_scope(|| sandbox.enter_namespaces(shell, request))?;
        Ok((process, sandbox))
    }

    /// A sandbox for a program that is recorded, and for commands before it, which the caller starts with
    /// [`Sandbox::namespaces`]: the files of the machine, copy on write, and IPC objects and a keyring of its own. The
    /// processes, and with `machines_network` the network, are the machine's, and of the limits only those on the changed files
    /// apply. It is not used again.
    ///
    /// # Errors
    /// As for [`Sandboxes::enter`].
    pub fn for_recording(
        &self,
        settings: &Settings,
        writable: &[PathBuf],
        machines_network: bool,
    ) -> Result<Sandbox> {
        let (mut helper, ids) = Pool::maker()?;
        let inhabitants = Inhabitants::Recorded { machines_network };
        let mut enclosure = Enclosure::new(&mut helper, &ids, settings, inhabitants)?;
        enclosure.make_writable(&ids, writable.iter().map(PathBuf::as_path))?;
        Ok(self.sandbox(enclosure, settings))
    }

    fn sandbox(&self, enclosure: Enclosure, settings: &Settings) -> Sandbox {
        Sandbox {
            own_proc: enclosure.has_own_proc(),
            notes: enclosure.notes.clone(),
            enclosure: Some(enclosure),
            home: self.clone(),
            limits: settings.limits,
            pid: 0,
            in_cwd: false,
            placed: placed::Placed::default(),
            user: None,
        }
    }

    /// A sandbox that no process is in yet. It shows the files that an earlier use has [kept](Sandbox::keep) if `is_right` says
    /// so of the note about them, and the machine's else. `put` puts others there; it gets that note.
    ///
    /// # Errors
    /// As for [`Sandboxes::enter`], or that of `put`.
    pub fn prepared(
        &self,
        request: &Request<'_>,
        is_right: impl FnOnce(&dyn Any) -> bool,
        put: impl FnOnce(&mut Sandbox, Option<Rc<dyn Any>>) -> Result<()>,
    ) -> Result<Sandbox> {
        let enclosure = trace_span!("take").in_scope(|| self.0.borrow_mut().take(request))?;
        let mut sandbox = self.sandbox(enclosure, request.settings);
        let has = |user: &(u32, u32)| {
            let enclosure = sandbox.enclosure.as_ref();
            enclosure.is_some_and(|enclosure| enclosure.has_ids(*user))
        };
        sandbox.user = request.user.filter(has);
        let shown = sandbox.show_kept(is_right);
        if let Err(error) = shown.and_then(|kept| put(&mut sandbox, kept)) {
            // It may show anything.
            if let Some(enclosure) = &mut sandbox.enclosure {
                enclosure.spoiled = true;
            }
            return Err(error);
        }
        sandbox.note_put();
        Ok(sandbox)
    }
}

impl Sandbox {
    fn init_pid(&self) -> i32 {
        self.enclosure.as_ref().map_or(0, Enclosure::init_pid)
    }

    fn entered(&self) -> i32 {
        self.enclosure.as_ref().map_or(0, Enclosure::entered)
    }

    /// The namespaces for a program that is started in a sandbox of [`Sandboxes::for_recording`].
    ///
    /// # Errors
    /// If the sandbox is gone.
    pub fn namespaces(&self) -> Result<Inside> {
        let keyring = CString::new(KEYRING).unwrap_or_default();
        Ok(Inside {
            process: spawn::open_process(self.init_pid())?,
            namespaces: self.entered(),
            keyring,
            capabilities: seal::of_recorded(),
        })
    }

    /// The path at which a file of the sandbox can be read from outside. Symbolic links in it lead to the machine's
    /// files.
    pub fn inside(&self, path: &Path) -> PathBuf {
        let root = format!("/proc/{}/root", self.init_pid());
        Path::new(&root).join(path.strip_prefix("/").unwrap_or(path))
    }

    /// Its root directory; `None` where its processes are gone.
    pub fn root(&self) -> Option<Root> {
        Root::of(self.init_pid())
    }

    /// The numbers of the mounts in it (`mnt_id` of proc(5)) whose files nobody outside has: their locks are the sandbox's
    /// alone.
    pub fn own_mounts(&self) -> HashSet<u64> {
        mounts::own(self.init_pid(), self.own_proc).unwrap_or_default()
    }

    /// Moves one more process into the sandbox, as [`Sandboxes::enter`] moved the first one.
    ///
    /// # Errors
    /// As for [`Sandboxes::enter`].
    pub fn enter(&mut self, shell: Stopped, request: &Request<'_>) -> Result<Stopped> {
        self.enter_namespaces(shell, request)
    }

    /// Notes that a process uses a part of the sandbox.
    pub fn note_use(&mut self, part: Part) {
        let Some(enclosure) = &mut self.enclosure else {
            return;
        };
        match part {
            Part::Ipc => enclosure.used.ipc = true,
            Part::Network => enclosure.used.network = true,
            Part::Keys => enclosure.spoiled = true,
        }
    }

    /// Takes an overlay away, so that its directory can be removed, which the kernel refuses as of a mount point. Returns
    /// whether the path is that of an overlay with no files in it, and not a mount point of the machine.
    ///
    /// # Errors
    /// If the keeper of the sandbox is gone.
    pub fn free_directory(&mut self, path: &Path) -> Result<bool> {
        let inside = self.inside(path);
        match &mut self.enclosure {
            Some(enclosure) => enclosure.free_directory(path, &inside),
            None => Ok(false),
        }
    }

    /// Renames the directory of an overlay to a path at which nothing is, both in directories that the sandbox made anew.
    /// Returns whether it could.
    ///
    /// # Errors
    /// If the keeper of the sandbox is gone.
    pub fn rename_overlay(&mut self, from: &Path, to: &Path) -> Result<bool> {
        match &mut self.enclosure {
            Some(enclosure) => enclosure.rename_overlay(from, to),
            None => Ok(false),
        }
    }

    /// Makes it possible to change files in a directory, where that failed with `EOVERFLOW`: the owner of the directory, or
    /// of one around it, is not mapped. The path has no symbolic links in it. Returns whether an overlay was laid for
    /// that. Descriptors and current directories stay below it.
    ///
    /// # Errors
    /// If the keeper of the sandbox is gone.
    pub fn open_up(&mut self, dir: &Path) -> Result<bool> {
        match &mut self.enclosure {
            Some(enclosure) => enclosure.open_up(dir),
            None => Ok(false),
        }
    }

    /// Whether a path is in an overlay that was laid while processes ran.
    pub fn is_opened_up(&self, path: &Path) -> bool {
        let laid = self.enclosure.as_ref().map(|one| one.layer_of(path));
        laid.flatten().is_some_and(enclosure::Laid::is_late)
    }

    /// Makes it possible to change a file whose owner is not mapped: a copy that belongs to the user, with the
    /// permissions that he has, takes its place. The path has no symbolic links in it. Returns whether it was replaced.
    ///
    /// # Errors
    /// If the keeper of the sandbox is gone.
    pub fn take_over(&mut self, file: &Path) -> Result<bool> {
        match &mut self.enclosure {
            Some(enclosure) => enclosure.take_over(file),
            None => Ok(false),
        }
    }

    /// Whether the user has got copies of others' files or directories by [`Sandbox::open_up`] or [`Sandbox::take_over`].
    pub fn has_anothers(&self) -> bool {
        let enclosure = self.enclosure.as_ref();
        enclosure.is_some_and(Enclosure::has_anothers)
    }

    /// Whether a file is such a copy, of which the user is not the owner outside.
    pub fn is_anothers(&self, path: &Path) -> bool {
        let enclosure = self.enclosure.as_ref();
        enclosure.is_some_and(|one| one.is_anothers(path, &self.inside(path)))
    }

    /// Whether a file in such a directory can only be removed by its owner, who is another (`S_ISVTX`).
    pub fn is_sticky(&self, path: &Path) -> bool {
        let enclosure = self.enclosure.as_ref();
        enclosure.is_some_and(|one| one.is_sticky(path, &self.inside(path)))
    }

    /// The number of its processes, with its first one and those that nobody has waited for; `None` where `/proc` does not
    /// show them.
    pub fn processes(&self) -> Option<usize> {
        let enclosure = self.enclosure.as_ref().filter(|one| one.has_own_proc())?;
        let entries = std::fs::read_dir(format!("/proc/{}/root/proc", enclosure.init_pid()));
        let is_process = |name: &std::ffi::OsStr| name.as_bytes().iter().all(u8::is_ascii_digit);
        let entries = entries.ok()?.flatten();
        Some(
            entries
                .filter(|entry| is_process(&entry.file_name()))
                .count(),
        )
    }

    fn enter_namespaces(&mut self, mut shell: Stopped, request: &Request<'_>) -> Result<Stopped> {
        let mut remote = shell.remote_at_boundary()?;
        let call = |remote: &mut Remote<'_>, step: &str, nr, args| -> Result<u64> {
            let ret = remote.call(nr, args)?;
            if ret < 0 {
                let error = io::Error::from_raw_os_error(-ret as i32);
                return Err(Error::refused(step, error));
            }
            Ok(ret as u64)
        };
        let step = "find the first process of its sandbox";
        let args = [self.init_pid() as u64, 0, 0, 0, 0, 0];
        let fd = call(&mut remote, step, libc::SYS_pidfd_open, args)?;
        let step = "enter its sandbox (setns)";
        let args = [fd, self.entered() as u64, 0, 0, 0, 0];
        call(&mut remote, step, libc::SYS_setns, args)?;
        call(&mut remote, step, libc::SYS_close, [fd, 0, 0, 0, 0, 0])?;
        // Refused where a filter forbids the call, as to the programs then.
        let name = remote.put_str(KEYRING)?;
        let args = [KEYCTL_JOIN_SESSION_KEYRING, name, 0, 0, 0, 0];
        remote.call(libc::SYS_keyctl, args)?;
        let mut copy = None;
        let mut known = None;
        let wanted = Some(request.pid).filter(|&pid| pid > 1);
        for pid in wanted.map(Some).into_iter().chain([None]) {
            match remote.fork_as("copy it into its sandbox", 0, pid)? {
                Ok(task) => (copy, known) = (Some(task), pid),
                Err(error) if pid.is_some() && is_about_pid(&error) => continue,
                Err(error) => return Err(Error::refused("make a process in its sandbox", error)),
            }
            break;
        }
        let Some(mut process) = copy else {
            let error = io::Error::from_raw_os_error(libc::EAGAIN);
            return Err(Error::refused("make a process in its sandbox", error));
        };
        drop(remote);
        shell.kill();
        self.pid = match known {
            Some(pid) => pid,
            None => proc::innermost_pid(process.tid())?,
        };
        let mut remote = process.remote_at_boundary()?;
        // A signal to the process group would reach its members outside.
        call(
            &mut remote,
            "get a session of its own",
            libc::SYS_setsid,
            [0; 6],
        )?;
        let cwd = remote.put_str(request.cwd)?;
        self.in_cwd = remote.call(libc::SYS_chdir, [cwd, 0, 0, 0, 0, 0])? == 0;
        remote.finish()?;
        Ok(process)
    }

    /// Makes a new thread of a process in the sandbox that stands between calls and is not sealed yet; the caller sets
    /// its registers. Also returns its tid in the sandbox: the requested one, or another where that was not available.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn thread(&self, process: &mut Stopped, tid: i32) -> Result<(Stopped, i32)> {
        let mut remote = process.remote_at_boundary()?;
        let (thread, tid) = match remote.thread_as(tid)? {
            Ok(thread) => (thread, tid),
            Err(error) if is_about_pid(&error) => {
                let thread = remote.thread()?;
                let tid = proc::innermost_pid(thread.tid())?;
                (thread, tid)
            }
            Err(error) => return Err(Error::refused("make a thread in its sandbox", error)),
        };
        remote.finish()?;
        Ok((thread, tid))
    }

    /// Drops a task's privileges, and sets the resource limits of its process. To be done for each thread before it
    /// runs, once all are made; the task stands between calls.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn seal(&self, task: &mut Stopped) -> Result<()> {
        // Those of a user without privileges are mapped.
        let user = self.user.filter(|_| nix::unistd::geteuid().is_root());
        if let Some(user) = user {
            seal::become_user(task, user)?;
        }
        seal::drop_privileges(task, user)?;
        seal::limit(task, &self.limits)?;
        Ok(())
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        let _span = trace_span!("clean").entered();
        let Some(mut enclosure) = self.enclosure.take() else {
            return;
        };
        if enclosure.clean().is_ok() && !enclosure.spoiled {
            self.home.0.borrow_mut().free.push(enclosure);
        }
    }
}

/// Whether making a task failed because of the requested tid.
fn is_about_pid(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EEXIST | libc::EINVAL))
}
