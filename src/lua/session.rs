//! What is "current" while a script runs.

use super::process::ProcessHandle;
use super::recording::RecordingHandle;
use mlua::{AnyUserData, Lua};
use std::path::Path;
use std::rc::Rc;

/// How the recording of a program ended.
#[derive(Clone, Copy, Debug)]
pub struct RecordingEnd<'a> {
    /// The recording's directory.
    pub dir: &'a Path,
    /// How the program ended; `None` where it could not be recorded.
    pub exit: Option<crate::trace::Exit>,
    /// The signal that asked for the end meanwhile.
    pub signal: Option<i32>,
    /// The signal because of which the program was ended.
    pub forced: Option<i32>,
}

/// Who wants to know when a program has been recorded: a signal that comes meanwhile is the program's.
pub trait Watch {
    /// It has ended. Where that was because a user wants all of this to end, this does not return, or has the script
    /// interrupted.
    fn ended(&self, recording: &RecordingEnd<'_>);

    /// Something the user should see, unless asked to be quiet.
    fn warn(&self, message: &str);
}

/// Watches nothing.
#[derive(Clone, Copy, Debug)]
pub struct Quiet;

impl Watch for Quiet {
    fn ended(&self, _recording: &RecordingEnd<'_>) {}

    fn warn(&self, _message: &str) {}
}

/// What is current in a script.
pub(super) struct Session {
    pub watch: Rc<dyn Watch>,
    recording: Option<RecordingHandle>,
    process: Option<AnyUserData>,
}

impl Session {
    pub fn new(watch: Rc<dyn Watch>) -> Session {
        Session {
            watch,
            recording: None,
            process: None,
        }
    }
}

/// Who watches.
pub(super) fn watch(lua: &Lua) -> Rc<dyn Watch> {
    match lua.app_data_ref::<Session>() {
        Some(session) => Rc::clone(&session.watch),
        None => Rc::new(Quiet),
    }
}

/// The recording opened or made last.
pub(super) fn recording(lua: &Lua) -> mlua::Result<RecordingHandle> {
    let session = lua.app_data_ref::<Session>();
    session
        .and_then(|session| session.recording.clone())
        .ok_or_else(|| super::error::raise("no recording is open: call rr.open or rr.record first"))
}

/// Makes a recording the current one.
pub(super) fn set_recording(lua: &Lua, recording: &RecordingHandle) {
    if let Some(mut session) = lua.app_data_mut::<Session>() {
        session.recording = Some(recording.clone());
    }
}

/// The process spun off last.
pub(super) fn process(lua: &Lua) -> mlua::Result<ProcessHandle> {
    let session = lua.app_data_ref::<Session>();
    let data = session.and_then(|session| session.process.clone());
    match data {
        Some(data) => Ok(data.borrow::<ProcessHandle>()?.clone()),
        None => Err(super::error::raise(
            "no process has been spun off: call spin_off first",
        )),
    }
}

/// Makes a process the current one.
pub(super) fn set_process(lua: &Lua, process: ProcessHandle) -> mlua::Result<AnyUserData> {
    let data = lua.create_userdata(process)?;
    if let Some(mut session) = lua.app_data_mut::<Session>() {
        session.process = Some(data.clone());
    }
    Ok(data)
}
