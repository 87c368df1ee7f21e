//! The changes that a spun-off process made to the kernel's state while its calls were answered without the kernel.

use super::Recording;
use crate::kernel::{
    Clock, DescriptorTable, Descriptors, Kernel, OpenFile, Stream, output_descriptors,
};
use crate::recording::{CallEvent, Result};
use crate::syscall::{self, Moved};

/// The calls of a process since it was spun off, as far as they changed modelled state.
#[derive(Clone, Debug)]
pub struct KernelChanges {
    event: u64,
    pid: i32,
    calls: Vec<Call>,
    size: usize,
    /// The state before those calls; `None` for the state at the event.
    before: Option<Kernel>,
    /// The bytes read from its standard input.
    input: u64,
    /// The signals of timers, with their `siginfo_t`.
    signals: Vec<(i32, Vec<u8>)>,
}

#[derive(Clone, Debug)]
struct Call {
    call: CallEvent,
    before: CallDescriptors,
    after: CallDescriptors,
}

/// The descriptors that a call is about.
#[derive(Clone, Debug)]
struct CallDescriptors {
    files: Vec<(i32, u64, OpenFile)>,
    cwd: Vec<u8>,
}

impl CallDescriptors {
    fn of(table: &DescriptorTable, numbers: impl IntoIterator<Item = i32>) -> CallDescriptors {
        let file = |fd| Some((fd, table.file_id(fd)?, table.get(fd)?.clone()));
        CallDescriptors {
            files: numbers.into_iter().filter_map(file).collect(),
            cwd: table.cwd().to_vec(),
        }
    }
}

impl Descriptors for CallDescriptors {
    fn file(&self, fd: i32) -> Option<(u64, &OpenFile)> {
        let found = self.files.iter().find(|known| known.0 == fd);
        found.map(|(_, id, file)| (*id, file))
    }

    fn cwd(&self) -> &[u8] {
        &self.cwd
    }
}

/// A call that is to be noted, with its descriptors at entry.
#[derive(Debug)]
pub struct PendingChange(CallDescriptors);

fn numbers(call: &CallEvent) -> [i32; 3] {
    [call.args[0], call.args[1], call.args[2]].map(|arg| arg as i32)
}

impl KernelChanges {
    /// At this many bytes the calls are applied to the state.
    const MOST: usize = 8 << 20;

    /// No changes: the process has just been spun off at this event.
    pub fn new(event: u64, pid: i32) -> KernelChanges {
        KernelChanges {
            event,
            pid,
            calls: Vec::new(),
            size: 0,
            before: None,
            input: 0,
            signals: Vec::new(),
        }
    }

    /// The event at which it was spun off.
    pub fn event(&self) -> u64 {
        self.event
    }

    /// Its pid as recorded.
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// Returns what must be passed to [`note`](KernelChanges::note) if an answered call changes the kernel's state.
    /// To be called before the table follows the call; the call's memory need not be there yet.
    pub fn concerns(&mut self, table: &DescriptorTable, call: &CallEvent) -> Option<PendingChange> {
        if !call.was_made() {
            return None;
        }
        let fd = call.args[0] as i32;
        if let Some(read @ 1..) = call.ret
            && table.stream(fd) == Some(Stream::Stdin)
            && syscall::by_nr(call.nr.into()).and_then(|known| known.moves_data())
                == Some(Moved::Out)
        {
            self.input = self.input.saturating_add(read as u64);
        }
        let changed = call.ret.is_some() && Kernel::is_changed_by(call, table);
        changed.then(|| PendingChange(CallDescriptors::of(table, numbers(call))))
    }

    /// Notes a call, with its memory. To be called once the table has followed it.
    pub fn note(
        &mut self,
        noted: PendingChange,
        call: CallEvent,
        recording: &Recording,
        table: &DescriptorTable,
    ) {
        const EACH: usize = 256;
        // Of several readings of a clock, the first and the last count.
        if Clock::is_read_by(&call)
            && let [.., first, last] = self.calls.as_mut_slice()
            && [first, &mut *last]
                .iter()
                .all(|before| (before.call.nr, before.call.args[0]) == (call.nr, call.args[0]))
        {
            last.call = call;
            return;
        }
        let made = output_descriptors(&call);
        let returned = call.ret.and_then(|ret| i32::try_from(ret).ok());
        let all = made.into_iter().chain(returned).chain(numbers(&call));
        let after = CallDescriptors::of(table, all);
        let chunks = call.ins.iter().chain(&call.outs);
        self.size += chunks.map(|chunk| chunk.data.len()).sum::<usize>() + EACH;
        self.calls.push(Call {
            call,
            before: noted.0,
            after,
        });
        // If the recording cannot be read, going live reports that.
        if self.size > KernelChanges::MOST {
            self.size = 0;
            if let Ok(kernel) = self.kernel(recording, table) {
                self.before = Some(kernel);
                self.calls.clear();
            }
        }
    }

    /// Notes a signal that was delivered.
    pub fn signal(&mut self, signal: i32, info: &[u8]) {
        if matches!(signal, libc::SIGALRM | libc::SIGVTALRM | libc::SIGPROF)
            || info.get(8..12) == Some(&(-2i32).to_le_bytes())
        {
            self.signals.push((signal, info.to_vec()));
        }
    }

    /// The number of bytes read from its standard input.
    pub fn input(&self) -> u64 {
        self.input
    }

    /// Whether no state was changed.
    pub fn is_empty(&self) -> bool {
        self.calls.is_empty() && self.before.is_none()
    }

    /// The kernel's state of these descriptors and this process now.
    ///
    /// # Errors
    /// If the recording cannot be read.
    pub fn kernel(&self, recording: &Recording, table: &DescriptorTable) -> Result<Kernel> {
        let pid = self.pid;
        let mut kernel = match &self.before {
            Some(kernel) => kernel.clone(),
            None => {
                let mut files: Vec<(u64, &OpenFile)> = Vec::new();
                let now = table.iter().filter_map(|(fd, ..)| table.file(fd));
                let then = self.calls.iter().flat_map(|call| &call.before.files);
                files.extend(now.chain(then.map(|(_, id, file)| (*id, file))));
                recording.kernel_at(self.event, |_, kernel| kernel.subset(pid, &files))?
            }
        };
        for Call {
            call,
            before,
            after,
        } in &self.calls
        {
            kernel.change_objects(pid, call, before);
            kernel.create_objects(call, after);
        }
        for (signal, info) in &self.signals {
            kernel.deliver_signal(pid, *signal, info);
        }
        Ok(kernel)
    }
}
