//! A user without privileges can change in a sandbox what he can change outside, whoever the owners are: those of others'
//! files and directories are not mapped there.

use crate::common::{Folder, RRAPPER};
use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;
use std::process::Command;

const USER: u32 = 12345;
const GROUP: u32 = 54321;

/// A folder for all, if this is root, who alone can give files to others.
fn folder() -> Option<Folder> {
    if !nix::unistd::geteuid().is_root() {
        println!("skipped as this user, who cannot make files of others");
        return None;
    }
    let folder = Folder::new();
    set_mode(folder.path(), 0o755);
    directory(&folder.join("home"), 0o700, USER, USER);
    Some(folder)
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

fn directory(path: &Path, mode: u32, user: u32, group: u32) {
    fs::create_dir(path).unwrap();
    chown(path, Some(user), Some(group)).unwrap();
    set_mode(path, mode);
}

fn file(path: &Path, mode: u32, user: u32, group: u32) {
    fs::write(path, format!("the text of {}", path.display())).unwrap();
    chown(path, Some(user), Some(group)).unwrap();
    set_mode(path, mode);
}

/// Files and directories of several owners.
fn fill(folder: &Path) {
    let at = |name: &str| folder.join(name);
    directory(folder, 0o755, 0, 0);
    directory(&at("closed"), 0o755, 0, 0);
    directory(&at("closed/mine"), 0o755, USER, USER);
    directory(&at("closed/mine/sub"), 0o755, USER, USER);
    file(&at("closed/mine/file"), 0o644, USER, USER);
    file(&at("closed/mine/sub/file"), 0o644, USER, USER);
    file(&at("closed/shared"), 0o666, 0, 0);
    file(&at("closed/shared-too"), 0o664, 0, GROUP);
    file(&at("closed/private"), 0o644, 0, 0);
    directory(&at("everybodys"), 0o1777, 0, 0);
    file(&at("everybodys/roots"), 0o666, 0, 0);
    file(&at("everybodys/private"), 0o644, 0, 0);
    directory(&at("another"), 0o777, 1, 1);
    directory(&at("group"), 0o2775, 0, GROUP);
    file(&at("group/file"), 0o664, 0, GROUP);
    let time = fs::FileTimes::new().set_modified(std::time::SystemTime::UNIX_EPOCH);
    let closed = fs::File::open(at("closed")).unwrap();
    closed.set_times(time).unwrap();
}

/// A command that the user runs, who is in another group, too.
fn command(folder: &Folder, program: &str) -> Command {
    let mut command = folder.command("setpriv");
    let (user, group) = (USER.to_string(), GROUP.to_string());
    command
        .args([
            "--reuid", &user, "--regid", &user, "--groups", &group, program,
        ])
        .env("HOME", folder.join("home"))
        .env("PATH", "/usr/local/bin:/usr/bin:/bin")
        .current_dir("/");
    command
}

/// Runs a script as the user.
fn script(folder: &Folder, text: &str) -> String {
    let script = folder.write("script.lua", text);
    let output = command(folder, RRAPPER)
        .arg("-q")
        .arg(script)
        .output()
        .expect("this test needs setpriv (util-linux)");
    let complained = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{complained}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn a_recording_that_is_thrown_away_has_the_results_that_it_has_outside() {
    let Some(folder) = folder() else { return };
    let program = folder.write("owners.py", include_str!("fixtures/owners.py"));
    let [inside, outside] = ["inside", "outside"].map(|name| folder.join(name));
    fill(&inside);
    fill(&outside);
    let recording = folder.join("home/recording");
    let listed = || {
        folder.plain(&[
            "ls",
            "-lnR",
            "--time-style=+%s.%N",
            inside.to_str().unwrap(),
        ])
    };
    let before = listed().ok().text();
    let mut discard = command(&folder, RRAPPER);
    discard
        .args(["-q", "record", "--discard", "-o"])
        .arg(&recording);
    let done = discard.arg("python3").args([&program, &inside]).output();
    let done = done.unwrap();
    assert!(done.status.success(), "{done:?}");
    assert_eq!(listed().ok().text(), before);
    let expected = command(&folder, "python3")
        .args([&program, &outside])
        .output()
        .unwrap();
    let expected = String::from_utf8(expected.stdout).unwrap();
    let expected = expected.replace(outside.to_str().unwrap(), inside.to_str().unwrap());
    assert_eq!(String::from_utf8(done.stdout).unwrap(), expected);
    let mut replay = command(&folder, RRAPPER);
    let replayed = replay.args(["-q", "replay"]).arg(&recording).output();
    assert_eq!(
        String::from_utf8(replayed.unwrap().stdout).unwrap(),
        expected
    );
}

#[test]
fn what_a_user_changes_has_the_results_that_it_has_outside() {
    let Some(folder) = folder() else { return };
    let program = folder.write("owners.py", include_str!("fixtures/owners.py"));
    let [inside, outside] = ["inside", "outside"].map(|name| folder.join(name));
    fill(&inside);
    fill(&outside);
    let (program, inside) = (program.display(), inside.display());
    // The second run is in the sandbox of the first, and sees nothing of it.
    let text = script(
        &folder,
        &format!(
            r#"for _ = 1, 2 do
                 local o = live{{ "python3", "{program}", "{inside}", timeout = 60 }}
                 assert(o.exit_code == 0 and #o.missing == 0, tostring(o) .. o.stderr)
                 io.write(o.stdout)
                 local names = {{}}
                 for _, file in ipairs(o.files) do
                   names[#names + 1] = file.kind .. " " .. file.path:sub(#"{inside}/" + 1)
                 end
                 io.write(table.concat(names, "\n"), "\n==\n")
               end"#
        ),
    );
    let expected = command(&folder, "python3")
        .arg(program.to_string())
        .arg(&outside)
        .output()
        .unwrap();
    assert!(expected.status.success(), "{expected:?}");
    let expected = String::from_utf8(expected.stdout).unwrap();
    let expected = expected.replace(outside.to_str().unwrap(), &inside.to_string());
    const FILES: &str = "\
created closed/mine/by-child
created closed/mine/by-thread
created closed/mine/here
created closed/mine/linked
renamed closed/mine/other
renamed closed/mine/other/moved
created closed/mine/other/new
created closed/mine/symlink
changed closed/shared
changed closed/shared-too
created everybodys/renamed
changed everybodys/roots
created everybodys/socket
created group/fifo
changed group/file
";
    for (n, got) in text.split_terminator("==\n").enumerate() {
        for (got, expected) in got.lines().zip(expected.lines()) {
            assert_eq!(got, expected, "run {n}");
        }
        assert_eq!(got, format!("{expected}{FILES}"), "run {n}");
    }
    assert_eq!(text.matches("==\n").count(), 2);
    // Nothing of it is outside.
    let left = fs::read_to_string(folder.join("inside/closed/shared")).unwrap();
    assert!(!left.contains("more"), "{left}");
    assert!(!folder.join("inside/closed/mine/here").exists());
}

/// What is hidden stays so, however a program has its directory laid open.
#[test]
fn what_is_hidden_is_not_seen_after_a_change_beside_it() {
    let Some(folder) = folder() else { return };
    fill(&folder.join("of"));
    let of = folder.join("of");
    std::os::unix::fs::symlink(of.join("closed"), folder.join("home/link")).unwrap();
    let (of, home) = (of.display(), folder.join("home"));
    let home = home.display();
    let text = script(
        &folder,
        &format!(
            r#"local o = live{{ "sh", "-c", [[
                 cd {of}/closed; echo text >shared; cat private; echo text >mine/new && cat mine/new
                 rm {home}/link; mkdir {home}/link; mv {of}/everybodys/roots {home}/link/private; cat {home}/link/private
               ]], timeout = 60, sandbox = {{ hide = {{ "{of}/closed/private" }} }} }}
               io.write(o.stdout)"#
        ),
    );
    assert_eq!(text, "text\n");
}

