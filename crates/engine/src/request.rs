//! Requests: asking for a package from behind the gap, and taking in what others ask for.
//!
//! All of them are one object, which the ref [`REF`] names. What may leave is told in one place, `may_leave`, which is asked when a
//! request is made and again whenever one is written into a file: names are reserved later than they are asked for.

mod answer;
mod known;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read as _, Write as _};
use std::path::Path;

use serde::{Deserialize, Serialize};

use airlock_core::bundle::{self, SignatureLine};
use airlock_core::channel::{Channel, ChannelFeed, is_plain_name};
use airlock_core::hex;
use airlock_core::id::{Digest, Id};
use airlock_core::pattern::Pattern;
use airlock_core::request::paper::{Asked, FILE_BYTES_MAX, LINES_MAX, Paper};
use airlock_core::request::{self, BadRequest, Known, Outcome, Peer, Request, Requests, State};
use airlock_core::roles::Action;
use airlock_store::RefChange;

use crate::error::{Error, Result, file_error};
use crate::people;
use crate::station::Station;
use crate::view::View;
use crate::{channel, files, keys, policy, trust};

pub(crate) use answer::{answers, check, record, sent};

/// The ref of all requests.
pub const REF: &str = "requests";
/// How often a change is tried again when somebody else changed requests in between.
const TRIES: usize = 20;

/// `[requests]`: what of requests may leave.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Leaving {
    /// Names that never leave, beside those that any policy reserves.
    pub reserved: Vec<String>,
    /// Whether it is told who asks.
    pub askers: bool,
    /// Whether it is told why.
    pub reasons: bool,
}

impl Default for Leaving {
    fn default() -> Self {
        Self { reserved: Vec::new(), askers: false, reasons: true }
    }
}

