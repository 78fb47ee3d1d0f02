//! The ledger told to real receivers: each entry at least once, in order, whoever fails in between.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, UdpSocket};
use std::sync::atomic::{AtomicU16, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use airlock_engine::ledger::feed::{self, Feed, FeedKind};
use airlock_engine::station::{Config, Side, Station};
use airlock_testkit::Kit;
use serde_json::Value;

fn feed(name: &str, kind: FeedKind, address: String) -> Feed {
    Feed { name: name.to_owned(), kind, address }
}

async fn kit(feeds: Vec<Feed>) -> Kit {
    let mut kit = Kit::new(&[]).await;
    kit.station.config.ledger.feed = feeds;
    kit
}

/// One more entry.
async fn grow(station: &Station) {
    station.commit(Vec::new(), "test.note", "nothing", &serde_json::json!({"n": 1})).await.unwrap();
}

async fn head(station: &Station) -> u64 {
    station.store.db.ledger_head().await.unwrap().number
}

fn number_of(message: &str) -> u64 {
    message.split("number=\"").nth(1).unwrap().split('"').next().unwrap().parse().unwrap()
}

/// The entry in a message is the one that stands in the ledger, and hashes to what the message says.
async fn is_entry(station: &Station, message: &str) {
    let json: Value = serde_json::from_str(message.split('\u{feff}').nth(1).unwrap()).unwrap();
    let (entry, hash) = station.store.db.ledger(number_of(message), 1).await.unwrap().remove(0);
    assert_eq!(json, serde_json::json!({"entry": entry, "hash": hash}));
    assert_eq!(entry.hash().unwrap(), hash);
}

#[tokio::test]
async fn datagrams_carry_each_entry_once_and_later_only_what_is_new() {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let address = format!("udp://{}", socket.local_addr().unwrap());
    let kit = kit(vec![feed("siem", FeedKind::Syslog, address)]).await;
    let one = &kit.station.config.ledger.feed[0];
    let receive = || {
        let mut bytes = [0; 9000];
        let n = socket.recv(&mut bytes).unwrap();
        String::from_utf8(bytes[..n].to_vec()).unwrap()
    };
    let entries = head(&kit.station).await;
    assert_eq!(feed::send(&kit.station, one).await.unwrap(), entries);
    for number in 1..=entries {
        let message = receive();
        assert!(message.starts_with("<110>1 2026-03-01T12:00:00Z test airlock - "), "{message}");
        assert_eq!(number_of(&message), number);
        is_entry(&kit.station, &message).await;
    }
    assert_eq!(feed::send(&kit.station, one).await.unwrap(), 0);
    grow(&kit.station).await;
    assert_eq!(feed::send(&kit.station, one).await.unwrap(), 1);
    assert_eq!(number_of(&receive()), entries + 1);
    assert_eq!(feed::states(&kit.station).await.unwrap()[0].behind, 0);
}

/// What a stream carries, by its counts.
fn messages(mut bytes: &[u8]) -> Vec<String> {
    let mut out = Vec::new();
    while !bytes.is_empty() {
        let space = bytes.iter().position(|b| *b == b' ').unwrap();
        let len: usize = std::str::from_utf8(&bytes[..space]).unwrap().parse().unwrap();
        let (message, rest) = bytes[space + 1..].split_at(len);
        out.push(String::from_utf8(message.to_vec()).unwrap());
        bytes = rest;
    }
    out
}

#[tokio::test]
async fn a_stream_counts_its_messages_and_a_receiver_that_breaks_off_gets_them_again() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("tcp://{}", listener.local_addr().unwrap());
    let kit = kit(vec![feed("siem", FeedKind::Syslog, address)]).await;
    let one = &kit.station.config.ledger.feed[0];
    let taken = Arc::<Mutex<Vec<u8>>>::default();
    let into = taken.clone();
    std::thread::spawn(move || {
        // The first connection breaks after some bytes: it is closed with more waiting, so that it is reset.
        let (mut first, _) = listener.accept().unwrap();
        first.read_exact(&mut [0; 100]).unwrap();
        drop(first);
        // What follows comes in smaller parts.
        for stream in listener.incoming() {
            let (mut stream, mut all) = (stream.unwrap(), Vec::new());
            stream.read_to_end(&mut all).unwrap();
            into.lock().unwrap().extend(all);
        }
    });
    let error = feed::send(&kit.station, one).await.unwrap_err();
    assert!(error.message.contains("the ledger's feed `siem`: tcp://127.0.0.1 does not take it"), "{error}");
    let entries = head(&kit.station).await;
    let state = &feed::states(&kit.station).await.unwrap()[0];
    assert_eq!((state.sent, state.behind), (0, entries));
    assert!(state.error.is_some() && state.failing_since.is_some());
    assert!(state.hint.as_ref().unwrap().contains("look whether it listens"), "{state:?}");
    assert_eq!(feed::send(&kit.station, one).await.unwrap(), entries);
    let all = messages(&taken.lock().unwrap());
    assert_eq!(all.iter().map(|m| number_of(m)).collect::<Vec<_>>(), (1..=entries).collect::<Vec<_>>());
    for message in &all {
        is_entry(&kit.station, message).await;
    }
    let state = &feed::states(&kit.station).await.unwrap()[0];
    assert_eq!((state.sent, state.behind, &state.error, &state.hint), (entries, 0, &None, &None));
}

