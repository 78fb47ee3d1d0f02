//! Sources of advisories in every shape in which they are handed about: lines, documents, YAML, lists, directories.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::collections::BTreeMap;
use std::path::Path;

use airlock_core::advisory::{AdvisoryRecord, FeedHead, FeedKind};
use airlock_core::id::Id;
use airlock_engine::feeds::{self, FeedReport};
use airlock_engine::trees;
use airlock_testkit::Kit;
use airlock_testkit::archives::{gzip, tar, zip};

/// Reads a feed; what it holds now.
async fn read(kit: &Kit, kind: FeedKind, place: &Path) -> FeedReport {
    let name = feeds::add(&kit.station, kind, &place.display().to_string()).await.unwrap();
    let mut updated = feeds::update(&kit.station, &[name]).await.unwrap();
    if let Some(error) = updated.failed {
        panic!("{error}");
    }
    updated.read.remove(0)
}

/// Why a feed cannot be read.
async fn refused(kit: &Kit, kind: FeedKind, place: &Path) -> String {
    let name = feeds::add(&kit.station, kind, &place.display().to_string()).await.unwrap();
    let updated = feeds::update(&kit.station, std::slice::from_ref(&name)).await.unwrap();
    assert!(feeds::head_of(&kit.station, &name).await.unwrap().is_none());
    updated.failed.unwrap().to_string()
}

/// The records of a feed by id.
async fn records(kit: &Kit, head: &FeedHead) -> BTreeMap<String, AdvisoryRecord> {
    let db = &kit.station.store.db;
    let mut out = BTreeMap::new();
    for (key, id) in trees::load::<Id<AdvisoryRecord>>(db, head.records()).await.unwrap() {
        out.insert(key, db.get(id).await.unwrap());
    }
    out
}

const YAML: &str = "id: PYSEC-2024-1\nmodified: \"2024-02-01T00:00:00Z\"\naliases:\n- CVE-2024-1\ndetails: one\naffected:\n- package:\n    ecosystem: PyPI\n    name: One.Two\n  ranges:\n  - type: ECOSYSTEM\n    events:\n    - introduced: \"0\"\n    - fixed: 1.10\n  versions:\n  - 1.0\n  - \"1.9\"\n";

