//! A task's general registers, in the terms of the x86-64 system call interface.

use crate::constants::Answer;

/// All general registers of a stopped task.
#[derive(Clone, Copy)]
pub struct Regs(pub(super) libc::user_regs_struct);

/// The number of words in [`Regs`].
pub const WORDS: usize = size_of::<libc::user_regs_struct>() / 8;

/// The code segment of 64-bit code.
const USER_CS: u64 = 0x33;
/// Which of the words has the flags.
const EFLAGS: usize = 18;

/// The return value of a call that `restart_syscall` continues, visible to tracers only: `-ERESTART_RESTARTBLOCK`.
pub const RESTART_BLOCK: i64 = -516;

/// The length of the `syscall` instruction, in bytes.
pub const SYSCALL_LEN: u64 = 2;

impl Regs {
    /// The call that is being entered, or -1 where there is none.
    pub fn nr(&self) -> i64 {
        self.0.orig_rax as i64
    }

    /// The six arguments of a call: rdi, rsi, rdx, r10, r8, r9.
    pub fn args(&self) -> [u64; 6] {
        let r = &self.0;
        [r.rdi, r.rsi, r.rdx, r.r10, r.r8, r.r9]
    }

    /// Sets the six arguments.
    pub fn set_args(&mut self, args: [u64; 6]) {
        let r = &mut self.0;
        [r.rdi, r.rsi, r.rdx, r.r10, r.r8, r.r9] = args;
    }

    /// The return value: negative is -errno.
    pub fn ret(&self) -> i64 {
        self.0.rax as i64
    }

    /// Sets the return value.
    pub fn set_ret(&mut self, ret: i64) {
        self.0.rax = ret as u64;
    }

    /// At a call's entry: the kernel makes no call, and the task gets this answer ([`Answer::Never`] leaves the register).
    pub fn answer(&mut self, answer: impl Into<Answer>) {
        self.0.orig_rax = u64::MAX;
        if let Some(raw) = answer.into().raw() {
            self.0.rax = raw as u64;
        }
    }

    /// At a call's entry: makes another call instead.
    pub fn set_nr(&mut self, nr: u64) {
        self.0.orig_rax = nr;
    }

    /// Goes back to just before the `syscall` instruction, so that call `nr` is made again.
    pub fn rewind(&mut self, nr: u64) {
        self.0.rip = self.0.rip.wrapping_sub(SYSCALL_LEN);
        self.0.rax = nr;
        self.0.orig_rax = u64::MAX;
    }

    /// At a call's exit: sets the call's number and its result, so that the kernel restarts the call or lets a signal
    /// interrupt it if the result is a restart code (-512 to -516).
    pub fn interrupt(&mut self, nr: u64, code: i64) {
        self.0.orig_rax = nr;
        self.0.rax = code as u64;
    }

    /// The instruction pointer.
    pub fn ip(&self) -> u64 {
        self.0.rip
    }

    /// Sets the instruction pointer, outside of any call.
    pub fn set_ip(&mut self, ip: u64) {
        self.0.rip = ip;
        self.0.orig_rax = u64::MAX;
    }

    /// Whether they run 64-bit code.
    pub fn is_native(&self) -> bool {
        self.0.cs == USER_CS
    }

    /// The registers for running 64-bit code at `ip`, whatever code segment and flags the program has set.
    pub fn plain_at(mut self, ip: u64) -> Regs {
        const USER_SS: u64 = 0x2b;
        // Interrupts, and the bit that is always set.
        const FLAGS: u64 = 0x202;
        self.set_ip(ip);
        (self.0.cs, self.0.ss, self.0.eflags) = (USER_CS, USER_SS, FLAGS);
        self
    }

    /// The flags.
    pub fn flags(&self) -> u64 {
        self.0.eflags
    }

    /// Sets the flags.
    pub fn set_flags(&mut self, flags: u64) {
        self.0.eflags = flags;
    }

    /// The base of the fs segment (thread-local storage).
    pub fn fs_base(&self) -> u64 {
        self.0.fs_base
    }

    /// The base of the gs segment.
    pub fn gs_base(&self) -> u64 {
        self.0.gs_base
    }

    /// Sets the base of the fs segment (thread-local storage).
    pub fn set_fs_base(&mut self, base: u64) {
        self.0.fs_base = base;
    }

    /// Sets the base of the gs segment.
    pub fn set_gs_base(&mut self, base: u64) {
        self.0.gs_base = base;
    }

    /// Whether a task executed no instruction between these registers and the registers `now`.
    pub fn is_same_place(&self, now: &Regs) -> bool {
        let without_call = |regs: &Regs| {
            let mut regs = *regs;
            regs.set_ip(regs.ip());
            regs.to_words()
        };
        without_call(self) == without_call(now)
    }

    /// Whether a program cannot distinguish these registers from the others.
    pub fn look_like(&self, others: &Regs) -> bool {
        self.differing(others).is_empty()
    }

    /// The words in which the registers visible to a program differ, and the differences; flags are not compared.
    pub fn changed_since(&self, before: &Regs) -> Vec<(usize, u64)> {
        let mut changed = self.differing(before);
        changed.retain(|&(word, _)| word != EFLAGS);
        changed
    }

    fn differing(&self, before: &Regs) -> Vec<(usize, u64)> {
        let (now, before) = (self.as_seen().to_words(), before.as_seen().to_words());
        let words = now.into_iter().zip(before).enumerate();
        words
            .filter(|(_, (now, before))| now != before)
            .map(|(word, (now, before))| (word, now.wrapping_sub(before)))
            .collect()
    }

