//! Sources as directories: a conda channel, a PyPI index, OSV records.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use airlock_core::ecosystem::{Ecosystem, canonical_name};
use airlock_core::id::Digest;
use airlock_formats::make::{CondaPackage, Sdist, Wheel};
use serde_json::{Value, json};

/// The `upload-time` of every file in a [`PypiSource`].
pub const UPLOADED: &str = "2025-06-01T08:30:00.123456Z";
/// The build time of every conda package, in milliseconds.
const BUILT_MS: i64 = 1_748_766_600_000;

/// A small conda package of build `0` in `noarch`.
pub const fn conda<'a>(name: &'a str, version: &'a str) -> CondaPackage<'a> {
    CondaPackage {
        name,
        version,
        build: "0",
        build_number: 0,
        subdir: "noarch",
        depends: &[],
        license: "MIT",
        summary: "A package of a test",
        timestamp_ms: BUILT_MS,
        noarch_python: false,
        security: None,
        files: &[("share/a.txt", b"a\n")],
    }
}

/// A small wheel.
pub const fn wheel<'a>(name: &'a str, version: &'a str) -> Wheel<'a> {
    Wheel {
        name,
        version,
        requires_dist: &[],
        requires_python: ">=3.8",
        license: "MIT",
        summary: "A project of a test",
        files: &[("module.py", b"x = 1\n")],
    }
}

/// A small source distribution.
pub const fn sdist<'a>(name: &'a str, version: &'a str) -> Sdist<'a> {
    Sdist {
        name,
        version,
        requires_dist: &[],
        requires_python: ">=3.8",
        license: "MIT",
        summary: "A project of a test",
        files: &[("module.py", b"x = 1\n")],
    }
}

/// An OSV record: versions of `name` before `fixed` are vulnerable, as badly as `score` says (7.5 for `high`
/// scores, 5.3 else; 0 and less: no score).
pub fn osv(id: &str, ecosystem: &str, name: &str, fixed: &str, score: f64) -> Value {
    let vector = |impact: &str| format!("CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:N/I:N/A:{impact}");
    let severity = match score {
        s if s <= 0.0 => json!([]),
        s if s > 7.0 => json!([{"type": "CVSS_V3", "score": vector("H")}]),
        _ => json!([{"type": "CVSS_V3", "score": vector("L")}]),
    };
    json!({
        "id": id, "modified": "2026-02-01T00:00:00Z", "summary": format!("{name} is vulnerable"), "severity": severity,
        "affected": [{"package": {"ecosystem": ecosystem, "name": name},
            "ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": fixed}]}]}],
    })
}

/// A conda channel in a directory.
#[derive(Debug)]
pub struct CondaSource {
    dir: PathBuf,
    /// Subdir to its `repodata.json`, to be changed at will before [`write`](Self::write).
    pub indexes: BTreeMap<String, Value>,
}

impl CondaSource {
    pub(crate) fn new(dir: PathBuf) -> Self {
        Self { dir, indexes: BTreeMap::new() }
    }

    /// Where it lies.
    pub fn path(&self) -> &Path {
        &self.dir
    }

    /// The index of a subdir.
    pub fn index(&mut self, subdir: &str) -> &mut Value {
        self.indexes.entry(subdir.to_owned()).or_insert_with(|| {
            json!({"info": {"subdir": subdir}, "packages": {}, "packages.conda": {}, "removed": [], "repodata_version": 1})
        })
    }

    /// Adds a package as `.conda`; `more` goes into its record. Gives the package's bytes.
    pub fn add(&mut self, package: &CondaPackage<'_>, more: &Value) -> Vec<u8> {
        let bytes = package.conda().unwrap();
        self.add_bytes(package, &bytes, more);
        bytes
    }

    /// Adds these bytes as the `.conda` of a package.
    pub fn add_bytes(&mut self, package: &CondaPackage<'_>, bytes: &[u8], more: &Value) {
        self.put(package, "packages.conda", &package.file_name("conda"), bytes, more);
    }

    /// Adds a package as `.tar.bz2`.
    pub fn add_tar_bz2(&mut self, package: &CondaPackage<'_>, more: &Value) -> Vec<u8> {
        let bytes = package.tar_bz2().unwrap();
        self.put(package, "packages", &package.file_name("tar.bz2"), &bytes, more);
        bytes
    }

