//! Files and pipes that are otherwise than recorded, since a call that changed them when it was recorded has had another
//! answer, or since they are not there in the recording. Recorded answers about them are not given any more.

use crate::constants::is_error;
use crate::history::RecordedFiles;
use crate::image::Chunk;
use crate::inject::hook::HookCall;
use crate::kernel::{DescriptorTable, Descriptors};
use crate::recording::CallEvent;
use crate::syscall::{Memory, Moved, Syscall};
use crate::world;

/// What is otherwise than recorded.
#[derive(Debug, Default)]
pub(super) struct Altered(Vec<Mark>);

#[derive(Clone, Debug)]
struct Mark {
    what: Object,
    /// The event of which the answer was changed.
    event: Option<u64>,
    /// The name of its call; `None` where the file was given to the process, and the recording has none.
    call: Option<&'static str>,
    /// Why it is not as recorded, where it is another process that has not changed it.
    why: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Object {
    /// The file at a path, and all below it.
    File(Vec<u8>),
    /// The entries of the directory at a path.
    Entries(Vec<u8>),
    /// A pipe, by its number.
    Pipe(u64),
    /// What is behind a descriptor of a process: the pid, and the number.
    Descriptor(i32, i32),
}

/// Calls about a descriptor whose answer does not depend on what is in the file.
const HARMLESS: [&str; 24] = [
    "close",
    "dup",
    "dup2",
    "dup3",
    "fcntl",
    "flock",
    "fsync",
    "fdatasync",
    "sync_file_range",
    "fadvise64",
    "readahead",
    "ioctl",
    "fchmod",
    "fchown",
    "fsetxattr",
    "fremovexattr",
    "fchdir",
    "fstatfs",
    "syncfs",
    "epoll_ctl",
    "epoll_wait",
    "epoll_pwait",
    "getsockopt",
    "setsockopt",
];

/// Calls about the status of a file.
const STATUS: [&str; 5] = ["stat", "lstat", "fstat", "newfstatat", "statx"];

const CREATES: i32 = libc::O_CREAT | libc::O_TRUNC;

impl Altered {
    /// Whether all is as recorded.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Notes that a call, which was recorded as a success with this return value, has had another effect.
    pub fn note(
        &mut self,
        seen: &HookCall,
        was: i64,
        table: &DescriptorTable,
        files: &RecordedFiles,
    ) {
        let at = At { seen, table, files };
        let args = &seen.args;
        let mut objects = Vec::new();
        let mut made = |path: Option<Vec<u8>>| {
            let Some(path) = path else { return };
            objects.push(Object::Entries(parent(&path)));
            objects.push(Object::File(path));
        };
        match seen.call.name {
            "open" if args[1] as i32 & CREATES != 0 => made(at.path(None, 0)),
            "openat" if args[2] as i32 & CREATES != 0 => made(at.path(Some(0), 1)),
            "openat2" => made(at.path(Some(0), 1)),
            "creat" | "mkdir" | "mknod" | "unlink" | "rmdir" => made(at.path(None, 0)),
            "mkdirat" | "mknodat" | "unlinkat" => made(at.path(Some(0), 1)),
            "symlink" => made(at.path(None, 1)),
            "symlinkat" => made(at.path(Some(1), 2)),
            "link" => made(at.path(None, 1)),
            "linkat" => made(at.path(Some(2), 3)),
            "rename" => {
                made(at.path(None, 0));
                made(at.path(None, 1));
            }
            "renameat" | "renameat2" => {
                made(at.path(Some(0), 1));
                made(at.path(Some(2), 3));
            }
            "truncate" | "chmod" | "chown" | "lchown" | "utime" | "utimes" | "setxattr"
            | "lsetxattr" | "removexattr" | "lremovexattr" => {
                objects.extend(at.path(None, 0).map(Object::File));
            }
            "fchmodat" | "fchmodat2" | "fchownat" | "futimesat" | "utimensat" => {
                let by_descriptor = args[1] == 0;
                let path = at.path(Some(0), 1).filter(|_| !by_descriptor);
                objects.extend(path.map(Object::File).or_else(|| at.open(args[0])));
            }
            "write" | "pwrite64" | "writev" | "pwritev" | "pwritev2" | "ftruncate"
            | "fallocate" | "sendfile" | "fchmod" | "fchown" | "fsetxattr" | "fremovexattr"
            | "vmsplice" => objects.extend(at.open(args[0])),
            "copy_file_range" | "splice" => objects.extend(at.open(args[2])),
            "tee" => objects.extend(at.open(args[1])),
            _ => {}
        }
        match seen.call.name {
            "dup2" | "dup3" => objects.push(Object::Descriptor(seen.pid, args[1] as i32)),
            _ if seen.call.returns_fd() => objects.push(Object::Descriptor(seen.pid, was as i32)),
            _ => {}
        }
        for what in objects {
            if !self
                .0
                .iter()
                .any(|mark| mark.what == what && mark.event == seen.event)
            {
                self.0.push(Mark {
                    what,
                    event: seen.event,
                    call: Some(seen.call.name),
                    why: None,
                });
            }
        }
    }

