//! What a reviewer is told of what waits: who asked for it, what depends on it, what changed since the last that was admitted.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use airlock_core::channel::{Channel, ChannelFeed};
use airlock_core::closure::Dependents;
use airlock_core::compare::{Changed, Step, Unknown};
use airlock_core::ecosystem::Ecosystem;
use airlock_core::request::State;
use airlock_core::request::paper::{Asked, Paper};
use airlock_core::spec::Spec;
use airlock_engine::review::{self, Held, Shown};
use airlock_engine::{channel, policy, request};
use airlock_formats::make::{CondaPackage, Wheel};
use airlock_testkit::{Kit, NOW, conda, sdist, wheel};
use serde_json::json;

const LOOK: &str = r#"
[policy]
name = "look"
[[rule]]
name = "look"
action = "hold"
when = { any = [{ all = [{ name = ["lib"] }, { version = ">=2" }] }, { name = ["new"] }] }
"#;

/// A library of which one version is admitted and the next is held; what needs the new one, any, and the old one; something
/// that is held itself and needs the new one.
async fn world() -> Kit {
    let kit = Kit::new(&[]).await;
    policy::set(&kit.station, "default", LOOK).await.unwrap();
    let mut source = kit.conda_source("conda");
    let mut index = kit.pypi_source("pypi");
    source.add(
        &CondaPackage { depends: &["six", "zlib >=1"], ..conda("lib", "1.0") },
        &json!({"license": "MIT"}),
    );
    let new = CondaPackage { depends: &["six >=1.16", "curl"], ..conda("lib", "2.0") };
    source.add(&new, &json!({"license": "GPL-3.0-only"}));
    index.add_wheel(&wheel("lib", "1.0"), &json!({}));
    index.add_wheel(&wheel("lib", "2.0"), &json!({}));
    index.add_sdist(&sdist("lib", "2.1"), &json!({"requires-python": ">=3.12"}));
    let needs: [(&str, &[&str], &[&str]); 5] = [
        ("tool", &["LIB >=2"], &["Lib>=2"]),
        ("any", &["lib"], &["lib"]),
        ("old", &["lib <2"], &["lib<2"]),
        ("new", &["lib 2.*"], &["lib==2.*"]),
        ("library", &["libs"], &["libs"]),
    ];
    for (name, depends, requires_dist) in needs {
        source.add(&CondaPackage { depends, ..conda(name, "1.0") }, &json!({}));
        index.add_wheel(&Wheel { requires_dist, ..wheel(name, "1.0") }, &json!({}));
    }
    source.write();
    index.write();
    kit.add_channel("main", Ecosystem::Conda, source.path(), &[]).await;
    kit.add_channel("py", Ecosystem::Pypi, index.path(), &[]).await;
    for name in ["main", "py"] {
        kit.sync(name).await;
    }
    kit
}

/// A peer asks for these, in their order.
async fn ask(kit: &Kit, all: &[(&str, Ecosystem, &str)]) {
    let peer = Kit::new(&[]).await;
    let one = |(at, (channel, ecosystem, spec)): (usize, &(&str, Ecosystem, &str))| {
        let asked = Asked {
            id: format!("r{}", at + 1),
            ecosystem: *ecosystem,
            channel: (*channel).to_owned(),
            spec: (*spec).to_owned(),
            asked: format!("2026-02-0{}T00:00:00Z", at + 1).parse().unwrap(),
            by: Some("eve".to_owned()),
            reason: format!("why {at}"),
        };
        let signature = peer.station.key.sign(asked.to_string().as_bytes()).signature;
        (asked, signature)
    };
    let key = peer.station.key.public();
    let lines: Vec<_> = all.iter().enumerate().map(one).collect();
    let file = kit.write("requests.txt", Paper::write(&key, &lines).as_bytes());
    request::import(&kit.station, &file, Some((key, "high".to_owned()))).await.unwrap();
}

async fn show(kit: &Kit, name: &str, what: &str) -> Result<Vec<Shown>, String> {
    let view = kit.view();
    let channel = view.channel(name).await.unwrap().unwrap();
    review::show(&view, &channel, what).await.map_err(|e| e.to_string())
}

async fn queue(kit: &Kit, name: &str) -> Vec<Held> {
    let view = kit.view();
    let channel = view.channel(name).await.unwrap().unwrap();
    let all = Spec::parse(channel.channel.ecosystem, "*").unwrap();
    review::queue(&view, &channel, &all).await.unwrap()
}

/// Who requires, what, whether it is offered, and whether nothing else would do.
type Named<'a> = (&'a str, &'a str, bool, bool);

/// Counts of what is offered and held, each with how many have nothing else; and the first by name.
fn told(all: &Dependents) -> ([u64; 5], Vec<Named<'_>>) {
    let first = all.first.iter().map(|one| (&*one.name, &*one.requires, one.offered, one.only_this));
    let counts = [all.offered, all.offered_only_this, all.held, all.held_only_this, all.untold];
    (counts, first.collect())
}

