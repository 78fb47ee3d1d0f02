//! Which shards must be judged anew, and where everything about them lies.

use std::collections::{BTreeMap, BTreeSet};

use airlock_core::advisory::Slice;
use airlock_core::assess::Statements;
use airlock_core::channel::{Channel, ChannelFeed};
use airlock_core::decision::{self, Decisions};
use airlock_core::ecosystem::Ecosystem;
use airlock_core::fact::Facts;
use airlock_core::id::Id;
use airlock_core::identity::Identity;
use airlock_core::judge::feeds_read;
use airlock_core::matching;
use airlock_core::reach::{self, Reach};
use airlock_core::shard::{Shard, ShardKey};
use airlock_core::snapshot::{Snapshot, Upstream};
use airlock_core::spec::Spec;
use airlock_core::trie::TreeId;
use airlock_core::verdict::Judgement;
use airlock_store::Db;

use super::How;
use super::inputs::Inputs;
use crate::error::{Result, joined};
use crate::feeds;
use crate::station::Station;
use crate::tree_edit::{self, Difference, Value};
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
        let db = &station.store.db;
        // What is offered of one package bears on what needs it.
        let is_bound = how.anew || how.as_of.is_some() || how.compare || inputs.asks_dependencies();
        if is_bound || !reach::time_changes_nothing(before, inputs.now) {
            return Ok(Self::All);
        }
        let rules = inputs.rules_reach(db, &before.inputs).await?;
        if rules == Reach::All {
            return Ok(Self::All);
        }
        let mut keys = BTreeSet::new();
        // Of these it matters whether it is asked what would be if they were here.
        if how.for_fetch || how.without_bytes {
            let Some(pending) = inputs.pending else { return Ok(Self::All) };
            keys.extend(db.get(pending).await?.keys);
        }
        let Some(names) = advised(station, channel, inputs, (before, rules)).await? else {
            return Ok(Self::All);
        };
        let Some(specs) = decided(db, channel, inputs, before).await? else { return Ok(Self::All) };
        let upstream: Upstream = db.get(before.inputs.upstream).await?;
        keys.extend(differing(db, upstream.tree, inputs.upstream.tree).await?);
        keys.extend(differing(db, before.inputs.facts, inputs.facts).await?);
        keys.extend(newly_listed(db, inputs, before).await?);
        keys.extend(newly_sent(db, channel, inputs, upstream.origin).await?);
        keys.extend(keys_of(db, inputs, (&names, &specs)).await?);
        Ok(Self::Some(keys))
    }
}

/// The keys under which two trees hold something else.
async fn differing<V: Value + PartialEq>(db: &Db, old: TreeId<V>, new: TreeId<V>) -> Result<Vec<String>> {
    let differences = tree_edit::diff(db, Some(old), Some(new)).await?;
    Ok(differences.into_iter().map(|d| d.key).collect())
}

/// The keys for which it matters that other records are listed than before. Where the previous snapshot was the
/// first to list a name, what it listed is what it published, so that nothing is judged otherwise.
async fn newly_listed(db: &Db, inputs: &Inputs, before: &Snapshot) -> Result<Vec<String>> {
    let listed = tree_edit::diff(db, Some(before.inputs.listed), Some(inputs.listed)).await?;
    let content = tree_edit::find_many(db, before.content, listed.iter().map(|d| d.key.as_str())).await?;
    let is_news = |d: &Difference<Id<Shard>>| d.old.is_some() || d.new != content.get(&d.key).copied();
    Ok(listed.into_iter().filter(is_news).map(|d| d.key).collect())
}

/// What whoever a channel comes from, a sending station or its parent, found of it.
async fn sent(
    db: &Db,
    channel: &Channel,
    origin: Option<Id<Snapshot>>,
) -> Result<Option<TreeId<Id<Judgement>>>> {
    let has_origin = matches!(channel.feed, ChannelFeed::Bundles { .. } | ChannelFeed::Parent { .. });
    match origin.filter(|_| has_origin) {
        Some(origin) => Ok(Some(db.get(origin).await?.judgement)),
        None => Ok(None),
    }
}

