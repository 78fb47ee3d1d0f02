//! Collecting takes what nothing needs, and nothing else.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, SystemTime};

use airlock_core::ecosystem::Ecosystem;
use airlock_core::id::{Digest, Id};
use airlock_core::policy::PolicyText;
use airlock_core::request::Requests;
use airlock_core::snapshot::Snapshot;
use airlock_core::time::{Span, Time};
use airlock_engine::bundle::export::{self, What};
use airlock_engine::bundle::scan::Importing;
use airlock_engine::bundle::unfinished::Void;
use airlock_engine::bundle::{import, receipt, turns};
use airlock_engine::fsck;
use airlock_engine::gc::{self, GRACE, How, Report};
use airlock_engine::graph::Kind;
use airlock_engine::retention::Retention;
use airlock_engine::station::{Config, Side, Station};
use airlock_engine::view::FileAnswer;
use airlock_engine::{channel, request, trust};
use airlock_testkit::{CondaSource, Kit, conda, osv};
use serde_json::json;

/// A week from now: whatever is there is old by then.
fn later() -> How {
    How { dry: false, grace: GRACE, now: SystemTime::now() + Duration::from_secs(7 * 86_400) }
}

async fn collect(station: &Station) -> Report {
    gc::gc(station, later()).await.unwrap()
}

async fn is_whole(station: &Station) {
    let report = fsck::fsck(station, &fsck::What::default()).await.unwrap();
    assert!(report.damages.is_empty(), "{:#?}", report.damages);
}

/// A station that published `rounds` snapshots a day apart, each with one package more.
async fn grown(rounds: usize) -> (Kit, CondaSource) {
    let mut kit = Kit::new(&[osv("PYSEC-1", "PyPI", "x", "2", 7.5)]).await;
    let mut source = kit.conda_source("source");
    for round in 0..rounds {
        let name = format!("p{round}");
        source.add(&conda(&name, "1.0"), &json!({}));
        source.write();
        if round == 0 {
            kit.add_channel("main", Ecosystem::Conda, source.path(), &[]).await;
        }
        kit.sync("main").await;
        kit.pass(Span::days(1));
    }
    (kit, source)
}

async fn snapshots(kit: &Kit) -> Vec<Id<Snapshot>> {
    let view = kit.view();
    let channel = view.channel("main").await.unwrap().unwrap();
    view.history(&channel).await.unwrap().into_iter().map(|(id, _)| id).collect()
}

#[test]
fn every_kind_of_object_is_met() {
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut found = BTreeSet::new();
    let mut folders = vec![crates.join("core/src"), crates.join("engine/src"), crates.join("store/src")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let text = std::fs::read_to_string(&path).unwrap();
            let text = text.split("\nmod tests {").next().unwrap();
            // As `object!` has them, and as those without it do.
            let told =
                text.split("object!(").skip(1).filter_map(|rest| rest.split(");").next()?.split_once('"'));
            let written = text.split("const KIND: &'static str = \"").skip(1);
            let kinds = told.map(|(_, kind)| kind).chain(written);
            found.extend(kinds.map(|rest| rest.split('"').next().unwrap().to_owned()));
        }
    }
    let known: BTreeSet<String> = Kind::ALL.iter().map(|kind| kind.name().to_owned()).collect();
    assert_eq!(found, known);
    assert!(found.len() > 20);
}

#[tokio::test]
async fn a_station_of_which_everything_is_needed_keeps_everything() {
    let (kit, _source) = grown(3).await;
    let first = collect(&kit.station).await;
    is_whole(&kit.station).await;
    // What was only on the way to what is there went, as superseded indexes did: three packages and the newest seven
    // indexes stay, and nothing more goes after that.
    assert_eq!((first.blobs_kept, first.snapshots_removed), (10, 0), "{first:?}");
    let again = collect(&kit.station).await;
    assert_eq!((again.objects_removed, again.blobs_removed), (0, 0), "{again:?}");
    assert_eq!(snapshots(&kit).await.len(), 3);
    kit.know(&[osv("PYSEC-9", "PyPI", "x", "2", 7.5)]).await;
    kit.judge("main").await;
    kit.sync("main").await;
}

