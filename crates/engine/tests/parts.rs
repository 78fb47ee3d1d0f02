//! Files in parts whose manifest a trusted key signed and that are wrong all the same; and who looks at files that came in parts.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use airlock_core::canon::Canonical;
use airlock_core::ecosystem::Ecosystem;
use airlock_core::id::Digest;
use airlock_engine::bundle::export::{self, What};
use airlock_engine::bundle::{import, pull, verify};
use airlock_engine::error::Kind;
use airlock_engine::network::Period;
use airlock_engine::progress::Progress;
use airlock_engine::station::{Side, Station};
use airlock_engine::trust;
use airlock_engine::upstream::Location;
use airlock_testkit::wire::{Act, Ranged, Wire, answer};
use airlock_testkit::{Kit, conda};
use serde_json::{Value, json};

/// The most that a file may have here.
const LIMIT: u64 = 100_000;

/// A sender of one package that is cut, its bundle, and a station that trusts it.
struct Gap {
    low: Kit,
    high: Station,
    disk: PathBuf,
}

impl Gap {
    async fn new() -> Self {
        let low = Kit::new(&[]).await;
        let mut source = low.conda_source("source");
        let mut dice = 7u64;
        let mut next = |_| {
            dice ^= dice << 13;
            dice ^= dice >> 7;
            dice ^= dice << 17;
            dice.to_le_bytes()[0]
        };
        let payload: Vec<u8> = (0..300_000).map(&mut next).collect();
        let content: [(&str, &[u8]); 1] = [("share/data", &payload)];
        let mut package = conda("large", "1.0");
        package.files = &content;
        source.add(&package, &json!({}));
        source.write();
        low.add_channel("main", Ecosystem::Conda, source.path(), &[]).await;
        low.sync("main").await;
        let disk = low.path().join("disk");
        let what = What { max_file: Some(LIMIT), ..What::default() };
        let report = export::export(&low.station, &disk, &what).await.unwrap();
        assert_eq!((report.files, report.cut), (1, 1));
        let mut gap = Self { high: low.station.clone(), low, disk };
        gap.high = gap.receiver("high").await;
        gap
    }

    async fn receiver(&self, name: &str) -> Station {
        let (low, options) = (&self.low.station, self.low.station.options.clone());
        let mut high =
            Station::init(&self.low.path().join(name), name, Side::Isolated, options).await.unwrap();
        high.config.hosts.push("127.0.0.1".to_owned());
        high.config.network.all.retry_base = Some(Period::milliseconds(3));
        let (key, print) = (low.key.public(), low.key.fingerprint());
        trust::add(&high, "low", key, &print, trust::Limits::default()).await.unwrap();
        high
    }

    /// A copy of the bundle.
    fn copy(&self, name: &str) -> PathBuf {
        let to = self.low.path().join(name);
        let run = std::process::Command::new("cp").arg("-r").args([&self.disk, &to]).status().unwrap();
        assert!(run.success());
        to
    }

    /// Changes the manifest of a bundle and signs it as the sender does.
    fn forge(&self, disk: &Path, change: impl FnOnce(&mut Value)) {
        let path = disk.join("AIRLOCK.json");
        let mut manifest: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        change(&mut manifest);
        let text = Canonical::of(&manifest).unwrap();
        std::fs::write(&path, text.as_str()).unwrap();
        let line = self.low.station.key.sign(text.as_str().as_bytes());
        std::fs::write(disk.join("AIRLOCK.sig"), format!("{line}\n")).unwrap();
    }

    async fn counts(&self) -> (usize, bool) {
        let refs = self.high.store.db.refs("channel/").await.unwrap();
        (refs.len(), staged(&self.high).iter().any(|size| *size > 0))
    }
}

/// The files of all intakes of a station.
fn staged(station: &Station) -> Vec<u64> {
    let (mut out, mut folders) = (Vec::new(), vec![station.dir.join("blobs/staging")]);
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let (entry, path) = entry.map(|e| (e.metadata().unwrap(), e.path())).unwrap();
            match entry.is_dir() {
                true => folders.push(path),
                // Whose it is.
                false if path.ends_with("label") => {}
                false => out.push(entry.len()),
            }
        }
    }
    out
}