    /// The registers without the traces of a debugger: the number of the last call, and the trap and resume flags.
    fn as_seen(&self) -> Regs {
        const TRAP: u64 = 1 << 8;
        const RESUME: u64 = 1 << 16;
        let mut regs = *self;
        regs.set_ip(regs.ip());
        regs.0.eflags &= !(TRAP | RESUME);
        regs
    }

    /// The stack pointer.
    pub fn sp(&self) -> u64 {
        self.0.rsp
    }

    /// Sets the stack pointer.
    pub fn set_sp(&mut self, sp: u64) {
        self.0.rsp = sp;
    }

    /// Sets the result of an `rdtsc` or `rdtscp` (edx:eax, and ecx for the latter).
    pub fn set_tsc(&mut self, tsc: u64, aux: Option<u32>) {
        self.set_wide(tsc);
        if let Some(aux) = aux {
            self.0.rcx = u64::from(aux);
        }
    }

    /// Sets edx:eax.
    pub fn set_wide(&mut self, value: u64) {
        self.0.rax = value & 0xffff_ffff;
        self.0.rdx = value >> 32;
    }

    /// A general register, by the number that instructions have for it.
    pub fn register(&self, number: u8) -> u64 {
        let r = &self.0;
        let all = [
            r.rax, r.rcx, r.rdx, r.rbx, r.rsp, r.rbp, r.rsi, r.rdi, r.r8, r.r9, r.r10, r.r11,
            r.r12, r.r13, r.r14, r.r15,
        ];
        all[usize::from(number & 15)]
    }

    /// Sets a general register, by the number that instructions have for it.
    pub fn set_register(&mut self, number: u8, value: u64) {
        let r = &mut self.0;
        let all = [
            &mut r.rax, &mut r.rcx, &mut r.rdx, &mut r.rbx, &mut r.rsp, &mut r.rbp, &mut r.rsi,
            &mut r.rdi, &mut r.r8, &mut r.r9, &mut r.r10, &mut r.r11, &mut r.r12, &mut r.r13,
            &mut r.r14, &mut r.r15,
        ];
        if let Some(register) = all.into_iter().nth(usize::from(number & 15)) {
            *register = value;
        }
    }

    /// Sets the carry flag and clears the other arithmetic flags.
    pub fn set_carry_alone(&mut self) {
        const CARRY: u64 = 1;
        const ARITHMETIC: u64 = 0x8d5;
        self.0.eflags = self.0.eflags & !ARITHMETIC | CARRY;
    }

    /// The arguments of a `cpuid`: eax and ecx.
    pub fn cpuid_arguments(&self) -> (u32, u32) {
        (self.0.rax as u32, self.0.rcx as u32)
    }

    /// Sets the result of a `cpuid`: eax, ebx, ecx and edx.
    pub fn set_cpuid(&mut self, [eax, ebx, ecx, edx]: [u32; 4]) {
        self.0.rax = u64::from(eax);
        self.0.rbx = u64::from(ebx);
        self.0.rcx = u64::from(ecx);
        self.0.rdx = u64::from(edx);
    }

    /// The registers as words, in the order of the kernel's `struct user_regs_struct`.
    pub fn to_words(&self) -> [u64; WORDS] {
        let r = &self.0;
        [
            r.r15, r.r14, r.r13, r.r12, r.rbp, r.rbx, r.r11, r.r10, r.r9, r.r8, r.rax, r.rcx,
            r.rdx, r.rsi, r.rdi, r.orig_rax, r.rip, r.cs, r.eflags, r.rsp, r.ss, r.fs_base,
            r.gs_base, r.ds, r.es, r.fs, r.gs,
        ]
    }

    /// The inverse of [`Regs::to_words`].
    pub fn from_words(w: [u64; WORDS]) -> Regs {
        Regs(libc::user_regs_struct {
            r15: w[0],
            r14: w[1],
            r13: w[2],
            r12: w[3],
            rbp: w[4],
            rbx: w[5],
            r11: w[6],
            r10: w[7],
            r9: w[8],
            r8: w[9],
            rax: w[10],
            rcx: w[11],
            rdx: w[12],
            rsi: w[13],
            rdi: w[14],
            orig_rax: w[15],
            rip: w[16],
            cs: w[17],
            eflags: w[18],
            rsp: w[19],
            ss: w[20],
            fs_base: w[21],
            gs_base: w[22],
            ds: w[23],
            es: w[24],
            fs: w[25],
            gs: w[26],
        })
    }

    /// The registers by their names, for messages and scripts.
    pub fn named(&self) -> [(&'static str, u64); 18] {
        let r = &self.0;
        [
            ("rax", r.rax),
            ("rbx", r.rbx),
            ("rcx", r.rcx),
            ("rdx", r.rdx),
            ("rsi", r.rsi),
            ("rdi", r.rdi),
            ("rbp", r.rbp),
            ("rsp", r.rsp),
            ("r8", r.r8),
            ("r9", r.r9),
            ("r10", r.r10),
            ("r11", r.r11),
            ("r12", r.r12),
            ("r13", r.r13),
            ("r14", r.r14),
            ("r15", r.r15),
            ("rip", r.rip),
            ("eflags", r.eflags),
        ]
    }
}

impl std::fmt::Debug for Regs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_map()
            .entries(self.named().map(|(n, v)| (n, format!("{v:#x}"))))
            .finish()
    }
}
