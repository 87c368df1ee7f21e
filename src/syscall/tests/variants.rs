//! Tests of calls whose arguments depend on a command: ioctl, fcntl, prctl.

use super::*;
use crate::constants;
use crate::strace::value_from_text;

pub(super) const AT: u64 = 0x1000;
pub(super) const LEN_AT: u64 = 0x9000;

/// Bytes from numbers, each with its size in bytes.
pub(super) fn pack(parts: &[(u64, usize)]) -> Vec<u8> {
    let each = parts
        .iter()
        .map(|(n, size)| n.to_le_bytes()[..*size].to_vec());
    each.flatten().collect()
}

/// Text padded with zeros.
pub(super) fn text(text: &str, size: usize) -> Vec<u8> {
    let mut bytes = text.as_bytes().to_vec();
    bytes.resize(size, 0);
    bytes
}

pub(super) fn join(parts: &[Vec<u8>]) -> Vec<u8> {
    parts.concat()
}

pub(super) fn zeros(size: usize) -> Vec<u8> {
    vec![0; size]
}

pub(super) fn value(name: &str) -> u64 {
    constants::eval(name).unwrap_or_else(|| panic!("{name}")) as u64
}

/// Checks that an argument in memory before and after a successful call is decoded to this text, that the text can be
/// parsed, and that it suffices to write the kernel's output.
#[track_caller]
pub(super) fn shown(
    call_name: &str,
    args: &[u64; 6],
    arg: usize,
    (before, after): (&[u8], &[u8]),
    expected: &str,
) {
    let variant = call(call_name).resolve(args);
    assert!(variant.described, "{args:x?}");
    let len = pack(&[(after.len() as u64, 4)]);
    let entry = Pieces::default().with(AT, before).with(LEN_AT, len.clone());
    let exit = Pieces::default().with(AT, after).with(LEN_AT, len);
    let values = variant.decode(args, Some(0), &entry, &exit);
    assert_eq!(values[arg].to_string(), expected);
    let mut read: Vec<Value> = values.clone();
    read[arg] = value_from_text(expected).unwrap();
    assert_eq!(variant.compare(args, &entry, &read), Ok(()), "{expected}");
    let outputs = variant.outputs(args, 0, &entry, &exit);
    let writes = variant.encode_outputs(args, &read, 0, &entry).unwrap();
    let written = entry.apply(&writes);
    for region in outputs.iter().filter(|r| r.arg == arg) {
        let mut real = vec![0; region.len];
        let mut ours = vec![0; region.len];
        exit.read(region.addr, &mut real);
        written.read(region.addr, &mut ours);
        assert_eq!(ours, real, "{expected}");
    }
}

#[track_caller]
fn ioctl(request: &str, before: &[u8], after: &[u8], expected: &str) {
    let args = [3, value(request), AT, 0, 0, 0];
    shown("ioctl", &args, 2, (before, after), expected);
}

/// A request that only reads, or only writes.
#[track_caller]
fn ioctl_one(request: &str, bytes: &[u8], expected: &str) {
    ioctl(request, bytes, bytes, expected);
}

