//! What a directory is, by what lies in it; names of files outside say nothing.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use airlock_core::bundle::MANIFEST;
use airlock_core::ecosystem::{self, ArtifactKind, Ecosystem};
use airlock_core::litter::is_litter;
use airlock_core::volume::LABEL;

use super::Left;
use crate::error::{Error, Result, file_error};

/// Directories of which each is all that lies in the one above, such as `main/pkgs/`, are looked through so deep.
const DEPTH_MAX: usize = 4;
/// Entries of one directory that are looked at.
const ENTRIES_MAX: usize = 2_000_000;
/// Largest `pixi-pack.json`, in bytes.
const PACK_BYTES_MAX: u64 = 64 << 10;
/// The version of the layout of pixi-pack that is known.
const PACK_VERSION: &str = "1";
const PACK: &str = "pixi-pack.json";

/// What a tree is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// A conda channel as files: `<subdir>/` with an index, or with packages alone.
    CondaChannel,
    /// Wheels and source distributions in a folder, as `pip download` leaves them.
    PipDownload,
    /// What bandersnatch keeps: `web/simple/<project>/` and `web/packages/`.
    Bandersnatch,
    /// Another index of static pages: `simple/<project>/`.
    SimpleIndex,
    /// What pixi-pack packs: `pixi-pack.json`, `channel/<subdir>/`, and wheels in `pypi/`.
    PixiPack,
    /// Archives of a conda channel, one for each platform: `<channel>-<platform>.tar.gz`.
    AirGapArchive,
}

impl Kind {
    /// For people.
    pub const fn name(self) -> &'static str {
        match self {
            Self::CondaChannel => "a conda channel",
            Self::PipDownload => "a folder of Python packages",
            Self::Bandersnatch => "a bandersnatch mirror",
            Self::SimpleIndex => "a Simple index",
            Self::PixiPack => "a pixi-pack",
            Self::AirGapArchive => "an archive of a conda channel",
        }
    }
}

/// Where the packages of one ecosystem lie.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Part {
    pub(super) root: PathBuf,
    /// conda: those that hold anything.
    pub(super) subdirs: Vec<String>,
}

/// A tree that was recognised.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recognised {
    /// What it is.
    pub kind: Kind,
    conda: Option<Part>,
    pypi: Option<Part>,
}

/// Whether a directory is a bundle, a volume of one, or holds volumes.
pub fn is_bundle(dir: &Path) -> bool {
    let is_one = |dir: &Path| dir.join(MANIFEST).exists() || dir.join(LABEL).exists();
    let below = || std::fs::read_dir(dir).into_iter().flatten().flatten();
    is_one(dir) || below().any(|entry| is_one(&entry.path()))
}

/// What lies at `root`, if it is something that is known. Nothing is opened but `pixi-pack.json`.
///
/// # Errors
///
/// If a directory cannot be read, or the pack is of a later layout.
pub fn recognise(root: &Path) -> Result<Option<Recognised>> {
    let mut at = root.to_owned();
    for _ in 0..=DEPTH_MAX {
        if let Some(found) = directly(&at)? {
            return Ok(Some(found));
        }
        let mut inside = names(&at)?.into_iter();
        match (inside.next(), inside.next()) {
            (Some(only), None) if at.join(&only).is_dir() => at.push(only),
            _ => return Ok(None),
        }
    }
    Ok(None)
}

fn directly(root: &Path) -> Result<Option<Recognised>> {
    if root.join(PACK).is_file() {
        check_pack(&root.join(PACK))?;
        let wheels = Some(root.join("pypi")).filter(|dir| dir.is_dir());
        let pypi = match wheels {
            Some(dir) => pypi_files(&dir)?,
            None => None,
        };
        let conda = conda_channel(&root.join("channel"))?;
        let is_empty = conda.is_none() && pypi.is_none();
        return Ok((!is_empty).then_some(Recognised { kind: Kind::PixiPack, conda, pypi }));
    }
    let pypi = |kind, root: PathBuf| {
        Some(Recognised { kind, conda: None, pypi: Some(Part { root, subdirs: Vec::new() }) })
    };
    if root.join("web/simple").is_dir() {
        return Ok(pypi(Kind::Bandersnatch, root.join("web")));
    }
    if root.join("simple").is_dir() {
        return Ok(pypi(Kind::SimpleIndex, root.to_owned()));
    }
    if let Some(part) = conda_channel(root)? {
        return Ok(Some(Recognised { kind: Kind::CondaChannel, conda: Some(part), pypi: None }));
    }
    Ok(pypi_files(root)?.and_then(|part| pypi(Kind::PipDownload, part.root)))
}

