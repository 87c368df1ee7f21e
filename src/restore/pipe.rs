//! pipe(2) and fifo(7), with the data in them, and both ends where the process has both.

use super::local_file::{as_file, fill, reopen};
use super::stream::input;
use super::{Description, Prepared, Restorer, Result};
use crate::kernel::{OpenFile, Queue, Stream};
use crate::tracee::{Error, checked_open};
use nix::fcntl::{FcntlArg, fcntl};
use nix::sys::stat::fstat;
use std::fs::File;
use std::io;

/// The largest capacity that is asked for, in bytes.
const MOST: usize = 1 << 20;

/// The capacity of a new pipe, in bytes.
const USUAL: usize = 64 << 10;

/// Whether it is an end of a pipe other than a standard stream.
fn is_pipe(description: &Description<'_>) -> bool {
    description.stream.is_none() && description.file.is_pipe()
}

fn mode(file: &OpenFile) -> i32 {
    file.flags & libc::O_ACCMODE
}

impl<'a> Restorer<'a, '_> {
    /// Makes all pipes of the process.
    pub(super) fn make_pipes(
        &mut self,
        descriptions: &[Description<'a>],
        prepared: &mut Prepared,
    ) -> Result<()> {
        let mut names: Vec<Vec<u8>> = Vec::new();
        for description in descriptions.iter().filter(|end| is_pipe(end)) {
            let name = self.pipe_name(description);
            if !names.contains(&name) {
                names.push(name);
            }
        }
        for name in names {
            let ends = descriptions.iter().filter(|end| is_pipe(end));
            let ends = ends.filter(|end| self.pipe_name(end) == name);
            let ends: Vec<&Description<'_>> = ends.collect();
            self.make_pipe(&ends, descriptions, prepared)?;
        }
        Ok(())
    }

    fn pipe_name(&self, description: &Description<'_>) -> Vec<u8> {
        let kernel = self.kernel.as_ref();
        let name = kernel.and_then(|kernel| kernel.pipe_name(description.id, description.file));
        name.unwrap_or(&description.file.path).to_vec()
    }

    /// Makes a pipe with these ends.
    fn make_pipe(
        &mut self,
        ends: &[&Description<'a>],
        descriptions: &[Description<'a>],
        prepared: &mut Prepared,
    ) -> Result<()> {
        let tid = self.remote.memory().tid();
        let fail = |e: io::Error| Error::os("make a pipe for it", tid, e);
        let (Some(first), reads) = (ends.first(), |end: &Description<'_>| {
            mode(end.file) != libc::O_WRONLY
        }) else {
            return Ok(());
        };
        let writes = |end: &Description<'_>| mode(end.file) != libc::O_RDONLY;
        // The standard input, opened again by its path in /proc.
        let stdin = descriptions.iter().find(|description| {
            description.stream == Some(Stream::Stdin) && description.file.path == first.file.path
        });
        if stdin.is_some() {
            let rest = self.recorded_input()?;
            for end in ends {
                let (file, _, _) = input(end.file, &rest).map_err(fail)?;
                prepared.insert(end.id, file);
            }
            return Ok(());
        }
        let (read, write) = match self.fifo(first.file) {
            Some(fifo) => (fifo.try_clone().map_err(fail)?, fifo),
            None => {
                let (read, write) = io::pipe().map_err(fail)?;
                (as_file(read), as_file(write))
            }
        };
        let queue = self
            .kernel
            .as_ref()
            .and_then(|k| k.pipe(first.id, first.file).cloned());
        if let Some(queue) = queue {
            self.refill(first, &queue, &write).map_err(fail)?;
        }
        for end in ends {
            let side = if writes(end) { &write } else { &read };
            let theirs = reopen(side, end.file.flags).map_err(fail)?;
            prepared.insert(end.id, theirs);
        }
        if !ends.iter().any(|end| reads(end)) {
            self.report_other_end(first, libc::O_WRONLY, "read from it")?;
        }
        if !ends.iter().any(|end| writes(end)) {
            self.report_other_end(first, libc::O_RDONLY, "wrote to it")?;
        }
        Ok(())
    }

    /// The FIFO at the path of an open file, both of its ends at once.
    fn fifo(&self, file: &OpenFile) -> Option<File> {
        let root = self.root.as_ref().filter(|_| file.path.starts_with(b"/"))?;
        let found = root.find(&file.path, true)?;
        let status = fstat(&found).ok()?;
        let is_fifo = status.st_mode & libc::S_IFMT == libc::S_IFIFO;
        if !is_fifo {
            return None;
        }
        checked_open::reopen(&found, libc::O_RDWR | libc::O_NONBLOCK).ok()
    }

    fn refill(&mut self, end: &Description<'_>, queue: &Queue, write: &File) -> io::Result<()> {
        let data = queue.bytes();
        if data.len() > USUAL {
            let size = data.len().next_power_of_two().min(MOST);
            // Fails where the user has too many pipes.
            _ = fcntl(write, FcntlArg::F_SETPIPE_SZ(size as i32));
        }
        let ours = reopen(write, libc::O_WRONLY | libc::O_NONBLOCK)?;
        let fitted = fill(&ours, &data)?;
        if fitted < data.len() || queue.incomplete {
            self.report_lost(end, "not all that was in it is known");
        }
        Ok(())
    }

    /// Reports the process that had the other end of a pipe; `end_mode` is the access mode of this end.
    fn report_other_end(&mut self, end: &Description<'_>, end_mode: i32, verb: &str) -> Result<()> {
        let is_it = |file: &OpenFile, _| file.path == end.file.path && mode(file) != end_mode;
        if let Some(pid) = self.other_holder(is_it)? {
            self.report_lost(end, &format!("process {pid}, which {verb}, is not there"));
        } else if end.file.path.starts_with(b"/") {
            self.report_lost(end, &format!("whoever {verb} is not there"));
        }
        Ok(())
    }
}
