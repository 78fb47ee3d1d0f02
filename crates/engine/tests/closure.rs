//! What can no longer be installed: told before it happens, and kept out where the policy says so.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use airlock_core::ecosystem::Ecosystem;
use airlock_core::spec::Spec;
use airlock_engine::judge::How;
use airlock_engine::sync::{self, Outcome, Wish};
use airlock_engine::{channel, explain, policy};
use airlock_formats::make::{CondaPackage, Wheel};
use airlock_testkit::{Kit, conda, osv, wheel};
use serde_json::{Value, json};

const CLOSED: &str = r#"
[policy]
name = "closed"
[[rule]]
name = "high"
action = "deny"
when = { cvss = { above = 7.0 } }
[[rule]]
name = "cannot-be-installed"
action = "deny"
when = { dependency_denied = true }
"#;

/// Two versions of a library, what needs the newer one, what needs that, and what needs any.
async fn world(policy: Option<&str>) -> Kit {
    let kit = Kit::new(&[]).await;
    kit.identify(&json!({"lib": "lib"})).await;
    if let Some(text) = policy {
        policy::set(&kit.station, "default", text).await.unwrap();
    }
    let mut source = kit.conda_source("conda");
    let mut index = kit.pypi_source("pypi");
    for version in ["1.0", "2.0"] {
        source.add(&conda("lib", version), &json!({}));
        index.add_wheel(&wheel("lib", version), &json!({}));
    }
    let needs: [(&str, &[&str], &[&str]); 3] = [
        ("tool", &["lib >=2", "__glibc >=2.17"], &["lib>=2", "nowhere; extra == 'x'"]),
        ("app", &["tool", "elsewhere >=1"], &["Tool", "elsewhere>=1"]),
        ("any", &["lib"], &["lib", "tool ; python_version < '3'"]),
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
        assert_eq!(kit.sync(name).await.counts.admit, 5, "nothing is denied yet");
    }
    kit
}

/// Versions from 2 up to 3.
fn vulnerable() -> Value {
    let mut record = osv("PYSEC-1", "PyPI", "lib", "3", 9.0);
    record["affected"][0]["ranges"][0]["events"] = json!([{"introduced": "2"}, {"fixed": "3"}]);
    record
}

/// Names of what would be lost, with what they need.
fn lost(outcome: &Outcome) -> Vec<(&str, &str)> {
    let all = outcome.uninstallable.as_ref().unwrap().iter();
    all.map(|one| (one.file.split('-').next().unwrap(), one.needs.as_str())).collect()
}

async fn verdicts(kit: &Kit, name: &str) -> Vec<(String, &'static str, Option<String>)> {
    let view = kit.view();
    let channel = view.channel(name).await.unwrap().unwrap();
    let all = Spec::parse(channel.channel.ecosystem, "*").unwrap();
    let explained = explain::explain(&view, &channel, &all).await.unwrap().artifacts.into_iter();
    let mut out: Vec<_> = explained
        .map(|a| {
            let file = a.artifact.rsplit('/').next().unwrap();
            let stem: Vec<&str> = file.split('-').take(2).collect();
            (stem.join(" "), a.verdict, a.rules.first().and_then(|rule| rule.detail.clone()))
        })
        .collect();
    out.sort();
    out
}

#[tokio::test]
async fn what_could_no_longer_be_installed_is_told_before_anything_changes() {
    let kit = world(None).await;
    kit.know(&[vulnerable()]).await;
    for (name, first, then) in [("main", "lib >=2", "tool"), ("py", "lib>=2", "Tool")] {
        let main = channel::find(&kit.station, name).await.unwrap();
        let how = How { closure: true, ..How::default() };
        let would = sync::rejudge(&kit.station, &main, &how, true, "test").await.unwrap();
        assert_eq!(lost(&would), [("app", then), ("tool", first)], "{name}");
        assert_eq!(would.counts.deny, 1, "it is told, and nothing is done about it");
        // Once it is so, it is no news.
        kit.judge(name).await;
        let again = sync::rejudge(&kit.station, &main, &how, true, "test").await.unwrap();
        assert_eq!(lost(&again), []);
    }
    // A policy is previewed with what it would cost.
    kit.know(&[]).await;
    for name in ["main", "py"] {
        kit.judge(name).await;
    }
    let denies = "[policy]\nname = \"p\"\n[[rule]]\nname = \"r\"\naction = \"deny\"\nwhen = { all = [{ name = [\"lib\"] }, { version = \">=2\" }] }\n";
    let would = policy::preview(&kit.station, "default", denies).await.unwrap();
    assert!(would.failed.is_none());
    for outcome in &would.outcomes {
        assert_eq!((lost(outcome).len(), outcome.counts.deny), (2, 1), "{}", outcome.channel);
    }
}