/// The keys of which kept snapshots list something that is not offered any more where the channel comes from, and of which is said
/// something else there than before.
async fn newly_sent(
    db: &Db,
    channel: &Channel,
    inputs: &Inputs,
    before: Option<Id<Snapshot>>,
) -> Result<Vec<String>> {
    let (old, new) = (sent(db, channel, before).await?, sent(db, channel, inputs.upstream.origin).await?);
    if old == new {
        return Ok(Vec::new());
    }
    let said: BTreeSet<String> =
        tree_edit::diff(db, old, new).await?.into_iter().map(|difference| difference.key).collect();
    let left = differing(db, inputs.upstream.tree, inputs.listed).await?;
    Ok(left.into_iter().filter(|key| said.contains(key)).collect())
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
    station: &Station,
    channel: &Channel,
    inputs: &Inputs,
    (before, rules): (&Snapshot, Reach),
) -> Result<Option<BTreeSet<String>>> {
    let db = &station.store.db;
    let mut names = BTreeSet::new();
    let rules_differ = rules != Reach::Nothing;
    if inputs.same_set(&before.inputs) && !rules_differ {
        return Ok(Some(names));
    }
    let old = db.get(before.inputs.advisories).await?;
    let new = &inputs.set;
    if !reach::feeds_read_changes_nothing(&inputs.policy, feeds_read(&old), feeds_read(new), inputs.now) {
        return Ok(None);
    }
    // What is exploited is joined to every finding.
    let asks_epss = inputs.policy.rules.iter().any(|rule| rule.when.asks_epss());
    let all = rules_differ || old.kev != new.kev || (asks_epss && old.epss != new.epss);
    let mut slices: BTreeSet<String> = differing(db, old.slices, new.slices).await?.into_iter().collect();
    // What is stated under a key is looked up as what is known under it.
    let stated = tree_edit::diff(db, old.statements, new.statements).await?;
    slices.extend(stated.into_iter().map(|difference| difference.key));
    if all {
        slices.extend(trees::load(db, new.slices).await?.into_keys());
    }
    if channel.ecosystem == Ecosystem::Conda {
        names.extend(differing(db, old.identities, new.identities).await?);
    }
    names.extend(feeds::reached(station, channel.ecosystem, new.identities, &slices).await?);
    if !slices.is_empty() {
        names.extend(inputs.decisions.ruled_names(&channel.name).map(str::to_owned));
    }
    Ok(Some(names))
}

/// The keys of the channel that have these names, or names that these specs mean.
async fn keys_of(
    db: &Db,
    inputs: &Inputs,
    (names, specs): (&BTreeSet<String>, &[Spec]),
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
    if names.is_empty() && exact.is_empty() {
        return Ok(keys);
    }
    // What is listed may lie in a subdir that the source has no longer.
    let subdirs: BTreeSet<Option<String>> = match (inputs.upstream.ecosystem, inputs.subdirs) {
        (Ecosystem::Pypi, _) => [None].into(),
        (Ecosystem::Conda, Some(id)) => {
            let listed = db.get(id).await?.subdirs;
            listed.into_iter().chain(inputs.upstream.subdirs.keys().cloned()).map(Some).collect()
        }
        (Ecosystem::Conda, None) => {
            let listed = trees::load(db, inputs.listed).await?;
            let of_listed = listed.keys().map(|key| ShardKey::parse(key).subdir);
            of_listed.chain(inputs.upstream.subdirs.keys().cloned().map(Some)).collect()
        }
    };
    for name in names.iter().map(String::as_str).chain(exact.iter().copied()) {
        for subdir in &subdirs {
            keys.insert(ShardKey { subdir: subdir.clone(), name: name.to_owned() }.to_string());
        }
    }
    let mut found: BTreeSet<String> = BTreeSet::new();
    for tree in [inputs.upstream.tree, inputs.listed] {
        found.extend(tree_edit::find_many(db, tree, keys.iter().map(String::as_str)).await?.into_keys());
    }
    Ok(found)
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
    pub statements: BTreeMap<String, Id<Statements>>,
    /// What was found where the channel comes from, of shards of which kept snapshots list something else than is offered there.
    pub sent: BTreeMap<String, Id<Judgement>>,
    /// What people ruled of identities, which counts instead.
    ruled: BTreeMap<String, Identity>,
}

