//! What calls do that neither their outputs nor their results tell: the addresses that sockets get, and process groups,
//! sessions and terminals that are not as the model has them.

use super::Recorder;
use super::task::Task;
use crate::constants::is_error;
use crate::kernel::{changes_job_control, inode_of_socket};
use crate::recording::{Addresses, CallEvent, ChunkMemory, Frame, JobControl};
use crate::syscall::Memory;
use crate::tracee::proc;
use crate::tracee::socket_names::socket_names;

/// The most datagram sockets that are remembered as having an address.
const MOST_NAMED: usize = 1 << 16;

impl Recorder {
    /// The addresses of the socket that a call bound, connected, accepted or sent from for the first time.
    pub(super) fn addresses(&mut self, current: &Task, event: &CallEvent) -> Option<Frame> {
        let ret = event.ret?;
        let nr = i64::from(event.nr);
        let fd = match nr {
            libc::SYS_connect if ret == 0 || ret == -i64::from(libc::EINPROGRESS) => event.args[0],
            libc::SYS_accept | libc::SYS_accept4 if !is_error(ret) => ret as u64,
            libc::SYS_bind | libc::SYS_listen if ret == 0 => event.args[0],
            libc::SYS_sendto | libc::SYS_sendmsg | libc::SYS_sendmmsg
                if !is_error(ret) && has_destination(event) =>
            {
                let id = self.family.file_id(current.tid, event.args[0] as i32)?;
                if self.named_sockets.len() >= MOST_NAMED || !self.named_sockets.insert(id) {
                    return None;
                }
                event.args[0]
            }
            _ => return None,
        } as i32;
        // The number of a new descriptor may have been another file's, as far as is followed yet.
        let is_new = matches!(nr, libc::SYS_accept | libc::SYS_accept4);
        let known = self.family.open_file(current.tid, fd);
        let inode = known.filter(|_| !is_new);
        let inode = inode.and_then(|file| inode_of_socket(&file.path));
        let names = socket_names(current.pid, fd, inode)?;
        Some(Frame::Addresses(Addresses {
            tid: current.tid,
            fd,
            local: names.local,
            peer: names.peer,
            peer_pid: names.peer_pid,
        }))
    }

    /// The job control of a process at the beginning.
    pub(super) fn first_job_control(&mut self, pid: i32) -> super::Result<()> {
        match job_control(pid) {
            Some(frame) => self.write(frame),
            None => Ok(()),
        }
    }

    /// Looks whether a call, which has been followed, changed the job control of a process as the model has it.
    pub(super) fn check_job_control(&self, tid: i32, event: &CallEvent) -> Option<Frame> {
        let pid = changes_job_control(&self.family, tid, event)?;
        let known = self.family.job_control(pid)?;
        let frame = job_control(pid)?;
        let Frame::JobControl(found) = &frame else {
            return None;
        };
        let number = |number: Option<i32>| number.unwrap_or(0);
        let is_known = (number(known.pgid), number(known.sid)) == (found.pgid, found.sid)
            && (number(known.tty), number(known.foreground)) == (found.tty, found.foreground);
        (!is_known).then_some(frame)
    }
}

fn job_control(pid: i32) -> Option<Frame> {
    let [pgid, sid, tty, foreground] = proc::job_control(pid).ok()?;
    Some(Frame::JobControl(JobControl {
        pid,
        pgid,
        sid,
        tty,
        foreground,
    }))
}

/// Whether a call says where its data goes: then its socket may get an address.
fn has_destination(event: &CallEvent) -> bool {
    match i64::from(event.nr) {
        libc::SYS_sendto => event.args[4] != 0,
        _ => {
            // `msg_name` is the first member of `struct msghdr`.
            let mut name = [0; 8];
            ChunkMemory(&event.ins).read(event.args[1], &mut name) == 8 && name != [0; 8]
        }
    }
}
