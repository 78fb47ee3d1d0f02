//! Layouts of bundles on both sides: what stations of before wrote is taken in, and nothing is written that the other
//! side does not read.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod common;

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use airlock_core::bundle::{FORMAT, FORMAT_HELD};
use airlock_core::{cut, sealed, volume};
use airlock_formats::make::CondaPackage;
use airlock_testkit::archives::loose;
use airlock_testkit::{Kit, conda, osv};
use common::{NOW, Station, World, airlock, is_whole, text};
use serde_json::{Value, json};

/// Bundles of every layout as programs wrote them that knew no newer one, or none newer than it needed, with the key that signed
/// them: each file by its path, as text or in hexadecimal digits, where it helps of what zstd makes of it. They were written by
/// [`write_golden`] and are never written again.
const GOLDEN: std::ops::RangeInclusive<u32> = 1..=FORMAT;

fn golden(format: u32) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/golden/format-{format}.json"))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut out, byte| {
        write!(out, "{byte:02x}").unwrap();
        out
    })
}

fn unhex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}

/// Bytes as a golden bundle holds them.
fn packed(bytes: Vec<u8>) -> Value {
    let small = zstd::bulk::compress(&bytes, 19).unwrap();
    match String::from_utf8(bytes) {
        Ok(text) if !text.contains('\0') => json!({ "text": text }),
        Ok(text) => json!({ "zstd": hex(&small), "size": text.len() }),
        Err(e) if small.len() < e.as_bytes().len() => {
            json!({"zstd": hex(&small), "size": e.as_bytes().len()})
        }
        Err(e) => json!({"hex": hex(e.as_bytes())}),
    }
}

fn unpacked(content: &Value) -> Vec<u8> {
    if let Some(text) = content["text"].as_str() {
        return text.as_bytes().to_vec();
    }
    match content["zstd"].as_str() {
        Some(digits) => {
            let size = content["size"].as_u64().unwrap();
            zstd::bulk::decompress(&unhex(digits), usize::try_from(size).unwrap()).unwrap()
        }
        None => unhex(content["hex"].as_str().unwrap()),
    }
}

/// A golden bundle that was laid out.
struct Golden {
    bundle: PathBuf,
    key: PathBuf,
    print: String,
    /// What opens it, where it is sealed.
    identity: Option<String>,
}

fn lay_out(format: u32, folder: &Path) -> Golden {
    let golden: Value = serde_json::from_slice(&std::fs::read(golden(format)).unwrap()).unwrap();
    for (path, content) in golden["files"].as_object().unwrap() {
        let to = folder.join("bundle").join(path);
        std::fs::create_dir_all(to.parent().unwrap()).unwrap();
        std::fs::write(to, unpacked(content)).unwrap();
    }
    let key = folder.join("station.pub");
    std::fs::write(&key, golden["key"].as_str().unwrap()).unwrap();
    Golden {
        bundle: folder.join("bundle"),
        key,
        print: golden["fingerprint"].as_str().unwrap().to_owned(),
        identity: golden["identity"].as_str().map(str::to_owned),
    }
}

#[test]
fn bundles_of_every_layout_are_taken_in() {
    for format in GOLDEN {
        let dir = tempfile::tempdir().unwrap();
        let Golden { bundle, key, print, identity } = lay_out(format, dir.path());
        let manifest = ["AIRLOCK.json", "volume-001/AIRLOCK.json"].map(|path| bundle.join(path));
        let manifest = manifest.iter().find(|path| path.exists()).unwrap();
        let said: Value = serde_json::from_slice(&std::fs::read(manifest).unwrap()).unwrap();
        assert_eq!(said["format"], format);
        let high = dir.path().join("high");
        airlock(&["init", text(&high), "--name", "high", "--side", "isolated", "--now", NOW]).exits(0);
        let high = Station { dir: high };
        assert_eq!(identity.is_some(), format == sealed::FORMAT);
        if let Some(identity) = identity {
            std::fs::write(high.dir.join("keys/identity.txt"), identity).unwrap();
        }
        high.run(&["trust", "add", "low", text(&key), "--fingerprint", &print]).exits(0);
        airlock(&["verify", text(&bundle), "--key", text(&key)]).exits(0);
        high.run(&["import", text(&bundle)]).exits(0);
        high.run(&["explain", "main", "good"]).exits(0).shows("admitted");
        high.run(&["explain", "main", "x==1.0"]).exits(1).shows("denied");
        if format == FORMAT_HELD {
            high.run(&["explain", "main", "w==1.0"]).exits(1).shows("there by unscored");
        }
        is_whole(&high);
    }
}

