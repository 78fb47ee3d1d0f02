//! Publishing: rendering what clients ask for whole, and moving the refs.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use airlock_core::block::BlockSet;
use airlock_core::decision::{Decision, Decisions};
use airlock_core::ecosystem::Ecosystem;
use airlock_core::id::{Digest, Id};
use airlock_core::judge::SHARDS_KEPT;
use airlock_core::object::Encoded;
use airlock_core::shard::{Shard, ShardKey};
use airlock_core::snapshot::{Snapshot, Upstream};
use airlock_core::trie::TreeId;
use airlock_formats::conda::RENDERER;
use airlock_store::{NameChange, NewEntry, RefChange, ShardName};

use crate::boxed;
use crate::channel::ref_name;
use crate::error::{Error, Result};
use crate::judge::{Judgment, Touched};
use crate::mirror::MirrorState;
use crate::render::{self, Layout};
use crate::station::{Station, entry};
use crate::{clock, tree_edit, trees};

/// The whole-channel indexes of the newest snapshot, by path below the channel.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rendered {
    /// [`RENDERER`] of the program that rendered them.
    pub renderer: u32,
    /// Path to blob.
    pub files: BTreeMap<String, RenderedFile>,
    /// Where in them everything stands, for the next rendering.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub layout: Option<Layout>,
}

/// One rendered file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RenderedFile {
    /// SHA-256 of its bytes, which is its ETag too.
    pub sha256: Digest,
    /// Their number.
    pub size: u64,
}

airlock_core::object!(Rendered, "airlock.rendered.v1");

impl Rendered {
    /// Whether this program would render the same.
    pub const fn is_current(&self) -> bool {
        self.renderer == RENDERER
    }
}

/// The shards of a channel of which a file that is not admitted lacks its bytes, or what opening it may tell: the next
/// reading of the source tries to fetch them again.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pending {
    /// Their keys.
    pub keys: BTreeSet<String>,
}

airlock_core::object!(Pending, "airlock.pending.v1");

/// Every subdir in which kept snapshots may list something: what has a name is looked for in them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subdirs {
    /// Their names.
    pub subdirs: BTreeSet<String>,
}

airlock_core::object!(Subdirs, "airlock.subdirs.v1");

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
    /// A person said that it is right if the source shrank.
    pub accept_shrink: bool,
}

impl Along {
    /// Whether another reading was published since this one began.
    pub(crate) async fn is_overtaken(&self, station: &Station, channel: &str) -> Result<bool> {
        let Some(read) = &self.read else { return Ok(false) };
        Ok(station.store.db.find_ref(&ref_name(channel, "upstream")).await? != read.before)
    }
}

/// Nothing is published by a clock that is doubted; but what the judgement newly denies is denied all the same.
async fn check_clock(station: &Station, judgment: &Judgment, blocks: Option<Digest>) -> Result<()> {
    let Err(doubt) = clock::check(station).await else { return Ok(()) };
    let db = &station.store.db;
    let held: BlockSet = match blocks {
        Some(id) => db.get(Id::new(id)).await?,
        None => BlockSet::default(),
    };
    let both = held.with(&judgment.blocks);
    if both.files != held.files {
        let (name, denied) = (&judgment.channel.name, both.len());
        let to = Some(db.put(&both).await?.digest());
        let change = RefChange { name: ref_name(name, "blocks"), from: blocks, to };
        let detail = serde_json::json!({ "blocked": denied, "why": doubt.message });
        station.commit(vec![change], "channel.deny", &format!("channel/{name}"), &detail).await?;
    }
    Err(doubt)
}

