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

mod dependents;
mod graph;
mod requirement;

use std::borrow::Cow;
use std::collections::HashMap;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::canon::Canonical;
use crate::ecosystem::{self, Ecosystem};
use crate::fact::Facts;
use crate::ordered::Forward;
use crate::policy::Action;
use crate::record::{self, Written};
use crate::shard::{Entry, Shard, ShardKey};
use crate::verdict::{Judged, Judgement, RuleHit, Verdict, builtin};

pub(crate) use dependents::leading;
pub use dependents::{
    DEPENDENTS_NAMED_MAX, Dependent, Dependents, Package, Requiring, Satisfying, requiring,
    requiring_by_facts,
};
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
    needs: Vec<PartNeeds>,
    nodes: Vec<PartNode>,
}

/// What some nodes of a part depend on, and what they constrain: builds of one release mostly say the same.
#[derive(Debug, Clone, PartialEq, Eq)]
struct PartNeeds {
    depends: Vec<u32>,
    constrains: Vec<u32>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct PartNode {
    file: String,
    version: u32,
    build: u32,
    build_number: u64,
    needs: u32,
    /// Before, and now.
    is_offered: [bool; 2],
    is_asked: bool,
}

/// What a record, or the artifact itself, says of what it needs.
struct Said<'a> {
    version: Cow<'a, str>,
    build: Cow<'a, str>,
    build_number: u64,
    needs: Needs<'a>,
}

/// What it depends on, and what it constrains.
#[derive(PartialEq, Eq, Hash)]
enum Needs<'a> {
    /// As the record writes both: most records of a name write what another one wrote.
    Written(List<'a>, List<'a>),
    /// What the artifact requires.
    Required(&'a [String]),
}

/// A list of a record, as it is written.
type List<'a> = Written<'a>;

/// A list without anything in it.
const fn no_list<'a>() -> List<'a> {
    Written("[]")
}

/// The texts in a list; none if it is no list.
fn read_list<'a>(list: &List<'a>) -> Option<Vec<Cow<'a, str>>> {
    let all: Vec<&'a RawValue> = serde_json::from_str(list.0).ok()?;
    Some(all.into_iter().filter_map(|one| record::string(one.get())).take(DEPENDS_MAX).collect())
}

impl<'a> Needs<'a> {
    fn read(&self) -> Option<[Vec<Cow<'a, str>>; 2]> {
        match self {
            Self::Written(depends, constrains) => Some([read_list(depends)?, read_list(constrains)?]),
            Self::Required(all) => {
                let all = all.iter().take(DEPENDS_MAX);
                Some([all.map(|one| Cow::Borrowed(one.as_str())).collect(), Vec::new()])
            }
        }
    }
}

/// What matters of a conda record, of which there are hundreds of thousands: nothing is copied that need not be.
#[derive(Deserialize)]
#[cfg_attr(test, derive(Debug, PartialEq))]
struct Record<'a> {
    #[serde(borrow)]
    version: Cow<'a, str>,
    #[serde(borrow, default)]
    build: Cow<'a, str>,
    #[serde(borrow)]
    build_number: Option<Written<'a>>,
    #[serde(borrow, default = "no_list")]
    depends: List<'a>,
    #[serde(borrow, default = "no_list")]
    constrains: List<'a>,
}

impl<'a> Record<'a> {
    fn read(record: &'a Canonical) -> Option<Self> {
        Self::plain(record).or_else(|| record.read().ok())
    }

    /// The same without a parser; none of anything unusual.
    fn plain(record: &'a Canonical) -> Option<Self> {
        let mut version = None;
        let (mut build, mut build_number) = ("", None);
        let (mut depends, mut constrains) = (no_list(), no_list());
        for (key, value) in record.fields() {
            match key {
                "version" => version = Some(record::plain(value)?),
                "build" => build = record::plain(value)?,
                "build_number" => build_number = (value != "null").then_some(Written(value)),
                "depends" => depends = Written(value),
                "constrains" => constrains = Written(value),
                _ => {}
            }
        }
        let (version, build) = (Cow::Borrowed(version?), Cow::Borrowed(build));
        Some(Self { version, build, build_number, depends, constrains })
    }
}

