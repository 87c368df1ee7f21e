//! The files that calls operate on, worked out from the calls alone: the paths that a call names, or the path with
//! which its descriptor was opened. The current directory is known once a call has shown it.

use super::file_names::{self, CallFiles, FileNames};
use super::{Answer, Call, Value};
use crate::syscall;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// The limit on the memory for open descriptors, in bytes.
const MOST_BYTES: usize = 32 << 20;
/// The memory that a descriptor takes besides its path.
const OVERHEAD: usize = 64;
/// The kernel refuses longer paths (PATH_MAX); they are not kept.
const LONGEST_PATH: usize = 4096;
/// The limit on the number of tasks.
const MOST_TASKS: usize = 1 << 16;
/// A new process does not inherit more descriptors than this, which is the usual limit: otherwise a few lines could
/// cost a lot of work, again and again.
const MOST_INHERITED: usize = 1024;

/// The paths behind the descriptors of each task, call by call: `dup` and `close` are followed, threads share a table,
/// and new processes copy it. Memory is bounded: where there are too many tasks or descriptors, all tables are dropped.
#[derive(Clone, Debug, Default)]
pub struct DescriptorPaths {
    /// The table that each task uses.
    tasks: HashMap<i32, u64>,
    tables: HashMap<u64, Table>,
    /// The number of tables made so far.
    tables_made: u64,
    /// The memory that the paths in the tables take.
    bytes: usize,
    /// Tasks within a call that makes a task, and whether the new task will share their descriptors.
    parents: BTreeMap<i32, bool>,
    /// The initial current directory, where a call has shown it before any call has changed it.
    initial_dir: Option<Arc<[u8]>>,
    /// Whether a call has changed a current directory.
    cwd_changed: bool,
}

/// The descriptors and the current directory of a task, or of several that share them.
#[derive(Clone, Debug, Default)]
struct Table {
    open: BTreeMap<i64, Arc<Open>>,
    cwd: Option<Arc<[u8]>>,
    users: usize,
}

/// The names of an open file.
#[derive(Clone, Debug)]
struct Open {
    text: Box<[u8]>,
    /// The absolute path, where that is known.
    file: Option<Box<[u8]>>,
    /// The absolute path before a rename.
    former: Option<Box<[u8]>>,
}

fn size(open: &Open) -> usize {
    let len = |name: &Option<Box<[u8]>>| name.as_ref().map_or(0, |name| name.len());
    OVERHEAD + open.text.len() + len(&open.file) + len(&open.former)
}

impl Table {
    fn size(&self) -> usize {
        let cwd = self.cwd.as_ref().map_or(0, |cwd| cwd.len());
        cwd + self.open.values().map(|open| size(open)).sum::<usize>()
    }
}

impl DescriptorPaths {
    /// Sets the current directory and the descriptors of a task from another source.
    pub fn set_task_files(
        &mut self,
        tid: i32,
        (cwd, initial_dir): (&[u8], &[u8]),
        open: impl Iterator<Item = (i32, FileNames)>,
    ) {
        self.initial_dir = Some(initial_dir.into());
        self.set_cwd(tid, Some(cwd.to_vec()));
        for (fd, file) in open {
            self.open(tid, fd.into(), &file);
        }
    }

    /// Has two tasks share their descriptors and current directory.
    pub fn share_task_files(&mut self, tid: i32, with: i32) {
        self.inherit(tid, with, true);
    }

    /// The files that the next call operates on: those it names, or the file behind its descriptor, where the call that
    /// opened it was seen. `tid` is the task, since the call may not have it.
    pub fn next(&mut self, tid: i32, call: &Call) -> CallFiles {
        self.link_to_parent(tid);
        self.note_cwd(tid, call);
        let files = self.files(tid, call);
        let cwd = self.cwd(tid).into_iter();
        let dirs = cwd.chain(self.initial_dir.clone()).collect();
        let about = CallFiles { files, dirs };
        self.follow(tid, call, &about);
        about
    }

