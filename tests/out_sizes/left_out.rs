//! What is not made, not written or not kept, each with the reason.

/// Calls with outputs that no case makes, and why: the key of a call or a variant, or a name and `*` for all of them.
const LEFT_OUT: &[(&str, &str)] = &[
    (
        "ptrace *",
        "the requests that are not made need a tracee that stops in a call, is seized or has a filter",
    ),
    ("quotactl *", "it needs a file system with quotas"),
    ("quotactl_fd *", "it needs a file system with quotas"),
    (
        "io_getevents",
        "recording refuses the set-up of asynchronous I/O",
    ),
    (
        "io_pgetevents",
        "recording refuses the set-up of asynchronous I/O",
    ),
    (
        "io_cancel",
        "recording refuses the set-up of asynchronous I/O",
    ),
    ("io_uring_setup", "recording refuses it"),
    ("lookup_dcookie", "kernels have it no more"),
    (
        "waitid 0x3",
        "it differs from waitid for a process in whom it waits for",
    ),
    (
        "keyctl *",
        "the commands that are not made need keys with algorithms",
    ),
    (
        "name_to_handle_at 0x1",
        "it differs in how the number of the mount is shown",
    ),
    (
        "bpf *",
        "the commands that are not made need programs that the kernel has accepted",
    ),
    ("file_getattr", "the tests' libc has no number for it"),
    ("listns", "the tests' libc has no number for it"),
    ("clone3", "it makes a task"),
];

/// Requests of ioctl, and why none of them is made.
const REQUESTS: &[(&[u64], &str)] = &[
    (
        &[0x5415, 0x541e, 0x542e, 0x542f, 0x5459, 0x545d],
        "TIOCMGET, TIOCGSERIAL and their like need a serial line, and to open one is to raise its signals",
    ),
    (
        &[0x302, 0x30d],
        "HDIO_GET_UNMASKINTR and HDIO_GET_IDENTITY need a disk that takes ATA commands",
    ),
    (
        &[0x4c03, 0x4c05],
        "LOOP_GET_STATUS and LOOP_GET_STATUS64 need a loop device in use, and the devices are all tests' and users'",
    ),
    (
        &[0x400c_6615, 0x4010_6614, 0xc080_661a],
        "encryption policies, salts and keys need a file system with encryption",
    ),
    (
        &[0xc018_5879],
        "FITRIM discards blocks of a whole file system",
    ),
    (&[0xc048_1273], "BLKTRACESETUP traces a whole disk"),
    (&[0x8929], "SIOCGIFSLAVE needs an interface with slaves"),
    (
        &[0x8946],
        "SIOCETHTOOL writes where its structure points to, which the recorder looks up: tests/fixtures/steps/refusals.c",
    ),
    (
        &[
            0x8947, 0x89b1, 0x8993, 0x8940, 0x8941, 0x8982, 0x890d, 0x89e0,
        ],
        "they need a network card with an MII or time stamps, a bond, a bridge, a VLAN, or a protocol with requests of its own",
    ),
    (
        &[0x31e, 0x31f],
        "HDIO_DRIVE_TASK and HDIO_DRIVE_CMD need a disk that takes ATA commands",
    ),
    (
        &[0x5303, 0x530c, 0x530e, 0x5390, 0x5393],
        "CDROMPLAYMSF and its like need a CD-ROM drive",
    ),
    (
        &[0x541c, 0x4b48, 0x4b4a, 0x4bfa],
        "TIOCLINUX, KDGKBSENT, KDGKBDIACR and KDGKBDIACRUC need a virtual console",
    ),
];

/// Families of ioctl's requests, by the type in their second byte, and why none of them is made that no case makes.
const FAMILIES: &[(u8, &str)] = &[
    (0x07, "I2C needs a bus"),
    (b'"', "SCSI needs a device with SCSI commands"),
    (b'=', "PTP needs a clock of a network card"),
    (b'E', "events need an input device"),
    (b'M', "MTD needs flash memory"),
    (b'W', "to open a watchdog is to start it"),
    (b'i', "LIRC needs an infrared receiver"),
    (
        b'p',
        "RTC's alarms and their like need a clock that has them",
    ),
    (0x8b, "wireless extensions need a wireless interface"),
];

/// Levels of getsockopt with all their options.
const LEVELS: &[(&[u64], &str)] = &[
    (
        &[
            101, 132, 256, 257, 266, 268, 269, 271, 272, 273, 274, 275, 276, 277, 278, 279, 280,
            281,
        ],
        "CAN, SCTP, IPX, AX.25, IrDA, LLC, DCCP, TIPC, RxRPC, L2TP, Bluetooth, Phonet, RDS, IUCV, CAIF, AF_ALG, NFC \
     and KCM are in few kernels",
    ),
    (&[282], "TLS needs keys that both ends have agreed upon"),
];

