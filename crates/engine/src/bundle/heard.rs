//! What the two sides of a stream know of each other's past: whose receipts answer it, and where the receiver's ledger stood by them.
//!
//! Receipts are carried by hand, and each is signed by the key that it names. What a forged one could do is little, since nothing counts on
//! the other side by it; but it would make bundles that nobody can take in, and hide that the receiver lost its memory. So the sender
//! remembers who answered, and bundles carry back what it heard: neither side rewrites its past unseen.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use airlock_core::bundle::{Manifest, Receipt, Sender, fingerprint};
use airlock_core::hex;
use airlock_core::id::Id;
use airlock_core::ledger::LedgerHead;
use airlock_core::time::Time;

use crate::error::{Error, Result};
use crate::retention::{LastBase, base_ref};
use crate::station::Station;
use crate::trust;

/// Where a receiver's ledger stood by its newest receipt that was used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heard {
    /// When the receipt was written.
    pub created: Time,
    /// The ledger then.
    pub ledger: LedgerHead,
}

/// Receivers of a stream, by their public keys.
pub type Receivers = BTreeMap<String, Heard>;

/// The receivers of a stream whose receipts were used.
pub(super) async fn receivers(station: &Station, stream: &str) -> Result<Receivers> {
    match station.store.db.find_ref(&base_ref(stream)).await? {
        Some(id) => Ok(station.store.db.get::<LastBase>(Id::new(id)).await?.receivers),
        None => Ok(Receivers::new()),
    }
}

/// The same, with what this receipt says of the station that signed it, unless a newer one was used before.
fn with(mut receivers: Receivers, receipt: &Receipt) -> Receivers {
    let heard = Heard { created: receipt.created, ledger: receipt.ledger };
    let known = receivers.entry(receipt.receiver.public_key.clone()).or_insert(heard);
    if known.created <= heard.created {
        *known = heard;
    }
    receivers
}

/// Holds a receipt against what was heard before in its stream. Gives what a person should know of it, and what was heard with it.
///
/// # Errors
///
/// Unsafe: the stream is one peer's, another station answered it before, and nobody vouches for this one's key.
pub async fn hold(
    station: &Station,
    to: Option<&str>,
    receipt: &Receipt,
) -> Result<(Vec<String>, Receivers)> {
    let known = receivers(station, &receipt.stream).await?;
    let Sender { name, public_key } = &receipt.receiver;
    let print = hex::decode::<32>(public_key).map(|key| fingerprint(&key)).unwrap_or_default();
    let Some(before) = known.get(public_key) else {
        if let (Some(peer), false) = (to, known.is_empty() || is_trusted(station, public_key).await?) {
            return Err(Error::unsafe_(format!(
                "the receipt is signed by `{name}` (key fingerprint {print}), and another key answered for `{peer}` before"
            ))
            .hint(format!(
                "have the fingerprint read to you by the administrator of `{peer}`; if that station has a new key, `airlock trust add {peer} station.pub \
                 --fingerprint FP --link-only` says so"
            )));
        }
        let first = format!(
            "the first receipt of `{name}` in this stream (key fingerprint {print}): from here on it is remembered where that station's ledger stood"
        );
        return Ok((vec![first], with(known, receipt)));
    };
    let told = went_back(name, *before, Heard { created: receipt.created, ledger: receipt.ledger });
    Ok((told.into_iter().collect(), with(known, receipt)))
}

/// What it means that a receiver's ledger is behind what it said before, or another one.
fn went_back(name: &str, before: Heard, now: Heard) -> Option<String> {
    // An older receipt says nothing of what came later.
    let is_older = now.created < before.created;
    let goes_on = now.ledger.number > before.ledger.number || now.ledger == before.ledger;
    (!is_older && !goes_on).then(|| {
        format!(
            "the ledger of `{name}` had {} entries by a receipt before, and by this newer one it has {}{}: that station was restored from a backup, or its past was \
             rewritten; ask its administrator",
            before.ledger.number,
            now.ledger.number,
            if now.ledger.number == before.ledger.number { " others" } else { "" },
        )
    })
}

/// Whether somebody said here that this is the key of a station that is known.
async fn is_trusted(station: &Station, public_key: &str) -> Result<bool> {
    let all = trust::list(station).await?;
    Ok(all.iter().any(|trust| trust.packet_key().is_some_and(|key| hex::encode(&key) == public_key)))
}

/// What it means that a bundle tells of an entry of this station's ledger which is not there.
pub(super) async fn forgotten(station: &Station, m: &Manifest) -> Result<Option<String>> {
    let Some(told) = m.heard.get(&station.key.public_hex()) else { return Ok(None) };
    let held = station.store.db.ledger(told.number, 1).await?;
    if told.number == 0
        || held.first().is_some_and(|(entry, hash)| entry.number == told.number && *hash == told.hash)
    {
        return Ok(None);
    }
    Ok(Some(format!(
        "{} has a receipt of this station by which its ledger had another entry {} than it has now, or had more: this station was restored from a backup, or its past was \
         rewritten; `airlock ledger verify` looks further",
        m.sender.name, told.number
    )))
}

#[cfg(test)]
mod tests {
    use airlock_core::id::Digest;

    use super::*;

    fn heard(minute: i64, number: u64, hash: u8) -> Heard {
        Heard {
            created: Time::from_seconds(60 * minute),
            ledger: LedgerHead { number, hash: Digest::of(&[hash]) },
        }
    }

    #[test]
    fn a_ledger_that_is_behind_what_it_was_is_told_and_an_older_receipt_is_not() {
        let before = heard(10, 50, 1);
        for (now, is_told) in [
            (heard(11, 60, 2), false),
            (before, false),
            (heard(11, 50, 1), false),
            (heard(9, 40, 3), false),
            (heard(11, 49, 3), true),
            (heard(10, 49, 3), true),
            (heard(11, 50, 2), true),
        ] {
            assert_eq!(went_back("high", before, now).is_some(), is_told, "{now:?}");
        }
    }
}
