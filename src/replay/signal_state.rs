//! The signal state of recorded tasks: actions, masks, alternate stacks.
//!
//! A replay only keeps it as data: its kernel processes have default actions and block no signal. It is
//! set in copies that are spun off.

use super::space::memory_of;
use crate::process::NO_ALTERNATE_STACK;
use crate::recording::CallEvent;
use crate::syscall::Memory;
use std::collections::BTreeMap;

/// The kernel's `struct sigaction` on x86-64: handler, flags, restorer, mask.
pub type Action = [u8; 32];

/// `stack_t`: its address, flags (and padding), size.
const STACK: usize = 24;

const SS_DISABLE: u32 = 2;
const SS_AUTODISARM: u32 = 1 << 31;

/// Signals that cannot be blocked.
const UNBLOCKABLE: u64 = 1 << (libc::SIGKILL - 1) | 1 << (libc::SIGSTOP - 1);

/// The signal actions of a process that are not the default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Actions(BTreeMap<i32, Action>);

impl Actions {
    /// Those of a program that has just been executed and ignores these signals (bit n-1 for signal n).
    pub fn ignoring(ignored: u64) -> Actions {
        let mut ignore = [0; 32];
        ignore[..8].copy_from_slice(&(libc::SIG_IGN as u64).to_le_bytes());
        let ignored = (1..=64).filter(|n| ignored & 1 << (n - 1) != 0);
        Actions(ignored.map(|signal| (signal, ignore)).collect())
    }

    /// Those without handlers: `CLONE_CLEAR_SIGHAND`.
    pub fn without_handlers(&self) -> Actions {
        let kept = self.0.iter().filter(|(_, action)| is_ignore(action));
        let ignored = kept.fold(0, |ignored, (signal, _)| ignored | 1 << (signal - 1));
        Actions::ignoring(ignored)
    }

    /// Follows a rt_sigaction that succeeded.
    pub fn set(&mut self, call: &CallEvent, memory: &dyn Memory) {
        let signal = call.args[0] as i32;
        let mut action = [0; 32];
        if call.args[1] == 0
            || !(1..=64).contains(&signal)
            || !memory_of(&call.ins, memory, call.args[1], &mut action)
        {
            return;
        }
        // The default may have flags, too: SA_NOCLDWAIT, for one.
        if action == [0; 32] {
            self.0.remove(&signal);
        } else {
            self.0.insert(signal, action);
        }
    }

    /// Follows the start of a handler: it is reset if it has `SA_RESETHAND`, and its flags stay.
    pub fn enter(&mut self, signal: i32) {
        if let Some(action) = self.0.get_mut(&signal)
            && action[8..12]
                .iter()
                .zip((libc::SA_RESETHAND as u32).to_le_bytes())
                .any(|(flags, once)| flags & once != 0)
        {
            action[..8].fill(0);
        }
    }

    /// All actions that are not the initial default.
    pub fn iter(&self) -> impl Iterator<Item = (i32, &Action)> {
        self.0.iter().map(|(&signal, action)| (signal, action))
    }

    /// The action for a signal; `None` for the default.
    pub fn get(&self, signal: i32) -> Option<Action> {
        self.0.get(&signal).copied()
    }
}

fn is_ignore(action: &Action) -> bool {
    action[..8] == (libc::SIG_IGN as u64).to_le_bytes()
}

/// The signal state of each task.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Masks {
    /// The signals that it blocks: bit n-1 for signal n.
    pub blocked: u64,
    /// Its alternate stack; `None` for none.
    stack: Option<[u8; STACK]>,
}

impl Masks {
    /// Those of a program that has just been executed.
    pub fn at_exec(blocked: u64) -> Masks {
        Masks {
            blocked,
            stack: None,
        }
    }

    /// Those of a task that was created by this one.
    pub fn child(&self, flags: u64) -> Masks {
        let both = (libc::CLONE_VM | libc::CLONE_VFORK) as u64;
        // Two tasks cannot use one stack; the parent of vfork waits.
        let keeps_stack = flags & both != libc::CLONE_VM as u64;
        Masks {
            blocked: self.blocked,
            stack: self.stack.filter(|_| keeps_stack),
        }
    }

    /// Follows a rt_sigprocmask that succeeded.
    pub fn set_blocked(&mut self, call: &CallEvent, memory: &dyn Memory) {
        let mut set = [0; 8];
        if call.args[1] == 0 || !memory_of(&call.ins, memory, call.args[1], &mut set) {
            return;
        }
        let set = u64::from_le_bytes(set);
        self.blocked = match call.args[0] as i32 {
            libc::SIG_BLOCK => self.blocked | set,
            libc::SIG_UNBLOCK => self.blocked & !set,
            _ => set,
        } & !UNBLOCKABLE;
    }

    /// Follows a sigaltstack that succeeded.
    pub fn set_stack(&mut self, call: &CallEvent, memory: &dyn Memory) {
        let mut stack = [0; STACK];
        if call.args[0] != 0 && memory_of(&call.ins, memory, call.args[0], &mut stack) {
            self.put_stack(stack);
        }
    }

    fn put_stack(&mut self, stack: [u8; STACK]) {
        self.stack =
            Some(stack).filter(|stack| flags(stack) & SS_DISABLE == 0 && stack[16..] != [0; 8]);
    }

