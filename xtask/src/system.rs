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
    // What is known of packages may be older than what their sources still have.
    let installed = install(&missing).or_else(|_| apt(&["update", "-q"]).and_then(|()| install(&missing)));
    if let Err(why) = installed {
        println!("skipped: tests with {}, because {why}", missing.join(", "));
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
