//! The application binary interfaces (ABIs) of a machine, and their word sizes.

/// The ABI to which numbers, names and structures belong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Abi {
    /// 64-bit programs on x86-64.
    X86_64,
    /// 32-bit programs on x86: `int 0x80`, and the `ia32` entries of a 64-bit kernel.
    I386,
}

impl Abi {
    /// All ABIs.
    pub const ALL: &'static [Abi] = &[Abi::X86_64, Abi::I386];

    /// The size of a pointer, a long and a register, in bytes.
    pub const fn word(self) -> usize {
        match self {
            Abi::X86_64 => 8,
            Abi::I386 => 4,
        }
    }

    /// The greatest alignment of a structure's member, in bytes: on i386, 64-bit numbers are aligned to four (System V
    /// ABI, Intel386 supplement).
    pub(crate) const fn most_align(self) -> usize {
        self.word()
    }

    /// The contents of a register that holds this number.
    pub(crate) const fn register(self, raw: u64) -> u64 {
        match self {
            Abi::X86_64 => raw,
            Abi::I386 => raw & 0xffff_ffff,
        }
    }
}
