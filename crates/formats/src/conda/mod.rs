//! conda channels: `repodata.json` (CEP 36), sharded repodata (CEP 16), `run_exports.json` (CEP 12),
//! `channeldata.json` (CEP 38) and `notices.json` (CEP 6).

mod notices;
mod read;
mod record;
mod records;
mod render;
mod whole;

pub use notices::notices;
pub use read::{
    ShardIndex, read_repodata, read_repodata_on, read_repodata_zst, read_shard, read_shard_index,
    unpack_repodata,
};
pub use record::{Hashed, INDEX_JSON_BYTES_MAX, package_record};
pub use render::{ChannelPackage, Everywhere, RENDERER, ZSTD_LEVEL, channeldata, shard, shard_index, zst};
pub use whole::{Frame, Pieces, Revisions, pieces, repodata, repodata_frame, run_exports_frame, v3_frame};