/// Publishes a judgement. The whole of it is in the store before any ref moves; the refs move together.
///
/// If something the judgement was made from moved in the meantime, nothing is published.
#[boxed]
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
    let mut published = None;
    let mut names = Vec::new();
    if let Some(snapshot) = judgment.snapshot.as_ref().filter(|_| !judgment.unchanged) {
        check_clock(station, judgment, at("blocks")).await?;
        let id = db.put(snapshot).await?;
        let listed = listed(station, judgment, at("listed")).await?;
        let rendered = render(station, judgment, snapshot, at("rendered"), &mut names).await?;
        // What was expected is what the judgement was made from, not what stands there now.
        point("snapshot", judgment.previous.as_ref().map(|(id, _)| id.digest()), id.digest());
        point("rendered", at("rendered"), rendered);
        point("pending", at("pending"), pending(station, judgment, at("pending")).await?);
        point("subdirs", at("subdirs"), subdirs(station, snapshot, at("subdirs"), at("listed")).await?);
        let blocks = db.put(&judgment.blocks).await?.digest();
        // Stated even where they do not move: whoever denied something, or let old snapshots go, since then moved one
        // of them.
        let listed = Some(listed.digest());
        refs.push(RefChange { name: ref_name(name, "listed"), from: at("listed"), to: listed });
        for (known, from) in &judgment.known {
            let to = if *known == ref_name(name, "blocks") { Some(blocks) } else { *from };
            refs.push(RefChange { name: known.clone(), from: *from, to });
        }
        published = Some((id, snapshot.content));
    }
    if let Some(read) = &along.read {
        // Stated even where it does not move: another reading that was published since is newer than this one.
        refs.push(RefChange {
            name: ref_name(name, "upstream"),
            from: read.before,
            to: Some(read.upstream.digest()),
        });
    }
    refs.extend(read_above(judgment, at("upstream")));
    if refs.iter().all(|r| r.from == r.to) && published.is_none() {
        return Ok(None);
    }
    let counts = judgment.counts;
    let (id, content) = published.unzip();
    let accept_shrink = along.read.as_ref().is_some_and(|read| read.accept_shrink);
    let detail = serde_json::json!({
        "why": why, "accept_shrink": accept_shrink, "snapshot": id, "content": content, "admit": counts.admit,
        "hold": counts.hold, "deny": counts.deny, "changes": judgment.changes.len(),
    });
    let action = if id.is_some() { "channel.publish" } else { "channel.read" };
    let subject = format!("channel/{name}");
    let mut entries = vec![entry(action, &subject, &detail)?];
    if id.is_some() {
        for ((by, vulnerability, package), (why, files)) in &judgment.reopened {
            let detail = serde_json::json!({
                "by": by, "advisory": vulnerability, "name": package, "why": why, "artifacts": files,
            });
            entries.push(entry("finding.reopen", &subject, &detail)?);
        }
    }
    if let Some(snapshot) = judgment.snapshot.as_ref().filter(|_| id.is_some()) {
        entries.extend(ended(station, judgment, snapshot).await?);
    }
    station.commit_all(refs, names, entries).await?;
    Ok(id)
}

/// What a child was judged from. It moves also where nothing came of it, so that it is seen that the child is not behind.
fn read_above(judgment: &Judgment, from: Option<Digest>) -> Option<RefChange> {
    judgment.channel.parent()?;
    let to = judgment.snapshot.as_ref()?.inputs.upstream.digest();
    Some(RefChange { name: ref_name(&judgment.channel.name, "upstream"), from, to: Some(to) })
}

/// That decisions on the channel ended by their date since it was published the last time.
async fn ended(station: &Station, judgment: &Judgment, snapshot: &Snapshot) -> Result<Vec<NewEntry>> {
    let Some((_, before)) = &judgment.previous else { return Ok(Vec::new()) };
    let decisions: Decisions = station.store.db.get(snapshot.inputs.decisions).await?;
    let here = |d: &&Decision| decisions.channel_of(d) == Some(judgment.channel.name.as_str());
    let ended = decisions.ended(before.inputs.now, snapshot.inputs.now).filter(here);
    ended
        .map(|decision| {
            let detail = serde_json::json!({"author": decision.author, "expired": decision.expires});
            entry("decision.expire", &format!("decision/{}", decision.id), &detail)
        })
        .collect()
}

/// The subdirs that are listed, those of this snapshot included.
async fn subdirs(
    station: &Station,
    snapshot: &Snapshot,
    before: Option<Digest>,
    listed: Option<Digest>,
) -> Result<Digest> {
    let db = &station.store.db;
    let mut all = match (before, listed.map(TreeId::<Id<Shard>>::new)) {
        (Some(id), _) => db.get(Id::<Subdirs>::new(id)).await?,
        // Listed by a program that did not note them.
        (None, Some(listed)) => {
            let keys = trees::load(db, listed).await?;
            Subdirs { subdirs: keys.keys().filter_map(|key| ShardKey::parse(key).subdir).collect() }
        }
        (None, None) => Subdirs::default(),
    };
    all.subdirs.extend(snapshot.subdirs.keys().cloned());
    Ok(db.put(&all).await?.digest())
}

/// What still lacks its bytes.
async fn pending(station: &Station, judgment: &Judgment, before: Option<Digest>) -> Result<Digest> {
    let db = &station.store.db;
    let mut pending = match before {
        Some(id) => db.get(Id::<Pending>::new(id)).await?,
        None => Pending::default(),
    };
    pending.keys.retain(|key| !judgment.touched.contains_key(key));
    let lacking = judgment.touched.iter().filter(|(_, touched)| touched.lacks_bytes);
    pending.keys.extend(lacking.map(|(key, _)| key.to_owned()));
    Ok(db.put(&pending).await?.digest())
}

/// What kept snapshots list, this one included.
async fn listed(station: &Station, judgment: &Judgment, before: Option<Digest>) -> Result<TreeId<Id<Shard>>> {
    let db = &station.store.db;
    let Some(before) = before.map(TreeId::<Id<Shard>>::new) else {
        let all = judgment.touched.iter().filter_map(|(key, touched)| Some((key, touched.now.as_ref()?)));
        return trees::store(db, all).await;
    };
    let is_news = |(_, touched): &(&str, &Touched)| touched.now.is_some() && touched.now != touched.before;
    let news: BTreeMap<&str, Id<Shard>> =
        judgment.touched.iter().filter(is_news).filter_map(|(key, t)| Some((key, t.now?))).collect();
    let held = tree_edit::find_many(db, before, news.keys().copied()).await?;
    let mut changes = BTreeMap::new();
    let mut encoded: Vec<Encoded> = Vec::new();
    for (key, now) in news {
        let Some(old) = held.get(key).copied().filter(|old| *old != now) else {
            changes.insert(key.to_owned(), Some(now));
            continue;
        };
        let mut union: Shard = db.get(old).await?;
        union.entries.extend(db.get(now).await?.entries);
        changes.insert(key.to_owned(), Some(trees::encode_into(&union, &mut encoded)?));
    }
    db.put_many(&encoded).await?;
    Ok(tree_edit::edit(db, Some(before), &changes).await?)
}

