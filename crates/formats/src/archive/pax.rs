//! Tar extension headers: pax records (POSIX.1-2008) and GNU long names.

use std::io::Read;

use super::{ArchiveError, ArchiveLimits};

/// What extension headers say about the member after them.
#[derive(Default)]
pub(super) struct Extensions {
    pub(super) path: Option<Vec<u8>>,
    pub(super) link: Option<Vec<u8>>,
    pub(super) size_bytes: Option<u64>,
    /// Some extension header came, so that a member must follow.
    pub(super) pending: bool,
}

impl Extensions {
    /// Takes the name of a GNU `L` header.
    pub(super) fn long_path(&mut self, data: Vec<u8>) -> Result<(), ArchiveError> {
        set_once(&mut self.path, until_nul(data))
    }

    /// Takes the target of a GNU `K` header.
    pub(super) fn long_link(&mut self, data: Vec<u8>) -> Result<(), ArchiveError> {
        set_once(&mut self.link, until_nul(data))
    }

    /// Takes the records of a pax header.
    pub(super) fn pax(&mut self, data: &[u8]) -> Result<(), ArchiveError> {
        for record in Records(data) {
            let (key, value) = record?;
            match key {
                b"path" => set_once(&mut self.path, value.to_vec())?,
                b"linkpath" => set_once(&mut self.link, value.to_vec())?,
                b"size" => set_once(&mut self.size_bytes, decimal(value)?)?,
                // It changes what the bytes of names mean, for those who know it.
                b"hdrcharset" if value != b"ISO-IR 10646 2000 UTF-8" => {
                    let reason = "names are declared not to be UTF-8";
                    return Err(ArchiveError::TarAmbiguous { member: self.name(), reason });
                }
                key if key.starts_with(b"GNU.sparse") => {
                    return Err(ArchiveError::SpecialFile {
                        member: self.name(),
                        kind: "a sparse file".into(),
                    });
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// The member's name, as far as extension headers tell.
    fn name(&self) -> String {
        self.path.as_deref().map(|path| String::from_utf8_lossy(path).into_owned()).unwrap_or_default()
    }
}

/// Checks a pax header that is meant for all members. `git archive` writes one that holds a comment; one that
/// names or sizes members is understood by some readers only.
pub(super) fn check_global(data: &[u8]) -> Result<(), ArchiveError> {
    for record in Records(data) {
        let (key, _) = record?;
        if matches!(key, b"path" | b"linkpath" | b"size" | b"hdrcharset") || key.starts_with(b"GNU.sparse") {
            let reason = "a global pax header names or sizes members";
            return Err(ArchiveError::TarAmbiguous { member: String::new(), reason });
        }
    }
    Ok(())
}

/// Reads the data of one extension header.
pub(super) fn read_extension(
    data: impl Read,
    size_bytes: u64,
    limits: &ArchiveLimits,
) -> Result<Vec<u8>, ArchiveError> {
    let bytes_max = limits.header_bytes_max;
    if size_bytes > bytes_max {
        return Err(ArchiveError::HeaderTooLarge { bytes_max });
    }
    let mut bytes = Vec::new();
    data.take(size_bytes).read_to_end(&mut bytes)?;
    if (bytes.len() as u64) < size_bytes {
        return Err(ArchiveError::Truncated);
    }
    Ok(bytes)
}

/// `length key=value\n`, again and again; `length` counts the whole record in decimal.
struct Records<'a>(&'a [u8]);

impl<'a> Iterator for Records<'a> {
    type Item = Result<(&'a [u8], &'a [u8]), ArchiveError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let record = split_record(self.0);
        // After a bad record nothing more can be told apart.
        self.0 = record.map(|(_, _, rest)| rest).unwrap_or_default();
        let malformed = || malformed("a pax record is not `length key=value`");
        Some(record.map(|(key, value, _)| (key, value)).ok_or_else(malformed))
    }
}

fn split_record(data: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let blank = data.iter().position(|byte| *byte == b' ')?;
    let length = usize::try_from(decimal(data.get(..blank)?).ok()?).ok()?;
    let rest = data.get(length..)?;
    let body = data.get(blank.checked_add(1)?..length)?.strip_suffix(b"\n")?;
    let equals = body.iter().position(|byte| *byte == b'=')?;
    Some((body.get(..equals)?, body.get(equals.checked_add(1)?..)?, rest))
}

/// Digits only: `str::parse` would take a sign as well.
fn decimal(digits: &[u8]) -> Result<u64, ArchiveError> {
    let number =
        std::str::from_utf8(digits).ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
    number.and_then(|text| text.parse().ok()).ok_or_else(|| malformed("a pax number is not decimal"))
}

fn set_once<T>(slot: &mut Option<T>, value: T) -> Result<(), ArchiveError> {
    if slot.replace(value).is_some() {
        let reason = "extension headers say the same thing twice";
        return Err(ArchiveError::TarAmbiguous { member: String::new(), reason });
    }
    Ok(())
}

fn until_nul(mut data: Vec<u8>) -> Vec<u8> {
    let end = data.iter().position(|byte| *byte == 0).unwrap_or(data.len());
    data.truncate(end);
    data
}

fn malformed(reason: &'static str) -> ArchiveError {
    ArchiveError::TarHeader { member: String::new(), reason }
}
