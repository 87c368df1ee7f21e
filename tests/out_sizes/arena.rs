//! Buffers in the middle of poison, or against a page that nothing can touch; what was written to them.

use rrapper::syscall::Memory;
use std::collections::BTreeSet;

const PAGE: usize = 4096;
/// Poison on each side of a buffer that lies in the middle.
const MARGIN: usize = 512;

/// Where a buffer lies in its pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// In the middle of poison.
    Middle,
    /// Right before a page without any access.
    End,
}

/// A buffer and the pages that it lies in.
struct Slot {
    pages: u64,
    size: usize,
    /// Where the buffer begins.
    addr: u64,
    len: usize,
    /// Whether it was poison, not contents, when the call was made.
    poisoned: bool,
    /// The pages before the call.
    before: Vec<u8>,
}

/// The buffers of one call.
pub struct Arena {
    place: Place,
    poison: u8,
    slots: Vec<Slot>,
}

impl Arena {
    pub fn new(place: Place, poison: u8) -> Arena {
        let slots = Vec::new();
        Arena {
            place,
            poison,
            slots,
        }
    }

    fn slot(&mut self, len: usize, poisoned: bool) -> u64 {
        let size = (len + 2 * MARGIN).next_multiple_of(PAGE);
        // SAFETY: a new mapping, which no one else has.
        let start = unsafe {
            let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
            let start = libc::mmap(
                std::ptr::null_mut(),
                size + 2 * PAGE,
                libc::PROT_NONE,
                flags,
                -1,
                0,
            );
            assert_ne!(start, libc::MAP_FAILED);
            let pages = start.cast::<u8>().add(PAGE);
            let access = libc::PROT_READ | libc::PROT_WRITE;
            assert_eq!(libc::mprotect(pages.cast(), size, access), 0);
            pages.write_bytes(self.poison, size);
            pages as u64
        };
        let addr = start
            + match self.place {
                Place::Middle => MARGIN,
                Place::End => size - len,
            } as u64;
        let before = Vec::new();
        self.slots.push(Slot {
            pages: start,
            size,
            addr,
            len,
            poisoned,
            before,
        });
        addr
    }

    /// A poisoned buffer for the kernel to fill.
    pub fn out(&mut self, len: usize) -> u64 {
        self.slot(len, true)
    }

    /// A buffer with these bytes in it.
    pub fn with(&mut self, bytes: &[u8]) -> u64 {
        let addr = self.slot(bytes.len(), false);
        self.set(addr, bytes);
        addr
    }

    /// Changes what is in a buffer.
    pub fn set(&mut self, addr: u64, bytes: &[u8]) {
        let fits = |s: &Slot| s.addr <= addr && addr + bytes.len() as u64 <= s.addr + s.len as u64;
        assert!(self.slots.iter().any(fits), "inside a buffer");
        // SAFETY: these bytes are in a buffer of ours, as was just made sure.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), addr as *mut u8, bytes.len()) };
    }

    /// Remembers what is there, to be asked right before the call.
    pub fn remember(&mut self) {
        for slot in &mut self.slots {
            slot.before = live(slot.pages, slot.size);
        }
    }

    /// The addresses whose bytes are no longer what they were.
    pub fn changed(&self) -> BTreeSet<u64> {
        let mut changed = BTreeSet::new();
        for slot in &self.slots {
            let now = live(slot.pages, slot.size);
            let pairs = slot.before.iter().zip(&now).zip(slot.pages..);
            changed.extend(
                pairs
                    .filter(|((was, is), _)| was != is)
                    .map(|(_, addr)| addr),
            );
        }
        changed
    }

    /// Whether the address is in a buffer that was poison: all that is written there can be seen.
    pub fn shows(&self, addr: u64) -> bool {
        self.locate(addr)
            .is_some_and(|(index, _)| self.slots[index].poisoned)
    }

    /// The buffer that an address lies in or near, and how far from its beginning it is.
    pub fn locate(&self, addr: u64) -> Option<(usize, i64)> {
        let inside = |s: &Slot| (s.pages..s.pages + s.size as u64).contains(&addr);
        let index = self.slots.iter().position(inside)?;
        Some((index, addr as i64 - self.slots[index].addr as i64))
    }
}

/// Bytes of ours as they are now.
fn live(addr: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0u8; len];
    assert_eq!(Now.read(addr, &mut bytes), len);
    bytes
}

/// Memory of this process as it is.
pub struct Now;

impl Memory for Now {
    fn read(&self, addr: u64, buf: &mut [u8]) -> usize {
        let mut done = 0;
        while done < buf.len() {
            let at = addr.wrapping_add(done as u64);
            let here = (PAGE - at as usize % PAGE).min(buf.len() - done);
            let local = libc::iovec {
                iov_base: buf[done..].as_mut_ptr().cast(),
                iov_len: here,
            };
            let remote = libc::iovec {
                iov_base: at as *mut _,
                iov_len: here,
            };
            // SAFETY: it writes at most `here` bytes into the buffer, and says where nothing can be read.
            let got = unsafe { libc::process_vm_readv(libc::getpid(), &local, 1, &remote, 1, 0) };
            if got != here as isize {
                break;
            }
            done += here;
        }
        done
    }
}

/// Memory as it was when the arena remembered it.
pub struct Then<'a>(pub &'a Arena);

impl Memory for Then<'_> {
    fn read(&self, addr: u64, buf: &mut [u8]) -> usize {
        let Some((index, _)) = self.0.locate(addr) else {
            return Now.read(addr, buf);
        };
        let slot = &self.0.slots[index];
        let bytes = &slot.before[(addr - slot.pages) as usize..];
        let len = bytes.len().min(buf.len());
        buf[..len].copy_from_slice(&bytes[..len]);
        len
    }
}
