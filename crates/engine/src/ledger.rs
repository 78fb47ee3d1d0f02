//! Checking the ledger: that nothing in it was changed, left out, put elsewhere or cut off, and that the station is in the
//! state that it tells of.
//!
//! The entries name each other by their hashes, so that a change of one shows in the next. Against a chain that was made anew
//! from some entry on, or cut, help only heads that are known from elsewhere: the **checkpoint**, which the station signs and
//! writes beside its database with each entry, if it goes on from the one before, and those that bundles carried away. Whoever
//! can write to the database and holds the station's key can forge the first and not the second. Channels, trust, feeds and
//! block sets are told of in words: their refs are not held against the ledger.

pub mod feed;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use airlock_core::bundle::SignatureLine;
use airlock_core::canon::Canonical;
use airlock_core::decision::Decision;
use airlock_core::id::{Digest, Id};
use airlock_core::ledger::{self, BrokenLedger, LedgerEntry, LedgerHead};
use airlock_core::object;
use airlock_core::roles::Action;
use airlock_core::time::Time;

use crate::boxed;
use crate::bundle::{ExportState, verify};
use crate::error::{Error, Result, file_error};
use crate::station::Station;
use crate::{channel, judge, keys, people};

/// The file of the checkpoint, in the station's directory.
pub const CHECKPOINT: &str = "ledger.checkpoint";
/// Largest checkpoint that is read, in bytes.
const CHECKPOINT_BYTES_MAX: u64 = 64 << 10;
/// Entries that are read at once.
const ENTRIES_AT_ONCE: u32 = 10_000;
/// What to do about a ledger that is not what it was.
pub(crate) const RESTORE: &str = "restore the database from a backup, and find out who changed it";

/// Where the ledger stood, as the station signed it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checkpoint {
    /// The ledger.
    pub ledger: LedgerHead,
    /// When.
    pub time: Time,
}

#[derive(Serialize, Deserialize)]
struct Signed {
    checkpoint: Checkpoint,
    signature: String,
}

/// Signs where the ledger stands and writes it beside the database, in the place of the one before, as a whole. What does not
/// go on from the one before is not signed: whoever changed the past must not get the next entry to vouch for it.
///
/// # Errors
///
/// If it cannot be written, or the ledger is not the one of the checkpoint before.
pub(crate) async fn checkpoint(station: &Station, ledger: LedgerHead, time: Time) -> Result<()> {
    match read_checkpoint(station)? {
        Some(before) => {
            let held = station.store.db.ledger(before.number, 1).await?;
            let goes_on = held.first().is_some_and(|(entry, hash)| {
                entry.number == before.number
                    && *hash == before.hash
                    && entry.hash().is_ok_and(|h| h == before.hash)
            });
            if !goes_on {
                let number = before.number;
                return Err(Error::no(format!("entry {number} is not the one that the checkpoint knows"))
                    .hint(RESTORE));
            }
            if before.number >= ledger.number {
                // Another process was faster.
                return Ok(());
            }
        }
        None => {
            let first = station.store.db.ledger(1, 1).await?;
            if ledger.number > 1 && first.first().is_some_and(|(first, _)| tells_of_checkpoints(first)) {
                return Err(Error::no("the checkpoint is missing").hint(RESTORE));
            }
        }
    }
    write_checkpoint(station, ledger, time)
}

/// Signs where the ledger stands by a person's word, whatever was signed before: after it was found out what happened, or the
/// database came from a backup. The ledger tells of it.
pub async fn anchor(station: &Station, reason: &str) -> Result<LedgerHead> {
    if reason.trim().is_empty() {
        return Err(Error::usage("signing anew needs a reason").hint("say why with --reason TEXT"));
    }
    people::allow(station, Action::Maintain, None).await?;
    let detail = serde_json::json!({ "reason": reason.trim() });
    station.commit(Vec::new(), "ledger.anchor", "ledger", &detail).await?;
    let head = station.store.db.ledger_head().await?;
    write_checkpoint(station, head, station.now().await?)?;
    Ok(head)
}

fn write_checkpoint(station: &Station, ledger: LedgerHead, time: Time) -> Result<()> {
    let checkpoint = Checkpoint { ledger, time };
    let message = Canonical::of(&checkpoint)?;
    let signature = station.key.sign(message.as_str().as_bytes()).to_string();
    let text = serde_json::to_string_pretty(&Signed { checkpoint, signature })? + "\n";
    let path = station.dir.join(CHECKPOINT);
    let mut file = tempfile::Builder::new()
        .prefix(CHECKPOINT)
        .tempfile_in(&station.dir)
        .map_err(file_error(&station.dir))?;
    std::io::Write::write_all(&mut file, text.as_bytes()).map_err(file_error(&path))?;
    file.as_file().sync_data().map_err(file_error(&path))?;
    file.persist(&path).map_err(|e| file_error(&path)(e.error))?;
    Ok(())
}

