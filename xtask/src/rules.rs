//! The rules of the house that no compiler checks. A rule without a check is a wish.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::Result;

/// Lines of a source file at most: a longer one is a room with two jobs.
const LINES_MAX: usize = 600;
/// Packages in the lock file at most. Raised with a reason in the commit.
const PACKAGES_MAX: usize = 320;
/// Licences that the binary may contain.
const LICENCES: [&str; 13] = [
    "MIT",
    "MIT-0",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "ISC",
    "Zlib",
    "Unlicense",
    "Unicode-3.0",
    "BSL-1.0",
    "CC0-1.0",
    "CDLA-Permissive-2.0",
];
/// Licences of single packages that were looked at: data, or used at arm's length.
const EXCEPTIONS: [(&str, &str); 3] =
    [("bzip2-1.0.6", "libbz2-rs-sys"), ("MPL-2.0", "version-ranges"), ("MPL-2.0", "option-ext")];
/// One implementation of cryptography in the binary, and not two.
const BANNED: [&str; 2] = ["ring", "openssl-sys"];
/// Which rooms a room may lead to.
const ROOMS: [(&str, &[&str]); 9] = [
    ("airlock-memory", &[]),
    ("airlock-core", &[]),
    ("airlock-formats", &["airlock-core"]),
    ("airlock-store", &["airlock-core"]),
    ("airlock-solve", &["airlock-core"]),
    ("airlock-engine", &["airlock-core", "airlock-formats", "airlock-store", "airlock-solve"]),
    ("airlock-web", &["airlock-core", "airlock-formats", "airlock-store", "airlock-engine"]),
    ("airlock", &["airlock-core", "airlock-formats", "airlock-memory", "airlock-engine", "airlock-web"]),
    ("xtask", &[]),
];

/// Checks all of them.
pub fn check(root: &Path) -> Result<()> {
    let mut faults = sizes(root)?;
    faults.extend(sql(root)?);
    faults.extend(lints(root)?);
    let metadata = metadata(root)?;
    faults.extend(dependencies(&metadata, &in_binary(root)?));
    faults.extend(rooms(&metadata));
    if faults.is_empty() {
        println!("rules: sizes, rooms, SQL, lints, dependencies and licences are as agreed");
        return Ok(());
    }
    Err(format!("rules of the house are broken:\n  {}", faults.join("\n  ")))
}

fn sources(root: &Path) -> Result<Vec<PathBuf>> {
    let mut out = Vec::new();
    let mut folders = vec![root.join("crates"), root.join("xtask")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).map_err(|e| format!("{}: {e}", folder.display()))? {
            let path = entry.map_err(|e| e.to_string())?.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == "rs" || e == "html") {
                out.push(path);
            }
        }
    }
    out.sort();
    Ok(out)
}

fn sizes(root: &Path) -> Result<Vec<String>> {
    let mut faults = Vec::new();
    for path in sources(root)? {
        let lines =
            std::fs::read_to_string(&path).map_err(|e| format!("{}: {e}", path.display()))?.lines().count();
        if lines > LINES_MAX {
            faults.push(format!("{} has {lines} lines, at most {LINES_MAX}", path.display()));
        }
    }
    Ok(faults)
}

/// SQL stands in `store` and nowhere else.
fn sql(root: &Path) -> Result<Vec<String>> {
    let mut faults = Vec::new();
    for path in sources(root)? {
        let text = std::fs::read_to_string(&path).map_err(|e| format!("{}: {e}", path.display()))?;
        let in_store = path.starts_with(root.join("crates/store"));
        // Whoever tries what a changed database does has to change it past the program.
        let tampers = ["testkit/src/tamper.rs", "engine/tests/tampered.rs"].iter().any(|p| path.ends_with(p));
        let here = path.ends_with("xtask/src/rules.rs") || tampers;
        if !in_store && !here && (text.contains("sqlx::") || text.contains("insert into ")) {
            faults.push(format!("{} holds SQL", path.display()));
        }
    }
    Ok(faults)
}

