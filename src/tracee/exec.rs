//! Executes a program in a helper process that holds no program yet.

use super::filter::StopRule;
use super::task::Stop;
use super::{Command, Error, Result, Stopped, agent, filter, pin};
use std::io;
use std::os::unix::ffi::OsStrExt;

/// The calls at which an executed program stops. Those of other ABIs than its own fail with ENOSYS.
#[derive(Debug)]
pub struct StopCalls {
    /// The numbers of the calls that stop it.
    pub calls: Vec<u32>,
    /// The calls that stop it with some arguments.
    pub rules: Vec<StopRule>,
}

/// Executes a program in a process that was started with [`super::spawn::start_shell`], or in a copy of one. The task
/// stands at [`Stop::Exec`] afterwards. It keeps the standard streams of the process, whatever the command says.
///
/// # Errors
/// If the program cannot be executed, or the process ends.
pub fn execute(task: &mut Stopped, command: &Command, stops: &StopCalls) -> Result<()> {
    let tid = task.tid();
    // The process may be in that directory already.
    let dir = command.cwd.as_ref();
    let dir = dir.map(|dir| std::path::absolute(dir).unwrap_or_else(|_| dir.clone()));
    let cwd = dir.as_ref().map(|dir| dir.as_os_str().as_bytes());
    let exe = command.exe.as_os_str().as_bytes();
    let texts = command.argv.iter().chain(&command.env).map(Vec::as_slice);
    if let Some(text) = texts.chain([exe]).chain(cwd).find(|text| text.contains(&0)) {
        let source = io::Error::new(io::ErrorKind::InvalidInput, "it has a NUL byte in it");
        let text = String::from_utf8_lossy(text);
        return Err(Error::os(
            format!("pass {text:?} to a program"),
            tid,
            source,
        ));
    }
    let memory = task.memory();
    let mut remote = task.remote_at_boundary()?;
    if let Some(dir) = cwd {
        let at = remote.put_str(dir)?;
        remote.must("go to its directory", libc::SYS_chdir, [at, 0, 0, 0, 0, 0])?;
    }
    // The tracing thread is pinned to one CPU and cannot read the time stamp counter; the program is not restricted.
    let mask = pin::mask_before();
    if !mask.is_empty() && mask.len() < 4096 {
        let at = remote.put(&mask)?;
        let args = [0, mask.len() as u64, at, 0, 0, 0];
        remote.call(libc::SYS_sched_setaffinity, args)?;
    }
    for (option, value) in [
        (libc::PR_SET_TSC, libc::PR_TSC_ENABLE as u64),
        (libc::PR_SET_NO_NEW_PRIVS, 1),
    ] {
        let args = [option as u64, value, 0, 0, 0, 0];
        remote.must("prepare it for a program", libc::SYS_prctl, args)?;
    }
    let mut room = ExecMemory::default();
    let path = room.text(exe);
    let argv = room.list(&command.argv);
    let env = room.list(&command.env);
    let code = filter::of_calls(stops.calls.iter().copied(), &stops.rules);
    let count = (code.len() / filter::INSTRUCTION) as u64;
    let code = room.bytes(&code);
    // struct sock_fprog.
    let program = room.words(&[Word::Number(count), Word::Address(code)]);
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
    let prot = (libc::PROT_READ | libc::PROT_WRITE) as u64;
    let args = [0, room.0.len() as u64, prot, flags as u64, u64::MAX, 0];
    let base = remote.must("make room for its arguments", libc::SYS_mmap, args)?;
    memory.write(base, &room.at(base))?;
    let args = [
        libc::SECCOMP_SET_MODE_FILTER.into(),
        0,
        base + program,
        0,
        0,
        0,
    ];
    remote.must("have its calls seen", libc::SYS_seccomp, args)?;
    let mut regs = remote.saved().plain_at(agent::SYSCALL);
    drop(remote);
    regs.set_ret(libc::SYS_execve);
    regs.set_args([base + path, base + argv, base + env, 0, 0, 0]);
    task.set_regs(&regs)?;
    loop {
        match task.go_on()? {
            Stop::Exec => return Ok(()),
            Stop::Entry => {}
            Stop::Signal(libc::SIGTRAP) => {
                let what = format!("execute {:?}", command.exe);
                return Err(Error::os(what, tid, reason(-task.regs()?.ret() as i32)));
            }
            Stop::Signal(_) if !task.siginfo()?.is_fault() => {}
            other => {
                return Err(Error::Unexpected {
                    what: "execute a program in it",
                    tid,
                    stop: format!("{other:?}"),
                });
            }
        }
    }
}

/// The reason why an existing file cannot be executed: execve(2)'s errors in words.
fn reason(errno: i32) -> io::Error {
    let text = match errno {
        libc::ENOEXEC => "it is neither a program nor a script that names its interpreter",
        libc::ENOENT => "it, or the interpreter that it names, is not there",
        libc::E2BIG => "its arguments and environment are too long",
        _ => return io::Error::from_raw_os_error(errno),
    };
    io::Error::new(io::Error::from_raw_os_error(errno).kind(), text)
}

/// A word in a piece of memory.
enum Word {
    Number(u64),
    /// The address of the data at this offset.
    Address(u64),
}

/// The arguments of execve in memory, and the offsets of the addresses in it that must be relocated.
#[derive(Default)]
struct ExecMemory(Vec<u8>, Vec<usize>);

impl ExecMemory {
    fn bytes(&mut self, bytes: &[u8]) -> u64 {
        let at = self.0.len();
        self.0.extend(bytes);
        self.0.resize(self.0.len().next_multiple_of(8), 0);
        at as u64
    }

    fn text(&mut self, text: &[u8]) -> u64 {
        let at = self.0.len();
        self.0.extend(text);
        self.0.push(0);
        self.0.resize(self.0.len().next_multiple_of(8), 0);
        at as u64
    }

    fn words(&mut self, words: &[Word]) -> u64 {
        let at = self.0.len();
        for word in words {
            let value = match word {
                Word::Number(value) => *value,
                Word::Address(offset) => {
                    self.1.push(self.0.len());
                    *offset
                }
            };
            self.0.extend(value.to_le_bytes());
        }
        at as u64
    }

    /// An array of strings, with a null pointer behind the last.
    fn list(&mut self, texts: &[Vec<u8>]) -> u64 {
        let mut words: Vec<Word> = texts
            .iter()
            .map(|text| Word::Address(self.text(text)))
            .collect();
        words.push(Word::Number(0));
        self.words(&words)
    }

    /// The bytes, for memory that begins at `base`.
    fn at(&self, base: u64) -> Vec<u8> {
        let mut bytes = self.0.clone();
        for &at in &self.1 {
            let mut word = [0; 8];
            word.copy_from_slice(&bytes[at..at + 8]);
            let moved = u64::from_le_bytes(word).wrapping_add(base);
            bytes[at..at + 8].copy_from_slice(&moved.to_le_bytes());
        }
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_those_of_the_place() {
        let mut room = ExecMemory::default();
        room.text(b"x");
        let list = room.list(&[b"ab".to_vec(), b"c".to_vec()]) as usize;
        let bytes = room.at(0x1000);
        let word = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap());
        assert_eq!(
            (word(list), word(list + 8), word(list + 16)),
            (0x1008, 0x1010, 0)
        );
        assert_eq!(&bytes[8..11], b"ab\0");
    }
}
