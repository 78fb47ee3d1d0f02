//! Tightening is automatic, loosening is a decision: what a sender's advisories say more mildly than before waits.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::collections::BTreeSet;
use std::path::PathBuf;

use airlock_core::advisory::FeedKind;
use airlock_core::ecosystem::Ecosystem;
use airlock_core::spec::Spec;
use airlock_engine::bundle::export::{self, What};
use airlock_engine::bundle::import::{self, Report};
use airlock_engine::feeds::{Accepted, Loosening};
use airlock_engine::judge::How;
use airlock_engine::station::{Side, Station};
use airlock_engine::trust::{Accept, Limits};
use airlock_engine::view::View;
use airlock_engine::{explain, feeds, report, sync, trust};
use airlock_testkit::wire::{Wire, answer};
use airlock_testkit::{Kit, conda, osv};
use serde_json::{Value, json};

/// A sender of one package, `idna 3.6`, and a receiver that trusts it.
struct Gap {
    low: Kit,
    high: Station,
    disks: usize,
}

impl Gap {
    async fn new(accept: Vec<Accept>) -> Self {
        let low = Kit::new(&[]).await;
        low.identify(&json!({"idna": "idna"})).await;
        let mut source = low.conda_source("source");
        source.add(&conda("idna", "3.6"), &json!({}));
        source.write();
        low.add_channel("main", Ecosystem::Conda, source.path(), &[]).await;
        low.sync("main").await;
        let options = low.station.options.clone();
        let high = Station::init(&low.path().join("high"), "high", Side::Isolated, options).await.unwrap();
        let key = low.station.key.public();
        let limits = Limits { accept, ..Limits::default() };
        trust::add(&high, "low", key, &low.station.key.fingerprint(), limits).await.unwrap();
        Self { low, high, disks: 0 }
    }

    /// The sender knows this now; a bundle brings it.
    async fn know(&mut self, records: &[Value]) -> Report {
        self.low.know(records).await;
        self.cross().await
    }

    async fn cross(&mut self) -> Report {
        self.low.judge("main").await;
        self.disks += 1;
        let disk: PathBuf = self.low.path().join(format!("disk-{}", self.disks));
        export::export(&self.low.station, &disk, &What::default()).await.unwrap();
        import::import(&self.high, &disk).await.unwrap()
    }

    /// What the receiver says of the package, whoever judged it.
    async fn verdict(&self) -> (&'static str, bool) {
        let view = View::new(self.high.clone());
        let channel = view.channel("main").await.unwrap().unwrap();
        let spec = Spec::parse(Ecosystem::Conda, "idna").unwrap();
        let one = explain::explain(&view, &channel, &spec).await.unwrap().artifacts.remove(0);
        (one.verdict, one.by_sender)
    }

    async fn waiting(&self) -> Vec<(String, String)> {
        feeds::waiting(&self.high).await.unwrap().into_iter().map(|w| (w.id, w.how)).collect()
    }
}

fn record(change: impl FnOnce(&mut Value)) -> Value {
    let mut record = osv("PYSEC-1", "PyPI", "idna", "3.7", 9.0);
    record["aliases"] = json!(["CVE-2024-3651"]);
    record["modified"] = json!("2026-02-20T00:00:00Z");
    change(&mut record);
    record
}

fn of(id: &str, how: &str) -> Vec<(String, String)> {
    vec![(id.to_owned(), how.to_owned())]
}

