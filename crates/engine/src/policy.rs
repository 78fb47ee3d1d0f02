//! Policies of a station.

use airlock_core::id::Id;
use airlock_core::policy::{Policy, PolicyText};

use crate::error::{Error, Result};
use crate::station::Station;

/// A policy with the name of the object that holds it.
#[derive(Clone, Debug)]
pub struct Named {
    /// The object.
    pub id: Id<PolicyText>,
    /// The text.
    pub text: PolicyText,
    /// What it says.
    pub policy: Policy,
}

/// Reads a policy text, with the fault in our words.
pub fn read(text: &str) -> Result<Policy> {
    Policy::parse(text).map_err(|e| {
        Error::usage(format!("the policy is not valid: {e}"))
            .hint("docs/operating.md lists the predicates; `airlock policy show` is an example")
    })
}

/// The policy of this name.
pub async fn find(station: &Station, name: &str) -> Result<Named> {
    let id = station.store.db.find_ref(&format!("policy/{name}")).await?;
    let id = id.ok_or_else(|| {
        Error::usage(format!("there is no policy `{name}`")).hint("`airlock policy list` shows what is there")
    })?;
    let id = Id::new(id);
    let text: PolicyText = station.store.db.get(id).await?;
    let policy = read(&text.text)?;
    Ok(Named { id, text, policy })
}

/// The names of all policies.
pub async fn list(station: &Station) -> Result<Vec<String>> {
    let refs = station.store.db.refs("policy/").await?;
    Ok(refs.keys().filter_map(|name| name.strip_prefix("policy/")).map(str::to_owned).collect())
}

/// Sets a policy. It acts at the next judgement, which the caller starts.
pub async fn set(station: &Station, name: &str, text: &str) -> Result<Policy> {
    let policy = read(text)?;
    let plain = name.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
        && !name.is_empty()
        && name.len() <= 100;
    if !plain {
        return Err(Error::usage(format!("`{name}` cannot name a policy"))
            .hint("use letters, digits, `.`, `_` and `-`"));
    }
    let id = station.store.db.put(&PolicyText { text: text.to_owned() }).await?;
    let change = station.move_ref(&format!("policy/{name}"), Some(id.digest())).await?;
    let detail =
        serde_json::json!({"policy": id, "rules": policy.rules.iter().map(|r| &r.name).collect::<Vec<_>>()});
    station.commit(vec![change], "policy.set", &format!("policy/{name}"), &detail).await?;
    Ok(policy)
}
