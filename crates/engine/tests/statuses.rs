//! States of findings: what people rule, what sources state, and what ends either.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use airlock_core::advisory::FeedKind;
use airlock_core::decision::{Decision, Ruling, Scope};
use airlock_core::ecosystem::Ecosystem;
use airlock_core::matching::Status;
use airlock_core::spec::Spec;
use airlock_engine::explain::{self, Explained};
use airlock_engine::{decide, feeds};
use airlock_formats::make::CondaPackage;
use airlock_testkit::{CondaSource, Kit, conda, osv};
use serde_json::{Value, json};

const HIGH: &str = "PYSEC-1";

/// A channel of one vulnerable package, `openssl 3.0.8`, in one build.
async fn world() -> (Kit, CondaSource) {
    let kit = Kit::new(&[vulnerable("3.1", 9.0)]).await;
    kit.identify(&json!({"openssl": "openssl-py"})).await;
    let mut source = kit.conda_source("source");
    source.add(&build("h1_0", 0, None), &json!({}));
    source.write();
    kit.add_channel("main", Ecosystem::Conda, source.path(), &[]).await;
    kit.sync("main").await;
    (kit, source)
}

fn vulnerable(fixed: &str, score: f64) -> Value {
    let mut record = osv(HIGH, "PyPI", "openssl-py", fixed, score);
    record["aliases"] = json!(["CVE-2026-1234"]);
    record
}

fn build<'a>(build: &'a str, build_number: u64, security: Option<&'a str>) -> CondaPackage<'a> {
    CondaPackage { build, build_number, security, ..conda("openssl", "3.0.8") }
}

async fn explained(kit: &Kit) -> Vec<Explained> {
    let view = kit.view();
    let channel = view.channel("main").await.unwrap().unwrap();
    let spec = Spec::parse(Ecosystem::Conda, "openssl").unwrap();
    explain::explain(&view, &channel, &spec).await.unwrap().artifacts
}

/// Verdict and state of the finding on the one file whose name has this in it.
async fn of(kit: &Kit, build: &str) -> (&'static str, &'static str) {
    let all = explained(kit).await;
    let one = all.iter().find(|a| a.artifact.contains(build)).unwrap();
    (one.verdict, one.findings[0].status.name())
}

async fn rule(kit: &Kit, scope: Scope, status: Status) -> Decision {
    let of = ("cve-2026-1234", status);
    let decision = decide::status(&kit.station, scope, of, None, "looked at", None).await.unwrap();
    kit.judge("main").await;
    decision
}

/// Why a ruling counts no longer, as the ledger has it.
async fn reopened(kit: &Kit) -> Vec<String> {
    let entries = kit.station.store.db.ledger(1, 10_000).await.unwrap();
    let reopened = entries.iter().filter(|(entry, _)| entry.action == "finding.reopen");
    reopened
        .map(|(entry, _)| entry.detail.read::<Value>().unwrap()["why"].as_str().unwrap().to_owned())
        .collect()
}

#[tokio::test]
async fn a_cleared_finding_stays_so_in_a_new_build_and_reopens_when_something_becomes_known() {
    let (kit, mut source) = world().await;
    assert_eq!(of(&kit, "h1_0").await, ("denied", "reported"));
    rule(&kit, Scope::of("main", "openssl==3.0.8"), Status::Cleared).await;
    kit.sync("main").await;
    assert_eq!(of(&kit, "h1_0").await, ("admitted", "cleared"));
    source.add(&build("h2_1", 1, None), &json!({}));
    source.write();
    kit.sync("main").await;
    assert_eq!(of(&kit, "h2_1").await, ("admitted", "cleared"));
    assert_eq!(reopened(&kit).await, Vec::<String>::new());

    // What is affected changes.
    kit.know(&[vulnerable("3.2", 9.0)]).await;
    kit.judge("main").await;
    assert_eq!(of(&kit, "h1_0").await, ("denied", "reported"));
    assert_eq!(reopened(&kit).await, ["PYSEC-1 says otherwise what is affected"]);
    let ruled = explained(&kit).await[0].findings[0].assessed.clone().unwrap();
    assert_eq!(ruled.void.as_deref(), Some("PYSEC-1 says otherwise what is affected"));
    // It is told once.
    kit.judge("main").await;
    assert_eq!(reopened(&kit).await.len(), 1);

    // Somebody looks at it again, and the score changes.
    rule(&kit, Scope::of("main", "openssl"), Status::Mitigated).await;
    assert_eq!(of(&kit, "h1_0").await, ("admitted", "mitigated"));
    kit.know(&[vulnerable("3.2", 5.0)]).await;
    kit.judge("main").await;
    assert_eq!(of(&kit, "h1_0").await, ("admitted", "reported"));
    assert_eq!(reopened(&kit).await[1], "its score was 7.5 and is 5.3");

    // It becomes known to be exploited.
    rule(&kit, Scope::of("main", "openssl"), Status::Cleared).await;
    exploit(&kit).await;
    assert_eq!(of(&kit, "h1_0").await, ("denied", "reported"));
    assert_eq!(reopened(&kit).await[2], "it is known to be exploited");
    // A person may clear that too.
    rule(&kit, Scope::of("main", "openssl"), Status::Cleared).await;
    assert_eq!(of(&kit, "h1_0").await, ("admitted", "cleared"));
}

