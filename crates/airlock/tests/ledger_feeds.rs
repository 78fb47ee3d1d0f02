//! A process that is killed between sending entries of the ledger and noting it sends them again, and leaves none out.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod common;

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};

use common::World;
use serde_json::Value;

/// Reads a whole request, and gives the numbers of the entries in it.
fn request(stream: &mut TcpStream) -> Vec<u64> {
    let mut bytes = Vec::new();
    let mut piece = [0; 4096];
    loop {
        let n = stream.read(&mut piece).unwrap();
        bytes.extend_from_slice(&piece[..n]);
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let head = head.to_lowercase();
        let length: usize =
            head.split("content-length: ").nth(1).unwrap().lines().next().unwrap().parse().unwrap();
        if body.len() >= length {
            let number = |line: &str| {
                serde_json::from_str::<Value>(line).unwrap()["entry"]["number"].as_u64().unwrap()
            };
            return body.lines().map(number).collect();
        }
    }
}

fn answer(mut stream: TcpStream) {
    stream.write_all(b"HTTP/1.1 200 ok\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").unwrap();
}

#[tokio::test]
async fn entries_that_were_sent_before_a_kill_are_sent_again_and_none_is_lost() {
    let world = World::new().await;
    let station = world.connected("low");
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let config = station.dir.join("airlock.toml");
    let text = std::fs::read_to_string(&config).unwrap();
    let address = listener.local_addr().unwrap();
    let feed = format!(
        "{text}\n[[ledger.feed]]\nname = \"siem\"\nkind = \"webhook\"\naddress = \"http://{address}/x\"\n"
    );
    std::fs::write(&config, feed).unwrap();

    // What was received and not answered is not noted as sent.
    let mut child = station.start(&["ledger", "feed", "--once"]);
    let (mut stream, _) = listener.accept().unwrap();
    let first = request(&mut stream);
    child.kill().unwrap();
    child.wait().unwrap();
    drop(stream);
    let status = station.json(&["status"]);
    assert_eq!(status["ledger_feeds"][0]["sent"], 0);
    assert_eq!(status["ledger_feeds"][0]["behind"], first.len() as u64);

    let mut child = station.start(&["ledger", "feed", "--once"]);
    let (mut stream, _) = listener.accept().unwrap();
    let second = request(&mut stream);
    answer(stream);
    assert!(child.wait().unwrap().success());
    assert_eq!(first, second);
    assert_eq!(second, (1..=second.len() as u64).collect::<Vec<_>>());

    // `serve` goes on with what comes, by itself.
    let server = station.serve();
    station.run(&["channel", "list"]).exits(0);
    station.run(&["policy", "set", "other", "ready:healthcare-cvss7"]).exits(0);
    let (mut stream, _) = listener.accept().unwrap();
    assert_eq!(request(&mut stream)[0], second.len() as u64 + 1);
    answer(stream);
    drop(server);
    drop(listener);
    station.run(&["block", "main", "x", "--reason", "one more entry"]);
    station.run(&["policy", "set", "third", "ready:healthcare-cvss7"]).exits(0);
    station.run(&["ledger", "feed", "--once"]).exits(4).says("the ledger's feed `siem`");
    station.run(&["status"]).exits(0).shows("Ledger feed siem: sent up to entry").shows("behind; ");
    station.run(&["ledger", "feed", "--once", "nothing"]).exits(2);
}
