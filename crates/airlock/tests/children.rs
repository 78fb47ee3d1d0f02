//! Child channels on the command line, over HTTP and across the gap; and environments made the content of one.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod common;

use common::clients::{python, rattler};
use common::{Station, World};
use serde_json::{Value, json};

fn artifacts(station: &Station, channel: &str) -> Vec<String> {
    let explained = station.json(&["explain", channel, "*"]);
    let all = explained["artifacts"].as_array().unwrap().iter();
    let offered = all.filter(|a| a["verdict"] == "admitted" && a["gone"] == false);
    let mut out: Vec<String> = offered.map(|a| a["artifact"].as_str().unwrap().to_owned()).collect();
    out.sort();
    out
}

#[tokio::test]
async fn a_child_follows_its_parent_and_is_served_below_it() {
    let world = World::new().await;
    let station = world.connected("low");
    station.run(&["channel", "add", "main/dev", "--exclude", "other"]).exits(0);
    station.run(&["channel", "add", "py/dev"]).exits(0);
    station.run(&["sync", "main/dev"]).exits(2).says("the parent of `main/dev`, was never published");
    let synced = station.json(&["sync"]);
    let names: Vec<&str> =
        synced["channels"].as_array().unwrap().iter().map(|c| c["channel"].as_str().unwrap()).collect();
    assert_eq!(names, ["main", "py", "main/dev", "py/dev"]);
    assert_eq!(artifacts(&station, "main/dev"), ["noarch/idna-3.10-0.conda", "noarch/requests-2.0-0.conda"]);
    station.run(&["channel", "list"]).exits(0).shows("main/dev  conda  inherited  channel main");
    let alone = ["channel", "add", "free", "--ecosystem", "conda", "--source", "/", "--policy", "inherited"];
    station.run(&alone).exits(2).says("is for children");
    station
        .run(&["explain", "main/dev", "idna=3.6"])
        .exits(1)
        .shows("denied by channel main")
        .shows("PYSEC-2024-60");
    station
        .run(&["snapshot", "rollback", "main/dev@2026-03-01", "--reason", "r"])
        .exits(1)
        .says("goes back with it");
    station.run(&["channel", "add", "main/dev"]).exits(2).says("there is a channel `main/dev` already");
    station.run(&["channel", "add", "top"]).exits(2).says("nobody says of which ecosystem");

    let server = station.serve();
    let status = |path: &str| server.get(path, "*/*").0;
    for path in [
        "conda/main/dev/noarch/repodata.json",
        "conda/main/dev@2026-03-01/noarch/repodata.json.zst",
        "conda/main/dev/noarch/idna-3.10-0.conda",
        "pypi/py/dev/simple/",
        "pypi/py/dev/simple/idna/",
        "pypi/py/dev/packages/idna/idna-3.10-py3-none-any.whl",
        "channels/main/dev",
        "packages/main/dev/idna",
        "packages/main/dev/idna/3.10",
        "packages/main/idna/3.10",
        "packages/py/idna",
    ] {
        assert_eq!(status(path), 200, "{path}");
    }
    let (status, body) = server.get("conda/main/dev/noarch/idna-3.6-0.conda", "*/*");
    let problem: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!((status, &problem["nearest"]), (403, &json!("3.10")));
    assert_eq!(problem["package"], "../../../../packages/main/dev/idna/3.6");
    assert_eq!(server.get("conda/main/dev/noarch/other-1.0-0.conda", "*/*").0, 404);
    assert_eq!(server.get("packages/main/nothing/1.0", "text/html").0, 404);
    // What is denied above is gone below, while the server runs: it believes what it read for less than a second.
    station.run(&["block", "main", "requests", "--reason", "stolen key"]).exits(0);
    std::thread::sleep(std::time::Duration::from_millis(800));
    assert_eq!(server.get("conda/main/dev/noarch/requests-2.0-0.conda", "*/*").0, 403);
    assert_eq!(artifacts(&station, "main/dev"), ["noarch/idna-3.10-0.conda"]);
    station.run(&["ledger", "verify"]).exits(0);
    station.run(&["replay", "main/dev"]).exits(0);
}

