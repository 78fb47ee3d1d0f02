//! Why an artifact is offered or not: one answer for command line, API and pages.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use serde::Serialize;

use airlock_core::advisory::Epss;
use airlock_core::assess::{self, Assessed};
use airlock_core::channel::ChannelFeed;
use airlock_core::ecosystem::Ecosystem;
use airlock_core::explain::Offered;
use airlock_core::id::{Digest, Id};
use airlock_core::identity::Coverage;
use airlock_core::judge;
use airlock_core::matching::{Evidence, Finding, Status};
use airlock_core::object;
use airlock_core::policy::Action;
use airlock_core::severity::{Score, Tenths};
use airlock_core::shard::ShardKey;
use airlock_core::snapshot::{Counts, Snapshot, Upstream};
use airlock_core::spec::Spec;
use airlock_core::time::Time;
use airlock_core::verdict::{Judged, Judgement, RuleHit, Verdict, builtin};
use airlock_core::version::Order;

use crate::boxed;
use crate::channel::ref_name;
use crate::error::{Error, Result};
use crate::publish::Subdirs;
use crate::view::{ChannelView, View};
use crate::{feeds, tree_edit, trees};

/// One artifact and why it is offered or not.
#[derive(Clone, Debug, Serialize)]
pub struct Explained {
    /// Where it lies: subdir and file for conda, file for PyPI.
    pub artifact: String,
    /// The package.
    pub name: String,
    /// Its version.
    pub version: String,
    /// `admitted`, `held` or `denied`.
    pub verdict: &'static str,
    /// Every rule that had a say.
    pub rules: Vec<RuleHit>,
    /// What is known against it.
    pub findings: Vec<FindingView>,
    /// How well advisories cover the package.
    pub coverage: Coverage,
    /// If it is not offered, the nearest version that is.
    pub nearest: Option<String>,
    /// The source lists it no longer; a kept snapshot does.
    pub gone: bool,
    /// It was held back where the channel comes from, by the rules there: by the station that sent the bundle, or by the
    /// parent.
    pub by_sender: bool,
    /// Who that is, in words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub left_out_by: Option<String>,
    /// It is offered until then, although rules hold it.
    pub review_by: Option<Time>,
    /// It is offered until then, although rules deny it that have a grace: those here, or a parent's.
    pub denied_from: Option<Time>,
    /// Why, in a sentence.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub denied_for: Option<String>,
    /// The first moment at which time alone would change the verdict.
    pub flips_at: Option<Time>,
}

/// A package of a channel, with everything that was judged of it.
#[derive(Clone, Debug, Serialize)]
pub struct Explanation {
    /// The channel.
    pub channel: String,
    /// The artifacts, newest version first.
    pub artifacts: Vec<Explained>,
}

/// Explains everything in a channel that matches `spec`.
pub async fn explain(view: &View, channel: &ChannelView, spec: &Spec) -> Result<Explanation> {
    let by_name = match spec.exact_name() {
        Some(name) => [(name.to_owned(), package(view, channel, name).await?)].into(),
        None => judgements(view, channel, |name| spec.matches_name(name)).await?,
    };
    let epss = epss(view, channel).await?;
    let mut artifacts = Vec::new();
    for judged in by_name.values() {
        artifacts.extend(
            judged.explained(channel, &epss).into_iter().filter(|a| spec.matches_version(&a.version)),
        );
    }
    if artifacts.is_empty() {
        return Err(Error::no(format!(
            "channel `{}` knows nothing that matches `{}`",
            channel.channel.name,
            spec.as_str()
        ))
        .hint("the source has no such package, or the channel's --only and --exclude leave it out"));
    }
    Ok(Explanation { channel: channel.channel.name.clone(), artifacts })
}

/// What EPSS said when a channel was judged.
pub async fn epss(view: &View, channel: &ChannelView) -> Result<Arc<Epss>> {
    let set = view.object(channel.newest.inputs.advisories).await?;
    view.object(set.epss).await
}

