//! A line, without what ran into it. That may make it several: what is foreign to a call can hold line ends.

use super::blocked_calls::{self, BlockedCall, Next};
use super::context::Context;
use super::program_output::{self, Output};
use super::stream::{Piece, PieceKind, Placement, without_end};
use super::{LONGEST_LINE, Problem, other_lines};

/// No more than this is kept of what other programs write into a call, until it is known whether that ends.
const MOST_FOREIGN: usize = 1 << 18;

/// A line, and what ran into it.
#[derive(Clone, Debug)]
pub(super) struct SourceLine {
    pub line: u64,
    /// All of it, as it was read.
    pub text: Vec<u8>,
    /// Where something ran into it.
    interruptions: Option<Box<Interruptions>>,
}

/// A line that something ran into.
#[derive(Clone, Debug, Default)]
struct Interruptions {
    /// The text without its end, and without what is foreign to it.
    own: Vec<u8>,
    /// What is foreign to it, each behind so many bytes of its own.
    foreign: Vec<(usize, Vec<u8>)>,
    /// What the program is still to write into it.
    output: Option<Output>,
    /// The call that it is, if that waits while others write.
    blocked: Option<BlockedCall>,
    /// How many lines were looked at to see whether they belong to it.
    lines: usize,
}

/// What became of a line that was added.
pub(super) enum Added {
    /// It needs the next one.
    More,
    /// It is whole.
    Whole,
    /// It is not what was waited for.
    Wrong,
    /// Too much was written into a call that waits. It may end yet.
    Full,
}

impl SourceLine {
    /// One that is whole.
    pub(super) fn new(line: u64, text: Vec<u8>) -> SourceLine {
        let interruptions = None;
        SourceLine {
            line,
            text,
            interruptions,
        }
    }

    /// The text without its end, and without what is foreign to it.
    pub(super) fn own(&self) -> &[u8] {
        match &self.interruptions {
            Some(interruptions) => &interruptions.own,
            None => without_end(&self.text),
        }
    }

    /// How many lines it has.
    pub(super) fn lines(&self) -> usize {
        self.interruptions
            .as_ref()
            .map_or(1, |interruptions| interruptions.lines)
    }

    fn interruptions(&mut self) -> &mut Interruptions {
        self.interruptions.get_or_insert_with(|| {
            Box::new(Interruptions {
                own: without_end(&self.text).to_vec(),
                lines: 1,
                ..Interruptions::default()
            })
        })
    }

    /// Adds the next line, with its end.
    pub(super) fn add(&mut self, cx: &mut Context, text: &[u8]) -> Added {
        let interruptions = self.interruptions();
        interruptions.lines += 1;
        let waits = interruptions.blocked.is_some();
        let added = interruptions.add(cx, text);
        self.text.extend_from_slice(text);
        match added {
            Added::More if waits && self.text.len() > MOST_FOREIGN => Added::Full,
            _ if self.text.len() > LONGEST_LINE as usize => Added::Wrong,
            added => added,
        }
    }

    /// The call that waits while others write into it.
    pub(super) fn blocked(&self) -> Option<&BlockedCall> {
        self.interruptions.as_ref()?.blocked.as_ref()
    }

    /// Takes what others wrote out of a call that waited, whose text begins at this byte. If there may be any, whether
    /// the call is whole then.
    pub(super) fn without_foreign(&mut self, cx: &mut Context, call: usize) -> Option<Added> {
        let text = self.own().get(call..)?;
        let (split, blocked) = blocked_calls::begun(cx, text)?;
        let rest = text.get(split..)?;
        let ends = blocked.end(cx, rest);
        if ends == Some(0)
            || (ends.is_none() && (self.lines() > 1 || blocked_calls::has_result(rest)))
        {
            return None;
        }
        let end = self.text[without_end(&self.text).len()..].to_vec();
        let interruptions = self.interruptions();
        let mut foreign = interruptions.own.split_off(call + split);
        if let Some(at) = ends {
            let own = foreign.split_off(at);
            interruptions.foreign.push((call + split, foreign));
            interruptions.own.extend_from_slice(&own);
            return Some(Added::Whole);
        }
        foreign.extend(end);
        interruptions.foreign.push((call + split, foreign));
        interruptions.blocked = Some(blocked);
        Some(Added::More)
    }

