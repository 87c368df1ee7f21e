//! A packed recording on another machine: its outcomes are those of the machine on which it was made.
//!
//! The other machine is a root directory of its own with rrapper, the libraries that it needs, and hardly anything else.

use crate::common::{Folder, RRAPPER, as_user};
use crate::recorded_files::{GIT_COMMIT, Program, SED, SQLITE, variables};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Output;

const PYTHON: Program = Program {
    setup: "printf 'import json\\ndef data(): return json.load(open(\"data.json\"))\\n' >own.py; echo '{\"a\": 1}' >data.json",
    argv: &[
        "/usr/bin/python3",
        "-SBc",
        "import sys; sys.path.insert(0, '.')\nimport own, json, shutil\nd = own.data(); d['b'] = 2\n\
         json.dump(d, open('new.json', 'w')); shutil.move('new.json', 'data.json'); print(open('data.json').read())",
    ],
};

/// It asks who it is, and whose its files are.
const OWNERS: Program = Program {
    setup: "echo a >own; mkdir dir; echo b >dir/other",
    argv: &[
        "/usr/bin/python3",
        "-SBc",
        "import os\nme = os.geteuid(), os.getegid()\n\
         def whose(name): status = os.lstat(name); return (status.st_uid, status.st_gid)\n\
         print(me, open('own').read()); os.chmod('own', 0o600); open('made', 'w').write('c'); os.mkdir('new'); os.symlink('own', 'link')\n\
         os.rename('own', 'moved'); os.chown('made', *me); print((os.geteuid(), os.getegid()) == me, os.getresuid(), os.access('dir', os.W_OK))\n\
         for name in ('.', 'moved', 'dir', 'dir/other', 'made', 'new', 'link'): print(name, whose(name) == me)\n\
         os.rename('dir', 'new/dir'); print(whose('new/dir') == me, whose('/') == (0, 0), whose('/usr') == (0, 0))",
    ],
};

const GIT_STATUS: Program = Program {
    setup: "git init -q; git config user.email a@b; git config user.name n; echo a >a; git add a; git commit -q -m first; \
            echo b >b; echo more >>a",
    argv: &["git", "status", "--short"],
};

/// Prints what becomes of copies at some events: with nothing failed, and with a call failed.
const TABLE: &str = r#"
local recording = rr.open(arg[1])
local first = recording:processes()[1].pid
local function after(box)
  for _, file in ipairs(box:files()) do
    -- An index of git has times and inode numbers of files in it.
    local hash = not file.path:find("index$") and file.hash
    print("", file.kind, file.path, file.size, hash)
  end
end
local function show(number, what, outcome)
  local missing = ""
  for _, sentence in ipairs(outcome.missing) do
    -- Of what was only listed there is nothing but the name.
    if not sentence:find("had only listed the name") then missing = missing .. sentence .. "; " end
  end
  print(number, what, outcome.status, outcome.exit_code, outcome.stdout, outcome.stderr, missing)
end
for number = 2, #recording, math.max(1, #recording // 5) do
  local stop = recording:replay_to(number)
  if stop.pid == first then
    local copy <close> = stop:spin_off()
    show(number, "control", copy:live { after = after })
  end
