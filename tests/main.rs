//! The tests that can share a process, which is linked once. Those that wait for anybody's children, count descriptors,
//! measure their own processor time or may be ended by hostile input are programs of their own (see Cargo.toml).

mod common;
mod corpus_check;

mod annotations;
mod another_run;
mod backtrace;
mod bad_input;
mod beside;
mod call_facts;
mod command_line;
mod copies;
mod core_files;
mod corpus;
mod crash;
mod crossing_faults;
mod discarded;
mod doctor;
mod engine;
mod errors;
mod families;
mod family;
mod family_live;
mod faults;
mod format;
mod given_files;
mod guards;
mod hook_effects;
mod hook_errors;
mod hook_paths;
mod hook_values;
mod hooks;
mod hostile_tasks;
mod i386_calls;
mod in_flight;
mod inject_like_strace;
mod interrupts;
mod kernel_headers;
mod like_strace;
mod limits;
mod listen;
mod live;
mod live_program_file;
mod live_streams;
mod machine_locks;
mod moved;
mod orphans;
mod outcome_limits;
mod own_filters;
mod processes;
mod programs;
mod random;
mod real_programs;
mod reconnect;
mod recorded_files;
mod recorded_files_bad;
mod regressions;
mod replaced_paths;
mod restore;
mod scripts;
mod seen_files;
mod short_answers;
mod signals;
mod stack_limits;
mod steps;
mod store;
mod strace_formats;
mod strace_lines;
mod strace_pasted;
mod strace_programs;
mod tasks;
mod threads;
mod trace_commands;
mod unmapped_owners;
mod unsent;
mod warnings;
mod world;

/// Cargo does not look for tests here: what is listed nowhere is not built.
#[test]
fn every_test_is_built() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let main = std::fs::read_to_string(root.join("tests/main.rs")).unwrap();
    let manifest = std::fs::read_to_string(root.join("Cargo.toml")).unwrap();
    for entry in std::fs::read_dir(root.join("tests")).unwrap() {
        let path = entry.unwrap().path();
        let is_test = path.extension().is_some_and(|e| e == "rs") || path.join("main.rs").exists();
        let name = path.file_stem().unwrap().to_str().unwrap();
        let is_built = name == "main"
            || main.contains(&format!("\nmod {name};"))
            || manifest.contains(&format!("\nname = \"{name}\""));
        assert!(!is_test || is_built, "{} is not built", path.display());
    }
}
