//! Tasks that nobody owns one by one.

use std::collections::BTreeSet;

/// All tasks that have not been reaped: they are killed if they are left when this is dropped.
#[derive(Debug, Default)]
pub(crate) struct KillOnDrop(pub(crate) BTreeSet<i32>);

impl KillOnDrop {
    /// This one.
    pub fn of(tid: i32) -> KillOnDrop {
        KillOnDrop(BTreeSet::from([tid]))
    }
}

impl Drop for KillOnDrop {
    fn drop(&mut self) {
        super::task::end_all(&mut self.0);
    }
}
