//! What depends on files of a package: who requires them, and whether anything else that is offered would do.
//!
//! The same is required as for closure: what stands under a condition requires nothing. What is not understood of a
//! dependency restricts nothing, so that more files may be named than depend on it, and of none is it said wrongly that
//! nothing else would do. Several dependencies of one file on the name, and its `constrains` on it, restrict the same
//! candidate.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::Serialize;

use super::{COMPARISONS_MAX, DEPENDS_MAX, Numbered, Requirement, Said};
use crate::ecosystem::{self, Ecosystem};
use crate::fact::Facts;
use crate::shard::{Entry, Shard, ShardKey};

/// Packages that are named of those that depend on something; all are counted.
pub const DEPENDENTS_NAMED_MAX: usize = 10;
/// Different needs of one package of which it is remembered what satisfies them. A genuine channel has some hundred.
const NEEDS_KEPT_MAX: usize = 10_000;
/// The subdir whose packages go with those of every platform.
const NOARCH: &str = "noarch";

/// A file that requires packages of which it is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Requiring {
    /// The file.
    pub file: String,
    /// Its version.
    pub version: String,
    /// By the name that it requires, all that it says of that name.
    pub needs: BTreeMap<String, Vec<String>>,
}

/// Which files of a conda shard require a name that is asked about.
pub fn requiring(shard: &Shard, is_asked: impl Fn(&str) -> bool) -> Vec<Requiring> {
    let said = |file: &String, entry| {
        let said = Said::of(shard, file, entry, None)?;
        let [depends, constrains] = said.needs.read()?;
        Some((file.clone(), said.version.into_owned(), depends, constrains))
    };
    let all = shard.entries.iter().filter_map(|(file, entry)| said(file, entry));
    all.filter_map(|said| of_file(shard.ecosystem, said, &is_asked)).collect()
}

/// Which files of a PyPI project require a name that is asked about, as far as they were opened.
pub fn requiring_by_facts(project: &str, facts: &Facts, is_asked: impl Fn(&str) -> bool) -> Vec<Requiring> {
    let said = |(file, fact): (&String, &_)| {
        let fact: &crate::fact::Fact = fact;
        let version = ecosystem::python_file_version(project, file)?;
        let requires = fact.file.as_ref()?.requires.clone().into_iter().map(Cow::Owned).collect();
        of_file(Ecosystem::Pypi, (file.clone(), version, requires, Vec::new()), &is_asked)
    };
    facts.files.iter().filter_map(said).collect()
}

type FileSaid<'a> = (String, String, Vec<Cow<'a, str>>, Vec<Cow<'a, str>>);

fn of_file(
    ecosystem: Ecosystem,
    (file, version, depends, constrains): FileSaid<'_>,
    is_asked: &impl Fn(&str) -> bool,
) -> Option<Requiring> {
    let is_told = |text: &str| Requirement::parse(ecosystem, text).is_some();
    let mut needs: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for text in depends.into_iter().take(DEPENDS_MAX) {
        if let Some(name) = required(ecosystem, &text).filter(|name| is_asked(name) && is_told(&text)) {
            needs.entry(name).or_default().push(text.into_owned());
        }
    }
    if needs.is_empty() {
        return None;
    }
    for text in constrains.into_iter().take(DEPENDS_MAX) {
        let needed = required(ecosystem, &text).and_then(|name| needs.get_mut(&name));
        if let Some(texts) = needed.filter(|_| is_told(&text)) {
            texts.push(text.into_owned());
        }
    }
    needs.values_mut().for_each(|texts| {
        texts.sort();
        texts.dedup();
    });
    Some(Requiring { file, version, needs })
}

/// The name that stands at the beginning of a dependency. It is read for millions of them, so that nothing more is.
fn required(ecosystem: Ecosystem, text: &str) -> Option<String> {
    ecosystem::canonical_name(ecosystem, leading(text))
}

/// The word at the beginning of a dependency.
pub(crate) fn leading(text: &str) -> &str {
    let text = text.trim_start();
    let end = text.find(|c: char| !c.is_ascii_alphanumeric() && !"._-".contains(c)).unwrap_or(text.len());
    text.get(..end).unwrap_or_default()
}

/// A file of a package that is asked about.
#[derive(Debug)]
struct Candidate {
    subdir: Option<String>,
    version: Option<Numbered>,
    build: String,
    build_number: u64,
    is_offered: bool,
    group: Option<usize>,
}

/// What satisfies what others need of one package. Some of its files are asked about, in groups.
#[derive(Debug)]
pub struct Package {
    ecosystem: Ecosystem,
    candidates: Vec<Candidate>,
    /// By the subdir of who needs, and all that it says of the name.
    kept: BTreeMap<(Option<String>, Vec<String>), Vec<Satisfying>>,
    comparisons: u32,
}

/// A group of files of which one satisfies a need.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Satisfying {
    /// The group.
    pub group: usize,
    /// Whether no file outside the group that is offered satisfies it as well.
    pub is_only: bool,
}

