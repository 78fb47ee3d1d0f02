//! Points in time and spans, as values. Nothing here asks a clock.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A moment in UTC, in whole seconds since 1970, written as RFC 3339 (`2026-11-23T12:00:00Z`).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Time(i64);

/// The last second of the year 9999: what lies beyond is in milliseconds, as conda reads it.
const LAST_SECOND: i64 = 253_402_300_799;

impl Time {
    /// From seconds since 1970, clamped to the years 1970 to 9999.
    pub fn from_seconds(seconds: i64) -> Self {
        Self(seconds.clamp(0, LAST_SECOND))
    }

    /// From a conda timestamp, which is in milliseconds now and was in seconds in old records.
    pub fn from_conda(stamp: i64) -> Self {
        Self::from_seconds(if stamp > LAST_SECOND { stamp / 1000 } else { stamp })
    }

    /// Seconds since 1970.
    pub const fn seconds(self) -> i64 {
        self.0
    }

    /// This moment and `span` later; the last second of 9999 at most.
    pub fn after(self, span: Span) -> Self {
        Self::from_seconds(self.0.saturating_add(span.0))
    }

    /// How long ago `earlier` was; zero if it lies ahead.
    pub fn since(self, earlier: Self) -> Span {
        Span((self.0 - earlier.0).max(0))
    }

    /// The date alone, `2026-11-23`.
    pub fn date(self) -> String {
        self.to_string().chars().take(10).collect()
    }
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match jiff::Timestamp::from_second(self.0) {
            Ok(stamp) => write!(f, "{stamp}"),
            Err(_) => write!(f, "{}", self.0),
        }
    }
}

/// A text that is no moment in RFC 3339 and no date.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a time; write it as 2026-11-23T12:00:00Z or 2026-11-23")]
pub struct NotATime(String);

impl FromStr for Time {
    type Err = NotATime;

    /// RFC 3339, the same without an offset (NVD writes UTC that way), or a date (its first second).
    fn from_str(text: &str) -> Result<Self, NotATime> {
        if let Some(seconds) = written(text) {
            return Ok(Self(seconds));
        }
        let error = || NotATime(text.chars().take(60).collect());
        let stamp = text
            .parse::<jiff::Timestamp>()
            .or_else(|_| format!("{text}Z").parse())
            .or_else(|_| format!("{text}T00:00:00Z").parse())
            .map_err(|_| error())?;
        let seconds = stamp.as_second();
        if (0..=LAST_SECOND).contains(&seconds) { Ok(Self(seconds)) } else { Err(error()) }
    }
}

/// The seconds of `2026-11-23T12:00:00Z`, as [`Time`] writes itself and objects hold it by the hundred thousand; none of any
/// other form, and of what is no moment.
fn written(text: &str) -> Option<i64> {
    let bytes: &[u8; 20] = text.as_bytes().try_into().ok()?;
    let marks = [(4, b'-'), (7, b'-'), (10, b'T'), (13, b':'), (16, b':'), (19, b'Z')];
    if marks.iter().any(|(at, mark)| bytes[*at] != *mark) {
        return None;
    }
    let digit = |byte: u8| byte.is_ascii_digit().then(|| i64::from(byte - b'0'));
    let pair = |at: usize| Some(digit(bytes[at])? * 10 + digit(bytes[at + 1])?);
    let (year, month, day) = (pair(0)? * 100 + pair(2)?, pair(5)?, pair(8)?);
    let (hour, minute, second) = (pair(11)?, pair(14)?, pair(17)?);
    let is_leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let length = match month {
        2 => 28 + i64::from(is_leap),
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    };
    let is_moment = year >= 1970
        && (1..=12).contains(&month)
        && (1..=length).contains(&day)
        && hour < 24
        && minute < 60
        && second < 60;
    // Days since 1970, of years that begin in March, so that the day that some lack is the last one.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = year * 365 + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day - 719_469;
    is_moment.then_some(days * 86_400 + hour * 3_600 + minute * 60 + second)
}

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        crate::id::parsed(deserializer)
    }
}

/// A length of time in whole seconds, written as `45 days`, `12 hours` or `90 seconds`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Span(i64);

