//! Abbreviates calls as strace does without `-v`: long strings and arrays are cut, large structures keep their most
//! important members, and lists of names or variables are replaced by their address.

use crate::syscall;
use crate::trace::{Call, Field, Value};

/// strace's `-s`: bytes of a string, and elements of an array.
const MOST: usize = 32;

/// Structures that strace shows in part: a member that identifies the structure, and the members that are shown.
const PARTS: [(&str, &[&str]); 6] = [
    ("st_mode", &["st_mode", "st_size", "st_rdev"]),
    (
        "stx_mask",
        &["stx_mask", "stx_attributes", "stx_mode", "stx_size"],
    ),
    ("ru_utime", &["ru_utime", "ru_stime"]),
    ("c_iflag", &["c_iflag", "c_oflag", "c_cflag", "c_lflag"]),
    ("sysname", &["sysname", "nodename"]),
    (
        "maxerror",
        &[
            "modes",
            "offset",
            "freq",
            "maxerror",
            "esterror",
            "status",
            "constant",
            "precision",
            "tolerance",
            "time",
        ],
    ),
];

/// Members that are names of files, which are shown whole.
const NAMES: [&str; 2] = ["sun_path", "d_name"];

/// Abbreviates a call. `registers` are the arguments as the kernel got them; addresses are taken from there.
pub fn abbreviate(call: &mut Call, registers: &[u64]) {
    let known = syscall::by_name(&call.name);
    let paths = known.map(|known| known.path_args()).unwrap_or_default();
    let name = call.name.as_str();
    for (i, arg) in call.args.iter_mut().enumerate() {
        let address = registers.get(i).copied();
        let environment = matches!((name, i), ("execve", 2) | ("execveat", 3));
        let listed = match arg {
            Value::Array { items, .. } if environment => Some((items.len(), "vars")),
            Value::Array { items, .. } if name.starts_with("getdents") => {
                Some((items.len(), "entries"))
            }
            _ => None,
        };
        match (listed, address) {
            (Some((count, what)), Some(address)) => {
                // strace counts one in the plural, too, but for variables.
                let what = if count == 1 && what == "vars" {
                    "var"
                } else {
                    what
                };
                *arg = Value::Written {
                    text: format!("{address:#x} /* {count} {what} */")
                        .into_bytes()
                        .into(),
                    value: Box::new(Value::Addr(address)),
                };
            }
            _ if matches!(arg, Value::Str { .. }) && (paths.contains(&i) || name == "getcwd") => {}
            _ => cut(arg),
        }
    }
    call.notes.iter_mut().for_each(|note| cut(&mut note.value));
}

fn cut(value: &mut Value) {
    match value {
        Value::Str { bytes, cut } if bytes.len() > MOST => {
            bytes.truncate(MOST);
            *cut = true;
        }
        Value::Array { items, cut: is_cut } => {
            if items.len() > MOST {
                items.truncate(MOST);
                *is_cut = true;
            }
            items.iter_mut().for_each(cut);
        }
        Value::Struct { fields, cut } => members(fields, cut),
        Value::Change { before, after } => {
            cut(before);
            cut(after);
        }
        _ => {}
    }
}

fn members(fields: &mut Vec<Field>, is_cut: &mut bool) {
    let has = |name: &str| fields.iter().any(|field| field.name == name);
    if let Some((_, shown)) = PARTS.iter().find(|(name, _)| has(name)) {
        let before = fields.len();
        fields.retain(|field| shown.contains(&field.name.as_str()));
        *is_cut |= fields.len() < before;
    }
    for field in fields {
        if !NAMES.contains(&field.name.as_str()) {
            cut(&mut field.value);
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::strace;
    use crate::trace::Entry;

    fn abbreviated(text: &str, registers: &[u64]) -> String {
        let entry = strace::line(text.as_bytes()).expect("a call");
        let Some(Entry::Call(mut call)) = entry else {
            panic!("{text} is no call");
        };
        super::abbreviate(&mut call, registers);
        let mut out = Vec::new();
        let entry = Entry::Call(call);
        strace::write_as_read(&entry, &mut out).expect("a vector takes everything");
        String::from_utf8_lossy(&out).into_owned()
    }

    #[test]
    fn strings_are_cut_and_paths_are_not() {
        let long = "0123456789abcdef0123456789abcdef";
        for (text, want) in [
            (
                format!("read(3, \"{long}\", 32) = 32"),
                format!("read(3, \"{long}\", 32) = 32"),
            ),
            (
                format!("read(3, \"{long}0\", 33) = 33"),
                format!("read(3, \"{long}\"..., 33) = 33"),
            ),
            (
                format!("open(\"/{long}0\", O_RDONLY) = 3"),
                format!("open(\"/{long}0\", O_RDONLY) = 3"),
            ),
            (
                format!("writev(1, [{{iov_base=\"{long}0\", iov_len=33}}], 1) = 33"),
                format!("writev(1, [{{iov_base=\"{long}\"..., iov_len=33}}], 1) = 33"),
            ),
        ] {
            assert_eq!(abbreviated(&text, &[]), want);
        }
    }

    #[test]
    fn structures_and_lists_are_shown_in_part() {
        for (text, registers, want) in [
            (
                "fstat(3, {st_dev=makedev(0x8, 0x1), st_ino=2, st_mode=S_IFREG|0644, st_size=5, st_mtime=7}) = 0",
                &[][..],
                "fstat(3, {st_mode=S_IFREG|0644, st_size=5, ...}) = 0",
            ),
            (
                "execve(\"/bin/true\", [\"true\"], [\"A=1\", \"B=2\"]) = 0",
                &[1, 2, 0x7f10],
                "execve(\"/bin/true\", [\"true\"], 0x7f10 /* 2 vars */) = 0",
            ),
            (
                "getdents64(3, [{d_ino=1, d_name=\".\"}], 100) = 24",
                &[3, 0x10, 100],
                "getdents64(3, 0x10 /* 1 entries */, 100) = 24",
            ),
        ] {
            assert_eq!(abbreviated(text, registers), want);
        }
        let many = vec!["1"; 40].join(", ");
        let shown = abbreviated(&format!("f([{many}]) = 0"), &[]);
        assert_eq!(shown.matches("1, ").count(), 32, "{shown}");
        assert!(shown.ends_with("1, ...]) = 0"), "{shown}");
    }
}
