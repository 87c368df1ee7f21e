//! Calls about files that have another content than recorded: they are answered from that content.
//!
//! Reads and seeks of such a file may be more or fewer than those of the script. Where the script's answer is taken, as that
//! of a stat, the size in it is that of the content.

use super::altered;
use crate::inject::given_files::{GivenFiles, Parts, refused};
use crate::inject::hook::{HookCall, Hooks};
use crate::inject::script::item::ExpectedCall;
use crate::inject::step_data;
use crate::inject::{Result, short_transfer};
use crate::kernel::DescriptorTable;
use crate::process::ThreadGroup;
use crate::recording::{CallEvent, Effect};
use crate::syscall::{Memory, Syscall};
use crate::trace::Answer;
use crate::world::{Kind, NodeId};
use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use tempfile::NamedTempFile;

/// The most bytes that one call moves into memory.
const MOST_READ: u64 = 256 << 20;

/// The most bytes that one call moves inside the kernel, and into a pipe.
const MOST_MOVED: u64 = 16 << 20;
const MOST_PIPED: u64 = 64 << 10;

/// `FS_IOC_FIEMAP` (linux/fs.h).
const FIEMAP: u64 = 0xc020_660b;

/// The position with which preadv2(2) takes that of the open file.
const NO_POSITION: u64 = u64::MAX;

/// The argument with the descriptor from which a call takes a file's content, where the call can be answered from that
/// alone.
fn source_arg(call: &Syscall) -> Option<usize> {
    match call.name {
        "read" | "readv" | "pread64" | "preadv" | "preadv2" | "lseek" => Some(0),
        "copy_file_range" | "splice" => Some(0),
        "sendfile" => Some(1),
        _ => None,
    }
}

/// Whether a call moves data from one file to another.
fn moves_inside(call: &Syscall) -> bool {
    matches!(call.name, "copy_file_range" | "splice" | "sendfile")
}

impl GivenFiles {
    fn given(&self, id: NodeId) -> bool {
        self.world.get(id).is_some_and(|node| node.is_given)
    }

    fn behind(&mut self, fd: i32, table: &DescriptorTable) -> Option<NodeId> {
        let id = self.world.of_descriptor(table, fd)?;
        Some(id).filter(|&id| self.given(id))
    }

    /// The file of which a call takes the content, if that is given.
    pub(super) fn source(&mut self, seen: &HookCall, table: &DescriptorTable) -> Option<NodeId> {
        let arg = source_arg(seen.call)?;
        self.behind(seen.args[arg] as i32, table)
    }

    /// Whether the call that is expected next takes the content of such a file.
    pub(super) fn is_source(&mut self, step: &ExpectedCall, table: &DescriptorTable) -> bool {
        let arg = step.call.and_then(source_arg);
        let fd = arg.and_then(|arg| step_data::number(step, arg));
        fd.is_some_and(|fd| self.behind(fd as i32, table).is_some())
    }

    /// Whether the two calls take the content of the same such file in the same way.
    pub(super) fn is_alike(
        &mut self,
        step: &ExpectedCall,
        seen: &HookCall,
        table: &DescriptorTable,
    ) -> bool {
        let Some(source) = self.source(seen, table) else {
            return false;
        };
        let same = step.call.filter(|call| call.nr == seen.call.nr);
        let fd = same
            .and_then(source_arg)
            .and_then(|arg| step_data::number(step, arg));
        fd.is_some_and(|fd| self.behind(fd as i32, table) == Some(source))
    }

    /// Whether a call changes such a file, or takes its content.
    pub(super) fn concerns(&mut self, seen: &HookCall, table: &DescriptorTable) -> bool {
        let target = match seen.call.name {
            "copy_file_range" | "splice" => Some(2),
            "sendfile" => Some(0),
            _ => seen.call.fd_arg(),
        };
        let mut fds = target.into_iter().chain(source_arg(seen.call));
        fds.any(|arg| self.behind(seen.args[arg] as i32, table).is_some())
            || self.named(seen, table).is_some()
    }

