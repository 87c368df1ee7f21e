//! Changing a call's arguments and what they point to.

use super::scratch::SCRATCH_SIZE;
use super::{ChangeError, HookCall, MOST_DATA, Phase};
use crate::inject::amount;
use crate::syscall::{self, Edit, LimitedMemory, Memory, Moved, PathStep, Region, Syscall};
use crate::trace::Value;
use crate::tracee;
use std::rc::Rc;

/// A `struct linux_dirent64` with a name of 255 bytes.
const LONGEST_ENTRY: u64 = 280;

/// A `struct iovec`.
pub const VECTOR: usize = 16;

type Result<T> = std::result::Result<T, ChangeError>;

impl HookCall {
    /// The index among the call's [`Syscall::args`] of an argument by its name.
    pub fn formal(&self, name: &str) -> Option<usize> {
        self.call.arg(name)
    }

    /// An argument, by its index among the call's [`Syscall::args`], or a part of it, as it is now.
    pub fn look(&self, arg: usize, way: &[PathStep]) -> Option<Value> {
        let memory = &LimitedMemory::new(&self.memory, MOST_DATA, 0);
        match way {
            [] => self.call.look(arg, &self.args, self.ret(), memory),
            way => self
                .call
                .look_at((arg, way), &self.args, self.ret(), memory),
        }
    }

    /// Changes an argument, or a part of it: at the entry what the kernel will see, at the exit what it left.
    ///
    /// # Errors
    /// If it cannot be that.
    pub fn change(&mut self, arg: usize, way: &[PathStep], value: &Value) -> Result<()> {
        let is_data = way.is_empty() && self.call.data_arg() == Some(arg);
        if is_data && self.call.moves_bytes() {
            match (value, value.meaning()) {
                (Value::Written { text: bytes, .. }, _) => return self.set_data(bytes),
                (_, Value::Str { bytes, .. }) => return self.set_data(bytes),
                _ => {}
            }
        }
        let ret = self.ret();
        let edits = self
            .call
            .edit((arg, way), value, &self.args, ret, &self.memory)?;
        for edit in edits {
            self.apply(arg, edit)?;
        }
        Ok(())
    }

    /// A vector as it lies in memory, where that part of an argument is one.
    pub fn vector(&self, arg: usize, way: &[PathStep]) -> Option<[u8; VECTOR]> {
        let at = self.call.vector_at((arg, way), &self.args, &self.memory)?;
        let mut bytes = [0; VECTOR];
        (self.memory.read(at, &mut bytes) == VECTOR).then_some(bytes)
    }

    /// Has a vector point to the buffer of another one. Returns false, and does nothing, once the call has been answered.
    ///
    /// # Errors
    /// If the process's memory cannot be written.
    pub fn set_vector(
        &mut self,
        arg: usize,
        way: &[PathStep],
        bytes: [u8; VECTOR],
    ) -> Result<bool> {
        let at = self.call.vector_at((arg, way), &self.args, &self.memory);
        let Some(at) = at.filter(|_| self.ret().is_none()) else {
            return Ok(false);
        };
        self.store(at, &bytes)?;
        Ok(true)
    }

    /// Sets a register in which an argument is passed, by its index from 0.
    ///
    /// # Errors
    /// At the exit: the call has been made.
    pub fn set_raw(&mut self, index: usize, value: u64) -> Result<()> {
        if self.phase == Phase::Exit {
            let (call, phase) = (self.name(), "enter");
            return Err(ChangeError::Phase { call, phase });
        }
        if let Some(arg) = self.args.get_mut(index) {
            *arg = value;
        }
        self.resolve();
        self.find_descriptor();
        Ok(())
    }

    /// Looks up the variant of the call again, which an argument may decide.
    fn resolve(&mut self) {
        if let Some(call) = syscall::of_number(self.call.nr) {
            self.call = call.resolve(&self.args);
        }
    }

