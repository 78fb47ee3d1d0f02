//! Whether the system's clock can be believed.
//!
//! Much hangs on the time: a file that is old enough comes in, a waiver ends, a feed is fresh. So a clock that has jumped ahead since
//! a run last looked at it, or that lies behind the ledger, stops publishing and importing until a person says that it is right. A
//! block waits for nobody: it rules before anything is published. A time that was given (`--now`) is a person's own word.

use std::io::Write as _;

use serde::{Deserialize, Serialize};

use airlock_core::roles::Action;
use airlock_core::time::{Span, Time};

use crate::error::{Error, Result, file_error};
use crate::people;
use crate::station::{Clock, Station};

/// The file in the station's folder that says when a run last saw the clock.
const SEEN: &str = "clock.json";
/// How far the clock may have moved on since, unless `[clock]` says otherwise.
const AHEAD: Span = Span::days(7);
/// How far it may lie behind the ledger: clocks are set right by some seconds now and then.
const BEHIND_SECONDS: i64 = 3600;
/// How much newer the clock must be for the file to be written again, in seconds.
const EVERY_SECONDS: i64 = 60;

/// `[clock]` of `airlock.toml`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Trusted {
    /// How far the clock may have moved on since a run last saw it.
    #[serde(
        serialize_with = "crate::retention::write_span",
        deserialize_with = "crate::retention::read_span"
    )]
    pub ahead: Span,
}

impl Default for Trusted {
    fn default() -> Self {
        Self { ahead: AHEAD }
    }
}

impl Trusted {
    /// Whether it says nothing.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// What is remembered of the clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Seen {
    /// What it said.
    seen: Time,
    /// Up to which time of the ledger a person said that it may lie behind.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    behind: Option<Time>,
}

/// What is wrong with a clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Doubt {
    /// It went on by so much while nobody looked.
    Ahead(Span),
    /// It lies so far behind the ledger.
    Behind(Span),
}

/// Since when the clock may have gone on: when a run last saw it, or wrote to the ledger by it. Who never looked has no such time.
fn since(seen: Option<Seen>, last: Option<Time>) -> Option<Time> {
    seen.map(|seen| last.map_or(seen.seen, |last| last.max(seen.seen)))
}

fn doubt(now: Time, seen: Option<Seen>, last: Option<Time>, ahead: Span) -> Option<Doubt> {
    let accepted = seen.and_then(|seen| seen.behind);
    if let Some(last) = last
        && last.since(now).as_seconds() > BEHIND_SECONDS
        && accepted.is_none_or(|accepted| accepted < last)
    {
        return Some(Doubt::Behind(last.since(now)));
    }
    let gone = since(seen, last).map(|since| now.since(since));
    gone.filter(|gone| *gone > ahead).map(Doubt::Ahead)
}

fn read(station: &Station) -> Result<Option<Seen>> {
    let path = station.dir.join(SEEN);
    match std::fs::read_to_string(&path) {
        Ok(text) => serde_json::from_str(&text).map(Some).map_err(|e| {
            Error::fault(format!("{}: {e}", path.display())).hint(
                "look at the clock, then run `airlock clock confirm --reason TEXT`, which writes it anew",
            )
        }),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(file_error(&path)(e)),
    }
}

fn write(station: &Station, seen: Seen) -> Result<()> {
    let path = station.dir.join(SEEN);
    let mut file = tempfile::NamedTempFile::new_in(&station.dir).map_err(file_error(&path))?;
    file.write_all(serde_json::to_string(&seen)?.as_bytes()).map_err(file_error(&path))?;
    // A power failure, after which clocks are wrong, must not leave it empty.
    file.as_file().sync_all().map_err(file_error(&path))?;
    file.persist(&path).map(|_| ()).map_err(|e| file_error(&path)(e.error))
}

/// The time that counts: what the clock says, and never before the last entry of the ledger. A clock that is doubted since it jumped
/// ahead is not believed: what is written meanwhile must not move the station's time to where there is no way back from. Neither is one of
/// which nobody can say any more when it was seen.
pub(crate) fn believed(station: &Station, last: Option<Time>) -> Time {
    let clock = station.clock();
    let clock = match station.options.clock {
        Clock::System => match read(station) {
            Ok(seen) => {
                let since = since(seen, last);
                since.filter(|since| clock.since(*since) > station.config.clock.ahead).unwrap_or(clock)
            }
            Err(_) => last.unwrap_or(clock),
        },
        Clock::Fixed(_) => clock,
    };
    last.map_or(clock, |last| last.max(clock))
}

