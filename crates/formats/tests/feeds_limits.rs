//! Every limit on feeds is hit, and what is over it is refused or left out by name.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods, reason = "tests")]

use airlock_core::advisory::FeedKind;
use airlock_formats::feeds::{self, BadAdvisory, epss, kev, nvd, osv};
use airlock_formats::limits;

#[test]
fn a_kev_catalogue_is_metered_by_entries_bytes_and_ids() {
    let entry = |cve: &str, day: &str| format!(r#"{{"cveID":"{cve}","dateAdded":"{day}"}}"#);
    let long = format!("CVE-{}", "1".repeat(limits::CVE_BYTES_MAX));
    let large = format!(r#"{{"x":"{}"}}"#, "x".repeat(limits::KEV_ENTRY_BYTES_MAX as usize));
    let items = [
        entry("CVE-1-1", "2024-02-02"),
        entry("CVE-1-1", "2024-01-01"),
        entry(&long, "2024-01-01"),
        entry("../CVE", "2024-01-01"),
        large,
    ];
    let (read, bad) =
        kev::read(format!(r#"{{"vulnerabilities":[{}]}}"#, items.join(",")).as_bytes()).unwrap();
    assert_eq!(read.entries.len(), 1);
    // Of two days for one CVE the earlier counts.
    assert_eq!(read.entries["CVE-1-1"].to_string(), "2024-01-01T00:00:00Z");
    let reasons: Vec<&str> = bad.iter().map(|b| b.reason.as_str()).collect();
    assert_eq!(reasons[..2], ["it has no CVE number"; 2]);
    assert!(reasons[2].contains("larger than"), "{reasons:?}");

    let many: Vec<String> =
        (0..=limits::KEV_ENTRIES_MAX).map(|i| entry(&format!("CVE-1-{i}"), "2024-01-01")).collect();
    let error = kev::read(format!(r#"{{"vulnerabilities":[{}]}}"#, many.join(",")).as_bytes()).unwrap_err();
    assert!(error.to_string().contains("entries"));
    let senseless = format!(r#"{{"vulnerabilities":[{}0]}}"#, "0,".repeat(limits::BAD_LISTED_MAX));
    assert!(kev::read(senseless.as_bytes()).is_err());
}

#[test]
fn an_epss_file_is_metered_by_scores_and_ids_and_its_order_decides_nothing() {
    let (read, _) = epss::read(&mut &b"CVE-1-1,0.5,1\nCVE-1-1,0.7,1\nCVE-1-1,0.1,1\n"[..]).unwrap();
    assert_eq!(read.scores["CVE-1-1"], 0.7);
    let long = format!("CVE-1-1,0.5,1\nCVE-{},0.5,1\n", "1".repeat(limits::CVE_BYTES_MAX));
    assert_eq!(epss::read(&mut long.as_bytes()).unwrap().1.len(), 1);
    let many: String = (0..=limits::EPSS_SCORES_MAX).map(|i| format!("CVE-1-{i},0.5,0.5\n")).collect();
    assert!(epss::read(&mut many.as_bytes()).unwrap_err().to_string().contains("scores"));
}

#[test]
fn an_osv_record_is_metered_by_what_it_names() {
    let reason = |json: String| osv::read_record(&json).unwrap_err().reason;
    let long = "x".repeat(limits::ADVISORY_ID_BYTES_MAX + 1);
    assert!(reason(format!(r#"{{"id":"{long}"}}"#)).contains("usable id"));
    assert!(reason(format!(r#"{{"id":"A-1","aliases":["{long}"]}}"#)).contains("bytes"));
    let ids = vec!["\"CVE-1-1\""; limits::ADVISORY_IDS_MAX + 1].join(",");
    assert!(reason(format!(r#"{{"id":"A-1","upstream":[{ids}]}}"#)).contains("other ids"));
    let affected = vec!["{}"; limits::ADVISORY_AFFECTED_MAX + 1].join(",");
    assert!(reason(format!(r#"{{"id":"A-1","affected":[{affected}]}}"#)).contains("packages"));
}

#[test]
fn a_record_that_is_too_large_costs_only_itself() {
    let large = "x".repeat(limits::ADVISORY_BYTES_MAX as usize);
    let page = format!(
        r#"{{"vulnerabilities":[{{"cve":{{"id":"CVE-1-1"}}}},{{"cve":"{large}"}},{{"cve":{{"id":"CVE-1-2"}}}}]}}"#
    );
    let mut read: Vec<Result<String, BadAdvisory>> = Vec::new();
    nvd::read_all(page.as_bytes(), &mut |r| read.push(r.map(|r| r.advisory.id))).unwrap();
    let bad = read.remove(1).unwrap_err();
    assert_eq!(
        (bad.id.as_str(), bad.reason.as_str()),
        ("item 2", "the record is larger than one advisory may be")
    );
    assert_eq!(read, [Ok("CVE-1-1".to_owned()), Ok("CVE-1-2".to_owned())]);
    let document = format!("{{\"id\":\"A-1\",\n\"x\":\"{large}\"}}");
    let mut bad = Vec::new();
    feeds::split(FeedKind::Osv, "a.json", document.as_bytes(), &mut |_, text| {
        bad.push(text.unwrap_err().id);
        Ok(())
    })
    .unwrap();
    assert_eq!(bad, ["a.json"]);
}

#[test]
fn a_feed_of_too_many_records_is_refused() {
    let lines = "\n".repeat(usize::try_from(limits::FEED_RECORDS_MAX).unwrap() + 1);
    assert!(osv::read_all(&mut lines.as_bytes(), &mut |_| {}).unwrap_err().to_string().contains("records"));
    let items = "0,".repeat(usize::try_from(limits::FEED_RECORDS_MAX).unwrap());
    let page = format!("{{\"vulnerabilities\":[{items}0]}}");
    let error = feeds::split(FeedKind::Nvd, "x", page.as_bytes(), &mut |_, _| Ok(())).unwrap_err();
    assert!(error.to_string().contains("records"));
}
