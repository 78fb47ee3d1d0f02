//! What needs two persons: each act is done when another one confirms it, as it was proposed, and not before.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use airlock_core::advisory::FeedKind;
use airlock_core::channel::{Channel, ChannelFeed};
use airlock_core::decision::{Ruling, Scope, Terms};
use airlock_core::ecosystem::Ecosystem;
use airlock_core::roles::{Action, Grant, Role};
use airlock_core::time::Span;
use airlock_engine::error::{Error, Kind, Result};
use airlock_engine::feeds::{Accepted, Loosening, Reading};
use airlock_engine::people::Login;
use airlock_engine::proposals::{self, Act, PROPOSABLE, Proposal};
use airlock_engine::station::Station;
use airlock_engine::trust::{Limits, Whom};
use airlock_engine::{channel, decide, feeds, history, people, policy, trust};
use airlock_testkit::{Kit, conda, osv};
use serde_json::{Value, json};

const NO_X: &str =
    "[policy]\nname = \"p\"\n[[rule]]\nname = \"no-x\"\naction = \"deny\"\nwhen = { name = [\"x\"] }\n";
const NOTHING: &str =
    "[policy]\nname = \"p\"\n[[rule]]\nname = \"w\"\naction = \"warn\"\nwhen = { name = [\"x\"] }\n";

/// A channel `main` of `x`, and two people who may do everything there is, so that nothing but the other is missing.
async fn house() -> Kit {
    let kit = Kit::new(&[]).await;
    let mut source = kit.conda_source("source");
    source.add(&conda("x", "1.0"), &json!({}));
    source.write();
    kit.add_channel("main", Ecosystem::Conda, source.path(), &[]).await;
    policy::set(&kit.station, "default", NO_X).await.unwrap();
    policy::set(&kit.station, "lax", NOTHING).await.unwrap();
    kit.sync("main").await;
    for name in ["olga", "oskar"] {
        let all = Role::ALL.map(|role| Grant { role, channels: Vec::new() });
        people::add(&kit.station, name, all.into()).await.unwrap();
    }
    kit
}

/// The station as somebody uses it where everything needs two that can.
fn by(kit: &Kit, name: &str) -> Station {
    let mut station = kit.station.clone();
    station.login = Some(Login { name: name.to_owned() });
    station.config.people.two_person = PROPOSABLE.map(|action| action.name().to_owned()).into();
    station
}

/// Who did what since an entry of the ledger.
async fn done(kit: &Kit, since: u64) -> Vec<(String, String)> {
    let entries = kit.station.store.db.ledger(since + 1, 1000).await.unwrap();
    entries.into_iter().map(|(entry, _)| (entry.action, entry.actor)).collect()
}

async fn head(kit: &Kit) -> u64 {
    kit.station.store.db.ledger_head().await.unwrap().number
}

fn waits(refused: &Error) {
    assert_eq!(refused.kind, Kind::No, "{refused}");
    assert!(refused.message.contains("waits for a second person"), "{refused}");
}

/// The one proposal.
async fn only(kit: &Kit) -> Proposal {
    let mut all = proposals::list(&kit.station).await.unwrap();
    assert_eq!(all.len(), 1, "{all:?}");
    all.remove(0)
}

/// Olga does it, which only proposes it, and Oskar confirms it, which does it. It is told as people are to see it.
async fn by_two(kit: &Kit, action: &str, told: &str, act: impl AsyncFn(Station) -> Result<()>) {
    let since = head(kit).await;
    waits(&act(by(kit, "olga")).await.unwrap_err());
    let proposal = only(kit).await;
    assert!(proposal.act.told().contains(told), "{}", proposal.act.told());
    assert!(done(kit, since).await.iter().all(|(done, _)| done != action), "{action} was done at once");
    // Whoever confirms does what was proposed, and opens nothing of their own.
    proposals::confirm(&by(kit, "oskar"), &proposal.id).await.unwrap_or_else(|e| panic!("{action}: {e}"));
    assert_eq!(proposals::list(&kit.station).await.unwrap(), []);
    let entries = done(kit, since).await;
    let entry = entries.iter().find(|(done, _)| done == action).unwrap_or_else(|| panic!("{entries:?}"));
    assert_eq!(entry.1, "olga (token), confirmed by oskar (token, as tester)", "{action}");
}