async fn exploit(kit: &Kit) {
    let kev = json!({"title": "t", "catalogVersion": "2026.03.01", "dateReleased": "2026-03-01T00:00:00.0Z", "count": 1,
        "vulnerabilities": [{"cveID": "CVE-2026-1234", "dateAdded": "2026-03-01"}]});
    let path = kit.write("kev.json", kev.to_string().as_bytes()).display().to_string();
    feeds::add(&kit.station, FeedKind::Kev, &path).await.unwrap();
    feeds::update(&kit.station, &[]).await.unwrap();
    kit.judge("main").await;
}

#[tokio::test]
async fn a_ruling_reaches_only_the_builds_and_files_in_its_scope() {
    let (kit, mut source) = world().await;
    let bytes = source.add(&build("h2_1", 1, None), &json!({}));
    source.write();
    kit.sync("main").await;
    let scope = Scope { build: Some("h2_*".to_owned()), ..Scope::of("main", "openssl") };
    let decision = rule(&kit, scope, Status::Mitigated).await;
    assert_eq!(of(&kit, "h1_0").await, ("denied", "reported"));
    assert_eq!(of(&kit, "h2_1").await.1, "mitigated");
    let revoke = Ruling::Revoke { decision: decision.id };
    decide::decide(&kit.station, revoke, "no", None).await.unwrap();
    kit.judge("main").await;
    assert_eq!(of(&kit, "h2_1").await, ("denied", "reported"));
    let hash = airlock_core::id::Digest::of(&bytes);
    rule(&kit, Scope { sha256: Some(hash), ..Scope::of("main", "openssl") }, Status::Cleared).await;
    assert_eq!(of(&kit, "h1_0").await, ("denied", "reported"));
    assert_eq!(of(&kit, "h2_1").await.1, "cleared");
    // What is confirmed is as before, and stays so whatever becomes known.
    rule(&kit, Scope::of("main", "openssl"), Status::Active).await;
    kit.know(&[vulnerable("3.2", 9.0)]).await;
    kit.judge("main").await;
    assert_eq!(of(&kit, "h2_1").await, ("denied", "active"));
}

#[tokio::test]
async fn a_ruling_needs_something_that_is_known_and_a_state_that_says_something() {
    let (kit, _source) = world().await;
    let scope = |spec: &str| Scope::of("main", spec);
    let try_it = async |spec: &str, advisory: &str, status| {
        let of = (advisory, status);
        decide::status(&kit.station, scope(spec), of, None, "r", None).await.unwrap_err().to_string()
    };
    assert!(try_it("openssl", "CVE-1-1", Status::Cleared).await.contains("nothing that is known here"));
    assert!(try_it("open*", HIGH, Status::Cleared).await.contains("about one package"));
    assert!(try_it("openssl", HIGH, Status::Reported).await.contains("until somebody rules otherwise"));
    let unknown = Ruling::Statements { scope: scope("*"), source: "nobody".to_owned() };
    let error = decide::decide(&kit.station, unknown, "r", None).await.unwrap_err();
    assert!(error.to_string().contains("no source of statements called `nobody`"));
}

/// What a feed of statements says from now on.
async fn state(kit: &Kit, statement: &Value) -> Vec<airlock_engine::feeds::FeedReport> {
    let document = json!({"@context": "https://openvex.dev/ns/v0.2.0", "@id": "urn:test", "author": "vendor",
        "timestamp": "2026-02-01T00:00:00Z", "version": 1, "statements": [statement]});
    let path = kit.write("vendor.json", document.to_string().as_bytes()).display().to_string();
    feeds::add(&kit.station, FeedKind::Vex, &path).await.unwrap();
    let read = feeds::update(&kit.station, &[]).await.unwrap().read;
    kit.judge("main").await;
    read
}

