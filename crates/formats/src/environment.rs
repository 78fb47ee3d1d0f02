//! What people say that they need: conda's `environment.yml`, pip's requirements files, plain specs, and what a lock file pins.
//!
//! Only the specs are read. What a file says of channels, variables and options decides nothing here, since everything
//! comes from the station's own channels; what asks for something that no channel can answer (a URL, a path, another
//! file) is listed with its reason and not passed over.

use airlock_core::ecosystem::Ecosystem;
use airlock_core::lock::{Contents, Locked, LockedFile};
use serde::Deserialize;
use serde_json::Value;

use crate::limits::{ENVIRONMENT_BYTES_MAX, ENVIRONMENT_SPECS_MAX};

/// Longest name or line that is repeated to people, in characters.
const SHOWN_CHARS: usize = 120;

/// What somebody needs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Environment {
    /// MatchSpecs of conda packages.
    pub conda: Vec<String>,
    /// Requirements of Python packages (PEP 508), without what stands behind `;`.
    pub pypi: Vec<String>,
    /// What no channel can answer, each with its reason.
    pub unanswerable: Vec<String>,
}

#[derive(Deserialize)]
struct Document {
    #[serde(default)]
    dependencies: Option<Vec<Value>>,
}

impl Environment {
    /// Reads an `environment.yml`: `dependencies` with conda specs, and a map with `pip` in it.
    ///
    /// # Errors
    ///
    /// What is no YAML, or has no list of dependencies; more than [`ENVIRONMENT_SPECS_MAX`].
    pub fn yaml(text: &str) -> Result<Self, String> {
        let json = crate::feeds::yaml::to_json(text, ENVIRONMENT_BYTES_MAX)?;
        let document: Document = serde_json::from_str(&json).map_err(|e| e.to_string())?;
        let dependencies = document.dependencies.ok_or("it has no list `dependencies`")?;
        let mut out = Self::default();
        for one in dependencies {
            match one {
                Value::String(spec) => out.conda.push(spec),
                Value::Object(map) => {
                    for (kind, list) in map {
                        match (kind.as_str(), list) {
                            ("pip", Value::Array(lines)) => {
                                for line in lines.iter().filter(|line| !line.is_string()) {
                                    out.refuse(&line.to_string(), "it is no requirement");
                                }
                                let lines: Vec<&str> = lines.iter().filter_map(Value::as_str).collect();
                                out.requirement_lines(lines)?;
                            }
                            ("pip", _) => return Err("`pip` is not followed by a list".to_owned()),
                            _ => out.refuse(&kind, "packages of this kind come from no channel here"),
                        }
                    }
                }
                _ => return Err("a dependency is neither text nor a map".to_owned()),
            }
        }
        out.bounded()
    }

    /// Reads a requirements file of pip.
    ///
    /// # Errors
    ///
    /// More than [`ENVIRONMENT_SPECS_MAX`] requirements.
    pub fn requirements(text: &str) -> Result<Self, String> {
        let joined = text.replace("\\\r\n", " ").replace("\\\n", " ");
        let mut out = Self::default();
        out.requirement_lines(joined.lines())?;
        out.bounded()
    }

    /// What a lock file pins, as far as it is for machines of this subdir: exactly these builds with these bytes of conda
    /// packages, and these versions of Python packages.
    pub fn locked(contents: &Contents, subdir: &str) -> Self {
        let mut out = Self::default();
        for package in &contents.packages {
            let Locked { ecosystem, name, version, files } = package;
            match ecosystem {
                Ecosystem::Pypi => out.pypi.push(format!("{name}=={version}")),
                Ecosystem::Conda if files.is_empty() => out.conda.push(format!("{name}=={version}")),
                Ecosystem::Conda => {
                    let here = |file: &&LockedFile| {
                        file.subdir.as_deref().is_none_or(|of| of == subdir || of == "noarch")
                    };
                    out.conda.extend(files.iter().filter(here).map(|file| pinned(name, version, file)));
                }
            }
        }
        out
    }