#[tokio::test]
async fn a_receiver_that_hangs_up_without_reading_has_taken_nothing() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("tcp://{}", listener.local_addr().unwrap());
    let kit = kit(vec![feed("siem", FeedKind::Syslog, address)]).await;
    let one = &kit.station.config.ledger.feed[0];
    std::thread::spawn(move || {
        for (n, stream) in listener.incoming().enumerate() {
            // At once, or a moment later.
            std::thread::sleep(Duration::from_micros(100 * (n as u64 % 5)));
            drop(stream);
        }
    });
    for n in 0..100 {
        assert!(feed::send(&kit.station, one).await.is_err(), "try {n}");
        assert_eq!(feed::states(&kit.station).await.unwrap()[0].sent, 0);
    }
}

/// A small HTTP server that answers with a status and keeps what it was sent.
struct Hook {
    address: String,
    status: Arc<AtomicU16>,
    /// It refuses more than so many at once.
    entries_max: Arc<AtomicUsize>,
    /// The longest body that came.
    bytes_seen: Arc<AtomicUsize>,
    numbers: Arc<Mutex<Vec<u64>>>,
    /// Entries that came without their particulars.
    omitted: Arc<AtomicUsize>,
}

impl Hook {
    fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}/hook/secret", listener.local_addr().unwrap());
        let (status, numbers) = (Arc::new(AtomicU16::new(204)), Arc::<Mutex<Vec<u64>>>::default());
        let (answer, noted) = (status.clone(), numbers.clone());
        let (entries_max, bytes_seen) =
            (Arc::new(AtomicUsize::new(usize::MAX)), Arc::<AtomicUsize>::default());
        let (most, longest) = (entries_max.clone(), bytes_seen.clone());
        let omitted = Arc::<AtomicUsize>::default();
        let without = omitted.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let mut bytes = Vec::new();
                let mut piece = [0; 4096];
                let (head, length) = loop {
                    let n = stream.read(&mut piece).unwrap();
                    bytes.extend_from_slice(&piece[..n]);
                    let Some(end) = bytes.windows(4).position(|w| w == b"\r\n\r\n") else { continue };
                    let head = String::from_utf8(bytes[..end].to_vec()).unwrap().to_lowercase();
                    assert!(head.contains("content-type: application/x-ndjson"), "{head}");
                    let length = head
                        .split("content-length: ")
                        .nth(1)
                        .unwrap()
                        .lines()
                        .next()
                        .unwrap()
                        .parse::<usize>()
                        .unwrap();
                    break (end + 4, length);
                };
                while bytes.len() < head + length {
                    let n = stream.read(&mut piece).unwrap();
                    bytes.extend_from_slice(&piece[..n]);
                }
                longest.fetch_max(length, Ordering::SeqCst);
                let is_much =
                    bytes[head..].iter().filter(|b| **b == b'\n').count() > most.load(Ordering::SeqCst);
                let status = if is_much { 413 } else { answer.load(Ordering::SeqCst) };
                if status < 300 {
                    let lines = std::str::from_utf8(&bytes[head..]).unwrap().lines();
                    let numbers = lines.map(|line| {
                        let line = serde_json::from_str::<Value>(line).unwrap();
                        without.fetch_add(usize::from(line["detail_omitted"] == true), Ordering::SeqCst);
                        line["entry"]["number"].as_u64().unwrap()
                    });
                    noted.lock().unwrap().extend(numbers);
                }
                write!(stream, "HTTP/1.1 {status} x\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
                    .unwrap();
            }
        });
        Self { address, status, entries_max, bytes_seen, numbers, omitted }
    }

    fn numbers(&self) -> Vec<u64> {
        self.numbers.lock().unwrap().clone()
    }
}

