//! Bundles over a one-way link, beside raw UDP by the same calls on the same link in the same run: two network namespaces with a veth pair of MTU
//! 9000 on which nothing can travel back, random loss by nftables, everything in memory. What `lidi` reached on such a machine with its
//! repair tuned for each loss is the peer.

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::{Result, cargo, root};

/// Percent of packets lost, and what `lidi` 2.1.1 reached, in MB/s.
const PEER: [(u32, f64); 3] = [(0, 299.0), (1, 217.0), (5, 125.0)];
/// What of that is to be reached.
const SHARE: f64 = 0.85;
/// Files of the bundle where nobody says another number with `AIRLOCK_BENCH_FILES`, and bytes of each.
const FILES: u32 = 40;
const FILE_BYTES: &str = "53687091";
/// Bytes of a datagram of the raw measurement: those of our packets.
const DATAGRAM_BYTES: &str = "8896";
/// How many seconds it is sent.
const RAW_SECONDS: &str = "3";
/// Free in `/dev/shm`, in bytes: the channel, the bundle and what is received, with a rest.
const ROOM_BYTES: u64 = 7 << 30;
/// What a receiver takes to listen.
const LISTENING: Duration = Duration::from_millis(500);
const ADDRESS: &str = "10.99.0.2:4433";
/// Where the receiver listens behind a relay.
const BEHIND: &str = "127.0.0.1:4434";
/// How fast it is sent to a relay, which moves packets one by one; repair is chosen by it.
const RELAYED_RATE: &str = "500M";
/// Percent of packets lost that no repair covers which is chosen.
const HEAVY_LOSS: u32 = 20;
const LOW: &str = "airlock-bench-low";
const HIGH: &str = "airlock-bench-high";

/// Measures, where network namespaces can be made. Three minutes, and before them what building takes where nothing is
/// built yet; `AIRLOCK_BENCH_BIN` names a folder in which `airlock` and `examples/plant`, `blast`, `repair` and `relay` are built already.
pub fn run() -> Result<()> {
    let bin = match std::env::var_os("AIRLOCK_BENCH_BIN") {
        Some(bin) => root().join(bin),
        None => build()?,
    };
    println!("one-way link: the programs in {}", bin.display());
    let files = std::env::var("AIRLOCK_BENCH_FILES").ok().and_then(|n| n.parse().ok()).unwrap_or(FILES);
    unlink();
    if let Err(why) = room(files).and_then(|()| link()) {
        unlink();
        println!("skipped: the one-way link, because {why}");
        return Ok(());
    }
    let dir = Path::new("/dev/shm/airlock-bench-oneway");
    let _ = std::fs::remove_dir_all(dir);
    let result = measure(&bin, dir, files);
    let _ = std::fs::remove_dir_all(dir);
    unlink();
    result
}

/// Builds in release. Whoever gives this a limit of time is told what it was spent on.
fn build() -> Result<PathBuf> {
    println!("one-way link: building in release first, which takes minutes where nothing is built yet");
    let began = Instant::now();
    cargo(&["build", "--release", "--locked", "-p", "airlock", "--bins"], &[])?;
    let examples = ["--example", "plant", "--example", "blast", "--example", "repair", "--example", "relay"];
    cargo(&[&["build", "--release", "--locked", "-p", "airlock-testkit"], &examples[..]].concat(), &[])?;
    println!(
        "one-way link: built in {:.0} s; what follows is measured without it",
        began.elapsed().as_secs_f64()
    );
    Ok(root().join("target/release"))
}