/// A policy with these rules: what each does, and when.
fn rules(of: &[(&str, &str)]) -> String {
    let rule = |(n, (action, when)): (usize, &(&str, &str))| {
        format!("[[rule]]\nname = \"r{n}\"\naction = \"{action}\"\nwhen = {when}\n")
    };
    let rules: String = of.iter().enumerate().map(rule).collect();
    format!("[policy]\nname = \"p\"\n{rules}")
}

#[tokio::test]
async fn a_preview_is_what_publishing_by_that_policy_then_does() {
    let kit = world(None).await;
    kit.know(&[vulnerable(), osv("PYSEC-2", "PyPI", "lib", "1.5", 0.0)]).await;
    let lib = "{ all = [{ name = [\"lib\"] }, { version = \">=2\" }] }";
    let closed = ("deny", "{ dependency_denied = true }");
    // One after the other: each is a change of the one before it, and some give back what that took.
    let policies = [
        rules(&[("deny", "{ cvss = { above = 7.0 } }")]),
        rules(&[("deny", lib)]),
        rules(&[("hold", "{ cvss = \"missing\" }"), ("deny", lib), closed]),
        rules(&[("warn", "{ name = [\"*\"] }")]),
        rules(&[("hold", lib), closed]),
        rules(&[("deny", "{ name = [\"lib\"] }"), closed]),
        rules(&[("deny", "{ name = [\"lib\"] }")]),
        rules(&[("deny", "{ licence = [\"MIT\"] }")]),
        rules(&[("warn", "{ kev = true }")]),
    ];
    let mut changed = 0;
    for text in &policies {
        let would = policy::preview(&kit.station, "default", text).await.unwrap();
        assert!(would.failed.is_none(), "{text}");
        policy::set(&kit.station, "default", text).await.unwrap();
        for would in &would.outcomes {
            let done = kit.judge(&would.channel).await;
            assert_eq!(would.counts, done.counts, "{text}");
            assert_eq!(would.changes, done.changes, "{text}");
            assert_eq!(would.findings, done.findings, "{text}");
            changed += done.changes.len();
        }
    }
    assert!(changed > 30, "{changed}");
}

#[tokio::test]
async fn what_cannot_be_installed_is_kept_out_where_a_rule_says_so_and_comes_back_by_itself() {
    let kit = world(Some(CLOSED)).await;
    kit.know(&[vulnerable()]).await;
    for name in ["main", "py"] {
        let outcome = kit.judge(name).await;
        assert_eq!((outcome.counts.admit, outcome.counts.deny), (2, 3), "{name}");
        let told = verdicts(&kit, name).await;
        let because = |of: &str| told.iter().find(|(stem, ..)| stem == of).unwrap().clone();
        let (_, verdict, why) = because("app 1.0");
        assert_eq!(verdict, "denied");
        let needs = if name == "main" { "tool" } else { "Tool" };
        assert_eq!(
            why.unwrap(),
            format!("it needs `{needs}`, of which nothing is offered that could be installed")
        );
        assert_eq!((because("any 1.0").1, because("lib 1.0").1), ("admitted", "admitted"));
        assert_eq!(kit.sync(name).await.counts.admit, 2, "nothing is fetched for it either");
    }
    kit.know(&[]).await;
    for name in ["main", "py"] {
        assert_eq!(kit.judge(name).await.counts.admit, 5, "{name}");
    }
}