async fn content(station: &Station) -> Option<Digest> {
    let id = station.store.db.find_ref("channel/main/snapshot").await.unwrap()?;
    let snapshot = airlock_core::id::Id::<airlock_core::snapshot::Snapshot>::new(id);
    Some(station.store.db.get(snapshot).await.unwrap().content.digest())
}

#[tokio::test]
async fn parts_that_make_something_else_than_was_signed_are_refused_and_leave_nothing() {
    let gap = Gap::new().await;
    let before = gap.counts().await;
    let lie = "00".repeat(32);
    // What the manifest contradicts is refused before a file is looked at.
    type Change<'a> = (&'a str, Box<dyn Fn(&mut Value)>);
    let changes: Vec<Change<'_>> = vec![
        ("do not make the file", Box::new(move |m| m["joined"][0]["sha256"] = lie.clone().into())),
        ("other bytes together", Box::new(|m| m["joined"][0]["size"] = json!(5))),
        ("not there", Box::new(|m| m["joined"][0]["parts"] = json!(900))),
        ("not there", Box::new(|m| m["joined"][0]["first"] = json!(u32::MAX))),
        ("impossible number", Box::new(|m| m["joined"][0]["parts"] = json!(4000))),
        ("cannot be read", Box::new(|m| m["joined"][0]["first"] = json!(-1))),
        (
            "out of order",
            Box::new(|m| {
                let again = m["joined"][0].clone();
                m["joined"].as_array_mut().unwrap().push(again);
            }),
        ),
        ("listed twice", Box::new(|m| m["joined"][0]["sha256"] = m["files"][1]["sha256"].clone())),
        ("which layout 3 has not", Box::new(|m| m["format"] = json!(3))),
        // Parts of which nothing says that they are some.
        ("are not in it", Box::new(|m| drop(m.as_object_mut().unwrap().remove("joined")))),
    ];
    for (n, (what, change)) in changes.iter().enumerate() {
        let disk = gap.copy(&format!("lie{n}"));
        gap.forge(&disk, change);
        let error = import::import(&gap.high, &disk).await.unwrap_err();
        assert!(error.kind == Kind::Unsafe && error.message.contains(what), "{what}: {error}");
        assert_eq!(gap.counts().await, before, "{what}");
        let keys = vec![gap.low.station.key.public()];
        let verified =
            verify::open(&disk, keys).and_then(|opened| opened.check_files(2, &Progress::default()));
        assert_eq!(verified.is_err(), *what != "are not in it", "{what}");
    }
    // Parts that were exchanged for each other, with all that is said of them.
    let disk = gap.copy("turned");
    let place = |disk: &Path, n: usize| {
        let text = std::fs::read(disk.join("AIRLOCK.json")).unwrap();
        let m: Value = serde_json::from_slice(&text).unwrap();
        disk.join(m["files"][n]["path"].as_str().unwrap())
    };
    let (one, two) = (place(&disk, 0), place(&disk, 1));
    let bytes = [std::fs::read(&one).unwrap(), std::fs::read(&two).unwrap()];
    std::fs::write(&one, &bytes[1]).unwrap();
    std::fs::write(&two, &bytes[0]).unwrap();
    gap.forge(&disk, |m| {
        let hashes = [m["files"][0]["sha256"].clone(), m["files"][1]["sha256"].clone()];
        (m["files"][0]["sha256"], m["files"][1]["sha256"]) = (hashes[1].clone(), hashes[0].clone());
    });
    let error = import::import(&gap.high, &disk).await.unwrap_err();
    assert!(error.kind == Kind::Unsafe && error.message.contains("do not make the file"), "{error}");
    assert_eq!(gap.counts().await, before);
    import::import(&gap.high, &gap.disk).await.unwrap();
    assert_eq!(content(&gap.high).await, content(&gap.low.station).await);
}

