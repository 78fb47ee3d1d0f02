//! The parsed view of a record, beside its verbatim text.
//!
//! Upstream data is read leniently: capitals, `noarch: ""`, list licences, timestamps in seconds. What
//! cannot be read at all is a bad record, which is left out, counted and listed; the rest of the
//! channel is not lost for it.

use std::borrow::Cow;

use serde::{Deserialize, Deserializer};
use serde_json::Value;
use serde_json::value::RawValue;

use crate::canon::Canonical;
use crate::ecosystem::{self, ArtifactKind, Ecosystem};
use crate::hex;
use crate::id::Digest;
use crate::shard::{Entry, Shard};
use crate::time::Time;

/// What judging and fetching need to know of one artifact.
#[derive(Debug, Clone, PartialEq)]
pub struct Artifact {
    /// The file name.
    pub file: String,
    /// The kind of file.
    pub kind: ArtifactKind,
    /// The version as the record writes it.
    pub version: String,
    /// The conda build string.
    pub build: Option<String>,
    /// The conda build number.
    pub build_number: Option<u64>,
    /// The declared SHA-256, if any.
    pub sha256: Option<Digest>,
    /// The declared MD5, if any: some old conda records have nothing better.
    pub md5: Option<[u8; 16]>,
    /// The declared size in bytes.
    pub size: Option<u64>,
    /// When the artifact was made or uploaded, by its own index.
    pub time: Option<Time>,
    /// The licence as stated.
    pub licence: Option<String>,
    /// Withdrawn by its publisher (PEP 592), or listed as revoked.
    pub yanked: bool,
    /// Where the index says that the file lies, if it says so.
    pub url: Option<String>,
}

/// Why a record cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadRecord {
    /// The file name could not stand in a URL or a store.
    #[error("the file name is not one plain path component of at most 255 characters")]
    FileName,
    /// Not a kind of file that Airlock carries.
    #[error("not a file of a kind that is carried ({})", ArtifactKind::ALL.map(ArtifactKind::name).join(", "))]
    Kind,
    /// The record is not of the expected shape.
    #[error("the record is malformed: {0}")]
    Shape(String),
    /// The record is about another package than its place says.
    #[error("the record is about `{0}`")]
    Name(String),
    /// The file name does not follow from name, version and build.
    #[error("the file name does not fit the record's name, version and build")]
    Stem,
    /// A declared SHA-256 that is none.
    #[error("the declared sha256 is not a SHA-256")]
    Hash,
    /// A PyPI file whose name does not tell its version.
    #[error("the file name tells no version of this project")]
    NoVersion,
}

/// What matters of a conda record. A channel has hundreds of thousands of them, so that nothing is copied that need
/// not be.
#[derive(Default, Deserialize)]
#[cfg_attr(test, derive(Debug, PartialEq))]
struct CondaRecord<'a> {
    #[serde(borrow)]
    name: Cow<'a, str>,
    #[serde(borrow)]
    version: Cow<'a, str>,
    #[serde(borrow)]
    build: Option<Cow<'a, str>>,
    #[serde(borrow)]
    build_number: Option<Written<'a>>,
    #[serde(borrow)]
    sha256: Option<Written<'a>>,
    #[serde(borrow)]
    md5: Option<Written<'a>>,
    size: Option<u64>,
    #[serde(borrow)]
    timestamp: Option<Written<'a>>,
    #[serde(borrow)]
    license: Option<Written<'a>>,
    #[serde(borrow)]
    revoked: Option<Written<'a>>,
    #[serde(borrow)]
    url: Option<Written<'a>>,
}

impl<'a> CondaRecord<'a> {
    fn read(record: &'a Canonical) -> Result<Self, serde_json::Error> {
        Self::plain(record).map_or_else(|| record.read(), Ok)
    }

