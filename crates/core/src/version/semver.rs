//! Semantic Versioning 2.0.0, read with some patience: numbers may be missing or begin with zeros, as databases write
//! them.

use std::cmp::Ordering;

/// A version, in bytes.
const BYTES_MAX: usize = 200;

/// A version, read; what stands behind `+` decides nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Version {
    /// Three or more; what is missing is zero.
    release: Vec<u64>,
    /// Identifiers of a pre-release.
    before: Vec<Identifier>,
}

/// One identifier of a pre-release: numbers come before texts (SemVer 2.0.0, 11.4).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Identifier {
    Number(u64),
    Text(String),
}

impl Version {
    pub(super) fn parse(text: &str) -> Option<Self> {
        if text.len() > BYTES_MAX {
            return None;
        }
        let text = text.split('+').next().unwrap_or_default();
        let text = text.strip_prefix('v').unwrap_or(text);
        let (release, before) = text.split_once('-').map_or((text, None), |(r, b)| (r, Some(b)));
        let mut release: Vec<u64> = release.split('.').map(number).collect::<Option<_>>()?;
        while release.len() > 1 && release.last() == Some(&0) {
            release.pop();
        }
        let identifier = |text: &str| {
            let plain = !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
            plain.then(|| number(text).map_or_else(|| Identifier::Text(text.to_owned()), Identifier::Number))
        };
        let before = before.map(|b| b.split('.').map(identifier).collect::<Option<_>>());
        Some(Self { release, before: before.unwrap_or(Some(Vec::new()))? })
    }
}

fn number(text: &str) -> Option<u64> {
    text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

impl Ord for Version {
    fn cmp(&self, other: &Self) -> Ordering {
        let pre = match (self.before.is_empty(), other.before.is_empty()) {
            (true, false) => Ordering::Greater,
            (false, true) => Ordering::Less,
            _ => self.before.cmp(&other.before),
        };
        self.release.cmp(&other.release).then(pre)
    }
}

impl PartialOrd for Version {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_follow_the_example_of_the_specification() {
        let rising = [
            "0.9",
            "1.0.0-alpha",
            "1.0.0-alpha.1",
            "1.0.0-alpha.beta",
            "1.0.0-beta",
            "1.0.0-beta.2",
            "1.0.0-beta.11",
            "1.0.0-rc.1",
            "1.0.0",
            "1.0.1",
            "2020.12.23",
            "2023.03.13",
        ];
        for pair in rising.windows(2) {
            assert!(Version::parse(pair[0]) < Version::parse(pair[1]), "{pair:?}");
        }
        assert_eq!(Version::parse("v1.0+build.5"), Version::parse("1"));
        for bad in ["", "1..2", "1.0-", "1.0-é", "x", "1.1.1k"] {
            assert_eq!(Version::parse(bad), None, "{bad}");
        }
    }
}
