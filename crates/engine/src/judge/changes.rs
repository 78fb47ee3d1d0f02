//! What changes in the verdicts of a channel, held in little room: a first judgement changes that of every artifact.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use airlock_core::severity::Tenths;
use airlock_core::verdict::{Judgement, Verdict};

/// A change of one artifact's verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct VerdictChange<'a> {
    /// The channel.
    pub channel: &'a str,
    /// Where it lies: subdir and file for conda, file for PyPI.
    pub artifact: &'a str,
    /// The package.
    pub name: &'a str,
    /// Its version.
    pub version: &'a str,
    /// The verdict before; none if it is new.
    pub from: Option<&'static str>,
    /// The verdict now; none if it is gone.
    pub to: Option<&'static str>,
    /// Why.
    pub why: &'a str,
}

/// How many findings changed, each vulnerability of each version counted once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct FindingChanges {
    /// Known now, and not before.
    pub new: u64,
    /// No longer known.
    pub gone: u64,
    /// With a higher highest score than before, or one where there was none.
    pub scored_higher: u64,
    /// With a lower one, or none.
    pub scored_lower: u64,
    /// Known to be exploited, and not before.
    pub exploited: u64,
}

impl FindingChanges {
    /// Between two judgements of one shard. Versions that only one of them knows count as nothing: that a release came
    /// is no news of vulnerabilities.
    pub(super) fn between(before: Option<&Judgement>, after: &Judgement) -> Self {
        let mut out = Self::default();
        // What is known is mostly the same, and of most packages nothing is.
        let Some(before) = before.filter(|before| before.findings != after.findings) else { return out };
        let versions = |judgement: &Judgement| -> BTreeSet<String> {
            judgement.artifacts.values().filter(|j| !j.gone).map(|j| j.version.clone()).collect()
        };
        for version in versions(before).intersection(&versions(after)) {
            let of = |judgement: &'_ Judgement| -> BTreeMap<String, (Option<Tenths>, bool)> {
                let found = judgement.findings.get(version).into_iter().flatten();
                found.map(|f| (f.advisory.clone(), (f.score.as_ref().map(|s| s.score), f.kev))).collect()
            };
            let (old, new) = (of(before), of(after));
            out.gone += old.keys().filter(|id| !new.contains_key(*id)).count() as u64;
            for (id, (score, kev)) in &new {
                let Some((was, was_kev)) = old.get(id) else {
                    out.new += 1;
                    continue;
                };
                out.scored_higher += u64::from(score > was);
                out.scored_lower += u64::from(score < was);
                out.exploited += u64::from(*kev && !was_kev);
            }
        }
        out
    }

    /// Takes in those of another shard.
    pub(super) const fn add(&mut self, other: Self) {
        self.new += other.new;
        self.gone += other.gone;
        self.scored_higher += other.scored_higher;
        self.scored_lower += other.scored_lower;
        self.exploited += other.exploited;
    }
}

/// Changes of verdicts in one channel, in the order of its shards.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    channel: Box<str>,
    shards: Vec<OfShard>,
    count: usize,
}

impl Changes {
    /// None yet.
    pub(super) fn of(channel: &str) -> Self {
        Self { channel: channel.into(), ..Self::default() }
    }

    /// Adds those of one more shard.
    pub(super) fn add(&mut self, mut shard: OfShard) {
        if shard.rows.is_empty() {
            return;
        }
        shard.text.shrink_to_fit();
        shard.rows.shrink_to_fit();
        self.count += shard.rows.len();
        self.shards.push(shard);
    }

    /// Those that `other` has not, as far as the verdicts now are concerned.
    #[must_use]
    pub fn without(&self, other: &Self) -> Self {
        let known: BTreeSet<(&str, Option<&str>)> = other.iter().map(|c| (c.artifact, c.to)).collect();
        let mut out = Self::of(&self.channel);
        for shard in &self.shards {
            let mut kept = OfShard::of(&shard.name);
            let rows = shard.rows.iter().zip(shard.iter(&self.channel));
            for (row, change) in rows.filter(|(_, c)| !known.contains(&(c.artifact, c.to))) {
                kept.push(&[change.artifact], change.version, (row.from, row.to), change.why);
            }
            out.add(kept);
        }
        out
    }

