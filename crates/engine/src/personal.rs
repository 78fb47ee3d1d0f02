//! Keys of persons: in a file that a passphrase encrypts, or behind a command that signs with a token or an HSM.
//!
//! The file is PKCS #8 (RFC 5958) under PBES2 (RFC 8018), as `openssl genpkey -aes256` writes it and `openssl pkey` reads it.

use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use aws_lc_rs::cipher::{
    AES_128, AES_192, AES_256, DecryptionContext, EncryptionContext, PaddedBlockDecryptingKey,
    PaddedBlockEncryptingKey, UnboundCipherKey,
};
use aws_lc_rs::iv::FixedLength;
use aws_lc_rs::pbkdf2;
use ed25519_dalek::pkcs8::{
    DecodePrivateKey as _, EncodePrivateKey as _, EncodePublicKey as _, PrivateKeyInfoRef,
};
use ed25519_dalek::{Signer as _, SigningKey};
use pkcs5::EncryptionScheme as Scheme;
use pkcs5::der::asn1::{AnyRef, OctetStringRef};
use pkcs5::der::pem::{self, LineEnding};
use pkcs5::der::{self, Decode as _, Encode as _, Reader as _, Tag};
use pkcs5::pbes2::{EncryptionScheme as Cipher, Kdf, Parameters, Pbkdf2Prf};
use zeroize::Zeroizing;

use airlock_core::bundle::{SignatureLine, fingerprint};

use crate::error::{Error, Result, file_error};
use crate::files::open_regular;
use crate::keys;

/// How often a passphrase is hashed where this program encrypts a key; OWASP asks for 600,000.
const ITERATIONS: u32 = 1_000_000;
/// How often it is hashed at most where a key comes from elsewhere.
const ITERATIONS_MAX: u32 = 20_000_000;
/// Largest key file, in bytes.
const KEY_BYTES_MAX: u64 = 64 << 10;
/// The label of encrypted keys.
const ENCRYPTED: &str = "ENCRYPTED PRIVATE KEY";
/// The variable that names the file with what is to be signed.
const MESSAGE: &str = "AIRLOCK_MESSAGE";
/// Shortest passphrase that a new key is encrypted with, in characters.
const PASSPHRASE_CHARS_MIN: usize = 12;

/// What opens a key file. It is wiped from memory when it is let go of.
pub type Passphrase = Zeroizing<String>;

/// Signs for a person.
pub enum Signer {
    /// With a key from a file.
    Key(Box<SigningKey>),
    /// By a command, which gets the message in `$AIRLOCK_MESSAGE` and on its standard input, and answers with the 64
    /// bytes of the signature.
    Command {
        /// For the shell.
        command: String,
        /// The key with which it signs.
        public_key: [u8; 32],
    },
}

impl std::fmt::Debug for Signer {
    /// Never the secret.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Signer({})", fingerprint(&self.public_key()))
    }
}

impl Signer {
    /// The public key.
    pub fn public_key(&self) -> [u8; 32] {
        match self {
            Self::Key(key) => key.verifying_key().to_bytes(),
            Self::Command { public_key, .. } => *public_key,
        }
    }

    /// Signs.
    ///
    /// # Errors
    ///
    /// A command cannot be run, or answers with what is no signature of the message by its key.
    pub fn sign(&self, message: &[u8]) -> Result<SignatureLine> {
        match self {
            Self::Key(key) => {
                Ok(SignatureLine { public_key: self.public_key(), signature: key.sign(message).to_bytes() })
            }
            Self::Command { command, public_key } => by_command(command, *public_key, message),
        }
    }
}

fn by_command(command: &str, public_key: [u8; 32], message: &[u8]) -> Result<SignatureLine> {
    let folder = std::env::temp_dir();
    let mut file = tempfile::NamedTempFile::new().map_err(file_error(&folder))?;
    file.write_all(message).map_err(file_error(file.path()))?;
    let input = std::fs::File::open(file.path()).map_err(file_error(file.path()))?;
    let fault = |what: String| {
        Error::fault(format!("the command that signs {what}"))
            .hint("it gets the message in the file that $AIRLOCK_MESSAGE names and on stdin, and writes the 64 bytes of the signature to stdout")
    };
    // What it has to say or to ask goes to the terminal.
    let mut child = Command::new("sh")
        .arg("-c")
        .arg(command)
        .env(MESSAGE, file.path())
        .stdin(Stdio::from(input))
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|e| fault(format!("cannot be started: {e}")))?;
    let mut out = Vec::new();
    if let Some(stdout) = child.stdout.take() {
        stdout.take(65).read_to_end(&mut out).map_err(|e| fault(format!("cannot be read: {e}")))?;
    }
    let status = child.wait().map_err(|e| fault(format!("was lost: {e}")))?;
    if !status.success() {
        return Err(fault(format!("failed: {status}")));
    }
    let signature: [u8; 64] = out
        .as_slice()
        .try_into()
        .map_err(|_| fault(format!("answered with {} bytes, not with the 64 of a signature", out.len())))?;
    let line = SignatureLine { public_key, signature };
    match keys::verifies(&line, message) {
        true => Ok(line),
        false => Err(Error::unsafe_(format!(
            "the command signed with another key than {}, or something else than it was given",
            fingerprint(&public_key)
        ))
        .hint("nothing was signed; compare the public key that was given with that of the token")),
    }
}

