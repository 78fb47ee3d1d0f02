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
    check_line_breaks(member, &text)?;
    let mut programs = false;
    for line in text.lines().map(str::trim) {
        if let Some(section) = line.strip_prefix('[') {
            let section = section.split(']').next().unwrap_or_default().trim();
            programs = matches!(section, "console_scripts" | "gui_scripts");
        } else if programs && !line.starts_with(['#', ';']) {
            // Readers disagree about whether `:` ends a name as `=` does.
            for (command, _) in [line.split_once('='), line.split_once(':')].into_iter().flatten() {
                check_command(member, command)?;
            }
        }
    }
    Ok(())
}

/// Installers split lines where Python does, which is at more characters than `\n`: what one of them would read
/// as a further command must not hide from the check.
fn check_line_breaks(member: &str, text: &str) -> Result<(), ArchiveError> {
    let odd = |c: char| (c.is_control() && c != '\n' && c != '\t') || matches!(c, '\u{2028}' | '\u{2029}');
    match text.replace("\r\n", "\n").chars().find(|c| odd(*c)) {
        Some(c) => {
            let command = format!("(a line with the character U+{:04X})", u32::from(c));
            Err(ArchiveError::UnsafeCommand { member: member.to_owned(), command })
        }
        None => Ok(()),
    }
}

fn check_command(member: &str, command: &str) -> Result<(), ArchiveError> {
    let command = command.trim();
    let unsafe_char = |c: char| matches!(c, '/' | '\\' | ':') || c.is_control();
    if matches!(command, "" | "." | "..") || command.contains(unsafe_char) {
        return Err(ArchiveError::UnsafeCommand { member: member.to_owned(), command: command.to_owned() });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_cannot_hide_behind_what_only_python_takes_for_a_line_break() {
        let check = |text: &str| check_entry_points("entry_points.txt", text.as_bytes());
        assert!(check("[console_scripts]\r\nfoo = a:b\r\n\n[other]\nx = ../y\n").is_ok());
        for bad in [
            "foo = a:b\u{c}../../evil = m:f",
            "foo = a:b\r../../evil = m:f",
            "foo = a:b\u{2028}../../evil = m:f",
            "../../evil: m:f",
            "../evil = m:f",
        ] {
            assert!(check(&format!("[console_scripts]\n{bad}\n")).is_err(), "{bad:?}");
        }
    }
}
