//! The files of recorded programs, worked out from their calls: at the end they are those that the programs left.

use crate::common::Folder;
use rrapper::history::Recording;
use rrapper::world::{Attributes, Base, BaseFile, Content, Kind, World};
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

/// The files before the recording: of one directory, a copy of that; of others, those of the machine.
struct Before {
    dir: PathBuf,
    copy: PathBuf,
}

impl Base for Before {
    type File = PathBuf;

    fn file(&self, path: &[u8]) -> Option<BaseFile<PathBuf>> {
        let path = Path::new(OsStr::from_bytes(path));
        let path = match path.strip_prefix(&self.dir) {
            Ok(rest) if !rest.as_os_str().is_empty() => self.copy.join(rest),
            Ok(_) => self.copy.clone(),
            Err(_) => path.to_path_buf(),
        };
        let meta = fs::symlink_metadata(&path).ok()?;
        let kind = match meta.file_type() {
            kind if kind.is_file() => Kind::File(Content::of_file(path, meta.len())),
            kind if kind.is_dir() => Kind::Directory,
            kind if kind.is_symlink() => Kind::Link(
                fs::read_link(&path)
                    .ok()?
                    .into_os_string()
                    .as_bytes()
                    .to_vec(),
            ),
            kind if kind.is_fifo() => Kind::Special(libc::S_IFIFO, 0),
            _ => Kind::Special(meta.mode() & libc::S_IFMT, meta.rdev()),
        };
        Some(BaseFile {
            kind,
            attributes: Attributes {
                mode: Some(meta.mode() & 0o7777),
                uid: Some(meta.uid()),
                gid: Some(meta.gid()),
                modified: Some(
                    i128::from(meta.mtime()) * 1_000_000_000 + i128::from(meta.mtime_nsec()),
                ),
                extended: BTreeMap::new(),
            },
            inode: (meta.dev(), meta.ino()),
        })
    }
}

/// The kernel's clock for files may be behind the recorder's by this, in nanoseconds.
const TICK: i128 = 10_000_000;

/// The longest time from the recorder's look at its clock to the change, on a busy machine.
const BUSY: i128 = 2_000_000_000;

fn bytes(content: &Content<PathBuf>) -> Vec<u8> {
    let mut all = Vec::new();
    let read = |path: &PathBuf, part: &mut [u8], at: u64| File::open(path)?.read_at(part, at);
    let then = |part: &[u8]| {
        all.extend(part);
        Ok(())
    };
    content.read(0, u64::MAX, read, then).unwrap();
    all
}

/// Every file below a directory.
fn below(dir: &Path, into: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        into.push(path.clone());
        if fs::symlink_metadata(&path).unwrap().is_dir() {
            below(&path, into);
        }
    }
}

/// What is different between the world and the directory.
fn differences(world: &mut World<Before>, dir: &Path, copy: &Path) -> Vec<String> {
    let (mut now, mut then) = (Vec::new(), Vec::new());
    below(dir, &mut now);
    below(copy, &mut then);
    let mut wrong = Vec::new();
    for path in &now {
        let name = path.strip_prefix(dir).unwrap().display();
        let meta = fs::symlink_metadata(path).unwrap();
        let Some(id) = world.node(path.as_os_str().as_bytes()) else {
            wrong.push(format!("{name} is not there"));
            continue;
        };
        let node = world.get(id).unwrap().clone();
        match &node.kind {
            Kind::File(content) if meta.is_file() => {
                if !content.is_known() || node.is_mapped {
                    wrong.push(format!("{name} is not known"));
                } else if bytes(content) != fs::read(path).unwrap() {
                    wrong.push(format!("{name} is another file"));
                }
            }
            Kind::Directory if meta.is_dir() => {}
            Kind::Link(text) if meta.is_symlink() => {
                if fs::read_link(path).unwrap().as_os_str().as_bytes() != text {
                    wrong.push(format!("{name} is another link"));
                }
            }
            Kind::Special(..) if meta.file_type().is_fifo() => {}
            kind => wrong.push(format!("{name} is a {kind:?}")),
        }
        if node.attributes.mode != Some(meta.mode() & 0o7777) && !meta.is_symlink() {
            wrong.push(format!(
                "{name}: {:?}, not {:?}",
                node.attributes.mode,
                meta.mode()
            ));
        }
        let modified = i128::from(meta.mtime()) * 1_000_000_000 + i128::from(meta.mtime_nsec());
        if node
            .attributes
            .modified
            .is_some_and(|known| !(-TICK..=BUSY).contains(&(modified - known)))
            && !meta.is_dir()
        {
            let known = node.attributes.modified;
            wrong.push(format!("{name}: modified at {modified}, not {known:?}"));
        }
    }
    let known: Vec<PathBuf> = world
        .names()
        .filter(|(_, node)| node.is_some())
        .map(|(name, _)| PathBuf::from(OsStr::from_bytes(name)))
        .chain(
            then.iter()
                .map(|path| dir.join(path.strip_prefix(copy).unwrap())),
        )
        .filter(|path| path.starts_with(dir))
        .collect();
    for path in known {
        let is_there = world.node(path.as_os_str().as_bytes()).is_some();
        if is_there && fs::symlink_metadata(&path).is_err() {
            wrong.push(format!("{} is there", path.display()));
        }
    }
    wrong
}

