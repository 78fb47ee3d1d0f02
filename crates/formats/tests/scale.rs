//! What reading an index of full size costs, measured in a process of its own. Run with
//! `AIRLOCK_SCALE=repodata.json cargo test --release -p airlock-formats --test scale -- --ignored --nocapture`.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests")]

use airlock_formats::conda;

/// A field of /proc/self/status in KiB.
fn status_kib(field: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|l| l.starts_with(field)).unwrap_or_default();
    line.split_whitespace().nth(1).and_then(|n| n.parse().ok()).unwrap_or_default()
}

/// CPU time of this process so far, in hundredths of a second.
fn cpu_ticks() -> u64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let rest: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    rest[11].parse::<u64>().unwrap() + rest[12].parse::<u64>().unwrap()
}

#[test]
#[ignore = "needs an index of full size in AIRLOCK_SCALE"]
fn an_index_of_full_size_is_read() {
    let path = std::env::var("AIRLOCK_SCALE").unwrap();
    let bytes = std::fs::read(path).unwrap();
    let (held, began) = (status_kib("VmHWM"), cpu_ticks());
    let read = conda::read_repodata("linux-64", "scale", &bytes).unwrap();
    let took = cpu_ticks() - began;
    eprintln!(
        "{} records of {} names, {} bad, input {} MiB: {}.{:02} CPU s, peak {} MiB of which {} MiB input",
        read.records(),
        read.shards.len(),
        read.bad_count,
        bytes.len() >> 20,
        took / 100,
        took % 100,
        status_kib("VmHWM") >> 10,
        held >> 10
    );
}
