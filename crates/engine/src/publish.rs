//! Publishing: rendering what clients ask for whole, and moving the refs.

use std::collections::{BTreeMap, HashMap};

use serde::{Deserialize, Serialize};

use airlock_core::ecosystem::Ecosystem;
use airlock_core::fact::{Facts, FileFact};
use airlock_core::id::{Digest, Id};
use airlock_core::judge::SHARDS_KEPT;
use airlock_core::object::{Encoded, Object};
use airlock_core::shard::{Shard, ShardKey};
use airlock_core::snapshot::{Snapshot, Upstream};
use airlock_core::time::Time;
use airlock_core::trie::TreeId;
use airlock_formats::conda::{self, RENDERER};
use airlock_store::{RefChange, ShardName};

use crate::channel::ref_name;
use crate::error::{Error, Result, joined};
use crate::judge::Judgment;
use crate::mirror::MirrorState;
use crate::station::Station;
use crate::trees;

/// The whole-channel indexes of the newest snapshot, by path below the channel.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rendered {
    /// [`RENDERER`] of the program that rendered them.
    pub renderer: u32,
    /// Path to blob.
    pub files: BTreeMap<String, RenderedFile>,
}

/// One rendered file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RenderedFile {
    /// SHA-256 of its bytes, which is its ETag too.
    pub sha256: Digest,
    /// Their number.
    pub size: u64,
}

impl Object for Rendered {
    const KIND: &'static str = "airlock.rendered.v1";
}

/// What else moves with the snapshot.
#[derive(Clone, Debug, Default)]
pub struct Along {
    /// What was read of the source, if it was read.
    pub read: Option<Read>,
}

/// One reading of a source.
#[derive(Clone, Debug)]
pub struct Read {
    /// What the channel held when the reading began.
    pub before: Option<Digest>,
    /// What was read.
    pub upstream: Id<Upstream>,
    /// What to remember of the source.
    pub state: MirrorState,
}

impl Along {
    /// Whether another reading was published since this one began.
    pub(crate) async fn is_overtaken(&self, station: &Station, channel: &str) -> Result<bool> {
        let Some(read) = &self.read else { return Ok(false) };
        Ok(station.store.db.find_ref(&ref_name(channel, "upstream")).await? != read.before)
    }
}

/// Publishes a judgement. The whole of it is in the store before any ref moves; the refs move together.
///
/// If something the judgement was made from moved in the meantime, nothing is published.
pub async fn publish(
    station: &Station,
    judgment: &Judgment,
    along: Along,
    why: &str,
) -> Result<Option<Id<Snapshot>>> {
    let name = &judgment.channel.name;
    let mut refs = Vec::new();
    let mut point = |part: &str, from: Option<Digest>, to: Digest| {
        if from != Some(to) {
            refs.push(RefChange { name: ref_name(name, part), from, to: Some(to) });
        }
    };
    let db = &station.store.db;
    let current = db.refs(&ref_name(name, "")).await?;
    let at = |part: &str| current.get(&ref_name(name, part)).copied();
    if let Some(read) = &along.read {
        point("mirror", at("mirror"), db.put(&read.state).await?.digest());
    }
    let mut id = None;
    if !judgment.unchanged {
        db.put_many(&judgment.objects).await?;
        let snapshot = db.put(&judgment.snapshot).await?;
        let (rendered, shards) = render(station, judgment).await?;
        let listed = listed(station, judgment, at("listed")).await?;
        // What was expected is what the judgement was made from, not what stands there now.
        point("snapshot", judgment.previous.map(|p| p.digest()), snapshot.digest());
        point("listed", at("listed"), listed.digest());
        let blocks = db.put(&judgment.blocks).await?.digest();
        point("rendered", at("rendered"), db.put(&rendered).await?.digest());
        let until = station.now().await?.after(SHARDS_KEPT);
        for (subdir, names) in shards {
            db.name_shards(name, &subdir, RENDERER, &names, until).await?;
        }
        if let Some(superseded) = judgment.previous {
            keep_names(station, name, superseded, until).await?;
        }
        // Stated even where they do not move: whoever denied something since then moved one of them.
        for (known, from) in &judgment.known {
            let to = if *known == ref_name(name, "blocks") { Some(blocks) } else { *from };
            refs.push(RefChange { name: known.clone(), from: *from, to });
        }
        id = Some(snapshot);
    }
    if let Some(read) = &along.read {
        // Stated even where it does not move: another reading that was published since is newer than this one.
        refs.push(RefChange {
            name: ref_name(name, "upstream"),
            from: read.before,
            to: Some(read.upstream.digest()),
        });
    }
    if refs.iter().all(|r| r.from == r.to) && id.is_none() {
        return Ok(None);
    }
    let counts = judgment.snapshot.counts;
    let detail = serde_json::json!({
        "why": why, "snapshot": id, "content": judgment.snapshot.content, "admit": counts.admit,
        "hold": counts.hold, "deny": counts.deny, "changes": judgment.changes.len(),
    });
    let action = if id.is_some() { "channel.publish" } else { "channel.read" };
    station.commit(refs, action, &format!("channel/{name}"), &detail).await?;
    Ok(id)
}

