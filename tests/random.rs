//! Random numbers that a program takes from the processor are recorded.

use crate::common::Folder;
use crate::common::whole::{self, Program};
use std::time::Duration;

#[track_caller]
fn check(name: &str, options: &[&str], strip: bool) {
    // Without the instruction there is nothing to record.
    if !std::arch::is_x86_feature_detected!("rdrand") {
        return;
    }
    let folder = Folder::new();
    let options = [&["-pthread", "-mrdrnd", "-mrdseed"], options].concat();
    let program = folder.compile_as(name, "random", &options);
    if strip {
        let status = std::process::Command::new("strip").arg(&program).status();
        assert!(status.unwrap().success());
    }
    let mut argv = vec![program];
    if std::arch::is_x86_feature_detected!("rdseed") {
        argv.push("seed".into());
    }
    whole::check(&Program {
        name,
        argv,
        same: false,
        limit: Duration::from_secs(60),
        spins: 5,
        env: Vec::new(),
    });
}

#[test]
fn numbers_of_the_processor_are_recorded() {
    check("numbers", &["-O1"], false);
}

#[test]
fn numbers_of_a_static_program_without_symbols_are_recorded() {
    check("static_numbers", &["-O2", "-static"], true);
}
