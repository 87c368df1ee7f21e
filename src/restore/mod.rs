//! What the kernel must know of a process that goes live: its descriptors and all else that the kernel kept for it.
//!
//! Until then its calls were answered without the kernel, which knows of none of its files. What comes back, comes
//! as the recording says it was: files by their paths, pipes with what was in them, counters with their counts. The
//! standard streams are captured. What cannot come back (a peer, a device, a deleted file) answers as a broken
//! one would, and is listed. Knows neither hooks nor sandboxes: the process stands in its sandbox already.

mod broken;
mod captured;
mod channels;
mod files;
mod gifts;
mod process;
mod program;
mod sockets;
mod things;
mod timers;

pub use captured::Captured;
pub use program::program;
pub use timers::Timers;

use crate::history::KernelChanges;
use crate::history::Recording;
use crate::kernel::{DescriptorTable, Kernel, Member, OpenFile, Program, Stream};
use crate::recording;
use crate::replay::Place;
use crate::tracee::{self, Remote, Stopped};
use captured::Sort;
use channels::Made;
use gifts::Channel;
use std::collections::HashMap;
use std::fs::File;
use std::io::{Seek, SeekFrom};

/// Shorthand for this module's results.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a process could not go live.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It cannot be traced.
    #[error(transparent)]
    Tracee(#[from] tracee::Error),
    /// Its recording cannot be read.
    #[error(transparent)]
    Recording(#[from] recording::Error),
}

/// What is known of a process that goes live.
#[derive(Clone, Copy, Debug)]
pub struct State<'a> {
    /// The recording that it comes from.
    pub recording: &'a Recording,
    /// The file of the program that it runs.
    pub program: &'a Program,
    /// Where its task stands.
    pub place: Place,
    /// Its descriptors as they are now.
    pub table: &'a DescriptorTable,
    /// What it did since it was spun off, and where that was.
    pub since: &'a KernelChanges,
}

/// What came of it.
#[derive(Debug, Default)]
pub struct Restored {
    /// What the process will miss, a sentence each.
    pub missing: Vec<String>,
    /// What it and all that it starts write to its standard streams. To be kept for as long as they live.
    pub streams: Vec<Captured>,
    /// Its timers, to be started once its threads are there.
    pub timers: Timers,
}

/// Gives the kernel what it must know of a process, which has one task and no descriptor that is still needed.
/// To be called once it is in its sandbox.
///
/// # Errors
/// If the process cannot be asked, or the recording not be read.
pub fn restore(task: &mut Stopped, state: &State<'_>) -> Result<Restored> {
    let remote = match state.place {
        Place::Entry => task.remote_at_entry()?,
        Place::Between => task.remote_at_boundary()?,
    };
    let mut work = Work {
        state,
        groups: groups(state.table),
        remote,
        kernel: None,
        sets: Vec::new(),
        restored: Restored::default(),
    };
    work.look()?;
    work.prepare()?;
    work.program()?;
    work.descriptors()?;
    work.timers();
    work.own()?;
    work.remote.finish()?;
    Ok(work.restored)
}

/// An open file, and the descriptors that share it.
struct Group<'a> {
    /// The lowest of them.
    fd: i32,
    cloexec: bool,
    file: &'a OpenFile,
    /// Which standard stream it is. Two streams that share a file are told apart all the same.
    stream: Option<Stream>,
    /// Its number in the recording.
    id: u64,
    /// The others.
    twins: Vec<(i32, bool)>,
}

fn groups(table: &DescriptorTable) -> Vec<Group<'_>> {
    let mut groups: Vec<Group<'_>> = Vec::new();
    let mut places = HashMap::new();
    for (fd, file, cloexec) in table.iter() {
        let (id, stream) = (table.file_id(fd).unwrap_or(u64::MAX), table.stream(fd));
        // What shares a stream's file without being one goes with the first, an output if there is one.
        let place = places.get(&(id, stream)).copied();
        let at = place.unwrap_or(groups.len());
        places.insert((id, stream), at);
        let first = *places.entry((id, None)).or_insert(at);
        if groups
            .get(first)
            .is_some_and(|group| group.stream == Some(Stream::Stdin))
        {
            places.insert((id, None), at);
        }
        match groups.get_mut(at) {
            Some(group) => group.twins.push((fd, cloexec)),
            None => groups.push(Group {
                fd,
                cloexec,
                file,
                stream,
                id,
                twins: Vec::new(),
            }),
        }
    }
    groups
}

/// What becomes of an open file.
enum Back {
    /// This file of ours stands for it.
    Gift(File),
    /// It is made in the process.
    There,
}

/// A process as it is told.
struct Work<'a> {
    state: &'a State<'a>,
    groups: Vec<Group<'a>>,
    remote: Remote<'a>,
    /// What the kernel kept, where that is more than paths and offsets.
    kernel: Option<Kernel>,
    /// Epoll sets, and what they are to watch.
    sets: Vec<(i32, Vec<Member>)>,
    restored: Restored,
}

