//! `info/security.json` of conda packages (conda schemas, `info-security-1`): what whoever built a package states of the
//! vulnerabilities in it.

use serde::Deserialize;
use serde_json::Value;

use airlock_core::assess::Statement;
use airlock_core::matching::Status;

use super::shortened;
use crate::feeds::{is_cve, null_as_default};
use crate::limits;

#[derive(Default, Deserialize)]
struct Security {
    #[serde(default, deserialize_with = "null_as_default")]
    vulns_mitigated: Vec<Value>,
    #[serde(default, deserialize_with = "null_as_default")]
    vulns_disputed: Vec<Value>,
    #[serde(default, deserialize_with = "null_as_default")]
    vulns_cleared: Vec<Value>,
    #[serde(default, deserialize_with = "null_as_default")]
    vulns_active: Vec<Value>,
}

/// The statements of a package about itself. What cannot be understood states nothing: the package is no worse for it.
pub fn read(bytes: &[u8]) -> Vec<Statement> {
    let Ok(security) = serde_json::from_slice::<Security>(bytes) else { return Vec::new() };
    let lists = [
        (Status::Mitigated, &security.vulns_mitigated),
        (Status::Disputed, &security.vulns_disputed),
        (Status::Cleared, &security.vulns_cleared),
        (Status::Active, &security.vulns_active),
    ];
    let all = lists.into_iter().flat_map(|(status, list)| list.iter().map(move |one| (status, one)));
    let mut out: Vec<Statement> = all
        .filter_map(|(status, one)| statement(status, one))
        .take(limits::VEX_STATEMENTS_OF_ONE_MAX)
        .collect();
    out.sort();
    out.dedup();
    out
}

fn statement(status: Status, raw: &Value) -> Option<Statement> {
    // The schema wants an object; packages are known that have bare ids.
    let id = raw.as_str().or_else(|| raw.get("id")?.as_str())?;
    let text = |key: &str| raw.get(key).and_then(Value::as_str).filter(|text| !text.is_empty());
    let patch = text("patch_fn").map(|name| format!("patch {name}"));
    let note = text("comment").map(str::to_owned).or(patch).unwrap_or_default();
    is_cve(id).then(|| Statement { note: shortened(&note), ..Statement::new(id, status) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_package_states_what_it_mitigates_and_nonsense_states_nothing() {
        let text = br#"{"schema_version":1,"vulns_mitigated":[{"id":"CVE-2023-1234567","patch_fn":"a.patch"},7,{}],
            "vulns_cleared":[{"id":"CVE-2022-1","comment":"not built"},"CVE-2022-2"],"vulns_active":null,"vulns_disputed":[{"id":"GHSA-1"}]}"#;
        let said: Vec<_> = read(text).into_iter().map(|s| (s.vulnerability, s.status, s.note)).collect();
        let of = |id: &str, status, note: &str| (id.to_owned(), status, note.to_owned());
        assert_eq!(
            said,
            [
                of("CVE-2022-2", Status::Cleared, ""),
                of("CVE-2022-1", Status::Cleared, "not built"),
                of("CVE-2023-1234567", Status::Mitigated, "patch a.patch"),
            ]
        );
        for nonsense in [&b""[..], b"[]", b"{", b"7", b"{\"vulns_cleared\":7}", b"\xff"] {
            assert_eq!(read(nonsense), [], "{nonsense:?}");
        }
    }
}
