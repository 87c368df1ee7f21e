//! Which paths calls are about, worked out from the calls alone: what a call names, or
//! what the descriptor that it uses was opened as.

use super::{Answer, Call, Trace, Value};
use crate::syscall;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// What is known of open descriptors takes no more than this, in bytes.
const MOST_BYTES: usize = 32 << 20;
/// What a descriptor takes besides its path.
const OVERHEAD: usize = 64;
/// Longer paths are none to the kernel (PATH_MAX), and not kept in mind.
const LONGEST_PATH: usize = 4096;
/// Tasks that are kept in mind.
const MOST_TASKS: usize = 1 << 16;
/// A new process with more descriptors than this, which is the usual limit, does not inherit them here: else a few
/// lines could stand for a lot of work, again and again.
const MOST_INHERITED: usize = 1024;

/// The paths behind the descriptors of each task, call by call: through `dup` and `close`, to threads, which share
/// them, and to new processes, which have copies. Memory is bounded: where there are too many tasks or
/// descriptors, what was known is forgotten.
#[derive(Clone, Debug, Default)]
pub struct Paths {
    /// Which table a task uses.
    tasks: HashMap<i32, u64>,
    tables: HashMap<u64, Table>,
    /// How many tables there were.
    numbered: u64,
    /// What the paths in the tables take.
    bytes: usize,
    /// Tasks in the midst of a call that makes a task, and whether that will share their descriptors.
    parents: BTreeMap<i32, bool>,
}

/// The descriptors of a task, or of several that share them.
#[derive(Clone, Debug, Default)]
struct Table {
    open: BTreeMap<i64, Arc<[u8]>>,
    users: usize,
}

fn size(path: &[u8]) -> usize {
    OVERHEAD + path.len()
}

impl Paths {
    /// The paths that the next call is about: those it names, or that behind its descriptor, where the call that
    /// opened it was seen. `tid` is the task, in case that the call does not say.
    pub fn next(&mut self, tid: i32, call: &Call) -> Vec<Vec<u8>> {
        self.appears(tid);
        let paths = self.paths(tid, call);
        self.follow(tid, call, &paths);
        paths
    }

    /// A task has begun a call that goes on later. A task that it makes may be seen before that.
    pub fn begun(&mut self, tid: i32, name: &str, args: &[Value]) {
        self.appears(tid);
        if let Some(shares) = makes_task(name, args)
            && self.parents.len() < MOST_TASKS
        {
            self.parents.insert(tid, shares);
        }
    }

    /// A task has ended.
    pub fn ended(&mut self, tid: i32) {
        self.parents.remove(&tid);
        let Some(number) = self.tasks.remove(&tid) else {
            return;
        };
        if let Some(table) = self.tables.get_mut(&number) {
            table.users -= 1;
            if table.users == 0 {
                self.bytes -= table.open.values().map(|path| size(path)).sum::<usize>();
                self.tables.remove(&number);
            }
        }
    }

    /// What is kept takes so many bytes.
    #[cfg(test)]
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// A task that was not seen before is that of the call that is making one, if there is only one.
    fn appears(&mut self, tid: i32) {
        if !self.tasks.contains_key(&tid)
            && self.parents.len() == 1
            && let Some((&parent, &shares)) = self.parents.first_key_value()
            && parent != tid
        {
            self.inherits(tid, parent, shares);
        }
    }

    /// A task is made by another one.
    fn inherits(&mut self, tid: i32, parent: i32, shares: bool) {
        self.ended(tid);
        if shares {
            let number = self.table(parent);
            self.uses(tid, number);
            return self.make_room();
        }
        let number = self.tasks.get(&parent);
        let table = number.and_then(|number| self.tables.get(number));
        let open = match table {
            Some(table) if table.open.len() <= MOST_INHERITED => table.open.clone(),
            _ => BTreeMap::new(),
        };
        self.bytes += open.values().map(|path| size(path)).sum::<usize>();
        let number = self.table(tid);
        if let Some(table) = self.tables.get_mut(&number) {
            table.open = open;
        }
        self.make_room();
    }

    /// The table of a task.
    fn table(&mut self, tid: i32) -> u64 {
        if let Some(&number) = self.tasks.get(&tid) {
            return number;
        }
        self.numbered += 1;
        let number = self.numbered;
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

    fn make_room(&mut self) {
        if self.tasks.len() > MOST_TASKS || self.bytes > MOST_BYTES {
            *self = Paths::default();
        }
    }

    /// The paths that a call names; where it names none, that behind its descriptor.
    fn paths(&self, tid: i32, call: &Call) -> Vec<Vec<u8>> {
        let Some(known) = syscall::by_name(&call.name) else {
            return Vec::new();
        };
        let named: Vec<Vec<u8>> = known
            .path_args()
            .into_iter()
            .filter_map(|arg| call.args.get(arg)?.as_bytes().map(<[u8]>::to_vec))
            .filter(|path| !path.is_empty())
            .collect();
        if !named.is_empty() {
            return named;
        }
        let Some(fd) = known.fd_arg().and_then(|arg| call.args.get(arg)) else {
            return Vec::new();
        };
        // With strace's -y, the text says it itself.
        if let Value::Fd {
            path: Some(path), ..
        } = fd.meaning()
        {
            return vec![path.clone()];
        }
        let table = || self.tables.get(self.tasks.get(&tid)?);
        let open = fd.as_i64().and_then(|fd| table()?.open.get(&fd));
        open.map(|path| path.to_vec()).into_iter().collect()
    }

    /// Follows a call.
    fn follow(&mut self, tid: i32, call: &Call, paths: &[Vec<u8>]) {
        let in_parts = self.parents.remove(&tid).is_some();
        let Answer::Value(ret) = call.answer else {
            return;
        };
        if let Some(shares) = makes_task(&call.name, &call.args) {
            // A task that was seen while it was being made has what it needs.
            match i32::try_from(ret) {
                Ok(new) if new > 0 && !(in_parts && self.tasks.contains_key(&new)) => {
                    self.inherits(new, tid, shares);
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
            name if known.returns_fd() || is_duplicate(name, call) => {
                self.close(tid, Some(ret), Some(ret));
                if let Some(path) = paths.first().filter(|path| path.len() <= LONGEST_PATH) {
                    self.open(tid, ret, path);
                }
            }
            _ => {}
        }
    }

    fn open(&mut self, tid: i32, fd: i64, path: &[u8]) {
        let number = self.table(tid);
        if let Some(table) = self.tables.get_mut(&number) {
            table.open.insert(fd, path.into());
            self.bytes += size(path);
        }
        self.make_room();
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
            && let Some(path) = table.open.remove(&fd)
        {
            self.bytes -= size(&path);
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

impl Trace {
    /// The calls in order, each with the paths that it is about: those it names, or
    /// that behind its descriptor, where the trace has the call that opened it.
    pub fn calls_with_paths(&self) -> impl Iterator<Item = (&Call, Vec<Vec<u8>>)> {
        let mut open = Paths::default();
        self.calls().map(move |call| {
            let paths = open.next(call.tid, call);
            (call, paths)
        })
    }
}
