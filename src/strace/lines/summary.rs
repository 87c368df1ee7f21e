//! The tables of `-c` and `-C`: recognizes their lines and reads their rows.

use crate::strace::grammar::pasted;
use crate::strace::grammar::tokens::blanks;
use memchr::memmem;

/// The titles of the columns, word by word.
const TITLES: [&[u8]; 15] = [
    b"%",
    b"time",
    b"seconds",
    b"usecs/call",
    b"calls",
    b"errors",
    b"syscall",
    b"shortest",
    b"longest",
    b"wall-total",
    b"wall-min",
    b"wall-max",
    b"wall-avg",
    b"function",
    b"errs",
];

/// The heading of the table of one of several personalities: `System call usage summary for 32 bit mode:`.
const HEADING: &[u8] = b"System call usage summary ";

/// A row of a table.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Row {
    /// The call; `total` in the last row.
    pub name: String,
    /// Whether it is the last row, of all calls together.
    pub total: bool,
    /// The personality, where there are several: `32 bit`.
    pub mode: Option<String>,
    /// The number of calls.
    pub calls: Option<u64>,
    /// The number of failed calls.
    pub errors: Option<u64>,
    /// Their total time, in seconds.
    pub seconds: Option<f64>,
    /// All numbers as written, with the titles of their columns.
    pub cells: Vec<(String, String)>,
}

/// A column: its title, and the bytes below its rule.
#[derive(Clone, Debug, PartialEq)]
struct Column {
    title: String,
    start: usize,
    end: usize,
}

/// Reads consecutive lines of tables ([`crate::strace::OtherLine::Summary`]).
#[derive(Clone, Debug, Default)]
pub struct Tables {
    mode: Option<String>,
    titles: Vec<String>,
    columns: Vec<Column>,
    total: bool,
}

impl Tables {
    /// Reads the next line of a table; `None` where it is no row.
    pub fn row(&mut self, line: &[u8]) -> Option<Row> {
        let i = pasted::plainly_unquoted(line);
        if let Some(at) = memmem::find(i, HEADING) {
            let mode = String::from_utf8_lossy(&i[at + HEADING.len()..]);
            let mode = mode.trim().trim_start_matches("for ").trim_end_matches(':');
            self.mode = Some(mode.trim_end_matches(" mode").to_owned());
            return None;
        }
        if is_titles(i) {
            self.titles = titles(i);
            self.columns.clear();
            self.total = false;
            return None;
        }
        if is_rule(i) {
            self.total = !self.columns.is_empty();
            let titles = self.titles.iter().cloned();
            let columns = titles.zip(spans(i));
            self.columns = columns
                .map(|(title, (start, end))| Column { title, start, end })
                .collect();
            return None;
        }
        self.cells(i)
    }

    fn cells(&mut self, i: &[u8]) -> Option<Row> {
        let found = spans(i);
        let text = |(start, end): (usize, usize)| {
            String::from_utf8_lossy(i.get(start..end).unwrap_or_default()).into_owned()
        };
        let mut row = Row {
            mode: self.mode.clone(),
            ..Row::default()
        };
        let cells: Vec<(String, String)> = if self.columns.is_empty() {
            // Part of a table, in the usual order of columns, which ends in the calls, their errors if any, and the
            // name.
            let usual = ["% time", "seconds", "usecs/call", "calls", "errors"];
            let (name, numbers) = found.split_last()?;
            row.name = text(*name);
            let numbers = numbers.iter().map(|span| text(*span));
            usual.map(String::from).into_iter().zip(numbers).collect()
        } else if found.len() == self.columns.len() {
            let titles = self.columns.iter().map(|column| column.title.clone());
            titles.zip(found.into_iter().map(text)).collect()
        } else {
            // Some cells are empty: each cell belongs to the column under whose rule it ends, or nearly so.
            let columns = &self.columns;
            let nearest = |span: (usize, usize)| {
                let away = |column: &&Column| match column.title.as_str() {
                    "syscall" | "function" => column.start.abs_diff(span.0),
                    _ => column.end.abs_diff(span.1),
                };
                columns.iter().min_by_key(away)
            };
            let titled = |span| nearest(span).map(|column| (column.title.clone(), text(span)));
            found.into_iter().filter_map(titled).collect()
        };
        for (title, cell) in cells {
            match title.as_str() {
                "syscall" | "function" => {
                    row.name = cell;
                    continue;
                }
                "calls" => row.calls = cell.parse().ok(),
                "errors" | "errs" => row.errors = cell.parse().ok(),
                // Some locales write a comma.
                "seconds" => row.seconds = cell.replace(',', ".").parse().ok(),
                _ => {}
            }
            row.cells.push((title, cell));
        }
        row.total = self.total || row.name == "total";
        self.total = false;
        Some(row)
    }
}

