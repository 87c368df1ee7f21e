//! What the recorded programs saw of files that the calls do not explain: another program has made or changed them.

use super::calls::Call;
use super::{Attributes, Base, Content, Kind, Node, NodeId, World, is_apart};
use crate::kernel::moved;
use crate::recording::ChunkMemory;
use crate::syscall::{FileStatus, Moved, StatusLayout};

impl<B: Base> World<B> {
    /// Follows a call that reads the status of a file.
    pub(super) fn saw_status(&mut self, at: &Call<'_>) {
        let args = &at.call.args;
        let is_set = |arg: usize, flag: i32| args[arg] as i32 & flag != 0;
        let (path, follows, layout, to) = match i64::from(at.call.nr) {
            libc::SYS_fstat => (None, true, StatusLayout::STAT, args[1]),
            libc::SYS_stat => (Some((None, 0)), true, StatusLayout::STAT, args[1]),
            libc::SYS_lstat => (Some((None, 0)), false, StatusLayout::STAT, args[1]),
            libc::SYS_newfstatat => (
                Some((Some(0), 1)),
                !is_set(3, libc::AT_SYMLINK_NOFOLLOW),
                StatusLayout::STAT,
                args[2],
            ),
            libc::SYS_statx => (
                Some((Some(0), 1)),
                !is_set(2, libc::AT_SYMLINK_NOFOLLOW),
                StatusLayout::STATX,
                args[4],
            ),
            _ => return,
        };
        let Some(status) = layout.status(&ChunkMemory(&at.call.outs), to) else {
            return;
        };
        // An empty path stands for the descriptor.
        let path = path.filter(|(_, path)| !at.text(*path).is_empty());
        let id = match path {
            None => self.behind(at, 0),
            Some((dir, path)) => {
                let Some(path) = self.path(at, dir, path, follows) else {
                    return;
                };
                if is_apart(&path) {
                    return;
                }
                match self.node(&path) {
                    None => return self.appeared(&path, &status),
                    found => found,
                }
            }
        };
        // Recorded programs saw the content that it had before it was given another one.
        if let Some(node) = id.and_then(|id| self.nodes.get_mut(&id))
            && !node.is_given
        {
            node.learn(&status);
        }
    }

    /// Notes a file that no call has made.
    fn appeared(&mut self, path: &[u8], status: &FileStatus) {
        let kind = match status.mode & libc::S_IFMT {
            libc::S_IFREG => {
                let mut content = Content::default();
                content.write_unknown(0, status.size);
                Kind::File(content)
            }
            libc::S_IFDIR => Kind::Directory,
            // What it says is not known.
            libc::S_IFLNK => return,
            kind => Kind::Special(kind, 0),
        };
        if let Some(id) = self.add_foreign(path, kind)
            && let Some(node) = self.nodes.get_mut(&id)
        {
            node.learn(status);
        }
    }

    /// Adds a file that no call has made, if it is clear that there was none; whose content becomes known as it is read.
    pub(super) fn add_foreign(&mut self, path: &[u8], kind: Kind<B::File>) -> Option<NodeId> {
        if !self.base.knows(path) || is_apart(path) {
            return None;
        }
        let id = self.add(Node {
            kind,
            attributes: Attributes::default(),
            is_old: false,
            is_mapped: false,
            is_foreign: true,
            is_written: false,
            shared: None,
            inode: None,
            is_given: false,
        });
        self.names.put(path, Some(id));
        Some(id)
    }

    /// Follows a call that reads data.
    pub(super) fn saw_data(&mut self, at: &Call<'_>) {
        let Some(id) = self.behind(at, 0) else { return };
        let Some(node) = self.nodes.get_mut(&id) else {
            return;
        };
        let (true, Kind::File(content)) = (node.is_foreign, &mut node.kind) else {
            return;
        };
        let Some(file) = at.descriptors.open_file(at.call.args[0] as i32) else {
            return;
        };
        let offset = match i64::from(at.call.nr) {
            libc::SYS_pread64 | libc::SYS_preadv => at.call.args[3],
            libc::SYS_preadv2 if at.call.args[3] != u64::MAX => at.call.args[3],
            _ => file.offset,
        };
        let data = moved(at.call, Moved::Out);
        if !content.is_known() && self.held + data.len() <= super::calls::MOST_BYTES {
            self.held += data.len();
            content.write(offset, &data);
        }
    }
}

impl<B: Clone> Node<B> {
    /// Learns from a status that a program saw: what no call explains, another program has done.
    fn learn(&mut self, status: &FileStatus) {
        self.attributes.mode = Some(status.mode & 0o7777);
        self.attributes.uid = Some(status.uid);
        self.attributes.gid = Some(status.gid);
        let is_file = status.mode & libc::S_IFMT == libc::S_IFREG;
        if let Kind::File(content) = &mut self.kind
            && is_file
        {
            let len = content.len();
            let is_other = content.is_unchanged()
                && !self.is_written
                && !self.is_mapped
                && self
                    .attributes
                    .modified
                    .is_some_and(|then| then != status.modified);
            if is_other {
                content.doubt();
            }
            if len > status.size {
                content.resize(status.size);
            } else if len < status.size {
                content.write_unknown(len, status.size - len);
            }
            self.is_foreign |= is_other || len != status.size;
        }
        if is_file || matches!(self.kind, Kind::Directory) {
            self.attributes.modified = Some(status.modified);
        }
    }
}
