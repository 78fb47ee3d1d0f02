//! One line for each package of a channel, computed once for each snapshot.
//!
//! Judgements are read whole the first time; after that, a new snapshot costs what changed. The lines are a
//! pure function of immutable objects, so that they can be kept under those objects' names.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError};

use airlock_core::id::{Digest, Id};
use airlock_core::identity::Coverage;
use airlock_core::object;
use airlock_core::severity::Tenths;
use airlock_core::shard::ShardKey;
use airlock_core::time::Time;
use airlock_core::verdict::{Judged, Judgement, Verdict, builtin};
use airlock_core::version::Order;
use airlock_engine::error::Result;
use airlock_engine::trees;
use airlock_engine::view::{ChannelView, View};
use serde::Serialize;
use tokio::sync::Mutex;

use crate::App;

/// Channels whose lines are kept.
const KEPT_MAX: usize = 16;
/// Names whose judgements are in memory at the same time while lines are computed.
const NAMES_AT_ONCE: usize = 500;
/// Reasons that a line names; the rest is counted.
const WHYS_MAX: usize = 3;

/// Why something is not offered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Why {
    /// The rules.
    pub rules: Vec<String>,
    /// The vulnerability it rests on.
    pub advisory: Option<String>,
    /// How bad that is.
    pub score: Option<Tenths>,
    /// The sending station's rule, not ours.
    pub by_sender: bool,
}

/// One package at a glance.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Row {
    /// The canonical name.
    pub name: String,
    /// The newest version that may be installed.
    pub newest: Option<String>,
    /// Artifacts offered.
    pub admitted: u64,
    /// Artifacts waiting for a person.
    pub held: u64,
    /// Artifacts not offered.
    pub denied: u64,
    /// Artifacts that the sending station left out.
    pub left_out: u64,
    /// How many vulnerabilities are known of what is offered.
    pub findings: usize,
    /// The highest score among them.
    pub highest: Option<Tenths>,
    /// How well advisories cover it.
    pub coverage: Coverage,
    /// The earliest date until which something is offered although rules hold it.
    pub review_by: Option<Time>,
    /// Why things are not offered, worst first.
    pub whys: Vec<Why>,
    /// How many more reasons there are.
    pub more_whys: usize,
    #[serde(skip)]
    sources: Sources,
    #[serde(skip)]
    is_blocked: bool,
}

impl Row {
    /// Artifacts that are not offered.
    pub(super) const fn withheld(&self) -> u64 {
        self.held + self.denied + self.left_out
    }

    /// The worst reason, as a number to sort by: what has no score comes after what has one.
    pub(super) fn worst(&self) -> (u64, Option<Tenths>) {
        let score = self.whys.iter().filter_map(|w| w.score).max();
        (self.denied.min(1), score)
    }
}

/// All packages of a channel by name.
pub(super) struct Index {
    /// One line each.
    pub rows: Vec<Arc<Row>>,
}

impl Index {
    /// Artifacts that the sending station left out.
    pub(super) fn left_out(&self) -> u64 {
        self.rows.iter().map(|row| row.left_out).sum()
    }
}

#[derive(Clone, PartialEq, Eq)]
struct Key {
    judgement: Digest,
    upstream: Digest,
    blocks: Digest,
}

/// The lines of one channel; whoever comes while they are computed waits for the same ones.
type Place = Arc<Mutex<Option<(Key, Arc<Index>)>>>;

/// The lines of channels that were asked for, the longest unused first.
#[derive(Default)]
pub(crate) struct Indexes {
    places: std::sync::Mutex<Vec<(String, Place)>>,
    is_warming: AtomicBool,
}

impl Indexes {
    fn place(&self, channel: &str) -> Place {
        let mut places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        let at = places.iter().position(|(name, _)| name == channel);
        let place = match at {
            Some(at) => places.remove(at),
            None => (channel.to_owned(), Place::default()),
        };
        if places.len() >= KEPT_MAX {
            places.remove(0);
        }
        let found = place.1.clone();
        places.push(place);
        found
    }
}

