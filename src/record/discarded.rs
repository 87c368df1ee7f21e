//! Recording in a sandbox that is thrown away: the program finds the machine's files and changes copies of them.
//!
//! It is otherwise where it would be without: it has the pids, the terminal, the standard streams and the parent of an
//! ordinary recording. The recorder stays outside, and finds the files that the program sees by way of the sandbox's root.

use super::messages::{FrontLink, Order, Report};
use super::{Error, Recorder, Result};
use crate::constants::{Answer, is_error, is_restart};
use crate::recording::CallEvent;
use crate::sandbox::calls::FileCall;
use crate::sandbox::{Outside, Sandbox, Sandboxes, Settings};
use crate::syscall::{FileNumbers, Syscall};
use crate::trace::Exit;
use crate::tracee::{
    self, AnyWait, Command, KillOnDrop, Running, Stop, Stopped, Waited, process_group, spawn,
};
use nix::sys::signal::SigSet;
use std::cell::RefCell;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File, Metadata};
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::rc::Rc;

/// A sandbox for a recording, which is thrown away afterwards with all files that were changed in it.
#[derive(Clone, Debug)]
pub struct Discard {
    /// The settings of the sandbox. Of the limits, only those on the changed files count.
    pub settings: Settings,
    /// Whether the program has the machine's network; otherwise it has a loopback of its own.
    pub machines_network: bool,
    /// Commands for `sh -c` that are run in the sandbox before the program, one after the other, and are not recorded. The
    /// first one that fails ends the recording. What they leave running is ended.
    pub setup: Vec<OsString>,
}

impl Default for Discard {
    fn default() -> Discard {
        Discard {
            settings: Settings::for_recording(),
            machines_network: false,
            setup: Vec::new(),
        }
    }
}

/// The files as the program sees them: those of its sandbox, or the machine's.
#[derive(Clone, Default)]
pub(super) struct View(Option<Rc<Inner>>);

struct Inner {
    sandbox: RefCell<Sandbox>,
    /// The sandbox's root directory.
    root: File,
}

impl View {
    /// The files of a new sandbox for this program.
    pub fn of_sandbox(discard: &Discard, command: &mut Command) -> Result<View> {
        let mut writable: Vec<PathBuf> = home(command).into_iter().collect();
        let here = std::env::current_dir().unwrap_or_default();
        writable.push(
            command
                .cwd
                .as_ref()
                .map_or(here.clone(), |dir| here.join(dir)),
        );
        let network = discard.machines_network;
        let made = Sandboxes::default().for_recording(&discard.settings, &writable, network);
        let sandbox = made?;
        for note in &sandbox.notes {
            tracing::warn!("in the sandbox, {note}");
        }
        let how = libc::O_PATH | libc::O_DIRECTORY;
        let root = File::options()
            .read(true)
            .custom_flags(how)
            .open(sandbox.inside(Path::new("/")));
        let root = root.map_err(|e| tracee::Error::os("find the sandbox's files", 0, e))?;
        command.inside = Some(sandbox.namespaces()?);
        let sandbox = RefCell::new(sandbox);
        Ok(View(Some(Rc::new(Inner { sandbox, root }))))
    }

    /// The path at which rrapper finds a file, none of whose directories is a symbolic link.
    pub fn place(&self, path: &[u8]) -> PathBuf {
        let Some(inner) = &self.0 else {
            return PathBuf::from(OsStr::from_bytes(path));
        };
        let root = format!("/proc/self/fd/{}", inner.root.as_raw_fd());
        let path = path.strip_prefix(b"/").unwrap_or(path);
        Path::new(&root).join(OsStr::from_bytes(path))
    }

    /// The device and inode numbers of a file that rrapper finds with these ones, as the program is shown them.
    pub fn numbers(&self, path: &[u8], meta: &Metadata) -> (u64, u64) {
        let here = FileNumbers {
            device: meta.dev(),
            inode: meta.ino(),
            is_dir: meta.is_dir(),
        };
        let shown = self.outside(path, here).map_or(here, |known| known.numbers);
        (shown.device, shown.inode)
    }

