//! The built-in sample: small packages of real formats under well-known names, and genuine facts about some of
//! their vulnerabilities. The packages are stand-ins made on the spot; they hold a line of code each.

use std::path::Path;

use airlock_engine::error::{Error, Result};
use airlock_formats::make::{CondaPackage, Wheel};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

/// One stand-in: name, version, dependencies, licence, summary.
struct Stub {
    name: &'static str,
    version: &'static str,
    depends: &'static [&'static str],
    licence: &'static str,
    summary: &'static str,
}

const fn stub(
    name: &'static str,
    version: &'static str,
    depends: &'static [&'static str],
    licence: &'static str,
    summary: &'static str,
) -> Stub {
    Stub { name, version, depends, licence, summary }
}

const STUBS: [Stub; 12] = [
    stub("certifi", "2025.8.3", &[], "MPL-2.0", "Root certificates"),
    stub("charset-normalizer", "3.4.3", &[], "MIT", "Character set detection"),
    stub("idna", "3.6", &[], "BSD-3-Clause", "Internationalized domain names"),
    stub("idna", "3.10", &[], "BSD-3-Clause", "Internationalized domain names"),
    stub("jinja2", "2.11.2", &["markupsafe>=0.23"], "BSD-3-Clause", "Templates"),
    stub("jinja2", "3.1.6", &["markupsafe>=2.0"], "BSD-3-Clause", "Templates"),
    stub("markupsafe", "3.0.2", &[], "BSD-3-Clause", "Escaping of markup"),
    stub("requests", "2.19.1", &["idna>=2.5", "urllib3>=1.21.1"], "Apache-2.0", "HTTP for humans"),
    stub(
        "requests",
        "2.32.4",
        &["idna>=2.5", "urllib3>=1.21.1", "certifi>=2017.4.17", "charset-normalizer>=2"],
        "Apache-2.0",
        "HTTP for humans",
    ),
    stub("urllib3", "1.26.4", &[], "MIT", "HTTP client"),
    stub("urllib3", "1.26.20", &[], "MIT", "HTTP client"),
    stub("urllib3", "2.5.0", &[], "MIT", "HTTP client"),
];

/// How many packages the sample holds in each ecosystem.
pub const PACKAGES: usize = STUBS.len();

/// A fact about a vulnerability: id, its CVE, package, ranges, vector if it has one, summary.
type Fact = (
    &'static str,
    &'static str,
    &'static str,
    &'static [(&'static str, &'static str)],
    Option<&'static str>,
    &'static str,
);

const FACTS: [Fact; 5] = [
    (
        "PYSEC-2024-60",
        "CVE-2024-3651",
        "idna",
        &[("0.1", "3.7")],
        Some("CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:N/I:N/A:H"),
        "Quadratic time in idna.encode()",
    ),
    (
        "PYSEC-2023-192",
        "CVE-2023-43804",
        "urllib3",
        &[("2.0.0", "2.0.6"), ("0", "1.26.17")],
        Some("CVSS:3.1/AV:N/AC:L/PR:L/UI:N/S:U/C:H/I:H/A:N"),
        "Cookies leak to another origin by a redirect",
    ),
    (
        "PYSEC-2021-108",
        "CVE-2021-33503",
        "urllib3",
        &[("1.25.4", "1.26.5")],
        None,
        "Catastrophic backtracking in the parsing of authorities",
    ),
    (
        "PYSEC-2023-74",
        "CVE-2023-32681",
        "requests",
        &[("2.3.0", "2.31.0")],
        None,
        "Proxy-Authorization leaks to the destination server",
    ),
    (
        "PYSEC-2021-66",
        "CVE-2020-28493",
        "jinja2",
        &[("0", "2.11.3")],
        None,
        "Slow regular expression in the urlize filter",
    ),
];

fn io(error: std::io::Error) -> Error {
    Error::fault(format!("the sample cannot be made: {error}"))
}

/// Writes `upstream/conda`, `upstream/pypi` and `feeds` below `dir`.
pub fn write(dir: &Path) -> Result<()> {
    write_conda(&dir.join("upstream/conda/noarch"))?;
    write_pypi(&dir.join("upstream/pypi"))?;
    write_feeds(&dir.join("feeds"))
}

