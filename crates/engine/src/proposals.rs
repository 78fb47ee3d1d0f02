//! Acts that need a second person, and those that somebody had to do alone.
//!
//! What `[people] two_person` names becomes a *proposal* instead of acting: an object that says all that is to be done and
//! what it rests on. It is done when a second person confirms it who may do it too, while what it rests on is as it was and
//! both still have the right. `--break-glass` acts at once, and is shown until another person looked at it. What makes
//! verdicts stricter never waits.
//!
//! A proposal is closed before it is carried out: killed in between, it is lost and proposed anew, and never done twice.

mod act;
mod told;

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use airlock_core::decision::Ruling;
use airlock_core::id::{Digest, Id};
use airlock_core::object;
use airlock_core::people::People;
use airlock_core::roles::Action;
use airlock_core::time::{Span, Time};
use airlock_store::RefChange;

use crate::boxed;
use crate::bundle::preview::Proposed;
use crate::bundle::waiting;
use crate::clock;
use crate::error::{Error, Result};
use crate::ledger::RESTORE;
use crate::people;
use crate::station::Station;
use crate::sync::Rejudged;

pub use act::Act;

/// How long a proposal waits, in days.
pub const WAITS_DAYS: i64 = 14;
/// What may be put under two persons, by the names of `docs/people.md`: what lets something in that was kept out.
pub const PROPOSABLE: [Action; 9] = [
    Action::Approve,
    Action::Rule,
    Action::Waive,
    Action::Lift,
    Action::Policy,
    Action::Trust,
    Action::Rollback,
    Action::Feeds,
    Action::Import,
];

/// How a proposal stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// It waits for a second person.
    Open,
    /// It was done by one person alone, for this reason, and nobody else looked at it yet.
    Broken(String),
}

/// Something that waits for a second person, before or after it was done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proposal {
    /// Its name.
    pub id: String,
    /// The user who proposed it, or did it.
    pub by: String,
    /// When.
    pub since: Time,
    /// Until when it waits.
    pub expires: Time,
    /// What.
    pub act: Act,
    /// What it rests on: refs, and to what they pointed.
    pub rests_on: BTreeMap<String, Option<Digest>>,
    /// How it stands.
    pub state: State,
    /// What it would change, of a bundle: for people, who confirm what the act says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub would: Option<Proposed>,
}

airlock_core::object!(Proposal, "airlock.proposal.v1");

/// What was proposed by somebody else and is carried out now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Confirmed {
    /// Who proposed it.
    pub by: String,
    /// What.
    pub act: Act,
}

/// Whether [`gate`] would make a proposal of the import of a bundle, by whoever acts.
pub(crate) fn would_wait(station: &Station, import: &Act) -> bool {
    station.confirmed.is_none()
        && station.break_glass.is_none()
        && station.login.is_some()
        && import.needs_two(Action::Import, &station.config.people.two_person)
}

/// Asks whether this may be done now, by whoever acts: whether they have the right, and whether a second person is needed.
///
/// # Errors
///
/// The answer is no: they have no right to it; or it waits from now on for a second person, as a proposal.
pub(crate) async fn gate(station: &Station, act: Act) -> Result<()> {
    gate_shown(station, act, None).await
}

