//! A station's own key: Ed25519, as PKCS #8 and SPKI PEM files that `openssl` reads.

use std::cell::RefCell;
use std::path::Path;

use ed25519_dalek::hazmat::{ExpandedSecretKey, raw_sign_byupdate};
use ed25519_dalek::pkcs8::spki::der::pem::LineEnding;
use ed25519_dalek::pkcs8::{
    DecodePrivateKey, DecodePublicKey, EncodePrivateKey, EncodePublicKey, KeypairBytes,
};
use ed25519_dalek::{Signature, SignatureError, Signer, SigningKey, StreamVerifier, VerifyingKey};
use sha2::Sha512;
use zeroize::Zeroizing;

use airlock_core::bundle::{self, SignatureLine};
use airlock_core::hex;

use crate::bundle::text::Text;
use crate::error::{Error, Result, file_error};

/// A key that signs.
#[derive(Clone)]
pub struct StationKey {
    key: SigningKey,
}

impl std::fmt::Debug for StationKey {
    /// Never the secret.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "StationKey({})", self.fingerprint())
    }
}

impl StationKey {
    /// Makes a key and writes it to `folder`, readable by its owner alone.
    pub fn create(folder: &Path) -> Result<Self> {
        let mut secret = [0u8; 32];
        getrandom::fill(&mut secret)
            .map_err(|e| Error::fault(format!("the system gives no random bytes: {e}")))?;
        let key = Self { key: SigningKey::from_bytes(&secret) };
        std::fs::create_dir_all(folder).map_err(file_error(folder))?;
        let pem = private(&key.key)
            .to_pkcs8_pem(LineEnding::LF)
            .map_err(|e| Error::fault(format!("the key cannot be written: {e}")))?;
        write_private(&folder.join("station.key"), pem.as_bytes())?;
        let public = folder.join("station.pub");
        std::fs::write(&public, key.public_pem()?).map_err(file_error(&public))?;
        Ok(key)
    }

    /// Reads the key that [`StationKey::create`] wrote.
    pub fn open(folder: &Path) -> Result<Self> {
        let path = folder.join("station.key");
        let pem = std::fs::read_to_string(&path).map_err(file_error(&path))?;
        let key = SigningKey::from_pkcs8_pem(&pem).map_err(|e| {
            Error::usage(format!("{} is not an Ed25519 key in PKCS #8 PEM: {e}", path.display()))
        })?;
        Ok(Self { key })
    }

    /// The 32 bytes of the public key.
    pub fn public(&self) -> [u8; 32] {
        self.key.verifying_key().to_bytes()
    }

    /// The public key as hexadecimal.
    pub fn public_hex(&self) -> String {
        hex::encode(&self.public())
    }

    /// The public key as PEM.
    pub fn public_pem(&self) -> Result<String> {
        self.key
            .verifying_key()
            .to_public_key_pem(LineEnding::LF)
            .map_err(|e| Error::fault(format!("the public key cannot be written: {e}")))
    }

    /// The fingerprint that people compare.
    pub fn fingerprint(&self) -> String {
        bundle::fingerprint(&self.public())
    }

    /// What this key's holder and the holder of another one can compute, and nobody else: X25519 between the two, as
    /// RFC 7748 has it, in the other form of both curves' points. `None` for a key with which it would be known to all.
    pub fn agree(&self, other: &[u8; 32]) -> Option<[u8; 32]> {
        let other = VerifyingKey::from_bytes(other).ok().filter(|key| !key.is_weak())?;
        let shared = other.to_montgomery().mul_clamped(self.key.to_scalar_bytes()).to_bytes();
        (shared != [0; 32]).then_some(shared)
    }

    /// A secret that only this key's holder can compute, for one purpose and what it is told of.
    pub(crate) fn derived<const N: usize>(&self, purpose: &[u8], of: &[&[u8]]) -> Option<Zeroizing<[u8; N]>> {
        crate::age::derive(&Zeroizing::new(self.key.to_bytes())[..], purpose, of)
    }

    /// Signs.
    pub fn sign(&self, message: &[u8]) -> SignatureLine {
        SignatureLine { public_key: self.public(), signature: self.key.sign(message).to_bytes() }
    }

    /// Signs a text that nobody holds. It is read twice; whoever could make it another one in between would learn the key, which
    /// is why nothing but a [`Text`] is signed so: it gives nothing but what it gave the first time.
    pub(crate) fn sign_text(&self, text: &Text) -> Result<SignatureLine> {
        let failed = RefCell::new(None);
        let update = |hasher: &mut Sha512| {
            let read = text.each(|piece| {
                sha2::Digest::update(hasher, piece);
                Ok(())
            });
            read.map_err(|e| {
                failed.replace(Some(e));
                SignatureError::new()
            })
        };
        let key = ExpandedSecretKey::from(&*Zeroizing::new(self.key.to_bytes()));
        match raw_sign_byupdate::<Sha512, _>(&key, update, &self.key.verifying_key()) {
            Ok(signature) => Ok(SignatureLine { public_key: self.public(), signature: signature.to_bytes() }),
            Err(e) => {
                Err(failed.take().unwrap_or_else(|| Error::fault(format!("nothing can be signed: {e}"))))
            }
        }
    }
}

/// A key as PKCS #8 of the first version, without the public key: OpenSSL 3.0 reads no other.
pub(crate) fn private(key: &SigningKey) -> KeypairBytes {
    KeypairBytes { secret_key: key.to_bytes(), public_key: None }
}