/// Follows tables from line to line.
#[derive(Debug, Default)]
pub(in crate::strace) struct Summary {
    state: State,
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
enum State {
    #[default]
    Outside,
    /// Behind the titles.
    Titled,
    /// Between the rules.
    Rows,
    /// Behind the second rule.
    Total,
}

impl Summary {
    /// Whether this line is part of a table.
    pub(in crate::strace) fn takes(&mut self, i: &[u8]) -> bool {
        if self.state == State::Outside && !may_begin(i) {
            return false;
        }
        let i = pasted::plainly_unquoted(i);
        let (takes, state) = match self.state {
            State::Outside if is_titles(i) => (true, State::Titled),
            State::Outside => (
                blanks(i).starts_with(HEADING) || is_lone_row(i),
                State::Outside,
            ),
            State::Titled | State::Rows if is_titles(i) => (true, State::Titled),
            State::Titled if is_rule(i) => (true, State::Rows),
            State::Rows if is_rule(i) => (true, State::Total),
            State::Rows if is_row(i) => (true, State::Rows),
            State::Total if is_row(i) => (true, State::Outside),
            // A user may have left rows out, with a comment.
            State::Rows => (false, State::Rows),
            _ => (false, State::Outside),
        };
        self.state = state;
        takes
    }

    /// Ends the table at a line with an entry.
    pub(in crate::strace) fn leave(&mut self) {
        self.state = State::Outside;
    }
}

/// Whether a line may begin a table. Nearly all lines do not: this must be quick.
fn may_begin(i: &[u8]) -> bool {
    match i.first() {
        Some(b'0'..=b'9') => {
            let digits = i.iter().take_while(|b| b.is_ascii_digit()).count();
            digits < 4 && matches!(i.get(digits), Some(b'.' | b','))
        }
        Some(b'%' | b' ' | b'\t' | b'>' | b'a'..=b'z' | b'S') => true,
        _ => false,
    }
}

fn words(i: &[u8]) -> impl Iterator<Item = &[u8]> {
    i.split(|b| b.is_ascii_whitespace())
        .filter(|word| !word.is_empty())
}

/// The offsets of the words of a line.
fn spans(i: &[u8]) -> Vec<(usize, usize)> {
    let mut found = Vec::new();
    let mut start = None;
    for (at, b) in i.iter().enumerate() {
        match (b.is_ascii_whitespace(), start) {
            (false, None) => start = Some(at),
            (true, Some(from)) => {
                found.push((from, at));
                start = None;
            }
            _ => {}
        }
    }
    found.extend(start.map(|from| (from, i.len())));
    found
}

/// The titles of columns; one has two words.
fn titles(i: &[u8]) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    for word in words(i) {
        let word = String::from_utf8_lossy(word).into_owned();
        match found.last_mut() {
            Some(last) if last == "%" => *last = format!("% {word}"),
            _ => found.push(word),
        }
    }
    found
}

fn is_titles(i: &[u8]) -> bool {
    words(i).all(|word| TITLES.contains(&word)) && words(i).count() > 1
}

