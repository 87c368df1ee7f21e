//! The files that a call is about: what it names, or what is behind its descriptors.
//!
//! Of a process that is driven, the model of its descriptors says where paths lead; of one that is live, its file system
//! does. That takes a few system calls, so the files are found when they are first asked for.

use super::HookCall;
use crate::inject::select::PathPattern;
use crate::kernel::named_files;
use crate::trace::{CallFiles, FileNames, Value, file_names};
use crate::tracee::path_lookup::Root;
use crate::tracee::proc;
use std::rc::Rc;
use std::sync::Arc;

/// Behind the path of a descriptor whose file has no name any more.
const DELETED: &[u8] = b" (deleted)";

impl HookCall {
    /// Sets the directory in which the program began: relative patterns may begin there.
    #[must_use]
    pub fn with_began(mut self, dir: &Arc<[u8]>) -> HookCall {
        self.began = Arc::clone(dir);
        self
    }

    /// Looks at the descriptor that the call is about now.
    pub(crate) fn find_descriptor(&mut self) {
        (self.fd_path, self.fd_offset) = (None, None);
        self.about.take();
        if let Some(fd) = self.fd() {
            let files = self.files.take();
            match &files {
                Some(files) => {
                    let file = files.get(fd);
                    self.fd_path = file.map(|file| file.path.clone());
                    let moves = file.filter(|file| file.moves);
                    self.fd_offset = moves.map(|file| file.offset);
                }
                None => self.fd_path = proc::fd_path(self.memory.tid(), fd).ok(),
            }
            self.files = files.into();
        }
        if self.name() == "chdir" {
            // Relative ones lead elsewhere afterwards.
            self.about();
        }
    }

    /// The paths among the arguments; where there are none, the path behind the descriptor.
    pub fn paths(&self) -> Vec<Vec<u8>> {
        let mut paths: Vec<Vec<u8>> = self.named_paths().map(|(_, path)| path).collect();
        if paths.is_empty() {
            paths.extend(self.fd_path.clone());
        }
        paths
    }

    /// The first of [`HookCall::paths`].
    pub fn path(&self) -> Option<Vec<u8>> {
        self.paths().into_iter().next()
    }

    /// The absolute path of the file that the call is about; for a file without a path, the kernel's name for it.
    pub fn file(&self) -> Option<Vec<u8>> {
        self.about().file().map(<[u8]>::to_vec)
    }

    /// Whether the pattern means one of the call's files.
    pub fn is_about(&self, pattern: &PathPattern) -> bool {
        let about = self.about();
        pattern.means(&about) || self.is_same(pattern, &about)
    }

    /// The paths among the arguments, each with its argument.
    fn named_paths(&self) -> impl Iterator<Item = (usize, Vec<u8>)> {
        let args = self.call.path_args();
        let values = match args.is_empty() {
            true => Vec::new(),
            false => self.decoded(None),
        };
        args.into_iter().filter_map(move |arg| {
            let path = values.get(arg).and_then(Value::as_bytes)?;
            (!path.is_empty()).then(|| (arg, path.to_vec()))
        })
    }

    /// The absolute paths of the files that the call names, without symbolic links, as far as they are known.
    pub(crate) fn places(&self) -> Vec<Vec<u8>> {
        let about = self.about();
        let files = about.files.iter();
        files
            .filter_map(|file| file.absolute.first().cloned())
            .collect()
    }

    /// The files that the call is about.
    fn about(&self) -> Rc<CallFiles> {
        if let Some(about) = &*self.about.borrow() {
            return Rc::clone(about);
        }
        let about = Rc::new(match &*self.files.borrow() {
            Some(table) => CallFiles {
                files: named_files(
                    self.call,
                    &self.args,
                    (&self.memory, self.passed.as_deref()),
                    table,
                    self.resolved_path.as_deref(),
                ),
                dirs: vec![table.cwd().into(), Arc::clone(&self.began)],
            },
            None => self.real_files(),
        });
        *self.about.borrow_mut() = Some(Rc::clone(&about));
        about
    }

    fn real_files(&self) -> CallFiles {
        let tid = self.memory.tid();
        let cwd: Arc<[u8]> = proc::cwd(tid).unwrap_or_default().into();
        let mut files: Vec<FileNames> = Vec::new();
        let mut root = None;
        for (arg, text) in self.named_paths() {
            let absolute = self.real_places(arg, &text, &cwd, &mut root);
            files.push(FileNames { text, absolute });
        }
        if files.is_empty() {
            let fd_arg = self.call.fd_arg();
            let behind = |arg: usize| match self.args[arg] as i32 {
                libc::AT_FDCWD => Some(cwd.to_vec()),
                _ if Some(arg) == fd_arg => self.fd_path.clone(),
                fd => proc::fd_path(tid, fd).ok(),
            };
            for text in self.call.file_args().into_iter().filter_map(behind) {
                let named = text.strip_suffix(DELETED).map(<[u8]>::to_vec);
                let absolute = named.into_iter().chain([text.clone()]).collect();
                files.push(FileNames { text, absolute });
            }
        }
        let dirs = vec![cwd, Arc::clone(&self.began)];
        CallFiles { files, dirs }
    }

    /// The place to which a path leads, and the path as it reads.
    fn real_places(
        &self,
        arg: usize,
        text: &[u8],
        cwd: &[u8],
        root: &mut Option<Root>,
    ) -> Vec<Vec<u8>> {
        let tid = self.memory.tid();
        let mut named = self.call.named_files();
        let Some(file) = named.find(|file| file.path == arg) else {
            return Vec::new();
        };
        let is_shut_in = self.call.is_shut_in(&self.args, &self.memory);
        let inside;
        let text = match is_shut_in {
            true => {
                let normalized = file_names::normalize(&[b"/", text].concat());
                inside = normalized.get(1..).unwrap_or_default().to_vec();
                inside.as_slice()
            }
            false => text,
        };
        let mut whole = Vec::new();
        if !text.starts_with(b"/") {
            let dir = match file.dir.map(|dir| self.args[dir] as i32) {
                None | Some(libc::AT_FDCWD) => Some(cwd.to_vec()),
                Some(fd) => proc::fd_path(tid, fd).ok(),
            };
            match dir.filter(|dir| dir.starts_with(b"/")) {
                Some(dir) => whole = dir,
                None => return Vec::new(),
            }
            whole.push(b'/');
        }
        whole.extend_from_slice(text);
        if root.is_none() {
            *root = Root::of(tid);
        }
        let follows = self.call.follows_link(file, &self.args, &self.memory);
        let place = root.as_ref().and_then(|root| root.place(&whole, follows));
        let read = Some(file_names::normalize(&whole)).filter(|read| Some(read) != place.as_ref());
        place.into_iter().chain(read).collect()
    }

    /// Whether a path leads to one of the files by links.
    fn is_same(&self, pattern: &PathPattern, about: &CallFiles) -> bool {
        let (Some(path), None) = (pattern.exact(), &*self.files.borrow()) else {
            return false;
        };
        let Some(root) = Root::of(self.memory.tid()) else {
            return false;
        };
        let dirs = about.dirs.iter().filter(|dir| !dir.is_empty());
        let dirs = dirs.take(if path.starts_with('/') { 1 } else { 2 });
        dirs.map(|dir| file_names::join(dir, path.as_bytes()))
            .any(|path| {
                let places = [true, false].map(|follows| root.place(&path, follows));
                let is_it = |file: &[u8]| places.iter().any(|place| place.as_deref() == Some(file));
                about
                    .files
                    .iter()
                    .any(|file| file.absolute.first().is_some_and(|file| is_it(file)))
            })
    }
}
