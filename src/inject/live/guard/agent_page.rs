//! The agent's pages: no call of the program takes them away or puts anything over them.
//!
//! Where the kernel can seal memory it refuses most of this itself, but not all: `MADV_GUARD_INSTALL` and `MADV_DONTFORK`
//! act on sealed memory, too. The answer is the one that recorded programs get.

use crate::constants::Answer;
use crate::inject::hook::HookCall;
use crate::inject::refused;
use crate::tracee::agent;
use crate::tracee::filter::{StopRule, Test};

/// Its arguments lie in memory, which may change meanwhile.
pub(super) const CALLS: &[i64] = &[libc::SYS_process_madvise];

/// One past the last address at which a range can begin that touches the pages.
const END: u32 = agent::END as u32;

/// Calls about ranges that may touch the pages.
pub(super) const RULES: &[StopRule] = &[
    rule(
        libc::SYS_mmap,
        &[Test::Any(3, libc::MAP_FIXED as u32), Test::Below(0, END)],
    ),
    rule(libc::SYS_munmap, &[Test::Below(0, END)]),
    rule(libc::SYS_mprotect, &[Test::Below(0, END)]),
    rule(libc::SYS_madvise, &[Test::Below(0, END)]),
    rule(libc::SYS_pkey_mprotect, &[Test::Below(0, END)]),
    rule(libc::SYS_remap_file_pages, &[Test::Below(0, END)]),
    rule(libc::SYS_mremap, &[Test::Below(0, END)]),
    rule(
        libc::SYS_mremap,
        &[Test::Any(3, libc::MREMAP_FIXED as u32), Test::Below(4, END)],
    ),
    rule(
        libc::SYS_shmat,
        &[Test::Any(2, libc::SHM_REMAP as u32), Test::Below(1, END)],
    ),
    rule(libc::SYS_shmdt, &[Test::Below(0, END)]),
];

const fn rule(nr: i64, when: &'static [Test]) -> StopRule {
    StopRule { nr, when }
}

/// Answers a call that would change the pages.
pub(super) fn guard(seen: &HookCall) -> Option<Answer> {
    let args = &seen.args;
    match seen.call.name {
        "process_madvise" => {
            // Other advice was for the process itself to give before 6.13.
            let is_harmless = matches!(
                args[3] as i32,
                libc::MADV_COLD | libc::MADV_PAGEOUT | libc::MADV_WILLNEED | MADV_COLLAPSE
            );
            (!is_harmless).then_some(Answer::Errno(libc::EINVAL))
        }
        // The size of the segment is the kernel's to know.
        "shmat" => {
            let replaces = args[2] as i32 & libc::SHM_REMAP != 0;
            let below = args[1] < agent::END;
            (replaces && below).then_some(Answer::Errno(libc::EINVAL))
        }
        "shmdt" => agent::is_touched(args[0], 1).then_some(Answer::Errno(libc::EINVAL)),
        "remap_file_pages" => {
            agent::is_touched(args[0], args[1]).then_some(Answer::Errno(libc::EINVAL))
        }
        name => refused::touches_agent(name, args).then_some(Answer::Errno(libc::ENOMEM)),
    }
}

const MADV_COLLAPSE: i32 = 25;
