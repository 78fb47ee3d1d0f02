//! Which sending of a station is the newest that was accepted: older ones are replays, and so is one that is over.
//!
//! One file for each sender in the spool: `NUMBER SALT open` or `NUMBER SALT over`.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

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
///
/// What is known is asked and told without waiting; writing it down is for whoever may wait for a disk.
pub(super) struct Sessions {
    dir: PathBuf,
    newest: Mutex<Newest>,
    /// What the files say.
    saved: Mutex<Newest>,
}

type Newest = BTreeMap<[u8; 4], (Session, bool)>;

impl Sessions {
    /// What is remembered of these senders.
    pub fn open(dir: &Path, senders: impl Iterator<Item = [u8; 4]>) -> Result<Self> {
        let mut newest = BTreeMap::new();
        for sender in senders {
            newest.extend(read(dir, sender)?.map(|last| (sender, last)));
        }
        Ok(Self { dir: dir.to_owned(), saved: Mutex::new(newest.clone()), newest: Mutex::new(newest) })
    }

    /// Remembers what is written down of a further sender, of whom nothing is known yet.
    pub fn know(&self, sender: [u8; 4]) -> Result<()> {
        let mut saved = held(&self.saved);
        if !saved.contains_key(&sender)
            && let Some(last) = read(&self.dir, sender)?
        {
            saved.insert(sender, last);
            held(&self.newest).entry(sender).or_insert(last);
        }
        Ok(())
    }

    /// What to do with packets of a session.
    pub fn admits(&self, session: &Session) -> Admission {
        match held(&self.newest).get(&session.sender) {
            None => Admission::New,
            Some((newest, _)) if session.number > newest.number => Admission::New,
            Some((newest, false)) if session == newest => Admission::GoesOn,
            Some(_) => Admission::Replay,
        }
    }

    /// Takes a session for the newest of its sender, unless there is a newer one; one that is over stays over.
    pub fn note(&self, session: Session, is_over: bool) {
        let mut newest = held(&self.newest);
        let (last, was_over) = newest.entry(session.sender).or_insert((session, false));
        match session.number.cmp(&last.number) {
            Ordering::Less => {}
            Ordering::Equal => *was_over |= is_over,
            Ordering::Greater => (*last, *was_over) = (session, is_over),
        }
    }

    /// Writes down what is known of a sender, unless it is written already.
    pub fn save(&self, sender: [u8; 4]) -> Result<()> {
        // Whoever comes first writes the newest, so that no file goes back.
        let mut saved = held(&self.saved);
        let Some(state) = held(&self.newest).get(&sender).copied() else { return Ok(()) };
        if saved.get(&sender) == Some(&state) {
            return Ok(());
        }
        let (session, is_over) = state;
        let path = path(&self.dir, sender);
        let word = if is_over { "over" } else { "open" };
        let mut file = tempfile::NamedTempFile::new_in(&self.dir).map_err(file_error(&path))?;
        writeln!(file, "{} {} {word}", session.number, hex::encode(&session.salt))
            .map_err(file_error(&path))?;
        file.as_file().sync_data().map_err(file_error(&path))?;
        file.persist(&path).map_err(|e| file_error(&path)(e.error))?;
        saved.insert(sender, state);
        Ok(())
    }
}

fn held(newest: &Mutex<Newest>) -> MutexGuard<'_, Newest> {
    newest.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What is written down of a sender.
fn read(dir: &Path, sender: [u8; 4]) -> Result<Option<(Session, bool)>> {
    let path = path(dir, sender);
    match std::fs::read_to_string(&path) {
        Ok(text) => parse(&text, sender).map(Some).ok_or_else(|| {
            Error::fault(format!("{} does not say which sending was the last", path.display()))
                .hint("remove it: then replays of older sendings are taken in until the next new one")
        }),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(file_error(&path)(e)),
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
        let sessions = open();
        let set = |session, is_over| {
            sessions.note(session, is_over);
            sessions.save([1; 4]).unwrap();
        };
        assert_eq!(sessions.admits(&session(5, 0)), Admission::New);
        set(session(5, 0), false);
        for sessions in [&sessions, &open()] {
            assert_eq!(sessions.admits(&session(5, 0)), Admission::GoesOn);
            assert_eq!(sessions.admits(&session(5, 1)), Admission::Replay);
            assert_eq!(sessions.admits(&session(4, 0)), Admission::Replay);
            assert_eq!(sessions.admits(&session(6, 0)), Admission::New);
        }
        set(session(5, 0), true);
        for sessions in [&sessions, &open()] {
            assert_eq!(sessions.admits(&session(5, 0)), Admission::Replay);
            assert_eq!(sessions.admits(&session(6, 0)), Admission::New);
        }
    }

    #[test]
    fn a_sending_that_ends_while_the_next_one_is_under_way_takes_nothing_back() {
        let dir = tempfile::tempdir().unwrap();
        let session = |number| Session { sender: [1; 4], number, salt: [0; 8] };
        let sessions = Sessions::open(dir.path(), [].into_iter()).unwrap();
        sessions.note(session(5), false);
        sessions.note(session(6), false);
        // The end of the fifth is written down last.
        sessions.note(session(5), true);
        sessions.save([1; 4]).unwrap();
        let after = Sessions::open(dir.path(), [[1; 4]].into_iter()).unwrap();
        for sessions in [sessions, after] {
            assert_eq!(sessions.admits(&session(5)), Admission::Replay);
            assert_eq!(sessions.admits(&session(6)), Admission::GoesOn);
        }
    }
}
