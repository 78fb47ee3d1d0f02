//! Writing what conda clients ask for. All of it is derived from published shards by pure functions: the
//! same shards give the same bytes, in whatever order they come.

use std::collections::BTreeMap;
use std::io;

use airlock_core::canon::Canonical;
use airlock_core::hex;
use airlock_core::id::Digest;
use airlock_core::shard::Shard;
use serde::Deserialize;

use crate::msgpack;

/// The version of these functions, a part of every cache key of rendered bytes. Raised when any output
/// changes; compressors count, since they write other bytes in other versions.
pub const RENDERER: u32 = 1;

/// zstd level of everything rendered: -19 would save a quarter and take 150 times as long.
const ZSTD_LEVEL: i32 = 6;

/// Compresses into one frame that states its content size, since some clients fail without
/// (conda-libmamba-solver before October 2025).
pub fn zst(bytes: &[u8]) -> io::Result<Vec<u8>> {
    zstd::bulk::compress(bytes, ZSTD_LEVEL)
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

    /// `info.repodata_revisions` of CEP 48, so that older clients can say what they cannot see.
    fn revisions(&self) -> Option<Canonical> {
        #[derive(Deserialize)]
        struct Stamps {
            indexed_timestamp: Option<i64>,
            timestamp: Option<i64>,
        }
        let records: Vec<&Canonical> = self.v3.values().flat_map(|t| t.values().copied()).collect();
        let stamps = records.iter().filter_map(|r| r.read::<Stamps>().ok());
        let stamps: Vec<i64> = stamps.filter_map(|s| s.indexed_timestamp.or(s.timestamp)).collect();
        if records.is_empty() {
            return None;
        }
        let (oldest, newest) = (stamps.iter().min().unwrap_or(&0), stamps.iter().max().unwrap_or(&0));
        let value =
            serde_json::json!({"v3": {"n_packages": records.len(), "newest": newest, "oldest": oldest}});
        Canonical::of(&value).ok()
    }
}

fn push_records(out: &mut String, records: &Records<'_>) {
    out.push('{');
    for (i, (file, record)) in records.iter().enumerate() {
        if i > 0 {
            out.push(',');
        }
        out.push_str(Canonical::string(file).as_str());
        out.push(':');
        out.push_str(record.as_str());
    }
    out.push('}');
}

/// Keys of `info` that would lead a client elsewhere, whoever put them there.
const LEADS_OUT: [&str; 3] = ["base_url", "shards_base_url", "channel_relations"];

/// `info` of a subdir, of what its upstream says of it.
fn info(subdir: &str, about: Option<&Canonical>, more: &[(&str, Canonical)]) -> Canonical {
    let members = about.map(Canonical::members).unwrap_or_default();
    let mut info = members.iter().find(|(k, _)| k == "info").map(|(_, v)| v.members()).unwrap_or_default();
    info.retain(|(key, _)| {
        !LEADS_OUT.contains(&key.as_str()) && key != "subdir" && !more.iter().any(|(k, _)| k == key)
    });
    info.push(("subdir".to_owned(), Canonical::string(subdir)));
    info.extend(more.iter().map(|(k, v)| ((*k).to_owned(), v.clone())));
    Canonical::object(info.iter().map(|(k, v)| (k.as_str(), v)))
}

/// `repodata.json` (CEP 36) of a subdir. `about` is what its upstream said of it beside the records.
pub fn repodata<'a>(
    subdir: &str,
    about: Option<&Canonical>,
    shards: impl IntoIterator<Item = &'a Shard>,
) -> String {
    let tables = Tables::of(shards);
    let revisions = tables.revisions().map(|r| ("repodata_revisions", r));
    let mut out = String::from("{\"info\":");
    out.push_str(info(subdir, about, revisions.as_slice()).as_str());
    out.push_str(",\"packages\":");
    push_records(&mut out, &tables.classic);
    out.push_str(",\"packages.conda\":");
    push_records(&mut out, &tables.conda);
    out.push_str(",\"removed\":[");
    for (i, file) in tables.removed.iter().enumerate() {
        out.push_str(if i > 0 { "," } else { "" });
        out.push_str(Canonical::string(file).as_str());
    }
    out.push_str("],\"repodata_version\":1");
    if !tables.v3.is_empty() {
        out.push_str(",\"v3\":{");
        for (i, (extension, records)) in tables.v3.iter().enumerate() {
            out.push_str(if i > 0 { "," } else { "" });
            out.push_str(Canonical::string(extension).as_str());
            out.push(':');
            push_records(&mut out, records);
        }
        out.push('}');
    }
    for (key, value) in about.map(Canonical::members).unwrap_or_default() {
        // Whoever said it: a second table of records, or a key that stands above already, must not follow.
        if key != "info" && !super::read::is_own(&key) {
            out.push(',');
            out.push_str(Canonical::string(&key).as_str());
            out.push(':');
            out.push_str(value.as_str());
        }
    }
    out.push_str("}\n");
    out
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
        let members = record.members();
        msgpack::write_map(out, members.len());
        for (key, value) in &members {
            msgpack::write_str(out, key);
            let text: Option<String> = value.read().ok();
            match (key.as_str(), text) {
                ("sha256", Some(text)) if hex::decode::<32>(&text).is_some() => {
                    msgpack::write_bin(out, &hex::decode::<32>(&text).unwrap_or_default());
                }
                ("md5", Some(text)) if hex::decode::<16>(&text).is_some() => {
                    msgpack::write_bin(out, &hex::decode::<16>(&text).unwrap_or_default());
                }
                _ => msgpack::write_json(out, value)?,
            }
        }
    }
    Ok(())
}