/// Keeps the shards of the snapshot that is superseded now readable from now on: its index was current until
/// this moment, and clients cache it.
async fn keep_names(station: &Station, channel: &str, superseded: Id<Snapshot>, until: Time) -> Result<()> {
    let db = &station.store.db;
    let content = db.get(superseded).await?.content;
    let mut by_subdir: BTreeMap<String, Vec<Digest>> = BTreeMap::new();
    for (key, id) in trees::load::<Id<Shard>>(db, content).await? {
        if let Some(subdir) = ShardKey::parse(&key).subdir {
            by_subdir.entry(subdir).or_default().push(id.digest());
        }
    }
    for (subdir, shards) in by_subdir {
        let known = db.rendered_names(RENDERER, &shards).await?;
        let names: Vec<ShardName> =
            known.into_iter().map(|(shard, name)| ShardName { name, shard }).collect();
        db.name_shards(channel, &subdir, RENDERER, &names, until).await?;
    }
    Ok(())
}

/// What kept snapshots list, this one included.
async fn listed(station: &Station, judgment: &Judgment, before: Option<Digest>) -> Result<TreeId<Id<Shard>>> {
    let db = &station.store.db;
    let mut map = match before {
        Some(root) => trees::load::<Id<Shard>>(db, TreeId::new(root)).await?,
        None => BTreeMap::new(),
    };
    let mut differing = Vec::new();
    for (key, id) in &judgment.content {
        match map.get(key) {
            Some(held) if held == id => {}
            Some(held) => differing.push((key.clone(), *held, *id)),
            None => {
                map.insert(key.clone(), *id);
            }
        }
    }
    let mut encoded: Vec<Encoded> = Vec::new();
    for chunk in differing.chunks(1000) {
        let ids: Vec<Id<Shard>> = chunk.iter().flat_map(|(_, a, b)| [*a, *b]).collect();
        let shards = trees::objects(db, &ids).await?;
        for (key, old, new) in chunk {
            let (Some(old), Some(new)) = (shards.get(&old.digest()), shards.get(&new.digest())) else {
                continue;
            };
            let mut union = old.clone();
            union.entries.extend(new.entries.clone());
            map.insert(key.clone(), trees::encode_into(&union, &mut encoded)?);
        }
    }
    db.put_many(&encoded).await?;
    trees::store(db, &map).await
}

type Names = BTreeMap<String, Vec<ShardName>>;

/// Renders what is asked for whole: for conda every index of every subdir; PyPI pages are rendered when
/// they are asked for.
async fn render(station: &Station, judgment: &Judgment) -> Result<(Rendered, Names)> {
    match judgment.channel.ecosystem {
        Ecosystem::Pypi => Ok((Rendered { renderer: RENDERER, files: BTreeMap::new() }, Names::new())),
        Ecosystem::Conda => {
            let (files, names) = render_conda(station, &judgment.snapshot, &judgment.content).await?;
            let store = station.store.clone();
            let write = move || -> Result<Rendered> {
                let mut rendered = Rendered { renderer: RENDERER, files: BTreeMap::new() };
                let mut batch = store.blobs.batch();
                for (path, bytes) in files {
                    let mut staged = store.blobs.stage()?;
                    staged.write(&bytes)?;
                    let size = staged.size();
                    let sha256 = batch.add(staged, None)?;
                    rendered.files.insert(path, RenderedFile { sha256, size });
                }
                batch.commit()?;
                Ok(rendered)
            };
            Ok((joined(tokio::task::spawn_blocking(write).await)?, names))
        }
    }
}

/// Every whole-channel file of a conda snapshot by path below the channel, and the names of its shards.
pub async fn render_conda(
    station: &Station,
    snapshot: &Snapshot,
    content: &BTreeMap<String, Id<Shard>>,
) -> Result<(BTreeMap<String, Vec<u8>>, Names)> {
    let db = &station.store.db;
    let mut files = BTreeMap::new();
    let mut names = Names::new();
    let facts = trees::load(db, snapshot.inputs.facts).await?;
    let mut packages = BTreeMap::new();
    for (subdir, about) in &snapshot.subdirs {
        let keys: Vec<(&String, &Id<Shard>)> =
            content.iter().filter(|(k, _)| ShardKey::parse(k).subdir.as_deref() == Some(subdir)).collect();
        let ids: Vec<Id<Shard>> = keys.iter().map(|(_, id)| **id).collect();
        let digests: Vec<Digest> = ids.iter().map(Id::digest).collect();
        let shards: HashMap<Digest, Shard> = trees::objects(db, &ids).await?;
        let fact_ids: Vec<Id<Facts>> = keys.iter().filter_map(|(k, _)| facts.get(*k).copied()).collect();
        let facts = trees::objects(db, &fact_ids).await?;
        let known = db.rendered_names(RENDERER, &digests).await?;
        let (subdir, about) = (subdir.clone(), about.clone());
        let work = move || {
            let facts: Vec<&Facts> = facts.values().collect();
            render_subdir(&subdir, &about, &digests, &shards, &facts, &known).map(|r| (subdir, r))
        };
        let (subdir, one) = joined(tokio::task::spawn_blocking(work).await)?;
        for (file, bytes) in one.files {
            files.insert(format!("{subdir}/{file}"), bytes);
        }
        for (name, package) in one.packages {
            let held: &mut conda::ChannelPackage = packages.entry(name).or_default();
            merge_package(held, &subdir, package);
        }
        names.insert(subdir, one.names);
    }
    let subdirs: Vec<String> = snapshot.subdirs.keys().cloned().collect();
    files.insert("channeldata.json".to_owned(), conda::channeldata(&packages, &subdirs)?.into_bytes());
    files.insert("notices.json".to_owned(), conda::notices().as_bytes().to_vec());
    Ok((files, names))
}

