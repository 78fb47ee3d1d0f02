//! Root files: made, changed and signed on any machine, without a station; and the one by which a station's bundles are
//! released.

use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use airlock_core::bundle::fingerprint;
use airlock_core::hex;
use airlock_core::root::{Chain, Change, ROOT_BYTES_MAX, Root, RootError, RootFile, SignedRoot, Standing};

use crate::error::{Error, Result, file_error};
use crate::files::open_regular_itself;
use crate::keys;
use crate::personal::Signer;
use crate::station::Station;

/// `[release]`: by whose word the bundles of this station count.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Release {
    /// The root file, from the station's directory; none: the station's own key releases.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub root: Option<PathBuf>,
    /// What names of streams begin with; none: the station's name and the begin of its key. A station that got another key
    /// goes on with its streams by it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stream: Option<String>,
}

impl Release {
    pub(crate) fn is_default(&self) -> bool {
        *self == Self::default()
    }

    pub(crate) fn check(&self) -> Result<()> {
        match self.stream.as_ref().filter(|stream| !airlock_core::channel::is_plain_name(stream)) {
            Some(stream) => Err(Error::usage(format!("[release] stream: `{stream}` cannot name a stream"))
                .hint("use lower-case letters, digits, `_`, `-` and `.`")),
            None => Ok(()),
        }
    }
}

/// The root by which this station's bundles are released, if its configuration names one.
///
/// # Errors
///
/// It is not complete, or has ended; or the station's own key, which lies where it can be reached, is one of its root keys.
pub fn of_station(station: &Station) -> Result<Option<Chain>> {
    let Some(path) = &station.config.release.root else { return Ok(None) };
    let path = station.dir.join(path);
    let chain = read_chain(&path).map_err(|e| e.while_("[release] root"))?;
    let newest = chain.newest();
    if newest.root.person(&station.key.public()).is_some() {
        return Err(Error::usage(format!(
            "root `{}` has this station's key among its root keys",
            newest.name
        ))
        .hint("root keys stay off the line: make a version without it"));
    }
    if newest.has_ended(station.clock()) {
        return Err(ended(newest));
    }
    Ok(Some(chain))
}

/// What is said of a root that releases nothing any more.
pub(crate) fn ended(root: &Root) -> Error {
    let until = root.valid_until.map(|until| until.to_string()).unwrap_or_default();
    Error::unsafe_(format!("root `{}` ended at {until}", root.name)).hint(
        "its owners make a version that is valid longer with `airlock key root change` and sign it; see docs/signing.md",
    )
}

/// What a faulty root file is to people.
pub(crate) fn refused(error: &RootError) -> Error {
    let refused = Error::unsafe_(format!("the root cannot be believed: {error}"));
    match error {
        RootError::Unsigned { .. } => {
            refused.hint("`airlock key root show FILE` says who is to sign it, and `airlock key root sign` signs")
        }
        RootError::Forked(_) => refused
            .hint("whoever holds the root keys signed two of them: ask the root's owners which is right, and tell your security officer"),
        _ => refused.hint("ask its owner for the file as it was signed"),
    }
}

/// Reads a root file; nothing of it is believed yet.
pub fn read(path: &Path) -> Result<RootFile> {
    RootFile::parse(&read_text(path)?).map_err(|e| refused(&e).while_(&path.display().to_string()))
}

/// The text of a root file, which may lie on a strange medium.
pub(crate) fn read_text(path: &Path) -> Result<String> {
    let mut text = String::new();
    let file = open_regular_itself(path).map_err(file_error(path))?;
    match file.take(ROOT_BYTES_MAX + 1).read_to_string(&mut text) {
        Err(e) if e.kind() == std::io::ErrorKind::InvalidData => {
            Err(refused(&RootError::Shape("it is no text".to_owned())))
        }
        Err(e) => Err(file_error(path)(e)),
        Ok(_) => Ok(text),
    }
}

/// The versions of a root file, each signed by all that it takes.
pub fn chain(file: RootFile) -> Result<Chain> {
    file.into_chain(&keys::verifies).map_err(|e| refused(&e))
}

/// The same of a file.
pub fn read_chain(path: &Path) -> Result<Chain> {
    chain(read(path)?).map_err(|e| e.while_(&path.display().to_string()))
}