#[tokio::test]
async fn what_becomes_milder_in_a_bundle_releases_nothing_before_a_person_accepts_it() {
    let milder: [(&str, &dyn Fn() -> Vec<Value>); 6] = [
        ("withdrawn", &|| vec![record(|r| r["withdrawn"] = json!("2026-02-21T00:00:00Z"))]),
        ("gone", &Vec::new),
        ("scored lower", &|| {
            vec![record(|r| r["severity"] = osv("x", "PyPI", "x", "1", 5.0)["severity"].clone())]
        }),
        ("affects less", &|| {
            vec![record(|r| {
                r["affected"][0]["ranges"][0]["events"] = json!([{"introduced": "0"}, {"fixed": "3.5"}])
            })]
        }),
        ("disputed", &|| vec![record(|r| r["summary"] = json!("** DISPUTED ** no bug"))]),
        ("goes by fewer names", &|| vec![record(|r| r["aliases"] = json!([]))]),
    ];
    for (how, records) in milder {
        let mut gap = Gap::new(vec![]).await;
        assert_eq!(gap.verdict_after(&[]).await, "admitted");
        assert_eq!(
            gap.verdict_after(&[record(|_| ())]).await,
            "denied",
            "{how}: what is stricter acts at once"
        );
        assert_eq!(gap.waiting().await, []);
        let came = gap.know(&records()).await;
        assert_eq!(gap.verdict().await.0, "denied", "{how}");
        assert_eq!(gap.waiting().await, of("PYSEC-1", how));
        let told = report::Report::of(&gap.high, "import", &came.outcomes).await.unwrap();
        // By fewer names alone nothing would be released.
        let would = if how == "goes by fewer names" { 0 } else { u64::from(how != "disputed") };
        assert_eq!((told.waiting, told.would_admit), (1, would), "{how}: {told:?}");
        if would == 1 {
            assert!(told.text().contains("1 would come back and wait for you"), "{}", told.text());
        }

        // Nothing is done by looking at what would be.
        let (set, count) = feeds::preview(&gap.high, &Accepted::default()).await.unwrap();
        let would = How { advisories: Some(set), ..How::default() };
        let judged = sync::rejudge_as(&gap.high, &would, "test").await.unwrap();
        assert_eq!((count, judged.outcomes[0].snapshot), (1, None));
        assert_eq!(gap.verdict().await.0, "denied");

        feeds::accept(&gap.high, &Accepted::default(), "looked at it").await.unwrap();
        sync::rejudge_all(&gap.high, "test").await.unwrap();
        assert_eq!(gap.waiting().await, []);
        let expected = match how {
            // These two the sender keeps out itself, now as before. What it denied once it only holds by now, and offers it no more: that
            // is still denied wherever snapshots of before list it, since nobody offers it again.
            "goes by fewer names" | "disputed" => ("denied", true),
            _ => ("admitted", false),
        };
        // What the sender left out by its older judgement comes with its next bundle.
        gap.cross().await;
        let found = gap.verdict().await;
        assert_eq!(found, expected, "{how}");
    }
}

impl Gap {
    async fn verdict_after(&mut self, records: &[Value]) -> &'static str {
        self.know(records).await;
        self.verdict().await.0
    }
}

#[tokio::test]
async fn what_is_said_again_waits_no_longer_and_what_gets_milder_twice_keeps_its_strictest_form() {
    let mut gap = Gap::new(vec![]).await;
    gap.know(&[record(|_| ())]).await;
    let narrower = || {
        record(|r| r["affected"][0]["ranges"][0]["events"] = json!([{"introduced": "0"}, {"fixed": "3.5"}]))
    };
    gap.know(&[narrower()]).await;
    assert_eq!(gap.waiting().await, of("PYSEC-1", "affects less"));
    gap.know(&[]).await;
    assert_eq!(gap.waiting().await, of("PYSEC-1", "gone"));
    assert_eq!(gap.verdict().await.0, "denied");
    // Narrow again: still less than what is kept.
    gap.know(&[narrower()]).await;
    assert_eq!(gap.waiting().await, of("PYSEC-1", "affects less"));
    assert_eq!(gap.verdict().await.0, "denied");
    gap.know(&[record(|_| ())]).await;
    assert_eq!(gap.waiting().await, []);
}

