//! NVD's API: read whole once, then by what changed, while its list moves under the reading.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use airlock_core::advisory::{AdvisoryRecord, FeedHead, FeedKind};
use airlock_core::id::Id;
use airlock_core::time::Span;
use airlock_engine::feeds;
use airlock_engine::network::{Network, Period};
use airlock_engine::station::Clock;
use airlock_engine::trees;
use airlock_testkit::Kit;
use airlock_testkit::wire::{Paged, Request, Turn, World};

/// A station that waits for nothing and tries nothing again, a feed of the API, and `count` records in it.
async fn kit(count: usize, page: usize) -> (Kit, Paged, String) {
    let mut kit = Kit::new(&[]).await;
    let network = &mut kit.station.config.network.all;
    network.request_interval = Some(Period::milliseconds(1));
    network.retries = Some(0);
    let api = Paged::start(page).await;
    for n in 0..count {
        api.world().put(&cve(n), "2026-01-01T00:00:00", "first");
    }
    let name = feeds::add(&kit.station, FeedKind::Nvd, &api.location()).await.unwrap();
    (kit, api, name)
}

fn cve(n: usize) -> String {
    format!("CVE-2026-{n:04}")
}

async fn update(kit: &Kit, name: &str) -> Result<FeedHead, String> {
    let updated = feeds::update(&kit.station, &[name.to_owned()]).await.unwrap();
    match updated.failed {
        Some(error) => Err(error.to_string()),
        None => Ok(updated.read[0].head.clone()),
    }
}

/// What the feed holds: id to text.
async fn held(kit: &Kit, name: &str) -> BTreeMap<String, String> {
    let Some(head) = feeds::head_of(&kit.station, name).await.unwrap() else { return BTreeMap::new() };
    let db = &kit.station.store.db;
    let mut out = BTreeMap::new();
    for (key, id) in trees::load::<Id<AdvisoryRecord>>(db, head.records()).await.unwrap() {
        out.insert(key, db.get(id).await.unwrap().advisory.summary);
    }
    out
}

/// What the API holds.
fn there(api: &Paged) -> BTreeMap<String, String> {
    api.world().records.iter().map(|(id, _, text)| (id.clone(), text.clone())).collect()
}

fn is_window(request: &Request) -> bool {
    request.target.contains("lastModStartDate=") && request.target.contains("lastModEndDate=")
}

fn change(change: impl FnOnce(&mut World) + Send + 'static) -> Turn {
    Turn::Change(Box::new(change))
}

#[tokio::test]
async fn all_is_read_once_and_then_what_changed() {
    let (mut kit, api, name) = kit(20, 8).await;
    let first = update(&kit, &name).await.unwrap();
    assert_eq!((first.count, first.until.unwrap().at), (20, kit.now().await));
    assert_eq!(held(&kit, &name).await, there(&api));
    let asked = api.asked();
    assert!(asked.len() == 3 && !asked.iter().any(is_window), "{asked:?}");

    kit.pass(Span::days(1));
    api.world().put(&cve(3), "2026-03-02T00:00:00", "second");
    api.world().put("CVE-2026-9999", "2026-03-02T00:00:00", "new");
    let second = update(&kit, &name).await.unwrap();
    let asked = api.asked();
    assert!(asked.len() == 1 && asked.iter().all(is_window), "{asked:?}");
    assert!(asked[0].target.contains("lastModStartDate=2026-03-01T10%3A00%3A00.000%2B00%3A00"), "{asked:?}");
    assert_eq!(second.count, 21);
    assert_eq!(held(&kit, &name).await, there(&api));

    // Nothing changed: nothing is lost for that.
    kit.pass(Span::days(1));
    let third = update(&kit, &name).await.unwrap();
    assert_eq!((third.content, third.count), (second.content, 21));
    // Away for longer than one question may be about, and for longer than asking for changes pays.
    api.asked();
    for (days, questions, windows) in [(300, 3, true), (2000, 4, false)] {
        kit.pass(Span::days(days));
        let _ = update(&kit, &name).await.unwrap();
        let asked = api.asked();
        assert_eq!(asked.len(), questions, "{asked:?}");
        assert!(asked.iter().all(|request| is_window(request) == windows), "{asked:?}");
        assert_eq!(held(&kit, &name).await, there(&api));
    }
}

