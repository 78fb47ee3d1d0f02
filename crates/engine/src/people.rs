//! Users, roles and tokens; and the one place where it is asked whether somebody may do something.
//!
//! Whoever can run the program on a station's files owns them, and is known by what the operating system calls them. With
//! `--as USER` and that user's token the roles of that user bind, and `[people] require_login` asks for it wherever something
//! changes. Surfaces with logins ask the same function.

use serde::{Deserialize, Serialize};

use airlock_core::id::{Digest, Id};
use airlock_core::object;
use airlock_core::people::{People, SECRET_BYTES, TOKENS_MAX, Token, USERS_MAX, User, is_user_name, token};
use airlock_core::roles::{self, Action, Grant, Role};
use airlock_core::time::Time;

use crate::clock;
use crate::error::{Error, Result};
use crate::ledger::RESTORE;
use crate::station::Station;

/// The ref of everybody.
pub const REF: &str = "people";
/// How often a change is tried again when somebody else changed something in between.
const TRIES: usize = 20;

/// `[people]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PeopleConfig {
    /// Whatever changes something asks who it is, by `--as` and a token.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub require_login: bool,
    /// What needs a second person, by the names of `docs/people.md`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub two_person: Vec<String>,
}

impl PeopleConfig {
    /// Whether it says nothing.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// Somebody who showed a token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Login {
    /// The user.
    pub name: String,
}

/// Everybody that the station knows.
pub async fn read(station: &Station) -> Result<People> {
    Ok(held(station).await?.1)
}

/// Everybody, and the object that says so.
pub(crate) async fn held(station: &Station) -> Result<(Option<Digest>, People)> {
    let Some(id) = station.store.db.find_ref(REF).await? else { return Ok((None, People::default())) };
    let people: People = station.store.db.get(Id::new(id)).await?;
    // Rights rest on it: what somebody wrote under its name in the database is believed by nobody.
    if object::encode(&people)?.0.digest() != id {
        return Err(Error::unsafe_("the users were changed: they are not what their name says").hint(RESTORE));
    }
    Ok((Some(id), people))
}

/// Who this is, by a token.
///
/// # Errors
///
/// Refused as unsafe where name and token do not belong together.
pub async fn login(station: &Station, name: &str, secret: &str) -> Result<Login> {
    let people = read(station).await?;
    match people.login(name, secret, clock::latest(station).await?) {
        Ok(_) => Ok(Login { name: name.to_owned() }),
        Err(error) => Err(Error::unsafe_(error.to_string()).hint(
            "ask an administrator of this station for a token (`airlock token add USER`); it is read from AIRLOCK_TOKEN or --token-file",
        )),
    }
}

/// Asks whether whoever acts here may do this, in a channel or on the station as a whole.
///
/// # Errors
///
/// The answer is no: why, and who could.
pub async fn allow(station: &Station, action: Action, channel: Option<&str>) -> Result<()> {
    let Some(login) = &station.login else {
        if station.config.people.require_login {
            return Err(Error::no("this station asks who you are before anything changes")
                .hint("say --as USER, with that user's token in AIRLOCK_TOKEN or --token-file FILE"));
        }
        return Ok(());
    };
    check(&read(station).await?, &login.name, action, channel)
}

/// Whether somebody may, by what is known of them now.
pub(crate) fn check(people: &People, name: &str, action: Action, channel: Option<&str>) -> Result<()> {
    people.may(name, action, channel).map_err(|why| {
        let may: Vec<&str> =
            Role::ALL.into_iter().filter(|r| roles::may(*r, action)).map(Role::name).collect();
        let place = channel.map(|name| format!(" in channel {name}")).unwrap_or_default();
        Error::no(format!("{name} may not {}{place}: {why}", action.name())).hint(format!(
            "that is for: {}; an administrator or an auditor of this station sees who is",
            may.join(", ")
        ))
    })
}

/// Changes something of them, told in the ledger by `action` without any secret.
async fn change<T>(
    station: &Station,
    action: &str,
    subject: &str,
    mut make: impl FnMut(&mut People) -> Result<(T, serde_json::Value)>,
) -> Result<T> {
    allow(station, Action::People, None).await?;
    for _ in 0..TRIES {
        let (before, mut people) = held(station).await?;
        let (out, mut detail) = make(&mut people)?;
        if people.users.len() > USERS_MAX {
            return Err(Error::usage(format!("a station knows at most {USERS_MAX} users")));
        }
        let id = station.store.db.put(&people).await?.digest();
        detail["people"] = serde_json::to_value(id)?;
        let moved = airlock_store::RefChange { name: REF.to_owned(), from: before, to: Some(id) };
        match station.commit(vec![moved], action, subject, &detail).await {
            Err(e) if e.is_race => {}
            other => return other.map(|()| out),
        }
    }
    Err(Error::fault("others keep changing the users at the same time").hint("run it again"))
}

