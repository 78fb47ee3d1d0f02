//! `sync`, `judge`, `explain`

use std::path::PathBuf;
use std::process::ExitCode;

use serde::ser::{Error as _, SerializeMap as _, SerializeSeq as _};
use serde::{Serialize, Serializer};

use airlock_core::assess::Assessed;
use airlock_core::closure::Impossible;
use airlock_core::fact::Fault;
use airlock_core::roles::Action;
use airlock_core::shard::ShardKey;
use airlock_core::spec::Spec;
use airlock_core::time::Time;
use airlock_core::unseen::plain;
use airlock_engine::channel;
use airlock_engine::child;
use airlock_engine::error::{Error, Result};
use airlock_engine::explain::{self, Explained};
use airlock_engine::feeds;
use airlock_engine::judge::{How, VerdictChange};
use airlock_engine::people;
use airlock_engine::report::Report;
use airlock_engine::station::Station;
use airlock_engine::sync::{self, Outcome, Wish};
use airlock_engine::view::{ChannelView, View};

use super::findings::state;
use super::{Cx, advisories, shadows};
use crate::output::{bytes, count, table};

/// Changes that are shown without --verbose.
const CHANGES_SHOWN: usize = 20;

pub async fn sync(cx: &Cx, names: &[String], wish: Wish) -> Result<ExitCode> {
    let station = cx.open().await?;
    read_new_feeds(cx, &station).await?;
    let channels = match names {
        [] => sync::sourced(&station).await?,
        names => {
            let mut out = Vec::new();
            for name in names {
                out.push(channel::find(&station, name).await?);
            }
            // A parent before its children.
            out.sort_by(|a, b| a.name.cmp(&b.name));
            out
        }
    };
    if channels.is_empty() {
        return Err(
            Error::usage("there is no channel with a source").hint("add one with `airlock channel add`")
        );
    }
    let (mut outcomes, mut failed) = (Vec::new(), None);
    for channel in channels {
        cx.out.say(&format!("reading channel {} ...", channel.name));
        match sync::sync(&station, &channel, wish).await {
            Ok(outcome) => outcomes.push(outcome),
            Err(e) => failed = failed.or(Some(e.while_(&format!("channel {}", channel.name)))),
        }
    }
    if !wish.dry {
        let published: Vec<String> = outcomes.iter().map(|o: &Outcome| o.channel.clone()).collect();
        let published: Vec<&str> = published.iter().map(String::as_str).collect();
        let below = sync::descend(&station, &published, "sync").await?;
        outcomes.extend(below.outcomes);
        failed = failed.or(below.failed);
    }
    cx.out.answer(|| json(&outcomes), || text(cx, &outcomes))?;
    if !wish.dry {
        shadows::ask(cx, &station).await;
    }
    // One channel that fails takes nothing from the others, and is an error all the same.
    failed.map_or(Ok(()), Err)?;
    Ok(ExitCode::from(outcomes.iter().map(fetch_status).max().unwrap_or(0)))
}

/// What did not come is held back and named, and running it again may bring it: 4. What came and is not what
/// its record says is refused as unsafe: 3, unless something else is to be tried again anyway.
pub fn fetch_status(outcome: &Outcome) -> u8 {
    let faults = || outcome.fetched.faults.iter().map(|(_, fault)| fault);
    if faults().any(|f| matches!(f, Fault::Fetch(_))) {
        4
    } else if faults().next().is_some() {
        3
    } else {
        0
    }
}

/// Reads the feeds that were added and never read: judging without them would hold everything.
pub async fn read_new_feeds(cx: &Cx, station: &Station) -> Result<()> {
    let new: Vec<String> = feeds::never_read(station).await?.into_keys().collect();
    if !new.is_empty() {
        let updated = feeds::update(station, &new).await?;
        advisories::say_reports(cx, &updated.read);
        // A feed that cannot be read holds back no channel: it is said, and the next `update` tries again.
        if let Some(error) = updated.failed {
            cx.out.say(&format!("warning: {}", error.message));
        }
    }
    Ok(())
}

