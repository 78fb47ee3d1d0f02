//! Judging: from records, facts, advisories, identities, policy, decisions and the moment to verdicts.
//!
//! [`judge_local`] rules one shard by itself; [`settle`] then does what needs the whole channel. Both
//! are functions of their arguments alone.

use std::collections::{BTreeMap, BTreeSet};

use crate::advisory::{AdvisorySet, Epss, Kev, Ranks, Slice};
use crate::assess::{self, Assessing, Assessments, Statements};
use crate::block::{BlockSet, Leaving};
use crate::decision::{Decision, Decisions, State, Target, Weighed};
use crate::ecosystem::Ecosystem;
use crate::fact::{Fact, Facts, Fault, FileFact};
use crate::held::Hold;
use crate::identity::{Coverage, Identity};
use crate::matching::{self, Finding, Lookup};
use crate::ordered::Forward;
use crate::policy::{Action, Licence, Policy, Subject, Truth};
use crate::record::Artifact;
use crate::shard::{Entry, Shard, ShardKey};
use crate::snapshot::{Counts, Covered};
use crate::time::{Span, Time};
use crate::verdict::{Judged, Judgement, RuleHit, Verdict, builtin};

mod grace;
mod held;

/// What is the same for every shard of a channel.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    /// The channel.
    pub channel: &'a str,
    /// Its ecosystem.
    pub ecosystem: Ecosystem,
    /// What it is read from, as [`crate::snapshot::Inputs::source`] says it.
    pub source: &'a str,
    /// Its policy.
    pub policy: &'a Policy,
    /// What people ruled.
    pub decisions: &'a Decisions,
    /// What is known to be exploited.
    pub kev: &'a Kev,
    /// What is likely to be.
    pub epss: &'a Epss,
    /// The ranks of that, where the policy asks for them.
    pub ranks: Option<&'a Ranks>,
    /// See [`feeds_read`].
    pub feeds_read: Option<Time>,
    /// The moment.
    pub now: Time,
    /// Whether an artifact without verified bytes is held. Judging before the fetch asks what *would* be
    /// admitted, since only that is fetched.
    pub needs_bytes: bool,
    /// Whether to tell until when verdicts stand ([`Judged::flips_at`]); who only looks at what would be asks for no more.
    pub looks_ahead: bool,
}

/// When the oldest of the feeds that tell of vulnerabilities was read; `None` if none tells what is
/// affected, for then nothing is known at all.
pub fn feeds_read(set: &AdvisorySet) -> Option<Time> {
    set.feeds.values().any(|f| f.kind.is_advisories()).then_some(())?;
    set.feeds.values().filter(|f| f.kind.ages()).map(|f| f.read_at).min()
}

/// What is known of one shard.
#[derive(Clone, Copy, Debug)]
pub struct Local<'a> {
    /// The records of the source; none if the source no longer has the name.
    pub upstream: Option<&'a Shard>,
    /// The records that kept snapshots list.
    pub listed: Option<&'a Shard>,
    /// The facts.
    pub facts: Option<&'a Facts>,
    /// conda: what the name is elsewhere.
    pub identity: Option<&'a Identity>,
    /// What was found under each of [`matching::lookups`].
    pub slices: &'a [(Lookup, &'a Slice)],
    /// What sources state of its findings, under the same.
    pub statements: &'a [(Lookup, &'a Statements)],
    /// The judgement of the snapshot before.
    pub previous: Option<&'a Judgement>,
    /// By file: the dependency of which nothing is offered any more (see [`crate::closure`]).
    pub lacks: Option<&'a BTreeMap<String, String>>,
    /// What whoever the channel comes from, a sending station or its parent, found of the shard.
    pub sent: Option<&'a Judgement>,
}

