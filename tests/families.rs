//! Recordings of several processes: who is connected with whom, who takes what another one sent, and which process group,
//! session and terminal each has. `tests/real/families` lists the programs.

use crate::common::listed::{self, Line};
use crate::common::{Done, Folder};
use rrapper::history::{Channels, Recording};
use rrapper::kernel::{ChannelId, Use};
use rrapper::recording::{ChunkMemory, Event, Frame, Reader, Source, Writer};
use rrapper::syscall::Memory;
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

const TABLE: &str = include_str!("real/families");

/// A program that was recorded.
pub struct Family {
    /// The folder in which it ran, with the recording `rec` in it.
    pub folder: Folder,
    /// The end of `rrapper record`.
    pub done: Done,
    pub recording: Recording,
}

fn line(name: &str) -> Line<'static> {
    let found = listed::lines(TABLE).find(|line| line.name == name);
    found.unwrap_or_else(|| panic!("{name} is not in the table"))
}

/// Records a program of the table, which must end with status 0.
#[track_caller]
pub fn record(name: &str) -> Family {
    let line = line(name);
    line.is_installed();
    let folder = Folder::new();
    let real = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/real");
    let mut command = folder.command(crate::common::RRAPPER);
    command
        .args(["-q", "record", "-o", "rec", "--", "sh", "-c", line.command])
        .env("REAL", real)
        .env("PATH", listed::path())
        .env("HOME", folder.path())
        .env("TMPDIR", folder.path())
        .env("TZ", "UTC");
    let done = Done::from(command.output().expect("it starts"));
    assert_eq!(
        done.code,
        Some(0),
        "{name}: {}\n{}",
        done.text(),
        done.stderr
    );
    let recording = Recording::open(&folder.join("rec")).unwrap();
    Family {
        folder,
        done,
        recording,
    }
}

/// Records a program, and checks that its replay says the same.
#[track_caller]
fn check(name: &str) -> Family {
    let family = record(name);
    let replayed = family.folder.rrapper(["replay", "rec"]).ok();
    assert_eq!(replayed.text(), family.done.text(), "{name}");
    family.is_consistent(name);
    family
}

macro_rules! families {
    ($($test:ident)*) => {
        $(
            #[test]
            fn $test() {
                check(&stringify!($test).replace('_', "-"));
            }
        )*

        #[test]
        fn every_family_is_here() {
            let mut listed = vec![$(stringify!($test).replace('_', "-")),*];
            // These have tests of their own.
            listed.extend(["pipeline", "prefork", "nginx", "redis-unix", "redis-tcp", "datagrams", "script", "tmux", "ways"].map(String::from));
            let known: BTreeSet<&str> = listed::lines(TABLE).map(|line| line.name).collect();
            assert_eq!(known, listed.iter().map(String::as_str).collect());
        }
    };
}

families! { pipelines make git_hook gcc xargs python_pool python_event sqlite_wal posix_spawn ansible }

impl Family {
    fn events(&self) -> impl Iterator<Item = (u64, Event)> {
        self.recording.events_from(1).unwrap().map(Result::unwrap)
    }

    /// What an event moved in the direction of this address, if it is one of the simple calls.
    fn data(&self, number: u64) -> Option<Vec<u8>> {
        let event = self.recording.event(number).unwrap();
        let call = event.call()?;
        let chunks = match i64::from(call.nr) {
            libc::SYS_read | libc::SYS_recvfrom => &call.outs,
            libc::SYS_write | libc::SYS_sendto => &call.ins,
            _ => return None,
        };
        let mut data = vec![0; usize::try_from(call.ret?).ok()?];
        let n = ChunkMemory(chunks).read(call.args[1], &mut data);
        (n == data.len()).then_some(data)
    }