/// Makes a key for a person, in `path`, and its public key beside it with `.pub` added. Gives the public key's file.
///
/// # Errors
///
/// One of the files is there already; the passphrase is too short.
pub fn create(path: &Path, passphrase: &Passphrase) -> Result<(PathBuf, [u8; 32])> {
    if passphrase.chars().count() < PASSPHRASE_CHARS_MIN {
        return Err(Error::usage(format!("the passphrase has fewer than {PASSPHRASE_CHARS_MIN} characters"))
            .hint("take a few words that nobody would guess together"));
    }
    let mut beside = path.as_os_str().to_owned();
    beside.push(".pub");
    let beside = PathBuf::from(beside);
    for one in [path, &beside] {
        if one.exists() {
            return Err(
                Error::usage(format!("{} is there already", one.display())).hint("choose another name")
            );
        }
    }
    let mut secret = Zeroizing::new([0u8; 32]);
    random(secret.as_mut_slice())?;
    let key = SigningKey::from_bytes(&secret);
    let text = encrypt(&key, passphrase)?;
    let public = key
        .verifying_key()
        .to_public_key_pem(LineEnding::LF)
        .map_err(|e| Error::fault(format!("the public key cannot be written: {e}")))?;
    keys::write_private(path, text.as_bytes())?;
    std::fs::write(&beside, public).map_err(file_error(&beside))?;
    Ok((beside, key.verifying_key().to_bytes()))
}

fn random(bytes: &mut [u8]) -> Result<()> {
    getrandom::fill(bytes).map_err(|e| Error::fault(format!("the system gives no random bytes: {e}")))
}

fn encrypt(key: &SigningKey, passphrase: &Passphrase) -> Result<String> {
    let failed = || Error::fault("the key cannot be encrypted");
    let (mut salt, mut iv) = ([0u8; 16], [0u8; 16]);
    random(&mut salt)?;
    random(&mut iv)?;
    let scheme = Parameters::generate_pbkdf2_sha256_aes256cbc(ITERATIONS, &salt, iv).map_err(|_| failed())?;
    let mut bytes =
        Zeroizing::new(keys::private(key).to_pkcs8_der().map_err(|_| failed())?.as_bytes().to_vec());
    let cipher = PaddedBlockEncryptingKey::cbc_pkcs7(derived(&scheme, passphrase)?).map_err(|_| failed())?;
    let context = EncryptionContext::Iv128(FixedLength::from(iv));
    cipher.less_safe_encrypt(&mut *bytes, context).map_err(|_| failed())?;
    let envelope = || -> der::Result<String> {
        let mut body = Scheme::from(scheme).to_der()?;
        body.extend(OctetStringRef::new(&bytes)?.to_der()?);
        let whole = AnyRef::new(Tag::Sequence, &body)?.to_der()?;
        Ok(pem::encode_string(ENCRYPTED, LineEnding::LF, &whole)?)
    };
    envelope().map_err(|_| failed())
}

