//! The interruption of a script by its user: an error that `pcall` passes on, so that variables are closed and files are
//! flushed.
//!
//! It is raised where Lua looks at the clock, and where a binding returns that had waited. A script that catches it
//! nevertheless gets it again after a while.

use mlua::{Error, Lua, Value};
use std::fmt;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::{Duration, Instant};

/// The time after which a script that has been interrupted is interrupted again.
const AGAIN: Duration = Duration::from_secs(2);

/// The time at which the error was raised last.
static RAISED: Mutex<Option<Instant>> = Mutex::new(None);

/// The error.
#[derive(Debug)]
struct Interrupted;

impl fmt::Display for Interrupted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("interrupted")
    }
}

impl std::error::Error for Interrupted {}

/// Whether a script has been interrupted.
pub fn has_come() -> bool {
    let raised = RAISED.lock().unwrap_or_else(PoisonError::into_inner);
    raised.is_some()
}

/// Whether the error is to be raised.
pub(super) fn is_due() -> bool {
    let raised = || *RAISED.lock().unwrap_or_else(PoisonError::into_inner);
    crate::tracee::interrupt::is_asked() && raised().is_none_or(|at| at.elapsed() >= AGAIN)
}

/// Raises the error, if the user has asked for the end.
pub(super) fn check() -> mlua::Result<()> {
    if !is_due() {
        return Ok(());
    }
    *RAISED.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    Err(Error::external(Interrupted))
}

/// Whether an error is that of an interrupt.
fn is_it(error: &Error) -> bool {
    match error {
        Error::CallbackError { cause, .. } | Error::WithContext { cause, .. } => is_it(cause),
        other => other.downcast_ref::<Interrupted>().is_some(),
    }
}

/// A function for scripts that says whether a value is the error of an interrupt.
pub(super) fn function(lua: &Lua) -> mlua::Result<mlua::Function> {
    lua.create_function(|_, value: Value| Ok(matches!(value, Value::Error(error) if is_it(&error))))
}
