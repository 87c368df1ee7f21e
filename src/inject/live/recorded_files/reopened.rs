//! Files of the recorded world that are opened anew for a process that has them open: those without a name, or with another one.

use super::RecordedWorld;
use super::content::fill;
use crate::history::{FileContent, Recording};
use crate::process::ThreadGroup;
use crate::restore::Reopened;
use crate::sandbox::Sandbox;
use crate::tracee::checked_open;
use crate::world::Node;
use std::fs::{self, File};
use std::io::{self, Seek, SeekFrom};
use std::path::Path;

impl RecordedWorld {
    /// Opens the files that are open and have no name any more, or another one; also directories that are being listed, at their
    /// beginning: see [`Listings`].
    pub fn reopen<'a>(
        &self,
        sandbox: &Sandbox,
        family: impl Iterator<Item = &'a ThreadGroup> + Clone,
    ) -> Reopened {
        let mut opened = Reopened::default();
        for (id, path, _) in &self.listings {
            if let Ok(dir) = File::open(sandbox.inside(path)) {
                opened.insert(*id, dir);
            }
        }
        for (id, node, name) in &self.unnamed {
            let found = family.clone().find_map(|group| {
                let mut files = group.descriptors.iter();
                let is_it = |fd: i32| group.descriptors.file_id(fd) == Some(*id);
                let found = files.find(|(fd, ..)| is_it(*fd));
                found.map(|(_, file, _)| (&group.recording, file))
            });
            let Some((recording, file)) = found else {
                continue;
            };
            let made = match name {
                Some(name) => open_named(sandbox, name, file.flags),
                None => self.open_unnamed(sandbox, node, recording, file.flags),
            };
            let made = made.and_then(|mut made| {
                made.seek(SeekFrom::Start(file.offset))?;
                Ok(made)
            });
            match made {
                Ok(made) => _ = opened.insert(*id, made),
                Err(error) => {
                    let path = String::from_utf8_lossy(&file.path);
                    self.say(format!("{path}, which is open without that name: {error}"));
                }
            }
        }
        opened
    }

    fn open_unnamed(
        &self,
        sandbox: &Sandbox,
        node: &Node<FileContent>,
        recording: &Recording,
        flags: i32,
    ) -> io::Result<File> {
        let dir = sandbox.inside(Path::new("/tmp"));
        let mut file = tempfile::Builder::new().prefix(".").tempfile_in(dir)?;
        fill(file.as_file_mut(), node, recording)?;
        if let Some(mode) = node.attributes.mode {
            use std::os::unix::fs::PermissionsExt;
            file.as_file()
                .set_permissions(fs::Permissions::from_mode(mode))?;
        }
        checked_open::reopen(file.as_file(), again(flags))
    }
}

/// The flags with which a regular file is opened again: nothing is made or truncated.
fn again(flags: i32) -> i32 {
    flags & !(libc::O_CREAT | libc::O_EXCL | libc::O_TRUNC | libc::O_TMPFILE)
}

fn open_named(sandbox: &Sandbox, name: &Path, flags: i32) -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt;
    let how = libc::O_PATH | libc::O_NOFOLLOW;
    let found = File::options()
        .read(true)
        .custom_flags(how)
        .open(sandbox.inside(name))?;
    checked_open::reopen(found, again(flags))
}
