//! With which versions of Python an artifact can be used, as far as its record and its file name say.

use std::str::FromStr as _;

use serde::Deserialize;
use serde_json::Value;

use crate::closure::{Numbered, Requirement};
use crate::ecosystem::{ArtifactKind, Ecosystem};
use crate::policy::Truth;
use crate::record::Artifact;
use crate::shard::Entry;

/// A version of Python as policies name it: `3.12` is any release of that line, `3.12.4` that release.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Python {
    text: String,
    line: (u64, u64),
    /// The versions to try: those of the line, or the one release.
    tried: Vec<String>,
}

/// Releases of a line that are tried one by one; no line had more.
const RELEASES: u32 = 40;
/// A release that no line had: what suits it suits whatever comes.
const RELEASES_LAST: u32 = 999;

impl Python {
    /// Reads `3.12` or `3.12.4`.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let parts: Vec<u64> = text.split('.').map(|part| part.parse().ok()).collect::<Option<_>>()?;
        let tried = match parts.as_slice() {
            [_, _] => {
                (0..RELEASES).chain([RELEASES_LAST]).map(|release| format!("{text}.{release}")).collect()
            }
            [_, _, _] => vec![text.to_owned()],
            _ => return None,
        };
        Some(Self { text: text.to_owned(), line: (parts[0], parts[1]), tried })
    }

    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether the artifact can be used with it. What asks for no Python at all can be used with any.
    pub fn suits(&self, ecosystem: Ecosystem, artifact: &Artifact, entry: &Entry) -> Truth {
        match ecosystem {
            Ecosystem::Conda => self.suits_conda(entry),
            Ecosystem::Pypi => {
                let tags = match artifact.kind {
                    ArtifactKind::Wheel => {
                        wheel_tags(&artifact.file).is_none_or(|tags| self.suits_tags(&tags))
                    }
                    ArtifactKind::Sdist | ArtifactKind::Conda | ArtifactKind::TarBz2 => true,
                };
                if tags { self.suits_requirement(entry) } else { Truth::False }
            }
        }
    }

    fn suits_conda(&self, entry: &Entry) -> Truth {
        #[derive(Deserialize)]
        struct Depends {
            #[serde(default)]
            depends: Vec<Value>,
        }
        let Ok(Depends { depends }) = entry.record.read() else { return Truth::Unknown };
        let about = |entry: &Value| -> Option<Truth> {
            let Some(text) = entry.as_str() else { return Some(Truth::Unknown) };
            // However it is written: `python>=3.9`, `conda-forge::python`, `python[version=">=3.9"]`.
            let plain = text.rsplit("::").next().unwrap_or_default().trim_start().to_ascii_lowercase();
            let end =
                plain.find(|c: char| !c.is_ascii_alphanumeric() && !"._-".contains(c)).unwrap_or(plain.len());
            if !matches!(&plain[..end], "python" | "python_abi") {
                return None;
            }
            let Some(required) = Requirement::parse(Ecosystem::Conda, &plain) else {
                return Some(Truth::Unknown);
            };
            let suits = self.any(|v| required.allows_version(Numbered::read(Ecosystem::Conda, v).as_ref()));
            Some(if required.is_vague { suits.min(Truth::Unknown) } else { suits })
        };
        depends.iter().filter_map(about).min().unwrap_or(Truth::True)
    }

    fn suits_requirement(&self, entry: &Entry) -> Truth {
        #[derive(Deserialize)]
        #[serde(rename_all = "kebab-case")]
        struct Requires {
            requires_python: Option<String>,
        }
        let Ok(Requires { requires_python }) = entry.record.read() else { return Truth::Unknown };
        let Some(text) = requires_python.filter(|text| !text.trim().is_empty()) else { return Truth::True };
        let spec = pep440_rs::VersionSpecifiers::from_str(&text);
        spec.map_or(Truth::Unknown, |spec| {
            self.any(|v| pep440_rs::Version::from_str(v).is_ok_and(|v| spec.contains(&v)))
        })
    }

    fn any(&self, suits: impl Fn(&str) -> bool) -> Truth {
        self.tried.iter().any(|version| suits(version)).into()
    }

    /// Whether one of the interpreters that a wheel is built for is this one (PEP 425).
    fn suits_tags(&self, tags: &WheelTags<'_>) -> bool {
        let (major, minor) = self.line;
        tags.python.split('.').any(|tag| {
            let split = tag.find(|c: char| c.is_ascii_digit()).unwrap_or(tag.len());
            let (interpreter, digits) = tag.split_at(split);
            let number = |text: &str| text.parse::<u64>().ok();
            let (tag_major, tag_minor) = (digits.get(..1).and_then(number), digits.get(1..).and_then(number));
            if tag_major != Some(major) {
                return false;
            }
            match interpreter {
                "py" => tag_minor.is_none_or(|least| minor >= least),
                "cp" if tags.abi.split('.').any(|abi| abi == "abi3" || abi == "none") => {
                    tag_minor.is_none_or(|least| minor >= least)
                }
                "cp" => tag_minor.is_none_or(|exact| minor == exact),
                // Other interpreters are not the one that people mean by Python.
                _ => false,
            }
        })
    }
}

