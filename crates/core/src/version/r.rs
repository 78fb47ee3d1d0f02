//! The order of R packages (`package_version`): numbers between `.` and `-`, compared one after another, of which a
//! missing one is less than zero.

/// A version, in bytes.
const BYTES_MAX: usize = 200;

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Version(Vec<u64>);

impl Version {
    pub(super) fn parse(text: &str) -> Option<Self> {
        let number =
            |text: &str| text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok()).flatten();
        // conda, which forbids `-` in versions, writes `_`.
        let numbers = text.split(['.', '-', '_']).map(number).collect::<Option<Vec<u64>>>();
        numbers.filter(|n| n.len() > 1 && text.len() <= BYTES_MAX).map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_compared_one_after_another() {
        let rising = ["0.9", "1.0", "1.0.0", "1.0-1", "1.0.2", "1.0_10", "1.2-3", "2023.1"];
        for pair in rising.windows(2) {
            assert!(Version::parse(pair[0]) < Version::parse(pair[1]), "{pair:?}");
        }
        assert_eq!(Version::parse("1.01-2"), Version::parse("1.1.2"));
        for bad in ["", "1", "1.x", "1..2", "1.0rc1"] {
            assert_eq!(Version::parse(bad), None, "{bad}");
        }
    }
}