    fn apply(&mut self, arg: usize, edit: Edit) -> Result<()> {
        match edit {
            Edit::Register(raw) => self.set_arg(arg, raw),
            Edit::Write(addr, bytes) => self.store(addr, &bytes)?,
            Edit::Place {
                mut bytes,
                inner,
                pointer,
            } => {
                let Some(piece) = self.scratch.take(bytes.len()) else {
                    return Err(ChangeError::NoRoom {
                        len: bytes.len(),
                        room: SCRATCH_SIZE,
                    });
                };
                for (at, target) in inner {
                    let addr = (piece.addr + target as u64).to_le_bytes();
                    if let Some(place) = bytes.get_mut(at..at + addr.len()) {
                        place.copy_from_slice(&addr);
                    }
                }
                self.memory.write(piece.addr, &bytes)?;
                match pointer {
                    Some(at) => self.store(at, &piece.addr.to_le_bytes())?,
                    None => self.set_arg(arg, piece.addr),
                }
                self.pieces.push(Rc::new(piece));
            }
            Edit::Return(ret) => {
                if self.ret().is_some_and(|ret| ret >= 0) {
                    self.replaced = true;
                    self.set_ret(ret);
                }
            }
        }
        Ok(())
    }

    pub(super) fn set_arg(&mut self, arg: usize, raw: u64) {
        if let Some(place) = self.args.get_mut(arg) {
            *place = raw;
        }
        self.resolve();
        self.find_descriptor();
    }

    /// Writes to the process's memory: before the call is made for the kernel alone, afterwards as a part of the answer.
    fn store(&mut self, addr: u64, bytes: &[u8]) -> Result<()> {
        // The bytes may be a path.
        self.about.take();
        match self.ret() {
            None => self.patch(addr, bytes)?,
            Some(_) => self.overwrite(addr, bytes)?,
        }
        Ok(())
    }

    /// The bytes that the call moves: what a write-like call passes, what a read-like call got.
    /// `None` where it moves none, failed, or has not been answered.
    ///
    /// # Errors
    /// If they are more than 16 MiB.
    pub fn data(&self) -> Result<Option<Vec<u8>>> {
        let Some(regions) = self.moved_regions() else {
            return Ok(None);
        };
        let len = regions.iter().map(|region| region.len as u64).sum();
        if len > MOST_DATA as u64 {
            let call = self.name();
            return Err(ChangeError::TooMuch { call, len });
        }
        Ok(Some(self.bytes_of(regions, MOST_DATA)))
    }

    /// The first bytes that the call moves, so many at most; `None` as for [`HookCall::data`].
    pub(crate) fn first_data(&self, most: usize) -> Option<Vec<u8>> {
        Some(self.bytes_of(self.moved_regions()?, most))
    }

    fn moved_regions(&self) -> Option<Vec<Region>> {
        if self.call.moves_data()? == Moved::In {
            let len = match self.ret() {
                Some(ret) => u64::try_from(ret).ok()?,
                None => u64::MAX,
            };
            return Some(self.passed_regions(len));
        }
        let ret = self.ret().filter(|ret| *ret >= 0)?;
        Some(self.call.received_regions(&self.args, ret, &self.memory))
    }

    /// The memory of the first so many bytes (or messages) that a write-like call passes.
    fn passed_regions(&self, len: u64) -> Vec<Region> {
        if !self.call.moves_messages() {
            return self.call.data_regions(&self.args, len, &self.memory);
        }
        let slots = self.call.message_slots(&self.args, &self.memory);
        let sent = usize::try_from(len).unwrap_or(usize::MAX);
        let sent = slots.into_iter().take(sent);
        sent.flat_map(|slot| slot.data).collect()
    }

    /// The first so many bytes (or messages) that a write-like call passes, of which `most` bytes are read at most, and
    /// the number of bytes that all are.
    pub(crate) fn passed_data(&self, len: u64, most: usize) -> (Vec<u8>, u64) {
        let regions = self.passed_regions(len);
        let all: u64 = regions.iter().map(|region| region.len as u64).sum();
        let data = self.bytes_of(regions, most);
        // What cannot be read was not passed.
        let all = match (data.len() as u64) < all.min(most as u64) {
            true => data.len() as u64,
            false => all,
        };
        (data, all)
    }

    fn bytes_of(&self, regions: Vec<Region>, most: usize) -> Vec<u8> {
        let mut data = Vec::new();
        for region in regions {
            let part = region.len.min(most - data.len());
            data.extend(self.memory.bytes(region.addr, part));
        }
        data
    }

