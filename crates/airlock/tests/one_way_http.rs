//! `send` and `receive` over HTTP as processes: killed in the middle, through a proxy that wants a password, past a guard that
//! invents its answers, and with `curl`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod common;

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use airlock_testkit::bundles::content;
use airlock_testkit::wire::{Squid, openssl_ca};
use common::{Answer, NOW, Station, World, text};
use serde_json::{Value, json};

const PASSWORD: &str = "so geheim: 100%!";

/// A receiver that listens.
struct Receiver {
    child: Child,
    url: String,
}

fn command(station: &Station) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_airlock"));
    command.args(["--station", text(&station.dir), "--now", NOW, "--json"]).env("USER", "ada");
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

impl Receiver {
    fn start(high: &Station, at: &str, into: &Path, more: &[&str]) -> Self {
        let mut command = command(high);
        command
            .args(["receive", "--listen", at, "--into", text(into), "--once", "--silence", "3"])
            .args(more);
        let mut child = command.spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stderr.as_mut().unwrap()).read_line(&mut line).unwrap();
        let url = line.trim().strip_prefix("listening at ").unwrap_or_else(|| panic!("{line}")).to_owned();
        Self { child, url }
    }

    fn address(&self) -> &str {
        self.url.split('/').nth(2).unwrap()
    }

    /// Status and answer when it ends by itself.
    fn ended(self) -> (i32, Value) {
        ended(self.child)
    }

    fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

fn ended(child: Child) -> (i32, Value) {
    let output = child.wait_with_output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    let answer = serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {stderr}"));
    (output.status.code().unwrap_or(-1), answer)
}

fn send(low: &Station, disk: &Path, to: &str, more: &[&str]) -> Child {
    let mut command = command(low);
    command.args(["send", text(disk), "--to", to]).args(more);
    command.spawn().unwrap()
}

/// What a sender answered, whichever way it ended.
fn answered(child: Child) -> Answer {
    let output = child.wait_with_output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Answer {
        status: output.status.code().unwrap_or(-1),
        stdout: text(output.stdout),
        stderr: text(output.stderr),
    }
}

fn whole((status, answer): (i32, Value), disk: &Path) -> PathBuf {
    assert_eq!(status, 0, "{answer}");
    let bundle = PathBuf::from(answer["bundle"].as_str().unwrap());
    assert_eq!(content(&bundle), content(disk));
    bundle
}

