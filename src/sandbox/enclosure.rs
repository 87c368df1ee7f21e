//! An enclosure: the namespaces and mounts of a sandbox, which are kept and used again.
//!
//! Two helper processes hold it. The keeper has the machine's files as its root, and lays overlays of them where all
//! others have theirs. The first process of the pid namespace ends the others, and takes anew what they used of other
//! namespaces. After a use, the overlays are looked at: those that were changed are replaced. What has no overlay is taken
//! back.

mod copied;
mod kept;
pub(super) mod terminals;
mod unmapped_owners;
mod watch;

use super::build::{self, Begun, First, Used};
use super::builder::Builder;
use super::id_map::IdMap;
use super::mounts::Mounts;
use super::place::{Place, lower, upper, work};
use super::root_plan::{Layer, Machine, RootPlan, nearest_dir};
use super::{Error, Result, Settings};
use crate::tracee::call_batch::HelperProcess;
use crate::tracee::{end_namespace, end_rest_of_namespace, proc, tsc_off};
use copied::Copied;
use kept::{Kept, Old};
use std::collections::{BTreeSet, HashSet};
use std::fs::{self, File, Metadata};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tracing::trace_span;
use watch::Watch;

/// The namespaces of a program that is recorded. It has the pids of the machine: its terminal and its parent know it by
/// those.
const RECORDED: i32 = libc::CLONE_NEWUSER | libc::CLONE_NEWNS | libc::CLONE_NEWIPC;

const NAMESPACES: i32 = RECORDED | libc::CLONE_NEWNET | libc::CLONE_NEWCGROUP;

/// The namespaces that a process enters by way of the first process.
const ENTERED: i32 = NAMESPACES | libc::CLONE_NEWPID;

/// What runs in an enclosure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Inhabitants {
    /// Live processes.
    Live,
    /// A program that is recorded, and the commands before it.
    Recorded {
        /// Whether they have the machine's network.
        machines_network: bool,
    },
}

impl Inhabitants {
    /// The namespaces of the keeper, which all have.
    fn namespaces(self) -> i32 {
        match self {
            Inhabitants::Live => NAMESPACES,
            Inhabitants::Recorded {
                machines_network: true,
            } => RECORDED,
            Inhabitants::Recorded { .. } => RECORDED | libc::CLONE_NEWNET,
        }
    }
}

/// Directories in which programs always put files.
const ALWAYS: [&str; 4] = ["/tmp", "/var/tmp", "/dev/shm", "/run"];

/// What changes about a file when it is written to, or when an entry of a directory is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    inode: u64,
    mode: u32,
    owner: (u32, u32),
    len: u64,
    links: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    fn of(meta: &Metadata) -> Stamp {
        Stamp {
            inode: meta.ino(),
            mode: meta.mode(),
            owner: (meta.uid(), meta.gid()),
            len: meta.len(),
            links: meta.nlink(),
            modified: (meta.mtime(), meta.mtime_nsec()),
            changed: (meta.ctime(), meta.ctime_nsec()),
        }
    }

    fn at(path: &Path) -> Option<Stamp> {
        Some(Stamp::of(&fs::symlink_metadata(path).ok()?))
    }

    /// Whether a change at this time could leave the stamp as it is: the clock of file times has not gone on since.
    fn is_young(&self) -> bool {
        let now = nix::time::clock_gettime(nix::time::ClockId::CLOCK_REALTIME_COARSE);
        now.is_ok_and(|now| (now.tv_sec(), now.tv_nsec()) <= self.changed)
    }
}

/// A mounted layer.
#[derive(Debug)]
pub(super) struct Laid {
    pub(super) layer: Layer,
    /// The number in the names of its directories.
    pub(super) number: usize,
    /// The numbers of the directories of kept files below its changed files, the first one on top.
    pub(super) kept: Vec<usize>,
    /// Its directory of changed files.
    dir: File,
    /// That directory without changed files.
    stamp: Stamp,
    /// Whether a change may be overlooked by the stamp.
    young: bool,
    /// Whether a process has changed files in it before.
    is_used: bool,
    /// The device and inode number of the machine's directory.
    machine: Option<(u64, u64)>,
    /// Whether it was laid while processes ran.
    is_late: bool,
}

