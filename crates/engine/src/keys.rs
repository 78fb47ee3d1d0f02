//! A station's own key: Ed25519, as PKCS #8 and SPKI PEM files that `openssl` reads.

use std::path::Path;

use ed25519_dalek::pkcs8::spki::der::pem::LineEnding;
use ed25519_dalek::pkcs8::{
    DecodePrivateKey, DecodePublicKey, EncodePrivateKey, EncodePublicKey, KeypairBytes,
};
use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};

use zeroize::Zeroizing;

use airlock_core::bundle::{self, SignatureLine};
use airlock_core::hex;

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

/// Whether a signature is by this key over this message. Strict: no weak keys, one valid encoding.
pub fn verifies(line: &SignatureLine, message: &[u8]) -> bool {
    VerifyingKey::from_bytes(&line.public_key)
        .is_ok_and(|key| key.verify_strict(message, &Signature::from_bytes(&line.signature)).is_ok())
}