#[tokio::test]
async fn a_scanner_sees_the_file_and_not_its_parts() {
    let mut gap = Gap::new().await;
    let mut whole = Vec::new();
    for part in 1..=4 {
        let of_it = |path: &PathBuf| path.to_str().unwrap().ends_with(&format!(".00{part}"));
        let all = walk(&gap.disk.join("files"));
        let Some(path) = all.iter().find(|path| of_it(path)) else { break };
        whole.extend(std::fs::read(path).unwrap());
    }
    // What lies across the first cut, which no part holds.
    let (cut, half) = (usize::try_from(LIMIT).unwrap(), 20);
    let across = &whole[cut - half..cut + half];
    let known = gap.low.path().join("known");
    std::fs::write(&known, across).unwrap();
    assert!(
        walk(&gap.disk.join("files"))
            .iter()
            .all(|path| { !std::fs::read(path).unwrap().windows(across.len()).any(|bytes| bytes == across) })
    );
    let script = format!(
        "import os, sys; data = open(sys.argv[1], 'rb').read(); print(os.environ['AIRLOCK_FILE']); \
         sys.exit(1 if open('{}', 'rb').read() in data else 0)",
        known.display()
    );
    let plain = gap.high.config.import.clone();
    gap.high.config.import.command = ["python3", "-c", &script].map(str::to_owned).to_vec();
    let error = import::import(&gap.high, &gap.disk).await.unwrap_err();
    assert!(error.is_opinion && error.message.contains("large-1.0-0.conda may not come in"), "{error}");
    // What came waits whole, and its parts are nowhere beside it.
    assert_eq!(staged(&gap.high), [whole.len() as u64]);
    gap.high.config.import = plain;
    import::import(&gap.high, &gap.disk).await.unwrap();
    assert_eq!(content(&gap.high).await, content(&gap.low.station).await);
}

fn walk(folder: &Path) -> Vec<PathBuf> {
    let (mut out, mut folders) = (Vec::new(), vec![folder.to_owned()]);
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { folders.push(path) } else { out.push(path) }
        }
    }
    out
}

#[tokio::test]
async fn parts_that_are_published_come_over_a_link_that_breaks_and_none_comes_twice() {
    let gap = Gap::new().await;
    let serve = |disk: PathBuf, gone: &'static str| {
        Wire::start(move |request, _| match std::fs::read(disk.join(&request.target[3..])) {
            Ok(bytes) if !request.target.ends_with(gone) => {
                Ranged { cut: 30_000, ..Ranged::new(bytes) }.answer(request)
            }
            // Said when the others came.
            _ => std::iter::once(Act::Pause(Duration::from_millis(1500)))
                .chain(answer("404 Not Found", &[], "no"))
                .collect(),
        })
    };
    let at = |wire: &Wire| Location::parse(&format!("{}/b", wire.base)).unwrap();
    let parts = |wire: &Wire| -> BTreeSet<String> {
        let all = wire.asked().into_iter().map(|request| request.target);
        all.filter(|target| target.contains(".conda.")).collect()
    };
    let bad = serve(gap.disk.clone(), ".003").await;
    pull::import(&gap.high, &at(&bad)).await.unwrap_err();
    assert!(parts(&bad).len() > 2, "{:?}", parts(&bad));
    let good = serve(gap.disk.clone(), "nothing").await;
    pull::import(&gap.high, &at(&good)).await.unwrap();
    assert_eq!(content(&gap.high).await, content(&gap.low.station).await);
    let again = parts(&good);
    assert!(again.len() == 1 && again.iter().all(|target| target.ends_with(".003")), "{again:?}");
    let keys = vec![gap.low.station.key.public()];
    pull::check(&gap.high, &at(&good), keys, false).await.unwrap();
}

#[tokio::test]
async fn a_blob_that_rotted_is_found_before_its_parts_are_hashed_into_a_manifest() {
    let gap = Gap::new().await;
    let text = std::fs::read(gap.disk.join("AIRLOCK.json")).unwrap();
    let m: Value = serde_json::from_slice(&text).unwrap();
    let sha256 = m["joined"][0]["sha256"].as_str().unwrap();
    let blob = gap.low.station.dir.join("blobs").join(&sha256[..2]).join(sha256);
    let mut bytes = std::fs::read(&blob).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&blob, bytes).unwrap();
    let what = What { max_file: Some(LIMIT), ..What::default() };
    let disk = gap.low.path().join("again");
    let error = export::export(&gap.low.station, &disk, &what).await.unwrap_err();
    assert!(error.message.contains("the store's copy of large-1.0-0.conda has changed"), "{error}");
    assert!(!disk.join("AIRLOCK.sig").exists());
}
