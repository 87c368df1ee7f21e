//! Observers of a recording.

use super::Recorder;
use crate::recording::Family;

/// The state after an event has been written. Only the event's task runs, and it continues afterwards.
pub struct Observed<'a> {
    /// All tasks.
    pub family: &'a Family,
    /// The event's task, by its recorded tid.
    pub tid: i32,
    /// The event's number.
    pub event: u64,
    /// The other tasks within calls, with the calls' numbers: the effects of these calls may have happened already, and
    /// are not recorded yet.
    pub in_call: Vec<(i32, u32)>,
}

/// A function that is called after each event.
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
