//! An open recording with the replay of it, which the bindings of recordings and of stops share.

use super::error::raise;
use super::{interrupt, session};
use crate::history::Recording;
use crate::inject::Outcome;
use crate::process::FamilySource;
use crate::replay::{self, Replay};
use mlua::Lua;
use std::cell::{RefCell, RefMut};
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;

/// An open recording and the replay of it.
#[derive(Clone)]
pub(super) struct RecordingHandle {
    pub recording: Arc<Recording>,
    replay: Rc<RefCell<Box<dyn Replay>>>,
}

impl RecordingHandle {
    /// Opens a recording.
    pub fn open(dir: &Path) -> mlua::Result<RecordingHandle> {
        let replay = replay::open(dir).map_err(raise)?;
        Ok(RecordingHandle {
            recording: Arc::clone(replay.recording()),
            replay: Rc::new(RefCell::new(replay)),
        })
    }

    /// Does something with the replay at this event.
    pub fn at<R>(
        &self,
        event: u64,
        then: impl FnOnce(&mut dyn Replay) -> mlua::Result<R>,
    ) -> mlua::Result<R> {
        self.recording.event(event).map_err(raise)?;
        let mut replay = self.borrow()?;
        let went = replay.replay_to(event);
        if went.is_err() {
            // The next one begins anew.
            *replay = replay.another();
        }
        interrupt::check()?;
        went.map_err(raise)?;
        then(&mut **replay)
    }

    /// Does something with the replay where it stands.
    pub fn here<R>(
        &self,
        then: impl FnOnce(&mut dyn Replay) -> mlua::Result<R>,
    ) -> mlua::Result<R> {
        let mut replay = self.borrow()?;
        match replay.position() {
            Some(_) => then(&mut **replay),
            None => Err(raise(
                "the replay stands nowhere yet: call rr.replay_to first",
            )),
        }
    }

    /// The source of the families of its copies.
    pub fn family_source(&self) -> FamilySource {
        let replay = Rc::clone(&self.replay);
        FamilySource::new(move |process, event| {
            let mut replay = replay.try_borrow_mut()?;
            Ok(replay.add_family(process, event)?)
        })
    }

    /// The outcome of the recorded program itself.
    pub fn outcome(&self) -> mlua::Result<Outcome> {
        Outcome::of_recording(&**self.borrow()?).map_err(raise)
    }

    /// Ends the replay's processes.
    pub fn close(&self) {
        if let Ok(mut replay) = self.replay.try_borrow_mut() {
            *replay = replay.another();
        }
    }

    fn borrow(&self) -> mlua::Result<RefMut<'_, Box<dyn Replay>>> {
        let replay = self.replay.try_borrow_mut();
        replay.map_err(|_| raise("the replay is in use"))
    }

    /// The current one: opened or made last.
    pub fn current(lua: &Lua) -> mlua::Result<RecordingHandle> {
        session::current(lua)
            .ok_or_else(|| raise("no recording is open: call rr.open or rr.record first"))
    }
}
