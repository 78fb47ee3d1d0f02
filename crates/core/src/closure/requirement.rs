//! A dependency as records write it, as far as it tells which package files satisfy it.

use std::str::FromStr as _;

use rattler_conda_version::{ParseStrictness, Version, VersionSpec};
use wildmatch::WildMatch;

use crate::ecosystem::{self, Ecosystem};

/// A version, read once to be held against many dependencies.
#[derive(Debug, Clone)]
pub enum Numbered {
    /// By CEP 33.
    Conda(Version),
    /// By PEP 440.
    Pypi(pep440_rs::Version),
}

impl Numbered {
    /// Reads a version of an ecosystem; none if it is none.
    pub fn read(ecosystem: Ecosystem, text: &str) -> Option<Self> {
        match ecosystem {
            Ecosystem::Conda => Version::from_str(text).ok().map(Self::Conda),
            Ecosystem::Pypi => pep440_rs::Version::from_str(text).ok().map(Self::Pypi),
        }
    }
}

/// Longest dependency that is read, in bytes.
pub const REQUIREMENT_BYTES_MAX: usize = 1000;
/// Most parentheses in one: who reads them goes down one step for each.
const PARENTHESES_MAX: usize = 20;
/// Most wildcards in the pattern of a build: who matches goes back at each.
const STARS_MAX: usize = 8;

#[derive(Debug, Clone)]
enum Versions {
    Any,
    Conda(VersionSpec),
    Pypi(pep440_rs::VersionSpecifiers),
}

/// Whether a dependency is of a size and depth that whoever reads it can bear. Readers go down a step for each parenthesis
/// or bracket.
pub fn is_bounded(text: &str) -> bool {
    text.len() <= REQUIREMENT_BYTES_MAX && text.matches(['(', '[']).count() <= PARENTHESES_MAX
}

/// Whether a dependency may hold a regular expression (CEP 29, `^...$`). A few of them can take any memory and time; no
/// genuine record has one.
pub fn has_expression(text: &str) -> bool {
    text.contains('^')
}

/// One dependency. What of it is not understood restricts nothing.
#[derive(Debug, Clone)]
pub struct Requirement {
    /// The name, as it is looked up.
    pub name: String,
    version: Versions,
    build: Option<WildMatch>,
    build_number: Option<u64>,
    /// Whether something that restricts it was not understood.
    pub is_vague: bool,
}

impl Requirement {
    /// Reads a MatchSpec of a conda record (CEP 29), or what a wheel's `Requires-Dist` says (PEP 508). None where it requires nothing that a channel holds, or nobody can tell whether
    /// it does: a virtual package, another channel's package, a condition, a name that is none.
    pub fn parse(ecosystem: Ecosystem, text: &str) -> Option<Self> {
        if !is_bounded(text) {
            return None;
        }
        match ecosystem {
            Ecosystem::Conda => Self::conda(text),
            Ecosystem::Pypi => Self::pypi(text),
        }
    }

    /// `requests[socks]>=2.8.1,==2.8.*`. Behind `;` stands in which environments it is needed, and which that is nobody knows.
    fn pypi(text: &str) -> Option<Self> {
        if text.contains([';', '@']) {
            return None;
        }
        let split =
            text.find(|c: char| !c.is_ascii_alphanumeric() && !"._-".contains(c)).unwrap_or(text.len());
        let (name, rest) = text.trim_start().split_at_checked(split)?;
        let name = ecosystem::canonical_name(Ecosystem::Pypi, name.trim())?;
        let rest = rest.trim();
        let rest = match rest.strip_prefix('[') {
            Some(extras) => extras.split_once(']')?.1.trim(),
            None => rest,
        };
        let rest = rest.strip_prefix('(').and_then(|rest| rest.strip_suffix(')')).unwrap_or(rest);
        let (version, is_vague) = match pep440_rs::VersionSpecifiers::from_str(rest) {
            Ok(specifiers) if specifiers.is_empty() => (Versions::Any, false),
            Ok(specifiers) => (Versions::Pypi(specifiers), false),
            Err(_) => (Versions::Any, true),
        };
        Some(Self { name, version, build: None, build_number: None, is_vague })
    }

