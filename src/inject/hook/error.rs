//! The errors that hooks raise when they change a call.

use super::MOST_DATA;
use crate::syscall::EditError;
use crate::tracee;

/// The reasons for which a hook cannot change a call.
#[derive(Debug, thiserror::Error)]
pub enum ChangeError {
    /// The argument cannot have the value.
    #[error(transparent)]
    Edit(#[from] EditError),
    /// More bytes than there is scratch memory in the process.
    #[error("{len} bytes are too many to pass in the place of others: there is room for {room}")]
    NoRoom {
        /// The number of bytes.
        len: usize,
        /// The size of the scratch memory in bytes.
        room: u64,
    },
    /// Data that does not fit into the call's buffer.
    #[error("{len} bytes do not fit into the buffer of this {call}, which has {room}")]
    TooLong {
        /// The call.
        call: &'static str,
        /// The number of bytes.
        len: usize,
        /// The size of the buffer in bytes.
        room: u64,
    },
    /// Data that is more than hooks can see.
    #[error(
        "this {call} moves {len} bytes of data, and hooks can see those of calls that move {MOST_DATA} at most: look at \
         call.size first, or read parts of it with call.process:read"
    )]
    TooMuch {
        /// The call.
        call: &'static str,
        /// The number of bytes.
        len: u64,
    },
    /// A call without data.
    #[error("{0} moves no data that could be set")]
    NoData(&'static str),
    /// Data that the kernel has read already, or has not stored yet.
    #[error("the data of {call} can be set at {phase} only")]
    Phase {
        /// The call.
        call: &'static str,
        /// The hook in which it can be set.
        phase: &'static str,
    },
    /// More messages than the call has buffers for.
    #[error("this {call} has room for {room} messages, not {count}")]
    Messages {
        /// The call.
        call: &'static str,
        /// The number of messages.
        count: usize,
        /// The number of messages that fit.
        room: usize,
    },
    /// Messages for a call that moves one string.
    #[error("{0} moves no messages: its data is one string")]
    One(&'static str),
    /// A part that the call does not have.
    #[error("{call} has no {what}")]
    Without {
        /// The call.
        call: &'static str,
        /// The part that the call does not have.
        what: &'static str,
    },
    /// A call to be cut short to more than it asks for.
    #[error("this {call} asks for no more than {asked}: it cannot be cut to {len}")]
    NotShort {
        /// The call.
        call: &'static str,
        /// The amount that the call asks for.
        asked: u64,
        /// The amount that it was to move.
        len: u64,
    },
    /// An answer that no kernel gives to the call.
    #[error("{call} {why}")]
    Impossible {
        /// The call.
        call: &'static str,
        /// The reason.
        why: &'static str,
    },
    /// An answer for a call that the kernel has made already.
    #[error(
        "this {call} has been made, and what it did stays done: {action} belongs into enter = function(call) … end, \
         before that (call:fail(errno, {{ executed = true }}), and skip and short likewise, leave it done and tell the \
         process otherwise)"
    )]
    TooLate {
        /// The call.
        call: &'static str,
        /// The action that came too late.
        action: &'static str,
    },
    /// An action of enter hooks, at the exit.
    #[error("call:{0}() is for enter hooks: at exit the call has been answered")]
    EnterOnly(&'static str),
    /// The process's memory cannot be written.
    #[error(transparent)]
    Memory(#[from] tracee::Error),
}
