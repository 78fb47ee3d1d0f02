//! Directories of packages without an index: the records are made here, from the packages themselves.
//!
//! A conda subdir is read so if it has no file like `repodata*.json*` and no shards, a PyPI source if it has no
//! `simple/`. Where there is an index, the index counts. What was read of a file is kept ([`CacheFile`]), and not
//! read again while device, inode, size, `mtime` and `ctime` are the same. What cannot be read, is no package, or
//! is not what its name says, is left out, counted and listed, and costs the rest nothing.
//!
//! # Where conda records differ from those of `rattler_index`
//!
//! Of genuine packages they are equal in value but for the first four rows. One by one:
//!
//! | `rattler_index` (py-rattler 0.28) | here | why |
//! |---|---|---|
//! | adds `indexed_timestamp`, the time of indexing | does not | copying packages would make them new, for every cool-down; and the same directory would have two records |
//! | adds `run_exports` of `info/run_exports.json` | does not | the file is opened in full when it is fetched, and what it says then is a pinned fact |
//! | drops `arch` and others that are null, keys it does not know, and an empty `noarch` | keeps them | records are verbatim |
//! | respells `depends` (`x ==1.*` becomes `x 1.*`; `x  y >=1 , <2` something else) and joins `track_features` | keeps them | the same |
//! | `subdir` as the package says, else `unknown` | that of the directory; a package that says another is left out | it could not be installed from there, and fetching would refuse it |
//! | lists a file whose name is not `name-version-build` of its record, or has a dash in the build | leaves it out | clients and servers take file names apart |
//! | fails altogether over one package that it cannot read | leaves that one out | one package is not the channel |
//!
//! Both drop `url`, `legacy_bz2_md5` and others that only an index may say, put packages whose dependencies need
//! CEP 48 into its tables, add an empty `depends`, and refuse shapes that typed readers cannot take (a list as
//! `license`, text as `build_number`). What both list is compared by
//! `the_records_of_a_directory_are_those_that_rattler_makes`.

mod cache;
mod list;
mod read;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use airlock_core::canon::Canonical;
use airlock_core::ecosystem::{self, ArtifactKind, Ecosystem};
use airlock_core::id::Digest;
use airlock_core::record::Artifact;
use airlock_core::shard::{Shard, ShardKey};
use airlock_formats::IndexRead;

pub(crate) use cache::CacheFile;
use cache::Known;
use list::{Found, Listing};
pub(crate) use read::How;

use super::{Filter, Reading};
use crate::error::{Error, Result, file_error, joined};
use crate::upstream::Location;

/// Where a station keeps what it read of directories, below its own.
pub(super) const CACHE: &str = "cache/directories";

/// What reading a directory gave.
#[derive(Debug, Default)]
pub(crate) struct Bare {
    /// The records, and what was left out.
    pub(crate) read: IndexRead,
    /// Files that had to be opened.
    pub(crate) opened: u64,
    /// Files that were known already.
    pub(crate) known: u64,
}

impl Reading<'_> {
    /// The packages of a conda subdir without an index, if the source is a directory and there are any.
    pub(super) async fn bare_subdir(&self, subdir: &str) -> Result<Option<IndexRead>> {
        let Location::Path(root) = &self.source else { return Ok(None) };
        let (root, subdir, filter) = (root.clone(), subdir.to_owned(), self.filter.clone());
        let (cache, how) = (self.cache_file(&root, &subdir), How::now(self.station.options.threads));
        let work = move || {
            let wants = |file: &str| wants(&filter, Ecosystem::Conda, file);
            let bare = conda(&root, &subdir, &wants, how, &cache, true)?;
            Ok(bare.map(|bare| bare.read))
        };
        joined(tokio::task::spawn_blocking(work).await)
    }

    /// The files of a PyPI source without an index, if the source is a directory and there are any.
    pub(super) async fn bare_files(&self) -> Result<Option<IndexRead>> {
        let Location::Path(root) = &self.source else { return Ok(None) };
        let (root, filter) = (root.clone(), self.filter.clone());
        let (cache, how) = (self.cache_file(&root, "pypi"), How::now(self.station.options.threads));
        let work = move || {
            let wants = |file: &str| wants(&filter, Ecosystem::Pypi, file);
            Ok(pypi(&root, &wants, how, &cache)?.map(|bare| bare.read))
        };
        joined(tokio::task::spawn_blocking(work).await)
    }

    fn cache_file(&self, root: &Path, part: &str) -> CacheFile {
        let source = Digest::of(root.as_os_str().as_encoded_bytes()).short();
        CacheFile::new(self.cache.clone(), format!("{source}-{part}.zst"))
    }
}

