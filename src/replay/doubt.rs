//! Possible reasons why a process left its recording without any change: instructions in its code whose results are not
//! recorded.
//!
//! Those in files are replaced while recording (see [`tracee::replaced_instructions`](crate::tracee::replaced_instructions)).
//! The rest is in generated code, or in code that could not be decoded. Bytes that look like such an instruction may be
//! something else: they count only together with the code that belongs to it, and only after a divergence.

use crate::backtrace::{self, Mapped};
use crate::history::Recording;
use crate::tracee::proc::{self, Map};
use crate::tracee::replaced_instructions::{OPCODES, Replaced};
use crate::tracee::{Regs, TaskMemory};
use iced_x86::{Decoder, DecoderOptions, Mnemonic};
use std::fmt;

/// The amount of code that is searched: the sizes of mappings come from the recording, which is untrusted.
const MOST: u64 = 256 << 20;

/// The number of bytes of the stack that are searched for return addresses.
const STACK: usize = 8192;

/// Addresses at most this many bytes apart are near each other.
const NEAR: u64 = 4096;

/// A possible reason for a divergence, as part of a sentence; often empty.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Doubt(String);

impl fmt::Display for Doubt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.as_str() {
            "" => Ok(()),
            why => write!(f, "; {why}"),
        }
    }
}

/// An instruction that is a possible reason.
struct Found {
    name: &'static str,
    /// It returns another value each time: a random number.
    draws: bool,
    addr: u64,
    /// The path of its file, if it is in one.
    file: Option<Vec<u8>>,
    /// It is near the task's instruction pointer or a return address.
    near: bool,
}

impl Doubt {
    /// A reason that is known.
    pub fn known(reason: String) -> Doubt {
        Doubt(reason)
    }

    /// The possible reason, if there is one.
    pub fn reason(&self) -> Option<&str> {
        Some(self.0.as_str()).filter(|reason| !reason.is_empty())
    }

    /// Searches the code of the process of a task at this event for instructions that are possible reasons.
    pub fn about(recording: &Recording, event: u64, tid: i32, at: (TaskMemory, &Regs)) -> Doubt {
        let (memory, regs) = at;
        let Ok(maps) = proc::maps(memory.tid()) else {
            return Doubt::default();
        };
        let stack = memory.bytes(regs.sp(), STACK);
        let words = stack.as_chunks::<8>().0.iter();
        let mut places: Vec<u64> = words.map(|word| u64::from_le_bytes(*word)).collect();
        places.push(regs.ip());
        let files = backtrace::recorded(recording, event, tid);
        let mut left = MOST;
        let is_code = |map: &&Map| {
            let is_code = map.prot & libc::PROT_EXEC != 0 && !map.name.starts_with(b"[v");
            let rest = left.checked_sub(map.end - map.start).filter(|_| is_code);
            left = rest.unwrap_or(left);
            rest.is_some()
        };
        let all = maps.iter().filter(is_code).flat_map(|map| {
            let mut found = search(&memory, map, &files(map));
            for one in &mut found {
                one.near = places.iter().any(|place| place.abs_diff(one.addr) <= NEAR);
            }
            found
        });
        // Instructions that draw random numbers come first, then those near the task, then those in no file.
        let best = all.min_by_key(|found| (!found.draws, !found.near, found.file.is_some()));
        best.map(|found| Doubt(sentence(&found, recording.start().cpu)))
            .unwrap_or_default()
    }
}

fn sentence(found: &Found, cpu: u32) -> String {
    let place = match &found.file {
        Some(path) => format!("in {}", String::from_utf8_lossy(path)),
        None => "in memory that it has made executable itself".into(),
    };
    let (name, addr) = (found.name, found.addr);
    match found.draws {
        true => format!(
            "it may have drawn a number of the processor, which no recording has ({name} at {addr:#x}, {place}): record \
             it with OPENSSL_ia32cap=~0x4000000000000000:~0x40000 in its environment (OpenSSL), with a line intel-rdrand \
             in /etc/gcrypt/hwf.deny (libgcrypt), or with what else keeps it from {name}"
        ),
        false => format!(
            "it may have asked the processor what it is ({name} at {addr:#x}, {place}), whose answer is not recorded: \
             replay it on the machine where it was recorded, and there with taskset -c {cpu}"
        ),
    }
}

