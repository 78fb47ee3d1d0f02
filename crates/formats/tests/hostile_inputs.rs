//! Thousands of damaged inputs for each reader: each is answered, and none ends in a panic.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "tests"
)]

#[path = "common/channel.rs"]
mod channel;
#[path = "common/genuine.rs"]
mod genuine;

use airlock_core::advisory::FeedKind;
use airlock_formats::feeds::{self, cve, epss, identities, kev, nvd, osv};
use airlock_formats::{conda, msgpack, pypi};
use channel::{ODD, published, render};
use genuine::Random;

/// What breaks parsers: brackets, quotes, escapes, numbers at the ends of their types, markers of msgpack.
const PIECES: [&[u8]; 30] = [
    b"{",
    b"}",
    b"[",
    b"]",
    b"\"",
    b"\\",
    b",",
    b":",
    b"\\u0000",
    b"\\ud800",
    b"null",
    b"-1",
    b"1e999",
    b"18446744073709551616",
    b"\0",
    b"\xff",
    b"\xef\xbb\xbf",
    b"<",
    b">",
    b"<!--",
    b"&#x110000;",
    b"%",
    b"%2",
    b"#",
    b"\xdf\xff\xff\xff\xff",
    b"\xdd\xff\xff\xff\xff",
    b"\xc6\xff\xff\xff\xff",
    b"\xc1",
    b"[[[[[[[[[[[[[[[[",
    b"\n",
];

/// One to four damages: bytes changed, cut, doubled, moved, or a piece put in.
fn damaged(seed: &[u8], random: &mut Random) -> Vec<u8> {
    let mut bytes = seed.to_vec();
    for _ in 0..=random.below(4) {
        if bytes.is_empty() {
            break;
        }
        let at = random.below(bytes.len());
        let end = (at + 1 + random.below(40)).min(bytes.len());
        match random.below(7) {
            0 => bytes[at] = random.below(256) as u8,
            1 => bytes[at] ^= 1 << random.below(8),
            2 => drop(bytes.drain(at..end)),
            3 => bytes.truncate(at),
            4 => {
                let part = bytes[at..end].to_vec();
                let to = random.below(bytes.len());
                bytes.splice(to..to, part);
            }
            _ => drop(bytes.splice(at..at, PIECES[random.below(PIECES.len())].iter().copied())),
        }
    }
    bytes
}

/// Gives `read` the seed and thousands of damaged copies of it; says how many of those it accepted.
fn damage(name: &str, seed: &[u8], rounds: usize, mut read: impl FnMut(&[u8]) -> bool) {
    assert!(read(seed), "{name}: the undamaged input is refused");
    let mut random = Random::new(seed.len() as u64);
    let mut accepted = 0;
    for _ in 0..rounds {
        accepted += usize::from(read(&damaged(seed, &mut random)));
    }
    eprintln!("{name}: {accepted} of {rounds} damaged inputs were accepted");
    assert!(accepted < rounds, "{name}: nothing was ever refused");
}

/// Compressed formats are damaged behind the compression as well as in it.
fn damage_packed(name: &str, packed: &[u8], rounds: usize, read: impl Fn(&[u8]) -> bool) {
    damage(name, packed, rounds, &read);
    let bytes = zstd::stream::decode_all(packed).unwrap();
    damage(name, &bytes, rounds, |bytes| read(&zstd::bulk::compress(bytes, 1).unwrap()));
}

#[test]
fn no_damaged_conda_index_makes_a_reader_or_renderer_panic() {
    damage("repodata.json", ODD.as_bytes(), 3000, |bytes| {
        let read = conda::read_repodata("linux-64", "x", bytes);
        // What was accepted can be served, and read again by the next station.
        read.is_ok_and(|read| {
            let rendered = render("linux-64", &read);
            let again = conda::read_repodata("linux-64", "x", rendered.json.as_bytes()).unwrap();
            assert_eq!(again.records(), read.records());
            for (name, (_, packed)) in &rendered.shards {
                conda::read_shard("linux-64", name, packed).unwrap();
            }
            conda::read_shard_index("linux-64", &rendered.index).unwrap();
            true
        })
    });
}

#[test]
fn no_damaged_shard_makes_a_reader_panic() {
    let rendered = render("linux-64", &conda::read_repodata("linux-64", "x", ODD.as_bytes()).unwrap());
    damage_packed("shard", &rendered.shards["x"].1, 3000, |bytes| {
        conda::read_shard("linux-64", "x", bytes).is_ok_and(|read| published(&read).len() < 1000)
    });
    damage_packed("shard index", &rendered.index, 3000, |bytes| {
        conda::read_shard_index("linux-64", bytes).is_ok_and(|index| {
            conda::shard_index("linux-64", Some(&index.about), &index.shards).unwrap();
            true
        })
    });
}

