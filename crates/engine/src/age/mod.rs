//! Encryption to a recipient in the age format, version 1 (`formats::age` has its layout): X25519, HKDF-SHA256, HMAC-SHA256 and
//! ChaCha20-Poly1305.
//!
//! Written here and not taken from a library, since who seals a bundle chooses the key of each file, so that an export that was
//! broken off goes on with the same bytes ([`Seal::new`]); and the library there is draws its own, and some sixty further packages.

pub mod identity;
mod open;
mod seal;

use aws_lc_rs::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::agreement::{self, PrivateKey, UnparsedPublicKey};
use aws_lc_rs::hkdf::{HKDF_SHA256, KeyType, Salt};
use aws_lc_rs::hmac;
use zeroize::Zeroizing;

use airlock_formats::age::{FILE_KEY_BYTES, HeaderError, Identity, NONCE_BYTES, Recipient, TAG_BYTES};

pub use open::Opening;
pub use seal::{Seal, Sealing};

/// The key of a file. It is wiped from memory when it is let go of.
pub type FileKey = Zeroizing<[u8; FILE_KEY_BYTES]>;

/// What a key is for that wraps a file key.
const WRAPPING: &[u8] = b"age-encryption.org/v1/X25519";

/// Why a file cannot be opened, or made.
#[derive(Debug, thiserror::Error)]
pub enum AgeError {
    /// The header is malformed.
    #[error("it is no file of age: {0}")]
    Header(&'static str),
    /// None of the identities is one that it was encrypted to.
    #[error("it is encrypted to none of the identities that are here")]
    NoMatch,
    /// The header is not the one that was made with the file key.
    #[error("its header was changed")]
    Mac,
    /// A chunk was changed, moved, taken away or added.
    #[error("it was changed, or is cut short")]
    Payload,
    /// It cannot be read.
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

impl From<HeaderError> for AgeError {
    fn from(error: HeaderError) -> Self {
        match error {
            HeaderError::Malformed(what) => Self::Header(what),
            HeaderError::Io(error) => Self::Io(error),
        }
    }
}

/// Bytes that HKDF gives.
struct Bytes(usize);

impl KeyType for Bytes {
    fn len(&self) -> usize {
        self.0
    }
}

/// HKDF-SHA256.
pub(crate) fn derive<const N: usize>(
    secret: &[u8],
    salt: &[u8],
    info: &[&[u8]],
) -> Option<Zeroizing<[u8; N]>> {
    let mut out = Zeroizing::new([0; N]);
    let key = Salt::new(HKDF_SHA256, salt).extract(secret);
    key.expand(info, Bytes(N)).ok()?.fill(out.as_mut_slice()).ok()?;
    Some(out)
}

fn cipher(key: &[u8; 32]) -> Option<LessSafeKey> {
    UnboundKey::new(&CHACHA20_POLY1305, key).ok().map(LessSafeKey::new)
}

/// The public half of an X25519 key.
fn public(secret: &[u8; 32]) -> Option<[u8; 32]> {
    let key = PrivateKey::from_private_key(&agreement::X25519, secret).ok()?;
    key.compute_public_key().ok()?.as_ref().try_into().ok()
}

/// Who can open what is encrypted to an identity's public half.
pub fn recipient(identity: &Identity) -> Option<Recipient> {
    public(identity.secret()).map(Recipient)
}

/// The key that wraps a file key, between two halves; none where both sides would agree on nothing, whatever their secrets are.
fn wrapping(secret: &[u8; 32], other: &[u8; 32], share: &[u8; 32], to: &[u8; 32]) -> Option<LessSafeKey> {
    let key = PrivateKey::from_private_key(&agreement::X25519, secret).ok()?;
    let other = UnparsedPublicKey::new(&agreement::X25519, other);
    let salt = [share.as_slice(), to].concat();
    let derived = agreement::agree(&key, other, (), |shared| match shared.iter().all(|b| *b == 0) {
        true => Err(()),
        false => derive::<32>(shared, &salt, &[WRAPPING]).ok_or(()),
    });
    cipher(&*derived.ok()?)
}

/// The MAC of a header.
fn mac_key(file_key: &FileKey) -> Option<hmac::Key> {
    let key = derive::<32>(file_key.as_slice(), &[], &[b"header"])?;
    Some(hmac::Key::new(hmac::HMAC_SHA256, key.as_slice()))
}

/// The key of a payload.
fn payload_key(file_key: &FileKey, nonce: &[u8; NONCE_BYTES]) -> Option<LessSafeKey> {
    cipher(&*derive::<32>(file_key.as_slice(), nonce, &[b"payload"])?)
}

/// Encrypts what lies in front and puts the tag behind it.
fn encrypt(key: &LessSafeKey, nonce: [u8; 12], buffer: &mut Vec<u8>) -> Option<()> {
    key.seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::empty(), buffer).ok()
}

/// Decrypts in place and gives how many bytes that were; none if anything was changed.
fn decrypt(key: &LessSafeKey, nonce: [u8; 12], bytes: &mut [u8]) -> Option<usize> {
    key.open_in_place(Nonce::assume_unique_for_key(nonce), Aad::empty(), bytes).ok()?;
    bytes.len().checked_sub(TAG_BYTES)
}
