//! Structures and lists among the arguments of a call: views of the process's memory, both ways.
//!
//! To a script they are values: assigning one copies it, and one that has been read keeps its value when something else
//! is put in its place. [`super::loan::Views`] lists the views that there are, so that they take a copy then.

use super::super::convert;
use super::super::error::{did_you_mean, near, raise, shown};
use super::super::values::{self, pairs};
use super::loan::{CallData, Snapshot, View};
use crate::inject::VECTOR;
use crate::strace;
use crate::syscall::{self, PathStep};
use crate::trace::{Field, Value as Arg};
use mlua::{IntoLua, Lua, MetaMethod, Table, UserData, UserDataFields, UserDataMethods, Value};
use std::cell::RefCell;
use std::rc::Rc;

/// A structure or a list.
pub(super) struct Structure {
    call: CallData,
    arg: usize,
    /// The way to it from its argument.
    way: Vec<PathStep>,
    /// Its copy, taken when something else was put in its place; `below` is the way to it in that copy.
    copy: Rc<RefCell<Option<Snapshot>>>,
    below: Vec<PathStep>,
}

/// The greatest depth of a table that is given for a structure.
const DEEPEST: usize = 16;

impl Structure {
    /// A view of what is there.
    pub fn of(call: &CallData, arg: usize, way: Vec<PathStep>) -> Structure {
        let copy = Rc::default();
        let views = call.views();
        let mut views = views.borrow_mut();
        if views.0.len() > 64 && views.0.len().is_power_of_two() {
            views.0.retain(|view| view.copy.strong_count() > 0);
        }
        views.0.push(View {
            arg,
            way: way.clone(),
            copy: Rc::downgrade(&copy),
        });
        Structure {
            call: call.clone(),
            arg,
            way,
            copy,
            below: Vec::new(),
        }
    }

    /// Its value now.
    pub fn value(&self) -> mlua::Result<Arg> {
        if let Some(copy) = &*self.copy.borrow() {
            let part = self.below.iter().try_fold(&copy.value, member);
            return Ok(part.cloned().unwrap_or(Arg::Addr(0)));
        }
        let value = self.call.with(|call| call.look(self.arg, &self.way))?;
        Ok(after(value.unwrap_or(Arg::Addr(0))))
    }

    /// The pointer and the length, where it is a vector.
    pub fn vector(&self) -> mlua::Result<Option<[u8; VECTOR]>> {
        match &*self.copy.borrow() {
            Some(copy) if self.below.is_empty() => Ok(copy.vector),
            Some(_) => Ok(None),
            None => self.call.with(|call| call.vector(self.arg, &self.way)),
        }
    }

    /// One of its members or elements, for a script.
    fn look(&self, lua: &Lua, step: PathStep) -> mlua::Result<Value> {
        if self.copy.borrow().is_none() {
            let mut way = self.way.clone();
            way.push(step);
            return look(lua, &self.call, self.arg, way);
        }
        let Some(value) = member(&self.value()?, &step).cloned() else {
            return Ok(Value::Nil);
        };
        let mut below = self.below.clone();
        below.push(step);
        let part = Structure {
            call: self.call.clone(),
            arg: self.arg,
            way: Vec::new(),
            copy: Rc::clone(&self.copy),
            below,
        };
        to_script(lua, value, || part)
    }

    fn set(&self, step: PathStep, value: &Value) -> mlua::Result<()> {
        let mut way = self.way.clone();
        if self.copy.borrow().is_none() {
            way.push(step);
            return set(&self.call, self.arg, &way, value);
        }
        let value = to_arg(value, 0)?;
        let mut copy = self.copy.borrow_mut();
        let steps = self.below.iter().chain([&step]);
        let whole = copy.as_mut().map(|copy| {
            copy.vector = None;
            &mut copy.value
        });
        if let Some(place) = steps.fold(whole, |part, step| member_mut(part?, step)) {
            // A string replaces a string as text, and anything else by its meaning.
            *place = match (value, &*place) {
                (Arg::Written { text, .. }, Arg::Str { .. }) => Arg::str(text.to_vec()),
                (value, _) => value.meaning().clone(),
            };
        }
        Ok(())
    }