/// Calls that a hook sees are listed once, with the result that they have in the end.
#[test]
fn a_copy_that_goes_live_changes_files_of_others() {
    let Some(folder) = folder() else { return };
    fill(&folder.join("of"));
    let of = folder.join("of");
    let of = of.display();
    let recording = folder.join("home/rec");
    let program = format!(
        "test -e /mark; cd {of}/closed; echo text >>shared; echo text >mine/new; echo text >private"
    );
    let recorded = command(&folder, RRAPPER)
        .args(["-q", "record", "-o"])
        .arg(&recording)
        .args(["--", "sh", "-c", &program])
        .output()
        .unwrap();
    assert!(recording.exists(), "{recorded:?}");
    let recording = recording.display();
    let text = script(
        &folder,
        &format!(
            r#"rr.open "{recording}"
               local o = rr.replay_to(rr.find{{ path = "/mark" }}):spin_off():live{{ timeout = 60 }}
               for _, call in ipairs(o.calls) do
                 local text = tostring(call)
                 if call.name == "openat" and text:find "O_WRONLY" then print((text:gsub('"[^"]*/', '"'))) end
               end
               io.write(o.stderr)
               for _, file in ipairs(o.files) do print(file.kind .. " " .. file.path:sub(#"{of}/" + 1)) end"#
        ),
    );
    let expected = "\
openat(AT_FDCWD, \"shared\", O_WRONLY|O_CREAT|O_APPEND, 0666) = 3
openat(AT_FDCWD, \"new\", O_WRONLY|O_CREAT|O_TRUNC, 0666) = 3
openat(AT_FDCWD, \"private\", O_WRONLY|O_CREAT|O_TRUNC, 0666) = -1 EACCES (Permission denied)
sh: 1: cannot create private: Permission denied
created closed/mine/new
changed closed/shared
";
    assert_eq!(text, expected);
}

/// Directories of others: what is refused outside has the same error, whether something was changed in them before or not. What
/// no kernel lets a user's sandbox do is said, and has the error that programs expect between file systems.
#[test]
fn renaming_anothers_directory_is_refused_as_outside_or_said() {
    let Some(folder) = folder() else { return };
    let program = folder.write(
        "renames.py",
        "import errno, os, sys\n\
         os.chdir(sys.argv[1])\n\
         def tell(what, do):\n\
         \x20   try: do(); print(what, 'ok')\n\
         \x20   except OSError as error: print(what, errno.errorcode[error.errno])\n\
         tell('elsewhere', lambda: os.rename('all/closed', 'mine/closed'))\n\
         tell('out', lambda: os.rename('shut/theirs', 'mine/theirs'))\n\
         tell('within', lambda: os.rename('shut/theirs', 'shut/moved'))\n\
         tell('change', lambda: open('all/closed/open/new', 'w').close())\n\
         tell('elsewhere', lambda: os.rename('all/closed', 'mine/closed'))\n\
         tell('sticky', lambda: os.rename('sticky/theirs', 'sticky/moved'))\n\
         tell('change', lambda: open('all/theirs/new', 'w').close())\n\
         tell('onto', lambda: os.rename('all/theirs', 'all/closed'))\n\
         if len(sys.argv) > 2: tell('move', lambda: os.rename('all/theirs', 'mine/theirs'))\n",
    );
    let [inside, outside] = ["inside", "outside"].map(|name| folder.join(name));
    for place in [&inside, &outside] {
        let at = |name: &str| place.join(name);
        directory(place, 0o755, 0, 0);
        directory(&at("mine"), 0o755, USER, USER);
        directory(&at("all"), 0o777, 0, 0);
        directory(&at("all/closed"), 0o755, 0, 0);
        directory(&at("all/closed/open"), 0o777, 0, 0);
        directory(&at("all/theirs"), 0o777, 1, 1);
        file(&at("all/theirs/file"), 0o644, 1, 1);
        directory(&at("shut"), 0o755, 0, 0);
        directory(&at("shut/theirs"), 0o777, 1, 1);
        directory(&at("sticky"), 0o1777, 0, 0);
        directory(&at("sticky/theirs"), 0o777, 1, 1);
    }
    let expected = command(&folder, "python3")
        .arg(&program)
        .arg(&outside)
        .output()
        .unwrap();
    let expected = String::from_utf8(expected.stdout).unwrap();
    assert_eq!(expected.lines().count(), 8, "{expected}");
    let (program, inside) = (program.display(), inside.display());
    let text = script(
        &folder,
        &format!(
            r#"local outcome = live{{ "python3", "{program}", "{inside}", timeout = 60 }}
               io.write(outcome.stdout, outcome.stderr, table.concat(outcome.missing, "\n"))
               outcome = live{{ "python3", "{program}", "{inside}", "more", timeout = 60 }}
               io.write("--\n", outcome.stdout:match("[^\n]*\n$"), table.concat(outcome.missing, "\n"))"#
        ),
    );
    let said = "move EXDEV\ntheirs, renamed: in the sandbox that was refused (EBUSY: Device or resource busy)";
    assert_eq!(text, format!("{expected}--\n{said}"));
}
