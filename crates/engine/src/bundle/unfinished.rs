//! Bundles that began to come in and are not whole: what came of them waits for the rest, but not of those that can never be whole.

use std::time::SystemTime;

use airlock_core::id::{Digest, Id};
use airlock_core::root::Chain;
use airlock_core::time::Time;
use airlock_store::{Begun, Blobs, Intake};
use serde::{Deserialize, Serialize};

use super::verify::Opened;
use super::{ImportState, waiting};
use crate::error::{Result, joined};
use crate::station::Station;
use crate::trust::{self, Trust};

/// What the name of an intake ends with in which a sealed bundle is opened.
pub(super) const OPENED: &str = "-opened";

/// Whose an intake is, as it says beside its bytes.
#[derive(Serialize, Deserialize)]
struct Label {
    stream: String,
    number: u64,
    /// The sender's key.
    key: String,
    /// The root by which it is released.
    root: Option<Digest>,
}

/// What came of a bundle that is not whole.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Unfinished {
    /// SHA-256 of its manifest.
    pub manifest: String,
    /// Its stream; none where a program before this one began with it.
    pub stream: Option<String>,
    /// Its number there.
    pub number: Option<u64>,
    /// Files that came.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Until when they wait for the rest.
    pub until: Time,
    /// Why it can never be whole, for which reason they are removed.
    pub void: Option<Void>,
}

/// Why a bundle can never come in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Void {
    /// It, or a later bundle of its stream, is in.
    Superseded,
    /// Nobody is trusted any more by whose word it would count.
    NotTrusted,
}

/// An intake of a bundle, with a label that says whose it is.
pub(super) fn intake(blobs: &Blobs, name: &str, opened: &Opened) -> Result<Intake> {
    let m = &opened.manifest;
    let (stream, key, root) =
        (m.stream.clone(), m.sender.public_key.clone(), opened.by.root().map(Chain::identity));
    let intake = blobs.intake(name)?;
    intake.label(&serde_json::to_vec(&Label { stream, number: m.number, key, root })?)?;
    Ok(intake)
}

impl Label {
    async fn void(&self, station: &Station, trusted: &[Trust]) -> Result<Option<Void>> {
        let db = &station.store.db;
        if let Some(id) = db.find_ref(&format!("import/{}", self.stream)).await? {
            let state = db.get::<ImportState>(Id::new(id)).await?;
            if state.bundles.last().is_some_and(|last| self.number <= last.number) {
                return Ok(Some(Void::Superseded));
            }
        }
        let root = |trust: &Trust| trust.root.as_ref()?.versions.first()?.root.id().ok();
        let counts =
            |trust: &Trust| trust.public_key == self.key || (self.root.is_some() && root(trust) == self.root);
        Ok((!trusted.iter().any(counts)).then_some(Void::NotTrusted))
    }
}

/// Removes what came of the bundle with this manifest. False: somebody works on it at this moment.
pub(super) async fn forget(station: &Station, manifest: &str) -> Result<bool> {
    let (blobs, manifest) = (station.store.blobs.clone(), manifest.to_owned());
    let forget = move || {
        for one in blobs.begun()?.iter().filter(|one| one.name.trim_end_matches(OPENED) == manifest) {
            if !blobs.forget(one)? {
                return Ok(false);
            }
        }
        Ok(true)
    };
    joined(tokio::task::spawn_blocking(forget).await)
}

/// Every bundle that is not whole; what came of those that can never be is removed, or would be (`dry`).
pub(crate) async fn sweep(station: &Station, dry: bool) -> Result<Vec<Unfinished>> {
    let (blobs, trusted) = (station.store.blobs.clone(), trust::list(station).await?);
    let begun = joined(tokio::task::spawn_blocking(move || Ok(blobs.begun()?)).await)?;
    let mut out = Vec::new();
    for one in begun {
        let label: Option<Label> = serde_json::from_slice(&one.label).ok();
        let void = match &label {
            // Where a second person is asked about it, also about going back to it.
            Some(_) if waiting::is_kept(station, one.name.trim_end_matches(OPENED)) => None,
            Some(label) => label.void(station, &trusted).await?,
            None => None,
        };
        let found = unfinished(&one, label, void);
        if void.is_some() && !dry {
            let blobs = station.store.blobs.clone();
            if !joined(tokio::task::spawn_blocking(move || Ok(blobs.forget(&one)?)).await)? {
                // Whoever works on it says what is wrong with it.
                continue;
            }
        }
        out.push(found);
    }
    Ok(out)
}

fn unfinished(begun: &Begun, label: Option<Label>, void: Option<Void>) -> Unfinished {
    let until = begun.until.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let (stream, number) = label.map(|label| (label.stream, label.number)).unzip();
    Unfinished {
        manifest: begun.name.clone(),
        stream,
        number,
        files: begun.files,
        bytes: begun.bytes,
        until: Time::from_seconds(i64::try_from(until.as_secs()).unwrap_or(i64::MAX)),
        void,
    }
}
