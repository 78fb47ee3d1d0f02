//! Commands that an artifact asks installers to create.
//!
//! Older installers join a command's name to their directory for programs without looking at it, so that
//! `../../x` writes anywhere (rattler CVE-2026-47425, pip CVE-2026-8643). Such clients cannot be mended from
//! here; such artifacts can be refused.

use serde::Deserialize;

use super::ArchiveError;

/// Checks `info/link.json` of a conda package (CEP 34).
///
/// # Errors
///
/// [`ArchiveError::UnsafeCommand`], or [`ArchiveError::Metadata`] where it is no such JSON.
pub(super) fn check_link_json(member: &str, bytes: &[u8]) -> Result<(), ArchiveError> {
    #[derive(Deserialize)]
    struct Link {
        noarch: Option<Noarch>,
    }
    #[derive(Deserialize)]
    struct Noarch {
        entry_points: Option<Vec<String>>,
    }
    let link: Link = serde_json::from_slice(bytes)
        .map_err(|error| ArchiveError::Metadata { member: member.to_owned(), reason: error.to_string() })?;
    let entries = link.noarch.and_then(|noarch| noarch.entry_points).unwrap_or_default();
    entries.iter().try_for_each(|entry| check_command(member, entry.split('=').next().unwrap_or_default()))
}

/// Checks `entry_points.txt` of a wheel: the sections that become programs.
///
/// # Errors
///
/// [`ArchiveError::UnsafeCommand`].
pub(super) fn check_entry_points(member: &str, bytes: &[u8]) -> Result<(), ArchiveError> {
    let text = String::from_utf8_lossy(bytes);
    let mut programs = false;
    for line in text.lines().map(str::trim) {
        if let Some(section) = line.strip_prefix('[') {
            let section = section.split(']').next().unwrap_or_default().trim();
            programs = matches!(section, "console_scripts" | "gui_scripts");
        } else if programs
            && !line.starts_with(['#', ';'])
            && let Some((command, _)) = line.split_once('=')
        {
            check_command(member, command)?;
        }
    }
    Ok(())
}

fn check_command(member: &str, command: &str) -> Result<(), ArchiveError> {
    let command = command.trim();
    let unsafe_char = |c: char| matches!(c, '/' | '\\' | ':') || c.is_control();
    if matches!(command, "" | "." | "..") || command.contains(unsafe_char) {
        return Err(ArchiveError::UnsafeCommand { member: member.to_owned(), command: command.to_owned() });
    }
    Ok(())
}
