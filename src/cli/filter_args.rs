//! The syntax of filter options, for recordings and traces alike.

use crate::constants;
use crate::inject::PathPattern;
use crate::trace::{CallFiles, Failed, Predicate};
use anyhow::{Context, bail};

/// `--path GLOB`.
pub(super) fn path(text: &str) -> anyhow::Result<Predicate<CallFiles>> {
    let glob = PathPattern::glob(text).with_context(|| format!("{text:?} is no shell pattern"))?;
    Ok(Box::new(move |about| glob.means(about)))
}

/// `--failed`, `--failed=ERRNO`.
pub(super) fn failed(option: Option<&Option<String>>) -> anyhow::Result<Option<Failed>> {
    Ok(match option {
        None => None,
        Some(None) => Some(Failed::Any),
        Some(Some(name)) => match constants::errno(name).or_else(|| name.parse().ok()) {
            Some(errno) => Some(Failed::With(errno)),
            None => bail!(
                "unknown errno {name:?}{}",
                near(&constants::suggest_errno(name))
            ),
        },
    })
}

fn near(names: &[&str]) -> String {
    let names: Vec<String> = names.iter().map(|name| format!("{name:?}")).collect();
    match names.as_slice() {
        [] => String::new(),
        names => format!("; did you mean {}?", names.join(" or ")),
    }
}
