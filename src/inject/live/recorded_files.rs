//! The files that a process had before it at the event at which it goes live: what is otherwise by now is put into its
//! sandbox.

mod content;
mod reopened;

use super::given::for_user;
use super::kept_files::{self, KeptFiles, Wanted};
use super::listings::Listings;
use crate::history::{FileContent, RecordedFiles, Recording};
use crate::inject::lost_content::{Lost, lost};
use crate::inject::{Error, Result, given_files};
use crate::kernel::{Descriptors, FileKind, Object};
use crate::process::{SharedMemory, ThreadGroup};
use crate::recording::EntryBefore;
use crate::sandbox::{self, Content, Placer, Sandbox, Settings};
use crate::tracee::Stopped;
use crate::world::{Attributes, Kind, Listing, Node, NodeId, World, is_apart};
use content::{fill, fill_from};
use std::any::Any;
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::ffi::{OsStr, OsString};
use std::fs::{self, File, Metadata};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;

/// Why a file in a hidden directory has no content.
pub(super) const HIDDEN: &str = "the settings of the sandbox hide it";

/// The limit on the files that are named as missing.
const MOST_NAMED: usize = 20;

type Recorded = World<Arc<RecordedFiles>>;

/// The differences between the recorded files and those of the machine.
#[derive(Default)]
pub(super) struct RecordedWorld {
    /// What is to be taken away, the inner ones first.
    removed: Vec<PathBuf>,
    /// What is to be made, the outer ones first.
    made: Vec<(PathBuf, NodeId, Node<FileContent>)>,
    /// Files that are as they were, and have other names, too.
    linked: Vec<(PathBuf, NodeId, Node<FileContent>)>,
    /// Files of which only the name and the kind are known, and that are not there any more.
    listed_only: Vec<(PathBuf, u32)>,
    /// The open files that are not found by their paths: their numbers in the copy.
    unnamed: Vec<(u64, Node<FileContent>, Option<PathBuf>)>,
    /// The open directories that are being listed: their numbers in the copy, and what was read of them.
    listings: Vec<(u64, PathBuf, Listing)>,
    /// The time of changes by calls.
    time: i64,
    /// The times of the last changes of directories, and whether the machine has others.
    times: BTreeMap<PathBuf, (i128, bool)>,
    /// The user id by which the process knows who goes on, if it is another one.
    known_as: Option<u32>,
    /// The paths that live sockets are bound to.
    bound: HashSet<PathBuf>,
    /// What the settings hide: no file that was not copied comes from there.
    hidden: Vec<PathBuf>,
    /// The bytes that a sandbox has for changed files.
    room: u64,
    missing: RefCell<Missing>,
    /// Why a file does not have the content that it was given: the first one.
    refused: RefCell<Option<Error>>,
}

#[derive(Default)]
struct Missing {
    sentences: Vec<String>,
    left_out: usize,
    /// The first files that are not as they were and of which there is no copy, and the number of all such.
    uncopied: Vec<String>,
    all_uncopied: usize,
}

impl Missing {
    /// Notes a file that was not copied for no reason of its own, as those of the system.
    fn note_uncopied(&mut self, path: &[u8]) {
        const MOST: usize = 3;
        self.all_uncopied += 1;
        if self.uncopied.len() < MOST {
            self.uncopied
                .push(String::from_utf8_lossy(path).into_owned());
        }
    }

    /// A sentence about those.
    fn of_uncopied(&self) -> Option<String> {
        let named = self.uncopied.join(", ");
        let (more, it_has) = match (self.all_uncopied - self.uncopied.len(), self.all_uncopied) {
            (_, 0) => return None,
            (0, 1) => (String::new(), "it has"),
            (0, _) => (String::new(), "they have"),
            (more, _) => (format!(" and {more} more files"), "they have"),
        };
        Some(format!(
            "{named}{more} as before the recording: {it_has} changed since, and there is no copy (`rrapper pack` makes one)"
        ))
    }