/// The tags of a wheel's name (PEP 427).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WheelTags<'a> {
    /// Interpreters, joined by dots.
    pub python: &'a str,
    /// Binary interfaces, joined by dots.
    pub abi: &'a str,
    /// Platforms, joined by dots.
    pub platform: &'a str,
}

/// The tags of a wheel; none of a name that has none.
pub fn wheel_tags(file: &str) -> Option<WheelTags<'_>> {
    let mut parts = file.strip_suffix(".whl")?.rsplit('-');
    let (platform, abi, python) = (parts.next()?, parts.next()?, parts.next()?);
    Some(WheelTags { python, abi, platform })
}

/// Whether a version is a release that installers take without being told so: no alpha, beta, candidate or development
/// version (PEP 440).
pub fn is_final(version: &str) -> bool {
    pep440_rs::Version::from_str(version).is_ok_and(|version| !version.any_prerelease())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::canon::Canonical;

    fn suits(ecosystem: Ecosystem, file: &str, record: &str, python: &str) -> Truth {
        let entry = Entry { table: "t".into(), record: Canonical::parse(record).unwrap() };
        let artifact = Artifact::from_parts(ecosystem, "x", file, &entry).unwrap();
        Python::parse(python).unwrap().suits(ecosystem, &artifact, &entry)
    }

    #[test]
    fn records_and_file_names_say_with_which_python_an_artifact_can_be_used() {
        use Truth::{False, True, Unknown};
        for (file, requires, python, expected) in [
            ("x-1-py3-none-any.whl", "", "3.12", True),
            ("x-1-py2.py3-none-any.whl", "", "2.7", True),
            ("x-1-py2-none-any.whl", "", "3.12", False),
            ("x-1-py3-none-any.whl", ">=3.9", "3.8", False),
            ("x-1-py3-none-any.whl", ">=3.9.2", "3.9", True),
            ("x-1-py3-none-any.whl", ">=3.9.2", "3.9.1", False),
            ("x-1-cp312-cp312-manylinux2014_x86_64.whl", "", "3.12", True),
            ("x-1-cp312-cp312-manylinux2014_x86_64.whl", "", "3.13", False),
            ("x-1-cp39-abi3-win_amd64.whl", "", "3.13", True),
            ("x-1-cp39-abi3-win_amd64.whl", "", "3.8", False),
            ("x-1-pp310-pypy310_pp73-win_amd64.whl", "", "3.10", False),
            ("x-1.tar.gz", ">=3.9,<3.13", "3.13", False),
            ("x-1.tar.gz", "three or more", "3.13", Unknown),
        ] {
            let record = format!(r#"{{"requires-python":"{requires}"}}"#);
            assert_eq!(suits(Ecosystem::Pypi, file, &record, python), expected, "{file} {requires} {python}");
        }
        for (depends, python, expected) in [
            (r#"["python >=3.9,<3.13.0a0"]"#, "3.12", True),
            (r#"["python >=3.9,<3.13.0a0"]"#, "3.13", False),
            (r#"["python >=3.9.5,<3.9.10"]"#, "3.9", True),
            (r#"["python ==3.12.4"]"#, "3.12", True),
            (r#"["python[version='>=3.12']"]"#, "3.8", False),
            (r#"["conda-forge::python >=3.12"]"#, "3.8", False),
            (r#"["Python >=3.12"]"#, "3.8", False),
            (r#"["python[version='>=3.8',when='x']"]"#, "3.8", Unknown),
            (r#"["pythonic >=3.12"]"#, "3.8", True),
            (r#"[7]"#, "3.8", Unknown),
            (r#"["python >=3.12,<3.13.0a0","python_abi 3.12.* *_cp312"]"#, "3.12", True),
            (r#"["python_abi 3.12.* *_cp312"]"#, "3.11", False),
            (r#"["python"]"#, "2.7", True),
            (r#"["python>=3.9"]"#, "3.8", False),
            (r#"["libzlib >=1.2"]"#, "3.8", True),
            (r#"["python ][]["]"#, "3.8", Unknown),
            ("7", "3.8", Unknown),
        ] {
            let record = format!(r#"{{"name":"x","version":"1","build":"0","depends":{depends}}}"#);
            assert_eq!(
                suits(Ecosystem::Conda, "x-1-0.conda", &record, python),
                expected,
                "{depends} {python}"
            );
        }
        assert!(["3", "", "3.x", "3.1.2.3"].iter().all(|bad| Python::parse(bad).is_none()));
    }
}