/// An enclosure.
#[derive(Debug)]
pub(super) struct Enclosure {
    /// Ends before the keeper.
    init: Option<HelperProcess>,
    keeper: HelperProcess,
    inhabitants: Inhabitants,
    namespace: Option<u64>,
    first: First,
    place: Place,
    layers: Vec<Laid>,
    /// Where directories with an overlay of their own were renamed to.
    pub(super) moved: Vec<PathBuf>,
    /// The files that are kept for the next uses.
    kept: Option<Kept>,
    next: usize,
    copied: Vec<Copied>,
    /// Of what was made anew.
    watch: Watch,
    mounts: Mounts,
    ids: IdMap,
    /// The device and inode numbers of the copies of others' files.
    taken: HashSet<(u64, u64)>,
    settings: Settings,
    pub(super) notes: Vec<String>,
    pub(super) used: Used,
    /// Whether it cannot be used again.
    pub(super) spoiled: bool,
    /// The permissions and owners of its terminals' directory and maker.
    terminals: [Option<(u32, u32, u32)>; 2],
    /// When all of it was last seen to be as the machine is.
    refreshed: Instant,
    /// Whether every change of a file gives it another time than it was seen to have (since Linux 6.13).
    exact: bool,
}

impl Enclosure {
    pub(super) fn new(
        helper: &mut HelperProcess,
        ids: &IdMap,
        settings: &Settings,
        inhabitants: Inhabitants,
    ) -> Result<Enclosure> {
        let machine = |what: &str, e: io::Error| Error::refused(what, e);
        let namespaces = inhabitants.namespaces() as u64;
        let keeper = trace_span!("namespaces").in_scope(|| helper.copy(namespaces))?;
        let mut keeper = keeper.map_err(|e| Error::refused(super::error::NAMESPACES, e))?;
        let told = ids.write(keeper.pid());
        told.map_err(|e| machine("get its user and group (/proc/PID/uid_map)", e))?;
        let planning = trace_span!("plan").entered();
        let mounts = Mounts::of_machine().map_err(|e| machine("learn what is mounted", e))?;
        let plan = RootPlan::new(&Machine {
            ids,
            mounts: &mounts,
        });
        drop(planning);
        let building = trace_span!("build").entered();
        let terminals = match inhabitants {
            Inhabitants::Live => Vec::new(),
            Inhabitants::Recorded { .. } => terminals::of_caller(),
        };
        let begun = build::begin(&mut keeper, settings, &terminals)?;
        let fail = |e| machine("make the directories that it shows", e);
        let place = Place::open(&keeper, begun.place).map_err(fail)?;
        place.fill(&plan, &terminals).map_err(fail)?;
        let exact = place.has_exact_times().map_err(fail)?;
        for (number, layer) in plan.layers.iter().enumerate() {
            place.add_layer(layer, number).map_err(fail)?;
        }
        let mut failed = build::show(&mut keeper, &plan, &begun, settings)?;
        let (init, first) = match inhabitants {
            Inhabitants::Live => Enclosure::start(&mut keeper, &begun, settings)?,
            Inhabitants::Recorded { machines_network } => {
                let member = keeper.copy(0)?;
                let mut member = member.map_err(|e| machine("copy itself", e))?;
                let first = build::settle_recorded(&mut member, &begun, !machines_network)?;
                (member, first)
            }
        };
        drop(building);
        let mut enclosure = Enclosure {
            inhabitants,
            namespace: match inhabitants {
                Inhabitants::Live => proc::pid_namespace(init.pid()),
                Inhabitants::Recorded { .. } => None,
            },
            terminals: terminals_of(&init),
            init: Some(init),
            keeper,
            first,
            next: plan.layers.len(),
            place,
            layers: Vec::new(),
            moved: Vec::new(),
            kept: None,
            copied: Vec::new(),
            watch: Watch::new(),
            mounts,
            ids: ids.clone(),
            taken: HashSet::new(),
            settings: settings.clone(),
            notes: plan.notes,
            used: Used::default(),
            // What a program has left running is not known here.
            spoiled: inhabitants != Inhabitants::Live,
            refreshed: tsc_off::now(),
            exact,
        };
        let shows = |path: &Path| !failed.iter().any(|(failed, _)| failed == path);
        for (number, layer) in plan.layers.into_iter().enumerate() {
            if shows(&layer.path) {
                let laid = Laid::new(&enclosure.place, layer, number);
                enclosure.layers.push(laid.map_err(fail)?);
            }
        }
        if enclosure.layers.is_empty()
            && let Some((path, error)) = failed.pop()
        {
            let step = format!("mount an overlay over {}", path.display());
            return Err(Error::refused(step, error));
        }
        for (path, error) in failed {
            // It is gone meanwhile.
            if error.kind() == io::ErrorKind::NotFound {
                continue;
            }
            let path = path.display();
            enclosure.notes.push(format!(
                "{path} is empty: overlayfs does not take it ({error})"
            ));
        }
        enclosure.note_copied(&plan.skeletons, &plan.entries);
        enclosure.add_requested(ids)?;
        Ok(enclosure)
    }

