//! Judging what a change reaches gives what judging everything gives, whatever changed in whatever order.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use airlock_core::advisory::{FeedKind, MatchKey};
use airlock_core::decision::{Ruling, Scope};
use airlock_core::ecosystem::Ecosystem;
use airlock_core::id::Id;
use airlock_core::identity::{Mapping, Review};
use airlock_core::matching::Status;
use airlock_core::policy::DEFAULT;
use airlock_core::snapshot::{Snapshot, Upstream};
use airlock_core::time::Span;
use airlock_engine::judge::{self, How, Judgment};
use airlock_engine::publish::Rendered;
use airlock_engine::{channel, decide, feeds, policy, render, replay, trees};
use airlock_formats::make::CondaPackage;
use airlock_testkit::{CondaSource, Kit, conda, osv};
use serde_json::{Value, json};

/// Package names of the channel.
const NAMES: usize = 30;
/// Changes of one story.
const STEPS: usize = 40;

/// Numbers that look random and are the same every time.
struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % n
    }
}

async fn judged(kit: &Kit, anew: bool) -> Judgment {
    let made = channel::find(&kit.station, "main").await.unwrap();
    judge::judge(&kit.station, &made, &How { anew, ..How::default() }, None).await.unwrap()
}

async fn decide(kit: &Kit, name: &str, random: &mut Random) {
    let scope = Scope::of("main", name);
    let ruling = match random.below(6) {
        0 => Ruling::Block(scope),
        2 => {
            // Where nothing is known of it there is nothing to rule.
            let of = ("PYSEC-1", [Status::Cleared, Status::Active][random.below(2) as usize]);
            let _ = decide::status(&kit.station, scope, of, None, "a test says so", None).await;
            return;
        }
        3 => {
            let key = MatchKey::osv("PyPI", &format!("q{}", random.below(NAMES as u64)));
            let mapping =
                Mapping { order: key.order(), key, provenance: String::new(), review: Review::Verified };
            let mappings = if random.below(3) == 0 { vec![] } else { vec![mapping] };
            Ruling::Identity { mappings, scope }
        }
        4 => Ruling::Statements { scope, source: "vex".to_owned() },
        1 => {
            let until = kit.now().await.after(Span::days(2));
            let advisory = Some("PYSEC-1".to_owned());
            let ruling = Ruling::Waive { rule: "cvss-above-7".to_owned(), scope, advisory };
            decide::decide(&kit.station, ruling, "a test says so", Some(until)).await.unwrap();
            return;
        }
        _ => {
            let decisions = decide::list(&kit.station).await.unwrap();
            let now = kit.now().await;
            let Some(last) =
                decisions.in_force(now).filter(|d| !matches!(d.ruling, Ruling::Revoke { .. })).last()
            else {
                return;
            };
            Ruling::Revoke { decision: last.id.clone() }
        }
    };
    decide::decide(&kit.station, ruling, "a test says so", None).await.unwrap();
}

/// What a feed of statements says from now on, where there is one already.
async fn state(kit: &Kit, statements: &[Value]) -> String {
    let document = json!({"@context": "https://openvex.dev/ns/v0.2.0", "@id": "urn:test", "author": "tester",
        "timestamp": "2026-02-01T00:00:00Z", "version": 1, "statements": statements});
    let path = kit.write("vex.json", document.to_string().as_bytes()).display().to_string();
    feeds::update(&kit.station, &[]).await.unwrap();
    path
}

/// What was taken over from the files before is what rendering everything gives.
async fn check_rendered(kit: &Kit, context: &str) {
    let db = &kit.station.store.db;
    let at = async |part: &str| db.find_ref(&format!("channel/main/{part}")).await.unwrap().unwrap();
    let snapshot: Snapshot = db.get(Id::new(at("snapshot").await)).await.unwrap();
    let held: Rendered = db.get(Id::new(at("rendered").await)).await.unwrap();
    let all = render::to_store(&kit.station, &snapshot, None).await.unwrap();
    let layout = held.layout.unwrap();
    assert_eq!((held.files, layout.tables), (all.files, all.layout.tables), "{context}");
    // Where only more became known of files that are not published, nothing was rendered, and a slot says of what it was.
    let rendered = async |slots| -> Vec<(String, Value)> {
        let slots = trees::load(db, slots).await.unwrap().into_iter();
        let without_facts = |(key, slot)| {
            let mut slot = serde_json::to_value(slot).unwrap();
            slot.as_object_mut().unwrap().remove("facts");
            (key, slot)
        };
        slots.map(without_facts).collect()
    };
    assert_eq!(rendered(layout.slots).await, rendered(all.layout.slots).await, "{context}");
}

