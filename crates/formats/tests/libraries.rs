//! Libraries and tools in C: what is built in of their identities has its evidence, and well-known CVEs concern the very
//! conda versions that their vendors name.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "tests"
)]

#[path = "common/genuine.rs"]
mod genuine;

use std::collections::{BTreeMap, BTreeSet};

use airlock_core::advisory::{Advisory, MatchKey, Slice, slices};
use airlock_core::cpe::Cpe;
use airlock_core::ecosystem::Ecosystem;
use airlock_core::identity::builtin;
use airlock_core::matching::{self, Finding};
use airlock_formats::feeds::{nvd, osv};
use genuine::unpacked;

fn bitnami() -> Option<Vec<Advisory>> {
    let bytes = unpacked("advisories/osv-bitnami.jsonl.gz")?;
    let mut out = Vec::new();
    osv::read_all(&mut &bytes[..], &mut |r| out.push(r.unwrap().advisory)).unwrap();
    Some(out)
}

fn nvd(bytes: &[u8]) -> Vec<Advisory> {
    let mut out = Vec::new();
    nvd::read_all(bytes, &mut |r| out.push(r.unwrap().advisory)).unwrap();
    out
}

/// The CPE products that Bitnami's records name, by its own names.
fn bitnami_products() -> Option<BTreeMap<String, BTreeSet<String>>> {
    let bytes = unpacked("advisories/osv-bitnami.jsonl.gz")?;
    let mut out: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for line in std::str::from_utf8(&bytes).unwrap().lines() {
        let record: serde_json::Value = serde_json::from_str(line).unwrap();
        let cpes = record["database_specific"]["cpes"].as_array().cloned().unwrap_or_default();
        for affected in record["affected"].as_array().unwrap() {
            let name = format!("osv:Bitnami/{}", affected["package"]["name"].as_str().unwrap());
            for cpe in cpes.iter().filter_map(|c| Cpe::parse(c.as_str().unwrap()).ok()) {
                let key = MatchKey::cpe(cpe.vendor.value().unwrap(), cpe.product.value().unwrap());
                out.entry(name.clone()).or_default().insert(key.as_str().to_owned());
            }
        }
    }
    Some(out)
}

#[test]
fn built_in_rows_have_their_evidence() {
    let purls =
        unpacked("identity/cpe-product-to-purl.tsv.gz").map(|bytes| String::from_utf8(bytes).unwrap());
    let (Some(purls), Some(products)) = (purls, bitnami_products()) else { return };
    let purls: BTreeSet<(String, &str)> = purls
        .lines()
        .filter_map(|line| {
            let [vendor, product, purl] = <[&str; 3]>::try_from(line.split('\t').collect::<Vec<_>>()).ok()?;
            Some((format!("cpe:{vendor}:{product}"), purl))
        })
        .collect();
    let mut names = 0;
    for row in builtin::rows() {
        names += row.names.len();
        let of_row: BTreeSet<&str> = row.keys.iter().map(MatchKey::as_str).collect();
        for key in &of_row {
            if key.starts_with("cpe:") {
                assert!(purls.contains(&((*key).to_owned(), row.upstream)), "{key} is not {}", row.upstream);
            } else {
                let shared = products[*key].iter().any(|product| of_row.contains(product.as_str()));
                assert!(shared, "no record of {key} names a product of {:?}", row.names);
            }
        }
    }
    eprintln!("{names} conda names of {} upstreams have their evidence", builtin::rows().count());
    assert!(names >= 300);
}

