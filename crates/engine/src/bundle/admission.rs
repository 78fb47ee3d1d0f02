//! Whether a bundle may come in at all: who signed it, for which stream and channels, and where in the stream it stands.

use airlock_core::bundle::{Base, ChannelHead, HOPS_MAX, Hop, Manifest, NUMBER_STEP_MAX};
use airlock_core::channel::{Channel, ChannelFeed, parent_of};
use airlock_core::id::{Digest, Id};
use airlock_core::root::Chain;
use airlock_core::time::Span;

use super::ImportState;
use super::verify::Opened;
use crate::channel::ref_name;
use crate::error::{Error, Result};
use crate::station::Station;
use crate::trust::Trust;

/// How far a sender's clock may be ahead of this station's.
const CLOCK_AHEAD_MAX: Span = Span::days(7);
/// Longest name of a stream, in characters.
const STREAM_CHARS_MAX: usize = 200;

/// Longest name of a station on the way, in characters.
const SENDER_CHARS_MAX: usize = 200;
/// Longest name of a feed, in characters: each station on the way puts its stream in front.
const FEED_CHARS_MAX: usize = 1000;

/// The names that a bundle gives must be such that they can name something here.
pub(crate) fn check_names(m: &Manifest) -> Result<()> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
    if m.stream.is_empty() || m.stream.len() > STREAM_CHARS_MAX || !m.stream.bytes().all(plain) {
        return Err(Error::unsafe_("the stream's name is malformed"));
    }
    let is_name = |name: &String| {
        let part = |part: &str| {
            !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-+".contains(&b))
        };
        name.len() <= FEED_CHARS_MAX && name.split('/').all(part)
    };
    if let Some(bad) = m.feeds.keys().find(|name| !is_name(name)) {
        return Err(Error::unsafe_(format!("`{}` cannot name a feed", bad.escape_default())));
    }
    let is_hop = |hop: &Hop| {
        hop.stream.len() <= STREAM_CHARS_MAX
            && hop.stream.bytes().all(plain)
            && hop.sender.name.chars().count() <= SENDER_CHARS_MAX
            && airlock_core::hex::decode::<32>(&hop.sender.public_key).is_some()
    };
    let is_way = |head: &ChannelHead| head.via.len() <= HOPS_MAX && head.via.iter().all(is_hop);
    if let Some((name, _)) = m.channels.iter().find(|(_, head)| !is_way(head)) {
        return Err(Error::unsafe_(format!("the way that `{}` came is malformed", name.escape_default())));
    }
    match m.channels.keys().find(|name| !airlock_core::channel::is_channel_name(name)) {
        Some(bad) => Err(Error::unsafe_(format!("`{}` cannot name a channel", bad.escape_default()))),
        None => Ok(()),
    }
}

/// The trust under which a bundle comes: of the signer, for its stream.
pub(super) fn choose(trusted: Vec<Trust>, opened: &Opened) -> Result<Trust> {
    let stream = &opened.manifest.stream;
    let signer: Vec<Trust> = trusted.into_iter().filter(|t| opened.by.is_of(t, &opened.signer)).collect();
    let fits = signer.iter().find(|t| t.stream.as_ref().is_none_or(|s| s == stream)).cloned();
    fits.ok_or_else(|| {
        let names: Vec<&str> = signer.iter().map(|t| t.name.as_str()).collect();
        Error::unsafe_(format!("`{}` is trusted for another stream than `{}`", names.join("`, `"), stream.escape_default()))
            .hint("if this stream is meant too, trust the key for it under a further name: `airlock trust add NAME KEY --stream STREAM`")
    })
}

/// A bundle that may come in.
pub(super) struct Entry {
    /// What this station remembers of the stream, and the object that says so: what is committed builds on it.
    pub state: Option<ImportState>,
    pub from: Option<Digest>,
    /// It is in already.
    pub again: bool,
    /// It is older than what is in, and a person goes back to it.
    pub back: bool,
}

/// Whether a bundle may wait to be imported: all that [`admission`] asks, but for its base, which may come by the same way.
pub(crate) async fn may_wait(station: &Station, trusted: Vec<Trust>, opened: &Opened) -> Result<()> {
    let trust = choose(trusted, opened)?;
    standing(station, opened, &trust, false).await.map(|_| ())
}

/// Whether the bundle may come in at all, by its number, base, stream, channels and ledger. Says whether it
/// was taken in before. One that is older than the last may if a person goes back.
pub(super) async fn admission(
    station: &Station,
    opened: &Opened,
    trust: &Trust,
    may_go_back: bool,
) -> Result<Entry> {
    let entry = standing(station, opened, trust, may_go_back).await?;
    let taken: &[Base] = entry.state.as_ref().map_or(&[], |s| &s.bundles);
    match opened.manifest.base.filter(|base| !entry.again && !taken.contains(base)) {
        None => Ok(entry),
        Some(base) => Err(Error::no(format!(
            "bundle {} builds on bundle {}, which was never taken in",
            opened.manifest.number, base.number
        ))
        .hint(format!("import bundle {} first, or ask the sender for a full export", base.number))),
    }
}

