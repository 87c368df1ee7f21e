//! memfd_create(2), with the content that calls wrote.

use super::local_file::{anonymous, reopen};
use super::{Description, Restorer, Result};
use crate::kernel::Object;
use crate::tracee::Error;
use std::fs::File;
use std::io::{self, Seek, Write};

impl Restorer<'_, '_> {
    /// Makes an anonymous file with the content that the process's file had.
    pub(super) fn make_memfd(&mut self, description: &Description<'_>) -> Result<File> {
        let tid = self.remote.memory().tid();
        let fail = |e: io::Error| Error::os("make an anonymous file for it", tid, e);
        let path = description
            .file
            .path
            .strip_prefix(b"/memfd:")
            .unwrap_or_default();
        let name = path.strip_suffix(b" (deleted)").unwrap_or(path);
        let name = String::from_utf8_lossy(name).replace('\0', "");
        let ours = anonymous(&name).map_err(fail)?;
        let kernel = self.kernel.as_ref();
        let content = match kernel.and_then(|kernel| kernel.object(description.id)) {
            Some(Object::Memfd(memfd)) => Some(memfd.clone()),
            _ => None,
        };
        let incomplete = content.as_ref().is_none_or(|content| content.incomplete);
        if let Some(content) = content {
            (&ours).write_all(&content.bytes).map_err(fail)?;
        }
        if incomplete {
            self.report_lost(description, "not all that was in it is known");
        }
        let mut theirs = reopen(&ours, description.file.flags).map_err(fail)?;
        let at = io::SeekFrom::Start(description.file.offset.min(i64::MAX as u64));
        theirs.seek(at).map_err(fail)?;
        Ok(theirs)
    }
}
