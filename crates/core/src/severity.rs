//! CVSS scores: every vector of every source is kept, numbers are computed here (CVSS v2, v3.0, v3.1, v4.0).

use std::fmt;
use std::str::FromStr as _;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use wildmatch::WildMatch;

/// A CVSS score from 0.0 to 10.0 in steps of a tenth.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Tenths(u8);

impl Tenths {
    /// The nearest tenth to `score`; `None` outside 0 to 10.
    pub fn new(score: f64) -> Option<Self> {
        if !(0.0..=10.0).contains(&score) {
            return None;
        }
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the range was checked")]
        Some(Self((score * 10.0).round() as u8))
    }

    /// The score as a number.
    pub fn value(self) -> f64 {
        f64::from(self.0) / 10.0
    }

    /// The qualitative band of CVSS v3 and v4.
    pub const fn band(self) -> &'static str {
        match self.0 {
            0 => "none",
            1..=39 => "low",
            40..=69 => "medium",
            70..=89 => "high",
            _ => "critical",
        }
    }
}

impl fmt::Display for Tenths {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.0 / 10, self.0 % 10)
    }
}

impl Serialize for Tenths {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.value().serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Tenths {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let score = f64::deserialize(deserializer)?;
        Self::new(score).ok_or_else(|| D::Error::custom("a CVSS score lies between 0 and 10"))
    }
}

/// One CVSS assessment.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct Score {
    /// The number that counts.
    pub score: Tenths,
    /// The vector that it was computed from.
    pub vector: String,
    /// Who assessed: the record that holds the vector, and within NVD the assessor it names.
    pub source: String,
}

/// A vector that is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a CVSS vector of version 2, 3 or 4")]
pub struct BadVector(String);

/// Longest vector that is looked at, in bytes; a full v4 vector has 180.
pub const VECTOR_BYTES_MAX: usize = 512;

/// Computes the score of a vector.
///
/// v2 vectors come without a prefix and sometimes in parentheses.
pub fn score_of(vector: &str) -> Result<Tenths, BadVector> {
    let bad = || BadVector(vector.chars().take(120).collect());
    if vector.len() > VECTOR_BYTES_MAX {
        return Err(bad());
    }
    let vector = vector.trim();
    let score = if vector.starts_with("CVSS:4.") {
        cvss::v4::Vector::from_str(vector).map_err(|_| bad())?.score().value()
    } else if vector.starts_with("CVSS:3.") {
        cvss::v3::Vector::from_str(vector).map_err(|_| bad())?.score().value()
    } else {
        let plain = vector.trim_start_matches("CVSS:2.0/").trim_start_matches('(').trim_end_matches(')');
        cvss::v2::Vector::from_str(plain).map_err(|_| bad())?.score().value()
    };
    Tenths::new(score).ok_or_else(bad)
}

/// Assessments that a policy prefers: by their source, and by the version of CVSS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Preferred {
    /// As it is written: a pattern (`*` and `?`) of sources, and behind it, if wanted, a version.
    pub text: String,
    source: String,
    version: Option<&'static str>,
}

/// The versions of CVSS.
pub const VERSIONS: [&str; 4] = ["2.0", "3.0", "3.1", "4.0"];

impl Preferred {
    /// Reads `NVD* 3.1`, or `GHSA-*` for every version.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let (source, version) = match text.rsplit_once(' ') {
            Some((source, version)) => match VERSIONS.into_iter().find(|known| *known == version) {
                Some(version) => (source.trim_end(), Some(version)),
                None => (text, None),
            },
            None => (text, None),
        };
        let text = text.to_owned();
        (!source.is_empty()).then(|| Self { text, source: source.to_owned(), version })
    }

    fn is(&self, score: &Score) -> bool {
        self.version.is_none_or(|version| version == score.version())
            && WildMatch::new(&self.source).matches(&score.source)
    }
}

impl Score {
    /// The version of CVSS.
    pub fn version(&self) -> &'static str {
        let is = |version: &&str| self.vector.starts_with(&format!("CVSS:{version}/"));
        // Vectors of version 2 say nothing of it.
        VERSIONS.into_iter().find(is).unwrap_or("2.0")
    }
}

/// The assessment that counts where a policy prefers some: the highest of the first kind of which there is one, with what
/// it was preferred by; of none of them, the highest of all.
pub fn preferred<'a>(scores: &'a [Score], order: &[Preferred]) -> (Option<&'a Score>, Option<String>) {
    for preferred in order {
        let some: Vec<Score> = scores.iter().filter(|score| preferred.is(score)).cloned().collect();
        if let Some(best) = highest(&some) {
            return (scores.iter().find(|score| *score == best), Some(preferred.text.clone()));
        }
    }
    (highest(scores), None)
}

/// The highest of several assessments; of equals the first by source, so that the answer is one.
pub fn highest(scores: &[Score]) -> Option<&Score> {
    scores.iter().max_by(|a, b| {
        a.score.cmp(&b.score).then_with(|| b.source.cmp(&a.source)).then_with(|| b.vector.cmp(&a.vector))
    })
}
