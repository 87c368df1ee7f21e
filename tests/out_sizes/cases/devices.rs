//! ioctl of disks, file systems, namespaces, interfaces and what else has requests of its own. Where a device may
//! not be opened, something stands in for it that knows none of the requests: the call ends as it does without one.

use super::super::run::Case;
use super::super::setup::Setup;
use super::case;
use std::os::fd::IntoRawFd;

pub fn cases() -> Vec<Case> {
    let mut all = disks();
    all.extend(namespaces());
    all.extend(interfaces());
    all.extend(memory());
    all.extend(others());
    all
}

/// The first of these files that may be opened, else what stands in for it.
pub fn open_any(s: &Setup, names: &[&str]) -> u64 {
    let opened = names.iter().find_map(|name| std::fs::File::open(name).ok());
    opened.map_or_else(|| s.stand_in(), |file| file.into_raw_fd() as u64)
}

/// A disk.
pub fn disk(s: &Setup) -> u64 {
    open_any(s, &["/dev/vda", "/dev/sda", "/dev/nvme0n1", "/dev/loop0"])
}

fn disks() -> Vec<Case> {
    vec![
        case("ioctl", "BLKSECTGET", |s| vec![disk(s), 0x1267, s.out(2)]),
        case("ioctl", "BLKROTATIONAL", |s| {
            vec![disk(s), 0x127e, s.out(2)]
        }),
        case("ioctl", "BLKRAGET", |s| vec![disk(s), 0x1263, s.out(8)]),
        case("ioctl", "BLKFRAGET", |s| vec![disk(s), 0x1265, s.out(8)]),
        case("ioctl", "BLKPBSZGET", |s| vec![disk(s), 0x127b, s.out(4)]),
        case("ioctl", "BLKALIGNOFF", |s| vec![disk(s), 0x127a, s.out(4)]),
        case("ioctl", "BLKDISCARDZEROES", |s| {
            vec![disk(s), 0x127c, s.out(4)]
        }),
        case("ioctl", "BLKGETDISKSEQ", |s| {
            vec![disk(s), 0x8008_1280, s.out(8)]
        }),
        case("ioctl", "BLKGETZONESZ", |s| {
            vec![disk(s), 0x8004_1284, s.out(4)]
        }),
        case("ioctl", "BLKGETNRZONES", |s| {
            vec![disk(s), 0x8004_1285, s.out(4)]
        }),
        case("ioctl", "HDIO_GETGEO", |s| vec![disk(s), 0x301, s.out(16)]),
        case("ioctl", "FS_IOC_GETFSLABEL", |s| {
            vec![s.file(b"x"), 0x8100_9431, s.out(256)]
        }),
        case("ioctl", "FS_IOC_GETFSUUID", |s| {
            vec![s.file(b"x"), 0x8011_1500, s.out(17)]
        }),
        case("ioctl", "FS_IOC_GETFSSYSFSPATH", |s| {
            vec![s.file(b"x"), 0x8081_1501, s.out(129)]
        }),
    ]
}

/// Two namespaces of mounts, one after the other: the first of them, or what stands in where there may be no other.
fn mount_namespace(s: &Setup) -> u64 {
    let first = s.open("/proc/self/ns/mnt");
    match s.call(libc::SYS_unshare, &[libc::CLONE_NEWNS as u64]) {
        0 => first,
        _ => s.stand_in(),
    }
}

fn namespaces() -> Vec<Case> {
    vec![
        case("ioctl", "NS_GET_MNTNS_ID", |s| {
            vec![s.open("/proc/self/ns/mnt"), 0x8008_b705, s.out(8)]
        }),
        case("ioctl", "NS_MNT_GET_INFO", |s| {
            vec![s.open("/proc/self/ns/mnt"), 0x8010_b70a, s.out(16)]
        }),
        case("ioctl", "NS_MNT_GET_NEXT", |s| {
            vec![mount_namespace(s), 0x8010_b70b, s.out(16)]
        }),
    ]
}

/// A socket in a network of its own, with all rights there, or what stands in.
fn own_socket(s: &Setup) -> u64 {
    match s.own_network() {
        true => s.socket(libc::AF_INET, libc::SOCK_DGRAM),
        false => s.stand_in(),
    }
}