/// Writes the golden bundles with this program: for a layout that is new, once.
#[tokio::test]
#[ignore = "writes what is checked in"]
async fn write_golden() {
    for format in GOLDEN {
        let path = golden(format);
        if path.exists() {
            continue;
        }
        let kit = Kit::new(&[osv("PYSEC-1", "PyPI", "x", "2", 7.5)]).await;
        match format {
            FORMAT_HELD => {
                kit.know(&[osv("PYSEC-1", "PyPI", "x", "2", 7.5), osv("PYSEC-2", "PyPI", "w", "2", 0.0)])
                    .await;
                kit.identify(&json!({"x": "x", "w": "w"})).await;
            }
            _ => kit.identify(&json!({"x": "x"})).await,
        }
        let mut source = kit.conda_source("source");
        match format {
            cut::FORMAT => {
                let content: [(&str, &[u8]); 1] = [("share/zeros", &[0; 70_000])];
                let large = CondaPackage { files: &content, ..conda("good", "1.0") };
                source.add_bytes(&large, &loose(&large.conda().unwrap()), &json!({}));
            }
            _ => drop(source.add(&conda("good", "1.0"), &json!({}))),
        }
        source.add(&conda("x", "1.0"), &json!({}));
        if format == FORMAT_HELD {
            source.add(&conda("w", "1.0"), &json!({}));
        }
        source.write();
        kit.add_channel("main", airlock_core::ecosystem::Ecosystem::Conda, source.path(), &[]).await;
        if format == 2 {
            let vex = json!({"@context": "https://openvex.dev/ns/v0.2.0", "@id": "v1", "author": "v", "version": 1,
                "timestamp": "2026-01-01T00:00:00Z", "statements": [{"vulnerability": {"name": "CVE-2026-1"},
                "products": [{"@id": "pkg:conda/y"}], "status": "fixed"}]});
            let path = kit.write("v.json", vex.to_string().as_bytes()).display().to_string();
            use airlock_core::advisory::FeedKind;
            airlock_engine::feeds::add(&kit.station, FeedKind::Vex, &path).await.unwrap();
            airlock_engine::feeds::update(&kit.station, &[]).await.unwrap();
        }
        kit.sync("main").await;
        let low = Station { dir: kit.path().join("station") };
        let disk = kit.path().join("disk");
        let high = Station { dir: kit.path().join("high") };
        airlock(&["init", text(&high.dir), "--name", "high", "--side", "isolated", "--now", NOW]).exits(0);
        let to = high.json(&["key", "identity"])["recipients"][0].as_str().unwrap().to_owned();
        let how: &[&str] = match format {
            volume::FORMAT => &["--capacity", "10MB"],
            cut::FORMAT => &["--max-file", "64 KiB"],
            sealed::FORMAT => &["--seal", &to],
            FORMAT_HELD => &["--include", "held"],
            _ => &[],
        };
        low.run(&[&["export", text(&disk)], how].concat()).exits(0);
        let mut files = serde_json::Map::new();
        for file in common::files(&disk).into_keys() {
            let path = file.strip_prefix(&disk).unwrap().display().to_string();
            files.insert(path, packed(std::fs::read(&file).unwrap()));
        }
        let key = std::fs::read_to_string(low.key()).unwrap();
        let print = low.json(&["status"])["fingerprint"].clone();
        let mut golden = json!({"key": key, "fingerprint": print, "files": files});
        if format == sealed::FORMAT {
            golden["identity"] = std::fs::read_to_string(high.dir.join("keys/identity.txt")).unwrap().into();
        }
        std::fs::write(path, serde_json::to_string_pretty(&golden).unwrap() + "\n").unwrap();
    }
}

