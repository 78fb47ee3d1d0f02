//! What is another in a file than in the last that was admitted: what a person asks who decides on an update.

use std::borrow::Cow;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use serde_json::value::RawValue;

use crate::closure::leading;
use crate::ecosystem::{self, ArtifactKind, Ecosystem};
use crate::fact::FileFact;
use crate::matching::Finding;
use crate::record::Artifact;
use crate::severity::Tenths;
use crate::shard::Entry;
use crate::version::Order;

/// Changes of one sort that are told; the others are counted.
pub const CHANGES_MAX: usize = 200;
/// Longest text of a change, in characters; what is longer is cut.
pub const TEXT_CHARS_MAX: usize = 200;

/// A file that is offered, as far as it matters for which one another is compared with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Admitted {
    /// The subdir of a conda package.
    pub subdir: Option<String>,
    /// The file.
    pub file: String,
    /// Its version.
    pub version: String,
}

/// The file with which `of` is to be compared: of those of its subdir and its kind, if there are any, that with the highest
/// version which is not above its own, else with the highest; of several the one whose build or tags are most like its own.
pub fn last_admitted<'a>(ecosystem: Ecosystem, of: &Admitted, among: &'a [Admitted]) -> Option<&'a Admitted> {
    let is_source = |file: &str| ArtifactKind::of(ecosystem, file) == Some(ArtifactKind::Sdist);
    let is_like = |one: &&Admitted| one.subdir == of.subdir && is_source(&one.file) == is_source(&of.file);
    let alike: Vec<&Admitted> = among.iter().filter(is_like).collect();
    let among = if alike.is_empty() { among.iter().collect() } else { alike };
    let order = Order::of(ecosystem);
    let mut versions: Vec<String> = among.iter().map(|one| one.version.clone()).collect();
    order.sort(&mut versions);
    let is_above = |version: &str| order.compare(version, &of.version).is_none_or(|o| o.is_gt());
    let version = versions.iter().rev().find(|version| !is_above(version)).or(versions.last())?;
    let is_same_kind =
        |file: &str| ArtifactKind::of(ecosystem, file) == ArtifactKind::of(ecosystem, &of.file);
    let rank =
        |one: &&Admitted| (likeness(&one.file, &of.file), is_same_kind(&one.file), Reverse(one.file.clone()));
    among.into_iter().filter(|one| one.version == *version).max_by_key(rank)
}

/// How alike the builds of two conda packages, or the tags of two wheels, are: how many parts are the same, and how far
/// they begin alike.
fn likeness(a: &str, b: &str) -> (usize, usize) {
    let tail = |file: &str| -> Vec<String> {
        let count = if file.ends_with(".whl") { 3 } else { 1 };
        file.rsplitn(count + 1, '-').take(count).map(str::to_owned).collect()
    };
    let (a, b) = (tail(a), tail(b));
    let same = a.iter().zip(&b).filter(|(a, b)| a == b).count();
    let begin = |(a, b): (&String, &String)| a.bytes().zip(b.bytes()).take_while(|(a, b)| a == b).count();
    (same, a.iter().zip(&b).map(begin).sum())
}

/// A file to compare, with all that is known of it.
#[derive(Debug, Clone)]
pub struct Side<'a> {
    /// Its record, read.
    pub artifact: &'a Artifact,
    /// Its record.
    pub entry: &'a Entry,
    /// What opening it told; none where nobody opened it.
    pub opened: Option<&'a FileFact>,
    /// What is known against it.
    pub findings: Cow<'a, [Finding]>,
}

/// Something that is said otherwise. Where one side is missing, that file does not say it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Changed {
    /// What: the name of a dependency, or the key of a record.
    pub name: String,
    /// What the file says that was admitted.
    pub from: Option<String>,
    /// What this one says.
    pub to: Option<String>,
}

/// A value that is another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Step<T> {
    /// Of the file that was admitted.
    pub from: Option<T>,
    /// Of this one.
    pub to: Option<T>,
}

impl<T: PartialEq> Step<T> {
    fn of(from: Option<T>, to: Option<T>) -> Option<Self> {
        (from != to).then_some(Self { from, to })
    }
}

/// A finding that is open against one of the two files and not against the other.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Told {
    /// The vulnerability.
    pub advisory: String,
    /// Its score, if it has one.
    pub score: Option<Tenths>,
    /// Whether it is known to be exploited.
    pub kev: bool,
    /// One line.
    pub summary: String,
}

