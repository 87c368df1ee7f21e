//! Which processes of a recording are followed together with one that is driven: those that share writable memory with
//! it, and those that are asked for.

use super::Recording;
use crate::recording::{Effect, EventKind, Frame, Result, Shows};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, PoisonError};

/// The shared objects that are noted of all processes together; a recording with more is damaged, or hostile.
const MOST_OBJECTS: usize = 4 << 20;

/// Whether a process is meant, by its recorded pid and the path of the program that it runs.
pub type ProcessPredicate = dyn Fn(i32, &[u8]) -> bool;

/// The relatives of a process that are followed with it.
#[derive(Default)]
pub enum Kin {
    /// None.
    Alone,
    /// Those that share writable memory with it, at the event or later.
    #[default]
    Sharing,
    /// Those, and the processes with such a recorded pid and such a path of the program that they run.
    Those(Box<ProcessPredicate>),
    /// All that are alive at the event, and all that these start.
    All,
}

/// A process from its birth, or from an execve(2), to its next execve or its end.
#[derive(Debug)]
struct Life {
    pid: i32,
    /// The first event at whose entry it is there.
    from: u64,
    /// The last one.
    to: u64,
    /// The life before the execve, or that of the process which made it.
    origin: Option<usize>,
    /// The path of the program that it runs.
    exe: Arc<[u8]>,
    /// Its address space, by a number.
    space: usize,
    /// The shared objects that it has mapped.
    objects: BTreeSet<u32>,
}

/// The lives of all processes of a recording.
#[derive(Debug)]
pub(super) struct Lives(Vec<Life>);

/// The processes that are followed: for each pid, the events between which it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Followed {
    /// The spans, each with its first and its last event; `None` if all processes are followed.
    spans: Option<BTreeMap<i32, Vec<(u64, u64)>>>,
    /// Whether the driven process has no family at all.
    is_alone: bool,
}

impl Followed {
    /// No process besides the driven one.
    pub fn none() -> Followed {
        Followed {
            spans: Some(BTreeMap::new()),
            is_alone: true,
        }
    }

    /// Whether a process is followed at an event, before its call is answered.
    pub fn has(&self, pid: i32, event: u64) -> bool {
        let Some(spans) = &self.spans else {
            return true;
        };
        let of_pid = spans.get(&pid).map_or(&[][..], Vec::as_slice);
        of_pid
            .iter()
            .any(|&(from, to)| (from..=to).contains(&event))
    }

    /// Whether the driven process is followed alone, whatever happens.
    pub fn is_alone(&self) -> bool {
        self.is_alone
    }

    /// Whether there is no process besides the driven one in it.
    pub fn is_none(&self) -> bool {
        self.spans.as_ref().is_some_and(BTreeMap::is_empty)
    }
}

impl Recording {
    /// The processes that are followed with a process from an event on.
    ///
    /// # Errors
    /// If the recording cannot be read.
    pub fn followed(&self, pid: i32, event: u64, kin: &Kin) -> Result<Followed> {
        let lives = match kin {
            Kin::Alone => return Ok(Followed::none()),
            Kin::All => {
                return Ok(Followed {
                    spans: None,
                    is_alone: false,
                });
            }
            Kin::Sharing | Kin::Those(_) => self.lives()?,
        };
        Ok(lives.followed(pid, event, |life| match kin {
            Kin::Those(are_meant) => are_meant(life.pid, &life.exe),
            _ => false,
        }))
    }

    /// Whether there is more than one process.
    ///
    /// # Errors
    /// If the recording cannot be read.
    pub fn has_family(&self) -> Result<bool> {
        let first = self.start().pid;
        Ok(self.lives()?.0.iter().any(|life| life.pid != first))
    }

    fn lives(&self) -> Result<Arc<Lives>> {
        let mut known = self.lives.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(lives) = &*known {
            return Ok(Arc::clone(lives));
        }
        let lives = Arc::new(Lives::of(self)?);
        *known = Some(Arc::clone(&lives));
        Ok(lives)
    }
}

