//! The download log under load of others: its limits, and that its end waits for nobody.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use airlock_core::id::Digest;
use airlock_core::time::Time;
use airlock_store::{Download, DownloadLimits, Store};
use sqlx::Connection as _;

fn row(artifact: usize, client: &str) -> Download {
    Download {
        channel: "main".into(),
        artifact: format!("noarch/a-{artifact}.conda"),
        sha256: Digest::of(b"x"),
        day: 1,
        client: client.into(),
        account: String::new(),
        agent: "pip".into(),
        first: Time::from_seconds(90_000),
        last: Time::from_seconds(90_000),
        times: 1,
    }
}

#[tokio::test]
async fn what_is_old_goes_while_somebody_reads_and_waits_for_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path(), true).await.unwrap();
    let limits = DownloadLimits { day: 10, client: 2 };
    let mut room = store.db.download_room(&BTreeSet::from([1]), limits).await.unwrap();
    let rows: Vec<Download> = (0..4).map(|n| row(n, "10.0.0.1")).collect();
    store.db.note_downloads(&rows, &BTreeMap::new(), &mut room).await.unwrap();
    // Two of them name the client, and within the same batch the rest do not.
    let all = store.db.downloads(airlock_store::Wanted::Bytes(Digest::of(b"x")), 0, 100).await.unwrap();
    let named = all.iter().filter(|row| row.client == "10.0.0.1").count();
    assert_eq!((all.len(), named), (4, 2));
    assert!(all.iter().filter(|row| row.client.is_empty()).all(|row| row.agent == "other"));

    let mut files = std::fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().path());
    let file = files.find(|path| path.extension().is_some_and(|e| e == "db")).unwrap();
    let mut reader = sqlx::SqliteConnection::connect(&format!("sqlite://{}", file.display())).await.unwrap();
    sqlx::raw_sql("begin; select count(*) from download").execute(&mut reader).await.unwrap();
    let begun = Instant::now();
    assert_eq!(store.db.end_downloads(2).await.unwrap(), 4);
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
}

/// How many rows name each client.
async fn named(store: &Store) -> BTreeMap<String, usize> {
    let mut out = BTreeMap::new();
    for row in store.db.downloads(airlock_store::Wanted::Bytes(Digest::of(b"x")), 0, 1000).await.unwrap() {
        *out.entry(row.client).or_default() += 1;
    }
    out
}

#[tokio::test]
async fn what_a_client_fetches_beyond_its_rows_takes_no_room_from_others() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path(), true).await.unwrap();
    let limits = DownloadLimits { day: 10, client: 2 };
    let note = async |rows: &[Download]| {
        let mut room = store.db.download_room(&BTreeSet::from([1]), limits).await.unwrap();
        store.db.note_downloads(rows, &BTreeMap::new(), &mut room).await.unwrap();
    };
    // One client goes through all files, batch by batch: what is beyond its rows names nobody.
    for batch in 0..5 {
        note(&(0..8).map(|n| row(8 * batch + n, "10.0.0.1")).collect::<Vec<_>>()).await;
    }
    assert_eq!(named(&store).await, BTreeMap::from([("10.0.0.1".into(), 2), (String::new(), 38)]));
    // Eight others have the rest of the day, and the ninth comes too late.
    for client in 2..12 {
        note(&[row(0, &format!("10.0.0.{client}"))]).await;
    }
    let named = named(&store).await;
    assert_eq!(named.values().sum::<usize>(), 10 + 39, "{named:?}");
    assert!((1..10).all(|client| named.contains_key(&format!("10.0.0.{client}"))), "{named:?}");
    assert!((10..12).all(|client| !named.contains_key(&format!("10.0.0.{client}"))), "{named:?}");
    // An account is somebody, and what comes without either is nobody from the start.
    let account = Download { account: "ada".into(), ..row(50, "") };
    note(&[account, row(51, "")]).await;
    let all = store.db.downloads(airlock_store::Wanted::Bytes(Digest::of(b"x")), 0, 1000).await.unwrap();
    assert!(all.iter().all(|row| row.account.is_empty()));
    assert!(all.iter().any(|row| row.artifact == "noarch/a-51.conda" && row.agent == "pip"));
}