    /// What a file of the sandbox is on the machine; `None` where its numbers are its own, and without a sandbox.
    pub fn outside(&self, path: &[u8], here: FileNumbers) -> Option<Outside> {
        let inner = self.0.as_ref()?;
        // Files that are copied on write have the overlay's device.
        if libc::major(here.device) != 0 {
            return None;
        }
        let path = Path::new(OsStr::from_bytes(path));
        inner.sandbox.borrow().outside(path, here)
    }

    /// Whether the program sees the machine's file, and not one that was changed or made in the sandbox.
    pub fn is_the_machines(&self, path: &[u8]) -> bool {
        if self.0.is_none() {
            return true;
        }
        let inside = fs::symlink_metadata(self.place(path));
        let outside = fs::symlink_metadata(OsStr::from_bytes(path));
        let (Ok(inside), Ok(outside)) = (inside, outside) else {
            return false;
        };
        let stamp = |meta: &Metadata| {
            let modified = (meta.mtime(), meta.mtime_nsec());
            let changed = (meta.ctime(), meta.ctime_nsec());
            (meta.len(), modified, changed)
        };
        self.numbers(path, &inside) == (outside.dev(), outside.ino())
            && stamp(&inside) == stamp(&outside)
    }

    /// Whether there is a file at a path in the sandbox; relative ones begin at rrapper's directory.
    pub fn finds(&self, path: &Path) -> bool {
        let path = std::path::absolute(path).unwrap_or_default();
        let root = self
            .0
            .as_ref()
            .and_then(|inner| inner.sandbox.borrow().root());
        let found = root.and_then(|root| root.find(path.as_os_str().as_bytes(), true));
        found.is_some()
    }

    /// The files that were changed in the sandbox, by path.
    pub fn changes(&self) -> Result<Vec<PathBuf>> {
        let Some(inner) = &self.0 else {
            return Ok(Vec::new());
        };
        Ok(inner.sandbox.borrow().changed_paths()?)
    }

    /// Runs a setup command to its end, with what the program is started with. If the program's directory is still to be made,
    /// it runs in rrapper's.
    pub fn set_up(&self, text: &OsStr, program: &Command, front: Option<&FrontLink>) -> Result<()> {
        let Some(inner) = &self.0 else {
            return Ok(());
        };
        let command = Command {
            exe: PathBuf::from("/bin/sh"),
            argv: [b"sh", b"-c", text.as_bytes()].map(<[u8]>::to_vec).to_vec(),
            env: program.env.clone(),
            cwd: program.cwd.clone().filter(|dir| self.finds(dir)),
            inside: Some(inner.sandbox.borrow().namespaces()?),
            ..Command::default()
        };
        let job = front.map_or_else(|| std::process::id() as i32, |front| front.front);
        let group = process_group::of(job).unwrap_or(0);
        let task = spawn::start_unwatched(command, group)?;
        // The program is started with the mask of this thread.
        let mask = SigSet::thread_get_mask()
            .map_err(|e| tracee::Error::os("look at its signals", 0, e))?;
        if front.is_some() {
            process_group::write_from_background();
        }
        let ended = run_to_end(task, front);
        let given_back = mask.thread_set_mask();
        given_back.map_err(|e| tracee::Error::os("block signals", 0, e))?;
        match ended? {
            Exit::Code(0) => Ok(()),
            exit => Err(Error::Setup {
                command: text.to_string_lossy().into_owned(),
                how: in_words(exit),
            }),
        }
    }
}

impl Recorder {
    /// The answer to a call that the sandbox must not let through.
    pub(super) fn refused_in_sandbox(
        &self,
        task: &Stopped,
        call: &'static Syscall,
        event: &CallEvent,
    ) -> Option<i64> {
        let inner = self.view.0.as_ref()?;
        let sandbox = inner.sandbox.borrow();
        let made = made(task, call, event);
        sandbox.refuses(task, made).and_then(Answer::raw)
    }

