//! Channels: defining them, and the refs that each has.

use std::collections::{BTreeMap, BTreeSet};

use airlock_core::channel::{BUNDLES, CHANNEL, Channel, ChannelFeed, TREE, is_channel_name, parent_of};
use airlock_core::ecosystem::{self, Ecosystem};
use airlock_core::id::Id;
use airlock_core::policy::{DEFAULT_NAME, INHERITED_NAME};
use airlock_core::roles::Action;
use airlock_core::spec::Spec;
use airlock_store::RefChange;

use crate::error::{Error, Result};
use crate::judge::How;
use crate::people;
use crate::proposals::{self, Act};
use crate::station::Station;
use crate::sync::{self, Outcome};

/// The name of one of a channel's refs.
pub fn ref_name(channel: &str, part: &str) -> String {
    format!("channel/{channel}/{part}")
}

/// Adds a channel.
pub async fn add(station: &Station, channel: Channel) -> Result<Channel> {
    let channel = vetted(station, channel).await?;
    let id = station.store.db.put(&channel).await?;
    let change = RefChange { name: ref_name(&channel.name, "def"), from: None, to: Some(id.digest()) };
    let detail = described(&channel)?;
    station.commit(vec![change], "channel.add", &format!("channel/{}", channel.name), &detail).await?;
    Ok(channel)
}

/// A channel as it would be added, by whoever acts here: nothing is changed.
pub(crate) async fn vetted(station: &Station, channel: Channel) -> Result<Channel> {
    let channel = checked(channel)?;
    check_family(station, &channel).await?;
    let name = ref_name(&channel.name, "def");
    if station.store.db.find_ref(&name).await?.is_some() {
        return Err(Error::usage(format!("there is a channel `{}` already", channel.name))
            .hint("choose another name; `airlock channel list` shows what is there"));
    }
    crate::policy::find(station, &channel.policy).await?;
    people::allow(station, Action::Channel, Some(&channel.name)).await?;
    // Whoever may not set policies chooses none that others made for something else.
    if ![DEFAULT_NAME, INHERITED_NAME].contains(&channel.policy.as_str()) {
        people::allow(station, Action::Policy, Some(&channel.name)).await?;
        if station.config.people.two_person.iter().any(|name| name == Action::Policy.name()) {
            return Err(Error::no(format!(
                "`{}` needs two persons here, also for a channel that is new",
                Action::Policy.name()
            ))
            .hint(format!(
                "add it without --policy, then run `airlock channel set {} --policy {}`, which another person confirms",
                channel.name, channel.policy
            )));
        }
    }
    Ok(channel)
}

/// A channel for the ledger and for people: without the password that a URL may hold.
pub fn described(channel: &Channel) -> Result<serde_json::Value> {
    let mut shown = channel.clone();
    if let ChannelFeed::Source { location, .. } = &mut shown.feed {
        *location = crate::upstream::Location::parse(location)?.shown();
    }
    Ok(serde_json::to_value(&shown)?)
}

/// What a channel is read from, in a line without the password that a URL may hold.
pub fn source(channel: &Channel) -> Result<String> {
    match &channel.feed {
        ChannelFeed::Source { location, .. } => Ok(crate::upstream::Location::parse(location)?.shown()),
        ChannelFeed::Bundles { stream } => Ok(format!("{BUNDLES}{stream}")),
        ChannelFeed::Parent { .. } => Ok(format!("{CHANNEL}{}", channel.parent().unwrap_or_default())),
        ChannelFeed::Tree {} => Ok(TREE.to_owned()),
    }
}

/// The same in words.
pub fn fed_by(channel: &Channel) -> Result<String> {
    Ok(match &channel.feed {
        ChannelFeed::Source { .. } => source(channel)?,
        ChannelFeed::Bundles { stream } => format!("bundles of {stream}"),
        ChannelFeed::Parent { .. } => format!("channel {}", channel.parent().unwrap_or_default()),
        ChannelFeed::Tree {} => "trees taken in".to_owned(),
    })
}

/// A child is read from its parent, which is there, and of the same ecosystem; only a child lies in the name of another.
async fn check_family(station: &Station, channel: &Channel) -> Result<()> {
    check_inherited(channel)?;
    let Some(name) = parent_of(&channel.name) else {
        return match channel.feed {
            ChannelFeed::Parent { .. } => {
                Err(Error::usage(format!("channel `{}` has no parent", channel.name))
                    .hint("give it a --source, or name it below its parent: `team/dev`"))
            }
            ChannelFeed::Source { .. } | ChannelFeed::Bundles { .. } | ChannelFeed::Tree {} => Ok(()),
        };
    };
    let parent = find(station, name).await?;
    if channel.parent().is_none() {
        return Err(Error::usage(format!(
            "channel `{}` is a child of `{name}`, and reads from that",
            channel.name
        ))
        .hint("leave --source away, or choose a name without `/`"));
    }
    if parent.ecosystem != channel.ecosystem {
        return Err(Error::usage(format!("its parent `{name}` is of ecosystem {}", parent.ecosystem))
            .hint("leave --ecosystem away"));
    }
    Ok(())
}

/// Only a child may leave all to its parent's rules.
fn check_inherited(channel: &Channel) -> Result<()> {
    if channel.policy != INHERITED_NAME || matches!(channel.feed, ChannelFeed::Parent { .. }) {
        return Ok(());
    }
    Err(Error::usage(format!(
        "policy `{INHERITED_NAME}` is for children: it leaves all to the parent's rules"
    ))
    .hint("name another policy; `airlock policy list` shows them"))
}

