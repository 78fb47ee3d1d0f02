//! What OpenSSL publishes: a CVE record for each of its vulnerabilities.
//!
//! Its records name no CPE as a rule; of them the vendor's own product is known for certain, and what names none of its
//! versions leaves open which are affected. The older `vulnerabilities.xml` is not read: OpenSSL replaced it.

use airlock_core::advisory::{AdvisoryRecord, MatchKey};

use super::{BadAdvisory, Source, cve};

/// How its records are read.
pub(super) const SOURCE: Source = Source { read: read_record, lists: &[], beside: &[] };

/// Reads one record.
pub fn read_record(json: &str) -> Result<AdvisoryRecord, BadAdvisory> {
    cve::read(json, |_, product| {
        product.trim().eq_ignore_ascii_case("openssl").then(|| MatchKey::cpe("openssl", "openssl"))
    })
}

#[cfg(test)]
mod tests {
    use airlock_core::version::{Inside, Order};

    use super::*;

    fn record(versions: &str) -> String {
        format!(
            r#"{{"dataType":"CVE_RECORD","dataVersion":"5.1","cveMetadata":{{"cveId":"CVE-2023-0286","state":"PUBLISHED","assignerShortName":"openssl"}},
            "containers":{{"cna":{{"providerMetadata":{{"shortName":"openssl"}},"title":"X.400 address type confusion","metrics":[
            {{"format":"other","other":{{"type":"https://vendor.example/secpolicy.html","content":{{"text":"high"}}}}}}],
            "affected":[{{"defaultStatus":"unaffected","vendor":"OpenSSL","product":"OpenSSL"{versions}}}]}}}}}}"#
        )
    }

    #[test]
    fn releases_with_letters_are_affected_in_the_branches_that_are_named() {
        let versions = r#","versions":[{"version":"3.0.0","lessThan":"3.0.8","status":"affected","versionType":"semver"},
            {"version":"1.1.1","lessThan":"1.1.1t","status":"affected","versionType":"custom"},
            {"version":"1.0.2","lessThan":"1.0.2zg","status":"affected","versionType":"custom"}]"#;
        let read = read_record(&record(versions)).unwrap().advisory;
        assert_eq!(read.summary, "X.400 address type confusion");
        assert_eq!(read.severity.as_deref(), Some("high"));
        let [affected] = &read.affected[..] else { panic!("{:?}", read.affected) };
        assert_eq!(affected.key.as_str(), "cpe:openssl:openssl");
        let inside = |version| {
            affected.ranges.iter().any(|range| range.contains(Order::Letters, version) == Inside::Yes)
        };
        for (version, expected) in [
            ("1.0.2", true),
            ("1.0.2u", true),
            ("1.0.2zf", true),
            ("1.0.2zg", false),
            ("1.1.0", false),
            ("1.1.1", true),
            ("1.1.1s", true),
            ("1.1.1t", false),
            ("3.0.7", true),
            ("3.0.8", false),
            ("3.1.0", false),
        ] {
            assert_eq!(inside(version), expected, "{version}");
        }
    }

    #[test]
    fn a_record_without_versions_leaves_them_open() {
        let open = record(r#","versions":[{"version":"some old releases","status":"affected"}]"#);
        let read = read_record(&open).unwrap().advisory;
        assert_eq!(
            read.affected,
            [airlock_core::advisory::Affected::of(MatchKey::cpe("openssl", "openssl"))]
        );
    }
}
