//! Conda packages: `.conda` (CEP 35) and `.tar.bz2` (CEP 34).

use std::io::{BufRead, BufReader, Read, Seek};
use std::rc::Rc;

use bzip2::bufread::MultiBzDecoder;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::entrypoints::check_link_json;
use super::limits::{Meter, Packed};
use super::names::{check_identity, may_be_same, shown};
use super::paths::{Contents, Hashed, PATHS};
use super::tarcheck::{Kind, TarMember, walk};
use super::wanted::Wanted;
use super::zipcheck::{METHOD_STORED, ZipArchive};
use super::{ArchiveError, ArchiveLimits, Opened};

const INDEX: &str = "info/index.json";
const ABOUT: &str = "info/about.json";
const LINK: &str = "info/link.json";
const RUN_EXPORTS: &str = "info/run_exports.json";
const SECURITY: &str = "info/security.json";
const FORMAT: &str = "metadata.json";
const FORMAT_VERSION: u64 = 2;
/// Bytes taken from the archive at once.
const BUFFER_BYTES: usize = 64 << 10;

/// Opens a `.conda` package (CEP 35): a zip of exactly `metadata.json`, one `info-*.tar.zst` and one
/// `pkg-*.tar.zst`, all stored, whose names agree with `info/index.json`. Both archives are walked whole: the first
/// holds nothing outside of `info/`, the second nothing inside, and together what `info/paths.json` lists.
///
/// # Errors
///
/// [`ArchiveError`], by what is wrong first.
pub fn open_conda<R: Read + Seek>(reader: R, limits: &ArchiveLimits) -> Result<Opened, ArchiveError> {
    let mut zip = ZipArchive::open(reader, &[METHOD_STORED], limits)?;
    let parts = Parts::find(&zip)?;
    zip.check_data()?;
    check_format(&zip.read(parts.format, limits)?)?;
    let mut package = Package::new(limits);
    package.walk_zst(zip.packed(parts.info)?, &format!("info-{}.tar.zst", parts.stem), |member| {
        if !member.path.starts_with("info/") && member.path != "info" {
            let reason = "the info archive holds only info/";
            return Err(ArchiveError::UnexpectedMember { member: member.path.clone(), reason });
        }
        if member.path == "info" && member.kind != Kind::Directory {
            return Err(ArchiveError::UnexpectedLink { member: member.path.clone() });
        }
        Ok(())
    })?;
    // Before the large part: it says more, sooner.
    let opened = read_info(&mut package.wanted)?;
    let build = opened.build.as_deref().unwrap_or_default();
    let expected = format!("{}-{}-{build}", opened.name, opened.version);
    if parts.stem != expected {
        return Err(ArchiveError::IdentityMismatch { member: parts.stem, expected });
    }
    package.walk_zst(zip.packed(parts.package)?, &format!("pkg-{}.tar.zst", parts.stem), |member| {
        // Clients unpack both into one directory, so that one would write over the other.
        if may_be_same("info", member.path.split('/').next().unwrap_or_default()) {
            let reason = "the pkg archive holds nothing of info/";
            return Err(ArchiveError::UnexpectedMember { member: member.path.clone(), reason });
        }
        Ok(())
    })?;
    package.contents.finish()?;
    Ok(opened)
}

/// Opens a `.tar.bz2` package (CEP 34), walking all of it. It holds what `info/paths.json` lists, if it has one.
///
/// # Errors
///
/// [`ArchiveError`], by what is wrong first.
pub fn open_tar_bz2<R: Read>(reader: R, limits: &ArchiveLimits) -> Result<Opened, ArchiveError> {
    let mut package = Package::new(limits);
    let packed = Packed::new(reader);
    let watch = packed.watch();
    let decoder = MultiBzDecoder::new(BufReader::with_capacity(BUFFER_BYTES, packed));
    package.walk(Meter::new(decoder, Rc::clone(&watch), limits), |_| Ok(()))?;
    watch.check_no_zip()?;
    package.contents.finish()?;
    read_info(&mut package.wanted)
}

/// What is gathered from the tar archives of one package.
struct Package<'l> {
    limits: &'l ArchiveLimits,
    wanted: Wanted,
    contents: Contents<'l>,
}

impl<'l> Package<'l> {
    fn new(limits: &'l ArchiveLimits) -> Self {
        let wanted = Wanted::new([INDEX, ABOUT, LINK, RUN_EXPORTS, PATHS, SECURITY]);
        Self { limits, wanted, contents: Contents::new(limits) }
    }

    fn walk(
        &mut self,
        tar: impl Read,
        mut check: impl FnMut(&TarMember) -> Result<(), ArchiveError>,
    ) -> Result<(), ArchiveError> {
        walk(tar, self.limits, |member, data| {
            check(member)?;
            let mut data = Hashed::new(data);
            if member.path != PATHS {
                self.wanted.offer(member, &mut data, self.limits)?;
            } else if self.wanted.guard(member)? {
                self.contents.read_list(&mut data)?;
            }
            self.contents.found(member, data)
        })
    }

    /// Walks one `.tar.zst`, which is one frame: of several, conda reads the first and others read all.
    fn walk_zst(
        &mut self,
        packed: impl Read,
        name: &str,
        check: impl FnMut(&TarMember) -> Result<(), ArchiveError>,
    ) -> Result<(), ArchiveError> {
        let packed = Packed::new(packed);
        let watch = packed.watch();
        let input = BufReader::with_capacity(BUFFER_BYTES, packed);
        let mut decoder = zstd::stream::read::Decoder::with_buffer(input)?.single_frame();
        decoder.window_log_max(self.limits.zstd_window_log_max)?;
        self.walk(Meter::new(&mut decoder, watch, self.limits), check)?;
        if decoder.finish().fill_buf()?.is_empty() {
            return Ok(());
        }
        Err(ArchiveError::SeveralFrames { member: name.to_owned() })
    }
}