fn records(many: usize) -> Vec<u8> {
    let one = |n| osv(&format!("BIG-{n}"), "PyPI", &format!("big{n}"), "1", 5.0).to_string() + "\n";
    (0..many).map(one).collect::<String>().into_bytes()
}

async fn feed(kit: &Kit, kind: FeedKind, path: &str, bytes: &[u8]) -> String {
    let path = kit.write(path, bytes).display().to_string();
    let name = feeds::add(&kit.station, kind, &path).await.unwrap();
    feeds::update(&kit.station, std::slice::from_ref(&name)).await.unwrap();
    name
}

fn statement() -> Value {
    json!({"@context": "https://openvex.dev/ns/v0.2.0", "@id": "v1", "author": "v", "version": 1,
        "timestamp": "2026-01-01T00:00:00Z", "statements": [{"vulnerability": {"name": "CVE-2026-1"},
        "products": [{"@id": "pkg:conda/x"}], "status": "fixed"}]})
}

fn terms(kit_now: airlock_core::time::Time) -> Terms {
    Terms { reason: "r".to_owned(), expires: Some(kit_now.after(Span::days(30))), ..Terms::default() }
}

#[tokio::test]
async fn every_ruling_that_lifts_something_is_done_by_two_as_it_was_proposed() {
    let kit = house().await;
    let vex = feed(&kit, FeedKind::Vex, "vendor/v.json", statement().to_string().as_bytes()).await;
    let now = kit.now().await;
    let scope = || Scope::of("main", "x");
    let waive = || Ruling::Waive { rule: "no-x".to_owned(), scope: scope(), advisory: None };
    let believe = || Ruling::Statements { scope: scope(), source: vex.clone() };
    let nothing = || Ruling::Identity { scope: scope(), mappings: Vec::new() };
    for (ruling, told) in [
        (waive(), "waive no-x for x in main, until 2026-03-31: r".to_owned()),
        (believe(), format!("what {vex} states counts for x in main, until 2026-03-31: r")),
        (nothing(), "no advisory can concern x in main, until 2026-03-31: r".to_owned()),
    ] {
        let act = async |s: Station| decide::decide_on(&s, ruling.clone(), terms(now)).await.map(|_| ());
        by_two(&kit, "decision.add", &told, act).await;
    }
    // What denies waits for nobody; lifting it does.
    let main = channel::find(&kit.station, "main").await.unwrap();
    let (block, _) = decide::block(&by(&kit, "olga"), &main, "x", "r").await.unwrap();
    let lift = Ruling::Revoke { decision: block.id.clone() };
    let act = async |s: Station| decide::decide(&s, lift.clone(), "r", None).await.map(|_| ());
    by_two(&kit, "decision.add", &format!("revoke {}: r", block.id), act).await;
}

