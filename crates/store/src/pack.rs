//! How objects lie in the database: packed with zstd where that is shorter.
//!
//! A context of the compressor costs more than packing a small object, so that each thread keeps its own.

use std::cell::RefCell;

use airlock_core::id::Digest;
use airlock_core::object::Encoded;
use zstd::bulk::{Compressor, Decompressor};

use crate::error::StoreError;

/// Objects shorter than this, in bytes, are not packed.
const PACK_BYTES_MIN: usize = 200;
/// zstd level of stored objects: what level 3 saves of their size is less than a hundredth.
const PACK_LEVEL: i32 = 1;
/// Largest object, unpacked, in bytes.
const OBJECT_BYTES_MAX: usize = 256 << 20;

thread_local! {
    static PACKER: RefCell<Option<Compressor<'static>>> = const { RefCell::new(None) };
    static UNPACKER: RefCell<Option<Decompressor<'static>>> = const { RefCell::new(None) };
}

/// An object as it lies in the database. Packing and unpacking cost more than the database does, so that callers
/// do both on as many threads as they have.
#[derive(Clone, Debug)]
pub struct Packed {
    pub(crate) digest: Digest,
    pub(crate) packed: bool,
    pub(crate) data: Vec<u8>,
}

impl Packed {
    /// Packs an object.
    pub fn of(object: &Encoded) -> Result<Self, StoreError> {
        let digest = object.digest;
        if object.bytes.len() >= PACK_BYTES_MIN {
            let data = PACKER.with_borrow_mut(|held| {
                let packer = match held {
                    Some(packer) => packer,
                    None => held.insert(Compressor::new(PACK_LEVEL)?),
                };
                let packed = packer.compress(&object.bytes)?;
                // The compressor asks for more than the object itself needs, and what waits to be written should not.
                Ok::<_, std::io::Error>(Vec::from(packed.as_slice()))
            });
            let data = data.map_err(|e| StoreError::Corrupt(format!("an object cannot be packed: {e}")))?;
            if data.len() < object.bytes.len() {
                return Ok(Self { digest, packed: true, data });
            }
        }
        Ok(Self { digest, packed: false, data: object.bytes.clone() })
    }

    /// Its name.
    pub const fn digest(&self) -> Digest {
        self.digest
    }

    /// How many bytes it takes in the database.
    pub fn size(&self) -> usize {
        self.data.len()
    }

    /// Its bytes.
    pub fn unpack(&self) -> Result<Vec<u8>, StoreError> {
        if !self.packed {
            return Ok(self.data.clone());
        }
        let size = zstd::zstd_safe::get_frame_content_size(&self.data).ok().flatten();
        let size = size.and_then(|s| usize::try_from(s).ok()).filter(|s| *s <= OBJECT_BYTES_MAX);
        let size = size.ok_or_else(|| StoreError::Corrupt("an object of unknown size".to_owned()))?;
        let bytes = UNPACKER.with_borrow_mut(|held| {
            let unpacker = match held {
                Some(unpacker) => unpacker,
                None => held.insert(Decompressor::new()?),
            };
            unpacker.decompress(&self.data, size)
        });
        bytes.map_err(|e| StoreError::Corrupt(format!("an object: {e}")))
    }
}
