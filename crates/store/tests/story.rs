//! One story that every database must be able to tell, and what happens when it is interrupted.
#![allow(clippy::unwrap_used, reason = "tests")]

use airlock_core::canon::Canonical;
use airlock_core::id::Digest;
use airlock_core::ledger;
use airlock_core::object::{self, Encoded};
use airlock_core::policy::PolicyText;
use airlock_core::time::Time;
use airlock_store::{Change, NameChange, NewEntry, RefChange, ShardName, Store, StoreError};

fn text(n: usize) -> PolicyText {
    PolicyText { text: format!("policy {n} {}", "x".repeat(n % 900)) }
}

fn change(refs: Vec<RefChange>) -> Change {
    let entry = NewEntry {
        action: "test".into(),
        subject: "ref".into(),
        detail: Canonical::parse("{\"n\":1}").unwrap(),
    };
    Change { time: Time::from_seconds(1), actor: "ada".into(), refs, entries: vec![entry], names: Vec::new() }
}

#[tokio::test]
async fn objects_refs_and_ledger_tell_one_story() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path(), true).await.unwrap();
    let encoded: Vec<Encoded> = (0..2000).map(|n| object::encode(&text(n)).unwrap().1).collect();
    store.db.put_many(&encoded).await.unwrap();
    store.db.put_many(&encoded[..10]).await.unwrap();
    let ids: Vec<Digest> = encoded.iter().map(|e| e.digest).collect();
    let read = store.db.get_many(&ids).await.unwrap();
    assert!(encoded.iter().all(|e| read[&e.digest][..] == e.bytes[..]));
    let absent = Digest::of(b"absent");
    assert_eq!(store.db.present(&[ids[0], absent]).await.unwrap(), [ids[0]].into());
    let missing = store.db.get::<PolicyText>(airlock_core::id::Id::new(absent)).await;
    assert!(matches!(missing, Err(StoreError::MissingObject(id)) if id == absent));

    let to = |from, to| RefChange { name: "channel/a".into(), from, to };
    store.db.commit(&change(vec![to(None, Some(ids[0]))])).await.unwrap();
    let conflict = store.db.commit(&change(vec![to(None, Some(ids[1]))])).await;
    assert!(matches!(conflict, Err(StoreError::Moved(name)) if name == "channel/a"));
    store.db.commit(&change(vec![to(Some(ids[0]), Some(ids[1]))])).await.unwrap();
    assert_eq!(store.db.find_ref("channel/a").await.unwrap(), Some(ids[1]));
    assert_eq!(store.db.refs("channel/").await.unwrap().len(), 1);
    assert_eq!(store.db.refs("channelx").await.unwrap().len(), 0);
    store.db.commit(&change(vec![to(Some(ids[1]), None)])).await.unwrap();
    assert_eq!(store.db.find_ref("channel/a").await.unwrap(), None);

    let entries = store.db.ledger(1, 100).await.unwrap();
    let head = ledger::verify(entries.iter().map(|(e, _)| e), None).unwrap();
    assert_eq!(head, store.db.ledger_head().await.unwrap());
    assert_eq!(head.number, 3, "the refused change left no entry");
}

#[tokio::test]
async fn names_of_rendered_shards_end() {
    let dir = tempfile::tempdir().unwrap();
    let db = Store::open(dir.path(), true).await.unwrap().db;
    let name = ShardName { name: Digest::of(b"bytes"), shard: Digest::of(b"shard") };
    let names = |shown: Option<ShardName>| NameChange {
        channel: "main".to_owned(),
        subdir: "noarch".to_owned(),
        renderer: 1,
        packages: [("idna".to_owned(), shown)].into(),
        until: Time::from_seconds(100),
    };
    let change = |names| Change { names: vec![names], ..change(Vec::new()) };
    db.commit(&change(names(Some(name)))).await.unwrap();
    let far = Time::from_seconds(i64::MAX);
    let current = db.named_shard("main", "noarch", name.name, far).await.unwrap();
    assert_eq!(current, Some(name.shard), "what the newest snapshot publishes has no end");
    db.commit(&change(names(None))).await.unwrap();
    let find = |channel: &'static str, now| {
        let db = db.clone();
        async move { db.named_shard(channel, "noarch", name.name, Time::from_seconds(now)).await.unwrap() }
    };
    assert_eq!(find("main", 99).await, Some(name.shard));
    assert_eq!(find("main", 100).await, None);
    assert_eq!(find("other", 99).await, None, "knowing a hash opens no other channel");
    assert_eq!(db.rendered_names(1, &[name.shard]).await.unwrap()[&name.shard], name.name);
    assert!(db.rendered_names(2, &[name.shard]).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_blob_has_a_name_only_when_its_batch_is_on_the_disk() {
    let dir = tempfile::tempdir().unwrap();
    let blobs = Store::open(dir.path(), true).await.unwrap().blobs;
    let mut staged = blobs.stage().unwrap();
    staged.write(b"hello ").unwrap();
    staged.write(b"world").unwrap();
    let digest = Digest::of(b"hello world");
    let mut batch = blobs.batch();
    batch.add(staged, Some(digest)).unwrap();
    assert!(blobs.find(digest).is_none());
    batch.commit().unwrap();
    let found = blobs.find(digest).unwrap();
    assert_eq!((found.size(), std::fs::read(found.path()).unwrap()), (11, b"hello world".to_vec()));

    let mut wrong = blobs.stage().unwrap();
    wrong.write(b"other").unwrap();
    let refused = blobs.batch().add(wrong, Some(digest));
    assert!(matches!(refused, Err(StoreError::Hash { .. })));
    // The folder of this process goes with the last who may write into it.
    drop(blobs);
    let staging = std::fs::read_dir(dir.path().join("blobs/staging")).unwrap().count();
    assert_eq!(staging, 0, "what was refused leaves nothing behind");
}

#[tokio::test]
async fn a_database_of_a_newer_program_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    drop(Store::open(dir.path(), true).await.unwrap());
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(Store::database_path(dir.path()));
    let pool = sqlx::sqlite::SqlitePool::connect_with(options).await.unwrap();
    sqlx::raw_sql("pragma user_version = 99").execute(&pool).await.unwrap();
    pool.close().await;
    assert!(matches!(Store::open(dir.path(), false).await, Err(StoreError::Newer { found: 99, known: 3 })));
}

#[test]
fn a_lease_is_held_by_one_who_is_named_and_ends_with_its_holder() {
    use airlock_store::{Lease, Leased};
    let dir = tempfile::tempdir().unwrap();
    let Leased::Ours(lease) = Lease::take(dir.path(), "channel/main", "sync of ada").unwrap() else {
        panic!()
    };
    let Leased::Held(holder) = Lease::take(dir.path(), "channel/main", "sync of bob").unwrap() else {
        panic!()
    };
    assert_eq!(holder, "sync of ada");
    assert!(matches!(Lease::take(dir.path(), "channel/other", "sync of bob").unwrap(), Leased::Ours(_)));
    drop(lease);
    assert!(matches!(Lease::take(dir.path(), "channel/main", "sync of bob").unwrap(), Leased::Ours(_)));
}
