//! Documents of statements as a feed: broken, repeated, sent on, and remembered under other names.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::path::PathBuf;

use airlock_core::advisory::{FeedHead, FeedKind};
use airlock_core::assess::{Statements, document_key};
use airlock_core::canon::Canonical;
use airlock_core::decision::{Ruling, Scope};
use airlock_core::ecosystem::Ecosystem;
use airlock_core::id::Id;
use airlock_core::matching::Status;
use airlock_core::spec::Spec;
use airlock_core::trie::TreeId;
use airlock_engine::bundle::export::{self, What};
use airlock_engine::bundle::import;
use airlock_engine::feeds::StoredHead;
use airlock_engine::station::{Side, Station};
use airlock_engine::trust::Limits;
use airlock_engine::{decide, explain, feeds, trees, trust};
use airlock_store::RefChange;
use airlock_testkit::{Kit, conda, osv};
use serde_json::{Value, json};

fn record(id: &str, aliases: &[&str]) -> Value {
    let mut record = osv(id, "PyPI", "openssl-py", "9", 9.0);
    record["aliases"] = json!(aliases);
    record
}

/// A channel of `openssl 3.0.8`, of which these records are known, and a directory of documents that is trusted for it.
async fn world(records: &[Value], documents: &[(&str, String)]) -> Kit {
    let kit = Kit::new(records).await;
    kit.identify(&json!({"openssl": "openssl-py"})).await;
    let mut source = kit.conda_source("source");
    source.add(&conda("openssl", "3.0.8"), &json!({}));
    source.write();
    kit.add_channel("main", Ecosystem::Conda, source.path(), &[]).await;
    for (name, document) in documents {
        kit.write(&format!("vendor/{name}"), document.as_bytes());
    }
    let path = kit.path().join("vendor").display().to_string();
    let name = feeds::add(&kit.station, FeedKind::Vex, &path).await.unwrap();
    feeds::update(&kit.station, &[]).await.unwrap();
    let ruling = Ruling::Statements { scope: Scope::of("main", "openssl"), source: name };
    decide::decide(&kit.station, ruling, "we know them", None).await.unwrap();
    kit.sync("main").await;
    kit
}

fn document(id: &str, status: &str, day: u32, more: &str) -> String {
    format!(
        r#"{{"@context":"https://openvex.dev/ns/v0.2.0","@id":"{id}","author":"v","version":1,"timestamp":"2026-01-{day:02}T00:00:00Z",
        "statements":[{{"vulnerability":{{"name":"CVE-2026-1"}},"products":[{{"@id":"pkg:conda/openssl"}}],"status":"{status}",
        "impact_statement":"i","action_statement":"a"}}]{more}}}"#
    )
}

async fn states(kit: &Kit) -> Vec<(String, Status)> {
    kit.judge("main").await;
    let view = kit.view();
    let channel = view.channel("main").await.unwrap().unwrap();
    let spec = Spec::parse(Ecosystem::Conda, "openssl").unwrap();
    let one = explain::explain(&view, &channel, &spec).await.unwrap().artifacts.remove(0);
    one.findings.into_iter().map(|f| (f.advisory, f.status)).collect()
}

async fn head(station: &Station, name: &str) -> FeedHead {
    feeds::head_of(station, name).await.unwrap().unwrap()
}

/// The documents that a feed keeps.
async fn kept(kit: &Kit) -> Vec<String> {
    let db = &kit.station.store.db;
    let content = TreeId::<Id<Statements>>::new(head(&kit.station, "vex-vendor").await.content);
    let tree = trees::load(db, content).await.unwrap();
    tree.into_keys().filter(|key| key.starts_with("document:")).collect()
}

fn named(document: &str) -> String {
    document_key(&Canonical::parse(document).unwrap())
}

