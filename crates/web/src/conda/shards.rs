//! Single shards (CEP 16), rendered when they are asked for by the hash of what they render to.
//!
//! A shard stays readable for some days after it was superseded, since clients cache the index that names it.
//! It is no way around a denial: the files that it names are checked when they are fetched.

use std::collections::BTreeMap;
use std::sync::Arc;

use airlock_core::id::{Digest, Id};
use airlock_core::shard::{Shard, ShardKey};
use airlock_engine::error::Error;
use airlock_engine::view::{ChannelView, View};
use airlock_formats::conda::{self, RENDERER};
use axum::body::Bytes;

use super::ZSTD;
use crate::problem::Problem;
use crate::respond::memo::Memo;
use crate::respond::{Freshness, Representation};

/// How much is remembered of rendered shards, in bytes.
const SHARD_BYTES_MAX: usize = 64 << 20;
/// How much is remembered of names, in bytes.
const NAMES_BYTES_MAX: usize = 32 << 20;
/// Shards that are read at once to be named.
const CHUNK: usize = 500;

/// Rendered hash to shard, of one subdir of one content.
type Names = Arc<BTreeMap<Digest, Digest>>;

static SHARDS: Memo<Bytes> = Memo::new(SHARD_BYTES_MAX);
static NAMES: Memo<Names> = Memo::new(NAMES_BYTES_MAX);

fn unknown() -> Problem {
    Problem::not_found("the channel has no such shard; its index names those it has")
}

/// The shard `<hash>.msgpack.zst` of a subdir.
pub async fn shard(
    view: &View,
    channel: &ChannelView,
    subdir: &str,
    file: &str,
) -> Result<Representation, Problem> {
    let hex = file.strip_suffix(".msgpack.zst").ok_or_else(Problem::nothing_here)?;
    let name = hex.parse::<Digest>().ok().filter(|d| d.to_string() == hex).ok_or_else(unknown)?;
    let db = &view.station().store.db;
    let now = view.now().await?;
    let lasting = db.named_shard(&channel.snapshot.channel, subdir, name, now).await.map_err(Error::from)?;
    let id = match lasting {
        Some(id) => id,
        // What a snapshot lists is readable for as long as the snapshot is.
        None => names(view, channel, subdir).await?.get(&name).copied().ok_or_else(unknown)?,
    };
    let bytes = match SHARDS.get(name) {
        Some(bytes) => bytes,
        None => render(view, name, Id::new(id)).await?,
    };
    Ok(Representation::bytes(bytes, name, ZSTD, Freshness::Immutable))
}

async fn render(view: &View, name: Digest, id: Id<Shard>) -> Result<Bytes, Problem> {
    let shard = view.object(id).await?;
    let (found, bytes) = blocking(move || conda::shard(&shard)).await?;
    // Another version of the renderer gave the name; its bytes are not to be had any more.
    if found != name {
        return Err(unknown());
    }
    let bytes = Bytes::from(bytes);
    SHARDS.put(name, bytes.clone(), bytes.len());
    Ok(bytes)
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> std::io::Result<T> + Send + 'static,
) -> Result<T, Error> {
    let done = tokio::task::spawn_blocking(work).await.map_err(std::io::Error::other).flatten();
    done.map_err(|e| Error::fault(format!("a shard cannot be rendered: {e}")))
}

/// The names of all shards that a snapshot lists in a subdir.
async fn names(view: &View, channel: &ChannelView, subdir: &str) -> Result<Names, Problem> {
    let content = channel.snapshot.content;
    let memo = Digest::of(format!("names {RENDERER} {content} {subdir}").as_bytes());
    if let Some(held) = NAMES.get(memo) {
        return Ok(held);
    }
    let all = view.content(channel).await?;
    let here = |key: &String| ShardKey::parse(key).subdir.as_deref() == Some(subdir);
    let ids: Vec<Digest> = all.iter().filter(|(key, _)| here(key)).map(|(_, id)| id.digest()).collect();
    let known = view.station().store.db.rendered_names(RENDERER, &ids).await.map_err(Error::from)?;
    let mut names: BTreeMap<Digest, Digest> = known.iter().map(|(shard, name)| (*name, *shard)).collect();
    let unnamed: Vec<Id<Shard>> =
        ids.iter().filter(|id| !known.contains_key(id)).map(|id| Id::new(*id)).collect();
    for chunk in unnamed.chunks(CHUNK) {
        let shards = airlock_engine::trees::objects(&view.station().store.db, chunk).await?;
        let name_all = move || shards.iter().map(|(id, shard)| Ok((conda::shard(shard)?.0, *id))).collect();
        let named: Vec<(Digest, Digest)> = blocking(name_all).await?;
        names.extend(named);
    }
    let names = Arc::new(names);
    NAMES.put(memo, names.clone(), names.len() * 2 * size_of::<Digest>());
    Ok(names)
}