#[tokio::test]
async fn what_nothing_refers_to_goes_when_it_is_old_and_a_dry_run_says_so() {
    let (kit, _source) = grown(1).await;
    collect(&kit.station).await;
    let lost = kit.station.store.db.put(&PolicyText { text: "nobody's".into() }).await.unwrap();
    let mut staged = kit.station.store.blobs.stage().unwrap();
    staged.write(b"nobody's").unwrap();
    let mut batch = kit.station.store.blobs.batch();
    let blob = batch.add(staged, None).unwrap();
    batch.commit().unwrap();
    let is_here = async || {
        let object = !kit.station.store.db.present(&[lost.digest()]).await.unwrap().is_empty();
        (object, kit.station.store.blobs.find(blob).is_some())
    };
    let now = How { now: SystemTime::now(), ..later() };
    let young = gc::gc(&kit.station, now).await.unwrap();
    assert_eq!((young.objects_removed, young.blobs_removed), (0, 0), "{young:?}");
    let dry = gc::gc(&kit.station, How { dry: true, ..later() }).await.unwrap();
    assert_eq!(is_here().await, (true, true));
    let done = collect(&kit.station).await;
    assert_eq!(is_here().await, (false, false));
    assert_eq!((dry.objects_removed, dry.blobs_removed, dry.blob_bytes), (1, 1, 8));
    assert_eq!((done.objects_removed, done.blobs_removed, done.blob_bytes), (1, 1, 8));
}

#[tokio::test]
async fn snapshots_beyond_the_rule_go_and_are_served_and_judged_no_longer() {
    let (mut kit, mut source) = grown(4).await;
    source.remove("noarch", "p0-1.0-0.conda");
    source.write();
    kit.sync("main").await;
    let old = snapshots(&kit).await;
    assert_eq!(old.len(), 5);
    kit.station.config.retention = Retention { snapshots: Span::days(2), at_least: 1 };
    kit.pass(Span::days(2));
    kit.sync("main").await;
    // The newest, and what was the newest at some moment of the last two days.
    let kept = snapshots(&kit).await;
    assert_eq!(kept, old[..kept.len()]);
    assert!(kept.len() < 3, "{kept:?}");
    kit.block("main", "p0").await;
    let blocked = |kit: &Kit| {
        let view = kit.view();
        async move {
            let channel = view.channel("main").await.unwrap().unwrap();
            channel.blocks.reason("noarch/p0", "p0-1.0-0.conda").is_some()
        }
    };
    kit.pass(Span::days(3));
    assert!(blocked(&kit).await);
    let report = collect(&kit.station).await;
    assert_eq!(report.snapshots_kept["main"], 1, "{report:?}");
    assert!(report.snapshots_removed >= 3 && report.objects_removed > 3, "{report:?}");
    assert_eq!(report.unlisted["main"], 1, "{report:?}");
    assert!(!blocked(&kit).await, "what no kept snapshot lists is blocked by not being there");
    is_whole(&kit.station).await;
    let view = kit.view();
    assert!(view.channel_at("main", &old[4].to_string()).await.unwrap().is_none());
    assert_eq!(snapshots(&kit).await.len(), 1);
    // A longer rule brings nothing back, and is no error.
    kit.station.config.retention = Retention::default();
    assert_eq!(snapshots(&kit).await.len(), 1);
    collect(&kit.station).await;
    let channel = view.channel("main").await.unwrap().unwrap();
    let answer = view.file(&channel, "noarch/p1", "p1-1.0-0.conda").await.unwrap();
    assert!(matches!(answer, FileAnswer::Serve(_)));
    kit.judge("main").await;
    source.add(&conda("p9", "1.0"), &json!({}));
    source.write();
    kit.sync("main").await;
    is_whole(&kit.station).await;
}

