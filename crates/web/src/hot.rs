//! Answers to requests that come again and again, ready to be sent.
//!
//! An answer was authorised when it was made, by the refs of one generation; it is found only while the refs
//! that are believed now have the same number. So a block, a new judgement or a new snapshot makes every
//! answer here worthless in the moment in which the refs are read, which [`View::generation`] bounds.
//! Nothing is held here of what was refused or is missing: made-up names cannot fill it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use airlock_engine::view::View;
use axum::http::header::ACCEPT;
use axum::http::{HeaderMap, Method, Uri};

use crate::memo::Memo;
use crate::respond::Representation;

/// Bytes of answers that are held.
const HOT_BYTES_MAX: usize = 48 << 20;
/// What an answer takes beside its body, in bytes.
const ENTRY_BYTES: usize = 1500;
/// After this time an answer is made anew, as shards of superseded snapshots are readable for a time only.
const AGE_MAX: Duration = Duration::from_secs(60);
/// Longer keys, in bytes, are not held.
const KEY_BYTES_MAX: usize = 1024;

/// An answer and what it rests on.
#[derive(Clone)]
struct Answer {
    generation: u64,
    made: Instant,
    representation: Arc<Representation>,
}

/// Answers by path.
pub(crate) struct Hot {
    /// By path, and what else an answer depends on.
    answers: Memo<Arc<[u8]>, Answer>,
}

impl Hot {
    pub fn new() -> Self {
        Self { answers: Memo::new(HOT_BYTES_MAX) }
    }

    /// An answer that holds at this moment.
    pub fn find(
        &self,
        view: &View,
        method: &Method,
        uri: &Uri,
        headers: &HeaderMap,
    ) -> Option<Arc<Representation>> {
        if *method != Method::GET && *method != Method::HEAD {
            return None;
        }
        let answer = match key(uri, headers)? {
            Spelling::Path(path) => self.answers.get(path.as_bytes()),
            Spelling::WithAccept(key) => self.answers.get(&*key),
        }?;
        let holds = view.generation() == Some(answer.generation) && answer.made.elapsed() < AGE_MAX;
        holds.then_some(answer.representation)
    }

    /// Holds an answer that was concluded from the refs of this generation.
    pub fn put(&self, generation: u64, uri: &Uri, headers: &HeaderMap, what: Arc<Representation>) {
        let Some(key) = key(uri, headers) else { return };
        let key: Arc<[u8]> = match key {
            Spelling::Path(path) => path.as_bytes().into(),
            Spelling::WithAccept(key) => key.into(),
        };
        let bytes = ENTRY_BYTES + key.len() + what.bytes_held();
        self.answers.put(key, Answer { generation, made: Instant::now(), representation: what }, bytes);
    }

    pub fn tidy(&self) {
        self.answers.tidy();
    }
}

enum Spelling<'a> {
    Path(&'a str),
    WithAccept(Box<[u8]>),
}

/// What an answer depends on. None where it shall not be held: a token in a path is written nowhere.
fn key<'a>(uri: &'a Uri, headers: &HeaderMap) -> Option<Spelling<'a>> {
    let path = uri.path();
    if path.len() > KEY_BYTES_MAX || path.contains("/t/") {
        return None;
    }
    if path.starts_with("/conda/") {
        return Some(Spelling::Path(path));
    }
    if !path.starts_with("/pypi/") {
        return None;
    }
    // Pages of the Simple API come in three forms.
    let mut accepts = headers.get_all(ACCEPT).iter();
    let accept = accepts.next().map(|a| a.as_bytes()).unwrap_or_default();
    let is_short = accepts.next().is_none() && path.len() + accept.len() < KEY_BYTES_MAX;
    is_short.then(|| Spelling::WithAccept([path.as_bytes(), b"\n", accept].concat().into()))
}
