//! What this machine supports of all that rrapper builds on, and what to do about each lack.
//!
//! Everything is tried for real, in a process made for it that ends with the question, or on files without
//! a name. Nothing is left behind.

mod child;
mod machine;
mod sandbox;
mod trial;

use std::fmt;
use std::path::Path;

/// What was found out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It works.
    Ok,
    /// It does not.
    Lack,
    /// Good to know.
    Note,
}

impl State {
    /// The word for it.
    pub fn name(self) -> &'static str {
        match self {
            State::Ok => "ok",
            State::Lack => "lack",
            State::Note => "note",
        }
    }
}

/// One thing that was looked into.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What it is about.
    pub name: &'static str,
    /// How it is.
    pub state: State,
    /// What was tried or read, and what came of it.
    pub tried: String,
    /// What that means for whoever uses rrapper.
    pub means: &'static str,
    /// What to do about it; empty where there is nothing to do.
    pub advice: String,
    /// Whether nothing can be recorded, replayed or injected without it.
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

/// Looks into everything. `place` is where recordings will be kept; it need not exist yet.
pub fn examine(place: &Path) -> Vec<Finding> {
    let mut findings = machine::examine();
    findings.extend(child::examine());
    findings.push(sandbox::examine());
    findings.extend(machine::place(place));
    findings.extend(machine::programs());
    findings.push(trial::examine());
    findings
}

/// Whether recording, replay and injection work.
pub fn works(findings: &[Finding]) -> bool {
    let broken = |f: &Finding| f.essential && f.state == State::Lack;
    !findings.iter().any(broken)
}
