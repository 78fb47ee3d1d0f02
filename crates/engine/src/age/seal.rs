//! Encrypting.

use std::io::{Read, Seek, SeekFrom};

use aws_lc_rs::aead::LessSafeKey;
use aws_lc_rs::hmac;
use zeroize::Zeroizing;

use airlock_formats::age::{
    CHUNK_BYTES, FILE_KEY_BYTES, Header, NONCE_BYTES, Recipient, TAG_BYTES, X25519, chunk_nonce, chunks,
    covered,
};

use super::{FileKey, encrypt, mac_key, payload_key, public, wrapping};

/// What is decided of a file before its bytes are encrypted: the keys, and what stands in front of the chunks.
#[derive(Clone)]
pub struct Seal {
    /// Header and nonce.
    front: Vec<u8>,
    file_key: FileKey,
    nonce: [u8; NONCE_BYTES],
}

impl std::fmt::Debug for Seal {
    /// Never the key.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Seal")
    }
}

impl Seal {
    /// With this file key, and for each recipient a secret of which nothing else is made. None where a recipient is no key.
    ///
    /// Whoever calls this answers for it that a file key and nonce are used for one content alone: with two, what they have in
    /// common would show.
    pub fn new(
        file_key: FileKey,
        nonce: [u8; NONCE_BYTES],
        recipients: &[(Recipient, Zeroizing<[u8; 32]>)],
    ) -> Option<Self> {
        let wrapped = |(recipient, secret): &(Recipient, Zeroizing<[u8; 32]>)| {
            let share = public(secret)?;
            let key = wrapping(secret, &recipient.0, &share, &recipient.0)?;
            let mut body = Vec::with_capacity(FILE_KEY_BYTES + TAG_BYTES);
            body.extend(file_key.as_slice());
            // A key that is used once.
            encrypt(&key, [0; 12], &mut body)?;
            Some(X25519 { share, body: body.try_into().ok()? })
        };
        let stanzas: Vec<X25519> = recipients.iter().map(wrapped).collect::<Option<_>>()?;
        let covered = covered(&stanzas);
        let mac = hmac::sign(&mac_key(&file_key)?, covered.as_bytes());
        let mut front = Header::text(&covered, &mac.as_ref().try_into().ok()?).into_bytes();
        front.extend(nonce);
        Some(Self { front, file_key, nonce })
    }

    /// The bytes of the encrypted file from `at` on, of `size` plain bytes that `plain` holds. None where no key can be made.
    ///
    /// # Errors
    ///
    /// `plain` cannot be read.
    pub fn open_at<R: Read + Seek>(&self, mut plain: R, size: u64, at: u64) -> std::io::Result<Sealing<R>> {
        let key = payload_key(&self.file_key, &self.nonce);
        let key = key.ok_or_else(|| std::io::Error::other("no key can be made"))?;
        let front = self.front.len() as u64;
        let (number, within) = match at.checked_sub(front) {
            None => (0, 0),
            Some(at) => (at / SEALED_BYTES as u64, at % SEALED_BYTES as u64),
        };
        plain.seek(SeekFrom::Start(number.saturating_mul(CHUNK_BYTES as u64)))?;
        let chunk = Vec::with_capacity(SEALED_BYTES.max(self.front.len()));
        let mut sealing = Sealing { plain, key, size, number, chunk, at: 0 };
        match usize::try_from(at) {
            Ok(at) if at < self.front.len() => {
                sealing.chunk.extend(&self.front);
                sealing.at = at;
            }
            _ => {
                sealing.next()?;
                sealing.at = usize::try_from(within).unwrap_or(usize::MAX).min(sealing.chunk.len());
            }
        }
        Ok(sealing)
    }
}

/// Bytes of a chunk that was encrypted.
const SEALED_BYTES: usize = CHUNK_BYTES + TAG_BYTES;

/// An encrypted file that is made while it is read.
pub struct Sealing<R> {
    plain: R,
    key: LessSafeKey,
    /// Plain bytes.
    size: u64,
    /// The chunk that comes next.
    number: u64,
    /// What is being handed out, and how far.
    chunk: Vec<u8>,
    at: usize,
}

impl<R: Read> Sealing<R> {
    /// Encrypts the next chunk, of which there is none after the last.
    fn next(&mut self) -> std::io::Result<()> {
        self.chunk.clear();
        self.at = 0;
        let all = chunks(self.size);
        if self.number >= all {
            return Ok(());
        }
        let left = self.size - self.number * CHUNK_BYTES as u64;
        let wanted = left.min(CHUNK_BYTES as u64);
        (&mut self.plain).take(wanted).read_to_end(&mut self.chunk)?;
        if self.chunk.len() as u64 != wanted {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        let nonce = chunk_nonce(self.number, self.number + 1 == all);
        encrypt(&self.key, nonce, &mut self.chunk)
            .ok_or_else(|| std::io::Error::other("it cannot be encrypted"))?;
        self.number += 1;
        Ok(())
    }
}

impl<R: Read> Read for Sealing<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        if self.at == self.chunk.len() {
            self.next()?;
        }
        let there = self.chunk.get(self.at..).unwrap_or_default();
        let n = there.len().min(buffer.len());
        buffer[..n].copy_from_slice(&there[..n]);
        self.at += n;
        Ok(n)
    }
}
