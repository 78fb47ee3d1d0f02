//! Whose bundles this station takes.

use serde::{Deserialize, Serialize};

use airlock_core::bundle;
use airlock_core::hex;
use airlock_core::id::{Digest, Id};
use airlock_core::roles::Action;
use airlock_core::root::{Chain, RootFile};
use airlock_core::time::Time;
use airlock_store::{NewEntry, RefChange, StoreError};

use crate::error::{Error, Result};
use crate::proposals::{self, Act};
use crate::station::{Station, entry};
use crate::{people, roots};

/// A key or a root whose bundles are taken, and how far; or a key of which nothing is taken but packets of a link.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trust {
    /// What people here call the sender.
    pub name: String,
    /// Its public key in hexadecimal; empty where something else is trusted.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub public_key: String,
    /// The key by which packets of a one-way link are believed, in hexadecimal, where it counts for nothing else. It has a
    /// place of its own so that whoever asks for keys that release anything, also a program that does not know of it, finds none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub link_key: String,
    /// The root, in the newest version that was seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub root: Option<RootFile>,
    /// Only this stream; none: any that the key signs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stream: Option<String>,
    /// Only these channels; empty: any.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub channels: Vec<String>,
    /// What the sender calls this station: bundles that are meant for another are refused; none: nobody looks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recipient: Option<String>,
    /// What of theirs needs no person here.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub accept: Vec<Accept>,
    /// Since when.
    pub since: Time,
}

/// What a sender may do without a person of this station.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Accept {
    /// Send advisories and maps that are milder than those before.
    Loosening,
}

impl Trust {
    /// Whether this needs no person here.
    pub fn accepts(&self, what: Accept) -> bool {
        self.accept.contains(&what)
    }

    /// The fingerprint by which it is known: of the key, or of the root's newest version.
    pub fn fingerprint(&self) -> Result<String> {
        match &self.root {
            Some(file) => Ok(roots::chain(file.clone())?.fingerprint()),
            None => Ok(self.packet_key().map(|key| bundle::fingerprint(&key)).unwrap_or_default()),
        }
    }

    /// Whether it is for packets of a link alone: nothing is released by it.
    pub fn is_link_only(&self) -> bool {
        !self.link_key.is_empty()
    }

    /// The key by which packets of a one-way link are believed.
    pub fn packet_key(&self) -> Option<[u8; 32]> {
        hex::decode(if self.is_link_only() { &self.link_key } else { &self.public_key })
    }

    fn limits(&self) -> Limits {
        Limits {
            stream: self.stream.clone(),
            channels: self.channels.clone(),
            recipient: self.recipient.clone(),
            accept: self.accept.clone(),
        }
    }

    /// Whose bundles or packets it takes, whatever version its root is in.
    fn owner(&self) -> Result<String> {
        match &self.root {
            Some(file) => Ok(roots::chain(file.clone())?.identity().to_string()),
            None if self.is_link_only() => Ok(format!("link {}", self.link_key)),
            None => Ok(self.public_key.clone()),
        }
    }
}

airlock_core::object!(Trust, "airlock.trust.v1");

/// How far a key is trusted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// See [`Trust::stream`].
    pub stream: Option<String>,
    /// See [`Trust::channels`].
    pub channels: Vec<String>,
    /// See [`Trust::recipient`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recipient: Option<String>,
    /// See [`Trust::accept`].
    pub accept: Vec<Accept>,
}

/// Who is to be trusted.
#[derive(Clone, Debug)]
pub enum Whom {
    /// The key of one station.
    Key([u8; 32]),
    /// A root.
    Root(Chain),
    /// The key of one station, for packets of a one-way link and nothing else.
    Link([u8; 32]),
}

impl From<[u8; 32]> for Whom {
    fn from(key: [u8; 32]) -> Self {
        Self::Key(key)
    }
}

impl Whom {
    /// A trust as the proposals tell it: a key, or a root.
    pub(crate) fn read(public_key: &str, link_key: &str, root: Option<RootFile>) -> Result<Self> {
        let key = |text| hex::decode(text).ok_or_else(|| Error::usage("it is no key"));
        match root {
            Some(file) => Ok(Self::Root(roots::chain(file)?)),
            None if !link_key.is_empty() => Ok(Self::Link(key(link_key)?)),
            None => Ok(Self::Key(key(public_key)?)),
        }
    }

    /// The fingerprint that is typed.
    pub fn fingerprint(&self) -> String {
        match self {
            Self::Key(key) | Self::Link(key) => bundle::fingerprint(key),
            Self::Root(chain) => chain.fingerprint(),
        }
    }

    /// Public key, key of a link, root: one of them.
    fn parts(&self) -> (String, String, Option<RootFile>) {
        match self {
            Self::Key(key) => (hex::encode(key), String::new(), None),
            Self::Link(key) => (String::new(), hex::encode(key), None),
            Self::Root(chain) => (String::new(), String::new(), Some(chain.file().clone())),
        }
    }
}

