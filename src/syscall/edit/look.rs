//! The present value of an argument, which an edit starts from.

use super::PathStep;
use crate::syscall::decode::{argument, pointee};
use crate::syscall::frame::{Frame, Side};
use crate::syscall::kind::{Dir, Kind};
use crate::syscall::table::{self, Syscall};
use crate::syscall::{Memory, layouts};
use crate::value::Value;
use std::collections::HashSet;
use std::sync::LazyLock;

impl Syscall {
    /// The present value of an argument (by its index among [`Syscall::args`]), with the kernel's updates. `ret` is the
    /// return value, or `None` at the entry; data that the kernel has not stored is an address.
    pub fn look(
        &self,
        index: usize,
        args: &[u64; 6],
        ret: Option<i64>,
        mem: &dyn Memory,
    ) -> Option<Value> {
        let arg = self.args.get(index)?;
        let raw = args.get(index).copied()?;
        let frame = Frame::new(self, args, ret.unwrap_or(0), mem, mem).pending(ret.is_none());
        if !frame.holds(&arg.condition) {
            return None;
        }
        Some(match &arg.kind {
            Kind::Ptr(Dir::Update | Dir::InOut | Dir::InOutAlways, to)
                if raw != 0 && !super::fills(to) =>
            {
                pointee(to, raw, &frame, Side::Entry)
            }
            _ => argument(arg, raw, ret, &frame),
        })
    }

    /// The present value of a part of an argument.
    pub fn look_at(
        &self,
        (index, way): (usize, &[PathStep]),
        args: &[u64; 6],
        ret: Option<i64>,
        mem: &dyn Memory,
    ) -> Option<Value> {
        let whole = self.look(index, args, ret, mem)?;
        let mut part = whole.meaning();
        for step in way {
            if let Value::Change { after, .. } = part {
                part = after.meaning();
            }
            part = match (step, part) {
                (PathStep::Member(name), part) => match part.field(name) {
                    Some(part) => part,
                    // A member that is not shown but exists, since the kernel will fill it.
                    None => {
                        let number = self.number_at((index, way), args, ret, mem)?;
                        return Some(Value::Int(number));
                    }
                },
                (PathStep::Element(index), Value::Array { items, .. }) => {
                    items.get(*index)?.meaning()
                }
                _ => return None,
            };
        }
        Some(part.clone())
    }
}

/// The names of all calls' arguments.
static ARGUMENTS: LazyLock<HashSet<&'static str>> = LazyLock::new(|| {
    let mut names = HashSet::new();
    for call in table::names().filter_map(table::by_name) {
        add(call, &mut names);
    }
    names
});

fn add(call: &Syscall, names: &mut HashSet<&'static str>) {
    names.extend(call.args.iter().map(|arg| arg.name));
    for (_, variant) in call.variants() {
        add(variant, names);
    }
}

/// The names of all structures' members, also of structures that are not layouts of the tables.
static MEMBERS: LazyLock<HashSet<&'static str>> = LazyLock::new(|| {
    let of_tables = layouts().flat_map(|layout| layout.members.iter().map(|member| member.name));
    let others = [
        "iov_base",
        "iov_len",
        "msg_name",
        "msg_namelen",
        "msg_iov",
        "msg_iovlen",
        "msg_control",
        "msg_controllen",
        "msg_flags",
        "msg_hdr",
        "msg_len",
        "cmsg_len",
        "cmsg_level",
        "cmsg_type",
        "cmsg_data",
        "d_ino",
        "d_off",
        "d_reclen",
        "d_type",
        "d_name",
        "sa_family",
        "sa_data",
        "sin_port",
        "sin_addr",
        "sin6_port",
        "sin6_flowinfo",
        "sin6_addr",
        "sin6_scope_id",
        "sun_path",
        "nl_pid",
        "nl_groups",
        "sll_protocol",
        "sll_ifindex",
        "sll_hatype",
        "sll_pkttype",
        "sll_halen",
        "sll_addr",
        "handle_bytes",
        "handle_type",
        "f_handle",
        "mtype",
        "mtext",
        "effective",
        "permitted",
        "inheritable",
        "version",
        "pid",
    ];
    of_tables.chain(others).collect()
});

/// Returns whether any call has an argument of this name.
pub fn is_argument(name: &str) -> bool {
    ARGUMENTS.contains(name)
}

/// Returns whether any structure has a member of this name.
pub fn is_member(name: &str) -> bool {
    MEMBERS.contains(name)
}

/// The names of arguments that are similar to this one.
pub fn near_argument(name: &str) -> Vec<&'static str> {
    crate::constants::nearest(name, ARGUMENTS.iter().copied())
}

/// The names of members that are similar to this one.
pub fn near_member(name: &str) -> Vec<&'static str> {
    crate::constants::nearest(name, MEMBERS.iter().copied())
}

/// The same name with a static lifetime.
pub(super) fn known_name(name: &str) -> Option<&'static str> {
    MEMBERS.get(name).copied()
}
