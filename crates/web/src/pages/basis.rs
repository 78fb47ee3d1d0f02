//! What a channel's verdicts rest on: which knowledge, which policy, when.

use airlock_core::channel::ChannelFeed;
use airlock_core::judge::feeds_read;
use airlock_core::policy::Policy;
use airlock_core::time::Time;
use airlock_engine::channel::fed_by;
use airlock_engine::error::Result;
use airlock_engine::status::STALE;
use airlock_engine::view::{ChannelView, View};

use super::format::{Hash, Prose, When, ago};

/// Longest policy text that a page shows, in bytes.
const POLICY_BYTES_MAX: usize = 16_384;

/// What verdicts rest on.
pub(super) struct Basis {
    /// The channel.
    pub channel: String,
    /// The snapshot.
    pub snapshot: Hash,
    /// What it publishes.
    pub content: Hash,
    /// When it was judged.
    pub judged: When,
    /// The first moment at which time alone changes a verdict.
    pub valid_until: Option<When>,
    /// The policy's name.
    pub policy: String,
    /// What is known of vulnerabilities: when the oldest of it was read.
    pub known: Option<When>,
    /// Why that is not good enough.
    pub alarm: Option<Prose>,
    /// What feeds the channel.
    pub source: String,
    /// Whether bundles do.
    pub is_imported: bool,
}

/// One rule of the policy.
pub(super) struct PolicyRule {
    /// Its name.
    pub name: String,
    /// What it does.
    pub action: &'static str,
}

/// The policy as it was when the channel was judged.
pub(super) struct PolicyView {
    /// What it is for.
    pub description: String,
    /// Its rules.
    pub rules: Vec<PolicyRule>,
    /// The file.
    pub text: String,
}

/// Reads what a channel's newest judgement rests on.
pub(super) async fn basis(view: &View, channel: &ChannelView, now: Time) -> Result<Basis> {
    let inputs = &channel.newest.inputs;
    let advisories = view.object(inputs.advisories).await?;
    let read = feeds_read(&advisories);
    let alarm = match read {
        None => Some(
            "This channel was judged while no feed told which versions are affected. No vulnerability could be found; \
             this is not the same as there being none. Add a feed with `airlock advisories add osv URL|PATH`."
                .to_owned(),
        ),
        Some(read) if now.since(read) > STALE => Some(format!(
            "What is known here of vulnerabilities is stale: part of it was read {}. Whatever was published since is unknown.",
            ago(read, now)
        )),
        Some(_) => None,
    };
    let is_imported =
        matches!(channel.channel.feed, ChannelFeed::Bundles { .. } | ChannelFeed::Parent { .. });
    let source = fed_by(&channel.channel)?;
    Ok(Basis {
        channel: channel.channel.name.clone(),
        snapshot: Hash::new(channel.id.digest()),
        content: Hash::new(channel.newest.content.digest()),
        judged: When::new(inputs.now, now),
        valid_until: channel.newest.valid_until.map(|t| When::new(t, now)),
        policy: channel.channel.policy.clone(),
        known: read.map(|t| When::new(t, now)),
        alarm: alarm.map(|text| Prose::new(&text)),
        source,
        is_imported,
    })
}

/// Reads the policy.
pub(super) async fn policy(view: &View, channel: &ChannelView) -> Result<PolicyView> {
    let text = view.object(channel.newest.inputs.policy).await?;
    // It was valid when it was set; a newer program may read an older one differently.
    let policy = Policy::parse(&text.text).ok();
    let rules = policy.iter().flat_map(|p| &p.rules);
    Ok(PolicyView {
        description: policy.as_ref().map(|p| p.description.clone()).unwrap_or_default(),
        rules: rules.map(|r| PolicyRule { name: r.name.clone(), action: r.action.name() }).collect(),
        text: if text.text.len() <= POLICY_BYTES_MAX { text.text.clone() } else { String::new() },
    })
}