impl<'a> Said<'a> {
    fn of(shard: &'a Shard, file: &str, entry: &'a Entry, facts: Option<&'a Facts>) -> Option<Self> {
        match shard.ecosystem {
            Ecosystem::Conda => {
                let record = Record::read(&entry.record)?;
                Some(Self {
                    version: record.version,
                    build: record.build,
                    build_number: record.build_number.and_then(|n| n.0.parse().ok()).unwrap_or_default(),
                    needs: Needs::Written(record.depends, record.constrains),
                })
            }
            Ecosystem::Pypi => {
                let opened = facts.and_then(|facts| facts.files.get(file)?.file.as_ref());
                Some(Self {
                    version: Cow::Owned(ecosystem::python_file_version(&shard.name, file)?),
                    build: Cow::Borrowed(""),
                    build_number: 0,
                    needs: Needs::Required(opened.map_or(&[], |file| &file.requires)),
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
        let mut texts: HashMap<Cow<'_, str>, u32> = HashMap::new();
        let mut needs: HashMap<Needs<'_>, u32> = HashMap::new();
        let mut before = known.before.map(|before| Forward::new(&before.artifacts));
        let mut now = Forward::new(&known.now.artifacts);
        let current = known
            .upstream
            .into_iter()
            .flat_map(|shard| shard.entries.iter().map(move |(f, e)| (shard, f, e)));
        let is_gone = |file: &String| known.upstream.is_none_or(|shard| !shard.entries.contains_key(file));
        // Mostly it lists the same, which is the same shard then.
        let is_other =
            |listed: &&Shard| known.upstream.is_none_or(|upstream| !std::ptr::eq(upstream, *listed));
        let listed = known
            .listed
            .filter(is_other)
            .into_iter()
            .flat_map(|shard| shard.entries.iter().map(move |(f, e)| (shard, f, e)));
        for (shard, file, entry) in current.chain(listed.filter(|(_, file, _)| is_gone(file))) {
            let Some(said) = Said::of(shard, file, entry, known.facts) else { continue };
            let mut text = |text| intern(&mut texts, text, |text| part.texts.push(text.to_owned()));
            let needs = match needs.get(&said.needs) {
                Some(at) => *at,
                None => {
                    // A record whose needs cannot be read cannot be read.
                    let Some(lists) = said.needs.read() else { continue };
                    let [depends, constrains] =
                        lists.map(|list| list.into_iter().map(&mut text).collect::<Vec<u32>>());
                    let at = position(part.needs.len());
                    part.needs.push(PartNeeds { depends, constrains });
                    needs.insert(said.needs, at);
                    at
                }
            };
            let was = before.as_mut().and_then(|before| before.get(file));
            let is = now.get(file);
            part.nodes.push(PartNode {
                file: file.clone(),
                version: text(said.version),
                build: text(said.build),
                build_number: said.build_number,
                needs,
                is_offered: [
                    was.is_some_and(|judged| is_offered(judged, false)),
                    is.is_some_and(|judged| is_offered(judged, known.before_fetch)),
                ],
                is_asked: is.is_some_and(|judged| is_offered(judged, true)),
            });
        }
        part
    }

    fn key(&self) -> ShardKey {
        ShardKey::parse(&self.key)
    }
}

/// The number of a text, which it is given when it is met first.
fn intern<'a>(texts: &mut HashMap<Cow<'a, str>, u32>, text: Cow<'a, str>, new: impl FnOnce(&str)) -> u32 {
    if let Some(at) = texts.get(&text) {
        return *at;
    }
    let at = position(texts.len());
    new(&text);
    texts.insert(text, at);
    at
}

/// A position; a channel has some millions of anything at most.
fn position(at: usize) -> u32 {
    u32::try_from(at).unwrap_or(u32::MAX)
}

/// Whether the verdict is to offer it; or would be, if it were fetched and opened.
fn is_offered(judged: &Judged, if_fetched: bool) -> bool {
    let is_about_bytes =
        |hit: &RuleHit| hit.unopened || matches!(hit.rule.as_str(), builtin::NOT_FETCHED | builtin::MISMATCH);
    let against = || judged.rules.iter().filter(|hit| hit.waived_by.is_none() && hit.action >= Action::Hold);
    let only_lacks_bytes = || against().next().is_some() && against().all(is_about_bytes);
    !judged.gone && (judged.verdict == Verdict::Admit || (if_fetched && only_lacks_bytes()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::record::tests::{member, of_members};

    proptest! {
        #[test]
        fn what_is_read_without_a_parser_is_what_a_parser_reads(members in proptest::collection::vec(member(), 0..12)) {
            let record = of_members(members);
            if let Some(plain) = Record::plain(&record) {
                prop_assert_eq!(plain, record.read::<Record<'_>>().unwrap());
            }
        }
    }
}
