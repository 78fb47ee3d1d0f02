//! Policies that are ready to be used as they are, or to begin with.

/// Name and text of each.
pub const READY: [(&str, &str); 6] = [
    ("default", super::DEFAULT),
    ("strict-fail-closed", include_str!("ready/strict-fail-closed.toml")),
    ("healthcare-cvss7", include_str!("ready/healthcare-cvss7.toml")),
    ("cool-off-14-days", include_str!("ready/cool-off-14-days.toml")),
    ("licence-permissive", include_str!("ready/licence-permissive.toml")),
    ("curated-list-only", include_str!("ready/curated-list-only.toml")),
];

/// The text of the one of this name.
pub fn text(name: &str) -> Option<&'static str> {
    READY.iter().find(|(known, _)| *known == name).map(|(_, text)| *text)
}
