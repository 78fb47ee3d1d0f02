//! Who releases bundles: k of n persons by a root, which changes by its own rules and by nobody else's.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::path::{Path, PathBuf};

use airlock_core::bundle::{Manifest, SignatureLine};
use airlock_core::canon::Canonical;
use airlock_core::ecosystem::Ecosystem;
use airlock_core::id::Digest;
use airlock_core::root::{Change, RootFile, SignersChange};
use airlock_engine::bundle::export::{self, What};
use airlock_engine::bundle::signing::Candidate;
use airlock_engine::bundle::{import, pull, resend, verify};
use airlock_engine::error::{Error, Kind};
use airlock_engine::keys::StationKey;
use airlock_engine::personal::Signer;
use airlock_engine::roots::{self, Release};
use airlock_engine::station::{Side, Station};
use airlock_engine::trust::{self, Limits, Trust, Whom};
use airlock_engine::upstream::Location;
use airlock_testkit::wire::{Ranged, Wire, answer};
use airlock_testkit::{Kit, conda};
use ed25519_dalek::SigningKey;
use serde_json::{Value, json};

/// The key of a person, by a number.
fn key(person: u8) -> Signer {
    Signer::Key(Box::new(SigningKey::from_bytes(&[person; 32])))
}

const OFFICER: u8 = 1;
const AUDITOR: u8 = 2;
const ADA: u8 = 11;
const BOB: u8 = 12;
const EVE: u8 = 13;
const DAN: u8 = 14;

fn named(keys: &[(&str, u8)]) -> Vec<(String, [u8; 32])> {
    keys.iter().map(|(name, number)| ((*name).to_owned(), key(*number).public_key())).collect()
}

fn release(add: &[(&str, u8)], remove: &[&str]) -> Change {
    let remove = remove.iter().map(|name| (*name).to_owned()).collect();
    let release = SignersChange { add: named(add), remove, threshold: None };
    Change { release, ..Change::default() }
}

/// A sender with a root of two root keys and three release keys, of which two each must sign; and a receiver.
struct Gap {
    low: Kit,
    high: Station,
    root: PathBuf,
    disks: usize,
}

impl Gap {
    async fn new() -> Self {
        let mut low = Kit::new(&[]).await;
        let mut source = low.conda_source("source");
        source.add(&conda("good", "1.0"), &json!({}));
        source.write();
        low.add_channel("main", Ecosystem::Conda, source.path(), &[]).await;
        low.sync("main").await;
        let options = low.station.options.clone();
        let high = Station::init(&low.path().join("high"), "high", Side::Isolated, options).await.unwrap();
        let root = low.path().join("agency.json");
        let signers =
            |add: &[(&str, u8)]| SignersChange { add: named(add), remove: vec![], threshold: Some(2) };
        let first = Change {
            root: signers(&[("officer", OFFICER), ("auditor", AUDITOR)]),
            release: signers(&[("ada", ADA), ("bob", BOB), ("eve", EVE)]),
            valid_until: None,
        };
        roots::create(&root, "agency", &first).unwrap();
        let gap = Self {
            high,
            root,
            disks: 0,
            low: {
                low.station.config.release = Release::default();
                low
            },
        };
        gap.sign_root();
        gap
    }

    /// Both root keys sign the newest version.
    fn sign_root(&self) {
        roots::sign(&self.root, &key(OFFICER)).unwrap();
        assert!(roots::sign(&self.root, &key(AUDITOR)).unwrap().1.standing.is_complete());
    }

    fn next(&self, change: &Change) {
        roots::change(&self.root, change).unwrap();
        self.sign_root();
    }

    /// From now on the sender's bundles are released by the root.
    fn by_root(&mut self) {
        self.low.station.config.release.root = Some(self.root.clone());
    }

    async fn trust_root(&self, name: &str, limits: Limits) -> Trust {
        let chain = roots::read_chain(&self.root).unwrap();
        let print = chain.fingerprint();
        trust::add(&self.high, name, Whom::Root(chain), &print, limits).await.unwrap()
    }

