//! Reads `errors.tbl`.

use super::{Class, Condition, Plausible, Scope, Table};
use crate::constants;
use crate::syscall::by_name;
use std::collections::HashMap;

/// What has been read so far.
#[derive(Default)]
struct Reader {
    /// The answers by the words that stand for them: `EIO`, `ENOSPC/limit`.
    cases: HashMap<&'static str, Plausible>,
    sets: HashMap<&'static str, Vec<Plausible>>,
    table: Table,
}

/// Reads the table. What is wrong in it is left out, and listed in its errors.
pub(super) fn read(text: &'static str) -> Table {
    let mut reader = Reader::default();
    for words in entries(text) {
        if let Err(error) = reader.read(&words) {
            let words = words.join(" ");
            reader.table.errors.push(format!("{words}: {error}"));
        }
    }
    for answers in reader.table.answers.values_mut() {
        answers.sort_by_key(|answer| (answer.class, answer.name()));
    }
    reader.table
}

/// The words of each entry: a line, with the indented lines that continue it.
fn entries(text: &'static str) -> Vec<Vec<&'static str>> {
    let mut entries: Vec<Vec<&'static str>> = Vec::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let words = line.split_whitespace();
        match entries.last_mut() {
            Some(entry) if line.starts_with(' ') => entry.extend(words),
            _ if line.trim().is_empty() => {}
            _ => entries.push(words.collect()),
        }
    }
    entries
}

impl Reader {
    fn read(&mut self, words: &[&'static str]) -> Result<(), String> {
        let Some(last) = words.iter().position(|word| word.ends_with(':')) else {
            return self.read_case(words);
        };
        let (names, answers) = words.split_at(last + 1);
        let mut expected = Vec::new();
        for word in answers {
            match self.sets.get(word) {
                Some(set) => expected.extend_from_slice(set),
                None => expected.push(self.case(word)?),
            }
        }
        for name in names.iter().map(|name| name.trim_end_matches(':')) {
            if name.starts_with('@') {
                self.sets.insert(name, expected.clone());
                continue;
            }
            if by_name(name).is_none_or(|call| call.name != name) {
                return Err(format!("there is no call {name}"));
            }
            if self.table.answers.insert(name, expected.clone()).is_some() {
                return Err(format!("{name} has two lines"));
            }
        }
        Ok(())
    }

    /// Reads `ERRNO[/CASE] CLASS SCOPE [CONDITION…]`.
    fn read_case(&mut self, words: &[&'static str]) -> Result<(), String> {
        let [word, class, scope, conditions @ ..] = words else {
            return Err(String::from("ERRNO CLASS SCOPE [CONDITION…]"));
        };
        let conditions = conditions.iter().map(|name| {
            Condition::of_name(name).ok_or_else(|| format!("there is no condition {name}"))
        });
        let case = Plausible {
            errno: errno(word)?,
            class: Class::of_name(class).ok_or_else(|| format!("there is no class {class}"))?,
            scope: Scope::of_name(scope).ok_or_else(|| format!("there is no scope {scope}"))?,
            conditions: conditions.collect::<Result<_, _>>()?,
        };
        match self.cases.insert(word, case) {
            None => Ok(()),
            Some(_) => Err(String::from("it is there twice")),
        }
    }

    /// The answer that a word stands for.
    fn case(&self, word: &'static str) -> Result<Plausible, String> {
        match (self.cases.get(word), word.split_once('/')) {
            (Some(case), _) => Ok(case.clone()),
            (None, Some((_, "misuse"))) => Ok(Plausible {
                errno: errno(word)?,
                class: Class::Misuse,
                scope: Scope::Process,
                conditions: Vec::new(),
            }),
            (None, _) => Err(format!("{word} is not described")),
        }
    }
}

/// The errno of `ENOSPC/limit`; `None` for `SHORT`.
fn errno(word: &str) -> Result<Option<i32>, String> {
    let name = word.split('/').next().unwrap_or(word);
    if name == "SHORT" {
        return Ok(None);
    }
    match constants::errno(name) {
        Some(errno) => Ok(Some(errno)),
        None => Err(format!("there is no errno {name}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mistakes_are_told() {
        for (text, says) in [
            ("EIO io", "ERRNO CLASS SCOPE"),
            ("EWHAT io file", "no errno EWHAT"),
            ("EIO disk file", "no class disk"),
            ("EIO io disk", "no scope disk"),
            ("EIO io file device often", "no condition often"),
            ("EIO io file\nEIO io file", "twice"),
            ("EIO io file\nread: EIO EINTR", "EINTR is not described"),
            ("read: @none", "@none is not described"),
            ("send: EBADF/misuse", "no call send"),
            ("nosuch: EBADF/misuse", "no call nosuch"),
            ("read write:\nread:", "read has two lines"),
        ] {
            let table = read(text);
            assert!(
                matches!(table.errors.as_slice(), [error] if error.contains(says)),
                "{text}: {:?}",
                table.errors
            );
        }
    }

    #[test]
    fn lines_are_continued_and_sets_are_lists() {
        let table = read(
            "# a comment\nEIO io file device\nSHORT short call\n\n@both: EIO SHORT\nread\n  write: @both\n  EFAULT/misuse\n",
        );
        assert_eq!(table.errors, [""; 0]);
        let names = |call: &str| -> Vec<&str> {
            let answers = &table.answers[call];
            answers.iter().map(Plausible::name).collect()
        };
        assert_eq!(names("read"), ["EIO", "short", "EFAULT"]);
        assert_eq!(names("write"), names("read"));
    }
}