/// Judges one shard.
pub fn judge_local(cx: &Context<'_>, key: &ShardKey, local: &Local<'_>) -> Judgement {
    let coverage = matching::coverage(cx.ecosystem, &key.name, local.identity);
    let assessing = assessing(cx, key, local);
    let project_status = local.upstream.or(local.listed).and_then(project_status);
    let mut findings: BTreeMap<String, Vec<Finding>> = BTreeMap::new();
    let mut facts = local.facts.map(|facts| Forward::new(&facts.files));
    let mut before = local.previous.map(|previous| Forward::new(&previous.artifacts));
    let mut artifacts = Vec::new();
    for (file, entry, gone) in files(local) {
        let artifact = match Artifact::from_parts(cx.ecosystem, &key.name, file, entry) {
            Ok(artifact) => artifact,
            Err(error) => {
                artifacts.push((file.to_owned(), unreadable(gone, error.to_string())));
                continue;
            }
        };
        if !findings.contains_key(&artifact.version) {
            let mut found = matching::match_version(local.slices, &artifact.version);
            matching::join_exploitation(&mut found, cx.kev, cx.epss, cx.ranks);
            matching::choose_scores(&mut found, &cx.policy.scores);
            findings.insert(artifact.version.clone(), found);
        }
        let found = findings.get(&artifact.version).map_or(&[][..], Vec::as_slice);
        let case = Case {
            cx,
            key,
            artifact: &artifact,
            entry,
            project_status: project_status.as_deref(),
            coverage,
            findings: found,
            assessing: &assessing,
            fact: facts.as_mut().and_then(|facts| facts.get(file)),
            holds: local.facts.and_then(|facts| facts.held.get(file)).map_or(&[][..], Vec::as_slice),
            before: before.as_mut().and_then(|before| before.get(file)),
            lacks: local.lacks.and_then(|lacks| lacks.get(file)).map(String::as_str),
            sent: local.sent.and_then(|sent| sent.artifacts.get(file)),
            gone,
        };
        artifacts.push((file.to_owned(), case.judge()));
    }
    findings.retain(|_, found| !found.is_empty());
    // A day's EPSS is to change no judgement in which it decides nothing.
    for finding in findings.values_mut().flatten() {
        (finding.epss, finding.percentile) = (None, None);
    }
    Judgement {
        weighed: assessing.into_weighed(),
        ecosystem: cx.ecosystem,
        name: key.name.clone(),
        subdir: key.subdir.clone(),
        coverage,
        findings,
        artifacts: artifacts.into_iter().collect(),
    }
}

/// What the index says of the project as a whole (PEP 792).
pub fn project_status(shard: &Shard) -> Option<String> {
    #[derive(serde::Deserialize)]
    struct Said {
        status: String,
    }
    // What stands there and cannot be read is not the same as nothing.
    Some(shard.meta.get("project-status")?.read::<Said>().map_or_else(|_| String::new(), |said| said.status))
}

/// What packages of the shard state of themselves.
fn stated<'a>(local: &Local<'a>) -> impl Iterator<Item = &'a assess::Statement> {
    let files = local.facts.into_iter().flat_map(|facts| facts.files.values());
    files.filter_map(|fact| fact.file.as_ref()).flat_map(|file| &file.security)
}

fn assessing<'a>(cx: &Context<'a>, key: &ShardKey, local: &Local<'a>) -> Assessing<'a> {
    let own: Vec<&assess::Statement> = stated(local).collect();
    let of = assess::Of { channel: cx.channel, ecosystem: cx.ecosystem, name: &key.name, now: cx.now };
    let weighed = local.previous.map(|previous| &previous.weighed);
    Assessing::of(cx.decisions, of, (local.slices, cx.kev), (local.statements, &own), weighed)
}

/// Everything that must be judged: what the source lists, and what only a kept snapshot lists.
fn files<'a>(local: &Local<'a>) -> impl Iterator<Item = (&'a str, &'a Entry, bool)> {
    let upstream = local.upstream;
    let current =
        upstream.into_iter().flat_map(|s| &s.entries).map(|(file, entry)| (file.as_str(), entry, false));
    let is_other = |listed: &&Shard| upstream.is_none_or(|upstream| !std::ptr::eq(upstream, *listed));
    let only_listed = local
        .listed
        .filter(is_other)
        .into_iter()
        .flat_map(|s| &s.entries)
        .filter(move |(file, _)| !upstream.is_some_and(|s| s.entries.contains_key(*file)))
        .map(|(file, entry)| (file.as_str(), entry, true));
    current.chain(only_listed)
}

fn hit(rule: &str, action: Action, detail: String) -> RuleHit {
    RuleHit {
        rule: rule.to_owned(),
        action,
        unknown: false,
        unopened: false,
        advisory: None,
        detail: Some(detail),
        waived_by: None,
    }
}

