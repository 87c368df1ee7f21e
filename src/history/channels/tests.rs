use super::reading::Reading;
use super::*;
use crate::image::Chunk;
use crate::kernel::forked;
use crate::recording::{CallEvent, Delivery, Effect, Event, EventKind, Frame, SignalEvent, Start};

/// The pipe that the first process begins with: 3 reads from it, 4 writes to it.
const PIPE: &[u8] = b"pipe:[7]";

struct Model {
    tree: ProcessTree,
    kernel: Kernel,
    reading: Reading,
    events: u64,
}

impl Model {
    /// The processes 10, 11 and so on, all of them made by the first.
    fn new(count: i32) -> Model {
        let start = Start {
            pid: 10,
            ppid: 1,
            ..Start::default()
        };
        let mut model = Model {
            tree: ProcessTree::at_start(&start),
            kernel: Kernel::default(),
            reading: Reading::default(),
            events: 0,
        };
        let mut pipe = call(libc::SYS_pipe, [64, 0, 0, 0, 0, 0], Some(0));
        pipe.outs = numbers(&[3, 4]);
        pipe.effect = Effect::Opened(
            [(3, libc::O_RDONLY), (4, libc::O_WRONLY)]
                .map(|(fd, flags)| crate::recording::Opened {
                    fd,
                    path: PIPE.to_vec(),
                    flags,
                    offset: 0,
                    moves: false,
                    twin: None,
                })
                .to_vec(),
        );
        model.call(10, pipe);
        for pid in 11..10 + count {
            model.follow(&forked(10, pid));
        }
        model
    }

    fn follow(&mut self, frame: &Frame) {
        self.reading.follow(&mut self.tree, &mut self.kernel, frame);
    }

    fn event(&mut self, tid: i32, kind: EventKind) -> u64 {
        self.events += 1;
        self.follow(&Frame::Event(Event { tid, kind }));
        self.events
    }

    fn call(&mut self, tid: i32, call: CallEvent) -> u64 {
        self.event(tid, EventKind::Call(call))
    }

    fn kill(&mut self, tid: i32, to: i32, signal: i32) -> u64 {
        let args = [to as u64, signal as u64, 0, 0, 0, 0];
        self.call(tid, call(libc::SYS_kill, args, Some(0)))
    }

    fn signal(&mut self, tid: i32, info: [i32; 4], delivery: Delivery) -> u64 {
        let [signal, code, pid, status] = info;
        let info = numbers(&[signal, 0, code, 0, pid, 0, status])
            .remove(0)
            .data;
        let signal = SignalEvent {
            signal,
            info,
            fault: false,
            delivery,
        };
        self.event(tid, EventKind::Signal(signal))
    }

    fn write(&mut self, tid: i32, len: u64) -> u64 {
        let args = [4, 0, len, 0, 0, 0];
        self.call(tid, call(libc::SYS_write, args, Some(len as i64)))
    }

    fn gone(&mut self, tid: i32, exit: Exit) {
        let left = Vec::new();
        self.follow(&Frame::Gone { tid, exit, left });
    }

    /// A poll of the pipe that told of these events.
    fn poll(&mut self, tid: i32, fd: i32, events: i16) -> u64 {
        let entry = |revents: i16| {
            let words = [libc::POLLIN, revents].map(i16::to_le_bytes).concat();
            let data = [&fd.to_le_bytes()[..], &words].concat();
            vec![Chunk { addr: 64, data }]
        };
        let mut poll = call(libc::SYS_poll, [64, 1, u64::MAX, 0, 0, 0], Some(1));
        poll.ins = entry(0);
        poll.outs = entry(events);
        self.call(tid, poll)
    }

    fn channels(self) -> Channels {
        self.reading.channels.indexed()
    }
}

fn call(nr: i64, args: [u64; 6], ret: Option<i64>) -> CallEvent {
    CallEvent {
        nr: nr as u32,
        args,
        ip: 0,
        ret,
        ins: Vec::new(),
        outs: Vec::new(),
        effect: Effect::None,
    }
}

