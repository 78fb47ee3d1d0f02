//! Python core metadata (PEP 566, PEP 639): the headers of `METADATA` and `PKG-INFO`.

use super::names::{CUT, check_identity, shown};
use super::{ArchiveError, Opened};

/// Bytes of core metadata that [`parse_metadata`] reads at most: 16 MiB, the description included.
pub const METADATA_BYTES_MAX: usize = 16 << 20;
/// The headers that are read.
const USED: [&str; 8] = [
    "Name",
    "Version",
    "Summary",
    "License",
    "License-Expression",
    "Requires-Python",
    "Requires-Dist",
    "Classifier",
];
/// What errors call the bytes, which carry no name.
const MEMBER: &str = "METADATA";

/// The fields of core metadata that Airlock uses. Fields that are empty or `UNKNOWN` count as absent.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct CoreMetadata {
    /// `Name`, not normalised.
    pub name: String,
    /// `Version`, not normalised.
    pub version: String,
    /// `Summary`.
    pub summary: Option<String>,
    /// `License`: free text, sometimes a whole licence of many lines.
    pub license: Option<String>,
    /// `License-Expression`: SPDX (PEP 639).
    pub license_expression: Option<String>,
    /// `Requires-Python`.
    pub requires_python: Option<String>,
    /// Each `Requires-Dist`, in order.
    pub requires_dist: Vec<String>,
    /// Each `Classifier`, in order.
    pub classifiers: Vec<String>,
}

impl CoreMetadata {
    /// The licence in one line: the SPDX expression; or `License` where it is one line; or what the
    /// classifiers name; or the first line of a longer `License`, marked as cut.
    pub fn licence(&self) -> Option<String> {
        let free_line = self.license.as_ref().filter(|text| !text.contains('\n')).cloned();
        // There is more in it, which may say the contrary.
        let first_line = || Some(format!("{} {CUT}", self.license.as_ref()?.lines().next()?));
        self.license_expression
            .clone()
            .or(free_line)
            .or_else(|| self.licence_of_classifiers())
            .or_else(first_line)
    }

    /// The last parts of `License :: ...` classifiers, but for those that only group others.
    fn licence_of_classifiers(&self) -> Option<String> {
        let licences = self.classifiers.iter().filter_map(|text| text.strip_prefix("License ::"));
        let last = licences.filter_map(|text| text.rsplit("::").next()).map(str::trim);
        let named: Vec<&str> = last.filter(|text| *text != "OSI Approved").collect();
        (!named.is_empty()).then(|| named.join(", "))
    }

    /// What opening an artifact with this metadata revealed, so far.
    pub(super) fn into_opened(self) -> Opened {
        Opened {
            licence: self.licence().map(|text| shown(&text)),
            name: self.name,
            version: self.version,
            summary: self.summary.map(|text| shown(&text)),
            requires_python: self.requires_python,
            requires_dist: self.requires_dist,
            ..Opened::default()
        }
    }
}

/// Reads core metadata: RFC 822 headers up to the first empty line, in any case, with continuation lines.
/// Lenient as the email parsers of installers are: bytes that are not UTF-8 become U+FFFD, unknown headers
/// are passed over, a line that is no header ends them. Of a field that may come once, the first counts.
///
/// # Errors
///
/// [`ArchiveError::MemberTooLarge`] above [`METADATA_BYTES_MAX`], and [`ArchiveError::Metadata`] where `Name`
/// or `Version` is missing, comes twice with different values, or could not be part of a file name.
pub fn parse_metadata(bytes: &[u8]) -> Result<CoreMetadata, ArchiveError> {
    if bytes.len() > METADATA_BYTES_MAX {
        return Err(ArchiveError::MemberTooLarge {
            member: MEMBER.into(),
            bytes_max: METADATA_BYTES_MAX as u64,
        });
    }
    let text = String::from_utf8_lossy(bytes);
    let mut metadata = CoreMetadata::default();
    let (mut name, mut version) = (None, None);
    for (key, value) in headers(text.strip_prefix('\u{feff}').unwrap_or(&text))? {
        match key.to_ascii_lowercase().as_str() {
            "name" => set_identity(&mut name, "Name", value)?,
            "version" => set_identity(&mut version, "Version", value)?,
            "summary" => set_first(&mut metadata.summary, value),
            "license" => set_first(&mut metadata.license, value),
            "license-expression" => set_first(&mut metadata.license_expression, value),
            "requires-python" => set_first(&mut metadata.requires_python, value),
            "requires-dist" => metadata.requires_dist.push(value),
            "classifier" => metadata.classifiers.push(value),
            _ => {}
        }
    }
    metadata.name = name.unwrap_or_default();
    metadata.version = version.unwrap_or_default();
    check_identity(MEMBER, "Name", &metadata.name)?;
    check_identity(MEMBER, "Version", &metadata.version)?;
    Ok(metadata)
}

/// The headers, continuation lines joined by newlines and trimmed.
///
/// A carriage return by itself ends a line for Python and not here, so that it could hide a second name.
fn headers(text: &str) -> Result<Vec<(&str, String)>, ArchiveError> {
    let mut headers: Vec<(&str, String)> = Vec::new();
    let (mut any, mut wanted) = (false, false);
    for line in text.lines() {
        if line.contains('\r') {
            let reason = "a header holds a carriage return, at which readers disagree".to_owned();
            return Err(ArchiveError::Metadata { member: MEMBER.into(), reason });
        }
        if line.starts_with([' ', '\t']) && any {
            if let Some((_, value)) = headers.last_mut().filter(|_| wanted) {
                value.push('\n');
                value.push_str(line.trim());
            }
            continue;
        }
        let Some((key, value)) = line.split_once(':').filter(|(key, _)| is_key(key)) else { break };
        // A header that nobody asks for costs nothing, nor do the lines that continue it.
        any = true;
        wanted = USED.iter().any(|used| used.eq_ignore_ascii_case(key));
        if wanted {
            headers.push((key, value.trim().to_owned()));
        }
    }
    Ok(headers)
}

fn is_key(key: &str) -> bool {
    !key.is_empty() && key.chars().all(|c| c.is_ascii_graphic())
}

fn set_first(slot: &mut Option<String>, value: String) {
    if slot.is_none() && !value.is_empty() && value != "UNKNOWN" {
        *slot = Some(value);
    }
}

/// Readers differ in whether the first or the last of two names counts.
fn set_identity(slot: &mut Option<String>, field: &str, value: String) -> Result<(), ArchiveError> {
    match slot {
        Some(earlier) if *earlier != value => {
            let reason = format!("{field} comes twice with different values");
            Err(ArchiveError::Metadata { member: MEMBER.into(), reason })
        }
        _ => {
            *slot = Some(value);
            Ok(())
        }
    }
}
