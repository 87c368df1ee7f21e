//! The parts of an ELF file that backtraces need: elf(5). Every length in it is checked before memory is allocated.

use std::fs::File;
use std::os::unix::fs::FileExt;

/// The limit on the size of a section.
const MOST: u64 = 256 << 20;

const MOST_SEGMENTS: u64 = 256;
const MOST_SECTIONS: u64 = 65_536;

const SHF_COMPRESSED: u64 = 1 << 11;
const SHT_NOBITS: u32 = 8;

/// `PT_LOAD`: a part of the file that is mapped.
pub const LOAD: u32 = 1;
/// `PT_GNU_EH_FRAME`: where `.eh_frame_hdr` is.
pub const EH_FRAME: u32 = 0x6474_e550;

/// The length of an ELF file's header, in bytes.
pub const HEADER: usize = 64;

/// The source of an ELF file.
#[derive(Clone, Copy)]
pub enum Source<'a> {
    /// A file.
    File(&'a File),
    /// Its bytes.
    Bytes(&'a [u8]),
}

impl Source<'_> {
    /// Reads a range, if it is entirely there and not too large.
    pub fn read(&self, at: u64, len: u64) -> Option<Vec<u8>> {
        let end = at.checked_add(len)?;
        match self {
            Source::File(file) => {
                let all = file.metadata().ok()?.len();
                if len > MOST || end > all {
                    return None;
                }
                let mut bytes = vec![0; len as usize];
                file.read_exact_at(&mut bytes, at).ok()?;
                Some(bytes)
            }
            Source::Bytes(bytes) => bytes.get(at as usize..end as usize).map(<[u8]>::to_vec),
        }
    }
}

/// A program header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// `PT_*`.
    pub kind: u32,
    /// Its offset in the file.
    pub offset: u64,
    /// Its address before relocation.
    pub address: u64,
    /// Its length in the file.
    pub file_size: u64,
    /// Its length in memory.
    pub size: u64,
}

/// A section header.
#[derive(Clone, Debug)]
pub struct Section {
    /// Its name.
    pub name: Vec<u8>,
    /// Its address before relocation; 0 where it is not mapped.
    pub address: u64,
    kind: u32,
    flags: u64,
    offset: u64,
    size: u64,
    link: u32,
}

/// The fixed fields of a little-endian structure.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn number(&self, at: usize, len: usize) -> Option<u64> {
        let mut word = [0; 8];
        word[..len].copy_from_slice(self.0.get(at..at.checked_add(len)?)?);
        Some(u64::from_le_bytes(word))
    }

    fn half(&self, at: usize) -> Option<u64> {
        self.number(at, 2)
    }

    fn word(&self, at: usize) -> Option<u32> {
        self.number(at, 4).map(|word| word as u32)
    }

    fn long(&self, at: usize) -> Option<u64> {
        self.number(at, 8)
    }
}

/// Whether these bytes are the header of a 64-bit little-endian ELF file.
pub fn is_header(bytes: &[u8]) -> bool {
    const CLASS_64: u8 = 2;
    const LITTLE_ENDIAN: u8 = 1;
    bytes.len() >= HEADER && bytes.starts_with(&[0x7f, b'E', b'L', b'F', CLASS_64, LITTLE_ENDIAN])
}

/// The program headers, if the file's header (`e_phoff`, `e_phnum`) is one; `read` gives ranges of the file.
pub fn segments(header: &[u8], read: impl Fn(u64, u64) -> Option<Vec<u8>>) -> Option<Vec<Segment>> {
    const SIZE: usize = 56;
    if !is_header(header) {
        return None;
    }
    let header = Fields(header);
    let (at, size, count) = (header.long(32)?, header.half(54)?, header.half(56)?);
    if size != SIZE as u64 || count > MOST_SEGMENTS {
        return None;
    }
    let table = read(at, size * count)?;
    let all = table.chunks_exact(SIZE).map(|entry| {
        let entry = Fields(entry);
        Some(Segment {
            kind: entry.word(0)?,
            offset: entry.long(8)?,
            address: entry.long(16)?,
            file_size: entry.long(32)?,
            size: entry.long(40)?,
        })
    });
    all.collect()
}

/// The sections of an ELF file.
#[derive(Default)]
pub struct Elf(Vec<Section>);

