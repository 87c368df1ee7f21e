//! The raw calls: ptrace(2) and wait(2), each wrapped once.

use super::{Error, Result, watchdog};
use std::ffi::c_void;
use std::mem::MaybeUninit;

/// Set in the stop signal of a syscall stop (`PTRACE_O_TRACESYSGOOD`).
pub const SYSCALL_STOP: i32 = libc::SIGTRAP | 0x80;

pub const OPTIONS: i32 = libc::PTRACE_O_TRACESYSGOOD
    | libc::PTRACE_O_TRACEEXEC
    | libc::PTRACE_O_TRACESECCOMP
    | libc::PTRACE_O_TRACEFORK
    | libc::PTRACE_O_TRACEVFORK
    | libc::PTRACE_O_TRACECLONE
    | libc::PTRACE_O_EXITKILL;

/// The kernel's `siginfo_t` of a signal-delivery stop, as bytes.
#[derive(Clone, Copy)]
pub struct SigInfo(pub [u8; 128]);

impl SigInfo {
    fn int(&self, at: usize) -> i32 {
        i32::from_ne_bytes([self.0[at], self.0[at + 1], self.0[at + 2], self.0[at + 3]])
    }

    /// `si_signo`.
    pub fn signal(&self) -> i32 {
        self.int(0)
    }

    /// `si_code`: positive where the kernel raised the signal because of the task's own action.
    pub fn code(&self) -> i32 {
        self.int(8)
    }

    /// `si_pid`: the sending process; 0 for the kernel.
    pub fn sender(&self) -> i32 {
        match self.code() {
            code if code > 0 => 0,
            libc::SI_TIMER => 0,
            _ => self.int(16),
        }
    }

    /// `si_addr`, of a fault.
    pub fn address(&self) -> u64 {
        let mut word = [0; 8];
        word.copy_from_slice(&self.0[16..24]);
        u64::from_ne_bytes(word)
    }

    /// Whether the kernel sent the signal because of a resource limit of this process. (It says that the process itself
    /// sent a SIGXFSZ: `generic_write_check_limits` in fs/read_write.c.)
    pub fn is_of_limit(&self, pid: i32) -> bool {
        const SI_PID: usize = 16;
        match (self.signal(), self.code()) {
            (libc::SIGXCPU | libc::SIGXFSZ, libc::SI_KERNEL) => true,
            (libc::SIGXFSZ, libc::SI_USER) => self.int(SI_PID) == pid,
            _ => false,
        }
    }

    /// Whether an instruction of the task raised the signal: a fault.
    pub fn is_fault(&self) -> bool {
        matches!(
            self.signal(),
            libc::SIGSEGV | libc::SIGBUS | libc::SIGILL | libc::SIGFPE | libc::SIGTRAP
        ) && self.code() > 0
    }
}

impl std::fmt::Debug for SigInfo {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SigInfo(signal {}, code {})", self.signal(), self.code())
    }
}

fn request(
    what: &'static str,
    request: libc::c_uint,
    tid: i32,
    addr: usize,
    data: *mut c_void,
) -> Result<()> {
    // SAFETY: each caller passes as `data` either a number or a pointer to memory of the
    // size that this request reads or writes, alive for the call.
    let r = unsafe { libc::ptrace(request, tid, addr as *mut c_void, data) };
    if r < 0 {
        return Err(Error::last(what, tid));
    }
    Ok(())
}

pub fn seize(tid: i32) -> Result<()> {
    let options = OPTIONS as usize as *mut c_void;
    request("trace it", libc::PTRACE_SEIZE, tid, 0, options)
}

pub fn set_options(tid: i32, options: i32) -> Result<()> {
    let options = options as usize as *mut c_void;
    request("trace it", libc::PTRACE_SETOPTIONS, tid, 0, options)
}

pub fn resume(request_nr: libc::c_uint, tid: i32, signal: i32) -> Result<()> {
    request(
        "resume it",
        request_nr,
        tid,
        0,
        signal as usize as *mut c_void,
    )
}

pub fn getregs(tid: i32) -> Result<libc::user_regs_struct> {
    let mut regs = MaybeUninit::<libc::user_regs_struct>::uninit();
    request(
        "read its registers",
        libc::PTRACE_GETREGS,
        tid,
        0,
        regs.as_mut_ptr().cast(),
    )?;
    // SAFETY: PTRACE_GETREGS succeeded, so the kernel filled the structure.
    Ok(unsafe { regs.assume_init() })
}

