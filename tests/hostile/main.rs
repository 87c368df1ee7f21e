//! Hostile programs in the sandbox: the machine is the same afterwards, and no injection leaves a trace for another.
//!
//! - `probes`: a program that tries everything by name; the table `expected` has the result of each attempt
//! - `isolation`: many injections, each of which leaves what it can and looks for what the others have left
//! - `any_calls`: a program that makes any calls

#[path = "../common/mod.rs"]
mod common;

mod any_calls;
mod isolation;
mod probes;
mod table;
mod world;

use common::machine;

/// The same tests as a user without privileges, where they run as root.
#[test]
fn all_that_holds_without_privileges() {
    // This process adopts the other one's orphans, too.
    let _turn = machine::turn();
    common::as_user(&[]);
}
