//! Just what an index needs of a package, without opening all of it.
//!
//! For making records of many packages: each function reads as little as it can and stops where it has what it
//! looks for. What lies behind is not looked at, so that none of this replaces the `open_*` functions, which
//! every artifact goes through before it is offered.

use std::io::{BufReader, Read, Seek, SeekFrom};

use bzip2::bufread::MultiBzDecoder;
use flate2::bufread::MultiGzDecoder;

use super::limits::{Meter, Packed};
use super::metadata::parse_metadata;
use super::sdist::{open_sdist, open_sdist_zip};
use super::tarcheck::{Kind, walk};
use super::wanted::Wanted;
use super::zipcheck::{METHOD_DEFLATE, METHOD_STORED, ZipArchive};
use super::{ArchiveError, ArchiveLimits};

const INDEX: &str = "info/index.json";
const METADATA: &str = ".dist-info/METADATA";
const PKG_INFO: &str = "PKG-INFO";
/// Bytes taken from the archive at once.
const BUFFER_BYTES: usize = 64 << 10;

/// What a wheel or source distribution says of itself, as far as an index repeats it.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Stated {
    /// Name as the artifact spells it.
    pub name: String,
    /// Version as the artifact spells it.
    pub version: String,
    /// `Requires-Python`.
    pub requires_python: Option<String>,
}

/// The exact bytes of `info/index.json` of a `.conda` package: the zip's structure is checked, of its members
/// only the `info-*.tar.zst` is unpacked, and that only so far.
///
/// # Errors
///
/// [`ArchiveError`], by what is wrong first.
pub fn conda_index<R: Read + Seek>(reader: R, limits: &ArchiveLimits) -> Result<Vec<u8>, ArchiveError> {
    let mut zip = ZipArchive::open(reader, &[METHOD_STORED], limits)?;
    let is_info = |path: &str| path.starts_with("info-") && path.ends_with(".tar.zst");
    let info = only(&zip, is_info, "info-*.tar.zst")?;
    let packed = Packed::new(BufReader::with_capacity(BUFFER_BYTES, zip.packed(info)?));
    let watch = packed.watch();
    let mut decoder = zstd::stream::read::Decoder::new(packed)?;
    decoder.window_log_max(limits.zstd_window_log_max)?;
    first(Meter::new(decoder, watch, limits), limits, |_| Some(INDEX.to_owned()))
}

/// The exact bytes of `info/index.json` of a `.tar.bz2` package, unpacked so far.
///
/// # Errors
///
/// [`ArchiveError`], by what is wrong first.
pub fn tar_bz2_index<R: Read>(reader: R, limits: &ArchiveLimits) -> Result<Vec<u8>, ArchiveError> {
    let packed = Packed::new(reader);
    let watch = packed.watch();
    let decoder = MultiBzDecoder::new(BufReader::with_capacity(BUFFER_BYTES, packed));
    first(Meter::new(decoder, watch, limits), limits, |_| Some(INDEX.to_owned()))
}

/// What the `METADATA` of a wheel says; the zip's structure is checked, and only that member unpacked.
///
/// # Errors
///
/// [`ArchiveError`], by what is wrong first.
pub fn wheel_stated<R: Read + Seek>(reader: R, limits: &ArchiveLimits) -> Result<Stated, ArchiveError> {
    let mut zip = ZipArchive::open(reader, &[METHOD_STORED, METHOD_DEFLATE], limits)?;
    let is_metadata = |path: &str| path.ends_with(METADATA) && path.matches('/').count() == 1;
    let index = only(&zip, is_metadata, "*.dist-info/METADATA")?;
    stated(&zip.read(index, limits)?)
}

/// What the `PKG-INFO` of a `.tar.gz` source distribution says, unpacked so far. One without it, as from before
/// 2005, is opened in full.
///
/// # Errors
///
/// [`ArchiveError`], by what is wrong first.
pub fn sdist_stated<R: Read + Seek>(mut reader: R, limits: &ArchiveLimits) -> Result<Stated, ArchiveError> {
    let packed = Packed::new(reader.by_ref());
    let watch = packed.watch();
    let decoder = MultiGzDecoder::new(BufReader::with_capacity(BUFFER_BYTES, packed));
    let found = first(Meter::new(decoder, watch, limits), limits, |path| {
        path.split_once('/').map(|(top, _)| format!("{top}/{PKG_INFO}"))
    });
    match found {
        Err(ArchiveError::MissingMember { .. }) => {
            reader.seek(SeekFrom::Start(0))?;
            open_sdist(reader, limits).map(of_opened)
        }
        found => stated(&found?),
    }
}

