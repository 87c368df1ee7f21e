//! The build script: has a module that is added to the Lua standard library embedded by the next build.

fn main() {
    println!("cargo::rerun-if-changed=lua-stdlib/rrapper");
}
