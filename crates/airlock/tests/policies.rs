//! Policies through the command line: read, checked, previewed, filled in as a form, and remembered.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod common;

use common::World;
use serde_json::Value;

#[tokio::test]
async fn a_policy_is_previewed_before_it_acts_and_its_versions_are_remembered() {
    let world = World::new().await;
    let station = world.connected("low");
    station.run(&["sync"]).exits(0);
    let before: Value = station.json(&["snapshot", "show", "main"]);
    let list = ["policy", "preview", "default", "ready:curated-list-only"];
    station.run(&list).exits(0).shows("not-on-the-list").shows("now denied");
    let preview: Value = station.json(&list);
    assert!(preview["report"]["channels"][0]["denied"].as_u64().unwrap() > 0, "{preview}");
    assert_eq!(station.json(&["snapshot", "show", "main"]), before, "nothing changed");

    // So does what a milder one would let in, though nobody fetched it yet.
    let file = world.path("milder.toml");
    let milder =
        station.json(&["policy", "show"])["text"].as_str().unwrap().replace("above = 7.0", "above = 8.0");
    std::fs::write(&file, milder).unwrap();
    let milder = ["policy", "preview", "default", file.to_str().unwrap()];
    station.run(&milder).exits(0).shows("denied -> admitted").shows("py: 1 now admitted").shows("idna-3.6");

    station.run(&["policy", "library"]).exits(0).shows("healthcare-cvss7").shows("strict-fail-closed");
    station.run(&["policy", "check", "ready:nothing"]).exits(2).says("curated-list-only");
    station
        .run(&["policy", "check", "ready:healthcare-cvss7"])
        .exits(0)
        .shows("- cvss-7-and-above: Denies an artifact with a finding of which this is so: its CVSS score is at least 7.0");
    station.run(&["policy", "show", "--plain"]).exits(0).shows("- malicious: Denies an artifact");

    station.run(&["policy", "set", "default", "ready:curated-list-only"]).exits(0);
    let after: Value = station.json(&["snapshot", "show", "main"]);
    assert_ne!(after["content"], before["content"]);
    let history: Value = station.json(&["policy", "history", "default"]);
    let versions = history["versions"].as_array().unwrap();
    assert_eq!((versions.len(), versions[0]["id"].as_str()), (2, before["inputs"]["policy"].as_str()));
    assert_eq!(versions[1]["id"], after["inputs"]["policy"]);
    assert_eq!(versions[1]["author"], "ada");
    station.run(&["policy", "history", "other"]).exits(2);
}

#[tokio::test]
async fn a_form_comes_back_as_the_same_text_with_what_was_changed_in_it() {
    let world = World::new().await;
    let station = world.connected("low");
    let written = "# Signed by the board.\n[policy]\nname = \"default\"\n\n# Nothing above 7.\n[[rule]]\nname = \"high\"\naction = \"deny\"\nwhen = { cvss = { above = 7.0 } } # as agreed\n";
    let file = world.path("ours.toml");
    std::fs::write(&file, written).unwrap();
    station.run(&["policy", "set", "default", file.to_str().unwrap()]).exits(0);
    let mut form = station.run(&["policy", "show", "--form"]).exits(0).json();
    form["rule"][0]["when"]["cvss"]["above"] = 6.5.into();
    let filled = world.path("ours.json");
    std::fs::write(&filled, form.to_string()).unwrap();
    station.run(&["policy", "set", "default", filled.to_str().unwrap()]).exits(0);
    station.run(&["policy", "show"]).exits(0).shows(&written.replace("7.0 }", "6.5 }"));
    form["rule"][0]["when"] = serde_json::json!({"cvs": {"above": 1}});
    std::fs::write(&filled, form.to_string()).unwrap();
    station.run(&["policy", "check", filled.to_str().unwrap()]).exits(2).says("did you mean `cvss`?");
    std::fs::write(&filled, "{").unwrap();
    station.run(&["policy", "check", filled.to_str().unwrap()]).exits(2).says("it is not JSON");
}