/// The same of a `.zip` source distribution.
///
/// # Errors
///
/// [`ArchiveError`], by what is wrong first.
pub fn sdist_zip_stated<R: Read + Seek>(
    mut reader: R,
    limits: &ArchiveLimits,
) -> Result<Stated, ArchiveError> {
    let mut zip = ZipArchive::open(reader.by_ref(), &[METHOD_STORED, METHOD_DEFLATE], limits)?;
    let is_pkg_info =
        |path: &str| path.split_once('/').is_some_and(|(top, file)| !top.is_empty() && file == PKG_INFO);
    match only(&zip, is_pkg_info, PKG_INFO) {
        Err(ArchiveError::MissingMember { .. }) => {
            drop(zip);
            reader.seek(SeekFrom::Start(0))?;
            open_sdist_zip(reader, limits).map(of_opened)
        }
        index => stated(&zip.read(index?, limits)?),
    }
}

fn stated(metadata: &[u8]) -> Result<Stated, ArchiveError> {
    let core = parse_metadata(metadata)?;
    Ok(Stated { name: core.name, version: core.version, requires_python: core.requires_python })
}

fn of_opened(opened: super::Opened) -> Stated {
    Stated { name: opened.name, version: opened.version, requires_python: opened.requires_python }
}

/// The place of the one member whose path satisfies `is_it`.
fn only<R>(zip: &ZipArchive<R>, is_it: impl Fn(&str) -> bool, called: &str) -> Result<usize, ArchiveError> {
    let mut found = None;
    for (index, member) in zip.members.iter().enumerate() {
        if !member.is_directory && is_it(&member.path) && found.replace(index).is_some() {
            return Err(ArchiveError::DuplicateMember { member: member.path.clone() });
        }
    }
    found.ok_or_else(|| ArchiveError::MissingMember { member: called.to_owned() })
}