    /// Checks what must hold in each recording: nobody takes what nobody sent, and what is taken is what was sent; the
    /// kernel said the same of process groups, sessions and terminals.
    #[track_caller]
    fn is_consistent(&self, name: &str) -> usize {
        let channels = self.recording.channels().unwrap();
        let mut compared = 0;
        for channel in channels.all() {
            let mut from_others = false;
            for one in channels.of_channel(channel) {
                if !matches!(one.what, Use::Takes | Use::Looks) {
                    continue;
                }
                let sources = channels.sources(one.event);
                let sources: Vec<_> = sources.iter().filter(|s| s.channel == *channel).collect();
                let known: u64 = sources.iter().map(|s| s.range.end - s.range.start).sum();
                // What was inherited, or is connected with others than the recorded ones.
                from_others |= known != one.range.end - one.range.start;
                if from_others {
                    let channel = format!("{channel:?} {one:?} {sources:?}");
                    let accepted = channels.connections().any(|c| {
                        c.accepted.is_some()
                            && [ChannelId::ToClient(c.number), ChannelId::ToServer(c.number)]
                                .contains(&one.channel)
                    });
                    assert!(!accepted, "{name}: {channel}");
                    continue;
                }
                for source in &sources {
                    assert!(
                        channels.takers(source.event).iter().any(|taker| {
                            taker.event == one.event && taker.range == source.range
                        })
                    );
                }
                if matches!(channel, ChannelId::Counter(_)) || one.counts_messages {
                    continue;
                }
                let Some(taken) = self.data(one.event) else {
                    continue;
                };
                let mut sent: Vec<u8> = Vec::new();
                for source in &sources {
                    let Some(data) = self.data(source.event) else {
                        sent.clear();
                        break;
                    };
                    let all = channels.of_event(source.event);
                    let whole = all
                        .iter()
                        .find(|w| w.channel == *channel && w.what == Use::Sends);
                    let start = whole.unwrap().range.start;
                    let part = (source.range.start - start) as usize..;
                    let len = (source.range.end - source.range.start) as usize;
                    sent.extend(&data[part][..len]);
                }
                if !sent.is_empty() {
                    assert_eq!(sent, taken, "{name}: {one:?} {sources:?}");
                    compared += 1;
                }
            }
        }
        for connection in channels.connections() {
            if connection.accepted.is_some() {
                assert!(connection.connected.is_some(), "{name}: {connection:?}");
                assert!(!connection.is_ambiguous, "{name}: {connection:?}");
            }
        }
        self.jobs_are_as_shown(name);
        compared
    }

    /// Compares what processes read from `/proc/PID/stat` with the model; returns what they read: group, session,
    /// terminal, foreground group.
    #[track_caller]
    fn jobs_are_as_shown(&self, name: &str) -> Vec<[i32; 4]> {
        let mut seen = Vec::new();
        for (number, event) in self.events() {
            let Some(call) = event.call() else { continue };
            if i64::from(call.nr) != libc::SYS_read || call.ret.is_none_or(|ret| ret <= 0) {
                continue;
            }
            let path = self.recording.process_tree_at(number, |tree| {
                let file = tree.open_file(event.tid, call.args[0] as i32);
                file.filter(|file| file.offset == 0)
                    .map(|file| file.path.clone())
            });
            let path = String::from_utf8(path.unwrap().unwrap_or_default()).unwrap_or_default();
            if !path.starts_with("/proc/") || !path.ends_with("/stat") || path == "/proc/stat" {
                continue;
            }
            let text = String::from_utf8(self.data(number).unwrap()).unwrap();
            let pid: i32 = text.split(' ').next().unwrap().parse().unwrap();
            let fields = text.rsplit(')').next().unwrap().split_whitespace().skip(2);
            let shown: Vec<i32> = fields.take(4).map(|word| word.parse().unwrap()).collect();
            let shown = [shown[0], shown[1], shown[2], shown[3].max(0)];
            let known = self
                .recording
                .process_tree_at(number, |tree| tree.job_control(pid));
            let Some(known) = known.unwrap() else {
                continue;
            };
            let known = [known.pgid, known.sid, known.tty, known.foreground];
            assert_eq!(
                known.map(|n| n.unwrap_or(0)),
                shown,
                "{name}: event {number}: {text}"
            );
            seen.push(shown);
        }
        seen
    }

