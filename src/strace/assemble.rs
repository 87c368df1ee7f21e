//! From lines to pieces: columns and what is behind them, calls that were interrupted by others', lines that
//! something foreign ran into. Holds what it must to do so, and no more.

use super::aside;
use super::context::Context;
use super::cut::{self, Suspect};
use super::frame::{self, Line};
use super::held::{Added, Held};
use super::lex::Expected;
use super::output;
use super::stream::{Aside, Piece, Says};
use super::summary::Summary;
use super::underway::{Begun, Underway};
use super::waiting::{self, Waiting};
use super::{LONGEST_LINE, Problem, columns::Columns};
use crate::trace::{Answer, Call, Entry, Origin};
use std::collections::VecDeque;
use std::sync::Arc;

/// Takes lines, gives pieces.
#[derive(Debug)]
pub(super) struct Assembler {
    file: Arc<str>,
    number: u64,
    pub(super) cx: Context,
    summary: Summary,
    /// A line that a message ran into, up to the message.
    held: Option<Held>,
    /// Calls that have begun and not ended.
    underway: Underway,
    /// The call under way into which others write more than is held.
    pub(super) flooded: Option<(i32, Waiting)>,
    /// A line that is not understood, and may be the last.
    suspect: Option<Box<Suspect>>,
}

/// How far into `from` this part of it is.
fn offset(from: &[u8], part: &[u8]) -> usize {
    (part.as_ptr() as usize)
        .wrapping_sub(from.as_ptr() as usize)
        .min(from.len())
}

impl Assembler {
    /// One that has seen nothing; the file's name is for messages.
    pub(super) fn new(file: &str) -> Assembler {
        Assembler {
            file: Arc::from(file),
            number: 0,
            cx: Context::default(),
            summary: Summary::default(),
            held: None,
            underway: Underway::default(),
            flooded: None,
            suspect: None,
        }
    }

    /// Takes the next line, with its end.
    pub(super) fn line(&mut self, text: Vec<u8>, out: &mut VecDeque<Piece>) {
        self.number += 1;
        let Some(mut suspect) = self.suspect.take() else {
            return self.next(text, self.number, out);
        };
        let mut found = VecDeque::new();
        self.next(text, self.number, &mut found);
        if self.suspect.is_none() && self.held.is_none() && suspect.takes(&mut found) {
            self.suspect = Some(suspect);
            return;
        }
        suspect.wrong(out);
        out.append(&mut found);
    }

    /// Has what is not yet decided be wrong: there is more to come, which is no line of this text.
    pub(super) fn settle(&mut self, out: &mut VecDeque<Piece>) {
        while let Some(held) = self.held.take() {
            match held.lines() {
                1 => self.whole(held, false, out),
                _ => self.split(held, out),
            }
        }
        self.clear(out);
    }

    /// More comes: what is not understood is not the last line.
    fn clear(&mut self, out: &mut VecDeque<Piece>) {
        if let Some(suspect) = self.suspect.take() {
            suspect.wrong(out);
        }
    }

    fn next(&mut self, text: Vec<u8>, line: u64, out: &mut VecDeque<Piece>) {
        let Some(mut held) = self.held.take() else {
            let text = match self.flooded.take() {
                Some((tid, waiting)) => match self.flood(tid, waiting, text, line, out) {
                    Some(text) => text,
                    None => return,
                },
                None => text,
            };
            let mut held = Held::new(line, text);
            match aside::interrupted(held.own()) {
                Some(at) => {
                    held.without_message(at);
                    self.held = Some(held);
                }
                None => self.whole(held, true, out),
            }
            return;
        };
        match held.add(&mut self.cx, &text) {
            Added::More => self.held = Some(held),
            Added::Whole => self.whole(held, true, out),
            Added::Wrong => self.split(held, out),
            Added::Full => self.flooded = self.begin(held, out),
        }
    }

    /// Takes lines one by one that do not belong together. What followed the first is not looked at twice again.
    fn split(&mut self, held: Held, out: &mut VecDeque<Piece>) {
        let mut lines = held.text.split_inclusive(|&b| b == b'\n').peekable();
        let mut number = held.line;
        while let Some(line) = lines.next() {
            match lines.peek() {
                Some(_) => {
                    self.whole(Held::new(number, line.to_vec()), false, out);
                    self.clear(out);
                }
                None => self.next(line.to_vec(), number, out),
            }
            number += 1;
        }
    }

    /// Takes the beginning of a line that is too long.
    pub(super) fn too_long(&mut self, text: Vec<u8>, out: &mut VecDeque<Piece>) {
        self.settle(out);
        self.flooded = None;
        self.number += 1;
        let message = "this line is longer than 64 MiB".to_owned();
        let problem = self.problem(self.number, LONGEST_LINE as usize + 1, message);
        let held = Held::new(self.number, text);
        out.push_back(held.piece(Says::Problem(problem), Vec::new()));
    }