/// Walks a tar archive up to the file that `wanted` names, which it may tell from the first member's path, and
/// gives that file's bytes.
fn first<R: Read>(
    reader: R,
    limits: &ArchiveLimits,
    mut wanted: impl FnMut(&str) -> Option<String>,
) -> Result<Vec<u8>, ArchiveError> {
    let mut looked_for: Option<String> = None;
    let mut found = None;
    let walked = walk(reader, limits, |member, data| {
        if looked_for.is_none() {
            looked_for = match (wanted(&member.path), member.kind) {
                (None, Kind::Directory) => wanted(&format!("{}/", member.path)),
                (name, _) => name,
            };
        }
        let Some(path) = looked_for.clone() else { return Ok(()) };
        let mut one = Wanted::default();
        one.expect(path.clone());
        one.offer(member, data, limits)?;
        match one.take(&path) {
            Some(bytes) => {
                found = Some(bytes);
                // Nothing else ends a walk; what it says is not looked at.
                Err(ArchiveError::DuplicateMember { member: path })
            }
            None => Ok(()),
        }
    });
    match found {
        Some(bytes) => Ok(bytes),
        None => walked.and_then(|()| {
            Err(ArchiveError::MissingMember { member: looked_for.unwrap_or_else(|| PKG_INFO.to_owned()) })
        }),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;
    use crate::make::{CondaPackage, Sdist, Wheel};

    const PACKAGE: CondaPackage<'_> = CondaPackage {
        name: "demo",
        version: "1.0",
        build: "0",
        build_number: 0,
        subdir: "noarch",
        depends: &["python"],
        license: "MIT",
        summary: "A demonstration",
        timestamp_ms: 1_700_000_000_000,
        noarch_python: false,
        security: None,
        files: &[("a", b"1")],
    };

    fn limits() -> ArchiveLimits {
        ArchiveLimits::default()
    }

    #[test]
    fn the_index_of_a_conda_package_is_read_alone() {
        let index = PACKAGE.index_json();
        let read = |bytes: Vec<u8>| serde_json::from_slice::<serde_json::Value>(&bytes).unwrap();
        assert_eq!(read(conda_index(Cursor::new(PACKAGE.conda().unwrap()), &limits()).unwrap()), index);
        assert_eq!(read(tar_bz2_index(&*PACKAGE.tar_bz2().unwrap(), &limits()).unwrap()), index);
    }

    #[test]
    fn what_lies_behind_the_index_is_not_looked_at() {
        let whole = PACKAGE.tar_bz2().unwrap();
        // The walk asks for no more than it needs, and bzip2 gives what it has of a cut block.
        let index = serde_json::to_vec(&PACKAGE.index_json()).unwrap();
        let mut tar = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_ustar();
        header.set_size(index.len() as u64);
        header.set_mode(0o644);
        header.set_cksum();
        tar.append_data(&mut header, "info/index.json", index.as_slice()).unwrap();
        let mut bytes = tar.into_inner().unwrap();
        bytes.truncate(bytes.len() - 1024);
        bytes.extend([0xff; 4096]);
        let mut encoder = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::best());
        std::io::Write::write_all(&mut encoder, &bytes).unwrap();
        let garbage_behind = encoder.finish().unwrap();
        assert_eq!(tar_bz2_index(&*garbage_behind, &limits()).unwrap(), index);
        assert!(super::super::open_tar_bz2(&*garbage_behind, &limits()).is_err());
        assert!(tar_bz2_index(&whole[..whole.len() / 2], &limits()).is_err());
    }

    #[test]
    fn wheels_and_source_distributions_say_who_they_are() {
        let wheel = Wheel {
            name: "Air.Demo",
            version: "1.2",
            requires_dist: &[],
            requires_python: ">=3.8",
            license: "MIT",
            summary: "x",
            files: &[("a.py", b"1")],
        };
        let sdist = Sdist {
            name: "Air.Demo",
            version: "1.2",
            requires_dist: &[],
            requires_python: ">=3.8",
            license: "MIT",
            summary: "x",
            files: &[("a.py", b"1")],
        };
        let expected =
            Stated { name: "Air.Demo".into(), version: "1.2".into(), requires_python: Some(">=3.8".into()) };
        assert_eq!(wheel_stated(Cursor::new(wheel.bytes().unwrap()), &limits()).unwrap(), expected);
        assert_eq!(sdist_stated(Cursor::new(sdist.bytes().unwrap()), &limits()).unwrap(), expected);
        assert_eq!(sdist_zip_stated(Cursor::new(sdist.zip_bytes().unwrap()), &limits()).unwrap(), expected);
    }

    #[test]
    fn limits_hold_while_an_index_is_looked_for() {
        let packed = PACKAGE.conda().unwrap();
        let entries = ArchiveLimits { entries_max: 1, ..limits() };
        assert!(matches!(
            conda_index(Cursor::new(&packed), &entries),
            Err(ArchiveError::TooManyEntries { .. })
        ));
        let member = ArchiveLimits { member_bytes_max: 8, ..limits() };
        assert!(matches!(
            conda_index(Cursor::new(&packed), &member),
            Err(ArchiveError::MemberTooLarge { .. })
        ));
    }

    #[test]
    fn whatever_the_bytes_are_the_readers_return() {
        let whole = [
            PACKAGE.conda().unwrap(),
            PACKAGE.tar_bz2().unwrap(),
            b"PK\x05\x06 and nothing else".to_vec(),
            Vec::new(),
        ];
        for bytes in whole {
            for at in (0..bytes.len().max(1)).step_by(7) {
                let mut flipped = bytes.clone();
                flipped.iter_mut().skip(at).take(2).for_each(|b| *b ^= 0x5a);
                for bytes in [flipped.as_slice(), &bytes[..at.min(bytes.len())]] {
                    let _ = conda_index(Cursor::new(bytes), &limits());
                    let _ = tar_bz2_index(bytes, &limits());
                    let _ = wheel_stated(Cursor::new(bytes), &limits());
                    let _ = sdist_stated(Cursor::new(bytes), &limits());
                    let _ = sdist_zip_stated(Cursor::new(bytes), &limits());
                }
            }
        }
    }
}
