//! What is stored of feeds keeps its bytes.
#![allow(clippy::unwrap_used, reason = "tests")]

use airlock_core::advisory::{Advisory, FeedHead, FeedKind, Until};
use airlock_core::canon::Canonical;
use airlock_core::id::Digest;
use airlock_core::time::Time;

#[test]
fn a_head_and_a_record_that_say_nothing_new_are_written_as_they_were() {
    let head = FeedHead {
        kind: FeedKind::Nvd,
        read_at: Time::from_seconds(0),
        content: Digest::of(b"x"),
        count: 2,
        skipped: 1,
        until: None,
    };
    let text = Canonical::of(&head).unwrap();
    let digest = Digest::of(b"x");
    let expected = format!(
        r#"{{"content":"{digest}","count":2,"kind":"nvd","read_at":"1970-01-01T00:00:00Z","skipped":1}}"#
    );
    assert_eq!(text.as_str(), expected);
    let advisory = Advisory { id: "PYSEC-1".to_owned(), ..Advisory::default() };
    let text = Canonical::of(&advisory).unwrap();
    assert_eq!(
        text.as_str(),
        r#"{"disputed":false,"id":"PYSEC-1","malicious":false,"summary":"","withdrawn":false}"#
    );
    let until = Until { at: Time::from_seconds(0), reader: 1 };
    let text = Canonical::of(&FeedHead { until: Some(until), ..head }).unwrap();
    assert!(
        text.as_str().ends_with(r#""until":{"at":"1970-01-01T00:00:00Z","reader":1}}"#),
        "{}",
        text.as_str()
    );
}
