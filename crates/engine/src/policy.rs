//! Policies of a station.

use airlock_core::id::Id;
use airlock_core::policy::form;
use airlock_core::policy::{DEFAULT_NAME, INHERITED, INHERITED_NAME, Policy, PolicyText};
use airlock_core::time::Time;
use airlock_core::verdict::builtin;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::judge::How;
use crate::proposals::{self, Act};
use crate::station::Station;
use crate::sync::{self, Rejudged};

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
            .hint("docs/policies.md lists the predicates; `airlock policy show` is an example")
    })
}

/// Reads a policy that is to be set. One that is in force already may have a rule of a name that was taken since; it goes on.
pub fn read_new(text: &str) -> Result<Policy> {
    let policy = read(text)?;
    match policy.rules.iter().find(|rule| builtin::ALL.contains(&rule.name.as_str())) {
        Some(rule) => {
            Err(Error::usage(format!("`{}` is the name of a rule that every channel has", rule.name))
                .hint("choose another name for it"))
        }
        None => Ok(policy),
    }
}

/// The policy of this name.
pub async fn find(station: &Station, name: &str) -> Result<Named> {
    let id = match station.store.db.find_ref(&format!("policy/{name}")).await? {
        None if name == INHERITED_NAME => {
            Some(station.store.db.put(&PolicyText { text: INHERITED.to_owned() }).await?.digest())
        }
        found => found,
    };
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
    let policy = read_new(text)?;
    if name == INHERITED_NAME {
        return Err(Error::usage(format!("`{name}` is what children have that have no policy of their own"))
            .hint("choose another name"));
    }
    let plain = name.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
        && !name.is_empty()
        && name.len() <= 100;
    if !plain {
        return Err(Error::usage(format!("`{name}` cannot name a policy"))
            .hint("use letters, digits, `.`, `_` and `-`"));
    }
    let act = Act::Policy { name: name.to_owned(), text: text.to_owned() };
    proposals::gate(station, act).await?;
    let id = station.store.db.put(&PolicyText { text: text.to_owned() }).await?;
    let change = station.move_ref(&format!("policy/{name}"), Some(id.digest())).await?;
    let detail =
        serde_json::json!({"policy": id, "rules": policy.rules.iter().map(|r| &r.name).collect::<Vec<_>>()});
    station.commit(vec![change], "policy.set", &format!("policy/{name}"), &detail).await?;
    Ok(policy)
}

/// A policy as a form, for those who fill in fields.
pub fn form(text: &str) -> Result<serde_json::Value> {
    read(text)?;
    form::of_text(text).map_err(|e| Error::usage(format!("the policy is not valid: {e}")))
}

/// The text that a form says; what it does not change of the text before stays as it was.
pub fn of_form(json: &str, before: Option<&str>) -> Result<String> {
    let form = serde_json::from_str(json).map_err(|e| Error::usage(format!("it is not JSON: {e}")))?;
    form::to_text(&form, before).map_err(|e| {
        Error::usage(e.to_string()).hint("`airlock policy show --form` shows what a form looks like")
    })
}

/// What a policy of this text would change in the channels that the policy of this name rules. Nothing is changed.
pub async fn preview(station: &Station, name: &str, text: &str) -> Result<Rejudged> {
    read_new(text)?;
    // What it would let in, too, though nobody fetched that yet.
    let how = How {
        policy: Some(text.to_owned()),
        dry: true,
        closure: true,
        without_bytes: true,
        ..How::default()
    };
    let channels = crate::channel::list(station).await?;
    let ruled: Vec<String> = channels.into_iter().filter(|c| c.policy == name).map(|c| c.name).collect();
    sync::rejudge_each(station, |channel| ruled.iter().any(|r| r == channel), &how, "preview").await
}

/// One version of a policy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Version {
    /// When it was set.
    pub time: Time,
    /// By whom.
    pub author: String,
    /// Its text.
    pub id: Id<PolicyText>,
    /// The names of its rules.
    pub rules: Vec<String>,
}

/// The versions of a policy, oldest first, as the ledger tells.
pub async fn history(station: &Station, name: &str) -> Result<Vec<Version>> {
    #[derive(Deserialize)]
    struct Set {
        policy: Id<PolicyText>,
        #[serde(default)]
        rules: Vec<String>,
    }
    let subject = format!("policy/{name}");
    let mut out = Vec::new();
    let mut from = 1;
    loop {
        let entries = station.store.db.ledger(from, ENTRIES_AT_ONCE).await?;
        let Some((last, _)) = entries.last() else { break };
        from = last.number + 1;
        for (entry, _) in entries {
            let is_first = name == DEFAULT_NAME && entry.action == "station.init";
            if (is_first || entry.subject == subject)
                && let Ok(set) = entry.detail.read::<Set>()
            {
                out.push(Version { time: entry.time, author: entry.actor, id: set.policy, rules: set.rules });
            }
        }
    }
    if out.is_empty() {
        find(station, name).await?;
    }
    Ok(out)
}

/// Entries of the ledger that are read at once.
const ENTRIES_AT_ONCE: u32 = 1000;
