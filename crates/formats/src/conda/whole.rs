//! The indexes of a whole subdir, put together from pieces: what each published shard adds to them. The pieces of
//! a large channel never have to be in memory at the same time.

use std::collections::{BTreeMap, BTreeSet};

use airlock_core::canon::Canonical;
use airlock_core::fact::Facts;
use airlock_core::shard::Shard;
use airlock_core::version::Order;
use serde::{Deserialize, Serialize};

use super::render::{ChannelPackage, info};

/// What one published shard adds to the indexes of its subdir. Records stand as the members of a JSON object,
/// separated by commas.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pieces {
    /// Records of `packages`.
    pub classic: String,
    /// Records of `packages.conda`.
    pub conda: String,
    /// Records of `v3` (CEP 48) by extension.
    pub v3: BTreeMap<String, String>,
    /// What is said of them.
    pub revisions: Revisions,
    /// Files that are no longer listed.
    pub removed: BTreeSet<String>,
    /// Members of `packages` of `run_exports.json`.
    pub classic_exports: String,
    /// Members of its `packages.conda`.
    pub conda_exports: String,
    /// What `channeldata.json` says of the package.
    pub package: ChannelPackage,
}

/// What `info.repodata_revisions` says of `v3` records (CEP 48).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Revisions {
    count: u64,
    /// The oldest and newest time stamp.
    stamps: Option<(i64, i64)>,
}

impl Revisions {
    /// Takes in what another shard adds.
    pub fn merge(&mut self, other: Self) {
        self.count += other.count;
        self.stamps = match (self.stamps, other.stamps) {
            (Some(a), Some(b)) => Some((a.0.min(b.0), a.1.max(b.1))),
            (a, b) => a.or(b),
        };
    }

    /// So many records, with the oldest and newest time stamp of them.
    pub const fn of(count: u64, stamps: Option<(i64, i64)>) -> Self {
        Self { count, stamps }
    }

    /// How many records there are, and the oldest and newest time stamp of them.
    pub const fn parts(self) -> (u64, Option<(i64, i64)>) {
        (self.count, self.stamps)
    }

    fn note(&mut self, record: &Canonical) {
        #[derive(Deserialize)]
        struct Stamps {
            indexed_timestamp: Option<i64>,
            timestamp: Option<i64>,
        }
        let stamp = record.read::<Stamps>().ok().and_then(|s| s.indexed_timestamp.or(s.timestamp));
        self.merge(Self { count: 1, stamps: stamp.map(|s| (s, s)) });
    }

    /// So that older clients can say what they cannot see.
    fn canonical(&self) -> Option<Canonical> {
        let (oldest, newest) = self.stamps.unwrap_or_default();
        let value = serde_json::json!({"v3": {"n_packages": self.count, "newest": newest, "oldest": oldest}});
        Canonical::of(&value).ok().filter(|_| self.count > 0)
    }
}

fn push_key(out: &mut String, key: &str) {
    out.push_str(if out.is_empty() { "" } else { "," });
    out.push_str(Canonical::string(key).as_str());
    out.push(':');
}

fn push_member(out: &mut String, key: &str, value: &str) {
    push_key(out, key);
    out.push_str(value);
}

/// What a published shard adds. `facts` are those of its files.
pub fn pieces(shard: &Shard, facts: Option<&Facts>) -> Pieces {
    let mut out = Pieces::default();
    for (file, entry) in &shard.entries {
        if let Some(extension) = entry.table.strip_prefix("v3/") {
            let stem = file.strip_suffix(extension).and_then(|s| s.strip_suffix('.')).unwrap_or(file);
            push_member(out.v3.entry(extension.to_owned()).or_default(), stem, entry.record.as_str());
            out.revisions.note(&entry.record);
            continue;
        }
        let (records, exports) = match entry.table.as_str() {
            "packages.conda" => (&mut out.conda, &mut out.conda_exports),
            _ => (&mut out.classic, &mut out.classic_exports),
        };
        push_member(records, file, entry.record.as_str());
        let fact = facts.and_then(|f| f.files.get(file)).and_then(|f| f.file.as_ref());
        let export = fact.and_then(|f| f.run_exports.as_ref()).map_or("{}", Canonical::as_str);
        push_key(exports, file);
        exports.push_str("{\"run_exports\":");
        exports.push_str(export);
        exports.push('}');
    }
    let removed = shard.meta.get("removed").and_then(|r| r.read::<Vec<String>>().ok());
    // A file is either offered or removed; upstreams list some as both.
    out.removed.extend(removed.into_iter().flatten().filter(|f| !shard.entries.contains_key(f)));
    out.package = package(shard, facts);
    out
}

