//! Each injection sees what has changed on the machine.

use crate::common::machine::{self, Machine};
use crate::common::{Folder, RRAPPER};
use std::fs;

/// Changes the machine between live programs and copies, and has each say what it sees.
const CHANGES: &str = r#"
local rec = rr.open(arg[1])
local event = assert(rec:find{ syscall = "getppid" })
local stop = rec:replay_to(event)
local function sees(what, path, wanted)
  for way = 1, 2 do
    local file = assert(io.open("path", "w"))
    file:write(path)
    file:close()
    local outcome
    if way == 1 then
      outcome = live{ "./shows", timeout = 10 }
    else
      local copy <close> = stop:spin_off()
      outcome = copy:live{ timeout = 10 }
    end
    local seen = outcome.stdout
    if seen ~= wanted then print(what, path, way == 1 and "live" or "copy", seen, tostring(outcome)) end
  end
end
local function run(command) assert(os.execute(command), command) end
for _, dir in ipairs{ ".", arg[2], arg[3], arg[4] } do
  local path = dir .. "/news"
  sees("nothing yet", path, "none\n")
  run("echo one > " .. path)
  sees("made after it was looked for", path, "one\n")
  run("echo two >> " .. path)
  sees("grown", path, "one\ntwo\n")
  run("echo three > " .. path .. ".new && mv " .. path .. ".new " .. path)
  sees("replaced", path, "three\n")
  run("rm " .. path)
  sees("removed", path, "none\n")
  run("mkdir " .. path)
  sees("nothing in a new directory", path .. "/inner", "none\n")
  run("echo four > " .. path .. "/inner")
  sees("made in a new directory", path .. "/inner", "four\n")
  run("mv " .. path .. " " .. path .. "2")
  sees("gone with its directory", path .. "/inner", "none\n")
  sees("moved with its directory", path .. "2/inner", "four\n")
  run("rm -r " .. path .. "2 && ln -s " .. arg[5] .. " " .. path)
  sees("by a new link", path, "far\n")
  run("rm " .. path)
  sees("without the link", path, "none\n")
end
print("done")
"#;

/// A program that shows the file whose name is in the file "path", and changes it then.
const SHOWS: &str = r#"
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <unistd.h>
int main(void)
{
	char path[4096] = "", text[4096];
	syscall(SYS_getppid);
	int fd = open("path", O_RDONLY);
	if (read(fd, path, sizeof path - 1) <= 0)
		return 1;
	close(fd);
	fd = open(path, O_RDONLY);
	ssize_t size = fd < 0 ? -1 : read(fd, text, sizeof text);
	if (size < 0)
		size = sprintf(text, "none\n");
	(void)!write(1, text, size);
	fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
	(void)!write(fd, "changed\n", 8);
	return 0;
}
"#;

#[test]
fn each_injection_sees_what_has_changed_on_the_machine() {
    let turn = machine::turn();
    let folder = Folder::new();
    let source = folder.write("shows.c", SHOWS);
    folder
        .plain(&["cc", "-o", "shows", source.to_str().unwrap()])
        .ok();
    folder.write("path", "none");
    folder.write("far", "far\n");
    let control = Folder::new();
    control.write("script.lua", CHANGES);
    let recording = control.join("recording");
    let recording = recording.to_str().unwrap();
    folder.record_without_files(recording, &["./shows"]);
    fs::remove_file(folder.join("none")).unwrap();
    let mut machine = Machine::now(turn, &[]);
    let elsewhere = ["/tmp", "/dev/shm", "/var/tmp"].map(|dir| tempfile::tempdir_in(dir).unwrap());
    let mut command = folder.command(RRAPPER);
    command
        .arg("-q")
        .arg(control.join("script.lua"))
        .arg(recording);
    command.args(elsewhere.iter().map(|dir| dir.path()));
    command.arg(folder.join("far"));
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let complained = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}{complained}");
    assert_eq!(said, "done\n", "{complained}");
    drop(elsewhere);
    machine.is_as_it_was(&said);
}
