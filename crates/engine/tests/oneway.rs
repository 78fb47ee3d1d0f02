//! Bundles over a one-way link: through losses, gaps, disorder and enemies, bit by bit or not at all.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::net::{SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use airlock_core::id::Digest;
use airlock_core::root::{Change, SignersChange};
use airlock_engine::bundle::export::{self, What};
use airlock_engine::bundle::signing::Candidate;
use airlock_engine::bundle::{import, verify};
use airlock_engine::error::{Error, Kind};
use airlock_engine::oneway::receive::{self, Dropped, Outcome, Report, Told};
use airlock_engine::oneway::send;
use airlock_engine::personal::Signer;
use airlock_engine::roots;
use airlock_engine::station::{Side, Station};
use airlock_engine::trust::{self, Whom};
use airlock_testkit::Kit;
use airlock_testkit::bundles::{self, believe, content, resign};
use airlock_testkit::relay::Relay;
use ed25519_dalek::SigningKey;
use serde_json::{Value, json};

const NO_GAP: Duration = Duration::ZERO;

/// Two stations that trust each other, and a spool.
struct Gap {
    low: Kit,
    high: Station,
    disks: usize,
}

impl Gap {
    async fn new() -> Self {
        Self::believing(Whom::Key).await
    }

    /// Both trust each other so far.
    async fn believing(whom: fn([u8; 32]) -> Whom) -> Self {
        let low = bundles::sender().await;
        let options = low.station.options.clone();
        let high = Station::init(&low.path().join("high"), "high", Side::Isolated, options).await.unwrap();
        believe_as(&high, &low.station, whom).await;
        believe_as(&low.station, &high, whom).await;
        Self { low, high, disks: 0 }
    }

    /// A bundle with files of these sizes besides what it has, signed by the sender.
    async fn bundle(&mut self, sizes: &[usize]) -> PathBuf {
        self.disks += 1;
        let disk = self.low.path().join(format!("disk-{}", self.disks));
        bundles::export(&self.low.station, &disk, sizes).await;
        disk
    }

    fn spool(&self) -> PathBuf {
        self.low.path().join("spool")
    }

    fn send_wish(&self, to: SocketAddr) -> send::Wish {
        let to = format!("udp://{to}");
        send::Wish { to, rate: 300_000_000, repair: None, mtu: None, only: None, recipient: None }
    }

    fn receive_wish(&self, memory: usize) -> receive::Wish {
        receive::Wish {
            listen: "udp://127.0.0.1:0".to_owned(),
            into: self.spool(),
            once: true,
            silence: Duration::from_secs(3),
            quota: None,
            keep: Duration::from_secs(3600),
            memory,
        }
    }

    /// Receives one sending while `sending` is done to where it is received.
    async fn receive<T>(&self, sending: impl AsyncFnOnce(SocketAddr) -> T) -> (T, Report, Dropped) {
        self.receive_in(receive::MEMORY_DEFAULT, |_| (), sending).await
    }