/// How a bundle stands to what was taken in before, whatever it builds on.
async fn standing(station: &Station, opened: &Opened, trust: &Trust, may_go_back: bool) -> Result<Entry> {
    let m = &opened.manifest;
    let db = &station.store.db;
    for name in m.channels.keys() {
        check_channel(station, name, m, trust).await?;
    }
    let from = db.find_ref(&format!("import/{}", m.stream)).await?;
    let state = match from {
        Some(id) => Some(db.get::<ImportState>(Id::new(id)).await?),
        None => None,
    };
    check_recipient(m, trust)?;
    check_times(station, m).await?;
    if let Some(root) = opened.by.root().map(Chain::newest)
        && root.has_ended(station.now().await?)
    {
        return Err(crate::roots::ended(root));
    }
    let this = Base { number: m.number, manifest: opened.digest };
    let taken: &[Base] = state.as_ref().map_or(&[], |s| &s.bundles);
    if state.as_ref().is_some_and(|state| state.is_at(this)) {
        return Ok(Entry { state, from, again: true, back: false });
    }
    let back = is_back(this, taken, may_go_back)?;
    let last = taken.last().map_or(0, |b| b.number);
    if m.number > last.saturating_add(NUMBER_STEP_MAX) {
        return Err(Error::unsafe_(format!("bundle {} lies too far ahead of bundle {last}", m.number))
            .hint("whoever holds the sender's key may be using up its numbers: ask its administrator"));
    }
    if let Some(state) = &state {
        check_owner(opened, state)?;
        check_sequel(m, state, back)?;
    }
    Ok(Entry { state, from, again: false, back })
}

/// Whether a bundle is older than the last that was taken in, which is refused unless a person goes back to it. No number
/// has two bundles.
fn is_back(this: Base, taken: &[Base], may_go_back: bool) -> Result<bool> {
    let number = this.number;
    if taken.iter().any(|b| b.number == number && *b != this) {
        return Err(Error::unsafe_(format!("another bundle with number {number} was taken in before")).hint(
            "one of the two is forged, or the sender was restored from a backup: ask its administrator",
        ));
    }
    match taken.last().filter(|last| number < last.number) {
        None => Ok(false),
        Some(_) if may_go_back => Ok(true),
        Some(last) => Err(Error::unsafe_(format!(
            "bundle {number} is older than bundle {}, which is in already",
            last.number
        ))
        .hint(
            "import the newest bundle; an older one could bring back what was denied since. To go back to it all the same: --allow-rollback --reason TEXT",
        )),
    }
}

const ASK: &str =
    "the sender was restored from a backup, or somebody tampered with it: ask its administrator";

/// What is meant for another station is not taken in.
fn check_recipient(m: &Manifest, trust: &Trust) -> Result<()> {
    match (&m.recipient, &trust.recipient) {
        (Some(meant), Some(own)) if meant != own => Err(Error::unsafe_(format!(
            "the bundle is meant for `{}`, and this station is `{own}` to `{}`",
            meant.escape_default(),
            trust.name
        ))
        .hint("give it to whom it is meant for, and ask the sender for the one that was meant for you")),
        _ => Ok(()),
    }
}

/// Whether a stream goes on by whose it is. A stream of one key comes under a root when that key and the root sign together;
/// from then on it is the root's, whichever station writes it.
fn check_owner(opened: &Opened, state: &ImportState) -> Result<()> {
    let m = &opened.manifest;
    match (state.root, opened.by.root().map(Chain::identity)) {
        (Some(held), Some(root)) if held == root => Ok(()),
        (Some(_), Some(_)) => {
            Err(Error::unsafe_(format!("stream `{}` belongs to another root", m.stream)).hint(ASK))
        }
        (Some(_), None) => Err(Error::unsafe_(format!(
            "stream `{}` belongs to a root, and the station's own key is not enough for it any more",
            m.stream
        ))
        .hint("it is taken in when enough release keys signed it: `airlock sign`")),
        (None, _) if state.public_key == m.sender.public_key => Ok(()),
        (None, _) => Err(Error::unsafe_(format!(
            "stream `{}` belongs to another key than the one that signed this bundle",
            m.stream
        ))
        .hint(ASK)),
    }
}

