//! Decisions: blocking, waiving, taking back.

use airlock_core::advisory::{FeedHead, FeedKind, Kev, Slice};
use airlock_core::assess::{self, Basis, Justification};
use airlock_core::block::BlockSet;
use airlock_core::channel::Channel;
use airlock_core::decision::{Approved, Decision, Decisions, Ruling, Scope, Terms, Weighed};
use airlock_core::ecosystem::Ecosystem;
use airlock_core::id::Id;
use airlock_core::matching::{self, Lookup, Status};
use airlock_core::object;
use airlock_core::record::Artifact;
use airlock_core::roles::Action;
use airlock_core::shard::{Shard, ShardKey};
use airlock_core::spec::Spec;
use airlock_core::time::Time;
use airlock_core::trie::TreeId;

use airlock_store::RefChange;

use crate::boxed;
use crate::channel::ref_name;
use crate::error::{Error, Result};
use crate::judge::How;
use crate::proposals::{self, Act};
use crate::station::Station;
use crate::sync::{self, Rejudged};
use crate::{channel, judge, tree_edit, trees};

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
    decide_on(station, ruling, Terms { reason: reason.to_owned(), expires, ..Terms::default() }).await
}

/// The same on further terms.
#[boxed]
pub async fn decide_on(station: &Station, ruling: Ruling, terms: Terms) -> Result<Decision> {
    check(station, &ruling, &terms).await?;
    let (_, mut all) = judge::decisions(station).await?;
    all.list.push(next(station, &all, ruling.clone(), &terms).await?);
    check_room(&ruling, &all)?;
    proposals::gate(station, Act::Decide { ruling: ruling.clone(), terms: terms.clone() }).await?;
    for _ in 0..TRIES {
        let (before, mut decisions) = judge::decisions(station).await?;
        let decision = next(station, &decisions, ruling.clone(), &terms).await?;
        decisions.list.push(decision.clone());
        check_room(&decision.ruling, &decisions)?;
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

/// What deciding so is, for the rules of who may do what.
pub(crate) async fn action(station: &Station, ruling: &Ruling) -> Result<Action> {
    let of = |ruling: &Ruling, is_taken_back: bool| match ruling {
        Ruling::Block(_) | Ruling::Reject(_) | Ruling::Freeze(_) if is_taken_back => Action::Lift,
        Ruling::Block(_) => Action::Block,
        Ruling::Reject(_) => Action::Reject,
        Ruling::Freeze(_) => Action::Freeze,
        Ruling::Approve { .. } => Action::Approve,
        // A baseline lifts what denies, as a waiver does.
        Ruling::Waive { .. } | Ruling::Baseline { .. } => Action::Waive,
        Ruling::Status { .. }
        | Ruling::Statements { .. }
        | Ruling::Identity { .. }
        | Ruling::Revoke { .. } => Action::Rule,
    };
    Ok(match ruling {
        Ruling::Revoke { decision } => {
            let (_, decisions) = judge::decisions(station).await?;
            let found = decisions.list.iter().find(|d| d.id == *decision);
            found.map_or(Action::Rule, |d| of(&d.ruling, true))
        }
        other => of(other, false),
    })
}

/// The channel that a ruling is about.
pub(crate) async fn channel_of(station: &Station, ruling: &Ruling) -> Result<Option<String>> {
    let (_, decisions) = judge::decisions(station).await?;
    Ok(decisions.scope_of(ruling).map(|scope| scope.channel.clone()))
}

/// The decision that would be made now.
async fn next(station: &Station, held: &Decisions, ruling: Ruling, terms: &Terms) -> Result<Decision> {
    let Terms { reason, expires, until_fixed, ticket } = terms.clone();
    Ok(Decision {
        id: format!("d{}", held.list.len() + 1),
        time: station.now().await?,
        author: station.author(),
        reason: reason.trim().to_owned(),
        ruling,
        expires,
        until_fixed,
        ticket,
    })
}

/// What judging would give if somebody decided so; nothing is decided.
pub async fn preview(station: &Station, ruling: Ruling, terms: Terms) -> Result<Rejudged> {
    check(station, &ruling, &terms).await?;
    let (_, mut decisions) = judge::decisions(station).await?;
    let decision = next(station, &decisions, ruling, &terms).await?;
    let channel = decisions.channel_of(&decision).map(str::to_owned);
    decisions.list.push(decision);
    let id = station.store.db.put(&decisions).await?;
    // Whatever else would be let in if it were fetched is not this decision's doing.
    let how = How { dry: true, without_bytes: true, anew: true, ..How::default() };
    let here = |name: &str| channel.as_deref() == Some(name);
    let as_it_is = sync::rejudge_each(station, here, &how, "preview").await?;
    let how = How { decisions: Some(id), ..how };
    let mut would = sync::rejudge_each(station, here, &how, "preview").await?;
    for (outcome, before) in would.outcomes.iter_mut().zip(&as_it_is.outcomes) {
        outcome.changes = outcome.changes.without(&before.changes)?;
    }
    Ok(would)
}

async fn check(station: &Station, ruling: &Ruling, terms: &Terms) -> Result<()> {
    if terms.reason.trim().is_empty() {
        return Err(Error::usage("a decision needs a reason").hint("say why with --reason TEXT"));
    }
    let expires = terms.expires;
    match ruling {
        Ruling::Block(scope) | Ruling::Reject(scope) => check_scope(station, scope).await,
        Ruling::Freeze(scope) => {
            channel::find(station, &scope.channel).await?;
            if expires.is_none() {
                return Err(Error::usage("a channel is frozen until a date").hint(ENDS));
            }
            check_ahead(station, expires).await
        }
        Ruling::Approve { scope, files } => check_approve(station, scope, files, expires).await,
        Ruling::Baseline { scope, files } => check_baseline(station, scope, files.len(), expires).await,
        Ruling::Waive { rule, scope, advisory } => {
            check_scope(station, scope).await?;
            check_end(terms, advisory.as_deref())?;
            check_ahead(station, expires).await?;
            check_waived(station, &scope.channel, rule, advisory.as_deref()).await
        }
        Ruling::Status { scope, status, .. } => {
            check_scope(station, scope).await?;
            if *status == Status::Reported {
                return Err(Error::usage("a finding is `reported` until somebody rules otherwise")
                    .hint("take the ruling back with `airlock review revoke ID`"));
            }
            check_ahead(station, expires).await
        }
        Ruling::Statements { scope, source } => {
            check_scope(station, scope).await?;
            let heads = crate::feeds::heads(station).await?;
            let is_one = |head: &FeedHead| head.kind == FeedKind::Vex;
            if source != assess::PACKAGE && !heads.get(source).is_some_and(is_one) {
                let known = heads.iter().filter(|(_, head)| is_one(head)).map(|(name, _)| name.as_str());
                let known: Vec<&str> = known.chain([assess::PACKAGE]).collect();
                return Err(Error::usage(format!("there is no source of statements called `{source}`"))
                    .hint(format!("there are: {}", known.join(", "))));
            }
            check_ahead(station, expires).await
        }
        Ruling::Identity { scope, .. } => check_identity(station, scope).await,
        Ruling::Revoke { decision } => {
            let (_, decisions) = judge::decisions(station).await?;
            let list = "`airlock review list` shows them";
            let found = decisions.list.iter().find(|d| d.id == *decision);
            let found =
                found.ok_or_else(|| Error::usage(format!("there is no decision `{decision}`")).hint(list))?;
            let in_force = decisions.in_force(station.now().await?).any(|d| d.id == *decision);
            if matches!(found.ruling, Ruling::Revoke { .. }) || !in_force {
                return Err(Error::usage(format!("decision `{decision}` cannot be taken back: it is not in force, or is itself a revocation"))
                    .hint("decide it anew instead"));
            }
            Ok(())
        }
    }
}

/// Only conda packages need an identity, each by its exact name.
async fn check_identity(station: &Station, scope: &Scope) -> Result<()> {
    let channel = channel::find(station, &scope.channel).await?;
    let name = airlock_core::ecosystem::canonical_name(channel.ecosystem, &scope.spec);
    if channel.ecosystem != Ecosystem::Conda || name.as_ref() != Some(&scope.spec) {
        return Err(Error::usage(format!("`{}` is no name of a conda package", scope.spec))
            .hint("only conda packages need an identity, each by its exact name"));
    }
    Ok(())
}

/// A waiver ends: on a date, or with a fix of what it rests on.
fn check_end(terms: &Terms, advisory: Option<&str>) -> Result<()> {
    if terms.expires.is_none() && !terms.until_fixed {
        return Err(Error::usage("a waiver needs a date on which it ends").hint(ENDS));
    }
    if terms.until_fixed && advisory.is_none() {
        return Err(Error::usage("no vulnerability is named that could be fixed")
            .hint("name it with --advisory ID, or give a date with --expires"));
    }
    Ok(())
}

/// Most files of one approval. All decisions are read with each judgement.
const APPROVED_MAX: usize = 10_000;

/// An approval names files that are held.
async fn check_approve(
    station: &Station,
    scope: &Scope,
    files: &[Approved],
    expires: Option<Time>,
) -> Result<()> {
    check_scope(station, scope).await?;
    if files.is_empty() {
        return Err(Error::no(format!("nothing is held that `{}` means", scope.spec))
            .hint(format!("`airlock review queue {}` shows what is", scope.channel)));
    }
    if files.len() > APPROVED_MAX {
        return Err(Error::no(format!("{} files are too many to be weighed at once", files.len())).hint(
            format!(
                "approve at most {APPROVED_MAX}, with a narrower --scope; or change the rule that holds them"
            ),
        ));
    }
    if expires.is_none() {
        check_ages(station, scope, files).await?;
    }
    check_ahead(station, expires).await
}

/// Most files of one baseline: of each stands what was weighed, and all decisions are read with each judgement.
const BASELINE_FILES_MAX: usize = 50_000;

/// Most bytes of all decisions to which what weighs files may be added. Far below the most of an object, so that there is
/// always room for a block.
const DECISIONS_BYTES_MAX: usize = 64 << 20;

/// Whether there is room for one more decision that weighs files.
fn check_room(ruling: &Ruling, all: &Decisions) -> Result<()> {
    let weighs = matches!(ruling, Ruling::Approve { .. } | Ruling::Baseline { .. });
    if weighs && object::encode(all)?.1.bytes.len() > DECISIONS_BYTES_MAX {
        return Err(Error::no(format!(
            "with it all decisions would be larger than {} MiB, which are read with each judgement",
            DECISIONS_BYTES_MAX >> 20
        ))
        .hint("accept fewer files, or change the rule that keeps them out"));
    }
    Ok(())
}

/// A baseline names files that are kept out, and ends.
async fn check_baseline(station: &Station, scope: &Scope, files: usize, expires: Option<Time>) -> Result<()> {
    check_scope(station, scope).await?;
    if expires.is_none() {
        return Err(Error::usage("a baseline needs a date on which it ends").hint(ENDS));
    }
    check_ahead(station, expires).await?;
    if files == 0 {
        return Err(Error::no(format!(
            "nothing that `{}` means is kept out and could be accepted",
            scope.spec
        ))
        .hint(format!(
            "`airlock explain {} NAME` says why something is kept out; what is known to be exploited or malicious, blocked or rejected is in no baseline",
            scope.channel
        )));
    }
    if files > BASELINE_FILES_MAX {
        return Err(Error::no(format!("{files} files are too many for one baseline")).hint(format!(
            "at most {BASELINE_FILES_MAX} at once: name what is really in use with --from LOCKFILE, or a narrower --scope"
        )));
    }
    Ok(())
}

/// An approval of what old feeds hold needs an end: how old they are is weighed by nobody, since it changes with every
/// moment.
async fn check_ages(station: &Station, scope: &Scope, files: &[Approved]) -> Result<()> {
    let channel = channel::find(station, &scope.channel).await?;
    let policy = crate::policy::find(station, &channel.policy).await?.policy;
    let asks_age = |weighed: &Weighed| {
        let mut limits = Vec::new();
        let rule = policy.rules.iter().find(|rule| rule.name == weighed.rule);
        rule.into_iter().for_each(|rule| rule.when.feed_limits(&mut limits));
        !limits.is_empty()
    };
    match files.iter().flat_map(|file| &file.weighed).find(|weighed| asks_age(weighed)) {
        Some(weighed) => Err(Error::usage(format!(
            "rule `{}` asks how old feeds are, so that approving what it holds needs a date on which that ends",
            weighed.rule
        ))
        .hint(format!("{ENDS}; or approve by other rules with --rule"))),
        None => Ok(()),
    }
}

/// How to say when a decision ends.
const ENDS: &str = "give one that lies ahead with --expires 2027-01-31";

async fn check_ahead(station: &Station, expires: Option<Time>) -> Result<()> {
    match expires {
        Some(ends) if ends <= station.now().await? => {
            Err(Error::usage(format!("it would have ended on {}", ends.date())).hint(ENDS))
        }
        _ => Ok(()),
    }
}

/// A waiver lifts a rule that there is; and as far as the rule rests on vulnerabilities, one that is named:
/// what becomes known later was not weighed by whoever decided.
async fn check_waived(station: &Station, channel: &str, rule: &str, advisory: Option<&str>) -> Result<()> {
    let channel = channel::find(station, channel).await?;
    let policy = crate::policy::find(station, &channel.policy).await?.policy;
    let found = policy.rules.iter().find(|r| r.name == rule).ok_or_else(|| {
        let names: Vec<&str> = policy.rules.iter().map(|r| r.name.as_str()).collect();
        Error::usage(format!("policy `{}` has no rule `{rule}`", policy.name))
            .hint(format!("its rules are {}", names.join(", ")))
    })?;
    if found.when.quantifies() {
        return Err(Error::usage(format!("rule `{rule}` speaks of any or no finding, so that no single one can be waived"))
            .hint("write the rule with the predicate itself instead of any_finding or no_finding, or change the policy"));
    }
    if found.when.binds_finding() && advisory.is_none() {
        return Err(Error::usage(format!("rule `{rule}` rests on vulnerabilities, and none is named"))
            .hint("name the one that was weighed with --advisory ID; `airlock explain` shows it"));
    }
    Ok(())
}

async fn check_scope(station: &Station, scope: &Scope) -> Result<()> {
    let channel = channel::find(station, &scope.channel).await?;
    Spec::parse(channel.ecosystem, &scope.spec).map(|_| ()).map_err(|e| Error::usage(e.to_string()))
}

/// Rules on the state of a finding: it stands on what is known at this moment. The scope names one package.
#[boxed]
pub async fn status(
    station: &Station,
    scope: Scope,
    (advisory, status): (&str, Status),
    justification: Option<Justification>,
    reason: &str,
    expires: Option<Time>,
) -> Result<Decision> {
    let channel = channel::find(station, &scope.channel).await?;
    let spec = Spec::parse(channel.ecosystem, &scope.spec).map_err(|e| Error::usage(e.to_string()))?;
    let name = spec.exact_name().ok_or_else(|| {
        Error::usage("a ruling on a finding is about one package")
            .hint("name it without wildcards in --scope")
    })?;
    let (advisory, basis) = known_of(station, &channel, name, advisory).await?;
    let ruling = Ruling::Status { advisory, basis, justification, scope, status };
    decide(station, ruling, reason, expires).await
}

/// What is known now of one vulnerability of a package: the name under which it is one entry, and the basis.
async fn known_of(
    station: &Station,
    channel: &Channel,
    name: &str,
    advisory: &str,
) -> Result<(String, Basis)> {
    let db = &station.store.db;
    let (_, set) = crate::feeds::current(station).await?;
    let mapped = tree_edit::find_many(db, set.identities, [name]).await?;
    let ruled = judge::decisions(station).await?.1.identity(&channel.name, name, station.now().await?);
    let lookups = matching::lookups(channel.ecosystem, name, ruled.as_ref().or(mapped.get(name)));
    let found = tree_edit::find_many(db, set.slices, lookups.iter().map(|l| l.key.as_str())).await?;
    let mut slices: Vec<(Lookup, Slice)> = Vec::new();
    for lookup in lookups {
        if let Some(id) = found.get(lookup.key.as_str()) {
            slices.push((lookup, db.get(*id).await?));
        }
    }
    let slices: Vec<(Lookup, &Slice)> = slices.iter().map(|(l, s)| (l.clone(), s)).collect();
    let kev: Kev = db.get(set.kev).await?;
    let vulnerability = assess::vulnerability(&slices, advisory);
    let basis = vulnerability.and_then(|name| Some((name.to_owned(), Basis::of(name, &slices, &kev)?)));
    basis.ok_or_else(|| {
        Error::no(format!("nothing that is known here says that `{advisory}` concerns `{name}`")).hint(
            format!(
                "`airlock explain {} {name}` shows what does; \
             `airlock advisories show {advisory}` what is known of it",
                channel.name
            ),
        )
    })
}

/// Blocks what matches `spec`, on every server within moments: the block set takes it in before anything is
/// judged again, and whoever is judging at this moment has to start over.
pub async fn block(
    station: &Station,
    channel: &Channel,
    spec: &str,
    reason: &str,
) -> Result<(Decision, usize)> {
    let scope = Scope::of(&channel.name, spec);
    let decision = decide(station, Ruling::Block(scope), reason, None).await?;
    let why = format!("blocked: decision {} by {}: {}", decision.id, decision.author, decision.reason);
    let spec = Spec::parse(channel.ecosystem, spec).map_err(|e| Error::usage(e.to_string()))?;
    let blocked = add_to_block_set(station, channel, &spec, &why).await?;
    Ok((decision, blocked))
}

async fn add_to_block_set(station: &Station, channel: &Channel, spec: &Spec, why: &str) -> Result<usize> {
    let db = &station.store.db;
    for _ in 0..TRIES {
        let refs = db.refs(&ref_name(&channel.name, "")).await?;
        let at = |part: &str| refs.get(&ref_name(&channel.name, part)).copied();
        let Some(listed) = at("listed") else { return Ok(0) };
        let hits = listed_files(station, TreeId::new(listed), spec).await?;
        let name = ref_name(&channel.name, "blocks");
        let mut blocks = match at("blocks") {
            Some(id) => db.get::<BlockSet>(Id::new(id)).await?,
            None => BlockSet::default(),
        };
        for (key, file) in &hits {
            blocks.insert(key, file, why.to_owned());
        }
        let id = db.put(&blocks).await?;
        let change = RefChange { name, from: at("blocks"), to: Some(id.digest()) };
        // What is listed must not have grown meanwhile.
        let listed =
            RefChange { name: ref_name(&channel.name, "listed"), from: Some(listed), to: Some(listed) };
        let detail = serde_json::json!({"artifacts": hits.len()});
        let subject = format!("channel/{}", channel.name);
        match station.commit(vec![change, listed], "channel.block", &subject, &detail).await {
            Err(e) if e.is_race => {}
            other => return other.map(|()| hits.len()),
        }
    }
    Err(Error::fault("the block set keeps changing").hint("run it again"))
}

/// Every file that a kept snapshot lists and `spec` means: shard key and file name.
async fn listed_files(
    station: &Station,
    root: TreeId<Id<Shard>>,
    spec: &Spec,
) -> Result<Vec<(String, String)>> {
    let db = &station.store.db;
    let mut hits = Vec::new();
    let tree = trees::load::<Id<Shard>>(db, root).await?;
    for (key, id) in tree.iter().filter(|(key, _)| spec.matches_name(&ShardKey::parse(key).name)) {
        let shard = db.get(*id).await?;
        for (file, entry) in &shard.entries {
            let meant = |a: Artifact| !spec.can_tell(&a.version) || spec.matches_version(&a.version);
            if Artifact::read(&shard, file, entry).is_ok_and(meant) {
                hits.push((key.clone(), file.clone()));
            }
        }
    }
    Ok(hits)
}

/// All decisions.
pub async fn list(station: &Station) -> Result<Decisions> {
    Ok(judge::decisions(station).await?.1)
}
