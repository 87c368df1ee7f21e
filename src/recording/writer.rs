//! Writing a recording, so that whatever happens to the writer, what is on disk can be read.

use super::{Error, Files, Frame, MAGIC, MAX_FRAME, Result, VERSION, io};
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

/// Bytes that are collected before they are handed to the kernel.
const BUFFER: usize = 64 << 10;

/// How long a frame may wait in the buffer.
const FLUSH_EVERY: Duration = Duration::from_millis(50);

struct Sink {
    file: File,
    buffer: Vec<u8>,
    error: Option<std::io::Error>,
    closed: bool,
}

impl Sink {
    fn flush(&mut self) {
        if self.error.is_none()
            && !self.buffer.is_empty()
            && let Err(error) = self.file.write_all(&self.buffer)
        {
            self.error = Some(error);
        }
        self.buffer.clear();
    }
}

struct Shared {
    sink: Mutex<Sink>,
    closing: Condvar,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Sink> {
        self.sink.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A recording that is being made. Frames reach the file at the latest 50 ms after
/// they were written, even when the program blocks for long.
pub struct Writer {
    path: PathBuf,
    dir: PathBuf,
    shared: Arc<Shared>,
    flusher: Option<JoinHandle<()>>,
    files: Files,
    scratch: Vec<u8>,
    events: u64,
}

impl Writer {
    /// Makes a new recording in `dir`, which must not exist or be empty.
    ///
    /// # Errors
    /// If there is something, or the directory cannot be made.
    pub fn create(dir: &Path) -> Result<Writer> {
        let fresh = match fs::read_dir(dir) {
            Ok(mut entries) => entries.next().is_none(),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => true,
            Err(e) => return Err(io("look into", dir)(e)),
        };
        if !fresh {
            return Err(Error::Exists { path: dir.into() });
        }
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(dir)
            .map_err(io("create the directory", dir))?;
        let dir = fs::canonicalize(dir).map_err(io("find", dir))?;
        let path = dir.join("events");
        let mut file = File::create_new(&path).map_err(io("create", &path))?;
        file.write_all(&MAGIC)
            .and_then(|()| file.write_all(&VERSION.to_le_bytes()))
            .map_err(io("write", &path))?;
        let files = Files::create(dir.join("files"))?;
        let shared = Arc::new(Shared {
            sink: Mutex::new(Sink {
                file,
                buffer: Vec::with_capacity(BUFFER * 2),
                error: None,
                closed: false,
            }),
            closing: Condvar::new(),
        });
        let flusher = spawn_flusher(Arc::clone(&shared)).map_err(io("write", &path))?;
        Ok(Writer {
            path,
            dir,
            shared,
            flusher: Some(flusher),
            files,
            scratch: Vec::new(),
            events: 0,
        })
    }

    /// The recording's directory, as an absolute path.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Where mapped files are kept.
    pub fn files(&mut self) -> &mut Files {
        &mut self.files
    }

    /// How many numbered events have been written.
    pub fn events(&self) -> u64 {
        self.events
    }

    /// Appends a frame.
    ///
    /// # Errors
    /// If this or an earlier frame could not be written.
    pub fn write(&mut self, frame: &Frame) -> Result<()> {
        self.scratch.clear();
        let buf = std::mem::take(&mut self.scratch);
        let payload = postcard::to_extend(frame, buf)
            .map_err(|e| io("write", &self.path)(std::io::Error::other(e)))?;
        if payload.len() > MAX_FRAME {
            let error = std::io::Error::other("one event holds more than 1 GiB");
            return Err(io("write", &self.path)(error));
        }
        let mut sink = self.shared.lock();
        sink.buffer
            .extend_from_slice(&(payload.len() as u32).to_le_bytes());
        sink.buffer
            .extend_from_slice(&crc32fast::hash(&payload).to_le_bytes());
        sink.buffer.extend_from_slice(&payload);
        if sink.buffer.len() >= BUFFER {
            sink.flush();
        }
        if let Some(error) = sink.error.take() {
            return Err(io("write", &self.path)(error));
        }
        drop(sink);
        self.scratch = payload;
        self.events += u64::from(matches!(frame, Frame::Event(_)));
        Ok(())
    }

    /// Hands everything to the kernel.
    ///
    /// # Errors
    /// If something could not be written.
    pub fn flush(&mut self) -> Result<()> {
        let mut sink = self.shared.lock();
        sink.flush();
        match sink.error.take() {
            Some(error) => Err(io("write", &self.path)(error)),
            None => Ok(()),
        }
    }
}

fn spawn_flusher(shared: Arc<Shared>) -> std::io::Result<JoinHandle<()>> {
    std::thread::Builder::new()
        .name("flush".into())
        .spawn(move || {
            let mut sink = shared.lock();
            while !sink.closed {
                sink = shared
                    .closing
                    .wait_timeout(sink, FLUSH_EVERY)
                    .unwrap_or_else(PoisonError::into_inner)
                    .0;
                sink.flush();
            }
        })
}

impl Drop for Writer {
    fn drop(&mut self) {
        let mut sink = self.shared.lock();
        sink.flush();
        sink.closed = true;
        drop(sink);
        self.shared.closing.notify_all();
        if let Some(flusher) = self.flusher.take() {
            // It can only have ended; a panic of it has been reported already.
            let _ = flusher.join();
        }
    }
}
