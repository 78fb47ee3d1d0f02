//! Bundles over a one-way link, beside raw UDP on the same link in the same run: two network namespaces with a veth pair of MTU
//! 9000 on which nothing can travel back, random loss by nftables, everything in memory. What `lidi` reached on such a machine with its
//! repair tuned for each loss is the peer.

use std::net::UdpSocket;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::{Result, cargo, root};

/// Percent of packets lost, and what `lidi` 2.1.1 reached, in MB/s.
const PEER: [(u32, f64); 3] = [(0, 299.0), (1, 217.0), (5, 125.0)];
/// What of that is to be reached.
const SHARE: f64 = 0.85;
/// Files of the bundle, and bytes of each.
const FILES: (&str, &str) = ("40", "53687091");
/// Bytes of a datagram of the raw measurement: those of our packets.
const DATAGRAM_BYTES: usize = 8896;
/// How long it is sent.
const RAW: Duration = Duration::from_secs(3);
const ADDRESS: &str = "10.99.0.2:4433";
const LOW: &str = "airlock-bench-low";
const HIGH: &str = "airlock-bench-high";

/// Measures, where network namespaces can be made.
pub fn run() -> Result<()> {
    let programs = [
        "build",
        "--release",
        "--locked",
        "-p",
        "airlock",
        "-p",
        "airlock-testkit",
        "--bins",
        "--example",
        "plant",
    ];
    cargo(&programs, &[])?;
    if let Err(why) = link() {
        unlink();
        println!("skipped: the one-way link, because {why}");
        return Ok(());
    }
    let dir = Path::new("/dev/shm/airlock-bench-oneway");
    let _ = std::fs::remove_dir_all(dir);
    let result = measure(dir);
    let _ = std::fs::remove_dir_all(dir);
    unlink();
    result
}

/// The ends of the raw measurement, which run within the namespaces.
pub fn end(which: &str) -> Result<()> {
    let fault = |e: std::io::Error| e.to_string();
    if which == "raw-send" {
        let socket = UdpSocket::bind("0.0.0.0:0").map_err(fault)?;
        socket.connect(ADDRESS).map_err(fault)?;
        let (datagram, began) = ([7; DATAGRAM_BYTES], Instant::now());
        while began.elapsed() < RAW {
            let _ = socket.send(&datagram);
        }
        return Ok(());
    }
    let socket = UdpSocket::bind(ADDRESS).map_err(fault)?;
    println!("ready");
    let (mut datagram, mut bytes, mut began, mut last) = (vec![0; 1 << 16], 0, None, Instant::now());
    socket.set_read_timeout(Some(RAW + Duration::from_secs(2))).map_err(fault)?;
    while let Ok(n) = socket.recv(&mut datagram) {
        if began.is_none() {
            began = Some(Instant::now());
            socket.set_read_timeout(Some(Duration::from_secs(1))).map_err(fault)?;
        }
        bytes += n;
        last = Instant::now();
    }
    let seconds = began.map_or(1.0, |began| (last - began).as_secs_f64());
    println!("{}", bytes as f64 / seconds / 1e6);
    Ok(())
}

fn shell(line: &str) -> Result<String> {
    let output = Command::new("sh").args(["-c", line]).output().map_err(|e| e.to_string())?;
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    } else {
        Err(String::from_utf8_lossy(&output.stderr).trim().to_owned())
    }
}

fn unlink() {
    let _ = shell(&format!("ip netns del {LOW}; ip netns del {HIGH}"));
}

fn link() -> Result<()> {
    shell(&format!(
        "set -e; command -v nft > /dev/null || {{ echo 'nft is not there' >&2; exit 1; }}
         ip netns add {LOW}; ip netns add {HIGH}
         ip link add abvlow type veth peer name abvhigh
         ip link set abvlow netns {LOW} name vlow; ip link set abvhigh netns {HIGH} name vhigh
         ip -n {LOW} addr add 10.99.0.1/24 dev vlow; ip -n {HIGH} addr add 10.99.0.2/24 dev vhigh
         ip -n {LOW} link set vlow mtu 9000 up; ip -n {HIGH} link set vhigh mtu 9000 up
         mac=$(ip -n {HIGH} -br link show vhigh | awk '{{print $3}}')
         ip -n {LOW} neigh replace 10.99.0.2 lladdr $mac dev vlow nud permanent
         ip netns exec {HIGH} nft add table netdev d
         ip netns exec {HIGH} nft add chain netdev d eg '{{ type filter hook egress device \"vhigh\" priority 0; policy drop; }}'
         ip netns exec {HIGH} nft add table netdev loss
         ip netns exec {HIGH} nft add chain netdev loss ing '{{ type filter hook ingress device \"vhigh\" priority 0; policy accept; }}'"
    ))
    .map(|_| ())
}

fn lose(percent: u32) -> Result<()> {
    shell(&format!(
        "ip netns exec {HIGH} nft flush chain netdev loss ing && \
         ip netns exec {HIGH} nft add rule netdev loss ing numgen random mod 100 '<' {percent} counter drop"
    ))
    .map(|_| ())
}