/// Whether a file can be of a package that is wanted, by its name. More may be told by its record.
fn wants(filter: &Filter, ecosystem: Ecosystem, file: &str) -> bool {
    let name =
        |text: &str| ecosystem::canonical_name(ecosystem, text).is_some_and(|name| filter.wants_name(&name));
    match (ecosystem, ArtifactKind::of(ecosystem, file)) {
        (Ecosystem::Conda, _) => file.rsplitn(3, '-').nth(2).is_none_or(name),
        // The names of old source distributions have dashes, so that several readings are possible.
        (Ecosystem::Pypi, Some(ArtifactKind::Sdist)) => {
            file.match_indices('-').any(|(at, _)| file.get(..at).is_some_and(name))
        }
        (Ecosystem::Pypi, _) => file.split('-').next().is_none_or(name),
    }
}

fn canonical(root: &Path) -> Result<PathBuf> {
    root.canonicalize().map_err(file_error(root))
}

/// Reads the packages in the subdir of the channel at `root` whose file names are wanted; where an index counts,
/// none may lie there, since it would be of a kind that is not read. None, if there is no file that could be a
/// package.
pub(crate) fn conda(
    root: &Path,
    subdir: &str,
    wants: &dyn Fn(&str) -> bool,
    how: How,
    cache: &CacheFile,
    index_counts: bool,
) -> Result<Option<Bare>> {
    let Some(listing) = list::list(&canonical(root)?, subdir, Ecosystem::Conda)? else { return Ok(None) };
    if let Some(index) = listing.index.as_ref().filter(|_| index_counts) {
        let path = root.join(subdir);
        let error = format!("{}: the index `{index}` is of a kind that is not read", path.display());
        return Err(Error::fault(error).hint("write repodata.json beside it, or take it away"));
    }
    read(Ecosystem::Conda, subdir, listing, wants, how, cache)
}

/// Reads the wheels and source distributions in `root` and in the directories right below it whose file names are
/// wanted. None, if there is no file that could be one.
pub(crate) fn pypi(
    root: &Path,
    wants: &dyn Fn(&str) -> bool,
    how: How,
    cache: &CacheFile,
) -> Result<Option<Bare>> {
    let root = canonical(root)?;
    let Some(mut listing) = list::list(&root, "", Ecosystem::Pypi)? else { return Ok(None) };
    for below in std::mem::take(&mut listing.directories) {
        let mut inner = match list::list(&root, &below, Ecosystem::Pypi) {
            Ok(inner) => inner.unwrap_or_default(),
            Err(error) => {
                listing.bad.push((below, error.message));
                continue;
            }
        };
        if !ecosystem::is_safe_file_name(&below) {
            let reason = "the name of its directory cannot stand in an address";
            listing.bad.extend(inner.found.drain(..).map(|f| (f.below, reason.to_owned())));
        }
        listing.found.append(&mut inner.found);
        listing.bad.append(&mut inner.bad);
    }
    read(Ecosystem::Pypi, "", listing, wants, how, cache)
}

