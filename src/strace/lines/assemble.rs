//! Assembles lines to pieces: a prefix and its entry, calls in two parts, lines that foreign text ran into. Keeps only
//! the state that this needs.

use super::blocked_calls::{self, BlockedCall};
use super::program_output;
use super::source_line::{Added, SourceLine};
use super::stream::{Piece, PieceKind};
use super::summary::Summary;
use super::truncation::{self, Suspect};
use super::unfinished::{UnfinishedCall, UnfinishedCalls};
use crate::strace::grammar::context::Context;
use crate::strace::grammar::line::{self, Line};
use crate::strace::grammar::other_lines;
use crate::strace::grammar::other_lines::OtherLine;
use crate::strace::grammar::prefix::Prefix;
use crate::strace::grammar::tokens::Expected;
use crate::strace::{LONGEST_LINE, Problem};
use crate::trace::{Answer, Call, Entry, Origin};
use std::collections::VecDeque;
use std::sync::Arc;

/// Turns lines into pieces.
#[derive(Debug)]
pub(in crate::strace) struct Assembler {
    file: Arc<str>,
    number: u64,
    pub(in crate::strace) cx: Context,
    summary: Summary,
    /// A line that a message ran into, up to the message.
    pending: Option<SourceLine>,
    /// Calls that have begun and not ended.
    unfinished: UnfinishedCalls,
    /// The unfinished call into which other programs write more than a source line may hold.
    pub(in crate::strace) overflowing: Option<(i32, BlockedCall)>,
    /// A line that is not understood, and may be a truncated last line.
    suspect: Option<Box<Suspect>>,
}

/// The offset of `part` in `from`.
fn offset(from: &[u8], part: &[u8]) -> usize {
    (part.as_ptr() as usize)
        .wrapping_sub(from.as_ptr() as usize)
        .min(from.len())
}

impl Assembler {
    /// An assembler for a new text; the file's name is for messages.
    pub(in crate::strace) fn new(file: &str) -> Assembler {
        Assembler {
            file: Arc::from(file),
            number: 0,
            cx: Context::default(),
            summary: Summary::default(),
            pending: None,
            unfinished: UnfinishedCalls::default(),
            overflowing: None,
            suspect: None,
        }
    }

    /// Takes the next line, with its end.
    pub(in crate::strace) fn line(&mut self, text: Vec<u8>, out: &mut VecDeque<Piece>) {
        self.number += 1;
        let Some(mut suspect) = self.suspect.take() else {
            return self.next(text, self.number, out);
        };
        let mut found = VecDeque::new();
        self.next(text, self.number, &mut found);
        if self.suspect.is_none() && self.pending.is_none() && suspect.takes(&mut found) {
            self.suspect = Some(suspect);
            return;
        }
        suspect.wrong(out);
        out.append(&mut found);
    }

    /// Reports pending lines as problems: the rest of the input is no line of this text.
    pub(in crate::strace) fn settle(&mut self, out: &mut VecDeque<Piece>) {
        while let Some(source) = self.pending.take() {
            match source.lines() {
                1 => self.whole(source, false, out),
                _ => self.split(source, out),
            }
        }
        self.clear(out);
    }

    /// Reports the suspect as a problem, since another line follows it.
    fn clear(&mut self, out: &mut VecDeque<Piece>) {
        if let Some(suspect) = self.suspect.take() {
            suspect.wrong(out);
        }
    }

    fn next(&mut self, text: Vec<u8>, line: u64, out: &mut VecDeque<Piece>) {
        let Some(mut source) = self.pending.take() else {
            let text = match self.overflowing.take() {
                Some((tid, blocked)) => match self.pass_overflow(tid, blocked, text, line, out) {
                    Some(text) => text,
                    None => return,
                },
                None => text,
            };
            let mut source = SourceLine::new(line, text);
            match other_lines::interrupted(source.own()) {
                Some(at) => {
                    source.without_message(at);
                    self.pending = Some(source);
                }
                None => self.whole(source, true, out),
            }
            return;
        };
        match source.add(&mut self.cx, &text) {
            Added::More => self.pending = Some(source),
            Added::Whole => self.whole(source, true, out),
            Added::Wrong => self.split(source, out),
            Added::Full => self.overflowing = self.begin(source, out),
        }
    }

