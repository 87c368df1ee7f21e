//! The agent: code and scratch memory mapped into every traced process at a fixed address, from which rrapper makes
//! calls in the process.
//!
//! The first page holds `syscall; int3`: a remote call costs two resumptions, one to its entry and one to its exit, or,
//! where no filter stops it at its entry, one to the trap behind it. Writable pages for the arguments of such calls
//! follow. The recorder maps the agent into each recorded program, so that the kernel never gives out the range and
//! replay finds it free.

/// The agent's address: below every randomised mapping, above the code of programs with fixed addresses; rr reserves
/// the same range for the same purpose.
pub const START: u64 = 0x7000_0000;

/// One past its last byte.
pub const END: u64 = START + CODE_LEN + SCRATCH_LEN;

/// The size of the code page.
pub const CODE_LEN: u64 = 0x1000;

/// The address of the `syscall` instruction.
pub const SYSCALL: u64 = START + CODE_OFFSET as u64;

/// The instruction pointer behind the `int3`.
pub const AFTER_TRAP: u64 = SYSCALL + CODE.len() as u64;

/// Writable memory for the arguments of remote calls.
pub const SCRATCH: u64 = START + CODE_LEN;

/// The size of the scratch memory, in bytes.
pub const SCRATCH_LEN: u64 = 0x4000;

/// `syscall; int3`.
pub const CODE: [u8; 3] = [0x0f, 0x05, 0xcc];

/// `syscall`.
pub const SYSCALL_CODE: [u8; 2] = [0x0f, 0x05];

/// The address at which calls through the vsyscall page are made instead, since those could neither be restarted nor
/// have an exit.
pub const VSYSCALL: u64 = START + VSYSCALL_OFFSET as u64;

/// `syscall; ret`.
const VSYSCALL_CODE: [u8; 3] = [0x0f, 0x05, 0xc3];

const CODE_OFFSET: usize = 0x200;
const VSYSCALL_OFFSET: usize = 0x240;

/// The part of the first page behind the code, and its size in bytes: for arguments of calls that a live process must not
/// change while the kernel reads them (see [`super::agent_page`]).
pub(super) const FIXED: (u64, u64) = (START + 0x400, CODE_LEN - 0x400);

/// The first page of a live process.
pub(super) fn page() -> Vec<u8> {
    let mut page = vec![0; CODE_LEN as usize];
    page[CODE_OFFSET..][..CODE.len()].copy_from_slice(&CODE);
    page[VSYSCALL_OFFSET..][..VSYSCALL_CODE.len()].copy_from_slice(&VSYSCALL_CODE);
    page
}

/// Writes the agent's code into its first page, which is at `page` now.
///
/// # Errors
/// If the page cannot be written.
pub fn write_code(memory: super::TaskMemory, page: u64) -> super::Result<()> {
    memory.write(page + CODE_OFFSET as u64, &CODE)?;
    memory.write(page + VSYSCALL_OFFSET as u64, &VSYSCALL_CODE)
}

/// Whether a range touches the agent.
pub fn overlaps(start: u64, end: u64) -> bool {
    start < END && end > START
}

/// Whether a range of this length touches the agent.
pub fn is_touched(start: u64, len: u64) -> bool {
    overlaps(start, start.saturating_add(len))
}

/// Whether a call that changes mappings and returns `ret` would touch the agent.
pub fn is_touched_by(call: &str, args: &[u64; 6], ret: i64) -> bool {
    let [addr, len, new_len, ..] = *args;
    match call {
        "mmap" => is_touched(ret as u64, len),
        // An empty old range stands for the whole mapping.
        "mremap" => is_touched(addr, len.max(1)) || is_touched(ret as u64, new_len),
        "munmap" | "mprotect" | "pkey_mprotect" | "madvise" => is_touched(addr, len),
        "shmdt" => is_touched(addr, 1),
        _ => false,
    }
}

/// A static ELF program that consists of the agent alone: images are restored into its process.
pub fn elf() -> Vec<u8> {
    const EHDR: usize = 64;
    const PHDR: usize = 56;
    let mut elf = vec![0u8; CODE_LEN as usize];
    let mut put = |at: usize, bytes: &[u8]| elf[at..at + bytes.len()].copy_from_slice(bytes);
    // ELF header, elf(5): 64-bit, little-endian, ET_EXEC, EM_X86_64.
    put(0, b"\x7fELF\x02\x01\x01");
    put(16, &2u16.to_le_bytes());
    put(18, &62u16.to_le_bytes());
    put(20, &1u32.to_le_bytes());
    put(24, &SYSCALL.to_le_bytes());
    put(32, &(EHDR as u64).to_le_bytes());
    put(52, &(EHDR as u16).to_le_bytes());
    put(54, &(PHDR as u16).to_le_bytes());
    put(56, &3u16.to_le_bytes());
    // Program headers: type, flags, offset, vaddr, paddr, filesz, memsz, align.
    let mut segment = |i: usize, kind: u32, flags: u32, addr: u64, filesz: u64, memsz: u64| {
        let at = EHDR + i * PHDR;
        put(at, &kind.to_le_bytes());
        put(at + 4, &flags.to_le_bytes());
        put(at + 16, &addr.to_le_bytes());
        put(at + 24, &addr.to_le_bytes());
        put(at + 32, &filesz.to_le_bytes());
        put(at + 40, &memsz.to_le_bytes());
        put(at + 48, &0x1000u64.to_le_bytes());
    };
    const PT_LOAD: u32 = 1;
    const PT_GNU_STACK: u32 = 0x6474_e551;
    const X: u32 = 1;
    const W: u32 = 2;
    const R: u32 = 4;
    segment(0, PT_LOAD, R | X, START, CODE_LEN, CODE_LEN);
    segment(1, PT_LOAD, R | W, SCRATCH, 0, SCRATCH_LEN);
    segment(2, PT_GNU_STACK, R | W, 0, 0, 0);
    put(CODE_OFFSET, &CODE);
    put(VSYSCALL_OFFSET, &VSYSCALL_CODE);
    elf
}
