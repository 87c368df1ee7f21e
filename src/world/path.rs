//! Walking along paths, through symbolic links.

/// The limit on symbolic links, as in the kernel.
const MOST_LINKS: usize = 40;

/// The absolute path that an absolute path leads to. `link` is asked about each path on the way, and whether it is the last
/// one: it returns the text of a symbolic link that is to be followed.
pub fn walk(path: &[u8], mut link: impl FnMut(&[u8], bool) -> Option<Vec<u8>>) -> Vec<u8> {
    let mut rest = parts(path);
    let mut at: Vec<u8> = Vec::new();
    let mut links = 0;
    while let Some(part) = rest.pop() {
        let before = at.len();
        if part == b".." {
            let end = at.iter().rposition(|&byte| byte == b'/').unwrap_or(0);
            at.truncate(end);
            continue;
        }
        at.push(b'/');
        at.extend(&part);
        if let Some(text) = link(&at, rest.is_empty()).filter(|_| links < MOST_LINKS) {
            links += 1;
            at.truncate(if text.starts_with(b"/") { 0 } else { before });
            rest.append(&mut parts(&text));
        }
    }
    if at.is_empty() {
        at.push(b'/');
    }
    at
}

/// The parts of a path, without those that stay where they are, the last one first.
fn parts(path: &[u8]) -> Vec<Vec<u8>> {
    let parts = path.split(|&byte| byte == b'/').rev();
    let parts = parts.filter(|part| !part.is_empty() && *part != b".");
    parts.map(<[u8]>::to_vec).collect()
}

#[cfg(test)]
mod tests {
    use super::walk;

    #[test]
    fn links_are_followed_where_they_are_asked_to_be() {
        let link = |at: &[u8], is_last: bool| match at {
            b"/a" => Some(b"b/../c".to_vec()),
            b"/c/d" if !is_last => Some(b"/e".to_vec()),
            b"/loop" => Some(b"loop".to_vec()),
            _ => None,
        };
        assert_eq!(walk(b"/a/d", link), b"/c/d");
        assert_eq!(walk(b"//a/./d/f/", link), b"/e/f");
        assert_eq!(walk(b"/loop/x", link), b"/loop/x");
        assert_eq!(walk(b"/../..", link), b"/");
    }
}
