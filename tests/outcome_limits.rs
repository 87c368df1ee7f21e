//! An outcome has limits, whatever a process does: the first and the last are kept, and the number of the others is told.

use crate::common::Folder;

#[test]
fn the_first_and_the_last_changed_answers_are_kept() {
    let folder = Folder::new();
    folder.compile("many_calls", &[]);
    let script = r#"
        local o = live{ "./many_calls", "12000", timeout = 60,
            hooks = { close = { ret = 0, where = function(call) return call.raw[1] >= 1000 end } } }
        assert(o.status == "exited", o)
        local list = o.injected
        assert(#list == 10000, #list)
        local function is(i, fd)
            assert(list[i].call:find("close(" .. fd .. ")", 1, true), list[i].call)
        end
        is(1, 1000) is(5000, 5999) is(5001, 8000) is(10000, 12999)
        local told = "2000 of 12000 answers that were changed: the first 5000 and the last 5000 are kept, the others are left out"
        assert(#o.missing == 1 and o.missing[1] == told, table.concat(o.missing, "\n"))
        -- All calls are there, each at its index.
        local own = {}
        for i = 1, #o.calls do
            local call = o.calls[i]
            assert(call.index == i - 1)
            if call.name == "close" and call.args[1] >= 1000 then own[#own + 1] = call.args[1] end
        end
        assert(#own == 12000 and own[1] == 1000 and own[12000] == 12999)
    "#;
    folder.script(script).ok();
}

#[test]
fn the_calls_of_a_short_program_are_all_kept() {
    let folder = Folder::new();
    folder.compile("many_calls", &[]);
    let script = r#"
        local o = live{ "./many_calls", "10", hooks = { close = function() end } }
        assert(#o.missing == 0 and #o.injected == 0, tostring(o))
        assert(o.calls[#o.calls].args[1] == 1009)
    "#;
    folder.script(script).ok();
}
