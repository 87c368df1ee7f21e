//! Sandboxes: isolation of live processes from the machine.
//!
//! A sandbox is a set of namespaces: files are copy-on-write and forgotten, the rest is read-only; the network is an
//! isolated loopback; other processes can be neither seen nor reached. No privileges are needed where the system allows
//! unprivileged namespaces.
//!
//! The first process of a sandbox, the keeper, is a helper process of rrapper's (see [`crate::tracee::call_batch`]). It
//! sets up the sandbox and then stands still: it holds the changed files, and with its end all processes in the sandbox
//! end. This module knows neither recordings nor the actions of the processes.

mod build;
mod changed_files;
mod error;
mod id_map;
mod mount_plan;
mod renamable_dirs;
mod seal;
mod settings;
mod user_quotas;

pub use changed_files::{Change, ChangeKind, Outside};
pub use error::{Error, Result, advice, sysctl};
pub use renamable_dirs::make_renamable;
pub use settings::Settings;

use crate::tracee::call_batch::HelperProcess;
use crate::tracee::{Remote, Stopped, end_namespace, proc};
use error::NAMESPACES;
use id_map::IdMap;
use mount_plan::{Layer, Machine, MountPlan};
use std::cell::RefCell;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use tracing::trace_span;

const USED: i32 = libc::CLONE_NEWUSER
    | libc::CLONE_NEWNS
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET;

/// linux/sched.h
const CLONE_NEWTIME: u64 = 0x80;

/// The requested properties of a sandbox.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// Directories with changeable content, besides the current one, `/tmp`, `/var/tmp`, `/dev/shm` and `/run`. A
    /// missing directory stands for its nearest existing ancestor.
    pub writable: &'a [PathBuf],
    /// The current directory.
    pub cwd: &'a [u8],
    /// The pid of the process in the sandbox.
    pub pid: i32,
    /// The settings.
    pub settings: &'a Settings,
    /// The offsets of clocks, where the system supports them.
    pub clocks: Option<Offsets>,
}

/// The resource limits of the processes in a sandbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Limits {
    /// Seconds of processor time, of each process (`RLIMIT_CPU`).
    pub cpu_seconds: u64,
    /// Bytes of private memory, of each process (`RLIMIT_DATA`: programs reserve more addresses than they use).
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
            data_bytes: 4 << 30,
            memory_bytes: None,
            processes: 256,
            file_bytes: 1 << 30,
            tmpfs_bytes: 512 << 20,
            tmpfs_files: 1 << 18,
        }
    }
}

/// Offsets of clocks, in nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Offsets {
    /// The offset of `CLOCK_MONOTONIC`.
    pub monotonic: i64,
    /// The offset of `CLOCK_BOOTTIME`.
    pub boottime: i64,
}

/// The factory of sandboxes of a thread.
#[derive(Debug)]
pub struct Sandboxes {
    helper: HelperProcess,
    ids: IdMap,
}

/// A shared factory of sandboxes, started with the first sandbox; clones share the helper process.
#[derive(Clone, Debug, Default)]
pub struct SharedSandboxes(Rc<RefCell<Option<Sandboxes>>>);

impl SharedSandboxes {
    /// See [`Sandboxes::enter`].
    ///
    /// # Errors
    /// If the system refuses a step, or the helper process cannot be started.
    pub fn enter(&self, shell: Stopped, request: &Request<'_>) -> Result<(Stopped, Sandbox)> {
        let mut sandboxes = self.0.borrow_mut();
        let sandboxes = match &mut *sandboxes {
            Some(there) => there,
            none => none.insert(Sandboxes::start()?),
        };
        sandboxes.enter(shell, request)
    }
}

/// A sandbox. Dropping it kills all processes in it and deletes its files.
#[derive(Debug)]
pub struct Sandbox {
    keeper: Option<HelperProcess>,
    layers: Vec<Layer>,
    place: i32,
    limits: Limits,
    /// The pid of the process in the sandbox: the requested one, or another where that was not available.
    pub pid: i32,
    /// Whether `/proc` shows the sandbox's processes; otherwise it is the machine's, read-only.
    pub own_proc: bool,
    /// Whether the clocks have the requested offsets.
    pub own_clocks: bool,
    /// Whether the process is in the requested directory; otherwise that does not exist.
    pub in_cwd: bool,
    /// Deviations from the request, as sentences.
    pub notes: Vec<String>,
}

impl Sandboxes {
    /// Starts the helper process.
    ///
    /// # Errors
    /// If the process cannot be made or traced.
    pub fn start() -> Result<Sandboxes> {
        let ids = IdMap::of_caller().map_err(|e| Error::refused("learn its user and group", e))?;
        let helper = HelperProcess::start()?;
        Ok(Sandboxes { helper, ids })
    }