    /// Notes that there is a file which the recording does not have.
    pub fn note_new(&mut self, path: &[u8]) {
        let entries = Object::Entries(parent(path));
        for what in [entries, Object::File(path.to_vec())] {
            self.0.push(Mark {
                what,
                event: None,
                call: None,
                why: None,
            });
        }
    }

    /// Notes the files that other processes have not changed, each with the reason, in the place of those before.
    pub fn leave_out(&mut self, files: impl Iterator<Item = (Vec<u8>, String)>) {
        self.0.retain(|mark| mark.why.is_none());
        for (path, why) in files {
            for what in [Object::Entries(parent(&path)), Object::File(path)] {
                self.0.push(Mark {
                    what,
                    event: None,
                    call: None,
                    why: Some(why.clone()),
                });
            }
        }
    }

    /// Forgets a descriptor of a process whose number stands for another file now.
    pub fn opened(&mut self, pid: i32, fd: i32) {
        let descriptor = Object::Descriptor(pid, fd);
        self.0.retain(|mark| mark.what != descriptor);
    }

    /// A process has the descriptors of the one that made it.
    pub fn forked(&mut self, maker: i32, pid: i32) {
        let inherited = self.0.iter().filter_map(|mark| match mark.what {
            Object::Descriptor(of, fd) if of == maker => Some(Mark {
                what: Object::Descriptor(pid, fd),
                ..mark.clone()
            }),
            _ => None,
        });
        let inherited: Vec<Mark> = inherited.collect();
        self.0.extend(inherited);
    }

    /// Forgets what an event has altered, which has been made up for.
    pub fn forget(&mut self, event: u64) {
        self.0.retain(|mark| mark.event != Some(event));
    }

    /// Forgets the pipe into which an event has sent all after all.
    pub fn sent(&mut self, event: u64) {
        let is_pipe = |mark: &Mark| matches!(mark.what, Object::Pipe(_));
        self.0
            .retain(|mark| !(mark.event == Some(event) && is_pipe(mark)));
    }

    /// Why the recorded answer to a call does not hold any more, if so. `event` is its own.
    pub fn reason(
        &self,
        seen: &HookCall,
        table: &DescriptorTable,
        files: &RecordedFiles,
    ) -> Option<String> {
        let at = At { seen, table, files };
        let touched = at.touched();
        let is_hit = |mark: &&Mark| {
            // The rest of a call that was answered in part, or the same call once more.
            let is_rest = mark.event.is_some() && mark.event == seen.event;
            // The directory of a file that was always there is as it was, but for its entries.
            let is_status = mark.call.is_none()
                && mark.why.is_none()
                && matches!(mark.what, Object::Entries(_))
                && STATUS.contains(&seen.call.name);
            !is_rest && !is_status && touched.iter().any(|touched| mark.what.is_hit_by(touched))
        };
        let mark = self.0.iter().find(is_hit)?;
        let what = match &mark.what {
            Object::File(path) => String::from_utf8_lossy(path).into_owned(),
            Object::Entries(path) => format!("the directory {}", String::from_utf8_lossy(path)),
            Object::Pipe(_) => "the pipe".into(),
            Object::Descriptor(_, fd) => format!("descriptor {fd}"),
        };
        if let Some(why) = &mark.why {
            return Some(format!("{what} is not as recorded: {why}"));
        }
        let Some(call) = mark.call else {
            return Some(format!(
                "{what} is not as recorded, since `files` has a file that was not there"
            ));
        };
        let when = mark.event.map(|event| format!(" at event {event}"));
        Some(format!(
            "{what} is not as recorded, since the {call}{} had another answer",
            when.unwrap_or_default()
        ))
    }
}

impl Object {
    fn is_hit_by(&self, touched: &Object) -> bool {
        match (self, touched) {
            (Object::File(marked), Object::File(path)) => {
                let rest = path.strip_prefix(&marked[..]);
                rest.is_some_and(|rest| rest.is_empty() || rest[0] == b'/')
            }
            (marked, touched) => marked == touched,
        }
    }
}

/// A call with what it depends on.
struct At<'a> {
    seen: &'a HookCall,
    table: &'a DescriptorTable,
    files: &'a RecordedFiles,
}

