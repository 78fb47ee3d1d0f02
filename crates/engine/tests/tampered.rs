//! What somebody changes by hand in the database is found and named.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use airlock_core::decision::{Decisions, Ruling, Scope};
use airlock_core::ecosystem::Ecosystem;
use airlock_core::id::Id;
use airlock_core::policy::PolicyText;
use airlock_core::roles::{Grant, Role};
use airlock_core::snapshot::Snapshot;
use airlock_core::time::Span;
use airlock_core::verdict::{Judgement, Verdict};
use airlock_engine::bundle::export::{self, What};
use airlock_engine::error::{Error, Kind};
use airlock_engine::{decide, judge, ledger, people, policy, replay, tree_edit};
use airlock_testkit::tamper::{point, put_under, tamper};
use airlock_testkit::{Kit, conda, osv};
use serde_json::json;

/// A station with two decisions, of which the second lifts what denies a package.
async fn world() -> Kit {
    let mut kit = Kit::new(&[osv("PYSEC-1", "PyPI", "idna", "4", 9.0)]).await;
    kit.identify(&json!({"idna": "idna"})).await;
    let mut source = kit.conda_source("source");
    source.add(&conda("idna", "3.6"), &json!({}));
    source.add(&conda("other", "1.0"), &json!({}));
    source.write();
    kit.add_channel("main", Ecosystem::Conda, source.path(), &[]).await;
    kit.sync("main").await;
    kit.block("main", "other").await;
    kit.judge("main").await;
    let until = kit.now().await.after(Span::days(10));
    let advisory = Some("PYSEC-1".to_owned());
    let waive = Ruling::Waive { rule: "cvss-above-7".to_owned(), scope: Scope::of("main", "idna"), advisory };
    decide::decide(&kit.station, waive, "we know", Some(until)).await.unwrap();
    kit.sync("main").await;
    kit.pass(Span::days(1));
    kit
}

async fn newest(kit: &Kit) -> Id<Snapshot> {
    Id::new(kit.station.store.db.find_ref("channel/main/snapshot").await.unwrap().unwrap())
}

async fn verified(kit: &Kit) -> Result<ledger::Checked, Error> {
    ledger::verify(&kit.station, &[]).await
}

/// What is said of the ledger, after somebody ran this on the database.
async fn said(statement: &str) -> String {
    let kit = world().await;
    verified(&kit).await.unwrap();
    tamper(&kit.station, statement).await;
    let error = verified(&kit).await.expect_err(statement);
    assert_eq!(error.kind, Kind::No, "{error}");
    error.message
}

#[tokio::test]
async fn an_edit_a_gap_an_insertion_a_reorder_and_a_cut_tail_are_each_named() {
    for (statement, told) in [
        ("update ledger set actor = 'eve' where number = 3", "entry 3 was changed"),
        (
            "update ledger set detail = replace(detail, 'main', 'mine') where action = 'channel.add'",
            "was changed",
        ),
        ("update ledger set time = time - 3600 where number = 2", "entry 2 was changed"),
        ("update ledger set hash = zeroblob(32) where number = 4", "entry 4 was changed"),
        ("delete from ledger where number = 3", "entry 3 is missing"),
        ("delete from ledger where number = (select max(number) from ledger)", "is known to have existed"),
        ("delete from ledger where number > 4", "is known to have existed"),
        (
            "update ledger set number = -1 where number = 3; update ledger set number = 3 where number = 4; update ledger set number = 4 where number = -1",
            "was changed",
        ),
        (
            "update ledger set number = number + 1000 where number > 3; update ledger set number = number - 999 where number > 1000; insert into ledger select 4, time, actor, action, subject, detail, previous, hash from ledger where number = 3",
            "was changed",
        ),
    ] {
        let found = said(statement).await;
        assert!(found.contains(told), "{statement}: {found}");
    }
}

