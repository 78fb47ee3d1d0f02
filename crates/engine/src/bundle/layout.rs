//! Which layout a bundle has, and whether its receiver reads that.

use std::collections::BTreeMap;

use airlock_core::advisory::FeedHead;
use airlock_core::bundle::{self, Manifest};

use super::export::What;
use super::held::Carried;
use crate::error::{Error, Result};
use crate::station::Station;

/// What the media and the receiver of a bundle take.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    /// The largest file, in bytes.
    pub file: u64,
    /// The newest layout that the receiver reads, if anybody said it.
    pub reads: Option<u32>,
}

/// What the media and the receiver of a stream take, as far as anybody said it, and whether what is held goes along.
pub(super) async fn asked(station: &Station, stream: &str, what: &What, file: u64) -> Result<(Bounds, bool)> {
    let reads = match what.reads {
        Some(reads) => Some(reads),
        None => crate::retention::reads(station, stream).await?,
    };
    Ok((Bounds { file, reads }, what.held && reads.is_none_or(|reads| reads >= bundle::FORMAT_HELD)))
}

/// Refuses a bundle that its receiver would refuse, before anything of it is written. What cannot be left out without a person's
/// word stays.
pub(super) fn check(manifest: &Manifest, reads: Option<u32>) -> Result<()> {
    check_length(manifest, bundle::MANIFEST_BYTES_MAX)?;
    match reads.filter(|reads| *reads < manifest.format) {
        None => Ok(()),
        Some(reads) => Err(Error::no(unread(manifest.format, reads)).hint(
            "update the other station, and give its next receipt with --receipt; or export without that, such as into one folder",
        )),
    }
}

/// What one file in parts adds to a manifest beside its parts at most, in bytes.
const JOINED_BYTES_MAX: u64 = 180;

/// Refuses what could not be written as a manifest of at most so many bytes, as far as that grows with the files.
fn check_length(manifest: &Manifest, most: u64) -> Result<()> {
    let joined = (manifest.joined.len() as u64).saturating_mul(JOINED_BYTES_MAX);
    match manifest.files.fit(most.saturating_sub(joined)) {
        true => Ok(()),
        false => Err(super::text::too_long()),
    }
}

/// What was asked for and is left out, since the receiver does not read it.
pub(super) fn left_out(what: &What, bounds: Bounds, with_held: bool) -> Vec<String> {
    let reads = bounds.reads.filter(|_| what.held && !with_held);
    reads.map(|reads| unread(bundle::FORMAT_HELD, reads)).into_iter().collect()
}

/// That a receiver does not read something, in words.
pub(super) fn unread(format: u32, reads: u32) -> String {
    format!(
        "{} need layout {format} of bundles, and the last receipt says that the other station reads up to {reads}",
        bundle::needed_for(format)
    )
}

/// The layout that has all that is in a bundle.
pub(super) fn of(heads: &BTreeMap<String, FeedHead>, has_root: bool, held: &Carried) -> u32 {
    let format = bundle::format_of(heads.values(), has_root);
    if held.channels.is_empty() { format } else { format.max(bundle::FORMAT_HELD) }
}

#[cfg(test)]
mod tests {
    use airlock_core::bundle::BundledFile;
    use airlock_core::cut::Joined;
    use airlock_core::id::Digest;
    use airlock_core::place::FilePath;

    use super::*;

    #[test]
    fn a_list_that_nobody_would_read_is_refused_before_anything_is_written() {
        let mut manifest: Manifest = serde_json::from_value(serde_json::json!({
            "channels": {}, "created": "2026-03-01T00:00:00Z", "extra": [], "feeds": {}, "files": [], "format": 1,
            "ledger": {"hash": Digest::of(b""), "number": 1}, "number": 1, "objects": [],
            "sender": {"name": "low", "public_key": ""}, "stream": "low-to-all",
        }))
        .unwrap();
        for name in ["a.conda", "b.conda"] {
            let sha256 = Digest::of(name.as_bytes());
            let path = FilePath::of(sha256, name);
            let file = BundledFile { name: name.into(), path, sha256, size: 1, volume: None };
            manifest.files.push(&file).unwrap();
        }
        let lines = serde_json::to_string(&manifest.files).unwrap().len() as u64 - 1;
        let told = |manifest: &Manifest, most| check_length(manifest, most).err().map(|error| error.message);
        assert_eq!(told(&manifest, lines), None);
        assert!(told(&manifest, lines - 1).unwrap().contains("the list of the files would have more than"));
        check(&manifest, None).unwrap();
        // What parts make has a line of its own.
        let whole = Joined { first: u64::MAX, parts: 999, sha256: Digest::of(b""), size: u64::MAX };
        manifest.joined = vec![whole];
        assert!((serde_json::to_string(&whole).unwrap().len() as u64) < JOINED_BYTES_MAX);
        assert_eq!(told(&manifest, lines + JOINED_BYTES_MAX), None);
        assert!(told(&manifest, lines + JOINED_BYTES_MAX - 1).is_some());
    }
}