    /// Such a file that the call names by its first path, or, where that is empty, by its descriptor.
    fn named(&mut self, seen: &HookCall, table: &DescriptorTable) -> Option<NodeId> {
        let arg = *seen.call.path_args().first()?;
        let dir = arg.checked_sub(1).filter(|&dir| seen.call.is_dir_fd(dir));
        let flags = match seen.call.name {
            "newfstatat" => Some(3),
            "statx" => Some(2),
            "execveat" => Some(4),
            _ => None,
        };
        let is_set = |arg: usize| seen.args[arg] as i32 & libc::AT_SYMLINK_NOFOLLOW != 0;
        let follows = seen.call.name != "lstat" && !flags.is_some_and(is_set);
        let call = altered::told(seen, 0, true);
        let id = self.world.named_by(&call, table, (dir, arg), follows)?;
        Some(id).filter(|&id| self.given(id))
    }

    /// Why the recorded answer to a call does not hold, and none can be worked out, if so. `step` is the script's, if it
    /// expects the call.
    pub(super) fn reason(
        &mut self,
        seen: &HookCall,
        step: Option<&ExpectedCall>,
        table: &DescriptorTable,
    ) -> Option<String> {
        // Other errors are not about the content.
        if step.is_some_and(
            |step| matches!(step.answer, Answer::Errno(errno) if errno != libc::ENOEXEC),
        ) {
            return None;
        }
        let args = &seen.args;
        let fd = |arg: usize| args[arg] as i32;
        let id = match seen.call.name {
            "execve" | "execveat" => self.named(seen, table),
            "mmap" if self.is_writable_mapping(args, table) => self.behind(fd(4), table),
            "ioctl" => match args[1] & u64::from(u32::MAX) {
                libc::FIONREAD | FIEMAP => self.behind(fd(0), table),
                libc::FICLONE => self.behind(fd(2), table),
                libc::FICLONERANGE => {
                    let mut source = [0; 8];
                    seen.memory.read(args[2], &mut source);
                    self.behind(i64::from_le_bytes(source) as i32, table)
                }
                _ => None,
            },
            "io_submit" => {
                let open: Vec<i32> = table.iter().map(|(fd, ..)| fd).collect();
                open.into_iter().find_map(|fd| self.behind(fd, table))
            }
            _ if source_arg(seen.call).is_some() => {
                // What was written to the memory is not known.
                let source = self.source(seen, table)?;
                let node = self.world.get(source)?;
                (node.is_mapped && node.shared.is_none()).then_some(source)
            }
            _ => None,
        }?;
        let name = self.name(id);
        Some(format!(
            "{name} has the content that `files` says, and the recorded answer is about another one"
        ))
    }

    fn name(&self, id: NodeId) -> String {
        let name = self.world.names().find(|(_, node)| *node == Some(id));
        let name = name.map(|(name, _)| String::from_utf8_lossy(name).into_owned());
        name.unwrap_or_else(|| "a file without a name".into())
    }

    fn is_writable_mapping(&self, args: &[u64; 6], table: &DescriptorTable) -> bool {
        let shared = [libc::MAP_SHARED, libc::MAP_SHARED_VALIDATE];
        let is_anonymous = args[3] as i32 & libc::MAP_ANONYMOUS != 0;
        let file = table.get(args[4] as i32);
        shared.contains(&(args[3] as i32 & libc::MAP_TYPE))
            && !is_anonymous
            && (args[2] as i32 & libc::PROT_WRITE != 0
                || file.is_some_and(|file| file.flags & libc::O_ACCMODE == libc::O_RDWR))
    }

    /// Follows what a call has done to the files. The descriptors are those after the call, if it opens a file, and those
    /// before it if not.
    pub(super) fn follow(&mut self, call: &CallEvent, table: &DescriptorTable) {
        let umask = table.umask().unwrap_or_default();
        self.world.follow(call, table, umask);
    }

    fn meet(&self, id: NodeId, hooks: &mut dyn Hooks) {
        if let Some(&number) = self.numbers.get(&id) {
            hooks.met(number);
        }
    }

    fn len(&self, id: NodeId) -> u64 {
        match self.world.get(id).map(|node| &node.kind) {
            Some(Kind::File(content)) => content.len(),
            _ => 0,
        }
    }

