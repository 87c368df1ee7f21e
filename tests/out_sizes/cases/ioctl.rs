//! ioctl and fcntl, by command.

use super::super::run::Case;
use super::super::setup::Setup;
use super::devices::{disk, open_any};
use super::{case, fails};

pub fn cases() -> Vec<Case> {
    let mut all = terminals();
    all.extend(files());
    all.extend(network());
    all.extend(fcntl());
    all
}

/// What a terminal's own settings are, as bytes in a buffer.
fn settings(s: &mut Setup, slave: u64, request: u64, size: usize) -> u64 {
    let at = s.bytes(&vec![0; size]);
    assert_eq!(s.call(libc::SYS_ioctl, &[slave, request, at]), 0);
    at
}

fn terminals() -> Vec<Case> {
    vec![
        case("ioctl", "TCGETS", |s| vec![s.pty().1, 0x5401, s.out(36)]),
        case("ioctl", "TCSETS", |s| {
            let slave = s.pty().1;
            vec![slave, 0x5402, settings(s, slave, 0x5401, 36)]
        }),
        case("ioctl", "TCGETA", |s| vec![s.pty().1, 0x5405, s.out(18)]),
        case("ioctl", "TCSETA", |s| {
            let slave = s.pty().1;
            vec![slave, 0x5406, settings(s, slave, 0x5405, 18)]
        }),
        case("ioctl", "TCGETS2", |s| {
            vec![s.pty().1, 0x802c_542a, s.out(44)]
        }),
        case("ioctl", "TCSETS2", |s| {
            let slave = s.pty().1;
            vec![slave, 0x402c_542b, settings(s, slave, 0x802c_542a, 44)]
        }),
        case("ioctl", "TIOCGWINSZ", |s| vec![s.pty().1, 0x5413, s.out(8)]),
        case("ioctl", "TIOCSWINSZ", |s| {
            vec![s.pty().1, 0x5414, s.longs(&[0x0050_0018])]
        }),
        case("ioctl", "TIOCGPGRP", |s| {
            vec![s.terminal().1, 0x540f, s.out(4)]
        }),
        case("ioctl", "TIOCSPGRP", |s| {
            let slave = s.terminal().1;
            vec![slave, 0x5410, settings(s, slave, 0x540f, 4)]
        }),
        case("ioctl", "TIOCGSID", |s| {
            vec![s.terminal().1, 0x5429, s.out(4)]
        }),
        case("ioctl", "TIOCOUTQ", |s| vec![s.pty().1, 0x5411, s.out(4)]),
        case("ioctl", "FIONREAD", |s| {
            vec![s.pipe_of(b"hello"), 0x541b, s.out(4)]
        }),
        case("ioctl", "TIOCGETD", |s| vec![s.pty().1, 0x5424, s.out(4)]),
        case("ioctl", "TIOCSETD", |s| {
            vec![s.pty().1, 0x5423, s.ints(&[0])]
        }),
        case("ioctl", "TIOCGPTN", |s| {
            vec![s.pty().0, 0x8004_5430, s.out(4)]
        }),
        case("ioctl", "TIOCSPTLCK", |s| {
            vec![s.pty().0, 0x4004_5431, s.ints(&[0])]
        }),
        case("ioctl", "TIOCGPTLCK", |s| {
            vec![s.pty().0, 0x8004_5439, s.out(4)]
        }),
        case("ioctl", "TIOCGEXCL", |s| {
            vec![s.pty().1, 0x8004_5440, s.out(4)]
        }),
        case("ioctl", "TIOCGPKT", |s| {
            vec![s.pty().0, 0x8004_5438, s.out(4)]
        }),
        case("ioctl", "TIOCPKT", |s| {
            vec![s.pty().0, 0x5420, s.ints(&[0])]
        }),
        case("ioctl", "TIOCGDEV", |s| {
            vec![s.pty().1, 0x8004_5432, s.out(4)]
        }),
        case("ioctl", "TIOCGSOFTCAR", |s| {
            vec![s.pty().1, 0x5419, s.out(4)]
        }),
        case("ioctl", "TIOCSSOFTCAR", |s| {
            vec![s.pty().1, 0x541a, s.ints(&[0])]
        }),
        case("ioctl", "TIOCSIG", |s| vec![s.pty().0, 0x4004_5436, 2]),
        case("ioctl", "TIOCSTI", |s| {
            vec![s.terminal().1, 0x5412, s.bytes(b"x")]
        }),
        case("ioctl", "TIOCEXCL", |s| vec![s.pty().1, 0x540c]),
        case("ioctl", "TIOCSCTTY", |s| {
            let slave = s.pty().1;
            s.call(libc::SYS_setsid, &[]);
            vec![slave, 0x540e, 0]
        }),
        case("ioctl", "TIOCGPTPEER", |s| vec![s.pty().0, 0x5441, 2]),
        case("ioctl", "TCSBRK", |s| vec![s.pty().1, 0x5409, 1]),
        case("ioctl", "TCXONC", |s| vec![s.pty().1, 0x540a, 1]),
        case("ioctl", "TCFLSH", |s| vec![s.pty().1, 0x540b, 2]),
        fails(
            "ioctl",
            "TCGETS of what is no terminal",
            libc::ENOTTY,
            |s| vec![s.pipe().0, 0x5401, s.out(60)],
        ),
    ]
}

