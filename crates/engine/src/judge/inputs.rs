//! What a channel is judged from, read at one moment.

use airlock_core::advisory::AdvisorySet;
use airlock_core::block::BlockSet;
use airlock_core::channel::Channel;
use airlock_core::decision::Decisions;
use airlock_core::fact::Facts;
use airlock_core::id::{Digest, Id};
use airlock_core::object::{self, Object};
use airlock_core::policy::{Policy, PolicyText};
use airlock_core::reach::{self, Reach};
use airlock_core::shard::Shard;
use airlock_core::snapshot::{self, Snapshot, Upstream};
use airlock_core::time::Time;
use airlock_core::trie::TreeId;
use airlock_store::Db;

use super::How;
use crate::channel::ref_name;
use crate::child::Above;
use crate::error::{Error, Result};
use crate::publish::{Pending, Subdirs, find_rendered};
use crate::station::Station;
use crate::{feeds, policy, trees};

/// The inputs, as roots of trees where they are large.
pub(super) struct Inputs {
    upstream_id: Id<Upstream>,
    pub upstream: Upstream,
    pub facts: TreeId<Id<Facts>>,
    pub listed: TreeId<Id<Shard>>,
    pub previous: Option<(Id<Snapshot>, Snapshot)>,
    set_id: Id<AdvisorySet>,
    pub set: AdvisorySet,
    decisions_id: Id<Decisions>,
    pub decisions: Decisions,
    policy_id: Id<PolicyText>,
    pub policy: Policy,
    pub source: String,
    pub known: Vec<(String, Option<Digest>)>,
    /// What the next reading of the source tries to fetch, and the subdirs that may list something.
    pub pending: Option<Id<Pending>>,
    pub subdirs: Option<Id<Subdirs>>,
    /// Whether the indexes of the previous snapshot are there, as this program renders them.
    pub is_rendered: bool,
    pub now: Time,
}

/// What stands in the refs that make verdicts stricter.
async fn known(station: &Station, channel: &Channel) -> Result<Vec<(String, Option<Digest>)>> {
    let policy = format!("policy/{}", channel.policy);
    let blocks = ref_name(&channel.name, "blocks");
    // The channel as it is judged: whoever gave it another policy since then is not overtaken.
    let def = (ref_name(&channel.name, "def"), Some(object::encode(channel)?.0.digest()));
    let mut known = vec![def];
    let parent = channel.parent().map(|parent| ref_name(parent, "snapshot"));
    for name in
        [blocks, crate::decide::REF.to_owned(), feeds::SET.to_owned(), policy].into_iter().chain(parent)
    {
        let at = station.store.db.find_ref(&name).await?;
        known.push((name, at));
    }
    Ok(known)
}

async fn root_of<T: Object>(station: &Station, root: Option<Digest>) -> Result<TreeId<Id<T>>> {
    match root {
        Some(id) => Ok(TreeId::new(id)),
        None => trees::store(&station.store.db, &std::collections::BTreeMap::<String, _>::new()).await,
    }
}

impl Inputs {
    pub async fn read(
        station: &Station,
        channel: &Channel,
        how: &How,
        upstream: Option<Id<Upstream>>,
    ) -> Result<Self> {
        let db = &station.store.db;
        let name = &channel.name;
        // Before anything that they name is read: what moves in between is noticed when it is published.
        let known = known(station, channel).await?;
        // All of the channel at one moment.
        let refs = db.refs(&ref_name(name, "")).await?;
        let at = |part: &str| refs.get(&ref_name(name, part)).copied();
        let above = match channel.parent() {
            Some(parent) => Some(Above::read(station, channel, parent, &known).await?),
            None => None,
        };
        let upstream_id = match (upstream, &above) {
            (Some(id), _) => id,
            (None, Some(above)) => above.upstream,
            (None, None) => Id::new(at("upstream").ok_or_else(|| {
                Error::usage(format!("channel `{name}` was never filled"))
                    .hint(format!("run `airlock sync {name}`"))
            })?),
        };
        let previous = match at("snapshot").map(Id::<Snapshot>::new) {
            Some(id) => Some((id, db.get(id).await?)),
            None => None,
        };
        let rendered = find_rendered(station, at("rendered")).await?;
        let (set_id, set) = match how.advisories {
            Some(id) => (id, db.get(id).await?),
            None => feeds::current(station).await?,
        };
        let (decisions_id, decisions) = match how.decisions {
            Some(id) => (id, db.get(id).await?),
            None => super::decisions(station).await?,
        };
        let (policy_id, policy) = match &how.policy {
            Some(text) => {
                let policy = policy::read(text)?;
                (object::encode(&PolicyText { text: text.clone() })?.0, policy)
            }
            None => {
                let named = policy::find(station, &channel.policy).await?;
                (named.id, named.policy)
            }
        };
        Ok(Self {
            upstream_id,
            upstream: db.get(upstream_id).await?,
            facts: match (above, how.facts) {
                (Some(above), _) => above.facts,
                (None, Some(facts)) => facts,
                (None, None) => root_of(station, at("facts")).await?,
            },
            listed: root_of(station, at("listed")).await?,
            previous,
            set_id,
            set,
            decisions_id,
            decisions,
            policy_id,
            policy,
            source: crate::channel::source(channel)?,
            known,
            pending: at("pending").map(Id::new),
            subdirs: at("subdirs").map(Id::new),
            is_rendered: rendered.is_some_and(|r| r.is_current()),
            now: match how.as_of {
                Some(time) => time,
                None => station.now().await?,
            },
        })
    }