impl Leaving {
    pub(crate) fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

impl From<BadRequest> for Error {
    fn from(bad: BadRequest) -> Self {
        let hint = match bad {
            BadRequest::Spec(_) => "name one package and, if it matters, its versions: `numpy>=2,<3`",
            BadRequest::Reason => "say in a sentence what it is needed for, with --reason TEXT",
            BadRequest::Ticket => "give the number of the ticket or its address",
            BadRequest::TooMany => "have those answered first: `airlock request list` shows what to do next",
        };
        Self::usage(bad.to_string()).hint(hint)
    }
}

/// Every request, and the object that says so.
pub async fn load(station: &Station) -> Result<(Option<Digest>, Requests)> {
    match station.store.db.find_ref(REF).await? {
        Some(id) => Ok((Some(id), station.store.db.get(Id::new(id)).await?)),
        None => Ok((None, Requests::default())),
    }
}

/// What a change did: its entry in the ledger.
struct Done<T> {
    action: &'static str,
    subject: String,
    detail: serde_json::Value,
    answer: T,
}

/// Changes the requests in one step with its entry in the ledger; nothing changes where there is nothing to be done.
async fn change<T>(
    station: &Station,
    mut each: impl FnMut(&mut Requests) -> Result<Option<Done<T>>>,
) -> Result<Option<T>> {
    for _ in 0..TRIES {
        let (from, mut requests) = load(station).await?;
        let Some(done) = each(&mut requests)? else { return Ok(None) };
        let id = station.store.db.put(&requests).await?;
        let moved = RefChange { name: REF.to_owned(), from, to: Some(id.digest()) };
        match station.commit(vec![moved], done.action, &done.subject, &done.detail).await {
            Err(e) if e.is_race => {}
            other => return other.map(|()| Some(done.answer)),
        }
    }
    Err(Error::fault("others keep changing requests at the same time").hint("run it again"))
}

/// The names that never leave: those of `[requests]` and of every policy, since what one channel is to keep in is no business of
/// whoever feeds another.
async fn reserved(station: &Station) -> Result<Vec<Pattern>> {
    let mut out: Vec<Pattern> = station.config.requests.reserved.iter().map(|p| Pattern::new(p)).collect();
    for name in policy::list(station).await? {
        out.extend(policy::find(station, &name).await?.policy.reserved);
    }
    Ok(out)
}

/// Whether nothing in a request is a name that is reserved in-house. Nobody is told which.
fn may_leave(request: &Request, reserved: &[Pattern]) -> bool {
    // As it is kept and as it is told: where a reason is cut, what is left of a word may be a name of its own.
    let told = Asked::reason(&request.reason);
    let texts = [request.spec.as_str(), &request.reason, &told];
    !texts.into_iter().chain(request.asked_by.as_deref()).any(|text| request::is_reserved(text, reserved))
}

/// The channel that a bundle feeds and that a name lies in: nobody outside knows of its children here.
async fn fed(station: &Station, name: &str) -> Result<Channel> {
    let mut found = channel::find(station, name).await?;
    while let Some(parent) = found.parent().map(str::to_owned) {
        found = channel::find(station, &parent).await?;
    }
    match found.feed {
        ChannelFeed::Bundles { .. } => Ok(found),
        ChannelFeed::Source { .. } | ChannelFeed::Parent { .. } | ChannelFeed::Tree {} => {
            Err(Error::usage(format!(
                "channel `{}` is read from a source of this station, so that there is nobody to ask",
                found.name
            ))
            .hint(format!("`airlock explain {} SPEC` says why something is not offered", found.name)))
        }
    }
}

/// A request that was made.
#[derive(Clone, Debug, Serialize)]
pub struct Made {
    /// The request.
    pub request: Request,
    /// What this station knows of it already.
    pub here: Known,
}

/// Asks for a package in a channel that bundles feed.
///
/// # Errors
///
/// The answer is no where it is offered already, was asked for before, or may not be asked for outside.
pub async fn new(
    station: &Station,
    (name, spec): (&str, &str),
    reason: &str,
    ticket: Option<&str>,
) -> Result<Made> {
    let into = fed(station, name).await?;
    people::allow(station, Action::Request, Some(name)).await?;
    let spec = request::asked_spec(into.ecosystem, spec)?;
    let mut asked = Request {
        id: String::new(),
        from: None,
        channel: into.name.clone(),
        ecosystem: into.ecosystem,
        spec,
        reason: request::reason(reason)?,
        asked_by: Asked::asker(station.user()),
        asked: station.now().await?,
        ticket: ticket.map(request::ticket).transpose()?,
        sent: None,
        answer: None,
    };
    if !may_leave(&asked, &reserved(station).await?) {
        return Err(Error::no(
            "this may not be asked for outside: it, or the reason, names what stays in-house",
        )
        .hint("ask whoever looks after this station; nothing of it was kept"));
    }
    let here = known::known(&View::new(station.clone()), &into.name, into.ecosystem, &asked.spec).await?;
    if here.outcome == Outcome::Offered {
        let (name, version) = (&into.name, here.version.as_deref().unwrap_or_default());
        let message = format!("it is there already: channel `{name}` offers {} {version}", asked.spec);
        let hint = format!("`airlock client-config {name}` shows how to install from it");
        return Err(Error::no(message).hint(hint));
    }
    let made = change(station, |requests| {
        let same =
            |held: &&Request| held.is_ours() && (&held.channel, &held.spec) == (&asked.channel, &asked.spec);
        if let Some(held) = requests.list.iter().find(same).filter(|held| !was_given(held)) {
            let state = held.state().word();
            return Err(Error::no(format!("this was asked for already: {} is {state}", held.id))
                .hint("`airlock request list` shows what to do next"));
        }
        requests.last += 1;
        asked.id = format!("r{}", requests.last);
        requests.add(asked.clone())?;
        // The ledger is told on, and goes out with evidence: what is asked for, why and by which ticket is in the object alone.
        let (kept, _) = airlock_core::object::encode(requests)?;
        let detail = serde_json::json!({ "channel": asked.channel, "requests": kept.digest() });
        let subject = format!("request/{}", asked.id);
        Ok(Some(Done { action: "request.new", subject, detail, answer: asked.clone() }))
    });
    let request = made.await?.ok_or_else(|| Error::fault("the request was not kept"))?;
    Ok(Made { request, here })
}

/// Whether it was answered by what was asked for; what is asked for again then went missing since.
fn was_given(request: &Request) -> bool {
    request.answer.as_ref().is_some_and(|answer| answer.known.outcome == Outcome::Offered)
}

/// What was written into a file that may leave.
#[derive(Clone, Debug, Serialize)]
pub struct Exported {
    /// The requests in it.
    pub requests: Vec<String>,
    /// Those that stay here, since a name in them was reserved after they were made.
    pub withheld: Vec<String>,
}

/// Writes the requests that nobody was told of yet into a file, each signed by itself; with `again` also those that were not
/// answered yet. Only of these channels, if any are named: what one sender is asked is no business of another.
pub async fn export(station: &Station, path: &Path, channels: &[String], again: bool) -> Result<Exported> {
    people::allow(station, Action::Export, None).await?;
    let (_, requests) = load(station).await?;
    let reserved = reserved(station).await?;
    let is_wanted = |request: &&Request| {
        let state = request.state();
        request.is_ours()
            && (state == State::Open || again && state == State::Sent)
            && (channels.is_empty() || channels.contains(&request.channel))
    };
    let (leave, stay): (Vec<&Request>, Vec<&Request>) =
        requests.list.iter().filter(is_wanted).partition(|request| may_leave(request, &reserved));
    let ids = |list: &[&Request]| list.iter().map(|request| request.id.clone()).collect::<Vec<_>>();
    let leave: Vec<&Request> = leave.into_iter().take(LINES_MAX).collect();
    let out = Exported { requests: ids(&leave), withheld: ids(&stay) };
    if leave.is_empty() {
        let why = if stay.is_empty() { "no request waits to be sent" } else { "what waits may not leave" };
        return Err(Error::no(why).hint("`airlock request list` shows every request and what became of it"));
    }
    let leaving = &station.config.requests;
    let lines: Vec<(Asked, [u8; 64])> = leave
        .into_iter()
        .map(|request| {
            let asked = as_told(request, leaving);
            let signature = station.key.sign(asked.to_string().as_bytes()).signature;
            (asked, signature)
        })
        .collect();
    write(path, &Paper::write(&station.key.public(), &lines))?;
    let now = station.now().await?;
    let told: BTreeSet<&String> = out.requests.iter().collect();
    change(station, |requests| {
        let ours = requests.list.iter_mut().filter(|held| held.is_ours() && told.contains(&held.id));
        ours.for_each(|held| held.sent = Some(held.sent.unwrap_or(now)));
        let detail = serde_json::json!({ "requests": out.requests, "withheld": out.withheld.len() });
        Ok(Some(Done { action: "request.export", subject: REF.to_owned(), detail, answer: () }))
    })
    .await?;
    Ok(out)
}

/// What of a request leaves.
fn as_told(request: &Request, leaving: &Leaving) -> Asked {
    Asked {
        id: request.id.clone(),
        ecosystem: request.ecosystem,
        channel: request.channel.clone(),
        spec: request.spec.clone(),
        asked: request.asked,
        by: request.asked_by.clone().filter(|_| leaving.askers),
        reason: if leaving.reasons { Asked::reason(&request.reason) } else { String::new() },
    }
}

/// Writes the file as a whole, or not at all.
fn write(path: &Path, text: &str) -> Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
    // It is made to be handed on, as far as the umask lets it.
    let handed_on = std::fs::Permissions::from_mode(0o666);
    let file =
        tempfile::Builder::new().prefix(".airlock-requests-").permissions(handed_on).tempfile_in(folder);
    let mut file = file.map_err(file_error(folder))?;
    file.write_all(text.as_bytes()).and_then(|()| file.as_file().sync_data()).map_err(file_error(path))?;
    file.persist_noclobber(path).map_err(|e| match e.error.kind() {
        std::io::ErrorKind::AlreadyExists => Error::usage(format!("{} is there already", path.display()))
            .hint("give a new name: a file of requests may have been released"),
        _ => file_error(path)(e.error),
    })?;
    Ok(())
}

