//! Decrypting.

use std::io::{BufRead, BufReader, Read};

use aws_lc_rs::aead::LessSafeKey;
use aws_lc_rs::hmac;
use zeroize::Zeroizing;

use airlock_formats::age::{
    CHUNK_BYTES, FILE_KEY_BYTES, Header, Identity, NONCE_BYTES, TAG_BYTES, X25519, chunk_nonce,
};

use super::{AgeError, FileKey, decrypt, mac_key, payload_key, recipient, wrapping};

/// Bytes of a full chunk as it lies in the file.
const SEALED_BYTES: usize = CHUNK_BYTES + TAG_BYTES;

/// A file that is decrypted while it is read. Its chunks come in order and are whole; that none is missing at its end is
/// known when the end was read.
pub struct Opening<R> {
    sealed: BufReader<R>,
    key: LessSafeKey,
    /// The chunk that comes next.
    number: u64,
    /// A chunk that was decrypted.
    chunk: Vec<u8>,
    /// What of it is to be handed out.
    at: usize,
    end: usize,
    is_last: bool,
}

impl<R: Read> Opening<R> {
    /// Opens a file with whichever identity it was encrypted to.
    ///
    /// # Errors
    ///
    /// It is no file of age, was encrypted to nobody who is here, or its header was changed.
    pub fn new(sealed: R, identities: &[Identity]) -> Result<Self, AgeError> {
        let mut sealed = BufReader::with_capacity(CHUNK_BYTES, sealed);
        let header = Header::read(&mut sealed)?;
        let file_key = unwrap(&header, identities)?.ok_or(AgeError::NoMatch)?;
        let no_key = || AgeError::Header("no key can be made of it");
        let mac = mac_key(&file_key).ok_or_else(no_key)?;
        hmac::verify(&mac, &header.covered, &header.mac).map_err(|_| AgeError::Mac)?;
        let mut nonce = [0; NONCE_BYTES];
        sealed.read_exact(&mut nonce).map_err(|e| match e.kind() {
            std::io::ErrorKind::UnexpectedEof => AgeError::Header("it ends within its nonce"),
            _ => AgeError::Io(e),
        })?;
        let key = payload_key(&file_key, &nonce).ok_or_else(no_key)?;
        let chunk = Vec::with_capacity(SEALED_BYTES);
        Ok(Self { sealed, key, number: 0, chunk, at: 0, end: 0, is_last: false })
    }

    fn decrypt(&mut self) -> Result<(), AgeError> {
        self.chunk.clear();
        (&mut self.sealed).take(SEALED_BYTES as u64).read_to_end(&mut self.chunk)?;
        self.is_last = self.sealed.fill_buf()?.is_empty();
        let is_empty = self.chunk.len() == TAG_BYTES;
        if is_empty && self.number > 0 {
            return Err(AgeError::Payload);
        }
        let nonce = chunk_nonce(self.number, self.is_last);
        self.end = decrypt(&self.key, nonce, &mut self.chunk).ok_or(AgeError::Payload)?;
        (self.at, self.number) = (0, self.number + 1);
        Ok(())
    }
}

/// The file key, from the first stanza that one of these identities opens.
fn unwrap(header: &Header, identities: &[Identity]) -> Result<Option<FileKey>, AgeError> {
    let mut found = None;
    // All are looked at, so that what is malformed is told whoever asks.
    let stanzas: Vec<X25519> =
        header.stanzas.iter().filter_map(|stanza| stanza.x25519().transpose()).collect::<Result<_, _>>()?;
    for X25519 { share, body } in stanzas {
        for identity in identities {
            let own = recipient(identity).ok_or(AgeError::NoMatch)?;
            let key = wrapping(identity.secret(), &share, &share, &own.0)
                .ok_or(AgeError::Header("an X25519 stanza has a key that is known to all"))?;
            let mut body = Zeroizing::new(body);
            if found.is_none() && decrypt(&key, [0; 12], body.as_mut_slice()).is_some() {
                let bytes =
                    body.get(..FILE_KEY_BYTES).and_then(|key| <[u8; FILE_KEY_BYTES]>::try_from(key).ok());
                found = bytes.map(FileKey::new);
            }
        }
    }
    Ok(found)
}

impl<R: Read> Read for Opening<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        if self.at == self.end && !self.is_last {
            self.decrypt().map_err(|e| match e {
                AgeError::Io(e) => e,
                other => std::io::Error::new(std::io::ErrorKind::InvalidData, other),
            })?;
        }
        let there = self.chunk.get(self.at..self.end).unwrap_or_default();
        let n = there.len().min(buffer.len());
        buffer[..n].copy_from_slice(&there[..n]);
        self.at += n;
        Ok(n)
    }
}