/// The members of a `.conda` archive.
struct Parts {
    format: usize,
    info: usize,
    package: usize,
    /// `name-version-build`, as the names of the two archives have it.
    stem: String,
}

impl Parts {
    fn find<R>(zip: &ZipArchive<R>) -> Result<Self, ArchiveError> {
        let (mut format, mut info, mut package) = (None, None, None);
        for (index, member) in zip.members.iter().enumerate() {
            let path = member.path.as_str();
            let stem = |prefix| path.strip_prefix(prefix).and_then(|rest| rest.strip_suffix(".tar.zst"));
            let refuse = |reason| Err(ArchiveError::UnexpectedMember { member: path.to_owned(), reason });
            let before = match (stem("info-"), stem("pkg-")) {
                _ if member.is_directory || path.contains('/') => {
                    return refuse("a .conda archive has no directories");
                }
                _ if path == FORMAT => format.replace((index, path)),
                (Some(stem), _) => info.replace((index, stem)),
                (_, Some(stem)) => package.replace((index, stem)),
                _ => {
                    return refuse(
                        "a .conda archive has only metadata.json, info-*.tar.zst and pkg-*.tar.zst",
                    );
                }
            };
            if before.is_some() {
                return refuse("a .conda archive has one of its kind");
            }
        }
        let missing = |member: &str| ArchiveError::MissingMember { member: member.to_owned() };
        let (format, _) = format.ok_or_else(|| missing(FORMAT))?;
        let (info, stem) = info.ok_or_else(|| missing("info-*.tar.zst"))?;
        let (package, package_stem) = package.ok_or_else(|| missing("pkg-*.tar.zst"))?;
        if stem != package_stem {
            let member = format!("pkg-{package_stem}.tar.zst");
            return Err(ArchiveError::IdentityMismatch { member, expected: stem.to_owned() });
        }
        Ok(Self { format, info, package, stem: stem.to_owned() })
    }
}

fn malformed(member: &str, reason: impl ToString) -> ArchiveError {
    ArchiveError::Metadata { member: member.to_owned(), reason: reason.to_string() }
}

fn check_format(bytes: &[u8]) -> Result<(), ArchiveError> {
    #[derive(Deserialize)]
    struct Format {
        conda_pkg_format_version: u64,
    }
    let format: Format = serde_json::from_slice(bytes).map_err(|error| malformed(FORMAT, error))?;
    match format.conda_pkg_format_version {
        FORMAT_VERSION => Ok(()),
        other => Err(malformed(FORMAT, format!("conda_pkg_format_version is {other}, not {FORMAT_VERSION}"))),
    }
}

/// The largest integer that every reader of JSON holds exactly.
const INTEGER_MAX: u64 = 1 << 53;

/// Reads what the `info/` members say.
fn read_info(wanted: &mut Wanted) -> Result<Opened, ArchiveError> {
    #[derive(Deserialize)]
    struct Index<'a> {
        name: String,
        version: String,
        build: String,
        build_number: Option<u64>,
        subdir: Option<String>,
        #[serde(borrow)]
        license: Option<&'a RawValue>,
    }
    let index_json = wanted.require(INDEX)?;
    let text = std::str::from_utf8(&index_json).map_err(|error| malformed(INDEX, error))?;
    // Refuses what readers of JSON differ in: keys that come twice, at any depth, and nesting beyond reason.
    let canonical = crate::read::canonical(text).map_err(|error| malformed(INDEX, error))?;
    let index: Index<'_> = canonical.read().map_err(|error| malformed(INDEX, error))?;
    check_identity(INDEX, "name", &index.name)?;
    check_identity(INDEX, "version", &index.version)?;
    check_identity(INDEX, "build", &index.build)?;
    if let Some(subdir) = &index.subdir {
        check_identity(INDEX, "subdir", subdir)?;
    }
    if index.build_number.is_some_and(|number| number > INTEGER_MAX) {
        return Err(malformed(INDEX, "build_number is larger than readers can hold"));
    }
    if let Some(link) = wanted.take(LINK) {
        check_link_json(LINK, &link)?;
    }
    let (licence, summary) = read_about(wanted.take(ABOUT).as_deref().unwrap_or_default());
    let licence = line(index.license).or(licence);
    Ok(Opened {
        name: index.name,
        version: index.version,
        build: Some(index.build),
        subdir: index.subdir,
        licence,
        summary,
        index_json: Some(index_json),
        run_exports: wanted.take(RUN_EXPORTS),
        security: wanted.take(SECURITY),
        ..Opened::default()
    })
}

/// Licence and summary of `info/about.json`: only shown to people, and not always there, so that what cannot be
/// understood is left out.
fn read_about(bytes: &[u8]) -> (Option<String>, Option<String>) {
    #[derive(Default, Deserialize)]
    struct About<'a> {
        #[serde(borrow)]
        license: Option<&'a RawValue>,
        #[serde(borrow)]
        summary: Option<&'a RawValue>,
    }
    let about: About<'_> = serde_json::from_slice(bytes).unwrap_or_default();
    (line(about.license), line(about.summary))
}

/// A text for people; anything else, and an empty one, is none.
fn line(value: Option<&RawValue>) -> Option<String> {
    let text: Option<String> = value.and_then(|value| serde_json::from_str(value.get()).ok());
    text.filter(|text| !text.is_empty()).map(|text| shown(&text))
}