/// `repodata_shards.msgpack.zst` (CEP 16) of a subdir. Both base URLs are relative in the one spelling that all
/// clients resolve alike.
pub fn shard_index(
    subdir: &str,
    about: Option<&Canonical>,
    shards: &BTreeMap<String, Digest>,
) -> io::Result<Vec<u8>> {
    let bases = [("base_url", Canonical::string("./")), ("shards_base_url", Canonical::string("./shards/"))];
    let mut out = Vec::new();
    msgpack::write_map(&mut out, 3);
    msgpack::write_str(&mut out, "info");
    msgpack::write_json(&mut out, &info(subdir, about, &bases))?;
    msgpack::write_str(&mut out, "shards");
    msgpack::write_map(&mut out, shards.len());
    for (name, digest) in shards {
        msgpack::write_str(&mut out, name);
        msgpack::write_bin(&mut out, digest.as_bytes());
    }
    msgpack::write_str(&mut out, "version");
    msgpack::write_json(&mut out, &Canonical::of(&1)?)?;
    zst(&out)
}

/// File name to the package's `run_exports.json`, if it has any.
pub type RunExports = BTreeMap<String, Option<Canonical>>;

/// `run_exports.json` (CEP 12) of a subdir.
pub fn run_exports(subdir: &str, exports: &RunExports) -> String {
    let (mut classic, mut conda) = (Vec::new(), Vec::new());
    let none = Canonical::object([]);
    for (file, value) in exports {
        let value = Canonical::object([("run_exports", value.as_ref().unwrap_or(&none))]);
        let table = if file.ends_with(".conda") { &mut conda } else { &mut classic };
        table.push((file.as_str(), value));
    }
    let object = |table: &[(&str, Canonical)]| Canonical::object(table.iter().map(|(k, v)| (*k, v)));
    let (platform, arch) = subdir.split_once('-').unwrap_or((subdir, ""));
    let text =
        |t: &str| if t.is_empty() || subdir == "noarch" { "null".to_owned() } else { format!("\"{t}\"") };
    format!(
        "{{\"info\":{{\"arch\":{},\"platform\":{},\"subdir\":\"{subdir}\",\"version\":1}},\"packages\":{},\"packages.conda\":{}}}\n",
        text(arch),
        text(platform),
        object(&classic).as_str(),
        object(&conda).as_str()
    )
}

/// One package of `channeldata.json`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ChannelPackage {
    /// The subdirs that hold it.
    pub subdirs: std::collections::BTreeSet<String>,
    /// The newest version.
    pub version: String,
    /// Its licence.
    pub licence: Option<String>,
    /// One line.
    pub summary: Option<String>,
    /// In seconds, unlike everywhere else.
    pub timestamp: Option<i64>,
}

/// `channeldata.json` (CEP 38).
pub fn channeldata(
    packages: &BTreeMap<String, ChannelPackage>,
    subdirs: &[String],
) -> serde_json::Result<String> {
    let packages: BTreeMap<&str, serde_json::Value> = packages
        .iter()
        .map(|(name, p)| {
            let value = serde_json::json!({
                "subdirs": p.subdirs, "version": p.version, "license": p.licence, "summary": p.summary,
                "timestamp": p.timestamp.unwrap_or(0), "run_exports": {},
            });
            (name.as_str(), value)
        })
        .collect();
    let document = serde_json::json!({"channeldata_version": 1, "subdirs": subdirs, "packages": packages});
    Ok(Canonical::of(&document)?.as_str().to_owned() + "\n")
}

/// `notices.json` (CEP 6) without a notice.
pub const fn notices() -> &'static str {
    "{\"notices\":[]}\n"
}
