//! The files that a call is about: by the paths and the descriptors in its arguments.

use super::Descriptors;
use crate::recording::{CallEvent, ChunkMemory, Effect};
use crate::syscall::{self, Memory, NamedFile, Syscall};
use crate::trace::{FileNames, Value, file_names};

/// The files that a call names by paths; where it names none, those behind its descriptors. `resolved_path` is the
/// resolved first path, if that is known; `passed` are the decoded arguments, where memory may have changed since.
pub fn named_files(
    call: &Syscall,
    args: &[u64; 6],
    (mem, passed): (&dyn Memory, Option<&[Value]>),
    descriptors: &dyn Descriptors,
    resolved_path: Option<&[u8]>,
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
        let read = file.and_then(|file| absolute_path(call, file, text, args, mem, descriptors));
        let resolved_path = resolved_path.filter(|_| files.is_empty());
        let mut absolute: Vec<Vec<u8>> = resolved_path.map(<[u8]>::to_vec).into_iter().collect();
        absolute.extend(read.filter(|read| !absolute.contains(read)));
        files.push(FileNames {
            text: text.to_vec(),
            absolute,
        });
    }
    if files.is_empty() {
        let behind = call.file_args().into_iter();
        files.extend(behind.filter_map(|arg| behind_descriptor(args[arg] as i32, descriptors)));
    }
    files
}

/// The absolute path of a path argument, symbolic links not followed.
fn absolute_path(
    call: &Syscall,
    file: NamedFile,
    text: &[u8],
    args: &[u64; 6],
    mem: &dyn Memory,
    descriptors: &dyn Descriptors,
) -> Option<Vec<u8>> {
    let fd = file.dir.map_or(libc::AT_FDCWD, |dir| args[dir] as i32);
    let is_shut_in = call.is_shut_in(args, mem);
    if text.starts_with(b"/") && !is_shut_in {
        return Some(file_names::normalize(text));
    }
    let dir = match fd {
        libc::AT_FDCWD => Some(descriptors.cwd()),
        fd => descriptors.open_file(fd).map(|dir| dir.path.as_slice()),
    };
    let dir = dir.filter(|dir| dir.starts_with(b"/"))?;
    Some(match is_shut_in {
        true => file_names::join(dir, file_names::normalize(&[b"/", text].concat()).get(1..)?),
        false => file_names::join(dir, text),
    })
}

fn behind_descriptor(fd: i32, descriptors: &dyn Descriptors) -> Option<FileNames> {
    let names = match fd {
        libc::AT_FDCWD => FileNames {
            text: descriptors.cwd().to_vec(),
            absolute: vec![descriptors.cwd().to_vec()],
        },
        fd => descriptors.open_file(fd)?.names(),
    };
    Some(names).filter(|names| !names.text.is_empty())
}

/// The files that a recorded call is about.
pub(crate) fn files_named_by(call: &CallEvent, descriptors: &dyn Descriptors) -> Vec<FileNames> {
    let Some(known) = syscall::by_nr(call.nr.into()).map(|known| known.resolve(&call.args)) else {
        return Vec::new();
    };
    let memory = ChunkMemory(&call.ins);
    named_files(
        known,
        &call.args,
        (&memory, None),
        descriptors,
        resolved_path(call),
    )
}

/// The path that a call's path argument resolved to, as the recorder saw.
pub fn resolved_path(call: &CallEvent) -> Option<&[u8]> {
    match &call.effect {
        Effect::Path(path) if path.starts_with(b"/") => Some(path),
        _ => None,
    }
}
