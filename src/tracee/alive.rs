//! Tasks that nobody owns one by one.

use std::collections::BTreeSet;

/// All tasks that have not been reaped: they are killed if they are left when this is dropped.
#[derive(Debug, Default)]
pub(crate) struct Alive(pub(crate) BTreeSet<i32>);

impl Alive {
    /// This one.
    pub fn of(tid: i32) -> Alive {
        Alive(BTreeSet::from([tid]))
    }
}

impl Drop for Alive {
    fn drop(&mut self) {
        super::task::end_all(&mut self.0);
    }
}
