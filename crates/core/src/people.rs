//! Who is known to a station, with which roles, and by which tokens.
//!
//! A token is [`TOKEN_BEGIN`] and the 64 hexadecimal digits of 32 random bytes; only its SHA-256 is kept, so that nobody who
//! reads the database learns one. So much is random that its hash needs no salt and no slow function.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::hex;
use crate::id::Digest;
use crate::roles::{self, Action, Grant, Refusal};
use crate::time::Time;

/// What every token begins with, so that people and scanners of secrets know one.
pub const TOKEN_BEGIN: &str = "airlock_";
/// Bytes of a token's secret.
pub const SECRET_BYTES: usize = 32;
/// Most users.
pub const USERS_MAX: usize = 10_000;
/// Most tokens of one user.
pub const TOKENS_MAX: usize = 100;
/// Longest name of a user, in bytes.
pub const NAME_BYTES_MAX: usize = 64;

/// Everybody that a station knows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct People {
    /// By name.
    pub users: BTreeMap<String, User>,
    /// How many tokens were given to those who are gone, should somebody of the same name come: see [`User::given`].
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub left: BTreeMap<String, u64>,
}

crate::object!(People, "airlock.people.v1");

/// One person, or one machine.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    /// What they may do.
    pub grants: Vec<Grant>,
    /// How they are known, by the name of the token: `t1`, `t2`, ...
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tokens: BTreeMap<String, Token>,
    /// How many tokens were ever given to them, so that a name is never given again.
    #[serde(default)]
    pub given: u64,
}

/// What is kept of a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Token {
    /// The SHA-256 of the token.
    pub sha256: Digest,
    /// Since when.
    pub since: Time,
    /// Until when; none is for good.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<Time>,
}

/// A name and a token that do not belong together. Which of the two is wrong is not told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no user of this name has this token, or it has ended")]
pub struct BadLogin;

/// The text of a token.
pub fn token(secret: &[u8; SECRET_BYTES]) -> String {
    format!("{TOKEN_BEGIN}{}", hex::encode(secret))
}

/// Whether a text can name a user.
pub fn is_user_name(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= NAME_BYTES_MAX
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"._-".contains(&b))
        && name.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric())
}

impl People {
    /// The user whose token this is.
    ///
    /// # Errors
    ///
    /// Whatever of it is wrong.
    pub fn login(&self, name: &str, token: &str, now: Time) -> Result<&User, BadLogin> {
        let user = self.users.get(name).ok_or(BadLogin)?;
        // Hashes are compared, so that how long it takes tells nothing of a token.
        let sha256 = Digest::of(token.trim().as_bytes());
        let is_it = |held: &Token| held.sha256 == sha256 && held.expires.is_none_or(|at| now < at);
        if user.tokens.values().any(is_it) { Ok(user) } else { Err(BadLogin) }
    }

    /// Whether a user may do this in a channel, or with none on the station as a whole.
    ///
    /// # Errors
    ///
    /// Why not; also that nobody of this name is known.
    pub fn may(&self, name: &str, action: Action, channel: Option<&str>) -> Result<(), Refusal> {
        let grants = self.users.get(name).map_or(&[][..], |user| &user.grants);
        roles::allows(grants, action, channel)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::roles::Role;
    use crate::time::Span;

    #[test]
    fn only_a_users_own_token_that_has_not_ended_is_taken() {
        let now = Time::from_seconds(1_000_000);
        let (good, old) = (token(&[1; 32]), token(&[2; 32]));
        let held = |token: &str, expires| Token { sha256: Digest::of(token.as_bytes()), since: now, expires };
        let mut people = People::default();
        let ada = people.users.entry("ada".into()).or_default();
        ada.grants.push(Grant { role: Role::Reviewer, channels: Vec::new() });
        ada.tokens.insert("t1".into(), held(&good, Some(now.after(Span::days(1)))));
        ada.tokens.insert("t2".into(), held(&old, Some(now)));
        people.users.entry("bob".into()).or_default();
        assert!(people.login("ada", &good, now).is_ok());
        assert!(people.login("ada", &format!("{good}\n"), now).is_ok(), "as a file ends");
        for (name, token) in
            [("ada", &*old), ("bob", &*good), ("eve", &*good), ("ada", ""), ("ada", &good[1..])]
        {
            assert_eq!(people.login(name, token, now), Err(BadLogin), "{name} {token}");
        }
        assert!(people.login("ada", &good, now.after(Span::days(1))).is_err());
        assert!(people.may("ada", Action::Approve, Some("main")).is_ok());
        assert_eq!(people.may("bob", Action::See, None), Err(Refusal::Role));
        assert!(!serde_json::to_string(&people).unwrap().contains(&good[8..]));
    }

    #[test]
    fn names_of_users_are_plain() {
        for (name, is) in [
            ("ada", true),
            ("a.b-c_1", true),
            ("", false),
            ("Ada", false),
            ("a b", false),
            ("-a", false),
            ("a(b", false),
        ] {
            assert_eq!(is_user_name(name), is, "{name}");
        }
    }
}