    /// The step to the member or element that a key names; `None` where this structure or list has none of the kind.
    fn find(&self, key: &Value) -> mlua::Result<Option<PathStep>> {
        Ok(Some(match (key, self.value()?) {
            (Value::Integer(i), Arg::Array { .. }) => {
                let index = usize::try_from(*i).ok().and_then(|i| i.checked_sub(1));
                match index {
                    Some(index) => PathStep::Element(index),
                    None => return Ok(None),
                }
            }
            (Value::String(name), Arg::Struct { fields, .. }) => {
                let name = name.to_string_lossy();
                if !syscall::is_member(&name) && fields.iter().all(|f| f.name != name) {
                    let own = fields.iter().map(|field| field.name.as_str());
                    let mut alike: Vec<String> =
                        near(&name, own).into_iter().map(String::from).collect();
                    if alike.is_empty() {
                        alike.extend(syscall::near_member(&name).into_iter().map(String::from));
                    }
                    let hint = did_you_mean(&alike);
                    return Err(raise(format!("no structure has a member {name:?}{hint}")));
                }
                PathStep::Member(name)
            }
            (key, Arg::Array { .. }) => {
                return Err(raise(format!(
                    "this is a list, whose elements have numbers, not {}",
                    shown(key)
                )));
            }
            (key, _) => {
                return Err(raise(format!(
                    "this is a structure, whose members have names, not {}",
                    shown(key)
                )));
            }
        }))
    }

    fn keys(&self) -> mlua::Result<Vec<PathStep>> {
        Ok(match self.value()? {
            Arg::Array { items, .. } => (0..items.len()).map(PathStep::Element).collect(),
            Arg::Struct { fields, .. } => fields
                .into_iter()
                .filter(|field| !field.name.is_empty())
                .map(|field| PathStep::Member(field.name))
                .collect(),
            _ => Vec::new(),
        })
    }
}

/// Has the views of a part of an argument take copies, before something else is put there.
pub(super) fn detach(call: &CallData, arg: usize, way: &[PathStep]) -> mlua::Result<()> {
    let views = call.views();
    let mut views = views.borrow_mut();
    let mut left = Vec::new();
    for view in views.0.drain(..) {
        let Some(copy) = view.copy.upgrade() else {
            continue;
        };
        if view.arg != arg || !view.way.starts_with(way) {
            left.push(view);
            continue;
        }
        let (value, vector) =
            call.with(|call| (call.look(arg, &view.way), call.vector(arg, &view.way)))?;
        *copy.borrow_mut() = Some(Snapshot {
            value: after(value.unwrap_or(Arg::Addr(0))),
            vector,
        });
    }
    views.0 = left;
    Ok(())
}

/// An argument, or a part of one, for a script.
pub(super) fn look(
    lua: &Lua,
    call: &CallData,
    arg: usize,
    way: Vec<PathStep>,
) -> mlua::Result<Value> {
    match call.with(|call| call.look(arg, &way))? {
        Some(value) => to_script(lua, value, || Structure::of(call, arg, way)),
        None => Ok(Value::Nil),
    }
}

/// A value for a script; `part` is what it gets of structures and lists.
fn to_script(lua: &Lua, value: Arg, part: impl FnOnce() -> Structure) -> mlua::Result<Value> {
    if let Some(n) = value.as_i64() {
        return Ok(Value::Integer(n));
    }
    match after(value) {
        Arg::Array { .. } | Arg::Struct { .. } => part().into_lua(lua),
        other => values::to_lua(lua, &other),
    }
}

/// The meaning of a value; of an in-out argument, that which the kernel left.
fn after(value: Arg) -> Arg {
    match value.meaning() {
        Arg::Change { after, .. } => after.meaning().clone(),
        plain => plain.clone(),
    }
}

fn member<'a>(value: &'a Arg, step: &PathStep) -> Option<&'a Arg> {
    match (value.meaning(), step) {
        (Arg::Change { after, .. }, step) => member(after, step),
        (Arg::Array { items, .. }, PathStep::Element(index)) => items.get(*index),
        (value, PathStep::Member(name)) => value.field(name),
        _ => None,
    }
}

/// The same, to be set: a member that is not there is added.
fn member_mut<'a>(value: &'a mut Arg, step: &PathStep) -> Option<&'a mut Arg> {
    if !matches!(value, Arg::Array { .. } | Arg::Struct { .. }) {
        *value = after(value.clone());
    }
    match (value, step) {
        (Arg::Array { items, .. }, PathStep::Element(index)) => items.get_mut(*index),
        (Arg::Struct { fields, .. }, PathStep::Member(name)) => {
            if !fields.iter().any(|field| field.name == *name) {
                fields.push(Field::new(name.clone(), Arg::Int(0)));
            }
            let mut fields = fields.iter_mut();
            let field = fields.find(|field| field.name == *name)?;
            Some(&mut field.value)
        }
        _ => None,
    }
}

