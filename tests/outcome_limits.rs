//! An outcome has limits, whatever a process does: the first and the last are kept, and the number of the others is told.

use crate::common::Folder;
use crate::common::limits::limited;

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

/// A call may name more memory than there is, and hooks look at it, in a process that has not so much.
#[test]
fn a_call_that_names_much_memory_takes_little_of_ours() {
    let folder = Folder::new();
    folder.compile("many_bytes", &[]);
    let script = r#"
        local plain = live{ "./many_bytes" }
        assert(plain.exit_code == 0, plain)
        local refused, addresses, texts = {}, 0, 0
        local function look(call)
            local ok, data = pcall(call.data, call)
            if not ok then
                assert(tostring(data):find("and hooks can see those of calls that move 16777216 at most", 1, true), data)
                refused[call.name] = true
            end
            for _, name in ipairs{ "buf", "iov", "local_iov", "msgvec" } do
                local arg = call.args[name]
                if name == "buf" and math.type(arg) == "integer" then addresses = addresses + 1 end
                if call.name == "writev" and name == "iov" then
                    assert(math.type(arg[1024].iov_base) == "integer")
                    assert(arg[1024].iov_len == 1 << 30)
                    -- What was not read stays where it is.
                    if call.phase == "enter" then arg[1] = arg[2] end
                    texts = texts + 1
                end
            end
            assert(#call:text() < 1 << 24)
        end
        local both = { enter = look, exit = look }
        local o = live{ "./many_bytes", timeout = 60, hooks = { write = both, writev = both, process_vm_readv = both,
            process_vm_writev = both, sendmmsg = both, recvmmsg = both } }
        assert(o.exit_code == 0 and o.stdout == plain.stdout, tostring(o) .. o.stdout .. o.stderr)
        assert(refused.write and refused.writev and refused.sendmmsg and not refused.recvmmsg)
        assert(addresses == 2 and texts >= 2, addresses .. " " .. texts)
        -- Without anything that looks, they are only listed.
        o = live{ "./many_bytes", timeout = 60, hooks = { ["%all"] = function() end } }
        assert(o.stdout == plain.stdout, tostring(o) .. o.stdout)
        local listed
        for i = 1, #o.calls do
            local text = tostring(o.calls[i])
            if text:find('^write%(3, ') then listed = text end
        end
        assert(listed:find('"%.%.%., 1073741824%) = 1073741824'), listed)
    "#;
    folder.write("script.lua", script);
    limited(&folder, &["script.lua"]).ok();
}

/// A hook gets all of a call's data or none, so that it does not put a part in the place of all.
#[test]
fn the_data_of_a_large_call_can_be_read_in_parts() {
    let script = r#"
        local code = [[
import os
n = 20 << 20
file = os.open("/dev/zero", os.O_RDONLY)
data = os.read(file, n)
print(len(data), data[:3], data[3:] == bytes(n - 3))
print(os.readv(file, [bytearray(3), bytearray(n)]))
]]
        local seen = 0
        local o = live{ "/usr/bin/python3", "-S", "-c", code, hooks = {
            read = { path = "/dev/zero", exit = function(call)
                local ok, why = pcall(call.data, call)
                assert(not ok and tostring(why):find("this read moves 20971520 bytes of data, and hooks", 1, true), why)
                assert(call.args.buf == call.raw[2])
                assert(call.process:read(call.raw[2] + (17 << 20), 2) == "\0\0")
                call.process:write(call.raw[2], "abc")
                seen = seen + 1
            end },
            readv = { path = "/dev/zero", exit = function(call)
                assert(call.args.iov[1].iov_base == "\0\0\0" and call.args.iov[2].iov_len == 20 << 20)
                assert(math.type(call.args.iov[2].iov_base) == "integer")
                call:data "x"
                seen = seen + 1
            end },
        } }
        assert(seen == 2 and o.stdout == "20971520 b'abc' True\n1\n", o.stdout .. o.stderr)
    "#;
    Folder::new().script(script).ok();
}
