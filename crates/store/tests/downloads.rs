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
