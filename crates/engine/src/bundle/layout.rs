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
    if !manifest.files.fit(bundle::MANIFEST_BYTES_MAX) {
        return Err(super::text::too_long());
    }
    match reads.filter(|reads| *reads < manifest.format) {
        None => Ok(()),
        Some(reads) => Err(Error::no(unread(manifest.format, reads)).hint(
            "update the other station, and give its next receipt with --receipt; or export without that, such as into one folder",
        )),
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
    use airlock_core::bundle::{BundledFile, Files};
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
        // In the text of a manifest, each of these characters is six.
        let name = "\u{1}".repeat(4096);
        let line = 6 * name.len() as u64;
        let fit = bundle::MANIFEST_BYTES_MAX / (line + 200);
        let list = |files: u64| {
            let file = |n: u64| {
                let sha256 = Digest::of(&n.to_le_bytes());
                let path = FilePath::of(sha256, &name);
                BundledFile { name: name.as_str().into(), path, sha256, size: 1, volume: None }
            };
            Files::of((0..files).map(file)).unwrap()
        };
        for (files, fits) in [(fit, true), (bundle::MANIFEST_BYTES_MAX / line + 1, false)] {
            manifest.files = list(files);
            let checked = check(&manifest, None);
            assert_eq!(checked.is_ok(), fits, "{files}");
            let told = checked.err().map(|error| error.message).unwrap_or_default();
            assert_eq!(told.contains("the list of the files would have more than"), !fits, "{told}");
        }
    }
}
