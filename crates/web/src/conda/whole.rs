//! Indexes of a whole channel or subdir: those of the newest snapshot lie in the store, those of older ones
//! are rendered when they are asked for.

use std::collections::BTreeMap;
use std::sync::Arc;

use airlock_core::id::Digest;
use airlock_engine::render;
use airlock_engine::view::{ChannelView, View};
use airlock_formats::conda::RENDERER;
use axum::body::Bytes;
use tokio::sync::Mutex;

use super::{JSON, ZSTD};
use crate::problem::Problem;
use crate::respond::memo::Memo;
use crate::respond::{Freshness, Representation};

/// How much is remembered of older snapshots, in bytes.
const OLDER_BYTES_MAX: usize = 256 << 20;

/// The indexes of one snapshot by path, with their hashes.
type Files = Arc<BTreeMap<String, (Digest, Bytes)>>;

/// Indexes of older snapshots. Derived by a pure function from what the key names, which is why it may be one
/// for all stations in the process.
static OLDER: Memo<Files> = Memo::new(OLDER_BYTES_MAX);
/// One is rendered at a time: whoever waits finds it done, and memory is bounded.
static RENDERING: Mutex<()> = Mutex::const_new(());

/// An index by its path below the channel.
pub async fn index(view: &View, channel: &ChannelView, path: &str) -> Result<Representation, Problem> {
    let content_type = if path.ends_with(".zst") { ZSTD } else { JSON };
    let stored = channel.rendered.as_ref().filter(|r| r.renderer == RENDERER).and_then(|r| r.files.get(path));
    // Derived bytes that are gone from the store are derived again.
    if let Some(blob) = stored.and_then(|f| view.station().store.blobs.find(f.sha256)) {
        return Ok(Representation::file(blob, content_type, Freshness::Index));
    }
    let files = older(view, channel).await?;
    let (hash, bytes) = files.get(path).ok_or_else(Problem::nothing_here)?;
    Ok(Representation::bytes(bytes.clone(), *hash, content_type, Freshness::Index))
}

async fn older(view: &View, channel: &ChannelView) -> Result<Files, Problem> {
    let key = Digest::of(format!("indexes {RENDERER} {}", channel.id).as_bytes());
    if let Some(held) = OLDER.get(key) {
        return Ok(held);
    }
    let _one = RENDERING.lock().await;
    if let Some(held) = OLDER.get(key) {
        return Ok(held);
    }
    let files = render::to_memory(view.station(), &channel.snapshot).await?;
    let bytes = files.values().map(Vec::len).sum();
    let hashed = |(path, bytes): (String, Vec<u8>)| (path, (Digest::of(&bytes), Bytes::from(bytes)));
    let files: Files = Arc::new(files.into_iter().map(hashed).collect());
    OLDER.put(key, files.clone(), bytes);
    Ok(files)
}
