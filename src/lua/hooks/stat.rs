//! `call.stat`: the file status that a call returned.

use super::super::error::{no_such, raise};
use super::loan::CallData;
use super::structure::to_arg;
use crate::inject::STAT;
use mlua::{MetaMethod, UserData, UserDataFields, UserDataMethods, Value};

/// A file's status.
pub(super) struct Stat(pub CallData);

fn name(key: &Value) -> mlua::Result<String> {
    match key {
        Value::String(name) if STAT.contains(&name.to_string_lossy().as_ref()) => {
            Ok(name.to_string_lossy())
        }
        _ => Err(no_such("a file's status", key, &STAT)),
    }
}

impl UserData for Stat {
    fn add_fields<F: UserDataFields<Self>>(fields: &mut F) {
        fields.add_meta_field(MetaMethod::Type, "Stat");
    }

    fn add_methods<M: UserDataMethods<Self>>(methods: &mut M) {
        methods.add_meta_method(MetaMethod::Index, |_, this, key: Value| {
            let name = name(&key)?;
            this.0.with(|call| call.stat(&name))
        });
        methods.add_meta_method(
            MetaMethod::NewIndex,
            |_, this, (key, value): (Value, Value)| {
                let name = name(&key)?;
                let value = to_arg(&value, 0)?;
                this.0
                    .with_mut(|call| call.set_stat(&name, &value).map_err(raise))
            },
        );
        methods.add_meta_method(MetaMethod::ToString, |_, this, ()| {
            this.0.with(|call| {
                let members = STAT.iter().filter_map(|name| {
                    let value = call.stat(name)?;
                    Some(format!("{name}={value}"))
                });
                format!("{{{}}}", members.collect::<Vec<_>>().join(", "))
            })
        });
    }
}
