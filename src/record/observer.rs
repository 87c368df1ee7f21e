//! Looking on as a program is recorded.

use super::Recorder;
use crate::recording::Family;

/// What is known when an event has been written. No task but that of the event runs, and that goes on afterwards.
pub struct Observed<'a> {
    /// All tasks.
    pub family: &'a Family,
    /// The event's task, as the event has it.
    pub tid: i32,
    /// The event's number.
    pub event: u64,
    /// The other tasks that are in a call, and the call's number: what it does may be done, and not yet written.
    pub in_call: Vec<(i32, u32)>,
}

/// Looks at what is known after each event.
pub type Observer = Box<dyn FnMut(&Observed<'_>)>;

impl Recorder {
    pub(super) fn observe(&mut self, tid: i32) {
        let Some(observer) = &mut self.observer else {
            return;
        };
        let others = self.tasks.values();
        let in_call = others.filter_map(|task| Some((task.tid, task.pending.as_ref()?.event.nr)));
        observer(&Observed {
            family: &self.family,
            tid,
            event: self.writer.events(),
            in_call: in_call.collect(),
        });
    }
}