/// What a file brought.
#[derive(Clone, Debug, Serialize)]
pub struct Imported {
    /// Whose requests they are.
    pub peer: String,
    /// Those that are new.
    pub requests: Vec<String>,
    /// How many were here already.
    pub again: usize,
}

/// Takes in the requests of a peer: of one whose key is trusted, or whose key and name are given.
///
/// # Errors
///
/// One line that is not as it was signed makes the whole file refused; nothing of it is kept.
pub async fn import(station: &Station, path: &Path, given: Option<([u8; 32], String)>) -> Result<Imported> {
    people::allow(station, Action::Import, None).await?;
    let paper = read(path)?;
    let (key, name) = whose(station, &paper, given).await?;
    for line in &paper.lines {
        let signed = SignatureLine { public_key: key, signature: line.signature };
        if !keys::verifies(&signed, line.asked.to_string().as_bytes()) {
            return Err(Error::unsafe_(format!(
                "{}, line {}: the signature does not fit, the line was changed",
                path.display(),
                line.number
            ))
            .hint("nothing of it was taken; take out whole lines only, and tell your security officer of the rest"));
        }
    }
    let now = station.now().await?;
    let peer = Peer { name: name.clone(), key: hex::encode(&key), came: now };
    let done = change(station, |requests| {
        let out = take(requests, &paper, &peer)?;
        if out.requests.is_empty() {
            return Ok(None);
        }
        let detail = serde_json::json!({ "key": peer.key, "requests": out.requests, "again": out.again });
        Ok(Some(Done { action: "request.import", subject: format!("peer/{name}"), detail, answer: out }))
    });
    let nothing = Imported { peer: peer.name.clone(), requests: Vec::new(), again: paper.lines.len() };
    Ok(done.await?.unwrap_or(nothing))
}

