//! Indexes of a whole channel or subdir: those of the newest snapshot lie in the store, those of older ones
//! are rendered when they are asked for, one snapshot at a time, however many ask and hang up.

use std::sync::Arc;

use airlock_core::id::Digest;
use airlock_engine::render;
use airlock_engine::view::ChannelView;
use airlock_formats::conda::RENDERER;
use axum::body::Bytes;

use super::{JSON, ZSTD};
use crate::App;
use crate::app::Files;
use crate::problem::Problem;
use crate::respond::{Freshness, Representation};

/// An index by its path below the channel.
pub async fn index(app: &App, channel: &ChannelView, path: &str) -> Result<Representation, Problem> {
    let content_type = if path.ends_with(".zst") { ZSTD } else { JSON };
    let stored = channel.rendered.as_ref().filter(|r| r.renderer == RENDERER).and_then(|r| r.files.get(path));
    // Derived bytes that are gone from the store are derived again.
    if let Some(blob) = stored.and_then(|f| app.view.station().store.blobs.find(f.sha256)) {
        return Ok(Representation::file(blob, content_type, Freshness::Index));
    }
    let files = older(app, channel).await?;
    let (hash, bytes) = files.get(path).ok_or_else(Problem::nothing_here)?;
    Ok(Representation::bytes(bytes.clone(), *hash, content_type, Freshness::Index))
}

async fn older(app: &App, channel: &ChannelView) -> Result<Files, Problem> {
    let key = Digest::of(format!("indexes {RENDERER} {}", channel.id).as_bytes());
    let (station, snapshot) = (app.view.station().clone(), channel.snapshot.clone());
    let render = async move {
        let files = render::to_memory(&station, &snapshot).await?;
        let bytes = files.values().map(Vec::len).sum();
        let hashed = |(path, bytes): (String, Vec<u8>)| (path, (Digest::of(&bytes), Bytes::from(bytes)));
        Ok((Arc::new(files.into_iter().map(hashed).collect()), bytes))
    };
    Ok(app.older.get(key, render).await?)
}
