//! The Python environment with the real clients: py-rattler, pip, uv and pip-audit; and the official schemas of CSAF and
//! CycloneDX, the validator of SPDX, a reader of QR codes, and FUSE.

use std::path::Path;
use std::process::Command;

/// The clients that the tests drive, and what they check documents with.
const CLIENTS: [&str; 9] = [
    "py-rattler",
    "uv",
    "pip-audit",
    "csaf",
    "jsonschema",
    "cyclonedx-python-lib[json-validation]",
    "spdx-tools",
    "zxing-cpp",
    "mfusepy",
];

/// Makes the environment below `target` and gives its interpreter, or says what is skipped and why.
pub fn prepare(root: &Path) -> Option<String> {
    let dir = root.join("target/test-env");
    let python = dir.join("bin/python");
    let ready = dir.join("ready");
    // It says what is in there, so that one of before a client came is filled up.
    let wanted = CLIENTS.join(" ");
    if std::fs::read_to_string(&ready).ok().as_ref() != Some(&wanted) {
        let made = make(&dir);
        if let Err(error) = made.and_then(|()| std::fs::write(&ready, &wanted).map_err(|e| e.to_string())) {
            println!("skipped: the tests with real clients ({wanted} and pip), because {error}");
            return None;
        }
    }
    Some(python.to_string_lossy().into_owned())
}

fn make(dir: &Path) -> Result<(), String> {
    if venv(dir).is_err() {
        // Debian ships Python without the module that makes environments.
        let install = quiet(Command::new("apt-get").args(["install", "-y", "-q", "python3-venv"]));
        install.and_then(|()| venv(dir)).map_err(|e| format!("no Python environment can be made: {e}"))?;
    }
    let python = dir.join("bin/python");
    let mut pip = Command::new(python);
    pip.args(["-m", "pip", "install", "-q", "--disable-pip-version-check"]).args(CLIENTS);
    quiet(&mut pip).map_err(|e| format!("{} cannot be installed: {e}", CLIENTS.join(" and ")))
}

fn venv(dir: &Path) -> Result<(), String> {
    quiet(Command::new("python3").args(["-m", "venv"]).arg(dir))
}

pub fn quiet(command: &mut Command) -> Result<(), String> {
    let output = command.output().map_err(|e| format!("{}: {e}", command.get_program().to_string_lossy()))?;
    if output.status.success() {
        return Ok(());
    }
    let error = String::from_utf8_lossy(&output.stderr);
    Err(error.lines().last().unwrap_or("it failed without a word").to_owned())
}