/// Names under which conda-forge and PyPI, or two makers of software, have different things.
#[test]
fn other_software_of_the_same_name_does_not_match() {
    let identities = builtin::identities();
    let keys = |name: &str| -> Vec<&str> {
        identities.get(name).map(|i| i.mappings.iter().map(|m| m.key.as_str()).collect()).unwrap_or_default()
    };
    // NVD also has `ruby-lang:zlib` and `cloudflare:zlib`, `jenkins:git`, `isaacs:tar`, `curl_project:curl`.
    assert_eq!(keys("zlib"), ["cpe:gnu:zlib", "cpe:zlib:zlib"]);
    assert_eq!(keys("tar"), ["cpe:gnu:tar"]);
    assert!(!keys("git").iter().any(|key| key.contains("jenkins") || key.contains("windows")));
    assert!(!keys("curl").contains(&"cpe:curl_project:curl"));
    for python in
        ["minio", "redis", "elasticsearch", "kubernetes-client-python", "brotli-python", "zstandard"]
    {
        assert_eq!(keys(python), [""; 0], "{python}");
    }
}

/// One record in NVD's form, made for when the genuine ones are not there.
const MADE: &str = r#"{"vulnerabilities":[{"cve":{"id":"CVE-2022-0778","configurations":[{"nodes":[{"operator":"OR","negate":false,"cpeMatch":[
{"vulnerable":true,"criteria":"cpe:2.3:a:openssl:openssl:*:*:*:*:*:*:*:*","versionStartIncluding":"1.0.2","versionEndExcluding":"1.0.2zd"},
{"vulnerable":true,"criteria":"cpe:2.3:a:openssl:openssl:*:*:*:*:*:*:*:*","versionStartIncluding":"1.1.1","versionEndExcluding":"1.1.1n"},
{"vulnerable":true,"criteria":"cpe:2.3:a:openssl:openssl:*:*:*:*:*:*:*:*","versionStartIncluding":"3.0.0","versionEndExcluding":"3.0.2"}]}]}]}},
{"cve":{"id":"CVE-2022-37434","configurations":[{"nodes":[{"operator":"OR","negate":false,"cpeMatch":[
{"vulnerable":true,"criteria":"cpe:2.3:a:zlib:zlib:*:*:*:*:*:*:*:*","versionEndIncluding":"1.2.12"}]}]}]}}]}"#;

fn findings(slices: &BTreeMap<MatchKey, Slice>, conda: &str, version: &str) -> Vec<Finding> {
    let identities = builtin::identities();
    let lookups = matching::lookups(Ecosystem::Conda, conda, identities.get(conda));
    let found: Vec<_> = lookups.into_iter().filter_map(|l| Some((slices.get(&l.key)?, l))).collect();
    let found: Vec<_> = found.into_iter().map(|(slice, lookup)| (lookup, slice)).collect();
    matching::match_version(&found, version)
}

#[test]
fn well_known_cves_concern_the_versions_that_their_vendors_name() {
    let genuine = unpacked("advisories/nvd-2.0-2022.json.gz").zip(bitnami());
    let is_genuine = genuine.is_some();
    let (of_nvd, of_bitnami) = match genuine {
        Some((bytes, bitnami)) => (nvd(&bytes), bitnami),
        None => (nvd(MADE.as_bytes()), Vec::new()),
    };
    let all = of_nvd.iter().map(|a| ("nvd", a)).chain(of_bitnami.iter().map(|a| ("bitnami", a)));
    let slices = slices(all);
    let (mut cves, mut wrong) = (BTreeSet::new(), Vec::new());
    for line in include_str!("known_cves.tsv").lines().filter(|line| !line.starts_with('#')) {
        let [cve, conda, affected, unaffected] =
            <[&str; 4]>::try_from(line.split('\t').collect::<Vec<_>>()).unwrap();
        if !is_genuine && !MADE.contains(cve) {
            continue;
        }
        cves.insert(cve);
        for (versions, is_affected) in [(affected, true), (unaffected, false)] {
            for version in versions.split(' ') {
                let found = findings(&slices, conda, version);
                let finding = found.iter().find(|f| f.is_called(cve));
                if finding.is_some() != is_affected {
                    wrong.push(format!("{conda} {version} {cve}: {:?}", finding.map(|f| &f.evidence)));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(cves.len() >= if is_genuine { 40 } else { 2 });
    eprintln!("{} CVEs come out right", cves.len());
}