#[tokio::test]
async fn a_child_stays_under_its_policy_and_what_is_said_of_that_leads_on() {
    let world = World::new().await;
    let station = world.connected("low");
    station.run(&["sync"]).exits(0);
    station.run(&["review", "approve", "main", "--scope", "requests", "--reason", "r"]).exits(0);
    station.run(&["sync"]).exits(0);
    let held =
        ["plan", "requests==1.0", "--channel", "main", "--platform", "linux-64", "--closure", "main/own"];
    // By rules of its own it would lack it, and that is said.
    let own = [&held[..], &["--policy", "default"]].concat();
    let inherited = "airlock channel set main/own --policy inherited";
    station.run(&own).exits(1).says("1 of 1 files of the environment are not in `main/own`").says(inherited);
    // It stays under its policy, also where none is named; and what is said leads on.
    station.run(&held).exits(1).says("its policy `default`");
    let under = [&held[..], &["--policy", "inherited"]].concat();
    station.run(&under).exits(2).says("there already, under policy `default`").says(inherited);
    station.run(&["channel", "set", "main/own", "--policy", "inherited"]).exits(0);
    station.run(&under).exits(0);
    assert_eq!(artifacts(&station, "main/own"), ["noarch/requests-1.0-0.conda"]);
}

#[tokio::test]
async fn an_environment_becomes_the_content_of_a_child_and_crosses_alone() {
    let world = World::new().await;
    let station = world.connected("low");
    station.run(&["sync"]).exits(0);
    let plan = ["plan", "idna==3.6", "other", "--channel", "main", "--platform", "linux-64", "--closure"];
    station.run(&[&plan[..], &["py/env"]].concat()).exits(2).says("`py/env` is not a child of `main`");
    station.run(&[&plan[..], &["main"]].concat()).exits(2);
    // What was asked for is denied: the nearest that passes is taken.
    station.run(&[&plan[..], &["main/env"]].concat()).exits(0).shows("asked for as idna==3.10");
    assert_eq!(artifacts(&station, "main/env"), ["noarch/idna-3.10-0.conda", "noarch/other-1.0-0.conda"]);
    // Another environment takes its place.
    let other = ["plan", "requests", "--channel", "main", "--platform", "linux-64", "--closure", "main/env"];
    station.run(&other).exits(0);
    assert_eq!(artifacts(&station, "main/env"), ["noarch/requests-2.0-0.conda"]);
    // Of what cannot be had nothing is made.
    let none = ["plan", "requests=1.0", "nothing", "--channel", "main", "--closure", "main/env"];
    station.run(&none).exits(1).says("nothing passes");
    assert_eq!(artifacts(&station, "main/env"), ["noarch/requests-2.0-0.conda"]);
    let wheels = ["plan", "idna==3.6", "--channel", "py", "--closure", "py/env"];
    station.run(&wheels).exits(0);
    assert_eq!(artifacts(&station, "py/env"), ["idna-3.10-py3-none-any.whl"]);

    // What was approved in the parent need not be approved again, and what lies below follows.
    station.run(&["channel", "add", "main/env/mine"]).exits(0);
    station.run(&["review", "approve", "main", "--scope", "requests", "--reason", "r"]).exits(0);
    station.run(&["sync"]).exits(0);
    let held =
        ["plan", "requests==1.0", "--channel", "main", "--platform", "linux-64", "--closure", "main/env"];
    station.run(&held).exits(0);
    for channel in ["main/env", "main/env/mine"] {
        assert_eq!(artifacts(&station, channel), ["noarch/requests-1.0-0.conda"], "{channel}");
    }
    station.run(&other).exits(0);

    let disk = world.path("disk");
    station.run(&["export", disk.to_str().unwrap(), "--channel", "main/env"]).exits(0);
    let high = world.station("high", "isolated");
    high.trust(&station);
    // It does not pass for the child of a channel that others feed here.
    let conda = world.path("conda");
    let strange = world.station("strange", "isolated");
    strange.trust(&station);
    let add = ["channel", "add", "main", "--ecosystem", "conda", "--source", conda.to_str().unwrap()];
    strange.run(&add).exits(0);
    strange
        .run(&["import", disk.to_str().unwrap()])
        .exits(3)
        .says("lies in the name of `main`")
        .says("`airlock trust revoke low`");
    // What is said next can be done.
    strange.run(&["trust", "revoke", "low"]).exits(0);
    strange.trust_with(&station, &["--channel", "main/env"]);
    strange.run(&["import", disk.to_str().unwrap()]).exits(0);
    high.run(&["import", disk.to_str().unwrap()]).exits(0);
    assert_eq!(artifacts(&high, "main/env"), ["noarch/requests-2.0-0.conda"]);
    let Some(python) = python() else { return };
    let server = high.serve();
    let target = world.path("env");
    let base = server.url("conda/main/env");
    let got = rattler(&python, &base, &json!([]), target.to_str().unwrap(), &[vec!["requests"]]);
    assert_eq!(got, [["noarch/requests-2.0-0.conda"]]);
    assert!(target.join("conda-meta/requests-2.0-0.json").exists());
}
