//! No injection sees anything that another one has left.

use crate::common::machine::{self, Machine};
use crate::common::{Folder, RRAPPER};
use std::fs;

/// Makes injections in one process of rrapper's: live programs and copies of a recording, in an order by chance. Each
/// leaves traces of some kinds. The processes that they leave may still run when the program itself has ended.
const SCRIPT: &str = r#"
local count, seed, tag = math.tointeger(arg[1]), math.tointeger(arg[2]), arg[3]
math.randomseed(seed)
local rec = rr.open(arg[4])
local event = assert(rec:find{ syscall = "getppid" })
local stop = rec:replay_to(event)
local wrong = 0
for turn = 1, count do
  local mask = math.random(0, (1 << 13) - 1)
  -- Some leave processes, whose time must be up.
  local processes = 1 << 3 | 1 << 7
  if math.random(10) > 1 then mask = mask & ~processes end
  local file = assert(io.open("turn", "w"))
  file:write(turn, " ", mask, "\n")
  file:close()
  local options = { timeout = mask & processes == 0 and 10 or 0.5 }
  local outcome
  if math.random(2) == 1 then
    local copy <close> = stop:spin_off()
    outcome = copy:live(options)
  else
    outcome = live{ "./traces", tag, timeout = options.timeout }
  end
  local ends = outcome.status == "exited" or outcome.status == "timeout"
  if not ends or outcome.stdout ~= "looked " .. turn .. "\n" then
    wrong = wrong + 1
    print(turn, tostring(outcome), outcome.reason, outcome.stdout, outcome.stderr)
    if wrong == 10 then break end
  end
end
print("done", wrong)
"#;

/// Makes so many injections and checks that none has seen another.
pub fn check(count: u32, seed: u32) {
    let turn = machine::turn();
    // A session keyring of this thread's own, which rrapper would pass on.
    // SAFETY: keyctl(2) with a number and no name.
    unsafe { libc::syscall(libc::SYS_keyctl, 1, 0) };
    let folder = Folder::new();
    folder.compile_as("traces", "traces_of_others", &["-lrt"]);
    folder.write("kept", "kept\n");
    for file in ["gone", "lock"] {
        folder.write(file, "kept\n");
    }
    for dir in ["dir", "full"] {
        fs::create_dir(folder.join(dir)).unwrap();
    }
    folder.write("full/inside", "kept\n");
    let shell = "chmod 644 kept; chmod 755 dir; touch -d @1000000000 kept";
    folder.plain(&["sh", "-c", shell]).ok();
    folder.write("turn", "0 0\n");
    let control = Folder::new();
    control.write("script.lua", SCRIPT);
    let recording = control.join("recording");
    let recording = recording.to_str().unwrap();
    let tag = format!("rrapper-{}", std::process::id());
    let calm = folder.record_without_files(recording, &["./traces", &tag]);
    assert_eq!(calm.text(), "looked 0\n");
    let mut machine = Machine::now(turn, &[&folder.join("full"), &folder.join("dir")]);
    let mut command = folder.command(RRAPPER);
    command.arg("-q").arg(control.join("script.lua"));
    command.args([&count.to_string(), &seed.to_string(), &tag, recording]);
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let complained = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}{complained}");
    assert!(said.ends_with("done\t0\n"), "{said}{complained}");
    machine.is_as_it_was(&said);
}