fn files() -> Vec<Case> {
    vec![
        case("ioctl", "FIONBIO", |s| {
            vec![s.pipe().0, 0x5421, s.ints(&[1])]
        }),
        case("ioctl", "FIOASYNC", |s| {
            vec![s.stream().0, 0x5452, s.ints(&[0])]
        }),
        case("ioctl", "FIOCLEX", |s| vec![s.pipe().0, 0x5451]),
        case("ioctl", "FIGETBSZ", |s| vec![s.file(b"x"), 2, s.out(4)]),
        case("ioctl", "FIBMAP", |s| vec![s.file(b"x"), 1, s.ints(&[0])]),
        case("ioctl", "FIOQSIZE", |s| {
            vec![s.file(b"x"), 0x5460, s.out(8)]
        }),
        case("ioctl", "FS_IOC_GETFLAGS", |s| {
            vec![s.file(b"x"), 0x8008_6601, s.out(4)]
        }),
        case("ioctl", "FS_IOC_SETFLAGS", |s| {
            let file = s.file(b"x");
            let flags = s.ints(&[0]);
            s.call(libc::SYS_ioctl, &[file, 0x8008_6601, flags]);
            vec![file, 0x4008_6602, flags]
        }),
        case("ioctl", "FS_IOC_GETVERSION", |s| {
            vec![s.file(b"x"), 0x8008_7601, s.out(4)]
        }),
        case("ioctl", "FS_IOC_FSGETXATTR", |s| {
            vec![s.file(b"x"), 0x801c_581f, s.out(28)]
        }),
        case("ioctl", "FS_IOC_FIEMAP", |s| {
            let mut head = [0u8; 32 + 2 * 56];
            head[8..16].fill(0xff);
            head[24] = 2;
            vec![s.file(&[7; 9000]), 0xc020_660b, s.bytes(&head)]
        }),
        case("ioctl", "FICLONE", |s| {
            let from = s.file(b"x");
            std::fs::write("other", "").unwrap();
            let to = std::fs::File::options().write(true).open("other").unwrap();
            let to = std::os::fd::IntoRawFd::into_raw_fd(to);
            vec![to as u64, 0x4004_9409, from]
        }),
        case("ioctl", "FIDEDUPERANGE", |s| {
            let from = s.file(&[7; 4096]);
            std::fs::write("other", [7; 4096]).unwrap();
            let to = std::fs::File::options().write(true).open("other").unwrap();
            let to = std::os::fd::IntoRawFd::into_raw_fd(to) as u64;
            vec![from, 0xc018_9436, s.longs(&[0, 4096, 1, to, 0, 0, 0])]
        }),
        case("ioctl", "NS_GET_NSTYPE", |s| {
            vec![s.open("/proc/self/ns/net"), 0xb703]
        }),
        case("ioctl", "NS_GET_OWNER_UID", |s| {
            vec![s.open("/proc/self/ns/user"), 0xb704, s.out(4)]
        }),
        case("ioctl", "RNDGETENTCNT", |s| {
            vec![s.open("/dev/urandom"), 0x8004_5200, s.out(4)]
        }),
        case("ioctl", "BLKGETSIZE64", |s| {
            vec![disk(s), 0x8008_1272, s.out(8)]
        }),
        case("ioctl", "BLKGETSIZE", |s| vec![disk(s), 0x1260, s.out(8)]),
        case("ioctl", "BLKROGET", |s| vec![disk(s), 0x125e, s.out(4)]),
        case("ioctl", "BLKSSZGET", |s| vec![disk(s), 0x1268, s.out(4)]),
        case("ioctl", "BLKIOMIN", |s| vec![disk(s), 0x1278, s.out(4)]),
        case("ioctl", "RTC_RD_TIME", |s| {
            let clock = open_any(s, &["/dev/rtc0"]);
            vec![clock, 0x8024_7009, s.out(36)]
        }),
        case("ioctl", "EVIOCGVERSION", |s| {
            let device = open_any(s, &["/dev/input/event0"]);
            vec![device, 0x8004_4501, s.out(4)]
        }),
    ]
}

