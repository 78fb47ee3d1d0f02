//! Single shards (CEP 16), rendered when they are asked for by the hash of what they render to.
//!
//! A shard stays readable for some days after it was superseded, since clients cache the index that names it.
//! It is no way around a denial: the files that it names are checked when they are fetched.

use std::collections::BTreeMap;
use std::sync::Arc;

use airlock_core::id::{Digest, Id};
use airlock_core::shard::{Shard, ShardKey};
use airlock_engine::error::Error;
use airlock_engine::station::Station;
use airlock_engine::trees;
use airlock_engine::view::ChannelView;
use airlock_formats::conda::{self, RENDERER};
use axum::body::Bytes;

use super::ZSTD;
use crate::App;
use crate::app::{Names, blocking};
use crate::problem::Problem;
use crate::respond::{Freshness, Representation};

/// Shards that are read at once to be named.
const CHUNK: usize = 500;

fn unknown() -> Problem {
    Problem::not_found("the channel has no such shard; its index names those it has")
}

/// The shard `<hash>.msgpack.zst` of a subdir.
pub async fn shard(
    app: &App,
    channel: &ChannelView,
    subdir: &str,
    file: &str,
) -> Result<Representation, Problem> {
    let hex = file.strip_suffix(".msgpack.zst").ok_or_else(Problem::nothing_here)?;
    let name = hex.parse::<Digest>().ok().filter(|d| d.to_string() == hex).ok_or_else(unknown)?;
    let is_newest = Arc::ptr_eq(&channel.snapshot, &channel.newest);
    let lasting = if is_newest { lasting(app, channel, subdir, name).await? } else { None };
    let id = match lasting {
        Some(id) => id,
        // What a snapshot lists is readable for as long as the snapshot is.
        None => names(app, channel, subdir).await?.get(&name).copied().ok_or_else(unknown)?,
    };
    let station = app.view.station().clone();
    let render = async move {
        let shard: Shard = station.store.db.get(Id::new(id)).await?;
        let (found, bytes) = blocking("a shard", move || conda::shard(&shard)).await?;
        // Another version of the renderer gave the name; its bytes are not to be had any more.
        let bytes = if found == name { Bytes::from(bytes) } else { Bytes::new() };
        let len = bytes.len();
        Ok((bytes, len))
    };
    let bytes = app.shards.get(name, render).await?;
    if bytes.is_empty() {
        return Err(unknown());
    }
    Ok(Representation::bytes(bytes, name, ZSTD, Freshness::Immutable))
}

/// The shard behind a name that is readable until its time is over.
async fn lasting(
    app: &App,
    channel: &ChannelView,
    subdir: &str,
    name: Digest,
) -> Result<Option<Digest>, Problem> {
    let now = app.view.now().await?;
    let _turn = app.naming.acquire().await.map_err(|e| Error::fault(e.to_string()))?;
    let db = &app.view.station().store.db;
    let found = db.named_shard(&channel.snapshot.channel, subdir, name, now).await;
    Ok(found.map_err(Error::from)?)
}

/// The names of all shards that a snapshot lists in a subdir.
async fn names(app: &App, channel: &ChannelView, subdir: &str) -> Result<Names, Problem> {
    let content = channel.snapshot.content;
    let key = Digest::of(format!("names {RENDERER} {content} {subdir}").as_bytes());
    let (station, subdir) = (app.view.station().clone(), subdir.to_owned());
    let read = async move {
        let all = trees::load(&station.store.db, content).await?;
        let here = |key: &String| ShardKey::parse(key).subdir.as_deref() == Some(&*subdir);
        let ids: Vec<Digest> = all.iter().filter(|(key, _)| here(key)).map(|(_, id)| id.digest()).collect();
        let names = name_all(&station, &ids).await?;
        let bytes = names.len() * 2 * size_of::<Digest>();
        Ok((Arc::new(names), bytes))
    };
    Ok(app.names.get(key, read).await?)
}

async fn name_all(station: &Station, ids: &[Digest]) -> Result<BTreeMap<Digest, Digest>, Error> {
    let db = &station.store.db;
    let known = db.rendered_names(RENDERER, ids).await?;
    let mut names: BTreeMap<Digest, Digest> = known.iter().map(|(shard, name)| (*name, *shard)).collect();
    let unnamed: Vec<Id<Shard>> =
        ids.iter().filter(|id| !known.contains_key(id)).map(|id| Id::new(*id)).collect();
    for chunk in unnamed.chunks(CHUNK) {
        let shards = trees::objects(db, chunk).await?;
        let name_all = move || shards.iter().map(|(id, shard)| Ok((conda::shard(shard)?.0, *id))).collect();
        let named: Vec<(Digest, Digest)> = blocking("a shard", name_all).await?;
        names.extend(named);
    }
    Ok(names)
}