/// Puts a channel under another policy. It acts at the next judgement, which the caller starts.
pub async fn set_policy(station: &Station, name: &str, policy: &str) -> Result<Channel> {
    let before = find(station, name).await?;
    crate::policy::find(station, policy).await?;
    let channel = Channel { policy: policy.to_owned(), ..before.clone() };
    check_inherited(&channel)?;
    if channel != before {
        let act = Act::ChannelPolicy { channel: name.to_owned(), policy: policy.to_owned() };
        proposals::gate(station, act).await?;
        redefine(station, &before, &channel).await?;
    }
    Ok(channel)
}

/// Gives a channel another definition in the place of this one: whoever changed it meanwhile is not overwritten.
async fn redefine(station: &Station, before: &Channel, channel: &Channel) -> Result<()> {
    let from = Some(airlock_core::object::encode(before)?.0.digest());
    let to = Some(station.store.db.put(channel).await?.digest());
    let change = RefChange { name: ref_name(&channel.name, "def"), from, to };
    let detail = described(channel)?;
    station.commit(vec![change], "channel.set", &format!("channel/{}", channel.name), &detail).await
}

/// What another policy would change in a channel. Nothing is changed.
pub async fn preview_policy(station: &Station, channel: &Channel, policy: &str) -> Result<Outcome> {
    let text = crate::policy::find(station, policy).await?.text.text;
    let how = How { policy: Some(text), dry: true, closure: true, without_bytes: true, ..How::default() };
    sync::rejudge(station, channel, &how, true, "preview").await
}

/// Gives a child other files, exactly these.
pub async fn set_exactly(station: &Station, name: &str, files: Exactly) -> Result<Channel> {
    let before = find(station, name).await?;
    let mut channel = before.clone();
    let ChannelFeed::Parent { exactly, only, exclude } = &mut channel.feed else {
        return Err(Error::usage(format!("channel `{name}` is not fed by a parent"))
            .hint("name a child channel: `team/dev`"));
    };
    if !only.is_empty() || !exclude.is_empty() {
        return Err(Error::usage(format!(
            "channel `{name}` has --only or --exclude, which would take of these files"
        ))
        .hint("name another child"));
    }
    *exactly = Some(files);
    people::allow(station, Action::Channel, Some(name)).await?;
    redefine(station, &before, &channel).await?;
    Ok(channel)
}

/// Files of a channel by the key of their shard.
pub type Exactly = BTreeMap<String, BTreeSet<String>>;

/// Checks what a person typed, so that a later run does not stumble over it.
fn checked(mut channel: Channel) -> Result<Channel> {
    if !is_channel_name(&channel.name) {
        return Err(Error::usage(format!("`{}` cannot name a channel", channel.name)).hint(
            "use lower-case letters, digits, `_`, `-` and `.`, and `/` between a parent and its child, 200 in all; `t` is taken, \
             and for children so are `simple`, `packages`, `shards`, `src` and what platforms are called",
        ));
    }
    if let ChannelFeed::Parent { only, exclude, .. } = &channel.feed {
        for spec in only.iter().chain(exclude) {
            Spec::parse(channel.ecosystem, spec).map_err(|e| Error::usage(e.to_string()))?;
        }
    }
    if let ChannelFeed::Source { subdirs, only, exclude, location } = &mut channel.feed {
        for spec in only.iter().chain(&*exclude) {
            Spec::parse(channel.ecosystem, spec).map_err(|e| Error::usage(e.to_string()))?;
        }
        if let crate::upstream::Location::Path(path) = crate::upstream::Location::parse(location)? {
            if !path.is_dir() {
                return Err(Error::usage(format!("{} is no directory", path.display()))
                    .hint("give a URL, or a directory that holds an index"));
            }
            // So that it does not matter where later commands run.
            *location = path.display().to_string();
        }
        match channel.ecosystem {
            Ecosystem::Conda => {
                subdirs.push("noarch".to_owned());
                subdirs.sort();
                subdirs.dedup();
                if let Some(bad) = subdirs.iter().find(|s| !ecosystem::is_subdir(s)) {
                    return Err(Error::usage(format!("`{bad}` is not a subdir"))
                        .hint("a subdir is `noarch` or such as `linux-64`"));
                }
            }
            Ecosystem::Pypi if !subdirs.is_empty() => {
                return Err(Error::usage("a PyPI channel has no subdirs").hint("leave --subdir away"));
            }
            Ecosystem::Pypi => {}
        }
    }
    Ok(channel)
}

/// Reads a channel's definition.
pub async fn find(station: &Station, name: &str) -> Result<Channel> {
    let id = station.store.db.find_ref(&ref_name(name, "def")).await?;
    let id = id.ok_or_else(|| {
        Error::usage(format!("there is no channel `{name}`"))
            .hint("`airlock channel list` shows what is there")
    })?;
    Ok(station.store.db.get(Id::new(id)).await?)
}

/// All channels by name, so that a parent comes before its children.
pub async fn list(station: &Station) -> Result<Vec<Channel>> {
    let mut out = Vec::new();
    for (name, id) in station.store.db.refs("channel/").await? {
        if name.ends_with("/def") {
            out.push(station.store.db.get::<Channel>(Id::new(id)).await?);
        }
    }
    out.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(out)
}
