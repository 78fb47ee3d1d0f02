//! Readers of package archives that somebody hostile made.
//!
//! Each `open_*` function takes a reader over one artifact whose hash was verified already, walks it as a
//! stream within [`ArchiveLimits`], writes nothing anywhere, and returns what the artifact says of itself
//! ([`Opened`]). Where two honest tools could read the same bytes differently, the archive is refused instead
//! of one reading being chosen: what was judged must be what gets installed.
//!
//! ```text
//! .conda      zip structure ── info, pkg .tar.zst  zstd ─┐
//! .tar.bz2    bzip2 streams ────────────────────────────┼── meter ── tar walk ── wanted members ── Opened
//! .tar.gz     gzip members ─────────────────────────────┘
//! .whl .zip   zip structure ── each member unpacked and checked ─── wanted members ── Opened
//! ```
//!
//! | file | job |
//! |---|---|
//! | `limits` | the limits, and the meter that holds a stream to them |
//! | `names` | safe member names and link targets |
//! | `tarcheck`, `pax` | the tar walk and its extended headers |
//! | `zipcheck`, `zipentry`, `zipdata` | the zip structure, one directory entry, local headers and data |
//! | `paths` | what `info/paths.json` lists, held against what a conda package holds |
//! | `files`, `write` | archives of files of whatever kind, and writing one |
//! | `conda`, `wheel`, `sdist` | what each kind of artifact must hold |
//! | `info` | just what an index needs of a package |
//! | `metadata`, `entrypoints`, `wanted` | core metadata, command names, the members kept in memory |
//!
//! None of it does I/O of its own, and none of it panics, whatever the bytes.

mod conda;
mod entrypoints;
mod error;
mod files;
pub mod info;
mod limits;
mod metadata;
mod names;
mod paths;
mod pax;
mod sdist;
mod tarcheck;
mod wanted;
mod wheel;
mod write;
mod zipcheck;
mod zipdata;
mod zipentry;

pub use conda::{open_conda, open_tar_bz2};
pub use error::ArchiveError;
pub use files::{EachFile, EachSized, TAR_START_BYTES, is_tar, is_zip, tar_files, tree_files, zip_files};
pub use limits::ArchiveLimits;
pub use metadata::{CoreMetadata, METADATA_BYTES_MAX, parse_metadata};
pub use sdist::{open_sdist, open_sdist_zip};
pub use wheel::open_wheel;
pub use write::ZipFile;

/// What opening an artifact revealed: the words of whoever built it, checked for form and not for truth.
///
/// `name`, `version` and `build` are printable ASCII without blanks or separators, and are never empty. Every
/// other text is as the artifact has it and must be escaped where it is shown.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Opened {
    /// Name as the artifact spells it, not normalised.
    pub name: String,
    /// Version as the artifact spells it, not normalised.
    pub version: String,
    /// Build string of a conda package.
    pub build: Option<String>,
    /// Subdirectory (`linux-64`, `noarch`) that a conda package says it is for; old packages say nothing.
    pub subdir: Option<String>,
    /// Licence: an SPDX expression where the artifact has one, else its own words.
    pub licence: Option<String>,
    /// One-line description.
    pub summary: Option<String>,
    /// The exact bytes of a wheel's `METADATA`, as PEP 658 serves them.
    pub metadata: Option<Vec<u8>>,
    /// The exact bytes of a conda package's `info/index.json`.
    pub index_json: Option<Vec<u8>>,
    /// The exact bytes of a conda package's `info/run_exports.json`, where it has one.
    pub run_exports: Option<Vec<u8>>,
    /// The exact bytes of a conda package's `info/security.json`, where it has one.
    pub security: Option<Vec<u8>>,
    /// Each `Requires-Dist` of a wheel or sdist, as it stands there.
    pub requires_dist: Vec<String>,
    /// `Requires-Python` of a wheel or sdist, as it stands there.
    pub requires_python: Option<String>,
}
