//! pty(7): the settings of pseudoterminals, and what is on its way between their two ends.
//!
//! What the programs on one write is changed as its settings say before the other end reads it; the data here are those that
//! the other end reads. Echoes are known as far as they are plain.

use super::Queue;
use super::memory::read_i32;
use crate::recording::{CallEvent, ChunkMemory};
use crate::syscall::Memory;

/// `struct termios` and `struct termios2` of the kernel (asm-generic/termbits.h).
const TERMIOS: usize = 36;
const TERMIOS2: usize = 44;
const TCSETS2: u64 = 0x402c_542b;
const TCSETSF2: u64 = 0x402c_542d;

const OPOST: u32 = 1;
const ONLCR: u32 = 4;
const ICRNL: u32 = 0o400;
const ECHO: u32 = 0o10;
const ICANON: u32 = 0o2;

/// The settings that a new terminal has (drivers/tty/tty_io.c): input, output, control and local flags.
const INITIAL: [u32; 4] = [0o2400, 0o5, 0o277, 0o105073];

/// A pseudoterminal.
#[derive(Clone, Debug, Default)]
pub struct PseudoTerminal {
    /// The settings, as the last `TCSETS` or `TCSETS2` had them.
    pub settings: Option<Vec<u8>>,
    /// `struct winsize`.
    pub size: Option<[u8; 8]>,
    /// Whether it is in packet mode: `TIOCPKT`.
    pub is_packet: bool,
    /// What the master has not read yet.
    pub output: Queue,
    /// What the programs on it have not read yet, as the master wrote it.
    pub input: Queue,
}

impl PseudoTerminal {
    fn flags(&self, at: usize) -> u32 {
        let settings = self.settings.as_deref();
        let bytes = settings.and_then(|all| all.get(at * 4..)?.first_chunk::<4>());
        bytes.map_or(INITIAL[at], |bytes| u32::from_le_bytes(*bytes))
    }

    /// Follows ioctl(2) on either end.
    pub(super) fn control(&mut self, call: &CallEvent) {
        let memory = ChunkMemory(&call.ins);
        let at = call.args[2];
        let read = |len: usize| {
            let mut bytes = vec![0; len];
            (memory.read(at, &mut bytes) == len).then_some(bytes)
        };
        match call.args[1] & 0xffff_ffff {
            libc::TCSETS | libc::TCSETSW | libc::TCSETSF => {
                self.settings = read(TERMIOS).or(self.settings.take());
            }
            TCSETS2..=TCSETSF2 => self.settings = read(TERMIOS2).or(self.settings.take()),
            libc::TIOCSWINSZ => {
                self.size = read(8).and_then(|size| size.try_into().ok()).or(self.size);
            }
            libc::TIOCPKT => self.is_packet = read_i32(&memory, at).is_some_and(|on| on != 0),
            _ => {}
        }
        let flushes = matches!(call.args[1] & 0xffff_ffff, libc::TCSETSF | TCSETSF2);
        if flushes {
            self.input = Queue::default();
        }
    }

    /// Follows a write by a program on it.
    pub(super) fn written(&mut self, data: &[u8]) {
        let data = self.as_output(data);
        self.output.push(data[..].into());
    }

    fn as_output(&self, data: &[u8]) -> Vec<u8> {
        if self.flags(1) & (OPOST | ONLCR) != OPOST | ONLCR {
            return data.to_vec();
        }
        let mut output = Vec::with_capacity(data.len());
        for &byte in data {
            if byte == b'\n' {
                output.push(b'\r');
            }
            output.push(byte);
        }
        output
    }

    /// Follows a write by the master.
    pub(super) fn typed(&mut self, data: &[u8]) {
        self.input.push(data.into());
        if self.flags(3) & ECHO == 0 {
            return;
        }
        let mut echo = Vec::new();
        for &byte in data {
            match byte {
                b'\r' if self.flags(0) & ICRNL != 0 => echo.push(b'\n'),
                b'\n' | b'\t' | b' '..=b'~' => echo.push(byte),
                // The end of a file and what erases are shown in other ways.
                0..=31 | 127 => {
                    if self.flags(3) & ICANON == 0 || byte == 3 {
                        echo.extend([b'^', byte ^ 0x40]);
                    }
                }
                128.. => echo.push(byte),
            }
        }
        let echo = self.as_output(&echo);
        self.output.push(echo[..].into());
    }

    /// Follows a read of so many bytes by the master, or by a program on it.
    pub(super) fn taken(&mut self, by_master: bool, count: usize) {
        match by_master {
            // In packet mode each read begins with a byte that says what comes.
            true => {
                _ = self
                    .output
                    .take(count.saturating_sub(self.is_packet.into()))
            }
            false => _ = self.input.take(count),
        }
    }
}
