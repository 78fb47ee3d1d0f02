//! Requests: what people behind the gap ask for, and what they are answered.
//!
//! What leaves a closed network is little, of fixed form, and read by a person ([`paper`]): a request names one package, so that
//! whether the name may leave can be told, and versions of it in few plain characters.

pub mod paper;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::ecosystem::{self, Ecosystem};
use crate::id::Id;
use crate::pattern::Pattern;
use crate::snapshot::Snapshot;
use crate::spec::Spec;
use crate::time::Time;

/// Longest spec of a request, in bytes.
pub const SPEC_BYTES_MAX: usize = 128;
/// Longest reason as people give it, in characters.
pub const REASON_CHARS_MAX: usize = 500;
/// Longest ticket, in characters.
pub const TICKET_CHARS_MAX: usize = 100;
/// Most requests that a station keeps of its own, and of each peer; the oldest that are answered give way to new ones.
pub const REQUESTS_MAX: usize = 2000;
/// Longest text of an answer, in bytes.
pub const ANSWER_BYTES_MAX: usize = 300;

/// Every request of a station: those that were made here, and those that came from peers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Requests {
    /// The number of the last one that was made here.
    pub last: u64,
    /// Oldest first.
    pub list: Vec<Request>,
}

crate::object!(Requests, "airlock.requests.v1");

/// A person asks for a package.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// Its name where it was made: `r1`, `r2`, ... in the order in which they were made.
    pub id: String,
    /// Who sent it; none for those that were made here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<Peer>,
    /// The channel that is to have it.
    pub channel: String,
    /// Its ecosystem.
    pub ecosystem: Ecosystem,
    /// The package, and versions if any are meant, as [`asked_spec`] spells them.
    pub spec: String,
    /// Why.
    pub reason: String,
    /// Who asks, where that was told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asked_by: Option<String>,
    /// When.
    pub asked: Time,
    /// Where it is discussed. It never leaves the station.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ticket: Option<String>,
    /// When it was first written into a file that may leave.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sent: Option<Time>,
    /// The last answer: what a bundle brought, or what the last bundle to the peer carried.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer: Option<Answer>,
}

/// Whose request it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Peer {
    /// What people here call the station; bundles to it are exported under this name.
    pub name: String,
    /// The key that signed the request, in hexadecimal.
    pub key: String,
    /// When it came.
    pub came: Time,
}

/// How far a request got.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Nobody was told of it yet; one that came from a peer was not answered yet.
    Open,
    /// It is in a file that may have left; of one that came from a peer: its answer is, in bundles of which nothing says that
    /// the peer takes them.
    Sent,
    /// It was answered.
    Answered,
}

impl State {
    /// The word for people.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Sent => "sent",
            Self::Answered => "answered",
        }
    }
}

impl Request {
    /// How far it got.
    pub const fn state(&self) -> State {
        match (&self.answer, self.sent) {
            (Some(_), _) => State::Answered,
            (None, Some(_)) => State::Sent,
            (None, None) => State::Open,
        }
    }

    /// Whether it was made here.
    pub const fn is_ours(&self) -> bool {
        self.from.is_none()
    }
}

impl Requests {
    /// Adds a request. Where there are too many of the same station, the oldest of them that is answered goes; if none is,
    /// nothing is added.
    ///
    /// # Errors
    ///
    /// [`BadRequest::TooMany`].
    pub fn add(&mut self, request: Request) -> Result<(), BadRequest> {
        let key = |request: &Request| request.from.as_ref().map(|peer| peer.key.clone());
        let whose = key(&request);
        let is_theirs = |held: &Request| key(held) == whose;
        if self.list.iter().filter(|held| is_theirs(held)).count() >= REQUESTS_MAX {
            let oldest = self.list.iter().position(|held| is_theirs(held) && held.answer.is_some());
            self.list.remove(oldest.ok_or(BadRequest::TooMany)?);
        }
        self.list.push(request);
        Ok(())
    }
}