pub async fn judge(
    cx: &Cx,
    names: &[String],
    dry: bool,
    anew: bool,
    as_of: Option<Time>,
    policy: Option<PathBuf>,
) -> Result<ExitCode> {
    let station = cx.open().await?;
    let policy = match &policy {
        Some(path) => Some(
            std::fs::read_to_string(path).map_err(|e| Error::usage(format!("{}: {e}", path.display())))?,
        ),
        None => None,
    };
    let closure = dry || as_of.is_some() || policy.is_some();
    // Another policy may let in what nobody fetched yet.
    let without_bytes = policy.is_some();
    let how = How { as_of, policy, anew, closure, without_bytes, ..How::default() };
    let is_hypothetical = dry || how.as_of.is_some() || how.policy.is_some();
    let mut wanted = Vec::new();
    for channel in channel::list(&station).await? {
        if names.contains(&channel.name) || (names.is_empty() && child::is_filled(&station, &channel).await?)
        {
            wanted.push(channel);
        }
    }
    for name in names {
        channel::find(&station, name).await?;
    }
    // Before any is judged, so that a missing right stops nothing in the middle.
    for channel in wanted.iter().filter(|_| !is_hypothetical) {
        people::allow(&station, Action::Sync, Some(&channel.name)).await?;
    }
    let (mut outcomes, mut failed) = (Vec::new(), None);
    for channel in wanted {
        match sync::rejudge(&station, &channel, &how, dry, "judge").await {
            Ok(outcome) => outcomes.push(outcome),
            Err(e) => failed = failed.or(Some(e.while_(&format!("channel {}", channel.name)))),
        }
    }
    if !names.is_empty() && !is_hypothetical {
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let below = sync::descend(&station, &names, "judge").await?;
        outcomes.extend(below.outcomes);
        failed = failed.or(below.failed);
    }
    cx.out.answer(|| json(&outcomes), || text(cx, &outcomes))?;
    if !is_hypothetical {
        shadows::ask(cx, &station).await;
    }
    failed.map_or(Ok(ExitCode::SUCCESS), Err)
}

/// What bringing channels up to date did, for scripts, and what a command says beside it.
pub struct Json<'a> {
    outcomes: &'a [Outcome],
    /// All but what changes.
    members: serde_json::Map<String, serde_json::Value>,
}

impl Json<'_> {
    /// Says something beside it.
    pub fn set(&mut self, member: &str, value: serde_json::Value) {
        self.members.insert(member.to_owned(), value);
    }
}

/// What changes is never all unpacked, since it may be every artifact of a channel.
impl Serialize for Json<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        let mut out = serializer.serialize_map(None)?;
        out.serialize_entry("changes", &Changed(self.outcomes))?;
        for (name, value) in &self.members {
            out.serialize_entry(name, value)?;
        }
        out.end()
    }
}

/// What changes, one after the other.
struct Changed<'a>(&'a [Outcome]);

impl Serialize for Changed<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        let mut out = serializer.serialize_seq(None)?;
        let mut written = Ok(());
        for outcome in self.0 {
            let one = |change: VerdictChange<'_>| {
                if written.is_ok() {
                    written = out.serialize_element(&change);
                }
            };
            outcome.changes.each(one).map_err(S::Error::custom)?;
        }
        written?;
        out.end()
    }
}

/// What bringing channels up to date did, for scripts.
pub fn json(outcomes: &[Outcome]) -> Result<Json<'_>> {
    let channels: Vec<serde_json::Value> = outcomes
        .iter()
        .map(|o| {
            let bad: Vec<_> = o
                .bad
                .iter()
                .map(|b| serde_json::json!({"index": b.index, "file": b.file, "reason": b.reason}))
                .collect();
            let faults: Vec<_> = o
                .fetched
                .faults
                .iter()
                .map(|(f, why)| serde_json::json!({"file": f, "reason": why.detail()}))
                .collect();
            serde_json::json!({
                "channel": o.channel, "snapshot": o.snapshot, "counts": o.counts, "records": o.records,
                "fetched": {
                    "files": o.fetched.files, "bytes": o.fetched.bytes, "faults": faults,
                    "probed": o.fetched.probed, "unprobed": o.fetched.unprobed,
                },
                "left_out": {"count": o.bad_count, "records": bad},
                "uninstallable": o.uninstallable.as_ref().map(|all| uninstallable(all)),
            })
        })
        .collect();
    let mut json = Json { outcomes, members: serde_json::Map::new() };
    json.set("channels", channels.into());
    Ok(json)
}

/// What could not be installed any more, for scripts.
fn uninstallable(all: &[Impossible]) -> Vec<serde_json::Value> {
    all.iter().map(|one| serde_json::json!({"artifact": place(one), "needs": one.needs})).collect()
}

