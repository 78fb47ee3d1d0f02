//! What of a bundle is carried: the one place here that knows how a bundle is laid out.
//!
//! All files one after another, in the manifest's order, are one long stretch of bytes, the *data*; manifest,
//! signatures and root are the *document*. Where a byte of the data belongs follows from the manifest, which the document brings.

use std::ops::Range;
use std::path::Path;

use airlock_core::bundle::{MANIFEST, MANIFEST_BYTES_MAX, Manifest, ROOT, SIGNATURES, SIGNATURES_BYTES_MAX};
use airlock_core::id::Digest;
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

/// One file of a bundle.
#[derive(Clone, Debug)]
pub(super) struct Member {
    /// Path within the bundle.
    pub path: String,
    /// SHA-256.
    pub sha256: Digest,
    /// The bytes of the data that are its content.
    pub range: Range<u64>,
}

/// The files of a bundle whose manifest is signed by a known key.
#[derive(Debug)]
pub(super) struct Members {
    /// SHA-256 of the manifest, which names the transfer.
    pub transfer: Digest,
    /// The stream.
    pub stream: String,
    /// The bundle's number.
    pub number: u64,
    /// The files, by offset.
    pub list: Vec<Member>,
    /// Their numbers, by path.
    by_path: Vec<usize>,
}

impl Members {
    /// Reads what a bundle's manifest says.
    pub fn open(dir: &Path, trusted: &Trusted) -> Result<Self> {
        Self::of(&verify::open(dir, trusted.clone())?)
    }

    /// What the manifest of an opened bundle says.
    pub fn of(opened: &Opened) -> Result<Self> {
        let Opened { manifest, digest, part, .. } = opened;
        if *part != volume::Part::Whole {
            return Err(Error::usage(format!("{} holds {part} of a bundle", opened.dir.display()))
                .hint("send a bundle that lies in one folder: `airlock export` without --capacity"));
        }
        admission::check_names(manifest)?;
        let list = members(manifest)?;
        let mut by_path: Vec<usize> = (0..list.len()).collect();
        by_path.sort_unstable_by_key(|at| list.get(*at).map(|member| member.path.as_str()));
        let (stream, number) = (manifest.stream.clone(), manifest.number);
        Ok(Self { transfer: *digest, stream, number, list, by_path })
    }

    /// The file with a path, and its number.
    pub fn find(&self, path: &str) -> Option<(usize, &Member)> {
        let path_of = |at: &usize| self.list.get(*at).map(|member| member.path.as_str());
        let found = self.by_path.binary_search_by(|at| path_of(at).cmp(&Some(path))).ok()?;
        let at = *self.by_path.get(found)?;
        Some((at, self.list.get(at)?))
    }

    /// What all files take on a disk, in bytes: whole blocks, at least one for each file, and the folders.
    pub fn room(&self) -> u64 {
        let sizes = self.list.iter().map(|member| (member.range.end - member.range.start).max(1));
        media::room_for(sizes).saturating_add(media::room_for_folders(self.list.len() as u64, FOLDER_BYTES))
    }

    /// Bytes of all files.
    pub fn bytes(&self) -> u64 {
        self.list.last().map_or(0, |member| member.range.end)
    }

    /// The files that have bytes within a stretch, with their numbers; empty files are in none.
    pub fn within(&self, range: Range<u64>) -> impl Iterator<Item = (usize, &Member)> {
        let first = self.list.partition_point(|member| member.range.end <= range.start);
        let rest = self.list.iter().enumerate().skip(first);
        rest.take_while(move |(_, member)| member.range.start < range.end)
            .filter(|(_, member)| !member.range.is_empty())
    }

    /// The list of what is missing, where these bytes are there.
    pub fn missing(&self, have: &Ranges, is_verified: impl Fn(usize) -> bool) -> Missing {
        let mut parts = Vec::new();
        let open = self.list.iter().enumerate().filter(|(at, _)| !is_verified(*at));
        for (_, member) in open {
            let (path, start) = (member.path.clone(), member.range.start);
            for bytes in have.missing(member.range.clone()) {
                let bytes = (bytes != member.range).then_some(bytes.start - start..bytes.end - start);
                parts.push(Part { path: path.clone(), bytes });
            }
            if member.range.is_empty() {
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
            let member = self.find(path).map(|(_, member)| member);
            let size = member.map_or(0, |m| m.range.end - m.range.start);
            let stretch = bytes.clone().unwrap_or(0..size);
            match member {
                Some(member) if stretch.end <= size => {
                    out.insert(member.range.start + stretch.start..member.range.start + stretch.end);
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

/// Every file that a manifest lists, where it lies in the data.
fn members(manifest: &Manifest) -> Result<Vec<Member>> {
    let objects = manifest.objects.iter().map(|f| (f.path.clone(), f.sha256, f.size));
    let files = manifest.files.iter().map(|f| (f.path.to_string(), f.sha256, f.size));
    let extra = manifest.extra.iter().map(|f| (f.path.clone(), f.sha256, f.size));
    let mut end = 0_u64;
    let place = |(path, sha256, size): (String, Digest, u64)| {
        let start = end;
        end = start
            .checked_add(size)
            .ok_or_else(|| Error::unsafe_("the manifest names more bytes than there are"))?;
        Ok(Member { path, sha256, range: start..end })
    };
    objects.chain(files).chain(extra).map(place).collect()
}

/// The document of a bundle: 8 bytes that say how long the manifest is, 8 that say how long the signatures are, the manifest, the
/// signatures, and the root that comes with it, if one does: what has to be here before anything else is believed.
pub(super) fn document(dir: &Path) -> Result<Vec<u8>> {
    let read = |name| {
        let path = dir.join(name);
        std::fs::read(&path).map_err(file_error(path))
    };
    let (manifest, signatures) = (read(MANIFEST)?, read(SIGNATURES)?);
    let root = if dir.join(ROOT).exists() { read(ROOT)? } else { Vec::new() };
    let lengths = [manifest.len(), signatures.len()].map(|length| (length as u64).to_be_bytes()).concat();
    Ok([lengths, manifest, signatures, root].concat())
}

/// Manifest, signatures and root of a document.
pub(super) fn split(document: &[u8]) -> Option<[&[u8]; 3]> {
    let length = |bytes: &[u8; LENGTH_BYTES]| usize::try_from(u64::from_be_bytes(*bytes)).ok();
    let (first, rest) = document.split_first_chunk::<LENGTH_BYTES>()?;
    let (second, rest) = rest.split_first_chunk::<LENGTH_BYTES>()?;
    let (manifest, rest) = rest.split_at_checked(length(first)?)?;
    let (signatures, root) = rest.split_at_checked(length(second)?)?;
    Some([manifest, signatures, root])
}