    /// The same with so many bytes of memory; each report is told, too.
    async fn receive_in<T>(
        &self,
        memory: usize,
        each: impl Fn(&Report) + Send + 'static,
        sending: impl AsyncFnOnce(SocketAddr) -> T,
    ) -> (T, Report, Dropped) {
        let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
        let wish = self.receive_wish(memory);
        let listening = move |what: Told<'_>| match what {
            Told::Listening { address, .. } => tell.send(address).unwrap(),
            Told::Sending(report, _) => each(report),
        };
        let sending = async {
            let address = told.recv().await.unwrap();
            sending(address).await
        };
        let (received, sent) = tokio::join!(receive::receive(&self.high, wish, listening), sending);
        let (report, dropped) = received.unwrap();
        (sent, report, dropped)
    }

    /// Sends a bundle through a relay.
    async fn cross(
        &self,
        disk: &Path,
        only: Option<PathBuf>,
        relay: impl FnOnce(SocketAddr) -> Relay,
    ) -> (send::Report, Report, Dropped) {
        let (sent, report, dropped) = self
            .receive(async |address| {
                let relay = relay(address);
                let wish = send::Wish { only, ..self.send_wish(relay.address) };
                send::send(&self.low.station, disk, &wish).await.unwrap()
            })
            .await;
        (sent, report, dropped)
    }

    /// Makes a pipe where a file of the bundle is to be written: writing it waits for a reader.
    fn pipe(&self, disk: &Path) -> PathBuf {
        let manifest = std::fs::read(disk.join("AIRLOCK.json")).unwrap();
        let folder = self.spool().join("incoming").join(Digest::of(&manifest).to_string());
        let manifest: Value = serde_json::from_slice(&manifest).unwrap();
        let pipe = folder.join(manifest["files"][0]["path"].as_str().unwrap());
        std::fs::create_dir_all(pipe.parent().unwrap()).unwrap();
        let kind = rustix::fs::FileType::Fifo;
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, kind, rustix::fs::Mode::RWXU, 0).unwrap();
        pipe
    }

    /// What stands under a bundle's name in the spool.
    fn delivered(&self) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(self.spool()).unwrap();
        entries.map(|e| e.unwrap().path()).filter(|p| !p.ends_with("incoming")).collect()
    }

    fn incoming(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.spool().join("incoming")).unwrap();
        let mut names: Vec<String> = entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.retain(|name| !name.starts_with("session-") && name != "lock");
        names.sort();
        names
    }
}

async fn believe_as(one: &Station, other: &Station, whom: fn([u8; 32]) -> Whom) {
    let print = other.key.fingerprint();
    trust::add(one, "peer", whom(other.key.public()), &print, trust::Limits::default()).await.unwrap();
}

fn sizes() -> Vec<usize> {
    let small = (1..300).map(|n| n * 37 % 12_000);
    small.chain([0, 8820, 8821, 20 << 20, 17 << 20]).collect()
}

fn is_complete(report: &Report) -> bool {
    matches!(report.outcome, Outcome::Complete { .. })
}