#[tokio::test]
async fn a_past_that_was_written_anew_is_found_by_what_was_carried_away() {
    let kit = world().await;
    let disk = kit.path().join("disk");
    export::export(&kit.station, &disk, &What::default()).await.unwrap();
    ledger::verify(&kit.station, std::slice::from_ref(&disk)).await.unwrap();
    // Somebody changes the last entry before the export and computes everything behind it anew.
    let db = &kit.station.store.db;
    let mut entries: Vec<_> = db.ledger(1, 1000).await.unwrap().into_iter().map(|(entry, _)| entry).collect();
    let at = entries.iter().position(|e| e.action == "bundle.export").unwrap() - 1;
    entries[at].actor = "eve".to_owned();
    for place in at..entries.len() {
        entries[place].previous = match place {
            0 => airlock_core::ledger::GENESIS,
            _ => entries[place - 1].hash().unwrap(),
        };
        let entry = &entries[place];
        let statement = format!(
            "update ledger set actor = '{}', previous = x'{}', hash = x'{}' where number = {}",
            entry.actor,
            entry.previous,
            entry.hash().unwrap(),
            entry.number
        );
        tamper(&kit.station, &statement).await;
    }
    let error = verified(&kit).await.unwrap_err().message;
    assert!(error.contains("checkpoint") && error.contains("is not the one that was known"), "{error}");
    // What happens next does not vouch for it.
    kit.block("main", "idna").await;
    let error = verified(&kit).await.unwrap_err().message;
    assert!(error.contains("checkpoint") && error.contains("is not the one that was known"), "{error}");
    // Without the checkpoint, and with nothing that the station itself remembers, the disk still tells.
    std::fs::remove_file(kit.station.dir.join(ledger::CHECKPOINT)).unwrap();
    tamper(&kit.station, "delete from ref where name like 'export/%'").await;
    assert!(verified(&kit).await.unwrap_err().message.contains("ledger.checkpoint is missing"));
    kit.block("main", "app").await;
    assert!(
        verified(&kit).await.unwrap_err().message.contains("ledger.checkpoint is missing"),
        "nor without it"
    );
    let error = ledger::verify(&kit.station, &[disk]).await.unwrap_err().message;
    assert!(error.contains("is not the one that was known before"), "{error}");
    // A checkpoint that somebody else wrote is none.
    std::fs::write(kit.station.dir.join(ledger::CHECKPOINT), "{}").unwrap();
    assert!(
        verified(&kit).await.unwrap_err().message.contains("is not a checkpoint that this station signed")
    );
}

#[tokio::test]
async fn a_decision_that_was_changed_is_named_by_the_ledger_and_by_replaying() {
    // Under its name.
    let kit = world().await;
    let (id, held) = judge::decisions(&kit.station).await.unwrap();
    let mut other: Decisions = held.clone();
    other.list[1].reason = "nobody knows".to_owned();
    put_under(&kit.station, id, &other).await;
    assert!(verified(&kit).await.unwrap_err().message.contains("the decisions were changed"));
    let replayed = replay::replay(&kit.station, "main", newest(&kit).await).await.unwrap();
    assert!(!replayed.equal && replayed.differences[0].contains(&id.digest().short()), "{replayed:?}");
    // As another object, to which the ref points without a word in the ledger.
    for change in [
        |list: &mut Decisions| list.list[1].author = "eve".to_owned(),
        |list: &mut Decisions| drop(list.list.pop()),
        |list: &mut Decisions| list.list.push(list.list[0].clone()),
    ] {
        let kit = world().await;
        let (_, mut other) = judge::decisions(&kit.station).await.unwrap();
        change(&mut other);
        let id = kit.station.store.db.put(&other).await.unwrap();
        point(&kit.station, "decisions", id.digest()).await;
        let error = verified(&kit).await.unwrap_err().message;
        assert!(error.contains("decision"), "{error}");
    }
}

#[tokio::test]
async fn a_policy_or_a_snapshot_that_nobody_set_is_named() {
    let kit = world().await;
    let mild = "[policy]\nname = \"p\"\n[[rule]]\nname = \"r\"\naction = \"warn\"\nwhen = { kev = true }\n";
    policy::read(mild).unwrap();
    let id = kit.station.store.db.put(&PolicyText { text: mild.to_owned() }).await.unwrap();
    point(&kit.station, "policy/default", id.digest()).await;
    let error = verified(&kit).await.unwrap_err().message;
    assert!(error.contains("policy/default") && error.contains("entry 1 says"), "{error}");

    let kit = world().await;
    let newest = newest(&kit).await;
    let before: Snapshot = kit.station.store.db.get(newest).await.unwrap();
    point(&kit.station, "channel/main/snapshot", before.inputs.previous.unwrap().digest()).await;
    assert!(verified(&kit).await.unwrap_err().message.contains("channel/main/snapshot"));
}

