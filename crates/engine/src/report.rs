//! What changed after something became known: verdicts, findings, and what waits, channel by channel; as text, as JSON, and
//! to a webhook.

use std::collections::BTreeMap;

use reqwest::Url;
use serde::Serialize;

use crate::error::{Error, Kind, Result};
use crate::feeds::{self, Accepted};
use crate::judge::{FindingChanges, How};
use crate::station::Station;
use crate::sync::{self, Outcome};
use crate::upstream::{Client, Location};

/// What changed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// What happened, for people.
    pub why: String,
    /// The station.
    pub station: String,
    /// The channels in which something did.
    pub channels: Vec<ChannelReport>,
    /// Records that became milder and wait for a person.
    pub waiting: u64,
    /// Artifacts that would be admitted if a person accepted all of that.
    pub would_admit: u64,
    /// Why that is not known of every channel.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fault: Option<String>,
}

/// What changed in one channel.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ChannelReport {
    /// The channel.
    pub channel: String,
    /// Artifacts that are denied and were not.
    pub denied: u64,
    /// Artifacts that are held and were not.
    pub held: u64,
    /// Artifacts that are admitted and were not.
    pub admitted: u64,
    /// Artifacts that are offered still, and will be denied when a grace ends.
    pub leaving: u64,
    /// Of those denied or held: how many by which rule.
    pub rules: BTreeMap<String, u64>,
    /// What is known of vulnerabilities that was not, by version and vulnerability.
    pub findings: FindingChanges,
    /// Artifacts that would be admitted if a person accepted what waits.
    pub would_admit: u64,
}

impl ChannelReport {
    fn of(outcome: &Outcome) -> Result<Self> {
        let mut report =
            Self { channel: outcome.channel.clone(), findings: outcome.findings, ..Self::default() };
        outcome.changes.each(|change| {
            match change.to {
                Some("denied") => report.denied += 1,
                Some("held") => report.held += 1,
                Some(to) if change.from == Some(to) => report.leaving += 1,
                Some("admitted") => report.admitted += 1,
                _ => {}
            }
            if matches!(change.to, Some("denied" | "held")) {
                // A reason names its rules in front of each part.
                let rules = change.why.split("; ").filter_map(|part| part.split([':', ' ']).next());
                for rule in rules.filter(|rule| !rule.is_empty() && *rule != "and") {
                    *report.rules.entry(rule.to_owned()).or_default() += 1;
                }
            }
        })?;
        Ok(report)
    }

    fn says_nothing(&self) -> bool {
        let Self { denied, held, admitted, leaving, would_admit, findings, .. } = self;
        denied + held + admitted + leaving + would_admit == 0 && *findings == FindingChanges::default()
    }
}

impl Report {
    /// What these outcomes changed or would change, and nothing else.
    pub fn of_changes(station: &Station, why: &str, outcomes: &[Outcome]) -> Result<Self> {
        let mut channels = outcomes.iter().map(ChannelReport::of).collect::<Result<Vec<_>>>()?;
        channels.retain(|channel| !channel.says_nothing());
        Ok(Self { why: why.to_owned(), station: station.config.name.clone(), channels, ..Self::default() })
    }

    /// What these outcomes changed, and what would come back if a person accepted what waits.
    pub async fn of(station: &Station, why: &str, outcomes: &[Outcome]) -> Result<Self> {
        let mut channels: BTreeMap<String, ChannelReport> = BTreeMap::new();
        for outcome in outcomes {
            channels.insert(outcome.channel.clone(), ChannelReport::of(outcome)?);
        }
        let (mut waiting, mut fault) = (0, None);
        match feeds::preview(station, &Accepted::default()).await {
            Ok((set, count)) => {
                waiting = count;
                let how = How { advisories: Some(set), ..How::default() };
                let would = sync::rejudge_as(station, &how, why).await?;
                fault = would.failed.map(|e| e.message);
                for outcome in would.outcomes {
                    let mut admitted = 0;
                    outcome.changes.each(|change| {
                        admitted += u64::from(change.to == Some("admitted") && change.from != change.to);
                    })?;
                    let name = outcome.channel.clone();
                    let report = channels.entry(name).or_insert_with(|| ChannelReport {
                        channel: outcome.channel,
                        ..ChannelReport::default()
                    });
                    report.would_admit = admitted;
                }
            }
            Err(e) if e.kind == Kind::No => {}
            Err(e) => return Err(e),
        }
        let mut channels: Vec<ChannelReport> = channels.into_values().collect();
        channels.retain(|channel| !channel.says_nothing());
        Ok(Self {
            why: why.to_owned(),
            station: station.config.name.clone(),
            would_admit: channels.iter().map(|c| c.would_admit).sum(),
            channels,
            waiting,
            fault,
        })
    }

    /// Whether nothing changed and nothing waits.
    pub fn is_empty(&self) -> bool {
        self.channels.is_empty() && self.waiting == 0
    }

    /// For people, a line for each channel.
    pub fn text(&self) -> String {
        let mut out = String::new();
        let several = |n: u64, one: &str| format!("{n} {one}{}", if n == 1 { "" } else { "s" });
        for c in &self.channels {
            let rules: Vec<String> = c.rules.iter().map(|(rule, n)| format!("{rule} {n}")).collect();
            let f = c.findings;
            let parts = [
                (c.denied, format!("{} now denied", several(c.denied, "artifact"))),
                (c.held, format!("{} now held", c.held)),
                (rules.len() as u64, format!("by {}", rules.join(", "))),
                (c.admitted, format!("{} now admitted", c.admitted)),
                (c.leaving, format!("{} denied when a grace ends", c.leaving)),
                (f.new, several(f.new, "new finding")),
                (f.gone, format!("{} gone", f.gone)),
                (f.scored_higher, format!("{} scored higher", f.scored_higher)),
                (f.scored_lower, format!("{} scored lower", f.scored_lower)),
                (f.exploited, format!("{} newly known to be exploited", f.exploited)),
                (c.would_admit, format!("{} would come back and wait for you", c.would_admit)),
            ];
            let said: Vec<String> = parts.into_iter().filter(|(n, _)| *n > 0).map(|(_, text)| text).collect();
            out += &format!("{}: {}\n", c.channel, said.join(", "));
        }
        if let Some(fault) = &self.fault {
            out += &format!("what accepting would change could not be found out everywhere: {fault}\n");
        }
        if self.waiting > 0 {
            out += &format!(
                "{} became milder and wait{} for a person: `airlock advisories waiting`\n",
                several(self.waiting, "record"),
                if self.waiting == 1 { "s" } else { "" }
            );
        }
        out
    }

    /// Tells the webhook of the configuration, if there is one and there is anything to tell.
    ///
    /// # Errors
    /// If it does not take it. What changed has happened all the same.
    pub async fn notify(&self, station: &Station) -> Result<()> {
        let Some(address) = &station.config.notify.webhook else { return Ok(()) };
        if self.is_empty() {
            return Ok(());
        }
        let bad = || Error::usage("`webhook` in [notify] is no http(s) URL");
        let url = Url::parse(address).map_err(|_| bad())?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(bad());
        }
        let client = Client::new(station, &Location::Http(url.clone()))?;
        let body = serde_json::to_string(self)?;
        client.post_json(&url, body).await.map_err(|e| e.while_("telling the webhook what changed"))
    }
}