/// Whether a bundle goes on where the last one ended: the manifest before it, the ledger grown. To which somebody goes back,
/// the ledger has gone on from.
fn check_sequel(m: &Manifest, state: &ImportState, back: bool) -> Result<()> {
    if back {
        return match m.ledger.number > state.ledger.number {
            false => Ok(()),
            true => Err(Error::unsafe_("an older bundle has a longer ledger of its sender").hint(ASK)),
        };
    }
    if let Some(last) = state.bundles.last()
        && m.number == last.number + 1
        && m.predecessor != Some(last.manifest)
    {
        return Err(Error::unsafe_(format!(
            "bundle {} does not follow from bundle {} as it was taken in here",
            m.number, last.number
        ))
        .hint(ASK));
    }
    let rewritten = m.ledger.number == state.ledger.number && m.ledger.hash != state.ledger.hash;
    if m.ledger.number < state.ledger.number || rewritten {
        return Err(Error::unsafe_("the sender's ledger is shorter than it was, or was rewritten").hint(ASK));
    }
    Ok(())
}

/// A bundle from the future would make every later one look old, and its feeds fresh for ever.
async fn check_times(station: &Station, m: &Manifest) -> Result<()> {
    let now = station.now().await?;
    if m.created > now.after(CLOCK_AHEAD_MAX) {
        return Err(Error::unsafe_(format!("the bundle was written at {}, and it is {now} here", m.created))
            .hint("one of the two clocks is wrong: compare them with the sender's administrator"));
    }
    match m.feeds.iter().find(|(_, head)| head.read_at > m.created.after(CLOCK_AHEAD_MAX)) {
        Some((name, _)) => Err(Error::unsafe_(format!(
            "feed `{}` was read after the bundle was written",
            name.escape_default()
        ))
        .hint("the sender's clock was set back: ask its administrator")),
        None => Ok(()),
    }
}

/// A name that lies in that of a channel which others feed would pass for its child, whose rules it does not have.
async fn check_above(station: &Station, name: &str, m: &Manifest, trust: &Trust) -> Result<()> {
    let mut above = parent_of(name);
    while let Some(parent) = above {
        above = parent_of(parent);
        let Some(id) = station.store.db.find_ref(&ref_name(parent, "def")).await? else { continue };
        let channel: Channel = station.store.db.get(Id::new(id)).await?;
        let is_theirs = matches!(&channel.feed, ChannelFeed::Bundles { stream } if *stream == m.stream);
        if !is_theirs && !trust.channels.iter().any(|trusted| trusted == name) {
            return Err(Error::unsafe_(format!(
                "channel `{name}` lies in the name of `{parent}`, which bundles of `{}` do not feed here",
                m.stream
            ))
            .hint(format!(
                "ask the sender to export it under another name; or `airlock trust revoke {}`, then `airlock trust add` it again with --channel for each of its channels, also `{name}`",
                trust.name
            )));
        }
    }
    Ok(())
}

async fn check_channel(station: &Station, name: &str, m: &Manifest, trust: &Trust) -> Result<()> {
    if !trust.channels.is_empty() && !trust.channels.iter().any(|c| c == name) {
        return Err(Error::unsafe_(format!("`{}` is not trusted for channel `{name}`", trust.name)).hint(format!(
            "if that channel is meant to come from there, `airlock trust revoke {0}` and `airlock trust add {0}` again with --channel for each of its channels; \
             else have it exported without this one",
            trust.name
        )));
    }
    check_above(station, name, m, trust).await?;
    let Some(id) = station.store.db.find_ref(&ref_name(name, "def")).await? else { return Ok(()) };
    let channel: Channel = station.store.db.get(Id::new(id)).await?;
    let same_ecosystem = m.channels.get(name).is_some_and(|h| h.ecosystem == channel.ecosystem);
    match &channel.feed {
        ChannelFeed::Bundles { stream } if *stream == m.stream && same_ecosystem => Ok(()),
        ChannelFeed::Bundles { stream } if *stream == m.stream => Err(Error::unsafe_(format!(
            "channel `{name}` is of {} here, and of another ecosystem in the bundle",
            channel.ecosystem
        ))
        .hint("ask the sender to export it under another name")),
        ChannelFeed::Bundles { stream } => Err(Error::unsafe_(format!(
            "channel `{name}` is fed by bundles of `{stream}`, not of `{}`",
            m.stream
        ))
        .hint("a channel has one sender: have this one exported under another name: here it stays that sender's")),
        ChannelFeed::Source { .. } | ChannelFeed::Parent { .. } | ChannelFeed::Tree {} => {
            Err(Error::unsafe_(format!(
                "channel `{name}` is fed by a source of this station; a bundle never merges into it"
            ))
            .hint("ask the sender to export it under another name"))
        }
    }
}
