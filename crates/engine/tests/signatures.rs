//! What signatures may cost before anybody is believed, and what a key gives that is trusted for a link alone.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::path::{Path, PathBuf};

use airlock_core::bundle::SignatureLine;
use airlock_core::ecosystem::Ecosystem;
use airlock_core::request::paper::{Asked, Paper};
use airlock_core::root::{Change, SignersChange};
use airlock_engine::bundle::export::{self, What};
use airlock_engine::bundle::signing::{Candidate, Trusted};
use airlock_engine::bundle::{import, verify};
use airlock_engine::error::{Error, Kind};
use airlock_engine::personal::Signer;
use airlock_engine::station::{Side, Station};
use airlock_engine::trust::{self, Accept, Limits, Whom};
use airlock_engine::{request, roots};
use airlock_testkit::{Kit, conda};
use ed25519_dalek::SigningKey;
use serde_json::json;

fn person(number: u8) -> Signer {
    Signer::Key(Box::new(SigningKey::from_bytes(&[number; 32])))
}

/// A sender with a bundle, and a receiver that trusts nobody yet.
struct Gap {
    low: Kit,
    high: Station,
}

impl Gap {
    async fn new() -> Self {
        let low = Kit::new(&[]).await;
        let mut source = low.conda_source("source");
        source.add(&conda("good", "1.0"), &json!({}));
        source.write();
        low.add_channel("main", Ecosystem::Conda, source.path(), &[]).await;
        low.sync("main").await;
        let options = low.station.options.clone();
        let high = Station::init(&low.path().join("high"), "high", Side::Isolated, options).await.unwrap();
        Self { low, high }
    }

    async fn export(&self, name: &str) -> PathBuf {
        let disk = self.low.path().join(name);
        export::export(&self.low.station, &disk, &What::default()).await.unwrap();
        disk
    }

    async fn trust(&self, name: &str, whom: Whom) {
        let print = whom.fingerprint();
        trust::add(&self.high, name, whom, &print, Limits::default()).await.unwrap();
    }

    fn key(&self) -> [u8; 32] {
        self.low.station.key.public()
    }

    /// A root whose one root key is the first person's, and whose release keys are those of these.
    fn root(&self, name: &str, release: &[u8], threshold: u32) -> PathBuf {
        let path = self.low.path().join(format!("{name}.root"));
        let signers = |of: &[u8], threshold| SignersChange {
            add: of.iter().map(|n| (format!("person {n}"), person(*n).public_key())).collect(),
            remove: Vec::new(),
            threshold: Some(threshold),
        };
        let change =
            Change { root: signers(&[1], 1), release: signers(release, threshold), valid_until: None };
        roots::create(&path, name, &change).unwrap();
        assert!(roots::sign(&path, &person(1)).unwrap().1.standing.is_complete());
        path
    }

    async fn refused(&self, disk: &Path, text: &str) -> Error {
        let error = import::import(&self.high, disk).await.unwrap_err();
        assert_eq!(error.kind, Kind::Unsafe, "{error}");
        assert!(error.message.contains(text), "expected `{text}` in: {error}");
        error
    }
}

fn lines(disk: &Path) -> Vec<SignatureLine> {
    SignatureLine::parse_all(&std::fs::read_to_string(disk.join("AIRLOCK.sig")).unwrap()).unwrap()
}

fn write_lines(disk: &Path, lines: &[SignatureLine]) {
    let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
    std::fs::write(disk.join("AIRLOCK.sig"), text).unwrap();
}

/// Lines by a key that fit nothing, each another.
fn wrong(public_key: [u8; 32], count: u8) -> Vec<SignatureLine> {
    (0..count).map(|n| SignatureLine { public_key, signature: [n; 64] }).collect()
}

#[tokio::test]
async fn a_key_that_is_trusted_for_a_link_alone_releases_nothing() {
    let gap = Gap::new().await;
    gap.trust("link", Whom::Link(gap.key())).await;
    let disk = gap.export("disk").await;
    gap.refused(&disk, "not trusted here").await;
    let trusts = trust::list(&gap.high).await.unwrap();
    let trusted = Trusted::of(&trusts).unwrap();
    assert_eq!((trusted.keys(), trusted.packet_keys()), (&[][..], &[gap.key()][..]));
    assert_eq!(verify::open(&disk, trusted).unwrap_err().kind, Kind::Unsafe);
    // What a program reads of it that does not know of links names no key.
    let told = serde_json::to_value(&trusts[0]).unwrap();
    assert_eq!(told.get("public_key"), None, "{told}");
    assert_eq!(trusts[0].fingerprint().unwrap(), gap.low.station.key.fingerprint());
    // Nor are requests taken by it.
    let asked = Asked {
        id: "r1".to_owned(),
        ecosystem: Ecosystem::Conda,
        channel: "main".to_owned(),
        spec: "zlib".to_owned(),
        asked: "2026-02-01T00:00:00Z".parse().unwrap(),
        by: None,
        reason: "why".to_owned(),
    };
    let signature = gap.low.station.key.sign(asked.to_string().as_bytes()).signature;
    let paper = gap.low.write("requests", Paper::write(&gap.key(), &[(asked, signature)]).as_bytes());
    let error = request::import(&gap.high, &paper, None).await.unwrap_err();
    assert!(error.kind == Kind::Unsafe && error.message.contains("not trusted here"), "{error}");
}