/// Whether memory has room for it.
fn room(files: u32) -> Result<()> {
    let free = shell("df --output=avail -B1 /dev/shm | tail -1")?
        .trim()
        .parse::<u64>()
        .map_err(|e| e.to_string())?;
    let needed = ROOM_BYTES / u64::from(FILES) * u64::from(files);
    if free >= needed {
        Ok(())
    } else {
        Err(format!("/dev/shm has {free} bytes free, and it takes {needed}"))
    }
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

fn measure(bin: &Path, dir: &Path, files: u32) -> Result<()> {
    let (airlock, plant, blast) =
        (bin.join("airlock"), bin.join("examples/plant"), bin.join("examples/blast"));
    let (airlock, plant, dir) = (airlock.display().to_string(), plant.display(), dir.display().to_string());
    shell(&format!(
        "set -e; mkdir {dir}; cd {dir}
         {plant} low --files {files} --bytes {FILE_BYTES}
         {airlock} init high --side isolated --quiet
         print() {{ {airlock} --station $1 --json status | sed 's/.*\"fingerprint\":\"\\([^\"]*\\)\".*/\\1/'; }}
         {airlock} --station high trust add low low/keys/station.pub --fingerprint $(print low) --quiet
         {airlock} --station low trust add high high/keys/station.pub --fingerprint $(print high) --quiet
         {airlock} --station low export bundle --quiet
         find low/blobs -type f -delete"
    ))?;
    match repair(bin) {
        Ok(said) => println!("one-way link: repair alone, on one core: {said}"),
        Err(why) => println!("one-way link: skipped: repair alone, because {why}"),
    }
    println!(
        "one-way link, MTU 9000, {files} files of {FILE_BYTES} bytes, sender and receiver on the same processors, in memory, at the \
         rate that `send` has by default (3 Gbit/s with headers and repair, so that no more than 375 MB/s of packets leave); `whole` is from the start of `airlock send` until \
         every file is verified and the bundle has its name:"
    );
    for trains in ["on", "off"] {
        let set = format!("ip netns exec {LOW} ethtool -K vlow tx-udp-segmentation {trains}");
        if trains == "off" && shell(&set).is_err() {
            println!("  skipped: packets one by one, because `ethtool` cannot be had");
            continue;
        }
        let how = if trains == "on" { "in trains (as the kernel does it)" } else { "one by one" };
        lose(0)?;
        let raw = raw(&blast)?;
        println!("  packets leave {how}: raw UDP as fast as it goes, {DATAGRAM_BYTES} bytes each: {raw}");
        for (percent, peer) in PEER {
            lose(percent)?;
            match cross(&airlock, &dir) {
                Ok(crossed) => println!("    {percent} % lost: {}", crossed.beside(&raw, peer)),
                Err(why) => println!("    {percent} % lost: no figure, because {why}"),
            }
        }
    }
    match twice(&airlock, &dir) {
        Ok(said) => println!("  {HEAVY_LOSS} % lost: {said}"),
        Err(why) => println!("  {HEAVY_LOSS} % lost: no figure, because {why}"),
    }
    match relayed(bin, &airlock, &dir) {
        Ok(said) => println!(
            "  at {RELAYED_RATE} through a relay that loses 1 % at random and everything for 50 ms twice a second, with packets that overtake each other, every fifth twice: {said}"
        ),
        Err(why) => println!("  through a relay: no figure, because {why}"),
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

/// What raw UDP reaches.
struct Raw {
    /// In MB/s, from the first datagram to the last.
    arrived: f64,
    /// Of all that was sent.
    percent: f64,
}

impl fmt::Display for Raw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.0} MB/s arrive, {:.1} % of what was sent", self.arrived, self.percent)
    }
}

fn raw(blast: &Path) -> Result<Raw> {
    let blast = blast.to_string_lossy();
    let receiver = within(HIGH, &[&blast, "receive", ADDRESS])?;
    std::thread::sleep(LISTENING);
    let sent = said(within(LOW, &[&blast, "send", ADDRESS, DATAGRAM_BYTES, RAW_SECONDS])?)?;
    let figures = |answer: &str| -> Result<[f64; 2]> {
        let words = answer.lines().last().unwrap_or_default().split(' ');
        let numbers: Vec<f64> = words.filter_map(|n| n.parse().ok()).collect();
        numbers.try_into().map_err(|_| format!("raw UDP says `{answer}`"))
    };
    let [sent, _] = figures(&sent)?;
    let [arrived, seconds] = figures(&said(receiver)?)?;
    Ok(Raw { arrived: arrived / seconds.max(0.001) / 1e6, percent: 100.0 * arrived / sent.max(1.0) })
}

