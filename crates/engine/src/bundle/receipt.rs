//! Receipts: the small signed answer of a receiving station.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use airlock_core::bundle::{self, FORMAT, FORMAT_UNSAID, Missing, Receipt, Sender, SignatureLine};
use airlock_core::canon::Canonical;
use airlock_core::channel::ChannelFeed;
use airlock_core::id::{Digest, Id};
use airlock_core::snapshot::Snapshot;
use airlock_core::volume;

use super::ImportState;
use crate::channel::ref_name;
use crate::error::{Error, Result, file_error};
use crate::keys;
use crate::station::Station;

/// Largest receipt file, in bytes: what it says is missing becomes a label.
const RECEIPT_BYTES_MAX: u64 = volume::LABEL_BYTES_MAX;

/// A receipt as it lies in a file.
#[derive(Debug, Serialize, Deserialize)]
struct Signed {
    receipt: Receipt,
    /// A [`SignatureLine`] over the canonical JSON of `receipt`.
    signature: String,
    /// What the receiver reads. It stands beside the receipt, since programs that do not know it take the receipt for what
    /// they know of it, and would hold its signature against that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    reads: Option<Reads>,
}

/// Up to which layout the receiver reads bundles.
#[derive(Debug, Serialize, Deserialize)]
struct Reads {
    format: u32,
    /// A [`SignatureLine`] over [`reads_message`].
    signature: String,
}

/// What is signed of that: it belongs to one receipt.
fn reads_message(format: u32, receipt: &Canonical) -> Result<Canonical> {
    let receipt = Digest::of(receipt.as_str().as_bytes());
    Ok(Canonical::of(
        &serde_json::json!({"format": format, "kind": "airlock.receipt-reads.v1", "receipt": receipt}),
    )?)
}

/// A receipt that was read and is whole.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The receipt.
    pub receipt: Receipt,
    /// The newest layout of bundles that its receiver reads.
    pub reads: u32,
}

/// Writes the receipt of a stream to a file, with what is missing of a bundle that came in part.
pub async fn write(
    station: &Station,
    stream: &str,
    missing: Option<Missing>,
    path: &Path,
) -> Result<Receipt> {
    let db = &station.store.db;
    let last = match db.find_ref(&format!("import/{stream}")).await? {
        Some(id) => db.get::<ImportState>(Id::new(id)).await?.bundles.last().copied(),
        None => None,
    };
    if last.is_none() && missing.is_none() {
        return Err(
            Error::usage(format!("no bundle of stream `{stream}` was taken in")).hint("import one first")
        );
    }
    let mut channels: BTreeMap<String, Digest> = BTreeMap::new();
    for channel in crate::channel::list(station).await? {
        let ours = matches!(&channel.feed, ChannelFeed::Bundles { stream: s } if s == stream);
        if let (true, Some(id)) = (ours, db.find_ref(&ref_name(&channel.name, "snapshot")).await?) {
            let snapshot: Snapshot = db.get(Id::new(id)).await?;
            channels.insert(channel.name, snapshot.content.digest());
        }
    }
    let receipt = Receipt {
        format: if missing.is_some() { bundle::RECEIPT_FORMAT } else { 1 },
        receiver: Sender { name: station.config.name.clone(), public_key: station.key.public_hex() },
        stream: stream.to_owned(),
        last,
        missing,
        channels,
        created: station.now().await?,
        ledger: db.ledger_head().await?,
    };
    let message = Canonical::of(&receipt)?;
    let sign = |message: &Canonical| station.key.sign(message.as_str().as_bytes()).to_string();
    let reads = Reads { format: FORMAT, signature: sign(&reads_message(FORMAT, &message)?) };
    let signed = Signed { signature: sign(&message), receipt, reads: Some(reads) };
    let text = serde_json::to_string_pretty(&signed)?;
    std::fs::write(path, text + "\n").map_err(file_error(path))?;
    Ok(signed.receipt)
}

/// Reads a receipt and checks that it is whole: signed by the key that it names.
pub fn read(path: &Path) -> Result<Receipt> {
    Ok(answer(path)?.receipt)
}

/// The same, with what its receiver reads.
pub fn answer(path: &Path) -> Result<Answer> {
    let Signed { receipt, reads, .. } = signed(path)?;
    Ok(Answer { receipt, reads: reads.map_or(FORMAT_UNSAID, |reads| reads.format) })
}

/// A receipt in as few bytes as its file may have.
pub fn compact(path: &Path) -> Result<(Receipt, String)> {
    let signed = signed(path)?;
    let text = Canonical::of(&signed)?.as_str().to_owned();
    Ok((signed.receipt, text))
}

fn signed(path: &Path) -> Result<Signed> {
    let size = std::fs::metadata(path).map_err(file_error(path))?.len();
    if size > RECEIPT_BYTES_MAX {
        return Err(Error::unsafe_(format!("{} is too large for a receipt", path.display())));
    }
    let text = std::fs::read_to_string(path).map_err(file_error(path))?;
    let bad = |what: &str| {
        Error::unsafe_(format!("{} is not a valid receipt: {what}", path.display()))
            .hint("ask the receiving station for a new one")
    };
    let signed: Signed = serde_json::from_str(&text).map_err(|e| bad(&e.to_string()))?;
    if signed.receipt.format > bundle::RECEIPT_FORMAT {
        let (found, known) = (signed.receipt.format, bundle::RECEIPT_FORMAT);
        return Err(Error::usage(format!(
            "the receipt has layout {found}, this program reads up to {known}"
        ))
        .hint("update this station's airlock"));
    }
    let message = Canonical::of(&signed.receipt)?;
    let named = airlock_core::hex::decode::<32>(&signed.receipt.receiver.public_key);
    let check = |signature: &str, message: &Canonical| {
        let lines = SignatureLine::parse_all(signature).unwrap_or_default();
        let [line] = lines.as_slice() else { return Err(bad("it has no signature")) };
        match named == Some(line.public_key) && keys::verifies(line, message.as_str().as_bytes()) {
            true => Ok(()),
            false => Err(bad("its signature does not fit")),
        }
    };
    check(&signed.signature, &message)?;
    if let Some(reads) = &signed.reads {
        check(&reads.signature, &reads_message(reads.format, &message)?)?;
    }
    Ok(signed)
}