fn find<'a>(people: &'a mut People, name: &str) -> Result<&'a mut User> {
    people.users.get_mut(name).ok_or_else(|| {
        Error::usage(format!("there is no user `{name}`")).hint("`airlock user list` shows them")
    })
}

/// Adds a user.
pub async fn add(station: &Station, name: &str, grants: Vec<Grant>) -> Result<()> {
    if !is_user_name(name) {
        return Err(Error::usage(format!("`{}` cannot name a user", name.escape_default()))
            .hint("use lower-case letters, digits, `.`, `_` and `-`, and a letter or digit first"));
    }
    let make = |people: &mut People| {
        if people.users.contains_key(name) {
            return Err(Error::usage(format!("there is a user `{name}` already"))
                .hint("`airlock user grant` gives another role"));
        }
        let detail = serde_json::json!({ "grants": grants });
        // Names of tokens go on where those of a user of this name ended: the ledger tells of both.
        let given = people.left.remove(name).unwrap_or_default();
        people.users.insert(name.to_owned(), User { grants: grants.clone(), given, ..User::default() });
        Ok(((), detail))
    };
    change(station, "user.add", &format!("user/{name}"), make).await
}

/// Removes a user, with all tokens.
pub async fn remove(station: &Station, name: &str) -> Result<()> {
    let make = |people: &mut People| {
        let given = find(people, name)?.given;
        people.users.remove(name);
        if given > 0 {
            people.left.insert(name.to_owned(), given);
        }
        Ok(((), serde_json::json!({})))
    };
    change(station, "user.remove", &format!("user/{name}"), make).await
}

/// Gives a role, or takes it.
pub async fn grant(station: &Station, name: &str, grant: &Grant, give: bool) -> Result<()> {
    let make = |people: &mut People| {
        let user = find(people, name)?;
        let has = user.grants.contains(grant);
        if has == give {
            let how = if has { "has" } else { "does not have" };
            return Err(Error::usage(format!("`{name}` {how} this role already"))
                .hint("`airlock user list` shows it"));
        }
        if give {
            user.grants.push(grant.clone());
        } else {
            user.grants.retain(|held| held != grant);
        }
        Ok(((), serde_json::json!({ "grant": grant })))
    };
    change(station, if give { "user.grant" } else { "user.revoke" }, &format!("user/{name}"), make).await
}

/// Gives a user a token: its name, and the token itself, which is nowhere else.
pub async fn add_token(station: &Station, name: &str, expires: Option<Time>) -> Result<(String, String)> {
    let now = station.now().await?;
    if let Some(ends) = expires.filter(|ends| *ends <= now) {
        return Err(Error::usage(format!("it would have ended on {}", ends.date()))
            .hint("give a date that lies ahead"));
    }
    let mut secret = [0u8; SECRET_BYTES];
    getrandom::fill(&mut secret)
        .map_err(|e| Error::fault(format!("the system gives no random bytes: {e}")))?;
    let text = token(&secret);
    let sha256 = Digest::of(text.as_bytes());
    let make = |people: &mut People| {
        let user = find(people, name)?;
        if user.tokens.len() >= TOKENS_MAX {
            return Err(Error::usage(format!("`{name}` has {TOKENS_MAX} tokens")).hint("revoke one first"));
        }
        user.given += 1;
        let id = format!("t{}", user.given);
        user.tokens.insert(id.clone(), Token { sha256, since: now, expires });
        let detail = serde_json::json!({"token": id, "expires": expires});
        Ok((id, detail))
    };
    let id = change(station, "token.add", &format!("user/{name}"), make).await?;
    Ok((id, text))
}

/// Takes a token back.
pub async fn revoke_token(station: &Station, name: &str, id: &str) -> Result<()> {
    let make = |people: &mut People| {
        let user = find(people, name)?;
        if user.tokens.remove(id).is_none() {
            return Err(
                Error::usage(format!("`{name}` has no token `{id}`")).hint("`airlock token list` shows them")
            );
        }
        Ok(((), serde_json::json!({ "token": id })))
    };
    change(station, "token.revoke", &format!("user/{name}"), make).await
}

/// Makes the first administrator of a new station, and gives the token.
pub async fn first(station: &Station, name: &str) -> Result<String> {
    add(station, name, vec![Grant { role: Role::Administrator, channels: Vec::new() }]).await?;
    Ok(add_token(station, name, None).await?.1)
}