/// The policy that stations begin with. With a grace, what is denied leaves days later.
fn first_policy(has_grace: bool) -> String {
    let graced = DEFAULT.replacen(
        "action = \"deny\"\nwhen = { all",
        "action = \"deny\"\ngrace = \"2 days\"\nwhen = { all",
        1,
    );
    assert_ne!(graced, DEFAULT);
    if has_grace { graced } else { DEFAULT.to_owned() }
}

/// A policy: by other scores, by names, by what is in it beside its rules; now and then without its grace.
fn some_policy(has_grace: bool, random: &mut Random) -> String {
    let text = first_policy(has_grace && random.below(4) > 0);
    let more = |rule: &str| format!("{text}\n[[rule]]\nname = \"more\"\n{rule}\n");
    match random.below(8) {
        0 | 1 => text.replace("above = 7.0", "above = 3.0"),
        2 => more("action = \"hold\"\nwhen = { name = [\"p1*\"] }"),
        3 => more(
            "action = \"deny\"\nwhen = { all = [{ name = [\"p2*\"] }, { any_finding = { cvss = { above = 1.0 } } }] }",
        ),
        4 => more("action = \"warn\"\nwhen = { no_finding = { cvss = { above = 1.0 } } }"),
        5 => text.replacen("[policy]", "# Said otherwise.\n[policy]", 1),
        _ => text,
    }
}

async fn set(kit: &Kit, text: &str) {
    policy::set(&kit.station, "default", text).await.unwrap();
}

/// Every judgement, taken over or not, is what judging all of it with the same inputs gives.
async fn check_replayed(kit: &Kit, context: &str) {
    let at = kit.station.store.db.find_ref("channel/main/snapshot").await.unwrap().unwrap();
    let replayed = replay::replay(&kit.station, "main", Id::new(at)).await.unwrap();
    assert!(replayed.equal, "{context}: {replayed:?}");
}

/// What another policy would change, told of what it reaches and of everything.
///
/// Whether it was judged in part, and how much of what was lost.
async fn check_previewed(kit: &Kit, text: String, context: &str) -> (bool, usize) {
    let made = channel::find(&kit.station, "main").await.unwrap();
    let how = How { policy: Some(text), dry: true, closure: true, without_bytes: true, ..How::default() };
    let all = How { anew: true, ..how.clone() };
    let [some, all] = [how, all].map(|how| async { judge::judge(&kit.station, &made, &{ how }, None).await });
    let (some, all) = (some.await.unwrap(), all.await.unwrap());
    let told =
        |j: &Judgment| (j.counts, format!("{:?}", (&j.changes, &j.findings, &j.uninstallable, &j.blocks)));
    assert_eq!(told(&some), told(&all), "{context}");
    (some.touched.len() < all.touched.len(), some.uninstallable.unwrap().len())
}

/// A station with a channel of packages, every other of which needs the next one, of which nothing is known yet.
async fn begun(has_grace: bool) -> (Kit, CondaSource) {
    let kit = Kit::new(&[]).await;
    set(&kit, &first_policy(has_grace)).await;
    let identities: Value = (0..NAMES)
        .map(|n| (format!("p{n}"), json!(format!("q{n}"))))
        .collect::<serde_json::Map<_, _>>()
        .into();
    kit.identify(&identities).await;
    let of_none =
        json!({"vulnerability": {"name": "X-1"}, "products": [{"@id": "pkg:pypi/none"}], "status": "fixed"});
    let vex = state(&kit, &[of_none]).await;
    feeds::add(&kit.station, FeedKind::Vex, &vex).await.unwrap();
    feeds::update(&kit.station, &[]).await.unwrap();
    let mut source = kit.conda_source("source");
    for n in 0..NAMES {
        let next = format!("p{} <2", n + 1);
        // In a chain all would be lost with the first that is denied.
        let depends: &[&str] = if n % 2 == 0 { &[&next] } else { &[] };
        source.add(&CondaPackage { depends, ..conda(&format!("p{n}"), "1.0") }, &json!({}));
    }
    source.write();
    kit.add_channel("main", Ecosystem::Conda, source.path(), &[]).await;
    kit.sync("main").await;
    (kit, source)
}

