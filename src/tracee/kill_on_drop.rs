//! A set of tasks that is killed on drop.

use std::collections::BTreeSet;

/// Tasks that have not been reaped. Dropping the set kills the tasks left in it.
#[derive(Debug, Default)]
pub(crate) struct KillOnDrop(pub(crate) BTreeSet<i32>);

impl KillOnDrop {
    /// A set of one task.
    pub fn of(tid: i32) -> KillOnDrop {
        KillOnDrop(BTreeSet::from([tid]))
    }
}

impl Drop for KillOnDrop {
    fn drop(&mut self) {
        super::task::end_all(&mut self.0);
    }
}
