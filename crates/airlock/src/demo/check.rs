//! What a client does, done by the demonstration itself: from the index to the bytes of a package.

use airlock_core::ecosystem::Ecosystem;
use airlock_core::id::Digest;
use airlock_core::record::Artifact;
use airlock_engine::error::{Error, Result};
use airlock_engine::station::Station;
use airlock_engine::upstream::{Ask, Body, Client, Got, Location};
use airlock_formats::archive::{ArchiveLimits, open_conda, open_wheel};
use airlock_formats::{conda, pypi};

/// More than anything of the sample, in bytes.
const BYTES_MAX: u64 = 16 << 20;

/// A client of the serving station.
pub struct Checker {
    client: Client,
    base: Location,
}

impl Checker {
    /// A client of the station at `base`.
    pub fn new(station: &Station, base: &str) -> Result<Self> {
        let base = Location::parse(base)?;
        Ok(Self { client: Client::new(station, &base)?, base })
    }

    async fn get(&self, path: &str, accept: Option<&str>) -> Result<Body> {
        let ask = Ask { accept, bytes_max: BYTES_MAX, ..Ask::default() };
        match self.client.get(&self.base.join(path)?, ask).await? {
            Got::Body(body) => Ok(body),
            Got::NotModified | Got::Absent => Err(Error::no(format!("{path} is not there"))),
        }
    }

    /// Installs a conda package as rattler would: shard index, shard, file; gives the file's name.
    pub async fn conda(&self, name: &str, version: &str) -> Result<String> {
        let folder = "conda/main/noarch";
        let wrong = |what: &str| Error::no(format!("conda {name}: {what}"));
        let body = self.get(&format!("{folder}/repodata_shards.msgpack.zst"), None).await?;
        let index = conda::read_shard_index("noarch", &body.bytes).map_err(|e| wrong(&e.to_string()))?;
        let digest = *index.shards.get(name).ok_or_else(|| wrong("not in the index"))?;
        let body = self.get(&format!("{folder}/shards/{digest}.msgpack.zst"), None).await?;
        if Digest::of(&body.bytes) != digest {
            return Err(wrong("the shard does not hash to its name"));
        }
        let read = conda::read_shard("noarch", name, &body.bytes).map_err(|e| wrong(&e.to_string()))?;
        let artifacts =
            read.shards.values().flat_map(|s| s.entries.iter().map(move |(f, e)| Artifact::read(s, f, e)));
        let artifact = artifacts.filter_map(std::result::Result::ok).find(|a| a.version == version);
        let artifact = artifact.ok_or_else(|| wrong("the version is not offered"))?;
        let body = self.get(&format!("{folder}/{}", artifact.file), None).await?;
        check_bytes(&artifact, &body.bytes)?;
        let opened = open_conda(std::io::Cursor::new(&body.bytes), &ArchiveLimits::default())
            .map_err(|e| wrong(&e.to_string()))?;
        if opened.version == version {
            Ok(artifact.file)
        } else {
            Err(wrong("the package is of another version"))
        }
    }

    /// Installs a wheel as pip would: the JSON page, the file, its metadata; gives the file's name.
    pub async fn pypi(&self, name: &str, version: &str) -> Result<String> {
        let wrong = |what: &str| Error::no(format!("wheel of {name}: {what}"));
        let page = format!("pypi/py/simple/{name}/");
        let body = self.get(&page, Some("application/vnd.pypi.simple.v1+json")).await?;
        let read = pypi::read_project_json(name, &page, &body.bytes).map_err(|e| wrong(&e.to_string()))?;
        let shard = read.shards.into_values().next().ok_or_else(|| wrong("the page is empty"))?;
        let artifacts =
            shard.entries.iter().filter_map(|(f, e)| Artifact::from_parts(Ecosystem::Pypi, name, f, e).ok());
        let artifact = artifacts
            .into_iter()
            .find(|a| a.version == version)
            .ok_or_else(|| wrong("the version is not offered"))?;
        let url = artifact.url.clone().ok_or_else(|| wrong("the file has no address"))?;
        let body = self.get(&format!("{page}{url}"), None).await?;
        check_bytes(&artifact, &body.bytes)?;
        let opened = open_wheel(std::io::Cursor::new(&body.bytes), &ArchiveLimits::default())
            .map_err(|e| wrong(&e.to_string()))?;
        let metadata = self.get(&format!("{page}{url}.metadata"), None).await?;
        if opened.metadata.as_deref() == Some(&metadata.bytes) {
            Ok(artifact.file)
        } else {
            Err(wrong("its .metadata is not the one in the wheel"))
        }
    }

    /// Asks for a file that must be refused, and gives the answer's status line.
    pub async fn refused(&self, path: &str) -> Result<String> {
        match self.get(path, None).await {
            Err(error) if error.message.contains("403") => Ok(error.message),
            Err(error) => Err(error),
            Ok(_) => Err(Error::no(format!("{path} was served, although it is denied"))),
        }
    }
}

fn check_bytes(artifact: &Artifact, bytes: &[u8]) -> Result<()> {
    match artifact.sha256 {
        Some(digest) if digest == Digest::of(bytes) => Ok(()),
        _ => Err(Error::no(format!("{} does not hash to what the index says", artifact.file))),
    }
}
