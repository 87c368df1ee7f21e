//! Truncated texts: the end of a text that breaks off within a line, since strace was killed or the rest was not
//! copied.
//!
//! Whether a line is the last one is known when nothing follows. So a line that is not understood is kept back until
//! then, with the lines without an entry behind it (empty ones, a prompt, a code fence).

use super::blocked_calls;
use super::source_line::SourceLine;
use super::stream::{Piece, PieceKind};
use super::unfinished::UnfinishedCall;
use crate::strace::Problem;
use crate::strace::grammar::context::Context;
use crate::strace::grammar::line::{self, Line};
use crate::strace::grammar::other_lines::OtherLine;
use crate::strace::grammar::tokens::Expected;
use std::collections::VecDeque;

/// The limit on pieces kept back behind a line that is not understood.
const MOST_BEHIND: usize = 64;

/// A line that is not understood, and may be truncated.
#[derive(Debug)]
pub(in crate::strace) struct Suspect {
    pub source: SourceLine,
    pub problem: Problem,
    /// The call that the line would have ended.
    pub begun: Option<(i32, UnfinishedCall)>,
    /// The pieces behind the line.
    behind: VecDeque<Piece>,
}

impl Suspect {
    pub(in crate::strace) fn new(
        source: SourceLine,
        problem: Problem,
        begun: Option<(i32, UnfinishedCall)>,
    ) -> Suspect {
        let behind = VecDeque::new();
        Suspect {
            source,
            problem,
            begun,
            behind,
        }
    }

    /// Takes the next pieces if they have no entry: the line may still be the last.
    pub(in crate::strace) fn takes(&mut self, next: &mut VecDeque<Piece>) -> bool {
        let nothing = |piece: &Piece| {
            matches!(
                piece.kind,
                PieceKind::Other(OtherLine::Blank | OtherLine::Remark | OtherLine::Message)
            )
        };
        let takes = !next.is_empty()
            && next.iter().all(nothing)
            && self.behind.len() + next.len() <= MOST_BEHIND;
        if takes {
            self.behind.append(next);
        }
        takes
    }

    /// Emits the problem and the pieces behind it: the line is not the last.
    pub(in crate::strace) fn wrong(self, out: &mut VecDeque<Piece>) {
        out.push_back(
            self.source
                .piece(PieceKind::Problem(self.problem), Vec::new()),
        );
        out.extend(self.behind);
    }

    /// The parts of the last line.
    pub(in crate::strace) fn last(
        self,
    ) -> (
        SourceLine,
        Problem,
        Option<(i32, UnfinishedCall)>,
        VecDeque<Piece>,
    ) {
        (self.source, self.problem, self.begun, self.behind)
    }
}

/// The kind of a truncated line.
#[derive(Debug, PartialEq)]
pub(in crate::strace) enum Truncated {
    /// A call whose text begins at this byte.
    Call(usize),
    /// A line without an entry so far.
    Other,
}

/// The kind of the last line of a text, if it is the beginning of a line of strace's. `open`: it has no line end.
pub(in crate::strace) fn cut(cx: &mut Context, own: &[u8], open: bool) -> Option<Truncated> {
    let text = own.trim_ascii_end();
    let zeros = text.iter().rev().take_while(|&&b| b == 0).count();
    let text = &text[..text.len() - zeros];
    let found = match line::line(cx, text) {
        Ok((_, (_, Line::Call(call)))) => {
            let at = text.len() - call.len();
            match line::call(cx, call) {
                Err(error) if breaks_off(call, &error) => Some(Truncated::Call(at)),
                _ => None,
            }
        }
        Ok(_) => None,
        Err(error) => {
            let begins = [&b"--- SIG"[..], b"+++ ", b"<... ", b"[pid "]
                .iter()
                .any(|start| at_start(text).starts_with(start));
            (breaks_off(text, &error) && (begins || open) || begins && open)
                .then_some(Truncated::Other)
        }
    };
    cx.take_doubts();
    found
}

/// A line without the complete columns of its prefix.
fn at_start(i: &[u8]) -> &[u8] {
    crate::strace::grammar::prefix::prefix(i).map_or(i.trim_ascii_start(), |(rest, _)| rest)
}

/// Whether the only error of a text is its missing end.
pub(in crate::strace) fn breaks_off(text: &[u8], error: &nom::Err<Expected<'_>>) -> bool {
    const UNCLOSED: [&str; 4] = [
        "a closing quote",
        "a closing bracket",
        "`*/` to end this comment",
        "`>` to end this path",
    ];
    match error {
        nom::Err::Failure(e) if UNCLOSED.contains(&e.what) => !blocked_calls::has_result(text),
        nom::Err::Failure(_) => false,
        nom::Err::Error(e) => {
            let partial = match e.what {
                // `= -1 ENOE`, `= ? ERESTA`, `= -`.
                "the name of an errno" | "the name of a restart" => {
                    e.at.iter().all(u8::is_ascii_alphanumeric)
                }
                "a result" => e.at == b"-",
                _ => false,
            };
            e.at.is_empty() || partial
        }
        nom::Err::Incomplete(_) => true,
    }
}
