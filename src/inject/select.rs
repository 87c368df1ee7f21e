//! The selection of calls: strace's expressions for sets of calls and for `when`, and patterns for paths.

use crate::syscall::{self, Syscall};
use crate::trace::{CallFiles, file_names};

/// A set of calls, in strace's syntax.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selector {
    text: String,
    terms: Vec<Term>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Term {
    negated: bool,
    matcher: Matcher,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Matcher {
    All,
    Class(String),
    /// The calls whose names match a pattern.
    Pattern(Vec<&'static str>),
    Name(&'static str),
}

/// The name of an unknown call or class.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UnknownCall {
    /// There is no call of this name.
    #[error("unknown system call {name:?}{}", did_you_mean(.suggestions))]
    Name {
        /// The name.
        name: String,
        /// Similar names.
        suggestions: Vec<&'static str>,
    },
    /// There is no class of this name.
    #[error(
        "unknown class {name:?}: classes are %file, %desc, %network, %process, %signal, %memory, %ipc, %%stat \
         and the others of strace's"
    )]
    Class {
        /// The name.
        name: String,
    },
    /// No call's name matches the pattern.
    #[error("{pattern} matches the name of no system call")]
    Pattern {
        /// The pattern as written.
        pattern: String,
    },
}

fn did_you_mean(names: &[&'static str]) -> String {
    match names {
        [] => String::new(),
        names => {
            let names: Vec<String> = names.iter().map(|name| format!("{name:?}")).collect();
            format!("; did you mean {}?", names.join(" or "))
        }
    }
}

impl Selector {
    /// Reads `name`, `name,name`, `%class`, `!name`, `*`, `*stat*`. Old and i386 names are aliases; `stat64` is the
    /// whole stat family. A `!` at the beginning negates all terms, as with strace; a later one negates its own term.
    ///
    /// # Errors
    /// If there is no call of a name.
    pub fn parse(text: &str) -> Result<Selector, UnknownCall> {
        let mut terms = Vec::new();
        let all_negated = text.trim_start().starts_with('!');
        for part in text
            .split(',')
            .map(str::trim)
            .filter(|part| !part.is_empty())
        {
            let (negated, name) = match part.strip_prefix('!') {
                Some(name) => (true, name),
                None => (all_negated, part),
            };
            let matcher = if matches!(name, "*" | "all" | "%all") {
                Matcher::All
            } else if name == "stat64" {
                // Newer programs make one of several calls instead of this one.
                class("%%stat")?
            } else if name.starts_with('%') {
                class(name)?
            } else if name.contains(['*', '?', '[']) {
                let pattern = glob::Pattern::new(name).ok();
                let matches = |call: &str| pattern.as_ref().is_some_and(|p| p.matches(call));
                among(name, matches)?
            } else {
                Matcher::Name(lookup(name)?.name)
            };
            terms.push(Term { negated, matcher });
        }
        Ok(Selector {
            text: text.to_string(),
            terms,
        })
    }

    /// The calls whose names match; `text` describes the selection in messages.
    ///
    /// # Errors
    /// If no call's name matches.
    pub fn matching(
        text: impl Into<String>,
        matches: impl Fn(&str) -> bool,
    ) -> Result<Selector, UnknownCall> {
        let text = text.into();
        let matcher = among(&text, matches)?;
        let negated = false;
        let terms = vec![Term { negated, matcher }];
        Ok(Selector { text, terms })
    }

    /// The calls of both selections, if neither has negated terms.
    #[must_use]
    pub fn or(mut self, other: Selector) -> Selector {
        self.text = format!("{},{}", self.text, other.text);
        self.terms.extend(other.terms);
        self
    }

    /// Returns whether the selection contains a call.
    pub fn matches(&self, call: &Syscall) -> bool {
        let hit = |term: &Term| match &term.matcher {
            Matcher::All => true,
            Matcher::Class(class) => call.is_in_class(class),
            Matcher::Pattern(names) => names.contains(&call.name),
            Matcher::Name(name) => *name == call.name,
        };
        let only_negated = self.terms.iter().all(|term| term.negated);
        let wanted = only_negated || self.terms.iter().any(|term| !term.negated && hit(term));
        wanted && !self.terms.iter().any(|term| term.negated && hit(term))
    }

    /// Returns whether the selection contains the call of this name. An unknown call has no class, and no name that a
    /// selection can have.
    pub fn matches_name(&self, name: &str) -> bool {
        match syscall::by_name(name) {
            Some(call) => self.matches(call),
            None => self
                .terms
                .iter()
                .all(|term| term.negated != (term.matcher == Matcher::All)),
        }
    }

    /// Returns whether the selection contains a call or one of its variants.
    pub fn matches_any(&self, call: &Syscall) -> bool {
        self.matches(call)
            || call
                .variant_calls()
                .any(|variant| self.matches_any(variant))
    }

    /// Returns whether the selection contains a call or one of its variants by its name or its class, and not only by
    /// `*`.
    pub fn names(&self, call: &Syscall) -> bool {
        let hit = |term: &Term| match &term.matcher {
            Matcher::All => false,
            Matcher::Class(class) => call.is_in_class(class),
            Matcher::Pattern(names) => names.contains(&call.name),
            Matcher::Name(name) => *name == call.name,
        };
        let named = self.terms.iter().any(|term| !term.negated && hit(term));
        named && self.matches(call) || call.variant_calls().any(|variant| self.names(variant))
    }

    /// The rank of the selection from general to specific: all calls (0), classes (1), patterns (2), names (3).
    pub fn rank(&self) -> u8 {
        let rank = |term: &Term| match term.matcher {
            Matcher::All => 0,
            Matcher::Class(_) => 1,
            Matcher::Pattern(_) => 2,
            Matcher::Name(_) => 3,
        };
        self.terms.iter().map(rank).min().unwrap_or(0)
    }
}

fn among(text: &str, matches: impl Fn(&str) -> bool) -> Result<Matcher, UnknownCall> {
    let names: Vec<&'static str> = syscall::names().filter(|name| matches(name)).collect();
    match names.is_empty() {
        true => Err(UnknownCall::Pattern {
            pattern: text.to_string(),
        }),
        false => Ok(Matcher::Pattern(names)),
    }
}

fn class(name: &str) -> Result<Matcher, UnknownCall> {
    let mut calls = syscall::names().filter_map(syscall::by_name);
    if calls.any(|call| call.is_in_class(name)) {
        return Ok(Matcher::Class(name.to_string()));
    }
    Err(UnknownCall::Class {
        name: name.to_string(),
    })
}

/// The call of this name or alias.
///
/// # Errors
/// If there is none; the error has similar names.
pub(crate) fn lookup(name: &str) -> Result<&'static Syscall, UnknownCall> {
    syscall::by_name(name).ok_or_else(|| UnknownCall::Name {
        name: name.to_string(),
        suggestions: syscall::suggest(name),
    })
}