#[tokio::test]
async fn all_is_read_again_where_a_person_says_so_and_what_was_held_counts_until_then() {
    let (mut kit, api, name) = kit(20, 8).await;
    update(&kit, &name).await.unwrap();
    kit.pass(Span::days(1));
    // It left the list, which no question about what changed would tell.
    api.world().records.remove(3);
    api.asked();
    let anew = feeds::Reading { anew: true, ..feeds::Reading::default() };
    api.world().turns = [Turn::Pass, Turn::Cut].into();
    let names = [name.clone()];
    assert!(feeds::update_with(&kit.station, &names, anew).await.unwrap().failed.is_some());
    assert_eq!(held(&kit, &name).await.len(), 20);
    assert!(feeds::update_with(&kit.station, &names, anew).await.unwrap().failed.is_none());
    assert_eq!(held(&kit, &name).await, there(&api));
    assert!(!api.asked().iter().any(is_window));
}

#[tokio::test]
async fn a_page_that_fails_leaves_the_last_good_state_in_force() {
    let (kit, api, name) = kit(20, 8).await;
    let cases = [
        Turn::Status("500 Internal Server Error", "x", "y"),
        Turn::Status("404 Not Found", "x", "y"),
        Turn::Status("403 Forbidden", "x", "y"),
        Turn::Status("429 Too Many Requests", "retry-after", "3600"),
        Turn::Cut,
        Turn::Body("{\"message\":\"rate\"}"),
        Turn::Body("<html>"),
        Turn::Body("{\"startIndex\":0,\"totalResults\":99999999,\"vulnerabilities\":[]}"),
        Turn::Elsewhere,
        // More than there is, and less than comes.
        Turn::Total(3),
    ];
    for turn in cases {
        api.world().turns = [Turn::Pass, turn].into();
        update(&kit, &name).await.unwrap_err();
        assert_eq!(held(&kit, &name).await, BTreeMap::new());
    }
    api.world().turns.clear();
    update(&kit, &name).await.unwrap();
    let good = held(&kit, &name).await;
    assert_eq!(good, there(&api));
    // The same where only what changed is asked for.
    api.world().put(&cve(1), "2026-03-01T11:00:00", "second");
    api.world().turns = [Turn::Cut].into();
    update(&kit, &name).await.unwrap_err();
    assert_eq!(held(&kit, &name).await, good);
    api.world().turns = [Turn::Total(9), Turn::Total(9)].into();
    assert!(update(&kit, &name).await.unwrap_err().contains("announces 9 records and ends at 1"));
    assert_eq!(held(&kit, &name).await, good);
    update(&kit, &name).await.unwrap();
    assert_eq!(held(&kit, &name).await, there(&api));
}