/// The subdirs of a conda channel at `root`, if any holds an index or a package.
fn conda_channel(root: &Path) -> Result<Option<Part>> {
    if !root.is_dir() {
        return Ok(None);
    }
    let is_conda = |file: &str| {
        let kind = ArtifactKind::of(Ecosystem::Conda, file);
        kind.is_some_and(|kind| kind != ArtifactKind::Wheel)
            || (file.starts_with("repodata") && (file.contains(".json") || file.contains(".msgpack")))
    };
    let mut subdirs = Vec::new();
    for name in names(root)? {
        let Some(name) = name.to_str().filter(|name| ecosystem::is_subdir(name)) else { continue };
        if root.join(name).is_dir()
            && names(&root.join(name))?.iter().any(|f| f.to_str().is_some_and(is_conda))
        {
            subdirs.push(name.to_owned());
        }
    }
    Ok((!subdirs.is_empty()).then(|| Part { root: root.to_owned(), subdirs }))
}

/// Wheels and source distributions in a directory, and in those right below it.
fn pypi_files(root: &Path) -> Result<Option<Part>> {
    let part = || Some(Part { root: root.to_owned(), subdirs: Vec::new() });
    for name in names(root)? {
        let path = root.join(&name);
        let has_one = match path.is_dir() {
            true => names(&path)?.iter().any(is_python),
            false => is_python(&name),
        };
        if has_one {
            return Ok(part());
        }
    }
    Ok(None)
}

fn is_python(file: &OsString) -> bool {
    file.to_str().is_some_and(|file| ArtifactKind::of(Ecosystem::Pypi, file).is_some())
}

/// What lies in a directory by name, without what is hidden and what operating systems leave there.
fn names(dir: &Path) -> Result<Vec<OsString>> {
    let mut out = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(file_error(dir))? {
        let name = entry.map_err(file_error(dir))?.file_name();
        let shown = name.to_string_lossy();
        if !is_litter(&shown) && !shown.starts_with('.') {
            out.push(name);
        }
        if out.len() > ENTRIES_MAX {
            return Err(Error::fault(format!("{} has more than {ENTRIES_MAX} entries", dir.display()))
                .hint("split it"));
        }
    }
    out.sort();
    Ok(out)
}

/// Refuses a layout of a later version, whose meaning nobody knows here.
fn check_pack(path: &Path) -> Result<()> {
    use std::io::Read as _;
    #[derive(Deserialize)]
    struct Pack {
        version: String,
    }
    let mut bytes = Vec::new();
    let file = crate::files::open_regular_itself(path).map_err(file_error(path))?;
    file.take(PACK_BYTES_MAX).read_to_end(&mut bytes).map_err(file_error(path))?;
    let says = serde_json::from_slice::<Pack>(&bytes);
    let refused = |why: String| Error::usage(format!("{}: {why}", path.display()));
    let pack = says.map_err(|e| refused(format!("it is not what pixi-pack writes: {e}")))?;
    if pack.version == PACK_VERSION {
        return Ok(());
    }
    Err(refused(format!(
        "the pack has layout `{}`, and `{PACK_VERSION}` is known",
        pack.version.escape_debug()
    ))
    .hint("unpack it, and take its `channel` folder in"))
}

