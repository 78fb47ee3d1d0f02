//! The download log of a real server: what it shows, and what a kill in the middle of a crowd leaves.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod common;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use common::{Station, World};
use serde_json::Value;

fn times(station: &Station) -> u64 {
    let answer: Value = station.json(&["downloads", "main"]);
    answer["downloads"].as_array().unwrap().iter().map(|d| d["times"].as_u64().unwrap()).sum()
}

/// Waits until it holds; what never comes fails the test that waits for it.
fn until(what: &str, holds: impl Fn() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < Duration::from_secs(60), "{what}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

#[tokio::test]
async fn a_kill_in_the_middle_of_a_crowd_loses_the_last_batch_and_leaves_nothing_half() {
    let world = World::new().await;
    let station = world.connected("low");
    station.run(&["sync"]).exits(0);
    let file = station.json(&["explain", "main", "idna=3.10"])["artifacts"][0]["artifact"].clone();
    let path = format!("conda/main/{}", file.as_str().unwrap());

    let server = station.serve();
    let (sent, end) = (AtomicU64::new(0), AtomicBool::new(false));
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..50 {
                    assert_eq!(server.get(&path, "*/*").0, 200);
                    sent.fetch_add(1, Ordering::SeqCst);
                }
            });
        }
    });
    until("all of it is written", || times(&station) == 200);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                // Until the server is gone.
                while !end.load(Ordering::SeqCst) && answered(&server.address, &path) {
                    sent.fetch_add(1, Ordering::SeqCst);
                }
            });
        }
        until("the crowd is under way", || times(&station) > 200);
        server.kill();
        end.store(true, Ordering::SeqCst);
    });
    let (after, sent) = (times(&station), sent.load(Ordering::SeqCst));
    assert!(after > 200, "{after}");
    // One request of each client may have been noted without its answer having come.
    assert!(after <= sent + 4, "{after} of {sent}");
    println!("{after} of {sent} were noted");
    station.run(&["fsck"]).exits(0);

    // It goes on where it was.
    let server = station.serve();
    assert_eq!(server.get(&path, "*/*").0, 200);
    assert_eq!(server.stop(), Some(0));
    assert_eq!(times(&station), after + 1);
}

/// Whether a request was answered in full.
fn answered(address: &str, path: &str) -> bool {
    use std::io::{Read as _, Write as _};
    let Ok(mut socket) = std::net::TcpStream::connect(address) else { return false };
    let sent = write!(socket, "GET /{path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    let mut bytes = Vec::new();
    sent.is_ok() && socket.read_to_end(&mut bytes).is_ok() && bytes.starts_with(b"HTTP/1.1 200")
}

#[tokio::test]
async fn the_log_is_narrowed_by_spec_and_day_and_a_configuration_turns_it_off() {
    let world = World::new().await;
    let station = world.connected("low");
    station.run(&["sync"]).exits(0);
    station.run(&["downloads", "main"]).exits(0).shows("No download is noted since 2025-09-02");
    let artifacts = station.json(&["explain", "main", "*"]);
    let paths: Vec<String> = artifacts["artifacts"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|a| a["verdict"] == "admitted")
        .map(|a| format!("conda/main/{}", a["artifact"].as_str().unwrap()))
        .collect();
    let server = station.serve();
    for path in &paths {
        assert_eq!(server.get(path, "*/*").0, 200);
    }
    assert_eq!(server.stop(), Some(0));
    let shown = |args: &[&str]| {
        let answer = station.json(&[&["downloads", "main"], args].concat());
        let all = answer["downloads"].as_array().unwrap();
        all.iter().map(|d| d["artifact"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(shown(&[]).len(), paths.len());
    assert_eq!(shown(&["requests"]).len(), 1);
    assert!(shown(&["requests<2"]).is_empty());
    assert!(shown(&["--since", "2026-03-02"]).is_empty());
    assert_eq!(shown(&["--since", "2026-03-01"]).len(), paths.len());
    assert_eq!(shown(&["--client", "127.0.0.1"]).len(), paths.len());
    assert!(shown(&["--client", "10.0.0.1"]).is_empty());
    station.run(&["downloads", "main", "idna"]).exits(0).shows("127.0.0.1  other  once");
    station.run(&["downloads", "nothing"]).exits(2);
    station.run(&["downloads", "main", "a/b"]).exits(2);

    let config = station.dir.join("airlock.toml");
    let text = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, format!("{text}\n[downloads]\nenabled = false\n")).unwrap();
    let server = station.serve();
    assert_eq!(server.get(&paths[0], "*/*").0, 200);
    assert_eq!(server.stop(), Some(0));
    assert_eq!(shown(&[]).len(), paths.len());
    station.run(&["downloads", "main"]).exits(0).shows("none is noted now");
    std::fs::write(&config, format!("{text}\n[downloads]\nkeep = \"some days\"\n")).unwrap();
    station.run(&["downloads", "main"]).exits(2).says("is not a length of time");
}
