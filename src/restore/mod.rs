//! Restoring the kernel's state of a process that goes live: its descriptors and attributes.
//!
//! Until then its calls were answered without the kernel, which has none of its files open. This module makes the
//! objects of the model ([`kernel`](crate::kernel)) again, each in the file of the same name: files are opened by
//! their paths, pipes are filled with the data that was in them, eventfds get their counts. Standard streams are
//! captured. An object that cannot be restored (a peer, a device, a deleted file) is replaced by one that fails as the
//! object would if it broke, and is reported. Hooks and sandboxes are not handled here: the process is in its sandbox
//! already.

mod broken;
mod connection;
mod datagram;
mod epoll;
mod eventfd;
mod file;
mod inotify;
mod local_file;
mod locks;
mod memfd;
mod passed;
mod pending;
mod pipe;
mod process;
mod program;
mod signalfd;
mod socket;
mod stream;
mod terminal;
mod timer;
mod timerfd;

pub use pending::send_pending;
pub use program::program;
pub use stream::CapturedStream;
pub use timer::Timers;

use crate::kernel::{
    DescriptorTable, FileKind, Interest, Kernel, Object, OpenFile, ProcessTree, Socket, Stream,
};
use crate::process::{Masters, StopPoint, ThreadGroup};
use crate::recording;
use crate::tracee::agent_page::AgentPage;
use crate::tracee::file_channel::FileChannel;
use crate::tracee::path_lookup::Root;
use crate::tracee::spawn::borrow_fd;
use crate::tracee::{self, Error as TraceeError, Remote, Stopped};
use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::net::SocketAddr;
use std::rc::Rc;

/// Shorthand for this module's results.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The reason why a process could not go live.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It cannot be traced.
    #[error(transparent)]
    Tracee(#[from] tracee::Error),
    /// Its recording cannot be read.
    #[error(transparent)]
    Recording(#[from] recording::Error),
}

/// What the other end of a connection does that is not there: it belonged to a program that was not recorded, or to a process
/// that is left out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Peers {
    /// It has reset the connection.
    #[default]
    Reset,
    /// It has closed the connection.
    Closed,
    /// It sends nothing, and reads nothing.
    Silent,
    /// It reads all that comes.
    Drain,
    /// It answers as the caller says.
    Answer,
}

/// The other end of a connection, for who plays its part.
#[derive(Debug)]
pub struct Peer {
    /// The recorded pid of the process that is connected with it.
    pub pid: i32,
    /// Its descriptor.
    pub fd: i32,
    /// The address of this end, if it is one of the network.
    pub address: Option<SocketAddr>,
    /// This end, which never blocks.
    pub file: File,
}

/// The result of restoring a process.
#[derive(Debug, Default)]
pub struct Restored {
    /// Its recorded pid.
    pub pid: i32,
    /// The objects that the process will miss, a sentence each.
    pub missing: Vec<String>,
    /// The standard streams of the process and its descendants, to be kept for as long as they live.
    pub streams: Vec<CapturedStream>,
    /// The other ends of its connections that somebody else is to play.
    pub peers: Vec<Peer>,
    /// The agent's page that it cannot change, if it has one.
    pub agent: Option<AgentPage>,
    /// Its timers, to be started once its threads are there.
    pub timers: Timers,
}

/// A process that is to be restored: it has one task and no descriptor that is still needed.
#[derive(Debug)]
pub struct Member<'a> {
    /// Its task.
    pub task: &'a mut Stopped,
    /// The stop point of that.
    pub place: StopPoint,
    /// What is known of it.
    pub state: &'a ThreadGroup,
    /// Whether it is in its sandbox, in the session and process group that it is to have.
    pub is_inside: bool,
    /// The index of an earlier member in whose memory it is.
    pub beside: Option<usize>,
}