    /// Those of a snapshot.
    pub async fn of(station: &Station, snapshot: &Snapshot) -> Result<Self> {
        let db = &station.store.db;
        let snapshot::Inputs { upstream, facts, advisories, policy, decisions, listed, previous, .. } =
            snapshot.inputs.clone();
        let previous = match previous {
            Some(id) => Some((id, db.get(id).await?)),
            None => None,
        };
        let text: PolicyText = db.get(policy).await?;
        Ok(Self {
            upstream_id: upstream,
            upstream: db.get(upstream).await?,
            facts,
            listed,
            previous,
            set_id: advisories,
            set: db.get(advisories).await?,
            decisions_id: decisions,
            decisions: db.get(decisions).await?,
            policy_id: policy,
            policy: policy::read(&text.text)?,
            source: snapshot.inputs.source.clone().unwrap_or_default(),
            known: Vec::new(),
            pending: None,
            subdirs: None,
            is_rendered: true,
            now: snapshot.inputs.now,
        })
    }

    /// How far it reaches by what policy, from what source and by what program the previous snapshot was judged.
    pub async fn rules_reach(&self, db: &Db, before: &snapshot::Inputs) -> Result<Reach> {
        if before.source.as_ref() != Some(&self.source)
            || before.rules_revision != airlock_core::RULES_REVISION
        {
            return Ok(Reach::All);
        }
        if self.policy_id == before.policy {
            return Ok(Reach::Nothing);
        }
        // One that is damaged, or that this program does not understand any more, may have said anything.
        let text: PolicyText = match db.get(before.policy).await.map_err(Error::from) {
            Ok(text) => text,
            Err(e) if e.is_content => return Ok(Reach::All),
            Err(e) => return Err(e),
        };
        let before = Policy::parse(&text.text);
        Ok(before.map_or(Reach::All, |before| reach::policy_reaches(&before, &self.policy)))
    }

    /// Whether a rule asks whether dependencies are denied, so that everything bears on everything.
    pub fn asks_dependencies(&self) -> bool {
        self.policy.rules.iter().any(|rule| rule.when.asks_dependencies())
    }

    /// Whether nothing else is known of vulnerabilities.
    pub fn same_set(&self, before: &snapshot::Inputs) -> bool {
        self.set_id == before.advisories
    }

    fn blocks_at(&self, channel: &Channel) -> Option<Digest> {
        let name = ref_name(&channel.name, "blocks");
        self.known.iter().find(|(known, _)| *known == name).and_then(|(_, at)| *at)
    }

    /// The block set that stood there when judging began.
    pub async fn blocks(&self, station: &Station, channel: &Channel) -> Result<BlockSet> {
        match self.blocks_at(channel) {
            Some(id) => Ok(station.store.db.get(Id::new(id)).await?),
            None => Ok(BlockSet::default()),
        }
    }

    /// Whether this block set stood there when judging began.
    pub fn holds_blocks(&self, channel: &Channel, blocks: Digest) -> bool {
        self.blocks_at(channel) == Some(blocks)
    }

    /// As a snapshot names them.
    pub fn for_snapshot(&self) -> snapshot::Inputs {
        snapshot::Inputs {
            upstream: self.upstream_id,
            facts: self.facts,
            advisories: self.set_id,
            policy: self.policy_id,
            decisions: self.decisions_id,
            listed: self.listed,
            source: Some(self.source.clone()),
            previous: self.previous.as_ref().map(|(id, _)| *id),
            now: self.now,
            rules_revision: airlock_core::RULES_REVISION,
        }
    }
}