/// What cannot be compared, since a file was never opened or does not say it where it is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Unknown {
    /// What it depends on.
    Dependencies,
    /// Its licence.
    Licence,
}

/// What is another in a file than in one that was admitted.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Changes {
    /// By name: what it depends on; of wheels only what is required in every environment. Texts on one name are joined.
    pub dependencies: Vec<Changed>,
    /// By name: which versions it does not go with (conda's `constrains`).
    pub constrains: Vec<Changed>,
    /// The licence.
    pub licence: Option<Step<String>>,
    /// The size in bytes.
    pub size: Option<Step<u64>>,
    /// The kind of file. What was a wheel and is a source distribution runs code of its own where it is installed.
    pub kind: Option<Step<&'static str>>,
    /// By key: what else the record says otherwise, but for what differs with each file.
    pub record: Vec<Changed>,
    /// Findings that are open against this one only, worst first.
    pub findings_new: Vec<Told>,
    /// Findings that are open against the admitted one only, worst first.
    pub findings_gone: Vec<Told>,
    /// What is not known of one of the two.
    pub unknown: Vec<Unknown>,
    /// Changes that are left out, since there are more than [`CHANGES_MAX`] of their sort.
    pub left_out: usize,
}

impl Changes {
    /// What is another in `new` than in `old`, of the same package.
    pub fn of(ecosystem: Ecosystem, old: &Side<'_>, new: &Side<'_>) -> Self {
        let mut out = Self { record: record(ecosystem, old.entry, new.entry), ..Self::default() };
        out.dependencies(ecosystem, old, new);
        // What only archives say is compared where both were opened.
        let both = old.opened.is_some() && new.opened.is_some();
        let licence = |side: &Side<'_>| {
            let opened = || side.opened.filter(|_| both).and_then(|file| file.licence.clone());
            side.artifact.licence.clone().or_else(opened)
        };
        let size = |side: &Side<'_>| side.opened.map(|file| file.size).or(side.artifact.size);
        if is_told(ecosystem, old, new) {
            let cut = |text: Option<String>| text.map(|text| cut(&text));
            out.licence = Step::of(licence(old), licence(new))
                .map(|step| Step { from: cut(step.from), to: cut(step.to) });
        } else {
            out.unknown.push(Unknown::Licence);
        }
        out.size = Step::of(size(old), size(new));
        let is_python = ecosystem == Ecosystem::Pypi;
        let kind = |side: &Side<'_>| is_python.then(|| side.artifact.kind.name());
        out.kind = Step::of(kind(old), kind(new));
        (out.findings_new, out.findings_gone) =
            (against(&new.findings, &old.findings), against(&old.findings, &new.findings));
        for list in [&mut out.dependencies, &mut out.constrains, &mut out.record] {
            out.left_out += list.len().saturating_sub(CHANGES_MAX);
            list.truncate(CHANGES_MAX);
        }
        out
    }

    fn dependencies(&mut self, ecosystem: Ecosystem, old: &Side<'_>, new: &Side<'_>) {
        let said = |side: &Side<'_>, key: &str| match ecosystem {
            Ecosystem::Conda => listed(side.entry, key),
            Ecosystem::Pypi => side.opened.map(|file| file.requires.clone()).unwrap_or_default(),
        };
        // Of source distributions it is not read, and some say it only once they are built.
        let is_wheel = |side: &Side<'_>| side.artifact.kind == ArtifactKind::Wheel;
        let is_read = ecosystem == Ecosystem::Conda || is_wheel(old) && is_wheel(new);
        if is_read && is_told(ecosystem, old, new) {
            self.dependencies = by_name(ecosystem, &said(old, "depends"), &said(new, "depends"));
        } else {
            self.unknown.push(Unknown::Dependencies);
        }
        if ecosystem == Ecosystem::Conda {
            self.constrains = by_name(ecosystem, &said(old, "constrains"), &said(new, "constrains"));
        }
    }

    /// Whether nothing is known to be another but the version and what differs with each file.
    pub fn is_empty(&self) -> bool {
        *self == Self { size: self.size.clone(), unknown: self.unknown.clone(), ..Self::default() }
    }
}

/// Whether it can be known of both what only archives of PyPI say, and the records of conda.
fn is_told(ecosystem: Ecosystem, old: &Side<'_>, new: &Side<'_>) -> bool {
    match ecosystem {
        Ecosystem::Conda => true,
        Ecosystem::Pypi => old.opened.is_some() && new.opened.is_some(),
    }
}

