//! `on_divergence`: a word, or a function that is asked.

use super::super::convert;
use super::super::error::{did_you_mean, near, raise, shown};
use crate::inject::OnDivergence;
use mlua::{Function, MultiValue, Value};

/// The reaction to a process that leaves the trace.
pub(super) enum Diverged {
    Always(OnDivergence),
    Ask(Function),
}

impl Default for Diverged {
    fn default() -> Diverged {
        Diverged::Always(OnDivergence::Stop)
    }
}

impl Diverged {
    /// Reads the option.
    pub fn read(value: &Value) -> mlua::Result<Diverged> {
        match value {
            Value::Function(function) => Ok(Diverged::Ask(function.clone())),
            other => fixed_answer(other).map(Diverged::Always),
        }
    }
}

/// Reads a word for `on_divergence`. `skip` and `answer` have a number beside them, which only a function returns.
fn fixed_answer(value: &Value) -> mlua::Result<OnDivergence> {
    match value {
        Value::String(word) if matches!(&*word.as_bytes(), b"stop" | b"live" | b"kill") => {
            answer_of(MultiValue::from_iter([value.clone()]))
        }
        Value::String(word) => Err(wrong_divergence(&format!("{:?}", word.to_string_lossy()))),
        other => Err(wrong_divergence(&shown(other))),
    }
}

/// Reads the results of a function for `on_divergence`.
pub(super) fn answer_of(values: MultiValue) -> mlua::Result<OnDivergence> {
    let mut values = values.into_iter();
    let what = values.next().unwrap_or(Value::Nil);
    let second = values.next().unwrap_or(Value::Nil);
    let Value::String(word) = &what else {
        return match what {
            Value::Nil => Ok(OnDivergence::Stop),
            other => Err(wrong_divergence(&shown(&other))),
        };
    };
    match &*word.to_string_lossy() {
        "stop" | "kill" => Ok(OnDivergence::Stop),
        "live" => Ok(OnDivergence::Live),
        "skip" => match second {
            Value::Nil => Ok(OnDivergence::Skip(1)),
            n => match convert::count(&n, "how many calls to skip")? {
                0 => Err(raise(
                    "how many calls to skip must be more than 0: the same one would be met again",
                )),
                n => Ok(OnDivergence::Skip(usize::try_from(n).unwrap_or(usize::MAX))),
            },
        },
        "answer" => convert::ret(&second, "the answer").map(OnDivergence::Answer),
        word => Err(wrong_divergence(&format!("{word:?}"))),
    }
}

fn wrong_divergence(what: &str) -> mlua::Error {
    let word = what.trim_matches('"');
    let known = ["stop", "live", "skip", "answer", "kill"];
    let near = match known.contains(&word) {
        true => Vec::new(),
        false => near(word, known),
    };
    let hint = did_you_mean(&near);
    raise(format!(
        "on_divergence is \"stop\" or \"live\", or a function that returns one of them, \"skip\", n or \"answer\", ret: \
         not {what}{hint}"
    ))
}