/// Memory at 64.
fn numbers(numbers: &[i32]) -> Vec<Chunk> {
    let data = numbers.iter().flat_map(|n| n.to_le_bytes()).collect();
    vec![Chunk { addr: 64, data }]
}

fn from(channels: &Channels, event: u64) -> Vec<(u64, Use)> {
    let sources = channels.sources(event).into_iter();
    sources.map(|source| (source.event, source.how)).collect()
}

const USR1: i32 = libc::SIGUSR1;
const KILLED: Exit = Exit::Signal {
    signal: libc::SIGKILL,
    core: false,
};

fn handled() -> Delivery {
    Delivery::Handler {
        regs: Vec::new(),
        sigmask: 0,
        frame: Chunk {
            addr: 0,
            data: Vec::new(),
        },
    }
}

#[test]
fn a_signal_is_of_all_that_were_sent_while_it_was_pending() {
    let mut model = Model::new(3);
    let sent = [11, 11, 12].map(|tid| model.kill(tid, 10, USR1));
    let pause = call(libc::SYS_pause, [0; 6], Some(-514));
    let pause = model.call(10, pause);
    let taken = model.signal(10, [USR1, libc::SI_USER, 11, 0], handled());
    // What the process ignores, and what nobody here has sent, is of no use.
    let ignored = model.kill(11, 10, USR1);
    let first = model.signal(10, [USR1, libc::SI_USER, 11, 0], Delivery::Ignored);
    let last = model.kill(11, 10, USR1);
    let second = model.signal(10, [USR1, libc::SI_USER, 11, 0], handled());
    let other = model.signal(10, [USR1, libc::SI_USER, 99, 0], handled());
    // Real-time signals come one by one.
    let queued = [11, 11].map(|tid| model.kill(tid, 10, 40));
    let real_time = [40, 40].map(|n| model.signal(10, [n, libc::SI_USER, 11, 0], handled()));
    let channels = model.channels();
    let both = vec![(sent[0], Use::Takes), (sent[1], Use::Takes)];
    assert_eq!(from(&channels, taken), both);
    assert_eq!(from(&channels, pause), both);
    assert!(channels.of_event(taken)[0].needs_one());
    assert_eq!(from(&channels, first), []);
    assert_eq!(channels.takers(ignored), []);
    assert_eq!(from(&channels, second), [(last, Use::Takes)]);
    assert_eq!(from(&channels, other), []);
    for at in 0..2 {
        assert_eq!(from(&channels, real_time[at]), [(queued[at], Use::Takes)]);
    }
    let takers = channels.takers(sent[1]);
    let takers: Vec<u64> = takers.iter().map(|taker| taker.event).collect();
    assert_eq!(takers, [pause, taken]);
    assert_eq!(channels.takers(sent[2]), []);
}

#[test]
fn the_end_of_a_process_is_what_its_parent_is_told() {
    let mut model = Model::new(3);
    let exit = model.call(11, call(libc::SYS_exit_group, [3, 0, 0, 0, 0, 0], None));
    model.gone(11, Exit::Code(3));
    let info = [libc::SIGCHLD, libc::CLD_EXITED, 11, 3];
    let told = model.signal(10, info, handled());
    let mut wait = call(libc::SYS_wait4, [11, 64, 0, 0, 0, 0], Some(11));
    wait.outs = numbers(&[0x300]);
    let wait = model.call(10, wait);
    // A process may be gone before the call that kills it returns.
    let stays = model.call(12, call(libc::SYS_pause, [0; 6], None));
    model.gone(12, KILLED);
    let kill = model.kill(10, 12, libc::SIGKILL);
    let channels = model.channels();
    assert_eq!(from(&channels, told), [(exit, Use::Takes)]);
    assert_eq!(from(&channels, wait), [(exit, Use::Takes)]);
    assert_eq!(from(&channels, stays), [(kill, Use::IsKilled)]);
    assert_eq!(channels.end(11), Some((exit, Exit::Code(3))));
    assert_eq!(channels.end(12), Some((stays, KILLED)));
    assert_eq!(channels.end(10), None);
}