/// Renders what is asked for whole. What is published as before is not rendered again.
async fn render(
    station: &Station,
    judgment: &Judgment,
    snapshot: &Snapshot,
    before: Option<Digest>,
    names: &mut Vec<NameChange>,
) -> Result<Digest> {
    let db = &station.store.db;
    let held = find_rendered(station, before).await?.filter(Rendered::is_current);
    let previous = judgment.previous.as_ref().map(|(_, snapshot)| snapshot);
    let same = previous.is_some_and(|p| p.content == snapshot.content && p.subdirs == snapshot.subdirs);
    if let (Some(held), true) = (&held, same) {
        return Ok(db.put(held).await?.digest());
    }
    let (rendered, all) = rendered(station, snapshot, held.as_ref()).await?;
    if let Some(all) = all {
        let until = station.now().await?.after(SHARDS_KEPT);
        *names = changed_names(judgment, snapshot, &all, until, held.is_some());
    }
    Ok(db.put(&rendered).await?.digest())
}

/// What was rendered. It is only derived: where it is missing or damaged it counts as never made.
pub(crate) async fn find_rendered(station: &Station, at: Option<Digest>) -> Result<Option<Rendered>> {
    let Some(id) = at else { return Ok(None) };
    match station.store.db.get(Id::<Rendered>::new(id)).await.map_err(Error::from) {
        Ok(rendered) => Ok(Some(rendered)),
        Err(e) if e.is_content => Ok(None),
        Err(e) => Err(e),
    }
}

/// What is rendered of a snapshot, with the names of its shards where it has any: for conda every index of every
/// subdir; PyPI pages are rendered when they are asked for. `before` is what was rendered of the one before it.
pub(crate) async fn rendered(
    station: &Station,
    snapshot: &Snapshot,
    before: Option<&Rendered>,
) -> Result<(Rendered, Option<render::Names>)> {
    let rendered = Rendered { renderer: RENDERER, ..Rendered::default() };
    match snapshot.ecosystem {
        Ecosystem::Pypi => Ok((rendered, None)),
        Ecosystem::Conda => {
            let done = render::to_store(station, snapshot, before).await?;
            Ok((Rendered { files: done.files, layout: Some(done.layout), ..rendered }, Some(done.names)))
        }
    }
}

/// Puts what was rendered of a snapshot in the place of what stood there when the snapshot was read. If either moved
/// since, nothing happens, and the error says that it was a race.
pub async fn replace_rendered(
    station: &Station,
    channel: &str,
    (snapshot, from): (Id<Snapshot>, Option<Digest>),
    rendered: &Rendered,
) -> Result<()> {
    let to = Some(station.store.db.put(rendered).await?.digest());
    if from == to {
        return Ok(());
    }
    let name = ref_name(channel, "rendered");
    let detail = serde_json::json!({ "made_anew": [&name] });
    let of = Some(snapshot.digest());
    let refs = vec![
        RefChange { name: ref_name(channel, "snapshot"), from: of, to: of },
        RefChange { name, from, to },
    ];
    station.commit(refs, "store.repair", "store", &detail).await
}

/// How the table of names must change, so that it holds those of the new snapshot.
fn changed_names(
    judgment: &Judgment,
    snapshot: &Snapshot,
    all: &render::Names,
    until: airlock_core::time::Time,
    was_rendered: bool,
) -> Vec<NameChange> {
    let mut by_subdir: BTreeMap<String, BTreeMap<String, Option<ShardName>>> =
        snapshot.subdirs.keys().map(|subdir| (subdir.clone(), BTreeMap::new())).collect();
    for (key, touched) in judgment.touched.iter() {
        let ShardKey { subdir: Some(subdir), name } = ShardKey::parse(key) else { continue };
        // All that is there follows below, if nothing was rendered before.
        if touched.now != touched.before && (was_rendered || touched.now.is_none()) {
            by_subdir.entry(subdir).or_default().insert(name, all.get(key));
        }
    }
    if !was_rendered {
        for (key, held) in all.iter() {
            let ShardKey { subdir: Some(subdir), name } = ShardKey::parse(key) else { continue };
            by_subdir.entry(subdir).or_default().insert(name, Some(held));
        }
    }
    let channel = &judgment.channel.name;
    let change = |(subdir, packages)| NameChange {
        channel: channel.clone(),
        subdir,
        renderer: RENDERER,
        packages,
        until,
    };
    by_subdir.into_iter().filter(|(_, packages)| !packages.is_empty()).map(change).collect()
}
