//! Feeds: what a change costs and what it leads to, what is refused, what is left when something fails.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::collections::BTreeMap;
use std::path::Path;

use airlock_core::advisory::{Advisory, AdvisorySet, FeedKind, MatchKey, Slice, slices};
use airlock_core::id::Id;
use airlock_engine::error::Kind;
use airlock_engine::feeds::{self, Reading};
use airlock_engine::progress::Progress;
use airlock_engine::station::{Clock, Options, Side, Station};
use airlock_engine::trees;
use airlock_formats::feeds::{nvd, osv};
use airlock_testkit::NOW;
use serde_json::{Value, json};
use tempfile::TempDir;

async fn station(dir: &Path, threads: usize) -> Station {
    let clock = Clock::Fixed(NOW.parse().unwrap());
    let options = Options { clock, actor: "tester".to_owned(), threads, progress: Progress::default() };
    Station::init(dir, "test", Side::Connected, options).await.unwrap()
}

/// What three feeds hold: two that say what is affected, one that scores.
#[derive(Clone, Default)]
struct World {
    osv: [BTreeMap<String, Value>; 2],
    nvd: BTreeMap<String, Value>,
}

/// A sequence of numbers that is the same in each run.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }
}

const VECTORS: [&str; 3] = [
    "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:N/I:N/A:H",
    "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H",
    "CVSS:3.1/AV:L/AC:L/PR:N/UI:N/S:C/C:H/I:N/A:N",
];

impl World {
    /// One record comes, goes or changes.
    fn change(&mut self, dice: &mut Dice) {
        let cve = |dice: &mut Dice| format!("CVE-2020-{}", dice.roll(12));
        if dice.roll(3) == 0 {
            let id = cve(dice);
            if dice.roll(3) == 0 {
                self.nvd.remove(&id);
                return;
            }
            let state = if dice.roll(6) == 0 { "Rejected" } else { "Analyzed" };
            let vector = VECTORS[dice.roll(3) as usize];
            let tags = if dice.roll(5) == 0 { json!([{"tags": ["disputed"]}]) } else { json!([]) };
            // The last one is no product that any package is.
            let product = ["openssl:openssl", "zlib:zlib", "v:unheard-of"][dice.roll(3) as usize];
            let criteria = format!("cpe:2.3:a:{product}:{}:*:*:*:*:*:*:*", dice.roll(2));
            let found = json!({"vulnerable": true, "criteria": criteria});
            let item = json!({"cve": {"id": id, "vulnStatus": state, "cveTags": tags,
                "configurations": [{"nodes": [{"operator": "OR", "cpeMatch": [found]}]}],
                "metrics": {"cvssMetricV31": [{"source": "x", "cvssData": {"vectorString": vector}}]}}});
            self.nvd.insert(id, item);
            return;
        }
        let feed = &mut self.osv[dice.roll(2) as usize];
        let number = dice.roll(25);
        let id = if dice.roll(8) == 0 { cve(dice) } else { format!("PYSEC-{number}") };
        if dice.roll(4) == 0 {
            feed.remove(&id);
            return;
        }
        let mut aliases: Vec<String> = (0..dice.roll(3)).map(|_| cve(dice)).collect();
        if dice.roll(3) == 0 {
            aliases.push(format!("PYSEC-{}", dice.roll(25)));
        }
        let affected: Vec<Value> = (0..dice.roll(3))
            .map(|_| json!({"package": {"ecosystem": "PyPI", "name": format!("p{}", dice.roll(10))}, "versions": ["1"]}))
            .collect();
        let mut record =
            json!({"id": id, "aliases": aliases, "affected": affected, "summary": dice.roll(3).to_string()});
        if dice.roll(2) == 0 {
            record["severity"] = json!([{"type": "CVSS_V3", "score": VECTORS[dice.roll(3) as usize]}]);
        }
        if dice.roll(8) == 0 {
            record["withdrawn"] = json!("2020-01-01T00:00:00Z");
        }
        feed.insert(id, record);
    }