#[tokio::test]
async fn what_a_change_does_not_reach_is_judged_as_if_all_were_judged_anew() {
    let mut lost_in_part = 0;
    for seed in 1..=4 {
        let mut random = Random(seed);
        let (mut kit, mut source) = begun(seed == 4).await;
        let mut leaving = 0;
        let mut next_to_leave: Option<String> = None;
        let mut records: Vec<Value> = Vec::new();
        let (mut partial, mut previewed_in_part) = (0, 0);
        for step in 0..STEPS {
            let n = random.below(NAMES as u64);
            match random.below(7) {
                6 => set(&kit, &some_policy(seed == 4, &mut random)).await,
                0 => {
                    source.add(&conda(&format!("p{n}"), &format!("2.{step}")), &json!({}));
                    source.write();
                    kit.sync("main").await;
                }
                1 | 2 => {
                    let score = if random.below(2) == 0 { 9.0 } else { 4.0 };
                    let id = format!("PYSEC-{}", random.below(9));
                    records.push(osv(&id, "PyPI", &format!("q{n}"), "1.5", score));
                    kit.know(&records).await;
                }
                3 => decide(&kit, &format!("p{n}"), &mut random).await,
                4 if random.below(3) == 0 => {
                    let product = format!("pkg:conda/p{n}");
                    let said = json!({"vulnerability": {"name": "PYSEC-1"}, "products": [{"@id": product}],
                        "status": "not_affected", "impact_statement": format!("as said in step {step}")});
                    state(&kit, &[said]).await;
                }
                4 => {
                    // What leaves anyway, where anything does: without its index it has no grace.
                    let file = next_to_leave.take().unwrap_or_else(|| format!("p{n}-1.0-0.conda"));
                    source.remove("noarch", &file);
                    source.write();
                    kit.sync("main").await;
                }
                _ => kit.pass(Span::days(1)),
            }
            let (some, all) = (judged(&kit, false).await, judged(&kit, true).await);
            let context = format!("seed {seed}, step {step}");
            partial += usize::from(some.touched.len() < all.touched.len());
            let (s, a) = (some.snapshot.as_ref().unwrap(), all.snapshot.as_ref().unwrap());
            assert_eq!((s.content, some.counts), (a.content, all.counts), "{context}");
            assert_eq!(some.blocks, all.blocks, "{context}");
            leaving += some.blocks.leaving().count();
            next_to_leave = some.blocks.leaving().next().map(|(_, file, _)| file.to_owned());
            assert!(s.valid_until <= a.valid_until || a.valid_until.is_none(), "{context}");
            kit.judge("main").await;
            check_rendered(&kit, &context).await;
            check_replayed(&kit, &context).await;
            let other = some_policy(seed == 4, &mut random);
            if step % 2 == 0 {
                let strict = first_policy(seed == 4).replace("above = 7.0", "above = 3.0");
                let other = if step % 4 == 0 { other } else { strict };
                let (in_part, lost) = check_previewed(&kit, other, &context).await;
                previewed_in_part += usize::from(in_part);
                lost_in_part += if in_part { lost } else { 0 };
            }
        }
        assert!(partial > STEPS / 2, "only {partial} of {STEPS} steps were judged in part");
        assert!(previewed_in_part > STEPS / 8, "only {previewed_in_part} policies were previewed in part");
        assert_eq!(leaving > 0, seed == 4);
    }
    assert!(lost_in_part > 0, "nothing was lost by what was previewed in part");
}

#[tokio::test]
async fn what_is_remembered_of_a_grace_is_forgotten_with_the_last_rule_that_gives_one() {
    let (kit, _source) = begun(true).await;
    let mut record = osv("PYSEC-1", "PyPI", "q1", "1.5", 9.0);
    kit.know(std::slice::from_ref(&record)).await;
    kit.judge("main").await;
    record["withdrawn"] = json!("2026-01-02T00:00:00Z");
    kit.know(&[record]).await;
    kit.judge("main").await;
    check_replayed(&kit, "withdrawn").await;
    set(&kit, &first_policy(false)).await;
    kit.judge("main").await;
    check_replayed(&kit, "no rule has a grace").await;
}

