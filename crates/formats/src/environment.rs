//! What people say that they need: conda's `environment.yml`, pip's requirements files, plain specs, and what a lock file pins.
//!
//! Only the specs are read. What a file says of channels, variables and options decides nothing here, since everything
//! comes from the station's own channels; what asks for something that no channel can answer (a URL, a path, another
//! file) is listed with its reason and not passed over.

use std::collections::BTreeSet;

use airlock_core::ecosystem::Ecosystem;
use airlock_core::lock::{Contents, LockForm, Locked, LockedFile};
use serde::Deserialize;
use serde_json::Value;

use crate::limits::{ENVIRONMENT_BYTES_MAX, ENVIRONMENT_SPECS_MAX};
use crate::locks::{self, LockError};

/// The subdir of what runs on any machine.
const NOARCH: &str = "noarch";
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
    /// Reads a file by what it holds: a lock file, as far as it is for machines of this subdir; else a requirements file of pip,
    /// or an `environment.yml`.
    ///
    /// # Errors
    ///
    /// Why it is none of them. A lock file that cannot be read is not taken for anything else.
    pub fn read(text: &str, subdir: &str, is_requirements: bool) -> Result<Self, String> {
        match locks::read(text.as_bytes()) {
            // Requirements are read as such, pinned or not.
            Ok(locked) if locked.form != LockForm::Requirements => Ok(Self::locked(&locked, subdir)),
            Err(error) if error != LockError::Unknown && !is_environment(text) => Err(error.to_string()),
            _ if is_requirements => Self::requirements(text),
            _ => Self::yaml(text),
        }
    }

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
    /// packages, and these versions of Python packages. What it names otherwise, and a platform that it is not for, no channel
    /// can answer.
    pub fn locked(contents: &Contents, subdir: &str) -> Self {
        let mut out = Self::default();
        let conda = contents.packages.iter().filter(|package| package.ecosystem == Ecosystem::Conda);
        let platforms = conda.flat_map(|package| &package.files).filter_map(|file| file.subdir.as_deref());
        let platforms: BTreeSet<&str> = platforms.filter(|of| *of != NOARCH).collect();
        if !platforms.is_empty() && !platforms.contains(subdir) {
            let others: Vec<&str> = platforms.into_iter().collect();
            out.refuse(subdir, &format!("the lock file is for {} alone", others.join(", ")));
        }
        if contents.left_out > 0 {
            let entries =
                if contents.left_out == 1 { "1 entry" } else { &format!("{} entries", contents.left_out) };
            out.refuse(
                entries,
                "the lock file names a folder, a place or a range there, and no file of a package",
            );
        }
        for package in &contents.packages {
            let Locked { ecosystem, name, version, files } = package;
            match ecosystem {
                Ecosystem::Pypi => out.pypi.push(format!("{name}=={version}")),
                Ecosystem::Conda if files.is_empty() => out.conda.push(format!("{name}=={version}")),
                Ecosystem::Conda => {
                    let here = |file: &&LockedFile| {
                        file.subdir.as_deref().is_none_or(|of| of == subdir || of == NOARCH)
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
    let bytes = match (file.sha256, &file.md5) {
        (Some(sha256), _) => format!(",sha256='{sha256}'"),
        (None, Some(md5)) => format!(",md5='{md5}'"),
        (None, None) => String::new(),
    };
    format!("{name}[version='=={version}'{}{bytes}]", build.unwrap_or_default())
}

/// Whether a text has the list of an `environment.yml`.
fn is_environment(text: &str) -> bool {
    text.lines().any(|line| line.starts_with("dependencies"))
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
    fn what_a_lock_file_does_not_pin_for_a_machine_is_not_looked_at_and_said() {
        let locked = |text: &str| Environment::read(text, "linux-64", false);
        let md5 = "ab".repeat(16);
        let explicit = |subdir: &str| {
            format!("@EXPLICIT\nhttps://upstream.example/main/{subdir}/x-1.0-h_0.conda#{md5}\n")
        };
        let other = locked(&explicit("osx-64")).unwrap();
        assert_eq!(other.unanswerable, ["linux-64: the lock file is for osx-64 alone"]);
        // What runs anywhere beside it does not make it one for this machine.
        let more = "https://upstream.example/main/noarch/y-1.0-0.conda\n";
        assert_eq!(locked(&(explicit("osx-64") + more)).unwrap().unanswerable.len(), 1);
        let here = locked(&explicit("linux-64")).unwrap();
        assert_eq!(here.conda, [format!("x[version='==1.0',build='h_0',md5='{md5}']")]);
        assert!(here.unanswerable.is_empty());
        assert!(locked(&explicit("noarch")).unwrap().unanswerable.is_empty());

        let uv = |source: &str| {
            let idna = "[[package]]\nname = \"idna\"\nversion = \"3.6\"\nsource = { registry = \"https://upstream.example/simple\" }\n";
            format!("version = 1\n{idna}[[package]]\nname = \"part\"\nversion = \"1\"\nsource = {source}\n")
        };
        let folder = locked(&uv("{ directory = \"../part\" }")).unwrap();
        assert_eq!((folder.pypi.len(), folder.unanswerable.len()), (1, 1), "{folder:?}");
        assert!(folder.unanswerable[0].starts_with("1 entry: the lock file names a folder"));
        assert!(locked(&uv("{ editable = \".\" }")).unwrap().unanswerable.is_empty(), "the project itself");
    }

    #[test]
    fn a_lock_file_that_cannot_be_read_is_taken_for_nothing_else() {
        for (text, is_requirements, says) in [
            ("version: 99\npackages:\n- conda: x\n", false, "version 99 is not known"),
            ("version = 7\n", false, "version 7 is not known"),
            ("lock-version = \"3.0\"\n", false, "version 3.0 is not known"),
            ("@EXPLICIT\n", true, "it pins no version"),
            ("name: x\n", false, "no list `dependencies`"),
            ("dependencies: 1\n", false, "invalid type"),
        ] {
            let read = Environment::read(text, "linux-64", is_requirements);
            assert!(read.as_ref().is_err_and(|why| why.contains(says)), "{text}: {read:?}");
        }
        assert_eq!(Environment::read("idna>=3\n", "linux-64", true).unwrap().pypi, ["idna>=3"]);
        assert_eq!(Environment::read("idna==3\n", "linux-64", true).unwrap().pypi, ["idna==3"]);
        let environment = Environment::read("version: 9\ndependencies: [x]\n", "linux-64", false).unwrap();
        assert_eq!(environment.conda, ["x"]);
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
