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

/// Receivers of one stream that are remembered: bundles carry what was heard of each.
const RECEIVERS_MAX: usize = 64;

/// Receivers of a stream, by their public keys.
pub type Receivers = BTreeMap<String, Heard>;

/// The receivers of a stream whose receipts were used.
pub(super) async fn receivers(station: &Station, stream: &str) -> Result<Receivers> {
    match station.store.db.find_ref(&base_ref(stream)).await? {
        Some(id) => Ok(station.store.db.get::<LastBase>(Id::new(id)).await?.receivers),
        None => Ok(Receivers::new()),
    }
}

/// The same, with what this receipt says of the station that signed it, unless a newer one was used before. Of very many, those stay
/// whose receipts are newest.
fn with(mut receivers: Receivers, receipt: &Receipt) -> Receivers {
    let heard = Heard { created: receipt.created, ledger: receipt.ledger };
    let known = receivers.entry(receipt.receiver.public_key.clone()).or_insert(heard);
    if known.created <= heard.created {
        *known = heard;
    }
    while receivers.len() > RECEIVERS_MAX {
        let oldest = receivers.iter().min_by_key(|(_, heard)| heard.created).map(|(key, _)| key.clone());
        oldest.map(|key| receivers.remove(&key));
    }
    receivers
}

/// Holds a receipt against what was heard before in its stream. Gives what a person should know of it, and what was heard with it.
///
/// # Errors
///
/// Unsafe: the stream is one peer's, and this is not its key: the one that is trusted here under the peer's name or, where none is, that
/// which answered before.
pub async fn hold(
    station: &Station,
    to: Option<&str>,
    receipt: &Receipt,
) -> Result<(Vec<String>, Receivers)> {
    let known = receivers(station, &receipt.stream).await?;
    let Sender { name, public_key } = &receipt.receiver;
    let print = hex::decode::<32>(public_key).map(|key| fingerprint(&key)).unwrap_or_default();
    if let Some(peer) = to {
        let named = keys_of(station, peer).await?;
        let is_its = match named.is_empty() {
            true => known.is_empty() || known.contains_key(public_key),
            false => named.contains(public_key),
        };
        if !is_its {
            let whose =
                if named.is_empty() { "another key answered for" } else { "another key is trusted here as" };
            return Err(Error::unsafe_(format!(
                "the receipt is signed by `{name}` (key fingerprint {print}), and {whose} `{peer}`"
            ))
            .hint(format!(
                "have the fingerprint read to you by the administrator of `{peer}`; if that station has this key now, `airlock trust add {peer} station.pub \
                 --fingerprint FP --link-only` says so (packets of a one-way link are believed by it, too)"
            )));
        }
    }
    let told = match known.get(public_key) {
        None => Some(format!(
            "the first receipt of `{name}` that is used in this stream (key fingerprint {print}): compare it with what its administrator says"
        )),
        Some(before) => went_back(name, *before, Heard { created: receipt.created, ledger: receipt.ledger }),
    };
    Ok((told.into_iter().collect(), with(known, receipt)))
}

/// The keys that are trusted here under a name.
async fn keys_of(station: &Station, name: &str) -> Result<Vec<String>> {
    let all = trust::list(station).await?.into_iter().filter(|trust| trust.name == name);
    Ok(all.filter_map(|trust| trust.packet_key().map(|key| hex::encode(&key))).collect())
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

    fn receipt(minute: i64, key: usize) -> Receipt {
        let heard = heard(minute, 1, 1);
        Receipt {
            format: 1,
            receiver: Sender { name: "high".to_owned(), public_key: format!("{key:064}") },
            stream: "s".to_owned(),
            last: None,
            missing: None,
            channels: BTreeMap::new(),
            created: heard.created,
            ledger: heard.ledger,
        }
    }

    #[test]
    fn of_very_many_receivers_those_stay_that_answered_last_and_an_older_receipt_changes_nothing() {
        let all = (0..RECEIVERS_MAX + 7).map(|n| receipt(100 + n as i64, n));
        let kept = all.fold(Receivers::new(), |kept, one| with(kept, &one));
        assert_eq!(kept.len(), RECEIVERS_MAX);
        assert!(!kept.contains_key(&format!("{:064}", 6)) && kept.contains_key(&format!("{:064}", 7)));
        assert_eq!(with(kept.clone(), &receipt(1, 9)), kept);
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
