//! The few members of an archive that are kept in memory.

use std::collections::BTreeMap;
use std::io::Read;

use super::limits::read_member;
use super::names::{may_be_same, may_lie_below};
use super::tarcheck::{Kind, TarMember};
use super::{ArchiveError, ArchiveLimits};

/// Collects wanted members from a tar walk and refuses whatever could put something else in their place.
#[derive(Default)]
pub(super) struct Wanted(BTreeMap<String, Place>);

#[derive(Default)]
struct Place {
    came: bool,
    bytes: Option<Vec<u8>>,
}

impl Wanted {
    pub(super) fn new<const N: usize>(paths: [&str; N]) -> Self {
        Self(paths.into_iter().map(|path| (path.to_owned(), Place::default())).collect())
    }

    /// Adds a path to look for.
    pub(super) fn expect(&mut self, path: String) {
        self.0.entry(path).or_default();
    }

    /// Looks at one member, and reads it where it is wanted.
    ///
    /// # Errors
    ///
    /// As [`guard`](Self::guard), and [`ArchiveError::MemberTooLarge`].
    pub(super) fn offer(
        &mut self,
        member: &TarMember,
        data: &mut dyn Read,
        limits: &ArchiveLimits,
    ) -> Result<(), ArchiveError> {
        if self.guard(member)? {
            let bytes = read_member(data, &member.path, limits)?;
            self.0.entry(member.path.clone()).or_default().bytes = Some(bytes);
        }
        Ok(())
    }

    /// Says whether a member is wanted.
    ///
    /// # Errors
    ///
    /// A wanted path that comes twice, or as another spelling that is the same file on some system; that is no
    /// regular file, or stands behind a link.
    pub(super) fn guard(&mut self, member: &TarMember) -> Result<bool, ArchiveError> {
        let path = member.path.as_str();
        for (wanted, place) in &mut self.0 {
            if may_be_same(wanted, path) {
                if wanted != path || place.came {
                    return Err(ArchiveError::DuplicateMember { member: path.to_owned() });
                }
                if member.kind != Kind::File {
                    return Err(ArchiveError::UnexpectedLink { member: path.to_owned() });
                }
                place.came = true;
                return Ok(true);
            }
            if member.kind != Kind::Directory && may_lie_below(wanted, path) {
                return Err(ArchiveError::UnexpectedLink { member: path.to_owned() });
            }
        }
        Ok(false)
    }

    /// Takes a member out, if it came.
    pub(super) fn take(&mut self, path: &str) -> Option<Vec<u8>> {
        self.0.get_mut(path).and_then(|place| place.bytes.take())
    }

    /// Takes out a member that must have come.
    ///
    /// # Errors
    ///
    /// [`ArchiveError::MissingMember`].
    pub(super) fn require(&mut self, path: &str) -> Result<Vec<u8>, ArchiveError> {
        self.take(path).ok_or_else(|| ArchiveError::MissingMember { member: path.to_owned() })
    }
}
