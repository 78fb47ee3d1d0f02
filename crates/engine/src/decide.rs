//! Decisions: blocking, waiving, taking back.

use airlock_core::block::BlockSet;
use airlock_core::channel::Channel;
use airlock_core::decision::{Decision, Decisions, Ruling, Scope};
use airlock_core::id::Id;
use airlock_core::record::Artifact;
use airlock_core::shard::{Shard, ShardKey};
use airlock_core::spec::Spec;
use airlock_core::time::Time;
use airlock_core::trie::TreeId;

use crate::channel::ref_name;
use crate::error::{Error, Result};
use crate::station::Station;
use crate::{channel, judge, trees};

/// The ref of all decisions.
pub const REF: &str = "decisions";
/// How often a decision is tried again when somebody else decided in between.
const TRIES: usize = 20;

/// Records a decision and gives it with its id. It acts at the next judgement, which the caller starts.
pub async fn decide(
    station: &Station,
    ruling: Ruling,
    reason: &str,
    expires: Option<Time>,
) -> Result<Decision> {
    if reason.trim().is_empty() {
        return Err(Error::usage("a decision needs a reason").hint("say why with --reason TEXT"));
    }
    check(station, &ruling, expires).await?;
    for _ in 0..TRIES {
        let (before, mut decisions) = judge::decisions(station).await?;
        let decision = Decision {
            id: format!("d{}", decisions.list.len() + 1),
            time: station.now().await?,
            author: station.options.actor.clone(),
            reason: reason.trim().to_owned(),
            ruling: ruling.clone(),
            expires,
        };
        decisions.list.push(decision.clone());
        let id = station.store.db.put(&decisions).await?;
        let mut moved = station.move_ref(REF, Some(id.digest())).await?;
        if moved.from.is_some() {
            moved.from = Some(before.digest());
        }
        let detail = serde_json::to_value(&decision)?;
        match station.commit(vec![moved], "decision.add", &format!("decision/{}", decision.id), &detail).await
        {
            Err(e) if e.is_race => {}
            other => return other.map(|()| decision),
        }
    }
    Err(Error::fault("others keep deciding at the same time").hint("run it again"))
}

async fn check(station: &Station, ruling: &Ruling, expires: Option<Time>) -> Result<()> {
    match ruling {
        Ruling::Block(scope) => check_scope(station, scope).await,
        Ruling::Waive { rule, scope, .. } => {
            check_scope(station, scope).await?;
            if expires.is_none() {
                return Err(Error::usage("a waiver needs a date on which it ends")
                    .hint("give one with --expires 2027-01-31"));
            }
            let channel = channel::find(station, &scope.channel).await?;
            let policy = crate::policy::find(station, &channel.policy).await?.policy;
            if policy.rules.iter().all(|r| r.name != *rule) {
                let names: Vec<&str> = policy.rules.iter().map(|r| r.name.as_str()).collect();
                return Err(Error::usage(format!("policy `{}` has no rule `{rule}`", policy.name))
                    .hint(format!("its rules are {}", names.join(", "))));
            }
            Ok(())
        }
        Ruling::Revoke { decision } => {
            let (_, decisions) = judge::decisions(station).await?;
            match decisions.list.iter().any(|d| d.id == *decision) {
                true => Ok(()),
                false => Err(Error::usage(format!("there is no decision `{decision}`"))
                    .hint("`airlock review list` shows them")),
            }
        }
    }
}

async fn check_scope(station: &Station, scope: &Scope) -> Result<()> {
    let channel = channel::find(station, &scope.channel).await?;
    Spec::parse(channel.ecosystem, &scope.spec).map(|_| ()).map_err(|e| Error::usage(e.to_string()))
}

/// Blocks what matches `spec`, on every server within moments: the block set takes it in before anything is
/// judged again, and whoever is judging at this moment has to start over.
pub async fn block(
    station: &Station,
    channel: &Channel,
    spec: &str,
    reason: &str,
) -> Result<(Decision, usize)> {
    let scope = Scope { channel: channel.name.clone(), spec: spec.to_owned() };
    let decision = decide(station, Ruling::Block(scope), reason, None).await?;
    let why = format!("blocked: decision {} by {}: {}", decision.id, decision.author, decision.reason);
    let spec = Spec::parse(channel.ecosystem, spec).map_err(|e| Error::usage(e.to_string()))?;
    let blocked = add_to_block_set(station, channel, &spec, &why).await?;
    Ok((decision, blocked))
}

async fn add_to_block_set(station: &Station, channel: &Channel, spec: &Spec, why: &str) -> Result<usize> {
    let db = &station.store.db;
    let Some(listed) = db.find_ref(&ref_name(&channel.name, "listed")).await? else { return Ok(0) };
    let mut hits: Vec<(String, String)> = Vec::new();
    let tree = trees::load::<Id<Shard>>(db, TreeId::new(listed)).await?;
    for (key, id) in tree.iter().filter(|(key, _)| spec.matches_name(&ShardKey::parse(key).name)) {
        let shard = db.get(*id).await?;
        for (file, entry) in &shard.entries {
            if Artifact::read(&shard, file, entry).is_ok_and(|a| spec.matches_version(&a.version)) {
                hits.push((key.clone(), file.clone()));
            }
        }
    }
    for _ in 0..TRIES {
        let name = ref_name(&channel.name, "blocks");
        let before = db.find_ref(&name).await?;
        let mut blocks = match before {
            Some(id) => db.get::<BlockSet>(Id::new(id)).await?,
            None => BlockSet::default(),
        };
        for (key, file) in &hits {
            blocks.insert(key, file, why.to_owned());
        }
        let id = db.put(&blocks).await?;
        let change = airlock_store::RefChange { name: name.clone(), from: before, to: Some(id.digest()) };
        let detail = serde_json::json!({"artifacts": hits.len()});
        match station
            .commit(vec![change], "channel.block", &format!("channel/{}", channel.name), &detail)
            .await
        {
            Err(e) if e.is_race => {}
            other => return other.map(|()| hits.len()),
        }
    }
    Err(Error::fault("the block set keeps changing").hint("run it again"))
}

/// All decisions.
pub async fn list(station: &Station) -> Result<Decisions> {
    Ok(judge::decisions(station).await?.1)
}
