//! Whose bundles this station takes.

use serde::{Deserialize, Serialize};

use airlock_core::bundle;
use airlock_core::hex;
use airlock_core::id::Id;
use airlock_core::object::Object;
use airlock_core::roles::Action;
use airlock_core::time::Time;

use crate::error::{Error, Result};
use crate::people;
use crate::proposals::{self, Act};
use crate::station::Station;

/// A key whose bundles are taken, and how far.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trust {
    /// What people here call the sender.
    pub name: String,
    /// Its public key in hexadecimal.
    pub public_key: String,
    /// Only this stream; none: any that the key signs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stream: Option<String>,
    /// Only these channels; empty: any.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub channels: Vec<String>,
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
}

impl Object for Trust {
    const KIND: &'static str = "airlock.trust.v1";
}

/// How far a key is trusted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// See [`Trust::stream`].
    pub stream: Option<String>,
    /// See [`Trust::channels`].
    pub channels: Vec<String>,
    /// See [`Trust::accept`].
    pub accept: Vec<Accept>,
}

/// Trusts a key. The fingerprint is typed by a person who got it another way than with the key: a key
/// that lies on the same disk as a bundle proves nothing.
pub async fn add(
    station: &Station,
    name: &str,
    public_key: [u8; 32],
    typed: &str,
    Limits { stream, channels, mut accept }: Limits,
) -> Result<Trust> {
    accept.sort();
    accept.dedup();
    if !bundle::fingerprint_matches(&public_key, typed) {
        return Err(Error::unsafe_(format!(
            "the key has the fingerprint {}, not the one that was typed",
            bundle::fingerprint(&public_key)
        ))
        .hint("ask the sender's administrator for the fingerprint, by telephone or on paper, and compare all of it"));
    }
    let plain = name.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
        && !name.is_empty()
        && name.len() <= 100;
    if !plain {
        return Err(Error::usage(format!("`{name}` cannot name a sender"))
            .hint("use letters, digits, `.`, `_` and `-`"));
    }
    if let Some(held) = list(station).await?.into_iter().find(|t| t.name == name)
        && (held.public_key != hex::encode(&public_key)
            || held.stream != stream
            || held.channels != channels
            || held.accept != accept)
    {
        return Err(Error::usage(format!("`{name}` is here already, as another key or with other limits"))
            .hint(format!("choose another name, or run `airlock trust revoke {name}` first")));
    }
    let asked = Limits { stream: stream.clone(), channels: channels.clone(), accept: accept.clone() };
    let (called, key) = (name.to_owned(), hex::encode(&public_key));
    proposals::gate(station, Act::Trust { name: called, public_key: key, limits: asked }).await?;
    let trust = Trust {
        name: name.to_owned(),
        public_key: hex::encode(&public_key),
        stream,
        channels,
        accept,
        since: station.now().await?,
    };
    let id = station.store.db.put(&trust).await?;
    let change = station.move_ref(&format!("trust/{name}"), Some(id.digest())).await?;
    station
        .commit(vec![change], "trust.add", &format!("trust/{name}"), &serde_json::to_value(&trust)?)
        .await?;
    Ok(trust)
}

/// Every key that is trusted.
pub async fn list(station: &Station) -> Result<Vec<Trust>> {
    let mut out = Vec::new();
    for id in station.store.db.refs("trust/").await?.into_values() {
        out.push(station.store.db.get(Id::new(id)).await?);
    }
    Ok(out)
}

/// Trusts a key no longer. What it brought stays; nothing more of it is taken.
pub async fn revoke(station: &Station, name: &str) -> Result<()> {
    people::allow(station, Action::Distrust, None).await?;
    let change = station.move_ref(&format!("trust/{name}"), None).await?;
    if change.from.is_none() {
        return Err(Error::usage(format!("no key is trusted under the name `{name}`"))
            .hint("`airlock trust list` shows them"));
    }
    station.commit(vec![change], "trust.revoke", &format!("trust/{name}"), &serde_json::json!({})).await
}