#[tokio::test]
async fn what_a_ref_pointed_to_a_moment_ago_stays_with_all_that_it_leads_to() {
    let (kit, _source) = grown(1).await;
    let db = &kit.station.store.db;
    let facts = db.find_ref("channel/main/facts").await.unwrap().unwrap();
    let born = async || {
        let all = db.inventory().await.unwrap();
        all.iter().map(|stored| stored.born).max().unwrap()
    };
    let written = born().await;
    // The system tells seconds: until it tells another one.
    let filler = PolicyText { text: "what nobody needs".into() };
    while db.put(&filler).await.is_ok() && born().await == written {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let moved = kit.station.move_ref("channel/main/facts", None).await.unwrap();
    kit.station.commit(vec![moved], "test", "facts", &json!({})).await.unwrap();
    // The snapshot names the facts as well.
    let moved = kit.station.move_ref("channel/main/snapshot", None).await.unwrap();
    kit.station.commit(vec![moved], "test", "snapshot", &json!({})).await.unwrap();
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs((written + 1).try_into().unwrap());
    let report = gc::gc(&kit.station, How { dry: false, grace: Span::seconds(0), now }).await.unwrap();
    assert!(report.objects_removed > 0, "{report:?}");
    let tree = airlock_core::trie::TreeId::<Id<airlock_core::fact::Facts>>::new(facts);
    for id in airlock_engine::trees::load(db, tree).await.unwrap().into_values() {
        for fact in db.get(id).await.unwrap().files.into_values() {
            assert!(kit.station.store.blobs.find(fact.file.unwrap().sha256).is_some());
        }
    }
}

#[tokio::test]
async fn requests_stay() {
    let (kit, _source) = grown(1).await;
    let requests = Requests { last: 7, list: Vec::new() };
    let id = kit.station.store.db.put(&requests).await.unwrap();
    let moved = kit.station.move_ref(request::REF, Some(id.digest())).await.unwrap();
    kit.station.commit(vec![moved], "test", "requests", &json!({})).await.unwrap();
    collect(&kit.station).await;
    is_whole(&kit.station).await;
    assert_eq!(request::load(&kit.station).await.unwrap(), (Some(id.digest()), requests));
}

#[tokio::test]
async fn nothing_is_removed_from_a_station_that_lacks_something() {
    let (kit, _source) = grown(2).await;
    let db = &kit.station.store.db;
    let id = db.find_ref("channel/main/facts").await.unwrap().unwrap();
    db.remove_damaged(&[id]).await.unwrap();
    let before = db.inventory().await.unwrap().len();
    let error = gc::gc(&kit.station, later()).await.unwrap_err();
    assert!(error.message.contains("channel/main/facts"), "{error}");
    assert!(error.hint.unwrap().contains("fsck"));
    assert_eq!(db.inventory().await.unwrap().len(), before);
}

#[tokio::test]
async fn deltas_cross_after_both_sides_collected() {
    let (mut kit, mut source) = grown(1).await;
    let options = kit.station.options.clone();
    let high = Station::init(&kit.path().join("high"), "high", Side::Isolated, options).await.unwrap();
    let key = kit.station.key.public();
    trust::add(&high, "low", key, &kit.station.key.fingerprint(), trust::Limits::default()).await.unwrap();
    let stream = export::stream_of(&kit.station, None);
    let mut base = None;
    kit.station.config.retention = Retention { snapshots: Span::days(0), at_least: 1 };
    for round in 0..4 {
        let disk = kit.path().join(format!("disk-{round}"));
        let what = What { base, ..What::default() };
        let report = export::export(&kit.station, &disk, &what).await.unwrap();
        assert_eq!(report.left_out > 0, round > 0);
        let done = import::import(&high, &disk).await.unwrap();
        assert!(done.failed.is_none(), "{:?}", done.failed);
        // Only every second receipt gets back.
        if round % 2 == 0 {
            let path = kit.path().join("receipt");
            base = receipt::write(&high, &stream, None, &path).await.unwrap().last;
        }
        for n in 0..2 {
            let name = format!("q{round}-{n}");
            source.add(&conda(&name, "1.0"), &json!({}));
            source.write();
            kit.sync("main").await;
        }
        kit.know(&[osv(&format!("PYSEC-{round}"), "PyPI", "y", "2", 7.5)]).await;
        kit.judge("main").await;
        kit.pass(Span::days(1));
        collect(&kit.station).await;
        collect(&high).await;
        is_whole(&kit.station).await;
        is_whole(&high).await;
    }
}

#[tokio::test]
async fn what_came_of_a_bundle_waits_for_the_rest_unless_it_can_never_be_whole() {
    let (kit, mut source) = grown(1).await;
    let options = kit.station.options.clone();
    let mut high = Station::init(&kit.path().join("high"), "high", Side::Isolated, options).await.unwrap();
    let (key, print) = (kit.station.key.public(), kit.station.key.fingerprint());
    trust::add(&high, "low", key, &print, trust::Limits::default()).await.unwrap();
    let mut disks = Vec::new();
    for name in ["first", "second"] {
        source.add(&conda(name, "1.0"), &json!({}));
        source.write();
        kit.sync("main").await;
        let disk = kit.path().join(name);
        export::export(&kit.station, &disk, &What::default()).await.unwrap();
        disks.push(disk);
    }
    let stream = export::stream_of(&kit.station, None);
    let found = |report: &Report| -> Vec<(Option<u64>, u64, Option<Void>)> {
        report.unfinished.iter().map(|one| (one.number, one.files, one.void)).collect()
    };
    let collect = async |high: &Station, dry: bool| gc::gc(high, How { dry, ..later() }).await.unwrap();
    // What came stays where a scanner says no.
    let no =
        Importing { command: ["sh", "-c", "exit 1"].map(str::to_owned).to_vec(), ..Importing::default() };
    high.config.import = no;
    for disk in &disks {
        assert!(import::import(&high, disk).await.unwrap_err().is_opinion);
    }
    let mut report = collect(&high, false).await;
    report.unfinished.sort_by_key(|one| one.number);
    assert_eq!(found(&report), [(Some(1), 2, None), (Some(2), 3, None)]);
    assert!(report.unfinished.iter().all(|one| one.stream.as_ref() == Some(&stream) && one.bytes > 0));
    let kept = report.unfinished[0].until.since(Time::from_seconds(unix_seconds())).as_seconds();
    assert!((29 * 86_400..=30 * 86_400).contains(&kept), "{kept}");
    // A later one is in: the first is refused from now on.
    high.config.import = Importing::default();
    import::import(&high, &disks[1]).await.unwrap();
    for dry in [true, false] {
        assert_eq!(found(&collect(&high, dry).await), [(Some(1), 2, Some(Void::Superseded))]);
    }
    assert_eq!(collect(&high, false).await.unfinished, []);
    is_whole(&high).await;
    // Nobody is trusted any more by whose word it would count.
    source.add(&conda("third", "1.0"), &json!({}));
    source.write();
    kit.sync("main").await;
    let disk = kit.path().join("third");
    export::export(&kit.station, &disk, &What::default()).await.unwrap();
    high.config.import = Importing { command: vec!["false".to_owned()], ..Importing::default() };
    assert!(import::import(&high, &disk).await.unwrap_err().is_opinion);
    assert_eq!(found(&collect(&high, false).await), [(Some(3), 1, None)]);
    trust::revoke(&high, "low").await.unwrap();
    let manifest = collect(&high, true).await.unfinished[0].manifest.clone();
    // Whoever works on it keeps it; what no program labelled waits for its time.
    let busy = high.store.blobs.intake(&manifest).unwrap();
    assert_eq!(collect(&high, false).await.unfinished, []);
    drop(busy);
    let unknown = high.store.blobs.intake("ff").unwrap();
    drop(unknown);
    let swept = found(&collect(&high, false).await);
    assert_eq!(swept, [(Some(3), 1, Some(Void::NotTrusted)), (None, 0, None)]);
    assert_eq!(found(&collect(&high, false).await), [(None, 0, None)]);
    is_whole(&high).await;
}

fn unix_seconds() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    i64::try_from(since.as_secs()).unwrap()
}

