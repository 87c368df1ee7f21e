//! The thread that looks at the memory of all runs. It sleeps while there is none.

use super::Family;
use super::available::files_on_machine;
use super::usage::{Usage, mib};
use nix::time::{clock_getcpuclockid, clock_gettime};
use nix::unistd::Pid;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// The interval of looks at the machine, and at a run where that is quick.
const INTERVAL: Duration = Duration::from_millis(20);

/// The longest interval of looks at a run.
const LONGEST: Duration = Duration::from_millis(200);

/// A look at a run is as rare as this many times the time that it takes.
const SHARE: u32 = 5;

/// The memory that is left to the machine: this part of what was available at the start, …
const RESERVE_PART: u64 = 16;

/// … and this much at least, where that is less than a quarter.
const RESERVE: u64 = 64 << 20;

/// The open files that are left to the machine: this part of what was left at the start.
const FILES_PART: u64 = 4;

#[derive(Default)]
struct State {
    families: BTreeMap<u64, Arc<Family>>,
    sleeps: bool,
}

#[derive(Default)]
struct Monitor {
    state: Mutex<State>,
    changed: Condvar,
}

impl Monitor {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self) {
        let mut watched: BTreeMap<u64, Watched> = BTreeMap::new();
        loop {
            let mut state = self.lock();
            while state.families.is_empty() {
                watched.clear();
                state.sleeps = true;
                let woken = self.changed.wait(state);
                state = woken.unwrap_or_else(PoisonError::into_inner);
                state.sleeps = false;
            }
            drop(state);
            std::thread::sleep(INTERVAL);
            let families = self.lock().families.clone();
            watched.retain(|number, _| families.contains_key(number));
            for (number, family) in families {
                let watched = watched.entry(number);
                watched.or_insert_with(|| Watched::new(family)).look();
            }
            keep_reserve(&mut watched);
            keep_files(&watched);
        }
    }
}

static MONITOR: LazyLock<Arc<Monitor>> = LazyLock::new(|| {
    let monitor = Arc::new(Monitor::default());
    let runner = Arc::clone(&monitor);
    let started = std::thread::Builder::new()
        .name("memory limit".into())
        .spawn(move || runner.run());
    if let Err(error) = started {
        tracing::warn!("cannot start a thread, so that no limit of memory is kept: {error}");
    }
    monitor
});

/// A number for a new family.
pub(super) fn next_number() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// Watches a family from now on.
pub(super) fn add(family: &Arc<Family>) {
    let mut state = MONITOR.lock();
    state.families.insert(family.number, Arc::clone(family));
    if state.sleeps {
        MONITOR.changed.notify_one();
    }
}

/// Ends the watching of a family.
pub(super) fn remove(family: &Family) {
    MONITOR.lock().families.remove(&family.number);
}

/// A family that is watched.
struct Watched {
    family: Arc<Family>,
    usage: Usage,
    /// The time of the next look.
    next: Instant,
    /// Whether it has been looked at: the first look may come at its start.
    is_lasting: bool,
}

impl Watched {
    fn new(family: Arc<Family>) -> Watched {
        Watched {
            family,
            usage: Usage::default(),
            next: Instant::now(),
            is_lasting: false,
        }
    }

    fn reserve(&self) -> u64 {
        let available = self.family.start().available;
        let part = available / RESERVE_PART;
        part.max(RESERVE.min(available / 4))
    }

    /// Ends the family if it has taken more than its limit.
    fn look(&mut self) {
        let begun = Instant::now();
        if begun < self.next || self.family.ended.get().is_some() {
            return;
        }
        self.note_run_times();
        let members = self.family.members();
        self.usage = Usage::at_most(&members);
        let limit = self.family.limit();
        if self.usage.total() > limit {
            self.usage = Usage::exactly(&members);
        }
        if self.usage.total() > limit {
            let (limit, usage) = (self.family.limit_told(), &self.usage);
            self.family
                .end(format!("its memory is more than {limit}: it had {usage}"));
        }
        let group = &self.family.group;
        if std::mem::replace(&mut self.is_lasting, true) {
            group.take_in(&members, limit);
        }
        if let Some(held) = group.held().filter(|&held| held > limit) {
            let (limit, held, usage) = (self.family.limit_told(), mib(held), &self.usage);
            self.family.end(format!(
                "its memory is more than {limit}: the kernel counts {held} for its control group, also of what no process \
                 has mapped; it had mapped or opened {usage}"
            ));
        }
        let now = Instant::now();
        self.next = now + (now - begun).saturating_mul(SHARE).min(LONGEST);
    }

    fn note_run_times(&self) {
        for (&pid, member) in &self.family.lock().processes {
            let clock = clock_getcpuclockid(Pid::from_raw(pid));
            if let Ok(used) = clock.and_then(clock_gettime) {
                let used = Duration::from(used).as_nanos() as u64;
                member.run_time.store(used, Ordering::Relaxed);
            }
        }
    }
}

/// Ends the largest family where too little memory is left, whatever has taken it: not all memory of a process can be
/// seen.
fn keep_reserve(watched: &mut BTreeMap<u64, Watched>) {
    let running = watched.values_mut();
    let running = running.filter(|watched| watched.family.ended.get().is_none());
    let largest = running.max_by_key(|watched| watched.usage.total());
    let Some(largest) = largest else { return };
    let start = largest.family.start();
    let available = start.cgroups.available();
    if available < largest.reserve() {
        let (start, usage) = (mib(start.available), &largest.usage);
        largest.family.end(format!(
            "only {} of memory were available, of {start} when it started, which the limit of its sandbox leaves to other \
             programs: it had {usage}",
            mib(available)
        ));
    }
}

/// Ends the family with the most open files where too few are left, whatever has taken them: not all open files have a
/// descriptor.
fn keep_files(watched: &BTreeMap<u64, Watched>) {
    let left = files_on_machine();
    let is_running = |family: &&Arc<Family>| family.ended.get().is_none();
    let families = watched.values().map(|watched| &watched.family);
    let largest = families
        .filter(is_running)
        .filter(|family| left < family.start().files / FILES_PART)
        .max_by_key(|family| family.descriptors());
    if let Some(largest) = largest {
        let start = largest.start().files;
        largest.end(format!(
            "only {left} files could still be opened on the machine (fs.file-max), of {start} when it started, which its \
             sandbox leaves to other programs"
        ));
    }
}