#[tokio::test]
async fn a_new_advisory_reaches_what_lies_in_a_subdir_that_the_source_has_no_longer() {
    let kit = Kit::new(&[]).await;
    kit.identify(&json!({"old": "old"})).await;
    let mut source = kit.conda_source("source");
    source.add(&conda("good", "1.0"), &json!({}));
    source.add(&CondaPackage { subdir: "linux-64", ..conda("old", "1.0") }, &json!({}));
    source.write();
    kit.add_channel("main", Ecosystem::Conda, source.path(), &["linux-64"]).await;
    kit.sync("main").await;
    // What a bundle brings may have other subdirs than the one before it.
    let db = &kit.station.store.db;
    let before = db.find_ref("channel/main/upstream").await.unwrap().unwrap();
    let mut upstream: Upstream = db.get(Id::new(before)).await.unwrap();
    let mut shards = trees::load(db, upstream.tree).await.unwrap();
    shards.retain(|key, _| key.starts_with("noarch/"));
    upstream.subdirs.remove("linux-64");
    upstream.tree = trees::store(db, &shards).await.unwrap();
    let to = db.put(&upstream).await.unwrap().digest();
    let moved = kit.station.move_ref("channel/main/upstream", Some(to)).await.unwrap();
    kit.station.commit(vec![moved], "test", "main", &json!({})).await.unwrap();
    kit.judge("main").await;

    kit.know(&[osv("PYSEC-1", "PyPI", "old", "2", 9.0)]).await;
    let judgment = judged(&kit, false).await;
    assert!(judgment.touched.len() < judged(&kit, true).await.touched.len(), "not everything was judged");
    assert!(judgment.blocks.reason("linux-64/old", "old-1.0-0.conda").is_some());
}

#[tokio::test]
async fn what_was_read_before_a_run_was_broken_off_tightens_at_the_next_judgement() {
    let kit = Kit::new(&[]).await;
    kit.identify(&json!({"bad": "bad"})).await;
    let mut source = kit.conda_source("source");
    source.add(&conda("bad", "1.0"), &json!({}));
    source.write();
    kit.add_channel("main", Ecosystem::Conda, source.path(), &[]).await;
    assert_eq!(kit.sync("main").await.counts.admit, 1);
    let db = &kit.station.store.db;
    let before = db.find_ref("advisories").await.unwrap();
    kit.know(&[osv("PYSEC-1", "PyPI", "bad", "2", 9.0)]).await;
    // As if the run had ended when the feed was read, and the set of everything known not made yet.
    let back = kit.station.move_ref("advisories", before).await.unwrap();
    kit.station.commit(vec![back], "test", "advisories", &json!({})).await.unwrap();
    assert_eq!(kit.judge("main").await.counts.deny, 1);
}

#[tokio::test]
async fn a_damaged_head_of_a_feed_stops_neither_judging_nor_reading_and_is_written_anew() {
    let kit = Kit::new(&[osv("PYSEC-1", "PyPI", "old", "2", 9.0)]).await;
    kit.identify(&json!({"old": "old", "bad": "bad"})).await;
    let mut source = kit.conda_source("source");
    source.add(&conda("old", "1.0"), &json!({}));
    source.add(&conda("bad", "1.0"), &json!({}));
    source.write();
    kit.add_channel("main", Ecosystem::Conda, source.path(), &[]).await;
    kit.sync("main").await;
    let db = &kit.station.store.db;
    let heads = db.refs("feed/").await.unwrap();
    let heads: Vec<_> = heads.into_iter().filter(|(name, _)| name.ends_with("/head")).map(|h| h.1).collect();
    assert_eq!(db.remove_damaged(&heads).await.unwrap(), heads.len() as u64);
    // What was known stays known.
    assert_eq!(kit.judge("main").await.counts.deny, 1);
    kit.know(&[osv("PYSEC-1", "PyPI", "old", "2", 9.0), osv("PYSEC-2", "PyPI", "bad", "2", 9.0)]).await;
    assert_eq!(kit.judge("main").await.counts.deny, 2);
    let heads: Vec<_> = db.refs("feed/").await.unwrap().into_values().collect();
    assert_eq!(db.present(&heads).await.unwrap().len(), heads.len());
    // Where a first reading was broken off before any set had it, it is read as for the first time.
    let set = kit.station.move_ref("advisories", None).await.unwrap();
    kit.station.commit(vec![set], "test", "advisories", &json!({})).await.unwrap();
    let refs = db.refs("feed/").await.unwrap().into_iter();
    let heads: Vec<_> =
        refs.filter(|(name, _)| name.ends_with("/head") && !name.contains("identities")).collect();
    let heads: Vec<_> = heads.into_iter().map(|(_, id)| id).collect();
    assert_eq!(db.remove_damaged(&heads).await.unwrap(), 1);
    kit.know(&[osv("PYSEC-1", "PyPI", "old", "2", 9.0)]).await;
    assert_eq!(kit.judge("main").await.counts.deny, 1);
}
