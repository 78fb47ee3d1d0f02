//! What a person types to name packages: a name with wildcards and, if wanted, versions.
//!
//! `idna`, `py*`, `idna=3.6`, `urllib3>=1.26,<2`, `idna==3.6`. The version part is read by the rules of the
//! ecosystem: PEP 440 for PyPI, conda's own (CEP 29) for conda.

use std::str::FromStr as _;

use rattler_conda_version::{ParseStrictness, Version, VersionSpec};
use wildmatch::WildMatch;

use crate::ecosystem::{self, Ecosystem};

/// Longest spec, in bytes.
pub const SPEC_BYTES_MAX: usize = 4096;
/// Most parentheses in one.
const PARENTHESES_MAX: usize = 20;

/// A pattern over names and versions.
#[derive(Debug, Clone)]
pub struct Spec {
    text: String,
    ecosystem: Ecosystem,
    name: WildMatch,
    exact_name: Option<String>,
    version: Versions,
}

#[derive(Debug, Clone)]
enum Versions {
    Any,
    Exactly(String),
    Conda(VersionSpec),
    Pypi(pep440_rs::VersionSpecifiers),
}

/// A spec that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{spec}` is not a package spec: {reason}; write a name, or a name and versions such as `idna>=3.7`")]
pub struct BadSpec {
    spec: String,
    reason: String,
}

impl Spec {
    /// Reads a spec for this ecosystem.
    pub fn parse(ecosystem: Ecosystem, text: &str) -> Result<Self, BadSpec> {
        let bad =
            |reason: &str| BadSpec { spec: text.chars().take(120).collect(), reason: reason.to_owned() };
        let text = text.trim();
        if text.len() > SPEC_BYTES_MAX || text.matches('(').count() > PARENTHESES_MAX {
            return Err(bad("it is too long, or has too many parentheses"));
        }
        let split = text.find(|c: char| "=<>!~ ".contains(c)).unwrap_or(text.len());
        let (name, versions) = text.split_at(split);
        let plain = name.replace(['*', '?'], "x");
        let canonical = ecosystem::canonical_name(ecosystem, &plain).ok_or_else(|| bad("no valid name"))?;
        let has_wildcard = name.contains(['*', '?']);
        let pattern = if has_wildcard { ecosystem::name_pattern(ecosystem, name) } else { canonical.clone() };
        let versions = versions.trim();
        let version = match (ecosystem, versions) {
            (_, "") => Versions::Any,
            (Ecosystem::Conda, exact) if exact.starts_with("==") && !exact.contains([',', '*', '|']) => {
                Versions::Exactly(exact.trim_start_matches('=').trim().to_owned())
            }
            (Ecosystem::Pypi, exact) if exact.starts_with('=') && !exact.starts_with("==") => {
                Versions::Exactly(exact[1..].trim().to_owned())
            }
            (Ecosystem::Conda, spec) => VersionSpec::from_str(spec, ParseStrictness::Lenient)
                .map(Versions::Conda)
                .map_err(|e| bad(&e.to_string()))?,
            (Ecosystem::Pypi, spec) => match pep440_rs::VersionSpecifiers::from_str(spec) {
                Ok(specifiers) => Versions::Pypi(specifiers),
                // A version that PEP 440 cannot read can still be named.
                Err(_) if spec.starts_with("==") && !spec.contains([',', '*']) => {
                    Versions::Exactly(spec.trim_start_matches('=').trim().to_owned())
                }
                Err(e) => return Err(bad(&e.to_string())),
            },
        };
        Ok(Self {
            text: text.to_owned(),
            ecosystem,
            name: WildMatch::new(&pattern),
            exact_name: (!has_wildcard).then_some(canonical),
            version,
        })
    }

    /// The spec as it was typed.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The one name that this spec means, unless it has wildcards.
    pub fn exact_name(&self) -> Option<&str> {
        self.exact_name.as_deref()
    }

    /// Whether a canonical name matches.
    pub fn matches_name(&self, name: &str) -> bool {
        self.name.matches(name)
    }

    /// Whether the spec says anything about versions.
    pub const fn has_versions(&self) -> bool {
        !matches!(self.version, Versions::Any)
    }

    /// Whether a version can be held against the spec at all: what its ecosystem's order cannot read is neither
    /// inside nor outside.
    pub fn can_tell(&self, version: &str) -> bool {
        match &self.version {
            Versions::Any | Versions::Exactly(_) => true,
            Versions::Conda(_) => Version::from_str(version).is_ok(),
            Versions::Pypi(_) => pep440_rs::Version::from_str(version).is_ok(),
        }
    }

    /// Whether a version matches. A version that the ecosystem's rules cannot read matches only as the
    /// same text.
    pub fn matches_version(&self, version: &str) -> bool {
        match &self.version {
            Versions::Any => true,
            Versions::Exactly(text) => {
                text == version
                    || crate::version::Order::of(self.ecosystem).compare(text, version)
                        == Some(std::cmp::Ordering::Equal)
            }
            Versions::Conda(spec) => Version::from_str(version).is_ok_and(|v| spec.matches(&v)),
            Versions::Pypi(spec) => pep440_rs::Version::from_str(version).is_ok_and(|v| spec.contains(&v)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_versions_match_by_the_rules_of_the_ecosystem() {
        let table = [
            (Ecosystem::Pypi, "Jinja2", "jinja2", "3.1", true),
            (Ecosystem::Pypi, "jinja2==3.1", "jinja2", "3.1.0", true),
            (Ecosystem::Pypi, "jinja2>=3,<4", "jinja2", "2.9", false),
            (Ecosystem::Pypi, "py*", "pytest", "1", true),
            (Ecosystem::Pypi, "Zope.*", "zope-interface", "1", true),
            (Ecosystem::Pypi, "torch==2.0.0", "torch", "2.0.0+cu118", true),
            (Ecosystem::Pypi, "old==0.1-bulbasaur", "old", "0.1-bulbasaur", true),
            (Ecosystem::Conda, "idna=3.6", "idna", "3.6.1", true),
            (Ecosystem::Conda, "idna==3.6", "idna", "3.6.1", false),
            (Ecosystem::Conda, "idna 3.6.*", "idna", "3.6.1", true),
            (Ecosystem::Conda, "idna>=3.7|<3", "idna", "3.6", false),
        ];
        for (ecosystem, text, name, version, expected) in table {
            let spec = Spec::parse(ecosystem, text).unwrap();
            assert_eq!(spec.matches_name(name) && spec.matches_version(version), expected, "{text}");
        }
    }

    #[test]
    fn nonsense_is_refused_with_a_reason() {
        for bad in ["", "a/b", ">=1", "idna>>3"] {
            assert!(Spec::parse(Ecosystem::Conda, bad).is_err(), "{bad}");
            assert!(Spec::parse(Ecosystem::Pypi, bad).is_err(), "{bad}");
        }
    }
}