    /// The pids of the processes whose program has this name at the end.
    fn pids(&self, program: &str) -> Vec<i32> {
        let all = self.recording.processes().unwrap().into_iter();
        all.filter(|process| process.exe.ends_with(format!("/{program}").as_bytes()))
            .map(|process| process.pid)
            .collect()
    }

    /// A copy of the recording as a recorder writes it that knows neither addresses nor job control.
    fn older(&self, name: &str) {
        let (from, to) = (self.folder.join("rec"), self.folder.join(name));
        let reader = Reader::open(&from).unwrap();
        let mut writer = Writer::create(&to).unwrap();
        let start = Source::start(&reader).clone();
        writer.write(&Frame::Start(start)).unwrap();
        let mut frames = Source::frames_from(&reader, 1).unwrap();
        let mut left_out = 0;
        while let Some(frame) = frames.next_frame().unwrap() {
            match frame {
                Frame::Addresses(_) | Frame::JobControl(_) => left_out += 1,
                frame => writer.write(&frame).unwrap(),
            }
        }
        assert!(left_out > 1);
        drop(writer);
        for file in fs::read_dir(from.join("files")).unwrap() {
            let file = file.unwrap();
            fs::copy(file.path(), to.join("files").join(file.file_name())).unwrap();
        }
    }
}

/// The connections that were accepted: the pids of both ends.
fn accepted(channels: &Channels) -> Vec<(i32, i32)> {
    let all = channels.connections();
    all.filter_map(|c| Some((c.connected?.1, c.accepted?.1)))
        .collect()
}

#[test]
fn pipeline() {
    let family = check("pipeline");
    let channels = family.recording.channels().unwrap();
    let [seq, grep, wc] = ["seq", "grep", "wc"].map(|name| family.pids(name)[0]);
    let shell = Source::start(&Reader::open(&family.folder.join("rec")).unwrap()).pid;
    let mut links = BTreeSet::new();
    let mut ends = 0;
    for (number, event) in family.events() {
        let pid = event.tid;
        for source in channels.sources(number) {
            if !matches!(source.channel, ChannelId::Pipe(_)) {
                continue;
            }
            if source.how == Use::Takes {
                links.insert((source.pid, pid));
            } else if source.how == Use::FindsEnd {
                let wrote = if pid == grep { seq } else { grep };
                assert!([grep, wc].contains(&pid), "{source:?}");
                // The shell has the end, too, and may be slower to close it than the program to end.
                let (last, _) = channels.end(wrote).unwrap();
                let is_shells = source.pid == shell && source.event > last;
                assert!(source.pid == wrote || is_shells, "{source:?}");
                ends += 1;
            }
        }
    }
    assert_eq!(
        (links, ends),
        (BTreeSet::from([(seq, grep), (grep, wc)]), 2)
    );
}

#[test]
fn prefork() {
    let family = check("prefork");
    let channels = family.recording.channels().unwrap();
    let accepted = accepted(&channels);
    assert_eq!(accepted.len(), 4, "{accepted:?}");
    let clients: BTreeSet<i32> = accepted.iter().map(|&(client, _)| client).collect();
    assert_eq!(clients.len(), 1);
    assert!(family.is_consistent("prefork") >= 8);
    // What was asked for is what was answered to.
    let first = channels.connections().next().unwrap();
    let answers = channels.of_channel(&ChannelId::ToClient(first.number));
    let taken = answers
        .filter(|one| one.what == Use::Takes)
        .collect::<Vec<_>>();
    assert_eq!(family.data(taken[0].event).unwrap(), b"ONE");
}

#[test]
fn nginx() {
    let family = check("nginx");
    let channels = family.recording.channels().unwrap();
    let (servers, clients) = (family.pids("nginx"), family.pids("curl"));
    let accepted = accepted(&channels);
    assert_eq!(accepted.len(), 1);
    assert!(clients.contains(&accepted[0].0) && servers.contains(&accepted[0].1));
}

