//! Files over a medium's limit, which travel cut in parts.
//!
//! What travels is what [`Manifest::files`] lists, each with its own hash: a file that is cut is listed as its parts, one after
//! another, and [`Manifest::joined`] says what they make. So whatever carries, checks, resends or rebuilds files knows nothing of
//! parts; only who reads the store knows, and who fills one.

use std::borrow::Cow;
use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::bundle::{BundledFile, Files, Manifest, Unlisted};
use crate::id::Digest;
use crate::place::FilePath;

/// The layout of bundles with files in parts.
pub const FORMAT: u32 = 4;
/// The most parts of a file: the number at the end of a part's path has three digits.
pub const PARTS_MAX: u64 = 999;
/// The smallest limit of files, in bytes.
pub const LIMIT_MIN: u64 = 64 << 10;
/// The largest file on FAT32, in bytes.
pub const FAT32_MAX: u64 = u32::MAX as u64;

/// A file that travels in parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Joined {
    /// The place of the first part in the list of files; the others follow it.
    pub first: u64,
    /// How many there are.
    pub parts: u64,
    /// SHA-256 of all of them together.
    pub sha256: Digest,
    /// Their bytes together.
    pub size: u64,
}

impl Joined {
    /// The places of its parts.
    pub fn places(&self) -> std::ops::Range<usize> {
        let at = |n: u64| usize::try_from(n).unwrap_or(usize::MAX);
        at(self.first)..at(self.first.saturating_add(self.parts))
    }
}

/// A file as a store holds it, whatever it travels as.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Whole<'a> {
    /// The place in the list of it, or of its first part.
    pub place: usize,
    /// What it is called where it came from.
    pub name: Cow<'a, str>,
    /// Where it lies in a bundle, or would if it were not cut.
    pub path: FilePath,
    /// SHA-256.
    pub sha256: Digest,
    /// Bytes.
    pub size: u64,
    /// What it makes whole of parts, if it travels in parts.
    pub joined: Option<&'a Joined>,
}

impl Manifest {
    /// The files as a store holds them, in the order of their paths.
    pub fn wholes(&self) -> impl Iterator<Item = Whole<'_>> + Clone {
        let mut at = 0usize;
        std::iter::from_fn(move || {
            let whole = self.whole(at)?;
            at += whole.joined.map_or(1, |joined| joined.places().len().max(1));
            Some(whole)
        })
    }

    /// What stands at a place of the list, or begins there.
    pub fn whole(&self, place: usize) -> Option<Whole<'_>> {
        let BundledFile { name, path, sha256, size, .. } = self.files.get(place)?;
        let made = self.joined.binary_search_by_key(&place, |joined| joined.places().start).ok();
        Some(match made.and_then(|at| self.joined.get(at)) {
            Some(made) => Whole {
                place,
                name,
                path: path.whole().unwrap_or(path),
                sha256: made.sha256,
                size: made.size,
                joined: Some(made),
            },
            None => Whole { place, name, path, sha256, size, joined: None },
        })
    }

    /// Of what the file at a place of the list is a part, if it is one, and where in it it begins.
    pub fn part_of(&self, place: usize) -> Option<(&Joined, u64)> {
        let after = self.joined.partition_point(|joined| joined.places().start <= place);
        let joined =
            self.joined.get(after.checked_sub(1)?).filter(|joined| joined.places().contains(&place))?;
        let before = (joined.places().start..place).map(|part| self.files.size(part));
        Some((joined, before.fold(0, u64::saturating_add))).filter(|_| place < self.files.len())
    }
}

/// Cuts the files that are larger than `limit` bytes. The hashes of the parts are not known by that: until somebody reads them, each
/// bears that of its whole.
///
/// # Errors
///
/// A file that would have more than [`PARTS_MAX`] parts, or more files than can be listed.
pub fn cut(files: Files, limit: u64) -> Result<(Files, Vec<Joined>), Uncut> {
    if files.sizes().all(|size| size <= limit) {
        return Ok((files, Vec::new()));
    }
    let (mut out, mut all) = (Files::with_capacity(files.len()), Vec::new());
    for file in files.iter() {
        if file.size <= limit {
            out.push(&file)?;
            continue;
        }
        let parts = file.size.checked_div(limit).map(|_| file.size.div_ceil(limit));
        let Some(parts) = parts.filter(|parts| *parts <= PARTS_MAX) else {
            return Err(Uncut::Parts { name: file.name.into_owned(), limit });
        };
        all.push(Joined { first: out.len() as u64, parts, sha256: file.sha256, size: file.size });
        for part in 0..parts {
            let (path, size) = (file.path.part(part + 1), limit.min(file.size - part * limit));
            out.push(&BundledFile { path, size, ..file.clone() })?;
        }
    }
    Ok((out, all))
}