/// All judgements of one package: of each subdir, and of the sending station.
#[derive(Clone, Debug, Default)]
pub struct Package {
    /// Ours.
    pub ours: Vec<Arc<Judgement>>,
    /// The sender's.
    pub sent: Vec<Arc<Judgement>>,
}

/// The judgements of all packages whose name is wanted, by name.
pub async fn judgements(
    view: &View,
    channel: &ChannelView,
    wanted: impl Fn(&str) -> bool,
) -> Result<BTreeMap<String, Package>> {
    let db = &view.station().store.db;
    let mut out: BTreeMap<String, Package> = BTreeMap::new();
    for (key, id) in trees::load(db, channel.newest.judgement).await? {
        let name = ShardKey::parse(&key).name;
        if wanted(&name) {
            out.entry(name).or_default().ours.push(view.object(id).await?);
        }
    }
    for origin in view.origins(channel).await? {
        for (key, id) in trees::load(db, origin.judgement).await? {
            let name = ShardKey::parse(&key).name;
            if wanted(&name) {
                out.entry(name).or_default().sent.push(view.object(id).await?);
            }
        }
    }
    Ok(out)
}

/// Where a name may stand in the channel's trees.
pub async fn keys(
    view: &View,
    channel: &ChannelView,
    upstream: &Upstream,
    name: &str,
) -> Result<Vec<ShardKey>> {
    let key = |subdir: Option<String>| ShardKey { subdir, name: name.to_owned() };
    match channel.channel.ecosystem {
        Ecosystem::Pypi => Ok(vec![key(None)]),
        Ecosystem::Conda => {
            let mut subdirs: BTreeSet<String> = channel.newest.subdirs.keys().cloned().collect();
            subdirs.extend(upstream.subdirs.keys().cloned());
            // Kept snapshots may list it where the source has nothing any more.
            let db = &view.station().store.db;
            if let Some(id) = db.find_ref(&ref_name(&channel.channel.name, "subdirs")).await? {
                subdirs.extend(view.object(Id::<Subdirs>::new(id)).await?.subdirs.iter().cloned());
            }
            if let ChannelFeed::Source { subdirs: asked, .. } = &channel.channel.feed {
                subdirs.extend(asked.iter().cloned());
            }
            if let Some(origin) = upstream.origin {
                let origin: Arc<Snapshot> = view.object(origin).await?;
                subdirs.extend(origin.subdirs.keys().cloned());
            }
            Ok(subdirs.into_iter().map(|subdir| key(Some(subdir))).collect())
        }
    }
}

/// The judgements of one package; `name` is canonical.
#[boxed]
pub(crate) async fn package(view: &View, channel: &ChannelView, name: &str) -> Result<Package> {
    let upstream = view.object(channel.newest.inputs.upstream).await?;
    let mut out = Package::default();
    for key in keys(view, channel, &upstream, name).await? {
        let place = key.to_string();
        out.sent.extend(view.sent_judgements(channel, &place).await?);
        out.ours.extend(view.judgement(channel, &place).await?);
    }
    Ok(out)
}

impl Package {
    /// Every artifact with its explanation, newest version first. What the sender offered is judged here; what
    /// it left out is explained by its own judgement.
    pub fn explained(&self, channel: &ChannelView, epss: &Epss) -> Vec<Explained> {
        let unblocked: Vec<Judgement> = self.ours.iter().map(|j| channel.unblocked(j)).collect();
        let offered = Offered::of(channel.channel.ecosystem, &unblocked);
        let mut out = Vec::new();
        let mut told = BTreeSet::new();
        // What the source lists today is ours to judge; what it lists no longer is told by whoever left it out,
        // and by nobody else than us if nobody did.
        let current = self.ours.iter().map(|j| (j, false, false));
        let sent = self.sent.iter().map(|j| (j, true, false));
        let gone = self.ours.iter().map(|j| (j, false, true));
        for (judgement, by_sender, wants_gone) in current.chain(sent).chain(gone) {
            for (file, judged) in &judgement.artifacts {
                let left_out = !by_sender || !judged.is_offered();
                if judged.gone == wants_gone && left_out && told.insert((&judgement.subdir, file)) {
                    let explained = one(channel, &offered, judgement, (file, judged), by_sender);
                    out.push(Explained { findings: FindingView::all(judgement, judged, epss), ..explained });
                }
            }
        }
        let mut versions: Vec<String> = out.iter().map(|e: &Explained| e.version.clone()).collect();
        Order::of(channel.channel.ecosystem).sort(&mut versions);
        versions.dedup();
        let place: BTreeMap<&String, usize> = versions.iter().enumerate().map(|(i, v)| (v, i)).collect();
        out.sort_by(|a, b| {
            place.get(&b.version).cmp(&place.get(&a.version)).then_with(|| a.artifact.cmp(&b.artifact))
        });
        out
    }
}