/// A channel that nobody fetched anything of yet, whose library is denied from the start.
#[tokio::test]
async fn who_judged_last_makes_no_difference_and_replaying_gives_the_same() {
    let kit = Kit::new(&[vulnerable()]).await;
    kit.identify(&json!({"lib": "lib"})).await;
    policy::set(&kit.station, "default", CLOSED).await.unwrap();
    let mut source = kit.conda_source("conda");
    let all: [(&str, &str, &[&str]); 4] =
        [("lib", "2.0", &[]), ("tool", "1.0", &["lib >=2"]), ("app", "1.0", &["tool"]), ("any", "1.0", &[])];
    for (name, version, depends) in all {
        source.add(&CondaPackage { depends, ..conda(name, version) }, &json!({}));
    }
    source.write();
    kit.add_channel("main", Ecosystem::Conda, source.path(), &[]).await;
    let mut last = None;
    for round in ["sync", "sync", "judge", "sync"] {
        let outcome = if round == "sync" { kit.sync("main").await } else { kit.judge("main").await };
        let told = verdicts(&kit, "main").await;
        let of = |stem: &str| told.iter().find(|(held, ..)| held == stem).unwrap().1;
        assert_eq!(
            (of("tool 1.0"), of("app 1.0"), of("any 1.0")),
            ("denied", "denied", "admitted"),
            "{round}: {told:?}"
        );
        assert_eq!(last.get_or_insert(outcome.counts), &outcome.counts, "{round}");
        let view = kit.view();
        let newest = view.channel("main").await.unwrap().unwrap();
        let replayed = airlock_engine::replay::replay(&kit.station, "main", newest.id).await.unwrap();
        assert!(replayed.equal, "{round}: {replayed:?}");
    }
}

#[tokio::test]
async fn a_dependency_that_its_source_took_away_is_missed_too() {
    let kit = world(Some(CLOSED)).await;
    let mut source = kit.conda_source("conda");
    let needs: [(&str, &[&str]); 3] =
        [("tool", &["lib >=2", "__glibc >=2.17"]), ("app", &["tool", "elsewhere >=1"]), ("free", &[])];
    for (name, depends) in needs {
        source.add(&CondaPackage { depends, ..conda(name, "1.0") }, &json!({}));
    }
    source.write();
    let main = channel::find(&kit.station, "main").await.unwrap();
    let would = sync::sync(&kit.station, &main, Wish { dry: true, accept_shrink: true }).await.unwrap();
    assert_eq!(lost(&would), [("app", "tool"), ("tool", "lib >=2")]);
    sync::sync(&kit.station, &main, Wish { dry: false, accept_shrink: true }).await.unwrap();
    let told = verdicts(&kit, "main").await;
    let of = |stem: &str| told.iter().find(|(held, ..)| held == stem).unwrap().1;
    assert_eq!((of("tool 1.0"), of("app 1.0"), of("free 1.0")), ("denied", "denied", "admitted"), "{told:?}");
}

#[tokio::test]
async fn a_dependency_that_cannot_be_fetched_keeps_out_what_needs_it() {
    let kit = world(Some(CLOSED)).await;
    let mut source = kit.conda_source("conda");
    for (name, version, depends) in
        [("lib", "1.0", &[][..]), ("lib", "4.0", &[]), ("tool", "2.0", &["lib >=4"][..])]
    {
        source.add(&CondaPackage { depends, ..conda(name, version) }, &json!({}));
    }
    source.write();
    let file = conda("lib", "4.0").file_name("conda");
    let broken = source.path().join("noarch").join(file);
    assert!(broken.exists());
    std::fs::write(&broken, b"nothing").unwrap();
    kit.sync("main").await;
    let told = verdicts(&kit, "main").await;
    let of = |stem: &str| told.iter().find(|(held, ..)| held == stem).unwrap().1;
    assert_ne!(of("lib 4.0"), "admitted");
    assert_eq!((of("tool 2.0"), of("lib 1.0")), ("denied", "admitted"), "{told:?}");
}