/// The checkpoint, if there is one.
pub(crate) fn read_checkpoint(station: &Station) -> Result<Option<LedgerHead>> {
    let path = station.dir.join(CHECKPOINT);
    let size = match std::fs::metadata(&path) {
        Ok(about) => about.len(),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(file_error(&path)(e)),
    };
    let bad = |what: &str| {
        Error::no(format!("{} is not a checkpoint that this station signed: {what}", path.display()))
            .hint(RESTORE)
    };
    if size > CHECKPOINT_BYTES_MAX {
        return Err(bad("it is too large"));
    }
    let text = std::fs::read_to_string(&path).map_err(file_error(&path))?;
    let signed: Signed = serde_json::from_str(&text).map_err(|e| bad(&e.to_string()))?;
    let message = Canonical::of(&signed.checkpoint)?;
    let lines = SignatureLine::parse_all(&signed.signature).unwrap_or_default();
    let is_ours = |line: &SignatureLine| {
        line.public_key == station.key.public() && keys::verifies(line, message.as_str().as_bytes())
    };
    match lines.as_slice() {
        [line] if is_ours(line) => Ok(Some(signed.checkpoint.ledger)),
        _ => Err(bad("its signature does not fit")),
    }
}

/// A head of this ledger that is known from elsewhere.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Known {
    /// Whence.
    pub whence: String,
    /// Where the ledger stood then.
    pub head: LedgerHead,
}

/// What checking found right.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Checked {
    /// Where the ledger stands.
    pub head: LedgerHead,
    /// What it was held against.
    pub against: Vec<Known>,
    /// Policies and published snapshots of which no entry tells: those of before entries told of them.
    pub unproven: Vec<String>,
}

/// Checks the whole ledger, and that decisions, policies and published snapshots are those that it tells of. `bundles` are
/// folders of bundles that this station wrote, from wherever they were carried.
///
/// # Errors
///
/// The answer is no where something is not what it was, and says what.
#[boxed]
pub async fn verify(station: &Station, bundles: &[PathBuf]) -> Result<Checked> {
    for _ in 0..TRIES {
        let head = station.store.db.ledger_head().await?;
        match verify_once(station, bundles).await {
            // Somebody did something between what was read and what it was held against.
            Err(e) if !e.is_ours && station.store.db.ledger_head().await? != head => {}
            other => return other,
        }
    }
    Err(Error::fault("the ledger keeps growing").hint("run it again"))
}

/// How often checking begins again when something was done meanwhile.
const TRIES: usize = 20;

async fn verify_once(station: &Station, bundles: &[PathBuf]) -> Result<Checked> {
    let against = known(station, bundles).await?;
    let mut entries = Vec::new();
    loop {
        let first = entries.len() as u64 + 1;
        let batch = station.store.db.ledger(first, ENTRIES_AT_ONCE).await?;
        let is_last = batch.len() < ENTRIES_AT_ONCE as usize;
        for (entry, stored) in batch {
            if entry.hash()? != stored {
                let number = entry.number;
                return Err(
                    Error::no(format!("entry {number} was changed: its hash does not fit")).hint(RESTORE)
                );
            }
            entries.push(entry);
        }
        if is_last {
            break;
        }
    }
    let broken = |e: BrokenLedger| Error::no(e.to_string()).hint(RESTORE);
    let head = ledger::verify(&entries, None).map_err(broken)?;
    for known in &against {
        ledger::verify(&entries, Some(known.head)).map_err(|e| broken(e).while_(&known.whence))?;
    }
    let has_checkpoint = against.iter().any(|known| known.whence == OWN);
    if !has_checkpoint && entries.first().is_some_and(tells_of_checkpoints) {
        let path = station.dir.join(CHECKPOINT);
        return Err(Error::no(format!("{} is missing", path.display())).hint(RESTORE));
    }
    decisions(station, &entries).await?;
    let unproven = refs(station, &entries).await?;
    Ok(Checked { head, against, unproven })
}

/// Whose checkpoint it is.
const OWN: &str = "the station's checkpoint";

