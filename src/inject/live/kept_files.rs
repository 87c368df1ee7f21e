//! Recorded files that a sandbox keeps for the next copies: those that go live at the same event, or where little has
//! changed since, find the same.

use crate::history::{FileContent, Recording};
use crate::world::{Kind, Node, NodeId};
use std::any::Any;
use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What is to be at paths: a file, or nothing.
type Files = BTreeMap<PathBuf, Option<Node<FileContent>>>;

/// The number of files from which on it is worth to keep them at their first use; fewer ones are kept at their second.
const MANY: usize = 8;

/// How often files are kept above others before all are put anew.
const DEEPEST: usize = 6;

/// The part of a sandbox's room for changed files that may be taken by kept ones.
const PART: u64 = 8;

/// The note about the kept files of a sandbox.
pub(super) struct KeptFiles {
    recording: Arc<Recording>,
    files: Files,
    /// How many times files have been kept above others.
    depth: usize,
    /// What the last use has put that could have been kept.
    asked: RefCell<Files>,
}

/// The files of one use that may be the same for others: each has one name, and is no memory of the process.
pub(super) struct Wanted<'a> {
    recording: &'a Arc<Recording>,
    files: BTreeMap<&'a Path, Option<&'a Node<FileContent>>>,
}

impl<'a> Wanted<'a> {
    pub fn new(
        recording: &'a Arc<Recording>,
        removed: &'a [PathBuf],
        made: &'a [(PathBuf, NodeId, Node<FileContent>)],
    ) -> Wanted<'a> {
        let mut names: HashMap<NodeId, usize> = HashMap::new();
        for (_, id, _) in made {
            *names.entry(*id).or_default() += 1;
        }
        let is_same_for_all = |(_, id, node): &&(PathBuf, NodeId, Node<FileContent>)| {
            // Whether one copy has read what it was given is seen in the file.
            let is_own = node.is_mapped || node.shared.is_some() || node.is_given;
            !is_own && names.get(id) == Some(&1)
        };
        let removed = removed.iter().map(|path| (path.as_path(), None));
        let made = made.iter().filter(is_same_for_all);
        let made = made.map(|(path, _, node)| (path.as_path(), Some(node)));
        Wanted {
            recording,
            files: removed.chain(made).collect(),
        }
    }

    /// The recording that they are of.
    pub fn recording(&self) -> &'a Arc<Recording> {
        self.recording
    }

    /// Whether the kept files of this note can be shown: each of them is to be as it is, or to be put anew.
    pub fn can_have(&self, what: &dyn Any) -> bool {
        let Some(kept) = what.downcast_ref::<KeptFiles>() else {
            return false;
        };
        let is_known = |path: &PathBuf| self.files.contains_key(path.as_path());
        Arc::ptr_eq(&kept.recording, self.recording)
            && kept.files.keys().all(is_known)
            && (kept.depth < DEEPEST || self.files.iter().all(|(path, file)| kept.has(path, *file)))
    }

    /// The files that are not kept yet and could be at these paths.
    pub fn rest(&self, kept: Option<&KeptFiles>, can_be: impl Fn(&Path) -> bool) -> Files {
        let is_new = |path: &Path, file| !kept.is_some_and(|kept| kept.has(path, file));
        let files = self
            .files
            .iter()
            .filter(|(path, file)| is_new(path, **file) && can_be(path));
        files
            .map(|(path, file)| (path.to_path_buf(), file.cloned()))
            .collect()
    }
}

impl KeptFiles {
    /// A note that nothing is kept, and what could have been.
    pub fn none(recording: &Arc<Recording>, asked: Files) -> KeptFiles {
        KeptFiles {
            recording: Arc::clone(recording),
            files: Files::new(),
            depth: 0,
            asked: RefCell::new(asked),
        }
    }

    /// The note about these files, kept above others.
    pub fn above(recording: &Arc<Recording>, others: Option<&KeptFiles>, new: Files) -> KeptFiles {
        let mut files = others.map_or_else(Files::new, |others| others.files.clone());
        files.extend(new);
        KeptFiles {
            recording: Arc::clone(recording),
            files,
            depth: others.map_or(0, |others| others.depth) + 1,
            asked: RefCell::default(),
        }
    }

    /// Whether the file, or nothing, is kept at this path.
    pub fn has(&self, path: &Path, file: Option<&Node<FileContent>>) -> bool {
        let kept = self.files.get(path);
        kept.is_some_and(|kept| kept.as_ref() == file)
    }

    /// Notes what this use puts that could have been kept.
    pub fn asks(&self, new: Files) {
        self.asked.replace(new);
    }

    /// The bytes of the files.
    fn bytes(&self) -> u64 {
        bytes(&self.files)
    }
}

/// Whether it is worth to keep these files: they are many, or the last use has put them, too; and there is room.
pub(super) fn are_worth(new: &Files, kept: Option<&KeptFiles>, room: u64) -> bool {
    let is_same = || kept.is_some_and(|kept| *kept.asked.borrow() == *new);
    let all = bytes(new).saturating_add(kept.map_or(0, KeptFiles::bytes));
    !new.is_empty() && all <= room / PART && (new.len() >= MANY || is_same())
}

fn bytes(files: &Files) -> u64 {
    let of_file = |file: &Option<Node<FileContent>>| match file.as_ref().map(|node| &node.kind) {
        Some(Kind::File(content)) => content.len(),
        _ => 0,
    };
    files.values().map(of_file).fold(0, u64::saturating_add)
}
