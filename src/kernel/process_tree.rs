//! The tree of processes at an event: tasks, their parents, descriptors, programs and seccomp filters. It follows the
//! frames of a recording.
//!
//! Processes share an open file after fork(2) or a message, tasks a table of descriptors with `CLONE_FILES`, the
//! current directory and the umask with `CLONE_FS`.
//!
//! The parent of an orphan is 1 until the orphan calls getppid(2): the reaper is not known before.

use super::descriptors::{Descriptor, FdTable, FsContext, Pool, TaskFiles, at_start, failed};
use super::job_control::Jobs;
use super::process::{new_namespaces, sets};
use super::{DescriptorTable, Descriptors, OpenFile, Program, Stream};
use crate::image::{Backing, FileId};
use crate::recording::{
    CallEvent, ChunkMemory, Effect, Event, EventKind, Frame, NewTask, Opened, Start,
};
use crate::seccomp;
use std::collections::BTreeMap;
use std::sync::Arc;

/// More descriptors than the tables of all processes have together, unless the recording is damaged.
const MOST_DESCRIPTORS: usize = 4 << 20;

/// More mapped files than a recording has, unless it is damaged.
const MOST_MAPPED: usize = 1 << 16;

/// A task: its process, and the indices of its descriptor table and its file-system context.
#[derive(Clone, Copy, Debug)]
struct Task {
    pid: i32,
    table: usize,
    fs: usize,
}

#[derive(Clone, Debug)]
struct Process {
    ppid: i32,
    /// The program that it runs; the default before the first execve(2).
    program: Arc<Program>,
    /// The number of its tasks.
    tasks: usize,
    /// Whether it, or a process that it was forked from, has set attributes: see
    /// [`ProcessState`](super::ProcessState).
    has_process_state: bool,
}

/// All tasks at an event of a recording.
#[derive(Clone, Debug, Default)]
pub struct ProcessTree {
    tasks: BTreeMap<i32, Task>,
    processes: BTreeMap<i32, Process>,
    tables: Pool<FdTable>,
    fs_contexts: Pool<FsContext>,
    files: Pool<OpenFile>,
    /// The name of each kept copy that has been mapped so far.
    mapped: BTreeMap<FileId, Vec<u8>>,
    /// The seccomp state of each task that has any.
    filters: BTreeMap<i32, seccomp::State>,
    /// The pids of each task in nested pid namespaces: see [`NewTask::numbers`].
    numbers: BTreeMap<i32, Vec<i32>>,
    /// Process groups, sessions and terminals.
    pub(super) jobs: Jobs,
}

impl ProcessTree {
    /// The one task that a recording begins with.
    pub fn at_start(start: &Start) -> ProcessTree {
        let (fds, files, fs) = at_start(start);
        let mut tree = ProcessTree {
            files,
            ..ProcessTree::default()
        };
        let task = Task {
            pid: start.pid,
            table: tree.tables.add(fds),
            fs: tree.fs_contexts.add(fs),
        };
        tree.add(start.pid, task, start.ppid);
        tree.jobs.begun(start.pid);
        tree
    }

    /// Follows a frame.
    pub fn follow(&mut self, frame: &Frame) {
        match frame {
            Frame::Event(event) => self.follow_event(event),
            Frame::NewTask(born) => self.born(born),
            Frame::Gone { tid, .. } => self.gone(*tid),
            Frame::JobControl(seen) => self.jobs.seen(seen),
            _ => {}
        }
    }

    /// Follows an event.
    pub fn follow_event(&mut self, event: &Event) {
        match &event.kind {
            EventKind::Call(call) => self.call(event.tid, call),
            EventKind::Signal(signal) => {
                if let Some(pid) = self.pid(event.tid) {
                    self.jobs.signal(pid, signal.signal, &signal.info);
                }
            }
        }
    }