    /// The same without a parser; none of anything unusual, of which a parser has more to say.
    fn plain(record: &'a Canonical) -> Option<Self> {
        let mut out = Self::default();
        let (mut has_name, mut has_version) = (false, false);
        for (key, value) in record.fields() {
            let written = (value != "null").then_some(Written(value));
            match key {
                "name" => (out.name, has_name) = (Cow::Borrowed(plain(value)?), true),
                "version" => (out.version, has_version) = (Cow::Borrowed(plain(value)?), true),
                "build" => out.build = Some(Cow::Borrowed(plain(value)?)),
                "size" => out.size = Some(value.parse().ok()?),
                "build_number" => out.build_number = written,
                "sha256" => out.sha256 = written,
                "md5" => out.md5 = written,
                "timestamp" => out.timestamp = written,
                "license" => out.license = written,
                "revoked" => out.revoked = written,
                "url" => out.url = written,
                _ => {}
            }
        }
        (has_name && has_version).then_some(out)
    }
}

/// A value as it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Written<'a>(pub &'a str);

impl<'de: 'a, 'a> Deserialize<'de> for Written<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        <&RawValue>::deserialize(deserializer).map(|raw| Self(raw.get()))
    }
}

impl<'a> Written<'a> {
    /// The text, if it is a string.
    pub fn string(self) -> Option<Cow<'a, str>> {
        string(self.0)
    }
}

/// The text of a value, if it is a string.
pub(crate) fn string(value: &str) -> Option<Cow<'_, str>> {
    let quoted = value.strip_prefix('"')?.strip_suffix('"')?;
    if quoted.contains('\\') { serde_json::from_str(value).ok().map(Cow::Owned) } else { Some(quoted.into()) }
}