pub fn setregs(tid: i32, regs: &libc::user_regs_struct) -> Result<()> {
    let data = std::ptr::from_ref(regs).cast_mut().cast();
    request("set its registers", libc::PTRACE_SETREGS, tid, 0, data)
}

/// Sets a word of a task's `struct user`, by its offset.
pub fn poke_user(tid: i32, offset: usize, word: u64) -> Result<()> {
    let data = word as usize as *mut c_void;
    let what = "set a debug register of it";
    request(what, libc::PTRACE_POKEUSER, tid, offset, data)
}

pub fn event_message(tid: i32) -> Result<u64> {
    let mut message: libc::c_ulong = 0;
    let data = (&raw mut message).cast();
    request(
        "read its event message",
        libc::PTRACE_GETEVENTMSG,
        tid,
        0,
        data,
    )?;
    Ok(message)
}

pub fn siginfo(tid: i32) -> Result<SigInfo> {
    let mut info = SigInfo([0; 128]);
    let data = info.0.as_mut_ptr().cast();
    request("read its signal", libc::PTRACE_GETSIGINFO, tid, 0, data)?;
    Ok(info)
}

pub fn set_siginfo(tid: i32, info: &SigInfo) -> Result<()> {
    let data = info.0.as_ptr().cast_mut().cast();
    request("set its signal", libc::PTRACE_SETSIGINFO, tid, 0, data)
}

pub fn sigmask(tid: i32) -> Result<u64> {
    let mut mask = 0u64;
    let data = (&raw mut mask).cast();
    request(
        "read its signal mask",
        libc::PTRACE_GETSIGMASK,
        tid,
        size_of::<u64>(),
        data,
    )?;
    Ok(mask)
}

pub fn set_sigmask(tid: i32, mask: u64) -> Result<()> {
    let mut mask = mask;
    let data = (&raw mut mask).cast();
    request(
        "set its signal mask",
        libc::PTRACE_SETSIGMASK,
        tid,
        size_of::<u64>(),
        data,
    )
}

/// The result of [`wait_any`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AnyWait {
    /// The status of this task has changed.
    Task(i32, i32),
    /// No task has changed its status.
    Nothing,
    /// A signal to rrapper interrupted the wait.
    Interrupted,
}

/// waitpid(2) for any task of the calling thread; waits if `block`.
pub fn wait_any(block: bool) -> Result<AnyWait> {
    let flags = libc::__WALL | libc::__WNOTHREAD | if block { 0 } else { libc::WNOHANG };
    let mut status = 0;
    // SAFETY: `status` lives for the call.
    match unsafe { libc::waitpid(-1, &raw mut status, flags) } {
        0 => Ok(AnyWait::Nothing),
        tid if tid > 0 => Ok(AnyWait::Task(tid, status)),
        _ => {
            let error = std::io::Error::last_os_error();
            match error.raw_os_error() {
                Some(libc::EINTR) => Ok(AnyWait::Interrupted),
                _ => Err(Error::os("wait for its tasks", 0, error)),
            }
        }
    }
}

/// The note type of the vector registers (ELF note types of the kernel).
const NT_X86_XSTATE: usize = 0x202;

/// An upper bound on the size of the vector registers (AMX: 11 KiB).
const MOST_VECTOR: usize = 64 << 10;

pub fn vector(tid: i32) -> Result<Vec<u8>> {
    let mut state = vec![0; MOST_VECTOR];
    let mut iov = libc::iovec {
        iov_base: state.as_mut_ptr().cast(),
        iov_len: state.len(),
    };
    let data = (&raw mut iov).cast();
    let what = "read its vector registers";
    request(what, libc::PTRACE_GETREGSET, tid, NT_X86_XSTATE, data)?;
    state.truncate(iov.iov_len);
    Ok(state)
}

pub fn set_vector(tid: i32, state: &[u8]) -> Result<()> {
    let mut iov = libc::iovec {
        iov_base: state.as_ptr().cast_mut().cast(),
        iov_len: state.len(),
    };
    let data = (&raw mut iov).cast();
    let what = "set its vector registers";
    request(what, libc::PTRACE_SETREGSET, tid, NT_X86_XSTATE, data)
}

