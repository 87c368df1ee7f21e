//! Calls that use what a sandbox has to make anew for the next process.

use crate::inject::exchange::Decided;
use crate::inject::live::engine::Engine;
use crate::sandbox::Part;

/// The calls that make objects which outlive their process.
pub(super) const CALLS: &[i64] = &[
    libc::SYS_socket,
    libc::SYS_bind,
    libc::SYS_shmget,
    libc::SYS_semget,
    libc::SYS_msgget,
    libc::SYS_mq_open,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_keyctl,
];

impl Engine<'_> {
    /// Tells the sandbox what the call uses of it.
    pub(super) fn note_used_parts(&mut self, seen: &Decided) {
        let part = match seen.call.name {
            // A local socket without a name goes with its processes; one with a name may be on its way to nobody.
            "socket" if seen.args[0] as i32 == libc::AF_UNIX => return,
            "socket" | "bind" => Part::Network,
            "shmget" | "semget" | "msgget" | "mq_open" => Part::Ipc,
            "add_key" | "request_key" | "keyctl" => Part::Keys,
            _ => return,
        };
        if let Some(sandbox) = &mut self.sandbox {
            sandbox.note_use(part);
        }
    }
}
