//! What changes in the verdicts of a channel, held packed: a first judgement changes that of every artifact.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashSet};

use serde::{Deserialize, Serialize};

use airlock_core::id::Digest;
use airlock_core::severity::Tenths;
use airlock_core::verdict::{Judgement, Verdict};

use crate::error::{Error, Result};

/// Lines are packed when they have so many bytes together. Names and reasons repeat themselves from one to the next.
const BLOCK_BYTES: usize = 256 << 10;
/// As fast as it goes: what is packed lives as long as the command.
const PACK_LEVEL: i32 = 1;

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
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Changes {
    channel: Box<str>,
    /// Rows as lines of JSON, packed. Where a block ends depends on the rows alone, so that the same changes are equal.
    blocks: Vec<Box<[u8]>>,
    /// Those after them.
    open: Vec<u8>,
    count: usize,
}

impl Changes {
    /// None yet.
    pub(super) fn of(channel: &str) -> Self {
        Self { channel: channel.into(), ..Self::default() }
    }

    /// Adds those of one more shard.
    pub(super) fn add(&mut self, shard: &OfShard) -> Result<()> {
        self.count += shard.count;
        for line in shard.lines.split_inclusive(|byte| *byte == b'\n') {
            self.open.extend_from_slice(line);
            if self.open.len() >= BLOCK_BYTES {
                self.blocks.push(zstd::bulk::compress(&self.open, PACK_LEVEL).map_err(not_held)?.into());
                self.open.clear();
            }
        }
        Ok(())
    }

    /// Those that `other` has not, as far as the verdicts now are concerned.
    pub fn without(&self, other: &Self) -> Result<Self> {
        // There may be one for every artifact of a channel.
        let key = |row: &Row<'_>| Digest::of(format!("{:?} {}", row.to, row.artifact).as_bytes());
        let mut known: HashSet<Digest> = HashSet::new();
        other.rows(|row| {
            known.insert(key(row));
            Ok(())
        })?;
        let mut out = Self::of(&self.channel);
        self.rows(|row| {
            let mut kept = OfShard::default();
            if !known.contains(&key(row)) {
                kept.push(row)?;
            }
            out.add(&kept)
        })?;
        Ok(out)
    }

    /// How many there are.
    pub const fn len(&self) -> usize {
        self.count
    }

    /// Whether there is none.
    pub const fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Hands them over, one after the other.
    pub fn each(&self, mut to: impl FnMut(VerdictChange<'_>)) -> Result<()> {
        self.rows(|row| {
            to(VerdictChange {
                channel: &self.channel,
                artifact: &row.artifact,
                name: &row.name,
                version: &row.version,
                from: row.from.map(Verdict::word),
                to: row.to.map(Verdict::word),
                why: &row.why,
            });
            Ok(())
        })
    }

    fn rows(&self, mut to: impl FnMut(&Row<'_>) -> Result<()>) -> Result<()> {
        let mut of_lines = |lines: &[u8]| -> Result<()> {
            lines
                .split(|byte| *byte == b'\n')
                .filter(|line| !line.is_empty())
                .try_for_each(|line| to(&serde_json::from_slice(line).map_err(|e| not_held(e.into()))?))
        };
        for block in &self.blocks {
            of_lines(&zstd::stream::decode_all(&block[..]).map_err(not_held)?)?;
        }
        of_lines(&self.open)
    }
}

impl std::fmt::Debug for Changes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut list = f.debug_list();
        let all = self.each(|change| {
            list.entry(&change);
        });
        if let Err(error) = all {
            list.entry(&error);
        }
        list.finish()
    }
}

fn not_held(error: std::io::Error) -> Error {
    Error::fault(format!("what changed cannot be held or read back: {error}")).hint("run it again")
}

/// Changes of verdicts in one shard.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct OfShard {
    lines: Vec<u8>,
    count: usize,
}

impl OfShard {
    /// Adds one.
    pub fn push(&mut self, row: &Row<'_>) -> Result<()> {
        serde_json::to_writer(&mut self.lines, row)?;
        self.lines.push(b'\n');
        self.count += 1;
        Ok(())
    }
}

