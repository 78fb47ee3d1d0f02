//! Which sending of a station is the newest that was accepted: older ones are replays, and so is one that is over.
//!
//! One file for each sender in the spool: `NUMBER SALT open` or `NUMBER SALT over`.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use airlock_core::hex;
use airlock_formats::oneway::packet::Session;

use crate::error::{Error, Result, file_error};

/// What to do with packets of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Admission {
    /// It is newer than all before.
    New,
    /// It is the newest, and goes on.
    GoesOn,
    /// It is older, or over.
    Replay,
}

/// The newest session of each sender.
pub(super) struct Sessions {
    dir: PathBuf,
    newest: BTreeMap<[u8; 4], (Session, bool)>,
}

impl Sessions {
    /// What is remembered of these senders.
    pub fn open(dir: &Path, senders: impl Iterator<Item = [u8; 4]>) -> Result<Self> {
        let mut newest = BTreeMap::new();
        for sender in senders {
            let path = path(dir, sender);
            match std::fs::read_to_string(&path) {
                Ok(text) => {
                    let read = parse(&text, sender).ok_or_else(|| {
                        Error::fault(format!("{} does not say which sending was the last", path.display()))
                            .hint("remove it: then replays of older sendings are taken in until the next new one")
                    })?;
                    newest.insert(sender, read);
                }
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
                Err(e) => return Err(file_error(&path)(e)),
            }
        }
        Ok(Self { dir: dir.to_owned(), newest })
    }

    /// What to do with packets of a session.
    pub fn admits(&self, session: &Session) -> Admission {
        match self.newest.get(&session.sender) {
            None => Admission::New,
            Some((newest, _)) if session.number > newest.number => Admission::New,
            Some((newest, false)) if session == newest => Admission::GoesOn,
            Some(_) => Admission::Replay,
        }
    }

    /// Remembers a session as the newest of its sender.
    pub fn set(&mut self, session: Session, is_over: bool) -> Result<()> {
        let path = path(&self.dir, session.sender);
        let state = if is_over { "over" } else { "open" };
        let mut file = tempfile::NamedTempFile::new_in(&self.dir).map_err(file_error(&path))?;
        writeln!(file, "{} {} {state}", session.number, hex::encode(&session.salt))
            .map_err(file_error(&path))?;
        file.as_file().sync_data().map_err(file_error(&path))?;
        file.persist(&path).map_err(|e| file_error(&path)(e.error))?;
        self.newest.insert(session.sender, (session, is_over));
        Ok(())
    }
}

fn path(dir: &Path, sender: [u8; 4]) -> PathBuf {
    dir.join(format!("session-{}", hex::encode(&sender)))
}

fn parse(text: &str, sender: [u8; 4]) -> Option<(Session, bool)> {
    let words: Vec<&str> = text.split_ascii_whitespace().collect();
    let [number, salt, state] = words[..] else { return None };
    let session = Session { sender, number: number.parse().ok()?, salt: hex::decode(salt)? };
    let is_over = match state {
        "open" => false,
        "over" => true,
        _ => return None,
    };
    Some((session, is_over))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn older_sendings_and_those_that_are_over_are_replays_also_after_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let session = |number, salt| Session { sender: [1; 4], number, salt: [salt; 8] };
        let open = || Sessions::open(dir.path(), [[1; 4]].into_iter()).unwrap();
        let mut sessions = open();
        assert_eq!(sessions.admits(&session(5, 0)), Admission::New);
        sessions.set(session(5, 0), false).unwrap();
        for sessions in [&sessions, &open()] {
            assert_eq!(sessions.admits(&session(5, 0)), Admission::GoesOn);
            assert_eq!(sessions.admits(&session(5, 1)), Admission::Replay);
            assert_eq!(sessions.admits(&session(4, 0)), Admission::Replay);
            assert_eq!(sessions.admits(&session(6, 0)), Admission::New);
        }
        sessions.set(session(5, 0), true).unwrap();
        for sessions in [&sessions, &open()] {
            assert_eq!(sessions.admits(&session(5, 0)), Admission::Replay);
            assert_eq!(sessions.admits(&session(6, 0)), Admission::New);
        }
    }
}