#[tokio::test]
async fn a_person_accepts_one_of_several_and_says_why() {
    let mut gap = Gap::new(vec![]).await;
    let other = osv("PYSEC-2", "PyPI", "idna", "3.8", 9.0);
    gap.know(&[record(|_| ()), other]).await;
    gap.know(&[]).await;
    assert_eq!(gap.waiting().await.len(), 2);
    let ids = |ids: &[&str]| Accepted {
        ids: ids.iter().map(|id| (*id).to_owned()).collect(),
        ..Accepted::default()
    };
    assert!(feeds::accept(&gap.high, &ids(&["PYSEC-1"]), " ").await.is_err());
    assert!(feeds::accept(&gap.high, &ids(&["PYSEC-9"]), "r").await.is_err());
    let elsewhere = Accepted { feeds: BTreeSet::from(["other".to_owned()]), ..Accepted::default() };
    assert!(feeds::accept(&gap.high, &elsewhere, "r").await.is_err());
    assert_eq!(feeds::accept(&gap.high, &ids(&["PYSEC-1"]), "not ours").await.unwrap(), 1);
    assert_eq!(gap.waiting().await, of("PYSEC-2", "gone"));
    let ledger = gap.high.store.db.ledger(1, 10_000).await.unwrap();
    let (entry, _) = ledger.iter().find(|(entry, _)| entry.action == "advisories.accept").unwrap();
    let detail = entry.detail.read::<Value>().unwrap();
    assert_eq!((&detail["reason"], &detail["ids"]), (&json!("not ours"), &json!(["PYSEC-1"])));
}