#[tokio::test]
async fn a_record_that_makes_no_sense_is_left_out_and_named_once() {
    let (kit, api, name) = kit(0, 8).await;
    let long = format!(r#"{{"cve":{{"id":"{}"}}}}"#, "CVE-".repeat(1000));
    let page = format!(
        r#"{{"startIndex":0,"totalResults":4,"vulnerabilities":[{{"cve":{{"id":"CVE-2026-1"}}}},{{"cve":{{"id":7}}}},7,{long}]}}"#
    );
    api.world().turns = [Turn::Body(page.leak())].into();
    let head = update(&kit, &name).await.unwrap();
    assert_eq!((head.count, head.skipped), (1, 3));
}

#[tokio::test]
async fn a_list_that_moves_under_the_reading_loses_no_record() {
    let (kit, api, name) = kit(40, 8).await;
    // One goes and one comes between two pages; one changes, and stands at the end.
    api.world().turns = [
        Turn::Pass,
        change(|world| drop(world.records.remove(0))),
        change(|world| world.put("CVE-2026-9999", "2026-03-01T12:00:01", "new")),
        change(|world| world.put(&cve(2), "2026-03-01T12:00:02", "second")),
    ]
    .into();
    update(&kit, &name).await.unwrap();
    let mut found = held(&kit, &name).await;
    // What went while it was read stands until a person reads all of it again.
    found.remove(&cve(0));
    assert_eq!(found, there(&api));

    // So many go that no record of the page before comes again: all of it is read anew.
    let (kit, api, name) = self::kit(40, 8).await;
    api.world().turns = [Turn::Pass, change(|world| drop(world.records.drain(..6)))].into();
    update(&kit, &name).await.unwrap();
    assert_eq!(held(&kit, &name).await, there(&api));
    let starts = api.asked().iter().filter(|request| request.target.contains("startIndex=0&")).count();
    assert_eq!(starts, 2);

    // It is shorter than where the next page begins.
    for left in [3, 6] {
        let (kit, api, name) = self::kit(40, 8).await;
        api.world().turns = [Turn::Pass, change(move |world| world.records.truncate(left))].into();
        update(&kit, &name).await.unwrap();
        assert_eq!(held(&kit, &name).await, there(&api));
        assert_eq!(held(&kit, &name).await.len(), left);
    }

    // It never stands still.
    let (kit, api, name) = self::kit(200, 8).await;
    let moves = || change(|world| drop(world.records.drain(..6)));
    api.world().turns = (0..8).map(|n| if n % 2 == 0 { Turn::Pass } else { moves() }).collect();
    let why = update(&kit, &name).await.unwrap_err();
    assert!(why.contains("changed under each of 4 readings"), "{why}");
}

#[tokio::test]
async fn what_changes_while_all_is_read_is_asked_for_the_next_time() {
    let (mut kit, api, name) = kit(40, 8).await;
    // Behind the reading, where it was read already; the source's clock is an hour behind.
    api.world().timestamp = Some("2026-03-01T11:00:00.000".to_owned());
    api.world().turns = [
        Turn::Pass,
        Turn::Pass,
        change(|world| {
            world.records[0] = (cve(0), "2026-03-01T11:00:05".parse().unwrap(), "second".to_owned())
        }),
    ]
    .into();
    let head = update(&kit, &name).await.unwrap();
    assert_eq!(head.until.unwrap().at.to_string(), "2026-03-01T11:00:00Z");
    assert_eq!(held(&kit, &name).await[&cve(0)], "first");
    kit.pass(Span::days(1));
    update(&kit, &name).await.unwrap();
    assert_eq!(held(&kit, &name).await, there(&api));
}

#[tokio::test]
async fn it_is_asked_no_faster_than_it_likes_and_again_when_it_is_busy() {
    let (mut kit, api, name) = kit(30, 8).await;
    kit.station.config.network.all.request_interval = Some(Period::milliseconds(60));
    kit.station.config.network.all.retries = Some(3);
    kit.station.config.network.all.retry_base = Some(Period::milliseconds(3));
    api.world().turns = [
        Turn::Status("403 Forbidden", "x", "y"),
        Turn::Status("429 Too Many Requests", "retry-after", "0"),
        Turn::Status("503 Service Unavailable", "retry-after", "0"),
    ]
    .into();
    let start = Instant::now();
    update(&kit, &name).await.unwrap();
    assert_eq!(held(&kit, &name).await, there(&api));
    let pages = api.asked().len() - 3;
    // Refused twice, each time it waits for sixty times the first wait: half a minute where nothing is configured.
    let least = Duration::from_millis(60) * (pages as u32 - 1) + Duration::from_millis(2 * 180);
    assert!(pages >= 4 && start.elapsed() >= least, "{pages} {:?}", start.elapsed());
}

#[tokio::test]
async fn quiet_hours_that_begin_in_the_middle_let_a_reading_end() {
    let (mut kit, api, name) = kit(20, 8).await;
    let quiet = format!(
        "request_interval = \"300ms\"\n[[source]]\nprefix = \"{}\"\nquiet_hours = [\"13:00-18:00\"]\n",
        api.location().trim_end_matches("/cves/2.0")
    );
    kit.station.config.network = toml::from_str(&quiet).unwrap();
    // It is never earlier than what another process wrote into the ledger last.
    let mut later = kit.station.clone();
    later.options.clock = Clock::Fixed(kit.now().await.after(Span::seconds(2 * 3600)));
    let (began, begins) = tokio::sync::oneshot::channel();
    api.world().turns = [change(move |_| began.send(()).unwrap())].into();
    let hours = async {
        begins.await.unwrap();
        later.commit(Vec::new(), "test.later", "x", &serde_json::json!({})).await.unwrap();
    };
    let (head, ()) = tokio::join!(update(&kit, &name), hours);
    assert_eq!(head.unwrap().count, 20);
    assert_eq!(api.asked().len(), 3);
    // Nothing is begun in them.
    let why = update(&kit, &name).await.unwrap_err();
    assert!(why.contains("quiet hours") && api.asked().is_empty(), "{why}");
}

#[tokio::test]
async fn the_key_goes_to_its_own_source_and_is_told_to_nobody() {
    let (mut kit, api, name) = kit(3, 8).await;
    kit.write("station/nvd.key", b"geheim-1234\n");
    let network: Network = toml::from_str(&format!(
        "request_interval = \"1ms\"\n[[source]]\nprefix = \"{}\"\napi_key_file = \"nvd.key\"\n",
        api.location().trim_end_matches("/cves/2.0")
    ))
    .unwrap();
    kit.station.config.network = network;
    update(&kit, &name).await.unwrap();
    let asked = api.asked();
    assert!(asked.iter().all(|request| request.header("apikey") == Some("geheim-1234")), "{asked:?}");
    assert!(asked.iter().all(|request| !request.target.contains("geheim")), "{asked:?}");
    // A feed elsewhere gets none.
    let other = Paged::start(8).await;
    let redirect = format!("{}?startIndex=0", other.location());
    other.world().put(&cve(1), "2026-01-01T00:00:00", "x");
    let second = feeds::add(&kit.station, FeedKind::Nvd, &other.location()).await.unwrap();
    update(&kit, &second).await.unwrap();
    assert!(other.asked().iter().all(|request| request.header("apikey").is_none()));
    // Nor does one to which its source redirects.
    kit.station.config.hosts.push("127.0.0.1".to_owned());
    other.world().put(&cve(2), "2026-03-01T12:00:00", "from elsewhere");
    api.world().turns = [Turn::Status("302 Found", "location", redirect.leak())].into();
    api.asked();
    update(&kit, &name).await.unwrap();
    let (asked, led) = (api.asked(), other.asked());
    assert!(asked[0].header("apikey").is_some() && led.len() == 1, "{asked:?} {led:?}");
    assert!(led[0].header("apikey").is_none() && !led[0].target.contains("geheim"), "{led:?}");
    // Neither does an error tell it, nor the ledger, nor what is stored.
    api.world().turns = [Turn::Body("no")].into();
    let why = update(&kit, &name).await.unwrap_err();
    assert!(!why.contains("geheim"), "{why}");
    let mut folders = vec![kit.station.dir.clone()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if !path.ends_with("nvd.key") {
                let bytes = std::fs::read(&path).unwrap();
                assert!(!bytes.windows(6).any(|window| window == b"geheim"), "{}", path.display());
            }
        }
    }
}