    /// Takes the lines of a source line one by one, since they do not belong together. The lines behind the first are
    /// not joined again.
    fn split(&mut self, source: SourceLine, out: &mut VecDeque<Piece>) {
        let mut lines = source.text.split_inclusive(|&b| b == b'\n').peekable();
        let mut number = source.line;
        while let Some(line) = lines.next() {
            match lines.peek() {
                Some(_) => {
                    self.whole(SourceLine::new(number, line.to_vec()), false, out);
                    self.clear(out);
                }
                None => self.next(line.to_vec(), number, out),
            }
            number += 1;
        }
    }

    /// Takes the beginning of a line that is too long.
    pub(in crate::strace) fn too_long(&mut self, text: Vec<u8>, out: &mut VecDeque<Piece>) {
        self.settle(out);
        self.overflowing = None;
        self.number += 1;
        let message = "this line is longer than 64 MiB".to_owned();
        let problem = self.problem(self.number, LONGEST_LINE as usize + 1, message);
        let source = SourceLine::new(self.number, text);
        out.push_back(source.piece(PieceKind::Problem(problem), Vec::new()));
    }

    /// Takes more of a line that is too long.
    pub(in crate::strace) fn overlong(&mut self, text: Vec<u8>, out: &mut VecDeque<Piece>) {
        let source = SourceLine::new(self.number, text);
        out.push_back(source.piece(PieceKind::Other(OtherLine::Overlong), Vec::new()));
    }

    /// Takes the end of the text: unfinished calls are never resumed.
    pub(in crate::strace) fn finish(&mut self, out: &mut VecDeque<Piece>) {
        if let Some(source) = self.pending.take_if(|source| source.blocked().is_some()) {
            self.clear(out);
            if let Some((tid, _)) = self.begin(source, out)
                && let Some(begun) = self.unfinished.remove(tid)
            {
                self.ended(tid, begun, true, out);
            }
        }
        if self.pending.is_some() {
            self.settle(out);
        }
        if let Some(suspect) = self.suspect.take() {
            self.last(*suspect, out);
        }
        while let Some(tid) = self.unfinished.oldest() {
            self.give_up(tid, out);
        }
    }