    /// Takes more of a line that is too long.
    pub(super) fn overlong(&mut self, text: Vec<u8>, out: &mut VecDeque<Piece>) {
        let held = Held::new(self.number, text);
        out.push_back(held.piece(Says::Aside(Aside::Overlong), Vec::new()));
    }

    /// Takes the end of the text: calls that are still under way never ended.
    pub(super) fn finish(&mut self, out: &mut VecDeque<Piece>) {
        if let Some(held) = self.held.take_if(|held| held.waiting().is_some()) {
            self.clear(out);
            if let Some((tid, _)) = self.begin(held, out)
                && let Some(begun) = self.underway.remove(tid)
            {
                self.ended(tid, begun, true, out);
            }
        }
        if self.held.is_some() {
            self.settle(out);
        }
        if let Some(suspect) = self.suspect.take() {
            self.last(*suspect, out);
        }
        while let Some(tid) = self.underway.oldest() {
            self.give_up(tid, out);
        }
    }

    /// Takes a line without what ran into it; if it may be `rescued`, what of that is not yet known is looked for.
    fn whole(&mut self, held: Held, rescued: bool, out: &mut VecDeque<Piece>) {
        let own = held.own();
        if self.summary.takes(own) {
            return out.push_back(held.piece(Says::Aside(Aside::Summary), Vec::new()));
        }
        let (columns, said) = match frame::line(&mut self.cx, own) {
            Ok((_, said)) => said,
            Err(error) => {
                let error = described(own, error);
                return self.rescue(held, rescued, None, error, out);
            }
        };
        let tid = columns.tid;
        if !matches!(said, Line::Aside(_)) {
            self.summary.leave();
        }
        match said {
            Line::Aside(aside) => out.push_back(held.piece(Says::Aside(aside), Vec::new())),
            Line::Call(text) => match frame::call(&mut self.cx, text) {
                Ok((_, whole)) => {
                    let call_at = offset(own, text);
                    let doubtful =
                        self.cx.has_doubts() || output::is_doubtful(&whole.name, &whole.args);
                    if doubtful && rescued {
                        let mut held = held.clone();
                        if let Some(added) = held.without_output(&mut self.cx, call_at) {
                            return self.again(held, added, out);
                        }
                        let doubts = self.cx.keep_doubts();
                        if let Some(added) = held.without_foreign(&mut self.cx, call_at) {
                            return self.again(held, added, out);
                        }
                        self.cx.put_back(doubts);
                    }
                    let origin = self.origin(held.line);
                    let front = &own[..offset(own, text)];
                    let entry = whole_call(columns, front, whole, origin);
                    self.push_entry(held, entry, out);
                }
                Err(error) => {
                    let (at, error) = (offset(own, text), described(own, error));
                    self.rescue(held, rescued, Some(at), error, out);
                }
            },
            Line::Unfinished(text) | Line::Abandoned(text) | Line::Moved(text, _) => {
                if rescued && text.starts_with(b"write") {
                    let call_at = offset(own, text);
                    let mut held = held.clone();
                    if let Some(added) = held.without_output(&mut self.cx, call_at) {
                        return self.again(held, added, out);
                    }
                }
                if rescued && let Some(foreign) = waiting::foreign(&mut self.cx, text) {
                    let call_at = offset(own, text);
                    let (from, to) = (call_at + foreign, call_at + text.len());
                    let mut held = held.clone();
                    held.without(from, to);
                    return self.again(held, Added::Whole, out);
                }
                let abandoned = matches!(said, Line::Abandoned(_));
                let to = match said {
                    Line::Moved(_, to) => Some(to),
                    _ => None,
                };
                self.give_up(tid, out);
                let begun = Begun::new(held.line, columns, own, text);
                self.start(held, tid, begun, out);
                if abandoned {
                    self.give_up(tid, out);
                }
                if let Some(to) = to {
                    self.underway.moves(tid, to);
                }
            }
            Line::Resumed { name, rest } => {
                let (name, rest) = (offset(own, name), offset(own, rest));
                let known = match self.underway.moved_to(tid) {
                    Some(from) => {
                        // What the task did that this one replaces does not go on.
                        self.give_up(tid, out);
                        from
                    }
                    None => self.underway.known_as(tid),
                };
                self.resume(tid, known, held, Some(name), rest, out);
            }
            Line::Tail(rest) => match self.underway.latest() {
                Some(last) => {
                    let rest = offset(own, rest);
                    self.resume(last, last, held, None, rest, out);
                }
                None => out.push_back(held.piece(Says::Aside(Aside::Orphan), Vec::new())),
            },
            Line::Signal {
                signal,
                info,
                front,
                back,
            } => {
                let entry = Entry::Signal {
                    tid,
                    signal,
                    info,
                    origin: self.origin(held.line),
                    remarks: Some(columns.remarks(&own[..offset(own, front)], back)),
                };
                self.push_entry(held, entry, out);
            }
            Line::Exit(exit) => {
                self.give_up(tid, out);
                let entry = Entry::Exit {
                    tid,
                    exit,
                    origin: self.origin(held.line),
                    remarks: Some(columns.remarks(own, b"")),
                };
                out.push_back(held.piece(Says::Entry(entry), Vec::new()));
            }
            Line::Superseded(by) => {
                self.give_up(tid, out);
                self.underway.supersede(by, tid);
                out.push_back(held.piece(Says::Aside(Aside::Superseded), Vec::new()));
            }
        }
    }