impl Maps {
    /// Where everything lies that is judged; or, where it is asked about the `whole` channel, that is in it.
    pub async fn read(
        station: &Station,
        channel: &Channel,
        inputs: &Inputs,
        (judged, whole): (&Scope, bool),
    ) -> Result<Self> {
        let scope = if whole { &Scope::All } else { judged };
        let db = &station.store.db;
        let before = inputs.previous.as_ref().map(|(_, snapshot)| snapshot);
        // Side by side: of a large channel each of them takes a while.
        let (upstream, listed, judgements, content, facts) = tokio::try_join!(
            scope.read(db, Some(inputs.upstream.tree)),
            scope.read(db, Some(inputs.listed)),
            scope.read(db, before.map(|before| before.judgement)),
            scope.read(db, before.map(|before| before.content)),
            scope.read(db, Some(inputs.facts)),
        )?;
        let keys: BTreeSet<&String> = match scope {
            // A name that is nowhere any more is judged to be gone.
            Scope::All => upstream.keys().chain(listed.keys()).chain(judgements.keys()).collect(),
            Scope::Some(keys) => keys.iter().collect(),
        };
        let keys: Vec<String> = keys.into_iter().cloned().collect();
        let names: BTreeSet<String> =
            keys.iter().filter(|key| judged.holds(key)).map(|key| ShardKey::parse(key).name).collect();
        let identities = match (channel.ecosystem, judged) {
            (Ecosystem::Pypi, _) => BTreeMap::new(),
            (Ecosystem::Conda, Scope::All) => trees::load(db, inputs.set.identities).await?,
            (Ecosystem::Conda, Scope::Some(_)) => {
                tree_edit::find_many(db, inputs.set.identities, names.iter().map(String::as_str)).await?
            }
        };
        let (mut matched, mut ruled) = (BTreeSet::new(), BTreeMap::new());
        for name in names {
            ruled.extend(
                inputs.decisions.identity(&channel.name, &name, inputs.now).map(|i| (name.clone(), i)),
            );
            let identity = ruled.get(&name).or(identities.get(&name));
            let lookups = matching::lookups(channel.ecosystem, &name, identity);
            matched.extend(lookups.into_iter().map(|l| l.key.as_str().to_owned()));
        }
        let sent = match sent(db, channel, inputs.upstream.origin).await? {
            Some(tree) => {
                let is_left = |(key, id): &(&String, &Id<Shard>)| upstream.get(*key) != Some(*id);
                let left = listed.iter().filter(is_left).map(|(key, _)| key.as_str());
                tree_edit::find_many(db, tree, left).await?
            }
            None => BTreeMap::new(),
        };
        let statements = match inputs.set.statements {
            Some(tree) => tree_edit::find_many(db, tree, matched.iter().map(String::as_str)).await?,
            None => BTreeMap::new(),
        };
        Ok(Self {
            statements,
            sent,
            ruled,
            slices: tree_edit::find_many(db, inputs.set.slices, matched.iter().map(String::as_str)).await?,
            facts,
            keys,
            upstream,
            listed,
            judgements,
            content,
            identities,
        })
    }
}

impl Maps {
    /// What a package is elsewhere.
    pub fn identity(&self, name: &str) -> Option<&Identity> {
        self.ruled.get(name).or(self.identities.get(name))
    }
}

impl Scope {
    /// Whether the shard of this key is judged anew.
    pub fn holds(&self, key: &str) -> bool {
        match self {
            Self::All => true,
            Self::Some(keys) => keys.contains(key),
        }
    }

    async fn read<T>(&self, db: &Db, root: Option<TreeId<Id<T>>>) -> Result<BTreeMap<String, Id<T>>>
    where
        T: Send + 'static,
    {
        match (self, root) {
            (_, None) => Ok(BTreeMap::new()),
            (Self::All, Some(root)) => {
                let db = db.clone();
                joined(tokio::spawn(async move { trees::load(&db, root).await }).await)
            }
            (Self::Some(keys), Some(root)) => {
                Ok(tree_edit::find_many(db, root, keys.iter().map(String::as_str)).await?)
            }
        }
    }
}