/// Waits until so many bytes lie below a folder.
fn wait_for_bytes(into: &Path, bytes: u64) {
    let began = Instant::now();
    while !into.exists() || common::files(into).values().sum::<u64>() < bytes {
        assert!(began.elapsed() < Duration::from_secs(60), "nothing arrives");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn configure(station: &Station, lines: &str) {
    let path = station.dir.join("airlock.toml");
    let before = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, format!("{before}\n{lines}\n")).unwrap();
}

#[tokio::test]
async fn a_bundle_that_is_sent_is_imported_and_curl_sends_it_as_well() {
    let world = World::new().await;
    let (low, disk, high) = world.across();
    let receiver = Receiver::start(&high, "http://127.0.0.1:0/in/box", &world.path("inbox"), &[]);
    let (status, sent) = ended(send(&low, &disk, &receiver.url, &[]));
    assert_eq!((status, &sent["outcome"]), (0, &json!("delivered")), "{sent}");
    assert_eq!(sent["bytes"], sent["bytes_in_bundle"]);
    let bundle = whole(receiver.ended(), &disk);
    high.run(&["import", text(&bundle)]).exits(0);

    let receiver = Receiver::start(&high, "http://127.0.0.1:0", &world.path("other"), &[]);
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/put-bundle.sh");
    let put = Command::new("sh").args([script, text(&disk), &receiver.url, "--limit-rate", "100M"]).output();
    let Ok(put) = put else { panic!("there is no shell") };
    let said = String::from_utf8_lossy(&put.stdout).into_owned();
    if String::from_utf8_lossy(&put.stderr).contains("curl: not found") {
        airlock_testkit::skipped("curl, which is not to be had here");
        return receiver.kill();
    }
    assert!(put.status.success() && said.starts_with("delivered "), "{put:?}");
    whole(receiver.ended(), &disk);
}

#[tokio::test]
async fn either_side_is_killed_and_what_came_is_not_sent_again() {
    let world = World::large().await;
    let (low, disk, high) = world.across();
    let (into, listen) = (world.path("inbox"), "http://127.0.0.1:0");
    let receiver = Receiver::start(&high, listen, &into, &[]);
    let at = receiver.url.trim_end_matches('/').to_owned();
    // 4 MB a second, of 16.
    let sender = send(&low, &disk, &at, &["--rate", "32M"]);
    wait_for_bytes(&into, 5_000_000);
    let mut sender = sender;
    sender.kill().unwrap();
    sender.wait().unwrap();
    let sender = send(&low, &disk, &at, &["--rate", "32M"]);
    wait_for_bytes(&into, 9_000_000);
    receiver.kill();
    // It tries for a while, and finds who listens there again.
    let receiver = Receiver::start(&high, &at, &into, &[]);
    let (status, sent) = ended(sender);
    assert_eq!((status, &sent["outcome"]), (0, &json!("delivered")), "{sent}");
    let (bytes, all) = (sent["bytes"].as_u64().unwrap(), sent["bytes_in_bundle"].as_u64().unwrap());
    assert!(bytes < all - 3_000_000, "{sent}");
    // No faster than it may, but for the first second's worth.
    assert!(sent["seconds"].as_f64().unwrap() >= (bytes as f64 - 4_300_000.0) / 4_000_000.0, "{sent}");
    let bundle = whole(receiver.ended(), &disk);
    high.run(&["import", text(&bundle)]).exits(0);
}

#[tokio::test]
async fn a_proxy_that_wants_a_password_is_passed_and_the_password_is_shown_nowhere() {
    let world = World::new().await;
    let (low, disk, high) = world.across();
    let folder = world.path("squid");
    std::fs::create_dir_all(&folder).unwrap();
    let Some(squid) = Squid::start(&folder, "ada", PASSWORD).await else {
        airlock_testkit::skipped("squid with basic_ncsa_auth, and openssl, which are not to be had here");
        return;
    };
    let receiver = Receiver::start(&high, "http://127.0.0.1:0/in", &world.path("inbox"), &[]);
    let network = |password: &str| {
        std::fs::write(low.dir.join("proxy-password"), format!("{password}\n")).unwrap();
    };
    network("wrong secret");
    configure(
        &low,
        &format!(
            "[network]\nproxy = \"http://{}\"\nproxy_user = \"ada\"\nproxy_password_file = \"proxy-password\"",
            squid.address
        ),
    );
    for blind in [&[][..], &["--blind"]] {
        let refused = answered(send(&low, &disk, &receiver.url, &[&["--verbose"], blind].concat()));
        let refused =
            refused.exits(4).says("the proxy wants a user and a password").says("proxy_password_file");
        assert!(!refused.stderr.contains("wrong secret"), "{refused:?}");
    }
    network(PASSWORD);
    let sent = answered(send(&low, &disk, &receiver.url, &["--verbose"])).exits(0);
    assert_eq!(sent.json()["outcome"], "delivered");
    let ledger = low.json(&["ledger", "log"]).to_string();
    assert!(!format!("{sent:?}{ledger}").contains(PASSWORD));
    whole(receiver.ended(), &disk);
    // From the environment, as curl takes it. What is wrong on the far side of the proxy is told as that.
    let nobody = format!("http://{}/in", receiver_gone(&high, &world));
    let mut other = command(&low);
    std::fs::write(
        low.dir.join("airlock.toml"),
        std::fs::read_to_string(high.dir.join("airlock.toml")).unwrap().replace("isolated", "connected"),
    )
    .unwrap();
    let proxy = format!("http://ada:so%20geheim%3A%20100%25!@{}", squid.address);
    other.args(["send", text(&disk), "--to", &nobody]).env("http_proxy", proxy).env_remove("NO_PROXY");
    let failed = answered(other.spawn().unwrap()).exits(4).says("503");
    assert!(!failed.stderr.contains("geheim"), "{failed:?}");
}

/// An address at which nobody listens any more.
fn receiver_gone(high: &Station, world: &World) -> String {
    let receiver = Receiver::start(high, "http://127.0.0.1:0", &world.path("gone"), &[]);
    let address = receiver.address().to_owned();
    receiver.kill();
    address
}

#[tokio::test]
async fn a_receiver_of_one_bundle_that_is_stopped_before_it_came_does_not_end_well() {
    let world = World::new().await;
    let (_, _, high) = world.across();
    let mut receiver = Receiver::start(&high, "http://127.0.0.1:0", &world.path("inbox"), &[]);
    let stopped = Command::new("kill").args(["-TERM", &receiver.child.id().to_string()]).status().unwrap();
    assert!(stopped.success());
    assert_eq!(receiver.child.wait().unwrap().code(), Some(4));
}

/// A guard that passes what is put on, drops one file of so many, tells nobody what was answered, and says that all is well.
fn guard(to: String, drops: usize) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let seen = Arc::new(AtomicUsize::new(0));
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (to, seen) = (to.clone(), seen.clone());
            std::thread::spawn(move || pass(&stream.unwrap(), &to, &seen, drops));
        }
    });
    address
}

fn pass(stream: &TcpStream, to: &str, seen: &AtomicUsize, drops: usize) -> Option<()> {
    let mut reading = BufReader::new(stream.try_clone().ok()?);
    loop {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            reading.read_line(&mut head).ok().filter(|n| *n > 0)?;
        }
        let length =
            head.to_ascii_lowercase().split("content-length: ").nth(1)?.lines().next()?.parse().ok()?;
        let mut body = vec![0; length];
        reading.read_exact(&mut body).ok()?;
        let is_file = head.contains("/files/");
        if !is_file || !(seen.fetch_add(1, Ordering::Relaxed) + 1).is_multiple_of(drops) {
            let mut far = TcpStream::connect(to).ok()?;
            far.write_all(head.as_bytes()).and_then(|()| far.write_all(&body)).ok()?;
            // The answer goes no further.
            far.read(&mut [0; 1000]).is_ok_and(|bytes| bytes > 0).then_some(())?;
        }
        (&mut &*stream).write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nOK").ok()?;
    }
}