    /// Gives the first part of a call, which has none under way, and remembers it.
    pub(super) fn start(&mut self, held: Held, tid: i32, begun: Begun, out: &mut VecDeque<Piece>) {
        let (name, args) = frame::part(&mut self.cx, &begun.text);
        out.push_back(held.piece(Says::Begun { tid, name, args }, Vec::new()));
        while let Some(oldest) = self.underway.without_room(&begun) {
            self.give_up(oldest, out);
        }
        self.underway.insert(tid, begun);
    }

    /// Gives an entry of one line, with the doubts about it.
    fn push_entry(&mut self, held: Held, entry: Entry, out: &mut VecDeque<Piece>) {
        if !self.cx.has_doubts() {
            self.cx.forget();
            return out.push_back(held.piece(Says::Entry(entry), Vec::new()));
        }
        let doubts = self.cx.take_doubts().into_iter().map(|doubt| {
            let at = doubt.at.wrapping_sub(held.own().as_ptr() as usize);
            let (line, column) = held.place(at.min(held.own().len()));
            self.problem(line, column, format!("expected {}", doubt.what))
        });
        let doubts = doubts.collect();
        out.push_back(held.piece(Says::Entry(entry), doubts));
    }

    /// Takes a line again that something was taken out of.
    fn again(&mut self, held: Held, added: Added, out: &mut VecDeque<Piece>) {
        self.cx.take_doubts();
        match added {
            Added::More => self.held = Some(held),
            Added::Whole | Added::Wrong | Added::Full => self.whole(held, false, out),
        }
    }

    /// Looks for what may have run into a line that is not understood; `call_at` is where the call in it begins.
    fn rescue(
        &mut self,
        mut held: Held,
        rescued: bool,
        call_at: Option<usize>,
        (at, message): (usize, String),
        out: &mut VecDeque<Piece>,
    ) {
        if rescued && let Some(call_at) = call_at {
            if let Some(added) = held.without_output(&mut self.cx, call_at) {
                return self.again(held, added, out);
            }
            if held.lines() == 1
                && let Some(found) = aside::any_message(held.own())
                && found > call_at
            {
                held.without_message(found);
                return self.again(held, Added::More, out);
            }
            if let Some(added) = held.without_foreign(&mut self.cx, call_at) {
                return self.again(held, added, out);
            }
        }
        match (held.lines(), self.goes_on(&held)) {
            (0 | 1, Some(tid)) => self.resume(tid, tid, held, None, 0, out),
            (0 | 1, None) => self.failed(held, at, message, None, out),
            _ => self.split(held, out),
        }
    }

    /// The task of which the call that began on the line before goes on here: where strace is told to leave calls
    /// out by their status, it forgets to say whose the rest is.
    fn goes_on(&mut self, held: &Held) -> Option<i32> {
        let (tid, begun) = self.underway.last()?;
        if begun.line + 1 != held.line {
            return None;
        }
        let joined = [&begun.text, held.own()].concat();
        let fits = frame::call(&mut self.cx, &joined).is_ok() && !self.cx.has_doubts();
        self.cx.take_doubts();
        fits.then_some(tid)
    }

    /// A line is not understood. `begun` is the call that it would have ended, if only its end is missing.
    fn failed(
        &mut self,
        held: Held,
        at: usize,
        message: String,
        begun: Option<(i32, Begun)>,
        out: &mut VecDeque<Piece>,
    ) {
        self.cx.take_doubts();
        let (line, column) = held.place(at);
        let problem = self.problem(line, column, message);
        let suspect = Suspect::new(held, problem, begun);
        if let Some(earlier) = self.suspect.replace(Box::new(suspect)) {
            earlier.wrong(out);
        }
    }

    fn origin(&self, line: u64) -> Origin {
        Origin::Text {
            file: self.file.clone(),
            line: u32::try_from(line).unwrap_or(u32::MAX),
        }
    }

