//! Programs that people run on servers and in build farms, recorded whole: `tests/real/programs` lists them, and says
//! which cannot be recorded yet, and why.

mod common;

use common::whole::{self, Program};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

const TABLE: &str = include_str!("real/programs");

fn real() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/real")
}

/// A line of the table.
struct Line<'a> {
    name: &'a str,
    needs: Vec<&'a str>,
    output: &'a str,
    limit: Duration,
    spins: u32,
    command: &'a str,
}

fn lines() -> impl Iterator<Item = Line<'static>> {
    let lines = TABLE
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

#[track_caller]
fn must(command: &mut Command) {
    let output = command.output();
    let output = output.unwrap_or_else(|e| panic!("{command:?}: {e}"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {said}");
}

/// Where the programs are that are compiled for these tests.
fn built(language: &str) -> String {
    static GO: OnceLock<PathBuf> = OnceLock::new();
    static JAVA: OnceLock<PathBuf> = OnceLock::new();
    let dir = |name: &str| {
        let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("real-{name}"));
        std::fs::create_dir_all(&dir).unwrap();
        dir
    };
    let dir = match language {
        "go" => GO.get_or_init(|| {
            let dir = dir("go");
            let mut build = Command::new("go");
            build.args(["build", "-o"]).arg(dir.join("goroutines"));
            build
                .arg(real().join("goroutines.go"))
                .env("CGO_ENABLED", "0");
            must(
                build
                    .env("GOCACHE", dir.join("cache"))
                    .env("GO111MODULE", "off"),
            );
            dir
        }),
        _ => JAVA.get_or_init(|| {
            let dir = dir("java");
            must(
                Command::new("javac")
                    .arg("-d")
                    .arg(&dir)
                    .arg(real().join("Threads.java")),
            );
            dir
        }),
    };
    dir.to_str().unwrap().to_string()
}

/// The path with the places of programs that only root has in it.
fn path() -> String {
    std::env::var("PATH").unwrap_or_default() + ":/usr/sbin:/sbin"
}

#[track_caller]
fn check(name: &str) {
    let line = lines().find(|line| line.name == name);
    let line = line.unwrap_or_else(|| panic!("{name} is not in the table"));
    let path = path();
    for need in line.needs.iter().filter(|need| **need != "-") {
        let dirs = || std::env::split_paths(&path);
        let found = dirs().any(|dir| dir.join(need).is_file());
        assert!(found, "{need} is missing: tests/run installs it");
    }
    let mut env = vec![("PATH", path.clone())];
    for language in ["go", "java"] {
        if name == "go" && language == "go" || name == "java-threads" && language == "java" {
            env.push(("BUILT", built(language)));
        }
    }
    let program = Program {
        name,
        argv: ["sh", "-c", line.command].map(String::from).to_vec(),
        same: line.output == "same",
        limit: line.limit,
        spins: line.spins,
        env,
    };
    match line.output.strip_prefix("refused=") {
        Some(reason) => whole::check_refused(&program, &reason.replace('_', " ")),
        None => whole::check(&program),
    }
}

macro_rules! programs {
    ($($name:ident)*) => {
        $(
            #[test]
            fn $name() {
                check(&stringify!($name).replace('_', "-"));
            }
        )*

        #[test]
        fn every_program_is_here() {
            let listed = [$(stringify!($name)),*].map(|name| name.replace('_', "-"));
            for line in lines() {
                assert!(listed.iter().any(|name| name == line.name), "{} is not tested", line.name);
            }
        }
    };
}

programs! {
    bash_pipelines bash_jobs bash_traps dash
    find find_exec xargs tar xz zstd sort rsync busybox sleep timeout
    perl python_threads python_subprocess python_multiprocessing python_spawn python_sqlite python_asyncio python_http
    ruby php node go java_version java_threads javac
    dpkg gcc make git openssl_speed openssl_genrsa sqlite
    curl nginx redis postgres
    script tmux
    strace gdb
}