    fn conda(text: &str) -> Option<Self> {
        let text = text.split('#').next().unwrap_or_default().trim();
        if text.contains(';') || text.contains("::") || text.contains(" if ") {
            return None;
        }
        let (plain, keys) = match text.split_once('[') {
            Some((plain, rest)) => (plain.trim(), Some(rest.strip_suffix(']')?)),
            None => (text, None),
        };
        let split = plain.find(|c: char| c.is_whitespace() || "=<>!~".contains(c)).unwrap_or(plain.len());
        let (name, rest) = plain.split_at(split);
        let is_name = !name.is_empty()
            && !name.starts_with("__")
            && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b));
        if !is_name {
            return None;
        }
        let (version, build) = fields(rest.trim());
        let mut out = Self {
            name: name.to_ascii_lowercase(),
            version: Versions::Any,
            build: None,
            build_number: None,
            is_vague: false,
        };
        out.restrict_version(&version);
        out.restrict_build(build);
        for (key, value) in keys.map(members).unwrap_or_default() {
            match key {
                // A condition; or what lies elsewhere.
                "when" | "if" | "channel" | "subdir" | "url" | "fn" => return None,
                "version" => out.restrict_version(value),
                "build" => out.restrict_build(Some(value)),
                "build_number" => {
                    out.build_number = value.trim_start_matches('=').parse().ok();
                    out.is_vague |= out.build_number.is_none();
                }
                // What else it brings says nothing of which file it is.
                "extras" => {}
                _ => out.is_vague = true,
            }
        }
        Some(out)
    }

    fn restrict_version(&mut self, text: &str) {
        let text = text.trim();
        if !text.is_empty() && text != "*" {
            let read = VersionSpec::from_str(text, ParseStrictness::Lenient);
            self.is_vague |= read.is_err();
            self.version = read.map_or(Versions::Any, Versions::Conda);
        }
    }

    fn restrict_build(&mut self, text: Option<&str>) {
        // A regular expression restricts more than is understood here.
        let text = text.map(str::trim);
        self.is_vague |=
            text.is_some_and(|text| text.starts_with('^') || text.matches('*').count() > STARS_MAX);
        let text = text.filter(|text| {
            !text.is_empty()
                && *text != "*"
                && !text.starts_with('^')
                && text.matches('*').count() <= STARS_MAX
        });
        self.build = text.map(WildMatch::new_case_insensitive);
    }

    /// Whether a version satisfies it; one that is none may.
    pub fn allows_version(&self, version: Option<&Numbered>) -> bool {
        match (&self.version, version) {
            (Versions::Conda(spec), Some(Numbered::Conda(version))) => spec.matches(version),
            (Versions::Pypi(spec), Some(Numbered::Pypi(version))) => spec.contains(version),
            _ => true,
        }
    }

    /// Whether a build does.
    pub fn allows_build(&self, build: &str, build_number: u64) -> bool {
        self.build.as_ref().is_none_or(|pattern| pattern.matches(build))
            && self.build_number.is_none_or(|number| number == build_number)
    }
}

/// Version and build behind a name: `>=1.2,<2`, `1.2.* py_0`, `=1.2=py_0`.
fn fields(rest: &str) -> (String, Option<&str>) {
    // `name=1.8=build`: the version is that and no other.
    if let Some((version, build)) = rest.strip_prefix('=').and_then(|rest| rest.split_once('='))
        && !version.is_empty()
        && !rest.contains(|c: char| c.is_whitespace() || ",|<>!~()".contains(c))
    {
        let is_pattern = version.contains('*');
        return (if is_pattern { version.to_owned() } else { format!("=={version}") }, Some(build));
    }
    let is_end = |rest: &str| !rest.trim_end().ends_with(['=', '<', '>', '!', '~', ',', '|']);
    // The build is the last word, unless an operator or a comma stands before it.
    match rest.rsplit_once(char::is_whitespace) {
        Some((version, build))
            if is_end(version) && !build.starts_with(['=', '<', '>', '!', '~', ',', '|']) =>
        {
            (version.split_whitespace().collect(), Some(build))
        }
        _ => (rest.split_whitespace().collect(), None),
    }
}

