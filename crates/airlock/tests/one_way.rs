//! `send` and `receive` as processes: killed in the middle, and over a link on which nothing can travel back.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod common;

use std::net::UdpSocket;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use airlock_core::id::Digest;
use airlock_testkit::conda;
use common::{NOW, Station, World, files};
use serde_json::{Value, json};

/// Bytes of noise in the package that crosses.
const NOISE_BYTES: usize = 24 << 20;

/// A world with a large package, the bundle of it, and two stations that trust each other.
async fn across() -> (World, Station, PathBuf, Station) {
    let world = World::new().await;
    let mut random = 7_u64;
    let noise: Vec<u8> = (0..NOISE_BYTES / 8)
        .flat_map(|_| {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (random ^ (random >> 31)).to_le_bytes()
        })
        .collect();
    let mut source = world.kit.conda_source("conda");
    let package = conda("noise", "1.0");
    let packed = [("lib/noise", noise.as_slice())];
    source.add(&airlock_formats::make::CondaPackage { files: &packed, ..package }, &json!({}));
    source.write();
    let (low, disk, high) = world.across();
    // Nothing is taken from the other side.
    low.trust_with(&high, &["--link-only"]);
    (world, low, disk, high)
}

fn free_address() -> String {
    format!("udp://{}", UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap())
}