fn cleared(product: &str) -> Value {
    json!({"vulnerability": {"name": "CVE-2026-1234"}, "products": [{"@id": product}], "status": "not_affected",
        "justification": "vulnerable_code_not_present"})
}

async fn trust(kit: &Kit, spec: &str, source: &str) {
    let scope = Scope::of("main", spec);
    let ruling = Ruling::Statements { scope, source: source.to_owned() };
    decide::decide(&kit.station, ruling, "we know them", None).await.unwrap();
    kit.judge("main").await;
}

#[tokio::test]
async fn a_statement_counts_where_a_person_trusts_its_source_and_never_against_what_is_exploited() {
    let (kit, mut source) = world().await;
    source.add(&build("h2_1", 1, None), &json!({}));
    source.write();
    state(&kit, &cleared("pkg:conda/openssl@3.0.8?build=h2_1")).await;
    kit.sync("main").await;
    assert_eq!(of(&kit, "h2_1").await, ("denied", "reported"), "nobody trusts it");
    trust(&kit, "zlib", "vex-vendor").await;
    assert_eq!(of(&kit, "h2_1").await, ("denied", "reported"), "it is trusted for something else");
    trust(&kit, "open*", "vex-vendor").await;
    kit.sync("main").await;
    assert_eq!(of(&kit, "h1_0").await, ("denied", "reported"), "it speaks of another build");
    assert_eq!(of(&kit, "h2_1").await, ("admitted", "cleared"));

    kit.know(&[vulnerable("3.2", 9.0)]).await;
    kit.judge("main").await;
    assert_eq!(of(&kit, "h2_1").await, ("denied", "reported"));
    assert_eq!(reopened(&kit).await, ["PYSEC-1 says otherwise what is affected"]);
    kit.judge("main").await;
    assert_eq!(of(&kit, "h2_1").await, ("denied", "reported"), "it does not count by waiting");
    // The vendor looks again.
    let mut again = cleared("pkg:conda/openssl@3.0.8?build=h2_1");
    again["timestamp"] = json!("2026-02-27T00:00:00Z");
    state(&kit, &again).await;
    assert_eq!(of(&kit, "h2_1").await, ("admitted", "cleared"));

    exploit(&kit).await;
    assert_eq!(of(&kit, "h2_1").await, ("denied", "reported"));
    again["timestamp"] = json!("2026-02-28T00:00:00Z");
    state(&kit, &again).await;
    assert_eq!(of(&kit, "h2_1").await, ("denied", "reported"), "no source clears what is exploited");
}

#[tokio::test]
async fn a_package_that_clears_itself_is_believed_where_a_person_says_so_and_not_against_kev() {
    let (kit, mut source) = world().await;
    let own = r#"{"schema_version":1,"vulns_cleared":[{"id":"CVE-2026-1234","comment":"not built"}]}"#;
    source.add(&build("h2_1", 1, Some(own)), &json!({}));
    source.write();
    kit.sync("main").await;
    assert_eq!(of(&kit, "h2_1").await, ("denied", "reported"));
    // Nobody fetched it, since it was denied; now what it says of itself may release it.
    trust(&kit, "openssl", "package").await;
    assert_eq!(of(&kit, "h2_1").await, ("denied", "reported"));
    kit.sync("main").await;
    assert_eq!(of(&kit, "h2_1").await, ("admitted", "cleared"));
    assert_eq!(of(&kit, "h1_0").await, ("denied", "reported"));
    let ruled = explained(&kit).await.into_iter().find(|a| a.artifact.contains("h2_1")).unwrap();
    assert_eq!(ruled.findings[0].assessed.as_ref().unwrap().reason, "not built");
    exploit(&kit).await;
    assert_eq!(of(&kit, "h2_1").await, ("denied", "reported"));
    let ruled = explained(&kit).await.into_iter().find(|a| a.artifact.contains("h2_1")).unwrap();
    let void = ruled.findings[0].assessed.clone().unwrap().void;
    assert_eq!(void.as_deref(), Some("no source clears what is known to be exploited"));
}

