//! Trees that people carry already, and that are no bundles: taken in by content, judged and published like any source.
//!
//! ```text
//! directory ────────────────┐
//! archives ── unpack ── fold ┴── recognise ── mirror ── (channel.add) ── channel.import ── judge, fetch, publish
//! ```
//!
//! Nobody signed them, so that nothing of them is believed but what a source is believed: each file is hashed, opened, pinned at
//! first sight and judged. The channel keeps no source (`ChannelFeed::Tree`), since the medium is gone tomorrow; what was taken in
//! lies in the store. The next tree replaces what this one listed.

mod leftovers;
mod recognise;
mod unpack;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde::Serialize;

use airlock_core::channel::{Channel, ChannelFeed};
use airlock_core::ecosystem::Ecosystem;
use airlock_core::id::{Digest, Id};
use airlock_core::policy::DEFAULT_NAME;
use airlock_core::roles::Action;
use airlock_core::snapshot::Upstream;
use airlock_store::Lease;

use crate::boxed;
use crate::channel::ref_name;
use crate::clock;
use crate::error::{Error, Result, file_error, joined};
use crate::mirror::{self, Origin};
use crate::progress::Unit;
use crate::publish::Read;
use crate::station::Station;
use crate::sync::{self, Outcome};
use crate::{channel, feeds, judge, people};

pub(crate) use leftovers::sweep;
pub use recognise::{Kind, Recognised, is_bundle, recognise};
pub use unpack::{Archive, is_packed};

use recognise::Part;

/// Where archives are unpacked, below the station's directory; one folder for each channel, which has a lease of its own.
const FOLDER: &str = "cache/trees";

/// The lease of a folder below it. Unlike that of the channel it can be told from what lies there.
fn lease_of(folder: &str) -> String {
    format!("tree/{folder}")
}

/// What is to be done with a tree.
#[derive(Clone, Debug, Default)]
pub struct Wish {
    /// The channel that it becomes.
    pub channel: String,
    /// The policy of a channel that is made; the default one by default.
    pub policy: Option<String>,
    /// Which part of a tree that has packages of both.
    pub ecosystem: Option<Ecosystem>,
    /// It is right that it lists less than half of what the tree before it listed.
    pub accept_shrink: bool,
}

/// What was taken in.
#[derive(Debug, Serialize)]
pub struct Report {
    /// The channel.
    pub channel: String,
    /// Its ecosystem.
    pub ecosystem: Ecosystem,
    /// Whether it was made.
    pub is_new: bool,
    /// What the tree is.
    pub kind: Kind,
    /// Where it lay.
    pub paths: Vec<PathBuf>,
    /// The archives that it came in.
    pub archives: Vec<Archive>,
    /// Packages of the other ecosystem in it, which were not taken in.
    pub left: Option<Left>,
    /// What it brought.
    #[serde(skip)]
    pub outcome: Outcome,
}

/// Packages that a channel of another ecosystem could take.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Left {
    /// Of which ecosystem they are.
    pub ecosystem: Ecosystem,
    /// How many.
    pub files: u64,
}

/// A tree at hand.
struct Tree {
    part: Part,
    ecosystem: Ecosystem,
    kind: Kind,
    left: Option<Left>,
    archives: Vec<Archive>,
    /// Where it was unpacked, and what is read of it is kept; gone when it is dropped.
    folder: tempfile::TempDir,
    /// That somebody works there; it ends after the folder does.
    _lease: Lease,
}

