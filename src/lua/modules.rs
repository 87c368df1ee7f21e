//! The modules that scripts can `require`: all files of `lua-stdlib/rrapper`, embedded.
//!
//! `require "rrapper.NAME"` loads `NAME.lua`. The build script (`src/build.rs`) has Cargo notice a new file.

use include_dir::{Dir, include_dir};
use mlua::{Lua, Table, Value};

static MODULES: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/lua-stdlib/rrapper");

/// Lets scripts `require` the modules.
pub(super) fn install(lua: &Lua) -> mlua::Result<()> {
    let preload: Table = lua.globals().get::<Table>("package")?.get("preload")?;
    for file in MODULES.files() {
        let Some(stem) = file
            .path()
            .to_str()
            .and_then(|path| path.strip_suffix(".lua"))
        else {
            continue;
        };
        let name = format!("rrapper.{stem}");
        let chunk = format!("={name}");
        let loader = lua.create_function(move |lua, (): ()| {
            let module = lua.load(file.contents()).set_name(chunk.as_str());
            module.eval::<Value>()
        })?;
        preload.set(name, loader)?;
    }
    Ok(())
}