#[test]
fn structures_with_arrays() {
    let extent = pack(&[
        (0, 8),
        (0x4000, 8),
        (8192, 8),
        (0, 8),
        (0, 8),
        (1, 4),
        (0, 4),
        (0, 8),
    ]);
    let fiemap = |mapped: u64| pack(&[(0, 8), (u64::MAX, 8), (0, 4), (mapped, 4), (2, 4), (0, 4)]);
    ioctl(
        "FS_IOC_FIEMAP",
        &join(&[fiemap(0), zeros(112)]),
        &join(&[fiemap(1), extent, zeros(56)]),
        "{fm_start=0, fm_length=18446744073709551615, fm_flags=0, fm_extent_count=2} \
        => {fm_flags=0, fm_mapped_extents=1, fm_extents=[{fe_logical=0, fe_physical=16384, fe_length=8192, \
        fe_flags=FIEMAP_EXTENT_LAST}]}",
    );
    let dedupe = |done: u64, status: u64| {
        pack(&[
            (0, 8),
            (4096, 8),
            (1, 8),
            (3, 8),
            (4096, 8),
            (done, 8),
            (status, 8),
        ])
    };
    ioctl(
        "FIDEDUPERANGE",
        &dedupe(0, 0),
        &dedupe(4096, 1),
        "{src_offset=0, src_length=4096, dest_count=1, info=[{dest_fd=3, dest_offset=4096}]} \
        => {info=[{bytes_deduped=4096, status=1}]}",
    );
    let ifreq = |last: u64| {
        let address = pack(&[(2, 4), (last << 24 | 10, 4), (0, 8), (0, 8)]);
        join(&[text("eth0", 16), address])
    };
    let ifconf = |len| pack(&[(len, 8), (AT + 16, 8)]);
    ioctl(
        "SIOCGIFCONF",
        &join(&[ifconf(80), zeros(80)]),
        &join(&[ifconf(40), ifreq(7), zeros(40)]),
        "{ifc_len=80 /* 2 * sizeof(struct ifreq) */ => 40 /* 1 * sizeof(struct ifreq) */, ifc_buf=[{ifr_name=\"eth0\", \
        ifr_addr={sa_family=AF_INET, sin_port=htons(0), sin_addr=inet_addr(\"10.0.0.7\")}}]}",
    );
    ioctl(
        "SIOCGIFCONF",
        &join(&[ifconf(10), zeros(10)]),
        &join(&[ifconf(0), zeros(10)]),
        "{ifc_len=10 => 0, ifc_buf=[]}",
    );
    ioctl(
        "SIOCGIFCONF",
        &pack(&[(7, 8), (0, 8)]),
        &pack(&[(80, 8), (0, 8)]),
        "{ifc_len=80 /* 2 * sizeof(struct ifreq) */, ifc_buf=NULL}",
    );
}

#[test]
fn terminals() {
    let cc =
        "[[VINTR]=0x3, [VQUIT]=0, [VERASE]=0, [VKILL]=0, [VEOF]=0, [VTIME]=0, [VMIN]=0, [VSWTC]=0";
    let tail = ", [VSTART]=0, [VSTOP]=0, [VSUSP]=0, [VEOL]=0, [VREPRINT]=0, [VDISCARD]=0, [VWERASE]=0, [VLNEXT]=0, \
        [VEOL2]=0, [17]=0, [18]=0]";
    let mut bytes = pack(&[(0x500, 4), (5, 4), (0xbf, 4), (0x8a3b, 4), (0, 1), (3, 1)]);
    bytes.resize(36, 0);
    bytes.extend(pack(&[(38400, 4), (38400, 4)]));
    let flags = "{c_iflag=ICRNL|IXON, c_oflag=NL0|CR0|TAB0|BS0|VT0|FF0|OPOST|ONLCR, c_cflag=B38400|CS8|CREAD, \
        c_lflag=ISIG|ICANON|ECHO|ECHOE|ECHOK|IEXTEN|ECHOCTL|ECHOKE, c_line=N_TTY, c_cc=";
    let whole = format!("{flags}{cc}{tail}, c_ispeed=38400, c_ospeed=38400}}");
    ioctl_one("TCGETS2", &bytes, &whole);
    ioctl_one("TCSETSW2", &bytes, &whole);
    let old = pack(&[
        (0x500, 2),
        (5, 2),
        (0xbf, 2),
        (0x8a3b, 2),
        (0, 1),
        (3, 1),
        (0, 7),
    ]);
    ioctl_one(
        "TCGETA",
        &join(&[old, zeros(1)]),
        &format!("{flags}{cc}]}}"),
    );
    ioctl_one("TIOCMGET", &[6, 0, 0, 0], "[TIOCM_DTR|TIOCM_RTS]");
    ioctl_one("TIOCGPGRP", &pack(&[(77, 4)]), "[77]");
}

