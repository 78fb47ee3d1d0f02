//! Programs of the system that tests drive as real peers: file systems, images of media, proxies, scanners, what encrypts and signs by
//! hand. They are installed where this user may do so and a package manager of Debian's kind is there; tests say what they leave out.

use std::path::Path;
use std::process::Command;

/// Programs, and the packages that have them.
const WANTED: [(&str, &str); 14] = [
    ("age", "age"),
    ("clamd", "clamav-daemon"),
    ("curl", "curl"),
    ("fusermount3", "fuse3"),
    ("ip", "iproute2"),
    ("mcopy", "mtools"),
    ("mkfs.ext4", "e2fsprogs"),
    ("mkfs.vfat", "dosfstools"),
    ("mkfs.xfs", "xfsprogs"),
    ("mount", "mount"),
    ("nft", "nftables"),
    ("openssl", "openssl"),
    ("squid", "squid"),
    ("xorriso", "xorriso"),
];
/// Where programs lie, also those that only root has in the path.
const FOLDERS: [&str; 6] = ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"];

/// Installs what is missing, or says what is left out and why.
pub fn prepare() {
    let missing: Vec<&str> =
        WANTED.iter().filter(|(program, _)| !is_there(program)).map(|(_, package)| *package).collect();
    if missing.is_empty() {
        return;
    }
    println!("installing {}", missing.join(", "));
    let _quiet = Quiet::begin();
    if install(&missing).is_ok() {
        return;
    }
    // What is known of packages may be older than what their sources still have, and one that is nowhere keeps out no other.
    let known = apt(&["update", "-q"]);
    for package in missing {
        if let Err(why) = known.clone().and_then(|()| install(&[package])) {
            println!("skipped: tests with {package}, because {why}");
        }
    }
}

/// While it lives, no service is started by what is installed: tests start their own, and nobody asked for others.
struct Quiet {
    is_ours: bool,
}

/// What says whether services may be started (Debian Policy, `invoke-rc.d`): by 101 they may not.
const POLICY: &str = "/usr/sbin/policy-rc.d";

impl Quiet {
    fn begin() -> Self {
        use std::os::unix::fs::OpenOptionsExt as _;
        let mut options = std::fs::OpenOptions::new();
        let file = options.write(true).create_new(true).mode(0o755).open(POLICY);
        let written =
            file.and_then(|mut file| std::io::Write::write_all(&mut file, b"#!/bin/sh\nexit 101\n"));
        Self { is_ours: written.is_ok() }
    }
}

impl Drop for Quiet {
    fn drop(&mut self) {
        if self.is_ours {
            let _ = std::fs::remove_file(POLICY);
        }
    }
}

fn is_there(program: &str) -> bool {
    FOLDERS.iter().any(|folder| Path::new(folder).join(program).exists())
}

fn install(packages: &[&str]) -> Result<(), String> {
    apt(&[&["install", "-y", "-q", "--no-install-recommends"], packages].concat())
}

fn apt(args: &[&str]) -> Result<(), String> {
    let mut command = Command::new("apt-get");
    crate::python::quiet(command.args(args).env("DEBIAN_FRONTEND", "noninteractive"))
}