#[tokio::test]
async fn every_other_act_is_done_by_two_as_it_was_proposed() {
    let kit = house().await;
    let first = kit.view().channel("main").await.unwrap().unwrap().id;
    let mut source = kit.conda_source("source");
    source.add(&conda("y", "1.0"), &json!({}));
    source.write();
    kit.sync("main").await;
    feeds::set_loosening(&kit.station, "osv", Loosening::Ask).await.unwrap();
    let (extra, big) = (
        feed(&kit, FeedKind::Osv, "extra.jsonl", &records(1)).await,
        feed(&kit, FeedKind::Osv, "big.jsonl", &records(120)).await,
    );
    kit.know(&[osv("PYSEC-1", "PyPI", "y", "2", 9.0)]).await;
    kit.know(&[]).await;
    kit.write("big.jsonl", &records(20));

    let set = async |s: Station| policy::set(&s, "lax", NO_X).await.map(|_| ());
    by_two(&kit, "policy.set", "set policy lax", set).await;
    let put = async |s: Station| channel::set_policy(&s, "main", "lax").await.map(|_| ());
    by_two(&kit, "channel.set", "put main under policy lax", put).await;
    let accept = async |s: Station| feeds::accept(&s, &Accepted::default(), "r").await.map(|_| ());
    by_two(&kit, "advisories.accept", "all in osv: r", accept).await;
    let loosen = async |s: Station| feeds::set_loosening(&s, "osv", Loosening::Accept).await;
    by_two(&kit, "feed.set", "in feed osv act by itself", loosen).await;
    let remove = async |s: Station| feeds::remove(&s, &extra, "r").await;
    by_two(&kit, "feed.remove", &format!("remove feed {extra}: r"), remove).await;
    let believe = async |s: Station| {
        let how = Reading { accept_shrink: true, ..Reading::default() };
        let updated = feeds::update_with(&s, std::slice::from_ref(&big), how).await?;
        updated.failed.map_or(Ok(()), Err)
    };
    by_two(&kit, "feed.read", &format!("believe feed {big} that shrank"), believe).await;
    let back = async |s: Station| {
        let main = channel::find(&s, "main").await?;
        history::rollback(&s, &main, first, "r", false).await.map(|_| ())
    };
    by_two(&kit, "channel.publish", "take main back to", back).await;
    let key = &kit.station.key;
    let limits = Limits {
        stream: Some("s-to-all".to_owned()),
        channels: vec!["main".to_owned()],
        ..Limits::default()
    };
    let trust = async |s: Station| {
        trust::add(&s, "low", key.public(), &key.fingerprint(), limits.clone()).await.map(|_| ())
    };
    by_two(&kit, "trust.add", "for s-to-all and main", trust).await;
    let link = async |s: Station| {
        let whom = Whom::Link(key.public());
        trust::add(&s, "link", whom, &key.fingerprint(), Limits::default()).await.map(|_| ())
    };
    by_two(&kit, "trust.add", "believe the packets of link on a one-way link", link).await;
    let held = trust::list(&kit.station).await.unwrap();
    assert_eq!(held.iter().map(trust::Trust::is_link_only).collect::<Vec<_>>(), [true, false]);
}

#[tokio::test]
async fn what_was_proposed_for_another_state_is_not_done() {
    let kit = house().await;
    let vex = feed(&kit, FeedKind::Vex, "vendor/v.json", statement().to_string().as_bytes()).await;
    let ruling = Ruling::Statements { scope: Scope::of("main", "x"), source: vex.clone() };
    waits(&decide::decide(&by(&kit, "olga"), ruling, "r", None).await.unwrap_err());
    // Another feed comes to stand under the name.
    feeds::remove(&kit.station, &vex, "r").await.unwrap();
    let other = feed(&kit, FeedKind::Vex, "elsewhere/v.json", statement().to_string().as_bytes()).await;
    assert_eq!(other, vex);
    let proposal = only(&kit).await.id;
    let refused = proposals::confirm(&by(&kit, "oskar"), &proposal).await.unwrap_err();
    assert!(refused.message.contains(&format!("feed/{vex}/def is another")), "{refused}");
    proposals::withdraw(&by(&kit, "olga"), &proposal).await.unwrap();

    // A policy comes to rule a channel that it did not.
    waits(&policy::set(&by(&kit, "olga"), "lax", NO_X).await.unwrap_err());
    channel::set_policy(&kit.station, "main", "lax").await.unwrap();
    let proposal = only(&kit).await.id;
    let refused = proposals::confirm(&by(&kit, "oskar"), &proposal).await.unwrap_err();
    assert!(refused.message.contains("channel/main/def is another"), "{refused}");
    proposals::withdraw(&by(&kit, "olga"), &proposal).await.unwrap();

    // More of a feed waits than did.
    feeds::set_loosening(&kit.station, "osv", Loosening::Ask).await.unwrap();
    let known = [osv("PYSEC-1", "PyPI", "y", "2", 9.0), osv("PYSEC-2", "PyPI", "z", "2", 9.0)];
    kit.know(&known).await;
    kit.know(&known[1..]).await;
    waits(&feeds::accept(&by(&kit, "olga"), &Accepted::default(), "r").await.unwrap_err());
    kit.know(&[]).await;
    let proposal = only(&kit).await.id;
    let refused = proposals::confirm(&by(&kit, "oskar"), &proposal).await.unwrap_err();
    assert!(refused.message.contains("feed/osv/kept is another"), "{refused}");
}

