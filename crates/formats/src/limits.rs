//! Every limit on what outsiders send, with its unit, in one place. Archives have theirs in
//! [`crate::archive`].

/// One channel index, unpacked, in bytes. conda-forge's largest is 0.3 GB.
pub const INDEX_BYTES_MAX: u64 = 2 << 30;
/// One shard of an index, unpacked, in bytes. conda reads 16 MiB; some live upstreams exceed that.
pub const SHARD_BYTES_MAX: u64 = 128 << 20;
/// One page of a PyPI project, in bytes. The largest of PyPI has some 30 MB.
pub const PAGE_BYTES_MAX: u64 = 256 << 20;
/// The list of all projects of a PyPI index, in bytes.
pub const PROJECTS_BYTES_MAX: u64 = 512 << 20;
/// One advisory, in bytes. NVD's largest have some 2 MB.
pub const ADVISORY_BYTES_MAX: u64 = 16 << 20;
/// One feed, unpacked, in bytes. All of NVD is 2.5 GB.
pub const FEED_BYTES_MAX: u64 = 16 << 30;
/// One record of an index, one advisory, or one value that an index says beside its records, in bytes. The largest
/// genuine records have some 100 kB, advisories 2 MB; parsed into members, text is up to eight times its size.
pub const RECORD_BYTES_MAX: usize = 16 << 20;
/// Records of one conda index, bad ones among them. conda-forge's largest subdir has 0.7 million; each takes
/// some 200 bytes beside its text.
pub const INDEX_RECORDS_MAX: u64 = 5_000_000;
/// Package names of one conda index. conda-forge has 30,000; each takes some 1200 bytes.
pub const INDEX_NAMES_MAX: usize = 1_000_000;
/// Names of one list of PyPI projects. PyPI has 0.7 million; each takes some 60 bytes.
pub const PROJECTS_MAX: usize = 5_000_000;
/// Files that one conda index lists as removed. conda-forge's largest subdir lists some thousand.
pub const REMOVED_MAX: usize = 1_000_000;
/// Keys that an index or page has beside its records.
pub const ABOUT_KEYS_MAX: usize = 1000;
/// Files of one PyPI project. The largest have some ten thousand.
pub const PAGE_FILES_MAX: u64 = 1_000_000;
/// Attributes of one HTML tag. Simple pages have at most five.
pub const TAG_ATTRIBUTES_MAX: usize = 64;
/// How much larger the JSON text of a sharded index may be than its msgpack bytes: hashes double, arrays of small
/// numbers triple.
pub const MSGPACK_TEXT_RATIO_MAX: usize = 4;
/// Records of one feed. All of OSV has some 500,000, NVD 300,000; a station keeps some 200 bytes for each while
/// it reads.
pub const FEED_RECORDS_MAX: u64 = 2_000_000;
/// Files in one archive of a feed. The CVE List has some 330,000; each takes some 300 bytes while the archive is read.
pub const FEED_FILES_MAX: u64 = 1_000_000;
/// The directory of a zip archive of a feed, in bytes. That of the CVE List has some 40 MB.
pub const FEED_DIRECTORY_BYTES_MAX: u64 = 128 << 20;
/// A feed that is one object (KEV, EPSS, identities), unpacked, in bytes. The largest has some 15 MB.
pub const FEED_OBJECT_BYTES_MAX: u64 = 128 << 20;
/// The id of an advisory, or another name of it, in bytes.
pub const ADVISORY_ID_BYTES_MAX: usize = 200;
/// Ids of one advisory. Distributions name some hundred CVEs in one.
pub const ADVISORY_IDS_MAX: usize = 10_000;
/// Packages that one advisory says something of.
pub const ADVISORY_AFFECTED_MAX: usize = 10_000;
/// A CVE number, in bytes.
pub const CVE_BYTES_MAX: usize = 40;
/// Entries of a KEV catalogue. It has some 1,400.
pub const KEV_ENTRIES_MAX: usize = 100_000;
/// One entry of a KEV catalogue, in bytes.
pub const KEV_ENTRY_BYTES_MAX: u64 = 64 << 10;
/// Scores of an EPSS file. It has one for each CVE, some 300,000.
pub const EPSS_SCORES_MAX: usize = 1_000_000;
/// Names in a map of identities. conda-forge has some 34,000.
pub const IDENTITIES_MAX: usize = 500_000;
/// Names that one name may map to.
pub const IDENTITY_NAMES_MAX: usize = 100;
/// A name in a map of identities, in bytes.
pub const IDENTITY_NAME_BYTES_MAX: usize = 200;
/// Purls and CPEs that a map may name for one package, and products that may be one package.
pub const IDENTITY_KEYS_MAX: usize = 64;
/// One string in a map of identities, in bytes. The longest are descriptions.
pub const IDENTITY_STRING_BYTES_MAX: usize = 1 << 20;
/// One row of a map of CPE products, in bytes.
pub const IDENTITY_ROW_BYTES_MAX: u64 = 4096;
/// One document of statements (VEX), in bytes.
pub const VEX_DOCUMENT_BYTES_MAX: u64 = ADVISORY_BYTES_MAX;
/// Statements in one feed.
pub const VEX_STATEMENTS_MAX: usize = 1_000_000;
/// Statements about one package in one feed, and of one package about itself.
pub const VEX_STATEMENTS_OF_ONE_MAX: usize = 20_000;
/// What is kept of the reason of a statement, in characters.
pub const VEX_NOTE_CHARS_MAX: usize = 2000;
/// A file that says what somebody needs (an environment, requirements), in bytes. Large ones have some hundred kB.
pub const ENVIRONMENT_BYTES_MAX: u64 = ADVISORY_BYTES_MAX;
/// What such a file may ask for. Large ones ask for some hundred packages.
pub const ENVIRONMENT_SPECS_MAX: usize = 20_000;
/// One lock file, in bytes. The largest have some 5 MB.
pub const LOCK_BYTES_MAX: u64 = 16 << 20;
/// Packages and files that one lock file names. The largest name some 20,000; each takes some 200 bytes.
pub const LOCK_FILES_MAX: usize = 100_000;
/// A version in a lock file, in bytes.
pub const LOCK_VERSION_BYTES_MAX: usize = 200;
/// How deep a record or advisory may nest. Lower than what canonical text may, since records are stored and
/// served inside of documents.
pub const RECORD_DEPTH_MAX: usize = 48;
/// Bad records that are listed by name; more are only counted.
pub const BAD_LISTED_MAX: usize = 1000;
/// How much larger than its compressed form a stream may become. Repodata of one kind of package
/// reaches 40.
pub const RATIO_MAX: u64 = 400;
/// Bytes that a stream may unpack to whatever its ratio: small ones reach high ratios without being bombs.
pub const RATIO_FREE_BYTES: u64 = 1 << 20;
