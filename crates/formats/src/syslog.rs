//! Entries of the ledger as messages of syslog (RFC 5424), and how they follow each other on a stream (RFC 6587).

use airlock_core::id::Digest;
use airlock_core::ledger::LedgerEntry;

/// Facility 13 (log audit), severity 6 (informational).
const PRIORITY: u8 = 13 * 8 + 6;
/// The name of the structured data. 32473 is the number that RFC 5612 keeps for what has none of its own.
const DATA: &str = "ledger@32473";
/// Characters of a host's name, and of the kind of a message.
const HOST_MAX: usize = 255;
const KIND_MAX: usize = 32;

/// An entry with its hash, as one line of JSON without its end.
pub fn line(entry: &LedgerEntry, hash: Digest) -> String {
    serde_json::json!({"entry": entry, "hash": hash}).to_string()
}

/// The same; what would be longer than `bytes_max` goes without the particulars and says so.
pub fn line_within(entry: &LedgerEntry, hash: Digest, bytes_max: usize) -> String {
    let whole = line(entry, hash);
    if whole.len() <= bytes_max {
        return whole;
    }
    let (number, time) = (entry.number, entry.time);
    serde_json::json!({"entry": {"number": number, "time": time}, "detail_omitted": true, "hash": hash})
        .to_string()
}

/// One message. The number of the entry stands in its structured data, so that a receiver knows what it has already.
/// What would be longer than `bytes_max` goes without the particulars and says so.
pub fn message(station: &str, entry: &LedgerEntry, hash: Digest, bytes_max: usize) -> String {
    let head = format!(
        "<{PRIORITY}>1 {} {} airlock - {} [{DATA} number=\"{}\" hash=\"{hash}\"] \u{feff}",
        entry.time,
        name(station, HOST_MAX),
        name(&entry.action, KIND_MAX),
        entry.number
    );
    let line = line_within(entry, hash, bytes_max.saturating_sub(head.len()));
    format!("{head}{line}")
}

/// A message as it stands on a stream: its length in bytes before it.
pub fn counted(message: &str) -> String {
    format!("{} {message}", message.len())
}

/// A name as the head of a message may hold it: visible ASCII without spaces.
fn name(text: &str, most: usize) -> String {
    let fine = |c: char| if c.is_ascii_graphic() { c } else { '_' };
    let name: String = text.chars().take(most).map(fine).collect();
    if name.is_empty() { "-".to_owned() } else { name }
}

#[cfg(test)]
mod tests {
    use airlock_core::canon::Canonical;
    use airlock_core::ledger::GENESIS;

    use super::*;

    fn entry(detail: &str) -> LedgerEntry {
        LedgerEntry {
            number: 7,
            time: "2026-03-01T12:00:00Z".parse().unwrap(),
            actor: "ada".to_owned(),
            action: "channel.publish".to_owned(),
            subject: "channel/main".to_owned(),
            detail: Canonical::parse(detail).unwrap(),
            previous: GENESIS,
        }
    }

    #[test]
    fn golden_bytes_of_a_message() {
        let zeros = "0".repeat(64);
        let message = message("my station", &entry("{\"n\":\"é\\n\"}"), GENESIS, 10_000);
        let expected = format!(
            "<110>1 2026-03-01T12:00:00Z my_station airlock - channel.publish [ledger@32473 number=\"7\" hash=\"{zeros}\"] \u{feff}\
             {{\"entry\":{{\"action\":\"channel.publish\",\"actor\":\"ada\",\"detail\":{{\"n\":\"é\\n\"}},\"number\":7,\"previous\":\"{zeros}\",\
             \"subject\":\"channel/main\",\"time\":\"2026-03-01T12:00:00Z\"}},\"hash\":\"{zeros}\"}}"
        );
        assert_eq!(message, expected);
        assert!(!message.contains('\n'));
        assert_eq!(counted("é!"), "3 é!");
    }

    #[test]
    fn what_is_too_long_goes_without_its_particulars_and_says_so() {
        let long = format!("{{\"n\":\"{}\"}}", "x".repeat(9000));
        let message = message("s", &entry(&long), GENESIS, 8192);
        assert!(
            message.len() < 8192
                && message.contains("\"detail_omitted\":true")
                && message.contains("number=\"7\"")
        );
        let line = line_within(&entry(&long), GENESIS, 8192);
        let omitted: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!((&omitted["entry"]["number"], &omitted["detail_omitted"]), (&7.into(), &true.into()));
    }
}