    /// Sets the bytes that the call moves: at the entry those that a write-like call passes, whose length follows; at
    /// the exit those that a read-like call got, whose return value follows. Where the call is not made and returns
    /// something already, the latter can be set at the entry, too.
    ///
    /// # Errors
    /// If they do not fit into the buffer, or it is not the time.
    pub fn set_data(&mut self, bytes: &[u8]) -> Result<()> {
        let call = self.name();
        let moved = self.call.moves_data().ok_or(ChangeError::NoData(call))?;
        if self.call.moves_messages() {
            return self.spread_data(bytes);
        }
        match (moved, self.phase) {
            (Moved::In, Phase::Enter) => return self.pass_data(bytes),
            (Moved::In, Phase::Exit) => {
                let phase = "enter";
                return Err(ChangeError::Phase { call, phase });
            }
            (Moved::Out, _) => {}
        }
        let regions = self.call.data_regions(&self.args, u64::MAX, &self.memory);
        let room: u64 = regions.iter().map(|region| region.len as u64).sum();
        let len = bytes.len();
        if len as u64 > room {
            return Err(ChangeError::TooLong { call, len, room });
        }
        let mut rest = bytes;
        for region in regions {
            let (now, later) = rest.split_at(region.len.min(rest.len()));
            self.overwrite(region.addr, now)?;
            rest = later;
        }
        self.set_ret(len as i64);
        self.replaced = true;
        Ok(())
    }

    /// Has a write-like call pass other bytes.
    fn pass_data(&mut self, bytes: &[u8]) -> Result<()> {
        let call = self.name();
        let regions = self.call.data_regions(&self.args, u64::MAX, &self.memory);
        let room: u64 = regions.iter().map(|region| region.len as u64).sum();
        let len = bytes.len();
        let len_arg = self.call.data_len_arg();
        if len as u64 > room {
            return Err(ChangeError::TooLong { call, len, room });
        }
        let mut rest = bytes;
        for region in regions {
            let (now, later) = rest.split_at(region.len.min(rest.len()));
            self.patch(region.addr, now)?;
            rest = later;
        }
        match len_arg {
            Some(arg) => self.set_arg(arg, len as u64),
            None => {
                let cut = self.call.cut_vectors(&self.args, len as u64, &self.memory);
                for (addr, bytes) in cut {
                    self.patch(addr, &bytes)?;
                }
            }
        }
        Ok(())
    }

    /// Whether the enter hooks changed the arguments that the kernel gets.
    pub(crate) fn is_changed(&self) -> bool {
        self.args != self.asked || !self.patches.is_empty()
    }

    /// Has the kernel move at most this many bytes, or messages.
    ///
    /// # Errors
    /// If the process's memory cannot be written.
    pub(crate) fn shorten(&mut self, len: u64) -> tracee::Result<[u64; 6]> {
        let mut args = self.args;
        match amount::asked_arg(self.call) {
            // One entry of a directory has to fit.
            Some(arg) if self.name().starts_with("getdents") => {
                args[arg] = args[arg].min(len.max(LONGEST_ENTRY));
            }
            Some(arg) => args[arg] = args[arg].min(len),
            None if self.can_be_short() => {
                for (addr, bytes) in self.call.cut_vectors(&self.args, len, &self.memory) {
                    self.patch(addr, &bytes)?;
                }
            }
            None => {}
        }
        Ok(args)
    }

    /// Restores the memory that was changed for the kernel. Bytes that the kernel has stored there meanwhile stay.
    ///
    /// # Errors
    /// If its memory cannot be written.
    pub fn give_back(&self) -> tracee::Result<()> {
        let mut now = Vec::new();
        for patch in self.patches.iter().rev() {
            now.resize(patch.new.len(), 0);
            if self.memory.read(patch.addr, &mut now) == now.len() && now == patch.new {
                self.shared.write(self.memory, patch.addr, &patch.old)?;
            }
        }
        Ok(())
    }

    /// Writes to the process's memory for the kernel to see, until [`HookCall::give_back`].
    pub(super) fn patch(&mut self, addr: u64, bytes: &[u8]) -> tracee::Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        let mut old = vec![0; bytes.len()];
        self.memory.read_exact(addr, &mut old)?;
        self.shared.write(self.memory, addr, bytes)?;
        self.patches.push(Patch {
            addr,
            old,
            new: bytes.to_vec(),
        });
        Ok(())
    }

    /// The call's description.
    pub fn described(&self) -> &'static Syscall {
        self.call
    }
}

/// A change of the program's memory that only the kernel is to see.
#[derive(Clone, Debug)]
pub(crate) struct Patch {
    addr: u64,
    old: Vec<u8>,
    new: Vec<u8>,
}
