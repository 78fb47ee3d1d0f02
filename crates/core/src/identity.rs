//! What a conda package is in other namespaces, and how well a package is covered by advisories.

use serde::{Deserialize, Serialize};

/// What a conda name is elsewhere, and who says so.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// Canonical PyPI names; none where the map knows the package and names no counterpart.
    pub pypi: Vec<String>,
    /// The feed that said so.
    pub provenance: String,
}

/// How well advisories can be expected to speak of a package.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Coverage {
    /// The identity is certain: the package's own namespace, or reviewed by a person.
    Verified,
    /// The identity comes from a map that nobody here reviewed.
    Automatic,
    /// A person ruled that no advisory can concern it.
    NoneNeeded,
    /// No identity: nothing that is known could have matched. Never the same as clean.
    Unknown,
}

impl Coverage {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Verified, Self::Automatic, Self::NoneNeeded, Self::Unknown];

    /// The name in policies.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Verified => "verified",
            Self::Automatic => "automatic",
            Self::NoneNeeded => "none-needed",
            Self::Unknown => "unknown",
        }
    }
}
