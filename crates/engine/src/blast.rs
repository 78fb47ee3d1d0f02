//! The blast radius: what is denied now, who was sent it before, and which lock files on record hold it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::Serialize;

use airlock_core::ecosystem::{Ecosystem, file_name_parts};
use airlock_core::id::Digest;
use airlock_core::lock::{HeldBy, Wanted};
use airlock_core::policy::Action;
use airlock_core::record::Artifact;
use airlock_core::roles;
use airlock_core::shard::{Shard, ShardKey};
use airlock_core::snapshot::Snapshot;
use airlock_core::spec::Spec;
use airlock_core::time::Time;
use airlock_core::verdict::{RuleHit, Verdict};
use airlock_store::{Download, Wanted as Rows};

use crate::boxed;
use crate::downloads::{self, ROWS_SHOWN_MAX};
use crate::error::{Error, Kind, Result};
use crate::explain::{self, Explained};
use crate::people;
use crate::view::{ChannelView, View};
use crate::{feeds, locks};

/// Snapshots that are looked through for when something came to be denied.
const SNAPSHOTS_MAX: usize = 1000;

/// What is asked about.
#[derive(Clone, Debug)]
pub enum Asked {
    /// Whatever is denied now.
    Denied,
    /// What matches.
    Spec(Spec),
    /// What a vulnerability concerns, by any of these ids of it.
    Advisory(BTreeSet<String>),
}

impl Asked {
    /// What a person typed: the id of a vulnerability that some feed knows, else a spec; nothing for what is denied.
    pub async fn read(view: &View, ecosystem: Ecosystem, text: Option<&str>) -> Result<Self> {
        let Some(text) = text else { return Ok(Self::Denied) };
        match feeds::show(view.station(), text).await {
            Ok(records) => {
                let mut ids: BTreeSet<String> = records.iter().map(|(_, r)| r.advisory.id.clone()).collect();
                ids.extend(records.iter().filter_map(|(_, r)| r.advisory.cve().map(str::to_owned)));
                return Ok(Self::Advisory(ids));
            }
            Err(e) if e.kind == Kind::No => {}
            Err(e) => return Err(e),
        }
        Spec::parse(ecosystem, text).map(Self::Spec).map_err(|e| Error::usage(e.to_string()))
    }
}

/// How far it reached.
#[derive(Clone, Debug, Serialize)]
pub struct Blast {
    /// The channel.
    pub channel: String,
    /// The artifacts that are concerned, and were sent to somebody, are in a lock file, or are denied.
    pub artifacts: Vec<Reached>,
    /// Lock files that were looked through.
    pub locks: usize,
    /// Downloads of any channel that could not be noted.
    pub lost: u64,
    /// Since when downloads are kept.
    pub kept_since: Time,
}

/// One artifact, and whom it reached.
#[derive(Clone, Debug, Serialize, Default)]
pub struct Reached {
    /// Where it lies: subdir and file for conda, file for PyPI.
    pub artifact: String,
    /// The package.
    pub name: String,
    /// Its version.
    pub version: String,
    /// `admitted`, `held` or `denied`; `gone` if the channel knows it no more.
    pub verdict: &'static str,
    /// The rules that deny it.
    pub rules: Vec<RuleHit>,
    /// Why it is denied, in a line.
    pub why: Option<String>,
    /// Since when it is denied; null where it is not, or came to be so after the last judgement.
    pub denied_since: Option<Since>,
    /// The nearest version that passes.
    pub nearest: Option<String>,
    /// How often it was sent.
    pub times: u64,
    /// When first.
    pub first: Option<Time>,
    /// When last.
    pub last: Option<Time>,
    /// To whom.
    pub clients: Vec<Recipient>,
    /// Whether there are more than are listed.
    pub more: bool,
    /// The lock files on record that hold it.
    pub locks: Vec<InLock>,
}

/// Since when something is denied, as far as snapshots are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Since {
    /// The first judgement that denied it.
    pub time: Time,
    /// Whether the one before did not; else it may have been denied for longer.
    pub exact: bool,
}

/// Who was sent it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Recipient {
    /// The address or pseudonym; null for those of whom too many came on a day.
    pub client: Option<String>,
    /// The account.
    pub account: Option<String>,
    /// The kind of program.
    pub agent: String,
    /// The channel from which the same bytes came.
    pub channel: String,
    /// How often.
    pub times: u64,
    /// When first.
    pub first: Time,
    /// When last.
    pub last: Time,
}