#[test]
fn block_devices_and_files() {
    ioctl_one("BLKSSZGET", &pack(&[(512, 4)]), "[512]");
    ioctl_one("BLKSECTGET", &pack(&[(256, 2)]), "[256]");
    ioctl_one("BLKGETSIZE64", &pack(&[(1 << 40, 8)]), "[1099511627776]");
    ioctl_one("BLKDISCARD", &pack(&[(4096, 8), (512, 8)]), "[4096, 512]");
    ioctl_one(
        "HDIO_GETGEO",
        &pack(&[(255, 1), (63, 1), (1024, 2), (0, 4), (2048, 8)]),
        "{heads=255, sectors=63, cylinders=1024, start=2048}",
    );
    let info = join(&[
        pack(&[
            (0x801, 8),
            (7, 8),
            (0x700, 8),
            (512, 8),
            (0, 8),
            (3, 4),
            (0, 4),
            (0, 4),
            (5, 4),
        ]),
        text("/tmp/image", 64),
        zeros(64 + 32 + 16),
    ]);
    ioctl_one(
        "LOOP_GET_STATUS64",
        &info,
        "{lo_device=makedev(0x8, 0x1), lo_inode=7, lo_rdevice=makedev(0x7, 0), lo_offset=0x200, lo_sizelimit=0, \
            lo_number=3, lo_encrypt_type=LO_CRYPT_NONE, lo_encrypt_key_size=0, \
            lo_flags=LO_FLAGS_READ_ONLY|LO_FLAGS_AUTOCLEAR, lo_file_name=\"/tmp/image\", lo_crypt_name=\"\", \
            lo_encrypt_key=\"\", lo_init=[0, 0]}",
    );
    ioctl_one(
        "FS_IOC_GETFLAGS",
        &pack(&[(0x80010, 4)]),
        "[FS_IMMUTABLE_FL|FS_EXTENT_FL]",
    );
    ioctl_one(
        "FS_IOC_FSGETXATTR",
        &pack(&[(2, 4), (0, 4), (1, 4), (9, 4), (0, 4), (0, 8)]),
        "{fsx_xflags=FS_XFLAG_PREALLOC, fsx_extsize=0, fsx_nextents=1, fsx_projid=0x9, fsx_cowextsize=0}",
    );
    ioctl_one(
        "RTC_RD_TIME",
        &pack(&[
            (1, 4),
            (2, 4),
            (3, 4),
            (4, 4),
            (5, 4),
            (126, 4),
            (6, 4),
            (7, 4),
            (0, 4),
        ]),
        "{tm_sec=1, tm_min=2, tm_hour=3, tm_mday=4, tm_mon=5, tm_year=126, tm_wday=6, tm_yday=7, tm_isdst=0}",
    );
    let asked = pack(&[(2, 8), (0, 8), (0, 4), (0, 4)]);
    let answer = pack(&[(2, 8), (1, 8), (0, 4), (0, 4)]);
    ioctl(
        "RTC_PARAM_GET",
        &asked,
        &answer,
        "{param=RTC_PARAM_BACKUP_SWITCH_MODE, index=0} => {uvalue=RTC_BSM_DIRECT}",
    );
    ioctl_one(
        "MEMGETINFO",
        &pack(&[
            (3, 1),
            (0, 3),
            (0xc00, 4),
            (4096, 4),
            (512, 4),
            (1, 4),
            (0, 4),
            (0, 8),
        ]),
        "{type=MTD_NORFLASH, flags=MTD_WRITEABLE|MTD_BIT_WRITEABLE, size=0x1000, erasesize=0x200, writesize=0x1, \
            oobsize=0, padding=0}",
    );
    ioctl_one("RNDGETENTCNT", &pack(&[(256, 4)]), "[256]");
    ioctl_one("PERF_EVENT_IOC_ID", &pack(&[(9, 8)]), "[9]");
}

