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
    static UNPACKED: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Largest object, unpacked, for which a thread keeps the room that it took, in bytes.
const ROOM_BYTES_MAX: usize = 16 << 20;

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
        let mut bytes = Vec::new();
        self.unpack_into(&mut bytes)?;
        Ok(bytes)
    }

    /// Hands its bytes to `read`, in room that the thread keeps for the next one.
    pub fn read<R>(&self, read: impl FnOnce(&[u8]) -> R) -> Result<R, StoreError> {
        if !self.packed {
            return Ok(read(&self.data));
        }
        let mut room = UNPACKED.take();
        let done = self.unpack_into(&mut room).map(|()| read(&room));
        if room.capacity() <= ROOM_BYTES_MAX {
            UNPACKED.set(room);
        }
        done
    }

    /// Unpacks it into `room`, in the place of what is there.
    fn unpack_into(&self, room: &mut Vec<u8>) -> Result<(), StoreError> {
        let size = zstd::zstd_safe::get_frame_content_size(&self.data).ok().flatten();
        let size = size.and_then(|s| usize::try_from(s).ok()).filter(|s| *s <= OBJECT_BYTES_MAX);
        let size = size.ok_or_else(|| StoreError::Corrupt("an object of unknown size".to_owned()))?;
        room.clear();
        room.reserve(size);
        let unpacked = UNPACKER.with_borrow_mut(|held| {
            let unpacker = match held {
                Some(unpacker) => unpacker,
                None => held.insert(Decompressor::new()?),
            };
            unpacker.decompress_to_buffer(&self.data, room)
        });
        unpacked.map(drop).map_err(|e| StoreError::Corrupt(format!("an object: {e}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packed(bytes: Vec<u8>) -> Packed {
        Packed::of(&Encoded { digest: Digest::of(&bytes), bytes }).unwrap()
    }

    #[test]
    fn an_object_is_read_as_it_was_whatever_was_read_before_it() {
        let objects: Vec<Vec<u8>> =
            [10, 5_000, ROOM_BYTES_MAX + 1, 300, 0, 20_000].map(|n| vec![b'a' + (n % 7) as u8; n]).into();
        for bytes in &objects {
            let packed = packed(bytes.clone());
            assert_eq!(packed.packed, bytes.len() >= PACK_BYTES_MIN);
            assert!(packed.read(|read| read == bytes.as_slice()).unwrap());
            assert_eq!(packed.unpack().unwrap(), *bytes);
        }
        assert!(UNPACKED.take().capacity() <= ROOM_BYTES_MAX);
        // Whoever reads may read another one.
        let (outer, inner) = (packed(vec![b'x'; 1000]), packed(vec![b'y'; 900]));
        let both = outer.read(|a| inner.read(|b| (a.to_vec(), b.to_vec())).unwrap()).unwrap();
        assert_eq!(both, (vec![b'x'; 1000], vec![b'y'; 900]));
    }

    #[test]
    fn a_frame_that_is_damaged_is_said() {
        let mut damaged = packed(vec![b'x'; 1000]);
        damaged.data.truncate(8);
        assert!(damaged.read(<[u8]>::len).is_err() && damaged.unpack().is_err());
        let next = packed(vec![b'z'; 700]);
        assert_eq!(next.read(<[u8]>::len).unwrap(), 700);
    }
}