impl Recognised {
    /// Refuses a tree of which a part is a link that leads out of it.
    pub(super) fn check_within(&self, root: &Path) -> Result<()> {
        for part in self.conda.iter().chain(&self.pypi) {
            let real = part.root.canonicalize().map_err(file_error(&part.root))?;
            if !real.starts_with(root) {
                return Err(Error::unsafe_(format!(
                    "{} is a link that leads out of {}",
                    part.root.display(),
                    root.display()
                )));
            }
        }
        Ok(())
    }

    /// The same where it came in an archive.
    pub(super) fn in_archive(self) -> Self {
        match self.kind {
            Kind::CondaChannel => Self { kind: Kind::AirGapArchive, ..self },
            _ => self,
        }
    }

    /// The part that is wanted, else the one for conda, and how much the other one holds.
    pub(super) fn choose(self, wanted: Option<Ecosystem>) -> Result<(Ecosystem, Part, Option<Left>)> {
        let (conda, pypi) = (self.conda, self.pypi);
        let ecosystem = wanted.unwrap_or(if conda.is_some() { Ecosystem::Conda } else { Ecosystem::Pypi });
        let (part, other, others) = match ecosystem {
            Ecosystem::Conda => (conda, pypi, Ecosystem::Pypi),
            Ecosystem::Pypi => (pypi, conda, Ecosystem::Conda),
        };
        let part = part.ok_or_else(|| {
            Error::usage(format!("{} without packages for {ecosystem}", self.kind.name()))
                .hint("leave --ecosystem away")
        })?;
        let left = other.map(|other| other.count(others)).transpose()?;
        Ok((ecosystem, part, left.map(|files| Left { ecosystem: others, files })))
    }
}

impl Part {
    fn count(&self, ecosystem: Ecosystem) -> Result<u64> {
        let dirs: Vec<PathBuf> = match ecosystem {
            Ecosystem::Conda => self.subdirs.iter().map(|subdir| self.root.join(subdir)).collect(),
            Ecosystem::Pypi => vec![self.root.clone()],
        };
        let mut files = 0;
        for dir in dirs {
            let is_one =
                |name: &&OsString| name.to_str().is_some_and(|n| ArtifactKind::of(ecosystem, n).is_some());
            files += names(&dir)?.iter().filter(is_one).count() as u64;
        }
        Ok(files)
    }
}