/// Why files cannot be cut.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Uncut {
    /// The names of parts have no more numbers.
    #[error("{name} would be cut in more than {PARTS_MAX} parts of {limit} bytes")]
    Parts {
        /// Of this file.
        name: String,
        /// How many bytes each may have.
        limit: u64,
    },
    /// There are too many of them.
    #[error("the bundle {0}")]
    Listed(#[from] Unlisted),
}

/// What is wrong with what a manifest says of files in parts, if anything is.
pub fn fault(m: &Manifest) -> Option<String> {
    if m.joined.is_empty() {
        return None;
    }
    if m.format < FORMAT {
        return Some(format!("has files in parts, which layout {} has not", m.format));
    }
    // Of very many files, those that may stand against one in parts.
    let first = |joined: &Joined| m.files.get(joined.places().start)?.path.whole();
    let (wholes, made): (BTreeSet<Option<FilePath>>, BTreeSet<Digest>) =
        m.joined.iter().map(|joined| (first(joined), joined.sha256)).unzip();
    let paths: BTreeSet<FilePath> =
        m.files.iter().map(|file| Some(file.path)).filter(|path| wholes.contains(path)).flatten().collect();
    let mut hashes: BTreeSet<Digest> =
        m.files.iter().map(|file| file.sha256).filter(|sha256| made.contains(sha256)).collect();
    let mut end = 0;
    for joined in &m.joined {
        let first = joined.first;
        let bad = |what: &str| Some(format!("has a file in parts, from place {first} on, {what}"));
        let places = joined.places();
        if joined.parts < 2 || joined.parts > PARTS_MAX {
            return bad("with an impossible number of parts");
        }
        if places.start < end {
            return bad("out of order or with parts of another");
        }
        end = places.end;
        let Some(mut parts) = m.files.at(places) else { return bad("with parts that are not there") };
        let whole = parts.clone().next().and_then(|part| part.path.whole());
        let is_called = |whole: &FilePath| {
            (1..).zip(parts.clone()).all(|(number, part)| part.path == whole.part(number))
                && !paths.contains(whole)
        };
        if !whole.as_ref().is_some_and(is_called) {
            return bad("whose parts are not called as parts of one file are");
        }
        let size = parts.clone().try_fold(0u64, |sum, part| sum.checked_add(part.size));
        if size != Some(joined.size) || parts.any(|part| part.size == 0) {
            return bad("whose parts have other bytes together than it");
        }
        if !hashes.insert(joined.sha256) {
            return bad("that is listed twice");
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn manifest(sizes: &[u64]) -> Manifest {
        let text = r#"{"channels":{},"created":"2026-03-01T00:00:00Z","extra":[],"feeds":{},"files":[],"format":4,"ledger":{"hash":"0707070707070707070707070707070707070707070707070707070707070707","number":1},"number":1,"objects":[],"sender":{"name":"low","public_key":""},"stream":"s"}"#;
        let mut manifest: Manifest = serde_json::from_str(text).unwrap();
        for (size, n) in sizes.iter().zip(0u32..) {
            let (name, sha256) = (format!("p{n}-1.0-py3-none-any.whl"), Digest::of(&n.to_be_bytes()));
            let path = FilePath::of(sha256, &name);
            manifest
                .files
                .push(&BundledFile { path, name: name.into(), sha256, size: *size, volume: None })
                .unwrap();
        }
        manifest.files.sort();
        manifest
    }

    /// With every part's hash, as if somebody had read them.
    fn cut_at(sizes: &[u64], limit: u64) -> Manifest {
        let mut m = manifest(sizes);
        (m.files, m.joined) = cut(m.files, limit).unwrap();
        for joined in m.joined.clone() {
            for (n, place) in joined.places().enumerate() {
                m.files.set_sha256(place, Digest::of(format!("{} {n}", joined.sha256).as_bytes())).unwrap();
            }
        }
        m
    }

    fn relist(m: &mut Manifest, change: impl FnOnce(&mut Vec<BundledFile<'_>>)) {
        let before = m.files.clone();
        let mut list = before.iter().collect();
        change(&mut list);
        m.files = Files::of(list).unwrap();
    }

    proptest! {
        #[test]
        fn what_is_cut_is_listed_in_order_and_is_what_it_was(
            sizes in proptest::collection::vec(0u64..400, 0..30),
            limit in 10u64..400,
        ) {
            let (before, m) = (manifest(&sizes), cut_at(&sizes, limit));
            prop_assert_eq!(fault(&m), None);
            prop_assert!(m.files.iter().all(|file| file.size <= limit));
            prop_assert!(m.files.iter().is_sorted_by(|a, b| a.path < b.path));
            prop_assert!(m.files.iter().all(|file| crate::bundle::is_bundle_path(&file.path.text())));
            let now: Vec<_> = m.wholes().map(|w| (w.name, w.path, w.sha256, w.size)).collect();
            let was: Vec<_> =
                before.files.iter().map(|f| (f.name, f.path, f.sha256, f.size)).collect();
            prop_assert_eq!(now, was);
            // Every byte of a file is in one part, at its place.
            let mut reached = std::collections::BTreeMap::new();
            for (place, part) in m.files.iter().enumerate() {
                if let Some((joined, first)) = m.part_of(place) {
                    let end = reached.entry(joined.sha256).or_insert(0);
                    prop_assert_eq!(*end, first);
                    *end += part.size;
                }
            }
            prop_assert_eq!(reached.len(), m.joined.len());
            prop_assert!(m.joined.iter().all(|joined| reached.get(&joined.sha256) == Some(&joined.size)));
        }
    }

    #[test]
    fn a_file_has_no_more_parts_than_their_names_can_number() {
        let most = manifest(&[5, PARTS_MAX * 10]);
        let name = |place: usize| most.files.get(place).unwrap().name.into_owned();
        let large = most.files.sizes().position(|size| size > 5).unwrap();
        let uncut = |name, limit| Err(Uncut::Parts { name, limit });
        assert_eq!(cut(most.files.clone(), 10).unwrap().1[0].parts, PARTS_MAX);
        assert_eq!(cut(most.files.clone(), 9), uncut(name(large), 9));
        assert_eq!(cut(most.files.clone(), 0), uncut(name(0), 0));
        // What FAT32 holds just so is not cut.
        let sizes = |size| cut(manifest(&[size]).files, FAT32_MAX).unwrap().0.sizes().collect::<Vec<_>>();
        assert_eq!(sizes(FAT32_MAX), [4_294_967_295]);
        assert_eq!(sizes(2 * FAT32_MAX + 1), [4_294_967_295, 4_294_967_295, 1]);
    }

    #[test]
    fn parts_that_contradict_each_other_or_their_whole_are_found() {
        let good = cut_at(&[5, 25, 17], 10);
        assert_eq!((good.files.len(), good.joined.len(), fault(&good)), (6, 2, None));
        type Harm = fn(&mut Manifest);
        let harms: &[(&str, Harm)] = &[
            ("which layout 3 has not", |m| m.format = 3),
            ("impossible number", |m| m.joined[0].parts = 1),
            ("impossible number", |m| m.joined[0].parts = 0),
            ("impossible number", |m| m.joined[1].parts = PARTS_MAX + 1),
            ("impossible number", |m| m.joined[1].parts = u64::MAX),
            ("not there", |m| m.joined[1].first = 6),
            ("not there", |m| m.joined[1].first = u64::MAX),
            ("not there", |m| m.joined[1].parts = 40),
            ("out of order", |m| m.joined.swap(0, 1)),
            ("out of order", |m| m.joined[1] = m.joined[0]),
            ("out of order", |m| m.joined[1].first = m.joined[0].first + 1),
            ("not called", |m| m.joined[0].first += 1),
            ("not called", |m| m.joined[0].parts += 1),
            ("not called", |m| {
                let at = m.joined[0].places().start;
                relist(m, |list| list.swap(at, at + 1));
            }),
            ("not called", |m| {
                // The whole is listed beside its parts.
                let whole = m.wholes().find(|w| w.joined.is_some()).map(|w| w.path);
                let own = m.files.sizes().position(|size| size == 5).unwrap();
                relist(m, |list| list[own].path = whole.unwrap());
            }),
            ("other bytes", |m| m.joined[0].size += 1),
            ("other bytes", |m| {
                let at = m.joined[0].places().start;
                m.files.set_size(at, u64::MAX);
            }),
            ("other bytes", |m| {
                let at = m.joined[0].places().start;
                m.files.set_size(at, m.files.size(at) + m.files.size(at + 1));
                m.files.set_size(at + 1, 0);
            }),
            ("listed twice", |m| m.joined[1].sha256 = m.joined[0].sha256),
            ("listed twice", |m| m.joined[0].sha256 = m.files.iter().find(|f| f.size == 5).unwrap().sha256),
            ("listed twice", |m| m.joined[0].sha256 = m.files.sha256(m.joined[0].places().start).unwrap()),
        ];
        for (word, harm) in harms {
            let mut m = good.clone();
            harm(&mut m);
            let found = fault(&m).unwrap_or_default();
            assert!(found.contains(word), "{word}: {found}");
        }
    }
}
