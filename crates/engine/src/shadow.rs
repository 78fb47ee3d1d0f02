//! A policy beside the one in force that only reports: what it would do otherwise, and nothing comes of it.

use std::collections::BTreeMap;
use std::time::Duration;

use airlock_core::channel::Channel;
use airlock_core::id::{Digest, Id};
use airlock_core::policy::PolicyText;
use airlock_core::roles::Action;
use airlock_core::shadow::Differences;
use airlock_core::snapshot::Snapshot;
use airlock_core::time::Time;
use airlock_core::verdict::Verdict;
use airlock_store::RefChange;
use serde::{Deserialize, Serialize};

use crate::boxed;
use crate::channel::ref_name;
use crate::error::{Error, Result};
use crate::judge::{self, How};
use crate::people;
use crate::policy;
use crate::station::Station;

/// How often `serve` looks whether a channel was published since its shadow was asked.
const ROUND: Duration = Duration::from_secs(60);

/// The shadow of a channel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shadow {
    /// The policy's name.
    pub policy: String,
    /// Since when it stands beside the one in force.
    pub since: Time,
    /// What it said last; none before it was asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub report: Option<Report>,
}

airlock_core::object!(Shadow, "airlock.shadow.v1");

/// What a shadow said of one snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// What it was asked about.
    pub snapshot: Id<Snapshot>,
    /// The policy's text; none if there is no such policy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<Digest>,
    /// The moment of judging, which is that of the snapshot.
    pub judged: Time,
    /// What it would do otherwise.
    pub differences: Differences,
    /// Why that could not be told. It changes nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed: Option<String>,
}

impl Report {
    /// What it would do, in a line.
    pub fn told(&self) -> String {
        let newly = self.differences.newly;
        match &self.failed {
            Some(why) => format!("cannot tell what it would do: {why}"),
            None if self.differences.is_empty() => "would do the same".to_owned(),
            None => format!("would newly deny {}, hold {} and admit {}", newly.deny, newly.hold, newly.admit),
        }
    }
}

impl Shadow {
    /// What it says, in a line.
    pub fn told(&self) -> String {
        let said = self.report.as_ref().map_or_else(|| "was not asked yet".to_owned(), Report::told);
        format!("policy {} beside it {said}", self.policy)
    }
}

/// The shadow of a channel with what it said last.
pub async fn find(station: &Station, channel: &str) -> Result<Option<Shadow>> {
    match station.store.db.find_ref(&ref_name(channel, "shadow")).await? {
        Some(id) => Ok(Some(station.store.db.get(Id::new(id)).await?)),
        None => Ok(None),
    }
}

/// The shadow of a channel with what it says of the newest snapshot: it is asked if it was not, or could not tell. What it says is
/// kept, or only told to whoever may change nothing.
#[boxed]
pub async fn ask(station: &Station, channel: &Channel, keep: bool) -> Result<Option<Shadow>> {
    let db = &station.store.db;
    let refs = db.refs(&ref_name(&channel.name, "")).await?;
    let at = |part: &str| refs.get(&ref_name(&channel.name, part)).copied();
    let Some(from) = at("shadow") else { return Ok(None) };
    let before: Shadow = db.get(Id::new(from)).await?;
    let Some(snapshot) = at("snapshot") else { return Ok(Some(before)) };
    let text = db.find_ref(&format!("policy/{}", before.policy)).await?;
    let is_of = |said: &&Report| said.snapshot.digest() == snapshot && said.text == text;
    if before.report.as_ref().filter(is_of).is_some_and(|said| said.failed.is_none()) {
        return Ok(Some(before));
    }
    let now = Shadow { report: Some(report(station, channel, snapshot, &before).await?), ..before.clone() };
    if now == before || !keep {
        return Ok(Some(now));
    }
    let to = Some(db.put(&now).await?.digest());
    let refs = vec![
        RefChange { name: ref_name(&channel.name, "shadow"), from: Some(from), to },
        // Whoever published since then has it asked again.
        RefChange { name: ref_name(&channel.name, "snapshot"), from: Some(snapshot), to: Some(snapshot) },
    ];
    let said = now.report.as_ref();
    let detail = serde_json::json!({
        "policy": now.policy, "snapshot": snapshot,
        "newly": said.map(|said| said.differences.newly), "failed": said.and_then(|said| said.failed.as_ref()),
    });
    match station.commit(refs, "shadow.judge", &format!("channel/{}", channel.name), &detail).await {
        Err(e) if !e.is_race => Err(e),
        _ => Ok(Some(now)),
    }
}

