//! Hours in which nothing is begun.

use serde::{Deserialize, Serialize};

use airlock_core::time::{Span, Time};

/// Minutes of a day.
const DAY: i64 = 24 * 60;

/// A daily stretch of time, `08:00-18:00` in UTC or `08:00-18:00+02:00`; it may go over midnight.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct QuietHours {
    /// As it was written.
    text: String,
    /// The first minute of a UTC day that belongs to it.
    from: i64,
    /// How many minutes do.
    length: i64,
}

impl QuietHours {
    /// How long they still last, in seconds, if they hold at `now`.
    fn left(&self, now: Time) -> Option<i64> {
        let into = (now.seconds() - self.from * 60).rem_euclid(DAY * 60);
        (into < self.length * 60).then(|| self.length * 60 - into)
    }
}

/// Until when nothing is begun, if nothing may be at `now`.
pub fn quiet_until(hours: &[QuietHours], now: Time) -> Option<Time> {
    let mut until = now;
    // One stretch may begin where another ends; each is passed at most twice before the day is round.
    for _ in 0..=hours.len() * 2 {
        let Some(left) = hours.iter().filter_map(|h| h.left(until)).max() else { break };
        until = until.after(Span::seconds(left));
    }
    (until != now).then_some(until)
}

/// Whether no minute of the day is left.
pub(super) fn covers_the_day(hours: &[QuietHours]) -> bool {
    let quiet = |minute: i64| hours.iter().any(|h| h.left(Time::from_seconds(minute * 60)).is_some());
    !hours.is_empty() && (0..DAY).all(quiet)
}

impl TryFrom<String> for QuietHours {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let parse = || {
            let (from, rest) = text.split_once('-')?;
            let (to, offset) = rest.split_at_checked(5)?;
            let offset = match offset.strip_suffix('Z').unwrap_or(offset) {
                "" => 0,
                signed => {
                    let sign = if signed.starts_with('+') { 1 } else { -1 };
                    sign * minute(signed.strip_prefix(['+', '-'])?).filter(|m| *m <= 14 * 60)?
                }
            };
            let (from, to) = (minute(from)?, minute(to)?);
            let length = (to - from).rem_euclid(DAY);
            let length = if length == 0 && to != from { DAY } else { length };
            (length > 0).then(|| ((from - offset).rem_euclid(DAY), length))
        };
        match parse() {
            Some((from, length)) => Ok(Self { from, length, text }),
            None => Err("quiet hours are written as 08:00-18:00 (in UTC) or 08:00-18:00+02:00".to_owned()),
        }
    }
}

impl From<QuietHours> for String {
    fn from(hours: QuietHours) -> Self {
        hours.text
    }
}

/// The minute of the day of `08:00`; `24:00` is the end of the day.
fn minute(text: &str) -> Option<i64> {
    let (hours, minutes) = text.split_once(':')?;
    let two =
        |t: &str| (t.len() == 2 && t.bytes().all(|b| b.is_ascii_digit())).then(|| t.parse::<i64>().ok())?;
    let (hours, minutes) = (two(hours)?, two(minutes)?);
    ((hours < 24 && minutes < 60) || (hours == 24 && minutes == 0)).then_some(hours * 60 + minutes)
}
