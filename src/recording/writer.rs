//! Writing a recording, which can be read whatever happens to the writer.

use super::block::{BLANK, Head, MOST, Packer};
use super::disk_full::{DiskFull, OnFull};
use super::{
    Error, Files, Frame, INDEX_MAGIC, MAGIC, MAX_FRAME, Result, SMALL_FRAME, VERSION, index, io,
};
use nix::fcntl::{Flock, FlockArg};
use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Bytes that are collected before they make a block.
const ENOUGH: usize = 128 << 10;

/// The longest time that a frame waits for others.
const FLUSH_EVERY: Duration = Duration::from_millis(50);

/// The most bytes that wait for the disk before [`Writer::write`] blocks.
const ROOM: usize = 8 << 20;

/// zstd's level: the fastest of its usual ones.
const LEVEL: i32 = 1;

/// The payload of a block that is to be written.
#[derive(Default)]
struct Payload {
    raw: Vec<u8>,
    /// The number of its first event, and the number of its events: for its head.
    first: u64,
    count: u32,
    continues: bool,
    left: u32,
    /// Whether it is a part of large data.
    is_large: bool,
}

struct State {
    /// The frames collected for the next block.
    open: Payload,
    queue: VecDeque<Payload>,
    /// The bytes in the queue and in the block that is being written.
    waiting: usize,
    error: Option<std::io::Error>,
    closed: bool,
    /// A buffer to use again.
    spare: Vec<u8>,
}

impl State {
    /// Queues the collected frames.
    fn cut(&mut self) {
        if self.open.raw.is_empty() {
            return;
        }
        let next = Payload {
            raw: std::mem::take(&mut self.spare),
            first: self.open.first + u64::from(self.open.count),
            ..Payload::default()
        };
        let payload = std::mem::replace(&mut self.open, next);
        self.push(payload);
    }

    fn push(&mut self, payload: Payload) {
        self.waiting += payload.raw.len();
        self.queue.push_back(payload);
    }

    fn check(&self) -> std::io::Result<()> {
        match &self.error {
            None => Ok(()),
            // Each later write fails with the same error.
            Some(error) => Err(match error.raw_os_error() {
                Some(code) => std::io::Error::from_raw_os_error(code),
                None => std::io::Error::new(error.kind(), error.to_string()),
            }),
        }
    }
}

struct Shared {
    state: Mutex<State>,
    /// Signals that a payload is queued, or that the writer is closed.
    work: Condvar,
    /// Signals that a payload has been written, or that writing failed.
    done: Condvar,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until at most this many bytes are waiting.
    fn drain(&self, most: usize) -> std::io::Result<MutexGuard<'_, State>> {
        let mut state = self.lock();
        while state.waiting > most && state.error.is_none() {
            state = self
                .done
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
        state.check()?;
        Ok(state)
    }
}

/// A recording that is being made. Frames reach the file at the latest 50 ms after
/// they were written, even when the program blocks for long. A thread of its own compresses and writes them.
pub struct Writer {
    path: PathBuf,
    dir: PathBuf,
    shared: Arc<Shared>,
    worker: Option<JoinHandle<()>>,
    files: Files,
    disk_full: DiskFull,
    scratch: Vec<u8>,
    events: u64,
    /// The lock that shows that the recording is being made.
    _lock: Option<Flock<File>>,
}

impl Writer {
    /// Makes a new recording in `dir`, which must not exist or be empty.
    ///
    /// # Errors
    /// If the directory is not empty, or cannot be made.
    pub fn create(dir: &Path) -> Result<Writer> {
        Writer::create_with(dir, OnFull::Stop, || ())
    }

