//! Roots: which keys release bundles, how many of them it takes, and who may change that.
//!
//! A root is a small document with versions. Each version is signed by enough of its own root keys and, from the second
//! on, by enough of those of the version before it, which it names by hash; so whoever believes one version believes what
//! follows from it, no version can be left out, and what a version leaves away counts no longer. A root file holds all
//! versions from the first on.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::bundle::{SignatureLine, print_of};
use crate::canon;
use crate::channel::is_plain_name;
use crate::hex;
use crate::id::Digest;
use crate::time::Time;
use crate::unseen::has_unseen;

/// Largest root file, in bytes.
pub const ROOT_BYTES_MAX: u64 = 1 << 20;
/// Versions of a root.
const VERSIONS_MAX: usize = 1000;
/// Keys in one role.
const KEYS_MAX: usize = 100;
/// Longest name of a person, in characters.
const PERSON_CHARS_MAX: usize = 100;

/// Says whether a signature fits a message. The curve is not this room's.
pub type Verify<'a> = &'a dyn Fn(&SignatureLine, &[u8]) -> bool;

/// One version of a root.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Root {
    /// What it is called; the same in all versions.
    pub name: String,
    /// The version before it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous: Option<Digest>,
    /// The keys that release bundles.
    pub release: Signers,
    /// The keys that sign versions of this root, and nothing else.
    pub root: Signers,
    /// After this moment it releases nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub valid_until: Option<Time>,
    /// From 1.
    pub version: u64,
}

/// What the bytes that are signed call themselves, so that they can be taken for nothing else.
const ROOT_KIND: &str = "airlock.root.v1";

/// Keys, of which so many must sign.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Signers {
    /// Public key in lower-case hexadecimal, to the person whose it is.
    pub keys: BTreeMap<String, String>,
    /// How many of them must sign.
    pub threshold: u32,
}

/// Who signed, and how many are missing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Tally {
    /// Who signed, by name.
    pub signed: Vec<String>,
    /// Who may still.
    pub open: Vec<String>,
    /// How many more must.
    pub missing: u32,
}

impl Signers {
    /// Counts the signatures over a message: each key once, however often it signed.
    pub fn tally(&self, lines: &[SignatureLine], message: &[u8], verify: Verify<'_>) -> Tally {
        let has_signed = |key: &str| {
            let mut by_it = lines.iter().filter(|line| hex::encode(&line.public_key) == key);
            by_it.any(|line| verify(line, message))
        };
        let (mut signed, mut open) = (Vec::new(), Vec::new());
        for (key, person) in &self.keys {
            if has_signed(key) { &mut signed } else { &mut open }.push(person.clone());
        }
        signed.sort_unstable();
        open.sort_unstable();
        let count = u32::try_from(signed.len()).unwrap_or(u32::MAX);
        Tally { signed, open, missing: self.threshold.saturating_sub(count) }
    }

    /// Whose key this is, if it is one of them.
    pub fn person(&self, public_key: &[u8; 32]) -> Option<&str> {
        self.keys.get(&hex::encode(public_key)).map(String::as_str)
    }

    fn check(&self, role: &str) -> Result<(), String> {
        let count = self.keys.len();
        if count > KEYS_MAX {
            return Err(format!("has more than {KEYS_MAX} {role} keys"));
        }
        if self.threshold == 0 || self.threshold as usize > count {
            return Err(format!("asks for {} signatures of {count} {role} keys", self.threshold));
        }
        let mut people = BTreeSet::new();
        for (key, person) in &self.keys {
            // One spelling for a key, so that it is no second one.
            if hex::decode::<32>(key).is_none_or(|bytes| hex::encode(&bytes) != *key) {
                return Err(format!("has a {role} key that is not 64 lower-case hexadecimal digits"));
            }
            if !is_person(person) {
                return Err(format!("has a {role} key whose person has no name on one line"));
            }
            if !people.insert(person.to_lowercase()) {
                return Err(format!("has two {role} keys of `{person}`: each person signs once"));
            }
        }
        Ok(())
    }

    fn change(&mut self, change: &SignersChange, role: &str) -> Result<(), String> {
        for person in &change.remove {
            let before = self.keys.len();
            self.keys.retain(|_, held| held != person);
            if self.keys.len() == before {
                return Err(format!("no {role} key is `{person}`'s"));
            }
        }
        for (person, key) in &change.add {
            if let Some(held) = self.keys.insert(hex::encode(key), person.clone()) {
                return Err(format!("the {role} key of `{person}` is `{held}`'s already"));
            }
        }
        self.threshold = change.threshold.unwrap_or(self.threshold);
        Ok(())
    }
}