#[test]
fn a_child_is_told_of_the_end_of_its_parent() {
    let mut model = Model::new(2);
    let signal = libc::SIGTERM;
    let args = [libc::PR_SET_PDEATHSIG as u64, signal as u64, 0, 0, 0, 0];
    model.call(11, call(libc::SYS_prctl, args, Some(0)));
    let exit = model.call(10, call(libc::SYS_exit_group, [0; 6], None));
    model.gone(10, Exit::Code(0));
    let told = model.signal(11, [signal, libc::SI_USER, 10, 0], handled());
    assert_eq!(from(&model.channels(), told), [(exit, Use::Takes)]);
}

#[test]
fn a_pipe_is_ready_as_long_as_anything_is_in_it() {
    let mut model = Model::new(3);
    let sent = [model.write(11, 2), model.write(12, 3)];
    let ready = model.poll(10, 3, libc::POLLIN);
    // It can be written to whatever has been sent.
    let writable = model.poll(10, 4, libc::POLLOUT);
    let read = |len| call(libc::SYS_read, [3, 0, len, 0, 0, 0], Some(len as i64));
    model.call(10, read(2));
    let rest = model.poll(10, 3, libc::POLLIN);
    model.call(10, read(3));
    // What comes next may come before its write returns.
    let early = model.poll(10, 3, libc::POLLIN);
    let late = model.write(11, 1);
    let channels = model.channels();
    let both = sent.map(|event| (event, Use::FindsReady));
    assert_eq!(from(&channels, ready), both);
    assert!(channels.of_event(ready)[0].needs_one());
    assert_eq!(from(&channels, writable), []);
    assert_eq!(from(&channels, rest), both[1..]);
    assert_eq!(from(&channels, early), [(late, Use::FindsReady)]);
}

#[test]
fn the_end_of_data_is_told_apart_from_data() {
    let mut model = Model::new(2);
    let close = |fd| call(libc::SYS_close, [fd, 0, 0, 0, 0, 0], Some(0));
    model.call(10, close(4));
    let sent = model.write(11, 2);
    let closed = model.call(11, close(4));
    let both = model.poll(10, 3, libc::POLLIN | libc::POLLHUP);
    model.call(10, call(libc::SYS_read, [3, 0, 9, 0, 0, 0], Some(2)));
    // Select(2) tells of both in the same set.
    let mut select = call(libc::SYS_select, [4, 64, 0, 0, 0, 0], Some(1));
    select.ins = numbers(&[8, 0]);
    select.outs = numbers(&[8, 0]);
    let select = model.call(10, select);
    let channels = model.channels();
    let found = from(&channels, both);
    assert_eq!(found, [(sent, Use::FindsReady), (closed, Use::FindsEnd)]);
    assert_eq!(from(&channels, select), [(closed, Use::FindsEnd)]);
}

#[test]
fn an_epoll_instance_tells_of_what_was_added() {
    let mut model = Model::new(2);
    let create = call(libc::SYS_epoll_create1, [0; 6], Some(5));
    model.call(10, create);
    let args = [5, libc::EPOLL_CTL_ADD as u64, 3, 64, 0, 0];
    let mut add = call(libc::SYS_epoll_ctl, args, Some(0));
    add.ins = numbers(&[libc::EPOLLIN, 77, 0]);
    model.call(10, add);
    let sent = model.write(11, 2);
    // That it is ready itself is shown by what it tells then.
    let outer = model.poll(10, 5, libc::POLLIN);
    let mut wait = call(libc::SYS_epoll_wait, [5, 64, 9, 0, 0, 0], Some(1));
    wait.outs = numbers(&[libc::EPOLLIN, 77, 0]);
    let wait = model.call(10, wait);
    let channels = model.channels();
    assert_eq!(from(&channels, wait), [(sent, Use::FindsReady)]);
    assert_eq!(from(&channels, outer), [(sent, Use::FindsReady)]);
}
