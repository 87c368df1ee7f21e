//! Names of files: absolute paths, as far as they are not those of before the recording.

use super::NodeId;
use std::collections::BTreeMap;

/// Names that have changed, or have been looked up.
#[derive(Clone, Debug, Default)]
pub(super) struct Names {
    known: BTreeMap<Vec<u8>, Option<NodeId>>,
    /// Where the content of a directory that was renamed was before the recording; `None` where a directory was made, and
    /// nothing was in it.
    moved: BTreeMap<Vec<u8>, Option<Vec<u8>>>,
}

impl Names {
    /// The node at a path; the outer `None` where only the base knows.
    pub fn get(&self, path: &[u8]) -> Option<Option<NodeId>> {
        self.known.get(path).copied()
    }

    /// The path at which what is here, if it has not been touched, was before the recording; `None` where nothing is here.
    pub fn original(&self, path: &[u8]) -> Option<Vec<u8>> {
        let mut dir = path;
        while let Some(end) = dir.iter().rposition(|&byte| byte == b'/') {
            dir = &dir[..end];
            if let Some(from) = self.moved.get(dir) {
                let from = from.as_ref()?;
                return Some([from, &path[dir.len()..]].concat());
            }
            // A name that is gone has nothing below it.
            if let Some(None) = self.known.get(dir) {
                return None;
            }
        }
        Some(path.to_vec())
    }

    pub fn put(&mut self, path: &[u8], node: Option<NodeId>) {
        self.known.insert(path.to_vec(), node);
    }

    /// Notes that a directory has been made here.
    pub fn made_directory(&mut self, path: &[u8]) {
        self.remove_below(path);
        self.moved.insert(path.to_vec(), None);
    }

    /// Notes that nothing is here any more.
    pub fn remove(&mut self, path: &[u8]) {
        self.remove_below(path);
        self.moved.remove(path);
        self.put(path, None);
    }

    fn remove_below(&mut self, path: &[u8]) {
        for gone in self.below(path) {
            self.known.remove(&gone);
            self.moved.remove(&gone);
        }
    }

    /// The known names below a path.
    fn below(&self, path: &[u8]) -> Vec<Vec<u8>> {
        let start = [path, b"/"].concat();
        let in_map = |names: &mut dyn Iterator<Item = &Vec<u8>>| -> Vec<Vec<u8>> {
            names
                .take_while(|name| name.starts_with(&start))
                .cloned()
                .collect()
        };
        let mut all = in_map(&mut self.known.range(start.clone()..).map(|(name, _)| name));
        all.extend(in_map(
            &mut self.moved.range(start.clone()..).map(|(name, _)| name),
        ));
        all
    }

    /// Renames a file or directory, with all below it; `node` is the one at `from`. What was at `to` is gone.
    pub fn rename(&mut self, from: &[u8], to: &[u8], node: NodeId, is_directory: bool) {
        if from == to {
            return;
        }
        let taken = self.take(from, is_directory);
        self.remove(to);
        self.give(to, taken);
        self.put(to, Some(node));
        self.put(from, None);
    }

    /// Exchanges two files or directories.
    pub fn exchange(&mut self, one: (&[u8], NodeId, bool), other: (&[u8], NodeId, bool)) {
        let first = self.take(one.0, one.2);
        let second = self.take(other.0, other.2);
        self.give(other.0, first);
        self.give(one.0, second);
        self.put(one.0, Some(other.1));
        self.put(other.0, Some(one.1));
    }

    /// Removes all that is known below a path, and where its content was; returns that with the rests of the paths.
    fn take(&mut self, path: &[u8], is_directory: bool) -> Taken {
        let original = match is_directory {
            true => Some(match self.moved.get(path) {
                Some(known) => known.clone(),
                None => self.original(path),
            }),
            false => None,
        };
        let mut taken = Taken {
            original,
            known: Vec::new(),
            moved: Vec::new(),
        };
        for name in self.below(path) {
            let rest = name[path.len()..].to_vec();
            if let Some(node) = self.known.remove(&name) {
                taken.known.push((rest.clone(), node));
            }
            if let Some(from) = self.moved.remove(&name) {
                taken.moved.push((rest, from));
            }
        }
        self.moved.remove(path);
        taken
    }

    fn give(&mut self, path: &[u8], taken: Taken) {
        if let Some(original) = taken.original {
            self.moved.insert(path.to_vec(), original);
        }
        for (rest, node) in taken.known {
            self.known.insert([path, &rest].concat(), node);
        }
        for (rest, from) in taken.moved {
            self.moved.insert([path, &rest].concat(), from);
        }
    }

    /// All names that are known.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], Option<NodeId>)> {
        self.known.iter().map(|(name, node)| (&name[..], *node))
    }
}

/// What is known of the content of a directory.
struct Taken {
    original: Option<Option<Vec<u8>>>,
    known: Vec<(Vec<u8>, Option<NodeId>)>,
    moved: Vec<(Vec<u8>, Option<Vec<u8>>)>,
}
