//! Reading a recording.

use super::{Error, Event, Files, Frame, MAGIC, MAX_FRAME, Result, Start, VERSION, io};
use crate::image::FileId;
use crate::trace::Exit;
use std::fs::File;
use std::io::{BufReader, Read};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

const FRAME_HEADER: usize = 8;
const HEADER: u64 = 12;

/// An opened recording: where its events are, not the events themselves.
pub struct Recording {
    dir: PathBuf,
    path: PathBuf,
    file: File,
    start: Start,
    /// Offset of event n's frame at n-1.
    events: Vec<u64>,
    /// Offset of the first frame behind event n-1's (its counter values, if any, then itself).
    before: Vec<u64>,
    exit: Option<Exit>,
    /// How many bytes of the file hold whole frames.
    valid: u64,
}

impl Recording {
    /// Opens a recording. One whose end is missing opens up to its last whole frame.
    ///
    /// # Errors
    /// If there is none, or its beginning cannot be read.
    pub fn open(dir: &Path) -> Result<Recording> {
        let dir = std::fs::canonicalize(dir).map_err(io("open the recording", dir))?;
        let path = dir.join("events");
        let not = |reason: &str| Error::NotARecording {
            path: dir.clone(),
            reason: reason.into(),
        };
        if !dir.is_dir() {
            return Err(not("it is not a directory"));
        }
        // A pipe of this name must not make us wait.
        let file = match File::options()
            .read(true)
            .custom_flags(libc::O_NONBLOCK)
            .open(&path)
        {
            Ok(file) => file,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                return Err(not("it has no file `events`"));
            }
            Err(e) => return Err(io("open", path)(e)),
        };
        if !file.metadata().map_err(io("look at", &path))?.is_file() {
            return Err(not("its `events` is not a regular file"));
        }
        let mut header = [0; HEADER as usize];
        if file.read_exact_at(&mut header, 0).is_err() || header[..8] != MAGIC {
            return Err(not("its file `events` does not begin like one"));
        }
        let found = u32::from_le_bytes([header[8], header[9], header[10], header[11]]);
        if found > VERSION {
            return Err(Error::Newer { path: dir, found });
        }
        let mut frames = Frames::new(&file, &path, HEADER)?;
        let start = match frames.next_frame() {
            Ok(Some(Frame::Start(start))) => start,
            Ok(_) => return Err(not("it ends before the program's start")),
            Err(e) => return Err(e),
        };
        let mut recording = Recording {
            events: Vec::new(),
            before: Vec::new(),
            exit: None,
            valid: frames.offset,
            start,
            file,
            path,
            dir,
        };
        recording.index(frames)?;
        Ok(recording)
    }

    fn index(&mut self, mut frames: Frames) -> Result<()> {
        let mut before = frames.offset;
        loop {
            let at = frames.offset;
            let Some(payload) = frames.next_payload()? else {
                return Ok(());
            };
            self.valid = at + (FRAME_HEADER + payload.len()) as u64;
            // The first byte of postcard's encoding of an enum is the variant's number.
            match payload.first() {
                Some(1) => {
                    self.events.push(at);
                    self.before.push(before);
                    before = self.valid;
                }
                Some(2 | 4..=9) => {}
                _ => match frames.decode(at, &payload)? {
                    Frame::End { exit } => {
                        self.exit = Some(exit);
                        return Ok(());
                    }
                    _ => return Err(frames.damaged(at, "a frame is out of place")),
                },
            }
        }
    }

    /// Its directory, as an absolute path.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// How it began.
    pub fn start(&self) -> &Start {
        &self.start
    }

    /// The number of events; they are numbered from 1 to this.
    pub fn len(&self) -> u64 {
        self.events.len() as u64
    }

    /// Whether there is no event in it.
    pub fn is_empty(&self) -> bool {
        self.events.is_empty()
    }

    /// How the program ended; `None` where the recording is incomplete.
    pub fn exit(&self) -> Option<Exit> {
        self.exit
    }

    /// The event with this number, from 1.
    ///
    /// # Errors
    /// If there is none, or it is damaged.
    pub fn event(&self, number: u64) -> Result<Event> {
        let at = self.slot(number)?;
        let mut frames = Frames::small(&self.file, &self.path, self.events[at])?;
        match frames.next_frame()? {
            Some(Frame::Event(event)) => Ok(event),
            _ => Err(frames.damaged(self.events[at], "an event is missing")),
        }
    }

    /// The frames from just before this event on, up to the end of what is whole.
    ///
    /// # Errors
    /// If there is no such event.
    pub fn frames_from(&self, number: u64) -> Result<Frames> {
        let at = self.slot(number)?;
        Frames::new(&self.file, &self.path, self.before[at])
    }

    /// The events in this range, with their numbers.
    ///
    /// # Errors
    /// If the first is none of the recording's.
    pub fn events_from(
        &self,
        first: u64,
    ) -> Result<impl Iterator<Item = Result<(u64, Event)>> + use<>> {
        let mut frames = self.frames_from(first)?;
        let mut number = first;
        Ok(std::iter::from_fn(move || {
            loop {
                match frames.next_frame() {
                    Ok(Some(Frame::Event(event))) => {
                        number += 1;
                        return Some(Ok((number - 1, event)));
                    }
                    Ok(Some(Frame::End { .. }) | None) => return None,
                    Ok(Some(_)) => {}
                    Err(e) => return Some(Err(e)),
                }
            }
        }))
    }

    /// Where the kept copy of a mapped file is.
    pub fn file_path(&self, id: FileId) -> PathBuf {
        Files::path(&self.dir, id)
    }

    fn slot(&self, number: u64) -> Result<usize> {
        let slot = number.checked_sub(1).and_then(|n| usize::try_from(n).ok());
        slot.filter(|&slot| slot < self.events.len())
            .ok_or_else(|| Error::NoSuchEvent {
                path: self.dir.clone(),
                event: number,
                last: self.len(),
            })
    }
}

