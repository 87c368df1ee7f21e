//! The calls that are made, as data.

mod console;
mod devices;
mod files;
mod ioctl;
mod ipc;
mod network;
mod options;
mod process;
mod time;

use super::run::Case;
use super::setup::Setup;

/// A call that is to succeed.
fn case(call: &'static str, what: &'static str, make: fn(&mut Setup) -> Vec<u64>) -> Case {
    let errno = None;
    Case {
        call,
        what,
        make,
        errno,
    }
}

/// A call that is to end with this error.
fn fails(
    call: &'static str,
    what: &'static str,
    errno: i32,
    make: fn(&mut Setup) -> Vec<u64>,
) -> Case {
    let errno = Some(errno);
    Case {
        call,
        what,
        make,
        errno,
    }
}

/// All of them.
pub fn all() -> Vec<Case> {
    let lists = [
        files::cases(),
        process::cases(),
        time::cases(),
        network::cases(),
        ipc::cases(),
        ioctl::cases(),
        devices::cases(),
        console::cases(),
        options::cases(),
    ];
    lists.into_iter().flatten().collect()
}
