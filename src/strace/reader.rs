//! From lines to a trace: calls that were interrupted by others' are put together, and what was not
//! understood is reported.

use super::frame::{self, Line};
use super::lex::Expected;
use super::symbol::Symbols;
use super::{Parsed, Problem};
use crate::trace::{Answer, Call, Entry, Origin, Trace};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Of more problems than this, only their number is kept.
const MOST_PROBLEMS: usize = 10_000;

/// Reads a trace line by line; [`super::parse`] and [`super::load`] do that for whole texts.
#[derive(Debug)]
pub struct Reader {
    file: Arc<str>,
    number: u32,
    symbols: Symbols,
    /// The first part of a line that a message ran into.
    held: Vec<u8>,
    entries: Vec<Entry>,
    /// Calls that have begun and not ended, by task.
    begun: BTreeMap<i32, Begun>,
    /// Entries whose rest was not understood.
    dropped: Vec<usize>,
    problems: Vec<Problem>,
    /// How many problems are not in `problems`.
    more: usize,
}

/// The first part of a call.
#[derive(Debug)]
struct Begun {
    /// Where its entry stands.
    index: usize,
    /// The line that it is on, and the column from which its text is.
    at: (u32, usize),
    text: Vec<u8>,
}

impl Reader {
    /// A reader that has seen nothing; the file's name is for messages.
    pub fn new(file: &str) -> Reader {
        Reader {
            file: Arc::from(file),
            number: 0,
            symbols: Symbols::default(),
            held: Vec::new(),
            entries: Vec::new(),
            begun: BTreeMap::new(),
            dropped: Vec::new(),
            problems: Vec::new(),
            more: 0,
        }
    }

    /// Takes the next line, with or without the line feed.
    pub fn line(&mut self, line: &[u8]) {
        self.number = self.number.saturating_add(1);
        let line = line.trim_ascii_end();
        if let Some(first) = frame::interrupted(line) {
            self.held.extend_from_slice(first);
        } else if self.held.is_empty() {
            self.whole_line(line);
        } else {
            let mut joined = std::mem::take(&mut self.held);
            joined.extend_from_slice(line);
            self.whole_line(&joined);
        }
    }

    fn whole_line(&mut self, line: &[u8]) {
        let (tid, said) = match frame::line(&mut self.symbols, line) {
            Ok((_, said)) => said,
            Err(error) => {
                let (at, message) = described(error);
                return self.problem(self.number, line.len() - at + 1, message);
            }
        };
        let column = |part: &[u8]| part.as_ptr() as usize - line.as_ptr() as usize + 1;
        match said {
            Line::Nothing => {}
            Line::Call(text) => match frame::call(&mut self.symbols, text) {
                Ok((_, whole)) => self.push_call(tid, whole),
                Err(error) => {
                    let (at, message) = described(error);
                    self.problem(self.number, column(text) + text.len() - at, message);
                }
            },
            Line::Unfinished(text) => self.begin(tid, text, column(text)),
            Line::Abandoned(text) => {
                self.begin(tid, text, column(text));
                self.give_up(tid);
            }
            Line::Resumed { name, rest } => {
                self.resume(tid, name, rest, column(name), column(rest))
            }
            Line::Signal { signal, info } => {
                let origin = self.origin(self.number);
                self.entries.push(Entry::Signal {
                    tid,
                    signal,
                    info,
                    origin,
                });
            }
            Line::Exit(exit) => {
                self.give_up(tid);
                let origin = self.origin(self.number);
                self.entries.push(Entry::Exit { tid, exit, origin });
            }
            Line::Superseded(by) => {
                self.give_up(tid);
                if let Some(begun) = self.begun.remove(&by) {
                    self.begun.insert(tid, begun);
                }
            }
        }
    }

    /// Takes the end of the text: calls that are still under way never ended.
    pub fn finish(mut self) -> Parsed {
        let held = std::mem::take(&mut self.held);
        self.whole_line(&held);
        while let Some((&tid, _)) = self.begun.first_key_value() {
            self.give_up(tid);
        }
        if self.more > 0 {
            let message = format!("{} more lines were not understood", self.more);
            let (file, line) = (self.file.clone(), self.number);
            self.problems.push(Problem {
                file,
                line,
                column: 1,
                message,
            });
        }
        self.dropped.sort_unstable();
        let mut dropped = self.dropped.iter().peekable();
        let entries = self.entries.into_iter().enumerate();
        let kept = entries.filter(|(i, _)| dropped.next_if_eq(&i).is_none());
        Parsed {
            trace: Trace::new(kept.map(|(_, entry)| entry).collect()),
            problems: self.problems,
        }
    }

