//! `index`: the indexes of a conda channel that lies in a directory, made from its packages. No station is needed.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use serde::Serialize;

use airlock_core::ecosystem;
use airlock_core::id::Digest;
use airlock_formats::{BadEntry, conda};

use crate::error::{Error, Result, file_error, joined};
use crate::mirror::directory::{self, Bare, CacheFile, How};

/// Where each subdir of the output keeps what was read, so that the next run opens only what is new.
pub const CACHE: &str = ".airlock-index.zst";
/// The mode of what is written, before the umask.
const MODE: u32 = 0o666;

/// What indexing one subdir did.
#[derive(Debug, Serialize)]
pub struct Indexed {
    /// The subdir.
    pub subdir: String,
    /// Packages in its index.
    pub packages: u64,
    /// Packages that were opened.
    pub opened: u64,
    /// Packages that were known from the last time.
    pub known: u64,
    /// Files that were left out, the first of them by name.
    #[serde(skip)]
    pub bad: Vec<BadEntry>,
    /// How many were left out.
    pub bad_count: u64,
}

/// Reads the packages of every subdir in `dir`, and writes `repodata.json`, `repodata.json.zst` and shards for
/// each into `out`, whatever index was there before. The same packages give the same bytes. Each file is replaced
/// in one step, the one that names others last; shards of earlier runs stay, since clients may still ask for them.
///
/// # Errors
///
/// `dir` is no directory, or something cannot be written. Packages that cannot be read are left out.
pub async fn index(dir: &Path, out: &Path, threads: usize) -> Result<Vec<Indexed>> {
    let (dir, out) = (dir.to_owned(), out.to_owned());
    joined(tokio::task::spawn_blocking(move || all(&dir, &out, threads)).await)
}

fn all(dir: &Path, out: &Path, threads: usize) -> Result<Vec<Indexed>> {
    if !dir.is_dir() {
        return Err(Error::usage(format!("{} is no directory", dir.display()))
            .hint("give the directory that holds `noarch` and the other subdirs"));
    }
    // A channel without noarch is none to its clients.
    let mut subdirs = vec!["noarch".to_owned()];
    for entry in std::fs::read_dir(dir).map_err(file_error(dir))? {
        let entry = entry.map_err(file_error(dir))?;
        let name = entry.file_name().to_str().map(str::to_owned);
        subdirs.extend(name.filter(|name| ecosystem::is_subdir(name) && entry.path().is_dir()));
    }
    subdirs.sort();
    subdirs.dedup();
    subdirs.iter().map(|subdir| one(dir, out, subdir, threads)).collect()
}

fn one(dir: &Path, out: &Path, subdir: &str, threads: usize) -> Result<Indexed> {
    let folder = out.join(subdir);
    std::fs::create_dir_all(&folder).map_err(file_error(&folder))?;
    let cache = CacheFile::new(folder.clone(), CACHE.to_owned());
    let Bare { read, opened, known } =
        directory::conda(dir, subdir, &|_| true, How::now(threads), &cache, false)?.unwrap_or_default();
    let shards_folder = folder.join("shards");
    std::fs::create_dir_all(&shards_folder).map_err(file_error(&shards_folder))?;
    if std::fs::symlink_metadata(&shards_folder).is_ok_and(|m| m.is_symlink()) {
        let error = format!("{} is a link, and is not written through", shards_folder.display());
        return Err(Error::fault(error).hint("take it away, then run it again"));
    }
    let mut names: BTreeMap<String, Digest> = BTreeMap::new();
    for (key, shard) in &read.shards {
        let (digest, bytes) = conda::shard(shard).map_err(file_error(&shards_folder))?;
        replace(&shards_folder, &format!("{digest}.msgpack.zst"), &bytes)?;
        names.insert(key.name.clone(), digest);
    }
    let about = read.about.as_ref();
    let sharded = conda::shard_index(subdir, about, &names).map_err(file_error(&folder))?;
    let whole = conda::repodata(subdir, about, read.shards.values());
    let packed = conda::zst(whole.as_bytes()).map_err(file_error(&folder))?;
    replace(&folder, "repodata_shards.msgpack.zst", &sharded)?;
    replace(&folder, "repodata.json.zst", &packed)?;
    replace(&folder, "repodata.json", whole.as_bytes())?;
    Ok(Indexed {
        subdir: subdir.to_owned(),
        packages: read.records() as u64,
        opened,
        known,
        bad: read.bad,
        bad_count: read.bad_count,
    })
}

/// Puts a file into its place in one step, unless it is there already.
fn replace(folder: &Path, name: &str, bytes: &[u8]) -> Result<()> {
    let path: PathBuf = folder.join(name);
    let is_file =
        std::fs::symlink_metadata(&path).is_ok_and(|m| m.is_file() && m.len() == bytes.len() as u64);
    if is_file && std::fs::read(&path).is_ok_and(|held| held == bytes) {
        return Ok(());
    }
    let mut file = tempfile::Builder::new()
        .permissions(std::fs::Permissions::from_mode(MODE))
        .tempfile_in(folder)
        .map_err(file_error(folder))?;
    file.write_all(bytes).map_err(file_error(&path))?;
    file.persist(&path).map_err(|e| file_error(&path)(e.error))?;
    Ok(())
}