/// That something is denied still of which whoever it came from says something milder by now, and which it offers no more.
fn at_origin(reason: &str) -> RuleHit {
    let detail = reason.strip_prefix(builtin::DENIED_AT_ORIGIN).and_then(|rest| rest.strip_prefix(": "));
    RuleHit {
        rule: detail.map_or(builtin::BLOCKED, |_| builtin::DENIED_AT_ORIGIN).to_owned(),
        action: Action::Deny,
        unknown: false,
        unopened: false,
        advisory: None,
        detail: Some(detail.unwrap_or(reason).to_owned()),
        waived_by: None,
    }
}

/// One artifact with its explanation.
fn one(
    channel: &ChannelView,
    offered: &Offered,
    judgement: &Judgement,
    (file, judged): (&str, &Judged),
    by_sender: bool,
) -> Explained {
    let key = ShardKey { subdir: judgement.subdir.clone(), name: judgement.name.clone() }.to_string();
    let blocked = channel.blocks.reason(&key, file);
    let verdict = if blocked.is_some() { Verdict::Deny } else { judged.verdict };
    // What a parent lets leave, none of the child's own rules may tell of.
    let parents = channel.blocks.leaves(&key, file).filter(|_| judged.is_offered()).cloned();
    let leaves = [judge::leaving(judged), parents].into_iter().flatten().min_by_key(|leaving| leaving.from);
    let leaves = leaves.filter(|_| verdict == Verdict::Admit);
    let denied = blocked.filter(|_| by_sender && judged.verdict != Verdict::Deny).map(at_origin);
    Explained {
        artifact: judgement.subdir.as_ref().map_or_else(|| file.to_owned(), |s| format!("{s}/{file}")),
        name: judgement.name.clone(),
        version: judged.version.clone(),
        verdict: verdict.word(),
        rules: denied.into_iter().chain(judged.rules.iter().cloned()).collect(),
        findings: Vec::new(),
        coverage: judgement.coverage,
        nearest: if verdict == Verdict::Admit && !judged.gone {
            None
        } else {
            offered.nearest(channel.channel.ecosystem, &judged.version).map(str::to_owned)
        },
        gone: judged.gone,
        by_sender,
        left_out_by: by_sender.then(|| match channel.channel.parent() {
            Some(parent) => format!("channel {parent}"),
            None => "the sending station".to_owned(),
        }),
        review_by: judged.review_by,
        denied_from: leaves.as_ref().map(|leaves| leaves.from),
        denied_for: leaves.map(|leaves| leaves.reason),
        flips_at: judged.flips_at,
    }
}

