//! Source distributions: `.tar.gz` (PEP 625, PEP 721) and the `.zip` of older days.

use std::io::{BufReader, Read, Seek};
use std::rc::Rc;

use flate2::bufread::MultiGzDecoder;

use super::limits::{Meter, Packed};
use super::metadata::parse_metadata;
use super::names::check_identity;
use super::tarcheck::{Kind, walk};
use super::wanted::Wanted;
use super::zipcheck::{METHOD_DEFLATE, METHOD_STORED, ZipArchive};
use super::{ArchiveError, ArchiveLimits, Opened};

const PKG_INFO: &str = "PKG-INFO";
/// Bytes taken from the archive at once.
const BUFFER_BYTES: usize = 64 << 10;

/// Opens a `.tar.gz` source distribution: everything lies in one top directory. Name and version are those of
/// `PKG-INFO` in it; where that is missing, as in sdists from before 2005, they are taken from the
/// directory's name.
///
/// # Errors
///
/// [`ArchiveError`], by what is wrong first.
pub fn open_sdist<R: Read>(reader: R, limits: &ArchiveLimits) -> Result<Opened, ArchiveError> {
    let mut top = TopDirectory::default();
    let mut wanted = Wanted::default();
    let packed = Packed::new(reader);
    let watch = packed.watch();
    let decoder = MultiGzDecoder::new(BufReader::with_capacity(BUFFER_BYTES, packed));
    walk(Meter::new(decoder, Rc::clone(&watch), limits), limits, |member, data| {
        top.offer(&member.path, member.kind == Kind::Directory)?;
        wanted.expect(top.pkg_info());
        wanted.offer(member, data, limits)
    })?;
    watch.check_no_zip()?;
    let pkg_info = wanted.take(&top.pkg_info());
    top.opened(pkg_info.as_deref())
}

/// Opens a `.zip` source distribution, by the same rules as [`open_sdist`]. Every member is unpacked, so that
/// each is known to be what the zip directory declares.
///
/// # Errors
///
/// [`ArchiveError`], by what is wrong first.
pub fn open_sdist_zip<R: Read + Seek>(reader: R, limits: &ArchiveLimits) -> Result<Opened, ArchiveError> {
    let mut zip = ZipArchive::open(reader, &[METHOD_STORED, METHOD_DEFLATE], limits)?;
    let mut top = TopDirectory::default();
    for member in &zip.members {
        top.offer(&member.path, member.is_directory)?;
    }
    zip.check_data()?;
    let path = top.pkg_info();
    zip.check_twins(&[&path])?;
    let pkg_info = zip.find(&path).map(|index| zip.read(index, limits)).transpose()?;
    top.opened(pkg_info.as_deref())
}

/// The one directory in which everything lies.
#[derive(Default)]
struct TopDirectory(Option<String>);

impl TopDirectory {
    fn offer(&mut self, path: &str, is_directory: bool) -> Result<(), ArchiveError> {
        let refuse = |reason| Err(ArchiveError::UnexpectedMember { member: path.to_owned(), reason });
        let (top, inside) = path.split_once('/').map_or((path, false), |(top, _)| (top, true));
        if !inside && !is_directory {
            return refuse("a source distribution has only a directory at its top");
        }
        match &self.0 {
            Some(earlier) if earlier != top => refuse("a source distribution has one directory at its top"),
            Some(_) => Ok(()),
            None => {
                self.0 = Some(top.to_owned());
                Ok(())
            }
        }
    }

    fn pkg_info(&self) -> String {
        format!("{}/{PKG_INFO}", self.0.as_deref().unwrap_or_default())
    }

    fn opened(self, pkg_info: Option<&[u8]>) -> Result<Opened, ArchiveError> {
        let missing = || ArchiveError::MissingMember { member: PKG_INFO.into() };
        let top = self.0.ok_or_else(missing)?;
        if let Some(bytes) = pkg_info {
            return parse_metadata(bytes).map(super::CoreMetadata::into_opened);
        }
        let (name, version) = split_stem(&top).ok_or_else(missing)?;
        check_identity(&top, "name", name)?;
        check_identity(&top, "version", version)?;
        Ok(Opened { name: name.to_owned(), version: version.to_owned(), ..Opened::default() })
    }
}

/// `name-version`, cut at the last hyphen that a digit follows: names may have hyphens, normalised versions
/// have none.
fn split_stem(stem: &str) -> Option<(&str, &str)> {
    let mut cuts =
        stem.rmatch_indices('-').filter_map(|(at, _)| stem.get(..at).zip(stem.get(at.checked_add(1)?..)));
    let digit = |c: char| c.is_ascii_digit();
    cuts.find(|(name, version)| !name.is_empty() && version.starts_with(digit))
}