/// Every crate has the lints of the workspace, which forbid unsafe code, but the one that sets the allocator.
fn lints(root: &Path) -> Result<Vec<String>> {
    let mut folders = vec![root.join("xtask")];
    for entry in std::fs::read_dir(root.join("crates")).map_err(|e| e.to_string())? {
        folders.push(entry.map_err(|e| e.to_string())?.path());
    }
    let mut faults = Vec::new();
    for folder in folders {
        let path = folder.join("Cargo.toml");
        let text = std::fs::read_to_string(&path).map_err(|e| format!("{}: {e}", path.display()))?;
        if !folder.ends_with("crates/memory") && !text.contains("[lints]\nworkspace = true\n") {
            faults.push(format!("{} does without the lints of the workspace", path.display()));
        }
    }
    let path = root.join("Cargo.toml");
    let text = std::fs::read_to_string(&path).map_err(|e| format!("{}: {e}", path.display()))?;
    if !text.contains("\nunsafe_code = \"forbid\"\n") {
        faults.push(format!("{} does not forbid unsafe code", path.display()));
    }
    Ok(faults)
}

fn cargo_says(root: &Path, args: &[&str]) -> Result<Vec<u8>> {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let output = Command::new(cargo).args(args).current_dir(root).output().map_err(|e| e.to_string())?;
    if output.status.success() {
        Ok(output.stdout)
    } else {
        Err(String::from_utf8_lossy(&output.stderr).into_owned())
    }
}

fn metadata(root: &Path) -> Result<Value> {
    let args =
        ["metadata", "--format-version", "1", "--locked", "--filter-platform", "x86_64-unknown-linux-gnu"];
    serde_json::from_slice(&cargo_says(root, &args)?).map_err(|e| e.to_string())
}

/// What the binary is really built from: name and version. The metadata alone counts every optional feature
/// of every package.
fn in_binary(root: &Path) -> Result<BTreeSet<(String, String)>> {
    let args =
        ["tree", "-p", "airlock", "-e", "normal,build", "--prefix", "none", "--locked", "--format", "{p}"];
    let tree = String::from_utf8_lossy(&cargo_says(root, &args)?).into_owned();
    let package = |line: &str| {
        let (name, rest) = line.split_once(" v")?;
        Some((name.to_owned(), rest.split_whitespace().next()?.to_owned()))
    };
    Ok(tree.lines().filter_map(package).collect())
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value.get(key).and_then(Value::as_str).unwrap_or_default()
}

fn list<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value.get(key).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// The packages that the binary is built from, without the workspace's own.
fn dependencies(metadata: &Value, in_binary: &BTreeSet<(String, String)>) -> Vec<String> {
    let mut faults = Vec::new();
    let mut count = 0;
    for package in list(metadata, "packages") {
        let name = text(package, "name");
        let built = in_binary.contains(&(name.to_owned(), text(package, "version").to_owned()));
        if !built || package.get("source").is_none_or(Value::is_null) {
            continue;
        }
        count += 1;
        if BANNED.contains(&name) {
            faults.push(format!("{name} must not be among the dependencies"));
        }
        if !licence_fits(name, text(package, "license")) {
            faults.push(format!("{name} has the licence `{}`", text(package, "license")));
        }
    }
    if count > PACKAGES_MAX {
        faults.push(format!("{count} dependencies, at most {PACKAGES_MAX}: is the new one worth it?"));
    }
    println!("rules: {count} dependencies of at most {PACKAGES_MAX}");
    faults
}

/// Whether an SPDX expression can be satisfied by what is allowed.
fn licence_fits(package: &str, expression: &str) -> bool {
    let allowed = |term: &str| {
        let term = term.trim().trim_matches(['(', ')']);
        LICENCES.contains(&term) || EXCEPTIONS.iter().any(|(licence, p)| *licence == term && *p == package)
    };
    let all = |part: &str| part.split(" AND ").all(|t| t.split(" OR ").any(allowed));
    !expression.is_empty() && (expression.replace('/', " OR ").split(" OR ").any(all) || all(expression))
}

/// Each crate leads only where the map says.
fn rooms(metadata: &Value) -> Vec<String> {
    let map: BTreeMap<&str, &[&str]> = ROOMS.into_iter().collect();
    let mut faults = Vec::new();
    for package in list(metadata, "packages") {
        let Some(allowed) = map.get(text(package, "name")) else { continue };
        let own = list(package, "dependencies").iter().filter(|d| text(d, "kind") != "dev");
        for dependency in own.map(|d| text(d, "name")).filter(|d| d.starts_with("airlock")) {
            if !allowed.contains(&dependency) {
                faults.push(format!("{} must not depend on {dependency}", text(package, "name")));
            }
        }
    }
    faults
}
