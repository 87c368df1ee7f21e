//! The passage over a recording in which the uses of channels are noted.

use super::readiness::Waiting;
use super::signals::Signals;
use super::{ChannelEvent, Channels};
use crate::constants::is_error;
use crate::kernel::{ChannelId, ChannelUse, Descriptors, Kernel, OpenFile, ProcessTree, Use};
use crate::recording::{CallEvent, Frame};
use std::collections::HashMap;

/// An open file that a call or the end of a task may close for good: its number, and the channels that it sends to and
/// takes from.
type End = (u64, [Option<ChannelId>; 2]);

/// The passage over the frames of a recording.
#[derive(Default)]
pub(super) struct Reading {
    pub channels: Channels,
    pub signals: Signals,
    pub waiting: Waiting,
    /// The number of the last event.
    pub event: u64,
    /// The last event of each task.
    last: HashMap<i32, u64>,
    /// The connections that the last event made or accepted, whose addresses may follow it.
    made: Vec<Made>,
}

/// A socket that was connected or accepted.
struct Made {
    /// Its open file.
    id: u64,
    pid: i32,
    fd: i32,
    accepted: bool,
    /// The events that had told of the connection before it was accepted, with their processes.
    told: Vec<(u64, i32)>,
}

impl Reading {
    pub fn follow(&mut self, tree: &mut ProcessTree, kernel: &mut Kernel, frame: &Frame) {
        match frame {
            Frame::Event(event) => {
                self.note_connections(kernel);
                self.event += 1;
                self.last.insert(event.tid, self.event);
                let pid = tree.pid(event.tid);
                if let Some(pid) = pid {
                    self.note_signals(tree, pid, event);
                }
                let call = event.call().filter(|call| call.was_made());
                let (Some(pid), Some(call)) = (pid, call) else {
                    return kernel.follow(tree, frame);
                };
                let uses = kernel.channel_uses(call, &tree.view(event.tid));
                for one in uses {
                    self.note(self.event, pid, one);
                }
                self.note_ready(tree, kernel, (event.tid, pid), call);
                let ends = closing(tree, kernel, event.tid, call);
                self.shut_down(tree, kernel, event.tid, pid, call);
                kernel.follow(tree, frame);
                self.note_closed(tree, kernel, self.event, pid, ends);
                self.note_made(tree, event.tid, pid, call);
                self.note_opened(tree, event.tid, call);
            }
            Frame::Gone { tid, exit, .. } => {
                self.note_connections(kernel);
                let pid = tree.pid(*tid);
                let ends = ends_of(tree, kernel, *tid, |_| true);
                let event = self.last.remove(tid);
                let numbers = pid.map(|pid| tree.numbers(pid)).unwrap_or_default();
                if let (Some(pid), Some(event)) = (pid, event) {
                    self.note_ending(tree, event, (*tid, pid), *exit);
                }
                kernel.follow(tree, frame);
                if let (Some(pid), Some(event)) = (pid, event) {
                    self.note_closed(tree, kernel, event, pid, ends);
                    self.note_end(tree, event, (*tid, pid), &numbers, *exit);
                }
            }
            Frame::NewTask(born) => {
                kernel.follow(tree, frame);
                self.note_born(tree, born);
            }
            _ => kernel.follow(tree, frame),
        }
    }

    /// Notes a use of a channel.
    pub fn note(&mut self, event: u64, pid: i32, one: ChannelUse) {
        self.channels.events.push(ChannelEvent {
            event,
            pid,
            channel: one.channel,
            what: one.what,
            range: one.range,
            counts_messages: one.counts_messages,
        });
    }

    /// Notes something that moves nothing, at this position.
    fn add(&mut self, event: u64, pid: i32, channel: ChannelId, what: Use, at: u64) {
        self.channels.events.push(ChannelEvent {
            event,
            pid,
            channel,
            what,
            range: at..at,
            counts_messages: false,
        });
    }

    /// Follows shutdown(2).
    fn shut_down(
        &mut self,
        tree: &ProcessTree,
        kernel: &Kernel,
        tid: i32,
        pid: i32,
        call: &CallEvent,
    ) {
        if i64::from(call.nr) != libc::SYS_shutdown || call.ret != Some(0) {
            return;
        }
        let view = tree.view(tid);
        let Some((id, file)) = view.file(call.args[0] as i32) else {
            return;
        };
        let how = call.args[1] as i32;
        let [sends, takes] = kernel.channels(id, file);
        let sends = sends.filter(|_| how != libc::SHUT_RD);
        let takes = takes.filter(|_| how != libc::SHUT_WR);
        self.end(kernel, self.event, pid, [sends, takes]);
    }

    /// Notes the ends that are closed for good.
    fn note_closed(
        &mut self,
        tree: &ProcessTree,
        kernel: &Kernel,
        event: u64,
        pid: i32,
        ends: Vec<End>,
    ) {
        for (id, channels) in ends {
            if tree.open_files().any(|(open, _)| open == id) {
                continue;
            }
            let [sends, takes] = channels;
            let sends = sends.filter(|channel| !has_end(tree, kernel, channel, libc::O_RDONLY));
            let takes = takes.filter(|channel| !has_end(tree, kernel, channel, libc::O_WRONLY));
            self.end(kernel, event, pid, [sends, takes]);
        }
    }