    fn note(&mut self, sentence: String) {
        match self.sentences.len() < MOST_NAMED {
            true => self.sentences.push(sentence),
            false => self.left_out += 1,
        }
    }
}

impl RecordedWorld {
    /// Compares the files that processes, with a task of each, have before them at an event with those of the machine. The
    /// first has changed files since. Nothing is to be put anywhere where the recording has not kept any files.
    pub fn of(
        family: &[(&ThreadGroup, i32)],
        event: u64,
        settings: &Settings,
    ) -> Result<RecordedWorld> {
        let Some(&(group, _)) = family.first() else {
            return Ok(RecordedWorld::default());
        };
        let recording = &group.recording;
        let files = recording.recorded_files()?;
        let bound = bound_paths(family, event)?;
        // Of a recording that has not kept any, only those that were given a content are known.
        let is_bare = files.is_empty();
        let known_as = recording.other_user()?.map(|user| user.uid);
        if is_bare && !group.files.gives() {
            return Ok(RecordedWorld::default());
        }
        Ok(
            recording.recorded_world(event, &group.files, |world, tree| {
                let mut plan = RecordedWorld {
                    time: recording.start().clocks.realtime,
                    known_as,
                    hidden: hidden(settings),
                    bound,
                    room: settings.limits.tmpfs_bytes,
                    ..RecordedWorld::default()
                };
                if group.files.is_cut() {
                    plan.missing.borrow_mut().note(
                        "changes that its calls made to files: there were too many of them".into(),
                    );
                }
                for (path, reason) in files.incomplete() {
                    let here = world.known(path).flatten().and_then(|id| world.get(id));
                    if !here.is_some_and(|node| node.is_old && node.is_directory()) {
                        let path = String::from_utf8_lossy(path);
                        let sentence = format!("{path}, which has got another name: {reason}");
                        plan.missing.get_mut().note(sentence);
                    }
                }
                for (path, wanted) in world.names() {
                    let node = wanted.and_then(|id| Some((id, world.get(id)?)));
                    if is_bare && !node.is_some_and(|(_, node)| node.is_given) {
                        continue;
                    }
                    plan.compare(path, node, (recording, &files));
                    if node.is_some_and(|(_, node)| node.is_directory() && node.is_made()) {
                        plan.empty(path, world);
                    }
                }
                plan.keep_links();
                for (dir, entries) in files.listed() {
                    plan.compare_entries(dir, entries, world, &files);
                }
                plan.removed.reverse();
                let mut seen = HashSet::new();
                for &(group, tid) in family {
                    let view = tree.view(tid);
                    for (fd, file, _) in group.descriptors.iter() {
                        let recorded = view.file(fd).map(|(id, _)| id);
                        let (Some(id), true) =
                            (group.descriptors.file_id(fd), file.path.starts_with(b"/"))
                        else {
                            continue;
                        };
                        let recorded = recorded.unwrap_or(id);
                        let node = world.open_node(recorded).and_then(|id| world.get(id));
                        let is_known = !is_bare || node.is_some_and(|node| node.is_given);
                        if is_known && seen.insert((id, fd)) {
                            plan.compare_open((recording, world), recorded, (id, &file.path));
                        }
                    }
                }
                plan
            })?,
        )
    }

    /// The directories in which it changes something.
    pub fn directories(&self) -> BTreeSet<PathBuf> {
        let made = self.made.iter().map(|(path, ..)| path);
        let made = made.chain(self.listed_only.iter().map(|(path, _)| path));
        let all = self.removed.iter().chain(made);
        all.filter_map(|path| path.parent())
            .map(Path::to_path_buf)
            .collect()
    }

