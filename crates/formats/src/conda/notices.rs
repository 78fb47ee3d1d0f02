//! `notices.json` (CEP 6): what conda tells its users about a channel.

use std::collections::{BTreeMap, BTreeSet};

use airlock_core::block::BlockSet;
use airlock_core::id::Digest;
use airlock_core::shard::ShardKey;
use airlock_core::time::Time;
use airlock_core::unseen::is_unseen;
use serde_json::json;

/// Notices of one channel: one for each day on which something leaves, the next ones first.
const NOTICES_MAX: usize = 10;
/// Packages that one notice names; of more it says how many.
const NAMED_MAX: usize = 10;
/// A version, or a reason, in a notice, in characters.
const CHARS_MAX: usize = 100;
/// How often a client should show a notice at most, in seconds.
const INTERVAL: u32 = 86_400;

/// A day in seconds.
const DAY_SECONDS: i64 = 86_400;

/// What leaves on one day.
struct Day {
    first: Time,
    last: Time,
    packages: BTreeSet<String>,
}

impl From<Time> for Day {
    fn from(time: Time) -> Self {
        Self { first: time, last: time, packages: BTreeSet::new() }
    }
}

/// The text of `notices.json`: what is offered still and will be denied, when and why. `created` is when that was found
/// out. A notice is called by what it says, so that clients show it once, and again when it says something new.
pub fn notices(channel: &str, blocks: &BlockSet, created: Time) -> String {
    let mut by_day: BTreeMap<i64, Day> = BTreeMap::new();
    for (key, _, leaving) in blocks.leaving() {
        let name = ShardKey::parse(key).name;
        let one = format!("{} {} ({})", plain(&name), plain(&leaving.version), plain(&leaving.reason));
        let of = leaving.from.seconds().div_euclid(DAY_SECONDS);
        let day = by_day.entry(of).or_insert_with(|| Day::from(leaving.from));
        (day.first, day.last) = (day.first.min(leaving.from), day.last.max(leaving.from));
        day.packages.insert(one);
    }
    let notice = |Day { first: from, last, packages }: &Day| {
        let named: Vec<&str> = packages.iter().take(NAMED_MAX).map(String::as_str).collect();
        let more = match packages.len() - named.len() {
            0 => String::new(),
            more => format!("; and {more} more"),
        };
        let message = format!("Denied in channel {channel} from {from} on: {}{more}", named.join("; "));
        json!({
            "id": Digest::of(message.as_bytes()).short(), "message": message, "level": "warning",
            "created_at": stamp(created), "expired_at": stamp(*last), "expires_at": stamp(*last), "interval": INTERVAL,
        })
    };
    let all: Vec<serde_json::Value> = by_day.values().take(NOTICES_MAX).map(notice).collect();
    json!({ "notices": all }).to_string() + "\n"
}

/// A moment as every Python reads it, which older ones do not with a `Z`.
fn stamp(time: Time) -> String {
    time.to_string().replace('Z', "+00:00")
}

/// Text for a terminal: what an upstream wrote shall neither move its cursor nor turn what stands around it.
fn plain(text: &str) -> String {
    text.chars().filter(|c| !is_unseen(*c)).take(CHARS_MAX).collect()
}
