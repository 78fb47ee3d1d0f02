//! What of a bundle is carried: the one place here that knows how a bundle is laid out.
//!
//! All files one after another, in the manifest's order, are one long stretch of bytes, the *data*; manifest,
//! signatures and root are the *document*. Where a byte of the data belongs follows from the manifest, which the document brings.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::Arc;

use airlock_core::bundle::{
    ByPath, Files, MANIFEST, MANIFEST_BYTES_MAX, Manifest, ROOT, SIGNATURES, SIGNATURES_BYTES_MAX,
};
use airlock_core::id::Digest;
use airlock_core::place::FilePath;
use airlock_core::root::ROOT_BYTES_MAX;
use airlock_core::volume;
use airlock_formats::oneway::missing::{Missing, Part};
use airlock_formats::oneway::ranges::Ranges;

use crate::bundle::signing::Trusted;
use crate::bundle::verify::{self, Opened};
use crate::bundle::{admission, media};
use crate::error::{Error, Result, file_error};

/// Bytes that say how long a part of the document is.
const LENGTH_BYTES: usize = 8;
/// The least that a folder takes, in bytes.
const FOLDER_BYTES: u64 = 4096;
/// Largest document, in bytes.
pub(super) const DOCUMENT_BYTES_MAX: u64 =
    2 * LENGTH_BYTES as u64 + MANIFEST_BYTES_MAX + SIGNATURES_BYTES_MAX + ROOT_BYTES_MAX;

/// The files of a bundle whose manifest is signed by a known key, each called by its number. There may be millions of artifacts: they
/// are kept as the manifest lists them.
#[derive(Debug)]
pub(super) struct Members {
    /// SHA-256 of the manifest, which names the transfer.
    pub transfer: Digest,
    /// The stream.
    pub stream: String,
    /// The bundle's number.
    pub number: u64,
    /// The files of objects, path and hash, which are the first.
    objects: Vec<(String, Digest)>,
    /// The artifacts, or parts of them.
    files: ByPath<Files>,
    /// Whatever else is listed, which is the last.
    extra: Vec<(String, Digest)>,
    /// The numbers of what is no artifact, by path.
    beside: BTreeMap<String, usize>,
    /// Where in the data each file ends.
    ends: Vec<u64>,
}

impl Members {
    /// Reads what a bundle's manifest says.
    pub fn open(dir: &Path, trusted: &Trusted) -> Result<Self> {
        let opened = verify::open(dir, trusted.clone())?;
        Self::check(&opened)?;
        Self::of(opened)
    }

    /// Whether a bundle is one that is sent, as far as its manifest says.
    pub fn check(opened: &Opened) -> Result<()> {
        let Opened { dir, manifest, part, .. } = opened;
        match part {
            volume::Part::Whole => admission::check_names(manifest),
            _ => Err(Error::usage(format!("{} holds {part} of a bundle", dir.display()))
                .hint("send a bundle that lies in one folder: `airlock export` without --capacity")),
        }
    }

    /// What the manifest of an opened bundle says, which was [checked](Self::check).
    pub fn of(opened: Opened) -> Result<Self> {
        let Manifest { stream, number, objects, files, extra, .. } = Arc::unwrap_or_clone(opened.manifest);
        let mut ends = Vec::with_capacity(objects.len() + files.len() + extra.len());
        let mut end = 0_u64;
        let sizes = objects.iter().map(|f| f.size).chain(files.sizes()).chain(extra.iter().map(|f| f.size));
        for size in sizes {
            let after = end.checked_add(size);
            end = after.ok_or_else(|| Error::unsafe_("the manifest names more bytes than there are"))?;
            ends.push(end);
        }
        let objects: Vec<_> = objects.into_iter().map(|f| (f.path, f.sha256)).collect();
        let extra: Vec<_> = extra.into_iter().map(|f| (f.path, f.sha256)).collect();
        let numbered = (0..).zip(&objects).chain((objects.len() + files.len()..).zip(&extra));
        let beside = numbered.map(|(at, (path, _))| (path.clone(), at)).collect();
        let files = files.into_by_path();
        Ok(Self { transfer: opened.digest, stream, number, objects, files, extra, beside, ends })
    }