#[tokio::test]
async fn a_snapshot_that_is_what_its_inputs_give_is_equal_and_one_that_is_not_says_where() {
    let kit = world().await;
    let id = newest(&kit).await;
    let db = &kit.station.store.db;
    let mut at = Some(id);
    let mut replayed = 0;
    while let Some(one) = at {
        let found = replay::replay(&kit.station, "main", one).await.unwrap();
        assert!(found.equal, "{found:?}");
        replayed += 1;
        at = db.get(one).await.unwrap().inputs.previous;
    }
    assert!(replayed >= 3, "all that were published: {replayed}");
    // Somebody puts another judgement, or nothing, under the name of one that is published.
    let snapshot: Snapshot = db.get(id).await.unwrap();
    let held = tree_edit::find_many(db, snapshot.judgement, ["noarch/other"]).await.unwrap()["noarch/other"];
    let good: Judgement = db.get(held).await.unwrap();
    let mut milder = good.clone();
    milder.artifacts.values_mut().for_each(|judged| judged.verdict = Verdict::Admit);
    put_under(&kit.station, held, &milder).await;
    let found = replay::replay(&kit.station, "main", id).await.unwrap();
    assert!(!found.equal && found.differences[0].contains(&held.digest().short()), "{found:?}");
    put_under(&kit.station, held, &good).await;
    assert!(replay::replay(&kit.station, "main", id).await.unwrap().equal);
    // Somebody publishes what was denied: a snapshot whose judgement is not what its inputs give.
    let snapshot: Snapshot = db.get(id).await.unwrap();
    let held = tree_edit::find_many(db, snapshot.judgement, ["noarch/other"]).await.unwrap();
    let mut forged: Judgement = db.get(held["noarch/other"]).await.unwrap();
    for judged in forged.artifacts.values_mut() {
        assert_eq!(judged.verdict, Verdict::Deny);
        judged.verdict = Verdict::Admit;
    }
    let judgement = db.put(&forged).await.unwrap();
    let edits = [("noarch/other".to_owned(), Some(judgement))].into();
    let judgement = tree_edit::edit(db, Some(snapshot.judgement), &edits).await.unwrap();
    let forged = db.put(&Snapshot { judgement, ..snapshot }).await.unwrap();
    let found = replay::replay(&kit.station, "main", forged).await.unwrap();
    let told = found.differences.join("\n");
    assert!(!found.equal && told.contains("the snapshot says admitted, its inputs give denied"), "{told}");
}

#[tokio::test]
async fn users_that_somebody_gave_a_role_by_hand_are_believed_by_nobody() {
    let kit = world().await;
    people::add(&kit.station, "ada", Vec::new()).await.unwrap();
    let (_, token) = people::add_token(&kit.station, "ada", None).await.unwrap();
    verified(&kit).await.unwrap();
    let held = people::read(&kit.station).await.unwrap();
    let mut forged = held.clone();
    let grant = Grant { role: Role::SecurityOfficer, channels: Vec::new() };
    forged.users.get_mut("ada").unwrap().grants.push(grant);
    // Under its name.
    let id = kit.station.store.db.find_ref(people::REF).await.unwrap().unwrap();
    put_under(&kit.station, Id::new(id), &forged).await;
    let error = verified(&kit).await.unwrap_err();
    assert!(error.message.contains("the users were changed"), "{error}");
    let error = people::login(&kit.station, "ada", &token).await.unwrap_err();
    assert!(error.message.contains("the users were changed"), "{error}");
    // As another object, to which the ref points.
    put_under(&kit.station, Id::new(id), &held).await;
    verified(&kit).await.unwrap();
    let other = kit.station.store.db.put(&forged).await.unwrap();
    point(&kit.station, people::REF, other.digest()).await;
    let error = verified(&kit).await.unwrap_err();
    assert!(error.message.starts_with("people is "), "{error}");
}