    /// How many there are.
    pub const fn len(&self) -> usize {
        self.count
    }

    /// Whether there is none.
    pub const fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// One after the other.
    pub fn iter(&self) -> impl Iterator<Item = VerdictChange<'_>> {
        self.shards.iter().flat_map(|shard| shard.iter(&self.channel))
    }
}

/// Changes of verdicts in one shard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct OfShard {
    name: Box<str>,
    /// Artifact, version and reason of each, one behind the other.
    text: String,
    rows: Vec<Row>,
}

/// One change: where its parts end in the text of its shard, and the verdicts.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Row {
    artifact_end: usize,
    version_end: usize,
    end: usize,
    from: Option<Verdict>,
    to: Option<Verdict>,
}

impl OfShard {
    /// None yet.
    pub fn of(name: &str) -> Self {
        Self { name: name.into(), text: String::new(), rows: Vec::new() }
    }

    /// Adds one. The artifact is given in parts, which are joined.
    pub fn push(
        &mut self,
        artifact: &[&str],
        version: &str,
        (from, to): (Option<Verdict>, Option<Verdict>),
        why: &str,
    ) {
        artifact.iter().for_each(|part| self.text.push_str(part));
        let artifact_end = self.text.len();
        self.text.push_str(version);
        let version_end = self.text.len();
        self.text.push_str(why);
        self.rows.push(Row { artifact_end, version_end, end: self.text.len(), from, to });
    }

    fn iter<'a>(&'a self, channel: &'a str) -> impl Iterator<Item = VerdictChange<'a>> {
        let starts = std::iter::once(0).chain(self.rows.iter().map(|row| row.end));
        self.rows.iter().zip(starts).map(move |(row, start)| VerdictChange {
            channel,
            artifact: &self.text[start..row.artifact_end],
            name: &self.name,
            version: &self.text[row.artifact_end..row.version_end],
            from: row.from.map(Verdict::word),
            to: row.to.map(Verdict::word),
            why: &self.text[row.version_end..row.end],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_put_in_comes_out_in_order() {
        let mut changes = Changes::of("main");
        let mut idna = OfShard::of("idna");
        idna.push(
            &["noarch", "/", "idna-3.6.conda"],
            "3.6",
            (None, Some(Verdict::Deny)),
            "cvss-above-7: GHSA-1",
        );
        idna.push(
            &["noarch", "/", "idna-3.10.conda"],
            "3.10",
            (Some(Verdict::Hold), Some(Verdict::Admit)),
            "",
        );
        changes.add(idna);
        changes.add(OfShard::of("unchanged"));
        let mut gone = OfShard::of("götter");
        gone.push(&["götter-1.whl"], "1", (Some(Verdict::Admit), None), "no longer in the source");
        changes.add(gone);
        assert_eq!((changes.len(), changes.is_empty()), (3, false));
        let all: Vec<VerdictChange<'_>> = changes.iter().collect();
        let first = VerdictChange {
            channel: "main",
            artifact: "noarch/idna-3.6.conda",
            name: "idna",
            version: "3.6",
            from: None,
            to: Some("denied"),
            why: "cvss-above-7: GHSA-1",
        };
        assert_eq!(all[0], first);
        let second = VerdictChange {
            artifact: "noarch/idna-3.10.conda",
            version: "3.10",
            from: Some("held"),
            to: Some("admitted"),
            why: "",
            ..first
        };
        assert_eq!(all[1], second);
        let third = VerdictChange {
            artifact: "götter-1.whl",
            name: "götter",
            version: "1",
            from: Some("admitted"),
            to: None,
            why: "no longer in the source",
            ..first
        };
        assert_eq!(all[2..], [third]);
        assert!(Changes::of("none").is_empty());
    }
}