    async fn trust_key(&self) {
        let key = &self.low.station.key;
        trust::add(&self.high, "low", key.public(), &key.fingerprint(), Limits::default()).await.unwrap();
    }

    async fn export_to(&mut self, to: Option<&str>) -> PathBuf {
        self.disks += 1;
        let disk = self.low.path().join(format!("disk-{}", self.disks));
        let what = What { to: to.map(str::to_owned), ..What::default() };
        export::export(&self.low.station, &disk, &what).await.unwrap();
        disk
    }

    async fn export(&mut self) -> PathBuf {
        self.export_to(None).await
    }

    async fn released(&mut self, by: &[u8]) -> PathBuf {
        let disk = self.export().await;
        sign(&disk, by);
        disk
    }

    async fn take(&self, disk: &Path) {
        import::import(&self.high, disk).await.unwrap();
    }

    /// Imports what must be refused as unsafe, with nothing moved.
    async fn refused(&self, disk: &Path, text: &str) -> Error {
        let state = async || {
            (self.high.store.db.refs("").await.unwrap(), self.high.store.db.ledger_head().await.unwrap())
        };
        let before = state().await;
        let error = import::import(&self.high, disk).await.unwrap_err();
        assert_eq!(before, state().await, "{error}");
        assert!(error.kind == Kind::Unsafe && error.hint.is_some(), "{error:?}");
        assert!(error.message.contains(text), "expected `{text}` in: {error}");
        error
    }

    async fn known_version(&self) -> u64 {
        let trusts = trust::list(&self.high).await.unwrap();
        trusts[0].root.as_ref().unwrap().versions.len() as u64
    }

    async fn entries(&self, action: &str) -> Vec<Value> {
        let entries = self.high.store.db.ledger(1, 100).await.unwrap();
        let of_it = entries.iter().map(|(entry, _)| entry).filter(|entry| entry.action == action);
        of_it.map(|entry| serde_json::from_str(entry.detail.as_str()).unwrap()).collect()
    }
}

fn sign(disk: &Path, by: &[u8]) {
    for person in by {
        Candidate::open(disk).unwrap().sign(&key(*person)).unwrap();
    }
}

/// What somebody can do who has a station's key and these persons' keys: write any manifest and root, and sign.
fn forge(disk: &Path, station: &StationKey, by: &[u8], root: &RootFile, change: impl FnOnce(&mut Value)) {
    let text = roots::text(root).unwrap();
    std::fs::write(disk.join("ROOT.json"), &text).unwrap();
    let path = disk.join("AIRLOCK.json");
    let mut manifest: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    for file in manifest["extra"].as_array_mut().unwrap() {
        if file["path"] == "ROOT.json" {
            file["sha256"] = Digest::of(text.as_bytes()).to_string().into();
            file["size"] = text.len().into();
        }
    }
    change(&mut manifest);
    let text = Canonical::of(&manifest).unwrap();
    std::fs::write(&path, text.as_str()).unwrap();
    let mut lines = vec![station.sign(text.as_str().as_bytes())];
    lines.extend(by.iter().map(|person| key(*person).sign(text.as_str().as_bytes()).unwrap()));
    write_lines(disk, &lines);
}

fn write_lines(disk: &Path, lines: &[SignatureLine]) {
    let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
    std::fs::write(disk.join("AIRLOCK.sig"), text).unwrap();
}

fn lines(disk: &Path) -> Vec<SignatureLine> {
    SignatureLine::parse_all(&std::fs::read_to_string(disk.join("AIRLOCK.sig")).unwrap()).unwrap()
}