pub(crate) fn write_private(path: &Path, bytes: &[u8]) -> Result<()> {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .map_err(file_error(path))?;
    let mut sync = || -> std::io::Result<()> {
        file.write_all(bytes)?;
        file.sync_all()?;
        sync_folder(path)
    };
    sync().map_err(file_error(path))
}

/// Makes the name of a new file last.
fn sync_folder(path: &Path) -> std::io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    std::fs::File::open(folder)?.sync_all()
}

/// Writes a secret for its owner alone, unless one is there already, and gives what is there then. It has its name only
/// when all of it is written.
pub(crate) fn write_once(path: &Path, bytes: &[u8]) -> Result<String> {
    let folder = path.parent().unwrap_or(path);
    let file = tempfile::NamedTempFile::new_in(folder).map_err(file_error(folder))?;
    std::fs::write(file.path(), bytes).map_err(file_error(path))?;
    file.as_file().sync_all().map_err(file_error(path))?;
    match file.persist_noclobber(path) {
        Err(e) if e.error.kind() != std::io::ErrorKind::AlreadyExists => Err(file_error(path)(e.error)),
        _ => {
            sync_folder(path).map_err(file_error(path))?;
            std::fs::read_to_string(path).map_err(file_error(path))
        }
    }
}

/// Reads a public key from a PEM file, or from one that holds 64 hexadecimal digits.
pub fn read_public(path: &Path) -> Result<[u8; 32]> {
    let text = std::fs::read_to_string(path).map_err(file_error(path))?;
    let bytes = match VerifyingKey::from_public_key_pem(text.trim()) {
        Ok(key) => Some(key.to_bytes()),
        Err(_) => hex::decode(text.trim()).filter(|b| VerifyingKey::from_bytes(b).is_ok()),
    };
    bytes.ok_or_else(|| {
        Error::usage(format!("{} holds no Ed25519 public key", path.display()))
            .hint("give the station.pub of the sending station")
    })
}

/// A signature that is held against a message which comes piece by piece; as strictly as [`verifies`] is.
pub(crate) struct Holding(Option<StreamVerifier>);

impl Holding {
    /// Begins with a signature.
    pub fn begin(line: &SignatureLine) -> Self {
        let signature = Signature::from_bytes(&line.signature);
        let point = |bytes: &[u8; 32]| VerifyingKey::from_bytes(bytes).ok().filter(|point| !point.is_weak());
        // Neither the key nor the point in the signature may be one that fits many messages.
        let key = point(&line.public_key).filter(|_| point(signature.r_bytes()).is_some());
        Self(key.and_then(|key| key.verify_stream(&signature).ok()))
    }

    /// Goes on.
    pub fn update(&mut self, piece: &[u8]) {
        self.0.iter_mut().for_each(|verifier| verifier.update(piece));
    }

    /// Whether it is of its key and the message.
    pub fn finish(self) -> bool {
        self.0.is_some_and(|verifier| verifier.finalize_and_verify().is_ok())
    }
}

/// Whether a signature is by this key over this message. Strict: no weak keys, one valid encoding.
pub fn verifies(line: &SignatureLine, message: &[u8]) -> bool {
    VerifyingKey::from_bytes(&line.public_key)
        .is_ok_and(|key| key.verify_strict(message, &Signature::from_bytes(&line.signature)).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held(line: &SignatureLine, message: &[u8], piece: usize) -> bool {
        let mut holding = Holding::begin(line);
        message.chunks(piece).for_each(|piece| holding.update(piece));
        holding.finish()
    }

    #[test]
    fn a_text_is_signed_and_verified_in_pieces_as_it_is_whole() {
        let dir = tempfile::tempdir().unwrap();
        let key = StationKey { key: SigningKey::from_bytes(&[7; 32]) };
        let path = dir.path().join("text");
        for size in [0, 1, 1_000_000] {
            let message = vec![3; size];
            std::fs::write(&path, &message).unwrap();
            let line = key.sign_text(&Text::read(&path).unwrap()).unwrap();
            assert_eq!(line, key.sign(&message));
            assert!(verifies(&line, &message) && held(&line, &message, 999));
            let mut more = message.clone();
            more.push(3);
            assert!(!held(&line, &more, 999));
            for at in 0..64 {
                let mut other = line.clone();
                other.signature[at] ^= 0x10;
                assert!(!held(&other, &message, 999), "{at}");
            }
            assert!(!held(&SignatureLine { public_key: [2; 32], ..line }, &message, 999));
        }
        let text = Text::read(&path).unwrap();
        std::fs::write(&path, vec![4; 1_000_000]).unwrap();
        assert!(key.sign_text(&text).unwrap_err().message.contains("changes while it is read"));
    }

    #[test]
    fn a_key_that_fits_every_message_fits_none() {
        // The neutral point as key and in the signature, and a factor of nothing.
        let (mut neutral, mut signature) = ([0; 32], [0; 64]);
        (neutral[0], signature[0]) = (1, 1);
        let line = SignatureLine { public_key: neutral, signature };
        let key = VerifyingKey::from_bytes(&neutral).unwrap();
        let mut lax = key.verify_stream(&Signature::from_bytes(&signature)).unwrap();
        lax.update(b"anything");
        assert!(lax.finalize_and_verify().is_ok());
        assert!(!held(&line, b"anything", 3) && !verifies(&line, b"anything"));
    }
}