    /// Makes a new recording with this choice for a full disk. `first` is called in the thread that compresses and
    /// writes, before it does anything else: that can move the thread to other CPUs.
    ///
    /// # Errors
    /// If the directory is not empty, or cannot be made.
    pub fn create_with(
        dir: &Path,
        on_full: OnFull,
        first: impl FnOnce() + Send + 'static,
    ) -> Result<Writer> {
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
        let (index_path, path) = (dir.join("index"), dir.join("events"));
        let index = begin(&index_path, INDEX_MAGIC)?;
        let events = begin(&path, MAGIC)?;
        // Not all file systems have locks, and nothing depends on it.
        let lock = events.try_clone().map_err(io("open", &path))?;
        let lock = Flock::lock(lock, FlockArg::LockExclusiveNonblock).ok();
        let disk_full = DiskFull::new(on_full);
        let files = Files::create(dir.join("files"), disk_full.clone())?;
        let shared = Arc::new(Shared {
            state: Mutex::new(State {
                open: Payload {
                    first: 1,
                    ..Payload::default()
                },
                queue: VecDeque::new(),
                waiting: 0,
                error: None,
                closed: false,
                spare: Vec::new(),
            }),
            work: Condvar::new(),
            done: Condvar::new(),
        });
        let packer = Packer::new(LEVEL).map_err(io("write", &path))?;
        let worker = Worker {
            shared: Arc::clone(&shared),
            packer,
            offset: super::HEADER,
            events,
            index,
        };
        let worker = std::thread::Builder::new()
            .name("write".into())
            .spawn(move || {
                first();
                worker.run();
            })
            .map_err(io("write", &path))?;
        Ok(Writer {
            path,
            dir,
            shared,
            worker: Some(worker),
            files,
            disk_full,
            scratch: Vec::new(),
            events: 0,
            _lock: lock,
        })
    }

    /// The recording's directory, as an absolute path.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The kept copies of mapped files.
    pub fn files(&mut self) -> &mut Files {
        &mut self.files
    }

    /// The number of events that have been written.
    pub fn events(&self) -> u64 {
        self.events
    }

    /// The reason why nothing more is written, with [`OnFull::Continue`].
    pub fn lost(&self) -> Option<&Error> {
        self.disk_full.lost()
    }

    /// Appends a frame. Waits where the disk is slow.
    ///
    /// # Errors
    /// If this or an earlier frame could not be written.
    pub fn write(&mut self, frame: &Frame) -> Result<()> {
        if self.disk_full.lost().is_some() {
            return Ok(());
        }
        self.write_now(frame)
            .or_else(|error| self.disk_full.tolerate(error))
    }

    fn write_now(&mut self, frame: &Frame) -> Result<()> {
        let mut bytes = std::mem::take(&mut self.scratch);
        bytes.clear();
        bytes.extend_from_slice(&[0; 4]);
        let mut bytes = postcard::to_extend(frame, bytes)
            .map_err(|e| io("write", &self.path)(std::io::Error::other(e)))?;
        let len = bytes.len() - 4;
        if len > MAX_FRAME {
            let error = std::io::Error::other("one event holds more than 4 GiB");
            return Err(io("write", &self.path)(error));
        }
        bytes[..4].copy_from_slice(&(len as u32).to_le_bytes());
        let is_event = matches!(frame, Frame::Event(_));
        let written = if bytes.len() > MOST {
            self.append_large(&bytes, is_event)
        } else {
            self.append(&bytes, is_event, matches!(frame, Frame::Start(_)))
        };
        written.map_err(io("write", &self.path))?;
        // A large buffer is not kept.
        if bytes.len() <= MOST {
            self.scratch = bytes;
        }
        self.events += u64::from(is_event);
        Ok(())
    }

    /// Appends a frame; with `alone`, it ends its block.
    fn append(&self, bytes: &[u8], is_event: bool, alone: bool) -> std::io::Result<()> {
        let mut state = self.shared.drain(ROOM)?;
        let queued = state.queue.len();
        if state.open.raw.len() + bytes.len() > MOST {
            state.cut();
        }
        state.open.raw.extend_from_slice(bytes);
        state.open.count += u32::from(is_event);
        if alone || state.open.raw.len() >= ENOUGH {
            state.cut();
        }
        if state.queue.len() > queued {
            self.shared.work.notify_one();
        }
        Ok(())
    }

