//! Tests of the names of constants: strace's names are known, and each has one meaning.

use crate::constants;
use std::collections::HashMap;

use super::*;

#[test]
fn names_that_strace_prints_have_a_value() {
    let names = include_str!("names.txt").split_whitespace();
    let unknown: Vec<_> = names
        .filter(|name| constants::value(name).is_none())
        .collect();
    assert_eq!(unknown, [] as [&str; 0]);
}

/// Names in strace's file that look like constants: macros with arguments, and constants that x86-64 does not have.
const NO_CONSTANTS: &[&str] = &[
    "BPF_JUMP",
    "BPF_STMT",
    "ILL_BADIADDR",
    "MIXER_READ",
    "MIXER_WRITE",
    "SPI_IOC_MESSAGE",
    "UI_GET_SYSNAME",
];

#[test]
fn names_in_the_installed_strace_have_a_value() {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).find_map(|dir| std::fs::read(dir.join("strace")).ok());
    let file = found.expect("strace is installed");
    let is_part = |part: &str| {
        let upper = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit();
        !part.is_empty() && part.chars().all(upper)
    };
    let words = file.split(|&byte| byte == 0);
    let names = words
        .filter(|word| word.len() > 5)
        .filter_map(|word| std::str::from_utf8(word).ok())
        .filter(|name| name.starts_with(|c: char| c.is_ascii_uppercase()))
        .filter(|name| name.contains('_') && name.split('_').all(is_part))
        .filter(|name| !NO_CONSTANTS.contains(name));
    let mut seen = 0;
    let unknown: Vec<_> = names
        .inspect(|_| seen += 1)
        .filter(|name| constants::value(name).is_none())
        .collect();
    assert_eq!(unknown, [] as [&str; 0]);
    assert!(seen > 5000, "{seen}");
}

#[test]
fn a_name_has_one_value_wherever_it_stands() {
    let mut values = HashMap::new();
    for set in constants::common().chain(constants::rare()) {
        for name in set.list() {
            let before = *values.entry(name.text).or_insert(name.value);
            assert_eq!(before, name.value, "{} in {}", name.text, set.name);
        }
    }
    assert!(values.len() > 13_000, "{}", values.len());
}

#[test]
fn requests_are_ordered_and_named() {
    let requests = constants::set("ioctl").unwrap().list();
    assert!(requests.is_sorted_by_key(|name| (name.value, name.text)));
    let cases = [
        (0x5401, "TCGETS"),
        (0x5402, "TCSETS"),
        (0x40049409, "BTRFS_IOC_CLONE or FICLONE"),
        (0x80ff_4506, "EVIOCGNAME(255)"),
        (0x8060_4521, "EVIOCGBIT(EV_KEY, 96)"),
        (0x8008_4520, "EVIOCGBIT(0, 8)"),
        (0x8018_4540, "EVIOCGABS(ABS_X)"),
        (0x4018_45c1, "EVIOCSABS(ABS_Y)"),
        (0x8020_9999, "_IOC(_IOC_READ, 0x99, 0x99, 0x20)"),
        (0, "_IOC(_IOC_NONE, 0, 0, 0)"),
    ];
    for (number, text) in cases {
        let shown = call("ioctl").decode_arg(1, &[0, number, 0, 0, 0, 0], &Pieces::default());
        assert_eq!(shown, sym(text), "{number:#x}");
        assert_eq!(constants::eval(text), Some(number as i64), "{text}");
    }
    // The text of strace's versions that compared type and number only.
    let old = "SNDCTL_TMR_TIMEBASE or SNDRV_TIMER_IOCTL_NEXT_DEVICE or TCGETS";
    assert_eq!(constants::eval(old), Some(0x5401));
}

#[test]
fn macros_have_their_value() {
    let cases = [
        ("QCMD(Q_GETQUOTA, USRQUOTA)", 0x8000_0700),
        ("KERNEL_VERSION(6, 1, 0)", 0x6_0100),
        ("IOPRIO_PRIO_VALUE(IOPRIO_CLASS_BE, 4)", 0x4004),
        ("FD_TO_CLOCKID(3)", -29),
        ("MAKE_PROCESS_CPUCLOCK(0, CPUCLOCK_SCHED)", -6),
        ("v4l2_fourcc('Y', 'U', 'Y', 'V')", 0x5659_5559),
        ("BPF_STMT(BPF_LD|BPF_W|BPF_ABS, 0x4)", 0x4_0000_0020),
        (
            "BPF_JUMP(BPF_JMP|BPF_K|BPF_JEQ, 0xc000003e, 0x1, 0)",
            0xc000_003e_0001_0015_u64 as i64,
        ),
        ("21<<MAP_HUGE_SHIFT", 21 << 26),
        ("JSIOCGNAME(128)", 0x8080_6a13),
        ("0xf /* B38400 */|0x30 /* CS8 */|0x80 /* CREAD */", 0xbf),
        ("IPV4_DEVCONF_TAG-1", 11),
        ("1<<CAP_NET_ADMIN|1<<CAP_SYS_ADMIN", 1 << 12 | 1 << 21),
    ];
    for (text, value) in cases {
        assert_eq!(constants::eval(text), Some(value), "{text}");
    }
    assert_eq!(constants::eval("QCMD(1)"), None);
    assert_eq!(constants::eval("EVIOCGBIT(EV_KEY)"), None);
}
