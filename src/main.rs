//! The `rrapper` command.

fn main() -> ! {
    std::process::exit(rrapper::cli::run(std::env::args_os()))
}