    /// Follows the start of a handler under this mask.
    pub fn enter_handler(&mut self, blocked: u64) {
        self.blocked = blocked;
        self.stack = self.stack.filter(|s| flags(s) & SS_AUTODISARM == 0);
    }

    /// Follows the return of a handler, whose frame with its `struct ucontext` is here in memory.
    pub fn leave_handler(&mut self, blocked: u64, frame: u64, memory: &dyn Memory) {
        // Behind uc_flags and uc_link: uc_stack.
        const SAVED_STACK: u64 = 16;
        self.blocked = blocked;
        let mut stack = [0; STACK];
        if memory.read(frame.wrapping_add(SAVED_STACK), &mut stack) == STACK {
            self.put_stack(stack);
        }
    }

    /// The `stack_t` for sigaltstack(2).
    pub fn stack(&self) -> [u8; STACK] {
        self.stack.unwrap_or(NO_ALTERNATE_STACK)
    }
}

fn flags(stack: &[u8; STACK]) -> u32 {
    u32::from_le_bytes([stack[8], stack[9], stack[10], stack[11]])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::Chunk;
    use crate::recording::{Effect, NoMemory};

    fn call(args: [u64; 6], data: &[u8]) -> CallEvent {
        CallEvent {
            nr: 0,
            args,
            ip: 0,
            ret: Some(0),
            ins: vec![Chunk {
                addr: 0x1000,
                data: data.to_vec(),
            }],
            outs: Vec::new(),
            effect: Effect::None,
        }
    }

    #[test]
    fn masks_follow_their_calls() {
        let mut masks = Masks::at_exec(0b1);
        let set = |how: i32, set: u64| call([how as u64, 0x1000, 0, 8, 0, 0], &set.to_le_bytes());
        masks.set_blocked(&set(libc::SIG_BLOCK, 0b110), &NoMemory);
        assert_eq!(masks.blocked, 0b111);
        masks.set_blocked(&set(libc::SIG_UNBLOCK, 0b11), &NoMemory);
        assert_eq!(masks.blocked, 0b100);
        masks.set_blocked(&set(libc::SIG_SETMASK, u64::MAX), &NoMemory);
        assert_eq!(masks.blocked, !UNBLOCKABLE);
        masks.set_blocked(&call([0; 6], &[]), &NoMemory);
        assert_eq!(masks.blocked, !UNBLOCKABLE);
    }

    #[test]
    fn alternate_stacks_go_with_forks_and_not_with_threads() {
        let mut stack = [0; STACK];
        stack[0] = 0x10;
        stack[16] = 0x20;
        let mut masks = Masks::default();
        masks.set_stack(&call([0x1000, 0, 0, 0, 0, 0], &stack), &NoMemory);
        assert_eq!(masks.stack(), stack);
        let vm = libc::CLONE_VM as u64;
        assert_eq!(masks.child(0).stack(), stack);
        assert_eq!(masks.child(vm | libc::CLONE_VFORK as u64).stack(), stack);
        assert_eq!(masks.child(vm).stack()[8], 2);
        stack[8..12].copy_from_slice(&SS_AUTODISARM.to_le_bytes());
        masks.set_stack(&call([0x1000, 0, 0, 0, 0, 0], &stack), &NoMemory);
        masks.enter_handler(7);
        assert_eq!((masks.stack()[8], masks.blocked), (2, 7));
    }

    #[test]
    fn handlers_are_told_from_what_is_ignored() {
        let mut actions = Actions::ignoring(1 << 12);
        let mut handler = [0; 32];
        handler[0] = 0x99;
        actions.set(&call([10, 0x1000, 0, 8, 0, 0], &handler), &NoMemory);
        assert_eq!(actions.iter().count(), 2);
        assert_eq!(actions.get(10), Some(handler));
        let kept = actions.without_handlers();
        assert_eq!(
            kept.iter().map(|(signal, _)| signal).collect::<Vec<_>>(),
            [13]
        );
        actions.set(&call([13, 0x1000, 0, 8, 0, 0], &[0; 32]), &NoMemory);
        assert_eq!(actions.get(13), None);
        let mut once = handler;
        once[8..12].copy_from_slice(&(libc::SA_RESETHAND as u32).to_le_bytes());
        actions.set(&call([11, 0x1000, 0, 8, 0, 0], &once), &NoMemory);
        actions.enter(10);
        actions.enter(11);
        once[0] = 0;
        assert_eq!(
            (actions.get(10), actions.get(11)),
            (Some(handler), Some(once))
        );
        actions.set(&call([11, 0x1000, 0, 8, 0, 0], &[0; 32]), &NoMemory);
        let mut default = [0; 32];
        default[8..12].copy_from_slice(&(libc::SA_NOCLDWAIT as u32).to_le_bytes());
        actions.set(&call([17, 0x1000, 0, 8, 0, 0], &default), &NoMemory);
        assert_eq!(actions.get(17), Some(default));
        assert_eq!(actions.without_handlers(), Actions::default());
        actions.set(&call([17, 0x1000, 0, 8, 0, 0], &[0; 32]), &NoMemory);
        actions.set(&call([700, 0x1000, 0, 8, 0, 0], &handler), &NoMemory);
        assert_eq!(actions.iter().count(), 1);
    }
}
