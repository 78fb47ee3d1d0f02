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
/// Records of one feed.
pub const FEED_RECORDS_MAX: u64 = 20_000_000;
/// How deep a record or advisory may nest. Lower than what canonical text may, since records are stored and
/// served inside of documents.
pub const RECORD_DEPTH_MAX: usize = 48;
/// Bad records that are listed by name; more are only counted.
pub const BAD_LISTED_MAX: usize = 1000;
/// How much larger than its compressed form a stream may become. Repodata of one kind of package
/// reaches 40.
pub const RATIO_MAX: u64 = 400;
