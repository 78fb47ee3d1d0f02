//! Writers of small, valid packages: what the built-in demonstration serves and tests open.
//!
//! The same description gives the same bytes: members are sorted, times are fixed, owners are nobody. Real
//! clients install what comes out of here. Nothing here is meant for packages that do not fit into memory.

use std::collections::BTreeMap;
use std::io::{self, Cursor, Write};

use md5::Md5;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

/// The time that every tar member carries: 2020-01-01T00:00:00Z, in seconds. Zip members carry 1980-01-01.
const MODIFIED_S: u64 = 1_577_836_800;
/// Compression level of zstd.
const ZSTD_LEVEL: i32 = 9;
const MODE_FILE: u32 = 0o644;
const MODE_PROGRAM: u32 = 0o755;
const BASE64_URL: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

type Members = BTreeMap<String, Vec<u8>>;

/// A conda package to be written (CEP 34, CEP 35).
#[derive(Clone, Copy, Debug)]
pub struct CondaPackage<'a> {
    /// Package name, in lower case.
    pub name: &'a str,
    /// Version, without hyphens.
    pub version: &'a str,
    /// Build string, without hyphens.
    pub build: &'a str,
    /// Build number.
    pub build_number: u64,
    /// Subdirectory: `noarch`, `linux-64`...
    pub subdir: &'a str,
    /// Match specs.
    pub depends: &'a [&'a str],
    /// SPDX expression.
    pub license: &'a str,
    /// One-line description, for `info/about.json`.
    pub summary: &'a str,
    /// Time of the build, in milliseconds since 1970.
    pub timestamp_ms: i64,
    /// Whether this is a `noarch: python` package, whose modules clients move to the environment's
    /// `site-packages`. In the subdirectory `noarch`, other packages are `noarch: generic`.
    pub noarch_python: bool,
    /// Paths below the environment and contents. In a `noarch: python` package each path that does not start
    /// with `site-packages/` or `python-scripts/` is put below `site-packages/`.
    pub files: &'a [(&'a str, &'a [u8])],
    /// What `info/security.json` states, where there is to be one.
    pub security: Option<&'a str>,
}

impl CondaPackage<'_> {
    /// `name-version-build` and `ext`, which is `conda` or `tar.bz2`.
    pub fn file_name(&self, ext: &str) -> String {
        format!("{}.{ext}", self.stem())
    }

    /// The package as `.conda`.
    ///
    /// # Errors
    ///
    /// Those of the compressors.
    pub fn conda(&self) -> io::Result<Vec<u8>> {
        let pack = |members| zstd::stream::encode_all(tar(&members)?.as_slice(), ZSTD_LEVEL);
        let stem = self.stem();
        zip(
            &[
                ("metadata.json".to_owned(), json!({"conda_pkg_format_version": 2}).to_string().into_bytes()),
                (format!("pkg-{stem}.tar.zst"), pack(self.payload())?),
                (format!("info-{stem}.tar.zst"), pack(self.info())?),
            ],
            CompressionMethod::Stored,
        )
    }

    /// The package as `.tar.bz2`.
    ///
    /// # Errors
    ///
    /// Those of the compressors.
    pub fn tar_bz2(&self) -> io::Result<Vec<u8>> {
        let mut members = self.info();
        members.extend(self.payload());
        let mut encoder = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::best());
        encoder.write_all(&tar(&members)?)?;
        encoder.finish()
    }

    /// The content of `info/index.json`.
    pub fn index_json(&self) -> Value {
        let mut index = json!({
            "name": self.name,
            "version": self.version,
            "build": self.build,
            "build_number": self.build_number,
            "depends": self.depends,
            "license": self.license,
            "subdir": self.subdir,
            "timestamp": self.timestamp_ms,
        });
        let noarch =
            if self.noarch_python { Some("python") } else { (self.subdir == "noarch").then_some("generic") };
        if let (Some(noarch), Some(keys)) = (noarch, index.as_object_mut()) {
            keys.insert("noarch".into(), noarch.into());
        }
        index
    }

    /// The repodata record for `bytes`, which [`conda`](Self::conda) or [`tar_bz2`](Self::tar_bz2) returned
    /// (CEP 36).
    pub fn record(&self, bytes: &[u8]) -> Value {
        let mut record = self.index_json();
        if let Some(keys) = record.as_object_mut() {
            keys.insert("md5".into(), hex(&Md5::digest(bytes)).into());
            keys.insert("sha256".into(), hex(&Sha256::digest(bytes)).into());
            keys.insert("size".into(), bytes.len().into());
        }
        record
    }

    fn stem(&self) -> String {
        format!("{}-{}-{}", self.name, self.version, self.build)
    }

    /// The files as they lie in the package.
    fn payload(&self) -> Members {
        let place = |path: &str| {
            let placed = ["site-packages/", "python-scripts/"].iter().any(|top| path.starts_with(top));
            if self.noarch_python && !placed { format!("site-packages/{path}") } else { path.to_owned() }
        };
        self.files.iter().map(|(path, bytes)| (place(path), bytes.to_vec())).collect()
    }

    fn info(&self) -> Members {
        let payload = self.payload();
        let entry = |(path, bytes): (&String, &Vec<u8>)| {
            let sha256 = hex(&Sha256::digest(bytes));
            json!({"_path": path, "path_type": "hardlink", "sha256": sha256, "size_in_bytes": bytes.len()})
        };
        let paths: Vec<Value> = payload.iter().map(entry).collect();
        let list: String = payload.keys().map(|path| format!("{path}\n")).collect();
        let about = json!({"license": self.license, "summary": self.summary});
        let mut info = Members::from([
            ("info/about.json".into(), about.to_string().into_bytes()),
            ("info/files".into(), list.into_bytes()),
            ("info/index.json".into(), self.index_json().to_string().into_bytes()),
            ("info/paths.json".into(), json!({"paths": paths, "paths_version": 1}).to_string().into_bytes()),
        ]);
        let security = self.security.map(|text| ("info/security.json".to_owned(), text.as_bytes().to_vec()));
        info.extend(security);
        if self.noarch_python {
            let link = json!({"noarch": {"type": "python"}, "package_metadata_version": 1});
            info.insert("info/link.json".into(), link.to_string().into_bytes());
        }
        info
    }
}