/// The lines of a channel.
pub(super) async fn index(app: &App, channel: &ChannelView) -> Result<Arc<Index>> {
    let key = Key {
        judgement: channel.newest.judgement.digest(),
        upstream: channel.newest.inputs.upstream.digest(),
        blocks: object::encode(&*channel.blocks)?.0.digest(),
    };
    let place = app.rows.place(&channel.channel.name);
    let mut kept = place.lock().await;
    if let Some((_, index)) = kept.as_ref().filter(|(k, _)| *k == key) {
        return Ok(index.clone());
    }
    let before = kept.as_ref().map(|(_, index)| index.clone());
    let index = Arc::new(build(&app.view, channel, before.as_deref()).await?);
    *kept = Some((key, index.clone()));
    Ok(index)
}

/// Computes the lines of every channel in the background, so that nobody waits for them after a start.
pub(super) fn warm(app: Arc<App>) {
    if app.rows.is_warming.swap(true, Ordering::AcqRel) {
        return;
    }
    tokio::spawn(async move {
        // Whoever asks for a channel that cannot be read is told why.
        for name in app.view.channel_names().await.unwrap_or_default() {
            if let Ok(Some(channel)) = app.view.channel(&name).await {
                let _told = index(&app, &channel).await;
            }
        }
        app.rows.is_warming.store(false, Ordering::Release);
    });
}

/// The judgements of one name: ours and the sender's.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Sources {
    ours: Vec<Id<Judgement>>,
    sent: Vec<Id<Judgement>>,
}

async fn build(view: &View, channel: &ChannelView, before: Option<&Index>) -> Result<Index> {
    let sources = sources(view, channel).await?;
    let blocked: HashSet<String> = channel.blocks.files.keys().map(|k| ShardKey::parse(k).name).collect();
    let old: BTreeMap<&str, &Arc<Row>> =
        before.iter().flat_map(|i| &i.rows).map(|r| (r.name.as_str(), r)).collect();
    let mut rows: BTreeMap<&str, Arc<Row>> = BTreeMap::new();
    let mut fresh: Vec<(&String, &Sources)> = Vec::new();
    for (name, ids) in &sources {
        let same = old
            .get(name.as_str())
            .filter(|row| !row.is_blocked && !blocked.contains(name) && row.sources == *ids);
        match same {
            Some(row) => drop(rows.insert(name, Arc::clone(row))),
            None => fresh.push((name, ids)),
        }
    }
    for chunk in fresh.chunks(NAMES_AT_ONCE) {
        let ids: Vec<Id<Judgement>> =
            chunk.iter().flat_map(|(_, s)| s.ours.iter().chain(&s.sent).copied()).collect();
        let read = trees::objects(&view.station().store.db, &ids).await?;
        for (name, ids) in chunk {
            let of = |ids: &[Id<Judgement>]| {
                ids.iter().filter_map(|id| read.get(&id.digest())).collect::<Vec<_>>()
            };
            let mut row = row(channel, name, &of(&ids.ours), &of(&ids.sent));
            row.sources = (*ids).clone();
            row.is_blocked = blocked.contains(*name);
            rows.insert(name, Arc::new(row));
        }
    }
    Ok(Index { rows: rows.into_values().collect() })
}

async fn sources(view: &View, channel: &ChannelView) -> Result<BTreeMap<String, Sources>> {
    let db = &view.station().store.db;
    let mut out: BTreeMap<String, Sources> = BTreeMap::new();
    for (key, id) in trees::load(db, channel.newest.judgement).await? {
        out.entry(ShardKey::parse(&key).name).or_default().ours.push(id);
    }
    let upstream = view.object(channel.newest.inputs.upstream).await?;
    if let Some(origin) = upstream.origin {
        let origin = view.object(origin).await?;
        for (key, id) in trees::load(db, origin.judgement).await? {
            out.entry(ShardKey::parse(&key).name).or_default().sent.push(id);
        }
    }
    Ok(out)
}

