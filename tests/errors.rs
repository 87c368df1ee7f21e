//! The plausible answers of system calls against the manual pages.

mod exceptions;
mod manual;

use exceptions::Exception;
use manual::Page;
use rrapper::constants;
use rrapper::syscall::{self, plausible::plausible_answers};
use std::collections::BTreeSet;

#[test]
fn the_table_is_the_manual_pages_but_for_reviewed_exceptions() {
    let exceptions = exceptions::read(include_str!("errors/exceptions"));
    let mut differences = BTreeSet::new();
    let mut release = None;
    for call in syscall::names() {
        let Some(page) = Page::of(call) else {
            differences.insert((call.to_string(), Exception::NoPage));
            continue;
        };
        release.get_or_insert_with(|| page.release().to_string());
        let mut in_page = page.errnos(call);
        for (of, exception) in &exceptions {
            if let Exception::As(other) = exception
                && of == call
            {
                let name = syscall::by_name(other).expect(other).name;
                let others = Page::of(other).expect(other).errnos(name);
                if !others.is_subset(&in_page) {
                    differences.insert((of.clone(), exception.clone()));
                }
                in_page.extend(others);
            }
        }
        let answers = plausible_answers(call).expect(call).iter();
        let in_table: BTreeSet<i32> = answers.filter_map(|answer| answer.errno).collect();
        let only_page = in_page.difference(&in_table).copied();
        let only_table = in_table.difference(&in_page).copied();
        let found = only_page
            .map(Exception::PageOnly)
            .chain(only_table.map(Exception::TableOnly));
        differences.extend(found.map(|exception| (call.to_string(), exception)));
    }
    let release = release.expect("these pages are in Debian's package manpages-dev");
    let missing: Vec<String> = differences.difference(&exceptions).map(shown).collect();
    let obsolete: Vec<String> = exceptions.difference(&differences).map(shown).collect();
    assert!(
        missing.is_empty() && obsolete.is_empty(),
        "{release} (the exceptions are those of 6.03):\nno exceptions yet: {missing:#?}\nno differences any more: \
         {obsolete:#?}"
    );
}

fn shown((call, exception): &(String, Exception)) -> String {
    let name = |errno: &i32| constants::errno_name(*errno).unwrap_or("?");
    match exception {
        Exception::NoPage => format!("{call}: no page"),
        Exception::As(other) => format!("{call}: as {other}"),
        Exception::PageOnly(errno) => format!("{call}: - {}", name(errno)),
        Exception::TableOnly(errno) => format!("{call}: + {}", name(errno)),
    }
}