/// `struct ifreq` for the loopback.
fn interface(s: &mut Setup) -> u64 {
    let mut request = [0u8; 40];
    request[..2].copy_from_slice(b"lo");
    s.bytes(&request)
}

fn socket(s: &Setup) -> u64 {
    s.socket(libc::AF_INET, libc::SOCK_DGRAM)
}

fn network() -> Vec<Case> {
    vec![
        case("ioctl", "SIOCATMARK", |s| {
            vec![s.connected().0, 0x8905, s.out(4)]
        }),
        case("ioctl", "SIOCGPGRP", |s| vec![socket(s), 0x8904, s.out(4)]),
        case("ioctl", "SIOCSPGRP", |s| {
            vec![socket(s), 0x8902, s.ints(&[0])]
        }),
        case("ioctl", "SIOCGIFNAME", |s| {
            let mut request = [0u8; 40];
            request[16] = 1;
            vec![socket(s), 0x8910, s.bytes(&request)]
        }),
        case("ioctl", "SIOCGIFFLAGS", |s| {
            vec![socket(s), 0x8913, interface(s)]
        }),
        case("ioctl", "SIOCGIFADDR", |s| {
            vec![socket(s), 0x8915, interface(s)]
        }),
        case("ioctl", "SIOCGIFBRDADDR", |s| {
            vec![socket(s), 0x8919, interface(s)]
        }),
        case("ioctl", "SIOCGIFNETMASK", |s| {
            vec![socket(s), 0x891b, interface(s)]
        }),
        case("ioctl", "SIOCGIFMETRIC", |s| {
            vec![socket(s), 0x891d, interface(s)]
        }),
        case("ioctl", "SIOCGIFMTU", |s| {
            vec![socket(s), 0x8921, interface(s)]
        }),
        case("ioctl", "SIOCGIFHWADDR", |s| {
            vec![socket(s), 0x8927, interface(s)]
        }),
        case("ioctl", "SIOCGIFINDEX", |s| {
            vec![socket(s), 0x8933, interface(s)]
        }),
        case("ioctl", "SIOCGIFTXQLEN", |s| {
            vec![socket(s), 0x8942, interface(s)]
        }),
        case("ioctl", "SIOCGIFMAP", |s| {
            vec![socket(s), 0x8970, interface(s)]
        }),
        case("ioctl", "SIOCGIFCONF", |s| {
            let room = s.out(400);
            vec![socket(s), 0x8912, s.longs(&[400, room])]
        }),
        case("ioctl", "SIOCGSTAMP", |s| {
            vec![stamped(s), 0x8906, s.out(16)]
        }),
        case("ioctl", "SIOCGSTAMPNS", |s| {
            vec![stamped(s), 0x8907, s.out(16)]
        }),
        case("ioctl", "SIOCGSTAMP_NEW", |s| {
            vec![stamped(s), 0x8010_8906, s.out(16)]
        }),
        case("ioctl", "SIOCGSTAMPNS_NEW", |s| {
            vec![stamped(s), 0x8010_8907, s.out(16)]
        }),
    ]
}

