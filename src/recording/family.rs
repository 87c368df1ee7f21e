//! The tasks of a recording and what the kernel keeps for each of their processes, followed frame by frame:
//! who is whose thread and child, and what their descriptors are.
//!
//! An open file is shared by all that a fork or a message gave it to, a table of descriptors by those
//! that were made with `CLONE_FILES`, the current directory and the umask by those with `CLONE_FS`.
//!
//! The parent of an orphan is 1 until it asks for it (getppid(2)): which process takes orphans is not known.

use super::ChunkMemory;
use super::descriptors::{Held, Place, Pool, Slot, Slots, at_start, failed};
use super::kernel::{made_with, sets};
use super::{
    Born, CallEvent, DescriptorTable, Effect, Event, Frame, OpenFile, Opened, Places, Program,
    Start, Stream,
};
use crate::image::{Backing, FileId};
use crate::seccomp;
use std::collections::BTreeMap;
use std::sync::Arc;

/// More descriptors than the tables of all processes have together, except in a damaged recording.
const MOST_DESCRIPTORS: usize = 4 << 20;

/// Mapped files whose names are kept, except in a damaged recording.
const MOST_MAPPED: usize = 1 << 16;

/// A task: its process, and the numbers of its table and its place.
#[derive(Clone, Copy, Debug)]
struct Task {
    pid: i32,
    table: usize,
    place: usize,
}

#[derive(Clone, Debug)]
struct Process {
    ppid: i32,
    /// What it runs; nothing before the first execve.
    program: Arc<Program>,
    /// How many tasks it has.
    tasks: usize,
    /// Whether it, or who it was forked from, has set something of itself: see [`Own`](super::Own).
    has_own: bool,
}

/// All tasks that there are at some place of a recording.
#[derive(Clone, Debug, Default)]
pub struct Family {
    tasks: BTreeMap<i32, Task>,
    processes: BTreeMap<i32, Process>,
    tables: Pool<Slots>,
    places: Pool<Place>,
    files: Pool<OpenFile>,
    /// The name of each kept copy that has been mapped so far.
    mapped: BTreeMap<FileId, Vec<u8>>,
    /// What the kernel would ask about the calls of each task, where that is not nothing.
    filters: BTreeMap<i32, seccomp::State>,
    /// The numbers of each task that has several: see [`Born::numbers`].
    numbers: BTreeMap<i32, Vec<i32>>,
}

impl Family {
    /// The one task that a recording begins with.
    pub fn at_start(start: &Start) -> Family {
        let (slots, files, place) = at_start(start);
        let mut family = Family {
            files,
            ..Family::default()
        };
        let task = Task {
            pid: start.pid,
            table: family.tables.add(slots),
            place: family.places.add(place),
        };
        family.add(start.pid, task, start.ppid);
        family
    }

    /// Follows one frame.
    pub fn follow(&mut self, frame: &Frame) {
        match frame {
            Frame::Event(event) => self.follow_event(event),
            Frame::Born(born) => self.born(born),
            Frame::Gone { tid, .. } => self.gone(*tid),
            _ => {}
        }
    }

    /// Follows one event.
    pub fn follow_event(&mut self, event: &Event) {
        if let Some(call) = event.call() {
            self.call(event.tid, call);
        }
    }