/// The same, with what is shown to the second person of what it would change.
#[boxed]
pub(crate) async fn gate_shown(station: &Station, act: Act, would: Option<Proposed>) -> Result<()> {
    if let Some(confirmed) = &station.confirmed {
        return match confirmed.act == act {
            true => Ok(()),
            // It would be proposed anew by whoever confirmed, or done alone.
            false => {
                Err(Error::no(format!("what would be done now is not what was confirmed: {}", act.told()))
                    .hint("nothing of it was done; have it proposed anew for what is in force now"))
            }
        };
    }
    let (action, channel) = (act.action(station).await?, act.channel(station).await?);
    people::allow(station, action, channel.as_deref()).await?;
    // Taking back what lifted something only makes verdicts stricter.
    let takes_back = matches!(&act, Act::Decide { ruling: Ruling::Revoke { .. }, .. });
    if takes_back && [Action::Waive, Action::Approve].contains(&action) {
        return Ok(());
    }
    if !act.needs_two(action, &station.config.people.two_person) {
        return Ok(());
    }
    let Some(login) = &station.login else {
        return Err(Error::no(format!(
            "`{}` needs two persons here, and nobody says who the first is",
            action.name()
        ))
        .hint("say --as USER, with that user's token in AIRLOCK_TOKEN or --token-file FILE"));
    };
    let state = station.break_glass.clone().map_or(State::Open, State::Broken);
    let (is_broken, told) = (state != State::Open, act.told());
    let proposal = open(station, &login.name, (act, would), state).await?;
    if is_broken {
        return Ok(());
    }
    let (id, ends) = (&proposal.id, proposal.expires.date());
    Err(Error::no(format!("proposal {id} waits for a second person: {told}")).hint(format!(
        "another person who may `{}` runs `airlock proposals confirm {id}` before {ends}; nothing was changed",
        action.name()
    )))
}

fn ref_name(id: &str) -> String {
    format!("proposal/{id}")
}

/// What names of proposals begin with that wait to be confirmed.
const OPEN: char = 'p';
/// What names begin with of what was done alone, so that it is found without reading the others.
const BROKEN: char = 'b';

async fn open(
    station: &Station,
    by: &str,
    (act, would): (Act, Option<Proposed>),
    state: State,
) -> Result<Proposal> {
    let db = &station.store.db;
    let since = station.now().await?;
    let mut rests_on = BTreeMap::new();
    for name in act.rests_on(station).await? {
        let at = db.find_ref(&name).await?;
        rests_on.insert(name, at);
    }
    let (begin, action) = match state {
        State::Open => (OPEN, "proposal.open"),
        State::Broken(_) => (BROKEN, "proposal.break-glass"),
    };
    // The number of the entry that tells of it: nobody else has it.
    let id = format!("{begin}{}", db.ledger_head().await?.number + 1);
    let expires = since.after(Span::days(WAITS_DAYS));
    let proposal = Proposal { id, by: by.to_owned(), since, expires, act, rests_on, state, would };
    let stored = db.put(&proposal).await?.digest();
    let mut moved = vec![RefChange { name: ref_name(&proposal.id), from: None, to: Some(stored) }];
    let mut detail = serde_json::json!({"proposal": stored, "act": proposal.act.told()});
    // What ended is of no use to anybody. One that cannot be read keeps nothing else from being proposed.
    let mut ended = Vec::new();
    for (name, id) in db.refs(&ref_name(&OPEN.to_string())).await? {
        let Ok(held) = held(station, id).await else { continue };
        if held.expires <= since {
            moved.push(RefChange { name, from: Some(id), to: None });
            ended.push(held.id);
        } else if (&held.state, &held.act, &held.rests_on)
            == (&proposal.state, &proposal.act, &proposal.rests_on)
        {
            // It is proposed already, for what is in force now.
            return Ok(held);
        }
    }
    if !ended.is_empty() {
        detail["ended"] = ended.into();
    }
    if let State::Broken(reason) = &proposal.state {
        detail["reason"] = reason.as_str().into();
    }
    let has_ended = moved.len() > 1;
    station.commit(moved, action, &ref_name(&proposal.id), &detail).await?;
    if has_ended {
        waiting::tidy_after(station).await;
    }
    Ok(proposal)
}

/// Everything that waits for a second person, by its name.
pub async fn list(station: &Station) -> Result<Vec<Proposal>> {
    under(station, &ref_name("")).await
}

/// What was done by one person alone, and that nobody else looked at yet.
pub async fn broken(station: &Station) -> Result<Vec<Proposal>> {
    under(station, &ref_name(&BROKEN.to_string())).await
}