    /// How many files there are.
    pub fn count(&self) -> usize {
        self.ends.len()
    }

    /// The bytes of the data that are the content of a file.
    pub fn range(&self, at: usize) -> Option<Range<u64>> {
        let end = *self.ends.get(at)?;
        let start = at.checked_sub(1).and_then(|before| self.ends.get(before)).copied();
        Some(start.unwrap_or(0)..end)
    }

    /// Path within the bundle, and SHA-256, of a file.
    pub fn file(&self, at: usize) -> Option<(String, Digest)> {
        let Some(at) = at.checked_sub(self.objects.len()) else { return self.objects.get(at).cloned() };
        let files = self.files.files();
        match at.checked_sub(files.len()) {
            Some(at) => self.extra.get(at).cloned(),
            None => files.get(at).map(|file| (file.path.to_string(), file.sha256)),
        }
    }

    /// The number of the file with a path.
    pub fn find(&self, path: &str) -> Option<usize> {
        let beside = self.beside.get(path).copied();
        beside.or_else(|| Some(self.objects.len() + self.files.find(&FilePath::from(path))?))
    }

    /// What all files take on a disk, in bytes: whole blocks, at least one for each file, and the folders.
    pub fn room(&self) -> u64 {
        let sizes =
            (0..self.count()).filter_map(|at| self.range(at)).map(|range| (range.end - range.start).max(1));
        media::room_for(sizes).saturating_add(media::room_for_folders(self.count() as u64, FOLDER_BYTES))
    }

    /// Bytes of all files.
    pub fn bytes(&self) -> u64 {
        self.ends.last().copied().unwrap_or(0)
    }

    /// The files that have bytes within a stretch, by number, with all the bytes that are theirs; empty files are in none.
    pub fn within(&self, range: Range<u64>) -> impl Iterator<Item = (usize, Range<u64>)> {
        let first = self.ends.partition_point(|end| *end <= range.start);
        let rest = (first..self.count()).filter_map(|at| Some((at, self.range(at)?)));
        rest.take_while(move |(_, bytes)| bytes.start < range.end).filter(|(_, bytes)| !bytes.is_empty())
    }

    /// The list of what is missing, where these bytes are there.
    pub fn missing(&self, have: &Ranges, is_verified: impl Fn(usize) -> bool) -> Missing {
        let mut parts = Vec::new();
        for at in (0..self.count()).filter(|at| !is_verified(*at)) {
            let Some((range, (path, _))) = self.range(at).zip(self.file(at)) else { continue };
            for bytes in have.missing(range.clone()) {
                let bytes = (bytes != range).then_some(bytes.start - range.start..bytes.end - range.start);
                parts.push(Part { path: path.clone(), bytes });
            }
            if range.is_empty() {
                parts.push(Part { path, bytes: None });
            }
        }
        Missing { transfer: self.transfer, parts }
    }

    /// The bytes that a missing list names.
    pub fn listed(&self, missing: &Missing) -> Result<Ranges> {
        if missing.transfer != self.transfer {
            return Err(Error::usage(format!(
                "the list is of the bundle with manifest {}, this one has {}",
                missing.transfer, self.transfer
            ))
            .hint("give the folder of the bundle that was sent, or the list that the receiver printed for this one"));
        }
        let mut out = Ranges::default();
        for Part { path, bytes } in &missing.parts {
            let range = self.find(path).and_then(|at| self.range(at));
            let size = range.as_ref().map_or(0, |range| range.end - range.start);
            let stretch = bytes.clone().unwrap_or(0..size);
            match range {
                Some(range) if stretch.end <= size => {
                    out.insert(range.start + stretch.start..range.start + stretch.end);
                }
                _ => {
                    let what = path.escape_default();
                    return Err(Error::usage(format!(
                        "the list names bytes of `{what}` that the bundle does not have"
                    ))
                    .hint("give the list as the receiver wrote it"));
                }
            }
        }
        Ok(out)
    }
}

