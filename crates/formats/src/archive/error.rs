//! What can be wrong with an archive: one variant for each attack or fault.

use std::io;

/// Why an archive was refused. Each message names the member and the reason; names are escaped, since they
/// come from the archive. No variant means "try again": the same bytes give the same answer, but for
/// [`ArchiveError::Read`].
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ArchiveError {
    /// The reader failed, or a compressed stream does not decode.
    #[error("the archive cannot be read: {0}")]
    Read(io::Error),
    /// The data ends in the middle of something.
    #[error("the archive ends too early")]
    Truncated,

    /// More entries than [`entries_max`](super::ArchiveLimits::entries_max).
    #[error("the archive has more than {entries_max} entries")]
    TooManyEntries {
        /// The limit.
        entries_max: u64,
    },
    /// Unpacks to more than [`unpacked_bytes_max`](super::ArchiveLimits::unpacked_bytes_max).
    #[error("the archive unpacks to more than {bytes_max} bytes")]
    UnpackedTooLarge {
        /// The limit, in bytes.
        bytes_max: u64,
    },
    /// Unpacks to more than [`ratio_max`](super::ArchiveLimits::ratio_max) times its own size.
    #[error("the archive unpacks to more than {ratio_max} times its size")]
    RatioTooHigh {
        /// The limit, as a factor.
        ratio_max: u64,
    },
    /// A member that is read into memory exceeds
    /// [`member_bytes_max`](super::ArchiveLimits::member_bytes_max).
    #[error("member {member:?} is larger than {bytes_max} bytes")]
    MemberTooLarge {
        /// The member.
        member: String,
        /// The limit, in bytes.
        bytes_max: u64,
    },
    /// A member's name, or a link's target, exceeds [`name_bytes_max`](super::ArchiveLimits::name_bytes_max).
    #[error("member {member:?}... has a name or link target of more than {bytes_max} bytes")]
    NameTooLong {
        /// The name's first characters.
        member: String,
        /// The limit, in bytes.
        bytes_max: usize,
    },
    /// A member's name has more parts than [`name_parts_max`](super::ArchiveLimits::name_parts_max).
    #[error("member {member:?}... lies deeper than {parts_max} directories")]
    NameTooDeep {
        /// The name's first characters.
        member: String,
        /// The limit.
        parts_max: usize,
    },
    /// All names together exceed [`names_bytes_max`](super::ArchiveLimits::names_bytes_max).
    #[error("the names of all members are longer than {bytes_max} bytes together")]
    NamesTooLarge {
        /// The limit, in bytes.
        bytes_max: usize,
    },
    /// The zip directory exceeds [`directory_bytes_max`](super::ArchiveLimits::directory_bytes_max).
    #[error("the zip directory is larger than {bytes_max} bytes")]
    DirectoryTooLarge {
        /// The limit, in bytes.
        bytes_max: u64,
    },
    /// A tar extension header exceeds [`header_bytes_max`](super::ArchiveLimits::header_bytes_max).
    #[error("a tar extension header is larger than {bytes_max} bytes")]
    HeaderTooLarge {
        /// The limit, in bytes.
        bytes_max: u64,
    },

    /// A member's name could lead out of the place where it is unpacked, or means different places on
    /// different systems.
    #[error("member {member:?} has an unsafe name: {reason}")]
    UnsafeName {
        /// The member.
        member: String,
        /// What is unsafe about it.
        reason: &'static str,
    },
    /// Two members have one name, or names that differ only in case where that would hide checked metadata.
    #[error("member {member:?} is there twice")]
    DuplicateMember {
        /// The second of them.
        member: String,
    },
    /// A link points out of the archive, or in a way that cannot be followed by its text alone.
    #[error("member {member:?} links to {target:?}: {reason}")]
    LinkEscapes {
        /// The link.
        member: String,
        /// Where it points.
        target: String,
        /// Why that is refused.
        reason: &'static str,
    },
    /// A hard link names no earlier regular file.
    #[error("member {member:?} is a hard link to {target:?}, which is no earlier file of the archive")]
    HardLinkDangling {
        /// The link.
        member: String,
        /// Where it points.
        target: String,
    },
    /// A member would be written through a symbolic link that the archive makes first.
    #[error("member {member:?} lies behind the symbolic link {link:?}")]
    ThroughLink {
        /// The member.
        member: String,
        /// The link that stands on its path.
        link: String,
    },
    /// A symbolic link in a zip archive, or one that replaces metadata.
    #[error("member {member:?} is a link where only a file may be")]
    UnexpectedLink {
        /// The member.
        member: String,
    },
    /// A device, a fifo, a sparse file or anything else that is not a file, directory or link.
    #[error("member {member:?} is neither file, directory nor link but {kind}")]
    SpecialFile {
        /// The member.
        member: String,
        /// What it is.
        kind: String,
    },

    /// A file that would run with its owner's rights.
    #[error("member {member:?} has its setuid or setgid bit set")]
    SetId {
        /// The member.
        member: String,
    },
    /// The bytes are an archive of another kind as well, and which one is opened depends on who asks (the class
    /// of CVE-2026-3219).
    #[error("the archive can be read as {also} as well")]
    Polyglot {
        /// The other kind.
        also: &'static str,
    },
    /// More than one zstd frame, of which some readers see only the first, or frames that all readers skip.
    #[error("member {member:?} holds more than one zstd frame")]
    SeveralFrames {
        /// The member.
        member: String,
    },

    /// A tar header that is not well formed.
    #[error("the tar header of {member:?} is not valid: {reason}")]
    TarHeader {
        /// The member, as far as its name is known.
        member: String,
        /// What is wrong.
        reason: &'static str,
    },
    /// Headers of one tar member contradict each other, so that readers would disagree (the class of
    /// CVE-2025-62518).
    #[error("the tar headers of {member:?} disagree: {reason}")]
    TarAmbiguous {
        /// The member.
        member: String,
        /// Where they disagree.
        reason: &'static str,
    },
    /// Something other than zeros follows the end of a tar archive.
    #[error("data follows the end of the tar archive")]
    TarTrailingData,

    /// No end-of-central-directory record: this is no zip archive.
    #[error("not a zip archive: no end record")]
    NotZip,
    /// More than one place could be the end of the zip directory.
    #[error("the zip archive has more than one end record")]
    ZipSeveralEnds,
    /// Bytes follow the zip archive's end record.
    #[error("data follows the end of the zip archive")]
    ZipTrailingData,
    /// End record, zip64 record and directory contradict each other.
    #[error("the zip directory is not consistent: {reason}")]
    ZipDirectory {
        /// What is wrong.
        reason: &'static str,
    },
    /// Bytes before, between or after the members, or members that overlap.
    #[error("zip member {member:?} does not follow the one before it: {reason}")]
    ZipLayout {
        /// The member.
        member: String,
        /// What is wrong.
        reason: &'static str,
    },
    /// A local header contradicts the directory.
    #[error("the local header of zip member {member:?} disagrees with the directory: {reason}")]
    ZipMismatch {
        /// The member.
        member: String,
        /// Where they disagree.
        reason: &'static str,
    },
    /// An encrypted zip member.
    #[error("zip member {member:?} is encrypted")]
    Encrypted {
        /// The member.
        member: String,
    },
    /// A compression method that this kind of archive may not use.
    #[error("zip member {member:?} uses compression method {method}, which may not be used here")]
    Method {
        /// The member.
        member: String,
        /// The method's number in APPNOTE.
        method: u16,
    },
    /// The data of a zip member does not have the size or the checksum that the directory declares.
    #[error("zip member {member:?} is not what the directory declares: {reason}")]
    ZipData {
        /// The member.
        member: String,
        /// What differs.
        reason: &'static str,
    },

    /// A member that this kind of archive must have is missing.
    #[error("member {member:?} is missing")]
    MissingMember {
        /// The member.
        member: String,
    },
    /// A member that this kind of archive must not have.
    #[error("member {member:?} does not belong here: {reason}")]
    UnexpectedMember {
        /// The member.
        member: String,
        /// Why not.
        reason: &'static str,
    },
    /// A metadata member that cannot be understood.
    #[error("member {member:?} cannot be understood: {reason}")]
    Metadata {
        /// The member.
        member: String,
        /// What is wrong.
        reason: String,
    },
    /// Two places of one artifact name different packages.
    #[error("member {member:?} does not belong to {expected:?}")]
    IdentityMismatch {
        /// The member whose name tells another story.
        member: String,
        /// What the metadata says.
        expected: String,
    },
    /// `info/paths.json` lists what the archive does not hold.
    #[error("{member:?} is listed in info/paths.json and not in the archive")]
    ListedMissing {
        /// The path.
        member: String,
    },
    /// The archive holds what `info/paths.json` does not list.
    #[error("member {member:?} is not listed in info/paths.json")]
    Unlisted {
        /// The member.
        member: String,
    },
    /// `info/paths.json` says something else of a member than the archive.
    #[error("member {member:?} is not what info/paths.json says: {reason}")]
    ListedOtherwise {
        /// The member.
        member: String,
        /// What differs.
        reason: &'static str,
    },
    /// A command that an installer would write outside of its directory for programs (CVE-2026-47425,
    /// CVE-2026-8643).
    #[error("member {member:?} declares the command {command:?}, which is no plain file name")]
    UnsafeCommand {
        /// The member that declares it.
        member: String,
        /// The command.
        command: String,
    },
}

impl From<io::Error> for ArchiveError {
    /// Unwraps an error of ours that travelled through `Read`, as the meter's do.
    fn from(error: io::Error) -> Self {
        let kind = error.kind();
        match error.downcast::<Self>() {
            Ok(ours) => ours,
            Err(_) if kind == io::ErrorKind::UnexpectedEof => Self::Truncated,
            Err(error) => Self::Read(error),
        }
    }
}
