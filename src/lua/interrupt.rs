//! The end of a script that its user wants: an error that `pcall` passes on, so that what is to be closed is closed, and
//! files are flushed.
//!
//! It is raised where Lua looks at the clock, and where a call of ours returns that had waited. Whoever holds on to it
//! nevertheless gets it again after a while.

use mlua::{Error, Lua, Value};
use std::fmt;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::{Duration, Instant};

/// How long what is closed may take until the script is interrupted again.
const AGAIN: Duration = Duration::from_secs(2);

/// When it was raised last.
static RAISED: Mutex<Option<Instant>> = Mutex::new(None);

/// What is raised.
#[derive(Debug)]
struct Interrupted;

impl fmt::Display for Interrupted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("interrupted")
    }
}

impl std::error::Error for Interrupted {}

/// Whether a script has got to know.
pub fn has_come() -> bool {
    let raised = RAISED.lock().unwrap_or_else(PoisonError::into_inner);
    raised.is_some()
}

/// Whether it is to be raised.
pub(super) fn is_due() -> bool {
    let raised = || *RAISED.lock().unwrap_or_else(PoisonError::into_inner);
    crate::tracee::interrupt::is_asked() && raised().is_none_or(|at| at.elapsed() >= AGAIN)
}

/// Raises it, if the user wants an end.
pub(super) fn check() -> mlua::Result<()> {
    if !is_due() {
        return Ok(());
    }
    *RAISED.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    Err(Error::external(Interrupted))
}

/// Whether this is it.
fn is_it(error: &Error) -> bool {
    match error {
        Error::CallbackError { cause, .. } | Error::WithContext { cause, .. } => is_it(cause),
        other => other.downcast_ref::<Interrupted>().is_some(),
    }
}

/// A function for scripts that says whether a value is it.
pub(super) fn function(lua: &Lua) -> mlua::Result<mlua::Function> {
    lua.create_function(|_, value: Value| Ok(matches!(value, Value::Error(error) if is_it(&error))))
}