/// Whether a station was made by a program that signs checkpoints.
fn tells_of_checkpoints(first: &LedgerEntry) -> bool {
    #[derive(Deserialize)]
    struct Said {
        checkpoint: String,
    }
    first.action == "station.init"
        && first.detail.read::<Said>().is_ok_and(|said| said.checkpoint == CHECKPOINT)
}

/// Heads that are known from the checkpoint, from what was exported, and from bundles that lie somewhere.
async fn known(station: &Station, bundles: &[PathBuf]) -> Result<Vec<Known>> {
    let mut out = Vec::new();
    if let Some(head) = read_checkpoint(station)? {
        out.push(Known { whence: OWN.to_owned(), head });
    }
    for (name, id) in station.store.db.refs("export/").await? {
        let state: ExportState = station.store.db.get(Id::new(id)).await?;
        if let Some((bundle, head)) = state.bundles.last().and_then(|one| Some((one.bundle, one.ledger?))) {
            let stream = name.strip_prefix("export/").unwrap_or(&name);
            out.push(Known { whence: format!("bundle {} of stream {stream}", bundle.number), head });
        }
    }
    for dir in bundles {
        out.push(Known { whence: dir.display().to_string(), head: carried(station, dir)? });
    }
    Ok(out)
}

/// Where this ledger stood when a bundle was written.
fn carried(station: &Station, dir: &Path) -> Result<LedgerHead> {
    let opened = verify::open(dir, &[station.key.public()])?;
    Ok(opened.manifest.ledger)
}

/// The decisions are those that the ledger tells of, each as it was made.
async fn decisions(station: &Station, entries: &[LedgerEntry]) -> Result<()> {
    let (id, held) = judge::decisions(station).await?;
    if object::encode(&held)?.0 != id {
        return Err(Error::no("the decisions were changed: they are not what their name says").hint(RESTORE));
    }
    let mut told = entries.iter().filter(|entry| entry.action == "decision.add");
    for decision in &held.list {
        let Some(entry) = told.next() else {
            return Err(Error::no(format!("no entry tells of decision {}", decision.id)).hint(RESTORE));
        };
        if entry.detail.read::<Decision>().ok().as_ref() != Some(decision) {
            let number = entry.number;
            return Err(Error::no(format!(
                "decision {} is not the one that entry {number} tells of",
                decision.id
            ))
            .hint(RESTORE));
        }
    }
    match told.next() {
        Some(entry) => {
            Err(Error::no(format!("{} of entry {} is missing", entry.subject, entry.number)).hint(RESTORE))
        }
        None => Ok(()),
    }
}

/// Policies and published snapshots are the last that the ledger tells of. Gives those of which it tells nothing.
async fn refs(station: &Station, entries: &[LedgerEntry]) -> Result<Vec<String>> {
    #[derive(Deserialize)]
    struct Said {
        policy: Option<Digest>,
        snapshot: Option<Digest>,
        people: Option<Digest>,
    }
    let mut told: BTreeMap<String, (u64, Digest)> = BTreeMap::new();
    for entry in entries {
        let Ok(Said { policy, snapshot, people }) = entry.detail.read::<Said>() else { continue };
        let is_of_people = ["user.", "token."].iter().any(|begin| entry.action.starts_with(begin));
        if let Some(people) = people.filter(|_| is_of_people) {
            told.insert(people::REF.to_owned(), (entry.number, people));
        }
        let subject = &entry.subject;
        match (entry.action.as_str(), policy, snapshot) {
            ("station.init", Some(policy), _) => {
                told.insert("policy/default".to_owned(), (entry.number, policy));
            }
            ("policy.set", Some(policy), _) => {
                told.insert(subject.clone(), (entry.number, policy));
            }
            ("channel.publish", _, Some(snapshot)) => {
                let channel = subject.strip_prefix("channel/").unwrap_or(subject);
                told.insert(channel::ref_name(channel, "snapshot"), (entry.number, snapshot));
            }
            _ => {}
        }
    }
    let held = station.store.db.refs("").await?;
    for (name, (number, expected)) in &told {
        let found = held.get(name).copied();
        if found != Some(*expected) {
            let found =
                found.map_or_else(|| "is missing".to_owned(), |found| format!("is {}", found.short()));
            let message = format!("{name} {found}, and entry {number} says {}", expected.short());
            return Err(Error::no(message).hint(RESTORE));
        }
    }
    // What lies under that name is held against it when it is read.
    people::read(station).await?;
    let is_told_of =
        |name: &&String| name.starts_with("policy/") || name.ends_with("/snapshot") || *name == people::REF;
    Ok(held.keys().filter(is_told_of).filter(|name| !told.contains_key(*name)).cloned().collect())
}
