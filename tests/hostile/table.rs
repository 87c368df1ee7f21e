//! The table of probes: a line for each, with the results that are allowed for root and for a user.

use std::sync::LazyLock;

const TEXT: &str = include_str!("expected");

/// A line of the table.
pub struct Line {
    pub name: &'static str,
    /// The group of the program's probes that it is in.
    pub group: &'static str,
    root: Vec<&'static str>,
    user: Vec<&'static str>,
}

impl Line {
    /// Whether a result is one of those that are allowed for whoever runs the tests.
    pub fn allows(&self, result: &str) -> bool {
        self.allowed().contains(&result)
    }

    pub fn allowed(&self) -> &[&'static str] {
        let is_root = nix::unistd::geteuid().is_root();
        if is_root { &self.root } else { &self.user }
    }
}

/// All lines.
pub static LINES: LazyLock<Vec<Line>> = LazyLock::new(|| {
    let mut kinds: Vec<(&str, Vec<&str>)> = Vec::new();
    let mut lines = Vec::new();
    let mut group = "";
    let text = TEXT.lines();
    for line in text.filter(|line| !line.is_empty() && !line.starts_with('#')) {
        if let Some(name) = line.strip_prefix('[') {
            group = name.trim_end_matches(']');
            continue;
        }
        if line.starts_with('@') {
            let (name, words) = line.split_once(" = ").expect("a kind of result");
            kinds.push((name, words.split_whitespace().collect()));
            continue;
        }
        let words: Vec<&str> = line.split_whitespace().collect();
        let [name, root, user] = words[..] else {
            panic!("{line:?} is not a name, a result for root, and one for users");
        };
        lines.push(Line {
            name,
            group,
            root: results(&kinds, root),
            user: results(&kinds, if user == "=" { root } else { user }),
        });
    }
    lines
});

/// The results that an expression names.
fn results(kinds: &[(&str, Vec<&'static str>)], text: &'static str) -> Vec<&'static str> {
    let mut found = Vec::new();
    for word in text.split('|') {
        match kinds.iter().find(|(name, _)| *name == word) {
            Some((_, words)) => found.extend(words),
            None => {
                assert!(!word.starts_with('@'), "{word} is no kind of result");
                found.push(word);
            }
        }
    }
    found
}

/// The lines of a group.
pub fn group(name: &str) -> impl Iterator<Item = &'static Line> {
    LINES.iter().filter(move |line| line.group == name)
}

#[test]
fn the_table_has_many_probes_each_once() {
    let mut names: Vec<&str> = LINES.iter().map(|line| line.name).collect();
    assert!(names.len() >= 150, "{}", names.len());
    names.sort();
    let count = names.len();
    names.dedup();
    assert_eq!(names.len(), count, "a probe is there twice");
}