/// Options of prctl.
const OPTIONS: &[(&[u64], &str)] = &[(
    &[5, 74],
    "PR_GET_UNALIGN and PR_GET_SHADOW_STACK_STATUS are other machines'",
)];

/// Whether this call is left out for a reason.
pub fn is_left_out(key: &str) -> bool {
    let mut words = key.split(' ');
    let name = words.next().unwrap_or(key);
    let all_of = |left: &str| left.strip_suffix(" *") == Some(name);
    let command = words
        .next()
        .and_then(|word| word.strip_prefix("0x"))
        .and_then(|digits| u64::from_str_radix(digits, 16).ok());
    let in_lists = |lists: &[(&[u64], &str)]| {
        command.is_some_and(|c| lists.iter().any(|(list, _)| list.contains(&c)))
    };
    let of_command = match name {
        "ioctl" => {
            let family = command.map(|c| (c >> 8) as u8);
            in_lists(REQUESTS) || FAMILIES.iter().any(|(f, _)| family == Some(*f))
        }
        "getsockopt" => in_lists(LEVELS),
        "prctl" => in_lists(OPTIONS),
        _ => false,
    };
    of_command
        || LEFT_OUT
            .iter()
            .any(|(left, _)| *left == key || all_of(left))
}

/// Poison that the table says is written to its end, but that the kernel leaves in part: the call, the case, the
/// number of the buffer, and why that is right. What is claimed beyond what is written is recorded as it was, and
/// replay leaves it so.
pub const UNTOUCHED: &[(&str, &str, usize, &str)] = &[
    (
        "ioctl",
        "FS_IOC_GETFSLABEL",
        0,
        "a file system writes as much as its labels may have",
    ),
    (
        "ioctl",
        "SIOCGIFCONF",
        0,
        "there may be fewer interfaces than there is room for",
    ),
    ("getdents64", "", 0, "an entry ends in padding"),
    (
        "getdents64",
        "in small portions",
        0,
        "an entry ends in padding",
    ),
    (
        "waitid",
        "no child yet",
        1,
        "the usage is that of a child that was found, which the answer does not tell",
    ),
    (
        "clock_nanosleep",
        "until then, interrupted",
        1,
        "nothing is left of a time that is absolute",
    ),
    (
        "recvmsg",
        "a datagram, with its time",
        4,
        "a control message ends in padding",
    ),
];

/// Writes outside the outputs: the call, the case, and why they do no harm.
pub const STRAY: &[(&str, &str, &str)] = &[(
    "semctl",
    "GETALL",
    "how many semaphores there are is not among the arguments",
)];

/// What strace's text does not say, so that encoding cannot know: the call, the case (all where it is empty), and why.
pub const NOT_IN_TEXT: &[(&str, &str, &str)] = &[
    (
        "name_to_handle_at",
        "to ask for the size",
        "strace shows the address where the call has failed",
    ),
    ("sysfs", "a name by number", "strace shows the address"),
    ("modify_ldt", "", "strace shows the address of what is read"),
    (
        "shmctl",
        "IPC_STAT",
        "strace leaves out the sequence number",
    ),
    (
        "semctl",
        "IPC_STAT",
        "strace leaves out the sequence number",
    ),
    (
        "msgctl",
        "IPC_STAT",
        "strace leaves out the sequence number",
    ),
    ("semctl", "GETALL", "strace shows the address"),
    (
        "waitid",
        "no child",
        "strace shows the address where the call has failed",
    ),
    (
        "capget",
        "which version",
        "strace shows the header as it was passed",
    ),
    (
        "capget",
        "an unknown version",
        "strace shows the header as it was passed",
    ),
    (
        "select",
        "interrupted",
        "strace shows the time left only where the call has succeeded",
    ),
    (
        "futex",
        "FUTEX_WAKE_OP",
        "strace shows the addresses of words",
    ),
    (
        "futex",
        "FUTEX_LOCK_PI",
        "strace shows the addresses of words",
    ),
    (
        "futex",
        "FUTEX_LOCK_PI2",
        "strace shows the addresses of words",
    ),
    (
        "futex",
        "FUTEX_TRYLOCK_PI",
        "strace shows the addresses of words",
    ),
    (
        "futex",
        "FUTEX_UNLOCK_PI",
        "strace shows the addresses of words",
    ),
];
