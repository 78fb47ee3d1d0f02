//! Writing what conda clients ask for. All of it is derived from published shards by pure functions: the
//! same shards give the same bytes, in whatever order they come.

use std::borrow::Borrow;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;

use serde::{Deserialize, Serialize};

use airlock_core::canon::Canonical;
use airlock_core::hex;
use airlock_core::id::Digest;
use airlock_core::shard::Shard;
use airlock_core::version::Order;

use zstd::bulk::Compressor;

use crate::msgpack;

/// The version of these functions, a part of every cache key of rendered bytes. Raised when any output
/// changes; compressors count, since they write other bytes in other versions.
pub const RENDERER: u32 = 3;

/// zstd level of everything rendered. Indexes repeat themselves over long distances: level 1 makes them smaller
/// than level 3 (1.05 MB instead of 1.17 of 7.5, and 55 instead of 59 of 371) in 0.6 of the time; level 19 would save a
/// quarter and take more than a hundred times as long.
pub const ZSTD_LEVEL: i32 = 1;

/// Compresses into one frame that states its content size, since some clients fail without
/// (conda-libmamba-solver before October 2025).
pub fn zst(bytes: &[u8]) -> io::Result<Vec<u8>> {
    thread_local! {
        // A context costs more than a small shard.
        static PACKER: RefCell<Option<Compressor<'static>>> = const { RefCell::new(None) };
    }
    PACKER.with_borrow_mut(|held| {
        let packer = match held {
            Some(packer) => packer,
            None => held.insert(Compressor::new(ZSTD_LEVEL)?),
        };
        packer.compress(bytes)
    })
}

type Records<'a> = BTreeMap<&'a str, &'a Canonical>;

/// The records of a subdir by table; `v3` tables by extension, keyed without it.
#[derive(Default)]
struct Tables<'a> {
    classic: Records<'a>,
    conda: Records<'a>,
    v3: BTreeMap<&'a str, Records<'a>>,
    removed: Vec<String>,
}

impl<'a> Tables<'a> {
    fn of(shards: impl IntoIterator<Item = &'a Shard>) -> Self {
        let mut tables = Self::default();
        for shard in shards {
            for (file, entry) in &shard.entries {
                match (entry.table.as_str(), entry.table.strip_prefix("v3/")) {
                    (_, Some(extension)) => {
                        let stem =
                            file.strip_suffix(extension).and_then(|s| s.strip_suffix('.')).unwrap_or(file);
                        tables.v3.entry(extension).or_default().insert(stem, &entry.record);
                    }
                    ("packages.conda", _) => {
                        tables.conda.insert(file, &entry.record);
                    }
                    _ => {
                        tables.classic.insert(file, &entry.record);
                    }
                }
            }
            let removed = shard.meta.get("removed").and_then(|r| r.read::<Vec<String>>().ok());
            // A file is either offered or removed; upstreams list some as both.
            tables.removed.extend(removed.into_iter().flatten().filter(|f| !shard.entries.contains_key(f)));
        }
        tables.removed.sort();
        tables.removed.dedup();
        tables
    }
}

/// Keys of `info` that would lead a client elsewhere, whoever put them there.
const LEADS_OUT: [&str; 3] = ["base_url", "shards_base_url", "channel_relations"];

/// `info` of a subdir, of what its upstream says of it.
pub(super) fn info(subdir: &str, about: Option<&Canonical>, more: &[(&str, Canonical)]) -> Canonical {
    let members = about.map(Canonical::members).unwrap_or_default();
    let mut info = members.iter().find(|(k, _)| k == "info").map(|(_, v)| v.members()).unwrap_or_default();
    info.retain(|(key, _)| {
        !LEADS_OUT.contains(&key.as_str()) && key != "subdir" && !more.iter().any(|(k, _)| k == key)
    });
    info.push(("subdir".to_owned(), Canonical::string(subdir)));
    info.extend(more.iter().map(|(k, v)| ((*k).to_owned(), v.clone())));
    Canonical::object(info.iter().map(|(k, v)| (k.as_str(), v)))
}

/// One shard (CEP 16), packed, and its name: the SHA-256 of the packed bytes. Hashes stand as raw bytes, and
/// both classic tables are always there, since conda reads them without looking.
pub fn shard(shard: &Shard) -> io::Result<(Digest, Vec<u8>)> {
    let tables = Tables::of([shard]);
    let mut out = Vec::new();
    let more = usize::from(!tables.v3.is_empty()) + usize::from(!tables.removed.is_empty());
    msgpack::write_map(&mut out, 2 + more);
    msgpack::write_str(&mut out, "packages");
    write_records(&mut out, &tables.classic)?;
    msgpack::write_str(&mut out, "packages.conda");
    write_records(&mut out, &tables.conda)?;
    if !tables.removed.is_empty() {
        msgpack::write_str(&mut out, "removed");
        msgpack::write_json(&mut out, &Canonical::of(&tables.removed)?)?;
    }
    if !tables.v3.is_empty() {
        msgpack::write_str(&mut out, "v3");
        msgpack::write_map(&mut out, tables.v3.len());
        for (extension, records) in &tables.v3 {
            msgpack::write_str(&mut out, extension);
            write_records(&mut out, records)?;
        }
    }
    let packed = zst(&out)?;
    Ok((Digest::of(&packed), packed))
}

