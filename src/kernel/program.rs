//! The file of the program that a process runs: `/proc/PID/exe`.

use crate::image::{Backing, FileId, Image};
use crate::recording::CallEvent;
use crate::syscall;
use crate::trace::Value;

/// The file of a program.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Program {
    /// Its path.
    pub path: Vec<u8>,
    /// The kept copy of it, if there is one.
    pub file: Option<FileId>,
    /// The arguments with which it was executed, its name first.
    pub argv: Vec<Vec<u8>>,
}

impl Program {
    /// The program of a process right behind execve(2).
    pub fn of(image: &Image) -> Program {
        let mut mappings = image.mappings.iter();
        let own = mappings.find(|mapping| mapping.name == image.exe);
        let file = own.and_then(|mapping| match mapping.backing {
            Backing::File { file, .. } => Some(file),
            _ => None,
        });
        Program {
            path: image.exe.clone(),
            file,
            argv: Vec::new(),
        }
    }

    /// The program of a process behind this call.
    pub fn executed(image: &Image, call: &CallEvent) -> Program {
        Program {
            argv: argv_of(call),
            ..Program::of(image)
        }
    }
}

/// The arguments that an execve(2) passed.
pub fn argv_of(call: &CallEvent) -> Vec<Vec<u8>> {
    let known = syscall::by_nr(call.nr.into()).map(|known| known.resolve(&call.args));
    let at = known.and_then(|known| known.args.iter().position(|arg| arg.name == "argv"));
    match at.and_then(|at| call.values().into_iter().nth(at)) {
        Some(Value::Array { items, .. }) => {
            let argv = items.iter().filter_map(Value::as_bytes);
            argv.map(<[u8]>::to_vec).collect()
        }
        _ => Vec::new(),
    }
}