    /// Follows the first part of an unfinished call. A task that the call makes may appear before its rest does.
    pub fn begun(&mut self, tid: i32, name: &str, args: &[Value]) {
        self.link_to_parent(tid);
        if let Some(shares) = makes_task(name, args)
            && self.parents.len() < MOST_TASKS
        {
            self.parents.insert(tid, shares);
        }
    }

    /// Follows the end of a task.
    pub fn ended(&mut self, tid: i32) {
        self.parents.remove(&tid);
        let Some(number) = self.tasks.remove(&tid) else {
            return;
        };
        if let Some(table) = self.tables.get_mut(&number) {
            table.users -= 1;
            if table.users == 0 {
                self.bytes -= table.size();
                self.tables.remove(&number);
            }
        }
    }

    /// The memory that the paths take, in bytes.
    #[cfg(test)]
    fn bytes(&self) -> usize {
        self.bytes
    }

    /// Takes a new task for the child of the only task that is within a call that makes one.
    fn link_to_parent(&mut self, tid: i32) {
        if !self.tasks.contains_key(&tid)
            && self.parents.len() == 1
            && let Some((&parent, &shares)) = self.parents.first_key_value()
            && parent != tid
        {
            self.inherit(tid, parent, shares);
        }
    }

    /// Gives a new task the table of its parent, or a copy.
    fn inherit(&mut self, tid: i32, parent: i32, shares: bool) {
        self.ended(tid);
        if shares {
            let number = self.table_number(parent);
            self.uses(tid, number);
            return self.enforce_limits();
        }
        let number = self.tasks.get(&parent);
        let table = number.and_then(|number| self.tables.get(number));
        let (open, cwd) = match table {
            Some(table) if table.open.len() <= MOST_INHERITED => {
                (table.open.clone(), table.cwd.clone())
            }
            Some(table) => (BTreeMap::new(), table.cwd.clone()),
            None => Default::default(),
        };
        let number = self.table_number(tid);
        if let Some(table) = self.tables.get_mut(&number) {
            (table.open, table.cwd) = (open, cwd);
            self.bytes += table.size();
        }
        self.enforce_limits();
    }

    /// The table of a task.
    fn table_number(&mut self, tid: i32) -> u64 {
        if let Some(&number) = self.tasks.get(&tid) {
            return number;
        }
        self.tables_made += 1;
        let number = self.tables_made;
        self.tables.insert(number, Table::default());
        self.uses(tid, number);
        number
    }

    fn uses(&mut self, tid: i32, number: u64) {
        if let Some(table) = self.tables.get_mut(&number) {
            table.users += 1;
            self.tasks.insert(tid, number);
        }
    }

    fn enforce_limits(&mut self) {
        if self.tasks.len() > MOST_TASKS || self.bytes > MOST_BYTES {
            *self = DescriptorPaths::default();
        }
    }

    fn table_of(&self, tid: i32) -> Option<&Table> {
        self.tables.get(self.tasks.get(&tid)?)
    }

    fn cwd(&self, tid: i32) -> Option<Arc<[u8]>> {
        self.table_of(tid)?.cwd.clone()
    }

    /// Follows the current directory as calls show it: getcwd(2), and strace with `-y`.
    fn note_cwd(&mut self, tid: i32, call: &Call) {
        let here = call.args.iter().find_map(|arg| match arg.meaning() {
            Value::Fd {
                fd: libc::AT_FDCWD,
                path: Some(path),
            } => Some(path.as_slice()),
            _ => None,
        });
        let stated = match (call.name.as_str(), call.args.first(), &call.answer) {
            ("getcwd", Some(buf), Answer::Value(_)) => buf.as_bytes(),
            _ => here,
        };
        if let Some(dir) = stated.filter(|dir| dir.starts_with(b"/")) {
            if !self.cwd_changed && self.initial_dir.is_none() && dir.len() <= LONGEST_PATH {
                self.initial_dir = Some(dir.into());
            }
            self.set_cwd(tid, Some(dir.to_vec()));
        }
    }