    fn compare(
        &mut self,
        path: &[u8],
        wanted: Option<(NodeId, &Node<FileContent>)>,
        (recording, files): (&Recording, &RecordedFiles),
    ) {
        let place = Path::new(OsStr::from_bytes(path));
        let is_hidden = self.hidden.iter().any(|hidden| place.starts_with(hidden));
        let is_own = [b"/proc", &b"/sys"[..], b"/dev"].contains(&path);
        let is_given = wanted.is_some_and(|(_, node)| node.is_given);
        if is_given && is_hidden {
            return self.refuse(place, HIDDEN);
        }
        if place.parent().is_none() || is_own || is_apart(path) || is_hidden {
            return;
        }
        let now = fs::symlink_metadata(place).ok();
        let Some((id, node)) = wanted else {
            // The recorder looks at no devices, for example.
            if now.is_some() && files.knows(path) {
                self.removed.push(place.to_path_buf());
            }
            return;
        };
        if let (true, Some(time)) = (node.is_directory(), node.attributes.modified) {
            let is_other = now.as_ref().is_some_and(|now| modified(now) != time);
            self.times.insert(place.to_path_buf(), (time, is_other));
        }
        let before = files.status(path);
        let is_same = |meta: &Metadata| match &node.kind {
            Kind::Directory => meta.is_dir() && has_mode(meta, &node.attributes),
            Kind::Link(text) => {
                fs::read_link(place).is_ok_and(|now| now.as_os_str().as_bytes() == text)
            }
            Kind::Special(kind, _) => {
                meta.mode() & libc::S_IFMT == *kind && !self.bound.contains(place)
            }
            // What another program left there.
            Kind::File(content) if node.is_foreign => {
                !content.is_known()
                    && content.len() == meta.len()
                    && node.attributes.modified == Some(modified(meta))
                    && has_mode(meta, &node.attributes)
            }
            Kind::File(content) => {
                node.inode == Some((meta.dev(), meta.ino()))
                    && !node.is_given
                    && !node.is_mapped
                    && content.is_unchanged()
                    && has_mode(meta, &node.attributes)
                    && before.is_some_and(|before| before.is_unchanged(meta))
            }
        };
        if let Some(meta) = now.as_ref().filter(|meta| is_same(meta)) {
            if meta.nlink() > 1 && node.is_copied() {
                self.linked.push((place.to_path_buf(), id, node.clone()));
            }
            return;
        }
        match &node.kind {
            Kind::Special(libc::S_IFSOCK, _) if self.bound.contains(place) => {
                // It is bound again.
                return self.removed.push(place.to_path_buf());
            }
            Kind::Special(kind, _) if ![libc::S_IFIFO, libc::S_IFSOCK].contains(kind) => {
                let path = String::from_utf8_lossy(path);
                return self.missing.get_mut().note(format!(
                    "{path} as it was: a device, and these are the machine's"
                ));
            }
            Kind::File(content) => {
                let lost = content
                    .files()
                    .find_map(|file| lost(file, recording, &self.hidden));
                if let Some(lost) = lost {
                    match lost {
                        Lost::Uncopied => self.missing.get_mut().note_uncopied(path),
                        Lost::Because(reason) => self.missing.get_mut().note(format!(
                            "{} as it was: {reason}",
                            String::from_utf8_lossy(path)
                        )),
                    }
                    return;
                }
                if !content.is_known() {
                    let path = String::from_utf8_lossy(path);
                    self.missing.get_mut().note(match node.is_foreign {
                        true => format!(
                            "{path}: another program changed it; what the recorded ones have not read of it since is as before, \
                             or zeros"
                        ),
                        false => format!(
                            "{path}: a call wrote data to it that was not recorded; there are zeros"
                        ),
                    });
                }
            }
            _ => {}
        }
        let mut node = node.clone();
        if node.is_directory() {
            // Set once all is in it.
            node.attributes.modified = None;
        }
        self.made.push((place.to_path_buf(), id, node));
    }

    /// Has files with several known names be made: an overlay would copy one name up when the file is changed, and leave the
    /// others.
    fn keep_links(&mut self) {
        let mut names: HashMap<NodeId, usize> = HashMap::new();
        for (_, id, _) in self.linked.iter().chain(&self.made) {
            *names.entry(*id).or_default() += 1;
        }
        let linked = std::mem::take(&mut self.linked);
        let several = linked.into_iter().filter(|(_, id, _)| names[id] > 1);
        self.made.extend(several);
    }