    /// Takes a line without foreign text; if it may be `rescued`, unknown foreign text is looked for.
    fn whole(&mut self, source: SourceLine, rescued: bool, out: &mut VecDeque<Piece>) {
        let own = source.own();
        if self.summary.takes(own) {
            return out.push_back(source.piece(PieceKind::Other(OtherLine::Summary), Vec::new()));
        }
        let (prefix, said) = match line::line(&mut self.cx, own) {
            Ok((_, said)) => said,
            Err(error) => {
                let error = described(own, error);
                return self.rescue(source, rescued, None, error, out);
            }
        };
        let tid = prefix.tid;
        if !matches!(said, Line::Other(_)) {
            self.summary.leave();
        }
        match said {
            Line::Other(other) => out.push_back(source.piece(PieceKind::Other(other), Vec::new())),
            Line::Call(text) => match line::call(&mut self.cx, text) {
                Ok((_, whole)) => {
                    let call_at = offset(own, text);
                    let doubtful = self.cx.has_doubts()
                        || program_output::is_doubtful(&whole.name, &whole.args);
                    if doubtful && rescued {
                        let mut source = source.clone();
                        if let Some(added) = source.without_output(&mut self.cx, call_at) {
                            return self.again(source, added, out);
                        }
                        let doubts = self.cx.keep_doubts();
                        if let Some(added) = source.without_foreign(&mut self.cx, call_at) {
                            return self.again(source, added, out);
                        }
                        self.cx.put_back(doubts);
                    }
                    let origin = self.origin(source.line);
                    let front = &own[..offset(own, text)];
                    let entry = whole_call(prefix, front, whole, origin);
                    self.push_entry(source, entry, out);
                }
                Err(error) => {
                    let (at, error) = (offset(own, text), described(own, error));
                    self.rescue(source, rescued, Some(at), error, out);
                }
            },
            Line::Unfinished(text) | Line::Abandoned(text) | Line::Moved(text, _) => {
                if rescued && text.starts_with(b"write") {
                    let call_at = offset(own, text);
                    let mut source = source.clone();
                    if let Some(added) = source.without_output(&mut self.cx, call_at) {
                        return self.again(source, added, out);
                    }
                }
                if rescued && let Some(foreign) = blocked_calls::foreign(&mut self.cx, text) {
                    let call_at = offset(own, text);
                    let (from, to) = (call_at + foreign, call_at + text.len());
                    let mut source = source.clone();
                    source.without(from, to);
                    return self.again(source, Added::Whole, out);
                }
                let abandoned = matches!(said, Line::Abandoned(_));
                let to = match said {
                    Line::Moved(_, to) => Some(to),
                    _ => None,
                };
                self.give_up(tid, out);
                let begun = UnfinishedCall::new(source.line, prefix, own, text);
                self.start(source, tid, begun, out);
                if abandoned {
                    self.give_up(tid, out);
                }
                if let Some(to) = to {
                    self.unfinished.moves(tid, to);
                }
            }
            Line::Resumed { name, rest } => {
                let (name, rest) = (offset(own, name), offset(own, rest));
                let known = match self.unfinished.moved_to(tid) {
                    Some(from) => {
                        // The unfinished call of the replaced task is never resumed.
                        self.give_up(tid, out);
                        from
                    }
                    None => self.unfinished.known_as(tid),
                };
                self.resume(tid, known, source, Some(name), rest, out);
            }
            Line::Tail(rest) => match self.unfinished.latest() {
                Some(last) => {
                    let rest = offset(own, rest);
                    self.resume(last, last, source, None, rest, out);
                }
                None => {
                    out.push_back(source.piece(PieceKind::Other(OtherLine::Orphan), Vec::new()))
                }
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
                    origin: self.origin(source.line),
                    line_info: Some(prefix.line_info(&own[..offset(own, front)], back)),
                };
                self.push_entry(source, entry, out);
            }
            Line::Exit(exit) => {
                self.give_up(tid, out);
                let entry = Entry::Exit {
                    tid,
                    exit,
                    origin: self.origin(source.line),
                    line_info: Some(prefix.line_info(own, b"")),
                };
                out.push_back(source.piece(PieceKind::Entry(entry), Vec::new()));
            }
            Line::Superseded(by) => {
                self.give_up(tid, out);
                self.unfinished.supersede(by, tid);
                out.push_back(source.piece(PieceKind::Other(OtherLine::Superseded), Vec::new()));
            }
        }
    }

    /// Emits the first part of a call and keeps it. The task must have no unfinished call.
    pub(in crate::strace) fn start(
        &mut self,
        source: SourceLine,
        tid: i32,
        begun: UnfinishedCall,
        out: &mut VecDeque<Piece>,
    ) {
        let (name, args) = line::part(&mut self.cx, &begun.text);
        out.push_back(source.piece(PieceKind::Unfinished { tid, name, args }, Vec::new()));
        while let Some(oldest) = self.unfinished.without_room(&begun) {
            self.give_up(oldest, out);
        }
        self.unfinished.insert(tid, begun);
    }

    /// Emits an entry of one line with its doubts.
    fn push_entry(&mut self, source: SourceLine, entry: Entry, out: &mut VecDeque<Piece>) {
        if !self.cx.has_doubts() {
            self.cx.forget();
            return out.push_back(source.piece(PieceKind::Entry(entry), Vec::new()));
        }
        let doubts = self.cx.take_doubts().into_iter().map(|doubt| {
            let at = doubt.at.wrapping_sub(source.own().as_ptr() as usize);
            let (line, column) = source.place(at.min(source.own().len()));
            self.problem(line, column, format!("expected {}", doubt.what))
        });
        let doubts = doubts.collect();
        out.push_back(source.piece(PieceKind::Entry(entry), doubts));
    }

    /// Parses a line again from which foreign text was removed.
    fn again(&mut self, source: SourceLine, added: Added, out: &mut VecDeque<Piece>) {
        self.cx.take_doubts();
        match added {
            Added::More => self.pending = Some(source),
            Added::Whole | Added::Wrong | Added::Full => self.whole(source, false, out),
        }
    }

    /// Looks for foreign text in a line that is not understood; `call_at` is the offset of the call in it.
    fn rescue(
        &mut self,
        mut source: SourceLine,
        rescued: bool,
        call_at: Option<usize>,
        (at, message): (usize, String),
        out: &mut VecDeque<Piece>,
    ) {
        if rescued && let Some(call_at) = call_at {
            if let Some(added) = source.without_output(&mut self.cx, call_at) {
                return self.again(source, added, out);
            }
            if source.lines() == 1
                && let Some(found) = other_lines::any_message(source.own())
                && found > call_at
            {
                source.without_message(found);
                return self.again(source, Added::More, out);
            }
            if let Some(added) = source.without_foreign(&mut self.cx, call_at) {
                return self.again(source, added, out);
            }
        }
        match (source.lines(), self.goes_on(&source)) {
            (0 | 1, Some(tid)) => self.resume(tid, tid, source, None, 0, out),
            (0 | 1, None) => self.failed(source, at, message, None, out),
            _ => self.split(source, out),
        }
    }

    /// The task whose call began on the line before and is resumed here without a mark: strace omits it with `-e
    /// status=`.
    fn goes_on(&mut self, source: &SourceLine) -> Option<i32> {
        let (tid, begun) = self.unfinished.last()?;
        if begun.line + 1 != source.line {
            return None;
        }
        let joined = [&begun.text, source.own()].concat();
        let fits = line::call(&mut self.cx, &joined).is_ok() && !self.cx.has_doubts();
        self.cx.take_doubts();
        fits.then_some(tid)
    }

    /// Handles a line that is not understood. `begun` is the call that it would have ended, if only its end is missing.
    fn failed(
        &mut self,
        source: SourceLine,
        at: usize,
        message: String,
        begun: Option<(i32, UnfinishedCall)>,
        out: &mut VecDeque<Piece>,
    ) {
        self.cx.take_doubts();
        let (line, column) = source.place(at);
        let problem = self.problem(line, column, message);
        let suspect = Suspect::new(source, problem, begun);
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

    pub(in crate::strace) fn resume(
        &mut self,
        tid: i32,
        known: i32,
        source: SourceLine,
        name_at: Option<usize>,
        rest_at: usize,
        out: &mut VecDeque<Piece>,
    ) {
        let Some(mut begun) = self.unfinished.remove(known) else {
            return out.push_back(source.piece(PieceKind::Other(OtherLine::Orphan), Vec::new()));
        };
        let own = source.own();
        let name = own.get(name_at.unwrap_or(own.len())..).unwrap_or_default();
        let name = name.split(|&b| b == b' ').next().unwrap_or_default();
        let args = begun.text.strip_prefix(name);
        let same = args.is_some_and(|args| args.starts_with(b"("));
        if let (Some(name_at), false, false) = (name_at, same, name.starts_with(b"?")) {
            let message = format!("task {tid} resumes another call than it began");
            self.ended(known, begun, false, out);
            return self.failed(source, name_at, message, None, out);
        }
        let first = begun.text.len();
        let mut joined = begun.text;
        joined.extend_from_slice(&own[rest_at..]);
        match line::call(&mut self.cx, &joined) {
            Ok((_, whole)) => {
                let mut prefix = begun.prefix;
                prefix.tid = if tid == 0 { known } else { tid };
                let entry = whole_call(prefix, &begun.front, whole, self.origin(begun.line));
                let doubts = self.cx.take_doubts().into_iter().map(|doubt| {
                    let at = doubt.at.wrapping_sub(joined.as_ptr() as usize);
                    let (line, column) = match at.checked_sub(first) {
                        Some(behind) => source.place((rest_at + behind).min(source.own().len())),
                        None => (begun.line, begun.column + at),
                    };
                    self.problem(line, column, format!("expected {}", doubt.what))
                });
                let doubts = doubts.collect();
                let mut piece = source.piece(PieceKind::Resumed(entry), doubts);
                let place = piece.placement.get_or_insert_default();
                place.joined = Some((joined, first));
                out.push_back(piece);
            }
            Err(error) => {
                let breaks_off = truncation::breaks_off(&joined, &error);
                let (at, message) = described(&joined, error);
                if breaks_off {
                    let at = at.max(first);
                    joined.truncate(first);
                    begun.text = joined;
                    self.failed(
                        source,
                        rest_at + at - first,
                        message,
                        Some((known, begun)),
                        out,
                    );
                } else if at < first {
                    self.cx.take_doubts();
                    let problem = self.problem(begun.line, begun.column + at, message);
                    out.push_back(source.piece(PieceKind::Problem(problem), Vec::new()));
                } else {
                    self.failed(source, rest_at + at - first, message, None, out);
                }
            }
        }
    }

    /// Emits the unfinished call of a task, if any, as never resumed.
    pub(in crate::strace) fn give_up(&mut self, tid: i32, out: &mut VecDeque<Piece>) {
        if let Some(begun) = self.unfinished.remove(tid) {
            self.ended(tid, begun, false, out);
        }
    }

    /// Emits a call as never resumed; `cut` if the text ends within it.
    pub(in crate::strace) fn ended(
        &mut self,
        tid: i32,
        begun: UnfinishedCall,
        cut: bool,
        out: &mut VecDeque<Piece>,
    ) {
        let (name, args) = line::part(&mut self.cx, &begun.text);
        let mut call = Call::new(name, args, Answer::Never);
        call.tid = tid;
        call.origin = self.origin(begun.line);
        let mut line_info = begun.prefix.line_info(&begun.front, b"");
        line_info.cut = cut;
        call.line_info = Some(line_info);
        let source = SourceLine::new(begun.line, Vec::new());
        out.push_back(source.piece(PieceKind::NeverResumed(Entry::Call(call)), Vec::new()));
    }
}

fn whole_call(prefix: Prefix, front: &[u8], whole: line::Whole<'_>, origin: Origin) -> Entry {
    let tid = prefix.tid;
    let mut line_info = prefix.line_info(front, whole.back);
    line_info.spent = whole.result.spent;
    line_info.tampering = whole.result.tampering;
    if let Some(list) = whole.list {
        line_info.set_list(list);
    }
    Entry::Call(Call {
        tid,
        name: whole.name,
        args: whole.args,
        answer: whole.result.answer,
        notes: whole.result.notes,
        origin,
        attachment: None,
        line_info: Some(line_info),
    })
}

/// The offset of an error in this text, and its message.
fn described(text: &[u8], error: nom::Err<Expected<'_>>) -> (usize, String) {
    match error {
        nom::Err::Error(e) | nom::Err::Failure(e) => {
            (offset(text, e.at), format!("expected {}", e.what))
        }
        nom::Err::Incomplete(_) => (text.len(), "expected more".to_owned()),
    }
}
