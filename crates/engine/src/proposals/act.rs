//! What may be proposed, and how it is done.

use serde::{Deserialize, Serialize};

use airlock_core::assess::PACKAGE;
use airlock_core::decision::{Ruling, Terms};
use airlock_core::id::{Digest, Id};
use airlock_core::policy::DEFAULT_NAME;
use airlock_core::roles::Action;
use airlock_core::root::RootFile;
use airlock_core::snapshot::Snapshot;

use crate::bundle::waiting;
use crate::error::Result;
use crate::feeds::{self, Accepted, Loosening, Reading};
use crate::station::Station;
use crate::sync::{self, Rejudged};
use crate::trust::{self, Limits, Whom};
use crate::{channel, decide, history, policy};

/// Something to be done, with all that doing it needs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "act", rename_all = "kebab-case")]
pub enum Act {
    /// Make a decision.
    Decide {
        /// What is ruled.
        ruling: Ruling,
        /// On which terms.
        terms: Terms,
    },
    /// Set a policy.
    Policy {
        /// Its name.
        name: String,
        /// Its text.
        text: String,
    },
    /// Put a channel under another policy.
    ChannelPolicy {
        /// The channel.
        channel: String,
        /// The policy.
        policy: String,
    },
    /// Trust a key, whose fingerprint was typed.
    Trust {
        /// What the sender is called.
        name: String,
        /// The key in hexadecimal; empty for a root and for a link.
        public_key: String,
        /// The key of a link in hexadecimal, which counts for nothing else.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        link_key: String,
        /// The root.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        root: Option<RootFile>,
        /// How far.
        limits: Limits,
    },
    /// Go back to what a channel held.
    Rollback {
        /// The channel.
        channel: String,
        /// The snapshot.
        snapshot: Id<Snapshot>,
        /// Why.
        reason: String,
    },
    /// Accept what became milder.
    Accept {
        /// What of it.
        accepted: Accepted,
        /// Why.
        reason: String,
    },
    /// Take a feed out.
    RemoveFeed {
        /// The feed.
        feed: String,
        /// Why.
        reason: String,
    },
    /// Let what becomes milder in a feed act by itself.
    Loosen {
        /// The feed.
        feed: String,
    },
    /// Believe a feed that lost more than half of its records.
    Shrink {
        /// The feed.
        feed: String,
        /// What was read of it.
        content: Digest,
        /// Whether everything was read, also what its source says not to have changed.
        anew: bool,
    },
    /// Take in a bundle.
    Import {
        /// Its stream.
        stream: String,
        /// Its number there.
        number: u64,
        /// SHA-256 of its manifest, which says all that is in it.
        manifest: Digest,
        /// What its sender is called here.
        sender: String,
        /// The channels that it brings.
        channels: Vec<String>,
        /// Why, where it is older than what is in.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        back: Option<String>,
    },
}

impl Act {
    /// What kind of act it is, for the rules of who may do what.
    pub(super) async fn action(&self, station: &Station) -> Result<Action> {
        Ok(match self {
            Self::Decide { ruling, .. } => decide::action(station, ruling).await?,
            Self::Policy { .. } | Self::ChannelPolicy { .. } => Action::Policy,
            Self::Trust { .. } => Action::Trust,
            Self::Rollback { .. } => Action::Rollback,
            Self::Accept { .. } | Self::RemoveFeed { .. } | Self::Loosen { .. } | Self::Shrink { .. } => {
                Action::Feeds
            }
            Self::Import { .. } => Action::Import,
        })
    }

    /// Whether `[people] two_person` puts it under two persons. Going back by a bundle is going back, too.
    pub(super) fn needs_two(&self, action: Action, names: &[String]) -> bool {
        let goes_back = matches!(self, Self::Import { back: Some(_), .. });
        let is_it = |name: &String| name == action.name() || (goes_back && name == Action::Rollback.name());
        names.iter().any(is_it)
    }

    /// The channel that it is about, if about one.
    pub(super) async fn channel(&self, station: &Station) -> Result<Option<String>> {
        match self {
            Self::Decide { ruling, .. } => decide::channel_of(station, ruling).await,
            Self::Rollback { channel, .. } | Self::ChannelPolicy { channel, .. } => Ok(Some(channel.clone())),
            _ => Ok(None),
        }
    }

