---@meta
-- Annotations for LuaLS: the globals and objects of scripts that rrapper runs. Nothing of this is executed.
--
-- Enter and exit. A hook meets a call twice. At enter the call is not made yet: call:fail, call:skip and call:short decide
-- that it is not made, or moves less; call.args and call:data change what the kernel gets. At exit it has been answered,
-- and the answer can be changed: call.ret, call.args, call.stat, call:data. A rule ({ fail = "EIO" }) acts at enter; a
-- function alone (read = function(call) … end) is the exit hook; { enter = …, exit = … } has both.
--
--   * A process that is driven by a recording or a trace makes no calls: at exit every answer can be set.
--   * In live the kernel makes them, and what it did stays done. There fail, skip and short (and setting call.ret and
--     call.errno) at exit raise where the call has left something changed: the directory is made, the bytes are
--     written or taken. They belong into enter. The answers of calls that change nothing (stat, getpid, readlink,
--     pread64, …), and of calls that failed, can be set at exit, too.
--   * executed = true asks for that: the call is made, and its process gets another answer. In a rule
--     { fail = "EIO", executed = true }; in a function call:fail("EIO", { executed = true }).
--   * close that fails releases the descriptor, as on Linux, and brk that fails returns the old break. executed = false
--     does what strace does: the call is not made, and gets the errno.
--   * signal = "SIGKILL" alone comes before the call; beside fail, ret or short it comes behind it: { short = 3, signal =
--     "SIGKILL" } writes three bytes.

