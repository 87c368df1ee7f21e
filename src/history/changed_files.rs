//! What has become of files since a copy was spun off, as far as their state is worked out from calls.

use super::{FileChanges, FileContent, RecordedFiles, Recording};
use crate::recording::Result;
use crate::world::{Node, NodeId, World, is_apart};
use std::collections::BTreeMap;
use std::sync::Arc;

/// What has become of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileChange {
    /// It did not exist before.
    Created,
    /// Its content, kind, owner or permissions have changed, or it has been replaced.
    Changed,
    /// It does not exist any more.
    Removed,
}

/// What has become of what is at a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChangedPath {
    /// The change.
    pub change: FileChange,
    /// The path that the file had before, if it was another one, and whether the file was changed, too.
    pub from: Option<(Vec<u8>, bool)>,
}

type Recorded = World<Arc<RecordedFiles>>;

impl Recording {
    /// The files that were changed from the event at which a copy was spun off to another one, by path. `changes` are the
    /// copy's.
    ///
    /// # Errors
    /// If the recording cannot be read.
    pub fn changed_files(
        &self,
        event: u64,
        changes: &FileChanges,
    ) -> Result<BTreeMap<Vec<u8>, ChangedPath>> {
        let since = changes.since();
        if self.recorded_files()?.is_empty() {
            return Ok(BTreeMap::new());
        }
        let earlier = changes.before();
        let before = self.recorded_world(since, &earlier, |world, _| world.clone())?;
        self.recorded_world(event, changes, |now, _| differences(&before, now))
    }
}

fn differences(before: &Recorded, now: &Recorded) -> BTreeMap<Vec<u8>, ChangedPath> {
    let mut found = BTreeMap::new();
    // Files that do not have the names any more that they had.
    let mut lost: BTreeMap<NodeId, &[u8]> = BTreeMap::new();
    for (path, id) in before.names() {
        if let Some(id) = id.filter(|id| now.known(path).flatten() != Some(*id)) {
            lost.entry(id).or_insert(path);
        }
    }
    for (path, _) in before.names().chain(now.names()) {
        let is = node(now, path);
        let change = match (node(before, path), is) {
            (None, Some(_)) => FileChange::Created,
            (Some(_), None) => FileChange::Removed,
            (Some((old, was)), Some((new, is))) => {
                let is_replaced = old != new && !(was.is_directory() && is.is_directory());
                match is_replaced || differ(was, is) {
                    true => FileChange::Changed,
                    false => continue,
                }
            }
            (None, None) => continue,
        };
        if is_apart(path) || found.contains_key(path) {
            continue;
        }
        let origin = |(id, is): (NodeId, &Node<FileContent>)| {
            let was = before.get(id)?;
            let from = lost.remove(&id)?;
            Some((from.to_vec(), differ(was, is)))
        };
        let from = is.and_then(origin);
        found.insert(path.to_vec(), ChangedPath { change, from });
    }
    found
}

fn node<'w>(world: &'w Recorded, path: &[u8]) -> Option<(NodeId, &'w Node<FileContent>)> {
    let id = world.known(path).flatten()?;
    Some((id, world.get(id)?))
}

/// Whether one file differs from its former state, entries of directories and times aside.
fn differ(was: &Node<FileContent>, is: &Node<FileContent>) -> bool {
    let (old, new) = (&was.attributes, &is.attributes);
    was.kind != is.kind
        || (old.mode, old.uid, old.gid) != (new.mode, new.uid, new.gid)
        || old.extended != new.extended
}