/// What one core encodes and restores, of full blocks with little repair and with as much as is chosen here.
fn repair(bin: &Path) -> Result<String> {
    let mut each = Vec::new();
    for [originals, repair] in [[512, 64], [512, 107]] {
        let line = format!("{} {originals} {repair} 8832 5", bin.join("examples/repair").display());
        let said = shell(&line)?;
        let (encoded, restored) =
            said.trim().split_once(' ').ok_or_else(|| format!("`repair` says `{said}`"))?;
        each.push(format!("{originals} symbols of 8832 bytes with {repair} are encoded at {encoded} MB/s, and with 5 % lost restored at {restored} MB/s"));
    }
    Ok(each.join("; "))
}

/// One bundle that crossed.
struct Crossed {
    bytes: f64,
    /// From the first packet to the last.
    packets_seconds: f64,
    /// From the start of the sender to the end of the receiver.
    whole_seconds: f64,
    lost_percent: f64,
    restored: f64,
    repair_percent: f64,
}

impl Crossed {
    /// In a line, beside the machine's limit and the peer, held against the longer time.
    fn beside(&self, raw: &Raw, peer: f64) -> String {
        let rate = |seconds: f64| self.bytes / seconds.max(0.001) / 1e6;
        let (whole, packets) = (rate(self.whole_seconds), rate(self.packets_seconds));
        let verdict = if whole >= peer * SHARE { "within" } else { "beyond" };
        format!(
            "{whole:.0} MB/s whole ({:.2} s), {packets:.0} MB/s first packet to last ({:.2} s); {:.2} % lost, {} pieces restored, \
             repair {} %; of raw UDP {:.2}; of lidi, tuned, {peer:.0}: {:.2}, {verdict} {SHARE}",
            self.whole_seconds,
            self.packets_seconds,
            self.lost_percent,
            self.restored,
            self.repair_percent,
            whole / raw.arrived,
            whole / peer,
        )
    }
}

fn figure(value: &Value, key: &str) -> f64 {
    value.get(key).and_then(Value::as_f64).unwrap_or(0.0)
}

/// What a receiver says of a bundle that is not whole: whether packets were lost, or came and found no memory.
fn not_whole(report: &Value) -> String {
    let counts = report.get("packets").cloned().unwrap_or_default();
    let [received, lost, overrun, short] =
        ["received", "lost", "overrun", "blocks_short"].map(|key| figure(&counts, key));
    format!(
        "the bundle is not whole: of {received} packets that came {overrun} found no memory, {lost} did not come, {short} blocks are short"
    )
}

/// One sending of a bundle: what both ends say of it, and from the start of the sender to the end of the receiver, in seconds.
struct Sending {
    sent: Value,
    report: Value,
    seconds: f64,
}

/// The answer of a command, whatever its status is.
fn answer(child: Child) -> Result<Value> {
    let output = child.wait_with_output().map_err(|e| e.to_string())?;
    let said = || String::from_utf8_lossy(&output.stderr).trim().to_owned();
    serde_json::from_slice(&output.stdout).map_err(|e| format!("{e}: {}", said()))
}

/// Sends the bundle to an address, while the receiver listens at one.
fn send(airlock: &str, dir: &str, (to, at): (&str, &str), more: &[&str]) -> Result<Sending> {
    let [low, high, inbox, bundle] = ["low", "high", "inbox", "bundle"].map(|name| format!("{dir}/{name}"));
    let (to, at, quiet) = (format!("udp://{to}"), format!("udp://{at}"), ["--json", "--quiet"]);
    let receive = ["receive", "--listen", &at, "--into", &inbox, "--once"];
    let receiver = within(HIGH, &[&[airlock, "--station", &high], &quiet[..], &receive].concat())?;
    std::thread::sleep(LISTENING);
    let began = Instant::now();
    let send = ["send", &bundle, "--to", &to];
    let sender = within(LOW, &[&[airlock, "--station", &low], &quiet[..], &send, more].concat())?;
    let report = answer(receiver);
    let seconds = began.elapsed().as_secs_f64();
    Ok(Sending { sent: answer(sender)?, report: report?, seconds })
}