    /// At the exit of a call: has the program see the file status and the return value that it would see without the
    /// sandbox. Returns that value.
    pub(super) fn settle_in_sandbox(
        &self,
        task: &mut Stopped,
        call: &'static Syscall,
        event: &CallEvent,
        ret: i64,
    ) -> Result<i64> {
        let Some(inner) = &self.view.0 else {
            return Ok(ret);
        };
        let made = made(task, call, event);
        let mut sandbox = inner.sandbox.borrow_mut();
        if ret == 0 {
            if let Some(shown) = sandbox.show_owners(task, made)?
                && let Some(outside) = shown.outside(&sandbox)
            {
                shown.show(&outside, None)?;
            }
            sandbox.follow_chdir(task, made)?;
            return Ok(ret);
        }
        if !is_error(ret) || is_restart(ret) {
            return Ok(ret);
        }
        let mut refused = Vec::new();
        let settled = sandbox.work_around(task, made, ret, &mut refused)?;
        for sentence in refused {
            tracing::warn!("{sentence}");
        }
        if settled != ret {
            let mut regs = task.regs()?;
            regs.set_ret(settled);
            task.set_regs(&regs)?;
        }
        Ok(settled)
    }
}

fn made<'c>(task: &Stopped, call: &'static Syscall, event: &'c CallEvent) -> FileCall<'c> {
    FileCall {
        call,
        args: &event.args,
        memory: task.memory(),
    }
}

/// The program's home directory.
fn home(command: &Command) -> Option<PathBuf> {
    let dir = command
        .env
        .iter()
        .find_map(|pair| pair.strip_prefix(b"HOME="))?;
    Some(PathBuf::from(OsStr::from_bytes(dir))).filter(|dir| dir.is_absolute())
}

/// Lets a process and those that it makes run until it ends; then the others are ended.
fn run_to_end(task: Stopped, front: Option<&FrontLink>) -> Result<Exit> {
    let first = task.tid();
    let mut all = KillOnDrop::of(first);
    let _running = go_on(task, Stop::Exec, &mut all)?;
    loop {
        follow_orders(front, first);
        let AnyWait::Task(tid, status) = tracee::wait_any(true)? else {
            continue;
        };
        all.0.insert(tid);
        match Running::of_another(tid).decode_status(status) {
            Ok(Waited::Ended(exit)) => {
                all.0.remove(&tid);
                if tid == first {
                    return Ok(exit);
                }
            }
            // A task that is killed meanwhile reports its end.
            Ok(Waited::Stopped(task, stop)) => _ = go_on(task, stop, &mut all),
            Err(_) if !tracee::stands(tid) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

fn go_on(mut task: Stopped, stop: Stop, all: &mut KillOnDrop) -> Result<Running> {
    task.release();
    Ok(match stop {
        Stop::Signal(signal) => task.resume_with(signal)?,
        Stop::Group(_) => task.listen()?,
        Stop::Clone(child) => {
            all.0.insert(child);
            task.resume()?
        }
        _ => task.resume()?,
    })
}

/// Passes signals on to a setup command, which gets those of a terminal itself.
fn follow_orders(front: Option<&FrontLink>, first: i32) {
    let Some(front) = front.filter(|front| front.has_news()) else {
        return;
    };
    while let Some(order) = front.take() {
        match order {
            Order::End => process_group::send(first, libc::SIGKILL),
            Order::Signal(came) if !came.of_kernel() => process_group::send(first, came.signal),
            Order::Signal(_) => {}
        }
        front.say(&Report::Taken(true));
    }
}

fn in_words(exit: Exit) -> String {
    match exit {
        Exit::Code(code) => format!("ended with status {code}"),
        Exit::Signal { signal, .. } => {
            format!("was ended by {}", crate::constants::signal_name(signal))
        }
    }
}
