//! The conditions of plausible answers: what each asks of the facts about a call.

use super::{Facts, FileType};

/// What must be true of a call for an answer to be plausible.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Condition {
    /// Something is created or grows.
    Creates,
    /// The call insists on creating the file.
    New,
    /// The file is to have no name.
    Unnamed,
    /// Something is written.
    Writes,
    /// Something was written to the file before.
    Written,
    /// A path is looked up.
    Path,
    /// The call is about a file.
    File,
    /// A device is behind the file.
    Device,
    /// The file is a regular file or a directory.
    Stored,
    /// The file is a directory.
    Directory,
    /// The file is open for reading only.
    Readonly,
    /// The file is a device, a FIFO or a socket.
    Special,
    /// The file is a terminal.
    Terminal,
    /// The file is a pipe, a FIFO, a socket or a terminal: reads return what there is.
    Partial,
    /// The call can wait, and a handler without `SA_RESTART` is installed.
    Interrupted,
    /// The call can wait and is never restarted, and a handler is installed: signal(7).
    Handled,
    /// The call can wait.
    Waits,
    /// The call does not wait.
    Nonblocking,
    /// The call has a time limit.
    Timed,
    /// The descriptor is a pipe, a FIFO or a connected stream socket.
    Pipe,
    /// The descriptor is a connected stream socket.
    Connected,
    /// The descriptor is a connected datagram socket.
    Datagram,
    /// The descriptor is a datagram socket.
    Messages,
    /// The descriptor is a stream socket or a Unix domain socket, so that a peer can refuse.
    Answered,
    /// The descriptor is a socket of an internet family.
    Network,
    /// The descriptor is a Unix domain socket, and the address has a path.
    Local,
    /// The call is about another process or thread.
    Other,
    /// The call changes what it can also tell.
    Sets,
    /// The call makes a namespace.
    Namespaces,
    /// Two directories are involved.
    Directories,
    /// The call asks for a lock.
    Locks,
    /// The call makes another descriptor.
    Duplicates,
    /// The call looks for data or for a hole.
    Data,
    /// The call takes memory.
    Memory,
}

/// A condition, its name in the table, the sentence about it that follows "when", and what it asks of the facts.
type Row = (Condition, &'static str, &'static str, fn(&Facts) -> bool);

