//! Searches programs' files for replaceable instructions (see
//! [`tracee::replaced_instructions`](crate::tracee::replaced_instructions)): certain and possible ones.

use super::elf::{Elf, Source};
use super::functions::Functions;
use crate::tracee::replaced_instructions::{OPCODES, Replaced};
use iced_x86::{Decoder, DecoderOptions, Mnemonic};
use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;

/// The limit on the code of one mapping.
const MOST_CODE: u64 = 512 << 20;

/// The size of the part of a file that is searched at once.
const BLOCK: usize = 64 << 10;

/// The limit on the length of decoded functions.
const LONGEST_FUNCTION: u64 = 4 << 20;

/// The offsets of replaceable instructions in a file, rising.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Replaceable {
    /// Certain instructions: decoding their functions reaches them.
    pub certain: Vec<u64>,
    /// Possible instructions: matching bytes outside of known functions.
    pub doubtful: Vec<u64>,
}

/// Searches a part of a file; `None` where it cannot be read.
pub fn replaceable(file: &File, offset: u64, len: u64) -> Option<Replaceable> {
    if len > MOST_CODE {
        return None;
    }
    let suspects = suspects(file, offset..offset.checked_add(len)?)?;
    let mut found = Replaceable::default();
    if suspects.is_empty() {
        return Some(found);
    }
    let functions = Functions::of(file);
    let mut rest = suspects.as_slice();
    while let Some(&first) = rest.first() {
        let function = functions.as_ref().and_then(|all| all.at(first));
        let Some(function) = function.filter(|f| f.end - f.start <= LONGEST_FUNCTION) else {
            found.doubtful.push(first);
            rest = &rest[1..];
            continue;
        };
        let (inside, others) = rest.split_at(rest.partition_point(|at| *at < function.end));
        let last = inside.last().copied().unwrap_or(first);
        let end = decode(file, &function, last, &mut found.certain)?;
        found
            .doubtful
            .extend(inside.iter().filter(|at| **at >= end));
        rest = others;
    }
    let part = offset..offset + len;
    found.certain.retain(|at| part.contains(at));
    found.certain.sort_unstable();
    Some(found)
}

/// The offsets in a part of a file of bytes that match the opcode of a replaceable instruction.
fn suspects(file: &File, part: Range<u64>) -> Option<Vec<u64>> {
    // The number of bytes compared behind the first one.
    const OVERLAP: usize = 2;
    let mut block = vec![0; BLOCK + OVERLAP];
    let mut all = Vec::new();
    for at in part.clone().step_by(BLOCK) {
        let len = (part.end - at).min(block.len() as u64) as usize;
        let bytes = &mut block[..len];
        file.read_exact_at(bytes, at).ok()?;
        for opcode in OPCODES {
            let places = memchr::memmem::find_iter(bytes, &opcode).take_while(|at| *at < BLOCK);
            let likely = places.filter(|place| Replaced::unchanged(&bytes[*place..]).is_some());
            all.extend(likely.map(|place| at + place as u64));
        }
    }
    all.sort_unstable();
    Some(all)
}

/// Decodes a function up to `last` and collects replaceable instructions. Returns the end of the decoded instructions.
fn decode(file: &File, function: &Range<u64>, last: u64, certain: &mut Vec<u64>) -> Option<u64> {
    let mut code = vec![0; (function.end - function.start) as usize];
    file.read_exact_at(&mut code, function.start).ok()?;
    let mut decoder = Decoder::with_ip(64, &code, function.start, DecoderOptions::NONE);
    while decoder.can_decode() && decoder.ip() <= last {
        let instruction = decoder.decode();
        if instruction.is_invalid() {
            return Some(instruction.ip());
        }
        let bytes = &code[(instruction.ip() - function.start) as usize..];
        if is_replaced(instruction.mnemonic())
            && Replaced::unchanged(bytes).is_some_and(|r| r.size() == instruction.len() as u64)
        {
            certain.push(instruction.ip());
        }
    }
    Some(function.end)
}

fn is_replaced(mnemonic: Mnemonic) -> bool {
    matches!(
        mnemonic,
        Mnemonic::Cpuid | Mnemonic::Rdrand | Mnemonic::Rdseed | Mnemonic::Xgetbv | Mnemonic::Rdpid
    )
}

/// Whether a file is a dynamic linker: a program without an interpreter that loads others for direct execution.
pub fn is_dynamic_linker(file: &File) -> bool {
    // Threads call this function for thread-local variables.
    const DEFINES: &[u8] = b"__tls_get_addr\0";
    const SIZE: usize = 24;
    let source = Source::File(file);
    let symbols = Elf::read(source).symbols(source, ".dynsym");
    let Some((table, names)) = symbols else {
        return false;
    };
    // `Elf64_Sym`: the offset of its name; its section, 0 where it is defined in another file.
    table.as_chunks::<SIZE>().0.iter().any(|entry| {
        let name = u32::from_le_bytes([entry[0], entry[1], entry[2], entry[3]]);
        let is_defined = entry[6..8] != [0, 0];
        is_defined
            && names
                .get(name as usize..)
                .is_some_and(|name| name.starts_with(DEFINES))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::arch::asm;

    #[inline(never)]
    extern "C" fn draws() -> u64 {
        let number: u64;
        // SAFETY: it is never executed; and if it were, it would only fault.
        unsafe { asm!("rdrand {}", out(reg) number) };
        number
    }

    fn mapped(function: *const ()) -> (u64, u64, u64) {
        let maps = crate::tracee::proc::maps(std::process::id() as i32).unwrap();
        let map = maps.iter().find(|map| map.holds(function as u64)).unwrap();
        let at = map.offset + (function as u64 - map.start);
        (at, map.offset, map.end - map.start)
    }

    #[test]
    fn what_is_in_functions_is_found_and_what_is_beside_is_not() {
        let (at, offset, len) = mapped(draws as *const ());
        let file = File::open("/proc/self/exe").unwrap();
        let len = len.min(file.metadata().unwrap().len() - offset);
        let found = replaceable(&file, offset, len).unwrap();
        assert!(found.certain.is_sorted());
        assert!(
            found
                .certain
                .iter()
                .any(|there| (at..at + 64).contains(there))
        );
        // An instruction outside of the searched part.
        let none = replaceable(&file, at + 64, 0).unwrap();
        assert_eq!(none, Replaceable::default());
        assert_eq!(replaceable(&file, u64::MAX, 1), None);
    }

    #[test]
    fn bytes_without_a_function_are_doubtful() {
        let mut file = tempfile::tempfile().unwrap();
        let mut code = vec![0x90; BLOCK - 1];
        // Across two blocks.
        code.extend([0x0f, 0xc7, 0xf0, 0x0f, 0xc7, 0x08]);
        std::io::Write::write_all(&mut file, &code).unwrap();
        let found = replaceable(&file, 0, code.len() as u64).unwrap();
        let doubtful = vec![BLOCK as u64 - 1];
        let expected = Replaceable {
            certain: vec![],
            doubtful,
        };
        assert_eq!(found, expected);
    }

    #[test]
    fn dynamic_linkers_are_told_from_programs() {
        let maps = crate::tracee::proc::maps(std::process::id() as i32).unwrap();
        let linker = maps.iter().find(|map| {
            let name = String::from_utf8_lossy(&map.name);
            name.contains("/ld-") || name.contains("/ld.so")
        });
        let linker = String::from_utf8(linker.unwrap().name.clone()).unwrap();
        assert!(is_dynamic_linker(&File::open(linker).unwrap()));
        assert!(!is_dynamic_linker(&File::open("/proc/self/exe").unwrap()));
    }
}