#[tokio::test]
async fn a_candidate_counts_when_enough_persons_signed_it_and_not_before() {
    let mut gap = Gap::new().await;
    gap.by_root();
    gap.trust_root("agency", Limits::default()).await;
    let disk = gap.export().await;
    let missing = |disk: &Path| Candidate::open(disk).unwrap().standing().unwrap().tally.missing;
    assert_eq!(missing(&disk), 2);
    gap.refused(&disk, "asks for 2 signatures, and nobody signed").await;
    sign(&disk, &[ADA]);
    gap.refused(&disk, "asks for 2 signatures, and ada signed").await;
    // One person is one person, however often they sign.
    sign(&disk, &[ADA, ADA]);
    assert_eq!((missing(&disk), lines(&disk).len()), (1, 2));
    let ada = lines(&disk)[1].clone();
    write_lines(&disk, &[lines(&disk)[0].clone(), ada.clone(), ada.clone(), ada]);
    gap.refused(&disk, "and ada signed").await;
    // Who may change the root does not release by it, and strangers do neither.
    for other in [OFFICER, AUDITOR, DAN] {
        let error = Candidate::open(&disk).unwrap().sign(&key(other)).unwrap_err();
        assert!(error.kind == Kind::Unsafe && error.message.contains("does not name"), "{error}");
    }
    let line = |person: u8| key(person).sign(&std::fs::read(disk.join("AIRLOCK.json")).unwrap()).unwrap();
    let held = lines(&disk);
    let more: Vec<_> = held.iter().cloned().chain([OFFICER, AUDITOR, DAN].map(line)).collect();
    write_lines(&disk, &more);
    gap.refused(&disk, "and ada signed").await;
    write_lines(&disk, &held);
    sign(&disk, &[BOB]);
    assert_eq!(missing(&disk), 0);
    gap.take(&disk).await;
    let told = gap.entries("bundle.import").await;
    assert_eq!(told[0]["released"]["by"], json!(["ada", "bob"]));
}

#[tokio::test]
async fn a_candidate_is_nothing_to_those_either_who_trust_the_station_by_itself() {
    let mut gap = Gap::new().await;
    gap.by_root();
    gap.trust_key().await;
    let disk = gap.export().await;
    gap.refused(&disk, "is not released").await;
    // Nor does it help to leave the root away: the manifest lists it.
    let root = std::fs::read(disk.join("ROOT.json")).unwrap();
    std::fs::remove_file(disk.join("ROOT.json")).unwrap();
    gap.refused(&disk, "is not the one that the manifest lists").await;
    std::fs::write(disk.join("ROOT.json"), root).unwrap();
    sign(&disk, &[ADA, EVE]);
    gap.take(&disk).await;
}

#[tokio::test]
async fn what_a_person_signs_was_written_by_the_station_and_is_whole() {
    let mut gap = Gap::new().await;
    let plain = gap.export().await;
    let error = Candidate::open(&plain).unwrap_err();
    assert!(error.message.contains("brings no root"), "{error}");
    gap.by_root();
    let disk = gap.export().await;
    Candidate::open(&disk).unwrap().check(1, &gap.low.station.options.progress).unwrap();
    let manifest: Manifest =
        serde_json::from_slice(&std::fs::read(disk.join("AIRLOCK.json")).unwrap()).unwrap();
    let file = disk.join(manifest.files.get(0).unwrap().path.text());
    let bytes = std::fs::read(&file).unwrap();
    std::fs::write(&file, vec![0; bytes.len()]).unwrap();
    let error = Candidate::open(&disk).unwrap().check(1, &gap.low.station.options.progress).unwrap_err();
    assert!(error.message.contains("was changed or is damaged"), "{error}");
    std::fs::write(&file, bytes).unwrap();
    // The station's own line is missing.
    let message = std::fs::read(disk.join("AIRLOCK.json")).unwrap();
    write_lines(&disk, &[key(ADA).sign(&message).unwrap(), key(BOB).sign(&message).unwrap()]);
    assert!(Candidate::open(&disk).unwrap_err().message.contains("another sender"));
    gap.trust_root("agency", Limits::default()).await;
    gap.refused(&disk, "another sender").await;
}