impl std::fmt::Display for Selector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}

/// strace's `when`: `first`, `first+`, `first+step`, `first..last`, `first..last+step`, counted from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct When {
    first: u64,
    last: u64,
    step: u64,
}

impl Default for When {
    fn default() -> When {
        When {
            first: 1,
            last: u64::MAX,
            step: 1,
        }
    }
}

impl When {
    /// Reads strace's syntax.
    ///
    /// # Errors
    /// If the text is not in that syntax; the error says what is expected.
    pub fn parse(text: &str) -> Result<When, String> {
        let wrong =
            || format!("{text:?} is not first[..last][+step], as in \"3\", \"2..5\" or \"1+2\"");
        let number = |text: &str| {
            text.trim()
                .parse::<u64>()
                .ok()
                .filter(|&n| n > 0)
                .ok_or_else(wrong)
        };
        let (range, step) = match text.split_once('+') {
            Some((range, "")) => (range, Some(1)),
            Some((range, step)) => (range, Some(number(step)?)),
            None => (text, None),
        };
        let (first, last) = match range.split_once("..") {
            Some((first, last)) => (number(first)?, Some(number(last)?)),
            None => (number(range)?, None),
        };
        let last = match (last, step) {
            (Some(last), _) if last < first => return Err(wrong()),
            (Some(last), _) => last,
            (None, Some(_)) => u64::MAX,
            (None, None) => first,
        };
        Ok(When {
            first,
            last,
            step: step.unwrap_or(1),
        })
    }

    /// Returns whether the nth call, counted from 1, is selected.
    pub fn holds(&self, n: u64) -> bool {
        (self.first..=self.last).contains(&n) && (n - self.first).is_multiple_of(self.step)
    }
}

/// A pattern for paths.
#[derive(Clone, Debug)]
pub enum PathPattern {
    /// A path or a shell pattern (`*` also matches slashes).
    Glob(glob::Pattern),
    /// A regular expression, matched anywhere.
    Regex(regex::bytes::Regex),
}

impl PathPattern {
    /// The pattern of a path or of a shell pattern. The path is normalized.
    ///
    /// # Errors
    /// If the text is no shell pattern.
    pub fn glob(text: &str) -> Result<PathPattern, glob::PatternError> {
        let text = file_names::normalize(text.as_bytes());
        glob::Pattern::new(&String::from_utf8_lossy(&text)).map(PathPattern::Glob)
    }

    /// The path, if the pattern is a path without wildcards.
    pub fn exact(&self) -> Option<&str> {
        match self {
            PathPattern::Glob(glob) => {
                Some(glob.as_str()).filter(|text| !text.contains(['*', '?', '[']))
            }
            PathPattern::Regex(_) => None,
        }
    }

    /// Returns whether the pattern matches one of these files by any of its names.
    pub fn means(&self, about: &CallFiles) -> bool {
        if about.is_meant(|name| self.matches(name)) {
            return true;
        }
        let Some(path) = self.exact() else {
            return false;
        };
        let mut dirs = about.dirs.iter().filter(|dir| !dir.is_empty());
        dirs.any(|dir| {
            let place = file_names::join(dir, path.as_bytes());
            about
                .files
                .iter()
                .any(|file| file.absolute.contains(&place))
        })
    }

    /// Returns whether the pattern matches a path.
    pub fn matches(&self, path: &[u8]) -> bool {
        match self {
            PathPattern::Glob(glob) => {
                let path = String::from_utf8_lossy(path);
                glob.as_str() == path || glob.matches(&path)
            }
            PathPattern::Regex(regex) => regex.is_match(path),
        }
    }
}
