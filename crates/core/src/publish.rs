//! From judged records to published ones.
//!
//! A published record equals the upstream's in value, but for this list:
//! - keys that would lead a client out of the enclave are dropped: `url` of a conda record (in the `v3`
//!   tables it becomes the file's own name, since wheels there need one); `url`, `provenance` and `gpg-sig`
//!   of a PyPI file (`url` is set anew when the page is rendered);
//! - what clients verify by is added where it was missing: `sha256` and `size` of the pinned bytes;
//! - PyPI `core-metadata` says what is served here, and its deprecated twins are dropped.

use crate::canon::Canonical;
use crate::ecosystem::Ecosystem;
use crate::fact::{Facts, FileFact};
use crate::shard::{Entry, Shard};
use crate::verdict::Judgement;

/// What is published of a shard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Published {
    /// Nothing.
    Nothing,
    /// All of it, as it came: the upstream's shard itself.
    Whole,
    /// This.
    Part(Shard),
}

/// What is offered of `upstream`.
pub fn publish(upstream: &Shard, judgement: &Judgement, facts: &Facts) -> Published {
    let as_it_came = |(file, entry): (&String, &Entry)| {
        judgement.artifacts.get(file).is_some_and(|j| j.is_offered())
            && facts.files.get(file).is_some_and(|f| f.file.is_some())
            && upstream.ecosystem == Ecosystem::Conda
            && is_publishable(&entry.record)
    };
    if !upstream.entries.is_empty() && upstream.entries.iter().all(as_it_came) {
        return Published::Whole;
    }
    let mut out = Shard::new(upstream.ecosystem, upstream.name.clone(), upstream.subdir.clone());
    out.meta = upstream.meta.clone();
    for (file, entry) in &upstream.entries {
        let offered = judgement.artifacts.get(file).is_some_and(|j| j.is_offered());
        let fact = facts.files.get(file).and_then(|f| f.file.as_ref());
        if let (true, Some(fact)) = (offered, fact) {
            let record = record(upstream.ecosystem, file, entry, fact);
            out.entries.insert(file.clone(), Entry { table: entry.table.clone(), record });
        }
    }
    if out.entries.is_empty() { Published::Nothing } else { Published::Part(out) }
}

/// One published record.
pub fn record(ecosystem: Ecosystem, file: &str, entry: &Entry, fact: &FileFact) -> Canonical {
    if ecosystem == Ecosystem::Conda && is_publishable(&entry.record) {
        return entry.record.clone();
    }
    let members = entry.record.members();
    let sha256 = Canonical::string(&fact.sha256.to_string());
    let mut kept: Vec<(&str, Canonical)> = Vec::with_capacity(members.len() + 2);
    match ecosystem {
        Ecosystem::Conda => {
            let is_v3 = entry.table.starts_with("v3/");
            for (key, value) in &members {
                match key.as_str() {
                    "url" if is_v3 => kept.push((key, Canonical::string(file))),
                    "url" => {}
                    // A null hash is no hash.
                    "sha256" | "size" if value.as_str() == "null" => {}
                    _ => kept.push((key, value.clone())),
                }
            }
        }
        Ecosystem::Pypi => {
            for (key, value) in &members {
                match key.as_str() {
                    "url"
                    | "provenance"
                    | "gpg-sig"
                    | "core-metadata"
                    | "dist-info-metadata"
                    | "data-dist-info-metadata" => {}
                    "hashes" => {}
                    "size" if value.as_str() == "null" => {}
                    _ => kept.push((key, value.clone())),
                }
            }
            let mut hashes =
                members.iter().find(|(k, _)| k == "hashes").map(|(_, v)| v.members()).unwrap_or_default();
            hashes.retain(|(name, _)| name != "sha256");
            hashes.push(("sha256".to_owned(), sha256.clone()));
            kept.push(("hashes", Canonical::object(hashes.iter().map(|(k, v)| (k.as_str(), v)))));
            if let Some(metadata) = fact.metadata {
                let value = Canonical::string(&metadata.to_string());
                kept.push(("core-metadata", Canonical::object([("sha256", &value)])));
            }
        }
    }
    let has = |kept: &[(&str, Canonical)], key: &str| kept.iter().any(|(k, _)| *k == key);
    if ecosystem == Ecosystem::Conda && !has(&kept, "sha256") {
        kept.push(("sha256", sha256));
    }
    if !has(&kept, "size")
        && let Ok(size) = Canonical::of(&fact.size)
    {
        kept.push(("size", size));
    }
    Canonical::object(kept.iter().map(|(k, v)| (*k, v)))
}

/// Whether a conda record can be published as it came, as nearly all can.
fn is_publishable(record: &Canonical) -> bool {
    let (mut hashed, mut sized) = (false, false);
    for (key, value) in record.parts() {
        match key.as_ref() {
            "url" => return false,
            "sha256" => hashed = value != "null",
            "size" => sized = value != "null",
            _ => {}
        }
    }
    hashed && sized
}