fn is_person(name: &str) -> bool {
    !name.is_empty() && name.trim() == name && name.chars().count() <= PERSON_CHARS_MAX && !has_unseen(name)
}

/// What a new version has otherwise than the one before it.
#[derive(Clone, Debug, Default)]
pub struct Change {
    /// Of the root keys.
    pub root: SignersChange,
    /// Of the release keys.
    pub release: SignersChange,
    /// Until when it is valid; none: as before.
    pub valid_until: Option<Time>,
}

/// What changes of the keys of one role. Keys are taken away first, so that a person may get another one.
#[derive(Clone, Debug, Default)]
pub struct SignersChange {
    /// The persons whose keys go.
    pub remove: Vec<String>,
    /// Keys that come, each with its person.
    pub add: Vec<(String, [u8; 32])>,
    /// How many must sign; none: as many as before.
    pub threshold: Option<u32>,
}

impl Root {
    /// The first version of a root.
    ///
    /// # Errors
    ///
    /// What is wrong with it, as the rest of a sentence about the version.
    pub fn first(name: &str, change: &Change) -> Result<Self, String> {
        let none = Signers::default();
        Self {
            name: name.to_owned(),
            previous: None,
            release: none.clone(),
            root: none,
            valid_until: None,
            version: 0,
        }
        .with(change)
    }

    /// The version that follows this one.
    ///
    /// # Errors
    ///
    /// As for [`Root::first`].
    pub fn next(&self, change: &Change) -> Result<Self, String> {
        Self { previous: Some(self.id().map_err(|e| e.to_string())?), ..self.clone() }.with(change)
    }

    fn with(mut self, change: &Change) -> Result<Self, String> {
        self.version += 1;
        self.root.change(&change.root, "root")?;
        self.release.change(&change.release, "release")?;
        self.valid_until = change.valid_until.or(self.valid_until);
        self.check()?;
        Ok(self)
    }

    /// The bytes that its signatures cover: canonical JSON that says its kind.
    pub fn message(&self) -> Result<Vec<u8>, serde_json::Error> {
        canon::write(self, Some(("kind", ROOT_KIND))).map(String::into_bytes)
    }

    /// Its name: the hash of those bytes.
    pub fn id(&self) -> Result<Digest, serde_json::Error> {
        self.message().map(|bytes| Digest::of(&bytes))
    }

    /// Whether it releases nothing any more.
    pub fn has_ended(&self, now: Time) -> bool {
        self.valid_until.is_some_and(|until| until < now)
    }

    fn check(&self) -> Result<(), String> {
        if !is_plain_name(&self.name) {
            return Err("has no name of lower-case letters, digits, `_`, `-` and `.`".to_owned());
        }
        self.root.check("root")?;
        self.release.check("release")?;
        match self.release.keys.iter().find(|(key, _)| self.root.keys.contains_key(*key)) {
            // What signs every day lies where it can be reached, and may not decide who follows it.
            Some((_, person)) => Err(format!("has the release key of `{person}` among its root keys")),
            None => Ok(()),
        }
    }
}

/// A version with its signatures.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignedRoot {
    /// The version.
    pub root: Root,
    /// Lines as in `AIRLOCK.sig`, over [`Root::message`].
    pub signatures: Vec<String>,
}

impl SignedRoot {
    fn lines(&self) -> Option<Vec<SignatureLine>> {
        SignatureLine::parse_all(&self.signatures.join("\n"))
    }
}

/// All versions of a root, oldest first; the newest may lack signatures.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RootFile {
    /// The versions.
    pub versions: Vec<SignedRoot>,
}

/// Why a root file is not to be believed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RootError {
    /// It cannot be read.
    #[error("it is no root file: {0}")]
    Shape(String),
    /// A version is wrong by itself.
    #[error("version {0} {1}")]
    Version(u64, String),
    /// A version does not follow from the one before it.
    #[error("version {0} does not follow from the one before it: {1}")]
    Order(u64, &'static str),
    /// A version lacks signatures.
    #[error("version {version} lacks {missing} of the signatures that {whose} ask for")]
    Unsigned {
        /// The version.
        version: u64,
        /// How many.
        missing: u32,
        /// Whose rule it is.
        whose: &'static str,
    },
    /// Two chains of one root part.
    #[error("there are two different versions {0} of this root")]
    Forked(u64),
}

/// How the newest version of a root file stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Standing {
    /// By its own root keys.
    pub own: Tally,
    /// By those of the version before.
    pub before: Option<Tally>,
}

impl Standing {
    /// Whether nothing is missing.
    pub fn is_complete(&self) -> bool {
        self.own.missing == 0 && self.before.as_ref().is_none_or(|before| before.missing == 0)
    }

