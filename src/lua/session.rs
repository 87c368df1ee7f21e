//! The state of a running script: its current objects (the recording opened last, the process spun off last), and its
//! watch, which shows warnings and hears of recordings.

use mlua::Lua;
use std::path::Path;
use std::rc::Rc;

/// The end of the recording of a program.
#[derive(Clone, Copy, Debug)]
pub struct RecordingEnd<'a> {
    /// The recording's directory.
    pub dir: &'a Path,
    /// The program's exit; `None` where it could not be recorded.
    pub exit: Option<crate::trace::Exit>,
    /// The signal that asked for the end meanwhile.
    pub signal: Option<i32>,
    /// The signal because of which the program was ended.
    pub forced: Option<i32>,
}

/// The observer of a running script.
pub trait Watch {
    /// A program has been recorded. Signals that came meanwhile were the program's. Where one of them was to end rrapper,
    /// this does not return, or interrupts the script.
    fn ended(&self, recording: &RecordingEnd<'_>);

    /// Shows a warning, unless the user has turned warnings off.
    fn warn(&self, message: &str);
}

/// An observer that does nothing.
#[derive(Clone, Copy, Debug)]
pub struct NoWatch;

impl Watch for NoWatch {
    fn ended(&self, _recording: &RecordingEnd<'_>) {}

    fn warn(&self, _message: &str) {}
}

/// The [`Watch`] of a script.
struct Watched(Rc<dyn Watch>);

/// Has a script be watched.
pub(super) fn set_watch(lua: &Lua, watch: Rc<dyn Watch>) {
    lua.set_app_data(Watched(watch));
}

/// The watch of a script.
pub(super) fn watch(lua: &Lua) -> Rc<dyn Watch> {
    match lua.app_data_ref::<Watched>() {
        Some(watched) => Rc::clone(&watched.0),
        None => Rc::new(NoWatch),
    }
}

/// The current object of a type.
struct Current<T>(T);

/// Makes an object the current one of its type.
pub(super) fn set_current<T: 'static>(lua: &Lua, object: T) {
    lua.set_app_data(Current(object));
}

/// The current object of a type, if there is one.
pub(super) fn current<T: Clone + 'static>(lua: &Lua) -> Option<T> {
    let current = lua.app_data_ref::<Current<T>>()?;
    Some(current.0.clone())
}