/// A lock file that holds it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct InLock {
    /// Its name.
    pub name: String,
    /// By what: its bytes, its file name, or its version alone.
    pub by: HeldBy,
}

/// Says how far it reached. That somebody looked is an entry of the ledger.
#[boxed]
pub async fn blast(view: &View, channel: &ChannelView, asked: &Asked) -> Result<Blast> {
    people::allow(view.station(), roles::Action::Ledger, None).await?;
    let station = view.station();
    let db = &station.store.db;
    let now = station.now().await?;
    let keep = station.config.downloads.keep.as_seconds();
    let kept_since = Time::from_seconds(now.seconds().saturating_sub(keep));
    let mut looking = Looking {
        view,
        channel,
        since: downloads::day(kept_since),
        sent: db.downloaded(&channel.channel.name).await?,
        history: None,
    };
    let mut found = Vec::new();
    for explained in looking.concerned(asked).await? {
        found.extend(looking.known(explained, asked).await?);
    }
    if let Asked::Spec(spec) = asked {
        found.extend(looking.forgotten(spec, &found).await?);
    }
    let locks = looking.hold(&mut found).await?;
    let mut artifacts = Vec::new();
    for one in found {
        artifacts.extend(looking.reached(one, asked).await?);
    }
    downloads::looked(station, &channel.channel.name).await?;
    Ok(Blast {
        channel: channel.channel.name.clone(),
        artifacts,
        locks,
        lost: db.downloads_lost(looking.since).await?,
        kept_since,
    })
}

/// One artifact that is asked about, and what its bytes are or were known to be.
struct Found {
    reached: Reached,
    bytes: BTreeSet<Digest>,
}

impl Found {
    fn key(&self) -> ShardKey {
        let (subdir, _) = split(&self.reached.artifact);
        ShardKey { subdir: subdir.map(str::to_owned), name: self.reached.name.clone() }
    }
}

struct Looking<'a> {
    view: &'a View,
    channel: &'a ChannelView,
    /// The first day whose downloads are kept.
    since: i64,
    /// What was sent of the channel, with its bytes.
    sent: BTreeMap<String, BTreeSet<Digest>>,
    /// The snapshots that are kept, newest first, once they are asked for.
    history: Option<Vec<(Arc<Snapshot>, Time)>>,
}

