//! One CPU for the tracer and its tracees: a stop costs 2.5 µs there, and 41 µs across two.

use super::{Error, Result};
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;
use std::cell::OnceCell;

thread_local! {
    static PINNED: OnceCell<Pinned> = const { OnceCell::new() };
}

/// The CPU of a pinned thread, and the CPUs that it could use before.
#[derive(Clone, Debug)]
pub struct Pinned {
    /// The CPU on which the thread runs.
    pub cpu: usize,
    /// The CPUs that it could run on before, in rising order.
    pub before: Vec<usize>,
}

/// Pins the calling thread permanently to its present CPU; its children inherit that. Later calls return the result of
/// the first.
pub fn this_thread() -> Result<Pinned> {
    PINNED.with(|pinned| {
        if let Some(pinned) = pinned.get() {
            return Ok(pinned.clone());
        }
        let me = Pid::from_raw(0);
        let set = sched_getaffinity(me).map_err(|e| Error::os("read the CPU affinity", 0, e))?;
        let before: Vec<usize> = (0..CpuSet::count())
            .filter(|&cpu| set.is_set(cpu).unwrap_or(false))
            .collect();
        let cpu =
            nix::sched::sched_getcpu().map_err(|e| Error::os("ask for the current CPU", 0, e))?;
        let mut one = CpuSet::new();
        one.set(cpu)
            .and_then(|()| sched_setaffinity(me, &one))
            .map_err(|e| Error::os(format!("pin rrapper to CPU {cpu}"), 0, e))?;
        Ok(pinned.get_or_init(|| Pinned { cpu, before }).clone())
    })
}

/// The CPUs that the calling thread could use before it was pinned; none where it never was.
pub fn cpus_before() -> Vec<usize> {
    PINNED.with(|pinned| pinned.get().map_or_else(Vec::new, |p| p.before.clone()))
}

/// The same as a mask for sched_setaffinity(2).
pub fn mask_before() -> Vec<u8> {
    let cpus = cpus_before();
    let mut mask = vec![0u8; cpus.iter().max().map_or(0, |max| max / 64 + 1) * 8];
    for cpu in cpus {
        mask[cpu / 8] |= 1 << (cpu % 8);
    }
    mask
}

/// Lets the calling thread run on these CPUs. A refusal only costs time.
pub fn spread(cpus: &[usize]) {
    let mut set = CpuSet::new();
    let known = cpus.iter().all(|&cpu| set.set(cpu).is_ok());
    if known
        && !cpus.is_empty()
        && let Err(error) = sched_setaffinity(Pid::from_raw(0), &set)
    {
        tracing::debug!("cannot use other CPUs: {error}");
    }
}