impl Package {
    /// One without files.
    pub const fn new(ecosystem: Ecosystem) -> Self {
        Self { ecosystem, candidates: Vec::new(), kept: BTreeMap::new(), comparisons: 0 }
    }

    /// Adds a file: whether it is offered, and in which of the groups that are asked about it is, if in one. What cannot be
    /// read satisfies nothing.
    pub fn add(&mut self, shard: &Shard, file: &str, entry: &Entry, is_offered: bool, group: Option<usize>) {
        if let Some(said) = Said::of(shard, file, entry, None) {
            self.candidates.push(Candidate {
                subdir: shard.subdir.clone(),
                version: Numbered::read(self.ecosystem, &said.version),
                build: said.build.into_owned(),
                build_number: said.build_number,
                is_offered,
                group,
            });
        }
    }

    /// The groups that satisfy what a file in `subdir` says of this package. None where it would take too many comparisons
    /// ([`COMPARISONS_MAX`] for all that is asked of one package).
    pub fn satisfying(&mut self, subdir: Option<&str>, texts: &[String]) -> Option<Vec<Satisfying>> {
        let key = (subdir.map(str::to_owned), texts.to_vec());
        if let Some(known) = self.kept.get(&key) {
            return Some(known.clone());
        }
        let found = self.find(subdir, texts)?;
        if self.kept.len() >= NEEDS_KEPT_MAX {
            self.kept.clear();
        }
        self.kept.insert(key, found.clone());
        Some(found)
    }

    fn find(&mut self, subdir: Option<&str>, texts: &[String]) -> Option<Vec<Satisfying>> {
        let requirements: Vec<Requirement> =
            texts.iter().filter_map(|text| Requirement::parse(self.ecosystem, text)).collect();
        let spent = u32::try_from(self.candidates.len()).unwrap_or(u32::MAX);
        self.comparisons = self.comparisons.saturating_add(spent);
        if self.comparisons > COMPARISONS_MAX {
            return None;
        }
        let goes_with = |candidate: &&Candidate| {
            let (own, theirs) = (candidate.subdir.as_deref(), subdir);
            own == theirs || own == Some(NOARCH) || theirs == Some(NOARCH)
        };
        let fits = |candidate: &&Candidate| {
            requirements.iter().all(|one| {
                one.allows_version(candidate.version.as_ref())
                    && one.allows_build(&candidate.build, candidate.build_number)
            })
        };
        let (mut offered, mut groups) = (0_usize, BTreeMap::<usize, usize>::new());
        for candidate in self.candidates.iter().filter(goes_with).filter(fits) {
            let counted = usize::from(candidate.is_offered);
            offered += counted;
            if let Some(group) = candidate.group {
                *groups.entry(group).or_default() += counted;
            }
        }
        let told = groups.into_iter().map(|(group, own)| Satisfying { group, is_only: offered == own });
        Some(told.collect())
    }
}

/// A file that depends on what is asked about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Dependent {
    /// Where it lies: subdir and file for conda, file for PyPI.
    pub artifact: String,
    /// The package.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Whether it is offered; else it is held.
    pub offered: bool,
    /// What it requires, as its record writes it.
    pub requires: String,
    /// Whether nothing else that is offered satisfies that.
    pub only_this: bool,
}

impl Dependent {
    /// A file in `key` that requires this.
    pub fn of(
        key: &ShardKey,
        requiring: &Requiring,
        texts: &[String],
        offered: bool,
        only_this: bool,
    ) -> Self {
        Self {
            artifact: key.place(&requiring.file),
            name: key.name.clone(),
            version: requiring.version.clone(),
            offered,
            requires: texts.join(" and "),
            only_this,
        }
    }
}

/// What depends on what is asked about: counted, and the first few by name.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Dependents {
    /// How many files that are offered require it.
    pub offered: u64,
    /// For how many of those nothing else that is offered would do.
    pub offered_only_this: u64,
    /// How many files that are held require it.
    pub held: u64,
    /// For how many of those nothing else that is offered would do.
    pub held_only_this: u64,
    /// How many files require the package, and in which versions would take too long to tell.
    pub untold: u64,
    /// One file of each of the first packages: those before others for which nothing else would do, then those that are
    /// offered.
    pub first: Vec<Dependent>,
}

impl Dependents {
    /// Counts one more.
    pub fn add(&mut self, one: Dependent) {
        let (all, only) = if one.offered {
            (&mut self.offered, &mut self.offered_only_this)
        } else {
            (&mut self.held, &mut self.held_only_this)
        };
        *all += 1;
        *only += u64::from(one.only_this);
        fn rank(one: &Dependent) -> (bool, bool, &str) {
            (!one.only_this, !one.offered, &one.artifact)
        }
        if let Some(same) = self.first.iter().position(|held| held.name == one.name) {
            if self.first.get(same).is_some_and(|held| rank(held) <= rank(&one)) {
                return;
            }
            self.first.remove(same);
        }
        let at = self.first.partition_point(|held| rank(held) <= rank(&one));
        if at < DEPENDENTS_NAMED_MAX {
            self.first.insert(at, one);
            self.first.truncate(DEPENDENTS_NAMED_MAX);
        }
    }
}