fn command(station: &Station, inside: Option<&str>) -> Command {
    let airlock = env!("CARGO_BIN_EXE_airlock");
    let mut command = match inside {
        None => Command::new(airlock),
        Some(netns) => {
            let mut command = Command::new("ip");
            command.args(["netns", "exec", netns, airlock]);
            command
        }
    };
    command.args(["--station", station.dir.to_str().unwrap(), "--now", NOW, "--json"]).env("USER", "ada");
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// A receiver that listens.
fn receive(high: &Station, inside: Option<&str>, at: &str, into: &Path) -> Child {
    let mut command = command(high, inside);
    command.args(["receive", "--listen", at, "--into", into.to_str().unwrap(), "--once", "--silence", "2"]);
    let mut child = command.spawn().unwrap();
    let mut line = String::new();
    std::io::BufRead::read_line(&mut std::io::BufReader::new(child.stderr.as_mut().unwrap()), &mut line)
        .unwrap();
    assert!(line.contains("listening at"), "{line}");
    child
}

fn send(low: &Station, inside: Option<&str>, disk: &Path, to: &str, more: &[&str]) -> Child {
    let mut command = command(low, inside);
    command.args(["send", disk.to_str().unwrap(), "--to", to]).args(more);
    command.spawn().unwrap()
}

/// Status and answer of a command that ends by itself.
fn ended(child: Child) -> (i32, Value) {
    let output = child.wait_with_output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    let answer = serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {stderr}"));
    (output.status.code().unwrap_or(-1), answer)
}

fn kill(mut child: Child) {
    child.kill().unwrap();
    child.wait().unwrap();
}

/// Waits until the receiver has written something.
fn wait_for_bytes(into: &Path) {
    let began = Instant::now();
    let is_there = |path: &PathBuf| path.extension().is_some_and(|e| e == "have");
    while !files(into).iter().any(|(path, size)| is_there(path) && *size > 0) {
        assert!(began.elapsed() < Duration::from_secs(60), "nothing arrives");
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn content(dir: &Path) -> Vec<(PathBuf, Digest)> {
    let all = files(dir).into_keys();
    all.map(|path| (path.strip_prefix(dir).unwrap().to_owned(), Digest::of(&std::fs::read(&path).unwrap())))
        .collect()
}

fn whole((status, answer): (i32, Value), disk: &Path) -> PathBuf {
    assert_eq!(status, 0, "{answer}");
    let bundle = PathBuf::from(answer["bundle"].as_str().unwrap());
    assert_eq!(content(&bundle), content(disk));
    bundle
}

#[tokio::test]
async fn a_key_is_trusted_for_its_link_alone_where_somebody_says_so_and_nothing_else() {
    let world = World::new().await;
    let (low, high) = (world.station("low", "connected"), world.station("high", "isolated"));
    low.trust_with(&high, &["--link-only"]);
    low.run(&["trust", "list"]).exits(0).shows("key, for a one-way link alone");
    assert_eq!(low.json(&["trust", "list"])["trusted"][0]["public_key"], Value::Null);
    let key = high.key();
    let add = ["trust", "add", "more", key.to_str().unwrap(), "--fingerprint", "0", "--link-only"];
    low.run(&[&add[..], &["--stream", "s"]].concat()).exits(2).says("cannot be used with");
    low.run(&add).exits(3);
    let root = world.path("agency.root");
    std::fs::write(&root, "{}").unwrap();
    let add = ["trust", "add", "more", root.to_str().unwrap(), "--fingerprint", "0", "--link-only"];
    low.run(&add).exits(2).says("give the station.pub");
    low.run(&["trust", "revoke", "low"]).exits(0).shows("`low` is trusted no longer");
}

#[tokio::test]
async fn a_receiver_that_is_killed_keeps_what_it_wrote_and_the_list_completes_it() {
    let (world, low, disk, high) = across().await;
    let (at, into) = (free_address(), world.path("inbox"));
    let receiver = receive(&high, None, &at, &into);
    let sender = send(&low, None, &disk, &at, &["--rate", "100M", "--repair", "10"]);
    wait_for_bytes(&into);
    kill(receiver);
    // Packets of this time are lost.
    std::thread::sleep(Duration::from_millis(300));
    let receiver = receive(&high, None, &at, &into);
    assert_eq!(ended(sender).0, 0);
    let (status, answer) = ended(receiver);
    assert_eq!((status, &answer["outcome"]), (4, &json!("incomplete")), "{answer}");
    let missing = answer["missing_bytes"].as_u64().unwrap();
    assert!(missing > 0 && missing < answer["total"].as_u64().unwrap(), "{answer}");
    let receiver = receive(&high, None, &at, &into);
    let list = answer["missing"].as_str().unwrap();
    let sender = send(&low, None, &disk, &at, &["--rate", "200M", "--only", list, "--mtu", "1500"]);
    assert_eq!(ended(sender).1["bytes"].as_u64(), Some(missing));
    let bundle = whole(ended(receiver), &disk);
    high.run(&["import", bundle.to_str().unwrap()]).exits(0);
}

#[tokio::test]
async fn a_sender_that_is_killed_is_run_again_and_nothing_is_lost() {
    let (world, low, disk, high) = across().await;
    let (at, into) = (free_address(), world.path("inbox"));
    let receiver = receive(&high, None, &at, &into);
    let sender = send(&low, None, &disk, &at, &["--rate", "100M"]);
    wait_for_bytes(&into);
    kill(sender);
    let (status, answer) = ended(receiver);
    assert_eq!((status, &answer["outcome"]), (4, &json!("incomplete")), "{answer}");
    let receiver = receive(&high, None, &at, &into);
    assert_eq!(ended(send(&low, None, &disk, &at, &["--rate", "300M"])).0, 0);
    whole(ended(receiver), &disk);
}

#[tokio::test]
async fn a_sender_whose_key_is_revoked_is_heard_no_more_and_one_that_is_trusted_again_is() {
    let world = World::new().await;
    let (low, disk, high) = world.across();
    low.trust_with(&high, &["--link-only"]);
    let (at, into) = (free_address(), world.path("inbox"));
    let mut receiver = receive(&high, None, &at, &into);
    // Longer than it takes until the receiver asks.
    let asked = Duration::from_secs(7);
    high.run(&["trust", "revoke", "low"]).exits(0);
    std::thread::sleep(asked);
    assert_eq!(ended(send(&low, None, &disk, &at, &[])).0, 0, "nobody answers a sender");
    std::thread::sleep(Duration::from_secs(3));
    assert!(receiver.try_wait().unwrap().is_none(), "it heard something");
    assert!(files(&into.join("incoming")).into_keys().all(|path| path.ends_with("lock")));
    high.trust(&low);
    std::thread::sleep(asked);
    assert_eq!(ended(send(&low, None, &disk, &at, &[])).0, 0);
    whole(ended(receiver), &disk);
}

/// Two network namespaces with a link on which nothing can travel back, not even ARP.
struct Link {
    low: String,
    high: String,
}

fn said(line: &str) -> Option<String> {
    let output = Command::new("sh").args(["-c", line]).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

impl Link {
    /// None where this machine does not allow it.
    fn new() -> Option<Self> {
        let id = std::process::id();
        let link = Self { low: format!("airlock-low-{id}"), high: format!("airlock-high-{id}") };
        let (low, high) = (&link.low, &link.high);
        said("command -v nft")?;
        said(&format!(
            "set -e; ip netns add {low}; ip netns add {high}
             ip link add vlow{id} type veth peer name vhigh{id}
             ip link set vlow{id} netns {low} name vlow; ip link set vhigh{id} netns {high} name vhigh
             ip -n {low} addr add 10.99.0.1/24 dev vlow; ip -n {high} addr add 10.99.0.2/24 dev vhigh
             ip -n {low} link set vlow mtu 9000 up; ip -n {high} link set vhigh mtu 9000 up
             mac=$(ip -n {high} -br link show vhigh | awk '{{print $3}}')
             ip -n {low} neigh replace 10.99.0.2 lladdr $mac dev vlow nud permanent
             ip netns exec {high} nft add table netdev d
             ip netns exec {high} nft add chain netdev d eg '{{ type filter hook egress device \"vhigh\" priority 0; policy drop; }}'
             ip netns exec {high} nft add table netdev loss
             ip netns exec {high} nft add chain netdev loss ing '{{ type filter hook ingress device \"vhigh\" priority 0; policy accept; }}'"
        ))?;
        // Packets are to be lost one by one, and not in trains.
        said(&format!("ip netns exec {low} ethtool -K vlow tx-udp-segmentation off"));
        Some(link)
    }

    fn lose(&self, percent: u32) {
        let rule = format!("nft add rule netdev loss ing numgen random mod 100 '<' {percent} counter drop");
        said(&format!(
            "ip netns exec {0} nft flush chain netdev loss ing && ip netns exec {0} {rule}",
            self.high
        ))
        .unwrap();
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        said(&format!("ip netns del {}; ip netns del {}", self.low, self.high));
    }
}

#[tokio::test]
async fn a_bundle_crosses_a_link_on_which_nothing_can_travel_back() {
    let Some(link) = Link::new() else {
        airlock_testkit::skipped(
            "network namespaces and nftables, which take root and are not to be had here",
        );
        return;
    };
    let (world, low, disk, high) = across().await;
    let at = "udp://10.99.0.2:4433";
    let cross = |into: &Path, more: &[&str]| {
        let receiver = receive(&high, Some(&link.high), at, into);
        assert_eq!(ended(send(&low, Some(&link.low), &disk, at, &[&["--rate", "400M"], more].concat())).0, 0);
        ended(receiver)
    };
    for percent in [0, 1, 5] {
        link.lose(percent);
        let answer = cross(&world.path(&format!("inbox-{percent}")), &[]);
        let lost = answer.1["packets"]["lost"].as_u64().unwrap();
        assert_eq!(lost > 0, percent > 0, "{answer:?}");
        whole(answer, &disk);
    }
    link.lose(40);
    let into = world.path("inbox");
    let (status, answer) = cross(&into, &[]);
    assert_eq!((status, &answer["outcome"]), (4, &json!("incomplete")), "{answer}");
    assert!(answer["arrived"].as_u64().unwrap() > NOISE_BYTES as u64 / 4, "what arrived is kept: {answer}");
    link.lose(1);
    whole(cross(&into, &["--only", answer["missing"].as_str().unwrap()]), &disk);
}