fn unreadable(gone: bool, detail: String) -> Judged {
    Judged {
        version: String::new(),
        verdict: Verdict::Deny,
        rules: vec![hit(builtin::BAD_RECORD, Action::Deny, detail)],
        review_by: None,
        denied_from: None,
        graced: None,
        flips_at: None,
        gone,
        assessed: Assessments::new(),
    }
}

/// The licence of an artifact: the record's word, else that of the artifact itself.
pub fn licence<'a>(artifact: &'a Artifact, opened: Option<&'a FileFact>) -> Licence<'a> {
    // A blank text states nothing.
    fn stated(text: &Option<String>) -> Option<&str> {
        text.as_deref().filter(|text| !text.trim().is_empty())
    }
    match (stated(&artifact.licence), opened) {
        (Some(text), _) => Licence::Stated(text),
        (None, None) => Licence::Unopened,
        (None, Some(file)) => stated(&file.licence).map_or(Licence::Nowhere, Licence::Stated),
    }
}

struct Case<'a> {
    cx: &'a Context<'a>,
    key: &'a ShardKey,
    artifact: &'a Artifact,
    entry: &'a Entry,
    project_status: Option<&'a str>,
    coverage: Coverage,
    findings: &'a [Finding],
    assessing: &'a Assessing<'a>,
    fact: Option<&'a Fact>,
    holds: &'a [Hold],
    before: Option<&'a Judged>,
    lacks: Option<&'a str>,
    sent: Option<&'a Judged>,
    gone: bool,
}

/// What comes of all rules at one moment: with the deadline of what is held but published.
struct Ruled {
    rules: Vec<RuleHit>,
    verdict: Verdict,
    review_by: Option<Time>,
    denied_from: Option<Time>,
    assessed: Assessments,
}

/// How much a rule counts that denies only when its grace has ended.
const fn weight(hit: &RuleHit, in_grace: bool) -> Action {
    match hit.action {
        Action::Deny if in_grace => Action::Warn,
        action => action,
    }
}