fn write_conda(noarch: &Path) -> Result<()> {
    std::fs::create_dir_all(noarch).map_err(io)?;
    let mut records = serde_json::Map::new();
    let mut add = |package: &CondaPackage<'_>| -> Result<()> {
        let bytes = package.conda().map_err(io)?;
        let file = package.file_name("conda");
        records.insert(file.clone(), package.record(&bytes));
        std::fs::write(noarch.join(file), bytes).map_err(io)
    };
    let timestamp_ms = 1_760_000_000_000;
    add(&CondaPackage {
        name: "python",
        version: "3.11.7",
        build: "0",
        build_number: 0,
        subdir: "noarch",
        depends: &[],
        license: "PSF-2.0",
        summary: "A stand-in for an interpreter",
        timestamp_ms,
        noarch_python: false,
        security: None,
        files: &[("share/doc/python-stand-in.txt", b"a stand-in\n")],
    })?;
    for stub in &STUBS {
        let module = stub.name.replace('-', "_");
        let path = format!("site-packages/{module}/__init__.py");
        let code = format!("__version__ = \"{}\"\n", stub.version);
        let mut depends: Vec<String> = vec!["python".to_owned()];
        depends.extend(stub.depends.iter().map(|d| d.replacen(">=", " >=", 1)));
        let depends: Vec<&str> = depends.iter().map(String::as_str).collect();
        add(&CondaPackage {
            name: stub.name,
            version: stub.version,
            build: "py_0",
            build_number: 0,
            subdir: "noarch",
            depends: &depends,
            license: stub.licence,
            summary: stub.summary,
            timestamp_ms,
            noarch_python: true,
            security: None,
            files: &[(&path, code.as_bytes())],
        })?;
    }
    let index = json!({"info": {"subdir": "noarch"}, "packages": {}, "packages.conda": records, "repodata_version": 1});
    std::fs::write(noarch.join("repodata.json"), index.to_string()).map_err(io)
}

fn write_pypi(root: &Path) -> Result<()> {
    std::fs::create_dir_all(root.join("files")).map_err(io)?;
    let mut pages: std::collections::BTreeMap<&str, Vec<Value>> = std::collections::BTreeMap::new();
    for stub in &STUBS {
        let module = stub.name.replace('-', "_");
        let path = format!("{module}/__init__.py");
        let code = format!("__version__ = \"{}\"\n", stub.version);
        let wheel = Wheel {
            name: stub.name,
            version: stub.version,
            requires_dist: stub.depends,
            requires_python: ">=3.8",
            license: stub.licence,
            summary: stub.summary,
            files: &[(&path, code.as_bytes())],
        };
        let (file, bytes) = (wheel.file_name(), wheel.bytes().map_err(io)?);
        let sha256 = airlock_core::hex::encode(&Sha256::digest(&bytes));
        pages.entry(stub.name).or_default().push(json!({
            "filename": file, "url": format!("../../files/{file}"), "hashes": {"sha256": sha256}, "size": bytes.len(),
            "requires-python": ">=3.8", "upload-time": "2025-10-09T08:53:20.000000Z",
        }));
        std::fs::write(root.join("files").join(file), bytes).map_err(io)?;
    }
    let meta = json!({"api-version": "1.4"});
    for (name, files) in &pages {
        let folder = root.join("simple").join(name);
        std::fs::create_dir_all(&folder).map_err(io)?;
        let page = json!({"meta": meta, "name": name, "files": files});
        std::fs::write(folder.join("index.json"), page.to_string()).map_err(io)?;
    }
    let projects: Vec<Value> = pages.keys().map(|name| json!({ "name": name })).collect();
    std::fs::write(root.join("simple/index.json"), json!({"meta": meta, "projects": projects}).to_string())
        .map_err(io)
}

fn write_feeds(dir: &Path) -> Result<()> {
    std::fs::create_dir_all(dir).map_err(io)?;
    let mut osv = String::new();
    for (id, cve, package, ranges, vector, summary) in FACTS {
        let events: Vec<Value> = ranges
            .iter()
            .flat_map(|(from, to)| [json!({"introduced": from}), json!({"fixed": to})])
            .collect();
        let severity: Vec<Value> = vector.iter().map(|v| json!({"type": "CVSS_V3", "score": v})).collect();
        let record = json!({
            "id": id, "modified": "2025-01-01T00:00:00Z", "aliases": [cve], "summary": summary, "severity": severity,
            "affected": [{"package": {"ecosystem": "PyPI", "name": package}, "ranges": [{"type": "ECOSYSTEM", "events": events}]}],
        });
        osv += &format!("{record}\n");
    }
    std::fs::write(dir.join("osv.jsonl"), osv).map_err(io)?;
    let names: serde_json::Map<String, Value> =
        STUBS.iter().map(|s| (s.name.to_owned(), json!(s.name))).collect();
    std::fs::write(dir.join("identities.json"), Value::Object(names).to_string()).map_err(io)
}
