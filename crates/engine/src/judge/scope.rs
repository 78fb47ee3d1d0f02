//! Which shards must be judged anew, and where everything about them lies.

use std::collections::{BTreeMap, BTreeSet};

use airlock_core::advisory::Slice;
use airlock_core::channel::Channel;
use airlock_core::decision::{self, Decisions};
use airlock_core::ecosystem::Ecosystem;
use airlock_core::fact::Facts;
use airlock_core::id::Id;
use airlock_core::identity::Identity;
use airlock_core::judge::feeds_read;
use airlock_core::matching;
use airlock_core::reach;
use airlock_core::shard::{Shard, ShardKey};
use airlock_core::snapshot::{Snapshot, Upstream};
use airlock_core::spec::Spec;
use airlock_core::trie::TreeId;
use airlock_core::verdict::Judgement;
use airlock_store::Db;

use super::How;
use super::inputs::Inputs;
use crate::channel::ref_name;
use crate::error::Result;
use crate::publish::Pending;
use crate::station::Station;
use crate::trees;

/// The shards that are judged anew, by key. The others keep the judgement of the previous snapshot.
pub(super) enum Scope {
    /// All of them.
    All,
    /// These.
    Some(BTreeSet<String>),
}

impl Scope {
    /// What the changes since the previous snapshot reach.
    pub async fn of(station: &Station, channel: &Channel, how: &How, inputs: &Inputs) -> Result<Self> {
        let Some((_, before)) = &inputs.previous else { return Ok(Self::All) };
        let is_bound = how.as_of.is_some() || how.policy.is_some() || !inputs.same_rules(&before.inputs);
        if is_bound || !reach::time_changes_nothing(before, inputs.now) {
            return Ok(Self::All);
        }
        let db = &station.store.db;
        let mut keys = BTreeSet::new();
        if how.without_bytes {
            let Some(id) = db.find_ref(&ref_name(&channel.name, "pending")).await? else {
                return Ok(Self::All);
            };
            keys.extend(db.get(Id::<Pending>::new(id)).await?.keys);
        }
        let Some(names) = advised(db, channel, inputs, before).await? else { return Ok(Self::All) };
        let Some(specs) = decided(db, channel, inputs, before).await? else { return Ok(Self::All) };
        let upstream: Upstream = db.get(before.inputs.upstream).await?;
        keys.extend(trees::diff(db, Some(upstream.tree), inputs.upstream.tree).await?.into_keys());
        keys.extend(trees::diff(db, Some(before.inputs.facts), inputs.facts).await?.into_keys());
        keys.extend(newly_listed(db, inputs, before).await?);
        keys.extend(keys_of(db, inputs, &names, &specs).await?);
        Ok(Self::Some(keys))
    }
}

/// The keys for which it matters that other records are listed than before. Where the previous snapshot was the
/// first to list a name, what it listed is what it published, so that nothing is judged otherwise.
async fn newly_listed(db: &Db, inputs: &Inputs, before: &Snapshot) -> Result<Vec<String>> {
    let listed = trees::diff(db, Some(before.inputs.listed), inputs.listed).await?;
    let content = trees::find_some(db, before.content, listed.keys()).await?;
    let is_news = |key: &String, (old, new): &(Option<Id<Shard>>, Option<Id<Shard>>)| {
        old.is_some() || new.is_none() || content.get(key) != new.as_ref()
    };
    Ok(listed.iter().filter(|(key, change)| is_news(key, change)).map(|(key, _)| key.clone()).collect())
}

/// The specs of what was decided since; none if anything may have been.
async fn decided(
    db: &Db,
    channel: &Channel,
    inputs: &Inputs,
    before: &Snapshot,
) -> Result<Option<Vec<Spec>>> {
    let old: Decisions = db.get(before.inputs.decisions).await?;
    let here = |scope: &&decision::Scope| scope.channel == channel.name;
    let Some(scopes) = inputs.decisions.since(&old) else { return Ok(None) };
    let specs = scopes.into_iter().filter(here).map(|scope| Spec::parse(channel.ecosystem, &scope.spec));
    Ok(specs.collect::<std::result::Result<Vec<Spec>, _>>().ok())
}

/// The names whose advisories or identities are others than before; none if what changed may reach everything.
async fn advised(
    db: &Db,
    channel: &Channel,
    inputs: &Inputs,
    before: &Snapshot,
) -> Result<Option<BTreeSet<String>>> {
    let mut names = BTreeSet::new();
    if inputs.same_set(&before.inputs) {
        return Ok(Some(names));
    }
    let old = db.get(before.inputs.advisories).await?;
    let new = &inputs.set;
    if !reach::feeds_read_changes_nothing(&inputs.policy, feeds_read(&old), feeds_read(new), inputs.now) {
        return Ok(None);
    }
    // What is exploited is joined to every finding.
    let all = old.kev != new.kev || old.epss != new.epss;
    let slices = trees::diff(db, Some(old.slices), new.slices).await?;
    match channel.ecosystem {
        Ecosystem::Pypi => {
            names.extend(slices.keys().filter_map(|k| pypi_name(k)));
            if all {
                names.extend(trees::load(db, new.slices).await?.keys().filter_map(|k| pypi_name(k)));
            }
        }
        Ecosystem::Conda => {
            names.extend(trees::diff(db, Some(old.identities), new.identities).await?.into_keys());
            if all || !slices.is_empty() {
                for (name, identity) in trees::load(db, new.identities).await? {
                    let lookups = matching::lookups(channel.ecosystem, &name, Some(&identity));
                    if all || lookups.iter().any(|l| slices.contains_key(l.key.as_str())) {
                        names.insert(name);
                    }
                }
            }
        }
    }
    Ok(Some(names))
}