impl Lives {
    fn of(recording: &Recording) -> Result<Lives> {
        let start = recording.start();
        let mut lives = vec![Life {
            pid: start.pid,
            from: 0,
            to: u64::MAX,
            origin: None,
            exe: Arc::default(),
            space: 0,
            objects: BTreeSet::new(),
        }];
        let mut spaces = 1;
        // The process of each task, and the number of tasks and the present life of each process.
        let mut tasks = HashMap::from([(start.pid, start.pid)]);
        let mut counts = HashMap::from([(start.pid, 1_usize)]);
        let mut now: HashMap<i32, usize> = HashMap::from([(start.pid, 0)]);
        if recording.is_empty() {
            return Ok(Lives(lives));
        }
        let mut frames = recording.frames_from(1)?;
        let mut number = 0;
        let mut room = MOST_OBJECTS;
        while let Some(frame) = frames.next_frame()? {
            match frame {
                Frame::Event(event) => {
                    number += 1;
                    let EventKind::Call(call) = event.kind else {
                        continue;
                    };
                    let Some(pid) = tasks.get(&event.tid).copied() else {
                        continue;
                    };
                    let Some(&at) = now.get(&pid) else { continue };
                    match call.effect {
                        Effect::Share { object, .. } if room > 0 => {
                            lives[at].objects.insert(object);
                            room -= 1;
                        }
                        Effect::Exec(image) => {
                            lives[at].to = number;
                            now.insert(pid, lives.len());
                            if counts.insert(pid, 1).is_some_and(|before| before > 1) {
                                tasks.retain(|_, of| *of != pid);
                            }
                            tasks.insert(pid, pid);
                            lives.push(Life {
                                pid,
                                from: number + 1,
                                to: u64::MAX,
                                origin: Some(at),
                                exe: image.exe.as_slice().into(),
                                space: spaces,
                                objects: BTreeSet::new(),
                            });
                            spaces += 1;
                        }
                        _ => {}
                    }
                }
                Frame::NewTask(born) => {
                    if tasks.insert(born.tid, born.pid) != Some(born.pid) {
                        *counts.entry(born.pid).or_default() += 1;
                    }
                    if born.tid != born.pid {
                        continue;
                    }
                    let maker = tasks.get(&born.maker).and_then(|pid| now.get(pid)).copied();
                    let of_maker = maker.map(|at| &lives[at]);
                    let inherited = of_maker.map_or(0, |life| life.objects.len());
                    let is_room = inherited <= room;
                    room -= inherited.min(room);
                    let shares = born.flags & libc::CLONE_VM as u64 != 0;
                    let life = Life {
                        pid: born.pid,
                        from: number + 1,
                        to: u64::MAX,
                        origin: maker,
                        exe: of_maker
                            .map(|life| Arc::clone(&life.exe))
                            .unwrap_or_default(),
                        space: match of_maker.filter(|_| shares) {
                            Some(life) => life.space,
                            None => spaces,
                        },
                        objects: of_maker
                            .filter(|_| is_room)
                            .map(|life| life.objects.clone())
                            .unwrap_or_default(),
                    };
                    spaces += 1;
                    now.insert(born.pid, lives.len());
                    lives.push(life);
                }
                Frame::Gone { tid, .. } => {
                    let Some(pid) = tasks.remove(&tid) else {
                        continue;
                    };
                    let left = counts.entry(pid).or_default();
                    *left = left.saturating_sub(1);
                    if *left == 0
                        && let Some(at) = now.remove(&pid)
                    {
                        lives[at].to = number;
                    }
                }
                Frame::Remap { tid, pieces } => {
                    let at = tasks.get(&tid).and_then(|pid| now.get(pid));
                    let shown = pieces.iter().filter_map(|piece| match piece.shows {
                        Shows::Object { object, .. } => Some(object),
                        _ => None,
                    });
                    if let Some(&at) = at {
                        let before = lives[at].objects.len();
                        lives[at].objects.extend(shown.take(room));
                        room -= (lives[at].objects.len() - before).min(room);
                    }
                }
                _ => {}
            }
        }
        Ok(Lives(lives))
    }

    /// The processes that are followed with a process from an event on.
    fn followed(&self, pid: i32, event: u64, are_named: impl Fn(&Life) -> bool) -> Followed {
        let lives = &self.0;
        let counts = |life: &Life| life.to >= event;
        let mut by_object: HashMap<u32, Vec<usize>> = HashMap::new();
        let mut by_space: HashMap<usize, Vec<usize>> = HashMap::new();
        for (at, life) in lives.iter().enumerate().filter(|(_, life)| counts(life)) {
            by_space.entry(life.space).or_default().push(at);
            for &object in &life.objects {
                by_object.entry(object).or_default().push(at);
            }
        }
        let is_driven = |life: &Life| life.pid == pid && counts(life);
        let mut open: Vec<usize> = (0..lives.len())
            .filter(|&at| counts(&lives[at]))
            .filter(|&at| is_driven(&lives[at]) || are_named(&lives[at]))
            .collect();
        let mut found: BTreeSet<usize> = open.iter().copied().collect();
        while let Some(at) = open.pop() {
            let life = &lives[at];
            let sharing = life
                .objects
                .iter()
                .filter_map(|object| by_object.get(object));
            let sharing = sharing.chain(by_space.get(&life.space)).flatten();
            // It is followed from the event on, or from its birth.
            let origin = life.origin.as_ref().filter(|_| life.from > event);
            for &other in sharing.chain(origin) {
                if found.insert(other) {
                    open.push(other);
                }
            }
        }
        let mut spans: BTreeMap<i32, Vec<(u64, u64)>> = BTreeMap::new();
        for life in found.into_iter().map(|at| &lives[at]) {
            if life.pid != pid {
                let span = (life.from, life.to);
                spans.entry(life.pid).or_default().push(span);
            }
        }
        Followed {
            spans: Some(spans),
            is_alone: false,
        }
    }
}