#[tokio::test]
async fn a_fix_that_came_without_a_new_version_mitigates_from_its_build_on() {
    let (kit, mut source) = world().await;
    for (string, number) in [("h2_1", 1), ("h3_2", 2), ("h4_3", 3)] {
        source.add(&build(string, number, None), &json!({}));
    }
    source.write();
    kit.sync("main").await;
    let record = json!({"schema_version": "1.7.5", "id": "SITE-1", "modified": "2026-02-20T00:00:00Z",
        "upstream": ["CVE-2026-1234"], "affected": [{"package": {"ecosystem": "conda", "name": "openssl"},
            "ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "3.0.8_2"}]}],
            "ecosystem_specific": {"fix": "patch"}}]});
    let path = kit.write("patches.json", record.to_string().as_bytes()).display().to_string();
    feeds::add(&kit.station, FeedKind::Vex, &path).await.unwrap();
    feeds::update(&kit.station, &[]).await.unwrap();
    trust(&kit, "openssl", "vex-patches").await;
    kit.sync("main").await;
    for (build, expected) in [
        ("h1_0", ("denied", "reported")),
        ("h2_1", ("denied", "reported")),
        ("h3_2", ("admitted", "mitigated")),
        ("h4_3", ("admitted", "mitigated")),
    ] {
        assert_eq!(of(&kit, build).await, expected, "{build}");
    }
}

#[tokio::test]
async fn what_people_say_a_package_is_counts_instead_of_what_maps_say() {
    let (kit, _source) = world().await;
    let ruling = |mappings| Ruling::Identity { mappings, scope: Scope::of("main", "openssl") };
    decide::decide(&kit.station, ruling(vec![]), "ours, and no such thing", None).await.unwrap();
    kit.judge("main").await;
    kit.sync("main").await;
    let one = explained(&kit).await.remove(0);
    assert_eq!((one.verdict, one.findings.len(), one.coverage.name()), ("admitted", 0, "none-needed"));
    let key = airlock_core::advisory::MatchKey::cpe("vendor", "unheard-of");
    let mapping = airlock_core::identity::Mapping {
        order: key.order(),
        key,
        provenance: String::new(),
        review: airlock_core::identity::Review::Verified,
    };
    let found = json!({"vulnerable": true, "criteria": "cpe:2.3:a:vendor:unheard-of:3.0.8:*:*:*:*:*:*:*"});
    let nvd = json!({"vulnerabilities": [{"cve": {"id": "CVE-2026-7", "vulnStatus": "Analyzed",
        "configurations": [{"nodes": [{"operator": "OR", "cpeMatch": [found]}]}]}}]});
    let path = kit.write("nvd.json", nvd.to_string().as_bytes()).display().to_string();
    feeds::add(&kit.station, FeedKind::Nvd, &path).await.unwrap();
    feeds::update(&kit.station, &[]).await.unwrap();
    let decision = decide::decide(&kit.station, ruling(vec![mapping]), "it is that", None).await.unwrap();
    kit.judge("main").await;
    let one = explained(&kit).await.remove(0);
    assert_eq!((one.findings[0].advisory.as_str(), one.coverage.name()), ("CVE-2026-7", "verified"));
    let via = &one.findings[0].evidence.records[0].via;
    assert_eq!(via, "cpe:vendor:unheard-of (conda openssl, by decision d2 of tester)");
    // Taken back, it is what the maps say again.
    for decision in [decision.id, "d1".to_owned()] {
        decide::decide(&kit.station, Ruling::Revoke { decision }, "no", None).await.unwrap();
    }
    kit.judge("main").await;
    assert_eq!(of(&kit, "h1_0").await, ("denied", "reported"));
    // A name of PyPI is certain, and one with versions no name.
    for (channel, spec) in [("main", "openssl>=1"), ("main", "open*")] {
        let ruling = Ruling::Identity { mappings: vec![], scope: Scope::of(channel, spec) };
        assert!(decide::decide(&kit.station, ruling, "r", None).await.is_err());
    }
}

#[tokio::test]
async fn a_days_epss_is_shown_at_once_and_changes_no_judgement_in_which_it_decides_nothing() {
    let (kit, _source) = world().await;
    let judgement = async || {
        let view = kit.view();
        let channel = view.channel("main").await.unwrap().unwrap();
        (channel.newest.judgement, channel.newest.inputs.advisories)
    };
    let epss = |p: f64| {
        format!(
            "#model_version:v4,score_date:2026-03-01T00:00:00+0000\ncve,epss,percentile\nCVE-2026-1234,{p},0.5\n"
        )
    };
    let path = kit.write("epss.csv", epss(0.1).as_bytes()).display().to_string();
    feeds::add(&kit.station, FeedKind::Epss, &path).await.unwrap();
    feeds::update(&kit.station, &[]).await.unwrap();
    kit.judge("main").await;
    let before = judgement().await;
    assert_eq!(explained(&kit).await[0].findings[0].epss, Some(0.1));
    kit.write("epss.csv", epss(0.7).as_bytes());
    feeds::update(&kit.station, &[]).await.unwrap();
    kit.judge("main").await;
    let after = judgement().await;
    assert_eq!((before.0, before.1 == after.1), (after.0, false));
    let shown = explained(&kit).await.remove(0).findings.remove(0);
    assert_eq!((shown.epss, shown.epss_model.as_deref()), (Some(0.7), Some("v4")));
    assert_eq!(shown.epss_date.map(|day| day.date()).as_deref(), Some("2026-03-01"));
    // Where a policy asks for it, it acts.
    let policy = airlock_core::policy::DEFAULT.to_owned()
        + "\n[[rule]]\nname = \"likely\"\naction = \"deny\"\nwhen = { epss = { above = 0.5 } }\n";
    airlock_engine::policy::set(&kit.station, "default", &policy).await.unwrap();
    kit.judge("main").await;
    let rules = |all: Vec<Explained>| all[0].rules.iter().any(|rule| rule.rule == "likely");
    assert!(rules(explained(&kit).await));
    kit.write("epss.csv", epss(0.2).as_bytes());
    feeds::update(&kit.station, &[]).await.unwrap();
    kit.judge("main").await;
    assert!(!rules(explained(&kit).await));
}