/// Restores the kernel's state of the processes of a family: what they shared they share again. `reopened` are files that
/// were opened for them. `kernel` is the state of the kernel's objects; without it, that of the first process alone. `masters` are
/// the pseudoterminals that the family had, new ones with their numbers, and `peers` says what other ends of connections do that
/// are not there.
///
/// # Errors
/// If a process cannot be asked, or the recording not be read.
pub fn restore(
    members: Vec<Member<'_>>,
    kernel: Option<Kernel>,
    masters: Masters,
    (reopened, peers): (Reopened, Peers),
) -> Result<Vec<Restored>> {
    let states: Vec<&ThreadGroup> = members.iter().map(|member| member.state).collect();
    let on_way = passed::on_way(kernel.as_ref(), &states);
    let mut kept: Vec<Vec<Description<'_>>> = states
        .iter()
        .map(|state| descriptions(&state.descriptors))
        .collect();
    if let (Some(first), Some(state)) = (kept.first_mut(), states.first()) {
        first.extend(passed::descriptions(&on_way, &state.descriptors));
    }
    let mut common = Common {
        all: all_of(&kept),
        holders: holders(&kept, &on_way),
        prepared: reopened,
        streams: HashMap::new(),
        captured: Vec::new(),
        kernel: kernel.map(Rc::new),
        masters,
        peers,
        played: Vec::new(),
        unsent: Vec::new(),
        shut: Vec::new(),
        is_first: true,
    };
    let mut all: Vec<Restored> = Vec::new();
    for (at, member) in members.into_iter().enumerate() {
        let agent = member
            .beside
            .and_then(|other| all.get(other)?.agent.clone());
        let descriptions = std::mem::take(&mut kept[at]);
        all.push(restore_one(member, descriptions, agent, &mut common)?);
        common.is_first = false;
    }
    let missing = common.send_unsent();
    if let Some(first) = all.first_mut() {
        first.missing.extend(missing);
        first.streams = common.captured;
        first.peers = common.played;
    }
    Ok(all)
}

fn restore_one<'a>(
    member: Member<'_>,
    descriptions: Vec<Description<'a>>,
    agent: Option<AgentPage>,
    common: &mut Common<'a>,
) -> Result<Restored> {
    let remote = match member.place {
        StopPoint::Entry => member.task.remote_at_entry()?,
        StopPoint::Between => member.task.remote_at_boundary()?,
    };
    let mut restorer = Restorer {
        state: member.state,
        root: Root::of(remote.memory().tid()),
        descriptions,
        remote,
        kernel: common.kernel.clone(),
        epolls: Vec::new(),
        common,
        restored: Restored {
            pid: member.state.pid,
            ..Restored::default()
        },
    };
    restorer.model()?;
    restorer.restored.agent = match agent {
        Some(agent) => Some(agent),
        // The descriptor that is left is closed with all others.
        None => AgentPage::install(&mut restorer.remote)?.map(|(page, _)| page),
    };
    restorer.prepare()?;
    restorer.program()?;
    restorer.descriptors()?;
    restorer.timers();
    if !member.is_inside {
        restorer.leave_process_group()?;
    }
    restorer.process()?;
    restorer.remote.finish()?;
    Ok(restorer.restored)
}

/// What the members of a family have in common.
struct Common<'a> {
    /// The open files of all, each once.
    all: Vec<Description<'a>>,
    /// The number of members that have each open file.
    holders: HashMap<u64, usize>,
    /// Files for open files of the members, by the numbers of those.
    prepared: Reopened,
    /// The same for standard streams.
    streams: HashMap<(u64, Stream), File>,
    captured: Vec<CapturedStream>,
    kernel: Option<Rc<Kernel>>,
    masters: Masters,
    peers: Peers,
    played: Vec<Peer>,
    /// What is sent once all open files are there.
    unsent: Vec<passed::Unsent>,
    /// The sockets that are shut down after that.
    shut: Vec<(Socket, File)>,
    /// Whether the first member is being restored.
    is_first: bool,
}

/// The open files of all members, each once.
fn all_of<'a>(members: &[Vec<Description<'a>>]) -> Vec<Description<'a>> {
    let mut seen = HashSet::new();
    let all = members.iter().flatten();
    all.filter(|description| seen.insert((description.id, description.stream)))
        .cloned()
        .collect()
}

/// The number of members that have each open file; those that are on their way are lent, too.
fn holders(members: &[Vec<Description<'_>>], on_way: &[(u64, OpenFile)]) -> HashMap<u64, usize> {
    let mut holders: HashMap<u64, usize> = on_way.iter().map(|&(id, _)| (id, 1)).collect();
    for member in members {
        let ids: HashSet<u64> = member.iter().map(|description| description.id).collect();
        for id in ids {
            *holders.entry(id).or_default() += 1;
        }
    }
    holders
}

/// An open file description, and the descriptors that share it.
#[derive(Clone)]
struct Description<'a> {
    /// The lowest descriptor.
    fd: i32,
    cloexec: bool,
    file: &'a OpenFile,
    /// The standard stream that it is. Two streams that share a file are two descriptions all the same.
    stream: Option<Stream>,
    /// The number of the open file in the recording.
    id: u64,
    /// The other descriptors, and whether exec closes each.
    duplicates: Vec<(i32, bool)>,
}

