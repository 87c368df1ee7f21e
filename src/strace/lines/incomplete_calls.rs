//! Calls whose end is far away or missing: calls into which other programs write more than a source line may hold, and
//! the call that the end of the text truncates.

use super::assemble::Assembler;
use super::blocked_calls::{self, BlockedCall, Next};
use super::source_line::SourceLine;
use super::stream::{Piece, PieceKind};
use super::truncation::{self, Suspect, Truncated};
use super::unfinished::UnfinishedCall;
use crate::strace::grammar::line::{self, Line};
use crate::strace::grammar::other_lines::OtherLine;
use crate::strace::grammar::prefix::Prefix;
use std::collections::VecDeque;

impl Assembler {
    /// Makes a blocked call an unfinished one, with the foreign text so far. Returns its task.
    pub(in crate::strace) fn begin(
        &mut self,
        source: SourceLine,
        out: &mut VecDeque<Piece>,
    ) -> Option<(i32, BlockedCall)> {
        let blocked = source.blocked()?.clone();
        let own = source.own();
        let Ok((_, (prefix, Line::Call(text)))) = line::line(&mut self.cx, own) else {
            return None;
        };
        let tid = prefix.tid;
        let begun = UnfinishedCall::new(source.line, prefix, own, text);
        self.give_up(tid, out);
        self.start(source, tid, begun, out);
        Some((tid, blocked))
    }

    /// Takes the next line of the foreign text within a blocked call; returns it if it is the rest of the call.
    pub(in crate::strace) fn pass_overflow(
        &mut self,
        tid: i32,
        blocked: BlockedCall,
        text: Vec<u8>,
        line: u64,
        out: &mut VecDeque<Piece>,
    ) -> Option<Vec<u8>> {
        let source = SourceLine::new(line, text);
        match blocked.next(&mut self.cx, source.own()) {
            Next::Foreign => {
                self.overflowing = Some((tid, blocked));
                out.push_back(source.piece(PieceKind::Other(OtherLine::Output), Vec::new()));
                None
            }
            Next::End(at)
                if blocked_calls::has_result(source.own().get(at..).unwrap_or_default()) =>
            {
                self.resume(tid, tid, source, None, at, out);
                None
            }
            // The rest of the call comes later.
            Next::End(_) => {
                out.push_back(source.piece(PieceKind::Other(OtherLine::Output), Vec::new()));
                None
            }
            Next::Line => {
                self.give_up(tid, out);
                Some(source.text)
            }
        }
    }

    /// Takes the last line, which is not understood: it may be truncated.
    pub(in crate::strace) fn last(&mut self, suspect: Suspect, out: &mut VecDeque<Piece>) {
        let open = !suspect.source.text.ends_with(b"\n");
        let found = match &suspect.begun {
            Some(_) => Some(Truncated::Other),
            None => truncation::cut(&mut self.cx, suspect.source.own(), open),
        };
        let Some(found) = found else {
            return suspect.wrong(out);
        };
        let (source, _, begun, behind) = suspect.last();
        match (found, begun) {
            (Truncated::Call(at), _) => {
                let own = source.own();
                let text = &own[at.min(own.len())..];
                let prefix = match line::line(&mut self.cx, own) {
                    Ok((_, (prefix, _))) => prefix,
                    Err(_) => Prefix::default(),
                };
                let tid = prefix.tid;
                let begun = UnfinishedCall::new(source.line, prefix, own, text);
                self.give_up(tid, out);
                let (name, args) = line::part(&mut self.cx, text);
                out.push_back(source.piece(PieceKind::Unfinished { tid, name, args }, Vec::new()));
                self.ended(tid, begun, true, out);
            }
            (Truncated::Other, begun) => {
                out.push_back(source.piece(PieceKind::Other(OtherLine::Truncated), Vec::new()));
                if let Some((tid, begun)) = begun {
                    self.ended(tid, begun, true, out);
                }
            }
        }
        out.extend(behind);
    }
}