async fn until(what: &str, holds: impl Fn() -> bool) {
    for _ in 0..300 {
        if holds() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("{what}");
}

#[tokio::test]
async fn a_receiver_that_is_down_holds_up_no_other_and_gets_all_of_it_when_it_is_back() {
    let (good, bad) = (Hook::new(), Hook::new());
    bad.status.store(503, Ordering::SeqCst);
    let feeds = [("good", &good), ("bad", &bad)]
        .map(|(name, hook)| feed(name, FeedKind::Webhook, hook.address.clone()));
    let kit = kit(feeds.to_vec()).await;
    for _ in 0..250 {
        grow(&kit.station).await;
    }
    let said: Arc<Mutex<Vec<String>>> = Arc::default();
    let told = said.clone();
    let running =
        tokio::spawn(feed::run(kit.station.clone(), move |text| told.lock().unwrap().push(text.to_owned())));
    let entries = head(&kit.station).await;
    until("the good one has all", || good.numbers().len() as u64 == entries).await;
    until("it is told once", || said.lock().unwrap().len() == 1).await;
    let states = feed::states(&kit.station).await.unwrap();
    assert_eq!((states[0].behind, states[1].behind), (0, entries));
    let error = states[1].error.clone().unwrap();
    assert!(error.contains("503") && !error.contains("secret"), "{error}");
    bad.status.store(200, Ordering::SeqCst);
    until("the bad one has all", || bad.numbers().len() as u64 == entries).await;
    grow(&kit.station).await;
    until("what is new comes by itself", || good.numbers().len() as u64 == entries + 1).await;
    running.abort();
    for hook in [good, bad] {
        let numbers = hook.numbers();
        assert!(numbers.windows(2).all(|w| w[1] == w[0] + 1), "in order, each once");
    }
    let said = said.lock().unwrap();
    assert!(!said[0].contains("secret") && said[0].contains("\n  hint: look whether"), "{said:?}");
}

#[tokio::test]
async fn an_isolated_station_opens_no_connection_but_to_hosts_that_it_lists() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let address = listener.local_addr().unwrap();
    let hook = Hook::new();
    let feeds = vec![
        feed("tcp", FeedKind::Syslog, format!("tcp://{address}")),
        feed("udp", FeedKind::Syslog, format!("udp://{address}")),
        feed("hook", FeedKind::Webhook, hook.address.clone()),
    ];
    let mut kit = kit(feeds).await;
    kit.station.config.side = Side::Isolated;
    for one in &kit.station.config.ledger.feed {
        let error = feed::send(&kit.station, one).await.unwrap_err();
        assert!(error.message.contains("may not connect to `127.0.0.1`"), "{error}");
    }
    assert_eq!(listener.accept().unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
    assert!(hook.numbers().is_empty());
    kit.station.config.hosts = vec!["127.0.0.1".to_owned()];
    let [_, udp, webhook] = &kit.station.config.ledger.feed[..] else { panic!() };
    assert!(feed::send(&kit.station, webhook).await.unwrap() > 0);
    // Nobody listens for datagrams there, and the host says so.
    let error = feed::send(&kit.station, udp).await.unwrap_err();
    assert!(error.message.contains("does not take it"), "{error}");
}

#[tokio::test]
async fn a_ledger_that_is_shorter_than_what_was_sent_is_said_and_nothing_is_skipped() {
    let hook = Hook::new();
    let kit = kit(vec![feed("hook", FeedKind::Webhook, hook.address.clone())]).await;
    let one = &kit.station.config.ledger.feed[0];
    let cursor = kit.station.dir.join("ledger.feeds/hook.json");
    std::fs::create_dir_all(cursor.parent().unwrap()).unwrap();
    std::fs::write(&cursor, "{\"sent\":9999}").unwrap();
    let error = feed::send(&kit.station, one).await.unwrap_err();
    assert!(error.message.contains("9999 entries were sent"), "{error}");
    std::fs::write(&cursor, "nonsense").unwrap();
    assert!(feed::send(&kit.station, one).await.is_err());
    let broken = &feed::states(&kit.station).await.unwrap()[0];
    assert!(broken.error.as_ref().unwrap().contains("hook.json") && broken.behind > 0, "{broken:?}");
    std::fs::remove_file(&cursor).unwrap();
    assert_eq!(feed::send(&kit.station, one).await.unwrap(), hook.numbers().len() as u64);
}

#[tokio::test]
async fn a_ledger_that_came_from_a_copy_and_went_on_is_said_and_nothing_is_skipped() {
    let hook = Hook::new();
    let kit = kit(vec![feed("hook", FeedKind::Webhook, hook.address.clone())]).await;
    let one = &kit.station.config.ledger.feed[0];
    let sent = feed::send(&kit.station, one).await.unwrap();
    // As many entries as were sent, and the last of them another one.
    let cursor = kit.station.dir.join("ledger.feeds/hook.json");
    let mut text: Value = serde_json::from_str(&std::fs::read_to_string(&cursor).unwrap()).unwrap();
    assert_eq!(text["sent"], sent);
    text["hash"] = airlock_core::id::Digest::of(b"another").to_string().into();
    std::fs::write(&cursor, text.to_string()).unwrap();
    let state = &feed::states(&kit.station).await.unwrap()[0];
    assert!(state.error.as_ref().unwrap().contains("is another one than was sent"), "{state:?}");
    assert!(state.hint.as_ref().unwrap().contains("hook.json: all of it is sent again"), "{state:?}");
    grow(&kit.station).await;
    let error = feed::send(&kit.station, one).await.unwrap_err();
    assert!(error.message.contains("is another one than was sent to `hook`"), "{error}");
    assert_eq!(hook.numbers().len() as u64, sent);
}

#[tokio::test]
async fn what_is_too_much_at_once_goes_in_parts() {
    let hook = Hook::new();
    let kit = kit(vec![feed("hook", FeedKind::Webhook, hook.address.clone())]).await;
    let one = &kit.station.config.ledger.feed[0];
    for _ in 0..3 {
        let detail = serde_json::json!({"text": "x".repeat(400_000)});
        kit.station.commit(Vec::new(), "test.note", "nothing", &detail).await.unwrap();
    }
    hook.entries_max.store(1, Ordering::SeqCst);
    let entries = head(&kit.station).await;
    let mut tries = 0;
    while feed::send(&kit.station, one).await.is_err() {
        tries += 1;
        assert!(tries < 50, "{:?}", feed::states(&kit.station).await.unwrap());
    }
    assert!(tries > 1);
    assert_eq!(hook.numbers(), (1..=entries).collect::<Vec<_>>());
    assert!(hook.bytes_seen.load(Ordering::SeqCst) <= 1 << 20);
}

#[tokio::test]
async fn an_entry_that_is_too_much_for_any_receiver_goes_without_its_particulars_and_holds_up_nothing() {
    let hook = Hook::new();
    let kit = kit(vec![feed("hook", FeedKind::Webhook, hook.address.clone())]).await;
    let one = &kit.station.config.ledger.feed[0];
    let before = feed::send(&kit.station, one).await.unwrap();
    for bytes in [10, 2 << 20, 10] {
        let detail = serde_json::json!({"text": "x".repeat(bytes)});
        kit.station.commit(Vec::new(), "test.note", "nothing", &detail).await.unwrap();
    }
    // What is large is not read along with what comes before it.
    let within = async |first, most| {
        let all = kit.station.store.db.ledger_within(first, most, 1 << 20).await.unwrap();
        all.iter().map(|(entry, _)| entry.number).collect::<Vec<_>>()
    };
    assert_eq!(within(before + 1, 200).await, [before + 1]);
    assert_eq!(within(before + 2, 200).await, [before + 2]);
    assert_eq!(within(1, 2).await, [1, 2]);
    assert_eq!(feed::send(&kit.station, one).await.unwrap(), 3);
    assert_eq!(hook.numbers(), (1..=before + 3).collect::<Vec<_>>());
    assert!(hook.bytes_seen.load(Ordering::SeqCst) <= 1 << 20);
    assert_eq!(hook.omitted.load(Ordering::SeqCst), 1);
}

#[test]
fn feeds_are_configured_by_name_kind_and_address_and_errors_repeat_no_address() {
    let parse =
        |feed: &str| Config::parse(&format!("name = \"x\"\nside = \"connected\"\n[[ledger.feed]]\n{feed}\n"));
    for good in [
        "name = \"a\"\nkind = \"syslog\"\naddress = \"udp://10.0.0.9:514\"",
        "name = \"a\"\nkind = \"syslog\"\naddress = \"tcp://[::1]:601\"",
        "name = \"a\"\nkind = \"webhook\"\naddress = \"https://u:geheim@hooks.example/x\"",
    ] {
        parse(good).unwrap();
    }
    for bad in [
        "name = \"a/b\"\nkind = \"syslog\"\naddress = \"udp://10.0.0.9:514\"",
        "name = \"a\"\nkind = \"syslog\"\naddress = \"udp://geheim@10.0.0.9:514\"",
        "name = \"a\"\nkind = \"syslog\"\naddress = \"udp://geheim\"",
        "name = \"a\"\nkind = \"syslog\"\naddress = \"https://geheim:514\"",
        "name = \"a\"\nkind = \"webhook\"\naddress = \"geheim\"",
        "name = \"a\"\nkind = \"smoke\"\naddress = \"geheim\"",
        "name = \"a\"\nkind = \"syslog\"\naddress = \"udp://h:1\"\n[[ledger.feed]]\nname = \"a\"\nkind = \"syslog\"\naddress = \"udp://h:1\"",
    ] {
        let error = parse(bad).unwrap_err();
        assert!(!error.message.contains("geheim"), "{error}");
    }
}