#[tokio::test]
async fn maps_and_exploitation_wait_too() {
    let mut gap = Gap::new(vec![]).await;
    let kev = |cves: &[&str]| {
        let list: Vec<Value> =
            cves.iter().map(|cve| json!({"cveID": cve, "dateAdded": "2026-02-01"})).collect();
        json!({"title": "t", "catalogVersion": "2026.02.01", "dateReleased": "2026-02-01T00:00:00.0Z", "count": list.len(),
            "vulnerabilities": list}).to_string()
    };
    let path = gap.low.write("kev.json", kev(&["CVE-2024-3651", "CVE-1-1"]).as_bytes()).display().to_string();
    feeds::add(&gap.low.station, FeedKind::Kev, &path).await.unwrap();
    let low_score = || record(|r| r["severity"] = osv("x", "PyPI", "x", "1", 5.0)["severity"].clone());
    gap.know(&[low_score()]).await;
    assert_eq!(gap.verdict().await.0, "denied");
    gap.low.write("kev.json", kev(&["CVE-1-1"]).as_bytes());
    gap.know(&[low_score()]).await;
    assert_eq!(gap.waiting().await, of("CVE-2024-3651", "gone"));
    assert_eq!(gap.verdict().await.0, "denied");
    // The map loses the name.
    gap.low.write("identities.json", br#"{"other":"idna"}"#);
    gap.know(&[low_score()]).await;
    assert_eq!(gap.waiting().await, [of("idna", "maps to less"), of("CVE-2024-3651", "gone")].concat());
    assert_eq!(gap.verdict().await.0, "denied");
}

#[tokio::test]
async fn a_setting_that_a_person_made_for_the_source_decides() {
    // For a sender that is trusted so far.
    let mut gap = Gap::new(vec![Accept::Loosening]).await;
    gap.know(&[record(|_| ())]).await;
    gap.know(&[]).await;
    assert_eq!(gap.waiting().await, []);

    // For a feed of this station: what it fetches itself counts, unless it is to ask.
    let kit = Kit::new(&[record(|_| ())]).await;
    kit.know(&[]).await;
    assert_eq!(feeds::waiting(&kit.station).await.unwrap(), []);
    kit.know(&[record(|_| ())]).await;
    feeds::set_loosening(&kit.station, "osv", Loosening::Ask).await.unwrap();
    kit.know(&[]).await;
    assert_eq!(feeds::waiting(&kit.station).await.unwrap().len(), 1);
    let set = feeds::current(&kit.station).await.unwrap().1;
    assert_eq!(set.feeds["osv+kept"].read_at, set.feeds["osv"].read_at, "what is kept grows no older");
    feeds::set_loosening(&kit.station, "osv", Loosening::Accept).await.unwrap();
    kit.know(&[]).await;
    assert_eq!(feeds::waiting(&kit.station).await.unwrap(), []);
    assert!(feeds::set_loosening(&kit.station, "none", Loosening::Ask).await.is_err());
}

#[tokio::test]
async fn a_webhook_is_told_what_changed_and_nothing_depends_on_it() {
    let mut kit = Kit::new(&[]).await;
    kit.identify(&json!({"idna": "idna"})).await;
    let mut source = kit.conda_source("source");
    source.add(&conda("idna", "3.6"), &json!({}));
    source.write();
    kit.add_channel("main", Ecosystem::Conda, source.path(), &[]).await;
    kit.sync("main").await;
    let hook = Wire::start(|_, _| answer("204 No Content", &[], "")).await;
    kit.station.config.notify.webhook = Some(format!("http://{}/hook/secret?x=secret", hook.address()));
    kit.station.config.hosts = vec!["127.0.0.1".to_owned()];
    let nothing = report::Report::of(&kit.station, "test", &[]).await.unwrap();
    assert!(nothing.is_empty());
    nothing.notify(&kit.station).await.unwrap();
    kit.know(&[record(|_| ())]).await;
    let outcomes = [kit.judge("main").await];
    let told = report::Report::of(&kit.station, "test", &outcomes).await.unwrap();
    assert_eq!(told.text(), "main: 1 artifact now denied, by cvss-above-7 1, 1 new finding\n");
    told.notify(&kit.station).await.unwrap();
    let asked = hook.asked();
    assert_eq!((asked.len(), asked[0].method.as_str()), (1, "POST"));
    assert_eq!(asked[0].target, "/hook/secret?x=secret", "as it stands in the configuration");
    assert_eq!(asked[0].header("content-type"), Some("application/json"));
    let broken = Wire::start(|_, _| answer("500 Oh", &[], "")).await;
    kit.station.config.notify.webhook = Some(format!("http://{}/hook/secret?x=secret", broken.address()));
    let error = told.notify(&kit.station).await.unwrap_err();
    assert!(error.message.contains("500") && !error.message.contains("secret"), "{error}");
}

/// Lets what becomes milder in the sender's own feed wait there too.
async fn sender_asks(gap: &Gap) {
    feeds::set_loosening(&gap.low.station, "osv", Loosening::Ask).await.unwrap();
}

#[tokio::test]
async fn what_a_sender_keeps_and_what_the_receiver_keeps_are_two_things() {
    let mut gap = Gap::new(vec![]).await;
    let other = || osv("PYSEC-2", "PyPI", "other", "9", 9.0);
    gap.know(&[other()]).await;
    // Something waits at the receiver.
    gap.know(&[]).await;
    assert_eq!(gap.waiting().await, of("PYSEC-2", "gone"));
    // At the sender something comes and vanishes between two bundles, and waits there.
    sender_asks(&gap).await;
    gap.low.know(&[record(|_| ())]).await;
    gap.low.know(&[]).await;
    assert_eq!(feeds::waiting(&gap.low.station).await.unwrap().len(), 1);
    gap.cross().await;
    assert_eq!(gap.verdict().await.0, "denied", "what the sender keeps is known here");
    assert_eq!(gap.waiting().await, of("PYSEC-2", "gone"), "and is not for this station to accept");
    feeds::accept(&gap.high, &Accepted::default(), "looked at it").await.unwrap();
    sync::rejudge_all(&gap.high, "test").await.unwrap();
    assert_eq!((gap.waiting().await, gap.verdict().await.0), (vec![], "denied"));
    // The sender accepts: here that is loosening, which waits, and ages no feed.
    feeds::accept(&gap.low.station, &Accepted::default(), "looked at it").await.unwrap();
    gap.low.pass(airlock_core::time::Span::days(1));
    gap.high.options.clock = gap.low.station.options.clock;
    gap.know(&[]).await;
    assert_eq!(gap.waiting().await, of("PYSEC-1", "gone"));
    assert_eq!(gap.verdict().await, ("denied", false));
    let now = gap.high.now().await.unwrap();
    let set = feeds::current(&gap.high).await.unwrap().1;
    assert_eq!(airlock_core::judge::feeds_read(&set), Some(now));
    feeds::accept(&gap.high, &Accepted::default(), "looked at it").await.unwrap();
    sync::rejudge_all(&gap.high, "test").await.unwrap();
    assert_eq!((gap.waiting().await, gap.verdict().await), (vec![], ("admitted", false)));
}

#[tokio::test]
async fn what_each_of_three_stations_keeps_stays_apart_on_the_way() {
    let mut gap = Gap::new(vec![]).await;
    let other = || osv("PYSEC-2", "PyPI", "other", "9", 9.0);
    gap.know(&[other()]).await;
    gap.know(&[]).await;
    // The second one keeps a record, and the first another.
    sender_asks(&gap).await;
    gap.low.know(&[record(|_| ())]).await;
    gap.low.know(&[]).await;
    gap.cross().await;
    assert_eq!(gap.waiting().await, of("PYSEC-2", "gone"));
    // The third one knows both.
    let options = gap.high.options.clone();
    let top = Station::init(&gap.low.path().join("top"), "top", Side::Isolated, options).await.unwrap();
    let key = &gap.high.key;
    trust::add(&top, "high", key.public(), &key.fingerprint(), Limits::default()).await.unwrap();
    let disk = gap.low.path().join("disk-top");
    export::export(&gap.high, &disk, &What::default()).await.unwrap();
    import::import(&top, &disk).await.unwrap();
    let heads = feeds::heads(&top).await.unwrap();
    let kept: Vec<u64> =
        heads.iter().filter(|(name, _)| name.contains("+kept")).map(|(_, h)| h.count).collect();
    assert_eq!(kept, [1, 1], "{heads:?}");
}

#[tokio::test]
async fn a_sender_that_makes_a_feed_another_kind_takes_nothing_back() {
    let mut gap = Gap::new(vec![]).await;
    gap.know(&[record(|_| ())]).await;
    feeds::remove(&gap.low.station, "osv", "no more").await.unwrap();
    let cves = json!({"dataType": "CVE_RECORD", "dataVersion": "5.1", "cveMetadata": {"cveId": "CVE-1-1", "state": "PUBLISHED"},
        "containers": {"cna": {"providerMetadata": {"shortName": "x"}, "affected": []}}});
    let path = gap.low.write("cve/osv.json", cves.to_string().as_bytes()).display().to_string();
    let name = feeds::add(&gap.low.station, FeedKind::Cve, &path).await.unwrap();
    feeds::update(&gap.low.station, std::slice::from_ref(&name)).await.unwrap();
    // As if it had the same name.
    let db = &gap.low.station.store.db;
    let head = db.find_ref(&format!("feed/{name}/head")).await.unwrap();
    let change = airlock_store::RefChange { name: "feed/osv/head".to_owned(), from: None, to: head };
    gap.low.station.commit(vec![change], "test", "test", &json!({})).await.unwrap();
    gap.low.judge("main").await;
    let disk = gap.low.path().join("another-kind");
    export::export(&gap.low.station, &disk, &What::default()).await.unwrap();
    let error = import::import(&gap.high, &disk).await.unwrap_err();
    assert!(error.message.contains("was osv and is cve now"), "{error}");
    assert_eq!(gap.verdict().await.0, "denied");
}