/// The keys between brackets with their values.
fn members(text: &str) -> Vec<(&str, &str)> {
    let mut out = Vec::new();
    let mut rest = text.trim();
    while let Some((key, value)) = rest.split_once('=') {
        let value = value.trim_start();
        let (value, next) = match value.chars().next() {
            Some(quote @ ('"' | '\'')) => value[1..].split_once(quote).unwrap_or((&value[1..], "")),
            Some('[') => value[1..].split_once(']').unwrap_or((&value[1..], "")),
            _ => {
                let end = value.find(',').unwrap_or(value.len());
                value.split_at(end)
            }
        };
        out.push((key.trim(), value));
        rest = next.trim_start_matches([',', ' ']);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dependencies_say_which_files_satisfy_them() {
        let version = |text: &str| Numbered::read(Ecosystem::Conda, text);
        for (text, of, build, expected) in [
            ("x", "1", "a", true),
            ("X", "1", "a", true),
            ("x *", "1", "a", true),
            ("x >=1.2,<2", "1.3", "a", true),
            ("x >=1.2, <2", "2.0", "a", false),
            ("x >=1.2,<2.0a0", "2.0a1", "a", false),
            ("x>=1.2", "1.1", "a", false),
            // Behind a blank a version is that version; behind `=` it is the beginning of one.
            ("x 1.8", "1.8", "a", true),
            ("x 1.8", "1.8.1", "a", false),
            ("x=1.8", "1.8.1", "a", true),
            ("x 1.8.*", "1.8.1", "a", true),
            ("x 1.8.* *_cp312", "1.8.1", "0_cp312", true),
            ("x 1.8.* *_cp312", "1.8.1", "0_cp311", false),
            ("x 1.8 h_0", "1.8", "h_0", true),
            ("x 1.8 h_0", "1.8", "h_1", false),
            ("x=1.8=h_0", "1.8", "h_0", true),
            ("x=1.8=h_0", "1.8.1", "h_0", false),
            ("x * cuda*", "3", "cuda_1", true),
            ("x * cuda*", "3", "cpu_1", false),
            ("x * ^no.*", "3", "cpu_1", true),
            ("x=1.8.*=h_*", "1.8.3", "h_0", true),
            ("x=1.8.*=h_*", "1.9", "h_0", false),
            ("x=1.8|=1.9", "1.9.1", "a", true),
            ("x=1.8|=1.9", "2", "a", false),
            ("x=1.7,>=1.7.1", "1.7.2", "a", true),
            ("x=1.7,>=1.7.1", "1.7.0", "a", false),
            ("x 1|2", "2", "a", true),
            ("x 1|2", "3", "a", false),
            ("x[version=\">=2\",build=h_0]", "2", "h_0", true),
            ("x[version=\">=2\",build=h_0]", "1", "h_0", false),
            ("x[version='>=2', build_number=3]", "2", "h_0", false),
            ("x[extras=[a,b],version=\"<2\"]", "2", "h_0", false),
            ("x  >=1  # of old", "0.9", "a", false),
            ("x ><!", "9", "a", true),
        ] {
            let requirement = Requirement::parse(Ecosystem::Conda, text).unwrap();
            let number = if build == "h_0" { 7 } else { 0 };
            let is =
                requirement.allows_version(version(of).as_ref()) && requirement.allows_build(build, number);
            assert_eq!((requirement.name.as_str(), is), ("x", expected), "{text} {of} {build}");
        }
        for nothing in [
            "__glibc >=2.17",
            "conda-forge::x",
            "x[channel=other]",
            "x[subdir=win-64,version=1]",
            "x[url='https://upstream.example/x.conda']",
            "x[version=\">=2\",when=\"python >=3.10\"]",
            "x; if python >=3",
            "",
            ">=2",
            "x[",
            "é",
        ] {
            assert!(Requirement::parse(Ecosystem::Conda, nothing).is_none(), "{nothing}");
        }
    }

    #[test]
    fn what_would_take_long_or_is_not_understood_is_not_believed() {
        // Who reads this goes down one step for each parenthesis.
        let deep = format!("x {}1{}", "(".repeat(100_000), ")".repeat(100_000));
        assert!(Requirement::parse(Ecosystem::Conda, &deep).is_none());
        assert!(
            Requirement::parse(Ecosystem::Conda, &format!("x {}1{}", "(".repeat(21), ")".repeat(21)))
                .is_none()
        );
        assert!(Requirement::parse(Ecosystem::Pypi, &format!("x{}", ">1,".repeat(1000))).is_none());
        for vague in ["x * ^cuda.*$", "x[build_number='>=3']", "x[md5=0]", "x ><!", "x[track_features=a]"] {
            assert!(Requirement::parse(Ecosystem::Conda, vague).unwrap().is_vague, "{vague}");
        }
        assert!(!Requirement::parse(Ecosystem::Conda, "x[version='>=1',extras=[a]]").unwrap().is_vague);
    }

    #[test]
    fn what_wheels_require_is_read_where_it_is_required_everywhere() {
        for (text, of, expected) in [
            ("X_y", "1", true),
            ("x-y>=1.2,<2", "1.3", true),
            ("x.y >=1.2,<2", "2.0", false),
            ("x-y (>=1.2)", "1.1", false),
            ("x-y[socks, more]>=1.2", "1.1", false),
            ("x-y == 1.*", "1.1", true),
            ("x-y ~=1.4", "2", false),
            ("x-y >> 1", "0", true),
        ] {
            let requirement = Requirement::parse(Ecosystem::Pypi, text).unwrap();
            let version = Numbered::read(Ecosystem::Pypi, of);
            assert_eq!(
                (requirement.name.as_str(), requirement.allows_version(version.as_ref())),
                ("x-y", expected),
                "{text}"
            );
        }
        for nothing in [
            "x; python_version < \"3.9\"",
            "x ; extra == 'y'",
            "x @ https://upstream.example/x.whl",
            "",
            "[x]",
        ] {
            assert!(Requirement::parse(Ecosystem::Pypi, nothing).is_none(), "{nothing}");
        }
    }
}
