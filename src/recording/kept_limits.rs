//! The limits on the files of the machine that are copied for live continuations, and sizes as text.

/// The limits on the bytes on disk of files that are copied into a recording because of their content before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeptLimits {
    /// Those of one file.
    pub one: u64,
    /// Those of all of them.
    pub all: u64,
}

impl Default for KeptLimits {
    fn default() -> KeptLimits {
        KeptLimits {
            one: 256 << 20,
            all: 2 << 30,
        }
    }
}

impl KeptLimits {
    /// Why a file of this many bytes on disk is not copied where `already` have been, if so.
    pub fn refuse(&self, bytes: u64, already: u64) -> Option<String> {
        if bytes > self.one {
            return Some(format!("it is larger than {}", shown_size(self.one)));
        }
        let all = already.saturating_add(bytes);
        (all > self.all).then(|| format!("with others, it is more than {}", shown_size(self.all)))
    }
}

/// Units, each 1024 of the one before.
const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];

/// A number of bytes as text, exactly: `256 MiB`, `1000 B`.
pub fn shown_size(bytes: u64) -> String {
    let mut whole = bytes;
    let mut unit = 0;
    while whole > 0 && whole.is_multiple_of(1024) && unit + 1 < UNITS.len() {
        whole /= 1024;
        unit += 1;
    }
    format!("{whole} {}", UNITS[unit])
}

/// The number of bytes that a text says, as such or with a unit: `512M`, `1.5 GiB`; 1 K is 1024.
pub fn size_of_text(text: &str) -> Option<u64> {
    let is_number = |c: char| c.is_ascii_digit() || c == '.';
    let text = text.trim();
    let end = text.find(|c| !is_number(c)).unwrap_or(text.len());
    let number: f64 = text[..end].parse().ok()?;
    let unit = text[end..].trim().to_ascii_uppercase();
    let shift = match unit.as_str() {
        "" | "B" => 0,
        "K" | "KB" | "KIB" => 10,
        "M" | "MB" | "MIB" => 20,
        "G" | "GB" | "GIB" => 30,
        "T" | "TB" | "TIB" => 40,
        _ => return None,
    };
    let bytes = number * (1_u64 << shift) as f64;
    (bytes < 1e18).then_some(bytes as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_units() {
        for (text, bytes) in [
            ("0", Some(0)),
            ("700", Some(700)),
            ("700 B", Some(700)),
            ("512M", Some(512 << 20)),
            ("512 MiB", Some(512 << 20)),
            ("2gb", Some(2 << 30)),
            ("1.5k", Some(1536)),
            ("1T", Some(1 << 40)),
            ("", None),
            ("M", None),
            ("1.2.3", None),
            ("5 apples", None),
            ("-5", None),
            ("9999999T", None),
            ("5iB", None),
        ] {
            assert_eq!(size_of_text(text), bytes, "{text}");
        }
    }

    #[test]
    fn shown_sizes_are_read_again() {
        for (bytes, text) in [
            (0, "0 B"),
            (1000, "1000 B"),
            (1536, "1536 B"),
            (256 << 20, "256 MiB"),
            (2 << 30, "2 GiB"),
            (5 << 50, "5120 TiB"),
        ] {
            assert_eq!(shown_size(bytes), text);
            assert_eq!(size_of_text(text), Some(bytes));
        }
    }

    #[test]
    fn both_limits_count() {
        let limits = KeptLimits { one: 10, all: 15 };
        assert_eq!(limits.refuse(10, 5), None);
        assert_eq!(limits.refuse(11, 0).unwrap(), "it is larger than 10 B");
        let all = limits.refuse(10, 6).unwrap();
        assert_eq!(all, "with others, it is more than 15 B");
        assert!(limits.refuse(1, u64::MAX).is_some());
    }
}