/// The instructions in a mapping that were not replaced.
fn search(memory: &TaskMemory, map: &Map, mapped: &Mapped) -> Vec<Found> {
    let is_file = map.inode != 0 && !map.name.starts_with(b"/memfd:");
    let code = memory.bytes(map.start, (map.end - map.start) as usize);
    // Functions of a file have been decoded.
    let decoded = mapped.file.as_ref().filter(|_| is_file).map(|file| {
        let found = backtrace::replaceable(file, map.offset, code.len() as u64);
        found.unwrap_or_default()
    });
    let (certain, doubtful) = match decoded {
        Some(found) => {
            let inside = |offset: u64| (offset - map.offset) as usize;
            let places = |offsets: Vec<u64>| offsets.into_iter().map(inside).collect();
            (places(found.certain), places(found.doubtful))
        }
        None => {
            let opcodes = OPCODES.iter();
            let places = opcodes.flat_map(|opcode| memchr::memmem::find_iter(&code, opcode));
            (Vec::new(), places.collect::<Vec<usize>>())
        }
    };
    // Instructions in memory that is shared with others cannot be replaced, and are unchanged.
    let certain = certain.into_iter().filter_map(|at: usize| {
        let instruction = Replaced::unchanged(code.get(at..)?)?;
        let draws = matches!(instruction, Replaced::Draw(_));
        Some((at, instruction.name(), draws))
    });
    let doubtful = doubtful.into_iter().filter_map(|at: usize| {
        let (name, draws) = likely(&code, at)?;
        Some((at, name, draws))
    });
    let all = certain.chain(doubtful).map(|(at, name, draws)| Found {
        name,
        draws,
        addr: map.start + at as u64,
        file: is_file.then(|| mapped.name.clone()),
        near: false,
    });
    all.collect()
}

/// The name of the instruction whose opcode is here, if the code around it belongs to one; and whether it draws a number.
fn likely(code: &[u8], at: usize) -> Option<(&'static str, bool)> {
    let before = code.get(at.saturating_sub(LEAD)..at)?;
    let has = |bytes: &[u8]| memchr::memmem::find(before, bytes).is_some();
    let instruction = Replaced::unchanged(code.get(at..)?)?;
    let is_one = match instruction {
        Replaced::Draw(draw) => {
            let behind = at + usize::try_from(draw.size()).ok()?;
            asks_for_success(code.get(behind..)?)
        }
        Replaced::Cpuid => asks_for_leaf(before),
        // xor ecx, ecx in its two forms; mov ecx, 0.
        Replaced::Xgetbv => has(&[0x31, 0xc9]) || has(&[0x33, 0xc9]) || has(&[0xb9, 0, 0, 0, 0]),
        // The opcode follows a prefix.
        Replaced::Rdpid { .. } => false,
    };
    let draws = matches!(instruction, Replaced::Draw(_));
    is_one.then_some((instruction.name(), draws))
}

/// The number of bytes before an instruction that are searched for its operands.
const LEAD: usize = 24;

/// Whether these bytes put a leaf of `cpuid` into eax: by mov or xor.
fn asks_for_leaf(before: &[u8]) -> bool {
    const MOST_LEAVES: u32 = 0x40;
    let moves = before.windows(5).any(|window| match window {
        [0xb8, rest @ ..] => {
            let leaf = rest.try_into().map_or(u32::MAX, u32::from_le_bytes);
            [0, 0x4000_0000, 0x8000_0000]
                .iter()
                .any(|range| (*range..range + MOST_LEAVES).contains(&leaf))
        }
        _ => false,
    });
    let clears = |window: &[u8]| matches!(window, [0x31 | 0x33, 0xc0]);
    moves || before.windows(2).any(clears)
}

