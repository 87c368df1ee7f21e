//! The terminals of rrapper that a recorded program goes on using: those behind its standard streams, and the controlling
//! one. They have the same paths inside.

use std::fs;
use std::io::{self, IsTerminal};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// A terminal of the machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::sandbox) enum Terminal {
    /// `/dev/pts/N`.
    Pseudo(u32),
    /// Another one, by its name in `/dev`.
    Device(PathBuf),
}

impl Terminal {
    /// Its path.
    pub(in crate::sandbox) fn path(&self) -> PathBuf {
        match self {
            Terminal::Pseudo(number) => PathBuf::from(format!("/dev/pts/{number}")),
            Terminal::Device(name) => Path::new("/dev").join(name),
        }
    }

    fn at(path: &Path) -> Option<Terminal> {
        let inner = path.strip_prefix("/dev").ok()?;
        let name = inner.to_str()?;
        match name.strip_prefix("pts/") {
            Some(number) => Some(Terminal::Pseudo(number.parse().ok()?)),
            None if name.contains('/') => None,
            None => Some(Terminal::Device(inner.to_path_buf())),
        }
    }
}

/// The terminals of the calling process.
pub(in crate::sandbox) fn of_caller() -> Vec<Terminal> {
    let are_terminals = [
        io::stdin().is_terminal(),
        io::stdout().is_terminal(),
        io::stderr().is_terminal(),
    ];
    let open = (0..3).filter(|&fd| are_terminals[fd]);
    let mut all: Vec<Terminal> = open.filter_map(behind).chain(controlling()).collect();
    all.sort_unstable_by_key(Terminal::path);
    all.dedup();
    all
}

/// The terminal behind a descriptor, if it is the one that its path leads to.
fn behind(fd: usize) -> Option<Terminal> {
    let link = format!("/proc/self/fd/{fd}");
    let path = fs::read_link(&link).ok()?;
    let (there, open) = (fs::metadata(&path).ok()?, fs::metadata(link).ok()?);
    let is_it = (there.dev(), there.ino()) == (open.dev(), open.ino());
    is_it.then(|| Terminal::at(&path))?
}

/// The controlling terminal, if it is one in `/dev/pts`: proc(5), `tty_nr`.
fn controlling() -> Option<Terminal> {
    /// The place of the number behind the program's name.
    const NUMBER: usize = 4;
    const PSEUDO: u32 = 136;
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    let (_, rest) = stat.rsplit_once(')')?;
    let number: i32 = rest.split_whitespace().nth(NUMBER)?.parse().ok()?;
    let device = u64::from(number as u32);
    let terminal = Terminal::Pseudo(libc::minor(device));
    let is_there = fs::metadata(terminal.path()).is_ok_and(|meta| meta.rdev() == device);
    (libc::major(device) == PSEUDO && is_there).then_some(terminal)
}