/// A socket that has received a datagram and taken its time, as it does once it was asked for one.
fn stamped(s: &mut Setup) -> u64 {
    let ((receiver, address), sender, room) = (s.udp(), s.udp().0, s.out(16));
    s.call(libc::SYS_ioctl, &[receiver, 0x8906, room]);
    s.send_to(sender, b"x", &address);
    s.call(libc::SYS_recvfrom, &[receiver, room, 8, 0, 0, 0]);
    receiver
}

/// fcntl's structure for a lock of the whole file.
fn lock(s: &mut Setup, kind: u16) -> u64 {
    let mut lock = [0u8; 32];
    lock[..2].copy_from_slice(&kind.to_le_bytes());
    s.bytes(&lock)
}

fn fcntl() -> Vec<Case> {
    vec![
        case("fcntl", "F_DUPFD", |_| vec![2, 0, 50]),
        case("fcntl", "F_DUPFD_CLOEXEC", |_| vec![2, 1030, 50]),
        case("fcntl", "F_GETFD", |_| vec![2, 1]),
        case("fcntl", "F_SETFD", |s| vec![s.pipe().0, 2, 1]),
        case("fcntl", "F_GETFL", |_| vec![2, 3]),
        case("fcntl", "F_SETFL", |s| vec![s.pipe().0, 4, 0x800]),
        case("fcntl", "F_GETLK, free", |s| {
            vec![s.file(b"x"), 5, lock(s, 1)]
        }),
        case("fcntl", "F_GETLK, taken", |s| {
            let (file, taken) = (s.file(b"x"), lock(s, 1));
            // SAFETY: the child makes a call and waits, as every waiting child does.
            let child = unsafe { libc::fork() };
            if child == 0 {
                s.call(libc::SYS_fcntl, &[file, 6, taken]);
                // SAFETY: nothing is passed by address.
                unsafe {
                    libc::alarm(20);
                    libc::pause();
                    libc::_exit(0)
                }
            }
            s.after(move |_| {
                // SAFETY: our child.
                unsafe {
                    libc::kill(child, libc::SIGKILL);
                    libc::waitpid(child, std::ptr::null_mut(), 0);
                }
            });
            std::thread::sleep(std::time::Duration::from_millis(20));
            vec![file, 5, lock(s, 1)]
        }),
        case("fcntl", "F_SETLK", |s| vec![s.file(b"x"), 6, lock(s, 1)]),
        case("fcntl", "F_OFD_GETLK", |s| {
            vec![s.file(b"x"), 36, lock(s, 1)]
        }),
        case("fcntl", "F_OFD_SETLK", |s| {
            vec![s.file(b"x"), 37, lock(s, 1)]
        }),
        case("fcntl", "F_GETOWN", |s| vec![s.stream().0, 9]),
        case("fcntl", "F_SETOWN", |s| vec![s.stream().0, 8, 0]),
        case("fcntl", "F_GETSIG", |s| vec![s.stream().0, 11]),
        case("fcntl", "F_SETSIG", |s| vec![s.stream().0, 10, 10]),
        case("fcntl", "F_GETOWN_EX", |s| vec![s.stream().0, 16, s.out(8)]),
        case("fcntl", "F_SETOWN_EX", |s| {
            vec![s.stream().0, 15, s.ints(&[1, 0])]
        }),
        case("fcntl", "F_GETOWNER_UIDS", |s| {
            vec![s.stream().0, 17, s.out(8)]
        }),
        case("fcntl", "F_SETLEASE", |s| {
            s.some_file();
            vec![s.open("file"), 1024, 0]
        }),
        case("fcntl", "F_NOTIFY", |s| vec![s.dir(), 1026, 1]),
        case("fcntl", "F_GETPIPE_SZ", |s| vec![s.pipe().0, 1032]),
        case("fcntl", "F_ADD_SEALS", |s| {
            let name = s.path("name");
            vec![s.fd(libc::SYS_memfd_create, &[name, 2]), 1033, 1]
        }),
        case("fcntl", "F_GET_RW_HINT", |s| {
            vec![s.file(b"x"), 1035, s.out(8)]
        }),
        case("fcntl", "F_SET_RW_HINT", |s| {
            vec![s.file(b"x"), 1036, s.longs(&[2])]
        }),
        case("fcntl", "F_GET_FILE_RW_HINT", |s| {
            vec![s.file(b"x"), 1037, s.out(8)]
        }),
    ]
}