#[tokio::test]
async fn a_directory_holds_records_in_whatever_way_they_are_written() {
    let kit = Kit::new(&[]).await;
    kit.write("feed/vulns/one/PYSEC-2024-1.yaml", YAML.as_bytes());
    kit.write("feed/lines.json", b"{\"id\":\"A-1\"}\n{\"id\":\"A-2\"}\n");
    kit.write("feed/document.jsonl", b"{\n \"id\": \"B-1\"\n}\n");
    kit.write("feed/list.json", b"[{\"id\":\"C-1\"},\n{\"id\":\"C-2\"}]");
    kit.write("feed/mark.json", b"\xef\xbb\xbf{\"id\":\"D-1\"}");
    // Neither is a record: tools keep them beside those.
    kit.write("feed/.github/workflows/x.yaml", b"on: push\n");
    kit.write("feed/README.md", b"# Read me\n");
    // None of these stops the rest.
    kit.write(
        "feed/vulns/bad/wide.yaml",
        "id: X-1\n".encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<_>>().as_slice(),
    );
    kit.write("feed/vulns/bad/utf16.yaml", b"\xff\xfei\0d\0:\0 \0X\0");
    kit.write("feed/vulns/bad/bomb.yaml", b"a: &a [1,1]\nb: *a\nid: [");
    kit.write("feed/vulns/bad/twice.yaml", b"id: X-2\nid: X-3\n");
    kit.write("feed/vulns/bad/two.yml", b"id: X-4\n---\nid: X-5\n");
    kit.write("feed/vulns/bad/type.yml", b"id: X-6\naffected: {package: 1}\n");
    kit.write("feed/vulns/bad/empty.json", b"");
    kit.write("feed/vulns/bad/cut.json", b"{\n\"id\":\"X-7");
    let report = read(&kit, FeedKind::Osv, &kit.path().join("feed")).await;
    let found = records(&kit, &report.head).await;
    assert_eq!(
        found.keys().collect::<Vec<_>>(),
        ["A-1", "A-2", "B-1", "C-1", "C-2", "D-1", "PYSEC-2024-1"],
        "{:?}",
        report.bad
    );
    let one = &found["PYSEC-2024-1"];
    assert_eq!(one.advisory.affected[0].ranges[0].to_string(), ">=0, <1.10");
    assert_eq!(one.advisory.affected[0].versions, ["1.0", "1.9"]);
    assert!(
        one.raw.as_str().starts_with(r#"{"affected":[{"package":{"ecosystem":"PyPI","name":"One.Two"},"#)
    );
    let bad: Vec<&str> = report.bad.iter().map(|bad| bad.id.as_str()).collect();
    assert_eq!((bad.len() as u64, report.head.skipped), (8, 8), "{bad:?}");
    for name in ["bomb.yaml", "cut.json", "empty.json", "twice.yaml", "two.yml", "utf16.yaml", "wide.yaml"] {
        assert!(bad.iter().any(|id| *id == format!("vulns/bad/{name}")), "{name}: {bad:?}");
    }
}

#[tokio::test]
async fn a_feed_without_any_record_is_refused() {
    let kit = Kit::new(&[]).await;
    for (name, text) in
        [("a.yaml", "- 1\n"), ("a.json", "{\"error\":1}"), ("b.json", "[]"), ("c.json", "<html>")]
    {
        let path = kit.write(name, text.as_bytes());
        let why = refused(&kit, FeedKind::Osv, &path).await;
        assert!(why.contains("no usable record"), "{name}: {why}");
    }
}

fn cve(id: &str, updated: &str, fixed: &str) -> String {
    serde_json::json!({"dataType": "CVE_RECORD", "cveMetadata": {"cveId": id, "state": "PUBLISHED", "dateUpdated": updated},
        "containers": {"cna": {"descriptions": [{"lang": "en", "value": "bad"}], "affected": [{"packageURL": "pkg:pypi/foo",
            "versions": [{"version": "0", "lessThan": fixed, "status": "affected", "versionType": "custom"}]}]}}})
    .to_string()
}

#[tokio::test]
async fn the_cve_list_is_read_as_it_is_laid_out_and_tells_what_is_affected() {
    let kit = Kit::new(&[]).await;
    let old = cve("CVE-2024-1", "2024-01-01T00:00:00", "1.1");
    let new = cve("CVE-2024-1", "2024-02-01T00:00:00", "1.2");
    let other = cve("CVE-2024-2", "2999-01-01T00:00:00", "2");
    let files: [(&str, &[u8]); 7] = [
        ("cves/2024/0xxx/CVE-2024-0001.json", new.as_bytes()),
        ("cves/2024/0xxx/CVE-2024-0001-again.json", old.as_bytes()),
        ("cves/2024/0xxx/CVE-2024-0002.json", other.as_bytes()),
        ("cves/2024/0xxx/CVE-2024-0003.json", b"{\"cveMetadata\":{\"cveId\":\"CVE-2024-3\""),
        ("cves/2024/0xxx/CVE-2024-0004.json", b"{\n\"cveMetadata\": 4}"),
        ("cves/delta.json", b"{\"fetchTime\":\"2024-01-01\",\"new\":[]}"),
        ("cves/deltaLog.json", b"[{\"fetchTime\":\"2024-01-01\",\"new\":[]}]"),
    ];
    for (name, bytes) in [("cves.zip", zip(&files)), ("cves.zip.zip", zip(&[("cves.zip", &zip(&files))]))] {
        let path = kit.write(name, &bytes);
        let report = read(&kit, FeedKind::Cve, &path).await;
        let found = records(&kit, &report.head).await;
        assert_eq!(found.keys().collect::<Vec<_>>(), ["CVE-2024-1", "CVE-2024-2"], "{:?}", report.bad);
        // Of two records with one id the later counts, whichever comes first.
        assert_eq!(found["CVE-2024-1"].advisory.affected[0].ranges[0].to_string(), ">=0, <1.2");
        assert_eq!(report.head.skipped, 2, "{:?}", report.bad);
    }
    let set = feeds::current(&kit.station).await.unwrap().1;
    let slice =
        trees::load::<Id<airlock_core::advisory::Slice>>(&kit.station.store.db, set.slices).await.unwrap();
    assert!(slice.contains_key("osv:PyPI/foo"));
}

#[tokio::test]
async fn what_openssl_and_curl_say_concerns_the_conda_packages_that_hold_them() {
    let kit = Kit::new(&[]).await;
    let record = cve("CVE-2023-1", "2024-01-01T00:00:00", "1.1.1t")
        .replace("\"packageURL\":\"pkg:pypi/foo\"", "\"vendor\":\"OpenSSL\",\"product\":\"OpenSSL\"");
    kit.write("openssl/CVE-2023-1.json", record.as_bytes());
    read(&kit, FeedKind::Openssl, &kit.path().join("openssl")).await;
    let list = br#"[{"id":"CURL-CVE-2024-1","aliases":["CVE-2024-1"],"affected":[{"ranges":[{"type":"SEMVER","events":[
        {"introduced":"7.44.0"},{"fixed":"8.7.0"}]}]}],"database_specific":{"affects":"lib"}}]"#;
    let path = kit.write("vuln.json", list);
    let report = read(&kit, FeedKind::Curl, &path).await;
    assert_eq!(report.head.count, 1);
    let set = feeds::current(&kit.station).await.unwrap().1;
    let slices =
        trees::load::<Id<airlock_core::advisory::Slice>>(&kit.station.store.db, set.slices).await.unwrap();
    for key in ["cpe:openssl:openssl", "cpe:haxx:curl", "cpe:haxx:libcurl"] {
        assert!(slices.contains_key(key), "{key}");
    }
}