#[tokio::test]
async fn a_reviewer_is_told_who_asked_what_depends_on_it_and_what_changed() {
    let kit = world().await;
    let asked = ["lib<2", "lib>=2", "lib", "tool"].map(|spec| ("main", Ecosystem::Conda, spec));
    let elsewhere = [("py", Ecosystem::Pypi, "lib"), ("gone", Ecosystem::Conda, "lib")];
    ask(&kit, &[&asked[..], &elsewhere].concat()).await;
    let shown = show(&kit, "main", "lib").await.unwrap();
    let [one] = shown.as_slice() else { panic!("{shown:?}") };
    assert_eq!((one.held.version.as_str(), one.held.artifacts.len()), ("2.0", 1));

    let requests: Vec<_> = one
        .held
        .requests
        .iter()
        .map(|r| (r.id.as_str(), r.from.as_deref(), r.by.as_deref(), r.spec.as_str(), r.reason.as_str()))
        .collect();
    let of = |id, spec, reason| (id, Some("high"), Some("eve"), spec, reason);
    assert_eq!(requests, [of("r3", "lib", "why 2"), of("r2", "lib>=2", "why 1")], "the newest first");
    assert_eq!(
        (one.held.requests[0].state, one.held.requests[0].asked < NOW.parse().unwrap()),
        (State::Open, true)
    );

    let dependents = (
        [2, 1, 1, 1, 0],
        vec![("tool", "LIB >=2", true, true), ("new", "lib 2.*", false, true), ("any", "lib", true, false)],
    );
    assert_eq!(told(&one.held.dependents), dependents);

    let [since] = one.since.as_slice() else { panic!("{:?}", one.since) };
    assert!(since.artifact.starts_with("noarch/lib-2.0-") && since.admitted.starts_with("noarch/lib-1.0-"));
    assert_eq!((since.version.as_str(), since.is_above, one.since_left_out), ("1.0", false, 0));
    let changed = |name: &str, from: Option<&str>, to: Option<&str>| Changed {
        name: name.to_owned(),
        from: from.map(str::to_owned),
        to: to.map(str::to_owned),
    };
    assert_eq!(
        since.changes.dependencies,
        [
            changed("curl", None, Some("curl")),
            changed("six", Some("six"), Some("six >=1.16")),
            changed("zlib", Some("zlib >=1"), None),
        ]
    );
    let licence = Step { from: Some("MIT".to_owned()), to: Some("GPL-3.0-only".to_owned()) };
    assert_eq!(since.changes.licence, Some(licence));

    // The queue says the same but for what changed, of all that waits.
    let all = queue(&kit, "main").await;
    assert_eq!(all.iter().map(|held| held.name.as_str()).collect::<Vec<_>>(), ["lib", "new"]);
    assert_eq!(all[0], one.held);
    assert_eq!((&all[1].requests, told(&all[1].dependents)), (&vec![], ([0; 5], vec![])));
    // One file alone is told by its name, or by where it lies.
    let file = one.held.artifacts.first().unwrap().clone();
    for what in [file.as_str(), file.rsplit('/').next().unwrap(), "lib==2.0"] {
        assert_eq!(show(&kit, "main", what).await.as_ref(), Ok(&shown), "{what}");
    }
    let refused = show(&kit, "main", "noarch/lib-1.0-0.conda").await.unwrap_err();
    assert!(refused.contains("nothing of `noarch/lib-1.0-0.conda` in channel `main` waits"), "{refused}");
    assert!(show(&kit, "main", "li*").await.unwrap_err().contains("means several packages"));

    // What is blocked depends on nothing any more, and replaces nothing.
    kit.block("main", "tool").await;
    kit.block("main", "lib==1.0").await;
    let shown = show(&kit, "main", "lib").await.unwrap();
    let without = ([1, 1, 1, 1, 0], vec![("any", "lib", true, true), ("new", "lib 2.*", false, true)]);
    assert_eq!(told(&shown[0].held.dependents), without);
    assert!(shown[0].since.is_empty(), "nothing is admitted with which it could be compared");
}

#[tokio::test]
async fn of_wheels_it_is_told_as_far_as_they_were_opened() {
    let kit = world().await;
    let shown = show(&kit, "py", "lib==2.0").await.unwrap();
    let [one] = shown.as_slice() else { panic!("{shown:?}") };
    // What is held was never opened.
    let dependents = ([2, 1, 0, 0, 0], vec![("tool", "Lib>=2", true, true), ("any", "lib", true, false)]);
    assert_eq!(told(&one.held.dependents), dependents);
    assert_eq!(one.since[0].admitted, "lib-1.0-py3-none-any.whl");
    assert_eq!(one.since[0].changes.unknown, [Unknown::Dependencies, Unknown::Licence]);
    assert_eq!(one.since[0].changes.kind, None);
    let shown = show(&kit, "py", "lib-2.1.tar.gz").await.unwrap();
    let changes = &shown[0].since[0].changes;
    assert_eq!(changes.kind, Some(Step { from: Some("wheel"), to: Some("sdist") }));
    assert_eq!(
        (&*changes.record[0].name, changes.record[0].to.as_deref()),
        ("requires-python", Some(">=3.12"))
    );
}

#[tokio::test]
async fn what_is_asked_of_a_channel_is_asked_of_what_lies_in_it() {
    let kit = world().await;
    let open =
        "[policy]\nname = \"open\"\n[[rule]]\nname = \"r\"\naction = \"warn\"\nwhen = { yanked = true }\n";
    policy::set(&kit.station, "default", open).await.unwrap();
    policy::set(&kit.station, "look", LOOK).await.unwrap();
    kit.sync("main").await;
    assert!(queue(&kit, "main").await.is_empty());
    let feed = ChannelFeed::Parent { only: Vec::new(), exclude: Vec::new(), exactly: None };
    let child =
        Channel { name: "main/dev".into(), ecosystem: Ecosystem::Conda, feed, policy: "look".to_owned() };
    channel::add(&kit.station, child).await.unwrap();
    kit.sync("main/dev").await;
    ask(&kit, &[("main", Ecosystem::Conda, "lib"), ("other", Ecosystem::Conda, "lib")]).await;
    let shown = show(&kit, "main/dev", "lib").await.unwrap();
    assert_eq!(shown[0].held.requests.iter().map(|r| r.id.as_str()).collect::<Vec<_>>(), ["r1"]);
    assert_eq!(shown[0].since[0].version, "1.0");
}
