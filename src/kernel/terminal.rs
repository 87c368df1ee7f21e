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
const IXON: u32 = 0o2000;
const ECHO: u32 = 0o10;
const ICANON: u32 = 0o2;
const ISIG: u32 = 0o1;
const NOFLSH: u32 = 0o200;

/// The place of the control characters in the settings, and of some among them.
const CONTROL: usize = 17;
const VINTR: usize = 0;
const VQUIT: usize = 1;
const VERASE: usize = 2;
const VKILL: usize = 3;
const VEOF: usize = 4;
const VSTART: usize = 8;
const VSTOP: usize = 9;
const VSUSP: usize = 10;
const VWERASE: usize = 14;

/// The settings that a new terminal has (drivers/tty/tty_io.c): input, output, control and local flags.
const INITIAL: [u32; 4] = [0o2400, 0o5, 0o277, 0o105073];

/// The control characters that it has.
const INITIAL_CONTROL: [u8; 19] = [
    3, 0x1c, 0x7f, 0x15, 4, 0, 1, 0, 0x11, 0x13, 0x1a, 0, 0x12, 0xf, 0x17, 0x16, 0, 0, 0,
];

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
    /// What is behind that and can still be erased: a line that has not ended.
    pub line: Vec<u8>,
    /// Whether any program has opened the slave.
    pub is_open: bool,
}

impl PseudoTerminal {
    fn flags(&self, at: usize) -> u32 {
        let settings = self.settings.as_deref();
        let bytes = settings.and_then(|all| all.get(at * 4..)?.first_chunk::<4>());
        bytes.map_or(INITIAL[at], |bytes| u32::from_le_bytes(*bytes))
    }

    /// Whether a byte is this control character.
    fn is(&self, byte: u8, at: usize) -> bool {
        let settings = self.settings.as_deref();
        let known = settings.and_then(|all| all.get(CONTROL + at)).copied();
        byte != 0 && byte == known.unwrap_or(INITIAL_CONTROL[at])
    }

    fn is_canonical(&self) -> bool {
        self.flags(3) & ICANON != 0
    }

    /// Follows a byte that the master wrote to what the programs on it will read.
    fn receive(&mut self, byte: u8) {
        let (input, local) = (self.flags(0), self.flags(3));
        let sends = [VINTR, VQUIT, VSUSP];
        if local & ISIG != 0 && sends.iter().any(|&at| self.is(byte, at)) {
            if local & NOFLSH == 0 {
                self.input = Queue::default();
                self.line.clear();
            }
            return;
        }
        if input & IXON != 0 && (self.is(byte, VSTART) || self.is(byte, VSTOP)) {
            return;
        }
        if !self.is_canonical() {
            return self.line.push(byte);
        }
        if self.is(byte, VERASE) {
            self.line.pop();
        } else if self.is(byte, VKILL) {
            self.line.clear();
        } else if self.is(byte, VWERASE) {
            let is_blank = |byte: &u8| byte.is_ascii_whitespace();
            while self.line.last().is_some_and(is_blank) {
                self.line.pop();
            }
            while self.line.last().is_some_and(|byte| !is_blank(byte)) {
                self.line.pop();
            }
        } else {
            self.line.push(byte);
            if byte == b'\n' || byte == b'\r' && input & ICRNL != 0 || self.is(byte, VEOF) {
                self.end_line();
            }
        }
        // More than the kernel keeps.
        self.line.truncate(4096);
    }

    fn end_line(&mut self) {
        let line = std::mem::take(&mut self.line);
        if !line.is_empty() {
            self.input.push(line.as_slice().into());
        }
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
            self.line.clear();
        }
        if !self.is_canonical() {
            self.end_line();
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
        for &byte in data {
            self.receive(byte);
        }
        if !self.is_canonical() {
            self.end_line();
        }
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
            false => {
                let taken = self.input.take(count);
                let is_line = taken
                    .last()
                    .is_some_and(|&last| last == b'\n' || last == b'\r');
                let next = self
                    .input
                    .parts()
                    .find_map(|part| part.data.first().copied());
                // The end of a file that ends a read is gone with it.
                if self.is_canonical() && !is_line && next.is_some_and(|next| self.is(next, VEOF)) {
                    self.input.take(1);
                }
            }
        }
    }
}