struct RenderedSubdir {
    files: Vec<(&'static str, Vec<u8>)>,
    names: Vec<ShardName>,
    packages: BTreeMap<String, conda::ChannelPackage>,
}

fn render_subdir(
    subdir: &str,
    about: &airlock_core::canon::Canonical,
    ids: &[Digest],
    shards: &HashMap<Digest, Shard>,
    facts: &[&Facts],
    known: &HashMap<Digest, Digest>,
) -> Result<RenderedSubdir> {
    let fail = |e: std::io::Error| Error::fault(format!("an index cannot be rendered: {e}"));
    let facts: HashMap<&str, &FileFact> = facts
        .iter()
        .flat_map(|f| &f.files)
        .filter_map(|(file, fact)| Some((file.as_str(), fact.file.as_ref()?)))
        .collect();
    let mut by_name = BTreeMap::new();
    let mut names = Vec::new();
    let mut packages = BTreeMap::new();
    for id in ids {
        let Some(shard) = shards.get(id) else { continue };
        let name = match known.get(id) {
            Some(name) => *name,
            None => conda::shard(shard).map_err(fail)?.0,
        };
        by_name.insert(shard.name.clone(), name);
        names.push(ShardName { name, shard: *id });
        packages.insert(shard.name.clone(), package_of(shard, &facts));
    }
    let json = conda::repodata(subdir, Some(about), ids.iter().filter_map(|id| shards.get(id))).into_bytes();
    let exports = run_exports_of(ids.iter().filter_map(|id| shards.get(id)), &facts);
    let run_exports = conda::run_exports(subdir, &exports).into_bytes();
    let files = vec![
        ("repodata.json.zst", conda::zst(&json).map_err(fail)?),
        ("repodata.json", json),
        ("repodata_shards.msgpack.zst", conda::shard_index(subdir, Some(about), &by_name).map_err(fail)?),
        ("run_exports.json.zst", conda::zst(&run_exports).map_err(fail)?),
        ("run_exports.json", run_exports),
    ];
    Ok(RenderedSubdir { files, names, packages })
}

fn run_exports_of<'a>(
    shards: impl Iterator<Item = &'a Shard>,
    facts: &HashMap<&str, &FileFact>,
) -> conda::RunExports {
    let files = shards.flat_map(|s| &s.entries).filter(|(_, e)| !e.table.starts_with("v3/"));
    files
        .map(|(file, _)| (file.clone(), facts.get(file.as_str()).and_then(|f| f.run_exports.clone())))
        .collect()
}

/// What `channeldata.json` says of a package: that of its newest version.
fn package_of(shard: &Shard, facts: &HashMap<&str, &FileFact>) -> conda::ChannelPackage {
    use airlock_core::record::Artifact;
    let mut artifacts: Vec<Artifact> =
        shard.entries.iter().filter_map(|(file, entry)| Artifact::read(shard, file, entry).ok()).collect();
    let order = airlock_core::version::Order::Conda;
    artifacts.sort_by(|a, b| {
        order.compare(&a.version, &b.version).unwrap_or(a.version.cmp(&b.version)).then(a.file.cmp(&b.file))
    });
    let Some(newest) = artifacts.last() else { return conda::ChannelPackage::default() };
    let fact = facts.get(newest.file.as_str());
    conda::ChannelPackage {
        subdirs: shard.subdir.iter().cloned().collect(),
        version: newest.version.clone(),
        licence: newest.licence.clone(),
        summary: fact.and_then(|f| f.summary.clone()),
        timestamp: newest.time.map(Time::seconds),
    }
}

fn merge_package(held: &mut conda::ChannelPackage, subdir: &str, package: conda::ChannelPackage) {
    let order = airlock_core::version::Order::Conda;
    let newer = order.compare(&package.version, &held.version).is_none_or(std::cmp::Ordering::is_gt);
    let mut subdirs = std::mem::take(&mut held.subdirs);
    subdirs.insert(subdir.to_owned());
    if held.version.is_empty() || newer {
        *held = package;
    }
    held.subdirs = subdirs;
}
