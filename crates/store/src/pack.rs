//! How objects lie in the database.

use airlock_core::id::Digest;
use airlock_core::object::Encoded;

use crate::error::StoreError;

/// Objects shorter than this, in bytes, are not packed.
const PACK_BYTES_MIN: usize = 200;
/// zstd level of stored objects.
const PACK_LEVEL: i32 = 3;

/// Largest object, unpacked, in bytes.
const OBJECT_BYTES_MAX: usize = 256 << 20;

/// An object as it lies in the database.
#[derive(Debug)]
pub struct Packed {
    /// The object's name.
    pub(crate) digest: Digest,
    /// Whether `data` is compressed.
    pub(crate) packed: bool,
    /// The bytes.
    pub(crate) data: Vec<u8>,
}

impl Packed {
    /// How many bytes will be written.
    pub fn size(&self) -> usize {
        self.data.len()
    }
}

/// Packs objects. Making one costs more than packing a small object, so that each thread keeps its own.
pub struct Packer {
    zstd: zstd::bulk::Compressor<'static>,
}

impl Packer {
    /// A new one.
    pub fn new() -> Result<Self, StoreError> {
        Ok(Self { zstd: zstd::bulk::Compressor::new(PACK_LEVEL).map_err(failed)? })
    }

    /// Packs one object.
    pub fn pack(&mut self, object: &Encoded) -> Result<Packed, StoreError> {
        let digest = object.digest;
        if object.bytes.len() >= PACK_BYTES_MIN {
            let data = self.zstd.compress(&object.bytes).map_err(failed)?;
            if data.len() < object.bytes.len() {
                return Ok(Packed { digest, packed: true, data });
            }
        }
        Ok(Packed { digest, packed: false, data: object.bytes.clone() })
    }
}

/// Unpacks objects, many with one context.
pub(crate) struct Unpacker {
    zstd: zstd::bulk::Decompressor<'static>,
}

impl Unpacker {
    pub(crate) fn new() -> Result<Self, StoreError> {
        let broken = |e| StoreError::Corrupt(format!("no object can be unpacked: {e}"));
        Ok(Self { zstd: zstd::bulk::Decompressor::new().map_err(broken)? })
    }

    pub(crate) fn unpack(&mut self, packed: bool, data: Vec<u8>) -> Result<Vec<u8>, StoreError> {
        if !packed {
            return Ok(data);
        }
        let size = zstd::zstd_safe::get_frame_content_size(&data).ok().flatten();
        let size = size.and_then(|s| usize::try_from(s).ok()).filter(|s| *s <= OBJECT_BYTES_MAX);
        let size = size.ok_or_else(|| StoreError::Corrupt("an object of unknown size".to_owned()))?;
        self.zstd.decompress(&data, size).map_err(|e| StoreError::Corrupt(format!("an object: {e}")))
    }
}

fn failed(error: std::io::Error) -> StoreError {
    StoreError::Corrupt(format!("an object cannot be packed: {error}"))
}
