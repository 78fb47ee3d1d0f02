//! Media that are put in one after another.

use std::path::{Path, PathBuf};

use airlock_testkit::conda;
use serde_json::{Value, json};

use crate::common::{airlock, hash, is_whole, published};
use crate::{CAPACITY, import, receiver, sender, text};

#[tokio::test]
async fn media_are_put_in_one_after_another_while_the_station_goes_on() {
    let (world, low) = sender().await;
    let (slot, used) = (world.path("slot"), world.path("used"));
    let stream_is_empty = |low: &crate::common::Station| {
        low.run(&["export", text(&slot), "--volume", "2"]).exits(2).says("was begun");
        assert!(!slot.exists());
    };
    stream_is_empty(&low);
    // What cannot be done is said before a number is taken.
    std::fs::create_dir(&used).unwrap();
    std::fs::write(used.join("letter.txt"), "x").unwrap();
    let begin = ["export", text(&slot), "--capacity", CAPACITY, "--volume", "1"];
    low.run(&[&begin[..], &["--parity", "1"]].concat()).exits(2).says("parity cannot be made");
    low.run(&["export", text(&used), "--capacity", CAPACITY, "--volume", "1"]).exits(2).says("not empty");
    low.run(&["export", text(&slot), "--capacity", CAPACITY, "--volume", "6"]).exits(2).says("it takes 5");
    stream_is_empty(&low);
    let plan = low.json(&[&begin[..], &["--plan"]].concat());
    let report = low.json(&begin);
    assert_eq!((&report["number"], report["volumes"].as_array().unwrap().len()), (&json!(1), 5), "{report}");
    let sizes = |report: &Value| {
        let volumes = report["volumes"].as_array().unwrap().iter();
        volumes.map(|v| (v["volume"].clone(), v["bytes"].clone(), v["files"].clone())).collect::<Vec<_>>()
    };
    assert_eq!(sizes(&plan), sizes(&report));
    let mut media: Vec<PathBuf> = Vec::new();
    let take_out = |media: &mut Vec<PathBuf>| {
        let medium = world.path(&format!("medium{}", media.len()));
        std::fs::rename(&slot, &medium).unwrap();
        airlock(&["verify", text(&medium), "--key", text(&low.key())]).exits(0).shows("of 5 volumes");
        media.push(medium);
    };
    take_out(&mut media);
    let then = published(&low);
    // Days pass: something new is published, all else of the channel goes, and what nobody needs is collected.
    let mut source = world.kit.conda_source("conda");
    source.add(&conda("newer", "1.0"), &json!({}));
    source.write();
    low.run(&["sync", "--accept-shrink"]).exits(0);
    low.run(&["gc"]).exits(0);
    assert_ne!(published(&low), then);
    for number in ["5", "3", "2", "4"] {
        // The first try finds no room for a folder where a file lies, and leaves nothing that the second trips over.
        std::fs::write(&slot, "x").unwrap();
        low.run(&["export", text(&slot), "--volume", number]).exits(4);
        std::fs::remove_file(&slot).unwrap();
        let report = low.json(&["export", text(&slot), "--volume", number]);
        assert_eq!(
            (&report["number"], report["volumes"][0]["volume"].to_string()),
            (&json!(1), number.to_owned())
        );
        take_out(&mut media);
    }
    low.run(&["export", text(&slot), "--volume", "6"]).exits(2).says("which has 5 volumes");
    low.run(&["export", text(&slot), "--volume", "2", "--parity", "1"]).exits(2).says("as it was decided");
    // One manifest for all, and they are what the receiver takes in any order.
    assert!(
        media.iter().all(|medium| hash(&medium.join("AIRLOCK.json")) == hash(&media[0].join("AIRLOCK.json")))
    );
    let high = receiver(&world, "high", &low);
    for (n, medium) in media.iter().enumerate() {
        import(&high, &[medium.as_path()], &[]).exits(i32::from(n + 1 < media.len()));
    }
    assert_eq!(published(&high), then);
    is_whole(&high);
    let receipt = world.path("receipt.json");
    let all: Vec<&Path> = media.iter().map(PathBuf::as_path).collect();
    import(&high, &all, &["--receipt-out", text(&receipt)]).exits(0);
    let next = low.json(&["export", text(&world.path("next")), "--receipt", text(&receipt)]);
    assert_eq!((&next["number"], &next["base"], &next["files"]), (&json!(2), &json!(1), &json!(1)), "{next}");
    import(&high, &[&world.path("next")], &[]).exits(0);
    assert_eq!(published(&high), published(&low));
}