/// waitpid(2) for one task, restarted where a signal of our own interrupts it.
pub fn wait(tid: i32) -> Result<i32> {
    loop {
        if let Some(status) = wait_once(tid)? {
            return Ok(status);
        }
    }
}

/// The same until the time of the limit that the calling thread holds is up (see [`Limit::hold`](watchdog::Limit::hold)).
pub fn wait_in_time(tid: i32) -> Result<i32> {
    loop {
        if watchdog::is_over() {
            return match wait_now(tid)? {
                Some(status) => Ok(status),
                None => Err(Error::Timeout { tid }),
            };
        }
        if let Some(status) = watchdog::interrupts(|| wait_once(tid))? {
            return Ok(status);
        }
    }
}

/// waitpid(2) for one task; `None` where a signal interrupts it.
fn wait_once(tid: i32) -> Result<Option<i32>> {
    let mut status = 0;
    // SAFETY: `status` lives for the call.
    let r = unsafe { libc::waitpid(tid, &raw mut status, libc::__WALL) };
    if r == tid {
        return Ok(Some(status));
    }
    let error = std::io::Error::last_os_error();
    match error.raw_os_error() {
        Some(libc::EINTR) => Ok(None),
        _ => Err(Error::os("wait for it", tid, error)),
    }
}

/// waitpid(2) for one task without waiting; `None` where its status has not changed.
pub fn wait_now(tid: i32) -> Result<Option<i32>> {
    let mut status = 0;
    // SAFETY: `status` lives for the call.
    match unsafe { libc::waitpid(tid, &raw mut status, libc::__WALL | libc::WNOHANG) } {
        0 => Ok(None),
        r if r == tid => Ok(Some(status)),
        _ => Err(Error::last("look at it", tid)),
    }
}

pub fn kill(tid: i32, signal: i32) {
    // SAFETY: kill(2) touches no memory of ours. The task is our child and not yet reaped, so
    // its number cannot belong to another. An error means that it is a zombie already.
    unsafe { libc::kill(tid, signal) };
}

pub fn tkill(tid: i32, signal: i32) {
    // SAFETY: as for `kill`.
    unsafe { libc::syscall(libc::SYS_tkill, tid, signal) };
}

pub fn tgkill(pid: i32, tid: i32, signal: i32) {
    // SAFETY: as for `kill`.
    unsafe { libc::syscall(libc::SYS_tgkill, pid, tid, signal) };
}

/// prlimit(2): what a process may use of a resource from here on.
pub fn limit(tid: i32, resource: u32) -> std::io::Result<libc::rlimit> {
    let mut old = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: `old` lives for the call, which only writes there.
    match unsafe { libc::prlimit(tid, resource, std::ptr::null(), &raw mut old) } {
        0 => Ok(old),
        _ => Err(std::io::Error::last_os_error()),
    }
}

/// Sets the soft limit, to at most the hard one.
pub fn set_soft_limit(tid: i32, resource: u32, soft: u64) -> std::io::Result<()> {
    let hard = limit(tid, resource)?.rlim_max;
    let new = libc::rlimit {
        rlim_cur: soft.min(hard),
        rlim_max: hard,
    };
    // SAFETY: `new` lives for the call, which only reads it.
    match unsafe { libc::prlimit(tid, resource, &raw const new, std::ptr::null_mut()) } {
        0 => Ok(()),
        _ => Err(std::io::Error::last_os_error()),
    }
}

pub fn set_limit(tid: i32, resource: u32, soft: u64, hard: u64) -> std::io::Result<()> {
    let old = limit(tid, resource)?;
    // Raising what is there would need privileges.
    let hard = hard.min(old.rlim_max);
    let new = libc::rlimit {
        rlim_cur: soft.min(hard).min(old.rlim_cur),
        rlim_max: hard,
    };
    if (new.rlim_cur, new.rlim_max) == (old.rlim_cur, old.rlim_max) {
        return Ok(());
    }
    // SAFETY: `new` lives for the call, which only reads it.
    match unsafe { libc::prlimit(tid, resource, &raw const new, std::ptr::null_mut()) } {
        0 => Ok(()),
        _ => Err(std::io::Error::last_os_error()),
    }
}