#[tokio::test]
async fn what_a_kill_leaves_while_a_person_signs_is_no_part_of_the_bundle() {
    let mut gap = Gap::new().await;
    gap.by_root();
    gap.trust_root("agency", Limits::default()).await;
    let disk = gap.released(&[ADA, BOB]).await;
    std::fs::write(disk.join("._AIRLOCK.x1y2z3"), "ed25519 0").unwrap();
    gap.take(&disk).await;
}

#[tokio::test]
async fn a_stolen_release_key_is_worth_nothing_once_its_revocation_arrived() {
    let mut gap = Gap::new().await;
    gap.by_root();
    gap.trust_root("agency", Limits::default()).await;
    let old = roots::read(&gap.root).unwrap();
    let first = gap.released(&[ADA, BOB]).await;
    gap.take(&first).await;
    // Signed while those keys were good, and not taken in yet.
    let late = gap.released(&[BOB, EVE]).await;
    // Bob's and Eve's keys are stolen. The next version goes without them, and arrives with a bundle.
    gap.next(&release(&[("dan", DAN)], &["bob", "eve"]));
    let second = gap.released(&[ADA, DAN]).await;
    assert_eq!(gap.known_version().await, 1);
    gap.take(&second).await;
    assert_eq!(gap.known_version().await, 2);
    let told = gap.entries("trust.root").await;
    assert_eq!((&told[0]["from"], &told[0]["version"]), (&json!(1), &json!(2)));
    // The thief has the station's key, too, and brings either root.
    let third = gap.export().await;
    let new = roots::read(&gap.root).unwrap();
    for root in [&old, &new] {
        forge(&third, &gap.low.station.key, &[BOB, EVE], root, |_| ());
        gap.refused(&third, "version 2 of root `agency` asks for 2 signatures, and nobody signed").await;
    }
    // One of the two that are good is not enough with one that is stolen.
    forge(&third, &gap.low.station.key, &[ADA, BOB], &old, |_| ());
    gap.refused(&third, "and ada signed").await;
    gap.refused(&late, "version 2 of root").await;
    // With the older root it is good if those sign whom the newest names, and the newest stays.
    forge(&third, &gap.low.station.key, &[ADA, DAN], &old, |_| ());
    gap.take(&third).await;
    assert_eq!(gap.known_version().await, 2);
}

#[tokio::test]
async fn a_revocation_arrives_without_a_bundle_too() {
    let mut gap = Gap::new().await;
    gap.by_root();
    gap.trust_root("agency", Limits::default()).await;
    gap.trust_root("again", Limits { stream: Some("another".to_owned()), ..Limits::default() }).await;
    let disk = gap.released(&[BOB, EVE]).await;
    roots::change(&gap.root, &release(&[("dan", DAN)], &["bob"])).unwrap();
    assert!(roots::read_chain(&gap.root).unwrap_err().message.contains("lacks 2 of the signatures"));
    gap.sign_root();
    let chain = roots::read_chain(&gap.root).unwrap();
    assert_eq!(trust::update(&gap.high, &chain).await.unwrap(), ["again", "agency"]);
    assert!(trust::update(&gap.high, &chain).await.unwrap().is_empty());
    gap.refused(&disk, "and eve signed").await;
    // Both trusts know it now.
    for trust in trust::list(&gap.high).await.unwrap() {
        assert_eq!(trust.fingerprint().unwrap(), chain.fingerprint());
    }
    sign(&disk, &[ADA]);
    gap.take(&disk).await;
    let strange = Gap::new().await;
    let other = roots::read_chain(&strange.root).unwrap();
    let renamed = trust::update(&strange.high, &other).await.unwrap_err();
    assert!(renamed.message.contains("is not trusted here"), "{renamed}");
}