/// A pure `py3-none-any` wheel to be written (PEP 427, core metadata 2.1).
#[derive(Clone, Copy, Debug)]
pub struct Wheel<'a> {
    /// Project name.
    pub name: &'a str,
    /// Version, normalised by PEP 440.
    pub version: &'a str,
    /// Requirements (PEP 508).
    pub requires_dist: &'a [&'a str],
    /// Version specifier of Python; empty for none.
    pub requires_python: &'a str,
    /// Licence; empty for none.
    pub license: &'a str,
    /// One-line description; empty for none.
    pub summary: &'a str,
    /// Paths below `site-packages` and contents.
    pub files: &'a [(&'a str, &'a [u8])],
}

impl Wheel<'_> {
    /// `name-version-py3-none-any.whl`, with the name normalised.
    pub fn file_name(&self) -> String {
        format!("{}-py3-none-any.whl", stem(self.name, self.version))
    }

    /// The wheel.
    ///
    /// # Errors
    ///
    /// Those of the compressors.
    pub fn bytes(&self) -> io::Result<Vec<u8>> {
        let directory = format!("{}.dist-info", stem(self.name, self.version));
        let wheel = "Wheel-Version: 1.0\nGenerator: airlock\nRoot-Is-Purelib: true\nTag: py3-none-any\n";
        let files: Members =
            self.files.iter().map(|(path, bytes)| ((*path).to_owned(), bytes.to_vec())).collect();
        let mut members: Vec<(String, Vec<u8>)> = files.into_iter().collect();
        // At the end, as PEP 427 recommends.
        members.push((format!("{directory}/METADATA"), self.metadata()));
        members.push((format!("{directory}/WHEEL"), wheel.into()));
        let record = format!("{directory}/RECORD");
        let lines = members.iter().map(|(path, bytes)| {
            format!("{path},sha256={},{}\n", base64_url(&Sha256::digest(bytes)), bytes.len())
        });
        let text: String = lines.chain([format!("{record},,\n")]).collect();
        members.push((record, text.into_bytes()));
        zip(&members, CompressionMethod::Deflated)
    }

    /// The exact bytes of `METADATA`, as PEP 658 serves them.
    pub fn metadata(&self) -> Vec<u8> {
        let mut text = format!("Metadata-Version: 2.1\nName: {}\nVersion: {}\n", self.name, self.version);
        let optional =
            [("Summary", self.summary), ("License", self.license), ("Requires-Python", self.requires_python)];
        let fields = optional.into_iter().filter(|(_, value)| !value.is_empty());
        for (key, value) in
            fields.chain(self.requires_dist.iter().map(|requirement| ("Requires-Dist", *requirement)))
        {
            text.push_str(&format!("{key}: {value}\n"));
        }
        text.into_bytes()
    }
}

/// A source distribution to be written (PEP 625). It builds with setuptools.
#[derive(Clone, Copy, Debug)]
pub struct Sdist<'a> {
    /// Project name.
    pub name: &'a str,
    /// Version, normalised by PEP 440.
    pub version: &'a str,
    /// Requirements (PEP 508).
    pub requires_dist: &'a [&'a str],
    /// Version specifier of Python; empty for none.
    pub requires_python: &'a str,
    /// Licence; empty for none.
    pub license: &'a str,
    /// One-line description; empty for none.
    pub summary: &'a str,
    /// Paths below the top directory and contents.
    pub files: &'a [(&'a str, &'a [u8])],
}