fn read(path: &Path) -> Result<Paper> {
    let hint = "nothing of it was taken; give the file that `airlock request export` wrote, as a whole or with whole lines taken out";
    let bad = |what: String| Error::unsafe_(format!("{}: {what}", path.display())).hint(hint);
    let mut bytes = Vec::new();
    let file = files::open_regular(path).map_err(file_error(path))?;
    file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(file_error(path))?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(bad(format!("it is larger than {FILE_BYTES_MAX} bytes")));
    }
    let text = String::from_utf8(bytes).map_err(|_| bad("it is no text".to_owned()))?;
    Paper::read(&text).map_err(|e| bad(e.to_string()))
}

/// Whose requests a file says to hold: the key, which must be known, and what the station is called here.
async fn whose(
    station: &Station,
    paper: &Paper,
    given: Option<([u8; 32], String)>,
) -> Result<([u8; 32], String)> {
    let print = bundle::fingerprint(&paper.public_key);
    let (key, name) = match given {
        Some((key, name)) => (key, name),
        None => {
            let trusted = trust::list(station).await?.into_iter();
            let found = trusted
                .filter(|t| hex::decode(&t.public_key) == Some(paper.public_key))
                .min_by(|a, b| a.name.cmp(&b.name));
            let found = found.ok_or_else(|| {
                Error::unsafe_(format!("the requests are signed by {print}, which is not trusted here")).hint(
                    "compare the fingerprint with the administrator of the station that asks, then give its station.pub with --key and what to call it with --peer",
                )
            })?;
            (paper.public_key, found.name)
        }
    };
    if key != paper.public_key {
        return Err(Error::unsafe_(format!(
            "the requests are signed by {print}, not by the key that was given"
        ))
        .hint("nothing of it was taken; ask the station's administrator for its station.pub"));
    }
    if !is_plain_name(&name) {
        return Err(Error::usage(format!("`{name}` cannot name a peer"))
            .hint("give its station.pub with --key, and with --peer a name of lower-case letters, digits, `_`, `-` and `.`"));
    }
    Ok((key, name))
}