    fn put(&mut self, package: &CondaPackage<'_>, table: &str, file: &str, bytes: &[u8], more: &Value) {
        let mut record = package.record(bytes);
        for (key, value) in more.as_object().into_iter().flatten() {
            record[key] = value.clone();
        }
        self.index(package.subdir)[table][file] = record;
        write(&self.dir.join(package.subdir).join(file), bytes);
    }

    /// Takes a file out of the index; it goes on lying there.
    pub fn remove(&mut self, subdir: &str, file: &str) {
        for table in ["packages", "packages.conda"] {
            self.index(subdir)[table].as_object_mut().unwrap().remove(file);
        }
    }

    /// Writes the indexes.
    pub fn write(&self) {
        for (subdir, index) in &self.indexes {
            write(&self.dir.join(subdir).join("repodata.json"), index.to_string().as_bytes());
        }
    }
}

/// A PyPI index in a directory: `simple/`, `simple/<project>/`, and the files beside its page.
#[derive(Debug)]
pub struct PypiSource {
    dir: PathBuf,
    /// Project to its JSON page, to be changed at will before it is written.
    pub pages: BTreeMap<String, Value>,
}

impl PypiSource {
    pub(crate) fn new(dir: PathBuf) -> Self {
        Self { dir, pages: BTreeMap::new() }
    }

    /// Where it lies.
    pub fn path(&self) -> &Path {
        &self.dir
    }

    /// Adds a wheel; `more` goes into its record. Gives the wheel's bytes.
    pub fn add_wheel(&mut self, wheel: &Wheel<'_>, more: &Value) -> Vec<u8> {
        let bytes = wheel.bytes().unwrap();
        self.put(wheel.name, &wheel.file_name(), &bytes, more);
        bytes
    }

    /// Adds a source distribution.
    pub fn add_sdist(&mut self, sdist: &Sdist<'_>, more: &Value) -> Vec<u8> {
        let bytes = sdist.bytes().unwrap();
        self.put(sdist.name, &sdist.file_name(), &bytes, more);
        bytes
    }

    /// Adds a file, whatever is in it.
    pub fn put(&mut self, project: &str, file: &str, bytes: &[u8], more: &Value) {
        let project = canonical_name(Ecosystem::Pypi, project).unwrap();
        let mut record = json!({
            "filename": file, "url": file, "size": bytes.len(), "upload-time": UPLOADED, "yanked": false,
            "requires-python": ">=3.8", "hashes": {"sha256": Digest::of(bytes).to_string()},
        });
        for (key, value) in more.as_object().into_iter().flatten() {
            record[key] = value.clone();
        }
        let page = self.pages.entry(project.clone()).or_insert_with(
            || json!({"meta": {"api-version": "1.4"}, "name": project, "versions": [], "files": []}),
        );
        page["files"].as_array_mut().unwrap().push(record);
        write(&self.dir.join("simple").join(&project).join(file), bytes);
    }

    /// Writes the pages as JSON.
    pub fn write(&self) {
        let projects: Vec<Value> = self.pages.keys().map(|name| json!({"name": name})).collect();
        let list = json!({"meta": {"api-version": "1.4"}, "projects": projects});
        write(&self.dir.join("simple/index.json"), list.to_string().as_bytes());
        for (project, page) in &self.pages {
            write(&self.dir.join("simple").join(project).join("index.json"), page.to_string().as_bytes());
        }
    }

    /// Writes the pages as HTML, which says less.
    pub fn write_html(&self) {
        let links: String =
            self.pages.keys().map(|name| format!("<a href=\"{name}/\">{name}</a>\n")).collect();
        write(&self.dir.join("simple/index.html"), format!("<!DOCTYPE html>\n{links}").as_bytes());
        for (project, page) in &self.pages {
            let link = |file: &Value| {
                let (name, hash) =
                    (&file["filename"].as_str().unwrap(), &file["hashes"]["sha256"].as_str().unwrap());
                format!("<a href=\"{name}#sha256={hash}\">{name}</a>\n")
            };
            let links: String = page["files"].as_array().unwrap().iter().map(link).collect();
            let page = format!("<!DOCTYPE html>\n{links}");
            write(&self.dir.join("simple").join(project).join("index.html"), page.as_bytes());
        }
    }
}

fn write(path: &Path, bytes: &[u8]) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, bytes).unwrap();
}