impl std::fmt::Debug for Recording {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "Recording({}, {} events)",
            self.dir.display(),
            self.len()
        )
    }
}

/// Frames, one after the other. Ends where the file does, or where a frame is not whole.
pub struct Frames {
    reader: BufReader<At>,
    path: PathBuf,
    offset: u64,
    len: u64,
}

/// A file read from an offset of its own.
struct At {
    file: File,
    offset: u64,
}

impl Read for At {
    fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
        let n = self.file.read_at(buf, self.offset)?;
        self.offset += n as u64;
        Ok(n)
    }
}

impl Frames {
    fn new(file: &File, path: &Path, offset: u64) -> Result<Frames> {
        Frames::with_buffer(file, path, offset, 64 << 10)
    }

    fn small(file: &File, path: &Path, offset: u64) -> Result<Frames> {
        Frames::with_buffer(file, path, offset, 512)
    }

    fn with_buffer(file: &File, path: &Path, offset: u64, buffer: usize) -> Result<Frames> {
        let file = file.try_clone().map_err(io("open", path))?;
        let len = file.metadata().map_err(io("look at", path))?.len();
        Ok(Frames {
            reader: BufReader::with_capacity(buffer, At { file, offset }),
            path: path.into(),
            offset,
            len,
        })
    }

    /// The next frame; `None` at the end, and where the rest is not whole.
    ///
    /// # Errors
    /// If the file cannot be read, or a frame with the right checksum makes no sense.
    pub fn next_frame(&mut self) -> Result<Option<Frame>> {
        let at = self.offset;
        match self.next_payload()? {
            Some(payload) => self.decode(at, &payload).map(Some),
            None => Ok(None),
        }
    }

    fn next_payload(&mut self) -> Result<Option<Vec<u8>>> {
        let mut header = [0; FRAME_HEADER];
        if self.len.saturating_sub(self.offset) < FRAME_HEADER as u64 {
            return Ok(None);
        }
        self.reader
            .read_exact(&mut header)
            .map_err(io("read", &self.path))?;
        let [a, b, c, d, e, f, g, h] = header;
        let len = u32::from_le_bytes([a, b, c, d]) as usize;
        let crc = u32::from_le_bytes([e, f, g, h]);
        let left = self.len - self.offset - FRAME_HEADER as u64;
        if len > MAX_FRAME || len as u64 > left {
            return Ok(None);
        }
        let mut payload = vec![0; len];
        self.reader
            .read_exact(&mut payload)
            .map_err(io("read", &self.path))?;
        if crc32fast::hash(&payload) != crc {
            return Ok(None);
        }
        self.offset += (FRAME_HEADER + len) as u64;
        Ok(Some(payload))
    }

    fn decode(&self, at: u64, payload: &[u8]) -> Result<Frame> {
        postcard::from_bytes(payload).map_err(|e| self.damaged(at, &e.to_string()))
    }

    fn damaged(&self, offset: u64, reason: &str) -> Error {
        Error::Damaged {
            path: self.path.clone(),
            offset,
            reason: reason.into(),
        }
    }
}