impl<'a> Work<'a> {
    /// Finds out what the kernel kept, if there is anything to know.
    fn look(&mut self) -> Result<()> {
        let State {
            recording,
            table,
            since,
            ..
        } = *self.state;
        let has_more = |group: &Group<'_>| {
            let plain = matches!(Sort::of(group.file), Sort::Path | Sort::Terminal);
            let memory = group.file.path.starts_with(b"/memfd:");
            group.stream.is_none() && (!plain || memory) && !files::is_stateless(group.file)
        };
        if table.has_state() || !since.is_empty() || self.groups.iter().any(has_more) {
            self.kernel = Some(since.kernel(recording, table)?);
        }
        Ok(())
    }

    fn miss(&mut self, what: String) {
        if !self.restored.missing.contains(&what) {
            self.restored.missing.push(what);
        }
    }

    /// Says that a descriptor does not come back. What somebody else left open, and the program never asked for,
    /// is no news.
    fn lost(&mut self, group: &Group<'_>, why: &str) {
        if !group.file.inherited {
            self.miss(format!(
                "descriptor {} ({}): {why}",
                group.fd,
                String::from_utf8_lossy(&group.file.path)
            ));
        }
    }

    fn descriptors(&mut self) -> Result<()> {
        let groups = std::mem::take(&mut self.groups);
        let mut made = self.pipes(&groups)?;
        self.pairs(&groups, &mut made)?;
        let mut gifts = Vec::new();
        let mut there = Vec::new();
        for group in &groups {
            match self.back(group, &mut made)? {
                Back::Gift(file) => gifts.push((group, file)),
                Back::There => there.push(group),
            }
        }
        // In the order of their numbers, so that most get theirs at once.
        let first = gifts.first().map_or(i32::MAX, |(group, _)| group.fd);
        let (before, there): (Vec<_>, Vec<_>) = there.into_iter().partition(|g| g.fd < first);
        for group in before {
            self.make(group)?;
        }
        self.give(&groups, &gifts)?;
        drop(gifts);
        for group in there {
            self.make(group)?;
        }
        for group in &groups {
            for &(fd, cloexec) in &group.twins {
                // Fails where the first did not come back.
                let args = [group.fd as u64, fd as u64, close_on_exec(cloexec), 0, 0, 0];
                self.remote.call(libc::SYS_dup3, args)?;
            }
        }
        self.fill_sets(&groups)
    }

    /// Decides what becomes of an open file, and makes what we make.
    fn back(&mut self, group: &Group<'a>, made: &mut Made) -> Result<Back> {
        let tid = self.remote.memory().tid();
        if let Some(file) = made.remove(&group.id).filter(|_| group.stream.is_none()) {
            return Ok(Back::Gift(file));
        }
        if group.stream.is_none() && self.is_given(group) {
            return self.given(group);
        }
        if group.file.path.starts_with(b"/memfd:") && group.stream.is_none() {
            let file = self.memory(group)?;
            return Ok(file.map_or(Back::There, Back::Gift));
        }
        match group.stream {
            Some(Stream::Stdin) if self.state.recording.start().stdin.is_some() => {
                self.given(group)
            }
            Some(Stream::Stdin) if !files::has_path(group.file) => self.stdin(group),
            Some(stream @ (Stream::Stdout | Stream::Stderr))
                if !files::is_stateless(group.file) =>
            {
                let (file, captured) = captured::output(group.file, stream, tid)?;
                self.restored.streams.push(captured);
                Ok(Back::Gift(file))
            }
            None if Sort::of(group.file) == Sort::Path => {
                let again = self.captured_again(group)?;
                Ok(again.map_or(Back::There, Back::Gift))
            }
            None if Sort::of(group.file) == Sort::Terminal && !group.file.inherited => {
                self.lost(group, "its terminal: another one, at which nobody is");
                self.readable(group, &[])
            }
            _ => Ok(Back::There),
        }
    }

    /// What is left of its standard input, as far as it was recorded.
    fn input(&self) -> Result<Vec<u8>> {
        let mut rest = self.state.recording.stdin_from(self.state.since.event())?;
        let read = usize::try_from(self.state.since.input()).unwrap_or(usize::MAX);
        rest.drain(..read.min(rest.len()));
        Ok(rest)
    }

    /// Whether it is the input that the program was given, opened by its name.
    fn is_given(&self, group: &Group<'_>) -> bool {
        let start = self.state.recording.start();
        let mut there = start.descriptors.iter();
        let stdin = there.find(|d| d.fd == 0).filter(|_| start.stdin.is_some());
        stdin.is_some_and(|stdin| stdin.path == group.file.path)
    }

    /// The input that it was given, where it stands in it.
    fn given(&mut self, group: &Group<'_>) -> Result<Back> {
        let tid = self.remote.memory().tid();
        match self.given_again(group) {
            Ok(Some(file)) => Ok(Back::Gift(file)),
            Ok(None) => self.stdin(group),
            Err(e) => Err(tracee::Error::os("make its input again", tid, e).into()),
        }
    }

    fn given_again(&self, group: &Group<'_>) -> std::io::Result<Option<File>> {
        let recording = &self.state.recording;
        let Some(id) = recording.start().stdin else {
            return Ok(None);
        };
        let path = recording.file_path(id).map_err(std::io::Error::other)?;
        let mut copy =
            File::from(tracee::spawn::memfd("stdin", &[]).map_err(std::io::Error::other)?);
        std::io::copy(&mut File::open(path)?, &mut copy)?;
        copy.seek(SeekFrom::Start(group.file.offset.min(i64::MAX as u64)))?;
        Ok(Some(copy))
    }

    /// The rest of the input that was recorded.
    fn stdin(&mut self, group: &Group<'_>) -> Result<Back> {
        let rest = self.input()?;
        self.readable(group, &rest)
    }

    /// The file of a captured stream, opened by its name as well.
    fn captured_again(&self, group: &Group<'_>) -> Result<Option<File>> {
        let tid = self.remote.memory().tid();
        let mut streams = self.restored.streams.iter();
        let Some(stream) = streams.find(|stream| stream.stands_for(&group.file.path)) else {
            return Ok(None);
        };
        let file = captured::opened_again(&stream.file, group.file.flags)
            .and_then(|mut file| {
                file.seek(SeekFrom::Start(group.file.offset))?;
                Ok(file)
            })
            .map_err(|e| tracee::Error::os("open its output again", tid, e))?;
        Ok(Some(file))
    }

    /// Something to read this from.
    fn readable(&mut self, group: &Group<'_>, rest: &[u8]) -> Result<Back> {
        let tid = self.remote.memory().tid();
        let (file, held, fitted) = captured::input(group.file, rest)
            .map_err(|e| tracee::Error::os("make its input again", tid, e))?;
        if fitted < rest.len() {
            let why = format!("only the first {fitted} bytes of what it would read are there");
            self.lost(group, &why);
        }
        if let Some(file) = held {
            self.restored.streams.push(Captured::unnamed(file));
        }
        Ok(Back::Gift(file))
    }

    /// Hands files of ours to the process, each to its number.
    fn give(&mut self, groups: &[Group<'_>], gifts: &[(&Group<'_>, File)]) -> Result<()> {
        if gifts.is_empty() {
            return Ok(());
        }
        // The lowest number that is not wanted: what comes gets lower numbers than those that it is to have.
        let numbers = groups.iter().map(|group| group.fd);
        let free = numbers.zip(0..).find(|(fd, at)| fd != at).map(|(_, at)| at);
        let channel = Channel::open(&mut self.remote, free.unwrap_or(groups.len() as i32))?;
        let files: Vec<&File> = gifts.iter().map(|(_, file)| file).collect();
        let got = channel.give(&mut self.remote, &files)?;
        for ((group, _), got) in gifts.iter().zip(got).rev() {
            self.place(got as u64, group)?;
        }
        channel.close(&mut self.remote)
    }

    /// Moves a descriptor, which exec does not close, to its number.
    fn place(&mut self, got: u64, group: &Group<'_>) -> Result<()> {
        let (wanted, cloexec) = (group.fd as u64, close_on_exec(group.cloexec));
        if got != wanted {
            let args = [got, wanted, cloexec, 0, 0, 0];
            self.remote
                .must("place a descriptor in it", libc::SYS_dup3, args)?;
            self.remote.call(libc::SYS_close, [got, 0, 0, 0, 0, 0])?;
        } else if cloexec != 0 {
            let args = [got, libc::F_SETFD as u64, libc::FD_CLOEXEC as u64, 0, 0, 0];
            self.remote
                .must("mark a descriptor in it", libc::SYS_fcntl, args)?;
        }
        Ok(())
    }

    /// Makes an open file in the process.
    fn make(&mut self, group: &Group<'a>) -> Result<()> {
        match Sort::of(group.file) {
            Sort::Path | Sort::Device => self.open(group),
            Sort::Socket => self.make_socket(group),
            Sort::Anonymous if self.make_thing(group)? => Ok(()),
            Sort::Terminal | Sort::Pipe | Sort::Anonymous => {
                self.lost(group, "nothing of its kind can come back");
                self.break_file(group)
            }
        }
    }
}

fn close_on_exec(cloexec: bool) -> u64 {
    match cloexec {
        true => libc::O_CLOEXEC as u64,
        false => 0,
    }
}