impl Looking<'_> {
    fn ecosystem(&self) -> Ecosystem {
        self.channel.channel.ecosystem
    }

    /// Everything that is asked about.
    async fn concerned(&self, asked: &Asked) -> Result<Vec<Explained>> {
        let names = match asked {
            Asked::Spec(spec) => {
                return match explain::explain(self.view, self.channel, spec).await {
                    Ok(explanation) => Ok(explanation.artifacts),
                    // What is forgotten may have been sent all the same.
                    Err(e) if e.kind == Kind::No && self.has_sent(spec) => Ok(Vec::new()),
                    Err(e) => Err(e),
                };
            }
            Asked::Denied => self.relied_on().await?,
            Asked::Advisory(ids) => {
                let mut names = BTreeSet::new();
                for judgement in explain::known(self.view, self.channel).await? {
                    let is_called =
                        |f: &airlock_core::matching::Finding| ids.iter().any(|id| f.is_called(id));
                    if judgement.findings.values().flatten().any(is_called) {
                        names.insert(judgement.name);
                    }
                }
                names
            }
        };
        let mut out = Vec::new();
        for name in names {
            let Ok(spec) = Spec::parse(self.ecosystem(), &name) else { continue };
            match explain::explain(self.view, self.channel, &spec).await {
                Ok(explanation) => out.extend(explanation.artifacts),
                Err(e) if e.kind == Kind::No => {}
                Err(e) => return Err(e),
            }
        }
        if let Asked::Advisory(ids) = asked {
            let is_called =
                |id: &String, f: &explain::FindingView| f.advisory == *id || f.aliases.contains(id);
            out.retain(|one| one.findings.iter().any(|f| ids.iter().any(|id| is_called(id, f))));
        }
        Ok(out)
    }

    /// The names of what was sent or is in a lock file.
    async fn relied_on(&self) -> Result<BTreeSet<String>> {
        let sent = self.sent.keys().filter_map(|artifact| self.parts(artifact)).map(|(name, _)| name);
        let mut names: BTreeSet<String> = sent.collect();
        locks::each(self.view.station(), |lock| {
            let packages = lock.contents.packages.iter().filter(|p| p.ecosystem == self.ecosystem());
            names.extend(packages.map(|package| package.name.clone()));
        })
        .await?;
        Ok(names)
    }

    fn parts(&self, artifact: &str) -> Option<(String, String)> {
        file_name_parts(self.ecosystem(), artifact.rsplit('/').next()?)
    }

    fn has_sent(&self, spec: &Spec) -> bool {
        self.sent.keys().any(|artifact| self.fits(spec, artifact))
    }

    fn fits(&self, spec: &Spec, artifact: &str) -> bool {
        self.parts(artifact)
            .is_some_and(|(name, version)| spec.matches_name(&name) && spec.matches_version(&version))
    }

    /// Who was sent an artifact; none if it is not asked about.
    async fn known(&self, explained: Explained, asked: &Asked) -> Result<Option<Found>> {
        if matches!(asked, Asked::Denied) && explained.verdict != Verdict::Deny.word() {
            return Ok(None);
        }
        let (subdir, file) = split(&explained.artifact);
        let key = ShardKey { subdir: subdir.map(str::to_owned), name: explained.name.clone() };
        let bytes = self.bytes(&key, file, &explained.artifact).await?;
        let reached = Reached {
            artifact: explained.artifact,
            name: explained.name,
            version: explained.version,
            verdict: explained.verdict,
            rules: explained
                .rules
                .into_iter()
                .filter(|hit| hit.action == Action::Deny && hit.waived_by.is_none())
                .collect(),
            nearest: explained.nearest,
            ..Reached::default()
        };
        let mut found = Found { reached, bytes };
        self.find(&mut found).await?;
        Ok(Some(found))
    }

    /// Whom one artifact reached; none if there is nothing to say.
    async fn reached(&mut self, found: Found, asked: &Asked) -> Result<Option<Reached>> {
        let key = found.key().to_string();
        let mut reached = found.reached;
        let is_denied = reached.verdict == Verdict::Deny.word();
        let was_relied_on = reached.times > 0 || !reached.locks.is_empty();
        if !(was_relied_on || is_denied && !matches!(asked, Asked::Denied)) {
            return Ok(None);
        }
        if is_denied {
            let (_, file) = split(&reached.artifact);
            let blocked = self.channel.blocks.reason(&key, file).map(str::to_owned);
            reached.why = blocked.or_else(|| reached.rules.first().map(why));
            reached.denied_since = self.denied_since(&key, file).await?;
        }
        Ok(Some(reached))
    }

    /// What was sent and matches, and is no longer known to the channel.
    async fn forgotten(&self, spec: &Spec, known: &[Found]) -> Result<Vec<Found>> {
        let mut out = Vec::new();
        for (artifact, bytes) in &self.sent {
            if known.iter().any(|one| one.reached.artifact == *artifact) || !self.fits(spec, artifact) {
                continue;
            }
            let Some((name, version)) = self.parts(artifact) else { continue };
            let reached =
                Reached { artifact: artifact.clone(), name, version, verdict: "gone", ..Reached::default() };
            let mut found = Found { reached, bytes: bytes.clone() };
            self.find(&mut found).await?;
            out.extend(Some(found).filter(|one| one.reached.times > 0));
        }
        Ok(out)
    }

    /// Everything that the bytes of an artifact are or were known to be.
    async fn bytes(&self, key: &ShardKey, file: &str, artifact: &str) -> Result<BTreeSet<Digest>> {
        let mut out = self.sent.get(artifact).cloned().unwrap_or_default();
        let place = key.to_string();
        let inputs = &self.channel.newest.inputs;
        let upstream = self.view.object(inputs.upstream).await?.tree;
        for tree in [upstream, inputs.listed] {
            let Some(id) = self.view.look_up(tree, &place).await? else { continue };
            let shard: Arc<Shard> = self.view.object(id).await?;
            let entry = shard.entries.get(file);
            out.extend(entry.and_then(|e| Artifact::read(&shard, file, e).ok()).and_then(|a| a.sha256));
        }
        let facts = self.view.facts(self.channel, &place).await?;
        out.extend(facts.and_then(|facts| Some(facts.files.get(file)?.file.as_ref()?.sha256)));
        Ok(out)
    }

    /// Fills in who was sent it.
    async fn find(&self, Found { reached, bytes }: &mut Found) -> Result<()> {
        let db = &self.view.station().store.db;
        let own = Rows::Artifact(&self.channel.channel.name, &reached.artifact);
        let mut rows = db.downloads(own, self.since, ROWS_SHOWN_MAX).await?;
        for sha256 in bytes.iter() {
            let same = db.downloads(Rows::Bytes(*sha256), self.since, ROWS_SHOWN_MAX).await?;
            let elsewhere =
                |row: &Download| row.channel != self.channel.channel.name || row.artifact != reached.artifact;
            rows.extend(same.into_iter().filter(elsewhere));
        }
        reached.more = rows.len() >= ROWS_SHOWN_MAX as usize;
        reached.times = rows.iter().map(|row| row.times).sum();
        reached.first = rows.iter().map(|row| row.first).min();
        reached.last = rows.iter().map(|row| row.last).max();
        reached.clients = recipients(rows);
        Ok(())
    }

    /// Fills in which lock files hold what was found. Gives how many were looked through.
    async fn hold(&self, found: &mut [Found]) -> Result<usize> {
        locks::each(self.view.station(), |lock| {
            for Found { reached, bytes } in found.iter_mut() {
                let (subdir, file) = split(&reached.artifact);
                let wanted = Wanted {
                    ecosystem: self.ecosystem(),
                    name: &reached.name,
                    version: &reached.version,
                    subdir,
                    file,
                    sha256: bytes,
                };
                let held = lock.contents.holds(wanted).map(|by| InLock { name: lock.name.clone(), by });
                reached.locks.extend(held);
            }
        })
        .await
    }

    /// Since when the judgements of kept snapshots deny a file, without a break until now.
    async fn denied_since(&mut self, key: &str, file: &str) -> Result<Option<Since>> {
        let history = match self.history.take() {
            Some(history) => history,
            None => self.read_history().await?,
        };
        let mut since: Option<Since> = None;
        for (snapshot, time) in &history {
            let judgement = match self.view.look_up(snapshot.judgement, key).await? {
                Some(id) => Some(self.view.object(id).await?),
                None => None,
            };
            let judged = judgement.as_ref().and_then(|j| j.artifacts.get(file));
            if judged.is_none_or(|judged| judged.verdict != Verdict::Deny) {
                since = since.map(|since| Since { exact: true, ..since });
                break;
            }
            since = Some(Since { time: *time, exact: false });
        }
        self.history = Some(history);
        Ok(since)
    }

    async fn read_history(&self) -> Result<Vec<(Arc<Snapshot>, Time)>> {
        let mut out = Vec::new();
        for (id, time) in self.view.history(self.channel).await?.into_iter().take(SNAPSHOTS_MAX) {
            out.push((self.view.object(id).await?, time));
        }
        Ok(out)
    }
}