    fn end(
        &mut self,
        kernel: &Kernel,
        event: u64,
        pid: i32,
        [sends, takes]: [Option<ChannelId>; 2],
    ) {
        for (channel, what) in [(sends, Use::EndsSending), (takes, Use::EndsTaking)] {
            if let Some(channel) = channel {
                let (sent, taken) = kernel.flow(&channel);
                let at = match what {
                    Use::EndsSending => sent,
                    _ => taken,
                };
                self.add(event, pid, channel, what, at);
            }
        }
    }

    /// Notes a socket that was connected or accepted.
    fn note_made(&mut self, tree: &ProcessTree, tid: i32, pid: i32, call: &CallEvent) {
        let Some(ret) = call.ret else { return };
        let fd = match i64::from(call.nr) {
            libc::SYS_connect if ret == 0 || ret == -i64::from(libc::EINPROGRESS) => {
                call.args[0] as i32
            }
            libc::SYS_accept | libc::SYS_accept4 if !is_error(ret) => ret as i32,
            _ => return,
        };
        if let Some(id) = tree.file_id(tid, fd) {
            let accepted = i64::from(call.nr) != libc::SYS_connect;
            let listening = tree.file_id(tid, call.args[0] as i32);
            let told = listening.filter(|_| accepted);
            self.made.push(Made {
                id,
                pid,
                fd,
                accepted,
                told: told.map(|id| self.waiting.end(id)).unwrap_or_default(),
            });
        }
    }

    /// Notes the connections of the last event, whose addresses are known now.
    pub fn note_connections(&mut self, kernel: &Kernel) {
        for made in std::mem::take(&mut self.made) {
            let Made {
                id,
                pid,
                fd,
                accepted,
                told,
            } = made;
            let known = kernel.connection_number(id).zip(kernel.connection(id));
            let Some((number, known)) = known else {
                continue;
            };
            let is_ambiguous = known.is_ambiguous;
            let event = self.event;
            let connection = self.channels.connections.entry(number).or_default();
            connection.number = number;
            connection.is_ambiguous |= is_ambiguous;
            let (end, what) = match accepted {
                true => (&mut connection.accepted, Use::Accepts),
                false => (&mut connection.connected, Use::Connects),
            };
            if end.is_none() {
                *end = Some((event, pid, fd));
                self.add(event, pid, ChannelId::ToServer(number), what, 0);
            }
            for (event, pid) in told {
                let what = Use::FindsConnection;
                self.add(event, pid, ChannelId::ToServer(number), what, 0);
            }
        }
    }
}

/// The ends of channels that a call may close.
fn closing(tree: &ProcessTree, kernel: &Kernel, tid: i32, call: &CallEvent) -> Vec<End> {
    let one = |arg: usize| {
        let fd = call.args[arg] as i32;
        let view = tree.view(tid);
        let file = view.file(fd);
        file.and_then(|(id, file)| end(kernel, id, file))
            .into_iter()
            .collect()
    };
    match i64::from(call.nr) {
        libc::SYS_close => one(0),
        libc::SYS_dup2 | libc::SYS_dup3 => one(1),
        libc::SYS_close_range => {
            let range = call.args[0] as u32..=call.args[1] as u32;
            ends_of(tree, kernel, tid, |fd| range.contains(&(fd as u32)))
        }
        libc::SYS_execve | libc::SYS_execveat if call.ret == Some(0) => {
            ends_of(tree, kernel, tid, |_| true)
        }
        _ => Vec::new(),
    }
}

fn end(kernel: &Kernel, id: u64, file: &OpenFile) -> Option<End> {
    let channels = kernel.channels(id, file);
    let has_any = channels.iter().any(Option::is_some);
    has_any.then_some((id, channels))
}

fn ends_of(
    tree: &ProcessTree,
    kernel: &Kernel,
    tid: i32,
    is_meant: impl Fn(i32) -> bool,
) -> Vec<End> {
    let view = tree.view(tid);
    let mut ends: Vec<End> = tree
        .each_descriptor(tid)
        .filter(|&(fd, ..)| is_meant(fd))
        .filter_map(|(fd, ..)| {
            let (id, file) = view.file(fd)?;
            end(kernel, id, file)
        })
        .collect();
    ends.sort_by_key(|&(id, _)| id);
    ends.dedup_by_key(|&mut (id, _)| id);
    ends
}

/// Whether any open file other than those of `only` this mode is an end of a pipe or a terminal.
fn has_end(tree: &ProcessTree, kernel: &Kernel, channel: &ChannelId, only: i32) -> bool {
    let side = usize::from(only == libc::O_WRONLY);
    tree.open_files().any(|(id, file)| match channel {
        ChannelId::Pipe(name) => {
            file.flags & libc::O_ACCMODE != only && kernel.pipe_name(id, file) == Some(&**name)
        }
        _ if channel.is_terminal() => kernel.channels(id, file)[side].as_ref() == Some(channel),
        _ => false,
    })
}
