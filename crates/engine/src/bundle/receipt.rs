//! Receipts: the small signed answer of a receiving station.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use airlock_core::bundle::{self, Missing, Receipt, Sender, SignatureLine};
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
    let signed = Signed { signature: station.key.sign(message.as_str().as_bytes()).to_string(), receipt };
    let text = serde_json::to_string_pretty(&signed)?;
    std::fs::write(path, text + "\n").map_err(file_error(path))?;
    Ok(signed.receipt)
}

/// Reads a receipt and checks that it is whole: signed by the key that it names.
pub fn read(path: &Path) -> Result<Receipt> {
    Ok(signed(path)?.receipt)
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
    let lines = SignatureLine::parse_all(&signed.signature).unwrap_or_default();
    let [line] = lines.as_slice() else { return Err(bad("it has no signature")) };
    let message = Canonical::of(&signed.receipt)?;
    let named = airlock_core::hex::decode::<32>(&signed.receipt.receiver.public_key);
    if named != Some(line.public_key) || !keys::verifies(line, message.as_str().as_bytes()) {
        return Err(bad("its signature does not fit"));
    }
    Ok(signed)
}