/// The texts of a list in a record.
fn listed(entry: &Entry, key: &str) -> Vec<String> {
    let parts = entry.record.parts();
    let found = parts.iter().find(|(k, _)| k == key).map(|(_, text)| *text);
    let texts = found.and_then(|text| serde_json::from_str::<Vec<&RawValue>>(text).ok()).unwrap_or_default();
    texts.into_iter().filter_map(|one| serde_json::from_str(one.get()).ok()).collect()
}

fn by_name(ecosystem: Ecosystem, old: &[String], new: &[String]) -> Vec<Changed> {
    let all = |texts: &[String]| {
        let mut out: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for text in texts {
            let word = leading(text);
            // What begins with no name, such as a path, is its own.
            let name = ecosystem::canonical_name(ecosystem, word).unwrap_or_else(|| text.clone());
            out.entry(name).or_default().insert(text.split_whitespace().collect::<Vec<_>>().join(" "));
        }
        let told = |(name, texts): (String, BTreeSet<String>)| {
            (name, texts.into_iter().collect::<Vec<_>>().join(" and "))
        };
        out.into_iter().map(told).collect()
    };
    differing(&all(old), &all(new))
}

/// Keys that differ with each file, or are compared by themselves.
fn is_own(ecosystem: Ecosystem, key: &str) -> bool {
    let own: &[&str] = match ecosystem {
        Ecosystem::Conda => &[
            "build",
            "build_number",
            "constrains",
            "depends",
            "fn",
            "legacy_bz2_md5",
            "legacy_bz2_size",
            "license",
            "md5",
            "name",
            "sha256",
            "size",
            "subdir",
            "timestamp",
            "version",
        ],
        Ecosystem::Pypi => &[
            "core-metadata",
            "data-dist-info-metadata",
            "dist-info-metadata",
            "filename",
            "hashes",
            "size",
            "upload-time",
        ],
    };
    own.contains(&key)
}

/// What else two records say otherwise: of addresses only the host, of an attestation only whether there is one.
fn record(ecosystem: Ecosystem, old: &Entry, new: &Entry) -> Vec<Changed> {
    let all = |entry: &Entry| -> BTreeMap<String, String> {
        let parts = entry.record.parts();
        let others = parts.into_iter().filter(|(key, text)| !is_own(ecosystem, key) && *text != "null");
        let told = |(key, text): (Cow<'_, str>, &str)| {
            let plain = serde_json::from_str::<String>(text).unwrap_or_else(|_| text.to_owned());
            let said = match &*key {
                "url" => host(&plain)?,
                "provenance" => "stated".to_owned(),
                _ => plain,
            };
            Some((key.into_owned(), said))
        };
        others.filter_map(told).collect()
    };
    differing(&all(old), &all(new))
}

/// The host of an address, if it names one.
fn host(address: &str) -> Option<String> {
    let (scheme, rest) = address.split_once("://")?;
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let authority = rest.get(..end)?;
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    Some(format!("{scheme}://{host}"))
}

fn differing(old: &BTreeMap<String, String>, new: &BTreeMap<String, String>) -> Vec<Changed> {
    let names: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    let of = |name: &String| {
        let (from, to) = (old.get(name), new.get(name));
        let told = |text: Option<&String>| text.map(|text| cut(text));
        (from != to).then(|| Changed { name: cut(name), from: told(from), to: told(to) })
    };
    names.into_iter().filter_map(of).collect()
}

/// What is open among `findings` and not among `others`, worst first.
fn against(findings: &[Finding], others: &[Finding]) -> Vec<Told> {
    let open = |list: &[Finding]| -> BTreeSet<String> {
        list.iter().filter(|f| f.status.is_open()).map(|f| f.advisory.clone()).collect()
    };
    let others = open(others);
    let only = findings.iter().filter(|f| f.status.is_open() && !others.contains(&f.advisory));
    let mut out: Vec<Told> = only
        .map(|f| Told {
            advisory: f.advisory.clone(),
            score: f.score.as_ref().map(|score| score.score),
            kev: f.kev,
            summary: f.summary.clone(),
        })
        .collect();
    out.sort_by(|a, b| (b.kev, b.score).cmp(&(a.kev, a.score)).then_with(|| a.advisory.cmp(&b.advisory)));
    out
}

fn cut(text: &str) -> String {
    text.chars().take(TEXT_CHARS_MAX).collect()
}