    /// Takes these bytes of its own text out of it.
    pub(super) fn without(&mut self, from: usize, to: usize) {
        let interruptions = self.interruptions();
        let foreign: Vec<u8> = interruptions.own.drain(from..to).collect();
        interruptions.foreign.push((from, foreign));
    }

    /// Takes a message that begins at this byte of its own text out of it.
    pub(super) fn without_message(&mut self, at: usize) {
        let end = self.text[without_end(&self.text).len()..].to_vec();
        let interruptions = self.interruptions();
        let mut message = interruptions.own.split_off(at);
        message.extend(end);
        interruptions.foreign.push((at, message));
    }

    /// Takes what the program wrote out of a call whose text begins at this byte. If there is any, whether
    /// the call is whole then.
    pub(super) fn without_output(&mut self, cx: &mut Context, call: usize) -> Option<Added> {
        let (at, mut output) = program_output::expected(cx, self.own().get(call..)?)?;
        let at = call + at;
        let end = self.text[without_end(&self.text).len()..].to_vec();
        let interruptions = self.interruptions();
        let mut rest = interruptions.own.split_off(at);
        let own_end = rest.len();
        rest.extend(end);
        match output.take(&rest) {
            Some(len) if len <= own_end && output.is_whole() && len > 0 => {
                let own = rest[len..own_end].to_vec();
                rest.truncate(len);
                interruptions.foreign.push((at, rest));
                interruptions.own.extend_from_slice(&own);
                Some(Added::Whole)
            }
            Some(len) if len == rest.len() && len > 0 => {
                interruptions.foreign.push((at, rest));
                interruptions.output = Some(output);
                Some(Added::More)
            }
            _ => {
                interruptions.own.extend_from_slice(&rest[..own_end]);
                None
            }
        }
    }

    /// The line and the column of a byte of its own text.
    pub(super) fn place(&self, own_at: usize) -> (u64, usize) {
        let foreign = self
            .interruptions
            .iter()
            .flat_map(|interruptions| &interruptions.foreign);
        let before = foreign.filter(|(at, _)| *at <= own_at);
        let at = own_at + before.map(|(_, f)| f.len()).sum::<usize>();
        let before = self.text.get(..at).unwrap_or(&self.text);
        let lines = memchr::memchr_iter(b'\n', before).count();
        let start = memchr::memrchr(b'\n', before).map_or(0, |n| n + 1);
        (self.line + lines as u64, before.len() - start + 1)
    }

    /// It as a piece of the text.
    pub(super) fn piece(self, kind: PieceKind, doubts: Vec<Problem>) -> Piece {
        Piece {
            line: self.line,
            text: self.text,
            kind,
            doubts,
            placement: self.interruptions.map(|interruptions| {
                Box::new(Placement {
                    foreign: interruptions.foreign,
                    joined: None,
                })
            }),
        }
    }
}

impl Interruptions {
    fn add(&mut self, cx: &mut Context, text: &[u8]) -> Added {
        if let Some(blocked) = &self.blocked {
            let own = without_end(text);
            let at = match blocked.next(cx, own) {
                Next::Line => return Added::Wrong,
                Next::Foreign => text.len(),
                Next::End(at) => at,
            };
            if let Some((_, foreign)) = self.foreign.last_mut() {
                foreign.extend_from_slice(&text[..at]);
            }
            if at == text.len() {
                return Added::More;
            }
            self.own.extend_from_slice(&own[at..]);
            self.blocked = None;
            return Added::Whole;
        }
        let mut rest = text;
        if let Some(output) = &mut self.output {
            let Some(len) = output.take(text) else {
                return Added::Wrong;
            };
            if let Some((_, foreign)) = self.foreign.last_mut() {
                foreign.extend_from_slice(&text[..len]);
            }
            if !output.is_whole() || (len == text.len() && text.ends_with(b"\n")) {
                return Added::More;
            }
            rest = &text[len..];
            self.output = None;
        }
        let own = without_end(rest);
        let message = other_lines::is_message(own).then_some(0);
        match message.or_else(|| other_lines::interrupted(own)) {
            Some(at) => {
                self.own.extend_from_slice(&own[..at]);
                self.foreign.push((self.own.len(), rest[at..].to_vec()));
                Added::More
            }
            None => {
                self.own.extend_from_slice(own);
                Added::Whole
            }
        }
    }
}