#[test]
fn random_msgpack_is_answered_with_text_that_is_json() {
    let mut random = Random::new(3);
    for _ in 0..20_000 {
        let bytes: Vec<u8> = (0..random.below(40)).map(|_| random.number() as u8).collect();
        if let Ok(text) = msgpack::to_json(&bytes) {
            serde_json::from_str::<serde::de::IgnoredAny>(&text).unwrap();
        }
    }
}

const PYPI_JSON: &str = r#"{"meta":{"api-version":"1.4"},"name":"x","project-status":{"status":"archived","reason":"r"},"vendor":[1],
"files":[{"filename":"x-1-py3-none-any.whl","url":"https://e.example/x","hashes":{"sha256":"000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"},
"requires-python":">=3.8","core-metadata":{"sha256":"00"},"yanked":"because","size":7,"upload-time":"2024-01-01T00:00:00.000000Z"},
{"filename":"x-2.tar.gz","url":"x-2.tar.gz","hashes":{},"yanked":false}]}"#;

const PYPI_HTML: &str = r#"<!DOCTYPE html><html><head><meta name="pypi:repository-version" content="1.4"><base href="b/">
<meta name="pypi:project-status" content="archived"></head><body><!-- c --><a href="../x-1-py3-none-any.whl#sha256=000102"
data-requires-python="&gt;=3.8&#x21;" data-yanked="" data-core-metadata="sha256=00">x-1</a><br/><a href='x%2d2.tar.gz'>x</a></body></html>"#;

#[test]
fn no_damaged_pypi_page_makes_a_reader_or_renderer_panic() {
    let served = |read: Result<airlock_formats::IndexRead, airlock_formats::IndexError>| {
        read.is_ok_and(|read| {
            for shard in read.shards.values() {
                let json = pypi::project_json(shard).unwrap();
                pypi::read_project_json("x", "i", json.as_bytes()).unwrap();
                pypi::read_project_html("x", "i", pypi::project_html(shard).unwrap().as_bytes()).unwrap();
            }
            true
        })
    };
    damage("JSON page", PYPI_JSON.as_bytes(), 3000, |b| served(pypi::read_project_json("x", "i", b)));
    damage("HTML page", PYPI_HTML.as_bytes(), 5000, |b| served(pypi::read_project_html("x", "i", b)));
    let projects = br#"{"meta":{"api-version":"1.4"},"projects":[{"name":"a"},{"name":"B.c"}]}"#;
    damage("JSON list", projects, 2000, |b| pypi::read_projects_json(b).is_ok());
    damage("HTML list", PYPI_HTML.as_bytes(), 2000, |b| pypi::read_projects_html(b).is_ok());
}