    fn origin(&self, line: u32) -> Origin {
        let file = self.file.clone();
        Origin::Text { file, line }
    }

    fn problem(&mut self, line: u32, column: usize, message: String) {
        if self.problems.len() == MOST_PROBLEMS {
            self.more += 1;
            return;
        }
        let column = u32::try_from(column).unwrap_or(u32::MAX);
        let file = self.file.clone();
        self.problems.push(Problem {
            file,
            line,
            column,
            message,
        });
    }

    fn push_call(&mut self, tid: i32, whole: frame::Whole) {
        let origin = self.origin(self.number);
        self.entries.push(whole_call(tid, whole, origin));
    }

    fn begin(&mut self, tid: i32, text: &[u8], column: usize) {
        if self.begun.contains_key(&tid) {
            let message = format!("task {tid} begins a call within a call");
            self.problem(self.number, column, message);
            self.give_up(tid);
        }
        let index = self.entries.len();
        // Keeps the place; what it was is known when it ends.
        let mut call = Call::new("", Vec::new(), Answer::Never);
        call.tid = tid;
        call.origin = self.origin(self.number);
        self.entries.push(Entry::Call(call));
        let at = (self.number, column);
        let text = text.to_vec();
        self.begun.insert(tid, Begun { index, at, text });
    }

    fn resume(&mut self, tid: i32, name: &[u8], rest: &[u8], name_at: usize, rest_at: usize) {
        let known = self.known_as(tid);
        let Some(mut begun) = self.begun.remove(&known) else {
            let message = format!("task {tid} resumes a call whose beginning is not in this file");
            return self.problem(self.number, name_at, message);
        };
        let same = begun
            .text
            .strip_prefix(name)
            .is_some_and(|args| args.starts_with(b"("));
        if !same && !name.starts_with(b"?") {
            let message = format!("task {tid} resumes another call than it began");
            self.problem(self.number, name_at, message);
            self.begun.insert(known, begun);
            return self.give_up(known);
        }
        let first = begun.text.len();
        begun.text.extend_from_slice(rest);
        let text = begun.text.trim_ascii_end();
        match frame::call(&mut self.symbols, text) {
            Ok((_, whole)) => {
                let origin = self.origin(begun.at.0);
                self.entries[begun.index] = whole_call(tid.max(known), whole, origin);
            }
            Err(error) => {
                let (left, message) = described(error);
                let at = text.len() - left;
                if at < first {
                    self.problem(begun.at.0, begun.at.1 + at, message);
                } else {
                    self.problem(self.number, rest_at + at - first, message);
                }
                self.dropped.push(begun.index);
            }
        }
    }

    /// Under which pid this task's call began. Without `-o`, strace names tasks only while there are several.
    fn known_as(&self, tid: i32) -> i32 {
        if self.begun.contains_key(&tid) {
            return tid;
        }
        match self.begun.first_key_value() {
            Some((&only, _)) if tid == 0 && self.begun.len() == 1 => only,
            _ if self.begun.contains_key(&0) => 0,
            _ => tid,
        }
    }

    /// The call that this task has under way, if any, never ends.
    fn give_up(&mut self, tid: i32) {
        if let Some(begun) = self.begun.remove(&tid)
            && let Some(Entry::Call(call)) = self.entries.get_mut(begun.index)
        {
            (call.name, call.args) = frame::part(&mut self.symbols, &begun.text);
        }
    }
}

fn whole_call(tid: i32, whole: frame::Whole, origin: Origin) -> Entry {
    Entry::Call(Call {
        tid,
        name: whole.name,
        args: whole.args,
        answer: whole.answer,
        notes: whole.notes,
        origin,
        attachment: None,
    })
}

/// How much is left from where an error is, and what it says.
fn described(error: nom::Err<Expected<'_>>) -> (usize, String) {
    match error {
        nom::Err::Error(e) | nom::Err::Failure(e) => (e.at.len(), format!("expected {}", e.what)),
        nom::Err::Incomplete(_) => (0, "expected more".to_owned()),
    }
}