    fn requirement_lines<'a>(&mut self, lines: impl IntoIterator<Item = &'a str>) -> Result<(), String> {
        for line in lines {
            // A comment begins the line, or follows a blank.
            let line = line.split_once(" #").map_or(line, |(line, _)| line).trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            if line.starts_with('-') {
                // What else stands in options says where pip looks and what it believes.
                if ["-r", "--requirement", "-c", "--constraint", "-e", "--editable"]
                    .iter()
                    .any(|o| line.starts_with(o))
                {
                    self.refuse(line, "it names another file or a project");
                }
                continue;
            }
            // Options of one requirement, as `--hash=`.
            let line = line.split_once(" --").map_or(line, |(line, _)| line);
            let (requirement, _marker) = line.split_once(';').unwrap_or((line, ""));
            let requirement = requirement.trim();
            if requirement.contains("://") || requirement.contains('@') || requirement.starts_with(['.', '/'])
            {
                self.refuse(line, "it names a place and not a package of a channel");
                continue;
            }
            self.pypi.push(requirement.to_owned());
        }
        if self.pypi.len() > ENVIRONMENT_SPECS_MAX { Err(too_many()) } else { Ok(()) }
    }

    fn refuse(&mut self, what: &str, why: &str) {
        let what: String = what.chars().take(SHOWN_CHARS).collect();
        self.unanswerable.push(format!("{what}: {why}"));
    }

    fn bounded(self) -> Result<Self, String> {
        let count = self.conda.len() + self.pypi.len() + self.unanswerable.len();
        if count > ENVIRONMENT_SPECS_MAX { Err(too_many()) } else { Ok(self) }
    }
}

/// A MatchSpec that only one file satisfies, as far as the lock file tells which.
fn pinned(name: &str, version: &str, file: &LockedFile) -> String {
    let stem = file
        .name
        .as_deref()
        .and_then(|file| file.strip_suffix(".conda").or_else(|| file.strip_suffix(".tar.bz2")));
    let build = stem.and_then(|stem| stem.rsplit_once('-')).map(|(_, build)| format!(",build='{build}'"));
    let sha256 = file.sha256.map(|sha256| format!(",sha256='{sha256}'"));
    format!("{name}[version='=={version}'{}{}]", build.unwrap_or_default(), sha256.unwrap_or_default())
}

fn too_many() -> String {
    format!("it asks for more than {ENVIRONMENT_SPECS_MAX} packages")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_environment_file_asks_for_conda_and_python_packages() {
        let text = "name: x\nchannels: [conda-forge]\ndependencies:\n  - python=3.12\n  - numpy >=1.26,<2  # old\n  - pip\n  - pip:\n    - requests>=2 ; python_version > '3'\n    - -r more.txt\n    - git+https://upstream.example/x.git\n    - {x: y}\nprefix: /x\n";
        let environment = Environment::yaml(text).unwrap();
        assert_eq!(environment.conda, ["python=3.12", "numpy >=1.26,<2", "pip"]);
        assert_eq!(environment.pypi, ["requests>=2"]);
        assert_eq!(environment.unanswerable.len(), 3, "{:?}", environment.unanswerable);
        for bad in
            ["", "a: [", "name: x", "dependencies: 1", "dependencies: [1, [2]]", "dependencies:\n- pip: x"]
        {
            assert!(Environment::yaml(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_lock_file_asks_for_exactly_what_it_pins_for_a_machine() {
        let sha = "ab".repeat(32);
        let text = format!(
            "@EXPLICIT\nhttps://upstream.example/main/linux-64/x-1.0-h_0.conda#{sha}\nhttps://upstream.example/main/osx-64/x-1.0-h_1.conda\nhttps://upstream.example/main/noarch/y-2-0.tar.bz2\n"
        );
        let environment = Environment::locked(&crate::locks::read(text.as_bytes()).unwrap(), "linux-64");
        assert_eq!(
            environment.conda,
            [
                format!("x[version='==1.0',build='h_0',sha256='{sha}']"),
                "y[version='==2',build='0']".to_owned()
            ]
        );
        let uv = "version = 1\n[[package]]\nname = \"idna\"\nversion = \"3.6\"\nsource = { registry = \"https://upstream.example/simple\" }\n";
        let environment = Environment::locked(&crate::locks::read(uv.as_bytes()).unwrap(), "linux-64");
        assert_eq!((environment.pypi, environment.conda.len()), (vec!["idna==3.6".to_owned()], 0));
    }

    #[test]
    fn a_requirements_file_is_read_as_pip_reads_it() {
        let text = "# all\n--index-url https://upstream.example/simple\nDjango[bcrypt]==4.2 \\\n    --hash=sha256:00 \\\n    --hash=sha256:01\nidna>=3 # why\nx#y\n./local\n-e .\nz @ https://upstream.example/z.whl\n";
        let environment = Environment::requirements(text).unwrap();
        assert_eq!(environment.pypi, ["Django[bcrypt]==4.2", "idna>=3", "x#y"]);
        assert_eq!(environment.unanswerable.len(), 3, "{:?}", environment.unanswerable);
        assert!(Environment::requirements(&"x\n".repeat(ENVIRONMENT_SPECS_MAX + 1)).is_err());
    }
}
