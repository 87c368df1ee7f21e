//! Checks of the machine for the features that rrapper needs, with advice for missing ones.
//!
//! Each feature is tried, in a process that ends with the check, or on files without a name. Nothing is left behind.

mod child;
mod machine;
mod sandbox;
mod trial;

use std::fmt;
use std::path::Path;

/// The result of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// The feature works.
    Ok,
    /// The feature is missing.
    Lack,
    /// Information without consequences.
    Note,
}

impl State {
    /// The word that is printed.
    pub fn name(self) -> &'static str {
        match self {
            State::Ok => "ok",
            State::Lack => "lack",
            State::Note => "note",
        }
    }
}

/// A finding about one feature.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The name of the feature.
    pub name: &'static str,
    /// The result.
    pub state: State,
    /// The attempt, and its result.
    pub tried: String,
    /// The consequences for users.
    pub means: &'static str,
    /// Advice; empty where there is nothing to do.
    pub advice: String,
    /// Whether recording, replay and injection need the feature.
    pub essential: bool,
}

impl Finding {
    fn new(
        state: State,
        name: &'static str,
        tried: impl Into<String>,
        means: &'static str,
    ) -> Finding {
        Finding {
            name,
            state,
            tried: tried.into(),
            means,
            advice: String::new(),
            essential: false,
        }
    }

    fn ok(name: &'static str, tried: impl Into<String>, means: &'static str) -> Finding {
        Finding::new(State::Ok, name, tried, means)
    }

    fn note(name: &'static str, tried: impl Into<String>, means: &'static str) -> Finding {
        Finding::new(State::Note, name, tried, means)
    }

    fn lack(
        name: &'static str,
        tried: impl Into<String>,
        means: &'static str,
        advice: impl Into<String>,
    ) -> Finding {
        let mut finding = Finding::new(State::Lack, name, tried, means);
        finding.advice = advice.into();
        finding
    }

    fn advise(mut self, advice: impl Into<String>) -> Finding {
        self.advice = advice.into();
        self
    }

    fn essential(mut self) -> Finding {
        self.essential = true;
        self
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (state, name) = (self.state.name(), self.name);
        write!(f, "{state:<4}  {name:<19} {}: {}", self.tried, self.means)?;
        if !self.advice.is_empty() {
            write!(f, " -> {}", self.advice)?;
        }
        Ok(())
    }
}

/// Runs all checks. `place` is the directory for recordings; it need not exist yet.
pub fn examine(place: &Path) -> Vec<Finding> {
    let mut findings = machine::examine();
    findings.extend(child::examine());
    findings.push(sandbox::examine());
    findings.extend(machine::recordings_dir(place));
    findings.extend(machine::programs());
    findings.push(trial::examine());
    findings
}

/// Whether recording, replay and injection work.
pub fn works(findings: &[Finding]) -> bool {
    let broken = |f: &Finding| f.essential && f.state == State::Lack;
    !findings.iter().any(broken)
}