/// The document of a bundle: 8 bytes that say how long the manifest is, 8 that say how long the signatures are, the manifest, the
/// signatures, and the root that comes with it, if one does: what has to be here before anything else is believed. It is as long as the
/// list of the files, and so it lies in a file without a name in a folder of this station.
pub(super) fn document(dir: &Path, beside: &Path) -> Result<(File, u64)> {
    let mut parts = Vec::new();
    for name in [MANIFEST, SIGNATURES, ROOT] {
        let path = dir.join(name);
        if name == ROOT && !path.exists() {
            continue;
        }
        let file = File::open(&path).map_err(file_error(&path))?;
        let size = file.metadata().map_err(file_error(&path))?.len();
        parts.push((path, file, size));
    }
    let lengths = parts.iter().take(2).flat_map(|(.., size)| size.to_be_bytes());
    let head: Vec<u8> = lengths.collect();
    let total = parts.iter().fold(head.len() as u64, |sum, (.., size)| sum.saturating_add(*size));
    if total > DOCUMENT_BYTES_MAX {
        return Err(
            Error::usage("the manifest is too large to be sent").hint("export fewer channels at a time")
        );
    }
    media::check_room(beside, total)?;
    let mut out = tempfile::tempfile_in(beside).map_err(file_error(beside))?;
    out.write_all(&head).map_err(file_error(beside))?;
    for (path, file, size) in parts {
        let both = format!("{} to a file in {}", path.display(), beside.display());
        let copied = std::io::copy(&mut file.take(size), &mut out).map_err(file_error(both))?;
        if copied < size {
            return Err(Error::fault(format!("{} became shorter while it was read", path.display()))
                .hint("run `airlock verify` on the bundle, and send it again when nobody writes to it"));
        }
    }
    Ok((out, total))
}

/// Where in a document of so many bytes manifest, signatures and root stand.
pub(super) fn parts(document: &File, total: u64) -> std::io::Result<Option<[Range<u64>; 3]>> {
    let mut head = [0; 2 * LENGTH_BYTES];
    if total < head.len() as u64 {
        return Ok(None);
    }
    document.read_exact_at(&mut head, 0)?;
    let length = |bytes: &[u8]| bytes.iter().fold(0, |sum: u64, byte| sum << 8 | u64::from(*byte));
    let (first, second) = head.split_at(LENGTH_BYTES);
    let (start, manifest, signatures) = (head.len() as u64, length(first), length(second));
    let ends = start.checked_add(manifest).and_then(|end| Some((end, end.checked_add(signatures)?)));
    Ok(ends.filter(|(_, end)| *end <= total).map(|(middle, end)| [start..middle, middle..end, end..total]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_is_taken_apart_as_it_was_put_together_or_not_at_all() {
        let dir = tempfile::tempdir().unwrap();
        for root in [None, Some("root")] {
            let texts = [(MANIFEST, Some("{}")), (SIGNATURES, Some("signature\n")), (ROOT, root)];
            for (name, text) in texts {
                text.into_iter().for_each(|text| std::fs::write(dir.path().join(name), text).unwrap());
            }
            let (file, total) = document(dir.path(), dir.path()).unwrap();
            let stretches = parts(&file, total).unwrap().unwrap();
            for ((_, text), range) in texts.into_iter().zip(stretches) {
                let mut bytes = vec![0; (range.end - range.start) as usize];
                file.read_exact_at(&mut bytes, range.start).unwrap();
                assert_eq!(bytes, text.unwrap_or_default().as_bytes());
            }
            // Shorter than it says.
            assert!((0..28).all(|total| parts(&file, total).unwrap().is_none()));
        }
        let mut lie = tempfile::tempfile().unwrap();
        lie.write_all(&[0xff; 100]).unwrap();
        assert_eq!(parts(&lie, 100).unwrap(), None);
    }
}
