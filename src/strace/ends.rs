//! Calls whose end is far away or missing: those into which others write more than is held, and the one that the end of
//! the text cuts off.

use super::assemble::Assembler;
use super::columns::Columns;
use super::cut::{self, Cut, Suspect};
use super::frame::{self, Line};
use super::held::Held;
use super::stream::{Aside, Piece, Says};
use super::underway::Begun;
use super::waiting::{self, Next, Waiting};
use std::collections::VecDeque;

impl Assembler {
    /// Has a call that waits be under way, with what was written into it so far: whose it is.
    pub(super) fn begin(
        &mut self,
        held: Held,
        out: &mut VecDeque<Piece>,
    ) -> Option<(i32, Waiting)> {
        let waiting = held.waiting()?.clone();
        let own = held.own();
        let Ok((_, (columns, Line::Call(text)))) = frame::line(&mut self.cx, own) else {
            return None;
        };
        let tid = columns.tid;
        let begun = Begun::new(held.line, columns, own, text);
        self.give_up(tid, out);
        self.start(held, tid, begun, out);
        Some((tid, waiting))
    }

    /// Takes the next line of a text that others write into a call; gives it back if it is none.
    pub(super) fn flood(
        &mut self,
        tid: i32,
        waiting: Waiting,
        text: Vec<u8>,
        line: u64,
        out: &mut VecDeque<Piece>,
    ) -> Option<Vec<u8>> {
        let held = Held::new(line, text);
        match waiting.next(&mut self.cx, held.own()) {
            Next::Foreign => {
                self.flooded = Some((tid, waiting));
                out.push_back(held.piece(Says::Aside(Aside::Output), Vec::new()));
                None
            }
            Next::End(at) if waiting::has_result(held.own().get(at..).unwrap_or_default()) => {
                self.resume(tid, tid, held, None, at, out);
                None
            }
            // It goes on later.
            Next::End(_) => {
                out.push_back(held.piece(Says::Aside(Aside::Output), Vec::new()));
                None
            }
            Next::Line => {
                self.give_up(tid, out);
                Some(held.text)
            }
        }
    }

    /// Takes the last line, which is not understood: it may be cut off.
    pub(super) fn last(&mut self, suspect: Suspect, out: &mut VecDeque<Piece>) {
        let open = !suspect.held.text.ends_with(b"\n");
        let found = match &suspect.begun {
            Some(_) => Some(Cut::Other),
            None => cut::cut(&mut self.cx, suspect.held.own(), open),
        };
        let Some(found) = found else {
            return suspect.wrong(out);
        };
        let (held, _, begun, behind) = suspect.last();
        match (found, begun) {
            (Cut::Call(at), _) => {
                let own = held.own();
                let text = &own[at.min(own.len())..];
                let columns = match frame::line(&mut self.cx, own) {
                    Ok((_, (columns, _))) => columns,
                    Err(_) => Columns::default(),
                };
                let tid = columns.tid;
                let begun = Begun::new(held.line, columns, own, text);
                self.give_up(tid, out);
                let (name, args) = frame::part(&mut self.cx, text);
                out.push_back(held.piece(Says::Begun { tid, name, args }, Vec::new()));
                self.ended(tid, begun, true, out);
            }
            (Cut::Other, begun) => {
                out.push_back(held.piece(Says::Aside(Aside::Cut), Vec::new()));
                if let Some((tid, begun)) = begun {
                    self.ended(tid, begun, true, out);
                }
            }
        }
        out.extend(behind);
    }
}
