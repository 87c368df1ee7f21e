//! Signals: `signals.tbl`, and the real-time signals as strace names them.

use super::rows;
use std::sync::LazyLock;

static SIGNALS: LazyLock<Vec<(&'static str, i32)>> = LazyLock::new(|| {
    rows(include_str!("signals.tbl"))
        .filter_map(|row| {
            let (name, number) = row.split_once(' ')?;
            Some((name, number.parse().ok()?))
        })
        .collect()
});

/// The number of a signal: `SIGINT`, `INT`, `SIGRTMIN` (32, the kernel's), `SIGRT_3` (35), `RT_3`.
pub fn signal(name: &str) -> Option<i32> {
    let short = name.strip_prefix("SIG").unwrap_or(name);
    match short {
        "RTMIN" => return Some(32),
        "RTMAX" => return Some(64),
        _ => {}
    }
    if let Some(number) = short.strip_prefix("RT_").or(short.strip_prefix("RTMIN+")) {
        let number: i32 = number.parse().ok()?;
        return (0..=32).contains(&number).then_some(32 + number);
    }
    let found = SIGNALS
        .iter()
        .find(|(full, _)| full.strip_prefix("SIG") == Some(short));
    found.map(|&(_, number)| number)
}

/// The name of a signal as strace has it: `SIGINT`, `SIGRT_5`; the number if there is no name.
pub fn signal_name(n: i32) -> String {
    match n {
        32 => "SIGRTMIN".to_owned(),
        33..=64 => format!("SIGRT_{}", n - 32),
        _ => match SIGNALS.iter().find(|&&(_, number)| number == n) {
            Some((name, _)) => (*name).to_owned(),
            None => n.to_string(),
        },
    }
}

/// All names and numbers, without the real-time signals.
pub(super) fn all() -> impl Iterator<Item = (&'static str, i64)> {
    SIGNALS.iter().map(|&(name, number)| (name, number.into()))
}
