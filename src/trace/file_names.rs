//! Operations on the names of files that do not look at the file system.

use std::sync::Arc;

/// Normalizes a path: empty parts, `.`, parts undone by `..` and a trailing slash are removed. A `..` that leads above
/// the start of a relative path stays.
pub fn normalize(path: &[u8]) -> Vec<u8> {
    let is_absolute = path.first() == Some(&b'/');
    let mut parts: Vec<&[u8]> = Vec::new();
    for part in path.split(|&byte| byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." => match parts.last() {
                Some(&b"..") => parts.push(part),
                Some(_) => _ = parts.pop(),
                None if is_absolute => {}
                None => parts.push(part),
            },
            part => parts.push(part),
        }
    }
    let whole = parts.join(&b'/');
    match (is_absolute, whole.is_empty()) {
        (true, _) => [b"/", whole.as_slice()].concat(),
        (false, true) if !path.is_empty() => b".".to_vec(),
        (false, _) => whole,
    }
}

/// A path relative to a directory, normalized.
pub fn join(dir: &[u8], path: &[u8]) -> Vec<u8> {
    match path.first() {
        Some(b'/') => normalize(path),
        _ => normalize(&[dir, b"/", path].concat()),
    }
}

/// An absolute path as seen from a directory; both are normalized.
pub fn relative(path: &[u8], dir: &[u8]) -> Vec<u8> {
    let parts = |path| <[u8]>::split(path, |&byte| byte == b'/').filter(|part| !part.is_empty());
    let (mut to, mut from) = (parts(path).peekable(), parts(dir).peekable());
    while to.peek().is_some() && to.peek() == from.peek() {
        to.next();
        from.next();
    }
    let up = from.map(|_| b"..".as_slice());
    let way: Vec<&[u8]> = up.chain(to).collect();
    match way.is_empty() {
        true => b".".to_vec(),
        false => way.join(&b'/'),
    }
}

/// The names of a file that a call operates on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FileNames {
    /// The name that the call passes, or with which the descriptor that it passes was opened.
    pub text: Vec<u8>,
    /// The absolute names, as far as they are known: the present one and former ones.
    pub absolute: Vec<Vec<u8>>,
}

/// The files that a call operates on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CallFiles {
    /// The files that the call names; where it names none, the file behind its descriptor.
    pub files: Vec<FileNames>,
    /// Directories that relative names may start from: the current one, and the initial one of the program.
    pub dirs: Vec<Arc<[u8]>>,
}

impl CallFiles {
    /// Whether the predicate holds for a spelling of one of the names: as passed, absolute, or relative to a directory.
    pub fn is_meant(&self, meant: impl Fn(&[u8]) -> bool) -> bool {
        self.files.iter().any(|file| {
            let text = &file.text;
            let passed = !text.is_empty() && (meant(text) || meant(&normalize(text)));
            passed || file.absolute.iter().any(|name| self.is_name(name, &meant))
        })
    }

    fn is_name(&self, name: &[u8], meant: impl Fn(&[u8]) -> bool) -> bool {
        let is_path = name.first() == Some(&b'/');
        let mut dirs = self.dirs.iter().filter(|dir| is_path && !dir.is_empty());
        meant(name) || dirs.any(|dir| meant(&relative(name, dir)))
    }

    /// The absolute path of the first file, or the kernel's name for an object without a path; `None` where unknown.
    pub fn file(&self) -> Option<&[u8]> {
        self.files.first()?.absolute.first().map(Vec::as_slice)
    }

    /// The names that the call passes, or with which the descriptors that it passes were opened.
    pub fn paths(&self) -> impl Iterator<Item = &[u8]> {
        self.files.iter().map(|file| file.text.as_slice())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_tidied_as_they_read() {
        for (path, tidied) in [
            ("/a//b/./c/", "/a/b/c"),
            ("a/../b", "b"),
            ("./a", "a"),
            ("..//../a/..", "../.."),
            ("/../a", "/a"),
            ("a/..", "."),
            ("/", "/"),
            ("//", "/"),
            ("", ""),
        ] {
            assert_eq!(normalize(path.as_bytes()), tidied.as_bytes(), "{path}");
        }
        assert_eq!(join(b"/x/y", b"../z"), b"/x/z");
        assert_eq!(join(b"/x", b"/z/"), b"/z");
    }

    #[test]
    fn paths_are_told_from_directories() {
        for (path, dir, told) in [
            ("/a/b", "/a", "b"),
            ("/a/b", "/a/c/d", "../../b"),
            ("/a", "/a", "."),
            ("/a", "/", "a"),
            ("/ab", "/a", "../ab"),
        ] {
            let relative = relative(path.as_bytes(), dir.as_bytes());
            assert_eq!(relative, told.as_bytes(), "{path} from {dir}");
        }
    }

    #[test]
    fn any_way_to_write_a_name_will_do() {
        let file = FileNames {
            text: b"./c//d".to_vec(),
            absolute: vec![b"/a/b/c/d".to_vec()],
        };
        let about = CallFiles {
            files: vec![file],
            dirs: vec![b"/a".as_slice().into(), b"/a/b/e".as_slice().into()],
        };
        for name in ["./c//d", "c/d", "/a/b/c/d", "b/c/d", "../c/d"] {
            assert!(about.is_meant(|path| path == name.as_bytes()), "{name}");
        }
        assert!(!about.is_meant(|path| path == b"d"));
        assert_eq!(about.file(), Some(b"/a/b/c/d".as_slice()));
    }
}