#[test]
fn network_interfaces_are_shown_by_what_is_asked() {
    let name = || text("lo", 16);
    let asked = join(&[name(), zeros(24)]);
    let answer = |bytes: Vec<u8>| {
        let mut whole = join(&[name(), bytes]);
        whole.resize(40, 0);
        whole
    };
    let inet = pack(&[(2, 2), (0, 2), (0x0100_007f, 4), (0, 8)]);
    let cases = [
        (
            "SIOCGIFFLAGS",
            pack(&[(0x49, 2)]),
            "ifr_flags=IFF_UP|IFF_LOOPBACK|IFF_RUNNING",
        ),
        ("SIOCGIFINDEX", pack(&[(1, 4)]), "ifr_ifindex=1"),
        ("SIOCGIFMTU", pack(&[(65536, 4)]), "ifr_mtu=65536"),
        (
            "SIOCGIFADDR",
            inet,
            "ifr_addr={sa_family=AF_INET, sin_port=htons(0), sin_addr=inet_addr(\"127.0.0.1\")}",
        ),
        (
            "SIOCGIFHWADDR",
            pack(&[(1, 2), (0x0200_11ac_4202, 6)]),
            "ifr_hwaddr={sa_family=ARPHRD_ETHER, sa_data=02:42:ac:11:00:02}",
        ),
        (
            "SIOCGIFMAP",
            pack(&[(0, 8), (0, 8), (0x10, 2), (3, 1)]),
            "ifr_map={mem_start=0, mem_end=0, base_addr=0x10, irq=0x3, dma=0, port=0}",
        ),
    ];
    for (request, bytes, field) in cases {
        let expected = format!("{{ifr_name=\"lo\", {field}}}");
        ioctl(request, &asked, &answer(bytes), &expected);
    }
    let index = join(&[zeros(16), pack(&[(1, 4)]), zeros(20)]);
    let named = join(&[name(), pack(&[(1, 4)]), zeros(20)]);
    ioctl(
        "SIOCGIFNAME",
        &index,
        &named,
        "{ifr_ifindex=1, ifr_name=\"lo\"}",
    );
    let tun = join(&[text("tun0", 16), pack(&[(0x1001, 2)]), zeros(22)]);
    ioctl(
        "TUNSETIFF",
        &tun,
        &tun,
        "{ifr_name=\"tun0\", ifr_flags=IFF_TUN|IFF_NOFILTER}",
    );
    // A failed call shows its inputs.
    let args = [3, value("SIOCGIFMTU"), AT, 0, 0, 0];
    let mem = Pieces::default().with(AT, answer(pack(&[(7, 4)])));
    let values = call("ioctl")
        .resolve(&args)
        .decode(&args, Some(-19), &mem, &mem);
    assert_eq!(values[2].to_string(), "{ifr_name=\"lo\"}");
}