/// Whether the code behind an instruction reads the carry flag, which says whether a number was drawn.
fn asks_for_success(code: &[u8]) -> bool {
    const MOST_BETWEEN: usize = 8;
    let mut decoder = Decoder::new(64, code, DecoderOptions::NONE);
    for _ in 0..MOST_BETWEEN {
        if !decoder.can_decode() {
            return false;
        }
        let instruction = decoder.decode();
        if instruction.is_invalid() {
            return false;
        }
        match instruction.mnemonic() {
            Mnemonic::Jb
            | Mnemonic::Jae
            | Mnemonic::Setb
            | Mnemonic::Setae
            | Mnemonic::Cmovb
            | Mnemonic::Cmovae
            | Mnemonic::Adc
            | Mnemonic::Sbb
            | Mnemonic::Rcl
            | Mnemonic::Rcr => return true,
            // Other code does not read the flag.
            Mnemonic::Jmp | Mnemonic::Call | Mnemonic::Ret | Mnemonic::Hlt | Mnemonic::Int3 => {
                return false;
            }
            _ => {}
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_are_followed_by_the_question_whether_there_was_a_number() {
        // As GNU as has it. rdrand rax; jnc back; ret
        let code = [0x48, 0x0f, 0xc7, 0xf0, 0x73, 0xfa, 0xc3];
        assert_eq!(likely(&code, 1), Some(("rdrand", true)));
        // rdseed ecx; mov [rdi], ecx; setb al; ret
        let code = [0x0f, 0xc7, 0xf9, 0x89, 0x0f, 0x0f, 0x92, 0xc0, 0xc3];
        assert_eq!(likely(&code, 0), Some(("rdseed", true)));
        // rdrand rax; ret; jnc; and bytes that are none.
        let code = [0x48, 0x0f, 0xc7, 0xf0, 0xc3, 0x73, 0xfa];
        assert_eq!(likely(&code, 1), None);
        assert_eq!(likely(&[0x0f, 0xc7, 0xf0, 0x06, 0x73, 0xfa], 0), None);
        assert_eq!(likely(&[0x0f, 0xc7, 0xf0], 0), None);
    }

    #[test]
    fn questions_about_the_processor_name_a_leaf() {
        // mov eax, 0xb; mov ecx, 1; cpuid
        let code = [0xb8, 0xb, 0, 0, 0, 0xb9, 1, 0, 0, 0, 0x0f, 0xa2];
        assert_eq!(likely(&code, 10), Some(("cpuid", false)));
        // xor eax, eax; cpuid
        assert_eq!(likely(&[0x31, 0xc0, 0x0f, 0xa2], 2), Some(("cpuid", false)));
        // mov eax, 0x12345678
        let code = [0xb8, 0x78, 0x56, 0x34, 0x12, 0x0f, 0xa2];
        assert_eq!(likely(&code, 5), None);
        assert_eq!(likely(&[0x0f, 0xa2], 0), None);
        // xor ecx, ecx; xgetbv
        let code = [0x31, 0xc9, 0x0f, 0x01, 0xd0];
        assert_eq!(likely(&code, 2), Some(("xgetbv", false)));
        assert_eq!(likely(&code[2..], 0), None);
    }

    #[test]
    fn doubts_say_what_can_be_done() {
        let mut found = Found {
            name: "rdrand",
            draws: true,
            addr: 0x1234,
            file: None,
            near: true,
        };
        let text = sentence(&found, 1);
        for part in ["rdrand at 0x1234", "itself", "OPENSSL_ia32cap", "hwf.deny"] {
            assert!(text.contains(part), "{text}");
        }
        found = Found {
            name: "cpuid",
            draws: false,
            file: Some(b"/lib/one.so".to_vec()),
            ..found
        };
        let text = sentence(&found, 1);
        assert!(
            text.contains("/lib/one.so") && text.contains("taskset -c 1"),
            "{text}"
        );
        assert_eq!(Doubt::default().to_string(), "");
        assert_eq!(Doubt(text.clone()).to_string(), format!("; {text}"));
    }
}