fn pypi_name(key: &str) -> Option<String> {
    key.strip_prefix("osv:PyPI/").map(str::to_owned)
}

/// The keys of the channel that have these names, or names that these specs mean.
async fn keys_of(
    db: &Db,
    inputs: &Inputs,
    names: &BTreeSet<String>,
    specs: &[Spec],
) -> Result<BTreeSet<String>> {
    let exact: Option<Vec<&str>> = specs.iter().map(Spec::exact_name).collect();
    let mut keys = BTreeSet::new();
    let Some(exact) = exact else {
        let mut all = trees::load(db, inputs.upstream.tree).await?;
        all.extend(trees::load(db, inputs.listed).await?);
        keys.extend(all.into_keys().filter(|key| {
            let name = ShardKey::parse(key).name;
            names.contains(&name) || specs.iter().any(|s| s.matches_name(&name))
        }));
        return Ok(keys);
    };
    let names = names.iter().map(String::as_str).chain(exact);
    let subdirs: Vec<Option<&String>> = match inputs.upstream.ecosystem {
        Ecosystem::Pypi => vec![None],
        Ecosystem::Conda => inputs.upstream.subdirs.keys().map(Some).collect(),
    };
    for name in names {
        for subdir in &subdirs {
            keys.insert(ShardKey { subdir: subdir.cloned(), name: name.to_owned() }.to_string());
        }
    }
    let mut found = trees::find_some(db, inputs.upstream.tree, &keys).await?;
    found.extend(trees::find_some(db, inputs.listed, &keys).await?);
    Ok(found.into_keys().collect())
}

/// Where everything about the shards in scope lies.
pub(super) struct Maps {
    pub keys: Vec<String>,
    pub upstream: BTreeMap<String, Id<Shard>>,
    pub listed: BTreeMap<String, Id<Shard>>,
    pub facts: BTreeMap<String, Id<Facts>>,
    pub judgements: BTreeMap<String, Id<Judgement>>,
    /// What the previous snapshot published.
    pub content: BTreeMap<String, Id<Shard>>,
    pub identities: BTreeMap<String, Identity>,
    pub slices: BTreeMap<String, Id<Slice>>,
}

impl Maps {
    pub async fn read(station: &Station, channel: &Channel, inputs: &Inputs, scope: &Scope) -> Result<Self> {
        let db = &station.store.db;
        let before = inputs.previous.as_ref().map(|(_, snapshot)| snapshot);
        let upstream = scope.read(db, inputs.upstream.tree).await?;
        let listed = scope.read(db, inputs.listed).await?;
        let judgements = match before {
            Some(before) => scope.read(db, before.judgement).await?,
            None => BTreeMap::new(),
        };
        let content = match before {
            Some(before) => scope.read(db, before.content).await?,
            None => BTreeMap::new(),
        };
        let keys: BTreeSet<&String> = match scope {
            // A name that is nowhere any more is judged to be gone.
            Scope::All => upstream.keys().chain(listed.keys()).chain(judgements.keys()).collect(),
            Scope::Some(keys) => keys.iter().collect(),
        };
        let keys: Vec<String> = keys.into_iter().cloned().collect();
        let identities = match (channel.ecosystem, scope) {
            (Ecosystem::Pypi, _) => BTreeMap::new(),
            (Ecosystem::Conda, Scope::All) => trees::load(db, inputs.set.identities).await?,
            (Ecosystem::Conda, Scope::Some(_)) => {
                let names: BTreeSet<String> = keys.iter().map(|k| ShardKey::parse(k).name).collect();
                trees::find_some(db, inputs.set.identities, &names).await?
            }
        };
        let mut matched = BTreeSet::new();
        for key in &keys {
            let name = ShardKey::parse(key).name;
            let lookups = matching::lookups(channel.ecosystem, &name, identities.get(&name));
            matched.extend(lookups.into_iter().map(|l| l.key.as_str().to_owned()));
        }
        Ok(Self {
            slices: trees::find_some(db, inputs.set.slices, &matched).await?,
            facts: scope.read(db, inputs.facts).await?,
            keys,
            upstream,
            listed,
            judgements,
            content,
            identities,
        })
    }
}

impl Scope {
    async fn read<T>(&self, db: &Db, root: TreeId<Id<T>>) -> Result<BTreeMap<String, Id<T>>> {
        match self {
            Self::All => trees::load(db, root).await,
            Self::Some(keys) => trees::find_some(db, root, keys).await,
        }
    }
}