/// Trusts a key or a root. The fingerprint is typed by a person who got it another way than with the key: what
/// lies on the same disk as a bundle proves nothing.
pub async fn add(
    station: &Station,
    name: &str,
    whom: impl Into<Whom>,
    typed: &str,
    mut limits: Limits,
) -> Result<Trust> {
    let whom = whom.into();
    limits.accept.sort();
    limits.accept.dedup();
    let print = whom.fingerprint();
    if !bundle::print_matches(&print, typed) {
        let what = if matches!(whom, Whom::Root(_)) { "newest version of the root" } else { "key" };
        return Err(Error::unsafe_(format!("the {what} has the fingerprint {print}, not the one that was typed"))
            .hint("ask the sender's administrator for the fingerprint, by telephone or on paper, and compare all of it"));
    }
    check_name(name)?;
    if matches!(whom, Whom::Link(_)) && limits != Limits::default() {
        return Err(Error::usage(
            "a key that is trusted for a link alone takes nothing that could be limited",
        )
        .hint("give no stream, channels, recipient or acceptance; limit the trust in the root"));
    }
    let (public_key, link_key, root) = whom.parts();
    let Limits { stream, channels, recipient, accept } = limits.clone();
    let since = station.now().await?;
    let trust = Trust {
        name: name.to_owned(),
        public_key: public_key.clone(),
        link_key: link_key.clone(),
        root: root.clone(),
        stream,
        channels,
        recipient,
        accept,
        since,
    };
    let before = list(station).await?.into_iter().find(|t| t.name == name);
    if let Some(held) = &before
        && (held.owner()? != trust.owner()? || held.limits() != limits)
    {
        return Err(Error::usage(format!("`{name}` is here already, as another key or with other limits"))
            .hint(format!("choose another name, or run `airlock trust revoke {name}` first")));
    }
    let mut changes = Vec::new();
    if let Whom::Root(chain) = &whom {
        changes = followed(station, chain).await?;
        let mut known = list(station).await?;
        if let Some(before) = let_go(station, chain).await? {
            moved(station, &before, chain).await?;
            known.push(before);
        }
        if known.iter().any(|held| version(held) > chain.newest().version && is_of(held, chain)) {
            return Err(Error::unsafe_("a newer version of this root is known here")
                .hint("give the newest root file; `airlock trust list` shows which version is known"));
        }
    }
    let act = Act::Trust { name: name.to_owned(), public_key, link_key, root, limits };
    proposals::gate(station, act).await?;
    let id = station.store.db.put(&trust).await?;
    // From what it was when it was looked at: an import may have brought a newer root since.
    let from =
        before.map(|held| airlock_core::object::encode(&held)).transpose()?.map(|(held, _)| held.digest());
    let change = RefChange { name: format!("trust/{name}"), from, to: Some(id.digest()) };
    changes.retain(|other| other.name != change.name);
    changes.push(change);
    let detail = serde_json::to_value(&trust)?;
    station.commit(changes, "trust.add", &format!("trust/{name}"), &detail).await?;
    Ok(trust)
}

fn check_name(name: &str) -> Result<()> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
    if name.is_empty() || name.len() > 100 || !name.bytes().all(plain) {
        return Err(Error::usage(format!("`{name}` cannot name a sender"))
            .hint("use letters, digits, `.`, `_` and `-`"));
    }
    Ok(())
}

/// The number of the newest version of the root that is trusted.
fn version(trust: &Trust) -> u64 {
    trust.root.as_ref().map_or(0, |file| file.versions.len() as u64)
}

/// The ref of the last trust in a root that was revoked.
fn root_ref(chain: &Chain) -> String {
    format!("root/{}", chain.identity())
}

/// The trust in this root that was revoked with the newest version of it, if one was.
async fn let_go(station: &Station, chain: &Chain) -> Result<Option<Trust>> {
    match station.store.db.find_ref(&root_ref(chain)).await? {
        Some(id) => Ok(Some(station.store.db.get(Id::new(id)).await?)),
        None => Ok(None),
    }
}

/// Whether it is this root that is trusted.
fn is_of(trust: &Trust, chain: &Chain) -> bool {
    let first = trust.root.as_ref().and_then(|file| file.versions.first());
    first.and_then(|first| first.root.id().ok()).is_some_and(|id| id == chain.identity())
}

/// What moves so that every trust in a root knows it in this version; those that know it, or a newer one, are stated as they
/// are.
///
/// # Errors
///
/// One of them knows another version of the same number.
async fn followed(station: &Station, chain: &Chain) -> Result<Vec<RefChange>> {
    let mut out = Vec::new();
    for held in list(station).await?.into_iter().filter(|held| is_of(held, chain)) {
        out.push(moved(station, &held, chain).await?);
    }
    Ok(out)
}

async fn moved(station: &Station, held: &Trust, chain: &Chain) -> Result<RefChange> {
    let from = airlock_core::object::encode(held)?.0.digest();
    let Some(file) = &held.root else { return Err(Error::fault("a key has no versions")) };
    let known = roots::chain(file.clone())?;
    let newest = known.newer(chain).map_err(|e| roots::refused(&e))?;
    let to = match newest.newest().version > known.newest().version {
        true => {
            let root = Some(newest.file().clone());
            station.store.db.put(&Trust { root, ..held.clone() }).await?.digest()
        }
        false => from,
    };
    Ok(RefChange { name: format!("trust/{}", held.name), from: Some(from), to: Some(to) })
}

