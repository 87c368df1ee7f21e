//! The standard streams of a program that is started live: its input, and its captured output.

use super::own_terminal::Terminal;
use crate::inject::report::Report;
use crate::kernel::Stream;
use crate::tracee::{Error, InputCopy, Result, Stdin, Stopped, spawn};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

/// The maximum size of the output that is kept of each stream.
const MOST: usize = 64 << 20;

/// The interval at which the end of the run is checked, in milliseconds.
const LOOK: u8 = 100;

/// The standard streams, before the program is there.
pub(super) struct StandardStreams {
    /// The reading ends of standard output and error.
    outputs: [Option<File>; 2],
    /// Whether its input is empty.
    is_empty: bool,
    /// The copy of rrapper's input.
    input: Option<InputCopy>,
    /// The text that is to be typed at the program's own terminal, if it is to have one.
    typed: Option<Vec<u8>>,
    /// That terminal, and another descriptor of its master.
    terminal: Option<Terminal>,
    master: Option<File>,
}

impl StandardStreams {
    /// Makes the streams; also returns the program's ends. No file of the machine is among these.
    pub fn new(stdin: &Stdin) -> Result<(StandardStreams, [OwnedFd; 3])> {
        let pipes = || io::pipe().map_err(|e| Error::os("make a pipe for its output", 0, e));
        let (out, theirs_out) = pipes()?;
        let (err, theirs_err) = pipes()?;
        let fail = |e| Error::os("open its standard input", 0, e);
        let mut streams = StandardStreams {
            outputs: [out, err].map(|end| Some(File::from(OwnedFd::from(end)))),
            is_empty: matches!(stdin, Stdin::Inherit | Stdin::Nothing),
            input: None,
            typed: None,
            terminal: None,
            master: None,
        };
        let mut copied = |file: OwnedFd| -> io::Result<OwnedFd> {
            let (theirs, copy) = InputCopy::start(file)?;
            streams.input = Some(copy);
            Ok(theirs.into())
        };
        let input = match stdin {
            Stdin::Inherit => match io::stdin().as_fd().try_clone_to_owned() {
                Ok(file) => copied(file),
                // Standard input is closed.
                Err(_) => spawn::nothing(),
            },
            Stdin::File(file) => file.try_clone().and_then(|file| copied(file.into())),
            Stdin::Nothing => spawn::nothing(),
            Stdin::Bytes(bytes) => Ok(spawn::memfd("stdin", bytes)?),
            Stdin::Terminal(typed) => {
                streams.typed = Some(typed.clone());
                spawn::nothing()
            }
        };
        let input = input.map_err(fail)?;
        Ok((streams, [input, theirs_out.into(), theirs_err.into()]))
    }

    /// Gives the process that is about to execute the program its terminal, if it is to have one, or the `/dev/null` of
    /// its sandbox, if it is to have no input: of the machine's, root could change the owner and the permissions.
    pub fn give_devices(&mut self, task: &mut Stopped) -> Result<()> {
        if self.is_empty && self.input.is_none() {
            let mut remote = task.remote_at_boundary()?;
            let path = remote.put_str(b"/dev/null")?;
            let args = [libc::AT_FDCWD as u64, path, libc::O_RDONLY as u64, 0, 0, 0];
            let what = "open its standard input";
            let file = remote.must(what, libc::SYS_openat, args)?;
            remote.must(what, libc::SYS_dup2, [file, 0, 0, 0, 0, 0])?;
            remote.call(libc::SYS_close, [file, 0, 0, 0, 0, 0])?;
            remote.finish()?;
        }
        if let Some(typed) = self.typed.take() {
            let (own, output) = Terminal::give(task, &typed)?;
            let master = own.master();
            let fail = |e| Error::os("keep its terminal", task.tid(), e);
            self.master = Some(master.map_err(fail)?);
            self.outputs = [Some(output), None];
            self.terminal = Some(own);
        }
        Ok(())
    }

    /// Begins to read, and to type: what is typed may be a signal to the program.
    pub fn begin(self) -> RunningStreams {
        let over = Arc::new(AtomicBool::new(false));
        RunningStreams {
            reader: read_all(self.outputs, self.terminal, Arc::clone(&over)),
            _input: self.input,
            _master: self.master,
            over,
        }
    }
}

/// The standard streams of a program that runs.
pub(super) struct RunningStreams {
    reader: JoinHandle<[CapturedOutput; 2]>,
    _input: Option<InputCopy>,
    /// Programs get SIGHUP when it is closed, and some close their streams before they exit.
    _master: Option<File>,
    over: Arc<AtomicBool>,
}

impl RunningStreams {
    /// Ends the streams with the run, and reports the output.
    pub fn end(self) -> impl FnOnce(&mut Report) {
        self.over.store(true, Ordering::SeqCst);
        move |report| {
            let Ok([out, err]) = self.reader.join() else {
                return;
            };
            for (stream, written) in [(Stream::Stdout, out), (Stream::Stderr, err)] {
                report.log.output(stream, &written.text);
                report.log.more_output(stream, written.more);
            }
        }
    }
}

/// The captured output of a stream.
#[derive(Default)]
struct CapturedOutput {
    text: Vec<u8>,
    /// The number of bytes beyond the limit.
    more: u64,
}

/// Reads both streams until all writers have closed them; or until they are empty and the run is over, should
/// a process outside of the run hold them open. Meanwhile it types at the terminal.
fn read_all(
    mut ends: [Option<File>; 2],
    mut terminal: Option<Terminal>,
    over: Arc<AtomicBool>,
) -> JoinHandle<[CapturedOutput; 2]> {
    std::thread::spawn(move || {
        let mut texts = [CapturedOutput::default(), CapturedOutput::default()];
        let mut part = vec![0; 64 << 10];
        while ends.iter().any(Option::is_some) {
            let mut asked: Vec<PollFd<'_>> = ends
                .iter()
                .flatten()
                .map(|end| PollFd::new(end.as_fd(), PollFlags::POLLIN))
                .collect();
            if let Some(terminal) = &terminal {
                asked.push(PollFd::new(terminal.as_fd(), PollFlags::POLLOUT));
            }
            let was_over = over.load(Ordering::SeqCst);
            match poll(&mut asked, PollTimeout::from(LOOK)) {
                Ok(0) if was_over => break,
                Ok(1..) => {}
                _ => continue,
            }
            let mut ready = asked
                .iter()
                .map(|fd| fd.any().unwrap_or(true))
                .collect::<Vec<_>>()
                .into_iter();
            let mut has_output = false;
            for (end, text) in ends.iter_mut().zip(&mut texts) {
                if end.is_none() || ready.next() != Some(true) {
                    continue;
                }
                has_output = true;
                match end.as_mut().map(|end| end.read(&mut part)) {
                    Some(Ok(n @ 1..)) => {
                        let kept = n.min(MOST.saturating_sub(text.text.len()));
                        text.text.extend_from_slice(&part[..kept]);
                        text.more += (n - kept) as u64;
                    }
                    Some(Err(e)) if is_for_later(&e) => {}
                    _ => *end = None,
                }
            }
            if ready.next() == Some(true)
                && let Some(own) = &mut terminal
                && !own.type_on()
            {
                terminal = None;
            }
            if was_over && !has_output {
                break;
            }
        }
        texts
    })
}

fn is_for_later(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
    )
}