    fn set_cwd(&mut self, tid: i32, dir: Option<Vec<u8>>) {
        let dir = dir.filter(|dir| dir.len() <= LONGEST_PATH);
        let number = self.table_number(tid);
        if let Some(table) = self.tables.get_mut(&number)
            && table.cwd.as_deref() != dir.as_deref()
        {
            let len = |cwd: &Option<Arc<[u8]>>| cwd.as_ref().map_or(0, |cwd| cwd.len());
            self.bytes -= len(&table.cwd);
            table.cwd = dir.map(Arc::from);
            self.bytes += len(&table.cwd);
        }
        self.enforce_limits();
    }

    /// The files that a call names; where it names none, the file behind its descriptor.
    fn files(&self, tid: i32, call: &Call) -> Vec<FileNames> {
        let Some(known) = syscall::by_name(&call.name) else {
            return Vec::new();
        };
        let mut named = Vec::new();
        for arg in known.path_args() {
            let path = call.args.get(arg).and_then(Value::as_bytes);
            let Some(path) = path.filter(|path| !path.is_empty()) else {
                continue;
            };
            let file = known.named_files().find(|file| file.path == arg);
            let absolute = file.and_then(|file| match (path.first(), file.dir) {
                (Some(b'/'), _) => Some(file_names::normalize(path)),
                (_, None) => Some(file_names::join(self.table_of(tid)?.cwd.as_deref()?, path)),
                (_, Some(dir)) => {
                    Some(file_names::join(&self.dir(tid, call.args.get(dir)?)?, path))
                }
            });
            named.push(FileNames {
                text: path.to_vec(),
                absolute: absolute.into_iter().collect(),
            });
        }
        if !named.is_empty() {
            return named;
        }
        let fd = known.fd_arg().and_then(|arg| call.args.get(arg));
        fd.and_then(|fd| self.behind(tid, fd)).into_iter().collect()
    }

    /// The file behind a descriptor.
    fn behind(&self, tid: i32, fd: &Value) -> Option<FileNames> {
        // With strace's -y, the text has the path.
        if let Value::Fd {
            path: Some(path), ..
        } = fd.meaning()
        {
            let text = path.clone();
            let absolute = vec![text.clone()];
            return Some(FileNames { text, absolute });
        }
        let open = self.table_of(tid)?.open.get(&fd.as_i64()?)?;
        let absolute = open.file.iter().chain(&open.former);
        Some(FileNames {
            text: open.text.to_vec(),
            absolute: absolute.map(|name| name.to_vec()).collect(),
        })
    }

    /// The directory that a relative path starts from.
    fn dir(&self, tid: i32, dir: &Value) -> Option<Vec<u8>> {
        if dir.as_i64() == Some(i64::from(libc::AT_FDCWD)) {
            return self.cwd(tid).map(|cwd| cwd.to_vec());
        }
        self.behind(tid, dir)?.absolute.into_iter().next()
    }

    /// Follows the effect of a call on descriptors and directories.
    fn follow(&mut self, tid: i32, call: &Call, about: &CallFiles) {
        let in_parts = self.parents.remove(&tid).is_some();
        let Answer::Value(ret) = call.answer else {
            return;
        };
        if let Some(shares) = makes_task(&call.name, &call.args) {
            // A task that appeared before this call returned has its table already.
            match i32::try_from(ret) {
                Ok(new) if new > 0 && !(in_parts && self.tasks.contains_key(&new)) => {
                    self.inherit(new, tid, shares);
                }
                _ => {}
            }
            return;
        }
        let Some(known) = syscall::by_name(&call.name) else {
            return;
        };
        let number = |arg: usize| call.args.get(arg).and_then(Value::as_i64);
        match known.name {
            "close" => self.close(tid, number(0), number(0)),
            "close_range" if number(2) == Some(0) => self.close(tid, number(0), number(1)),
            "chdir" | "fchdir" => {
                self.cwd_changed = true;
                self.set_cwd(tid, about.file().map(<[u8]>::to_vec));
            }
            "rename" | "renameat" | "renameat2" => self.renamed(tid, about),
            name if known.returns_fd() || is_duplicate(name, call) => {
                self.close(tid, Some(ret), Some(ret));
                if let Some(file) = about.files.first() {
                    self.open(tid, ret, file);
                }
            }
            _ => {}
        }
    }