    /// Writes the feeds; backwards if asked.
    fn write(&self, dir: &Path, backwards: bool) {
        let order = |records: &BTreeMap<String, Value>| -> Vec<String> {
            let mut all: Vec<String> = records.values().map(Value::to_string).collect();
            if backwards {
                all.reverse();
            }
            all
        };
        for (i, records) in self.osv.iter().enumerate() {
            let filler = json!({"id": "FILLER"}).to_string();
            let lines = [order(records), vec![filler]].concat().join("\n");
            std::fs::write(dir.join(format!("osv{i}.jsonl")), lines).unwrap();
        }
        let filler = json!({"cve": {"id": "CVE-1-1"}}).to_string();
        let items = [order(&self.nvd), vec![filler]].concat().join(",");
        std::fs::write(dir.join("nvd.json"), format!(r#"{{"vulnerabilities":[{items}]}}"#)).unwrap();
    }

    /// What the definition of the join says of it.
    fn slices(&self) -> BTreeMap<MatchKey, Slice> {
        let mut all: Vec<(String, Advisory)> = Vec::new();
        for (i, records) in self.osv.iter().enumerate() {
            let read = |r: &Value| osv::read_record(&r.to_string()).unwrap().advisory;
            all.extend(records.values().map(|r| (format!("osv{i}"), read(r))));
        }
        let read = |r: &Value| nvd::read_item(&r.to_string()).unwrap().advisory;
        all.extend(self.nvd.values().map(|r| ("nvd".to_owned(), read(r))));
        let mut slices = slices(all.iter().map(|(feed, advisory)| (feed.as_str(), advisory)));
        slices.retain(|key, _| !key.as_str().contains("unheard-of"));
        slices
    }
}

async fn add_all(station: &Station, dir: &Path) {
    for (kind, file) in
        [(FeedKind::Osv, "osv0.jsonl"), (FeedKind::Osv, "osv1.jsonl"), (FeedKind::Nvd, "nvd.json")]
    {
        feeds::add(station, kind, &dir.join(file).display().to_string()).await.unwrap();
    }
}

async fn set(station: &Station) -> AdvisorySet {
    feeds::current(station).await.unwrap().1
}

async fn all_slices(station: &Station) -> BTreeMap<MatchKey, Slice> {
    let db = &station.store.db;
    let ids = trees::load::<Id<Slice>>(db, set(station).await.slices).await.unwrap();
    let mut out = BTreeMap::new();
    for (key, id) in ids {
        out.insert(MatchKey::parse(&key).unwrap(), db.get(id).await.unwrap());
    }
    out
}

#[tokio::test]
async fn a_set_made_from_changes_is_the_set_made_from_nothing() {
    for seed in 0..4 {
        let dir = TempDir::new().unwrap();
        let kept = station(&dir.path().join("kept"), 2).await;
        let mut world = World::default();
        let mut dice = Dice(seed);
        (0..30).for_each(|_| world.change(&mut dice));
        world.write(dir.path(), false);
        add_all(&kept, dir.path()).await;
        for round in 0..12 {
            for _ in 0..=dice.roll(4) {
                world.change(&mut dice);
            }
            world.write(dir.path(), round % 2 == 1);
            feeds::update(&kept, &[]).await.unwrap();
            assert_eq!(all_slices(&kept).await, world.slices(), "seed {seed}, round {round}");
        }
        let fresh = station(&dir.path().join("fresh"), 5).await;
        add_all(&fresh, dir.path()).await;
        feeds::update(&fresh, &[]).await.unwrap();
        assert_eq!(set(&kept).await, set(&fresh).await, "seed {seed}");
        assert!(!world.slices().is_empty());
    }
}

fn pysec(n: usize, cve: &str, package: &str) -> Value {
    json!({"id": format!("PYSEC-{n}"), "aliases": [cve], "affected": [
        {"package": {"ecosystem": "PyPI", "name": package}, "versions": ["1"]}]})
}

fn write_lines(path: &Path, records: impl IntoIterator<Item = Value>) {
    let lines: Vec<String> = records.into_iter().map(|r| r.to_string()).collect();
    std::fs::write(path, lines.join("\n")).unwrap();
}

#[tokio::test]
async fn a_feed_that_loses_half_of_its_records_waits_for_a_person() {
    let dir = TempDir::new().unwrap();
    let station = station(&dir.path().join("station"), 2).await;
    let file = dir.path().join("feed.jsonl");
    let many = |n: usize| (0..n).map(|i| pysec(i, &format!("CVE-1-{i}"), &format!("p{i}")));
    write_lines(&file, many(100));
    let name = feeds::add(&station, FeedKind::Osv, &file.display().to_string()).await.unwrap();
    feeds::update(&station, &[]).await.unwrap();
    let before = set(&station).await;

    write_lines(&file, many(49));
    let updated = feeds::update(&station, &[]).await.unwrap();
    let error = updated.failed.unwrap();
    assert_eq!(error.kind, Kind::Unsafe);
    assert!(error.message.contains("holds 49 records, and held 100"), "{}", error.message);
    assert!(error.hint.unwrap().contains("--accept-shrink"));
    assert_eq!(set(&station).await, before);

    // Half is not yet suspicious, and acceptance needs a name.
    let accept = Reading { accept_shrink: true, ..Reading::default() };
    assert_eq!(feeds::update_with(&station, &[], accept).await.unwrap_err().kind, Kind::Usage);
    let updated = feeds::update_with(&station, std::slice::from_ref(&name), accept).await.unwrap();
    assert!(updated.failed.is_none());
    assert_eq!(set(&station).await.feeds[&name].count, 49);
    let ledger = station.store.db.ledger(1, 100).await.unwrap();
    let accepted =
        |e: &&(airlock_core::ledger::LedgerEntry, _)| e.0.detail.as_str().contains("shrink_from\":100");
    assert_eq!(ledger.iter().filter(accepted).count(), 1);
    // Below a hundred records, a feed may become small.
    write_lines(&file, many(1));
    assert!(feeds::update(&station, &[]).await.unwrap().failed.is_none());
}

#[tokio::test]
async fn an_unknown_feed_is_named_with_those_that_are_there() {
    let dir = TempDir::new().unwrap();
    let station = station(&dir.path().join("station"), 1).await;
    let error = feeds::update(&station, &["nope".to_owned()]).await.unwrap_err();
    assert_eq!(error.kind, Kind::Usage);
    let file = dir.path().join("feed.jsonl");
    write_lines(&file, [pysec(1, "CVE-1-1", "x")]);
    feeds::add(&station, FeedKind::Osv, &file.display().to_string()).await.unwrap();
    for error in [
        feeds::update(&station, &["nope".to_owned()]).await.unwrap_err(),
        feeds::remove(&station, "nope", "gone").await.unwrap_err(),
    ] {
        assert_eq!((error.kind, error.hint.as_deref()), (Kind::Usage, Some("the feeds are: osv-feed")));
    }
}

#[tokio::test]
async fn a_removed_feed_says_nothing_more_and_the_ledger_says_why() {
    let dir = TempDir::new().unwrap();
    let station = station(&dir.path().join("station"), 1).await;
    for (file, package) in [("a", "x"), ("b", "y")] {
        let path = dir.path().join(format!("{file}.jsonl"));
        write_lines(&path, [pysec(1, "CVE-1-1", package)]);
        feeds::add(&station, FeedKind::Osv, &path.display().to_string()).await.unwrap();
    }
    feeds::update(&station, &[]).await.unwrap();
    assert_eq!(all_slices(&station).await.len(), 2);
    assert_eq!(feeds::remove(&station, "osv-a", " ").await.unwrap_err().kind, Kind::Usage);
    feeds::remove(&station, "osv-a", "its publisher is gone").await.unwrap();
    let left: Vec<MatchKey> = all_slices(&station).await.into_keys().collect();
    assert_eq!(left, [MatchKey::osv("PyPI", "y")]);
    let ledger = station.store.db.ledger(1, 100).await.unwrap();
    let removal = ledger.iter().find(|(e, _)| e.action == "feed.remove").unwrap();
    assert!(removal.0.detail.as_str().contains("publisher is gone") && removal.0.subject == "feed/osv-a");
    assert_eq!(feeds::update(&station, &[]).await.unwrap().read.len(), 1);
}

#[tokio::test]
async fn an_advisory_is_shown_by_any_of_its_ids_in_any_case() {
    let dir = TempDir::new().unwrap();
    let station = station(&dir.path().join("station"), 1).await;
    let file = dir.path().join("feed.jsonl");
    let mut gone = pysec(2, "CVE-1-1", "x");
    gone["withdrawn"] = json!("2020-01-01T00:00:00Z");
    gone["aliases"] = json!(["CVE-1-1", "GHSA-abcd-efgh-ijkl"]);
    write_lines(&file, [pysec(1, "CVE-1-1", "x"), gone]);
    feeds::add(&station, FeedKind::Osv, &file.display().to_string()).await.unwrap();
    feeds::update(&station, &[]).await.unwrap();
    for (id, found) in
        [("CVE-1-1", 2), ("cve-1-1", 2), ("pysec-1", 1), ("PYSEC-2", 1), ("ghsa-ABCD-efgh-ijkl", 1)]
    {
        assert_eq!(feeds::show(&station, id).await.unwrap().len(), found, "{id}");
    }
    assert_eq!(feeds::show(&station, "CVE-1-2").await.unwrap_err().kind, Kind::No);
}

#[tokio::test]
async fn two_runs_at_once_end_with_what_both_read() {
    let dir = TempDir::new().unwrap();
    let one = station(&dir.path().join("station"), 1).await;
    let two = Station::open(&dir.path().join("station"), one.options.clone()).await.unwrap();
    let mut world = World::default();
    let mut dice = Dice(7);
    (0..60).for_each(|_| world.change(&mut dice));
    world.write(dir.path(), false);
    add_all(&one, dir.path()).await;
    for _ in 0..5 {
        (0..5).for_each(|_| world.change(&mut dice));
        world.write(dir.path(), false);
        let (a, b) = tokio::join!(feeds::update(&one, &[]), feeds::update(&two, &[]));
        assert!(a.unwrap().failed.is_none() && b.unwrap().failed.is_none());
        assert_eq!(all_slices(&one).await, world.slices());
    }
}

#[tokio::test]
async fn a_compressed_feed_is_read_and_one_that_was_cut_short_is_not() {
    let dir = TempDir::new().unwrap();
    let station = station(&dir.path().join("station"), 2).await;
    let lines: Vec<String> = (0..50).map(|i| pysec(i, "CVE-1-1", "x").to_string()).collect();
    let packed = zstd::bulk::compress(lines.join("\n").as_bytes(), 3).unwrap();
    let file = dir.path().join("feed.jsonl.zst");
    std::fs::write(&file, &packed).unwrap();
    feeds::add(&station, FeedKind::Osv, &file.display().to_string()).await.unwrap();
    assert_eq!(feeds::update(&station, &[]).await.unwrap().read[0].head.count, 50);
    let before = set(&station).await;
    std::fs::write(&file, &packed[..packed.len() - 3]).unwrap();
    let error = feeds::update(&station, &[]).await.unwrap().failed.unwrap();
    assert_eq!(error.kind, Kind::Fault);
    assert_eq!(set(&station).await, before);
}

#[tokio::test]
async fn a_feed_that_its_source_says_not_to_have_changed_is_not_sent_again() {
    use airlock_testkit::wire::{Wire, answer};
    let dir = tempfile::tempdir().unwrap();
    let station = station(&dir.path().join("station"), 2).await;
    let body = std::sync::Arc::new(std::sync::Mutex::new(("\"v1\"", osv_line("PYSEC-1"))));
    let held = body.clone();
    let source = Wire::start(move |request, _| {
        let (tag, text) = held.lock().unwrap().clone();
        match request.header("if-none-match") == Some(tag) {
            true => answer("304 Not Modified", &[("etag", tag)], ""),
            false => answer("200 OK", &[("etag", tag), ("content-type", "application/json")], text),
        }
    })
    .await;
    let address = format!("http://{}/osv.jsonl", source.address());
    let name = feeds::add(&station, FeedKind::Osv, &address).await.unwrap();
    let update = async |how| {
        let mut updated = feeds::update_with(&station, std::slice::from_ref(&name), how).await.unwrap();
        assert!(updated.failed.is_none(), "{:?}", updated.failed);
        let report = updated.read.remove(0);
        (report.changed, report.head.content, report.head.count)
    };
    let now = Reading::default();
    let first = update(now).await;
    let asked = || {
        let [one] = &source.asked()[..] else { panic!("one question was to be asked") };
        one.header("if-none-match").map(str::to_owned)
    };
    assert_eq!((first.0, asked()), (true, None));
    assert_eq!(update(now).await, (false, first.1, first.2));
    assert_eq!(asked().as_deref(), Some("\"v1\""));
    // What changed comes, and what is wanted anew is not asked about.
    *body.lock().unwrap() = ("\"v2\"", osv_line("PYSEC-2"));
    let second = update(now).await;
    assert_eq!((second.0, second.1 == first.1), (true, false));
    source.asked();
    update(Reading { anew: true, ..now }).await;
    assert_eq!(asked(), None);
    update(now).await;
    assert_eq!(asked().as_deref(), Some("\"v2\""));
    // A feed that was set up otherwise, or whose last good state is lost, is asked for whole.
    let other = feeds::add(&station, FeedKind::Osv, &format!("{address}?x=1")).await.unwrap();
    feeds::update(&station, &[other]).await.unwrap();
    assert_eq!(asked(), None);
}

fn osv_line(id: &str) -> String {
    format!("{}\n", airlock_testkit::osv(id, "PyPI", "x", "2", 7.5))
}