fn measure(dir: &Path) -> Result<()> {
    let bin = root().join("target/release");
    let (airlock, plant) = (bin.join("airlock"), bin.join("examples/plant"));
    let (airlock, plant, dir) = (airlock.display(), plant.display(), dir.display());
    let (files, bytes) = FILES;
    shell(&format!(
        "set -e; mkdir {dir}; cd {dir}
         {plant} low --files {files} --bytes {bytes}
         {airlock} init high --side isolated --quiet
         print() {{ {airlock} --station $1 --json status | sed 's/.*\"fingerprint\":\"\\([^\"]*\\)\".*/\\1/'; }}
         {airlock} --station high trust add low low/keys/station.pub --fingerprint $(print low) --quiet
         {airlock} --station low trust add high high/keys/station.pub --fingerprint $(print high) --quiet
         {airlock} --station low export bundle --quiet
         find low/blobs -type f -delete"
    ))?;
    println!(
        "one-way link, MTU 9000, {files} files of {bytes} bytes, sender and receiver on the same processors, in memory:"
    );
    println!("  raw UDP, {DATAGRAM_BYTES} bytes, nothing lost on purpose: {:.0} MB/s", raw()?);
    for trains in ["on", "off"] {
        let set = format!("ip netns exec {LOW} ethtool -K vlow tx-udp-segmentation {trains}");
        if trains == "off" && shell(&set).is_err() {
            println!("  skipped: packets one by one, because `ethtool` cannot be had");
            continue;
        }
        println!(
            "  packets leave {}:",
            if trains == "on" { "in trains (as the kernel does it)" } else { "one by one" }
        );
        for (percent, peer) in PEER {
            lose(percent)?;
            let rate = cross(&airlock.to_string(), &dir.to_string())?;
            let verdict = if rate.0 >= peer * SHARE { "within" } else { "beyond" };
            println!(
                "    {percent} % lost: {:.0} MB/s ({}); lidi, tuned, {peer:.0}: {:.2}, {verdict} {SHARE}",
                rate.0,
                rate.1,
                rate.0 / peer
            );
        }
    }
    Ok(())
}

fn within(netns: &str, command: &[&str]) -> Result<Child> {
    let mut whole = Command::new("ip");
    whole.args(["netns", "exec", netns]).args(command).stdout(Stdio::piped()).stderr(Stdio::piped());
    whole.spawn().map_err(|e| e.to_string())
}

fn said(child: Child) -> Result<String> {
    let output = child.wait_with_output().map_err(|e| e.to_string())?;
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    } else {
        Err(String::from_utf8_lossy(&output.stderr).into_owned())
    }
}

/// Both ends of raw UDP, in MB/s.
fn raw() -> Result<f64> {
    let own = std::env::current_exe().map_err(|e| e.to_string())?;
    let own = own.to_string_lossy();
    let receiver = within(HIGH, &[&own, "bench", "raw-receive"])?;
    std::thread::sleep(Duration::from_millis(500));
    said(within(LOW, &[&own, "bench", "raw-send"])?)?;
    let answer = said(receiver)?;
    answer.lines().last().and_then(|line| line.parse().ok()).ok_or_else(|| format!("raw UDP says `{answer}`"))
}

/// One bundle: bytes of files a second, from the first packet to the last, and what was counted.
fn cross(airlock: &str, dir: &str) -> Result<(f64, String)> {
    let (low, high, inbox) = (format!("{dir}/low"), format!("{dir}/high"), format!("{dir}/inbox"));
    let to = format!("udp://{ADDRESS}");
    let receive = [
        airlock,
        "--station",
        &high,
        "--json",
        "--quiet",
        "receive",
        "--listen",
        &to,
        "--into",
        &inbox,
        "--once",
    ];
    let receiver = within(HIGH, &receive)?;
    std::thread::sleep(Duration::from_millis(500));
    let bundle = format!("{dir}/bundle");
    let sent =
        said(within(LOW, &[airlock, "--station", &low, "--json", "--quiet", "send", &bundle, "--to", &to])?)?;
    let report: Value = serde_json::from_str(&said(receiver)?).map_err(|e| e.to_string())?;
    let sent: Value = serde_json::from_str(&sent).map_err(|e| e.to_string())?;
    let place = report.get("bundle").and_then(Value::as_str).ok_or("the bundle is not whole")?;
    shell(&format!("diff -r {bundle} {place}"))?;
    std::fs::remove_dir_all(&inbox).map_err(|e| e.to_string())?;
    let figure = |value: &Value, key: &str| value.get(key).and_then(Value::as_f64).unwrap_or(0.0);
    let counts = report.get("packets").cloned().unwrap_or_default();
    let (lost, received) = (figure(&counts, "lost"), figure(&counts, "received"));
    let text = format!(
        "{:.2} s, {:.2} % lost, {} pieces restored, repair {} %",
        figure(&report, "seconds"),
        100.0 * lost / (lost + received).max(1.0),
        figure(&counts, "restored"),
        figure(&sent, "repair_percent"),
    );
    Ok((figure(&report, "total") / figure(&report, "seconds").max(0.001) / 1e6, text))
}