#[tokio::test]
async fn volumes_that_follow_are_written_after_everything_else_was_collected() {
    let (mut kit, mut source) = grown(1).await;
    for name in ["a", "b", "c", "d", "e"] {
        // What nothing compresses, so that a volume holds two of them.
        let payload: Vec<u8> =
            (0..4000u32).flat_map(|n| *Digest::of(format!("{name}{n}").as_bytes()).as_bytes()).collect();
        let content: [(&str, &[u8]); 1] = [("share/data", &payload)];
        let mut package = conda(name, "1.0");
        package.files = &content;
        source.add(&package, &json!({}));
    }
    source.write();
    kit.sync("main").await;
    let options = kit.station.options.clone();
    let high = Station::init(&kit.path().join("high"), "high", Side::Isolated, options).await.unwrap();
    let key = kit.station.key.public();
    trust::add(&high, "low", key, &kit.station.key.fingerprint(), trust::Limits::default()).await.unwrap();
    let what = What { capacities: vec![700_000], volume: Some(1), ..What::default() };
    let first = kit.path().join("medium-1");
    let report = export::export(&kit.station, &first, &what).await.unwrap();
    let volumes = u32::try_from(report.volumes.len()).unwrap();
    assert!(volumes > 1, "{report:?}");
    let then = kit.station.store.db.get(snapshots(&kit).await[0]).await.unwrap().content.digest();
    // Half of it is published no longer, and nothing is kept that need not be.
    let mut source = kit.conda_source("source-of-later");
    for name in ["p0", "a", "b", "e", "later"] {
        source.add(&conda(name, "2.0"), &json!({}));
    }
    source.write();
    let root = kit.path().join("source");
    std::fs::remove_dir_all(&root).unwrap();
    std::fs::rename(source.path(), &root).unwrap();
    kit.sync("main").await;
    kit.station.config.retention = Retention { snapshots: Span::days(0), at_least: 1 };
    for _ in 0..3 {
        kit.pass(Span::days(100));
        collect(&kit.station).await;
    }
    let stream = export::stream_of(&kit.station, None);
    import::import(&high, &first).await.unwrap();
    let mut done = None;
    for number in 2..=volumes {
        let medium = kit.path().join(format!("medium-{number}"));
        turns::volume_of(&kit.station, &medium, &stream, number).await.unwrap();
        done = Some(import::import(&high, &medium).await.unwrap());
    }
    assert!(done.unwrap().taken.incomplete.is_none());
    let id = high.store.db.find_ref("channel/main/snapshot").await.unwrap().unwrap();
    let came: Snapshot = high.store.db.get(Id::new(id)).await.unwrap();
    assert_eq!(came.content.digest(), then);
    is_whole(&kit.station).await;
}

