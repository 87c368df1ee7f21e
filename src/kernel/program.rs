//! The file of the program that a process runs: `/proc/PID/exe`.

use crate::image::{Backing, FileId, Image};

/// The file of a program.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Program {
    /// Its path.
    pub path: Vec<u8>,
    /// The kept copy of it, if there is one.
    pub file: Option<FileId>,
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
        }
    }
}