#[test]
fn no_damaged_feed_makes_a_reader_panic() {
    let record = r#"{"id":"PYSEC-1","modified":"2024-01-01T00:00:00Z","aliases":["CVE-1-1"],"details":"d","affected":[{"package":{"ecosystem":"PyPI","name":"x"},"ranges":[{"type":"ECOSYSTEM","events":[{"introduced":"0"},{"fixed":"1.1"}]}],"versions":["1.0"]}],"severity":[{"type":"CVSS_V3","score":"CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H"},{"type":"CVSS_V4","score":"CVSS:4.0/AV:N/AC:L/AT:N/PR:N/UI:N/VC:H/VI:H/VA:H/SC:N/SI:N/SA:N"}],"database_specific":{"cwe_ids":["CWE-79"]}}"#;
    damage("OSV", record.as_bytes(), 5000, |bytes| {
        let mut bad = 0;
        osv::read_all(&mut &*bytes, &mut |r| bad += usize::from(r.is_err())).is_ok() && bad == 0
    });
    let yaml = "id: PYSEC-1\nmodified: '2024-01-01T00:00:00Z'\naliases: [&cve CVE-1-1]\ndetails: |\n  a\n  b\naffected:\n- package: {ecosystem: PyPI, name: x}\n  ranges:\n  - type: ECOSYSTEM\n    events:\n    - introduced: \"0\"\n    - fixed: 1.10\n  versions: [1.0, !!str 2]\nmore: *cve\n";
    damage("YAML", yaml.as_bytes(), 20_000, |bytes| {
        let mut bad = 0;
        feeds::split(FeedKind::Osv, "a.yaml", bytes, &mut |format, text| {
            bad += usize::from(text.and_then(|text| format.read(text)).is_err());
            Ok(())
        })
        .is_ok()
            && bad == 0
    });
    let page = r#"{"resultsPerPage":1,"vulnerabilities":[{"cve":{"id":"CVE-2022-1","lastModified":"2022-02-02T00:00:00.000","vulnStatus":"Analyzed","cveTags":[{"tags":["disputed"]}],"descriptions":[{"lang":"en","value":"bad"}],"metrics":{"cvssMetricV31":[{"source":"a","cvssData":{"vectorString":"CVSS:3.1/AV:L/AC:L/PR:L/UI:N/S:C/C:H/I:N/A:N","baseScore":6.5}}],"cvssMetricV2":[{"source":"a","cvssData":{"vectorString":"AV:L/AC:L/Au:N/C:P/I:N/A:N"}}]},"weaknesses":[{"description":[{"lang":"en","value":"CWE-79"}]}]}}]}"#;
    damage("NVD", page.as_bytes(), 5000, |bytes| {
        let mut bad = 0;
        nvd::read_all(bytes, &mut |r| bad += usize::from(r.is_err())).is_ok() && bad == 0
    });
    let retired = r#"{"CVE_Items":[{"cve":{"CVE_data_meta":{"ID":"CVE-2022-1"},"description":{"description_data":[{"lang":"en","value":"bad"}]},"problemtype":{"problemtype_data":[{"description":[{"lang":"en","value":"CWE-79"}]}]}},"configurations":{"nodes":[{"operator":"AND","children":[{"operator":"OR","cpe_match":[{"vulnerable":true,"cpe23Uri":"cpe:2.3:a:v:p:*:*:*:*:*:*:*:*","versionEndExcluding":"1"}]}],"cpe_match":[]}]},"impact":{"baseMetricV2":{"cvssV2":{"vectorString":"AV:L/AC:L/Au:N/C:P/I:N/A:N"}}},"publishedDate":"2022-02-11T18:15Z"}]}"#;
    damage("NVD 1.1", retired.as_bytes(), 5000, |bytes| {
        let mut bad = 0;
        feeds::split(FeedKind::Nvd, "x", bytes, &mut |format, text| {
            bad += usize::from(text.and_then(|text| format.read(text)).is_err());
            Ok(())
        })
        .is_ok()
            && bad == 0
    });
    let listed = r#"{"dataType":"CVE_RECORD","cveMetadata":{"cveId":"CVE-2024-1","state":"PUBLISHED","dateUpdated":"2024-02-03T04:05:06"},"containers":{"cna":{"descriptions":[{"lang":"en","value":"bad"}],"affected":[{"vendor":"v","product":"p","packageURL":"pkg:pypi/x","cpes":["cpe:2.3:a:zlib:zlib:*:*:*:*:*:*:*:*"],"defaultStatus":"affected","versions":[{"version":"1.0","lessThan":"1.2","status":"unaffected","changes":[{"at":"1.1","status":"affected"}]},{"version":">= 1, < 2","status":"affected"}]}],"metrics":[{"cvssV3_1":{"vectorString":"CVSS:3.1/AV:L/AC:L/PR:L/UI:N/S:C/C:H/I:N/A:N"}}]},"adp":[{"metrics":[{"other":{"type":"ssvc","content":{"options":[{"Automatable":"no"}]}}}],"cpeApplicability":[{"nodes":[{"cpeMatch":[{"criteria":"cpe:2.3:a:zlib:zlib:*:*:*:*:*:*:*:*","versionEndExcluding":"1.2"}]}]}]}]}}"#;
    damage("CVE", listed.as_bytes(), 10_000, |bytes| {
        std::str::from_utf8(bytes).is_ok_and(|text| cve::read_record(text).is_ok())
    });
    let catalogue = br#"{"vulnerabilities":[{"cveID":"CVE-1-1","dateAdded":"2024-01-01"}]}"#;
    damage("KEV", catalogue, 2000, |bytes| kev::read(bytes).is_ok());
    let scores =
        b"#model_version:v1,score_date:2026-08-22T00:00:00+0000\ncve,epss,percentile\nCVE-1-1,0.5,0.6\n";
    damage("EPSS", scores, 2000, |bytes| epss::read(&mut &*bytes).is_ok());
    let names = br#"{"pytorch":"torch","zlib":null,"pair":["a","b"]}"#;
    damage("identities", names, 2000, |bytes| identities::read(bytes, "x").is_ok());
    let packages = br#"{"schema_version":4,"packages":{"a":{"identities":[{"kind":"cpe","value":"cpe:2.3:a:x:y"}]},"b":{"purl":"pkg:pypi/b"}}}"#;
    damage("packages", packages, 2000, |bytes| identities::read(bytes, "x").is_ok());
    let rows = b"vendor\tproduct\tpurl\na\tb\tpkg:pypi/c\na\td\tpkg:npm/e\n";
    damage("products", rows, 2000, |bytes| identities::read(bytes, "x").is_ok());
}
