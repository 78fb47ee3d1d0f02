//! The identities of a station: what opens bundles that were sealed to it.
//!
//! They lie in a file as `age-keygen` writes it, so that `age -d -i` takes it too. There may be several: who sends seals to the
//! newest, and what is under way to an older one is opened all the same.

use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use airlock_core::roles::Action;
use airlock_formats::age::{IDENTITIES_BYTES_MAX, Identity, Recipient, identities};

use super::recipient;
use crate::error::{Error, Result, file_error};
use crate::files::open_regular;
use crate::people;
use crate::station::Station;

/// Most identities that a station has: each is tried for each file.
pub const IDENTITIES_MAX: usize = 20;

/// Where a station keeps them.
pub fn path(station: &Path) -> PathBuf {
    station.join("keys").join("identity.txt")
}

fn text(path: &Path) -> Result<Zeroizing<String>> {
    let mut text = Zeroizing::new(String::new());
    match open_regular(path) {
        Ok(file) => file.take(IDENTITIES_BYTES_MAX).read_to_string(&mut text).map_err(file_error(path))?,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => 0,
        Err(e) => return Err(file_error(path)(e)),
    };
    Ok(text)
}

fn read(path: &Path, text: &str) -> Result<Vec<(Identity, Recipient)>> {
    let bad = |what: String| {
        Error::usage(format!("{}: {what}", path.display()))
            .hint("put the file back from a copy; `airlock key identity --add` adds a new one to it")
    };
    let all = identities(text).map_err(|e| bad(e.to_string()))?;
    if all.len() > IDENTITIES_MAX {
        return Err(bad(format!("it holds more than {IDENTITIES_MAX} identities")));
    }
    let with = |identity: Identity| {
        let public = recipient(&identity).ok_or_else(|| bad("an identity is no key".to_owned()))?;
        Ok((identity, public))
    };
    all.into_iter().map(with).collect()
}

/// The identities of the station in this folder, oldest first; none where it has no file of them.
pub fn all(station: &Path) -> Result<Vec<(Identity, Recipient)>> {
    let path = path(station);
    read(&path, &text(&path)?)
}

/// What others seal to, oldest first. Where there is none yet, or `adds` asks for one more, one is made: its secret half stays in
/// the file, which its owner alone can read.
///
/// # Errors
///
/// Whoever acts may not; the file holds something else; there are too many.
pub async fn ensure(station: &Station, adds: bool) -> Result<Vec<Recipient>> {
    let path = path(&station.dir);
    let before = text(&path)?;
    let mut all: Vec<Recipient> = read(&path, &before)?.into_iter().map(|(_, public)| public).collect();
    if !all.is_empty() && !adds {
        return Ok(all);
    }
    people::allow(station, Action::Trust, None).await?;
    let _lease = station.lease("keys/identity", "key").await?;
    if all.len() >= IDENTITIES_MAX {
        return Err(Error::usage(format!("there are {IDENTITIES_MAX} identities already"))
            .hint(format!("take those out of {} to which nothing is on its way any more", path.display())));
    }
    let mut secret = Zeroizing::new([0u8; 32]);
    getrandom::fill(secret.as_mut_slice())
        .map_err(|e| Error::fault(format!("the system gives no random bytes: {e}")))?;
    let identity = Identity::from(*secret);
    let public = recipient(&identity).ok_or_else(|| Error::fault("no identity can be made"))?;
    let now = station.now().await?;
    let added =
        Zeroizing::new(format!("# created: {now}\n# public key: {public}\n{}\n", identity.text().as_str()));
    replace(&path, &[before.as_bytes(), added.as_bytes()])?;
    let detail = serde_json::json!({"recipient": public.to_string()});
    station.commit(Vec::new(), "key.identity", "keys/identity", &detail).await?;
    all.push(public);
    Ok(all)
}

/// Writes a file for its owner alone, whole or not at all.
fn replace(path: &Path, parts: &[&[u8]]) -> Result<()> {
    let folder = path.parent().unwrap_or(path);
    // Such files are for their owner alone from the beginning.
    let mut file = tempfile::NamedTempFile::new_in(folder).map_err(file_error(folder))?;
    parts.iter().try_for_each(|part| file.write_all(part)).map_err(file_error(path))?;
    file.as_file().sync_all().map_err(file_error(path))?;
    file.persist(path).map_err(|e| file_error(path)(e.error))?;
    std::fs::File::open(folder).and_then(|folder| folder.sync_all()).map_err(file_error(folder))
}
