//! The time limit of hooks, which ends one that never returns.
//!
//! Lua code is stopped by a count hook that looks at the clock. What hangs inside a C function of the standard
//! library cannot be stopped; a thread then ends the whole process.

use super::super::error::raise_at;
use super::super::{interrupt, memory};
use mlua::{HookTriggers, Lua, VmState};
use std::cell::Cell;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{LazyLock, Once};
use std::time::{Duration, Instant};

/// Lua instructions between two looks at the clock.
const INSTRUCTIONS: u32 = 10_000;

/// The time beyond the limit after which the process is ended.
const GRACE: Duration = Duration::from_secs(2);

/// The time between two looks of the thread at the clock.
const TICK: Duration = Duration::from_millis(200);

/// The time at which the running hook must have returned, and the limit of the injection.
#[derive(Clone, Default)]
struct Deadline(Rc<Cell<Option<(Instant, Duration)>>>);

/// The time at which the process ends itself, in milliseconds since [`BEGINNING`]; 0 for never.
static LAST: AtomicU64 = AtomicU64::new(0);
static BEGINNING: LazyLock<Instant> = LazyLock::new(Instant::now);
static STARTED: Once = Once::new();

/// Has Lua check the clock, its memory and the user's interrupts while it runs.
///
/// mlua keeps slots for the errors of callbacks. Where it has none left in a hook, it makes some on the stack of the
/// function that was interrupted, whose variables are in other places when they are closed. A check that finds nothing
/// leaves slots behind: so an error is raised only at the check after the one that found it.
pub(in super::super) fn install(lua: &Lua) -> mlua::Result<()> {
    reserve_error_slots(lua)?;
    let deadline = Deadline::default();
    lua.set_app_data(deadline.clone());
    let triggers = HookTriggers::new().every_nth_instruction(INSTRUCTIONS);
    let found = Cell::new(false);
    lua.set_global_hook(triggers, move |lua, debug| {
        if !found.replace(is_over(lua, &deadline)?) {
            return Ok(VmState::Continue);
        }
        let source = debug
            .source()
            .short_src
            .map_or_else(String::new, |source| source.into_owned());
        let place = format!("{source}:{}", debug.current_line().unwrap_or(0));
        interrupt::check()?;
        memory::check(lua, &place)?;
        match deadline.0.get() {
            Some((at, limit)) if Instant::now() >= at => Err(raise_at(place, too_long(limit))),
            _ => Ok(VmState::Continue),
        }
    })
}

/// Whether an error is to be raised: of an interrupt, of the time limit, of memory.
fn is_over(lua: &Lua, deadline: &Deadline) -> mlua::Result<bool> {
    let late = || deadline.0.get().is_some_and(|(at, _)| Instant::now() >= at);
    Ok(interrupt::is_due() || late() || memory::is_short(lua)?)
}

/// Has mlua keep slots for the errors of so many callbacks at once.
fn reserve_error_slots(lua: &Lua) -> mlua::Result<()> {
    const DEPTH: u32 = 16;
    let nested = lua.create_function(|lua, depth: u32| -> mlua::Result<()> {
        match depth {
            0 => Ok(()),
            depth => lua
                .named_registry_value::<mlua::Function>(RESERVE)?
                .call(depth - 1),
        }
    })?;
    lua.set_named_registry_value(RESERVE, &nested)?;
    nested.call::<()>(DEPTH)?;
    lua.unset_named_registry_value(RESERVE)
}

/// The name of a function of ours while it runs.
const RESERVE: &str = "rrapper room";

fn too_long(limit: Duration) -> String {
    format!(
        "a hook did not return within the injection's time limit of {} s",
        limit.as_secs_f64()
    )
}

/// The time limit of the hooks of an injection.
pub(super) struct TimeLimit {
    deadline: Option<Deadline>,
    at: Instant,
    limit: Duration,
    /// The time at which the process ends itself, as in [`LAST`].
    last: u64,
}

impl TimeLimit {
    /// A limit that begins now.
    pub fn new(lua: &Lua, limit: Duration) -> TimeLimit {
        STARTED.call_once(watch);
        let now = Instant::now();
        let at = now
            .checked_add(limit)
            .unwrap_or(now + Duration::from_secs(u32::MAX.into()));
        let last = at.checked_add(GRACE).unwrap_or(at);
        let last = last.saturating_duration_since(*BEGINNING).as_millis();
        let deadline = lua.app_data_ref::<Deadline>();
        TimeLimit {
            deadline: deadline.map(|deadline| deadline.clone()),
            at,
            limit,
            last: u64::try_from(last).unwrap_or(u64::MAX).max(1),
        }
    }

    /// Puts the limit in force for the function that is called next.
    pub fn start(&self) -> Running<'_> {
        let deadline = self.deadline.as_ref();
        Running {
            deadline,
            before: deadline.and_then(|deadline| deadline.0.replace(Some((self.at, self.limit)))),
            last: LAST.swap(self.last, Ordering::SeqCst),
        }
    }
}

/// A time limit; in force until it is dropped.
pub(super) struct Running<'a> {
    deadline: Option<&'a Deadline>,
    before: Option<(Instant, Duration)>,
    last: u64,
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        LAST.store(self.last, Ordering::SeqCst);
        if let Some(deadline) = self.deadline {
            deadline.0.set(self.before);
        }
    }
}

fn watch() {
    LazyLock::force(&BEGINNING);
    let watching = std::thread::Builder::new().name("hooks".into()).spawn(|| {
        loop {
            std::thread::sleep(TICK);
            let last = LAST.load(Ordering::SeqCst);
            if last != 0 && BEGINNING.elapsed().as_millis() > u128::from(last) {
                eprintln!("rrapper: a hook did not return within the injection's time limit, and cannot be stopped");
                // Handlers that run at a usual exit might wait for what hangs.
                signal_hook::low_level::exit(2);
            }
        }
    });
    if let Err(error) = watching {
        tracing::warn!(
            "cannot watch over hooks, so one that hangs in a C function is not ended: {error}"
        );
    }
}