/// What a station knows of what was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// It may be had.
    Offered,
    /// It waits for a person.
    Held,
    /// A rule denies it.
    Denied,
    /// What the channel takes of its source leaves it out.
    LeftOut,
    /// Nothing is known of it: the source does not list it.
    NotListed,
    /// There is no such channel.
    NoChannel,
}

/// The same with the particulars.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Known {
    /// What.
    pub outcome: Outcome,
    /// The newest version of which that is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// The nearest version that passes, where this one does not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nearest: Option<String>,
}

impl Known {
    /// Without particulars.
    pub const fn plain(outcome: Outcome) -> Self {
        Self { outcome, version: None, why: None, nearest: None }
    }

    /// Its texts as they may be shown to anybody: printable ASCII of bearable length.
    #[must_use]
    pub fn bounded(self) -> Self {
        let bound = |text: Option<String>| text.map(|text| printable(&text, ANSWER_BYTES_MAX));
        Self { version: bound(self.version), why: bound(self.why), nearest: bound(self.nearest), ..self }
    }
}

/// What the station that was asked says of a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// What it knows.
    pub known: Known,
    /// The snapshot in which it was so first, as far as bundles told of it; none where there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snapshot: Option<Id<Snapshot>>,
    /// Since when that is its answer.
    pub since: Time,
}

/// The answers that a bundle carries to one peer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answers {
    /// The key that signed the requests, in hexadecimal: nobody else's are answered.
    pub key: String,
    /// By the request's name.
    pub answers: BTreeMap<String, Answered>,
}

/// One answer, with what it answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answered {
    /// The channel that was asked of.
    pub channel: String,
    /// What was asked for.
    pub spec: String,
    /// The answer.
    pub answer: Answer,
}

crate::object!(Answers, "airlock.answers.v1");

impl Answers {
    /// Whether they keep to the limits that a sender keeps to.
    pub fn are_bounded(&self) -> bool {
        let fine = |text: &Option<String>| {
            text.as_ref().is_none_or(|text| *text == printable(text, ANSWER_BYTES_MAX))
        };
        self.answers.len() <= REQUESTS_MAX
            && self.answers.values().all(|one| {
                let known = &one.answer.known;
                fine(&known.version) && fine(&known.why) && fine(&known.nearest)
            })
    }
}

/// Why something cannot be asked for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadRequest {
    /// Not a spec, or one with more in it than is needed.
    #[error("this cannot be asked for: {0}")]
    Spec(String),
    /// The reason.
    #[error("the reason is to be 1 to {REASON_CHARS_MAX} characters on one line")]
    Reason,
    /// The ticket.
    #[error("a ticket is to be 1 to {TICKET_CHARS_MAX} printable ASCII characters")]
    Ticket,
    /// So many that nobody answers them.
    #[error("{REQUESTS_MAX} requests of the same station wait for an answer already")]
    TooMany,
}

/// What is asked for, in the one spelling that requests have: the canonical name of one package, and versions without blanks.
///
/// # Errors
///
/// If it is no spec, has wildcards in the name, or has more or other characters than versions need.
pub fn asked_spec(ecosystem: Ecosystem, text: &str) -> Result<String, BadRequest> {
    let bad = |why: &str| BadRequest::Spec(why.to_owned());
    let text = text.trim();
    let is_plain = |b: u8| b.is_ascii_alphanumeric() || b"._-+!*,<>=~|() ".contains(&b);
    if text.len() > SPEC_BYTES_MAX || !text.bytes().all(is_plain) {
        return Err(BadRequest::Spec(format!(
            "it is to be at most {SPEC_BYTES_MAX} bytes of letters, digits and what stands in versions"
        )));
    }
    let split = text.find(|c: char| "=<>!~ ".contains(c)).unwrap_or(text.len());
    let (name, versions) = text.split_at(split);
    let is_operator = |c: char| "=<>!~,|".contains(c);
    let mut tight = String::new();
    for part in versions.split_whitespace() {
        // A blank that is not beside an operator has a meaning of its own, which differs between programs.
        if tight.chars().next_back().is_some_and(|c| !is_operator(c)) && !part.starts_with(is_operator) {
            return Err(bad("versions with a blank between them are read in several ways"));
        }
        tight += part;
    }
    if !tight.is_empty() && !tight.starts_with(is_operator) {
        return Err(bad(
            "write `NAME==VERSION` for one version, `NAME=VERSION` or `NAME>=VERSION` for several",
        ));
    }
    let spec = format!("{name}{tight}");
    let read = Spec::parse(ecosystem, &spec).map_err(|e| BadRequest::Spec(e.to_string()))?;
    let exact = read.exact_name().ok_or_else(|| bad("a request names one package, without wildcards"))?;
    Ok(format!("{exact}{tight}"))
}