#[tokio::test]
async fn what_is_said_of_one_cve_clears_no_record_of_two() {
    let (kit, mut source) = world().await;
    source.add(&build("h2_1", 1, None), &json!({}));
    source.write();
    let mut both = vulnerable("3.1", 9.0);
    both["aliases"] = json!(["CVE-2026-1234", "CVE-2026-9999"]);
    kit.know(std::slice::from_ref(&both)).await;
    state(&kit, &cleared("pkg:conda/openssl")).await;
    trust(&kit, "openssl", "vex-vendor").await;
    assert_eq!(of(&kit, "h1_0").await, ("denied", "reported"));
    // A person who means it names the record itself.
    let one = ("CVE-2026-1234", Status::Cleared);
    let scope = Scope::of("main", "openssl");
    assert!(decide::status(&kit.station, scope.clone(), one, None, "r", None).await.is_err());
    // Where there is a finding of that CVE alone, it is meant.
    let mut alone = vulnerable("3.1", 9.0);
    alone["id"] = json!("PYSEC-9");
    kit.know(&[both, alone]).await;
    decide::status(&kit.station, scope, one, None, "r", None).await.unwrap();
    kit.judge("main").await;
    let found = explained(&kit).await.remove(0).findings;
    let states: Vec<_> = found.iter().map(|f| (f.advisory.as_str(), f.status.name())).collect();
    assert_eq!(states, [("CVE-2026-1234", "cleared"), (HIGH, "reported")]);
    // What is confirmed of the one is confirmed of both, since the stricter counts.
    let one = ("CVE-2026-1234", Status::Active);
    decide::status(&kit.station, Scope::of("main", "openssl"), one, None, "r", None).await.unwrap();
    kit.judge("main").await;
    assert!(explained(&kit).await[0].findings.iter().all(|f| f.status == Status::Active));
}

#[tokio::test]
async fn a_statement_that_stands_no_longer_does_not_count_again_because_its_record_was_away() {
    let (kit, _source) = world().await;
    // What was known before anybody trusted the source does not matter.
    state(&kit, &cleared("pkg:conda/openssl")).await;
    kit.know(&[vulnerable("3.2", 9.0)]).await;
    kit.judge("main").await;
    trust(&kit, "openssl", "vex-vendor").await;
    kit.sync("main").await;
    assert_eq!(of(&kit, "h1_0").await, ("admitted", "cleared"));
    kit.know(&[vulnerable("3.3", 9.0)]).await;
    kit.judge("main").await;
    assert_eq!(of(&kit, "h1_0").await, ("denied", "reported"));
    kit.know(&[]).await;
    kit.judge("main").await;
    kit.know(&[vulnerable("3.3", 9.0)]).await;
    kit.judge("main").await;
    assert_eq!(of(&kit, "h1_0").await, ("denied", "reported"));
}

#[tokio::test]
async fn trust_in_a_feed_that_is_gone_is_no_trust_in_another_of_its_name() {
    let (kit, _source) = world().await;
    state(&kit, &cleared("pkg:conda/other")).await;
    trust(&kit, "openssl", "vex-vendor").await;
    feeds::remove(&kit.station, "vex-vendor", "they moved").await.unwrap();
    let elsewhere = kit.write("elsewhere/vendor.json", b"{}").display().to_string();
    let name = feeds::add(&kit.station, FeedKind::Vex, &elsewhere).await.unwrap();
    assert_eq!(name, "vex-vendor-2");
}
