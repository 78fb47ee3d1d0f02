//! Possible closure: what can no longer be installed because of what is not offered.
//!
//! An artifact is *impossible* if one of its dependencies had candidates in the channel and none is left: each is not
//! offered, or impossible itself. It is the greatest fixpoint: everything that is offered counts as possible until a
//! dependency of it has nothing left. What cannot be told counts as possible: a dependency on a name that the channel never
//! had (another channel's, or a virtual package such as `__glibc`), one under a condition (`when`, CEP 43; a marker of
//! PEP 508), one of an optional group (`extra_depends`, CEP 44; extras), a spec that is not understood, and what a file of PyPI
//! requires that nobody opened. So an artifact that is impossible truly is, but for one that was made to take long
//! ([`COMPARISONS_MAX`]), which counts as if it were; one that is possible may still not be, since two dependencies that are
//! possible each may contradict each other.
//!
//! Several dependencies on one name, and the artifact's own `constrains` on it, restrict the same candidate. A platform's
//! packages go with each other and with `noarch`; a `noarch` package is impossible if it is so on every platform.

mod graph;
mod requirement;

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::ecosystem::{self, Ecosystem};
use crate::fact::Facts;
use crate::policy::Action;
use crate::record::string;
use crate::shard::{Entry, Shard, ShardKey};
use crate::verdict::{Judged, Judgement, RuleHit, Verdict, builtin};

pub use graph::{COMPARISONS_MAX, Graph, Impossible, When};
pub use requirement::{Numbered, Requirement, has_expression, is_bounded};

/// Most dependencies of one artifact that are looked at.
pub const DEPENDS_MAX: usize = 2000;

/// What closure needs of one shard. Texts that repeat stand once.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Part {
    /// The shard.
    pub key: String,
    texts: Vec<String>,
    nodes: Vec<PartNode>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct PartNode {
    file: String,
    version: u32,
    build: u32,
    build_number: u64,
    depends: Vec<u32>,
    constrains: Vec<u32>,
    /// Before, and now.
    is_offered: [bool; 2],
    is_asked: bool,
}

/// What a record, or the artifact itself, says of what it needs.
struct Said<'a> {
    version: Cow<'a, str>,
    build: Cow<'a, str>,
    build_number: u64,
    depends: Vec<Cow<'a, str>>,
    constrains: Vec<Cow<'a, str>>,
}

/// What matters of a conda record, of which there are hundreds of thousands: nothing is copied that need not be.
#[derive(Deserialize)]
struct Record<'a> {
    #[serde(borrow)]
    version: Cow<'a, str>,
    #[serde(borrow, default)]
    build: Cow<'a, str>,
    #[serde(borrow)]
    build_number: Option<&'a RawValue>,
    #[serde(borrow, default)]
    depends: Vec<&'a RawValue>,
    #[serde(borrow, default)]
    constrains: Vec<&'a RawValue>,
}

impl<'a> Said<'a> {
    fn of(shard: &'a Shard, file: &str, entry: &'a Entry, facts: Option<&'a Facts>) -> Option<Self> {
        match shard.ecosystem {
            Ecosystem::Conda => {
                let record: Record<'a> = entry.record.read().ok()?;
                let texts = |list: Vec<&'a RawValue>| list.into_iter().filter_map(string).collect();
                Some(Self {
                    version: record.version,
                    build: record.build,
                    build_number: record.build_number.and_then(|n| n.get().parse().ok()).unwrap_or_default(),
                    depends: texts(record.depends),
                    constrains: texts(record.constrains),
                })
            }
            Ecosystem::Pypi => {
                let opened = facts.and_then(|facts| facts.files.get(file)?.file.as_ref());
                let requires = opened.into_iter().flat_map(|file| &file.requires);
                Some(Self {
                    version: Cow::Owned(ecosystem::python_file_version(&shard.name, file)?),
                    build: Cow::Borrowed(""),
                    build_number: 0,
                    depends: requires.map(|one| Cow::Borrowed(one.as_str())).collect(),
                    constrains: Vec::new(),
                })
            }
        }
    }
}

/// What closure needs to know of a shard.
#[derive(Debug, Clone, Copy)]
pub struct Known<'a> {
    /// What the source lists.
    pub upstream: Option<&'a Shard>,
    /// What kept snapshots list: what the source lists no longer was there.
    pub listed: Option<&'a Shard>,
    /// What its files say of themselves.
    pub facts: Option<&'a Facts>,
    /// The judgement before.
    pub before: Option<&'a Judgement>,
    /// The judgement now.
    pub now: &'a Judgement,
    /// Whether what only lacks its bytes counts as offered: it is asked what would be if they were fetched.
    pub before_fetch: bool,
}

impl Part {
    /// What a shard adds. Records that cannot be read add nothing.
    pub fn of(key: &str, known: &Known<'_>) -> Self {
        let mut part = Self { key: key.to_owned(), ..Self::default() };
        let mut texts: BTreeMap<String, u32> = BTreeMap::new();
        let current = known
            .upstream
            .into_iter()
            .flat_map(|shard| shard.entries.iter().map(move |(f, e)| (shard, f, e)));
        let is_gone = |file: &String| known.upstream.is_none_or(|shard| !shard.entries.contains_key(file));
        let listed =
            known.listed.into_iter().flat_map(|shard| shard.entries.iter().map(move |(f, e)| (shard, f, e)));
        for (shard, file, entry) in current.chain(listed.filter(|(_, file, _)| is_gone(file))) {
            let Some(said) = Said::of(shard, file, entry, known.facts) else { continue };
            let mut text = |text: &str| -> u32 {
                if let Some(at) = texts.get(text) {
                    return *at;
                }
                let at = u32::try_from(part.texts.len()).unwrap_or(u32::MAX);
                part.texts.push(text.to_owned());
                texts.insert(text.to_owned(), at);
                at
            };
            let mut all = |list: &[Cow<'_, str>]| -> Vec<u32> {
                list.iter().take(DEPENDS_MAX).map(|one| text(one)).collect()
            };
            let (depends, constrains) = (all(&said.depends), all(&said.constrains));
            let of = |judgement: &'_ Judgement, before_fetch| {
                judgement.artifacts.get(file).is_some_and(|judged| is_offered(judged, before_fetch))
            };
            part.nodes.push(PartNode {
                file: file.clone(),
                version: text(&said.version),
                build: text(&said.build),
                build_number: said.build_number,
                depends,
                constrains,
                is_offered: [known.before.is_some_and(|b| of(b, false)), of(known.now, known.before_fetch)],
                is_asked: of(known.now, true),
            });
        }
        part
    }

    fn key(&self) -> ShardKey {
        ShardKey::parse(&self.key)
    }
}

/// Whether the verdict is to offer it; or would be, if it were fetched and opened.
fn is_offered(judged: &Judged, if_fetched: bool) -> bool {
    let is_about_bytes =
        |hit: &RuleHit| hit.unopened || matches!(hit.rule.as_str(), builtin::NOT_FETCHED | builtin::MISMATCH);
    let against = || judged.rules.iter().filter(|hit| hit.waived_by.is_none() && hit.action >= Action::Hold);
    let only_lacks_bytes = || against().next().is_some() && against().all(is_about_bytes);
    !judged.gone && (judged.verdict == Verdict::Admit || (if_fetched && only_lacks_bytes()))
}