fn write_records(out: &mut Vec<u8>, records: &Records<'_>) -> io::Result<()> {
    msgpack::write_map(out, records.len());
    for (file, record) in records {
        msgpack::write_str(out, file);
        let members = record.parts();
        msgpack::write_map(out, members.len());
        for (key, value) in &members {
            msgpack::write_str(out, key);
            let hash = value.strip_prefix('"').and_then(|v| v.strip_suffix('"'));
            match (key.as_ref(), hash) {
                ("sha256", Some(hash)) if hex::decode::<32>(hash).is_some() => {
                    msgpack::write_bin(out, &hex::decode::<32>(hash).unwrap_or_default());
                }
                ("md5", Some(hash)) if hex::decode::<16>(hash).is_some() => {
                    msgpack::write_bin(out, &hex::decode::<16>(hash).unwrap_or_default());
                }
                _ => msgpack::write_text(out, value)?,
            }
        }
    }
    Ok(())
}

/// `repodata_shards.msgpack.zst` (CEP 16) of a subdir, with its shards in the order of their names. Both base URLs are relative in the one spelling that all
/// clients resolve alike.
pub fn shard_index(
    subdir: &str,
    about: Option<&Canonical>,
    shards: impl IntoIterator<Item = (impl AsRef<str>, impl Borrow<Digest>), IntoIter: ExactSizeIterator>,
) -> io::Result<Vec<u8>> {
    let shards = shards.into_iter();
    let bases = [("base_url", Canonical::string("./")), ("shards_base_url", Canonical::string("./shards/"))];
    let mut out = Vec::new();
    msgpack::write_map(&mut out, 3);
    msgpack::write_str(&mut out, "info");
    msgpack::write_json(&mut out, &info(subdir, about, &bases))?;
    msgpack::write_str(&mut out, "shards");
    msgpack::write_map(&mut out, shards.len());
    for (name, digest) in shards {
        msgpack::write_str(&mut out, name.as_ref());
        msgpack::write_bin(&mut out, digest.borrow().as_bytes());
    }
    msgpack::write_str(&mut out, "version");
    msgpack::write_json(&mut out, &Canonical::of(&1)?)?;
    zst(&out)
}

/// What `channeldata.json` says of a package.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChannelPackage {
    /// The newest version.
    pub version: Box<str>,
    /// Its licence.
    pub licence: Option<Box<str>>,
    /// One line.
    pub summary: Option<Box<str>>,
    /// In seconds, unlike everywhere else.
    pub timestamp: Option<i64>,
}

/// A package in all subdirs of a channel.
#[derive(Clone, Debug, Default)]
pub struct Everywhere<'a> {
    subdirs: Vec<&'a str>,
    newest: Option<ChannelPackage>,
}

impl<'a> Everywhere<'a> {
    /// Takes in what one more subdir says of it. What the newest version says counts: of equal ones the first, and of a version
    /// that cannot be compared with the one before it, the later.
    pub fn add(&mut self, subdir: &'a str, package: ChannelPackage) {
        if let Err(at) = self.subdirs.binary_search(&subdir) {
            self.subdirs.insert(at, subdir);
        }
        let is_newer = self.newest.as_ref().is_none_or(|held| {
            let order = Order::Conda.compare(&package.version, &held.version);
            held.version.is_empty() || order.is_none_or(std::cmp::Ordering::is_gt)
        });
        if is_newer {
            self.newest = Some(package);
        }
    }
}

/// Writes `channeldata.json` (CEP 38), canonical, one package after another in the order of their names, so that neither they nor the
/// document are in memory.
pub fn channeldata<'a>(
    packages: impl IntoIterator<Item = (&'a str, Everywhere<'a>)>,
    subdirs: &[String],
    out: &mut impl io::Write,
) -> io::Result<()> {
    out.write_all(br#"{"channeldata_version":1,"packages":{"#)?;
    for (at, (name, all)) in packages.into_iter().enumerate() {
        let comma = if at == 0 { "" } else { "," };
        let p = all.newest.unwrap_or_default();
        let package = Canonical::of(&serde_json::json!({
            "subdirs": all.subdirs, "version": p.version, "license": p.licence, "summary": p.summary,
            "timestamp": p.timestamp.unwrap_or(0), "run_exports": {},
        }))?;
        write!(out, "{comma}{}:{}", Canonical::string(name).as_str(), package.as_str())?;
    }
    writeln!(out, "}},\"subdirs\":{}}}", Canonical::of(subdirs)?.as_str())
}
