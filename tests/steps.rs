//! Programs made for it: each does everything that its theme has (`tests/fixtures/steps`), and checks what it sees.

use crate::common::Folder;
use crate::common::whole::{self, Program};
use std::time::Duration;

#[track_caller]
fn check(name: &str) {
    let folder = Folder::new();
    let source = format!("steps/{name}");
    let program = folder.compile_as(name, &source, &["-pthread", "-lrt", "-lutil"]);
    whole::check(&Program {
        name,
        argv: vec![program],
        same: true,
        limit: Duration::from_secs(60),
        spins: 5,
        env: Vec::new(),
    });
}

macro_rules! steps {
    ($($name:ident)*) => {
        $(
            #[test]
            fn $name() {
                check(stringify!($name));
            }
        )*

        #[test]
        fn every_program_is_here() {
            let listed = [$(stringify!($name)),*];
            let sources = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/steps");
            for source in std::fs::read_dir(sources).unwrap() {
                let source = source.unwrap().file_name().into_string().unwrap();
                let name = source.strip_suffix(".c");
                assert!(name.is_none_or(|name| listed.contains(&name)), "{source} is not tested");
            }
        }
    };
}

steps! {
    processes exec waiting pipes threads spinning handovers handlers delivery interrupted memory shared files sockets
    terminals identity killed places arrivals filters partial changing edges namespaces refusals counting
}