/// The trusts under which a bundle comes in, as they are to stand after it: the root that it brings is known from then on.
/// So nothing comes in by what was revoked meanwhile.
pub(crate) async fn stated(station: &Station, trust: &Trust, root: Option<&Chain>) -> Result<Vec<RefChange>> {
    let name = format!("trust/{}", trust.name);
    let Some(chain) = root else {
        let held = Some(airlock_core::object::encode(trust)?.0.digest());
        return Ok(vec![RefChange { name, from: held, to: held }]);
    };
    let mut changes = followed(station, chain).await?;
    changes.retain(|change| change.name != name);
    changes.push(moved(station, trust, chain).await?);
    Ok(changes)
}

/// What the ledger says when the root of a trust moves to another version.
pub(crate) fn told(trust: &Trust, chain: &Chain) -> Result<Option<NewEntry>> {
    let (from, newest) = (version(trust), chain.newest());
    if newest.version <= from {
        return Ok(None);
    }
    let detail = serde_json::json!({
        "root": newest.name, "from": from, "version": newest.version, "fingerprint": chain.fingerprint(),
        "release": newest.release, "root_keys": newest.root,
    });
    entry("trust.root", &format!("trust/{}", trust.name), &detail).map(Some)
}

/// Takes in a newer version of a root that is trusted, without a bundle: for keys that were stolen. Its signatures speak for it.
/// Gives the trusts that moved.
///
/// # Errors
///
/// No trust is in this root, or another version of the same number is known.
pub async fn update(station: &Station, chain: &Chain) -> Result<Vec<String>> {
    people::allow(station, Action::Import, None).await?;
    let held: Vec<Trust> = list(station).await?.into_iter().filter(|held| is_of(held, chain)).collect();
    if held.is_empty() {
        return Err(Error::unsafe_(format!("root `{}` is not trusted here", chain.newest().name))
            .hint("if it should be, compare its fingerprint with its owner and run `airlock trust add`"));
    }
    let changes = followed(station, chain).await?;
    let mut entries = Vec::new();
    for trust in &held {
        entries.extend(told(trust, chain)?);
    }
    let moves = held.iter().filter(|trust| version(trust) < chain.newest().version);
    let names: Vec<String> = moves.map(|trust| trust.name.clone()).collect();
    if !names.is_empty() {
        station.commit_all(changes, Vec::new(), entries).await?;
    }
    Ok(names)
}

/// Every key and root that is trusted.
pub async fn list(station: &Station) -> Result<Vec<Trust>> {
    let mut out = Vec::new();
    for id in station.store.db.refs("trust/").await?.into_values() {
        out.push(station.store.db.get(Id::new(id)).await?);
    }
    Ok(out)
}

/// Which version of a root was known, so that none before it is trusted again when that is over.
async fn remembered(station: &Station, held: &Trust, at: Digest) -> Result<Option<RefChange>> {
    let Some(file) = &held.root else { return Ok(None) };
    let chain = match roots::chain(file.clone()) {
        Ok(chain) => chain,
        Err(error) => {
            tracing::warn!("the root that was trusted is none any more: {error}");
            return Ok(None);
        }
    };
    let name = root_ref(&chain);
    let from = station.store.db.find_ref(&name).await?;
    let before: Option<Trust> = match from {
        Some(id) => readable(station.store.db.get(Id::new(id)).await)?,
        None => None,
    };
    let is_newer = before.is_none_or(|before| version(&before) < version(held));
    Ok(is_newer.then_some(RefChange { name, from, to: Some(at) }))
}

/// What was read; none where what is there is damaged for good. Whatever passes, such as a database that is busy, is an error: what
/// is remembered of a root is not to be lost by it.
fn readable(read: std::result::Result<Trust, StoreError>) -> Result<Option<Trust>> {
    match read {
        Ok(trust) => Ok(Some(trust)),
        Err(error @ (StoreError::MissingObject(_) | StoreError::Object(_) | StoreError::Corrupt(_))) => {
            tracing::warn!("what was trusted cannot be read: {error}");
            Ok(None)
        }
        Err(error) => Err(error.into()),
    }
}

/// Trusts a key or root no longer. What it brought stays; nothing more of it is taken.
pub async fn revoke(station: &Station, name: &str) -> Result<()> {
    people::allow(station, Action::Distrust, None).await?;
    let id = station.store.db.find_ref(&format!("trust/{name}")).await?;
    let Some(at) = id else {
        return Err(Error::usage(format!("no key is trusted under the name `{name}`"))
            .hint("`airlock trust list` shows them"));
    };
    let mut changes = vec![RefChange { name: format!("trust/{name}"), from: id, to: None }];
    // Trust that nobody can read any more is let go of all the same.
    if let Some(held) = readable(station.store.db.get::<Trust>(Id::new(at)).await)? {
        changes.extend(remembered(station, &held, at).await?);
    }
    station.commit(changes, "trust.revoke", &format!("trust/{name}"), &serde_json::json!({})).await
}