/// Holds what came against what was sent, and forgets it.
fn is_whole(dir: &str, report: &Value) -> Result<()> {
    let place = report.get("bundle").and_then(Value::as_str).ok_or_else(|| not_whole(report))?;
    shell(&format!("diff -r {dir}/bundle {place}"))?;
    std::fs::remove_dir_all(format!("{dir}/inbox")).map_err(|e| e.to_string())
}

/// Sends the bundle over the link, and holds what came against it.
fn cross(airlock: &str, dir: &str) -> Result<Crossed> {
    let _ = std::fs::remove_dir_all(format!("{dir}/inbox"));
    let Sending { sent, report, seconds } = send(airlock, dir, (ADDRESS, ADDRESS), &[])?;
    is_whole(dir, &report)?;
    let counts = report.get("packets").cloned().unwrap_or_default();
    let (lost, received) = (figure(&counts, "lost"), figure(&counts, "received"));
    Ok(Crossed {
        bytes: figure(&report, "total"),
        packets_seconds: figure(&report, "seconds"),
        whole_seconds: seconds,
        lost_percent: 100.0 * lost / (lost + received).max(1.0),
        restored: figure(&counts, "restored"),
        repair_percent: figure(&sent, "repair_percent"),
    })
}

/// More is lost than repair covers: what came is kept, and the list of the rest completes it in a second pass.
fn twice(airlock: &str, dir: &str) -> Result<String> {
    let _ = std::fs::remove_dir_all(format!("{dir}/inbox"));
    lose(HEAVY_LOSS)?;
    let first = send(airlock, dir, (ADDRESS, ADDRESS), &[])?;
    let list =
        first.report.get("missing").and_then(Value::as_str).ok_or("nothing is missing after it")?.to_owned();
    let lines = std::fs::read_to_string(&list).map_err(|e| e.to_string())?.lines().count();
    lose(1)?;
    let second = send(airlock, dir, (ADDRESS, ADDRESS), &["--only", &list])?;
    is_whole(dir, &second.report)?;
    let megabytes = |key: &str| figure(&first.report, key) / 1e6;
    Ok(format!(
        "{:.0} of {:.0} MB are kept after {:.2} s; with 1 % lost the list of {lines} lines brings the other {:.0} MB in {:.2} s, bit-exact",
        megabytes("arrived"),
        megabytes("total"),
        first.seconds,
        megabytes("missing_bytes"),
        second.seconds
    ))
}

/// Through a relay that does all that links do.
fn relayed(bin: &Path, airlock: &str, dir: &str) -> Result<String> {
    let _ = std::fs::remove_dir_all(format!("{dir}/inbox"));
    lose(0)?;
    shell(&format!("ip -n {HIGH} link set lo up"))?;
    let relay = bin.join("examples/relay").display().to_string();
    let mut relay = Command::new("ip")
        .args(["netns", "exec", HIGH, &relay, ADDRESS, BEHIND, "10", "50"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .map_err(|e| e.to_string())?;
    std::thread::sleep(LISTENING);
    let crossed = send(airlock, dir, (ADDRESS, BEHIND), &["--rate", RELAYED_RATE]);
    drop(relay.stdin.take());
    let _ = relay.wait();
    let Sending { sent, report, seconds } = crossed?;
    is_whole(dir, &report)?;
    let counts = report.get("packets").cloned().unwrap_or_default();
    let (lost, received) = (figure(&counts, "lost"), figure(&counts, "received"));
    Ok(format!(
        "{:.0} MB in {seconds:.1} s, bit-exact; {:.1} % lost, {} came twice, {} pieces restored, repair {} %",
        figure(&report, "total") / 1e6,
        100.0 * lost / (lost + received).max(1.0),
        figure(&counts, "repeated"),
        figure(&counts, "restored"),
        figure(&sent, "repair_percent"),
    ))
}