#[tokio::test]
async fn what_became_another_act_is_neither_done_nor_proposed_by_whoever_confirms() {
    let kit = house().await;
    let big = feed(&kit, FeedKind::Osv, "big.jsonl", &records(120)).await;
    let how = Reading { accept_shrink: true, ..Reading::default() };
    for broken in [None, Some("in need".to_owned())] {
        kit.write("big.jsonl", &records(20));
        let updated = feeds::update_with(&by(&kit, "olga"), std::slice::from_ref(&big), how).await.unwrap();
        waits(&updated.failed.unwrap());
        let Proposal { id, act, .. } = only(&kit).await;
        assert!(matches!(&act, Act::Shrink { feed, .. } if *feed == big));
        // The source says something else meanwhile.
        kit.write("big.jsonl", &records(10));
        let confirming = Station { break_glass: broken, ..by(&kit, "oskar") };
        let refused = proposals::confirm(&confirming, &id).await.unwrap_err();
        assert!(refused.message.contains("is not what was confirmed"), "{refused}");
        assert_eq!(proposals::list(&kit.station).await.unwrap(), []);
        assert_eq!(feeds::heads(&kit.station).await.unwrap()[&big].count, 120);
    }
}

#[tokio::test]
async fn a_new_channel_comes_under_no_policy_that_needs_two_persons() {
    let kit = house().await;
    let source = kit.path().join("source").display().to_string();
    let feed = ChannelFeed::Source { location: source, subdirs: vec![], only: vec![], exclude: vec![] };
    let new = |policy: &str| Channel {
        name: "new".to_owned(),
        ecosystem: Ecosystem::Conda,
        feed: feed.clone(),
        policy: policy.to_owned(),
    };
    let refused = channel::add(&by(&kit, "olga"), new("lax")).await.unwrap_err();
    assert!(refused.message.contains("needs two persons"), "{refused}");
    assert!(refused.hint.unwrap().contains("airlock channel set new --policy lax"));
    channel::add(&by(&kit, "olga"), new("default")).await.unwrap();
}

#[tokio::test]
async fn what_has_ended_goes_with_the_next_proposal_and_what_was_done_alone_stays() {
    let mut kit = house().await;
    let alone = Station { break_glass: Some("in need".to_owned()), ..by(&kit, "olga") };
    policy::set(&alone, "lax", NO_X).await.unwrap();
    waits(&policy::set(&by(&kit, "olga"), "default", NOTHING).await.unwrap_err());
    let (broken, all) =
        (proposals::broken(&kit.station).await.unwrap(), proposals::list(&kit.station).await.unwrap());
    assert_eq!((broken.len(), all.len()), (1, 2));
    kit.pass(Span::days(proposals::WAITS_DAYS));
    waits(&policy::set(&by(&kit, "olga"), "third", NO_X).await.unwrap_err());
    let told: Vec<String> =
        proposals::list(&kit.station).await.unwrap().iter().map(|p| p.act.told()).collect();
    assert_eq!(told, ["set policy lax", "set policy third"]);
    assert_eq!(proposals::broken(&kit.station).await.unwrap(), broken);
}

#[tokio::test]
async fn the_name_of_a_token_is_never_given_again() {
    let kit = house().await;
    let (first, _) = people::add_token(&kit.station, "olga", None).await.unwrap();
    people::remove(&kit.station, "olga").await.unwrap();
    people::add(&kit.station, "olga", Vec::new()).await.unwrap();
    let (second, _) = people::add_token(&kit.station, "olga", None).await.unwrap();
    assert_eq!((first.as_str(), second.as_str()), ("t1", "t2"));
    let refused = people::allow(&by(&kit, "olga"), Action::Waive, None).await.unwrap_err();
    assert_eq!(refused.kind, Kind::No);
}
