//! Names of functions: from symbol tables, demangled.

use super::elf::string;
use std::fmt::Write;

/// The limit on mangled and demangled names; a longer mangled name stays mangled.
const LONGEST: usize = 4 << 10;

/// The limit on the symbols of a table.
const MOST: usize = 4 << 20;

/// A function.
#[derive(Clone, Copy)]
struct Symbol {
    address: u64,
    /// The size; 0 where unknown.
    size: u64,
    name: u32,
    /// The rank of the name: a lower one is better known.
    rank: u8,
}

/// The functions of a file, by their addresses.
#[derive(Default)]
pub struct Symbols {
    all: Vec<Symbol>,
    names: Vec<u8>,
}

impl Symbols {
    /// The functions of a table (`Elf64_Sym`) with its string table.
    pub fn of((table, names): (Vec<u8>, Vec<u8>)) -> Symbols {
        const SIZE: usize = 24;
        let entries = table.as_chunks::<SIZE>().0.iter().take(MOST);
        let mut all: Vec<Symbol> = entries.filter_map(function).collect();
        all.sort_unstable_by_key(|symbol| (symbol.address, symbol.rank));
        Symbols { all, names }
    }

    /// Whether there is no function.
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// The memory that the symbols take, in bytes.
    pub fn len(&self) -> usize {
        self.all.len() * size_of::<Symbol>() + self.names.len()
    }

    /// The function at an address.
    pub fn look_up(&self, address: u64) -> Option<&[u8]> {
        /// The limit on nested functions that the search skips.
        const NESTED: usize = 16;
        let end = self.all.partition_point(|symbol| symbol.address <= address);
        let nearest = self.all.get(end.checked_sub(1)?)?.address;
        let holds = |symbol: &&Symbol| match symbol.size {
            0 => symbol.address == nearest,
            size => address - symbol.address < size,
        };
        let before = self.all[..end].iter().rev().take(NESTED);
        let mut found: Option<&Symbol> = None;
        for symbol in before.filter(holds) {
            match found {
                // Of functions at the same address the first, which comes last here.
                Some(known) if known.address != symbol.address => break,
                Some(known) if known.size != 0 && symbol.size == 0 => {}
                _ => found = Some(symbol),
            }
        }
        let name = string(&self.names, found?.name as usize)?;
        (!name.is_empty()).then_some(name)
    }
}

fn function(entry: &[u8; 24]) -> Option<Symbol> {
    const NO_TYPE: u8 = 0;
    const FUNCTION: u8 = 2;
    const INDIRECT: u8 = 10;
    let number = |at: usize| {
        let mut word = [0; 8];
        word.copy_from_slice(&entry[at..at + 8]);
        u64::from_le_bytes(word)
    };
    let head = number(0);
    let (name, info, section) = (head as u32, (head >> 32) as u8, (head >> 48) as u16);
    let kind = match info & 0xf {
        FUNCTION | INDIRECT => 0,
        NO_TYPE => 3,
        _ => return None,
    };
    let binding = match info >> 4 {
        1 => 0,
        2 => 1,
        _ => 2,
    };
    (section != 0 && name != 0).then(|| Symbol {
        address: number(8),
        size: number(16),
        name,
        rank: kind + binding,
    })
}

/// Whether a name is a qualified one of C++ or Rust.
pub fn is_mangled(name: &[u8]) -> bool {
    name.starts_with(b"_Z") || name.starts_with(b"_R")
}

/// Demangles a name of C++ or Rust; other names stay.
pub fn pretty(name: &[u8]) -> String {
    let plain = || String::from_utf8_lossy(name).into_owned();
    let mut text = match std::str::from_utf8(name) {
        Ok(text) if name.len() <= LONGEST => demangle(text).unwrap_or_else(plain),
        _ => plain(),
    };
    cut(&mut text);
    harmless(text)
}

/// Text without control characters.
pub fn harmless(text: String) -> String {
    if !text.contains(char::is_control) {
        return text;
    }
    let shown = |c: char| if c.is_control() { '?' } else { c };
    text.chars().map(shown).collect()
}

