//! The device and inode numbers that programs have seen: stat(2) and kin.

use super::Descriptors;
use crate::recording::{CallEvent, ChunkMemory};
use crate::syscall::{FileNumbers, Memory, StatusLayout};
use std::collections::BTreeMap;

/// The most files whose numbers are kept.
const MOST: usize = 1 << 16;

/// The device and inode numbers of existing files, by their paths, as programs saw them last. Symbolic links are not
/// followed: their own numbers are kept.
#[derive(Clone, Debug, Default)]
pub struct SeenFileNumbers(BTreeMap<Vec<u8>, FileNumbers>);

impl SeenFileNumbers {
    /// The numbers of the file at this path.
    pub fn get(&self, path: &[u8]) -> Option<FileNumbers> {
        self.0.get(path).copied()
    }

    /// Follows a call.
    pub fn follow(&mut self, call: &CallEvent, before: &dyn Descriptors) {
        if call.ret != Some(0) {
            return;
        }
        let args = &call.args;
        match i64::from(call.nr) {
            libc::SYS_fstat => self.status(call, of(args[0], before), StatusLayout::STAT, args[1]),
            libc::SYS_lstat => {
                let path = named(call, None, args[0], before);
                self.status(call, path, StatusLayout::STAT, args[1]);
            }
            libc::SYS_newfstatat => {
                let path = by_flags(call, args[3], before);
                self.status(call, path, StatusLayout::STAT, args[2]);
            }
            libc::SYS_statx => {
                let path = by_flags(call, args[2], before);
                self.status(call, path, StatusLayout::STATX, args[4]);
            }
            libc::SYS_unlink | libc::SYS_rmdir => self.gone(named(call, None, args[0], before)),
            libc::SYS_unlinkat => self.gone(named(call, Some(args[0]), args[1], before)),
            libc::SYS_rename => self.renamed(
                named(call, None, args[0], before),
                named(call, None, args[1], before),
                false,
            ),
            libc::SYS_renameat | libc::SYS_renameat2 => {
                let is_exchange = i64::from(call.nr) == libc::SYS_renameat2
                    && args[4] as u32 & libc::RENAME_EXCHANGE != 0;
                self.renamed(
                    named(call, Some(args[0]), args[1], before),
                    named(call, Some(args[2]), args[3], before),
                    is_exchange,
                );
            }
            _ => {}
        }
    }

    fn status(&mut self, call: &CallEvent, path: Option<Vec<u8>>, layout: StatusLayout, at: u64) {
        let numbers = layout.read(&ChunkMemory(&call.outs), at);
        if let (Some(path), Some(numbers)) = (path, numbers)
            && (self.0.len() < MOST || self.0.contains_key(&path))
        {
            self.0.insert(path, numbers);
        }
    }

    fn gone(&mut self, path: Option<Vec<u8>>) {
        if let Some(path) = path {
            self.0.remove(&path);
        }
    }

    fn renamed(&mut self, from: Option<Vec<u8>>, to: Option<Vec<u8>>, is_exchange: bool) {
        let (Some(from), Some(to)) = (from, to) else {
            return;
        };
        let [old, new] = [self.take(&from), self.take(&to)];
        self.put(&to, old);
        if is_exchange {
            self.put(&from, new);
        }
    }

    /// Removes the numbers of a file and of all files below it; returns them with the rest of each path.
    fn take(&mut self, path: &[u8]) -> Vec<(Vec<u8>, FileNumbers)> {
        let below = |known: &&Vec<u8>| {
            let rest = known.strip_prefix(path);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"))
        };
        let behind = self.0.range(path.to_vec()..).map(|(known, _)| known);
        let near: Vec<Vec<u8>> = behind
            .take_while(|known| known.starts_with(path))
            .filter(below)
            .cloned()
            .collect();
        let taken = near.into_iter().filter_map(|known| {
            let numbers = self.0.remove(&known)?;
            Some((known[path.len()..].to_vec(), numbers))
        });
        taken.collect()
    }

    fn put(&mut self, path: &[u8], list: Vec<(Vec<u8>, FileNumbers)>) {
        for (rest, numbers) in list {
            self.0.insert([path, &rest].concat(), numbers);
        }
    }
}

/// The path behind a descriptor.
fn of(fd: u64, before: &dyn Descriptors) -> Option<Vec<u8>> {
    let (_, file) = before.file(fd as i32)?;
    file.path.starts_with(b"/").then(|| file.path.clone())
}

/// The path of the file that newfstatat(2) or statx(2) is about, where that is clear without following links.
fn by_flags(call: &CallEvent, flags: u64, before: &dyn Descriptors) -> Option<Vec<u8>> {
    let flags = flags as i32;
    let at = call.args[1];
    let is_empty = || at == 0 || text(call, at).is_some_and(|path| path.is_empty());
    if flags & libc::AT_EMPTY_PATH != 0 && is_empty() {
        return of(call.args[0], before);
    }
    (flags & libc::AT_SYMLINK_NOFOLLOW != 0)
        .then(|| named(call, Some(call.args[0]), at, before))
        .flatten()
}

/// The absolute path of a path argument, if that is clear without a file system.
fn named(call: &CallEvent, dir: Option<u64>, at: u64, before: &dyn Descriptors) -> Option<Vec<u8>> {
    let path = text(call, at)?;
    let mut whole = match dir.map(|fd| fd as i32) {
        _ if path.starts_with(b"/") => Vec::new(),
        None | Some(libc::AT_FDCWD) => before.cwd().to_vec(),
        Some(fd) => of(fd as u64, before)?,
    };
    if whole == b"/" {
        whole.clear();
    }
    for part in path.split(|&byte| byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." => return None,
            part => {
                whole.push(b'/');
                whole.extend_from_slice(part);
            }
        }
    }
    whole.starts_with(b"/").then_some(whole)
}

fn text(call: &CallEvent, at: u64) -> Option<Vec<u8>> {
    let mut path = vec![0; libc::PATH_MAX as usize];
    let n = ChunkMemory(&call.ins).read(at, &mut path);
    path.truncate(path[..n].iter().position(|&byte| byte == 0)?);
    Some(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_renamed_keeps_its_numbers() {
        let numbers = |inode| FileNumbers {
            device: 1,
            inode,
            is_dir: false,
        };
        let paths = ["/a", "/a/b", "/a-b", "/c", "/c/x"];
        let mut seen = SeenFileNumbers::default();
        for (inode, path) in paths.into_iter().enumerate() {
            seen.put(path.as_bytes(), vec![(Vec::new(), numbers(inode as u64))]);
        }
        let (a, c) = (Some(b"/a".to_vec()), Some(b"/c".to_vec()));
        seen.renamed(a.clone(), c.clone(), true);
        assert_eq!(seen.get(b"/a/x"), Some(numbers(4)));
        assert_eq!(seen.get(b"/c/b"), Some(numbers(1)));
        seen.renamed(a, c.clone(), false);
        assert_eq!(seen.get(b"/c/x"), Some(numbers(4)));
        assert_eq!(seen.get(b"/c/b"), None);
        seen.gone(c);
        assert_eq!(seen.0.len(), 2, "{seen:?}");
    }
}