    fn start(
        keeper: &mut HelperProcess,
        begun: &Begun,
        settings: &Settings,
    ) -> Result<(HelperProcess, First)> {
        let init = keeper.copy(libc::CLONE_NEWPID as u64)?;
        let mut init = init.map_err(|e| Error::refused("get a pid namespace of its own", e))?;
        let first = build::settle(&mut init, begun, settings)?;
        Ok((init, first))
    }

    /// Lays what the settings ask for.
    fn add_requested(&mut self, ids: &IdMap) -> Result<()> {
        let settings = self.settings.clone();
        for (paths, is_writable) in [(&settings.writable, true), (&settings.readonly, false)] {
            for path in paths {
                let machine = Machine {
                    ids,
                    mounts: &self.mounts,
                };
                let dir = nearest_dir(path).and_then(|dir| machine.layer(&dir));
                let Some(mut layer) = dir.filter(|_| self.is_in_layer(path)) else {
                    let path = path.display();
                    self.notes.push(format!(
                        "{path} is as outside: no overlay can be laid there"
                    ));
                    continue;
                };
                layer.is_writable = is_writable;
                if is_writable {
                    layer.mode |= 0o700;
                }
                self.add(layer)?;
            }
        }
        Ok(())
    }

    fn is_in_layer(&self, path: &Path) -> bool {
        let Some(dir) = nearest_dir(path) else {
            return false;
        };
        let mut layers = self.layers.iter();
        layers.any(|laid| dir.starts_with(&laid.layer.path)) && !self.mounts.are_below(&dir)
    }

    /// Lays one more overlay. Those in it are laid again, as they would be below it.
    fn add(&mut self, layer: Layer) -> Result<()> {
        // It would show none of them.
        self.forget_kept()?;
        let is_inner = |laid: &mut Laid| laid.layer.path.starts_with(&layer.path);
        let inner: Vec<Laid> = self.layers.extract_if(.., is_inner).collect();
        let (path, is_writable) = (layer.path.clone(), layer.is_writable);
        self.add_one(layer)?;
        for mut laid in inner.into_iter().filter(|laid| laid.layer.path != path) {
            laid.layer.is_writable &= is_writable;
            self.add_one(laid.layer)?;
        }
        Ok(())
    }

    fn add_one(&mut self, layer: Layer) -> Result<()> {
        let number = self.next;
        self.next += 1;
        let step = format!("mount an overlay over {}", layer.path.display());
        let added = self.place.add_layer(&layer, number);
        added.map_err(|e| Error::refused(step.clone(), e))?;
        let mut b = Builder::default();
        let call = b.lay(&layer, number, &[]);
        b.hide(&self.settings, &layer.path);
        let outcome = b.make(&mut self.keeper)?;
        let ret = outcome.result(call).unwrap_or(-1);
        if ret < 0 {
            let dir = layer.path.display();
            let error = io::Error::from_raw_os_error(ret.wrapping_neg() as i32);
            self.notes.push(format!(
                "{dir} stays read-only: overlayfs does not take it ({error})"
            ));
            return Ok(());
        }
        let laid = Laid::new(&self.place, layer, number);
        self.layers.push(laid.map_err(|e| Error::refused(step, e))?);
        Ok(())
    }