/// Both ends of each connection are known at the event that takes from it, and hold it.
#[track_caller]
fn peers_hold_their_ends(family: &Family, server: &str, client: &str) {
    let channels = family.recording.channels().unwrap();
    let accepted = accepted(&channels);
    assert!(accepted.len() >= 5, "{accepted:?}");
    let (servers, clients) = (family.pids(server), family.pids(client));
    for pair in &accepted {
        assert!(
            clients.contains(&pair.0) && servers.contains(&pair.1),
            "{pair:?}"
        );
    }
    for connection in channels.connections().filter(|c| c.accepted.is_some()) {
        let (_, client, client_fd) = connection.connected.unwrap();
        let (_, server, server_fd) = connection.accepted.unwrap();
        let answers = channels.of_channel(&ChannelId::ToClient(connection.number));
        let Some(taken) = answers.into_iter().find(|one| one.what == Use::Takes) else {
            continue;
        };
        let ends = family.recording.kernel_at(taken.event, |tree, kernel| {
            let of = |pid: i32, fd: i32| {
                let peer = kernel.peer(tree.file_id(pid, fd).unwrap());
                tree.holders(peer.unwrap())
            };
            (of(client, client_fd), of(server, server_fd))
        });
        let expected = (vec![(server, server_fd)], vec![(client, client_fd)]);
        assert_eq!(ends.unwrap(), expected);
    }
}

#[test]
fn redis_unix() {
    let family = check("redis-unix");
    peers_hold_their_ends(&family, "redis-check-rdb", "redis-cli");
}

#[test]
fn redis_tcp() {
    let family = check("redis-tcp");
    peers_hold_their_ends(&family, "redis-check-rdb", "redis-cli");
}

#[test]
fn datagrams() {
    let family = check("datagrams");
    let channels = family.recording.channels().unwrap();
    let mut links = Vec::new();
    for (number, event) in family.events() {
        let sources = channels.sources(number);
        let inboxes = sources
            .iter()
            .filter(|s| matches!(s.channel, ChannelId::Inbox(_)));
        links.extend(inboxes.map(|source| (source.pid, event.tid)));
        for source in &sources {
            if matches!(source.channel, ChannelId::Inbox(_)) {
                assert_eq!(family.data(number), family.data(source.event), "{source:?}");
            }
        }
    }
    // A question and an answer for each of three words, twice.
    assert_eq!(links.len(), 12, "{links:?}");
    assert!(links.iter().all(|(from, to)| from != to));
}

/// How often the recorder corrected the model of process groups, sessions and terminals.
fn corrections(family: &Family) -> usize {
    let mut frames = family.recording.frames_from(1).unwrap();
    let mut found = 0;
    while let Some(frame) = frames.next_frame().unwrap() {
        found += usize::from(matches!(frame, Frame::JobControl(_)));
    }
    // The first one is of the beginning.
    found - 1
}

#[test]
fn script() {
    let family = check("script");
    assert_eq!(corrections(&family), 0);
    // script(1) takes what the jobs write.
    let channels = family.recording.channels().unwrap();
    let script = family.pids("script")[0];
    let mut writers = BTreeSet::new();
    for (number, event) in family.events() {
        let sources = channels.sources(number);
        let is_terminal = |id: &ChannelId| matches!(id, ChannelId::FromTerminal(_));
        for source in sources.iter().filter(|source| is_terminal(&source.channel)) {
            assert_eq!(event.tid, script);
            writers.insert((source.pid, source.how));
        }
    }
    let cats = family.pids("cat");
    let wrote = writers
        .iter()
        .filter(|(pid, how)| *how == Use::Takes && cats.contains(pid));
    assert!(wrote.count() >= 7, "{writers:?}");
    let seen = family.jobs_are_as_shown("script");
    assert_eq!(seen.len(), 10, "{seen:?}");
    let [shell, first] = [seen[0], seen[1]];
    assert!(shell[2] != 0 && shell[0] == shell[3], "{seen:?}");
    assert!(
        first[0] != shell[0] && first[0] == first[3],
        "its own group: {seen:?}"
    );
    let is_background = |job: &&[i32; 4]| job[2] != 0 && job[0] != job[3];
    assert_eq!(seen.iter().filter(is_background).count(), 2, "{seen:?}");
    assert_eq!(seen.iter().filter(|job| job[2] == 0).count(), 1, "{seen:?}");
}

