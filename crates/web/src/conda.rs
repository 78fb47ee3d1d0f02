//! conda channels, `/conda/<channel>[@<when>]/...`: indexes, shards and packages.

mod shards;
mod whole;

use std::sync::Arc;

use airlock_core::ecosystem::{Ecosystem, file_name_parts};
use airlock_core::id::Digest;
use airlock_core::shard::ShardKey;
use airlock_engine::view::{ChannelView, FileAnswer};
use axum::body::Bytes;
use axum::extract::State;
use axum::http::header::CONTENT_DISPOSITION;
use axum::http::request::Parts;
use axum::response::Response;

use crate::App;
use crate::problem::Problem;
use crate::respond::{Freshness, Representation, answer};
use crate::urls::{CHANNELDATA, NOTICES, Target};

/// What a channel offers for each of its subdirs. The rest of what clients try (`repodata.json.bz2`,
/// `current_repodata.json`, `repodata.jlap`) they do without.
const SUBDIR_INDEXES: [&str; 5] = [
    "repodata.json",
    "repodata.json.zst",
    "repodata_shards.msgpack.zst",
    "run_exports.json",
    "run_exports.json.zst",
];

const ZSTD: &str = "application/zstd";
const JSON: &str = "application/json";
/// Nobody shall unpack or interpret a package on the way.
const OCTETS: &str = "application/octet-stream";

/// Answers everything below `/conda/`.
pub async fn serve(State(app): State<Arc<App>>, parts: Parts) -> Result<Response, Problem> {
    let target = Target::read("conda", &parts.uri)?;
    if target.has_slash {
        return Err(Problem::nothing_here());
    }
    let mut channel = target.open(&app.view, Ecosystem::Conda).await?;
    let mut found = find(&app, &target, &channel).await;
    // It may have been published a moment ago, and another server may have told the client so.
    if found.as_ref().is_err_and(Problem::is_no) && app.view.newer(&channel).await?.is_some() {
        channel = target.open(&app.view, Ecosystem::Conda).await?;
        found = find(&app, &target, &channel).await;
    }
    answer(&app, &parts, channel.generation, found?).await
}

async fn find(app: &App, target: &Target, channel: &ChannelView) -> Result<Representation, Problem> {
    let rest: Vec<&str> = target.rest.iter().map(String::as_str).collect();
    let has_subdir = |subdir: &str| channel.snapshot.subdirs.contains_key(subdir);
    match rest[..] {
        [CHANNELDATA] => whole::index(app, channel, CHANNELDATA).await,
        [NOTICES] => notices(app, channel).await,
        [subdir, ..] if !has_subdir(subdir) => Err(Problem::not_found("the channel has no such subdir")),
        [subdir, file] if SUBDIR_INDEXES.contains(&file) => {
            whole::index(app, channel, &format!("{subdir}/{file}")).await
        }
        [subdir, "shards", file] => shards::shard(app, channel, subdir, file).await,
        [subdir, file] => package(app, target, channel, subdir, file).await,
        _ => Err(Problem::nothing_here()),
    }
}

/// What the newest judgement will deny, also of an older snapshot: it rules over that too.
async fn notices(app: &App, channel: &ChannelView) -> Result<Representation, Problem> {
    let newest = &channel.newest;
    let leaving = app.view.leaving(channel).await?;
    let text = airlock_formats::conda::notices(&channel.channel.name, &leaving, newest.inputs.now);
    let bytes = Bytes::from(text);
    let hash = Digest::of(&bytes);
    Ok(Representation::bytes(bytes, hash, JSON, Freshness::Index))
}

/// A package file.
async fn package(
    app: &App,
    target: &Target,
    channel: &ChannelView,
    subdir: &str,
    file: &str,
) -> Result<Representation, Problem> {
    let key = key_of(subdir, file).ok_or_else(|| Problem::not_found("the channel offers no such file"))?;
    match app.view.file(channel, &key.to_string(), file).await? {
        FileAnswer::Serve(blob) => {
            let found = Representation::file(blob, OCTETS, Freshness::Asked);
            let found = found.artifact(&channel.channel.name, format!("{subdir}/{file}"));
            Ok(found.header(CONTENT_DISPOSITION, "attachment"))
        }
        FileAnswer::Withheld { version, reason } => {
            Err(Problem::withheld(&app.view, channel, target, &key, file, (&version, &reason)).await)
        }
        FileAnswer::Absent => Err(Problem::not_found("the channel knows no such file")),
    }
}

/// The shard that holds a file, by its name `<name>-<version>-<build>`.
fn key_of(subdir: &str, file: &str) -> Option<ShardKey> {
    let (name, _) = file_name_parts(Ecosystem::Conda, file)?;
    Some(ShardKey { subdir: Some(subdir.to_owned()), name })
}
