//! Programs in the user's terms: finds the executable, and builds the environment of a [`Command`].

use crate::tracee::{Command, Stdin};
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

/// The reason why a program cannot be started.
#[derive(Debug, thiserror::Error)]
pub enum ProgramError {
    /// No program is named.
    #[error("no program is named")]
    Empty,
    /// The program is not in `PATH`.
    #[error("cannot find the program {0:?} in PATH")]
    NotInPath(OsString),
    /// The file does not exist.
    #[error("cannot execute {0:?}: there is no such file")]
    Missing(PathBuf),
    /// The path is a directory.
    #[error("cannot execute {0:?}: it is a directory")]
    Directory(PathBuf),
    /// The file is not executable.
    #[error("cannot execute {0:?}: permission denied")]
    Denied(PathBuf),
    /// The working directory does not exist.
    #[error("cannot start the program in {0:?}: there is no such directory")]
    NoDirectory(PathBuf),
}

/// A program to start, in the user's terms.
#[derive(Debug, Default)]
pub struct Program {
    /// Its name or path, and its arguments.
    pub argv: Vec<OsString>,
    /// Environment variables to add or replace.
    pub env: Vec<(OsString, OsString)>,
    /// The directory to start in; by default rrapper's.
    pub cwd: Option<PathBuf>,
    /// Standard input.
    pub stdin: Stdin,
}

impl Program {
    /// The program with this name or path and these arguments, started in the caller's environment.
    pub fn new(argv: impl IntoIterator<Item = impl Into<OsString>>) -> Program {
        Program {
            argv: argv.into_iter().map(Into::into).collect(),
            ..Program::default()
        }
    }

    /// The name of the program's file, for naming its recording.
    pub fn name(&self) -> String {
        let file = self
            .argv
            .first()
            .and_then(|name| Path::new(name).file_name());
        file.map_or_else(
            || String::from("program"),
            |name| name.to_string_lossy().into_owned(),
        )
    }

    /// Finds the program's executable.
    ///
    /// # Errors
    /// If the program cannot be found or executed.
    pub fn command(self) -> Result<Command, ProgramError> {
        self.found(true)
    }

    /// The same for a program that setup commands may make, and the directory that it starts in: where the program is
    /// named by a path, the kernel looks for both once the commands have run.
    ///
    /// # Errors
    /// If the program is named without a path, and cannot be found or executed.
    pub fn command_after_setup(self) -> Result<Command, ProgramError> {
        self.found(false)
    }

    fn found(self, is_there: bool) -> Result<Command, ProgramError> {
        let name = self
            .argv
            .first()
            .filter(|name| !name.is_empty())
            .ok_or(ProgramError::Empty)?;
        let path = self
            .env
            .iter()
            .rfind(|(key, _)| key == "PATH")
            .map(|(_, value)| value.clone());
        let path = path.or_else(|| std::env::var_os("PATH"));
        let missing = |dir: &&PathBuf| is_there && !dir.is_dir();
        if let Some(dir) = self.cwd.as_ref().filter(missing) {
            return Err(ProgramError::NoDirectory(dir.clone()));
        }
        let is_made = !is_there && name.as_bytes().contains(&b'/');
        let exe = match is_made {
            true => PathBuf::from(name),
            false => find(name, path.as_deref(), self.cwd.as_deref())?,
        };
        Ok(Command {
            exe,
            argv: self
                .argv
                .iter()
                .map(|arg| arg.as_bytes().to_vec())
                .collect(),
            env: environment(&self.env),
            cwd: self.cwd,
            stdin: self.stdin,
            inside: None,
        })
    }
}

fn environment(changes: &[(OsString, OsString)]) -> Vec<Vec<u8>> {
    let kept = std::env::vars_os().filter(|(key, _)| !changes.iter().any(|(name, _)| name == key));
    let all = kept.chain(changes.iter().cloned());
    all.map(|(key, value)| {
        let mut pair = key.into_vec();
        pair.push(b'=');
        pair.extend(value.as_bytes());
        pair
    })
    .collect()
}

/// Finds a program as execvp(3) does, with a precise error.
fn find(name: &OsStr, path: Option<&OsStr>, cwd: Option<&Path>) -> Result<PathBuf, ProgramError> {
    if name.as_bytes().contains(&b'/') {
        // The kernel resolves the path from the directory that the program starts in.
        let seen = cwd.map_or_else(|| PathBuf::from(name), |dir| dir.join(name));
        check(&seen)?;
        return Ok(PathBuf::from(name));
    }
    let default = OsStr::new("/usr/local/bin:/usr/bin:/bin");
    let mut denied = None;
    for dir in std::env::split_paths(path.unwrap_or(default)) {
        let Ok(file) = std::path::absolute(dir.join(name)) else {
            continue;
        };
        match check(&file) {
            Ok(()) => return Ok(file),
            Err(error @ ProgramError::Denied(_)) => denied = denied.or(Some(error)),
            Err(_) => {}
        }
    }
    Err(denied.unwrap_or_else(|| ProgramError::NotInPath(name.into())))
}

fn check(file: &Path) -> Result<(), ProgramError> {
    use nix::unistd::{AccessFlags, access};
    match std::fs::metadata(file) {
        Ok(meta) if meta.is_dir() => Err(ProgramError::Directory(file.into())),
        Ok(_) if access(file, AccessFlags::X_OK).is_err() => Err(ProgramError::Denied(file.into())),
        Ok(_) => Ok(()),
        Err(e) if e.kind() == std::io::ErrorKind::PermissionDenied => {
            Err(ProgramError::Denied(file.into()))
        }
        Err(_) => Err(ProgramError::Missing(file.into())),
    }
}