impl Case<'_> {
    fn judge(&self) -> Judged {
        let now = self.cx.now;
        let ruled = self.rule(now);
        let graced = self.remember(&ruled);
        let turns_at = if self.cx.looks_ahead { self.flips_at(&ruled) } else { None };
        // What is remembered is judged by, though nothing changes on the day on which it is forgotten.
        let forgotten_at = graced.as_ref().and_then(|graced| graced.forgotten_at);
        let flips_at = [turns_at, forgotten_at.filter(|_| self.cx.looks_ahead)].into_iter().flatten().min();
        let Ruled { rules, verdict, review_by, denied_from, assessed } = ruled;
        Judged {
            version: self.artifact.version.clone(),
            verdict,
            rules,
            review_by,
            denied_from,
            graced,
            flips_at,
            gone: self.gone,
            assessed,
        }
    }

    /// The first moment at which time alone would change what is ruled.
    fn flips_at(&self, ruled: &Ruled) -> Option<Time> {
        let now = self.cx.now;
        let mut turning_points = BTreeSet::new();
        let mut points = Vec::new();
        let subject = self.subject(self.findings, now);
        for rule in &self.cx.policy.rules {
            rule.when.turning_points(&subject, &mut points);
        }
        turning_points.extend(points);
        turning_points.extend(self.cx.decisions.turning_points(now));
        turning_points
            .extend([ruled.review_by, ruled.denied_from].into_iter().flatten().filter(|at| *at > now));
        turning_points.into_iter().find(|at| {
            let then = self.rule(*at);
            // Also what only changes the reasons counts: a judgement says what is so until then.
            then.verdict != ruled.verdict
                || then.review_by.is_some() != ruled.review_by.is_some()
                || then.denied_from.is_some() != ruled.denied_from.is_some()
                || then.rules != ruled.rules
                || then.assessed != ruled.assessed
        })
    }

    fn subject<'s>(&'s self, findings: &'s [Finding], now: Time) -> Subject<'s> {
        Subject {
            ecosystem: self.cx.ecosystem,
            name: &self.key.name,
            subdir: self.key.subdir.as_deref(),
            artifact: self.artifact,
            entry: self.entry,
            removed: self.gone,
            project_status: self.project_status,
            source: self.cx.source,
            lacks: self.lacks,
            reserved: &self.cx.policy.reserved,
            first_seen: self.fact.map(|fact| fact.first_seen),
            size: self.fact.and_then(|f| f.file.as_ref()).map(|file| file.size).or(self.artifact.size),
            licence: licence(self.artifact, self.fact.and_then(|f| f.file.as_ref())),
            coverage: self.coverage,
            feeds_read: self.cx.feeds_read,
            findings,
            now,
        }
    }

    /// What has a say at `now`, and what comes of it.
    fn rule(&self, now: Time) -> Ruled {
        let own = self.fact.and_then(|f| f.file.as_ref()).map_or(&[][..], |file| &file.security);
        let assessed = self.assessing.assess(&self.target(), self.findings, own, now);
        let found = assess::apply(self.findings, &assessed);
        let mut rules = self.policy_rules(&found, now);
        let grace_end = self.grace_end(&rules, &found, now);
        rules.extend(self.blocked(now));
        rules.extend(self.rejected(now));
        let sent: Vec<RuleHit> = self.held_by_sender(now).collect();
        let is_held_there = sent.iter().any(|hit| hit.waived_by.is_none());
        rules.extend(sent);
        rules.extend(self.denied_at_origin());
        let frozen = self.cx.decisions.frozen(self.cx.channel, now);
        rules.extend(frozen.filter(|_| self.before.is_none_or(|before| !before.is_offered())).map(
            |decision| {
                let Decision { id, author, reason, .. } = decision;
                hit(builtin::FROZEN, Action::Hold, format!("decision {id} by {author}: {reason}"))
            },
        ));
        let bytes = self.bytes();
        // What people and bytes say against it waits for nothing.
        let is_only_policy = !rules.iter().chain(&bytes).any(|r| {
            r.action == Action::Deny
                && matches!(
                    &*r.rule,
                    builtin::BLOCKED
                        | builtin::REJECTED
                        | builtin::FILE_CHANGED
                        | builtin::MISMATCH
                        | builtin::DENIED_AT_ORIGIN
                )
        });
        let lacks_bytes = self.cx.needs_bytes && self.fact.is_none_or(|f| f.file.is_none());
        // Where its sender offers it no more, it is offered here no longer than there.
        let was_offered = self.before.filter(|b| b.is_offered() && !lacks_bytes && !is_held_there);
        let denied_from = grace_end.filter(|at| is_only_policy && !lacks_bytes && now < *at);
        let counts = |r: &&RuleHit| r.waived_by.is_none();
        let weigh =
            |rules: &[RuleHit], in_grace| rules.iter().filter(counts).map(|r| weight(r, in_grace)).max();
        let kept_out = weigh(&rules, denied_from.is_some()) >= Some(Action::Hold);
        // Nobody misses the bytes of what is not wanted anyway.
        rules.extend(bytes.filter(|r| !(kept_out && r.rule == builtin::NOT_FETCHED)));
        rules.sort_by(|a, b| b.action.cmp(&a.action).then_with(|| a.cmp(b)));
        let verdict = match weigh(&rules, denied_from.is_some()) {
            Some(Action::Deny) => Verdict::Deny,
            Some(Action::Hold) => Verdict::Hold,
            Some(Action::Warn) | None => Verdict::Admit,
        };
        let held = was_offered.filter(|_| verdict == Verdict::Hold).map(|before| {
            let deadline =
                before.review_by.unwrap_or_else(|| self.cx.now.after(self.cx.policy.hold_deadline));
            (deadline, if now < deadline || frozen.is_some() { Verdict::Admit } else { Verdict::Hold })
        });
        let (review_by, verdict) = held.map_or((None, verdict), |(at, verdict)| (Some(at), verdict));
        if denied_from.is_some() && verdict != Verdict::Admit {
            // A grace is for what is offered: what is not waits for nothing.
            return Ruled { rules, verdict: Verdict::Deny, review_by: None, denied_from: None, assessed };
        }
        Ruled { rules, verdict, review_by, denied_from, assessed }
    }

    fn target(&self) -> Target<'_> {
        Target {
            ecosystem: self.cx.ecosystem,
            channel: self.cx.channel,
            name: &self.key.name,
            version: &self.artifact.version,
            file: &self.artifact.file,
            build: self.artifact.build.as_deref(),
            build_number: self.artifact.build_number,
            subdir: self.key.subdir.as_deref(),
            sha256: self.fact.and_then(|f| f.file.as_ref()).map(|f| f.sha256).or(self.artifact.sha256),
        }
    }

    fn policy_rules(&self, findings: &[Finding], now: Time) -> Vec<RuleHit> {
        let subject = self.subject(findings, now);
        let target = self.target();
        let mut out = Vec::new();
        for rule in &self.cx.policy.rules {
            for (finding, truth) in rule.hits(&subject) {
                let unknown = truth == Truth::Unknown;
                // Not knowing is no reason to deny, and none to admit either.
                let action = if unknown { rule.action.min(Action::Hold) } else { rule.action };
                let decisions = self.cx.decisions;
                let detail = self.lacks.filter(|_| rule.when.asks_dependencies()).map(|needs| {
                    format!("it needs `{needs}`, of which nothing is offered that could be installed")
                });
                let weighed = || {
                    let state = State {
                        yanked: self.artifact.yanked,
                        gone: self.gone,
                        project_status: self.project_status,
                        lacks: detail.as_deref(),
                    };
                    Weighed::of(rule, (finding, findings), &state, unknown)
                };
                let approval = || decisions.approval(&target, now, weighed);
                let baseline = || decisions.baseline(&target, (finding, findings), now, weighed);
                let waiver = decisions.waiver(&target, &rule.name, finding, now);
                let waiver = match action {
                    Action::Warn => waiver,
                    Action::Hold => waiver.or_else(approval).or_else(baseline),
                    Action::Deny => waiver.or_else(baseline),
                };
                out.push(RuleHit {
                    rule: rule.name.clone(),
                    action,
                    unknown,
                    unopened: (unknown && rule.may_open(&subject, finding))
                        || finding
                            .is_some_and(|f| self.may_clear(f, now) && rule.spares_cleared(&subject, f)),
                    advisory: finding.map(|f| f.advisory.clone()),
                    detail,
                    waived_by: waiver.map(|d| d.id.clone()),
                });
            }
        }
        out
    }

    /// Whether the package, which nobody opened yet, may clear itself of a finding and would be believed.
    fn may_clear(&self, finding: &Finding, now: Time) -> bool {
        let is_unopened = self.fact.is_none_or(|fact| fact.file.is_none());
        self.cx.ecosystem == Ecosystem::Conda
            && is_unopened
            && finding.status.is_open()
            && !finding.kev
            && !finding.malicious
            && self.cx.decisions.trusts(assess::PACKAGE, &self.target(), now)
    }

    fn blocked(&self, now: Time) -> Option<RuleHit> {
        let Decision { id, author, reason, .. } = self.cx.decisions.block(&self.target(), now)?;
        Some(hit(builtin::BLOCKED, Action::Deny, format!("decision {id} by {author}: {reason}")))
    }

    fn rejected(&self, now: Time) -> Option<RuleHit> {
        let Decision { id, author, reason, .. } = self.cx.decisions.rejection(&self.target(), now)?;
        Some(hit(builtin::REJECTED, Action::Deny, format!("decision {id} by {author}: {reason}")))
    }

    /// What the file itself says against being offered.
    fn bytes(&self) -> Option<RuleHit> {
        let file = self.fact.and_then(|f| f.file.as_ref());
        let fault = self.fact.and_then(|f| f.fault.as_ref());
        if let (Some(declared), Some(pinned)) = (self.artifact.sha256, file.map(|f| f.sha256))
            && declared != pinned
        {
            let detail = format!(
                "the record declares sha256 {declared}, but the file of this name that was fetched first has {pinned}"
            );
            return Some(hit(builtin::FILE_CHANGED, Action::Deny, detail));
        }
        if let (Some(declared), Some(pinned)) = (self.artifact.size, file.map(|f| f.size))
            && declared != pinned
        {
            let detail = format!(
                "the record declares {declared} bytes, but the file of this name that was fetched first has {pinned}"
            );
            return Some(hit(builtin::FILE_CHANGED, Action::Deny, detail));
        }
        match (fault, file) {
            // Before the fetch it is asked what would be admitted: a source that is whole again gets its chance.
            (Some(Fault::Mismatch(detail)), _) if self.cx.needs_bytes => {
                Some(hit(builtin::MISMATCH, Action::Deny, detail.clone()))
            }
            (_, None) if self.cx.needs_bytes => {
                let detail = fault.map_or("the file was not fetched yet", Fault::detail).to_owned();
                Some(hit(builtin::NOT_FETCHED, Action::Hold, detail))
            }
            _ => None,
        }
    }
}

