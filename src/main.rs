//! The `rrapper` command.

use nix::sys::resource::{Resource, getrlimit};
use std::process::exit;

/// A stack that is enough for all that rrapper does.
const STACK: usize = 8 << 20;

fn main() -> ! {
    let run = || rrapper::cli::run(std::env::args_os());
    let limit = getrlimit(Resource::RLIMIT_STACK).map_or(u64::MAX, |(soft, _)| soft);
    if limit >= STACK as u64 {
        exit(run());
    }
    // The limit is meant for the program that is recorded, which gets it.
    let thread = std::thread::Builder::new().stack_size(STACK).spawn(run);
    match thread.map(std::thread::JoinHandle::join) {
        Ok(Ok(status)) => exit(status),
        // It has said why.
        Ok(Err(_)) => exit(101),
        Err(error) => {
            eprintln!("rrapper: cannot start: {error}");
            exit(2)
        }
    }
}