    /// Follows a call of this task.
    pub fn call(&mut self, tid: i32, call: &CallEvent) {
        let Some(ret) = call.ret.filter(|_| call.was_made()) else {
            return;
        };
        let Some(&task) = self.tasks.get(&tid) else {
            return;
        };
        if !failed(ret) {
            self.filter(tid, task.pid, call, ret);
            self.note_mapped(tid, call);
            self.unshare(tid, task, call, ret);
            if sets(call)
                && let Some(process) = self.processes.get_mut(&task.pid)
            {
                process.has_process_state = true;
            }
        }
        match &call.effect {
            Effect::Opened(list) if !failed(ret) => {
                for opened in list {
                    let twin = self.twin(opened);
                    if let Some(mut held) = self.task_files(tid) {
                        held.opened(opened, twin);
                    }
                }
            }
            _ => {
                if let Some(mut held) = self.task_files(tid) {
                    held.follow(call);
                }
            }
        }
        if !failed(ret) {
            self.follow_job_control(tid, call, ret);
        }
        if let Effect::Exec(image) = &call.effect
            && let Some(process) = self.processes.get_mut(&task.pid)
        {
            process.program = Arc::new(Program::executed(image, call));
        }
        let executed = matches!(
            i64::from(call.nr),
            libc::SYS_execve | libc::SYS_execveat if !failed(ret)
        );
        if executed && tid != task.pid && !self.tasks.contains_key(&task.pid) {
            // The thread that executes becomes its process's first and only one.
            self.tasks.remove(&tid);
            self.tasks.insert(task.pid, task);
            if let Some(state) = self.filters.remove(&tid) {
                self.filters.insert(task.pid, state);
            }
            self.numbers.remove(&tid);
        }
    }

    /// Follows seccomp(2) and prctl(2): filters, and the attribute no_new_privs.
    fn filter(&mut self, tid: i32, pid: i32, call: &CallEvent, ret: i64) {
        if ret != 0 {
            return;
        }
        let nr = i64::from(call.nr);
        if nr == libc::SYS_prctl && call.args[0] as i32 == libc::PR_SET_NO_NEW_PRIVS {
            self.filters.entry(tid).or_default().no_new_privs = true;
        }
        let Some(asked) = seccomp::FilterCall::by(nr, &call.args).filter(|asked| asked.changes())
        else {
            return;
        };
        let state = self.filters.entry(tid).or_default();
        asked.follow(state, &ChunkMemory(&call.ins));
        if !asked.is_for_all() {
            return;
        }
        let state = state.clone();
        let others: Vec<i32> = self.tasks(pid).filter(|&other| other != tid).collect();
        for other in others {
            asked.share(&state, self.filters.entry(other).or_default());
        }
    }

    /// The seccomp states of the other threads of a task's process.
    pub fn filters_beside(&self, tid: i32) -> impl Iterator<Item = (i32, seccomp::State)> {
        let pid = self.pid(tid).unwrap_or(0);
        let others = self.tasks(pid).filter(move |&other| other != tid);
        others.map(|other| (other, self.filters(other)))
    }

    /// The seccomp state of a task.
    pub fn filters(&self, tid: i32) -> seccomp::State {
        self.filters.get(&tid).cloned().unwrap_or_default()
    }

    /// The verdict of a task's seccomp filters on a call.
    pub fn verdict(&self, tid: i32, call: &seccomp::Call) -> seccomp::Verdict {
        let state = self.filters.get(&tid);
        state.map_or(seccomp::Verdict::Make, |state| state.verdict(call))
    }

    /// Sets the attribute no_new_privs of a task that inherited it.
    pub(crate) fn has_no_new_privs(&mut self, tid: i32) {
        self.filters.entry(tid).or_default().no_new_privs = true;
    }

    /// Follows the names of the files that a call mapped.
    fn note_mapped(&mut self, tid: i32, call: &CallEvent) {
        if let Effect::Exec(image) = &call.effect {
            for mapping in &image.mappings {
                if let Backing::File { file, .. } = mapping.backing
                    && self.mapped.len() < MOST_MAPPED
                {
                    self.mapped.insert(file, mapping.name.clone());
                }
            }
        }
        let (Effect::Map(id) | Effect::Share { file: Some(id), .. }) = call.effect else {
            return;
        };
        if i64::from(call.nr) == libc::SYS_mmap
            && self.mapped.len() < MOST_MAPPED
            && let Some(file) = self.open_file(tid, call.args[4] as i32)
        {
            let path = file.path.clone();
            self.mapped.insert(id, path);
        }
    }

    /// The name of each kept copy of a file that any process has mapped so far.
    pub fn mapped(&self) -> &BTreeMap<FileId, Vec<u8>> {
        &self.mapped
    }