/// Takes a tree into a channel, which is made where there is none. Several paths are archives of one channel.
///
/// # Errors
///
/// If it is nothing that is known, or an archive that holds more than files with plain names: then nothing was changed. If the
/// channel is fed by something else, is frozen, or the tree lists less than half of the one before it.
#[boxed]
pub async fn import(station: &Station, paths: &[PathBuf], wish: &Wish) -> Result<Report> {
    let name = wish.channel.as_str();
    people::allow(station, Action::Import, Some(name)).await?;
    check_alone(station)?;
    clock::check(station).await?;
    let existing = existing(station, wish).await?;
    let _lease = station.lease(&format!("channel/{name}"), "import").await?;
    let (_, decisions) = judge::decisions(station).await?;
    if let Some(freeze) = decisions.frozen(name, station.now().await?) {
        return Err(Error::no(format!(
            "channel `{name}` is frozen by decision {}: nothing new comes in",
            freeze.id
        ))
        .hint("wait until it ends, or take it back with `airlock review revoke`"));
    }
    let tree = open(station, paths, wish).await?;
    let ecosystem = tree.ecosystem;
    if let Some(channel) = existing.as_ref().filter(|channel| channel.ecosystem != ecosystem) {
        return Err(Error::usage(format!(
            "channel `{name}` is of {}, and this tree of {ecosystem}",
            channel.ecosystem
        ))
        .hint("name another channel"));
    }
    let is_new = existing.is_none();
    let channel = existing.unwrap_or_else(|| made(wish, ecosystem));
    let (reading, read) = mirrored(station, &channel, &tree, wish.accept_shrink).await?;
    feeds::catch_up(station).await?;
    let (channel, reading) = match is_new {
        true => (channel::add(station, channel).await?, reading),
        false => (channel, reading),
    };
    let detail = serde_json::json!({
        "tree": tree.kind, "paths": paths, "archives": tree.archives, "records": read.records, "left_out": read.bad_count,
        "upstream": reading.upstream,
    });
    station.commit(Vec::new(), "channel.import", &format!("channel/{name}"), &detail).await?;
    let origin = tree.origin(Vec::new());
    let outcome = sync::fetch_and_publish(station, &channel, &origin, (reading, read), "import").await?;
    Ok(Report {
        channel: channel.name,
        ecosystem,
        is_new,
        kind: tree.kind,
        paths: paths.to_vec(),
        archives: tree.archives,
        left: tree.left,
        outcome,
    })
}

/// Nobody signed a tree, so that nothing names what a second person would confirm.
fn check_alone(station: &Station) -> Result<()> {
    match station.config.people.two_person.iter().any(|name| name == Action::Import.name()) {
        false => Ok(()),
        true => Err(Error::no("`import` needs two persons here, and a tree that nobody signed cannot be proposed").hint(
            "take it in on a station that may, and bring it here in a bundle; or leave `import` out of [people] two_person for it",
        )),
    }
}

/// The channel of this name, if there is one: it must be one that takes trees. Where there is none, one can be made.
async fn existing(station: &Station, wish: &Wish) -> Result<Option<Channel>> {
    let name = wish.channel.as_str();
    if station.store.db.find_ref(&ref_name(name, "def")).await?.is_none() {
        // Before hours are spent on unpacking; of which ecosystem it is does not matter yet.
        channel::vetted(station, made(wish, wish.ecosystem.unwrap_or(Ecosystem::Conda))).await?;
        return Ok(None);
    }
    let channel = channel::find(station, name).await?;
    if channel.feed != (ChannelFeed::Tree {}) {
        let feed = channel::fed_by(&channel)?;
        return Err(Error::usage(format!("channel `{name}` is fed by something else: {feed}"))
            .hint("trees and other sources never mix in one channel: choose another name"));
    }
    if wish.policy.as_ref().is_some_and(|policy| *policy != channel.policy) {
        return Err(Error::usage(format!("channel `{name}` is under policy `{}`", channel.policy))
            .hint("leave --policy away; `airlock channel set --policy` puts it under another"));
    }
    Ok(Some(channel))
}

/// The channel that a tree becomes.
fn made(wish: &Wish, ecosystem: Ecosystem) -> Channel {
    let policy = wish.policy.clone().unwrap_or_else(|| DEFAULT_NAME.to_owned());
    Channel { name: wish.channel.clone(), ecosystem, feed: ChannelFeed::Tree {}, policy }
}

/// Reads the tree. No ref moves.
async fn mirrored(
    station: &Station,
    channel: &Channel,
    tree: &Tree,
    accept_shrink: bool,
) -> Result<(Read, mirror::Mirrored)> {
    let before = station.store.db.find_ref(&ref_name(&channel.name, "upstream")).await?;
    let published: Vec<String> = match before {
        Some(id) => station.store.db.get::<Upstream>(Id::new(id)).await?.subdirs.into_keys().collect(),
        None => Vec::new(),
    };
    let task = station.options.progress.task(format!("reading {}", channel.name), Unit::Names, None);
    let origin = tree.origin(published);
    let (upstream, mut state, read) = mirror::mirror(station, channel, &origin, accept_shrink).await?;
    drop(task);
    // Its files lie here, wherever those lay that its index was copied with.
    state.bases.retain(|_, base| !base.contains("://"));
    Ok((Read { before, upstream, state, accept_shrink }, read))
}