fn cut(text: &mut String) {
    let mut ends = (0..=LONGEST.min(text.len())).rev();
    let end = ends.find(|&end| text.is_char_boundary(end));
    text.truncate(end.unwrap_or(0));
}

fn demangle(name: &str) -> Option<String> {
    let mut text = Bounded::default();
    if let Ok(rust) = rustc_demangle::try_demangle(name) {
        // Without the hash.
        write!(text, "{rust:#}").ok()?;
    } else if name.starts_with("_Z") {
        let symbol = cpp_demangle::BorrowedSymbol::new(name.as_bytes()).ok()?;
        let options = cpp_demangle::DemangleOptions::new();
        symbol.structured_demangle(&mut text, &options).ok()?;
    } else {
        return None;
    }
    Some(text.0)
}

/// A text of limited length: short mangled names may stand for very long ones.
#[derive(Default)]
struct Bounded(String);

impl Write for Bounded {
    fn write_str(&mut self, part: &str) -> std::fmt::Result {
        if self.0.len() + part.len() > LONGEST {
            return Err(std::fmt::Error);
        }
        self.0.push_str(part);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_shown_as_their_language_has_them() {
        let names = [
            ("main", "main"),
            ("_ZN3foo3barEi", "foo::bar(int)"),
            (
                "_ZN4core3fmt9Formatter9write_str17h0123456789abcdefE",
                "core::fmt::Formatter::write_str",
            ),
            ("_RNvC6_123foo3bar", "123foo::bar"),
            ("_Z", "_Z"),
            ("a\x1b[31mb", "a?[31mb"),
        ];
        for (name, shown) in names {
            assert_eq!(pretty(name.as_bytes()), shown);
        }
    }

    #[test]
    fn short_names_of_long_ones_stay_short() {
        // Each template argument is the pair of the one before.
        let mut name = String::from("_Z1fISt4pairIiiE");
        for step in 0..60 {
            let last = match step {
                0 => String::from("S0_"),
                n => format!(
                    "S{}_",
                    char::from_digit(n % 36, 36).unwrap().to_ascii_uppercase()
                ),
            };
            name += &format!("St4pairI{last}{last}E");
        }
        name += "EvT_";
        assert!(pretty(name.as_bytes()).len() <= LONGEST);
        assert!(pretty(&[b'_'; 100_000]).len() <= LONGEST);
        assert!(pretty(&[0xff; 5000]).len() <= LONGEST);
    }

    #[test]
    fn the_function_that_holds_an_address_is_found() {
        let entry = |name: u32, info: u8, address: u64, size: u64| {
            let mut entry = name.to_le_bytes().to_vec();
            entry.extend([info, 0, 1, 0]);
            entry.extend(address.to_le_bytes());
            entry.extend(size.to_le_bytes());
            entry
        };
        const GLOBAL: u8 = 0x12;
        const LOCAL: u8 = 0x02;
        const LABEL: u8 = 0x00;
        const DATA: u8 = 0x11;
        let table = [
            entry(1, GLOBAL, 0x100, 0x40),
            entry(3, LOCAL, 0x100, 0x40),
            entry(5, LOCAL, 0x110, 0x10),
            entry(7, LABEL, 0x200, 0),
            entry(9, DATA, 0x180, 0x40),
            entry(9999, GLOBAL, 0x300, 8),
        ];
        let names = b"\0a\0b\0c\0d\0e\0".to_vec();
        let symbols = Symbols::of((table.concat(), names));
        for (address, name) in [
            (0xff, None),
            (0x100, Some("a")),
            (0x115, Some("c")),
            (0x120, Some("a")),
            (0x13f, Some("a")),
            (0x140, None),
            (0x190, None),
            (0x280, Some("d")),
            (0x302, None),
        ] {
            let found = symbols.look_up(address);
            assert_eq!(found, name.map(str::as_bytes), "{address:#x}");
        }
    }
}