    fn problem(&self, line: u64, column: usize, message: String) -> Problem {
        Problem {
            file: self.file.clone(),
            line: u32::try_from(line).unwrap_or(u32::MAX),
            column: u32::try_from(column).unwrap_or(u32::MAX),
            message,
        }
    }

    pub(super) fn resume(
        &mut self,
        tid: i32,
        known: i32,
        held: Held,
        name_at: Option<usize>,
        rest_at: usize,
        out: &mut VecDeque<Piece>,
    ) {
        let Some(mut begun) = self.underway.remove(known) else {
            return out.push_back(held.piece(Says::Aside(Aside::Orphan), Vec::new()));
        };
        let own = held.own();
        let name = own.get(name_at.unwrap_or(own.len())..).unwrap_or_default();
        let name = name.split(|&b| b == b' ').next().unwrap_or_default();
        let args = begun.text.strip_prefix(name);
        let same = args.is_some_and(|args| args.starts_with(b"("));
        if let (Some(name_at), false, false) = (name_at, same, name.starts_with(b"?")) {
            let message = format!("task {tid} resumes another call than it began");
            self.ended(known, begun, false, out);
            return self.failed(held, name_at, message, None, out);
        }
        let first = begun.text.len();
        let mut joined = begun.text;
        joined.extend_from_slice(&own[rest_at..]);
        match frame::call(&mut self.cx, &joined) {
            Ok((_, whole)) => {
                let mut columns = begun.columns;
                columns.tid = if tid == 0 { known } else { tid };
                let entry = whole_call(columns, &begun.front, whole, self.origin(begun.line));
                let doubts = self.cx.take_doubts().into_iter().map(|doubt| {
                    let at = doubt.at.wrapping_sub(joined.as_ptr() as usize);
                    let (line, column) = match at.checked_sub(first) {
                        Some(behind) => held.place((rest_at + behind).min(held.own().len())),
                        None => (begun.line, begun.column + at),
                    };
                    self.problem(line, column, format!("expected {}", doubt.what))
                });
                let doubts = doubts.collect();
                let mut piece = held.piece(Says::Rest(entry), doubts);
                let place = piece.place.get_or_insert_default();
                place.joined = Some((joined, first));
                out.push_back(piece);
            }
            Err(error) => {
                let breaks_off = cut::breaks_off(&joined, &error);
                let (at, message) = described(&joined, error);
                if breaks_off {
                    let at = at.max(first);
                    joined.truncate(first);
                    begun.text = joined;
                    self.failed(
                        held,
                        rest_at + at - first,
                        message,
                        Some((known, begun)),
                        out,
                    );
                } else if at < first {
                    self.cx.take_doubts();
                    let problem = self.problem(begun.line, begun.column + at, message);
                    out.push_back(held.piece(Says::Problem(problem), Vec::new()));
                } else {
                    self.failed(held, rest_at + at - first, message, None, out);
                }
            }
        }
    }

    /// The call that this task has under way, if any, never ends.
    pub(super) fn give_up(&mut self, tid: i32, out: &mut VecDeque<Piece>) {
        if let Some(begun) = self.underway.remove(tid) {
            self.ended(tid, begun, false, out);
        }
    }

    /// A call never ends; `cut` if that is because the text does.
    pub(super) fn ended(&mut self, tid: i32, begun: Begun, cut: bool, out: &mut VecDeque<Piece>) {
        let (name, args) = frame::part(&mut self.cx, &begun.text);
        let mut call = Call::new(name, args, Answer::Never);
        call.tid = tid;
        call.origin = self.origin(begun.line);
        let mut remarks = begun.columns.remarks(&begun.front, b"");
        remarks.cut = cut;
        call.remarks = Some(remarks);
        let held = Held::new(begun.line, Vec::new());
        out.push_back(held.piece(Says::Ended(Entry::Call(call)), Vec::new()));
    }
}

fn whole_call(columns: Columns, front: &[u8], whole: frame::Whole<'_>, origin: Origin) -> Entry {
    let tid = columns.tid;
    let mut remarks = columns.remarks(front, whole.back);
    remarks.spent = whole.result.spent;
    remarks.tampered = whole.result.tampered;
    if let Some(list) = whole.list {
        remarks.set_list(list);
    }
    Entry::Call(Call {
        tid,
        name: whole.name,
        args: whole.args,
        answer: whole.result.answer,
        notes: whole.result.notes,
        origin,
        attachment: None,
        remarks: Some(remarks),
    })
}

/// Where an error is in this text, and what it says.
fn described(text: &[u8], error: nom::Err<Expected<'_>>) -> (usize, String) {
    match error {
        nom::Err::Error(e) | nom::Err::Failure(e) => {
            (offset(text, e.at), format!("expected {}", e.what))
        }
        nom::Err::Incomplete(_) => (text.len(), "expected more".to_owned()),
    }
}