/// Opens a person's key file.
///
/// # Errors
///
/// It holds no encrypted Ed25519 key, or the passphrase is another one.
pub fn open(path: &Path, passphrase: impl FnOnce() -> Result<Passphrase>) -> Result<Signer> {
    let bad = |what: &str| {
        Error::usage(format!("{} {what}", path.display())).hint(
            "`airlock key new FILE` makes a key; so does `openssl genpkey -algorithm ed25519 -aes256 -out FILE`",
        )
    };
    let file = open_regular(path).map_err(file_error(path))?;
    let mut text = Zeroizing::new(String::new());
    file.take(KEY_BYTES_MAX)
        .read_to_string(&mut text)
        .map_err(|_| bad("is no key file: it holds no text"))?;
    let (label, bytes) =
        pem::decode_vec(text.trim_start().as_bytes()).map_err(|_| bad("is no key in PEM"))?;
    let bytes = Zeroizing::new(bytes);
    if label != ENCRYPTED {
        return Err(bad(&format!("is no encrypted key: it says `{label}`"))
            .hint(format!("encrypt it: `openssl pkcs8 -topk8 -in {0} -out {0}.encrypted`", path.display())));
    }
    let (scheme, data) = envelope(&bytes).map_err(|_| {
        bad("is encrypted in a way that is not known here").hint(format!(
            "encrypt it anew: `openssl pkcs8 -topk8 -v2 aes-256-cbc -v2prf hmacWithSHA256 -iter {ITERATIONS} -in {0} -out {0}.new`",
            path.display()
        ))
    })?;
    let wrong = || {
        Error::usage(format!("{} does not open: the passphrase is another one", path.display()))
            .hint("try again; if nobody knows it any more, the key is lost: see docs/signing.md")
    };
    let cipher =
        PaddedBlockDecryptingKey::cbc_pkcs7(derived(&scheme, &passphrase()?)?).map_err(|_| wrong())?;
    let mut data = Zeroizing::new(data);
    let context = DecryptionContext::Iv128(FixedLength::from(iv_of(&scheme)?));
    let plain = cipher.decrypt(&mut data, context).map_err(|_| wrong())?;
    // One in some hundred wrong passphrases leaves something that looks unpadded, and of these one in some hundred a value of DER;
    // none leaves a key with its algorithm.
    PrivateKeyInfoRef::try_from(&*plain).map_err(|_| wrong())?;
    let key = SigningKey::from_pkcs8_der(plain).map_err(|_| bad("holds another key than one of Ed25519"))?;
    Ok(Signer::Key(Box::new(key)))
}

/// The parts of an encrypted key.
fn envelope(bytes: &[u8]) -> der::Result<(Parameters, Vec<u8>)> {
    let (scheme, data) = AnyRef::from_der(bytes)?.sequence(|reader| {
        let scheme: Scheme = reader.decode()?;
        let data: &OctetStringRef = reader.decode()?;
        der::Result::Ok((scheme, data.as_bytes().to_vec()))
    })?;
    match scheme {
        Scheme::Pbes2(parameters) if iv_of(&parameters).is_ok() => Ok((parameters, data)),
        _ => Err(der::ErrorKind::Failed.into()),
    }
}

fn unknown() -> Error {
    Error::usage("the key is encrypted in a way that is not known here")
        .hint("encrypt it anew with PBKDF2 and AES-256-CBC, the default of `openssl pkcs8 -topk8`")
}

fn iv_of(parameters: &Parameters) -> Result<[u8; 16]> {
    match parameters.encryption {
        Cipher::Aes128Cbc { iv } | Cipher::Aes192Cbc { iv } | Cipher::Aes256Cbc { iv } => Ok(iv),
        _ => Err(unknown()),
    }
}

/// The key to which a passphrase leads.
fn derived(parameters: &Parameters, passphrase: &Passphrase) -> Result<UnboundCipherKey> {
    let Kdf::Pbkdf2(kdf) = &parameters.kdf else { return Err(unknown()) };
    let hash = match kdf.prf {
        Pbkdf2Prf::HmacWithSha1 => pbkdf2::PBKDF2_HMAC_SHA1,
        Pbkdf2Prf::HmacWithSha256 => pbkdf2::PBKDF2_HMAC_SHA256,
        Pbkdf2Prf::HmacWithSha384 => pbkdf2::PBKDF2_HMAC_SHA384,
        Pbkdf2Prf::HmacWithSha512 => pbkdf2::PBKDF2_HMAC_SHA512,
        _ => return Err(unknown()),
    };
    let (cipher, size) = match parameters.encryption {
        Cipher::Aes128Cbc { .. } => (&AES_128, 16),
        Cipher::Aes192Cbc { .. } => (&AES_192, 24),
        Cipher::Aes256Cbc { .. } => (&AES_256, 32),
        _ => return Err(unknown()),
    };
    let often = std::num::NonZeroU32::new(kdf.iteration_count).filter(|n| n.get() <= ITERATIONS_MAX);
    let often = often.ok_or_else(unknown)?;
    let mut key = Zeroizing::new(vec![0u8; size]);
    pbkdf2::derive(hash, often, kdf.salt.as_ref(), passphrase.as_bytes(), &mut key);
    UnboundCipherKey::new(cipher, &key).map_err(|_| unknown())
}