async fn under(station: &Station, prefix: &str) -> Result<Vec<Proposal>> {
    let mut out = Vec::new();
    for id in station.store.db.refs(prefix).await?.into_values() {
        out.push(held(station, id).await?);
    }
    out.sort_by_key(|proposal: &Proposal| (proposal.since, proposal.id.clone()));
    Ok(out)
}

/// Reads a proposal: what somebody else wrote under its name in the database is none.
async fn held(station: &Station, id: Digest) -> Result<Proposal> {
    let proposal: Proposal = station.store.db.get(Id::new(id)).await?;
    if object::encode(&proposal)?.0.digest() != id {
        return Err(Error::unsafe_(format!(
            "proposal {} was changed: it is not what its name says",
            proposal.id
        ))
        .hint(RESTORE));
    }
    Ok(proposal)
}

/// One of them.
pub async fn find(station: &Station, id: &str) -> Result<Proposal> {
    Ok(at(station, id).await?.1)
}

async fn at(station: &Station, id: &str) -> Result<(Digest, Proposal)> {
    let found = station.store.db.find_ref(&ref_name(id)).await?.ok_or_else(|| {
        Error::usage(format!("no proposal `{id}` waits")).hint("`airlock proposals list` shows what does")
    })?;
    Ok((found, held(station, found).await?))
}

/// Whoever acts, who must be known by a token and have the right to what is proposed; the proposal is somebody else's.
async fn second(station: &Station, known: &People, proposal: &Proposal) -> Result<()> {
    let Some(login) = &station.login else {
        return Err(Error::no("a second person has to be known by a token")
            .hint("say --as USER, with that user's token in AIRLOCK_TOKEN or --token-file FILE"));
    };
    if login.name == proposal.by {
        return Err(Error::no(format!("{} is of {}, and needs another person", proposal.id, proposal.by))
            .hint("ask somebody else who has the right"));
    }
    may(station, known, &proposal.act, &login.name).await
}

/// Whether somebody has every right that an act asks for.
async fn may(station: &Station, known: &People, act: &Act, who: &str) -> Result<()> {
    let (action, channel) = (act.action(station).await?, act.channel(station).await?);
    people::check(known, who, action, channel.as_deref())?;
    match act {
        Act::Import { back: Some(_), .. } => people::check(known, who, Action::Rollback, None),
        _ => Ok(()),
    }
}

/// Whoever proposed it must still have the right to it.
async fn first(station: &Station, known: &People, proposal: &Proposal) -> Result<()> {
    may(station, known, &proposal.act, &proposal.by).await.map_err(|e| e.while_("whoever proposed it"))
}

/// Does what somebody else proposed.
///
/// # Errors
///
/// If whoever acts is no second person for it, it has ended, or what it rests on is not as it was.
#[boxed]
pub async fn confirm(station: &Station, id: &str) -> Result<Rejudged> {
    let (stored, proposal) = at(station, id).await?;
    if proposal.state != State::Open {
        return Err(Error::usage(format!("{id} was done already, by {} alone", proposal.by))
            .hint(format!("look at it, and then run `airlock proposals review {id} --reason TEXT`")));
    }
    let (rights, known) = people::held(station).await?;
    second(station, &known, &proposal).await?;
    first(station, &known, &proposal).await?;
    if proposal.expires <= clock::latest(station).await? {
        return Err(Error::no(format!("{id} waited until {} and has ended", proposal.expires.date()))
            .hint("have it proposed anew"));
    }
    let kept = match &proposal.act {
        Act::Import { manifest, .. } => {
            let kept = waiting::hold(station).await?;
            waiting::check(station, *manifest)?;
            Some(kept)
        }
        _ => None,
    };
    let mut stated = as_it_was(station, &proposal).await?;
    // Nobody's rights were taken in the meantime either.
    stated.push(RefChange { name: people::REF.to_owned(), from: rights, to: rights });
    let act = proposal.act.clone();
    let confirmed = Station {
        confirmed: Some(Confirmed { by: proposal.by.clone(), act: act.clone() }),
        ..station.clone()
    };
    stated.push(RefChange { name: ref_name(id), from: Some(stored), to: None });
    let detail = serde_json::json!({"by": proposal.by, "act": act.told()});
    confirmed.commit(stated, "proposal.confirm", &ref_name(id), &detail).await?;
    let done = act.carry_out(&confirmed).await;
    // What could not be carried out is proposed anew, for which what came of it is there still.
    if kept.is_some() && done.is_ok() {
        drop(kept);
        waiting::tidy_after(station).await;
    }
    done.map_err(|e| {
        let hint = e.hint.clone().unwrap_or_default();
        e.while_(&format!("{id} was confirmed, and could not be carried out; have it proposed anew"))
            .hint(hint)
    })
}