/// Several archives as one channel: their subdirs side by side in `folder`.
pub(super) fn together(mut all: Vec<Recognised>, folder: &Path) -> Result<Recognised> {
    if all.len() == 1
        && let Some(one) = all.pop()
    {
        return Ok(one);
    }
    std::fs::create_dir(folder).map_err(file_error(folder))?;
    let mut part = Part { root: folder.canonicalize().map_err(file_error(folder))?, subdirs: Vec::new() };
    for one in all {
        let Some(conda) = one.conda.filter(|_| one.kind == Kind::AirGapArchive) else {
            return Err(Error::usage(format!("one of the archives holds {}", one.kind.name())).hint(
                "several make one channel where each holds subdirs of a conda channel; take it in by itself",
            ));
        };
        for subdir in conda.subdirs {
            if part.subdirs.contains(&subdir) {
                return Err(Error::usage(format!("several of the archives hold `{subdir}`")).hint(
                    "each subdir comes in one archive, else nobody knows which counts: leave one away, or take it into another channel",
                ));
            }
            let to = part.root.join(&subdir);
            std::fs::rename(conda.root.join(&subdir), &to).map_err(file_error(&to))?;
            part.subdirs.push(subdir);
        }
    }
    part.subdirs.sort();
    Ok(Recognised { kind: Kind::AirGapArchive, conda: Some(part), pypi: None })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn looked_at(files: &[&str]) -> Option<(Kind, Option<String>, Option<String>)> {
        let dir = tempfile::tempdir().unwrap();
        for file in files {
            let path = dir.path().join(file);
            if file.ends_with('/') {
                std::fs::create_dir_all(&path).unwrap();
                continue;
            }
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            let text = r#"{"version": "1", "pixi-pack-version": "0.7.3", "platform": "linux-64"}"#;
            std::fs::write(&path, text).unwrap();
        }
        let found = recognise(dir.path()).unwrap()?;
        let told = |part: Option<Part>| {
            part.map(|part| {
                let below = part.root.strip_prefix(dir.path()).unwrap().display().to_string();
                format!("{below}:{}", part.subdirs.join(","))
            })
        };
        Some((found.kind, told(found.conda), told(found.pypi)))
    }

    #[test]
    fn a_tree_is_told_by_what_lies_in_it() {
        type Row<'a> = (&'a [&'a str], Option<(Kind, Option<&'a str>, Option<&'a str>)>);
        let rows: [Row<'_>; 20] = [
            (&["noarch/repodata.json"], Some((Kind::CondaChannel, Some(":noarch"), None))),
            (
                &["linux-64/repodata.json.zst", "noarch/x-1-0.conda", "channeldata.json"],
                Some((Kind::CondaChannel, Some(":linux-64,noarch"), None)),
            ),
            (&["noarch/repodata_shards.msgpack.zst"], Some((Kind::CondaChannel, Some(":noarch"), None))),
            (&["win-64/x-1-0.tar.bz2", "linux-64/"], Some((Kind::CondaChannel, Some(":win-64"), None))),
            // As the incumbent's archives hold it, and as a medium leaves its own beside it.
            (
                &["main/pkgs/linux-64/repodata.json.bz2", "lost+found/", ".Trash-1/x"],
                Some((Kind::CondaChannel, Some("main/pkgs:linux-64"), None)),
            ),
            (&["idna-3.10-py3-none-any.whl"], Some((Kind::PipDownload, None, Some(":")))),
            (&["idna-3.10.tar.gz", "requirements.txt"], Some((Kind::PipDownload, None, Some(":")))),
            (&["idna/idna-3.10.zip", "README"], Some((Kind::PipDownload, None, Some(":")))),
            (&["mirror/wheels/idna-3.10-py3-none-any.whl"], Some((Kind::PipDownload, None, Some("mirror:")))),
            (
                &["web/simple/idna/index.html", "web/packages/a/b/c/idna.whl", "status", "todo"],
                Some((Kind::Bandersnatch, None, Some("web:"))),
            ),
            (&["simple/idna/index.html", "packages/a"], Some((Kind::SimpleIndex, None, Some(":")))),
            (
                &["pixi-pack.json", "environment.yml", "channel/noarch/repodata.json"],
                Some((Kind::PixiPack, Some("channel:noarch"), None)),
            ),
            (
                &["pixi-pack.json", "channel/noarch/repodata.json", "pypi/idna-3.10-py3-none-any.whl"],
                Some((Kind::PixiPack, Some("channel:noarch"), Some("pypi:"))),
            ),
            (
                &["pixi-pack.json", "pypi/idna-3.10-py3-none-any.whl"],
                Some((Kind::PixiPack, None, Some("pypi:"))),
            ),
            (&["pixi-pack.json", "channel/"], None),
            (&["noarch/README.txt"], None),
            // A package that was unpacked, one that lies outside of its subdir, and two trees side by side.
            (&["info/index.json", "lib/x.so"], None),
            (&["x-1-0.conda"], None),
            (&["a/noarch/repodata.json", "b/noarch/repodata.json"], None),
            (&["a/b/c/d/e/noarch/repodata.json"], None),
        ];
        for (files, expected) in rows {
            let own = |text: Option<&str>| text.map(str::to_owned);
            let expected = expected.map(|(kind, conda, pypi)| (kind, own(conda), own(pypi)));
            assert_eq!(looked_at(files), expected, "{files:?}");
        }
    }

    #[test]
    fn a_pack_of_a_later_layout_is_not_guessed_at() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("channel/noarch")).unwrap();
        std::fs::write(dir.path().join("channel/noarch/repodata.json"), "{}").unwrap();
        for (text, says) in [(r#"{"version":"2"}"#, "layout `2`"), ("{", "not what pixi-pack writes")] {
            std::fs::write(dir.path().join(PACK), text).unwrap();
            let error = recognise(dir.path()).unwrap_err();
            assert!(error.message.contains(says), "{error}");
        }
    }
}