/// The time for what lets a person do something until a date: what the clock says, also where it is doubted, and never before the last
/// entry of the ledger.
pub(crate) async fn latest(station: &Station) -> Result<Time> {
    let (clock, last) = (station.clock(), station.store.db.last_time().await?);
    Ok(last.map_or(clock, |last| last.max(clock)))
}

/// Remembers that a run saw the clock, where there is nothing against it: a station that runs and has nothing to publish has not
/// been away. Where there is, whoever publishes says it.
pub(crate) async fn look(station: &Station) {
    if let Err(doubt) = check(station).await {
        tracing::debug!("{}", doubt.message);
    }
}

/// Looks at the clock, and remembers that it was seen where there is nothing against it.
///
/// # Errors
///
/// Unsafe, if it has jumped ahead or lies behind.
pub async fn check(station: &Station) -> Result<()> {
    if !matches!(station.options.clock, Clock::System) {
        return Ok(());
    }
    let (now, seen) = (station.clock(), read(station)?);
    let last = station.store.db.last_time().await?;
    match doubt(now, seen, last, station.config.clock.ahead) {
        None => {
            let is_new = seen.is_none_or(|seen| now.since(seen.seen).as_seconds() >= EVERY_SECONDS);
            if is_new {
                write(station, Seen { seen: now, behind: seen.and_then(|seen| seen.behind) })
            } else {
                Ok(())
            }
        }
        Some(doubt) => {
            let days = |span: Span| span.as_seconds() / 86_400;
            let what = match doubt {
                Doubt::Ahead(gone) => {
                    format!(
                        "the clock says {now}, {} days after this station last saw it or wrote by it",
                        days(gone)
                    )
                }
                Doubt::Behind(by) => {
                    format!("the clock says {now}, and the ledger was written {} days later", days(by))
                }
            };
            Err(Error::unsafe_(format!(
                "{what}: nothing is published or taken in by a clock that may be wrong"
            ))
            .hint("set it right; or, if it is right, say so: `airlock clock confirm --reason TEXT`"))
        }
    }
}

/// What was confirmed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Confirmed {
    /// What the clock says.
    pub clock: Time,
    /// The time at which the station stands until the clock has caught up, where the ledger was written ahead of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stands_at: Option<Time>,
}

/// Says that the clock is right, whatever it did. Where it lies behind the ledger, the station's time stands still until it
/// has caught up.
pub async fn confirm(station: &Station, reason: &str) -> Result<Confirmed> {
    people::allow(station, Action::Maintain, None).await?;
    if reason.trim().is_empty() {
        return Err(Error::usage("a reason is needed")
            .hint("say how you know: --reason \"compared with the radio clock\""));
    }
    let (now, before) = (station.clock(), read(station).unwrap_or_default());
    let last = station.store.db.last_time().await?;
    let detail = serde_json::json!({ "clock": now, "seen": before.map(|seen| seen.seen), "ledger": last, "reason": reason });
    station.commit(Vec::new(), "clock.confirm", "station", &detail).await?;
    let ahead = last.filter(|last| *last > now);
    write(station, Seen { seen: now, behind: ahead })?;
    Ok(Confirmed { clock: now, stands_at: ahead })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_is_doubted_that_jumped_ahead_or_lies_behind_what_was_written() {
        let at = |text: &str| text.parse::<Time>().unwrap();
        let seen = |text: &str| Some(Seen { seen: at(text), behind: None });
        let asked = |now: &str, seen, last: &str| doubt(at(now), seen, Some(at(last)), AHEAD);
        let last = "2026-03-01";
        assert_eq!(asked("2026-03-02", None, last), None);
        assert_eq!(asked("2026-03-08", seen("2026-03-01"), last), None);
        assert_eq!(asked("2026-03-09", seen("2026-03-01"), last), Some(Doubt::Ahead(Span::days(8))));
        // Who wrote to the ledger was there.
        assert_eq!(asked("2026-03-09", seen("2026-02-20"), "2026-03-05"), None);
        // A clock that is set right by minutes is no matter.
        assert_eq!(asked("2026-02-28T23:30:00Z", seen("2026-03-01"), last), None);
        assert_eq!(asked("2026-02-19", seen("2026-03-01"), last), Some(Doubt::Behind(Span::days(10))));
        let accepted = Some(Seen { seen: at("2026-02-19"), behind: Some(at(last)) });
        assert_eq!(asked("2026-02-20", accepted, last), None);
        // Not for what is written later by another clock.
        assert_eq!(asked("2026-02-20", accepted, "2026-04-01"), Some(Doubt::Behind(Span::days(40))));
    }
}