    fn read(&self, group: &ThreadGroup, id: NodeId, at: u64, len: u64) -> io::Result<Vec<u8>> {
        let Some(node) = self.world.get(id) else {
            return Ok(Vec::new());
        };
        let objects = group.shared.objects();
        let memory: Option<&File> = node.shared.and_then(|shared| objects.content(shared));
        Parts::of(&group.recording, memory).read(node, at, len)
    }

    /// Answers a call that takes the content of such a file, with at most `limit` bytes; `None` for other calls. `step` is
    /// the script's, if it expects the call.
    ///
    /// # Errors
    /// If the content cannot be read.
    pub(super) fn answer(
        &mut self,
        seen: &mut HookCall,
        step: Option<&ExpectedCall>,
        limit: Option<u64>,
        (group, hooks): (&ThreadGroup, &mut dyn Hooks),
    ) -> Result<Option<i64>> {
        let table = &group.descriptors;
        let Some(id) = self.source(seen, table) else {
            return Ok(None);
        };
        // It had nothing to do with the content.
        if step.is_some_and(|step| !matches!(step.answer, Answer::Value(_))) {
            return Ok(None);
        }
        self.meet(id, hooks);
        let arg = source_arg(seen.call).unwrap_or_default();
        let Some(file) = table.get(seen.args[arg] as i32) else {
            return Ok(None);
        };
        if seen.call.name == "lseek" {
            return Ok(Some(seek(&seen.args, file.offset, self.len(id))));
        }
        if file.flags & libc::O_PATH != 0 || file.flags & libc::O_ACCMODE == libc::O_WRONLY {
            return Ok(Some(-i64::from(libc::EBADF)));
        }
        let at = match position(seen, file.offset) {
            Ok(at) => at,
            Err(errno) => return Ok(Some(-i64::from(errno))),
        };
        let most = match moves_inside(seen.call) {
            false => MOST_READ,
            true => {
                let target = if seen.call.name == "sendfile" { 0 } else { 2 };
                let target = table.get(seen.args[target] as i32);
                match target.is_some_and(|file| file.is_pipe()) {
                    true => MOST_PIPED,
                    false => MOST_MOVED,
                }
            }
        };
        let asked = match seen.call.name {
            "copy_file_range" | "splice" => seen.args[4],
            "sendfile" => seen.args[3],
            _ => seen.asked_amount().unwrap_or(0),
        };
        let len = asked.min(limit.unwrap_or(u64::MAX)).min(most);
        let read = self.read(group, id, at, len);
        let data =
            read.map_err(|e| refused(Path::new("a file"), format!("cannot read it: {e}")))?;
        let ret = data.len() as i64;
        if moves_inside(seen.call) {
            short_transfer::advance_positions(seen, ret)?;
            seen.opened = Some(Effect::Moved(data));
            return Ok(Some(ret));
        }
        let regions = seen
            .call
            .data_regions(&seen.args, data.len() as u64, &seen.memory);
        let mut rest = data.as_slice();
        for region in regions {
            let (now, later) = rest.split_at(region.len.min(rest.len()));
            if seen.overwrite(region.addr, now).is_err() {
                return Ok(Some(-i64::from(libc::EFAULT)));
            }
            rest = later;
        }
        Ok(Some(ret))
    }

    /// Puts the size of such a file into the answer of a successful call that tells it.
    ///
    /// # Errors
    /// If its memory cannot be written.
    pub(super) fn tell_size(
        &mut self,
        seen: &mut HookCall,
        table: &DescriptorTable,
        hooks: &mut dyn Hooks,
    ) -> Result<()> {
        // The argument with the structure, and the offsets of the size and of the number of blocks.
        let (arg, size, blocks) = match seen.call.name {
            "stat" | "fstat" | "lstat" => (1, 48, 64),
            "newfstatat" => (2, 48, 64),
            "statx" => (4, 40, 48),
            _ => return Ok(()),
        };
        let id = match seen.call.name {
            "fstat" => self.behind(seen.args[0] as i32, table),
            _ => self.named(seen, table),
        };
        let Some(id) = id else { return Ok(()) };
        self.meet(id, hooks);
        const PAGE: u64 = 4096;
        const BLOCK: u64 = 512;
        let len = self.len(id);
        let at = seen.args[arg];
        seen.overwrite(at.wrapping_add(size), &len.to_le_bytes())?;
        let held = len.div_ceil(PAGE) * (PAGE / BLOCK);
        seen.overwrite(at.wrapping_add(blocks), &held.to_le_bytes())?;
        Ok(())
    }