impl Tree {
    /// It as what a channel is read from, with further subdirs that are published already.
    fn origin(&self, further: Vec<String>) -> Origin {
        let mut subdirs: BTreeSet<String> = further.into_iter().chain(self.part.subdirs.clone()).collect();
        if self.ecosystem == Ecosystem::Conda {
            subdirs.insert("noarch".to_owned());
        }
        let cache = self.folder.path().join("read");
        Origin::tree(self.part.root.clone(), subdirs.into_iter().collect(), cache)
    }
}

/// Opens what lies there: unpacked, and recognised.
async fn open(station: &Station, paths: &[PathBuf], wish: &Wish) -> Result<Tree> {
    let beside = station.dir.join(FOLDER);
    let name = Digest::of(wish.channel.as_bytes()).short();
    let (paths, ecosystem) = (paths.to_vec(), wish.ecosystem);
    let lease = station.lease(&lease_of(&name), "import").await?;
    let work = move || {
        std::fs::create_dir_all(&beside).map_err(file_error(&beside))?;
        // What a killed import of this channel left: whoever runs has the lease.
        match std::fs::remove_dir_all(beside.join(&name)) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(file_error(&beside)(e)),
            _ => {}
        }
        let folder = tempfile::Builder::new().prefix(&name).rand_bytes(0).tempdir_in(&beside);
        let folder = folder.map_err(file_error(&beside))?;
        let (found, archives) = found(&paths, folder.path())?;
        let kind = found.kind;
        let (ecosystem, part, left) = found.choose(ecosystem)?;
        Ok(Tree { part, ecosystem, kind, left, archives, folder, _lease: lease })
    };
    joined(tokio::task::spawn_blocking(work).await)
}

/// What the paths are: a directory, or archives, which are unpacked.
fn found(paths: &[PathBuf], folder: &Path) -> Result<(Recognised, Vec<Archive>)> {
    if let [one] = paths
        && one.is_dir()
    {
        if is_bundle(one) {
            return Err(Error::usage(format!("{} is a bundle", one.display()))
                .hint("leave --channel away: its channels appear under their own names"));
        }
        let root = one.canonicalize().map_err(file_error(one))?;
        let found = recognise(&root)?.ok_or_else(|| unknown(one))?;
        found.check_within(&root)?;
        return Ok((found, Vec::new()));
    }
    if let Some(dir) = paths.iter().find(|path| path.is_dir()) {
        return Err(Error::usage(format!("{} is a directory, and not the only thing named", dir.display()))
            .hint("several archives make one channel; give directories one by one, each its own channel"));
    }
    let (mut all, mut archives) = (Vec::new(), Vec::new());
    for (number, path) in paths.iter().enumerate() {
        let into = folder.join(number.to_string());
        std::fs::create_dir(&into).map_err(file_error(&into))?;
        archives.push(unpack::unpack(path, &into)?);
        let into = into.canonicalize().map_err(file_error(&into))?;
        all.push(recognise(&into)?.ok_or_else(|| unknown(path))?);
    }
    let all: Vec<Recognised> = all.into_iter().map(Recognised::in_archive).collect();
    let together = folder.join("all");
    Ok((recognise::together(all, &together)?, archives))
}

/// Nothing that is known: what was looked for.
fn unknown(path: &Path) -> Error {
    Error::usage(format!("{}: nobody can tell what this is", path.display())).hint(
        "looked for: a conda channel (`noarch`, `linux-64` ... with repodata.json or packages); a folder of wheels and source \
         distributions (`pip download`); a bandersnatch mirror (`web/simple/`) or another `simple/`; a pixi-pack (`pixi-pack.json` \
         with `channel/` or `pypi/`); or a tar archive (plain, .gz, .zst) of one of these. Nothing was changed",
    )
}