#[tokio::test]
async fn a_document_that_is_broken_lets_no_older_milder_one_count() {
    let (old, new) = (document("1", "not_affected", 1, ""), document("2", "affected", 20, ""));
    let records = [record("PYSEC-1", &["CVE-2026-1"])];
    let kit = world(&records, &[("1.json", old.clone()), ("2.json", new.clone())]).await;
    let active = vec![("CVE-2026-1".to_owned(), Status::Active)];
    assert_eq!(states(&kit).await, active);
    let deep = format!(r#","x":{}{}"#, "[".repeat(60), "]".repeat(60));
    for broken in [
        // What cannot be kept counts all the same.
        document("2", "affected", 20, r#","x":1,"x":2"#),
        document("2", "affected", 20, &deep),
        // What cannot be read leaves what it said before.
        new[..new.len() - 1].to_owned(),
        "[]".to_owned(),
        String::new(),
        // Nor what one of its claims says.
        document("2", "affectedd", 20, ""),
        document("2", "affected", 20, "").replace("CVE-2026-1", "CVE 2026 1"),
    ] {
        kit.write("vendor/2.json", broken.as_bytes());
        let read = feeds::update(&kit.station, &[]).await.unwrap().read;
        let read = read.iter().find(|r| r.name == "vex-vendor").unwrap();
        assert_eq!(read.head.skipped, 1, "{broken}: {:?}", read.bad);
        assert_eq!(states(&kit).await, active, "{broken}");
    }
    // What its author takes back is taken back.
    std::fs::remove_file(kit.path().join("vendor/2.json")).unwrap();
    feeds::update(&kit.station, &[]).await.unwrap();
    assert_eq!(states(&kit).await, [("CVE-2026-1".to_owned(), Status::Cleared)]);
}

#[tokio::test]
async fn documents_that_say_the_same_are_all_kept_whatever_they_are_called() {
    let documents = [document("1", "affected", 1, ""), document("2", "affected", 1, "")];
    let records = [record("PYSEC-1", &["CVE-2026-1"])];
    let [one, two] = documents.clone();
    let kit = world(&records, &[("a.json", one), ("b.json", two)]).await;
    let mut expected: Vec<String> = documents.iter().map(|d| named(d)).collect();
    expected.sort();
    assert_eq!(kept(&kit).await, expected);
    // Judging looks up packages, and has no documents in its way.
    let set = feeds::current(&kit.station).await.unwrap().1;
    let joined = trees::load(&kit.station.store.db, set.statements.unwrap()).await.unwrap();
    assert_eq!(joined.keys().collect::<Vec<_>>(), ["osv:conda/openssl"]);
    let content = head(&kit.station, "vex-vendor").await.content;
    std::fs::rename(kit.path().join("vendor/a.json"), kit.path().join("vendor/c.json")).unwrap();
    feeds::update(&kit.station, &[]).await.unwrap();
    assert_eq!(head(&kit.station, "vex-vendor").await.content, content);
}

#[tokio::test]
async fn what_was_known_is_remembered_when_a_vulnerability_gets_another_name_and_not_of_another_vulnerability()
 {
    let cleared = document("1", "not_affected", 1, "")
        .replace(r#""name":"CVE-2026-1""#, r#""name":"PYSEC-1","aliases":["CVE-2026-1","CVE-2026-2"]"#);
    let kit = world(&[record("PYSEC-1", &[])], &[("1.json", cleared)]).await;
    let of = |name: &str, status| vec![(name.to_owned(), status)];
    assert_eq!(states(&kit).await, of("PYSEC-1", Status::Cleared));
    // It gets a CVE, and affects more.
    let mut more = record("PYSEC-1", &["CVE-2026-1"]);
    more["affected"][0]["ranges"][0]["events"] = json!([{"introduced": "0"}, {"fixed": "10"}]);
    kit.know(std::slice::from_ref(&more)).await;
    assert_eq!(
        states(&kit).await,
        of("CVE-2026-1", Status::Reported),
        "what is affected is another matter now"
    );
    // Another vulnerability that is named too has a memory of its own.
    kit.know(&[more, record("GHSA-2", &["CVE-2026-2"])]).await;
    let [one, two] = states(&kit).await.try_into().unwrap();
    assert_eq!(one, ("CVE-2026-1".to_owned(), Status::Reported));
    assert_eq!(two, ("CVE-2026-2".to_owned(), Status::Cleared));
}

/// A receiver that trusts a sender.
async fn receiver(sender: &Station, dir: PathBuf) -> Station {
    let high = Station::init(&dir, "high", Side::Isolated, sender.options.clone()).await.unwrap();
    let key = &sender.key;
    trust::add(&high, "low", key.public(), &key.fingerprint(), Limits::default()).await.unwrap();
    high
}

async fn cross(low: &Station, high: &Station, disk: PathBuf) -> airlock_engine::error::Result<()> {
    export::export(low, &disk, &What::default()).await.unwrap();
    import::import(high, &disk).await.map(|_| ())
}

#[tokio::test]
async fn a_feed_that_is_called_like_what_is_kept_loses_nothing_when_it_is_removed() {
    let records = [record("PYSEC-1", &["CVE-2026-1"])];
    let kit = world(&records, &[("1.json", document("1", "affected", 1, ""))]).await;
    let there =
        kit.write("vendor-there.json", document("2", "affected", 2, "").as_bytes()).display().to_string();
    let name = feeds::add(&kit.station, FeedKind::Vex, &there).await.unwrap();
    assert_eq!(name, "vex-vendor-there");
    feeds::update(&kit.station, &[]).await.unwrap();
    let high = receiver(&kit.station, kit.path().join("high")).await;
    cross(&kit.station, &high, kit.path().join("disk-1")).await.unwrap();
    feeds::remove(&kit.station, &name, "they moved").await.unwrap();
    cross(&kit.station, &high, kit.path().join("disk-2")).await.unwrap();
    let heads = feeds::heads(&high).await.unwrap();
    let found = heads.iter().find(|(held, _)| held.ends_with("/vex-vendor-there")).unwrap().1;
    assert_eq!(found.count, 1);
}

#[tokio::test]
async fn what_a_bundle_calls_a_document_is_that_document() {
    let records = [record("PYSEC-1", &["CVE-2026-1"])];
    let kit = world(&records, &[("1.json", document("1", "affected", 1, ""))]).await;
    let high = receiver(&kit.station, kit.path().join("high")).await;
    let db = &kit.station.store.db;
    let content = TreeId::<Id<Statements>>::new(head(&kit.station, "vex-vendor").await.content);
    let good = trees::load(db, content).await.unwrap();
    let forged = Statements { document: Some(Canonical::parse("{}").unwrap()), list: vec![] };
    let forged = db.put(&forged).await.unwrap();
    let (document, package): (Vec<&String>, Vec<&String>) =
        good.keys().partition(|key| key.starts_with("document:"));
    for (key, place) in [(document[0].as_str(), 1), (package[0].as_str(), 2), ("neither", 3)] {
        let mut tree = good.clone();
        tree.insert(key.to_owned(), forged);
        let root = trees::store(db, &tree).await.unwrap();
        let last = head(&kit.station, "vex-vendor").await;
        let id = db.put(&StoredHead { head: FeedHead { content: root.digest(), ..last } }).await.unwrap();
        let from = db.find_ref("feed/vex-vendor/head").await.unwrap();
        let change = RefChange { name: "feed/vex-vendor/head".to_owned(), from, to: Some(id.digest()) };
        kit.station.commit(vec![change], "test", "test", &json!({})).await.unwrap();
        let error = cross(&kit.station, &high, kit.path().join(format!("forged-{place}"))).await.unwrap_err();
        assert!(error.message.contains("names what it does not hold"), "{error}");
    }
}
