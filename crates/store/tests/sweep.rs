//! What is removed, and what a touch saves.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::time::{Duration, SystemTime};

use airlock_core::id::Digest;
use airlock_core::policy::PolicyText;
use airlock_core::time::Time;
use airlock_store::{Change, NameChange, ShardName, Store};

async fn store() -> (tempfile::TempDir, Store) {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path(), true).await.unwrap();
    (dir, store)
}

fn blob(store: &Store, bytes: &[u8]) -> Digest {
    let mut staged = store.blobs.stage().unwrap();
    staged.write(bytes).unwrap();
    let mut batch = store.blobs.batch();
    let digest = batch.add(staged, None).unwrap();
    batch.commit().unwrap();
    digest
}

#[tokio::test]
async fn only_objects_that_are_old_enough_are_removed() {
    let (_dir, store) = store().await;
    let mut ids = Vec::new();
    for n in 0..1200 {
        ids.push(store.db.put(&PolicyText { text: format!("{n}") }).await.unwrap().digest());
    }
    let all = store.db.inventory().await.unwrap();
    assert_eq!(all.len(), 1200);
    assert!(all.windows(2).all(|pair| pair[0].id < pair[1].id) && all.iter().all(|o| o.size > 0));
    let first = all.iter().map(|o| o.born).min().unwrap();
    let last = all.iter().map(|o| o.born).max().unwrap();
    assert_eq!(store.db.remove_old(&ids, first).await.unwrap(), (0, 0));
    let absent = Digest::of(b"absent");
    let bytes = all.iter().map(|o| o.size).sum();
    ids.push(absent);
    assert_eq!(store.db.remove_old(&ids, last + 1).await.unwrap(), (1200, bytes));
    assert!(store.db.inventory().await.unwrap().is_empty());
}

#[tokio::test]
async fn a_touch_saves_an_object() {
    let (_dir, store) = store().await;
    let id = store.db.put(&PolicyText { text: "a".into() }).await.unwrap().digest();
    let born = async || store.db.inventory().await.unwrap()[0].born;
    let written = born().await;
    // The system tells seconds: until it tells another one.
    while born().await == written {
        tokio::time::sleep(Duration::from_millis(50)).await;
        store.db.touch_many(&[id]).await.unwrap();
    }
    assert_eq!(store.db.remove_old(&[id], written + 1).await.unwrap().0, 0);
    let touched = born().await;
    assert_eq!(store.db.remove_old(&[id], touched + 1).await.unwrap().0, 1);
}

#[tokio::test]
async fn only_blobs_that_are_old_enough_are_removed_and_wrong_ones_are_set_aside() {
    let (_dir, store) = store().await;
    let (one, two) = (blob(&store, b"one"), blob(&store, b"two"));
    let (past, future) =
        (SystemTime::now() - Duration::from_secs(60), SystemTime::now() + Duration::from_secs(60));
    assert_eq!(store.blobs.remove_old(one, past).unwrap(), None);
    assert!(store.blobs.touch(one).unwrap());
    let listed: Vec<Digest> =
        store.blobs.folders().flat_map(|folder| folder.unwrap()).map(|lying| lying.digest).collect();
    assert_eq!(listed.len(), 2);
    assert_eq!(store.blobs.remove_old(one, future).unwrap(), Some(3));
    assert!(!store.blobs.touch(one).unwrap() && store.blobs.find(one).is_none());
    assert_eq!(store.blobs.remove_old(one, future).unwrap(), None);
    assert_eq!(store.blobs.rehash(one, |_| ()).unwrap(), None);
    let mut read = 0;
    assert_eq!(store.blobs.rehash(two, |n| read += n).unwrap(), Some(two));
    assert_eq!(read, 3);
    let aside = store.blobs.set_aside(two).unwrap();
    assert!(aside.exists() && store.blobs.find(two).is_none());
    assert_eq!(store.blobs.damaged().unwrap().len(), 1);
    store.blobs.forget_damaged(two);
    assert!(store.blobs.damaged().unwrap().is_empty() && !aside.exists());
}

#[tokio::test]
async fn what_was_left_in_staging_is_swept_when_it_is_old() {
    let (dir, store) = store().await;
    std::fs::write(dir.path().join("blobs/staging/left"), b"12345").unwrap();
    let (past, future) =
        (SystemTime::now() - Duration::from_secs(60), SystemTime::now() + Duration::from_secs(60));
    assert_eq!(store.blobs.sweep_staging(past, false).unwrap(), (0, 0));
    assert_eq!(store.blobs.sweep_staging(future, true).unwrap(), (1, 5));
    assert_eq!(store.blobs.sweep_staging(future, false).unwrap(), (1, 5));
    assert_eq!(store.blobs.sweep_staging(future, false).unwrap(), (0, 0));
}

#[tokio::test]
async fn names_of_shards_that_ended_go_and_others_stay() {
    let (_dir, store) = store().await;
    let name = |n: &str| ShardName { name: Digest::of(n.as_bytes()), shard: Digest::of(b"shard") };
    for n in ["old", "new"] {
        let packages = [("idna".to_owned(), Some(name(n)))].into();
        let until = Time::from_seconds(100);
        let change =
            NameChange { channel: "a".into(), subdir: "noarch".into(), renderer: 1, packages, until };
        let time = Time::from_seconds(1);
        let change = Change { time, actor: "ada".into(), refs: vec![], entries: vec![], names: vec![change] };
        store.db.commit(&change).await.unwrap();
    }
    assert_eq!(store.db.end_names(Time::from_seconds(99)).await.unwrap(), 0);
    assert_eq!(store.db.end_names(Time::from_seconds(100)).await.unwrap(), 1);
    assert_eq!(store.db.named_shards(Time::from_seconds(1000)).await.unwrap(), [Digest::of(b"shard")]);
    assert!(store.db.free_bytes().await.is_ok());
}