/// What `channeldata.json` says of a package: that of its newest version.
fn package(shard: &Shard, facts: Option<&Facts>) -> ChannelPackage {
    use airlock_core::record::Artifact;
    // A file is called `name-version-build`, which was made sure of when its record was read.
    fn version(file: &str) -> &str {
        file.rsplit('-').nth(1).unwrap_or_default()
    }
    let versions: BTreeSet<&str> = shard.entries.keys().map(|file| version(file)).collect();
    let newer = |a: &&str, b: &&str| Order::Conda.compare(a, b).unwrap_or_else(|| a.cmp(b));
    let Some(newest) = versions.into_iter().max_by(newer) else { return ChannelPackage::default() };
    let last = shard.entries.iter().rfind(|(file, _)| version(file) == newest);
    let artifact = last.and_then(|(file, entry)| Artifact::read(shard, file, entry).ok());
    let Some(artifact) = artifact else { return ChannelPackage::default() };
    let fact = facts.and_then(|f| f.files.get(&artifact.file)).and_then(|f| f.file.as_ref());
    ChannelPackage {
        version: artifact.version.into(),
        licence: artifact.licence.map(Into::into),
        summary: fact.and_then(|f| f.summary.as_deref()).map(Into::into),
        timestamp: artifact.time.map(airlock_core::time::Time::seconds),
    }
}

/// The text of an index around its records.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Frame {
    /// Before the members of `packages`.
    pub before: String,
    /// Between them and those of `packages.conda`.
    pub between: String,
    /// Behind them, up to where the tables of `v3` may stand (see [`v3_frame`]).
    pub behind: String,
    /// The end.
    pub end: String,
}

/// `repodata.json` (CEP 36) of a subdir around its records. `about` is what its upstream said of it beside them.
pub fn repodata_frame(
    subdir: &str,
    about: Option<&Canonical>,
    removed: &BTreeSet<String>,
    revisions: &Revisions,
) -> Frame {
    let revisions = revisions.canonical().map(|r| ("repodata_revisions", r));
    let info = info(subdir, about, revisions.as_slice());
    let mut behind = String::from("},\"removed\":[");
    for (i, file) in removed.iter().enumerate() {
        behind.push_str(if i > 0 { "," } else { "" });
        behind.push_str(Canonical::string(file).as_str());
    }
    behind.push_str("],\"repodata_version\":1");
    let mut end = String::new();
    for (key, value) in about.map(Canonical::members).unwrap_or_default() {
        // Whoever said it: a second table of records, or a key that stands above already, must not follow.
        if key != "info" && !super::read::is_own(&key) {
            end.push(',');
            end.push_str(Canonical::string(&key).as_str());
            end.push(':');
            end.push_str(value.as_str());
        }
    }
    end.push_str("}\n");
    Frame {
        before: format!("{{\"info\":{},\"packages\":{{", info.as_str()),
        between: "},\"packages.conda\":{".to_owned(),
        behind,
        end,
    }
}

/// What stands before the members of each table of `v3`, by its extension, and behind the last one.
pub fn v3_frame<'a>(extensions: impl Iterator<Item = &'a str>) -> (Vec<String>, &'static str) {
    let begin = |i: usize| if i == 0 { ",\"v3\":{" } else { "}," };
    let table = |(i, extension)| format!("{}{}:{{", begin(i), Canonical::string(extension).as_str());
    (extensions.enumerate().map(table).collect(), "}}")
}

/// The same for `run_exports.json` (CEP 12).
pub fn run_exports_frame(subdir: &str) -> Frame {
    let (platform, arch) = subdir.split_once('-').unwrap_or((subdir, ""));
    let text =
        |t: &str| if t.is_empty() || subdir == "noarch" { "null".to_owned() } else { format!("\"{t}\"") };
    let (arch, platform) = (text(arch), text(platform));
    Frame {
        before: format!(
            "{{\"info\":{{\"arch\":{arch},\"platform\":{platform},\"subdir\":\"{subdir}\",\"version\":1}},\"packages\":{{"
        ),
        between: "},\"packages.conda\":{".to_owned(),
        behind: "}".to_owned(),
        end: "}\n".to_owned(),
    }
}

/// `repodata.json` of a subdir at once, for what fits into memory.
pub fn repodata<'a>(
    subdir: &str,
    about: Option<&Canonical>,
    shards: impl IntoIterator<Item = &'a Shard>,
) -> String {
    let mut sorted: Vec<&Shard> = shards.into_iter().collect();
    sorted.sort_by(|a, b| a.name.cmp(&b.name));
    let mut all = Pieces::default();
    for shard in sorted {
        let one = pieces(shard, None);
        join(&mut all.classic, &one.classic);
        join(&mut all.conda, &one.conda);
        for (extension, members) in one.v3 {
            join(all.v3.entry(extension).or_default(), &members);
        }
        all.revisions.merge(one.revisions);
        all.removed.extend(one.removed);
    }
    let frame = repodata_frame(subdir, about, &all.removed, &all.revisions);
    let mut out = [frame.before, all.classic, frame.between, all.conda, frame.behind].concat();
    let (heads, tail) = v3_frame(all.v3.keys().map(String::as_str));
    for (head, members) in heads.iter().zip(all.v3.values()) {
        out.push_str(head);
        out.push_str(members);
    }
    out.push_str(if heads.is_empty() { "" } else { tail });
    out + &frame.end
}

/// Appends members to members.
fn join(out: &mut String, members: &str) {
    out.push_str(if out.is_empty() || members.is_empty() { "" } else { "," });
    out.push_str(members);
}