/// The device that makes interfaces, attached to one where asked to, in a network of its own: else what stands in.
fn tun(s: &mut Setup, attached: bool) -> u64 {
    let device = match s.own_network() {
        true => std::fs::File::options()
            .read(true)
            .write(true)
            .open("/dev/net/tun"),
        false => return s.stand_in(),
    };
    let Ok(device) = device.map(|d| d.into_raw_fd() as u64) else {
        return s.stand_in();
    };
    if attached {
        let request = tun_request(s);
        if s.call(libc::SYS_ioctl, &[device, 0x4004_54ca, request]) != 0 {
            return s.stand_in();
        }
    }
    device
}

/// `struct ifreq` that asks for an interface of packets, with a name that the kernel completes.
fn tun_request(s: &mut Setup) -> u64 {
    let mut request = [0u8; 40];
    request[..6].copy_from_slice(b"test%d");
    request[16] = 1;
    s.bytes(&request)
}

/// The request for an entry of the kernel's addresses in a network, with an entry that there is.
fn neighbour(s: &mut Setup) -> u64 {
    let table = std::fs::read_to_string("/proc/net/arp").unwrap_or_default();
    let mut request = [0u8; 68];
    request[0] = 2;
    let entry = table.lines().nth(1).unwrap_or("127.0.0.9 0 0 0 0 lo");
    let words: Vec<&str> = entry.split_whitespace().collect();
    let address: std::net::Ipv4Addr = words[0].parse().unwrap();
    request[4..8].copy_from_slice(&address.octets());
    let name = words.last().unwrap().as_bytes();
    request[52..52 + name.len()].copy_from_slice(name);
    s.bytes(&request)
}

fn interfaces() -> Vec<Case> {
    vec![
        case("ioctl", "SIOCGIFDSTADDR", |s| {
            let mut request = [0u8; 40];
            request[..2].copy_from_slice(b"lo");
            let socket = s.socket(libc::AF_INET, libc::SOCK_DGRAM);
            vec![socket, 0x8917, s.bytes(&request)]
        }),
        case("ioctl", "SIOCGARP", |s| {
            let socket = s.socket(libc::AF_INET, libc::SOCK_DGRAM);
            vec![socket, 0x8954, neighbour(s)]
        }),
        case("ioctl", "SIOCGSKNS", |s| vec![own_socket(s), 0x894c]),
        case("ioctl", "TUNGETFEATURES", |s| {
            vec![tun(s, false), 0x8004_54cf, s.out(4)]
        }),
        case("ioctl", "TUNSETIFF", |s| {
            vec![tun(s, false), 0x4004_54ca, tun_request(s)]
        }),
        case("ioctl", "TUNGETIFF", |s| {
            vec![tun(s, true), 0x8004_54d2, s.out(40)]
        }),
        case("ioctl", "TUNGETSNDBUF", |s| {
            vec![tun(s, true), 0x8004_54d3, s.out(4)]
        }),
        case("ioctl", "TUNGETVNETHDRSZ", |s| {
            vec![tun(s, true), 0x8004_54d7, s.out(4)]
        }),
    ]
}

/// A descriptor for faults of this process's own pages, and two pages: what the second holds may go to the first.
fn faults(s: &mut Setup, features: u64) -> (u64, u64, u64) {
    let fd = s.call(libc::SYS_userfaultfd, &[0x8_0001]);
    let api = s.longs(&[0xaa, features, 0]);
    let (empty, full) = (s.page(), s.page());
    // SAFETY: a page of ours.
    unsafe { (full as *mut u8).write(1) };
    let request = s.longs(&[empty, 4096, 1, 0]);
    let ready = s.call(libc::SYS_ioctl, &[fd as u64, 0xc018_aa3f, api]) == 0
        && s.call(libc::SYS_ioctl, &[fd as u64, 0xc020_aa00, request]) == 0;
    let fd = if ready { fd as u64 } else { s.stand_in() };
    (fd, empty, full)
}

/// The arguments of a request about the first page: its address and length, and these words.
fn fault(s: &mut Setup, features: u64, request: u64, rest: &[u64]) -> Vec<u64> {
    let (fd, page, _) = faults(s, features);
    let words = [&[page, 4096], rest].concat();
    vec![fd, request, s.longs(&words)]
}

