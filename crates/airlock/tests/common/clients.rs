//! Real clients as processes.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

/// Solves by `rattler.solve` and prints the files; installs them where a folder is named.
const RATTLER: &str = r#"
import asyncio, json, os, pathlib, sys, tempfile, traceback
from rattler import BuildString, Channel, Gateway, GenericVirtualPackage, MatchSpec, PackageName, Platform, Version, install, solve
base, virtual, target = sys.argv[1], json.loads(sys.argv[2]), sys.argv[3]
async def main():
    temporary = pathlib.Path(tempfile.mkdtemp(dir=os.getcwd()))
    gateway = Gateway(cache_dir=temporary / "g")
    packages = [GenericVirtualPackage(PackageName(n), Version(v), BuildString(b)) for n, v, b in (p.split("=") for p in virtual)]
    answers = []
    for specs in json.loads(sys.argv[4]):
        try:
            records = await solve([Channel(base)], [MatchSpec(s) for s in specs], gateway=gateway, platforms=[Platform("linux-64"), Platform("noarch")], virtual_packages=packages)
        except Exception:
            answers.append([])
            continue
        answers.append(sorted(f"{r.subdir}/{r.file_name}" for r in records))
        if target:
            await install(records, target, cache_dir=temporary / "p")
    print(json.dumps(answers), flush=True)
# The client's own threads sometimes abort the interpreter while it shuts down, when all is done.
try:
    asyncio.run(main())
except BaseException:
    traceback.print_exc()
    os._exit(1)
os._exit(0)
"#;

/// The interpreter of the environment with the clients.
pub fn python() -> Option<PathBuf> {
    let python = std::env::var_os("AIRLOCK_TEST_PYTHON").map(PathBuf::from);
    if python.is_none() {
        airlock_testkit::skipped(
            "no real client, since AIRLOCK_TEST_PYTHON is not set; `cargo xtask test` sets it",
        );
    }
    python
}

/// Runs a command, which must succeed.
pub fn succeeds(mut command: Command) -> Output {
    let output = command.output().unwrap();
    assert!(
        output.status.success(),
        "{command:?}\n{}\n{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    output
}

/// Runs a command, which must fail and say this.
pub fn fails_saying(mut command: Command, text: &str) {
    let output = command.output().unwrap();
    let said =
        String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
    assert!(!output.status.success() && said.contains(text), "{said}");
}

/// What `rattler.solve` says of each of these, on this channel and with these virtual packages; it is installed into `target`
/// where that names a folder.
pub fn rattler(
    python: &Path,
    base: &str,
    virtual_packages: &Value,
    target: &str,
    asked: &[Vec<&str>],
) -> Vec<Vec<String>> {
    let virtual_packages = virtual_packages.to_string();
    let scratch = tempfile::tempdir().unwrap();
    let mut command = Command::new(python);
    command.current_dir(scratch.path()).args(["-c", RATTLER, base, &virtual_packages, target]);
    command.arg(serde_json::to_string(asked).unwrap());
    serde_json::from_slice(&succeeds(command).stdout).unwrap()
}
