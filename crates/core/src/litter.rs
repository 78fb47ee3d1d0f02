//! What operating systems leave on media beside a bundle, which is ignored.

/// Whether a name at the top of a bundle, or anywhere in it, was left there by an operating system.
pub fn is_litter(name: &str) -> bool {
    const NAMES: [&str; 12] = [
        "System Volume Information",
        "$RECYCLE.BIN",
        "RECYCLER",
        "lost+found",
        ".DS_Store",
        ".Spotlight-V100",
        ".fseventsd",
        ".Trashes",
        "Thumbs.db",
        "desktop.ini",
        ".TemporaryItems",
        ".DocumentRevisions-V100",
    ];
    NAMES.iter().any(|known| known.eq_ignore_ascii_case(name))
        || name.starts_with("._")
        || name.starts_with(".Trash-")
}