    /// Moves a process into a new sandbox.
    ///
    /// `shell` is a process with a single thread that stands between calls, with the agent mapped; it is consumed. The
    /// result is a copy of it with the same registers, between calls, in a new session. It has privileges in its
    /// sandbox (for making threads with chosen tids) until [`Sandbox::seal`].
    ///
    /// # Errors
    /// If the system refuses a step: [`Error::Refused`] names the step and gives advice.
    pub fn enter(&mut self, shell: Stopped, request: &Request<'_>) -> Result<(Stopped, Sandbox)> {
        let mut sandbox = self.make(request)?;
        let process =
            trace_span!("take in").in_scope(|| sandbox.enter_namespaces(shell, request))?;
        Ok((process, sandbox))
    }

    /// Makes an empty sandbox.
    pub(crate) fn make(&mut self, request: &Request<'_>) -> Result<Sandbox> {
        let keeper = trace_span!("namespaces").in_scope(|| self.helper.copy(USED as u64))?;
        let mut keeper = keeper.map_err(|e| Error::refused(NAMESPACES, e))?;
        let told = self.ids.write(keeper.pid());
        told.map_err(|e| Error::refused("get its user and group (/proc/PID/uid_map)", e))?;
        let planning = trace_span!("plan").entered();
        let mounts =
            mount_plan::mounts().map_err(|e| Error::refused("learn what is mounted", e))?;
        let machine = Machine {
            ids: &self.ids,
            mounts,
        };
        let cwd = Path::new(std::ffi::OsStr::from_bytes(request.cwd));
        let writable = request.writable.iter().map(PathBuf::as_path);
        let plan = MountPlan::new(&machine, writable.chain([cwd]));
        drop(planning);
        let built = trace_span!("build")
            .in_scope(|| build::build(&mut keeper, &plan, &request.settings.limits))?;
        let mut notes = plan.notes;
        for (i, error) in built.failed {
            let dir = plan.layers[i].path.display();
            notes.push(format!(
                "{dir} stays read-only: overlayfs does not take it ({error})"
            ));
        }
        Ok(Sandbox {
            keeper: Some(keeper),
            layers: plan.layers,
            place: built.place,
            limits: request.settings.limits,
            pid: 0,
            own_proc: built.own_proc,
            own_clocks: false,
            in_cwd: false,
            notes,
        })
    }
}

impl Sandbox {
    fn keeper_pid(&self) -> i32 {
        self.keeper.as_ref().map_or(0, HelperProcess::pid)
    }

    /// The path at which a file of the sandbox can be read from outside. Symbolic links in it lead to the machine's
    /// files.
    pub fn inside(&self, path: &Path) -> PathBuf {
        let root = format!("/proc/{}/root", self.keeper_pid());
        Path::new(&root).join(path.strip_prefix("/").unwrap_or(path))
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
        let step = "find the keeper of its sandbox";
        let keeper = self.keeper_pid() as u64;
        let args = [keeper, 0, 0, 0, 0, 0];
        let fd = call(&mut remote, step, libc::SYS_pidfd_open, args)?;
        let step = "enter its sandbox (setns)";
        call(
            &mut remote,
            step,
            libc::SYS_setns,
            [fd, USED as u64, 0, 0, 0, 0],
        )?;
        call(&mut remote, step, libc::SYS_close, [fd, 0, 0, 0, 0, 0])?;
        if let Some(offsets) = &request.clocks {
            let args = [CLONE_NEWTIME, 0, 0, 0, 0, 0];
            self.own_clocks = remote.call(libc::SYS_unshare, args)? == 0
                && set_clocks(remote.memory().tid(), offsets).is_ok();
        }
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
        seal::drop_privileges(task)?;
        seal::limit(task, &self.limits)?;
        Ok(())
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        if let Some(keeper) = self.keeper.take() {
            let _span = trace_span!("end").entered();
            end_namespace(keeper.into_task());
        }
    }
}

/// Whether making a task failed because of the requested tid.
fn is_about_pid(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EEXIST | libc::EINVAL))
}

/// Sets the clock offsets of the children of a process.
fn set_clocks(pid: i32, offsets: &Offsets) -> io::Result<()> {
    const SECOND: i64 = 1_000_000_000;
    let line = |clock: &str, ns: i64| {
        let (seconds, rest) = (ns.div_euclid(SECOND), ns.rem_euclid(SECOND));
        format!("{clock} {seconds} {rest}\n")
    };
    let lines = line("monotonic", offsets.monotonic) + &line("boottime", offsets.boottime);
    std::fs::write(format!("/proc/{pid}/timens_offsets"), lines)
}
