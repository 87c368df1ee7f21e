//! Hostile programs in the sandbox: the machine is the same afterwards, and no injection leaves a trace for another.
//!
//! - `probes`: a program that tries everything by name; the table `expected` has the result of each attempt
//! - `isolation`: many injections, each of which leaves what it can and looks for what the others have left
//! - `changes`: each sees what has changed on the machine
//! - `any_calls`: a program that makes any calls

#[path = "../common/mod.rs"]
mod common;

mod any_calls;
mod changes;
mod isolation;
mod probes;
mod table;
mod world;

use common::machine;
use std::time::Duration;

/// The same tests as a user without privileges, where they run as root.
#[test]
fn all_that_holds_without_privileges() {
    // This process adopts the other one's orphans, too.
    let _turn = machine::turn();
    common::as_user(&[]);
}

#[test]
fn no_injection_sees_another() {
    isolation::check(200, 15);
}

#[test]
fn any_calls_leave_the_machine_as_it_was() {
    // SAFETY: geteuid(2) takes nothing.
    let user = unsafe { libc::geteuid() };
    any_calls::check(if user == 0 { 1 } else { 1001 }, Duration::from_secs(10));
}
