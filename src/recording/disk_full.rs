//! What becomes of a recording whose disk is full.

use super::{Error, Result};
use std::sync::{Arc, OnceLock};

/// What is done when the disk is full.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnFull {
    /// Writing fails.
    #[default]
    Stop,
    /// Nothing more is written, and whoever writes need not know.
    Continue,
}

impl Error {
    /// Whether it says that there is no room.
    pub fn is_full(&self) -> bool {
        match self {
            Error::Io { source, .. } => is_full(source),
            _ => false,
        }
    }
}

/// Whether an error says that there is no room.
pub fn is_full(error: &std::io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::ENOSPC | libc::EDQUOT | libc::EFBIG)
    )
}

/// Whether a recording that is being made is still written.
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

    /// Why nothing more is written.
    pub fn lost(&self) -> Option<&Error> {
        self.lost.get()
    }

    /// An error that ends the recording alone is none.
    pub fn tolerate(&self, error: Error) -> Result<()> {
        if self.on_full == OnFull::Stop || !error.is_full() {
            return Err(error);
        }
        tracing::info!("{error}: nothing more is recorded");
        // The first one is the one to tell of.
        let _ = self.lost.set(error);
        Ok(())
    }
}