/// Subdir and file of an artifact.
fn split(artifact: &str) -> (Option<&str>, &str) {
    artifact.split_once('/').map_or((None, artifact), |(subdir, file)| (Some(subdir), file))
}

fn why(hit: &RuleHit) -> String {
    match hit.advisory.as_ref().or(hit.detail.as_ref()) {
        Some(because) => format!("{}: {because}", hit.rule),
        None => hit.rule.clone(),
    }
}

/// Adds up the days of each, the first first.
fn recipients(rows: Vec<Download>) -> Vec<Recipient> {
    let mut by: BTreeMap<(String, String, String, String), Recipient> = BTreeMap::new();
    for row in rows {
        let some = |text: &String| Some(text.clone()).filter(|t| !t.is_empty());
        let key = (row.client.clone(), row.account.clone(), row.agent.clone(), row.channel.clone());
        let one = by.entry(key).or_insert_with(|| Recipient {
            client: some(&row.client),
            account: some(&row.account),
            agent: row.agent.clone(),
            channel: row.channel.clone(),
            times: 0,
            first: row.first,
            last: row.last,
        });
        one.times += row.times;
        (one.first, one.last) = (one.first.min(row.first), one.last.max(row.last));
    }
    let mut out: Vec<Recipient> = by.into_values().collect();
    out.sort_by_key(|one| one.first);
    out
}