#[tokio::test]
async fn one_key_that_lies_on_the_line_cannot_replace_its_own_root() {
    let mut gap = Gap::new().await;
    let station = gap.low.station.key.clone();
    // The station releases by itself: one of one.
    let mut change = release(&[], &["ada", "bob", "eve"]);
    change.release.add = vec![("the station".to_owned(), station.public())];
    change.release.threshold = Some(1);
    gap.next(&change);
    gap.by_root();
    gap.trust_root("agency", Limits::default()).await;
    let disk = gap.export().await;
    gap.take(&disk).await;
    // Whoever takes its key makes a version in which it is all there is, and signs that.
    let mut file = roots::read(&gap.root).unwrap();
    let last = file.versions.last().unwrap().root.clone();
    let usurper = SigningKey::from_bytes(&[99; 32]);
    let theirs = Change {
        root: SignersChange {
            add: vec![("me".to_owned(), usurper.verifying_key().to_bytes())],
            remove: vec!["officer".to_owned(), "auditor".to_owned()],
            threshold: Some(1),
        },
        ..Change::default()
    };
    let root = last.next(&theirs).unwrap();
    let message = root.message().unwrap();
    let by_station = station.sign(&message).to_string();
    let by_usurper = Signer::Key(Box::new(usurper)).sign(&message).unwrap().to_string();
    file.versions.push(airlock_core::root::SignedRoot { root, signatures: vec![by_station, by_usurper] });
    let next = gap.export().await;
    forge(&next, &station, &[], &file, |_| ());
    gap.refused(&next, "lacks 2 of the signatures that the root keys before it ask for").await;
    // Nor may the owners make the station's key a root key by mistake.
    let mut change = release(&[("ada", ADA)], &["the station"]);
    change.root.add = vec![("the station".to_owned(), station.public())];
    roots::change(&gap.root, &change).unwrap();
    gap.sign_root();
    let error =
        export::export(&gap.low.station, &gap.low.path().join("x"), &What::default()).await.unwrap_err();
    assert!(error.kind == Kind::Usage && error.message.contains("among its root keys"), "{error}");
    forge(&next, &station, &[ADA], &roots::read(&gap.root).unwrap(), |_| ());
    gap.refused(&next, "the sender's own key is a root key").await;
}

#[tokio::test]
async fn two_histories_of_one_root_are_told_and_neither_is_followed() {
    let mut gap = Gap::new().await;
    gap.by_root();
    gap.trust_root("agency", Limits::default()).await;
    let fork = roots::read(&gap.root).unwrap();
    gap.next(&release(&[("dan", DAN)], &[]));
    let disk = gap.released(&[ADA, BOB]).await;
    gap.take(&disk).await;
    std::fs::write(&gap.root, roots::text(&fork).unwrap()).unwrap();
    gap.next(&release(&[("eve's sister", DAN)], &[]));
    let chain = roots::read_chain(&gap.root).unwrap();
    assert!(trust::update(&gap.high, &chain).await.unwrap_err().message.contains("two different versions 2"));
    let disk = gap.released(&[ADA, BOB]).await;
    gap.refused(&disk, "two different versions 2 of this root").await;
}

#[tokio::test]
async fn a_root_is_trusted_by_the_fingerprint_of_its_newest_version() {
    let gap = Gap::new().await;
    let first = roots::read_chain(&gap.root).unwrap();
    gap.next(&release(&[("dan", DAN)], &[]));
    let second = roots::read_chain(&gap.root).unwrap();
    assert_eq!((first.identity(), first.fingerprint() == second.fingerprint()), (second.identity(), false));
    let add = async |chain: &airlock_core::root::Chain, typed: &str| {
        trust::add(&gap.high, "agency", Whom::Root(chain.clone()), typed, Limits::default()).await
    };
    let error = add(&second, &first.fingerprint()).await.unwrap_err();
    assert!(error.kind == Kind::Unsafe && error.message.contains("not the one that was typed"), "{error}");
    add(&second, &second.fingerprint()).await.unwrap();
    add(&second, &second.fingerprint()).await.unwrap();
    // Who knows the second version does not go back to the first, by whatever name.
    let error = add(&first, &first.fingerprint()).await.unwrap_err();
    assert!(error.message.contains("a newer version of this root is known"), "{error}");
    // Nor does who trusts it no longer, as to change a limit.
    trust::revoke(&gap.high, "agency").await.unwrap();
    let error = add(&first, &first.fingerprint()).await.unwrap_err();
    assert!(error.message.contains("a newer version of this root is known"), "{error}");
    add(&second, &second.fingerprint()).await.unwrap();
}