/// The text of a value that is a string without escapes.
pub(crate) fn plain(value: &str) -> Option<&str> {
    value.strip_prefix('"')?.strip_suffix('"').filter(|text| !text.contains('\\'))
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct PypiFile {
    #[serde(default)]
    hashes: std::collections::BTreeMap<String, Value>,
    size: Option<u64>,
    upload_time: Option<Value>,
    yanked: Option<Value>,
    url: Option<String>,
}

/// A declared hash; null is none, and anything that is no hash makes the record useless.
fn digest(value: Option<&Value>) -> Result<Option<Digest>, BadRecord> {
    match value {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => text.parse().map(Some).map_err(|_| BadRecord::Hash),
        Some(_) => Err(BadRecord::Hash),
    }
}

impl Artifact {
    /// Reads the view of `entry`, which stands under `file` in `shard`.
    pub fn read(shard: &Shard, file: &str, entry: &Entry) -> Result<Self, BadRecord> {
        Self::from_parts(shard.ecosystem, &shard.name, file, entry)
    }

    /// The same, before there is a shard to put the record into.
    pub fn from_parts(
        ecosystem: Ecosystem,
        name: &str,
        file: &str,
        entry: &Entry,
    ) -> Result<Self, BadRecord> {
        if !ecosystem::is_safe_file_name(file) {
            return Err(BadRecord::FileName);
        }
        let kind = ArtifactKind::of(ecosystem, file).ok_or(BadRecord::Kind)?;
        match ecosystem {
            Ecosystem::Conda => Self::conda(name, file, kind, entry),
            Ecosystem::Pypi => Self::pypi(name, file, kind, entry),
        }
    }

    fn conda(name: &str, file: &str, kind: ArtifactKind, entry: &Entry) -> Result<Self, BadRecord> {
        let record = CondaRecord::read(&entry.record).map_err(|e| BadRecord::Shape(e.to_string()))?;
        if ecosystem::canonical_name(Ecosystem::Conda, &record.name).as_deref() != Some(name) {
            return Err(BadRecord::Name(record.name.chars().take(80).collect()));
        }
        let stem = match kind {
            ArtifactKind::Conda => file.strip_suffix(".conda"),
            ArtifactKind::TarBz2 => file.strip_suffix(".tar.bz2"),
            ArtifactKind::Wheel => file.strip_suffix(".whl"),
            ArtifactKind::Sdist => None,
        };
        let build = record.build.unwrap_or_default().into_owned();
        // Clients and servers take a file name apart at its last two dashes (CEP 26).
        if record.version.contains('-') || build.contains('-') || build.is_empty() {
            return Err(BadRecord::Stem);
        }
        let fits = stem.and_then(|stem| stem.strip_prefix(&*record.name)?.strip_prefix('-'));
        let fits = fits.and_then(|rest| rest.strip_prefix(&*record.version)?.strip_prefix('-'));
        if fits != Some(&build) {
            return Err(BadRecord::Stem);
        }
        let number = |text: &str| text.parse().ok().or_else(|| text.parse().ok().map(truncate));
        let stamp: Option<i64> = record.timestamp.and_then(|t| number(t.0));
        let sha256 = match record.sha256.map(|text| text.string().ok_or(BadRecord::Hash)).transpose()? {
            Some(text) => Some(text.parse().map_err(|_| BadRecord::Hash)?),
            None => None,
        };
        Ok(Self {
            file: file.to_owned(),
            kind,
            version: record.version.into_owned(),
            build: Some(build),
            build_number: record.build_number.and_then(|number| number.0.parse().ok()),
            sha256,
            md5: record.md5.and_then(Written::string).and_then(|text| hex::decode(&text)),
            size: record.size,
            time: stamp.map(Time::from_conda),
            licence: record.license.and_then(|l| serde_json::from_str(l.0).ok()).as_ref().and_then(licence),
            yanked: record.revoked.is_some_and(|r| r.0 == "true"),
            url: record.url.and_then(Written::string).map(Cow::into_owned),
        })
    }

    fn pypi(name: &str, file: &str, kind: ArtifactKind, entry: &Entry) -> Result<Self, BadRecord> {
        let record: PypiFile = entry.record.read().map_err(|e| BadRecord::Shape(e.to_string()))?;
        let version = ecosystem::python_file_version(name, file).ok_or(BadRecord::NoVersion)?;
        Ok(Self {
            file: file.to_owned(),
            kind,
            version,
            build: None,
            build_number: None,
            sha256: digest(record.hashes.get("sha256"))?,
            md5: record.hashes.get("md5").and_then(Value::as_str).and_then(hex::decode),
            size: record.size,
            time: record.upload_time.as_ref().and_then(Value::as_str).and_then(|t| t.parse().ok()),
            licence: None,
            yanked: !matches!(record.yanked, None | Some(Value::Bool(false) | Value::Null)),
            url: record.url,
        })
    }
}

/// A licence is a string, null, or in old records a list of strings.
fn licence(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Array(parts) => {
            let texts: Vec<&str> = parts.iter().filter_map(Value::as_str).collect();
            (!texts.is_empty()).then(|| texts.join(" AND "))
        }
        _ => None,
    }
}