    fn open(&mut self, tid: i32, fd: i64, file: &FileNames) {
        if file.text.len() > LONGEST_PATH {
            return;
        }
        let mut absolute = file
            .absolute
            .iter()
            .filter(|name| name.len() <= LONGEST_PATH);
        let mut next = || absolute.next().map(|name| name.as_slice().into());
        let open = Open {
            text: file.text.as_slice().into(),
            file: next(),
            former: next(),
        };
        let number = self.table_number(tid);
        if let Some(table) = self.tables.get_mut(&number) {
            self.bytes += size(&open);
            table.open.insert(fd, Arc::new(open));
        }
        self.enforce_limits();
    }

    /// Open files go by their new names, too.
    fn renamed(&mut self, tid: i32, about: &CallFiles) {
        let names: Vec<_> = about
            .files
            .iter()
            .map(|file| file.absolute.first())
            .collect();
        let [Some(old), Some(new)] = names.as_slice() else {
            return;
        };
        let number = self.tasks.get(&tid);
        let Some(table) = number.and_then(|number| self.tables.get_mut(number)) else {
            return;
        };
        if table.open.len() > MOST_INHERITED {
            return;
        }
        for open in table.open.values_mut() {
            if open.file.as_deref() == Some(old.as_slice()) {
                self.bytes -= size(open);
                *open = Arc::new(Open {
                    text: open.text.clone(),
                    file: Some(new.as_slice().into()),
                    former: open.file.clone(),
                });
                self.bytes += size(open);
            }
        }
        self.enforce_limits();
    }

    /// Closes these, both ends included.
    fn close(&mut self, tid: i32, first: Option<i64>, last: Option<i64>) {
        let (Some(first), Some(last)) = (first, last) else {
            return;
        };
        let number = self.tasks.get(&tid);
        let Some(table) = number.and_then(|number| self.tables.get_mut(number)) else {
            return;
        };
        // Each descriptor is closed once: this takes no longer than opening them did.
        while first <= last
            && let Some((&fd, _)) = table.open.range(first..=last).next()
            && let Some(open) = table.open.remove(&fd)
        {
            self.bytes -= size(&open);
        }
    }
}

/// Of a call that makes a task, whether that shares the descriptors.
fn makes_task(name: &str, args: &[Value]) -> Option<bool> {
    let flags = match name {
        "fork" | "vfork" => return Some(false),
        "clone" | "clone2" => args.iter().find(
            |arg| matches!(arg.meaning(), Value::Sym { text, .. } if text.starts_with("flags=")),
        ),
        "clone3" => match args.first().map(Value::meaning) {
            Some(Value::Change { before, .. }) => before.field("flags"),
            Some(other) => other.field("flags"),
            None => None,
        },
        _ => return None,
    };
    let Some(Value::Sym { text, value }) = flags.map(Value::meaning) else {
        let bits = flags.and_then(Value::as_i64).unwrap_or(0);
        return Some(bits & i64::from(libc::CLONE_FILES) != 0);
    };
    let bits = value.is_some_and(|bits| bits & i64::from(libc::CLONE_FILES) != 0);
    Some(bits || text.contains("CLONE_FILES"))
}

fn is_duplicate(name: &str, call: &Call) -> bool {
    matches!(name, "dup" | "dup2" | "dup3")
        || (name == "fcntl"
            && matches!(call.args.get(1).map(Value::meaning), Some(Value::Sym { text, .. }) if text.starts_with("F_DUPFD")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::strace;

    #[test]
    fn descriptors_without_end_do_not_fill_memory() {
        let long = "p".repeat(4000);
        let open = |i: usize| format!("1 open(\"{long}\", O_RDONLY) = {i}\n");
        let text: String = (3..20_000).map(open).collect();
        let mut paths = DescriptorPaths::default();
        for call in strace::parse(text.as_bytes(), "text").trace.calls() {
            paths.next(1, call);
            assert!(paths.bytes() <= 32 << 20);
        }
        paths.ended(1);
        assert_eq!(paths.bytes(), 0);
    }
}