fn memory() -> Vec<Case> {
    vec![
        case("ioctl", "UFFDIO_API", |s| {
            let fd = s.call(libc::SYS_userfaultfd, &[0x8_0001]);
            let fd = if fd < 0 { s.stand_in() } else { fd as u64 };
            vec![fd, 0xc018_aa3f, s.longs(&[0xaa, 0, 0])]
        }),
        case("ioctl", "UFFDIO_REGISTER", |s| {
            let (fd, ..) = faults(s, 0);
            let page = s.page();
            vec![fd, 0xc020_aa00, s.longs(&[page, 4096, 1, 0])]
        }),
        case("ioctl", "UFFDIO_COPY", |s| {
            let (fd, to, from) = faults(s, 0);
            vec![fd, 0xc028_aa03, s.longs(&[to, from, 4096, 0, 0])]
        }),
        case("ioctl", "UFFDIO_ZEROPAGE", |s| {
            fault(s, 0, 0xc020_aa04, &[0, 0])
        }),
        case("ioctl", "UFFDIO_POISON", |s| {
            fault(s, 1 << 14, 0xc020_aa08, &[0, 0])
        }),
        case("ioctl", "UFFDIO_CONTINUE", |s| {
            // A page of a file in memory, which is there but not yet mapped.
            let fd = s.call(libc::SYS_userfaultfd, &[0x8_0001]);
            let name = s.path("name");
            let file = s.fd(libc::SYS_memfd_create, &[name, 0]);
            s.write(file, &[7; 4096]);
            let page = s.call(libc::SYS_mmap, &[0, 4096, 3, 1, file, 0]) as u64;
            let api = s.longs(&[0xaa, 1 << 10, 0]);
            let register = s.longs(&[page, 4096, 4, 0]);
            let ready = s.call(libc::SYS_ioctl, &[fd as u64, 0xc018_aa3f, api]) == 0
                && s.call(libc::SYS_ioctl, &[fd as u64, 0xc020_aa00, register]) == 0;
            let fd = if ready { fd as u64 } else { s.stand_in() };
            vec![fd, 0xc020_aa07, s.longs(&[page, 4096, 0, 0])]
        }),
    ]
}

/// A descriptor that tells of a child's calls, of which one is waiting: what stands in where there can be none.
fn notifier(s: &mut Setup) -> u64 {
    // For getppid ask, all others are allowed.
    let code = |code: u16, yes: u8, no: u8, k: u32| {
        u64::from(code) | u64::from(yes) << 16 | u64::from(no) << 24 | u64::from(k) << 32
    };
    let filter = s.longs(&[
        code(0x20, 0, 0, 0),
        code(0x15, 0, 1, libc::SYS_getppid as u32),
        code(0x06, 0, 0, 0x7fc0_0000),
        code(0x06, 0, 0, 0x7fff_0000),
    ]);
    let program = s.longs(&[4, filter]);
    s.call(libc::SYS_prctl, &[38, 1, 0, 0, 0]);
    let fd = s.call(libc::SYS_seccomp, &[1, 8, program]);
    if fd < 0 {
        return s.stand_in();
    }
    // SAFETY: the child makes a call that does not end, or ends itself.
    let child = unsafe {
        match libc::fork() {
            0 => {
                libc::alarm(20);
                libc::syscall(libc::SYS_getppid);
                libc::_exit(0)
            }
            child => child,
        }
    };
    s.after(move |_| {
        // SAFETY: our child.
        unsafe {
            libc::kill(child, libc::SIGKILL);
            libc::waitpid(child, std::ptr::null_mut(), 0);
        }
    });
    fd as u64
}

fn others() -> Vec<Case> {
    vec![
        case("ioctl", "PERF_EVENT_IOC_ID", |s| {
            let mut attr = [0u8; 128];
            attr[0] = 1; // a software event, of 128 bytes
            attr[4] = 128;
            attr[40] = 0x60; // without the kernel
            let attr = s.bytes(&attr);
            let event = s.call(libc::SYS_perf_event_open, &[attr, 0, u64::MAX, u64::MAX, 0]);
            let event = if event < 0 {
                s.stand_in()
            } else {
                event as u64
            };
            vec![event, 0x8008_2407, s.out(8)]
        }),
        case("ioctl", "EPIOCGPARAMS", |s| {
            let fd = s.fd(libc::SYS_epoll_create1, &[0]);
            vec![fd, 0x8008_8a02, s.out(8)]
        }),
        case("ioctl", "SECCOMP_IOCTL_NOTIF_RECV", |s| {
            vec![notifier(s), 0xc050_2100, s.bytes(&[0; 80])]
        }),
        case("fcntl", "F_GETDELEG", |s| {
            vec![s.dir(), 1039, s.bytes(&[0; 8])]
        }),
        case("prctl", "PR_SET_MM_MAP_SIZE", |s| {
            vec![35, 15, s.out(4), 0, 0]
        }),
    ]
}