#[tokio::test]
async fn past_a_guard_that_invents_answers_a_list_completes_what_it_lost() {
    let world = World::new().await;
    let (low, disk, high) = world.across();
    let into = world.path("inbox");
    let receiver = Receiver::start(&high, "http://127.0.0.1:0", &into, &[]);
    let listen = receiver.url.clone();
    let at = format!("http://{}/", guard(receiver.address().to_owned(), 3));
    // Nobody believes what is not said by a receiver.
    answered(send(&low, &disk, &at, &[])).exits(4).says("invents answers, use --blind");
    let (status, sent) = ended(send(&low, &disk, &at, &["--blind"]));
    assert_eq!((status, &sent["outcome"]), (0, &json!("unknown")), "{sent}");
    let (status, answer) = receiver.ended();
    assert_eq!((status, &answer["outcome"]), (4, &json!("incomplete")), "{answer}");
    let missing = answer["missing_bytes"].as_u64().unwrap();
    assert!(missing > 0 && missing < sent["bytes"].as_u64().unwrap(), "{answer}");
    let receiver = Receiver::start(&high, &listen, &into, &[]);
    let at = format!("http://{}/", guard(receiver.address().to_owned(), 1000));
    let list = answer["missing"].as_str().unwrap();
    let (status, sent) = ended(send(&low, &disk, &at, &["--blind", "--only", list]));
    assert_eq!((status, sent["bytes"].as_u64()), (0, Some(missing)), "{sent}");
    whole(receiver.ended(), &disk);
}

#[tokio::test]
async fn with_tls_a_sender_knows_the_receiver_by_its_certificate() {
    let world = World::new().await;
    let (low, disk, high) = world.across();
    let folder = world.path("tls");
    std::fs::create_dir_all(&folder).unwrap();
    if !openssl_ca(&folder, "inbox.example") {
        airlock_testkit::skipped("openssl, which is not to be had here");
        return;
    }
    let (certificate, key) = (folder.join("host.pem"), folder.join("host.key"));
    let files = ["--tls-cert", text(&certificate), "--tls-key", text(&key)];
    let receiver = Receiver::start(&high, "https://127.0.0.1:0/in", &world.path("inbox"), &files);
    answered(send(&low, &disk, &receiver.url, &[])).exits(4).says("certificate").says("ca_file");
    configure(&low, &format!("[network]\nca_file = \"{}\"", folder.join("ca.pem").display()));
    assert_eq!(ended(send(&low, &disk, &receiver.url, &[])).1["outcome"], "delivered");
    whole(receiver.ended(), &disk);
    let into = world.path("never");
    let plain = ["receive", "--listen", "https://127.0.0.1:0", "--into", text(&into)];
    high.run(&plain).exits(2).says("--tls-cert");
    assert!(!into.exists());
}

#[tokio::test]
async fn what_the_receiver_does_not_take_is_told_and_ends_with_its_status() {
    let world = World::new().await;
    let (low, disk, high) = world.across();
    let receiver = Receiver::start(&high, "http://127.0.0.1:0/in", &world.path("inbox"), &[]);
    let elsewhere = format!("http://{}/out", receiver.address());
    answered(send(&low, &disk, &elsewhere, &[])).exits(4).says("404").says("path included");
    high.run(&["trust", "revoke", "low"]).exits(0);
    answered(send(&low, &disk, &receiver.url, &[])).exits(3).says("403").says("trust");
    // The far side has no connection of its own, and none is opened from an isolated station to where it is not listed.
    answered(send(&high, &disk, &receiver.url, &[])).exits(3);
    high.trust(&low);
    answered(send(&high, &disk, &receiver.url, &[])).exits(4).says("may not connect");
    answered(send(&low, &disk, &receiver.url, &["--mtu", "1500"])).exits(2).says("udp://");
    answered(send(&low, &disk, "udp://127.0.0.1:9", &["--blind"])).exits(2).says("nothing answers");
    // A file that is damaged on the sender's disk is named, and sent when it is mended.
    let damaged = disk.join(content(&disk).into_keys().find(|path| path.starts_with("files")).unwrap());
    let bytes = std::fs::read(&damaged).unwrap();
    std::fs::write(&damaged, bytes.iter().map(|b| b ^ 1).collect::<Vec<u8>>()).unwrap();
    let name = damaged.file_name().unwrap().to_str().unwrap();
    answered(send(&low, &disk, &receiver.url, &[])).exits(3).says(name).says("airlock verify");
    std::fs::write(&damaged, bytes).unwrap();
    let (status, sent) = ended(send(&low, &disk, &receiver.url, &[]));
    assert_eq!((status, &sent["outcome"]), (0, &json!("delivered")), "{sent}");
    whole(receiver.ended(), &disk);
}