const FILES: [(&str, &[u8]); 7] = [
    ("db/vulns/PYSEC-2024-1.yaml", YAML.as_bytes()),
    ("db/A-1.json", b"{\n\"id\":\"A-1\"}"),
    ("db/lines.jsonl", b"{\"id\":\"B-1\"}\n{\"id\":\"B-2\"}"),
    ("db/bad.json", b"{\n\"id\":7}"),
    ("db/.github/dependabot.yml", b"version: 2"),
    ("db/README.md", b"{\"id\":\"no\"}"),
    ("db/empty.zip.txt", b""),
];

#[tokio::test]
async fn archives_are_read_file_by_file_without_being_unpacked_to_anywhere() {
    let kit = Kit::new(&[]).await;
    let packed = gzip(b"{\"id\":\"C-1\"}");
    let files = [&FILES[..], &[("db/packed.json.gz", packed.as_slice())]].concat();
    let (zipped, tarred) = (zip(&files), tar(&files));
    let twice = zip(&[("all.zip", &zipped), ("README.txt", b"x")]);
    let archives = [
        ("all.zip", zipped.clone()),
        ("all", zipped.clone()),
        ("all.zip.zip", twice),
        ("all.tar", tarred.clone()),
        ("all.tar.gz", gzip(&tarred)),
        ("all.tar.zst", zstd::bulk::compress(&tarred, 1).unwrap()),
        ("feed/one.zip", zip(&files[..3])),
    ];
    for (name, bytes) in archives {
        let mut path = kit.write(name, &bytes);
        let mut expected = vec!["A-1", "B-1", "B-2", "C-1", "PYSEC-2024-1"];
        if name.starts_with("feed/") {
            kit.write("feed/two.tgz", &gzip(&tar(&files[3..])));
            path = kit.path().join("feed");
        }
        let report = read(&kit, FeedKind::Osv, &path).await;
        let found = records(&kit, &report.head).await;
        assert_eq!(found.keys().collect::<Vec<_>>(), expected, "{name}: {:?}", report.bad);
        expected.clear();
        let bad: Vec<String> = report.bad.iter().map(|bad| bad.id.clone()).collect();
        assert_eq!(bad.len(), 1, "{name}: {bad:?}");
        assert!(bad[0].ends_with("db/bad.json"), "{name}: {bad:?}");
    }
    // Nothing is left of what was unpacked.
    let left: Vec<_> = std::fs::read_dir(kit.station.dir.as_path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.starts_with(".tmp"))
        .collect();
    assert_eq!(left, [""; 0]);
}

