//! Pending signals: a thread sends them to itself, since the kernel lets no other say who has sent them.

use super::{Result, words};
use crate::kernel::{PendingSignal, is_ignored};
use crate::process::StopPoint;
use crate::tracee::Stopped;

/// Makes signals pending for a task, and for its process if it is the first thread. Those that it would ignore are dropped.
/// Returns a sentence about each that cannot come back.
///
/// # Errors
/// If the task cannot be asked.
pub fn send_pending(
    task: &mut Stopped,
    place: StopPoint,
    signals: &[&PendingSignal],
) -> Result<Vec<String>> {
    let mut missing = Vec::new();
    if signals.is_empty() {
        return Ok(missing);
    }
    let mask = task.sigmask()?;
    // What it does not block is delivered once it goes on.
    task.set_sigmask(!0)?;
    let mut remote = match place {
        StopPoint::Entry => task.remote_at_entry()?,
        StopPoint::Between => task.remote_at_boundary()?,
    };
    let [pid, tid, user] = [libc::SYS_getpid, libc::SYS_gettid, libc::SYS_getuid].map(|nr| {
        let got = remote.call(nr, [0; 6]);
        got.map(|number| number as u64)
    });
    let (pid, tid, user) = (pid?, tid?, user?);
    for one in signals {
        remote.reset_scratch();
        let signal = one.signal as u64;
        let is_blocked = mask & 1 << (signal - 1) != 0;
        let action = remote.put(&words(&[0; 4]))?;
        remote.call(libc::SYS_rt_sigaction, [signal, 0, action, 8, 0, 0])?;
        if !is_blocked && is_ignored(one.signal, remote.memory().word(action)?) {
            continue;
        }
        let mut info = one.info.clone();
        if one.lacks_user {
            info[20..24].copy_from_slice(&(user as u32).to_le_bytes());
        }
        let info = remote.put(&info)?;
        let sent = match one.to {
            // Only the first thread may say of others' signals for the process who has sent them.
            None if pid == tid => {
                let args = [pid, signal, info, 0, 0, 0];
                remote.call(libc::SYS_rt_sigqueueinfo, args)?
            }
            _ => {
                let args = [pid, tid, signal, info, 0, 0];
                remote.call(libc::SYS_rt_tgsigqueueinfo, args)?
            }
        };
        if sent < 0 {
            let why = std::io::Error::from_raw_os_error(-sent as i32);
            missing.push(format!(
                "the pending signal {signal} of process {pid}: {why}"
            ));
        }
    }
    remote.finish()?;
    task.set_sigmask(mask)?;
    Ok(missing)
}
