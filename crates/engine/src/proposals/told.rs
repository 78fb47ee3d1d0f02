//! What is to be done, in a line for whoever is to confirm it.

use airlock_core::decision::Terms;

use super::Act;
use crate::feeds::Accepted;
use crate::trust::Whom;

impl Act {
    /// In a line, for people.
    pub fn told(&self) -> String {
        // What somebody typed is shown to the one who is to confirm it: nothing of it moves the cursor.
        let plain = |c: char| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c };
        self.said().chars().map(plain).collect()
    }

    fn said(&self) -> String {
        match self {
            Self::Decide { ruling, terms } => format!("{}{}: {}", ruling.told(), ends(terms), terms.reason),
            Self::Policy { name, .. } => format!("set policy {name}"),
            Self::ChannelPolicy { channel, policy } => format!("put {channel} under policy {policy}"),
            Self::Trust { name, public_key, link_key, root, limits } => {
                let whom = Whom::read(public_key, link_key, root.clone()).map(|whom| whom.fingerprint());
                if !link_key.is_empty() {
                    let print = whom.unwrap_or_default();
                    return format!(
                        "believe the packets of {name} on a one-way link, {print}, and nothing else of it"
                    );
                }
                let what = if root.is_some() { "root" } else { "key" };
                let accepts = if limits.accept.is_empty() { "" } else { ", also what it makes milder" };
                let stream = limits.stream.as_deref().unwrap_or("any stream");
                let channels = listed(&limits.channels, "any channel");
                let own = limits.recipient.as_ref().map(|own| format!(", as `{own}`")).unwrap_or_default();
                format!(
                    "trust the {what} of {name}, {}, for {stream} and {channels}{own}{accepts}",
                    whom.unwrap_or_default()
                )
            }
            Self::Rollback { channel, snapshot, reason } => {
                format!("take {channel} back to {}: {reason}", snapshot.digest().short())
            }
            Self::Accept { accepted, reason } => {
                let Accepted { feeds, ids } = accepted;
                let (what, of) = (listed(ids, "all"), listed(feeds, "every feed"));
                format!("accept what became milder, {what} in {of}: {reason}")
            }
            Self::RemoveFeed { feed, reason } => format!("remove feed {feed}: {reason}"),
            Self::Loosen { feed } => format!("let what becomes milder in feed {feed} act by itself"),
            Self::Shrink { feed, content, .. } => {
                format!("believe feed {feed} that shrank, as it was read: {}", content.short())
            }
            Self::Import { stream, number, manifest, sender, channels, back } => {
                let (what, hash) = (listed(channels, "what is known of vulnerabilities"), manifest.short());
                let back = back.as_ref().map(|reason| format!(", going back: {reason}")).unwrap_or_default();
                format!(
                    "take in bundle {number} of {stream} from {sender}, manifest {hash}, with {what}{back}"
                )
            }
        }
    }
}

/// When what is decided ends, for people.
fn ends(terms: &Terms) -> String {
    let date = terms.expires.map(|at| format!(", until {}", at.date())).unwrap_or_default();
    let fixed = if terms.until_fixed { ", until it is fixed" } else { "" };
    format!("{date}{fixed}")
}

/// Names for people, a few of them; or what none of them stands for.
fn listed<'a>(names: impl IntoIterator<Item = &'a String>, none: &str) -> String {
    const SHOWN: usize = 10;
    let mut names: Vec<&str> = names.into_iter().map(String::as_str).collect();
    let more = names.len().saturating_sub(SHOWN);
    names.truncate(SHOWN);
    match (names.is_empty(), more) {
        (true, _) => none.to_owned(),
        (false, 0) => names.join(", "),
        (false, more) => format!("{} and {more} more", names.join(", ")),
    }
}
