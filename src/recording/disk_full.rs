//! Recording on a full disk: stopping, or going on without writing.

use super::{Error, Result};
use std::sync::{Arc, OnceLock};

/// The choice for a full disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnFull {
    /// Writing fails.
    #[default]
    Stop,
    /// Writing succeeds without writing anything more.
    Continue,
}

impl Error {
    /// Whether the disk is full.
    pub fn is_full(&self) -> bool {
        match self {
            Error::Io { source, .. } => is_full(source),
            _ => false,
        }
    }
}

/// Whether an error says that the disk is full.
pub fn is_full(error: &std::io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::ENOSPC | libc::EDQUOT | libc::EFBIG)
    )
}

/// The state of a recording that is being made: written, or lost to a full disk.
#[derive(Clone, Default)]
pub(super) struct DiskFull {
    on_full: OnFull,
    lost: Arc<OnceLock<Error>>,
}

impl DiskFull {
    pub fn new(on_full: OnFull) -> DiskFull {
        DiskFull {
            on_full,
            lost: Arc::default(),
        }
    }

    /// The reason why nothing more is written.
    pub fn lost(&self) -> Option<&Error> {
        self.lost.get()
    }

    /// Turns the error of a full disk into success if the program is to go on.
    pub fn tolerate(&self, error: Error) -> Result<()> {
        if self.on_full == OnFull::Stop || !error.is_full() {
            return Err(error);
        }
        tracing::info!("{error}: nothing more is recorded");
        // The first error is reported.
        let _ = self.lost.set(error);
        Ok(())
    }
}