/// The canonical name in what [`asked_spec`] gave.
pub fn asked_name(ecosystem: Ecosystem, spec: &str) -> Option<String> {
    Spec::parse(ecosystem, spec).ok()?.exact_name().map(str::to_owned)
}

/// A reason as it is kept.
///
/// # Errors
///
/// If there is none, or it is too long or has more than one line.
pub fn reason(text: &str) -> Result<String, BadRequest> {
    let text = text.trim();
    let fine =
        !text.is_empty() && text.chars().count() <= REASON_CHARS_MAX && !text.contains(char::is_control);
    fine.then(|| text.to_owned()).ok_or(BadRequest::Reason)
}

/// A ticket as it is kept.
///
/// # Errors
///
/// If it is empty, too long or not printable.
pub fn ticket(text: &str) -> Result<String, BadRequest> {
    let text = text.trim();
    let fine = !text.is_empty()
        && text.len() <= TICKET_CHARS_MAX
        && text.bytes().all(|b| (b' '..=b'~').contains(&b));
    fine.then(|| text.to_owned()).ok_or(BadRequest::Ticket)
}

/// Whether any word of a text is a name that is reserved in-house, in whatever spelling an ecosystem takes for the same.
pub fn is_reserved(text: &str, reserved: &[Pattern]) -> bool {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && !"._-".contains(c));
    words.flat_map(|word| [word, word.trim_matches(['.', '_', '-'])]).filter(|word| !word.is_empty()).any(
        |word| {
            let pypi = ecosystem::canonical_name(Ecosystem::Pypi, word);
            let pypi = pypi.as_deref().unwrap_or(word);
            reserved
                .iter()
                .any(|p| p.matches_name(Ecosystem::Conda, word) || p.matches_name(Ecosystem::Pypi, pypi))
        },
    )
}