/// Subdir and file for conda, the file for PyPI.
fn place(one: &Impossible) -> String {
    ShardKey::parse(&one.key).place(&one.file)
}

/// The same for people.
pub fn text(cx: &Cx, outcomes: &[Outcome]) -> Result<String> {
    let mut out = String::new();
    for o in outcomes {
        let c = o.counts;
        out += &format!("{}: {} admitted, {} held, {} denied", o.channel, c.admit, c.hold, c.deny);
        if o.fetched.files > 0 {
            out += &format!("; fetched {}, {}", count(o.fetched.files, "file"), bytes(o.fetched.bytes));
        }
        out += &match o.snapshot {
            Some(id) => format!("; published as {}\n", id.digest().short()),
            None => "\n".to_owned(),
        };
        if o.bad_count > 0 {
            out += &format!("  left out {} that cannot be read:\n", count(o.bad_count, "record"));
            let shown = if cx.out.is_verbose() { o.bad.len() } else { 3 };
            for bad in o.bad.iter().take(shown) {
                let (file, index, reason) = (plain(&bad.file), plain(&bad.index), plain(&bad.reason));
                out += &format!("    {file} in {index}: {reason}\n");
            }
        }
        if o.fetched.unprobed > 0 {
            out += &format!(
                "  {} held until opened, which the budget of [probing] did not allow; the next sync tries again\n",
                count(o.fetched.unprobed, "file")
            );
        }
        for (file, fault) in &o.fetched.faults {
            out += &format!("  did not come: {}: {}\n", plain(file), plain(fault.detail()));
        }
        let shown = if cx.out.is_verbose() { o.changes.len() } else { CHANGES_SHOWN };
        let mut rows: Vec<Vec<String>> = Vec::new();
        o.changes.each(|c| {
            let is_told = c.from.is_some() || c.to != Some("admitted");
            if is_told && rows.len() < shown {
                let step = format!("  {} -> {}", c.from.unwrap_or("new"), c.to.unwrap_or("gone"));
                rows.push(vec![step, c.artifact.to_owned(), c.why.to_owned()]);
            }
        })?;
        out += &table(&rows);
        if o.changes.len() > rows.len() {
            out += &format!("  and {}\n", count((o.changes.len() - rows.len()) as u64, "further change"));
        }
        out += &lost(cx, o.uninstallable.as_deref().unwrap_or_default());
    }
    Ok(out)
}

/// What could not be installed any more.
fn lost(cx: &Cx, all: &[Impossible]) -> String {
    if all.is_empty() {
        return String::new();
    }
    let shown = if cx.out.is_verbose() { all.len() } else { CHANGES_SHOWN };
    let rows: Vec<Vec<String>> = all
        .iter()
        .take(shown)
        .map(|one| {
            vec![
                "    ".to_owned() + &place(one),
                format!("needs {}, of which nothing would be left", one.needs),
            ]
        })
        .collect();
    let mut out =
        format!("  {} could no longer be installed:\n{}", count(all.len() as u64, "artifact"), table(&rows));
    if all.len() > rows.len() {
        out += &format!("    and {} more\n", all.len() - rows.len());
    }
    out
}

/// A published channel as readers see it.
pub async fn published(station: &Station, name: &str) -> Result<(View, ChannelView)> {
    channel::find(station, name).await?;
    let view = View::new(station.clone());
    let channel = view.channel(name).await?.ok_or_else(|| {
        Error::usage(format!("channel `{name}` was never published"))
            .hint(format!("run `airlock sync {name}`"))
    })?;
    Ok((view, channel))
}

pub async fn explain(cx: &Cx, name: &str, spec: &str) -> Result<ExitCode> {
    let station = cx.open().await?;
    let (view, channel) = published(&station, name).await?;
    let spec = Spec::parse(channel.channel.ecosystem, spec).map_err(|e| Error::usage(e.to_string()))?;
    let explanation = explain::explain(&view, &channel, &spec).await?;
    let json = || {
        let mut json = serde_json::to_value(&explanation)?;
        let nearest = explanation.artifacts.iter().find_map(|a| a.nearest.clone());
        json["nearest"] = nearest.into();
        Ok(json)
    };
    cx.out.answer(json, || explanation.artifacts.iter().map(explained_text).collect::<String>())?;
    let refused = explanation.artifacts.iter().all(|a| a.verdict != "admitted" || a.gone);
    Ok(if refused { ExitCode::from(1) } else { ExitCode::SUCCESS })
}

