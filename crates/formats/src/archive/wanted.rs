//! The few members of an archive that are kept in memory.

use std::collections::BTreeMap;
use std::io::Read;

use super::limits::read_member;
use super::tarcheck::{Kind, TarMember};
use super::{ArchiveError, ArchiveLimits};

/// Collects wanted members from a tar walk and refuses whatever could put something else in their place.
#[derive(Default)]
pub(super) struct Wanted(BTreeMap<String, Option<Vec<u8>>>);

impl Wanted {
    pub(super) fn new<const N: usize>(paths: [&str; N]) -> Self {
        Self(paths.into_iter().map(|path| (path.to_owned(), None)).collect())
    }

    /// Adds a path to look for.
    pub(super) fn expect(&mut self, path: String) {
        self.0.entry(path).or_default();
    }

    /// Looks at one member, and reads it where it is wanted.
    ///
    /// # Errors
    ///
    /// A wanted path that comes twice, that differs from another member only in case, that is no regular
    /// file, or that stands behind a link; and [`ArchiveError::MemberTooLarge`].
    pub(super) fn offer(
        &mut self,
        member: &TarMember,
        data: &mut dyn Read,
        limits: &ArchiveLimits,
    ) -> Result<(), ArchiveError> {
        let path = member.path.as_str();
        for (wanted, kept) in &mut self.0 {
            if wanted.eq_ignore_ascii_case(path) {
                if wanted != path || kept.is_some() {
                    return Err(ArchiveError::DuplicateMember { member: path.to_owned() });
                }
                if member.kind != Kind::File {
                    return Err(ArchiveError::UnexpectedLink { member: path.to_owned() });
                }
                *kept = Some(read_member(data, path, limits)?);
                return Ok(());
            }
            if member.kind != Kind::Directory && lies_below(wanted, path) {
                return Err(ArchiveError::UnexpectedLink { member: path.to_owned() });
            }
        }
        Ok(())
    }

    /// Takes a member out, if it came.
    pub(super) fn take(&mut self, path: &str) -> Option<Vec<u8>> {
        self.0.get_mut(path).and_then(Option::take)
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

/// Whether `path` would lie in the directory `above`, on a file system that ignores case.
fn lies_below(path: &str, above: &str) -> bool {
    let start = path.get(..above.len());
    start.is_some_and(|start| start.eq_ignore_ascii_case(above))
        && path.get(above.len()..).is_some_and(|rest| rest.starts_with('/'))
}