/// Adds what is new. A name belongs to one key, since answers are sent under it.
fn take(requests: &mut Requests, paper: &Paper, peer: &Peer) -> Result<Imported> {
    let theirs = |held: &&Request| held.from.as_ref().is_some_and(|from| from.key == peer.key);
    let is_other = |from: &Peer| (from.name == peer.name) != (from.key == peer.key);
    if let Some(other) =
        requests.list.iter().filter_map(|held| held.from.as_ref()).find(|from| is_other(from))
    {
        let print = hex::decode(&other.key).map(|key| bundle::fingerprint(&key)).unwrap_or_default();
        return Err(Error::usage(format!("requests of `{}` are signed by {print} here", other.name))
            .hint("a name belongs to one key, and a key has one name: give the same --peer as before, or another for another station"));
    }
    let mut out = Imported { peer: peer.name.clone(), requests: Vec::new(), again: 0 };
    for line in &paper.lines {
        let asked = &line.asked;
        if let Some(held) = requests.list.iter().filter(theirs).find(|held| held.id == asked.id) {
            let same = (&held.channel, &held.spec, held.asked) == (&asked.channel, &asked.spec, asked.asked);
            if !same {
                return Err(Error::unsafe_(format!(
                    "line {}: `{}` asked for {} in {} before under the name {}",
                    line.number, peer.name, held.spec, held.channel, held.id
                ))
                .hint("the station that asks was restored from a backup, or somebody has its key: ask its administrator"));
            }
            out.again += 1;
            continue;
        }
        requests.add(Request {
            id: asked.id.clone(),
            from: Some(peer.clone()),
            channel: asked.channel.clone(),
            ecosystem: asked.ecosystem,
            spec: asked.spec.clone(),
            reason: asked.reason.clone(),
            asked_by: asked.by.clone(),
            asked: asked.asked,
            ticket: None,
            sent: None,
            answer: None,
        })?;
        out.requests.push(asked.id.clone());
    }
    Ok(out)
}

/// A request, what this station knows of it, and what to do next.
#[derive(Clone, Debug, Serialize)]
pub struct Listed {
    /// The request.
    #[serde(flatten)]
    pub request: Request,
    /// How far it got.
    pub state: State,
    /// What this station knows of it now.
    pub here: Known,
    /// What to do next, if anything is to be done.
    pub next: Option<String>,
}

/// Every request, oldest first.
pub async fn list(station: &Station) -> Result<Vec<Listed>> {
    let view = View::new(station.clone());
    let (_, requests) = load(station).await?;
    let alone = answer::alone(station, &requests).await?;
    let from_bundles = |channel: Channel| match channel.feed {
        ChannelFeed::Bundles { .. } => Some(channel.name),
        ChannelFeed::Source { .. } | ChannelFeed::Parent { .. } | ChannelFeed::Tree {} => None,
    };
    let from_bundles: BTreeSet<String> =
        channel::list(station).await?.into_iter().filter_map(from_bundles).collect();
    let (mut ways, mut out) = (BTreeMap::new(), Vec::new());
    for request in requests.list {
        let here = known::known(&view, &request.channel, request.ecosystem, &request.spec).await?;
        let (next, state) = match &request.from {
            None => (known::next_of_ours(&request, &here), request.state()),
            Some(peer) => {
                let way = match ways.get(&peer.name) {
                    Some(way) => *way,
                    None => answer::way(station, &peer.name, alone.as_ref()).await?,
                };
                ways.insert(peer.name.clone(), way);
                let is_fed = from_bundles.contains(&request.channel);
                (Some(known::next_of_peer(&request, &peer.name, &here, way, is_fed)), way.state(&request))
            }
        };
        out.push(Listed { state, here, next, request });
    }
    Ok(out)
}