#[tokio::test]
async fn an_archive_that_is_damaged_or_lies_is_refused_as_a_whole() {
    let kit = Kit::new(&[]).await;
    let record = format!("{{\"id\":\"A-1\",\"details\":\"{}\"}}", "abcdefgh".repeat(50));
    let good = zip(&[("a.json", record.as_bytes()), ("b.json", b"{\"id\":\"A-2\"}")]);
    let mut flipped = good.clone();
    flipped[60] ^= 1;
    let bomb = vec![b' '; 200 << 20];
    let inner = zip(&[("all.zip", &zip(&[("all.zip", &good), ("c.json", b"{\"id\":\"A-3\"}")]))]);
    let tarred = tar(&[("a.json", record.as_bytes())]);
    let cases = [
        ("cut.zip", good[..good.len() - 30].to_vec(), "archive"),
        ("flipped.zip", flipped, ""),
        ("behind.zip", [&good[..], b"{\"id\":\"A-9\"}"].concat(), "archive"),
        ("up.zip", zip(&[("../a.json", record.as_bytes())]), "goes up"),
        ("bomb.zip", zip(&[("a.json", &bomb)]), "times its size"),
        ("bomb.tar.zst", zstd::bulk::compress(&tar(&[("a.json", &bomb)]), 1).unwrap(), "times its size"),
        ("cut.tar", tarred[..700].to_vec(), "ends too early"),
        (
            "cut.tar.gz",
            {
                let packed = gzip(&tarred);
                packed[..packed.len() / 2].to_vec()
            },
            "",
        ),
        ("none.zip", zip(&[]), "no usable record"),
        ("text.zip", zip(&[("a.txt", b"x")]), "no usable record"),
    ];
    for (name, bytes, expected) in cases {
        let path = kit.write(name, &bytes);
        let why = refused(&kit, FeedKind::Osv, &path).await;
        assert!(why.contains(expected), "{name}: {why}");
    }
    // An archive in an archive in an archive is somebody's joke.
    let path = kit.write("deep.zip", &inner);
    let report = read(&kit, FeedKind::Osv, &path).await;
    assert_eq!(records(&kit, &report.head).await.keys().collect::<Vec<_>>(), ["A-3"]);
}

#[tokio::test]
async fn nvd_is_read_in_each_form_in_which_it_is_handed_about() {
    let kit = Kit::new(&[]).await;
    let yearly = "{\n\"feed_name\": \"CVE-2023\",\n\"cve_count\": 1,\n\"cve_items\": [\n{\"id\": \"CVE-2023-1\", \"descriptions\": []}\n]}";
    let retired = r#"{"CVE_data_type":"CVE","CVE_data_numberOfCVEs":"1","CVE_Items":[{"cve":{"CVE_data_meta":{"ID":"CVE-2021-1"}}}]}"#;
    let single = "{\n\"id\": \"CVE-2023-2\",\n\"vulnStatus\": \"Analyzed\"\n}";
    kit.write("nvd/CVE-2023.json", yearly.as_bytes());
    kit.write("nvd/nvdcve-1.1-2021.json.gz", &gzip(retired.as_bytes()));
    kit.write("nvd/CVE-2023/CVE-2023-00xx/CVE-2023-0002.json", single.as_bytes());
    kit.write("nvd/lines.jsonl", b"{\"cve\":{\"id\":\"CVE-2023-3\"}}\n{\"id\":\"CVE-2023-4\"}\n");
    kit.write("nvd/_state.csv", b"x");
    let report = read(&kit, FeedKind::Nvd, &kit.path().join("nvd")).await;
    let found = records(&kit, &report.head).await;
    assert_eq!(
        found.keys().collect::<Vec<_>>(),
        ["CVE-2021-1", "CVE-2023-1", "CVE-2023-2", "CVE-2023-3", "CVE-2023-4"],
        "{:?}",
        report.bad
    );
}

#[tokio::test]
async fn a_page_of_nvd_in_an_archive_is_read_and_one_that_is_cut_refuses_the_feed() {
    let kit = Kit::new(&[]).await;
    let page = br#"{"vulnerabilities":[{"cve":{"id":"CVE-2024-1"}},{"cve":{"id":"CVE-2024-2"}}]}"#;
    let path = kit.write("nvd.zip", &zip(&[("2024.json", page), ("2024.meta", b"size:1")]));
    let report = read(&kit, FeedKind::Nvd, &path).await;
    assert_eq!(report.head.count, 2);
    let path = kit.write("cut.zip", &zip(&[("2023.json", page), ("2024.json", &page[..60])]));
    let why = refused(&kit, FeedKind::Nvd, &path).await;
    assert!(why.contains("2024.json"), "{why}");
}