/// A text in at most so many printable ASCII characters without quotation marks and backslashes. Blanks in a row become one,
/// so that nothing stands between the words.
pub fn printable(text: &str, most: usize) -> String {
    let words: Vec<&str> = text.split_whitespace().collect();
    let plain = |c: char| match c {
        '"' => '\'',
        '\\' => '/',
        ' '..='~' => c,
        _ => '?',
    };
    let cut: String = words.join(" ").chars().map(plain).take(most).collect();
    cut.trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_names_one_package_in_one_spelling() {
        let table = [
            (Ecosystem::Conda, "NumPy >= 2, < 3", "numpy>=2,<3"),
            (Ecosystem::Conda, "idna", "idna"),
            (Ecosystem::Conda, "idna=3.6", "idna=3.6"),
            (Ecosystem::Conda, "idna>=3|<2", "idna>=3|<2"),
            (Ecosystem::Pypi, "Zope.Interface ~= 5.0", "zope-interface~=5.0"),
            (Ecosystem::Pypi, "torch==2.0.0+cu118", "torch==2.0.0+cu118"),
        ];
        for (ecosystem, typed, spelt) in table {
            assert_eq!(asked_spec(ecosystem, typed).as_deref(), Ok(spelt));
            assert_eq!(asked_spec(ecosystem, spelt).as_deref(), Ok(spelt), "it is its own spelling");
        }
        let long = format!("idna=={}", "1".repeat(SPEC_BYTES_MAX));
        for bad in [
            "",
            "py*",
            "idna 3.6",
            "idna >=3 <4 5",
            "idnа",
            "idna==3\u{7}",
            "idna>=3\tx",
            "a/b",
            "idna>>3",
            "idna[extra]",
            "idna; x",
            &long,
        ] {
            let read = asked_spec(Ecosystem::Conda, bad);
            assert!(read.is_err(), "{bad:?}: {read:?}");
        }
    }

    #[test]
    fn reserved_names_are_found_in_any_spelling_and_place() {
        let reserved = [Pattern::new("acme-*"), Pattern::new("skunkworks")];
        for text in [
            "acme-core",
            "ACME_core>=1",
            "acme.core",
            "x needs acme-core.",
            "(skunkworks)",
            "SkunkWorks,",
            "numpy==skunkworks",
        ] {
            assert!(is_reserved(text, &reserved), "{text}");
        }
        for text in ["numpy>=2", "acme", "skunk works", ""] {
            assert!(!is_reserved(text, &reserved), "{text}");
        }
    }

    #[test]
    fn texts_that_leave_are_printable_and_cut() {
        assert_eq!(printable("  a \u{202e}\t\"b\\\u{0}c\u{a0}d é ", 100), "a ? 'b/?c d ?");
        assert_eq!(printable("ab cd", 3), "ab");
        assert!(reason("").is_err() && reason("a\nb").is_err() && reason("a\u{1b}[2J").is_err());
        assert!(
            reason(&"x".repeat(REASON_CHARS_MAX + 1)).is_err()
                && reason(&"é".repeat(REASON_CHARS_MAX)).is_ok()
        );
        assert!(
            ticket("").is_err()
                && ticket(&"x".repeat(TICKET_CHARS_MAX + 1)).is_err()
                && ticket("A-1").is_ok()
        );
    }

    fn one(id: usize, answer: bool) -> Request {
        let time = Time::from_seconds(0);
        let known = Known::plain(Outcome::NotListed);
        Request {
            id: format!("r{id}"),
            from: None,
            channel: "main".into(),
            ecosystem: Ecosystem::Conda,
            spec: "idna".into(),
            reason: "why".into(),
            asked_by: None,
            asked: time,
            ticket: None,
            sent: None,
            answer: answer.then_some(Answer { known, snapshot: None, since: time }),
        }
    }

    #[test]
    fn the_oldest_answered_request_gives_way_and_one_that_waits_never_does() {
        let mut requests = Requests::default();
        for n in 0..REQUESTS_MAX {
            requests.add(one(n, n == 1 || n == 2)).unwrap();
        }
        requests.add(one(REQUESTS_MAX, false)).unwrap();
        assert!(requests.list.iter().all(|r| r.id != "r1"));
        requests.add(one(REQUESTS_MAX + 1, false)).unwrap();
        assert_eq!(requests.add(one(REQUESTS_MAX + 2, false)), Err(BadRequest::TooMany));
        assert_eq!(requests.list.len(), REQUESTS_MAX);
        // One station that asks much keeps no other from asking.
        let peer = Peer { name: "west".into(), key: "07".into(), came: Time::from_seconds(0) };
        requests.add(Request { from: Some(peer), ..one(1, false) }).unwrap();
    }

    #[test]
    fn answers_beyond_their_limits_are_known_as_such() {
        let answers = |why: &str| {
            let known = Known { why: Some(why.to_owned()), ..Known::plain(Outcome::Held) };
            let answer = Answer { known, snapshot: None, since: Time::from_seconds(0) };
            let one = Answered { channel: "main".into(), spec: "idna".into(), answer };
            Answers { key: String::new(), answers: [("r1".to_owned(), one)].into() }
        };
        assert!(answers("rule cvss-above-7 (CVE-2024-1)").are_bounded());
        for bad in ["\u{1b}[2J", "a\u{202e}b", &"x".repeat(ANSWER_BYTES_MAX + 1)] {
            assert!(!answers(bad).are_bounded(), "{bad:?}");
            let bounded = answers(bad).answers["r1"].answer.known.clone().bounded();
            assert!(answers(&bounded.why.unwrap()).are_bounded());
        }
    }
}
