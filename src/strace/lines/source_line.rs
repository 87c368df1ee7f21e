//! A source line, without the foreign text that ran into it. It may span several lines of the file, since foreign text
//! can hold line ends.

use super::blocked_calls::{self, BlockedCall, Next};
use super::program_output::{self, Output};
use super::stream::{Piece, PieceKind, Placement, without_end};
use crate::strace::grammar::context::Context;
use crate::strace::grammar::other_lines;
use crate::strace::{LONGEST_LINE, Problem};

/// The limit on the text that other programs write into a call, until its end is found.
const MOST_FOREIGN: usize = 1 << 18;

/// A line, and the foreign text in it.
#[derive(Clone, Debug)]
pub(in crate::strace) struct SourceLine {
    pub line: u64,
    /// The whole text, as it was read.
    pub text: Vec<u8>,
    /// The interruptions, if there are any.
    interruptions: Option<Box<Interruptions>>,
}

/// The foreign text in a line.
#[derive(Clone, Debug, Default)]
struct Interruptions {
    /// The text without its end and without foreign text.
    own: Vec<u8>,
    /// The foreign texts, each with its offset in `own`.
    foreign: Vec<(usize, Vec<u8>)>,
    /// The output that the program has yet to write into the line.
    output: Option<Output>,
    /// The call of the line, if it blocks while other programs write.
    blocked: Option<BlockedCall>,
    /// The number of lines that were examined for belonging to it.
    lines: usize,
}

/// The result of adding a line.
pub(in crate::strace) enum Added {
    /// The source line needs another one.
    More,
    /// The source line is complete.
    Whole,
    /// The added line is not the expected one.
    Wrong,
    /// The foreign text in a blocked call exceeds the limit. The call may still end.
    Full,
}

impl SourceLine {
    /// A complete line.
    pub(in crate::strace) fn new(line: u64, text: Vec<u8>) -> SourceLine {
        let interruptions = None;
        SourceLine {
            line,
            text,
            interruptions,
        }
    }

    /// The text without its end and without foreign text.
    pub(in crate::strace) fn own(&self) -> &[u8] {
        match &self.interruptions {
            Some(interruptions) => &interruptions.own,
            None => without_end(&self.text),
        }
    }

    /// The number of lines.
    pub(in crate::strace) fn lines(&self) -> usize {
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
    pub(in crate::strace) fn add(&mut self, cx: &mut Context, text: &[u8]) -> Added {
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

    /// The blocked call into which other programs write.
    pub(in crate::strace) fn blocked(&self) -> Option<&BlockedCall> {
        self.interruptions.as_ref()?.blocked.as_ref()
    }

    /// Removes the text that other programs wrote into a blocked call, whose text begins at this byte. Returns whether
    /// the call is complete then, or `None` where there is no such text.
    pub(in crate::strace) fn without_foreign(
        &mut self,
        cx: &mut Context,
        call: usize,
    ) -> Option<Added> {
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

    /// Marks these bytes of the own text as foreign.
    pub(in crate::strace) fn without(&mut self, from: usize, to: usize) {
        let interruptions = self.interruptions();
        let foreign: Vec<u8> = interruptions.own.drain(from..to).collect();
        interruptions.foreign.push((from, foreign));
    }

    /// Marks a message that begins at this byte of the own text as foreign.
    pub(in crate::strace) fn without_message(&mut self, at: usize) {
        let end = self.text[without_end(&self.text).len()..].to_vec();
        let interruptions = self.interruptions();
        let mut message = interruptions.own.split_off(at);
        message.extend(end);
        interruptions.foreign.push((at, message));
    }

    /// Removes the program's own output from a call whose text begins at this byte. Returns whether the call is
    /// complete then, or `None` where there is no such output.
    pub(in crate::strace) fn without_output(
        &mut self,
        cx: &mut Context,
        call: usize,
    ) -> Option<Added> {
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

    /// The line and the column of a byte of the own text.
    pub(in crate::strace) fn place(&self, own_at: usize) -> (u64, usize) {
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

    /// Converts the line to a piece.
    pub(in crate::strace) fn piece(self, kind: PieceKind, doubts: Vec<Problem>) -> Piece {
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