    /// Appends a frame that takes several blocks.
    fn append_large(&self, bytes: &[u8], is_event: bool) -> std::io::Result<()> {
        let mut left = bytes.len();
        for (i, piece) in bytes.chunks(MOST).enumerate() {
            left -= piece.len();
            let mut state = self.shared.drain(ROOM)?;
            state.cut();
            let count = u32::from(is_event && i == 0);
            let first = state.open.first;
            state.open.first += u64::from(count);
            state.push(Payload {
                raw: piece.to_vec(),
                first,
                count,
                continues: i > 0,
                left: left as u32,
                is_large: bytes.len() > SMALL_FRAME,
            });
            self.shared.work.notify_one();
        }
        Ok(())
    }

    /// Waits until the kernel has accepted all frames.
    ///
    /// # Errors
    /// If a frame could not be written.
    pub fn flush(&mut self) -> Result<()> {
        self.shared.lock().cut();
        self.shared.work.notify_one();
        let drained = self.shared.drain(0).map(drop);
        drained
            .map_err(io("write", &self.path))
            .or_else(|error| self.disk_full.tolerate(error))
    }
}

impl Writer {
    /// Removes the recording of a program that never began.
    pub fn discard(mut self) {
        self.close();
        for result in [
            fs::remove_dir_all(self.dir.join("files")),
            fs::remove_file(self.dir.join("index")),
            fs::remove_file(&self.path),
            fs::remove_dir(&self.dir),
        ] {
            if let Err(error) = result {
                tracing::debug!("cannot remove {}: {error}", self.dir.display());
            }
        }
    }

    /// Waits until all is written, or cannot be.
    fn close(&mut self) {
        let mut state = self.shared.lock();
        state.cut();
        state.closed = true;
        drop(state);
        self.shared.work.notify_one();
        if let Some(worker) = self.worker.take() {
            // A panic of the thread has been reported already.
            let _ = worker.join();
        }
    }
}

fn begin(path: &Path, magic: [u8; 8]) -> Result<File> {
    let mut file = File::create_new(path).map_err(io("create", path))?;
    file.write_all(&magic)
        .and_then(|()| file.write_all(&VERSION.to_le_bytes()))
        .map_err(io("write", path))?;
    Ok(file)
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.close();
    }
}

/// The thread that compresses and writes payloads.
struct Worker {
    shared: Arc<Shared>,
    packer: Packer,
    events: File,
    index: File,
    /// The offset of the next block.
    offset: u64,
}

impl Worker {
    fn run(mut self) {
        let shared = Arc::clone(&self.shared);
        while let Some(mut payload) = next(&shared) {
            let written = self.write(&payload);
            let mut state = shared.lock();
            state.waiting -= payload.raw.len();
            if let Err(error) = written {
                tracing::debug!("cannot write the recording: {error}");
                state.error = Some(error);
            }
            if payload.raw.capacity() <= MOST {
                payload.raw.clear();
                state.spare = payload.raw;
            }
            let failed = state.error.is_some();
            drop(state);
            shared.done.notify_all();
            if failed {
                // Cut an incomplete block off.
                let cut = self.events.set_len(self.offset);
                tracing::debug!("cut the recording at byte {}: {cut:?}", self.offset);
                return;
            }
        }
    }

    fn write(&mut self, payload: &Payload) -> std::io::Result<()> {
        let head = Head {
            first: payload.first,
            count: payload.count,
            continues: payload.continues,
            left: payload.left,
            ..BLANK
        };
        let block = self.packer.pack(&payload.raw, head, payload.is_large)?;
        self.events.write_all(block)?;
        // Behind the block, so that an indexed block exists.
        if !payload.continues {
            self.index
                .write_all(&index::entry(payload.first, self.offset))?;
        }
        self.offset += block.len() as u64;
        Ok(())
    }
}

/// Waits for the next payload; `None` at the end.
fn next(shared: &Shared) -> Option<Payload> {
    let mut late = Instant::now() + FLUSH_EVERY;
    let mut state = shared.lock();
    loop {
        if let Some(payload) = state.queue.pop_front() {
            return Some(payload);
        }
        if state.closed {
            return None;
        }
        let now = Instant::now();
        if late <= now {
            state.cut();
            late = now + FLUSH_EVERY;
            continue;
        }
        state = shared
            .work
            .wait_timeout(state, late - now)
            .unwrap_or_else(PoisonError::into_inner)
            .0;
    }
}