end
local failed = { openat = "EACCES", read = "EIO", write = "ENOSPC", newfstatat = "EIO", pwrite64 = "ENOSPC", rename = "EIO" }
local all = {}
for number = 1, #recording do
  local event = recording:event(number)
  if event.tid == first and failed[event.name] and event.kind == "call" then all[#all + 1] = number end
end
for at = 1, #all, math.max(1, #all // 12) do
  local number = all[at]
  local name = recording:event(number).name
  local copy <close> = recording:replay_to(number):spin_off()
  show(number, name, copy:inject {
    [name] = { fail = failed[name], when = "1" }, on_divergence = "live", finally = "live", timeout = 30, after = after,
  })
end
"#;

/// Makes the root directory of another machine.
const MAKE: &str = r#"
set -e
root=$1; shift
mkdir -p $root/usr/bin $root/usr/lib $root/usr/lib64 $root/usr/sbin $root/proc $root/dev $root/sys $root/etc $root/old
for name in bin lib lib64 sbin; do ln -s usr/$name $root/$name; done
mkdir -m 1777 $root/tmp
mkdir -p -m 777 $root/home/other
for program in "$@" $(command -v umount) $(command -v setpriv); do
  cp -L $program $root/bin/
  for library in $(ldd $program | grep -o '/[^ ]*'); do
    mkdir -p $root$(dirname $library)
    cp -nL $library $root$library
  done
done
"#;

/// Goes there, in a mount namespace of its own.
const ENTER: &str = r#"
set -e
root=$1; shift
mount --make-rprivate /
mount --bind $root $root
mount --rbind /proc $root/proc
mount --rbind /dev $root/dev
cd $root
pivot_root . old
umount -l /old
cd /
exec "$@"
"#;

const AS_USER: &[&str] = &[
    "setpriv",
    "--reuid",
    "12345",
    "--regid",
    "12345",
    "--clear-groups",
];

fn succeeded(what: &str, output: Output) -> String {
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{what}: {said}");
    String::from_utf8(output.stdout).unwrap()
}

/// Runs a program on the machine whose root is `there`, as root or as a user without any privileges.
fn elsewhere(folder: &Folder, there: &Path, as_user: bool, argv: &[&str]) -> Output {
    let is_root = nix::unistd::geteuid().is_root();
    let mut command = folder.command("unshare");
    command.args(if is_root { &["-m"][..] } else { &["-r", "-m"] });
    command.args(["sh", "-c", ENTER, "sh"]).arg(there);
    if as_user {
        command.args(AS_USER);
    }
    command.args(argv);
    variables(&mut command, Path::new("/home/other"));
    command
        .env("XDG_DATA_HOME", "/home/other/data")
        .env("PATH", "/usr/bin:/usr/sbin")
        .env_remove("TMPDIR")
        .output()
        .unwrap()
}

fn has_the_same_outcomes_elsewhere(program: &Program) {
    outcomes_elsewhere(program, false);
}

/// `by_user` says whether root has a user record it, and goes on himself.
fn outcomes_elsewhere(program: &Program, by_user: bool) {
    let folder = Folder::new();
    let mode = if by_user { 0o777 } else { 0o755 };
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(mode)).unwrap();
    let work = folder.join("work");
    fs::create_dir(&work).unwrap();
    if by_user {
        std::os::unix::fs::chown(&work, Some(12345), Some(12345)).unwrap();
    }
    let run = |argv: &[&str], dir: &Path| {
        let argv = match by_user && argv[0] != "root" {
            true => [AS_USER, argv].concat(),
            false => argv.strip_prefix(&["root"]).unwrap_or(argv).to_vec(),
        };
        let mut command = folder.command(argv[0]);
        command.args(&argv[1..]).current_dir(dir);
        variables(&mut command, folder.path());
        succeeded(argv[0], command.output().unwrap())
    };
    run(&["sh", "-c", program.setup], &work);
    let record = [RRAPPER, "-q", "record", "-o", "../rec", "--"];
    run(&[&record, program.argv].concat(), &work);
    run(&[RRAPPER, "-q", "pack", "rec"], folder.path());
    folder.write("table.lua", TABLE);
    let here = run(&[RRAPPER, "-q", "table.lua", "rec.rrp"], folder.path());
    assert!(
        here.matches("\tcontrol\texited\t0\t").count() >= 5,
        "{here}"
    );
    assert!(here.lines().count() > 15, "{here}");

    let there = folder.join("there");
    let there_text = there.to_str().unwrap();
    run(
        &["root", "sh", "-c", MAKE, "sh", there_text, RRAPPER],
        folder.path(),
    );
    for name in ["table.lua", "rec.rrp"] {
        fs::copy(folder.join(name), there.join(name)).unwrap();
        fs::set_permissions(there.join(name), fs::Permissions::from_mode(0o644)).unwrap();
    }
    for gone in ["work", "rec", "rec.rrp"] {
        let gone = folder.join(gone);
        fs::remove_dir_all(&gone)
            .or_else(|_| fs::remove_file(&gone))
            .unwrap();
    }
    let argv = ["rrapper", "-q", "/table.lua", "/rec.rrp"];
    let mut users = vec![false];
    // Those who are nobody there run the other one for themselves.
    users.extend((!by_user && nix::unistd::geteuid().is_root()).then_some(true));
    for as_user in users {
        let found = succeeded("elsewhere", elsewhere(&folder, &there, as_user, &argv));
        let mut differ = here.lines().zip(found.lines()).filter(|(a, b)| a != b);
        assert_eq!(differ.next(), None, "as a user: {as_user}");
        assert_eq!(here.lines().count(), found.lines().count());
    }
    // Nothing of the program was there.
    assert!(
        !there
            .join("usr/bin")
            .join(Path::new(program.argv[0]).file_name().unwrap())
            .exists()
    );
}

#[test]
fn python_has_the_same_outcomes_elsewhere() {
    has_the_same_outcomes_elsewhere(&PYTHON);
}

#[test]
fn sed_has_the_same_outcomes_elsewhere() {
    has_the_same_outcomes_elsewhere(&SED);
}