const ROWS: [Row; 34] = [
    (
        Condition::Creates,
        "creates",
        "something is created or grows",
        |f| f.creates || f.grows,
    ),
    (
        Condition::New,
        "new",
        "it insists on a new one (O_EXCL)",
        |f| f.insists_on_new,
    ),
    (
        Condition::Unnamed,
        "unnamed",
        "the file is to have no name (O_TMPFILE)",
        |f| f.unnamed,
    ),
    (Condition::Writes, "writes", "something is written", |f| {
        f.writes
    }),
    (
        Condition::Written,
        "written",
        "something was written to the file before",
        |f| f.written,
    ),
    (Condition::Path, "path", "it looks up a path", |f| {
        f.looks_up
    }),
    (Condition::File, "file", "it is about a file", |f| {
        f.file.is_some()
    }),
    (
        Condition::Device,
        "device",
        "a device is behind the file",
        |f| f.device_behind,
    ),
    (
        Condition::Stored,
        "stored",
        "it is a regular file or a directory",
        |f| f.is(&[FileType::Regular, FileType::Directory]),
    ),
    (
        Condition::Directory,
        "directory",
        "it is a directory",
        |f| f.is(&[FileType::Directory]),
    ),
    (
        Condition::Readonly,
        "readonly",
        "it is open for reading only",
        |f| f.read_only,
    ),
    (
        Condition::Special,
        "special",
        "it is a device, a FIFO or a socket",
        |f| f.is_socket() || f.is(&[FileType::Terminal, FileType::Device, FileType::Fifo]),
    ),
    (Condition::Terminal, "terminal", "it is a terminal", |f| {
        f.is(&[FileType::Terminal])
    }),
    (
        Condition::Partial,
        "partial",
        "it is a pipe, a FIFO, a socket or a terminal",
        |f| f.is_socket() || f.is(&[FileType::Pipe, FileType::Fifo, FileType::Terminal]),
    ),
    (
        Condition::Interrupted,
        "interrupted",
        "it can wait and the program has a handler without SA_RESTART",
        |f| f.waits && f.has_interrupting_handler,
    ),
    (
        Condition::Handled,
        "handled",
        "it can wait and the program has a handler",
        |f| f.waits && (f.has_handler || f.has_interrupting_handler),
    ),
    (Condition::Waits, "waits", "it can wait", |f| f.waits),
    (
        Condition::Nonblocking,
        "nonblocking",
        "it does not wait",
        |f| f.nonblocking,
    ),
    (Condition::Timed, "timed", "it has a time limit", |f| {
        f.timed
    }),
    (
        Condition::Pipe,
        "pipe",
        "it is a pipe, a FIFO or a connected stream socket",
        |f| f.is_connected_stream() || f.is(&[FileType::Pipe, FileType::Fifo]),
    ),
    (
        Condition::Connected,
        "connected",
        "it is a connected stream socket",
        Facts::is_connected_stream,
    ),
    (
        Condition::Datagram,
        "datagram",
        "it is a connected datagram socket",
        |f| f.is_socket() && !f.socket().stream && f.socket().connected,
    ),
    (
        Condition::Messages,
        "messages",
        "it is a datagram socket",
        |f| f.is_socket() && !f.socket().stream,
    ),
    (
        Condition::Answered,
        "answered",
        "it is a stream socket or a Unix domain socket",
        |f| f.socket().stream || f.socket().unix,
    ),
    (
        Condition::Network,
        "network",
        "it is a socket of an internet family",
        |f| f.socket().network,
    ),
    (
        Condition::Local,
        "local",
        "it is a Unix domain socket with a path",
        |f| f.socket().unix && f.socket().path,
    ),
    (
        Condition::Other,
        "other",
        "it is about another process or thread",
        |f| f.other_process,
    ),
    (Condition::Sets, "sets", "it changes something", |f| f.sets),
    (
        Condition::Namespaces,
        "namespaces",
        "it makes a namespace",
        |f| f.makes_namespace,
    ),
    (
        Condition::Directories,
        "directories",
        "two directories are involved",
        |f| f.two_directories,
    ),
    (Condition::Locks, "locks", "it asks for a lock", |f| f.locks),
    (
        Condition::Duplicates,
        "duplicates",
        "it makes another descriptor",
        |f| f.duplicates,
    ),
    (
        Condition::Data,
        "data",
        "it looks for data or for a hole (SEEK_DATA, SEEK_HOLE)",
        |f| f.seeks_data,
    ),
    (Condition::Memory, "memory", "it takes memory", |f| {
        f.takes_memory
    }),
];

impl Condition {
    fn row(self) -> &'static Row {
        // Each condition has its row, at the place of its number: a test goes through them.
        &ROWS[self as usize]
    }

    /// The condition of this name in the table.
    pub fn of_name(name: &str) -> Option<Condition> {
        let found = ROWS.iter().find(|row| row.1 == name);
        found.map(|row| row.0)
    }

    /// The name in the table: `interrupted`.
    pub fn name(self) -> &'static str {
        self.row().1
    }

    /// A text to be read behind "when": `something is created or grows`.
    pub fn text(self) -> &'static str {
        self.row().2
    }

    /// Whether it is true of a call of which these facts are known.
    pub fn holds(self, facts: &Facts) -> bool {
        self.row().3(facts)
    }
}

#[cfg(test)]
mod tests {
    use super::super::SocketFacts;
    use super::*;

    fn socket(stream: bool, connected: bool) -> SocketFacts {
        SocketFacts {
            stream,
            connected,
            ..SocketFacts::default()
        }
    }

    fn about(file: FileType) -> Facts {
        Facts {
            file: Some(file),
            ..Facts::default()
        }
    }