/// What a proposal rests on, to be stated in the transaction that closes it.
///
/// # Errors
///
/// The answer is no where something of that is not as it was.
async fn as_it_was(station: &Station, proposal: &Proposal) -> Result<Vec<RefChange>> {
    let names = proposal.act.rests_on(station).await?;
    let names: BTreeSet<&String> = names.iter().chain(proposal.rests_on.keys()).collect();
    let mut stated = Vec::new();
    for name in names {
        let was = proposal.rests_on.get(name).copied().flatten();
        if station.store.db.find_ref(name).await? != was {
            let id = &proposal.id;
            return Err(Error::no(format!("{name} is another since {id} was proposed")).hint(format!(
                "`airlock proposals withdraw {id}`, and have it proposed anew for what is in force now"
            )));
        }
        stated.push(RefChange { name: name.clone(), from: was, to: was });
    }
    Ok(stated)
}

/// Lets a proposal go: its own person, or somebody who could have confirmed it.
pub async fn withdraw(station: &Station, id: &str) -> Result<()> {
    let (stored, proposal) = at(station, id).await?;
    if proposal.state != State::Open {
        return Err(Error::usage(format!("{id} was done already"))
            .hint("it is looked at with `airlock proposals review`"));
    }
    if station.login.as_ref().is_none_or(|login| login.name != proposal.by) {
        second(station, &people::read(station).await?, &proposal).await?;
    }
    close(station, id, stored, "proposal.withdraw", &serde_json::json!({"by": proposal.by})).await?;
    waiting::tidy_after(station).await;
    Ok(())
}

/// Says that another person looked at what was done alone.
pub async fn review(station: &Station, id: &str, reason: &str) -> Result<()> {
    let (stored, proposal) = at(station, id).await?;
    if proposal.state == State::Open {
        return Err(Error::usage(format!("{id} is not done yet"))
            .hint(format!("`airlock proposals confirm {id}` does it")));
    }
    if reason.trim().is_empty() {
        return Err(Error::usage("a review needs a word").hint("say what came of it with --reason TEXT"));
    }
    second(station, &people::read(station).await?, &proposal).await?;
    let detail = serde_json::json!({"by": proposal.by, "act": proposal.act.told(), "reason": reason.trim()});
    close(station, id, stored, "proposal.review", &detail).await
}

async fn close(
    station: &Station,
    id: &str,
    stored: Digest,
    action: &str,
    detail: &serde_json::Value,
) -> Result<()> {
    let moved = RefChange { name: ref_name(id), from: Some(stored), to: None };
    station.commit(vec![moved], action, &ref_name(id), detail).await
}

/// Checks what a configuration puts under two persons.
pub(crate) fn check_names(names: &[String]) -> Result<()> {
    let known: BTreeSet<&str> = PROPOSABLE.into_iter().map(Action::name).collect();
    match names.iter().find(|name| !known.contains(name.as_str())) {
        Some(unknown) => {
            Err(Error::usage(format!("[people] two_person: `{unknown}` cannot be put under two persons"))
                .hint(format!("use some of {}", known.into_iter().collect::<Vec<_>>().join(", "))))
        }
        None => Ok(()),
    }
}