    /// Compares the entries of a directory that was listed, as far as nothing else is known of them: others were not in it at
    /// any event.
    fn compare_entries(
        &mut self,
        dir: &[u8],
        entries: &[EntryBefore],
        world: &Recorded,
        files: &RecordedFiles,
    ) {
        let place = Path::new(OsStr::from_bytes(dir));
        let is_there = |id: Option<NodeId>| {
            let node = id.and_then(|id| world.get(id));
            node.is_some_and(|node| node.is_directory() && node.is_old)
        };
        if !world.known(dir).is_some_and(is_there) || !world.is_in_place(dir) {
            return;
        }
        let now = fs::symlink_metadata(place);
        if now.is_ok_and(|now| {
            files
                .status(dir)
                .is_some_and(|then| then.is_unchanged(&now))
        }) {
            return;
        }
        let is_shown = |path: &Path| {
            let bytes = path.as_os_str().as_bytes();
            world.known(bytes).is_none()
                && !is_apart(bytes)
                && !self.hidden.iter().any(|hidden| path.starts_with(hidden))
        };
        let listing = fs::read_dir(place).into_iter().flatten().flatten();
        let there: HashSet<OsString> = listing.map(|entry| entry.file_name()).collect();
        let were: HashMap<&OsStr, u32> = entries
            .iter()
            .map(|entry| (OsStr::from_bytes(&entry.name), entry.kind))
            .collect();
        let others = there.iter().filter(|name| !were.contains_key(&name[..]));
        let others = others
            .map(|name| place.join(name))
            .filter(|path| is_shown(path));
        let others: Vec<PathBuf> = others.collect();
        let gone = were.iter().filter(|(name, _)| !there.contains(**name));
        let gone = gone
            .map(|(name, kind)| (place.join(name), *kind))
            .filter(|(path, _)| is_shown(path));
        let gone: Vec<(PathBuf, u32)> = gone.collect();
        self.removed.extend(others);
        if let Some((path, _)) = gone.first() {
            let (path, rest) = (path.display(), gone.len() - 1);
            let others = match rest {
                0 => String::new(),
                rest => format!(" and {rest} more in that directory"),
            };
            self.missing.get_mut().note(format!(
                "{path}{others}: the program had only listed the name, and the file is gone; it is empty"
            ));
        }
        self.listed_only.extend(gone);
    }

    fn refuse(&self, path: &Path, reason: impl Into<String>) {
        let mut refused = self.refused.borrow_mut();
        refused.get_or_insert_with(|| given_files::refused(path, reason));
    }