    /// The names of all conditions that hold.
    fn held(facts: Facts) -> Vec<&'static str> {
        let all = ROWS.iter().filter(|row| row.0.holds(&facts));
        all.map(|row| row.0.name()).collect()
    }

    #[test]
    fn rows_are_at_their_places_and_have_names_of_their_own() {
        for (at, row) in ROWS.iter().enumerate() {
            assert_eq!(row.0 as usize, at, "{}", row.1);
            assert_eq!(Condition::of_name(row.1), Some(row.0));
            assert_eq!(row.0.text(), row.2);
        }
    }

    #[test]
    fn nothing_holds_of_a_call_of_which_nothing_is_known() {
        assert_eq!(held(Facts::default()), [""; 0]);
    }

    #[test]
    fn the_type_of_a_file_decides() {
        for (file, names) in [
            (FileType::Regular, &["file", "stored"][..]),
            (FileType::Directory, &["file", "stored", "directory"]),
            (FileType::Symlink, &["file"]),
            (
                FileType::Terminal,
                &["file", "special", "terminal", "partial"],
            ),
            (FileType::Device, &["file", "special"]),
            (FileType::Pipe, &["file", "partial", "pipe"]),
            (FileType::Fifo, &["file", "special", "partial", "pipe"]),
            (FileType::Anonymous, &["file"]),
        ] {
            assert_eq!(held(about(file)), names, "{file:?}");
        }
    }

    #[test]
    fn the_type_and_state_of_a_socket_decide() {
        let unix = SocketFacts {
            unix: true,
            path: true,
            ..socket(false, false)
        };
        let network = SocketFacts {
            network: true,
            ..socket(true, false)
        };
        for (facts, names) in [
            (socket(true, true), &["pipe", "connected", "answered"][..]),
            (socket(true, false), &["answered"]),
            (socket(false, true), &["datagram", "messages"]),
            (socket(false, false), &["messages"]),
            (unix, &["messages", "answered", "local"]),
            (network, &["answered", "network"]),
        ] {
            let held = held(about(FileType::Socket(facts)));
            let (common, rest) = held.split_at(3);
            assert_eq!(common, ["file", "special", "partial"]);
            assert_eq!(rest, names, "{facts:?}");
        }
    }

    #[test]
    fn only_what_can_wait_is_interrupted() {
        let all = Facts {
            has_handler: true,
            has_interrupting_handler: true,
            ..Facts::default()
        };
        assert_eq!(held(all), [""; 0]);
        let waits = Facts {
            waits: true,
            ..Facts::default()
        };
        assert_eq!(held(waits), ["waits"]);
        let restarted = Facts {
            has_handler: true,
            ..waits
        };
        assert_eq!(held(restarted), ["handled", "waits"]);
        let interrupted = Facts { waits: true, ..all };
        assert_eq!(held(interrupted), ["interrupted", "handled", "waits"]);
    }

    #[test]
    fn each_other_fact_has_its_condition() {
        type Set = fn(&mut Facts);
        let facts: [(Set, &str); 19] = [
            (|f| f.creates = true, "creates"),
            (|f| f.grows = true, "creates"),
            (|f| f.insists_on_new = true, "new"),
            (|f| f.unnamed = true, "unnamed"),
            (|f| f.writes = true, "writes"),
            (|f| f.written = true, "written"),
            (|f| f.looks_up = true, "path"),
            (|f| f.read_only = true, "readonly"),
            (|f| f.device_behind = true, "device"),
            (|f| f.nonblocking = true, "nonblocking"),
            (|f| f.timed = true, "timed"),
            (|f| f.other_process = true, "other"),
            (|f| f.sets = true, "sets"),
            (|f| f.makes_namespace = true, "namespaces"),
            (|f| f.two_directories = true, "directories"),
            (|f| f.locks = true, "locks"),
            (|f| f.duplicates = true, "duplicates"),
            (|f| f.seeks_data = true, "data"),
            (|f| f.takes_memory = true, "memory"),
        ];
        for (set, name) in facts {
            let mut facts = Facts::default();
            set(&mut facts);
            assert_eq!(held(facts), [name]);
        }
    }
}