/// What the whole channel adds up to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settled {
    /// How many artifacts of the source got which verdict.
    pub counts: Counts,
    /// How many packages of the source are covered how well.
    pub covered: Covered,
    /// The first moment at which time alone would change a verdict.
    pub valid_until: Option<Time>,
    /// What is denied of everything that a kept snapshot lists.
    pub blocks: BlockSet,
}

impl Settled {
    /// Takes in what another part of the same channel adds up to.
    pub fn merge(&mut self, other: Self) {
        self.counts.add(other.counts);
        self.covered.add(other.covered);
        self.valid_until = [self.valid_until, other.valid_until].into_iter().flatten().min();
        for (key, files) in other.blocks.files {
            self.blocks.files.entry(key).or_default().extend(files);
        }
        for (key, files) in other.blocks.leaving {
            self.blocks.leaving.entry(key).or_default().extend(files);
        }
    }
}

/// Adds up the judgements of a channel. `listed` tells whether a kept snapshot lists a file.
pub fn settle<'a>(
    judgements: impl IntoIterator<Item = (&'a str, &'a Judgement)>,
    listed: impl Fn(&str, &str) -> bool,
) -> Settled {
    let mut settled = Settled::default();
    for (key, judgement) in judgements {
        if judgement.artifacts.values().any(|judged| !judged.gone) {
            settled.covered.count(judgement.coverage);
        }
        for (file, judged) in &judgement.artifacts {
            if !judged.gone {
                match judged.verdict {
                    Verdict::Admit => settled.counts.admit += 1,
                    Verdict::Hold => settled.counts.hold += 1,
                    Verdict::Deny => settled.counts.deny += 1,
                }
            }
            if judged.verdict == Verdict::Deny && listed(key, file) {
                settled.blocks.insert(key, file, reason(judged));
            }
            if let Some(leaving) = leaving(judged) {
                settled.blocks.leaving.entry(key.to_owned()).or_default().insert(file.clone(), leaving);
            }
            settled.valid_until = [settled.valid_until, judged.flips_at].into_iter().flatten().min();
        }
    }
    settled
}