#[tokio::test]
async fn a_stream_of_a_key_comes_under_a_root_by_both_and_never_goes_back() {
    let mut gap = Gap::new().await;
    gap.trust_key().await;
    let first = gap.export().await;
    gap.take(&first).await;
    gap.by_root();
    gap.trust_root("agency", Limits::default()).await;
    let second = gap.released(&[ADA, BOB]).await;
    gap.take(&second).await;
    gap.low.station.config.release = Release::default();
    let third = gap.export().await;
    let error = gap.refused(&third, "belongs to a root").await;
    assert!(error.hint.unwrap().contains("airlock sign"));
}

#[tokio::test]
async fn another_root_takes_no_stream_over() {
    let mut gap = Gap::new().await;
    gap.by_root();
    gap.trust_root("agency", Limits::default()).await;
    let first = gap.released(&[ADA, BOB]).await;
    gap.take(&first).await;
    // The same persons release for another agency, too, which is trusted as well.
    let second = gap.released(&[ADA, BOB]).await;
    let mut other = roots::read(&gap.root).unwrap();
    other.versions[0].root.name = "others".to_owned();
    other.versions[0].signatures.clear();
    gap.root = gap.low.path().join("others.json");
    std::fs::write(&gap.root, roots::text(&other).unwrap()).unwrap();
    gap.sign_root();
    gap.trust_root("others", Limits::default()).await;
    forge(&second, &gap.low.station.key, &[ADA, BOB], &roots::read(&gap.root).unwrap(), |_| ());
    gap.refused(&second, "belongs to another root").await;
}

#[tokio::test]
async fn a_station_with_another_key_goes_on_with_a_stream_of_its_root() {
    let mut gap = Gap::new().await;
    gap.by_root();
    gap.trust_root("agency", Limits::default()).await;
    let first = gap.released(&[ADA, BOB]).await;
    gap.take(&first).await;
    let stream = export::stream_of(&gap.low.station, None);
    gap.low.station.key = StationKey::create(&gap.low.path().join("other-keys")).unwrap();
    gap.low.station.config.release.stream = Some(stream.strip_suffix("-to-all").unwrap().to_owned());
    assert_eq!(export::stream_of(&gap.low.station, None), stream);
    let second = gap.released(&[ADA, EVE]).await;
    gap.take(&second).await;
}

#[tokio::test]
async fn a_bundle_for_another_station_is_refused_by_one_that_knows_what_it_is_called() {
    let mut gap = Gap::new().await;
    gap.by_root();
    let limits = Limits { recipient: Some("high".to_owned()), ..Limits::default() };
    gap.trust_root("agency", limits).await;
    let disk = gap.export_to(Some("lab")).await;
    sign(&disk, &[ADA, BOB]);
    gap.refused(&disk, "is meant for `lab`").await;
    let disk = gap.export_to(Some("high")).await;
    sign(&disk, &[ADA, BOB]);
    gap.take(&disk).await;
}

#[tokio::test]
async fn a_root_that_ended_releases_nothing_until_a_newer_version_does() {
    let mut gap = Gap::new().await;
    let until = |text: &str| Change { valid_until: Some(text.parse().unwrap()), ..Change::default() };
    gap.next(&until("2020-01-01T00:00:00Z"));
    gap.trust_root("agency", Limits::default()).await;
    gap.by_root();
    let error =
        export::export(&gap.low.station, &gap.low.path().join("x"), &What::default()).await.unwrap_err();
    assert!(error.message.contains("ended at 2020"), "{error}");
    gap.next(&until("2099-01-01T00:00:00Z"));
    let disk = gap.released(&[ADA, BOB]).await;
    let ended = RootFile { versions: roots::read(&gap.root).unwrap().versions[..2].to_vec() };
    let copy = roots::read(&gap.root).unwrap();
    forge(&disk, &gap.low.station.key, &[ADA, BOB], &ended, |_| ());
    gap.refused(&disk, "ended at 2020").await;
    forge(&disk, &gap.low.station.key, &[ADA, BOB], &copy, |_| ());
    gap.take(&disk).await;
}