/// Some records hold timestamps as floats; the fraction of a second matters to nobody.
#[expect(clippy::cast_possible_truncation, reason = "saturates, which is what an absurd timestamp deserves")]
fn truncate(stamp: f64) -> i64 {
    stamp as i64
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(ecosystem: Ecosystem, name: &str, file: &str, record: &str) -> Result<Artifact, BadRecord> {
        let entry = Entry { table: "files".into(), record: Canonical::parse(record).unwrap() };
        Artifact::from_parts(ecosystem, name, file, &entry)
    }

    #[test]
    fn legacy_conda_records_are_read_leniently() {
        let record = r#"{"name":"X","version":"1","build":"0","build_number":0,"noarch":"","license":["MIT",1],"timestamp":1500000000,"sha256":null,"md5":"00112233445566778899aabbccddeeff","vendor":{"a":[null]}}"#;
        let artifact = read(Ecosystem::Conda, "x", "X-1-0.tar.bz2", record).unwrap();
        assert_eq!(artifact.time, Some(Time::from_seconds(1_500_000_000)));
        assert_eq!(artifact.licence.as_deref(), Some("MIT"));
        assert_eq!((artifact.sha256, artifact.md5.is_some()), (None, true));
    }

    /// Members of records, as they should be and as they should not.
    pub(crate) fn member() -> impl Strategy<Value = (String, String)> {
        let keys = "name|version|build|build_number|sha256|md5|size|timestamp|license|revoked|url|depends|constrains|fn";
        let values = [
            "null",
            "true",
            "7",
            "7.5",
            "-1",
            "99999999999999999999",
            "\"\"",
            "\"x\"",
            "\"1.0\"",
            "\"a\\\"b\"",
            "\"a\\u0001\"",
            "[]",
            "{}",
            "[\"y >=1\",\"z\"]",
            "[1,{\"a\":\"}\"}]",
            "\"é\"",
        ];
        (keys, proptest::sample::select(values.to_vec())).prop_map(|(key, value)| (key, value.to_owned()))
    }

    /// A record of these members, of which each key counts once.
    pub(crate) fn of_members(members: Vec<(String, String)>) -> Canonical {
        let members: std::collections::BTreeMap<String, String> = members.into_iter().collect();
        let text: Vec<String> = members.iter().map(|(key, value)| format!("{key:?}:{value}")).collect();
        Canonical::parse(&format!("{{{}}}", text.join(","))).unwrap()
    }

    proptest! {
        #[test]
        fn what_is_read_without_a_parser_is_what_a_parser_reads(members in proptest::collection::vec(member(), 0..12)) {
            let mut members = members;
            members.extend([("name".to_owned(), "\"x\"".to_owned()), ("version".to_owned(), "\"1\"".to_owned())]);
            for of in [members.clone(), members.split_off(1)] {
                let record = of_members(of);
                if let Some(plain) = CondaRecord::plain(&record) {
                    prop_assert_eq!(plain, record.read::<CondaRecord<'_>>().unwrap());
                }
            }
        }
    }

    #[test]
    fn most_records_need_no_parser() {
        let record = r#"{"build":"py_0","build_number":0,"depends":["y >=1"],"license":null,"md5":"00","name":"x","sha256":"00","size":7,"version":"1"}"#;
        let record = Canonical::parse(record).unwrap();
        assert_eq!(CondaRecord::plain(&record), Some(record.read().unwrap()));
        for unusual in [r#"{"name":"x"}"#, r#"{"name":"x","version":1}"#, r#"{"name":"x\"","version":"1"}"#] {
            assert_eq!(CondaRecord::plain(&Canonical::parse(unusual).unwrap()), None, "{unusual}");
        }
    }

    #[test]
    fn bad_records_are_named() {
        let good = r#"{"name":"x","version":"1","build":"0"}"#;
        let conda = |file, record| read(Ecosystem::Conda, "x", file, record).unwrap_err();
        assert_eq!(conda("y-1-0.conda", good), BadRecord::Stem);
        assert_eq!(conda("x-1-0.exe", good), BadRecord::Kind);
        assert_eq!(conda("../x-1-0.conda", good), BadRecord::FileName);
        assert_eq!(
            conda("x-1-0.conda", r#"{"name":"y","version":"1","build":"0"}"#),
            BadRecord::Name("y".into())
        );
        assert!(matches!(conda("x-1-0.conda", r#"{"name":"x","version":1}"#), BadRecord::Shape(_)));
        assert!(matches!(conda("x-1-0.conda", "[]"), BadRecord::Shape(_)));
        assert_eq!(read(Ecosystem::Pypi, "x", "y-1.tar.gz", "{}").unwrap_err(), BadRecord::NoVersion);
    }

    #[test]
    fn yanked_files_are_seen_with_and_without_a_reason() {
        let yanked = |y: &str| {
            read(Ecosystem::Pypi, "x", "x-1.tar.gz", &format!(r#"{{"yanked":{y}}}"#)).unwrap().yanked
        };
        assert!(yanked("true") && yanked("\"broken\"") && yanked("\"\""));
        assert!(!yanked("false") && !yanked("null"));
    }
}