    /// The refs by which it was weighed: when one of them moves, or another one counts as well, it was weighed for another state.
    pub(super) async fn rests_on(&self, station: &Station) -> Result<Vec<String>> {
        let policy = async |name: Option<String>| -> Result<Vec<String>> {
            match name {
                Some(name) => {
                    let policy = channel::find(station, &name).await?.policy;
                    Ok(vec![channel::ref_name(&name, "def"), format!("policy/{policy}")])
                }
                None => Ok(Vec::new()),
            }
        };
        match self {
            Self::Decide { ruling, .. } => {
                let mut refs = policy(self.channel(station).await?).await?;
                // Another feed may come to stand under the name. Those of bundles bear their stream's name, which has one key.
                if let Ruling::Statements { source, .. } = ruling
                    && source != PACKAGE
                {
                    refs.push(feeds::def_ref(source));
                }
                Ok(refs)
            }
            Self::Policy { name, .. } => {
                let all = channel::list(station).await?;
                let ruled = all.iter().filter(|channel| channel.policy == *name);
                let defs = ruled.map(|channel| channel::ref_name(&channel.name, "def"));
                Ok(defs.chain([format!("policy/{name}")]).collect())
            }
            Self::ChannelPolicy { channel, policy } => {
                Ok(vec![channel::ref_name(channel, "def"), format!("policy/{policy}")])
            }
            Self::Trust { name, .. } => Ok(vec![format!("trust/{name}")]),
            Self::Rollback { channel, .. } => policy(Some(channel.clone())).await,
            Self::Accept { accepted, .. } => {
                Ok(accepted.feeds.iter().map(|feed| feeds::kept_ref(feed)).collect())
            }
            Self::RemoveFeed { feed, .. } | Self::Loosen { feed } => Ok(vec![feeds::def_ref(feed)]),
            Self::Shrink { feed, .. } => Ok(vec![feeds::def_ref(feed), feeds::head_ref(feed)]),
            Self::Import { stream, sender, channels, .. } => {
                let mut refs = vec![format!("import/{stream}"), format!("trust/{sender}")];
                let known = channel::list(station).await?;
                for name in channels {
                    let held = known.iter().find(|channel| channel.name == *name);
                    let policy = held.map_or(DEFAULT_NAME, |channel| &channel.policy);
                    refs.extend([channel::ref_name(name, "def"), format!("policy/{policy}")]);
                }
                refs.sort();
                refs.dedup();
                Ok(refs)
            }
        }
    }

    /// Does it, and judges by it.
    pub(super) async fn carry_out(self, station: &Station) -> Result<Rejudged> {
        let why = match self {
            Self::Decide { ruling, terms } => {
                format!("decision {}", decide::decide_on(station, ruling, terms).await?.id)
            }
            Self::Policy { name, text } => {
                policy::set(station, &name, &text).await?;
                format!("policy set {name}")
            }
            Self::ChannelPolicy { channel, policy } => {
                channel::set_policy(station, &channel, &policy).await?;
                format!("channel set {channel}")
            }
            Self::Trust { name, public_key, link_key, root, limits } => {
                let whom = Whom::read(&public_key, &link_key, root)?;
                let typed = whom.fingerprint();
                trust::add(station, &name, whom, &typed, limits).await?;
                return Ok(Rejudged { outcomes: Vec::new(), failed: None });
            }
            Self::Rollback { channel, snapshot, reason } => {
                let channel = channel::find(station, &channel).await?;
                let outcome = history::rollback(station, &channel, snapshot, &reason, false).await?;
                let mut judged = sync::descend(station, &[&channel.name], "snapshot rollback").await?;
                judged.outcomes.insert(0, outcome);
                return Ok(judged);
            }
            Self::Accept { accepted, reason } => {
                feeds::accept(station, &accepted, &reason).await?;
                "advisories accept".to_owned()
            }
            Self::RemoveFeed { feed, reason } => {
                feeds::remove(station, &feed, &reason).await?;
                "advisories remove".to_owned()
            }
            Self::Loosen { feed } => {
                feeds::set_loosening(station, &feed, Loosening::Accept).await?;
                "advisories set".to_owned()
            }
            Self::Shrink { feed, anew, .. } => {
                let how = Reading { accept_shrink: true, anew };
                feeds::update_with(station, &[feed], how).await?.failed.map_or(Ok(()), Err)?;
                "advisories update".to_owned()
            }
            Self::Import { manifest, back, .. } => return waiting::take(station, manifest, back).await,
        };
        sync::rejudge_all(station, &why).await
    }
}
