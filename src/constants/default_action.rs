//! What a signal does to a process that has set nothing else: signal(7).

/// Whether it does nothing, or continues the process.
pub fn is_harmless(signal: i32) -> bool {
    matches!(
        signal,
        libc::SIGCHLD | libc::SIGURG | libc::SIGWINCH | libc::SIGCONT
    )
}

/// Whether it stops the process.
pub fn is_stop(signal: i32) -> bool {
    matches!(
        signal,
        libc::SIGSTOP | libc::SIGTSTP | libc::SIGTTIN | libc::SIGTTOU
    )
}

/// Whether it ends the process.
pub fn is_fatal(signal: i32) -> bool {
    (1..=libc::SIGRTMAX()).contains(&signal) && !is_harmless(signal) && !is_stop(signal)
}