const UNITS: [(&str, i64); 5] =
    [("week", 604_800), ("day", 86_400), ("hour", 3_600), ("minute", 60), ("second", 1)];

impl Span {
    /// That many seconds.
    pub const fn seconds(seconds: i64) -> Self {
        Self(seconds)
    }

    /// That many days of 24 hours.
    pub const fn days(days: i64) -> Self {
        Self(days * 86_400)
    }

    /// The length in seconds.
    pub const fn as_seconds(self) -> i64 {
        self.0
    }
}

impl fmt::Display for Span {
    /// The largest unit that divides it but weeks, which people do not count feeds in.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fits = |unit: &&(&str, i64)| unit.0 != "week" && self.0 % unit.1 == 0 && self.0 != 0;
        let (unit, seconds) = UNITS.iter().find(fits).copied().unwrap_or(("second", 1));
        let count = self.0 / seconds;
        write!(f, "{count} {unit}{}", if count == 1 { "" } else { "s" })
    }
}

/// A text that is no length of time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a length of time; write a number and a unit, such as `14 days` or `12 hours`")]
pub struct NotASpan(String);

impl FromStr for Span {
    type Err = NotASpan;

    fn from_str(text: &str) -> Result<Self, NotASpan> {
        let parse = || {
            let (count, unit) = text.trim().split_once(' ')?;
            let count: i64 = count.parse().ok().filter(|n| (0..=100_000).contains(n))?;
            let unit = unit.trim().strip_suffix('s').unwrap_or(unit.trim());
            let (_, seconds) = UNITS.iter().find(|(name, _)| *name == unit)?;
            Some(Self(count * seconds))
        };
        parse().ok_or_else(|| NotASpan(text.chars().take(60).collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_in_the_forms_that_feeds_write() {
        for text in ["2023-09-08T12:15:08.043", "2023-09-08T12:15:08Z", "2023-09-08T14:15:08+02:00"] {
            assert_eq!(text.parse::<Time>().unwrap().to_string(), "2023-09-08T12:15:08Z", "{text}");
        }
        assert_eq!("2023-09-08".parse::<Time>().unwrap().to_string(), "2023-09-08T00:00:00Z");
        assert!("yesterday".parse::<Time>().is_err());
        assert!("-000001-01-01T00:00:00Z".parse::<Time>().is_err());
    }

    #[test]
    fn what_was_written_is_read_as_any_other_form_is() {
        // Some hours more than a day, so that each day of 8,030 years and each hour are met.
        for step in 0..(LAST_SECOND / 100_003) {
            let time = Time::from_seconds(step * 100_003);
            let text = time.to_string();
            assert_eq!(written(&text), Some(time.0), "{text}");
        }
        assert_eq!(written("9999-12-31T23:59:59Z"), Some(LAST_SECOND));
        assert_eq!(written("1970-01-01T00:00:00Z"), Some(0));
        for (none, is_a_time) in [
            ("2023-02-29T00:00:00Z", false),
            ("2024-04-31T00:00:00Z", false),
            ("2024-00-01T00:00:00Z", false),
            ("2024-13-01T00:00:00Z", false),
            ("2024-01-00T00:00:00Z", false),
            ("2024-01-01T24:00:00Z", false),
            ("1969-12-31T23:59:59Z", false),
            ("2024-01-01T00:60:00Z", false),
            ("2024-01-01 00:00:00Z", true),
            ("2024-01-01T00:00:60Z", true),
            ("2024-01-01T00:00:0éZ", false),
        ] {
            assert_eq!((written(none), none.parse::<Time>().is_ok()), (None, is_a_time), "{none}");
        }
    }

    #[test]
    fn old_conda_timestamps_are_seconds() {
        assert_eq!(Time::from_conda(1_500_000_000), Time::from_conda(1_500_000_000_000));
    }

    #[test]
    fn spans_are_read_and_written() {
        for (text, written) in
            [("14 days", "14 days"), ("1 week", "7 days"), ("36 hours", "36 hours"), ("1 day", "1 day")]
        {
            assert_eq!(text.parse::<Span>().unwrap().to_string(), written);
        }
        for bad in ["", "days", "5", "5 moons", "-1 days", "9999999 weeks"] {
            assert!(bad.parse::<Span>().is_err(), "{bad}");
        }
    }
}
