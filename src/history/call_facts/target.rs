//! The files that a call is about.

use super::{Files, Made};
use crate::kernel::{FileKind, Object, files_named_by, is_terminal};
use crate::syscall::Memory;
use crate::syscall::plausible::{FileType, SocketFacts};
use crate::world::{Kind, NodeId, is_apart};

/// Devices that are no devices: of memory.
const MEMORY_DEVICES: [&[u8]; 5] = [
    b"/dev/null",
    b"/dev/zero",
    b"/dev/full",
    b"/dev/random",
    b"/dev/urandom",
];

/// Directories that are in memory by convention: see file-hierarchy(7).
const IN_MEMORY: [&[u8]; 3] = [b"/dev/shm/", b"/run/", b"/memfd:"];

/// A file that a call is about.
#[derive(Clone, Debug, Default)]
pub(super) struct Target {
    /// Its type, as far as it is known.
    pub file: Option<FileType>,
    /// Its absolute path, with symbolic links followed as the call does.
    pub path: Option<Vec<u8>>,
    /// The file in the world.
    pub node: Option<NodeId>,
    /// Whether it is known that there is no such file.
    pub is_absent: bool,
    /// The flags and the offset of the open file, where the call has a descriptor.
    pub open: Option<(i32, u64)>,
    /// Whether it is a socket with a limit on the time that calls wait.
    pub is_limited: bool,
}

impl Target {
    /// The files that a call names by paths; where it names none, those behind its descriptors, the one that data goes
    /// to last.
    pub fn all(made: &Made<'_>, world: &mut Files) -> Vec<Target> {
        let call = made.known;
        let named: Vec<Target> = {
            let files = files_named_by(made.call, made.descriptors);
            let passed = call
                .path_args()
                .into_iter()
                .filter(|&arg| is_passed(made, arg));
            let named = passed.zip(files).filter_map(|(arg, names)| {
                let file = call.named_files().find(|file| file.path == arg)?;
                let follows = call.follows_link(file, &made.call.args, &made.memory());
                // The name that the call passes is behind the one that the recorder has looked up.
                let path = names.absolute.last()?;
                Some(Target::named(path, follows, world))
            });
            named.collect()
        };
        if !named.is_empty() {
            return named;
        }
        let mut args = call.file_args();
        let to = ["fd_out", "out_fd"].iter().find_map(|name| call.arg(name));
        args.sort_by_key(|arg| Some(*arg) == to);
        let fds = args.into_iter().map(|arg| made.arg(arg) as i32);
        fds.filter_map(|fd| Target::behind(made, fd, world))
            .collect()
    }

    fn named(path: &[u8], follows: bool, world: &mut Files) -> Target {
        let path = world.resolve(path, follows);
        let node = world.node(&path);
        let kind = node
            .and_then(|id| world.get(id))
            .map(|node| match &node.kind {
                Kind::File(_) => FileType::Regular,
                Kind::Directory => FileType::Directory,
                Kind::Link(_) => FileType::Symlink,
                Kind::Special(mode, _) => special(*mode, &path),
            });
        // What is apart from all files is not a part of the world.
        let of_kernel = || match path.starts_with(b"/dev/") {
            true => special(libc::S_IFCHR, &path),
            false => FileType::Regular,
        };
        Target {
            file: kind.or_else(|| is_apart(&path).then(of_kernel)),
            node,
            is_absent: node.is_none() && world.knows(&path) && !is_apart(&path),
            path: Some(path),
            ..Target::default()
        }
    }

    fn behind(made: &Made<'_>, fd: i32, world: &mut Files) -> Option<Target> {
        let (id, open) = made.descriptors.file(fd)?;
        let node = world.of_descriptor(made.descriptors, fd);
        let is_directory = node
            .and_then(|id| world.get(id))
            .map_or(open.flags & libc::O_DIRECTORY != 0, |node| {
                node.is_directory()
            });
        let mut is_limited = false;
        let file = match open.kind() {
            FileKind::Path if is_directory => FileType::Directory,
            FileKind::Path => FileType::Regular,
            FileKind::Terminal => FileType::Terminal,
            FileKind::Device if open.is_pipe() => FileType::Fifo,
            FileKind::Device => FileType::Device,
            FileKind::Pipe => FileType::Pipe,
            FileKind::Anonymous => FileType::Anonymous,
            FileKind::Socket => {
                is_limited = has_time_limit(made, id);
                FileType::Socket(socket(made, id))
            }
        };
        Some(Target {
            file: Some(file),
            path: open.path.starts_with(b"/").then(|| open.path.clone()),
            node,
            is_absent: false,
            open: Some((open.flags, open.offset)),
            is_limited,
        })
    }