impl Description<'_> {
    /// `O_NONBLOCK`, if that is set.
    fn nonblocking(&self) -> u64 {
        (self.file.flags & libc::O_NONBLOCK) as u64
    }
}

fn descriptions(table: &DescriptorTable) -> Vec<Description<'_>> {
    let mut descriptions: Vec<Description<'_>> = Vec::new();
    let mut indices = HashMap::new();
    for (fd, file, cloexec) in table.iter() {
        let (id, stream) = (table.file_id(fd).unwrap_or(u64::MAX), table.stream(fd));
        // A descriptor that shares a stream's file without being one goes with the first, an output if there is one.
        let index = indices.get(&(id, stream)).copied();
        let at = index.unwrap_or(descriptions.len());
        indices.insert((id, stream), at);
        let first = *indices.entry((id, None)).or_insert(at);
        if descriptions
            .get(first)
            .is_some_and(|first| first.stream == Some(Stream::Stdin))
        {
            indices.insert((id, None), at);
        }
        match descriptions.get_mut(at) {
            Some(description) => description.duplicates.push((fd, cloexec)),
            None => descriptions.push(Description {
                fd,
                cloexec,
                file,
                stream,
                id,
                duplicates: Vec::new(),
            }),
        }
    }
    descriptions
}

/// The way in which an open file is restored.
enum Plan {
    /// A file of rrapper's is passed to the process.
    Pass(File),
    /// The process makes it.
    Make,
}

/// Files of rrapper's for open files of the process, by the numbers of those.
pub type Reopened = HashMap<u64, File>;

type Prepared = Reopened;

/// A process that is being restored.
struct Restorer<'a, 'c> {
    state: &'c ThreadGroup,
    /// The process's root directory.
    root: Option<Root>,
    descriptions: Vec<Description<'a>>,
    remote: Remote<'c>,
    /// The kernel's state, where that is more than paths and offsets.
    kernel: Option<Rc<Kernel>>,
    /// The descriptors of epoll instances, and their interest lists.
    epolls: Vec<(i32, Vec<Interest>)>,
    common: &'c mut Common<'a>,
    restored: Restored,
}

