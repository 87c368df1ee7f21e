//! A shared mapping of memory behind a descriptor in rrapper itself, such as the ring of a packet socket.

use std::fs::File;
use std::io::{Error, Result};
use std::os::fd::AsRawFd;
use std::ptr::NonNull;

/// A shared mapping of a descriptor, which the kernel changes at any time.
#[derive(Debug)]
pub struct SharedMapping {
    start: NonNull<u8>,
    len: usize,
}

impl SharedMapping {
    /// Maps the first `len` bytes of a descriptor.
    ///
    /// # Errors
    /// The kernel's error, if it cannot be mapped.
    pub fn new(file: &File, len: usize) -> Result<SharedMapping> {
        // SAFETY: a new mapping at a place of the kernel's choosing.
        let start = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                len,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                file.as_raw_fd(),
                0,
            )
        };
        if start == libc::MAP_FAILED {
            return Err(Error::last_os_error());
        }
        let start = NonNull::new(start.cast::<u8>());
        let start = start.ok_or_else(|| Error::from(std::io::ErrorKind::InvalidData))?;
        Ok(SharedMapping { start, len })
    }

    /// The 32-bit word at an offset that is divisible by four; 0 outside.
    pub fn word(&self, at: usize) -> u32 {
        if !self.has(at, 4) || !at.is_multiple_of(4) {
            return 0;
        }
        // SAFETY: it is inside the mapping and aligned; that the kernel may change it is what volatile is for.
        unsafe { self.start.as_ptr().add(at).cast::<u32>().read_volatile() }
    }

    /// Sets the 32-bit word at an offset that is divisible by four; nothing outside.
    pub fn set_word(&self, at: usize, value: u32) {
        if !self.has(at, 4) || !at.is_multiple_of(4) {
            return;
        }
        // SAFETY: as for reading; the mapping is writable.
        unsafe {
            self.start
                .as_ptr()
                .add(at)
                .cast::<u32>()
                .write_volatile(value)
        };
    }

    /// Copies bytes out; none where the range is not entirely inside.
    pub fn bytes(&self, at: usize, len: usize) -> Vec<u8> {
        if !self.has(at, len) {
            return Vec::new();
        }
        let mut bytes = vec![0; len];
        // SAFETY: all of it is inside the mapping, and the copy is elsewhere; bytes have no invalid values, whoever
        // changes them meanwhile.
        unsafe {
            let from = self.start.as_ptr().add(at);
            std::ptr::copy_nonoverlapping(from, bytes.as_mut_ptr(), len);
        }
        bytes
    }

    /// Copies bytes in; none where the range is not entirely inside.
    pub fn write(&self, at: usize, bytes: &[u8]) {
        if !self.has(at, bytes.len()) {
            return;
        }
        // SAFETY: all of it is inside the mapping, which is writable, and the bytes are elsewhere.
        unsafe {
            let to = self.start.as_ptr().add(at);
            std::ptr::copy_nonoverlapping(bytes.as_ptr(), to, bytes.len());
        }
    }

    fn has(&self, at: usize, len: usize) -> bool {
        at.checked_add(len).is_some_and(|end| end <= self.len)
    }
}

impl Drop for SharedMapping {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours, and nothing refers to it any more.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.len) };
    }
}