/// A finding in the form that scripts rely on.
#[derive(Clone, Debug, Serialize)]
pub struct FindingView {
    /// The vulnerability: its CVE where there is exactly one, else an advisory's id.
    pub advisory: String,
    /// Every other id.
    pub aliases: BTreeSet<String>,
    /// The highest score of any source; null is *no score*, never zero.
    pub score: Option<Tenths>,
    /// The vector behind that score.
    pub vector: Option<String>,
    /// Who gave it.
    pub score_source: Option<String>,
    /// Why it is the one that counts, where there is one.
    pub score_choice: Option<String>,
    /// The state.
    pub status: Status,
    /// Who ruled so, why, and whether that counts; none where nobody looked at it.
    pub assessed: Option<Assessed>,
    /// Whether it is open if it concerns this version at all.
    pub undecided: bool,
    /// Known to be exploited.
    pub kev: bool,
    /// The probability of exploitation.
    pub epss: Option<f64>,
    /// Which model saw it so; what two models say does not compare.
    pub epss_model: Option<String>,
    /// On which day.
    pub epss_date: Option<Time>,
    /// Reports malware.
    pub malicious: bool,
    /// One line.
    pub summary: String,
    /// From which versions on it is fixed.
    pub fixed: BTreeSet<String>,
    /// Why it matches.
    pub evidence: EvidenceView,
}

/// The evidence of a finding.
#[derive(Clone, Debug, Serialize)]
pub struct EvidenceView {
    /// One for each record that matches.
    pub records: Vec<Evidence>,
    /// Every score of every source.
    pub scores: Vec<Score>,
}

impl FindingView {
    /// What is known against an artifact, in this form.
    fn all(judgement: &Judgement, judged: &Judged, epss: &Epss) -> Vec<Self> {
        let findings = judgement.findings_of(judged);
        findings.iter().map(|f| Self::of(f, judged.assessed.get(&f.advisory), epss)).collect()
    }

    fn of(finding: &Finding, assessed: Option<&Assessed>, epss: &Epss) -> Self {
        let score = finding.score.as_ref();
        let probability = finding.probability(epss);
        Self {
            advisory: finding.advisory.clone(),
            aliases: finding.aliases.clone(),
            score: score.map(|s| s.score),
            vector: score.map(|s| s.vector.clone()),
            score_source: score.map(|s| s.source.clone()),
            score_choice: score.map(|_| choice(finding)),
            status: finding.status,
            assessed: assessed.cloned(),
            undecided: finding.undecided,
            kev: finding.kev,
            epss: probability,
            epss_model: probability.map(|_| epss.model.clone()),
            epss_date: probability.and(epss.date),
            malicious: finding.malicious,
            summary: finding.summary.clone(),
            fixed: finding.fixed.clone(),
            evidence: EvidenceView { records: finding.evidence.clone(), scores: finding.scores.clone() },
        }
    }
}

/// Why a score is the one that counts.
fn choice(finding: &Finding) -> String {
    match (&finding.preferred, finding.scores.len()) {
        (Some(preferred), _) => format!("the policy prefers `{preferred}`"),
        (None, 0 | 1) => "the only one".to_owned(),
        (None, n) => format!("the highest of {n}"),
    }
}

/// A finding on something that is published.
#[derive(Clone, Debug, Serialize)]
pub struct PublishedFinding {
    /// The artifact.
    pub artifact: String,
    /// The package.
    pub name: String,
    /// Its version.
    pub version: String,
    /// The vulnerability and everything known of it.
    #[serde(flatten)]
    pub finding: FindingView,
}

/// Judgements that are read and unpacked at once.
const JUDGEMENTS_AT_ONCE: usize = 2000;