#[test]
fn sqlite_has_the_same_outcomes_elsewhere() {
    has_the_same_outcomes_elsewhere(&SQLITE);
}

#[test]
fn git_has_the_same_outcomes_elsewhere() {
    // It refuses repositories of others.
    has_the_same_outcomes_elsewhere(&GIT_COMMIT);
}

#[test]
fn git_status_has_the_same_outcomes_elsewhere() {
    has_the_same_outcomes_elsewhere(&GIT_STATUS);
}

#[test]
fn files_belong_to_who_has_recorded_elsewhere() {
    has_the_same_outcomes_elsewhere(&OWNERS);
}

/// What a user has recorded, root goes on with as that user.
#[test]
fn a_users_recording_has_the_same_outcomes_for_root() {
    if nix::unistd::geteuid().is_root() {
        for program in [&OWNERS, &GIT_STATUS, &GIT_COMMIT] {
            outcomes_elsewhere(program, true);
        }
    }
}

/// The files of the user who records are in the recording anyway; those of the system are as well once it is packed.
#[test]
fn a_users_packed_recording_has_the_same_outcomes_elsewhere() {
    as_user(&[
        "--exact",
        "moved::sed_has_the_same_outcomes_elsewhere",
        "moved::sqlite_has_the_same_outcomes_elsewhere",
    ]);
}

/// Without a copy of the system's files, one sentence says that they are others; with one that has changed meanwhile, too.
#[test]
fn what_is_not_copied_is_said_in_one_sentence() {
    let folder = Folder::new();
    folder.write("text", "of mine\n");
    let program = "print(open('text').read())";
    folder
        .record("rec", &["/usr/bin/python3", "-SBc", program])
        .ok();
    let there = folder.join("there");
    let there_text = there.to_str().unwrap();
    let made = folder
        .command("sh")
        .args(["-c", MAKE, "sh", there_text, RRAPPER])
        .output();
    succeeded("another machine", made.unwrap());
    let copied = folder.plain(&["cp", "-a", "rec", there_text]);
    copied.ok();
    fs::write(
        there.join("live.lua"),
        r#"
        local recording = rr.open "/rec"
        local read = recording:find { syscall = "read", path = "*/text" }
        local copy <close> = recording:replay_to(read):spin_off()
        local outcome = copy:live {}
        print(outcome.status, (outcome.stdout:gsub("\n", "")))
        for _, sentence in ipairs(outcome.missing) do print(sentence) end
        "#,
    )
    .unwrap();
    let said = elsewhere(&folder, &there, false, &["rrapper", "-q", "/live.lua"]);
    let said = succeeded("elsewhere", said);
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(lines[0], "exited\tof mine", "{said}");
    let about: Vec<_> = lines
        .iter()
        .filter(|line| line.contains("as before the recording"))
        .collect();
    assert_eq!(about.len(), 1, "{said}");
    assert!(
        about[0].contains("they have changed since, and there is no copy"),
        "{said}"
    );
    // The program's own file, and what was only listed in two directories, too.
    assert!(said.lines().count() <= 5, "{said}");
}

/// Files that have changed since the recording cannot be packed with it any more.
#[test]
fn what_has_changed_is_not_packed() {
    let folder = Folder::new();
    // Its content is not kept: it is only looked at, and is no small one.
    folder.write("large", [b'x'; 40 << 10]);
    folder.write("other", [b'y'; 40 << 10]);
    folder.record("rec", &["stat", "large", "other"]).ok();
    folder.write("large", [b'z'; 40 << 10]);
    let packed = folder.rrapper(["pack", "rec"]).ok();
    let mut lines = packed.stderr.lines();
    let left_out = lines.next().unwrap();
    assert!(
        left_out.contains("no copy") && left_out.contains("it has changed since the recording"),
        "{}",
        packed.stderr
    );
    assert!(left_out.ends_with("/large"), "{}", packed.stderr);
    let done = lines.next().unwrap();
    assert!(done.contains("files of the machine"), "{}", packed.stderr);
    fs::remove_file(folder.join("other")).unwrap();
    fs::remove_file(folder.join("large")).unwrap();
    let done = folder.script(
        r#"
        local recording = rr.open "rec.rrp"
        local copy <close> = recording:replay_to(10):spin_off()
        local outcome = copy:live {
          after = function(box)
            print(#box:read "other", box:read "other" == ("y"):rep(40 << 10), pcall(box.read, box, "large"))
          end,
        }
        print(#outcome.missing, outcome.missing[1])
        "#,
    );
    let text = done.ok().text();
    assert!(text.contains("40960\ttrue\tfalse\t"), "{text}");
    assert!(
        text.contains("1\t") && text.contains("/large as before the recording"),
        "{text}"
    );
}
