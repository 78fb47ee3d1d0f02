//! What is tried again, and when.

use std::time::Duration;

use reqwest::StatusCode;
use reqwest::header::HeaderMap;

use airlock_core::time::{Span, Time};

use super::answer::retry_after;
use crate::error::Error;

/// The longest wait between two tries that this station chooses itself.
const BACKOFF_MAX: Duration = Duration::from_secs(30);
/// The longest wait that an upstream may ask for; who asks for more is come back to by another run.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(120);
/// Who was asked too much counts questions over half a minute: that is so many first waits, unless those are configured.
const BUSY_WAITS: u32 = 60;

/// Why one try did not succeed.
#[derive(Debug)]
pub(crate) struct Failure {
    pub error: Error,
    pub again: Again,
}

/// What one try gives.
pub(crate) type Tried<T> = Result<T, Failure>;

/// Whether to try again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Again {
    /// It would be the same.
    Never,
    /// After a wait that grows from try to try.
    Later,
    /// No sooner than the upstream asks.
    After(Duration),
    /// Later, but what came this time does not count as progress: it came too slowly.
    Slow,
}

impl From<Error> for Failure {
    /// Errors of this side stay.
    fn from(error: Error) -> Self {
        Self { error, again: Again::Never }
    }
}

impl Failure {
    pub(crate) fn later(error: Error) -> Self {
        Self { error, again: Again::Later }
    }
}

/// How long to wait before the try of this number, of which the first after a failure is 1: it doubles, up to a
/// limit, and is spread over its upper half so that many stations do not come back at one moment.
pub(super) fn backoff(base: Duration, number: u32) -> Duration {
    let whole = base.saturating_mul(1 << number.saturating_sub(1).min(16)).min(BACKOFF_MAX);
    let mut random = [0; 4];
    // Without randomness it is the whole wait, which is as right.
    let part = if getrandom::fill(&mut random).is_ok() { u32::from_le_bytes(random) } else { u32::MAX };
    whole / 2 + (whole / 2).mul_f64(f64::from(part) / f64::from(u32::MAX))
}

/// How long an upstream is left alone that refuses where it was asked too much: a try within the span over which it
/// counts would be refused as well, and count.
pub(super) fn busy(base: Duration) -> Duration {
    base.saturating_mul(BUSY_WAITS).min(BACKOFF_MAX)
}

/// What to make of a status that is not what was asked for. Where there is a wait for those who are `busy`, a refusal
/// (403, 429) says only that too much was asked, and no try comes sooner.
pub(super) fn refused(
    shown: &str,
    status: StatusCode,
    headers: &HeaderMap,
    now: Time,
    busy: Option<Duration>,
) -> Failure {
    let error = |text: String, hint: &str| Error::fault(format!("{shown}: {text}")).hint(hint);
    let never = |text: &str, hint| Failure { error: error(text.to_owned(), hint), again: Again::Never };
    let answers = format!("the upstream answers {status}");
    let broken = "the upstream is broken or hostile: tell its operator";
    let busy = busy.filter(|_| matches!(status.as_u16(), 403 | 429));
    let counts_as = if busy.is_some() { 429 } else { status.as_u16() };
    match counts_as {
        408 | 425 | 429 | 500 | 502 | 503 | 504 => match retry_after(headers, now).max(busy) {
            Some(wait) if wait > RETRY_AFTER_MAX => {
                let seconds = i64::try_from(wait.as_secs()).unwrap_or(i64::MAX);
                let when = now.after(Span::seconds(seconds));
                never(&format!("{answers} and asks to be left alone until {when}"), "run it again then")
            }
            Some(wait) => Failure {
                error: error(answers, "the upstream asks to be left alone for a while; run it again later"),
                again: Again::After(wait),
            },
            None => Failure::later(error(answers, "run it again later; if it stays so, ask its operator")),
        },
        206 => never("the upstream answers with a part of the file (206), which was not asked for", broken),
        200..300 => never(&format!("{answers}, which brings no file"), broken),
        304 => never(&format!("{answers}, although nothing was to be compared"), broken),
        407 => never("the proxy wants a user and a password, and takes none or not these", PROXY_HINT),
        511 => never(&answers, "the network wants a login first: log in, or use the proxy it wants"),
        401 | 403 => never(&answers, "check the credentials of this source"),
        _ => never(&answers, "check the address; if it stays so, ask the upstream's operator"),
    }
}

/// What to do where a proxy refuses.
pub(super) const PROXY_HINT: &str =
    "set `proxy_user` and `proxy_password_file` beside `proxy` in airlock.toml";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_are_spread_and_end_somewhere() {
        let base = Duration::from_millis(100);
        for (number, whole) in [(1, 100), (2, 200), (5, 1600), (30, 30_000), (u32::MAX, 30_000)] {
            let wait = backoff(base, number).as_millis();
            assert!((whole / 2..=whole).contains(&wait), "{number}: {wait}");
        }
        let waits: std::collections::BTreeSet<_> = (0..20).map(|_| backoff(base, 3)).collect();
        assert!(waits.len() > 1);
        assert_eq!(backoff(Duration::ZERO, 3), Duration::ZERO);
    }

    #[test]
    fn what_may_pass_is_tried_again_and_nothing_else() {
        let now = Time::from_seconds(1_000_000);
        for code in 200..600 {
            let status = StatusCode::from_u16(code).unwrap();
            let again = refused("x", status, &HeaderMap::new(), now, None).again;
            let passes = [408, 425, 429, 500, 502, 503, 504].contains(&code);
            assert_eq!(again, if passes { Again::Later } else { Again::Never }, "{code}");
        }
        // Who counts over half a minute is not asked sooner, whatever else it says.
        let half_a_minute = busy(Duration::from_millis(500));
        assert_eq!(half_a_minute, Duration::from_secs(30));
        let soon: HeaderMap = [(reqwest::header::RETRY_AFTER, "0".parse().unwrap())].into_iter().collect();
        for headers in [HeaderMap::new(), soon] {
            for status in [StatusCode::FORBIDDEN, StatusCode::TOO_MANY_REQUESTS] {
                let again = refused("x", status, &headers, now, Some(half_a_minute)).again;
                assert_eq!(again, Again::After(half_a_minute));
            }
        }
        let other = refused("x", StatusCode::BAD_GATEWAY, &HeaderMap::new(), now, Some(half_a_minute)).again;
        assert_eq!(other, Again::Later);
        let asks = |seconds: &str| {
            let headers = [(reqwest::header::RETRY_AFTER, seconds.parse().unwrap())].into_iter().collect();
            refused("x", StatusCode::SERVICE_UNAVAILABLE, &headers, now, None)
        };
        assert_eq!(asks("5").again, Again::After(Duration::from_secs(5)));
        let long = asks("3600");
        assert_eq!(long.again, Again::Never);
        assert!(long.error.message.contains(&now.after(Span::seconds(3600)).to_string()), "{}", long.error);
        assert_eq!(asks("99999999999999999999999").again, Again::Never);
    }
}
