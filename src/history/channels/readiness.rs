//! What poll(2), select(2) and epoll_wait(2) told of channels.

use super::reading::Reading;
use super::{ChannelEvent, Channels};
use crate::kernel::{
    ChannelId, ChannelUse, Descriptors, Kernel, Object, OpenFile, ProcessTree, Told, Use,
    data_read, waits_for_events,
};
use crate::recording::CallEvent;
use std::collections::HashMap;

/// What can be read. The bits of `EPOLL*` are the same.
const IN: i16 = libc::POLLIN | libc::POLLRDNORM | libc::POLLRDBAND;

/// What tells that nothing comes any more.
const HANG_UP: i16 = libc::POLLHUP | libc::POLLRDHUP;

/// The events that told that something can be had from an open file, before a call has shown what that is.
#[derive(Default)]
pub(super) struct Waiting(HashMap<u64, Vec<(u64, i32)>>);

impl Waiting {
    /// The events so far that told of this open file, with their processes: it is shown now.
    pub fn end(&mut self, id: u64) -> Vec<(u64, i32)> {
        self.0.remove(&id).unwrap_or_default()
    }
}

impl Reading {
    /// Notes what a call that has returned told of descriptors, and what it shows of what others told.
    pub fn note_ready(
        &mut self,
        tree: &ProcessTree,
        kernel: &Kernel,
        (tid, pid): (i32, i32),
        call: &CallEvent,
    ) {
        let nr = i64::from(call.nr);
        let count = call.ret.unwrap_or(0);
        if count <= 0 {
            return;
        }
        let view = tree.view(tid);
        let first = view.file(call.args[0] as i32);
        let object = first.and_then(|(id, _)| Some((id, kernel.object(id)?)));
        match nr {
            libc::SYS_poll | libc::SYS_ppoll | libc::SYS_select | libc::SYS_pselect6 => {
                for (fd, events) in call.ready() {
                    if let Some((id, file)) = view.file(fd) {
                        let uses = self.ready(kernel, pid, (id, file), events);
                        self.note_all(self.event, pid, &uses);
                    }
                }
            }
            _ if waits_for_events(nr) => {
                let Some((id, Object::Epoll(epoll))) = object else {
                    return;
                };
                let mut all = Vec::new();
                for (interest, events) in epoll.reported(call) {
                    // The descriptor may have been closed, while others of its open file are not.
                    let is_meant = |&(id, _): &(u64, &OpenFile)| id == interest.file;
                    let open = view.file(interest.fd).filter(is_meant);
                    if let Some(file) = open.or_else(|| tree.open_files().find(is_meant)) {
                        all.extend(self.ready(kernel, pid, file, events as i16));
                    }
                }
                self.note_all(self.event, pid, &all);
                for (event, pid) in self.waiting.end(id) {
                    self.note_all(event, pid, &all);
                }
            }
            libc::SYS_read | libc::SYS_readv => {
                let Some((id, Object::Signalfd(_))) = object else {
                    return;
                };
                let data = data_read(call);
                let told: Vec<Told> = Told::by_signalfd(&data).collect();
                let uses: Vec<ChannelUse> = told
                    .into_iter()
                    .filter_map(|told| self.signals.take(tree, (tid, pid), told))
                    .collect();
                self.note_all(self.event, pid, &uses);
                // The first one was there.
                let first = uses.into_iter().next();
                let first = first.map(|one| ChannelUse {
                    what: Use::FindsReady,
                    ..one
                });
                let told = self.waiting.end(id);
                for (event, pid) in told {
                    self.note_all(event, pid, first.as_slice());
                }
            }
            _ => {}
        }
    }

    fn note_all(&mut self, event: u64, pid: i32, uses: &[ChannelUse]) {
        for one in uses {
            self.note(event, pid, one.clone());
        }
    }

    /// What a process was told of an open file by these events.
    fn ready(
        &mut self,
        kernel: &Kernel,
        pid: i32,
        (id, file): (u64, &OpenFile),
        events: i16,
    ) -> Vec<ChannelUse> {
        let mut uses = Vec::new();
        if events & (IN | HANG_UP | libc::POLLERR) == 0 {
            return uses;
        }
        if events & IN != 0
            && let Some(ended) = self.signals.end_behind(id)
        {
            uses.push(ended);
            return uses;
        }
        let is_shown_later = match kernel.object(id) {
            Some(Object::Signalfd(_) | Object::Epoll(_)) => true,
            Some(Object::Socket(socket)) => socket.backlog.is_some(),
            _ => false,
        };
        if is_shown_later {
            let told = self.waiting.0.entry(id).or_default();
            if events & IN != 0 && told.last() != Some(&(self.event, pid)) {
                told.push((self.event, pid));
            }
            return uses;
        }
        let [sends, takes] = kernel.channels(id, file);
        let mut add = |channel: &ChannelId, what: Use, from: u64, to: u64| {
            uses.push(ChannelUse {
                channel: channel.clone(),
                what,
                range: from..to,
                counts_messages: false,
            });
        };
        if let Some(channel) = takes {
            let (sent, taken) = kernel.flow(&channel);
            if events & IN != 0 {
                match sent > taken {
                    true => add(&channel, Use::FindsReady, taken, sent),
                    // The terminal itself answers.
                    false if channel.is_terminal() => {}
                    // What comes next, or the end.
                    false => add(&channel, Use::FindsReady, taken, taken.saturating_add(1)),
                }
            }
            if events & HANG_UP != 0 {
                add(&channel, Use::FindsEnd, taken, taken);
            }
        }
        if let Some(channel @ ChannelId::Pipe(_)) = sends
            && events & libc::POLLERR != 0
        {
            let (sent, _) = kernel.flow(&channel);
            add(&channel, Use::FindsNoTaker, sent, sent);
        }
        uses
    }
}

impl Channels {
    /// Poll(2) tells alike that there is something, and that nothing comes any more: finds out which it was.
    pub(super) fn tell_ends_from_data(&mut self) {
        let mut ends = Vec::new();
        for all in self.of_channel.values() {
            let mut last: Option<&ChannelEvent> = None;
            for &at in all {
                let one = &self.events[at];
                match one.what {
                    Use::Sends | Use::EndsSending => last = Some(one),
                    // What came last is that it was closed, and all before has been taken.
                    Use::FindsReady => ends.extend(last.and_then(|last| {
                        let is_end = last.what == Use::EndsSending;
                        (is_end && last.range.start == one.range.start).then_some(at)
                    })),
                    _ => {}
                }
            }
        }
        for at in ends {
            let one = &mut self.events[at];
            one.what = Use::FindsEnd;
            one.range.end = one.range.start;
        }
    }
}
