//! Constants together with the numbers of calls: `__NR_read` is the number in the table.

use super::by_name;
use crate::constants;

fn number(name: &str) -> Option<i64> {
    let call = by_name(name.strip_prefix("__NR_")?)?;
    Some(call.nr.into())
}

/// The value of a constant by its full name: as [`constants::value`], and `__NR_read`.
pub fn constant(name: &str) -> Option<i64> {
    number(name).or_else(|| constants::value(name))
}

/// The value of an expression: as [`constants::eval`], and `__NR_read`.
pub fn eval(expression: &str) -> Option<i64> {
    number(expression).or_else(|| constants::eval(expression))
}