impl Elf {
    /// Reads the section headers; none where they are invalid.
    pub fn read(source: Source<'_>) -> Elf {
        Elf(sections(source).unwrap_or_default())
    }

    /// The section of this name.
    pub fn section(&self, name: &str) -> Option<&Section> {
        let mut all = self.0.iter();
        all.find(|section| section.name == name.as_bytes())
    }

    /// The content of a section, decompressed.
    pub fn content(&self, source: Source<'_>, name: &str) -> Option<Vec<u8>> {
        self.section(name)?.content(source)
    }

    /// A symbol table with its string table.
    pub fn symbols(&self, source: Source<'_>, name: &str) -> Option<(Vec<u8>, Vec<u8>)> {
        let table = self.section(name)?;
        let names = self.0.get(table.link as usize)?;
        Some((table.content(source)?, names.content(source)?))
    }

    /// The build id: `NT_GNU_BUILD_ID`.
    pub fn build_id(&self, source: Source<'_>) -> Option<Vec<u8>> {
        const BUILD_ID: u32 = 3;
        let note = self.content(source, ".note.gnu.build-id")?;
        let fields = Fields(&note);
        let (name, len, kind) = (fields.word(0)?, fields.word(4)?, fields.word(8)?);
        let id = note.get(16..16usize.checked_add(len as usize)?)?;
        let is_id = name == 4 && kind == BUILD_ID && note.get(12..16)? == b"GNU\0";
        (is_id && (2..=64).contains(&id.len())).then(|| id.to_vec())
    }
}

impl Section {
    fn content(&self, source: Source<'_>) -> Option<Vec<u8>> {
        if self.kind == SHT_NOBITS {
            return None;
        }
        let bytes = source.read(self.offset, self.size)?;
        match self.flags & SHF_COMPRESSED {
            0 => Some(bytes),
            _ => unpack(&bytes),
        }
    }
}

/// Decompresses a section, which begins with an `Elf64_Chdr`.
fn unpack(bytes: &[u8]) -> Option<Vec<u8>> {
    const ZLIB: u32 = 1;
    const ZSTD: u32 = 2;
    let fields = Fields(bytes);
    let (kind, size) = (fields.word(0)?, fields.long(8)?);
    let packed = bytes.get(24..)?;
    if size > MOST {
        return None;
    }
    match kind {
        ZLIB => miniz_oxide::inflate::decompress_to_vec_zlib_with_limit(packed, size as usize).ok(),
        ZSTD => {
            use std::io::Read;
            let mut unpacked = Vec::new();
            let decoder = zstd::Decoder::new(packed).ok()?;
            decoder.take(size).read_to_end(&mut unpacked).ok()?;
            Some(unpacked)
        }
        _ => None,
    }
}

fn sections(source: Source<'_>) -> Option<Vec<Section>> {
    const SIZE: usize = 64;
    let header = source.read(0, HEADER as u64)?;
    if !is_header(&header) {
        return None;
    }
    let header = Fields(&header);
    let (at, size) = (header.long(40)?, header.half(58)?);
    let (count, names) = (header.half(60)?, header.half(62)?);
    if size != SIZE as u64 || count > MOST_SECTIONS {
        return None;
    }
    let table = source.read(at, size * count)?;
    let all = table.chunks_exact(SIZE).map(|entry| {
        let entry = Fields(entry);
        let section = Section {
            name: Vec::new(),
            kind: entry.word(4)?,
            flags: entry.long(8)?,
            address: entry.long(16)?,
            offset: entry.long(24)?,
            size: entry.long(32)?,
            link: entry.word(40)?,
        };
        Some((entry.word(0)?, section))
    });
    let mut all: Vec<(u32, Section)> = all.collect::<Option<_>>()?;
    let names = all.get(names as usize)?.1.content(source)?;
    for (at, section) in &mut all {
        section.name = string(&names, *at as usize).unwrap_or_default().to_vec();
    }
    Some(all.into_iter().map(|(_, section)| section).collect())
}

/// The string at this offset; at most 4 KiB of it.
pub fn string(table: &[u8], at: usize) -> Option<&[u8]> {
    const LONGEST: usize = 4 << 10;
    let rest = table.get(at..)?;
    let rest = &rest[..rest.len().min(LONGEST)];
    Some(&rest[..memchr::memchr(0, rest).unwrap_or(rest.len())])
}