    /// Makes files in these directories possible. Copying a directory up fails where its owner, or that of a directory
    /// around it, is not mapped; an overlay at the directory itself needs no such copy.
    pub(super) fn make_writable<'p>(
        &mut self,
        ids: &IdMap,
        dirs: impl Iterator<Item = &'p Path>,
    ) -> Result<()> {
        if ids.are_all() {
            return Ok(());
        }
        let always = ALWAYS.iter().map(Path::new);
        let wanted: BTreeSet<PathBuf> = always.chain(dirs).filter_map(nearest_dir).collect();
        // A path sorts before the paths that start with it.
        for dir in wanted {
            let outer = self.layer_of(&dir).map(|laid| &laid.layer);
            let Some(outer) = outer.filter(|outer| outer.is_writable) else {
                continue;
            };
            let mut between = dir.ancestors().take_while(|path| *path != outer.path);
            let known =
                |path: &Path| fs::symlink_metadata(path).is_ok_and(|meta| ids.contain(&meta));
            if between.all(known) {
                continue;
            }
            let machine = Machine {
                ids,
                mounts: &self.mounts,
            };
            if let Some(layer) = machine.layer(&dir) {
                self.add(layer)?;
            }
        }
        Ok(())
    }

    /// The number of the layer at exactly this path, if it may be taken away.
    fn own_layer(&self, path: &Path) -> Option<usize> {
        let inner = |laid: &Laid| laid.layer.path != path && laid.layer.path.starts_with(path);
        if self.mounts.at(path).is_some() || self.layers.iter().any(inner) {
            return None;
        }
        self.layers.iter().position(|laid| laid.layer.path == path)
    }

    /// See [`Sandbox::free_directory`](super::Sandbox::free_directory).
    pub(super) fn free_directory(&mut self, path: &Path, inside: &Path) -> Result<bool> {
        let is_empty = || fs::read_dir(inside).is_ok_and(|mut entries| entries.next().is_none());
        let Some(at) = self.own_layer(path).filter(|_| is_empty()) else {
            return Ok(false);
        };
        self.spoiled = true;
        let laid = self.layers.remove(at);
        let mut b = Builder::default();
        b.take_away(&laid.layer);
        b.make(&mut self.keeper)?;
        Ok(true)
    }

    /// Whether a directory has an overlay of its own.
    pub(super) fn has_layer_at(&self, dir: &Path) -> bool {
        self.layers.iter().any(|laid| laid.layer.path == dir)
    }

    /// See [`Sandbox::rename_overlay`](super::Sandbox::rename_overlay).
    pub(super) fn rename_overlay(&mut self, from: &Path, to: &Path) -> Result<bool> {
        let is_anew = |path: &Path| path.parent().is_some_and(|dir| self.is_made_anew(dir));
        let there = fs::symlink_metadata(self.place.shown(to)).is_ok();
        let at = self
            .own_layer(from)
            .filter(|_| is_anew(from) && is_anew(to) && !there);
        let Some(at) = at else {
            return Ok(false);
        };
        self.spoiled = true;
        let mut b = Builder::default();
        let moved = b.move_overlay(from, to);
        let outcome = b.make(&mut self.keeper)?;
        let is_moved = outcome.result(moved) == Some(0);
        let mut b = Builder::default();
        b.remove_place(if is_moved { from } else { to });
        b.make(&mut self.keeper)?;
        if is_moved {
            self.layers.remove(at);
            self.moved.push(to.to_path_buf());
        }
        Ok(is_moved)
    }

    /// Whether it can be used for a sandbox with these settings.
    pub(super) fn is_fit(&self, settings: &Settings, ids: &IdMap) -> bool {
        !self.spoiled
            && self.settings == *settings
            && self.ids == *ids
            && self.mounts.are_current()
            && self.layers.iter().all(Laid::is_there)
    }

    /// Whether these ids of a user and a group exist in it.
    pub(super) fn has_ids(&self, user: (u32, u32)) -> bool {
        self.ids.have(user)
    }

    /// The user and the group in it that are these outside.
    pub(super) fn ids_inside(&self, owner: (u32, u32)) -> (u32, u32) {
        self.ids.inside(owner)
    }

    /// Has it show the machine's files as they are now: an overlay keeps what it has found, and what it has not.
    ///
    /// That takes as long as a call for each overlay, so those in which the process does not work (`dirs`) are left as
    /// they are for moments, unless it is known that the machine's files may have changed (`all`). So are files that were
    /// made anew elsewhere. Returns whether the kernel did it, and what was made anew is still as the machine is.
    pub(super) fn refresh<'p>(
        &mut self,
        dirs: impl Iterator<Item = &'p Path>,
        all: bool,
    ) -> Result<bool> {
        const MOMENT: Duration = Duration::from_millis(50);
        let all = all || tsc_off::now().saturating_duration_since(self.refreshed) > MOMENT;
        let dirs: Vec<PathBuf> = dirs.filter_map(nearest_dir).collect();
        let copied = self.copied.iter();
        let mut copied = copied.filter(|one| all || one.is_near(&dirs));
        if !copied.all(Copied::is_current) {
            return Ok(false);
        }
        let mut b = Builder::default();
        let mut calls = Vec::new();
        for laid in &self.layers {
            let path = &laid.layer.path;
            let is_used = || dirs.iter().any(|dir| dir.starts_with(path));
            if !laid.layer.is_frozen && (all || laid.is_used || is_used()) {
                calls.push(b.refresh(&laid.layer));
            }
        }
        let outcome = b.make(&mut self.keeper)?;
        if all {
            self.refreshed = tsc_off::now();
        }
        Ok(calls.iter().all(|call| outcome.result(*call) == Some(0)))
    }

    /// Ends what is left in it, and takes away what is left of its use.
    pub(super) fn clean(&mut self) -> Result<()> {
        let mut used = std::mem::take(&mut self.used);
        // The first process of a program that is recorded is one of the machine: it must end no others.
        let is_live = self.inhabitants == Inhabitants::Live;
        let Some(init) = self.init.as_mut().filter(|_| is_live) else {
            return Ok(());
        };
        // Queues are files, too.
        let inside = |path: &str| PathBuf::from(format!("/proc/{}/root{path}", init.pid()));
        let queues = fs::read_dir(inside("/dev/mqueue"));
        used.ipc |= queues.is_ok_and(|mut queues| queues.next().is_some());
        self.spoiled |= terminals_of(init) != self.terminals;
        let mut is_empty = build::renew(init, &self.first, used)?;
        const MOST: u32 = 10_000;
        for _ in 0..MOST {
            if is_empty {
                break;
            }
            end_rest_of_namespace(self.namespace, init.pid());
            is_empty = build::renew(init, &self.first, Used::default())?;
        }
        self.spoiled |= !is_empty;
        self.clean_files()
    }

    fn clean_files(&mut self) -> Result<()> {
        self.taken.clear();
        self.spoiled = self.spoiled || !self.take_back();
        let changed = self.changed().map(|laid| laid.layer.path.clone());
        let changed: BTreeSet<PathBuf> = changed.collect();
        // What is hidden in them would be seen again.
        let hidden = self.settings.hide.iter();
        let mut hidden = hidden.filter_map(|path| fs::canonicalize(path).ok());
        self.spoiled |= hidden.any(|path| changed.iter().any(|dir| path.starts_with(dir)));
        if self.spoiled {
            return Ok(());
        }
        match self.lay_anew(&changed, Old::Removed) {
            Err(error) if self.spoiled => {
                tracing::debug!("{error}");
                Ok(())
            }
            done => done,
        }
    }

    /// Whether changes in the next moments are seen by the stamps.
    pub(super) fn note_age(&mut self) {
        for laid in &mut self.layers {
            laid.young = !self.exact && laid.stamp.is_young();
        }
        for copied in &mut self.copied {
            copied.note_age(self.exact);
        }
    }

    /// The layers with changed files.
    pub(super) fn changed(&self) -> impl Iterator<Item = &Laid> {
        self.layers.iter().filter(|laid| laid.is_changed())
    }

    /// The layer that holds the file at this path.
    pub(super) fn layer_of(&self, path: &Path) -> Option<&Laid> {
        let holds = |laid: &&Laid| path.starts_with(&laid.layer.path);
        let layers = self.layers.iter().filter(holds);
        layers.max_by_key(|laid| laid.layer.path.as_os_str().len())
    }

    /// The directory of a layer's changed files.
    pub(super) fn upper(&self, laid: &Laid) -> PathBuf {
        self.place.path(upper(laid.number))
    }

    /// The directories of a layer's changed files and of its kept ones.
    fn uppers(&self, laid: &Laid) -> impl Iterator<Item = PathBuf> {
        let all = std::iter::once(&laid.number).chain(&laid.kept);
        all.map(|&number| self.place.path(upper(number)))
    }

    /// Has its first process do something. Its descriptors up to the number that comes with it are to stay.
    pub(super) fn with_first<T>(
        &mut self,
        act: impl FnOnce(&mut HelperProcess, i64) -> Result<io::Result<T>>,
    ) -> Result<io::Result<T>> {
        match &mut self.init {
            Some(init) => act(init, self.first.last_pid),
            None => Ok(Err(io::Error::from_raw_os_error(libc::ESRCH))),
        }
    }

    /// The pid of its first process outside.
    pub(super) fn init_pid(&self) -> i32 {
        self.init.as_ref().map_or(0, HelperProcess::pid)
    }

    /// The namespaces that a process enters.
    pub(super) fn entered(&self) -> i32 {
        match self.inhabitants {
            Inhabitants::Live => ENTERED,
            recorded => recorded.namespaces(),
        }
    }

    /// Whether `/proc` shows its processes.
    pub(super) fn has_own_proc(&self) -> bool {
        self.first.own_proc
    }
}