/// One change.
#[derive(Serialize, Deserialize)]
pub(super) struct Row<'a> {
    #[serde(borrow)]
    pub name: Cow<'a, str>,
    #[serde(borrow)]
    pub artifact: Cow<'a, str>,
    #[serde(borrow)]
    pub version: Cow<'a, str>,
    pub from: Option<Verdict>,
    pub to: Option<Verdict>,
    #[serde(borrow)]
    pub why: Cow<'a, str>,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn row<'a>(
        (name, artifact, version): (&'a str, &'a str, &'a str),
        (from, to): (Option<Verdict>, Option<Verdict>),
        why: &'a str,
    ) -> Row<'a> {
        let [name, artifact, version, why] = [name, artifact, version, why].map(Cow::Borrowed);
        Row { name, artifact, version, from, to, why }
    }

    fn told(changes: &Changes) -> Vec<String> {
        let mut out = Vec::new();
        changes.each(|change| out.push(format!("{change:?}"))).unwrap();
        out
    }

    #[test]
    fn what_was_put_in_comes_out_in_order() {
        let mut changes = Changes::of("main");
        let mut idna = OfShard::default();
        let (deny, hold, admit) = (Some(Verdict::Deny), Some(Verdict::Hold), Some(Verdict::Admit));
        let denied = row(("idna", "noarch/idna-3.6.conda", "3.6"), (None, deny), "cvss-above-7: GHSA-1");
        idna.push(&denied).unwrap();
        idna.push(&row(("idna", "noarch/idna-3.10.conda", "3.10"), (hold, admit), "")).unwrap();
        changes.add(&idna).unwrap();
        changes.add(&OfShard::default()).unwrap();
        let mut gone = OfShard::default();
        gone.push(&row(("götter", "götter-1.whl", "1"), (admit, None), "no \"longer\"\nin the source"))
            .unwrap();
        changes.add(&gone).unwrap();
        assert_eq!((changes.len(), changes.is_empty()), (3, false));
        let first = VerdictChange {
            channel: "main",
            artifact: "noarch/idna-3.6.conda",
            name: "idna",
            version: "3.6",
            from: None,
            to: Some("denied"),
            why: "cvss-above-7: GHSA-1",
        };
        let second = VerdictChange {
            artifact: "noarch/idna-3.10.conda",
            version: "3.10",
            from: Some("held"),
            to: Some("admitted"),
            why: "",
            ..first
        };
        let third = VerdictChange {
            artifact: "götter-1.whl",
            name: "götter",
            version: "1",
            from: Some("admitted"),
            to: None,
            why: "no \"longer\"\nin the source",
            ..first
        };
        assert_eq!(told(&changes), [first, second, third].map(|change| format!("{change:?}")));
        assert!(Changes::of("none").is_empty());
    }

    #[test]
    fn the_same_changes_are_equal_whether_they_came_by_shards_or_one_by_one() {
        let (why, admit) = ("w".repeat(10_000), Some(Verdict::Admit));
        let files: Vec<String> = (0..60).map(|n| format!("idna-{n}.conda")).collect();
        let mut at_once = OfShard::default();
        let (mut by_shard, mut one_by_one) = (Changes::of("main"), Changes::of("main"));
        for file in &files {
            let row = row(("idna", file, "1"), (None, admit), &why);
            at_once.push(&row).unwrap();
            let mut alone = OfShard::default();
            alone.push(&row).unwrap();
            one_by_one.add(&alone).unwrap();
        }
        by_shard.add(&at_once).unwrap();
        assert_eq!(by_shard, one_by_one);
        assert_eq!((by_shard.blocks.len(), by_shard.len()), (2, files.len()), "some are packed, some wait");
        assert!(by_shard.blocks.iter().all(|block| block.len() < BLOCK_BYTES / 10));
        let mut told = Vec::new();
        by_shard.each(|change| told.push(change.artifact.to_owned())).unwrap();
        assert_eq!(told, files);
        // The same artifacts with other verdicts are other changes.
        let mut denied = Changes::of("main");
        let mut shard = OfShard::default();
        shard.push(&row(("idna", &files[0], "1"), (None, Some(Verdict::Deny)), &why)).unwrap();
        shard.push(&row(("idna", &files[1], "1"), (None, admit), "for another reason")).unwrap();
        denied.add(&shard).unwrap();
        assert_eq!(denied.without(&by_shard).unwrap().len(), 1);
        assert_eq!(by_shard.without(&denied).unwrap().len(), files.len() - 1);
    }

    proptest! {
        /// However many there are, and whatever they are called.
        #[test]
        fn many_changes_come_out_as_they_were_put_in(
            shards in proptest::collection::vec(proptest::collection::vec(("\\PC{0,12}", 0usize..4), 0..6), 0..40),
            why in "[a-z\n]{0,9000}",
        ) {
            let verdicts = [None, Some(Verdict::Admit), Some(Verdict::Hold), Some(Verdict::Deny)];
            let mut changes = Changes::of("main");
            let mut wanted = Vec::new();
            for (n, files) in shards.iter().enumerate() {
                let (name, mut shard) = (format!("p{n}"), OfShard::default());
                for (file, to) in files {
                    shard.push(&row((&name, file, "1"), (None, verdicts[*to]), &why)).unwrap();
                    let to = verdicts[*to].map(Verdict::word);
                    wanted.push(format!("{:?}", VerdictChange {
                        channel: "main", artifact: file, name: &name, version: "1", from: None, to, why: &why,
                    }));
                }
                changes.add(&shard).unwrap();
            }
            prop_assert_eq!(changes.len(), wanted.len());
            prop_assert_eq!(told(&changes), wanted);
            prop_assert!(changes.without(&changes).unwrap().is_empty());
            prop_assert_eq!(changes.without(&Changes::of("main")).unwrap(), changes);
        }
    }
}