/// Why an artifact has its verdict, in one line.
pub fn reason(judged: &Judged) -> String {
    said(&judged.deciding().collect::<Vec<_>>())
}

/// When and why an artifact leaves that is offered still.
pub fn leaving(judged: &Judged) -> Option<Leaving> {
    let from = judged.denied_from.filter(|_| judged.is_offered())?;
    let denying = judged.rules.iter().filter(|r| r.waived_by.is_none() && r.action == Action::Deny);
    let reason = said(&denying.collect::<Vec<_>>());
    Some(Leaving { version: judged.version.clone(), from, reason })
}

/// What rules say, in one line.
fn said(hits: &[&RuleHit]) -> String {
    let mut parts: Vec<String> = Vec::new();
    // What is known says more than what is not.
    let any_known = hits.iter().any(|hit| !hit.unknown);
    for hit in hits.iter().filter(|hit| !(any_known && hit.unknown)) {
        let unknown = if hit.unknown { " (not known)" } else { "" };
        let part = match (&hit.advisory, &hit.detail) {
            (Some(advisory), _) => format!("{}{unknown}: {advisory}", hit.rule),
            (None, Some(detail)) => format!("{}: {detail}", hit.rule),
            (None, None) => format!("{}{unknown}", hit.rule),
        };
        if !parts.contains(&part) {
            parts.push(part);
        }
    }
    const SHOWN: usize = 3;
    let more = parts.len().saturating_sub(SHOWN);
    parts.truncate(SHOWN);
    let more = if more > 0 { format!("; and {more} more") } else { String::new() };
    format!("{}{more}", parts.join("; "))
}

/// The length of time for which shards of superseded indexes stay readable, since clients cache them.
pub const SHARDS_KEPT: Span = Span::days(7);