---@alias Calls string|string[]|Regex  a name, a list, a class ("%file"), "!name", or re"…"
---@alias Path string|Regex            a file, however the call names it (relative, `..`, from a directory's descriptor, by a descriptor, before it was renamed, in live by a link); a shell pattern or re"…" for its name. A relative one begins in the current directory, or in that in which the program began
---@alias Errno string|integer         "EIO" or 5
---@alias SignalName string|integer    "SIGTERM" or 15

---A regular expression in the syntax of Rust's `regex` crate; see `re`.
---@class Regex
---@field matches fun(self: Regex, text: string): boolean

---@param pattern string
---@return Regex
function re(pattern) end

---Constants by their full names: `C.O_TRUNC`. Unknown names raise.
---@type table<string, integer>
C = {}

---A failure that a call plausibly has, or that it moves less than it was asked for (class "short").
---@class PlausibleAnswer
---@field errno string?  "EIO"; nil where the call does not fail
---@field class "io"|"space"|"retry"|"permission"|"absent"|"limits"|"peer"|"short"|"misuse"
---@field scope "filesystem"|"process"|"file"|"peer"|"call"  what it covers when it persists; "call": it does not
---@field when string?  what must be true of the call, in words; nil where nothing must

---Errnos by name (`errno.EIO`) or number (`errno[5]`). Unknown names raise. `errno.of "read"` lists the plausible failures
---of a call; the errors of the programmer, such as EBADF, only with `{ all = true }`.
---@class errnolib
---@field all fun(): string[]
---@field of fun(call: string, options?: { all?: boolean }): PlausibleAnswer[]
---@type errnolib|table<string, integer>|table<integer, string>
errno = {}

---Signals by name (`signal.SIGTERM`) or number (`signal[15]`). Unknown names raise.
---@type table<string, integer>|table<integer, string>
signal = {}

---@class WorldOptions
---@field keep? "touched"|"written"|"none"  files whose content before the recording is kept for live continuations: also those that it reads (the default), those that it changes, or none
---@field file? integer|string            limit on the bytes on disk of one of them, as a number or as "512M"; 256 MiB by default
---@field total? integer|string           limit on the bytes on disk of all of them; 2 GiB by default

---@class RecordOptions
---@field [integer] string                the program and its arguments
---@field cwd? string                     where to start it
---@field env? table<string, string>      environment variables to add or replace
---@field stdin? string|file*             its input: a text, or the rest of a file; rrapper's own by default, and for "inherit" (a file can hold that word)
---@field out? string                     directory for the recording
---@field wait_all? boolean                records until the last process ends; without it, processes that the program leaves behind are killed
---@field world? "touched"|"written"|"none"|WorldOptions  files whose content before the recording is kept for live continuations: the value of `keep`, or all options

---@field sandbox? "cow"|"none"|RecordSandbox "cow" runs it in a copy-on-write sandbox: what it changes of the machine's files is forgotten; "none" unless said otherwise
---@field setup? string|string[]           with sandbox: commands for sh -c that are run in the sandbox before the program and not recorded, with its environment and in its directory; one that fails ends the recording

---The settings of a recording's sandbox. Each that is left out has its default.
---@class RecordSandbox
---@field network? true|"machine" a loopback of its own (the default), or the machine's network
---@field namespaces? boolean     whether its processes may make namespaces; true
---@field writable? string[]      directories that it may change although the machine's are read-only
---@field readonly? string[]      directories that it may not change
---@field hide? string[]          files and directories that are empty inside

---@class EventFilter
---@field pid? integer
---@field syscall? Calls
---@field path? Path
---@field fd? integer
---@field from? integer|Event
---@field to? integer|Event
---@field failed? boolean|Errno
---@field nth? integer                    of those that match, only the nth, from 1

rr = {}

---Records a program; its output passes through. The recording becomes the current one.
---@param options RecordOptions
---@return Recording
function rr.record(options) end

---Opens a recording: a directory, a packed file, or a name such as "latest" in the default place. It becomes the current one.
---@param dir string
---@return Recording
function rr.open(dir) end

---Replays the current recording until the event's call has been made and not answered yet; forwards or backwards.
---@param event integer|Event
---@return Stop
function rr.replay_to(event) end

---Goes through the events of the current recording that match.
---@param filter? EventFilter
---@return fun(): Event?
function rr.events(filter) end

---The first event of the current recording that matches, or nil.
---@param filter? EventFilter
---@return Event?
function rr.find(filter) end

---@class LiveProgram
---@field [integer] string           the program and its arguments
---@field hooks? Hooks|fun(): Hooks
---@field cwd? string
---@field env? table<string, string>  added or replaced
---@field stdin? string|file*         its input: a text, or the rest of a file; /dev/null by default; "inherit" for a copy of rrapper's own (a file can hold that word as a text)
---@field tty? boolean                whether it has a terminal of its own, whose output is stdout; stdin is typed there, and then the end of the file
---@field timeout? number             seconds; 10 unless said otherwise
---@field after? fun(box: Box, outcome: Outcome)  once all is over, before the sandbox goes
---@field files? table<string, string|FileBytes|fun(content: string?): string>  as in hooks
---@field listen? table<string, "reset"|"closed"|"silent"|"drain"|fun(conn: ServerConnection, bytes: string?): string?>  as in hooks
---@field sandbox? "cow"|"none"|SandboxSettings

---The settings of a sandbox. Each that is left out has its default.
---@class SandboxSettings
---@field network? boolean       a loopback of its own; true. Without it, no sockets of the internet families
---@field namespaces? boolean    whether its processes may make namespaces; false
---@field memory? integer|string  bytes, or "512M", of all its processes together, with shared memory, memory files and changed files; 4 GiB, or half of what is available at the start if that is less. Beyond it, the run ends with the status "limit"
---@field tasks? integer         processes and threads; 256. Beyond it, clone fails with EAGAIN
---@field time? number           seconds of processor time, of each process; 60. Beyond it, the process gets SIGXCPU, and SIGKILL a second later
---@field writable? string[]     directories that it may change besides the current one, HOME, /tmp, /var/tmp, /dev/shm and /run: the changes are discarded
---@field readonly? string[]     directories that it may not change
---@field hide? string[]         files and directories that are empty inside

---Runs a program now, without a recording, under hooks; only the calls that a hook is about stop it.
---@param program LiveProgram
---@return Outcome
function live(program) end

---A live copy of a recorded process where the replay of the current recording stands, with its family: the recorded
---processes that share writable memory with it are driven with it, those that `pid`, `exe` or `child` of its hooks name, and
---what a process makes that was answered otherwise than recorded.
---@param pid? integer|{ pid: integer?, alone: boolean? }  as recorded; `alone` leaves the family out
---@return Process
function spin_off(pid) end

---Drives the process spun off last through a trace: calls `first` to `last`, both included, counted from 0.
---@overload fun(hooks: Hooks|fun(): Hooks): Outcome
---@overload fun(trace: string|Trace|nil, hooks: Hooks|fun(): Hooks): Outcome
---@param trace? string|Trace  a file of strace's, a trace, or nil: the process's own recording
---@param first? integer|Entry
---@param last? integer|Entry
---@param hooks? Hooks|fun(): Hooks
---@return Outcome
function inject(trace, first, last, hooks) end

trace = {}

---Reads a file that strace wrote.
---@param path string
---@return Trace
function trace.load(path) end

---Reads text in strace's syntax.
---@param text string
---@return Trace
function trace.parse(text) end

---@class Event
---@field event integer
---@field pid integer
---@field tid integer
---@field kind "call"|"signal"
---@field name string
---@field args table    by position from 1, and by name
---@field ret integer?  negative is -errno
---@field errno integer?
---@field path string?  as it was passed, or behind the descriptor
---@field paths string[]
---@field file string?  where that file is: an absolute path, as far as it is known

---@class ExitStatus
---@field code integer?
---@field signal string?
---@field core boolean?

---@class Recording
---@field dir string
---@field argv string[]
---@field exit ExitStatus?  nil where the recording is incomplete
---@field complete boolean
---@operator len: integer   how many events there are: the last one has this number
local Recording = {}

---@param filter? EventFilter
---@return fun(): Event?
function Recording:events(filter) end

---@param filter? EventFilter
---@return Event?
function Recording:find(filter) end

---@param number integer
---@return Event
function Recording:event(number) end

---The events `first` to `last`, both included, as a trace, with the ends of tasks among them and right behind;
---with `pid`, those of that process or task.
---@param first integer|Event
---@param last integer|Event
---@param pid? integer
---@return Trace
function Recording:segment(first, last, pid) end

---A process of a recording: its number, its parent's at first, the program that it executed last, its first and its
---last event (nil where it has none), how it ended (nil where the recording does not reach so far).
---@class Life
---@field pid integer
---@field ppid integer
---@field argv string[]
---@field exe string
---@field first integer?
---@field last integer?
---@field exit ExitStatus?

---All processes, in the order in which they began.
---@return Life[]
function Recording:processes() end

---The outcome of the recorded program itself, to compare others with.
---@return Outcome
function Recording:outcome() end

---@param event integer|Event
---@return Stop
function Recording:replay_to(event) end

---@class Stop
---@field event integer
---@field pid integer
---@field tid integer
---@field call string  in strace's syntax
local Stop = {}

---@param pid? integer|{ pid: integer?, alone: boolean? }  as recorded
---@return Process
function Stop:spin_off(pid) end

---The memory of a process there, without spinning it off: of any process that is alive at the event.
---@param addr integer
---@param n integer
---@param pid? integer  as recorded; the process at the event where there is none
---@return string
function Stop:read(addr, n, pid) end

---@param pid? integer  of a process, or of one of its threads
---@return table<string, integer>
function Stop:regs(pid) end

---@param pid? integer
---@return { first: integer, last: integer, size: integer, perms: string, offset: integer, name: string }[]
function Stop:maps(pid) end

---@param pid? integer
---@return table<integer, { path: string, flags: integer, offset: integer, cloexec: boolean }>
function Stop:fds(pid) end

---Where it stands in its program, innermost first.
---@param pid? integer  of a process, or of one of its threads
---@return Frame[]
function Stop:backtrace(pid) end

---@class Process
---@field pid integer       as recorded
---@field real_pid integer
---@field event integer     at which it was spun off
---@field alive boolean
---@field family { pid: integer, ppid: integer, argv: string[], exe: string }[]  the other recorded processes there; none where it is alone
local Process = {}

---@overload fun(self: Process, hooks: Hooks|fun(): Hooks): Outcome
---@overload fun(self: Process, trace: string|Trace|nil, hooks: Hooks|fun(): Hooks): Outcome
---@param trace? string|Trace
---@param first? integer|Entry
---@param last? integer|Entry
---@param hooks? Hooks|fun(): Hooks
---@return Outcome
function Process:inject(trace, first, last, hooks) end

---Lets the kernel make all calls from here: the control run.
---Options about a trace (on_divergence, finally, ignore and pids) are refused.
---@param hooks? Hooks|fun(): Hooks
---@return Outcome
function Process:live(hooks) end

function Process:kill() end

---A copy of the copy.
---@return Process
function Process:fork() end

---@param addr integer
---@param n integer
---@return string
function Process:read(addr, n) end

---@param addr integer
---@param bytes string
function Process:write(addr, bytes) end

---@return table<string, integer>
function Process:regs() end

---@return { first: integer, last: integer, size: integer, perms: string, offset: integer, name: string }[]
function Process:maps() end

---@return table<integer, { path: string, flags: integer, offset: integer, cloexec: boolean }>
function Process:fds() end

---@return integer[]  tids as recorded
function Process:threads() end

---Where it stands in its program, innermost first.
---@return Frame[]
function Process:backtrace() end

---@class Entry
---@field index integer  from 0
---@field pid integer
---@field tid integer
---@field name string
---@field args table
---@field file string?  where the file is that it is about: an absolute path, as far as the trace says
---@field ret integer?
---@field errno integer?
---@field event integer?
---@field line integer?

---@class Trace
---@field [integer] Entry
---@operator len: integer
local Trace = {}

---Calls i to j, both included, counted as in t[i].
---@param i integer
---@param j? integer
---@return Trace
function Trace:slice(i, j) end

---@param filter { syscall?: Calls, path?: Path, failed?: boolean|Errno, nth?: integer, pid?: integer }
---@return Entry?
function Trace:find(filter) end

---@param fn fun(entry: Entry): nil|Entry|string|(Entry|string)[]  nil deletes, a list inserts
---@return Trace
function Trace:map(fn) end

---@param path string
function Trace:save(path) end

---@return string[]
function Trace:signals() end

---Reading a field by another name raises an error, and so does setting a field.
---@class Divergence
---@field pid integer       as recorded: of the process that left the recording, which may be a relative
---@field moment integer?   the event that was answered last, of this process or of one that is driven with it
---@field tid integer       as recorded
---@field index integer
---@field event integer?
---@field expected string
---@field actual string
---@field arg string?
---@field file string?
---@field line integer?

---@class Injected
---@field index integer?
---@field event integer?
---@field call string
---@field rule string

---@class Outcome
---@field status "completed"|"diverged"|"exited"|"signaled"|"timeout"|"stopped"|"limit"
---@field divergence Divergence?
---@field exit_code integer?
---@field signal string?
---@field stdout string     since the spin-off
---@field stderr string     since the spin-off
---@field calls Trace    the first and the last 50,000; once they have 16 MiB of data together, longer strings are cut
---@field injected Injected[]  the first and the last 5,000
---@field unfired string[]  rules that never fired
---@field missing string[]  objects that could not be re-created when it went live, and what this outcome leaves out
---@field files { path: string, kind: string, from: string? }[]  files that it changed since it went live: as in `BoxFile`
---@field sent table<integer, string>  bytes that it wrote to sockets and pipes, by descriptor
---@field backtrace Frame[] its backtrace when a signal killed it or its time was up, innermost first
---@field hang string?      the call or the place in its code where it hung
---@field reason string?     why a hook stopped it, or which limit ended it
---@field error string?     the error of a hook, with on_error = "outcome"
---@field processes ProcessOutcome[]  of each process that was driven, by rising pid
local Outcome = {}

---What one of the processes did that were driven. `exit_code`, `signal` and `status` of the whole outcome are those of the
---recording's first process where that was driven to its end, and otherwise those of the process that was spun off.
---@class ProcessOutcome
---@field pid integer       as recorded
---@field status "completed"|"diverged"|"exited"|"signaled"|"timeout"|"stopped"|"limit"|nil  nil if it was there at the end
---@field exit_code integer?
---@field signal string?
---@field stdout string     since the spin-off
---@field stderr string     since the spin-off
---@field backtrace Frame[] when a signal killed it, innermost first

---@param pid integer  as recorded
---@return ProcessOutcome?
function Outcome:of(pid) end

---@class Frame
---@field address integer
---@field func string?    the function's name
---@field object string?  the program or library
---@field file string?
---@field line integer?

---The differences, a line each; pids, times, addresses and the calls that may appear or be missing do not count.
---@param other Outcome
---@return string[]
function Outcome:diff(other) end

---@class Call
---@field name string
---@field nr integer
---@field index integer?  in the trace, from 0
---@field count integer   of the calls of this name, since the injection began
---@field event integer?
---@field pid integer
---@field tid integer
---@field phase "enter"|"exit"
---@field args Arguments  by position from 1, and by name; can be set
---@field raw integer[]   the registers; can be set at enter
---@field ret integer?    negative is -errno; can be set
---@field errno integer?  can be set
---@field fd integer?     can be set at enter
---@field path string?    as the call passes it, or behind its descriptor
---@field paths string[]
---@field file string?    where that file is: an absolute path
---@field size integer?   how many bytes the call is about; can be set at enter
---@field offset integer? the call's, else the descriptor's; the call's can be set
---@field time integer?   of the clocks' calls, in nanoseconds; can be set
---@field stat Stat?      of the stat family, once it has succeeded
---@field process Caller
local Call = {}

---Arguments, and the memory that they point to. Numbers, flags among them, are integers, text is strings, structures and lists are
---views of the process's memory. Strace's text is taken wherever a number is: `call.args.flags = "O_RDONLY|O_CLOEXEC"`.
---Text for which the 16 MiB of one call have no room is its address, an integer.
---Setting one at enter changes what the kernel gets, and the program's memory is restored afterwards; setting one at exit
---changes what the kernel stored. Structures are values: `l[1], l[3] = l[3], l[1]` swaps two of them. An argument that only
---other calls have reads nil; a name that no call has raises an error. Numbers are as they lie in memory: a port is in the
---network's byte order, and set with `"htons(80)"`. Setting an impossible value (a length below zero, more bytes than fit)
---raises an error at the hook's line.
---@alias Arguments table<string|integer, any>

---A file's status, with the same names for stat, lstat, fstat, newfstatat and statx. Times are seconds.
---@class Stat
---@field mode integer|string
---@field size integer
---@field ino integer
---@field nlink integer
---@field uid integer
---@field gid integer
---@field dev integer
---@field rdev integer
---@field blksize integer
---@field blocks integer
---@field atime integer
---@field atime_nsec integer
---@field mtime integer
---@field mtime_nsec integer
---@field ctime integer
---@field ctime_nsec integer
---@field btime integer?       statx only
---@field btime_nsec integer?

---The process that makes a call, while a hook runs.
---@class Caller
---@field pid integer       as recorded
---@field tid integer       as recorded
---@field tids integer[]    as recorded
---@field ppid integer?     as recorded
---@field exe string?       the path of its program
---@field argv string[]?
---@field real_pid integer
---@field read fun(self: Caller, addr: integer, n: integer): string
---@field write fun(self: Caller, addr: integer, bytes: string)  for good, unlike what is set in `call.args` at enter
---@field regs fun(self: Caller): table<string, integer>
---@field maps fun(self: Caller): { first: integer, last: integer, size: integer, perms: string, offset: integer, name: string }[]
---@field fds fun(self: Caller): table<integer, { path: string, flags: integer, offset: integer, cloexec: boolean }>
---@field threads fun(self: Caller): integer[]

---Whether the call is made all the same, and its process gets another answer.
---@alias Executed { executed?: boolean }

---Lets the call fail. Raises for calls that never fail (getpid), and at exit where it comes too late.
---@param errno Errno
---@param how? Executed
function Call:fail(errno, how) end

---Lets the call return this (0 if left out) without being made. Raises as `fail` does.
---@param ret? integer
---@param how? Executed
function Call:skip(ret, how) end

---Lets the call move at most so many bytes (sendmmsg and recvmmsg: messages). The rest comes when it is made again. Raises
---for calls that move none or ask for less, and at exit where it comes too late.
---@param n integer
---@param how? Executed
function Call:short(n, how) end

---Sends the process a signal with the call.
---@param signal SignalName
function Call:signal(signal) end

---Moves the clocks that the process sees; in live, sleeps.
---@param seconds number
function Call:delay(seconds) end

---Lets the process go on live, from this call on. At enter only.
function Call:live() end

---Ends the injection at this call.
---@param reason? string
function Call:stop(reason) end

---In strace's syntax: the call, or one argument.
---@param arg? string|integer
---@return string
function Call:text(arg) end

---The bytes moved, in or out; nil on failure. With bytes: sets what a write-like call passes (at enter) or what a
---read-like call brought (at exit); the length follows. With a name and bytes: sets the buffer that this argument is.
---With a list, of the calls that move several messages: sets them, one each; how many there are follows.
---A call that moves more than 16 MiB raises an error: look at `size` first, or read parts with `call.process:read`.
---@overload fun(self: Call, name: string, bytes: string)
---@overload fun(self: Call, messages: string[])
---@param bytes? string
---@return string?
function Call:data(bytes) end

---A signal that is about to reach a task.
---@class Signal
---@field signal integer
---@field name string    "SIGTERM"
---@field info table     its siginfo: si_code, si_pid, si_addr, …
---@field pid integer    as recorded
---@field tid integer    as recorded
---@field index integer? of the trace's next call
local Signal = {}

---The task does not get the signal.
function Signal:ignore() end

---@param signal SignalName  the signal that the task gets instead
function Signal:replace(signal) end

---The injection ends here.
---@param reason? string
function Signal:stop(reason) end

---The end of a process.
---@class End
---@field pid integer         as recorded
---@field exit_code integer?
---@field signal string?

---At most one of `fail`, `ret` and `short`, with any of the others. All rules for a call act; where two of them answer
---it, the last one does.
---@class Rule
---@field on? Calls                    in the array part: the calls
---@field fail? Errno
---@field ret? integer                 negative is -errno
---@field short? integer               bytes (sendmmsg and recvmmsg: messages); of the calls that move some
---@field signal? SignalName
---@field delay? number                seconds; the clocks that the process sees are moved, in live it sleeps
---@field executed? boolean           true: the call is made, and its process gets the answer of fail, ret or short; false: it is not made, whatever the kernel would do
---@field live? boolean               from this call on, which has the rule's answer all the same
---@field when? string|integer         strace's first[..last][+step]
---@field per? "task"                  `when` counts the calls of each task on their own, as strace does
---@field path? Path
---@field fd? integer
---@field tid? integer
---@field pid? integer|"any"          as recorded. A rule without pid, exe and child is for the process that was spun off, or is live
---@field exe? Path                    the program that the process runs: its path, or its name alone
---@field child? integer               the process's number among those that are made from there on, from 1
---@field where? fun(call: Call): boolean?
---@field enter? fun(call: Call)
---@field exit? fun(call: Call)

---@alias OnDivergence "stop"|"live"|"kill"

---A sandbox after the run in it. It can be used only while `after` runs; relative paths begin in the directory of the process.
---@class Box
local Box = {}

---@class BoxFile
---@field path string
---@field kind "created"|"changed"|"removed"|"renamed"  against the files at the event at which the copy was spun off, whether it went live or not. A directory is renamed together with what is in it; a file that has taken the place of another one is a change of that
---@field from string?   the path that the file had at that event, if it had another one
---@field size integer?  bytes, of a regular file
---@field hash string?   SHA-256 in hexadecimal digits, of a regular file

---The content of a file, of at most 256 MiB.
---@param path string
---@return string
function Box:read(path) end

---@param path string
---@param bytes string
function Box:write(path, bytes) end

---@return BoxFile[]  ordered by path
function Box:files() end

---Runs a program in the sandbox to its end.
---@param options { [integer]: string, timeout?: number, stdin?: string|file*, cwd?: string, env?: table<string, string> }
---@return Outcome
function Box:run(options) end

---Copies files out of the sandbox, each to its whole path below `dir`: that at `path` with all below it, or those that were created and changed.
---@param dir string
---@param path? string
function Box:save(dir, path) end

---The paths that are not the same in what `files` of another box has returned.
---@param files BoxFile[]
---@return string[]
function Box:diff(files) end

---Bytes as the content of a file, where a string would name another file.
---@class FileBytes
---@field bytes string

---A connection with a server of `listen`. It is the same table at each call, and can keep what the function needs.
---@class ServerConnection
---@field address string   that of the server
---@field number integer   from 1, in the order in which connections were accepted
---@field [string] any

---@class Hooks
---@field files? table<string, string|FileBytes|fun(content: string?): string>  files that have another content for the process, by their paths, as it would name them: that of the file with this name (a relative one begins in rrapper's directory), these bytes, or what the function makes of the content (nil where there is no file). Where there is no file, there is one then. Reads, mappings and sizes agree on it, as recorded calls are answered and live, where it needs the sandbox. Files that were never read are in `unfired`
---@field on_divergence? OnDivergence|fun(d: Divergence): OnDivergence|"skip"|"answer", integer?
---@field finally? "kill"|"live"|"keep"
---@field timeout? number              seconds; 10 if left out
---@field on_error? "raise"|"outcome"
---@field on_signal? fun(signal: Signal)
---@field on_exit? fun(ended: End)     each process that ends
---@field peer? "reset"|"closed"|"silent"|"drain"|fun(conn: { pid: integer, fd: integer, address: string? }, bytes: string): string?  the other ends of connections in live that were not recorded
---@field listen? table<string, "reset"|"closed"|"silent"|"drain"|fun(conn: ServerConnection, bytes: string?): string?>  servers that are played in live, by their addresses ("127.0.0.1:5432", "[::1]:80", "/run/x.sock", "@name" for an abstract name; an address that is not the machine's can be connected to then): what a function returns is sent; it is called once with nil when a connection was accepted, and then with what comes. A rule for the call of this name is `{ on = "listen", … }`
---@field after? fun(box: Box, outcome: Outcome)  once all is over, before the sandbox goes
---@field sandbox? "cow"|"none"|SandboxSettings  where it is live: on a copy of the file system that is thrown away, or on the machine; "cow" unless RRAPPER_SANDBOX=none is in the environment
---@field ignore? false|Calls[]|{ only: Calls }  calls that may appear or be missing besides the usual ones ("!futex": not that one); only these; none
---@field pids? table<integer, integer>  for traces, not for its own recording: which recorded task goes through the calls of which one of the trace: [in the trace] = as recorded
---@field [integer] Rule
---@field [Calls] Rule|fun(call: Call)   names, classes, "*", "get*", re"…"