/// What it says of a snapshot, or why it cannot.
async fn report(station: &Station, channel: &Channel, snapshot: Digest, before: &Shadow) -> Result<Report> {
    let text = station.store.db.find_ref(&format!("policy/{}", before.policy)).await?;
    let judged = station.store.db.get(Id::<Snapshot>::new(snapshot)).await?.inputs.now;
    let (differences, failed) = match differences(station, channel, &before.policy, judged).await {
        Ok(differences) => (differences, None),
        Err(e) => (Differences::default(), Some(e.message)),
    };
    let mut report = Report { snapshot: Id::new(snapshot), text, judged, differences, failed };
    // What it would have done before already, it would since then.
    let known = before.report.iter().filter(|said| said.text == text).flat_map(|said| &said.differences.list);
    let known: BTreeMap<(&str, Verdict), Option<Time>> =
        known.map(|d| ((d.artifact.as_str(), d.to), d.since)).collect();
    for difference in &mut report.differences.list {
        let since = known.get(&(difference.artifact.as_str(), difference.to)).copied().flatten();
        difference.since = since.or(Some(judged));
    }
    Ok(report)
}

async fn differences(station: &Station, channel: &Channel, name: &str, judged: Time) -> Result<Differences> {
    let text: PolicyText = policy::find(station, name).await?.text;
    let how = How {
        policy: Some(text.text),
        as_of: Some(judged),
        compare: true,
        without_bytes: true,
        dry: true,
        ..How::default()
    };
    Ok(judge::judge(station, channel, &how, None).await?.differences)
}

/// Asks the shadows of all channels that have one and are wanted. What keeps one from answering keeps no other; the first
/// such error is given.
pub async fn ask_all(station: &Station, wanted: impl Fn(&str) -> bool) -> Result<()> {
    let mut failed: Option<Error> = None;
    for channel in crate::channel::list(station).await?.into_iter().filter(|c| wanted(&c.name)) {
        if let Err(e) = ask(station, &channel, true).await {
            failed = failed.or(Some(e.while_(&format!("the shadow of channel {}", channel.name))));
        }
    }
    failed.map_or(Ok(()), Err)
}

/// Keeps what shadows say up to date for as long as it is let. It goes beside whatever judges, which never waits for it.
pub async fn run(station: Station, tell: impl Fn(&str)) {
    loop {
        tokio::time::sleep(ROUND).await;
        if let Err(e) = ask_all(&station, |_| true).await {
            tell(&format!("error: asking policies that only report: {e}"));
        }
    }
}

/// Puts a policy beside the one in force, or takes away what stands there. Gives whether that changed anything.
pub async fn set(station: &Station, channel: &Channel, name: Option<&str>) -> Result<bool> {
    people::allow(station, Action::Channel, Some(&channel.name)).await?;
    let held = find(station, &channel.name).await?;
    if held.as_ref().map(|shadow| shadow.policy.as_str()) == name {
        return Ok(false);
    }
    let to = match name {
        Some(name) => {
            policy::find(station, name).await?;
            let shadow = Shadow { policy: name.to_owned(), since: station.now().await?, report: None };
            Some(station.store.db.put(&shadow).await?.digest())
        }
        None => None,
    };
    let change = station.move_ref(&ref_name(&channel.name, "shadow"), to).await?;
    let detail = serde_json::json!({ "shadow": name });
    station.commit(vec![change], "channel.set", &format!("channel/{}", channel.name), &detail).await?;
    Ok(true)
}
