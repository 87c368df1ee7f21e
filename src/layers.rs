//! The list of modules in the crate's documentation is the order of their layers.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

fn files(at: PathBuf) -> Vec<PathBuf> {
    if at.ends_with("tests") || at.ends_with("tests.rs") {
        return Vec::new();
    }
    match fs::read_dir(&at) {
        Ok(entries) => entries.flat_map(|e| files(e.unwrap().path())).collect(),
        Err(_) => vec![at],
    }
}

/// The modules that code names as `crate::module` or `crate::{module, …}`.
fn used(code: &str) -> BTreeSet<&str> {
    let lines = code
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"));
    let parts = lines.flat_map(|line| line.split("crate::").skip(1));
    let names = parts.flat_map(|part| match part.strip_prefix('{') {
        Some(list) => list.split(['}', ',']).map(str::trim).collect(),
        None => vec![part],
    });
    let is_end = |c: char| !c.is_alphanumeric() && c != '_';
    names.filter_map(|name| name.split(is_end).next()).collect()
}

#[test]
fn modules_use_only_those_above_them_in_the_documentation() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let lib = fs::read_to_string(src.join("lib.rs")).unwrap();
    let names = |prefix: &'static str, end: char| {
        let rest = lib
            .lines()
            .filter_map(move |line| line.strip_prefix(prefix));
        rest.filter_map(move |rest| rest.split(end).next())
            .collect::<Vec<&str>>()
    };
    let (listed, declared) = (names("//! - [`", '`'), names("pub mod ", ';'));
    assert_eq!(BTreeSet::from_iter(&listed), BTreeSet::from_iter(&declared));
    for (layer, module) in listed.iter().enumerate() {
        let dir = src.join(module);
        let all = if dir.is_dir() {
            files(dir)
        } else {
            vec![dir.with_extension("rs")]
        };
        for file in all
            .iter()
            .filter(|file| file.extension().is_some_and(|e| e == "rs"))
        {
            let text = fs::read_to_string(file).unwrap();
            let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
            for name in used(code) {
                let is_above = listed
                    .iter()
                    .position(|listed| *listed == name)
                    .is_none_or(|at| at <= layer);
                assert!(
                    is_above,
                    "{} uses {name}, which comes later in the list",
                    file.display()
                );
            }
        }
    }
}
