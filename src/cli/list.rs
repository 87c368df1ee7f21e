//! `rrapper list`.

use super::output;
use crate::recording::{Listed, Summary, default_directory, list};
use crate::trace::Exit;
use std::borrow::Cow;
use std::fmt::Write as _;
use std::path::PathBuf;

#[derive(clap::Args)]
pub(super) struct Args {
    /// The directory with the recordings [default: $XDG_DATA_HOME/rrapper]
    dir: Option<PathBuf>,
}

pub(super) fn run(args: &Args) -> anyhow::Result<i32> {
    let found = match &args.dir {
        Some(dir) => list(dir)?,
        None => {
            let place = default_directory()?;
            // The directory does not exist before the first recording.
            if place.exists() {
                list(&place)?
            } else {
                Vec::new()
            }
        }
    };
    output::finish(output::print(table(&found).as_bytes()))
}

/// Formats one line per recording, in columns.
fn table(found: &[Listed]) -> String {
    let mut rows: Vec<[String; 6]> = Vec::new();
    if !found.is_empty() {
        rows.push(
            [
                "NAME",
                "STARTED (UTC)",
                "EVENTS",
                "ON DISK",
                "END",
                "PROGRAM",
            ]
            .map(String::from),
        );
    }
    rows.extend(found.iter().map(row));
    let widths: [usize; 5] = std::array::from_fn(|column| {
        let cells = rows.iter().map(|row| row[column].chars().count());
        cells.max().unwrap_or(0)
    });
    let mut text = String::new();
    for [name, started, events, size, end, program] in rows {
        let [w0, w1, w2, w3, w4] = widths;
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "{name:w0$}  {started:w1$}  {events:>w2$}  {size:>w3$}  {end:w4$}  {program}"
        );
    }
    text
}

fn row(listed: &Listed) -> [String; 6] {
    let name = output::plain(&listed.name.to_string_lossy());
    let size = human(listed.size);
    match &listed.content {
        Ok(summary) => [
            name,
            date(summary.time),
            summary.events.to_string(),
            size,
            end(summary),
            command(&summary.argv),
        ],
        Err(error) => {
            let reason = output::plain(&format!("({error})"));
            [
                name,
                "-".into(),
                "-".into(),
                size,
                "unreadable".into(),
                reason,
            ]
        }
    }
}

fn end(summary: &Summary) -> String {
    match summary.exit {
        Some(Exit::Code(code)) => format!("exit {code}"),
        Some(Exit::Signal { signal, .. }) => crate::constants::signal_name(signal),
        None if summary.growing => String::from("recording"),
        None => String::from("incomplete"),
    }
}

/// The command line, cut to the length of a line.
fn command(argv: &[Vec<u8>]) -> String {
    const MOST: usize = 60;
    let words: Vec<Cow<'_, str>> = argv
        .iter()
        .map(|arg| String::from_utf8_lossy(arg))
        .collect();
    let all = output::plain(&words.join(" "));
    match all.char_indices().nth(MOST) {
        Some((cut, _)) => format!("{}…", &all[..cut]),
        None => all,
    }
}

pub(super) fn human(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let (mut size, mut unit) = (bytes as f64, 0);
    while size >= 1024.0 && unit + 1 < UNITS.len() {
        size /= 1024.0;
        unit += 1;
    }
    match unit {
        0 => format!("{bytes} B"),
        _ => format!("{size:.1} {}", UNITS[unit]),
    }
}

/// Formats seconds since 1970 as a date and time.
fn date(time: u64) -> String {
    const DAY: u64 = 86_400;
    // Times beyond the year 9999 are no dates.
    if time > 253_402_300_799 {
        return String::from("-");
    }
    let (mut days, second) = (time / DAY, time % DAY);
    let leap =
        |year: u64| year.is_multiple_of(4) && !year.is_multiple_of(100) || year.is_multiple_of(400);
    let mut year = 1970;
    while days >= 365 + u64::from(leap(year)) {
        days -= 365 + u64::from(leap(year));
        year += 1;
    }
    let february = 28 + u64::from(leap(year));
    let mut month = 1;
    for len in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31] {
        if days < len {
            break;
        }
        days -= len;
        month += 1;
    }
    let (hour, minute) = (second / 3600, second / 60 % 60);
    format!("{year}-{month:02}-{:02} {hour:02}:{minute:02}", days + 1)
}

#[cfg(test)]
mod tests {
    #[test]
    fn dates_are_those_of_the_calendar() {
        for (time, text) in [
            (0, "1970-01-01 00:00"),
            (951_782_399, "2000-02-28 23:59"),
            (951_782_400, "2000-02-29 00:00"),
            (1_709_251_199, "2024-02-29 23:59"),
            (1_735_689_600, "2025-01-01 00:00"),
            (4_107_542_400, "2100-03-01 00:00"),
            (253_402_300_799, "9999-12-31 23:59"),
            (u64::MAX, "-"),
        ] {
            assert_eq!(super::date(time), text);
        }
    }

    #[test]
    fn sizes_are_short() {
        for (bytes, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1536, "1.5 KiB"),
            (3 << 40, "3.0 TiB"),
        ] {
            assert_eq!(super::human(bytes), text);
        }
    }
}