/// Prepares a directory, records a command in it, and compares the files that it left.
#[track_caller]
fn check(prepare: &str, command: &str) {
    let folder = Folder::new();
    let dir = folder.path().canonicalize().unwrap().join("work");
    fs::create_dir(&dir).unwrap();
    let run = |script: &str| {
        let script = format!("umask 022; cd work; {script}");
        let done = folder.plain(&["sh", "-ec", &script]);
        assert_eq!(done.code, Some(0), "{script}: {}", done.stderr);
    };
    run(prepare);
    let copy = dir.with_file_name("copy");
    folder.plain(&["cp", "-a", "work", "copy"]).ok();
    let recorded = folder.record(
        "rec",
        &["sh", "-ec", &format!("umask 027; cd work; {command}")],
    );
    assert_eq!(recorded.code, Some(0), "{}", recorded.stderr);
    let recording = Recording::open(&folder.join("rec")).unwrap();
    let base = Before {
        dir: dir.clone(),
        copy: copy.clone(),
    };
    let mut world = recording.world_at(u64::MAX, base).unwrap();
    let wrong = differences(&mut world, &dir, &copy);
    assert!(wrong.is_empty(), "{command}: {wrong:#?}");
}

macro_rules! programs {
    ($($name:ident: $prepare:literal, $command:literal;)*) => {
        $(
            #[test]
            fn $name() {
                check($prepare, $command);
            }
        )*
    };
}

programs! {
    coreutils: "seq 100 >a; mkdir -p d/e; seq 5 >d/e/f; ln -s a l; ln a h; mkfifo p; chmod 640 a",
        "cp -a d x; mv a b; mv d y; ln b z; ln -s y s; echo more >>h; echo new >s/e/g; rm l p; truncate -s 7 b; \
         install -m 751 b i; mkdir -p m/n; rmdir m/n; touch -d 2001-02-03 m; dd if=h of=y/e/f bs=3 seek=2 conv=notrunc; \
         split -l 1 y/e/g; sort -r -o h h; tee t <h; shred -u z; cp -a --reflink=auto y m/";
    sed_in_place: "seq 1000 >a", "sed -i s/1/2/ a; sed -i.old 1d a";
    archives: "mkdir d; seq 9999 >d/a; echo x >d/b; ln -s a d/l", "tar cf t.tar d; rm -r d; tar xf t.tar; gzip -k t.tar; gunzip -c t.tar.gz >u";
    git: "git init -q .; git config user.email a@b; git config user.name n; echo 1 >f; git add f; git commit -qm one",
        "echo 2 >>f; mkdir d; echo 3 >d/g; git add .; git commit -qm two; git mv f h; git commit -qm three; git gc -q; git checkout -q HEAD~2";
    sqlite: "sqlite3 t.db 'create table t (n); insert into t values (1)'",
        "sqlite3 t.db 'insert into t values (2); delete from t where n = 1; vacuum'";
    python: "mkdir d; echo 1 >d/a; echo 2 >d/b",
        "/usr/bin/python3 -c 'import shutil, os, tempfile\nshutil.copytree(\"d\", \"e\"); shutil.move(\"d\", \"g\"); os.replace(\"g/a\", \"e/b\")\nopen(\"x\", \"w+b\").write(b\"y\" * 100000); os.truncate(\"x\", 50); os.symlink(\"x\", \"l\"); open(\"l\", \"a\").write(\"z\")\nf = os.open(\".\", os.O_TMPFILE | os.O_RDWR, 0o644); os.write(f, b\"q\"); os.link(\"/proc/self/fd/%d\" % f, \"linked\", src_dir_fd=os.open(\".\", 0), follow_symlinks=True)\nos.posix_fallocate(os.open(\"x\", os.O_RDWR), 0, 200); os.utime(\"x\", ns=(1, 2)); os.chmod(\"x\", 0o600)'";
    patch_and_diff: "seq 100 >a; seq 101 >b; diff a b >p || true", "patch a p; cmp a b";
    hard_links: "echo 1 >a; ln a b; mkdir d; ln a d/c", "echo 2 >>b; mv d e; echo 3 >>e/c; rm a; echo 4 >f; mv -f f b; cp b a";
}