impl<'a> Restorer<'a, '_> {
    /// Works the kernel's state out, if the process has any besides paths and offsets.
    fn model(&mut self) -> Result<()> {
        if self.kernel.is_some() {
            return Ok(());
        }
        let ThreadGroup {
            recording,
            descriptors: table,
            changes,
            ..
        } = self.state;
        let has_more = |description: &Description<'_>| {
            let file = description.file;
            let plain = matches!(file.kind(), FileKind::Path | FileKind::Terminal);
            let needs_state = (!plain || file.is_memfd()) && !file::is_stateless(file);
            description.stream.is_none() && needs_state
        };
        let has_objects = self.descriptions.iter().any(has_more);
        if table.has_process_state() || !changes.is_empty() || has_objects {
            self.kernel = Some(Rc::new(changes.kernel(recording, table)?));
        }
        Ok(())
    }

    fn report_missing(&mut self, what: String) {
        if !self.restored.missing.contains(&what) {
            self.restored.missing.push(what);
        }
    }

    /// Reports a descriptor that is not restored. Files that the program inherited without asking are left out.
    fn report_lost(&mut self, description: &Description<'_>, why: &str) {
        let path = String::from_utf8_lossy(&description.file.path);
        if passed::is_on_way(description, &self.state.descriptors) {
            self.report_missing(format!("a descriptor on its way ({path}): {why}"));
        } else if !description.file.inherited {
            self.report_missing(format!("descriptor {} ({path}): {why}", description.fd));
        }
    }

    fn descriptors(&mut self) -> Result<()> {
        let descriptions = std::mem::take(&mut self.descriptions);
        if self.common.is_first {
            self.make_channels()?;
        }
        let mut to_pass = Vec::new();
        let mut to_make = Vec::new();
        for description in &descriptions {
            match self.plan(description)? {
                Plan::Pass(file) => to_pass.push((description, file)),
                Plan::Make => to_make.push(description),
            }
        }
        // In the order of their numbers, so that most get theirs at once.
        let first = to_pass.first().map_or(i32::MAX, |(passed, _)| passed.fd);
        let (before, behind): (Vec<_>, Vec<_>) = to_make.into_iter().partition(|d| d.fd < first);
        for description in before {
            self.make(description)?;
        }
        self.pass(&to_pass)?;
        drop(to_pass);
        for description in behind {
            self.make(description)?;
        }
        for description in &descriptions {
            for &(fd, cloexec) in &description.duplicates {
                // Fails where the first was not restored.
                let from = description.fd as u64;
                let args = [from, fd as u64, close_on_exec(cloexec), 0, 0, 0];
                self.remote.call(libc::SYS_dup3, args)?;
            }
        }
        self.lend(&descriptions)?;
        self.locks(&descriptions)?;
        self.fill_interest_lists(&descriptions)?;
        self.close_passed(&descriptions)
    }

    /// Makes what goes between open files, of whichever member they are.
    fn make_channels(&mut self) -> Result<()> {
        let all = std::mem::take(&mut self.common.all);
        let mut prepared = std::mem::take(&mut self.common.prepared);
        self.make_pipes(&all, &mut prepared)?;
        self.make_socket_pairs(&all, &mut prepared)?;
        self.make_connections(&all, &mut prepared)?;
        self.make_datagram_sockets(&all, &mut prepared)?;
        self.make_terminals(&all, &mut prepared)?;
        self.common.prepared = prepared;
        Ok(())
    }

    /// Keeps the open files that later members have, too.
    fn lend(&mut self, descriptions: &[Description<'_>]) -> Result<()> {
        let pid = self.remote.memory().tid();
        for description in descriptions.iter().filter(|d| d.stream.is_none()) {
            let id = description.id;
            let is_shared = self.common.holders.get(&id).is_some_and(|&count| count > 1);
            if is_shared && !self.common.prepared.contains_key(&id) {
                let file = borrow_fd(pid, description.fd)?;
                self.common.prepared.insert(id, file);
            }
        }
        Ok(())
    }

    /// Decides how an open file is restored, and makes those that are passed.
    fn plan(&mut self, description: &Description<'a>) -> Result<Plan> {
        let tid = self.remote.memory().tid();
        let id = description.id;
        let stream = |stream| self.common.streams.get(&(id, stream));
        let prepared = || self.common.prepared.get(&id);
        // Whichever descriptor of a stream a process has, the open file is the same.
        let shared = match description.stream {
            Some(one @ Stream::Stdin) => stream(one).or_else(prepared),
            Some(one) => stream(one),
            None => prepared()
                .or_else(|| stream(Stream::Stdout))
                .or_else(|| stream(Stream::Stderr))
                .or_else(|| stream(Stream::Stdin)),
        };
        if let Some(file) = shared {
            let again = file.try_clone();
            let what = "share an open file with it";
            return Ok(Plan::Pass(
                again.map_err(|e| TraceeError::os(what, tid, e))?,
            ));
        }
        let plan = self.plan_own(description)?;
        if let (Plan::Pass(file), Some(stream)) = (&plan, description.stream) {
            let again = file.try_clone();
            let what = "keep an open file of it";
            let again = again.map_err(|e| TraceeError::os(what, tid, e))?;
            self.common.streams.insert((description.id, stream), again);
        }
        Ok(plan)
    }

    /// The same for one that no earlier member has.
    fn plan_own(&mut self, description: &Description<'a>) -> Result<Plan> {
        let tid = self.remote.memory().tid();
        let file = description.file;
        let Some(stream) = description.stream else {
            if self.is_kept_stdin(description) {
                return self.kept_stdin(description);
            }
            if file.is_memfd() {
                return Ok(Plan::Pass(self.make_memfd(description)?));
            }
            return match file.kind() {
                FileKind::Path => {
                    let captured = self.captured_by_path(description)?;
                    let opened = || file::for_passing(self.root.as_ref()?, file);
                    Ok(captured.or_else(opened).map_or(Plan::Make, Plan::Pass))
                }
                FileKind::Terminal if !file.inherited => {
                    let why = "its terminal: another one, at which nobody is";
                    self.report_lost(description, why);
                    self.input_with(description, &[])
                }
                _ => Ok(Plan::Make),
            };
        };
        match stream {
            Stream::Stdin if self.state.recording.start().stdin.is_some() => {
                self.kept_stdin(description)
            }
            Stream::Stdin if !file::has_path(file) => self.stdin(description),
            Stream::Stdout | Stream::Stderr if !file::is_stateless(file) => {
                let (file, captured) = stream::output(file, stream, tid)?;
                self.common.captured.push(captured);
                Ok(Plan::Pass(file))
            }
            _ => {
                let root = self.root.as_ref();
                let opened = root.and_then(|root| file::for_passing(root, file));
                Ok(opened.map_or(Plan::Make, Plan::Pass))
            }
        }
    }

    /// Another process that had such an open file at the event.
    fn other_holder(&self, is_it: impl Fn(&OpenFile, u64) -> bool) -> Result<Option<i32>> {
        let me = self.state.changes.pid();
        let find = |tree: &ProcessTree| {
            let mut others = tree.all_tasks().filter(|&tid| tree.pid(tid) != Some(me));
            let found = others.find(|&tid| {
                let mut all = tree.each_descriptor(tid);
                all.any(|(fd, file, _)| is_it(file, tree.file_id(tid, fd).unwrap_or(u64::MAX)))
            });
            found.and_then(|tid| tree.pid(tid))
        };
        Ok(self
            .state
            .recording
            .process_tree_at(self.state.changes.event(), find)?)
    }

    /// Passes files to the process, each to its number.
    fn pass(&mut self, files: &[(&Description<'_>, File)]) -> Result<()> {
        if files.is_empty() {
            return Ok(());
        }
        // The lowest number that is not wanted, so that passed files get lower numbers than they are to have.
        let wanted = |fd: &i32| self.state.descriptors.get(*fd).is_some();
        let free = (0..).find(|fd| !wanted(fd)).unwrap_or(0);
        let channel = FileChannel::open(&mut self.remote, free)?;
        let to_pass: Vec<&File> = files.iter().map(|(_, file)| file).collect();
        let got = channel.pass(&mut self.remote, &to_pass)?;
        for ((description, _), got) in files.iter().zip(got).rev() {
            self.install(got as u64, description)?;
        }
        Ok(channel.close(&mut self.remote)?)
    }

    /// Moves a descriptor, which exec does not close, to its number.
    fn install(&mut self, got: u64, description: &Description<'_>) -> Result<()> {
        let (wanted, cloexec) = (description.fd as u64, close_on_exec(description.cloexec));
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
    fn make(&mut self, description: &Description<'a>) -> Result<()> {
        match description.file.kind() {
            FileKind::Path | FileKind::Device => self.open(description),
            FileKind::Socket => self.make_socket(description),
            FileKind::Anonymous if self.make_object(description)? => Ok(()),
            FileKind::Terminal | FileKind::Pipe | FileKind::Anonymous => {
                self.report_lost(description, "nothing of its kind can come back");
                self.install_broken(description)
            }
        }
    }

    /// Makes an anonymous object in the process; returns whether it is of a kind that can be made.
    fn make_object(&mut self, description: &Description<'a>) -> Result<bool> {
        let kernel = self.kernel.as_ref();
        let object = kernel.and_then(|kernel| kernel.object(description.id).cloned());
        let Some(object) = object else {
            return Ok(false);
        };
        self.remote.reset_scratch();
        let got = match &object {
            Object::Eventfd(eventfd) => self.make_eventfd(description, eventfd)?,
            Object::Timerfd(timerfd) => self.make_timerfd(description, timerfd)?,
            Object::Signalfd(signalfd) => self.make_signalfd(description, signalfd)?,
            Object::Epoll(epoll) => self.make_epoll(description, epoll)?,
            Object::Inotify(inotify) => self.make_inotify(description, inotify)?,
            Object::Socket(_) | Object::PipeEnd(_) | Object::Memfd(_) => return Ok(false),
        };
        self.install(got, description)?;
        Ok(true)
    }
}

fn close_on_exec(cloexec: bool) -> u64 {
    match cloexec {
        true => libc::O_CLOEXEC as u64,
        false => 0,
    }
}

/// Words as they lie in memory.
fn words(words: &[u64]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}
