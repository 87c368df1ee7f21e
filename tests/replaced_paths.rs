//! A recorded path may lead to anything by the time that a copy needs the file: what is there is looked at first, and no
//! FIFO or device is opened.

use crate::common::{Done, Folder, as_user};
use std::ffi::CString;
use std::fs::{self, File};
use std::io::Read;
use std::os::fd::FromRawFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Tells whether a file was opened.
struct Watch(File);

impl Watch {
    fn of(path: &Path) -> Watch {
        let path = CString::new(path.as_os_str().as_bytes()).unwrap();
        // SAFETY: inotify(7) with numbers and a path that lives for the call; the descriptor is owned at once.
        let file = unsafe {
            let fd = libc::inotify_init1(libc::IN_NONBLOCK | libc::IN_CLOEXEC);
            assert!(fd >= 0);
            assert!(libc::inotify_add_watch(fd, path.as_ptr(), libc::IN_OPEN) > 0);
            File::from_raw_fd(fd)
        };
        Watch(file)
    }

    fn was_opened(&mut self) -> bool {
        self.0.read(&mut [0; 4096]).is_ok()
    }
}

fn make_fifo(path: &Path) {
    let _ = fs::remove_file(path);
    nix::unistd::mkfifo(path, nix::sys::stat::Mode::S_IRWXU).unwrap();
}

/// Replaces a file by a FIFO, or by a symbolic link to one, and runs a script; nobody may open it.
#[track_caller]
fn with_fifo(folder: &Folder, name: &str, script: &str) -> Vec<Done> {
    let mut done = Vec::new();
    let path = folder.join(name);
    for through_link in [false, true] {
        let fifo = match through_link {
            true => folder.join("elsewhere"),
            false => path.clone(),
        };
        make_fifo(&fifo);
        if through_link {
            fs::remove_file(&path).unwrap();
            std::os::unix::fs::symlink(&fifo, &path).unwrap();
        }
        let mut watch = Watch::of(&fifo);
        done.push(folder.script(script).ok());
        assert!(!watch.was_opened(), "{name}: {script}");
        // Others' opening is seen.
        drop(File::options().read(true).write(true).open(&fifo).unwrap());
        assert!(watch.was_opened());
    }
    done
}

/// A script that goes live at the first write of the recording, or the first after a watch, and prints the outcome.
fn go_live(sandbox: &str) -> String {
    format!(
        "rr.open 'rec' local watch = rr.find{{ syscall = 'inotify_add_watch' }}\n\
         rr.replay_to(rr.find{{ syscall = 'write', from = watch }})\n\
         local o = spin_off():live{{ sandbox = '{sandbox}', timeout = 20 }}\n\
         assert(o.status == 'exited', o) print(o.stdout, table.concat(o.missing, ' '))"
    )
}

#[test]
fn an_open_file_that_is_a_fifo_by_now_is_lost() {
    let folder = Folder::new();
    for open in ["exec 5<file", "exec 5<>file", "exec 5>>file"] {
        let _ = fs::remove_file(folder.join("file"));
        folder.write("file", "text\n");
        let _ = fs::remove_dir_all(folder.join("rec"));
        folder.record_without_files("rec", &["bash", "-c", &format!("{open}; echo mark")]);
        for sandbox in ["cow", "none"] {
            for done in with_fifo(&folder, "file", &go_live(sandbox)) {
                let said = done.text();
                assert!(said.contains("only regular files"), "{open} {said}");
            }
        }
    }
}

#[test]
fn an_output_file_that_is_a_fifo_by_now_is_not_read() {
    let folder = Folder::new();
    folder.write("file", "text\n");
    let script = "exec 1<>file; echo mark; echo again";
    folder.record_without_files("rec", &["bash", "-c", script]);
    for sandbox in ["cow", "none"] {
        with_fifo(&folder, "file", &go_live(sandbox));
    }
}

#[test]
fn a_watched_path_that_is_a_fifo_by_now_is_not_watched() {
    let folder = Folder::new();
    folder.write("file", "text\n");
    let script = "import ctypes, os\nc = ctypes.CDLL(None)\nfd = c.inotify_init1(0)\n\
                  assert c.inotify_add_watch(fd, b'file', 2) == 1\nos.write(1, b'mark\\n')\n";
    folder.record_without_files("rec", &["python3", "-c", script]);
    for done in with_fifo(&folder, "file", &go_live("cow")) {
        assert!(
            done.text().contains("cannot be watched again"),
            "{}",
            done.text()
        );
    }
}

/// A copy that is not live opens a file where it maps it at a time at which the recorded program did not.
#[test]
fn a_mapped_file_that_is_a_fifo_by_now_cannot_be_mapped() {
    let folder = Folder::new();
    folder.compile("maps_twice", &[]);
    folder.write("file", "text\n");
    folder.record("rec", &["./maps_twice", "file"]);
    let script = "rr.open 'rec' rr.replay_to(rr.find{ syscall = 'openat', path = '*/file' })\n\
        local o = spin_off():inject{ mmap = { fail = 'ENOMEM', fd = 3, when = '1' }, ignore = { 'mmap' },\n\
            on_divergence = 'stop', timeout = 20 }\n\
        for _, call in ipairs(o.calls) do print(call) end print(o)";
    let unchanged = folder.script(script).ok().text();
    assert!(unchanged.contains("ENOMEM"), "{unchanged}");
    assert!(!unchanged.contains("ENODEV"), "{unchanged}");
    for done in with_fifo(&folder, "file", script) {
        assert!(done.text().contains("ENODEV"), "{}", done.text());
    }
}

/// A device of the machine, whose opening could act.
#[test]
fn an_open_file_that_is_a_device_by_now_is_lost() {
    let folder = Folder::new();
    folder.write("file", "text\n");
    folder.record_without_files("rec", &["bash", "-c", "exec 5<file; echo mark"]);
    fs::remove_file(folder.join("file")).unwrap();
    let kind = nix::sys::stat::SFlag::S_IFCHR;
    // The null device, so that the test does no harm; it is another one than what was recorded.
    let made = nix::sys::stat::mknod(
        &folder.join("file"),
        kind,
        nix::sys::stat::Mode::S_IRWXU,
        libc::makedev(1, 3),
    );
    if made.is_err() {
        // Only root makes devices: a link leads to one as well.
        std::os::unix::fs::symlink("/dev/null", folder.join("file")).unwrap();
    }
    for sandbox in ["cow", "none"] {
        let said = folder.script(&go_live(sandbox)).ok().text();
        assert!(said.contains("only regular files"), "{said}");
    }
}

#[test]
fn all_that_holds_for_users() {
    as_user(&["replaced_paths::", "--skip", "all_that_holds_for_users"]);
}
