//! Which files a call is about, as the model of its process's descriptors has them.

use super::{CallEvent, ChunkMemory, Effect, OpenFile};
use crate::syscall::{self, Memory, NamedFile, Syscall};
use crate::trace::{FileNames, Value, file_names};

/// What a process's paths and descriptors lead to.
pub trait Places {
    /// The current directory.
    fn cwd(&self) -> &[u8];

    /// The open file behind a descriptor.
    fn open(&self, fd: i32) -> Option<&OpenFile>;
}

/// The files that a call names by paths; where it names none, those behind its descriptors. `leads_to` is where the
/// first path leads, where that is known better than the path says; `passed` are the arguments, where memory may not
/// have them any more.
pub fn files_of(
    call: &Syscall,
    args: &[u64; 6],
    (mem, passed): (&dyn Memory, Option<&[Value]>),
    places: &dyn Places,
    leads_to: Option<&[u8]>,
) -> Vec<FileNames> {
    let mut files = Vec::new();
    for arg in call.path_args() {
        let value = match passed {
            Some(values) => values.get(arg).cloned(),
            None => Some(call.decode_arg(arg, args, mem)),
        };
        let text = value.as_ref().and_then(Value::as_bytes);
        let Some(text) = text.filter(|text| !text.is_empty()) else {
            continue;
        };
        let file = call.named_files().find(|file| file.path == arg);
        let read = file.and_then(|file| as_read(call, file, text, args, mem, places));
        let leads_to = leads_to.filter(|_| files.is_empty());
        let mut absolute: Vec<Vec<u8>> = leads_to.map(<[u8]>::to_vec).into_iter().collect();
        absolute.extend(read.filter(|read| !absolute.contains(read)));
        files.push(FileNames {
            text: text.to_vec(),
            absolute,
        });
    }
    if files.is_empty() {
        let behind = call.file_args().into_iter();
        files.extend(behind.filter_map(|arg| behind_descriptor(args[arg] as i32, places)));
    }
    files
}

/// Where a path leads, as it reads.
fn as_read(
    call: &Syscall,
    file: NamedFile,
    text: &[u8],
    args: &[u64; 6],
    mem: &dyn Memory,
    places: &dyn Places,
) -> Option<Vec<u8>> {
    let fd = file.dir.map_or(libc::AT_FDCWD, |dir| args[dir] as i32);
    let is_shut_in = call.is_shut_in(args, mem);
    if text.starts_with(b"/") && !is_shut_in {
        return Some(file_names::normalize(text));
    }
    let dir = match fd {
        libc::AT_FDCWD => Some(places.cwd()),
        fd => places.open(fd).map(|dir| dir.path.as_slice()),
    };
    let dir = dir.filter(|dir| dir.starts_with(b"/"))?;
    Some(match is_shut_in {
        true => file_names::join(dir, file_names::normalize(&[b"/", text].concat()).get(1..)?),
        false => file_names::join(dir, text),
    })
}

fn behind_descriptor(fd: i32, places: &dyn Places) -> Option<FileNames> {
    let names = match fd {
        libc::AT_FDCWD => FileNames {
            text: places.cwd().to_vec(),
            absolute: vec![places.cwd().to_vec()],
        },
        fd => places.open(fd)?.names(),
    };
    Some(names).filter(|names| !names.text.is_empty())
}

/// The files that a recorded call is about.
pub(super) fn files_of_event(call: &CallEvent, places: &dyn Places) -> Vec<FileNames> {
    let Some(known) = syscall::by_nr(call.nr.into()).map(|known| known.resolve(&call.args)) else {
        return Vec::new();
    };
    let memory = ChunkMemory(&call.ins);
    files_of(known, &call.args, (&memory, None), places, leads_to(call))
}

/// Where the recorder saw that a call's path leads.
pub fn leads_to(call: &CallEvent) -> Option<&[u8]> {
    match &call.effect {
        Effect::Path(path) if path.starts_with(b"/") => Some(path),
        _ => None,
    }
}
