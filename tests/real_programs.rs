//! Programs that people run on servers and in build farms, recorded whole: `tests/real/programs` lists them, and says
//! which cannot be recorded yet, and why.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

const TABLE: &str = include_str!("real/programs");

fn real() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/real")
}

#[track_caller]
fn must(command: &mut Command) {
    let output = command.output();
    let output = output.unwrap_or_else(|e| panic!("{command:?}: {e}"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {said}");
}

/// Where the programs are that are compiled for these tests.
fn built_for(language: &str) -> String {
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

fn check(name: &str) {
    let built = match name {
        "go" => Some("go"),
        "java-threads" => Some("java"),
        _ => None,
    };
    let env = built.map(|language| ("BUILT", built_for(language)));
    crate::common::listed::check(TABLE, name, env.into_iter().collect());
}

crate::listed_programs! { check:
    bash_pipelines bash_jobs bash_traps dash
    find find_exec xargs tar xz zstd sort rsync busybox sleep timeout
    perl python_threads python_subprocess python_multiprocessing python_spawn python_sqlite python_asyncio python_http
    ruby php node go java_version java_threads javac
    dpkg gcc make git openssl_speed openssl_genrsa sqlite
    curl nginx redis postgres
    script tmux
    strace gdb
}
