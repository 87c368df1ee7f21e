//! A call while a script has it: lent to the script until the hook returns, with the views that the script has of its
//! structures.

use super::super::error::raise;
use crate::inject::{HookCall, VECTOR};
use crate::syscall::PathStep;
use crate::trace::Value as Arg;
use std::cell::RefCell;
use std::rc::{Rc, Weak};

/// A call on loan to a script; taken back when the hook returns.
#[derive(Clone, Default)]
pub(super) struct CallData(Rc<RefCell<Loan>>, Rc<RefCell<Views>>);

#[derive(Default)]
struct Loan {
    call: Option<HookCall>,
    /// Whether the hook has changed the call.
    touched: bool,
}

const OVER: &str = "this call is over: a call can be used only while its hook runs";

impl CallData {
    /// Moves the call into the loan; `spare` takes its place until it is back.
    pub fn lend(&self, call: &mut HookCall, spare: HookCall) {
        *self.0.borrow_mut() = Loan {
            call: Some(std::mem::replace(call, spare)),
            touched: false,
        };
    }

    /// Moves the call back. Returns the spare one, and whether the hook has changed the call.
    pub fn take_back(&self, call: &mut HookCall) -> (Option<HookCall>, bool) {
        let mut loan = self.0.borrow_mut();
        let lent = loan.call.take();
        let spare = lent.map(|lent| std::mem::replace(call, lent));
        (spare, loan.touched)
    }

    /// The views that the script has of the call's structures.
    pub fn views(&self) -> Rc<RefCell<Views>> {
        Rc::clone(&self.1)
    }

    pub fn with<R>(&self, look: impl FnOnce(&HookCall) -> R) -> mlua::Result<R> {
        match &self.0.borrow().call {
            Some(call) => Ok(look(call)),
            None => Err(raise(OVER)),
        }
    }

    pub fn with_mut<R>(
        &self,
        act: impl FnOnce(&mut HookCall) -> mlua::Result<R>,
    ) -> mlua::Result<R> {
        let mut loan = self.0.borrow_mut();
        loan.touched = true;
        match &mut loan.call {
            Some(call) => act(call),
            None => Err(raise(OVER)),
        }
    }
}

/// The views of a call that scripts may still have.
#[derive(Default)]
pub(super) struct Views(pub Vec<View>);

/// A view of a structure or a list.
pub(super) struct View {
    pub arg: usize,
    pub way: Vec<PathStep>,
    /// Filled once something else is put there.
    pub copy: Weak<RefCell<Option<Snapshot>>>,
}

/// The value that was there.
pub(super) struct Snapshot {
    pub value: Arg,
    /// The pointer and the length, where it was a vector.
    pub vector: Option<[u8; VECTOR]>,
}
