//! An open recording with the replay of it, which the bindings of recordings and of stops share.

use super::error::raise;
use super::{interrupt, session};
use crate::history::Recording;
use crate::replay::{Replay, Replayer};
use mlua::Lua;
use std::cell::RefCell;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;

/// An open recording and the replay of it, which is begun when it is first needed.
#[derive(Clone)]
pub(super) struct RecordingHandle {
    pub recording: Arc<Recording>,
    pub replayer: Rc<RefCell<Option<Replayer>>>,
}

impl RecordingHandle {
    /// Opens a recording.
    pub fn open(dir: &Path) -> mlua::Result<RecordingHandle> {
        let recording = Recording::open(dir).map_err(raise)?;
        Ok(RecordingHandle {
            recording: Arc::new(recording),
            replayer: Rc::default(),
        })
    }

    /// Does something with the replay at this event.
    pub fn at<R>(
        &self,
        event: u64,
        then: impl FnOnce(&mut Replayer) -> mlua::Result<R>,
    ) -> mlua::Result<R> {
        self.recording.event(event).map_err(raise)?;
        let mut slot = self
            .replayer
            .try_borrow_mut()
            .map_err(|_| raise("the replay is in use"))?;
        let mut replayer = match slot.take() {
            Some(replayer) => replayer,
            None => Replayer::new(Arc::clone(&self.recording)).map_err(raise)?,
        };
        // After an error the replay stands nowhere; the next one begins anew.
        let went = replayer.replay_to(event);
        interrupt::check()?;
        went.map_err(raise)?;
        let result = then(&mut replayer);
        *slot = Some(replayer);
        result
    }

    /// Does something with the replay where it stands.
    pub fn here<R>(&self, then: impl FnOnce(&mut Replayer) -> mlua::Result<R>) -> mlua::Result<R> {
        let mut slot = self
            .replayer
            .try_borrow_mut()
            .map_err(|_| raise("the replay is in use"))?;
        match slot.as_mut() {
            Some(replayer) => then(replayer),
            None => Err(raise(
                "the replay stands nowhere yet: call rr.replay_to first",
            )),
        }
    }

    /// The current one: opened or made last.
    pub fn current(lua: &Lua) -> mlua::Result<RecordingHandle> {
        session::current(lua)
            .ok_or_else(|| raise("no recording is open: call rr.open or rr.record first"))
    }
}