#[tokio::test]
async fn a_trust_for_a_link_has_no_limits_and_is_no_other_trust() {
    let gap = Gap::new().await;
    let print = gap.low.station.key.fingerprint();
    let add = async |name: &str, whom: Whom, limits: Limits| {
        trust::add(&gap.high, name, whom, &print, limits).await
    };
    let limits = Limits { accept: vec![Accept::Loosening], ..Limits::default() };
    let error = add("link", Whom::Link(gap.key()), limits).await.unwrap_err();
    assert!(error.kind == Kind::Usage && error.message.contains("for a link alone"), "{error}");
    add("link", Whom::Link(gap.key()), Limits::default()).await.unwrap();
    add("link", Whom::Link(gap.key()), Limits::default()).await.unwrap();
    let error = add("link", Whom::Key(gap.key()), Limits::default()).await.unwrap_err();
    assert!(error.message.contains("here already, as another key"), "{error}");
    let error = trust::add(&gap.high, "other", Whom::Link([7; 32]), &print, Limits::default()).await;
    assert_eq!(error.unwrap_err().kind, Kind::Unsafe);
    // Beside it the key may be trusted by itself, and each goes by itself.
    let disk = gap.export("disk").await;
    add("low", Whom::Key(gap.key()), Limits::default()).await.unwrap();
    import::import(&gap.high, &disk).await.unwrap();
    trust::revoke(&gap.high, "low").await.unwrap();
    gap.refused(&gap.export("next").await, "not trusted here").await;
    trust::revoke(&gap.high, "link").await.unwrap();
    assert_eq!(trust::list(&gap.high).await.unwrap(), []);
}

#[tokio::test]
async fn few_signatures_of_one_key_are_looked_at() {
    let gap = Gap::new().await;
    gap.trust("low", Whom::Key(gap.key())).await;
    let disk = gap.export("disk").await;
    let good = lines(&disk);
    // Lists of several copies that were put together, one of them damaged.
    write_lines(&disk, &[wrong(gap.key(), 3), good.clone(), good.clone(), wrong(gap.key(), 3)].concat());
    verify::open(&disk, &[gap.key()]).unwrap();
    write_lines(&disk, &[wrong(gap.key(), 200), good.clone()].concat());
    let error = gap.refused(&disk, "more than 4 different signatures of").await;
    assert!(error.hint.is_some());
    write_lines(&disk, &good);
    import::import(&gap.high, &disk).await.unwrap();
}

#[tokio::test]
async fn a_root_that_nobody_trusts_is_not_even_checked_unless_the_station_that_is_trusted_brings_it() {
    let mut gap = Gap::new().await;
    let plain = gap.export("plain").await;
    let root = gap.root("agency", &[2, 3], 2);
    gap.low.station.config.release.root = Some(root.clone());
    let disk = gap.export("disk").await;
    // A root that cannot be believed, of nobody who is known here.
    let mut broken = roots::read(&root).unwrap();
    broken.versions[0].signatures.clear();
    std::fs::write(disk.join("ROOT.json"), roots::text(&broken).unwrap()).unwrap();
    let error = gap.refused(&disk, "not trusted here").await;
    assert!(!error.message.contains("root"), "{error}");
    // The station's key is trusted, and somebody lays a root beside its bundle that it does not list: no signature of those
    // whom that names is looked at.
    gap.trust("low", Whom::Key(gap.key())).await;
    gap.refused(&disk, "is not the one that the manifest lists").await;
    std::fs::copy(&root, plain.join("ROOT.json")).unwrap();
    gap.refused(&plain, "is not the one that the manifest lists").await;
    std::fs::copy(&root, disk.join("ROOT.json")).unwrap();
    gap.refused(&disk, "is not released").await;
    for number in [2, 3] {
        Candidate::open(&disk).unwrap().sign(&person(number)).unwrap();
    }
    import::import(&gap.high, &disk).await.unwrap();
}
