//! Sizes as people write them.

/// Units of sizes, in bytes.
const UNITS: [(&str, f64); 9] = [
    ("kB", 1e3),
    ("MB", 1e6),
    ("GB", 1e9),
    ("TB", 1e12),
    ("KiB", 1024.0),
    ("MiB", 1_048_576.0),
    ("GiB", 1_073_741_824.0),
    ("TiB", 1_099_511_627_776.0),
    ("bytes", 1.0),
];
/// What may be said of a text that is no size.
pub const EXPECTED: &str =
    "expected a size such as \"500 MB\"; the units are kB, MB, GB, TB, KiB, MiB, GiB, TiB, bytes";

/// The bytes that a text such as `4.7 GB` or `32GiB` says; none if it says no size.
pub fn parse(text: &str) -> Option<f64> {
    let split = text.find(|c: char| !c.is_ascii_digit() && c != '.')?;
    let (number, unit) = text.split_at(split);
    let (_, bytes) = UNITS.iter().find(|(name, _)| *name == unit.trim())?;
    number.parse::<f64>().ok().map(|number| (number * bytes).round())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_has_a_number_and_a_unit() {
        for (text, bytes) in [
            ("4.7 GB", Some(4.7e9)),
            ("32GiB", Some(34_359_738_368.0)),
            ("2TB", Some(2e12)),
            ("500 bytes", Some(500.0)),
            ("500", None),
            ("GB", None),
            ("1.2.3 GB", None),
            ("5 gb", None),
            ("-5 GB", None),
        ] {
            assert_eq!(parse(text), bytes, "{text}");
        }
    }
}