#[tokio::test]
async fn a_snapshot_that_only_a_bundle_needs_is_history_no_longer_whatever_the_rule_becomes() {
    let (mut kit, mut source) = grown(1).await;
    export::export(&kit.station, &kit.path().join("disk"), &What::default()).await.unwrap();
    let exported = snapshots(&kit).await[0];
    source.add(&conda("later", "1.0"), &json!({}));
    source.write();
    kit.sync("main").await;
    kit.pass(Span::days(1));
    kit.station.config.retention = Retention { snapshots: Span::days(0), at_least: 1 };
    collect(&kit.station).await;
    let first = kit.station.store.db.get(exported).await.unwrap();
    assert!(kit.station.store.db.get(first.inputs.upstream).await.is_err());
    kit.station.config.retention = Retention::default();
    collect(&kit.station).await;
    is_whole(&kit.station).await;
    assert_eq!(snapshots(&kit).await.len(), 1);
}

#[tokio::test]
async fn a_channel_of_wheels_keeps_their_metadata() {
    let kit = Kit::new(&[]).await;
    let mut source = kit.pypi_source("pypi");
    source.add_wheel(&airlock_testkit::wheel("idna", "3.10"), &json!({}));
    source.write();
    kit.add_channel("py", Ecosystem::Pypi, source.path(), &[]).await;
    kit.sync("py").await;
    let report = collect(&kit.station).await;
    assert_eq!((report.blobs_kept, report.blobs_removed), (2, 0));
    channel::find(&kit.station, "py").await.unwrap();
}

#[test]
fn the_rule_is_read_from_the_configuration() {
    let head = "name = \"a\"\nside = \"connected\"\n";
    let config = |more: &str| Config::parse(&format!("{head}{more}"));
    assert_eq!(config("").unwrap().retention, Retention { snapshots: Span::days(90), at_least: 10 });
    let set = config("[retention]\nsnapshots = \"2 weeks\"\n").unwrap().retention;
    assert_eq!(set, Retention { snapshots: Span::days(14), at_least: 10 });
    for bad in ["snapshots = \"soon\"", "at_least = 0", "at_most = 3"] {
        assert!(config(&format!("[retention]\n{bad}\n")).is_err(), "{bad}");
    }
}
