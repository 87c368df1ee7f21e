//! The data of calls that move several messages at once.

use super::{ChangeError, HookCall, Phase};
use crate::syscall::{MessageSlot, Moved};

type Result<T> = std::result::Result<T, ChangeError>;

impl HookCall {
    /// Sets the messages that the call moves, as [`HookCall::set_data`] sets data: how many there are follows, and
    /// how long each is.
    ///
    /// # Errors
    /// If they do not fit, it is not the time, or the call moves no messages.
    pub fn set_messages(&mut self, messages: &[Vec<u8>]) -> Result<()> {
        let call = self.name();
        if !self.call.moves_messages() {
            return Err(ChangeError::One(call));
        }
        let slots = self.call.message_slots(&self.args, &self.memory);
        let (count, room) = (messages.len(), slots.len());
        if count > room {
            return Err(ChangeError::Messages { call, count, room });
        }
        for (message, slot) in messages.iter().zip(&slots) {
            if message.len() as u64 > slot.room() {
                let (len, room) = (message.len(), slot.room());
                return Err(ChangeError::TooLong { call, len, room });
            }
        }
        match (self.call.moves_data(), self.phase) {
            (Some(Moved::In), Phase::Exit) => {
                let phase = "enter";
                Err(ChangeError::Phase { call, phase })
            }
            (Some(Moved::In), Phase::Enter) => self.pass_messages(messages, &slots),
            _ => self.store_messages(messages, &slots),
        }
    }

    /// Sets them as one run of bytes, with which the messages are filled one after the other.
    pub(super) fn spread_data(&mut self, bytes: &[u8]) -> Result<()> {
        let slots = self.call.message_slots(&self.args, &self.memory);
        let room: u64 = slots.iter().map(MessageSlot::room).sum();
        if bytes.len() as u64 > room {
            let (call, len) = (self.name(), bytes.len());
            return Err(ChangeError::TooLong { call, len, room });
        }
        let mut messages = Vec::new();
        let mut rest = bytes;
        for slot in &slots {
            if rest.is_empty() {
                break;
            }
            let len = rest.len().min(slot.room() as usize);
            let (now, later) = rest.split_at(len);
            messages.push(now.to_vec());
            rest = later;
        }
        self.set_messages(&messages)
    }

    fn pass_messages(&mut self, messages: &[Vec<u8>], slots: &[MessageSlot]) -> Result<()> {
        for (message, slot) in messages.iter().zip(slots) {
            let mut rest = message.as_slice();
            for region in &slot.data {
                let (now, later) = rest.split_at(region.len.min(rest.len()));
                self.patch(region.addr, now)?;
                rest = later;
            }
            for (addr, bytes) in self.call.cut_message(slot, message.len(), &self.memory) {
                self.patch(addr, &bytes)?;
            }
        }
        if let Some(arg) = self.call.arg("vlen") {
            self.set_arg(arg, messages.len() as u64);
        }
        Ok(())
    }

    fn store_messages(&mut self, messages: &[Vec<u8>], slots: &[MessageSlot]) -> Result<()> {
        let before = self.ret().filter(|&ret| ret >= 0).unwrap_or(0) as usize;
        for (i, (message, slot)) in messages.iter().zip(slots).enumerate() {
            let mut rest = message.as_slice();
            for region in &slot.data {
                let (now, later) = rest.split_at(region.len.min(rest.len()));
                self.overwrite(region.addr, now)?;
                rest = later;
            }
            self.overwrite(slot.len_at, &(message.len() as u32).to_le_bytes())?;
            if i >= before {
                // A message beyond those of the answer has no address and no control data.
                for (addr, len) in slot.besides {
                    self.overwrite(addr, &vec![0; len])?;
                }
            }
        }
        self.set_ret(messages.len() as i64);
        self.replaced = true;
        Ok(())
    }
}
