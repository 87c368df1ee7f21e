//! The view that scripts have of a stopped process: memory, registers, mappings, descriptors, backtrace.

use super::error::raise;
use super::{backtrace, convert, values};
use crate::kernel::DescriptorTable;
use crate::process::Process;
use crate::tracee::proc;
use mlua::{Lua, Table, Value};

/// Reads longer than this are a mistake.
const LONGEST_READ: u64 = 1 << 30;

/// A stopped process, as scripts see it.
pub(super) trait View {
    /// Its memory, at an address, so many bytes.
    fn bytes(&self, lua: &Lua, part: (u64, usize)) -> mlua::Result<mlua::LuaString>;
    /// The registers of the task that is driven.
    fn registers(&self, lua: &Lua) -> mlua::Result<Table>;
    /// Its mappings.
    fn mappings(&self, lua: &Lua) -> mlua::Result<Table>;
    /// Its descriptors, as recorded.
    fn files(&self, lua: &Lua) -> mlua::Result<Table>;
    /// The backtrace of the task that is driven.
    fn frames(&mut self, lua: &Lua) -> mlua::Result<Table>;
}

impl View for Process {
    fn bytes(&self, lua: &Lua, (addr, len): (u64, usize)) -> mlua::Result<mlua::LuaString> {
        let mut bytes = vec![0; len];
        let read = self.memory().read_exact(addr, &mut bytes);
        read.map_err(raise)?;
        lua.create_string(bytes)
    }

    fn registers(&self, lua: &Lua) -> mlua::Result<Table> {
        let regs = self.driven.task.regs().map_err(raise)?;
        lua.create_table_from(regs.named().map(|(name, value)| (name, value as i64)))
    }

    fn mappings(&self, lua: &Lua) -> mlua::Result<Table> {
        maps_of(lua, &proc::maps(self.real_pid()).map_err(raise)?)
    }

    fn files(&self, lua: &Lua) -> mlua::Result<Table> {
        let table = descriptors(lua, &self.group.descriptors)?;
        values::read_only(lua, &table, "a process's descriptors cannot be set")
    }

    fn frames(&mut self, lua: &Lua) -> mlua::Result<Table> {
        backtrace::list(lua, &crate::backtrace::of_process(self))
    }
}

/// An address and a number of bytes.
pub(super) fn range(addr: &Value, len: &Value) -> mlua::Result<(u64, usize)> {
    let addr = convert::integer(addr, "an address")? as u64;
    let len = convert::count(len, "a number of bytes")?;
    if len > LONGEST_READ {
        return Err(raise(format!("{len} bytes are too many to read at once")));
    }
    Ok((addr, len as usize))
}

pub(super) fn maps_of(lua: &Lua, maps: &[proc::Map]) -> mlua::Result<Table> {
    let list = lua.create_table()?;
    for map in maps {
        let entry = lua.create_table()?;
        entry.set("first", map.start as i64)?;
        entry.set("last", map.end.wrapping_sub(1) as i64)?;
        entry.set("size", map.end.wrapping_sub(map.start) as i64)?;
        let bit = |bit: i32, letter: &'static str| if map.prot & bit != 0 { letter } else { "-" };
        let perms = [
            bit(libc::PROT_READ, "r"),
            bit(libc::PROT_WRITE, "w"),
            bit(libc::PROT_EXEC, "x"),
        ]
        .concat();
        entry.set("perms", perms + if map.shared { "s" } else { "p" })?;
        entry.set("offset", map.offset as i64)?;
        entry.set("name", lua.create_string(&map.name)?)?;
        list.raw_push(entry)?;
    }
    Ok(list)
}

pub(super) fn descriptors(lua: &Lua, files: &DescriptorTable) -> mlua::Result<Table> {
    let table = lua.create_table()?;
    for (fd, file, cloexec) in files.iter() {
        let entry = descriptor(lua, &file.path, (file.flags, file.offset, cloexec))?;
        table.set(fd, entry)?;
    }
    Ok(table)
}

/// The descriptors of a live process, as the kernel has them.
pub(super) fn kernels_descriptors(lua: &Lua, files: &[proc::Descriptor]) -> mlua::Result<Table> {
    let table = lua.create_table()?;
    for file in files {
        let cloexec = file.flags & libc::O_CLOEXEC != 0;
        let flags = file.flags & !libc::O_CLOEXEC;
        table.set(
            file.fd,
            descriptor(lua, &file.path, (flags, file.offset, cloexec))?,
        )?;
    }
    Ok(table)
}

fn descriptor(
    lua: &Lua,
    path: &[u8],
    (flags, offset, cloexec): (i32, u64, bool),
) -> mlua::Result<Table> {
    let entry = lua.create_table()?;
    entry.set("path", lua.create_string(path)?)?;
    entry.set("flags", flags)?;
    entry.set("offset", offset as i64)?;
    entry.set("cloexec", cloexec)?;
    Ok(entry)
}