    /// Whether a device is behind it: a disk, as far as paths tell, or a terminal.
    pub fn has_device(&self) -> bool {
        match self.file {
            Some(FileType::Terminal) => true,
            Some(FileType::Device) => {
                let path = self.path.as_deref().unwrap_or(b"");
                !MEMORY_DEVICES.contains(&path)
            }
            None | Some(FileType::Regular | FileType::Directory | FileType::Symlink) => {
                let in_memory = |path: &[u8]| IN_MEMORY.iter().any(|dir| path.starts_with(dir));
                let path = self.path.as_deref();
                path.is_some_and(|path| !is_apart(path) && !in_memory(path))
            }
            Some(FileType::Pipe | FileType::Fifo | FileType::Socket(_) | FileType::Anonymous) => {
                false
            }
        }
    }

    /// Its size in bytes, where it is a regular file and that is known.
    pub fn size(&self, world: &Files) -> Option<u64> {
        match &world.get(self.node?)?.kind {
            Kind::File(content) => Some(content.len()),
            _ => None,
        }
    }
}

/// Whether a call names a file by a path.
pub(super) fn names_a_path(made: &Made<'_>) -> bool {
    let paths = made.known.path_args();
    paths.into_iter().any(|arg| is_passed(made, arg))
}

/// Whether a path argument has a text that is not empty.
fn is_passed(made: &Made<'_>, arg: usize) -> bool {
    let mut first = [0];
    made.memory().read(made.arg(arg), &mut first) == 1 && first != [0]
}

/// Whether the last two of these files are in different directories.
pub(super) fn are_in_two_directories(targets: &[Target]) -> bool {
    let [.., one, other] = targets else {
        return false;
    };
    let dir = |target: &Target| {
        let path = target.path.as_deref()?;
        let end = path.iter().rposition(|&byte| byte == b'/')?;
        Some(path[..end].to_vec())
    };
    matches!((dir(one), dir(other)), (Some(one), Some(other)) if one != other)
}

fn special(mode: u32, path: &[u8]) -> FileType {
    match mode & libc::S_IFMT {
        libc::S_IFIFO => FileType::Fifo,
        libc::S_IFSOCK => FileType::Socket(SocketFacts::default()),
        _ if is_terminal(path) => FileType::Terminal,
        _ => FileType::Device,
    }
}

/// The type and state of a socket, and whether the call names a Unix domain socket by a path.
fn socket(made: &Made<'_>, id: u64) -> SocketFacts {
    let Some(Object::Socket(socket)) = made.kernel.object(id) else {
        // The program was started with it: as a standard stream, it is a connection.
        return SocketFacts {
            stream: true,
            connected: true,
            ..SocketFacts::default()
        };
    };
    let (family, kind, _) = socket.kind;
    SocketFacts {
        stream: kind == libc::SOCK_STREAM || kind == libc::SOCK_SEQPACKET,
        connected: socket.connected.is_some() || socket.peer.is_some(),
        network: family == libc::AF_INET || family == libc::AF_INET6,
        unix: family == libc::AF_UNIX,
        path: has_path(made),
    }
}

/// Whether the call passes an address with a path: sockaddr_un of unix(7).
fn has_path(made: &Made<'_>) -> bool {
    let (address, len) = match made.name() {
        "bind" | "connect" => (made.arg(1), made.arg(2)),
        "sendto" => (made.arg(4), made.arg(5)),
        _ => return false,
    };
    let mut start = [0; 3];
    let is_there = len >= 3 && made.memory().read(address, &mut start) == start.len();
    is_there
        && i32::from(u16::from_ne_bytes([start[0], start[1]])) == libc::AF_UNIX
        && start[2] != 0
}

/// Whether a socket has a limit on the time for which receiving or sending waits.
fn has_time_limit(made: &Made<'_>, id: u64) -> bool {
    let Some(Object::Socket(socket)) = made.kernel.object(id) else {
        return false;
    };
    let limits = [libc::SO_RCVTIMEO, libc::SO_SNDTIMEO];
    let is_limit = |&(level, name, ref value): &(i32, i32, Vec<u8>)| {
        level == libc::SOL_SOCKET && limits.contains(&name) && value.iter().any(|&byte| byte != 0)
    };
    socket.options.iter().any(is_limit)
}
