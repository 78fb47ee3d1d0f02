//! Conda packages: `.conda` (CEP 35) and `.tar.bz2` (CEP 34).

use std::io::{BufReader, Read, Seek};

use bzip2::bufread::MultiBzDecoder;
use serde::Deserialize;
use serde_json::Value;

use super::entrypoints::check_link_json;
use super::limits::{Meter, Packed};
use super::names::check_identity;
use super::tarcheck::{Kind, walk};
use super::wanted::Wanted;
use super::zipcheck::{METHOD_STORED, ZipArchive};
use super::{ArchiveError, ArchiveLimits, Opened};

const INDEX: &str = "info/index.json";
const ABOUT: &str = "info/about.json";
const LINK: &str = "info/link.json";
const RUN_EXPORTS: &str = "info/run_exports.json";
const FORMAT: &str = "metadata.json";
const FORMAT_VERSION: u64 = 2;
/// Bytes taken from the archive at once.
const BUFFER_BYTES: usize = 64 << 10;

/// Opens a `.conda` package (CEP 35): a zip of exactly `metadata.json`, one `info-*.tar.zst` and one
/// `pkg-*.tar.zst`, all stored, whose names agree with `info/index.json`. The whole `info` archive is walked
/// and may hold nothing outside of `info/`; the `pkg` archive is not unpacked, only its checksum is compared.
///
/// # Errors
///
/// [`ArchiveError`], by what is wrong first.
pub fn open_conda<R: Read + Seek>(reader: R, limits: &ArchiveLimits) -> Result<Opened, ArchiveError> {
    let mut zip = ZipArchive::open(reader, &[METHOD_STORED], limits)?;
    let parts = Parts::find(&zip)?;
    zip.check_data()?;
    check_format(&zip.read(parts.format, limits)?)?;
    let mut wanted = Wanted::new([INDEX, ABOUT, LINK, RUN_EXPORTS]);
    let packed = Packed::new(BufReader::with_capacity(BUFFER_BYTES, zip.packed(parts.info)?));
    let counter = packed.counter();
    let mut decoder = zstd::stream::read::Decoder::new(packed)?;
    decoder.window_log_max(limits.zstd_window_log_max)?;
    walk(Meter::new(decoder, counter, limits), limits, |member, data| {
        if !member.path.starts_with("info/") && member.path != "info" {
            let reason = "the info archive holds only info/";
            return Err(ArchiveError::UnexpectedMember { member: member.path.clone(), reason });
        }
        if member.path == "info" && member.kind != Kind::Directory {
            return Err(ArchiveError::UnexpectedLink { member: member.path.clone() });
        }
        wanted.offer(member, data, limits)
    })?;
    let opened = read_info(wanted)?;
    let build = opened.build.as_deref().unwrap_or_default();
    let expected = format!("{}-{}-{build}", opened.name, opened.version);
    if parts.stem != expected {
        return Err(ArchiveError::IdentityMismatch { member: parts.stem, expected });
    }
    Ok(opened)
}

/// Opens a `.tar.bz2` package (CEP 34), walking all of it.
///
/// # Errors
///
/// [`ArchiveError`], by what is wrong first.
pub fn open_tar_bz2<R: Read>(reader: R, limits: &ArchiveLimits) -> Result<Opened, ArchiveError> {
    let mut wanted = Wanted::new([INDEX, ABOUT, LINK, RUN_EXPORTS]);
    let packed = Packed::new(reader);
    let counter = packed.counter();
    let decoder = MultiBzDecoder::new(BufReader::with_capacity(BUFFER_BYTES, packed));
    walk(Meter::new(decoder, counter, limits), limits, |member, data| wanted.offer(member, data, limits))?;
    read_info(wanted)
}

/// The members of a `.conda` archive.
struct Parts {
    format: usize,
    info: usize,
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
        let (_, package_stem) = package.ok_or_else(|| missing("pkg-*.tar.zst"))?;
        if stem != package_stem {
            let member = format!("pkg-{package_stem}.tar.zst");
            return Err(ArchiveError::IdentityMismatch { member, expected: stem.to_owned() });
        }
        Ok(Self { format, info, stem: stem.to_owned() })
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

/// Reads what the `info/` members say.
fn read_info(mut wanted: Wanted) -> Result<Opened, ArchiveError> {
    // Typed, so that a key that comes twice is refused: readers differ in which of the two counts.
    #[derive(Deserialize)]
    struct Index {
        name: String,
        version: String,
        build: String,
        subdir: Option<String>,
        license: Option<Value>,
    }
    let index_json = wanted.require(INDEX)?;
    let index: Index = serde_json::from_slice(&index_json).map_err(|error| malformed(INDEX, error))?;
    check_identity(INDEX, "name", &index.name)?;
    check_identity(INDEX, "version", &index.version)?;
    check_identity(INDEX, "build", &index.build)?;
    if let Some(subdir) = &index.subdir {
        check_identity(INDEX, "subdir", subdir)?;
    }
    if let Some(link) = wanted.take(LINK) {
        check_link_json(LINK, &link)?;
    }
    // Only shown to people, and not always there: what cannot be understood is left out.
    let about: Value =
        wanted.take(ABOUT).and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default();
    let text = |value: Option<&Value>| {
        value.and_then(Value::as_str).filter(|text| !text.is_empty()).map(str::to_owned)
    };
    Ok(Opened {
        name: index.name,
        version: index.version,
        build: Some(index.build),
        subdir: index.subdir,
        licence: text(index.license.as_ref()).or_else(|| text(about.get("license"))),
        summary: text(about.get("summary")),
        index_json: Some(index_json),
        run_exports: wanted.take(RUN_EXPORTS),
        ..Opened::default()
    })
}