/// This station's judgements of all packages of which anything may be known, in the order of their names. Most packages
/// are looked up under no key that any advisory has, and are not read for it.
pub async fn known(view: &View, channel: &ChannelView) -> Result<Vec<Judgement>> {
    let station = view.station();
    let db = &station.store.db;
    let inputs = &channel.newest.inputs;
    let set = view.object(inputs.advisories).await?;
    let keys = trees::load(db, set.slices).await?.into_keys().collect();
    let ecosystem = channel.channel.ecosystem;
    let mut names = feeds::reached(station, ecosystem, set.identities, &keys).await?;
    let decisions = view.object(inputs.decisions).await?;
    names.extend(decisions.ruled_names(&channel.channel.name).map(str::to_owned));
    let subdirs: Vec<Option<&String>> = match ecosystem {
        Ecosystem::Pypi => vec![None],
        Ecosystem::Conda => channel.newest.subdirs.keys().map(Some).collect(),
    };
    let key = |name: &String, subdir: &Option<&String>| {
        ShardKey { subdir: subdir.cloned(), name: name.clone() }.to_string()
    };
    let keys: Vec<String> =
        names.iter().flat_map(|name| subdirs.iter().map(move |subdir| key(name, subdir))).collect();
    let found = tree_edit::find_many(db, channel.newest.judgement, keys.iter().map(String::as_str)).await?;
    let ids: Vec<Id<Judgement>> = keys.iter().filter_map(|key| found.get(key)).copied().collect();
    let mut out = Vec::with_capacity(ids.len());
    for chunk in ids.chunks(JUDGEMENTS_AT_ONCE) {
        let packed = trees::packed(db, chunk).await?;
        let decoded = trees::on_threads(station.options.threads, packed, |one| {
            Ok((one.digest(), object::decode::<Judgement>(&one.unpack()?)?))
        });
        let mut decoded: HashMap<Digest, Judgement> = decoded.await?.into_iter().collect();
        out.extend(chunk.iter().filter_map(|id| decoded.remove(&id.digest())));
    }
    Ok(out)
}

/// What is known against what a channel publishes.
pub async fn findings(view: &View, channel: &ChannelView) -> Result<Vec<PublishedFinding>> {
    let mut out = Vec::new();
    let epss = epss(view, channel).await?;
    for judgement in known(view, channel).await? {
        for (file, judged) in judgement.artifacts.iter().filter(|(_, j)| j.is_offered()) {
            for finding in FindingView::all(&judgement, judged, &epss) {
                let artifact =
                    judgement.subdir.as_ref().map_or_else(|| file.clone(), |s| format!("{s}/{file}"));
                out.push(PublishedFinding {
                    artifact,
                    name: judgement.name.clone(),
                    version: judged.version.clone(),
                    finding,
                });
            }
        }
    }
    Ok(out)
}

/// What one vulnerability means for one package of a channel.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Concerned {
    /// The channel.
    pub channel: String,
    /// The package.
    pub name: String,
    /// Its versions that are concerned, oldest first.
    pub versions: Vec<String>,
    /// How many of its files have which verdict.
    pub counts: Counts,
    /// The state of the finding: of several the strictest.
    pub status: Status,
    /// Known to be exploited.
    pub kev: bool,
    /// The probability of exploitation.
    pub epss: Option<f64>,
}

/// The packages of a channel that a vulnerability concerns, by any of its names.
pub async fn concerned(view: &View, channel: &ChannelView, ids: &BTreeSet<String>) -> Result<Vec<Concerned>> {
    let epss = epss(view, channel).await?;
    let mut out: BTreeMap<String, Concerned> = BTreeMap::new();
    for judgement in known(view, channel).await? {
        for judged in judgement.artifacts.values().filter(|judged| !judged.gone) {
            let findings = judgement.findings_of(judged);
            let Some(finding) = findings.iter().find(|f| ids.iter().any(|id| f.is_called(id))) else {
                continue;
            };
            let one = out.entry(judgement.name.clone()).or_insert_with(|| Concerned {
                channel: channel.channel.name.clone(),
                name: judgement.name.clone(),
                versions: Vec::new(),
                counts: Counts::default(),
                status: finding.status,
                kev: finding.kev,
                epss: finding.probability(&epss),
            });
            match judged.verdict {
                Verdict::Admit => one.counts.admit += 1,
                Verdict::Hold => one.counts.hold += 1,
                Verdict::Deny => one.counts.deny += 1,
            }
            if assess::strictness(finding.status) > assess::strictness(one.status) {
                one.status = finding.status;
            }
            if !one.versions.contains(&judged.version) {
                one.versions.push(judged.version.clone());
            }
        }
    }
    let order = Order::of(channel.channel.ecosystem);
    out.values_mut().for_each(|one| order.sort(&mut one.versions));
    Ok(out.into_values().collect())
}