/// Whether a file looks like a root, and not like a key.
pub fn is_root(path: &Path) -> bool {
    read_text(path).is_ok_and(|text| text.trim_start().starts_with('{'))
}

/// How a root file is written.
pub fn text(file: &RootFile) -> Result<String> {
    Ok(serde_json::to_string_pretty(file)? + "\n")
}

/// How the newest version of a root file stands, and the fingerprint that it has then.
#[derive(Clone, Debug, Serialize)]
pub struct Shown {
    /// The newest version.
    pub root: Root,
    /// Its fingerprint.
    pub fingerprint: String,
    /// Who signed it, and who is to.
    pub standing: Standing,
}

/// Looks at a root file.
pub fn show(file: &RootFile) -> Result<Shown> {
    let standing = file.standing(&keys::verifies).map_err(|e| refused(&e))?;
    let newest = file.versions.last().ok_or_else(|| Error::usage("the root has no version"))?;
    let id = newest.root.id()?;
    Ok(Shown { root: newest.root.clone(), fingerprint: airlock_core::bundle::print_of(id), standing })
}

/// Makes a root, whose first version nobody signed yet.
pub fn create(path: &Path, name: &str, change: &Change) -> Result<Shown> {
    if path.exists() {
        return Err(Error::usage(format!("{} is there already", path.display()))
            .hint("`airlock key root change` makes its next version"));
    }
    let root = Root::first(name, change).map_err(|what| senseless(&what))?;
    write(path, &RootFile { versions: vec![SignedRoot { root, signatures: Vec::new() }] })
}

/// Adds a version, which nobody signed yet.
///
/// # Errors
///
/// The newest one lacks signatures: what nobody signed is not built on.
pub fn change(path: &Path, change: &Change) -> Result<Shown> {
    let mut file = read(path)?;
    let shown = show(&file)?;
    if !shown.standing.is_complete() {
        return Err(Error::usage(format!("version {} lacks signatures yet", shown.root.version))
            .hint("sign it; or, if it is not what was meant, begin again from the file as it was before"));
    }
    let root = shown.root.next(change).map_err(|what| senseless(&what))?;
    file.versions.push(SignedRoot { root, signatures: Vec::new() });
    write(path, &file)
}

fn senseless(what: &str) -> Error {
    Error::usage(format!("the new version {what}")).hint("docs/signing.md explains what a root consists of")
}

/// Signs the newest version for a person. A signature that is there already is not added again.
///
/// # Errors
///
/// The key is neither a root key of the newest version nor of the one before it.
pub fn sign(path: &Path, signer: &Signer) -> Result<(String, Shown)> {
    let mut file = read(path)?;
    show(&file)?;
    let key = signer.public_key();
    let person = file.versions.iter().rev().take(2).find_map(|version| version.root.root.person(&key));
    let person = person.map(str::to_owned).ok_or_else(|| {
        Error::unsafe_(format!("{} is no root key of this root", fingerprint(&key)))
            .hint("nothing was signed; `airlock key root show FILE` says whose keys are")
    })?;
    let newest = file.versions.last_mut().ok_or_else(|| Error::usage("the root has no version"))?;
    let message = newest.root.message()?;
    let key = hex::encode(&key);
    // What does not fit any longer is left away with it.
    newest.signatures.retain(|line| !line.contains(&key));
    newest.signatures.push(signer.sign(&message)?.to_string());
    Ok((person, write(path, &file)?))
}

/// Writes a root file; it is there as it was or as it is now.
fn write(path: &Path, file: &RootFile) -> Result<Shown> {
    let shown = show(file)?;
    let beside = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut new = tempfile::NamedTempFile::new_in(beside).map_err(file_error(beside))?;
    let mut put = || -> std::io::Result<()> {
        use std::os::unix::fs::PermissionsExt as _;
        new.write_all(text(file).map_err(std::io::Error::other)?.as_bytes())?;
        // It holds no secret, and others are to read it.
        new.as_file().set_permissions(std::fs::Permissions::from_mode(0o644))?;
        new.as_file().sync_all()
    };
    put().map_err(file_error(path))?;
    new.persist(path).map_err(|e| file_error(path)(e.error))?;
    Ok(shown)
}