fn explained_text(a: &Explained) -> String {
    let mut out = format!(
        "{}: {}{}\n",
        a.artifact,
        a.verdict,
        match &a.left_out_by {
            Some(who) => format!(" by {who}"),
            None if a.gone => ", and the source lists it no longer".to_owned(),
            None => String::new(),
        }
    );
    for rule in &a.rules {
        let said = rule.advisory.iter().chain(&rule.detail).map(|text| format!(": {text}"));
        let on: String = said.collect();
        let unknown = if rule.unknown { ", not known to hold" } else { "" };
        let waived = rule.waived_by.as_ref().map(|d| format!(", waived by decision {d}")).unwrap_or_default();
        out += &format!("  rule {} ({}{unknown}{waived}){on}\n", rule.rule, rule.action.name());
    }
    for f in &a.findings {
        let score = f.score.map_or_else(|| "no score".to_owned(), |s| format!("{} {s}", s.band()));
        let choice = f.score_choice.as_deref().unwrap_or_default();
        let by = f.score_source.as_ref().map(|s| format!(" by {s}, {choice}")).unwrap_or_default();
        let kev = if f.kev { ", known to be exploited" } else { "" };
        let epss = f.epss.map(|p| format!(", EPSS {:.1} %", p * 100.0)).unwrap_or_default();
        let model = f.epss_model.as_ref().map(|model| format!(" (model {model})")).unwrap_or_default();
        let aliases: Vec<&str> = f.aliases.iter().map(String::as_str).collect();
        let aliases = aliases.join(", ");
        out += &format!("  {} ({aliases}): {score}{by}, {}{kev}{epss}{model}\n", f.advisory, state(f));
        out += &format!("    {}\n", f.summary);
        if let Some(ruled) = &f.assessed {
            out += &format!("    {}\n", ruled_text(ruled));
        }
        for e in &f.evidence.records {
            out += &format!("    {} by {} in {} order, via {}\n", e.record, e.hit, e.order.name(), e.via);
        }
        if !f.fixed.is_empty() {
            let fixed: Vec<&str> = f.fixed.iter().map(String::as_str).collect();
            out += &format!("    fixed from {}\n", fixed.join(", "));
        }
    }
    if a.findings.is_empty() {
        out += match a.coverage {
            airlock_core::identity::Coverage::Unknown => {
                "  unknown coverage: no advisory could have matched, which is not the same as clean\n"
            }
            _ => "  no advisory matches\n",
        };
    }
    if let Some(until) = a.denied_from {
        let why = a.denied_for.as_ref().map(|why| format!(": {why}")).unwrap_or_default();
        out += &format!("  offered until {until}, and denied then{why}\n");
    }
    if let Some(until) = a.review_by {
        out += &format!("  offered until {until}, unless somebody decides\n");
    }
    if let Some(nearest) = &a.nearest {
        out += &format!("  nearest version that passes: {nearest}\n");
    } else if a.verdict != "admitted" {
        out += "  no version of it passes\n";
    }
    out
}

/// Answers with what judging changed after something became known, and tells whoever is to be told.
pub async fn tell<'a>(
    cx: &Cx,
    station: &Station,
    why: &str,
    outcomes: &'a [Outcome],
    json: impl FnOnce() -> Result<Json<'a>>,
) -> Result<()> {
    // What changed has happened, whether it can be summed up and told or not.
    let report = Report::of(station, why, outcomes).await;
    let json = || {
        let mut json = json()?;
        if let Ok(report) = &report {
            json.set("report", serde_json::to_value(report)?);
        }
        Ok(json)
    };
    let summed_up = || report.as_ref().map(Report::text).unwrap_or_default();
    cx.out.answer(json, || Ok(text(cx, outcomes)? + &summed_up()))?;
    let told = match &report {
        Ok(report) => report.notify(station).await,
        Err(error) => Err(Error::fault(error.message.clone())),
    };
    if let Err(error) = told {
        cx.out.say(&format!("warning: {}", error.message));
    }
    Ok(())
}

/// What was ruled of a finding, and whether that counts.
fn ruled_text(ruled: &Assessed) -> String {
    let reason = if ruled.reason.is_empty() { String::new() } else { format!(": {}", ruled.reason) };
    let void = ruled.void.as_ref().map(|why| format!("; it does not count: {why}")).unwrap_or_default();
    format!("{} by {}{reason}{void}", ruled.status.name(), ruled.by)
}