fn read(
    ecosystem: Ecosystem,
    subdir: &str,
    mut listing: Listing,
    wants: &dyn Fn(&str) -> bool,
    how: How,
    file: &CacheFile,
) -> Result<Option<Bare>> {
    if listing.found.is_empty() && listing.bad.is_empty() {
        return Ok(None);
    }
    let mut cache = file.load();
    let mut changed = cache.keep_only(&listing.found);
    listing.found.retain(|found| wants(&found.file));
    let fresh: Vec<Found> = listing.found.iter().filter(|f| cache.get(f).is_none()).cloned().collect();
    let read = read::read_all(ecosystem, subdir, &fresh, how)?;
    let opened = fresh.len() as u64;
    let mut passing = BTreeMap::new();
    for (found, said) in fresh.into_iter().zip(read) {
        if said.lasts {
            changed = true;
            cache.put(&found, said.said);
        } else {
            passing.insert(found.below, said.said);
        }
    }
    let mut said: Vec<(&Found, std::result::Result<&Known, &str>)> = Vec::new();
    for found in &listing.found {
        let known = passing.get(&found.below).or_else(|| cache.get(found));
        said.extend(known.map(|known| (found, known.as_ref().map_err(String::as_str))));
    }
    let place = if subdir.is_empty() { "the directory".to_owned() } else { format!("{subdir}/") };
    let read = assemble(ecosystem, subdir, &place, &said, &listing.bad);
    if changed {
        file.store(&cache)?;
    }
    Ok(Some(Bare { read, opened, known: listing.found.len() as u64 - opened }))
}

/// Puts records together to what an index would give.
fn assemble(
    ecosystem: Ecosystem,
    subdir: &str,
    place: &str,
    said: &[(&Found, std::result::Result<&Known, &str>)],
    bad: &[(String, String)],
) -> IndexRead {
    let mut out = IndexRead { about: Some(Canonical::object([])), ..IndexRead::default() };
    for (below, reason) in bad {
        out.leave_out(place, below, reason);
    }
    let subdir = (!subdir.is_empty()).then(|| subdir.to_owned());
    let twice = claimed_twice(ecosystem, said);
    for (found, said) in said {
        let known = match said {
            Ok(known) => known,
            Err(reason) => {
                out.leave_out(place, &found.below, reason);
                continue;
            }
        };
        if twice.contains(found.file.as_str()) {
            out.leave_out(
                place,
                &found.below,
                "several files of this name lie here, and they are not the same",
            );
            continue;
        }
        // What comes out of a cache is checked as what comes out of an index is.
        let entry = known.entry();
        if let Err(error) = Artifact::from_parts(ecosystem, &known.name, &found.file, &entry) {
            out.leave_out(place, &found.below, error);
            continue;
        }
        let key = ShardKey { subdir: subdir.clone(), name: known.name.clone() };
        let shard = out
            .shards
            .entry(key)
            .or_insert_with_key(|k| Shard::new(ecosystem, k.name.clone(), k.subdir.clone()));
        // Of equal files the first counts.
        shard.entries.entry(found.file.clone()).or_insert(entry);
    }
    out.bad.sort_by(|a, b| (&a.index, &a.file).cmp(&(&b.index, &b.file)));
    out
}

/// The names under which different files lie: which of them is meant nobody can tell.
fn claimed_twice<'a>(
    ecosystem: Ecosystem,
    said: &[(&'a Found, std::result::Result<&Known, &str>)],
) -> BTreeSet<&'a str> {
    let mut first: BTreeMap<&str, Option<Digest>> = BTreeMap::new();
    let mut twice = BTreeSet::new();
    if ecosystem == Ecosystem::Conda {
        // All lie in one directory.
        return twice;
    }
    for (found, known) in said {
        let Ok(known) = known else { continue };
        let artifact = Artifact::from_parts(ecosystem, &known.name, &found.file, &known.entry());
        let digest = artifact.ok().and_then(|a| a.sha256);
        if *first.entry(&found.file).or_insert(digest) != digest {
            twice.insert(found.file.as_str());
        }
    }
    twice
}

#[cfg(test)]
mod tests;