/// Sets an argument, or a part of one.
pub(super) fn set(
    call: &CallData,
    arg: usize,
    way: &[PathStep],
    value: &Value,
) -> mlua::Result<()> {
    let vector = match value {
        Value::UserData(data) if data.is::<Structure>() => data.borrow::<Structure>()?.vector()?,
        _ => None,
    };
    let value = to_arg(value, 0)?;
    detach(call, arg, way)?;
    if let Some(vector) = vector
        && call.with_mut(|call| call.set_vector(arg, way, vector).map_err(raise))?
    {
        return Ok(());
    }
    call.with_mut(|call| call.change(arg, way, &value).map_err(raise))
}

/// A value that a script writes, as a value of a call. Of a string, both the text and its meaning in strace's syntax are
/// kept, since the argument decides which of them counts.
pub(super) fn to_arg(value: &Value, depth: usize) -> mlua::Result<Arg> {
    if depth > DEEPEST {
        return Err(raise("a table in a table in a table …: too deep"));
    }
    match value {
        Value::Integer(n) => Ok(Arg::Int(*n)),
        Value::String(text) => {
            let text = text.as_bytes().to_vec();
            let parsed = std::str::from_utf8(&text).ok().and_then(|text| {
                let parsed = strace::value_from_text(text).ok();
                parsed.filter(|value| !matches!(value, Arg::Written { .. }))
            });
            let raw = || Arg::Raw(format!("{:?}", String::from_utf8_lossy(&text)));
            Ok(Arg::Written {
                value: Box::new(parsed.unwrap_or_else(raw)),
                text: text.into(),
            })
        }
        Value::Table(table) => of_table(table, depth),
        Value::UserData(data) if data.is::<Structure>() => data.borrow::<Structure>()?.value(),
        number @ Value::Number(_) => convert::integer(number, "a number in a call").map(Arg::Int),
        other => Err(raise(format!(
            "an argument is a number, a string or a table, not {}",
            shown(other)
        ))),
    }
}

/// A list, or a structure.
fn of_table(table: &Table, depth: usize) -> mlua::Result<Arg> {
    let mut fields = Vec::new();
    let mut items = 0;
    table.for_each(|key: Value, value: Value| {
        match key {
            Value::Integer(_) => items += 1,
            Value::String(name) => {
                let value = to_arg(&value, depth + 1)?;
                fields.push(Field::new(name.to_string_lossy(), value));
            }
            other => {
                return Err(raise(format!(
                    "members have names and elements numbers, not {}",
                    shown(&other)
                )));
            }
        }
        Ok(())
    })?;
    if !fields.is_empty() {
        if items > 0 {
            return Err(raise("a table is a structure or a list, not both"));
        }
        fields.sort_by(|a, b| a.name.cmp(&b.name));
        let cut = false;
        return Ok(Arg::Struct { fields, cut });
    }
    let mut list = Vec::new();
    for item in table.sequence_values::<Value>() {
        list.push(to_arg(&item?, depth + 1)?);
    }
    if list.len() != items {
        return Err(raise("a list has no holes, and begins at 1"));
    }
    let (items, cut) = (list, false);
    Ok(Arg::Array { items, cut })
}

impl UserData for Structure {
    fn add_fields<F: UserDataFields<Self>>(fields: &mut F) {
        fields.add_meta_field(MetaMethod::Type, "Structure");
    }

    fn add_methods<M: UserDataMethods<Self>>(methods: &mut M) {
        methods.add_meta_method(MetaMethod::Index, |lua, this, key: Value| {
            match this.find(&key)? {
                Some(step) => this.look(lua, step),
                None => Ok(Value::Nil),
            }
        });
        methods.add_meta_method(
            MetaMethod::NewIndex,
            |_, this, (key, value): (Value, Value)| match this.find(&key)? {
                Some(step) => this.set(step, &value),
                None => Err(raise(format!("there is no element {}", shown(&key)))),
            },
        );
        methods.add_meta_method(MetaMethod::Len, |_, this, ()| Ok(this.keys()?.len()));
        methods.add_meta_method(MetaMethod::Pairs, |lua, this, ()| {
            let mut entries = Vec::new();
            for step in this.keys()? {
                let key = match &step {
                    PathStep::Element(index) => Value::Integer(*index as i64 + 1),
                    PathStep::Member(name) => Value::String(lua.create_string(name)?),
                };
                entries.push((key, this.look(lua, step)?));
            }
            pairs(lua, entries)
        });
        methods.add_meta_method(MetaMethod::ToString, |_, this, ()| {
            this.value().map(|value| value.to_string())
        });
    }
}
