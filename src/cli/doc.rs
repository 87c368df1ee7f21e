//! `rrapper doc`: prints what rrapper knows of system calls.

use super::output;
use crate::inject::Selector;
use crate::syscall::plausible::{Plausible, plausible_answers};
use crate::syscall::{by_name, names};
use std::fmt::Write as _;

#[derive(clap::Args)]
#[command(disable_help_subcommand = true)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    /// Print the failures that calls plausibly have: errno, class, what it covers when it persists, when it can occur
    Errors(Errors),
}

#[derive(clap::Args)]
struct Errors {
    /// The calls: a name, a list (read,write), a class (%file), or a pattern ('*xattr') [default: all calls]
    #[arg(value_name = "CALL")]
    calls: Vec<String>,
    /// Also the errors of the programmer, such as EBADF: class misuse
    #[arg(long)]
    all: bool,
}

pub(super) fn run(args: &Args) -> anyhow::Result<i32> {
    let Command::Errors(args) = &args.command;
    output::finish(output::print(errors(args)?.as_bytes()))
}

/// The table of the failures of the selected calls.
fn errors(args: &Errors) -> anyhow::Result<String> {
    let selectors = args.calls.iter().map(|text| Selector::parse(text));
    let selectors = selectors.collect::<Result<Vec<_>, _>>()?;
    let mut rows = vec![["CALL", "ERRNO", "CLASS", "SCOPE", "WHEN"].map(String::from)];
    for call in names().filter_map(by_name) {
        let named = selectors.iter().any(|selector| selector.matches(call));
        if !named && !selectors.is_empty() {
            continue;
        }
        let answers = plausible_answers(call.name).unwrap_or_default().iter();
        let shown: Vec<&Plausible> = answers
            .filter(|answer| args.all || !answer.is_misuse())
            .collect();
        if shown.is_empty() && named {
            rows.push([call.name, "-", "-", "-", "never"].map(String::from));
        }
        rows.extend(shown.into_iter().map(|answer| row(call.name, answer)));
    }
    Ok(table(&rows))
}

fn row(call: &str, answer: &Plausible) -> [String; 5] {
    [
        call.to_owned(),
        answer.name().to_owned(),
        answer.class.to_string(),
        answer.scope.to_string(),
        answer.when().unwrap_or_default(),
    ]
}

/// The rows in columns; the last column may be empty.
fn table(rows: &[[String; 5]]) -> String {
    let width = |column: usize| rows.iter().map(|row| row[column].len()).max().unwrap_or(0);
    let [w0, w1, w2, w3] = [0, 1, 2, 3].map(width);
    let mut text = String::new();
    for [call, errno, class, scope, when] in rows {
        let line = format!("{call:w0$}  {errno:w1$}  {class:w2$}  {scope:w3$}  {when}");
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{}", line.trim_end());
    }
    text
}
