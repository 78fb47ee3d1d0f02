//! Lock files on record: what somebody relies on, so that a denial can say whom it reaches.

use std::io::Read as _;
use std::path::Path;

use serde::Serialize;

use airlock_core::id::Id;
use airlock_core::lock::{Contents, Lock, LockForm};
use airlock_core::roles::Action;
use airlock_core::time::Time;
use airlock_formats::{limits, locks};

use crate::error::{Error, Result, file_error};
use crate::files;
use crate::people;
use crate::station::Station;

/// Lock files on record: each is looked through when it is asked whom something reaches.
const LOCKS_MAX: usize = 10_000;

fn ref_name(name: &str) -> String {
    format!("lock/{name}")
}

/// Puts a lock file on record under a name, in the place of what has that name.
///
/// # Errors
///
/// If the name cannot be one, or the file is none that [`locks::read`] reads.
pub async fn add(station: &Station, name: &str, path: &Path) -> Result<Listed> {
    people::allow(station, Action::Request, None).await?;
    let plain = name.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
        && !name.is_empty()
        && name.len() <= 100;
    if !plain {
        return Err(Error::usage(format!("`{name}` cannot name a lock file"))
            .hint("use letters, digits, `.`, `_` and `-`, 100 at most"));
    }
    let contents = read(path)?;
    let held = station.store.db.refs("lock/").await?;
    if held.len() >= LOCKS_MAX && !held.contains_key(&ref_name(name)) {
        return Err(Error::usage(format!("there are {LOCKS_MAX} lock files on record already"))
            .hint("`airlock locks remove` takes one off"));
    }
    let by = station.author();
    let lock = Lock { name: name.to_owned(), since: station.now().await?, by, contents };
    let id = station.store.db.put(&lock).await?;
    let change = station.move_ref(&ref_name(name), Some(id.digest())).await?;
    let detail = serde_json::json!({
        "lock": id, "form": lock.contents.form, "packages": lock.contents.packages.len(), "left_out": lock.contents.left_out,
    });
    station.commit(vec![change], "lock.add", &ref_name(name), &detail).await?;
    Ok(Listed::of(&lock))
}

/// What a lock file says.
///
/// # Errors
///
/// If the file is none that [`locks::read`] reads.
pub fn read(path: &Path) -> Result<Contents> {
    let mut bytes = Vec::new();
    let file = files::open_regular(path).map_err(file_error(path))?;
    file.take(limits::LOCK_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(file_error(path))?;
    locks::read(&bytes).map_err(|e| {
        Error::usage(format!("{}: {e}", path.display()))
            .hint("docs/downloads.md says which lock files are read")
    })
}

/// What a list says of a lock file on record.
#[derive(Clone, Debug, Serialize)]
pub struct Listed {
    /// What people here call it.
    pub name: String,
    /// When it was put on record.
    pub since: Time,
    /// By whom.
    pub by: String,
    /// Its form.
    pub form: LockForm,
    /// How many packages it names.
    pub packages: usize,
    /// Entries that pin nothing.
    pub left_out: u64,
}

impl Listed {
    fn of(lock: &Lock) -> Self {
        Self {
            name: lock.name.clone(),
            since: lock.since,
            by: lock.by.clone(),
            form: lock.contents.form,
            packages: lock.contents.packages.len(),
            left_out: lock.contents.left_out,
        }
    }
}

/// Every lock file on record, by name.
pub async fn list(station: &Station) -> Result<Vec<Listed>> {
    let mut out = Vec::new();
    each(station, |lock| out.push(Listed::of(lock))).await?;
    Ok(out)
}

/// Reads every lock file on record, by name and one after another: together they may be large. Gives how many there are.
pub(crate) async fn each(station: &Station, mut look: impl FnMut(&Lock)) -> Result<usize> {
    let refs = station.store.db.refs("lock/").await?;
    for id in refs.values() {
        look(&station.store.db.get(Id::new(*id)).await?);
    }
    Ok(refs.len())
}

/// Takes a lock file off the record.
pub async fn remove(station: &Station, name: &str) -> Result<()> {
    people::allow(station, Action::Request, None).await?;
    let change = station.move_ref(&ref_name(name), None).await?;
    if change.from.is_none() {
        return Err(Error::usage(format!("no lock file is on record under the name `{name}`"))
            .hint("`airlock locks list` shows them"));
    }
    station.commit(vec![change], "lock.remove", &ref_name(name), &serde_json::json!({})).await
}