    /// A copy of such a file, to be mapped; `None` where the descriptor is that of another file.
    ///
    /// # Errors
    /// If it cannot be made.
    pub(super) fn mapped_copy(
        &mut self,
        fd: i32,
        (group, hooks): (&ThreadGroup, &mut dyn Hooks),
    ) -> Result<Option<NamedTempFile>> {
        let Some(id) = self.behind(fd, &group.descriptors) else {
            return Ok(None);
        };
        self.meet(id, hooks);
        let copy = || {
            if self.len(id) > MOST_READ {
                return Err(io::Error::other("it has more than 256 MiB by now"));
            }
            let mut copy = NamedTempFile::new()?;
            copy.write_all(&self.read(group, id, 0, MOST_READ)?)?;
            Ok(copy)
        };
        copy().map(Some).map_err(|e| {
            let name = self.name(id);
            refused(
                Path::new(&name),
                format!("cannot copy it, to be mapped: {e}"),
            )
        })
    }
}

/// The answer of lseek(2) for a file of this size, without holes.
fn seek(args: &[u64; 6], offset: u64, len: u64) -> i64 {
    let by = args[1] as i64;
    let from = |base: u64| (base as i64).checked_add(by).ok_or(libc::EOVERFLOW);
    let inside = || u64::try_from(by).ok().filter(|&by| by < len);
    let to = match args[2] as i32 {
        libc::SEEK_SET => Ok(by),
        libc::SEEK_CUR => from(offset),
        libc::SEEK_END => from(len),
        libc::SEEK_DATA => inside().map(|_| by).ok_or(libc::ENXIO),
        libc::SEEK_HOLE => inside().map(|_| len as i64).ok_or(libc::ENXIO),
        _ => Err(libc::EINVAL),
    };
    match to {
        Ok(to @ 0..) => to,
        Ok(_) => -i64::from(libc::EINVAL),
        Err(errno) => -i64::from(errno),
    }
}

/// The position at which a call takes data, if it is not that of the open file (`offset`); the inner error is an errno.
fn position(seen: &HookCall, offset: u64) -> std::result::Result<u64, i32> {
    let args = &seen.args;
    let pointer = match seen.call.name {
        "copy_file_range" | "splice" => Some(1),
        "sendfile" => Some(2),
        _ => None,
    };
    if let Some(arg) = pointer.filter(|&arg| args[arg] != 0) {
        let mut word = [0; 8];
        if Memory::read(&seen.memory, args[arg], &mut word) != word.len() {
            return Err(libc::EFAULT);
        }
        return u64::try_from(i64::from_le_bytes(word)).map_err(|_| libc::EINVAL);
    }
    match seen.call.name {
        "preadv2" if args[3] == NO_POSITION => Ok(offset),
        "pread64" | "preadv" | "preadv2" => u64::try_from(args[3] as i64).map_err(|_| libc::EINVAL),
        _ => Ok(offset),
    }
}

#[cfg(test)]
mod tests {
    use super::seek;

    #[test]
    fn seeks_are_answered_as_the_kernel_does() {
        let seek = |by: i64, how: i32| seek(&[3, by as u64, how as u64, 0, 0, 0], 4, 10);
        assert_eq!(seek(20, libc::SEEK_SET), 20);
        assert_eq!(seek(-1, libc::SEEK_SET), -i64::from(libc::EINVAL));
        assert_eq!(seek(-3, libc::SEEK_CUR), 1);
        assert_eq!(seek(-11, libc::SEEK_END), -i64::from(libc::EINVAL));
        assert_eq!(seek(-10, libc::SEEK_END), 0);
        assert_eq!(seek(i64::MAX, libc::SEEK_END), -i64::from(libc::EOVERFLOW));
        assert_eq!(seek(9, libc::SEEK_DATA), 9);
        assert_eq!(seek(10, libc::SEEK_DATA), -i64::from(libc::ENXIO));
        assert_eq!(seek(3, libc::SEEK_HOLE), 10);
        assert_eq!(seek(0, 9), -i64::from(libc::EINVAL));
    }
}