fn row(channel: &ChannelView, name: &str, ours: &[&Judgement], sent: &[&Judgement]) -> Row {
    let mut row = Row {
        name: name.to_owned(),
        newest: None,
        admitted: 0,
        held: 0,
        denied: 0,
        left_out: 0,
        findings: 0,
        highest: None,
        coverage: ours.iter().chain(sent).map(|j| j.coverage).max().unwrap_or(Coverage::Unknown),
        review_by: None,
        whys: Vec::new(),
        more_whys: 0,
        sources: Sources::default(),
        is_blocked: false,
    };
    let mut offered: Vec<String> = Vec::new();
    let mut known: BTreeSet<String> = BTreeSet::new();
    for judgement in ours {
        let key = ShardKey { subdir: judgement.subdir.clone(), name: judgement.name.clone() }.to_string();
        for (file, judged) in judgement.artifacts.iter().filter(|(_, j)| !j.gone) {
            if channel.blocks.reason(&key, file).is_some() {
                row.denied += 1;
                row.because(judgement, judged, false);
                continue;
            }
            match judged.verdict {
                Verdict::Admit => {
                    row.admitted += 1;
                    offered.push(judged.version.clone());
                    row.review_by = [row.review_by, judged.review_by].into_iter().flatten().min();
                    let open = judgement.findings_of(judged);
                    for finding in open.iter().filter(|finding| finding.status.is_open()) {
                        known.insert(finding.advisory.clone());
                        row.highest = row.highest.max(finding.score.as_ref().map(|s| s.score));
                    }
                    continue;
                }
                Verdict::Hold => row.held += 1,
                Verdict::Deny => row.denied += 1,
            }
            row.because(judgement, judged, false);
        }
    }
    // What the source lists no longer is told by whoever left it out.
    let here: HashSet<(&Option<String>, &String)> = ours
        .iter()
        .flat_map(|j| j.artifacts.iter().filter(|(_, judged)| !judged.gone).map(move |(f, _)| (&j.subdir, f)))
        .collect();
    for judgement in sent {
        for (file, judged) in judgement.artifacts.iter().filter(|(_, j)| !j.gone && !j.is_offered()) {
            if !here.contains(&(&judgement.subdir, file)) {
                row.left_out += 1;
                row.because(judgement, judged, true);
            }
        }
    }
    row.findings = known.len();
    Order::of(channel.channel.ecosystem).sort(&mut offered);
    row.newest = offered.pop();
    row.whys.sort_by_key(|why| Reverse(why.score));
    row.more_whys = row.whys.len().saturating_sub(WHYS_MAX);
    row.whys.truncate(WHYS_MAX);
    row
}

impl Row {
    /// Notes why one artifact is not offered. Sorting and cutting come at the end.
    fn because(&mut self, judgement: &Judgement, judged: &Judged, by_sender: bool) {
        if judged.verdict == Verdict::Admit {
            // A block acts before the next judgement says so.
            return self.add(builtin::BLOCKED, None, None, by_sender);
        }
        // A rule of which nobody knows whether it applies is named only where no other one is.
        let (known, unknown): (Vec<_>, Vec<_>) = judged.deciding().partition(|hit| !hit.unknown);
        let named: Vec<Option<&String>> = known.iter().map(|hit| hit.advisory.as_ref()).collect();
        let rest = unknown.into_iter().filter(|hit| !named.contains(&hit.advisory.as_ref()));
        let findings = judgement.findings_of(judged);
        for hit in known.iter().copied().chain(rest) {
            let called = |id: &String| findings.iter().find(|f| f.is_called(id));
            let score =
                hit.advisory.as_ref().and_then(called).and_then(|f| f.score.as_ref()).map(|s| s.score);
            self.add(&hit.rule, hit.advisory.as_ref(), score, by_sender);
        }
    }

    fn add(&mut self, rule: &str, advisory: Option<&String>, score: Option<Tenths>, by_sender: bool) {
        let same = |why: &&mut Why| why.advisory.as_ref() == advisory && why.by_sender == by_sender;
        let held = self.whys.iter_mut().filter(|_| advisory.is_some()).find(same);
        let rule = rule.to_owned();
        match held {
            Some(why) if why.rules.contains(&rule) => {}
            Some(why) => why.rules.push(rule),
            None => {
                let why = Why { rules: vec![rule], advisory: advisory.cloned(), score, by_sender };
                if !self.whys.contains(&why) {
                    self.whys.push(why);
                }
            }
        }
    }
}
