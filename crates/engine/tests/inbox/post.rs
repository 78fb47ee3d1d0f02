//! A sender with a bundle, a receiver, and what is put between them.

use airlock_core::id::Digest;
use airlock_core::root::{Chain, Change, SignersChange};
use airlock_engine::oneway::inbox::{Answer, Arrival, Begun, Inbox, Refusal, Target, Why, Wish};
use airlock_engine::oneway::receive::Outcome;
use airlock_engine::personal::Signer;
use airlock_engine::roots;
use airlock_engine::station::{Side, Station};
use airlock_engine::trust::{self, Limits};
use airlock_testkit::Kit;
use airlock_testkit::bundles::{self, believe, content};
use ed25519_dalek::SigningKey;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc::UnboundedReceiver;

pub const MANIFEST: &str = "AIRLOCK.json";
pub const SIGNATURES: &str = "AIRLOCK.sig";

/// A sender with a bundle, and a station that trusts it.
pub struct Gap {
    pub low: Kit,
    pub high: Station,
    pub disk: PathBuf,
}

pub struct Spool {
    pub inbox: Arc<Inbox>,
    pub told: UnboundedReceiver<Arrival>,
}

impl Gap {
    pub async fn new(sizes: &[usize]) -> Self {
        let gap = Self::of_strangers(sizes).await;
        believe(&gap.high, &gap.low.station).await;
        gap
    }

    pub async fn of_strangers(sizes: &[usize]) -> Self {
        let low = bundles::sender().await;
        let options = low.station.options.clone();
        let high = Station::init(&low.path().join("high"), "high", Side::Isolated, options).await.unwrap();
        let disk = low.path().join("disk");
        bundles::export(&low.station, &disk, sizes).await;
        Self { low, high, disk }
    }

    pub fn wish(&self) -> Wish {
        let (keep, silence) = (Duration::from_secs(3600), Duration::from_secs(3600));
        Wish { into: self.spool(), quota: None, keep, silence }
    }

    pub fn spool(&self) -> PathBuf {
        self.low.path().join("spool")
    }

    pub fn incoming(&self) -> Vec<String> {
        let all = content(&self.spool().join("incoming")).into_keys().map(|path| path.display().to_string());
        all.filter(|name| name != "lock").collect()
    }

    /// A root that the receiver trusts, and by which the sender's bundles are released by either of two people.
    pub async fn released_by_two(&mut self) -> (PathBuf, Chain) {
        let signers = |people: &[u8]| SignersChange {
            add: people.iter().map(|n| (format!("person {n}"), person(*n).public_key())).collect(),
            threshold: Some(1),
            ..SignersChange::default()
        };
        let root = self.low.path().join("agency.json");
        let first = Change { root: signers(&[1]), release: signers(&[2, 3]), valid_until: None };
        roots::create(&root, "agency", &first).unwrap();
        roots::sign(&root, &person(1)).unwrap();
        let chain = roots::read_chain(&root).unwrap();
        let (print, whom) = (chain.fingerprint(), trust::Whom::Root(chain.clone()));
        trust::add(&self.high, "agency", whom, &print, Limits::default()).await.unwrap();
        self.low.station.config.release.root = Some(root.clone());
        (root, chain)
    }

    pub async fn open(&self, wish: Wish) -> Spool {
        let (inbox, told) = Inbox::open(&self.high, wish).await.unwrap();
        Spool { inbox, told }
    }
}

pub fn person(n: u8) -> Signer {
    Signer::Key(Box::new(SigningKey::from_bytes(&[n; 32])))
}

pub fn bundle_of(disk: &Path) -> Digest {
    Digest::of(&std::fs::read(disk.join(MANIFEST)).unwrap())
}

/// Paths of the files of a bundle, but for manifest and signatures.
pub fn files_of(disk: &Path) -> Vec<String> {
    let all = content(disk).into_keys().map(|path| path.display().to_string());
    all.filter(|path| ![MANIFEST, SIGNATURES].contains(&path.as_str())).collect()
}

impl Spool {
    pub async fn put(&self, bundle: Digest, path: &str, bytes: &[u8]) -> Result<Option<Answer>, Refusal> {
        self.put_part(bundle, path, bytes, None).await
    }

    pub async fn put_part(
        &self,
        bundle: Digest,
        path: &str,
        bytes: &[u8],
        part: Option<(Range<u64>, u64)>,
    ) -> Result<Option<Answer>, Refusal> {
        let target = Target { bundle, path: path.to_owned() };
        match self.inbox.begin(target, bytes.len() as u64, part).await? {
            Begun::Here => Ok(None),
            Begun::Write(writing) => {
                let pieces: Vec<Vec<u8>> = bytes.chunks(60_000).map(<[u8]>::to_vec).collect();
                writing.write(pieces).await?.finish().await.map(Some)
            }
        }
    }

    pub async fn put_file(&self, disk: &Path, path: &str) -> Result<Option<Answer>, Refusal> {
        self.put(bundle_of(disk), path, &std::fs::read(disk.join(path)).unwrap()).await
    }

    /// Manifest and signatures.
    pub async fn introduce(&self, disk: &Path) -> Result<Option<Answer>, Refusal> {
        self.put_file(disk, MANIFEST).await?;
        self.put_file(disk, SIGNATURES).await
    }

    /// All of a bundle; the answer to its last file.
    pub async fn put_all(&self, disk: &Path) -> Option<Answer> {
        self.introduce(disk).await.unwrap();
        self.put_files(disk).await
    }

    /// All but manifest and signatures; the answer to the last one.
    pub async fn put_files(&self, disk: &Path) -> Option<Answer> {
        let mut last = None;
        for path in files_of(disk) {
            last = self.put_file(disk, &path).await.unwrap();
        }
        last
    }

    pub fn delivered(&mut self) -> PathBuf {
        loop {
            match self.told.try_recv().unwrap().outcome {
                Outcome::Complete { bundle, .. } => return bundle,
                Outcome::Refused { .. } => {}
                other => panic!("{other:?}"),
            }
        }
    }
}

pub fn why<T: std::fmt::Debug>(put: Result<T, Refusal>) -> Why {
    put.unwrap_err().why
}