/// The permissions and owners of the files of `/dev/pts` that are always there.
fn terminals_of(init: &HelperProcess) -> [Option<(u32, u32, u32)>; 2] {
    ["", "/ptmx"].map(|name| {
        let path = format!("/proc/{}/root/dev/pts{name}", init.pid());
        let meta = fs::symlink_metadata(path).ok()?;
        Some((meta.mode(), meta.uid(), meta.gid()))
    })
}

/// The device and inode number of a directory of the machine.
fn machine_numbers(dir: &Path) -> Option<(u64, u64)> {
    let meta = fs::symlink_metadata(dir).ok()?;
    Some((meta.dev(), meta.ino()))
}

impl Laid {
    fn new(place: &Place, layer: Layer, number: usize) -> io::Result<Laid> {
        let (dir, stamp) = Laid::open(place, number)?;
        Ok(Laid {
            machine: machine_numbers(&layer.path),
            is_late: false,
            layer,
            number,
            kept: Vec::new(),
            dir,
            stamp,
            young: true,
            is_used: false,
        })
    }

    fn open(place: &Place, number: usize) -> io::Result<(File, Stamp)> {
        let how = libc::O_PATH | libc::O_DIRECTORY;
        let path = place.path(upper(number));
        let dir = File::options().read(true).custom_flags(how).open(path)?;
        let stamp = Stamp::of(&dir.metadata()?);
        Ok((dir, stamp))
    }