/// A receipt as a station of before wrote it, which says nothing of what it reads.
fn older(receipt: &Path) -> PathBuf {
    let mut said: Value = serde_json::from_slice(&std::fs::read(receipt).unwrap()).unwrap();
    assert_eq!(said["reads"]["format"], FORMAT);
    said.as_object_mut().unwrap().remove("reads");
    let path = receipt.with_extension("older");
    std::fs::write(&path, said.to_string()).unwrap();
    path
}

#[tokio::test]
async fn nothing_is_written_that_the_last_receipt_does_not_read() {
    let world = World::new().await;
    let low = world.connected("low");
    low.run(&["sync"]).exits(0);
    let high = world.station("high", "isolated");
    high.trust(&low);
    let (disk, receipt) = (world.path("disk-1"), world.path("receipt"));
    low.run(&["export", text(&disk)]).exits(0);
    high.run(&["import", text(&disk), "--receipt-out", text(&receipt)]).exits(0);
    let older = older(&receipt);
    let number = |name: &str| -> Value {
        let path = world.path(name).join("AIRLOCK.json");
        let said: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
        said["format"].clone()
    };
    // What is held can be left out, and that is said; by a receipt, and by the last one that was used.
    let held = |name: &str, more: &[&str]| {
        let disk = world.path(name);
        low.run(&[&["export", text(&disk), "--include", "held"], more].concat()).exits(0)
    };
    let said = held("disk-2", &["--receipt", text(&older)]);
    said.shows("left out: files that are held need layout 6 of bundles").shows("reads up to 3");
    assert_eq!(number("disk-2"), 1);
    held("disk-3", &[]).shows("left out: files that are held");
    held("disk-4", &["--full"]).shows("left out: files that are held");
    // Who says more is sent more.
    let said = held("disk-5", &["--receipt", text(&receipt)]);
    assert!(!said.stdout.contains("left out"), "{said:?}");
    assert_eq!(number("disk-5"), 6);
    held("disk-6", &[]).shows("2 held files among them");
    high.run(&["import", text(&world.path("disk-6"))]).exits(0);
}

#[tokio::test]
async fn what_a_receiver_must_have_and_does_not_read_is_refused_with_words() {
    let world = World::new().await;
    let low = world.connected("low");
    low.run(&["sync"]).exits(0);
    let high = world.station("high", "isolated");
    high.trust(&low);
    let (disk, receipt) = (world.path("disk-1"), world.path("receipt"));
    low.run(&["export", text(&disk)]).exits(0);
    high.run(&["import", text(&disk), "--receipt-out", text(&receipt)]).exits(0);
    // As a station would say it that reads nothing but the first layout.
    let said: Value = serde_json::from_slice(&std::fs::read(&receipt).unwrap()).unwrap();
    let key = airlock_engine::station::Station::open(&high.dir, world.kit.station.options.clone())
        .await
        .unwrap()
        .key;
    let claim = airlock_core::canon::Canonical::of(&said["receipt"]).unwrap();
    let of = airlock_core::id::Digest::of(claim.as_str().as_bytes());
    let message = json!({"format": 1, "kind": "airlock.receipt-reads.v1", "receipt": of});
    let message = airlock_core::canon::Canonical::of(&message).unwrap();
    let line = key.sign(message.as_str().as_bytes()).to_string();
    let mut first = said.clone();
    first["reads"] = json!({"format": 1, "signature": line});
    let path = world.path("first");
    std::fs::write(&path, first.to_string()).unwrap();
    let split = world.path("split");
    let export = |path: &Path, more: &[&str]| {
        low.run(&[&["export", text(&split), "--receipt", text(path)], more].concat())
    };
    let volumes = ["--capacity", "10MB"];
    export(&path, &[&volumes[..], &["--plan"]].concat())
        .exits(1)
        .says("volumes, or persons who release need layout 3");
    export(&path, &volumes).exits(1).says("reads up to 1").says("update the other station");
    assert!(!split.exists());
    // Nobody claims for another station what it reads.
    first["reads"]["format"] = json!(3);
    std::fs::write(&path, first.to_string()).unwrap();
    export(&path, &volumes).exits(3).says("its signature does not fit");
    export(&receipt, &volumes).exits(0);
}