    /// Whether all files have the contents that they were given.
    ///
    /// # Errors
    /// The first that has not.
    pub fn check(&self) -> Result<()> {
        match self.refused.take() {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }

    /// Takes away what is in a directory today that a call had made: what was in it at the event is known.
    fn empty(&mut self, path: &[u8], world: &Recorded) {
        let place = Path::new(OsStr::from_bytes(path));
        for entry in fs::read_dir(place).into_iter().flatten().flatten() {
            let there = entry.path();
            if world.known(there.as_os_str().as_bytes()).is_none() {
                self.removed.push(there);
            }
        }
    }

    /// Looks whether an open file has the path by which it was opened.
    fn compare_open(
        &mut self,
        (recording, world): (&Recording, &Recorded),
        recorded: u64,
        (own, path): (u64, &[u8]),
    ) {
        if let Some(listing) = world.listing(recorded) {
            let path = PathBuf::from(OsStr::from_bytes(path));
            self.listings.push((own, path, listing.clone()));
        }
        let Some(id) = world.open_node(recorded) else {
            return;
        };
        if world.known(path) == Some(Some(id)) {
            return;
        }
        let first = world.names().find(|(_, node)| *node == Some(id));
        if let Some(node) = world.get(id)
            && let Kind::File(content) = &node.kind
        {
            let lost = content
                .files()
                .find_map(|file| lost(file, recording, &self.hidden));
            if let (Some(lost), None) = (lost, first) {
                let (path, reason) = (String::from_utf8_lossy(path), lost.reason());
                let sentence = format!("{path}, which is open without that name: {reason}");
                return self.missing.get_mut().note(sentence);
            }
            let name = first.map(|(name, _)| PathBuf::from(OsStr::from_bytes(name)));
            self.unnamed.push((own, node.clone(), name));
        }
    }

    /// The files that a sandbox may have kept.
    pub fn wanted<'a>(&'a self, recording: &'a Arc<Recording>) -> Wanted<'a> {
        Wanted::new(recording, &self.removed, &self.made)
    }

    /// Puts the files into the sandbox, as far as it has not kept them since an earlier use: `kept` is the note about those
    /// that it shows.
    ///
    /// # Errors
    /// If the sandbox is of no use.
    pub fn put_into(
        &self,
        sandbox: &mut Sandbox,
        kept: Option<Rc<dyn Any>>,
        wanted: &Wanted<'_>,
        shared: &SharedMemory,
    ) -> sandbox::Result<()> {
        let recording = wanted.recording();
        let kept = kept
            .as_deref()
            .and_then(|what| what.downcast_ref::<KeptFiles>());
        let new = wanted.rest(kept, |path| sandbox.can_keep(path));
        let mut above = None;
        if kept_files::are_worth(&new, kept, self.room) {
            let is_new = |path: &Path, _: Option<&Node<FileContent>>| new.contains_key(path);
            let is_done = self.put_some(sandbox, (recording, shared), &is_new);
            self.set_times(sandbox);
            let all = Rc::new(KeptFiles::above(recording, kept, new));
            if is_done {
                sandbox.keep(Rc::clone(&all) as Rc<dyn Any>)?;
            }
            above = Some(all);
        } else if let Some(kept) = kept {
            kept.asks(new);
        } else if !new.is_empty() {
            sandbox.keep(Rc::new(KeptFiles::none(recording, new)))?;
        }
        let there = above.as_deref().or(kept);
        let is_left = |path: &Path, file: Option<&Node<FileContent>>| {
            !there.is_some_and(|there| there.has(path, file))
        };
        self.put_some(sandbox, (recording, shared), &is_left);
        self.put_listed(sandbox);
        self.set_times(sandbox);
        Ok(())
    }

    /// Gives directories the times of their last changes: those in which something was put, and those that have another
    /// one on the machine.
    fn set_times(&self, sandbox: &mut Sandbox) {
        let made = self.made.iter().map(|(path, ..)| path);
        let made = made.chain(self.listed_only.iter().map(|(path, _)| path));
        let put = made.clone().chain(&self.removed);
        let put = put.filter_map(|path| path.parent());
        let put: HashSet<&Path> = put.chain(made.map(PathBuf::as_path)).collect();
        let is_put = |dir: &PathBuf| put.contains(dir.as_path());
        let mut times = self.times.iter();
        if !times.any(|(dir, (_, is_other))| *is_other || is_put(dir)) {
            return;
        }
        let Ok(mut placer) = sandbox.placer() else {
            return;
        };
        // A change of an inner one is none of the outer one.
        for (dir, (time, is_other)) in &self.times {
            if is_put(dir) || *is_other && !placer.is_outermost(dir) {
                let set = placer.set_time(dir, split_time(*time));
                // Only its owner can.
                tracing::trace!("{}: {set:?}", dir.display());
            }
        }
    }

    /// Puts the files of which this says so. Returns whether all are there.
    fn put_some(
        &self,
        sandbox: &mut Sandbox,
        (recording, shared): (&Recording, &SharedMemory),
        is_meant: &dyn Fn(&Path, Option<&Node<FileContent>>) -> bool,
    ) -> bool {
        let removed = self.removed.iter().filter(|path| is_meant(path, None));
        let made = self
            .made
            .iter()
            .filter(|(path, _, node)| is_meant(path, Some(node)));
        let (mut removed, mut made) = (removed.peekable(), made.peekable());
        if removed.peek().is_none() && made.peek().is_none() {
            return true;
        }
        let mut placer = match sandbox.placer() {
            Ok(placer) => placer,
            Err(error) => {
                for (path, _, node) in made {
                    if node.is_given {
                        self.refuse(path, error.to_string());
                    }
                }
                self.say(format!("its files at the event: {error}"));
                return false;
            }
        };
        let mut is_done = true;
        for path in removed {
            let gone = placer.put(path, &Content::Nothing, &sandbox::Attributes::default());
            if let Err(error) = gone {
                self.say(format!("{}, which did not exist: {error}", path.display()));
                is_done = false;
            }
        }
        let mut placed: HashMap<NodeId, &Path> = HashMap::new();
        for (path, id, node) in made {
            let done = match placed.get(id) {
                Some(other) => placer.put(path, &Content::Name(other), &Default::default()),
                None => self.put(&mut placer, (recording, shared), path, node),
            };
            match done {
                Ok(()) if matches!(node.kind, Kind::File(_)) => {
                    placed.entry(*id).or_insert(path);
                }
                Ok(()) => {}
                Err(error) => {
                    match node.is_given {
                        true => self.refuse(path, error.to_string()),
                        false => self.say(format!("{} as it was: {error}", path.display())),
                    }
                    is_done = false;
                }
            }
        }
        is_done
    }

    /// Puts the files of which only the names are known, since their directories were listed.
    fn put_listed(&self, sandbox: &mut Sandbox) {
        if self.listed_only.is_empty() {
            return;
        }
        let mut placer = match sandbox.placer() {
            Ok(placer) => placer,
            Err(error) => return self.say(format!("its files at the event: {error}")),
        };
        for (path, kind) in &self.listed_only {
            let what = match *kind {
                libc::S_IFDIR => Content::Directory,
                libc::S_IFIFO => Content::Fifo,
                libc::S_IFSOCK => Content::Socket,
                _ => Content::File(&|_| Ok(())),
            };
            if let Err(error) = placer.put(path, &what, &Default::default()) {
                self.say(format!("{} as it was: {error}", path.display()));
            }
        }
    }

    fn put(
        &self,
        placer: &mut Placer<'_>,
        (recording, shared): (&Recording, &SharedMemory),
        path: &Path,
        node: &Node<FileContent>,
    ) -> io::Result<()> {
        let objects = shared.objects();
        let memory = node.shared.and_then(|number| objects.content(number));
        if node.is_mapped && memory.is_none() {
            let path = path.display();
            self.say(format!(
                "{path}: what was written to it by way of shared memory is not in it"
            ));
        }
        let fill = |file: &mut File| match (memory, &node.kind) {
            (Some(memory), Kind::File(content)) => fill_from(file, memory, content.len()),
            _ => fill(file, node, recording),
        };
        let what = match &node.kind {
            Kind::Directory => Content::Directory,
            Kind::Link(text) => Content::Link(text),
            Kind::Special(libc::S_IFSOCK, _) => Content::Socket,
            Kind::Special(..) => Content::Fifo,
            Kind::File(_) => Content::File(&fill),
        };
        placer.put(path, &what, &self.attributes(node))
    }

    /// Has the process map the files where it maps memory with their contents.
    pub fn map_shared(
        &self,
        shared: &SharedMemory,
        task: &mut Stopped,
    ) -> crate::restore::Result<()> {
        for (path, _, node) in &self.made {
            if let Some(number) = node.shared {
                shared.objects().map_file_instead(number, path, task)?;
            }
        }
        Ok(())
    }

    fn attributes(&self, node: &Node<FileContent>) -> sandbox::Attributes {
        let attributes = placed_attributes(&node.attributes, node.inode, i128::from(self.time));
        let attributes = match node.is_given {
            true => for_user(attributes, self.known_as),
            false => attributes,
        };
        sandbox::Attributes {
            modified: attributes.modified.filter(|_| !node.is_directory()),
            ..attributes
        }
    }

    /// The directories that are being listed.
    pub fn listings(&self, group: &ThreadGroup) -> Listings {
        let table = &group.descriptors;
        let of = |fd: i32| {
            let id = table.file_id(fd)?;
            let (.., listing) = self.listings.iter().find(|(listed, ..)| *listed == id)?;
            Some((fd, listing.clone()))
        };
        let all = table.iter();
        Listings::new(all.filter_map(|(fd, ..)| of(fd)).collect())
    }

    fn say(&self, sentence: String) {
        self.missing.borrow_mut().note(sentence);
    }

    /// What could not be shown as it was, in sentences.
    pub fn into_missing(self) -> Vec<String> {
        let missing = self.missing.into_inner();
        let uncopied = missing.of_uncopied();
        let Missing {
            mut sentences,
            left_out,
            ..
        } = missing;
        sentences.extend(uncopied);
        if left_out > 0 {
            sentences.push(format!("{left_out} more files as they were"));
        }
        sentences
    }
}

impl Node<FileContent> {
    /// Whether it is a file whose content the recording has.
    fn is_copied(&self) -> bool {
        let Kind::File(content) = &self.kind else {
            return false;
        };
        let mut files = content.files();
        !files.any(|file| matches!(file, FileContent::Itself(_)))
    }
}

/// Attributes for the sandbox. The time of a file that was changed since is `time`.
pub(super) fn placed_attributes(
    attributes: &Attributes,
    numbers: Option<(u64, u64)>,
    time: i128,
) -> sandbox::Attributes {
    sandbox::Attributes {
        mode: attributes.mode,
        owner: (attributes.uid, attributes.gid),
        modified: Some(split_time(attributes.modified.unwrap_or(time))),
        extended: attributes.extended.clone(),
        numbers,
    }
}

/// Nanoseconds as seconds and nanoseconds.
fn split_time(time: i128) -> (i64, i64) {
    const SECOND: i128 = 1_000_000_000;
    (
        time.div_euclid(SECOND) as i64,
        time.rem_euclid(SECOND) as i64,
    )
}

/// The time of the last change of a file, in nanoseconds since 1970.
fn modified(meta: &Metadata) -> i128 {
    i128::from(meta.mtime()) * 1_000_000_000 + i128::from(meta.mtime_nsec())
}

fn has_mode(meta: &Metadata, attributes: &Attributes) -> bool {
    attributes
        .mode
        .is_none_or(|mode| mode == meta.mode() & 0o7777)
}

/// The paths that sockets of these processes are bound to.
fn bound_paths(family: &[(&ThreadGroup, i32)], event: u64) -> Result<HashSet<PathBuf>> {
    let Some(&(first, _)) = family.first() else {
        return Ok(HashSet::new());
    };
    let groups = family.iter().map(|(group, _)| group);
    let sockets = groups.flat_map(|group| {
        let table = &group.descriptors;
        let all = table
            .iter()
            .filter(|(_, file, _)| file.kind() == FileKind::Socket);
        all.filter_map(|(fd, ..)| table.file_id(fd))
    });
    let sockets: HashSet<u64> = sockets.collect();
    if sockets.is_empty() {
        return Ok(HashSet::new());
    }
    Ok(first.recording.kernel_at(event, |_, kernel| {
        let paths = sockets.iter().filter_map(|&id| match kernel.object(id)? {
            Object::Socket(socket) => socket.path(),
            _ => None,
        });
        paths
            .map(|path| PathBuf::from(OsStr::from_bytes(path)))
            .collect()
    })?)
}

/// The paths that the settings hide, without symbolic links.
pub(super) fn hidden(settings: &Settings) -> Vec<PathBuf> {
    let paths = settings.hide.iter();
    let real = paths.map(|path| fs::canonicalize(path).unwrap_or_else(|_| path.clone()));
    real.collect()
}