fn is_rule(i: &[u8]) -> bool {
    !i.trim_ascii().is_empty() && words(i).all(|word| word.iter().all(|&b| b == b'-'))
}

/// Numbers, and at most one name.
fn is_row(i: &[u8]) -> bool {
    let is_number = |word: &&[u8]| {
        word.iter()
            .all(|b| b.is_ascii_digit() || b".,-".contains(b))
    };
    let is_name = |word: &[u8]| {
        word.iter()
            .all(|b| b.is_ascii_alphanumeric() || b"_?#".contains(b))
    };
    let mut names = words(i).filter(|word| !is_number(word));
    names.next().is_none_or(is_name)
        && names.next().is_none()
        && i.iter().any(u8::is_ascii_alphanumeric)
}

/// A row of a table whose beginning was left out: `  0.75    0.236566           6     37503           epoll_wait`.
fn is_lone_row(i: &[u8]) -> bool {
    let fraction = |word: &[u8], digits: usize| {
        let point = word.len().checked_sub(digits + 1);
        point.is_some_and(|point| {
            point > 0
                && matches!(word.get(point), Some(b'.' | b','))
                && word
                    .iter()
                    .enumerate()
                    .all(|(i, b)| i == point || b.is_ascii_digit())
        })
    };
    let whole = |word: &[u8]| word.iter().all(u8::is_ascii_digit);
    let mut row = words(i);
    row.next().is_some_and(|percent| fraction(percent, 2))
        && row.next().is_some_and(|seconds| fraction(seconds, 6))
        && row.next().is_some_and(whole)
        && row.next().is_some_and(whole)
        && (row.last()).is_some_and(|name| !name.first().is_some_and(u8::is_ascii_digit))
        && is_row(i)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(text: &str) -> Vec<Row> {
        let mut tables = Tables::default();
        let rows = text.lines();
        rows.filter_map(|line| tables.row(line.as_bytes()))
            .collect()
    }

    #[test]
    fn empty_cells_are_told_by_their_places() {
        let found = rows(
            "% time     seconds  usecs/call     calls    errors syscall\n\
             ------ ----------- ----------- --------- --------- ----------------\n\
             \x2096.08   30.293350       30053      1008         9 futex\n\
             \x20 0.75    0.236566           6     37503           epoll_wait\n\
             ------ ----------- ----------- --------- --------- ----------------\n\
             100.00   30.529916                 38511         9 total\n",
        );
        let told: Vec<_> = found
            .iter()
            .map(|row| (row.name.as_str(), row.calls, row.errors, row.total))
            .collect();
        assert_eq!(
            told,
            [
                ("futex", Some(1008), Some(9), false),
                ("epoll_wait", Some(37503), None, false),
                ("total", Some(38511), Some(9), true)
            ]
        );
        assert_eq!(found[2].cells.len(), 4);
        assert_eq!(found[1].seconds, Some(0.236_566));
    }

    #[test]
    fn columns_may_be_in_any_order() {
        let found = rows(
            "System call usage summary for 32 bit mode:\n\
             syscall             calls    errors shortest\n\
             ---------------- --------- --------- --------\n\
             read                    20           0.000004\n\
             access                   3         3 0.000007\n\
             ---------------- --------- --------- --------\n\
             total                   23         3 0.000004\n",
        );
        assert_eq!(found.len(), 3);
        assert_eq!((found[0].calls, found[0].errors), (Some(20), None));
        assert_eq!(found[0].mode.as_deref(), Some("32 bit"));
        assert_eq!(found[1].name, "access");
        assert_eq!(
            found[1].cells.last(),
            Some(&("shortest".to_owned(), "0.000007".to_owned()))
        );
    }

    #[test]
    fn a_part_of_a_table_is_read_as_the_usual_one() {
        let found = rows("  0.75    0.236566           6     37503         2 epoll_wait\n");
        assert_eq!((found[0].calls, found[0].errors), (Some(37503), Some(2)));
        assert_eq!(found[0].name, "epoll_wait");
    }
}