fn whole(report: &Report, gap: &Gap, disk: &Path) {
    let Outcome::Complete { bundle, .. } = &report.outcome else { panic!("{report:?}") };
    assert_eq!(gap.delivered(), std::slice::from_ref(bundle));
    assert_eq!(content(bundle), content(disk));
    let opened = verify::open(bundle, &[gap.low.station.key.public()]).unwrap();
    opened.check_listing().unwrap();
    assert_eq!(gap.incoming(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bundle_crosses_a_good_link_bit_by_bit() {
    let mut gap = Gap::new().await;
    let disk = gap.bundle(&sizes()).await;
    let (sent, report, dropped) = gap.cross(&disk, None, |to| Relay::start(to, |p, send| send(p))).await;
    whole(&report, &gap, &disk);
    assert_eq!(report.arrived, sent.bytes);
    assert_eq!((dropped.strangers, dropped.forged, dropped.replayed), (0, 0, 0));
    // Again: it is here already, and nobody writes over it.
    let (_, report, _) = gap.cross(&disk, None, |to| Relay::start(to, |p, send| send(p))).await;
    whole(&report, &gap, &disk);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bundle_crosses_losses_gaps_reordering_and_copies_bit_by_bit() {
    let mut gap = Gap::new().await;
    let disk = gap.bundle(&sizes()).await;
    let bad = |to| Relay::bad(to, 10, Duration::from_millis(50), true);
    let (_, report, _) = gap.cross(&disk, None, bad).await;
    whole(&report, &gap, &disk);
    let counts = report.counts;
    assert!(counts.lost > 0 && counts.restored > 0 && counts.repeated > 0, "{counts:?}");
    std::fs::remove_dir_all(gap.spool()).unwrap();
    let (_, report, _) = gap.cross(&disk, None, |to| Relay::bad(to, 50, NO_GAP, false)).await;
    whole(&report, &gap, &disk);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_arrived_beyond_repair_is_kept_and_the_list_completes_it() {
    let mut gap = Gap::new().await;
    let disk = gap.bundle(&sizes()).await;
    let (first, report, _) = gap.cross(&disk, None, |to| Relay::bad(to, 450, NO_GAP, false)).await;
    let Outcome::Incomplete { list, missing_bytes, .. } = &report.outcome else { panic!("{report:?}") };
    assert!(gap.delivered().is_empty(), "nobody believes that it arrived");
    assert_eq!(report.arrived, first.bytes - missing_bytes);
    assert!(report.arrived > first.bytes / 3, "{report:?}");
    let list = list.clone();
    let good = |to| Relay::start(to, |p, send| send(p));
    let (second, report, _) = gap.cross(&disk, Some(list), good).await;
    whole(&report, &gap, &disk);
    assert_eq!(second.bytes, *missing_bytes);
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_forgers_and_those_who_replay_change_nothing_and_are_counted() {
    let mut gap = Gap::new().await;
    let disk = gap.bundle(&[300_000, 40_000]).await;
    let heard = Arc::new(Mutex::new(Vec::new()));
    let record = heard.clone();
    let enemy = move |to| {
        Relay::start(to, move |packet, send| {
            // Every kind of damage, before the genuine packet.
            for at in [0, 9, 12, 17, 25, 39, 41, 60, packet.len() - 1] {
                let mut forged = packet.to_vec();
                forged[at] ^= 0x40;
                send(&forged);
            }
            send(&packet[..packet.len() - 1]);
            send(b"hello");
            send(packet);
            record.lock().unwrap().push(packet.to_vec());
        })
    };
    let (sent, report, dropped) = gap.cross(&disk, None, enemy).await;
    whole(&report, &gap, &disk);
    let heard = std::mem::take(&mut *heard.lock().unwrap());
    assert!(dropped.forged >= 4 * heard.len() as u64 / 2, "{dropped:?} of {}", heard.len());
    assert!(dropped.strangers >= 2 * heard.len() as u64 / 2, "{dropped:?} of {}", heard.len());
    assert!(report.counts.received <= sent.packets);
    // All of it again, from the first packet to the last, then a bundle that is genuine.
    std::fs::remove_dir_all(gap.delivered().first().unwrap()).unwrap();
    let next = gap.bundle(&[50_000]).await;
    let (_, report, dropped) = gap
        .receive(async |address| {
            let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
            for packet in &heard {
                socket.send_to(packet, address).unwrap();
                tokio::time::sleep(Duration::from_micros(300)).await;
            }
            send::send(&gap.low.station, &next, &gap.send_wish(address)).await.unwrap()
        })
        .await;
    whole(&report, &gap, &next);
    assert_eq!(dropped.replayed, heard.len() as u64);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_station_that_is_not_trusted_is_not_heard() {
    let mut gap = Gap::new().await;
    let disk = gap.bundle(&[10_000]).await;
    let other = Kit::new(&[]).await;
    believe(&other.station, &gap.high).await;
    let theirs = other.path().join("disk");
    export::export(&other.station, &theirs, &What { advisories: true, ..What::default() }).await.unwrap();
    let (sent, report, dropped) = gap
        .receive(async |address| {
            let wish = gap.send_wish(address);
            let sent = send::send(&other.station, &theirs, &wish).await.unwrap();
            send::send(&gap.low.station, &disk, &wish).await.unwrap();
            sent
        })
        .await;
    whole(&report, &gap, &disk);
    assert_eq!(dropped.strangers, sent.packets);
}

fn person(number: u8) -> Signer {
    Signer::Key(Box::new(SigningKey::from_bytes(&[number; 32])))
}

/// A root whose release keys are those of two persons, of whom both must sign.
fn root_of_two(dir: &Path) -> PathBuf {
    let path = dir.join("agency.root");
    let signers = |of: &[u8]| SignersChange {
        add: of.iter().map(|n| (format!("person {n}"), person(*n).public_key())).collect(),
        remove: Vec::new(),
        threshold: Some(u32::try_from(of.len()).unwrap()),
    };
    let change = Change { root: signers(&[1]), release: signers(&[2, 3]), valid_until: None };
    roots::create(&path, "agency", &change).unwrap();
    roots::sign(&path, &person(1)).unwrap();
    path
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bundle_that_two_persons_released_crosses_a_link_whose_key_releases_nothing() {
    let mut gap = Gap::believing(Whom::Link).await;
    let root = root_of_two(gap.low.path());
    let chain = roots::read_chain(&root).unwrap();
    let print = chain.fingerprint();
    trust::add(&gap.high, "agency", Whom::Root(chain), &print, trust::Limits::default()).await.unwrap();
    let bad = |to| Relay::bad(to, 30, NO_GAP, true);
    // What the station signed alone comes over the link, and is not taken in.
    let own = gap.bundle(&[100_000]).await;
    let (_, report, dropped) = gap.cross(&own, None, bad).await;
    let Outcome::Refused { error } = &report.outcome else { panic!("{report:?}") };
    assert!(error.kind == Kind::Unsafe && error.message.contains("not trusted here"), "{error}");
    assert_eq!((dropped.strangers, dropped.forged), (0, 0));
    gap.low.station.config.release.root = Some(root);
    let disk = gap.low.path().join("released");
    export::export(&gap.low.station, &disk, &What::default()).await.unwrap();
    let refused = send::send(&gap.low.station, &disk, &gap.send_wish("127.0.0.1:9".parse().unwrap())).await;
    assert!(refused.unwrap_err().message.contains("is not released"), "a candidate is not even sent");
    for number in [2, 3] {
        Candidate::open(&disk).unwrap().sign(&person(number)).unwrap();
    }
    let (_, report, _) = gap.cross(&disk, None, bad).await;
    let Outcome::Complete { bundle, .. } = &report.outcome else { panic!("{report:?}") };
    assert_eq!(content(bundle), content(&disk));
    let taken = import::import(&gap.high, bundle).await.unwrap();
    assert_eq!(taken.sender, "agency");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_manifest_whose_first_copies_are_lost_finds_room_beside_the_data() {
    let mut gap = Gap::new().await;
    let disk = gap.bundle(&[&[8; 8_000][..], &[32 << 20]].concat()).await;
    let document = std::fs::metadata(disk.join("AIRLOCK.json")).unwrap().len();
    let memory = 16 << 20;
    assert!(16 * document > memory, "data fills the memory before the document comes again: {document}");
    // A receiver that begins to listen in the middle.
    let late = |to| {
        let mut is_data = false;
        Relay::start(to, move |packet, send| {
            let (is_symbol, is_document) = (packet[4] == 1, packet[12] & 0x80 != 0);
            is_data |= is_symbol && !is_document;
            if is_data || !is_symbol {
                send(packet);
            }
        })
    };
    let send_by = async |relay: Relay, only| {
        let wish = gap.send_wish(relay.address);
        let wish = send::Wish { rate: 150_000_000, mtu: Some(1500), only, ..wish };
        send::send(&gap.low.station, &disk, &wish).await.unwrap()
    };
    let memory = usize::try_from(memory).unwrap();
    let (_, report, _) = gap.receive_in(memory, |_| (), async |to| send_by(late(to), None).await).await;
    let Outcome::Incomplete { list, .. } = &report.outcome else { panic!("{report:?}") };
    assert!(report.counts.overrun > 0 && report.arrived > 4 << 20, "{report:?}");
    let good = |to| Relay::start(to, |packet, send| send(packet));
    let list = Some(list.clone());
    let (_, report, _) = gap.receive_in(memory, |_| (), async |to| send_by(good(to), list).await).await;
    whole(&report, &gap, &disk);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sending_that_ends_on_a_slow_disk_holds_up_no_other() {
    let mut gap = Gap::new().await;
    let slow = gap.bundle(&[50_000]).await;
    let other = Kit::new(&[]).await;
    let (key, print) = (other.station.key.public(), other.station.key.fingerprint());
    trust::add(&gap.high, "other", key, &print, trust::Limits::default()).await.unwrap();
    believe(&other.station, &gap.high).await;
    let theirs = other.path().join("disk");
    export::export(&other.station, &theirs, &What { advisories: true, ..What::default() }).await.unwrap();
    let pipe = gap.pipe(&slow);
    let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
    let each = move |report: &Report| tell.send(is_complete(report)).unwrap();
    let sending = async |to| {
        send::send(&gap.low.station, &slow, &gap.send_wish(to)).await.unwrap();
        tokio::time::sleep(Duration::from_secs(1)).await;
        send::send(&other.station, &theirs, &gap.send_wish(to)).await.unwrap();
        let first = tokio::time::timeout(Duration::from_secs(20), told.recv()).await;
        let reader = pipe.clone();
        tokio::task::spawn_blocking(move || std::fs::read(reader)).await.unwrap().unwrap();
        first
    };
    let (first, report, _) = gap.receive_in(receive::MEMORY_DEFAULT, each, sending).await;
    assert_eq!(first, Ok(Some(true)), "the other bundle is whole while the first one is being written");
    let Outcome::Complete { stream, .. } = &report.outcome else { panic!("{report:?}") };
    assert!(stream.starts_with(&other.station.config.name), "{stream}");
}

#[tokio::test(flavor = "multi_thread")]
async fn however_often_a_sending_begins_anew_only_some_are_written_to_their_ends_at_once() {
    let mut gap = Gap::new().await;
    let slow = gap.bundle(&[50_000]).await;
    let pipe = gap.pipe(&slow);
    let sending = async |to| {
        // It waits for a reader, and all others for it.
        send::send(&gap.low.station, &slow, &gap.send_wish(to)).await.unwrap();
        let mut sendings = tokio::task::JoinSet::new();
        for _ in 0..30 {
            let (low, slow, wish) = (gap.low.station.clone(), slow.clone(), gap.send_wish(to));
            // Two that begin at the same moment are told so.
            sendings.spawn(async move { drop(send::send(&low, &slow, &wish).await) });
            tokio::time::sleep(Duration::from_millis(30)).await;
        }
        sendings.join_all().await;
        std::fs::OpenOptions::new().read(true).write(true).open(&pipe).unwrap()
    };
    let (_pipe, report, dropped) = gap.receive(sending).await;
    assert!(!is_complete(&report), "{report:?}");
    assert!(dropped.crowded > 0, "{dropped:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_manifest_that_no_trusted_key_signed_makes_no_state() {
    let mut gap = Gap::new().await;
    let disk = gap.bundle(&[10_000]).await;
    let other = Kit::new(&[]).await;
    let limits = trust::Limits::default();
    let (key, print) = (other.station.key.public(), other.station.key.fingerprint());
    trust::add(&gap.low.station, "other", key, &print, limits).await.unwrap();
    resign(&other.station, &disk, |manifest| {
        manifest["sender"]["public_key"] = json!(other.station.key.public_hex());
    });
    let pem = gap.low.write("high.pub", gap.high.key.public_pem().unwrap().as_bytes());
    let (_, report, _) = gap
        .receive(async |address| {
            let wish = send::Wish { recipient: Some(pem), ..gap.send_wish(address) };
            send::send(&gap.low.station, &disk, &wish).await.unwrap()
        })
        .await;
    let Outcome::Refused { error } = &report.outcome else { panic!("{report:?}") };
    assert!(error.kind == Kind::Unsafe && error.message.contains("not trusted"), "{error}");
    assert_eq!(gap.incoming(), Vec::<String>::new());
    assert!(gap.delivered().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_changed_on_the_senders_disk_is_missing_and_never_believed() {
    let mut gap = Gap::new().await;
    let disk = gap.bundle(&[200_000, 18 << 20]).await;
    let good = |to| Relay::start(to, |p, send| send(p));
    let path = content(&disk.join("files")).into_keys().next().unwrap();
    let path = disk.join("files").join(path);
    let bytes = std::fs::read(&path).unwrap();
    let mut changed = bytes.clone();
    *changed.last_mut().unwrap() ^= 1;
    std::fs::write(&path, changed).unwrap();
    let (_, report, _) = gap.cross(&disk, None, good).await;
    let Outcome::Incomplete { list, missing_files, missing_bytes, .. } = &report.outcome else {
        panic!("{report:?}")
    };
    assert_eq!((*missing_files, *missing_bytes), (1, bytes.len() as u64));
    assert!(gap.delivered().is_empty());
    let text = std::fs::read_to_string(list).unwrap();
    assert!(text.contains(&format!("whole {}", path.strip_prefix(&disk).unwrap().display())), "{text}");
    std::fs::write(&path, &bytes).unwrap();
    let (_, report, _) = gap.cross(&disk, Some(list.clone()), good).await;
    whole(&report, &gap, &disk);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_spool_says_to_have_and_does_not_is_missing_again() {
    let mut gap = Gap::new().await;
    let disk = gap.bundle(&[6 << 20, 5 << 20]).await;
    let (_, report, _) = gap.cross(&disk, None, |to| Relay::bad(to, 450, NO_GAP, false)).await;
    let Outcome::Incomplete { list, manifest, .. } = &report.outcome else { panic!("{report:?}") };
    // As after a power failure: the record is there, with a torn end, and bytes of what it tells of are not.
    let folder = gap.spool().join("incoming").join(manifest.to_string());
    for path in content(&folder).into_keys().filter(|path| path.starts_with("files")) {
        std::fs::write(folder.join(path), b"").unwrap();
    }
    let record = gap.spool().join(format!("incoming/{manifest}.have"));
    let torn = [std::fs::read(&record).unwrap(), b"+123".to_vec()].concat();
    std::fs::write(&record, torn).unwrap();
    let good = |to| Relay::start(to, |p, send| send(p));
    let (_, report, _) = gap.cross(&disk, Some(list.clone()), good).await;
    let Outcome::Incomplete { list, .. } = &report.outcome else { panic!("{report:?}") };
    assert!(gap.delivered().is_empty());
    let (_, report, _) = gap.cross(&disk, Some(list.clone()), good).await;
    whole(&report, &gap, &disk);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_is_said_before_anything_is_sent() {
    let mut gap = Gap::new().await;
    let disk = gap.bundle(&[1000]).await;
    let another = gap.bundle(&[1001]).await;
    let nowhere: SocketAddr = "127.0.0.1:9".parse().unwrap();
    let list = |text: String| gap.low.write("list", text.as_bytes());
    let refused = async |disk: &Path, change: &dyn Fn(&mut send::Wish)| -> Error {
        let mut wish = gap.send_wish(nowhere);
        change(&mut wish);
        send::send(&gap.low.station, disk, &wish).await.unwrap_err()
    };
    let error = refused(&disk, &|wish| wish.to = "http://x".to_owned()).await;
    assert!(error.kind == Kind::Usage && error.message.contains("udp://"), "{error}");
    let error = refused(&disk, &|wish| wish.mtu = Some(600)).await;
    assert!(error.message.contains("too small"), "{error}");
    let manifest = Digest::of(&std::fs::read(another.join("AIRLOCK.json")).unwrap());
    let error = refused(&disk, &|wish| wish.only = Some(list(format!("manifest {manifest}\n")))).await;
    assert!(error.message.contains("is of the bundle with manifest"), "{error}");
    let error =
        refused(&another, &|wish| wish.only = Some(list(format!("manifest {manifest}\nwhole ../x\n")))).await;
    assert!(error.message.contains("does not have"), "{error}");
    let error = receive::receive(&gap.high, gap.receive_wish((8 << 20) - 1), |_| ()).await.unwrap_err();
    assert!(error.kind == Kind::Usage && error.message.contains("too little"), "{error}");
    std::fs::write(disk.join("AIRLOCK.sig"), "").unwrap();
    assert_eq!(refused(&disk, &|_| ()).await.kind, Kind::Unsafe);
    assert!(is_complete(&gap.cross(&another, None, |to| Relay::start(to, |p, send| send(p))).await.1));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_import_would_refuse_is_refused_when_its_manifest_comes() {
    let mut gap = Gap::new().await;
    let disk = gap.bundle(&[10_000]).await;
    trust::revoke(&gap.high, "peer").await.unwrap();
    let limits = trust::Limits { stream: Some("another".to_owned()), ..trust::Limits::default() };
    let (key, print) = (gap.low.station.key.public(), gap.low.station.key.fingerprint());
    trust::add(&gap.high, "peer", key, &print, limits).await.unwrap();
    let good = |to| Relay::start(to, |p, send| send(p));
    let (_, report, _) = gap.cross(&disk, None, good).await;
    let Outcome::Refused { error } = &report.outcome else { panic!("{report:?}") };
    assert!(error.kind == Kind::Unsafe && error.message.contains("another stream"), "{error}");
    assert_eq!(gap.incoming(), Vec::<String>::new());
    // What is revoked while it is received has no say any more.
    trust::revoke(&gap.high, "peer").await.unwrap();
    believe(&gap.high, &gap.low.station).await;
    let (_, report, _) = gap
        .receive(async |address| {
            trust::revoke(&gap.high, "peer").await.unwrap();
            send::send(&gap.low.station, &disk, &gap.send_wish(address)).await.unwrap()
        })
        .await;
    let Outcome::Refused { error } = &report.outcome else { panic!("{report:?}") };
    assert!(error.message.contains("not trusted here"), "{error}");
    assert!(gap.incoming().is_empty() && gap.delivered().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bundle_that_comes_again_with_further_signatures_gets_them() {
    let mut gap = Gap::new().await;
    let disk = gap.bundle(&sizes()).await;
    let manifest = std::fs::read(disk.join("AIRLOCK.json")).unwrap();
    // Whoever else is trusted here.
    let sign = async |name: &str| {
        let other = Kit::new(&[]).await;
        let (key, print) = (other.station.key.public(), other.station.key.fingerprint());
        trust::add(&gap.high, name, key, &print, trust::Limits::default()).await.unwrap();
        let own = std::fs::read_to_string(disk.join("AIRLOCK.sig")).unwrap();
        let more = format!("{own}{}\n", other.station.key.sign(&manifest));
        std::fs::write(disk.join("AIRLOCK.sig"), more).unwrap();
    };
    let (_, report, _) = gap.cross(&disk, None, |to| Relay::bad(to, 450, NO_GAP, false)).await;
    assert!(matches!(report.outcome, Outcome::Incomplete { .. }), "{report:?}");
    // While it waits, and where it stands.
    for name in ["second", "third"] {
        sign(name).await;
        let (_, report, _) = gap.cross(&disk, None, |to| Relay::start(to, |p, send| send(p))).await;
        whole(&report, &gap, &disk);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_sender_is_bringing_another_one_does_not_write_into() {
    let mut gap = Gap::new().await;
    let disk = gap.bundle(&[4 << 20]).await;
    let other = Kit::new(&[]).await;
    believe(&other.station, &gap.low.station).await;
    let (key, print) = (other.station.key.public(), other.station.key.fingerprint());
    trust::add(&gap.high, "other", key, &print, trust::Limits::default()).await.unwrap();
    let pem = gap.low.write("high.pub", gap.high.key.public_pem().unwrap().as_bytes());
    let ((), report, _) = gap
        .receive(async |address| {
            let slow = send::Wish { rate: 8_000_000, recipient: Some(pem), ..gap.send_wish(address) };
            let fast = send::Wish { rate: 100_000_000, ..slow.clone() };
            let second = async {
                tokio::time::sleep(Duration::from_secs(1)).await;
                send::send(&other.station, &disk, &fast).await.unwrap();
            };
            let first =
                tokio::time::timeout(Duration::from_secs(30), send::send(&gap.low.station, &disk, &slow));
            let (first, ()) = tokio::join!(first, second);
            first.unwrap().unwrap();
        })
        .await;
    // The second one waits for the first, and finds the bundle here.
    whole(&report, &gap, &disk);
}