#[tokio::test]
async fn a_root_is_enough_to_verify_a_bundle_without_a_station() {
    let mut gap = Gap::new().await;
    gap.by_root();
    let disk = gap.export().await;
    let known = roots::read_chain(&gap.root).unwrap();
    assert!(verify::open(&disk, known.clone()).is_err());
    sign(&disk, &[BOB, ADA]);
    let opened = verify::open(&disk, known).unwrap();
    assert_eq!(opened.by.root().unwrap().newest().name, "agency");
    assert!(verify::open(&disk, &[key(ADA).public_key()]).is_err());
}

#[tokio::test]
async fn volumes_are_released_one_by_one_and_what_is_written_again_is_released_again() {
    let mut gap = Gap::new().await;
    let mut source = gap.low.conda_source("source");
    for n in 0..4u32 {
        let payload: Vec<u8> =
            (0..50_000u32).map(|i| (i.wrapping_mul(2_654_435_761 + n) >> 13) as u8).collect();
        let content: [(&str, &[u8]); 1] = [("share/data", &payload)];
        let name = format!("p{n}");
        let mut package = conda(&name, "1.0");
        package.files = &content;
        source.add(&package, &json!({}));
    }
    source.write();
    gap.low.sync("main").await;
    gap.by_root();
    gap.trust_root("agency", Limits::default()).await;
    let disk = gap.low.path().join("split");
    let what = What { capacities: vec![400_000], ..What::default() };
    let report = export::export(&gap.low.station, &disk, &what).await.unwrap();
    let all: Vec<PathBuf> = report.volumes.iter().map(|volume| volume.folder.clone()).collect();
    assert!(all.len() > 1 && report.release.unwrap().tally.missing == 2, "{all:?}");
    for volume in &all {
        gap.refused(volume, "is not released").await;
        sign(volume, &[ADA, BOB]);
    }
    // The last volume is lost; the sender writes it again, and signs it alone.
    let (last, first) = all.split_last().unwrap();
    let taken = import::import_parts(&gap.high, first).await.unwrap().taken;
    let again = gap.low.path().join("again");
    let missing = taken.incomplete.unwrap().missing;
    resend::resend(&gap.low.station, &again, &report.stream, &missing).await.unwrap();
    assert_eq!(
        std::fs::read(again.join("ROOT.json")).unwrap(),
        std::fs::read(last.join("ROOT.json")).unwrap()
    );
    gap.refused(&again, "is not released").await;
    sign(&again, &[EVE, BOB]);
    assert!(import::import_parts(&gap.high, &[again]).await.unwrap().taken.incomplete.is_none());
    assert!(!gap.entries("bundle.import").await.is_empty());
}

#[tokio::test]
async fn a_published_bundle_is_taken_by_its_root() {
    let mut gap = Gap::new().await;
    gap.by_root();
    gap.trust_root("agency", Limits::default()).await;
    gap.high.config.hosts.push("127.0.0.1".to_owned());
    let disk = gap.export().await;
    let folder = disk.clone();
    let wire = Wire::start(move |request, _| {
        match std::fs::read(folder.join(request.target.trim_start_matches("/b/"))) {
            Ok(bytes) => Ranged::new(bytes).answer(request),
            Err(_) => answer("404 Not Found", &[], "no"),
        }
    })
    .await;
    let at = Location::parse(&format!("{}/b", wire.base)).unwrap();
    let error = pull::import(&gap.high, &at).await.unwrap_err();
    assert!(error.message.contains("is not released"), "{error}");
    sign(&disk, &[ADA, BOB]);
    assert_eq!(pull::import(&gap.high, &at).await.unwrap().number, 1);
}
