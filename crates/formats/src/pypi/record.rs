//! The entry that a Simple page holds of a file, made from the file itself (PEP 691, PEP 700).

use airlock_core::canon::Canonical;
use airlock_core::ecosystem::{self, Ecosystem};
use airlock_core::id::Digest;
use airlock_core::record::Artifact;
use airlock_core::shard::Entry;
use airlock_core::version::Order;

use crate::archive::info::Stated;
use crate::read::brief;

/// The entry of `file`, which lies at `url` (relative to its page), has `size` bytes that hash to `sha256`, and
/// says `stated` of itself: the canonical project and the entry for an index.
///
/// There is no `upload-time` in it: a file does not know when it was uploaded, and the times of a file system
/// say when it was copied. What asks for it finds it unknown. There is no `core-metadata` either: nothing lies
/// beside the file, and what is served is said when it is published.
///
/// # Errors
///
/// Why the file can have no entry, in words.
pub fn file_record(
    file: &str,
    url: &str,
    stated: &Stated,
    sha256: Digest,
    size: u64,
) -> Result<(String, Entry), String> {
    let name = ecosystem::canonical_name(Ecosystem::Pypi, &stated.name)
        .ok_or_else(|| format!("`{}` cannot be a project name", brief(&stated.name)))?;
    let mut record = serde_json::json!({
        "filename": file, "url": url, "hashes": {"sha256": sha256.to_string()}, "size": size,
    });
    if let Some(python) = &stated.requires_python {
        record["requires-python"] = python.clone().into();
    }
    let record = Canonical::of(&record).map_err(|e| e.to_string())?;
    let entry = Entry { table: "files".to_owned(), record };
    let artifact = Artifact::from_parts(Ecosystem::Pypi, &name, file, &entry).map_err(|e| e.to_string())?;
    let same = artifact.version == stated.version
        || Order::of(Ecosystem::Pypi)
            .compare(&artifact.version, &stated.version)
            .is_some_and(std::cmp::Ordering::is_eq);
    if !same {
        let (said, named) = (brief(&stated.version), brief(&artifact.version));
        return Err(format!("it is version {said}, and its file name says {named}"));
    }
    Ok((name, entry))
}
