//! The messages about mistakes in scripts.

use super::{NoWatch, Script, run};
use std::rc::Rc;

/// The message with which a script ends; empty where it does not fail.
fn message(text: &str) -> String {
    let script = Script {
        text: text.as_bytes().to_vec(),
        name: String::from("quick.lua"),
        args: Vec::new(),
    };
    run(&script, Rc::new(NoWatch)).map_or_else(|error| error.message, |()| String::new())
}

#[test]
fn a_mistake_is_told_with_file_and_line() {
    for (text, expected) in [
        ("x = =", "quick.lua:1: unexpected symbol near '='"),
        (
            "#!/usr/bin/rrapper\nfoo()",
            "quick.lua:2: attempt to call a nil value (global 'foo')",
        ),
        ("\nerror 'boom'", "quick.lua:2: boom"),
        (
            "\n\nspin_off()",
            "quick.lua:3: no recording is open: call rr.open or rr.record first",
        ),
        (
            "print(errno.EOI)",
            "quick.lua:1: unknown errno \"EOI\"; did you mean \"EIO\" or \"EDOM\"?",
        ),
        (
            "errno.of 'opne'",
            "quick.lua:1: unknown system call \"opne\"; did you mean \"open\"?",
        ),
        (
            "errno.of('open', { al = true })",
            "quick.lua:1: errno.of has no option \"al\"; did you mean \"all\"?",
        ),
        (
            "rr.opne 'x'",
            "quick.lua:1: rr has no \"opne\"; did you mean \"open\"?",
        ),
        (
            "rr.record{ 'true', cdw = '/' }",
            "quick.lua:1: rr.record has no option \"cdw\"; did you mean \"cwd\"?",
        ),
        (
            "require 'nothing.there'",
            "quick.lua:1: module 'nothing.there' not found",
        ),
        ("error {}", "the script raised a table, not a message"),
    ] {
        assert_eq!(message(text), expected, "{text}");
    }
}

#[test]
fn pcall_gets_messages_as_text() {
    let text = "local ok, e = pcall(function() return C.NOPE_NOPE end)
        assert(e == 'quick.lua:1: unknown constant \"NOPE_NOPE\"', e)";
    assert_eq!(message(text), "");
}

#[test]
fn constants_are_looked_up() {
    let text = "assert(errno.EIO == 5 and errno[5] == 'EIO' and C.O_TRUNC == 512)
        assert(signal.SIGTERM == 15 and #errno.all() > 100)";
    assert_eq!(message(text), "");
}

#[test]
fn the_plausible_failures_of_a_call_are_listed() {
    let text = r#"local function of(call, name, options)
            for _, answer in ipairs(errno.of(call, options)) do
                if answer.errno == name then return answer end
            end
        end
        local full = of("write", "ENOSPC")
        assert(full.class == "space" and full.scope == "filesystem" and full.when == "something is created or grows")
        local short = of("read", nil)
        assert(short.class == "short" and short.scope == "call" and short.when:find "a pipe")
        assert(of("openat", "EMFILE").when == nil and of("kill", "ESRCH").scope == "peer")
        assert(not of("read", "EBADF") and of("read", "EBADF", { all = true }).class == "misuse")
        assert(#errno.of "recv" == #errno.of "recvfrom" and #errno.of "stat64" == #errno.of "stat")
        assert(#errno.of "getpid" == 0)
        for _, answer in ipairs(errno.of("openat", { all = true })) do
            assert(errno[answer.errno] > 0)
        end"#;
    assert_eq!(message(text), "");
}

#[test]
fn traces_can_be_edited() {
    let text = r#"local t = trace.parse 'read(3, "abc", 10) = 3\nclose(3) = 0\n'
        assert(#t == 2 and t[1].index == 0 and t[1].args.buf == "abc" and t[1].args[3] == 10)
        local map = t:map(function(c) if c.name == "read" then return { c, c } end end)
        assert(#map == 2 and map[2].name == "read")
        assert(t:find{ syscall = "close" }.index == 1)"#;
    assert_eq!(message(text), "");
}

#[test]
fn every_module_of_the_standard_library_can_be_required() {
    let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/lua-stdlib/rrapper");
    let files = std::fs::read_dir(dir).unwrap();
    let names: Vec<String> = files
        .map(|file| file.unwrap().file_name().into_string().unwrap())
        .collect();
    assert!(!names.is_empty());
    for name in names {
        let module = name.strip_suffix(".lua").unwrap();
        let text = format!("assert(type(require 'rrapper.{module}') == 'table')");
        assert_eq!(message(&text), "", "{name}");
    }
}

#[test]
fn a_mistake_in_a_module_names_the_module() {
    let text = "local folder <close> = require 'rrapper.folder'.new()
        local ok, e = pcall(folder.join, {})
        assert(not ok and e:find '^rrapper%.folder:%d+: attempt to ', e)";
    assert_eq!(message(text), "");
}