#[test]
fn consoles_input_and_user_faults() {
    ioctl_one(
        "VT_GETSTATE",
        &pack(&[(1, 2), (0, 2), (3, 2)]),
        "{v_active=1, v_signal=0, v_state=0x3}",
    );
    ioctl_one("KDGKBTYPE", &[2], "[KB_101]");
    ioctl_one("KDGETMODE", &pack(&[(1, 4)]), "[KD_GRAPHICS]");
    ioctl_one(
        "EVIOCGID",
        &pack(&[(3, 2), (0x46d, 2), (0xc52b, 2), (1, 2)]),
        "{bustype=3, vendor=1133, product=50475, version=1}",
    );
    ioctl_one(
        "EVIOCGABS(ABS_Y)",
        &pack(&[(5, 4), (0, 4), (255, 4), (1, 4), (2, 4), (3, 4)]),
        "{value=5, minimum=0, maximum=255, fuzz=1, flat=2, resolution=3}",
    );
    // The length of the name is the return value.
    let args = [3, value("EVIOCGNAME(64)"), AT, 0, 0, 0];
    let mem = Pieces::default().with(AT, text("keyboard", 64));
    let variant = call("ioctl").resolve(&args);
    assert_eq!(lens(&variant.outputs(&args, 9, &mem, &mem)), [(2, AT, 9)]);
    let values = variant.decode(&args, Some(9), &mem, &mem);
    assert_eq!(values[2].to_string(), r#""keyboard\0""#);
    let asked = pack(&[(0xaa, 8), (0, 8), (0, 8)]);
    let answer = pack(&[(0xaa, 8), (1, 8), (1 << 63 | 3, 8)]);
    ioctl(
        "UFFDIO_API",
        &asked,
        &answer,
        "{api=0xaa, features=0} => {features=UFFD_FEATURE_PAGEFAULT_FLAG_WP, \
            ioctls=1<<_UFFDIO_REGISTER|1<<_UFFDIO_UNREGISTER|1<<_UFFDIO_API}",
    );
}

#[test]
fn every_macro_for_a_request_is_described() {
    for request in [
        "EVIOCGNAME(64)",
        "EVIOCGBIT(EV_KEY, 96)",
        "EVIOCGABS(ABS_X)",
        "SPI_IOC_MESSAGE(32)",
    ] {
        let args = [3, value(request), AT, 0, 0, 0];
        assert!(call("ioctl").resolve(&args).described, "{request}");
    }
    // A direction without a size, a size without a direction, and neither.
    for request in [0x8000_9901u64, 0x0010_9901, 0x9901] {
        assert!(!call("ioctl").resolve(&[3, request, AT, 0, 0, 0]).described);
    }
}

#[test]
fn prctl_and_fcntl() {
    let name = join(&[text("worker", 16)]);
    let prctl = |option: &str, rest: [u64; 4], expected: &str| {
        let args = [value(option), rest[0], rest[1], rest[2], rest[3], 0];
        let mem = Pieces::default().with(AT, name.clone());
        let values = call("prctl")
            .resolve(&args)
            .decode(&args, Some(0), &mem, &mem);
        let shown: Vec<_> = values.iter().skip(1).map(Value::to_string).collect();
        assert_eq!(shown.join(", "), expected, "{option}");
    };
    prctl("PR_SET_NAME", [AT, 0, 0, 0], "\"worker\"");
    prctl("PR_GET_NAME", [AT, 0, 0, 0], "\"worker\"");
    prctl("PR_SET_PDEATHSIG", [15, 0, 0, 0], "SIGTERM");
    prctl(
        "PR_SET_SECUREBITS",
        [3, 0, 0, 0],
        "SECBIT_NOROOT|SECBIT_NOROOT_LOCKED",
    );
    prctl(
        "PR_CAP_AMBIENT",
        [2, 10, 0, 0],
        "PR_CAP_AMBIENT_RAISE, CAP_NET_BIND_SERVICE, 0, 0",
    );
    prctl(
        "PR_CAP_AMBIENT",
        [4, 0, 0, 0],
        "PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0",
    );
    prctl(
        "PR_MCE_KILL",
        [1, 2, 0, 0],
        "PR_MCE_KILL_SET, PR_MCE_KILL_DEFAULT, 0, 0",
    );
    prctl(
        "PR_SET_SPECULATION_CTRL",
        [0, 4, 0, 0],
        "PR_SPEC_STORE_BYPASS, PR_SPEC_DISABLE",
    );
    prctl(
        "PR_SET_VMA",
        [0, 0x5000, 4096, AT],
        "PR_SET_VMA_ANON_NAME, 0x5000, 4096, \"worker\"",
    );
    prctl(
        "PR_SET_SECCOMP",
        [1, 0, 0, 0],
        "SECCOMP_MODE_STRICT, 0, 0, 0",
    );
    prctl("PR_SET_MM", [1, 0, 0, 0], "PR_SET_MM_START_CODE, 0, 0, 0");
    let described = |option: &str| {
        call("prctl")
            .resolve(&[value(option), 0, 0, 0, 0, 0])
            .described
    };
    let set = constants::set("prctl").unwrap();
    for option in set.list() {
        assert!(described(option.text), "{}", option.text);
    }
    let fcntl = |command: &str, bytes: &[u8], expected: &str| {
        let args = [3, value(command), AT, 0, 0, 0];
        shown("fcntl", &args, 2, (bytes, bytes), expected);
    };
    fcntl("F_GET_RW_HINT", &pack(&[(2, 8)]), "[RWH_WRITE_LIFE_SHORT]");
    fcntl(
        "F_SETOWN_EX",
        &pack(&[(1, 4), (9, 4)]),
        "{type=F_OWNER_PID, pid=9}",
    );
    fcntl(
        "F_SETDELEG",
        &pack(&[(0, 4), (1, 2), (0, 2)]),
        "{d_flags=0, d_type=F_WRLCK, __pad=0}",
    );
}

/// Requests whose encoded size or direction is wrong: those for `struct ifreq` encode `int`.
const OTHER_SIZES: &[&str] = &[
    "FS_IOC_GET_ENCRYPTION_POLICY",
    "RTC_PARAM_GET",
    "TUNSETIFF",
    "TUNGETIFF",
    "TUNSETQUEUE",
];

#[test]
fn structures_are_as_large_as_their_requests_say() {
    let mut seen = 0;
    for request in constants::set("ioctl").unwrap().list() {
        let number = request.value as u64;
        let variant = call("ioctl").resolve(&[0, number, AT, 0, 0, 0]);
        let (direction, size) = (number >> 30, (number >> 16 & 0x3fff) as usize);
        let Some(Kind::Ptr(dir, to)) = variant.args.get(2).map(|arg| &arg.kind) else {
            continue;
        };
        if let (true, Kind::Struct(layout)) = (direction != 0, &**to)
            && !OTHER_SIZES.contains(&request.text)
        {
            assert_eq!(layout.size, size, "{} {}", request.text, layout.name);
            let written = direction & 2 != 0;
            assert!(written || *dir == Dir::In, "{} is only read", request.text);
            seen += 1;
        }
    }
    assert!(seen > 40, "{seen}");
}