    /// The descriptors and the file-system context that a task's calls change.
    fn task_files(&mut self, tid: i32) -> Option<TaskFiles<'_>> {
        let task = self.tasks.get(&tid)?;
        Some(TaskFiles {
            fds: self.tables.get_mut(task.table)?,
            files: &mut self.files,
            fs: self.fs_contexts.get_mut(task.fs)?,
        })
    }

    /// Follows calls that stop sharing a descriptor table or a file-system context, and getppid(2).
    fn unshare(&mut self, tid: i32, task: Task, call: &CallEvent, ret: i64) {
        let flags = call.args[0] as i32;
        let (table, fs) = match i64::from(call.nr) {
            libc::SYS_execve | libc::SYS_execveat => (true, false),
            libc::SYS_unshare => (
                flags & libc::CLONE_FILES != 0,
                flags & (libc::CLONE_FS | libc::CLONE_NEWNS | libc::CLONE_NEWUSER) != 0,
            ),
            libc::SYS_close_range => {
                let flags = call.args[2] as u32;
                (flags & libc::CLOSE_RANGE_UNSHARE != 0, false)
            }
            // In a nested pid namespace the parent has another number.
            libc::SYS_getppid if self.numbers.contains_key(&task.pid) => return,
            libc::SYS_getppid => {
                if let Some(process) = self.processes.get_mut(&task.pid) {
                    process.ppid = ret as i32;
                }
                return;
            }
            _ => return,
        };
        let mut own = task;
        if table && self.tables.is_shared(task.table) {
            own.table = self.copied_table(task.table);
            self.tables.release(task.table);
        }
        if fs && self.fs_contexts.is_shared(task.fs) {
            own.fs = self.copied_fs(task.fs);
            self.fs_contexts.release(task.fs);
        }
        self.tasks.insert(tid, own);
    }

    fn copied_table(&mut self, table: usize) -> usize {
        let fits = |fds: &&FdTable| fds.len() + self.files.references() <= MOST_DESCRIPTORS;
        let copy = match self.tables.get(table).filter(fits) {
            Some(fds) => fds.copy(&mut self.files),
            None => FdTable::default(),
        };
        self.tables.add(copy)
    }

    fn copied_fs(&mut self, fs: usize) -> usize {
        let copy = self.fs_contexts.get(fs).cloned().unwrap_or_default();
        self.fs_contexts.add(copy)
    }

    /// The descriptor that a new one shares its open file with.
    fn twin(&self, opened: &Opened) -> Option<Descriptor> {
        let (tid, fd) = opened.twin?;
        self.descriptor(tid, fd)
    }

    fn descriptor(&self, tid: i32, fd: i32) -> Option<Descriptor> {
        let task = self.tasks.get(&tid)?;
        self.tables.get(task.table)?.get(fd)
    }

    /// Follows the creation of a task.
    pub fn born(&mut self, born: &NewTask) {
        let Some(&maker) = self.tasks.get(&born.maker) else {
            return;
        };
        let has = |flag: i32| born.flags & flag as u64 != 0;
        let ppid = match self.processes.get(&maker.pid) {
            Some(process) if has(libc::CLONE_PARENT) => process.ppid,
            _ => maker.pid,
        };
        let task = Task {
            pid: born.pid,
            table: match has(libc::CLONE_FILES) {
                true => {
                    self.tables.acquire(maker.table);
                    maker.table
                }
                false => self.copied_table(maker.table),
            },
            fs: match has(libc::CLONE_FS) {
                true => {
                    self.fs_contexts.acquire(maker.fs);
                    maker.fs
                }
                false => self.copied_fs(maker.fs),
            },
        };
        let made_by = maker.pid;
        let maker = self.processes.get(&maker.pid);
        let has_process_state = maker.is_some_and(|process| process.has_process_state);
        let program = maker.map(|process| Arc::clone(&process.program));
        // A task whose end was not recorded may have had the same number.
        self.gone(born.tid);
        self.add(born.tid, task, ppid);
        if born.pid == born.tid {
            self.jobs.forked(made_by, born.pid);
        }
        if !born.numbers.is_empty() {
            self.numbers.insert(born.tid, born.numbers.clone());
        }
        if let Some(state) = self.filters.get(&born.maker).cloned() {
            self.filters.insert(born.tid, state);
        }
        if let Some(process) = self.processes.get_mut(&born.pid) {
            process.has_process_state |= has_process_state || new_namespaces(born.flags) != 0;
            process.program = program.unwrap_or_default();
        }
    }

    fn add(&mut self, tid: i32, task: Task, ppid: i32) {
        self.tasks.insert(tid, task);
        let process = self.processes.entry(task.pid);
        let new = Process {
            ppid,
            program: Arc::default(),
            tasks: 0,
            has_process_state: false,
        };
        process.or_insert(new).tasks += 1;
    }

    /// Follows the end of a task.
    fn gone(&mut self, tid: i32) {
        self.filters.remove(&tid);
        let Some(task) = self.tasks.remove(&tid) else {
            return;
        };
        if let Some(mut fds) = self.tables.release(task.table) {
            fds.retain(&mut self.files, |_, _| false);
        }
        self.fs_contexts.release(task.fs);
        // A process keeps the pids of its first thread.
        if tid != task.pid {
            self.numbers.remove(&tid);
        }
        let Some(process) = self.processes.get_mut(&task.pid) else {
            return;
        };
        process.tasks -= 1;
        if process.tasks == 0 {
            self.processes.remove(&task.pid);
            self.jobs.ended(task.pid);
            self.numbers.remove(&task.pid);
            for orphan in self.processes.values_mut() {
                if orphan.ppid == task.pid {
                    orphan.ppid = 1;
                }
            }
        }
    }

    /// The tid of a task in its own pid namespace.
    pub fn own_number(&self, tid: i32) -> i32 {
        let numbers = self.numbers.get(&tid);
        numbers.and_then(|all| all.last()).copied().unwrap_or(tid)
    }

    /// The tid of a task in each of its pid namespaces, from the recorder's inward.
    pub fn numbers(&self, tid: i32) -> Vec<i32> {
        let numbers = self.numbers.get(&tid).cloned();
        numbers.unwrap_or_else(|| vec![tid])
    }

    /// The number of pid namespaces that a task is in, including the recorder's.
    pub fn depth(&self, tid: i32) -> usize {
        self.numbers.get(&tid).map_or(1, |all| all.len().max(1))
    }

    /// The tid of a task in the pid namespace of another; 0 where it has none there.
    pub fn number_for(&self, asker: i32, tid: i32) -> i32 {
        let depth = self.depth(asker);
        match self.numbers.get(&tid) {
            Some(numbers) => numbers.get(depth - 1).copied().unwrap_or(0),
            None if depth == 1 => tid,
            None => 0,
        }
    }

    /// The task with this tid in the pid namespace of another task, preferably of the same process.
    pub fn named(&self, asker: i32, number: i32) -> Option<i32> {
        if self.numbers.is_empty() {
            return self.tasks.contains_key(&number).then_some(number);
        }
        let pid = self.pid(asker)?;
        let mut all = self.tasks(pid).chain(self.all_tasks());
        all.find(|&tid| self.number_for(asker, tid) == number)
    }

    /// The process of a task; `None` where there is no such task.
    pub fn pid(&self, tid: i32) -> Option<i32> {
        self.tasks.get(&tid).map(|task| task.pid)
    }

    /// The parent of a task's process.
    pub fn ppid(&self, tid: i32) -> Option<i32> {
        let pid = self.tasks.get(&tid)?.pid;
        self.processes.get(&pid).map(|process| process.ppid)
    }

    /// The program that a task's process runs.
    pub fn program(&self, tid: i32) -> Option<Arc<Program>> {
        let pid = self.tasks.get(&tid)?.pid;
        self.processes
            .get(&pid)
            .map(|process| Arc::clone(&process.program))
    }

    /// The processes that are alive, by rising pid.
    pub fn pids(&self) -> impl Iterator<Item = i32> {
        self.processes.keys().copied()
    }

    /// Whether a process has any task.
    pub fn is_alive(&self, pid: i32) -> bool {
        self.processes.contains_key(&pid)
    }

    /// The tasks of a process, by rising tid.
    pub fn tasks(&self, pid: i32) -> impl Iterator<Item = i32> {
        let all = self.tasks.iter();
        all.filter(move |(_, task)| task.pid == pid)
            .map(|(&tid, _)| tid)
    }

    /// All tasks, by rising tid.
    pub fn all_tasks(&self) -> impl Iterator<Item = i32> {
        self.tasks.keys().copied()
    }

    /// Whether two tasks have the same table of descriptors.
    pub fn share_descriptors(&self, one: i32, other: i32) -> bool {
        let table = |tid: i32| self.tasks.get(&tid).map(|task| task.table);
        table(one).is_some() && table(one) == table(other)
    }

    /// A separate copy of a task's descriptor table.
    pub fn descriptors(&self, tid: i32) -> Option<DescriptorTable> {
        let task = self.tasks.get(&tid)?;
        let process = self.processes.get(&task.pid);
        let mut table = DescriptorTable::of(
            self.tables.get(task.table)?,
            &self.files,
            self.fs_contexts.get(task.fs)?,
        );
        table.has_process_state = process.is_some_and(|process| process.has_process_state);
        Some(table)
    }

    /// A task's descriptors by number: the open file, and whether exec closes it.
    pub fn each_descriptor(&self, tid: i32) -> impl Iterator<Item = (i32, &OpenFile, bool)> {
        let task = self.tasks.get(&tid);
        let fds = task.and_then(|task| self.tables.get(task.table));
        let all = fds.into_iter().flat_map(FdTable::iter);
        all.filter_map(|(fd, descriptor)| {
            Some((fd, self.files.get(descriptor.file)?, descriptor.cloexec))
        })
    }

    /// The open file behind a task's descriptor.
    pub fn open_file(&self, tid: i32, fd: i32) -> Option<&OpenFile> {
        self.files.get(self.descriptor(tid, fd)?.file)
    }

    /// The number of the open file behind a task's descriptor: see [`DescriptorTable::file_id`].
    pub fn file_id(&self, tid: i32, fd: i32) -> Option<u64> {
        self.files.serial(self.descriptor(tid, fd)?.file)
    }

    /// The processes that have an open file, each with the lowest of its descriptors; by rising pid. Threads with tables
    /// of their own count as their process.
    pub fn holders(&self, id: u64) -> Vec<(i32, i32)> {
        let mut found = BTreeMap::new();
        for (&tid, task) in &self.tasks {
            let is_known = tid != task.pid && self.share_descriptors(tid, task.pid);
            let Some(fds) = self.tables.get(task.table).filter(|_| !is_known) else {
                continue;
            };
            let mut all = fds.iter();
            let fd = all.find(|(_, descriptor)| self.files.serial(descriptor.file) == Some(id));
            if let Some((fd, _)) = fd {
                found.entry(task.pid).or_insert(fd);
            }
        }
        found.into_iter().collect()
    }

    /// The numbers of all open files.
    pub(super) fn file_ids(&self) -> impl Iterator<Item = u64> {
        self.files.serials()
    }

    /// All open files with their numbers.
    pub fn open_files(&self) -> impl Iterator<Item = (u64, &OpenFile)> {
        self.files.iter()
    }

    /// All open files.
    pub(super) fn files(&self) -> impl Iterator<Item = &OpenFile> {
        self.files.values()
    }

    /// The standard stream that a task's descriptor writes to, if it is one.
    pub fn output_stream(&self, tid: i32, fd: i32) -> Option<Stream> {
        let stream = self.descriptor(tid, fd)?.stream;
        stream.filter(|&stream| stream != Stream::Stdin)
    }

    /// The descriptors and the current directory of a task.
    pub fn view(&self, tid: i32) -> impl Descriptors {
        TaskView { tree: self, tid }
    }

    /// A task's umask.
    pub fn umask(&self, tid: i32) -> Option<u32> {
        self.fs_contexts.get(self.tasks.get(&tid)?.fs)?.umask
    }

    /// A task's current directory.
    pub fn cwd(&self, tid: i32) -> Option<&[u8]> {
        let fs = self.fs_contexts.get(self.tasks.get(&tid)?.fs)?;
        Some(&fs.cwd)
    }
}

/// The descriptors of a task in a process tree.
struct TaskView<'a> {
    tree: &'a ProcessTree,
    tid: i32,
}

impl Descriptors for TaskView<'_> {
    fn cwd(&self) -> &[u8] {
        self.tree.cwd(self.tid).unwrap_or_default()
    }

    fn file(&self, fd: i32) -> Option<(u64, &OpenFile)> {
        let at = self.tree.descriptor(self.tid, fd)?.file;
        Some((self.tree.files.serial(at)?, self.tree.files.get(at)?))
    }
}