impl At<'_> {
    fn text(&self, arg: usize) -> Option<Vec<u8>> {
        let mut text = vec![0; libc::PATH_MAX as usize];
        let n = Memory::read(&self.seen.memory, *self.seen.args.get(arg)?, &mut text);
        let end = text[..n].iter().position(|&byte| byte == 0)?;
        text.truncate(end);
        Some(text)
    }

    /// The absolute path of a path argument.
    fn path(&self, dir: Option<usize>, arg: usize) -> Option<Vec<u8>> {
        let text = self.text(arg)?;
        let dir = dir.map(|dir| self.seen.args[dir] as i32);
        let from = match dir.filter(|&fd| fd != libc::AT_FDCWD) {
            _ if text.starts_with(b"/") => &[][..],
            None => self.table.cwd(),
            Some(fd) => &self.table.open_file(fd)?.path,
        };
        Some(self.files.resolve(&[from, b"/", &text].concat()))
    }

    /// The file behind a descriptor.
    fn open(&self, fd: u64) -> Option<Object> {
        let file = self.table.open_file(fd as i32)?;
        if self.table.stream(fd as i32).is_some() || world::is_apart(&file.path) {
            return None;
        }
        if file.path.starts_with(b"/") {
            return Some(Object::File(file.path.clone()));
        }
        // Both ends of a pipe have its name.
        let name = file.path.strip_prefix(b"pipe:[")?;
        let number = std::str::from_utf8(name.strip_suffix(b"]")?).ok()?;
        Some(Object::Pipe(number.parse().ok()?))
    }

    /// What the answer to the call depends on.
    fn touched(&self) -> Vec<Object> {
        let call = self.seen.call;
        let args = &self.seen.args;
        let mut touched = Vec::new();
        for arg in call.path_args() {
            let is_text = matches!(call.name, "symlink" | "symlinkat") && arg == 0;
            let dir = arg.checked_sub(1).filter(|&dir| call.is_dir_fd(dir));
            if let Some(path) = self.path(dir, arg).filter(|_| !is_text) {
                let needs_entries = matches!(
                    call.name,
                    "rmdir" | "unlinkat" | "rename" | "renameat" | "renameat2"
                );
                if needs_entries || STATUS.contains(&call.name) {
                    touched.push(Object::Entries(path.clone()));
                }
                touched.push(Object::File(path));
            }
        }
        if let Some(fd) = call.fd_arg().filter(|_| call.name != "close") {
            touched.push(Object::Descriptor(self.seen.pid, args[fd] as i32));
        }
        if HARMLESS.contains(&call.name) {
            return touched;
        }
        let fds: &[usize] = match call.name {
            "copy_file_range" | "splice" => &[0, 2],
            "sendfile" | "tee" => &[0, 1],
            "mmap" => &[4],
            _ => &[0],
        };
        let is_fd = |arg: usize| call.fd_arg() == Some(arg) || fds.len() > 1;
        for &arg in fds
            .iter()
            .filter(|&&arg| is_fd(arg) && !call.is_dir_fd(arg))
        {
            match self.open(args[arg]) {
                Some(Object::File(path)) if call.name.starts_with("getdents") => {
                    touched.push(Object::Entries(path));
                }
                Some(Object::File(path)) if call.name == "fstat" => {
                    touched.push(Object::Entries(path.clone()));
                    touched.push(Object::File(path));
                }
                // What is written does not depend on what was written before.
                Some(Object::Pipe(_)) if !takes(call, arg) => {}
                object => touched.extend(object),
            }
        }
        touched
    }
}

/// Whether a call takes what is behind the descriptor in this argument.
fn takes(call: &Syscall, arg: usize) -> bool {
    match call.name {
        "splice" | "tee" => arg == 0,
        "sendfile" => arg == 1,
        _ => call.moves_data() == Some(Moved::Out),
    }
}

fn parent(path: &[u8]) -> Vec<u8> {
    let end = path.iter().rposition(|&byte| byte == b'/').unwrap_or(0);
    path[..end.max(1)].to_vec()
}

/// A call as it was told: with the effects that it has had. Nothing has happened where it was answered in the place of the
/// call.
pub(super) fn told(seen: &HookCall, ret: i64, is_made: bool) -> CallEvent {
    let chunk = |region: crate::syscall::Region| {
        let mut data = seen.memory.bytes(region.addr, region.len);
        // The answer may have moved a position on.
        for before in seen.before.iter().rev() {
            let end = |addr: u64, len: usize| addr.saturating_add(len as u64);
            let from = before.addr.max(region.addr);
            let to = end(before.addr, before.data.len()).min(end(region.addr, data.len()));
            if from < to {
                let of = |addr: u64| (from - addr) as usize..(to - addr) as usize;
                data[of(region.addr)].copy_from_slice(&before.data[of(before.addr)]);
            }
        }
        Chunk {
            addr: region.addr,
            data,
        }
    };
    let regions = match is_error(ret) {
        true => Vec::new(),
        false => seen.call.inputs(&seen.args, &seen.memory),
    };
    CallEvent {
        nr: seen.call.nr,
        args: seen.args,
        ip: 0,
        ret: Some(if is_made || is_error(ret) {
            ret
        } else {
            -i64::from(libc::ENOSYS)
        }),
        ins: regions.into_iter().map(chunk).collect(),
        outs: Vec::new(),
        effect: crate::recording::Effect::None,
    }
}
