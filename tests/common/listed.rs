//! Tables of programs to record (`tests/real/programs`, `tests/slow/programs`): a program a line, and a test for each.

use super::whole::{self, Program};
use std::time::Duration;

/// A line of a table.
pub struct Line<'a> {
    pub name: &'a str,
    needs: Vec<&'a str>,
    output: &'a str,
    limit: Duration,
    spins: u32,
    pub command: &'a str,
}

/// The lines of a table that are neither empty nor comments.
pub fn lines(table: &str) -> impl Iterator<Item = Line<'_>> {
    let lines = table
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines.map(|line| {
        let words: Vec<&str> = line.splitn(6, ' ').collect();
        let &[name, needs, output, limit, spins, command] = words.as_slice() else {
            panic!("{line:?} has too few words");
        };
        let needs = needs.split(',');
        Line {
            name,
            needs: needs.map(|need| need.split(':').next().unwrap()).collect(),
            output,
            limit: Duration::from_secs(limit.parse().unwrap()),
            spins: spins.parse().unwrap(),
            command,
        }
    })
}

/// The path with the places of programs that only root has in it.
pub fn path() -> String {
    std::env::var("PATH").unwrap_or_default() + ":/usr/sbin:/sbin"
}

impl Line<'_> {
    /// Checks that the programs are there that it needs.
    #[track_caller]
    pub fn is_installed(&self) {
        let path = path();
        for need in self.needs.iter().filter(|need| **need != "-") {
            let found = std::env::split_paths(&path).any(|dir| dir.join(need).is_file());
            assert!(
                found,
                "{need} is missing: tests/run and tests/run-slow install what they need"
            );
        }
    }
}

/// Records a table's program and checks what must hold of it. `env` comes on top of the usual environment.
#[track_caller]
pub fn check(table: &str, name: &str, env: Vec<(&str, String)>) {
    let line = lines(table).find(|line| line.name == name);
    let line = line.unwrap_or_else(|| panic!("{name} is not in the table"));
    line.is_installed();
    let mut env = env;
    env.push(("PATH", path()));
    let program = Program {
        name,
        argv: ["sh", "-c", line.command].map(String::from).to_vec(),
        same: line.output == "same",
        limit: line.limit,
        spins: line.spins,
        env,
    };
    match line.output.strip_prefix("otherwise=") {
        Some(words) => whole::check_otherwise(&program, &words.replace('_', " ")),
        None => whole::check(&program),
    }
}

/// A test for each of these programs of `TABLE`, whose `-` are written `_`; and one that none is forgotten.
#[macro_export]
macro_rules! listed_programs {
    ($check:path: $($name:ident)*) => {
        $(
            #[test]
            fn $name() {
                $check(&stringify!($name).replace('_', "-"));
            }
        )*

        #[test]
        fn every_program_is_here() {
            let listed = [$(stringify!($name)),*].map(|name| name.replace('_', "-"));
            for line in $crate::common::listed::lines(TABLE) {
                assert!(listed.iter().any(|name| name == line.name), "{} is not tested", line.name);
            }
        }
    };
}
