//! What the annotations for editors say is there, and what is there they say.

use crate::common::Folder;
use rrapper::inject::ACTIONS;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

type Names = BTreeSet<String>;

/// The fields and methods of each class, and the functions of no class.
fn annotated() -> (BTreeMap<String, Names>, Names) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("lua-stdlib/rrapper.d.lua");
    let text = fs::read_to_string(path).unwrap();
    let mut classes: BTreeMap<String, Names> = BTreeMap::new();
    let (mut functions, mut class) = (Names::new(), String::new());
    for line in text.lines() {
        if let Some(name) = line.strip_prefix("---@class ") {
            class = name.trim().to_string();
            classes.entry(class.clone()).or_default();
        } else if let Some(field) = line.strip_prefix("---@field ") {
            let name = field.split([' ', '?']).next().unwrap();
            if !name.starts_with('[') {
                classes.get_mut(&class).unwrap().insert(name.to_string());
            }
        } else if let Some(function) = line.strip_prefix("function ") {
            let name = &function[..function.find('(').unwrap()];
            match name.split_once(':') {
                Some((class, method)) => {
                    let of = classes.get_mut(class).expect(class);
                    of.insert(method.to_string());
                }
                None => _ = functions.insert(name.to_string()),
            }
        }
    }
    (classes, functions)
}

/// An expression for an object of each class that scripts get; what has no names of its own is left out.
const OBJECTS: [(&str, &str); 15] = [
    ("Recording", "rec"),
    ("Event", "rec:event(1)"),
    ("Stop", "stop"),
    ("Process", "copy"),
    ("Trace", "segment"),
    ("Entry", "segment[1]"),
    ("Outcome", "outcome"),
    ("Divergence", "diverged.divergence"),
    ("Injected", "outcome.injected[1]"),
    ("Regex", "re'x'"),
    ("Life", "rec:processes()[1]"),
    ("ExitStatus", "rec.exit"),
    ("Frame", "copy:backtrace()[1]"),
    ("End", "ended"),
    ("errnolib", "errno"),
];

/// What is there only while a hook runs.
const IN_HOOKS: [(&str, &str); 4] = [
    ("Call", "call"),
    ("Caller", "call.process"),
    ("Stat", "call.stat"),
    ("Signal", "sent"),
];

const SCRIPT: &str = r#"
local rec = rr.record { "sh", "-c", "stat -c %s / >&2; kill -USR1 $$", out = "rec" }
local stop = rr.replay_to(rec:find { syscall = "execve", nth = 1 })
local copy = stop:spin_off()
local segment = rec:segment(1, 9)
local ended
local outcome = live { "sh", "-c", "exit 3", hooks = {
    exit_group = { signal = "SIGCONT" }, on_exit = function(e) ended = e end,
} }
local diverged = stop:spin_off():inject(trace.parse "getpid() = 5\n")
local function try(class, object, name)
    local ok, message = pcall(function() return object[name] end)
    if not ok then print(class, name, message) end
end
"#;

#[test]
fn what_is_annotated_is_there() {
    let (classes, functions) = annotated();
    assert!(classes.len() > 20 && functions.len() > 8, "{classes:?}");
    let mut script = String::from(SCRIPT);
    let tries = |objects: &[(&str, &str)]| {
        let mut text = String::new();
        for (class, object) in objects {
            for name in &classes[*class] {
                let _ = writeln!(text, "try('{class}', {object}, '{name}')");
            }
        }
        text
    };
    let (plain, hooked) = (tries(&OBJECTS), tries(&IN_HOOKS));
    let (sent, call): (Vec<_>, Vec<_>) =
        { hooked.lines() }.partition(|line| line.contains("'Signal'"));
    let _ = write!(
        script,
        "{plain}
         local seen, got = 0, 0
         live {{ 'sh', '-c', 'stat -c %s / >&2; kill -USR1 $$', hooks = {{
             statx = {{ when = 1, exit = function(call) seen = seen + 1 {} end }},
             on_signal = function(sent) got = got + 1 {} end,
         }} }}
         assert(seen > 0 and got > 0, 'the hooks have run')\n",
        call.join("\n"),
        sent.join("\n"),
    );
    for function in &functions {
        let _ = writeln!(
            script,
            "if type({function}) ~= 'function' then print('function', '{function}') end"
        );
    }
    // Whatever they may be: that there are such options is not denied.
    for (class, give) in [
        (
            "Rule",
            "live { 'true', hooks = { read = { [name] = io.stdout } } }",
        ),
        ("Hooks", "stop:spin_off():inject { [name] = io.stdout }"),
        ("LiveProgram", "live { 'true', [name] = io.stdout }"),
        (
            "SandboxSettings",
            "live { 'true', sandbox = { [name] = io.stdout } }",
        ),
        ("EventFilter", "rec:find { [name] = io.stdout }"),
        ("RecordOptions", "rr.record { 'true', [name] = io.stdout }"),
    ] {
        for name in classes[class].iter().filter(|name| *name != "on") {
            let _ = writeln!(
                script,
                "do local name = '{name}'
                 local ok, why = pcall(function() {give} end)
                 if ok or why:find ' has no ' or why:find 'neither' then print('{class}', name, why) end end"
            );
        }
    }
    let said = Folder::new().script(&script).ok().text();
    let said: Vec<&str> = said.lines().filter(|line| line.contains('\t')).collect();
    assert!(said.is_empty(), "{}", said.join("\n"));
}

/// The names that the bindings give each type of object.
fn bound() -> BTreeMap<String, Names> {
    let mut files: Vec<PathBuf> = Vec::new();
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/lua");
    for dir in [src.clone(), src.join("hooks")] {
        let entries = fs::read_dir(dir)
            .unwrap()
            .map(|entry| entry.unwrap().path());
        files.extend(entries.filter(|path| path.extension().is_some_and(|e| e == "rs")));
    }
    let mut bound: BTreeMap<String, Names> = BTreeMap::new();
    for file in files {
        let text = fs::read_to_string(file).unwrap();
        let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
        for part in text.split("impl UserData for ").skip(1) {
            let after = |mark: &str| {
                part.split(mark)
                    .skip(1)
                    .filter_map(quoted)
                    .collect::<Vec<_>>()
            };
            let Some(class) = after("MetaMethod::Type,").first().cloned() else {
                continue;
            };
            let names = ["add_field_method_get(", "add_method("].map(after).concat();
            bound.entry(class).or_default().extend(names);
        }
    }
    bound
}

/// The string literal that a text begins with.
fn quoted(text: &str) -> Option<String> {
    let text = text.trim_start().strip_prefix('"')?;
    Some(text[..text.find('"')?].to_string())
}

#[test]
fn what_is_there_is_annotated() {
    let (classes, _) = annotated();
    let (mut missing, mut compared) = (Vec::new(), 0);
    for (class, names) in bound() {
        let Some(known) = classes.get(&class) else {
            continue;
        };
        compared += names.len();
        let unknown = names.difference(known);
        missing.extend(unknown.map(|name| format!("{class}.{name}")));
    }
    for kind in ACTIONS {
        for (class, name) in [("Call", kind.method), ("Rule", kind.name)] {
            if !classes[class].contains(name) {
                missing.push(format!("{class}.{name}"));
            }
        }
    }
    // The process in a hook is another class, of the same name to scripts.
    let caller = &classes["Caller"];
    missing.retain(|name| {
        name.strip_prefix("Process.")
            .is_none_or(|name| !caller.contains(name))
    });
    assert!(compared > 100, "{compared}");
    assert!(missing.is_empty(), "{missing:?}");
}