impl Sdist<'_> {
    /// `name-version.tar.gz`, with the name normalised.
    pub fn file_name(&self) -> String {
        format!("{}.tar.gz", stem(self.name, self.version))
    }

    /// The source distribution as `.tar.gz`.
    ///
    /// # Errors
    ///
    /// Those of the compressors.
    pub fn bytes(&self) -> io::Result<Vec<u8>> {
        let builder = flate2::GzBuilder::new().mtime(0);
        let mut encoder = builder.write(Vec::new(), flate2::Compression::best());
        encoder.write_all(&tar(&self.members())?)?;
        encoder.finish()
    }

    /// The source distribution as `.zip`, as it was done before PEP 625.
    ///
    /// # Errors
    ///
    /// Those of the compressors.
    pub fn zip_bytes(&self) -> io::Result<Vec<u8>> {
        zip(&self.members().into_iter().collect::<Vec<_>>(), CompressionMethod::Deflated)
    }

    /// The exact bytes of `PKG-INFO`.
    pub fn metadata(&self) -> Vec<u8> {
        let Self { name, version, requires_dist, requires_python, license, summary, files } = *self;
        Wheel { name, version, requires_dist, requires_python, license, summary, files }.metadata()
    }

    fn members(&self) -> Members {
        let top = stem(self.name, self.version);
        // A JSON string or list of strings is a TOML one as well.
        let project = format!(
            "[build-system]\nrequires = [\"setuptools\"]\nbuild-backend = \"setuptools.build_meta\"\n\n\
             [project]\nname = {}\nversion = {}\ndependencies = {}\n",
            json!(self.name),
            json!(self.version),
            json!(self.requires_dist),
        );
        let mut members = Members::from([
            (format!("{top}/PKG-INFO"), self.metadata()),
            (format!("{top}/pyproject.toml"), project.into_bytes()),
        ]);
        members.extend(self.files.iter().map(|(path, bytes)| (format!("{top}/{path}"), bytes.to_vec())));
        members
    }
}

/// `name-version` with the name normalised as PEP 625 and PEP 491 ask: lower case, runs of `-_.` as one `_`.
fn stem(name: &str, version: &str) -> String {
    let parts = name.split(['-', '_', '.']).filter(|part| !part.is_empty());
    format!("{}-{version}", parts.collect::<Vec<_>>().join("_").to_ascii_lowercase())
}

fn tar(members: &Members) -> io::Result<Vec<u8>> {
    let mut builder = tar::Builder::new(Vec::new());
    for (path, bytes) in members {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(if path.starts_with("bin/") { MODE_PROGRAM } else { MODE_FILE });
        header.set_mtime(MODIFIED_S);
        header.set_uid(0);
        header.set_gid(0);
        builder.append_data(&mut header, path, bytes.as_slice())?;
    }
    builder.into_inner()
}

fn zip(members: &[(String, Vec<u8>)], method: CompressionMethod) -> io::Result<Vec<u8>> {
    let options = SimpleFileOptions::default()
        .compression_method(method)
        .last_modified_time(zip::DateTime::default())
        .unix_permissions(MODE_FILE);
    let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
    for (path, bytes) in members {
        writer.start_file(path, options)?;
        writer.write_all(bytes)?;
    }
    Ok(writer.finish()?.into_inner())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Base 64 for URLs without padding (RFC 4648, 5), as `RECORD` has it.
fn base64_url(bytes: &[u8]) -> String {
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let byte = |at: usize| u32::from(chunk.get(at).copied().unwrap_or_default());
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        let digits = [18, 12, 6, 0]
            .map(|shift| BASE64_URL.get((bits >> shift & 63) as usize).copied().unwrap_or_default());
        text.extend(digits.iter().take(chunk.len() + 1).copied().map(char::from));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::{base64_url, stem};

    #[test]
    fn base64_matches_the_vectors_of_rfc_4648() {
        for (bytes, text) in [("", ""), ("f", "Zg"), ("fo", "Zm8"), ("foo", "Zm9v"), ("foob", "Zm9vYg")] {
            assert_eq!(base64_url(bytes.as_bytes()), text);
        }
        assert_eq!(base64_url(&[0xfb, 0xff]), "-_8");
    }

    #[test]
    fn file_names_have_normalised_project_names() {
        assert_eq!(stem("Foo.Bar--baz", "1.0"), "foo_bar_baz-1.0");
    }
}