    /// Notes that its directory of changed files is another one.
    fn renew(&mut self, place: &Place) -> io::Result<()> {
        (self.dir, self.stamp) = Laid::open(place, self.number)?;
        self.young = true;
        Ok(())
    }

    /// Whether it was laid while processes ran.
    pub(super) fn is_late(&self) -> bool {
        self.is_late
    }

    /// Whether it is still over the same directory of the machine.
    fn is_there(&self) -> bool {
        machine_numbers(&self.layer.path) == self.machine
    }

    fn is_changed(&self) -> bool {
        let now = self.dir.metadata().map(|meta| Stamp::of(&meta));
        self.young || now.map_or(true, |now| now != self.stamp)
    }
}

impl Place {
    /// Whether the times of a file differ after every change that follows a look at them.
    fn has_exact_times(&self) -> io::Result<bool> {
        const TIMES: u32 = 4;
        let path = self.path("times");
        let file = File::create(&path)?;
        let mut differ = true;
        for mode in 0..TIMES {
            let before = Stamp::of(&file.metadata()?).changed;
            file.set_permissions(fs::Permissions::from_mode(0o600 + mode))?;
            differ &= Stamp::of(&file.metadata()?).changed != before;
        }
        fs::remove_file(path)?;
        Ok(differ)
    }

    /// Removes the directories of a layer that is not mounted any more.
    fn remove(&self, number: usize) -> io::Result<()> {
        let changed = self.path(upper(number));
        fs::remove_dir_all(&changed).or_else(|_| {
            open_all(&changed)?;
            fs::remove_dir_all(&changed)
        })?;
        let work = self.path(work(number));
        // The kernel's directory in it cannot be entered.
        _ = fs::remove_dir(work.join("work"));
        fs::remove_dir_all(work)?;
        fs::remove_file(self.path(lower(number)))
    }
}

/// Has directories that a program has closed be entered and changed again. No process of the sandbox reaches them any more.
fn open_all(dir: &Path) -> io::Result<()> {
    let meta = fs::symlink_metadata(dir)?;
    if meta.mode() & 0o700 != 0o700 {
        fs::set_permissions(dir, fs::Permissions::from_mode(0o700))?;
    }
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            open_all(&entry.path())?;
        }
    }
    Ok(())
}

impl Drop for Enclosure {
    fn drop(&mut self) {
        let _span = trace_span!("end").entered();
        let Some(init) = self.init.take() else {
            return;
        };
        match self.inhabitants {
            Inhabitants::Live => end_namespace(init.into_task()),
            Inhabitants::Recorded { .. } => drop(init),
        }
    }
}
