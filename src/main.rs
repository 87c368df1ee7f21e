//! The `rrapper` command.

fn main() {}