#[test]
fn tmux() {
    let family = check("tmux");
    assert_eq!(corrections(&family), 0);
    // Its server leads a session, and the program on the terminal another one.
    let jobs = family
        .recording
        .process_tree_at(family.recording.len() * 3 / 4, |tree| {
            let pids: BTreeSet<i32> = tree.all_tasks().filter_map(|tid| tree.pid(tid)).collect();
            let jobs = pids
                .into_iter()
                .map(|pid| (pid, tree.job_control(pid).unwrap()));
            jobs.collect::<Vec<_>>()
        });
    let jobs = jobs.unwrap();
    let leads = |pid: i32, sid: Option<i32>| sid == Some(pid);
    let with_terminal = jobs
        .iter()
        .filter(|(pid, job)| leads(*pid, job.sid) && job.tty.is_some());
    assert_eq!(with_terminal.count(), 1, "{jobs:?}");
    let without = jobs
        .iter()
        .filter(|(pid, job)| leads(*pid, job.sid) && job.tty.is_none());
    assert_eq!(without.count(), 1, "{jobs:?}");
}

#[test]
fn ways() {
    let family = check("ways");
    let channels = family.recording.channels().unwrap();
    let all = family.recording.processes().unwrap();
    let is_python = |exe: &[u8]| exe.windows(6).any(|part| part == b"python");
    let parent = all.iter().find(|process| is_python(&process.exe));
    let parent = parent.unwrap().pid;
    let mut kinds = BTreeSet::new();
    for (number, event) in family.events() {
        for source in channels.sources(number) {
            if source.pid == event.tid || ![source.pid, event.tid].contains(&parent) {
                continue;
            }
            let kind = match &source.channel {
                ChannelId::Pipe(name) if name.starts_with(b"/") => "fifo",
                ChannelId::Pipe(_) => "pipe",
                ChannelId::Inbox(_) => "inbox",
                ChannelId::ToServer(_) => "to server",
                ChannelId::ToClient(_) => "to client",
                ChannelId::Counter(_) => "counter",
                ChannelId::ToTerminal(_) | ChannelId::FromTerminal(_) => "terminal",
                ChannelId::Signal { .. } => "signal",
                ChannelId::End(_) => "end",
            };
            kinds.insert((kind, source.how));
        }
    }
    let expected = [
        ("counter", Use::Takes),
        ("end", Use::Takes),
        ("fifo", Use::Takes),
        ("fifo", Use::FindsEnd),
        ("inbox", Use::Takes),
        ("inbox", Use::Looks),
        ("inbox", Use::FindsEnd),
        ("pipe", Use::Takes),
        ("pipe", Use::FindsNoTaker),
        ("terminal", Use::Takes),
        ("terminal", Use::FindsEnd),
        ("to client", Use::Takes),
        ("to server", Use::FindsEnd),
        ("to server", Use::Accepts),
        ("to server", Use::Takes),
    ];
    assert_eq!(kinds, BTreeSet::from(expected));
}

#[test]
fn older_recordings_give_the_same_and_say_what_is_guessed() {
    let family = record("prefork");
    family.older("older");
    let replayed = family.folder.rrapper(["replay", "older"]).ok();
    assert_eq!(replayed.text(), family.done.text());
    let older = Recording::open(&family.folder.join("older")).unwrap();
    let pid = older.start().pid;
    let job = older.process_tree_at(older.len(), |tree| tree.job_control(pid));
    assert_eq!(job.unwrap().map(|job| job.pgid), Some(None));
    // One connection after the other leaves no choice.
    let now = family.recording.channels().unwrap();
    let then = older.channels().unwrap();
    assert_eq!(accepted(&then), accepted(&now));
    assert!(
        then.connections()
            .all(|connection| !connection.is_ambiguous)
    );
}