    fn complete(&self, version: u64) -> Result<(), RootError> {
        let lacks = |tally: &Tally, whose| match tally.missing {
            0 => Ok(()),
            missing => Err(RootError::Unsigned { version, missing, whose }),
        };
        lacks(&self.own, "its own root keys")?;
        self.before.as_ref().map_or(Ok(()), |before| lacks(before, "the root keys before it"))
    }
}

impl RootFile {
    /// Reads a root file; nothing of it is believed yet.
    pub fn parse(text: &str) -> Result<Self, RootError> {
        if text.len() as u64 > ROOT_BYTES_MAX {
            return Err(RootError::Shape(format!("it is larger than {ROOT_BYTES_MAX} bytes")));
        }
        serde_json::from_str(text).map_err(|e| RootError::Shape(e.to_string()))
    }

    /// Checks everything but that the newest version has all its signatures, and says which it has.
    pub fn standing(&self, verify: Verify<'_>) -> Result<Standing, RootError> {
        if self.versions.len() > VERSIONS_MAX {
            return Err(RootError::Shape(format!("it has more than {VERSIONS_MAX} versions")));
        }
        let mut last: Option<(&Root, Standing)> = None;
        for (signed, number) in self.versions.iter().zip(1..) {
            let root = &signed.root;
            let bad = |what: String| RootError::Version(number, what);
            root.check().map_err(bad)?;
            let before = match &last {
                Some((before, standing)) => {
                    standing.complete(before.version)?;
                    Some(*before)
                }
                None => None,
            };
            follows(root, before, number)?;
            let lines = signed.lines().ok_or_else(|| bad("has a malformed signature".to_owned()))?;
            let message = root.message().map_err(|e| bad(e.to_string()))?;
            let tally = |by: &Root| by.root.tally(&lines, &message, verify);
            last = Some((root, Standing { own: tally(root), before: before.map(tally) }));
        }
        last.map(|(_, standing)| standing).ok_or_else(|| RootError::Shape("it has no version".to_owned()))
    }

    /// The versions, once each is known to be signed by all that it takes.
    pub fn into_chain(self, verify: Verify<'_>) -> Result<Chain, RootError> {
        let number = self.versions.len() as u64;
        self.standing(verify)?.complete(number)?;
        let ids = self.versions.iter().map(|signed| signed.root.id()).collect::<Result<Vec<_>, _>>();
        let ids = ids.map_err(|e| RootError::Shape(e.to_string()))?;
        let newest = self.versions.last().map(|signed| signed.root.clone());
        match (newest, ids.first().copied()) {
            (Some(newest), Some(first)) => Ok(Chain { file: self, ids, newest, first }),
            _ => Err(RootError::Shape("it has no version".to_owned())),
        }
    }
}

/// Whether a version stands where it says, behind the one that it names.
fn follows(root: &Root, before: Option<&Root>, number: u64) -> Result<(), RootError> {
    let wrong = |what| Err(RootError::Order(number, what));
    if root.version != number {
        return wrong("its number is another one");
    }
    if before.is_some_and(|before| before.name != root.name) {
        return wrong("its name is another one");
    }
    let expected = before.map(Root::id).transpose().map_err(|e| RootError::Shape(e.to_string()))?;
    if expected != root.previous { wrong("it names another one as such") } else { Ok(()) }
}

/// All versions of a root, each of which follows from the one before it by the signatures of both.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chain {
    file: RootFile,
    ids: Vec<Digest>,
    newest: Root,
    first: Digest,
}

impl Chain {
    /// The version that counts.
    pub const fn newest(&self) -> &Root {
        &self.newest
    }

    /// What the root is, whatever its versions say: the hash of the first.
    pub const fn identity(&self) -> Digest {
        self.first
    }

    /// The fingerprint of the newest version, by which people compare it. It binds every version before it.
    pub fn fingerprint(&self) -> String {
        print_of(self.ids.last().copied().unwrap_or(self.first))
    }

    /// Its file.
    pub const fn file(&self) -> &RootFile {
        &self.file
    }

    /// Of two chains of one root the longer; where they are equally long, this one.
    ///
    /// # Errors
    ///
    /// They part: two different versions have the same number.
    pub fn newer<'a>(&'a self, other: &'a Self) -> Result<&'a Self, RootError> {
        match self.ids.iter().zip(&other.ids).zip(1..).find(|((one, two), _)| one != two) {
            Some((_, number)) => Err(RootError::Forked(number)),
            None if other.ids.len() > self.ids.len() => Ok(other),
            None => Ok(self),
        }
    }
}