    /// Follows one call of this task.
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
            self.part(tid, task, call, ret);
            if sets(call)
                && let Some(process) = self.processes.get_mut(&task.pid)
            {
                process.has_own = true;
            }
        }
        match &call.effect {
            Effect::Opened(list) if !failed(ret) => {
                for opened in list {
                    let twin = self.twin(opened);
                    if let Some(mut held) = self.held(tid) {
                        held.opened(opened, twin);
                    }
                }
            }
            _ => {
                if let Some(mut held) = self.held(tid) {
                    held.follow(call);
                }
            }
        }
        if let Effect::Exec(image) = &call.effect
            && let Some(process) = self.processes.get_mut(&task.pid)
        {
            process.program = Arc::new(Program::of(image));
        }
        let executed = matches!(
            i64::from(call.nr),
            libc::SYS_execve | libc::SYS_execveat if !failed(ret)
        );
        if executed && tid != task.pid && !self.tasks.contains_key(&task.pid) {
            // Whoever executes becomes its process's first and only thread.
            self.tasks.remove(&tid);
            self.tasks.insert(task.pid, task);
            if let Some(state) = self.filters.remove(&tid) {
                self.filters.insert(task.pid, state);
            }
            self.numbers.remove(&tid);
        }
    }

    /// Notes what a task does not want to be allowed from here on.
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

    /// What the kernel would ask about the calls of a task's threads besides its own.
    pub fn filters_beside(&self, tid: i32) -> impl Iterator<Item = (i32, seccomp::State)> {
        let pid = self.pid(tid).unwrap_or(0);
        let others = self.tasks(pid).filter(move |&other| other != tid);
        others.map(|other| (other, self.filters(other)))
    }

    /// What the kernel would ask about the calls of a task.
    pub fn filters(&self, tid: i32) -> seccomp::State {
        self.filters.get(&tid).cloned().unwrap_or_default()
    }

    /// What it would make of a call.
    pub fn verdict(&self, tid: i32, call: &seccomp::Call) -> seccomp::Verdict {
        let state = self.filters.get(&tid);
        state.map_or(seccomp::Verdict::Make, |state| state.verdict(call))
    }

    /// A task cannot get new privileges, and has not said so itself.
    pub(crate) fn has_no_new_privs(&mut self, tid: i32) {
        self.filters.entry(tid).or_default().no_new_privs = true;
    }

    /// Notes the names of the files that a call has mapped.
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

    /// The name of each kept copy of a file that has been mapped so far, by any process.
    pub fn mapped(&self) -> &BTreeMap<FileId, Vec<u8>> {
        &self.mapped
    }

    /// What a task's calls work on.
    fn held(&mut self, tid: i32) -> Option<Held<'_>> {
        let task = self.tasks.get(&tid)?;
        Some(Held {
            slots: self.tables.get_mut(task.table)?,
            files: &mut self.files,
            place: self.places.get_mut(task.place)?,
        })
    }

    /// Gives a task its own table or place where the call does so, and notes what it says of processes.
    fn part(&mut self, tid: i32, task: Task, call: &CallEvent, ret: i64) {
        let flags = call.args[0] as i32;
        let (table, place) = match i64::from(call.nr) {
            libc::SYS_execve | libc::SYS_execveat => (true, false),
            libc::SYS_unshare => (
                flags & libc::CLONE_FILES != 0,
                flags & (libc::CLONE_FS | libc::CLONE_NEWNS | libc::CLONE_NEWUSER) != 0,
            ),
            libc::SYS_close_range => {
                let flags = call.args[2] as u32;
                (flags & libc::CLOSE_RANGE_UNSHARE != 0, false)
            }
            // By another number where it has its own.
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
            self.tables.let_go(task.table);
        }
        if place && self.places.is_shared(task.place) {
            own.place = self.copied_place(task.place);
            self.places.let_go(task.place);
        }
        self.tasks.insert(tid, own);
    }

    fn copied_table(&mut self, table: usize) -> usize {
        let fits = |slots: &&Slots| slots.len() + self.files.holders() <= MOST_DESCRIPTORS;
        let copy = match self.tables.get(table).filter(fits) {
            Some(slots) => slots.copy(&mut self.files),
            None => Slots::default(),
        };
        self.tables.add(copy)
    }

    fn copied_place(&mut self, place: usize) -> usize {
        let copy = self.places.get(place).cloned().unwrap_or_default();
        self.places.add(copy)
    }

    /// The descriptor that a new one shares its open file with.
    fn twin(&self, opened: &Opened) -> Option<Slot> {
        let (tid, fd) = opened.twin?;
        self.slot(tid, fd)
    }

    fn slot(&self, tid: i32, fd: i32) -> Option<Slot> {
        let task = self.tasks.get(&tid)?;
        self.tables.get(task.table)?.get(fd)
    }

    /// Follows a task's making.
    pub fn born(&mut self, born: &Born) {
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
                    self.tables.hold(maker.table);
                    maker.table
                }
                false => self.copied_table(maker.table),
            },
            place: match has(libc::CLONE_FS) {
                true => {
                    self.places.hold(maker.place);
                    maker.place
                }
                false => self.copied_place(maker.place),
            },
        };
        let maker = self.processes.get(&maker.pid);
        let has_own = maker.is_some_and(|process| process.has_own);
        let program = maker.map(|process| Arc::clone(&process.program));
        // Its number may be that of one that was not seen to go.
        self.gone(born.tid);
        self.add(born.tid, task, ppid);
        if !born.numbers.is_empty() {
            self.numbers.insert(born.tid, born.numbers.clone());
        }
        if let Some(state) = self.filters.get(&born.maker).cloned() {
            self.filters.insert(born.tid, state);
        }
        if let Some(process) = self.processes.get_mut(&born.pid) {
            process.has_own |= has_own || made_with(born.flags) != 0;
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
            has_own: false,
        };
        process.or_insert(new).tasks += 1;
    }

    /// Follows a task's end.
    fn gone(&mut self, tid: i32) {
        self.filters.remove(&tid);
        let Some(task) = self.tasks.remove(&tid) else {
            return;
        };
        if let Some(mut slots) = self.tables.let_go(task.table) {
            slots.retain(&mut self.files, |_, _| false);
        }
        self.places.let_go(task.place);
        // A process keeps the numbers of its first thread.
        if tid != task.pid {
            self.numbers.remove(&tid);
        }
        let Some(process) = self.processes.get_mut(&task.pid) else {
            return;
        };
        process.tasks -= 1;
        if process.tasks == 0 {
            self.processes.remove(&task.pid);
            self.numbers.remove(&task.pid);
            for orphan in self.processes.values_mut() {
                if orphan.ppid == task.pid {
                    orphan.ppid = 1;
                }
            }
        }
    }

    /// The number that a task knows itself by.
    pub fn own_number(&self, tid: i32) -> i32 {
        let numbers = self.numbers.get(&tid);
        numbers.and_then(|all| all.last()).copied().unwrap_or(tid)
    }

    /// How many pid namespaces a task is in, the recorder's being the first.
    pub fn depth(&self, tid: i32) -> usize {
        self.numbers.get(&tid).map_or(1, |all| all.len().max(1))
    }

    /// The number by which one task knows another: 0 where that is in no pid namespace of it or below.
    pub fn number_for(&self, asker: i32, tid: i32) -> i32 {
        let depth = self.depth(asker);
        match self.numbers.get(&tid) {
            Some(numbers) => numbers.get(depth - 1).copied().unwrap_or(0),
            None if depth == 1 => tid,
            None => 0,
        }
    }

    /// The task that another one means by a number, of its own process if there is such a one; `None` where there is none.
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

    /// The file of what a task's process runs.
    pub fn program(&self, tid: i32) -> Option<Arc<Program>> {
        let pid = self.tasks.get(&tid)?.pid;
        self.processes
            .get(&pid)
            .map(|process| Arc::clone(&process.program))
    }

    /// Whether a process has any task.
    pub fn is_alive(&self, pid: i32) -> bool {
        self.processes.contains_key(&pid)
    }

    /// The tasks of a process, by rising number.
    pub fn tasks(&self, pid: i32) -> impl Iterator<Item = i32> {
        let all = self.tasks.iter();
        all.filter(move |(_, task)| task.pid == pid)
            .map(|(&tid, _)| tid)
    }

    /// All tasks, by rising number.
    pub fn all_tasks(&self) -> impl Iterator<Item = i32> {
        self.tasks.keys().copied()
    }

    /// Whether two tasks have the same table of descriptors.
    pub fn share_descriptors(&self, one: i32, other: i32) -> bool {
        let table = |tid: i32| self.tasks.get(&tid).map(|task| task.table);
        table(one).is_some() && table(one) == table(other)
    }

    /// A task's descriptors, on their own.
    pub fn descriptors(&self, tid: i32) -> Option<DescriptorTable> {
        let task = self.tasks.get(&tid)?;
        let process = self.processes.get(&task.pid);
        let mut table = DescriptorTable::of(
            self.tables.get(task.table)?,
            &self.files,
            self.places.get(task.place)?,
        );
        table.has_own = process.is_some_and(|process| process.has_own);
        Some(table)
    }

    /// A task's descriptors by number: the open file, and whether exec closes it.
    pub fn each_descriptor(&self, tid: i32) -> impl Iterator<Item = (i32, &OpenFile, bool)> {
        let task = self.tasks.get(&tid);
        let slots = task.and_then(|task| self.tables.get(task.table));
        let all = slots.into_iter().flat_map(Slots::iter);
        all.filter_map(|(fd, slot)| Some((fd, self.files.get(slot.file)?, slot.cloexec)))
    }

    /// The open file behind a task's descriptor.
    pub fn open_file(&self, tid: i32, fd: i32) -> Option<&OpenFile> {
        self.files.get(self.slot(tid, fd)?.file)
    }

    /// The number of the open file behind a task's descriptor: see [`DescriptorTable::file_id`].
    pub fn file_id(&self, tid: i32, fd: i32) -> Option<u64> {
        self.files.serial(self.slot(tid, fd)?.file)
    }

    /// The numbers of all open files.
    pub(super) fn file_ids(&self) -> impl Iterator<Item = u64> {
        self.files.serials()
    }

    /// All open files.
    pub(super) fn files(&self) -> impl Iterator<Item = &OpenFile> {
        self.files.things()
    }

    /// The standard stream that a task's descriptor writes to, if it is one.
    pub fn output_stream(&self, tid: i32, fd: i32) -> Option<Stream> {
        let stream = self.slot(tid, fd)?.stream;
        stream.filter(|&stream| stream != Stream::Stdin)
    }

    /// What a task's paths and descriptors lead to.
    pub fn places(&self, tid: i32) -> impl Places {
        PlacesOf { family: self, tid }
    }

    /// A task's current directory.
    pub fn cwd(&self, tid: i32) -> Option<&[u8]> {
        let place = self.places.get(self.tasks.get(&tid)?.place)?;
        Some(&place.cwd)
    }
}

struct PlacesOf<'a> {
    family: &'a Family,
    tid: i32,
}

impl Places for PlacesOf<'_> {
    fn cwd(&self) -> &[u8] {
        self.family.cwd(self.tid).unwrap_or_default()
    }

    fn open(&self, fd: i32) -> Option<&OpenFile> {
        self.family.open_file(self.tid, fd)
    }
}
